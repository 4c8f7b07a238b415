/*
 * Retained messages for new subscriptions: of each filter where its reading stands. Fed by SUBSCRIBE, and by
 * a session that comes back to some it had been sent; drained batch by batch, whenever the queue (catch_up.c)
 * gives the session its turn. They are read from the store, those of the gateway's own topics from memory.
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
#include "gateway/session/publish.h"
#include "gateway/session/sys_topics.h"
#include "proto/mqtt_topic.h"

#define LATE_MS 500 /* for a commit */

/* A subscription whose retained messages are being sent. */
struct retained {
    struct retained *next;
    sub_options options;
    bool again;
    char *filter, *after; /* after: the last topic that was looked at */
    size_t len, after_len;
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
    const struct retained *retained;
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

void retained_add(const struct sessions *s, struct retained_list *l, const char *filter, size_t len,
                  sub_options options, uint64_t since)
{
    struct retained *r = add(l, filter, len, options);
    r->asked = since > s->told ? since : s->told;
    if (s->config->log_sync == LOG_SYNC_INTERVAL)
        r->patience_ms = clock_ms() + LATE_MS + 2 * (uint64_t)s->config->log_sync_interval_ms;
}

void retained_add_again(struct retained_list *l, const char *filter, size_t len, sub_options options)
{
    add(l, filter, len, options)->again = true;
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

/* One retained message. */
static bool give(void *ctx, const struct message_parts *m, uint64_t time_ms)
{
    (void)time_ms;
    struct giving *g = ctx;
    struct sessions *s = g->s;
    struct session *ses = session_at(s, g->id);
    struct inflight *again = g->retained->again ? window_find_aside(s, window_of(s, ses), m->seq) : NULL;
    struct merged how;
    publish_merge(&how, &g->retained->options, 1, m->qos, publish_is_own(s, g->id, m->origin));
    if (!how.count) /* [MQTT-3.8.3-3] */
        return true;
    if (g->retained->again ? !again || !how.qos : comes_live(s, g->retained, m))
        return true;
    if (!how.qos && net_pending(s->net, ses->conn)) {
        g->declined = true;
        return false;
    }
    enum publish_result sent = publish_to(s, g->id, m, &how, true, again, INFLIGHT_ASIDE);
    if (sent == PUBLISH_SKIPPED && again)
        window_done(s, ses, again);
    if (sent == PUBLISH_SENT)
        counter_add(COUNTER_RETAINED_DELIVERIES, 1);
    g->declined = sent == PUBLISH_NO_ROOM || net_conn(s->net, ses->conn)->state == CONN_DOOMED;
    return !g->declined;
}

/* The first filter's are sent, all of them. */
static enum outcome end_first(struct sessions *s, uint32_t id, struct retained_list *l)
{
    drop_first(l);
    if (!l->first)
        window_give_up(s, session_at(s, id), true, UINT64_MAX);
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

/* Whether everything that was told when the client subscribed can be read. */
static bool is_readable(const struct sessions *s, struct retained *r)
{
    if (r->patience_ms &&
        (clock_ms() >= r->patience_ms || s->settings.engine->reader_newest(s->reader) >= r->asked))
        r->patience_ms = 0;
    return !r->patience_ms;
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
    if (last_len) {
        free(r->after);
        r->after = xstrndup(s->last_topic, last_len);
        r->after_len = last_len;
    }
    return g.declined ? catch_up_declined(s, id) : OUTCOME_GO_ON;
}
