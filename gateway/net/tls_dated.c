/*
 * What a section's files hold besides the servers' own certificates that one day is too old: collected while
 * they are loaded, for whoever warns people of it. A handshake looks at the originals.
 */
#include <stdio.h>
#include <stdlib.h>

#include <openssl/x509v3.h>

#include "gateway/base/xmalloc.h"
#include "gateway/net/tls_context_internal.h"

const char *tls_dated_name(enum tls_dated_kind kind)
{
    static const char *const names[TLS_DATED_KINDS] = {[TLS_DATED_SERVER] = "server",
                                                       [TLS_DATED_ISSUER] = "issuer",
                                                       [TLS_DATED_CA] = "client_ca",
                                                       [TLS_DATED_OCSP] = "ocsp",
                                                       [TLS_DATED_CRL] = "crl"};
    return kind < TLS_DATED_KINDS ? names[kind] : "?";
}

/* A new entry; NULL: nobody wants to know, or there are too many. */
static struct tls_dated *add(const struct tls_loader *l, enum tls_dated_kind kind, const char *path)
{
    struct tls_dated_list *list = l->dated;

    if (!list || list->count == TLS_DATED_MAX)
        return NULL;
    list->list = xrealloc(list->list, (list->count + 1) * sizeof *list->list);
    struct tls_dated *d = &list->list[list->count++];
    *d = (struct tls_dated){.kind = kind, .path = xstrdup(path)};
    return d;
}

void tls_dated_certificate(const struct tls_loader *l, enum tls_dated_kind kind, const char *path,
                           const X509 *x)
{
    struct tls_dated *d = add(l, kind, path);

    if (!d)
        return;
    tls_name_text(X509_get_subject_name(x), d->subject, sizeof d->subject);
    d->from = tls_seconds(X509_get0_notBefore(x), 0);
    d->until = tls_seconds(X509_get0_notAfter(x), 0);
}

void tls_dated_crl(const struct tls_loader *l, const char *path, const X509_CRL *crl)
{
    struct tls_dated *d = add(l, TLS_DATED_CRL, path);

    if (!d)
        return;
    tls_name_text(X509_CRL_get_issuer(crl), d->subject, sizeof d->subject);
    d->from = tls_seconds(X509_CRL_get0_lastUpdate(crl), 0);
    d->until = tls_seconds(X509_CRL_get0_nextUpdate(crl), INT64_MAX);
}

void tls_dated_staple(const struct tls_loader *l, const char *path, const struct tls_credential *c)
{
    struct tls_dated *d = add(l, TLS_DATED_OCSP, path);

    if (!d)
        return;
    if (!tls_certificate_name(c->leaf, d->subject, sizeof d->subject))
        snprintf(d->subject, sizeof d->subject, "-");
    d->from = c->staple_from;
    d->stray = c->staple_until == 0;
    d->until = d->stray ? INT64_MAX : c->staple_until;
}

/* Whether one of these was issued by this CA, itself left out. */
static bool has_below(X509 *ca, STACK_OF(X509) * cas)
{
    for (int i = 0; i < sk_X509_num(cas); i++)
        if (sk_X509_value(cas, i) != ca && X509_check_issued(ca, sk_X509_value(cas, i)) == X509_V_OK)
            return true;
    return false;
}

static bool has_crl(X509 *ca, STACK_OF(X509_CRL) * crls)
{
    for (int i = 0; i < sk_X509_CRL_num(crls); i++)
        if (X509_NAME_cmp(X509_CRL_get_issuer(sk_X509_CRL_value(crls, i)), X509_get_subject_name(ca)) == 0)
            return true;
    return false;
}

void tls_dated_look_for_crls(const struct tls_loader *l, STACK_OF(X509) * cas, STACK_OF(X509_CRL) * crls)
{
    int place = 0;

    if (!l->dated || !sk_X509_CRL_num(crls))
        return;
    for (unsigned i = 0; i < l->dated->count; i++) {
        struct tls_dated *d = &l->dated->list[i];
        if (d->kind != TLS_DATED_CA)
            continue;
        X509 *ca = sk_X509_value(cas, place++);
        d->lacks_crl = !has_crl(ca, crls) && !has_below(ca, cas);
    }
}

void tls_dated_clear(struct tls_dated_list *list)
{
    for (unsigned i = 0; i < list->count; i++)
        free(list->list[i].path);
    free(list->list);
    *list = (struct tls_dated_list){0};
}
