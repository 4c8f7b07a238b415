/*
 * What the hub keeps: opens the engine's store, and commits once per turn of the event loop. Workers'
 * requests and the API hand in operations; at the end of the turn they become one commit, and when the engine
 * says what became of it, who waits for that turn is told: kept messages go to the workers, requests are
 * answered, and callers of hub_on_kept() and hub_on_committed() hear.
 *
 *      hub_publish() ── append ─┐                          ┌─ hub_feed_committed()
 *      requests, sessions ──────┼─ end of turn: commit ─ ─ ┼─ hub_requests_settled()
 *      hub_on_committed() ──────┘   (HUB_MAX_TURNS)  poll  └─ fn(result)
 *
 * With log { sync = interval } all of them but those of hub_on_committed() are told when the turn has been
 * handed over: nobody waits for the disk but who is going to read.
 *
 * A turn that finds HUB_MAX_TURNS commits under way waits, and what comes meanwhile is committed with it. It
 * reads nothing back and keeps a message in memory only until its commit.
 */
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/hash.h"
#include "gateway/base/log.h"
#include "gateway/base/message.h"
#include "gateway/base/xmalloc.h"
#include "gateway/hub/hub_internal.h"

LOG_EVENT(start_event, "hub_cannot_start", LOG_LEVEL_ERROR);
LOG_EVENT(open_event, "data_dir_open", LOG_LEVEL_INFO);
LOG_EVENT_ONCE_A_SECOND(failed_event, "commit_failed", LOG_LEVEL_ERROR);

_Static_assert((int)LOG_SYNC_ALWAYS == (int)ENGINE_SYNC_ALWAYS &&
                   (int)LOG_SYNC_INTERVAL == (int)ENGINE_SYNC_INTERVAL &&
                   (int)LOG_SYNC_NEVER == (int)ENGINE_SYNC_NEVER,
               "the configuration's words are the engine's");

/* Topics of QoS 0 messages that wait are told apart by so much of their hash: two that share one wait
 * together. */
#define QOS0_BUCKETS 1024u

/* A message that is being kept. */
struct kept {
    STAILQ_ENTRY(kept) link;
    uint64_t turn;
    struct message *message;
};

/* Who waits for a turn. */
struct waiting {
    STAILQ_ENTRY(waiting) link;
    uint64_t turn;
    hub_committed_fn *fn;
    void *arg;
};
STAILQ_HEAD(waiting_list, waiting);

struct hub_log {
    struct event *end_of_turn, *done;
    bool soon;        /* there is something to commit */
    bool tick_due;    /* the engine's tick waits until nothing else does */
    uint64_t filling; /* the turn that is being filled */
    uint64_t told;    /* the engine has told about this ticket */
    struct turn {
        uint64_t number, ticket;
    } turns[HUB_MAX_TURNS]; /* being committed, the oldest first */
    unsigned count;
    STAILQ_HEAD(, kept) kept; /* in the order of their numbers */
    struct waiting_list until_kept, until_committed;
    uint32_t waiting_qos0[QOS0_BUCKETS]; /* of those kept, by the hash of their topics */
};

/* ---- committing ---- */

uint64_t hub_log_turn(const struct hub *h) { return h->log->filling; }

void hub_commit_soon(struct hub *h)
{
    if (h->log->soon)
        return;
    h->log->soon = true;
    event_active(h->log->end_of_turn, EV_TIMEOUT, 0);
}

/* QoS 0: to whoever is there. How many took it. */
static unsigned deliver_now(struct hub *h, const struct message_parts *m)
{
    struct ipc_message deliver = hub_feed_deliver(m);
    unsigned took = 0;
    for (unsigned i = 0; i < h->args->workers; i++)
        took += hub_send(h, (uint16_t)i, &deliver);
    hub_shared_publish(h, m);
    return took;
}

/* How many messages of QoS 0 wait of those topics that share this one's place. */
static uint32_t *waiting_of(const struct hub *h, const char *topic, size_t len)
{
    return &h->log->waiting_qos0[hash_bytes(topic, len) % QOS0_BUCKETS];
}

