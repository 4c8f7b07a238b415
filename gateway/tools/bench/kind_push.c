/*
 * push: a push service. Clients with different keepalives send their heartbeats; some leave and return all
 * the time, some read nothing, some fall silent without closing; messages go to one, to groups, to all. In
 * the end every client is asked whether it received exactly what it had to.
 */
#include <math.h>
#include <stdio.h>

#include "gateway/tools/bench/interrupt.h"
#include "gateway/tools/bench/run.h"
#include "gateway/tools/bench/traffic.h"
#include "gateway/tools/bench/wire.h"

/* Everything that goes on by itself begins. */
static bool begin(struct run *r)
{
    const struct scenario *s = r->scenario;
    struct fleet_command hold = {.op = FLEET_HOLD, .who = FLEET_SLOW};
    struct fleet_command silence = {.op = FLEET_SILENCE, .who = FLEET_SILENT};
    struct fleet_command keepalive = {.op = FLEET_KEEPALIVE, .value = 1};
    struct fleet_command churn = {
        .op = FLEET_CHURN, .value = (uint64_t)s->churn_rate, .over_us = (uint64_t)s->away_ms * 1000};
    run_reset_counts(r);
    return sleep_ns(FLEET_NOTICE_NS + 50000000u) && fleet_run(r->fleet, keepalive, 60000, NULL) &&
           (!s->slow || fleet_run(r->fleet, hold, 60000, NULL)) &&
           (!s->silent || fleet_run(r->fleet, silence, 60000, NULL)) &&
           (!s->churn_rate || fleet_run(r->fleet, churn, 60000, NULL));
}

/* Waits until those that left are back. */
static void everybody_back(struct run *r)
{
    struct fleet_counters n;
    fleet_run(r->fleet, (struct fleet_command){.op = FLEET_CHURN}, 60000, NULL);
    run_step(r, "waiting for those that left");
    for (long waited = 0; waited < r->scenario->away_ms + r->scenario->deadline_ms && sleep_ms(100);
         waited += 100) {
        fleet_counters(r->fleet, &n);
        if (waited > 2000 && n.left == n.returned)
            return;
    }
}

/* Waits until all deliveries are there. */
static void everything_there(struct run *r, uint64_t wanted)
{
    struct fleet_counters n;
    run_step(r, "waiting for the last deliveries");
    for (long waited = 0; waited < r->scenario->deadline_ms && sleep_ms(50); waited += 50) {
        fleet_counters(r->fleet, &n);
        if (n.deliveries >= wanted && waited > 500)
            return;
    }
}

/* Waits until the server must have noticed every silent client, and a second more. */
static void silence_noticed(struct run *r, uint64_t since_ns)
{
    const struct population *p = &fleet_options(r->fleet)->population;
    uint64_t limit_ms = (uint64_t)population_keepalive(p, POPULATION_CLASSES - 1) * 1500 + 3000;
    run_step(r, "waiting for the server to notice the silent ones");
    while ((wire_now_ns() - since_ns) / 1000000 < limit_ms) {
        struct fleet_counters n;
        fleet_counters(r->fleet, &n);
        if (n.timeouts_early + n.timeouts_late + n.timeouts_right >= (uint64_t)r->scenario->silent ||
            !sleep_ms(100))
            return;
    }
}

