/*
 * The engine without a store: sequence numbers that skip ahead over a restart, and the registry of client
 * ids.
 */
#include "tests/unit/unit.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/clock.h"
#include "gateway/base/hash.h"
#include "gateway/base/pool.h"
#include "gateway/engine/engine.h"

static const struct engine_ops *ops;
static struct engine *e;

static void setup(void)
{
    hash_set_key(1, 2);
    ops = engine_find("memory");
    ck_assert_ptr_nonnull(ops);
    e = ops->open("", 200000);
}

static void teardown(void)
{
    ops->close(e);
    clock_real();
}

/* Claims for a worker; *other as the engine gives it. */
static bool claim(const char *id, uint16_t worker, uint64_t number, struct engine_claim *other)
{
    return ops->claim(e, id, strlen(id), (struct engine_claim){worker, number}, other);
}

/* Asserts that the id is served by this worker with this claim. */
static void assert_at(const char *id, uint16_t worker, uint64_t number)
{
    struct engine_claim c;
    ck_assert(ops->find(e, id, strlen(id), &c));
    ck_assert_uint_eq(c.worker, worker);
    ck_assert_uint_eq(c.number, number);
}

START_TEST(engines_are_found_by_name)
{
    ck_assert_ptr_eq(engine_find("memory"), &engine_memory);
    ck_assert_ptr_null(engine_find("nonesuch"));
    ck_assert_ptr_null(engine_find(""));
}
END_TEST

START_TEST(sequence_numbers_grow_and_skip_ahead_over_a_restart)
{
    clock_fake(1700000000000);
    struct engine *first = ops->open("", 10);
    uint64_t last = ops->next_seq(first);
    ck_assert_uint_eq(last, ((uint64_t)1700000000000 << 10) + 1);
    for (int i = 0; i < 1000; i++) {
        uint64_t next = ops->next_seq(first);
        ck_assert_uint_eq(next, last + 1);
        last = next;
    }
    ops->close(first);
    clock_fake(1700000000001);
    struct engine *second = ops->open("", 10);
    ck_assert_uint_gt(ops->next_seq(second), last);
    ck_assert_uint_lt(ops->next_seq(second), (uint64_t)1 << 53);
    ops->close(second);
}
END_TEST

START_TEST(a_claim_is_found_until_it_is_released)
{
    struct engine_claim other, c;
    ck_assert(!ops->find(e, "phone", 5, &c));
    ck_assert(claim("phone", 3, 100, &other));
    ck_assert_uint_eq(other.worker, ENGINE_NO_WORKER);
    assert_at("phone", 3, 100);
    ck_assert_uint_eq(ops->count(e), 1);
    ops->release(e, "phone", 5, (struct engine_claim){3, 99});
    ops->release(e, "phone", 5, (struct engine_claim){4, 100});
    ops->release(e, "other", 5, (struct engine_claim){3, 100});
    assert_at("phone", 3, 100);
    ops->release(e, "phone", 5, (struct engine_claim){3, 100});
    ck_assert(!ops->find(e, "phone", 5, &c));
    ck_assert_uint_eq(ops->count(e), 0);
}
END_TEST

START_TEST(the_greater_claim_wins_whichever_comes_first)
{
    struct engine_claim other;
    ck_assert(claim("a", 0, 100, &other));
    ck_assert(claim("a", 1, 200, &other));
    ck_assert_uint_eq(other.worker, 0);
    ck_assert_uint_eq(other.number, 100);
    assert_at("a", 1, 200);
    ck_assert(!claim("a", 2, 150, &other));
    ck_assert_uint_eq(other.worker, 1);
    ck_assert_uint_eq(other.number, 200);
    assert_at("a", 1, 200);
    ck_assert_uint_eq(ops->count(e), 1);
}
END_TEST

START_TEST(a_workers_own_latest_claim_stands)
{
    struct engine_claim other;
    ck_assert(claim("a", 0, 200, &other));
    ck_assert(claim("a", 0, 100, &other));
    ck_assert_uint_eq(other.worker, 0);
    assert_at("a", 0, 100);
}
END_TEST

START_TEST(the_release_of_a_replaced_claim_does_nothing)
{
    struct engine_claim other;
    ck_assert(claim("a", 0, 100, &other));
    ck_assert(claim("a", 1, 200, &other));
    ops->release(e, "a", 1, (struct engine_claim){0, 100});
    assert_at("a", 1, 200);
}
END_TEST

