/*
 * A channel of typed messages over a stream socket pair inside a libevent loop: hub <-> worker.
 *
 * Output is gathered and written once per turn of the loop, so a burst of small messages is one system call.
 * What waits is bounded by a limit the owner sets: above it, sending is refused and the caller decides (drop
 * and count, or 503).
 */
#ifndef HOLDFAST_IPC_CHANNEL_H
#define HOLDFAST_IPC_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/ipc/ipc_message.h"

struct event_base;
struct ipc_channel;

struct ipc_channel_handler {
    /* A message has come; its bytes are valid during the call only (unaligned, not NUL-terminated). */
    void (*message)(void *ctx, struct ipc_channel *ch, const struct ipc_message *m);
    /* The peer is gone or talked nonsense (`why`). The channel is still valid; the owner frees it, now or
     * later. Called once. */
    void (*closed)(void *ctx, struct ipc_channel *ch, const char *why);
    /* Output fell below half of the limit after ipc_channel_send() had refused. May be NULL. */
    void (*drained)(void *ctx, struct ipc_channel *ch);
};

/* Takes over fd (made non-blocking). limit: bytes that may wait in user space; a single message may exceed it
 * when nothing else waits. Reading is fair: a bounded number of bytes per turn. The process must ignore
 * SIGPIPE. */
struct ipc_channel *ipc_channel_new(struct event_base *base, int fd, size_t limit,
                                    const struct ipc_channel_handler *h, void *ctx);
/* Closes fd; what waits is lost. Safe inside the callbacks. NULL is ignored. */
void ipc_channel_free(struct ipc_channel *ch);

/* Queues the message. False: over the limit (twice the limit for messages other than PUBLISH and DELIVER),
 * closed, or a field too large; nothing was queued. */
bool ipc_channel_send(struct ipc_channel *ch, const struct ipc_message *m)
    __attribute__((warn_unused_result));

/* Stops or resumes reading (back-pressure towards the peer). */
void ipc_channel_pause(struct ipc_channel *ch, bool paused);

/* Tries to write what waits now, as far as the socket takes it. True when nothing waits any more. */
bool ipc_channel_flush(struct ipc_channel *ch);

size_t ipc_channel_pending(const struct ipc_channel *ch);

#endif
