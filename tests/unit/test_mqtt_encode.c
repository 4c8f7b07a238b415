/*
 * The encoder of MQTT packets: round trips of the samples of both versions, packets made from structs against
 * known bytes, and what it refuses.
 */
#include "tests/unit/unit.h"

#include "proto/mqtt.h"
#include "tests/unit/mqtt_same.h"
#include "tests/unit/mqtt_samples.h"

static struct mqtt_packet packet, again;
static struct mqtt_error error;

static void decode(const void *buf, size_t len, uint8_t version, struct mqtt_packet *p)
{
    size_t used;

    ck_assert_msg(mqtt_decode(buf, len, version, UINT32_MAX, p, &used, &error) == MQTT_OK, "%s", error.text);
    ck_assert_uint_eq(used, len);
}

/* Encodes into memory of exactly the size that was asked for, and shows that less is left alone. */
static unsigned char *encode(const struct mqtt_packet *p, uint8_t version, size_t *len)
{
    unsigned char *out;

    *len = mqtt_encode(p, version, NULL, 0);
    ck_assert_uint_ge(*len, 2);
    out = malloc(*len);
    memset(out, 0xEE, *len);
    ck_assert_uint_eq(mqtt_encode(p, version, out, *len - 1), *len);
    for (size_t i = 0; i < *len; i++)
        ck_assert_uint_eq(out[i], 0xEE);
    ck_assert_uint_eq(mqtt_encode(p, version, out, *len), *len);
    return out;
}

/* Encoding what was decoded gives the same bytes, or the shorter ones that say the same. */
START_TEST(round_trip)
{
    const struct good_packet *g = &good_packets[_i];
    struct mqtt_props *props[2];
    size_t len, n;
    unsigned char *b = wire_bytes(g->wire, &len);

    decode(b, len, g->version, &packet);
    again = packet;
    for (unsigned i = packet_props(&again, props); i--;)
        props[i]->present = 0;
    unsigned char *out = encode(&again, g->version, &n);
    if (g->shortest)
        ck_assert_msg(n == len && memcmp(b, out, n) == 0, "%s (%u)", g->name, g->version);
    else
        ck_assert_msg(n < len, "%s (%u)", g->name, g->version);
    decode(out, n, g->version, &again);
    ck_assert_msg(same_packet(&packet, &again), "%s (%u)", g->name, g->version);
    free(out);
    free(b);
}
END_TEST

/* From the values instead of the ready bytes, all but user properties and repetitions come through too. */
START_TEST(round_trip_of_values)
{
    const struct good_packet *g = &good_packets[_i];
    struct mqtt_props *props[2], *decoded[2];
    size_t len, n;
    unsigned char *b = wire_bytes(g->wire, &len);

    decode(b, len, g->version, &packet);
    again = packet;
    for (unsigned i = packet_props(&again, props); i--;)
        props[i]->raw.len = 0;
    unsigned char *out = encode(&again, g->version, &n);
    decode(out, n, g->version, &again);
    packet_props(&packet, decoded);
    for (unsigned i = packet_props(&again, props); i--;)
        ck_assert_msg(same_values(props[i], decoded[i], ~(1u << MQTT_P_USER_PROPERTY)), "%s", g->name);
    free(out);
    free(b);
}
END_TEST

/* Compares an encoded packet with the samples' notation. */
static void expect(const struct mqtt_packet *p, uint8_t version, const char *wire)
{
    size_t len, n;
    unsigned char *b = wire_bytes(wire, &len), *out = encode(p, version, &n);

    ck_assert_msg(n == len && memcmp(b, out, n) == 0, "not %s", wire);
    free(b);
    free(out);
}

/* An all-zero packet of a type. */
static struct mqtt_packet *fresh(enum mqtt_type type)
{
    packet = (struct mqtt_packet){.type = type};
    return &packet;
}

