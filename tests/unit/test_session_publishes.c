/*
 * What clients publish with QoS 1 and 2, in the cases where something is in its way: publishes that are
 * refused while others wait, identifiers that are not released by the thousand, and workers that die with
 * publishes under way. MQTT 5.0 sections 4.3 and 4.6; 3.1.1 likewise.
 */
#include "gateway/base/counters.h"
#include "tests/unit/session_peer.h"

static struct rig rig;

static void setup(void) { rig_begin(&rig); }
static void teardown(void) { rig_end(&rig); }

static const uint8_t versions[] = {MQTT_V311, MQTT_V5};

static void publish(struct peer *p, const char *topic, uint8_t qos, uint16_t packet_id)
{
    peer_publish(p,
                 &(struct peer_publish){.topic = topic, .payload = "x", .qos = qos, .packet_id = packet_id});
}

static void publish_again(struct peer *p, uint8_t qos, uint16_t packet_id)
{
    peer_publish(p, &(struct peer_publish){
                        .topic = "t", .payload = "x", .qos = qos, .packet_id = packet_id, .dup = true});
}

/* All of QoS 2 but the release. */
static void publish_unreleased(struct peer *p, uint16_t packet_id)
{
    publish(p, "t", 2, packet_id);
    rig_turn(&rig);
    peer_expect_ack(p, MQTT_PUBREC, packet_id, 0);
}

static void release(struct peer *p, uint16_t packet_id)
{
    peer_ack(p, MQTT_PUBREL, packet_id);
    rig_turn(&rig);
    peer_expect_ack(p, MQTT_PUBCOMP, packet_id, 0);
}

/* ---- the order of answers: [MQTT-4.6.0-2], [MQTT-4.6.0-3], [MQTT-4.6.0-4] ---- */

START_TEST(a_publish_to_a_forbidden_topic_is_answered_in_its_turn)
{
    uint8_t code = versions[_i] == MQTT_V5 ? MQTT_RC_NOT_AUTHORIZED : 0;
    struct peer p = peer_clean(&rig, "p", versions[_i]);
    rig.hold_answers = true;
    publish(&p, "t", 1, 1);
    publish(&p, "t", 2, 2);
    publish(&p, "$SYS/x", 1, 3);
    publish(&p, "$SYS/x", 2, 4);
    publish(&p, "$SYS/x", 0, 0);
    publish(&p, "t", 1, 5);
    rig_turn(&rig);
    peer_expect_nothing(&p);
    rig.hold_answers = false;
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBACK, 1, 0);
    peer_expect_ack(&p, MQTT_PUBREC, 2, 0);
    peer_expect_ack(&p, MQTT_PUBACK, 3, code);
    peer_expect_ack(&p, MQTT_PUBREC, 4, code);
    peer_expect_ack(&p, MQTT_PUBACK, 5, 0);
    ck_assert_uint_eq(rig.kept_count, 3);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_PUBLISHES_FORBIDDEN), 3);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_PUBLISHES_IN), 6);
    peer_free(&p);
}
END_TEST

/* The link is full: what it has no room for waits as long as the client has others under way, and is refused
 * only then. */
START_TEST(a_publish_that_the_link_does_not_take_is_answered_in_its_turn)
{
    uint8_t qos = (uint8_t)(1 + _i / 2);
    enum mqtt_type ack = qos == 1 ? MQTT_PUBACK : MQTT_PUBREC;
    bool stays_full = _i % 2;
    struct peer p = peer_clean(&rig, "p", MQTT_V5), old = peer_clean(&rig, "old", MQTT_V311);
    rig.hold_answers = true;
    publish(&p, "t", qos, 1);
    publish(&old, "t", qos, 1);
    rig_turn(&rig);
    rig.no_room = true;
    publish(&p, "t", qos, 2);
    publish(&old, "t", qos, 2);
    rig_turn(&rig);
    peer_expect_nothing(&p);
    peer_expect_nothing(&old);
    rig.no_room = stays_full;
    rig.hold_answers = false;
    rig_turn(&rig);
    peer_expect_ack(&p, ack, 1, 0);
    peer_expect_ack(&p, ack, 2, stays_full ? MQTT_RC_QUOTA_EXCEEDED : 0);
    peer_expect_ack(&old, ack, 1, 0);
    if (stays_full)
        peer_expect_closed(&old);
    else
        peer_expect_ack(&old, ack, 2, 0);
    ck_assert_uint_eq(rig.kept_count, stays_full ? 2 : 4);
    peer_free(&p);
    peer_free(&old);
}
END_TEST

