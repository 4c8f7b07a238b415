/*
 * QoS 1 and 2 between the gateway and one client on one connection, both ways: what is answered when, windows
 * and what happens when they are full, flow control, refusals. MQTT 5.0 sections 3.3 to 3.7, 4.3, 4.4, 4.6
 * and 4.9; 3.1.1 likewise.
 */
#include "gateway/base/counters.h"
#include "gateway/base/xmalloc.h"
#include "tests/unit/session_peer.h"

static struct rig rig;

static void setup(void) { rig_begin(&rig); }
static void teardown(void) { rig_end(&rig); }

static const uint8_t versions[] = {MQTT_V311, MQTT_V5};

static uint32_t behind(const char *id)
{
    uint32_t inflight;
    uint64_t cursor;
    bool is_behind;
    sessions_progress(rig.sessions, sessions_find(rig.sessions, id, strlen(id)), &inflight, &cursor,
                      &is_behind);
    return is_behind;
}

static uint32_t inflight(const char *id)
{
    uint32_t n;
    uint64_t cursor;
    bool is_behind;
    sessions_progress(rig.sessions, sessions_find(rig.sessions, id, strlen(id)), &n, &cursor, &is_behind);
    return n;
}

/* ---- from the client ---- */

/* [MQTT-4.3.2-4]: and not before the message is kept. */
START_TEST(a_publish_of_qos_1_is_acknowledged_when_it_is_kept)
{
    struct peer p = peer_clean(&rig, "p", versions[_i]), s = peer_clean(&rig, "s", versions[_i]);
    peer_subscribe(&s, "t", 0);
    rig.hold_requests = true;
    peer_publish(&p, &(struct peer_publish){.topic = "t", .payload = "x", .qos = 1, .packet_id = 7});
    rig_turn(&rig);
    peer_expect_nothing(&p);
    peer_expect_nothing(&s);
    rig.hold_requests = false;
    rig.hold_answers = true;
    rig_turn(&rig);
    peer_expect_nothing(&p);
    rig.hold_answers = false;
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBACK, 7, 0);
    peer_expect_new(&s, "t", "x", 0);
    ck_assert_uint_eq(rig.kept_count, 1);
    peer_free(&p);
    peer_free(&s);
}
END_TEST

/* [MQTT-4.3.2-5]: what comes again is a new message, the receiver cannot know better. */
START_TEST(a_publish_of_qos_1_that_comes_again_is_published_again)
{
    struct peer p = peer_clean(&rig, "p", versions[_i]);
    struct peer_publish x = {.topic = "t", .payload = "x", .qos = 1, .packet_id = 7};
    for (int i = 0; i < 2; i++, x.dup = true) {
        peer_publish(&p, &x);
        rig_turn(&rig);
        peer_expect_ack(&p, MQTT_PUBACK, 7, 0);
    }
    ck_assert_uint_eq(rig.kept_count, 2);
    peer_free(&p);
}
END_TEST

START_TEST(a_publish_of_qos_2_is_published_once_however_often_it_comes)
{
    struct peer p = peer_clean(&rig, "p", versions[_i]), s = peer_clean(&rig, "s", versions[_i]);
    struct peer_publish x = {.topic = "t", .payload = "x", .qos = 2, .packet_id = 9};
    peer_subscribe(&s, "t", 0);
    for (int i = 0; i < 3; i++, x.dup = true) {
        peer_publish(&p, &x);
        rig_turn(&rig);
        peer_expect_ack(&p, MQTT_PUBREC, 9, 0);
    }
    peer_expect_new(&s, "t", "x", 0);
    for (int i = 0; i < 2; i++) {
        peer_ack(&p, MQTT_PUBREL, 9);
        rig_turn(&rig);
        peer_expect_ack(&p, MQTT_PUBCOMP, 9, i && versions[_i] == MQTT_V5 ? MQTT_RC_PACKET_ID_NOT_FOUND : 0);
    }
    peer_expect_nothing(&s);
    x.dup = false; /* the packet identifier is free again: a new message ([MQTT-4.3.3-12]) */
    peer_publish(&p, &x);
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREC, 9, 0);
    peer_expect_new(&s, "t", "x", 0);
    ck_assert_uint_eq(rig.kept_count, 2);
    peer_free(&p);
    peer_free(&s);
}
END_TEST

/* [MQTT-4.3.3-8], [MQTT-4.3.3-10]: one PUBREC, when it is kept, also if it came twice meanwhile. */
START_TEST(a_publish_of_qos_2_that_comes_again_before_it_is_kept_waits_for_the_first)
{
    struct peer p = peer_clean(&rig, "p", MQTT_V5);
    struct peer_publish x = {.topic = "t", .payload = "x", .qos = 2, .packet_id = 9};
    rig.hold_answers = true;
    peer_publish(&p, &x);
    x.dup = true;
    peer_publish(&p, &x);
    rig_turn(&rig);
    peer_expect_nothing(&p);
    rig.hold_answers = false;
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREC, 9, 0);
    peer_expect_nothing(&p);
    ck_assert_uint_eq(rig.kept_count, 1);
    peer_free(&p);
}
END_TEST

