/*
 * The topic tree against the plain definition of matching (proto/mqtt_topic.h) and against lists in arrays.
 */
#include <stdio.h>
#include <string.h>

#include "gateway/base/hash.h"
#include "gateway/base/pool.h"
#include "gateway/topic/topic_tree.h"
#include "proto/mqtt_topic.h"
#include "tests/unit/unit.h"

/* As ck_assert(), for inner loops: Check notes every assertion it passes in a file. */
#define MUST(expr) ((expr) ? (void)0 : ck_abort_msg("%s", #expr))

#define SESSIONS 40

static struct topic_tree *tree;
static sub_list list[SESSIONS + 1];

static void setup(void)
{
    hash_set_key(1, 2);
    memset(list, 0, sizeof list);
    tree = topic_tree_new(100000);
}
static void teardown(void) { topic_tree_free(tree); }

static enum subscribe_result sub(uint32_t session, const char *filter, sub_options options)
{
    return topic_tree_subscribe(tree, &list[session], session, filter, strlen(filter), options);
}
static bool unsub(uint32_t session, const char *filter)
{
    return topic_tree_unsubscribe(tree, &list[session], filter, strlen(filter));
}
static size_t matches(const char *name)
{
    uint32_t out[4];
    return topic_tree_match(tree, name, strlen(name), out, 4);
}

/* Records of the pool of this name that are in use. */
static uint32_t pool_use(const char *name)
{
    uint32_t n = 0;
    for (struct pool *p = pool_each(NULL); p; p = pool_each(p))
        if (strncmp(pool_name(p), name, strlen(name)) == 0)
            n += pool_count(p);
    return n;
}

/* Nothing is left but the trie's root. */
static void check_empty(void)
{
    ck_assert_uint_eq(topic_tree_topics(tree), 0);
    ck_assert_uint_eq(topic_tree_subscriptions(tree), 0);
    ck_assert_uint_eq(pool_use("topic_names:"), 0);
    ck_assert_uint_eq(pool_use("topic_nodes"), 1);
}

