/*
 * The composition of a worker: event loop, listeners, sessions, fan-out, and the link to the hub. The only
 * file of a worker that knows them all.
 *
 * What clients publish goes up to the hub; what the hub numbers comes back down and is fanned out. What is
 * kept for stored sessions is read here, past the hub. The supervisor says when to attach to a new hub and
 * when to stop; if it is gone, the worker stops as well.
 */
#include "gateway/worker/worker.h"

#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/heap.h"
#include "gateway/base/log.h"
#include "gateway/base/wheel.h"
#include "gateway/base/xmalloc.h"
#include "gateway/engine/engine.h"
#include "gateway/ipc/ipc_packet.h"
#include "gateway/net/listener.h"
#include "gateway/net/sockets.h"
#include "gateway/session/session.h"
#include "gateway/topic/fanout.h"
#include "gateway/worker/hub_link.h"
#include "gateway/worker/worker_info.h"
#include "gateway/worker/worker_tls.h"

#define WORKER_MAGIC      0x574f524bu
#define TICKS_PER_SECOND  (1000 / WHEEL_TICK_MS)
#define GOODBYES_PER_TURN 256
#define GOODBYE_WAIT_MS   20  /* between two looks at clients whose output still waits */
#define GOODBYE_MARGIN_MS 500 /* before the supervisor's patience ends */
#define BALANCE_MS        5

struct worker {
    uint32_t magic;
    const struct process_args *args;
    struct event_base *base;
    struct event *control, *tick, *goodbye, *rebalance;
    struct listener *listener[CONFIG_MAX_LISTENERS];
    struct sessions *sessions;
    struct fanout *fanout;
    struct hub_link *hub;
    const struct engine_ops *engine;
    struct engine_reader *reader; /* of what is kept; NULL: not open yet */
    bool welcomed;                /* a hub has had the store open */
    int tick_fd;
    unsigned ticks;
    struct worker_tls *tls;
    uint64_t goodbye_deadline_ms; /* while stopping: when waiting output is given up */
    uint32_t goodbye_at;          /* while stopping: the last connection that was closed */
};

LOG_EVENT(log_stopping, "stopping", LOG_LEVEL_NOTICE);
LOG_EVENT_ONCE_A_SECOND(log_no_reader, "data_dir_unreadable", LOG_LEVEL_ERROR);

/* The hub is read from only while the fan-out has room. */
static void balance(struct worker *w)
{
    static const struct timeval soon = {0, BALANCE_MS * 1000};
    size_t limit = w->args->config->fanout_queue_limit, pending = fanout_pending_bytes(w->fanout);
    if (pending > limit / 2) {
        hub_link_pause(w->hub, true);
        event_add(w->rebalance, &soon);
    } else if (pending < limit / 4) {
        hub_link_pause(w->hub, false);
    } else if (hub_link_is_paused(w->hub)) {
        event_add(w->rebalance, &soon);
    }
}

static void rebalance_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    balance(CHECK_CAST(arg, struct worker, WORKER_MAGIC));
}

static bool deliver_cb(void *ctx, struct message *m)
{
    struct worker *w = CHECK_CAST(ctx, struct worker, WORKER_MAGIC);
    clock_update(); /* the fan-out's budget is per turn of the loop, by the clock */
    sessions_told(w->sessions, m);
    bool taken = fanout_start(w->fanout, m);
    balance(w);
    return taken;
}

/*
 * What stored sessions are resumed from can be opened when the hub has it open, and is kept open from then
 * on, whatever becomes of the hub. If it cannot be opened it is tried again every second; until then clients
 * are served but for what only the log has.
 */
static void open_reader(struct worker *w)
{
    char why[ENGINE_WHY_MAX];
    if (w->reader || !w->welcomed)
        return;
    w->reader = w->engine->reader_open(NULL, w->args->config->data_dir, why);
    if (w->reader)
        sessions_set_reader(w->sessions, w->reader);
    else
        LOG(log_no_reader, LOG_STR("data_dir", w->args->config->data_dir), LOG_STR("why", why));
}

static void welcome_cb(void *ctx, uint64_t head)
{
    struct worker *w = CHECK_CAST(ctx, struct worker, WORKER_MAGIC);
    if (fanout_head(w->fanout) == 0)
        fanout_begin(w->fanout, head);
    w->welcomed = true;
    open_reader(w);
}