/* A packet identifier of QoS 2 that is not released stands in nobody's way but its own. */
START_TEST(packet_identifiers_of_both_ends_are_apart)
{
    struct peer p = peer_clean(&rig, "p", MQTT_V5);
    peer_subscribe(&p, "in", 2);
    rig_publish(&rig, "in", "x", 2, false);
    uint16_t id = peer_expect_new(&p, "in", "x", 2);
    peer_publish(&p, &(struct peer_publish){.topic = "out", .payload = "y", .qos = 2, .packet_id = id});
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREC, id, 0);
    peer_ack(&p, MQTT_PUBREC, id);
    peer_ack(&p, MQTT_PUBREL, id);
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREL, id, 0);
    peer_expect_ack(&p, MQTT_PUBCOMP, id, 0);
    peer_ack(&p, MQTT_PUBCOMP, id);
    rig_turn(&rig);
    peer_expect_nothing(&p);
    ck_assert_uint_eq(inflight("p"), 0);
    peer_free(&p);
}
END_TEST

/* [MQTT-4.6.0-4] and the like: answers in the order of what they answer. */
START_TEST(answers_come_in_the_order_of_the_publishes)
{
    struct peer p = peer_clean(&rig, "p", versions[_i]);
    for (uint16_t id = 1; id <= 20; id++)
        peer_publish(&p, &(struct peer_publish){
                             .topic = "t", .payload = "x", .qos = (uint8_t)(1 + id % 2), .packet_id = id});
    rig_turn(&rig);
    for (uint16_t id = 1; id <= 20; id++)
        peer_expect_ack(&p, id % 2 ? MQTT_PUBREC : MQTT_PUBACK, id, 0);
    for (uint16_t id = 1; id <= 20; id += 2)
        peer_ack(&p, MQTT_PUBREL, id);
    rig_turn(&rig);
    for (uint16_t id = 1; id <= 20; id += 2)
        peer_expect_ack(&p, MQTT_PUBCOMP, id, 0);
    peer_free(&p);
}
END_TEST

/* [MQTT-3.3.4-7]: of those that are not released a 5.0 client is told how many it may have. */
START_TEST(a_5_0_client_above_receive_maximum_is_ended)
{
    rig.config.receive_maximum = 4;
    struct peer p = peer_clean(&rig, "p", MQTT_V5);
    ck_assert_uint_eq(p.connack.u.connack.props.value[MQTT_P_RECEIVE_MAX].num, 4);
    for (int round = 0; round < 5; round++) {
        for (uint16_t id = 1; id <= 4; id++)
            peer_publish(&p, &(struct peer_publish){
                                 .topic = "t", .payload = "x", .qos = id < 3 ? 1 : 2, .packet_id = id});
        rig_turn(&rig);
        for (uint16_t id = 1; id <= 4; id++)
            peer_expect_ack(&p, id < 3 ? MQTT_PUBACK : MQTT_PUBREC, id, 0);
        for (uint16_t id = 3; id <= 4; id++)
            peer_ack(&p, MQTT_PUBREL, id);
        rig_turn(&rig);
        for (uint16_t id = 3; id <= 4; id++)
            peer_expect_ack(&p, MQTT_PUBCOMP, id, 0);
    }
    rig.refuse = ENGINE_FULL;
    for (uint16_t id = 1; id <= 4; id++)
        peer_publish(
            &p, &(struct peer_publish){.topic = "t", .payload = "x", .qos = id < 3 ? 1 : 2, .packet_id = id});
    rig_turn(&rig);
    for (uint16_t id = 1; id <= 4; id++)
        peer_expect_ack(&p, id < 3 ? MQTT_PUBACK : MQTT_PUBREC, id, MQTT_RC_QUOTA_EXCEEDED);
    rig.refuse = ENGINE_OK;
    for (uint16_t id = 1; id <= 4; id++)
        peer_publish(&p, &(struct peer_publish){.topic = "t", .payload = "x", .qos = 2, .packet_id = id});
    rig_turn(&rig);
    for (uint16_t id = 1; id <= 4; id++)
        peer_expect_ack(&p, MQTT_PUBREC, id, 0);
    /* QoS 0 does not count, and neither does one that comes again */
    peer_publish(&p, &(struct peer_publish){.topic = "t", .payload = "x"});
    peer_publish(&p,
                 &(struct peer_publish){.topic = "t", .payload = "x", .qos = 2, .packet_id = 1, .dup = true});
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREC, 1, 0);
    peer_publish(&p, &(struct peer_publish){.topic = "t", .payload = "x", .qos = 1, .packet_id = 5});
    rig_turn(&rig);
    peer_expect_bye(&p, MQTT_RC_RECEIVE_MAX_EXCEEDED);
    peer_free(&p);
}
END_TEST

/*
 * Publishes that nothing has been answered to: a 3.1.1 client cannot know of the limit, and many of 5.0 do
 * not look. It is not read from for a while, and loses nothing. Row 1 is QoS 2 of 3.1.1: of 5.0 see above.
 */