START_TEST(matching_table)
{
    static const struct {
        const char *filter, *name;
        bool yes;
    } row[] = {
        {"sport/tennis/player1", "sport/tennis/player1", true},
        {"sport/tennis/player1/#", "sport/tennis/player1", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
        {"sport/#", "sport", true},
        {"sport/#", "sports", false},
        {"#", "sport", true},
        {"#", "/", true},
        {"sport/tennis/+", "sport/tennis/player1", true},
        {"sport/tennis/+", "sport/tennis/player1/ranking", false},
        {"sport/+", "sport", false},
        {"sport/+", "sport/", true},
        {"+/+", "/finance", true},
        {"/+", "/finance", true},
        {"+", "/finance", false},
        {"+/#", "a", true},
        {"+/#", "/", true},
        {"#", "$SYS/x", false},
        {"+/monitor/Clients", "$SYS/monitor/Clients", false},
        {"$SYS/#", "$SYS/monitor/Clients", true},
        {"$SYS/#", "$SYS", true},
        {"$SYS/monitor/+", "$SYS/monitor/Clients", true},
        {"+/$x", "a/$x", true},
        {"a/#", "a/$x", true},
        {"a//b", "a//b", true},
        {"a/+/b", "a//b", true},
        {"a/b", "a//b", false},
        {"+/+/+", "//", true},
        {"+/+", "//", false},
        {"/#", "/", true},
        {"/#", "a", false},
        {"$", "$", true},
        {"+", "$", false},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        ck_assert_int_eq(sub(1, row[i].filter, 0), SUBSCRIBE_NEW);
        ck_assert_msg(matches(row[i].name) == row[i].yes, "%s %s", row[i].filter, row[i].name);
        ck_assert_int_eq(
            mqtt_topic_matches(row[i].filter, strlen(row[i].filter), row[i].name, strlen(row[i].name)),
            row[i].yes);
        ck_assert(unsub(1, row[i].filter));
        check_empty();
    }
}
END_TEST

START_TEST(replaced_options)
{
    ck_assert_int_eq(sub(1, "a/+", 0x2d), SUBSCRIBE_NEW);
    ck_assert_int_eq(sub(2, "a/+", 0), SUBSCRIBE_NEW);
    ck_assert_int_eq(sub(1, "a/+", 0x01), SUBSCRIBE_REPLACED);
    ck_assert_uint_eq(topic_tree_subscriptions(tree), 2);
    uint32_t topic, session;
    sub_options options;
    ck_assert_uint_eq(topic_tree_match(tree, "a/b", 3, &topic, 1), 1);
    ck_assert_uint_eq(topic_tree_subscribers(tree, topic), 2);
    struct topic_cursor c;
    topic_cursor_open(tree, &c, topic);
    ck_assert(topic_cursor_next(tree, &c, &session, &options));
    ck_assert_uint_eq(session, 2);
    ck_assert_uint_eq(options, 0);
    ck_assert(topic_cursor_next(tree, &c, &session, &options));
    ck_assert_uint_eq(session, 1);
    ck_assert_uint_eq(options, 1);
    ck_assert(!topic_cursor_next(tree, &c, &session, &options));
    topic_cursor_close(tree, &c);
    ck_assert_int_eq(sub(2, "a/+", 0x1232), SUBSCRIBE_REPLACED);
    ck_assert(topic_tree_get(tree, list[2], 2, "a/+", 3, &options));
    ck_assert_uint_eq(options, 0x1232);
    ck_assert(!topic_tree_get(tree, list[2], 2, "a/#", 3, &options));
    ck_assert(!topic_tree_get(tree, list[3], 3, "a/+", 3, &options));
}
END_TEST

START_TEST(unsubscribing)
{
    ck_assert(!unsub(1, "a"));
    ck_assert_int_eq(sub(1, "a", 0), SUBSCRIBE_NEW);
    ck_assert_int_eq(sub(1, "b", 0), SUBSCRIBE_NEW);
    ck_assert_int_eq(sub(1, "c", 0), SUBSCRIBE_NEW);
    ck_assert_int_eq(sub(2, "a", 0), SUBSCRIBE_NEW);
    ck_assert(!unsub(2, "b"));
    ck_assert(unsub(1, "b"));
    ck_assert(!unsub(1, "b"));
    ck_assert_uint_eq(topic_tree_count(tree, list[1]), 2);
    ck_assert_uint_eq(matches("b"), 0);
    ck_assert_uint_eq(matches("a"), 1);
    topic_tree_unsubscribe_all(tree, &list[1]);
    ck_assert_uint_eq(list[1], 0);
    ck_assert_uint_eq(matches("a"), 1);
    ck_assert_uint_eq(matches("c"), 0);
    topic_tree_unsubscribe_all(tree, &list[2]);
    check_empty();
}
END_TEST

static bool collect(void *ctx, const char *filter, size_t len, sub_options options)
{
    char *all = ctx;
    sprintf(all + strlen(all), "%.*s:%u ", (int)len, filter, options);
    return strlen(all) < 20;
}

START_TEST(listing)
{
    char all[100] = "";
    ck_assert_int_eq(sub(1, "a/#", 1), SUBSCRIBE_NEW);
    ck_assert_int_eq(sub(1, "b", 2), SUBSCRIBE_NEW);
    topic_tree_each(tree, list[1], collect, all);
    ck_assert_str_eq(all, "b:2 a/#:1 ");
    ck_assert_int_eq(sub(1, "one/that/is/longer", 0), SUBSCRIBE_NEW);
    all[0] = '\0';
    topic_tree_each(tree, list[1], collect, all); /* stops when told so */
    ck_assert_str_eq(all, "one/that/is/longer:0 ");
}
END_TEST

START_TEST(more_matches_than_room)
{
    uint32_t out[3] = {0, 0, 77};
    const char *filters[] = {"#", "+", "a", "a/#", "+/#"};
    for (uint32_t i = 0; i < 5; i++)
        ck_assert_int_eq(sub(i + 1, filters[i], 0), SUBSCRIBE_NEW);
    ck_assert_uint_eq(topic_tree_match(tree, "a", 1, out, 2), 5);
    ck_assert_uint_eq(out[0], 3); /* the exact one first */
    ck_assert_uint_ne(out[1], 0);
    ck_assert_uint_eq(out[2], 77);
    ck_assert_uint_eq(topic_tree_match(tree, "a", 1, NULL, 0), 5);
}
END_TEST

START_TEST(no_room)
{
    struct topic_tree *small = topic_tree_new(3);
    sub_list own = 0;
    char filter[20];
    for (int i = 0; i < 3; i++) {
        sprintf(filter, "a/%d/+", i);
        ck_assert_int_eq(topic_tree_subscribe(small, &own, 1, filter, strlen(filter), 0), SUBSCRIBE_NEW);
    }
    ck_assert_int_eq(topic_tree_subscribe(small, &own, 1, "b/+", 3, 0), SUBSCRIBE_NO_ROOM);
    ck_assert_int_eq(topic_tree_subscribe(small, &own, 1, "a/1/+", 5, 2), SUBSCRIBE_REPLACED);
    sub_list other = 0;
    ck_assert_int_eq(topic_tree_subscribe(small, &other, 2, "a/1/+", 5, 0), SUBSCRIBE_NO_ROOM);
    ck_assert(topic_tree_unsubscribe(small, &own, "a/0/+", 5));
    ck_assert_int_eq(topic_tree_subscribe(small, &other, 2, "b/+", 3, 0), SUBSCRIBE_NEW);
    ck_assert_uint_eq(topic_tree_topics(small), 3);
    topic_tree_free(small);
}
END_TEST

START_TEST(filters_too_deep_for_the_trie_change_nothing)
{
    enum { LEN = 65535 };
    struct topic_tree *small = topic_tree_new(10); /* 65,576 nodes */
    sub_list own = 0;
    char *a = malloc(LEN), *b = malloc(LEN);
    for (int i = 0; i < LEN; i++) {
        a[i] = i & 1 ? '/' : 'a';
        b[i] = i & 1 ? '/' : 'b';
    }
    a[LEN - 1] = '+';
    memcpy(a, "////////", 8);
    memset(b, '/', LEN - 1);
    b[LEN - 1] = '#';
    ck_assert_int_eq(topic_tree_subscribe(small, &own, 1, a, LEN, 0), SUBSCRIBE_NEW);
    uint32_t nodes = pool_use("topic_nodes"), names = pool_use("topic_names:");
    ck_assert_int_eq(topic_tree_subscribe(small, &own, 1, b, LEN, 0), SUBSCRIBE_NO_ROOM);
    ck_assert_uint_eq(pool_use("topic_nodes"), nodes);
    ck_assert_uint_eq(pool_use("topic_names:"), names);
    ck_assert_uint_eq(topic_tree_topics(small), 1);
    topic_tree_free(small);
    free(a);
    free(b);
}
END_TEST

START_TEST(as_many_levels_as_fit)
{
    enum { LEN = 65535 };
    char *filter = malloc(LEN), *name = malloc(LEN);
    memset(name, '/', LEN);
    memset(filter, '/', LEN);
    filter[0] = '+';
    ck_assert_int_eq(topic_tree_subscribe(tree, &list[1], 1, filter, LEN, 0), SUBSCRIBE_NEW);
    name[0] = 'x';
    uint32_t out;
    ck_assert_uint_eq(topic_tree_match(tree, name, LEN, &out, 1), 1);
    ck_assert_uint_eq(topic_tree_match(tree, name, LEN - 1, &out, 1), 0);
    name[LEN - 1] = 'x';
    ck_assert_uint_eq(topic_tree_match(tree, name, LEN, &out, 1), 0);
    ck_assert(topic_tree_unsubscribe(tree, &list[1], filter, LEN));
    check_empty();
    free(filter);
    free(name);
}
END_TEST

START_TEST(wide_nodes)
{
    enum { WIDE = 50000 };
    char filter[32];
    for (uint32_t i = 0; i < WIDE; i++) {
        sprintf(filter, "device/%u/+", i);
        MUST(sub(1 + i % SESSIONS, filter, 0) == SUBSCRIBE_NEW);
    }
    ck_assert_uint_eq(pool_use("topic_nodes"), 2 + 2 * WIDE);
    for (uint32_t i = 0; i < WIDE; i++) {
        sprintf(filter, "device/%u/x", i);
        MUST(matches(filter) == 1);
    }
    for (uint32_t s = 1; s <= SESSIONS; s++)
        topic_tree_unsubscribe_all(tree, &list[s]);
    check_empty();
}
END_TEST

/* A random filter or name of up to four levels over a tiny alphabet. Returns its length. */
static size_t random_text(char *out, bool filter)
{
    static const char *const level[] = {"a", "b", "", "ab", "$a", "+", "+"};
    size_t len = 0, levels = (size_t)random() % 4 + 1;
    for (size_t i = 0; i < levels; i++) {
        const char *text = level[random() % (filter ? 7 : 5)];
        if (filter && i + 1 == levels && random() % 4 == 0)
            text = "#";
        len += (size_t)sprintf(out + len, "%s%s", i ? "/" : "", text);
    }
    if (len == 0)
        len = (size_t)sprintf(out, "a");
    return len;
}

#define FILTERS 60

static struct {
    char text[32];
    bool in[SESSIONS + 1];
    sub_options options[SESSIONS + 1];
} model[FILTERS];

/* Distinct filters, none subscribed. */
static void make_filters(void)
{
    memset(model, 0, sizeof model);
    for (int i = 0; i < FILTERS; i++)
        for (bool again = true; again;) {
            random_text(model[i].text, true);
            again = !mqtt_topic_filter_valid(model[i].text, strlen(model[i].text));
            for (int j = 0; j < i; j++)
                again |= strcmp(model[j].text, model[i].text) == 0;
        }
}

/* From 1 to the greatest there is. */
static uint32_t random_identifier(void) { return (uint32_t)(random() % 268435455) + 1; }

/* Toggles, replaces or ends something, in tree and model alike. */
static void random_change(void)
{
    int i = (int)(random() % FILTERS);
    uint32_t s = (uint32_t)(random() % SESSIONS + 1);
    sub_options options = sub_options_make((uint8_t)(random() & 0xf), random() % 3 ? 0 : random_identifier());
    long what = random() % 20;
    if (what == 0) {
        topic_tree_unsubscribe_all(tree, &list[s]);
        for (i = 0; i < FILTERS; i++)
            model[i].in[s] = false;
    } else if (what < 9) {
        ck_assert_int_eq(unsub(s, model[i].text), model[i].in[s]);
        model[i].in[s] = false;
    } else {
        ck_assert_int_eq(sub(s, model[i].text, options), model[i].in[s] ? SUBSCRIBE_REPLACED : SUBSCRIBE_NEW);
        model[i].in[s] = true;
        model[i].options[s] = options;
    }
}

/* Number of sessions subscribed to a filter. */
static uint32_t model_subs(int i)
{
    uint32_t n = 0;
    for (uint32_t s = 1; s <= SESSIONS; s++)
        n += model[i].in[s];
    return n;
}

static int compare_options(const void *a, const void *b)
{
    sub_options x = *(const sub_options *)a, y = *(const sub_options *)b;
    return (x > y) - (x < y);
}

/* What one session asks of a name, by both ways and by the model. */
static void check_session(uint32_t s, const char *name, size_t len, const uint32_t *topics, size_t count)
{
    sub_options want[FILTERS], got[FILTERS], by_name[FILTERS];
    size_t n = 0;
    for (int i = 0; i < FILTERS; i++)
        if (model[i].in[s] && mqtt_topic_matches(model[i].text, strlen(model[i].text), name, len))
            want[n++] = model[i].options[s];
    MUST(topic_tree_overlaps(tree, list[s], topics, count, got, FILTERS) == n);
    MUST(topic_tree_session_match(tree, list[s], name, len, by_name, FILTERS) == n);
    qsort(want, n, sizeof *want, compare_options);
    qsort(got, n, sizeof *got, compare_options);
    qsort(by_name, n, sizeof *by_name, compare_options);
    MUST(memcmp(want, got, n * sizeof *want) == 0);
    MUST(memcmp(want, by_name, n * sizeof *want) == 0);
}

/* All (session, options) pairs of a name by the tree and by the model: as sums that depend on each pair. */
static void check_name(const char *name, size_t len)
{
    uint32_t out[FILTERS];
    uint64_t got = 0, want = 0;
    size_t n = topic_tree_match(tree, name, len, out, FILTERS), want_n = 0;
    for (size_t k = 0; k < n; k++) {
        struct topic_cursor c;
        uint32_t session;
        sub_options options;
        topic_cursor_open(tree, &c, out[k]);
        while (topic_cursor_next(tree, &c, &session, &options))
            got += hash_bytes(&session, sizeof session) * (options + UINT64_C(1));
        topic_cursor_close(tree, &c);
    }
    for (int i = 0; i < FILTERS; i++) {
        if (!mqtt_topic_matches(model[i].text, strlen(model[i].text), name, len) || !model_subs(i))
            continue;
        want_n++;
        for (uint32_t s = 1; s <= SESSIONS; s++)
            if (model[i].in[s])
                want += hash_bytes(&s, sizeof s) * (model[i].options[s] + UINT64_C(1));
    }
    ck_assert_msg(n == want_n, "%.*s: %zu instead of %zu", (int)len, name, n, want_n);
    ck_assert_uint_eq(got, want);
    uint32_t s = (uint32_t)(random() % SESSIONS + 1);
    check_session(s, name, len, out, n);
}

START_TEST(random_against_model)
{
    srandom((unsigned)_i);
    make_filters();
    for (int step = 0; step < 20000; step++) {
        char name[32];
        random_change();
        size_t len = random_text(name, false);
        check_name(name, len);
    }
    uint32_t topics = 0, subs = 0;
    for (int i = 0; i < FILTERS; i++) {
        topics += model_subs(i) > 0;
        subs += model_subs(i);
    }
    ck_assert_uint_eq(topic_tree_topics(tree), topics);
    ck_assert_uint_eq(topic_tree_subscriptions(tree), subs);
    for (uint32_t s = 1; s <= SESSIONS; s++)
        topic_tree_unsubscribe_all(tree, &list[s]);
    check_empty();
}
END_TEST

/* What a session asks of "a/b" by either way, with room for two. */
static size_t asked(uint32_t session, sub_options out[2])
{
    uint32_t topics[8];
    sub_options again[2] = {9, 9};
    size_t n = topic_tree_match(tree, "a/b", 3, topics, 8);
    ck_assert_uint_le(n, 8);
    out[0] = out[1] = 9;
    size_t all = topic_tree_overlaps(tree, list[session], topics, n, out, 2);
    ck_assert_uint_eq(topic_tree_session_match(tree, list[session], "a/b", 3, again, 2), all);
    ck_assert_mem_eq(out, again, sizeof again);
    return all;
}

START_TEST(overlapping_filters_of_one_session)
{
    sub_options out[2];
    ck_assert_uint_eq(asked(1, out), 0);
    ck_assert_int_eq(sub(1, "a/b", sub_options_make(1, 7)), SUBSCRIBE_NEW);
    ck_assert_int_eq(sub(1, "a/c", sub_options_make(2, 5)), SUBSCRIBE_NEW);
    ck_assert_int_eq(sub(2, "a/+", sub_options_make(2, 6)), SUBSCRIBE_NEW);
    ck_assert_uint_eq(asked(1, out), 1);
    ck_assert_uint_eq(out[0], sub_options_make(1, 7));
    ck_assert_uint_eq(out[1], 9);
    ck_assert_int_eq(sub(1, "#", sub_options_make(0x2c, 268435455)), SUBSCRIBE_NEW);
    ck_assert_uint_eq(asked(1, out), 2);
    ck_assert_uint_eq(out[0] + (uint64_t)out[1], (uint64_t)sub_options_make(1, 7) + UINT32_C(0xfffffffc));
    ck_assert_int_eq(sub(1, "a/+", 2), SUBSCRIBE_NEW);
    ck_assert_uint_eq(asked(1, out), 3); /* more than there is room for */
    ck_assert(unsub(1, "#"));
    ck_assert(unsub(1, "a/b"));
    ck_assert_uint_eq(asked(1, out), 1);
    ck_assert_uint_eq(out[0], 2);
    ck_assert_uint_eq(asked(2, out), 1);
    ck_assert_uint_eq(out[0], sub_options_make(2, 6));
    ck_assert_uint_eq(asked(3, out), 0);
    ck_assert_uint_eq(topic_tree_session_match(tree, list[1], "$a", 2, NULL, 0), 0);
}
END_TEST

/* The options with which the only match of "t" is subscribed. */
static sub_options options_of_t(void)
{
    uint32_t topic, session;
    sub_options options;
    struct topic_cursor c;
    ck_assert_uint_eq(topic_tree_match(tree, "t", 1, &topic, 1), 1);
    topic_cursor_open(tree, &c, topic);
    ck_assert(topic_cursor_next(tree, &c, &session, &options));
    topic_cursor_close(tree, &c);
    return options;
}

START_TEST(identifiers_come_and_go)
{
    ck_assert_int_eq(sub(1, "t", sub_options_make(0, 268435455)), SUBSCRIBE_NEW);
    ck_assert_uint_eq(options_of_t(), UINT32_C(0xfffffff0));
    ck_assert_int_eq(sub(1, "t", sub_options_make(1, 1)), SUBSCRIBE_REPLACED);
    ck_assert_uint_eq(options_of_t(), 0x11);
    ck_assert_int_eq(sub(1, "t", 2), SUBSCRIBE_REPLACED);
    ck_assert_uint_eq(options_of_t(), 2);
    ck_assert_int_eq(sub(1, "t", sub_options_make(2, 3)), SUBSCRIBE_REPLACED);
    ck_assert(unsub(1, "t"));
    ck_assert_int_eq(sub(2, "t", 1), SUBSCRIBE_NEW); /* in the record that had one */
    ck_assert_uint_eq(options_of_t(), 1);
    ck_assert_int_eq(sub(3, "u", sub_options_make(0, 4)), SUBSCRIBE_NEW);
    ck_assert_int_eq(sub(2, "t", sub_options_make(0x2d, 5)), SUBSCRIBE_REPLACED);
    ck_assert_uint_eq(options_of_t(), 0x5d); /* Retain Handling is not kept */
    topic_tree_unsubscribe_all(tree, &list[3]);
    ck_assert_uint_eq(options_of_t(), 0x5d);
    topic_tree_unsubscribe_all(tree, &list[2]);
    check_empty();
}
END_TEST

START_TEST(cursor_while_the_list_changes)
{
    for (uint32_t s = 1; s <= 6; s++)
        ck_assert_int_eq(sub(s, "t", 0), SUBSCRIBE_NEW); /* visited as 6 5 4 3 2 1 */
    uint32_t topic, session;
    sub_options options;
    ck_assert_uint_eq(topic_tree_match(tree, "t", 1, &topic, 1), 1);
    struct topic_cursor a, b;
    topic_cursor_open(tree, &a, topic);
    topic_cursor_open(tree, &b, topic);
    ck_assert(topic_cursor_next(tree, &a, &session, &options));
    ck_assert_uint_eq(session, 6);
    ck_assert(unsub(5, "t"));                        /* a's next */
    ck_assert(unsub(4, "t"));                        /* and its next */
    ck_assert(unsub(6, "t"));                        /* b's next */
    ck_assert_int_eq(sub(7, "t", 0), SUBSCRIBE_NEW); /* too late, under the id of one that has gone */
    ck_assert_int_eq(sub(5, "t", 0), SUBSCRIBE_NEW);
    ck_assert(topic_cursor_next(tree, &a, &session, &options));
    ck_assert_uint_eq(session, 3);
    ck_assert(topic_cursor_next(tree, &a, &session, &options));
    ck_assert(unsub(1, "t")); /* a's next, and the last */
    ck_assert(!topic_cursor_next(tree, &a, &session, &options));
    topic_cursor_close(tree, &a);
    ck_assert(unsub(3, "t")); /* b's next still is looked after */
    ck_assert(topic_cursor_next(tree, &b, &session, &options));
    ck_assert_uint_eq(session, 2);
    ck_assert(!topic_cursor_next(tree, &b, &session, &options));
    topic_cursor_close(tree, &b);
    for (uint32_t s = 1; s <= 7; s++)
        topic_tree_unsubscribe_all(tree, &list[s]);
    check_empty();
}
END_TEST

START_TEST(a_topic_stays_while_walked)
{
    ck_assert_int_eq(sub(1, "t/+", 0), SUBSCRIBE_NEW);
    uint32_t topic, again, session;
    sub_options options;
    ck_assert_uint_eq(topic_tree_match(tree, "t/x", 3, &topic, 1), 1);
    struct topic_cursor c;
    topic_cursor_open(tree, &c, topic);
    ck_assert(unsub(1, "t/+"));
    ck_assert_uint_eq(topic_tree_topics(tree), 1);
    ck_assert_int_eq(sub(2, "u", 0), SUBSCRIBE_NEW); /* must not get the id */
    ck_assert_uint_eq(topic_tree_match(tree, "u", 1, &again, 1), 1);
    ck_assert_uint_ne(again, topic);
    ck_assert_int_eq(sub(3, "t/+", 0), SUBSCRIBE_NEW); /* revives it */
    ck_assert_uint_eq(topic_tree_match(tree, "t/x", 3, &again, 1), 1);
    ck_assert_uint_eq(again, topic);
    ck_assert(!topic_cursor_next(tree, &c, &session, &options));
    ck_assert(unsub(3, "t/+"));
    topic_cursor_close(tree, &c);
    ck_assert_uint_eq(topic_tree_topics(tree), 1);
    ck_assert(unsub(2, "u"));
    check_empty();
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, matching_table);
    tcase_add_test(tc, replaced_options);
    tcase_add_test(tc, unsubscribing);
    tcase_add_test(tc, listing);
    tcase_add_test(tc, more_matches_than_room);
    tcase_add_test(tc, no_room);
    tcase_add_test(tc, filters_too_deep_for_the_trie_change_nothing);
    tcase_add_test(tc, as_many_levels_as_fit);
    tcase_add_test(tc, wide_nodes);
    tcase_add_loop_test(tc, random_against_model, 1, 9);
    tcase_add_test(tc, overlapping_filters_of_one_session);
    tcase_add_test(tc, identifiers_come_and_go);
    tcase_add_test(tc, cursor_while_the_list_changes);
    tcase_add_test(tc, a_topic_stays_while_walked);
}

UNIT_MAIN("topic_tree")
