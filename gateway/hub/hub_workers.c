/*
 * The hub's side of its workers: attaching and losing their channels, the registry of client ids that their
 * claims feed, and what they say, which goes by its table to whoever is in charge: publishes to hub_log.c,
 * stored sessions to hub_sessions.c, with hub_requests.c to see that each request takes effect once.
 *
 * After a restart of the hub the registry is empty and the workers replay their claims. Until every worker
 * has done so once, an id that is not found may still be connected: the API says "try again" instead of "not
 * there". Until every worker is attached, at most for a second, what they say is left in their channels, so
 * that a publish does not miss the workers that come a moment later; so it is while the engine has too much
 * to do.
 *
 * A worker's HELLO is answered when everything is committed that was handed in before: then the store knows
 * which of its requests are done.
 */
#include <event2/event.h>

#include "gateway/base/check.h"
#include "gateway/base/counters.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"
#include "gateway/hub/http_api.h"
#include "gateway/hub/hub_client_wills.h"
#include "gateway/hub/hub_internal.h"

LOG_EVENT(attached_event, "worker_attached", LOG_LEVEL_INFO);
LOG_EVENT(replayed_event, "worker_claims_complete", LOG_LEVEL_INFO);
LOG_EVENT(detached_event, "worker_detached", LOG_LEVEL_NOTICE);
LOG_EVENT(dropped_event, "worker_queue_full", LOG_LEVEL_WARNING);
LOG_EVENT(surplus_event, "unexpected_ipc_message", LOG_LEVEL_WARNING);

/* Keeps the gauges true. */
static void update_gauges(struct hub *h)
{
    counter_set(COUNTER_HUB_WORKERS, h->attached);
    counter_set(COUNTER_HUB_CLIENTS, h->engine_ops->count(h->engine));
}

/* The worker's channel is over: it died, or talked nonsense. Its clients are gone with it. */
static void detach(struct hub_worker *w, const char *why)
{
    struct hub *h = w->hub;
    if (!w->channel)
        return;
    if (!h->stopping)
        LOG(detached_event, LOG_U64("worker", w->number), LOG_STR("why", why));
    ipc_channel_free(w->channel);
    w->channel = NULL;
    w->hello = w->replayed = false;
    h->attached--;
    hub_feed_end(w);
    hub_requests_end(w);
    h->engine_ops->forget_worker(h->engine, w->number);
    hub_queries_lost(h, w->number);
    update_gauges(h);
    if (!h->stopping)
        hub_sessions_worker_lost(w);
    hub_shared_worker_lost(w);
    if (h->stopping && h->attached == 0)
        event_base_loopbreak(h->base);
}

bool hub_send(struct hub *h, uint16_t worker, const struct ipc_message *m)
{
    if (worker >= h->args->workers || !h->worker[worker].channel)
        return false;
    if (ipc_channel_send(h->worker[worker].channel, m))
        return true;
    counter_add(COUNTER_IPC_DROPPED, 1);
    LOG(dropped_event, LOG_U64("worker", worker), LOG_STR("message", ipc_type_name(m->type)),
        LOG_U64("waiting_bytes", ipc_channel_pending(h->worker[worker].channel)));
    return false;
}

enum hub_presence hub_find_client(struct hub *h, const char *id, size_t len, struct engine_claim *out)
{
    if (h->engine_ops->find(h->engine, id, len, out))
        return HUB_CONNECTED;
    return h->uncounted > 0 ? HUB_UNCERTAIN : HUB_NOT_CONNECTED;
}

struct engine_claim hub_claim_of(const struct hub_worker *w, uint64_t number)
{
    return (struct engine_claim){.worker = w->number,
                                 .number = number > ENGINE_MAX_CLAIM ? ENGINE_MAX_CLAIM : number};
}

bool hub_kick(struct hub *h, struct engine_claim claim, enum close_reason reason, const char *id, size_t len)
{
    struct ipc_message m = IPC_MAKE(KICK, IPC_NUM(reason), IPC_NUM(claim.number), IPC_BYTES(id, len));
    return hub_send(h, claim.worker, &m);
}

/* The worker is about to tell all its claims: at first, and again when some of them may have been lost. */
static void begin_claims(struct hub_worker *w)
{
    if (w->hello) {
        w->hub->engine_ops->forget_worker(w->hub->engine, w->number);
        hub_shared_worker_lost(w);
        hub_client_wills_forget(w);
    }
    w->hello = true;
}

/* What was handed in before the worker's HELLO is done: answers it. */
static void welcome(struct hub *h, void *arg, enum engine_result ignored)
{
    struct hub_worker *w = arg;
    enum engine_result result = ENGINE_OK;
    uint64_t done = w->requests.answered;
    (void)ignored;
    if (!w->channel || !w->hello)
        return;
    if (!w->feed.begun) {
        result = hub_requests_begin(w, w->incarnation, &done);
        hub_feed_begin(w, w->head);
    }
    struct ipc_message m = IPC_MAKE(WELCOME, IPC_NUM(done), IPC_NUM(w->feed.position), IPC_NUM(result));
    if (!hub_send(h, w->number, &m))
        detach(w, "it takes no welcome");
}

