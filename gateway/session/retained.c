/*
 * Retained messages for new subscriptions: of each filter where its reading stands. Fed by SUBSCRIBE, and by
 * a session that comes back to some it had been sent, or was still owed; drained batch by batch, whenever the
 * queue (catch_up.c) gives the session its turn. They are read from the store, those of the gateway's own
 * topics from memory.
 *
 * A stored session is owed what a SUBSCRIBE of it has called for, also when its connection ends before all is
 * sent. That there is something is stored with the subscription, and how far the reading has come with each
 * progress, as the number and the topic that are here: of what lies up to that topic, all that is not
 * acknowledged is in the window, which goes with the same progress.
 *
 * Copies no message and remembers only the last topic, so that a filter that matches a million of them costs
 * what one does. Says nothing about the cursor: they are in flight aside of it (INFLIGHT_ASIDE).
 */
#include "gateway/session/retained.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/xmalloc.h"
#include "gateway/engine/engine.h"
#include "gateway/engine/progress.h"
#include "gateway/session/publish.h"
#include "gateway/session/sys_topics.h"
#include "proto/mqtt_topic.h"

#define LATE_MS 500 /* for a commit */

/* A subscription whose retained messages are being sent. */
struct retained {
    struct retained *next;
    sub_options options;
    bool again;
    bool is_owed;         /* what is stored says that there is something to send */
    bool is_restored;     /* it was asked for on an earlier connection */
    char *filter, *after; /* after: the last topic that was looked at */
    size_t len, after_len, after_room;
    unsigned sys_at; /* of the gateway's own topics: where to go on */
    uint64_t asked;  /* the newest number when the client subscribed: what came later is delivered live */
    /* That number may be there to read a little later; at this time it is not to be expected any more (the
     * disk is full). 0: it is there. */
    uint64_t patience_ms;
};

/* A batch being given to a session. */
struct giving {
    struct sessions *s;
    uint32_t id;
    struct retained *retained;
    bool declined;
};

/* ---- the list ---- */

static void free_one(struct retained *r)
{
    free(r->filter);
    free(r->after);
    free(r);
}

static struct retained *add(struct retained_list *l, const char *filter, size_t len, sub_options options)
{
    struct retained *r = xcalloc(1, sizeof *r);
    r->filter = xstrndup(filter, len);
    r->len = len;
    r->options = options;
    if (l->last)
        l->last->next = r;
    else
        l->first = r;
    l->last = r;
    return r;
}

/* All topics up to this one have been looked at. */
static void set_after(struct retained *r, const char *topic, size_t len)
{
    if (len > r->after_room) {
        r->after = xrealloc(r->after, len);
        r->after_room = len;
    }
    memcpy(r->after, topic, len);
    r->after_len = len;
}

/* The newest number when a subscription to messages after `since` is made. */
static uint64_t asked_now(const struct sessions *s, uint64_t since)
{
    return since > s->told ? since : s->told;
}

void retained_add(const struct sessions *s, struct retained_list *l, const char *filter, size_t len,
                  sub_options options, uint64_t since, bool is_owed)
{
    struct retained *r = add(l, filter, len, options);
    r->asked = asked_now(s, since);
    r->is_owed = is_owed;
    if (s->config->log_sync == LOG_SYNC_INTERVAL)
        r->patience_ms = clock_ms() + LATE_MS + 2 * (uint64_t)s->config->log_sync_interval_ms;
}

void retained_add_again(struct retained_list *l, const char *filter, size_t len, sub_options options)
{
    add(l, filter, len, options)->again = true;
}

void retained_add_owed(struct retained_list *l, const struct engine_owed *o, sub_options options)
{
    struct retained *r = add(l, o->filter, o->len, options);
    r->asked = o->asked; /* which can be read: the session was stored after it */
    r->is_owed = r->is_restored = true;
    if (o->after_len)
        set_after(r, o->after, o->after_len);
}

bool retained_is_again(const struct retained_list *l) { return l->first->again; }

struct engine_owed *retained_owes(const struct retained_list *l, uint16_t *n)
{
    size_t count = 0, size = 0;
    for (const struct retained *r = l->first; r; r = r->next)
        count += r->is_owed;
    struct engine_owed *out = count ? xcalloc(count, sizeof *out) : NULL;
    for (const struct retained *r = l->first; r; r = r->next) {
        const struct engine_owed o = {.filter = r->filter,
                                      .len = (uint16_t)r->len,
                                      .after = r->after,
                                      .after_len = (uint16_t)r->after_len,
                                      .asked = r->asked};
        if (r->is_owed && size + progress_owed_size(&o) <= ENGINE_OWED_BYTES) {
            size += progress_owed_size(&o);
            out[(*n)++] = o;
        }
    }
    return out;
}

static void drop_first(struct retained_list *l)
{
    struct retained *r = l->first;
    l->first = r->next;
    if (!l->first)
        l->last = NULL;
    free_one(r);
}

void retained_forget(struct retained_list *l, const char *filter, size_t len)
{
    struct retained **at = &l->first, *r;
    l->last = NULL;
    while ((r = *at)) {
        if (r->again || r->len != len || memcmp(r->filter, filter, len) != 0) {
            l->last = r;
            at = &r->next;
            continue;
        }
        *at = r->next;
        free_one(r);
    }
}

void retained_free(struct retained_list *l)
{
    while (l->first)
        drop_first(l);
}

/* ---- sending ---- */

