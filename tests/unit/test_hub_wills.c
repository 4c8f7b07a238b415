/*
 * Wills in the hub: those that wait for their delay or the end of a session, and those of clients whose
 * worker dies.
 */
#include <stdio.h>
#include <string.h>

#include "gateway/base/clock.h"
#include "gateway/hub/hub_sessions.h"
#include "gateway/hub/hub_wills.h"
#include "tests/unit/hub_rig.h"
#include "tests/unit/unit.h"

/* ---- wills that wait ---- */

START_TEST(a_will_that_waits)
{
    open_session(0, "a", 10, 60, false);
    say_close_with(0, "a", 10, 60, 0, 5, "will", 0);
    ck_assert_uint_eq(hub_wills_waiting(rig.hub.sessions->wills), 1);
    rig_pass(4);
    rig_nothing(1);
    rig_pass(2);
    ck_assert_str_eq(rig_next(1, IPC_DELIVER)->text, "will");
    ck_assert_uint_eq(hub_wills_waiting(rig.hub.sessions->wills), 0);
    assert_away_since("a", START);
    rig_pass(10);
    rig_nothing(1);
    open_session(1, "a", 20, 60, true);
}
END_TEST

START_TEST(a_will_that_is_kept_comes_once)
{
    open_session(0, "a", 10, 60, false);
    say_close_with(0, "a", 10, 60, 0, 5, "will", 1);
    rig_pass(6);
    const struct heard *h = rig_next(1, IPC_DELIVER);
    ck_assert_str_eq(h->text, "will");
    ck_assert_uint_eq(h->num[1], 1);
    rig_pass(60);
    rig_nothing(1);
    assert_gone("a");
}
END_TEST

START_TEST(coming_back_cancels_the_will)
{
    open_session(0, "a", 10, 60, false);
    say_close_with(0, "a", 10, 60, 0, 5, "will", 0);
    rig_pass(3);
    open_session(0, "a", 20, 60, true);
    ck_assert_uint_eq(hub_wills_waiting(rig.hub.sessions->wills), 0);
    rig_pass(10);
    rig_nothing(1);
}
END_TEST

START_TEST(a_clean_start_publishes_the_will)
{
    open_session(0, "a", 10, 60, false);
    say_close_with(0, "a", 10, 60, 0, 5, "will", 0);
    say_open(0, "a", 20, true, 60);
    ck_assert_str_eq(rig_next(1, IPC_DELIVER)->text, "will");
    rig_pass(10);
    rig_nothing(1);
}
END_TEST

START_TEST(the_end_of_the_session_publishes_the_will)
{
    open_session(0, "a", 10, 3, false);
    say_close_with(0, "a", 10, 3, 0, 100, "will", 1);
    rig_pass(2);
    rig_nothing(1);
    ck_assert(rig_stored("a").found);
    rig_pass(2);
    ck_assert_str_eq(rig_next(1, IPC_DELIVER)->text, "will");
    assert_gone("a");
    rig_next(0, IPC_DELIVER);
    open_session(0, "b", 20, 60, false);
    say_close_with(0, "b", 20, 0, 0, 100, "now", 1);
    ck_assert_str_eq(rig_next(1, IPC_DELIVER)->text, "now");
    assert_gone("b");
}
END_TEST

START_TEST(deleting_publishes_the_will)
{
    open_session(0, "a", 10, 60, false);
    say_close_with(0, "a", 10, 60, 0, 5, "will", 0);
    ck_assert_int_eq(rig_delete("a"), HUB_DELETE_BEGUN);
    ck_assert_str_eq(rig_next(1, IPC_DELIVER)->text, "will");
    ck_assert_uint_eq(hub_wills_waiting(rig.hub.sessions->wills), 0);
}
END_TEST

START_TEST(what_is_no_will_is_not_stored)
{
    open_session(0, "a", 10, 60, false);
    struct ipc_message m =
        IPC_MAKE(CLOSE, IPC_NUM(++rig.peer[0].requests), IPC_NUM(10), IPC_NUM(60), IPC_NUM(5), ID("a"),
                 IPC_BYTES("x", 1), IPC_BYTES("nonsense", 8), IPC_NUM(0));
    rig_send(0, &m);
    rig_settle();
    assert_away_since("a", START);
    ck_assert_uint_eq(hub_wills_waiting(rig.hub.sessions->wills), 0);
}
END_TEST

START_TEST(wills_wait_over_a_restart_of_the_hub)
{
    open_session(0, "a", 10, 60, false);
    open_session(0, "b", 20, 2, false);
    open_session(0, "c", 30, 60, false);
    say_close_with(0, "a", 10, 60, 0, 5, "will/a", 1);
    say_close_with(0, "b", 20, 2, 0, 5, "will/b", 1);
    say_close_with(0, "c", 30, 60, 0, 5, "will/c", 1);
    rig_restart_hub();
    rig_attach_all();
    ck_assert_uint_eq(hub_wills_waiting(rig.hub.sessions->wills), 3);
    open_session(1, "c", 40, 60, true);
    rig_pass(3);
    ck_assert_str_eq(rig_next(2, IPC_DELIVER)->text, "will/b");
    rig_nothing(2);
    rig_pass(3);
    ck_assert_str_eq(rig_next(2, IPC_DELIVER)->text, "will/a");
    rig_restart_hub();
    rig_attach_all();
    rig_pass(10);
    rig_nothing(2);
    assert_gone("b");
    assert_away_since("a", START);
}
END_TEST

