/*
 * Sessions that outlive their connections: what is told in CONNACK, what is sent again and how, what came
 * meanwhile, and what is stored before it is answered. MQTT 5.0 sections 3.1.2.4, 3.1.2.5,
 * 3.1.2.11.2, 3.14.2.2.2, 4.1 and 4.4; 3.1.1 likewise.
 */
#include "gateway/base/counters.h"
#include "tests/unit/session_peer.h"

static struct rig rig;

static void setup(void) { rig_begin(&rig); }
static void teardown(void) { rig_end(&rig); }

static const uint8_t versions[] = {MQTT_V311, MQTT_V5};

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
    rig_publish_many(&rig, "t", 0, 2, 1);
    peer_expect_number(&p, "t", 0, 1);
    peer_drop(&p);
    rig_publish_many(&rig, "t", 2, 2, 1);
    struct peer_connect how = {.version = MQTT_V5, .clean = true, .expiry_s = 100};
    p = peer_connect_with(&rig, "c", &how, false);
    peer_expect_nothing(&p);
    rig_publish_many(&rig, "t", 4, 1, 1);
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
        rig_publish_many(&rig, i % 3 ? "a/x" : "b", i, 1, 2);
        rig_publish_many(&rig, "z", i, 1, 2);
        rig_publish_many(&rig, "other", i, 1, 2);
    }
    p = peer_stored(&rig, "c", v, true);
    for (unsigned i = 0; i < 30; i++) {
        struct mqtt_publish got = peer_expect_number(&p, i % 3 ? "a/x" : "b", i, i % 3 ? 1 : 2);
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

/* They count as one more subscription: a wider one of a lower QoS takes nothing from them. */
START_TEST(implicit_channels_keep_their_qos_beside_a_subscription)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V5, false), q = peer_stored(&rig, "d", MQTT_V5, false);
    peer_subscribe(&p, "#", 0);
    peer_subscribe(&q, "clients/+", 0);
    rig_publish(&rig, "clients/c", "mine", 2, false);
    rig_publish(&rig, "broadcast", "ours", 1, false);
    peer_complete(&p, 1, peer_expect_new(&p, "clients/c", "mine", 1));
    peer_complete(&p, 1, peer_expect_new(&p, "broadcast", "ours", 1));
    peer_expect_publish(&q, "clients/c", "mine", 0);
    peer_complete(&q, 1, peer_expect_new(&q, "broadcast", "ours", 1));
    leave(&p, true);
    leave(&q, false);
    rig_publish(&rig, "clients/c", "mine too", 1, false);
    rig_publish(&rig, "broadcast", "ours too", 1, false);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    q = peer_stored(&rig, "d", MQTT_V5, true);
    peer_expect_new(&p, "clients/c", "mine too", 1);
    peer_expect_new(&p, "broadcast", "ours too", 1);
    peer_expect_nothing(&p);
    peer_expect_new(&q, "broadcast", "ours too", 1);
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
        rig_publish_many(&rig, i % 2 ? "2" : "1", i, 1, 2);
        seq[i] = rig.newest;
    }
    for (unsigned i = 0; i < 8; i++)
        id[i] = peer_expect_number(&p, i % 2 ? "2" : "1", i, i % 2 ? 2 : 1).packet_id;
    peer_ack(&p, MQTT_PUBACK, id[2]);
    peer_ack(&p, MQTT_PUBREC, id[1]);
    peer_ack(&p, MQTT_PUBREC, id[5]);
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREL, id[1], 0);
    peer_expect_ack(&p, MQTT_PUBREL, id[5], 0);
    peer_ack(&p, MQTT_PUBCOMP, id[5]);
    rig_turn(&rig);
    leave(&p, _i);
    rig_publish_many(&rig, "1", 8, 1, 1);
    for (int round = 0; round < 3; round++) { /* again and again the same */
        p = peer_stored(&rig, "c", v, true);
        peer_expect_ack(&p, MQTT_PUBREL, id[1], 0);
        static const unsigned left[] = {0, 3, 4, 6, 7};
        for (unsigned i = 0; i < 5; i++)
            peer_expect_again(&p, left[i] % 2 ? "2" : "1", left[i], left[i] % 2 ? 2 : 1, id[left[i]]);
        struct mqtt_publish last = peer_expect_number(&p, "1", 8, 1);
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
    peer_expect_again(&p, "1", 6, 1, id[6]);
    peer_expect_number(&p, "1", 8, 1);
    peer_expect_nothing(&p);
    peer_drop(&p);
}
END_TEST

