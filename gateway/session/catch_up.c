/*
 * What a session reads for itself, in the loop's turns between everything else: retained messages that match
 * a new subscription (retained.c), and the log when the session was away or could not take more.
 *
 * Sessions with something to read and room for it stand in a queue; each turn gives every one of them a small
 * batch until the time is up. One that waits for acknowledgements leaves the queue, and comes back with them;
 * one that waits for its socket, or for the disk, comes back a little later. A session that has read all
 * there is lives on what is fanned out.
 *
 * Reads what is committed and nothing else, so that what it finds up to a number is all there ever will be.
 */
#include "gateway/session/catch_up.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"
#include "gateway/engine/engine.h"
#include "gateway/session/handle_ack.h"
#include "gateway/session/publish.h"
#include "gateway/session/retained.h"
#include "proto/mqtt_topic.h"

#define TURN_US         2000  /* of the loop */
#define STALLED_US      50000 /* for how long one waits for its socket */
#define STALLED_LOOK_US 50    /* per session that waits: when there are many it is longer */
#define TOPIC_MAX       65535

LOG_EVENT_ONCE_A_SECOND(log_unreadable, "log_unreadable", LOG_LEVEL_ERROR);

struct filter {
    char *text;
    uint16_t len;
    uint64_t after;     /* messages after this number belong to it */
    uint64_t until;     /* and those up to this one are delivered with */
    uint8_t qos_before; /* at the least, which the subscription had when they came; 0: none are */
};

struct catch_up {
    struct filter *filters;
    size_t count, room;
    bool has_filters, has_replaced; /* has_replaced: some of them have a QoS of before */
    uint64_t unsure_to;             /* messages up to this number may have been sent before */
    const struct engine_ops *engine;
    struct engine_scan *scan;
    struct retained_list retained;
};

/* ---- the parts of it ---- */

static void drop_scan(struct catch_up *c)
{
    if (c->scan)
        c->engine->scan_free(c->scan);
    c->scan = NULL;
}

void catch_up_free(struct catch_up *c)
{
    if (!c)
        return;
    drop_scan(c);
    retained_free(&c->retained);
    for (size_t i = 0; i < c->count; i++)
        free(c->filters[i].text);
    free(c->filters);
    free(c);
}

static struct catch_up *need(struct sessions *s, struct window *w)
{
    if (!w->catch_up) {
        w->catch_up = xcalloc(1, sizeof *w->catch_up);
        w->catch_up->engine = s->settings.engine;
    }
    return w->catch_up;
}

static struct filter *find_filter(const struct catch_up *c, const char *text, size_t len)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->filters[i].len == len && memcmp(c->filters[i].text, text, len) == 0)
            return &c->filters[i];
    return NULL;
}

static void add_filter(struct catch_up *c, const char *text, size_t len, uint64_t after)
{
    if (c->count == c->room) {
        c->room = c->room ? c->room * 2 : 4;
        c->filters = xrealloc(c->filters, c->room * sizeof *c->filters);
    }
    c->filters[c->count++] =
        (struct filter){.text = xstrndup(text, len), .len = (uint16_t)len, .after = after};
}

/* Messages up to a number belong to the filter with a QoS that its subscription does not have any more. */
static void keep_before(struct catch_up *c, struct filter *f, uint8_t qos, uint64_t until)
{
    f->qos_before = qos;
    f->until = until;
    c->has_replaced = true;
}

/* The channels that a session hears without having subscribed. */
static void add_implicit(struct sessions *s, struct catch_up *c, uint32_t id)
{
    const char *prefix = s->config->clients_prefix, *everybody = s->config->broadcast_topic;
    size_t prefix_len = strlen(prefix), len;
    const char *client_id = sessions_client_id(s, id, &len);
    if (!s->config->implicit_qos)
        return;
    if (*everybody)
        add_filter(c, everybody, strlen(everybody), 0);
    if (!prefix_len || prefix_len + len > TOPIC_MAX)
        return;
    char *own = xmalloc(prefix_len + len);
    memcpy(own, prefix, prefix_len);
    memcpy(own + prefix_len, client_id, len);
    if (mqtt_topic_name_valid(own, prefix_len + len))
        add_filter(c, own, prefix_len + len, 0);
    free(own);
}

static bool add_subscription(void *ctx, const char *filter, size_t len, sub_options options)
{
    if (options & SUB_QOS && !mqtt_topic_is_shared(filter, len))
        add_filter(ctx, filter, len, 0);
    return true;
}

