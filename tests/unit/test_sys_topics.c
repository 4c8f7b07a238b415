/*
 * The gateway's own topics: clients hear them, also what was said before they subscribed, and cannot publish
 * to them. And subscribing to a group, as far as one worker does it.
 */
#include "gateway/base/counters.h"
#include "tests/unit/session_peer.h"

static struct rig rig;
static struct ipc_message last_share;
static unsigned shares;

/* What the hub is told about groups. The bytes are gone; what is looked at are numbers. */
static void share_cb(void *ctx, const struct ipc_message *m)
{
    (void)ctx;
    shares++;
    last_share = *m;
}

/* The rig, but for who hears of groups. */
static void setup(void)
{
    static struct sessions_handler handler;
    handler = rig_handler;
    handler.tell = share_cb;
    shares = 0;
    rig_begin(&rig);
    rig_end_worker(&rig);
    struct sessions_settings ss = {.config = &rig.config, .max_sessions = 200, .engine = rig.ops};
    struct fanout_settings fs = {
        .slice = 100, .queue_limit = 1 << 20, .clients_prefix = "", .broadcast_topic = ""};
    rig.sessions = sessions_new(rig.base, &ss, &handler, &rig);
    rig.fanout = fanout_new(rig.base, sessions_tree(rig.sessions), &sessions_fanout_ops, rig.sessions, &fs);
    sessions_set_fanout(rig.sessions, rig.fanout);
    sessions_set_reader(rig.sessions, rig.reader);
    fanout_begin(rig.fanout, 1);
}

static void teardown(void) { rig_end(&rig); }

/* The client publishes. */
static void publish(struct peer *p, const char *topic, uint8_t qos, uint16_t packet_id)
{
    peer_publish(p,
                 &(struct peer_publish){
                     .topic = topic, .payload = "x", .qos = qos, .packet_id = packet_id, .retain = qos == 2});
    rig_turn(&rig);
}

static const uint8_t versions[] = {MQTT_V311, MQTT_V5};

/* The hub says something. */
static void say(const char *topic, const char *text)
{
    struct message_parts parts = {.topic = topic,
                                  .topic_len = (uint16_t)strlen(topic),
                                  .payload = text,
                                  .payload_len = (uint32_t)strlen(text),
                                  .retain = true};
    struct message *m = message_new(&parts);
    sessions_told(rig.sessions, m);
    rig_publish0(&rig, "", 0, m);
    message_unref(m);
    rig_turn(&rig);
}

/* The next packet is this message, with QoS 0. */
static void expect(struct peer *p, const char *topic, const char *text, bool retain)
{
    struct mqtt_publish got = peer_expect_publish(p, topic, text, 0);
    ck_assert_int_eq(got.retain, retain);
}

START_TEST(who_subscribes_later_gets_the_newest)
{
    say("$SYS/broker/uptime", "1 seconds");
    say("$SYS/broker/version", "v");
    say("$SYS/broker/uptime", "2 seconds");
    struct peer p = peer_clean(&rig, "p", versions[_i]);
    peer_subscribe(&p, "$SYS/broker/uptime", 1);
    expect(&p, "$SYS/broker/uptime", "2 seconds", true);
    peer_expect_nothing(&p);
    say("$SYS/broker/uptime", "3 seconds");
    expect(&p, "$SYS/broker/uptime", "3 seconds", false);
    peer_subscribe(&p, "$SYS/#", 0);
    expect(&p, "$SYS/broker/uptime", "3 seconds", true);
    expect(&p, "$SYS/broker/version", "v", true);
    peer_expect_nothing(&p);
    peer_free(&p);
}
END_TEST

START_TEST(a_wildcard_at_the_beginning_does_not_bring_them)
{
    say("$SYS/broker/version", "v");
    struct peer p = peer_clean(&rig, "p", versions[_i]);
    peer_subscribe(&p, "#", 0);
    peer_subscribe(&p, "+/broker/version", 0);
    peer_expect_nothing(&p);
    say("$SYS/broker/version", "v");
    peer_expect_nothing(&p);
    peer_free(&p);
}
END_TEST

