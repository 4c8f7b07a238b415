/*
 * Sessions through both engines: their subscriptions, their progress, their end, and what is told of how far
 * they are behind.
 */
#include "tests/unit/unit.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/engine_kept_rig.h"

/* ---- sessions ---- */

START_TEST(a_session_is_kept_with_its_subscriptions)
{
    begin(_i);
    put_session("phone", 100, 0, 3600, "");
    subscribe("phone", "b/#", 2, 7, 90);
    subscribe("phone", "a", 1, 0, 80);
    put_session("other", 5, 0, 1, "will");
    subscribe("other", "c", 0, 1, 2);
    subscribe("nobody", "d", 0, 1, 2);
    rig_commit(&rig);
    ck_assert_str_eq(session("phone"), "phone cursor 100 away 0 expiry 3600 extra ; a:1:0:80 b/#:2:7:90");
    ck_assert_str_eq(session("other"), "other cursor 5 away 0 expiry 1 extra will; c:0:1:2");
    ck_assert_str_eq(session("nobody"), "");
    ck_assert_str_eq(session("phon"), "");
    subscribe("phone", "a", 2, 9, 99); /* replaced: it goes back as far as before */
    rig.ops->unsubscribe(rig.engine, "phone", 5, "b/#", 3);
    rig.ops->unsubscribe(rig.engine, "phone", 5, "none", 4);
    put_session("phone", 50, START_MS, 60, "x");
    rig_commit(&rig);
    ck_assert_str_eq(session("phone"), "phone cursor 100 away 1700000000000 expiry 60 extra x; a:2:9:80");
    rig.ops->session_remove(rig.engine, "phone", 5);
    rig.ops->session_remove(rig.engine, "phone", 5);
    put_session("phone", 1, 0, 0, "");
    rig_commit(&rig);
    ck_assert_str_eq(session("phone"), "phone cursor 1 away 0 expiry 0 extra ;");
    ck_assert_uint_eq(stats().sessions, 2);
    finish();
}
END_TEST

/* Of one that is replaced, what the session has not come to yet belongs to it as it was; and not what has
 * come since it had no QoS. */
START_TEST(a_subscription_that_is_replaced)
{
    begin(_i);
    put_session("c", 50, 0, 9, "");
    subscribe("c", "t", 2, 0, 40);
    subscribe("c", "t", 0, 0, 60);
    rig_commit(&rig);
    ck_assert_str_eq(session("c"), "c cursor 50 away 0 expiry 9 extra ; t:0:0:40 before 2:60");
    subscribe("c", "t", 0, 0, 70);
    rig_commit(&rig);
    ck_assert_str_eq(session("c"), "c cursor 50 away 0 expiry 9 extra ; t:0:0:40 before 2:60");
    subscribe("c", "t", 1, 0, 80);
    rig_commit(&rig);
    ck_assert_str_eq(session("c"), "c cursor 50 away 0 expiry 9 extra ; t:1:0:40 before 2:60");
    subscribe("c", "t", 0, 0, 90);
    rig_commit(&rig);
    ck_assert_str_eq(session("c"), "c cursor 50 away 0 expiry 9 extra ; t:0:0:40 before 2:90");
    put_session("c", 95, 0, 9, "");
    subscribe("c", "t", 0, 0, 100);
    subscribe("c", "t", 1, 0, 110);
    rig_commit(&rig);
    ck_assert_str_eq(session("c"), "c cursor 95 away 0 expiry 9 extra ; t:1:0:110");
    rig_assert_sound(&rig);
    finish();
}
END_TEST

