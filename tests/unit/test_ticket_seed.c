/*
 * The ratchet of the ticket keys: copies that step on their own stay equal, every step gives something new,
 * and there is no step back.
 */
#include "gateway/base/ticket_seed.h"

#include <openssl/hmac.h>
#include <string.h>

#include "tests/unit/unit.h"

START_TEST(two_gateways_differ)
{
    struct ticket_seed a, b;
    ticket_seed_init(&a, 7);
    ticket_seed_init(&b, 7);
    ck_assert_uint_eq(a.period, 7);
    ck_assert_mem_ne(a.secret, b.secret, TICKET_SEED_LEN);
}
END_TEST

START_TEST(copies_stay_equal_however_they_step)
{
    struct ticket_seed a, b;
    ticket_seed_init(&a, 100);
    b = a;
    for (uint64_t period = 101; period <= 150; period++)
        ticket_seed_advance(&a, period);
    ticket_seed_advance(&b, 120);
    ticket_seed_advance(&b, 150);
    ck_assert_uint_eq(a.period, 150);
    ck_assert_uint_eq(b.period, 150);
    ck_assert_mem_eq(a.secret, b.secret, TICKET_SEED_LEN);
}
END_TEST

START_TEST(every_period_has_another_secret)
{
    struct ticket_seed s;
    uint8_t seen[20][TICKET_SEED_LEN];
    ticket_seed_init(&s, 0);
    for (unsigned i = 0; i < 20; i++) {
        ticket_seed_advance(&s, i);
        memcpy(seen[i], s.secret, TICKET_SEED_LEN);
        for (unsigned k = 0; k < i; k++)
            ck_assert_mem_ne(seen[i], seen[k], TICKET_SEED_LEN);
    }
}
END_TEST

START_TEST(the_present_and_the_past_change_nothing)
{
    struct ticket_seed s, before;
    ticket_seed_init(&s, 10);
    before = s;
    ticket_seed_advance(&s, 10);
    ticket_seed_advance(&s, 9);
    ticket_seed_advance(&s, 0);
    ck_assert_uint_eq(s.period, 10);
    ck_assert_mem_eq(s.secret, before.secret, TICKET_SEED_LEN);
}
END_TEST

/* A worker that is replaced by one of a newer build goes on stepping as the others do. */
START_TEST(a_step_is_hmac_sha256)
{
    struct ticket_seed s, before;
    static const char label[] = "holdfast ticket seed step";
    unsigned char expected[32];
    unsigned len = 0;
    ticket_seed_init(&s, 1);
    before = s;
    ticket_seed_advance(&s, 2);
    ck_assert_ptr_nonnull(HMAC(EVP_sha256(), before.secret, TICKET_SEED_LEN, (const unsigned char *)label,
                               strlen(label), expected, &len));
    ck_assert_mem_eq(s.secret, expected, TICKET_SEED_LEN);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, two_gateways_differ);
    tcase_add_test(tc, copies_stay_equal_however_they_step);
    tcase_add_test(tc, every_period_has_another_secret);
    tcase_add_test(tc, the_present_and_the_past_change_nothing);
    tcase_add_test(tc, a_step_is_hmac_sha256);
}

UNIT_MAIN("ticket_seed")
