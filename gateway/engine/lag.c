/*
 * A session's lag, by a scan from its cursor over what it has subscribed to. The hub counts a bounded part of
 * it for its API, the command `holdfast sessions` more, in a process of its own. Nothing is kept of it.
 */
#include "gateway/engine/lag.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/xmalloc.h"

#define SHARED "$share/"

/* Adds a filter, whose text is taken over. */
static void add(struct lag_filters *f, char *text, size_t len, uint64_t after)
{
    if (f->count == f->room) {
        f->room = f->room ? f->room * 2 : 8;
        f->item = xrealloc(f->item, f->room * sizeof f->item[0]);
    }
    f->item[f->count++] = (struct engine_filter){.text = text, .len = (uint16_t)len, .after = after};
}

static bool has_wildcard(const char *text, size_t len)
{
    return memchr(text, '+', len) || memchr(text, '#', len);
}

/* The client's own channel; a client id that would make it a filter with wildcards has none. */
static void add_own(struct lag_filters *f, const char *prefix, const char *id, size_t id_len)
{
    size_t prefix_len = strlen(prefix), len = prefix_len + id_len;
    if (!prefix_len || len > UINT16_MAX || has_wildcard(id, id_len))
        return;
    char *text = xmalloc(len + 1);
    memcpy(text, prefix, prefix_len);
    memcpy(text + prefix_len, id, id_len);
    add(f, text, len, 0);
}

void lag_filters_add(struct lag_filters *f, const struct engine_session_view *v, const struct config *c)
{
    if (c->implicit_qos && *c->broadcast_topic)
        add(f, xstrdup(c->broadcast_topic), strlen(c->broadcast_topic), 0);
    if (c->implicit_qos)
        add_own(f, c->clients_prefix, v->client_id, v->client_id_len);
    for (size_t i = 0; i < v->subscription_count; i++) {
        const struct engine_subscription *s = &v->subscriptions[i];
        bool shared = s->len >= strlen(SHARED) && memcmp(s->filter, SHARED, strlen(SHARED)) == 0;
        if ((s->options & OPTION_QOS || s->until > v->progress.cursor) && !shared)
            add(f, xstrndup(s->filter, s->len), s->len, s->since);
    }
}

void lag_filters_free(struct lag_filters *f)
{
    for (size_t i = 0; i < f->count; i++)
        free((char *)f->item[i].text);
    free(f->item);
    *f = (struct lag_filters){0};
}

static bool count_cb(void *ctx, const struct message_parts *m, uint64_t time_ms)
{
    struct lag *lag = ctx;
    (void)m;
    if (lag->messages++ == 0)
        lag->oldest_ms = time_ms;
    return true;
}

struct lag lag_count(const struct engine_ops *ops, struct engine_reader *r, const struct lag_filters *f,
                     uint64_t cursor, engine_match_fn match, unsigned most, unsigned steps)
{
    struct lag lag = {0};
    enum engine_scan_result got = ENGINE_SCAN_MORE;
    struct engine_scan *s = ops->scan_new(r, f->item, f->count, cursor, match);
    for (unsigned i = 0; i < steps && got == ENGINE_SCAN_MORE && lag.messages < most; i++)
        got = ops->scan_next(s, most - lag.messages, count_cb, &lag);
    ops->scan_free(s);
    lag.more = got == ENGINE_SCAN_MORE;
    return lag;
}
