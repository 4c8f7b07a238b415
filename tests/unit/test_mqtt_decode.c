/*
 * The decoder of MQTT packets: the samples of both versions, everything that a cut, a changed byte or a small
 * limit does to them, and the fields that come out.
 */
#include "tests/unit/unit.h"

#include "proto/mqtt.h"
#include "tests/unit/mqtt_same.h"
#include "tests/unit/mqtt_samples.h"

#define NO_LIMIT (MQTT_MAX_REMAINING + 5)

static struct mqtt_packet packet;
static struct mqtt_error error;
static size_t used;

static enum mqtt_result decode(const void *buf, size_t len, uint8_t version)
{
    memset(&packet, 0xA5, sizeof packet); /* whoever relies on zeroed fields shall see it */
    error = (struct mqtt_error){0};
    used = 0;
    return mqtt_decode(buf, len, version, NO_LIMIT, &packet, &used, &error);
}

/* Decodes a good packet written in the samples' notation; the bytes live until the next call. */
static struct mqtt_packet *decode_wire(const char *wire, uint8_t version)
{
    static unsigned char *bytes;
    size_t len;

    free(bytes);
    bytes = wire_bytes(wire, &len);
    ck_assert_msg(decode(bytes, len, version) == MQTT_OK, "%s: %s", wire, error.text);
    ck_assert_uint_eq(used, len);
    return &packet;
}

#define ck_bytes(b, text)                                                                                    \
    do {                                                                                                     \
        ck_assert_uint_eq((b).len, sizeof(text) - 1);                                                        \
        ck_assert(memcmp((b).data, text, sizeof(text) - 1) == 0);                                            \
    } while (0)

START_TEST(good_packets_decode)
{
    const struct good_packet *g = &good_packets[_i];
    size_t len;
    unsigned char *b = wire_bytes(g->wire, &len);

    ck_assert_msg(decode(b, len, g->version) == MQTT_OK, "%s (%u): %s", g->name, g->version, error.text);
    ck_assert_uint_eq(used, len);
    ck_assert_int_eq(packet.type, b[0] >> 4);
    ck_assert(mqtt_peek_type(b[0]) == packet.type);
    free(b);
}
END_TEST

START_TEST(every_type_has_a_sample)
{
    unsigned seen[2] = {0};

    for (size_t i = 0; i < GOOD_PACKETS; i++)
        seen[good_packets[i].version == MQTT_V5] |=
            1u << strtoul((char[]){good_packets[i].wire[0], 0}, NULL, 16);
    ck_assert_uint_eq(seen[0], 0x7FFE);
    ck_assert_uint_eq(seen[1], 0xFFFE);
}
END_TEST

START_TEST(bad_packets_get_their_code)
{
    const struct bad_packet *x = &bad_packets[_i];
    size_t len;
    unsigned char *b = wire_bytes(x->wire, &len);
    enum mqtt_result r = decode(b, len, x->version);

    ck_assert_msg(r == MQTT_BAD, "%s (%u): result %d", x->name, x->version, r);
    ck_assert_msg(error.code == x->code, "%s (%u): 0x%02X %s", x->name, x->version, error.code, error.text);
    ck_assert_msg(strstr(error.text, x->text) != NULL, "%s (%u): %s", x->name, x->version, error.text);
    free(b);
}
END_TEST

/* A packet that is cut anywhere is incomplete, neither good nor bad, and says how much it needs. */
START_TEST(cut_packets_need_more)
{
    const struct good_packet *g = &good_packets[_i];
    size_t len;
    unsigned char *whole = wire_bytes(g->wire, &len);

    for (size_t n = 0; n < len; n++) {
        unsigned char *part = malloc(n ? n : 1);
        memcpy(part, whole, n);
        ck_assert_msg(decode(part, n, g->version) == MQTT_MORE, "%s (%u) cut at %zu", g->name, g->version, n);
        ck_assert_uint_gt(used, n);
        ck_assert_uint_le(used, len);
        if (n >= 4)
            ck_assert_uint_eq(used, len);
        free(part);
    }
    free(whole);
}
END_TEST