START_TEST(a_client_that_publishes_above_the_limit_waits)
{
    static const struct {
        uint8_t version, qos;
    } rows[] = {{MQTT_V311, 1}, {MQTT_V311, 2}, {MQTT_V5, 1}};
    uint8_t qos = rows[_i].qos;
    rig.config.receive_maximum = 4;
    struct peer p = peer_clean(&rig, "p", rows[_i].version);
    rig.hold_answers = true;
    for (uint16_t id = 1; id <= 50; id++)
        peer_publish(&p, &(struct peer_publish){.topic = "t", .payload = "x", .qos = qos, .packet_id = id});
    rig_turn(&rig);
    ck_assert_uint_eq(rig.kept_count, 4);
    peer_expect_nothing(&p);
    rig.hold_answers = false;
    rig_turn(&rig);
    for (uint16_t id = 1; id <= 50; id++)
        peer_expect_ack(&p, qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, id, 0);
    ck_assert_uint_eq(rig.kept_count, 50);
    for (uint16_t id = 1; qos == 2 && id <= 50; id++)
        peer_ack(&p, MQTT_PUBREL, id);
    rig_turn(&rig);
    for (uint16_t id = 1; qos == 2 && id <= 50; id++)
        peer_expect_ack(&p, MQTT_PUBCOMP, id, 0);
    peer_free(&p);
}
END_TEST

/* Half of the quota is unreleased, the other half unanswered: also then nobody who keeps to it is ended. */
START_TEST(a_5_0_client_may_fill_its_quota_with_both)
{
    rig.config.receive_maximum = 4;
    struct peer p = peer_clean(&rig, "p", MQTT_V5);
    for (uint16_t id = 1; id <= 2; id++)
        peer_publish(&p, &(struct peer_publish){.topic = "t", .payload = "x", .qos = 2, .packet_id = id});
    rig_turn(&rig);
    for (uint16_t id = 1; id <= 2; id++)
        peer_expect_ack(&p, MQTT_PUBREC, id, 0);
    rig.hold_answers = true;
    for (uint16_t id = 3; id <= 20; id++)
        peer_publish(&p, &(struct peer_publish){.topic = "t", .payload = "x", .qos = 1, .packet_id = id});
    rig_turn(&rig);
    ck_assert_uint_eq(rig.kept_count, 6);
    rig.hold_answers = false;
    rig_turn(&rig);
    for (uint16_t id = 3; id <= 20; id++)
        peer_expect_ack(&p, MQTT_PUBACK, id, 0);
    peer_free(&p);
}
END_TEST

START_TEST(a_3_1_1_client_that_waits_may_go)
{
    rig.config.receive_maximum = 2;
    struct peer p = peer_clean(&rig, "p", MQTT_V311);
    rig.hold_answers = true;
    for (uint16_t id = 1; id <= 5; id++)
        peer_publish(&p, &(struct peer_publish){.topic = "t", .payload = "x", .qos = 1, .packet_id = id});
    rig_turn(&rig);
    ck_assert_uint_eq(rig.kept_count, 2);
    peer_drop(&p);
    rig.hold_answers = false;
    rig_turn(&rig);
    rig_turn(&rig);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_SESSIONS), 0);
    ck_assert_uint_ge(rig.kept_count, 2);
}
END_TEST

/* Refused: 5.0 has a code for it, a client of 3.1.1 has to come again. */
START_TEST(a_publish_that_is_not_kept_is_not_acknowledged)
{
    uint8_t qos = (uint8_t)(1 + _i);
    struct peer a = peer_clean(&rig, "a", MQTT_V5), b = peer_clean(&rig, "b", MQTT_V311);
    struct peer_publish x = {.topic = "t", .payload = "x", .qos = qos, .packet_id = 3};
    rig.refuse = ENGINE_NO_SPACE;
    peer_publish(&a, &x);
    peer_publish(&b, &x);
    rig_turn(&rig);
    peer_expect_ack(&a, qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, 3, MQTT_RC_QUOTA_EXCEEDED);
    peer_expect_closed(&b);
    ck_assert_uint_eq(rig.kept_count, 0);
    rig.refuse = ENGINE_OK;
    peer_publish(&a, &x); /* the identifier is free: PUBREC with an error ends it (section 4.3.3) */
    rig_turn(&rig);
    peer_expect_ack(&a, qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, 3, 0);
    ck_assert_uint_eq(rig.kept_count, 1);
    peer_free(&a);
    peer_free(&b);
}
END_TEST

START_TEST(a_publish_that_the_link_does_not_take_is_refused)
{
    uint8_t qos = (uint8_t)(1 + _i);
    struct peer a = peer_clean(&rig, "a", MQTT_V5), b = peer_clean(&rig, "b", MQTT_V311);
    struct peer_publish x = {.topic = "t", .payload = "x", .qos = qos, .packet_id = 3};
    rig.no_room = true;
    peer_publish(&a, &x);
    peer_publish(&b, &x);
    rig_turn(&rig);
    struct mqtt_packet m = peer_expect(&a, qos == 1 ? MQTT_PUBACK : MQTT_PUBREC);
    ck_assert_uint_ge(m.u.ack.code, 0x80);
    peer_expect_closed(&b);
    rig.no_room = false;
    peer_publish(&a, &x);
    rig_turn(&rig);
    peer_expect_ack(&a, qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, 3, 0);
    peer_free(&a);
    peer_free(&b);
}
END_TEST

