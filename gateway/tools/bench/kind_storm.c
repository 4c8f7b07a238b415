/*
 * storm: many clients lose their connection at the same moment and come back, all at once or spread by a
 * jitter, and subscribe again. Meanwhile the others send heartbeats, which must be answered as if nothing
 * were.
 *
 * A client process that does thousands of TLS handshakes reads its PINGRESPs late, which is no fault of the
 * server's. With `apart` those that stay have a process of their own, to which the others give way, and their
 * latency is told twice: before the storm, and from its start until all are back.
 */
#include <math.h>
#include <stdio.h>

#include "gateway/tools/bench/interrupt.h"
#include "gateway/tools/bench/netstat.h"
#include "gateway/tools/bench/run.h"
#include "gateway/tools/bench/wire.h"

/* Waits until as many as before are connected. Returns the milliseconds that took, -1 when it did not happen.
 */
static double wait_all_back(struct run *r, uint64_t wanted, uint64_t start_ns)
{
    struct fleet_counters n;
    uint64_t limit_ms = (uint64_t)r->scenario->deadline_ms + (uint64_t)r->scenario->jitter_ms + wanted;
    do {
        fleet_counters(r->fleet, &n);
        if (n.connected >= wanted)
            return (double)(wire_now_ns() - start_ns) / 1e6;
    } while ((wire_now_ns() - start_ns) / 1000000 < limit_ms && sleep_ms(5));
    return -1;
}

/* Whose heartbeats are measured. */
static uint32_t watched(const struct run *r) { return r->scenario->apart ? FLEET_NOT_MOVERS : FLEET_ALL; }

static void put_heartbeats(struct run *r)
{
    struct fleet_counters n;
    fleet_counters(r->fleet, &n);
    result_put(r->result, "heartbeat.sent", "heartbeats of the others meanwhile", "", 0,
               (double)n.heartbeats);
    result_put(r->result, "heartbeat.answered", "answered", "", 0, (double)n.answers);
    run_put_latency(r, "heartbeat", &n.answer_latency);
}

/* A round of heartbeats while nothing happens. */
static bool calm(struct run *r)
{
    struct fleet_counters n;
    run_step(r, "heartbeats before the storm");
    run_reset_counts(r);
    if (!sleep_ms((uint64_t)r->scenario->keepalive_s * 750))
        return false;
    fleet_counters(r->fleet, &n);
    run_put_latency(r, "calm.heartbeat", &n.answer_latency);
    return true;
}

/* The storm itself. */
static bool storm(struct run *r)
{
    const struct scenario *s = r->scenario;
    struct fleet_counters before, n;
    struct fleet_command cut = {.op = FLEET_RESET_PEER, .who = FLEET_MOVERS, .window = FLEET_PER_PROCESS};
    struct fleet_command back = {.op = FLEET_CONNECT,
                                 .who = FLEET_MOVERS,
                                 .window = FLEET_PER_PROCESS,
                                 .value = 1,
                                 .over_us = (uint64_t)s->jitter_ms * 1000};
    struct fleet_answer a;
    fleet_counters(r->fleet, &before);
    run_step(r, "everybody loses the connection");
    run_reset_counts(r);
    if (!fleet_run(r->fleet, cut, 60000, NULL) || !sleep_ms(200))
        return false;
    double cpu = run_server_cpu_us(r), overflows = netstat_counter("ListenOverflows");
    uint64_t start = wire_now_ns();
    run_step(r, "everybody comes back");
    fleet_run(r->fleet, back, run_job_deadline(r) + (uint64_t)s->jitter_ms, &a);
    double ms = wait_all_back(r, before.connected, start);
    if (s->apart)
        put_heartbeats(r);
    sleep_ms(100);
    cpu = run_server_cpu_us(r) - cpu;
    fleet_counters(r->fleet, &n);
    result_put(r->result, "storm.back", "clients that got in at the first attempt", "", 0, (double)a.done);
    if (ms >= 0)
        result_put(r->result, "storm.time", "until all were back", "ms", 0, ms);
    result_put(r->result, "storm.overflows", "connections that the full accept queue put off", "", 0,
               netstat_counter("ListenOverflows") - overflows);
    run_put_latency(r, "storm.connect", &n.connect_latency);
    if (!isnan(cpu))
        result_put(r->result, "storm.cpu", "CPU per client that came back, everything included", "us",
                   RESULT_RATIO, cpu / (double)(n.connect_latency.count ? n.connect_latency.count : 1));
    return !interrupted();
}

bool kind_storm(struct run *r)
{
    const struct scenario *s = r->scenario;
    struct fleet_command keepalive = {.op = FLEET_KEEPALIVE, .who = watched(r), .value = 1};
    struct memory_reading before, after;
    struct broadcast_figures b;
    if (!run_open(r, false) || !run_open_publisher(r) || !fleet_run(r->fleet, keepalive, 60000, NULL))
        return false;
    sleep_ms((uint64_t)s->settle_ms);
    memory_read(r, &before);
    if ((s->apart && !calm(r)) || !storm(r))
        return false;
    sleep_ms((uint64_t)s->settle_ms);
    memory_read(r, &after);
    if (!s->apart)
        put_heartbeats(r);
    if (r->target->tree)
        result_put(r->result, "storm.user", "user space per connection more than before", "bytes", 0,
                   memory_user_growth(r, &before, &after));
    run_reset_counts(r);
    if (!run_broadcasts(r, 1, s->payload, &b, NULL, NULL))
        return false;
    result_put(r->result, "storm.wanted", "deliveries of a broadcast afterwards, wanted", "", 0,
               (double)b.wanted);
    result_put(r->result, "storm.received", "received", "", 0, (double)b.received);
    run_put_health(r, (uint64_t)s->connections);
    return true;
}