/* The filters of the session as they are now, unless they are known. */
static void need_filters(struct sessions *s, struct catch_up *c, uint32_t id)
{
    if (c->has_filters)
        return;
    c->has_filters = true;
    add_implicit(s, c, id);
    topic_tree_each(s->tree, session_at(s, id)->subs, add_subscription, c);
}

static bool add_again(void *ctx, const char *filter, size_t len, sub_options options)
{
    if (!mqtt_topic_is_shared(filter, len))
        retained_add_again(ctx, filter, len, options);
    return true;
}

/* The retained messages that the session was sent and has not acknowledged come first, as they did. */
static void restore_retained(struct sessions *s, struct session *ses, const struct engine_progress *p)
{
    struct window *w = window_of(s, ses);
    struct retained_list *l = &need(s, w)->retained;
    sub_options options;
    if (window_find_aside(s, w, 0)) {
        topic_tree_each(s->tree, ses->subs, add_again, l);
        if (!l->first) /* it has unsubscribed */
            window_give_up(s, ses, true, UINT64_MAX);
    }
    for (unsigned i = 0; i < p->owes; i++) {
        const struct engine_owed *o = &p->owed[i];
        if (topic_tree_get(s->tree, ses->subs, w->session, o->filter, o->len, &options))
            retained_add_owed(l, o, options);
    }
}

void catch_up_restore(struct sessions *s, struct session *ses, const struct engine_session_view *v)
{
    struct catch_up *c = need(s, window_of(s, ses));
    c->has_filters = true;
    add_implicit(s, c, session_of(s, ses));
    for (size_t i = 0; i < v->subscription_count; i++) {
        const struct engine_subscription *sub = &v->subscriptions[i];
        bool has_before = sub->qos_before && sub->until > v->progress.cursor;
        if ((!(sub->options & SUB_QOS) && !has_before) || mqtt_topic_is_shared(sub->filter, sub->len))
            continue;
        add_filter(c, sub->filter, sub->len, sub->since);
        if (has_before)
            keep_before(c, &c->filters[c->count - 1], sub->qos_before, sub->until);
    }
    restore_retained(s, ses, &v->progress);
}

void catch_up_unsure(struct sessions *s, struct session *ses, uint64_t to)
{
    if (to)
        need(s, window_of(s, ses))->unsure_to = to;
}

uint64_t catch_up_unsure_to(const struct window *w) { return w->catch_up ? w->catch_up->unsure_to : 0; }

/* A subscription is replaced: what came before is not read yet, and is owed with the QoS of then
 * ([MQTT-3.8.4-3] of 3.1.1, [MQTT-3.8.4-4] of 5.0). */
static void replace(struct sessions *s, struct catch_up *c, const struct window *w, struct filter *f,
                    sub_options options, uint64_t since)
{
    sub_options old = 0;
    topic_tree_get(s->tree, session_at(s, w->session)->subs, w->session, f->text, f->len, &old);
    uint8_t qos = old & SUB_QOS, before = f->until > w->read ? f->qos_before : 0;
    if (qos > (options & SUB_QOS))
        keep_before(c, f, qos > before ? qos : before, since);
}

void catch_up_subscribed(struct sessions *s, struct session *ses, const char *filter, size_t len,
                         sub_options options, uint64_t since)
{
    struct window *w = window_of(s, ses);
    if (!w || !(w->flags & WINDOW_BEHIND) || mqtt_topic_is_shared(filter, len))
        return;
    struct catch_up *c = need(s, w);
    need_filters(s, c, w->session);
    struct filter *f = find_filter(c, filter, len);
    if (f)
        replace(s, c, w, f, options, since);
    else
        add_filter(c, filter, len, since);
    drop_scan(c);
}

void catch_up_unsubscribed(struct sessions *s, struct session *ses, const char *filter, size_t len)
{
    struct window *w = window_of(s, ses);
    if (!w || !w->catch_up)
        return;
    retained_forget(&w->catch_up->retained, filter, len);
    catch_up_later(s, w->session); /* there may be nothing left to do */
    struct filter *f = find_filter(w->catch_up, filter, len);
    if (!f)
        return;
    free(f->text);
    *f = w->catch_up->filters[--w->catch_up->count];
    drop_scan(w->catch_up);
}

uint64_t catch_up_owed(struct sessions *s, uint32_t id, const char *filter, size_t len, sub_options options,
                       uint64_t since)
{
    return s->reader && options & SUB_QOS ? retained_owed(s, id, filter, len, options, since) : 0;
}

