/*
 * The channel from a worker to the hub, and what happens while there is none. Fed by the sessions through the
 * worker and by the hub; knows neither, and keeps no message that comes.
 *
 * Everything the worker says goes one way, in the order in which it was said: to the channel at once if
 * nothing waits, else behind what waits in the outbox (outbox.h). After HELLO nothing is sent until the hub
 * has said WELCOME. With it the hub says which requests took effect; what is left of the others is sent
 * again, then all claims are told, then goes what was said meanwhile:
 *
 *      HELLO ... WELCOME   requests again, QoS 0   claims, OPEN   CLAIMS_DONE   and so on
 *
 * So a session that ended while the hub was away is closed there before its successor asks for it. Claims are
 * state: when one does not fit the outbox, it is dropped and all of them are told again, with a HELLO; that
 * waits until no request is without an answer, so that WELCOME speaks of all of them.
 *
 * Why pausing cannot end in a standstill. When its fan-out has enough to do the worker stops reading the
 * channel, and DONE, WELCOME and OPENED wait behind the DELIVERs in it. The fan-out waits for nobody: it
 * takes every message to its end by its own timer, a client that cannot take more is left to read from the
 * log or loses messages, and nothing it does needs an answer from the hub. So it falls below its mark and
 * reading goes on, whatever the hub does. A paused worker still writes. The hub for its part never waits for
 * a worker that does not read: kept messages its queue does not take are fed from the log later, and it stops
 * reading requests only while the disk is busy, which depends on no worker. Requests that wait meanwhile are
 * bounded here; beyond that they are refused, and nobody waits for them.
 */
#include "gateway/worker/hub_link.h"

#include <stdlib.h>
#include <sys/random.h>

#include "gateway/base/check.h"
#include "gateway/base/counters.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"
#include "gateway/ipc/ipc_channel.h"
#include "gateway/worker/outbox.h"

#define HUB_LINK_MAGIC 0x484c4e4bu

struct hub_link {
    uint32_t magic;
    struct event_base *base;
    const struct process_args *args;
    const struct hub_link_handler *handler;
    void *ctx;
    struct ipc_channel *channel; /* NULL: the hub is away */
    struct outbox *outbox;
    uint64_t incarnation; /* drawn at the start: the requests' numbers belong to it */
    uint64_t head; /* number of the last kept message that came, or where they begin; 0: no WELCOME yet */
    bool paused;
    bool welcomed;   /* HELLO has been answered */
    bool replay_due; /* a claim was lost: HELLO is to be said again */
    /* Telling all claims: */
    bool replaying;        /* the handler is being asked */
    bool replay_refused;   /* the channel has not taken the last one */
    uint32_t replayed;     /* sessions up to this one have been told */
    uint64_t newest_claim; /* ever said */
    uint64_t replay_until; /* newer ones are said by themselves */
};

LOG_EVENT(log_hub_attached, "hub_attached", LOG_LEVEL_NOTICE);
LOG_EVENT(log_hub_lost, "hub_lost", LOG_LEVEL_WARNING);
LOG_EVENT(log_welcome, "hub_welcome", LOG_LEVEL_INFO);
LOG_EVENT_ONCE_A_SECOND(log_deliver_dropped, "fanout_queue_full", LOG_LEVEL_WARNING);
LOG_EVENT_ONCE_A_SECOND(log_request_refused, "hub_requests_full", LOG_LEVEL_WARNING);

/* ---- what is said ---- */

static bool can_send(const struct hub_link *l) { return l->channel && l->welcomed && !l->replay_due; }

/* Tells claims from where it stopped on; false: the channel takes no more now. */
static bool replay(struct hub_link *l)
{
    uint32_t id;
    l->replaying = true;
    l->replay_refused = false;
    while ((id = l->handler->replay(l->ctx, l->replayed)) && !l->replay_refused)
        l->replayed = id;
    l->replaying = false;
    return id == 0;
}

/* Sends what waits, as far as the channel takes it. */
static void send_waiting(struct hub_link *l)
{
    enum outbox_kind kind;
    struct ipc_message m;
    while (can_send(l) && outbox_next(l->outbox, &kind, &m)) {
        if (kind == OUTBOX_MARK && !replay(l))
            return;
        if (!ipc_channel_send(l->channel, &m))
            return;
        outbox_sent(l->outbox);
    }
}

/* Sends what is not kept afterwards; false: it has to wait. */
static bool send_now(struct hub_link *l, const struct ipc_message *m)
{
    return can_send(l) && !outbox_is_waiting(l->outbox) && ipc_channel_send(l->channel, m);
}

/* Says who this is and how far it has come; nothing else goes out until that is answered. */
static void say_hello(struct hub_link *l)
{
    struct ipc_message hello =
        IPC_MAKE(HELLO, IPC_NUM(IPC_VERSION), IPC_NUM(l->args->number), IPC_NUM(l->args->generation),
                 IPC_NUM(l->incarnation), IPC_NUM(l->head));
    if (!ipc_channel_send(l->channel, &hello))
        return;
    l->welcomed = false;
    l->replay_due = false;
}

