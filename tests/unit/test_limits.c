/*
 * The supervisor's arithmetic: workers, shares, restart delays.
 */
#include "gateway/supervisor/limits.h"
#include "tests/unit/unit.h"

/* A configuration with just these two numbers. */
static struct config config_of(uint32_t workers, uint32_t max_connections)
{
    return (struct config){.workers = workers, .max_connections = max_connections};
}

START_TEST(one_worker_per_core_when_nothing_is_said)
{
    struct config c = config_of(0, 0);
    ck_assert_uint_eq(limits_workers_on(&c, 20000, 2), 2);
    ck_assert_uint_eq(limits_workers_on(&c, 20000, 64), 64);
    ck_assert_uint_ge(limits_workers(&c, 20000), 1);
}
END_TEST

START_TEST(more_workers_when_the_descriptor_limit_demands_them)
{
    struct config c = config_of(0, 1000000);
    unsigned n = limits_workers_on(&c, 20000, 2);
    ck_assert_uint_ge((uint64_t)n * limits_usable(20000), 1050000);
    ck_assert_uint_lt((uint64_t)(n - 1) * limits_usable(20000), 1050000);
    ck_assert_uint_eq(limits_workers_on(&c, 2000000, 2), 2);
    c.max_connections = 15000;
    ck_assert_uint_eq(limits_workers_on(&c, 20000, 2), 2);
}
END_TEST

START_TEST(the_configured_number_of_workers_wins)
{
    struct config c = config_of(1, 1000000);
    ck_assert_uint_eq(limits_workers_on(&c, 20000, 8), 1);
    c.workers = 1000000;
    ck_assert_uint_eq(limits_workers_on(&c, 20000, 8), LIMITS_MAX_WORKERS);
    c = config_of(0, UINT32_MAX);
    ck_assert_uint_eq(limits_workers_on(&c, 1024, 8), LIMITS_MAX_WORKERS);
}
END_TEST

START_TEST(a_low_descriptor_limit_leaves_something)
{
    ck_assert_uint_eq(limits_usable(20000), 20000 - LIMITS_RESERVE);
    ck_assert_uint_eq(limits_usable(1024), 512);
    ck_assert_uint_eq(limits_usable(1023), 512);
    ck_assert_uint_eq(limits_usable(64), 32);
    ck_assert_uint_ge(limits_usable(1), 1);
    ck_assert_uint_ge(limits_usable(0), 1);
    ck_assert_uint_eq(limits_usable(UINT64_MAX), UINT32_MAX);
}
END_TEST

START_TEST(a_worker_has_room_for_all_however_uneven_the_spread)
{
    struct config c = config_of(0, 10000);
    ck_assert_uint_eq(limits_connections_per_worker(&c, 20000), 10000);
    c.max_connections = 1;
    ck_assert_uint_eq(limits_connections_per_worker(&c, 20000), 1);
}
END_TEST

START_TEST(a_single_worker_has_exactly_max_connections)
{
    struct config c = config_of(1, 7);
    ck_assert_uint_eq(limits_connections_per_worker(&c, 20000), 7);
}
END_TEST

START_TEST(a_share_never_exceeds_the_descriptor_limit)
{
    struct config c = config_of(2, 1000000);
    ck_assert_uint_eq(limits_connections_per_worker(&c, 20000), limits_usable(20000));
    c.max_connections = 0;
    ck_assert_uint_eq(limits_connections_per_worker(&c, 20000), limits_usable(20000));
    c.max_connections = UINT32_MAX;
    ck_assert_uint_eq(limits_connections_per_worker(&c, UINT64_MAX), UINT32_MAX);
}
END_TEST

START_TEST(the_first_restart_is_immediate_and_then_the_delay_doubles)
{
    const uint32_t expected[] = {0, 100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000, 10000};
    uint32_t backoff = 0;
    for (unsigned i = 0; i < sizeof expected / sizeof *expected; i++)
        ck_assert_uint_eq(limits_restart_delay(&backoff, 5), expected[i]);
}
END_TEST

START_TEST(a_long_life_forgives_earlier_deaths)
{
    uint32_t backoff = 0;
    for (int i = 0; i < 6; i++)
        limits_restart_delay(&backoff, 0);
    ck_assert_uint_eq(limits_restart_delay(&backoff, LIMITS_STEADY_MS), 0);
    ck_assert_uint_eq(limits_restart_delay(&backoff, LIMITS_STEADY_MS - 1), 100);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, one_worker_per_core_when_nothing_is_said);
    tcase_add_test(tc, more_workers_when_the_descriptor_limit_demands_them);
    tcase_add_test(tc, the_configured_number_of_workers_wins);
    tcase_add_test(tc, a_low_descriptor_limit_leaves_something);
    tcase_add_test(tc, a_worker_has_room_for_all_however_uneven_the_spread);
    tcase_add_test(tc, a_single_worker_has_exactly_max_connections);
    tcase_add_test(tc, a_share_never_exceeds_the_descriptor_limit);
    tcase_add_test(tc, the_first_restart_is_immediate_and_then_the_delay_doubles);
    tcase_add_test(tc, a_long_life_forgives_earlier_deaths);
}

UNIT_MAIN("limits")
