/*
 * What is kept: the log, sessions, retained messages, retention. Every test runs against both engines through
 * their table; those that need a disk are in test_engine_local.
 */
#include "tests/unit/unit.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/clock.h"
#include "gateway/base/hash.h"
#include "tests/unit/engine_rig.h"

static const char *const engine_names[] = {"memory", "local"};
#define ENGINES  2
#define START_MS UINT64_C(1700000000000)

static struct rig rig;

/* Each test begins with this: the clock stands still, the engine is empty. */
static void begin(int which)
{
    hash_set_key(1, 2);
    clock_fake(START_MS);
    rig_begin(&rig, engine_names[which]);
}

static void finish(void)
{
    rig_end(&rig);
    clock_real();
}

/* ---- reading back ---- */

/* Messages as text: payloads, each followed by a space. */
struct taken {
    char text[65536];
    size_t len, count, most;
    uint64_t last_seq;
};

static bool take(void *ctx, const struct message_parts *m, uint64_t time_ms)
{
    struct taken *t = ctx;
    (void)time_ms;
    if (t->most && t->count == t->most)
        return false;
    ck_assert_uint_gt(m->seq, t->last_seq);
    t->last_seq = m->seq;
    t->count++;
    int n = snprintf(t->text + t->len, sizeof t->text - t->len, "%.*s ", (int)m->payload_len, m->payload);
    t->len += (size_t)n < sizeof t->text - t->len ? (size_t)n : 0;
    return true;
}

/* All that a scan gives, in batches of `batch`; *position as it leaves it. */
static const char *scan_all(const struct engine_filter *f, size_t n, uint64_t after, size_t batch,
                            uint64_t *position)
{
    static struct taken t;
    t = (struct taken){.last_seq = after};
    struct engine_scan *s = rig.ops->scan_new(rig.reader, f, n, after, mqtt_topic_matches);
    enum engine_scan_result r;
    size_t before;
    do {
        before = t.count;
        r = rig.ops->scan_next(s, batch, take, &t);
        ck_assert_int_ne(r, ENGINE_SCAN_ERROR);
        ck_assert_uint_le(t.count - before, batch);
    } while (r == ENGINE_SCAN_MORE);
    if (position)
        *position = rig.ops->scan_position(s);
    rig.ops->scan_free(s);
    return t.text;
}

static const char *scan_one(const char *filter, uint64_t after)
{
    struct engine_filter f = rig_filter(filter, 0);
    return scan_all(&f, 1, after, 100, NULL);
}

static struct engine_stats stats(void)
{
    struct engine_stats s;
    rig.ops->stats(rig.engine, &s);
    return s;
}

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

/* A small generator, so that a failure can be repeated. */
static uint32_t random_state;
static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % n;
}

