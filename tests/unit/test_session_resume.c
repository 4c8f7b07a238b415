/*
 * Sessions that outlive their connections: what is told in CONNACK, what is sent again and how, what came
 * meanwhile, takeover, expiry, wills that wait, and workers that die. MQTT 5.0 sections 3.1.2.4, 3.1.2.5,
 * 3.1.2.11.2, 3.14.2.2.2, 4.1 and 4.4; 3.1.1 likewise.
 */
#include "tests/unit/session_rig.h"

static struct rig rig;

static void setup(void)
{
    rig_begin(&rig);
    rig.trace = getenv("SESSION_TRACE") != NULL;
}
static void teardown(void) { rig_end(&rig); }

static const uint8_t versions[] = {MQTT_V311, MQTT_V5};

static void publish_many(const char *topic, unsigned from, unsigned n, uint8_t qos)
{
    char text[16];
    for (unsigned i = from; i < from + n; i++) {
        snprintf(text, sizeof text, "%u", i);
        rig_publish(&rig, topic, text, qos, false);
    }
}

static struct mqtt_publish expect_number(struct peer *p, const char *topic, unsigned i, uint8_t qos)
{
    char text[16];
    snprintf(text, sizeof text, "%u", i);
    return peer_expect_publish(p, topic, text, qos);
}

/* A PUBLISH that was sent before: with DUP and the identifier it had ([MQTT-3.3.1-1], [MQTT-4.4.0-1]). */
static void expect_again(struct peer *p, const char *topic, unsigned i, uint8_t qos, uint16_t packet_id)
{
    struct mqtt_publish got = expect_number(p, topic, i, qos);
    ck_assert(got.dup);
    ck_assert_uint_eq(got.packet_id, packet_id);
}

/* The connection ends without a word, or with DISCONNECT: both keep the session. */
static void leave(struct peer *p, bool with_word)
{
    if (with_word)
        peer_disconnect(p);
    else
        peer_drop(p);
}

/* [MQTT-3.2.2-2], [MQTT-3.2.2-3]. */
START_TEST(session_present_is_told)
{
    uint8_t v = versions[_i];
    for (int round = 0; round < 3; round++) {
        struct peer p = peer_stored(&rig, "c", v, round > 0);
        leave(&p, round);
    }
    struct peer_connect clean = {.version = v, .clean = true, .expiry_s = v == MQTT_V5 ? 100 : 0};
    struct peer p = peer_connect_with(&rig, "c", &clean, false);
    leave(&p, true);
    p = peer_stored(&rig, "c", v, v == MQTT_V5); /* 3.1.1: clean session leaves nothing behind */
    leave(&p, true);
    p = peer_clean(&rig, "c", v);
    leave(&p, true);
    p = peer_stored(&rig, "c", v, false); /* nor does one that does not outlive its connection */
    leave(&p, true);
    ck_assert(rig_stored(&rig, "c").found);
}
END_TEST

/* [MQTT-3.1.2-6] and [MQTT-3.1.4-...]: clean start forgets subscriptions and what waits. */
START_TEST(clean_start_forgets_everything)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V5, false);
    peer_subscribe(&p, "t", 1);
    publish_many("t", 0, 2, 1);
    expect_number(&p, "t", 0, 1);
    peer_drop(&p);
    publish_many("t", 2, 2, 1);
    struct peer_connect how = {.version = MQTT_V5, .clean = true, .expiry_s = 100};
    p = peer_connect_with(&rig, "c", &how, false);
    peer_expect_nothing(&p);
    publish_many("t", 4, 1, 1);
    peer_expect_nothing(&p);
    ck_assert_uint_eq(rig_stored(&rig, "c").subscriptions, 0);
    peer_drop(&p);
}
END_TEST

START_TEST(what_came_meanwhile_comes_in_order)
{
    uint8_t v = versions[_i];
    struct peer p = peer_stored(&rig, "c", v, false);
    peer_subscribe(&p, "a/#", 1);
    peer_subscribe(&p, "b", 2);
    peer_subscribe(&p, "z", 0);
    leave(&p, v == MQTT_V5);
    for (unsigned i = 0; i < 30; i++) {
        publish_many(i % 3 ? "a/x" : "b", i, 1, 2);
        publish_many("z", i, 1, 2);
        publish_many("other", i, 1, 2);
    }
    p = peer_stored(&rig, "c", v, true);
    for (unsigned i = 0; i < 30; i++) {
        struct mqtt_publish got = expect_number(&p, i % 3 ? "a/x" : "b", i, i % 3 ? 1 : 2);
        ck_assert(!got.dup);
    }
    peer_expect_nothing(&p);
    peer_drop(&p);
}
END_TEST

/* QoS 0 may be lost, and is, for a client that is away; implicit channels are heard all the same. */
START_TEST(implicit_channels_are_heard_by_who_was_away)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V5, false), q = peer_stored(&rig, "d", MQTT_V5, false);
    leave(&p, true);
    leave(&q, false);
    rig_publish(&rig, "clients/c", "mine", 1, false);
    rig_publish(&rig, "broadcast", "ours", 2, false);
    rig_publish(&rig, "clients/c", "lost", 0, false);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    q = peer_stored(&rig, "d", MQTT_V5, true);
    peer_expect_new(&p, "clients/c", "mine", 1);
    peer_expect_new(&p, "broadcast", "ours", 1);
    peer_expect_nothing(&p);
    peer_expect_new(&q, "broadcast", "ours", 1);
    peer_expect_nothing(&q);
    peer_drop(&p);
    peer_drop(&q);
}
END_TEST

/* [MQTT-4.4.0-1], [MQTT-4.6.0-1]: all that is unacknowledged, in the order it was sent first; what was
 * acknowledged out of order does not come again. */