/* A client that waits for its turn may go, and what is unread goes with it. */
START_TEST(a_client_may_go_while_it_waits_for_its_turn)
{
    struct peer p = peer_stored(&rig, "p", MQTT_V5, false);
    rig.hold_answers = true;
    publish(&p, "t", 2, 1);
    publish(&p, "$SYS/x", 2, 2);
    publish(&p, "t", 2, 3);
    rig_turn(&rig);
    peer_drop(&p);
    rig.hold_answers = false;
    rig_turn(&rig);
    p = peer_stored(&rig, "p", MQTT_V5, true);
    publish_again(&p, 2, 1);
    publish_again(&p, 2, 3);
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREC, 1, 0);
    peer_expect_ack(&p, MQTT_PUBREC, 3, 0);
    ck_assert_uint_eq(rig.kept_count, 2);
    peer_drop(&p);
}
END_TEST

/* After a reconnect: the second one was never kept, the first and the third were. */
START_TEST(what_has_come_before_is_answered_in_its_turn)
{
    struct peer p = peer_stored(&rig, "p", versions[_i], false);
    publish_unreleased(&p, 1);
    publish_unreleased(&p, 3);
    peer_drop(&p);
    p = peer_stored(&rig, "p", versions[_i], true);
    rig.hold_answers = true;
    for (uint16_t id = 1; id <= 3; id++)
        publish_again(&p, 2, id);
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREC, 1, 0);
    peer_expect_nothing(&p);
    rig.hold_answers = false;
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREC, 2, 0);
    peer_expect_ack(&p, MQTT_PUBREC, 3, 0);
    ck_assert_uint_eq(rig.kept_count, 3);
    peer_drop(&p);
}
END_TEST

START_TEST(pubrel_for_an_unknown_identifier_comes_in_its_turn)
{
    struct peer p = peer_stored(&rig, "p", MQTT_V5, false);
    peer_subscribe(&p, "in", 2);
    rig_publish(&rig, "in", "x", 2, false);
    uint16_t id = peer_expect_new(&p, "in", "x", 2), strange = (uint16_t)(id % 60000 + 1);
    rig.hold_answers = true;
    peer_ack(&p, MQTT_PUBREC, id);
    peer_ack(&p, MQTT_PUBREC, strange);
    rig_turn(&rig);
    peer_expect_nothing(&p);
    rig.hold_answers = false;
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREL, id, 0);
    peer_expect_ack(&p, MQTT_PUBREL, strange, MQTT_RC_PACKET_ID_NOT_FOUND);
    peer_drop(&p);
}
END_TEST

/* A client that releases before it has heard PUBREC hears that first all the same. */
START_TEST(a_release_that_comes_early_waits)
{
    struct peer_connect how = {.version = MQTT_V5, .clean = !_i, .expiry_s = _i ? 100 : 0};
    struct peer p = peer_connect_with(&rig, "p", &how, false);
    rig.hold_answers = true;
    publish(&p, "t", 2, 1);
    peer_ack(&p, MQTT_PUBREL, 1);
    rig_turn(&rig);
    peer_expect_nothing(&p);
    rig.hold_answers = false;
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREC, 1, 0);
    peer_expect_ack(&p, MQTT_PUBCOMP, 1, 0);
    peer_drop(&p);
}
END_TEST

/* ---- identifiers that are not released ---- */

/* The bytes of the request that a publish of QoS 2 becomes. */
static size_t request_bytes(struct peer *p, uint16_t packet_id)
{
    rig.hold_requests = true;
    publish(p, "t", 2, packet_id);
    rig_turn(&rig);
    ck_assert_ptr_nonnull(rig.items);
    size_t len = rig.items->len;
    rig.hold_requests = false;
    rig_turn(&rig);
    peer_expect_ack(p, MQTT_PUBREC, packet_id, 0);
    return len;
}

