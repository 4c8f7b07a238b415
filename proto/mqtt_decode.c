/*
 * Bytes -> packets. mqtt_decode() reads the fixed header, checks it against the row of the packet's type, and
 * once the whole packet is there calls the row's function, which reads the body to its last byte. Every rule
 * that one packet alone can break is checked here; rules about a connection's or a session's state are not.
 * Nothing is copied or allocated: what a packet points to is the caller's buffer.
 */
#include "proto/mqtt_topic.h"
#include "proto/mqtt_wire.h"

bool mqtt_in_string(struct mqtt_in *in, struct mqtt_bytes *v, const char *cut, const char *utf8)
{
    if (!mqtt_in_binary(in, v, cut))
        return false;
    return mqtt_utf8_valid(v->data, v->len) ? true : mqtt_in_fail(in, MQTT_RC_MALFORMED, utf8);
}

/* Reading a string or binary field; the words go into the error's text. */
#define IN_STRING(in, v, words) mqtt_in_string(in, v, words " is cut off", words " is not valid UTF-8")
#define IN_BINARY(in, v, words) mqtt_in_binary(in, v, words " is cut off")

static bool is_v5(const struct mqtt_in *in) { return in->version == MQTT_V5; }

/* The rest of the packet as one byte range. */
static struct mqtt_bytes take_rest(struct mqtt_in *in)
{
    struct mqtt_bytes rest = {(const char *)in->at, (uint32_t)mqtt_in_left(in)};

    in->at = in->end;
    return rest;
}

/* Reads a packet identifier, which is never 0 ([MQTT-2.2.1-3]; 3.1.1: [MQTT-2.3.1-1]). */
static bool read_packet_id(struct mqtt_in *in, uint16_t *id)
{
    if (!mqtt_in_u16(in, id, "packet identifier is cut off"))
        return false;
    return *id ? true : mqtt_in_fail(in, MQTT_RC_PROTOCOL_ERROR, "packet identifier is 0");
}

/* Reads a reason code that may stand in this type of packet. */
static bool read_reason(struct mqtt_in *in, enum mqtt_type type, uint8_t *code)
{
    if (!mqtt_in_u8(in, code, "reason code is cut off"))
        return false;
    if (!mqtt_reason_allowed(type, *code))
        return mqtt_in_fail(in, MQTT_RC_PROTOCOL_ERROR, "reason code is not one of this packet's");
    return true;
}

/* Reads protocol name and level, and refuses what is neither 3.1.1 nor 5.0. */
static bool read_protocol(struct mqtt_in *in, struct mqtt_connect *c)
{
    struct mqtt_bytes name;

    c->level = 0;
    if (!IN_BINARY(in, &name, "CONNECT: protocol name"))
        return false;
    bool has_level = in->at < in->end;
    if (has_level)
        c->level = *in->at++;
    if (name.len == 6 && memcmp(name.data, "MQIsdp", 6) == 0)
        return mqtt_in_fail(in, MQTT_RC_UNSUPPORTED_VERSION, "CONNECT: MQTT 3.1 is not supported");
    if (name.len != 4 || memcmp(name.data, "MQTT", 4) != 0)
        return mqtt_in_fail(in, MQTT_RC_UNSUPPORTED_VERSION, "CONNECT: protocol name is not MQTT");
    if (!has_level)
        return mqtt_in_fail(in, MQTT_RC_MALFORMED, "CONNECT: protocol level is cut off");
    if (c->level != MQTT_V311 && c->level != MQTT_V5)
        return mqtt_in_fail(in, MQTT_RC_UNSUPPORTED_VERSION, "CONNECT: protocol level is neither 4 nor 5");
    in->version = c->level;
    if (is_v5(in) && in->overlong)
        return mqtt_in_fail(in, MQTT_RC_MALFORMED, "CONNECT: remaining length has needless bytes");
    return true;
}

