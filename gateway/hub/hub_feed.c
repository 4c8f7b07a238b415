/*
 * Kept messages on their way to the workers: each worker is given all of them, in the order of their numbers,
 * without a gap. hub_log.c feeds it with what has just been committed. A worker that takes them gets them
 * from there; one whose channel is full, or that comes back and lacks some, is behind: it is given what the
 * log holds after its position, in slices, as its channel drains, until it has come to the end.
 *
 *      committed ──> live ──channel full──> behind: blocked ──drained──> reads the log ──end──> live
 *                                              ^─────────channel full────────┘
 *
 * So the hub holds nothing in memory for a slow worker beyond its channel's limit. Messages with QoS 0 do not
 * come through here.
 */
#include <event2/event.h>

#include "gateway/base/check.h"
#include "gateway/base/counters.h"
#include "gateway/base/log.h"
#include "gateway/base/message.h"
#include "gateway/hub/hub_internal.h"

#define SLICE_MESSAGES 256

LOG_EVENT(behind_event, "worker_behind", LOG_LEVEL_INFO);
LOG_EVENT(live_event, "worker_caught_up", LOG_LEVEL_INFO);

/* Readers may come later than what was told (sync = interval): how long to wait for them. */
static const struct timeval a_moment = {0, 20000};
static const struct timeval at_once = {0, 0};

struct ipc_message hub_feed_deliver(const struct message_parts *m)
{
    return (struct ipc_message)IPC_MAKE(DELIVER, IPC_NUM(m->seq), IPC_NUM(m->qos), IPC_NUM(m->retain),
                                        IPC_NUM(m->expires_ms), IPC_NUM(m->origin),
                                        IPC_BYTES(m->topic, m->topic_len), IPC_BYTES(m->props, m->props_len),
                                        IPC_BYTES(m->payload, m->payload_len));
}

/* Has the slices go on. */
static void schedule(struct hub *h, const struct timeval *when)
{
    if (!evtimer_pending(h->feed_timer, NULL))
        CHECK(evtimer_add(h->feed_timer, when) == 0);
}

static void set_behind(struct hub_worker *w, bool behind)
{
    struct hub_feed *f = &w->feed;
    if (f->behind == behind)
        return;
    f->behind = behind;
    if (behind) {
        counter_add(COUNTER_HUB_BEHIND, 1);
        LOG(behind_event, LOG_U64("worker", w->number), LOG_U64("after", f->position));
        return;
    }
    counter_sub(COUNTER_HUB_BEHIND, 1);
    LOG(live_event, LOG_U64("worker", w->number), LOG_U64("position", f->position));
}

static void free_scan(struct hub_worker *w)
{
    if (w->feed.scan)
        w->hub->engine_ops->scan_free(w->feed.scan);
    w->feed.scan = NULL;
}

/* ---- live ---- */

/* Sends one, unless the worker has it. False: the channel is full. */
static bool give(struct hub_worker *w, uint64_t seq, const struct ipc_message *deliver)
{
    struct hub_feed *f = &w->feed;
    if (seq <= f->position)
        return true;
    if (!ipc_channel_send(w->channel, deliver)) {
        f->blocked = true;
        return false;
    }
    f->position = seq;
    return true;
}

void hub_feed_committed(struct hub *h, const struct message *m)
{
    struct message_parts parts = message_parts_of(m);
    struct ipc_message deliver = hub_feed_deliver(&parts);
    h->newest = m->seq;
    for (unsigned i = 0; i < h->args->workers; i++) {
        struct hub_worker *w = &h->worker[i];
        if (w->feed.begun && !w->feed.behind && !give(w, m->seq, &deliver))
            set_behind(w, true);
    }
}

/* ---- behind ---- */

static bool give_cb(void *ctx, const struct message_parts *m, uint64_t time_ms)
{
    struct ipc_message deliver = hub_feed_deliver(m);
    (void)time_ms;
    return give(ctx, m->seq, &deliver);
}

/* Whether everything that was told as kept is there to read: with sync = interval it comes a little later,
 * and not at all if the disk failed. */
static bool all_is_written(struct hub *h)
{
    struct engine_stats s;
    h->engine_ops->stats(h->engine, &s);
    return s.pending_bytes == 0;
}

/* Reads on. Returns when to do so again; NULL: not by itself. */
static const struct timeval *slice(struct hub_worker *w)
{
    const struct engine_ops *ops = w->hub->engine_ops;
    struct hub_feed *f = &w->feed;
    if (!f->scan)
        f->scan = hub_log_scan(w->hub, f->position);
    bool complete = all_is_written(w->hub);
    enum engine_scan_result r = ops->scan_next(f->scan, SLICE_MESSAGES, give_cb, w);
    if (f->position < ops->scan_position(f->scan))
        f->position = ops->scan_position(f->scan);
    if (r == ENGINE_SCAN_MORE)
        return f->blocked ? NULL : &at_once;
    if (r == ENGINE_SCAN_END && !complete && f->position < w->hub->newest)
        return &a_moment;
    free_scan(w);
    if (r == ENGINE_SCAN_END)
        set_behind(w, false);
    return NULL;
}

/* One slice for each that is behind and not blocked. */
static void feed_cb(evutil_socket_t fd, short what, void *arg)
{
    struct hub *h = CHECK_CAST(arg, struct hub, HUB_MAGIC);
    const struct timeval *again = NULL;
    (void)fd;
    (void)what;
    for (unsigned i = 0; i < h->args->workers; i++) {
        struct hub_worker *w = &h->worker[i];
        if (!w->feed.behind || w->feed.blocked)
            continue;
        const struct timeval *when = slice(w);
        if (when && again != &at_once)
            again = when;
    }
    if (again)
        schedule(h, again);
}

void hub_feed_drained(struct hub_worker *w)
{
    w->feed.blocked = false;
    if (w->feed.behind)
        schedule(w->hub, &at_once);
}

void hub_feed_tick(struct hub *h)
{
    for (unsigned i = 0; i < h->args->workers; i++)
        if (h->worker[i].feed.behind)
            schedule(h, &at_once);
}

/* ---- begin and end ---- */

void hub_feed_attach(struct hub_worker *w) { w->feed = (struct hub_feed){.position = w->hub->newest}; }

void hub_feed_begin(struct hub_worker *w, uint64_t head)
{
    if (head)
        w->feed.position = head;
    w->feed.begun = true;
    if (w->feed.position >= w->hub->newest)
        return;
    set_behind(w, true);
    schedule(w->hub, &at_once);
}

void hub_feed_end(struct hub_worker *w)
{
    if (w->feed.behind)
        counter_sub(COUNTER_HUB_BEHIND, 1);
    free_scan(w);
    w->feed = (struct hub_feed){0};
}

void hub_feed_setup(struct hub *h)
{
    h->feed_timer = evtimer_new(h->base, feed_cb, h);
    CHECK(h->feed_timer);
}

void hub_feed_free(struct hub *h)
{
    if (h->feed_timer)
        event_free(h->feed_timer);
    h->feed_timer = NULL;
}
