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

START_TEST(a_publish_carries_its_stamp)
{
    const size_t sizes[] = {24, 64, 127, 128, 1024, 16384, 500000};
    static char out[WIRE_MAX_PACKET];
    for (size_t v = 0; v < 2; v++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            struct wire_stamp stamp = {WIRE_STAMP_MAGIC, 7, 3, (uint32_t)sizes[i], 123456789}, got;
            size_t at, n = wire_publish(out, sizeof out, versions[v], "a/topic", sizes[i], &stamp, &at);
            struct mqtt_packet p;
            decode(out, n, versions[v], &p);
            ck_assert_int_eq(p.type, MQTT_PUBLISH);
            ck_assert_uint_eq(p.u.publish.payload.len, sizes[i]);
            ck_assert_uint_eq(n - at, sizes[i]);
            memcpy(&got, out + at, sizeof got);
            ck_assert_mem_eq(&got, &stamp, sizeof got);
        }
    }
}
END_TEST

START_TEST(a_plain_publish_is_recognized_with_its_payload)
{
    const size_t sizes[] = {24, 100, 128, 20000};
    static char out[WIRE_MAX_PACKET];
    for (size_t v = 0; v < 2; v++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            struct wire_stamp stamp = {.magic = WIRE_STAMP_MAGIC};
            size_t at, n = wire_publish(out, sizeof out, versions[v], "t", sizes[i], &stamp, &at);
            const char *payload;
            uint32_t len;
            ck_assert_uint_eq(wire_plain_publish(out, n + 5, versions[v], &payload, &len), n);
            ck_assert_ptr_eq(payload, out + at);
            ck_assert_uint_eq(len, sizes[i]);
        }
    }
}
END_TEST

START_TEST(an_incomplete_publish_is_not_recognized)
{
    char out[512];
    struct wire_stamp stamp = {.magic = WIRE_STAMP_MAGIC};
    for (size_t v = 0; v < 2; v++) {
        size_t at, n = wire_publish(out, sizeof out, versions[v], "some/topic", 200, &stamp, &at);
        for (size_t len = 0; len < n; len++) {
            char *exact = malloc(len + 1); /* so that a sanitizer sees a read beyond the end */
            memcpy(exact, out, len);
            const char *payload;
            uint32_t payload_len;
            exact = realloc(exact, len ? len : 1);
            ck_assert_uint_eq(wire_plain_publish(exact, len, versions[v], &payload, &payload_len), 0);
            free(exact);
        }
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
        {MQTT_V311, "\x32\x06\x00\x01t\x00\x01x", 8},               /* QoS 1 */
        {MQTT_V311, "\x31\x04\x00\x01tx", 6},                       /* RETAIN */
        {MQTT_V5, "\x30\x06\x00\x01t\x02\x01\x01", 8},              /* with properties */
        {MQTT_V311, "\x30\x04\x00\x09tx", 6},                       /* the topic is longer than the packet */
        {MQTT_V5, "\x30\x03\x00\x01t", 5},                          /* no property length */
        {MQTT_V311, "\x30\x01\x00\x00\x00", 5},                     /* too short for a topic */
        {MQTT_V311, "\x30\xff\xff\xff\xff\x7f\x00\x01t", 9},        /* five bytes of length */
        {MQTT_V311, "\x30\x80\x80\x80\x80\x80\x80\x80\x80\x80", 10} /* a length without end */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *payload;
        uint32_t len;
        ck_assert_msg(wire_plain_publish(rows[i].bytes, rows[i].len, rows[i].version, &payload, &len) == 0,
                      "row %zu", i);
    }
}
END_TEST

START_TEST(what_is_recognized_in_random_bytes_the_decoder_sees_alike)
{
    uint64_t state = 11;
    unsigned recognized = 0;
    for (int i = 0; i < 200000; i++) {
        char buf[24];
        for (size_t k = 0; k < sizeof buf; k++)
            buf[k] = (char)(random_next(&state) % 3 ? random_next(&state) % 24 : 'a');
        buf[2] = random_next(&state) % 8 == 0; /* mostly the high byte of a short topic's length */
        buf[0] = 0x30;
        const char *payload;
        uint32_t len;
        uint8_t version = versions[i % 2];
        size_t n = wire_plain_publish(buf, sizeof buf, version, &payload, &len), used = 0;
        struct mqtt_packet p;
        struct mqtt_error error;
        if (!n || mqtt_decode((const unsigned char *)buf, sizeof buf, version, sizeof buf, &p, &used,
                              &error) != MQTT_OK)
            continue; /* the decoder also looks into the topic */
        recognized++;
        ck_assert_uint_eq(used, n);
        ck_assert_uint_eq(p.u.publish.payload.len, len);
        ck_assert(len == 0 || p.u.publish.payload.data == payload);
    }
    ck_assert_uint_gt(recognized, 1000);
}
END_TEST

START_TEST(the_other_packets_are_what_they_are_called)
{
    char out[WIRE_MAX_SMALL];
    for (size_t v = 0; v < 2; v++) {
        struct mqtt_packet p;
        decode(out, wire_connect(out, sizeof out, versions[v], "bench-1-2", 60), 0, &p);
        ck_assert_int_eq(p.type, MQTT_CONNECT);
        ck_assert_uint_eq(p.u.connect.level, versions[v]);
        ck_assert_uint_eq(p.u.connect.keepalive_s, 60);
        ck_assert(p.u.connect.clean_start && !p.u.connect.has_will);
        ck_assert_uint_eq(p.u.connect.client_id.len, strlen("bench-1-2"));
        decode(out, wire_subscribe(out, sizeof out, versions[v], 9, "a/b"), versions[v], &p);
        ck_assert_int_eq(p.type, MQTT_SUBSCRIBE);
        ck_assert_uint_eq(p.u.subscribe.packet_id, 9);
        ck_assert_uint_eq(p.u.subscribe.count, 1);
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
    tcase_add_test(tc, a_publish_carries_its_stamp);
    tcase_add_test(tc, a_plain_publish_is_recognized_with_its_payload);
    tcase_add_test(tc, an_incomplete_publish_is_not_recognized);
    tcase_add_test(tc, anything_else_is_left_to_the_decoder);
    tcase_add_test(tc, what_is_recognized_in_random_bytes_the_decoder_sees_alike);
    tcase_add_test(tc, the_other_packets_are_what_they_are_called);
    tcase_add_test(tc, the_clock_does_not_go_back);
}

UNIT_MAIN("bench_wire")
