/*
 * What $SYS topics say: figures summed over processes, and averages.
 */
#include "gateway/hub/hub_sys.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "unit.h"

#define WORKERS 2

static uint64_t figure[SYS_FIGURES];
static struct {
    char topic[80], text[40];
} told[200];
static unsigned told_count;

static void tell_cb(void *ctx, const char *topic, const char *text)
{
    (void)ctx;
    ck_assert_uint_lt(told_count, 200);
    snprintf(told[told_count].topic, sizeof told[0].topic, "%s", topic);
    snprintf(told[told_count++].text, sizeof told[0].text, "%s", text);
}

/* What was told last about "$SYS/broker/" and this. */
static const char *value(const char *name)
{
    char topic[80];
    snprintf(topic, sizeof topic, "$SYS/broker/%s", name);
    for (unsigned i = 0; i < told_count; i++)
        if (strcmp(told[i].topic, topic) == 0)
            return told[i].text;
    ck_abort_msg("%s is missing", topic);
    return NULL;
}

static void tell(struct hub_sys *s, uint64_t now_ms)
{
    told_count = 0;
    hub_sys_tell(s, figure, now_ms, tell_cb, NULL);
}

START_TEST(every_topic_is_told_once)
{
    struct hub_sys *s = hub_sys_new();
    memset(figure, 0, sizeof figure);
    tell(s, 1000);
    for (unsigned i = 0; i < told_count; i++) {
        ck_assert(strncmp(told[i].topic, "$SYS/broker/", 12) == 0 && told[i].text[0]);
        for (unsigned j = 0; j < i; j++)
            ck_assert_str_ne(told[i].topic, told[j].topic);
    }
    ck_assert_uint_le(told_count, 128); /* what a worker holds */
    ck_assert_ptr_nonnull(strstr(value("version"), "version "));
    ck_assert_str_eq(value("uptime"), "0 seconds");
    ck_assert_str_eq(value("retained messages/count"), "0");
    ck_assert_str_eq(value("load/sockets/15min"), "0.00");
    hub_sys_free(s);
}
END_TEST

START_TEST(the_greatest_number_is_remembered)
{
    struct hub_sys *s = hub_sys_new();
    memset(figure, 0, sizeof figure);
    figure[SYS_CONNECTED] = 7;
    figure[SYS_HEAP] = 5000000000;
    tell(s, 1000);
    figure[SYS_CONNECTED] = 3;
    figure[SYS_HEAP] = 4;
    tell(s, 2000);
    ck_assert_str_eq(value("clients/connected"), "3");
    ck_assert_str_eq(value("clients/maximum"), "7");
    ck_assert_str_eq(value("heap/maximum"), "5000000000");
    ck_assert_str_eq(value("heap/current"), "4");
    hub_sys_free(s);
}
END_TEST

START_TEST(loads_are_per_minute_and_fade)
{
    struct hub_sys *s = hub_sys_new();
    memset(figure, 0, sizeof figure);
    figure[SYS_BYTES_IN] = 1000000; /* before: says nothing about now */
    tell(s, 5000);
    ck_assert_str_eq(value("load/bytes/received/1min"), "0.00");
    figure[SYS_BYTES_IN] += 120;
    tell(s, 65000);
    ck_assert_str_eq(value("load/bytes/received/1min"), "75.85"); /* 120 (1 - 1/e) */
    ck_assert_str_eq(value("load/bytes/received/5min"), "21.75");
    ck_assert_str_eq(value("load/bytes/received/15min"), "7.74");
    tell(s, 65000); /* at once again: nothing has passed */
    ck_assert_str_eq(value("load/bytes/received/1min"), "75.85");
    tell(s, 125000);
    ck_assert_str_eq(value("load/bytes/received/1min"), "27.91");
    figure[SYS_BYTES_IN] = 5; /* a counter that began anew */
    tell(s, 125000 + 3600 * 1000);
    ck_assert_str_eq(value("load/bytes/received/1min"), "0.00");
    hub_sys_free(s);
}
END_TEST

START_TEST(a_steady_rate_is_what_the_averages_come_to)
{
    struct hub_sys *s = hub_sys_new();
    memset(figure, 0, sizeof figure);
    for (unsigned i = 0; i < 1000; i++) {
        tell(s, 1000 + i * 10000);
        figure[SYS_PUBLISHES_IN] += 100;
    }
    ck_assert_str_eq(value("load/publish/received/1min"), "600.00");
    ck_assert_str_eq(value("load/publish/received/5min"), "600.00");
    ck_assert_double_eq_tol(strtod(value("load/publish/received/15min"), NULL), 600, 0.1);
    hub_sys_free(s);
}
END_TEST

START_TEST(figures_are_summed_over_the_processes)
{
    struct counters *c = counters_map(WORKERS + 2);
    const struct process_args args = {.workers = WORKERS, .counters = c};
    struct engine_stats stats = {
        .sessions = 10, .messages = 20, .retained = 3, .log_bytes = 999, .sessions_expired = 4};
    c[0].pid = (uint64_t)getpid();
    c[1].pid = 0; /* has never run */
    c[2].pid = c[3].pid = 1u << 30;
    c[0].value[COUNTER_SESSIONS] = 5;
    c[1].value[COUNTER_SESSIONS] = 100;
    c[0].value[COUNTER_SESSIONS_STORED] = 2;
    c[2].value[COUNTER_SHARE_MEMBERS] = 6;
    c[0].value[COUNTER_CONNECTED_V3] = 11;
    c[0].value[COUNTER_CONNECTED_V5] = 12;
    c[0].value[COUNTER_PACKETS_OUT] = 1;
    c[0].value[COUNTER_DELIVERIES] = 10;
    c[0].value[COUNTER_HEARTBEATS] = 100;
    c[3].started_ms = clock_wall_ms() - 61000;
    hub_sys_gather(&args, &stats, 1, figure);
    ck_assert_uint_eq(figure[SYS_CONNECTED], 5);
    ck_assert_uint_eq(figure[SYS_DISCONNECTED], 7);
    ck_assert_uint_eq(figure[SYS_TOTAL], 12);
    ck_assert_uint_eq(figure[SYS_SHARED], 6);
    ck_assert_uint_eq(figure[SYS_CONNECTIONS], 23);
    ck_assert_uint_eq(figure[SYS_PACKETS_OUT], 111);
    ck_assert_uint_eq(figure[SYS_PUBLISHES_OUT], 10);
    ck_assert_uint_eq(figure[SYS_STORED], 23);
    ck_assert_uint_eq(figure[SYS_STORED_BYTES], 999);
    ck_assert_uint_eq(figure[SYS_EXPIRED], 4);
    ck_assert_uint_ge(figure[SYS_UPTIME], 61);
    ck_assert_uint_le(figure[SYS_UPTIME], 120);
    ck_assert_uint_gt(figure[SYS_HEAP], 10000);
    stats.sessions = 1; /* read at another moment than the rest */
    hub_sys_gather(&args, &stats, 1, figure);
    ck_assert_uint_eq(figure[SYS_DISCONNECTED], 0);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, every_topic_is_told_once);
    tcase_add_test(tc, the_greatest_number_is_remembered);
    tcase_add_test(tc, loads_are_per_minute_and_fade);
    tcase_add_test(tc, a_steady_rate_is_what_the_averages_come_to);
    tcase_add_test(tc, figures_are_summed_over_the_processes);
}

UNIT_MAIN("hub_sys")
