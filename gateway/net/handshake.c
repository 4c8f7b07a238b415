/*
 * TLS handshakes: from an accepted socket to a parked connection that is nothing but keys.
 *
 * A connection in its handshake stays in the parking set, which calls handshake_ready(). OpenSSL does the
 * handshake, over a BIO whose two ends are what one recv() has brought and what one send() will take: so a
 * flight costs one system call each way, and bytes behind the client's Finished are still ours. When it is
 * done the traffic secrets have come through the key log (TLS 1.2: the session has the master secret), the
 * number of records already written is known, the SSL is freed, and the rest of the input goes the way of
 * every parked connection.
 *
 * What cannot be carried on from keys alone keeps its SSL, on a bufferevent_openssl, and is counted by
 * reason. How much of a turn handshakes may take, parking.c decides.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"
#include "gateway/net/conn_internal.h"
#include "gateway/net/sockets.h"
#include "gateway/net/tls_context.h"

#define IDENTITY_MAX 256
#define SILENCE_MS   1000 /* that a client may take for its first byte while others wait */
#define STACK_USED   (16u << 10)
#define FIRST_OUT    (8u << 10) /* of the buffer for what OpenSSL writes; it grows */

LOG_EVENT(log_handshake_failed, "tls_handshake_failed", LOG_LEVEL_INFO);

/* One handshake under way. Holds secrets. */
struct handshake {
    struct tls_context *context; /* the one it began with */
    SSL *ssl;                    /* made when the first bytes come */
    uint64_t begun_ms;           /* clock_ms() of the accept */
    uint64_t records[2];         /* read and written under the keys for application data */
    uint32_t conn;
    bool wants_secrets, has_client_secret, has_server_secret;
    bool done;    /* only `rest` still has to go out */
    bool waiting; /* ... for EPOLLOUT */
    unsigned char client_secret[TLS_SECRET_MAX], server_secret[TLS_SECRET_MAX];
    unsigned char *rest; /* what the socket did not take; malloced */
    size_t rest_len;
    unsigned char *early; /* done: input behind the handshake; malloced */
    size_t early_len;
};

static struct handshake *handshake_of(const struct net *n, const struct conn *c)
{
    return pool_at(n->tls.handshakes, c->active);
}

/* ---- what OpenSSL reads and writes ---- */

/* Gives it what the last recv() has brought. */
static int window_read(BIO *bio, char *to, size_t size, size_t *got)
{
    struct net_tls_state *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    *got = size < t->in_len ? size : t->in_len;
    if (!*got) {
        BIO_set_retry_read(bio);
        return 0;
    }
    memcpy(to, t->in, *got);
    t->in += *got;
    t->in_len -= *got;
    return 1;
}

/* Keeps what it writes for the next send(). */
static int window_write(BIO *bio, const char *from, size_t len, size_t *written)
{
    struct net_tls_state *t = BIO_get_data(bio);
    if (t->out_len + len > t->out_size) {
        t->out_size = t->out_len + len + FIRST_OUT;
        t->out = xrealloc(t->out, t->out_size);
    }
    memcpy(t->out + t->out_len, from, len);
    t->out_len += len;
    *written = len;
    return 1;
}

static long window_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static int window_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static const BIO_METHOD *window_method(void)
{
    static BIO_METHOD *m;
    if (m)
        return m;
    m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "handshake");
    CHECK(m && BIO_meth_set_read_ex(m, window_read) && BIO_meth_set_write_ex(m, window_write) &&
          BIO_meth_set_ctrl(m, window_ctrl) && BIO_meth_set_create(m, window_create));
    return m;
}

void handshake_keylog_cb(const SSL *ssl, const char *line)
{
    struct handshake *h = SSL_get_app_data(ssl);
    uint8_t secret[TLS_SECRET_MAX];
    size_t len;
    tls_context_keylog(ssl, line);
    if (!h)
        return;
    switch (tls_keylog_decode(line, secret, &len)) {
    case TLS_KEYLOG_CLIENT_TRAFFIC:
        memcpy(h->client_secret, secret, len);
        h->has_client_secret = true;
        break;
    case TLS_KEYLOG_SERVER_TRAFFIC:
        memcpy(h->server_secret, secret, len);
        h->has_server_secret = true;
        break;
    case TLS_KEYLOG_OTHER:
        return;
    }
    tls_wipe(secret, sizeof secret);
}

