/*
 * MQTT 5 properties: one table says everything about each of them, and one reader and one writer go by it.
 * The packet decoder and encoder call in here for every property list; sessions use the rest to look at user
 * properties and to take over what must be forwarded. What a property means is nobody's business here.
 */
#include "proto/mqtt_topic.h"
#include "proto/mqtt_wire.h"

enum wire { U8, U16, U32, VARINT, STRING, BINARY, PAIR };

struct prop_row {
    uint8_t id; /* identifier in the standard */
    uint8_t wire;
    uint8_t code;      /* reason code for a value that is out of range */
    uint32_t packets;  /* where it may stand */
    uint32_t repeats;  /* where it may stand more than once */
    uint32_t min, max; /* of a number */
    const char *misplaced, *repeated, *bad, *cut, *utf8;
};

#define CONNECT    MQTT_IN(MQTT_CONNECT)
#define CONNACK    MQTT_IN(MQTT_CONNACK)
#define PUBLISH    MQTT_IN(MQTT_PUBLISH)
#define SUBSCRIBE  MQTT_IN(MQTT_SUBSCRIBE)
#define DISCONNECT MQTT_IN(MQTT_DISCONNECT)
#define AUTH       MQTT_IN(MQTT_AUTH)
#define WILL       MQTT_IN_WILL
#define ACKS                                                                                                 \
    (MQTT_IN(MQTT_PUBACK) | MQTT_IN(MQTT_PUBREC) | MQTT_IN(MQTT_PUBREL) | MQTT_IN(MQTT_PUBCOMP) |            \
     MQTT_IN(MQTT_SUBACK) | MQTT_IN(MQTT_UNSUBACK))
#define ALL                                                                                                  \
    (CONNECT | CONNACK | PUBLISH | WILL | SUBSCRIBE | MQTT_IN(MQTT_UNSUBSCRIBE) | ACKS | DISCONNECT | AUTH)
#define NUM UINT32_MAX

/* Name, identifier, wire type, where allowed, where repeatable, smallest and largest value, code if outside,
 * words (section 2.2.2.2). */
#define PROPERTIES(X)                                                                                        \
    X(PAYLOAD_FORMAT, 0x01, U8, PUBLISH | WILL, 0, 0, 1, 0x82, "Payload Format Indicator")                   \
    X(MESSAGE_EXPIRY, 0x02, U32, PUBLISH | WILL, 0, 0, NUM, 0x82, "Message Expiry Interval")                 \
    X(CONTENT_TYPE, 0x03, STRING, PUBLISH | WILL, 0, 0, 0, 0x82, "Content Type")                             \
    X(RESPONSE_TOPIC, 0x08, STRING, PUBLISH | WILL, 0, 0, 0, 0x90, "Response Topic")                         \
    X(CORRELATION_DATA, 0x09, BINARY, PUBLISH | WILL, 0, 0, 0, 0x82, "Correlation Data")                     \
    X(SUBSCRIPTION_ID, 0x0B, VARINT, PUBLISH | SUBSCRIBE, PUBLISH, 1, NUM, 0x82, "Subscription Identifier")  \
    X(SESSION_EXPIRY, 0x11, U32, CONNECT | CONNACK | DISCONNECT, 0, 0, NUM, 0x82, "Session Expiry Interval") \
    X(ASSIGNED_CLIENT_ID, 0x12, STRING, CONNACK, 0, 0, 0, 0x82, "Assigned Client Identifier")                \
    X(SERVER_KEEP_ALIVE, 0x13, U16, CONNACK, 0, 0, NUM, 0x82, "Server Keep Alive")                           \
    X(AUTH_METHOD, 0x15, STRING, CONNECT | CONNACK | AUTH, 0, 0, 0, 0x82, "Authentication Method")           \
    X(AUTH_DATA, 0x16, BINARY, CONNECT | CONNACK | AUTH, 0, 0, 0, 0x82, "Authentication Data")               \
    X(REQUEST_PROBLEM, 0x17, U8, CONNECT, 0, 0, 1, 0x82, "Request Problem Information")                      \
    X(WILL_DELAY, 0x18, U32, WILL, 0, 0, NUM, 0x82, "Will Delay Interval")                                   \
    X(REQUEST_RESPONSE, 0x19, U8, CONNECT, 0, 0, 1, 0x82, "Request Response Information")                    \
    X(RESPONSE_INFO, 0x1A, STRING, CONNACK, 0, 0, 0, 0x82, "Response Information")                           \
    X(SERVER_REFERENCE, 0x1C, STRING, CONNACK | DISCONNECT, 0, 0, 0, 0x82, "Server Reference")               \
    X(REASON_STRING, 0x1F, STRING, CONNACK | ACKS | DISCONNECT | AUTH, 0, 0, 0, 0x82, "Reason String")       \
    X(RECEIVE_MAX, 0x21, U16, CONNECT | CONNACK, 0, 1, NUM, 0x82, "Receive Maximum")                         \
    X(TOPIC_ALIAS_MAX, 0x22, U16, CONNECT | CONNACK, 0, 0, NUM, 0x82, "Topic Alias Maximum")                 \
    X(TOPIC_ALIAS, 0x23, U16, PUBLISH, 0, 1, NUM, 0x94, "Topic Alias")                                       \
    X(MAXIMUM_QOS, 0x24, U8, CONNACK, 0, 0, 1, 0x82, "Maximum QoS")                                          \
    X(RETAIN_AVAILABLE, 0x25, U8, CONNACK, 0, 0, 1, 0x82, "Retain Available")                                \
    X(USER_PROPERTY, 0x26, PAIR, ALL, ALL, 0, 0, 0x82, "User Property")                                      \
    X(MAXIMUM_PACKET_SIZE, 0x27, U32, CONNECT | CONNACK, 0, 1, NUM, 0x82, "Maximum Packet Size")             \
    X(WILDCARD_AVAILABLE, 0x28, U8, CONNACK, 0, 0, 1, 0x82, "Wildcard Subscription Available")               \
    X(SUBID_AVAILABLE, 0x29, U8, CONNACK, 0, 0, 1, 0x82, "Subscription Identifiers Available")               \
    X(SHARED_AVAILABLE, 0x2A, U8, CONNACK, 0, 0, 1, 0x82, "Shared Subscription Available")

