/*
 * A worker's link to the hub: attaches, replays what the hub must know, sends requests until they are
 * answered, and bridges the time when the hub is away.
 */
#ifndef HOLDFAST_WORKER_HUB_LINK_H
#define HOLDFAST_WORKER_HUB_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/message.h"
#include "gateway/base/process.h"
#include "gateway/session/session.h"

struct event_base;
struct hub_link;
struct ipc_message;

struct hub_link_handler {
    /* A message to be fanned out; the callee takes its own reference. False: its queue is full and the
     * message is lost; never for a kept one. */
    bool (*deliver)(void *ctx, struct message *m);
    /* The hub has answered HELLO and has its store open. At the first one of this process kept messages begin
     * after `head`, which is not 0; no kept one came before. */
    void (*welcome)(void *ctx, uint64_t head);
    /* A request was answered, in the order they were made. result: enum engine_result, of publishes. */
    void (*done)(void *ctx, const struct session_cookie *cookie, int result);
    /* A session was given to this worker, or not. */
    void (*opened)(void *ctx, const char *client_id, size_t len, const struct session_opening *o);
    /* Tells the claim of the first session above `after` with hub_link_claim(), or with hub_link_open() if it
     * waits for that, and returns the session; 0: there is none. */
    uint32_t (*replay)(void *ctx, uint32_t after);
    /* Ends the session with this client id if its claim is not newer than this one. */
    void (*kick)(void *ctx, const char *client_id, size_t len, uint64_t claim, enum close_reason reason);
    /* SHARE_DELIVER: a message for one member of a shared subscription. */
    void (*share)(void *ctx, const struct ipc_message *m);
    /* Somebody asks about a client: answer with hub_link_send(). */
    void (*client_get)(void *ctx, uint32_t query, const char *client_id, size_t len);
};

struct hub_link *hub_link_new(struct event_base *base, const struct process_args *args,
                              const struct hub_link_handler *h, void *ctx);
void hub_link_free(struct hub_link *l);

/* A new channel to the hub; takes over fd, drops the former one. */
void hub_link_attach(struct hub_link *l, int fd);

/* Passes a client's message of QoS 0 on; while the hub is away it waits, within ipc { queue_limit }. False:
 * it is lost. */
bool hub_link_publish(struct hub_link *l, struct message *m);

/*
 * A request (ipc.def): m->field[0] is filled in here. It is kept, encoded, and sent to each new hub until it
 * is answered. False: more than ipc { queue_limit } waits for answers; CLOSE has as much room again.
 */
bool hub_link_request(struct hub_link *l, struct ipc_message *m, const struct session_cookie *cookie);

/*
 * Registry messages, in order with the requests. While the hub is away they are not kept: all claims are
 * replayed when it is back. Numbers of claims grow.
 */
void hub_link_claim(struct hub_link *l, const char *client_id, size_t len, uint64_t claim, bool replayed);
void hub_link_release(struct hub_link *l, const char *client_id, size_t len, uint64_t claim);
void hub_link_open(struct hub_link *l, const char *client_id, size_t len, uint64_t claim, bool clean_start,
                   uint32_t expiry_s);

/* SHARE_JOIN, SHARE_LEAVE, SHARE_DONE: in order with the claims, like them not kept while the hub is away.
 * The replay tells members together with their sessions' claims. */
void hub_link_tell(struct hub_link *l, const struct ipc_message *m);

/* An answer; lost when the hub is away. */
void hub_link_send(struct hub_link *l, const struct ipc_message *m);

/* Stops reading from the hub while the fan-out has enough to do, so that what comes waits in the hub, bounded
 * there. */
void hub_link_pause(struct hub_link *l, bool paused);
bool hub_link_is_paused(const struct hub_link *l);

/* Whether there is a hub, and something it has not been told or has not answered. */
bool hub_link_is_busy(const struct hub_link *l);

#endif
