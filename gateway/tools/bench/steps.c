/*
 * The steps that kinds of scenarios are made of: opening, subscribing, broadcasting, heartbeats. Each waits
 * until it is complete and the server has come to rest before the server's CPU is read, so that what it costs
 * is in it.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/xmalloc.h"
#include "gateway/tools/bench/interrupt.h"
#include "gateway/tools/bench/netstat.h"
#include "gateway/tools/bench/progress.h"
#include "gateway/tools/bench/run.h"
#include "gateway/tools/bench/wire.h"

#define REST_MS      50 /* for the server to finish what the clients do not see */
#define REST_STEP_MS 20
#define REST_CPU_US  400 /* in so long: it is at rest */

void run_draw(struct run *r)
{
    struct fleet_counters n = {0};
    if (r->fleet)
        fleet_counters(r->fleet, &n);
    progress_line("%s: %s (%zu/%zu): %s | %llu connected, %llu lost, %llu delivered", r->scenario->name,
                  r->target->name, r->result->now_repetition + 1, r->result->repetitions, r->step,
                  (unsigned long long)n.connected, (unsigned long long)(n.lost + n.held_lost),
                  (unsigned long long)n.deliveries);
}

void run_step(struct run *r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(r->step, sizeof r->step, format, args);
    va_end(args);
    run_draw(r);
}

/* CPU readings of both sides. */
struct cpu {
    double server_us, bench_us;
};

double run_server_cpu_us(struct run *r)
{
    return r->target->tree ? (double)proctree_cpu_ns(r->target->tree) / 1000 : NAN;
}

static struct cpu cpu_now(struct run *r)
{
    return (struct cpu){run_server_cpu_us(r), (double)proctree_cpu_ns(r->bench) / 1000};
}

/* The difference, per each of n. */
static struct cpu cpu_since(struct run *r, struct cpu before, double n)
{
    struct cpu now = cpu_now(r);
    return (struct cpu){(now.server_us - before.server_us) / n, (now.bench_us - before.bench_us) / n};
}

uint64_t run_job_deadline(const struct run *r)
{
    const struct scenario *s = r->scenario;
    uint64_t each = r->target->tls.on ? 10 : 2,
             ms = (uint64_t)s->deadline_ms + (uint64_t)s->connections * each;
    if (s->connect_rate)
        ms += (uint64_t)s->connections * 1000 / (uint64_t)s->connect_rate;
    return ms;
}

static void put_cpu(struct run *r, const char *key, const char *label, struct cpu c)
{
    char name[96];
    if (!isnan(c.server_us))
        result_put(r->result, key, label, "us", RESULT_RATIO, c.server_us);
    snprintf(name, sizeof name, "%s.bench", key);
    result_put(r->result, name, "  (the bench's own)", "us", 0, c.bench_us);
}

/* Runs a job over all clients and measures what one costs. */
static bool measured_job(struct run *r, struct fleet_command c, struct cpu *cpu, double *rate)
{
    struct fleet_answer a;
    struct cpu before = cpu_now(r);
    uint64_t start = wire_now_ns();
    bool ok = fleet_run(r->fleet, c, run_job_deadline(r), &a);
    double seconds = (double)(wire_now_ns() - start) / 1e9;
    *rate = (double)a.done / seconds;
    sleep_ms(REST_MS);
    *cpu = cpu_since(r, before, (double)(a.done ? a.done : 1));
    if (!ok && !interrupted())
        fprintf(stderr, "%s: %s: not all clients were answered in time\n", r->target->name, r->step);
    return ok;
}

