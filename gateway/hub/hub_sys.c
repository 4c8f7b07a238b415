/*
 * What $SYS topics say: figures of all processes, and how fast they grow. Fed by counters in shared memory
 * and by the engine's figures, drained by whoever publishes (sys_publish.c). By table: a topic is a row.
 *
 * A load is per minute, averaged over the last 1, 5 and 15 minutes the way mosquitto does it: what is older
 * counts less and less, by e for every 1, 5 and 15 minutes.
 */
#include "gateway/hub/hub_sys.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "gateway/base/clock.h"
#include "gateway/base/xmalloc.h"

#define PREFIX "$SYS/broker/"

/* ---- gathering ---- */

/* Which counters of the processes make up a figure. */
static const struct {
    enum sys_figure figure;
    enum counter counter;
} sums[] = {
    {SYS_CONNECTED, COUNTER_SESSIONS},
    {SYS_SUBSCRIPTIONS, COUNTER_SUBSCRIPTIONS},
    {SYS_SHARED, COUNTER_SHARE_MEMBERS},
    {SYS_INFLIGHT, COUNTER_INFLIGHT},
    {SYS_PACKETS_IN, COUNTER_PACKETS_IN},
    {SYS_PACKETS_OUT, COUNTER_PACKETS_OUT},
    {SYS_PACKETS_OUT, COUNTER_DELIVERIES},
    {SYS_PACKETS_OUT, COUNTER_HEARTBEATS},
    {SYS_PUBLISHES_IN, COUNTER_PUBLISHES_IN},
    {SYS_PUBLISHES_OUT, COUNTER_DELIVERIES},
    {SYS_PUBLISHES_DROPPED, COUNTER_PUBLISHES_DROPPED},
    {SYS_PUBLISHES_DROPPED, COUNTER_PUBLISHES_FORBIDDEN},
    {SYS_PUBLISHES_DROPPED, COUNTER_DELIVERIES_DROPPED},
    {SYS_PUBLISH_BYTES_IN, COUNTER_PUBLISH_BYTES_IN},
    {SYS_PUBLISH_BYTES_OUT, COUNTER_PUBLISH_BYTES_OUT},
    {SYS_BYTES_IN, COUNTER_BYTES_IN},
    {SYS_BYTES_OUT, COUNTER_BYTES_OUT},
    {SYS_SOCKETS, COUNTER_ACCEPTED},
    {SYS_CONNECTIONS, COUNTER_CONNECTED_V3},
    {SYS_CONNECTIONS, COUNTER_CONNECTED_V5},
};

/* The memory that a process does not share with others or with a file, in bytes; 0: it cannot be read. */
static uint64_t own_memory(uint64_t pid)
{
    char line[128];
    uint64_t kib = 0;
    snprintf(line, sizeof line, "/proc/%" PRIu64 "/status", pid);
    FILE *f = pid ? fopen(line, "re") : NULL;
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f) && sscanf(line, "RssAnon: %" SCNu64, &kib) != 1)
        ;
    fclose(f);
    return kib * 1024;
}

static uint64_t sum(const struct process_args *args, enum counter k)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < args->workers + 2; i++)
        if (args->counters[i].pid)
            n += counter_get(&args->counters[i], k);
    return n;
}