/*
 * Watches what is read and written. Counts the records under the keys for application data: in 1.2 those
 * behind ChangeCipherSpec (a client may cut its Finished into several), in 1.3 those behind Finished. OpenSSL
 * reports a record's header before the message in it. From the server's Finished on, in 1.3, the secrets are
 * those that the connection needs.
 */
static void message_cb(int written, int version, int type, const void *data, size_t len, SSL *ssl, void *arg)
{
    (void)version;
    struct handshake *h = arg;
    unsigned char first = len ? *(const unsigned char *)data : 0;
    if (type == SSL3_RT_HEADER)
        h->records[written] = first == SSL3_RT_CHANGE_CIPHER_SPEC ? 0 : h->records[written] + 1;
    if (type != SSL3_RT_HANDSHAKE || first != SSL3_MT_FINISHED || SSL_version(ssl) != TLS1_3_VERSION)
        return;
    h->records[written] = 0;
    if (written) {
        h->wants_secrets = true;
        tls_context_want_secrets(ssl, true);
    }
}

/* ---- beginning and ending ---- */

bool handshake_begin(struct net *n, uint32_t id)
{
    struct conn *c = conn_at(n, id);
    struct net_listener *l = &n->listener[c->listener];
    if (!n->tls.handshakes) {
        n->tls.handshakes = pool_new("handshakes", sizeof(struct handshake), n->settings.max_connections);
        pool_keep_secret(n->tls.handshakes);
    }
    c->active = pool_alloc(n->tls.handshakes);
    if (!c->active)
        return false;
    struct handshake *h = handshake_of(n, c);
    h->conn = id;
    h->begun_ms = clock_ms();
    l->handshakes++;
    return true;
}

void handshake_end(struct net *n, uint32_t id)
{
    struct conn *c = conn_at(n, id);
    struct net_listener *l = &n->listener[c->listener];
    struct handshake *h = handshake_of(n, c);
    SSL_free(h->ssl);
    free(h->rest);
    free(h->early);
    tls_wipe(h, sizeof *h);
    pool_release(n->tls.handshakes, c->active);
    c->active = 0;
    if (l->handshakes-- >= l->tls.max_handshakes && l->room)
        l->room(l->room_arg);
}

/*
 * When a handshake's time is over. While others wait for its place that is sooner: a quarter of the time, and
 * a second for who has not said anything, so that those who only hold places do not keep the listener shut.
 */
static uint64_t deadline(const struct net *n, const struct handshake *h)
{
    const struct net_listener *l = &n->listener[conn_at(n, h->conn)->listener];
    uint64_t time_ms = l->tls.handshake_timeout_ms;
    if (l->handshakes >= l->tls.max_handshakes)
        time_ms = h->ssl || time_ms < 4 * SILENCE_MS ? time_ms / 4 : SILENCE_MS;
    return h->begun_ms + time_ms;
}

void handshake_sweep(struct net *n, uint64_t now_ms)
{
    if (!n->tls.handshakes)
        return;
    for (uint32_t slot = 0; (slot = pool_next(n->tls.handshakes, slot));) {
        const struct handshake *h = pool_at(n->tls.handshakes, slot);
        if (deadline(n, h) <= now_ms)
            net_close(n, h->conn, CLOSE_TLS_TIMEOUT);
    }
}

/* Makes the SSL when the first bytes are there: until then a connection costs next to nothing. */
static bool make_ssl(struct net *n, struct handshake *h)
{
    BIO *bio = BIO_new(window_method());
    h->context = n->listener[conn_at(n, h->conn)->listener].tls.context;
    h->ssl = bio ? tls_context_accept(h->context) : NULL;
    if (!h->ssl) {
        BIO_free(bio);
        return false;
    }
    BIO_set_data(bio, &n->tls);
    SSL_set_bio(h->ssl, bio, bio);
    SSL_clear_mode(h->ssl, SSL_MODE_RELEASE_BUFFERS); /* it would get new ones for every record */
    SSL_set_app_data(h->ssl, h);
    SSL_set_msg_callback(h->ssl, message_cb);
    SSL_set_msg_callback_arg(h->ssl, h);
    return true;
}

/* ---- handing over ---- */

