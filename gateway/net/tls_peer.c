/*
 * Who may connect with a client certificate: the CAs and CRLs of a section as one store that all its SSL_CTXs
 * share, and a fingerprint of them, by which tickets made under other rules are told apart. OpenSSL verifies;
 * what the name in the certificate may do is not decided here.
 */
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/net/tls_context_internal.h"

#define CHAIN_DEPTH_MAX    8     /* intermediate CAs of a client certificate */
#define CLIENT_CHAIN_BYTES 32768 /* what a client may send as its certificates */

/* ---- CAs ---- */

/* Adds one CA to the store and to the names that clients are told, once each. */
static bool add_ca(struct tls_peer_rules *r, STACK_OF(X509) * cas, X509 *ca)
{
    X509_NAME *subject = X509_get_subject_name(ca);

    if (X509_STORE_add_cert(r->store, ca) != 1 || !X509_up_ref(ca))
        return false;
    if (!sk_X509_push(cas, ca)) {
        X509_free(ca);
        return false;
    }
    for (int i = 0; i < sk_X509_NAME_num(r->cas); i++)
        if (X509_NAME_cmp(sk_X509_NAME_value(r->cas, i), subject) == 0)
            return true;
    X509_NAME *copy = X509_NAME_dup(subject);
    if (copy && sk_X509_NAME_push(r->cas, copy))
        return true;
    X509_NAME_free(copy);
    return false;
}

/* Adds all certificates of one file. */
static bool load_ca_file(const struct tls_loader *l, const struct tls_file *f, struct tls_peer_rules *r,
                         STACK_OF(X509) * cas)
{
    STACK_OF(X509) *found = tls_read_certificates(l, f);
    bool ok = found != NULL;

    for (int i = 0; ok && i < sk_X509_num(found); i++) {
        X509 *ca = sk_X509_value(found, i);
        if (!X509_check_ca(ca))
            ok = tls_refuse(l, f->path, "certificate %d is not one of a CA", i + 1);
        else if (!add_ca(r, cas, ca))
            ok = tls_refuse(l, f->path, "certificate %d cannot be used: %s", i + 1, tls_reason());
        else
            tls_dated_certificate(l, TLS_DATED_CA, f->path, ca);
    }
    sk_X509_pop_free(found, X509_free);
    return ok;
}

/* ---- CRLs ---- */

/* Whether a CRL whose issuer is among the CAs is signed by one of that name. Of other issuers nothing can be
 * said: clients may send intermediate certificates. */
static bool is_signed(X509_CRL *crl, STACK_OF(X509) * cas)
{
    bool known = false;

    for (int i = 0; i < sk_X509_num(cas); i++) {
        X509 *ca = sk_X509_value(cas, i);
        if (X509_NAME_cmp(X509_get_subject_name(ca), X509_CRL_get_issuer(crl)) != 0)
            continue;
        known = true;
        if (X509_CRL_verify(crl, X509_get0_pubkey(ca)) == 1)
            return true;
    }
    return !known;
}

/* Adds one CRL to the store. */
static bool add_crl(const struct tls_loader *l, const char *path, struct tls_peer_rules *r,
                    STACK_OF(X509) * cas, X509_CRL *crl, int number)
{
    if (!is_signed(crl, cas))
        return tls_refuse(l, path, "CRL %d is not signed by the CA that it names", number);
    if (X509_STORE_add_crl(r->store, crl) != 1)
        return tls_refuse(l, path, "CRL %d cannot be used: %s", number, tls_reason());
    int64_t until = tls_seconds(X509_CRL_get0_nextUpdate(crl), INT64_MAX);
    if (until < r->crl_until)
        r->crl_until = until;
    tls_dated_crl(l, path, crl);
    return true;
}

/* Adds all CRLs of a file, and collects them. */
static bool load_crl_file(const struct tls_loader *l, const struct tls_file *f, struct tls_peer_rules *r,
                          STACK_OF(X509) * cas, STACK_OF(X509_CRL) * crls)
{
    BIO *in = BIO_new_mem_buf(f->data, (int)f->len);
    char no_passphrase[] = ""; /* instead of asking on the terminal */
    int count = 0;
    bool ok = in != NULL;
    X509_CRL *crl;

    ERR_clear_error();
    while (ok && (crl = PEM_read_bio_X509_CRL(in, NULL, NULL, no_passphrase))) {
        ok = add_crl(l, f->path, r, cas, crl, ++count);
        if (!sk_X509_CRL_push(crls, crl))
            X509_CRL_free(crl);
    }
    BIO_free(in);
    unsigned long last = ERR_peek_last_error();
    if (ok && ERR_GET_REASON(last) != PEM_R_NO_START_LINE)
        return tls_refuse(l, f->path, "CRL %d cannot be read: %s", count + 1, tls_reason());
    if (ok && !count)
        return tls_refuse(l, f->path, "has no CRL in it; expected one in PEM form");
    ERR_clear_error();
    return ok;
}

