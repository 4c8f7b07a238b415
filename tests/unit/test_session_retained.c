/*
 * Retained messages as clients see them: when they come with a subscription and when not, with which flags,
 * in what portions, and that what was begun of them is brought to its end. MQTT 5.0 sections 3.3.1.3, 3.8.3.1
 * and 4.4; 3.1.1 section 3.3.1.3.
 */
#include "gateway/base/counters.h"
#include "tests/unit/session_peer.h"

static struct rig rig;

static void setup(void) { rig_begin(&rig); }
static void teardown(void) { rig_end(&rig); }

static const uint8_t versions[] = {MQTT_V311, MQTT_V5};

/* A retained message that comes with a subscription ([MQTT-3.3.1-8] of 3.1.1: with RETAIN set). */
static uint16_t expect_retained(struct peer *p, const char *topic, const char *payload, uint8_t qos)
{
    struct mqtt_publish got = peer_expect_publish(p, topic, payload, qos);
    ck_assert(got.retain);
    ck_assert(!got.dup);
    return got.packet_id;
}

/* Reads up to max packets: those of PUBLISH are counted by the number at the end of their topic, and
 * answered; how many came. */
static unsigned collect(struct peer *p, unsigned *seen, unsigned max)
{
    struct mqtt_packet m;
    unsigned n = 0;
    while (n < max && peer_next(p, &m)) {
        if (m.type == MQTT_PUBREL)
            peer_ack(p, MQTT_PUBCOMP, m.u.ack.packet_id);
        if (m.type == MQTT_PUBLISH) {
            char text[128];
            snprintf(text, sizeof text, "%.*s", (int)m.u.publish.topic.len, m.u.publish.topic.data);
            ck_assert(m.u.publish.retain);
            seen[atoi(strrchr(text, '/') + 1)]++;
            n++;
            if (m.u.publish.qos)
                peer_ack(p, m.u.publish.qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, m.u.publish.packet_id);
        }
        rig_turn(p->r);
    }
    return n;
}

/* Reads until n have come, and then a little longer; blocked sockets are looked at again by the real clock.
 */
static void collect_all(struct peer *p, unsigned *seen, unsigned n)
{
    for (unsigned all = 0, idle = 0; all < n && idle < 40;) {
        unsigned more = collect(p, seen, n);
        all += more;
        idle = more ? 0 : idle + 1;
        if (!more) {
            rig_pass(&rig, 100);
            usleep(10000);
        }
    }
    rig_turn(&rig);
    collect(p, seen, n);
}

static void retain_many(unsigned n, const char *payload, uint8_t qos)
{
    char topic[32];
    for (unsigned i = 0; i < n; i++) {
        snprintf(topic, sizeof topic, "many/%u", i);
        rig_publish(&rig, topic, payload, qos, true);
    }
}