START_TEST(what_is_unacknowledged_is_sent_again_with_dup)
{
    uint8_t v = versions[_i];
    uint16_t id[8];
    uint64_t seq[8];
    struct peer p = peer_stored(&rig, "c", v, false);
    peer_subscribe(&p, "1", 1);
    peer_subscribe(&p, "2", 2);
    for (unsigned i = 0; i < 8; i++) {
        publish_many(i % 2 ? "2" : "1", i, 1, 2);
        seq[i] = rig.newest;
    }
    for (unsigned i = 0; i < 8; i++)
        id[i] = expect_number(&p, i % 2 ? "2" : "1", i, i % 2 ? 2 : 1).packet_id;
    peer_ack(&p, MQTT_PUBACK, id[2]);
    peer_ack(&p, MQTT_PUBREC, id[1]);
    peer_ack(&p, MQTT_PUBREC, id[5]);
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREL, id[1], 0);
    peer_expect_ack(&p, MQTT_PUBREL, id[5], 0);
    peer_ack(&p, MQTT_PUBCOMP, id[5]);
    rig_turn(&rig);
    leave(&p, _i);
    publish_many("1", 8, 1, 1);
    for (int round = 0; round < 3; round++) { /* again and again the same */
        p = peer_stored(&rig, "c", v, true);
        peer_expect_ack(&p, MQTT_PUBREL, id[1], 0);
        static const unsigned left[] = {0, 3, 4, 6, 7};
        for (unsigned i = 0; i < 5; i++)
            expect_again(&p, left[i] % 2 ? "2" : "1", left[i], left[i] % 2 ? 2 : 1, id[left[i]]);
        struct mqtt_publish last = expect_number(&p, "1", 8, 1);
        ck_assert(last.dup == (round > 0));
        peer_expect_nothing(&p);
        if (round < 2)
            leave(&p, round);
    }
    peer_ack(&p, MQTT_PUBCOMP, id[1]);
    peer_ack(&p, MQTT_PUBREC, id[3]);
    peer_ack(&p, MQTT_PUBREC, id[7]);
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREL, id[3], 0);
    peer_expect_ack(&p, MQTT_PUBREL, id[7], 0);
    peer_ack(&p, MQTT_PUBCOMP, id[3]);
    peer_ack(&p, MQTT_PUBCOMP, id[7]);
    for (unsigned i = 0; i < 8; i += 4)
        peer_ack(&p, MQTT_PUBACK, id[i]);
    rig_turn(&rig);
    leave(&p, true);
    struct rig_stored s = rig_stored(&rig, "c");
    ck_assert_uint_eq(s.cursor, seq[6] - 1);
    p = peer_stored(&rig, "c", v, true);
    expect_again(&p, "1", 6, 1, id[6]);
    expect_number(&p, "1", 8, 1);
    peer_expect_nothing(&p);
    peer_drop(&p);
}
END_TEST

/* Nothing but a new connection makes anything come again ([MQTT-4.4.0-1]). */
START_TEST(nothing_is_sent_again_on_the_same_connection)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V311, false);
    peer_subscribe(&p, "t", 2);
    publish_many("t", 0, 2, 2);
    uint16_t id = expect_number(&p, "t", 0, 2).packet_id;
    expect_number(&p, "t", 1, 2);
    peer_ack(&p, MQTT_PUBREC, id);
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREL, id, 0);
    rig_pass(&rig, 60000);
    peer_expect_nothing(&p);
    peer_drop(&p);
}
END_TEST

/* More was in flight than the client takes now: the rest waits. And what comes then is new. */
START_TEST(a_smaller_receive_maximum_holds_for_what_is_sent_again)
{
    struct peer_connect how = {.version = MQTT_V5, .expiry_s = 1000, .receive_maximum = 6};
    struct peer p = peer_connect_with(&rig, "c", &how, false);
    peer_subscribe(&p, "t", 1);
    publish_many("t", 0, 8, 1);
    for (unsigned i = 0; i < 6; i++)
        expect_number(&p, "t", i, 1);
    peer_drop(&p);
    how.receive_maximum = 2;
    p = peer_connect_with(&rig, "c", &how, true);
    for (unsigned i = 0; i < 8; i += 2) {
        uint16_t id[2];
        for (unsigned k = 0; k < 2; k++) {
            struct mqtt_publish got = expect_number(&p, "t", i + k, 1);
            ck_assert(got.dup == (i + k < 6));
            id[k] = got.packet_id;
        }
        peer_expect_nothing(&p);
        peer_ack(&p, MQTT_PUBACK, id[0]);
        peer_ack(&p, MQTT_PUBACK, id[1]);
        rig_turn(&rig);
    }
    peer_expect_nothing(&p);
    peer_drop(&p);
}
END_TEST

/* The publisher's end: a PUBLISH or PUBREL of QoS 2 that comes again after a reconnect. */
START_TEST(a_publisher_finishes_on_a_new_connection)
{
    uint8_t v = versions[_i];
    struct peer_publish x = {.topic = "t", .payload = "x", .qos = 2, .packet_id = 5};
    struct peer p = peer_stored(&rig, "p", v, false);
    peer_publish(&p, &x);
    rig_turn(&rig);
    leave(&p, false); /* PUBREC is lost */
    x.dup = true;
    p = peer_stored(&rig, "p", v, true);
    peer_publish(&p, &x);
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREC, 5, 0);
    peer_ack(&p, MQTT_PUBREL, 5);
    rig_turn(&rig);
    leave(&p, false); /* PUBCOMP is lost */
    p = peer_stored(&rig, "p", v, true);
    peer_ack(&p, MQTT_PUBREL, 5);
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBCOMP, 5, v == MQTT_V5 ? MQTT_RC_PACKET_ID_NOT_FOUND : 0);
    ck_assert_uint_eq(rig.kept_count, 1);
    x.dup = false;
    peer_publish(&p, &x); /* the identifier is free */
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREC, 5, 0);
    ck_assert_uint_eq(rig.kept_count, 2);
    leave(&p, false);
}
END_TEST

