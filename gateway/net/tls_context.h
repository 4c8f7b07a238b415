/*
 * The server side of one tls section as OpenSSL wants it: certificates by name (SNI) and kind of key,
 * ciphers, ALPN, client certificates, OCSP staples, tickets. A context is immutable; a reload makes a new
 * one, and the handshakes under way keep the old one alive until they are done.
 */
#ifndef HOLDFAST_NET_TLS_CONTEXT_H
#define HOLDFAST_NET_TLS_CONTEXT_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/config.h"
#include "gateway/base/ticket_seed.h"
#include "gateway/base/tls_bundle.h"

/* Before any other use of OpenSSL, which is CHECKed: private keys live in memory that core dumps leave out,
 * and what OpenSSL frees is wiped. Again, or in a child that was forked afterwards: no effect. */
void tls_context_setup(void);

/*
 * Ticket keys of a worker, shared by its contexts. From the seed, which is copied, or from the file of the
 * bundle if that has one. The keys follow the clock by themselves.
 */
struct tls_tickets;
struct tls_tickets *tls_tickets_new(const struct ticket_seed *seed, uint32_t rotation_ms);
void tls_tickets_free(struct tls_tickets *t);
/* Takes the ticket keys of a bundle (or that it has none). False: they are malformed, `error` says how. */
bool tls_tickets_load(struct tls_tickets *t, const struct tls_bundle *b, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/* While on, all that OpenSSL allocates is left out of core dumps. For the few objects that hold keys for
 * longer than a call. */
void tls_memory_keep_secret(bool on);

struct tls_context;

/* The context of config.tls[section]. NULL: `error` says which file is wrong and why. keylog_fd: where
 * debug_keylog writes, or -1. `t` outlives it and its SSLs; NULL: only to see whether the files are right. */
struct tls_context *tls_context_new(const struct config *c, unsigned section, const struct tls_bundle *b,
                                    struct tls_tickets *t, int keylog_fd, char *error, size_t error_size)
    __attribute__((warn_unused_result));
/* Handshakes and connections under way hold what they need on their own. */
void tls_context_free(struct tls_context *x);

/* A connection about to accept, without BIO, in accept state; it holds the context. NULL: no memory. */
SSL *tls_context_accept(struct tls_context *x);

/* Whether connections of this context may be parked. */
bool tls_context_parks(const struct tls_context *x);

/*
 * Who the verified client certificate says the peer is (CN of the subject, or the first SAN of type dNSName,
 * rfc822Name or URI, as configured), copied to `out` as UTF-8 without control characters; false: no
 * certificate, or no such name, or longer than `size`.
 */
bool tls_context_identity(const struct tls_context *x, SSL *ssl, char *out, size_t size);

/* After a handshake that failed to verify the client's certificate: whose it was, or "-". Valid until the
 * next handshake. */
const char *tls_context_refused_client(const SSL *ssl);

/* The certificates of a context by place, for metrics and log lines. */
struct tls_certificate {
    const char *path;
    char subject[128];             /* first dNSName, or without SAN the CN, or "-" */
    int64_t not_before, not_after; /* seconds since 1970; it is loaded and served whatever they say */
};
unsigned tls_context_certificates(const struct tls_context *x);
void tls_context_certificate(const struct tls_context *x, unsigned place, struct tls_certificate *out);

/*
 * What one day is too old: certificates, and what says whether they are still good. An OCSP response that is
 * outdated is not shown, with an outdated CRL everybody is refused whose CA it is of.
 */
enum tls_dated_kind {
    TLS_DATED_SERVER, /* a server's own certificate: tls_context_certificate() */
    TLS_DATED_ISSUER, /* one that is sent with it */
    TLS_DATED_CA,     /* of clients */
    TLS_DATED_OCSP,
    TLS_DATED_CRL,
    TLS_DATED_KINDS
};
/* As a label: "server", "issuer", "client_ca", "ocsp", "crl". */
const char *tls_dated_name(enum tls_dated_kind kind);

struct tls_dated {
    enum tls_dated_kind kind;
    char *path;          /* as configured */
    char subject[128];   /* whose it is, for people */
    int64_t from, until; /* seconds since 1970; until INT64_MAX: no end is named */
    bool lacks_crl;      /* a CA: there are CRLs, and none of it, so that its clients are refused */
    bool stray;          /* an OCSP response: about another certificate than `subject`, so it is not shown */
};
/* All but the servers' own certificates, of a context that was made without tickets; of others none. Beyond
 * TLS_DATED_MAX they are left out. */
#define TLS_DATED_MAX 4000
unsigned tls_context_dated(const struct tls_context *x);
const struct tls_dated *tls_context_dated_at(const struct tls_context *x, unsigned i);

/* Whether handshake_keylog_cb() hears of the secrets that OpenSSL derives from here on, for all connections
 * of the SSL's present certificate: to be turned on for as long as that SSL works, and off again. */
void tls_context_want_secrets(SSL *ssl, bool on);

/* Writes a line of the key log if the SSL's context was made with debug_keylog. For the handshake's callback.
 */
void tls_context_keylog(const SSL *ssl, const char *line);

/* handshake.c: the key log callback of every SSL_CTX made here. */
void handshake_keylog_cb(const SSL *ssl, const char *line);

#endif
