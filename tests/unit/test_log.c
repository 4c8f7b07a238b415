/*
 * Log lines: what is written to standard error for which fields, hostile bytes, cutting, the level and the
 * rate limit on a fake clock.
 */
#include "gateway/base/log.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "tests/unit/unit.h"

#define START_MS 1709164800007ull /* 2024-02-29T00:00:00.007Z */

static int captured[2];
static int saved_stderr;

/* From here on standard error is read by take(). */
static void capture(bool json)
{
    clock_fake(START_MS);
    log_setup(LOG_LEVEL_INFO, json, "worker/3");
    ck_assert_int_eq(pipe2(captured, O_NONBLOCK), 0);
    saved_stderr = dup(STDERR_FILENO);
    ck_assert_int_ge(dup2(captured[1], STDERR_FILENO), 0);
}

/* What has been written since, NUL-terminated; also ends the capture. */
static const char *take(void)
{
    static char text[65536];
    ssize_t n = read(captured[0], text, sizeof text - 1);
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(captured[0]);
    close(captured[1]);
    clock_real();
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static unsigned count_lines(const char *s)
{
    unsigned n = 0;
    for (; *s; s++)
        n += *s == '\n';
    return n;
}

START_TEST(text_line)
{
    LOG_EVENT(closed, "client_closed", LOG_LEVEL_INFO);
    capture(false);
    LOG(closed, LOG_STR("id", "sensor-7"), LOG_U64("bytes", 18446744073709551615u), LOG_I64("delta", -5));
    ck_assert_str_eq(take(), "2024-02-29T00:00:00.007Z info worker/3 client_closed id=sensor-7 "
                             "bytes=18446744073709551615 delta=-5\n");
}
END_TEST

START_TEST(json_line)
{
    LOG_EVENT(closed, "client_closed", LOG_LEVEL_WARNING);
    capture(true);
    LOG(closed, LOG_STR("id", "a \"b\" \\ \n"), LOG_U64("bytes", 12), LOG_I64("delta", -5));
    const char *line = take();
    ck_assert_str_eq(line,
                     "{\"time\":\"2024-02-29T00:00:00.007Z\",\"level\":\"warning\",\"process\":\"worker/3\","
                     "\"event\":\"client_closed\",\"id\":\"a \\\"b\\\" \\\\ \\u000a\",\"bytes\":12,"
                     "\"delta\":-5}\n");
    json_t *j = json_loads(line, 0, NULL);
    ck_assert_ptr_nonnull(j);
    ck_assert_str_eq(json_string_value(json_object_get(j, "id")), "a \"b\" \\ \n");
    json_decref(j);
}
END_TEST

START_TEST(no_fields)
{
    LOG_EVENT(ready, "ready", LOG_LEVEL_NOTICE);
    capture(false);
    log_write(&ready, NULL, 0);
    ck_assert_str_eq(take(), "2024-02-29T00:00:00.007Z notice worker/3 ready\n");
}
END_TEST

static const struct {
    const char *value;
    size_t len;
    const char *text, *json;
} hostile[] = {
    {"", 0, "\"\"", "\"\""},
    {"two words", 9, "\"two words\"", "\"two words\""},
    {"a=b", 3, "\"a=b\"", "\"a=b\""},
    {"say \"hi\"", 8, "\"say \\\"hi\\\"\"", "\"say \\\"hi\\\"\""},
    {"back\\slash", 10, "back\\\\slash", "\"back\\\\slash\""},
    {"x\nfake line", 11, "\"x\\x0afake line\"", "\"x\\u000afake line\""},
    {"\x1b[2J", 4, "\\x1b[2J", "\"\\u001b[2J\""},
    {"nul\0byte", 8, "nul\\x00byte", "\"nul\\u0000byte\""},
    {"\x7f", 1, "\\x7f", "\"\\u007f\""},
    {"gr\xc3\xbc\xc3\x9f", 6, "gr\xc3\xbc\xc3\x9f", "\"gr\xc3\xbc\xc3\x9f\""},
    {"\xf0\x9f\x98\x80", 4, "\xf0\x9f\x98\x80", "\"\xf0\x9f\x98\x80\""},
    /* not UTF-8: a lone continuation byte, overlong, surrogate, above U+10FFFF, cut short */
    {"\x80", 1, "\\x80", "\"\\u0080\""},
    {"\xc0\xaf", 2, "\\xc0\\xaf", "\"\\u00c0\\u00af\""},
    {"\xed\xa0\x80", 3, "\\xed\\xa0\\x80", "\"\\u00ed\\u00a0\\u0080\""},
    {"\xf4\x90\x80\x80", 4, "\\xf4\\x90\\x80\\x80", "\"\\u00f4\\u0090\\u0080\\u0080\""},
    {"\xe2\x82", 2, "\\xe2\\x82", "\"\\u00e2\\u0082\""},
    /* a C1 control character, which some terminals obey */
    {"\xc2\x9b", 2, "\\xc2\\x9b", "\"\\u00c2\\u009b\""},
};

START_TEST(hostile_bytes)
{
    for (int json = 0; json < 2; json++) {
        struct log_event e = {.name = "e", .level = LOG_LEVEL_INFO};
        capture(json);
        log_write(&e, &(struct log_field)LOG_BYTES("v", hostile[_i].value, hostile[_i].len), 1);
        const char *line = take();
        char expected[512];
        snprintf(expected, sizeof expected,
                 json ? "{\"time\":\"2024-02-29T00:00:00.007Z\",\"level\":\"info\",\"process\":\"worker/3\","
                        "\"event\":\"e\",\"v\":%s}\n"
                      : "2024-02-29T00:00:00.007Z info worker/3 e v=%s\n",
                 json ? hostile[_i].json : hostile[_i].text);
        ck_assert_str_eq(line, expected);
    }
}
END_TEST

START_TEST(long_values_are_cut_between_characters)
{
    char value[300];
    memset(value, 'x', sizeof value);
    memcpy(value + 255, "\xc3\xbc", 2); /* would end behind byte 256 */
    struct log_event e = {.name = "e", .level = LOG_LEVEL_INFO};
    capture(false);
    log_write(&e, &(struct log_field)LOG_BYTES("v", value, sizeof value), 1);
    const char *line = strstr(take(), "v=");
    ck_assert_uint_eq(strlen(line), 2 + 255 + 3 + 1);
    ck_assert_str_eq(line + 2 + 255, "...\n");

    memset(value, 'x', sizeof value);
    value[256] = '\0';
    e = (struct log_event){.name = "e", .level = LOG_LEVEL_INFO};
    capture(false);
    log_write(&e, &(struct log_field)LOG_STR("v", value), 1);
    line = strstr(take(), "v=");
    ck_assert_uint_eq(strlen(line), 2 + 256 + 1);
}
END_TEST

/* Eight values of control characters are more than a line holds: it is cut between fields and stays JSON. */
START_TEST(long_lines_are_cut_between_fields)
{
    char value[256];
    memset(value, 1, sizeof value);
    struct log_field f[8];
    for (int i = 0; i < 8; i++)
        f[i] = (struct log_field)LOG_BYTES("v", value, sizeof value);
    f[0].key = "first";
    struct log_event e = {.name = "e", .level = LOG_LEVEL_INFO, .suppressed = 4294967295u};
    capture(true);
    log_write(&e, f, 8);
    json_t *j = json_loads(take(), 0, NULL);
    ck_assert_ptr_nonnull(j);
    ck_assert_uint_eq(json_string_length(json_object_get(j, "first")), 256);
    ck_assert(json_is_true(json_object_get(j, "cut")));
    ck_assert_uint_eq((uint64_t)json_integer_value(json_object_get(j, "suppressed")), 4294967295u);
    json_decref(j);
}
END_TEST

START_TEST(level_is_a_threshold)
{
    struct log_event debug = {.name = "d", .level = LOG_LEVEL_DEBUG},
                     error = {.name = "e", .level = LOG_LEVEL_ERROR};
    capture(false);
    ck_assert(!log_wants(&debug));
    ck_assert(log_wants(&error));
    log_write(&debug, NULL, 0);
    log_write(&error, NULL, 0);
    log_setup(LOG_LEVEL_DEBUG, false, "hub");
    ck_assert(log_wants(&debug));
    log_write(&debug, NULL, 0);
    ck_assert_str_eq(take(),
                     "2024-02-29T00:00:00.007Z error worker/3 e\n2024-02-29T00:00:00.007Z debug hub d\n");
    ck_assert_uint_eq(debug.suppressed, 0);
}
END_TEST

START_TEST(rate_limit_per_event)
{
    struct log_event noisy = {.name = "noisy", .level = LOG_LEVEL_INFO};
    struct log_event quiet = {.name = "quiet", .level = LOG_LEVEL_INFO};
    uint64_t before = counter_get(counters_mine, COUNTER_LOG_SUPPRESSED);
    capture(false);
    for (int i = 0; i < LOG_BURST + 30; i++)
        log_write(&noisy, NULL, 0);
    log_write(&quiet, NULL, 0);
    ck_assert(!log_wants(&noisy));
    clock_fake(START_MS + 1000);
    ck_assert(log_wants(&noisy));
    ck_assert(log_wants(&noisy)); /* asking uses nothing up */
    log_write(&noisy, NULL, 0);
    log_write(&noisy, NULL, 0);
    const char *text = take();
    ck_assert_uint_eq(count_lines(text), LOG_BURST + 1 + 2);
    ck_assert_ptr_nonnull(strstr(text, "worker/3 quiet\n"));
    const char *told = strstr(text, "noisy suppressed=31\n");
    ck_assert_ptr_nonnull(told);
    ck_assert_ptr_null(strstr(told + strlen("noisy suppressed"), "suppressed"));
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_LOG_SUPPRESSED) - before, 31);
}
END_TEST

