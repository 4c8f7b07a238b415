/*
 * wake: clients are away and their sessions are kept. Messages to all of them are published, each timed until
 * the server has acknowledged it, then one to each client's own topic and a last one to all; then all clients
 * come back at once. Every client is asked in the end whether it got exactly what it missed, in the order in
 * which it was published.
 *
 * With premade the sessions are there when the server starts, and may be many more than those that come back:
 * id_step tells them apart. Without it the clients connect, subscribe and leave first.
 */
#include <math.h>
#include <stdio.h>

#include "gateway/tools/bench/disk.h"
#include "gateway/tools/bench/interrupt.h"
#include "gateway/tools/bench/run.h"
#include "gateway/tools/bench/wire.h"

#define BOTH_TOPICS (FLEET_TOPIC_COMMON | FLEET_TOPIC_OWN)

/* Makes the sessions. */
static bool fall_asleep(struct run *r)
{
    struct fleet_command connect = {.op = FLEET_CONNECT, .window = (uint32_t)r->scenario->window};
    struct fleet_command subscribe = {
        .op = FLEET_SUBSCRIBE, .window = (uint32_t)r->scenario->window, .value = BOTH_TOPICS};
    struct fleet_command leave = {.op = FLEET_CLOSE};
    run_step(r, "clients subscribe and leave");
    return fleet_run(r->fleet, connect, run_job_deadline(r), NULL) &&
           fleet_run(r->fleet, subscribe, run_job_deadline(r), NULL) &&
           fleet_run(r->fleet, leave, run_job_deadline(r), NULL);
}

/* Notes that client `number` has to get a message. */
static void expect(struct run *r, uint32_t number, uint32_t hash)
{
    struct fleet_client *c = fleet_client(r->fleet, number);
    c->expected++;
    c->expected_hash += hash;
}

/* One message to all. */
static bool publish_to_all(struct run *r)
{
    const struct scenario *s = r->scenario;
    uint32_t seq = r->next_seq++, hash = population_message_hash(STREAM_ANNOUNCE, seq);
    for (uint32_t i = 0; i < (uint32_t)s->connections; i++)
        expect(r, i, hash);
    return publisher_send(r->publisher, s->topic, (size_t)s->payload, STREAM_ANNOUNCE, seq);
}

/* Messages to all, one at a time: when they are acknowledged and what they leave on the disk. */
static bool measured_broadcasts(struct run *r)
{
    const struct scenario *s = r->scenario;
    struct histogram latency = {0};
    const char *dir = r->target->dir;
    uint64_t disk = dir[0] ? disk_used(dir) : 0;
    double cpu = run_server_cpu_us(r);
    for (long i = 0; i < s->broadcasts; i++) {
        run_step(r, "broadcast %ld of %ld to who is away", i + 1, s->broadcasts);
        uint64_t start = wire_now_ns();
        if (!publish_to_all(r) || !publisher_await(r->publisher, 0) || interrupted())
            return false;
        histogram_record(&latency, wire_now_ns() - start);
        sleep_ms((uint64_t)s->gap_ms);
    }
    run_rest(r);
    cpu = run_server_cpu_us(r) - cpu;
    double n = (double)(s->broadcasts ? s->broadcasts : 1);
    result_put(r->result, "wake.ack.ms", "a broadcast is acknowledged after at most", "ms", 0,
               (double)histogram_quantile(&latency, 1) / 1e6);
    run_put_latency(r, "wake.ack", &latency);
    if (!isnan(cpu))
        result_put(r->result, "wake.broadcast.cpu", "CPU per broadcast", "us", 0, cpu / n);
    if (dir[0])
        result_put(r->result, "wake.broadcast.disk", "data on disk, more per broadcast", "bytes", 0,
                   ((double)disk_used(dir) - (double)disk) / n);
    return true;
}

/* One message to each client's own topic, many on their way at a time. */
static bool private_messages(struct run *r)
{
    const struct scenario *s = r->scenario;
    char topic[96];
    uint64_t start = wire_now_ns();
    run_step(r, "a message to each");
    publisher_set_window(r->publisher, (unsigned)s->publishers);
    for (uint32_t i = 0; i < (uint32_t)s->connections; i++) {
        uint32_t stream = stream_of_client(i), seq = r->next_seq++;
        snprintf(topic, sizeof topic, "%s/%u", s->topic, i * (uint32_t)s->id_step);
        expect(r, i, population_message_hash(stream, seq));
        if (!publisher_send(r->publisher, topic, (size_t)s->payload, stream, seq) || interrupted())
            return false;
    }
    if (!publisher_await(r->publisher, 0))
        return false;
    result_put(r->result, "wake.private.rate", "messages to one each, acknowledged per second", "/s", 0,
               (double)s->connections / ((double)(wire_now_ns() - start) / 1e9));
    return true;
}