/* Goes on after an answer or when the channel has room again. */
static void resume(struct hub_link *l)
{
    if (l->channel && l->welcomed && l->replay_due && !outbox_is_unanswered(l->outbox))
        say_hello(l);
    send_waiting(l);
}

/* ---- what comes ---- */

static void lose(struct hub_link *l, const char *why)
{
    LOG(log_hub_lost, LOG_STR("why", why));
    ipc_channel_free(l->channel);
    l->channel = NULL;
    l->welcomed = l->replay_due = false;
}

static void on_hello(struct hub_link *l, const struct ipc_message *in)
{
    if (in->field[0].num != IPC_VERSION)
        lose(l, "the hub speaks another version");
}

/* The requests up to this number have been answered. What the sessions request in turn has greater ones. */
static void answer(struct hub_link *l, uint64_t number, uint64_t result)
{
    struct session_cookie cookie;
    while (outbox_answer(l->outbox, number, &cookie))
        l->handler->done(l->ctx, &cookie, (int)result);
}

static void on_welcome(struct hub_link *l, const struct ipc_message *in)
{
    static struct ipc_message done = {.type = IPC_CLAIMS_DONE};
    uint64_t number = in->field[0].num, head = in->field[1].num;
    if (l->welcomed)
        return;
    if (head == 0)
        head = 1; /* nothing was ever kept; to the next hub 0 would mean that this worker is new */
    if (l->head == 0)
        l->head = head;
    LOG(log_welcome, LOG_U64("done", number), LOG_U64("head", head),
        LOG_U64("requests_bytes", outbox_bytes(l->outbox, OUTBOX_REQUEST)));
    l->handler->welcome(l->ctx, head);
    answer(l, number, in->field[2].num);
    outbox_again(l->outbox);
    l->welcomed = true;
    l->replayed = 0;
    l->replay_until = l->newest_claim;
    CHECK(outbox_add(l->outbox, OUTBOX_MARK, &done, NULL));
    send_waiting(l);
}

static void on_done(struct hub_link *l, const struct ipc_message *in)
{
    answer(l, in->field[0].num, in->field[1].num);
    resume(l);
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
    if (m->qos > 0 && m->seq > l->head)
        l->head = m->seq;
    if (!l->handler->deliver(l->ctx, m)) {
        counter_add(COUNTER_IPC_DROPPED, 1);
        LOG(log_deliver_dropped, LOG_BYTES("topic", parts.topic, parts.topic_len), LOG_U64("seq", m->seq));
    }
    message_unref(m);
}

static void on_opened(struct hub_link *l, const struct ipc_message *in)
{
    const struct ipc_bytes *id = &in->field[4].bytes;
    const struct session_opening o = {.claim = in->field[0].num,
                                      .present = in->field[1].num != 0,
                                      .unsure_to = in->field[2].num,
                                      .code = (uint8_t)in->field[3].num};
    l->handler->opened(l->ctx, id->data, id->len, &o);
}

static void on_kick(struct hub_link *l, const struct ipc_message *in)
{
    uint64_t reason = in->field[0].num;
    if (reason < CLOSE_REASON_COUNT)
        l->handler->kick(l->ctx, in->field[2].bytes.data, in->field[2].bytes.len, in->field[1].num,
                         (enum close_reason)reason);
}

static void on_share_deliver(struct hub_link *l, const struct ipc_message *in)
{
    l->handler->share(l->ctx, in);
}

static void on_client_get(struct hub_link *l, const struct ipc_message *in)
{
    l->handler->client_get(l->ctx, (uint32_t)in->field[0].num, in->field[1].bytes.data,
                           in->field[1].bytes.len);
}

static void message_cb(void *ctx, struct ipc_channel *ch, const struct ipc_message *m)
{
    static void (*const handlers[IPC_TYPE_COUNT])(struct hub_link *, const struct ipc_message *) = {
        [IPC_HELLO] = on_hello,
        [IPC_WELCOME] = on_welcome,
        [IPC_DONE] = on_done,
        [IPC_DELIVER] = on_deliver,
        [IPC_OPENED] = on_opened,
        [IPC_KICK] = on_kick,
        [IPC_CLIENT_GET] = on_client_get,
        [IPC_SHARE_DELIVER] = on_share_deliver};
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
    (void)ch;
    resume(CHECK_CAST(ctx, struct hub_link, HUB_LINK_MAGIC));
}

static const struct ipc_channel_handler channel_handler = {
    .message = message_cb, .closed = closed_cb, .drained = drained_cb};

/* ---- the link ---- */

