/*
 * Taking a changed configuration and changed TLS files while everything runs. The new ones are read and
 * tried; what is wrong is refused as a whole and the old ones stay in force. What is right is put into the
 * supervisor's own configuration, for processes forked later, and handed to the workers, which answer.
 *
 *      idle ──request──> wanted ──reload_begin──> under way ──all workers have answered, or time is up──>
 * idle └──something is wrong──> idle
 *
 * Options that take effect only at a restart are named and left as they are.
 */
#ifndef HOLDFAST_SUPERVISOR_RELOAD_H
#define HOLDFAST_SUPERVISOR_RELOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/config.h"
#include "gateway/base/options.h"
#include "gateway/supervisor/child.h"
#include "gateway/supervisor/credentials.h"

#define RELOAD_TIMEOUT_MS 5000u /* for the workers' answers */

struct reload {
    struct config *config; /* in force */
    const struct config_source *source;
    struct credentials credentials; /* in force */
    int keylog_fd;                  /* for debug_keylog, or -1 */
    uint32_t number;                /* of what is in force: 1 at the start, one more with each reload */
    bool wanted;                    /* somebody has asked for one that has not begun */
    bool under_way;
    bool failed; /* so far */
    uint64_t began_us, deadline_ms;
    unsigned certificates_told; /* to the hub, of this number */
    char *text;                 /* about the last reload: lines for people */
    size_t text_len;
};

/* The first configuration: reads and tries its TLS files and logs the certificates. 0, or -1 with `error`
 * filled in; reload_free() is due either way. */
int reload_start(struct reload *r, struct config *config, const struct config_source *source, char *error,
                 size_t error_size) __attribute__((warn_unused_result));
void reload_free(struct reload *r);

/* Reads and tries everything anew, and takes it if it is right. Ends at once when it is not. */
void reload_begin(struct reload *r);

/*
 * Hands what is in force to the children that do not have it yet: the bundle to workers, certificates to the
 * hub. True: the reload under way is over, r->failed and r->text say how.
 */
bool reload_advance(struct reload *r, struct child *child, unsigned workers);

/* A worker's answer (IPC_TLS_DONE). */
void reload_answered(struct reload *r, struct child *worker, uint32_t number, const char *why, size_t len);

/* A child has been forked with what is in force. */
void reload_forked(struct reload *r, struct child *ch);

/* When reload_advance() is due although nothing happens; UINT64_MAX: it is not. */
uint64_t reload_due(const struct reload *r, const struct child *child, unsigned workers);

#endif
