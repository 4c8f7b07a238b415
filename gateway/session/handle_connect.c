/*
 * CONNECT: agrees on the session's terms or refuses it (MQTT 5.0 sections 3.1 and 3.2; 3.1.1 likewise).
 *
 * A session that is to outlive its connection, or did, is asked for first (OPEN): the connection is held
 * until the hub has ended whoever else has the client id, and what was stored is committed. Then it is read
 * back and the client is answered. One that is not stored is answered at once.
 */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "gateway/base/check.h"
#include "gateway/base/counters.h"
#include "gateway/base/hash.h"
#include "gateway/base/log.h"
#include "gateway/engine/engine.h"
#include "gateway/net/sockets.h"
#include "gateway/session/catch_up.h"
#include "gateway/session/handle_ack.h"
#include "gateway/session/publish.h"
#include "gateway/session/session_internal.h"
#include "gateway/session/shares.h"
#include "gateway/session/will.h"
#include "gateway/session/window.h"
#include "proto/mqtt_topic.h"

#define ASSIGNED_ID_MAX 32

LOG_EVENT(log_client_connected, "client_connected", LOG_LEVEL_INFO);

/* The 3.1.1 return code for a reason code of 5.0; 0xFF: 3.1.1 has none, the connection is just closed. */
static uint8_t v311_return(uint8_t code)
{
    static const struct {
        uint8_t code, v311;
    } rows[] = {
        {MQTT_RC_UNSUPPORTED_VERSION, MQTT_311_VERSION},    {MQTT_RC_CLIENT_ID, MQTT_311_IDENTIFIER},
        {MQTT_RC_SERVER_UNAVAILABLE, MQTT_311_UNAVAILABLE}, {MQTT_RC_QUOTA_EXCEEDED, MQTT_311_UNAVAILABLE},
        {MQTT_RC_USE_ANOTHER_SERVER, MQTT_311_UNAVAILABLE}, {MQTT_RC_SERVER_MOVED, MQTT_311_UNAVAILABLE},
        {MQTT_RC_NOT_AUTHORIZED, MQTT_311_NOT_AUTHORIZED}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].code == code)
            return rows[i].v311;
    return 0xFF;
}

uint32_t connect_max_packet(const struct mqtt_connect *p)
{
    return p->level == MQTT_V5 && mqtt_has(&p->props, MQTT_P_MAXIMUM_PACKET_SIZE)
               ? p->props.value[MQTT_P_MAXIMUM_PACKET_SIZE].num
               : 0;
}

/* The client is to go somewhere else; it is told where if that is known and it takes so much. */
static void refuse_to_another(struct sessions *s, uint32_t conn, const struct mqtt_connect *p,
                              enum close_reason why)
{
    uint32_t max_packet = connect_max_packet(p);
    const char *text = s->config->server_reference;
    struct mqtt_packet answer = {.type = MQTT_CONNACK};
    answer.u.connack.code = close_reason_mqtt5(why);
    mqtt_props_set_bytes(&answer.u.connack.props, MQTT_P_SERVER_REFERENCE, text, strlen(text));
    bool fits = !max_packet || mqtt_encode(&answer, MQTT_V5, NULL, 0) <= max_packet;
    if (p->level == MQTT_V5 && *text && fits) {
        mqtt_send(s, conn, MQTT_V5, &answer);
        net_close(s->net, conn, why);
    } else {
        connect_refuse(s, conn, p->level, max_packet, answer.u.connack.code, NULL, why);
    }
}

/* What refusal() finds wrong with a CONNECT, in words. */
static const char *refusal_text(uint8_t code)
{
    static const struct {
        uint8_t code;
        const char *text;
    } rows[] = {{MQTT_RC_CLIENT_ID, "the client id is longer than the gateway takes"},
                {MQTT_RC_BAD_AUTH_METHOD, "enhanced authentication is not supported"},
                {MQTT_RC_RETAIN_NOT_SUPPORTED, "the will is to be retained, and nothing is retained here"},
                {MQTT_RC_TOPIC_NAME_INVALID, "the will's topic has too many levels"},
                {MQTT_RC_NOT_AUTHORIZED, "the will's topic is the gateway's own"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].code == code)
            return rows[i].text;
    return NULL;
}