#define AS_ROW(name, id, wire, packets, repeats, min, max, code, words)                                      \
    [MQTT_P_##name] = {id,                                                                                   \
                       wire,                                                                                 \
                       code,                                                                                 \
                       packets,                                                                              \
                       repeats,                                                                              \
                       min,                                                                                  \
                       max,                                                                                  \
                       words " is not allowed in this packet",                                               \
                       words " is there twice",                                                              \
                       words " has a value that is not allowed",                                             \
                       words " is cut off or malformed",                                                     \
                       words " is not valid UTF-8"},
static const struct prop_row rows[MQTT_P_COUNT] = {PROPERTIES(AS_ROW)};

#define AS_INDEX(name, id, wire, packets, repeats, min, max, code, words) [id] = MQTT_P_##name + 1,
static const uint8_t index_plus_1[0x80] = {PROPERTIES(AS_INDEX)};

/* What the wire type can hold. */
static const uint32_t wire_max[] = {
    [U8] = UINT8_MAX, [U16] = UINT16_MAX, [U32] = UINT32_MAX, [VARINT] = MQTT_MAX_REMAINING};

#define FORWARDED                                                                                            \
    (1u << MQTT_P_PAYLOAD_FORMAT | 1u << MQTT_P_CONTENT_TYPE | 1u << MQTT_P_RESPONSE_TOPIC |                 \
     1u << MQTT_P_CORRELATION_DATA | 1u << MQTT_P_USER_PROPERTY)

/* All that the value array holds. */
#define SINGLE (((1u << MQTT_P_COUNT) - 1) & ~(1u << MQTT_P_USER_PROPERTY))

/* One property's value. */
struct prop_value {
    uint32_t num;
    struct mqtt_bytes bytes, second; /* second: a pair's value */
};

static bool is_numeric(const struct prop_row *row) { return row->wire <= VARINT; }

/* Reads the identifier of the next property. */
static bool read_key(struct mqtt_in *in, enum mqtt_prop *k)
{
    uint8_t id;

    if (!mqtt_in_u8(in, &id, "property identifier is cut off"))
        return false;
    if (id >= sizeof index_plus_1 || !index_plus_1[id])
        return mqtt_in_fail(in, MQTT_RC_MALFORMED, "unknown property");
    *k = (enum mqtt_prop)(index_plus_1[id] - 1);
    return true;
}