/* Reads the connect flags (section 3.1.2.3). */
static bool read_connect_flags(struct mqtt_in *in, struct mqtt_connect *c)
{
    uint8_t f;

    if (!mqtt_in_u8(in, &f, "CONNECT: flags are cut off"))
        return false;
    c->clean_start = f & 0x02;
    c->has_will = f & 0x04;
    c->will_qos = f >> 3 & 3;
    c->will_retain = f & 0x20;
    c->has_password = f & 0x40;
    c->has_username = f & 0x80;
    if (f & 0x01) /* [MQTT-3.1.2-3] */
        return mqtt_in_fail(in, MQTT_RC_MALFORMED, "CONNECT: reserved flag is set");
    if (!c->has_will && (c->will_qos || c->will_retain)) /* [MQTT-3.1.2-11], -13 */
        return mqtt_in_fail(in, MQTT_RC_MALFORMED, "CONNECT: will QoS or will retain without a will");
    if (c->will_qos > 2) /* [MQTT-3.1.2-12] */
        return mqtt_in_fail(in, MQTT_RC_MALFORMED, "CONNECT: will QoS is 3");
    if (c->has_password && !c->has_username && !is_v5(in)) /* 3.1.1: [MQTT-3.1.2-22] */
        return mqtt_in_fail(in, MQTT_RC_MALFORMED, "CONNECT: password without user name");
    return true;
}

/* Reads the will's properties, topic and payload; without a will they are empty. */
static bool read_will(struct mqtt_in *in, struct mqtt_connect *c)
{
    c->will_props.present = 0;
    c->will_props.raw = c->will_topic = c->will_payload = (struct mqtt_bytes){0};
    if (!c->has_will)
        return true;
    if (!mqtt_in_props(in, MQTT_IN_WILL, &c->will_props) ||
        !IN_STRING(in, &c->will_topic, "CONNECT: will topic"))
        return false;
    if (!c->will_topic.len || mqtt_topic_has_wildcard(c->will_topic.data, c->will_topic.len))
        return mqtt_in_fail(in, MQTT_RC_TOPIC_NAME_INVALID, "CONNECT: will topic is not a topic name");
    return IN_BINARY(in, &c->will_payload, "CONNECT: will payload");
}

static bool decode_connect(struct mqtt_in *in, struct mqtt_packet *p)
{
    struct mqtt_connect *c = &p->u.connect;

    if (!read_protocol(in, c) || !read_connect_flags(in, c) ||
        !mqtt_in_u16(in, &c->keepalive_s, "CONNECT: keep alive is cut off") ||
        !mqtt_in_props(in, MQTT_IN(MQTT_CONNECT), &c->props))
        return false;
    if (mqtt_has(&c->props, MQTT_P_AUTH_DATA) && !mqtt_has(&c->props, MQTT_P_AUTH_METHOD))
        return mqtt_in_fail(in, MQTT_RC_PROTOCOL_ERROR, "CONNECT: Authentication Data without a method");
    if (!IN_STRING(in, &c->client_id, "CONNECT: client identifier") || !read_will(in, c))
        return false;
    c->username = c->password = (struct mqtt_bytes){0};
    if (c->has_username && !IN_STRING(in, &c->username, "CONNECT: user name"))
        return false;
    return !c->has_password || IN_BINARY(in, &c->password, "CONNECT: password");
}

static bool decode_connack(struct mqtt_in *in, struct mqtt_packet *p)
{
    struct mqtt_connack *c = &p->u.connack;
    uint8_t flags;

    if (!mqtt_in_u8(in, &flags, "CONNACK: flags are cut off"))
        return false;
    if (flags & 0xFE) /* [MQTT-3.2.2-1] */
        return mqtt_in_fail(in, MQTT_RC_MALFORMED, "CONNACK: reserved flags are set");
    c->session_present = flags;
    if (is_v5(in) ? !read_reason(in, MQTT_CONNACK, &c->code)
                  : !mqtt_in_u8(in, &c->code, "CONNACK: return code is cut off"))
        return false;
    if (!is_v5(in) && c->code > MQTT_311_NOT_AUTHORIZED)
        return mqtt_in_fail(in, MQTT_RC_PROTOCOL_ERROR, "CONNACK: return code is reserved");
    if (c->code && c->session_present) /* [MQTT-3.2.2-6]; 3.1.1: [MQTT-3.2.2-4] */
        return mqtt_in_fail(in, MQTT_RC_PROTOCOL_ERROR, "CONNACK: session present in a refusal");
    return mqtt_in_props(in, MQTT_IN(MQTT_CONNACK), &c->props);
}