START_TEST(the_largest_numbers_fit)
{
    struct engine_claim other;
    ck_assert(claim("a", ENGINE_MAX_WORKERS - 1, ENGINE_MAX_CLAIM, &other));
    assert_at("a", ENGINE_MAX_WORKERS - 1, ENGINE_MAX_CLAIM);
    ck_assert(claim("b", 0, 0, &other));
    assert_at("b", 0, 0);
}
END_TEST

START_TEST(ids_may_hold_any_bytes_and_be_empty)
{
    struct engine_claim other, c;
    ck_assert(ops->claim(e, "a\0b", 3, (struct engine_claim){1, 1}, &other));
    ck_assert(ops->claim(e, "a\0c", 3, (struct engine_claim){2, 2}, &other));
    ck_assert_uint_eq(other.worker, ENGINE_NO_WORKER);
    ck_assert(ops->claim(e, "", 0, (struct engine_claim){3, 3}, &other));
    ck_assert(ops->find(e, "a\0b", 3, &c));
    ck_assert_uint_eq(c.worker, 1);
    ck_assert(ops->find(e, "", 0, &c));
    ck_assert_uint_eq(c.worker, 3);
    ck_assert(!ops->find(e, "a", 1, &c));
}
END_TEST

START_TEST(forgetting_a_worker_leaves_the_others)
{
    struct engine_claim other, c;
    char id[32];
    for (unsigned i = 0; i < 30000; i++) {
        snprintf(id, sizeof id, "client-%u", i);
        ck_assert(claim(id, (uint16_t)(i % 3), i, &other));
    }
    ops->forget_worker(e, 1);
    ck_assert_uint_eq(ops->count(e), 20000);
    for (unsigned i = 0; i < 30000; i++) {
        snprintf(id, sizeof id, "client-%u", i);
        ck_assert_int_eq(ops->find(e, id, strlen(id), &c), i % 3 != 1);
    }
    ops->forget_worker(e, 1);
    ops->forget_worker(e, 0);
    ops->forget_worker(e, 2);
    ck_assert_uint_eq(ops->count(e), 0);
}
END_TEST

START_TEST(a_client_costs_a_record_of_20_bytes)
{
    struct engine_claim other;
    char id[32];
    struct pool *p = NULL;
    while ((p = pool_each(p)) && strcmp(pool_name(p), "registry") != 0)
        ;
    ck_assert_ptr_nonnull(p);
    for (unsigned i = 0; i < 100000; i++) {
        snprintf(id, sizeof id, "client-%u", i);
        ck_assert(claim(id, 0, i, &other));
    }
    ck_assert_uint_eq(pool_count(p), 100000);
    ck_assert_uint_le(pool_bytes(p), 100000 * 20 + 100000 / 4 + (256 << 10));
}
END_TEST

START_TEST(a_full_registry_still_lets_clients_in)
{
    struct engine_claim other, c;
    struct engine *small = ops->open("", 2);
    ck_assert(ops->claim(small, "a", 1, (struct engine_claim){0, 1}, &other));
    ck_assert(ops->claim(small, "b", 1, (struct engine_claim){0, 2}, &other));
    ck_assert(ops->claim(small, "c", 1, (struct engine_claim){0, 3}, &other));
    ck_assert_uint_eq(other.worker, ENGINE_NO_WORKER);
    ck_assert(!ops->find(small, "c", 1, &c));
    ck_assert_uint_eq(ops->count(small), 2);
    ops->release(small, "c", 1, (struct engine_claim){0, 3});
    ops->release(small, "a", 1, (struct engine_claim){0, 1});
    ck_assert(ops->claim(small, "c", 1, (struct engine_claim){0, 4}, &other));
    ck_assert(ops->find(small, "c", 1, &c));
    ops->close(small);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, engines_are_found_by_name);
    tcase_add_test(tc, sequence_numbers_grow_and_skip_ahead_over_a_restart);
    tcase_add_test(tc, a_claim_is_found_until_it_is_released);
    tcase_add_test(tc, the_greater_claim_wins_whichever_comes_first);
    tcase_add_test(tc, a_workers_own_latest_claim_stands);
    tcase_add_test(tc, the_release_of_a_replaced_claim_does_nothing);
    tcase_add_test(tc, the_largest_numbers_fit);
    tcase_add_test(tc, ids_may_hold_any_bytes_and_be_empty);
    tcase_add_test(tc, forgetting_a_worker_leaves_the_others);
    tcase_add_test(tc, a_client_costs_a_record_of_20_bytes);
    tcase_add_test(tc, a_full_registry_still_lets_clients_in);
}

UNIT_MAIN("engine_memory")
