/*
 * Stored sessions in the hub: who gets a session, when, and what is stored at each moment.
 */
#include <stdio.h>
#include <string.h>

#include "gateway/base/clock.h"
#include "gateway/hub/hub_sessions.h"
#include "tests/unit/hub_rig.h"
#include "tests/unit/unit.h"

/* ---- opening and closing ---- */

START_TEST(a_new_session)
{
    open_session(0, "a", 10, 60, false);
    assert_connected("a");
    ck_assert_uint_eq(rig_stored("a").session.expiry_s, 60);
    rig_nothing(0);
}
END_TEST

START_TEST(one_that_comes_back)
{
    open_session(0, "a", 10, 60, false);
    say_subscribe(0, "a", 10, "t/+");
    say_close(0, "a", 10, 60);
    assert_away_since("a", START);
    open_session(1, "a", 20, 30, true);
    assert_connected("a");
    ck_assert_uint_eq(rig_stored("a").session.expiry_s, 30);
    ck_assert_uint_eq(rig_stored("a").subscriptions, 1);
}
END_TEST

/* What a subscription is owed is stored with it, until the worker says how far that has come. */
START_TEST(one_that_is_owed_retained_messages)
{
    open_session(0, "a", 10, 60, false);
    say_subscribe_owed(0, "a", 10, "t/+", 77);
    say_subscribe(0, "a", 10, "u");
    say_close(0, "a", 10, 60);
    open_session(1, "a", 20, 30, true);
    ck_assert_uint_eq(rig_stored("a").owes, 1);
    ck_assert_uint_eq(rig_stored("a").asked, 77);
    say_progress(1, "a", 20, 5);
    ck_assert_uint_eq(rig_stored("a").owes, 0);
}
END_TEST

START_TEST(a_clean_start)
{
    open_session(0, "a", 10, 60, false);
    say_subscribe(0, "a", 10, "t/+");
    say_close(0, "a", 10, 60);
    say_open(0, "a", 20, true, 60);
    expect_opened(0, "a", 20, false);
    assert_connected("a");
    ck_assert_uint_eq(rig_stored("a").subscriptions, 0);
}
END_TEST

START_TEST(an_end_without_expiry)
{
    open_session(0, "a", 10, 60, false);
    say_close(0, "a", 10, 0);
    assert_gone("a");
    open_session(0, "a", 20, 60, false);
}
END_TEST

START_TEST(leaving_and_coming_back_within_one_commit)
{
    open_session(0, "a", 10, 60, false);
    struct ipc_message close = IPC_MAKE(CLOSE, IPC_NUM(++rig.peer[0].requests), IPC_NUM(10), IPC_NUM(0),
                                        IPC_NUM(0), ID("a"), IPC_BYTES("", 0), IPC_BYTES("", 0), IPC_NUM(0));
    struct ipc_message open = IPC_MAKE(OPEN, IPC_NUM(20), IPC_NUM(0), IPC_NUM(60), ID("a"));
    rig_send(0, &close);
    rig_send(0, &open);
    rig_settle();
    expect_opened(0, "a", 20, false); /* it had ended, though readers could not know yet */
    assert_connected("a");
}
END_TEST

START_TEST(the_time_of_a_session_passes)
{
    open_session(0, "a", 10, 5, false);
    say_close(0, "a", 10, 5);
    rig_pass(4);
    ck_assert(rig_stored("a").found);
    rig_pass(2);
    assert_gone("a");
    open_session(0, "a", 20, NEVER, false);
    say_close(0, "a", 20, NEVER);
    rig_pass(100);
    open_session(0, "a", 30, NEVER, true);
}
END_TEST

START_TEST(one_whose_time_is_over_is_not_there)
{
    open_session(0, "a", 10, 5, false);
    say_close(0, "a", 10, 5);
    rig.now_ms += 5000; /* and nobody has tidied up */
    clock_fake(rig.now_ms);
    ck_assert(rig_stored("a").found);
    open_session(0, "a", 20, 5, false);
}
END_TEST

