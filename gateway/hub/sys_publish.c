/*
 * Publishes what $SYS topics say, every mqtt { sys_interval } and when a worker has come, which holds none
 * yet. As messages of QoS 0 that are kept nowhere; they bear the retain flag, since that is what they are to
 * a client that subscribes. They are not counted as published.
 */
#include <string.h>

#include "gateway/base/clock.h"
#include "gateway/base/message.h"
#include "gateway/hub/hub_internal.h"
#include "gateway/hub/hub_shares.h"
#include "gateway/hub/hub_sys.h"

static void publish_cb(void *ctx, const char *topic, const char *text)
{
    struct hub *h = ctx;
    struct message_parts m = {.topic = topic,
                              .topic_len = (uint16_t)strlen(topic),
                              .payload = text,
                              .payload_len = (uint32_t)strlen(text),
                              .retain = true,
                              .seq = h->engine_ops->next_seq(h->engine)};
    struct ipc_message deliver = hub_feed_deliver(&m);
    for (unsigned i = 0; i < h->args->workers; i++)
        if (h->worker[i].channel)
            (void)!hub_send(h, (uint16_t)i, &deliver);
    hub_shares_publish(h->shares, &m);
}

void hub_sys_tick(struct hub *h)
{
    uint64_t figure[SYS_FIGURES], interval_ms = h->args->config->sys_interval_s * UINT64_C(1000);
    struct engine_stats stats;
    if (!interval_ms || clock_ms() < h->sys_next_ms || !h->attached)
        return;
    h->sys_next_ms = clock_ms() + interval_ms;
    counters_publish();
    h->engine_ops->stats(h->engine, &stats);
    hub_sys_gather(h->args, &stats, hub_shares_stored(h->shares), figure);
    hub_sys_tell(h->sys, figure, clock_ms(), publish_cb, h);
}

void hub_sys_soon(struct hub *h) { h->sys_next_ms = 0; }
