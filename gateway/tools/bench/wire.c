/*
 * Packets out of the codec. Everything is encoded by proto/mqtt; the one short cut is the recognition of the
 * most common delivery, because the clients share the machine with the server that is measured.
 */
#include "gateway/tools/bench/wire.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gateway/base/check.h"
#include "gateway/base/xmalloc.h"
#include "proto/mqtt.h"

/* Reads the clock without a system call. */
uint64_t wire_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A string as the codec wants it. */
static struct mqtt_bytes bytes_of(const char *s) { return (struct mqtt_bytes){s, (uint32_t)strlen(s)}; }

/* Encodes and insists that it fitted. */
static size_t encode(const struct mqtt_packet *p, uint8_t version, char *out, size_t cap)
{
    size_t n = mqtt_encode(p, version, out, cap);
    CHECK(n > 0 && n <= cap);
    return n;
}

/* CONNECT without a will or a user. */
size_t wire_connect(char *out, size_t cap, uint8_t version, const struct wire_connect *c)
{
    struct mqtt_packet p = {.type = MQTT_CONNECT};
    p.u.connect.level = version;
    p.u.connect.clean_start = !c->persistent;
    p.u.connect.keepalive_s = c->keepalive_s;
    p.u.connect.client_id = bytes_of(c->client_id);
    if (c->persistent)
        mqtt_props_set_num(&p.u.connect.props, MQTT_P_SESSION_EXPIRY, WIRE_SESSION_EXPIRY_S);
    return encode(&p, version, out, cap);
}

/* SUBSCRIBE to one topic. */
size_t wire_subscribe(char *out, size_t cap, uint8_t version, uint16_t packet_id, const char *topic,
                      uint8_t qos)
{
    char entry[WIRE_MAX_SMALL];
    size_t n = mqtt_put_filter(entry, sizeof entry, bytes_of(topic), true, qos);
    CHECK(n <= sizeof entry);
    struct mqtt_packet p = {.type = MQTT_SUBSCRIBE};
    p.u.subscribe.packet_id = packet_id;
    p.u.subscribe.count = 1;
    p.u.subscribe.entries = (struct mqtt_bytes){entry, (uint32_t)n};
    return encode(&p, version, out, cap);
}

/* The heartbeat. */
size_t wire_pingreq(char *out, size_t cap)
{
    struct mqtt_packet p = {.type = MQTT_PINGREQ};
    return encode(&p, MQTT_V311, out, cap);
}

/* A clean goodbye. */
size_t wire_disconnect(char *out, size_t cap, uint8_t version)
{
    struct mqtt_packet p = {.type = MQTT_DISCONNECT};
    return encode(&p, version, out, cap);
}

void wire_put_id(char *at, uint16_t packet_id)
{
    at[0] = (char)(packet_id >> 8);
    at[1] = (char)packet_id;
}

/* Fixed header and packet identifier; PUBREL has 2 in its flags (section 3.6.1). */
void wire_ack(char *out, uint8_t type, uint16_t packet_id)
{
    out[0] = (char)(type << 4 | (type == MQTT_PUBREL ? 2 : 0));
    out[1] = 2;
    wire_put_id(out + 2, packet_id);
}

/* PUBLISH with a stamped payload; the rest of the payload is letters. */
size_t wire_publish(char *out, size_t cap, uint8_t version, const char *topic, uint8_t qos,
                    size_t payload_len, const struct wire_stamp *stamp, struct wire_places *at)
{
    CHECK(payload_len >= sizeof *stamp);
    char *payload = xmalloc(payload_len);
    for (size_t i = 0; i < payload_len; i++)
        payload[i] = (char)('a' + i % 26);
    memcpy(payload, stamp, sizeof *stamp);
    struct mqtt_packet p = {.type = MQTT_PUBLISH};
    p.u.publish.topic = bytes_of(topic);
    p.u.publish.qos = qos;
    p.u.publish.packet_id = qos > 0;
    p.u.publish.payload = (struct mqtt_bytes){payload, (uint32_t)payload_len};
    size_t n = encode(&p, version, out, cap);
    free(payload);
    at->stamp = n - payload_len;
    at->packet_id = qos ? at->stamp - 2 - (version == MQTT_V5) : 0; /* behind it: no properties */
    return n;
}

/* The remaining length (section 2.1.4) behind the first byte; `*at` is the byte behind it. */
static bool remaining_length(const unsigned char *b, size_t len, size_t *at, size_t *remaining)
{
    *at = 1;
    *remaining = 0;
    for (unsigned shift = 0; *at < len && shift <= 21; shift += 7) {
        *remaining |= (size_t)(b[*at] & 0x7f) << shift;
        if (!(b[(*at)++] & 0x80))
            return true;
    }
    return false;
}

/* Fixed header, topic, packet identifier, in version 5 a property length of 0, payload. */
size_t wire_plain_publish(const char *buf, size_t len, uint8_t version, struct wire_delivery *d)
{
    const unsigned char *b = (const unsigned char *)buf;
    size_t at, remaining;
    if (len < 5 || (b[0] & ~6) != 0x30 || b[0] == 0x36 || !remaining_length(b, len, &at, &remaining))
        return 0;
    size_t total = at + remaining;
    if (total > len || remaining < 2)
        return 0;
    at += 2 + ((size_t)b[at] << 8 | b[at + 1]);
    d->qos = b[0] >> 1 & 3;
    d->packet_id = 0;
    if (d->qos) {
        if (at + 2 > total)
            return 0;
        d->packet_id = (uint16_t)(b[at] << 8 | b[at + 1]);
        at += 2;
    }
    if (version == MQTT_V5) {
        if (at >= total || b[at] != 0)
            return 0;
        at++;
    }
    if (at > total || (d->qos && !d->packet_id))
        return 0;
    d->payload = buf + at;
    d->len = (uint32_t)(total - at);
    return total;
}