/* ---- progress ---- */

START_TEST(progress_is_stored)
{
    open_session(0, "a", 10, 60, false);
    uint64_t cursor = rig_stored("a").session.cursor;
    say_progress(0, "a", 10, cursor + 5);
    ck_assert_uint_eq(rig_stored("a").session.cursor, cursor + 5);
    say_close_with(0, "a", 10, 60, cursor + 9, 0, NULL, 0);
    ck_assert_uint_eq(rig_stored("a").session.cursor, cursor + 9);
    open_session(1, "a", 20, 60, true);
    ck_assert_uint_eq(rig_stored("a").session.cursor, cursor + 9);
}
END_TEST

START_TEST(only_who_has_it_may_change_it)
{
    open_session(0, "a", 10, 60, false);
    uint64_t cursor = rig_stored("a").session.cursor;
    say_progress(1, "a", 10, cursor + 5);
    say_progress(0, "a", 9, cursor + 5);
    say_subscribe(1, "a", 20, "t");
    say_close(1, "a", 20, 0);
    ck_assert_uint_eq(rig_stored("a").session.cursor, cursor);
    ck_assert_uint_eq(rig_stored("a").subscriptions, 0);
    assert_connected("a");
    say_close(0, "a", 10, 60);
    say_progress(0, "nobody", 10, cursor + 5);
    say_close(0, "nobody", 10, 60);
    assert_gone("nobody");
}
END_TEST

/* ---- takeovers ---- */

START_TEST(a_takeover_waits_for_what_the_loser_says)
{
    open_session(0, "a", 10, 60, false);
    uint64_t cursor = rig_stored("a").session.cursor;
    say_open(1, "a", 20, false, 60);
    expect_kick(0, "a", 10);
    rig_nothing(1);
    say_close_with(0, "a", 10, 60, cursor + 7, 0, NULL, 0);
    expect_opened(1, "a", 20, true);
    assert_connected("a");
    ck_assert_uint_eq(rig_stored("a").session.cursor, cursor + 7);
    ck_assert_uint_eq(hub_openings_count(rig.hub.sessions->openings), 0);
}
END_TEST

START_TEST(a_takeover_of_one_that_is_not_stored)
{
    say_claim(0, "a", 10, false);
    say_open(1, "a", 20, false, 60);
    expect_kick(0, "a", 10);
    rig_nothing(1);
    say_release(0, "a", 10);
    expect_opened(1, "a", 20, false);
}
END_TEST

START_TEST(a_takeover_does_not_wait_for_ever)
{
    open_session(0, "a", 10, 60, false);
    uint64_t cursor = rig_stored("a").session.cursor, newest = say_publish(2);
    say_open(1, "a", 20, false, 60);
    expect_kick(0, "a", 10);
    rig_pass(4);
    rig_nothing(1);
    rig_pass(1);
    expect_opened_unsure(1, "a", 20, true, newest);
    say_close_with(0, "a", 10, 0, cursor + 7, 0, NULL, 0); /* too late */
    assert_connected("a");
    ck_assert_uint_eq(rig_stored("a").session.cursor, cursor);
    say_close(1, "a", 20, 60);
    say_close(0, "a", 10, 0); /* nobody claims the id, but it was not this one that had it last */
    assert_away_since("a", rig.now_ms);
}
END_TEST

START_TEST(a_takeover_from_a_worker_that_dies)
{
    open_session(0, "a", 10, 60, false);
    uint64_t newest = say_publish(2);
    say_open(1, "a", 20, false, 60);
    rig_nothing(1);
    rig_kill_worker(0);
    expect_opened_unsure(1, "a", 20, true, newest);
    assert_connected("a");
}
END_TEST