/* A message of QoS 0 that waited until it could be read as its topic's retained one; see hub_publish(). */
static void deliver_retained(struct hub *h, const struct message *m)
{
    struct message_parts parts = message_parts_of(m);
    --*waiting_of(h, parts.topic, parts.topic_len);
    (void)deliver_now(h, &parts);
}

/* A message that is kept now. */
static void deliver_kept(struct hub *h, const struct message *m)
{
    struct message_parts parts = message_parts_of(m);
    hub_feed_committed(h, m);
    hub_shared_kept(h, &parts);
}

/* The messages of a turn go to the workers, or are dropped. */
static void settle_kept(struct hub *h, uint64_t turn, enum engine_result result)
{
    struct kept *k;
    while ((k = STAILQ_FIRST(&h->log->kept)) && k->turn <= turn) {
        STAILQ_REMOVE_HEAD(&h->log->kept, link);
        if (k->message->qos == 0)
            deliver_retained(h, k->message);
        else if (result == ENGINE_OK)
            deliver_kept(h, k->message);
        else
            counter_add(COUNTER_HUB_REFUSED, 1);
        message_unref(k->message);
        free(k);
    }
}

static void settle_waiting(struct hub *h, struct waiting_list *l, uint64_t turn, enum engine_result result)
{
    struct waiting *w;
    while ((w = STAILQ_FIRST(l)) && w->turn <= turn) {
        STAILQ_REMOVE_HEAD(l, link);
        w->fn(h, w->arg, result);
        free(w);
    }
}

/* Whether what is handed in counts as kept although it may be lost yet. */
static bool trusts(const struct hub *h) { return h->args->config->log_sync == LOG_SYNC_INTERVAL; }

/* A turn counts as kept, or not. */
static void answer(struct hub *h, uint64_t turn, enum engine_result result)
{
    settle_kept(h, turn, result);
    hub_requests_settled(h, turn, result);
    settle_waiting(h, &h->log->until_kept, turn, result);
}

/* The turns up to this ticket are done. */
static void settle(struct hub *h, uint64_t ticket, enum engine_result result)
{
    struct hub_log *l = h->log;
    while (l->count && l->turns[0].ticket <= ticket) {
        uint64_t turn = l->turns[0].number;
        memmove(&l->turns[0], &l->turns[1], --l->count * sizeof l->turns[0]);
        if (!trusts(h))
            answer(h, turn, result);
        settle_waiting(h, &l->until_committed, turn, result);
    }
}

/* Commits what was handed in, if there is room for one more turn; one that was answered goes with the one
 * before it. */
static void commit_turn(struct hub *h)
{
    struct hub_log *l = h->log;
    if (!l->soon || (l->count == HUB_MAX_TURNS && !trusts(h)))
        return;
    l->soon = false;
    hub_requests_note(h);
    uint64_t ticket = h->engine_ops->commit(h->engine), turn = l->filling++;
    if (trusts(h))
        answer(h, turn, ENGINE_OK);
    if (l->count == HUB_MAX_TURNS)
        l->count--;
    l->turns[l->count++] = (struct turn){.number = turn, .ticket = ticket};
    if (ticket <= l->told)
        settle(h, ticket, ENGINE_OK); /* nothing had been handed in: somebody only asked */
}

static void end_of_turn_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    commit_turn(CHECK_CAST(arg, struct hub, HUB_MAGIC));
}

static void wait_in(struct hub *h, struct waiting_list *l, hub_committed_fn *fn, void *arg)
{
    struct waiting *w = xmalloc(sizeof *w);
    *w = (struct waiting){.turn = h->log->filling, .fn = fn, .arg = arg};
    STAILQ_INSERT_TAIL(l, w, link);
    hub_commit_soon(h);
}

void hub_on_kept(struct hub *h, hub_committed_fn *fn, void *arg) { wait_in(h, &h->log->until_kept, fn, arg); }

void hub_on_committed(struct hub *h, hub_committed_fn *fn, void *arg)
{
    wait_in(h, &h->log->until_committed, fn, arg);
}

