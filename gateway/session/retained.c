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

#include "gateway/base/counters.h"
#include "gateway/base/xmalloc.h"
#include "gateway/engine/engine.h"
#include "gateway/session/publish.h"
#include "gateway/session/sys_topics.h"
#include "proto/mqtt_topic.h"

/* A subscription whose retained messages are being sent. */
struct retained {
    struct retained *next;
    sub_options options;
    bool again;
    char *filter, *after; /* after: the last topic that was looked at */
    size_t len, after_len;
    unsigned sys_at; /* of the gateway's own topics: where to go on */
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

void retained_add(struct retained_list *l, const char *filter, size_t len, sub_options options, bool again)
{
    struct retained *r = xcalloc(1, sizeof *r);
    r->filter = xstrndup(filter, len);
    r->len = len;
    r->options = options;
    r->again = again;
    if (l->last)
        l->last->next = r;
    else
        l->first = r;
    l->last = r;
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

/* One retained message. It comes once more, live, if the fan-out has not had it yet; then it is left to that.
 */
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
    if (g->retained->again ? !again || !how.qos : m->qos && s->fanout && m->seq > fanout_head(s->fanout))
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

enum outcome retained_read(struct sessions *s, uint32_t id, struct retained_list *l)
{
    struct retained *r = l->first;
    struct giving g = {.s = s, .id = id, .retained = r};
    size_t last_len = 0;
    if (sys_topics_concern(r->filter, r->len))
        return read_sys_topics(s, id, l);
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
