/*
 * A worker: its share of the connections, with its own event loop, sessions, topic tree and timers.
 */
#ifndef HOLDFAST_WORKER_H
#define HOLDFAST_WORKER_H

#include "gateway/base/process.h"

/* The whole life of a worker process, after privileges are dropped. Returns its exit status. */
int worker_main(const struct process_args *args);

#endif
