/*
 * A child process as the supervisor sees it: the hub or one worker, over all its lives.
 *
 *      DOWN ──fork──> STARTING ──READY──> UP
 *        ^               │                │
 *        └────died───────┴────────────────┘       when stopping: -> STOPPING ──exited──> GONE
 */
#ifndef HOLDFAST_SUPERVISOR_CHILD_H
#define HOLDFAST_SUPERVISOR_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "gateway/base/process.h"
#include "gateway/supervisor/privileges.h"

enum child_state {
    CHILD_DOWN,     /* no process; one is due at restart_ms */
    CHILD_STARTING, /* forked, has not said READY */
    CHILD_UP,
    CHILD_STOPPING, /* was told to stop, or killed, and is to stay away */
    CHILD_GONE      /* no process, and none will come */
};

struct child {
    enum child_state state;
    pid_t pid;           /* 0: no process */
    int control_fd;      /* our end of the ipc_packet pair; -1: none, or the child closed its end */
    uint16_t number;     /* worker number, or PROCESS_HUB */
    uint32_t generation; /* restarts so far */
    uint32_t backoff_ms; /* see limits_restart_delay() */
    uint64_t started_ms; /* clock_ms() of the last fork */
    uint64_t restart_ms; /* DOWN: when to fork */
    bool late;           /* STARTING for too long, and that has been logged */
    bool unconnected;    /* worker: its channel to the hub could not be handed over yet */
    uint32_t reload_told,
        reload_done; /* worker: numbers of the TLS settings it was given last, and answered */
};

/* What all children are given alike. */
struct child_setup {
    const struct config *config;
    struct counters *counters;
    const struct account *account;
    bool log_json;
    int log_level; /* enum log_level */
    unsigned workers;
    uint32_t max_connections; /* a worker's share */
    int tls_fd;               /* the tls bundle in force */
    int keylog_fd;            /* for debug_keylog, or -1 */
    struct ticket_seed *ticket_seed;
};

/* A child that is due at once. */
void child_init(struct child *ch, uint16_t number);

/* The only place that changes the state. */
void child_set_state(struct child *ch, enum child_state state);

/*
 * Forks and, in the child, never returns. The child closes every descriptor but its own, resets signals,
 * drops privileges and runs hub_main() or worker_main(). 0, or -1 with errno, then it is DOWN with a later
 * restart_ms.
 */
int child_fork(struct child *ch, const struct child_setup *setup, const int *listen_fd, unsigned listen_fds);

/* The process is gone, with this wait status: logs it and sets DOWN with restart_ms, or GONE. */
void child_exited(struct child *ch, int status);

/* Tells it to stop; a child that cannot be told is killed. */
void child_stop(struct child *ch);

/* SIGKILL; nothing when there is no process. */
void child_kill(struct child *ch);

/* "hub" or "worker/3"; valid until the next call. */
const char *child_name(const struct child *ch);

/* Whether there is a process. */
static inline bool child_alive(const struct child *ch) { return ch->pid > 0; }

#endif
