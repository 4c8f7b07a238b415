/*
 * The head of an HTTP/1.1 request: bytes -> struct (RFC 9112 sections 2 to 5). For those who speak HTTP to a
 * client port: WebSocket upgrades, event streams, and people who got the wrong port. No body, no response, no
 * allocation.
 */
#ifndef HOLDFAST_PROTO_HTTP_HEAD_H
#define HOLDFAST_PROTO_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEAD_MAX        8192
#define HTTP_HEAD_MAX_FIELDS 64

struct http_text {
    const char *data; /* points into the buffer; not NUL-terminated */
    uint32_t len;
};

struct http_field {
    struct http_text name, value; /* value without surrounding white space */
};

struct http_head {
    struct http_text method, target;
    uint8_t minor; /* HTTP/1.0 or 1.1; a higher 1.x is 1 */
    unsigned fields;
    struct http_field field[HTTP_HEAD_MAX_FIELDS];
};

enum http_result { HTTP_OK, HTTP_MORE, HTTP_BAD };

/*
 * HTTP_OK: *used bytes are the head, empty line included. HTTP_MORE: the empty line has not come yet.
 * HTTP_BAD: *status is what to answer (400, 414, 431, 505) and *why (static) says what is wrong. Strict: no
 * obs-fold, no bare CR or LF, no white space before the colon, one Host in 1.1. Call it again from the start
 * of the head when more has come; complete lines are refused at once.
 */
enum http_result http_head_decode(const char *buf, size_t len, struct http_head *h, size_t *used,
                                  unsigned *status, const char **why) __attribute__((warn_unused_result));

/* The value of the first field with this name (case-insensitive), or NULL. */
const struct http_text *http_head_find(const struct http_head *h, const char *name);

/* Whether a field with a comma-separated list (Connection, Upgrade) has this token, case-insensitively, in
 * any of its lines. */
bool http_head_has_token(const struct http_head *h, const char *name, const char *token);

#endif