START_TEST(who_asks_last_gets_it)
{
    open_session(0, "a", 10, 60, false);
    say_open(1, "a", 20, false, 60);
    say_open(2, "a", 30, false, 40);
    expect_kick(0, "a", 10);
    expect_kick(1, "a", 20);
    say_close(1, "a", 20, 60); /* it never had it */
    rig_nothing(2);
    assert_connected("a");
    say_close(0, "a", 10, 60);
    expect_opened(2, "a", 30, true);
    rig_nothing(1);
    ck_assert_uint_eq(rig_stored("a").session.expiry_s, 40);
}
END_TEST

START_TEST(who_asked_and_left_gets_nothing)
{
    open_session(0, "a", 10, 60, false);
    say_open(1, "a", 20, false, 60);
    expect_kick(0, "a", 10);
    say_close(1, "a", 20, 60);
    ck_assert_uint_eq(hub_openings_count(rig.hub.sessions->openings), 0);
    say_close(0, "a", 10, 60);
    rig_nothing(1);
    assert_away_since("a", START);
    say_open(1, "b", 30, false, 60);
    expect_opened(1, "b", 30, false);
    open_session(0, "c", 40, 60, false);
    say_open(1, "c", 50, false, 60);
    rig_kill_worker(1);
    say_close(0, "c", 40, 60);
    assert_away_since("c", START);
}
END_TEST

START_TEST(the_older_of_two_claims_loses)
{
    open_session(0, "a", 20, 60, false);
    say_open(1, "a", 10, false, 60);
    expect_kick(1, "a", 10);
    rig_nothing(0);
    say_close(1, "a", 10, 0);
    assert_connected("a");
}
END_TEST

/* ---- sessions that are not stored ---- */

START_TEST(one_that_is_not_stored_ends_what_is)
{
    open_session(0, "a", 10, 60, false);
    say_close(0, "a", 10, 60);
    say_claim(1, "a", 20, false);
    assert_gone("a");
    say_release(1, "a", 20);
    open_session(0, "a", 30, 60, false);
    say_claim(1, "a", 40, false);
    expect_kick(0, "a", 30);
    ck_assert(rig_stored("a").found);
    say_close_with(0, "a", 30, 60, 0, 10, "will", 0); /* the session has ended, so its will is due */
    assert_gone("a");
    ck_assert_str_eq(rig_next(2, IPC_DELIVER)->text, "will");
}
END_TEST

START_TEST(what_was_to_go_does_not_come_back)
{
    open_session(0, "a", 10, 60, false);
    say_claim(1, "a", 20, false); /* a clean start, and right after it */
    say_open(2, "a", 30, false, 60);
    expect_kick(0, "a", 10);
    expect_kick(1, "a", 20);
    say_release(1, "a", 20);
    rig_nothing(2);
    say_close(0, "a", 10, 60);
    expect_opened(2, "a", 30, false);
}
END_TEST

/* ---- removing ---- */

START_TEST(deleting)
{
    ck_assert_int_eq(rig_delete("a"), HUB_DELETE_ABSENT);
    open_session(0, "a", 10, 60, false);
    say_close(0, "a", 10, 60);
    ck_assert_int_eq(rig_delete("a"), HUB_DELETE_BEGUN);
    assert_gone("a");
    ck_assert_uint_eq(rig.deleted, 1);
    open_session(0, "a", 20, 60, false);
    ck_assert_int_eq(rig_delete("a"), HUB_DELETE_BEGUN);
    ck_assert_int_eq(rig_delete("a"), HUB_DELETE_BEGUN);
    expect_kick(0, "a", 20);
    expect_kick(0, "a", 20);
    ck_assert_uint_eq(rig.deleted, 1); /* it is there still */
    say_close(0, "a", 20, 60);
    assert_gone("a");
    ck_assert_uint_eq(rig.deleted, 3);
    say_claim(0, "a", 30, false);
    ck_assert_int_eq(rig_delete("a"), HUB_DELETE_BEGUN);
    expect_kick(0, "a", 30);
    ck_assert_uint_eq(rig.deleted, 4);
}
END_TEST

/* Somebody who wants the session meanwhile gets a new one; if he leaves again, the old one goes all the same.
 */