bool run_open(struct run *r, bool with_figures)
{
    const struct scenario *s = r->scenario;
    struct cpu connect, subscribe;
    double connect_rate, subscribe_rate;
    struct fleet_command c = {.op = FLEET_CONNECT, .window = (uint32_t)s->window};
    if (s->connect_rate)
        c.over_us = (uint64_t)s->connections * 1000000 / (uint64_t)s->connect_rate;
    run_step(r, "connecting %ld clients", s->connections);
    if (!measured_job(r, c, &connect, &connect_rate))
        return false;
    run_step(r, "subscribing");
    c = (struct fleet_command){
        .op = FLEET_SUBSCRIBE, .value = fleet_options(r->fleet)->topics, .window = (uint32_t)s->window};
    if (!measured_job(r, c, &subscribe, &subscribe_rate))
        return false;
    result_put(r->result, "connect.rate", "connections per second", "/s", with_figures ? RESULT_RATIO : 0,
               connect_rate);
    if (!with_figures)
        return true;
    put_cpu(r, "connect.cpu", "CPU per accepted and connected client", connect);
    result_put(r->result, "subscribe.rate", "subscriptions per second", "/s", RESULT_RATIO, subscribe_rate);
    put_cpu(r, "subscribe.cpu", "CPU per subscription", subscribe);
    return true;
}

struct publisher *run_new_publisher(struct run *r, unsigned number)
{
    char id[64];
    snprintf(id, sizeof id, "holdfast-bench-publisher-%d-%u", (int)getpid(), number);
    struct publisher *p =
        publisher_new(&r->target->address, r->target->tls_client, (uint8_t)r->scenario->version, id);
    if (p)
        publisher_set_qos(p, r->qos);
    return p;
}

bool run_open_publisher(struct run *r)
{
    r->publisher = run_new_publisher(r, 0);
    return r->publisher;
}

void run_rest(struct run *r)
{
    uint64_t end = wire_now_ns() + (uint64_t)r->scenario->deadline_ms * 1000000u;
    double before, now = run_server_cpu_us(r);
    do {
        before = now;
        if (!sleep_ms(REST_STEP_MS))
            return;
        now = run_server_cpu_us(r);
    } while (now - before > REST_CPU_US && wire_now_ns() < end);
}

/* Waits for the answer to what was published; says when there is none. */
static bool await_publisher(struct run *r)
{
    if (publisher_await(r->publisher, 0))
        return true;
    fprintf(stderr, "%s: a message was not acknowledged to its publisher\n", r->target->name);
    return false;
}

/* One broadcast from publish to the last delivery and acknowledgement, and a rest. */
static bool one_broadcast(struct run *r, long payload, struct broadcast_figures *f, double *cpu,
                          double *bench_cpu)
{
    struct cpu before = cpu_now(r);
    uint8_t qos = publisher_qos(r->publisher);
    uint64_t wanted = fleet_expect(r->fleet, 1, qos);
    if (!publisher_send(r->publisher, r->scenario->topic, (size_t)payload, 0, r->next_seq++)) {
        fprintf(stderr, "%s: the publisher's connection is gone\n", r->target->name);
        return false;
    }
    if (!await_publisher(r))
        return false;
    if (!fleet_await(r->fleet, (uint64_t)r->scenario->deadline_ms))
        f->late_broadcasts++;
    f->wanted += wanted;
    sleep_ms((uint64_t)r->scenario->gap_ms);
    if (qos) /* the server has acknowledgements to read */
        run_rest(r);
    struct cpu used = cpu_since(r, before, (double)(wanted ? wanted : 1));
    *cpu = used.server_us;
    *bench_cpu = used.bench_us;
    return !interrupted();
}

bool run_broadcasts(struct run *r, long count, long payload, struct broadcast_figures *f,
                    void (*after_each)(struct run *r, void *arg), void *arg)
{
    double *cpu = xcalloc((size_t)count + 1, sizeof *cpu),
           *bench_cpu = xcalloc((size_t)count + 1, sizeof *cpu);
    struct fleet_counters before, after;
    bool ok = true;
    *f = (struct broadcast_figures){0};
    fleet_counters(r->fleet, &before);
    for (long i = 0; ok && i < count; i++) {
        run_step(r, "broadcast %ld of %ld, %ld bytes", i + 1, count, payload);
        ok = one_broadcast(r, payload, f, &cpu[i], &bench_cpu[i]);
        if (after_each)
            after_each(r, arg);
    }
    fleet_counters(r->fleet, &after);
    f->received = after.deliveries - before.deliveries;
    f->acknowledged = after.acknowledged - before.acknowledged;
    f->cpu_us = median_of(cpu, (size_t)count);
    f->bench_cpu_us = median_of(bench_cpu, (size_t)count);
    free(cpu);
    free(bench_cpu);
    return ok;
}

