/*
 * A worker's link to the hub: attaches, replays what the hub must know, and bridges the time when the hub is
 * away.
 */
#ifndef HOLDFAST_WORKER_HUB_LINK_H
#define HOLDFAST_WORKER_HUB_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/message.h"
#include "gateway/base/process.h"

struct event_base;
struct hub_link;

struct hub_link_handler {
    /* A message to be fanned out; the callee takes its own reference. False: its queue is full and the
     * message is lost. */
    bool (*deliver)(void *ctx, struct message *m);
    /* Replays every claim with hub_link_claim(). */
    void (*replay)(void *ctx);
    /* Ends the session with this client id if its claim is not newer than this one. */
    void (*kick)(void *ctx, const char *client_id, size_t len, uint64_t claim, enum close_reason reason);
    /* Somebody asks about a client: answer with hub_link_send(). */
    void (*client_get)(void *ctx, uint32_t query, const char *client_id, size_t len);
};

struct hub_link *hub_link_new(struct event_base *base, const struct process_args *args,
                              const struct hub_link_handler *h, void *ctx);
void hub_link_free(struct hub_link *l);

/* A new channel to the hub; takes over fd, drops the former one. */
void hub_link_attach(struct hub_link *l, int fd);

/* Passes a client's message on; while the hub is away it waits, within ipc { queue_limit }. False: it is
 * lost. */
bool hub_link_publish(struct hub_link *l, struct message *m);

/* Registry messages. While the hub is away they are not kept: all claims are replayed when it is back. */
void hub_link_claim(struct hub_link *l, const char *client_id, size_t len, uint64_t claim, bool replayed);
void hub_link_release(struct hub_link *l, const char *client_id, size_t len, uint64_t claim);

struct ipc_message;
/* An answer; lost when the hub is away. */
void hub_link_send(struct hub_link *l, const struct ipc_message *m);

/* Stops reading from the hub while the fan-out has enough to do, so that what comes waits in the hub, bounded
 * there. */
void hub_link_pause(struct hub_link *l, bool paused);
bool hub_link_is_paused(const struct hub_link *l);

#endif