/* The answer to a publish of one connection is not given to the next client with its id. */
START_TEST(an_answer_for_a_session_that_is_gone_is_for_nobody)
{
    struct peer p = peer_clean(&rig, "p", MQTT_V5);
    rig.hold_answers = true;
    peer_publish(&p, &(struct peer_publish){.topic = "t", .payload = "x", .qos = 1, .packet_id = 1});
    peer_publish(&p, &(struct peer_publish){.topic = "t", .payload = "x", .qos = 2, .packet_id = 2});
    rig_turn(&rig);
    peer_drop(&p);
    struct peer q = peer_clean(&rig, "p", MQTT_V5);
    rig.hold_answers = false;
    rig_turn(&rig);
    peer_expect_nothing(&q);
    ck_assert_uint_eq(rig.kept_count, 2);
    peer_free(&q);
}
END_TEST

/* ---- to the client ---- */

/* The QoS of a delivery is the lesser of the two ([MQTT-3.8.4-8]). */
START_TEST(a_message_comes_with_the_lesser_qos)
{
    struct peer p = peer_clean(&rig, "p", versions[_i]);
    peer_subscribe(&p, "0", 0);
    peer_subscribe(&p, "1", 1);
    peer_subscribe(&p, "2", 2);
    for (uint8_t subscribed = 0; subscribed < 3; subscribed++)
        for (uint8_t published = 0; published < 3; published++) {
            char topic[2] = {(char)('0' + subscribed)};
            uint8_t qos = subscribed < published ? subscribed : published;
            rig_publish(&rig, topic, "x", published, false);
            peer_complete(&p, qos, peer_expect_new(&p, topic, "x", qos));
        }
    peer_expect_nothing(&p);
    ck_assert_uint_eq(inflight("p"), 0);
    peer_free(&p);
}
END_TEST

/* Messages in flight at once have different packet identifiers ([MQTT-2.2.1-4]). */
START_TEST(packet_identifiers_in_flight_are_different)
{
    static bool seen[65536];
    memset(seen, 0, sizeof seen);
    struct peer p = peer_clean(&rig, "p", MQTT_V311);
    peer_subscribe(&p, "t", 2);
    rig_publish_many(&rig, "t", 0, 60, 2);
    for (unsigned i = 0; i < 60; i++) {
        uint16_t id = peer_expect_new_number(&p, "t", i, 2);
        ck_assert_uint_ne(id, 0);
        ck_assert(!seen[id]);
        seen[id] = true;
    }
    peer_free(&p);
}
END_TEST

/* A number of 65,535 messages later the identifier comes again: not while the earlier one is in flight. */
START_TEST(a_packet_identifier_in_use_is_not_given_again)
{
    struct peer p = peer_clean(&rig, "p", MQTT_V311);
    peer_subscribe(&p, "t", 1);
    rig_publish(&rig, "t", "first", 1, false);
    uint16_t first = peer_expect_new(&p, "t", "first", 1);
    for (unsigned i = 0; i < 65534; i++)
        rig.ops->next_seq(rig.engine);
    rig_publish(&rig, "t", "second", 1, false);
    rig_publish(&rig, "t", "third", 1, false);
    rig_pass(&rig, 3000);
    peer_expect_nothing(&p);
    peer_ack(&p, MQTT_PUBACK, first);
    rig_turn(&rig);
    ck_assert_uint_eq(peer_expect_new(&p, "t", "second", 1), first);
    ck_assert_uint_ne(peer_expect_new(&p, "t", "third", 1), first);
    peer_free(&p);
}
END_TEST

/* PUBREC in all its forms: again, with an error, for what is not known, with the wrong answer. */
START_TEST(pubrec_is_answered_as_often_as_it_comes)
{
    struct peer p = peer_clean(&rig, "p", versions[_i]);
    peer_subscribe(&p, "t", 2);
    rig_publish(&rig, "t", "x", 2, false);
    uint16_t id = peer_expect_new(&p, "t", "x", 2);
    peer_ack(&p, MQTT_PUBCOMP, id); /* too early: means nothing */
    rig_turn(&rig);
    ck_assert_uint_eq(inflight("p"), 1);
    for (int i = 0; i < 3; i++) {
        peer_ack(&p, MQTT_PUBREC, id);
        rig_turn(&rig);
        peer_expect_ack(&p, MQTT_PUBREL, id, 0);
    }
    ck_assert_uint_eq(inflight("p"), 1);
    peer_ack(&p, MQTT_PUBCOMP, id);
    rig_turn(&rig);
    ck_assert_uint_eq(inflight("p"), 0);
    peer_ack(&p, MQTT_PUBCOMP, id);
    rig_turn(&rig);
    peer_expect_nothing(&p);
    peer_ack(&p, MQTT_PUBREC, id); /* done with: the other end may forget it */
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREL, id, versions[_i] == MQTT_V5 ? MQTT_RC_PACKET_ID_NOT_FOUND : 0);
    peer_free(&p);
}
END_TEST

