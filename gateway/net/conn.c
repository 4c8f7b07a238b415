/*
 * The connections of a worker: their pool, their states, sending, and the one way in which they end.
 *
 * Fed by listeners (net_adopt), by the parking set and by bufferevents (input), drained into the sockets. A
 * connection that is to end is only marked; the marked ones are closed together once per turn of the loop, so
 * that no record, bufferevent or session is freed while somebody up the stack still holds it. Knows no
 * protocol, no session and no deadline.
 */
#include "gateway/net/conn.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/xmalloc.h"
#include "gateway/net/conn_internal.h"

/* The gauge that counts connections in a state, or COUNTER_COUNT. */
static enum counter state_gauge(enum conn_state state)
{
    static const enum counter gauge[] = {[CONN_FREE] = COUNTER_COUNT,
                                         [CONN_HANDSHAKE] = COUNTER_HANDSHAKES,
                                         [CONN_PARKED] = COUNTER_PARKED,
                                         [CONN_ACTIVE] = COUNTER_ACTIVE,
                                         [CONN_DOOMED] = COUNTER_COUNT};
    return gauge[state];
}

/* Changes the state and the gauges with it. */
void conn_set_state(struct conn *c, enum conn_state state)
{
    enum counter from = state_gauge(c->state), to = state_gauge(state);
    if (from != COUNTER_COUNT)
        counter_sub(from, 1);
    if (to != COUNTER_COUNT)
        counter_add(to, 1);
    c->state = (uint8_t)state;
}

enum close_reason conn_error_reason(int err)
{
    switch (err) {
    case ECONNRESET:
    case EPIPE:
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return CLOSE_PEER_RESET;
    default:
        return CLOSE_SOCKET_ERROR;
    }
}

/*
 * Throws away what an erring client has sent meanwhile, within a bound: closing a socket with unread bytes
 * resets it, and the reset would overtake the goodbye that says what was wrong.
 */
static void drain_before_goodbye(struct net *n, const struct conn *c)
{
    for (int i = 0; i < 4; i++)
        if (recv(c->fd, n->read_buffer, NET_READ_BUFFER, 0) < (ssize_t)NET_READ_BUFFER)
            return;
}

bool conn_hears_goodbye(const struct conn *c)
{
    return c->reason != CLOSE_PEER_RESET && c->reason != CLOSE_SOCKET_ERROR;
}

/* Ends TLS in good order, unless the peer cannot hear it or something waits to be sent before. */
static void say_goodbye(struct net *n, uint32_t id)
{
    const struct conn *c = conn_at(n, id);
    unsigned char out[TLS_SMALL_MAX];
    if (!c->tls || !conn_hears_goodbye(c) || net_pending(n, id))
        return;
    size_t len = sealing_goodbye(n, c, out, sizeof out);
    if (len && send(c->fd, out, len, MSG_NOSIGNAL) == (ssize_t)len)
        counter_add(COUNTER_BYTES_OUT, len);
}

/* Frees what TLS has of a connection. */
static void tls_finish(struct net *n, struct conn *c, uint32_t id)
{
    sealing_end(n, c);
    counter_sub(COUNTER_TLS_CONNECTIONS, (c->flags & CONN_OVER_TLS) != 0);
    if (c->flags & CONN_NAMED) {
        uint32_t *name = (uint32_t *)(void *)n->tls.name_of.base + id;
        strpool_release(n->tls.names, *name);
        *name = 0;
    }
}

/* Ends a doomed connection for good. */
static void conn_finish(struct net *n, uint32_t id)
{
    struct conn *c = conn_at(n, id);
    enum close_reason reason = c->reason;
    if (c->flags & CONN_OPENED)
        n->handler->closed(n->ctx, id, reason);
    if (c->active && c->flags & CONN_OPENED)
        active_flush(n, id);
    say_goodbye(n, id);
    if (c->active && c->flags & CONN_OPENED)
        active_end(n, id);
    else if (c->active)
        handshake_end(n, id);
    tls_finish(n, c, id);
    if (close_reason_is_error(reason))
        drain_before_goodbye(n, c);
    close(c->fd); /* also takes it out of the parking set */
    counter_closed(reason);
    counter_sub(COUNTER_CONNECTIONS, 1);
    conn_set_state(c, CONN_FREE);
    pool_release(n->conns, id);
}

