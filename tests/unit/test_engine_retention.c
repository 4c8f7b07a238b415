/*
 * What goes and what stays, through both engines: messages by age, size and expiry, retained messages, what
 * is refused when there is no room, and whether everything agrees after a random life.
 */
#include "tests/unit/unit.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/engine_kept_rig.h"

/* ---- retention ---- */

START_TEST(a_message_expires_on_its_own)
{
    begin(_i);
    rig_append(&rig, "t", "stays");
    append_expiring("t", "goes", START_MS + 5000);
    append_expiring("u", "later", START_MS + 9000);
    rig_commit(&rig);
    clock_fake(START_MS + 4999);
    rig_tick(&rig);
    ck_assert_str_eq(scan_one("#", 0), "stays goes later ");
    clock_fake(START_MS + 5000);
    ck_assert_str_eq(scan_one("#", 0), "stays later "); /* before it is removed, too */
    rig_tick(&rig);
    ck_assert_uint_eq(stats().messages, 2);
    ck_assert_uint_eq(stats().expired[ENGINE_EXPIRED_EXPIRY], 1);
    clock_fake(START_MS + 20000);
    rig_tick(&rig);
    ck_assert_uint_eq(stats().expired[ENGINE_EXPIRED_EXPIRY], 2);
    ck_assert_uint_eq(stats().topics, 1);
    ck_assert_str_eq(scan_one("#", 0), "stays ");
    finish();
}
END_TEST

START_TEST(old_messages_go_and_those_that_went_unread_are_counted)
{
    begin(_i);
    rig_close(&rig);
    rig.settings.max_age_ms = 60000;
    rig_open(&rig);
    struct engine_session s = {.disconnected_ms = START_MS, .expiry_s = ENGINE_EXPIRY_NEVER};
    s.cursor = rig_append(&rig, "t", "read");
    rig.ops->session_put(rig.engine, "sleeper", 7, &s);
    rig_append(&rig, "t", "unread");
    rig_commit(&rig);
    clock_fake(START_MS + 30000);
    rig_append(&rig, "t", "young");
    rig_commit(&rig);
    clock_fake(START_MS + 59999);
    rig_tick(&rig);
    ck_assert_uint_eq(stats().messages, 3);
    clock_fake(START_MS + 60000);
    rig_tick(&rig);
    ck_assert_uint_eq(stats().messages, 1);
    ck_assert_uint_eq(stats().expired[ENGINE_EXPIRED_AGE], 2);
    ck_assert_uint_eq(stats().unread[ENGINE_EXPIRED_AGE], 1);
    ck_assert_uint_eq(stats().oldest_cursor, s.cursor);
    ck_assert_str_eq(scan_one("t", 0), "young ");
    finish();
}
END_TEST

START_TEST(without_sessions_nothing_goes_unread)
{
    begin(_i);
    rig_close(&rig);
    rig.settings.max_age_ms = 1000;
    rig_open(&rig);
    rig_append(&rig, "t", "x");
    rig_commit(&rig);
    clock_fake(START_MS + 2000);
    rig_tick(&rig);
    ck_assert_uint_eq(stats().messages, 0);
    ck_assert_uint_eq(stats().unread[ENGINE_EXPIRED_AGE], 0);
    ck_assert_uint_eq(stats().oldest_cursor, UINT64_MAX);
    ck_assert_uint_gt(stats().head, 0);
    finish();
}
END_TEST

START_TEST(the_log_keeps_to_its_size)
{
    begin(_i);
    rig_close(&rig);
    rig.settings.max_log_bytes = 100000;
    rig_open(&rig);
    static char payload[1001];
    memset(payload, 'p', 1000);
    uint64_t last = 0;
    for (int i = 0; i < 3000; i++) {
        last = rig_append(&rig, i % 2 ? "a" : "b", payload);
        if (i % 50 == 0)
            rig_commit(&rig);
    }
    rig_commit(&rig);
    rig_tick(&rig);
    struct engine_stats s = stats();
    ck_assert_uint_le(s.log_bytes, 100000);
    ck_assert_uint_gt(s.log_bytes, 90000);
    ck_assert_uint_eq(s.newest_seq, last);
    ck_assert_uint_eq(s.expired[ENGINE_EXPIRED_SIZE], 3000 - s.messages);
    ck_assert_uint_eq(s.newest_seq - s.oldest_seq, s.messages - 1);
    finish();
}
END_TEST

