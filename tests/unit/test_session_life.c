/*
 * Who has a session that outlives its connections, and for how long: takeover, sessions that are asked for,
 * expiry, wills that wait, and workers that die. MQTT 5.0 sections 3.1.2.5, 3.1.2.11.2, 3.1.3.2.2,
 * 3.14.2.2.2 and 4.1; 3.1.1 likewise.
 */
#include "gateway/base/counters.h"
#include "tests/unit/session_peer.h"

static struct rig rig;

static void setup(void) { rig_begin(&rig); }
static void teardown(void) { rig_end(&rig); }

static const uint8_t versions[] = {MQTT_V311, MQTT_V5};

/* ---- takeover ---- */

START_TEST(a_takeover_goes_on_where_the_first_was)
{
    uint8_t v = versions[_i];
    struct peer p = peer_stored(&rig, "c", v, false);
    peer_subscribe(&p, "t", 2);
    rig_publish_many(&rig, "t", 0, 3, 2);
    uint16_t id[3];
    for (unsigned i = 0; i < 3; i++)
        id[i] = peer_expect_number(&p, "t", i, 2).packet_id;
    peer_ack(&p, MQTT_PUBREC, id[1]);
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBREL, id[1], 0);
    struct peer q = peer_stored(&rig, "c", v, true);
    if (v == MQTT_V5)
        peer_expect_bye(&p, MQTT_RC_TAKEN_OVER);
    else
        peer_expect_closed(&p);
    peer_expect_ack(&q, MQTT_PUBREL, id[1], 0);
    peer_expect_again(&q, "t", 0, 2, id[0]);
    peer_expect_again(&q, "t", 2, 2, id[2]);
    rig_publish_many(&rig, "t", 3, 1, 2);
    peer_expect_number(&q, "t", 3, 2);
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
    rig_publish_many(&rig, "t", 0, 1, 1);
    peer_expect_number(&p[5], "t", 0, 1);
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
    rig_publish_many(&rig, "t", 0, 2, 1);
    uint16_t id = peer_expect_number(&p, "t", 0, 1).packet_id;
    peer_expect_number(&p, "t", 1, 1);
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
    peer_expect_again(&p, "t", 0, 1, id);
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
    rig_publish_many(&rig, "t", 0, 1, 1);
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
    peer_expect_number(&p, "t", 0, 1);
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
    rig_publish_many(&rig, "t", 0, 1, 1);
    struct peer_connect how = {.version = MQTT_V5};
    p = peer_connect_with(&rig, "c", &how, true);
    peer_expect_number(&p, "t", 0, 1);
    rig_publish_many(&rig, "t", 1, 1, 1);
    peer_expect_number(&p, "t", 1, 1);
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
        rig_publish_many(&rig, "t", i, 1, 1);
        peer_complete(&p, 1, peer_expect_number(&p, "t", i, 1).packet_id);
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
        rig_publish_many(&rig, "1", i, 1, 1);
        rig_publish_many(&rig, "2", i, 1, 2);
    }
    uint16_t one[3], two[3];
    for (unsigned i = 0; i < 3; i++) {
        one[i] = peer_expect_number(&p, "1", i, 1).packet_id;
        two[i] = peer_expect_number(&p, "2", i, 2).packet_id;
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
        struct mqtt_publish got = peer_expect_number(&p, "1", i, 1);
        ck_assert(got.dup);
        ck_assert_uint_eq(got.packet_id, one[i]);
        if (i != 1)
            peer_expect_again(&p, "2", i, 2, two[i]);
    }
    peer_expect_nothing(&p);
    peer_drop(&p);
}
END_TEST

/* What may have been sent before the worker was killed has DUP, and what was published after it is new; also
 * for a connection that comes after one which has not taken all. */
START_TEST(what_comes_after_a_kill_is_new)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V5, false);
    peer_subscribe(&p, "t", (uint8_t)_i);
    rig_publish_many(&rig, "t", 0, 30, 2);
    rig_kill_worker(&rig, 0);
    peer_free(&p);
    rig.unsure_to = rig.newest;
    rig_publish_many(&rig, "t", 30, 30, 2);
    struct peer_connect slow = {.version = MQTT_V5, .expiry_s = 3600, .receive_maximum = 10};
    p = peer_connect_with(&rig, "c", &slow, true);
    for (unsigned i = 0; i < 10; i++)
        ck_assert(peer_expect_number(&p, "t", i, (uint8_t)_i).dup);
    peer_disconnect(&p);
    ck_assert(rig.closed_unsure);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    for (unsigned i = 0; i < 60; i++)
        ck_assert(peer_expect_number(&p, "t", i, (uint8_t)_i).dup == (i < 30));
    rig_publish_many(&rig, "t", 60, 1, 2);
    ck_assert(!peer_expect_number(&p, "t", 60, (uint8_t)_i).dup);
    peer_disconnect(&p);
    ck_assert(!rig.closed_unsure);
}
END_TEST

/* Nothing about a message was stored: it comes with the packet identifier it had, which a client that has it
 * knows again. */
START_TEST(a_message_nobody_remembers_keeps_its_packet_identifier)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V5, false);
    peer_subscribe(&p, "t", 2);
    rig_publish_many(&rig, "t", 0, 2, 2);
    uint16_t first = peer_expect_number(&p, "t", 0, 2).packet_id,
             second = peer_expect_number(&p, "t", 1, 2).packet_id;
    rig_kill_worker(&rig, 0);
    peer_free(&p);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    ck_assert_uint_eq(peer_expect_number(&p, "t", 0, 2).packet_id, first);
    ck_assert_uint_eq(peer_expect_number(&p, "t", 1, 2).packet_id, second);
    peer_drop(&p);
}
END_TEST

/* PUBREL only after it is stored that the client has the message: otherwise a crash brings it twice. */
START_TEST(pubrel_and_pubcomp_wait_for_the_store)
{
    struct peer p = peer_stored(&rig, "c", MQTT_V5, false);
    peer_subscribe(&p, "t", 2);
    rig_publish_many(&rig, "t", 0, 1, 2);
    uint16_t id = peer_expect_number(&p, "t", 0, 2).packet_id;
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
    rig_publish_many(&rig, "t", 0, 2, 2);
    uint16_t first = peer_expect_number(&p, "t", 0, 2).packet_id,
             second = peer_expect_number(&p, "t", 1, 2).packet_id;
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
    rig_publish_many(&rig, "t", 0, 3, 2);
    for (unsigned i = 0; i < 3; i++)
        peer_expect_number(&p, "t", i, 2);
    peer_drop(&p);
    p = peer_stored(&rig, "c", MQTT_V5, true);
    uint16_t id[3];
    for (unsigned i = 0; i < 3; i++)
        id[i] = peer_expect_number(&p, "t", i, 2).packet_id;
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
    tcase_add_loop_test(tc, what_comes_after_a_kill_is_new, 1, 3);
    tcase_add_test(tc, a_message_nobody_remembers_keeps_its_packet_identifier);
    tcase_add_test(tc, pubrel_and_pubcomp_wait_for_the_store);
    tcase_add_test(tc, what_was_begun_is_finished_after_unsubscribing);
    tcase_add_test(tc, an_idle_session_has_nothing_in_flight);
}

UNIT_MAIN("session_life")
