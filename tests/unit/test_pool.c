/*
 * Pools against an array of flags: lowest id first, zeroed records, walks, and memory that goes back.
 */
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "gateway/base/pool.h"
#include "gateway/base/region.h"
#include "tests/unit/unit.h"

/* As ck_assert(), for inner loops: Check notes every assertion it passes in a file. */
#define MUST(expr) ((expr) ? (void)0 : ck_abort_msg("%s", #expr))

/* Whether the n bytes at p are all zero. */
static bool all_zero(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

/* Resident pages of the first n records. */
static size_t resident_pages(struct pool *p, size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t pages = n * pool_record_size(p) / page, count = 0;
    unsigned char *vec = malloc(pages);
    ck_assert_int_eq(mincore(pool_at(p, 0), pages * page, vec), 0);
    for (size_t i = 0; i < pages; i++)
        count += vec[i] & 1;
    free(vec);
    return count;
}

START_TEST(lowest_id_first)
{
    struct pool *p = pool_new("test", 20, 1000);
    for (uint32_t i = 1; i <= 1000; i++)
        ck_assert_uint_eq(pool_alloc(p), i);
    ck_assert_uint_eq(pool_alloc(p), 0);
    pool_release(p, 700);
    pool_release(p, 64);
    pool_release(p, 63);
    ck_assert_uint_eq(pool_alloc(p), 63);
    ck_assert_uint_eq(pool_alloc(p), 64);
    ck_assert_uint_eq(pool_alloc(p), 700);
    ck_assert_uint_eq(pool_alloc(p), 0);
    ck_assert_uint_eq(pool_count(p), 1000);
    pool_free(p);
}
END_TEST

START_TEST(records_are_zero_again)
{
    struct pool *p = pool_new("test", 12, 100);
    uint32_t a = pool_alloc(p), b = pool_alloc(p);
    memset(pool_at(p, a), 0xee, 12);
    memset(pool_at(p, b), 0xdd, 12);
    pool_release(p, a);
    ck_assert_uint_eq(pool_alloc(p), a);
    ck_assert(all_zero(pool_at(p, a), 12));
    ck_assert_uint_eq(*(unsigned char *)pool_at(p, b), 0xdd);
    pool_free(p);
}
END_TEST

START_TEST(liveness)
{
    struct pool *p = pool_new("test", 8, 100000);
    ck_assert(!pool_is_live(p, 0));
    ck_assert(!pool_is_live(p, 1));
    ck_assert(!pool_is_live(p, 99999));
    ck_assert(!pool_is_live(p, UINT32_MAX));
    ck_assert_uint_eq(pool_next(p, 0), 0);
    ck_assert_uint_eq(pool_next(p, UINT32_MAX), 0);
    ck_assert_uint_eq(pool_bound(p), 1);
    ck_assert_uint_eq(pool_bytes(p), 0);
    uint32_t id = pool_alloc(p);
    ck_assert(pool_is_live(p, id));
    ck_assert_uint_eq(pool_next(p, 0), id);
    ck_assert_uint_eq(pool_next(p, id), 0);
    ck_assert_uint_eq(pool_bound(p), id + 1);
    pool_release(p, id);
    ck_assert(!pool_is_live(p, id));
    ck_assert_uint_eq(pool_bound(p), 1);
    pool_free(p);
}
END_TEST

START_TEST(double_release_aborts)
{
    struct pool *p = pool_new("test", 8, 10);
    uint32_t id = pool_alloc(p);
    pool_release(p, id);
    pool_release(p, id);
}
END_TEST

/* What the model says the next live id is. */
static uint32_t model_next(const bool *live, uint32_t max, uint32_t after)
{
    for (uint32_t id = after + 1; id <= max; id++)
        if (live[id])
            return id;
    return 0;
}

/* Checks that a live record still carries its id all over, and clears nothing. */
static void check_stamp(struct pool *p, uint32_t id)
{
    const unsigned char *r = pool_at(p, id);
    for (size_t i = 0; i < pool_record_size(p); i++)
        MUST(r[i] == (unsigned char)(id + i));
}

/* Takes a record, which must be the lowest free one and zero, and stamps it. */
static void model_alloc(struct pool *p, bool *live, uint32_t max)
{
    uint32_t want = 1, id = pool_alloc(p);
    while (want <= max && live[want])
        want++;
    MUST(id == (want <= max ? want : 0));
    if (!id)
        return;
    live[id] = true;
    unsigned char *r = pool_at(p, id);
    MUST(all_zero(r, pool_record_size(p)));
    for (size_t i = 0; i < pool_record_size(p); i++)
        r[i] = (unsigned char)(id + i);
}

static const size_t model_sizes[] = {1, 3, 12, 20, 28, 48, 100, 4096, 20000, 65540};

START_TEST(random_against_model)
{
    size_t size = model_sizes[_i];
    uint32_t max = size > 1000 ? 40 : 3000, count = 0;
    bool *live = calloc(max + 2, sizeof *live);
    struct pool *p = pool_new("test", size, max);
    srandom((unsigned)_i + 1);
    for (int phase = 0; phase < 8; phase++) {
        for (uint32_t step = 0; step < max; step++) {
            uint32_t id = (uint32_t)random() % max + 1;
            if (random() % 10 < (phase & 1 ? 2 : 8)) {
                model_alloc(p, live, max);
                count += count < max;
            } else if (live[id]) {
                check_stamp(p, id);
                pool_release(p, id);
                live[id] = false;
                count--;
            }
            MUST(pool_count(p) == count);
            uint32_t after = (uint32_t)random() % (max + 1);
            MUST(pool_next(p, after) == model_next(live, max, after));
        }
        uint32_t highest = 0;
        for (uint32_t id = model_next(live, max, 0); id; id = model_next(live, max, id))
            check_stamp(p, highest = id);
        ck_assert_uint_eq(pool_bound(p), highest + 1);
    }
    pool_free(p);
    free(live);
}
END_TEST

START_TEST(memory_goes_back)
{
    enum { N = 200000 };
    struct pool *p = pool_new("test", 48, 1000000);
    for (uint32_t i = 1; i <= N; i++)
        *(uint32_t *)pool_at(p, pool_alloc(p)) = i;
    ck_assert_uint_ge(resident_pages(p, N), (size_t)N * 48 / 4096 - 1);
    ck_assert_uint_ge(pool_bytes(p), (size_t)N * 48);
    ck_assert_uint_le(pool_bytes(p), (size_t)N * 48 + 65536);
    for (uint32_t i = 1; i <= N; i++)
        if (i != 150000)
            pool_release(p, i);
    /* the survivor's chunk, the one of id 0, and one that is kept */
    ck_assert_uint_le(resident_pages(p, N), 12);
    ck_assert_uint_le(pool_bytes(p), 3 * 16384 + 65536);
    ck_assert_uint_eq(*(uint32_t *)pool_at(p, 150000), 150000);
    ck_assert_uint_eq(pool_next(p, 0), 150000);
    for (uint32_t i = 1; i <= N; i++) {
        uint32_t id = i == 150000 ? i : pool_alloc(p);
        MUST(id == i);
        MUST(*(uint32_t *)pool_at(p, id) == (i == 150000 ? i : 0));
    }
    pool_free(p);
}
END_TEST

START_TEST(small_pool_is_small)
{
    struct pool *p = pool_new("test", 48, 4000000);
    ck_assert_uint_eq(pool_bytes(p), 0);
    ck_assert_uint_ne(pool_alloc(p), 0);
    ck_assert_uint_le(pool_bytes(p), 16384 + 16384);
    pool_free(p);
}
END_TEST

START_TEST(refused_memory_is_an_answer)
{
    struct rlimit saved, none;
    struct pool *p = pool_new("test", 1024, 1000000);
    uint32_t got = 0;
    ck_assert_uint_ne(pool_alloc(p), 0);
    ck_assert_int_eq(getrlimit(RLIMIT_DATA, &saved), 0);
    none = saved;
    none.rlim_cur = 4096; /* less than there is: nothing more */
    setrlimit(RLIMIT_DATA, &none);
    while (got < 1000 && pool_alloc(p))
        got++;
    setrlimit(RLIMIT_DATA, &saved);
    ck_assert_uint_lt(got, 64); /* what the first step had opened */
    ck_assert_uint_eq(pool_alloc(p), got + 2);
    pool_free(p);
}
END_TEST

START_TEST(pools_are_listed)
{
    struct pool *a = pool_new("first", 8, 10), *b = pool_new("second", 16, 10), *c = pool_new("third", 8, 10);
    ck_assert_ptr_eq(pool_each(NULL), a);
    ck_assert_ptr_eq(pool_each(a), b);
    pool_free(b);
    ck_assert_ptr_eq(pool_each(a), c);
    ck_assert_ptr_null(pool_each(c));
    ck_assert_str_eq(pool_name(c), "third");
    ck_assert_uint_eq(pool_record_size(a), 8);
    pool_free(a);
    pool_free(c);
    ck_assert_ptr_null(pool_each(NULL));
}
END_TEST

START_TEST(regions_open_and_give_back)
{
    struct region r;
    region_reserve(&r, 1 << 20);
    ck_assert_uint_eq(r.open, 0);
    ck_assert(region_open(&r, 1));
    ck_assert_uint_eq(r.open, REGION_STEP);
    ck_assert(region_open(&r, 1 << 20));
    ck_assert_uint_eq(r.open, 1 << 20);
    memset(r.base, 1, 1 << 20);
    region_give_back(&r, 5000, 20000); /* whole pages: [8192, 16384) */
    ck_assert_uint_eq(r.base[8191], 1);
    ck_assert_uint_eq(r.base[8192], 0);
    ck_assert_uint_eq(r.base[16383], 0);
    ck_assert_uint_eq(r.base[16384], 1);
    region_free(&r);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, lowest_id_first);
    tcase_add_test(tc, records_are_zero_again);
    tcase_add_test(tc, liveness);
    tcase_add_test_raise_signal(tc, double_release_aborts, SIGABRT);
    tcase_add_loop_test(tc, random_against_model, 0, sizeof model_sizes / sizeof *model_sizes);
    tcase_add_test(tc, memory_goes_back);
    tcase_add_test(tc, small_pool_is_small);
    tcase_add_test(tc, refused_memory_is_an_answer);
    tcase_add_test(tc, pools_are_listed);
    tcase_add_test(tc, regions_open_and_give_back);
}

UNIT_MAIN("pool")
