/*
 * Scenarios of sessions on a fake clock: heartbeats, connect timeout, takeover, wills, what is granted and
 * what is refused. The sessions are the real ones with the real topic tree and fan-out; what they publish is
 * recorded and fanned out at once. Nobody answers requests here: what is kept is in test_session_*.c.
 */
#include "gateway/session/session.h"

#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/options.h"
#include "gateway/base/wheel.h"
#include "gateway/engine/engine.h"
#include "gateway/ipc/ipc_message.h"
#include "tests/unit/loop_client.h"

static struct fixture {
    struct event_base *base;
    struct config config;
    struct sessions *sessions;
    struct fanout *fanout;
    unsigned claimed, released, published, requested;
    struct ipc_message request; /* the last one; its bytes are gone */
    uint64_t now;
} t;

static bool published(void *ctx, const char *client_id, size_t len, struct message *m)
{
    (void)ctx, (void)client_id, (void)len;
    t.published++;
    return fanout_start(t.fanout, m);
}

static void claimed(void *ctx, const char *client_id, size_t len, uint64_t claim)
{
    (void)ctx, (void)client_id, (void)len, (void)claim;
    t.claimed++;
}

static void released(void *ctx, const char *client_id, size_t len, uint64_t claim)
{
    (void)ctx, (void)client_id, (void)len, (void)claim;
    t.released++;
}

static bool requested(void *ctx, struct ipc_message *m, const struct session_cookie *cookie)
{
    (void)ctx, (void)cookie;
    t.requested++;
    t.request = *m;
    return true;
}

static const struct sessions_handler handler = {
    .publish = published, .request = requested, .claimed = claimed, .released = released};

static void setup(void)
{
    struct sessions_settings ss = {.config = &t.config, .max_sessions = 1000, .engine = &engine_memory};
    memset(&t, 0, sizeof t);
    t.now = 5000000;
    clock_fake(t.now);
    config_defaults(&t.config);
    t.base = event_base_new();
    t.sessions = sessions_new(t.base, &ss, &handler, NULL);
    struct fanout_settings fs = {.slice = 100,
                                 .queue_limit = 1 << 20,
                                 .clients_prefix = "clients/",
                                 .broadcast_topic = "broadcast",
                                 .implicit = 1};
    t.fanout = fanout_new(t.base, sessions_tree(t.sessions), &sessions_fanout_ops, t.sessions, &fs);
    sessions_set_fanout(t.sessions, t.fanout);
}

static void teardown(void)
{
    struct net *net = sessions_net(t.sessions);
    for (uint32_t id = 0; (id = net_next(net, id));)
        net_close(net, id, CLOSE_SHUTDOWN);
    loop_turn(t.base);
    ck_assert_uint_eq(t.claimed, t.released);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_SESSIONS), 0);
    ck_assert_uint_eq(topic_tree_subscriptions(sessions_tree(t.sessions)), 0);
    fanout_free(t.fanout);
    sessions_free(t.sessions);
    config_free(&t.config);
    event_base_free(t.base);
}

/* Lets ms pass in steps of 50, as a loop would see them. */
static void pass(uint64_t ms)
{
    for (uint64_t end = t.now + ms; t.now < end;) {
        t.now += 50;
        clock_fake(t.now);
        sessions_tick(t.sessions);
        loop_turn(t.base);
    }
}

static int open_client(void)
{
    int fd[2];
    loop_pair(fd);
    ck_assert_uint_ne(net_adopt(sessions_net(t.sessions), fd[0], 0), 0);
    return fd[1];
}

