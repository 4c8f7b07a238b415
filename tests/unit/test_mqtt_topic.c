/*
 * Topic names, filters, matching (the examples of MQTT 5.0 section 4.7 among them) and UTF-8.
 */
#include "tests/unit/unit.h"

#include <string.h>

#include "proto/mqtt_topic.h"

#define LEN(s) (s), strlen(s)

START_TEST(matching)
{
    static const struct {
        const char *filter, *name;
        bool match;
    } rows[] = {
        /* section 4.7.1.2 */
        {"sport/tennis/player1/#", "sport/tennis/player1", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
        {"sport/tennis/player1/#", "sport/tennis/player10", false},
        {"sport/tennis/player1/#", "sport/tennis", false},
        {"sport/#", "sport", true},
        {"sport/#", "sport/", true},
        {"sport/#", "sports", false},
        {"#", "a", true},
        {"#", "/", true},
        {"#", "a/b/c", true},
        /* section 4.7.1.3 */
        {"sport/tennis/+", "sport/tennis/player1", true},
        {"sport/tennis/+", "sport/tennis/player2", true},
        {"sport/tennis/+", "sport/tennis/player1/ranking", false},
        {"sport/+", "sport", false},
        {"sport/+", "sport/", true},
        {"+/+", "/finance", true},
        {"/+", "/finance", true},
        {"+", "/finance", false},
        {"+", "a", true},
        {"+/tennis/#", "x/tennis", true},
        {"+/tennis/#", "x/tennis/y/z", true},
        {"sport/+/player1", "sport/tennis/player1", true},
        {"sport/+/player1", "sport//player1", true},
        {"sport/+/player1", "sport/player1", false},
        /* section 4.7.2 */
        {"#", "$SYS/uptime", false},
        {"+/uptime", "$SYS/uptime", false},
        {"+", "$SYS", false},
        {"$SYS/#", "$SYS/uptime", true},
        {"$SYS/+", "$SYS/uptime", true},
        {"$SYS/monitor/+", "$SYS/monitor/Clients", true},
        {"$SYS/#", "$SYS", true},
        {"a/#", "a/$b", true},
        {"a/+", "a/$b", true},
        /* section 4.7.3: case and slashes matter */
        {"ACCOUNTS", "Accounts", false},
        {"/finance", "finance", false},
        {"finance/", "finance", false},
        {"a//b", "a//b", true},
        {"a/+/b", "a//b", true},
        {"a/b", "a/b", true},
        {"a/b", "a/bc", false},
        {"a/bc", "a/b", false},
        {"a", "a/b", false},
        {"a/b", "a", false},
        {"/", "/", true},
        {"+/+", "/", true},
        {"+/+/+", "/", false},
        {"+/#", "a", true},
        {"+/#", "/", true},
        {"/#", "/", true},
        {"/#", "a", false},
        {"a/+/#", "a", false},
        {"a/+/#", "a/b", true},
        {"\xC3\xA9/+", "\xC3\xA9/x", true},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        ck_assert_msg(mqtt_topic_matches(LEN(rows[i].filter), LEN(rows[i].name)) == rows[i].match,
                      "%s with %s", rows[i].filter, rows[i].name);
}
END_TEST

START_TEST(filters)
{
    static const char *const good[] = {"a",   "#",   "+",     "/",          "a/#",
                                       "/#",  "+/#", "+/+/+", "a/+",        "+/a",
                                       "//#", "a//", "$",     "$share/g/x", "a b/\xC3\xA9"};
    static const char *const bad[] = {"",     "a#",   "#a",  "a+",   "+a",   "##", "++",   "#/",   "#/a",
                                      "a/#b", "a/b#", "/+a", "a/+b", "a/b+", "+#", "+/#/", "\xFF", "a/#/c"};

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        ck_assert_msg(mqtt_topic_filter_valid(LEN(good[i])), "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(!mqtt_topic_filter_valid(LEN(bad[i])), "%s", bad[i]);
    ck_assert(!mqtt_topic_filter_valid("a\0b", 3));
}
END_TEST

START_TEST(names)
{
    ck_assert(mqtt_topic_name_valid(LEN("a")));
    ck_assert(mqtt_topic_name_valid(LEN("/")));
    ck_assert(mqtt_topic_name_valid(LEN("$SYS/x y/\xF0\xAA\x9B\x94")));
    ck_assert(!mqtt_topic_name_valid("", 0));
    ck_assert(!mqtt_topic_name_valid(NULL, 0));
    ck_assert(!mqtt_topic_name_valid(LEN("a/+")));
    ck_assert(!mqtt_topic_name_valid(LEN("a+b")));
    ck_assert(!mqtt_topic_name_valid(LEN("a/#")));
    ck_assert(!mqtt_topic_name_valid(LEN("\xC0\x80")));
    ck_assert(!mqtt_topic_name_valid("a\0", 2));
}
END_TEST

START_TEST(longest_topics)
{
    char *s = malloc(65536);

    memset(s, 'a', 65536);
    ck_assert(mqtt_topic_name_valid(s, 65535) && mqtt_topic_filter_valid(s, 65535));
    ck_assert(!mqtt_topic_name_valid(s, 65536) && !mqtt_topic_filter_valid(s, 65536));
    ck_assert(mqtt_topic_matches(s, 65535, s, 65535) && !mqtt_topic_matches(s, 65535, s, 65534));
    free(s);
}
END_TEST

START_TEST(small_questions)
{
    ck_assert(mqtt_topic_has_wildcard(LEN("a/+/b")) && mqtt_topic_has_wildcard(LEN("#")));
    ck_assert(!mqtt_topic_has_wildcard(LEN("a/b")) && !mqtt_topic_has_wildcard(NULL, 0));
    ck_assert_uint_eq(mqtt_topic_levels(LEN("a")), 1);
    ck_assert_uint_eq(mqtt_topic_levels(LEN("/")), 2);
    ck_assert_uint_eq(mqtt_topic_levels(LEN("a/b/c")), 3);
    ck_assert_uint_eq(mqtt_topic_levels(LEN("")), 1);
    ck_assert(mqtt_topic_is_shared(LEN("$share/g/t")) && mqtt_topic_is_shared(LEN("$share/")));
    ck_assert(!mqtt_topic_is_shared(LEN("$share")) && !mqtt_topic_is_shared(LEN("$shared/g/t")));
    ck_assert(!mqtt_topic_is_shared(LEN("a$share/g/t")));
}
END_TEST

START_TEST(where_a_groups_filter_begins)
{
    ck_assert_uint_eq(mqtt_topic_share_filter(LEN("$share/g/t")), 9);
    ck_assert_uint_eq(mqtt_topic_share_filter(LEN("$share/group//")), 13);
    ck_assert_uint_eq(mqtt_topic_share_filter(LEN("$share/g/#")), 9);
    static const char *const not_one[] = {"",          "t",          "$share/",     "$share/g",   "$share/g/",
                                          "$share//t", "$share/+/t", "$share/a#/t", "$shared/g/t"};
    for (size_t i = 0; i < sizeof not_one / sizeof not_one[0]; i++)
        ck_assert_uint_eq(mqtt_topic_share_filter(not_one[i], strlen(not_one[i])), 0);
}
END_TEST

START_TEST(whose_topics_are_the_servers_own)
{
    static const char *const own[] = {"$SYS", "$SYS/", "$SYS/broker/uptime", "$share", "$share/g/t"};
    static const char *const free_ones[] = {"",       "$",         "$SY",      "$SYSTEM",
                                            "$sys/x", "$shared/x", "a/$SYS/x", "SYS/x"};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        ck_assert(mqtt_topic_is_reserved(own[i], strlen(own[i])));
    for (size_t i = 0; i < sizeof free_ones / sizeof free_ones[0]; i++)
        ck_assert(!mqtt_topic_is_reserved(free_ones[i], strlen(free_ones[i])));
}
END_TEST

START_TEST(utf8)
{
    static const struct {
        const char *s;
        size_t len;
        bool valid;
    } rows[] = {
        {"", 0, true},
        {"plain text that is longer than a word", 37, true},
        {"\x01\x1F\x7F", 3, true}, /* discouraged, not forbidden */
        {"A\xF0\xAA\x9B\x94", 5, true},
        {"\xC2\x80", 2, true},
        {"\xDF\xBF", 2, true},
        {"\xE0\xA0\x80", 3, true},
        {"\xED\x9F\xBF", 3, true},
        {"\xEE\x80\x80", 3, true},
        {"\xEF\xBF\xBF", 3, true},  /* U+FFFF */
        {"\xEF\xBB\xBFx", 4, true}, /* a byte order mark is a character like others ([MQTT-1.5.4-3]) */
        {"\xF0\x90\x80\x80", 4, true},
        {"\xF4\x8F\xBF\xBF", 4, true}, /* U+10FFFF */
        {"\0", 1, false},
        {"eight by\0", 9, false},
        {"seven b\0 and more bytes", 23, false},
        {"\xC0\x80", 2, false}, /* overlong U+0000 */
        {"\xC0\xAF", 2, false},
        {"\xC1\xBF", 2, false},
        {"\xE0\x80\x80", 3, false},
        {"\xE0\x9F\xBF", 3, false},
        {"\xF0\x80\x80\x80", 4, false},
        {"\xF0\x8F\xBF\xBF", 4, false},
        {"\xED\xA0\x80", 3, false},             /* U+D800 */
        {"\xED\xBF\xBF", 3, false},             /* U+DFFF */
        {"\xED\xA1\x8C\xED\xBE\xB4", 6, false}, /* a pair of surrogates */
        {"\xF4\x90\x80\x80", 4, false},         /* U+110000 */
        {"\xF5\x80\x80\x80", 4, false},
        {"\xFE", 1, false},
        {"\xFF", 1, false},
        {"\x80", 1, false},
        {"\xBF", 1, false},
        {"\xC2", 1, false},
        {"\xE2\x82", 2, false},
        {"\xF0\xAA\x9B", 3, false},
        {"\xC2\x41", 2, false},
        {"\xE2\x82\x41", 3, false},
        {"\xE2\x41\x82", 3, false},
        {"\xF0\xAA\x9B\x41", 4, false},
        {"12345678\xC3\xA9", 10, true},
        {"12345678\xC3", 9, false},
        {"1234567\xC3\xA9 and on", 16, true},
        {"\xF8\x88\x80\x80\x80", 5, false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *exact = malloc(rows[i].len ? rows[i].len : 1);
        memcpy(exact, rows[i].s, rows[i].len);
        ck_assert_msg(mqtt_utf8_valid(exact, rows[i].len) == rows[i].valid, "row %zu", i);
        free(exact);
    }
}
END_TEST

/* Every code point encoded by the book, in every place of a word, is valid exactly when it may be. */
START_TEST(every_code_point)
{
    for (unsigned cp = 0; cp < 0x120000; cp++) {
        char s[16] = "abcdefghijklmno", *c = s + cp % 9;
        size_t n = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
        static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
        c[0] = (char)(lead[n] | cp >> 6 * (n - 1));
        for (size_t i = 1; i < n; i++)
            c[i] = (char)(0x80 | (cp >> 6 * (n - 1 - i) & 0x3F));
        bool valid = cp > 0 && cp <= 0x10FFFF && !(cp >= 0xD800 && cp <= 0xDFFF);
        if (mqtt_utf8_valid(s, 15) != valid)
            ck_abort_msg("U+%04X", cp);
    }
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, matching);
    tcase_add_test(tc, filters);
    tcase_add_test(tc, names);
    tcase_add_test(tc, longest_topics);
    tcase_add_test(tc, small_questions);
    tcase_add_test(tc, where_a_groups_filter_begins);
    tcase_add_test(tc, whose_topics_are_the_servers_own);
    tcase_add_test(tc, utf8);
    tcase_add_test(tc, every_code_point);
}

UNIT_MAIN("mqtt_topic")
