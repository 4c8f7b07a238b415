/*
 * The log through both engines: what is appended is read back whole, in order and once, by topic and from a
 * cursor; sequence numbers; commits. test_engine_sessions has the sessions, test_engine_retention what goes
 * again; what needs a disk is in test_engine_local.
 */
#include "tests/unit/unit.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/engine_kept_rig.h"

/* ---- the log ---- */

static bool compare_whole(void *ctx, const struct message_parts *m, uint64_t time_ms)
{
    const struct message_parts *want = ctx;
    ck_assert_uint_eq(m->seq, want->seq);
    ck_assert_uint_eq(m->qos, want->qos);
    ck_assert_uint_eq(m->retain, want->retain);
    ck_assert_uint_eq(m->expires_ms, want->expires_ms);
    ck_assert_uint_eq(m->origin, want->origin);
    ck_assert_uint_eq(m->topic_len, want->topic_len);
    ck_assert_uint_eq(m->props_len, want->props_len);
    ck_assert_uint_eq(m->payload_len, want->payload_len);
    ck_assert_mem_eq(m->topic, want->topic, want->topic_len);
    ck_assert_mem_eq(m->props, want->props, want->props_len);
    ck_assert_mem_eq(m->payload, want->payload, want->payload_len);
    ck_assert_uint_eq(time_ms, START_MS);
    return true;
}

START_TEST(a_message_is_read_back_whole)
{
    begin(_i);
    enum engine_result why;
    static char payload[100000];
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (char)(i * 7);
    struct message_parts m = {.topic = "a/b",
                              .topic_len = 3,
                              .props = "\x01\x00\x02",
                              .props_len = 3,
                              .payload = payload,
                              .payload_len = sizeof payload,
                              .qos = 2,
                              .retain = true,
                              .expires_ms = START_MS + 1,
                              .origin = UINT64_MAX};
    m.seq = rig.ops->append(rig.engine, &m, &why);
    ck_assert_uint_gt(m.seq, 0);
    ck_assert_int_eq(rig_commit(&rig), ENGINE_OK);
    ck_assert_uint_eq(rig.last_seq, m.seq);
    struct engine_filter f = rig_filter("a/b", 0);
    struct engine_scan *s = rig.ops->scan_new(rig.reader, &f, 1, 0, mqtt_topic_matches);
    ck_assert_int_eq(rig.ops->scan_next(s, 10, compare_whole, &m), ENGINE_SCAN_END);
    ck_assert_uint_eq(rig.ops->scan_position(s), m.seq);
    rig.ops->scan_free(s);
    finish();
}
END_TEST

START_TEST(a_message_is_seen_when_it_is_committed_and_not_before)
{
    begin(_i);
    uint64_t first = rig_append(&rig, "t", "1");
    rig_append(&rig, "t", "2");
    ck_assert_str_eq(scan_one("t", 0), "");
    ck_assert_int_eq(rig_commit(&rig), ENGINE_OK);
    ck_assert_str_eq(scan_one("t", 0), "1 2 ");
    ck_assert_uint_eq(rig.last_seq, first + 1);
    ck_assert_uint_eq(stats().messages, 2);
    ck_assert_uint_eq(stats().oldest_seq, first);
    ck_assert_uint_eq(stats().newest_seq, first + 1);
    ck_assert_uint_eq(stats().oldest_ms, START_MS);
    finish();
}
END_TEST

START_TEST(a_commit_of_nothing_is_done_already)
{
    begin(_i);
    uint64_t ticket = rig.ops->commit(rig.engine);
    ck_assert_uint_eq(rig.ops->commit(rig.engine), ticket);
    rig_append(&rig, "t", "1");
    ck_assert_uint_gt(rig.ops->commit(rig.engine), ticket);
    rig_wait(&rig, ticket + 1);
    finish();
}
END_TEST

START_TEST(a_scan_reads_its_topic_from_its_cursor)
{
    begin(_i);
    uint64_t seq[6];
    for (int i = 0; i < 6; i++) {
        char payload[16];
        snprintf(payload, sizeof payload, "%d", i);
        seq[i] = rig_append(&rig, i % 2 ? "odd" : "even", payload);
    }
    rig_commit(&rig);
    ck_assert_str_eq(scan_one("odd", 0), "1 3 5 ");
    ck_assert_str_eq(scan_one("odd", seq[1]), "3 5 ");
    ck_assert_str_eq(scan_one("odd", seq[2]), "3 5 ");
    ck_assert_str_eq(scan_one("odd", seq[5]), "");
    ck_assert_str_eq(scan_one("odder", 0), "");
    ck_assert_str_eq(scan_one("od", 0), "");
    finish();
}
END_TEST

