/*
 * A message as JSON: the members of one object become what is to be published. api_publish.c feeds it with
 * objects. Members are read by table, one row per member, and what no row knows is an error that names it, so
 * that a spelling mistake does not pass for an option. Texts stay where the JSON parser has put them; only
 * base64 and properties are written out.
 */
#include "gateway/hub/api_message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/xmalloc.h"
#include "gateway/hub/base64.h"
#include "proto/mqtt.h"
#include "proto/mqtt_topic.h"

#define MAX_TEXT 65535u /* of an MQTT string (MQTT 5.0 section 1.5.4) */

/* A message as it is read. What it points to belongs to the JSON document, but for the two owned buffers. */
struct reading {
    const struct config *config;
    struct http_problem *problem;
    long index;                /* in the array, or -1 */
    const char *parent;        /* "" or "properties." */
    bool topic_given;          /* by the path: then the object may not have one */
    bool has_payload;          /* one of the two ways */
    const char *payload_field; /* which */
    bool is_text;              /* payload_format says UTF-8 */
    struct hub_publication out;
    char *decoded; /* owned: the payload that came as base64 */
    char *props;   /* owned: encoded properties */
    size_t props_len, props_room;
};

struct member {
    const char *name;
    bool (*read)(struct reading *r, const char *name, json_t *value);
};

/* Reports what is wrong with a member. Returns false. */
static bool wrong(struct reading *r, const char *member, const char *detail)
{
    char field[sizeof r->problem->field];
    if (r->index >= 0)
        snprintf(field, sizeof field, "[%ld]%s%s%s", r->index, *member ? "." : "", r->parent, member);
    else
        snprintf(field, sizeof field, "%s%s", r->parent, member);
    return http_problem_set(r->problem, 400, field, "%s", detail);
}

/* ---- values ---- */

/* A JSON string that MQTT can carry as one: UTF-8 without U+0000, at most 65,535 bytes. */
static bool read_text(struct reading *r, const char *name, json_t *value, struct mqtt_bytes *out)
{
    if (!json_is_string(value))
        return wrong(r, name, "expected a string");
    size_t len = json_string_length(value);
    if (len > MAX_TEXT)
        return wrong(r, name, "expected at most 65535 bytes");
    if (!mqtt_utf8_valid(json_string_value(value), len))
        return wrong(r, name, "U+0000 is not allowed here");
    *out = (struct mqtt_bytes){.data = json_string_value(value), .len = (uint32_t)len};
    return true;
}

/* A JSON string of base64, decoded into memory that the caller owns. */
static bool read_base64(struct reading *r, const char *name, json_t *value, char **out, size_t *len)
{
    if (!json_is_string(value))
        return wrong(r, name, "expected a string of base64");
    *out = xmalloc(base64_decoded_max(json_string_length(value)) + 1);
    if (base64_decode(json_string_value(value), json_string_length(value), *out, len))
        return true;
    free(*out);
    *out = NULL;
    return wrong(r, name, "expected base64 (RFC 4648 section 4: + and /, padded with =)");
}

/* An integer from min to max. */
static bool read_number(struct reading *r, const char *name, json_t *value, long long min, long long max,
                        uint32_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < min || json_integer_value(value) > max) {
        char detail[80];
        snprintf(detail, sizeof detail, "expected an integer from %lld to %lld", min, max);
        return wrong(r, name, detail);
    }
    *out = (uint32_t)json_integer_value(value);
    return true;
}

/* Reads an object by its table of members. */
static bool read_members(struct reading *r, const struct member *table, json_t *object)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        const struct member *m = table;
        while (m->name && strcmp(m->name, key) != 0)
            m++;
        if (!m->name)
            return wrong(r, key, "unknown member");
        if (!m->read(r, key, value))
            return false;
    }
    return true;
}

/* ---- properties ---- */

/* Makes room for so many more bytes of properties and returns where they go. */
static char *props_room(struct reading *r, size_t more)
{
    if (r->props_len + more > r->props_room) {
        r->props_room = 2 * (r->props_len + more);
        r->props = xrealloc(r->props, r->props_room);
    }
    return r->props + r->props_len;
}

/* Appends one property. Its encoding is at most 8 bytes longer than its text. */
static void put_prop(struct reading *r, enum mqtt_prop k, uint32_t num, struct mqtt_bytes text)
{
    size_t room = text.len + 8;
    size_t n = mqtt_prop_put(props_room(r, room), room, k, num, text);
    CHECK(n > 0 && n <= room);
    r->props_len += n;
}

