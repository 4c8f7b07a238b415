/*
 * The table of routes of the HTTP API and the way through it: path, then method, then token, then handler.
 * The server hands requests in; each leaves through a handler or a problem report.
 */
#include "gateway/hub/http_route.h"

#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/xmalloc.h"
#include "gateway/hub/hub_internal.h"
#include "proto/mqtt_topic.h"

/* One row per method and path. `{id}` stands for one segment; GET answers HEAD too. */
static const struct route {
    enum evhttp_cmd_type method;
    const char *path;
    bool needs_token;
    http_handler_fn *handler;
} routes[] = {
    {EVHTTP_REQ_POST, "/v1/publish", true, api_publish},
    {EVHTTP_REQ_POST, "/v1/broadcast", true, api_broadcast},
    {EVHTTP_REQ_POST, "/v1/clients/{id}/publish", true, api_client_publish},
    {EVHTTP_REQ_GET, "/v1/clients/{id}", true, api_client_get},
    {EVHTTP_REQ_DELETE, "/v1/clients/{id}", true, api_client_delete},
    {EVHTTP_REQ_GET, "/v1/sessions", true, api_sessions},
    {EVHTTP_REQ_GET, "/v1/stats", true, api_stats},
    {EVHTTP_REQ_GET, "/metrics", true, api_metrics},
    {EVHTTP_REQ_GET, "/healthz", false, api_health},
    {EVHTTP_REQ_GET, "/readyz", false, api_ready},
};
#define ROUTES (sizeof routes / sizeof routes[0])

static const struct {
    enum evhttp_cmd_type method;
    const char *name;
} method_names[] = {
    {EVHTTP_REQ_GET, "GET, HEAD"},
    {EVHTTP_REQ_POST, "POST"},
    {EVHTTP_REQ_DELETE, "DELETE"},
};

/* A part of the request's path, still encoded. */
struct segment {
    const char *text;
    size_t len;
};

/* Whether the path has this pattern; what stood for {id} goes to *id. */
static bool path_matches(const char *pattern, const char *path, struct segment *id)
{
    static const char placeholder[] = "{id}";
    const size_t placeholder_len = sizeof placeholder - 1;
    while (*pattern) {
        if (strncmp(pattern, placeholder, placeholder_len) == 0) {
            *id = (struct segment){.text = path, .len = strcspn(path, "/")};
            if (id->len == 0)
                return false;
            pattern += placeholder_len;
            path += id->len;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return *path == 0;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Undoes percent-encoding (RFC 3986 section 2.1). Returns the length, or -1 for a % without two digits. */
static ssize_t percent_decode(const struct segment *s, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < s->len; i++) {
        if (s->text[i] != '%') {
            out[n++] = s->text[i];
            continue;
        }
        if (s->len - i < 3)
            return -1;
        int high = hex_value(s->text[i + 1]), low = hex_value(s->text[i + 2]);
        if (high < 0 || low < 0)
            return -1;
        out[n++] = (char)(high << 4 | low);
        i += 2;
    }
    return (ssize_t)n;
}

/* Names the methods that the path does have. */
static void reply_method_not_allowed(struct evhttp_request *req, const char *path)
{
    char allow[64] = "";
    struct segment id;
    for (size_t m = 0; m < sizeof method_names / sizeof method_names[0]; m++)
        for (size_t i = 0; i < ROUTES; i++)
            if (routes[i].method == method_names[m].method && path_matches(routes[i].path, path, &id)) {
                size_t used = strlen(allow);
                snprintf(allow + used, sizeof allow - used, "%s%s", used ? ", " : "", method_names[m].name);
                break;
            }
    evhttp_add_header(evhttp_request_get_output_headers(req), "Allow", allow);
    http_problem(req, 405, NULL, "this path answers to %s", allow);
}

/* The route for a request; NULL: it has been answered. */
static const struct route *find_route(struct evhttp_request *req, const char *path, struct segment *id)
{
    enum evhttp_cmd_type method = evhttp_request_get_command(req);
    bool known = false;
    if (method == EVHTTP_REQ_HEAD)
        method = EVHTTP_REQ_GET;
    for (size_t i = 0; i < ROUTES; i++) {
        if (!path_matches(routes[i].path, path, id))
            continue;
        if (routes[i].method == method)
            return &routes[i];
        known = true;
    }
    if (known)
        reply_method_not_allowed(req, path);
    else
        http_problem(req, 404, NULL, "there is nothing at this path");
    return NULL;
}

/* Says that a token is needed, or that this one is not good (RFC 6750 section 3). */
static void reply_unauthorized(struct evhttp_request *req, const char *authorization)
{
    evhttp_add_header(evhttp_request_get_output_headers(req), "WWW-Authenticate",
                      authorization ? "Bearer realm=\"holdfast\", error=\"invalid_token\""
                                    : "Bearer realm=\"holdfast\"");
    http_problem(req, 401, NULL, "%s",
                 authorization ? "the token in Authorization is not one of those in api.token_file"
                               : "this needs a header \"Authorization: Bearer TOKEN\"");
}

/* Calls the handler with the decoded id, if the path has one. */
static void call_handler(const struct route *r, struct hub *h, struct evhttp_request *req,
                         const struct segment *id)
{
    struct http_call call = {.hub = h, .req = req};
    char *decoded = NULL;
    if (id->text) {
        decoded = xmalloc(id->len + 1);
        ssize_t n = percent_decode(id, decoded);
        if (n < 0 || n > UINT16_MAX || !mqtt_utf8_valid(decoded, (size_t)n)) {
            http_problem(req, 400, "id",
                         "the client id in the path must be percent-encoded UTF-8 of at most 65535 bytes");
            free(decoded);
            return;
        }
        call.id = decoded;
        call.id_len = (size_t)n;
    }
    r->handler(&call);
    free(decoded);
}

void http_route(struct hub *h, const struct http_tokens *tokens, struct evhttp_request *req)
{
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
    const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
    struct segment id = {0};
    const struct route *r = find_route(req, path ? path : "", &id);
    if (!r)
        return;
    const char *authorization = evhttp_find_header(evhttp_request_get_input_headers(req), "Authorization");
    if (r->needs_token && !http_tokens_allow(tokens, authorization)) {
        reply_unauthorized(req, authorization);
        return;
    }
    if (!strstr(r->path, "{id}"))
        id.text = NULL;
    size_t body = evbuffer_get_length(evhttp_request_get_input_buffer(req));
    if (body > h->args->config->api_max_body)
        http_problem(req, 413, NULL, "the body has %zu bytes; api.max_body allows %u", body,
                     h->args->config->api_max_body);
    else
        call_handler(r, h, req, &id);
}
