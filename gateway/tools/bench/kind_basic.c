/*
 * The kinds that measure one thing each on a server that is left in peace otherwise: connect, broadcast,
 * heartbeat.
 */
#include <math.h>
#include <stdio.h>

#include "gateway/tools/bench/interrupt.h"
#include "gateway/tools/bench/run.h"

bool kind_connect(struct run *r)
{
    if (!run_open(r, true))
        return false;
    run_put_health(r, (uint64_t)r->scenario->connections);
    return true;
}

/* The broadcasts of one size with their figures. */
static bool broadcast_size(struct run *r, long payload)
{
    struct broadcast_figures f;
    struct fleet_counters n;
    char key[64], label[96];
    if (!run_broadcasts(r, r->scenario->warmup, payload, &f, NULL, NULL))
        return false;
    run_reset_counts(r);
    bool ok = run_broadcasts(r, r->scenario->broadcasts, payload, &f, NULL, NULL);
    fleet_counters(r->fleet, &n);
    snprintf(key, sizeof key, "broadcast.%ld.wanted", payload);
    result_put(r->result, key, "deliveries wanted", "", 0, (double)f.wanted);
    snprintf(key, sizeof key, "broadcast.%ld.received", payload);
    result_put(r->result, key, "deliveries received", "", 0, (double)f.received);
    snprintf(key, sizeof key, "broadcast.%ld.cpu", payload);
    snprintf(label, sizeof label, "CPU per delivery of %ld bytes", payload);
    if (!isnan(f.cpu_us))
        result_put(r->result, key, label, "us", RESULT_RATIO, f.cpu_us);
    snprintf(key, sizeof key, "broadcast.%ld.cpu.bench", payload);
    result_put(r->result, key, "  (the bench's own)", "us", 0, f.bench_cpu_us);
    snprintf(key, sizeof key, "broadcast.%ld", payload);
    run_put_latency(r, key, &n.latency);
    return ok;
}

bool kind_broadcast(struct run *r)
{
    const struct scenario *s = r->scenario;
    if (!run_open(r, false) || !run_open_publisher(r) || !broadcast_size(r, s->payload))
        return false;
    if (s->payload_2 && !broadcast_size(r, s->payload_2))
        return false;
    run_put_health(r, (uint64_t)s->connections);
    return true;
}

bool kind_heartbeat(struct run *r)
{
    struct heartbeat_figures f;
    struct fleet_counters n;
    if (!run_open(r, false) || !run_heartbeats(r, r->scenario->heartbeat_rounds, &f))
        return false;
    fleet_counters(r->fleet, &n);
    result_put(r->result, "heartbeat.wanted", "heartbeats sent", "", 0, (double)f.wanted);
    result_put(r->result, "heartbeat.answered", "heartbeats answered", "", 0, (double)f.answered);
    result_put(r->result, "heartbeat.rate", "heartbeats per second", "/s", 0, f.rate);
    if (!isnan(f.cpu_us))
        result_put(r->result, "heartbeat.cpu", "CPU per heartbeat", "us", RESULT_RATIO, f.cpu_us);
    result_put(r->result, "heartbeat.cpu.bench", "  (the bench's own)", "us", 0, f.bench_cpu_us);
    run_put_latency(r, "heartbeat", &n.answer_latency);
    run_put_health(r, (uint64_t)r->scenario->connections);
    return true;
}
