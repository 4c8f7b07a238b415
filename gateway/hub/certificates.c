/*
 * A list that is replaced as a whole: the supervisor sends one message per certificate after each reload, and
 * to each new hub. They come in order over a channel that loses nothing; a number or a place that does not
 * fit means that a newer reload has begun, and what was gathered is forgotten. What the processes count is
 * not kept here (metrics.c).
 */
#include "gateway/hub/certificates.h"

#include <event2/buffer.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/utf8.h"
#include "gateway/base/xmalloc.h"
#include "gateway/ipc/ipc_message.h"
#include "gateway/net/tls_context.h"

struct entry {
    enum tls_dated_kind kind;
    int64_t expires; /* seconds since 1970 */
    char *tls, *subject, *file;
};

struct list {
    struct entry *entry; /* shown: sorted */
    unsigned count;
};

struct certificates {
    struct list shown, coming;
    uint64_t number; /* of the reload that is coming */
};

static void empty(struct list *l)
{
    for (unsigned i = 0; i < l->count; i++) {
        free(l->entry[i].tls);
        free(l->entry[i].subject);
        free(l->entry[i].file);
    }
    free(l->entry);
    *l = (struct list){0};
}

struct certificates *certificates_new(void) { return xcalloc(1, sizeof(struct certificates)); }

void certificates_free(struct certificates *c)
{
    if (!c)
        return;
    empty(&c->shown);
    empty(&c->coming);
    free(c);
}

/* A label's value as it may stand between quotes: backslash, quote and newline escaped, and UTF-8. */
static char *label(const struct ipc_bytes *b)
{
    const unsigned char *s = (const unsigned char *)b->data;
    char *out = xmalloc(2 * (size_t)b->len + 1), *to = out;
    for (size_t i = 0, n; i < b->len; i += n) {
        bool good = (n = utf8_char_len(s + i, b->len - i)) > 0 && s[i] != '\0';
        n = good ? n : 1;
        if (s[i] == '\\' || s[i] == '"' || s[i] == '\n')
            *to++ = '\\';
        memcpy(to, !good ? "?" : s[i] == '\n' ? "n" : (const char *)s + i, n);
        to += n;
    }
    *to = '\0';
    return out;
}

/* Compares what entries have for labels. */
static int compare_labels(const struct entry *a, const struct entry *b)
{
    int order = (a->kind > b->kind) - (a->kind < b->kind);
    order = order ? order : strcmp(a->tls, b->tls);
    order = order ? order : strcmp(a->file, b->file);
    return order ? order : strcmp(a->subject, b->subject);
}

/* For sorting: of those with the same labels the one that ends first comes first. */
static int compare_cb(const void *left, const void *right)
{
    const struct entry *a = left, *b = right;
    int order = compare_labels(a, b);
    return order ? order : (a->expires > b->expires) - (a->expires < b->expires);
}

/* Whether the sorted list has a sample with these labels already: a file may be named twice, and may hold two
 * certificates or CRLs of one name. */
static bool is_listed(const struct list *l, unsigned i)
{
    return i > 0 && compare_labels(&l->entry[i - 1], &l->entry[i]) == 0;
}

static void add(struct list *l, const struct ipc_message *m)
{
    l->entry = xrealloc(l->entry, (l->count + 1) * sizeof *l->entry);
    l->entry[l->count++] = (struct entry){.kind = (enum tls_dated_kind)m->field[7].num,
                                          .expires = (int64_t)m->field[3].num,
                                          .tls = label(&m->field[4].bytes),
                                          .subject = label(&m->field[5].bytes),
                                          .file = label(&m->field[6].bytes)};
}

void certificates_take(struct certificates *c, const struct ipc_message *m)
{
    uint64_t number = m->field[0].num, place = m->field[1].num, of = m->field[2].num;
    if (number != c->number || place != c->coming.count)
        empty(&c->coming);
    c->number = number;
    if (of > 0 && (place != c->coming.count || place >= of))
        return;
    if (of > 0)
        add(&c->coming, m);
    if (c->coming.count < of)
        return;
    if (of > 0)
        qsort(c->coming.entry, of, sizeof *c->coming.entry, compare_cb);
    empty(&c->shown);
    c->shown = c->coming;
    c->coming = (struct list){0};
}

/* Which of the two metrics an entry belongs to: what ends, or what is to be renewed. */
static bool is_update(const struct entry *e) { return e->kind == TLS_DATED_CRL || e->kind == TLS_DATED_OCSP; }

/* One metric, if there is anything to say in it. */
static void write_metric(const struct list *l, bool updates, const char *name, const char *help,
                         struct evbuffer *out)
{
    bool any = false;
    for (unsigned i = 0; i < l->count; i++) {
        const struct entry *e = &l->entry[i];
        if (is_update(e) != updates || e->expires == INT64_MAX || is_listed(l, i))
            continue;
        if (!any)
            evbuffer_add_printf(out, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name);
        any = true;
        evbuffer_add_printf(out, "%s{tls=\"%s\",kind=\"%s\",file=\"%s\",subject=\"%s\"} %lld\n", name, e->tls,
                            tls_dated_name(e->kind), e->file, e->subject, (long long)e->expires);
    }
}

void certificates_write(const struct certificates *c, struct evbuffer *out)
{
    write_metric(&c->shown, false, "holdfast_tls_certificate_expiry_timestamp_seconds",
                 "When a certificate in force expires, since the epoch", out);
    write_metric(&c->shown, true, "holdfast_tls_next_update_timestamp_seconds",
                 "When a CRL or an OCSP response in force is outdated, since the epoch", out);
}