static void on_hello(struct hub_worker *w, const struct ipc_message *m)
{
    if (m->field[0].num != IPC_VERSION) {
        detach(w, "it speaks another version");
        return;
    }
    if (m->field[1].num != w->number) {
        detach(w, "it is another worker");
        return;
    }
    begin_claims(w);
    w->incarnation = m->field[3].num;
    w->head = m->field[4].num;
    hub_on_committed(w->hub, welcome, w);
}

static void on_publish(struct hub_worker *w, const struct ipc_message *m)
{
    const union ipc_field *f = m->field;
    struct hub_publication p = {.qos = (uint8_t)f[1].num,
                                .retain = f[2].num != 0,
                                .expires_ms = f[3].num,
                                .origin = f[4].num,
                                .topic = f[5].bytes,
                                .props = f[6].bytes,
                                .payload = f[7].bytes};
    unsigned workers;
    enum engine_result why;
    uint64_t seq = hub_publish(w->hub, &p, &workers, &why);
    if (seq && f[8].bytes.len)
        hub_session_store_progress(w, &f[8].bytes, &f[9].bytes);
    if (f[0].num)
        hub_request_taken(w, f[0].num, p.qos ? seq : 0, why);
}

/* Of two sessions with one client id in different workers the older one is ended. A worker settles this
 * among its own sessions itself. */
static void on_claim(struct hub_worker *w, const struct ipc_message *m)
{
    struct hub *h = w->hub;
    const struct ipc_bytes *id = &m->field[2].bytes;
    struct engine_claim mine = hub_claim_of(w, m->field[0].num), other;
    bool won = h->engine_ops->claim(h->engine, id->data, id->len, mine, &other);
    counter_set(COUNTER_HUB_CLIENTS, h->engine_ops->count(h->engine));
    if (!won) {
        (void)!hub_kick(h, mine, CLOSE_TAKEN_OVER, id->data, id->len);
        return;
    }
    if (other.worker != ENGINE_NO_WORKER && other.worker != w->number)
        (void)!hub_kick(h, other, CLOSE_TAKEN_OVER, id->data, id->len);
    hub_session_claimed(w, id, mine, m->field[1].num != 0);
}

static void on_release(struct hub_worker *w, const struct ipc_message *m)
{
    struct hub *h = w->hub;
    const struct ipc_bytes *id = &m->field[1].bytes;
    struct engine_claim mine = hub_claim_of(w, m->field[0].num);
    h->engine_ops->release(h->engine, id->data, id->len, mine);
    counter_set(COUNTER_HUB_CLIENTS, h->engine_ops->count(h->engine));
    hub_session_released(w, id, mine);
    hub_shared_gone(w, m->field[0].num, id, 0);
}

/* CLOSE: the session sleeps, or has ended. */
static void on_close(struct hub_worker *w, const struct ipc_message *m)
{
    const struct ipc_bytes *id = &m->field[4].bytes;
    hub_session_close(w, m);
    hub_shared_gone(w, m->field[1].num, id, (uint32_t)m->field[2].num);
}

static void on_claims_done(struct hub_worker *w, const struct ipc_message *m)
{
    (void)m;
    w->replayed = true;
    if (!w->counted) {
        w->counted = true;
        if (--w->hub->uncounted == 0)
            hub_shared_complete(w->hub);
    }
    LOG(replayed_event, LOG_U64("worker", w->number),
        LOG_U64("clients", w->hub->engine_ops->count(w->hub->engine)));
    hub_sessions_claims_complete(w);
    hub_sys_soon(w->hub);
    if (hub_is_ready(w->hub))
        http_api_accept(w->hub->api, true);
}

static void on_client_info(struct hub_worker *w, const struct ipc_message *m)
{
    hub_query_answered(w->hub, w->number, m);
}

/* FENCE: what matters is that it is answered. */
static void on_fence(struct hub_worker *w, const struct ipc_message *m)
{
    (void)w;
    (void)m;
}

