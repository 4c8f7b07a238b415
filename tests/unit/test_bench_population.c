/*
 * The bench's clients: how many play each role and how they are spread, keepalive classes, groups of Zipf
 * sizes, and that everything follows from the client's number and the seed alone.
 */
#include "gateway/tools/bench/population.h"

#include <math.h>
#include <stdlib.h>

#include "tests/unit/unit.h"

typedef bool (*role_fn)(const struct population *p, uint32_t number);

/* How many of the numbers from..to-1 play a role. */
static uint32_t count_role(const struct population *p, role_fn has, uint32_t from, uint32_t to)
{
    uint32_t n = 0;
    for (uint32_t i = from; i < to; i++)
        n += has(p, i);
    return n;
}

START_TEST(as_many_play_a_role_as_were_asked_for)
{
    const uint32_t clients[] = {1, 2, 7, 100, 1009, 15000};
    for (size_t i = 0; i < sizeof clients / sizeof clients[0]; i++) {
        uint32_t n = clients[i];
        const uint32_t shares[] = {0, 1, n / 3, n - 1, n};
        for (size_t k = 0; k < sizeof shares / sizeof shares[0]; k++) {
            struct population p = {
                .clients = n, .slow = shares[k], .silent = n - shares[k], .movers = shares[k]};
            ck_assert_uint_eq(count_role(&p, population_is_slow, 0, n), p.slow);
            ck_assert_uint_eq(count_role(&p, population_is_silent, 0, n), p.silent);
            ck_assert_uint_eq(count_role(&p, population_is_mover, 0, n), p.movers);
        }
    }
}
END_TEST

START_TEST(nobody_is_slow_and_silent)
{
    struct population p = {.clients = 1000, .slow = 300, .silent = 299};
    for (uint32_t i = 0; i < p.clients; i++)
        ck_assert(!(population_is_slow(&p, i) && population_is_silent(&p, i)));
    ck_assert_uint_eq(count_role(&p, population_is_silent, 0, p.clients), p.silent);
}
END_TEST

START_TEST(roles_are_spread_evenly)
{
    struct population p = {.clients = 15000, .slow = 1000, .silent = 700, .movers = 12000};
    for (uint32_t from = 0; from < p.clients; from += 1500) {
        ck_assert_uint_eq(count_role(&p, population_is_slow, from, from + 1500), 100);
        uint32_t silent = count_role(&p, population_is_silent, from, from + 1500);
        ck_assert_uint_ge(silent, 69);
        ck_assert_uint_le(silent, 71);
        ck_assert_uint_eq(count_role(&p, population_is_mover, from, from + 1500), 1200);
    }
}
END_TEST

START_TEST(movers_that_are_apart_are_the_first_clients)
{
    struct population p = {.clients = 15000, .movers = 12000, .movers_apart = true};
    ck_assert_uint_eq(count_role(&p, population_is_mover, 0, 12000), 12000);
    ck_assert_uint_eq(count_role(&p, population_is_mover, 12000, 15000), 0);
}
END_TEST

START_TEST(two_million_clients_do_not_overflow)
{
    struct population p = {.clients = 2000000, .slow = 1999999, .silent = 1, .movers = 2000000};
    ck_assert_uint_eq(count_role(&p, population_is_slow, 0, p.clients), p.slow);
    ck_assert_uint_eq(count_role(&p, population_is_silent, 0, p.clients), 1);
    ck_assert_uint_eq(count_role(&p, population_is_mover, 0, p.clients), p.movers);
}
END_TEST

START_TEST(keepalives_span_the_range_in_eight_classes)
{
    struct population p = {.clients = 800, .keepalive_s = 60, .keepalive_max_s = 300};
    uint32_t members[POPULATION_CLASSES] = {0};
    ck_assert_uint_eq(population_keepalive(&p, 0), 60);
    ck_assert_uint_eq(population_keepalive(&p, POPULATION_CLASSES - 1), 300);
    for (uint32_t c = 1; c < POPULATION_CLASSES; c++)
        ck_assert_uint_gt(population_keepalive(&p, c), population_keepalive(&p, c - 1));
    for (uint32_t i = 0; i < p.clients; i++)
        members[population_class(i)]++;
    for (uint32_t c = 0; c < POPULATION_CLASSES; c++)
        ck_assert_uint_eq(members[c], 100);
}
END_TEST

START_TEST(without_a_range_all_have_the_same_keepalive)
{
    const uint16_t most[] = {0, 59, 60};
    for (size_t i = 0; i < sizeof most / sizeof most[0]; i++) {
        struct population p = {.clients = 8, .keepalive_s = 60, .keepalive_max_s = most[i]};
        for (uint32_t c = 0; c < POPULATION_CLASSES; c++)
            ck_assert_uint_eq(population_keepalive(&p, c), 60);
    }
    struct population widest = {.clients = 8, .keepalive_s = 0, .keepalive_max_s = 65535};
    ck_assert_uint_eq(population_keepalive(&widest, 0), 0);
    ck_assert_uint_eq(population_keepalive(&widest, POPULATION_CLASSES - 1), 65535);
}
END_TEST

START_TEST(the_groups_of_a_client_differ)
{
    struct population p = {.clients = 500, .seed = 3, .groups = 5, .memberships = 4};
    population_prepare(&p, 2);
    for (uint32_t i = 0; i < p.clients; i++) {
        bool in[5] = {false};
        for (uint32_t k = 0; k < p.memberships; k++) {
            uint32_t group = population_group(&p, i, k);
            ck_assert_uint_lt(group, p.groups);
            ck_assert(!in[group]);
            in[group] = true;
        }
    }
    free(p.group_share);
}
END_TEST

