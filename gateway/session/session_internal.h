/*
 * What the files of the session layer share. Nobody else includes this.
 */
#ifndef HOLDFAST_SESSION_INTERNAL_H
#define HOLDFAST_SESSION_INTERNAL_H

#include <event2/event.h>

#include "gateway/base/hash_index.h"
#include "gateway/base/pool.h"
#include "gateway/base/strpool.h"
#include "gateway/base/wheel.h"
#include "gateway/session/session.h"
#include "proto/mqtt.h"

#define SESSIONS_MAGIC 0x53455331u

/* Session ids, first in, first out. */
struct id_ring {
    uint32_t *ids, head, count, size;
};

struct sessions {
    uint32_t magic;
    struct sessions_settings settings;
    const struct config *config;
    const struct sessions_handler *handler;
    void *ctx;
    struct net *net;
    struct topic_tree *tree;
    struct pool *pool;   /* struct session */
    struct pool *extras; /* struct session_extra */
    struct pool *rares;  /* struct session_rare */
    struct strpool *client_ids;
    struct hash_index *by_client_id;
    struct wheel *wheel;
    struct pool *windows;   /* struct window */
    struct pool *inflights; /* struct inflight */
    struct fanout *fanout;
    struct engine_reader *reader; /* NULL: not open yet */
    uint64_t told;                /* newest number of a kept or retained message that the hub has told */
    struct owed_codes *owed, **last_owed;
    struct leaving *leaving;       /* leaving.c's own */
    struct sys_topics *sys_topics; /* sys_topics.c's own */
    /* catch_up.c: sessions that read for themselves; those of them that have to wait a moment first. */
    struct id_ring queue, stalled;
    struct event *queue_event, *stalled_event;
    char *last_topic;
    uint64_t last_claim;
    /* write_cursors(): its last tick, what is due (windows times milliseconds), the window it stands at, and
     * how many there were about in this round */
    uint64_t cursor_ms, cursor_owed;
    uint32_t cursor_at, cursor_bound;
    uint32_t pings;            /* PINGREQs of the input being handled that are not answered yet */
    bool put_off;              /* the packet being handled is to be handled again when the input goes on */
    struct mqtt_packet packet; /* the one being handled: too large for the stack of every handler */
};

static inline struct session *session_at(const struct sessions *s, uint32_t id)
{
    return pool_at(s->pool, id);
}
static inline struct session_extra *session_extra(const struct sessions *s, const struct session *ses)
{
    return ses->extra ? pool_at(s->extras, ses->extra) : NULL;
}

static inline struct session_rare *session_rare(const struct sessions *s, const struct session *ses)
{
    const struct session_extra *extra = session_extra(s, ses);
    return extra && extra->rare ? pool_at(s->rares, extra->rare) : NULL;
}
/* Whether the client takes packets of this length ([MQTT-3.1.2-24]). */
static inline bool session_takes(const struct sessions *s, const struct session *ses, size_t len)
{
    const struct session_rare *rare = session_rare(s, ses);
    return !rare || !rare->max_packet || len <= rare->max_packet;
}

/* session_extra.flags */
enum {
    EXTRA_STORED = 1,      /* the hub was asked for it: it may outlive the connection */
    EXTRA_OPENING = 2,     /* and has not answered yet */
    EXTRA_CLEAN = 4,       /* what was stored before is to be forgotten */
    EXTRA_V5 = 8,          /* what CONNECT said, until it is answered: */
    EXTRA_ASSIGNED = 16,   /* the client id was made here */
    EXTRA_KEEPALIVE = 32,  /* another keepalive than the client's holds */
    EXTRA_EXPIRY = 64,     /* another session expiry than the client's holds */
    EXTRA_NO_REASONS = 128 /* Request Problem Information is 0 ([MQTT-3.1.2-29]) */
};

/* The id of a session's record. */
static inline uint32_t session_of(const struct sessions *s, const struct session *ses)
{
    return (uint32_t)(ses - (const struct session *)pool_at(s->pool, 0));
}
static inline bool session_is_stored(const struct sessions *s, const struct session *ses)
{
    const struct session_extra *extra = session_extra(s, ses);
    return extra && extra->flags & EXTRA_STORED;
}