START_TEST(a_retained_message_comes_with_a_subscription)
{
    struct peer p = peer_clean(&rig, "p", versions[_i]);
    rig_publish(&rig, "a/b", "old", 1, true);
    rig_publish(&rig, "a/b", "new", 1, true);
    rig_publish(&rig, "a/b", "not retained", 1, false);
    static const struct {
        const char *filter;
        uint8_t options, qos;
    } rows[] = {{"a/b", 0, 0}, {"a/b", 1, 1}, {"a/+", 2, 1}, {"#", 1, 1}, {"a/b/#", 1, 1}, {"+/b", 0, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint16_t id = peer_ask(&p, rows[i].filter, rows[i].options, 0);
        rig_turn(&rig);
        peer_expect_suback(&p, id, rows[i].options);
        uint16_t message = expect_retained(&p, "a/b", "new", rows[i].qos);
        peer_expect_nothing(&p);
        peer_complete(&p, rows[i].qos, message);
        peer_unsubscribe(&p, rows[i].filter);
    }
    peer_free(&p);
}
END_TEST

START_TEST(what_does_not_match_does_not_come)
{
    struct peer p = peer_clean(&rig, "p", versions[_i]);
    rig_publish(&rig, "a", "x", 0, true);
    rig_publish(&rig, "$own/a", "x", 1, true);
    peer_subscribe(&p, "b", 1);
    peer_subscribe(&p, "+/+", 1); /* [MQTT-4.7.2-1] */
    peer_subscribe(&p, "a/+", 1);
    peer_expect_nothing(&p);
    peer_free(&p);
}
END_TEST

/* [MQTT-3.3.1-5] to -7: replaced, and cleared by an empty one, which is delivered like any other. */
START_TEST(an_empty_message_clears_it)
{
    struct peer p = peer_clean(&rig, "p", versions[_i]), q = peer_clean(&rig, "q", versions[_i]);
    peer_subscribe(&p, "a", 1);
    peer_publish(
        &q, &(struct peer_publish){.topic = "a", .payload = "x", .qos = 1, .packet_id = 1, .retain = true});
    rig_turn(&rig);
    peer_expect_new(&p, "a", "x", 1); /* to a subscription that is there RETAIN is not told */
    peer_publish(&q, &(struct peer_publish){.topic = "a",
                                            .payload = "",
                                            .qos = (uint8_t)(_i ? 1 : 0),
                                            .packet_id = (uint16_t)(_i ? 2 : 0),
                                            .retain = true});
    rig_turn(&rig);
    peer_expect_new(&p, "a", "", (uint8_t)(_i ? 1 : 0));
    struct peer r = peer_clean(&rig, "r", versions[_i]);
    peer_subscribe(&r, "a", 1);
    peer_expect_nothing(&r);
    peer_free(&p);
    peer_free(&q);
    peer_free(&r);
}
END_TEST

/* [MQTT-3.3.1-9] to -11. */
START_TEST(retain_handling_says_when)
{
    struct peer p = peer_clean(&rig, "p", MQTT_V5);
    rig_publish(&rig, "a", "x", 0, true);
    peer_subscribe(&p, "a", 0x20); /* never */
    peer_expect_nothing(&p);
    peer_subscribe(&p, "a", 0x10); /* if it is new, which it is not */
    peer_expect_nothing(&p);
    uint16_t id = peer_ask(&p, "a", 0x00, 0); /* always */
    rig_turn(&rig);
    peer_expect_suback(&p, id, 0);
    expect_retained(&p, "a", "x", 0);
    peer_unsubscribe(&p, "a");
    id = peer_ask(&p, "a", 0x11, 0); /* now it is new */
    rig_turn(&rig);
    peer_expect_suback(&p, id, 1);
    expect_retained(&p, "a", "x", 0);
    peer_expect_nothing(&p);
    peer_free(&p);
}
END_TEST

/* A session that comes back has its subscriptions: they are not new, and nothing is sent for them. */
START_TEST(a_resumed_subscription_is_not_new)
{
    struct peer p = peer_stored(&rig, "p", MQTT_V5, false);
    peer_subscribe(&p, "a", 1);
    peer_drop(&p);
    rig_publish(&rig, "b", "x", 1, true);
    rig_publish(&rig, "a", "x", 1, true);
    p = peer_stored(&rig, "p", MQTT_V5, true);
    uint16_t id = peer_expect_new(&p, "a", "x", 1); /* as a message that came meanwhile */
    peer_complete(&p, 1, id);
    peer_expect_nothing(&p);
    peer_subscribe(&p, "a", 0x11);
    peer_expect_nothing(&p);
    peer_ask(&p, "a", 0x01, 0);
    rig_turn(&rig);
    unsigned retained = 0;
    for (struct mqtt_packet m; peer_next(&p, &m);)
        retained += m.type == MQTT_PUBLISH && m.u.publish.retain;
    ck_assert_uint_eq(retained, 1);
    peer_drop(&p);
}
END_TEST

/* [MQTT-3.3.1-12], [MQTT-3.3.1-13], live and from the log. */
START_TEST(retain_as_published_is_kept_for_who_asks)
{
    struct peer_connect how = {.version = MQTT_V5, .clean = true, .receive_maximum = 1};
    struct peer p = peer_connect_with(&rig, "p", &how, false), q = peer_connect_with(&rig, "q", &how, false);
    peer_subscribe(&p, "a", 0x09);
    peer_subscribe(&q, "a", 0x01);
    for (int i = 0; i < 3; i++) {
        rig_publish(&rig, "a", "kept", 1, true);
        rig_publish(&rig, "a", "passing", 1, false);
    }
    for (int i = 0; i < 6; i++) {
        struct mqtt_publish a = peer_expect_publish(&p, "a", i % 2 ? "passing" : "kept", 1);
        struct mqtt_publish b = peer_expect_publish(&q, "a", i % 2 ? "passing" : "kept", 1);
        ck_assert(a.retain == (i % 2 == 0));
        ck_assert(!b.retain);
        peer_complete(&p, 1, a.packet_id);
        peer_complete(&q, 1, b.packet_id);
    }
    rig_publish(&rig, "a", "0", 0, true);
    ck_assert(peer_expect_publish(&p, "a", "0", 0).retain);
    ck_assert(!peer_expect_publish(&q, "a", "0", 0).retain);
    peer_free(&p);
    peer_free(&q);
}
END_TEST

/* More than one portion: each comes once. */
START_TEST(many_come_each_once)
{
    uint8_t qos = (uint8_t)_i;
    unsigned seen[300] = {0};
    struct peer_connect how = {.version = MQTT_V5, .clean = true, .receive_maximum = 7};
    struct peer p = peer_connect_with(&rig, "p", &how, false);
    retain_many(300, "x", 2);
    peer_ask(&p, "many/#", qos, 0);
    rig_turn(&rig);
    collect_all(&p, seen, 300);
    for (unsigned i = 0; i < 300; i++)
        ck_assert_msg(seen[i] == 1, "%u came %u times", i, seen[i]);
    rig_pass(&rig, 3000);
    peer_expect_nothing(&p);
    ck_assert_uint_eq(sessions_get(rig.sessions, sessions_find(rig.sessions, "p", 1))->window, 0);
    peer_free(&p);
}
END_TEST

/* A client that does not read: nothing of it is lost, also with QoS 0, and it does not pile up. */
START_TEST(a_blocked_client_gets_them_when_it_reads)
{
    static char big[5000];
    uint8_t qos = (uint8_t)_i;
    unsigned seen[200] = {0};
    struct peer_connect how = {.version = MQTT_V5, .clean = true, .sndbuf = 4096};
    struct peer p = peer_connect_with(&rig, "p", &how, false);
    memset(big, 'x', sizeof big - 1);
    retain_many(200, big, 1);
    peer_ask(&p, "many/+", qos, 0);
    rig_turn(&rig);
    ck_assert_uint_le(net_pending(sessions_net(rig.sessions),
                                  sessions_get(rig.sessions, sessions_find(rig.sessions, "p", 1))->conn),
                      100000);
    collect_all(&p, seen, 200);
    for (unsigned i = 0; i < 200; i++)
        ck_assert_msg(seen[i] == 1, "%u came %u times", i, seen[i]);
    peer_free(&p);
}
END_TEST

/* [MQTT-3.10.4-2]: after UNSUBACK nothing new is begun. */
START_TEST(unsubscribing_ends_them)
{
    struct peer_connect how = {.version = MQTT_V5, .clean = true, .receive_maximum = 2};
    struct peer p = peer_connect_with(&rig, "p", &how, false);
    uint16_t id[2];
    retain_many(20, "x", 1);
    rig_publish(&rig, "other/1", "y", 1, true);
    peer_subscribe(&p, "many/#", 1);
    peer_ask(&p, "other/#", 1, 0);
    rig_turn(&rig);
    struct mqtt_packet m;
    for (int n = 0; peer_next(&p, &m);)
        if (m.type == MQTT_PUBLISH) {
            ck_assert_int_lt(n, 2);
            id[n++] = m.u.publish.packet_id;
        }
    peer_unsubscribe(&p, "many/#");
    for (int i = 0; i < 2; i++)
        peer_ack(&p, MQTT_PUBACK, id[i]);
    rig_turn(&rig);
    expect_retained(&p, "other/1", "y", 1);
    peer_expect_nothing(&p);
    peer_free(&p);
}
END_TEST

/* Two subscriptions, each with its own. */
START_TEST(each_subscription_brings_its_own)
{
    struct peer p = peer_clean(&rig, "p", MQTT_V5);
    rig_publish(&rig, "a/1", "x", 1, true);
    rig_publish(&rig, "a/2", "x", 1, true);
    rig_publish(&rig, "b/3", "x", 1, true);
    unsigned seen[4] = {0};
    peer_ask(&p, "a/+", 1, 0);
    peer_ask(&p, "+/1", 2, 0);
    peer_ask(&p, "b/3", 0, 0);
    rig_turn(&rig);
    collect(&p, seen, 100);
    ck_assert_uint_eq(seen[1], 2);
    ck_assert_uint_eq(seen[2], 1);
    ck_assert_uint_eq(seen[3], 1);
    peer_free(&p);
}
END_TEST

/* [MQTT-3.3.2-6]. */
START_TEST(a_retained_message_expires)
{
    struct peer p = peer_clean(&rig, "p", MQTT_V5), q = peer_clean(&rig, "q", MQTT_V5);
    for (int i = 0; i < 2; i++)
        peer_publish(&q, &(struct peer_publish){.topic = i ? "a/1" : "a/2",
                                                .payload = "x",
                                                .qos = (uint8_t)_i,
                                                .packet_id = (uint16_t)(_i ? 1 + i : 0),
                                                .retain = true,
                                                .expiry_s = i ? 3 : 100});
    rig_pass(&rig, 10000);
    uint16_t id = peer_ask(&p, "a/#", 0, 0);
    rig_turn(&rig);
    peer_expect_suback(&p, id, 0);
    struct mqtt_publish got = peer_expect_publish(&p, "a/2", "x", 0);
    ck_assert(mqtt_has(&got.props, MQTT_P_MESSAGE_EXPIRY));
    ck_assert_uint_ge(got.props.value[MQTT_P_MESSAGE_EXPIRY].num, 90);
    ck_assert_uint_le(got.props.value[MQTT_P_MESSAGE_EXPIRY].num, 91);
    peer_expect_nothing(&p);
    peer_free(&p);
    peer_free(&q);
}
END_TEST

/* Where nothing is retained a 5.0 client is told and may not ask; one of 3.1.1 is served without. */
START_TEST(without_retained_messages_clients_are_told)
{
    rig.config.retain = false;
    struct peer p = peer_clean(&rig, "p", MQTT_V5), q = peer_clean(&rig, "q", MQTT_V311);
    ck_assert(mqtt_has(&p.connack.u.connack.props, MQTT_P_RETAIN_AVAILABLE));
    ck_assert_uint_eq(p.connack.u.connack.props.value[MQTT_P_RETAIN_AVAILABLE].num, 0);
    peer_subscribe(&p, "a", 0);
    peer_publish(&q, &(struct peer_publish){.topic = "a", .payload = "x", .retain = true});
    rig_turn(&rig);
    peer_expect_new(&p, "a", "x", 0);
    struct peer r = peer_clean(&rig, "r", MQTT_V5);
    peer_subscribe(&r, "a", 0);
    peer_expect_nothing(&r);
    peer_publish(&r, &(struct peer_publish){.topic = "a", .payload = "x", .retain = true});
    rig_turn(&rig);
    peer_expect_bye(&r, MQTT_RC_RETAIN_NOT_SUPPORTED);
    peer_free(&p);
    peer_free(&q);
    peer_free(&r);
}
END_TEST

/* [MQTT-3.1.2-17]. */
START_TEST(a_will_may_be_retained)
{
    struct peer_connect how = {.version = versions[_i],
                               .clean = true,
                               .will_topic = "w",
                               .will_payload = "gone",
                               .will_qos = (uint8_t)(_i + 1),
                               .will_retain = true};
    struct peer p = peer_connect_with(&rig, "p", &how, false);
    peer_drop(&p);
    struct peer q = peer_clean(&rig, "q", versions[_i]);
    uint16_t id = peer_ask(&q, "w", 2, 0);
    rig_turn(&rig);
    peer_expect_suback(&q, id, 2);
    expect_retained(&q, "w", "gone", (uint8_t)(_i + 1));
    peer_free(&q);
}
END_TEST

/* The newest one is what a subscriber has in the end, whatever is under way when it subscribes. */
START_TEST(the_newest_comes_last)
{
    struct peer p = peer_clean(&rig, "p", MQTT_V5);
    char payload[16] = "";
    rig_publish(&rig, "a", "first", 1, true);
    rig.hold_feed = true; /* committed, and not delivered yet */
    rig_publish(&rig, "a", "second", 1, true);
    peer_ask(&p, "a", 1, 0);
    rig_turn(&rig);
    rig_publish(&rig, "a", "third", 1, true);
    rig.hold_feed = false;
    rig_turn(&rig);
    unsigned n = 0, third = 0;
    for (struct mqtt_packet m; peer_next(&p, &m);)
        if (m.type == MQTT_PUBLISH) {
            snprintf(payload, sizeof payload, "%.*s", (int)m.u.publish.payload.len, m.u.publish.payload.data);
            n++;
            third += strcmp(payload, "third") == 0;
        }
    ck_assert_str_eq(payload, "third");
    ck_assert_uint_eq(third, 1);
    ck_assert_uint_le(n, 3);
    peer_free(&p);
}
END_TEST

/* [MQTT-4.4.0-1] holds for them too: unacknowledged ones come again, released ones are released. */
START_TEST(retained_messages_in_flight_are_sent_again)
{
    struct peer p = peer_stored(&rig, "p", versions[_i], false);
    rig_publish(&rig, "a/1", "1", 1, true);
    rig_publish(&rig, "a/2", "2", 2, true);
    rig_publish(&rig, "a/3", "3", 2, true);
    rig_publish(&rig, "a/4", "4", 2, true);
    for (unsigned i = 0; i < 3; i++)
        rig_publish(&rig, "other", "x", 1, false); /* they are not the newest */
    peer_ask(&p, "a/#", 2, 0);
    rig_turn(&rig);
    uint16_t id[5] = {0};
    for (struct mqtt_packet m; peer_next(&p, &m);)
        if (m.type == MQTT_PUBLISH) {
            ck_assert(m.u.publish.retain);
            id[m.u.publish.payload.data[0] - '0'] = m.u.publish.packet_id;
        }
    for (int i = 1; i < 5; i++)
        ck_assert_uint_ne(id[i], 0);
    peer_complete(&p, 2, id[2]);
    peer_ack(&p, MQTT_PUBREC, id[3]);
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREL, id[3], 0);
    for (int round = 0; round < 2; round++) {
        if (round)
            peer_disconnect(&p);
        else
            peer_drop(&p);
        p = peer_stored(&rig, "p", versions[_i], true);
        peer_expect_ack(&p, MQTT_PUBREL, id[3], 0);
        unsigned seen[5] = {0};
        for (struct mqtt_packet m; peer_next(&p, &m);) {
            ck_assert_int_eq(m.type, MQTT_PUBLISH);
            ck_assert(m.u.publish.dup);
            ck_assert(m.u.publish.retain);
            unsigned n = (unsigned)(m.u.publish.payload.data[0] - '0');
            ck_assert_uint_eq(m.u.publish.packet_id, id[n]);
            ck_assert_uint_eq(m.u.publish.qos, n == 1 ? 1 : 2);
            seen[n]++;
        }
        ck_assert_uint_eq(seen[1], 1);
        ck_assert_uint_eq(seen[2], 0);
        ck_assert_uint_eq(seen[3], 0);
        ck_assert_uint_eq(seen[4], 1);
    }
    peer_ack(&p, MQTT_PUBCOMP, id[3]);
    peer_ack(&p, MQTT_PUBACK, id[1]);
    peer_complete(&p, 2, id[4]);
    peer_disconnect(&p);
    p = peer_stored(&rig, "p", versions[_i], true);
    peer_expect_nothing(&p);
    peer_disconnect(&p);
    struct rig_stored s = rig_stored(&rig, "p");
    ck_assert_uint_eq(s.outs, 0);
}
END_TEST

