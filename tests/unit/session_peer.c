/*
 * Clients of a rig: encoding, decoding, and what is expected of each packet.
 */
#include "tests/unit/session_peer.h"

#include "gateway/base/xmalloc.h"
#include "proto/mqtt_topic.h"

static void peer_trace(const struct peer *p, const char *way, const struct mqtt_packet *m)
{
    const struct mqtt_publish *pub = &m->u.publish;
    if (m->type == MQTT_PUBLISH)
        RIG_TRACE(p->r, "%s %s PUBLISH id %u qos %u dup %d retain %d %.*s %.*s\n", p->id, way, pub->packet_id,
                  pub->qos, pub->dup, pub->retain, (int)pub->topic.len, pub->topic.data,
                  (int)(pub->payload.len < 12 ? pub->payload.len : 12), pub->payload.data);
    else if (m->type == MQTT_CONNECT || m->type == MQTT_CONNACK || m->type == MQTT_DISCONNECT)
        RIG_TRACE(p->r, "%s %s %s\n", p->id, way, mqtt_type_name(m->type));
    else
        RIG_TRACE(p->r, "%s %s %s id %u code %02x\n", p->id, way, mqtt_type_name(m->type), m->u.ack.packet_id,
                  m->type >= MQTT_PUBACK && m->type <= MQTT_PUBCOMP ? m->u.ack.code : 0);
}

void peer_free(struct peer *p)
{
    if (p->fd >= 0)
        close(p->fd);
    free(p->buf);
    *p = (struct peer){.fd = -1};
}

void peer_drop(struct peer *p)
{
    struct rig *r = p->r;
    peer_free(p);
    rig_turn(r);
}

void peer_send(struct peer *p, const struct mqtt_packet *m)
{
    unsigned char stack[4096], *out = stack;
    size_t len = mqtt_encode(m, p->version, NULL, 0);
    ck_assert_uint_gt(len, 0);
    peer_trace(p, ">", m);
    if (len > sizeof stack)
        out = xmalloc(len);
    ck_assert_uint_eq(mqtt_encode(m, p->version, out, len), len);
    ssize_t sent = send(p->fd, out, len, MSG_NOSIGNAL);
    ck_assert(sent == (ssize_t)len ||
              (sent < 0 && (errno == EPIPE || errno == ECONNRESET))); /* it was closed */
    if (out != stack)
        free(out);
}

/* Takes in what has come. */
static void peer_pull(struct peer *p)
{
    if (p->used)
        memmove(p->buf, p->buf + p->used, p->len - p->used);
    p->len -= p->used;
    p->used = 0;
    for (;;) {
        if (p->room - p->len < 65536)
            p->buf = xrealloc(p->buf, p->room = p->room * 2 + 131072);
        ssize_t n = recv(p->fd, p->buf + p->len, p->room - p->len, 0);
        if (n <= 0)
            break;
        p->len += (size_t)n;
    }
}

bool peer_next(struct peer *p, struct mqtt_packet *out)
{
    struct mqtt_error error = {0};
    size_t used = 0;
    peer_pull(p);
    if (!p->len)
        return false;
    enum mqtt_result r = mqtt_decode(p->buf, p->len, p->version, 16 << 20, out, &used, &error);
    ck_assert_msg(r != MQTT_BAD, "what came back is not MQTT: %s", error.text);
    if (r == MQTT_MORE)
        return false;
    p->used = used;
    peer_trace(p, "<", out);
    return true;
}

void peer_expect_nothing(struct peer *p)
{
    struct mqtt_packet m;
    bool any = peer_next(p, &m);
    ck_assert_msg(!any, "%s came, and nothing was due", any ? mqtt_type_name(m.type) : "");
    ck_assert(!client_closed(p->fd));
}

struct mqtt_packet peer_expect(struct peer *p, enum mqtt_type type)
{
    struct mqtt_packet m;
    bool any = peer_next(p, &m);
    ck_assert_msg(any, "%s is missing%s", mqtt_type_name(type), client_closed(p->fd) ? ", closed" : "");
    ck_assert_msg(m.type == type, "%s instead of %s", mqtt_type_name(m.type), mqtt_type_name(type));
    return m;
}

void peer_expect_closed(struct peer *p)
{
    struct mqtt_packet m;
    bool any = peer_next(p, &m);
    ck_assert_msg(!any, "%s came instead of the end", any ? mqtt_type_name(m.type) : "");
    ck_assert(client_closed(p->fd));
}

void peer_expect_bye(struct peer *p, uint8_t code)
{
    struct mqtt_packet m = peer_expect(p, MQTT_DISCONNECT);
    ck_assert_uint_eq(m.u.disconnect.code, code);
    peer_expect_closed(p);
}

static struct peer peer_new(struct rig *r, uint8_t version, int sndbuf)
{
    int fd[2];
    loop_pair(fd);
    if (sndbuf)
        ck_assert_int_eq(setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof sndbuf), 0);
    ck_assert_uint_ne(net_adopt(sessions_net(r->sessions), fd[0], 0), 0);
    return (struct peer){.r = r, .fd = fd[1], .version = version};
}

