/*
 * The hash index against an array: records are numbers, their key is the number itself, and `in` says whether
 * a number is in. One run has a hash that is good, one a hash that puts everything into three buckets.
 */
#include <signal.h>
#include <string.h>

#include "gateway/base/hash.h"
#include "gateway/base/hash_index.h"
#include "tests/unit/unit.h"

/* As ck_assert(), for inner loops: Check notes every assertion it passes in a file. */
#define MUST(expr) ((expr) ? (void)0 : ck_abort_msg("%s", #expr))

#define MAX 200000

struct model {
    uint32_t link[MAX + 1];
    bool in[MAX + 1];
    bool bad_hash;
};

static struct model model;

static uint64_t hash_of(const struct model *m, uint32_t r)
{
    return m->bad_hash ? r % 3 * UINT64_C(0x100000001) : hash_bytes(&r, sizeof r);
}
static uint32_t *model_link(void *ctx, uint32_t r) { return &((struct model *)ctx)->link[r]; }
static uint64_t model_hash(void *ctx, uint32_t r) { return hash_of(ctx, r); }
static bool model_equals(void *ctx, uint32_t r, const void *key, size_t key_len)
{
    (void)ctx;
    return key_len == sizeof r && memcmp(&r, key, sizeof r) == 0;
}
static const struct hash_index_ops model_ops = {model_link, model_hash, model_equals};

static void put(struct hash_index *x, uint32_t r)
{
    hash_index_insert(x, hash_of(&model, r), r);
    model.in[r] = true;
}
static void take(struct hash_index *x, uint32_t r)
{
    hash_index_remove(x, hash_of(&model, r), r);
    MUST(model.link[r] == 0);
    model.in[r] = false;
}
static uint32_t find(struct hash_index *x, uint32_t r)
{
    return hash_index_find(x, hash_of(&model, r), &r, sizeof r);
}

/* Checks that exactly what the model has is found. */
static void check_all(struct hash_index *x, uint32_t max)
{
    uint32_t count = 0;
    for (uint32_t r = 1; r <= max; r++) {
        MUST(find(x, r) == (model.in[r] ? r : 0));
        count += model.in[r];
    }
    ck_assert_uint_eq(hash_index_count(x), count);
}

/* Random insertions and removals, mostly of the one kind in turn, so that it grows and shrinks. */
static void churn(uint32_t max, int steps)
{
    struct hash_index *x = hash_index_new(&model_ops, &model, max);
    for (int phase = 0; phase < 6; phase++) {
        for (int i = 0; i < steps; i++) {
            uint32_t r = (uint32_t)random() % max + 1;
            bool want_in = random() % 10 < (phase & 1 ? 1 : 9);
            if (want_in && !model.in[r])
                put(x, r);
            else if (!want_in && model.in[r])
                take(x, r);
        }
        check_all(x, max);
    }
    hash_index_free(x);
}

START_TEST(random_against_model)
{
    srandom(1);
    churn(20000, 60000);
}
END_TEST

START_TEST(random_with_a_bad_hash)
{
    srandom(2);
    model.bad_hash = true;
    churn(300, 3000);
}
END_TEST

START_TEST(every_size_up_and_down)
{
    enum { N = 1100 };
    struct hash_index *x = hash_index_new(&model_ops, &model, N);
    for (uint32_t r = 1; r <= N; r++) {
        put(x, r);
        for (uint32_t i = 1; i <= N; i += 13)
            MUST(find(x, i) == (model.in[i] ? i : 0));
    }
    check_all(x, N);
    for (uint32_t r = 1; r <= N; r++) {
        take(x, r);
        for (uint32_t i = 1; i <= N; i += 13)
            MUST(find(x, i) == (model.in[i] ? i : 0));
    }
    ck_assert_uint_eq(hash_index_count(x), 0);
    hash_index_free(x);
}
END_TEST

START_TEST(four_bytes_per_record_and_given_back)
{
    struct hash_index *x = hash_index_new(&model_ops, &model, MAX);
    ck_assert_uint_le(hash_index_bytes(x), 4096);
    for (uint32_t r = 1; r <= MAX; r++)
        put(x, r);
    ck_assert_uint_le(hash_index_bytes(x), MAX * 4 + 4096);
    for (uint32_t r = 1; r <= MAX; r++)
        take(x, r);
    ck_assert_uint_le(hash_index_bytes(x), 3 * 16384);
    for (uint32_t r = 1; r <= MAX; r++)
        put(x, r);
    check_all(x, MAX);
    hash_index_free(x);
}
END_TEST

START_TEST(removing_a_stranger_aborts)
{
    struct hash_index *x = hash_index_new(&model_ops, &model, 10);
    put(x, 1);
    hash_index_remove(x, hash_of(&model, 2), 2);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, random_against_model);
    tcase_add_test(tc, random_with_a_bad_hash);
    tcase_add_test(tc, every_size_up_and_down);
    tcase_add_test(tc, four_bytes_per_record_and_given_back);
    tcase_add_test_raise_signal(tc, removing_a_stranger_aborts, SIGABRT);
}

UNIT_MAIN("hash_index")