/* They are read from the store: a worker that starts has them. */
START_TEST(they_outlive_the_worker)
{
    rig_publish(&rig, "a", "x", 0, true);
    rig_kill_worker(&rig, 0);
    struct peer p = peer_clean(&rig, "p", MQTT_V5);
    uint16_t id = peer_ask(&p, "a", 1, 0);
    rig_turn(&rig);
    peer_expect_suback(&p, id, 1);
    expect_retained(&p, "a", "x", 0);
    peer_free(&p);
}
END_TEST

/* A client's connection may end in the middle of many. */
/* ---- log { sync = interval } ---- */

/* A retained message that the hub has told of, and is yet to be written. */
static struct message_parts tell_ahead(const char *topic, const char *payload, uint8_t qos)
{
    struct message_parts parts = {.topic = topic,
                                  .topic_len = (uint16_t)strlen(topic),
                                  .payload = payload,
                                  .payload_len = (uint32_t)strlen(payload),
                                  .qos = qos,
                                  .retain = true,
                                  .seq = rig.ops->next_seq(rig.engine)};
    struct message *m = message_new(&parts);
    sessions_told(rig.sessions, m);
    ck_assert(fanout_start(rig.fanout, m));
    message_unref(m);
    return parts;
}

/* Who subscribes after a message was told finds it, however late it is written. */
START_TEST(what_was_told_is_waited_for)
{
    unsigned seen[1] = {0};
    rig.config.log_sync = LOG_SYNC_INTERVAL;
    struct peer p = peer_clean(&rig, "p", MQTT_V5);
    struct message_parts parts = tell_ahead("many/0", "x", (uint8_t)_i);
    peer_subscribe(&p, "many/+", 1);
    rig_pass(&rig, 300);
    peer_expect_nothing(&p);
    rig.ops->retain(rig.engine, &parts);
    rig.ops->commit(rig.engine);
    collect_all(&p, seen, 1);
    ck_assert_uint_eq(seen[0], 1);
    peer_free(&p);
}
END_TEST

