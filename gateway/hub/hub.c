/*
 * The hub process: makes the event loop, the engine, the workers' channels and the HTTP API, and ends them.
 * The supervisor feeds it over the control channel (CHANNEL for each worker, CERTIFICATE, STOP); when that
 * ends, so does the hub, since nobody would restart it. It holds no client connection and no topic: a hub
 * that dies costs the registry, which the workers replay, and what it had not answered, which they send
 * again.
 */
#include "gateway/hub/hub.h"

#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/heap.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"
#include "gateway/hub/certificates.h"
#include "gateway/hub/http_api.h"
#include "gateway/hub/hub_internal.h"
#include "gateway/hub/hub_shares.h"
#include "gateway/hub/hub_sys.h"
#include "gateway/ipc/ipc_packet.h"

LOG_EVENT(channel_event, "unusable_channel", LOG_LEVEL_WARNING);
LOG_EVENT(stopping_event, "hub_stopping", LOG_LEVEL_INFO);
LOG_EVENT(orphan_event, "supervisor_gone", LOG_LEVEL_ERROR);
LOG_EVENT(start_event, "hub_cannot_start", LOG_LEVEL_ERROR);

/* How long the workers have to close their channels after STOP. */
static const struct timeval stop_grace = {1, 0};
static const struct timeval one_second = {1, 0};

static int exit_status;

/* Ends the loop with an exit status. */
static void leave(struct hub *h, int status)
{
    exit_status = status;
    event_base_loopbreak(h->base);
}

/* STOP: nothing new comes in over HTTP; the rest ends with the workers' channels. */
static void begin_stop(struct hub *h)
{
    if (h->stopping)
        return;
    LOG(stopping_event, LOG_U64("workers", h->attached));
    h->stopping = true;
    http_api_accept(h->api, false);
    if (h->attached == 0)
        leave(h, EXIT_SUCCESS);
    else
        CHECK(evtimer_add(h->stop_timer, &stop_grace) == 0);
}

/* CHANNEL: a descriptor for a worker, or one that is of no use. */
static void take_channel(struct hub *h, uint64_t number, int fd)
{
    if (fd >= 0 && number < h->args->workers && !h->stopping) {
        hub_worker_attach(h, (uint16_t)number, fd);
        return;
    }
    LOG(channel_event, LOG_U64("worker", number), LOG_I64("fd", fd));
    if (fd >= 0)
        close(fd);
}

/* Reads what the supervisor has said, all of it: the channels of all workers come at once. */
static void control_cb(evutil_socket_t fd, short what, void *arg)
{
    struct hub *h = CHECK_CAST(arg, struct hub, HUB_MAGIC);
    (void)what;
    clock_update();
    char buf[IPC_PACKET_MAX];
    struct ipc_message m;
    int got_fd, got;
    while ((got = ipc_packet_recv(fd, buf, &m, &got_fd)) > 0) {
        if (m.type == IPC_CHANNEL) {
            take_channel(h, m.field[0].num, got_fd);
            continue;
        }
        if (got_fd >= 0)
            close(got_fd);
        if (m.type == IPC_STOP)
            begin_stop(h);
        else if (m.type == IPC_CERTIFICATE)
            certificates_take(h->certificates, &m);
    }
    if (got == 0) {
        LOG(orphan_event);
        leave(h, EXIT_FAILURE);
    }
}

/* The workers took longer than they may. */
static void stop_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    leave(CHECK_CAST(arg, struct hub, HUB_MAGIC), EXIT_SUCCESS);
}

/* Once a second: what is not done as it happens. The first one ends the wait for workers that do not come. */
static void tick_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct hub *h = CHECK_CAST(arg, struct hub, HUB_MAGIC);
    clock_update();
    hub_open(h);
    if (!h->stopping)
        http_api_accept(h->api, true);
    http_api_tick(h->api);
    hub_sessions_tick(h);
    hub_shares_tick(h->shares);
    hub_sys_tick(h);
    hub_log_tick(h);
    counters_publish();
    heap_tidy();
}

/* An event loop for one thread. */
static struct event_base *make_base(void)
{
    struct event_config *c = event_config_new();
    CHECK(c && event_config_set_flag(c, EVENT_BASE_FLAG_NOLOCK) == 0);
    struct event_base *base = event_base_new_with_config(c);
    CHECK(base);
    event_config_free(c);
    return base;
}

static struct event *make_event(struct hub *h, int fd, short what, event_callback_fn cb)
{
    struct event *e = event_new(h->base, fd, what, cb, h);
    CHECK(e);
    return e;
}

/* Builds everything; false when something from outside does not allow it. */
static bool build(struct hub *h, const struct process_args *args)
{
    h->magic = HUB_MAGIC;
    h->args = args;
    h->engine_ops = engine_find(args->config->engine);
    if (!h->engine_ops || args->workers > ENGINE_MAX_WORKERS) {
        LOG(start_event, LOG_STR("engine", args->config->engine), LOG_U64("workers", args->workers));
        return false;
    }
    h->base = make_base();
    LIST_INIT(&h->queries);
    hub_workers_setup(h);
    if (!hub_log_open(h))
        return false;
    hub_feed_setup(h);
    hub_sessions_setup(h);
    hub_shared_setup(h);
    h->sys = hub_sys_new();
    h->certificates = certificates_new();
    h->control = make_event(h, args->control_fd, EV_READ | EV_PERSIST, control_cb);
    h->tick = make_event(h, -1, EV_PERSIST, tick_cb);
    h->stop_timer = make_event(h, -1, 0, stop_cb);
    CHECK(event_add(h->control, NULL) == 0 && event_add(h->tick, &one_second) == 0);
    h->api = http_api_new(h, args->listen_fd[0], args->listen_fds > 1 ? args->listen_fd[1] : -1);
    return h->api != NULL;
}

/* Takes everything down again, also after build() has given up half-way. */
static void tear_down(struct hub *h)
{
    if (h->worker)
        hub_workers_detach(h);
    hub_sys_free(h->sys);
    hub_shared_free(h);
    if (h->sessions)
        hub_sessions_free(h);
    hub_feed_free(h);
    hub_log_close(h);
    http_api_free(h->api);
    struct event *events[] = {h->control, h->tick, h->stop_timer};
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++)
        if (events[i])
            event_free(events[i]);
    free(h->worker);
    certificates_free(h->certificates);
    if (h->base)
        event_base_free(h->base);
    libevent_global_shutdown();
}

int hub_main(const struct process_args *args)
{
    static const struct ipc_message ready = {.type = IPC_READY};
    static struct hub hub;
    enum log_level level = LOG_LEVEL_INFO;
    heap_setup();
    clock_update();
    log_level_from_name(args->config->log_level, &level);
    log_setup(level, strcmp(args->config->log_format, "json") == 0, "hub");
    counters_attach(&args->counters[args->workers]);
    const int ignored[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE};
    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
        signal(ignored[i], SIG_IGN);
    exit_status = EXIT_FAILURE;
    if (build(&hub, args) && ipc_packet_send(args->control_fd, &ready, -1) == 0) {
        exit_status = EXIT_SUCCESS;
        event_base_dispatch(hub.base);
    }
    counters_publish();
    tear_down(&hub);
    return exit_status;
}