/* Whether the subscription brings the message live, too; one of QoS 0 only if it has got as far as here. */
static bool comes_live(const struct sessions *s, const struct retained *r, const struct message_parts *m)
{
    return m->seq > r->asked && (m->qos || m->seq <= s->told);
}

/* What the subscription makes of a message. */
static void merge(const struct giving *g, const struct message_parts *m, struct merged *out)
{
    publish_merge(out, &g->retained->options, 1, m->qos, publish_is_own(g->s, g->id, m->origin));
}

/* One retained message. */
static bool give(void *ctx, const struct message_parts *m, uint64_t time_ms)
{
    (void)time_ms;
    struct giving *g = ctx;
    struct sessions *s = g->s;
    struct session *ses = session_at(s, g->id);
    struct inflight *again = g->retained->again ? window_find_aside(s, window_of(s, ses), m->seq) : NULL;
    struct merged how;
    uint8_t flags = INFLIGHT_ASIDE | (g->retained->is_restored ? INFLIGHT_UNSURE : 0);
    merge(g, m, &how);
    if (!how.count) /* [MQTT-3.8.3-3] */
        return true;
    if (g->retained->again ? !again || !how.qos : comes_live(s, g->retained, m))
        return true;
    if (!how.qos && net_pending(s->net, ses->conn)) {
        g->declined = true;
        return false;
    }
    enum publish_result sent = publish_to(s, g->id, m, &how, true, again, flags);
    if (sent != PUBLISH_NO_ROOM) /* progress may be stored before the batch is through */
        set_after(g->retained, m->topic, m->topic_len);
    if (sent == PUBLISH_SKIPPED && again)
        window_done(s, ses, again);
    if (sent == PUBLISH_SENT)
        counter_add(COUNTER_RETAINED_DELIVERIES, 1);
    g->declined = sent == PUBLISH_NO_ROOM || net_conn(s->net, ses->conn)->state == CONN_DOOMED;
    return !g->declined;
}

/* The first filter's are sent, all of them. The ones in flight from an earlier connection come first: what
 * was not found under any filter is not retained any more, and must not hold its packet identifier. */
static enum outcome end_first(struct sessions *s, uint32_t id, struct retained_list *l)
{
    struct session *ses = session_at(s, id);
    bool was_again = l->first->again;
    if (l->first->is_owed)
        window_of(s, ses)->flags |= WINDOW_DIRTY;
    drop_first(l);
    if (was_again && !(l->first && l->first->again))
        window_give_up(s, ses, true, UINT64_MAX);
    return OUTCOME_GO_ON;
}

/* The gateway's own topics are held in memory. */
static enum outcome read_sys_topics(struct sessions *s, uint32_t id, struct retained_list *l)
{
    struct retained *r = l->first;
    struct giving g = {.s = s, .id = id, .retained = r};
    const struct message *m;
    for (; (m = sys_topics_next(s, &r->sys_at, r->filter, r->len)); r->sys_at++) {
        struct message_parts parts = message_parts_of(m);
        if (!give(&g, &parts, 0))
            return catch_up_declined(s, id);
    }
    return end_first(s, id, l);
}

/* Whether everything up to a number is there to be read. */
static bool can_be_read(const struct sessions *s, uint64_t seq)
{
    return s->config->log_sync != LOG_SYNC_INTERVAL || s->settings.engine->reader_newest(s->reader) >= seq;
}

/* Whether everything that was told when the client subscribed is there, or not to be expected any more. */
static bool is_readable(const struct sessions *s, struct retained *r)
{
    if (r->patience_ms && (clock_ms() >= r->patience_ms || can_be_read(s, r->asked)))
        r->patience_ms = 0;
    return !r->patience_ms;
}

/* Ends the walk at a message that the session is owed. */
static bool find_owed(void *ctx, const struct message_parts *m, uint64_t time_ms)
{
    (void)time_ms;
    const struct giving *g = ctx;
    struct merged how;
    merge(g, m, &how);
    return !how.count || !how.qos || comes_live(g->s, g->retained, m);
}

uint64_t retained_owed(struct sessions *s, uint32_t id, const char *filter, size_t len, sub_options options,
                       uint64_t since)
{
    struct retained r = {.options = options, .asked = asked_now(s, since)};
    struct giving g = {.s = s, .id = id, .retained = &r};
    size_t ignored;
    if (sys_topics_concern(filter, len))
        return 0;
    bool is_owed = !can_be_read(s, r.asked) ||
                   s->settings.engine->retained_walk(s->reader, filter, len, mqtt_topic_matches, NULL, 0,
                                                     CATCH_UP_BATCH, find_owed, &g, s->last_topic, &ignored);
    return is_owed ? r.asked : 0;
}

enum outcome retained_read(struct sessions *s, uint32_t id, struct retained_list *l)
{
    struct retained *r = l->first;
    struct giving g = {.s = s, .id = id, .retained = r};
    size_t last_len = 0;
    if (sys_topics_concern(r->filter, r->len))
        return read_sys_topics(s, id, l);
    if (!is_readable(s, r))
        return OUTCOME_STALLED;
    bool more =
        s->settings.engine->retained_walk(s->reader, r->filter, r->len, mqtt_topic_matches, r->after,
                                          r->after_len, CATCH_UP_BATCH, give, &g, s->last_topic, &last_len);
    if (!more)
        return end_first(s, id, l);
    if (last_len && !g.declined)
        set_after(r, s->last_topic, last_len);
    return g.declined ? catch_up_declined(s, id) : OUTCOME_GO_ON;
}