/* The publish is on its way to the hub, the connection ends, the client comes back before it is kept. */
START_TEST(a_publish_under_way_when_the_connection_ends_is_kept_once)
{
    struct peer_publish x = {.topic = "t", .payload = "x", .qos = 2, .packet_id = 5};
    struct peer p = peer_stored(&rig, "p", MQTT_V5, false);
    if (_i)
        rig.hold_requests = true;
    else
        rig.hold_answers = true;
    peer_publish(&p, &x);
    rig_turn(&rig);
    peer_drop(&p);
    struct peer_connect how = {.version = MQTT_V5, .expiry_s = 3600};
    p = peer_begin(&rig, "p", &how);
    rig_turn(&rig);
    rig.hold_requests = rig.hold_answers = false;
    rig_turn(&rig);
    struct mqtt_packet m = peer_expect(&p, MQTT_CONNACK);
    ck_assert(m.u.connack.session_present);
    x.dup = true;
    peer_publish(&p, &x);
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREC, 5, 0);
    ck_assert_uint_eq(rig.kept_count, 1);
    peer_drop(&p);
}
END_TEST

/* It is refused after the connection has ended: what comes again is a new try, not one that is known already.
 */
START_TEST(a_publish_refused_after_the_connection_ended_may_come_again)
{
    struct peer_publish x = {.topic = "t", .payload = "x", .qos = 2, .packet_id = 5};
    struct peer_connect how = {.version = MQTT_V5, .expiry_s = 3600};
    struct peer p = peer_stored(&rig, "p", MQTT_V5, false);
    rig.refuse = ENGINE_NO_SPACE;
    rig.hold_answers = true;
    peer_publish(&p, &x);
    rig_turn(&rig);
    peer_drop(&p);
    p = peer_begin(&rig, "p", &how);
    rig_turn(&rig);
    rig.refuse = ENGINE_OK;
    rig.hold_answers = false;
    rig_turn(&rig);
    struct mqtt_packet m = peer_expect(&p, MQTT_CONNACK);
    ck_assert(m.u.connack.session_present);
    ck_assert_uint_eq(rig.kept_count, 0);
    x.dup = true;
    peer_publish(&p, &x);
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREC, 5, 0);
    ck_assert_uint_eq(rig.kept_count, 1);
    peer_drop(&p);
}
END_TEST

/* Section 4.9: both quotas begin anew with a connection. */
START_TEST(receive_maximum_begins_anew_with_a_connection)
{
    rig.config.receive_maximum = 3;
    struct peer p = peer_stored(&rig, "p", MQTT_V5, false);
    for (uint16_t id = 1; id <= 3; id++)
        peer_publish(&p, &(struct peer_publish){.topic = "t", .payload = "x", .qos = 2, .packet_id = id});
    rig_turn(&rig);
    for (uint16_t id = 1; id <= 3; id++)
        peer_expect_ack(&p, MQTT_PUBREC, id, 0);
    peer_drop(&p);
    p = peer_stored(&rig, "p", MQTT_V5, true);
    for (uint16_t id = 4; id <= 6; id++)
        peer_publish(&p, &(struct peer_publish){.topic = "t", .payload = "x", .qos = 1, .packet_id = id});
    for (uint16_t id = 1; id <= 3; id++)
        peer_ack(&p, MQTT_PUBREL, id);
    rig_turn(&rig);
    for (uint16_t i = 0; i < 6; i++) {
        struct mqtt_packet m;
        ck_assert(peer_next(&p, &m));
        ck_assert(m.type == MQTT_PUBACK || m.type == MQTT_PUBCOMP);
        ck_assert_uint_eq(m.u.ack.code, 0);
    }
    peer_expect_nothing(&p);
    peer_drop(&p);
}
END_TEST

/* Nothing is promised that was not stored. */
START_TEST(a_subscription_that_cannot_be_stored_is_not_granted)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V311, false);
    rig.fail_subscriptions = true;
    peer_ask(&p, "a", 1, 0);
    rig_turn(&rig);
    peer_expect_closed(&p);
    peer_free(&p);
    rig.fail_subscriptions = false;
    p = peer_stored(&rig, "c", MQTT_V311, true);
    publish_many("a", 0, 1, 1);
    peer_expect_nothing(&p);
    peer_subscribe(&p, "a", 1);
    publish_many("a", 1, 1, 1);
    expect_number(&p, "a", 1, 1);
    peer_drop(&p);
}
END_TEST

/* SUBACK when it is stored, not before; and so the subscription is there afterwards whatever dies. */
START_TEST(a_subscription_is_answered_when_it_is_stored)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V5, false);
    rig.hold_requests = true;
    uint16_t id = peer_ask(&p, "a", 1, 7);
    rig_turn(&rig);
    peer_expect_nothing(&p);
    rig.hold_requests = false;
    rig_turn(&rig);
    peer_expect_suback(&p, id, 1);
    rig_kill_worker(&rig, 0);
    peer_free(&p);
    publish_many("a", 0, 1, 1);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    struct mqtt_publish got = expect_number(&p, "a", 0, 1);
    ck_assert(mqtt_has(&got.props, MQTT_P_SUBSCRIPTION_ID));
    ck_assert_uint_eq(got.props.value[MQTT_P_SUBSCRIPTION_ID].num, 7);
    peer_complete(&p, 1, got.packet_id);
    peer_unsubscribe(&p, "a");
    rig_kill_worker(&rig, 0);
    peer_free(&p);
    publish_many("a", 1, 1, 1);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    peer_expect_nothing(&p);
    publish_many("a", 2, 1, 1);
    peer_expect_nothing(&p);
    peer_drop(&p);
}
END_TEST

/* Several filters in one packet are answered in one. */
START_TEST(all_filters_of_a_packet_are_answered_together)
{
    static const char three[] = "\x82\x13\x00\x09\x00"
                                "\x00\x01"
                                "a\x02"
                                "\x00\x02"
                                "b/\x01"
                                "\x00\x04"
                                "c/#d\x00";
    static const char good[] = "\x82\x0C\x00\x09\x00"
                               "\x00\x01"
                               "a\x02"
                               "\x00\x02"
                               "b/\x01";
    struct peer p = peer_stored(&rig, "c", MQTT_V5, false);
    client_send(p.fd, good, sizeof good - 1);
    rig_turn(&rig);
    struct mqtt_packet m = peer_expect(&p, MQTT_SUBACK);
    ck_assert_uint_eq(m.u.suback.codes.len, 2);
    ck_assert_mem_eq(m.u.suback.codes.data, "\x02\x01", 2);
    ck_assert_uint_eq(rig_stored(&rig, "c").subscriptions, 2);
    client_send(p.fd, three, sizeof three - 1);
    rig_turn(&rig);
    peer_expect_bye(&p, MQTT_RC_TOPIC_FILTER_INVALID);
    peer_free(&p);
    rig_turn(&rig);
    ck_assert_uint_eq(rig_stored(&rig, "c").subscriptions, 2);
}
END_TEST