/* Each byte with each value, in both versions: any verdict will do as long as it is a sane one. */
START_TEST(changed_bytes_do_no_harm)
{
    size_t len;
    unsigned char *b = wire_bytes(good_packets[_i].wire, &len);

    for (size_t at = 0; at < len; at++) {
        unsigned char kept = b[at];
        for (unsigned v = 0; v < 256; v++) {
            b[at] = (unsigned char)v;
            for (uint8_t version = MQTT_V311; version <= MQTT_V5; version++) {
                enum mqtt_result r = decode(b, len, version);
                ck_assert(r != MQTT_OK || used <= len);
                ck_assert(r != MQTT_MORE || used > len);
                ck_assert(r != MQTT_BAD || (error.code >= 0x80 && error.text));
            }
        }
        b[at] = kept;
    }
    free(b);
}
END_TEST

/* What follows a packet is none of its business. */
START_TEST(next_packet_is_left_alone)
{
    unsigned char two[] = {0xC0, 0x00, 0xD0, 0x00};

    ck_assert(decode(two, sizeof two, MQTT_V311) == MQTT_OK);
    ck_assert_uint_eq(used, 2);
    ck_assert_int_eq(packet.type, MQTT_PINGREQ);
    ck_assert(decode(two + used, 2, MQTT_V311) == MQTT_OK);
    ck_assert_int_eq(packet.type, MQTT_PINGRESP);
}
END_TEST

/* Table 2.4: the limits of each size of the remaining length. */
START_TEST(remaining_length_sizes)
{
    static const struct {
        unsigned char head[5];
        size_t header, remaining;
    } rows[] = {
        {{0x30, 0x7F}, 2, 127},
        {{0x30, 0x80, 0x01}, 3, 128},
        {{0x30, 0xFF, 0x7F}, 3, 16383},
        {{0x30, 0x80, 0x80, 0x01}, 4, 16384},
        {{0x30, 0xFF, 0xFF, 0x7F}, 4, 2097151},
        {{0x30, 0x80, 0x80, 0x80, 0x01}, 5, 2097152},
        {{0x30, 0xFF, 0xFF, 0xFF, 0x7F}, 5, 268435455},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (size_t n = 1; n < rows[i].header; n++) {
            ck_assert(decode(rows[i].head, n, MQTT_V5) == MQTT_MORE);
            ck_assert_uint_eq(used, n + 1);
        }
        ck_assert(decode(rows[i].head, rows[i].header, MQTT_V5) == MQTT_MORE);
        ck_assert_uint_eq(used, rows[i].header + rows[i].remaining);
    }
    ck_assert(decode("", 0, MQTT_V5) == MQTT_MORE);
    ck_assert_uint_eq(used, 2);
}
END_TEST

/* 3.1.1 does not ask for the shortest remaining length. */
START_TEST(needless_length_bytes_in_311)
{
    ck_assert(decode("\xC0\x80\x00", 3, MQTT_V311) == MQTT_OK);
    ck_assert_uint_eq(used, 3);
    decode_wire("10 8C 80 00 00 04 'MQTT' 04 02 00 3C 00 00", MQTT_V5);
}
END_TEST

START_TEST(packet_size_limit)
{
    const char *publish = "\x30\x05\x00\x01"
                          "txy";

    ck_assert(mqtt_decode(publish, 7, MQTT_V311, 7, &packet, &used, &error) == MQTT_OK);
    ck_assert(mqtt_decode(publish, 7, MQTT_V311, 6, &packet, &used, &error) == MQTT_BAD);
    ck_assert_uint_eq(error.code, MQTT_RC_PACKET_TOO_LARGE);
    ck_assert(mqtt_decode(publish, 2, MQTT_V311, 6, &packet, &used, &error) == MQTT_BAD);
    ck_assert_uint_eq(error.code, MQTT_RC_PACKET_TOO_LARGE);
    ck_assert(mqtt_decode(publish, 1, MQTT_V311, 6, &packet, &used, &error) == MQTT_MORE);
    ck_assert(mqtt_decode("\x10\xFF\xFF\xFF\x7F", 5, MQTT_V311, 65536, &packet, &used, &error) == MQTT_BAD);
    ck_assert_uint_eq(error.code, MQTT_RC_PACKET_TOO_LARGE);
    ck_assert_int_eq(packet.type, MQTT_CONNECT);
    ck_assert_uint_eq(packet.u.connect.level, 0);
}
END_TEST