START_TEST(a_scan_survives_the_removal_of_what_it_is_about_to_read)
{
    begin(_i);
    rig_close(&rig);
    rig.settings.max_age_ms = 1000;
    rig_open(&rig);
    struct taken t = {0};
    struct engine_filter f[] = {rig_filter("a", 0), rig_filter("b", 0)};
    for (int i = 0; i < 10; i++)
        rig_append(&rig, i % 2 ? "a" : "b", "old");
    rig_commit(&rig);
    struct engine_scan *s = rig.ops->scan_new(rig.reader, f, 2, 0, mqtt_topic_matches);
    ck_assert_int_eq(rig.ops->scan_next(s, 2, take, &t), ENGINE_SCAN_MORE);
    clock_fake(START_MS + 5000);
    rig_tick(&rig);
    ck_assert_uint_eq(stats().messages, 0);
    rig_append(&rig, "a", "new");
    rig_commit(&rig);
    while (rig.ops->scan_next(s, 2, take, &t) != ENGINE_SCAN_END)
        ;
    ck_assert_str_eq(t.text, "old old new ");
    rig.ops->scan_free(s);
    finish();
}
END_TEST

/* ---- retained messages ---- */

static bool list_one(void *ctx, const struct message_parts *m, uint64_t time_ms)
{
    char **at = ctx;
    (void)time_ms;
    *at += sprintf(*at, "%.*s=%.*s ", m->topic_len, m->topic, (int)m->payload_len, m->payload);
    return true;
}

/* Retained messages as text, read in pieces. */
static const char *retained(const char *filter, size_t piece)
{
    static char text[65536], last[65536];
    char *at = text;
    size_t last_len = 0;
    text[0] = 0;
    for (int i = 0; i < 1000; i++)
        if (!rig.ops->retained_walk(rig.reader, filter, strlen(filter), mqtt_topic_matches, last, last_len,
                                    piece, list_one, &at, last, &last_len))
            return text;
    ck_abort_msg("the walk does not end");
}

START_TEST(retained_messages_are_set_replaced_and_cleared)
{
    begin(_i);
    retain("a", "1", 0);
    retain("a/b", "2", 0);
    retain("b", "3", 0);
    retain("ab", "4", 0);
    retain("$SYS/x", "5", 0);
    rig_commit(&rig);
    for (size_t piece = 1; piece < 5; piece++) {
        ck_assert_str_eq(retained("#", piece), "a=1 a/b=2 ab=4 b=3 ");
        ck_assert_str_eq(retained("a/#", piece), "a=1 a/b=2 ");
        ck_assert_str_eq(retained("+", piece), "a=1 ab=4 b=3 ");
        ck_assert_str_eq(retained("b", piece), "b=3 ");
        ck_assert_str_eq(retained("$SYS/+", piece), "$SYS/x=5 ");
        ck_assert_str_eq(retained("c/#", piece), "");
    }
    retain("a", "new", 0);
    retain("b", "", 0);
    retain("never", "", 0);
    rig_commit(&rig);
    ck_assert_str_eq(retained("+", 10), "a=new ab=4 ");
    ck_assert_uint_eq(stats().retained, 4);
    ck_assert_uint_eq(stats().messages, 0);
    finish();
}
END_TEST

/* Also one that is not in the log: what was handed in before it can be read. */
START_TEST(the_newest_number_that_can_be_read)
{
    begin(_i);
    ck_assert_uint_eq(rig.ops->reader_newest(rig.reader), 0);
    uint64_t logged = rig_append(&rig, "a", "x");
    rig_commit(&rig);
    ck_assert_uint_eq(rig.ops->reader_newest(rig.reader), logged);
    retain("a", "1", 0);
    rig_commit(&rig);
    uint64_t retained_one = rig.ops->reader_newest(rig.reader);
    ck_assert_uint_gt(retained_one, logged);
    retain("a", "", 0); /* one that is cleared is not there any more, but it was written */
    rig_commit(&rig);
    ck_assert_uint_gt(rig.ops->reader_newest(rig.reader), retained_one);
    finish();
}
END_TEST

START_TEST(a_retained_message_expires)
{
    begin(_i);
    retain("a", "1", START_MS + 1000);
    retain("b", "2", 0);
    rig_commit(&rig);
    ck_assert_str_eq(retained("#", 10), "a=1 b=2 ");
    clock_fake(START_MS + 1000);
    ck_assert_str_eq(retained("#", 10), "b=2 ");
    rig_tick(&rig);
    ck_assert_uint_eq(stats().retained, 1);
    finish();
}
END_TEST

/* ---- limits ---- */

