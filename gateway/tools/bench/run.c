/*
 * One run: start the target, fork the clients, let the kind of scenario do its steps, end everything. The
 * table says which kinds there are.
 */
#include "gateway/tools/bench/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/tools/bench/interrupt.h"
#include "gateway/tools/bench/namespace.h"
#include "gateway/tools/bench/netstat.h"
#include "gateway/tools/bench/progress.h"
#include "gateway/tools/bench/wire.h"

static const struct run_kind kinds[] = {
    {"connect", "open all, subscribe all: rate and CPU per client", kind_connect, false, false},
    {"idle", "memory by layer: idle, after broadcasts and heartbeats, with one more topic each", kind_idle,
     false, false},
    {"broadcast", "messages to all, of one or two sizes: deliveries, CPU per delivery, latency",
     kind_broadcast, false, false},
    {"heartbeat", "evenly spaced PINGREQs: answers, CPU per heartbeat", kind_heartbeat, false, false},
    {"slow", "some read nothing during the broadcasts: the others get everything, memory is bounded",
     kind_slow, false, false},
    {"storm", "many lose their connection and all come back: how fast, and the heartbeats of the others",
     kind_storm, false, false},
    {"push", "messages to one, to groups, to all, while clients come, go, fall silent: did everything arrive",
     kind_push, true, false},
    {"buffers", "kernel memory: idle, after a push, with an unread push, with a full backlog", kind_buffers,
     true, false},
    {"handshake",
     "each client comes and goes, then again with its ticket: CPU per handshake, full and resumed",
     kind_handshake, false, true},
};

const struct run_kind *run_find_kind(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    return NULL;
}

void run_list_kinds(void)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        printf("%-10s %s\n", kinds[i].name, kinds[i].help);
}

/* Who the clients are. */
static struct population population_of(const struct scenario *s)
{
    uint32_t n = (uint32_t)s->connections;
    struct population p = {.clients = n,
                           .seed = (uint64_t)s->seed,
                           .slow = s->slow < s->connections ? (uint32_t)s->slow : n,
                           .movers = s->storm && s->storm < s->connections ? (uint32_t)s->storm : n,
                           .movers_apart = s->apart,
                           .keepalive_s = (uint16_t)s->keepalive_s,
                           .keepalive_max_s = (uint16_t)s->keepalive_max_s,
                           .groups = (uint32_t)s->groups,
                           .memberships =
                               s->groups < s->memberships ? (uint32_t)s->groups : (uint32_t)s->memberships};
    p.silent = (uint32_t)s->silent < n - p.slow ? (uint32_t)s->silent : n - p.slow;
    population_prepare(&p, (double)s->zipf_percent / 100);
    return p;
}

/* What the clients are told when they are forked. */
static struct fleet_options fleet_options_of(const struct scenario *s, const struct target *t)
{
    struct fleet_options o = {.server = t->address,
                              .population = population_of(s),
                              .version = (uint8_t)s->version,
                              .topics = FLEET_TOPIC_COMMON,
                              .slow_rcvbuf = (int)s->slow_rcvbuf,
                              .rcvbuf = (int)s->rcvbuf,
                              .sndbuf = (int)s->sndbuf,
                              .mss = (int)s->mss,
                              .tls = t->tls_client,
                              .handshakes = (uint32_t)s->handshakes,
                              .tickets = s->tickets,
                              .per_process = (uint32_t)s->per_process};
    if (s->private_rate)
        o.topics |= FLEET_TOPIC_OWN;
    if (s->groups)
        o.topics |= FLEET_TOPIC_GROUPS;
    snprintf(o.topic, sizeof o.topic, "%s", s->topic);
    snprintf(o.id_prefix, sizeof o.id_prefix, "bench-%d", (int)getpid());
    return o;
}

static void tick_cb(void *arg)
{
    struct run *r = arg;
    if (r->target->tree)
        proctree_cpu_ns(r->target->tree);
    run_draw(r);
}

/* What was spoken, for the report. */
static void note_tls(struct run *r)
{
    struct fleet_counters n;
    fleet_counters(r->fleet, &n);
    if (n.tls[0])
        result_note(r->result, "%s: %s", r->target->name, n.tls);
}

/* Between start and stop of the target. */
static bool run_fleet(struct run *r, const struct run_kind *kind)
{
    struct fleet_options o = fleet_options_of(r->scenario, r->target);
    o.tickets |= kind->keeps_tickets;
    r->fleet = fleet_new(&o);
    if (!r->fleet)
        return false;
    const pid_t *pids;
    size_t n = fleet_processes(r->fleet, &pids);
    r->bench = proctree_new(pids, n);
    fleet_set_tick(r->fleet, tick_cb, r);
    run_reset_counts(r);
    memory_read(r, &r->start);
    r->retransmitted = netstat_counter("RetransSegs");
    bool ok = kind->run(r);
    note_tls(r);
    publisher_free(r->publisher);
    fleet_free(r->fleet);
    proctree_free(r->bench);
    free(o.population.group_share);
    return ok && !interrupted();
}

/* The target is up between the two. */
static bool run_target(struct run *r, const struct run_kind *kind)
{
    uint64_t start = wire_now_ns();
    run_step(r, "starting the server");
    if (!target_start(r->target, (unsigned)r->scenario->version, (unsigned long)r->scenario->connections))
        return false;
    bool ok = run_fleet(r, kind);
    progress_clear();
    target_stop(r->target);
    result_put(r->result, "run.time", "the whole run, server's start and end included", "s", 0,
               (double)(wire_now_ns() - start) / 1e9);
    return ok;
}

bool run_scenario(const struct scenario *s, struct target *t, struct result *result)
{
    const struct run_kind *kind = run_find_kind(s->kind);
    struct run r = {.scenario = s, .target = t, .result = result, .next_seq = 1};
    if (kind->needs_server && t->kind == TARGET_FLOOR) {
        result_note(result, "the floor is left out: it knows neither topics nor keepalives");
        return true;
    }
    if (!s->namespace[0])
        return run_target(&r, kind);
    int outside = namespace_enter(s->namespace);
    if (outside < 0)
        return false;
    bool ok = run_target(&r, kind);
    namespace_leave(outside);
    return ok;
}
