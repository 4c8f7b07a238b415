/*
 * One client over HTTP: who it is, and the end of its connection. The registry knows its worker; the rest
 * only the worker knows, so GET asks it with CLIENT_GET and the request waits in a list until CLIENT_INFO
 * comes, the worker goes away, or QUERY_TIMEOUT is over. Nothing else waits for a worker.
 */
#include <event2/event.h>
#include <event2/http.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gateway/base/check.h"
#include "gateway/base/xmalloc.h"
#include "gateway/hub/http_api.h"
#include "gateway/hub/hub_internal.h"

#define MAX_QUERIES 1000u

static const struct timeval query_timeout = {2, 0};

/* A GET that waits for its worker's answer. */
struct hub_query {
    LIST_ENTRY(hub_query) link; /* hub->queries */
    struct hub *hub;
    struct evhttp_request *req;
    struct event *timer;
    struct engine_claim claim;
    uint32_t number;
    size_t id_len;
    char id[];
};

static void end_query(struct hub_query *q)
{
    LIST_REMOVE(q, link);
    q->hub->queries_open--;
    event_free(q->timer);
    free(q);
}

static void timeout_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct hub_query *q = arg;
    http_problem(q->req, 504, NULL, "worker %u did not answer in time", (unsigned)q->claim.worker);
    end_query(q);
}

/* Keeps the request until its answer comes. */
static struct hub_query *begin_query(struct http_call *call, struct engine_claim claim)
{
    struct hub *h = call->hub;
    struct hub_query *q = xmalloc(sizeof *q + call->id_len);
    *q = (struct hub_query){
        .hub = h, .req = call->req, .claim = claim, .number = ++h->last_query, .id_len = call->id_len};
    memcpy(q->id, call->id, call->id_len);
    q->timer = evtimer_new(h->base, timeout_cb, q);
    CHECK(q->timer && evtimer_add(q->timer, &query_timeout) == 0);
    LIST_INSERT_HEAD(&h->queries, q, link);
    h->queries_open++;
    return q;
}

/* The claim of the client in the path; false: the request has been answered. */
static bool find_client(struct http_call *call, struct engine_claim *claim)
{
    switch (hub_find_client(call->hub, call->id, call->id_len, claim)) {
    case HUB_CONNECTED:
        return true;
    case HUB_UNCERTAIN:
        http_problem(call->req, 503, NULL, "the hub is still learning who is connected");
        return false;
    case HUB_NOT_CONNECTED:
        break;
    }
    http_problem(call->req, 404, "id", "client not connected");
    return false;
}

/* GET /v1/clients/{id} */
void api_client_get(struct http_call *call)
{
    struct engine_claim claim;
    if (!find_client(call, &claim))
        return;
    if (call->hub->queries_open >= MAX_QUERIES) {
        http_problem(call->req, 503, NULL, "too many requests of this kind are waiting");
        return;
    }
    struct hub_query *q = begin_query(call, claim);
    struct ipc_message m = IPC_MAKE(CLIENT_GET, IPC_NUM(q->number), IPC_BYTES(q->id, q->id_len));
    if (hub_send(call->hub, claim.worker, &m))
        return;
    http_problem(call->req, 503, NULL, "the queue of worker %u is full", (unsigned)claim.worker);
    end_query(q);
}

/* DELETE /v1/clients/{id}: ends the connection. */
void api_client_delete(struct http_call *call)
{
    struct engine_claim claim;
    if (!find_client(call, &claim))
        return;
    struct ipc_message m =
        IPC_MAKE(KICK, IPC_NUM(CLOSE_KICKED), IPC_NUM(claim.number), IPC_BYTES(call->id, call->id_len));
    if (hub_send(call->hub, claim.worker, &m))
        http_reply_empty(call->req, 204);
    else
        http_problem(call->req, 503, NULL, "the queue of worker %u is full", (unsigned)claim.worker);
}

/* A text, or null where the bytes are not UTF-8. */
static json_t *text_json(const char *data, size_t len)
{
    json_t *s = json_stringn(data, len);
    return s ? s : json_null();
}

/* A text, or null where there is none. */
static json_t *text_or_null(const struct ipc_bytes *text)
{
    return text->len ? text_json(text->data, text->len) : json_null();
}

/* The parts between newlines. */
static json_t *lines_json(const struct ipc_bytes *text)
{
    json_t *list = json_array();
    const char *p = text->data, *end = p + text->len;
    while (p < end) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t len = stop ? (size_t)(stop - p) : (size_t)(end - p);
        json_array_append_new(list, text_json(p, len));
        p += len + 1;
    }
    return list;
}

/* A wall clock time as RFC 3339 text in UTC. */
static json_t *time_json(uint64_t wall_ms)
{
    char text[64];
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;
    if (!gmtime_r(&seconds, &tm))
        return json_null();
    size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + n, sizeof text - n, ".%03uZ", (unsigned)(wall_ms % 1000));
    return json_string(text);
}

static const char *protocol_name(uint64_t level)
{
    static const char *const names[] = {[3] = "MQTT 3.1", [4] = "MQTT 3.1.1", [5] = "MQTT 5.0"};
    return level < sizeof names / sizeof names[0] && names[level] ? names[level] : "unknown";
}

/* What a worker told about a client (the fields of CLIENT_INFO in ipc.def). */
static json_t *client_json(const struct hub_query *q, const struct ipc_message *m)
{
    const union ipc_field *f = m->field;
    json_t *doc = json_object();
    json_object_set_new(doc, "client_id", text_json(q->id, q->id_len));
    json_object_set_new(doc, "worker", json_integer(q->claim.worker));
    json_object_set_new(doc, "protocol", json_string(protocol_name(f[2].num)));
    json_object_set_new(doc, "keepalive", json_integer((json_int_t)f[3].num));
    json_object_set_new(doc, "connected_since", time_json(f[4].num));
    json_object_set_new(doc, "idle_seconds", json_real((double)f[5].num / 1000));
    json_object_set_new(doc, "subscription_count", json_integer((json_int_t)f[6].num));
    json_object_set_new(doc, "subscriptions", lines_json(&f[10].bytes));
    json_object_set_new(doc, "output_bytes", json_integer((json_int_t)f[7].num));
    json_object_set_new(doc, "address", text_json(f[8].bytes.data, f[8].bytes.len));
    json_object_set_new(doc, "listener", text_json(f[9].bytes.data, f[9].bytes.len));
    json_object_set_new(doc, "tls", text_or_null(&f[11].bytes));
    json_object_set_new(doc, "identity", text_or_null(&f[12].bytes));
    return doc;
}

void hub_query_answered(struct hub *h, uint16_t worker, const struct ipc_message *m)
{
    struct hub_query *q;
    LIST_FOREACH(q, &h->queries, link)
    if (q->number == m->field[0].num && q->claim.worker == worker)
        break;
    if (!q)
        return; /* too late */
    if (m->field[1].num) {
        http_reply_json(q->req, 200, client_json(q, m));
    } else {
        h->engine_ops->release(h->engine, q->id, q->id_len, q->claim);
        http_problem(q->req, 404, "id", "client not connected");
    }
    end_query(q);
}

void hub_queries_lost(struct hub *h, uint16_t worker)
{
    struct hub_query *next;
    for (struct hub_query *q = LIST_FIRST(&h->queries); q; q = next) {
        next = LIST_NEXT(q, link);
        if (q->claim.worker != worker)
            continue;
        http_problem(q->req, 503, NULL, "worker %u has gone away", (unsigned)worker);
        end_query(q);
    }
}
