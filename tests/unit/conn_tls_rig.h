/*
 * For tests of connections over TLS: a net with one TLS listener and a protocol for tests, and clients that
 * are OpenSSL over memory BIOs, so that the test decides which bytes go together.
 */
#ifndef HOLDFAST_TESTS_CONN_TLS_RIG_H
#define HOLDFAST_TESTS_CONN_TLS_RIG_H

#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <signal.h>

#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/options.h"
#include "gateway/base/xmalloc.h"
#include "gateway/net/conn.h"
#include "gateway/net/tls_context.h"
#include "tests/unit/loop_client.h"

#define LIMIT    (64u << 10)
#define BIG      60000
#define TIMEOUT  5000
#define START_MS 1000000

/* A protocol for tests: packets of two length bytes and that many bytes; each is echoed. "X" closes. */
static struct fixture {
    struct event_base *base;
    struct net *net;
    struct config config;
    struct tls_tickets *tickets;
    struct tls_context *context;
    unsigned opened, packets, closed, rooms;
    enum close_reason reason;
    bool mute;
    bool disconnect; /* the policy for slow consumers; else drop-oldest */
    void (*packet)(uint32_t id, const unsigned char *p, size_t len); /* instead of the echo */
    void (*after)(uint32_t id);                                      /* before input() returns */
    void (*at_opened)(uint32_t id);
} t;

/* One client. */
struct client {
    SSL *ssl;
    BIO *in, *out;
    int fd;
    uint32_t id;
};

static SSL_CTX *client_context;
static SSL_SESSION *session; /* the last ticket */
static EVP_PKEY *server_key; /* made once, before the tests fork */
static char folder[64];

/* ---- server ---- */

static inline void opened(void *ctx, uint32_t id)
{
    struct fixture *f = ctx;
    f->opened++;
    if (f->at_opened)
        f->at_opened(id);
}

static inline size_t take_packets(void *ctx, uint32_t id, const unsigned char *data, size_t len, size_t *need)
{
    struct fixture *f = ctx;
    size_t at = 0;
    while (at < len && !net_is_held(f->net, id)) {
        size_t want = len - at < 2 ? 2 : 2 + ((size_t)data[at] << 8 | data[at + 1]);
        if (len - at < want) {
            *need = want;
            return at;
        }
        f->packets++;
        if (want == 3 && data[at + 2] == 'X') {
            net_close(f->net, id, CLOSE_CLIENT_DISCONNECT);
            return len;
        }
        if (f->packet)
            f->packet(id, data + at, want);
        else if (!f->mute)
            net_send(f->net, id, data + at, want);
        at += want;
    }
    return at;
}

static inline size_t input(void *ctx, uint32_t id, const unsigned char *data, size_t len, size_t *need)
{
    struct fixture *f = ctx;
    size_t used = take_packets(ctx, id, data, len, need);
    if (f->after)
        f->after(id);
    return used;
}

static inline void closed(void *ctx, uint32_t id, enum close_reason reason)
{
    struct fixture *f = ctx;
    (void)id;
    f->closed++;
    f->reason = reason;
}

static inline void room(void *arg) { ((struct fixture *)arg)->rooms++; }

static const struct conn_handler handler = {.opened = opened, .input = input, .closed = closed};

/* An assertion outside of tests. */
static inline void must(bool right)
{
    if (!right)
        abort();
}

/* Writes the self-signed certificate and its key. */
static inline void write_certificate(void)
{
    char path[96];
    X509 *x = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, server_key);
    X509_NAME *name = X509_get_subject_name(x);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1, 0);
    X509_set_issuer_name(x, name);
    must(X509_sign(x, server_key, EVP_sha256()) > 0);
    snprintf(path, sizeof path, "%s/crt", folder);
    FILE *f = fopen(path, "w");
    must(f && PEM_write_X509(f, x) && fclose(f) == 0);
    snprintf(path, sizeof path, "%s/key", folder);
    f = fopen(path, "w");
    must(f && PEM_write_PrivateKey(f, server_key, NULL, NULL, 0, NULL, NULL) && fclose(f) == 0);
    X509_free(x);
}

/* Settings as a configuration file would give them. */
static inline struct config_tls *settings(void)
{
    struct config_tls *s = &t.config.tls[0];
    char path[96];
    memset(&t, 0, sizeof t);
    t.config.tls_sections = 1;
    s->name = xstrdup("main");
    snprintf(path, sizeof path, "%s/crt", folder);
    s->certificate = xstrdup(path);
    snprintf(path, sizeof path, "%s/key", folder);
    s->key = xstrdup(path);
    s->ocsp = xstrdup("");
    s->ciphers = xstrdup("ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE-ECDSA-AES128-SHA256");
    s->ciphersuites = xstrdup("TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256");
    s->groups = xstrdup("X25519:prime256v1");
    s->alpn = xstrdup("");
    s->ca = xstrdup("");
    s->crl = xstrdup("");
    s->session_tickets = true;
    s->parking = true;
    t.config.ticket_keys = xstrdup("");
    t.config.ticket_rotation_ms = 3600000;
    return s;
}

