/*
 * Certificates as text: names, kind of key, dates, and what is said as the end comes near.
 */
#include "gateway/supervisor/certificate.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "tests/unit/unit.h"

#define NOON_2026 1795608000 /* 2026-11-25T12:00:00Z */
#define DAY       86400

/* PEM of a self-signed certificate with this common name and, unless NULL, subject alternative name. */
static size_t make_pem(EVP_PKEY *key, const char *cn, const char *san, char *out, size_t size)
{
    X509 *x = X509_new();
    X509_set_version(x, X509_VERSION_3);
    X509_NAME_add_entry_by_NID(X509_get_subject_name(x), NID_commonName, MBSTRING_UTF8, (const void *)cn, -1,
                               -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), DAY);
    X509_set_pubkey(x, key);
    if (san) {
        X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san);
        ck_assert_ptr_nonnull(e);
        X509_add_ext(x, e, -1);
        X509_EXTENSION_free(e);
    }
    ck_assert_int_gt(X509_sign(x, key, EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519 ? NULL : EVP_sha256()),
                     0);
    BIO *bio = BIO_new(BIO_s_mem());
    ck_assert_int_eq(PEM_write_bio_X509(bio, x), 1);
    int n = BIO_read(bio, out, (int)size);
    ck_assert_int_gt(n, 0);
    BIO_free(bio);
    X509_free(x);
    return (size_t)n;
}

/* What is said about a certificate with this key and these names. */
static struct certificate described(EVP_PKEY *key, const char *cn, const char *san)
{
    static char pem[65536];
    struct certificate c = {0};
    size_t len = make_pem(key, cn, san, pem, sizeof pem);
    certificate_describe(&c, pem, len);
    EVP_PKEY_free(key);
    return c;
}

START_TEST(kinds_of_keys)
{
    ck_assert_str_eq(described(EVP_EC_gen("P-256"), "a", NULL).key, "ECDSA P-256");
    ck_assert_str_eq(described(EVP_EC_gen("P-384"), "a", NULL).key, "ECDSA P-384");
    ck_assert_str_eq(described(EVP_RSA_gen(2048), "a", NULL).key, "RSA 2048");
    ck_assert_str_eq(described(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), "a", NULL).key, "ED25519");
}
END_TEST

START_TEST(names)
{
    ck_assert_str_eq(described(EVP_EC_gen("P-256"), "cn.example", NULL).names, "cn.example");
    ck_assert_str_eq(described(EVP_EC_gen("P-256"), "cn.example", "DNS:a.example,DNS:*.b.example").names,
                     "a.example, *.b.example");
    ck_assert_str_eq(
        described(EVP_EC_gen("P-256"), "cn", "IP:192.0.2.1,IP:2001:db8::1,email:x@y,DNS:z").names,
        "192.0.2.1, 2001:db8::1, z");
    ck_assert_str_eq(described(EVP_EC_gen("P-256"), "not a host", NULL).names, "");
}
END_TEST

START_TEST(very_many_names_are_cut)
{
    char san[8192] = "DNS:n0.example";
    for (int i = 1; i < 200; i++)
        sprintf(san + strlen(san), ",DNS:n%d.example", i);
    struct certificate c = described(EVP_EC_gen("P-256"), "cn", san);
    size_t len = strlen(c.names);
    ck_assert_uint_lt(len, sizeof c.names);
    ck_assert_str_eq(c.names + len - 7, "le, ...");
    ck_assert_int_eq(strncmp(c.names, "n0.example, n1.example", 22), 0);
}
END_TEST

START_TEST(what_is_no_certificate)
{
    struct certificate c = {0};
    certificate_describe(&c, "", 0);
    certificate_describe(&c, "garbage", 7);
    certificate_describe(&c, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 60);
    ck_assert_str_eq(c.names, "");
    ck_assert_str_eq(c.key, "");
}
END_TEST

static const struct {
    int64_t begins, left; /* seconds from now */
    int64_t days;
    const char *end;
} dates[] = {
    {-1, 100 * DAY, 100, "expires 2027-03-05T12:00:00Z"},
    {-1, 30 * DAY, 30, "expires 2026-12-25T12:00:00Z"},
    {-1, 30 * DAY - 1, 29, "expires 2026-12-25T11:59:59Z (in 29 days)"},
    {-1, DAY, 1, "expires 2026-11-26T12:00:00Z (in 1 day)"},
    {-1, 1, 0, "expires 2026-11-25T12:00:01Z (in 0 days)"},
    {-1, 0, 0, "expires 2026-11-25T12:00:00Z (in 0 days)"},
    {-1, -1, -1, "EXPIRED 2026-11-25T11:59:59Z"},
    {-1, -DAY - 1, -2, "EXPIRED 2026-11-24T11:59:59Z"},
    {DAY, 100 * DAY, 100, "expires 2027-03-05T12:00:00Z (NOT VALID before 2026-11-26T12:00:00Z)"},
};