static bool read_content_type(struct reading *r, const char *name, json_t *value)
{
    struct mqtt_bytes text;
    if (!read_text(r, name, value, &text))
        return false;
    put_prop(r, MQTT_P_CONTENT_TYPE, 0, text);
    return true;
}

static bool read_response_topic(struct reading *r, const char *name, json_t *value)
{
    struct mqtt_bytes text;
    if (!read_text(r, name, value, &text))
        return false;
    if (!mqtt_topic_name_valid(text.data, text.len))
        return wrong(r, name, "expected a topic name: not empty, without + and #");
    put_prop(r, MQTT_P_RESPONSE_TOPIC, 0, text);
    return true;
}

static bool read_correlation_data(struct reading *r, const char *name, json_t *value)
{
    char *data;
    size_t len;
    if (!read_base64(r, name, value, &data, &len))
        return false;
    bool fits = len <= MAX_TEXT;
    if (fits)
        put_prop(r, MQTT_P_CORRELATION_DATA, 0, (struct mqtt_bytes){.data = data, .len = (uint32_t)len});
    free(data);
    return fits || wrong(r, name, "expected at most 65535 bytes");
}

static bool read_payload_format(struct reading *r, const char *name, json_t *value)
{
    const char *text = json_string_value(value);
    r->is_text = text && strcmp(text, "utf-8") == 0;
    if (!r->is_text && (!text || strcmp(text, "bytes") != 0))
        return wrong(r, name, "expected \"utf-8\" or \"bytes\"");
    put_prop(r, MQTT_P_PAYLOAD_FORMAT, r->is_text, (struct mqtt_bytes){0});
    return true;
}

/* Does not become a property here: each delivery says what is left of it. */
static bool read_message_expiry(struct reading *r, const char *name, json_t *value)
{
    uint32_t seconds = 0;
    if (!read_number(r, name, value, 1, UINT32_MAX, &seconds))
        return false;
    r->out.expires_ms = clock_wall_ms() + (uint64_t)seconds * 1000;
    return true;
}

/* Appends one user property. */
static bool put_user(struct reading *r, struct mqtt_bytes key, struct mqtt_bytes value)
{
    size_t room = (size_t)key.len + value.len + 8;
    size_t n = mqtt_prop_put_user(props_room(r, room), room, key, value);
    CHECK(n > 0 && n <= room);
    r->props_len += n;
    return true;
}

/* One ["key", "value"]. */
static bool read_user_pair(struct reading *r, const char *name, json_t *pair)
{
    struct mqtt_bytes key, value;
    if (!json_is_array(pair) || json_array_size(pair) != 2)
        return wrong(r, name, "expected pairs of strings: [[\"key\", \"value\"], ...]");
    return read_text(r, name, json_array_get(pair, 0), &key) &&
           read_text(r, name, json_array_get(pair, 1), &value) && put_user(r, key, value);
}

/* User properties as an object, or as an array of pairs where keys repeat. */
static bool read_user(struct reading *r, const char *name, json_t *value)
{
    size_t i;
    const char *key;
    json_t *one;
    if (json_is_array(value)) {
        json_array_foreach(value, i, one) if (!read_user_pair(r, name, one)) return false;
        return true;
    }
    if (!json_is_object(value))
        return wrong(r, name, "expected an object, or an array of pairs of strings");
    json_object_foreach(value, key, one)
    {
        struct mqtt_bytes text;
        if (strlen(key) > MAX_TEXT)
            return wrong(r, name, "expected keys of at most 65535 bytes");
        if (!read_text(r, name, one, &text))
            return false;
        put_user(r, (struct mqtt_bytes){.data = key, .len = (uint32_t)strlen(key)}, text);
    }
    return true;
}

static const struct member property_members[] = {
    {"content_type", read_content_type},
    {"response_topic", read_response_topic},
    {"correlation_data", read_correlation_data},
    {"payload_format", read_payload_format},
    {"message_expiry", read_message_expiry},
    {"user", read_user},
    {NULL, NULL},
};

/* ---- the message ---- */

static bool read_topic(struct reading *r, const char *name, json_t *value)
{
    struct mqtt_bytes text;
    if (r->topic_given)
        return wrong(r, name, "the topic is given by the path; leave this out");
    if (!read_text(r, name, value, &text))
        return false;
    if (!mqtt_topic_name_valid(text.data, text.len))
        return wrong(r, name, "expected a topic name: not empty, without + and #");
    if (mqtt_topic_levels(text.data, text.len) > r->config->max_topic_levels)
        return wrong(r, name, "more levels than mqtt.max_topic_levels allows");
    if (mqtt_topic_is_reserved(text.data, text.len))
        return wrong(r, name, "topics below $SYS and $share are the gateway's own");
    r->out.topic = (struct ipc_bytes){.data = text.data, .len = text.len};
    return true;
}

