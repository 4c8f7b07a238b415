/*
 * SipHash-1-3 against values of two other implementations: the one in CPython (key 0) and the one in Rust's
 * standard library (key 00 01 .. 0f).
 */
#include <string.h>

#include "gateway/base/hash.h"
#include "tests/unit/unit.h"

START_TEST(known_values)
{
    static const struct {
        const char *text;
        uint64_t hash;
    } row[] = {{"a", 0x407448d2b89b1813},
               {"news", 0xdf4cb166265252c7},
               {"client-000001", 0xcbd1ec30232d3766},
               {"0123456789abcdef", 0x1d42b30f7e060c24}};
    hash_set_key(0, 0);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        ck_assert_uint_eq(hash_bytes(row[i].text, strlen(row[i].text)), row[i].hash);
    unsigned char count[63];
    for (unsigned char i = 0; i < 63; i++)
        count[i] = i;
    ck_assert_uint_eq(hash_bytes(count, 63), 0x385d3e39e5f37359);
}
END_TEST

START_TEST(known_value_with_a_key)
{
    hash_set_key(0x0706050403020100, 0x0f0e0d0c0b0a0908);
    ck_assert_uint_eq(hash_bytes("", 0), 0xabac0158050fc4dc);
}
END_TEST

START_TEST(a_known_hash_does_not_depend_on_the_key)
{
    hash_init();
    ck_assert_uint_eq(hash_known("news", 4), 0xdf4cb166265252c7);
    ck_assert_uint_ne(hash_known("news", 4), hash_bytes("news", 4));
}
END_TEST

START_TEST(every_bit_and_the_length_count)
{
    unsigned char a[20] = {0};
    hash_init();
    for (size_t len = 1; len <= sizeof a; len++) {
        uint64_t zero = hash_bytes(a, len);
        ck_assert_uint_ne(zero, hash_bytes(a, len - 1));
        for (size_t bit = 0; bit < len * 8; bit++) {
            a[bit / 8] ^= (unsigned char)(1 << bit % 8);
            ck_assert_uint_ne(hash_bytes(a, len), zero);
            a[bit / 8] = 0;
        }
    }
}
END_TEST

START_TEST(keys_differ)
{
    hash_init();
    uint64_t first = hash_bytes("news", 4);
    ck_assert_uint_eq(first, hash_bytes("news", 4));
    hash_init();
    ck_assert_uint_ne(first, hash_bytes("news", 4));
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, known_values);
    tcase_add_test(tc, known_value_with_a_key);
    tcase_add_test(tc, a_known_hash_does_not_depend_on_the_key);
    tcase_add_test(tc, every_bit_and_the_length_count);
    tcase_add_test(tc, keys_differ);
}

UNIT_MAIN("hash")
