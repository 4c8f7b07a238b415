/*
 * handshake: every client comes and goes once - TCP, TLS, CONNECT with its CONNACK, DISCONNECT, close - and
 * then again with the session ticket that it was given. What that costs the server is everything from the
 * accept to the close; over plaintext the same is what a connection costs without TLS.
 *
 * A ticket that the server does not take makes a full handshake. It is counted among those of the second
 * round all the same, and said.
 */
#include <math.h>
#include <stdio.h>

#include "gateway/tools/bench/interrupt.h"
#include "gateway/tools/bench/run.h"
#include "gateway/tools/bench/wire.h"

#define REST_MS 100

/* One of the two rounds. */
struct round {
    const char *key;
    bool with_tickets;
    bool
        absent; /* over plaintext nothing is resumed: rows without values, so that all stand in their order */
    struct proctree_ticks ticks;
    double cpu_us, bench_us, seconds;
    struct fleet_answer answer;
    struct fleet_counters counters;
};

static double bench_cpu_us(struct run *r) { return (double)proctree_cpu_ns(r->bench) / 1000; }

/* Lets everybody come and go. */
static bool run_round(struct run *r, struct round *x)
{
    struct fleet_command c = {
        .op = FLEET_HANDSHAKE, .window = (uint32_t)r->scenario->window, .value = x->with_tickets};
    struct proctree_ticks before = {0};
    run_step(r, "%s handshakes", x->key);
    run_reset_counts(r);
    if (r->target->tree)
        before = proctree_ticks(r->target->tree);
    x->cpu_us = run_server_cpu_us(r);
    x->bench_us = bench_cpu_us(r);
    uint64_t start = wire_now_ns();
    bool ok = fleet_run(r->fleet, c, run_job_deadline(r), &x->answer);
    x->seconds = (double)(wire_now_ns() - start) / 1e9;
    sleep_ms(REST_MS);
    x->cpu_us = run_server_cpu_us(r) - x->cpu_us;
    x->bench_us = bench_cpu_us(r) - x->bench_us;
    if (r->target->tree)
        x->ticks = proctree_ticks(r->target->tree);
    x->ticks.user -= before.user;
    x->ticks.kernel -= before.kernel;
    fleet_counters(r->fleet, &x->counters);
    if (!ok && !interrupted())
        fprintf(stderr, "%s: %s: not all clients were answered in time\n", r->target->name, r->step);
    return ok;
}

static void put(struct run *r, const struct round *x, const char *key_end, const char *label,
                const char *unit, unsigned flags, double value)
{
    char key[64], text[96];
    snprintf(key, sizeof key, "handshake.%s.%s", x->key, key_end);
    snprintf(text, sizeof text, "%s, %s", label, x->key);
    result_put(r->result, key, text, unit, flags, x->absent ? NAN : value);
}

/* What one of them cost. */
static void put_cost(struct run *r, const struct round *x)
{
    char prefix[64];
    double n = (double)(x->answer.done ? x->answer.done : 1);
    double ticks = (double)(x->ticks.user + x->ticks.kernel);
    put(r, x, "done", "handshakes", "", 0, (double)x->answer.done);
    put(r, x, "failed", "handshakes that failed", "", RESULT_QUIET, (double)x->answer.failed);
    if (x->absent || !isnan(x->cpu_us))
        put(r, x, "cpu", "CPU per handshake", "us", RESULT_RATIO, x->cpu_us / n);
    if (x->absent || ticks > 0)
        put(r, x, "kernel", "  in the kernel", "%", 0, 100 * (double)x->ticks.kernel / ticks);
    put(r, x, "cpu.bench", "  (the bench's own)", "us", 0, x->bench_us / n);
    put(r, x, "rate", "handshakes per second", "/s", RESULT_RATIO, (double)x->answer.done / x->seconds);
    snprintf(prefix, sizeof prefix, "handshake.%s", x->key);
    run_put_latency(r, prefix,
                    x->absent           ? NULL
                    : r->target->tls.on ? &x->counters.handshake_latency
                                        : &x->counters.connect_latency);
}

/* How many of the second round were what they should be. */
static void put_resumption(struct run *r, const struct round *full, const struct round *resumed)
{
    const struct fleet_counters *n = &resumed->counters;
    double done = (double)(n->handshakes ? n->handshakes : 1);
    put(r, resumed, "offered", "clients that had a ticket", "", 0, (double)n->offered);
    put(r, resumed, "refused", "tickets that were refused", "", 0, (double)n->offered - (double)n->resumed);
    put(r, resumed, "share", "resumed indeed", "%", 0, 100 * (double)n->resumed / done);
    if (resumed->absent || (full->cpu_us > 0 && full->answer.done && resumed->answer.done))
        put(r, resumed, "of_full", "CPU, of a full one's", "x", 0,
            resumed->cpu_us / (double)resumed->answer.done / (full->cpu_us / (double)full->answer.done));
}

bool kind_handshake(struct run *r)
{
    struct round full = {.key = "full"};
    struct round resumed = {.key = "resumed", .with_tickets = true, .absent = !r->target->tls.on};
    if (!run_round(r, &full) || (!resumed.absent && !run_round(r, &resumed)))
        return false;
    put_cost(r, &full);
    put_cost(r, &resumed);
    put_resumption(r, &full, &resumed);
    if (resumed.absent)
        result_note(r->result, "%s: without TLS: what stands for a handshake is a plain connection",
                    r->target->name);
    run_put_health(r, 0);
    return true;
}
