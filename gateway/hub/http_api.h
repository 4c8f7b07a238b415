/*
 * The HTTP API of the hub: routes, bearer tokens, problem reports. evhttp speaks HTTP; what a request asks
 * for is done by the handlers in the api_*.c files.
 */
#ifndef HOLDFAST_HUB_HTTP_API_H
#define HOLDFAST_HUB_HTTP_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct evhttp_request;
struct hub;
struct http_api;

/* ---- the server ---- */

/* Serves on a listening descriptor, which it takes over. Accepts nothing before http_api_accept(true). NULL:
 * the descriptor cannot be used. */
struct http_api *http_api_new(struct hub *h, int listen_fd, int token_fd);
void http_api_free(struct http_api *a);
void http_api_accept(struct http_api *a, bool on);
/* Called once a second: connections that have ended make room for new ones. */
void http_api_tick(struct http_api *a);

/* ---- a request in work ---- */

struct http_call {
    struct hub *hub;
    struct evhttp_request *req;
    const char
        *id; /* what stood for {id} in the path, decoded; any bytes of valid UTF-8; valid during the call */
    size_t id_len;
};

/* Each handler answers exactly once, now or later, by one of the http_reply_ functions or http_problem(). */
typedef void http_handler_fn(struct http_call *call);

http_handler_fn api_publish, api_client_publish, api_broadcast; /* api_publish.c */
http_handler_fn api_client_get, api_client_delete;              /* api_clients.c */
http_handler_fn api_sessions;                                   /* api_sessions.c */
http_handler_fn api_stats, api_metrics, api_health, api_ready;  /* api_stats.c */

/* ---- answers ---- */

/* What is wrong with a request (RFC 9457). status 0: nothing. */
struct http_problem {
    int status;
    unsigned retry_after_s; /* 0: no Retry-After */
    char field[160]; /* the member that is wrong, e.g. "[3].properties.user"; "" : none in particular */
    char detail[320];
};

/* Fills *p; returns false, so that a check can end with it. */
bool http_problem_set(struct http_problem *p, int status, const char *field, const char *detail, ...)
    __attribute__((format(printf, 4, 5)));
/* Answers with the problem. */
void http_reply_problem(struct evhttp_request *req, const struct http_problem *p);
/* Both in one. */
void http_problem(struct evhttp_request *req, int status, const char *field, const char *detail, ...)
    __attribute__((format(printf, 4, 5)));

/* Answers with a document, which it takes over. */
void http_reply_json(struct evhttp_request *req, int status, json_t *doc);
/* Answers with the bytes of a buffer, which it empties. */
struct evbuffer;
void http_reply_buffer(struct evhttp_request *req, int status, const char *content_type,
                       struct evbuffer *body);
void http_reply_empty(struct evhttp_request *req, int status);

/* The request's body as JSON, or NULL with *p filled (400, 415). The caller releases it. */
json_t *http_read_json(struct evhttp_request *req, struct http_problem *p);

/* ---- tokens (http_auth.c) ---- */

struct http_tokens;
/* Reads a token file: one per line, '#' begins a comment line. fd is the open file, since the hub's account
 * need not be able to open it; path is for the log. A file that cannot be read lets nobody in, which is
 * logged. path "": NULL, everybody may. */
struct http_tokens *http_tokens_load(const char *path, int fd);
void http_tokens_free(struct http_tokens *t);
/* Whether the value of an Authorization field (or NULL) carries one of the tokens. */
bool http_tokens_allow(const struct http_tokens *t, const char *authorization);

#endif
