/*
 * A request's body as JSON. Before jansson builds anything from it, one walk over the bytes bounds what it
 * can cost: how deep it nests and how many values it has, since a value of two bytes becomes an object of a
 * hundred.
 */
#include <event2/buffer.h>
#include <event2/http.h>
#include <string.h>
#include <strings.h>

#include "gateway/base/check.h"
#include "gateway/hub/http_api.h"

#define MAX_DEPTH  8u
#define MAX_VALUES 100000u

/* Whether a media type is application/json or ends in +json (RFC 6839 section 3.1); parameters are ignored.
 */
static bool is_json_type(const char *type)
{
    size_t len = strcspn(type, ";");
    while (len > 0 && (type[len - 1] == ' ' || type[len - 1] == '\t'))
        len--;
    if (len == strlen("application/json") && strncasecmp(type, "application/json", len) == 0)
        return true;
    return len > 5 && strncasecmp(type + len - 5, "+json", 5) == 0;
}

/* The index of the quote that ends the string which begins at i, or len. */
static size_t end_of_string(const char *text, size_t len, size_t i)
{
    for (i++; i < len && text[i] != '"'; i++)
        if (text[i] == '\\')
            i++;
    return i < len ? i : len;
}

/* Whether nesting and the number of values are within bounds. What is not JSON at all passes: the parser will
 * say so. */
static bool shape_is_bounded(const char *text, size_t len)
{
    unsigned depth = 0, separators = 0;
    for (size_t i = 0; i < len; i++) {
        switch (text[i]) {
        case '"':
            i = end_of_string(text, len, i);
            break;
        case '[':
        case '{':
            separators++;
            if (++depth > MAX_DEPTH)
                return false;
            break;
        case ']':
        case '}':
            depth -= depth > 0;
            break;
        case ',':
            separators++;
            break;
        }
    }
    return separators <= MAX_VALUES;
}

/* Parses the bytes; NULL with *p filled. */
static json_t *parse(const char *text, size_t len, struct http_problem *p)
{
    json_error_t error;
    if (!shape_is_bounded(text, len)) {
        http_problem_set(p, 400, NULL, "the body nests deeper than %u levels or has more than %u values",
                         MAX_DEPTH, MAX_VALUES);
        return NULL;
    }
    json_t *doc = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!doc)
        http_problem_set(p, 400, NULL, "the body is not JSON: line %d, column %d: %s", error.line,
                         error.column, error.text);
    return doc;
}

json_t *http_read_json(struct evhttp_request *req, struct http_problem *p)
{
    const char *type = evhttp_find_header(evhttp_request_get_input_headers(req), "Content-Type");
    struct evbuffer *body = evhttp_request_get_input_buffer(req);
    size_t len = evbuffer_get_length(body);
    if (type && !is_json_type(type)) {
        http_problem_set(p, 415, NULL, "the body must be JSON: send \"Content-Type: application/json\"");
        return NULL;
    }
    if (len == 0) {
        http_problem_set(p, 400, NULL, "the body is empty; expected JSON");
        return NULL;
    }
    const char *text = (const char *)evbuffer_pullup(body, -1);
    CHECK(text);
    json_t *doc = parse(text, len, p);
    evbuffer_drain(body, len);
    return doc;
}