/* Whether the CRLs and CAs have what it takes to check this CA: its issuer, and that one's CRL. */
static bool can_check(X509 *ca, STACK_OF(X509) * cas, STACK_OF(X509_CRL) * crls)
{
    X509_NAME *issuer = X509_get_issuer_name(ca);
    bool issuer_known = false, crl_known = false;

    for (int i = 0; i < sk_X509_num(cas); i++)
        issuer_known |= X509_NAME_cmp(X509_get_subject_name(sk_X509_value(cas, i)), issuer) == 0;
    for (int i = 0; i < sk_X509_CRL_num(crls); i++)
        crl_known |= X509_NAME_cmp(X509_CRL_get_issuer(sk_X509_CRL_value(crls, i)), issuer) == 0;
    return issuer_known && crl_known;
}

/*
 * With CRLs, a client's own certificate is always checked: without the CRL of its issuer it is refused. The
 * CAs above are checked too if the files have all that this takes; otherwise it would refuse everybody.
 */
static unsigned long crl_flags(STACK_OF(X509) * cas, STACK_OF(X509_CRL) * crls)
{
    if (!sk_X509_CRL_num(crls))
        return 0;
    for (int i = 0; i < sk_X509_num(cas); i++)
        if (!can_check(sk_X509_value(cas, i), cas, crls))
            return X509_V_FLAG_CRL_CHECK;
    return X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL;
}

/* ---- who the peer is ---- */

/* The last CN of the subject: where there are several, it is the most specific one. */
static bool common_name(X509 *leaf, char *out, size_t size)
{
    const X509_NAME *subject = X509_get_subject_name(leaf);
    int at = -1;

    for (int next = -1; (next = X509_NAME_get_index_by_NID(subject, NID_commonName, next)) >= 0;)
        at = next;
    return at >= 0 && tls_copy_name(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)), out, size);
}

/* The first SAN of a type that is a name. */
static bool alternative_name(X509 *leaf, char *out, size_t size)
{
    GENERAL_NAMES *san = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    bool found = false;

    for (int i = 0; i < sk_GENERAL_NAME_num(san); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(san, i);
        if (g->type != GEN_DNS && g->type != GEN_EMAIL && g->type != GEN_URI)
            continue;
        found = tls_copy_name(g->d.ia5, out, size);
        break;
    }
    GENERAL_NAMES_free(san);
    return found;
}

bool tls_peer_identity(const SSL *ssl, enum tls_identity which, char *out, size_t size)
{
    X509 *leaf = SSL_get0_peer_certificate(ssl);

    if (!leaf || SSL_get_verify_result(ssl) != X509_V_OK)
        return false;
    return which == TLS_IDENTITY_CN ? common_name(leaf, out, size) : alternative_name(leaf, out, size);
}

/* ---- all ---- */

/* Fills the store. */
static bool load_files(const struct tls_loader *l, struct tls_peer_rules *r, STACK_OF(X509) * cas,
                       STACK_OF(X509_CRL) * crls)
{
    const struct tls_file *f;

    for (unsigned i = 0; (f = tls_loader_file(l, TLS_FILE_CA, i)); i++)
        if (!load_ca_file(l, f, r, cas))
            return false;
    if (!sk_X509_num(cas))
        return tls_refuse(l, NULL,
                          "client certificates are asked for, but no CA is given that may sign them");
    for (unsigned i = 0; (f = tls_loader_file(l, TLS_FILE_CRL, i)); i++)
        if (!load_crl_file(l, f, r, cas, crls))
            return false;
    tls_dated_look_for_crls(l, cas, crls);
    /* A CA that is listed is trusted, be it a root or not. */
    X509_STORE_set_flags(r->store, X509_V_FLAG_PARTIAL_CHAIN | crl_flags(cas, crls));
    return true;
}