static bool decode_publish(struct mqtt_in *in, struct mqtt_packet *p)
{
    struct mqtt_publish *m = &p->u.publish;

    m->dup = in->flags & 0x08;
    m->qos = in->flags >> 1 & 3;
    m->retain = in->flags & 0x01;
    m->packet_id = 0;
    if (!IN_STRING(in, &m->topic, "PUBLISH: topic"))
        return false;
    if (mqtt_topic_has_wildcard(m->topic.data, m->topic.len)) /* [MQTT-3.3.2-2] */
        return mqtt_in_fail(in, MQTT_RC_TOPIC_NAME_INVALID, "PUBLISH: topic has a wildcard");
    if (!m->topic.len && !is_v5(in)) /* [MQTT-4.7.3-1] */
        return mqtt_in_fail(in, MQTT_RC_TOPIC_NAME_INVALID, "PUBLISH: topic is empty");
    if (m->qos && !read_packet_id(in, &m->packet_id))
        return false;
    if (!mqtt_in_props(in, MQTT_IN(MQTT_PUBLISH), &m->props))
        return false;
    if (!m->topic.len && !mqtt_has(&m->props, MQTT_P_TOPIC_ALIAS))
        return mqtt_in_fail(in, MQTT_RC_PROTOCOL_ERROR, "PUBLISH: neither topic nor topic alias");
    m->payload = take_rest(in);
    return true;
}

/* PUBACK, PUBREC, PUBREL, PUBCOMP: 5.0 may leave out the properties, and the reason code too. */
static bool decode_ack(struct mqtt_in *in, struct mqtt_packet *p)
{
    struct mqtt_ack *a = &p->u.ack;

    a->code = 0;
    a->props.present = 0;
    a->props.raw = (struct mqtt_bytes){0};
    if (!read_packet_id(in, &a->packet_id))
        return false;
    if (in->at == in->end)
        return true;
    if (!read_reason(in, p->type, &a->code))
        return false;
    return in->at == in->end || mqtt_in_props(in, MQTT_IN(p->type), &a->props);
}

/* Checks a subscription's options byte (section 3.8.3.1; 3.1.1: section 3.8.3). */
static bool check_options(struct mqtt_in *in, const struct mqtt_bytes *filter, uint8_t options)
{
    if (!is_v5(in))
        return options <= 2 ? true
                            : mqtt_in_fail(in, MQTT_RC_MALFORMED, "SUBSCRIBE: QoS byte is not 0, 1 or 2");
    if (options & 0xC0) /* [MQTT-3.8.3-5] */
        return mqtt_in_fail(in, MQTT_RC_MALFORMED, "SUBSCRIBE: reserved option bits are set");
    if ((options & 0x03) == 3)
        return mqtt_in_fail(in, MQTT_RC_PROTOCOL_ERROR, "SUBSCRIBE: maximum QoS is 3");
    if ((options & 0x30) == 0x30)
        return mqtt_in_fail(in, MQTT_RC_PROTOCOL_ERROR, "SUBSCRIBE: retain handling is 3");
    if ((options & 0x04) && mqtt_topic_is_shared(filter->data, filter->len)) /* [MQTT-3.8.3-4] */
        return mqtt_in_fail(in, MQTT_RC_PROTOCOL_ERROR, "SUBSCRIBE: No Local on a shared subscription");
    return true;
}