struct peer peer_begin(struct rig *r, const char *id, const struct peer_connect *how)
{
    struct peer p = peer_new(r, how->version ? how->version : MQTT_V311, how->sndbuf);
    snprintf(p.id, sizeof p.id, "%s", id);
    struct mqtt_packet m = {.type = MQTT_CONNECT};
    struct mqtt_connect *c = &m.u.connect;
    c->level = p.version;
    c->clean_start = how->clean;
    c->keepalive_s = how->keepalive_s;
    c->client_id = (struct mqtt_bytes){.data = id, .len = (uint32_t)strlen(id)};
    if (how->expiry_s)
        mqtt_props_set_num(&c->props, MQTT_P_SESSION_EXPIRY, how->expiry_s);
    if (how->receive_maximum)
        mqtt_props_set_num(&c->props, MQTT_P_RECEIVE_MAX, how->receive_maximum);
    if (how->alias_maximum)
        mqtt_props_set_num(&c->props, MQTT_P_TOPIC_ALIAS_MAX, how->alias_maximum);
    if (how->max_packet)
        mqtt_props_set_num(&c->props, MQTT_P_MAXIMUM_PACKET_SIZE, how->max_packet);
    if (how->no_reasons)
        mqtt_props_set_num(&c->props, MQTT_P_REQUEST_PROBLEM, 0);
    if (how->will_topic) {
        c->has_will = true;
        c->will_qos = how->will_qos;
        c->will_retain = how->will_retain;
        c->will_topic =
            (struct mqtt_bytes){.data = how->will_topic, .len = (uint32_t)strlen(how->will_topic)};
        c->will_payload =
            (struct mqtt_bytes){.data = how->will_payload, .len = (uint32_t)strlen(how->will_payload)};
        if (how->will_delay_s)
            mqtt_props_set_num(&c->will_props, MQTT_P_WILL_DELAY, how->will_delay_s);
    }
    peer_send(&p, &m);
    return p;
}

struct peer peer_connect_with(struct rig *r, const char *id, const struct peer_connect *how, bool present)
{
    struct peer p = peer_begin(r, id, how);
    rig_turn(r);
    p.connack = peer_expect(&p, MQTT_CONNACK);
    ck_assert_uint_eq(p.connack.u.connack.code, 0);
    ck_assert_msg(p.connack.u.connack.session_present == present, "session present is %d",
                  p.connack.u.connack.session_present);
    return p;
}

struct peer peer_stored(struct rig *r, const char *id, uint8_t version, bool present)
{
    struct peer_connect how = {.version = version, .expiry_s = version == MQTT_V5 ? 3600 : 0};
    return peer_connect_with(r, id, &how, present);
}

struct peer peer_clean(struct rig *r, const char *id, uint8_t version)
{
    struct peer_connect how = {.version = version, .clean = true};
    return peer_connect_with(r, id, &how, false);
}

static uint16_t peer_packet_id(struct peer *p) { return ++p->last_id ? p->last_id : ++p->last_id; }

uint16_t peer_ask(struct peer *p, const char *filter, uint8_t options, uint32_t identifier)
{
    char entry[300];
    struct mqtt_packet m = {.type = MQTT_SUBSCRIBE};
    struct mqtt_bytes text = {.data = filter, .len = (uint32_t)strlen(filter)};
    m.u.subscribe.packet_id = peer_packet_id(p);
    m.u.subscribe.count = 1;
    m.u.subscribe.entries.data = entry;
    m.u.subscribe.entries.len = (uint32_t)mqtt_put_filter(entry, sizeof entry, text, true, options);
    if (identifier)
        mqtt_props_set_num(&m.u.subscribe.props, MQTT_P_SUBSCRIPTION_ID, identifier);
    peer_send(p, &m);
    return m.u.subscribe.packet_id;
}

void peer_expect_suback(struct peer *p, uint16_t packet_id, uint8_t code)
{
    struct mqtt_packet m = peer_expect(p, MQTT_SUBACK);
    ck_assert_uint_eq(m.u.suback.packet_id, packet_id);
    ck_assert_uint_eq(m.u.suback.codes.len, 1);
    ck_assert_uint_eq((uint8_t)m.u.suback.codes.data[0], code);
}

void peer_subscribe(struct peer *p, const char *filter, uint8_t options)
{
    uint16_t id = peer_ask(p, filter, options, 0);
    rig_turn(p->r);
    peer_expect_suback(p, id, options & 3);
}

uint16_t peer_ask_no_more(struct peer *p, const char *filter)
{
    char entry[300];
    struct mqtt_packet m = {.type = MQTT_UNSUBSCRIBE};
    struct mqtt_bytes text = {.data = filter, .len = (uint32_t)strlen(filter)};
    m.u.subscribe.packet_id = peer_packet_id(p);
    m.u.subscribe.count = 1;
    m.u.subscribe.entries.data = entry;
    m.u.subscribe.entries.len = (uint32_t)mqtt_put_filter(entry, sizeof entry, text, false, 0);
    peer_send(p, &m);
    return m.u.subscribe.packet_id;
}