/* Closes what was doomed in this turn; what is doomed meanwhile waits for the next. */
static void reap_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct net *n = CHECK_CAST(arg, struct net, NET_MAGIC);
    uint32_t count = n->doomed_count, *doomed = n->doomed;
    n->doomed = NULL;
    n->doomed_count = n->doomed_size = 0;
    for (uint32_t i = 0; i < count; i++)
        conn_finish(n, doomed[i]);
    free(doomed);
}

struct net *net_new(struct event_base *base, const struct net_settings *s, const struct conn_handler *h,
                    void *ctx)
{
    struct net *n = xcalloc(1, sizeof *n);
    n->magic = NET_MAGIC;
    n->base = base;
    n->settings = *s;
    n->handler = h;
    n->ctx = ctx;
    n->conns = pool_new("connections", sizeof(struct conn), s->max_connections);
    n->actives = pool_new("active", sizeof(struct active), s->max_connections);
    n->read_buffer = xmalloc(NET_READ_BUFFER);
    n->reap_event = evtimer_new(base, reap_cb, n);
    CHECK(n->reap_event);
    parking_start(n);
    return n;
}

void net_free(struct net *n)
{
    CHECK(pool_count(n->conns) == 0);
    parking_stop(n);
    sealing_free(n);
    pool_free(n->tls.handshakes);
    free(n->tls.out);
    if (n->tls.names) {
        strpool_free(n->tls.names);
        region_free(&n->tls.name_of);
    }
    event_free(n->reap_event);
    free(n->doomed);
    free(n->read_buffer);
    pool_free(n->actives);
    pool_free(n->conns);
    n->magic = 0;
    free(n);
}

/* Room for one more connection: its id, or 0. */
static uint32_t make_room(struct net *n)
{
    return n->handler->is_full && n->handler->is_full(n->ctx) ? 0 : pool_alloc(n->conns);
}

void net_set_tls(struct net *n, unsigned listener, const struct net_tls *tls)
{
    CHECK(listener < CONFIG_MAX_LISTENERS);
    n->listener[listener].tls = *tls;
    if (tls->context && !n->tls.crypto)
        sealing_setup(n);
}

bool net_may_accept(const struct net *n, unsigned listener)
{
    const struct net_listener *l = &n->listener[listener];
    return !l->tls.context || l->handshakes < l->tls.max_handshakes;
}

void net_on_room(struct net *n, unsigned listener, void (*room)(void *arg), void *arg)
{
    n->listener[listener].room = room;
    n->listener[listener].room_arg = arg;
}

/* Puts a new connection where it begins: in the parking set, and with TLS into its handshake. */
static bool admit(struct net *n, uint32_t id)
{
    struct conn *c = conn_at(n, id);
    bool tls = n->listener[c->listener].tls.context != NULL;
    if (!parking_add(n, id))
        return false;
    if (tls && !handshake_begin(n, id))
        return false;
    conn_set_state(c, tls ? CONN_HANDSHAKE : CONN_PARKED);
    return true;
}

uint32_t net_adopt(struct net *n, int fd, unsigned listener)
{
    uint32_t id = make_room(n);
    if (!id) {
        counter_add(COUNTER_REFUSED_BUSY, 1);
        close(fd);
        return 0;
    }
    struct conn *c = conn_at(n, id);
    c->fd = fd;
    c->listener = (uint8_t)listener;
    c->heard = (uint32_t)clock_ms();
    c->since = (uint32_t)(clock_ms() / 1000);
    if (!admit(n, id)) {
        counter_add(COUNTER_REFUSED_BUSY, 1);
        close(fd);
        pool_release(n->conns, id);
        return 0;
    }
    counter_add(COUNTER_ACCEPTED, 1);
    counter_add(COUNTER_CONNECTIONS, 1);
    if (c->state == CONN_PARKED) {
        c->flags = CONN_OPENED;
        n->handler->opened(n->ctx, id);
    }
    return id;
}

