/*
 * Contexts made from files as the gateway makes them, and OpenSSL's client to shake hands with them over
 * memory.
 */
#ifndef HOLDFAST_TESTS_TLS_SHAKE_H
#define HOLDFAST_TESTS_TLS_SHAKE_H

#include "gateway/net/tls_context.h"

#include <string.h>
#include <unistd.h>

#include <openssl/err.h>

#include "tests/unit/tls_pki.h"

#define ROTATION_MS 3600000

/* ---- the server ---- */

static struct config conf; /* with a section "main", or more */
static char conf_text[32][256];
static unsigned conf_texts;
static char error[512];
static struct tls_tickets *tickets;

/* Text in a buffer of its own: the folder's files, by name, as a list. */
static inline char *in_folder(const char *names)
{
    char *out = conf_text[conf_texts++ % 32], *at = out, copy[128];

    *out = '\0';
    snprintf(copy, sizeof copy, "%s", names);
    for (char *s = copy, *name; (name = strsep(&s, " "));)
        if (*name)
            at += sprintf(at, "%s%s", at == out ? "" : "\n", pki_path(name));
    return out;
}

/* An ordinary section with these certificates and keys. */
static inline struct config_tls *set_section(unsigned section, const char *certificates, const char *keys)
{
    static char main_name[] = "main", other_name[] = "other", empty[] = "", alpn[] = "mqtt";
    static char ciphers[] = "ECDHE+AESGCM:ECDHE+CHACHA20", groups[] = "X25519:P-256:P-384";
    static char suites[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

    if (conf.tls_sections <= section)
        conf.tls_sections = section + 1;
    conf.ticket_rotation_ms = ROTATION_MS;
    if (!conf.ticket_keys)
        conf.ticket_keys = empty;
    conf.tls[section] = (struct config_tls){
        .name = section ? other_name : main_name,
        .certificate = in_folder(certificates),
        .key = in_folder(keys),
        .ocsp = empty,
        .ciphers = ciphers,
        .ciphersuites = suites,
        .groups = groups,
        .alpn = alpn,
        .ca = empty,
        .crl = empty,
        .session_tickets = true,
        .parking = true,
    };
    return &conf.tls[section];
}

/* A bundle of the present configuration. */
static inline struct tls_bundle *open_bundle(void)
{
    int fd = tls_bundle_make(&conf, error, sizeof error);

    ck_assert_msg(fd >= 0, "%s", error);
    struct tls_bundle *b = tls_bundle_open(fd);
    ck_assert_ptr_nonnull(b);
    close(fd);
    return b;
}

/* The context of a section, or NULL with `error` set. The bundle is gone when it is there. */
static inline struct tls_context *try_section(unsigned section)
{
    struct tls_bundle *b = open_bundle();

    memset(error, 0, sizeof error);
    struct tls_context *x = tls_context_new(&conf, section, b, tickets, -1, error, sizeof error);
    ck_assert_int_eq(!x, *error != '\0');
    ck_assert_uint_eq(ERR_peek_error(), 0);
    tls_bundle_close(b);
    return x;
}

static inline struct tls_context *make_section(unsigned section)
{
    struct tls_context *x = try_section(section);

    ck_assert_msg(x != NULL, "%s", error);
    return x;
}

/* ---- the client ---- */

static SSL_CTX *client;
static SSL_SESSION *session; /* the client's last */
static unsigned sessions;    /* how many it got in the last handshake */

struct shake {
    SSL *server, *client;
    bool ok;
    int alert;   /* the fatal one that the client received, or -1 */
    char cn[64]; /* of the certificate that the server showed */
};

static inline int keep_session_cb(SSL *ssl, SSL_SESSION *s)
{
    (void)ssl;
    SSL_SESSION_free(session);
    session = s;
    sessions++;
    return 1;
}

/* Notes an alert that came in. */
static inline void info_cb(const SSL *ssl, int where, int value)
{
    struct shake *s = SSL_get_app_data(ssl);

    if (s && where == SSL_CB_READ_ALERT && value >> 8 == SSL3_AL_FATAL)
        s->alert = value & 0xff;
}

/* A new client that speaks one version, or (0) any; it trusts whatever it is shown. */
static inline void new_client(int version)
{
    SSL_CTX_free(client);
    client = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(client, version);
    SSL_CTX_set_max_proto_version(client, version);
    SSL_CTX_set_session_cache_mode(client, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(client, keep_session_cb);
    SSL_CTX_set_info_callback(client, info_cb);
}

/* Runs both sides until neither can go on, then lets the client read what comes after the handshake. */
static inline void run_shake(struct shake *s)
{
    char buf[256];
    int c = 0, v = 0;

    for (int turn = 0; turn < 20 && (c != 1 || v != 1); turn++) {
        c = c == 1 ? 1 : SSL_do_handshake(s->client);
        if (c != 1 && SSL_get_error(s->client, c) != SSL_ERROR_WANT_READ)
            c = -2;
        v = v == 1 ? 1 : SSL_do_handshake(s->server);
        if (v != 1 && SSL_get_error(s->server, v) != SSL_ERROR_WANT_READ)
            v = -2;
        ERR_clear_error();
    }
    if (c == 1)
        SSL_read(s->client, buf, sizeof buf);
    ERR_clear_error();
    s->ok = c == 1 && v == 1;
}

/* A handshake with what the client asks for: SNI `host` and the session to resume, each may be NULL. The
 * ends stay until end_shake(). */
static inline struct shake *begin_shake(struct tls_context *x, const char *host, SSL_SESSION *resume)
{
    struct shake *s = calloc(1, sizeof *s);
    BIO *up = BIO_new(BIO_s_mem()), *down = BIO_new(BIO_s_mem());

    BIO_set_mem_eof_return(up, -1);
    BIO_set_mem_eof_return(down, -1);
    BIO_up_ref(up);
    BIO_up_ref(down);
    s->alert = -1;
    s->client = SSL_new(client);
    s->server = tls_context_accept(x);
    ck_assert_ptr_nonnull(s->server);
    SSL_set_app_data(s->client, s);
    SSL_set_bio(s->server, up, down);
    SSL_set_bio(s->client, down, up);
    SSL_set_connect_state(s->client);
    if (host)
        SSL_set_tlsext_host_name(s->client, host);
    if (resume)
        SSL_set_session(s->client, resume);
    sessions = 0;
    return s;
}

static inline struct shake *finish_shake(struct shake *s)
{
    run_shake(s);
    X509 *shown = SSL_get0_peer_certificate(s->client);
    if (shown)
        X509_NAME_get_text_by_NID(X509_get_subject_name(shown), NID_commonName, s->cn, sizeof s->cn);
    return s;
}

static inline struct shake *shake(struct tls_context *x, const char *host, SSL_SESSION *resume)
{
    return finish_shake(begin_shake(x, host, resume));
}

static inline void end_shake(struct shake *s)
{
    /* as after an orderly end: OpenSSL would not resume the session of a connection that failed */
    SSL_set_shutdown(s->client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(s->client);
    SSL_free(s->server);
    free(s);
}

/* Whether a handshake succeeds. */
static inline bool shakes(struct tls_context *x, const char *host)
{
    struct shake *s = shake(x, host, NULL);
    bool ok = s->ok;

    end_shake(s);
    return ok;
}

/* Whether the session is resumed (1) or the handshake is a full one (0). `session` is the client's
 * afterwards, `renewed`: it has another ticket. */
static bool renewed;
static inline int resumes(struct tls_context *x, SSL_SESSION *s)
{
    SSL_SESSION *mine = SSL_SESSION_dup(s); /* OpenSSL marks a used one */
    struct shake *h = shake(x, NULL, mine);
    const unsigned char *before = NULL, *after = NULL;
    size_t before_len = 0, after_len = 0;

    ck_assert(h->ok);
    int resumed = SSL_session_reused(h->client);
    ck_assert_int_eq(resumed, SSL_session_reused(h->server));
    SSL_SESSION_free(session);
    session = SSL_get1_session(h->client);
    SSL_SESSION_get0_ticket(s, &before, &before_len);
    SSL_SESSION_get0_ticket(session, &after, &after_len);
    renewed = after_len != before_len || (after_len && memcmp(before, after, after_len) != 0);
    end_shake(h);
    SSL_SESSION_free(mine);
    return resumed;
}

#endif