START_TEST(what_is_deleted_goes_whoever_asks_meanwhile)
{
    open_session(0, "a", 10, 60, false);
    ck_assert_int_eq(rig_delete("a"), HUB_DELETE_BEGUN);
    expect_kick(0, "a", 10);
    say_open(1, "a", 20, false, 60);
    expect_kick(0, "a", 10);
    say_open(2, "a", 30, false, 60);
    expect_kick(1, "a", 20);
    say_release(1, "a", 20);
    say_close(0, "a", 10, 60);
    expect_opened(2, "a", 30, false);
    ck_assert_uint_eq(rig.deleted, 1);
    ck_assert_int_eq(rig_delete("a"), HUB_DELETE_BEGUN);
    expect_kick(2, "a", 30);
    say_open(1, "a", 40, false, 60);
    expect_kick(2, "a", 30);
    say_release(1, "a", 40);
    ck_assert_uint_eq(rig.deleted, 1);
    say_close(2, "a", 30, 60);
    assert_gone("a");
    ck_assert_uint_eq(rig.deleted, 2);
}
END_TEST

/* ---- what the dead have left ---- */

START_TEST(sessions_of_a_worker_that_dies_are_away)
{
    open_session(0, "a", 10, 60, false);
    open_session(1, "b", 20, 60, false);
    rig_pass(1);
    rig_kill_worker(0);
    assert_away_since("a", START + 1000);
    assert_connected("b");
    rig_attach(0, 500);
    rig_claims_done(0);
    open_session(0, "a", 30, 60, true);
}
END_TEST

/* What was published before the worker died may have been sent, and what comes after it was not; that is so
 * until somebody has read all of it, whatever dies meanwhile, and beside a will. */
START_TEST(what_the_dead_may_have_sent)
{
    open_session(0, "a", 10, 60, false);
    uint64_t newest = say_publish(1);
    rig_kill_worker(0);
    say_publish(1);
    say_open(1, "a", 20, false, 60);
    expect_opened_unsure(1, "a", 20, true, newest);
    rig.has_not_read_all = true;
    say_close_with(1, "a", 20, 60, newest - 1, 5, "will", 1);
    rig_restart_hub();
    rig_attach_all();
    say_open(1, "a", 30, false, 60);
    expect_opened_unsure(1, "a", 30, true, newest);
    say_close_with(1, "a", 30, 60, newest, 5, "will", 1);
    assert_away_since("a", rig.now_ms);
    open_session(1, "a", 40, 60, true);
}
END_TEST

START_TEST(very_many_are_put_away)
{
    char id[16];
    for (unsigned i = 0; i < 1700; i++) {
        snprintf(id, sizeof id, "c%u", i);
        struct ipc_message m = IPC_MAKE(OPEN, IPC_NUM(10 + i), IPC_NUM(0), IPC_NUM(60), ID(id));
        rig_send(i % 2, &m);
        if (i % 100 == 99) {
            rig_settle();
            rig.peer[0].count = rig.peer[0].taken = rig.peer[1].count = rig.peer[1].taken = 0;
        }
    }
    rig_settle();
    rig_kill_worker(0);
    for (unsigned i = 0; i < 1700; i++) {
        snprintf(id, sizeof id, "c%u", i);
        if (i % 2 == 0)
            assert_away_since(id, rig.now_ms);
        else
            assert_connected(id);
    }
}
END_TEST

START_TEST(a_hub_that_starts_again_finds_who_is_there)
{
    open_session(0, "a", 10, 60, false);
    open_session(1, "b", 20, 60, false);
    open_session(2, "c", 30, 60, false);
    rig_restart_hub();
    for (unsigned i = 0; i < 2; i++)
        rig_attach(i, 100 + i);
    rig_attach(2, 900); /* it was killed too */
    say_claim(0, "a", 10, true);
    say_claim(1, "b", 20, true);
    rig_claims_done(0);
    rig_claims_done(1);
    assert_connected("c"); /* it may still be claimed */
    rig_claims_done(2);
    assert_connected("a");
    assert_connected("b");
    assert_away_since("c", rig.now_ms);
}
END_TEST

