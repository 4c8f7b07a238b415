/*
 * The listening sockets: one per worker and listener, joined by SO_REUSEPORT, and one for the HTTP API. The
 * supervisor opens them before it forks and keeps them, so that they outlive the process that accepts on
 * them: connections that arrive meanwhile wait in the backlog.
 */
#ifndef HOLDFAST_SUPERVISOR_LISTEN_SOCKETS_H
#define HOLDFAST_SUPERVISOR_LISTEN_SOCKETS_H

#include <stddef.h>

#include "gateway/base/config.h"

struct listen_sockets {
    unsigned workers, listeners;
    int *fd; /* workers * listeners: those of one worker stand together, in the configuration's order */
    int api_fd;
};

/*
 * Opens all of them, with the options that accepted sockets are to inherit, and logs `listening` with the
 * address of each listener. With port 0 the kernel picks one port for all workers. 0, or -1 with `error`
 * filled in; listen_sockets_close() is due either way.
 */
int listen_sockets_open(struct listen_sockets *s, const struct config *c, unsigned workers, char *error,
                        size_t error_size) __attribute__((warn_unused_result));

/* The s->listeners descriptors of a worker. */
const int *listen_sockets_of(const struct listen_sockets *s, unsigned worker);

/* Closes and frees; harmless when done before. */
void listen_sockets_close(struct listen_sockets *s);

#endif