/* CONNECT of a 3.1.1 client with clean session; answered with CONNACK 0. */
static int connect_v4(const char *id, uint8_t keepalive)
{
    int c = open_client();
    unsigned char p[64] = {
        0x10, (unsigned char)(12 + strlen(id)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, keepalive,
        0,    (unsigned char)strlen(id)};
    memcpy(p + 14, id, strlen(id));
    client_send(c, p, 14 + strlen(id));
    loop_turn(t.base);
    client_expect(c, "\x20\x02\x00\x00", 4);
    return c;
}

/* CONNECT of a 5.0 client; `props` are encoded properties. CONNACK is read, its reason code returned. */
static int connect_v5(const char *id, uint8_t keepalive, uint8_t flags, const char *tail, size_t tail_len,
                      uint8_t *code)
{
    int c = open_client();
    unsigned char p[128] = {
        0x10, 0, 0, 4, 'M', 'Q', 'T', 'T', 5, flags, 0, keepalive, 0, 0, (unsigned char)strlen(id)};
    memcpy(p + 15, id, strlen(id));
    memcpy(p + 15 + strlen(id), tail, tail_len);
    p[1] = (unsigned char)(13 + strlen(id) + tail_len);
    client_send(c, p, 15 + strlen(id) + tail_len);
    loop_turn(t.base);
    unsigned char got[256];
    ck_assert_uint_ge(client_read(c, got, sizeof got), 4);
    ck_assert_uint_eq(got[0], 0x20);
    *code = got[3];
    return c;
}

static void subscribe(int c, uint8_t version, const char *filter, uint8_t options)
{
    unsigned char p[64] = {0x82, 0, 0, 1};
    size_t at = 4;
    if (version == 5)
        p[at++] = 0;
    p[at++] = 0;
    p[at++] = (unsigned char)strlen(filter);
    memcpy(p + at, filter, strlen(filter));
    at += strlen(filter);
    p[at++] = options;
    p[1] = (unsigned char)(at - 2);
    client_send(c, p, at);
    loop_turn(t.base);
    if (version == 5)
        client_expect(c, "\x90\x04\x00\x01\x00\x00", 6);
    else
        client_expect(c, "\x90\x03\x00\x01\x00", 5);
}

START_TEST(silence_ends_after_one_and_a_half_keepalives_never_early)
{
    for (uint64_t phase = 0; phase < 1000; phase += 130) {
        pass(phase);
        int c = connect_v4("a", 2);
        pass(2950);
        ck_assert(!client_closed(c));
        pass(1050);
        ck_assert(client_closed(c));
        close(c);
    }
}
END_TEST

START_TEST(pings_keep_a_client_for_ever)
{
    int c = connect_v4("a", 1);
    for (int i = 0; i < 200; i++) {
        client_send(c, "\xC0\x00", 2);
        loop_turn(t.base);
        client_expect(c, "\xD0\x00", 2);
        pass(1450);
        ck_assert(!client_closed(c));
    }
    close(c);
}
END_TEST

START_TEST(a_long_keepalive_over_several_turns_of_the_wheel)
{
    int c = connect_v4("a", 255); /* 382.5 s */
    int d = connect_v4("b", 0);
    uint64_t turn = (uint64_t)WHEEL_TICK_MS * WHEEL_SLOTS;
    pass(381000);
    client_send(c, "\xC0\x00", 2);
    loop_turn(t.base);
    client_expect(c, "\xD0\x00", 2);
    pass(381500);
    ck_assert(!client_closed(c));
    pass(2000);
    ck_assert(client_closed(c));
    pass(turn);
    ck_assert(!client_closed(d)); /* keepalive 0 is honoured */
    close(c);
    close(d);
}
END_TEST

START_TEST(the_configured_cap_on_keepalive_holds)
{
    t.config.max_keepalive_s = 2;
    int c = connect_v4("a", 0);
    pass(2900);
    ck_assert(!client_closed(c));
    pass(1100);
    ck_assert(client_closed(c));
    close(c);
}
END_TEST

START_TEST(without_connect_the_timeout_closes)
{
    int silent = open_client(), trickling = open_client();
    for (uint64_t ms = 0; ms < t.config.connect_timeout_ms - 100; ms += 1000)
        pass(ms ? 1000 : 900);
    ck_assert(!client_closed(silent));
    client_send(trickling, "\x10", 1);
    loop_turn(t.base);
    pass(1200);
    ck_assert(client_closed(silent));
    ck_assert(client_closed(trickling));
    close(silent);
    close(trickling);
}
END_TEST

START_TEST(bytes_that_wait_unread_count_as_heard)
{
    int c = connect_v4("a", 1);
    client_send(c, "\xC0\x00", 2); /* the loop is too busy to read it */
    t.now += 1700;
    clock_fake(t.now);
    sessions_tick(t.sessions);
    ck_assert_uint_eq(net_count(sessions_net(t.sessions)), 1);
    loop_turn(t.base);
    client_expect(c, "\xD0\x00", 2);
    pass(1450);
    ck_assert(!client_closed(c));
    close(c);
}
END_TEST

START_TEST(takeover_tells_the_old_client_and_serves_the_new)
{
    uint8_t code;
    int old = connect_v5("same", 60, 2, "", 0, &code);
    ck_assert_uint_eq(code, 0);
    subscribe(old, 5, "x", 0);
    int new = connect_v4("same", 60);
    unsigned char got[128];
    ck_assert_uint_ge(client_read(old, got, sizeof got), 3);
    ck_assert_uint_eq(got[0], 0xE0);
    ck_assert_uint_eq(got[2], 0x8E);
    ck_assert(client_closed(old));
    ck_assert_uint_eq(topic_tree_subscriptions(sessions_tree(t.sessions)), 0);
    client_send(new, "\xC0\x00", 2);
    loop_turn(t.base);
    client_expect(new, "\xD0\x00", 2);
    ck_assert_uint_eq(t.claimed, 2);
    ck_assert_uint_eq(t.released, 1);
    close(old);
    close(new);
}
END_TEST

#define WILL_TAIL                                                                                            \
    "\x00\x00\x01w\x00\x03"                                                                                  \
    "bye"

START_TEST(a_will_is_published_when_the_client_vanishes_but_not_after_disconnect)
{
    uint8_t code;
    int listener = connect_v4("l", 0);
    subscribe(listener, 4, "w", 0);
    int c = connect_v5("c", 60, 6, WILL_TAIL, sizeof WILL_TAIL - 1, &code);
    ck_assert_uint_eq(code, 0);
    close(c);
    loop_turn(t.base);
    client_expect(listener, "\x30\x06\x00\x01wbye", 8);
    c = connect_v5("c", 60, 6, WILL_TAIL, sizeof WILL_TAIL - 1, &code);
    client_send(c, "\xE0\x00", 2);
    loop_turn(t.base);
    ck_assert(client_closed(c));
    close(c);
    c = connect_v5("c", 60, 6, WILL_TAIL, sizeof WILL_TAIL - 1, &code);
    client_send(c, "\xE0\x01\x04", 3); /* disconnect with will message */
    loop_turn(t.base);
    client_expect(listener, "\x30\x06\x00\x01wbye", 8);
    close(c);
    ck_assert_uint_eq(t.published, 2);
    close(listener);
}
END_TEST

/* Regression: DISCONNECT and the next CONNECT with the same id in one turn of the loop published the will all
 * the same. */
START_TEST(a_takeover_of_a_session_that_has_just_disconnected_publishes_no_will)
{
    uint8_t code;
    uint64_t takeovers = counter_get(counters_mine, COUNTER_TAKEOVERS);
    int c = connect_v5("c", 60, 6, WILL_TAIL, sizeof WILL_TAIL - 1, &code);
    int d = open_client();
    loop_turn(t.base);
    client_send(c, "\xE0\x00", 2);
    client_send(d,
                "\x10\x0D\x00\x04MQTT\x04\x02\x00\x3C\x00\x01"
                "c",
                15);
    loop_turn(t.base);
    client_expect(d, "\x20\x02\x00\x00", 4);
    ck_assert_uint_eq(t.published, 0);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_TAKEOVERS), takeovers);
    close(c);
    close(d);
}
END_TEST