/* The engine's tick is a commit of its own, so it must not come between a request and its number. */
static void tick_engine(struct hub *h)
{
    if (!h->log->tick_due || h->log->soon)
        return;
    h->log->tick_due = false;
    h->engine_ops->tick(h->engine);
}

bool hub_log_is_full(const struct hub *h)
{
    return h->engine_ops->busy(h->engine) || h->engine_ops->crowded(h->engine);
}

void hub_log_tick(struct hub *h)
{
    h->log->tick_due = true;
    commit_turn(h);
    tick_engine(h);
    hub_hold(h, hub_log_is_full(h));
    hub_feed_tick(h);
}

/* ---- what the engine tells ---- */

static void committed_cb(void *ctx, uint64_t ticket, uint64_t last_seq, enum engine_result result)
{
    struct hub *h = ctx;
    (void)last_seq;
    if (result == ENGINE_FAILED) /* the engine itself says when it has no room */
        LOG(failed_event, LOG_STR("why", engine_result_text(result)));
    h->log->told = ticket;
    settle(h, ticket, result);
}

static void session_expired_cb(void *ctx, const char *client_id, size_t len)
{
    hub_session_expired(ctx, client_id, len);
}

static void done_cb(evutil_socket_t fd, short what, void *arg)
{
    static const struct engine_handler handler = {.committed = committed_cb,
                                                  .session_expired = session_expired_cb};
    struct hub *h = CHECK_CAST(arg, struct hub, HUB_MAGIC);
    (void)fd;
    (void)what;
    clock_update();
    h->engine_ops->poll(h->engine, &handler, h);
    commit_turn(h);
    tick_engine(h);
    hub_hold(h, hub_log_is_full(h));
}

/* ---- publishing ---- */

static struct message_parts parts_of(const struct hub_publication *p)
{
    return (struct message_parts){.topic = p->topic.data,
                                  .topic_len = (uint16_t)p->topic.len,
                                  .props = p->props.data,
                                  .props_len = p->props.len,
                                  .payload = p->payload.data,
                                  .payload_len = p->payload.len,
                                  .qos = p->qos,
                                  .retain = p->retain,
                                  .expires_ms = p->expires_ms,
                                  .origin = p->origin};
}

/* The message waits for its commit. */
static void keep(struct hub *h, const struct message_parts *m)
{
    struct kept *k = xmalloc(sizeof *k);
    *k = (struct kept){.turn = h->log->filling, .message = message_new(m)};
    STAILQ_INSERT_TAIL(&h->log->kept, k, link);
    if (m->qos == 0)
        ++*waiting_of(h, m->topic, m->topic_len);
}

/*
 * Whether a message of QoS 0 has to wait for a commit: a retained one, so that who subscribes from then on
 * finds it, and one of a topic of which such a one waits, so that it does not overtake that.
 */
static bool has_to_wait(const struct hub *h, const struct message_parts *m)
{
    return m->retain || *waiting_of(h, m->topic, m->topic_len) > 0;
}

uint64_t hub_publish(struct hub *h, const struct hub_publication *p, unsigned *workers,
                     enum engine_result *why)
{
    struct message_parts m = parts_of(p);
    *workers = 0;
    *why = ENGINE_OK;
    if (p->qos == 0 && p->retain && h->engine_ops->busy(h->engine))
        *why = ENGINE_BUSY;
    else if (p->qos == 0)
        m.seq = h->engine_ops->next_seq(h->engine);
    else
        m.seq = h->engine_ops->append(h->engine, &m, why);
    if (m.seq == 0) {
        counter_add(COUNTER_HUB_REFUSED, 1);
        return 0;
    }
    if (p->retain)
        h->engine_ops->retain(h->engine, &m);
    if (p->qos == 0 && !has_to_wait(h, &m)) {
        *workers = deliver_now(h, &m);
    } else {
        keep(h, &m);
        hub_commit_soon(h);
        *workers = h->attached;
    }
    counter_add(COUNTER_HUB_PUBLISHES, 1);
    return m.seq;
}

/* ---- reading ---- */

static bool everything(const char *filter, size_t filter_len, const char *topic, size_t topic_len)
{
    (void)filter;
    (void)filter_len;
    (void)topic;
    (void)topic_len;
    return true;
}