struct engine_owed *catch_up_owes(const struct window *w, uint16_t *n)
{
    *n = 0;
    return w && w->catch_up ? retained_owes(&w->catch_up->retained, n) : NULL;
}

bool catch_up_retained(struct sessions *s, uint32_t id, const char *filter, size_t len, sub_options options,
                       uint64_t since, bool is_owed)
{
    struct window *w = window_need(s, id);
    if (!w)
        return false;
    struct retained_list *l = &need(s, w)->retained;
    retained_forget(l, filter, len); /* asked for while they are being sent: from the beginning, and once */
    retained_add(s, l, filter, len, options, since, is_owed);
    return true;
}

/* ---- reading the log ---- */

/* A batch being given to a session. */
struct batch {
    struct sessions *s;
    uint32_t id;
    bool declined;
};

/* What the message's subscriptions of before have been; returns how many. */
static size_t match_replaced(const struct catch_up *c, const struct message_parts *m, sub_options *options,
                             size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < c->count && n < max; i++) {
        const struct filter *f = &c->filters[i];
        if (f->qos_before && m->seq <= f->until &&
            mqtt_topic_matches(f->text, f->len, m->topic, m->topic_len))
            options[n++] = f->qos_before;
    }
    return n;
}

/* What the session's subscriptions to this message come to. */
static void merge(const struct sessions *s, uint32_t id, const struct message_parts *m, struct merged *out)
{
    sub_options options[MERGED_MAX];
    const struct session *ses = session_at(s, id);
    const struct window *w = window_of(s, ses);
    size_t n = 0;
    if (publish_is_implicit(s, id, m->topic, m->topic_len))
        options[n++] = s->config->implicit_qos;
    if (w->catch_up && w->catch_up->has_replaced)
        n += match_replaced(w->catch_up, m, options + n, MERGED_MAX - n);
    n += topic_tree_session_match(s->tree, ses->subs, m->topic, m->topic_len, options + n, MERGED_MAX - n);
    publish_merge(out, options, n < MERGED_MAX ? n : MERGED_MAX, m->qos, publish_is_own(s, id, m->origin));
}

/* One message out of the log. False: there is no room for it now. */
static bool give_logged(void *ctx, const struct message_parts *m, uint64_t time_ms)
{
    (void)time_ms;
    struct batch *b = ctx;
    struct sessions *s = b->s;
    struct session *ses = session_at(s, b->id);
    if (window_find_seq(s, window_of(s, ses), m->seq))
        return true;
    struct merged how;
    merge(s, b->id, m, &how);
    enum publish_result sent = PUBLISH_SKIPPED;
    if (how.qos)
        sent = publish_to(s, b->id, m, &how, m->retain && how.retain_as_published, NULL, 0);
    if (sent == PUBLISH_SENT)
        counter_add(COUNTER_DELIVERIES_FROM_LOG, 1);
    b->declined = sent == PUBLISH_NO_ROOM || net_conn(s->net, ses->conn)->state == CONN_DOOMED;
    return !b->declined;
}

enum outcome catch_up_declined(const struct sessions *s, uint32_t id)
{
    const struct session *ses = session_at(s, id);
    return net_pending(s->net, ses->conn) ? OUTCOME_STALLED : OUTCOME_WAIT;
}

/* A message that was sent on an earlier connection, on its way to be sent again. */
struct resending {
    struct sessions *s;
    uint32_t id;
    struct inflight *entry;
    enum publish_result result;
};

/* With the QoS it had, whatever the session subscribes to by now ([MQTT-4.4.0-1], [MQTT-3.10.4-3]). */
static bool send_again(void *ctx, const struct message_parts *m, uint64_t time_ms)
{
    (void)time_ms;
    struct resending *r = ctx;
    struct merged how;
    merge(r->s, r->id, m, &how);
    if (r->entry->qos)
        how.qos = r->entry->qos;
    if (how.qos)
        r->result = publish_to(r->s, r->id, m, &how, m->retain && how.retain_as_published, r->entry, 0);
    return true;
}

/* A message that is to be sent again is not in the log any more. Of one of QoS 2 the client may hold the
 * packet identifier: it is told to let go of it. */