void connect_refuse(struct sessions *s, uint32_t conn, uint8_t level, uint32_t max_packet, uint8_t code,
                    const char *why, enum close_reason reason)
{
    struct mqtt_packet answer = {.type = MQTT_CONNACK};
    bool v5 = level >= MQTT_V5;
    answer.u.connack.code = v5 ? code : v311_return(code);
    if (v5)
        reason_add(&answer, &answer.u.connack.props, why ? why : mqtt_reason_name(code), max_packet);
    if (max_packet && mqtt_encode(&answer, MQTT_V5, NULL, 0) > max_packet)
        reason = CLOSE_CLIENT_LIMIT; /* [MQTT-3.1.2-24] */
    else if (level && answer.u.connack.code != 0xFF)
        mqtt_send(s, conn, v5 ? MQTT_V5 : MQTT_V311, &answer);
    net_close(s->net, conn, reason);
}

/* Why this CONNECT cannot be served, as a reason code of 5.0, or 0. */
static uint8_t refusal(const struct sessions *s, const struct mqtt_connect *p)
{
    bool v5 = p->level == MQTT_V5;
    if (p->client_id.len > s->config->max_client_id || (!p->client_id.len && !v5 && !p->clean_start))
        return MQTT_RC_CLIENT_ID; /* [MQTT-3.1.3-8] of 3.1.1 for the second */
    if (v5 && mqtt_has(&p->props, MQTT_P_AUTH_METHOD))
        return MQTT_RC_BAD_AUTH_METHOD;
    if (v5 && p->has_will && p->will_retain && !s->config->retain)
        return MQTT_RC_RETAIN_NOT_SUPPORTED; /* [MQTT-3.2.2-13] */
    if (p->has_will && mqtt_topic_levels(p->will_topic.data, p->will_topic.len) > s->config->max_topic_levels)
        return MQTT_RC_TOPIC_NAME_INVALID;
    if (p->has_will && mqtt_topic_is_reserved(p->will_topic.data, p->will_topic.len))
        return MQTT_RC_NOT_AUTHORIZED;
    return 0;
}

/* A client id nobody can guess, for a client that sent none. */
static size_t assign_client_id(char out[ASSIGNED_ID_MAX])
{
    uint64_t r;
    CHECK(getrandom(&r, sizeof r, 0) == sizeof r);
    return (size_t)snprintf(out, ASSIGNED_ID_MAX, "hf-%016llx", (unsigned long long)r);
}

/* How long the session is to outlive its connection, in seconds. */
static uint32_t agreed_expiry(const struct sessions *s, const struct mqtt_connect *p)
{
    uint32_t cap = s->config->max_session_expiry_s, asked;
    if (p->level == MQTT_V5)
        asked = mqtt_has(&p->props, MQTT_P_SESSION_EXPIRY) ? p->props.value[MQTT_P_SESSION_EXPIRY].num : 0;
    else
        asked = p->clean_start ? 0 : s->config->session_expiry_s;
    return cap && asked > cap ? cap : asked;
}

/* The will of a CONNECT as a message; expires_ms is an interval as long as it is not published. */
static struct message *will_of(const struct sessions *s, const struct mqtt_connect *p)
{
    struct publish_source from = {.topic = p->will_topic,
                                  .payload = p->will_payload,
                                  .props = p->level == MQTT_V5 ? &p->will_props : NULL,
                                  .qos = p->will_qos,
                                  .retain = p->will_retain && s->config->retain,
                                  .origin = hash_known(p->client_id.data, p->client_id.len)};
    struct message *m = publish_message(&from);
    if (m->expires_ms) {
        uint32_t interval_s = p->will_props.value[MQTT_P_MESSAGE_EXPIRY].num;
        m->expires_ms = interval_s ? interval_s * 1000ull : 1;
    }
    return m;
}

/* A property of a 5.0 CONNECT, or 0. */
static uint32_t asked_for(const struct mqtt_connect *p, enum mqtt_prop k)
{
    return p->level == MQTT_V5 && mqtt_has(&p->props, k) ? p->props.value[k].num : 0;
}

static void ignore_session(void *ctx, const struct engine_session_view *v) { (void)ctx, (void)v; }

/* Whether something is stored under the client id that a clean start has to forget, for good, before it is
 * answered. */
static bool was_stored(const struct sessions *s, const struct mqtt_connect *p)
{
    return s->reader && s->settings.engine->session_get(s->reader, p->client_id.data, p->client_id.len,
                                                        ignore_session, NULL);
}