/* Reads a number of 1, 2 or 4 bytes, or a variable one. */
static bool read_number(struct mqtt_in *in, const struct prop_row *row, uint32_t *num)
{
    uint8_t u8;
    uint16_t u16;

    switch (row->wire) {
    case U8:
        if (!mqtt_in_u8(in, &u8, row->cut))
            return false;
        *num = u8;
        return true;
    case U16:
        if (!mqtt_in_u16(in, &u16, row->cut))
            return false;
        *num = u16;
        return true;
    case U32:
        return mqtt_in_u32(in, num, row->cut);
    default:
        return mqtt_in_varint(in, num, row->cut);
    }
}

/* Reads the value that follows an identifier. */
static bool read_value(struct mqtt_in *in, const struct prop_row *row, struct prop_value *v)
{
    switch (row->wire) {
    case STRING:
        return mqtt_in_string(in, &v->bytes, row->cut, row->utf8);
    case BINARY:
        return mqtt_in_binary(in, &v->bytes, row->cut);
    case PAIR:
        return mqtt_in_string(in, &v->bytes, row->cut, row->utf8) &&
               mqtt_in_string(in, &v->second, row->cut, row->utf8);
    default:
        return read_number(in, row, &v->num);
    }
}

/* Whether the value is one that the standard allows. */
static bool value_allowed(enum mqtt_prop k, const struct prop_value *v)
{
    if (k == MQTT_P_RESPONSE_TOPIC)
        return v->bytes.len && !mqtt_topic_has_wildcard(v->bytes.data, v->bytes.len);
    return !is_numeric(&rows[k]) || (v->num >= rows[k].min && v->num <= rows[k].max);
}

/* Keeps a value as the property's first one. */
static void store_value(struct mqtt_props *props, enum mqtt_prop k, const struct prop_value *v)
{
    if (is_numeric(&rows[k]))
        props->value[k].num = v->num;
    else
        props->value[k].bytes = v->bytes;
    props->present |= 1u << k;
}

/* Reads one property and, unless it only repeats, stores it. */
static bool read_property(struct mqtt_in *in, uint32_t where, struct mqtt_props *props)
{
    enum mqtt_prop k;
    struct prop_value v;

    if (!read_key(in, &k))
        return false;
    const struct prop_row *row = &rows[k];
    bool again = mqtt_has(props, k);
    if (!(row->packets & where))
        return mqtt_in_fail(in, MQTT_RC_MALFORMED, row->misplaced);
    if (again && !(row->repeats & where))
        return mqtt_in_fail(in, MQTT_RC_PROTOCOL_ERROR, row->repeated);
    if (!read_value(in, row, &v))
        return false;
    if (!value_allowed(k, &v))
        return mqtt_in_fail(in, row->code, row->bad);
    if (!again)
        store_value(props, k, &v);
    return true;
}

bool mqtt_in_props(struct mqtt_in *in, uint32_t where, struct mqtt_props *props)
{
    uint32_t len;

    props->present = 0;
    props->raw = (struct mqtt_bytes){0};
    if (in->version != MQTT_V5)
        return true;
    if (!mqtt_in_varint(in, &len, "property length is malformed or cut off"))
        return false;
    if (len > mqtt_in_left(in))
        return mqtt_in_fail(in, MQTT_RC_MALFORMED, "properties are longer than the packet");
    struct mqtt_in list = *in;
    list.end = in->at + len;
    props->raw = (struct mqtt_bytes){(const char *)in->at, len};
    in->at = list.end;
    while (list.at < list.end)
        if (!read_property(&list, where, props))
            return false;
    return true;
}

void mqtt_props_set_num(struct mqtt_props *p, enum mqtt_prop k, uint32_t num)
{
    p->value[k].num = num;
    p->present |= 1u << k;
}

void mqtt_props_set_bytes(struct mqtt_props *p, enum mqtt_prop k, const char *data, size_t len)
{
    /* A length that does not fit stays too long, so that encoding fails instead of cutting it. */
    p->value[k].bytes = (struct mqtt_bytes){data, len > UINT32_MAX ? UINT32_MAX : (uint32_t)len};
    p->present |= 1u << k;
}

