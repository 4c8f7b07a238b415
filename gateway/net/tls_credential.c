/*
 * One server certificate with its chain, key and staple, read from the bundle and checked: a section's
 * credentials are what its SSL_CTXs are filled with. Also what all loading shares: how a file is refused, how
 * PEM is read. Whether OpenSSL finds a key strong enough is seen later, when it is given to an SSL_CTX.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "gateway/base/utf8.h"
#include "gateway/base/xmalloc.h"
#include "gateway/net/tls_context.h"
#include "gateway/net/tls_context_internal.h"

/* ---- shared by all that load ---- */

bool tls_refuse(const struct tls_loader *l, const char *path, const char *format, ...)
{
    char why[512];
    va_list ap;

    va_start(ap, format);
    vsnprintf(why, sizeof why, format, ap);
    va_end(ap);
    ERR_clear_error();
    if (path)
        snprintf(l->error, l->error_size, "%s: %s", path, why);
    else
        snprintf(l->error, l->error_size, "tls \"%s\": %s", l->config->name, why);
    return false;
}

const char *tls_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());

    return reason ? reason : "no reason given";
}

const struct tls_file *tls_loader_file(const struct tls_loader *l, enum tls_file_kind kind, unsigned place)
{
    return tls_bundle_file(l->bundle, kind, l->section, place);
}

int64_t tls_seconds(const ASN1_TIME *t, int64_t otherwise)
{
    struct tm tm;

    return t && ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : otherwise;
}

/* Whether these bytes are UTF-8 without control characters (C0, DEL, C1). */
static bool is_plain_text(const unsigned char *s, size_t len)
{
    for (size_t i = 0, n; i < len; i += n) {
        n = utf8_char_len(s + i, len - i);
        if (!n || s[i] < 0x20 || s[i] == 0x7f || (n == 2 && s[i] == 0xc2 && s[i + 1] < 0xa0))
            return false;
    }
    return true;
}

bool tls_copy_name(const ASN1_STRING *s, char *out, size_t size)
{
    unsigned char *text = NULL;
    int len = ASN1_STRING_to_UTF8(&text, s);
    bool ok = len > 0 && (size_t)len < size && is_plain_text(text, (size_t)len);

    if (ok) {
        memcpy(out, text, (size_t)len);
        out[len] = '\0';
    }
    if (len >= 0)
        OPENSSL_free(text);
    ERR_clear_error();
    return ok;
}

/* ---- PEM ---- */

/* Is asked when a file is encrypted, says so, and gives no passphrase. */
static int passphrase_cb(char *buf, int size, int writing, void *asked)
{
    (void)buf, (void)size, (void)writing;
    *(bool *)asked = true;
    return -1;
}

/* A BIO over the file's bytes, which are not copied. */
static BIO *open_file(const struct tls_file *f) { return BIO_new_mem_buf(f->data, (int)f->len); }

/* Whether the PEM reader stopped because there is nothing more, and not because of what it found. */
static bool at_end(void)
{
    unsigned long e = ERR_peek_last_error();

    return ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;
}

STACK_OF(X509) * tls_read_certificates(const struct tls_loader *l, const struct tls_file *f)
{
    STACK_OF(X509) *all = sk_X509_new_null();
    BIO *in = open_file(f);
    bool asked = false;
    X509 *x;

    ERR_clear_error();
    while (in && all && (x = PEM_read_bio_X509_AUX(in, NULL, passphrase_cb, &asked)))
        if (!sk_X509_push(all, x))
            X509_free(x);
    BIO_free(in);
    int n = sk_X509_num(all);
    if (n > 0 && at_end()) {
        ERR_clear_error();
        return all;
    }
    if (asked)
        tls_refuse(l, f->path, "is encrypted; expected certificates in PEM form");
    else if (at_end())
        tls_refuse(l, f->path, "has no certificate in it; expected certificates in PEM form");
    else
        tls_refuse(l, f->path, "certificate %d cannot be read: %s", n + 1, tls_reason());
    sk_X509_pop_free(all, X509_free);
    return NULL;
}

/* With its first signature a key makes what it computes with from then on: of an RSA key that is its primes
 * once more, which must not lie where core dumps find them. */
static void sign_once(EVP_PKEY *key)
{
    unsigned char signature[1024];
    size_t len = sizeof signature;
    EVP_MD_CTX *m = EVP_MD_CTX_new();

    /* A key that cannot sign is refused later, with a reason. */
    if (m && (EVP_DigestSignInit(m, NULL, EVP_sha256(), NULL, key) == 1 ||
              EVP_DigestSignInit(m, NULL, NULL, NULL, key) == 1))
        (void)EVP_DigestSign(m, signature, &len, (const unsigned char *)"", 0);
    EVP_MD_CTX_free(m);
    ERR_clear_error();
}

/* The private key of a PEM file; NULL: refused. */
static EVP_PKEY *read_key(const struct tls_loader *l, const struct tls_file *f)
{
    BIO *in = open_file(f);
    bool asked = false;

    ERR_clear_error();
    tls_memory_keep_secret(true);
    EVP_PKEY *key = in ? PEM_read_bio_PrivateKey(in, NULL, passphrase_cb, &asked) : NULL;
    if (key)
        sign_once(key);
    tls_memory_keep_secret(false);
    BIO_free(in);
    if (key) {
        ERR_clear_error();
        return key;
    }
    if (asked)
        tls_refuse(l, f->path, "is encrypted; expected a key without passphrase");
    else if (!memmem(f->data, f->len, "PRIVATE KEY-----", 16))
        tls_refuse(l, f->path, "has no private key in it; expected one in PEM form");
    else
        tls_refuse(l, f->path, "its private key cannot be read: %s", tls_reason());
    return NULL;
}

