/*
 * Sessions of a worker: who is connected under which client id, with which subscriptions.
 *
 * A session is made by a CONNECT and ends with its connection. It owns its client id (a string pool), its
 * subscriptions (the topic tree) and, rarely, an extra record for what few clients ask for.
 */
#ifndef HOLDFAST_SESSION_H
#define HOLDFAST_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/config.h"
#include "gateway/base/message.h"
#include "gateway/net/conn.h"
#include "gateway/topic/fanout.h"
#include "gateway/topic/topic_tree.h"

struct sessions;

/*
 * 32 bytes per session.
 */
struct session {
    uint64_t claim; /* number of its claim to the client id: clock_ms() when it was made, the same clock in
                       all workers */
    uint32_t client_id; /* handle in the string pool */
    uint32_t hash_link; /* next session in the bucket of the client id index */
    uint32_t conn;
    sub_list subs;
    uint32_t extra; /* id of its struct session_extra, or 0: nearly always 0 */
    uint32_t unused;
};
_Static_assert(sizeof(struct session) == 32, "what every idle client pays");

/* What few clients ask for in CONNECT. */
struct session_extra {
    uint32_t
        max_packet; /* the client's Maximum Packet Size in bytes, 0: none (MQTT 5.0 section 3.1.2.11.4) */
    struct message *will; /* published when the connection ends without DISCONNECT; NULL: none */
};

/* What the sessions tell the worker. */
struct sessions_handler {
    /* A client published (also: a will). False: it could not be taken and is lost (QoS 0). */
    bool (*publish)(void *ctx, const char *client_id, size_t len, struct message *m);
    /* Asked before each accept: whether all workers together hold max_connections. NULL: never. */
    bool (*is_full)(void *ctx);
    /* A session began / ended under this client id. */
    void (*claimed)(void *ctx, const char *client_id, size_t len, uint64_t claim);
    void (*released)(void *ctx, const char *client_id, size_t len, uint64_t claim);
};

struct sessions_settings {
    const struct config *config; /* outlives the sessions */
    uint32_t max_sessions;
};

/* Makes the sessions, and the connections (net) under them, whose handler they are. */
struct sessions *sessions_new(struct event_base *base, const struct sessions_settings *s,
                              const struct sessions_handler *h, void *ctx);
/* All connections must be gone. */
void sessions_free(struct sessions *s);

struct net *sessions_net(const struct sessions *s);
struct topic_tree *sessions_tree(const struct sessions *s);

/* What the fan-out calls, with the sessions as its context. */
extern const struct fanout_ops sessions_fanout_ops;

/* The session with this client id, or 0. */
uint32_t sessions_find(const struct sessions *s, const char *client_id, size_t len);
const struct session *sessions_get(const struct sessions *s, uint32_t id);
const char *sessions_client_id(const struct sessions *s, uint32_t id, size_t *len);
/* The lowest session above `after` (0 starts), or 0. */
uint32_t sessions_next(const struct sessions *s, uint32_t after);

/*
 * Closes a session's connection: with the reason's DISCONNECT for a client that can be told (MQTT 5.0
 * section 3.14), then as net_close().
 */
void sessions_close(struct sessions *s, uint32_t id, enum close_reason reason);
/* The same for a connection, with or without a session. */
void sessions_close_conn(struct sessions *s, uint32_t conn, enum close_reason reason);

/* To be called every WHEEL_TICK_MS or so, after clock_update(): deadlines. And about once a second: gauges,
 * incomplete packets. */
void sessions_tick(struct sessions *s);
void sessions_second(struct sessions *s);

#endif