struct conn *net_conn(const struct net *n, uint32_t id) { return conn_at(n, id); }
uint32_t net_count(const struct net *n) { return pool_count(n->conns); }

uint32_t net_next(const struct net *n, uint32_t after)
{
    do
        after = pool_next(n->conns, after);
    while (after && conn_at(n, after)->state == CONN_DOOMED);
    return after;
}

bool net_is_held(const struct net *n, uint32_t id) { return conn_is_held(conn_at(n, id)); }

/* Ends the hold. Within the connection's own input the rest is looked at when the handler has returned. */
static void release_hold(struct net *n, uint32_t id)
{
    struct conn *c = conn_at(n, id);
    c->flags &= (uint16_t)~CONN_HELD;
    c->flags |= c->flags & CONN_IN_INPUT ? CONN_RELEASED : 0;
    if (c->state == CONN_ACTIVE)
        active_release(n, id);
    else if (!parking_add(n, id))
        net_close(n, id, CLOSE_NO_MEMORY);
}

void net_hold(struct net *n, uint32_t id, bool held)
{
    struct conn *c = conn_at(n, id);
    if (conn_is_held(c) == held || (c->state != CONN_PARKED && c->state != CONN_ACTIVE))
        return;
    if (!held) {
        release_hold(n, id);
        return;
    }
    c->flags |= CONN_HELD;
    if (c->state == CONN_ACTIVE)
        active_hold(n, id);
    else
        parking_remove(n, id);
}

/* Asks the handler again when it has returned because of a hold that was over by then. */
size_t conn_input(struct net *n, uint32_t id, const unsigned char *data, size_t len, size_t *need)
{
    struct conn *c = conn_at(n, id);
    size_t used = 0;
    *need = 0;
    if (conn_is_held(c))
        return 0;
    c->flags |= CONN_IN_INPUT;
    do {
        c->flags &= (uint16_t)~CONN_RELEASED;
        *need = 0;
        used += n->handler->input(n->ctx, id, data + used, len - used, need);
    } while (c->flags & CONN_RELEASED && !conn_is_held(c) && c->state != CONN_DOOMED && used < len);
    c->flags &= (uint16_t) ~(CONN_IN_INPUT | CONN_RELEASED);
    return used;
}

size_t conn_receive(struct net *n, uint32_t id)
{
    ssize_t got = recv(conn_at(n, id)->fd, n->read_buffer, NET_READ_BUFFER, 0);
    if (got > 0) {
        counter_add(COUNTER_BYTES_IN, (uint64_t)got);
        return (size_t)got;
    }
    if (got == 0)
        net_close(n, id, CLOSE_PEER_CLOSED);
    else if (errno != EAGAIN && errno != EINTR)
        net_close(n, id, conn_error_reason(errno));
    return 0;
}

/*
 * One send() to a parked connection. Returns the bytes taken, or -1 when the connection has failed and is
 * doomed now.
 */
ssize_t conn_send_raw(struct net *n, uint32_t id, const void *data, size_t len)
{
    ssize_t sent = send(conn_at(n, id)->fd, data, len, MSG_NOSIGNAL);
    if (sent > 0) {
        counter_add(COUNTER_BYTES_OUT, (uint64_t)sent);
        return sent;
    }
    if (sent == 0 || errno == EAGAIN || errno == EINTR || errno == ENOBUFS)
        return 0;
    net_close(n, id, conn_error_reason(errno));
    return -1;
}

/*
 * Seals the next part of what a parked connection is to get, and sends it. Returns how much of the content
 * that was, or 0: the connection is doomed now, or (`*blocked`) active, with the part in its output.
 */
static size_t send_part(struct net *n, uint32_t id, const unsigned char *data, size_t len, bool *blocked)
{
    size_t part = len < NET_SEAL_AT_ONCE ? len : NET_SEAL_AT_ONCE;
    size_t sealed = sealing_seal(n, conn_at(n, id), data, part, n->tls.sealed, n->tls.sealed_room);
    if (!sealed) {
        if (!sealing_is_refused(n, conn_at(n, id)))
            net_close(n, id, CLOSE_TLS_BAD_RECORD);
        return 0;
    }
    ssize_t sent = conn_send_raw(n, id, n->tls.sealed, sealed);
    if (sent < 0)
        return 0;
    if ((size_t)sent < sealed) {
        if (!active_begin(n, id, NULL))
            return 0;
        *blocked = true;
        active_put_raw(n, id, n->tls.sealed + sent, sealed - (size_t)sent);
    }
    return part;
}

