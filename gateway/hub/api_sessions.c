/*
 * Stored sessions over HTTP: GET /v1/sessions lists them in pages, in the order of their keys, and
 * api_session_json() describes one for GET /v1/clients/{id}. Both read what is committed, in the hub's own
 * loop, so what one request may cost is bounded: a page has at most MAX_PAGE sessions, and of what a session
 * has not seen at most LAG_MESSAGES are counted. Nothing is asked of the workers.
 */
#include "gateway/hub/api_sessions.h"

#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gateway/base/clock.h"
#include "gateway/base/xmalloc.h"
#include "gateway/engine/lag.h"
#include "gateway/hub/hub_shares.h"
#include "gateway/hub/hub_stored.h"
#include "proto/mqtt_topic.h"

#define DEFAULT_PAGE 100u
#define MAX_PAGE     1000u
#define LAG_MESSAGES 1000u /* counted */
#define LAG_STEPS    16u   /* of a scan, each of which takes a millisecond or two at the most */

/* Bits of the subscription options (MQTT 5.0 section 3.8.3.1). */
#define OPTION_QOS 0x03u
#define NO_LOCAL   0x04u

json_t *api_text(const char *data, size_t len)
{
    json_t *s = json_stringn(data, len);
    return s ? s : json_null();
}

json_t *api_time(uint64_t wall_ms)
{
    char text[64];
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;
    if (wall_ms == 0 || !gmtime_r(&seconds, &tm))
        return json_null();
    size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + n, sizeof text - n, ".%03uZ", (unsigned)(wall_ms % 1000));
    return json_string(text);
}

/* ---- one session ---- */

/* A session being described. */
struct description {
    struct hub *hub;
    json_t *doc;
    struct lag_filters filters;
    uint64_t cursor;
};

static json_t *subscription_json(const struct engine_subscription *s)
{
    json_t *doc = json_object();
    json_object_set_new(doc, "filter", api_text(s->filter, s->len));
    json_object_set_new(doc, "qos", json_integer(s->options & OPTION_QOS));
    json_object_set_new(doc, "no_local", json_boolean(s->options & NO_LOCAL));
    json_object_set_new(doc, "identifier", s->identifier ? json_integer(s->identifier) : json_null());
    return doc;
}

/* Messages that were sent and are not acknowledged. */
static unsigned unacknowledged(const struct engine_progress *p)
{
    unsigned n = 0;
    for (unsigned i = 0; i < p->outs; i++)
        n += p->out[i].state != ENGINE_DONE;
    return n;
}

/* The members that a page has too. */
static json_t *brief_json(struct hub *h, const struct hub_stored *s)
{
    json_t *doc = json_object();
    bool never = s->expiry_s == ENGINE_EXPIRY_NEVER;
    json_object_set_new(doc, "connected", json_boolean(s->disconnected_ms == 0));
    json_object_set_new(doc, "disconnected_since", api_time(s->disconnected_ms));
    json_object_set_new(doc, "session_expiry", never ? json_null() : json_integer(s->expiry_s));
    json_object_set_new(doc, "expires", api_time(hub_stored_end_ms(s)));
    json_object_set_new(doc, "cursor", json_integer((json_int_t)s->cursor));
    json_object_set_new(doc, "caught_up", json_boolean(s->cursor >= h->newest));
    return doc;
}

static void describe_cb(void *ctx, const struct engine_session_view *v)
{
    struct description *d = ctx;
    struct hub_stored s;
    hub_stored_of_committed(v, &s);
    if (hub_stored_is_over(&s, clock_wall_ms()))
        return;
    json_t *list = json_array();
    for (size_t i = 0; i < v->subscription_count; i++)
        json_array_append_new(list, subscription_json(&v->subscriptions[i]));
    lag_filters_add(&d->filters, v, d->hub->args->config);
    d->doc = brief_json(d->hub, &s);
    json_object_set_new(d->doc, "inflight", json_integer(unacknowledged(&v->progress)));
    json_object_set_new(d->doc, "subscriptions", list);
    json_object_set_new(d->doc, "will_due", s.will.len ? api_time(s.will_due_ms) : json_null());
    if (d->cursor < s.cursor)
        d->cursor = s.cursor;
}