START_TEST(filters_are_merged_in_order_and_each_message_given_once)
{
    begin(_i);
    uint64_t a = rig_append(&rig, "a", "a1");
    rig_append(&rig, "b", "b1");
    rig_append(&rig, "c/x", "c1");
    rig_append(&rig, "a", "a2");
    rig_append(&rig, "d", "d1");
    uint64_t last = rig_append(&rig, "c/y", "c2");
    rig_commit(&rig);
    struct engine_filter f[] = {rig_filter("c/+", 0), rig_filter("a", 0), rig_filter("#", a + 1),
                                rig_filter("a", 0), rig_filter("c/#", 0)};
    uint64_t position;
    for (size_t batch = 1; batch < 8; batch++) {
        ck_assert_str_eq(scan_all(f, 2, 0, batch, &position), "a1 c1 a2 c2 ");
        ck_assert_uint_eq(position, last);
        ck_assert_str_eq(scan_all(f, 5, 0, batch, &position), "a1 c1 a2 d1 c2 ");
        ck_assert_str_eq(scan_all(&f[1], 3, a, batch, &position), "c1 a2 d1 c2 ");
    }
    finish();
}
END_TEST

START_TEST(wildcards_match_as_mqtt_says)
{
    begin(_i);
    static const char *const topics[] = {"a",  "a/b",    "a/b/c", "a!", "ab", "ab/c",
                                         "a/", "$SYS/x", "/",     "/a", "b",  "a//c"};
    static const char *const filters[] = {"a/#", "#",   "+",  "+/+", "a/+",   "a/+/c", "$SYS/#",
                                          "/#",  "+/#", "/+", "ab",  "a/b/#", "b/#"};
    for (size_t i = 0; i < sizeof topics / sizeof topics[0]; i++)
        rig_append(&rig, topics[i], topics[i]);
    for (int i = 0; i < 100; i++) /* so that the log is longer than the table of topics */
        rig_append(&rig, "$other", "x");
    rig_commit(&rig);
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
        char want[256] = "";
        for (size_t j = 0; j < sizeof topics / sizeof topics[0]; j++)
            if (mqtt_topic_matches(filters[i], strlen(filters[i]), topics[j], strlen(topics[j])))
                strcat(strcat(want, topics[j]), " ");
        ck_assert_str_eq(scan_one(filters[i], 0), want);
    }
    finish();
}
END_TEST

START_TEST(a_scan_goes_on_with_what_has_come_since)
{
    begin(_i);
    struct taken t = {0};
    struct engine_filter f[] = {rig_filter("a", 0), rig_filter("new/+", 0)};
    rig_append(&rig, "a", "1");
    rig_append(&rig, "a", "2");
    uint64_t head = rig_append(&rig, "other", "x");
    rig_commit(&rig);
    struct engine_scan *s = rig.ops->scan_new(rig.reader, f, 2, 0, mqtt_topic_matches);
    ck_assert_int_eq(rig.ops->scan_next(s, 1, take, &t), ENGINE_SCAN_MORE);
    rig_append(&rig, "new/topic", "3");
    rig_append(&rig, "a", "4");
    rig_commit(&rig);
    ck_assert_int_eq(rig.ops->scan_next(s, 1, take, &t), ENGINE_SCAN_MORE);
    ck_assert_uint_lt(rig.ops->scan_position(s), head);
    ck_assert_int_eq(rig.ops->scan_next(s, 10, take, &t), ENGINE_SCAN_END);
    ck_assert_str_eq(t.text, "1 2 3 4 ");
    ck_assert_int_eq(rig.ops->scan_next(s, 10, take, &t), ENGINE_SCAN_END);
    rig_append(&rig, "new/2", "5");
    rig_commit(&rig);
    ck_assert_int_eq(rig.ops->scan_next(s, 10, take, &t), ENGINE_SCAN_END);
    ck_assert_str_eq(t.text, "1 2 3 4 5 ");
    rig.ops->scan_free(s);
    finish();
}
END_TEST

START_TEST(a_declined_message_comes_again)
{
    begin(_i);
    struct taken t = {.most = 1};
    struct engine_filter f = rig_filter("+", 0);
    rig_append(&rig, "a", "1");
    uint64_t second = rig_append(&rig, "b", "2");
    rig_append(&rig, "c", "3");
    rig_commit(&rig);
    struct engine_scan *s = rig.ops->scan_new(rig.reader, &f, 1, 0, mqtt_topic_matches);
    ck_assert_int_eq(rig.ops->scan_next(s, 10, take, &t), ENGINE_SCAN_MORE);
    ck_assert_uint_eq(rig.ops->scan_position(s), second - 1);
    ck_assert_int_eq(rig.ops->scan_next(s, 10, take, &t), ENGINE_SCAN_MORE);
    t.most = 0;
    ck_assert_int_eq(rig.ops->scan_next(s, 10, take, &t), ENGINE_SCAN_END);
    ck_assert_str_eq(t.text, "1 2 3 ");
    rig.ops->scan_free(s);
    finish();
}
END_TEST

