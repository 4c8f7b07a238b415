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

/* The broadcasts of one size and QoS. */
struct phase {
    long payload;
    uint8_t qos;
    bool absent; /* rows without values, so that all stand in their order */
    struct broadcast_figures f;
    double all_us; /* CPU of the server per delivery: everything of the phase, what comes after it too */
};

/* Puts one value; above QoS 0 that is in its key and label. */
static void put(struct run *r, const struct phase *x, const char *key_end, const char *label,
                const char *unit, unsigned flags, double value)
{
    char key[80], text[112], qos_key[8] = "", qos_label[16] = "";
    if (x->qos) {
        snprintf(qos_key, sizeof qos_key, ".qos%u", x->qos);
        snprintf(qos_label, sizeof qos_label, ", QoS %u", x->qos);
    }
    snprintf(key, sizeof key, "broadcast.%ld%s%s", x->payload, qos_key, key_end);
    snprintf(text, sizeof text, "%s%s", label, qos_label);
    result_put(r->result, key, text, unit, flags, x->absent ? NAN : value);
}

static void put_phase(struct run *r, const struct phase *x)
{
    struct fleet_counters n;
    char label[96], prefix[64];
    fleet_counters(r->fleet, &n);
    put(r, x, ".wanted", "deliveries wanted", "", 0, (double)x->f.wanted);
    put(r, x, ".received", "deliveries received", "", 0, (double)x->f.received);
    if (x->qos)
        put(r, x, ".acknowledged", "deliveries acknowledged", "", 0, (double)x->f.acknowledged);
    snprintf(label, sizeof label, "CPU per %sdelivery of %ld bytes", x->qos ? "acknowledged " : "",
             x->payload);
    if (!isnan(x->f.cpu_us))
        put(r, x, ".cpu", label, "us", x->qos ? 0 : RESULT_RATIO, x->f.cpu_us);
    if (r->scenario->qos)
        put(r, x, ".cpu.all", "  all until the server is at rest", "us", 0, x->all_us);
    put(r, x, ".cpu.bench", "  (the bench's own)", "us", 0, x->f.bench_cpu_us);
    snprintf(prefix, sizeof prefix, x->qos ? "broadcast.%ld.qos%u" : "broadcast.%ld", x->payload, x->qos);
    run_put_latency(r, prefix, x->absent ? NULL : &n.latency);
}

/* Warms up and measures. Where two phases are compared, what a server puts off is counted to the one that
 * caused it: it has settle_ms for it. */
static bool run_phase(struct run *r, struct phase *x)
{
    const struct scenario *s = r->scenario;
    publisher_set_qos(r->publisher, x->qos);
    x->all_us = NAN;
    if (!run_broadcasts(r, s->warmup, x->payload, &x->f, NULL, NULL))
        return false;
    if (s->qos && !sleep_ms((uint64_t)s->settle_ms))
        return false;
    run_reset_counts(r);
    double before = run_server_cpu_us(r);
    bool ok = run_broadcasts(r, s->broadcasts, x->payload, &x->f, NULL, NULL);
    if (ok && s->qos && sleep_ms((uint64_t)s->settle_ms)) {
        run_rest(r);
        x->all_us = (run_server_cpu_us(r) - before) / (double)(x->f.wanted ? x->f.wanted : 1);
    }
    put_phase(r, x);
    return ok;
}

/* With QoS 0 and, if the scenario has another one, with that, of the same clients. */
static bool broadcast_size(struct run *r, long payload)
{
    struct phase zero = {.payload = payload};
    struct phase more = {.payload = payload, .qos = (uint8_t)r->scenario->qos, .absent = !r->qos};
    if (!run_phase(r, &zero))
        return false;
    if (!more.qos)
        return true;
    if (more.absent) {
        put_phase(r, &more);
        result_note(r->result, "%s: QoS 0 only: it knows no acknowledgements", r->target->name);
    } else if (!run_phase(r, &more)) {
        return false;
    }
    put(r, &more, ".of_qos0", "  of a delivery with QoS 0", "x", 0, more.f.cpu_us / zero.f.cpu_us);
    put(r, &more, ".of_qos0.all", "  of all with QoS 0", "x", 0, more.all_us / zero.all_us);
    return true;
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
