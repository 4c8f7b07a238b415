/*
 * Fuzz target: any bytes as the head of an HTTP request. All that is pointed to must lie in the head, and a
 * verdict must not depend on how many bytes came before it or come behind it.
 */
#include <stdlib.h>
#include <string.h>

#include "proto/http_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the program with a trace when something does not hold. */
static void must(bool holds)
{
    if (!holds)
        abort();
}

/* Whether the text lies in the first `used` bytes and is free of line ends. */
static bool inside(struct http_text t, const char *buf, size_t used)
{
    return t.data >= buf && t.data + t.len <= buf + used && !memchr(t.data, '\n', t.len) &&
           !memchr(t.data, '\r', t.len);
}

static void check_good(const struct http_head *h, const char *buf, size_t used)
{
    must(h->minor <= 1 && h->fields <= HTTP_HEAD_MAX_FIELDS && used <= HTTP_HEAD_MAX);
    must(memcmp(buf + used - 4, "\r\n\r\n", 4) == 0);
    must(h->method.len && h->target.len && inside(h->method, buf, used) && inside(h->target, buf, used));
    for (unsigned i = 0; i < h->fields; i++)
        must(h->field[i].name.len && inside(h->field[i].name, buf, used) &&
             inside(h->field[i].value, buf, used));
    must(h->minor == 0 || http_head_find(h, "host"));
    http_head_has_token(h, "connection", "upgrade");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *buf = (const char *)data, *why = NULL, *why_part = NULL;
    struct http_head h;
    size_t used = 0, part_used = 0;
    unsigned status = 0, part_status = 0;
    enum http_result r = http_head_decode(buf, size, &h, &used, &status, &why);

    if (r == HTTP_OK)
        check_good(&h, buf, used);
    if (r == HTTP_BAD)
        must(why && (status == 400 || status == 414 || status == 431 || status == 505));
    for (size_t part = size < 512 ? 0 : size - 16; part < size; part++) {
        enum http_result p = http_head_decode(buf, part, &h, &part_used, &part_status, &why_part);
        must(p == HTTP_MORE || p == r); /* nothing that is said is taken back */
        must(p != HTTP_BAD || (part_status == status && why_part == why));
        must(p != HTTP_OK || part_used == used);
    }
    return 0;
}