static void release_lost(struct sessions *s, uint32_t id, struct inflight *i)
{
    if (i->qos < 2) {
        window_done(s, session_at(s, id), i);
        return;
    }
    window_again(window_of(s, session_at(s, id)), i);
    i->state = ENGINE_RECEIVED;
    send_ack(s, id, MQTT_PUBREL, window_packet_id(i->seq), 0);
}

/* Sends what was in flight when the connection before this one ended, in its order, before anything new. */
static enum outcome resend(struct sessions *s, uint32_t id)
{
    struct session *ses = session_at(s, id);
    for (int n = 0; n < CATCH_UP_BATCH; n++) {
        struct resending r = {.s = s, .id = id, .entry = window_next_again(s, window_of(s, ses))};
        if (!r.entry || net_conn(s->net, ses->conn)->state == CONN_DOOMED)
            break;
        r.result = PUBLISH_SKIPPED;
        if (!s->settings.engine->message_get(s->reader, r.entry->seq, send_again, &r))
            release_lost(s, id, r.entry);
        else if (r.result == PUBLISH_NO_ROOM)
            return catch_up_declined(s, id);
        else if (r.result == PUBLISH_SKIPPED)
            window_done(s, ses, r.entry);
    }
    return OUTCOME_GO_ON;
}

/* The scan of the log, begun if there is none. */
static struct engine_scan *need_scan(struct sessions *s, struct window *w)
{
    struct catch_up *c = need(s, w);
    if (c->scan)
        return c->scan;
    need_filters(s, c, w->session);
    struct engine_filter *filters = xcalloc(c->count + 1, sizeof *filters);
    for (size_t i = 0; i < c->count; i++)
        filters[i] = (struct engine_filter){
            .text = c->filters[i].text, .len = c->filters[i].len, .after = c->filters[i].after};
    c->scan = c->engine->scan_new(s->reader, filters, c->count, w->read, mqtt_topic_matches);
    free(filters);
    return c->scan;
}

static enum outcome read_log(struct sessions *s, uint32_t id)
{
    struct session *ses = session_at(s, id);
    struct window *w = window_of(s, ses);
    struct batch b = {.s = s, .id = id};
    struct engine_scan *scan = need_scan(s, w);
    enum engine_scan_result r = s->settings.engine->scan_next(scan, CATCH_UP_BATCH, give_logged, &b);
    uint64_t position = s->settings.engine->scan_position(scan);
    if (position > w->read) {
        w->read = position;
        w->flags |= WINDOW_DIRTY;
    }
    if (b.declined)
        return catch_up_declined(s, id);
    if (r == ENGINE_SCAN_MORE)
        return OUTCOME_GO_ON;
    if (r == ENGINE_SCAN_ERROR) {
        size_t len;
        const char *client_id = sessions_client_id(s, id, &len);
        LOG(log_unreadable, LOG_BYTES("client", client_id, len));
        drop_scan(w->catch_up);
        return OUTCOME_STALLED;
    }
    if (position < fanout_head(s->fanout)) /* told of, and not written yet: log { sync = interval } */
        return OUTCOME_STALLED;
    window_catch_up_done(s, ses, w, position);
    if (!w->catch_up->retained.first) {
        catch_up_free(w->catch_up);
        w->catch_up = NULL;
    } else {
        drop_scan(w->catch_up);
        w->catch_up->unsure_to = 0;
    }
    return OUTCOME_GO_ON;
}

/*
 * Gives one session its batch. What was in flight when the connection before this one ended goes before all
 * that is new: a retained message may be in the log too, under the same packet identifier, and waits for it.
 */
static enum outcome look_after(struct sessions *s, uint32_t id)
{
    struct session *ses = session_at(s, id);
    const struct conn *c = net_conn(s->net, ses->conn);
    struct window *w = window_of(s, ses);
    if (c->state == CONN_DOOMED || !c->protocol || !s->reader)
        return OUTCOME_WAIT;
    struct retained_list *l = w->catch_up ? &w->catch_up->retained : NULL;
    bool is_again = window_next_again(s, w) != NULL;
    if (l && l->first && (!is_again || retained_is_again(l)))
        return retained_read(s, id, l);
    if (w->catch_up && !(w->flags & WINDOW_BEHIND)) {
        catch_up_free(w->catch_up);
        w->catch_up = NULL;
    }
    if (!(w->flags & WINDOW_BEHIND))
        return OUTCOME_WAIT;
    if (!window_has_room(s, ses, w))
        return catch_up_declined(s, id);
    return is_again ? resend(s, id) : read_log(s, id);
}

/* ---- the queue ---- */