/* A subscription brings what comes after it, not what the log still has. */
START_TEST(a_subscription_does_not_reach_back)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V5, false);
    peer_subscribe(&p, "a", 1);
    leave(&p, true);
    publish_many("a", 0, 1, 1);
    publish_many("b", 0, 3, 1);
    rig.config.max_inflight = 1; /* it stays behind for a while */
    publish_many("a", 1, 1, 1);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    uint16_t id = expect_number(&p, "a", 0, 1).packet_id;
    peer_subscribe(&p, "b", 1);
    publish_many("b", 3, 1, 1);
    peer_complete(&p, 1, id);
    peer_complete(&p, 1, expect_number(&p, "a", 1, 1).packet_id);
    leave(&p, true);
    p = peer_stored(&rig, "c", MQTT_V5, true); /* also when its stored form is read */
    peer_complete(&p, 1, expect_number(&p, "b", 3, 1).packet_id);
    peer_expect_nothing(&p);
    leave(&p, true);
}
END_TEST

/* Retention has removed it: the rest comes, nothing waits for ever. */
START_TEST(what_retention_has_removed_is_skipped)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V5, false), q = peer_clean(&rig, "q", MQTT_V5);
    peer_subscribe(&p, "t", 1);
    peer_publish(
        &q, &(struct peer_publish){.topic = "t", .payload = "0", .qos = 1, .packet_id = 1, .expiry_s = 2});
    rig_turn(&rig);
    publish_many("t", 1, 1, 1);
    peer_publish(
        &q, &(struct peer_publish){.topic = "t", .payload = "2", .qos = 1, .packet_id = 2, .expiry_s = 2});
    rig_turn(&rig);
    publish_many("t", 3, 1, 1);
    uint16_t id[4];
    for (unsigned i = 0; i < 4; i++)
        id[i] = expect_number(&p, "t", i, 1).packet_id;
    leave(&p, false);
    rig_pass(&rig, 5000);
    rig.ops->tick(rig.engine);
    rig_commit(&rig);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    expect_again(&p, "t", 1, 1, id[1]);
    expect_again(&p, "t", 3, 1, id[3]);
    peer_expect_nothing(&p);
    peer_ack(&p, MQTT_PUBACK, id[1]);
    peer_ack(&p, MQTT_PUBACK, id[3]);
    rig_turn(&rig);
    leave(&p, false);
    struct rig_stored s = rig_stored(&rig, "c");
    ck_assert_uint_eq(s.outs, 0);
    ck_assert_uint_ge(s.cursor, rig.newest);
    peer_free(&q);
}
END_TEST

/* Uses up numbers until the next message has the packet identifier that the newest one had. */
static void come_round(void)
{
    while ((rig.ops->next_seq(rig.engine) + 1 - rig.newest) % 65535)
        ;
}

/* One that nobody subscribes to any more is sent again all the same ([MQTT-4.4.0-1], [MQTT-3.10.4-3]);
 * another with its packet identifier waits for it. */
START_TEST(a_message_without_a_subscription_is_sent_again_and_holds_its_packet_identifier)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V5, false);
    peer_subscribe(&p, "a", 1);
    peer_subscribe(&p, "b", 1);
    publish_many("a", 0, 1, 1);
    uint16_t id = expect_number(&p, "a", 0, 1).packet_id;
    peer_unsubscribe(&p, "a");
    peer_drop(&p);
    come_round();
    publish_many("b", 1, 2, 1);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    expect_again(&p, "a", 0, 1, id);
    peer_complete(&p, 1, id);
    ck_assert_uint_eq(expect_number(&p, "b", 1, 1).packet_id, id);
    expect_number(&p, "b", 2, 1);
    peer_drop(&p);
}
END_TEST

/*
 * Regression: a message of QoS 2 was complete, another one with its packet identifier was sent before that
 * was stored, and the worker died. The store still said that the first one was to be released; PUBREL for
 * that released the second, which then came twice.
 */
START_TEST(the_identifier_of_what_is_complete_is_taken_until_that_is_stored)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V5, false);
    peer_subscribe(&p, "a", 2);
    publish_many("a", 0, 1, 2);
    uint16_t id = expect_number(&p, "a", 0, 2).packet_id;
    peer_complete(&p, 2, id);
    come_round();
    rig.hold_requests = true;
    publish_many("a", 1, 1, 2);
    peer_expect_nothing(&p);
    rig_kill_worker(&rig, 0);
    peer_free(&p);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    peer_expect_ack(&p, MQTT_PUBREL, id, 0);
    peer_ack(&p, MQTT_PUBCOMP, id);
    rig_pass(&rig, 1000);
    ck_assert_uint_eq(expect_number(&p, "a", 1, 2).packet_id, id);
    peer_complete(&p, 2, id);
    peer_drop(&p);
}
END_TEST

/* The fan-out of one topic is slow, another one overtakes it, and the identifiers are the same: the later
 * message must not be sent first, or after a reconnect neither could be. */