START_TEST(connect_from_struct)
{
    struct mqtt_packet *p = fresh(MQTT_CONNECT);
    struct mqtt_connect *c = &p->u.connect;

    c->clean_start = true;
    c->keepalive_s = 60;
    c->client_id = (struct mqtt_bytes){"dev", 3};
    expect(p, MQTT_V311, "10 0F 00 04 'MQTT' 04 02 00 3C 00 03 'dev'");
    expect(p, MQTT_V5, "10 10 00 04 'MQTT' 05 02 00 3C 00 00 03 'dev'");
    c->has_will = c->will_retain = c->has_username = c->has_password = true;
    c->will_qos = 2;
    c->will_topic = (struct mqtt_bytes){"w", 1};
    c->will_payload = (struct mqtt_bytes){"x", 1};
    c->username = (struct mqtt_bytes){"u", 1};
    c->password = (struct mqtt_bytes){"p", 1};
    expect(p, MQTT_V311,
           "10 1B 00 04 'MQTT' 04 F6 00 3C 00 03 'dev' 00 01 'w' 00 01 'x' 00 01 'u' 00 01 'p'");
    mqtt_props_set_num(&c->props, MQTT_P_SESSION_EXPIRY, 10);
    mqtt_props_set_num(&c->will_props, MQTT_P_WILL_DELAY, 5);
    expect(
        p, MQTT_V5,
        "10 27 00 04 'MQTT' 05 F6 00 3C 05 11 00 00 00 0A 00 03 'dev' 05 18 00 00 00 05 00 01 'w' 00 01 'x' "
        "00 01 'u' 00 01 'p'");
}
END_TEST

START_TEST(connack_from_struct)
{
    struct mqtt_packet *p = fresh(MQTT_CONNACK);

    expect(p, MQTT_V311, "20 02 00 00");
    expect(p, MQTT_V5, "20 03 00 00 00");
    mqtt_props_set_num(&p->u.connack.props, MQTT_P_MAXIMUM_QOS, 0);
    mqtt_props_set_num(&p->u.connack.props, MQTT_P_RETAIN_AVAILABLE, 0);
    mqtt_props_set_bytes(&p->u.connack.props, MQTT_P_ASSIGNED_CLIENT_ID, "a1", 2);
    p->u.connack.session_present = true;
    expect(p, MQTT_V311, "20 02 01 00");
    expect(p, MQTT_V5, "20 0C 01 00 09 12 00 02 'a1' 24 00 25 00");
}
END_TEST

START_TEST(publish_from_struct)
{
    struct mqtt_packet *p = fresh(MQTT_PUBLISH);
    struct mqtt_publish *m = &p->u.publish;

    m->topic = (struct mqtt_bytes){"a/b", 3};
    m->payload = (struct mqtt_bytes){"hi", 2};
    m->packet_id = 10; /* without QoS not written */
    expect(p, MQTT_V311, "30 07 00 03 'a/b' 'hi'");
    expect(p, MQTT_V5, "30 08 00 03 'a/b' 00 'hi'");
    m->qos = 1;
    m->dup = m->retain = true;
    expect(p, MQTT_V311, "3B 09 00 03 'a/b' 00 0A 'hi'");
    expect(p, MQTT_V5, "3B 0A 00 03 'a/b' 00 0A 00 'hi'");
}
END_TEST

START_TEST(acks_in_their_shortest_form)
{
    static const struct {
        enum mqtt_type type;
        const char *v311, *code;
    } rows[] = {{MQTT_PUBACK, "40 02 00 0A", "40 03 00 0A 80"},
                {MQTT_PUBREC, "50 02 00 0A", "50 03 00 0A 80"},
                {MQTT_PUBREL, "62 02 00 0A", "62 03 00 0A 80"},
                {MQTT_PUBCOMP, "70 02 00 0A", "70 03 00 0A 80"}};

    for (size_t i = 0; i < 4; i++) {
        struct mqtt_packet *p = fresh(rows[i].type);
        p->u.ack.packet_id = 10;
        expect(p, MQTT_V311, rows[i].v311);
        expect(p, MQTT_V5, rows[i].v311);
        p->u.ack.code = 0x80;
        expect(p, MQTT_V311, rows[i].v311);
        expect(p, MQTT_V5, rows[i].code);
    }
    mqtt_props_set_bytes(&packet.u.ack.props, MQTT_P_REASON_STRING, "w", 1);
    expect(&packet, MQTT_V5, "70 08 00 0A 80 04 1F 00 01 'w'");
}
END_TEST