/*
 * Sends to a parked connection as much as its socket takes. Returns how much of the content has been dealt
 * with: all of it, or less and the connection is active now; -1 when it is doomed.
 */
static ssize_t send_parked(struct net *n, uint32_t id, const void *data, size_t len)
{
    const struct conn *c = conn_at(n, id);
    size_t done = 0;
    bool blocked = false;
    if (!c->tls) {
        ssize_t sent = conn_send_raw(n, id, data, len);
        return sent < 0 || (size_t)sent == len || active_begin(n, id, NULL) ? sent : -1;
    }
    while (done < len && !blocked) {
        size_t part = send_part(n, id, (const unsigned char *)data + done, len - done, &blocked);
        if (!part)
            return -1;
        done += part;
    }
    return (ssize_t)done;
}

enum send_result net_send(struct net *n, uint32_t id, const void *data, size_t len)
{
    const struct conn *c = conn_at(n, id);
    if (c->state == CONN_ACTIVE)
        return active_send(n, id, data, len);
    if (c->state != CONN_PARKED)
        return SEND_GONE;
    ssize_t sent = send_parked(n, id, data, len);
    if (sent < 0)
        return SEND_GONE;
    if (c->state == CONN_PARKED)
        return SEND_DONE;
    return active_send_rest(n, id, (const char *)data + sent, len - (size_t)sent);
}

enum send_result net_send_frame(struct net *n, uint32_t id, struct frame *f)
{
    const struct conn *c = conn_at(n, id);
    if (c->state == CONN_ACTIVE)
        return active_send_frame(n, id, f, 0);
    if (c->state != CONN_PARKED)
        return SEND_GONE;
    ssize_t sent = send_parked(n, id, f->data, f->len);
    if (sent < 0)
        return SEND_GONE;
    if (c->state == CONN_PARKED)
        return SEND_DONE;
    counter_add(COUNTER_DELIVERIES_BLOCKED, 1);
    return active_send_frame(n, id, f, (size_t)sent);
}

void net_close(struct net *n, uint32_t id, enum close_reason reason)
{
    static const struct timeval now = {0, 0};
    struct conn *c = conn_at(n, id);
    if (c->state == CONN_DOOMED)
        return;
    CHECK(c->state != CONN_FREE);
    if (n->doomed_count == n->doomed_size) {
        n->doomed_size = n->doomed_size ? n->doomed_size * 2 : 16;
        n->doomed = xrealloc(n->doomed, n->doomed_size * sizeof *n->doomed);
    }
    n->doomed[n->doomed_count++] = id;
    if (n->doomed_count == 1)
        event_add(n->reap_event, &now);
    c->reason = (uint8_t)reason;
    conn_set_state(c, CONN_DOOMED);
}

void net_second(struct net *n)
{
    if (!n->tls.crypto)
        return;
    handshake_sweep(n, clock_ms());
    if (n->tls.used)
        tls_crypto_forget(n->tls.crypto);
    n->tls.used = false;
}

const char *net_tls_text(const struct net *n, uint32_t id, char *out)
{
    const struct conn *c = conn_at(n, id);
    const SSL *ssl = c->active && c->flags & CONN_OPENED ? active_at(n, c)->ssl : NULL;
    out[0] = '\0';
    if (c->tls)
        snprintf(out, NET_TLS_TEXT, "%s", sealing_text(c));
    else if (ssl)
        snprintf(out, NET_TLS_TEXT, "%s %s (not parked)", SSL_get_version(ssl), SSL_get_cipher_name(ssl));
    return out;
}

const char *net_identity(const struct net *n, uint32_t id, size_t *len)
{
    *len = 0;
    if (!(conn_at(n, id)->flags & CONN_NAMED))
        return "";
    return strpool_get(n->tls.names, ((const uint32_t *)(const void *)n->tls.name_of.base)[id], len);
}
