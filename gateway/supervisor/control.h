/*
 * The door for commands such as `holdfast reload`: a SOCK_SEQPACKET Unix socket "control" in the data
 * directory, for root and the account of the supervisor alone, that speaks ipc_packet messages: HELLO and
 * RELOAD in, RELOAD_NOTE and RELOAD_DONE out. And a lock beside it, so that no two gateways use one data
 * directory.
 *
 * Nothing here waits: clients are few, and one that does not read its answer loses it.
 */
#ifndef HOLDFAST_SUPERVISOR_CONTROL_H
#define HOLDFAST_SUPERVISOR_CONTROL_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define CONTROL_CLIENTS 8
#define CONTROL_POLLS   (1 + CONTROL_CLIENTS)

enum control_state {
    CONTROL_FREE,    /* no client here */
    CONTROL_SILENT,  /* connected, has asked nothing */
    CONTROL_ASKED,   /* waits for a reload to begin */
    CONTROL_WAITING, /* waits for the end of the one under way */
};

struct control {
    int dir_fd, lock_fd, listen_fd; /* -1: not open */
    struct control_client {
        int fd;
        enum control_state state;
        bool greeted; /* has said HELLO */
    } client[CONTROL_CLIENTS];
};

/* Before anything else: *c can be closed. */
void control_init(struct control *c);

/*
 * Locks the data directory and opens the socket, over one that a dead gateway has left. 0, or -1 with `error`
 * filled in, for instance because another gateway has the lock; control_close() is due either way.
 */
int control_open(struct control *c, const char *data_dir, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/* Removes the socket and gives the lock back. Clients that wait are told so before, by control_end(). */
void control_close(struct control *c);

/* What to poll for, CONTROL_POLLS of them. */
void control_fill(const struct control *c, struct pollfd *polls);
/* Takes what those polls have found. True: a client has asked for a reload. */
bool control_read(struct control *c, const struct pollfd *polls);

/* Who has asked until now waits for the reload that begins. */
void control_begin(struct control *c);
/* The reload is over: tells those that wait. Text is lines for people. */
void control_end(struct control *c, bool done, const char *text);

/* ---- the other side */

/*
 * Asks the gateway of this data directory to reload, and waits for the outcome, which is printed to `out`.
 * False: it was refused, or there is no gateway, which `err` says.
 */
bool control_ask_reload(const char *data_dir, FILE *out, FILE *err);

#endif