START_TEST(the_end_comes_near)
{
    struct certificate c = {.tls = (char *)"main",
                            .path = (char *)"/etc/s.crt",
                            .key = "RSA 2048",
                            .subject = "a",
                            .names = "a, b",
                            .not_before = NOON_2026 + dates[_i].begins,
                            .not_after = NOON_2026 + dates[_i].left};
    char line[1024], expected[1024];
    ck_assert_int_eq(certificate_days_left(&c, NOON_2026), dates[_i].days);
    certificate_line(&c, NOON_2026, line, sizeof line);
    snprintf(expected, sizeof expected, "tls \"main\": /etc/s.crt: a, b, RSA 2048, %s", dates[_i].end);
    ck_assert_str_eq(line, expected);
    certificate_line(&c, NOON_2026, line, 20); /* a short buffer is not overrun */
    ck_assert_uint_lt(strlen(line), 20);
}
END_TEST

static const struct {
    enum tls_dated_kind kind;
    bool is_odd, is_alarming; /* a CA that lacks a CRL, a stray OCSP response */
    int64_t begins, left;     /* seconds from now */
    const char *line;
} others[] = {
    {TLS_DATED_ISSUER, false, false, -1, 100 * DAY,
     "certificate above it, of A, expires 2027-03-05T12:00:00Z"},
    {TLS_DATED_ISSUER, false, true, -1, DAY,
     "certificate above it, of A, expires 2026-11-26T12:00:00Z (in 1 day)"},
    {TLS_DATED_CA, false, true, -1, -1, "CA of clients, A, EXPIRED 2026-11-25T11:59:59Z"},
    {TLS_DATED_CA, true, true, -1, 100 * DAY,
     "CA of clients, A, expires 2027-03-05T12:00:00Z (has NO CRL: its clients are refused)"},
    {TLS_DATED_CRL, false, false, -1, 1, "CRL of A, next update 2026-11-25T12:00:01Z"},
    {TLS_DATED_CRL, false, true, -2, -1, "CRL of A, OUTDATED since 2026-11-25T11:59:59Z"},
    {TLS_DATED_CRL, false, false, -1, INT64_MAX - NOON_2026, "CRL of A, next update not named"},
    {TLS_DATED_OCSP, false, false, -1, DAY, "OCSP response for A, next update 2026-11-26T12:00:00Z"},
    {TLS_DATED_OCSP, false, true, DAY, 2 * DAY,
     "OCSP response for A, next update 2026-11-27T12:00:00Z (NOT VALID before 2026-11-26T12:00:00Z)"},
    {TLS_DATED_OCSP, false, true, -2, -1, "OCSP response for A, OUTDATED since 2026-11-25T11:59:59Z"},
    {TLS_DATED_OCSP, true, true, -1, INT64_MAX - NOON_2026,
     "OCSP response for A, next update not named (is about ANOTHER certificate: not shown to clients)"},
};

START_TEST(what_else_is_dated)
{
    struct certificate c = {.kind = others[_i].kind,
                            .lacks_crl = others[_i].is_odd && others[_i].kind == TLS_DATED_CA,
                            .stray = others[_i].is_odd && others[_i].kind == TLS_DATED_OCSP,
                            .tls = (char *)"main",
                            .path = (char *)"f",
                            .subject = "A",
                            .not_before = NOON_2026 + others[_i].begins,
                            .not_after = NOON_2026 + others[_i].left};
    char line[1024], expected[1024];
    certificate_line(&c, NOON_2026, line, sizeof line);
    snprintf(expected, sizeof expected, "tls \"main\": f: %s", others[_i].line);
    ck_assert_str_eq(line, expected);
    ck_assert_int_eq(certificate_is_alarming(&c, NOON_2026), others[_i].is_alarming);
}
END_TEST

START_TEST(dates_beyond_reason)
{
    char text[CERTIFICATE_TIME];
    certificate_time(253402300799, text); /* the last one that X.509 can say */
    ck_assert_str_eq(text, "9999-12-31T23:59:59Z");
    certificate_time(INT64_MAX, text);
    ck_assert_str_eq(text, "?");
    certificate_time(0, text);
    ck_assert_str_eq(text, "1970-01-01T00:00:00Z");
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, kinds_of_keys);
    tcase_add_test(tc, names);
    tcase_add_test(tc, very_many_names_are_cut);
    tcase_add_test(tc, what_is_no_certificate);
    tcase_add_loop_test(tc, the_end_comes_near, 0, sizeof dates / sizeof dates[0]);
    tcase_add_loop_test(tc, what_else_is_dated, 0, sizeof others / sizeof others[0]);
    tcase_add_test(tc, dates_beyond_reason);
}

UNIT_MAIN("certificate")