START_TEST(a_close_that_comes_after_the_hub_has_started_again)
{
    open_session(0, "a", 10, 60, false);
    uint64_t cursor = rig_stored("a").session.cursor;
    rig_restart_hub();
    rig_attach_all(); /* the session has ended meanwhile, so nobody claims it */
    say_close_with(0, "a", 10, 60, cursor + 3, 0, NULL, 0);
    ck_assert_uint_eq(rig_stored("a").session.cursor, cursor + 3);
    assert_away_since("a", rig.now_ms);
}
END_TEST

START_TEST(who_asks_a_new_hub_waits_for_what_others_have_to_say)
{
    open_session(0, "a", 10, 60, false);
    uint64_t cursor = rig_stored("a").session.cursor;
    rig_restart_hub();
    for (unsigned i = 0; i < WORKERS; i++)
        rig_attach(i, 100 + i);
    say_open(1, "a", 20, false, 60);
    rig_claims_done(1);
    rig_claims_done(2);
    rig_nothing(1);
    say_close_with(0, "a", 10, 60, cursor + 3, 0, NULL, 0);
    rig_nothing(1);
    rig_claims_done(0);
    expect_opened(1, "a", 20, true);
    ck_assert_uint_eq(rig_stored("a").session.cursor, cursor + 3);
}
END_TEST

START_TEST(who_asks_twice_hears_the_same)
{
    open_session(0, "a", 10, 60, false);
    rig_restart_hub(); /* OPENED was lost on the way, say */
    for (unsigned i = 0; i < WORKERS; i++)
        rig_attach(i, 100 + i);
    say_open(0, "a", 10, false, 60);
    for (unsigned i = 0; i < WORKERS; i++)
        rig_claims_done(i);
    expect_opened(0, "a", 10, false);
    say_close(0, "a", 10, 60);
    open_session(0, "a", 20, 60, true);
    say_open(0, "a", 20, true, 60);
    expect_opened(0, "a", 20, true);
}
END_TEST

START_TEST(a_removal_that_was_lost_is_made_up_for)
{
    open_session(0, "a", 10, 60, false);
    rig_restart_hub();
    for (unsigned i = 0; i < WORKERS; i++)
        rig_attach(i, 100 + i);
    say_claim(1, "a", 20, true); /* not stored, and newer: a clean start */
    for (unsigned i = 0; i < WORKERS; i++)
        rig_claims_done(i);
    rig_pass(5); /* whoever had it might still say something */
    assert_gone("a");
    open_session(0, "b", 50, 60, false);
    say_claim(1, "b", 40, true); /* older: it has lost */
    expect_kick(1, "b", 40);
    assert_connected("b");
}
END_TEST

START_TEST(a_worker_that_was_taken_for_dead_has_its_session_back)
{
    open_session(0, "a", 10, 60, false);
    rig_attach(0, 100); /* a new channel: the claims of the old one are forgotten */
    ck_assert(rig_stored("a").session.disconnected_ms == 0 ||
              rig_stored("a").session.disconnected_ms == START);
    say_claim(0, "a", 10, true);
    rig_claims_done(0);
    assert_connected("a");
    say_close(0, "a", 10, 60);
    assert_away_since("a", START);
}
END_TEST