START_TEST(at_max_subscriptions_an_existing_one_can_be_replaced_and_no_other_added)
{
    t.config.max_subscriptions = 2;
    int c = connect_v4("c", 0);
    subscribe(c, 4, "a", 0);
    subscribe(c, 4, "b", 0);
    subscribe(c, 4, "a", 0);
    client_send(c,
                "\x82\x06\x00\x01\x00\x01"
                "d\x00",
                8);
    loop_turn(t.base);
    client_expect(c, "\x90\x03\x00\x01\x80", 5);
    ck_assert_uint_eq(topic_tree_subscriptions(sessions_tree(t.sessions)), 2);
    close(c);
}
END_TEST

START_TEST(many_pings_in_one_segment_are_all_answered)
{
    static char pings[2 * 3000], answers[2 * 3001];
    int c = connect_v4("c", 0);
    for (size_t i = 0; i < sizeof pings; i += 2)
        memcpy(pings + i, "\xC0\x00", 2);
    client_send(c, pings, sizeof pings);
    loop_turn(t.base);
    ck_assert_uint_eq(client_read(c, answers, sizeof answers), sizeof pings);
    for (size_t i = 0; i < sizeof pings; i += 2)
        ck_assert_mem_eq(answers + i, "\xD0\x00", 2);
    close(c);
}
END_TEST