/* Meanwhile another one replaces it: that comes as it is published, and not once more as retained. */
START_TEST(what_replaces_it_comes_once)
{
    rig.config.log_sync = LOG_SYNC_INTERVAL;
    struct peer p = peer_clean(&rig, "p", MQTT_V5);
    tell_ahead("a", "x", 1);
    peer_subscribe(&p, "a", 1);
    rig_publish(&rig, "a", "y", (uint8_t)_i, true);
    struct mqtt_publish got = peer_expect_publish(&p, "a", "y", _i ? 1 : 0);
    ck_assert(!got.retain);
    if (_i)
        peer_ack(&p, MQTT_PUBACK, got.packet_id);
    for (int i = 0; i < 20; i++) {
        rig_pass(&rig, 100);
        usleep(10000);
    }
    peer_expect_nothing(&p);
    peer_free(&p);
}
END_TEST

/* The disk has failed meanwhile: the client gets what there is. */
START_TEST(what_is_never_written_is_not_waited_for_long)
{
    unsigned seen[1] = {0};
    rig.config.log_sync = LOG_SYNC_INTERVAL;
    struct peer p = peer_clean(&rig, "p", MQTT_V5);
    rig_publish(&rig, "many/0", "x", 1, true);
    tell_ahead("many/1", "y", 1);
    peer_subscribe(&p, "many/+", 1);
    rig_pass(&rig, 300);
    peer_expect_nothing(&p);
    rig_pass(&rig, 4000);
    collect_all(&p, seen, 1);
    ck_assert_uint_eq(seen[0], 1);
    peer_free(&p);
}
END_TEST