/* ---- checks ---- */

/* The kind of a key as OpenSSL's slots for certificates have it. */
static enum tls_key_kind kind_of(const EVP_PKEY *key)
{
    static const struct {
        int id;
        enum tls_key_kind kind;
    } kinds[] = {
        {EVP_PKEY_RSA, TLS_KEY_RSA},         {EVP_PKEY_RSA_PSS, TLS_KEY_RSA_PSS}, {EVP_PKEY_EC, TLS_KEY_EC},
        {EVP_PKEY_ED25519, TLS_KEY_ED25519}, {EVP_PKEY_ED448, TLS_KEY_ED448},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (EVP_PKEY_get_base_id(key) == kinds[i].id)
            return kinds[i].kind;
    return TLS_KEY_OTHER;
}

/* Whether TLS 1.3 knows the curve (RFC 8446 section 4.2.3). */
static bool curve_is_known(const EVP_PKEY *key)
{
    char name[64];
    size_t len;

    if (EVP_PKEY_get_group_name(key, name, sizeof name, &len) != 1)
        return false;
    int nid = OBJ_sn2nid(name);
    return nid == NID_X9_62_prime256v1 || nid == NID_secp384r1 || nid == NID_secp521r1;
}

/* Checks that each certificate is signed by the next one. */
static bool chain_is_in_order(const struct tls_loader *l, const struct tls_credential *c)
{
    X509 *below = c->leaf;

    for (int i = 0; i < sk_X509_num(c->chain); i++) {
        X509 *above = sk_X509_value(c->chain, i);
        if (X509_check_issued(above, below) != X509_V_OK)
            return tls_refuse(l, c->path,
                              "certificate %d is not the issuer of certificate %d; expected the server's own "
                              "certificate first, then each one's issuer",
                              i + 2, i + 1);
        below = above;
    }
    return true;
}

/* Checks that the key is the leaf's; if it belongs to another certificate of the file, the order is wrong. */
static bool key_matches(const struct tls_loader *l, const struct tls_credential *c, const char *key_path)
{
    if (X509_check_private_key(c->leaf, c->key) == 1)
        return true;
    for (int i = 0; i < sk_X509_num(c->chain); i++)
        if (X509_check_private_key(sk_X509_value(c->chain, i), c->key) == 1)
            return tls_refuse(l, c->path,
                              "the key %s belongs to certificate %d of this file; expected the server's own "
                              "certificate first",
                              key_path, i + 2);
    return tls_refuse(l, key_path, "is not the key of the certificate %s", c->path);
}

/* Checks what a TLS client would refuse anyway. */
static bool leaf_is_usable(const struct tls_loader *l, const struct tls_credential *c)
{
    if (c->kind == TLS_KEY_OTHER) {
        const char *type = EVP_PKEY_get0_type_name(c->key);
        return tls_refuse(l, c->path, "has a key of type %s; expected ECDSA, RSA or Ed25519",
                          type ? type : "unknown");
    }
    if (c->kind == TLS_KEY_EC && !curve_is_known(c->key))
        return tls_refuse(l, c->path, "its curve is not one of TLS; expected P-256, P-384 or P-521");
    if (X509_check_purpose(c->leaf, X509_PURPOSE_SSL_SERVER, 0) != 1)
        return tls_refuse(l, c->path,
                          "its extended key usage does not allow TLS servers; expected serverAuth");
    return true;
}

/* ---- loading ---- */

/* Reads the certificate file: the leaf and the others. */
static bool load_certificates(const struct tls_loader *l, const struct tls_file *f, struct tls_credential *c)
{
    c->chain = tls_read_certificates(l, f);
    if (!c->chain)
        return false;
    c->leaf = sk_X509_shift(c->chain);
    for (int i = 0; i < sk_X509_num(c->chain); i++)
        tls_dated_certificate(l, TLS_DATED_ISSUER, f->path, sk_X509_value(c->chain, i));
    return true;
}

bool tls_credential_load(const struct tls_loader *l, unsigned place, struct tls_credential *c)
{
    const struct tls_file *certificate = tls_loader_file(l, TLS_FILE_CERTIFICATE, place);
    const struct tls_file *key = tls_loader_file(l, TLS_FILE_KEY, place);
    const struct tls_file *ocsp = tls_loader_file(l, TLS_FILE_OCSP, place);

    *c = (struct tls_credential){.path = xstrdup(certificate->path)};
    if (!key)
        return tls_refuse(l, c->path, "has no key; expected as many keys as certificates");
    if (!load_certificates(l, certificate, c))
        return false;
    c->key = read_key(l, key);
    if (!c->key)
        return false;
    c->kind = kind_of(c->key);
    return key_matches(l, c, key->path) && leaf_is_usable(l, c) && chain_is_in_order(l, c) &&
           (!ocsp || tls_staple_load(l, ocsp, c));
}

void tls_credential_clear(struct tls_credential *c)
{
    free(c->path);
    X509_free(c->leaf);
    sk_X509_pop_free(c->chain, X509_free);
    EVP_PKEY_free(c->key);
    OPENSSL_free(c->staple);
    *c = (struct tls_credential){0};
}
