/*
 * Packets -> bytes. The row of a packet's type says its flags and which function writes its body; the body
 * is written twice, first only to count it, because its length stands in front of it. What can be written is
 * decided by the caller: this is no second validator, it refuses only what has no encoding.
 */
#include "proto/mqtt_wire.h"

static bool is_v5(const struct mqtt_out *o) { return o->version == MQTT_V5; }

static bool has_props(const struct mqtt_props *p) { return p->present || p->raw.len; }

/* Connect flags (section 3.1.2.3). */
static uint8_t connect_flags(const struct mqtt_connect *c)
{
    uint8_t will = (uint8_t)(0x04 | c->will_qos << 3 | (c->will_retain ? 0x20 : 0));

    return (uint8_t)((c->clean_start ? 0x02 : 0) | (c->has_will ? will : 0) | (c->has_password ? 0x40 : 0) |
                     (c->has_username ? 0x80 : 0));
}

static void encode_connect(struct mqtt_out *o, const struct mqtt_packet *p)
{
    const struct mqtt_connect *c = &p->u.connect;

    if (c->will_qos > 2 || (!is_v5(o) && c->has_password && !c->has_username))
        o->failed = true;
    mqtt_out_bytes(o, (struct mqtt_bytes){"MQTT", 4});
    mqtt_out_u8(o, o->version);
    mqtt_out_u8(o, connect_flags(c));
    mqtt_out_u16(o, c->keepalive_s);
    mqtt_out_props(o, &c->props);
    mqtt_out_bytes(o, c->client_id);
    if (c->has_will) {
        mqtt_out_props(o, &c->will_props);
        mqtt_out_bytes(o, c->will_topic);
        mqtt_out_bytes(o, c->will_payload);
    }
    if (c->has_username)
        mqtt_out_bytes(o, c->username);
    if (c->has_password)
        mqtt_out_bytes(o, c->password);
}

static void encode_connack(struct mqtt_out *o, const struct mqtt_packet *p)
{
    mqtt_out_u8(o, p->u.connack.session_present);
    mqtt_out_u8(o, p->u.connack.code);
    mqtt_out_props(o, &p->u.connack.props);
}

static void encode_publish(struct mqtt_out *o, const struct mqtt_packet *p)
{
    const struct mqtt_publish *m = &p->u.publish;

    if (m->qos > 2)
        o->failed = true;
    mqtt_out_bytes(o, m->topic);
    if (m->qos)
        mqtt_out_u16(o, m->packet_id);
    mqtt_out_props(o, &m->props);
    mqtt_out_copy(o, m->payload.data, m->payload.len);
}

/* PUBACK, PUBREC, PUBREL, PUBCOMP (section 3.4.2.1: the shortest form that says it). */
static void encode_ack(struct mqtt_out *o, const struct mqtt_packet *p)
{
    const struct mqtt_ack *a = &p->u.ack;

    mqtt_out_u16(o, a->packet_id);
    if (!is_v5(o) || (!a->code && !has_props(&a->props)))
        return;
    mqtt_out_u8(o, a->code);
    if (has_props(&a->props))
        mqtt_out_props(o, &a->props);
}

/* SUBSCRIBE and UNSUBSCRIBE. */
static void encode_subscribe(struct mqtt_out *o, const struct mqtt_packet *p)
{
    const struct mqtt_subscribe *s = &p->u.subscribe;

    mqtt_out_u16(o, s->packet_id);
    mqtt_out_props(o, &s->props);
    mqtt_out_copy(o, s->entries.data, s->entries.len);
}

/* SUBACK and UNSUBACK; the latter has no codes before 5.0. */
static void encode_suback(struct mqtt_out *o, const struct mqtt_packet *p)
{
    const struct mqtt_suback *s = &p->u.suback;

    mqtt_out_u16(o, s->packet_id);
    mqtt_out_props(o, &s->props);
    if (is_v5(o) || p->type == MQTT_SUBACK)
        mqtt_out_copy(o, s->codes.data, s->codes.len);
}

/* PINGREQ and PINGRESP have no body. */
static void encode_ping(struct mqtt_out *o, const struct mqtt_packet *p)
{
    (void)o;
    (void)p;
}

/* DISCONNECT (section 3.14.2.1: the shortest form that says it). */
static void encode_disconnect(struct mqtt_out *o, const struct mqtt_packet *p)
{
    const struct mqtt_disconnect *d = &p->u.disconnect;

    if (!is_v5(o) || (!d->code && !has_props(&d->props)))
        return;
    mqtt_out_u8(o, d->code);
    if (has_props(&d->props))
        mqtt_out_props(o, &d->props);
}

/* AUTH, which 3.1.1 does not have. */
static void encode_auth(struct mqtt_out *o, const struct mqtt_packet *p)
{
    if (!is_v5(o))
        o->failed = true;
    encode_disconnect(o, p);
}

struct encode_row {
    uint8_t flags;
    void (*body)(struct mqtt_out *, const struct mqtt_packet *);
};

static const struct encode_row rows[16] = {
    [MQTT_CONNECT] = {0x0, encode_connect}, [MQTT_CONNACK] = {0x0, encode_connack},
    [MQTT_PUBLISH] = {0x0, encode_publish}, [MQTT_PUBACK] = {0x0, encode_ack},
    [MQTT_PUBREC] = {0x0, encode_ack},      [MQTT_PUBREL] = {0x2, encode_ack},
    [MQTT_PUBCOMP] = {0x0, encode_ack},     [MQTT_SUBSCRIBE] = {0x2, encode_subscribe},
    [MQTT_SUBACK] = {0x0, encode_suback},   [MQTT_UNSUBSCRIBE] = {0x2, encode_subscribe},
    [MQTT_UNSUBACK] = {0x0, encode_suback}, [MQTT_PINGREQ] = {0x0, encode_ping},
    [MQTT_PINGRESP] = {0x0, encode_ping},   [MQTT_DISCONNECT] = {0x0, encode_disconnect},
    [MQTT_AUTH] = {0x0, encode_auth},
};

/* The packet's first byte. */
static uint8_t first_byte(const struct mqtt_packet *p)
{
    uint8_t flags = rows[p->type].flags;

    if (p->type == MQTT_PUBLISH)
        flags = (uint8_t)((p->u.publish.dup ? 0x8 : 0) | p->u.publish.qos << 1 | p->u.publish.retain);
    return (uint8_t)(p->type << 4 | (flags & 0x0F));
}

size_t mqtt_encode(const struct mqtt_packet *p, uint8_t version, void *out, size_t cap)
{
    struct mqtt_out counted = {.version = version};
    struct mqtt_out o = {.data = out, .version = version};

    if ((unsigned)p->type > MQTT_AUTH || !rows[p->type].body)
        return 0;
    rows[p->type].body(&counted, p);
    if (counted.failed || counted.len > MQTT_MAX_REMAINING)
        return 0;
    size_t total = counted.len + (counted.len < 128       ? 2
                                  : counted.len < 16384   ? 3
                                  : counted.len < 2097152 ? 4
                                                          : 5);
    if (total > cap)
        return total;
    o.cap = cap;
    mqtt_out_u8(&o, first_byte(p));
    mqtt_out_varint(&o, counted.len);
    rows[p->type].body(&o, p);
    return total;
}

size_t mqtt_put_filter(char *out, size_t cap, struct mqtt_bytes filter, bool is_subscribe, uint8_t options)
{
    struct mqtt_out o = {.data = (unsigned char *)out, .cap = cap};

    mqtt_out_bytes(&o, filter);
    if (is_subscribe)
        mqtt_out_u8(&o, options);
    return o.failed ? 0 : o.len;
}