/* Walks a decoded list from *at; false at its end. */
static bool next_property(const struct mqtt_bytes *raw, size_t *at, enum mqtt_prop *k, struct prop_value *v)
{
    const unsigned char *base = (const unsigned char *)raw->data;
    struct mqtt_error ignored;
    struct mqtt_in in = {.version = MQTT_V5, .e = &ignored};

    if (*at >= raw->len)
        return false;
    in.at = base + *at;
    in.end = base + raw->len;
    if (!read_key(&in, k) || !read_value(&in, &rows[*k], v))
        return false;
    *at = (size_t)(in.at - base);
    return true;
}

bool mqtt_props_next_user(const struct mqtt_props *p, size_t *at, struct mqtt_bytes *name,
                          struct mqtt_bytes *value)
{
    enum mqtt_prop k;
    struct prop_value v;

    while (next_property(&p->raw, at, &k, &v)) {
        if (k != MQTT_P_USER_PROPERTY)
            continue;
        *name = v.bytes;
        *value = v.second;
        return true;
    }
    return false;
}

size_t mqtt_props_forward(const struct mqtt_props *p, char *out, size_t cap)
{
    struct mqtt_out o = {.data = (unsigned char *)out, .cap = cap};
    enum mqtt_prop k;
    struct prop_value v;

    if (!(p->present & FORWARDED))
        return 0;
    for (size_t at = 0, from = 0; next_property(&p->raw, &at, &k, &v); from = at)
        if (FORWARDED >> k & 1u)
            mqtt_out_copy(&o, p->raw.data + from, at - from);
    return o.len;
}

/* Writes a property of any type but the pair. */
static void out_property(struct mqtt_out *o, enum mqtt_prop k, uint32_t num, struct mqtt_bytes bytes)
{
    const struct prop_row *row = &rows[k];

    mqtt_out_u8(o, row->id);
    if (!is_numeric(row)) {
        mqtt_out_bytes(o, bytes);
        return;
    }
    if (num > wire_max[row->wire])
        o->failed = true;
    else if (row->wire == U8)
        mqtt_out_u8(o, (uint8_t)num);
    else if (row->wire == U16)
        mqtt_out_u16(o, (uint16_t)num);
    else if (row->wire == U32)
        mqtt_out_u32(o, num);
    else
        mqtt_out_varint(o, num);
}

/* The present values, then the ready bytes. */
static void out_list(struct mqtt_out *o, const struct mqtt_props *props)
{
    static const struct mqtt_bytes none;

    for (uint32_t left = props->present & SINGLE; left; left &= left - 1) {
        enum mqtt_prop k = (enum mqtt_prop)__builtin_ctz(left);
        if (is_numeric(&rows[k]))
            out_property(o, k, props->value[k].num, none);
        else
            out_property(o, k, 0, props->value[k].bytes);
    }
    mqtt_out_copy(o, props->raw.data, props->raw.len);
}

void mqtt_out_props(struct mqtt_out *o, const struct mqtt_props *props)
{
    struct mqtt_out counted = {.version = o->version};

    if (o->version != MQTT_V5)
        return;
    out_list(&counted, props);
    mqtt_out_varint(o, counted.len);
    out_list(o, props);
}

size_t mqtt_prop_put_user(char *out, size_t cap, struct mqtt_bytes name, struct mqtt_bytes value)
{
    struct mqtt_out o = {.data = (unsigned char *)out, .cap = cap};

    mqtt_out_u8(&o, rows[MQTT_P_USER_PROPERTY].id);
    mqtt_out_bytes(&o, name);
    mqtt_out_bytes(&o, value);
    return o.failed ? 0 : o.len;
}

size_t mqtt_prop_put(char *out, size_t cap, enum mqtt_prop k, uint32_t num, struct mqtt_bytes bytes)
{
    struct mqtt_out o = {.data = (unsigned char *)out, .cap = cap};

    if (k == MQTT_P_USER_PROPERTY)
        return 0;
    out_property(&o, k, num, bytes);
    return o.failed ? 0 : o.len;
}
