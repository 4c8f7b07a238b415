/*
 * Shared subscriptions within the hub: makes them when the engine is open, hands them what the workers say,
 * and does for them what only the hub can (sending, committing). What they are is in hub_shares.h.
 */
#include "gateway/base/counters.h"
#include "gateway/hub/hub_internal.h"
#include "gateway/hub/hub_shares.h"

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
