/*
 * Answers of the HTTP API. Handlers say what; this file writes it as JSON, as a problem report (RFC 9457) or
 * as bytes, counts it, and leaves out the body where HTTP has none (HEAD, 204). evhttp owns the request
 * afterwards.
 */
#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/counters.h"
#include "gateway/base/log.h"
#include "gateway/hub/http_api.h"

LOG_EVENT(request_event, "http_request", LOG_LEVEL_DEBUG);

/* Titles of the statuses that are used (RFC 9110 section 15). */
static const struct {
    int status;
    const char *title;
} titles[] = {
    {200, "OK"},
    {204, "No Content"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {413, "Content Too Large"},
    {415, "Unsupported Media Type"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {507, "Insufficient Storage"}, /* RFC 4918 section 11.5 */
};

static const char *title_of(int status)
{
    for (size_t i = 0; i < sizeof titles / sizeof titles[0]; i++)
        if (titles[i].status == status)
            return titles[i].title;
    CHECK(!"a status without a title");
    return NULL;
}

/* The one place where an answer leaves. Empties `body`, which may be NULL. */
static void send_reply(struct evhttp_request *req, int status, const char *type, struct evbuffer *body)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
    size_t len = body ? evbuffer_get_length(body) : 0;
    if (log_wants(&request_event))
        LOG(request_event, LOG_STR("uri", evhttp_request_get_uri(req) ? evhttp_request_get_uri(req) : ""),
            LOG_I64("status", status), LOG_U64("bytes", len));
    if (type)
        evhttp_add_header(headers, "Content-Type", type);
    evhttp_add_header(headers, "Cache-Control", "no-store");
    if (status != 204) {
        char text[24];
        snprintf(text, sizeof text, "%zu", len);
        evhttp_add_header(headers, "Content-Length", text);
    }
    if (evhttp_request_get_command(req) == EVHTTP_REQ_HEAD && body)
        evbuffer_drain(body, len);
    evhttp_send_reply(req, status, title_of(status), body);
}

void http_reply_buffer(struct evhttp_request *req, int status, const char *content_type,
                       struct evbuffer *body)
{
    send_reply(req, status, content_type, body);
}

void http_reply_empty(struct evhttp_request *req, int status) { send_reply(req, status, NULL, NULL); }

/* jansson's sink. */
static int dump_cb(const char *text, size_t len, void *arg) { return evbuffer_add(arg, text, len); }

/* Sends a document with a content type of its own. */
static void send_document(struct evhttp_request *req, int status, const char *type, json_t *doc)
{
    struct evbuffer *body = evbuffer_new();
    CHECK(body && doc);
    json_dump_callback(doc, dump_cb, body, JSON_COMPACT | JSON_REAL_PRECISION(12));
    evbuffer_add(body, "\n", 1);
    json_decref(doc);
    send_reply(req, status, type, body);
    evbuffer_free(body);
}

void http_reply_json(struct evhttp_request *req, int status, json_t *doc)
{
    send_document(req, status, "application/json", doc);
}

/* A string for a document: what is not UTF-8 (a name that a stranger chose, cut by a buffer) becomes '?'. */
static json_t *text_json(const char *text)
{
    json_t *s = json_string(text);
    if (s)
        return s;
    char safe[sizeof((struct http_problem *)0)->detail];
    snprintf(safe, sizeof safe, "%s", text);
    for (char *c = safe; *c; c++)
        if (*c & 0x80)
            *c = '?';
    return json_string(safe);
}

void http_reply_problem(struct evhttp_request *req, const struct http_problem *p)
{
    json_t *doc = json_object();
    json_object_set_new(doc, "type", json_string("about:blank"));
    json_object_set_new(doc, "title", json_string(title_of(p->status)));
    json_object_set_new(doc, "status", json_integer(p->status));
    json_object_set_new(doc, "detail", text_json(p->detail));
    if (p->field[0])
        json_object_set_new(doc, "field", text_json(p->field));
    if (p->retry_after_s > 0) {
        char text[16];
        snprintf(text, sizeof text, "%u", p->retry_after_s);
        evhttp_add_header(evhttp_request_get_output_headers(req), "Retry-After", text);
    }
    counter_add(COUNTER_HTTP_ERRORS, 1);
    send_document(req, p->status, "application/problem+json", doc);
}

/* Fills a problem; "try again" is said with every 503. */
static void fill(struct http_problem *p, int status, const char *field, const char *detail, va_list ap)
{
    p->status = status;
    p->retry_after_s = status == 503 ? 1 : 0;
    snprintf(p->field, sizeof p->field, "%s", field ? field : "");
    vsnprintf(p->detail, sizeof p->detail, detail, ap);
}

bool http_problem_set(struct http_problem *p, int status, const char *field, const char *detail, ...)
{
    va_list ap;
    va_start(ap, detail);
    fill(p, status, field, detail, ap);
    va_end(ap);
    return false;
}

void http_problem(struct evhttp_request *req, int status, const char *field, const char *detail, ...)
{
    struct http_problem p;
    va_list ap;
    va_start(ap, detail);
    fill(&p, status, field, detail, ap);
    va_end(ap);
    http_reply_problem(req, &p);
}