void peer_unsubscribe(struct peer *p, const char *filter)
{
    uint16_t id = peer_ask_no_more(p, filter);
    rig_turn(p->r);
    struct mqtt_packet m = peer_expect(p, MQTT_UNSUBACK);
    ck_assert_uint_eq(m.u.suback.packet_id, id);
}

void peer_publish(struct peer *p, const struct peer_publish *what)
{
    struct mqtt_packet m = {.type = MQTT_PUBLISH};
    struct mqtt_publish *pub = &m.u.publish;
    pub->topic = (struct mqtt_bytes){.data = what->topic, .len = (uint32_t)strlen(what->topic)};
    pub->payload.data = what->payload;
    pub->payload.len = (uint32_t)(what->payload_len ? what->payload_len : strlen(what->payload));
    pub->qos = what->qos;
    pub->packet_id = what->packet_id;
    pub->dup = what->dup;
    pub->retain = what->retain;
    if (what->alias)
        mqtt_props_set_num(&pub->props, MQTT_P_TOPIC_ALIAS, what->alias);
    if (what->expiry_s)
        mqtt_props_set_num(&pub->props, MQTT_P_MESSAGE_EXPIRY, what->expiry_s);
    peer_send(p, &m);
}

void peer_ack_with(struct peer *p, enum mqtt_type type, uint16_t packet_id, uint8_t code)
{
    struct mqtt_packet m = {.type = type};
    m.u.ack.packet_id = packet_id;
    m.u.ack.code = code;
    peer_send(p, &m);
}

void peer_ack(struct peer *p, enum mqtt_type type, uint16_t packet_id)
{
    peer_ack_with(p, type, packet_id, 0);
}

void peer_expect_ack(struct peer *p, enum mqtt_type type, uint16_t packet_id, uint8_t code)
{
    struct mqtt_packet m = peer_expect(p, type);
    ck_assert_uint_eq(m.u.ack.packet_id, packet_id);
    ck_assert_msg(m.u.ack.code == code, "%s of %u has code %02x instead of %02x", mqtt_type_name(type),
                  packet_id, m.u.ack.code, code);
}

struct mqtt_publish peer_expect_publish(struct peer *p, const char *topic, const char *payload, uint8_t qos)
{
    struct mqtt_packet m = peer_expect(p, MQTT_PUBLISH);
    const struct mqtt_publish *pub = &m.u.publish;
    ck_assert_msg(pub->topic.len == strlen(topic) && memcmp(pub->topic.data, topic, pub->topic.len) == 0,
                  "topic \"%.*s\" instead of \"%s\"", (int)pub->topic.len, pub->topic.data, topic);
    ck_assert_msg(pub->payload.len == strlen(payload) &&
                      memcmp(pub->payload.data, payload, pub->payload.len) == 0,
                  "payload \"%.*s\" instead of \"%s\"", (int)pub->payload.len, pub->payload.data, payload);
    ck_assert_msg(pub->qos == qos, "QoS %u instead of %u", pub->qos, qos);
    ck_assert((qos == 0) == (pub->packet_id == 0));
    return *pub;
}

uint16_t peer_expect_new(struct peer *p, const char *topic, const char *payload, uint8_t qos)
{
    struct mqtt_publish pub = peer_expect_publish(p, topic, payload, qos);
    ck_assert(!pub.dup);
    ck_assert(!pub.retain);
    return pub.packet_id;
}

struct mqtt_publish peer_expect_number(struct peer *p, const char *topic, unsigned i, uint8_t qos)
{
    char text[16];
    snprintf(text, sizeof text, "%u", i);
    return peer_expect_publish(p, topic, text, qos);
}

uint16_t peer_expect_new_number(struct peer *p, const char *topic, unsigned i, uint8_t qos)
{
    char text[16];
    snprintf(text, sizeof text, "%u", i);
    return peer_expect_new(p, topic, text, qos);
}

void peer_expect_again(struct peer *p, const char *topic, unsigned i, uint8_t qos, uint16_t packet_id)
{
    struct mqtt_publish got = peer_expect_number(p, topic, i, qos);
    ck_assert(got.dup);
    ck_assert_uint_eq(got.packet_id, packet_id);
}

void peer_complete(struct peer *p, uint8_t qos, uint16_t packet_id)
{
    if (qos == 0)
        return;
    peer_ack(p, qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, packet_id);
    rig_turn(p->r);
    if (qos == 1)
        return;
    peer_expect_ack(p, MQTT_PUBREL, packet_id, 0);
    peer_ack(p, MQTT_PUBCOMP, packet_id);
    rig_turn(p->r);
}

void peer_disconnect(struct peer *p)
{
    struct mqtt_packet m = {.type = MQTT_DISCONNECT};
    peer_send(p, &m);
    rig_turn(p->r);
    peer_free(p);
}
