/*
 * The parking set: one epoll descriptor with all parked connections of a worker, itself a single event in the
 * worker's loop.
 *
 * When it is readable, up to NET_PARKING_BATCH ready connections are served, each with one recv() into a
 * buffer they all share; whole packets are answered from there. Only what is incomplete makes a connection
 * active. Does not decode, and keeps nothing between two turns; an event for a connection that was doomed or
 * became active earlier in the same batch is recognised by its state, because ids are not reused within a
 * turn.
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

/* Serves one batch of ready connections; if there may be more, another batch follows in the loop's next turn.
 */
static void parking_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    static const struct timeval now = {0, 0};
    struct net *n = CHECK_CAST(arg, struct net, NET_MAGIC);
    struct epoll_event ready[NET_PARKING_BATCH];
    int count = epoll_wait(n->parking_fd, ready, NET_PARKING_BATCH, 0);
    bool more = count == NET_PARKING_BATCH;
    clock_update();
    for (int i = 0; i < count; i++)
        if (conn_at(n, ready[i].data.u32)->state == CONN_PARKED)
            more |= parked_readable(n, ready[i].data.u32);
    if (more)
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
    struct epoll_event e = {.events = EPOLLIN, .data = {.u32 = id}};
    return epoll_ctl(n->parking_fd, EPOLL_CTL_ADD, conn_at(n, id)->fd, &e) == 0;
}

void parking_remove(struct net *n, uint32_t id)
{
    CHECK(epoll_ctl(n->parking_fd, EPOLL_CTL_DEL, conn_at(n, id)->fd, NULL) == 0);
}