/* Nor is it forgotten with the connection, although nobody could tell yet whether there is one. */
START_TEST(what_was_told_is_owed)
{
    rig.config.log_sync = LOG_SYNC_INTERVAL;
    struct peer p = peer_stored(&rig, "p", MQTT_V5, false);
    struct message_parts parts = tell_ahead("many/0", "x", 1);
    peer_subscribe(&p, "many/+", 1);
    peer_drop(&p);
    rig.ops->retain(rig.engine, &parts);
    p = peer_stored(&rig, "p", MQTT_V5, true);
    peer_complete(&p, 1, expect_retained(&p, "many/0", "x", 1));
    peer_disconnect(&p);
    ck_assert_uint_eq(rig_stored(&rig, "p").owes, 0);
}
END_TEST

START_TEST(the_connection_may_end_in_the_middle)
{
    retain_many(100, "x", 1);
    for (int i = 0; i < 10; i++) {
        struct peer_connect how = {.version = MQTT_V5, .clean = true, .receive_maximum = (uint16_t)(1 + i)};
        struct peer p = peer_connect_with(&rig, "p", &how, false);
        unsigned seen[100] = {0};
        peer_ask(&p, "many/#", 1, 0);
        if (i % 2)
            loop_turn(rig.base);
        collect(&p, seen, (unsigned)i * 3);
        peer_drop(&p);
        ck_assert_uint_eq(counter_get(counters_mine, COUNTER_INFLIGHT), 0);
    }
}
END_TEST