/* With sync = interval a request is answered before its commit. */
START_TEST(who_comes_back_finds_everything_though_it_was_not_written)
{
    say_open(0, "a", 10, false, 60);
    expect_opened(0, "a", 10, false);
    for (unsigned i = 0; i < 20; i++) {
        uint64_t claim = 20 + i * 10;
        char filter[16];
        snprintf(filter, sizeof filter, "t/%u", i);
        struct ipc_message sub =
            IPC_MAKE(SUBSCRIBE, IPC_NUM(++rig.peer[0].requests), IPC_NUM(claim - 10), IPC_NUM(1), IPC_NUM(0),
                     IPC_NUM(1), ID("a"), ID(filter), IPC_NUM(0));
        struct ipc_message close =
            IPC_MAKE(CLOSE, IPC_NUM(++rig.peer[0].requests), IPC_NUM(claim - 10), IPC_NUM(60), IPC_NUM(0),
                     ID("a"), IPC_BYTES("", 0), IPC_BYTES("", 0), IPC_NUM(0));
        struct ipc_message open = IPC_MAKE(OPEN, IPC_NUM(claim), IPC_NUM(0), IPC_NUM(60), ID("a"));
        rig_send(0, &sub);
        rig_send(0, &close);
        rig_send(0, &open);
        while (rig.peer[0].taken == rig.peer[0].count)
            rig_turn();
        expect_opened(0, "a", claim, true);
        ck_assert_uint_eq(rig_stored("a").subscriptions, i + 1);
    }
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, rig_setup_memory, rig_teardown);
    tcase_add_test(tc, a_new_session);
    tcase_add_test(tc, one_that_comes_back);
    tcase_add_test(tc, one_that_is_owed_retained_messages);
    tcase_add_test(tc, a_clean_start);
    tcase_add_test(tc, an_end_without_expiry);
    tcase_add_test(tc, leaving_and_coming_back_within_one_commit);
    tcase_add_test(tc, the_time_of_a_session_passes);
    tcase_add_test(tc, one_whose_time_is_over_is_not_there);
    tcase_add_test(tc, progress_is_stored);
    tcase_add_test(tc, only_who_has_it_may_change_it);
    tcase_add_test(tc, a_takeover_waits_for_what_the_loser_says);
    tcase_add_test(tc, a_takeover_of_one_that_is_not_stored);
    tcase_add_test(tc, a_takeover_does_not_wait_for_ever);
    tcase_add_test(tc, a_takeover_from_a_worker_that_dies);
    tcase_add_test(tc, who_asks_last_gets_it);
    tcase_add_test(tc, who_asked_and_left_gets_nothing);
    tcase_add_test(tc, the_older_of_two_claims_loses);
    tcase_add_test(tc, one_that_is_not_stored_ends_what_is);
    tcase_add_test(tc, what_was_to_go_does_not_come_back);
    tcase_add_test(tc, deleting);
    tcase_add_test(tc, what_is_deleted_goes_whoever_asks_meanwhile);
    tcase_add_test(tc, sessions_of_a_worker_that_dies_are_away);
    tcase_add_test(tc, very_many_are_put_away);
}

/* Those that need a store that outlives the hub. */
static void add_restart_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, rig_setup_local, rig_teardown);
    tcase_add_test(tc, what_the_dead_may_have_sent);
    tcase_add_test(tc, a_hub_that_starts_again_finds_who_is_there);
    tcase_add_test(tc, a_close_that_comes_after_the_hub_has_started_again);
    tcase_add_test(tc, who_asks_a_new_hub_waits_for_what_others_have_to_say);
    tcase_add_test(tc, who_asks_twice_hears_the_same);
    tcase_add_test(tc, a_removal_that_was_lost_is_made_up_for);
    tcase_add_test(tc, a_worker_that_was_taken_for_dead_has_its_session_back);
}

static void add_interval_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, rig_setup_interval, rig_teardown);
    tcase_add_test(tc, who_comes_back_finds_everything_though_it_was_not_written);
}

int main(void)
{
    static void (*const add[])(TCase *) = {add_tests, add_restart_tests, add_interval_tests};
    static const char *const name[] = {"hub sessions", "after a restart", "before it is written"};
    Suite *s = suite_create("hub sessions");
    for (unsigned i = 0; i < 3; i++) {
        TCase *tc = tcase_create(name[i]);
        tcase_set_timeout(tc, 120);
        add[i](tc);
        suite_add_tcase(s, tc);
    }
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
