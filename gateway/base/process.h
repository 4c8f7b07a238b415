/*
 * What a child process (hub, worker) is given by the supervisor when it is forked. Read only; descriptors
 * belong to the child.
 */
#ifndef HOLDFAST_BASE_PROCESS_H
#define HOLDFAST_BASE_PROCESS_H

#include <stdint.h>

#include "gateway/base/config.h"
#include "gateway/base/counters.h"
#include "gateway/base/ticket_seed.h"

#define PROCESS_HUB 0xFFFFu

struct process_args {
    const struct config *config;
    unsigned workers;    /* how many there are */
    uint16_t number;     /* worker number from 0, or PROCESS_HUB */
    uint32_t generation; /* restarts of this process so far */
    int control_fd; /* ipc_packet channel to the supervisor; its end of file means that the supervisor is gone
                     */
    const int *listen_fd; /* worker: one per config listener, in its order; hub: [0] is the API's, [1] the
                             open token file if there is one */
    unsigned listen_fds;
    struct counters *counters; /* of all processes: workers by number, then the hub, then the supervisor */
    uint32_t max_connections;  /* worker: its share */
    int tls_fd;                /* worker: the tls bundle in force (base/tls_bundle.h), or -1 */
    int keylog_fd;             /* worker: where debug_keylog writes, or -1 */
    struct ticket_seed
        *ticket_seed; /* worker: of the period before the present one; to be copied, and wiped */
};

#endif