START_TEST(packet_identifiers_come_round_in_order)
{
    struct peer others[20];
    rig_end_worker(&rig);
    rig.slice = 1;
    rig_start_worker(&rig);
    struct peer p = peer_stored(&rig, "c", MQTT_V311, false);
    peer_subscribe(&p, "slow", 1);
    peer_subscribe(&p, "fast", 1);
    for (int i = 0; i < 20; i++) { /* they have it before */
        char id[16];
        snprintf(id, sizeof id, "o%d", i);
        others[i] = peer_clean(&rig, id, MQTT_V311);
        peer_subscribe(&others[i], "slow", 0);
    }
    struct message_parts slow = {.topic = "slow", .topic_len = 4, .payload = "0", .payload_len = 1, .qos = 1},
                         fast = {.topic = "fast", .topic_len = 4, .payload = "1", .payload_len = 1, .qos = 1};
    ck_assert_int_eq(rig_keep(&rig, message_new(&slow)), ENGINE_OK);
    come_round();
    ck_assert_int_eq(rig_keep(&rig, message_new(&fast)), ENGINE_OK);
    rig_commit(&rig);
    rig_feed(&rig);
    for (int i = 0; i < 8; i++)
        event_base_loop(rig.base, EVLOOP_NONBLOCK);
    peer_drop(&p);
    p = peer_stored(&rig, "c", MQTT_V311, true);
    uint16_t id = expect_number(&p, "slow", 0, 1).packet_id;
    peer_complete(&p, 1, id);
    ck_assert_uint_eq(expect_number(&p, "fast", 1, 1).packet_id, id);
    peer_drop(&p);
    for (int i = 0; i < 20; i++)
        peer_free(&others[i]);
}
END_TEST

/* ---- takeover ---- */

START_TEST(a_takeover_goes_on_where_the_first_was)
{
    uint8_t v = versions[_i];
    struct peer p = peer_stored(&rig, "c", v, false);
    peer_subscribe(&p, "t", 2);
    publish_many("t", 0, 3, 2);
    uint16_t id[3];
    for (unsigned i = 0; i < 3; i++)
        id[i] = expect_number(&p, "t", i, 2).packet_id;
    peer_ack(&p, MQTT_PUBREC, id[1]);
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREL, id[1], 0);
    struct peer q = peer_stored(&rig, "c", v, true);
    if (v == MQTT_V5)
        peer_expect_bye(&p, MQTT_RC_TAKEN_OVER);
    else
        peer_expect_closed(&p);
    peer_expect_ack(&q, MQTT_PUBREL, id[1], 0);
    expect_again(&q, "t", 0, 2, id[0]);
    expect_again(&q, "t", 2, 2, id[2]);
    publish_many("t", 3, 1, 2);
    expect_number(&q, "t", 3, 2);
    peer_expect_nothing(&q);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_SESSIONS), 1);
    peer_free(&p);
    peer_drop(&q);
}
END_TEST

/* Many at once: the last one has it, the others are gone. */
START_TEST(many_connections_want_one_session)
{
    struct peer_connect how = {.version = MQTT_V5, .expiry_s = 100};
    struct peer p[6];
    rig.hold_opened = true;
    for (int i = 0; i < 6; i++) {
        p[i] = peer_begin(&rig, "c", &how);
        if (i == 3)
            rig_turn(&rig);
    }
    rig_turn(&rig);
    rig.hold_opened = false;
    rig_turn(&rig);
    for (int i = 0; i < 5; i++) {
        ck_assert(client_closed(p[i].fd) || !peer_next(&p[i], &(struct mqtt_packet){0}));
        ck_assert(client_closed(p[i].fd));
        peer_free(&p[i]);
    }
    struct mqtt_packet m = peer_expect(&p[5], MQTT_CONNACK);
    ck_assert_uint_eq(m.u.connack.code, 0);
    peer_subscribe(&p[5], "t", 1);
    publish_many("t", 0, 1, 1);
    expect_number(&p[5], "t", 0, 1);
    peer_drop(&p[5]);
    ck_assert(rig_stored(&rig, "c").disconnected_ms);
}
END_TEST

/* ---- while it is asked for ---- */

START_TEST(nothing_is_read_before_the_session_is_there)
{
    struct peer_connect how = {.version = MQTT_V5, .expiry_s = 100};
    rig.hold_opened = true;
    struct peer p = peer_begin(&rig, "c", &how);
    peer_publish(&p, &(struct peer_publish){.topic = "t", .payload = "x", .qos = 1, .packet_id = 1});
    peer_ask(&p, "u", 1, 0);
    rig_turn(&rig);
    peer_expect_nothing(&p);
    ck_assert_uint_eq(rig.kept_count, 0);
    rig.hold_opened = false;
    rig_turn(&rig);
    peer_expect(&p, MQTT_CONNACK);
    peer_expect_ack(&p, MQTT_PUBACK, 1, 0);
    peer_expect(&p, MQTT_SUBACK);
    peer_drop(&p);
}
END_TEST

/* The client goes, or another one comes, while its session is being asked for: what was stored stays as it
 * was, and a CONNECT that was never answered has no will. */
START_TEST(a_client_that_does_not_wait_changes_nothing)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V5, false);
    peer_subscribe(&p, "t", 1);
    publish_many("t", 0, 2, 1);
    uint16_t id = expect_number(&p, "t", 0, 1).packet_id;
    expect_number(&p, "t", 1, 1);
    peer_drop(&p);
    struct rig_stored before = rig_stored(&rig, "c");
    struct peer_connect how = {.version = MQTT_V5, .expiry_s = 3600}, with_will = how;
    with_will.will_topic = with_will.will_payload = "will";
    with_will.will_qos = 1;
    rig.hold_opened = true;
    p = peer_begin(&rig, "c", &with_will);
    rig_turn(&rig);
    struct peer q = peer_begin(&rig, "c", &how);
    rig_turn(&rig);
    peer_expect_closed(&p);
    peer_free(&p);
    peer_drop(&q);
    rig.hold_opened = false;
    rig_turn(&rig);
    rig_turn(&rig);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_SESSIONS), 0);
    struct rig_stored after = rig_stored(&rig, "c");
    ck_assert_uint_eq(after.cursor, before.cursor);
    ck_assert_uint_eq(after.outs, before.outs);
    ck_assert(after.disconnected_ms);
    ck_assert_uint_eq(rig.kept_count, 2);
    ck_assert_uint_eq(rig.will_count, 0);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    expect_again(&p, "t", 0, 1, id);
    peer_drop(&p);
}
END_TEST