/* What the client asked for with max_fragment_length; 0: nothing. */
static uint8_t fragment_of(SSL *ssl)
{
    uint8_t code = SSL_SESSION_get_max_fragment_length(SSL_get_session(ssl));
    return code <= TLSEXT_max_fragment_length_4096 ? code : 0;
}

/* Takes 1.2's keys from the session, and starts the connection's own. */
static bool take_over_12(struct net *n, struct conn *c, const struct handshake *h, struct tls_handover *over)
{
    uint8_t master[TLS_MASTER_LEN], client[TLS_RANDOM_LEN], server[TLS_RANDOM_LEN];
    if (SSL_SESSION_get_master_key(SSL_get_session(h->ssl), master, sizeof master) != sizeof master)
        return false;
    SSL_get_client_random(h->ssl, client, sizeof client);
    SSL_get_server_random(h->ssl, server, sizeof server);
    over->master_secret = master;
    over->client_random = client;
    over->server_random = server;
    bool ok = sealing_begin(n, c, over);
    tls_wipe(master, sizeof master);
    return ok;
}

/* Starts the connection's own keys. False: it stays with OpenSSL. That the secrets are not there, or the
 * suite is of another version, would take an OpenSSL that works in another way. */
static bool take_over(struct net *n, struct conn *c, const struct handshake *h)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(h->ssl);
    struct tls_handover over = {
        .suite = cipher ? tls_suite_from_iana(SSL_CIPHER_get_protocol_id(cipher)) : TLS_SUITE_NONE,
        .records_read = h->records[0],
        .records_written = h->records[1], /* with 1.3's session tickets */
        .fragment = fragment_of(h->ssl),
        .client_secret = h->client_secret,
        .server_secret = h->server_secret,
    };
    bool v13 = SSL_version(h->ssl) == TLS1_3_VERSION;
    if (!tls_context_parks(h->context)) {
        counter_add(COUNTER_TLS_UNPARKED_OPTION, 1);
        return false;
    }
    if (over.suite == TLS_SUITE_NONE) {
        counter_add(COUNTER_TLS_UNPARKED_SUITE, 1);
        return false;
    }
    bool complete = !SSL_has_pending(h->ssl) && tls_suites[over.suite].v13 == v13 &&
                    (!v13 || (h->has_client_secret && h->has_server_secret));
    if (complete && (v13 ? sealing_begin(n, c, &over) : take_over_12(n, c, h, &over)))
        return true;
    counter_add(COUNTER_TLS_UNPARKED_STATE, 1);
    return false;
}

/* Remembers who the client certificate says it is. */
static void take_identity(struct net *n, uint32_t id, const struct handshake *h)
{
    struct net_tls_state *t = &n->tls;
    char name[IDENTITY_MAX];
    if (!tls_context_identity(h->context, h->ssl, name, sizeof name))
        return;
    if (!t->names) {
        t->names = strpool_new("identities", n->settings.max_connections);
        region_reserve(&t->name_of, ((size_t)n->settings.max_connections + 1) * sizeof(uint32_t));
    }
    if (!region_open(&t->name_of, ((size_t)id + 1) * sizeof(uint32_t)))
        return;
    uint32_t handle = strpool_put(t->names, name, strlen(name));
    if (!handle)
        return;
    ((uint32_t *)(void *)t->name_of.base)[id] = handle;
    conn_at(n, id)->flags |= CONN_NAMED;
}

/* Counts a handshake that is done. */
static void count_done(const struct handshake *h)
{
    counter_add(SSL_version(h->ssl) == TLS1_3_VERSION ? COUNTER_TLS_V13 : COUNTER_TLS_V12, 1);
    counter_add(COUNTER_TLS_RESUMED, SSL_session_reused(h->ssl) != 0);
    counter_add(COUNTER_TLS_CONNECTIONS, 1);
}

/*
 * Lets OpenSSL open what came behind the handshake, which only we have. Returns the bytes of content in
 * `plain`, which has room for all; *reason says whether the connection ends there.
 */
