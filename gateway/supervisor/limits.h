/*
 * How many workers, how many connections for each, and how long a process that keeps dying waits: arithmetic
 * only, so that the doctor and the tests can ask the same questions.
 */
#ifndef HOLDFAST_SUPERVISOR_LIMITS_H
#define HOLDFAST_SUPERVISOR_LIMITS_H

#include <stdint.h>

#include "gateway/base/config.h"

/* Descriptors of a worker that are not client connections: listeners, channels, epoll, log, and room for
 * accepts in flight. */
#define LIMITS_RESERVE     512u
#define LIMITS_MAX_WORKERS 1024u

/* A process that dies sooner than this after its start is held back before it is started again. */
#define LIMITS_STEADY_MS      10000u
#define LIMITS_BACKOFF_MIN_MS 100u
#define LIMITS_BACKOFF_MAX_MS 10000u

/* Client connections that a process with this RLIMIT_NOFILE can hold; at least 1. */
uint32_t limits_usable(uint64_t nofile);

/*
 * The number of workers: what the configuration says, or one per core of this process's CPU set, or as many
 * as it takes for max_connections and 5 % of uneven spread to fit in the descriptor limit, whichever is more.
 */
unsigned limits_workers(const struct config *c, uint64_t nofile);
/* The same on a machine with `cores` cores. */
unsigned limits_workers_on(const struct config *c, uint64_t nofile, unsigned cores);

/*
 * Connections that one worker must have room for: all of max_connections, because the kernel spreads
 * connections by hash and evenness is no promise, but never more than the descriptor limit allows.
 * max_connections 0: what the limit allows.
 */
uint32_t limits_connections_per_worker(const struct config *c, uint64_t nofile);

/*
 * How long to wait in ms before a process that lived lived_ms is started again. *backoff_ms is the process's
 * own, 0 at first: the first restart is immediate, those after a short life wait 100 ms, 200 ms, ... 10 s.
 */
uint32_t limits_restart_delay(uint32_t *backoff_ms, uint64_t lived_ms);

#endif
