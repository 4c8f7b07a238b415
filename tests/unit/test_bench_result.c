/*
 * The bench's table of measurements: medians, ranges, ratios to the floor repetition by repetition, figures.
 */
#include "gateway/tools/bench/result.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/unit.h"

static char *targets[] = {(char *)"floor", (char *)"holdfast", (char *)"other"};
static const struct scenario no_scenario;

/* Puts one value per repetition of a target. */
static void put_all(struct result *r, size_t target, const char *key, unsigned flags, const double *values)
{
    for (size_t i = 0; i < r->repetitions; i++) {
        result_at(r, target, i);
        result_put(r, key, "a label", "us", flags, values[i]);
    }
}

static struct result_summary summary(const struct result *r, const char *key, size_t target)
{
    size_t row;
    ck_assert_ptr_nonnull(result_find(r, key, &row));
    return result_summarize(r, row, target);
}

START_TEST(medians)
{
    double one[] = {7}, odd[] = {5, 1, 3}, even[] = {4, 1, 3, 2}, same[] = {2, 2, 2};
    ck_assert(isnan(median_of(one, 0)));
    ck_assert_double_eq(median_of(one, 1), 7);
    ck_assert_double_eq(median_of(odd, 3), 3);
    ck_assert_double_eq(median_of(even, 4), 2.5);
    ck_assert_double_eq(median_of(same, 3), 2);
    ck_assert_double_eq(odd[0], 1);
    ck_assert_double_eq(odd[2], 5);
}
END_TEST

START_TEST(a_value_is_stored_where_result_at_points)
{
    struct result *r = result_new(&no_scenario, targets, 3, 2);
    result_at(r, 1, 0);
    result_put(r, "a.b", "A", "bytes", RESULT_QUIET, 5);
    result_at(r, 2, 1);
    result_put(r, "a.b", "another label", "s", 0, 6);
    const struct result_row *row = result_find(r, "a.b", NULL);
    ck_assert_uint_eq(r->rows, 1);
    ck_assert_str_eq(row->label, "A");
    ck_assert_str_eq(row->unit, "bytes");
    ck_assert_uint_eq(row->flags, RESULT_QUIET);
    for (size_t i = 0; i < 6; i++)
        ck_assert(i == 2 || i == 5 || isnan(row->value[i]));
    ck_assert_double_eq(row->value[2], 5);
    ck_assert_double_eq(row->value[5], 6);
    ck_assert_ptr_null(result_find(r, "a", NULL));
    result_free(r);
}
END_TEST

START_TEST(rows_keep_their_order_and_may_be_many)
{
    struct result *r = result_new(&no_scenario, targets, 1, 1);
    char key[32];
    for (int i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "k%d", i);
        result_put(r, key, key, "", 0, i);
    }
    ck_assert_uint_eq(r->rows, 200);
    for (size_t i = 0; i < 200; i++)
        ck_assert_double_eq(r->row[i].value[0], (double)i);
    result_free(r);
}
END_TEST

START_TEST(a_remark_is_kept_once)
{
    struct result *r = result_new(&no_scenario, targets, 1, 1);
    result_note(r, "%d of %d", 1, 2);
    result_note(r, "1 of 2");
    result_note(r, "%s", "2 of 2");
    ck_assert_uint_eq(r->notes, 2);
    ck_assert_str_eq(r->note[0], "1 of 2");
    ck_assert_str_eq(r->note[1], "2 of 2");
    result_free(r);
}
END_TEST

START_TEST(a_summary_has_median_and_range)
{
    struct result *r = result_new(&no_scenario, targets, 2, 3);
    put_all(r, 1, "k", 0, (double[]){9, 1, 4});
    struct result_summary s = summary(r, "k", 1), none = summary(r, "k", 0);
    ck_assert_uint_eq(s.count, 3);
    ck_assert_double_eq(s.median, 4);
    ck_assert_double_eq(s.min, 1);
    ck_assert_double_eq(s.max, 9);
    ck_assert(isnan(s.ratio));
    ck_assert_uint_eq(none.count, 0);
    ck_assert(isnan(none.median) && isnan(none.min) && isnan(none.max) && isnan(none.ratio));
    result_free(r);
}
END_TEST