/* ---- what is owed when the connection ends ---- */

/* The other side of many messages of QoS 1 and 2, over several connections. */
struct taker {
    unsigned came[300];
    bool done[300], dup; /* dup: all that comes has to say so */
    uint16_t id[300];
};

static unsigned number_of(const struct mqtt_publish *m)
{
    char text[128];
    snprintf(text, sizeof text, "%.*s", (int)m->topic.len, m->topic.data);
    return (unsigned)atoi(strrchr(text, '/') + 1);
}

/* A message: one that is complete does not come again, and none under another identifier. */
static void take_publish(struct peer *p, struct taker *t, const struct mqtt_publish *m)
{
    unsigned i = number_of(m);
    ck_assert(m->retain);
    ck_assert_msg(!t->done[i], "%u is complete and comes again", i);
    ck_assert(!t->dup || m->dup);
    ck_assert(!t->came[i] || t->id[i] == m->packet_id);
    t->id[i] = m->packet_id;
    t->came[i]++;
    peer_ack(p, m->qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, m->packet_id);
}

/* Takes up to max messages; how many came. */
static unsigned take(struct peer *p, struct taker *t, unsigned max)
{
    struct mqtt_packet m;
    unsigned n = 0;
    while (n < max && peer_next(p, &m)) {
        if (m.type == MQTT_PUBREL) {
            for (unsigned i = 0; i < 300; i++)
                t->done[i] |= t->came[i] && t->id[i] == m.u.ack.packet_id;
            peer_ack(p, MQTT_PUBCOMP, m.u.ack.packet_id);
        } else if (m.type == MQTT_PUBLISH) {
            take_publish(p, t, &m.u.publish);
            n++;
        }
        rig_turn(p->r);
    }
    return n;
}

/* Until nothing comes any more: all have come. */
static void take_rest(struct peer *p, struct taker *t, unsigned all)
{
    while (take(p, t, 300))
        rig_turn(p->r);
    for (unsigned i = 0; i < all; i++)
        ck_assert_msg(t->came[i], "%u has not come", i);
}

/* [MQTT-3.3.1-9], 3.1.1 [MQTT-3.3.1-6]: a subscription that goes on has all that it has called for. */
START_TEST(what_was_not_sent_yet_comes_after_a_resume)
{
    uint8_t version = versions[_i % 2], qos = (uint8_t)(1 + _i / 2);
    struct taker t = {0};
    struct peer p = peer_stored(&rig, "p", version, false);
    retain_many(300, "x", 2);
    peer_ask(&p, "many/#", qos, 0);
    rig_turn(&rig);
    for (unsigned round = 0; round < 5; round++) {
        take(&p, &t, round * 20);
        ck_assert_uint_eq(rig_stored(&rig, "p").owes, 1);
        if (round % 2)
            peer_disconnect(&p);
        else
            peer_drop(&p);
        ck_assert_uint_eq(rig_stored(&rig, "p").owes, 1);
        p = peer_stored(&rig, "p", version, true);
    }
    take_rest(&p, &t, 300);
    for (unsigned i = 0; i < 300; i++)
        ck_assert_msg(t.came[i] == 1, "%u came %u times", i, t.came[i]);
    peer_disconnect(&p);
    struct rig_stored s = rig_stored(&rig, "p");
    ck_assert_uint_eq(s.outs, 0);
    ck_assert_uint_eq(s.owes, 0);
    p = peer_stored(&rig, "p", version, true);
    peer_expect_nothing(&p);
    peer_disconnect(&p);
}
END_TEST

