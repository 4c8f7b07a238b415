/*
 * The supervisor: opens the listening sockets, reads the TLS files, forks the hub and the workers, restarts
 * what dies with back-off, reloads, passes signals on as messages, and stays tiny: it reads nothing from the
 * network and has no event loop.
 */
#ifndef HOLDFAST_SUPERVISOR_H
#define HOLDFAST_SUPERVISOR_H

#include "gateway/base/options.h"

/* Runs in the foreground until SIGTERM or SIGINT. A reload reads `source` again and changes *config. Returns
 * the exit status of the program: 0 after a clean stop. */
int supervisor_run(struct config *config, const struct config_source *source);

#endif