/* Retain Handling (MQTT 5.0 section 3.8.3.1) holds for them too; and Retain As Published. */
START_TEST(the_options_of_retained_messages_hold)
{
    say("$SYS/broker/version", "v");
    struct peer p = peer_clean(&rig, "p", MQTT_V5);
    peer_subscribe(&p, "$SYS/broker/version", 0x20); /* do not send them */
    peer_expect_nothing(&p);
    peer_subscribe(&p, "$SYS/broker/version", 0x10); /* only if it is new */
    peer_expect_nothing(&p);
    peer_subscribe(&p, "$SYS/broker/version", SUB_RETAIN_AS_PUBLISHED);
    expect(&p, "$SYS/broker/version", "v", true);
    say("$SYS/broker/version", "w");
    expect(&p, "$SYS/broker/version", "w", true);
    peer_free(&p);
}
END_TEST

START_TEST(so_many_topics_are_held_and_no_more)
{
    char topic[32];
    for (unsigned i = 0; i < 200; i++) {
        snprintf(topic, sizeof topic, "$SYS/%u", i);
        say(topic, "x");
    }
    say("$SYS/0", "newer"); /* those that are held are kept up to date */
    struct peer p = peer_clean(&rig, "p", MQTT_V311);
    peer_subscribe(&p, "$SYS/+", 0);
    expect(&p, "$SYS/0", "newer", true);
    for (unsigned i = 1; i < 128; i++) {
        snprintf(topic, sizeof topic, "$SYS/%u", i);
        expect(&p, topic, "x", true);
    }
    peer_expect_nothing(&p);
    peer_free(&p);
}
END_TEST

START_TEST(a_session_that_is_resumed_does_not_get_them_again)
{
    say("$SYS/broker/version", "v");
    struct peer p = peer_stored(&rig, "p", versions[_i], false);
    peer_subscribe(&p, "$SYS/broker/version", 1);
    expect(&p, "$SYS/broker/version", "v", true);
    peer_drop(&p);
    p = peer_stored(&rig, "p", versions[_i], true);
    peer_expect_nothing(&p);
    say("$SYS/broker/version", "w");
    expect(&p, "$SYS/broker/version", "w", false);
    peer_free(&p);
}
END_TEST

static const char *const reserved[] = {"$SYS/broker/version", "$SYS", "$share/g/t", "$share"};

START_TEST(clients_cannot_publish_there)
{
    const char *topic = reserved[_i];
    uint64_t before = counter_get(counters_mine, COUNTER_PUBLISHES_FORBIDDEN), newest = rig.newest;
    struct peer p = peer_clean(&rig, "p", MQTT_V5), watcher = peer_clean(&rig, "w", MQTT_V5);
    peer_subscribe(&watcher, "$SYS/#", 0);
    peer_subscribe(&watcher, "$share/g/t/#", 0); /* a group's; and no topic matches it */
    publish(&p, topic, 0, 0);
    peer_expect_nothing(&p);
    publish(&p, topic, 1, 1);
    peer_expect_ack(&p, MQTT_PUBACK, 1, MQTT_RC_NOT_AUTHORIZED);
    publish(&p, topic, 2, 2);
    peer_expect_ack(&p, MQTT_PUBREC, 2, MQTT_RC_NOT_AUTHORIZED);
    peer_expect_nothing(&watcher);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_PUBLISHES_FORBIDDEN), before + 3);
    ck_assert_uint_eq(rig.newest, newest);
    peer_free(&p);
    peer_free(&watcher);
}
END_TEST

START_TEST(a_client_of_3_1_1_is_answered_as_usual)
{
    uint64_t newest = rig.newest;
    struct peer p = peer_clean(&rig, "p", MQTT_V311);
    publish(&p, reserved[_i], 0, 0);
    publish(&p, reserved[_i], 1, 1);
    peer_expect_ack(&p, MQTT_PUBACK, 1, 0);
    publish(&p, reserved[_i], 2, 2);
    peer_expect_ack(&p, MQTT_PUBREC, 2, 0);
    peer_ack(&p, MQTT_PUBREL, 2);
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBCOMP, 2, 0);
    peer_expect_nothing(&p);
    ck_assert_uint_eq(rig.newest, newest);
    peer_free(&p);
}
END_TEST

