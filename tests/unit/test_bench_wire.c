/*
 * The bench's packets: the short cut that recognizes a plain delivery agrees with the decoder and refuses
 * everything that is not exactly that.
 */
#include "gateway/tools/bench/wire.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/tools/bench/population.h"
#include "proto/mqtt.h"
#include "tests/unit/unit.h"

static const uint8_t versions[] = {MQTT_V311, MQTT_V5};

/* Decodes one whole packet. */
static void decode(const char *buf, size_t len, uint8_t version, struct mqtt_packet *p)
{
    size_t used = 0;
    struct mqtt_error error;
    ck_assert_int_eq(mqtt_decode((const unsigned char *)buf, len, version, WIRE_MAX_PACKET, p, &used, &error),
                     MQTT_OK);
    ck_assert_uint_eq(used, len);
}

START_TEST(a_publish_carries_its_stamp_and_identifier)
{
    const size_t sizes[] = {24, 64, 127, 128, 1024, 16384, 500000};
    static char out[WIRE_MAX_PACKET];
    const uint8_t version = versions[_i / 3], qos = (uint8_t)(_i % 3);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct wire_stamp stamp = {WIRE_STAMP_MAGIC, 7, 3, (uint32_t)sizes[i], 123456789}, got;
        struct wire_places at;
        size_t n = wire_publish(out, sizeof out, version, "a/topic", qos, sizes[i], &stamp, &at);
        struct mqtt_packet p;
        decode(out, n, version, &p);
        ck_assert_int_eq(p.type, MQTT_PUBLISH);
        ck_assert_uint_eq(p.u.publish.qos, qos);
        ck_assert_uint_eq(p.u.publish.payload.len, sizes[i]);
        ck_assert_uint_eq(n - at.stamp, sizes[i]);
        memcpy(&got, out + at.stamp, sizeof got);
        ck_assert_mem_eq(&got, &stamp, sizeof got);
        ck_assert_uint_eq(at.packet_id > 0, qos > 0);
        if (qos)
            wire_put_id(out + at.packet_id, 0xabcd);
        decode(out, n, version, &p);
        ck_assert_uint_eq(p.u.publish.packet_id, qos ? 0xabcd : 0);
    }
}
END_TEST

START_TEST(a_plain_publish_is_recognized_with_its_payload)
{
    const size_t sizes[] = {24, 100, 128, 20000};
    static char out[WIRE_MAX_PACKET];
    const uint8_t version = versions[_i / 3], qos = (uint8_t)(_i % 3);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct wire_stamp stamp = {.magic = WIRE_STAMP_MAGIC};
        struct wire_places at;
        size_t n = wire_publish(out, sizeof out, version, "t", qos, sizes[i], &stamp, &at);
        struct wire_delivery d;
        ck_assert_uint_eq(wire_plain_publish(out, n + 5, version, &d), n);
        ck_assert_ptr_eq(d.payload, out + at.stamp);
        ck_assert_uint_eq(d.len, sizes[i]);
        ck_assert_uint_eq(d.qos, qos);
        ck_assert_uint_eq(d.packet_id, qos > 0);
    }
}
END_TEST

START_TEST(an_incomplete_publish_is_not_recognized)
{
    char out[512];
    struct wire_stamp stamp = {.magic = WIRE_STAMP_MAGIC};
    const uint8_t version = versions[_i / 3], qos = (uint8_t)(_i % 3);
    struct wire_places at;
    size_t n = wire_publish(out, sizeof out, version, "some/topic", qos, 200, &stamp, &at);
    for (size_t len = 0; len < n; len++) {
        char *exact = malloc(len + 1); /* so that a sanitizer sees a read beyond the end */
        memcpy(exact, out, len);
        struct wire_delivery d;
        exact = realloc(exact, len ? len : 1);
        ck_assert_uint_eq(wire_plain_publish(exact, len, version, &d), 0);
        free(exact);
    }
}
END_TEST

START_TEST(anything_else_is_left_to_the_decoder)
{
    static const struct {
        uint8_t version;
        const char *bytes;
        size_t len;
    } rows[] = {
        {MQTT_V311, "\xd0\x00\x00\x00\x00", 5},                     /* PINGRESP */
        {MQTT_V311, "\x36\x06\x00\x01t\x00\x01x", 8},               /* QoS 3 */
        {MQTT_V311, "\x3a\x06\x00\x01t\x00\x01x", 8},               /* DUP */
        {MQTT_V311, "\x32\x06\x00\x01t\x00\x00x", 8},               /* packet identifier 0 */
        {MQTT_V311, "\x32\x04\x00\x01t\x01", 6},                    /* half of one */
        {MQTT_V5, "\x34\x05\x00\x01t\x00\x01", 7},                  /* no property length behind it */
        {MQTT_V311, "\x31\x04\x00\x01tx", 6},                       /* RETAIN */
        {MQTT_V5, "\x30\x06\x00\x01t\x02\x01\x01", 8},              /* with properties */
        {MQTT_V311, "\x30\x04\x00\x09tx", 6},                       /* the topic is longer than the packet */
        {MQTT_V5, "\x30\x03\x00\x01t", 5},                          /* no property length */
        {MQTT_V311, "\x30\x01\x00\x00\x00", 5},                     /* too short for a topic */
        {MQTT_V311, "\x30\xff\xff\xff\xff\x7f\x00\x01t", 9},        /* five bytes of length */
        {MQTT_V311, "\x30\x80\x80\x80\x80\x80\x80\x80\x80\x80", 10} /* a length without end */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct wire_delivery d;
        ck_assert_msg(wire_plain_publish(rows[i].bytes, rows[i].len, rows[i].version, &d) == 0, "row %zu", i);
    }
}
END_TEST

