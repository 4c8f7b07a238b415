/*
 * Fuzz target: any bytes as an MQTT packet of either version. What decodes must encode again and decode to
 * the same, and every walk over it must stay inside.
 */
#include <stdlib.h>

#include "proto/mqtt.h"
#include "proto/mqtt_topic.h"
#include "tests/unit/mqtt_same.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the program with a trace when something does not hold. */
static void must(bool holds)
{
    if (!holds)
        abort();
}

/* Walks user properties and what would be forwarded. */
static void walk_props(const struct mqtt_props *p)
{
    struct mqtt_bytes name, value;
    size_t at = 0, users = 0;

    while (mqtt_props_next_user(p, &at, &name, &value)) {
        must(mqtt_utf8_valid(name.data, name.len) && mqtt_utf8_valid(value.data, value.len));
        must(mqtt_prop_put_user(NULL, 0, name, value) == 5u + name.len + value.len);
        users++;
    }
    must((users > 0) == mqtt_has(p, MQTT_P_USER_PROPERTY));
    size_t need = mqtt_props_forward(p, NULL, 0);
    must(need <= p->raw.len);
    char *out = malloc(need + 1);
    must(mqtt_props_forward(p, out, need) == need);
    free(out);
}

/* Walks topic filters. */
static void walk_filters(const struct mqtt_packet *p)
{
    struct mqtt_bytes filter;
    uint8_t options = 0;
    size_t at = 0;
    uint32_t count = 0;

    while (mqtt_next_filter(p, &at, &filter, &options)) {
        must(mqtt_topic_filter_valid(filter.data, filter.len));
        mqtt_topic_matches(filter.data, filter.len, "a/b", 3);
        count++;
    }
    must(at == p->u.subscribe.entries.len && count == p->u.subscribe.count && count > 0);
}

/* Encodes *p and decodes that into *again; the bytes are returned because *again points into them. */
static unsigned char *through(const struct mqtt_packet *p, uint8_t version, struct mqtt_packet *again)
{
    size_t len = mqtt_encode(p, version, NULL, 0), used;
    unsigned char *out = malloc(len ? len : 1);
    struct mqtt_error e;

    must(len >= 2 && mqtt_encode(p, version, out, len) == len);
    must(mqtt_decode(out, len, version, UINT32_MAX, again, &used, &e) == MQTT_OK && used == len);
    return out;
}

/* A good packet, by its raw properties and by their values. */
static void check_good(struct mqtt_packet *p, uint8_t version)
{
    struct mqtt_packet copy = *p, again;
    struct mqtt_props *props[2], *theirs[2];
    unsigned lists = packet_props(p, props);

    for (unsigned i = 0; i < lists; i++)
        walk_props(props[i]);
    if (p->type == MQTT_SUBSCRIBE || p->type == MQTT_UNSUBSCRIBE)
        walk_filters(p);
    packet_props(&copy, theirs);
    for (unsigned i = 0; i < lists; i++)
        theirs[i]->present = 0;
    unsigned char *bytes = through(&copy, version, &again);
    must(same_packet(p, &again));
    free(bytes);

    copy = *p;
    for (unsigned i = 0; i < lists; i++)
        theirs[i]->raw.len = 0;
    bytes = through(&copy, version, &again);
    packet_props(&again, theirs);
    for (unsigned i = 0; i < lists; i++)
        must(same_values(props[i], theirs[i], ~(1u << MQTT_P_USER_PROPERTY)));
    free(bytes);
}

/* Decodes one packet; false when there is no more to be had. */
static bool one_packet(const uint8_t *data, size_t size, uint8_t version, size_t *used)
{
    struct mqtt_packet p;
    struct mqtt_error e = {0};
    enum mqtt_result r = mqtt_decode(data, size, version, 1u << 20, &p, used, &e);

    if (r == MQTT_OK) {
        must(*used <= size && *used >= 2);
        check_good(&p, p.type == MQTT_CONNECT ? p.u.connect.level : version);
    }
    if (r == MQTT_MORE)
        must(*used > size);
    if (r == MQTT_BAD)
        must(e.code >= 0x80 && e.text && e.text[0]);
    return r == MQTT_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (uint8_t version = MQTT_V311; version <= MQTT_V5; version++)
        for (size_t at = 0, used; at < size && one_packet(data + at, size - at, version, &used); at += used)
            ;
    return 0;
}