/* Adds bytes with their length in front, so that two fields never read like two others. */
static void digest_field(EVP_MD_CTX *md, const void *data, size_t len)
{
    uint64_t n = len;

    CHECK(EVP_DigestUpdate(md, &n, sizeof n) == 1 && EVP_DigestUpdate(md, data, len) == 1);
}

/* SHA-256 over the name of the section, whether clients are asked, and the contents of CA and CRL files. */
static void take_fingerprint(const struct tls_loader *l, struct tls_peer_rules *r)
{
    static const enum tls_file_kind kinds[] = {TLS_FILE_CA, TLS_FILE_CRL};
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    const struct tls_file *f;

    CHECK(md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1);
    digest_field(md, l->config->name, strlen(l->config->name));
    digest_field(md, &l->config->client_certificate, sizeof l->config->client_certificate);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        unsigned count = 0;
        for (; (f = tls_loader_file(l, kinds[k], count)); count++)
            digest_field(md, f->data, f->len);
        digest_field(md, &count, sizeof count);
    }
    CHECK(EVP_DigestFinal_ex(md, r->fingerprint, NULL) == 1);
    EVP_MD_CTX_free(md);
}

bool tls_peer_load(const struct tls_loader *l, struct tls_peer_rules *r)
{
    *r = (struct tls_peer_rules){.crl_until = INT64_MAX};
    take_fingerprint(l, r);
    if (l->config->client_certificate == CLIENT_CERT_OFF)
        return true;
    r->store = X509_STORE_new();
    r->cas = sk_X509_NAME_new_null();
    STACK_OF(X509) *cas = sk_X509_new_null();
    STACK_OF(X509_CRL) *crls = sk_X509_CRL_new_null();
    CHECK(r->store && r->cas && cas && crls);
    bool ok = load_files(l, r, cas, crls);
    sk_X509_pop_free(cas, X509_free);
    sk_X509_CRL_pop_free(crls, X509_CRL_free);
    return ok;
}

void tls_peer_clear(struct tls_peer_rules *r)
{
    X509_STORE_free(r->store);
    sk_X509_NAME_pop_free(r->cas, X509_NAME_free);
    *r = (struct tls_peer_rules){0};
}

/* The last one that was refused. OpenSSL keeps a certificate only when it is good, and asks for each chain in
 * one go. */
static struct {
    const SSL *ssl;
    char subject[128];
} refused;

static int verify_cb(int good, X509_STORE_CTX *chain)
{
    X509 *leaf = X509_STORE_CTX_get0_cert(chain);

    if (!good && leaf) {
        refused.ssl = X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx());
        tls_name_text(X509_get_subject_name(leaf), refused.subject, sizeof refused.subject);
    }
    return good;
}

const char *tls_context_refused_client(const SSL *ssl)
{
    /* Nobody may have asked after the last one, and another SSL have its place by now. */
    bool is_this = refused.ssl == ssl && SSL_get_verify_result(ssl) != X509_V_OK;

    refused.ssl = NULL;
    return is_this ? refused.subject : "-";
}

bool tls_peer_apply(const struct tls_peer_rules *r, enum client_certificate mode, SSL_CTX *ctx)
{
    if (SSL_CTX_set_session_id_context(ctx, r->fingerprint, sizeof r->fingerprint) != 1)
        return false;
    if (mode == CLIENT_CERT_OFF)
        return true;
    STACK_OF(X509_NAME) *names = SSL_dup_CA_list(r->cas);
    if (!names)
        return false;
    SSL_CTX_set_client_CA_list(ctx, names);
    SSL_CTX_set1_cert_store(ctx, r->store);
    SSL_CTX_set_verify(ctx,
                       SSL_VERIFY_PEER | (mode == CLIENT_CERT_REQUIRED ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                       verify_cb);
    SSL_CTX_set_verify_depth(ctx, CHAIN_DEPTH_MAX);
    SSL_CTX_set_max_cert_list(ctx, CLIENT_CHAIN_BYTES);
    return true;
}

bool tls_peer_still_good(const struct tls_peer_rules *r, X509 *leaf)
{
    int64_t now = (int64_t)(clock_wall_ms() / 1000);

    return !leaf || (now <= r->crl_until && now <= tls_seconds(X509_get0_notAfter(leaf), 0));
}