START_TEST(too_much_for_the_disk_is_refused_and_taken_later)
{
    begin(_i);
    rig_close(&rig);
    rig.settings.max_pending_bytes = 10000;
    rig_open(&rig);
    enum engine_result why = ENGINE_OK;
    struct message_parts m = rig_parts("t", "0123456789");
    unsigned n = 0;
    while (rig.ops->append(rig.engine, &m, &why) && n < 1000)
        n++;
    ck_assert_int_eq(why, ENGINE_BUSY);
    ck_assert_uint_gt(n, 50);
    ck_assert(rig.ops->busy(rig.engine));
    ck_assert_int_eq(rig_commit(&rig), ENGINE_OK);
    ck_assert(!rig.ops->busy(rig.engine));
    ck_assert_uint_gt(rig.ops->append(rig.engine, &m, &why), 0);
    rig_commit(&rig);
    ck_assert_uint_eq(stats().messages, n + 1);
    finish();
}
END_TEST

/* Appends and commits until a message is refused. */
static unsigned fill(const char *payload)
{
    enum engine_result why;
    struct message_parts m = rig_parts("t", payload);
    for (unsigned n = 0; n < 100000; n++) {
        uint64_t kept = stats().messages;
        if (!rig.ops->append(rig.engine, &m, &why)) {
            rig.result = why;
            return n;
        }
        if (rig_commit(&rig) != ENGINE_OK) {
            ck_assert_uint_eq(stats().messages, kept);
            return n;
        }
    }
    ck_abort_msg("it never gets full");
}

START_TEST(a_full_file_refuses_messages_and_recovers)
{
    begin(_i);
    rig_close(&rig);
    rig_remove_dir(&rig);
    rig_make_dir(&rig);
    rig.settings.max_file_bytes = 4 << 20;
    rig.settings.max_age_ms = 60000;
    rig_open(&rig);
    static char payload[5001];
    memset(payload, 'p', 5000);
    unsigned n = fill(payload);
    ck_assert_uint_gt(n, 100);
    ck_assert_int_eq(rig.result, ENGINE_FULL);
    ck_assert_int_eq(stats().refusing, ENGINE_FULL);
    ck_assert_uint_gt(stats().refused, 0);
    /* Everything else goes on. */
    for (int i = 0; i < 50; i++) {
        struct engine_progress p = {.cursor = 10 + (uint64_t)i};
        put_session("c", 1, 0, 0, "");
        rig.ops->progress(rig.engine, "c", 1, &p);
        ck_assert_int_eq(rig_commit(&rig), ENGINE_OK);
    }
    ck_assert_str_eq(session("c"), "c cursor 59 away 0 expiry 0 extra ;");
    rig_assert_sound(&rig);
    /* Refused at once now, without a commit. */
    enum engine_result why;
    struct message_parts m = rig_parts("t", payload);
    ck_assert_uint_eq(rig.ops->append(rig.engine, &m, &why), 0);
    ck_assert_int_eq(why, ENGINE_FULL);
    /* Space comes back. */
    clock_fake(START_MS + 61000);
    rig_tick(&rig);
    ck_assert_uint_eq(stats().messages, 0);
    rig_tick(&rig);
    rig_tick(&rig);
    ck_assert_int_eq(stats().refusing, ENGINE_OK);
    ck_assert_uint_gt(fill(payload), n / 2);
    ck_assert_uint_le(stats().file_bytes, 4 << 20);
    finish();
}
END_TEST

/* What a sender of QoS 2 has in hand belongs to its message: an identifier noted for one that was refused
 * would keep the sender's repetition of it out. */
START_TEST(progress_that_goes_with_messages_is_refused_with_them)
{
    begin(_i);
    rig_close(&rig);
    rig.settings.max_file_bytes = 1 << 20;
    rig_open(&rig);
    static char big[1 << 20];
    memset(big, 'b', sizeof big - 1);
    uint16_t in[] = {7, 9};
    put_session("with", 1, 0, 0, "");
    put_session("alone", 1, 0, 0, "");
    ck_assert_int_eq(rig_commit(&rig), ENGINE_OK);
    for (int room = 0; room < 2; room++) {
        struct engine_progress p = {
            .cursor = 5 + (uint64_t)room, .in = in, .ins = (uint16_t)(1 + room), .with_messages = true};
        uint64_t seq = rig_append(&rig, "t", room ? "small" : big);
        rig.ops->progress(rig.engine, "with", 4, &p);
        p.with_messages = false;
        rig.ops->progress(rig.engine, "alone", 5, &p);
        ck_assert_int_eq(rig_commit(&rig), room ? ENGINE_OK : ENGINE_FULL);
        ck_assert_uint_eq(stats().newest_seq, room ? seq : 0);
        ck_assert_str_eq(session("with"), room ? "with cursor 6 away 0 expiry 0 extra ; in 7 in 9"
                                               : "with cursor 1 away 0 expiry 0 extra ;");
        ck_assert_str_eq(session("alone"), room ? "alone cursor 6 away 0 expiry 0 extra ; in 7 in 9"
                                                : "alone cursor 5 away 0 expiry 0 extra ; in 7");
        rig_tick(&rig); /* it looks again whether there is room */
        rig_tick(&rig);
    }
    finish();
}
END_TEST

