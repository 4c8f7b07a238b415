/*
 * The gateway's own topics, "$SYS/broker/...": figures under the names that monitoring tools know from
 * mosquitto (doc/mqtt.md has them all). Every mqtt { sys_interval } each of them is published to whoever has
 * subscribed; workers hold the newest ones for those who subscribe later (gateway/session/sys_topics.c).
 */
#ifndef HOLDFAST_HUB_SYS_H
#define HOLDFAST_HUB_SYS_H

#include <stdint.h>

#include "gateway/base/process.h"
#include "gateway/engine/engine_store.h"

/* What is told, over all processes. Counters count from the start of the gateway. */
enum sys_figure {
    SYS_UPTIME, /* seconds */
    SYS_CONNECTED,
    SYS_DISCONNECTED,
    SYS_TOTAL,
    SYS_MAXIMUM, /* filled in by hub_sys_tell(), as the next two */
    SYS_HEAP_MAXIMUM,
    SYS_HEAP, /* bytes of the processes' own memory */
    SYS_EXPIRED,
    SYS_SUBSCRIPTIONS,
    SYS_SHARED,
    SYS_RETAINED,
    SYS_STORED,
    SYS_STORED_BYTES,
    SYS_INFLIGHT,
    SYS_PACKETS_IN,
    SYS_PACKETS_OUT,
    SYS_PUBLISHES_IN,
    SYS_PUBLISHES_OUT,
    SYS_PUBLISHES_DROPPED,
    SYS_PUBLISH_BYTES_IN,
    SYS_PUBLISH_BYTES_OUT,
    SYS_BYTES_IN,
    SYS_BYTES_OUT,
    SYS_SOCKETS,     /* accepted so far */
    SYS_CONNECTIONS, /* CONNECTs accepted so far */
    SYS_FIGURES
};

/* Reads the counters of all processes. share_groups: stored sessions that are no client's. */
void hub_sys_gather(const struct process_args *args, const struct engine_stats *stats, uint64_t share_groups,
                    uint64_t figure[SYS_FIGURES]);

struct hub_sys;
struct hub_sys *hub_sys_new(void);
void hub_sys_free(struct hub_sys *s);

/* Calls fn with each topic and its value as text; averages count what came since the last call. */
typedef void hub_sys_fn(void *ctx, const char *topic, const char *text);
void hub_sys_tell(struct hub_sys *s, uint64_t figure[SYS_FIGURES], uint64_t now_ms, hub_sys_fn *fn,
                  void *ctx);

#endif
