/*
 * Strings by size class: what goes in comes out, whatever its length and bytes, and classes are close enough.
 */
#include <stdio.h>
#include <string.h>

#include "gateway/base/pool.h"
#include "gateway/base/strpool.h"
#include "tests/unit/unit.h"

/* As ck_assert(), for inner loops: Check notes every assertion it passes in a file. */
#define MUST(expr) ((expr) ? (void)0 : ck_abort_msg("%s", #expr))

/* Fills buf with len bytes that depend on the seed. */
static void fill(char *buf, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++)
        buf[i] = (char)(seed * 31 + i * 7);
}

/* Checks that the handle gives these bytes. */
static void check_is(const struct strpool *s, uint32_t handle, const char *want, size_t want_len)
{
    size_t len;
    const char *got = strpool_get(s, handle, &len);
    MUST(len == want_len);
    MUST(memcmp(got, want, len) == 0);
    MUST(strpool_equals(s, handle, want, want_len));
}

START_TEST(every_length)
{
    static char buf[65535];
    static uint32_t handle[65536];
    struct strpool *s = strpool_new("test", 100000);
    for (size_t len = 0; len <= sizeof buf; len += len < 5000 ? 1 : 997) {
        fill(buf, len, (unsigned)len);
        MUST((handle[len] = strpool_put(s, buf, len)) != 0);
    }
    fill(buf, sizeof buf, 65535);
    ck_assert_uint_ne(handle[65535] = strpool_put(s, buf, 65535), 0);
    for (size_t len = 0; len <= sizeof buf; len++) {
        if (!handle[len])
            continue;
        fill(buf, len, (unsigned)len);
        check_is(s, handle[len], buf, len);
        strpool_release(s, handle[len]);
    }
    for (struct pool *p = pool_each(NULL); p; p = pool_each(p))
        ck_assert_uint_eq(pool_count(p), 0);
    strpool_free(s);
    ck_assert_ptr_null(pool_each(NULL));
}
END_TEST

START_TEST(equality)
{
    struct strpool *s = strpool_new("test", 10);
    uint32_t empty = strpool_put(s, NULL, 0), zero = strpool_put(s, "\0", 1), abc = strpool_put(s, "abc", 3);
    ck_assert(strpool_equals(s, empty, "", 0));
    ck_assert(!strpool_equals(s, empty, "\0", 1));
    ck_assert(strpool_equals(s, zero, "\0", 1));
    ck_assert(strpool_equals(s, abc, "abc", 3));
    ck_assert(!strpool_equals(s, abc, "abd", 3));
    ck_assert(!strpool_equals(s, abc, "ab", 2));
    ck_assert(!strpool_equals(s, abc, "abcd", 4));
    strpool_free(s);
}
END_TEST

START_TEST(full_class_refuses)
{
    struct strpool *s = strpool_new("test", 3);
    uint32_t h = 0;
    for (int i = 0; i < 3; i++)
        ck_assert_uint_ne(h = strpool_put(s, "client", 6), 0);
    ck_assert_uint_eq(strpool_put(s, "other", 5), 0);
    ck_assert_uint_ne(strpool_put(s, "a string of another class", 25), 0);
    strpool_release(s, h);
    ck_assert_uint_ne(strpool_put(s, "other", 5), 0);
    strpool_free(s);
}
END_TEST

START_TEST(short_strings_waste_little)
{
    struct strpool *s = strpool_new("client_ids", 1000);
    char buf[64] = {0};
    for (size_t len = 10; len <= 60; len++) {
        uint32_t h = strpool_put(s, buf, len);
        ck_assert_uint_ne(h, 0);
        struct pool *used = NULL;
        for (struct pool *p = pool_each(NULL); p; p = pool_each(p))
            if (pool_count(p))
                used = p;
        size_t limit = len <= 26 ? len + 5 : (len + 2) * 3 / 2;
        ck_assert_uint_le(pool_record_size(used), limit);
        char want[24];
        snprintf(want, sizeof want, "client_ids:%zu", pool_record_size(used));
        ck_assert_str_eq(pool_name(used), want);
        strpool_release(s, h);
    }
    strpool_free(s);
}
END_TEST

START_TEST(random_against_copies)
{
    enum { N = 500 };
    struct {
        uint32_t handle;
        size_t len;
        unsigned seed;
    } model[N] = {0};
    static char buf[3000];
    struct strpool *s = strpool_new("test", N);
    srandom(3);
    for (int step = 0; step < 50000; step++) {
        int i = (int)(random() % N);
        if (model[i].handle) {
            fill(buf, model[i].len, model[i].seed);
            check_is(s, model[i].handle, buf, model[i].len);
            strpool_release(s, model[i].handle);
            model[i].handle = 0;
            continue;
        }
        model[i].len = (size_t)random() % (random() % 20 ? 40 : sizeof buf);
        model[i].seed = (unsigned)random();
        fill(buf, model[i].len, model[i].seed);
        model[i].handle = strpool_put(s, buf, model[i].len);
        MUST(model[i].handle != 0);
    }
    strpool_free(s);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, every_length);
    tcase_add_test(tc, equality);
    tcase_add_test(tc, full_class_refuses);
    tcase_add_test(tc, short_strings_waste_little);
    tcase_add_test(tc, random_against_copies);
}

UNIT_MAIN("strpool")
