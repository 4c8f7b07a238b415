/*
 * The parking set: one epoll descriptor with all parked connections of a worker, itself a single event in the
 * worker's loop.
 *
 * When it is readable, the ready connections are served in small batches, each connection with one recv()
 * into a buffer they all share; whole packets are answered from there. Only what is incomplete makes a
 * connection active. Does not decode, and keeps nothing between two turns; an event for a connection that was
 * doomed or became active earlier in the same batch is recognised by its state, because ids are not reused
 * within a turn.
 *
 * The set is level-triggered inside and edge-triggered in the loop, which spares the kernel one look at it
 * per turn. So whatever is ready and not dealt with must be taken up again without a new edge, by
 * parking_again: batches left for want of time, a read that filled the buffer, and an end of the stream that
 * came together with bytes (EPOLLRDHUP, EPOLLHUP or EPOLLERR beside EPOLLIN). An end that comes later is a
 * new event inside and an edge outside.
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

/* Reads once from a parked connection and lets the handler answer. True: there may be more to read. */
static bool parked_readable(struct net *n, uint32_t id)
{
    struct conn *c = conn_at(n, id);
    ssize_t got = recv(c->fd, n->read_buffer, NET_READ_BUFFER, 0);
    if (got <= 0) {
        if (got == 0)
            net_close(n, id, CLOSE_PEER_CLOSED);
        else if (errno != EAGAIN && errno != EINTR)
            net_close(n, id, conn_error_reason(errno));
        return false;
    }
    counter_add(COUNTER_BYTES_IN, (uint64_t)got);
    size_t need = 0, len = (size_t)got;
    size_t used = n->handler->input(n->ctx, id, n->read_buffer, len, &need);
    if (used == len || c->state == CONN_DOOMED)
        return len == NET_READ_BUFFER;
    if (c->state == CONN_ACTIVE) /* its output blocked meanwhile */
        active_prefill(n, id, n->read_buffer + used, len - used, need);
    else
        active_begin(n, id, n->read_buffer + used, len - used, need);
    return false;
}

/* Serves a batch of ready connections. True: some of them must be looked at again. */
static bool serve_batch(struct net *n, const struct epoll_event *ready, int count)
{
    bool again = false;
    for (int i = 0; i < count; i++) {
        if (conn_at(n, ready[i].data.u32)->state != CONN_PARKED)
            continue;
        again |= parked_readable(n, ready[i].data.u32);
        again |=
            (ready[i].events & ~(uint32_t)EPOLLIN) != 0; /* behind the bytes that were read waits the end */
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
