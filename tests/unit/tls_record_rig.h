/*
 * What the tests of the record codec share: two ends of one connection, and what they must make of each
 * other's records.
 */
#ifndef HOLDFAST_TESTS_TLS_RECORD_RIG_H
#define HOLDFAST_TESTS_TLS_RECORD_RIG_H

#include "proto/tls_record.h"

#include <check.h>
#include <string.h>

#include <openssl/err.h>

#include "tests/unit/hex.h"
#include "tests/unit/tls_pair.h"

#define BIG      100000
#define BIG_ROOM (BIG + 8 * 64)

static struct tls_crypto *crypto;
static union tls_end client, server;
static uint8_t wire[BIG_ROOM], plain[BIG];
static struct tls_opened opened;

static inline void start_pair(enum tls_suite suite)
{
    crypto = tls_crypto_new();
    ck_assert_ptr_nonnull(crypto);
    start_end(crypto, &client, suite, true);
    start_end(crypto, &server, suite, false);
    for (size_t i = 0; i < sizeof plain; i++)
        plain[i] = (uint8_t)(i * 31 >> 3);
}

static inline void end_pair(void)
{
    ck_assert_uint_eq(ERR_peek_error(), 0);
    tls_crypto_free(crypto);
}

static inline bool is_13(enum tls_suite suite) { return tls_suites[suite].v13; }

/* Feeds all of `len` bytes of wire to `to`, and requires the `want` bytes of content to come out of it. */
static inline void must_deliver(union tls_end *to, size_t len, const uint8_t *want, size_t want_len)
{
    size_t at = 0, got = 0;

    while (at < len) {
        enum tls_result result = tls_record_open(crypto, &to->r, wire + at, len - at, &opened);
        ck_assert_msg(result == TLS_DATA || result == TLS_CONTROL, "%d: %s", result, opened.why);
        ck_assert_int_eq(opened.alert, TLS_ALERT_NONE);
        at += opened.used;
        if (result == TLS_CONTROL)
            continue;
        ck_assert_uint_ge(want_len - got, opened.len);
        ck_assert_mem_eq(opened.data, want + got, opened.len);
        got += opened.len;
    }
    ck_assert_uint_eq(got, want_len);
}

/* `from` says something to `to`, which understands it. */
static inline void must_talk(union tls_end *from, union tls_end *to, size_t len)
{
    size_t size = tls_record_sealed_size(&from->r, len);
    size_t n = tls_record_seal(crypto, &from->r, plain, len, wire, sizeof wire);

    ck_assert_uint_eq(n, size);
    must_deliver(to, n, plain, len);
}

/* The first record in wire must be found bad with this alert, which can then be sent and arrives; all is
 * wiped. */
static inline void must_be_bad(union tls_end *to, union tls_end *from, size_t len, enum tls_alert alert)
{
    size_t size = tls_record_size(to->r.suite);
    bool early = to->r.failed;

    ck_assert_int_eq(tls_record_open(crypto, &to->r, wire, len, &opened), TLS_BAD);
    ck_assert_msg(opened.alert == alert, "alert %d, expected %d (%s)", opened.alert, alert, opened.why);
    ck_assert_uint_eq(opened.used, 0);
    ck_assert_ptr_nonnull(opened.why);
    ck_assert(!early);

    uint8_t out[TLS_SMALL_MAX];
    ck_assert_uint_eq(tls_record_seal(crypto, &to->r, plain, 1, wire, sizeof wire), 0);
    ck_assert_uint_eq(tls_record_key_update(crypto, &to->r, true, wire, sizeof wire), 0);
    size_t n = tls_record_alert(crypto, &to->r, alert, out, sizeof out);
    ck_assert_uint_gt(n, 0);
    ck_assert(all_zero(to, size));
    if (!from)
        return;
    size = tls_record_size(from->r.suite);
    ck_assert_int_eq(tls_record_open(crypto, &from->r, out, n, &opened), TLS_REFUSED);
    ck_assert_int_eq(opened.alert, alert);
    ck_assert(all_zero(from, size));
}

/* ---- for each suite, or row of a table ---- */

#define ALL_SUITES(tc, test)  tcase_add_loop_test(tc, test, TLS13_AES_128_GCM, TLS_SUITES)
#define SUITES_13(tc, test)   tcase_add_loop_test(tc, test, TLS13_AES_128_GCM, TLS12_AES_128_GCM)
#define SUITES_12(tc, test)   tcase_add_loop_test(tc, test, TLS12_AES_128_GCM, TLS_SUITES)
#define ROWS(tc, test, table) tcase_add_loop_test(tc, test, 0, sizeof table / sizeof *table)

#endif
