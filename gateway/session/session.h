/*
 * Sessions of a worker: who is connected under which client id, with which subscriptions, and what is in
 * flight to and from them.
 *
 * A session is made by a CONNECT and leaves the worker with its connection. One that outlives its connection
 * is stored by the engine: the hub is asked for it (OPEN), writes what changes (requests), and is told at the
 * end how far it has come (CLOSE); what is stored the worker reads itself. A session owns its client id (a
 * string pool), its subscriptions (the topic tree), a window while something is in flight, and, rarely, an
 * extra record for what few clients ask for.
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
    uint32_t extra;  /* id of its struct session_extra, or 0: nearly always 0 */
    uint32_t window; /* id of its struct window (window.h), or 0: nothing is in flight */
};
_Static_assert(sizeof(struct session) == 32, "what every idle client pays");

/* What a client with a stored session pays beyond others: 12 bytes. */
struct session_extra {
    uint32_t rare;            /* id of its struct session_rare, or 0 */
    uint32_t expiry_s;        /* how long it outlives its connection; 0: it is not stored */
    uint16_t receive_maximum; /* the client's, 0: 65,535 (MQTT 5.0 section 3.1.2.11.3) */
    uint8_t flags;            /* EXTRA_ */
};
_Static_assert(sizeof(struct session_extra) == 12, "what a client with a stored session pays");

/* What few clients ask for in CONNECT. */
struct session_rare {
    struct message *will;         /* published when the connection ends without DISCONNECT; NULL: none */
    struct alias_tables *aliases; /* topic aliases, both ways (section 3.3.2.3.4); NULL: none in use */
    uint32_t max_packet; /* the client's Maximum Packet Size in bytes, 0: none (section 3.1.2.11.4) */
    uint32_t will_delay_s;
};

/* Names a request to the hub until it is answered with sessions_done(). */
struct session_cookie {
    uint64_t claim; /* of the session that made it, which may be gone by then */
    uint32_t session;
    uint16_t packet_id;
    uint8_t kind; /* the sessions' own */
    uint8_t code;
};

struct engine_ops;
struct engine_reader;
struct ipc_message;

/* What the sessions tell the worker. */
struct sessions_handler {
    /* A client published (also: a will), with QoS 0. False: it could not be taken and is lost. */
    bool (*publish)(void *ctx, const char *client_id, size_t len, struct message *m);
    /*
     * A request to the hub (ipc.def), whose number is filled in here. It is sent again until it has been
     * answered, through sessions_done() with this cookie, in order. False: too many wait; it was not taken.
     */
    bool (*request)(void *ctx, struct ipc_message *m, const struct session_cookie *cookie);
    /* OPEN: the hub is asked for the session; also by replay, until it has answered through
     * sessions_opened(). */
    void (*open)(void *ctx, uint32_t session);
    /* Asked before each accept: whether all workers together hold max_connections. NULL: never. */
    bool (*is_full)(void *ctx);
    /* What the hub has to know for now (SHARE_JOIN, SHARE_LEAVE, SHARE_DONE, WILL); it may get lost with the
     * hub: what still holds is then told again (sessions_replay()). */
    void (*tell)(void *ctx, const struct ipc_message *m);
    /* A session that is not stored began / ended under this client id. */
    void (*claimed)(void *ctx, const char *client_id, size_t len, uint64_t claim);
    void (*released)(void *ctx, const char *client_id, size_t len, uint64_t claim);
};

struct sessions_settings {
    const struct config *config; /* outlives the sessions */
    uint32_t max_sessions;
    const struct engine_ops *engine; /* what the log and stored sessions are read with */
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

/* The fan-out that delivers to these sessions; to be set once, before anything is delivered. */
void sessions_set_fanout(struct sessions *s, struct fanout *f);
/* The reader of the log, given back with NULL; before there is one nothing can be resumed. */
void sessions_set_reader(struct sessions *s, struct engine_reader *r);

/* A request was answered: `result` says whether what was published is kept (enum engine_result). */
void sessions_done(struct sessions *s, const struct session_cookie *cookie, int result);
/* What the hub says of a stored session that was asked for (OPENED). */
struct session_opening {
    uint64_t claim;
    uint8_t code; /* MQTT 5 reason code; 0: it is this worker's now */
    bool present; /* it is not new */
    uint64_t
        unsure_to; /* which of the messages up to this number it was sent on its last connection nobody knows;
                      what it reads of them from the log has DUP ([MQTT-3.3.1-1]). 0: that is known */
};
void sessions_opened(struct sessions *s, const char *client_id, size_t len, const struct session_opening *o);
/* The fields of OPEN for a session that waits for OPENED; false: it does not. */
bool sessions_is_opening(const struct sessions *s, uint32_t id, bool *clean_start, uint32_t *expiry_s);
/* Whether the session is stored: it is claimed by OPEN, and not by CLAIM (a replay says CLAIM for both). */
bool sessions_is_stored(const struct sessions *s, uint32_t id);
/* SHARE_DELIVER from the hub, and all that a new one has to be told of a session besides its claim. */
void sessions_share_deliver(struct sessions *s, const struct ipc_message *m);
void sessions_replay(struct sessions *s, uint32_t id);
/* How long the session outlives its connection, in seconds; 0: it does not. */
uint32_t sessions_expiry(const struct sessions *s, uint32_t id);
/* Of each message from the hub before it is fanned out: one of the gateway's own topics ("$SYS/...") is held
 * for clients that subscribe later; of others that the store has, or will have soon, the number is noted. */
void sessions_told(struct sessions *s, struct message *m);
/* What is in flight: messages sent and not acknowledged, the cursor, whether it reads from the log. */
void sessions_progress(const struct sessions *s, uint32_t id, uint32_t *inflight, uint64_t *cursor,
                       bool *is_behind);

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
/* Why clients that connect, or those that are connected at shutdown, are sent to another server; CLOSE_NONE:
 * they are not. */
enum close_reason sessions_redirect(const struct sessions *s, bool at_shutdown);

/* To be called every WHEEL_TICK_MS or so, after clock_update(): deadlines. And about once a second: gauges,
 * incomplete packets. */
void sessions_tick(struct sessions *s);
void sessions_second(struct sessions *s);

#endif