static void done_cb(void *ctx, const struct session_cookie *cookie, int result)
{
    struct worker *w = CHECK_CAST(ctx, struct worker, WORKER_MAGIC);
    sessions_done(w->sessions, cookie, result);
}

static void opened_cb(void *ctx, const char *client_id, size_t len, const struct session_opening *o)
{
    struct worker *w = CHECK_CAST(ctx, struct worker, WORKER_MAGIC);
    sessions_opened(w->sessions, client_id, len, o);
}

static uint32_t replay_cb(void *ctx, uint32_t after)
{
    struct worker *w = CHECK_CAST(ctx, struct worker, WORKER_MAGIC);
    uint32_t id = sessions_next(w->sessions, after), expiry_s;
    if (!id)
        return 0;
    size_t len;
    const char *client_id = sessions_client_id(w->sessions, id, &len);
    uint64_t claim = sessions_get(w->sessions, id)->claim;
    bool clean_start;
    if (sessions_is_opening(w->sessions, id, &clean_start, &expiry_s))
        hub_link_open(w->hub, client_id, len, claim, clean_start, expiry_s);
    else
        hub_link_claim(w->hub, client_id, len, claim, true);
    sessions_replay(w->sessions, id);
    return id;
}

static void kick_cb(void *ctx, const char *client_id, size_t len, uint64_t claim, enum close_reason reason)
{
    struct worker *w = CHECK_CAST(ctx, struct worker, WORKER_MAGIC);
    uint32_t id = sessions_find(w->sessions, client_id, len);
    if (id && sessions_get(w->sessions, id)->claim <= claim)
        sessions_close(w->sessions, id, reason);
}

static void client_get_cb(void *ctx, uint32_t query, const char *client_id, size_t len)
{
    struct worker *w = CHECK_CAST(ctx, struct worker, WORKER_MAGIC);
    worker_info_tell(w->hub, w->sessions, w->args->config, query, client_id, len);
}

static void share_deliver_cb(void *ctx, const struct ipc_message *m)
{
    struct worker *w = CHECK_CAST(ctx, struct worker, WORKER_MAGIC);
    sessions_share_deliver(w->sessions, m);
}

static const struct hub_link_handler hub_handler = {.deliver = deliver_cb,
                                                    .welcome = welcome_cb,
                                                    .done = done_cb,
                                                    .opened = opened_cb,
                                                    .replay = replay_cb,
                                                    .kick = kick_cb,
                                                    .share = share_deliver_cb,
                                                    .client_get = client_get_cb};

static bool publish_cb(void *ctx, const char *client_id, size_t len, struct message *m)
{
    struct worker *w = CHECK_CAST(ctx, struct worker, WORKER_MAGIC);
    (void)client_id, (void)len;
    return hub_link_publish(w->hub, m);
}

static bool request_cb(void *ctx, struct ipc_message *m, const struct session_cookie *cookie)
{
    struct worker *w = CHECK_CAST(ctx, struct worker, WORKER_MAGIC);
    return hub_link_request(w->hub, m, cookie);
}

static void open_cb(void *ctx, uint32_t session)
{
    struct worker *w = CHECK_CAST(ctx, struct worker, WORKER_MAGIC);
    size_t len;
    const char *client_id = sessions_client_id(w->sessions, session, &len);
    bool clean_start;
    uint32_t expiry_s;
    if (sessions_is_opening(w->sessions, session, &clean_start, &expiry_s))
        hub_link_open(w->hub, client_id, len, sessions_get(w->sessions, session)->claim, clean_start,
                      expiry_s);
}

static void tell_cb(void *ctx, const struct ipc_message *m)
{
    struct worker *w = CHECK_CAST(ctx, struct worker, WORKER_MAGIC);
    hub_link_tell(w->hub, m);
}

static void claimed_cb(void *ctx, const char *client_id, size_t len, uint64_t claim)
{
    struct worker *w = CHECK_CAST(ctx, struct worker, WORKER_MAGIC);
    hub_link_claim(w->hub, client_id, len, claim, false);
}

static void released_cb(void *ctx, const char *client_id, size_t len, uint64_t claim)
{
    struct worker *w = CHECK_CAST(ctx, struct worker, WORKER_MAGIC);
    hub_link_release(w->hub, client_id, len, claim);
}

