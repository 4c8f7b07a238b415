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
    {"connect", "open all, subscribe all: rate and CPU per client", kind_connect, 0},
    {"idle", "memory by layer: idle, after broadcasts and heartbeats, with one more topic each", kind_idle,
     0},
    {"broadcast", "messages to all, of one or two sizes: deliveries, CPU per delivery, latency",
     kind_broadcast, 0},
    {"heartbeat", "evenly spaced PINGREQs: answers, CPU per heartbeat", kind_heartbeat, 0},
    {"slow", "some read nothing during the broadcasts: the others get everything, memory is bounded",
     kind_slow, 0},
    {"storm", "many lose their connection and all come back: how fast, and the heartbeats of the others",
     kind_storm, 0},
    {"push", "messages to one, to groups, to all, while clients come, go, fall silent: did everything arrive",
     kind_push, RUN_NEEDS_SERVER},
    {"buffers", "kernel memory: idle, after a push, with an unread push, with a full backlog", kind_buffers,
     RUN_NEEDS_SERVER},
    {"handshake",
     "each client comes and goes, then again with its ticket: CPU per handshake, full and resumed",
     kind_handshake, RUN_KEEPS_TICKETS},
    {"sessions", "memory of idle clients whose sessions end with them, and of those whose sessions do not",
     kind_sessions, RUN_NEEDS_SERVER},
    {"publish", "one publisher with one message on its way, and many: messages per second", kind_publish,
     RUN_NEEDS_SERVER},
    {"wake",
     "messages for clients that are away: how fast they are acknowledged, and what who comes back gets",
     kind_wake, RUN_NEEDS_SERVER | RUN_IN_ORDER},
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

/* The floor hands on what it gets and knows no acknowledgements. */
static uint8_t qos_of(const struct scenario *s, const struct target *t)
{
    return t->kind == TARGET_FLOOR ? 0 : (uint8_t)s->qos;
}

/* What the clients are told when they are forked. */
static struct fleet_options fleet_options_of(const struct scenario *s, const struct target *t)
{
    struct fleet_options o = {.server = t->address,
                              .population = population_of(s),
                              .version = (uint8_t)s->version,
                              .qos = qos_of(s, t),
                              .persistent = scenario_is_persistent(s),
                              .id_step = (uint32_t)s->id_step,
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
    if (s->client_id[0])
        snprintf(o.id_prefix, sizeof o.id_prefix, "%s", s->client_id);
    else
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

/* Forks the clients, for a server that is up. */
static bool begin(struct run *r)
{
    r->fleet = fleet_new(&r->options);
    if (!r->fleet)
        return false;
    const pid_t *pids;
    size_t n = fleet_processes(r->fleet, &pids);
    r->bench = proctree_new(pids, n);
    fleet_set_tick(r->fleet, tick_cb, r);
    run_reset_counts(r);
    memory_read(r, &r->start);
    r->retransmitted = netstat_counter("RetransSegs");
    return true;
}

/* Ends what begin() and the kind have made. */
static void end(struct run *r)
{
    if (r->fleet)
        note_tls(r);
    publisher_free(r->publisher);
    fleet_free(r->fleet);
    if (r->bench)
        proctree_free(r->bench);
    r->publisher = NULL;
    r->fleet = NULL;
    r->bench = NULL;
}

static bool start_target(struct run *r)
{
    const struct scenario *s = r->scenario;
    run_step(r, "starting the server");
    return target_start(r->target, (unsigned)s->version, (unsigned long)s->connections, (unsigned)s->start_s);
}

bool run_start_anew(struct run *r, bool persistent)
{
    end(r);
    progress_clear();
    target_stop(r->target);
    r->options.persistent = persistent;
    if (!start_target(r))
        return false;
    r->options.server = r->target->address;
    r->options.tls = r->target->tls_client;
    return begin(r);
}

/* Between start and stop of the target. */
static bool run_fleet(struct run *r, const struct run_kind *kind)
{
    r->options = fleet_options_of(r->scenario, r->target);
    r->options.tickets |= (kind->flags & RUN_KEEPS_TICKETS) != 0;
    r->options.in_order = kind->flags & RUN_IN_ORDER;
    r->qos = r->options.qos;
    bool ok = begin(r) && kind->run(r);
    end(r);
    free(r->options.population.group_share);
    return ok && !interrupted();
}

/* The target is up between the two. */
static bool run_target(struct run *r, const struct run_kind *kind)
{
    uint64_t start = wire_now_ns();
    if (!start_target(r))
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
    if (kind->flags & RUN_NEEDS_SERVER && t->kind == TARGET_FLOOR) {
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
