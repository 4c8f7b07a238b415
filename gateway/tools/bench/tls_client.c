/*
 * A client's handshake out of OpenSSL, fed with bytes by whoever has the socket, and taken apart when it is
 * done: the traffic secrets come from the key log callback (1.3), the master secret from the session (1.2),
 * the numbers of records from the message callback. Nothing here is measured; the client's own cost of a
 * handshake is OpenSSL's.
 *
 * Without a CA nothing is verified: what the bench measures stands on the same machine, with a certificate
 * made a moment ago. The signature of the handshake is checked by OpenSSL all the same.
 */
#include "gateway/tools/bench/tls_client.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/xmalloc.h"

/* What tls_record can carry on. AES-128 first, as browsers and telephones have it. */
#define SUITES_13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define SUITES_12                                                                                            \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                                             \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                                             \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"

struct tls_client {
    SSL_CTX *ctx;
    char *name; /* NULL: none */
    bool verify;
};

struct tls_handshake {
    SSL *ssl;
    BIO *in, *out;                     /* the SSL's */
    bool sent;                         /* what is in `out` was given away by the last call */
    uint64_t records_read, written;    /* since the keys of application data are in force */
    uint8_t secret[2][TLS_SECRET_MAX]; /* 1.3: client's, server's */
    unsigned secrets;
    bool updated; /* 1.3: a KeyUpdate went by, so that the secrets are of the past */
    char error[160];
};

/* ---- context ---- */

/* Says what OpenSSL holds against a value. */
static bool refuse(const char *what, const char *value)
{
    char why[160];
    ERR_error_string_n(ERR_get_error(), why, sizeof why);
    const char *reason = strrchr(why, ':');
    fprintf(stderr, "tls: %s %s: %s\n", what, value, reason ? reason + 1 : why);
    ERR_clear_error();
    return false;
}

/* Appends a name to a list. */
static void append(char **list, const char *name, size_t len)
{
    char *longer = NULL;
    if (asprintf(&longer, "%s%s%.*s", *list ? *list : "", *list ? ":" : "", (int)len, name) < 0)
        abort();
    free(*list);
    *list = longer;
}

/* Splits the list by version: names of 1.3 begin with TLS_. */
static bool set_ciphers(SSL_CTX *ctx, const char *ciphers)
{
    char *list[2] = {NULL, NULL};
    for (const char *p = ciphers; *p; p += strspn(p, " :")) {
        size_t n = strcspn(p, " :");
        if (n)
            append(&list[strncmp(p, "TLS_", 4) == 0], p, n);
        p += n;
    }
    bool ok = (!list[0] || SSL_CTX_set_cipher_list(ctx, list[0]) == 1) &&
              (!list[1] || SSL_CTX_set_ciphersuites(ctx, list[1]) == 1);
    if (ok && !list[0])
        SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
    if (ok && !list[1])
        SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
    free(list[0]);
    free(list[1]);
    return ok || refuse("ciphers", ciphers);
}

/* Whose turn the line is about is the SSL's application data; the publisher's has none. */
static void keylog_cb(const SSL *ssl, const char *line)
{
    struct tls_handshake *h = SSL_get_app_data(ssl);
    uint8_t secret[TLS_SECRET_MAX];
    size_t len;
    enum tls_keylog_label label = h ? tls_keylog_decode(line, secret, &len) : TLS_KEYLOG_OTHER;
    if (label == TLS_KEYLOG_OTHER)
        return;
    memcpy(h->secret[label == TLS_KEYLOG_SERVER_TRAFFIC], secret, len);
    h->secrets |= label == TLS_KEYLOG_SERVER_TRAFFIC ? 2 : 1;
    tls_wipe(secret, sizeof secret);
}