/* [MQTT-4.3.3-4], section 4.9: PUBREC with an error is the end of it, and gives its place free. */
START_TEST(pubrec_with_an_error_is_the_end)
{
    struct peer_connect how = {.version = MQTT_V5, .clean = true, .receive_maximum = 1};
    struct peer p = peer_connect_with(&rig, "p", &how, false);
    peer_subscribe(&p, "t", 2);
    rig_publish_many(&rig, "t", 0, 2, 2);
    uint16_t id = peer_expect_new_number(&p, "t", 0, 2);
    peer_expect_nothing(&p);
    peer_ack_with(&p, MQTT_PUBREC, id, MQTT_RC_UNSPECIFIED);
    rig_turn(&rig);
    id = peer_expect_new_number(&p, "t", 1, 2);
    peer_complete(&p, 2, id);
    peer_expect_nothing(&p);
    ck_assert_uint_eq(inflight("p"), 0);
    peer_free(&p);
}
END_TEST

START_TEST(the_wrong_acknowledgement_is_a_protocol_error)
{
    struct peer p = peer_clean(&rig, "p", MQTT_V5), q = peer_clean(&rig, "q", MQTT_V5);
    peer_subscribe(&p, "t", 2);
    peer_subscribe(&q, "t", 1);
    rig_publish(&rig, "t", "x", 2, false);
    peer_ack(&p, MQTT_PUBACK, peer_expect_new(&p, "t", "x", 2));
    peer_ack(&q, MQTT_PUBREC, peer_expect_new(&q, "t", "x", 1));
    rig_turn(&rig);
    peer_expect_bye(&p, MQTT_RC_PROTOCOL_ERROR);
    peer_expect_bye(&q, MQTT_RC_PROTOCOL_ERROR);
    peer_free(&p);
    peer_free(&q);
}
END_TEST

/* Section 4.9: never more unacknowledged than the client's Receive Maximum, and nothing is lost by it. */
START_TEST(receive_maximum_of_the_client_is_kept)
{
    uint8_t qos = (uint8_t)(1 + _i);
    struct peer_connect how = {.version = MQTT_V5, .clean = true, .receive_maximum = 3};
    struct peer p = peer_connect_with(&rig, "p", &how, false);
    uint16_t id[3];
    unsigned open = 0;
    peer_subscribe(&p, "t", qos);
    rig_publish_many(&rig, "t", 0, 40, qos);
    ck_assert(behind("p"));
    for (unsigned next = 0; next < 40 || open;) {
        while (open < 3 && next < 40)
            id[open++] = peer_expect_new_number(&p, "t", next++, qos);
        peer_expect_nothing(&p);
        ck_assert_uint_eq(inflight("p"), open);
        peer_complete(&p, qos, id[0]);
        memmove(id, id + 1, --open * sizeof *id);
    }
    rig_pass(&rig, 1000);
    ck_assert(!behind("p"));
    rig_publish_many(&rig, "t", 40, 3, qos);
    for (unsigned i = 40; i < 43; i++)
        peer_expect_new_number(&p, "t", i, qos);
    peer_free(&p);
}
END_TEST

/* QoS 0 is not held up by a full window. */
START_TEST(a_full_window_does_not_hold_qos_0)
{
    struct peer_connect how = {.version = MQTT_V5, .clean = true, .receive_maximum = 1};
    struct peer p = peer_connect_with(&rig, "p", &how, false);
    peer_subscribe(&p, "t", 1);
    peer_subscribe(&p, "z", 0);
    rig_publish_many(&rig, "t", 0, 2, 1);
    peer_expect_new_number(&p, "t", 0, 1);
    rig_publish(&rig, "z", "now", 0, false);
    rig_publish(&rig, "z", "and", 1, false);
    peer_expect_new(&p, "z", "now", 0);
    peer_expect_new(&p, "z", "and", 0);
    peer_expect_nothing(&p);
    peer_free(&p);
}
END_TEST

/* The window of a 3.1.1 client is the gateway's own; acknowledged from the far end it moves on all the same.
 */
START_TEST(the_window_opens_in_whatever_order_it_is_acknowledged)
{
    rig.config.max_inflight = 8;
    struct peer p = peer_clean(&rig, "p", MQTT_V311);
    uint16_t id[8];
    peer_subscribe(&p, "t", 1);
    rig_publish_many(&rig, "t", 0, 24, 1);
    for (unsigned next = 0; next < 24;) {
        for (unsigned i = 0; i < 8; i++)
            id[i] = peer_expect_new_number(&p, "t", next++, 1);
        peer_expect_nothing(&p);
        for (unsigned i = 8; i-- > 1;)
            peer_ack(&p, MQTT_PUBACK, id[i]);
        peer_ack(&p, MQTT_PUBACK, id[0]);
        rig_turn(&rig);
    }
    rig_pass(&rig, 2000);
    ck_assert(!behind("p"));
    peer_expect_nothing(&p);
    peer_free(&p);
}
END_TEST