enum { MESSAGES = 600 };
static char topic_of[MESSAGES][16];
static uint64_t seq_of[MESSAGES];

/* Messages on topics drawn at random, from one up to another, in commits of any size. */
static void append_random(int from, int to)
{
    for (int i = from; i < to; i++) {
        snprintf(topic_of[i], sizeof topic_of[i], random_below(8) ? "t%u/%u" : "t%u", random_below(5),
                 random_below(20));
        char payload[16];
        snprintf(payload, sizeof payload, "%d", i);
        seq_of[i] = rig_append(&rig, topic_of[i], payload);
        if (random_below(20) == 0)
            rig_commit(&rig);
    }
    rig_commit(&rig);
}

/* Scans with random filters and positions give what they should of the first messages. */
static void compare_scans(int messages, int rounds)
{
    static const char *const filters[] = {"#",     "+/+", "t1/#", "t1/+", "+/3",  "t0/1", "t0/2",
                                          "t2/+/", "t3",  "t3/#", "+",    "t4/+", "t9/9"};
    for (int round = 0; round < rounds; round++) {
        static char want[65536];
        struct engine_filter f[4];
        size_t n = 1 + random_below(4), len = 0;
        uint64_t after = seq_of[random_below((uint32_t)messages)] - random_below(2);
        for (size_t i = 0; i < n; i++)
            f[i] = rig_filter(filters[random_below(sizeof filters / sizeof filters[0])],
                              random_below(3) ? 0 : seq_of[random_below((uint32_t)messages)]);
        want[0] = 0;
        for (int m = 0; m < messages; m++)
            for (size_t i = 0; i < n; i++)
                if (seq_of[m] > after && seq_of[m] > f[i].after &&
                    mqtt_topic_matches(f[i].text, f[i].len, topic_of[m], strlen(topic_of[m]))) {
                    len += (size_t)sprintf(want + len, "%d ", m);
                    break;
                }
        ck_assert_str_eq(scan_all(f, n, after, 1 + random_below(50), NULL), want);
    }
    rig_assert_sound(&rig);
}

/* Of the first ones the index knows nothing yet, of the next ones a part, at the end all. */
START_TEST(scans_agree_with_the_plain_definition)
{
    begin(_i);
    random_state = 1;
    append_random(0, 300);
    compare_scans(300, 200);
    append_random(300, MESSAGES);
    compare_scans(MESSAGES, 300);
    rig_tick(&rig);
    compare_scans(MESSAGES, 300);
    finish();
}
END_TEST

/* A message that the index does not know yet, of a topic whose other messages all go. */
START_TEST(a_topic_stays_while_the_index_lacks_a_message_of_it)
{
    begin(_i);
    append_expiring("t", "soon", START_MS + 1000);
    rig_commit(&rig);
    rig_tick(&rig);
    clock_fake(START_MS + 2000);
    uint64_t seq = rig_append(&rig, "t", "later");
    rig_commit(&rig);
    ck_assert_str_eq(scan_one("t", 0), "later ");
    rig_tick(&rig);
    ck_assert_str_eq(scan_one("t", 0), "later ");
    ck_assert_uint_eq(stats().messages, 1);
    append_expiring("u", "gone before it was known", START_MS + 2500);
    rig_commit(&rig);
    clock_fake(START_MS + 3000);
    rig_tick(&rig);
    ck_assert_uint_eq(stats().messages, 1);
    ck_assert_str_eq(scan_one("#", seq - 1), "later ");
    finish();
}
END_TEST

START_TEST(more_topics_than_a_scan_can_hold_are_read_in_order)
{
    begin(_i);
    enum { TOPICS = 3000 };
    char topic[32];
    for (int pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < TOPICS; i++) {
            snprintf(topic, sizeof topic, "t/%u", i * 1237 % TOPICS);
            rig_append(&rig, topic, "x");
        }
        for (int i = 0; i < 2000; i++)
            rig_append(&rig, "between", "y");
    }
    rig_commit(&rig);
    struct engine_filter f[] = {rig_filter("t/+", 0), rig_filter("t/#", 0)};
    uint64_t position;
    scan_all(f, 2, 0, 700, &position);
    ck_assert_uint_eq(strlen(scan_all(f, 2, 0, 700, NULL)), 2 * TOPICS * 2);
    ck_assert_uint_eq(position, stats().head);
    ck_assert_uint_eq(stats().topics, TOPICS + 1);
    finish();
}
END_TEST