/* Reads one entry of SUBSCRIBE or UNSUBSCRIBE. */
static bool read_entry(struct mqtt_in *in, bool has_options)
{
    struct mqtt_bytes filter;
    uint8_t options;

    if (!IN_STRING(in, &filter, "topic filter"))
        return false;
    if (!mqtt_topic_filter_shape(filter.data, filter.len))
        return mqtt_in_fail(in, MQTT_RC_TOPIC_FILTER_INVALID, "topic filter is empty or misuses + or #");
    if (is_v5(in) && !mqtt_topic_share_shape(filter.data, filter.len))
        return mqtt_in_fail(in, MQTT_RC_TOPIC_FILTER_INVALID, "shared subscription without name or filter");
    if (!has_options)
        return true;
    return mqtt_in_u8(in, &options, "SUBSCRIBE: options are cut off") && check_options(in, &filter, options);
}

/* SUBSCRIBE and UNSUBSCRIBE. */
static bool decode_subscribe(struct mqtt_in *in, struct mqtt_packet *p)
{
    struct mqtt_subscribe *s = &p->u.subscribe;
    bool has_options = p->type == MQTT_SUBSCRIBE;

    if (!read_packet_id(in, &s->packet_id) || !mqtt_in_props(in, MQTT_IN(p->type), &s->props))
        return false;
    s->entries = (struct mqtt_bytes){(const char *)in->at, (uint32_t)mqtt_in_left(in)};
    for (s->count = 0; in->at < in->end; s->count++)
        if (!read_entry(in, has_options))
            return false;
    if (s->count)
        return true;
    /* [MQTT-3.8.3-2], [MQTT-3.10.3-2] */
    return mqtt_in_fail(in, MQTT_RC_PROTOCOL_ERROR,
                        has_options ? "SUBSCRIBE: no topic filter" : "UNSUBSCRIBE: no topic filter");
}

/* Whether a SUBACK or UNSUBACK may have this code. */
static bool suback_code_allowed(const struct mqtt_in *in, enum mqtt_type type, uint8_t code)
{
    return is_v5(in) ? mqtt_reason_allowed(type, code) : code <= 2 || code == 0x80; /* [MQTT-3.9.3-2] */
}

/* SUBACK and UNSUBACK; the latter has no codes before 5.0. */
static bool decode_suback(struct mqtt_in *in, struct mqtt_packet *p)
{
    struct mqtt_suback *s = &p->u.suback;

    if (!read_packet_id(in, &s->packet_id) || !mqtt_in_props(in, MQTT_IN(p->type), &s->props))
        return false;
    s->codes = take_rest(in);
    for (uint32_t i = 0; i < s->codes.len; i++)
        if (!suback_code_allowed(in, p->type, (uint8_t)s->codes.data[i]))
            return mqtt_in_fail(in, MQTT_RC_PROTOCOL_ERROR, "reason code is not one of this packet's");
    if (!s->codes.len && (is_v5(in) || p->type == MQTT_SUBACK))
        return mqtt_in_fail(in, MQTT_RC_PROTOCOL_ERROR, "SUBACK or UNSUBACK: no reason code");
    return true;
}

/* PINGREQ and PINGRESP: the row's length limits have said it all. */
static bool decode_ping(struct mqtt_in *in, struct mqtt_packet *p)
{
    (void)in;
    (void)p;
    return true;
}

/* DISCONNECT: 5.0 may leave out the properties, and the reason code too. */
static bool decode_disconnect(struct mqtt_in *in, struct mqtt_packet *p)
{
    struct mqtt_disconnect *d = &p->u.disconnect;

    d->code = 0;
    d->props.present = 0;
    d->props.raw = (struct mqtt_bytes){0};
    if (in->at == in->end)
        return true;
    if (!read_reason(in, p->type, &d->code))
        return false;
    return in->at == in->end || mqtt_in_props(in, MQTT_IN(p->type), &d->props);
}

