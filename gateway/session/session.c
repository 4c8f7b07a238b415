/*
 * The table of sessions and the composition of the layer: connections below, topic tree beside, the worker's
 * handler above.
 *
 * A session is begun by handle_connect.c and ended here, either because its connection has closed or because
 * another connection took the client id over. Session ids are reused freely: a fan-out names sessions only
 * through subscriptions, the pool and the index, all of which have let go of a session when it ends. Does not
 * parse packets. A session that is stored is asked for and given back; see requests.c.
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
#include "gateway/session/catch_up.h"
#include "gateway/session/publish.h"
#include "gateway/session/requests.h"
#include "gateway/session/session_internal.h"
#include "gateway/session/shares.h"
#include "gateway/session/sys_topics.h"
#include "gateway/session/will.h"
#include "gateway/session/window.h"

#define MAX_RECORDS               (UINT32_C(1) << 28) /* of one pool */
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

/* Room for so many records per session, as far as ids reach. */
static uint32_t pool_room(uint32_t sessions, uint32_t each)
{
    uint64_t room = (uint64_t)sessions * each;
    return room < MAX_RECORDS ? (uint32_t)room : MAX_RECORDS;
}

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
    s->rares = pool_new("session_rares", sizeof(struct session_rare), max);
    s->client_ids = strpool_new("client_ids", max);
    s->by_client_id = hash_index_new(&index_ops, s, max);
    s->wheel = wheel_new(&heartbeat_wheel_ops, s, clock_update());
    s->windows = pool_new("windows", sizeof(struct window), max);
    s->inflights = pool_new("inflight", sizeof(struct inflight), pool_room(max, config->max_inflight));
    s->last_owed = &s->owed;
    catch_up_setup(s, base);
    return s;
}

void sessions_free(struct sessions *s)
{
    net_free(s->net);
    catch_up_end(s);
    requests_free(s);
    sys_topics_free(s);
    pool_free(s->windows);
    pool_free(s->inflights);
    topic_tree_free(s->tree);
    wheel_free(s->wheel);
    hash_index_free(s->by_client_id);
    strpool_free(s->client_ids);
    pool_free(s->extras);
    pool_free(s->rares);
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
    return id;
}

struct session_extra *session_need_extra(struct sessions *s, struct session *ses)
{
    if (!ses->extra)
        ses->extra = pool_alloc(s->extras);
    return session_extra(s, ses);
}

struct session_rare *session_need_rare(struct sessions *s, struct session *ses)
{
    struct session_extra *extra = session_need_extra(s, ses);
    if (extra && !extra->rare)
        extra->rare = pool_alloc(s->rares);
    return session_rare(s, ses);
}

static void free_rare(struct sessions *s, uint32_t id)
{
    struct session_rare *rare = pool_at(s->rares, id);
    if (rare->will)
        message_unref(rare->will);
    alias_free(rare->aliases);
    pool_release(s->rares, id);
}

/* Lets go of the extra record; a will is published now, or left to the hub until its delay is over. */
static void end_extra(struct sessions *s, uint32_t id, bool with_will)
{
    struct session *ses = session_at(s, id);
    struct session_extra *extra = session_extra(s, ses);
    if (!extra)
        return;
    struct session_rare *rare = session_rare(s, ses);
    struct message *will = rare && with_will && !(extra->flags & EXTRA_OPENING) ? rare->will : NULL;
    bool is_stored = extra->flags & EXTRA_STORED;
    if (is_stored && !(extra->flags & EXTRA_OPENING))
        counter_sub(COUNTER_SESSIONS_STORED, 1);
    bool later = will && is_stored && rare->will_delay_s && extra->expiry_s;
    if (will && will->expires_ms) /* counts from its publication (MQTT 5.0 section 3.1.3.2.4) */
        will->expires_ms += clock_wall_ms();
    if (will && !later)
        will_publish(s, id, will);
    if (is_stored)
        request_close(s, id, later ? will : NULL);
    if (rare)
        free_rare(s, extra->rare);
    pool_release(s->extras, ses->extra);
    ses->extra = 0;
}

void session_end(struct sessions *s, uint32_t id, bool with_will)
{
    struct session *ses = session_at(s, id);
    bool is_stored = session_is_stored(s, ses);
    size_t len;
    const char *client_id = strpool_get(s->client_ids, ses->client_id, &len);
    net_conn(s->net, ses->conn)->owner = 0;
    end_extra(s, id, with_will);
    window_free(s, ses);
    topic_tree_unsubscribe_all(s->tree, &ses->subs);
    if (!is_stored)
        s->handler->released(s->ctx, client_id, len, ses->claim);
    hash_index_remove(s->by_client_id, hash_bytes(client_id, len), id);
    strpool_release(s->client_ids, ses->client_id);
    pool_release(s->pool, id);
    counter_sub(COUNTER_SESSIONS, 1);
}

/* Where else the client is to go, with a reason that says so. */
static void add_reference(const struct sessions *s, uint32_t id, struct mqtt_props *props, uint8_t code)
{
    const char *text = s->config->server_reference;
    const struct session_rare *rare = session_rare(s, session_at(s, id));
    if ((code == MQTT_RC_USE_ANOTHER_SERVER || code == MQTT_RC_SERVER_MOVED) && *text &&
        !(rare && rare->max_packet && rare->max_packet < strlen(text) + 16))
        mqtt_props_set_bytes(props, MQTT_P_SERVER_REFERENCE, text, strlen(text));
}