/* What the client says about itself that has to be remembered, as flags of the extra record. */
static uint8_t extra_flags(const struct sessions *s, const struct mqtt_connect *p, uint32_t expiry_s)
{
    bool no_reasons = p->level == MQTT_V5 && mqtt_has(&p->props, MQTT_P_REQUEST_PROBLEM) &&
                      !asked_for(p, MQTT_P_REQUEST_PROBLEM);
    bool is_stored = expiry_s || !p->clean_start || was_stored(s, p);
    return (
        uint8_t)((is_stored ? EXTRA_STORED | EXTRA_OPENING : 0) | (p->clean_start ? EXTRA_CLEAN : 0) |
                 (p->level == MQTT_V5 ? EXTRA_V5 : 0) | (no_reasons ? EXTRA_NO_REASONS : 0) |
                 (p->level == MQTT_V5 && asked_for(p, MQTT_P_SESSION_EXPIRY) != expiry_s ? EXTRA_EXPIRY : 0));
}

static void take_rare(const struct sessions *s, struct session_rare *rare, const struct mqtt_connect *p,
                      uint32_t max_packet)
{
    rare->max_packet = max_packet;
    if (!p->has_will)
        return;
    rare->will = will_of(s, p);
    if (p->level == MQTT_V5 && mqtt_has(&p->will_props, MQTT_P_WILL_DELAY))
        rare->will_delay_s = p->will_props.value[MQTT_P_WILL_DELAY].num;
}

/* Keeps what few clients ask for. False: no room. */
static bool take_extras(struct sessions *s, struct session *ses, const struct mqtt_connect *p)
{
    uint32_t expiry_s = agreed_expiry(s, p), max_packet = connect_max_packet(p);
    uint16_t receive_maximum = (uint16_t)asked_for(p, MQTT_P_RECEIVE_MAX);
    uint8_t flags = extra_flags(s, p, expiry_s);
    bool is_rare = max_packet || p->has_will;
    bool wanted = is_rare || flags & (EXTRA_STORED | EXTRA_NO_REASONS) ||
                  (receive_maximum && receive_maximum < s->config->max_inflight);
    if (!alias_begin(s, ses, (uint16_t)asked_for(p, MQTT_P_TOPIC_ALIAS_MAX)))
        return false;
    struct session_extra *extra = wanted ? session_need_extra(s, ses) : NULL;
    struct session_rare *rare = is_rare ? session_need_rare(s, ses) : NULL;
    if (wanted != (extra != NULL) || is_rare != (rare != NULL))
        return false;
    if (extra) {
        extra->receive_maximum = receive_maximum;
        extra->expiry_s = expiry_s;
        extra->flags = flags;
    }
    if (rare)
        take_rare(s, rare, p, max_packet);
    return true;
}

/* The keepalive that holds from now on, in seconds. */
static uint16_t agreed_keepalive(const struct sessions *s, uint16_t asked)
{
    uint32_t cap = s->config->max_keepalive_s;
    return cap && (!asked || asked > cap) ? (uint16_t)cap : asked;
}

/* What CONNACK says, beyond what the connection's records know. */
struct acceptance {
    bool is_v5, present, keepalive_changed, expiry_changed, is_assigned;
    uint32_t expiry_s;
};

/* CONNACK with everything a 5.0 client has to know about this server. */
static void send_connack(struct sessions *s, uint32_t conn, const struct acceptance *a)
{
    struct mqtt_packet answer = {.type = MQTT_CONNACK};
    struct mqtt_props *props = &answer.u.connack.props;
    const struct conn *c = net_conn(s->net, conn);
    answer.u.connack.session_present = a->present;
    if (a->is_v5) {
        mqtt_props_set_num(props, MQTT_P_RECEIVE_MAX, s->config->receive_maximum);
        mqtt_props_set_num(props, MQTT_P_MAXIMUM_PACKET_SIZE, s->config->max_packet_size);
        if (s->config->max_topic_alias)
            mqtt_props_set_num(props, MQTT_P_TOPIC_ALIAS_MAX, s->config->max_topic_alias);
        if (!s->config->retain)
            mqtt_props_set_num(props, MQTT_P_RETAIN_AVAILABLE, 0);
        if (a->expiry_changed)
            mqtt_props_set_num(props, MQTT_P_SESSION_EXPIRY, a->expiry_s);
        if (a->keepalive_changed)
            mqtt_props_set_num(props, MQTT_P_SERVER_KEEP_ALIVE, c->keepalive);
        if (a->is_assigned) {
            size_t len;
            const char *client_id = sessions_client_id(s, c->owner, &len);
            mqtt_props_set_bytes(props, MQTT_P_ASSIGNED_CLIENT_ID, client_id, len);
        }
    }
    mqtt_send(s, conn, a->is_v5 ? MQTT_V5 : MQTT_V311, &answer);
}