START_TEST(what_was_not_measured_in_a_repetition_is_left_out)
{
    struct result *r = result_new(&no_scenario, targets, 2, 4);
    put_all(r, 1, "k", 0, (double[]){NAN, 10, NAN, 20});
    struct result_summary s = summary(r, "k", 1);
    ck_assert_uint_eq(s.count, 2);
    ck_assert_double_eq(s.median, 15);
    result_free(r);
}
END_TEST

START_TEST(a_ratio_is_the_median_of_the_ratios_of_each_repetition)
{
    struct result *r = result_new(&no_scenario, targets, 3, 3);
    put_all(r, 0, "k", RESULT_RATIO, (double[]){1, 10, 100});
    put_all(r, 1, "k", RESULT_RATIO, (double[]){3, 20, 110});
    put_all(r, 2, "k", RESULT_RATIO, (double[]){NAN, 5, 50});
    ck_assert_double_eq_tol(summary(r, "k", 1).ratio, 2, 1e-9); /* of 3, 2 and 1.1; the medians' own is 2 */
    ck_assert_double_eq_tol(summary(r, "k", 2).ratio, 0.5, 1e-9);
    ck_assert_double_eq_tol(summary(r, "k", 0).ratio, 1, 1e-9);
    put_all(r, 0, "l", RESULT_RATIO, (double[]){1, 100, 10});
    put_all(r, 1, "l", RESULT_RATIO, (double[]){5, 10, 20});
    ck_assert_double_eq_tol(summary(r, "l", 1).ratio, 2, 1e-9); /* of 5, 0.1 and 2; the medians' own is 1 */
    result_free(r);
}
END_TEST

START_TEST(there_is_no_ratio_without_a_floor_that_was_measured)
{
    struct result *without = result_new(&no_scenario, targets + 1, 2, 1);
    put_all(without, 0, "k", RESULT_RATIO, (double[]){3});
    ck_assert_uint_eq(result_floor(without), SIZE_MAX);
    ck_assert(isnan(summary(without, "k", 0).ratio));
    result_free(without);
    struct result *zero = result_new(&no_scenario, targets, 2, 2);
    put_all(zero, 0, "k", RESULT_RATIO, (double[]){0, NAN});
    put_all(zero, 1, "k", RESULT_RATIO, (double[]){3, 3});
    ck_assert(isnan(summary(zero, "k", 1).ratio));
    result_free(zero);
}
END_TEST

START_TEST(only_rows_that_ask_for_it_have_a_ratio)
{
    struct result *r = result_new(&no_scenario, targets, 2, 1);
    put_all(r, 0, "k", 0, (double[]){1});
    put_all(r, 1, "k", 0, (double[]){2});
    ck_assert(isnan(summary(r, "k", 1).ratio));
    result_free(r);
}
END_TEST

START_TEST(the_floor_is_found_by_its_name_wherever_it_is)
{
    char *names[] = {(char *)"floored", (char *)"a", (char *)"floor"};
    struct result *r = result_new(&no_scenario, names, 3, 1);
    ck_assert_uint_eq(result_floor(r), 2);
    result_free(r);
}
END_TEST

/* One figure about a metric. */
static struct scenario_figure figure_of(const char *metric, double max, double max_ratio, double min)
{
    return (struct scenario_figure){.title = (char *)"title",
                                    .metric = (char *)(uintptr_t)metric,
                                    .max = max,
                                    .max_ratio = max_ratio,
                                    .max_ratio_tls = NAN,
                                    .min = min,
                                    .target = (char *)""};
}