/* Progress is replaced as a whole: what was handed in first does not come back when a later one is kept. */
START_TEST(the_last_progress_of_a_commit_counts)
{
    begin(_i);
    uint16_t in[] = {7, 9};
    struct engine_progress with = {.cursor = 5, .in = in, .ins = 1, .with_messages = true};
    struct engine_progress alone = {.cursor = 6, .in = in, .ins = 2};
    put_session("a", 1, 0, 0, "");
    put_session("b", 1, 0, 0, "");
    rig_append(&rig, "t", "x");
    rig.ops->progress(rig.engine, "a", 1, &with);
    rig.ops->progress(rig.engine, "a", 1, &alone);
    rig.ops->progress(rig.engine, "b", 1, &alone);
    rig.ops->progress(rig.engine, "b", 1, &with);
    ck_assert_int_eq(rig_commit(&rig), ENGINE_OK);
    ck_assert_str_eq(session("a"), "a cursor 6 away 0 expiry 0 extra ; in 7 in 9");
    ck_assert_str_eq(session("b"), "b cursor 6 away 0 expiry 0 extra ; in 7");
    finish();
}
END_TEST

START_TEST(everything_agrees_after_a_random_life)
{
    begin(_i);
    rig_close(&rig);
    rig.settings.max_log_bytes = 20000;
    rig.settings.max_age_ms = 50000;
    rig_open(&rig);
    random_state = 7;
    uint64_t now = START_MS;
    for (int i = 0; i < 6000; i++) {
        char topic[32], id[32];
        snprintf(topic, sizeof topic, "t/%u", random_below(40));
        snprintf(id, sizeof id, "c%u", random_below(30));
        switch (random_below(9)) {
        case 0:
            put_session(id, now, random_below(2) ? now : 0, random_below(40), "extra");
            break;
        case 1:
            subscribe(id, topic, 1, 0, 0);
            break;
        case 2:
            rig.ops->unsubscribe(rig.engine, id, strlen(id), topic, strlen(topic));
            break;
        case 3:
            if (random_below(4) == 0)
                rig.ops->session_remove(rig.engine, id, strlen(id));
            break;
        case 4: {
            struct engine_inflight out = {.seq = 5};
            struct engine_progress p = {.cursor = now, .out = &out, .outs = (uint16_t)random_below(2)};
            rig.ops->progress(rig.engine, id, strlen(id), &p);
            break;
        }
        case 5:
            retain(topic, random_below(2) ? "r" : "", random_below(3) ? 0 : now + 5000);
            break;
        default:
            append_expiring(topic, "message", random_below(3) ? 0 : now + random_below(9000));
        }
        if (random_below(10) == 0)
            rig_commit(&rig);
        if (random_below(50) == 0) {
            clock_fake(now += random_below(1000));
            rig_tick(&rig);
        }
        if (i % 500 == 0)
            rig_assert_sound(&rig);
    }
    rig_commit(&rig);
    finish();
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_loop_test(tc, a_message_expires_on_its_own, 0, ENGINES);
    tcase_add_loop_test(tc, old_messages_go_and_those_that_went_unread_are_counted, 0, ENGINES);
    tcase_add_loop_test(tc, without_sessions_nothing_goes_unread, 0, ENGINES);
    tcase_add_loop_test(tc, the_log_keeps_to_its_size, 0, ENGINES);
    tcase_add_loop_test(tc, a_scan_survives_the_removal_of_what_it_is_about_to_read, 0, ENGINES);
    tcase_add_loop_test(tc, retained_messages_are_set_replaced_and_cleared, 0, ENGINES);
    tcase_add_loop_test(tc, the_newest_number_that_can_be_read, 0, ENGINES);
    tcase_add_loop_test(tc, a_retained_message_expires, 0, ENGINES);
    tcase_add_loop_test(tc, too_much_for_the_disk_is_refused_and_taken_later, 0, ENGINES);
    tcase_add_loop_test(tc, a_full_file_refuses_messages_and_recovers, 0, ENGINES);
    tcase_add_loop_test(tc, progress_that_goes_with_messages_is_refused_with_them, 0, ENGINES);
    tcase_add_loop_test(tc, the_last_progress_of_a_commit_counts, 0, ENGINES);
    tcase_add_loop_test(tc, everything_agrees_after_a_random_life, 0, ENGINES);
}

UNIT_MAIN("engine_retention")