static void log_connected(const struct sessions *s, uint32_t conn, const struct mqtt_bytes *client_id)
{
    const struct conn *c = net_conn(s->net, conn);
    char peer[SOCKETS_ADDRESS_TEXT];
    size_t identity_len;
    const char *identity = net_identity(s->net, conn, &identity_len);
    if (!log_wants(&log_client_connected))
        return;
    struct log_field fields[] = {LOG_BYTES("client", client_id->data, client_id->len),
                                 LOG_U64("mqtt", c->protocol),
                                 LOG_U64("keepalive", c->keepalive),
                                 LOG_STR("address", sockets_peer_text(c->fd, peer)),
                                 LOG_STR("listener", s->config->listener[c->listener].name),
                                 LOG_BYTES("identity", identity, identity_len)};
    log_write(&log_client_connected, fields, sizeof fields / sizeof fields[0] - (identity_len == 0));
}

/* Ends the session that has this client id now, if there is one ([MQTT-3.1.4-3]). */
static void take_over(struct sessions *s, const struct mqtt_bytes *client_id)
{
    uint32_t old = sessions_find(s, client_id->data, client_id->len);
    if (old)
        session_take_over(s, old);
}

/* From here on the client is served. */
static void accept_connect(struct sessions *s, uint32_t conn, const struct acceptance *a)
{
    struct conn *c = net_conn(s->net, conn);
    struct mqtt_bytes client_id;
    size_t len;
    client_id.data = sessions_client_id(s, c->owner, &len);
    client_id.len = (uint32_t)len;
    c->protocol = a->is_v5 ? MQTT_V5 : MQTT_V311;
    heartbeat_connect(s, conn);
    counter_add(a->is_v5 ? COUNTER_CONNECTED_V5 : COUNTER_CONNECTED_V3, 1);
    log_connected(s, conn, &client_id);
    send_connack(s, conn, a);
    will_tell(s, c->owner);
}

/* Tells the hub of the session: it is just claimed, or asked for, and then the connection waits. */
static void claim(struct sessions *s, uint32_t conn, const struct acceptance *a)
{
    uint32_t id = net_conn(s->net, conn)->owner;
    struct session *ses = session_at(s, id);
    struct session_extra *extra = session_extra(s, ses);
    size_t len;
    const char *client_id = sessions_client_id(s, id, &len);
    if (!session_is_stored(s, ses)) {
        s->handler->claimed(s->ctx, client_id, len, ses->claim);
        accept_connect(s, conn, a);
        return;
    }
    extra->flags |=
        (uint8_t)((a->is_assigned ? EXTRA_ASSIGNED : 0) | (a->keepalive_changed ? EXTRA_KEEPALIVE : 0));
    net_hold(s->net, conn, true);
    s->handler->open(s->ctx, id);
}

void handle_connect(struct sessions *s, uint32_t conn)
{
    struct mqtt_connect *p = &s->packet.u.connect;
    struct conn *c = net_conn(s->net, conn);
    char id_buffer[ASSIGNED_ID_MAX];
    struct acceptance a = {.is_v5 = p->level == MQTT_V5, .expiry_s = agreed_expiry(s, p)};
    enum close_reason elsewhere = sessions_redirect(s, false);
    uint8_t code = refusal(s, p);
    if (elsewhere != CLOSE_NONE) {
        refuse_to_another(s, conn, p, elsewhere);
        return;
    }
    if (code) {
        connect_refuse(s, conn, p->level, connect_max_packet(p), code, refusal_text(code), CLOSE_BAD_CONNECT);
        return;
    }
    a.is_assigned = !p->client_id.len;
    if (a.is_assigned)
        p->client_id = (struct mqtt_bytes){.data = id_buffer, .len = (uint32_t)assign_client_id(id_buffer)};
    take_over(s, &p->client_id);
    uint32_t id = session_begin(s, conn, p->client_id.data, p->client_id.len);
    if (!id || !take_extras(s, session_at(s, id), p)) {
        connect_refuse(s, conn, p->level, connect_max_packet(p), MQTT_RC_QUOTA_EXCEEDED, NULL,
                       CLOSE_NO_MEMORY);
        return;
    }
    c->keepalive = agreed_keepalive(s, p->keepalive_s);
    a.keepalive_changed = c->keepalive != p->keepalive_s;
    a.expiry_changed = a.is_v5 && asked_for(p, MQTT_P_SESSION_EXPIRY) != a.expiry_s;
    claim(s, conn, &a);
}

