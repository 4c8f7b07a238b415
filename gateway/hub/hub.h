/*
 * The hub: sequence numbers, the registry of client ids, the HTTP API, metrics.
 */
#ifndef HOLDFAST_HUB_H
#define HOLDFAST_HUB_H

#include "gateway/base/process.h"

/* The whole life of the hub process, after privileges are dropped. Returns its exit status. */
int hub_main(const struct process_args *args);

#endif
