/*
 * The head of an HTTP request: what is taken apart, what is waited for, and everything that is refused.
 */
#include "tests/unit/unit.h"

#include <string.h>

#include "proto/http_head.h"

static struct http_head head;
static size_t used;
static unsigned status;
static const char *why;

/* Decodes from memory of exactly the size of the text. */
static enum http_result decode(const char *text, size_t len)
{
    static char *copy;

    free(copy);
    copy = malloc(len ? len : 1);
    memcpy(copy, text, len);
    memset(&head, 0xA5, sizeof head);
    used = status = 0;
    why = NULL;
    return http_head_decode(copy, len, &head, &used, &status, &why);
}

static bool is(struct http_text t, const char *s)
{
    return t.len == strlen(s) && memcmp(t.data, s, t.len) == 0;
}

static const char upgrade[] = "GET /mqtt?x=1 HTTP/1.1\r\n"
                              "Host: example.org:8080\r\n"
                              "Upgrade: websocket\r\n"
                              "Connection: keep-alive, Upgrade\r\n"
                              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                              "Sec-WebSocket-Protocol:mqtt,  mqttv3.1\t\r\n"
                              "sec-websocket-protocol: other\r\n"
                              "X-Empty:\r\n"
                              "X-Latin: \xE9\r\n"
                              "\r\n";

START_TEST(websocket_upgrade)
{
    char both[sizeof upgrade + 8];

    memcpy(both, upgrade, sizeof upgrade - 1);
    memcpy(both + sizeof upgrade - 1, "\x82\x00\r\n", 4); /* what follows is left alone */
    ck_assert_msg(decode(both, sizeof upgrade + 3) == HTTP_OK, "%s", why);
    ck_assert_uint_eq(used, sizeof upgrade - 1);
    ck_assert(is(head.method, "GET") && is(head.target, "/mqtt?x=1"));
    ck_assert_uint_eq(head.minor, 1);
    ck_assert_uint_eq(head.fields, 8);
    ck_assert(is(head.field[0].name, "Host") && is(head.field[0].value, "example.org:8080"));
    ck_assert(is(*http_head_find(&head, "SEC-WEBSOCKET-KEY"), "dGhlIHNhbXBsZSBub25jZQ=="));
    ck_assert(is(*http_head_find(&head, "sec-websocket-protocol"), "mqtt,  mqttv3.1"));
    ck_assert(is(*http_head_find(&head, "x-empty"), ""));
    ck_assert(is(*http_head_find(&head, "x-latin"), "\xE9"));
    ck_assert_ptr_null(http_head_find(&head, "Sec-WebSocket"));
    ck_assert_ptr_null(http_head_find(&head, ""));
}
END_TEST

START_TEST(tokens_in_lists)
{
    ck_assert(decode(upgrade, sizeof upgrade - 1) == HTTP_OK);
    ck_assert(http_head_has_token(&head, "connection", "upgrade"));
    ck_assert(http_head_has_token(&head, "Connection", "Keep-Alive"));
    ck_assert(!http_head_has_token(&head, "Connection", "keep"));
    ck_assert(!http_head_has_token(&head, "Connection", "keep-alive, Upgrade"));
    ck_assert(http_head_has_token(&head, "Upgrade", "WebSocket"));
    ck_assert(http_head_has_token(&head, "Sec-WebSocket-Protocol", "mqttv3.1"));
    ck_assert(http_head_has_token(&head, "Sec-WebSocket-Protocol", "other")); /* the second line */
    ck_assert(!http_head_has_token(&head, "Sec-WebSocket-Protocol", "mqttv5"));
    ck_assert(!http_head_has_token(&head, "X-Empty", "x"));
    ck_assert(!http_head_has_token(&head, "Absent", "x"));
    const char *odd = "GET / HTTP/1.0\r\nA: , ,b,\tc d ,,\r\n\r\n";
    ck_assert(decode(odd, strlen(odd)) == HTTP_OK);
    ck_assert(http_head_has_token(&head, "a", "b") && http_head_has_token(&head, "a", "C D"));
    ck_assert(!http_head_has_token(&head, "a", "c"));
}
END_TEST