/* Ten thousand cost what one does, in the request and in the store, and all of them are known again. */
START_TEST(many_successive_identifiers_cost_little)
{
    struct peer p = peer_stored(&rig, "p", MQTT_V311, false);
    size_t first = request_bytes(&p, 1);
    for (uint16_t id = 2; id <= 10000; id++)
        publish_unreleased(&p, id);
    size_t last = request_bytes(&p, 10001);
    ck_assert_msg(last <= first + 4, "%zu bytes at first, %zu bytes with 10,000 unreleased", first, last);
    ck_assert_uint_eq(rig_stored(&rig, "p").ins, 3);
    release(&p, 5000);
    release(&p, 1);
    peer_drop(&p);
    p = peer_stored(&rig, "p", MQTT_V311, true);
    unsigned kept = rig.kept_count;
    for (uint16_t id = 2; id <= 10001; id++) {
        if (id == 5000)
            continue;
        if (id % 100 == 0) {
            publish_again(&p, 2, id);
            rig_turn(&rig);
            peer_expect_ack(&p, MQTT_PUBREC, id, 0);
        }
        release(&p, id);
    }
    ck_assert_uint_eq(rig.kept_count, kept);
    ck_assert_uint_eq(rig_stored(&rig, "p").ins, 0);
    peer_drop(&p);
}
END_TEST

/* Every other one: each is a run of its own. So many are too many; the client may come back and release. */
START_TEST(a_client_with_too_many_runs_of_identifiers_is_ended)
{
    uint64_t before = counters_mine->closed[CLOSE_RECEIVE_MAXIMUM];
    struct peer p = peer_stored(&rig, "p", versions[_i], false);
    unsigned limit = 256 + rig.config.receive_maximum;
    for (unsigned i = 0; i < limit; i++) {
        if (i && i % rig.config.receive_maximum == 0) { /* a 5.0 client has no more on one connection */
            peer_drop(&p);
            p = peer_stored(&rig, "p", versions[_i], true);
        }
        publish_unreleased(&p, (uint16_t)(1 + 2 * i));
    }
    peer_drop(&p);
    p = peer_stored(&rig, "p", versions[_i], true);
    publish(&p, "t", 1, 60000); /* which has nothing to do with it */
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBACK, 60000, 0);
    publish(&p, "t", 2, 60001);
    rig_turn(&rig);
    if (versions[_i] == MQTT_V5)
        peer_expect_bye(&p, MQTT_RC_RECEIVE_MAX_EXCEEDED);
    else
        peer_expect_closed(&p);
    ck_assert_uint_eq(counters_mine->closed[CLOSE_RECEIVE_MAXIMUM], before + 1);
    peer_free(&p);
    p = peer_stored(&rig, "p", versions[_i], true);
    release(&p, 1);
    size_t bytes = request_bytes(&p, 60001);
    ck_assert_msg(bytes < 2000, "%zu bytes", bytes);
    peer_drop(&p);
}
END_TEST

/* ---- workers that die ---- */

/* The first of two publishes is refused, the second would be kept; before the worker hears of either it is
 * killed. Both come again: neither is taken for one that is kept. */
START_TEST(a_refused_publish_is_not_swallowed_because_of_another)
{
    struct peer p = peer_stored(&rig, "p", versions[_i], false);
    rig.hold_requests = true;
    publish(&p, "t", 2, 1);
    publish(&p, "t", 2, 2);
    rig_turn(&rig);
    rig.hold_requests = false;
    rig.hold_answers = true;
    rig.refuse = ENGINE_NO_SPACE;
    rig_take(&rig, 1);
    rig.refuse = ENGINE_OK;
    rig_take(&rig, 10);
    unsigned kept = rig.kept_count;
    rig_kill_worker(&rig, 0);
    peer_free(&p);
    p = peer_stored(&rig, "p", versions[_i], true);
    publish_again(&p, 2, 1);
    publish_again(&p, 2, 2);
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREC, 1, 0);
    peer_expect_ack(&p, MQTT_PUBREC, 2, 0);
    ck_assert_uint_eq(rig.kept_count, 2);
    ck_assert_uint_le(kept, 1);
    peer_drop(&p);
}
END_TEST

/* The same with a release behind the refused one, whose progress is stored in any case. */
START_TEST(a_refused_publish_is_not_swallowed_because_of_a_release)
{
    struct peer p = peer_stored(&rig, "p", versions[_i], false);
    publish_unreleased(&p, 9);
    rig.hold_requests = true;
    publish(&p, "t", 2, 1);
    peer_ack(&p, MQTT_PUBREL, 9);
    rig_turn(&rig);
    rig.hold_requests = false;
    rig.hold_answers = true;
    rig.refuse = ENGINE_NO_SPACE;
    rig_take(&rig, 10);
    rig.refuse = ENGINE_OK;
    rig_kill_worker(&rig, 0);
    peer_free(&p);
    p = peer_stored(&rig, "p", versions[_i], true);
    publish_again(&p, 2, 1);
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREC, 1, 0);
    ck_assert_uint_eq(rig.kept_count, 2);
    peer_drop(&p);
}
END_TEST

