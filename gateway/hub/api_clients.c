/*
 * One client over HTTP: who it is, and the end of its connection or of its session. The registry knows its
 * worker; the rest only the worker knows, so GET asks it with CLIENT_GET and the request waits in a list
 * until CLIENT_INFO comes, the worker goes away, or QUERY_TIMEOUT is over. Nothing else waits for a worker.
 * Of a client that is away the hub knows what is stored (api_sessions.c).
 */
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/xmalloc.h"
#include "gateway/hub/api_sessions.h"
#include "gateway/hub/hub_sessions.h"

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

/* Answers about a client that is not connected. */
static void reply_away(struct hub *h, struct evhttp_request *req, const char *id, size_t len)
{
    json_t *session = api_session_json(h, id, len, 0);
    if (!session) {
        http_problem(req, 404, "id", "client not connected, and no session of it is stored");
        return;
    }
    json_t *doc = json_object();
    json_object_set_new(doc, "client_id", api_text(id, len));
    json_object_set_new(doc, "connected", json_false());
    json_object_set_new(doc, "session", session);
    http_reply_json(req, 200, doc);
}

/* Asks the client's worker. */
static void ask_worker(struct http_call *call, struct engine_claim claim)
{
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

static void reply_uncertain(struct evhttp_request *req)
{
    http_problem(req, 503, NULL, "the hub is still learning who is connected");
}

/* GET /v1/clients/{id} */
void api_client_get(struct http_call *call)
{
    struct engine_claim claim;
    switch (hub_find_client(call->hub, call->id, call->id_len, &claim)) {
    case HUB_CONNECTED:
        ask_worker(call, claim);
        break;
    case HUB_UNCERTAIN:
        reply_uncertain(call->req);
        break;
    case HUB_NOT_CONNECTED:
        reply_away(call->hub, call->req, call->id, call->id_len);
        break;
    }
}

/* Whether the query says session=true; false in *ok: it says something else. */
static bool asks_for_session(struct evhttp_request *req, bool *ok)
{
    const char *query = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(req));
    struct evkeyvalq pairs;
    *ok = true;
    if (!query)
        return false;
    if (evhttp_parse_query_str(query, &pairs) != 0) {
        *ok = false;
        return false;
    }
    const char *value = evhttp_find_header(&pairs, "session");
    bool asks = value && strcmp(value, "true") == 0;
    *ok = !value || asks || strcmp(value, "false") == 0;
    evhttp_clear_headers(&pairs);
    return asks;
}

/* What was stored is gone. */
static void deleted_cb(struct hub *h, void *arg, enum engine_result result)
{
    (void)h;
    if (result == ENGINE_FAILED)
        http_problem(arg, 503, NULL, "%s", engine_result_text(result));
    else
        http_reply_empty(arg, 204);
}

/* Ends the session, and the connection if there is one. */
static void delete_session(struct http_call *call)
{
    switch (hub_session_delete(call->hub, call->id, call->id_len, deleted_cb, call->req)) {
    case HUB_DELETE_BEGUN:
        break;
    case HUB_DELETE_ABSENT:
        http_problem(call->req, 404, "id", "client not connected, and no session of it is stored");
        break;
    case HUB_DELETE_UNCERTAIN:
        reply_uncertain(call->req);
        break;
    case HUB_DELETE_BUSY:
        http_problem(call->req, 503, NULL, "the queue of the client's worker is full");
        break;
    }
}

/* DELETE /v1/clients/{id}: ends the connection, or the session of a client that has none. With ?session=true
 * both. */
void api_client_delete(struct http_call *call)
{
    struct engine_claim claim;
    bool ok, with_session = asks_for_session(call->req, &ok);
    if (!ok)
        http_problem(call->req, 400, "session", "expected true or false");
    else if (with_session || hub_find_client(call->hub, call->id, call->id_len, &claim) != HUB_CONNECTED)
        delete_session(call);
    else if (hub_kick(call->hub, claim, CLOSE_KICKED, call->id, call->id_len))
        http_reply_empty(call->req, 204);
    else
        http_problem(call->req, 503, NULL, "the queue of worker %u is full", (unsigned)claim.worker);
}

/* A text, or null where there is none. */
static json_t *text_or_null(const struct ipc_bytes *text)
{
    return text->len ? api_text(text->data, text->len) : json_null();
}

/* The parts between newlines. */
static json_t *lines_json(const struct ipc_bytes *text)
{
    json_t *list = json_array();
    const char *p = text->data, *end = p + text->len;
    while (p < end) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t len = stop ? (size_t)(stop - p) : (size_t)(end - p);
        json_array_append_new(list, api_text(p, len));
        p += len + 1;
    }
    return list;
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
    json_object_set_new(doc, "client_id", api_text(q->id, q->id_len));
    json_object_set_new(doc, "connected", json_true());
    json_object_set_new(doc, "worker", json_integer(q->claim.worker));
    json_object_set_new(doc, "protocol", json_string(protocol_name(f[2].num)));
    json_object_set_new(doc, "keepalive", json_integer((json_int_t)f[3].num));
    json_object_set_new(doc, "connected_since", api_time(f[4].num));
    json_object_set_new(doc, "idle_seconds", json_real((double)f[5].num / 1000));
    json_object_set_new(doc, "subscription_count", json_integer((json_int_t)f[6].num));
    json_object_set_new(doc, "subscriptions", lines_json(&f[10].bytes));
    json_object_set_new(doc, "output_bytes", json_integer((json_int_t)f[7].num));
    json_object_set_new(doc, "address", api_text(f[8].bytes.data, f[8].bytes.len));
    json_object_set_new(doc, "listener", api_text(f[9].bytes.data, f[9].bytes.len));
    json_object_set_new(doc, "tls", text_or_null(&f[11].bytes));
    json_object_set_new(doc, "identity", text_or_null(&f[12].bytes));
    bool never = f[13].num == ENGINE_EXPIRY_NEVER;
    json_object_set_new(doc, "session_expiry", never ? json_null() : json_integer((json_int_t)f[13].num));
    json_object_set_new(doc, "inflight", json_integer((json_int_t)f[14].num));
    json_object_set_new(doc, "cursor", json_integer((json_int_t)f[15].num));
    json_object_set_new(doc, "reads_log", json_boolean(f[16].num));
    json_t *session = api_session_json(q->hub, q->id, q->id_len, f[15].num);
    json_object_set_new(doc, "session", session ? session : json_null());
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
        reply_away(h, q->req, q->id, q->id_len);
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