struct engine_scan *hub_log_scan(struct hub *h, uint64_t after)
{
    static const struct engine_filter all = {.text = "#", .len = 1};
    return h->engine_ops->scan_new(h->reader, &all, 1, after, everything);
}

/* ---- opening and closing ---- */

/* The most client ids there can be: what the workers can hold, and some that are on their way from one to
 * another. */
static uint32_t registry_size(const struct process_args *args)
{
    uint64_t n = (uint64_t)args->max_connections * args->workers;
    n += n / 8 + 1024;
    return n > 1u << 30 ? 1u << 30 : (uint32_t)n;
}

static struct engine_settings settings_of(const struct process_args *args)
{
    const struct config *c = args->config;
    struct engine_settings s = ENGINE_SETTINGS_DEFAULT;
    s.data_dir = c->data_dir;
    s.max_clients = registry_size(args);
    s.sync = (enum engine_sync)c->log_sync;
    s.sync_interval_ms = c->log_sync_interval_ms;
    s.max_age_ms = (uint64_t)c->log_max_age_s * 1000;
    s.max_log_bytes = c->log_max_size;
    s.max_file_bytes = c->log_max_file;
    s.reserve_bytes = c->log_reserve;
    return s;
}

/* Opens the store and a reader of it; false and why. */
static bool open_store(struct hub *h, char *why)
{
    struct engine_settings s = settings_of(h->args);
    h->engine = h->engine_ops->open_store(&s, why);
    if (h->engine)
        h->reader = h->engine_ops->reader_open(h->engine, s.data_dir, why);
    return h->reader != NULL;
}

bool hub_log_open(struct hub *h)
{
    char why[ENGINE_WHY_MAX];
    struct engine_stats s;
    if (!open_store(h, why)) {
        LOG(start_event, LOG_STR("why", why));
        return false;
    }
    struct hub_log *l = h->log = xcalloc(1, sizeof *l);
    STAILQ_INIT(&l->kept);
    STAILQ_INIT(&l->until_kept);
    STAILQ_INIT(&l->until_committed);
    l->filling = 1;
    l->end_of_turn = event_new(h->base, -1, EV_PERSIST, end_of_turn_cb, h);
    l->done = event_new(h->base, h->engine_ops->event_fd(h->engine), EV_READ | EV_PERSIST, done_cb, h);
    CHECK(l->end_of_turn && l->done && event_add(l->done, NULL) == 0);
    h->engine_ops->stats(h->engine, &s);
    h->newest = s.head;
    l->told = h->engine_ops->commit(h->engine); /* what opening has handed in is done */
    LOG(open_event, LOG_STR("data_dir", h->args->config->data_dir), LOG_U64("messages", s.messages),
        LOG_U64("sessions", s.sessions), LOG_U64("retained", s.retained), LOG_U64("newest", s.head));
    return true;
}

/* Who waits hears that it has failed; who begins to wait then hears nothing. */
static void free_waiting(struct hub *h, struct waiting_list *l, uint64_t last)
{
    settle_waiting(h, l, last, ENGINE_FAILED);
    while (!STAILQ_EMPTY(l)) {
        struct waiting *w = STAILQ_FIRST(l);
        STAILQ_REMOVE_HEAD(l, link);
        free(w);
    }
}

/* Nobody is told any more; the engine keeps what it was handed when it is closed. */
static void free_log(struct hub *h)
{
    struct hub_log *l = h->log;
    uint64_t last = l->filling++;
    settle_kept(h, last, ENGINE_FAILED);
    free_waiting(h, &l->until_kept, last);
    free_waiting(h, &l->until_committed, last);
    event_free(l->end_of_turn);
    event_free(l->done);
    free(l);
    h->log = NULL;
}

void hub_log_close(struct hub *h)
{
    if (h->log) {
        hub_requests_note(h);
        free_log(h);
    }
    if (h->reader)
        h->engine_ops->reader_close(h->reader);
    if (h->engine)
        h->engine_ops->close(h->engine);
    h->reader = NULL;
    h->engine = NULL;
}