START_TEST(a_thousand_filters_for_one_topic_still_come_to_an_end)
{
    begin(_i);
    static struct engine_filter f[3000];
    for (size_t i = 0; i < 3000; i++)
        f[i] = rig_filter(i % 2 ? "a/b" : "a/c", 0);
    for (int i = 0; i < 5; i++) {
        rig_append(&rig, "a/b", "b");
        rig_append(&rig, "a/c", "c");
    }
    rig_commit(&rig);
    ck_assert_str_eq(scan_all(f, 3000, 0, 3, NULL), "b c b c b c b c b c ");
    finish();
}
END_TEST

START_TEST(names_longer_than_a_key_stay_apart)
{
    begin(_i);
    static char topic[4][65536];
    static const size_t len[4] = {477, 478, 60000, 60000};
    for (int i = 0; i < 4; i++) {
        memset(topic[i], 'x', len[i]);
        topic[i][1] = '/';
    }
    topic[3][59999] = 'y';
    for (int i = 0; i < 4; i++) {
        char payload[2] = {(char)('0' + i), 0};
        rig_append(&rig, topic[i], payload);
        rig_append(&rig, topic[i], payload);
    }
    struct message_parts retained = rig_parts(topic[2], "kept");
    rig.ops->retain(rig.engine, &retained);
    rig_commit(&rig);
    for (int i = 0; i < 4; i++) {
        char want[32];
        snprintf(want, sizeof want, "%d %d ", i, i);
        ck_assert_str_eq(scan_one(topic[i], 0), want);
    }
    for (int i = 0; i < 100; i++)
        rig_append(&rig, "between", "b");
    rig_commit(&rig);
    ck_assert_str_eq(scan_one("x/#", 0), "0 0 1 1 2 2 3 3 ");
    topic[2][30000] = '+';
    ck_assert_str_eq(scan_one(topic[2], 0), "");
    memset(topic[2], 'x', 60000);
    topic[2][1] = '/';
    ck_assert_uint_eq(stats().topics, 5);
    clock_fake(START_MS + 1000);
    finish();
}
END_TEST

/* ---- sequence numbers ---- */

START_TEST(numbers_grow_and_none_comes_twice)
{
    begin(_i);
    uint64_t last = rig.ops->next_seq(rig.engine);
    for (int i = 0; i < 1000; i++) {
        uint64_t next = i % 3 ? rig.ops->next_seq(rig.engine) : rig_append(&rig, "t", "x");
        ck_assert_uint_gt(next, last);
        last = next;
    }
    ck_assert_uint_lt(last, (uint64_t)1 << 53);
    rig_commit(&rig);
    finish();
}
END_TEST

/* ---- commits ---- */

START_TEST(commits_are_counted_and_timed)
{
    begin(_i);
    struct engine_stats before = stats();
    for (int i = 0; i < 10; i++) {
        rig_append(&rig, "t", "x");
        rig_commit(&rig);
    }
    struct engine_stats after = stats();
    uint64_t timed = 0;
    for (int i = 0; i < ENGINE_COMMIT_BUCKETS; i++)
        timed += after.commit_us[i] - before.commit_us[i];
    ck_assert_uint_eq(after.commits - before.commits, 10);
    ck_assert_uint_eq(timed, 10);
    ck_assert_uint_eq(after.failed_commits, 0);
    ck_assert_uint_eq(after.pending_bytes, 0);
    finish();
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_loop_test(tc, a_message_is_read_back_whole, 0, ENGINES);
    tcase_add_loop_test(tc, a_message_is_seen_when_it_is_committed_and_not_before, 0, ENGINES);
    tcase_add_loop_test(tc, a_commit_of_nothing_is_done_already, 0, ENGINES);
    tcase_add_loop_test(tc, a_scan_reads_its_topic_from_its_cursor, 0, ENGINES);
    tcase_add_loop_test(tc, filters_are_merged_in_order_and_each_message_given_once, 0, ENGINES);
    tcase_add_loop_test(tc, wildcards_match_as_mqtt_says, 0, ENGINES);
    tcase_add_loop_test(tc, a_scan_goes_on_with_what_has_come_since, 0, ENGINES);
    tcase_add_loop_test(tc, a_declined_message_comes_again, 0, ENGINES);
    tcase_add_loop_test(tc, scans_agree_with_the_plain_definition, 0, ENGINES);
    tcase_add_loop_test(tc, a_topic_stays_while_the_index_lacks_a_message_of_it, 0, ENGINES);
    tcase_add_loop_test(tc, more_topics_than_a_scan_can_hold_are_read_in_order, 0, ENGINES);
    tcase_add_loop_test(tc, a_thousand_filters_for_one_topic_still_come_to_an_end, 0, ENGINES);
    tcase_add_loop_test(tc, names_longer_than_a_key_stay_apart, 0, ENGINES);
    tcase_add_loop_test(tc, numbers_grow_and_none_comes_twice, 0, ENGINES);
    tcase_add_loop_test(tc, commits_are_counted_and_timed, 0, ENGINES);
}

UNIT_MAIN("engine_log")