START_TEST(progress_moves_the_cursor_forward_and_replaces_what_is_in_flight)
{
    begin(_i);
    struct engine_inflight out[] = {{.seq = 101, .packet_id = 7, .state = ENGINE_SENT},
                                    {.seq = 102, .state = ENGINE_DONE},
                                    {.seq = 103, .packet_id = 65535, .state = ENGINE_RECEIVED}};
    uint16_t in[] = {1, 40000};
    struct engine_progress p = {.cursor = 100, .out = out, .outs = 3, .in = in, .ins = 2};
    put_session("c", 50, 0, 9, "extra");
    subscribe("c", "t", 1, 0, 3);
    rig.ops->progress(rig.engine, "c", 1, &p);
    rig.ops->progress(rig.engine, "gone", 4, &p);
    rig_commit(&rig);
    ck_assert_str_eq(session("c"),
                     "c cursor 100 away 0 expiry 9 extra extra; t:1:0:3 out 101/7/0 out 102/0/2 "
                     "out 103/65535/1 in 1 in 40000");
    p = (struct engine_progress){.cursor = 99, .out = out, .outs = 1};
    rig.ops->progress(rig.engine, "c", 1, &p);
    rig_commit(&rig);
    ck_assert_str_eq(session("c"), "c cursor 100 away 0 expiry 9 extra extra; t:1:0:3 out 101/7/0");
    p = (struct engine_progress){.cursor = 103};
    rig.ops->progress(rig.engine, "c", 1, &p);
    rig_commit(&rig);
    ck_assert_str_eq(session("c"), "c cursor 103 away 0 expiry 9 extra extra; t:1:0:3");
    finish();
}
END_TEST

/* What is owed comes with a subscription and goes with it; progress replaces all of it. */
START_TEST(what_is_owed_is_kept_with_the_progress)
{
    begin(_i);
    struct engine_inflight out = {.seq = 101, .state = ENGINE_SENT};
    struct engine_owed owed[] = {{.filter = "a/#", .len = 3, .after = "a/5", .after_len = 3, .asked = 40},
                                 {.filter = "b", .len = 1, .asked = 41}};
    put_session("c", 50, 0, 9, "");
    subscribe_owed("c", "a/#", 40);
    subscribe_owed("c", "b", 41);
    subscribe_owed("c", "d", 0);
    subscribe_owed("nobody", "d", 42);
    rig_commit(&rig);
    ck_assert_str_eq(session("c"), "c cursor 50 away 0 expiry 9 extra ; a/#:1:0:0 b:1:0:0 d:1:0:0 "
                                   "owed a/#:40: owed b:41:");
    struct engine_progress p = {.cursor = 60, .out = &out, .outs = 1, .owed = owed, .owes = 2};
    rig.ops->progress(rig.engine, "c", 1, &p);
    rig_commit(&rig);
    ck_assert_str_eq(session("c"), "c cursor 60 away 0 expiry 9 extra ; a/#:1:0:0 b:1:0:0 d:1:0:0 "
                                   "out 101/0/0 owed a/#:40:a/5 owed b:41:");
    subscribe_owed("c", "a/#", 70); /* from the beginning */
    rig_commit(&rig);
    ck_assert_str_eq(session("c"), "c cursor 60 away 0 expiry 9 extra ; a/#:1:0:0 b:1:0:0 d:1:0:0 "
                                   "out 101/0/0 owed b:41: owed a/#:70:");
    rig.ops->unsubscribe(rig.engine, "c", 1, "b", 1);
    rig.ops->unsubscribe(rig.engine, "c", 1, "d", 1);
    rig_commit(&rig);
    ck_assert_str_eq(session("c"), "c cursor 60 away 0 expiry 9 extra ; a/#:1:0:0 out 101/0/0 owed a/#:70:");
    p = (struct engine_progress){.cursor = 60};
    rig.ops->progress(rig.engine, "c", 1, &p);
    rig_commit(&rig);
    ck_assert_str_eq(session("c"), "c cursor 60 away 0 expiry 9 extra ; a/#:1:0:0");
    subscribe_owed("c", "a/#", 80);
    rig.ops->unsubscribe(rig.engine, "c", 1, "a/#", 3);
    rig_commit(&rig);
    ck_assert_str_eq(session("c"), "c cursor 60 away 0 expiry 9 extra ;");
    subscribe_owed("c", "a/#", 90);
    rig.ops->session_remove(rig.engine, "c", 1);
    put_session("c", 1, 0, 9, "");
    rig_commit(&rig);
    ck_assert_str_eq(session("c"), "c cursor 1 away 0 expiry 9 extra ;");
    finish();
}
END_TEST