/* The level is known even when it is refused, so that the answer can have the right form. */
START_TEST(refused_level_is_told)
{
    size_t len;
    unsigned char *b = wire_bytes("10 0C 00 04 'MQTT' 06 02 00 3C 00 00", &len);

    ck_assert(decode(b, len, MQTT_V311) == MQTT_BAD);
    ck_assert_uint_eq(packet.u.connect.level, 6);
    free(b);
    b = wire_bytes("10 0E 00 06 'MQIsdp' 03 02 00 3C 00 00", &len);
    ck_assert(decode(b, len, MQTT_V311) == MQTT_BAD);
    ck_assert_uint_eq(packet.u.connect.level, 3);
    free(b);
    b = wire_bytes("10 0C 00 04 'MQTT' 05 03 00 3C 00 00", &len);
    ck_assert(decode(b, len, MQTT_V311) == MQTT_BAD);
    ck_assert_uint_eq(packet.u.connect.level, 5);
    free(b);
    b = wire_bytes("10 02 00 04", &len);
    ck_assert(decode(b, len, MQTT_V311) == MQTT_BAD);
    ck_assert_uint_eq(packet.u.connect.level, 0);
    free(b);
}
END_TEST

START_TEST(connect_fields_311)
{
    const struct mqtt_connect *c =
        &decode_wire("10 25 00 04 'MQTT' 04 CE 00 0A 00 02 'id' 00 03 'w/t' 00 04 'gone' "
                     "00 04 'user' 00 04 'pass'",
                     MQTT_V5)
             ->u.connect;

    ck_assert_uint_eq(c->level, 4);
    ck_assert(c->clean_start && c->has_will && c->has_username && c->has_password && !c->will_retain);
    ck_assert_uint_eq(c->will_qos, 1);
    ck_assert_uint_eq(c->keepalive_s, 10);
    ck_bytes(c->client_id, "id");
    ck_bytes(c->will_topic, "w/t");
    ck_bytes(c->will_payload, "gone");
    ck_bytes(c->username, "user");
    ck_bytes(c->password, "pass");
    ck_assert_uint_eq(c->props.present | c->props.raw.len | c->will_props.present | c->will_props.raw.len, 0);
}
END_TEST

START_TEST(connect_fields_absent)
{
    const struct mqtt_connect *c =
        &decode_wire("10 0D 00 04 'MQTT' 05 00 00 00 00 00 00", MQTT_V311)->u.connect;

    ck_assert(!c->clean_start && !c->has_will && !c->has_username && !c->has_password && !c->will_retain);
    ck_assert_uint_eq(c->client_id.len | c->will_topic.len | c->will_payload.len, 0);
    ck_assert_uint_eq(c->username.len | c->password.len | c->will_qos | c->keepalive_s, 0);
    ck_assert_uint_eq(c->props.present | c->props.raw.len | c->will_props.present | c->will_props.raw.len, 0);
}
END_TEST

START_TEST(connect_properties)
{
    const struct mqtt_connect *c =
        &decode_wire(
             "10 2C 00 04 'MQTT' 05 04 00 00 0F 11 00 00 00 0A 21 00 14 27 00 10 00 00 19 01 00 01 'c' "
             "07 18 00 00 00 05 01 01 00 01 'w' 00 02 'hi'",
             MQTT_V311)
             ->u.connect;

    ck_assert_uint_eq(c->props.value[MQTT_P_SESSION_EXPIRY].num, 10);
    ck_assert_uint_eq(c->props.value[MQTT_P_RECEIVE_MAX].num, 20);
    ck_assert_uint_eq(c->props.value[MQTT_P_MAXIMUM_PACKET_SIZE].num, 1048576);
    ck_assert_uint_eq(c->props.value[MQTT_P_REQUEST_RESPONSE].num, 1);
    ck_assert(!mqtt_has(&c->props, MQTT_P_WILL_DELAY) && !mqtt_has(&c->props, MQTT_P_TOPIC_ALIAS_MAX));
    ck_assert(mqtt_has(&c->will_props, MQTT_P_WILL_DELAY));
    ck_assert_uint_eq(c->will_props.value[MQTT_P_WILL_DELAY].num, 5);
    ck_assert_uint_eq(c->will_props.value[MQTT_P_PAYLOAD_FORMAT].num, 1);
}
END_TEST