static void schedule(struct event *e, uint64_t us)
{
    const struct timeval delay = {(time_t)(us / 1000000), (suseconds_t)(us % 1000000)};
    if (!evtimer_pending(e, NULL))
        CHECK(evtimer_add(e, &delay) == 0);
}

static void ring_push(struct id_ring *r, uint32_t id)
{
    if (r->count == r->size) {
        uint32_t size = r->size ? r->size * 2 : 64;
        uint32_t *ids = xcalloc(size, sizeof *ids);
        for (uint32_t i = 0; i < r->count; i++)
            ids[i] = r->ids[(r->head + i) % r->size];
        free(r->ids);
        *r = (struct id_ring){.ids = ids, .count = r->count, .size = size};
    }
    r->ids[(r->head + r->count++) % r->size] = id;
}

/* Takes the first one out. There is one. */
static uint32_t ring_shift(struct id_ring *r)
{
    uint32_t id = r->ids[r->head];
    r->head = (r->head + 1) % r->size;
    r->count--;
    return id;
}

void catch_up_later(struct sessions *s, uint32_t id)
{
    struct window *w = window_of(s, session_at(s, id));
    if (!(w->flags & WINDOW_QUEUED)) {
        w->flags = (w->flags & ~(uint32_t)WINDOW_STALLED) | WINDOW_QUEUED;
        ring_push(&s->queue, id);
    }
    schedule(s->queue_event, 0);
}

void catch_up_if_room(struct sessions *s, uint32_t id)
{
    const struct session *ses = session_at(s, id);
    const struct window *w = window_of(s, ses);
    bool wants = w && (w->flags & WINDOW_BEHIND || (w->catch_up && w->catch_up->retained.first));
    if (wants && window_has_room(s, ses, w))
        catch_up_later(s, id);
}

/* The window of a session in one of the rings, out of which it has been taken; NULL: it has ended or gone to
 * the other one meanwhile, whoever has the id now. */
static struct window *take_window(const struct sessions *s, uint32_t id, uint32_t flag)
{
    struct window *w = pool_is_live(s->pool, id) ? window_of(s, session_at(s, id)) : NULL;
    if (!w || !(w->flags & flag))
        return NULL;
    w->flags &= ~flag;
    return w;
}

/* Those that have waited a moment are looked after again. */
static void stalled_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct sessions *s = CHECK_CAST(arg, struct sessions, SESSIONS_MAGIC);
    while (s->stalled.count) {
        uint32_t id = ring_shift(&s->stalled);
        if (take_window(s, id, WINDOW_STALLED))
            catch_up_later(s, id);
    }
}

/* The session waits a moment; longer when many do, so that looking at them takes a small part of the time. */
static void stall(struct sessions *s, uint32_t id, struct window *w)
{
    uint64_t wait_us = (uint64_t)s->stalled.count * STALLED_LOOK_US;
    w->flags |= WINDOW_STALLED;
    ring_push(&s->stalled, id);
    schedule(s->stalled_event, wait_us > STALLED_US ? wait_us : STALLED_US);
}

/* A turn: every session in the queue once, while there is time. */
static void queue_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct sessions *s = CHECK_CAST(arg, struct sessions, SESSIONS_MAGIC);
    clock_update();
    uint64_t end_us = clock_us() + TURN_US;
    for (uint32_t left = s->queue.count; left && clock_us() < end_us; left--) {
        uint32_t id = ring_shift(&s->queue);
        struct window *w = take_window(s, id, WINDOW_QUEUED);
        if (!w)
            continue;
        switch (look_after(s, id)) {
        case OUTCOME_GO_ON:
            catch_up_later(s, id);
            break;
        case OUTCOME_STALLED:
            stall(s, id, w);
            break;
        case OUTCOME_WAIT:
            window_tidy(s, session_at(s, id));
            break;
        }
    }
    if (s->queue.count)
        schedule(s->queue_event, 0);
}

void catch_up_setup(struct sessions *s, struct event_base *base)
{
    s->queue_event = evtimer_new(base, queue_cb, s);
    s->stalled_event = evtimer_new(base, stalled_cb, s);
    CHECK(s->queue_event && s->stalled_event);
    s->last_topic = xmalloc(TOPIC_MAX);
}

void catch_up_end(struct sessions *s)
{
    event_free(s->queue_event);
    event_free(s->stalled_event);
    free(s->queue.ids);
    free(s->stalled.ids);
    free(s->last_topic);
}
