/*
 * TLS of the bench's own end: a context for all connections to one target, and handshakes over memory that
 * end in what proto/tls_record carries on. No socket here.
 */
#ifndef HOLDFAST_BENCH_TLS_CLIENT_H
#define HOLDFAST_BENCH_TLS_CLIENT_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/tls_record.h"

/* How a target is spoken to. Strings are owned by whoever made it. */
struct tls_options {
    bool on;
    uint8_t version; /* 12: at most TLS 1.2; 13: TLS 1.3 and nothing older; 0: either */
    char *ciphers;   /* names separated by blanks or colons, of both versions; NULL: the AEAD suites */
    char *ca;        /* PEM file of who may sign the server's certificate; NULL: nothing is verified */
    char *name;      /* sent as SNI, and verified when there is a CA; NULL: none */
};

struct tls_client;

/* NULL: said why on stderr. May be made before a fork. */
struct tls_client *tls_client_new(const struct tls_options *o);
void tls_client_free(struct tls_client *t);

/* A connection about to begin, without BIO, for those who keep OpenSSL all their life. */
SSL *tls_client_ssl(const struct tls_client *t);

/* One handshake of a client: an SSL between two memory BIOs, and what is learnt about it on the way. */
struct tls_handshake;

/* `resume`: a session from before, or NULL. */
struct tls_handshake *tls_handshake_new(const struct tls_client *t, SSL_SESSION *resume);
void tls_handshake_free(struct tls_handshake *h);

enum tls_progress { TLS_HANDSHAKE_MORE, TLS_HANDSHAKE_DONE, TLS_HANDSHAKE_FAILED };

/* Gives it what was received, and goes on as far as that allows. There may be output after any outcome. */
enum tls_progress tls_handshake_step(struct tls_handshake *h, const char *in, size_t len);

/* What is to be sent now: its length, and where it stands until the next call of any of these. */
size_t tls_handshake_output(struct tls_handshake *h, const char **out);

/* Why it failed: static text, or valid until it is freed. */
const char *tls_handshake_error(const struct tls_handshake *h);

/* After DONE: whether the server took the session that was offered. */
bool tls_handshake_resumed(const struct tls_handshake *h);
/* "TLSv1.3 TLS_AES_128_GCM_SHA256, 256 bit EC key" */
void tls_handshake_describe(const struct tls_handshake *h, char *out, size_t cap);
/* The session for the next time, the caller's to free; NULL: there was no ticket (yet). */
SSL_SESSION *tls_handshake_session(const struct tls_handshake *h);

/*
 * After DONE, for those who wait for a ticket before they hand over: application data through OpenSSL.
 * read: bytes, 0 when there is no more now, -1 at the end of the stream.
 */
bool tls_handshake_write(struct tls_handshake *h, const char *data, size_t len);
ssize_t tls_handshake_read(struct tls_handshake *h, char *out, size_t cap);
/* close_notify, as output. */
void tls_handshake_goodbye(struct tls_handshake *h);

/* After DONE: TLS_SUITE_NONE when tls_record cannot carry it on. */
enum tls_suite tls_handshake_suite(const struct tls_handshake *h);
/* Whether OpenSSL holds nothing of a record that has not come whole: it can be handed over now. */
bool tls_handshake_is_between_records(const struct tls_handshake *h);
/* Puts the keys into a zeroed record of that suite. All that was received up to here has been read, but for
 * tls_handshake_unread(). False: OpenSSL gave no secrets, or there was a KeyUpdate already. */
bool tls_handshake_hand_over(struct tls_handshake *h, struct tls_crypto *c, struct tls_record *r);
/* Copies what was received and belongs to records to come. `cap` is at least what the last step got. */
size_t tls_handshake_unread(struct tls_handshake *h, char *out, size_t cap);

#endif
