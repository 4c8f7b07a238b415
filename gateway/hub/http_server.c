/*
 * The HTTP server of the hub: evhttp on the socket that the supervisor opened, with bounds on what a stranger
 * can make it hold: body, header, idle time, and the number of open connections. Accepted requests go to
 * http_route(). What one request means is not known here.
 *
 * evhttp does not tell when a connection ends. So each connection's bufferevent is made here and kept with a
 * reference of our own: evhttp clears its callbacks when it is done with it, and that is how the
 * once-a-second sweep (and the one when the limit is reached) recognises those that are over.
 */
#include <errno.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <event2/util.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"
#include "gateway/hub/http_route.h"
#include "gateway/hub/hub_internal.h"

#define HTTP_API_MAGIC  0x68747470u
#define MAX_CONNECTIONS 256u
#define MAX_HEADERS     (16 << 10)
#define IDLE_TIMEOUT_S  60

LOG_EVENT(full_event, "api_connections_full", LOG_LEVEL_WARNING);
LOG_EVENT(accept_event, "api_accept_failed", LOG_LEVEL_WARNING);
LOG_EVENT(listen_event, "api_listen_failed", LOG_LEVEL_ERROR);

struct http_api {
    uint32_t magic;
    struct hub *hub;
    struct evhttp *http;
    struct evconnlistener *listener; /* evhttp's */
    struct http_tokens *tokens;
    bool wanted; /* the hub wants requests */
    bool full;   /* no room, until the next sweep finds some */
    unsigned connections;
    struct bufferevent *connection[MAX_CONNECTIONS];
};

/* Listens when it is wanted and there is room. */
static void apply_listening(struct http_api *a)
{
    if (a->wanted && !a->full)
        evconnlistener_enable(a->listener);
    else
        evconnlistener_disable(a->listener);
}

/* Whether evhttp has freed this connection. */
static bool has_ended(struct bufferevent *bev)
{
    bufferevent_data_cb read_cb, write_cb;
    bufferevent_event_cb event_cb;
    void *arg;
    bufferevent_getcb(bev, &read_cb, &write_cb, &event_cb, &arg);
    return !read_cb && !write_cb && !event_cb;
}

/* Drops our references to connections that are over. */
static void sweep(struct http_api *a)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < a->connections; i++)
        if (has_ended(a->connection[i]))
            bufferevent_decref(a->connection[i]);
        else
            a->connection[kept++] = a->connection[i];
    a->connections = kept;
}

/* evhttp asks for the bufferevent of a connection it has just accepted. */
static struct bufferevent *connection_cb(struct event_base *base, void *arg)
{
    struct http_api *a = CHECK_CAST(arg, struct http_api, HTTP_API_MAGIC);
    if (a->connections >= MAX_CONNECTIONS - 1)
        sweep(a); /* before there is a new one, which would look as if it had ended */
    /* our reference keeps the descriptor open: its number must not be taken again while libevent watches it
     */
    struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
    CHECK(bev && a->connections < MAX_CONNECTIONS);
    bufferevent_incref(bev);
    a->connection[a->connections++] = bev;
    if (a->connections == MAX_CONNECTIONS) {
        a->full = true;
        apply_listening(a);
    }
    return bev;
}

/* accept() has failed, most likely for want of descriptors: pause until the next tick instead of spinning. */
static void accept_error_cb(struct evconnlistener *listener, void *arg)
{
    struct http_api *a = CHECK_CAST(arg, struct http_api, HTTP_API_MAGIC);
    (void)listener;
    LOG(accept_event, LOG_STR("error", evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR())));
    counter_add(COUNTER_ACCEPT_PAUSED, 1);
    a->full = true;
    apply_listening(a);
}

static void request_cb(struct evhttp_request *req, void *arg)
{
    struct http_api *a = CHECK_CAST(arg, struct http_api, HTTP_API_MAGIC);
    clock_update();
    counter_add(COUNTER_HTTP_REQUESTS, 1);
    http_route(a->hub, a->tokens, req);
}

/* Sets evhttp up on a listening socket. False: it cannot be used. */
static bool serve(struct http_api *a, int fd)
{
    const ev_uint16_t all = EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT |
                            EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE | EVHTTP_REQ_CONNECT |
                            EVHTTP_REQ_PATCH;
    a->http = evhttp_new(a->hub->base);
    CHECK(a->http);
    evhttp_set_allowed_methods(a->http, all); /* so that we answer 405, not evhttp 501 */
    /* evhttp answers for itself above its limit, in HTML; up to twice ours we answer, with a problem report
     */
    evhttp_set_max_body_size(a->http, 2 * (ev_ssize_t)a->hub->args->config->api_max_body);
    evhttp_set_max_headers_size(a->http, MAX_HEADERS);
    evhttp_set_timeout(a->http, IDLE_TIMEOUT_S);
    evhttp_set_bevcb(a->http, connection_cb, a);
    evhttp_set_gencb(a->http, request_cb, a);
    evutil_make_socket_nonblocking(fd);
    struct evhttp_bound_socket *bound = evhttp_accept_socket_with_handle(a->http, fd);
    if (!bound)
        return false;
    a->listener = evhttp_bound_socket_get_listener(bound);
    evconnlistener_set_error_cb(a->listener, accept_error_cb);
    evconnlistener_disable(a->listener);
    return true;
}

struct http_api *http_api_new(struct hub *h, int listen_fd, int token_fd)
{
    struct http_api *a = xcalloc(1, sizeof *a);
    a->magic = HTTP_API_MAGIC;
    a->hub = h;
    a->tokens = http_tokens_load(h->args->config->api_token_file, token_fd);
    if (serve(a, listen_fd))
        return a;
    LOG(listen_event, LOG_I64("fd", listen_fd), LOG_STR("error", strerror(errno)));
    http_api_free(a);
    return NULL;
}

void http_api_free(struct http_api *a)
{
    if (!a)
        return;
    evhttp_free(a->http);
    sweep(a);
    for (unsigned i = 0; i < a->connections; i++)
        bufferevent_decref(a->connection[i]);
    http_tokens_free(a->tokens);
    a->magic = 0;
    free(a);
}

void http_api_accept(struct http_api *a, bool on)
{
    if (a->wanted == on)
        return;
    a->wanted = on;
    apply_listening(a);
}

void http_api_tick(struct http_api *a)
{
    bool was_full = a->connections == MAX_CONNECTIONS;
    sweep(a);
    if (!a->full)
        return;
    a->full = a->connections == MAX_CONNECTIONS;
    if (was_full && a->full)
        LOG(full_event, LOG_U64("connections", a->connections));
    apply_listening(a);
}
