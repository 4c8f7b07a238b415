/*
 * The supervisor: opens the listening sockets, forks the hub and the workers, restarts what dies with
 * back-off, passes signals on as messages, and stays tiny: it reads nothing from the network and has no event
 * loop.
 */
#ifndef HOLDFAST_SUPERVISOR_H
#define HOLDFAST_SUPERVISOR_H

#include "gateway/base/config.h"

/* Runs in the foreground until SIGTERM or SIGINT. Returns the exit status of the program: 0 after a clean
 * stop. */
int supervisor_run(const struct config *config);

#endif
