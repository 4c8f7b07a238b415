/*
 * The clock: the cached reading, and time that tests set.
 */
#include <time.h>

#include "gateway/base/clock.h"
#include "tests/unit/unit.h"

START_TEST(fake_time_stands_still)
{
    clock_fake(5000);
    ck_assert_uint_eq(clock_ms(), 5000);
    ck_assert_uint_eq(clock_update(), 5000);
    ck_assert_uint_eq(clock_us(), 5000000);
    ck_assert_uint_eq(clock_wall_ms(), 5000);
    clock_fake(5250);
    ck_assert_uint_eq(clock_ms(), 5250);
    ck_assert_uint_eq(clock_us(), 5250000);
    clock_real();
    ck_assert_uint_ne(clock_wall_ms(), 5250);
}
END_TEST

START_TEST(the_reading_is_cached)
{
    clock_real();
    uint64_t cached = clock_ms(), us = clock_us();
    while (clock_us() < us + 3000)
        ;
    ck_assert_uint_eq(clock_ms(), cached);
    ck_assert_uint_ge(clock_update(), cached + 2);
    ck_assert_uint_ge(clock_ms(), cached + 2);
}
END_TEST

START_TEST(clocks_agree)
{
    ck_assert_uint_gt(clock_ms(), 1000); /* well above 0, also without an update before */
    uint64_t ms = clock_update(), us = clock_us();
    ck_assert_uint_ge(us / 1000, ms);
    uint64_t wall = clock_wall_ms(), now = (uint64_t)time(NULL);
    ck_assert_uint_ge(now + 1, wall / 1000);
    ck_assert_uint_ge(wall / 1000 + 1, now);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, fake_time_stands_still);
    tcase_add_test(tc, the_reading_is_cached);
    tcase_add_test(tc, clocks_agree);
}

UNIT_MAIN("clock")
