/*
 * The hub's side of its workers: attaching and losing their channels, the registry of client ids that their
 * claims feed, and the publishes that go in from one worker or the API and out to all of them.
 *
 * After a restart of the hub the registry is empty and the workers replay their claims. Until every worker
 * has done so once, an id that is not found may still be connected: the API says "try again" instead of "not
 * there". Until every worker is attached, at most for a second, what they say is left in their channels, so
 * that a publish does not miss the workers that come a moment later.
 *
 * It keeps no message: what a worker's channel does not take is counted and lost, which QoS 0 allows.
 */
#include <event2/event.h>

#include "gateway/base/check.h"
#include "gateway/base/counters.h"
#include "gateway/base/log.h"
#include "gateway/hub/http_api.h"
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
    h->engine_ops->forget_worker(h->engine, w->number);
    hub_queries_lost(h, w->number);
    update_gauges(h);
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

unsigned hub_publish(struct hub *h, const struct hub_publication *p, uint64_t *seq)
{
    *seq = h->engine_ops->next_seq(h->engine);
    struct ipc_message m =
        IPC_MAKE(DELIVER, IPC_NUM(*seq), IPC_NUM(p->qos), IPC_NUM(p->retain), IPC_NUM(p->expires_ms),
                 IPC_NUM(p->origin), {.bytes = p->topic}, {.bytes = p->props}, {.bytes = p->payload});
    unsigned took = 0;
    for (unsigned i = 0; i < h->args->workers; i++)
        took += hub_send(h, (uint16_t)i, &m);
    counter_add(COUNTER_HUB_PUBLISHES, 1);
    return took;
}

enum hub_presence hub_find_client(struct hub *h, const char *id, size_t len, struct engine_claim *out)
{
    if (h->engine_ops->find(h->engine, id, len, out))
        return HUB_CONNECTED;
    return h->uncounted > 0 ? HUB_UNCERTAIN : HUB_NOT_CONNECTED;
}

/* The claim a worker speaks of. */
static struct engine_claim claim_of(const struct hub_worker *w, uint64_t number)
{
    return (struct engine_claim){.worker = w->number,
                                 .number = number > ENGINE_MAX_CLAIM ? ENGINE_MAX_CLAIM : number};
}

/* Ends a session that has lost its client id to another one. */
static void kick_loser(struct hub *h, struct engine_claim loser, const struct ipc_bytes *id)
{
    struct ipc_message m = IPC_MAKE(KICK, IPC_NUM(CLOSE_TAKEN_OVER), IPC_NUM(loser.number), {.bytes = *id});
    (void)!hub_send(h, loser.worker, &m);
}

/* The worker is about to tell all its claims: at first, and again when some of them may have been lost. */
static void begin_claims(struct hub_worker *w)
{
    if (w->hello)
        w->hub->engine_ops->forget_worker(w->hub->engine, w->number);
    w->hello = true;
}

static void on_hello(struct hub_worker *w, const struct ipc_message *m)
{
    if (m->field[0].num != IPC_VERSION)
        detach(w, "it speaks another version");
    else if (m->field[1].num != w->number)
        detach(w, "it is another worker");
    else
        begin_claims(w);
}

static void on_publish(struct hub_worker *w, const struct ipc_message *m)
{
    struct hub_publication p = {.qos = (uint8_t)m->field[0].num,
                                .retain = m->field[1].num != 0,
                                .expires_ms = m->field[2].num,
                                .origin = m->field[3].num,
                                .topic = m->field[4].bytes,
                                .props = m->field[5].bytes,
                                .payload = m->field[6].bytes};
    uint64_t seq;
    hub_publish(w->hub, &p, &seq);
}

/* Of two sessions with one client id in different workers the older one is ended. A worker settles this
 * among its own sessions itself. */
static void on_claim(struct hub_worker *w, const struct ipc_message *m)
{
    struct hub *h = w->hub;
    const struct ipc_bytes *id = &m->field[2].bytes;
    struct engine_claim mine = claim_of(w, m->field[0].num), other;
    if (!h->engine_ops->claim(h->engine, id->data, id->len, mine, &other))
        kick_loser(h, mine, id);
    else if (other.worker != ENGINE_NO_WORKER && other.worker != w->number)
        kick_loser(h, other, id);
    counter_set(COUNTER_HUB_CLIENTS, h->engine_ops->count(h->engine));
}

static void on_release(struct hub_worker *w, const struct ipc_message *m)
{
    struct hub *h = w->hub;
    const struct ipc_bytes *id = &m->field[1].bytes;
    h->engine_ops->release(h->engine, id->data, id->len, claim_of(w, m->field[0].num));
    counter_set(COUNTER_HUB_CLIENTS, h->engine_ops->count(h->engine));
}

static void on_claims_done(struct hub_worker *w, const struct ipc_message *m)
{
    (void)m;
    w->replayed = true;
    if (!w->counted) {
        w->counted = true;
        w->hub->uncounted--;
    }
    LOG(replayed_event, LOG_U64("worker", w->number),
        LOG_U64("clients", w->hub->engine_ops->count(w->hub->engine)));
    if (hub_is_ready(w->hub))
        http_api_accept(w->hub->api, true);
}

static void on_client_info(struct hub_worker *w, const struct ipc_message *m)
{
    hub_query_answered(w->hub, w->number, m);
}

/* What a worker may say; HELLO comes first. */
static void message_cb(void *ctx, struct ipc_channel *ch, const struct ipc_message *m)
{
    static void (*const handlers[IPC_TYPE_COUNT])(struct hub_worker *, const struct ipc_message *) = {
        [IPC_HELLO] = on_hello,     [IPC_PUBLISH] = on_publish,         [IPC_CLAIM] = on_claim,
        [IPC_RELEASE] = on_release, [IPC_CLAIMS_DONE] = on_claims_done, [IPC_CLIENT_INFO] = on_client_info,
    };
    struct hub_worker *w = ctx;
    CHECK(w->hub->magic == HUB_MAGIC && ch == w->channel);
    if (!w->hello && m->type != IPC_HELLO)
        detach(w, "it did not say hello first");
    else if (handlers[m->type])
        handlers[m->type](w, m);
    else
        LOG(surplus_event, LOG_U64("worker", w->number), LOG_STR("message", ipc_type_name(m->type)));
}

static void closed_cb(void *ctx, struct ipc_channel *ch, const char *why)
{
    struct hub_worker *w = ctx;
    CHECK(ch == w->channel);
    detach(w, why);
}

void hub_worker_attach(struct hub *h, uint16_t number, int fd)
{
    static const struct ipc_channel_handler handler = {.message = message_cb, .closed = closed_cb};
    struct hub_worker *w = &h->worker[number];
    detach(w, "replaced");
    w->channel = ipc_channel_new(h->base, fd, h->args->config->ipc_queue_limit, &handler, w);
    h->attached++;
    struct ipc_message hello =
        IPC_MAKE(HELLO, IPC_NUM(IPC_VERSION), IPC_NUM(PROCESS_HUB), IPC_NUM(h->args->generation));
    CHECK(ipc_channel_send(w->channel, &hello));
    ipc_channel_pause(w->channel, !h->open);
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
    for (unsigned i = 0; i < h->args->workers; i++)
        if (h->worker[i].channel)
            ipc_channel_pause(h->worker[i].channel, false);
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