void sessions_replay(struct sessions *s, uint32_t id)
{
    share_join_all(s, id);
    will_tell(s, id);
}

enum close_reason sessions_redirect(const struct sessions *s, bool at_shutdown)
{
    static const enum close_reason why[] = {[REDIRECT_NEVER] = CLOSE_NONE,
                                            [REDIRECT_AT_SHUTDOWN] = CLOSE_USE_ANOTHER,
                                            [REDIRECT_USE_ANOTHER] = CLOSE_USE_ANOTHER,
                                            [REDIRECT_MOVED] = CLOSE_MOVED};
    return s->config->redirect == REDIRECT_AT_SHUTDOWN && !at_shutdown ? CLOSE_NONE
                                                                       : why[s->config->redirect];
}

void sessions_close_conn(struct sessions *s, uint32_t conn, enum close_reason reason)
{
    const struct conn *c = net_conn(s->net, conn);
    uint8_t code = close_reason_mqtt5(reason);
    if (c->protocol == MQTT_V5 && c->owner && code) {
        struct mqtt_packet bye = {.type = MQTT_DISCONNECT};
        bye.u.disconnect.code = code;
        add_reference(s, c->owner, &bye.u.disconnect.props, code);
        reason_tell(s, c->owner, &bye, &bye.u.disconnect.props, close_reason_text(reason));
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

/* Goes on with sessions that can take more, and lets go of windows that nothing needs. */
static void sweep_windows(struct sessions *s)
{
    for (uint32_t at = 0; (at = pool_next(s->windows, at));) {
        const struct window *w = pool_at(s->windows, at);
        struct session *ses = session_at(s, w->session);
        catch_up_if_room(s, w->session);
        window_tidy(s, ses);
    }
}

/*
 * Writes cursors of stored sessions that have moved: at each tick those of the next windows, as many as the
 * time since the last tick is of a cursor_interval, so that all have their turn in one and no commit has many
 * of them, also when thousands of windows have appeared at once.
 */
static void write_cursors(struct sessions *s)
{
    uint32_t interval = s->config->log_cursor_interval_ms, at = s->cursor_at;
    uint64_t elapsed = clock_ms() - s->cursor_ms;
    if (s->cursor_bound < pool_bound(s->windows))
        s->cursor_bound = pool_bound(s->windows);
    s->cursor_ms = clock_ms();
    s->cursor_owed += (elapsed < interval ? elapsed : interval) * s->cursor_bound;
    uint64_t end = at + s->cursor_owed / interval;
    s->cursor_owed %= interval;
    while (at < end) {
        uint32_t next = pool_next(s->windows, at);
        if (!next) { /* a round over fewer is quicker: the last ones do not need an interval */
            s->cursor_bound = (s->cursor_bound + pool_bound(s->windows)) / 2;
            at = 0;
            break;
        }
        if (next > end) {
            at = (uint32_t)end;
            break;
        }
        at = next;
        const struct window *w = pool_at(s->windows, at);
        if (w->flags & WINDOW_DIRTY && session_is_stored(s, session_at(s, w->session)))
            request_store(s, w->session);
    }
    s->cursor_at = at;
}

void sessions_set_fanout(struct sessions *s, struct fanout *f) { s->fanout = f; }

void sessions_told(struct sessions *s, struct message *m)
{
    if (sys_topics_concern(message_topic(m), m->topic_len))
        sys_topics_hold(s, m);
    else if ((m->qos || m->retain) && s->told < m->seq)
        s->told = m->seq;
}

bool sessions_is_opening(const struct sessions *s, uint32_t id, bool *clean_start, uint32_t *expiry_s)
{
    const struct session_extra *extra = session_extra(s, session_at(s, id));
    if (!extra || !(extra->flags & EXTRA_OPENING))
        return false;
    *clean_start = extra->flags & EXTRA_CLEAN;
    *expiry_s = extra->expiry_s;
    return true;
}

bool sessions_is_stored(const struct sessions *s, uint32_t id)
{
    return session_is_stored(s, session_at(s, id));
}

uint32_t sessions_expiry(const struct sessions *s, uint32_t id)
{
    const struct session_extra *extra = session_extra(s, session_at(s, id));
    return extra ? extra->expiry_s : 0;
}

void sessions_progress(const struct sessions *s, uint32_t id, uint32_t *inflight, uint64_t *cursor,
                       bool *is_behind)
{
    const struct session *ses = session_at(s, id);
    const struct window *w = window_of(s, ses);
    *inflight = w ? w->unacked : 0;
    *cursor = window_cursor(s, ses);
    *is_behind = w && w->flags & WINDOW_BEHIND;
}

void sessions_tick(struct sessions *s)
{
    wheel_advance(s->wheel, clock_ms());
    write_cursors(s);
}

void sessions_second(struct sessions *s)
{
    counter_set(COUNTER_SUBSCRIPTIONS, topic_tree_subscriptions(s->tree));
    counter_set(COUNTER_TOPICS, topic_tree_topics(s->tree));
    if (clock_ms() > s->config->packet_timeout_ms)
        net_sweep(s->net, clock_ms() - s->config->packet_timeout_ms);
    net_second(s->net);
    sweep_windows(s);
}