/* The worker is killed, with more or less of what it has sent on its way; QoS 2 is kept up. */
START_TEST(what_was_not_sent_yet_outlives_the_worker)
{
    uint8_t version = versions[_i % 2], qos = (uint8_t)(1 + _i / 2 % 2);
    unsigned arrive = (unsigned)_i / 4;
    struct taker t = {0};
    struct peer p = peer_stored(&rig, "p", version, false);
    retain_many(300, "x", 2);
    peer_ask(&p, "many/#", qos, 0);
    rig_turn(&rig);
    for (unsigned round = 0; round < 6; round++) {
        take(&p, &t, round * 15);
        rig.hold_requests = true;
        take(&p, &t, round * 3);
        rig_kill_worker(&rig, arrive);
        peer_free(&p);
        rig.unsure_to = rig.newest;
        t.dup = true;
        p = peer_stored(&rig, "p", version, true);
        rig.unsure_to = 0;
    }
    take_rest(&p, &t, 300);
    peer_disconnect(&p);
    ck_assert_uint_eq(rig_stored(&rig, "p").owes, 0);
}
END_TEST

/* [MQTT-3.10.4-2]: what is owed to a subscription ends with it, however the connection ends then. */
START_TEST(unsubscribing_ends_what_is_owed)
{
    struct taker t = {0};
    struct peer p = peer_stored(&rig, "p", MQTT_V5, false);
    retain_many(100, "x", 1);
    rig_publish(&rig, "other/200", "y", 1, true);
    peer_ask(&p, "many/#", 1, 0);
    peer_ask(&p, "other/#", 1, 0);
    rig_turn(&rig);
    ck_assert_uint_eq(rig_stored(&rig, "p").owes, 2);
    unsigned before = take(&p, &t, 10);
    for (struct mqtt_packet m; peer_next(&p, &m);)
        ;
    peer_unsubscribe(&p, "many/#");
    peer_subscribe(&p, "many/#", 0x21);
    if (_i) {
        rig_kill_worker(&rig, 0);
        peer_free(&p);
    } else {
        peer_drop(&p);
    }
    p = peer_stored(&rig, "p", MQTT_V5, true);
    while (take(&p, &t, 300))
        ;
    unsigned came = 0;
    for (unsigned i = 0; i < 100; i++)
        came += t.came[i] > 0;
    ck_assert_uint_ge(before, 10);
    ck_assert_uint_le(came, before + rig.config.max_inflight);
    ck_assert_uint_eq(t.came[200], 1);
    peer_disconnect(&p);
}
END_TEST

/* One that is replaced meanwhile comes by itself, as it was published, and the old one does not. */
START_TEST(what_changes_meanwhile_comes_once)
{
    struct peer p = peer_stored(&rig, "p", MQTT_V5, false);
    retain_many(100, "x", 1);
    peer_ask(&p, "many/#", 1, 0);
    rig_turn(&rig);
    if (_i == 1) { /* while it is connected and cannot take more */
        rig_publish(&rig, "many/95", "y", 1, true);
        rig_publish(&rig, "many/96", "", 1, true);
    }
    if (_i == 2) {
        rig_kill_worker(&rig, 0);
        peer_free(&p);
    } else {
        peer_drop(&p);
    }
    if (_i != 1) {
        rig_publish(&rig, "many/95", "y", 1, true);
        rig_publish(&rig, "many/96", "", 1, true);
    }
    p = peer_stored(&rig, "p", MQTT_V5, true);
    unsigned seen[100] = {0};
    for (struct mqtt_packet m; peer_next(&p, &m);) {
        ck_assert_int_eq(m.type, MQTT_PUBLISH);
        unsigned n = number_of(&m.u.publish);
        ck_assert_uint_eq(m.u.publish.retain, n != 95 && n != 96);
        ck_assert_uint_eq(m.u.publish.payload.len, n != 96);
        ck_assert_int_eq(n == 96 ? 0 : m.u.publish.payload.data[0], n == 95 ? 'y' : n == 96 ? 0 : 'x');
        seen[n]++;
        peer_ack(&p, MQTT_PUBACK, m.u.publish.packet_id);
        rig_turn(&rig);
    }
    for (unsigned i = 0; i < 100; i++)
        ck_assert_msg(seen[i] == 1, "%u came %u times", i, seen[i]);
    peer_disconnect(&p);
}
END_TEST

