/*
 * Shared subscriptions within the hub: makes them when the engine is open, hands them what the workers say,
 * and does for them what only the hub can (sending, committing). What they are is in hub_shares.h.
 */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/counters.h"
#include "gateway/base/xmalloc.h"
#include "gateway/hub/hub_internal.h"
#include "gateway/hub/hub_shares.h"
#include "proto/mqtt_topic.h"

static bool send_cb(void *ctx, uint16_t worker, const struct ipc_message *m)
{
    struct hub *h = ctx;
    return h->worker[worker].channel && ipc_channel_send(h->worker[worker].channel, m);
}

static void changed_cb(void *ctx) { hub_commit_soon(ctx); }

/* What was handed in is done; when the hub ends, the groups may have gone before. */
static void settled(struct hub *h, void *arg, enum engine_result result)
{
    (void)result;
    if (h->shares)
        hub_shares_settled(h->shares, (uint32_t)(uintptr_t)arg);
}

static void settle_later_cb(void *ctx, uint32_t group)
{
    hub_on_committed(ctx, settled, (void *)(uintptr_t)group);
}

void hub_shared_setup(struct hub *h)
{
    static const struct hub_shares_handler handler = {
        .send = send_cb, .changed = changed_cb, .settle_later = settle_later_cb};
    struct hub_shares_settings settings = {.ops = h->engine_ops,
                                           .engine = h->engine,
                                           .reader = h->reader,
                                           .workers = h->args->workers,
                                           .max_inflight = h->args->config->max_inflight,
                                           .cursor_interval_ms = h->args->config->log_cursor_interval_ms,
                                           .newest = h->newest};
    h->shares = hub_shares_new(h->base, &settings, &handler, h);
}

void hub_shared_free(struct hub *h)
{
    if (h->shares)
        hub_shares_free(h->shares);
    h->shares = NULL;
}

void hub_shared_publish(struct hub *h, const struct message_parts *m)
{
    if (h->shares)
        hub_shares_publish(h->shares, m);
}

void hub_shared_kept(struct hub *h, const struct message_parts *m)
{
    if (h->shares)
        hub_shares_kept(h->shares, m);
}

void hub_shared_gone(struct hub_worker *w, uint64_t claim, const struct ipc_bytes *id, uint32_t expiry_s)
{
    if (w->hub->shares)
        hub_shares_client_gone(w->hub->shares, w->number, claim, id->data, id->len, expiry_s);
}

/* A session's shared subscriptions, each with its terminating zero. */
struct shared_filters {
    char *text;
    size_t len;
};

/* Copies them: what is done with them reads again. */
static void copy_filters_cb(void *ctx, const struct engine_session_view *v)
{
    struct shared_filters *f = ctx;
    for (size_t i = 0; i < v->subscription_count; i++) {
        const struct engine_subscription *sub = &v->subscriptions[i];
        if (!mqtt_topic_share_filter(sub->filter, sub->len))
            continue;
        f->text = xrealloc(f->text, f->len + sub->len + 1);
        memcpy(f->text + f->len, sub->filter, sub->len);
        f->text[f->len + sub->len] = 0;
        f->len += sub->len + 1u;
    }
}

void hub_shared_session_removed(struct hub *h, const char *id, size_t len)
{
    struct shared_filters f = {0};
    if (!h->shares)
        return;
    h->engine_ops->session_get(h->reader, id, len, copy_filters_cb, &f);
    for (size_t at = 0; at < f.len; at += strlen(f.text + at) + 1)
        hub_shares_member_ended(h->shares, f.text + at, strlen(f.text + at), id, len);
    free(f.text);
}

void hub_shared_worker_lost(struct hub_worker *w)
{
    if (w->hub->shares)
        hub_shares_worker_lost(w->hub->shares, w->number);
}

void hub_shared_drained(struct hub_worker *w)
{
    if (w->hub->shares)
        hub_shares_drained(w->hub->shares, w->number);
}

void hub_shared_complete(struct hub *h)
{
    if (h->shares)
        hub_shares_complete(h->shares);
}

void hub_shared_join(struct hub_worker *w, const struct ipc_message *m)
{
    hub_shares_join(w->hub->shares, w->number, m);
}

void hub_shared_leave(struct hub_worker *w, const struct ipc_message *m)
{
    hub_shares_leave(w->hub->shares, w->number, m);
}

void hub_shared_done(struct hub_worker *w, const struct ipc_message *m)
{
    hub_shares_done(w->hub->shares, w->number, m);
}