START_TEST(a_closed_standard_error_is_survived)
{
    LOG_EVENT(e, "e", LOG_LEVEL_ERROR);
    int saved = dup(STDERR_FILENO);
    close(STDERR_FILENO);
    LOG(e, LOG_STR("v", NULL));
    dup2(saved, STDERR_FILENO);
    ck_assert_uint_eq(e.used, 1);
}
END_TEST

START_TEST(level_names)
{
    enum log_level level = LOG_LEVEL_DEBUG;
    ck_assert(log_level_from_name("error", &level));
    ck_assert_int_eq(level, LOG_LEVEL_ERROR);
    ck_assert(log_level_from_name("debug", &level));
    ck_assert_int_eq(level, LOG_LEVEL_DEBUG);
    ck_assert(!log_level_from_name("Debug", &level));
    ck_assert(!log_level_from_name("", &level));
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, text_line);
    tcase_add_test(tc, json_line);
    tcase_add_test(tc, no_fields);
    tcase_add_loop_test(tc, hostile_bytes, 0, sizeof hostile / sizeof hostile[0]);
    tcase_add_test(tc, long_values_are_cut_between_characters);
    tcase_add_test(tc, long_lines_are_cut_between_fields);
    tcase_add_test(tc, level_is_a_threshold);
    tcase_add_test(tc, rate_limit_per_event);
    tcase_add_test(tc, a_closed_standard_error_is_survived);
    tcase_add_test(tc, level_names);
}

UNIT_MAIN("log")