/* ---- a stored session comes ---- */

/* What the reader has found, on its way into the session. */
struct restoring {
    struct sessions *s;
    uint32_t id;
    bool done;
};

/* Takes over the stored subscriptions and progress. */
static void restore_cb(void *ctx, const struct engine_session_view *v)
{
    struct restoring *r = ctx;
    struct sessions *s = r->s;
    struct session *ses = session_at(s, r->id);
    r->done = window_restore(s, r->id, &v->progress);
    for (size_t i = 0; r->done && i < v->subscription_count; i++) {
        const struct engine_subscription *sub = &v->subscriptions[i];
        r->done = topic_tree_subscribe(s->tree, &ses->subs, r->id, sub->filter, sub->len,
                                       sub_options_make(sub->options, sub->identifier)) != SUBSCRIBE_NO_ROOM;
    }
    if (r->done)
        catch_up_restore(s, ses, v);
}

/* Reads the stored session. False: it cannot be had. */
static bool restore(struct sessions *s, uint32_t id)
{
    struct restoring r = {.s = s, .id = id};
    size_t len;
    const char *client_id = sessions_client_id(s, id, &len);
    if (s->reader)
        s->settings.engine->session_get(s->reader, client_id, len, restore_cb, &r);
    return r.done;
}

/* Ends a session that was asked for and cannot be had. */
static void refuse_opening(struct sessions *s, uint32_t id, uint8_t code)
{
    const struct session *ses = session_at(s, id);
    const struct session_rare *rare = session_rare(s, ses);
    bool v5 = session_extra(s, ses)->flags & EXTRA_V5;
    connect_refuse(s, ses->conn, v5 ? MQTT_V5 : MQTT_V311, rare ? rare->max_packet : 0, code, NULL,
                   CLOSE_NO_SESSION);
}

void sessions_opened(struct sessions *s, const char *client_id, size_t len, const struct session_opening *o)
{
    uint8_t code = o->code;
    uint32_t id = sessions_find(s, client_id, len);
    struct session *ses = id ? session_at(s, id) : NULL;
    struct session_extra *extra = ses ? session_extra(s, ses) : NULL;
    if (!ses || ses->claim != o->claim || !extra || !(extra->flags & EXTRA_OPENING) ||
        net_conn(s->net, ses->conn)->state == CONN_DOOMED)
        return;
    if (!code && o->present && !restore(s, id))
        code = MQTT_RC_SERVER_UNAVAILABLE;
    if (code) {
        refuse_opening(s, id, code);
        return;
    }
    struct acceptance a = {.is_v5 = extra->flags & EXTRA_V5,
                           .present = o->present,
                           .keepalive_changed = extra->flags & EXTRA_KEEPALIVE,
                           .expiry_changed = extra->flags & EXTRA_EXPIRY,
                           .is_assigned = extra->flags & EXTRA_ASSIGNED,
                           .expiry_s = extra->expiry_s};
    uint32_t conn = ses->conn;
    extra->flags &= (uint8_t)~EXTRA_OPENING;
    counter_add(COUNTER_SESSIONS_STORED, 1);
    accept_connect(s, conn, &a);
    if (o->present) {
        catch_up_unsure(s, ses, o->unsure_to);
        counter_add(COUNTER_RESUMED, 1);
        resume_releases(s, id);
        share_join_all(s, id);
        catch_up_if_room(s, id);
    }
    net_hold(s->net, conn, false);
}

void sessions_set_reader(struct sessions *s, struct engine_reader *r) { s->reader = r; }