START_TEST(publish_fields)
{
    const struct mqtt_publish *m = &decode_wire("3D 08 00 03 'a/b' 12 34 'x'", MQTT_V311)->u.publish;

    ck_assert(m->dup && m->retain);
    ck_assert_uint_eq(m->qos, 2);
    ck_assert_uint_eq(m->packet_id, 0x1234);
    ck_bytes(m->topic, "a/b");
    ck_bytes(m->payload, "x");
    m = &decode_wire("30 05 00 03 'a/b'", MQTT_V311)->u.publish;
    ck_assert(!m->dup && !m->retain);
    ck_assert_uint_eq(m->qos | m->packet_id | m->payload.len | m->props.present | m->props.raw.len, 0);
    m = &decode_wire("30 08 00 00 03 23 00 09 'hi'", MQTT_V5)->u.publish;
    ck_assert_uint_eq(m->topic.len, 0);
    ck_assert_uint_eq(m->props.value[MQTT_P_TOPIC_ALIAS].num, 9);
    ck_bytes(m->payload, "hi");
}
END_TEST

START_TEST(ack_fields)
{
    const struct mqtt_ack *a = &decode_wire("40 02 12 34", MQTT_V5)->u.ack;

    ck_assert_uint_eq(a->packet_id, 0x1234);
    ck_assert_uint_eq(a->code | a->props.present | a->props.raw.len, 0);
    a = &decode_wire("62 03 00 01 92", MQTT_V5)->u.ack;
    ck_assert_uint_eq(a->code, 0x92);
    ck_assert_uint_eq(a->props.present, 0);
    a = &decode_wire("50 0A 00 01 10 06 1F 00 03 'why'", MQTT_V5)->u.ack;
    ck_assert_uint_eq(a->code, 0x10);
    ck_bytes(a->props.value[MQTT_P_REASON_STRING].bytes, "why");
}
END_TEST

START_TEST(connack_and_disconnect_fields)
{
    const struct mqtt_connack *c = &decode_wire("20 02 01 00", MQTT_V311)->u.connack;

    ck_assert(c->session_present);
    ck_assert_uint_eq(c->code | c->props.present, 0);
    c = &decode_wire("20 06 00 87 03 13 00 3C", MQTT_V5)->u.connack;
    ck_assert(!c->session_present);
    ck_assert_uint_eq(c->code, 0x87);
    ck_assert_uint_eq(c->props.value[MQTT_P_SERVER_KEEP_ALIVE].num, 60);
    const struct mqtt_disconnect *d = &decode_wire("E0 00", MQTT_V5)->u.disconnect;
    ck_assert_uint_eq(d->code | d->props.present | d->props.raw.len, 0);
    d = &decode_wire("E0 07 04 05 11 00 00 00 02", MQTT_V5)->u.disconnect;
    ck_assert_uint_eq(d->code, 4);
    ck_assert_uint_eq(d->props.value[MQTT_P_SESSION_EXPIRY].num, 2);
}
END_TEST

START_TEST(filters_are_walked)
{
    const struct mqtt_packet *p = decode_wire("82 0F 00 0A 00 00 03 'a/b' 2D 00 03 'c/#' 02", MQTT_V5);
    struct mqtt_bytes f;
    uint8_t options = 0xEE;
    size_t at = 0;

    ck_assert_uint_eq(p->u.subscribe.packet_id, 10);
    ck_assert_uint_eq(p->u.subscribe.count, 2);
    ck_assert(mqtt_next_filter(p, &at, &f, &options));
    ck_bytes(f, "a/b");
    ck_assert_uint_eq(options, 0x2D);
    ck_assert(mqtt_next_filter(p, &at, &f, NULL));
    ck_bytes(f, "c/#");
    ck_assert(!mqtt_next_filter(p, &at, &f, &options));
    ck_assert(!mqtt_next_filter(p, &at, &f, &options));

    p = decode_wire("A2 08 00 0A 00 01 'a' 00 01 '+'", MQTT_V311);
    at = 0;
    options = 0xEE;
    ck_assert_uint_eq(p->u.subscribe.count, 2);
    ck_assert(mqtt_next_filter(p, &at, &f, &options));
    ck_assert(mqtt_next_filter(p, &at, &f, &options));
    ck_bytes(f, "+");
    ck_assert_uint_eq(options, 0xEE);
    ck_assert(!mqtt_next_filter(p, &at, &f, &options));
}
END_TEST

