/*
 * The table of sessions and the composition of the layer: connections below, topic tree beside, the worker's
 * handler above.
 *
 * A session is begun by handle_connect.c and ended here, either because its connection has closed or because
 * another connection took the client id over. Session ids are reused freely: a fan-out names sessions only
 * through subscriptions, the pool and the index, all of which have let go of a session when it ends. Does not
 * parse packets and does not know the hub.
 */
#include "gateway/session/session.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/hash.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"
#include "gateway/net/sockets.h"
#include "gateway/session/session_internal.h"

#define SUBSCRIPTIONS_PER_SESSION 8 /* on average, at the most: sizes the address space of the topic tree */

LOG_EVENT(log_client_closed, "client_closed", LOG_LEVEL_INFO);

static uint32_t *index_link(void *ctx, uint32_t id)
{
    struct sessions *s = ctx;
    return &session_at(s, id)->hash_link;
}

static uint64_t index_hash(void *ctx, uint32_t id)
{
    struct sessions *s = ctx;
    size_t len;
    const char *name = strpool_get(s->client_ids, session_at(s, id)->client_id, &len);
    return hash_bytes(name, len);
}

static bool index_equals(void *ctx, uint32_t id, const void *key, size_t key_len)
{
    struct sessions *s = ctx;
    return strpool_equals(s->client_ids, session_at(s, id)->client_id, key, key_len);
}

static const struct hash_index_ops index_ops = {
    .link = index_link, .hash = index_hash, .equals = index_equals};

static void opened_cb(void *ctx, uint32_t conn)
{
    struct sessions *s = CHECK_CAST(ctx, struct sessions, SESSIONS_MAGIC);
    heartbeat_begin(s, conn);
}

static bool is_full_cb(void *ctx)
{
    struct sessions *s = ctx;
    return s->handler->is_full && s->handler->is_full(s->ctx);
}

static size_t input_cb(void *ctx, uint32_t conn, const unsigned char *data, size_t len, size_t *need)
{
    struct sessions *s = ctx;
    return mqtt_input(s, conn, data, len, need);
}

/* One line per ended connection. */
static void log_closed(struct sessions *s, const struct conn *c, enum close_reason reason)
{
    if (!log_wants(&log_client_closed))
        return;
    char peer[SOCKETS_ADDRESS_TEXT];
    size_t len = 0;
    const char *client_id = c->owner ? sessions_client_id(s, c->owner, &len) : "";
    LOG(log_client_closed, LOG_BYTES("client", client_id, len), LOG_STR("reason", close_reason_label(reason)),
        LOG_U64("seconds", clock_ms() / 1000 - c->since), LOG_STR("address", sockets_peer_text(c->fd, peer)),
        LOG_STR("listener", s->config->listener[c->listener].name));
}

static void closed_cb(void *ctx, uint32_t conn, enum close_reason reason)
{
    struct sessions *s = CHECK_CAST(ctx, struct sessions, SESSIONS_MAGIC);
    struct conn *c = net_conn(s->net, conn);
    if (c->owner || !c->protocol) /* else session_take_over() has logged it */
        log_closed(s, c, reason);
    heartbeat_end(s, conn);
    if (c->owner)
        session_end(s, c->owner, reason != CLOSE_CLIENT_DISCONNECT);
}

static const struct conn_handler conn_handler = {
    .opened = opened_cb, .input = input_cb, .is_full = is_full_cb, .closed = closed_cb};

struct sessions *sessions_new(struct event_base *base, const struct sessions_settings *settings,
                              const struct sessions_handler *h, void *ctx)
{
    const struct config *config = settings->config;
    uint32_t max = settings->max_sessions;
    struct sessions *s = xcalloc(1, sizeof *s);
    s->magic = SESSIONS_MAGIC;
    s->settings = *settings;
    s->config = config;
    s->handler = h;
    s->ctx = ctx;
    struct net_settings ns = {.max_connections = max,
                              .output_limit = config->output_limit,
                              .input_limit = config->input_limit,
                              .drop_oldest = config->output_policy == OUTPUT_DROP_OLDEST};
    s->net = net_new(base, &ns, &conn_handler, s);
    s->tree = topic_tree_new(max < (1u << 20) ? max * SUBSCRIPTIONS_PER_SESSION + 100000 : 1u << 24);
    s->pool = pool_new("sessions", sizeof(struct session), max);
    s->extras = pool_new("session_extras", sizeof(struct session_extra), max);
    s->client_ids = strpool_new("client_ids", max);
    s->by_client_id = hash_index_new(&index_ops, s, max);
    s->wheel = wheel_new(&heartbeat_wheel_ops, s, clock_update());
    return s;
}

void sessions_free(struct sessions *s)
{
    net_free(s->net);
    topic_tree_free(s->tree);
    wheel_free(s->wheel);
    hash_index_free(s->by_client_id);
    strpool_free(s->client_ids);
    pool_free(s->extras);
    pool_free(s->pool);
    s->magic = 0;
    free(s);
}