/* One message that is never acknowledged does not let the memory of the others grow for ever. */
START_TEST(what_is_remembered_of_acknowledged_messages_is_bounded)
{
    rig.config.max_inflight = 4;
    struct peer p = peer_stored(&rig, "p", MQTT_V311, false);
    peer_subscribe(&p, "t", 1);
    rig_publish_many(&rig, "t", 0, 1, 1);
    uint16_t first = peer_expect_new_number(&p, "t", 0, 1);
    unsigned got = 1;
    for (unsigned round = 0; round < 500; round++) {
        struct mqtt_packet m;
        rig_publish_many(&rig, "t", 1 + round, 1, 1);
        while (peer_next(&p, &m)) {
            ck_assert_int_eq(m.type, MQTT_PUBLISH);
            got++;
            peer_ack(&p, MQTT_PUBACK, m.u.publish.packet_id);
            rig_turn(&rig);
        }
    }
    rig_pass(&rig, rig.config.log_cursor_interval_ms + 1000);
    ck_assert_uint_le(rig_stored(&rig, "p").outs, 150);
    peer_ack(&p, MQTT_PUBACK, first);
    rig_turn(&rig);
    for (struct mqtt_packet m; peer_next(&p, &m);) {
        got++;
        peer_ack(&p, MQTT_PUBACK, m.u.publish.packet_id);
        rig_turn(&rig);
    }
    ck_assert_uint_eq(got, 501);
    peer_free(&p);
}
END_TEST

/* A client that does not read is left to the log, and gets everything in order when it reads again. */
START_TEST(a_blocked_client_reads_from_the_log_later)
{
    static char big[8000];
    struct peer_connect how = {.version = versions[_i], .clean = true, .sndbuf = 4096};
    struct peer p = peer_connect_with(&rig, "p", &how, false);
    memset(big, 'x', sizeof big - 1);
    rig.config.max_inflight = 1000;
    peer_subscribe(&p, "t", 1);
    for (unsigned i = 0; i < 100; i++) {
        memcpy(big, (char[]){(char)('0' + i / 10), (char)('0' + i % 10)}, 2);
        rig_publish(&rig, "t", big, 1, false);
    }
    ck_assert(behind("p"));
    unsigned next = 0;
    for (int idle = 0; next < 100 && idle < 40;) {
        struct mqtt_packet m;
        if (!peer_next(&p, &m)) {
            rig_pass(&rig, 100);
            usleep(5000); /* the sockets are looked at again by the real clock */
            idle++;
            continue;
        }
        idle = 0;
        ck_assert_uint_eq(m.u.publish.payload.len, sizeof big - 1);
        ck_assert_uint_eq((unsigned)(m.u.publish.payload.data[0] - '0') * 10 +
                              (unsigned)(m.u.publish.payload.data[1] - '0'),
                          next);
        ck_assert_uint_eq(m.u.publish.qos, 1);
        ck_assert(!m.u.publish.dup);
        next++;
        peer_ack(&p, MQTT_PUBACK, m.u.publish.packet_id);
        rig_turn(&rig);
    }
    ck_assert_uint_eq(next, 100);
    peer_expect_nothing(&p);
    peer_free(&p);
}
END_TEST

/* The feed is late, the log is ahead: what was read from the log does not come a second time. */
START_TEST(what_was_read_from_the_log_does_not_come_again)
{
    struct peer_connect how = {.version = MQTT_V5, .clean = true, .receive_maximum = 2};
    struct peer p = peer_connect_with(&rig, "p", &how, false);
    peer_subscribe(&p, "t", 1);
    rig_publish_many(&rig, "t", 0, 4, 1);
    rig.hold_feed = true;
    rig_publish_many(&rig, "t", 4, 4, 1);
    for (unsigned i = 0; i < 8; i++) {
        uint16_t id = peer_expect_new_number(&p, "t", i, 1);
        peer_complete(&p, 1, id);
    }
    rig_pass(&rig, 1000);
    ck_assert(!behind("p"));
    rig.hold_feed = false;
    rig_turn(&rig);
    peer_expect_nothing(&p);
    rig_publish_many(&rig, "t", 8, 1, 1);
    peer_expect_new_number(&p, "t", 8, 1);
    peer_free(&p);
}
END_TEST

/* A subscription made or ended by a client that is behind holds from that moment. */
START_TEST(a_client_that_is_behind_subscribes_and_unsubscribes)
{
    struct peer_connect how = {.version = MQTT_V5, .clean = true, .receive_maximum = 1};
    struct peer p = peer_connect_with(&rig, "p", &how, false);
    peer_subscribe(&p, "a", 1);
    peer_subscribe(&p, "c", 1);
    rig_publish_many(&rig, "a", 0, 2, 1);
    rig_publish_many(&rig, "b", 0, 1, 1); /* before the subscription */
    rig_publish_many(&rig, "c", 0, 1, 1); /* in the queue of a subscription that ends */
    uint16_t id = peer_expect_new_number(&p, "a", 0, 1);
    peer_subscribe(&p, "b", 1);
    peer_unsubscribe(&p, "c");
    rig_publish_many(&rig, "b", 1, 1, 1);
    rig_publish_many(&rig, "c", 1, 1, 1);
    peer_subscribe(&p, "c", 1);
    rig_publish_many(&rig, "c", 2, 1, 1);
    for (unsigned i = 0; i < 3; i++) {
        static const struct {
            const char *topic;
            unsigned number;
        } want[] = {{"a", 1}, {"b", 1}, {"c", 2}};
        peer_complete(&p, 1, id);
        id = peer_expect_new_number(&p, want[i].topic, want[i].number, 1);
    }
    peer_complete(&p, 1, id);
    peer_expect_nothing(&p);
    peer_free(&p);
}
END_TEST

