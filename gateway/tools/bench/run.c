/*
 * One run: start the target, fork the clients, let the kind of scenario do its steps, end everything. The
 * table says which kinds there are.
 */
#include "gateway/tools/bench/run.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gateway/tools/bench/interrupt.h"
#include "gateway/tools/bench/progress.h"

static const struct run_kind kinds[] = {
    {"connect", "open all, subscribe all: rate and CPU per client", kind_connect},
    {"idle", "memory by layer: idle, after broadcasts and heartbeats, with one more topic each", kind_idle},
    {"broadcast", "messages to all, of one or two sizes: deliveries, CPU per delivery, latency",
     kind_broadcast},
    {"heartbeat", "evenly spaced PINGREQs: answers, CPU per heartbeat", kind_heartbeat},
    {"slow", "some read nothing during the broadcasts: the others get everything, memory is bounded",
     kind_slow},
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

/* What the clients are told when they are forked. */
static struct fleet_options fleet_options_of(const struct scenario *s, const struct target *t)
{
    struct fleet_options o = {.server = t->address,
                              .connections = (uint32_t)s->connections,
                              .version = (uint8_t)s->version,
                              .keepalive_s = (uint16_t)s->keepalive_s,
                              .chosen = (uint32_t)(s->slow < s->connections ? s->slow : s->connections),
                              .chosen_rcvbuf = (int)s->slow_rcvbuf,
                              .rcvbuf = (int)s->rcvbuf,
                              .sndbuf = (int)s->sndbuf,
                              .mss = (int)s->mss,
                              .per_process = (uint32_t)s->per_process};
    snprintf(o.topic, sizeof o.topic, "%s", s->topic);
    snprintf(o.id_prefix, sizeof o.id_prefix, "bench-%d", (int)getpid());
    return o;
}

static void tick_cb(void *arg)
{
    struct run *r = arg;
    if (r->target->tree)
        proctree_cpu_ns(r->target->tree);
    run_step(r, "%s", r->step);
}

/* Between start and stop of the target. */
static bool run_fleet(struct run *r, const struct run_kind *kind)
{
    struct fleet_options o = fleet_options_of(r->scenario, r->target);
    r->fleet = fleet_new(&o);
    if (!r->fleet)
        return false;
    const pid_t *pids;
    size_t n = fleet_processes(r->fleet, &pids);
    r->bench = proctree_new(pids, n);
    fleet_set_tick(r->fleet, tick_cb, r);
    run_reset_counts(r);
    memory_read(r, &r->start);
    bool ok = kind->run(r);
    publisher_free(r->publisher);
    fleet_free(r->fleet);
    proctree_free(r->bench);
    return ok && !interrupted();
}

bool run_scenario(const struct scenario *s, struct target *t, struct result *result)
{
    const struct run_kind *kind = run_find_kind(s->kind);
    if (!kind) {
        fprintf(stderr, "%s: kind \"%s\" does not exist; holdfast-bench options lists them\n", s->name,
                s->kind);
        return false;
    }
    struct run r = {.scenario = s, .target = t, .result = result, .next_seq = 1};
    run_step(&r, "starting the server");
    if (!target_start(t, (unsigned)s->version))
        return false;
    bool ok = run_fleet(&r, kind);
    progress_clear();
    target_stop(t);
    return ok;
}