struct net *sessions_net(const struct sessions *s) { return s->net; }
struct topic_tree *sessions_tree(const struct sessions *s) { return s->tree; }

uint32_t sessions_find(const struct sessions *s, const char *client_id, size_t len)
{
    return hash_index_find(s->by_client_id, hash_bytes(client_id, len), client_id, len);
}

const struct session *sessions_get(const struct sessions *s, uint32_t id) { return session_at(s, id); }

const char *sessions_client_id(const struct sessions *s, uint32_t id, size_t *len)
{
    return strpool_get(s->client_ids, session_at(s, id)->client_id, len);
}

uint32_t sessions_next(const struct sessions *s, uint32_t after) { return pool_next(s->pool, after); }

/*
 * A number for a claim: microseconds of the clock that all workers share, and greater than any this worker
 * has given, so that a kick meant for one session never hits its successor.
 */
static uint64_t next_claim(struct sessions *s)
{
    uint64_t now = clock_us();
    s->last_claim = now > s->last_claim ? now : s->last_claim + 1;
    return s->last_claim;
}

uint32_t session_begin(struct sessions *s, uint32_t conn, const char *client_id, size_t len)
{
    uint32_t id = pool_alloc(s->pool);
    uint32_t name = id ? strpool_put(s->client_ids, client_id, len) : 0;
    if (!name) {
        if (id)
            pool_release(s->pool, id);
        return 0;
    }
    struct session *ses = session_at(s, id);
    ses->claim = next_claim(s);
    ses->client_id = name;
    ses->conn = conn;
    hash_index_insert(s->by_client_id, hash_bytes(client_id, len), id);
    net_conn(s->net, conn)->owner = id;
    counter_add(COUNTER_SESSIONS, 1);
    s->handler->claimed(s->ctx, client_id, len, ses->claim);
    return id;
}

struct session_extra *session_need_extra(struct sessions *s, struct session *ses)
{
    if (!ses->extra)
        ses->extra = pool_alloc(s->extras);
    return session_extra(s, ses);
}

/* Lets go of the extra record; the will is published or not. */
static void end_extra(struct sessions *s, struct session *ses, bool with_will)
{
    struct session_extra *extra = session_extra(s, ses);
    if (!extra)
        return;
    if (extra->will) {
        size_t len;
        const char *client_id = strpool_get(s->client_ids, ses->client_id, &len);
        if (with_will && !s->handler->publish(s->ctx, client_id, len, extra->will))
            counter_add(COUNTER_PUBLISHES_DROPPED, 1);
        message_unref(extra->will);
    }
    pool_release(s->extras, ses->extra);
}

void session_end(struct sessions *s, uint32_t id, bool with_will)
{
    struct session *ses = session_at(s, id);
    size_t len;
    const char *client_id = strpool_get(s->client_ids, ses->client_id, &len);
    net_conn(s->net, ses->conn)->owner = 0;
    end_extra(s, ses, with_will);
    topic_tree_unsubscribe_all(s->tree, &ses->subs);
    s->handler->released(s->ctx, client_id, len, ses->claim);
    hash_index_remove(s->by_client_id, hash_bytes(client_id, len), id);
    strpool_release(s->client_ids, ses->client_id);
    pool_release(s->pool, id);
    counter_sub(COUNTER_SESSIONS, 1);
}

void sessions_close_conn(struct sessions *s, uint32_t conn, enum close_reason reason)
{
    const struct conn *c = net_conn(s->net, conn);
    uint8_t code = close_reason_mqtt5(reason);
    if (c->protocol == MQTT_V5 && c->owner && code) {
        struct mqtt_packet bye = {.type = MQTT_DISCONNECT};
        bye.u.disconnect.code = code;
        mqtt_send(s, conn, MQTT_V5, &bye);
    }
    net_close(s->net, conn, reason);
}

void sessions_close(struct sessions *s, uint32_t id, enum close_reason reason)
{
    sessions_close_conn(s, session_at(s, id)->conn, reason);
}

void session_take_over(struct sessions *s, uint32_t id)
{
    uint32_t conn = session_at(s, id)->conn;
    const struct conn *c = net_conn(s->net, conn);
    if (c->state != CONN_DOOMED) { /* else it has ended already, for a reason of its own */
        counter_add(COUNTER_TAKEOVERS, 1);
        sessions_close_conn(s, conn, CLOSE_TAKEN_OVER);
    }
    log_closed(s, c, c->reason);
    session_end(s, id, c->reason != CLOSE_CLIENT_DISCONNECT);
}

void sessions_tick(struct sessions *s) { wheel_advance(s->wheel, clock_ms()); }

void sessions_second(struct sessions *s)
{
    counter_set(COUNTER_SUBSCRIPTIONS, topic_tree_subscriptions(s->tree));
    counter_set(COUNTER_TOPICS, topic_tree_topics(s->tree));
    if (clock_ms() > s->config->packet_timeout_ms)
        net_sweep(s->net, clock_ms() - s->config->packet_timeout_ms);
    net_second(s->net);
}
