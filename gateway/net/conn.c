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

/* Ends a doomed connection for good. */
static void conn_finish(struct net *n, uint32_t id)
{
    struct conn *c = conn_at(n, id);
    enum close_reason reason = c->reason;
    n->handler->closed(n->ctx, id, reason);
    if (c->active)
        active_end(n, id);
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
    if (!parking_add(n, id)) {
        counter_add(COUNTER_REFUSED_BUSY, 1);
        close(fd);
        pool_release(n->conns, id);
        return 0;
    }
    conn_set_state(c, CONN_PARKED);
    counter_add(COUNTER_ACCEPTED, 1);
    counter_add(COUNTER_CONNECTIONS, 1);
    n->handler->opened(n->ctx, id);
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

/*
 * One send() to a parked connection. Returns the bytes taken, or -1 when the connection has failed and is
 * doomed now.
 */
static ssize_t send_parked(struct net *n, uint32_t id, const void *data, size_t len)
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

enum send_result net_send(struct net *n, uint32_t id, const void *data, size_t len)
{
    struct conn *c = conn_at(n, id);
    if (c->state == CONN_ACTIVE)
        return active_send(n, id, data, len);
    if (c->state != CONN_PARKED)
        return SEND_GONE;
    ssize_t sent = send_parked(n, id, data, len);
    if (sent < 0)
        return SEND_GONE;
    if ((size_t)sent == len)
        return SEND_DONE;
    if (!active_begin(n, id, NULL, 0, 0))
        return SEND_GONE;
    return active_send(n, id, (const char *)data + sent, len - (size_t)sent);
}

enum send_result net_send_frame(struct net *n, uint32_t id, struct frame *f)
{
    struct conn *c = conn_at(n, id);
    if (c->state == CONN_ACTIVE)
        return active_send_frame(n, id, f, 0);
    if (c->state != CONN_PARKED)
        return SEND_GONE;
    ssize_t sent = send_parked(n, id, f->data, f->len);
    if (sent < 0)
        return SEND_GONE;
    if ((size_t)sent == f->len)
        return SEND_DONE;
    if (!active_begin(n, id, NULL, 0, 0))
        return SEND_GONE;
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