/* Everything of the options. */
static bool configure(struct tls_client *t, const struct tls_options *o)
{
    SSL_CTX_set_min_proto_version(t->ctx, o->version == 13 ? TLS1_3_VERSION : TLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(t->ctx, o->version == 12 ? TLS1_2_VERSION : TLS1_3_VERSION);
    CHECK(SSL_CTX_set_ciphersuites(t->ctx, SUITES_13) == 1 &&
          SSL_CTX_set_cipher_list(t->ctx, SUITES_12) == 1);
    SSL_CTX_set_mode(t->ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_keylog_callback(t->ctx, keylog_cb);
    SSL_CTX_set_verify(t->ctx, o->ca ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    if (o->ca && SSL_CTX_load_verify_file(t->ctx, o->ca) != 1)
        return refuse("ca", o->ca);
    return !o->ciphers || set_ciphers(t->ctx, o->ciphers);
}

struct tls_client *tls_client_new(const struct tls_options *o)
{
    struct tls_client *t = xcalloc(1, sizeof *t);
    t->ctx = SSL_CTX_new(TLS_client_method());
    CHECK(t->ctx);
    t->verify = o->ca;
    t->name = o->name ? xstrdup(o->name) : NULL;
    if (configure(t, o))
        return t;
    tls_client_free(t);
    return NULL;
}

void tls_client_free(struct tls_client *t)
{
    if (!t)
        return;
    SSL_CTX_free(t->ctx);
    free(t->name);
    free(t);
}

SSL *tls_client_ssl(const struct tls_client *t)
{
    SSL *ssl = SSL_new(t->ctx);
    CHECK(ssl);
    if (t->name)
        SSL_set_tlsext_host_name(ssl, t->name);
    if (t->name && t->verify)
        SSL_set1_host(ssl, t->name);
    SSL_set_connect_state(ssl);
    return ssl;
}

/* ---- handshake ---- */

/* In 1.2 all records after ChangeCipherSpec count, in 1.3 all after Finished. OpenSSL reports a record's
 * header before the message in it. */
static void message_cb(int writing, int version, int type, const void *buf, size_t len, SSL *ssl, void *arg)
{
    struct tls_handshake *h = arg;
    const uint8_t *b = buf;
    uint64_t *records = writing ? &h->written : &h->records_read;
    (void)version;
    if (type == SSL3_RT_HEADER && len >= TLS_HEADER_LEN)
        *records = b[0] == SSL3_RT_CHANGE_CIPHER_SPEC ? 0 : *records + 1;
    if (type == SSL3_RT_HANDSHAKE && len && b[0] == SSL3_MT_FINISHED && SSL_version(ssl) == TLS1_3_VERSION)
        *records = 0;
    if (type == SSL3_RT_HANDSHAKE && len && b[0] == SSL3_MT_KEY_UPDATE)
        h->updated = true;
}

struct tls_handshake *tls_handshake_new(const struct tls_client *t, SSL_SESSION *resume)
{
    struct tls_handshake *h = xcalloc(1, sizeof *h);
    h->ssl = tls_client_ssl(t);
    h->in = BIO_new(BIO_s_mem());
    h->out = BIO_new(BIO_s_mem());
    CHECK(h->in && h->out);
    SSL_set_bio(h->ssl, h->in, h->out);
    SSL_set_app_data(h->ssl, h);
    SSL_set_msg_callback(h->ssl, message_cb);
    SSL_set_msg_callback_arg(h->ssl, h);
    if (resume)
        SSL_set_session(h->ssl, resume);
    return h;
}

/* Without the mark of an orderly end OpenSSL would spoil the session for the next time. */
void tls_handshake_free(struct tls_handshake *h)
{
    if (!h)
        return;
    SSL_set_shutdown(h->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(h->ssl);
    tls_wipe(h, sizeof *h);
    free(h);
}

/* Keeps OpenSSL's reason in words. */
static void note_error(struct tls_handshake *h, const char *what)
{
    unsigned long error = ERR_get_error();
    const char *reason = error ? ERR_reason_error_string(error) : NULL;
    long verify = SSL_get_verify_result(h->ssl);
    snprintf(h->error, sizeof h->error, "%s: %s", what,
             verify != X509_V_OK && SSL_get_verify_mode(h->ssl) != SSL_VERIFY_NONE
                 ? X509_verify_cert_error_string(verify)
             : reason ? reason
                      : "unknown reason");
    ERR_clear_error();
}

/* Empties the output that was given away. */
static void forget_output(struct tls_handshake *h)
{
    if (h->sent)
        (void)BIO_reset(h->out);
    h->sent = false;
}

enum tls_progress tls_handshake_step(struct tls_handshake *h, const char *in, size_t len)
{
    forget_output(h);
    if (len)
        CHECK(BIO_write(h->in, in, (int)len) == (int)len);
    if (SSL_is_init_finished(h->ssl))
        return TLS_HANDSHAKE_DONE;
    int n = SSL_do_handshake(h->ssl);
    if (n == 1)
        return TLS_HANDSHAKE_DONE;
    if (SSL_get_error(h->ssl, n) == SSL_ERROR_WANT_READ)
        return TLS_HANDSHAKE_MORE;
    note_error(h, "TLS handshake");
    return TLS_HANDSHAKE_FAILED;
}

size_t tls_handshake_output(struct tls_handshake *h, const char **out)
{
    char *data = NULL;
    forget_output(h);
    long n = BIO_get_mem_data(h->out, &data);
    h->sent = n > 0;
    *out = data;
    return n > 0 ? (size_t)n : 0;
}

const char *tls_handshake_error(const struct tls_handshake *h) { return h->error; }

bool tls_handshake_resumed(const struct tls_handshake *h) { return SSL_session_reused(h->ssl); }

void tls_handshake_describe(const struct tls_handshake *h, char *out, size_t cap)
{
    X509 *x = SSL_get0_peer_certificate(h->ssl);
    EVP_PKEY *key = x ? X509_get0_pubkey(x) : NULL;
    snprintf(out, cap, "%s %s", SSL_get_version(h->ssl), SSL_get_cipher_name(h->ssl));
    size_t n = strlen(out);
    if (key)
        snprintf(out + n, cap - n, ", certificate with %d bit %s key", EVP_PKEY_get_bits(key),
                 EVP_PKEY_get0_type_name(key));
}

SSL_SESSION *tls_handshake_session(const struct tls_handshake *h)
{
    SSL_SESSION *s = SSL_get1_session(h->ssl);
    if (s && SSL_SESSION_is_resumable(s) && SSL_SESSION_has_ticket(s))
        return s;
    SSL_SESSION_free(s);
    return NULL;
}

/* ---- application data before the handover ---- */

bool tls_handshake_write(struct tls_handshake *h, const char *data, size_t len)
{
    forget_output(h);
    if (SSL_write(h->ssl, data, (int)len) == (int)len)
        return true;
    note_error(h, "TLS write");
    return false;
}

ssize_t tls_handshake_read(struct tls_handshake *h, char *out, size_t cap)
{
    forget_output(h);
    int n = SSL_read(h->ssl, out, cap > INT32_MAX ? INT32_MAX : (int)cap);
    if (n > 0)
        return n;
    int error = SSL_get_error(h->ssl, n);
    if (error == SSL_ERROR_WANT_READ)
        return 0;
    if (error == SSL_ERROR_ZERO_RETURN)
        snprintf(h->error, sizeof h->error, "closed by the server");
    else
        note_error(h, "TLS");
    return -1;
}

void tls_handshake_goodbye(struct tls_handshake *h)
{
    forget_output(h);
    SSL_shutdown(h->ssl);
    ERR_clear_error();
}

/* ---- handover ---- */

enum tls_suite tls_handshake_suite(const struct tls_handshake *h)
{
    return tls_suite_from_iana(SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(h->ssl)));
}

bool tls_handshake_is_between_records(const struct tls_handshake *h) { return !SSL_has_pending(h->ssl); }

bool tls_handshake_hand_over(struct tls_handshake *h, struct tls_crypto *c, struct tls_record *r)
{
    uint8_t master[TLS_MASTER_LEN], randoms[2][TLS_RANDOM_LEN];
    struct tls_handover o = {.suite = tls_handshake_suite(h),
                             .is_client = true,
                             .records_read = h->records_read,
                             .records_written = h->written,
                             .client_secret = h->secret[0],
                             .server_secret = h->secret[1],
                             .master_secret = master,
                             .client_random = randoms[0],
                             .server_random = randoms[1]};
    bool v13 = SSL_version(h->ssl) == TLS1_3_VERSION;
    if (SSL_has_pending(h->ssl) || (v13 && h->secrets != 3) || h->updated)
        return false;
    if (!v13 && SSL_SESSION_get_master_key(SSL_get_session(h->ssl), master, sizeof master) != sizeof master)
        return false;
    SSL_get_client_random(h->ssl, randoms[0], sizeof randoms[0]);
    SSL_get_server_random(h->ssl, randoms[1], sizeof randoms[1]);
    bool ok = tls_record_start(c, r, &o);
    tls_wipe(master, sizeof master);
    return ok;
}

size_t tls_handshake_unread(struct tls_handshake *h, char *out, size_t cap)
{
    int n = BIO_read(h->in, out, cap > INT32_MAX ? INT32_MAX : (int)cap);
    return n > 0 ? (size_t)n : 0;
}
