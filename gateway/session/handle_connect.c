/*
 * CONNECT: agrees on the session's terms or refuses it (MQTT 5.0 sections 3.1 and 3.2; 3.1.1 likewise).
 *
 * What the gateway cannot do yet it says here: Maximum QoS 0, Retain Available 0, no shared subscriptions, no
 * subscription identifiers, and a session expiry of 0. A will is published at QoS 0, unretained; a 5.0 client
 * that asks for more than that is refused, as the standard has it.
 */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "gateway/base/check.h"
#include "gateway/base/counters.h"
#include "gateway/base/hash.h"
#include "gateway/base/log.h"
#include "gateway/net/sockets.h"
#include "gateway/session/session_internal.h"

#define ASSIGNED_ID_MAX 32

LOG_EVENT(log_client_connected, "client_connected", LOG_LEVEL_INFO);

/* The 3.1.1 return code for a reason code of 5.0; 0xFF: 3.1.1 has none, the connection is just closed. */
static uint8_t v311_return(uint8_t code)
{
    static const struct {
        uint8_t code, v311;
    } rows[] = {{MQTT_RC_UNSUPPORTED_VERSION, MQTT_311_VERSION},
                {MQTT_RC_CLIENT_ID, MQTT_311_IDENTIFIER},
                {MQTT_RC_SERVER_UNAVAILABLE, MQTT_311_UNAVAILABLE},
                {MQTT_RC_QUOTA_EXCEEDED, MQTT_311_UNAVAILABLE},
                {MQTT_RC_NOT_AUTHORIZED, MQTT_311_NOT_AUTHORIZED}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].code == code)
            return rows[i].v311;
    return 0xFF;
}

void connect_refuse(struct sessions *s, uint32_t conn, uint8_t level, uint8_t code, enum close_reason reason)
{
    struct mqtt_packet answer = {.type = MQTT_CONNACK};
    bool v5 = level >= MQTT_V5;
    answer.u.connack.code = v5 ? code : v311_return(code);
    if (level && answer.u.connack.code != 0xFF)
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
    if (v5 && p->has_will && p->will_retain)
        return MQTT_RC_RETAIN_NOT_SUPPORTED; /* [MQTT-3.2.2-13] */
    if (v5 && p->has_will && p->will_qos)
        return MQTT_RC_QOS_NOT_SUPPORTED; /* [MQTT-3.2.2-12] */
    return 0;
}

/* A client id nobody can guess, for a client that sent none. */
static size_t assign_client_id(char out[ASSIGNED_ID_MAX])
{
    uint64_t r;
    CHECK(getrandom(&r, sizeof r, 0) == sizeof r);
    return (size_t)snprintf(out, ASSIGNED_ID_MAX, "hf-%016llx", (unsigned long long)r);
}

/* Keeps what few clients ask for. False: no room. */
static bool take_extras(struct sessions *s, struct session *ses, const struct mqtt_connect *p)
{
    bool limited = mqtt_has(&p->props, MQTT_P_MAXIMUM_PACKET_SIZE) && p->level == MQTT_V5;
    if (!limited && !p->has_will)
        return true;
    struct session_extra *extra = session_need_extra(s, ses);
    if (!extra)
        return false;
    if (limited)
        extra->max_packet = p->props.value[MQTT_P_MAXIMUM_PACKET_SIZE].num;
    if (p->has_will) {
        uint64_t origin = hash_bytes(p->client_id.data, p->client_id.len);
        extra->will = publish_message(p->will_topic, p->level == MQTT_V5 ? &p->will_props : NULL,
                                      p->will_payload, origin);
    }
    return true;
}

/* The keepalive that holds from now on, in seconds. */
static uint16_t agreed_keepalive(const struct sessions *s, uint16_t asked)
{
    uint32_t cap = s->config->max_keepalive_s;
    return cap && (!asked || asked > cap) ? (uint16_t)cap : asked;
}

/* CONNACK with everything a 5.0 client has to know about this server. */
static void accept_connect(struct sessions *s, uint32_t conn, const struct mqtt_connect *p,
                           const struct mqtt_bytes *assigned)
{
    struct mqtt_packet answer = {.type = MQTT_CONNACK};
    struct mqtt_props *props = &answer.u.connack.props;
    const struct conn *c = net_conn(s->net, conn);
    if (p->level == MQTT_V5) {
        mqtt_props_set_num(props, MQTT_P_MAXIMUM_QOS, 0);
        mqtt_props_set_num(props, MQTT_P_RETAIN_AVAILABLE, 0);
        mqtt_props_set_num(props, MQTT_P_MAXIMUM_PACKET_SIZE, s->config->max_packet_size);
        mqtt_props_set_num(props, MQTT_P_SUBID_AVAILABLE, 0);
        mqtt_props_set_num(props, MQTT_P_SHARED_AVAILABLE, 0);
        if (mqtt_has(&p->props, MQTT_P_SESSION_EXPIRY) && p->props.value[MQTT_P_SESSION_EXPIRY].num)
            mqtt_props_set_num(props, MQTT_P_SESSION_EXPIRY, 0);
        if (c->keepalive != p->keepalive_s)
            mqtt_props_set_num(props, MQTT_P_SERVER_KEEP_ALIVE, c->keepalive);
        if (assigned->len)
            mqtt_props_set_bytes(props, MQTT_P_ASSIGNED_CLIENT_ID, assigned->data, assigned->len);
    }
    mqtt_send(s, conn, p->level, &answer);
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

void handle_connect(struct sessions *s, uint32_t conn)
{
    struct mqtt_connect *p = &s->packet.u.connect;
    struct conn *c = net_conn(s->net, conn);
    char id_buffer[ASSIGNED_ID_MAX];
    struct mqtt_bytes assigned = {.data = id_buffer};
    uint8_t code = refusal(s, p);
    if (code) {
        connect_refuse(s, conn, p->level, code, CLOSE_BAD_CONNECT);
        return;
    }
    if (!p->client_id.len) {
        assigned.len = (uint32_t)assign_client_id(id_buffer);
        p->client_id = assigned;
    }
    take_over(s, &p->client_id);
    uint32_t id = session_begin(s, conn, p->client_id.data, p->client_id.len);
    if (!id || !take_extras(s, session_at(s, id), p)) {
        connect_refuse(s, conn, p->level, MQTT_RC_QUOTA_EXCEEDED, CLOSE_NO_MEMORY);
        return;
    }
    c->protocol = p->level;
    c->keepalive = agreed_keepalive(s, p->keepalive_s);
    heartbeat_connect(s, conn);
    counter_add(p->level == MQTT_V5 ? COUNTER_CONNECTED_V5 : COUNTER_CONNECTED_V3, 1);
    log_connected(s, conn, &p->client_id);
    accept_connect(s, conn, p, &assigned);
}