/* Everything that is published while all are away. */
static bool publish_all(struct run *r)
{
    const char *dir = r->target->dir;
    uint64_t disk = dir[0] ? disk_used(dir) : 0;
    uint32_t first = r->next_seq;
    bool ok = measured_broadcasts(r) && (!r->scenario->own_topics || private_messages(r)) &&
              publish_to_all(r) && publisher_await(r->publisher, 0);
    if (!ok && !interrupted())
        fprintf(stderr, "%s: a message was not acknowledged to its publisher\n", r->target->name);
    if (!ok)
        return false;
    run_rest(r);
    if (dir[0])
        result_put(r->result, "wake.disk", "data on disk, more per message of all these", "bytes", 0,
                   ((double)disk_used(dir) - (double)disk) / (double)(r->next_seq - first));
    result_put(r->result, "wake.refused", "messages refused", "", RESULT_QUIET,
               (double)publisher_refused(r->publisher));
    return true;
}

/* Waits for everything that was missed. Returns the milliseconds since start; -1: not all came. */
static double wait_for_all(struct run *r, uint64_t wanted, uint64_t start_ns)
{
    struct fleet_counters n;
    uint64_t limit_ms = run_job_deadline(r);
    do {
        fleet_counters(r->fleet, &n);
        if (n.deliveries >= wanted && n.acknowledged >= wanted)
            return (double)(wire_now_ns() - start_ns) / 1e6;
    } while ((wire_now_ns() - start_ns) / 1000000 < limit_ms && sleep_ms(5));
    return -1;
}

/* What each client says. */
static bool verify(struct run *r)
{
    struct fleet_answer a;
    if (!fleet_run(r->fleet, (struct fleet_command){.op = FLEET_VERIFY}, 60000, &a))
        return false;
    result_put(r->result, "wake.complete", "clients that got everything, in order", "", 0, (double)a.done);
    result_put(r->result, "wake.incomplete", "clients that did not", "", RESULT_QUIET, (double)a.failed);
    result_put(r->result, "wake.missing", "messages missing", "", RESULT_QUIET, (double)a.missing);
    result_put(r->result, "wake.excess", "messages too many", "", RESULT_QUIET, (double)a.excess);
    return true;
}

/* All come back at once. */
static bool wake(struct run *r)
{
    const struct scenario *s = r->scenario;
    struct fleet_command c = {.op = FLEET_CONNECT, .window = FLEET_PER_PROCESS};
    struct fleet_counters n;
    struct fleet_answer a;
    uint64_t each = (uint64_t)s->broadcasts + 1 + (s->own_topics ? 1 : 0);
    uint64_t wanted = (uint64_t)s->connections * each;
    run_step(r, "all come back");
    fleet_run(r->fleet, (struct fleet_command){.op = FLEET_SEQUENCE, .value = 1}, 60000, NULL);
    double cpu = run_server_cpu_us(r), bench = (double)proctree_cpu_ns(r->bench) / 1000;
    uint64_t start = wire_now_ns();
    if (!fleet_run(r->fleet, c, run_job_deadline(r), &a))
        return false;
    double ms = wait_for_all(r, wanted, start);
    bench = (double)proctree_cpu_ns(r->bench) / 1000 - bench;
    run_rest(r);
    cpu = run_server_cpu_us(r) - cpu;
    fleet_counters(r->fleet, &n);
    result_put(r->result, "wake.back", "clients that came back", "", 0, (double)a.done);
    run_put_latency(r, "wake.connect", &n.connect_latency);
    result_put(r->result, "wake.forgotten", "clients whose session was gone", "", RESULT_QUIET,
               (double)a.done - (double)n.resumed_sessions);
    result_put(r->result, "wake.wanted", "messages that they missed", "", 0, (double)wanted);
    result_put(r->result, "wake.received", "messages received", "", 0, (double)n.deliveries);
    result_put(r->result, "wake.acknowledged", "messages acknowledged", "", 0, (double)n.acknowledged);
    if (ms >= 0)
        result_put(r->result, "wake.time", "until everybody had everything", "ms", 0, ms);
    if (!isnan(cpu)) {
        result_put(r->result, "wake.cpu", "CPU per client that came back, everything included", "us", 0,
                   cpu / (double)s->connections);
        result_put(r->result, "wake.message.cpu", "  the same per message", "us", 0, cpu / (double)wanted);
    }
    result_put(r->result, "wake.cpu.bench", "  (the bench's own)", "us", 0, bench / (double)s->connections);
    return verify(r);
}

/* User space of the server, in all. */
static void put_memory(struct run *r, const char *key, const char *label)
{
    struct memory_reading m;
    memory_read(r, &m);
    if (r->target->tree)
        result_put(r->result, key, label, "MiB", 0, (double)m.server.user / 1048576);
}

bool kind_wake(struct run *r)
{
    const struct scenario *s = r->scenario;
    if (!r->qos || !scenario_is_persistent(s)) {
        fprintf(stderr, "%s: nothing is kept for who is away: set qos, and sessions to persistent\n",
                s->name);
        return false;
    }
    if (!s->premade && !fall_asleep(r))
        return false;
    run_step(r, "letting the server come to rest");
    if (!sleep_ms((uint64_t)s->settle_ms))
        return false;
    run_rest(r);
    put_memory(r, "wake.asleep.user", "user space of the server, all away");
    if (!run_open_publisher(r) || !publish_all(r) || !wake(r))
        return false;
    put_memory(r, "wake.awake.user", "user space of the server, all back");
    run_put_health(r, (uint64_t)s->connections);
    return true;
}