/* a - b, but not below 0: they are read at different times. */
static uint64_t less(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

void hub_sys_gather(const struct process_args *args, const struct engine_stats *stats, uint64_t share_groups,
                    uint64_t figure[SYS_FIGURES])
{
    const struct counters *supervisor = &args->counters[args->workers + 1];
    memset(figure, 0, SYS_FIGURES * sizeof figure[0]);
    for (size_t i = 0; i < sizeof sums / sizeof sums[0]; i++)
        figure[sums[i].figure] += sum(args, sums[i].counter);
    for (unsigned i = 0; i < args->workers + 2; i++)
        figure[SYS_HEAP] += own_memory(args->counters[i].pid);
    if (supervisor->started_ms)
        figure[SYS_UPTIME] = less(clock_wall_ms(), supervisor->started_ms) / 1000;
    figure[SYS_DISCONNECTED] = less(stats->sessions, share_groups + sum(args, COUNTER_SESSIONS_STORED));
    figure[SYS_TOTAL] = figure[SYS_CONNECTED] + figure[SYS_DISCONNECTED];
    figure[SYS_EXPIRED] = stats->sessions_expired;
    figure[SYS_RETAINED] = stats->retained;
    figure[SYS_STORED] = stats->messages + stats->retained;
    figure[SYS_STORED_BYTES] = stats->log_bytes;
}

/* ---- telling ---- */

/* Topics that are one figure. Some have an older name as well. */
static const struct {
    const char *topic;
    enum sys_figure figure;
} topics[] = {
    {PREFIX "clients/total", SYS_TOTAL},
    {PREFIX "clients/connected", SYS_CONNECTED},
    {PREFIX "clients/active", SYS_CONNECTED},
    {PREFIX "clients/disconnected", SYS_DISCONNECTED},
    {PREFIX "clients/inactive", SYS_DISCONNECTED},
    {PREFIX "clients/maximum", SYS_MAXIMUM},
    {PREFIX "clients/expired", SYS_EXPIRED},
    {PREFIX "subscriptions/count", SYS_SUBSCRIPTIONS},
    {PREFIX "shared_subscriptions/count", SYS_SHARED},
    {PREFIX "retained messages/count", SYS_RETAINED},
    {PREFIX "messages/stored", SYS_STORED},
    {PREFIX "store/messages/count", SYS_STORED},
    {PREFIX "store/messages/bytes", SYS_STORED_BYTES},
    {PREFIX "messages/inflight", SYS_INFLIGHT},
    {PREFIX "messages/received", SYS_PACKETS_IN},
    {PREFIX "messages/sent", SYS_PACKETS_OUT},
    {PREFIX "publish/messages/received", SYS_PUBLISHES_IN},
    {PREFIX "publish/messages/sent", SYS_PUBLISHES_OUT},
    {PREFIX "publish/messages/dropped", SYS_PUBLISHES_DROPPED},
    {PREFIX "publish/bytes/received", SYS_PUBLISH_BYTES_IN},
    {PREFIX "publish/bytes/sent", SYS_PUBLISH_BYTES_OUT},
    {PREFIX "bytes/received", SYS_BYTES_IN},
    {PREFIX "bytes/sent", SYS_BYTES_OUT},
    {PREFIX "heap/current", SYS_HEAP},
    {PREFIX "heap/maximum", SYS_HEAP_MAXIMUM},
};

/* Topics that say how fast a figure grows. */
static const struct {
    const char *topic;
    enum sys_figure figure;
} loads[] = {
    {PREFIX "load/messages/received", SYS_PACKETS_IN},
    {PREFIX "load/messages/sent", SYS_PACKETS_OUT},
    {PREFIX "load/publish/received", SYS_PUBLISHES_IN},
    {PREFIX "load/publish/sent", SYS_PUBLISHES_OUT},
    {PREFIX "load/publish/dropped", SYS_PUBLISHES_DROPPED},
    {PREFIX "load/bytes/received", SYS_BYTES_IN},
    {PREFIX "load/bytes/sent", SYS_BYTES_OUT},
    {PREFIX "load/sockets", SYS_SOCKETS},
    {PREFIX "load/connections", SYS_CONNECTIONS},
};
#define LOADS (sizeof loads / sizeof loads[0])

static const double spans[] = {1, 5, 15}; /* minutes */
#define SPANS (sizeof spans / sizeof spans[0])

struct hub_sys {
    uint64_t told_ms; /* 0: never */
    uint64_t maximum, heap_maximum;
    uint64_t last[LOADS];
    double load[LOADS][SPANS]; /* per minute */
};

struct hub_sys *hub_sys_new(void) { return xcalloc(1, sizeof(struct hub_sys)); }

void hub_sys_free(struct hub_sys *s) { free(s); }

/* Takes in what came in the time since the last call. A counter that has gone back begins anew. */
static void average(struct hub_sys *s, const uint64_t figure[SYS_FIGURES], uint64_t now_ms)
{
    double minutes = (double)less(now_ms, s->told_ms) / 60000;
    bool first = s->told_ms == 0;
    if (!first && minutes <= 0)
        return;
    for (size_t i = 0; i < LOADS; i++) {
        double rate = first ? 0 : (double)less(figure[loads[i].figure], s->last[i]) / minutes;
        for (size_t k = 0; k < SPANS && !first; k++)
            s->load[i][k] = rate + exp(-minutes / spans[k]) * (s->load[i][k] - rate);
        s->last[i] = figure[loads[i].figure];
    }
    s->told_ms = now_ms;
}

static void tell_loads(const struct hub_sys *s, hub_sys_fn *fn, void *ctx)
{
    char topic[64], text[64];
    for (size_t i = 0; i < LOADS; i++)
        for (size_t k = 0; k < SPANS; k++) {
            snprintf(topic, sizeof topic, "%s/%.0fmin", loads[i].topic, spans[k]);
            snprintf(text, sizeof text, "%.2f", s->load[i][k]);
            fn(ctx, topic, text);
        }
}

void hub_sys_tell(struct hub_sys *s, uint64_t figure[SYS_FIGURES], uint64_t now_ms, hub_sys_fn *fn, void *ctx)
{
    char text[32];
    if (figure[SYS_CONNECTED] > s->maximum)
        s->maximum = figure[SYS_CONNECTED];
    if (figure[SYS_HEAP] > s->heap_maximum)
        s->heap_maximum = figure[SYS_HEAP];
    figure[SYS_MAXIMUM] = s->maximum;
    figure[SYS_HEAP_MAXIMUM] = s->heap_maximum;
    average(s, figure, now_ms);
    fn(ctx, PREFIX "version", PACKAGE_NAME " version " PACKAGE_VERSION);
    snprintf(text, sizeof text, "%" PRIu64 " seconds", figure[SYS_UPTIME]);
    fn(ctx, PREFIX "uptime", text);
    for (size_t i = 0; i < sizeof topics / sizeof topics[0]; i++) {
        snprintf(text, sizeof text, "%" PRIu64, figure[topics[i].figure]);
        fn(ctx, topics[i].topic, text);
    }
    tell_loads(s, fn, ctx);
}
