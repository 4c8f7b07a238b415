/*
 * Counters: the table, shared pages that another process reads, what survives a restart of the owner, and
 * pools and CPU time in the page.
 */
#include "gateway/base/counters.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/pool.h"
#include "tests/unit/unit.h"

START_TEST(table_is_complete)
{
    for (int k = 0; k < COUNTER_COUNT; k++) {
        const char *name = counter_name((enum counter)k);
        ck_assert_uint_gt(strlen(name), 0);
        ck_assert_uint_eq(strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(name));
        ck_assert_uint_gt(strlen(counter_help((enum counter)k)), 0);
        for (int j = 0; j < k; j++)
            ck_assert_str_ne(name, counter_name((enum counter)j));
    }
}
END_TEST

/* The Prometheus convention: what only grows ends in _total. */
START_TEST(counters_end_in_total)
{
    for (int k = 0; k < COUNTER_COUNT; k++) {
        const char *name = counter_name((enum counter)k);
        size_t len = strlen(name);
        bool total = len > 6 && strcmp(name + len - 6, "_total") == 0;
        ck_assert_msg(total != counter_is_gauge((enum counter)k), "%s", name);
    }
}
END_TEST

START_TEST(before_attach_counting_is_harmless)
{
    counter_add(COUNTER_ACCEPTED, 3);
    counter_closed(CLOSE_MALFORMED);
    counters_publish();
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_ACCEPTED), 3);
}
END_TEST

START_TEST(another_process_reads_them)
{
    struct counters *c = counters_map(3);
    pid_t child = fork();
    if (child == 0) {
        counters_attach(&c[1]);
        counter_add(COUNTER_DELIVERIES, 7);
        counter_add(COUNTER_CONNECTIONS, 5);
        counter_sub(COUNTER_CONNECTIONS, 2);
        counter_set(COUNTER_TOPICS, 9);
        counter_closed(CLOSE_KICKED);
        counter_closed(CLOSE_KICKED);
        _exit(0);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert_uint_eq(counter_get(&c[1], COUNTER_DELIVERIES), 7);
    ck_assert_uint_eq(counter_get(&c[1], COUNTER_CONNECTIONS), 3);
    ck_assert_uint_eq(counter_get(&c[1], COUNTER_TOPICS), 9);
    ck_assert_uint_eq(c[1].closed[CLOSE_KICKED], 2);
    ck_assert_uint_eq(c[1].pid, (uint64_t)child);
    ck_assert_uint_eq(c[0].pid, 0);
    ck_assert_uint_eq(counter_get(&c[2], COUNTER_DELIVERIES), 0);
}
END_TEST

START_TEST(pages_share_no_cache_line)
{
    struct counters *c = counters_map(2);
    ck_assert_uint_eq((uintptr_t)&c[0] % 64, 0);
    ck_assert_uint_eq((uintptr_t)&c[1] % 64, 0);
}
END_TEST

START_TEST(attach_keeps_counters_and_zeroes_gauges)
{
    clock_fake(1700000000123);
    struct counters *c = counters_map(1);
    counters_attach(c);
    ck_assert_uint_eq(c->started_ms, 1700000000123);
    ck_assert_uint_eq(c->pid, (uint64_t)getpid());
    counter_add(COUNTER_ACCEPTED, 11);
    counter_add(COUNTER_CONNECTIONS, 11);
    counter_closed(CLOSE_PEER_CLOSED);
    strcpy(c->pool[0].name, "left over");
    clock_fake(1700000001000);
    counters_attach(c);
    ck_assert_uint_eq(counter_get(c, COUNTER_ACCEPTED), 11);
    ck_assert_uint_eq(counter_get(c, COUNTER_CONNECTIONS), 0);
    ck_assert_uint_eq(c->closed[CLOSE_PEER_CLOSED], 1);
    ck_assert_uint_eq(c->started_ms, 1700000001000);
    ck_assert_str_eq(c->pool[0].name, "");
    clock_real();
}
END_TEST

/* The row of a pool, or NULL. */
static const struct counters_pool *find_pool(const struct counters *c, const char *name)
{
    for (int i = 0; i < COUNTERS_POOLS && c->pool[i].name[0]; i++)
        if (strcmp(c->pool[i].name, name) == 0)
            return &c->pool[i];
    return NULL;
}

START_TEST(publish_shows_pools_and_cpu_time)
{
    struct counters *c = counters_map(1);
    counters_attach(c);
    struct pool *p = pool_new("things", 48, 1000);
    struct pool *long_name = pool_new("a name that is longer than the row has room", 16, 1000);
    ck_assert_uint_ne(pool_alloc(p), 0);
    ck_assert_uint_ne(pool_alloc(p), 0);
    counters_publish();
    const struct counters_pool *row = find_pool(c, "things");
    ck_assert_ptr_nonnull(row);
    ck_assert_uint_eq(row->used, 2);
    ck_assert_uint_eq(row->bytes, pool_bytes(p));
    ck_assert_uint_ge(row->record_size, 48);
    ck_assert_ptr_nonnull(find_pool(c, "a name that is longer t"));
    ck_assert_uint_gt(c->cpu_ns, 0);
    pool_free(p);
    counters_publish();
    ck_assert_ptr_null(find_pool(c, "things"));
    pool_free(long_name);
    counters_publish();
    ck_assert_str_eq(c->pool[0].name, "");
}
END_TEST

START_TEST(more_pools_than_rows)
{
    struct counters *c = counters_map(1);
    counters_attach(c);
    struct pool *p[COUNTERS_POOLS + 4];
    for (int i = 0; i < COUNTERS_POOLS + 4; i++)
        p[i] = pool_new("many", 16, 100);
    counters_publish();
    ck_assert_str_eq(c->pool[COUNTERS_POOLS - 1].name, "many");
    for (int i = 0; i < COUNTERS_POOLS + 4; i++)
        pool_free(p[i]);
}
END_TEST

START_TEST(a_number_that_is_no_counter_aborts) { counter_name(COUNTER_COUNT); }
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, table_is_complete);
    tcase_add_test(tc, counters_end_in_total);
    tcase_add_test(tc, before_attach_counting_is_harmless);
    tcase_add_test(tc, another_process_reads_them);
    tcase_add_test(tc, pages_share_no_cache_line);
    tcase_add_test(tc, attach_keeps_counters_and_zeroes_gauges);
    tcase_add_test(tc, publish_shows_pools_and_cpu_time);
    tcase_add_test(tc, more_pools_than_rows);
    tcase_add_test_raise_signal(tc, a_number_that_is_no_counter_aborts, SIGABRT);
}

UNIT_MAIN("counters")