START_TEST(what_is_recognized_in_random_bytes_the_decoder_sees_alike)
{
    uint64_t state = 11;
    unsigned recognized[3] = {0};
    for (int i = 0; i < 600000; i++) {
        char buf[24];
        for (size_t k = 0; k < sizeof buf; k++)
            buf[k] = (char)(random_next(&state) % 3 ? random_next(&state) % 24 : 'a');
        buf[2] = random_next(&state) % 8 == 0; /* mostly the high byte of a short topic's length */
        buf[0] = (char)(0x30 + 2 * (random_next(&state) % 3));
        struct wire_delivery d;
        uint8_t version = versions[i % 2];
        size_t n = wire_plain_publish(buf, sizeof buf, version, &d), used = 0;
        struct mqtt_packet p;
        struct mqtt_error error;
        if (!n || mqtt_decode((const unsigned char *)buf, sizeof buf, version, sizeof buf, &p, &used,
                              &error) != MQTT_OK)
            continue; /* the decoder also looks into the topic */
        recognized[d.qos]++;
        ck_assert_uint_eq(used, n);
        ck_assert_uint_eq(p.u.publish.qos, d.qos);
        ck_assert_uint_eq(p.u.publish.packet_id, d.packet_id);
        ck_assert_uint_eq(p.u.publish.payload.len, d.len);
        ck_assert(d.len == 0 || p.u.publish.payload.data == d.payload);
    }
    for (size_t q = 0; q < 3; q++)
        ck_assert_uint_gt(recognized[q], 1000);
}
END_TEST

START_TEST(an_acknowledgement_is_what_it_is_called)
{
    static const uint8_t types[] = {MQTT_PUBACK, MQTT_PUBREC, MQTT_PUBREL, MQTT_PUBCOMP};
    char out[WIRE_ACK];
    for (size_t i = 0; i < sizeof types; i++) {
        for (size_t v = 0; v < 2; v++) {
            struct mqtt_packet p;
            wire_ack(out, types[i], 0x1234);
            decode(out, sizeof out, versions[v], &p);
            ck_assert_int_eq(p.type, types[i]);
            ck_assert_uint_eq(p.u.ack.packet_id, 0x1234);
        }
    }
}
END_TEST

START_TEST(a_persistent_session_is_asked_for)
{
    char out[WIRE_MAX_SMALL];
    for (size_t v = 0; v < 2; v++) {
        const struct wire_connect c = {.client_id = "a", .persistent = true};
        struct mqtt_packet p;
        decode(out, wire_connect(out, sizeof out, versions[v], &c), 0, &p);
        ck_assert(!p.u.connect.clean_start);
        if (versions[v] == MQTT_V5)
            ck_assert_uint_eq(p.u.connect.props.value[MQTT_P_SESSION_EXPIRY].num, WIRE_SESSION_EXPIRY_S);
    }
}
END_TEST

START_TEST(the_other_packets_are_what_they_are_called)
{
    char out[WIRE_MAX_SMALL];
    for (size_t v = 0; v < 2; v++) {
        struct mqtt_packet p;
        const struct wire_connect c = {.client_id = "bench-1-2", .keepalive_s = 60};
        decode(out, wire_connect(out, sizeof out, versions[v], &c), 0, &p);
        ck_assert_int_eq(p.type, MQTT_CONNECT);
        ck_assert_uint_eq(p.u.connect.level, versions[v]);
        ck_assert_uint_eq(p.u.connect.keepalive_s, 60);
        ck_assert(p.u.connect.clean_start && !p.u.connect.has_will);
        ck_assert_uint_eq(p.u.connect.client_id.len, strlen("bench-1-2"));
        decode(out, wire_subscribe(out, sizeof out, versions[v], 9, "a/b", 2), versions[v], &p);
        ck_assert_int_eq(p.type, MQTT_SUBSCRIBE);
        ck_assert_uint_eq(p.u.subscribe.packet_id, 9);
        ck_assert_uint_eq(p.u.subscribe.count, 1);
        struct mqtt_bytes filter;
        uint8_t filter_options;
        size_t at = 0;
        ck_assert(mqtt_next_filter(&p, &at, &filter, &filter_options));
        ck_assert_uint_eq(filter_options, 2);
        decode(out, wire_pingreq(out, sizeof out), versions[v], &p);
        ck_assert_int_eq(p.type, MQTT_PINGREQ);
        decode(out, wire_disconnect(out, sizeof out, versions[v]), versions[v], &p);
        ck_assert_int_eq(p.type, MQTT_DISCONNECT);
    }
}
END_TEST

START_TEST(the_clock_does_not_go_back)
{
    uint64_t before = wire_now_ns();
    ck_assert_uint_gt(before, 0);
    for (int i = 0; i < 1000; i++) {
        uint64_t now = wire_now_ns();
        ck_assert_uint_ge(now, before);
        before = now;
    }
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_loop_test(tc, a_publish_carries_its_stamp_and_identifier, 0, 6);
    tcase_add_loop_test(tc, a_plain_publish_is_recognized_with_its_payload, 0, 6);
    tcase_add_loop_test(tc, an_incomplete_publish_is_not_recognized, 0, 6);
    tcase_add_test(tc, an_acknowledgement_is_what_it_is_called);
    tcase_add_test(tc, a_persistent_session_is_asked_for);
    tcase_add_test(tc, anything_else_is_left_to_the_decoder);
    tcase_add_test(tc, what_is_recognized_in_random_bytes_the_decoder_sees_alike);
    tcase_add_test(tc, the_other_packets_are_what_they_are_called);
    tcase_add_test(tc, the_clock_does_not_go_back);
}

UNIT_MAIN("bench_wire")