START_TEST(other_topics_that_begin_like_them_are_like_any)
{
    struct peer p = peer_clean(&rig, "p", MQTT_V5);
    static const char *const free_topics[] = {"$SYSTEM/x", "$shared/t", "SYS/x", "$", "$other/x"};
    for (size_t i = 0; i < sizeof free_topics / sizeof free_topics[0]; i++) {
        peer_subscribe(&p, free_topics[i], 0);
        publish(&p, free_topics[i], 0, 0);
        expect(&p, free_topics[i], "x", false);
    }
    peer_free(&p);
}
END_TEST

/* Nobody is lied to: a will that could never be published is refused with its CONNECT. */
START_TEST(a_will_cannot_be_for_them)
{
    struct peer_connect how = {
        .version = versions[_i], .clean = true, .will_topic = "$SYS/broker/version", .will_payload = "x"};
    struct peer p = peer_begin(&rig, "p", &how);
    rig_turn(&rig);
    struct mqtt_packet m = peer_expect(&p, MQTT_CONNACK);
    ck_assert_uint_eq(m.u.connack.code, versions[_i] == MQTT_V5 ? MQTT_RC_NOT_AUTHORIZED : 5);
    peer_expect_closed(&p);
    peer_free(&p);
}
END_TEST

/* ---- members of groups ---- */

/* SHARE_DELIVER for the client from the hub. */
static void deliver(const char *client, const char *filter, uint64_t seq, uint8_t qos, uint64_t claim_added)
{
    uint32_t id = sessions_find(rig.sessions, client, strlen(client));
    struct ipc_message m = IPC_MAKE(
        SHARE_DELIVER, IPC_NUM(sessions_get(rig.sessions, id)->claim + claim_added), IPC_NUM(1),
        IPC_BYTES(client, strlen(client)), IPC_BYTES(filter, strlen(filter)), IPC_NUM(seq), IPC_NUM(qos),
        IPC_NUM(0), IPC_NUM(0), IPC_NUM(0), IPC_BYTES("t", 1), IPC_BYTES("", 0), IPC_BYTES("x", 1));
    sessions_share_deliver(rig.sessions, &m);
    rig_turn(&rig);
}

/* The hub must know of the member before a publisher can: SUBACK comes when it does. */
START_TEST(the_hub_knows_of_a_member_before_its_client_is_answered)
{
    struct peer p = peer_clean(&rig, "p", versions[_i]);
    rig.hold_requests = true;
    uint16_t packet_id = peer_ask(&p, "$share/g/t", 2, 0);
    rig_turn(&rig);
    ck_assert_uint_eq(shares, 1);
    ck_assert_int_eq(last_share.type, IPC_SHARE_JOIN);
    ck_assert_uint_eq(last_share.field[1].num, 1);
    peer_expect_nothing(&p);
    rig.hold_requests = false;
    rig_turn(&rig);
    peer_expect_suback(&p, packet_id, 1); /* QoS 1 at the most */
    peer_unsubscribe(&p, "$share/g/t");
    ck_assert_int_eq(last_share.type, IPC_SHARE_LEAVE);
    ck_assert_uint_eq(shares, 2);
    peer_free(&p);
}
END_TEST