START_TEST(subscribe_from_filters)
{
    struct mqtt_packet *p = fresh(MQTT_SUBSCRIBE);
    char entries[64];
    size_t n = mqtt_put_filter(entries, sizeof entries, (struct mqtt_bytes){"a/b", 3}, true, 1);

    n += mqtt_put_filter(entries + n, sizeof entries - n, (struct mqtt_bytes){"c/d", 3}, true, 2);
    ck_assert_uint_eq(n, 12);
    p->u.subscribe.packet_id = 10;
    p->u.subscribe.entries = (struct mqtt_bytes){entries, 12};
    expect(p, MQTT_V311, "82 0E 00 0A 00 03 'a/b' 01 00 03 'c/d' 02");
    expect(p, MQTT_V5, "82 0F 00 0A 00 00 03 'a/b' 01 00 03 'c/d' 02");
    p = fresh(MQTT_UNSUBSCRIBE);
    n = mqtt_put_filter(entries, sizeof entries, (struct mqtt_bytes){"a/b", 3}, false, 1);
    ck_assert_uint_eq(n, 5);
    p->u.subscribe.packet_id = 10;
    p->u.subscribe.entries = (struct mqtt_bytes){entries, 5};
    expect(p, MQTT_V311, "A2 07 00 0A 00 03 'a/b'");
    ck_assert_uint_eq(mqtt_put_filter(NULL, 0, (struct mqtt_bytes){"a/b", 3}, true, 0), 6);
    ck_assert_uint_eq(mqtt_put_filter(NULL, 0, (struct mqtt_bytes){NULL, 65536}, true, 0), 0);
}
END_TEST

START_TEST(answers_to_subscribe)
{
    struct mqtt_packet *p = fresh(MQTT_SUBACK);

    p->u.suback.packet_id = 10;
    p->u.suback.codes = (struct mqtt_bytes){"\x00\x02\x80", 3};
    expect(p, MQTT_V311, "90 05 00 0A 00 02 80");
    expect(p, MQTT_V5, "90 06 00 0A 00 00 02 80");
    p->type = MQTT_UNSUBACK;
    p->u.suback.codes = (struct mqtt_bytes){"\x00\x11", 2};
    expect(p, MQTT_V311, "B0 02 00 0A");
    expect(p, MQTT_V5, "B0 05 00 0A 00 00 11");
}
END_TEST

START_TEST(the_short_ones)
{
    expect(fresh(MQTT_PINGREQ), MQTT_V311, "C0 00");
    expect(fresh(MQTT_PINGRESP), MQTT_V5, "D0 00");
    expect(fresh(MQTT_DISCONNECT), MQTT_V311, "E0 00");
    expect(fresh(MQTT_DISCONNECT), MQTT_V5, "E0 00");
    packet.u.disconnect.code = MQTT_RC_SERVER_SHUTTING_DOWN;
    expect(&packet, MQTT_V5, "E0 01 8B");
    expect(&packet, MQTT_V311, "E0 00");
    mqtt_props_set_bytes(&packet.u.disconnect.props, MQTT_P_REASON_STRING, "w", 1);
    expect(&packet, MQTT_V5, "E0 06 8B 04 1F 00 01 'w'");
    expect(fresh(MQTT_AUTH), MQTT_V5, "F0 00");
    packet.u.disconnect.code = 0x18;
    mqtt_props_set_bytes(&packet.u.disconnect.props, MQTT_P_AUTH_METHOD, "M", 1);
    expect(&packet, MQTT_V5, "F0 06 18 04 15 00 01 'M'");
}
END_TEST