START_TEST(scans_agree_with_the_plain_definition)
{
    begin(_i);
    static const char *const filters[] = {"#",     "+/+", "t1/#", "t1/+", "+/3",  "t0/1", "t0/2",
                                          "t2/+/", "t3",  "t3/#", "+",    "t4/+", "t9/9"};
    enum { MESSAGES = 600 };
    static char topic[MESSAGES][16];
    static uint64_t seq[MESSAGES];
    random_state = 1;
    for (int i = 0; i < MESSAGES; i++) {
        snprintf(topic[i], sizeof topic[i], random_below(8) ? "t%u/%u" : "t%u", random_below(5),
                 random_below(20));
        char payload[16];
        snprintf(payload, sizeof payload, "%d", i);
        seq[i] = rig_append(&rig, topic[i], payload);
        if (random_below(20) == 0)
            rig_commit(&rig);
    }
    rig_commit(&rig);
    for (int round = 0; round < 300; round++) {
        static char want[65536];
        struct engine_filter f[4];
        size_t n = 1 + random_below(4), len = 0;
        uint64_t after = seq[random_below(MESSAGES)] - random_below(2);
        for (size_t i = 0; i < n; i++)
            f[i] = rig_filter(filters[random_below(sizeof filters / sizeof filters[0])],
                              random_below(3) ? 0 : seq[random_below(MESSAGES)]);
        want[0] = 0;
        for (int m = 0; m < MESSAGES; m++)
            for (size_t i = 0; i < n; i++)
                if (seq[m] > after && seq[m] > f[i].after &&
                    mqtt_topic_matches(f[i].text, f[i].len, topic[m], strlen(topic[m]))) {
                    len += (size_t)sprintf(want + len, "%d ", m);
                    break;
                }
        ck_assert_str_eq(scan_all(f, n, after, 1 + random_below(50), NULL), want);
    }
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

/* ---- retention ---- */

/* Appends with an expiry time. */
static uint64_t append_expiring(const char *topic, const char *payload, uint64_t expires_ms)
{
    enum engine_result why;
    struct message_parts m = rig_parts(topic, payload);
    m.expires_ms = expires_ms;
    uint64_t seq = rig.ops->append(rig.engine, &m, &why);
    ck_assert_uint_gt(seq, 0);
    return seq;
}

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

/* ---- sessions ---- */

/* A session as text. */
static char described[4096];
static void describe(void *ctx, const struct engine_session_view *v)
{
    char *at = described;
    (void)ctx;
    at += sprintf(at, "%.*s cursor %llu away %llu expiry %u extra %.*s;", (int)v->client_id_len, v->client_id,
                  (unsigned long long)v->progress.cursor, (unsigned long long)v->session.disconnected_ms,
                  v->session.expiry_s, (int)v->session.extra_len, v->session.extra);
    ck_assert_uint_eq(v->progress.cursor, v->session.cursor);
    for (size_t i = 0; i < v->subscription_count; i++)
        at += sprintf(at, " %.*s:%u:%u:%llu", (int)v->subscriptions[i].len, v->subscriptions[i].filter,
                      v->subscriptions[i].options, v->subscriptions[i].identifier,
                      (unsigned long long)v->subscriptions[i].since);
    for (unsigned i = 0; i < v->progress.outs; i++)
        at += sprintf(at, " out %llu/%u/%u", (unsigned long long)v->progress.out[i].seq,
                      v->progress.out[i].packet_id, v->progress.out[i].state);
    for (unsigned i = 0; i < v->progress.ins; i++)
        at += sprintf(at, " in %u", v->progress.in[i]);
}

static const char *session(const char *id)
{
    described[0] = 0;
    bool found = rig.ops->session_get(rig.reader, id, strlen(id), describe, NULL);
    ck_assert_int_eq(found, described[0] != 0);
    return described;
}

static void put_session(const char *id, uint64_t cursor, uint64_t away, uint32_t expiry, const char *extra)
{
    struct engine_session s = {.cursor = cursor,
                               .disconnected_ms = away,
                               .expiry_s = expiry,
                               .extra = extra,
                               .extra_len = (uint32_t)strlen(extra)};
    rig.ops->session_put(rig.engine, id, strlen(id), &s);
}

static void subscribe(const char *id, const char *filter, uint8_t options, uint32_t identifier,
                      uint64_t since)
{
    struct engine_subscription s = {.filter = filter,
                                    .len = (uint16_t)strlen(filter),
                                    .options = options,
                                    .identifier = identifier,
                                    .since = since};
    rig.ops->subscribe(rig.engine, id, strlen(id), &s);
}

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
    subscribe("phone", "a", 0, 9, 99); /* replaced: it goes back as far as before */
    rig.ops->unsubscribe(rig.engine, "phone", 5, "b/#", 3);
    rig.ops->unsubscribe(rig.engine, "phone", 5, "none", 4);
    put_session("phone", 50, START_MS, 60, "x");
    rig_commit(&rig);
    ck_assert_str_eq(session("phone"), "phone cursor 100 away 1700000000000 expiry 60 extra x; a:0:9:80");
    rig.ops->session_remove(rig.engine, "phone", 5);
    rig.ops->session_remove(rig.engine, "phone", 5);
    put_session("phone", 1, 0, 0, "");
    rig_commit(&rig);
    ck_assert_str_eq(session("phone"), "phone cursor 1 away 0 expiry 0 extra ;");
    ck_assert_uint_eq(stats().sessions, 2);
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

/* ---- retained messages ---- */

static void retain(const char *topic, const char *payload, uint64_t expires_ms)
{
    struct message_parts m = rig_parts(topic, payload);
    m.seq = rig.ops->next_seq(rig.engine);
    m.expires_ms = expires_ms;
    rig.ops->retain(rig.engine, &m);
}

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
    tcase_add_loop_test(tc, a_message_is_read_back_whole, 0, ENGINES);
    tcase_add_loop_test(tc, a_message_is_seen_when_it_is_committed_and_not_before, 0, ENGINES);
    tcase_add_loop_test(tc, a_commit_of_nothing_is_done_already, 0, ENGINES);
    tcase_add_loop_test(tc, a_scan_reads_its_topic_from_its_cursor, 0, ENGINES);
    tcase_add_loop_test(tc, filters_are_merged_in_order_and_each_message_given_once, 0, ENGINES);
    tcase_add_loop_test(tc, wildcards_match_as_mqtt_says, 0, ENGINES);
    tcase_add_loop_test(tc, a_scan_goes_on_with_what_has_come_since, 0, ENGINES);
    tcase_add_loop_test(tc, a_declined_message_comes_again, 0, ENGINES);
    tcase_add_loop_test(tc, scans_agree_with_the_plain_definition, 0, ENGINES);
    tcase_add_loop_test(tc, more_topics_than_a_scan_can_hold_are_read_in_order, 0, ENGINES);
    tcase_add_loop_test(tc, a_thousand_filters_for_one_topic_still_come_to_an_end, 0, ENGINES);
    tcase_add_loop_test(tc, names_longer_than_a_key_stay_apart, 0, ENGINES);
    tcase_add_loop_test(tc, numbers_grow_and_none_comes_twice, 0, ENGINES);
    tcase_add_loop_test(tc, a_message_expires_on_its_own, 0, ENGINES);
    tcase_add_loop_test(tc, old_messages_go_and_those_that_went_unread_are_counted, 0, ENGINES);
    tcase_add_loop_test(tc, without_sessions_nothing_goes_unread, 0, ENGINES);
    tcase_add_loop_test(tc, the_log_keeps_to_its_size, 0, ENGINES);
    tcase_add_loop_test(tc, a_scan_survives_the_removal_of_what_it_is_about_to_read, 0, ENGINES);
    tcase_add_loop_test(tc, a_session_is_kept_with_its_subscriptions, 0, ENGINES);
    tcase_add_loop_test(tc, progress_moves_the_cursor_forward_and_replaces_what_is_in_flight, 0, ENGINES);
    tcase_add_loop_test(tc, sessions_are_walked_in_pieces, 0, ENGINES);
    tcase_add_loop_test(tc, a_session_ends_when_its_expiry_interval_has_passed, 0, ENGINES);
    tcase_add_loop_test(tc, a_broadcast_to_many_sleeping_sessions_is_one_append, 0, ENGINES);
    tcase_add_loop_test(tc, the_sweep_says_how_far_sessions_are_behind, 0, ENGINES);
    tcase_add_loop_test(tc, retained_messages_are_set_replaced_and_cleared, 0, ENGINES);
    tcase_add_loop_test(tc, a_retained_message_expires, 0, ENGINES);
    tcase_add_loop_test(tc, too_much_for_the_disk_is_refused_and_taken_later, 0, ENGINES);
    tcase_add_loop_test(tc, a_full_file_refuses_messages_and_recovers, 0, ENGINES);
    tcase_add_loop_test(tc, commits_are_counted_and_timed, 0, ENGINES);
    tcase_add_loop_test(tc, everything_agrees_after_a_random_life, 0, ENGINES);
}

UNIT_MAIN("engine_log")
