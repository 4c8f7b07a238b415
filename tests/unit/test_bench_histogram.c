/*
 * The bench's latency histogram: which bucket a value falls into, percentiles, adding up what several
 * processes recorded.
 */
#include "gateway/tools/bench/histogram.h"

#include <string.h>

#include "gateway/tools/bench/population.h"
#include "tests/unit/unit.h"

/* The largest relative error that 32 buckets per power of two allow. */
#define WIDTH (1.0 / 32)

/* The bucket of a value, seen from outside: the one that was counted up. */
static unsigned bucket_of(uint64_t ns)
{
    static struct histogram h;
    memset(&h, 0, sizeof h);
    histogram_record(&h, ns);
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        if (h.bucket[i])
            return i;
    ck_abort_msg("%llu is in no bucket", (unsigned long long)ns);
    return 0;
}

START_TEST(nothing_recorded_is_0)
{
    static struct histogram h;
    ck_assert_uint_eq(histogram_quantile(&h, 0), 0);
    ck_assert_uint_eq(histogram_quantile(&h, 0.5), 0);
    ck_assert_uint_eq(histogram_quantile(&h, 1), 0);
}
END_TEST

START_TEST(one_value_is_every_percentile)
{
    const uint64_t values[] = {0, 1, 31, 32, 1000, 123456789, 60000000000};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct histogram h = {0};
        histogram_record(&h, values[i]);
        ck_assert_uint_eq(histogram_quantile(&h, 0), values[i]);
        ck_assert_uint_eq(histogram_quantile(&h, 0.5), values[i]);
        ck_assert_uint_eq(histogram_quantile(&h, 1), values[i]);
        ck_assert_uint_eq(h.max_ns, values[i]);
    }
}
END_TEST

START_TEST(limits_of_buckets_grow_and_a_limit_is_in_its_bucket)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t limit = histogram_bucket_limit(i);
        ck_assert_uint_eq(bucket_of(limit), i);
        if (i + 1 < HISTOGRAM_BUCKETS) {
            ck_assert_uint_lt(limit, histogram_bucket_limit(i + 1));
            ck_assert_uint_eq(bucket_of(limit + 1), i + 1);
        }
    }
    ck_assert_uint_eq(histogram_bucket_limit(HISTOGRAM_BUCKETS - 1), (1ull << 40) - 1);
}
END_TEST

START_TEST(small_values_are_exact_and_large_ones_3_percent_off_at_most)
{
    for (uint64_t ns = 0; ns < 64; ns++)
        ck_assert_uint_eq(histogram_bucket_limit(bucket_of(ns)), ns);
    uint64_t state = 7;
    for (int i = 0; i < 20000; i++) {
        uint64_t ns = random_next(&state) >> (24 + (unsigned)(random_next(&state) % 38));
        uint64_t limit = histogram_bucket_limit(bucket_of(ns));
        ck_assert_uint_ge(limit, ns);
        ck_assert_double_le((double)(limit - ns), (double)ns * WIDTH);
    }
}
END_TEST

START_TEST(a_value_beyond_the_range_is_counted_in_the_last_bucket)
{
    struct histogram h = {0};
    histogram_record(&h, 1ull << 40);
    histogram_record(&h, UINT64_MAX);
    ck_assert_uint_eq(h.bucket[HISTOGRAM_BUCKETS - 1], 2);
    ck_assert_uint_eq(h.count, 2);
    ck_assert_uint_eq(h.max_ns, UINT64_MAX);
    ck_assert_uint_eq(histogram_quantile(&h, 1), UINT64_MAX);
    histogram_record(&h, 1);
    histogram_record(&h, 1);
    ck_assert_uint_eq(histogram_quantile(&h, 0.5), 1);
}
END_TEST

/* 1 to 1000 microseconds, once each, not in order. */
static void record_1000(struct histogram *h)
{
    for (uint64_t i = 0; i < 1000; i++)
        histogram_record(h, (1 + i * 7 % 1000) * 1000);
}

START_TEST(percentiles_of_evenly_spread_values)
{
    const struct {
        double share;
        uint64_t us;
    } rows[] = {{0.001, 1}, {0.5, 500}, {0.9, 900}, {0.99, 990}, {0.999, 999}, {1, 1000}};
    struct histogram h = {0};
    record_1000(&h);
    ck_assert_uint_eq(h.count, 1000);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t got = histogram_quantile(&h, rows[i].share), exact = rows[i].us * 1000;
        ck_assert_uint_ge(got, exact);
        ck_assert_double_le((double)got, (double)exact * (1 + WIDTH));
    }
    ck_assert_uint_eq(histogram_quantile(&h, 1), 1000000);
}
END_TEST

START_TEST(one_outlier_shows_only_where_it_belongs)
{
    struct histogram h = {0};
    for (int i = 0; i < 999; i++)
        histogram_record(&h, 20);
    histogram_record(&h, 5000000);
    ck_assert_uint_eq(histogram_quantile(&h, 0.99), 20);
    ck_assert_uint_eq(histogram_quantile(&h, 0.999), 20);
    ck_assert_uint_eq(histogram_quantile(&h, 0.9995), 5000000);
    ck_assert_uint_eq(histogram_quantile(&h, 1), 5000000);
}
END_TEST

START_TEST(percentiles_never_fall_and_never_exceed_the_maximum)
{
    struct histogram h = {0};
    uint64_t state = 1, before = 0;
    for (int i = 0; i < 5000; i++)
        histogram_record(&h, random_next(&state) >> (20 + (unsigned)(random_next(&state) % 40)));
    for (int i = 0; i <= 1000; i++) {
        uint64_t q = histogram_quantile(&h, i / 1000.0);
        ck_assert_uint_ge(q, before);
        ck_assert_uint_le(q, h.max_ns);
        before = q;
    }
}
END_TEST

START_TEST(adding_up_is_the_same_as_recording_in_one)
{
    static struct histogram part[3], sum, all;
    uint64_t state = 42;
    for (int i = 0; i < 3000; i++) {
        uint64_t ns = random_next(&state) >> 30;
        histogram_record(&part[i % 3], ns);
        histogram_record(&all, ns);
    }
    for (int i = 0; i < 3; i++)
        histogram_add(&sum, &part[i]);
    ck_assert_mem_eq(&sum, &all, sizeof sum);
}
END_TEST

START_TEST(adding_an_empty_one_changes_nothing)
{
    static struct histogram empty, h, before;
    record_1000(&h);
    before = h;
    histogram_add(&h, &empty);
    ck_assert_mem_eq(&h, &before, sizeof h);
    histogram_add(&empty, &h);
    ck_assert_mem_eq(&empty, &h, sizeof h);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, nothing_recorded_is_0);
    tcase_add_test(tc, one_value_is_every_percentile);
    tcase_add_test(tc, limits_of_buckets_grow_and_a_limit_is_in_its_bucket);
    tcase_add_test(tc, small_values_are_exact_and_large_ones_3_percent_off_at_most);
    tcase_add_test(tc, a_value_beyond_the_range_is_counted_in_the_last_bucket);
    tcase_add_test(tc, percentiles_of_evenly_spread_values);
    tcase_add_test(tc, one_outlier_shows_only_where_it_belongs);
    tcase_add_test(tc, percentiles_never_fall_and_never_exceed_the_maximum);
    tcase_add_test(tc, adding_up_is_the_same_as_recording_in_one);
    tcase_add_test(tc, adding_an_empty_one_changes_nothing);
}

UNIT_MAIN("bench_histogram")
