/*
 * Certificates, and what else is dated, as text. credentials.c fills the records from what the TLS contexts
 * say and asks here for what those do not know; nothing is judged but the dates.
 */
#include "gateway/supervisor/certificate.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "gateway/base/log.h"

#define DAY 86400

LOG_EVENT(ev_certificate, "certificate", LOG_LEVEL_INFO);
LOG_EVENT(ev_expires_soon, "certificate_expires_soon", LOG_LEVEL_WARNING);
LOG_EVENT(ev_expired, "certificate_expired", LOG_LEVEL_WARNING);
LOG_EVENT(ev_not_yet, "certificate_not_yet_valid", LOG_LEVEL_WARNING);
LOG_EVENT(ev_crl, "crl_outdated", LOG_LEVEL_WARNING);
LOG_EVENT(ev_no_crl, "ca_without_crl", LOG_LEVEL_WARNING);
LOG_EVENT(ev_ocsp, "ocsp_response_outdated", LOG_LEVEL_WARNING);
LOG_EVENT(ev_stray, "ocsp_response_of_another_certificate", LOG_LEVEL_WARNING);

/* Adds a name to the list; when there is no room, dots once. */
static void add_name(char *list, size_t size, const char *name, size_t len)
{
    size_t used = strlen(list);
    const char *comma = used ? ", " : "";
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] < 0x21 || (unsigned char)name[i] > 0x7E)
            return; /* not a host name */
    if (used + strlen(comma) + len + sizeof ", ..." < size)
        snprintf(list + used, size - used, "%s%.*s", comma, (int)len, name);
    else if (used >= 3 && strcmp(list + used - 3, "...") != 0)
        snprintf(list + used, size - used, ", ...");
}

/* One subject alternative name: a host or an address. */
static void add_general_name(char *list, size_t size, const GENERAL_NAME *name)
{
    int type;
    const ASN1_STRING *value = GENERAL_NAME_get0_value(name, &type);
    char address[INET6_ADDRSTRLEN];
    if (type == GEN_DNS) {
        add_name(list, size, (const char *)ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value));
    } else if (type == GEN_IPADD) {
        int family = ASN1_STRING_length(value) == 4    ? AF_INET
                     : ASN1_STRING_length(value) == 16 ? AF_INET6
                                                       : 0;
        if (family && inet_ntop(family, ASN1_STRING_get0_data(value), address, sizeof address))
            add_name(list, size, address, strlen(address));
    }
}

/* All names of the certificate; the common name only when there are no others (RFC 6125 section 6.4.4). */
static void describe_names(struct certificate *c, X509 *x)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
        add_general_name(c->names, sizeof c->names, sk_GENERAL_NAME_value(names, i));
    GENERAL_NAMES_free(names);
    char cn[256];
    int len = X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, cn, sizeof cn);
    if (!*c->names && len > 0)
        add_name(c->names, sizeof c->names, cn, (size_t)len);
}

/* The kind of key with its size or curve. */
static void describe_key(struct certificate *c, EVP_PKEY *key)
{
    char group[24] = "";
    size_t len;
    const char *type = key ? EVP_PKEY_get0_type_name(key) : NULL;
    if (!type)
        return;
    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_EC) {
        EVP_PKEY_get_group_name(key, group, sizeof group, &len);
        const char *nist = EC_curve_nid2nist(OBJ_sn2nid(group));
        snprintf(c->key, sizeof c->key, "ECDSA %s", nist ? nist : group);
    } else if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA) {
        snprintf(c->key, sizeof c->key, "RSA %d", EVP_PKEY_get_bits(key));
    } else {
        snprintf(c->key, sizeof c->key, "%s", type);
    }
}

void certificate_describe(struct certificate *c, const void *pem, size_t len)
{
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    X509 *x = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    if (x) {
        describe_names(c, x);
        describe_key(c, X509_get0_pubkey(x));
    }
    X509_free(x);
    BIO_free(bio);
}