/* [MQTT-3.1.2-24], -25: it is not sent, and as if it had been. */
START_TEST(a_message_above_maximum_packet_size_is_skipped)
{
    static char big[2000];
    uint8_t qos = (uint8_t)_i;
    struct peer_connect how = {.version = MQTT_V5, .clean = true, .receive_maximum = 2, .max_packet = 200};
    struct peer p = peer_connect_with(&rig, "p", &how, false), q = peer_clean(&rig, "q", MQTT_V5);
    memset(big, 'x', sizeof big - 1);
    peer_subscribe(&p, "t", qos);
    peer_subscribe(&q, "t", qos);
    for (int i = 0; i < 3; i++) { /* live at first, then behind */
        rig_publish(&rig, "t", "small", qos, false);
        rig_publish(&rig, "t", big, qos, false);
    }
    rig_publish(&rig, "t", "last", qos, false);
    for (int i = 0; i < 3; i++) {
        peer_expect_new(&q, "t", "small", qos);
        peer_expect_new(&q, "t", big, qos);
    }
    unsigned small = 0, last = 0;
    for (struct mqtt_packet m; peer_next(&p, &m);) {
        if (m.type == MQTT_PUBLISH) {
            ck_assert_uint_eq(m.u.publish.payload.len, small < 3 ? 5 : 4);
            *(small < 3 ? &small : &last) += 1;
        }
        if (m.type == MQTT_PUBREL)
            peer_ack(&p, MQTT_PUBCOMP, m.u.ack.packet_id);
        else if (qos)
            peer_ack(&p, qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, m.u.publish.packet_id);
        rig_turn(&rig);
    }
    ck_assert_uint_eq(small, 3);
    ck_assert_uint_eq(last, 1);
    ck_assert_uint_eq(inflight("p"), 0);
    ck_assert(!client_closed(p.fd));
    peer_free(&p);
    peer_free(&q);
}
END_TEST

START_TEST(large_messages_come_whole)
{
    size_t size = 3 << 20;
    char *big = xmalloc(size);
    struct peer p = peer_clean(&rig, "p", MQTT_V5);
    memset(big, 'y', size);
    big[size - 1] = '\0';
    peer_subscribe(&p, "t", 2);
    rig_publish(&rig, "t", big, 2, false);
    rig_publish(&rig, "t", "after", 2, false);
    struct mqtt_packet m = {0};
    for (int i = 0; i < 200 && !peer_next(&p, &m); i++)
        rig_turn(&rig);
    ck_assert_int_eq(m.type, MQTT_PUBLISH);
    ck_assert_uint_eq(m.u.publish.payload.len, size - 1);
    ck_assert(memchr(m.u.publish.payload.data, 'y', size) && m.u.publish.payload.data[size - 2] == 'y');
    peer_complete(&p, 2, m.u.publish.packet_id);
    rig_pass(&rig, 1100);
    peer_complete(&p, 2, peer_expect_new(&p, "t", "after", 2));
    peer_free(&p);
    free(big);
}
END_TEST

/* The connection may end at every step of both handshakes; what is left is nothing. */
START_TEST(a_connection_may_end_at_every_step)
{
    for (int step = 0; step < 6; step++) {
        struct peer p = peer_clean(&rig, "p", MQTT_V5);
        peer_subscribe(&p, "t", 2);
        rig_publish(&rig, "t", "x", 2, false);
        uint16_t id = step ? peer_expect_new(&p, "t", "x", 2) : 0;
        if (step > 1)
            peer_publish(&p, &(struct peer_publish){.topic = "u", .payload = "y", .qos = 2, .packet_id = 1});
        rig.hold_answers = step == 2;
        if (step > 2)
            rig_turn(&rig);
        if (step > 3)
            peer_ack(&p, MQTT_PUBREC, id);
        if (step > 4)
            peer_ack(&p, MQTT_PUBREL, 1);
        peer_drop(&p);
        rig.hold_answers = false;
        rig_turn(&rig);
        ck_assert_uint_eq(counter_get(counters_mine, COUNTER_INFLIGHT), 0);
        ck_assert_uint_eq(counter_get(counters_mine, COUNTER_SESSIONS), 0);
    }
}
END_TEST

