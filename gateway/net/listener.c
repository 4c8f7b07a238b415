/*
 * One listening socket of a worker.
 *
 * Takes a bounded number of connections per turn of the loop, so that a reconnect storm does not keep
 * heartbeats waiting, and none while as many TLS handshakes are under way as may be; the rest stays in the
 * kernel's backlog. When descriptors or memory run out, accepting pauses for a moment and existing
 * connections are left alone.
 */
#include "gateway/net/listener.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"

#define LISTENER_MAGIC   0x4c535431u
#define ACCEPTS_PER_TURN 64
#define PAUSE_MS         100

struct listener {
    uint32_t magic;
    struct net *net;
    struct event *readable, *resume;
    int fd;
    unsigned index;
};

LOG_EVENT_ONCE_A_SECOND(log_accept_paused, "accept_paused", LOG_LEVEL_WARNING);
LOG_EVENT_ONCE_A_SECOND(log_server_busy, "server_busy", LOG_LEVEL_WARNING);

/* Nothing can be accepted for now: tries again a little later. */
static void pause_accepting(struct listener *l, int err)
{
    static const struct timeval pause = {0, PAUSE_MS * 1000};
    counter_add(COUNTER_ACCEPT_PAUSED, 1);
    LOG(log_accept_paused, LOG_STR("error", strerror(err)), LOG_U64("connections", net_count(l->net)));
    event_del(l->readable);
    event_add(l->resume, &pause);
}

static void resume_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct listener *l = CHECK_CAST(arg, struct listener, LISTENER_MAGIC);
    event_add(l->readable, NULL);
}

/* Whether a failed accept4() concerns only the connection that was to be accepted (accept(2), "Error
 * handling"). */
static bool is_passing(int err)
{
    return err == EINTR || err == ECONNABORTED || err == EPROTO || err == ENETDOWN || err == ENETUNREACH ||
           err == EHOSTUNREACH || err == EPERM;
}

static void accept_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct listener *l = CHECK_CAST(arg, struct listener, LISTENER_MAGIC);
    clock_update();
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        if (!net_may_accept(l->net, l->index)) {
            event_del(l->readable); /* until a handshake has ended: room_cb() */
            return;
        }
        int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client >= 0) {
            if (!net_adopt(l->net, client, l->index))
                LOG(log_server_busy, LOG_U64("connections", net_count(l->net)));
        } else if (errno == EAGAIN) {
            return;
        } else if (!is_passing(errno)) {
            pause_accepting(l, errno);
            return;
        }
    }
}

/* A handshake has ended: there is room for another. */
static void room_cb(void *arg)
{
    struct listener *l = CHECK_CAST(arg, struct listener, LISTENER_MAGIC);
    if (!event_pending(l->resume, EV_TIMEOUT, NULL))
        event_add(l->readable, NULL);
}

struct listener *listener_new(struct event_base *base, struct net *n, int fd, unsigned index)
{
    struct listener *l = xcalloc(1, sizeof *l);
    l->magic = LISTENER_MAGIC;
    l->net = n;
    l->fd = fd;
    l->index = index;
    CHECK(evutil_make_socket_nonblocking(fd) == 0);
    l->readable = event_new(base, fd, EV_READ | EV_PERSIST, accept_cb, l);
    l->resume = evtimer_new(base, resume_cb, l);
    CHECK(l->readable && l->resume && event_add(l->readable, NULL) == 0);
    net_on_room(n, index, room_cb, l);
    return l;
}

void listener_free(struct listener *l)
{
    net_on_room(l->net, l->index, NULL, NULL);
    event_free(l->readable);
    event_free(l->resume);
    close(l->fd);
    l->magic = 0;
    free(l);
}