struct hub_link *hub_link_new(struct event_base *base, const struct process_args *args,
                              const struct hub_link_handler *h, void *ctx)
{
    struct hub_link *l = xcalloc(1, sizeof *l);
    l->magic = HUB_LINK_MAGIC;
    l->base = base;
    l->args = args;
    l->handler = h;
    l->ctx = ctx;
    l->outbox = outbox_new(args->config->ipc_queue_limit);
    CHECK(getrandom(&l->incarnation, sizeof l->incarnation, 0) == sizeof l->incarnation);
    l->incarnation |= 1; /* never 0, which is nobody's */
    return l;
}

void hub_link_free(struct hub_link *l)
{
    ipc_channel_free(l->channel);
    outbox_free(l->outbox);
    l->magic = 0;
    free(l);
}

void hub_link_attach(struct hub_link *l, int fd)
{
    ipc_channel_free(l->channel);
    l->channel = ipc_channel_new(l->base, fd, l->args->config->ipc_queue_limit, &channel_handler, l);
    if (l->paused)
        ipc_channel_pause(l->channel, true);
    l->welcomed = false;
    say_hello(l);
    LOG(log_hub_attached, LOG_U64("waiting_bytes", outbox_bytes(l->outbox, OUTBOX_REQUEST) +
                                                       outbox_bytes(l->outbox, OUTBOX_PUBLISH)));
}

bool hub_link_publish(struct hub_link *l, struct message *m)
{
    struct ipc_message out = IPC_MAKE(
        PUBLISH, IPC_NUM(0), IPC_NUM(m->qos), IPC_NUM(m->retain), IPC_NUM(m->expires_ms), IPC_NUM(m->origin),
        IPC_BYTES(message_topic(m), m->topic_len), IPC_BYTES(message_props(m), m->props_len),
        IPC_BYTES(message_payload(m), m->payload_len), IPC_BYTES("", 0), IPC_BYTES("", 0));
    return send_now(l, &out) || outbox_add(l->outbox, OUTBOX_PUBLISH, &out, NULL);
}

bool hub_link_request(struct hub_link *l, struct ipc_message *m, const struct session_cookie *cookie)
{
    if (outbox_add(l->outbox, OUTBOX_REQUEST, m, cookie)) {
        send_waiting(l);
        return true;
    }
    counter_add(COUNTER_REQUESTS_REFUSED, 1);
    LOG(log_request_refused, LOG_STR("request", ipc_type_name(m->type)),
        LOG_U64("waiting_bytes", outbox_bytes(l->outbox, OUTBOX_REQUEST)));
    /* What CLOSE would have said the hub finds out when it compares its sessions with all claims. */
    if (m->type == IPC_CLOSE && l->welcomed)
        l->replay_due = true;
    return false;
}

/* Sends a message of the registry, or puts it behind what waits; one that does not fit makes a replay due. */
static void say_claim(struct hub_link *l, uint64_t claim, struct ipc_message *m)
{
    if (l->replaying) {
        l->replay_refused = claim <= l->replay_until && !ipc_channel_send(l->channel, m);
        return;
    }
    if (claim > l->newest_claim)
        l->newest_claim = claim;
    if (can_send(l) && !send_now(l, m) && !outbox_add(l->outbox, OUTBOX_CLAIM, m, NULL))
        l->replay_due = true;
}

void hub_link_claim(struct hub_link *l, const char *client_id, size_t len, uint64_t claim, bool replayed)
{
    struct ipc_message m = IPC_MAKE(CLAIM, IPC_NUM(claim), IPC_NUM(replayed), IPC_BYTES(client_id, len));
    say_claim(l, claim, &m);
}

void hub_link_release(struct hub_link *l, const char *client_id, size_t len, uint64_t claim)
{
    struct ipc_message m = IPC_MAKE(RELEASE, IPC_NUM(claim), IPC_BYTES(client_id, len));
    say_claim(l, claim, &m);
}

void hub_link_open(struct hub_link *l, const char *client_id, size_t len, uint64_t claim, bool clean_start,
                   uint32_t expiry_s)
{
    struct ipc_message m =
        IPC_MAKE(OPEN, IPC_NUM(claim), IPC_NUM(clean_start), IPC_NUM(expiry_s), IPC_BYTES(client_id, len));
    say_claim(l, claim, &m);
}

void hub_link_tell(struct hub_link *l, const struct ipc_message *m)
{
    struct ipc_message copy = *m;
    if (l->replaying)
        l->replay_refused = l->replay_refused || !ipc_channel_send(l->channel, m);
    else if (can_send(l) && !send_now(l, m) && !outbox_add(l->outbox, OUTBOX_CLAIM, &copy, NULL))
        l->replay_due = true;
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

bool hub_link_is_busy(const struct hub_link *l)
{
    return l->channel && (outbox_is_waiting(l->outbox) || outbox_is_unanswered(l->outbox) ||
                          ipc_channel_pending(l->channel) > 0);
}
