/*
 * TLS of a worker: the contexts of all tls sections, made from the bundle that the supervisor hands over at
 * the start and at each reload, and which listener speaks which.
 */
#ifndef HOLDFAST_WORKER_TLS_H
#define HOLDFAST_WORKER_TLS_H

#include <stdint.h>

#include "gateway/base/process.h"
#include "gateway/net/conn.h"

struct worker_tls;

/* Loads args->tls_fd, closes it, and tells the net what each listener speaks. NULL: something in it is wrong,
 * and has been logged. `args` and `n` must stay. */
struct worker_tls *worker_tls_new(const struct process_args *args, struct net *n);
/* All connections must be gone. */
void worker_tls_free(struct worker_tls *t);

/* Takes the bundle behind fd, which stays the caller's, for the handshakes from here on, and tells the
 * supervisor; if something is wrong nothing has changed. `number` is the reload's. */
void worker_tls_reload(struct worker_tls *t, uint32_t number, int fd);

#endif