/* Notes which member brought the payload; there must be only one. */
static bool take_payload(struct reading *r, const char *name, const char *data, size_t len)
{
    if (r->has_payload)
        return wrong(r, name, "payload and payload_base64 cannot both be given");
    if (len > IPC_MAX_DATA)
        return http_problem_set(r->problem, 413, name, "the payload has %zu bytes; at most %u are possible",
                                len, IPC_MAX_DATA);
    r->has_payload = true;
    r->payload_field = name;
    r->out.payload = (struct ipc_bytes){.data = data, .len = (uint32_t)len};
    return true;
}

static bool read_payload(struct reading *r, const char *name, json_t *value)
{
    if (!json_is_string(value))
        return wrong(r, name, "expected a string; use payload_base64 for bytes");
    return take_payload(r, "payload", json_string_value(value), json_string_length(value));
}

static bool read_payload_base64(struct reading *r, const char *name, json_t *value)
{
    size_t len;
    return read_base64(r, name, value, &r->decoded, &len) &&
           take_payload(r, "payload_base64", r->decoded, len);
}

static bool read_qos(struct reading *r, const char *name, json_t *value)
{
    uint32_t qos = 0;
    if (!read_number(r, name, value, 0, 2, &qos))
        return false;
    r->out.qos = (uint8_t)qos;
    return true;
}

static bool read_retain(struct reading *r, const char *name, json_t *value)
{
    if (!json_is_boolean(value))
        return wrong(r, name, "expected true or false");
    r->out.retain = json_is_true(value);
    return !r->out.retain || r->config->retain ||
           wrong(r, name, "retained messages are switched off (mqtt.retain)");
}

static bool read_properties(struct reading *r, const char *name, json_t *value)
{
    if (!json_is_object(value))
        return wrong(r, name, "expected an object");
    r->parent = "properties.";
    bool ok = read_members(r, property_members, value);
    r->parent = "";
    return ok;
}

static const struct member message_members[] = {
    {"topic", read_topic}, {"payload", read_payload}, {"payload_base64", read_payload_base64},
    {"qos", read_qos},     {"retain", read_retain},   {"properties", read_properties},
    {NULL, NULL},
};

/* Bytes of a variable byte integer (MQTT 5.0 section 1.5.5). */
static size_t varint_size(size_t n) { return n < 128 ? 1 : n < 16384 ? 2 : n < 2097152 ? 3 : 4; }

/* Bytes of the MQTT 5 PUBLISH packet that this becomes, at the most. */
static size_t packet_size(const struct reading *r)
{
    size_t props = r->props_len + (r->out.expires_ms ? 5 : 0);
    size_t remaining =
        2 + r->out.topic.len + (r->out.qos ? 2 : 0) + varint_size(props) + props + r->out.payload.len;
    return 1 + varint_size(remaining) + remaining;
}

/* What can be said only when all members have been read. */
static bool check_whole(struct reading *r)
{
    if (!r->topic_given && r->out.topic.len == 0)
        return wrong(r, "topic", "missing");
    if (!r->has_payload)
        return wrong(r, "payload", "missing; give payload or payload_base64");
    if (r->is_text && !mqtt_utf8_valid(r->out.payload.data, r->out.payload.len))
        return wrong(r, r->payload_field, "not UTF-8 without U+0000, as payload_format promises");
    if (packet_size(r) > r->config->max_packet_size) {
        wrong(r, r->payload_field, "");
        char field[sizeof r->problem->field];
        memcpy(field, r->problem->field, sizeof field);
        return http_problem_set(r->problem, 413, field,
                                "the message would be a packet of %zu bytes; mqtt.max_packet_size allows %u",
                                packet_size(r), r->config->max_packet_size);
    }
    r->out.props = (struct ipc_bytes){.data = r->props, .len = (uint32_t)r->props_len};
    return true;
}

bool api_message_read(struct api_message *m, const struct config *c, json_t *object,
                      const struct ipc_bytes *topic, long index, struct http_problem *problem)
{
    struct reading r = {
        .config = c, .problem = problem, .index = index, .parent = "", .topic_given = topic != NULL};
    if (topic)
        r.out.topic = *topic;
    bool ok = json_is_object(object)
                  ? read_members(&r, message_members, object) && check_whole(&r)
                  : wrong(&r, "", "expected an object: {\"topic\": ..., \"payload\": ...}");
    *m = (struct api_message){.out = r.out, .decoded = r.decoded, .props = r.props};
    return ok;
}

void api_message_release(struct api_message *m)
{
    free(m->decoded);
    free(m->props);
}
