/*
 * Private to proto/mqtt_*.c: a reader and a writer of MQTT's data types (MQTT 5.0 section 1.5), and what the
 * codec's files need from each other.
 */
#ifndef HOLDFAST_PROTO_MQTT_WIRE_H
#define HOLDFAST_PROTO_MQTT_WIRE_H

#include <string.h>

#include "proto/mqtt.h"

#define MQTT_MAX_STRING 65535u

/* Packet bodies: what may hold a property or a reason code. The will's properties are a place of their own.
 */
#define MQTT_IN(type) (1u << (type))
#define MQTT_IN_WILL  1u

/* What is left of the packet (or property list) that is being decoded. */
struct mqtt_in {
    const unsigned char *at, *end;
    uint8_t version;
    uint8_t flags; /* low nibble of the first byte */
    bool overlong; /* the remaining length used more bytes than needed */
    struct mqtt_error *e;
};

/* Says why the packet is bad. Always false, so that a reader can return it. */
__attribute__((cold)) static inline bool mqtt_in_fail(struct mqtt_in *in, uint8_t code, const char *text)
{
    in->e->code = code;
    in->e->text = text;
    return false;
}

static inline size_t mqtt_in_left(const struct mqtt_in *in) { return (size_t)(in->end - in->at); }

/* The readers below consume one value; false when it is cut off, which `cut` then says. */
static inline bool mqtt_in_u8(struct mqtt_in *in, uint8_t *v, const char *cut)
{
    if (in->at == in->end)
        return mqtt_in_fail(in, MQTT_RC_MALFORMED, cut);
    *v = *in->at++;
    return true;
}

static inline bool mqtt_in_u16(struct mqtt_in *in, uint16_t *v, const char *cut)
{
    if (mqtt_in_left(in) < 2)
        return mqtt_in_fail(in, MQTT_RC_MALFORMED, cut);
    *v = (uint16_t)(in->at[0] << 8 | in->at[1]);
    in->at += 2;
    return true;
}

static inline bool mqtt_in_u32(struct mqtt_in *in, uint32_t *v, const char *cut)
{
    if (mqtt_in_left(in) < 4)
        return mqtt_in_fail(in, MQTT_RC_MALFORMED, cut);
    *v = (uint32_t)in->at[0] << 24 | (uint32_t)in->at[1] << 16 | (uint32_t)in->at[2] << 8 | in->at[3];
    in->at += 4;
    return true;
}

/* A variable byte integer in the fewest bytes that hold it ([MQTT-1.5.5-1]); anything else is `bad`. */
static inline bool mqtt_in_varint(struct mqtt_in *in, uint32_t *v, const char *bad)
{
    *v = 0;
    for (unsigned i = 0; i < 4 && in->at < in->end; i++) {
        uint8_t b = *in->at++;
        *v |= (uint32_t)(b & 0x7F) << 7 * i;
        if (b < 0x80)
            return b || !i ? true : mqtt_in_fail(in, MQTT_RC_MALFORMED, bad);
    }
    return mqtt_in_fail(in, MQTT_RC_MALFORMED, bad);
}

static inline bool mqtt_in_binary(struct mqtt_in *in, struct mqtt_bytes *v, const char *cut)
{
    uint16_t len;

    if (!mqtt_in_u16(in, &len, cut))
        return false;
    if (mqtt_in_left(in) < len)
        return mqtt_in_fail(in, MQTT_RC_MALFORMED, cut);
    v->data = (const char *)in->at;
    v->len = len;
    in->at += len;
    return true;
}

/* A UTF-8 string (section 1.5.4). */
bool mqtt_in_string(struct mqtt_in *in, struct mqtt_bytes *v, const char *cut, const char *utf8);

/* Reads property length and properties of the place `where` (MQTT_IN(type) or MQTT_IN_WILL); before 5.0 there
 * are none. */
bool mqtt_in_props(struct mqtt_in *in, uint32_t where, struct mqtt_props *props);

/* Where bytes go while a packet is encoded: counted always, written only within `cap`. */
struct mqtt_out {
    unsigned char *data;
    size_t cap, len;
    uint8_t version;
    bool failed; /* something cannot be encoded */
};

static inline void mqtt_out_copy(struct mqtt_out *o, const void *data, size_t len)
{
    if (len && o->len <= o->cap && len <= o->cap - o->len)
        memcpy(o->data + o->len, data, len);
    o->len += len;
}

static inline void mqtt_out_u8(struct mqtt_out *o, uint8_t v) { mqtt_out_copy(o, &v, 1); }

static inline void mqtt_out_u16(struct mqtt_out *o, uint16_t v)
{
    mqtt_out_copy(o, (const uint8_t[]){(uint8_t)(v >> 8), (uint8_t)v}, 2);
}

static inline void mqtt_out_u32(struct mqtt_out *o, uint32_t v)
{
    mqtt_out_u16(o, (uint16_t)(v >> 16));
    mqtt_out_u16(o, (uint16_t)v);
}

static inline void mqtt_out_varint(struct mqtt_out *o, size_t v)
{
    if (v > MQTT_MAX_REMAINING)
        o->failed = true;
    for (; v > 0x7F; v >>= 7)
        mqtt_out_u8(o, (uint8_t)(v | 0x80));
    mqtt_out_u8(o, (uint8_t)v);
}

/* A string or binary data: two bytes of length, then the bytes. */
static inline void mqtt_out_bytes(struct mqtt_out *o, struct mqtt_bytes v)
{
    if (v.len > MQTT_MAX_STRING)
        o->failed = true;
    mqtt_out_u16(o, (uint16_t)v.len);
    mqtt_out_copy(o, v.data, v.len);
}

/* Property length and properties; nothing before 5.0. */
void mqtt_out_props(struct mqtt_out *o, const struct mqtt_props *props);

/* Whether section 2.4 allows the reason code in a packet of this type. */
bool mqtt_reason_allowed(enum mqtt_type type, uint8_t code);

/* mqtt_topic_filter_valid() without the check for UTF-8. */
bool mqtt_topic_filter_shape(const char *s, size_t len);
/* Whether what begins with $share/ has a share name without wildcards and a filter behind it
 * ([MQTT-4.8.2-1], -2); true for other filters. */
bool mqtt_topic_share_shape(const char *s, size_t len);

#endif