/* AUTH: either nothing at all, or properties with an Authentication Method (section 3.15.2.2.2). */
static bool decode_auth(struct mqtt_in *in, struct mqtt_packet *p)
{
    bool empty = in->at == in->end;

    if (!decode_disconnect(in, p))
        return false;
    if (empty || mqtt_has(&p->u.disconnect.props, MQTT_P_AUTH_METHOD))
        return true;
    return mqtt_in_fail(in, MQTT_RC_PROTOCOL_ERROR, "AUTH: no Authentication Method");
}

struct decode_row {
    uint16_t flags;          /* bit n: n is allowed as the low nibble of the first byte */
    uint32_t min[2], max[2]; /* remaining length in 3.1.1 and in 5.0 */
    bool (*body)(struct mqtt_in *, struct mqtt_packet *);
    const char *bad_flags, *bad_length, *trailing;
};

#define FLAGS_0000    (1u << 0)
#define FLAGS_0010    (1u << 2)
#define FLAGS_PUBLISH 0x3C3Fu /* neither QoS 3 nor DUP with QoS 0 */
#define MAX           MQTT_MAX_REMAINING
#define ROW(type, flags, min311, max311, min5, max5, body)                                                   \
    [MQTT_##type] = {flags,                                                                                  \
                     {min311, min5},                                                                         \
                     {max311, max5},                                                                         \
                     body,                                                                                   \
                     #type ": reserved flags are set",                                                       \
                     #type ": remaining length is not possible",                                             \
                     #type ": bytes after the last field"}

static const struct decode_row rows[16] = {
    [MQTT_RESERVED] = {.bad_flags = "packet type 0 is reserved"},
    ROW(CONNECT, FLAGS_0000, 2, MAX, 2, MAX, decode_connect),
    ROW(CONNACK, FLAGS_0000, 2, 2, 3, MAX, decode_connack),
    ROW(PUBLISH, FLAGS_PUBLISH, 2, MAX, 3, MAX, decode_publish),
    ROW(PUBACK, FLAGS_0000, 2, 2, 2, MAX, decode_ack),
    ROW(PUBREC, FLAGS_0000, 2, 2, 2, MAX, decode_ack),
    ROW(PUBREL, FLAGS_0010, 2, 2, 2, MAX, decode_ack),
    ROW(PUBCOMP, FLAGS_0000, 2, 2, 2, MAX, decode_ack),
    ROW(SUBSCRIBE, FLAGS_0010, 2, MAX, 3, MAX, decode_subscribe),
    ROW(SUBACK, FLAGS_0000, 2, MAX, 3, MAX, decode_suback),
    ROW(UNSUBSCRIBE, FLAGS_0010, 2, MAX, 3, MAX, decode_subscribe),
    ROW(UNSUBACK, FLAGS_0000, 2, 2, 3, MAX, decode_suback),
    ROW(PINGREQ, FLAGS_0000, 0, 0, 0, 0, decode_ping),
    ROW(PINGRESP, FLAGS_0000, 0, 0, 0, 0, decode_ping),
    ROW(DISCONNECT, FLAGS_0000, 0, 0, 0, MAX, decode_disconnect),
    ROW(AUTH, FLAGS_0000, 0, MAX, 0, MAX, decode_auth),
};

/* Which rule the flags of the first byte break. */
__attribute__((cold)) static const char *flags_text(uint8_t first)
{
    if (mqtt_peek_type(first) != MQTT_PUBLISH)
        return rows[first >> 4].bad_flags;
    return (first & 0x06) == 0x06 ? "PUBLISH: QoS is 3" : "PUBLISH: DUP with QoS 0"; /* [MQTT-3.3.1-4], -2 */
}

/* Reads the remaining length from the second byte on (section 2.1.4); MORE when it is not complete. */
static enum mqtt_result read_remaining(const unsigned char *b, size_t len, uint32_t *remaining,
                                       size_t *header)
{
    *remaining = 0;
    for (unsigned i = 0; i < 4; i++) {
        *header = i + 2;
        if (len < *header)
            return MQTT_MORE;
        *remaining |= (uint32_t)(b[i + 1] & 0x7F) << 7 * i;
        if (b[i + 1] < 0x80)
            return MQTT_OK;
    }
    return MQTT_BAD;
}

/* Checks what the complete fixed header says. */
static bool check_header(struct mqtt_in *in, enum mqtt_type type, size_t header, uint32_t remaining,
                         uint32_t max_packet)
{
    const struct decode_row *row = &rows[type];

    if (type == MQTT_AUTH && !is_v5(in))
        return mqtt_in_fail(in, MQTT_RC_MALFORMED, "AUTH: not a packet of MQTT 3.1.1");
    if (in->overlong && is_v5(in) && type != MQTT_CONNECT) /* [MQTT-1.5.5-1] */
        return mqtt_in_fail(in, MQTT_RC_MALFORMED, "remaining length has needless bytes");
    if (remaining < row->min[is_v5(in)] || remaining > row->max[is_v5(in)])
        return mqtt_in_fail(in, MQTT_RC_MALFORMED, row->bad_length);
    if (header + remaining > max_packet)
        return mqtt_in_fail(in, MQTT_RC_PACKET_TOO_LARGE, "packet is larger than allowed");
    return true;
}

/* Reads the fixed header of what begins at b; OK when the whole packet is there, which `in` then spans. */
static enum mqtt_result read_header(struct mqtt_in *in, const unsigned char *b, size_t len,
                                    uint32_t max_packet, size_t *used)
{
    uint32_t remaining;
    size_t header;

    in->flags = b[0] & 0x0F;
    if (!(rows[b[0] >> 4].flags >> in->flags & 1u)) {
        mqtt_in_fail(in, MQTT_RC_MALFORMED, flags_text(b[0]));
        return MQTT_BAD;
    }
    enum mqtt_result r = read_remaining(b, len, &remaining, &header);
    *used = header;
    if (r == MQTT_BAD)
        mqtt_in_fail(in, MQTT_RC_MALFORMED, "remaining length takes more than 4 bytes");
    if (r != MQTT_OK)
        return r;
    in->overlong = header > 2 && !b[header - 1];
    if (!check_header(in, mqtt_peek_type(b[0]), header, remaining, max_packet))
        return MQTT_BAD;
    *used = header + remaining;
    if (len < *used)
        return MQTT_MORE;
    in->at = b + header;
    in->end = in->at + remaining;
    return MQTT_OK;
}

enum mqtt_result mqtt_decode(const void *buf, size_t len, uint8_t version, uint32_t max_packet,
                             struct mqtt_packet *p, size_t *used, struct mqtt_error *e)
{
    const unsigned char *b = buf;
    struct mqtt_in in = {.version = version, .e = e};

    *used = 2;
    if (len == 0)
        return MQTT_MORE;
    p->type = mqtt_peek_type(b[0]);
    enum mqtt_result r = read_header(&in, b, len, max_packet, used);
    if (r == MQTT_BAD && p->type == MQTT_CONNECT)
        p->u.connect.level = 0;
    if (r != MQTT_OK)
        return r;
    if (!rows[p->type].body(&in, p))
        return MQTT_BAD;
    if (in.at == in.end)
        return MQTT_OK;
    mqtt_in_fail(&in, MQTT_RC_MALFORMED, rows[p->type].trailing);
    return MQTT_BAD;
}

bool mqtt_next_filter(const struct mqtt_packet *p, size_t *at, struct mqtt_bytes *filter, uint8_t *options)
{
    const struct mqtt_bytes *entries = &p->u.subscribe.entries;
    struct mqtt_error ignored;
    struct mqtt_in in = {.e = &ignored};
    uint8_t none, *to = options ? options : &none;

    if (*at >= entries->len)
        return false;
    in.at = (const unsigned char *)entries->data + *at;
    in.end = (const unsigned char *)entries->data + entries->len;
    if (!mqtt_in_binary(&in, filter, "") || (p->type == MQTT_SUBSCRIBE && !mqtt_in_u8(&in, to, "")))
        return false;
    *at = (size_t)(in.at - (const unsigned char *)entries->data);
    return true;
}