/* Nothing but a new connection makes anything come again ([MQTT-4.4.0-1]). */
START_TEST(nothing_is_sent_again_on_the_same_connection)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V311, false);
    peer_subscribe(&p, "t", 2);
    rig_publish_many(&rig, "t", 0, 2, 2);
    uint16_t id = peer_expect_number(&p, "t", 0, 2).packet_id;
    peer_expect_number(&p, "t", 1, 2);
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
    rig_publish_many(&rig, "t", 0, 8, 1);
    for (unsigned i = 0; i < 6; i++)
        peer_expect_number(&p, "t", i, 1);
    peer_drop(&p);
    how.receive_maximum = 2;
    p = peer_connect_with(&rig, "c", &how, true);
    for (unsigned i = 0; i < 8; i += 2) {
        uint16_t id[2];
        for (unsigned k = 0; k < 2; k++) {
            struct mqtt_publish got = peer_expect_number(&p, "t", i + k, 1);
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
    rig_publish_many(&rig, "a", 0, 1, 1);
    peer_expect_nothing(&p);
    peer_subscribe(&p, "a", 1);
    rig_publish_many(&rig, "a", 1, 1, 1);
    peer_expect_number(&p, "a", 1, 1);
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
    rig_publish_many(&rig, "a", 0, 1, 1);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    struct mqtt_publish got = peer_expect_number(&p, "a", 0, 1);
    ck_assert(mqtt_has(&got.props, MQTT_P_SUBSCRIPTION_ID));
    ck_assert_uint_eq(got.props.value[MQTT_P_SUBSCRIPTION_ID].num, 7);
    peer_complete(&p, 1, got.packet_id);
    peer_unsubscribe(&p, "a");
    rig_kill_worker(&rig, 0);
    peer_free(&p);
    rig_publish_many(&rig, "a", 1, 1, 1);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    peer_expect_nothing(&p);
    rig_publish_many(&rig, "a", 2, 1, 1);
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
    rig_publish_many(&rig, "a", 0, 1, 1);
    rig_publish_many(&rig, "b", 0, 3, 1);
    rig.config.max_inflight = 1; /* it stays behind for a while */
    rig_publish_many(&rig, "a", 1, 1, 1);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    uint16_t id = peer_expect_number(&p, "a", 0, 1).packet_id;
    peer_subscribe(&p, "b", 1);
    rig_publish_many(&rig, "b", 3, 1, 1);
    peer_complete(&p, 1, id);
    peer_complete(&p, 1, peer_expect_number(&p, "a", 1, 1).packet_id);
    leave(&p, true);
    p = peer_stored(&rig, "c", MQTT_V5, true); /* also when its stored form is read */
    peer_complete(&p, 1, peer_expect_number(&p, "b", 3, 1).packet_id);
    peer_expect_nothing(&p);
    leave(&p, true);
}
END_TEST

/* [MQTT-3.8.4-4]: a subscription that is replaced while its client is behind loses nothing of what came
 * before, at once (0), after a connection that ended in order (1) or broke (2), or whose worker was killed
 * (3). */
START_TEST(a_lower_qos_holds_for_what_comes_after_it)
{
    const struct peer_connect slow = {.version = MQTT_V5, .expiry_s = 3600, .receive_maximum = 2};
    struct peer p = peer_connect_with(&rig, "c", &slow, false);
    peer_subscribe(&p, "t", 1);
    rig_publish_many(&rig, "t", 0, 10, 1);
    uint16_t first = peer_expect_number(&p, "t", 0, 1).packet_id;
    uint16_t second = peer_expect_number(&p, "t", 1, 1).packet_id;
    peer_subscribe(&p, "t", 0);
    rig_publish_many(&rig, "t", 10, 5, 1);
    for (unsigned i = 10; i < 15; i++)
        peer_expect_number(&p, "t", i, 0);
    peer_subscribe(&p, "t", 0); /* once more: what is owed stays so */
    rig_turn(&rig);
    if (_i == 0) {
        peer_complete(&p, 1, first);
        peer_complete(&p, 1, second);
    } else if (_i == 3) {
        rig_kill_worker(&rig, UINT32_MAX);
        peer_free(&p);
    } else {
        leave(&p, _i == 1);
    }
    if (_i)
        p = peer_stored(&rig, "c", MQTT_V5, true);
    for (unsigned i = _i ? 0 : 2; i < 10; i++)
        peer_complete(&p, 1, peer_expect_number(&p, "t", i, 1).packet_id);
    peer_expect_nothing(&p);
    rig_publish_many(&rig, "t", 15, 1, 1);
    peer_expect_number(&p, "t", 15, 0);
    leave(&p, true);
    rig_publish_many(&rig, "t", 16, 1, 1);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    peer_expect_nothing(&p);
    peer_drop(&p);
}
END_TEST

/* What came while it had QoS 0 was sent with QoS 0, and does not come again when it has more. */
START_TEST(a_higher_qos_holds_for_what_comes_after_it)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V5, false);
    peer_subscribe(&p, "t", 0);
    rig_publish_many(&rig, "t", 0, 1, 1);
    peer_expect_number(&p, "t", 0, 0);
    peer_subscribe(&p, "t", 1);
    rig_kill_worker(&rig, UINT32_MAX); /* and nothing has been written of where it is */
    peer_free(&p);
    rig_publish_many(&rig, "t", 1, 1, 1);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    peer_expect_number(&p, "t", 1, 1);
    peer_expect_nothing(&p);
    peer_drop(&p);
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
    rig_publish_many(&rig, "t", 1, 1, 1);
    peer_publish(
        &q, &(struct peer_publish){.topic = "t", .payload = "2", .qos = 1, .packet_id = 2, .expiry_s = 2});
    rig_turn(&rig);
    rig_publish_many(&rig, "t", 3, 1, 1);
    uint16_t id[4];
    for (unsigned i = 0; i < 4; i++)
        id[i] = peer_expect_number(&p, "t", i, 1).packet_id;
    leave(&p, false);
    rig_pass(&rig, 5000);
    rig.ops->tick(rig.engine);
    rig_commit(&rig);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    peer_expect_again(&p, "t", 1, 1, id[1]);
    peer_expect_again(&p, "t", 3, 1, id[3]);
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
    rig_publish_many(&rig, "a", 0, 1, 1);
    uint16_t id = peer_expect_number(&p, "a", 0, 1).packet_id;
    peer_unsubscribe(&p, "a");
    peer_drop(&p);
    come_round();
    rig_publish_many(&rig, "b", 1, 2, 1);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    peer_expect_again(&p, "a", 0, 1, id);
    peer_complete(&p, 1, id);
    ck_assert_uint_eq(peer_expect_number(&p, "b", 1, 1).packet_id, id);
    peer_expect_number(&p, "b", 2, 1);
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
    rig_publish_many(&rig, "a", 0, 1, 2);
    uint16_t id = peer_expect_number(&p, "a", 0, 2).packet_id;
    peer_complete(&p, 2, id);
    come_round();
    rig.hold_requests = true;
    rig_publish_many(&rig, "a", 1, 1, 2);
    peer_expect_nothing(&p);
    rig_kill_worker(&rig, 0);
    peer_free(&p);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    peer_expect_ack(&p, MQTT_PUBREL, id, 0);
    peer_ack(&p, MQTT_PUBCOMP, id);
    rig_pass(&rig, 1000);
    ck_assert_uint_eq(peer_expect_number(&p, "a", 1, 2).packet_id, id);
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
    uint16_t id = peer_expect_number(&p, "slow", 0, 1).packet_id;
    peer_complete(&p, 1, id);
    ck_assert_uint_eq(peer_expect_number(&p, "fast", 1, 1).packet_id, id);
    peer_drop(&p);
    for (int i = 0; i < 20; i++)
        peer_free(&others[i]);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, session_present_is_told, 0, 2);
    tcase_add_test(tc, clean_start_forgets_everything);
    tcase_add_loop_test(tc, what_came_meanwhile_comes_in_order, 0, 2);
    tcase_add_test(tc, implicit_channels_are_heard_by_who_was_away);
    tcase_add_test(tc, implicit_channels_keep_their_qos_beside_a_subscription);
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
    tcase_add_loop_test(tc, a_lower_qos_holds_for_what_comes_after_it, 0, 4);
    tcase_add_test(tc, a_higher_qos_holds_for_what_comes_after_it);
    tcase_add_test(tc, what_retention_has_removed_is_skipped);
    tcase_add_test(tc, a_message_without_a_subscription_is_sent_again_and_holds_its_packet_identifier);
    tcase_add_test(tc, the_identifier_of_what_is_complete_is_taken_until_that_is_stored);
    tcase_add_test(tc, packet_identifiers_come_round_in_order);
}

UNIT_MAIN("session_resume")