START_TEST(what_became_of_a_message_is_told)
{
    struct peer p = peer_clean(&rig, "p", versions[_i]);
    peer_subscribe(&p, "$share/g/t", 1);
    deliver("p", "$share/g/t", 77, 1, 0);
    struct mqtt_publish got = peer_expect_publish(&p, "t", "x", 1);
    ck_assert_uint_eq(shares, 1);
    deliver("p", "$share/g/t", 77, 1, 0); /* the same once more: it has it */
    ck_assert_int_eq(last_share.type, IPC_SHARE_DONE);
    ck_assert_uint_eq(last_share.field[0].num, 77);
    ck_assert_uint_eq(last_share.field[2].num, 0);
    peer_ack(&p, MQTT_PUBACK, got.packet_id);
    rig_turn(&rig);
    ck_assert_uint_eq(shares, 3);
    ck_assert_uint_eq(last_share.field[2].num, 1);
    deliver("p", "$share/g/other", 78, 1, 0); /* no member of that */
    ck_assert_uint_eq(last_share.field[0].num, 78);
    ck_assert_uint_eq(last_share.field[2].num, 0);
    deliver("p", "$share/g/t", 79, 1, 1); /* another session's */
    ck_assert_uint_eq(shares, 4);
    deliver("p", "$share/g/t", 80, 0, 0);
    peer_expect_publish(&p, "t", "x", 0);
    ck_assert_uint_eq(shares, 4);
    peer_expect_nothing(&p);
    peer_free(&p);
}
END_TEST

START_TEST(a_bad_group_of_a_3_1_1_client_is_refused)
{
    static const char *const bad[] = {"$share/g", "$share//t", "$share/g/", "$share/a+/t"};
    struct peer p = peer_clean(&rig, "p", MQTT_V311);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint16_t packet_id = peer_ask(&p, bad[i], 1, 0);
        rig_turn(&rig);
        struct mqtt_packet m;
        if (!peer_next(&p, &m)) { /* a wildcard within a level: it is no filter at all */
            peer_expect_closed(&p);
            break;
        }
        ck_assert_int_eq(m.type, MQTT_SUBACK);
        ck_assert_uint_eq(m.u.suback.packet_id, packet_id);
        ck_assert_uint_eq((unsigned char)m.u.suback.codes.data[0], 0x80);
    }
    ck_assert_uint_eq(shares, 0);
    peer_free(&p);
}
END_TEST

START_TEST(a_new_hub_is_told_all_members)
{
    struct peer p = peer_stored(&rig, "p", versions[_i], false);
    peer_subscribe(&p, "$share/g/t", 1);
    peer_subscribe(&p, "t", 1);
    peer_subscribe(&p, "$share/h/t", 0);
    ck_assert_uint_eq(shares, 2);
    ck_assert_uint_gt(last_share.field[2].num, 0);
    sessions_replay(rig.sessions, sessions_find(rig.sessions, "p", 1));
    ck_assert_uint_eq(shares, 4);
    ck_assert_int_eq(last_share.type, IPC_SHARE_JOIN);
    peer_drop(&p);
    p = peer_stored(&rig, "p", versions[_i], true); /* and so is the old one when it comes back */
    ck_assert_uint_eq(shares, 6);
    peer_free(&p);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, who_subscribes_later_gets_the_newest, 0, 2);
    tcase_add_loop_test(tc, a_wildcard_at_the_beginning_does_not_bring_them, 0, 2);
    tcase_add_test(tc, the_options_of_retained_messages_hold);
    tcase_add_test(tc, so_many_topics_are_held_and_no_more);
    tcase_add_loop_test(tc, a_session_that_is_resumed_does_not_get_them_again, 0, 2);
    tcase_add_loop_test(tc, clients_cannot_publish_there, 0, 4);
    tcase_add_loop_test(tc, a_client_of_3_1_1_is_answered_as_usual, 0, 4);
    tcase_add_test(tc, other_topics_that_begin_like_them_are_like_any);
    tcase_add_loop_test(tc, a_will_cannot_be_for_them, 0, 2);
    tcase_add_loop_test(tc, the_hub_knows_of_a_member_before_its_client_is_answered, 0, 2);
    tcase_add_loop_test(tc, what_became_of_a_message_is_told, 0, 2);
    tcase_add_test(tc, a_bad_group_of_a_3_1_1_client_is_refused);
    tcase_add_loop_test(tc, a_new_hub_is_told_all_members, 0, 2);
}

UNIT_MAIN("sys_topics")