/* And a cursor that is due for writing meanwhile: it is written when the answer has come. */
START_TEST(progress_that_is_due_waits_for_the_answer)
{
    rig.config.log_cursor_interval_ms = 100;
    struct peer p = peer_stored(&rig, "p", MQTT_V5, false);
    peer_subscribe(&p, "in", 1);
    rig_publish(&rig, "in", "x", 1, false);
    uint16_t id = peer_expect_new(&p, "in", "x", 1);
    rig.hold_answers = true;
    publish(&p, "t", 2, 1);
    peer_ack(&p, MQTT_PUBACK, id);
    rig_turn(&rig);
    unsigned before = rig.progresses;
    rig_pass(&rig, 500);
    ck_assert_uint_eq(rig.progresses, before);
    rig.hold_answers = false;
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREC, 1, 0);
    rig_pass(&rig, 500);
    ck_assert_uint_gt(rig.progresses, before);
    struct rig_stored s = rig_stored(&rig, "p");
    ck_assert_uint_eq(s.ins, 1);
    ck_assert_uint_eq(s.outs, 0);
    peer_drop(&p);
}
END_TEST

/* PUBREL and PUBCOMP say that something is stored: when it is not, the client has to come again. */
START_TEST(what_cannot_be_stored_is_not_acknowledged)
{
    struct peer p = peer_stored(&rig, "p", versions[_i], false);
    peer_subscribe(&p, "in", 2);
    rig_publish(&rig, "in", "x", 2, false);
    uint16_t id = peer_expect_new(&p, "in", "x", 2);
    publish_unreleased(&p, 1);
    for (int round = 0; round < 2; round++) {
        rig.fail_progress = true;
        peer_ack(&p, round ? MQTT_PUBREL : MQTT_PUBREC, round ? 1 : id);
        rig_turn(&rig);
        if (versions[_i] == MQTT_V5)
            peer_expect_bye(&p, MQTT_RC_QUOTA_EXCEEDED);
        else
            peer_expect_closed(&p);
        peer_free(&p);
        rig.fail_progress = false;
        p = peer_stored(&rig, "p", versions[_i], true);
        peer_expect_ack(&p, MQTT_PUBREL, id, 0);
    }
    peer_ack(&p, MQTT_PUBCOMP, id);
    peer_ack(&p, MQTT_PUBREL, 1);
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBCOMP, 1, versions[_i] == MQTT_V5 ? MQTT_RC_PACKET_ID_NOT_FOUND : 0);
    peer_drop(&p);
    ck_assert_uint_eq(rig_stored(&rig, "p").outs + rig_stored(&rig, "p").ins, 0);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, a_publish_to_a_forbidden_topic_is_answered_in_its_turn, 0, 2);
    tcase_add_loop_test(tc, a_publish_that_the_link_does_not_take_is_answered_in_its_turn, 0, 4);
    tcase_add_test(tc, a_client_may_go_while_it_waits_for_its_turn);
    tcase_add_loop_test(tc, what_has_come_before_is_answered_in_its_turn, 0, 2);
    tcase_add_test(tc, pubrel_for_an_unknown_identifier_comes_in_its_turn);
    tcase_add_loop_test(tc, a_release_that_comes_early_waits, 0, 2);
    tcase_add_test(tc, many_successive_identifiers_cost_little);
    tcase_add_loop_test(tc, a_client_with_too_many_runs_of_identifiers_is_ended, 0, 2);
    tcase_add_loop_test(tc, a_refused_publish_is_not_swallowed_because_of_another, 0, 2);
    tcase_add_loop_test(tc, a_refused_publish_is_not_swallowed_because_of_a_release, 0, 2);
    tcase_add_test(tc, progress_that_is_due_waits_for_the_answer);
    tcase_add_loop_test(tc, what_cannot_be_stored_is_not_acknowledged, 0, 2);
}

UNIT_MAIN("session_publishes")