/* [MQTT-3.3.2-5], [MQTT-3.3.2-6]: not after it has expired, and with what is left of the time. */
START_TEST(a_message_that_waits_expires)
{
    struct peer_connect how = {.version = MQTT_V5, .clean = true, .receive_maximum = 1};
    struct peer p = peer_connect_with(&rig, "p", &how, false), q = peer_clean(&rig, "q", MQTT_V5);
    peer_subscribe(&p, "t", 1);
    rig_publish_many(&rig, "t", 0, 1, 1);
    uint16_t id = peer_expect_new_number(&p, "t", 0, 1);
    peer_publish(
        &q, &(struct peer_publish){.topic = "t", .payload = "soon", .qos = 1, .packet_id = 1, .expiry_s = 2});
    peer_publish(&q, &(struct peer_publish){
                         .topic = "t", .payload = "late", .qos = 1, .packet_id = 2, .expiry_s = 60});
    rig_pass(&rig, 5000);
    peer_complete(&p, 1, id);
    struct mqtt_publish got = peer_expect_publish(&p, "t", "late", 1);
    ck_assert(mqtt_has(&got.props, MQTT_P_MESSAGE_EXPIRY));
    ck_assert_uint_le(got.props.value[MQTT_P_MESSAGE_EXPIRY].num, 56);
    ck_assert_uint_ge(got.props.value[MQTT_P_MESSAGE_EXPIRY].num, 55);
    peer_complete(&p, 1, got.packet_id);
    peer_expect_nothing(&p);
    peer_free(&p);
    peer_free(&q);
}
END_TEST

START_TEST(implicit_channels_have_their_qos_live_and_from_the_log)
{
    rig.config.implicit_qos = 1;
    struct peer_connect how = {.version = MQTT_V5, .clean = true, .receive_maximum = 1};
    struct peer p = peer_connect_with(&rig, "p", &how, false), q = peer_clean(&rig, "q", MQTT_V5);
    rig_publish(&rig, "clients/p", "0", 2, false);
    rig_publish(&rig, "clients/p", "1", 1, false);
    rig_publish(&rig, "clients/q", "other", 1, false);
    rig_publish(&rig, "broadcast", "2", 1, false);
    rig_publish(&rig, "broadcast", "3", 0, false);
    uint16_t id = peer_expect_new(&p, "clients/p", "0", 1);
    peer_expect_new(&p, "broadcast", "3", 0);
    peer_complete(&p, 1, id);
    id = peer_expect_new(&p, "clients/p", "1", 1);
    peer_complete(&p, 1, id);
    id = peer_expect_new(&p, "broadcast", "2", 1);
    peer_complete(&p, 1, id);
    peer_expect_nothing(&p);
    peer_expect_new(&q, "clients/q", "other", 1);
    peer_expect_new(&q, "broadcast", "2", 1);
    peer_expect_new(&q, "broadcast", "3", 0);
    peer_free(&p);
    peer_free(&q);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, a_publish_of_qos_1_is_acknowledged_when_it_is_kept, 0, 2);
    tcase_add_loop_test(tc, a_publish_of_qos_1_that_comes_again_is_published_again, 0, 2);
    tcase_add_loop_test(tc, a_publish_of_qos_2_is_published_once_however_often_it_comes, 0, 2);
    tcase_add_test(tc, a_publish_of_qos_2_that_comes_again_before_it_is_kept_waits_for_the_first);
    tcase_add_test(tc, packet_identifiers_of_both_ends_are_apart);
    tcase_add_loop_test(tc, answers_come_in_the_order_of_the_publishes, 0, 2);
    tcase_add_test(tc, a_5_0_client_above_receive_maximum_is_ended);
    tcase_add_loop_test(tc, a_client_that_publishes_above_the_limit_waits, 0, 3);
    tcase_add_test(tc, a_5_0_client_may_fill_its_quota_with_both);
    tcase_add_test(tc, a_3_1_1_client_that_waits_may_go);
    tcase_add_loop_test(tc, a_publish_that_is_not_kept_is_not_acknowledged, 0, 2);
    tcase_add_loop_test(tc, a_publish_that_the_link_does_not_take_is_refused, 0, 2);
    tcase_add_test(tc, an_answer_for_a_session_that_is_gone_is_for_nobody);
    tcase_add_loop_test(tc, a_message_comes_with_the_lesser_qos, 0, 2);
    tcase_add_test(tc, packet_identifiers_in_flight_are_different);
    tcase_add_test(tc, a_packet_identifier_in_use_is_not_given_again);
    tcase_add_loop_test(tc, pubrec_is_answered_as_often_as_it_comes, 0, 2);
    tcase_add_test(tc, pubrec_with_an_error_is_the_end);
    tcase_add_test(tc, the_wrong_acknowledgement_is_a_protocol_error);
    tcase_add_loop_test(tc, receive_maximum_of_the_client_is_kept, 0, 2);
    tcase_add_test(tc, a_full_window_does_not_hold_qos_0);
    tcase_add_test(tc, the_window_opens_in_whatever_order_it_is_acknowledged);
    tcase_add_test(tc, what_is_remembered_of_acknowledged_messages_is_bounded);
    tcase_add_loop_test(tc, a_blocked_client_reads_from_the_log_later, 0, 2);
    tcase_add_test(tc, what_was_read_from_the_log_does_not_come_again);
    tcase_add_test(tc, a_client_that_is_behind_subscribes_and_unsubscribes);
    tcase_add_loop_test(tc, a_message_above_maximum_packet_size_is_skipped, 0, 3);
    tcase_add_test(tc, large_messages_come_whole);
    tcase_add_test(tc, a_connection_may_end_at_every_step);
    tcase_add_test(tc, a_message_that_waits_expires);
    tcase_add_test(tc, implicit_channels_have_their_qos_live_and_from_the_log);
}

UNIT_MAIN("session_qos")
