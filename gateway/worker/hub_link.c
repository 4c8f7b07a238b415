/*
 * The channel from a worker to the hub, and what happens while there is none.
 *
 * Claims are state: the hub is told each change, and all of them again whenever it may have missed one (a new
 * channel, a refused send). Publishes are events: those the channel does not take wait in a list, bounded in
 * bytes, and go first once it does. Fed by the sessions through the worker and by the hub; knows neither.
 */
#include "gateway/worker/hub_link.h"

#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/counters.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"
#include "gateway/ipc/ipc_channel.h"

#define HUB_LINK_MAGIC 0x484c4e4bu

/* A publish that waits for the hub. */
struct waiting {
    struct waiting *next;
    struct message *message;
};

struct hub_link {
    uint32_t magic;
    struct event_base *base;
    const struct process_args *args;
    const struct hub_link_handler *handler;
    void *ctx;
    struct ipc_channel *channel; /* NULL: the hub is away */
    bool paused;
    bool replay_due; /* a registry message was refused */
    struct waiting *first, **last;
    size_t waiting_bytes;
};

LOG_EVENT(log_hub_attached, "hub_attached", LOG_LEVEL_NOTICE);
LOG_EVENT(log_hub_lost, "hub_lost", LOG_LEVEL_WARNING);
LOG_EVENT_ONCE_A_SECOND(log_deliver_dropped, "fanout_queue_full", LOG_LEVEL_WARNING);

/* Sends a client's message; false when the channel does not take it now. */
static bool send_publish(struct hub_link *l, const struct message *m)
{
    struct ipc_message out =
        IPC_MAKE(PUBLISH, IPC_NUM(m->qos), IPC_NUM(m->retain), IPC_NUM(m->expires_ms), IPC_NUM(m->origin),
                 IPC_BYTES(message_topic(m), m->topic_len), IPC_BYTES(message_props(m), m->props_len),
                 IPC_BYTES(message_payload(m), m->payload_len));
    return l->channel && ipc_channel_send(l->channel, &out);
}

/* Sends what has waited, as far as the channel takes it. */
static void send_waiting(struct hub_link *l)
{
    while (l->first && send_publish(l, l->first->message)) {
        struct waiting *w = l->first;
        l->first = w->next;
        if (!l->first)
            l->last = &l->first;
        l->waiting_bytes -= message_size(w->message) + sizeof *w;
        message_unref(w->message);
        free(w);
    }
}

/*
 * Tells the hub all claims: HELLO, at which it forgets what it knew of this worker, the claims, and that they
 * are complete. If the channel refuses some of it, it is done once more when it has drained.
 */
static void replay(struct hub_link *l)
{
    struct ipc_message hello =
        IPC_MAKE(HELLO, IPC_NUM(IPC_VERSION), IPC_NUM(l->args->number), IPC_NUM(l->args->generation));
    struct ipc_message done = {.type = IPC_CLAIMS_DONE};
    l->replay_due = !ipc_channel_send(l->channel, &hello);
    if (!l->replay_due)
        l->handler->replay(l->ctx);
    if (!l->replay_due && !ipc_channel_send(l->channel, &done))
        l->replay_due = true;
}

static void on_deliver(struct hub_link *l, const struct ipc_message *in)
{
    struct message_parts parts = {.seq = in->field[0].num,
                                  .qos = (uint8_t)in->field[1].num,
                                  .retain = in->field[2].num != 0,
                                  .expires_ms = in->field[3].num,
                                  .origin = in->field[4].num,
                                  .topic = in->field[5].bytes.data,
                                  .topic_len = (uint16_t)in->field[5].bytes.len,
                                  .props = in->field[6].bytes.data,
                                  .props_len = in->field[6].bytes.len,
                                  .payload = in->field[7].bytes.data,
                                  .payload_len = in->field[7].bytes.len};
    struct message *m = message_new(&parts);
    if (!l->handler->deliver(l->ctx, m)) {
        counter_add(COUNTER_IPC_DROPPED, 1);
        LOG(log_deliver_dropped, LOG_BYTES("topic", parts.topic, parts.topic_len), LOG_U64("seq", m->seq));
    }
    message_unref(m);
}

static void on_kick(struct hub_link *l, const struct ipc_message *in)
{
    uint64_t reason = in->field[0].num;
    if (reason < CLOSE_REASON_COUNT)
        l->handler->kick(l->ctx, in->field[2].bytes.data, in->field[2].bytes.len, in->field[1].num,
                         (enum close_reason)reason);
}

static void on_client_get(struct hub_link *l, const struct ipc_message *in)
{
    l->handler->client_get(l->ctx, (uint32_t)in->field[0].num, in->field[1].bytes.data,
                           in->field[1].bytes.len);
}