START_TEST(a_session_that_cannot_be_had_is_refused)
{
    struct peer_connect how = {.version = versions[_i], .expiry_s = _i ? 100 : 0};
    rig.open_code = MQTT_RC_SERVER_BUSY;
    struct peer p = peer_begin(&rig, "c", &how);
    rig_turn(&rig);
    if (versions[_i] == MQTT_V5) {
        struct mqtt_packet m = peer_expect(&p, MQTT_CONNACK);
        ck_assert_uint_eq(m.u.connack.code, MQTT_RC_SERVER_BUSY);
        ck_assert(!m.u.connack.session_present);
    } else {
        struct mqtt_packet m; /* 3.1.1: a code of its own, or none */
        if (peer_next(&p, &m))
            ck_assert(m.type == MQTT_CONNACK && m.u.connack.code && !m.u.connack.session_present);
    }
    peer_expect_closed(&p);
    peer_free(&p);
    rig.open_code = 0;
    p = peer_stored(&rig, "c", versions[_i], rig_stored(&rig, "c").found);
    peer_drop(&p);
}
END_TEST

/* Without a reader nothing can be resumed: the client is told to try again, and loses nothing. */
START_TEST(a_session_that_cannot_be_read_is_refused)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V5, false);
    peer_subscribe(&p, "t", 1);
    peer_drop(&p);
    publish_many("t", 0, 1, 1);
    sessions_set_reader(rig.sessions, NULL);
    struct peer_connect how = {.version = MQTT_V5, .expiry_s = 3600};
    p = peer_begin(&rig, "c", &how);
    rig_turn(&rig);
    struct mqtt_packet m = peer_expect(&p, MQTT_CONNACK);
    ck_assert_uint_eq(m.u.connack.code, MQTT_RC_SERVER_UNAVAILABLE);
    peer_expect_closed(&p);
    peer_free(&p);
    rig_turn(&rig);
    sessions_set_reader(rig.sessions, rig.reader);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    expect_number(&p, "t", 0, 1);
    peer_drop(&p);
}
END_TEST

/* ---- how long ---- */

/* Sections 3.1.2.11.2 and 3.2.2.3.2: what is granted is told if it is not what was asked for. */
START_TEST(the_expiry_interval_is_capped_and_told)
{
    rig.config.max_session_expiry_s = 500;
    struct peer_connect how = {.version = MQTT_V5, .expiry_s = UINT32_MAX};
    struct peer p = peer_connect_with(&rig, "c", &how, false);
    ck_assert(mqtt_has(&p.connack.u.connack.props, MQTT_P_SESSION_EXPIRY));
    ck_assert_uint_eq(p.connack.u.connack.props.value[MQTT_P_SESSION_EXPIRY].num, 500);
    peer_disconnect(&p);
    ck_assert_uint_eq(rig_stored(&rig, "c").expiry_s, 500);
    how.expiry_s = 400;
    p = peer_connect_with(&rig, "c", &how, true);
    ck_assert(!mqtt_has(&p.connack.u.connack.props, MQTT_P_SESSION_EXPIRY));
    peer_disconnect(&p);
    ck_assert_uint_eq(rig_stored(&rig, "c").expiry_s, 400);
    struct peer q = peer_stored(&rig, "d", MQTT_V311, false);
    rig.config.session_expiry_s = 300;
    struct peer r = peer_stored(&rig, "e", MQTT_V311, false);
    peer_disconnect(&q);
    peer_disconnect(&r);
    ck_assert_uint_eq(rig_stored(&rig, "e").expiry_s, 300);
}
END_TEST

/* Section 3.14.2.2.2: DISCONNECT says it anew; a session that was to end may not be prolonged. */
START_TEST(disconnect_changes_the_expiry_interval)
{
    static const struct {
        uint32_t asked, then;
        bool found, is_error;
    } rows[] = {{100, 200, true, false}, {100, 0, false, false}, {0, 0, false, false}, {0, 1, false, true}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct peer_connect how = {.version = MQTT_V5, .expiry_s = rows[i].asked, .clean = i == 3};
        struct peer p = peer_connect_with(&rig, "c", &how, i == 1);
        struct mqtt_packet bye = {.type = MQTT_DISCONNECT};
        mqtt_props_set_num(&bye.u.disconnect.props, MQTT_P_SESSION_EXPIRY, rows[i].then);
        peer_send(&p, &bye);
        rig_turn(&rig);
        if (rows[i].is_error)
            peer_expect_bye(&p, MQTT_RC_PROTOCOL_ERROR);
        else
            peer_expect_closed(&p);
        peer_free(&p);
        struct rig_stored s = rig_stored(&rig, "c");
        ck_assert(s.found == rows[i].found);
        if (s.found)
            ck_assert_uint_eq(s.expiry_s, rows[i].then);
    }
}
END_TEST

/* A stored session is resumed by a client that does not want it kept any longer: it ends with it. */
START_TEST(a_session_is_resumed_for_the_last_time)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V5, false);
    peer_subscribe(&p, "t", 1);
    peer_drop(&p);
    publish_many("t", 0, 1, 1);
    struct peer_connect how = {.version = MQTT_V5};
    p = peer_connect_with(&rig, "c", &how, true);
    expect_number(&p, "t", 0, 1);
    publish_many("t", 1, 1, 1);
    expect_number(&p, "t", 1, 1);
    peer_drop(&p);
    ck_assert(!rig_stored(&rig, "c").found);
    p = peer_connect_with(&rig, "c", &how, false);
    peer_drop(&p);
}
END_TEST

/* ---- wills ---- */

/* Section 3.1.3.2.2: a will with a delay is left to the hub, if the session outlives the connection. */
START_TEST(a_will_with_a_delay_goes_with_close)
{
    struct peer_connect how = {.version = MQTT_V5,
                               .expiry_s = 100,
                               .will_topic = "w",
                               .will_payload = "gone",
                               .will_qos = 2,
                               .will_retain = true,
                               .will_delay_s = 30};
    struct peer p = peer_connect_with(&rig, "c", &how, false);
    peer_drop(&p);
    ck_assert_uint_eq(rig.kept_count, 0);
    ck_assert_uint_eq(rig.will_count, 1);
    ck_assert_str_eq(rig.wills[0].id, "c");
    ck_assert_str_eq(rig.wills[0].topic, "w");
    ck_assert_str_eq(rig.wills[0].payload, "gone");
    ck_assert_uint_eq(rig.wills[0].delay_s, 30);
    ck_assert_uint_eq(rig.wills[0].qos, 2);
    ck_assert(rig.wills[0].retain);
    p = peer_connect_with(&rig, "c", &how, true);
    peer_disconnect(&p); /* [MQTT-3.14.4-3] */
    ck_assert_uint_eq(rig.will_count, 1);
    p = peer_connect_with(&rig, "c", &how, true);
    struct mqtt_packet bye = {.type = MQTT_DISCONNECT};
    bye.u.disconnect.code = MQTT_RC_DISCONNECT_WITH_WILL;
    peer_send(&p, &bye);
    rig_turn(&rig);
    peer_free(&p);
    ck_assert_uint_eq(rig.will_count, 2);
    ck_assert_uint_eq(rig.kept_count, 0);
}
END_TEST