START_TEST(a_client_whose_limit_no_connack_fits_is_closed_without_one)
{
    int c = open_client();
    client_send(c,
                "\x10\x13\x00\x04MQTT\x05\x02\x00\x3C\x05\x27\x00\x00\x00\x04\x00\x01"
                "m",
                21);
    loop_turn(t.base);
    ck_assert(client_closed(c));
    close(c);
}
END_TEST

/* [MQTT-3.1.2-24] holds for the refusal of a CONNECT too: it is 5 bytes long. */
START_TEST(a_refusal_that_the_client_does_not_take_is_not_sent)
{
    char method[] = "\x10\x18\x00\x04MQTT\x05\x02\x00\x3C\x0A\x27\x00\x00\x00\x04\x15\x00\x02xy\x00\x01"
                    "m",
         wildcard[] = "\x10\x1A\x00\x04MQTT\x05\x06\x00\x3C\x05\x27\x00\x00\x00\x04\x00\x01"
                      "m"
                      "\x00\x00\x01+\x00\x01p";
    char *bytes = _i % 2 ? wildcard : method;
    size_t len = _i % 2 ? sizeof wildcard - 1 : sizeof method - 1;
    bool fits = _i >= 2;
    uint64_t before = counters_mine->closed[CLOSE_CLIENT_LIMIT];
    bytes[17] = fits ? 5 : 4;
    int c = open_client();
    client_send(c, bytes, len);
    loop_turn(t.base);
    if (fits)
        client_expect(c, _i % 2 ? "\x20\x03\x00\x90\x00" : "\x20\x03\x00\x8C\x00", 5);
    ck_assert(client_closed(c));
    ck_assert_uint_eq(counters_mine->closed[CLOSE_CLIENT_LIMIT] - before, fits ? 0 : 1);
    close(c);
}
END_TEST

START_TEST(an_active_client_whose_bytes_wait_unread_is_heard)
{
    int c = connect_v4("a", 1);
    client_send(c, "\xC0", 1); /* half a PINGREQ: active */
    loop_turn(t.base);
    client_send(c, "\x00\xC0\x00", 3);
    t.now += 1700;
    clock_fake(t.now);
    sessions_tick(t.sessions);
    loop_turn(t.base);
    client_expect(c, "\xD0\x00\xD0\x00", 4);
    close(c);
}
END_TEST

START_TEST(a_will_of_qos_1_is_a_request)
{
    uint8_t code;
    int c = connect_v5("c", 60, 6 | 0x08, WILL_TAIL, sizeof WILL_TAIL - 1, &code);
    ck_assert_uint_eq(code, 0);
    close(c);
    loop_turn(t.base);
    ck_assert_uint_eq(t.published, 0);
    ck_assert_uint_eq(t.requested, 1);
    ck_assert_int_eq(t.request.type, IPC_PUBLISH);
    ck_assert_uint_eq(t.request.field[1].num, 1);
}
END_TEST

START_TEST(a_retained_will_is_refused_where_nothing_is_retained)
{
    uint8_t code;
    t.config.retain = false;
    close(connect_v5("c", 60, 6 | 0x20, WILL_TAIL, sizeof WILL_TAIL - 1, &code));
    ck_assert_uint_eq(code, 0x9A);
    loop_turn(t.base);
    ck_assert_uint_eq(t.claimed, 0);
}
END_TEST

