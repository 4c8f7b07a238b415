/*
 * idle: what holding connections costs. Read three times: when all are connected and subscribed to one topic;
 * after broadcasts and a round of heartbeats, which must leave nothing behind; with one exact topic more of
 * its own for each client.
 */
#include <math.h>
#include <stdio.h>

#include "gateway/tools/bench/interrupt.h"
#include "gateway/tools/bench/run.h"

/* Waits and reads. */
static bool settled_reading(struct run *r, struct memory_reading *m)
{
    run_step(r, "letting memory settle");
    if (!sleep_ms((uint64_t)r->scenario->settle_ms))
        return false;
    memory_read(r, m);
    return true;
}

/* The traffic that must leave nothing behind. */
static bool some_traffic(struct run *r)
{
    const struct scenario *s = r->scenario;
    struct broadcast_figures b = {0};
    struct heartbeat_figures h = {0};
    struct fleet_counters n;
    run_reset_counts(r);
    if (!run_open_publisher(r) || !run_broadcasts(r, s->broadcasts, s->payload, &b, NULL, NULL) ||
        !run_heartbeats(r, s->heartbeat_rounds, &h))
        return false;
    result_put(r->result, "idle.wanted", "deliveries wanted", "", 0, (double)b.wanted);
    result_put(r->result, "idle.received", "deliveries received", "", 0, (double)b.received);
    result_put(r->result, "idle.missing", "deliveries missing", "", RESULT_QUIET,
               (double)b.wanted - (double)b.received);
    fleet_counters(r->fleet, &n);
    run_put_latency(r, "idle.broadcast", &n.latency);
    result_put(r->result, "idle.unanswered", "heartbeats not answered", "", RESULT_QUIET,
               (double)h.wanted - (double)h.answered);
    result_put(r->result, "idle.answered", "heartbeats answered", "", 0, (double)h.answered);
    return true;
}

/* One more exact topic for each client; what it adds to user space. */
static bool own_topics(struct run *r, const struct memory_reading *before)
{
    struct memory_reading after;
    struct fleet_answer a;
    struct fleet_command c = {
        .op = FLEET_SUBSCRIBE, .value = FLEET_TOPIC_OWN, .window = (uint32_t)r->scenario->window};
    run_step(r, "one topic of its own for each");
    bool ok = fleet_run(r->fleet, c,
                        (uint64_t)r->scenario->deadline_ms + (uint64_t)r->scenario->connections * 2, &a);
    if (!ok || !settled_reading(r, &after))
        return false;
    double growth = memory_user_growth(r, before, &after);
    if (!isnan(growth))
        result_put(r->result, "own_topic.user", "user space more, with one exact topic of its own", "bytes",
                   0, growth);
    result_put(r->result, "own_topic.subscribed", "subscriptions to it", "", 0, (double)a.done);
    return true;
}

bool kind_idle(struct run *r)
{
    struct memory_reading idle, later;
    if (!run_open(r, false) || !settled_reading(r, &idle))
        return false;
    if (r->target->tree)
        result_put(r->result, "server.processes", "processes of the server", "", 0,
                   (double)idle.server.processes);
    memory_put(r, "idle", "idle", &idle);
    if (!some_traffic(r) || !settled_reading(r, &later))
        return false;
    memory_put(r, "later", "after traffic", &later);
    if (r->scenario->own_topics && !own_topics(r, &later))
        return false;
    run_put_health(r, (uint64_t)r->scenario->connections);
    return true;
}