START_TEST(figures_are_judged)
{
    const struct {
        const char *metric;
        double max, max_ratio, min;
        enum figure_verdict verdict;
        const char *words;
    } rows[] = {
        {"cpu", 6, NAN, NAN, FIGURE_MET, "6 us, wanted at most 6"},
        {"cpu", 5.9, NAN, NAN, FIGURE_NOT_MET, "6 us, wanted at most 5.9"},
        {"cpu", NAN, 1.5, NAN, FIGURE_MET, "1.500 times the floor, wanted at most 1.5"},
        {"cpu", NAN, 1.15, NAN, FIGURE_NOT_MET, "1.500 times the floor, wanted at most 1.15"},
        {"cpu", NAN, NAN, 6, FIGURE_MET, "6 us, wanted at least 6"},
        {"cpu", NAN, NAN, 7, FIGURE_NOT_MET, "6 us, wanted at least 7"},
        {"lost", 0, NAN, NAN, FIGURE_MET, "0 us, wanted at most 0"},
        {"lost", NAN, 2, NAN, FIGURE_UNKNOWN, "not measured"}, /* it has no ratio */
        {"nothing", NAN, NAN, NAN, FIGURE_UNKNOWN, "not measured"},
        {"no.such.metric", 1, NAN, NAN, FIGURE_UNKNOWN, "not measured"},
    };
    struct result *r = result_new(&no_scenario, targets, 2, 1);
    put_all(r, 0, "cpu", RESULT_RATIO, (double[]){4});
    put_all(r, 1, "cpu", RESULT_RATIO, (double[]){6});
    put_all(r, 1, "lost", 0, (double[]){0});
    put_all(r, 0, "nothing", 0, (double[]){1});
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct scenario_figure f = figure_of(rows[i].metric, rows[i].max, rows[i].max_ratio, rows[i].min);
        char words[160];
        ck_assert_int_eq(result_judge(r, &f, 1, words, sizeof words), rows[i].verdict);
        ck_assert_str_eq(words, rows[i].words);
    }
    result_free(r);
}
END_TEST

START_TEST(all_limits_of_a_figure_are_judged)
{
    const struct {
        double max, max_ratio, min;
        enum figure_verdict verdict;
        const char *words;
    } rows[] = {
        {7, NAN, 5, FIGURE_MET, "6 us, wanted at least 5; 6 us, wanted at most 7"},
        {5, NAN, 5, FIGURE_NOT_MET, "6 us, wanted at least 5; 6 us, wanted at most 5"},
        {7, NAN, 7, FIGURE_NOT_MET, "6 us, wanted at least 7; 6 us, wanted at most 7"},
        {7, 1.15, NAN, FIGURE_NOT_MET, "6 us, wanted at most 7; 1.500 times the floor, wanted at most 1.15"},
        {5, 2, 5, FIGURE_NOT_MET,
         "6 us, wanted at least 5; 6 us, wanted at most 5; 1.500 times the floor, wanted at most 2"},
        {6, 1.5, 6, FIGURE_MET,
         "6 us, wanted at least 6; 6 us, wanted at most 6; 1.500 times the floor, wanted at most 1.5"},
    };
    struct result *r = result_new(&no_scenario, targets, 2, 1);
    put_all(r, 0, "cpu", RESULT_RATIO, (double[]){4});
    put_all(r, 1, "cpu", RESULT_RATIO, (double[]){6});
    put_all(r, 1, "lost", 0, (double[]){0});
    char words[160];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct scenario_figure f = figure_of("cpu", rows[i].max, rows[i].max_ratio, rows[i].min);
        ck_assert_int_eq(result_judge(r, &f, 1, words, sizeof words), rows[i].verdict);
        ck_assert_str_eq(words, rows[i].words);
    }
    struct scenario_figure no_ratio = figure_of("lost", 0, 2, NAN);
    ck_assert_int_eq(result_judge(r, &no_ratio, 1, words, sizeof words), FIGURE_UNKNOWN);
    ck_assert_str_eq(words, "0 us, wanted at most 0; not measured");
    result_free(r);
}
END_TEST

START_TEST(a_short_buffer_for_the_words_is_not_overrun)
{
    struct result *r = result_new(&no_scenario, targets, 2, 1);
    put_all(r, 1, "k", 0, (double[]){1});
    struct scenario_figure f = figure_of("k", 1, NAN, NAN);
    char words[16];
    memset(words, 'x', sizeof words);
    ck_assert_int_eq(result_judge(r, &f, 1, words, 8), FIGURE_MET);
    ck_assert_uint_eq(strlen(words), 7);
    ck_assert_int_eq(words[8], 'x');
    result_free(r);
}
END_TEST