static inline void start(unsigned max_handshakes)
{
    struct net_settings s = {
        .max_connections = 100, .output_limit = LIMIT, .input_limit = 1 << 20, .drop_oldest = !t.disconnect};
    struct ticket_seed seed = {0};
    char error[256] = "";
    clock_fake(START_MS);
    int fd = tls_bundle_make(&t.config, error, sizeof error);
    ck_assert_msg(fd >= 0, "%s", error);
    struct tls_bundle *b = tls_bundle_open(fd);
    t.tickets = tls_tickets_new(&seed, t.config.ticket_rotation_ms);
    ck_assert(tls_tickets_load(t.tickets, b, error, sizeof error));
    t.context = tls_context_new(&t.config, 0, b, t.tickets, -1, error, sizeof error);
    ck_assert_msg(t.context != NULL, "%s", error);
    tls_bundle_close(b);
    close(fd);
    t.base = event_base_new();
    t.net = net_new(t.base, &s, &handler, &t);
    struct net_tls tls = {
        .context = t.context, .max_handshakes = max_handshakes, .handshake_timeout_ms = TIMEOUT};
    net_set_tls(t.net, 0, &tls);
    net_on_room(t.net, 0, room, &t);
}

static inline void finish(void)
{
    static const enum counter gauges[] = {COUNTER_OUTPUT_BYTES,    COUNTER_PARKED,       COUNTER_ACTIVE,
                                          COUNTER_TLS_CONNECTIONS, COUNTER_TLS_UNPARKED, COUNTER_HANDSHAKES};
    for (uint32_t id = 0; (id = net_next(t.net, id));)
        net_close(t.net, id, CLOSE_SHUTDOWN);
    loop_turn(t.base);
    ck_assert_uint_eq(net_count(t.net), 0);
    for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++)
        ck_assert_msg(counter_get(counters_mine, gauges[i]) == 0, "%s", counter_name(gauges[i]));
    net_free(t.net);
    tls_context_free(t.context);
    tls_tickets_free(t.tickets);
    event_base_free(t.base);
    SSL_CTX_free(client_context);
    SSL_SESSION_free(session);
    session = NULL;
    config_free(&t.config);
}

/* ---- client ---- */

static inline int new_session_cb(SSL *ssl, SSL_SESSION *s)
{
    (void)ssl;
    SSL_SESSION_free(session);
    session = s;
    return 1;
}

/* Makes the clients' context, for one version and its ciphers. */
static inline void make_client_context(int version, const char *ciphers)
{
    client_context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(client_context, version);
    SSL_CTX_set_max_proto_version(client_context, version);
    if (version == TLS1_3_VERSION)
        ck_assert_int_eq(SSL_CTX_set_ciphersuites(client_context, ciphers), 1);
    else
        ck_assert_int_eq(SSL_CTX_set_cipher_list(client_context, ciphers), 1);
    SSL_CTX_set_session_cache_mode(client_context, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_sess_set_new_cb(client_context, new_session_cb);
}

/* Sends what the client's SSL has written. */
static inline void flush(struct client *c)
{
    char buf[65536];
    int n;
    while ((n = BIO_read(c->out, buf, sizeof buf)) > 0)
        client_send(c->fd, buf, (size_t)n);
}

/* Gives the client's SSL what has come. False: nothing. */
static inline bool fetch(struct client *c)
{
    char buf[65536];
    ssize_t n = recv(c->fd, buf, sizeof buf, 0);
    if (n > 0)
        BIO_write(c->in, buf, (int)n);
    return n > 0;
}

static inline void join_quietly(struct client *c)
{
    int fd[2];
    loop_pair(fd);
    *c = (struct client){.fd = fd[1], .ssl = SSL_new(client_context)};
    c->in = BIO_new(BIO_s_mem());
    c->out = BIO_new(BIO_s_mem());
    SSL_set_bio(c->ssl, c->in, c->out);
    SSL_set_connect_state(c->ssl);
    c->id = net_adopt(t.net, fd[0], 0);
    ck_assert_uint_ne(c->id, 0);
}

/* One step of the client's handshake, and the server's answer. True: done. */
static inline bool shake(struct client *c)
{
    int done = SSL_do_handshake(c->ssl);
    if (done != 1)
        flush(c);
    loop_turn(t.base);
    fetch(c);
    return done == 1;
}

/* The whole handshake but for the client's last flight, which waits in c->out. */
static inline void shake_hands(struct client *c)
{
    for (int i = 0; i < 10; i++)
        if (shake(c))
            return;
    ck_abort_msg("no handshake");
}

static inline void join(struct client *c)
{
    join_quietly(c);
    shake_hands(c);
    flush(c);
    loop_turn(t.base);
    fetch(c);
}

static inline void leave(struct client *c)
{
    SSL_set_shutdown(c->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* or its session were bad */
    SSL_free(c->ssl);
    close(c->fd);
}

static inline enum conn_state state(const struct client *c) { return net_conn(t.net, c->id)->state; }

/* Seals a packet of len bytes without sending it. */
static inline void write_packet(struct client *c, size_t len, char fill)
{
    unsigned char p[2 + BIG];
    p[0] = (unsigned char)(len >> 8);
    p[1] = (unsigned char)len;
    memset(p + 2, fill, len);
    ck_assert_int_eq(SSL_write(c->ssl, p, (int)(2 + len)), (int)(2 + len));
}

/* Reads exactly len bytes of content, turning the loop while they come. */
static inline void read_exactly(struct client *c, unsigned char *out, size_t len)
{
    size_t have = 0;
    for (int idle = 0; have < len;) {
        int n = SSL_read(c->ssl, out + have, (int)(len - have));
        if (n > 0) {
            have += (size_t)n;
            idle = 0;
            continue;
        }
        ck_assert_int_eq(SSL_get_error(c->ssl, n), SSL_ERROR_WANT_READ);
        flush(c);
        loop_turn(t.base);
        if (!fetch(c))
            ck_assert_int_lt(idle++, 3);
    }
}

/* Whether all bytes are this one. (An assertion for each would take longer than the test.) */
static inline bool all_are(const unsigned char *p, size_t len, int byte)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] != (unsigned char)byte)
            return false;
    return true;
}

