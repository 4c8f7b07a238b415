/*
 * The server side of a tls section: SSL_CTXs, alike in everything but their certificates, one for each set of
 * certificates that some name is served by; and the callbacks by which OpenSSL asks during a handshake.
 * The worker makes a context out of the bundle at its start and at each reload; the handshake takes SSLs
 * from it. It does no I/O but the key log, and knows no connection.
 *
 * Every SSL that was made here holds a reference, so a context lives until its last handshake (or unparked
 * connection) is gone. All callbacks find it through the SSL, not through the SSL_CTX.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <openssl/err.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/xmalloc.h"
#include "gateway/net/tls_context_internal.h"

#define CONTEXT_MAGIC  0x544C5343 /* "TLSC" */
#define ALPN_MAX       255
#define LIFETIME_MAX_S 604800 /* RFC 8446 section 4.6.1: seven days */

/* An SSL_CTX and the certificates in it, by place. */
struct server {
    uint32_t mask;
    SSL_CTX *ctx;
};

struct tls_context {
    uint32_t magic;
    unsigned refs; /* the owner's, and one for each SSL */
    struct tls_tickets *tickets;
    int keylog_fd; /* -1: no key log */
    bool parks;
    enum client_certificate client_certificate;
    enum tls_identity identity;
    struct tls_credential credentials[TLS_CERTIFICATES_MAX];
    unsigned count;
    struct tls_names names;
    struct server *servers; /* the first is for those who ask for no name that is known */
    unsigned server_count;
    struct tls_peer_rules peers;
    struct tls_dated_list dated;
    unsigned char alpn[ALPN_MAX]; /* as on the wire: each name with its length before it */
    unsigned alpn_len;
};

/* The context of an SSL; NULL: it was not made here. */
static struct tls_context *context_of(const SSL *ssl)
{
    void *x = SSL_get_ex_data(ssl, tls_context_index());

    return x ? CHECK_CAST(x, struct tls_context, CONTEXT_MAGIC) : NULL;
}

/* ---- what OpenSSL asks during a handshake ---- */

/* SNI: exchanges the certificates. What SSL_new() copied (verify mode, session id context, options) stays,
 * and is the same. */