START_TEST(a_will_is_not_published_while_its_client_may_be_back)
{
    open_session(0, "a", 10, 60, false);
    say_close_with(0, "a", 10, 60, 0, 5, "will", 0);
    rig_restart_hub();
    for (unsigned i = 0; i < WORKERS; i++)
        rig_attach(i, 100 + i);
    rig_pass(6);
    rig_nothing(1);
    for (unsigned i = 0; i < WORKERS; i++)
        rig_claims_done(i);
    rig_pass(2);
    ck_assert_str_eq(rig_next(1, IPC_DELIVER)->text, "will");
}
END_TEST

/* ---- of clients whose worker dies ---- */

/* A client whose session is not stored begins in a worker, with a will. */
static void begin_with_will(unsigned w, const char *id, uint64_t claim, const char *will)
{
    say_claim(w, id, claim, false);
    say_will(w, id, claim, 0, will, 0);
}

START_TEST(the_will_of_a_client_whose_worker_dies)
{
    begin_with_will(0, "a", 10, "will/a");
    begin_with_will(1, "b", 20, "will/b");
    rig_kill_worker(0);
    ck_assert_str_eq(rig_next(1, IPC_DELIVER)->text, "will/a");
    rig_attach(0, 500);
    rig_claims_done(0);
    rig_pass(10);
    rig_nothing(1);
    rig_kill_worker(1);
    ck_assert_str_eq(rig_next(0, IPC_DELIVER)->text, "will/b");
}
END_TEST

/* Whatever became of the will then, the worker has seen to it. */
START_TEST(who_has_left_has_no_will)
{
    begin_with_will(0, "a", 10, "will/a");
    say_release(0, "a", 10);
    open_session(0, "b", 20, 60, false);
    say_will(0, "b", 20, 0, "will/b", 0);
    say_close(0, "b", 20, 60);
    rig_kill_worker(0);
    rig_nothing(1);
}
END_TEST

START_TEST(an_older_end_leaves_the_will_of_a_newer_session)
{
    begin_with_will(0, "a", 10, "old");
    begin_with_will(0, "a", 20, "new");
    say_release(0, "a", 10);
    rig_kill_worker(0);
    ck_assert_str_eq(rig_next(1, IPC_DELIVER)->text, "new");
    rig_nothing(1);
}
END_TEST

START_TEST(one_client_id_in_two_workers)
{
    begin_with_will(0, "a", 10, "old");
    begin_with_will(1, "a", 20, "new");
    expect_kick(0, "a", 10);
    say_release(0, "a", 10);
    rig_kill_worker(0);
    rig_nothing(1);
    rig_kill_worker(1);
    ck_assert_str_eq(rig_next(2, IPC_DELIVER)->text, "new");
    rig_nothing(2);
}
END_TEST

START_TEST(a_delay_counts_for_a_session_that_is_stored)
{
    open_session(0, "a", 10, 60, false);
    say_will(0, "a", 10, 5, "will/a", 0);
    open_session(0, "b", 20, 60, false);
    say_will(0, "b", 20, 5, "will/b", 0);
    say_claim(0, "c", 30, false);
    say_will(0, "c", 30, 5, "will/c", 0);
    rig_kill_worker(0);
    ck_assert_str_eq(rig_next(1, IPC_DELIVER)->text, "will/c"); /* its session ends with it */
    ck_assert_uint_eq(hub_wills_waiting(rig.hub.sessions->wills), 2);
    rig_attach(0, 500);
    rig_claims_done(0);
    rig_pass(3);
    open_session(1, "b", 40, 60, true);
    rig_nothing(1);
    rig_pass(3);
    ck_assert_str_eq(rig_next(1, IPC_DELIVER)->text, "will/a");
    assert_away_since("a", START);
    rig_pass(10);
    rig_nothing(1);
}
END_TEST