/* {"messages": 3, "more": false, "oldest": "...", "age_seconds": 1.5}; "more": so many at least. */
static json_t *lag_json(struct hub *h, const struct description *d)
{
    struct lag lag = lag_count(h->engine_ops, h->reader, &d->filters, d->cursor, mqtt_topic_matches,
                               LAG_MESSAGES, LAG_STEPS);
    uint64_t now = clock_wall_ms();
    json_t *doc = json_object();
    json_object_set_new(doc, "messages", json_integer(lag.messages));
    json_object_set_new(doc, "more", json_boolean(lag.more));
    json_object_set_new(doc, "oldest", api_time(lag.oldest_ms));
    json_object_set_new(doc, "age_seconds",
                        lag.messages
                            ? json_real(now > lag.oldest_ms ? (double)(now - lag.oldest_ms) / 1000 : 0)
                            : json_null());
    return doc;
}

json_t *api_session_json(struct hub *h, const char *id, size_t len, uint64_t cursor)
{
    struct description d = {.hub = h, .cursor = cursor};
    h->engine_ops->session_get(h->reader, id, len, describe_cb, &d);
    if (d.doc)
        json_object_set_new(d.doc, "lag", lag_json(h, &d));
    lag_filters_free(&d.filters);
    return d.doc;
}

/* ---- a page of them ---- */

/* What was asked for. */
struct page_query {
    char *after;
    unsigned limit;
};

/* Reads the query; false: *p says what is wrong. */
static bool read_query(struct http_call *call, struct page_query *q, struct http_problem *p)
{
    const char *text = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(call->req));
    struct evkeyvalq pairs;
    *q = (struct page_query){.limit = DEFAULT_PAGE};
    if (!text)
        return true;
    if (evhttp_parse_query_str(text, &pairs) != 0)
        return http_problem_set(p, 400, NULL, "the query cannot be read");
    const char *limit = evhttp_find_header(&pairs, "limit"), *after = evhttp_find_header(&pairs, "after");
    if (limit) {
        char *end;
        unsigned long n = strtoul(limit, &end, 10);
        if (*limit < '0' || *limit > '9' || *end || n == 0 || n > MAX_PAGE)
            http_problem_set(p, 400, "limit", "expected a number from 1 to %u", MAX_PAGE);
        q->limit = (unsigned)n;
    }
    if (after && strlen(after) > UINT16_MAX)
        http_problem_set(p, 400, "after", "a client id has at most 65535 bytes");
    else if (after)
        q->after = xstrdup(after);
    evhttp_clear_headers(&pairs);
    return p->status == 0;
}

struct page {
    struct hub *hub;
    json_t *list;
    json_t *last; /* the client id of the last one that was looked at */
};

static bool page_cb(void *ctx, const struct engine_session_view *v)
{
    struct page *page = ctx;
    struct hub_stored s;
    if (hub_is_share_name(v->client_id, v->client_id_len))
        return false; /* a group of a shared subscription: no client, and these are the last ones */
    json_decref(page->last);
    page->last = api_text(v->client_id, v->client_id_len);
    hub_stored_of_committed(v, &s);
    if (hub_stored_is_over(&s, clock_wall_ms()))
        return true;
    json_t *doc = brief_json(page->hub, &s);
    json_object_set(doc, "client_id", page->last);
    json_array_append_new(page->list, doc);
    return true;
}

/* GET /v1/sessions?after=ID&limit=N: "next" is what to give as `after` for the next page, null at the end. */
void api_sessions(struct http_call *call)
{
    struct hub *h = call->hub;
    struct page_query q;
    struct http_problem problem = {0};
    if (!read_query(call, &q, &problem)) {
        http_reply_problem(call->req, &problem);
        free(q.after);
        return;
    }
    struct page page = {.hub = h, .list = json_array()};
    const char *after = q.after ? q.after : "";
    size_t n = h->engine_ops->session_walk(h->reader, after, strlen(after), q.limit, page_cb, &page);
    json_t *doc = json_object();
    json_object_set_new(doc, "sessions", page.list);
    json_object_set_new(doc, "newest", json_integer((json_int_t)h->newest));
    json_object_set(doc, "next", n == q.limit ? page.last : json_null());
    json_decref(page.last);
    http_reply_json(call->req, 200, doc);
    free(q.after);
}