START_TEST(a_message_reaches_subscribers_of_both_versions_once)
{
    uint8_t code;
    int a = connect_v4("a", 0), b = connect_v5("b", 0, 2, "", 0, &code);
    subscribe(a, 4, "news/#", 0);
    subscribe(a, 4, "news/x", 0);
    subscribe(b, 5, "news/+", 4); /* No Local */
    client_send(b, "\x30\x0B\x00\x06news/x\x00hi", 13);
    loop_turn(t.base);
    client_expect(a, "\x30\x0A\x00\x06news/xhi", 12);
    client_send(a, "\x30\x0A\x00\x06news/xhi", 12);
    loop_turn(t.base);
    client_expect(b, "\x30\x0B\x00\x06news/x\x00hi", 13);
    client_expect(a, "\x30\x0A\x00\x06news/xhi", 12);
    close(a);
    close(b);
}
END_TEST

START_TEST(implicit_channels_need_no_subscription)
{
    int a = connect_v4("dev/1", 0), b = connect_v4("dev/2", 0);
    client_send(b,
                "\x30\x10\x00\x0D"
                "clients/dev/1x",
                18);
    loop_turn(t.base);
    client_expect(a,
                  "\x30\x10\x00\x0D"
                  "clients/dev/1x",
                  18);
    client_send(a,
                "\x30\x0C\x00\x09"
                "broadcast!",
                14);
    loop_turn(t.base);
    client_expect(a,
                  "\x30\x0C\x00\x09"
                  "broadcast!",
                  14);
    client_expect(b,
                  "\x30\x0C\x00\x09"
                  "broadcast!",
                  14);
    close(a);
    close(b);
}
END_TEST

/* Bytes of a first packet, what comes back, and why the connection ends. */
static const struct {
    const char *what, *send, *answer;
    size_t send_len, answer_len;
    enum close_reason reason;
} refused[] = {
#define ROW(what, send, answer, reason)                                                                      \
    {                                                                                                        \
        what, send, answer, sizeof send - 1, sizeof answer - 1, reason                                       \
    }
    ROW("MQTT 3.1",
        "\x10\x0F\x00\x06MQIsdp\x03\x02\x00\x3C\x00\x01"
        "a",
        "\x20\x02\x00\x01", CLOSE_MALFORMED),
    ROW("level 6",
        "\x10\x0D\x00\x04MQTT\x06\x02\x00\x3C\x00\x01"
        "a",
        "\x20\x30\x00\x84\x2D\x1F\x00\x2A"
        "CONNECT: protocol level is neither 4 nor 5",
        CLOSE_MALFORMED),
    ROW("no id without clean session", "\x10\x0C\x00\x04MQTT\x04\x00\x00\x3C\x00\x00", "\x20\x02\x00\x02",
        CLOSE_BAD_CONNECT),
    ROW("reserved connect flag of 3.1.1",
        "\x10\x0D\x00\x04MQTT\x04\x03\x00\x3C\x00\x01"
        "a",
        "", CLOSE_MALFORMED),
    ROW("reserved connect flag of 5.0",
        "\x10\x0E\x00\x04MQTT\x05\x03\x00\x3C\x00\x00\x01"
        "a",
        "\x20\x23\x00\x81\x20\x1F\x00\x1D"
        "CONNECT: reserved flag is set",
        CLOSE_MALFORMED),
    ROW("PINGREQ first", "\xC0\x00", "", CLOSE_NOT_MQTT),
    ROW("garbage", "\xFF\xFF\xFF\xFF\xFF\xFF", "", CLOSE_NOT_MQTT),
};

START_TEST(a_connect_that_cannot_be_served_is_answered_and_closed)
{
    int c = open_client();
    uint64_t before = counters_mine->closed[refused[_i].reason];
    client_send(c, refused[_i].send, refused[_i].send_len);
    loop_turn(t.base);
    unsigned char got[256];
    size_t len = client_read(c, got, sizeof got);
    ck_assert_msg(len == refused[_i].answer_len && !memcmp(got, refused[_i].answer, len),
                  "%s: %zu bytes came back, the last %02x", refused[_i].what, len, len ? got[len - 1] : 0);
    ck_assert(client_closed(c));
    ck_assert_msg(counters_mine->closed[refused[_i].reason] == before + 1, "%s: counted under another reason",
                  refused[_i].what);
    ck_assert_uint_eq(t.claimed, 0);
    close(c);
}
END_TEST