/* max_connections holds for all workers together: sums their gauges. A load per worker and accept, if it is
 * set at all. */
static bool is_full_cb(void *ctx)
{
    const struct worker *w = CHECK_CAST(ctx, struct worker, WORKER_MAGIC);
    uint64_t open = 0, max = w->args->config->max_connections;
    for (unsigned i = 0; max && i < w->args->workers; i++)
        open += counter_get(&w->args->counters[i], COUNTER_CONNECTIONS);
    return max && open >= max;
}

static const struct sessions_handler sessions_handler = {.publish = publish_cb,
                                                         .request = request_cb,
                                                         .open = open_cb,
                                                         .tell = tell_cb,
                                                         .claimed = claimed_cb,
                                                         .released = released_cb,
                                                         .is_full = is_full_cb};

/* About once a second: what is not counted as it happens, and tidying up. */
static void every_second(struct worker *w)
{
    open_reader(w);
    sessions_second(w->sessions);
    heap_tidy();
    counters_publish();
}

static void tick_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct worker *w = CHECK_CAST(arg, struct worker, WORKER_MAGIC);
    uint64_t expirations;
    if (read(fd, &expirations, sizeof expirations) < 0)
        return;
    clock_update();
    sessions_tick(w->sessions);
    balance(w);
    if (++w->ticks % TICKS_PER_SECOND == 0)
        every_second(w);
}

/* Says goodbye to some more clients. Those whose output still waits are left for the next round until the
 * time is up. */
static void say_goodbyes(struct worker *w)
{
    struct net *net = sessions_net(w->sessions);
    enum close_reason why = sessions_redirect(w->sessions, true);
    bool patient = clock_update() < w->goodbye_deadline_ms;
    for (int i = 0; i < GOODBYES_PER_TURN && (w->goodbye_at = net_next(net, w->goodbye_at)); i++)
        if (!patient || !net_pending(net, w->goodbye_at))
            sessions_close_conn(w->sessions, w->goodbye_at, why == CLOSE_NONE ? CLOSE_SHUTDOWN : why);
}

/* Whether everybody is gone and the hub has heard what they left: last wills, how far their sessions have
 * come. */
static bool is_done(const struct worker *w)
{
    if (net_count(sessions_net(w->sessions)) > 0)
        return false;
    return !hub_link_is_busy(w->hub) || clock_ms() >= w->goodbye_deadline_ms;
}

/* While stopping: goodbyes, turn by turn; ends the loop when all is done. */
static void goodbye_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    static const struct timeval at_once = {0, 0}, later = {0, GOODBYE_WAIT_MS * 1000};
    struct worker *w = CHECK_CAST(arg, struct worker, WORKER_MAGIC);
    say_goodbyes(w);
    if (is_done(w))
        event_base_loopbreak(w->base);
    else
        event_add(w->goodbye, w->goodbye_at ? &at_once : &later);
}

/* No new connections from here on, and the ones there are end. */
static void stop(struct worker *w)
{
    static const struct timeval now = {0, 0};
    if (!w->listener[0])
        return;
    for (unsigned i = 0; i < w->args->listen_fds; i++) {
        listener_free(w->listener[i]);
        w->listener[i] = NULL;
    }
    uint32_t patience_ms = w->args->config->shutdown_timeout_ms;
    w->goodbye_deadline_ms =
        clock_update() + (patience_ms > GOODBYE_MARGIN_MS ? patience_ms - GOODBYE_MARGIN_MS : 0);
    LOG(log_stopping, LOG_U64("connections", net_count(sessions_net(w->sessions))));
    event_add(w->goodbye, &now);
}

/* Messages from the supervisor. */
static void control_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct worker *w = CHECK_CAST(arg, struct worker, WORKER_MAGIC);
    unsigned char buf[IPC_PACKET_MAX];
    struct ipc_message m;
    int got_fd = -1, got = ipc_packet_recv(fd, buf, &m, &got_fd);
    if (got == 0) {
        event_del(w->control); /* the supervisor is gone */
        stop(w);
    } else if (got > 0 && m.type == IPC_CHANNEL && got_fd >= 0) {
        hub_link_attach(w->hub, got_fd);
        got_fd = -1;
    } else if (got > 0 && m.type == IPC_TLS && got_fd >= 0) {
        worker_tls_reload(w->tls, (uint32_t)m.field[0].num, got_fd);
    } else if (got > 0 && m.type == IPC_STOP) {
        stop(w);
    }
    if (got_fd >= 0)
        close(got_fd);
}