void certificate_time(int64_t seconds, char out[CERTIFICATE_TIME])
{
    struct tm tm;
    time_t t = seconds;
    if (!gmtime_r(&t, &tm) || strftime(out, CERTIFICATE_TIME, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        snprintf(out, CERTIFICATE_TIME, "?");
}

int64_t certificate_days_left(const struct certificate *c, int64_t now)
{
    int64_t left = c->not_after - now;
    return left >= 0 ? left / DAY : -((-left + DAY - 1) / DAY);
}

/* What is dated by its next update. */
static bool is_update(const struct certificate *c)
{
    return c->kind == TLS_DATED_CRL || c->kind == TLS_DATED_OCSP;
}

bool certificate_is_alarming(const struct certificate *c, int64_t now)
{
    int64_t days = certificate_days_left(c, now);
    return c->lacks_crl || c->stray || days < (is_update(c) ? 0 : CERTIFICATE_EXPIRES_SOON_DAYS) ||
           now < c->not_before;
}

/* What it is and whose. */
static void describe(const struct certificate *c, char *out, size_t size)
{
    static const char *const what[TLS_DATED_KINDS] = {[TLS_DATED_ISSUER] = "certificate above it, of",
                                                      [TLS_DATED_CA] = "CA of clients,",
                                                      [TLS_DATED_OCSP] = "OCSP response for",
                                                      [TLS_DATED_CRL] = "CRL of"};
    if (certificate_is_server(c))
        snprintf(out, size, "%s, %s", *c->names ? c->names : c->subject, c->key);
    else
        snprintf(out, size, "%s %s", what[c->kind], c->subject);
}

/* What its end is called. */
static const char *end_text(const struct certificate *c, bool is_over)
{
    if (is_update(c))
        return is_over ? "OUTDATED since" : "next update";
    return is_over ? "EXPIRED" : "expires";
}

void certificate_line(const struct certificate *c, int64_t now, char *out, size_t size)
{
    char end[CERTIFICATE_TIME], begin[CERTIFICATE_TIME], whose[sizeof c->names + 64];
    int64_t days = certificate_days_left(c, now);
    certificate_time(c->not_before, begin);
    certificate_time(c->not_after, end);
    describe(c, whose, sizeof whose);
    int n = snprintf(out, size, "tls \"%.64s\": %.256s: %s, %s %s", c->tls, c->path, whose,
                     end_text(c, days < 0), c->not_after == INT64_MAX ? "not named" : end);
    if (n < 0 || (size_t)n >= size)
        return;
    if (now < c->not_before)
        snprintf(out + n, size - (size_t)n, " (NOT VALID before %s)", begin);
    else if (c->lacks_crl)
        snprintf(out + n, size - (size_t)n, " (has NO CRL: its clients are refused)");
    else if (c->stray)
        snprintf(out + n, size - (size_t)n, " (is about ANOTHER certificate: not shown to clients)");
    else if (!is_update(c) && days >= 0 && days < CERTIFICATE_EXPIRES_SOON_DAYS)
        snprintf(out + n, size - (size_t)n, " (in %" PRIi64 " day%s)", days, days == 1 ? "" : "s");
}

/* Which line it is. */
static struct log_event *event_of(const struct certificate *c, int64_t now)
{
    int64_t days = certificate_days_left(c, now);
    if (days < 0)
        return c->kind == TLS_DATED_CRL ? &ev_crl : c->kind == TLS_DATED_OCSP ? &ev_ocsp : &ev_expired;
    if (now < c->not_before)
        return &ev_not_yet;
    if (c->lacks_crl)
        return &ev_no_crl;
    if (c->stray)
        return &ev_stray;
    return certificate_is_alarming(c, now) ? &ev_expires_soon : &ev_certificate;
}

void certificate_log(const struct certificate *c, int64_t now)
{
    char end[CERTIFICATE_TIME];
    struct log_event *event = event_of(c, now);
    if (!certificate_is_server(c) && !certificate_is_alarming(c, now))
        return;
    certificate_time(c->not_after, end);
    LOG(*event, LOG_STR("tls", c->tls), LOG_STR("kind", tls_dated_name(c->kind)), LOG_STR("file", c->path),
        LOG_STR("subject", c->subject), LOG_STR("key", *c->key ? c->key : "-"), LOG_STR("expires", end),
        LOG_I64("days", certificate_days_left(c, now)));
}