static void put_messages(struct run *r, const struct traffic_totals *t, const struct fleet_counters *n)
{
    struct fleet_answer a;
    struct fleet_command verify = {.op = FLEET_VERIFY, .who = FLEET_NOT_SLOW};
    fleet_run(r->fleet, verify, 60000, &a);
    result_put(r->result, "push.private", "messages to one client", "", RESULT_QUIET,
               (double)t->private_messages);
    result_put(r->result, "push.group", "messages to a group", "", RESULT_QUIET, (double)t->group_messages);
    result_put(r->result, "push.announce", "messages to all", "", RESULT_QUIET, (double)t->announcements);
    result_put(r->result, "push.wanted", "deliveries wanted", "", 0, (double)t->wanted);
    result_put(r->result, "push.received", "deliveries received", "", 0, (double)n->deliveries);
    result_put(r->result, "push.missing", "deliveries missing", "", 0, (double)a.missing);
    result_put(r->result, "push.excess", "deliveries too many", "", RESULT_QUIET, (double)a.excess);
    result_put(r->result, "push.complete", "clients that got exactly what they had to", "", 0,
               (double)a.done);
    result_put(r->result, "push.incomplete", "clients that did not", "", RESULT_QUIET, (double)a.failed);
    result_put(r->result, "push.uncounted", "messages to clients that were arriving or leaving", "",
               RESULT_QUIET, (double)n->uncounted);
    result_put(r->result, "push.behind", "the publisher's largest delay against its plan", "us", 0,
               (double)t->behind_ns / 1000);
}

static void put_clients(struct run *r, const struct fleet_counters *n)
{
    uint64_t noticed = n->timeouts_right + n->timeouts_early + n->timeouts_late;
    double missed = (double)r->scenario->silent - (double)noticed;
    result_put(r->result, "push.left", "clients that left", "", RESULT_QUIET, (double)n->left);
    result_put(r->result, "push.returned", "clients that came back", "", RESULT_QUIET, (double)n->returned);
    result_put(r->result, "heartbeat.sent", "heartbeats sent", "", RESULT_QUIET, (double)n->heartbeats);
    result_put(r->result, "heartbeat.answered", "heartbeats answered", "", RESULT_QUIET, (double)n->answers);
    result_put(r->result, "slow.closed", "slow clients that the server closed", "", RESULT_QUIET,
               (double)n->held_lost);
    if (r->scenario->silent == 0)
        return;
    result_put(r->result, "timeout.right", "silent clients closed within the second after 1.5 x keepalive",
               "", 0, (double)n->timeouts_right);
    result_put(r->result, "timeout.early", "silent clients closed too early", "", 0,
               (double)n->timeouts_early);
    result_put(r->result, "timeout.late", "silent clients closed later", "", 0, (double)n->timeouts_late);
    result_put(r->result, "timeout.missed", "silent clients never closed", "", 0, missed);
    result_put(r->result, "timeout.wrong", "other clients closed", "", 0, (double)n->lost);
    if (n->timeout_excess.count)
        result_put(r->result, "timeout.latest", "the latest one, after 1.5 x keepalive", "us", 0,
                   (double)n->timeout_excess.max_ns / 1000);
}

bool kind_push(struct run *r)
{
    const struct scenario *s = r->scenario;
    struct fleet_counters n;
    if (!run_open(r, false) || !run_open_publisher(r) || !begin(r))
        return false;
    struct traffic *t = traffic_new(r);
    uint64_t start = wire_now_ns();
    double cpu = run_server_cpu_us(r);
    bool ok = traffic_run(t, (uint64_t)s->duration_s * 1000);
    if (ok && s->silent)
        silence_noticed(r, start);
    if (ok && s->churn_rate)
        everybody_back(r);
    struct traffic_totals totals = traffic_totals(t);
    traffic_free(t);
    if (!ok)
        return false;
    everything_there(r, totals.wanted);
    cpu = run_server_cpu_us(r) - cpu;
    double seconds = (double)(wire_now_ns() - start) / 1e9;
    fleet_counters(r->fleet, &n);
    put_messages(r, &totals, &n);
    run_put_latency(r, "push", &n.latency);
    put_clients(r, &n);
    if (!isnan(cpu)) {
        result_put(r->result, "push.cpu", "CPU per delivery, everything included", "us", 0,
                   cpu / (double)(n.deliveries ? n.deliveries : 1));
        result_put(r->result, "push.load", "CPU in all, percent of a core", "", 0, cpu / seconds / 10000);
    }
    run_put_health(r, (uint64_t)(s->connections - s->silent));
    return true;
}