START_TEST(a_will_without_delay_or_session_goes_out_at_once)
{
    static const struct {
        uint32_t expiry_s, delay_s;
        bool clean;
    } rows[] = {{0, 0, true}, {0, 30, true}, {100, 0, false}, {0, 30, false}};
    struct peer s = peer_clean(&rig, "s", MQTT_V5);
    peer_subscribe(&s, "w", 1);
    struct peer_connect how = {.version = MQTT_V5,
                               .expiry_s = rows[_i].expiry_s,
                               .clean = rows[_i].clean,
                               .will_topic = "w",
                               .will_payload = "gone",
                               .will_qos = 1,
                               .will_delay_s = rows[_i].delay_s};
    struct peer p = peer_connect_with(&rig, "c", &how, false);
    peer_drop(&p);
    peer_expect_new(&s, "w", "gone", 1);
    ck_assert_uint_eq(rig.will_count, 0);
    ck_assert_uint_eq(rig.kept_count, 1);
    peer_free(&s);
}
END_TEST

/* [MQTT-3.1.3-9]: a takeover is a new connection in time. */
START_TEST(a_takeover_leaves_a_delayed_will_to_the_hub)
{
    struct peer_connect how = {.version = MQTT_V5,
                               .expiry_s = 100,
                               .will_topic = "w",
                               .will_payload = "gone",
                               .will_qos = 1,
                               .will_delay_s = 30};
    struct peer p = peer_connect_with(&rig, "c", &how, false), q = peer_connect_with(&rig, "c", &how, true);
    peer_expect_bye(&p, MQTT_RC_TAKEN_OVER);
    ck_assert_uint_eq(rig.kept_count, 0);
    ck_assert_uint_eq(rig.will_count, 1);
    peer_free(&p);
    peer_disconnect(&q);
}
END_TEST

/* ---- what dies ---- */

/* The cursor is written every so often, not with every acknowledgement. */
START_TEST(cursors_are_written_now_and_then)
{
    rig.config.log_cursor_interval_ms = 5000;
    struct peer p = peer_stored(&rig, "c", MQTT_V5, false);
    peer_subscribe(&p, "t", 1);
    rig_pass(&rig, 6000);
    unsigned before = rig.progresses;
    for (unsigned i = 0; i < 100; i++) {
        publish_many("t", i, 1, 1);
        peer_complete(&p, 1, expect_number(&p, "t", i, 1).packet_id);
        rig_pass(&rig, 100);
    }
    ck_assert_uint_le(rig.progresses - before, 3);
    rig_pass(&rig, 6000);
    ck_assert_uint_eq(rig_stored(&rig, "c").cursor, rig.newest);
    before = rig.progresses;
    rig_pass(&rig, 20000);
    ck_assert_uint_eq(rig.progresses, before);
    peer_drop(&p);
}
END_TEST

/* A worker that is killed has not written how far its sessions are: QoS 1 comes again, with the same packet
 * identifiers; QoS 2 is finished from where both ends are. */
START_TEST(a_killed_worker_costs_duplicates_of_qos_1_only)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V311, false);
    peer_subscribe(&p, "1", 1);
    peer_subscribe(&p, "2", 2);
    for (unsigned i = 0; i < 3; i++) {
        publish_many("1", i, 1, 1);
        publish_many("2", i, 1, 2);
    }
    uint16_t one[3], two[3];
    for (unsigned i = 0; i < 3; i++) {
        one[i] = expect_number(&p, "1", i, 1).packet_id;
        two[i] = expect_number(&p, "2", i, 2).packet_id;
    }
    peer_ack(&p, MQTT_PUBREC, two[1]);
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREL, two[1], 0); /* stored now, with all that is in flight */
    peer_ack(&p, MQTT_PUBREC, two[2]);
    rig.hold_requests = true;
    peer_ack(&p, MQTT_PUBACK, one[0]);
    loop_turn(rig.base);
    rig_kill_worker(&rig, 0);
    peer_free(&p);
    p = peer_stored(&rig, "c", MQTT_V311, true);
    peer_expect_ack(&p, MQTT_PUBREL, two[1], 0);
    for (unsigned i = 0; i < 3; i++) {
        struct mqtt_publish got = expect_number(&p, "1", i, 1);
        ck_assert(got.dup);
        ck_assert_uint_eq(got.packet_id, one[i]);
        if (i != 1)
            expect_again(&p, "2", i, 2, two[i]);
    }
    peer_expect_nothing(&p);
    peer_drop(&p);
}
END_TEST

/* Nothing about a message was stored: it comes with the packet identifier it had, which a client that has it
 * knows again. */
START_TEST(a_message_nobody_remembers_keeps_its_packet_identifier)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V5, false);
    peer_subscribe(&p, "t", 2);
    publish_many("t", 0, 2, 2);
    uint16_t first = expect_number(&p, "t", 0, 2).packet_id, second = expect_number(&p, "t", 1, 2).packet_id;
    rig_kill_worker(&rig, 0);
    peer_free(&p);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    ck_assert_uint_eq(expect_number(&p, "t", 0, 2).packet_id, first);
    ck_assert_uint_eq(expect_number(&p, "t", 1, 2).packet_id, second);
    peer_drop(&p);
}
END_TEST

