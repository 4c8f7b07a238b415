/*
 * OCSP responses to be stapled (RFC 6066 section 8, RFC 6960): what the operator's tool has fetched is
 * checked once when it is loaded. Whether it is still fresh is for the handshake to see. A stale file is no
 * reason not to start, nor is one that is left over from before the certificate was renewed. Nothing is
 * fetched here.
 */
#include <openssl/err.h>
#include <openssl/ocsp.h>

#include "gateway/net/tls_context_internal.h"

/* The issuer, if it came with the certificate. */
static X509 *issuer_of(const struct tls_credential *c)
{
    if (sk_X509_num(c->chain) > 0)
        return sk_X509_value(c->chain, 0);
    return X509_check_issued(c->leaf, c->leaf) == X509_V_OK ? c->leaf : NULL;
}

/* Whether an entry of a response is about the certificate. Without the issuer only the serial number says. */
static bool is_about(OCSP_SINGLERESP *entry, const struct tls_credential *c)
{
    OCSP_CERTID *id = (OCSP_CERTID *)OCSP_SINGLERESP_get0_id(entry);
    X509 *issuer = issuer_of(c);
    ASN1_OBJECT *digest;
    ASN1_INTEGER *serial;

    OCSP_id_get0_info(NULL, &digest, NULL, &serial, id);
    if (!issuer)
        return ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(c->leaf)) == 0;
    const EVP_MD *md = EVP_get_digestbyobj(digest);
    OCSP_CERTID *ours = md ? OCSP_cert_to_id(md, c->leaf, issuer) : NULL;
    bool same = ours && OCSP_id_cmp(ours, id) == 0;
    OCSP_CERTID_free(ours);
    return same;
}

/* The entry about the certificate, or NULL. */
static OCSP_SINGLERESP *find_entry(OCSP_BASICRESP *basic, const struct tls_credential *c)
{
    for (int i = 0; i < OCSP_resp_count(basic); i++)
        if (is_about(OCSP_resp_get0(basic, i), c))
            return OCSP_resp_get0(basic, i);
    return NULL;
}

/* Whether the issuer, or who acts for it, signed this. When they signed does not matter here. */
static bool is_signed(OCSP_BASICRESP *basic, X509 *issuer)
{
    X509_STORE *store = X509_STORE_new();
    STACK_OF(X509) *untrusted = sk_X509_new_null();
    bool ok = false;

    if (store && untrusted && sk_X509_push(untrusted, issuer) && X509_STORE_add_cert(store, issuer) == 1 &&
        X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_NO_CHECK_TIME) == 1)
        ok = OCSP_basic_verify(basic, untrusted, store, 0) == 1;
    sk_X509_free(untrusted);
    X509_STORE_free(store);
    return ok;
}

/* Checks a well-formed response, and notes until when it may be shown: never if it is about another. */
static bool take_response(const struct tls_loader *l, const struct tls_file *f, OCSP_BASICRESP *basic,
                          struct tls_credential *c)
{
    OCSP_SINGLERESP *entry = find_entry(basic, c);
    ASN1_GENERALIZEDTIME *from, *until;

    if (!entry)
        return true;
    int status = OCSP_single_get0_status(entry, NULL, NULL, &from, &until);
    if (status != V_OCSP_CERTSTATUS_GOOD)
        return tls_refuse(l, f->path, "says that the certificate %s is %s", c->path,
                          OCSP_cert_status_str(status));
    if (issuer_of(c) && !is_signed(basic, issuer_of(c)))
        return tls_refuse(l, f->path, "is not signed by the issuer of the certificate %s: %s", c->path,
                          tls_reason());
    c->staple_from = tls_seconds(from, 0);
    c->staple_until = tls_seconds(until, INT64_MAX);
    return true;
}

bool tls_staple_load(const struct tls_loader *l, const struct tls_file *f, struct tls_credential *c)
{
    const unsigned char *at = f->data;
    OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &at, (long)f->len);
    OCSP_BASICRESP *basic = NULL;
    bool ok = false;

    if (!response || at != f->data + f->len)
        tls_refuse(l, f->path, "is not an OCSP response; expected one in DER form");
    else if (OCSP_response_status(response) != OCSP_RESPONSE_STATUS_SUCCESSFUL)
        tls_refuse(l, f->path, "is the answer of a responder that says \"%s\"",
                   OCSP_response_status_str(OCSP_response_status(response)));
    else if (!(basic = OCSP_response_get1_basic(response)))
        tls_refuse(l, f->path, "is not a basic OCSP response: %s", tls_reason());
    else
        ok = take_response(l, f, basic, c);
    OCSP_BASICRESP_free(basic);
    OCSP_RESPONSE_free(response);
    if (ok)
        tls_dated_staple(l, f->path, c);
    if (ok && c->staple_until) {
        c->staple = OPENSSL_memdup(f->data, f->len);
        c->staple_len = c->staple ? f->len : 0;
    }
    ERR_clear_error();
    return ok;
}
