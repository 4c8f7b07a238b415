/*
 * What the files of the session layer share. Nobody else includes this.
 */
#ifndef HOLDFAST_SESSION_INTERNAL_H
#define HOLDFAST_SESSION_INTERNAL_H

#include "gateway/base/hash_index.h"
#include "gateway/base/pool.h"
#include "gateway/base/strpool.h"
#include "gateway/base/wheel.h"
#include "gateway/session/session.h"
#include "proto/mqtt.h"

#define SESSIONS_MAGIC 0x53455331u

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
    struct strpool *client_ids;
    struct hash_index *by_client_id;
    struct wheel *wheel;
    uint64_t last_claim;
    uint32_t pings;            /* PINGREQs of the input being handled that are not answered yet */
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

/*
 * session.c: a new session for this connection, already in the index and claimed; 0: no room. An older
 * session with the same client id must have been ended before.
 */
uint32_t session_begin(struct sessions *s, uint32_t conn, const char *client_id, size_t len);
/* The extra record, made if there is none yet; NULL: no room. */
struct session_extra *session_need_extra(struct sessions *s, struct session *ses);
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
/* handle_connect.c: the answer to a CONNECT that was refused in or before it could be handled. */
void connect_refuse(struct sessions *s, uint32_t conn, uint8_t level, uint8_t code, enum close_reason reason);

/* handle_publish.c: a message from the parts of a PUBLISH or a will; the expiry interval counts from now.
 * With one reference. */
struct message *publish_message(struct mqtt_bytes topic, const struct mqtt_props *props,
                                struct mqtt_bytes payload, uint64_t origin);

/* sniff.c: the first bytes were not MQTT; answers people who speak HTTP to the port, and closes. *need as in
 * conn_handler. */
size_t sniff_input(struct sessions *s, uint32_t conn, const unsigned char *data, size_t len, size_t *need);

#endif
