/*
 * Certificates, CRLs and OCSP responses made for a test, written as files into a folder of its own; and a tls
 * section that names them. For the tests of tls contexts.
 */
#ifndef HOLDFAST_TESTS_TLS_PKI_H
#define HOLDFAST_TESTS_TLS_PKI_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <check.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define DAY 86400

struct pki_cert {
    X509 *x;
    EVP_PKEY *key;
};

/* What a certificate shall be; what is left out is ordinary. */
struct pki_wish {
    const char *cn, *san, *usage;  /* san, usage (extended): as in openssl.cnf; NULL: none */
    EVP_PKEY *key;                 /* NULL: a new P-256 key */
    const struct pki_cert *issuer; /* NULL: itself */
    bool ca;
    long from, until; /* seconds from now; both 0: yesterday to tomorrow */
    const EVP_MD *md;
};

static char pki_folder[64];
static long pki_serial = 1000;

/* A folder for the files; they are removed by pki_clean(). */
static inline void pki_begin(void)
{
    strcpy(pki_folder, "/tmp/holdfast-pki-XXXXXX");
    if (!mkdtemp(pki_folder))
        abort();
}

static inline void pki_clean(void)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf %s", pki_folder);
    if (system(command) != 0)
        abort();
}

/* The path of a file in the folder, in one of a few buffers in turn. */
static inline const char *pki_path(const char *name)
{
    static char paths[16][128];
    static unsigned turn;
    char *path = paths[turn++ % 16];

    snprintf(path, sizeof paths[0], "%s/%s", pki_folder, name);
    return path;
}

static inline void pki_extend(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;

    if (!value)
        return;
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ck_assert_ptr_nonnull(e);
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
}

static inline struct pki_cert pki_make(struct pki_wish w)
{
    struct pki_cert c = {X509_new(), w.key};
    const struct pki_cert *issuer = w.issuer ? w.issuer : &c;

    if (w.key)
        EVP_PKEY_up_ref(w.key);
    else
        c.key = EVP_EC_gen("P-256");
    X509_set_version(c.x, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(c.x), ++pki_serial);
    X509_gmtime_adj(X509_getm_notBefore(c.x), w.from || w.until ? w.from : -DAY);
    X509_gmtime_adj(X509_getm_notAfter(c.x), w.from || w.until ? w.until : DAY);
    X509_set_pubkey(c.x, c.key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(c.x), "O", MBSTRING_UTF8, (const uint8_t *)"Test", -1,
                               -1, 0);
    if (w.cn)
        X509_NAME_add_entry_by_txt(X509_get_subject_name(c.x), "CN", MBSTRING_UTF8, (const uint8_t *)w.cn, -1,
                                   -1, 0);
    X509_set_issuer_name(c.x, X509_get_subject_name(issuer->x));
    pki_extend(c.x, issuer->x, NID_basic_constraints, w.ca ? "critical,CA:TRUE" : "CA:FALSE");
    pki_extend(c.x, issuer->x, NID_subject_key_identifier, "hash");
    pki_extend(c.x, issuer->x, NID_subject_alt_name, w.san);
    pki_extend(c.x, issuer->x, NID_ext_key_usage, w.usage);
    int type = EVP_PKEY_get_base_id(issuer->key);
    const EVP_MD *md = type == EVP_PKEY_ED25519 ? NULL : w.md ? w.md : EVP_sha256();
    ck_assert_int_gt(X509_sign(c.x, issuer->key, md), 0);
    return c;
}

/* ---- files ---- */

static inline void pki_write(const char *name, const void *data, size_t len)
{
    FILE *f = fopen(pki_path(name), "w");

    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, len, f), len);
    fclose(f);
}

static inline void pki_write_text(const char *name, const char *text) { pki_write(name, text, strlen(text)); }

static inline void pki_write_bio(const char *name, BIO *b)
{
    char *data;
    long len = BIO_get_mem_data(b, &data);

    pki_write(name, data, (size_t)len);
    BIO_free(b);
}

/* Certificates one after the other, up to a NULL. */
static inline void pki_write_certs(const char *name, ...)
{
    BIO *b = BIO_new(BIO_s_mem());
    va_list ap;
    X509 *x;

    va_start(ap, name);
    while ((x = va_arg(ap, X509 *)))
        PEM_write_bio_X509(b, x);
    va_end(ap);
    pki_write_bio(name, b);
}

static inline void pki_write_key(const char *name, EVP_PKEY *key)
{
    BIO *b = BIO_new(BIO_s_mem());

    PEM_write_bio_PrivateKey(b, key, NULL, NULL, 0, NULL, NULL);
    pki_write_bio(name, b);
}

/* A CRL of the issuer that revokes `revoked` (NULL: nothing) and is good until `until` seconds from now. */
static inline X509_CRL *pki_crl(const struct pki_cert *issuer, X509 *revoked, long until)
{
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *t = ASN1_TIME_new();

    X509_CRL_set_version(crl, X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer->x));
    X509_CRL_set1_lastUpdate(crl, X509_gmtime_adj(t, -DAY));
    X509_CRL_set1_nextUpdate(crl, X509_gmtime_adj(t, until));
    if (revoked) {
        X509_REVOKED *r = X509_REVOKED_new();
        X509_REVOKED_set_serialNumber(r, X509_get_serialNumber(revoked));
        X509_REVOKED_set_revocationDate(r, X509_gmtime_adj(t, -3600));
        X509_CRL_add0_revoked(crl, r);
    }
    ASN1_TIME_free(t);
    X509_CRL_sort(crl);
    ck_assert_int_gt(X509_CRL_sign(crl, issuer->key, EVP_sha256()), 0);
    return crl;
}

/* Two CRLs in a file; the second may be NULL. */
static inline void pki_write_crls(const char *name, X509_CRL *first, X509_CRL *second)
{
    BIO *b = BIO_new(BIO_s_mem());

    PEM_write_bio_X509_CRL(b, first);
    if (second)
        PEM_write_bio_X509_CRL(b, second);
    X509_CRL_free(first);
    X509_CRL_free(second);
    pki_write_bio(name, b);
}

/* An OCSP response about `subject`, from the key of `signer`, good for `until` seconds from now. */
static inline size_t pki_write_ocsp(const char *name, const struct pki_cert *subject,
                                    const struct pki_cert *issuer, const struct pki_cert *signer, int status,
                                    long until)
{
    OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
    OCSP_CERTID *id = OCSP_cert_to_id(EVP_sha1(), subject->x, issuer->x);
    ASN1_TIME *from = X509_gmtime_adj(NULL, -3600), *to = X509_gmtime_adj(NULL, until);
    ASN1_TIME *when = status == V_OCSP_CERTSTATUS_REVOKED ? from : NULL;
    unsigned char *der = NULL;

    ck_assert_ptr_nonnull(OCSP_basic_add1_status(basic, id, status, 0, when, from, to));
    ck_assert_int_eq(OCSP_basic_sign(basic, signer->x, signer->key, EVP_sha256(), NULL, 0), 1);
    OCSP_RESPONSE *r = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
    int len = i2d_OCSP_RESPONSE(r, &der);
    ck_assert_int_gt(len, 0);
    pki_write(name, der, (size_t)len);
    OPENSSL_free(der);
    OCSP_RESPONSE_free(r);
    OCSP_BASICRESP_free(basic);
    OCSP_CERTID_free(id);
    ASN1_TIME_free(from);
    ASN1_TIME_free(to);
    return (size_t)len;
}

#endif