START_TEST(suback_codes)
{
    const struct mqtt_suback *s = &decode_wire("90 05 00 0A 00 02 80", MQTT_V311)->u.suback;

    ck_assert_uint_eq(s->packet_id, 10);
    ck_bytes(s->codes, "\x00\x02\x80");
    s = &decode_wire("B0 02 00 0B", MQTT_V311)->u.suback;
    ck_assert_uint_eq(s->packet_id, 11);
    ck_assert_uint_eq(s->codes.len, 0);
    s = &decode_wire("B0 05 00 0B 00 00 11", MQTT_V5)->u.suback;
    ck_bytes(s->codes, "\x00\x11");
}
END_TEST

/* Decoding writes what the type says and no more: the large value array stays as it was. */
START_TEST(little_is_written)
{
    decode_wire("30 06 00 01 't' 00 'xx'", MQTT_V5);
    const unsigned char *value = (const unsigned char *)packet.u.publish.props.value;

    for (size_t i = 0; i < sizeof packet.u.publish.props.value; i++)
        ck_assert_uint_eq(value[i], 0xA5);
}
END_TEST

START_TEST(names)
{
    ck_assert_str_eq(mqtt_type_name(MQTT_CONNECT), "CONNECT");
    ck_assert_str_eq(mqtt_type_name(MQTT_AUTH), "AUTH");
    ck_assert_str_eq(mqtt_type_name(MQTT_RESERVED), "reserved");
    ck_assert_str_eq(mqtt_type_name((enum mqtt_type)16), "unknown");
    ck_assert_str_eq(mqtt_reason_name(0x00), "Success");
    ck_assert_str_eq(mqtt_reason_name(0x87), "Not authorized");
    ck_assert_str_eq(mqtt_reason_name(0xA2), "Wildcard Subscriptions not supported");
    ck_assert_str_eq(mqtt_reason_name(0x03), "reserved");
    ck_assert_str_eq(mqtt_reason_name(0xA3), "reserved");
    ck_assert_str_eq(mqtt_reason_name(0xFF), "reserved");
    unsigned known = 0;
    for (unsigned code = 0; code < 256; code++)
        known += strcmp(mqtt_reason_name((uint8_t)code), "reserved") != 0;
    ck_assert_uint_eq(known, 43);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_loop_test(tc, good_packets_decode, 0, GOOD_PACKETS);
    tcase_add_test(tc, every_type_has_a_sample);
    tcase_add_loop_test(tc, bad_packets_get_their_code, 0, BAD_PACKETS);
    tcase_add_loop_test(tc, cut_packets_need_more, 0, GOOD_PACKETS);
    tcase_add_loop_test(tc, changed_bytes_do_no_harm, 0, GOOD_PACKETS);
    tcase_add_test(tc, next_packet_is_left_alone);
    tcase_add_test(tc, remaining_length_sizes);
    tcase_add_test(tc, needless_length_bytes_in_311);
    tcase_add_test(tc, packet_size_limit);
    tcase_add_test(tc, refused_level_is_told);
    tcase_add_test(tc, connect_fields_311);
    tcase_add_test(tc, connect_fields_absent);
    tcase_add_test(tc, connect_properties);
    tcase_add_test(tc, publish_fields);
    tcase_add_test(tc, ack_fields);
    tcase_add_test(tc, connack_and_disconnect_fields);
    tcase_add_test(tc, filters_are_walked);
    tcase_add_test(tc, suback_codes);
    tcase_add_test(tc, little_is_written);
    tcase_add_test(tc, names);
}

UNIT_MAIN("mqtt_decode")