/*
 * session.c: a new session for this connection, already in the index; 0: no room. An older session with the
 * same client id must have been ended before.
 */
uint32_t session_begin(struct sessions *s, uint32_t conn, const char *client_id, size_t len);
/* The extra record, made if there is none yet; NULL: no room. */
struct session_extra *session_need_extra(struct sessions *s, struct session *ses);
struct session_rare *session_need_rare(struct sessions *s, struct session *ses);
/* Takes the session from its connection and ends it; its will goes out unless the client took it back. */
void session_end(struct sessions *s, uint32_t id, bool with_will);
/* Ends the session at once, because its client id is wanted by a new connection; its own connection follows
 * at the end of the turn. */
void session_take_over(struct sessions *s, uint32_t id);

/* heartbeat.c: deadlines of connections on the wheel. */
extern const struct wheel_ops heartbeat_wheel_ops;
void heartbeat_begin(struct sessions *s, uint32_t conn);   /* accepted: the connect timeout runs */
void heartbeat_connect(struct sessions *s, uint32_t conn); /* CONNECT has agreed on conn->keepalive */
void heartbeat_end(struct sessions *s, uint32_t conn);

/* mqtt_driver.c: the conn_handler's input. */
size_t mqtt_input(struct sessions *s, uint32_t conn, const unsigned char *data, size_t len, size_t *need);
/* Encodes and sends a packet to a client that speaks conn->protocol (or version, before CONNECT is accepted).
 */
void mqtt_send(struct sessions *s, uint32_t conn, uint8_t version, const struct mqtt_packet *p);

/* reason.c: sets a Reason String in props, which are the packet's, if it is not above max_packet (0: no
 * limit) with it then. The text must live until the packet is sent. */
void reason_add(struct mqtt_packet *p, struct mqtt_props *props, const char *text, uint32_t max_packet);
/* The same for the client of a session, unless it has declined reasons ([MQTT-3.1.2-29]). */
void reason_tell(const struct sessions *s, uint32_t id, struct mqtt_packet *p, struct mqtt_props *props,
                 const char *text);

/* The handlers, one per client packet, called with s->packet decoded. */
typedef void (*mqtt_handler_fn)(struct sessions *s, uint32_t conn);
void handle_connect(struct sessions *s, uint32_t conn);
void handle_publish(struct sessions *s, uint32_t conn);
void handle_subscribe(struct sessions *s, uint32_t conn);
void handle_unsubscribe(struct sessions *s, uint32_t conn);
void handle_pingreq(struct sessions *s, uint32_t conn);
/* handle_ping.c: sends the answers to the PINGREQs that were handled since the last call. */
void answer_pings(struct sessions *s, uint32_t conn);
void handle_disconnect(struct sessions *s, uint32_t conn);
/* handle_connect.c: the answer to a CONNECT that was refused in or before it could be handled, if it is not
 * above max_packet (0: no limit, or the session's). why: in words, for clients of 5.0; NULL: what the code is
 * called. */
void connect_refuse(struct sessions *s, uint32_t conn, uint8_t level, uint32_t max_packet, uint8_t code,
                    const char *why, enum close_reason reason);
/* The Maximum Packet Size that a CONNECT announces, 0: none; of one that cannot be decoded, as far as it was.
 */
uint32_t connect_max_packet(const struct mqtt_connect *p);

/* handle_publish.c: a message from the parts of a PUBLISH or a will; the expiry interval counts from now.
 * With one reference. */
struct publish_source {
    struct mqtt_bytes topic, payload;
    const struct mqtt_props *props; /* NULL: 3.1.1 */
    uint8_t qos;
    bool retain;
    uint64_t origin;
};
struct message *publish_message(const struct publish_source *from);

/* sniff.c: the first bytes were not MQTT; answers people who speak HTTP to the port, and closes. *need as in
 * conn_handler. */
size_t sniff_input(struct sessions *s, uint32_t conn, const unsigned char *data, size_t len, size_t *need);

#endif