static void count_owed(void *ctx, const struct engine_session_view *v)
{
    *(unsigned *)ctx = v->progress.owes;
    for (unsigned i = 0; i < v->progress.owes; i++)
        ck_assert_uint_eq(v->progress.owed[i].len, 60000);
}

/* Filters may be long and many: of those that are too many for one value the last ones are left out. */
START_TEST(what_is_owed_has_a_limit)
{
    begin(_i);
    static char filter[60001];
    unsigned owes = 0;
    memset(filter, 'm', 60000);
    put_session("c", 50, 0, 9, "");
    for (int i = 0; i < 8; i++) {
        filter[0] = (char)('a' + i);
        subscribe_owed("c", filter, 40);
        rig_commit(&rig);
    }
    ck_assert(rig.ops->session_get(rig.reader, "c", 1, count_owed, &owes));
    ck_assert_uint_eq(owes, ENGINE_OWED_BYTES / 60000);
    filter[0] = 'a';
    subscribe_owed("c", filter, 41);
    rig_commit(&rig);
    ck_assert(rig.ops->session_get(rig.reader, "c", 1, count_owed, &owes));
    ck_assert_uint_eq(owes, ENGINE_OWED_BYTES / 60000);
    finish();
}
END_TEST

static bool count_one(void *ctx, const struct engine_session_view *v)
{
    char **at = ctx;
    *at += sprintf(*at, "%.*s ", (int)(v->client_id_len < 9 ? v->client_id_len : 9), v->client_id);
    return true;
}

static void check_long(void *ctx, const struct engine_session_view *v)
{
    ck_assert_uint_eq(v->client_id_len, 60000);
    ck_assert_mem_eq(v->client_id, ctx, 60000);
}

START_TEST(sessions_are_walked_in_pieces)
{
    begin(_i);
    static char long_id[60001], seen[4096];
    memset(long_id, 'm', 60000);
    static const char *const ids[] = {"a", "b", "b1", "z"};
    for (int i = 0; i < 4; i++)
        put_session(ids[i], 1, 0, 0, "");
    put_session(long_id, 1, 0, 0, "");
    rig_commit(&rig);
    char *at = seen;
    ck_assert_uint_eq(rig.ops->session_walk(rig.reader, "", 0, 2, count_one, &at), 2);
    ck_assert_uint_eq(rig.ops->session_walk(rig.reader, "b", 1, 2, count_one, &at), 2);
    ck_assert_uint_eq(rig.ops->session_walk(rig.reader, long_id, 60000, 2, count_one, &at), 1);
    ck_assert_uint_eq(rig.ops->session_walk(rig.reader, "z", 1, 2, count_one, &at), 0);
    ck_assert_str_eq(seen, "a b b1 mmmmmmmmm z ");
    ck_assert(rig.ops->session_get(rig.reader, long_id, 60000, check_long, long_id));
    finish();
}
END_TEST

START_TEST(a_session_ends_when_its_expiry_interval_has_passed)
{
    begin(_i);
    put_session("away", 1, START_MS, 60, "");
    subscribe("away", "t", 0, 0, 0);
    put_session("connected", 1, 0, 60, "");
    put_session("for ever", 1, START_MS, ENGINE_EXPIRY_NEVER, "");
    rig_commit(&rig);
    clock_fake(START_MS + 59999);
    rig_tick(&rig);
    ck_assert_uint_eq(rig.expired, 0);
    clock_fake(START_MS + 60000);
    rig_tick(&rig);
    ck_assert_uint_eq(rig.expired, 1);
    ck_assert_str_eq(rig.expired_id, "away");
    ck_assert_str_eq(session("away"), "");
    ck_assert_uint_eq(stats().sessions, 2);
    ck_assert_uint_eq(stats().sessions_expired, 1);
    clock_fake(START_MS + 600000000000);
    rig_tick(&rig);
    ck_assert_uint_eq(stats().sessions, 2);
    finish();
}
END_TEST