/* What a worker may say. Requests begin with their number; those that publish may have none. */
static const struct {
    void (*handle)(struct hub_worker *w, const struct ipc_message *m);
    bool is_request;
} handlers[IPC_TYPE_COUNT] = {
    [IPC_HELLO] = {on_hello, false},
    [IPC_PUBLISH] = {on_publish, true},
    [IPC_PROGRESS] = {hub_session_progress, true},
    [IPC_SUBSCRIBE] = {hub_session_subscribe, true},
    [IPC_UNSUBSCRIBE] = {hub_session_unsubscribe, true},
    [IPC_CLOSE] = {on_close, true},
    [IPC_FENCE] = {on_fence, true},
    [IPC_OPEN] = {hub_session_open, false},
    [IPC_CLAIM] = {on_claim, false},
    [IPC_RELEASE] = {on_release, false},
    [IPC_WILL] = {hub_client_will_told, false},
    [IPC_CLAIMS_DONE] = {on_claims_done, false},
    [IPC_SHARE_JOIN] = {hub_shared_join, false},
    [IPC_SHARE_LEAVE] = {hub_shared_leave, false},
    [IPC_SHARE_DONE] = {hub_shared_done, false},
    [IPC_CLIENT_INFO] = {on_client_info, false},
};

/* A request that has not taken effect yet does so, with its number. */
static void take_request(struct hub_worker *w, const struct ipc_message *m)
{
    uint64_t number = m->field[0].num;
    if (number == 0 && m->type != IPC_PUBLISH)
        LOG(surplus_event, LOG_U64("worker", w->number), LOG_STR("message", ipc_type_name(m->type)));
    else if (number == 0 || hub_request_is_new(w, number)) {
        handlers[m->type].handle(w, m);
        if (m->type != IPC_PUBLISH)
            hub_request_taken(w, number, 0, ENGINE_OK);
    }
}

/* HELLO comes first. */
static void message_cb(void *ctx, struct ipc_channel *ch, const struct ipc_message *m)
{
    struct hub_worker *w = ctx;
    struct hub *h = w->hub;
    CHECK(h->magic == HUB_MAGIC && ch == w->channel);
    if (!w->hello && m->type != IPC_HELLO)
        detach(w, "it did not say hello first");
    else if (handlers[m->type].is_request)
        take_request(w, m);
    else if (handlers[m->type].handle)
        handlers[m->type].handle(w, m);
    else
        LOG(surplus_event, LOG_U64("worker", w->number), LOG_STR("message", ipc_type_name(m->type)));
    if (hub_log_is_full(h))
        hub_hold(h, true);
}

/* The channel takes more again. Answers go first: they are small, and somebody waits for them. */
static void drained_cb(void *ctx, struct ipc_channel *ch)
{
    struct hub_worker *w = ctx;
    CHECK(ch == w->channel);
    hub_requests_drained(w);
    hub_feed_drained(w);
    hub_shared_drained(w);
}

static void closed_cb(void *ctx, struct ipc_channel *ch, const char *why)
{
    struct hub_worker *w = ctx;
    CHECK(ch == w->channel);
    detach(w, why);
}

void hub_workers_setup(struct hub *h)
{
    h->worker = xcalloc(h->args->workers, sizeof *h->worker);
    for (unsigned i = 0; i < h->args->workers; i++) {
        h->worker[i].hub = h;
        h->worker[i].number = (uint16_t)i;
        hub_requests_setup(&h->worker[i]);
    }
    h->uncounted = h->args->workers;
}

/* Reads what the workers say, or leaves it in their channels. */
static void apply_pause(struct hub *h)
{
    for (unsigned i = 0; i < h->args->workers; i++)
        if (h->worker[i].channel)
            ipc_channel_pause(h->worker[i].channel, !h->open || h->held);
}

void hub_worker_attach(struct hub *h, uint16_t number, int fd)
{
    static const struct ipc_channel_handler handler = {
        .message = message_cb, .closed = closed_cb, .drained = drained_cb};
    struct hub_worker *w = &h->worker[number];
    detach(w, "replaced");
    w->channel = ipc_channel_new(h->base, fd, h->args->config->ipc_queue_limit, &handler, w);
    h->attached++;
    struct ipc_message hello = IPC_MAKE(HELLO, IPC_NUM(IPC_VERSION), IPC_NUM(PROCESS_HUB),
                                        IPC_NUM(h->args->generation), IPC_NUM(0), IPC_NUM(0));
    CHECK(ipc_channel_send(w->channel, &hello));
    ipc_channel_pause(w->channel, !h->open || h->held);
    hub_feed_attach(w);
    LOG(attached_event, LOG_U64("worker", number));
    update_gauges(h);
    if (h->attached == h->args->workers)
        hub_open(h);
}

void hub_open(struct hub *h)
{
    if (h->open)
        return;
    h->open = true;
    apply_pause(h);
}

void hub_hold(struct hub *h, bool held)
{
    if (h->held == held)
        return;
    h->held = held;
    apply_pause(h);
}

bool hub_is_ready(const struct hub *h)
{
    for (unsigned i = 0; i < h->args->workers; i++)
        if (!h->worker[i].replayed)
            return false;
    return !h->stopping;
}

void hub_workers_detach(struct hub *h)
{
    for (unsigned i = 0; i < h->args->workers; i++)
        detach(&h->worker[i], "the hub stops");
}