/* A loop without locks: a worker has one thread. */
static struct event_base *new_loop(void)
{
    struct event_config *c = event_config_new();
    CHECK(c);
    event_config_set_flag(c, EVENT_BASE_FLAG_NOLOCK);
    struct event_base *base = event_base_new_with_config(c);
    CHECK(base);
    event_config_free(c);
    return base;
}

/*
 * The worker's clock tick is a timerfd, not a libevent timeout: with a timeout pending, every wait for events
 * would set and cancel a kernel timer, which costs more than answering a heartbeat.
 */
static void add_timers(struct worker *w)
{
    static const struct timespec period = {0, WHEEL_TICK_MS * 1000000};
    struct itimerspec every = {.it_interval = period, .it_value = period};
    w->tick_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    CHECK(w->tick_fd >= 0 && timerfd_settime(w->tick_fd, 0, &every, NULL) == 0);
    w->tick = event_new(w->base, w->tick_fd, EV_READ | EV_PERSIST, tick_cb, w);
    w->goodbye = evtimer_new(w->base, goodbye_cb, w);
    w->rebalance = evtimer_new(w->base, rebalance_cb, w);
    CHECK(w->tick && w->goodbye && w->rebalance && event_add(w->tick, NULL) == 0);
}

static void build(struct worker *w)
{
    const struct config *config = w->args->config;
    w->engine = engine_find(config->engine);
    CHECK(w->engine); /* the option has no other words */
    struct sessions_settings ss = {
        .config = config, .max_sessions = w->args->max_connections, .engine = w->engine};
    struct fanout_settings fs = {.slice = config->fanout_slice,
                                 .queue_limit = config->fanout_queue_limit,
                                 .clients_prefix = config->clients_prefix,
                                 .broadcast_topic = config->broadcast_topic,
                                 .implicit = sub_options_make((uint8_t)config->implicit_qos, 0)};
    w->base = new_loop();
    w->sessions = sessions_new(w->base, &ss, &sessions_handler, w);
    w->fanout = fanout_new(w->base, sessions_tree(w->sessions), &sessions_fanout_ops, w->sessions, &fs);
    sessions_set_fanout(w->sessions, w->fanout);
    w->hub = hub_link_new(w->base, w->args, &hub_handler, w);
    for (unsigned i = 0; i < w->args->listen_fds; i++)
        w->listener[i] = listener_new(w->base, sessions_net(w->sessions), w->args->listen_fd[i], i);
    w->control = event_new(w->base, w->args->control_fd, EV_READ | EV_PERSIST, control_cb, w);
    CHECK(w->control && event_add(w->control, NULL) == 0);
    add_timers(w);
}

static void tear_down(struct worker *w)
{
    struct event *const events[] = {w->control, w->tick, w->goodbye, w->rebalance};
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++)
        event_free(events[i]);
    close(w->tick_fd);
    sessions_set_reader(w->sessions, NULL);
    if (w->reader)
        w->engine->reader_close(w->reader);
    fanout_free(w->fanout);
    hub_link_free(w->hub);
    sessions_free(w->sessions);
    worker_tls_free(w->tls);
    event_base_free(w->base);
    libevent_global_shutdown();
}

int worker_main(const struct process_args *args)
{
    static const struct ipc_message ready = {.type = IPC_READY};
    static struct worker w = {.magic = WORKER_MAGIC};
    static char name[24];
    snprintf(name, sizeof name, "worker/%u", args->number);
    w.args = args;
    heap_setup();
    clock_update();
    enum log_level level = LOG_LEVEL_INFO;
    log_level_from_name(args->config->log_level, &level);
    log_setup(level, strcmp(args->config->log_format, "json") == 0, name);
    counters_attach(&args->counters[args->number]);
    signal(SIGPIPE, SIG_IGN);
    build(&w);
    w.tls = worker_tls_new(args, sessions_net(w.sessions));
    if (!w.tls)
        return EXIT_FAILURE;
    if (ipc_packet_send(args->control_fd, &ready, -1) < 0)
        return EXIT_FAILURE;
    event_base_dispatch(w.base);
    counters_publish();
    tear_down(&w);
    return EXIT_SUCCESS;
}