/* floor, holdfast and other, of which the second is the TLS floor of the third. */
static struct result *with_tls_floor(size_t repetitions)
{
    struct result *r = result_new(&no_scenario, targets, 3, repetitions);
    ck_assert(!result_has_tls_floor(r));
    result_set_tls_floor(r, 2, 1);
    ck_assert(result_has_tls_floor(r));
    return r;
}

START_TEST(the_tls_floor_has_a_ratio_of_its_own)
{
    struct result *r = with_tls_floor(3);
    put_all(r, 0, "k", RESULT_RATIO, (double[]){1, 1, 1});
    put_all(r, 1, "k", RESULT_RATIO, (double[]){2, 4, 8});
    put_all(r, 2, "k", RESULT_RATIO, (double[]){4, 4, 4});
    ck_assert_double_eq_tol(summary(r, "k", 2).ratio, 4, 1e-9);
    ck_assert_double_eq_tol(summary(r, "k", 2).ratio_tls, 1, 1e-9); /* of 2, 1 and 0.5 */
    ck_assert(isnan(summary(r, "k", 1).ratio_tls) && isnan(summary(r, "k", 0).ratio_tls));
    struct scenario_figure f = figure_of("k", NAN, NAN, NAN);
    char words[160];
    f.max_ratio_tls = 1;
    ck_assert_int_eq(result_judge(r, &f, 2, words, sizeof words), FIGURE_MET);
    ck_assert_str_eq(words, "1.000 times the TLS floor, wanted at most 1");
    f.max_ratio_tls = 0.9;
    ck_assert_int_eq(result_judge(r, &f, 2, words, sizeof words), FIGURE_NOT_MET);
    ck_assert_int_eq(result_judge(r, &f, 1, words, sizeof words), FIGURE_UNKNOWN);
    result_free(r);
}
END_TEST

START_TEST(a_figure_is_for_targets_of_its_pattern_but_no_floor)
{
    struct result *r = with_tls_floor(1);
    struct scenario_figure f = figure_of("k", 1, NAN, NAN);
    ck_assert(result_is_floor(r, 0) && result_is_floor(r, 1) && !result_is_floor(r, 2));
    ck_assert(!result_concerns(r, &f, 0) && !result_concerns(r, &f, 1) && result_concerns(r, &f, 2));
    f.target = (char *)"ot*";
    ck_assert(result_concerns(r, &f, 2));
    f.target = (char *)"hold*";
    ck_assert(!result_concerns(r, &f, 1) && !result_concerns(r, &f, 2));
    result_free(r);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, the_tls_floor_has_a_ratio_of_its_own);
    tcase_add_test(tc, a_figure_is_for_targets_of_its_pattern_but_no_floor);
    tcase_add_test(tc, medians);
    tcase_add_test(tc, a_value_is_stored_where_result_at_points);
    tcase_add_test(tc, rows_keep_their_order_and_may_be_many);
    tcase_add_test(tc, a_remark_is_kept_once);
    tcase_add_test(tc, a_summary_has_median_and_range);
    tcase_add_test(tc, what_was_not_measured_in_a_repetition_is_left_out);
    tcase_add_test(tc, a_ratio_is_the_median_of_the_ratios_of_each_repetition);
    tcase_add_test(tc, there_is_no_ratio_without_a_floor_that_was_measured);
    tcase_add_test(tc, only_rows_that_ask_for_it_have_a_ratio);
    tcase_add_test(tc, the_floor_is_found_by_its_name_wherever_it_is);
    tcase_add_test(tc, figures_are_judged);
    tcase_add_test(tc, all_limits_of_a_figure_are_judged);
    tcase_add_test(tc, a_short_buffer_for_the_words_is_not_overrun);
}

UNIT_MAIN("bench_result")