/* PUBREL only after it is stored that the client has the message: otherwise a crash brings it twice. */
START_TEST(pubrel_and_pubcomp_wait_for_the_store)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V5, false);
    peer_subscribe(&p, "t", 2);
    publish_many("t", 0, 1, 2);
    uint16_t id = expect_number(&p, "t", 0, 2).packet_id;
    peer_publish(&p, &(struct peer_publish){.topic = "u", .payload = "x", .qos = 2, .packet_id = 77});
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREC, 77, 0);
    rig.hold_requests = true;
    peer_ack(&p, MQTT_PUBREC, id);
    peer_ack(&p, MQTT_PUBREL, 77);
    rig_turn(&rig);
    peer_expect_nothing(&p);
    rig.hold_requests = false;
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREL, id, 0);
    peer_expect_ack(&p, MQTT_PUBCOMP, 77, 0);
    struct rig_stored s = rig_stored(&rig, "c");
    ck_assert_uint_eq(s.outs, 1);
    ck_assert_int_eq(s.out[0].state, ENGINE_RECEIVED);
    ck_assert_uint_eq(s.out[0].packet_id, id);
    ck_assert_uint_eq(s.ins, 0);
    peer_drop(&p);
}
END_TEST

/* QoS was lowered, or the subscription ended, with a message in flight: it is brought to its end all the same
 * ([MQTT-3.10.4-3]). */
START_TEST(what_was_begun_is_finished_after_unsubscribing)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V5, false);
    peer_subscribe(&p, "t", 2);
    publish_many("t", 0, 2, 2);
    uint16_t first = expect_number(&p, "t", 0, 2).packet_id, second = expect_number(&p, "t", 1, 2).packet_id;
    peer_ack(&p, MQTT_PUBREC, first);
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREL, first, 0);
    peer_unsubscribe(&p, "t");
    peer_ack(&p, MQTT_PUBCOMP, first);
    peer_complete(&p, 2, second);
    peer_expect_nothing(&p);
    peer_drop(&p);
    struct rig_stored s = rig_stored(&rig, "c");
    ck_assert_uint_eq(s.outs, 0);
}
END_TEST

/* A client that is idle costs no window. */
START_TEST(an_idle_session_has_nothing_in_flight)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V5, false);
    peer_subscribe(&p, "t", 2);
    publish_many("t", 0, 3, 2);
    for (unsigned i = 0; i < 3; i++)
        expect_number(&p, "t", i, 2);
    peer_drop(&p);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    uint16_t id[3];
    for (unsigned i = 0; i < 3; i++)
        id[i] = expect_number(&p, "t", i, 2).packet_id;
    for (unsigned i = 0; i < 3; i++)
        peer_complete(&p, 2, id[i]);
    rig_pass(&rig, rig.config.log_cursor_interval_ms + 2000);
    uint32_t session = sessions_find(rig.sessions, "c", 1);
    ck_assert_uint_eq(sessions_get(rig.sessions, session)->window, 0);
    peer_drop(&p);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, session_present_is_told, 0, 2);
    tcase_add_test(tc, clean_start_forgets_everything);
    tcase_add_loop_test(tc, what_came_meanwhile_comes_in_order, 0, 2);
    tcase_add_test(tc, implicit_channels_are_heard_by_who_was_away);
    tcase_add_loop_test(tc, what_is_unacknowledged_is_sent_again_with_dup, 0, 2);
    tcase_add_test(tc, nothing_is_sent_again_on_the_same_connection);
    tcase_add_test(tc, a_smaller_receive_maximum_holds_for_what_is_sent_again);
    tcase_add_loop_test(tc, a_publisher_finishes_on_a_new_connection, 0, 2);
    tcase_add_loop_test(tc, a_publish_under_way_when_the_connection_ends_is_kept_once, 0, 2);
    tcase_add_test(tc, a_publish_refused_after_the_connection_ended_may_come_again);
    tcase_add_test(tc, receive_maximum_begins_anew_with_a_connection);
    tcase_add_test(tc, a_subscription_is_answered_when_it_is_stored);
    tcase_add_test(tc, a_subscription_that_cannot_be_stored_is_not_granted);
    tcase_add_test(tc, all_filters_of_a_packet_are_answered_together);
    tcase_add_test(tc, a_subscription_does_not_reach_back);
    tcase_add_test(tc, what_retention_has_removed_is_skipped);
    tcase_add_test(tc, a_message_without_a_subscription_is_sent_again_and_holds_its_packet_identifier);
    tcase_add_test(tc, the_identifier_of_what_is_complete_is_taken_until_that_is_stored);
    tcase_add_test(tc, packet_identifiers_come_round_in_order);
    tcase_add_loop_test(tc, a_takeover_goes_on_where_the_first_was, 0, 2);
    tcase_add_test(tc, many_connections_want_one_session);
    tcase_add_test(tc, nothing_is_read_before_the_session_is_there);
    tcase_add_test(tc, a_client_that_does_not_wait_changes_nothing);
    tcase_add_loop_test(tc, a_session_that_cannot_be_had_is_refused, 0, 2);
    tcase_add_test(tc, a_session_that_cannot_be_read_is_refused);
    tcase_add_test(tc, the_expiry_interval_is_capped_and_told);
    tcase_add_test(tc, disconnect_changes_the_expiry_interval);
    tcase_add_test(tc, a_session_is_resumed_for_the_last_time);
    tcase_add_test(tc, a_will_with_a_delay_goes_with_close);
    tcase_add_loop_test(tc, a_will_without_delay_or_session_goes_out_at_once, 0, 4);
    tcase_add_test(tc, a_takeover_leaves_a_delayed_will_to_the_hub);
    tcase_add_test(tc, cursors_are_written_now_and_then);
    tcase_add_test(tc, a_killed_worker_costs_duplicates_of_qos_1_only);
    tcase_add_test(tc, a_message_nobody_remembers_keeps_its_packet_identifier);
    tcase_add_test(tc, pubrel_and_pubcomp_wait_for_the_store);
    tcase_add_test(tc, what_was_begun_is_finished_after_unsubscribing);
    tcase_add_test(tc, an_idle_session_has_nothing_in_flight);
}

UNIT_MAIN("session_resume")