static size_t open_early(struct net *n, uint32_t id, SSL *ssl, unsigned char *plain, size_t len,
                         enum close_reason *reason)
{
    struct net_tls_state *t = &n->tls;
    size_t have = 0;
    int got = 1;
    t->out_len = 0;
    while (have < len && (got = SSL_read(ssl, plain + have, (int)(len - have))) > 0)
        have += (size_t)got;
    int why = got > 0 ? SSL_ERROR_NONE : SSL_get_error(ssl, got);
    *reason = CLOSE_NONE;
    if (why == SSL_ERROR_ZERO_RETURN)
        *reason = CLOSE_PEER_CLOSED;
    else if (why != SSL_ERROR_NONE && why != SSL_ERROR_WANT_READ)
        *reason = CLOSE_TLS_BAD_RECORD;
    if (t->out_len && conn_send_raw(n, id, t->out, t->out_len) != (ssize_t)t->out_len && !*reason)
        *reason = CLOSE_SOCKET_ERROR;
    return have;
}

/* The connection keeps its SSL, which is given the socket. */
static void keep_ssl(struct net *n, uint32_t id, SSL *ssl, const unsigned char *early, size_t len)
{
    const struct conn *c = conn_at(n, id);
    unsigned char *plain = xmalloc(len + 1);
    enum close_reason reason;
    n->tls.in = early;
    n->tls.in_len = len;
    size_t have = open_early(n, id, ssl, plain, len, &reason);
    BIO *bio = BIO_new_socket(c->fd, BIO_NOCLOSE);
    CHECK(bio);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    /* An end in good order is behind the content, and does not keep it from being heard. */
    struct left_over l = {.plain = plain, .plain_len = have, .ended_behind = reason == CLOSE_PEER_CLOSED};
    if (reason && !(l.ended_behind && have))
        net_close(n, id, reason);
    /* Once active, the connection frees it, whatever came of the early data. */
    if (c->state == CONN_DOOMED || (!active_begin_ssl(n, id, ssl, &l) && !c->active))
        SSL_free(ssl);
    ERR_clear_error();
    free(plain);
}

/* The handshake is done and all of it sent. `early` is what came behind it. */
static void hand_over(struct net *n, uint32_t id, unsigned char *early, size_t len)
{
    struct conn *c = conn_at(n, id);
    struct handshake *h = handshake_of(n, c);
    SSL *ssl = NULL;
    count_done(h);
    take_identity(n, id, h);
    c->flags |= CONN_OVER_TLS;
    if (!take_over(n, c, h)) {
        ssl = h->ssl;
        h->ssl = NULL;
        SSL_set_app_data(ssl, NULL); /* the record is about to be somebody else's */
        SSL_set_msg_callback(ssl, NULL);
    }
    handshake_end(n, id);
    c->flags |= CONN_OPENED;
    c->heard = (uint32_t)clock_ms();
    conn_set_state(c, CONN_PARKED);
    n->handler->opened(n->ctx, id);
    if (c->state == CONN_DOOMED)
        SSL_free(ssl);
    else if (ssl)
        keep_ssl(n, id, ssl, early, len);
    else if (len)
        parking_input(n, id, early, len);
}

/* ---- one step ---- */

/* OpenSSL has given up: says why in the log; of a client certificate whose it is and what is wrong with it.
 */
static void failed(struct net *n, uint32_t id)
{
    const struct conn *c = conn_at(n, id);
    char peer[SOCKETS_ADDRESS_TEXT];
    const char *why = ERR_reason_error_string(ERR_peek_last_error());
    const SSL *ssl = handshake_of(n, c)->ssl;
    long verified = SSL_get_verify_result(ssl);
    counter_add(COUNTER_TLS_FAILED, 1);
    LOG(log_handshake_failed, LOG_STR("error", why ? why : "unknown"),
        LOG_STR("certificate", verified == X509_V_OK ? "-" : X509_verify_cert_error_string(verified)),
        LOG_STR("subject", tls_context_refused_client(ssl)),
        LOG_STR("address", sockets_peer_text(c->fd, peer)));
    net_close(n, id, CLOSE_TLS_HANDSHAKE);
}

/* Turns EPOLLOUT on instead of EPOLLIN, or back. */
static void wait_for(struct net *n, struct handshake *h, bool output)
{
    struct epoll_event e = {.events = output ? EPOLLOUT : EPOLLIN | EPOLLRDHUP, .data = {.u32 = h->conn}};
    h->waiting = output;
    CHECK(epoll_ctl(n->parking_fd, EPOLL_CTL_MOD, conn_at(n, h->conn)->fd, &e) == 0);
}