START_TEST(a_broadcast_to_many_sleeping_sessions_is_one_append)
{
    begin(_i);
    char id[32];
    for (int i = 0; i < 20000; i++) {
        snprintf(id, sizeof id, "sleeper-%d", i);
        put_session(id, 1, START_MS, ENGINE_EXPIRY_NEVER, "");
        if (i % 1000 == 0)
            rig_commit(&rig);
    }
    rig_commit(&rig);
    struct engine_stats before = stats();
    rig_append(&rig, "broadcast", "to all");
    rig_commit(&rig);
    struct engine_stats after = stats();
    ck_assert_uint_eq(after.messages, before.messages + 1);
    ck_assert_uint_eq(after.commits, before.commits + 1);
    ck_assert_uint_le(after.file_bytes, before.file_bytes + 32 * 4096);
    ck_assert_str_eq(scan_one("broadcast", 1), "to all ");
    finish();
}
END_TEST

/* Of changes of sessions only some go into one transaction; of messages there may be more. */
START_TEST(many_changes_of_sessions_had_better_wait)
{
    begin(_i);
    unsigned n = 0;
    char id[16];
    rig_commit(&rig);
    for (int i = 0; i < 1000; i++)
        rig_append(&rig, "t", "x");
    ck_assert(!rig.ops->crowded(rig.engine));
    for (; n < 1000 && !rig.ops->crowded(rig.engine); n++) {
        snprintf(id, sizeof id, "c%u", n);
        put_session(id, 0, 0, 60, "");
    }
    ck_assert_uint_ge(n, 16);
    ck_assert_uint_le(n, 320);
    rig_commit(&rig);
    ck_assert(!rig.ops->crowded(rig.engine));
    ck_assert_uint_eq(stats().sessions, n);
    finish();
}
END_TEST

START_TEST(the_sweep_says_how_far_sessions_are_behind)
{
    begin(_i);
    uint64_t first = rig_append(&rig, "t", "1");
    clock_fake(START_MS + 120000);
    uint64_t last = rig_append(&rig, "t", "2");
    put_session("done", last, START_MS, ENGINE_EXPIRY_NEVER, "");
    put_session("one behind", first, START_MS, ENGINE_EXPIRY_NEVER, "");
    put_session("both behind", first - 1, START_MS, ENGINE_EXPIRY_NEVER, "");
    rig_commit(&rig);
    clock_fake(START_MS + 130000);
    rig_tick(&rig);
    struct engine_stats s = stats();
    ck_assert_uint_eq(s.lag[0], 1);
    ck_assert_uint_eq(s.lag[1], 1);
    ck_assert_uint_eq(s.lag[2], 1);
    ck_assert_uint_eq(s.oldest_cursor, first - 1);
    ck_assert_uint_ge(s.sweeps, 1);
    finish();
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_loop_test(tc, a_session_is_kept_with_its_subscriptions, 0, ENGINES);
    tcase_add_loop_test(tc, a_subscription_that_is_replaced, 0, ENGINES);
    tcase_add_loop_test(tc, progress_moves_the_cursor_forward_and_replaces_what_is_in_flight, 0, ENGINES);
    tcase_add_loop_test(tc, what_is_owed_is_kept_with_the_progress, 0, ENGINES);
    tcase_add_loop_test(tc, what_is_owed_has_a_limit, 0, ENGINES);
    tcase_add_loop_test(tc, sessions_are_walked_in_pieces, 0, ENGINES);
    tcase_add_loop_test(tc, a_session_ends_when_its_expiry_interval_has_passed, 0, ENGINES);
    tcase_add_loop_test(tc, a_broadcast_to_many_sleeping_sessions_is_one_append, 0, ENGINES);
    tcase_add_loop_test(tc, many_changes_of_sessions_had_better_wait, 0, ENGINES);
    tcase_add_loop_test(tc, the_sweep_says_how_far_sessions_are_behind, 0, ENGINES);
}

UNIT_MAIN("engine_sessions")