static int server_name_cb(SSL *ssl, int *alert, void *arg)
{
    struct tls_context *x = context_of(ssl);
    const char *host = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    const struct tls_name *name = host ? tls_names_find(&x->names, host) : NULL;

    (void)arg;
    if (!name)
        return SSL_TLSEXT_ERR_NOACK;
    SSL_CTX *ctx = x->servers[name->use].ctx;
    if (ctx == SSL_get_SSL_CTX(ssl) || SSL_set_SSL_CTX(ssl, ctx))
        return SSL_TLSEXT_ERR_OK;
    *alert = SSL_AD_INTERNAL_ERROR;
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* ALPN: the first of our list that the client has; none: alert no_application_protocol (RFC 7301 3.2). */
static int alpn_cb(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                   unsigned in_len, void *arg)
{
    struct tls_context *x = context_of(ssl);
    unsigned char *chosen;

    (void)arg;
    if (SSL_select_next_proto(&chosen, out_len, x->alpn, x->alpn_len, in, in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* OCSP: the staple of the certificate that was chosen, while it is fresh. */
static int staple_cb(SSL *ssl, void *arg)
{
    struct tls_context *x = context_of(ssl);
    const X509 *chosen = SSL_get_certificate(ssl);
    int64_t now = (int64_t)(clock_wall_ms() / 1000);

    (void)arg;
    for (unsigned i = 0; i < x->count; i++) {
        const struct tls_credential *c = &x->credentials[i];
        if (c->leaf != chosen)
            continue;
        if (!c->staple || now < c->staple_from || now > c->staple_until)
            return SSL_TLSEXT_ERR_NOACK;
        unsigned char *copy = OPENSSL_memdup(c->staple, c->staple_len);
        if (!copy)
            return SSL_TLSEXT_ERR_NOACK;
        SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)c->staple_len);
        return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_NOACK;
}

/* Tickets: the key to seal or open with. A resumption of 1.3 always gets a new ticket: one ticket, one use
 * (RFC 8446 appendix C.4). */
static int ticket_key_cb(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *cipher,
                         EVP_MAC_CTX *mac, int sealing)
{
    struct tls_context *x = context_of(ssl);

    if (sealing)
        return tls_tickets_seal(x->tickets, name, iv, cipher, mac);
    int opened = tls_tickets_open(x->tickets, name, iv, cipher, mac);
    return opened == 1 && SSL_version(ssl) == TLS1_3_VERSION ? 2 : opened;
}

/* An opened ticket: OpenSSL does not verify the client's certificate in it again, and each resumption is a
 * new session, so that without this an expired client could go on for ever. */
static SSL_TICKET_RETURN ticket_opened_cb(SSL *ssl, SSL_SESSION *session, const unsigned char *name,
                                          size_t len, SSL_TICKET_STATUS status, void *arg)
{
    (void)name, (void)len, (void)arg;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    if (!tls_peer_still_good(&context_of(ssl)->peers, SSL_SESSION_get0_peer(session)))
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

/* OpenSSL prints each line digit by digit, which costs some 2 microseconds: only those that are asked for,
 * unless all are to be written. */
void tls_context_want_secrets(SSL *ssl, bool on)
{
    if (context_of(ssl)->keylog_fd < 0)
        SSL_CTX_set_keylog_callback(SSL_get_SSL_CTX(ssl), on ? handshake_keylog_cb : NULL);
}

/* One write, so that the lines of several workers do not mix. */
void tls_context_keylog(const SSL *ssl, const char *line)
{
    struct tls_context *x = context_of(ssl);
    struct iovec parts[] = {{(char *)line, strlen(line)}, {"\n", 1}};

    if (x && x->keylog_fd >= 0 && writev(x->keylog_fd, parts, 2) < 0)
        x->keylog_fd = -1;
}

/* ---- settings ---- */

/* Calls one of OpenSSL's setters that take a list as text; "" leaves its default. */
static bool set_list(const struct tls_loader *l, const char *option, const char *value,
                     int (*set)(SSL_CTX *, const char *), SSL_CTX *ctx)
{
    if (!*value || set(ctx, value) == 1)
        return true;
    return tls_refuse(l, NULL, "%s = \"%s\": %s", option, value, tls_reason());
}

/* A macro of OpenSSL as a function. */
static int set_groups(SSL_CTX *ctx, const char *list) { return (int)SSL_CTX_set1_groups_list(ctx, list); }

/* Versions, ciphers, groups. */
static bool set_algorithms(const struct tls_loader *l, SSL_CTX *ctx)
{
    const struct config_tls *c = l->config;
    int least = c->min_version == TLS_MIN_13 ? TLS1_3_VERSION : TLS1_2_VERSION;

    if (SSL_CTX_set_min_proto_version(ctx, least) != 1 ||
        SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) != 1)
        return tls_refuse(l, NULL, "min_version: %s", tls_reason());
    return set_list(l, "ciphers", c->ciphers, SSL_CTX_set_cipher_list, ctx) &&
           set_list(l, "ciphersuites", c->ciphersuites, SSL_CTX_set_ciphersuites, ctx) &&
           set_list(l, "groups", c->groups, set_groups, ctx);
}

/* Options and modes: everything off that is not needed, the memory of idle connections given back. */
static void set_modes(SSL_CTX *ctx)
{
    SSL_CTX_set_options(ctx, SSL_OP_NO_SSLv3 | SSL_OP_NO_TLSv1 | SSL_OP_NO_TLSv1_1 | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 /* for clients that put ChaCha20 first: they lack instructions for AES */
                                 SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              /* chains are as they are in the files, not made up from the clients' CAs */
                              SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_read_ahead(ctx, 0);
    SSL_CTX_set_max_early_data(ctx, 0);
    SSL_CTX_set_dh_auto(ctx, 1); /* or a DHE suite that is asked for could never be agreed on */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
}

/* Stateless tickets, or none. They end with the keys that open them, and OpenSSL is told so. */
static void set_tickets(SSL_CTX *ctx, bool enabled, uint32_t rotation_ms)
{
    uint64_t lifetime = rotation_ms / 1000 * UINT64_C(2);

    if (!enabled) {
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ctx, 0);
        return;
    }
    SSL_CTX_set_num_tickets(ctx, 1);
    SSL_CTX_set_timeout(ctx, lifetime < 1 ? 1 : lifetime > LIFETIME_MAX_S ? LIFETIME_MAX_S : (long)lifetime);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, ticket_key_cb);
    SSL_CTX_set_session_ticket_cb(ctx, NULL, ticket_opened_cb, NULL);
}

/* Brings the list into the form of the wire. */
static bool load_alpn(const struct tls_loader *l, struct tls_context *x)
{
    const char *at = l->config->alpn;

    while (*at) {
        size_t len = strcspn(at, "\n");
        if (!len || len > 255 || x->alpn_len + 1 + len > sizeof x->alpn)
            return tls_refuse(l, NULL, "alpn: expected names of 1 to 255 bytes, %d bytes in all",
                              ALPN_MAX - 1);
        x->alpn[x->alpn_len] = (unsigned char)len;
        memcpy(x->alpn + x->alpn_len + 1, at, len);
        x->alpn_len += 1 + (unsigned)len;
        at += len;
        at += *at == '\n';
    }
    return true;
}

/* ---- SSL_CTXs ---- */

/* Puts in one certificate. Here OpenSSL judges the strength of keys and signatures. */
static bool use_credential(const struct tls_loader *l, SSL_CTX *ctx, const struct tls_credential *c)
{
    if (SSL_CTX_use_cert_and_key(ctx, c->leaf, c->key, c->chain, 1) == 1)
        return true;
    return tls_refuse(l, c->path, "OpenSSL refuses its %d-bit %s key or a signature of its chain: %s",
                      EVP_PKEY_get_bits(c->key), EVP_PKEY_get0_type_name(c->key), tls_reason());
}

/* Everything of an SSL_CTX but its certificates. */
static bool set_up(const struct tls_loader *l, struct tls_context *x, SSL_CTX *ctx, uint32_t rotation_ms)
{
    set_modes(ctx);
    set_tickets(ctx, l->config->session_tickets && x->tickets, rotation_ms);
    SSL_CTX_set_tlsext_servername_callback(ctx, server_name_cb);
    SSL_CTX_set_tlsext_status_cb(ctx, staple_cb);
    if (l->config->debug_keylog)
        SSL_CTX_set_keylog_callback(ctx, handshake_keylog_cb);
    if (x->alpn_len)
        SSL_CTX_set_alpn_select_cb(ctx, alpn_cb, NULL);
    if (!tls_peer_apply(&x->peers, x->client_certificate, ctx))
        return tls_refuse(l, NULL, "client certificates: %s", tls_reason());
    return set_algorithms(l, ctx);
}

/* Makes the SSL_CTX for a set of certificates. False: refused. */
static bool add_server(const struct tls_loader *l, struct tls_context *x, uint32_t mask, uint32_t rotation_ms)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    CHECK(ctx);
    x->servers = xrealloc(x->servers, (x->server_count + 1) * sizeof *x->servers);
    x->servers[x->server_count++] = (struct server){mask, ctx};
    if (!set_up(l, x, ctx, rotation_ms))
        return false;
    for (unsigned i = 0; i < x->count; i++)
        if (mask >> i & 1 && !use_credential(l, ctx, &x->credentials[i]))
            return false;
    return true;
}

/* The place of the SSL_CTX for a set of certificates, which is made if it is new; -1: refused. */
static int server_for(const struct tls_loader *l, struct tls_context *x, uint32_t mask, uint32_t rotation_ms)
{
    for (unsigned i = 0; i < x->server_count; i++)
        if (x->servers[i].mask == mask)
            return (int)i;
    return add_server(l, x, mask, rotation_ms) ? (int)x->server_count - 1 : -1;
}

/* The certificates for those who ask for no name that is known: those of the first one's name or, if it has
 * none, the first of each kind of key. */
static uint32_t default_mask(const struct tls_context *x)
{
    const struct tls_name *first = tls_names_of(&x->names, 0);
    uint32_t mask = 0, kinds = 0;

    if (first)
        return first->mask;
    for (unsigned i = 0; i < x->count; i++) {
        uint32_t kind = UINT32_C(1) << x->credentials[i].kind;
        mask |= kinds & kind ? 0 : UINT32_C(1) << i;
        kinds |= kind;
    }
    return mask;
}

/* Makes all SSL_CTXs, the one of the first certificate first. */
static bool make_servers(const struct tls_loader *l, struct tls_context *x, uint32_t rotation_ms)
{
    tls_names_make(&x->names, x->credentials, x->count);
    uint32_t used = default_mask(x);

    if (server_for(l, x, used, rotation_ms) < 0)
        return false;
    for (unsigned i = 0; i < x->names.count; i++) {
        struct tls_name *name = &x->names.list[i];
        int place = server_for(l, x, name->mask, rotation_ms);
        if (place < 0)
            return false;
        name->use = (unsigned)place;
        used |= name->mask;
    }
    for (unsigned i = 0; i < x->count; i++)
        if (!(used >> i & 1))
            return tls_refuse(
                l, x->credentials[i].path,
                "would never be used: it has no name that no certificate before it has with the "
                "same kind of key");
    return true;
}

/* Reads all certificates. */
static bool load_credentials(const struct tls_loader *l, struct tls_context *x)
{
    const struct tls_file *more;

    while (tls_loader_file(l, TLS_FILE_CERTIFICATE, x->count)) {
        if (x->count == TLS_CERTIFICATES_MAX)
            return tls_refuse(l, NULL, "has more than %d certificates", TLS_CERTIFICATES_MAX);
        unsigned place = x->count++; /* also a half loaded one is to be cleared */
        if (!tls_credential_load(l, place, &x->credentials[place]))
            return false;
    }
    if (!x->count)
        return tls_refuse(l, NULL, "has no certificate");
    if ((more = tls_loader_file(l, TLS_FILE_KEY, x->count)) ||
        (more = tls_loader_file(l, TLS_FILE_OCSP, x->count)))
        return tls_refuse(l, more->path,
                          "belongs to no certificate; expected one for each, in the same order");
    return true;
}

/* ---- the context ---- */

struct tls_context *tls_context_new(const struct config *c, unsigned section, const struct tls_bundle *b,
                                    struct tls_tickets *t, int keylog_fd, char *error, size_t error_size)
{
    CHECK(section < c->tls_sections && tls_context_index() > 0);
    const struct config_tls *config = &c->tls[section];
    struct tls_context *x = xcalloc(1, sizeof *x);
    struct tls_loader l = {config, b, section, error, error_size, t ? NULL : &x->dated};

    x->magic = CONTEXT_MAGIC;
    x->refs = 1;
    x->tickets = t;
    x->keylog_fd = config->debug_keylog ? keylog_fd : -1;
    x->parks = config->parking;
    x->client_certificate = config->client_certificate;
    x->identity = config->identity;
    if (load_alpn(&l, x) && load_credentials(&l, x) && tls_peer_load(&l, &x->peers) &&
        make_servers(&l, x, c->ticket_rotation_ms)) {
        ERR_clear_error();
        return x;
    }
    tls_context_free(x);
    return NULL;
}

void tls_context_free(struct tls_context *x)
{
    if (!x || --x->refs)
        return;
    for (unsigned i = 0; i < x->server_count; i++)
        SSL_CTX_free(x->servers[i].ctx);
    free(x->servers);
    for (unsigned i = 0; i < x->count; i++)
        tls_credential_clear(&x->credentials[i]);
    tls_names_clear(&x->names);
    tls_peer_clear(&x->peers);
    tls_dated_clear(&x->dated);
    x->magic = 0;
    free(x);
}

SSL *tls_context_accept(struct tls_context *x)
{
    SSL *ssl = SSL_new(x->servers[0].ctx);

    if (ssl && SSL_set_ex_data(ssl, tls_context_index(), x) == 1) {
        x->refs++;
        SSL_set_accept_state(ssl);
        return ssl;
    }
    SSL_free(ssl);
    ERR_clear_error();
    return NULL;
}

bool tls_context_parks(const struct tls_context *x) { return x->parks; }

bool tls_context_identity(const struct tls_context *x, SSL *ssl, char *out, size_t size)
{
    return x->client_certificate != CLIENT_CERT_OFF && tls_peer_identity(ssl, x->identity, out, size);
}

unsigned tls_context_certificates(const struct tls_context *x) { return x->count; }

unsigned tls_context_dated(const struct tls_context *x) { return x->dated.count; }

const struct tls_dated *tls_context_dated_at(const struct tls_context *x, unsigned i)
{
    CHECK(i < x->dated.count);
    return &x->dated.list[i];
}

void tls_context_certificate(const struct tls_context *x, unsigned place, struct tls_certificate *out)
{
    CHECK(place < x->count);
    const struct tls_credential *c = &x->credentials[place];

    *out = (struct tls_certificate){
        .path = c->path,
        .not_before = tls_seconds(X509_get0_notBefore(c->leaf), 0),
        .not_after = tls_seconds(X509_get0_notAfter(c->leaf), 0),
    };
    if (!tls_certificate_name(c->leaf, out->subject, sizeof out->subject))
        strcpy(out->subject, "-");
}