bool run_heartbeats(struct run *r, long rounds, struct heartbeat_figures *f)
{
    const struct scenario *s = r->scenario;
    struct fleet_command c = {.op = FLEET_HEARTBEAT};
    double *cpu = xcalloc((size_t)rounds + 1, sizeof *cpu),
           *bench_cpu = xcalloc((size_t)rounds + 1, sizeof *cpu);
    bool ok = true;
    c.over_us = (uint64_t)s->connections * 1000000 / (uint64_t)s->heartbeat_rate;
    *f = (struct heartbeat_figures){0};
    for (long i = 0; ok && i < rounds; i++) {
        struct fleet_answer a;
        run_step(r, "heartbeats, round %ld of %ld", i + 1, rounds);
        struct cpu before = cpu_now(r);
        uint64_t start = wire_now_ns();
        ok = fleet_run(r->fleet, c, c.over_us / 1000 + run_job_deadline(r), &a);
        f->rate = (double)a.done / ((double)(wire_now_ns() - start) / 1e9);
        sleep_ms(REST_MS);
        struct cpu used = cpu_since(r, before, (double)(a.done ? a.done : 1));
        cpu[i] = used.server_us;
        bench_cpu[i] = used.bench_us;
        f->wanted += a.done + a.failed;
        f->answered += a.done;
    }
    f->cpu_us = median_of(cpu, (size_t)rounds);
    f->bench_cpu_us = median_of(bench_cpu, (size_t)rounds);
    free(cpu);
    free(bench_cpu);
    return ok;
}

void run_reset_counts(struct run *r)
{
    fleet_run(r->fleet, (struct fleet_command){.op = FLEET_SEQUENCE, .value = r->next_seq}, 60000, NULL);
}

void run_put_health(struct run *r, uint64_t expected_connected)
{
    struct fleet_counters n;
    fleet_counters(r->fleet, &n);
    result_put(r->result, "connected", "connected at the end", "", 0, (double)n.connected);
    result_put(r->result, "refused", "refused", "", RESULT_QUIET, (double)n.refused);
    result_put(r->result, "lost", "lost", "", 0, (double)n.lost);
    result_put(r->result, "gaps", "messages missed by a client that got later ones", "", RESULT_QUIET,
               (double)n.gaps);
    result_put(r->result, "duplicates", "messages that came twice or out of order", "", RESULT_QUIET,
               (double)n.duplicates);
    result_put(r->result, "foreign", "messages that nobody sent", "", RESULT_QUIET, (double)n.foreign);
    result_put(r->result, "retransmitted", "TCP segments of the machine sent again", "", RESULT_QUIET,
               netstat_counter("RetransSegs") - r->retransmitted);
    if (n.connected < expected_connected || n.protocol_errors)
        result_note(r->result, "%s: the latest error of a client: %s", r->target->name, n.error);
}

void run_put_latency(struct run *r, const char *prefix, const struct histogram *h)
{
    static const struct {
        const char *name;
        double share;
    } row[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"max", 1}};
    for (size_t i = 0; (!h || h->count) && i < sizeof row / sizeof row[0]; i++) {
        char key[96], label[96];
        snprintf(key, sizeof key, "%s.latency.%s", prefix, row[i].name);
        snprintf(label, sizeof label, "  latency %s", row[i].name);
        result_put(r->result, key, label, "us", 0,
                   h ? (double)histogram_quantile(h, row[i].share) / 1000 : NAN);
    }
}
