/*
 * The parking set: one epoll descriptor with all parked connections of a worker, itself a single event in the
 * worker's loop.
 *
 * When it is readable, the ready connections are served in small batches, each connection with one recv()
 * into a buffer they all share; whole packets are answered from there. Only what is incomplete makes a
 * connection active. Does not decode, and keeps nothing between two turns; an event for a connection that was
 * doomed, held or became active earlier in the same batch is recognised by its state, because ids are not
 * reused within a turn. Held connections are not in the set, so that what comes for them wakes nobody.
 *
 * The set is level-triggered inside and edge-triggered in the loop, which spares the kernel one look at it
 * per turn. So whatever is ready and not dealt with must be taken up again without a new edge, by
 * parking_again: batches left for want of time, a read that filled the buffer, and an end of the stream that
 * came together with bytes (EPOLLRDHUP, EPOLLHUP or EPOLLERR beside EPOLLIN). An end that comes later is a
 * new event inside and an edge outside.
 *
 * Handshakes are served from here too, because they begin with a readable socket; what OpenSSL computes is
 * bounded per turn, and who has to wait is simply still readable in the next one.
 *
 * A turn ends after NET_TURN_US. A batch that was begun is always finished: the kernel hands the same
 * connections out in the same order next time, and those at the end would starve.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/net/conn_internal.h"

/* What the handler left of a parked connection's input makes it active: an incomplete packet, or record, or
 * what a held connection is not to see yet. */
static void keep_rest(struct net *n, uint32_t id, const struct left_over *l)
{
    const struct conn *c = conn_at(n, id);
    if (c->state == CONN_ACTIVE) /* its output blocked meanwhile */
        active_prefill(n, id, l);
    else if (c->state == CONN_PARKED)
        active_begin(n, id, l);
}

/* Input of a parked connection with keys: opens what is whole, and lets the handler answer. */
static bool sealed_input(struct net *n, uint32_t id, unsigned char *data, size_t len)
{
    const struct conn *c = conn_at(n, id);
    struct sealing_input in;
    size_t need = 0, used = 0;
    sealing_open(n, c, data, len, &in);
    if (in.len)
        used = conn_input(n, id, in.data, in.len, &need);
    if (c->state == CONN_DOOMED)
        return true;
    bool ended_behind = in.end == TLS_CLOSED && conn_is_held(c) && used < in.len;
    if (!ended_behind && (in.end != TLS_MORE || in.alert != TLS_ALERT_NONE))
        sealing_settle(n, id, &in);
    if (used == in.len && !in.rest_len)
        return true;
    struct left_over l = {.plain = in.data + used,
                          .plain_len = in.len - used,
                          .need = need,
                          .sealed = in.rest,
                          .sealed_len = in.rest_len,
                          .sealed_need = in.need,
                          .ended_behind = ended_behind};
    keep_rest(n, id, &l);
    return false;
}

bool parking_input(struct net *n, uint32_t id, unsigned char *data, size_t len)
{
    const struct conn *c = conn_at(n, id);
    size_t need = 0;
    if (c->tls)
        return sealed_input(n, id, data, len);
    size_t used = conn_input(n, id, data, len, &need);
    if (used == len || c->state == CONN_DOOMED)
        return true;
    struct left_over l = {.plain = data + used, .plain_len = len - used, .need = need};
    keep_rest(n, id, &l);
    return false;
}

/* Reads once from a parked connection and lets the handler answer. True: there may be more to read. */
static bool parked_readable(struct net *n, uint32_t id)
{
    size_t got = conn_receive(n, id);
    return got && parking_input(n, id, n->read_buffer, got) && got == NET_READ_BUFFER;
}

/* This turn has spent its time on handshakes. */
static bool handshakes_done(const struct net *n) { return n->tls.spent_us >= NET_HANDSHAKE_US; }

/* Serves a batch of ready connections. True: some of them must be looked at again. */
static bool serve_batch(struct net *n, const struct epoll_event *ready, int count)
{
    bool again = false;
    for (int i = 0; i < count; i++) {
        uint32_t id = ready[i].data.u32;
        const struct conn *c = conn_at(n, id);
        enum conn_state state = c->state;
        if (state == CONN_PARKED && !conn_is_held(c))
            again |= parked_readable(n, id);
        else if (state == CONN_HANDSHAKE)
            again |= handshakes_done(n) || handshake_ready(n, id, ready[i].events);
        else
            continue;
        /* Behind the bytes that were read may wait the end. */
        again |= (ready[i].events & ~(uint32_t)(EPOLLIN | EPOLLOUT)) != 0;
    }
    return again;
}

/* Serves what is ready, batch by batch, as long as a turn may take; what is left follows in the loop's next
 * turn. */
static void parking_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    static const struct timeval now = {0, 0};
    struct net *n = CHECK_CAST(arg, struct net, NET_MAGIC);
    struct epoll_event ready[NET_PARKING_BATCH];
    bool again = false;
    int count = epoll_wait(n->parking_fd, ready, NET_PARKING_BATCH, 0);
    uint64_t end_us = clock_us() + NET_TURN_US;
    clock_update();
    n->tls.spent_us = 0;
    for (unsigned served = 0; count > 0; served += NET_PARKING_BATCH) {
        again |= serve_batch(n, ready, count);
        if (count < NET_PARKING_BATCH)
            break;
        if (served >= NET_TURN_CONNECTIONS || clock_us() >= end_us) {
            again = true;
            break;
        }
        count = epoll_wait(n->parking_fd, ready, NET_PARKING_BATCH, 0);
    }
    if (again)
        event_add(n->parking_again, &now);
}

void parking_start(struct net *n)
{
    n->parking_fd = epoll_create1(EPOLL_CLOEXEC);
    CHECK(n->parking_fd >= 0);
    n->parking_event = event_new(n->base, n->parking_fd, EV_READ | EV_PERSIST | EV_ET, parking_cb, n);
    n->parking_again = evtimer_new(n->base, parking_cb, n);
    CHECK(n->parking_event && n->parking_again && event_add(n->parking_event, NULL) == 0);
}

void parking_stop(struct net *n)
{
    event_free(n->parking_event);
    event_free(n->parking_again);
    close(n->parking_fd);
}

bool parking_add(struct net *n, uint32_t id)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data = {.u32 = id}};
    return epoll_ctl(n->parking_fd, EPOLL_CTL_ADD, conn_at(n, id)->fd, &e) == 0;
}

void parking_remove(struct net *n, uint32_t id)
{
    CHECK(epoll_ctl(n->parking_fd, EPOLL_CTL_DEL, conn_at(n, id)->fd, NULL) == 0);
}