/* What nothing matches costs no more than the subscription; what is through is not owed any more. */
START_TEST(what_is_owed_is_stored_while_it_is)
{
    struct peer p = peer_stored(&rig, "p", MQTT_V5, false);
    retain_many(10, "x", 1);
    rig_publish(&rig, "zero/1", "x", 0, true);
    peer_subscribe(&p, "few/#", 1);
    peer_subscribe(&p, "few", 1);
    peer_subscribe(&p, "many/3", 0x21); /* never */
    peer_ask(&p, "many/3", 0, 0);
    peer_ask(&p, "zero/#", 1, 0);
    rig_pass(&rig, 20000);
    ck_assert_uint_eq(rig_stored(&rig, "p").owes, 0);
    ck_assert_uint_eq(rig.progresses, 0);
    for (struct mqtt_packet m; peer_next(&p, &m);)
        ;
    uint16_t id = peer_ask(&p, "many/4", 1, 0);
    rig_turn(&rig);
    peer_expect_suback(&p, id, 1);
    ck_assert_uint_eq(rig_stored(&rig, "p").owes, 1);
    peer_ack(&p, MQTT_PUBACK, expect_retained(&p, "many/4", "x", 1));
    rig_pass(&rig, 20000);
    ck_assert_uint_eq(rig_stored(&rig, "p").owes, 0);
    ck_assert_uint_le(rig.progresses, 2);
    for (unsigned i = 0; i < 100; i++) {
        char topic[16];
        snprintf(topic, sizeof topic, "wide/%u", i);
        rig_publish(&rig, topic, "x", 1, true);
    }
    id = peer_ask(&p, "+/none", 1, 0); /* too many topics to say at once that it is none */
    rig_turn(&rig);
    peer_expect_suback(&p, id, 1);
    ck_assert_uint_eq(rig_stored(&rig, "p").owes, 1);
    rig_pass(&rig, 20000);
    peer_expect_nothing(&p);
    ck_assert_uint_eq(rig_stored(&rig, "p").owes, 0);
    peer_disconnect(&p);
}
END_TEST

/* A message in flight may be retained, too, and called for by another subscription: each brings it. */
START_TEST(what_is_in_flight_may_be_owed_as_well)
{
    struct peer p = peer_stored(&rig, "p", MQTT_V5, false);
    peer_subscribe(&p, "a/#", 1);
    rig_publish(&rig, "a/1", "x", 1, true);
    uint16_t message = peer_expect_new(&p, "a/1", "x", 1);
    uint16_t id = peer_ask(&p, "a/+", 1, 0);
    rig_turn(&rig);
    peer_expect_suback(&p, id, 1);
    peer_expect_nothing(&p); /* its packet identifier is taken */
    peer_drop(&p);
    p = peer_stored(&rig, "p", MQTT_V5, true);
    struct mqtt_publish again = peer_expect_publish(&p, "a/1", "x", 1);
    ck_assert(again.dup);
    ck_assert_uint_eq(again.packet_id, message);
    peer_expect_nothing(&p);
    peer_ack(&p, MQTT_PUBACK, message);
    rig_turn(&rig);
    peer_complete(&p, 1, expect_retained(&p, "a/1", "x", 1));
    peer_expect_nothing(&p);
    peer_disconnect(&p);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, a_retained_message_comes_with_a_subscription, 0, 2);
    tcase_add_loop_test(tc, what_does_not_match_does_not_come, 0, 2);
    tcase_add_loop_test(tc, an_empty_message_clears_it, 0, 2);
    tcase_add_test(tc, retain_handling_says_when);
    tcase_add_test(tc, a_resumed_subscription_is_not_new);
    tcase_add_test(tc, retain_as_published_is_kept_for_who_asks);
    tcase_add_loop_test(tc, many_come_each_once, 0, 3);
    tcase_add_loop_test(tc, a_blocked_client_gets_them_when_it_reads, 0, 3);
    tcase_add_test(tc, unsubscribing_ends_them);
    tcase_add_test(tc, each_subscription_brings_its_own);
    tcase_add_loop_test(tc, a_retained_message_expires, 0, 3);
    tcase_add_test(tc, without_retained_messages_clients_are_told);
    tcase_add_loop_test(tc, a_will_may_be_retained, 0, 2);
    tcase_add_test(tc, the_newest_comes_last);
    tcase_add_loop_test(tc, retained_messages_in_flight_are_sent_again, 0, 2);
    tcase_add_test(tc, they_outlive_the_worker);
    tcase_add_loop_test(tc, what_was_told_is_waited_for, 0, 3);
    tcase_add_loop_test(tc, what_replaces_it_comes_once, 0, 3);
    tcase_add_test(tc, what_is_never_written_is_not_waited_for_long);
    tcase_add_test(tc, what_was_told_is_owed);
    tcase_add_test(tc, the_connection_may_end_in_the_middle);
    tcase_add_loop_test(tc, what_was_not_sent_yet_comes_after_a_resume, 0, 4);
    tcase_add_loop_test(tc, what_was_not_sent_yet_outlives_the_worker, 0, 16);
    tcase_add_loop_test(tc, unsubscribing_ends_what_is_owed, 0, 2);
    tcase_add_loop_test(tc, what_changes_meanwhile_comes_once, 0, 3);
    tcase_add_test(tc, what_is_owed_is_stored_while_it_is);
    tcase_add_test(tc, what_is_in_flight_may_be_owed_as_well);
}

UNIT_MAIN("session_retained")