/* Payloads around the limits of the remaining length keep their header's size. */
START_TEST(sizes_of_the_header)
{
    static const size_t limits[] = {127, 16383, 2097151};

    for (size_t i = 0; i < 3; i++)
        for (size_t more = 0; more < 2; more++) {
            size_t payload = limits[i] - 3 + more, len;
            char *data = calloc(1, payload);
            struct mqtt_packet *p = fresh(MQTT_PUBLISH);
            p->u.publish.topic = (struct mqtt_bytes){"t", 1};
            p->u.publish.payload = (struct mqtt_bytes){data, (uint32_t)payload};
            unsigned char *out = encode(p, MQTT_V311, &len);
            ck_assert_uint_eq(len, limits[i] + more + 2 + i + more);
            decode(out, len, MQTT_V311, &again);
            ck_assert_uint_eq(again.u.publish.payload.len, payload);
            free(out);
            free(data);
        }
}
END_TEST

START_TEST(what_has_no_encoding)
{
    struct mqtt_packet *p = fresh(MQTT_PUBLISH);
    static char text[65536];

    p->u.publish.topic = (struct mqtt_bytes){text, 65536};
    ck_assert_uint_eq(mqtt_encode(p, MQTT_V311, NULL, 0), 0);
    p->u.publish.topic.len = 65535;
    ck_assert_uint_eq(mqtt_encode(p, MQTT_V311, NULL, 0), 4 + 2 + 65535);
    p->u.publish.qos = 3;
    ck_assert_uint_eq(mqtt_encode(p, MQTT_V311, NULL, 0), 0);
    p->u.publish.qos = 0;
    p->u.publish.payload.len = MQTT_MAX_REMAINING - 65537; /* only counted, never read */
    ck_assert_uint_eq(mqtt_encode(p, MQTT_V311, NULL, 0), 5u + MQTT_MAX_REMAINING);
    p->u.publish.payload.len++;
    ck_assert_uint_eq(mqtt_encode(p, MQTT_V311, NULL, 0), 0);
    p->u.publish.payload.len = UINT32_MAX;
    ck_assert_uint_eq(mqtt_encode(p, MQTT_V311, NULL, 0), 0);
    ck_assert_uint_eq(mqtt_encode(fresh(MQTT_AUTH), MQTT_V311, NULL, 0), 0);
    ck_assert_uint_eq(mqtt_encode(fresh(MQTT_RESERVED), MQTT_V5, NULL, 0), 0);
    ck_assert_uint_eq(mqtt_encode(fresh((enum mqtt_type)16), MQTT_V5, NULL, 0), 0);
    p = fresh(MQTT_CONNECT);
    p->u.connect.has_password = true;
    ck_assert_uint_eq(mqtt_encode(p, MQTT_V311, NULL, 0), 0);
    ck_assert_uint_eq(mqtt_encode(p, MQTT_V5, NULL, 0), 17);
    p->u.connect.has_will = true;
    p->u.connect.will_qos = 3;
    ck_assert_uint_eq(mqtt_encode(p, MQTT_V5, NULL, 0), 0);
    p = fresh(MQTT_CONNACK);
    mqtt_props_set_num(&p->u.connack.props, MQTT_P_SERVER_KEEP_ALIVE, 65536);
    ck_assert_uint_eq(mqtt_encode(p, MQTT_V5, NULL, 0), 0);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_loop_test(tc, round_trip, 0, GOOD_PACKETS);
    tcase_add_loop_test(tc, round_trip_of_values, 0, GOOD_PACKETS);
    tcase_add_test(tc, connect_from_struct);
    tcase_add_test(tc, connack_from_struct);
    tcase_add_test(tc, publish_from_struct);
    tcase_add_test(tc, acks_in_their_shortest_form);
    tcase_add_test(tc, subscribe_from_filters);
    tcase_add_test(tc, answers_to_subscribe);
    tcase_add_test(tc, the_short_ones);
    tcase_add_test(tc, sizes_of_the_header);
    tcase_add_test(tc, what_has_no_encoding);
}

UNIT_MAIN("mqtt_encode")