static void lose(struct hub_link *l, const char *why)
{
    LOG(log_hub_lost, LOG_STR("why", why));
    ipc_channel_free(l->channel);
    l->channel = NULL;
}

static void on_hello(struct hub_link *l, const struct ipc_message *in)
{
    if (in->field[0].num != IPC_VERSION)
        lose(l, "the hub speaks another version");
}

static void message_cb(void *ctx, struct ipc_channel *ch, const struct ipc_message *m)
{
    static void (*const handlers[IPC_TYPE_COUNT])(struct hub_link *, const struct ipc_message *) = {
        [IPC_HELLO] = on_hello,
        [IPC_DELIVER] = on_deliver,
        [IPC_KICK] = on_kick,
        [IPC_CLIENT_GET] = on_client_get};
    struct hub_link *l = CHECK_CAST(ctx, struct hub_link, HUB_LINK_MAGIC);
    (void)ch;
    if (handlers[m->type])
        handlers[m->type](l, m);
}

static void closed_cb(void *ctx, struct ipc_channel *ch, const char *why)
{
    struct hub_link *l = CHECK_CAST(ctx, struct hub_link, HUB_LINK_MAGIC);
    if (ch == l->channel)
        lose(l, why);
}

/* The channel has room again after it had refused something. */
static void drained_cb(void *ctx, struct ipc_channel *ch)
{
    struct hub_link *l = CHECK_CAST(ctx, struct hub_link, HUB_LINK_MAGIC);
    (void)ch;
    if (l->replay_due)
        replay(l);
    send_waiting(l);
}

static const struct ipc_channel_handler channel_handler = {
    .message = message_cb, .closed = closed_cb, .drained = drained_cb};

struct hub_link *hub_link_new(struct event_base *base, const struct process_args *args,
                              const struct hub_link_handler *h, void *ctx)
{
    struct hub_link *l = xcalloc(1, sizeof *l);
    l->magic = HUB_LINK_MAGIC;
    l->base = base;
    l->args = args;
    l->handler = h;
    l->ctx = ctx;
    l->last = &l->first;
    return l;
}

void hub_link_free(struct hub_link *l)
{
    ipc_channel_free(l->channel);
    while (l->first) {
        struct waiting *w = l->first;
        l->first = w->next;
        message_unref(w->message);
        free(w);
    }
    l->magic = 0;
    free(l);
}

void hub_link_attach(struct hub_link *l, int fd)
{
    ipc_channel_free(l->channel);
    l->channel = ipc_channel_new(l->base, fd, l->args->config->ipc_queue_limit, &channel_handler, l);
    if (l->paused)
        ipc_channel_pause(l->channel, true);
    replay(l);
    send_waiting(l);
    LOG(log_hub_attached, LOG_U64("waiting_bytes", l->waiting_bytes));
}

bool hub_link_publish(struct hub_link *l, struct message *m)
{
    if (!l->first && send_publish(l, m))
        return true;
    if (l->waiting_bytes + message_size(m) > l->args->config->ipc_queue_limit)
        return false;
    struct waiting *w = xmalloc(sizeof *w);
    w->next = NULL;
    w->message = message_ref(m);
    *l->last = w;
    l->last = &w->next;
    l->waiting_bytes += message_size(m) + sizeof *w;
    return true;
}

/* Registry messages that are refused make a replay due. */
static void send_registry(struct hub_link *l, const struct ipc_message *m)
{
    if (l->channel && !ipc_channel_send(l->channel, m))
        l->replay_due = true;
}

void hub_link_claim(struct hub_link *l, const char *client_id, size_t len, uint64_t claim, bool replayed)
{
    struct ipc_message m = IPC_MAKE(CLAIM, IPC_NUM(claim), IPC_NUM(replayed), IPC_BYTES(client_id, len));
    send_registry(l, &m);
}

void hub_link_release(struct hub_link *l, const char *client_id, size_t len, uint64_t claim)
{
    struct ipc_message m = IPC_MAKE(RELEASE, IPC_NUM(claim), IPC_BYTES(client_id, len));
    send_registry(l, &m);
}

void hub_link_send(struct hub_link *l, const struct ipc_message *m)
{
    if (!l->channel || !ipc_channel_send(l->channel, m))
        counter_add(COUNTER_IPC_DROPPED, 1);
}

void hub_link_pause(struct hub_link *l, bool paused)
{
    if (l->paused == paused)
        return;
    l->paused = paused;
    if (l->channel)
        ipc_channel_pause(l->channel, paused);
}

bool hub_link_is_paused(const struct hub_link *l) { return l->paused; }
