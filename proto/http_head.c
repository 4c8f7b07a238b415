/*
 * The head of an HTTP/1.1 request: whoever has read bytes from a client that speaks HTTP calls
 * http_head_decode() again with all of them each time more have come, until it says OK or BAD. Complete lines
 * are checked at once, so that nonsense is answered without waiting for its end. Strict on purpose: what two
 * parsers could read in two ways is refused. Bodies and what the fields mean are left to the caller.
 */
#include "proto/http_head.h"

#include <string.h>
#include <strings.h>

/* Where the parser stands; its verdict when it gives up. */
struct http_in {
    const char *at, *end;
    bool truncated; /* end is the limit of a head, not the end of what has come */
    unsigned status;
    const char *why;
};

/* Says what to answer. Always HTTP_BAD, so that a reader can return it. */
__attribute__((cold)) static enum http_result refuse(struct http_in *in, unsigned status, const char *why)
{
    in->status = status;
    in->why = why;
    return HTTP_BAD;
}

/* tchar of RFC 9110 section 5.6.2. */
static bool is_token_char(unsigned char c)
{
    if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z')
        return true;
    return (c >= '0' && c <= '9') || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(struct http_text t)
{
    for (uint32_t i = 0; i < t.len; i++)
        if (!is_token_char((unsigned char)t.data[i]))
            return false;
    return t.len > 0;
}

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

/* Without white space at both ends. */
static struct http_text trim(struct http_text t)
{
    while (t.len && is_blank(t.data[0])) {
        t.data++;
        t.len--;
    }
    while (t.len && is_blank(t.data[t.len - 1]))
        t.len--;
    return t;
}

static bool same(struct http_text t, const char *s)
{
    return strlen(s) == t.len && strncasecmp(t.data, s, t.len) == 0;
}

/*
 * Takes the next line without its CRLF. MORE when its end has not come; BAD when there is a control
 * character in it, which includes a CR or LF that stands alone.
 */
static enum http_result read_line(struct http_in *in, struct http_text *line)
{
    for (const char *c = in->at; c < in->end; c++) {
        unsigned char u = (unsigned char)*c;
        if ((u >= 0x20 && u != 0x7F) || u == '\t')
            continue;
        if (u != '\r')
            return refuse(in, 400,
                          u == '\n' ? "line does not end in CR LF" : "control character in the head");
        if (c + 1 == in->end)
            return HTTP_MORE;
        if (c[1] != '\n')
            return refuse(in, 400, "CR without LF");
        *line = (struct http_text){in->at, (uint32_t)(c - in->at)};
        in->at = c + 2;
        return HTTP_OK;
    }
    return HTTP_MORE;
}

/* Splits off what stands before the first space. */
static struct http_text next_word(struct http_text *line)
{
    const char *space = memchr(line->data, ' ', line->len);
    uint32_t len = space ? (uint32_t)(space - line->data) : line->len;
    struct http_text word = {line->data, len};

    line->data += len + (space != NULL);
    line->len -= len + (space != NULL);
    return word;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Reads "HTTP/1.1". A higher minor version is served as 1.1 (RFC 9110 section 2.5). */
static enum http_result parse_version(struct http_in *in, struct http_text v, struct http_head *h)
{
    if (v.len != 8 || memcmp(v.data, "HTTP/", 5) != 0 || v.data[6] != '.' || !is_digit(v.data[5]) ||
        !is_digit(v.data[7]))
        return refuse(in, 400, "request line does not end in an HTTP version");
    if (v.data[5] != '1')
        return refuse(in, 505, "HTTP version is not 1.0 or 1.1");
    h->minor = v.data[7] != '0';
    return HTTP_OK;
}

/* Reads method, target and version, one space between them. */
static enum http_result parse_request_line(struct http_in *in, struct http_text line, struct http_head *h)
{
    h->method = next_word(&line);
    h->target = next_word(&line);
    if (!is_token(h->method))
        return refuse(in, 400, "method is not a token");
    if (!h->target.len)
        return refuse(in, 400, "request has no target");
    for (uint32_t i = 0; i < h->target.len; i++)
        if (h->target.data[i] < 0x21 || h->target.data[i] > 0x7E)
            return refuse(in, 400, "target has a character that must be percent-encoded");
    return parse_version(in, line, h);
}

/* Reads "name: value". */
static enum http_result parse_field(struct http_in *in, struct http_text line, struct http_head *h)
{
    const char *colon = memchr(line.data, ':', line.len);

    if (is_blank(line.data[0]))
        return refuse(in, 400, "line folding is obsolete");
    if (!colon)
        return refuse(in, 400, "header line without a colon");
    struct http_text name = {line.data, (uint32_t)(colon - line.data)};
    if (!is_token(name))
        return refuse(in, 400, "field name is not a token");
    if (h->fields == HTTP_HEAD_MAX_FIELDS)
        return refuse(in, 431, "too many header fields");
    h->field[h->fields].name = name;
    h->field[h->fields++].value = trim((struct http_text){colon + 1, line.len - name.len - 1});
    return HTTP_OK;
}

/* Checks that there is one Host with a sane value; only 1.0 may leave it out (RFC 9112 section 3.2). */
static enum http_result check_host(struct http_in *in, const struct http_head *h)
{
    unsigned hosts = 0;

    for (unsigned i = 0; i < h->fields; i++) {
        struct http_text v = h->field[i].value;
        if (!same(h->field[i].name, "host"))
            continue;
        hosts++;
        for (uint32_t k = 0; k < v.len; k++)
            if ((unsigned char)v.data[k] > 0x7E || strchr(" \t,/?#@\\\"<>", v.data[k]))
                return refuse(in, 400, "Host has a character that no host has");
    }
    if (hosts > 1)
        return refuse(in, 400, "more than one Host");
    return hosts || h->minor == 0 ? HTTP_OK : refuse(in, 400, "HTTP/1.1 without Host");
}

/* Waits for more, or refuses a head that is at its limit. */
static enum http_result want_more(struct http_in *in, bool in_request_line)
{
    if (!in->truncated)
        return HTTP_MORE;
    return in_request_line ? refuse(in, 414, "request line is too long")
                           : refuse(in, 431, "head is too long");
}

/* Reads the request line; one empty line before it is let pass (RFC 9112 section 2.2). */
static enum http_result read_request_line(struct http_in *in, struct http_head *h)
{
    struct http_text line = {0};
    enum http_result r = read_line(in, &line);

    if (r == HTTP_OK && line.len == 0)
        r = read_line(in, &line);
    if (r == HTTP_MORE)
        return want_more(in, true);
    return r == HTTP_OK ? parse_request_line(in, line, h) : r;
}

/* Reads the whole head. */
static enum http_result read_head(struct http_in *in, struct http_head *h)
{
    struct http_text line = {0};
    enum http_result r = read_request_line(in, h);

    while (r == HTTP_OK) {
        r = read_line(in, &line);
        if (r == HTTP_MORE)
            return want_more(in, false);
        if (r == HTTP_OK && line.len == 0)
            return check_host(in, h);
        if (r == HTTP_OK)
            r = parse_field(in, line, h);
    }
    return r;
}

enum http_result http_head_decode(const char *buf, size_t len, struct http_head *h, size_t *used,
                                  unsigned *status, const char **why)
{
    struct http_in in = {.at = buf, .end = buf, .truncated = len >= HTTP_HEAD_MAX};

    if (len)
        in.end = buf + (in.truncated ? HTTP_HEAD_MAX : len);
    h->fields = 0;
    enum http_result r = read_head(&in, h);
    if (r == HTTP_OK)
        *used = (size_t)(in.at - buf);
    if (r == HTTP_BAD) {
        *status = in.status;
        *why = in.why;
    }
    return r;
}

const struct http_text *http_head_find(const struct http_head *h, const char *name)
{
    for (unsigned i = 0; i < h->fields; i++)
        if (same(h->field[i].name, name))
            return &h->field[i].value;
    return NULL;
}

/* Whether a comma-separated list has this member. */
static bool list_has(struct http_text list, const char *token)
{
    while (list.len) {
        const char *comma = memchr(list.data, ',', list.len);
        uint32_t len = comma ? (uint32_t)(comma - list.data) : list.len;
        if (same(trim((struct http_text){list.data, len}), token))
            return true;
        list.data += len + (comma != NULL);
        list.len -= len + (comma != NULL);
    }
    return false;
}

bool http_head_has_token(const struct http_head *h, const char *name, const char *token)
{
    for (unsigned i = 0; i < h->fields; i++)
        if (same(h->field[i].name, name) && list_has(h->field[i].value, token))
            return true;
    return false;
}