/* What a connected 5.0 client must not send, and the reason code of the DISCONNECT it gets. */
static const struct {
    const char *what, *send;
    size_t send_len;
    uint8_t code;
} forbidden[] = {
#define SEND(what, send, code)                                                                               \
    {                                                                                                        \
        what, send, sizeof send - 1, code                                                                    \
    }
    SEND("second CONNECT",
         "\x10\x0E\x00\x04MQTT\x05\x02\x00\x3C\x00\x00\x01"
         "a",
         0x82),
    SEND("CONNACK", "\x20\x03\x00\x00\x00", 0x82),
    SEND("PUBLISH QoS 3", "\x36\x07\x00\x01t\x00\x01\x00x", 0x81),
    SEND("PUBLISH QoS 0 with DUP", "\x38\x05\x00\x01t\x00x", 0x81),
    SEND("PUBLISH QoS 1 with packet id 0", "\x32\x07\x00\x01t\x00\x00\x00x", 0x82),
    SEND("PUBLISH retained", "\x31\x05\x00\x01t\x00x", 0x9A),
    SEND("PUBLISH with alias 0", "\x30\x08\x00\x01t\x03\x23\x00\x00x", 0x94),
    SEND("PUBLISH with an alias above the maximum", "\x30\x08\x00\x01t\x03\x23\x00\x11x", 0x94),
    SEND("PUBLISH with an alias nobody has named", "\x30\x07\x00\x00\x03\x23\x00\x01x", 0x94),
    SEND("PUBLISH with a subscription identifier", "\x30\x07\x00\x01t\x02\x0B\x01x", 0x82),
    SEND("PUBLISH to a wildcard", "\x30\x05\x00\x01#\x00x", 0x90),
    SEND("SUBSCRIBE without filter", "\x82\x03\x00\x01\x00", 0x82),
    SEND("SUBSCRIBE to a/#/b",
         "\x82\x0B\x00\x01\x00\x00\x05"
         "a/#/b\x00",
         0x8F),
    SEND("packet type 0", "\x00\x00", 0x81),
    SEND("PUBACK with packet id 0", "\x40\x02\x00\x00", 0x82),
    SEND("PUBREL with wrong flags", "\x60\x02\x00\x01", 0x81),
    SEND("SUBACK", "\x90\x04\x00\x01\x00\x00", 0x82),
    SEND("PINGRESP", "\xD0\x00", 0x82),
    SEND("too large", "\x30\xFF\xFF\xFF\x7F", 0x95),
};

START_TEST(a_forbidden_packet_gets_its_reason_code_and_has_no_effect)
{
    uint8_t code;
    t.config.retain = false;
    int c = connect_v5("bad", 60, 2, "", 0, &code);
    client_send(c, forbidden[_i].send, forbidden[_i].send_len);
    loop_turn(t.base);
    unsigned char got[64];
    size_t len = client_read(c, got, sizeof got);
    ck_assert_msg(len >= 3 && got[0] == 0xE0 && got[2] == forbidden[_i].code, "%s: %zu bytes, reason %02x",
                  forbidden[_i].what, len, len > 2 ? got[2] : 0);
    ck_assert(client_closed(c));
    ck_assert_uint_eq(t.published + t.requested, 0);
    close(c);
}
END_TEST

/* An acknowledgement that means nothing may belong to an earlier connection: no error (section 4.3). */
START_TEST(a_stray_acknowledgement_does_no_harm)
{
    uint8_t code;
    int c = connect_v5("stray", 60, 2, "", 0, &code);
    client_send(c, "\x40\x02\x00\x01\x70\x02\x00\x01", 8); /* PUBACK, PUBCOMP */
    loop_turn(t.base);
    client_expect(c, "", 0);
    client_send(c, "\x50\x02\x00\x01\x62\x02\x00\x02", 8); /* PUBREC, PUBREL */
    loop_turn(t.base);
    client_expect(c, "\x62\x03\x00\x01\x92\x70\x03\x00\x02\x92", 10);
    ck_assert(!client_closed(c));
    ck_assert_uint_eq(t.requested, 0);
    close(c);
}
END_TEST