/* Or its client, back already, would be said to be gone. */
START_TEST(a_will_comes_before_what_its_client_says_next)
{
    char id[16];
    const unsigned n = 700; /* more than one turn takes */
    for (unsigned i = 0; i < n; i++) {
        snprintf(id, sizeof id, "c%u", i);
        begin_with_will(0, id, 10 + i, id);
    }
    ipc_channel_free(rig.peer[0].channel);
    rig.peer[0].channel = NULL;
    while (rig.hub.worker[0].channel)
        rig_turn();
    struct ipc_message claim = IPC_MAKE(CLAIM, IPC_NUM(5000), IPC_NUM(0), ID(id));
    struct ipc_message publish =
        IPC_MAKE(PUBLISH, IPC_NUM(0), IPC_NUM(0), IPC_NUM(0), IPC_NUM(0), IPC_NUM(0), ID("back"),
                 IPC_BYTES("", 0), ID("x"), IPC_BYTES("", 0), IPC_BYTES("", 0));
    rig_send(1, &claim);
    rig_send(1, &publish);
    rig_settle();
    unsigned gone = 0, back = 0;
    for (unsigned i = 1; i <= n + 1; i++) {
        const char *topic = rig_next(2, IPC_DELIVER)->text;
        gone = strcmp(topic, id) == 0 ? i : gone;
        back = strcmp(topic, "back") == 0 ? i : back;
    }
    ck_assert_uint_gt(gone, 0);
    ck_assert_uint_lt(gone, back);
    ck_assert_uint_lt(back, n + 1); /* the others' wills had not been published yet */
    rig_nothing(2);
}
END_TEST

START_TEST(who_takes_over_from_the_dead_comes_after_the_will)
{
    open_session(0, "a", 10, 60, false);
    say_will(0, "a", 10, 0, "will", 0);
    say_open(1, "a", 20, false, 60);
    rig_nothing(1);
    rig_kill_worker(0);
    ck_assert_str_eq(rig_next(1, IPC_DELIVER)->text, "will");
    expect_opened(1, "a", 20, true);
}
END_TEST

START_TEST(a_will_expires_from_its_publication)
{
    say_claim(0, "a", 10, false);
    say_will(0, "a", 10, 0, "will", 10000);
    rig_pass(30);
    rig_kill_worker(0);
    const struct heard *h = rig_next(1, IPC_DELIVER);
    ck_assert_str_eq(h->text, "will");
    ck_assert_uint_eq(h->num[3], rig.now_ms + 10000);
}
END_TEST

START_TEST(what_is_no_will_is_not_held)
{
    say_claim(0, "a", 10, false);
    struct ipc_message m = IPC_MAKE(WILL, IPC_NUM(10), IPC_NUM(0), ID("a"), IPC_BYTES("nonsense", 8));
    rig_send(0, &m);
    rig_settle();
    rig_kill_worker(0);
    rig_nothing(1);
}
END_TEST

/* A hub that starts anew is told again, and so is one to which a message did not get through. */
START_TEST(wills_are_told_again)
{
    begin_with_will(0, "a", 10, "will/a");
    begin_with_will(0, "b", 20, "will/b");
    rig_restart_hub();
    rig_attach_all();
    say_claim(0, "a", 10, true);
    say_will(0, "a", 10, 0, "will/a", 0);
    struct ipc_message hello =
        IPC_MAKE(HELLO, IPC_NUM(IPC_VERSION), IPC_NUM(0), IPC_NUM(0), IPC_NUM(100), IPC_NUM(0));
    rig_send(0, &hello);
    rig_settle();
    say_claim(0, "b", 20, true);
    say_will(0, "b", 20, 0, "will/b", 0);
    rig_kill_worker(0);
    ck_assert_str_eq(rig_next(1, IPC_DELIVER)->text, "will/b");
    rig_nothing(1);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, rig_setup_memory, rig_teardown);
    tcase_add_test(tc, a_will_that_waits);
    tcase_add_test(tc, a_will_that_is_kept_comes_once);
    tcase_add_test(tc, coming_back_cancels_the_will);
    tcase_add_test(tc, a_clean_start_publishes_the_will);
    tcase_add_test(tc, the_end_of_the_session_publishes_the_will);
    tcase_add_test(tc, deleting_publishes_the_will);
    tcase_add_test(tc, what_is_no_will_is_not_stored);
    tcase_add_test(tc, the_will_of_a_client_whose_worker_dies);
    tcase_add_test(tc, who_has_left_has_no_will);
    tcase_add_test(tc, an_older_end_leaves_the_will_of_a_newer_session);
    tcase_add_test(tc, one_client_id_in_two_workers);
    tcase_add_test(tc, a_delay_counts_for_a_session_that_is_stored);
    tcase_add_test(tc, a_will_comes_before_what_its_client_says_next);
    tcase_add_test(tc, who_takes_over_from_the_dead_comes_after_the_will);
    tcase_add_test(tc, a_will_expires_from_its_publication);
    tcase_add_test(tc, what_is_no_will_is_not_held);
}

/* Those that need a store that outlives the hub. */
static void add_restart_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, rig_setup_local, rig_teardown);
    tcase_add_test(tc, wills_wait_over_a_restart_of_the_hub);
    tcase_add_test(tc, a_will_is_not_published_while_its_client_may_be_back);
    tcase_add_test(tc, wills_are_told_again);
}

int main(void)
{
    static void (*const add[])(TCase *) = {add_tests, add_restart_tests};
    static const char *const name[] = {"hub wills", "after a restart"};
    Suite *s = suite_create("hub wills");
    for (unsigned i = 0; i < 2; i++) {
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