START_TEST(cut_heads_need_more)
{
    for (size_t n = 0; n < sizeof upgrade - 1; n++)
        ck_assert_msg(decode(upgrade, n) == HTTP_MORE, "cut at %zu: %s", n, why);
}
END_TEST

START_TEST(good_heads)
{
    static const struct {
        const char *text, *target;
        unsigned minor, fields;
    } rows[] = {
        {"GET / HTTP/1.0\r\n\r\n", "/", 0, 0},
        {"\r\nGET / HTTP/1.0\r\n\r\n", "/", 0, 0}, /* one empty line first */
        {"GET / HTTP/1.1\r\nHost:\r\n\r\n", "/", 1, 1},
        {"GET / HTTP/1.9\r\nHost: a\r\n\r\n", "/", 1, 1},
        {"OPTIONS * HTTP/1.1\r\nhOST: a\r\n\r\n", "*", 1, 1},
        {"CONNECT a:1 HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "a:1", 1, 1},
        {"M-SEARCH http://a/b HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~: \t v w \t\r\n\r\n", "http://a/b", 1, 2},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ck_assert_msg(decode(rows[i].text, strlen(rows[i].text)) == HTTP_OK, "%s: %s", rows[i].text, why);
        ck_assert_uint_eq(used, strlen(rows[i].text));
        ck_assert(is(head.target, rows[i].target));
        ck_assert_uint_eq(head.minor, rows[i].minor);
        ck_assert_uint_eq(head.fields, rows[i].fields);
    }
    ck_assert(is(head.field[1].value, "v w"));
}
END_TEST

#define GET "GET / HTTP/1.1\r\nHost: a\r\n"

START_TEST(bad_heads)
{
    static const struct {
        const char *text;
        unsigned status;
        const char *why;
    } rows[] = {
        {"GET / HTTP/2.0\r\n", 505, "version"},
        {"GET / HTTP/0.9\r\n", 505, "version"},
        {"GET / HTTP/1.\r\n", 400, "HTTP version"},
        {"GET / HTTP/1.10\r\n", 400, "HTTP version"},
        {"GET / HTTP/11\r\n", 400, "HTTP version"},
        {"GET / http/1.1\r\n", 400, "HTTP version"},
        {"GET / HTTP/1.1 \r\n", 400, "HTTP version"},
        {"GET /\r\n", 400, "HTTP version"},
        {"GET  / HTTP/1.1\r\n", 400, "no target"},
        {"GET\r\n", 400, "no target"},
        {"GET /a b HTTP/1.1\r\n", 400, "HTTP version"},
        {"GET /\xC3\xA9 HTTP/1.1\r\n", 400, "percent-encoded"},
        {"GET /\t HTTP/1.1\r\n", 400, "percent-encoded"},
        {"G(T / HTTP/1.1\r\n", 400, "method"},
        {" GET / HTTP/1.1\r\n", 400, "method"},
        {"\r\n\r\n", 400, "method"},
        {"\x16\x03\x01\x02", 400, "control character"}, /* a TLS handshake on a plain port */
        {"GET / HTTP/1.1\n", 400, "CR LF"},
        {"GET / HTTP/1.1\r\r\n", 400, "CR without LF"},
        {"GET /\rx", 400, "CR without LF"},
        {"GET /\x7F", 400, "control character"},
        {GET " folded\r\n", 400, "folding"},
        {GET "A: b\r\n\tfolded\r\n", 400, "folding"},
        {GET "A : b\r\n", 400, "field name"},
        {GET ": b\r\n", 400, "field name"},
        {GET "A\r\n", 400, "without a colon"},
        {GET "A{: b\r\n", 400, "field name"},
        {GET "A: b\n\r\n", 400, "CR LF"},
        {GET "A: b\x01", 400, "control character"},
        {GET "Host: a\r\n\r\n", 400, "more than one Host"},
        {"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400, "more than one Host"},
        {"GET / HTTP/1.1\r\n\r\n", 400, "without Host"},
        {"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, "no host has"},
        {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "no host has"},
        {"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", 400, "no host has"},
        {"GET / HTTP/1.1\r\nHost: \xC3\xA9\r\n\r\n", 400, "no host has"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ck_assert_msg(decode(rows[i].text, strlen(rows[i].text)) == HTTP_BAD, "row %zu: %s", i, rows[i].text);
        ck_assert_msg(status == rows[i].status, "%s: %u", rows[i].text, status);
        ck_assert_msg(strstr(why, rows[i].why) != NULL, "%s: %s", rows[i].text, why);
    }
    ck_assert(decode("GET / HTTP/1.0\0\r\n\r\n", 18) == HTTP_BAD);
    ck_assert(decode("GET / HTTP/1.0\r\nA: \0\r\n\r\n", 24) == HTTP_BAD);
}
END_TEST

/* A field with a value of n bytes, after a request line: a head of `total` bytes. */
static char *head_of(size_t total)
{
    static const char before[] = "GET / HTTP/1.0\r\nA:", after[] = "\r\n\r\n";
    char *s = malloc(total);

    memset(s, 'v', total);
    memcpy(s, before, sizeof before - 1);
    memcpy(s + total - 4, after, 4);
    return s;
}

START_TEST(largest_head)
{
    char *s = head_of(HTTP_HEAD_MAX);

    ck_assert(decode(s, HTTP_HEAD_MAX) == HTTP_OK);
    ck_assert_uint_eq(used, HTTP_HEAD_MAX);
    ck_assert(decode(s, HTTP_HEAD_MAX - 1) == HTTP_MORE);
    free(s);
    s = head_of(HTTP_HEAD_MAX + 1);
    ck_assert(decode(s, HTTP_HEAD_MAX + 1) == HTTP_BAD); /* the same verdict however it is cut */
    ck_assert_uint_eq(status, 431);
    ck_assert(decode(s, HTTP_HEAD_MAX) == HTTP_BAD);
    ck_assert_uint_eq(status, 431);
    memset(s, 'x', HTTP_HEAD_MAX + 1);
    memcpy(s, "GET /", 5);
    ck_assert(decode(s, HTTP_HEAD_MAX - 1) == HTTP_MORE);
    ck_assert(decode(s, HTTP_HEAD_MAX) == HTTP_BAD);
    ck_assert_uint_eq(status, 414);
    free(s);
}
END_TEST

START_TEST(most_fields)
{
    char s[2048] = "GET / HTTP/1.0\r\n";

    for (unsigned i = 0; i < HTTP_HEAD_MAX_FIELDS; i++)
        strcat(s, "A: b\r\n");
    size_t len = strlen(s);
    strcat(s, "\r\n");
    ck_assert(decode(s, strlen(s)) == HTTP_OK);
    ck_assert_uint_eq(head.fields, HTTP_HEAD_MAX_FIELDS);
    strcpy(s + len, "A: b\r\n\r\n");
    ck_assert(decode(s, strlen(s)) == HTTP_BAD);
    ck_assert_uint_eq(status, 431);
}
END_TEST

/* Each byte with each value: any verdict will do as long as it is a sane one. */
START_TEST(changed_bytes_do_no_harm)
{
    char s[sizeof upgrade];

    memcpy(s, upgrade, sizeof s);
    for (size_t at = 0; at < sizeof s - 1; at++) {
        for (unsigned v = 0; v < 256; v++) {
            s[at] = (char)v;
            enum http_result r = decode(s, sizeof s - 1);
            ck_assert(r != HTTP_OK || used <= sizeof s - 1);
            ck_assert(r != HTTP_BAD || (status >= 400 && why));
        }
        s[at] = upgrade[at];
    }
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, websocket_upgrade);
    tcase_add_test(tc, tokens_in_lists);
    tcase_add_test(tc, cut_heads_need_more);
    tcase_add_test(tc, good_heads);
    tcase_add_test(tc, bad_heads);
    tcase_add_test(tc, largest_head);
    tcase_add_test(tc, most_fields);
    tcase_add_test(tc, changed_bytes_do_no_harm);
}

UNIT_MAIN("http_head")