static inline void expect_packet(struct client *c, size_t len, char fill)
{
    unsigned char p[2 + BIG] = {0};
    read_exactly(c, p, 2 + len);
    ck_assert_uint_eq((size_t)p[0] << 8 | p[1], len);
    ck_assert(all_are(p + 2, len, fill));
}

static inline void echo(struct client *c, size_t len, char fill)
{
    write_packet(c, len, fill);
    flush(c);
    loop_turn(t.base);
    expect_packet(c, len, fill);
}

/* The fatal alert that the client's SSL has been sent, or -1. */
static int alert_seen;
static inline void info_cb(const SSL *ssl, int where, int value)
{
    (void)ssl;
    if (where == SSL_CB_READ_ALERT)
        alert_seen = value & 0xFF;
}

/* ---- every suite ---- */

static const struct {
    int version;
    const char *ciphers, *text;
    bool parks;
} suites[] = {
    {TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", "TLS 1.3 AES-128-GCM", true},
    {TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384", "TLS 1.3 AES-256-GCM", true},
    {TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256", "TLS 1.3 ChaCha20-Poly1305", true},
    {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", "TLS 1.2 AES-128-GCM", true},
    {TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384", "TLS 1.2 AES-256-GCM", true},
    {TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305", "TLS 1.2 ChaCha20-Poly1305", true},
    {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA256", "TLSv1.2 ECDHE-ECDSA-AES128-SHA256 (not parked)", false},
};
enum { N_SUITES = sizeof suites / sizeof *suites };

/* A client connected with this suite. */
static inline void begin(struct client *c, int suite, unsigned max_handshakes)
{
    make_client_context(suites[suite].version, suites[suite].ciphers);
    start(max_handshakes);
    join(c);
    ck_assert_int_eq(state(c), suites[suite].parks ? CONN_PARKED : CONN_ACTIVE);
    ck_assert_uint_eq(t.opened, 1);
}

/* A frame that is a packet. */
static inline struct frame *packet_frame(size_t len, char fill)
{
    struct frame *f = frame_new(2 + len);
    f->data[0] = (unsigned char)(len >> 8);
    f->data[1] = (unsigned char)len;
    memset(f->data + 2, fill, len);
    return f;
}

/* Makes what the tests share before they fork. */
static inline void make_shared(void)
{
    static bool made;
    if (made)
        return;
    made = true;
    signal(SIGPIPE,
           SIG_IGN); /* OpenSSL's socket BIO writes without MSG_NOSIGNAL; the worker ignores it too */
    tls_context_setup();
    server_key = EVP_EC_gen("P-256");
    snprintf(folder, sizeof folder, "/tmp/holdfast-conn-tls-XXXXXX");
    if (!mkdtemp(folder))
        abort();
    write_certificate();
}

static inline void remove_shared(void)
{
    char path[96];
    snprintf(path, sizeof path, "%s/crt", folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/key", folder);
    unlink(path);
    rmdir(folder);
}

#endif