START_TEST(http_on_the_mqtt_port_is_told_so)
{
    int c = open_client();
    client_send(c, "GET / HTTP/1.1\r\nHost: x\r\n", 25);
    loop_turn(t.base);
    ck_assert(!client_closed(c));
    client_send(c, "\r\n", 2);
    loop_turn(t.base);
    char got[1024] = "";
    ck_assert_uint_gt(client_read(c, got, sizeof got - 1), 0);
    ck_assert_ptr_nonnull(strstr(got, "HTTP/1.1 400"));
    ck_assert_ptr_nonnull(strstr(got, "MQTT"));
    ck_assert(client_closed(c));
    close(c);
}
END_TEST

START_TEST(maximum_packet_size_of_a_client_is_respected)
{
    uint8_t code;
    int c = open_client();
    client_send(c,
                "\x10\x13\x00\x04MQTT\x05\x02\x00\x3C\x05\x27\x00\x00\x00\x1E\x00\x01"
                "m",
                21);
    loop_turn(t.base);
    char got[256];
    ck_assert_uint_gt(client_read(c, got, sizeof got), 4);
    int other = connect_v5("o", 60, 2, "", 0, &code);
    client_send(other,
                "\x30\x1F\x00\x09"
                "broadcast\x00"
                "0123456789012345678",
                33);
    client_send(other,
                "\x30\x0D\x00\x09"
                "broadcast\x00x",
                15);
    loop_turn(t.base);
    client_expect(c,
                  "\x30\x0D\x00\x09"
                  "broadcast\x00x",
                  15);
    close(c);
    close(other);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, silence_ends_after_one_and_a_half_keepalives_never_early);
    tcase_add_test(tc, pings_keep_a_client_for_ever);
    tcase_add_test(tc, a_long_keepalive_over_several_turns_of_the_wheel);
    tcase_add_test(tc, the_configured_cap_on_keepalive_holds);
    tcase_add_test(tc, without_connect_the_timeout_closes);
    tcase_add_test(tc, bytes_that_wait_unread_count_as_heard);
    tcase_add_test(tc, takeover_tells_the_old_client_and_serves_the_new);
    tcase_add_test(tc, a_will_is_published_when_the_client_vanishes_but_not_after_disconnect);
    tcase_add_test(tc, a_takeover_of_a_session_that_has_just_disconnected_publishes_no_will);
    tcase_add_test(tc, at_max_subscriptions_an_existing_one_can_be_replaced_and_no_other_added);
    tcase_add_test(tc, many_pings_in_one_segment_are_all_answered);
    tcase_add_test(tc, a_client_whose_limit_no_connack_fits_is_closed_without_one);
    tcase_add_loop_test(tc, a_refusal_that_the_client_does_not_take_is_not_sent, 0, 4);
    tcase_add_test(tc, an_active_client_whose_bytes_wait_unread_is_heard);
    tcase_add_test(tc, a_will_of_qos_1_is_a_request);
    tcase_add_test(tc, a_retained_will_is_refused_where_nothing_is_retained);
    tcase_add_test(tc, a_message_reaches_subscribers_of_both_versions_once);
    tcase_add_test(tc, implicit_channels_need_no_subscription);
    tcase_add_loop_test(tc, a_connect_that_cannot_be_served_is_answered_and_closed, 0,
                        sizeof refused / sizeof refused[0]);
    tcase_add_loop_test(tc, a_forbidden_packet_gets_its_reason_code_and_has_no_effect, 0,
                        sizeof forbidden / sizeof forbidden[0]);
    tcase_add_test(tc, a_stray_acknowledgement_does_no_harm);
    tcase_add_test(tc, http_on_the_mqtt_port_is_told_so);
    tcase_add_test(tc, maximum_packet_size_of_a_client_is_respected);
}

UNIT_MAIN("sessions")