/* Sends what OpenSSL has written. What the socket does not take waits, and so does the handshake. False:
 * doomed.
 */
static bool flush(struct net *n, struct handshake *h)
{
    struct net_tls_state *t = &n->tls;
    ssize_t sent = t->out_len ? conn_send_raw(n, h->conn, t->out, t->out_len) : 0;
    if (sent < 0)
        return false;
    h->rest_len = t->out_len - (size_t)sent;
    if (!h->rest_len)
        return true;
    h->rest = xmalloc(h->rest_len);
    memcpy(h->rest, t->out + sent, h->rest_len);
    wait_for(n, h, true);
    return true;
}

/* Sends what was left. True: all of it has gone. */
static bool flush_rest(struct net *n, struct handshake *h)
{
    ssize_t sent = conn_send_raw(n, h->conn, h->rest, h->rest_len);
    if (sent <= 0)
        return false;
    h->rest_len -= (size_t)sent;
    memmove(h->rest, h->rest + sent, h->rest_len);
    if (h->rest_len)
        return false;
    free(h->rest);
    h->rest = NULL;
    return true;
}

/* Overwrites the part of the stack that OpenSSL has used: it leaves secrets there. */
__attribute__((noinline)) static void scrub_stack(void)
{
    unsigned char below[STACK_USED];
    tls_wipe(below, sizeof below);
}

/* Gives OpenSSL what has come, and sends what it answers. */
static void step(struct net *n, uint32_t id, size_t len)
{
    struct net_tls_state *t = &n->tls;
    struct handshake *h = handshake_of(n, conn_at(n, id));
    if (!h->ssl && !make_ssl(n, h)) {
        net_close(n, id, CLOSE_NO_MEMORY);
        return;
    }
    t->in = n->read_buffer;
    t->in_len = len;
    t->out_len = 0;
    ERR_clear_error();
    if (h->wants_secrets)
        tls_context_want_secrets(h->ssl, true);
    int result = SSL_accept(h->ssl);
    tls_context_want_secrets(h->ssl, false);
    scrub_stack();
    bool fatal = result <= 0 && SSL_get_error(h->ssl, result) != SSL_ERROR_WANT_READ;
    h->done = result == 1;
    if (!flush(n, h))
        return;
    if (fatal) {
        failed(n, id);
    } else if (h->done && h->rest_len) {
        h->early = xmalloc(t->in_len + 1);
        h->early_len = t->in_len;
        memcpy(h->early, t->in, t->in_len);
    } else if (h->done) {
        hand_over(n, id, n->read_buffer + (len - t->in_len), t->in_len);
    }
}

/* Reads once and goes on with the handshake. */
static bool readable(struct net *n, uint32_t id)
{
    size_t got = conn_receive(n, id);
    if (got)
        step(n, id, got);
    return got == NET_READ_BUFFER;
}

/* What the socket did not take at first may go now; then the handshake goes on, or is over. */
static void writable(struct net *n, uint32_t id)
{
    struct handshake *h = handshake_of(n, conn_at(n, id));
    if (!flush_rest(n, h))
        return;
    wait_for(n, h, false);
    if (!h->done)
        return;
    unsigned char *early = h->early;
    h->early = NULL;
    hand_over(n, id, early, h->early_len);
    free(early);
}

/* Whether it is still a handshake, and waits until the socket takes more. */
static bool is_waiting(const struct net *n, uint32_t id)
{
    const struct conn *c = conn_at(n, id);
    return c->state == CONN_HANDSHAKE && handshake_of(n, c)->waiting;
}

bool handshake_ready(struct net *n, uint32_t id, uint32_t events)
{
    const struct handshake *h = handshake_of(n, conn_at(n, id));
    uint64_t start_us = clock_us();
    bool again = false, waited = h->waiting;
    if (!h->waiting)
        again = readable(n, id);
    else if (events & EPOLLOUT)
        writable(n, id);
    else
        net_close(n, id, CLOSE_PEER_RESET);
    /* Another interest in a connection that the present batch has returned makes no new edge outside, even if
     * what it waits for is there already: looks again. */
    again |= waited || is_waiting(n, id);
    n->tls.spent_us += clock_us() - start_us;
    return again;
}