START_TEST(as_many_memberships_as_groups_is_all_of_them)
{
    struct population p = {.clients = 50, .seed = 9, .groups = 4, .memberships = 4};
    population_prepare(&p, 4);
    for (uint32_t i = 0; i < p.clients; i++) {
        unsigned seen = 0;
        for (uint32_t k = 0; k < 4; k++)
            seen |= 1u << population_group(&p, i, k);
        ck_assert_uint_eq(seen, 0xf);
    }
    free(p.group_share);
}
END_TEST

/* The share of the k-th group of `groups` after Zipf. */
static double zipf_share(uint32_t k, uint32_t groups, double exponent)
{
    double sum = 0;
    for (uint32_t i = 1; i <= groups; i++)
        sum += pow(i, -exponent);
    return pow(k + 1, -exponent) / sum;
}

START_TEST(group_sizes_follow_zipf)
{
    const double exponents[] = {0, 1, 1.5};
    const uint32_t clients = 40000, groups = 20;
    for (size_t e = 0; e < sizeof exponents / sizeof exponents[0]; e++) {
        struct population p = {.clients = clients, .seed = 1, .groups = groups, .memberships = 1};
        uint32_t members[20] = {0};
        population_prepare(&p, exponents[e]);
        ck_assert_double_eq(p.group_share[groups - 1], 1);
        for (uint32_t i = 0; i < clients; i++)
            members[population_group(&p, i, 0)]++;
        for (uint32_t k = 0; k < groups; k++) {
            double want = zipf_share(k, groups, exponents[e]) * clients;
            ck_assert_double_eq_tol(members[k], want, 5 * sqrt(want)); /* five standard deviations */
        }
        free(p.group_share);
    }
}
END_TEST

START_TEST(the_same_seed_gives_the_same_groups_and_another_one_others)
{
    struct population a = {.clients = 1000, .seed = 1, .groups = 50, .memberships = 3}, b = a, c = a;
    c.seed = 2;
    population_prepare(&a, 1);
    population_prepare(&b, 1);
    population_prepare(&c, 1);
    uint32_t different = 0;
    for (uint32_t i = 0; i < a.clients; i++)
        for (uint32_t k = 0; k < a.memberships; k++) {
            ck_assert_uint_eq(population_group(&a, i, k), population_group(&b, i, k));
            different += population_group(&a, i, k) != population_group(&c, i, k);
        }
    ck_assert_uint_gt(different, a.clients);
    free(a.group_share);
    free(b.group_share);
    free(c.group_share);
}
END_TEST

START_TEST(without_groups_nothing_is_prepared)
{
    struct population p = {.clients = 10};
    population_prepare(&p, 1);
    ck_assert_ptr_null(p.group_share);
}
END_TEST

START_TEST(streams_do_not_meet)
{
    uint32_t last_client = stream_of_client(1999999);
    ck_assert_uint_gt(stream_of_client(0), STREAM_COMMON);
    ck_assert_uint_lt(last_client, stream_of_group(0));
    ck_assert_uint_lt(stream_of_group(POPULATION_MAX_GROUPS - 1), STREAM_ANNOUNCE);
}
END_TEST

START_TEST(a_message_hash_depends_on_stream_and_number)
{
    ck_assert_uint_eq(population_message_hash(5, 9), population_message_hash(5, 9));
    ck_assert_uint_ne(population_message_hash(5, 9), population_message_hash(9, 5));
    ck_assert_uint_ne(population_message_hash(5, 9), population_message_hash(5, 10));
    /* A sum must not come out the same when one message is lost and its neighbour comes twice. */
    for (uint32_t seq = 1; seq < 2000; seq++)
        ck_assert_uint_ne(population_message_hash(1, seq), population_message_hash(1, seq + 1));
}
END_TEST

START_TEST(random_numbers_are_those_of_splitmix64)
{
    uint64_t state = 1234567; /* first outputs of the published reference implementation */
    ck_assert_uint_eq(random_next(&state), 6457827717110365317u);
    ck_assert_uint_eq(random_next(&state), 3203168211198807973u);
    ck_assert_uint_eq(random_next(&state), 9817491932198370423u);
}
END_TEST

START_TEST(unit_numbers_are_above_0_and_at_most_1)
{
    uint64_t state = 0;
    double sum = 0;
    for (int i = 0; i < 100000; i++) {
        double x = random_unit(&state);
        ck_assert_double_gt(x, 0);
        ck_assert_double_le(x, 1);
        sum += x;
    }
    ck_assert_double_eq_tol(sum / 100000, 0.5, 0.01);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, as_many_play_a_role_as_were_asked_for);
    tcase_add_test(tc, nobody_is_slow_and_silent);
    tcase_add_test(tc, roles_are_spread_evenly);
    tcase_add_test(tc, movers_that_are_apart_are_the_first_clients);
    tcase_add_test(tc, two_million_clients_do_not_overflow);
    tcase_add_test(tc, keepalives_span_the_range_in_eight_classes);
    tcase_add_test(tc, without_a_range_all_have_the_same_keepalive);
    tcase_add_test(tc, the_groups_of_a_client_differ);
    tcase_add_test(tc, as_many_memberships_as_groups_is_all_of_them);
    tcase_add_test(tc, group_sizes_follow_zipf);
    tcase_add_test(tc, the_same_seed_gives_the_same_groups_and_another_one_others);
    tcase_add_test(tc, without_groups_nothing_is_prepared);
    tcase_add_test(tc, streams_do_not_meet);
    tcase_add_test(tc, a_message_hash_depends_on_stream_and_number);
    tcase_add_test(tc, random_numbers_are_those_of_splitmix64);
    tcase_add_test(tc, unit_numbers_are_above_0_and_at_most_1);
}

UNIT_MAIN("bench_population")
