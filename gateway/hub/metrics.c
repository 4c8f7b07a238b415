/*
 * All processes' counters, as /metrics and /v1/stats show them. The tables in gateway/base say what there is;
 * here stands only which processes count what, so that 55 workers do not each report a constant zero for the
 * hub's counters. A process that has never run is left out.
 */
#include "gateway/hub/metrics.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "gateway/base/clock.h"

#define PREFIX "holdfast_"

enum kind { KIND_WORKER = 1, KIND_HUB = 2, KIND_SUPERVISOR = 4, KIND_ALL = 7 };

/* Who counts what; a counter that is not here is the workers'. */
static const unsigned char counted_by[COUNTER_COUNT] = {
    [COUNTER_MALLOC_TRIMS] = KIND_WORKER | KIND_HUB,
    [COUNTER_IPC_DROPPED] = KIND_WORKER | KIND_HUB,
    [COUNTER_ACCEPT_PAUSED] = KIND_WORKER | KIND_HUB,
    [COUNTER_LOG_SUPPRESSED] = KIND_ALL,
    [COUNTER_HUB_PUBLISHES] = KIND_HUB,
    [COUNTER_HUB_REFUSED] = KIND_HUB,
    [COUNTER_HUB_BEHIND] = KIND_HUB,
    [COUNTER_HUB_WORKERS] = KIND_HUB,
    [COUNTER_HUB_CLIENTS] = KIND_HUB,
    [COUNTER_HUB_WILLS] = KIND_HUB,
    [COUNTER_WILLS_LEFT] = KIND_HUB,
    [COUNTER_SHARE_GROUPS] = KIND_HUB,
    [COUNTER_SHARE_MEMBERS] = KIND_HUB,
    [COUNTER_SHARE_GIVEN] = KIND_HUB,
    [COUNTER_SHARE_REDELIVERED] = KIND_HUB,
    [COUNTER_SHARE_LOST] = KIND_HUB,
    [COUNTER_HTTP_REQUESTS] = KIND_HUB,
    [COUNTER_HTTP_ERRORS] = KIND_HUB,
    [COUNTER_RESTARTS] = KIND_SUPERVISOR,
    [COUNTER_RELOADS] = KIND_SUPERVISOR,
    [COUNTER_RELOAD_FAILURES] = KIND_SUPERVISOR,
    [COUNTER_GENERATION] = KIND_SUPERVISOR,
};

/* One process's page, found by its place in the array. */
struct process {
    const struct counters *counters;
    enum kind kind;
    char name[24];
};

/* How many there are. */
static unsigned processes(const struct process_args *args) { return args->workers + 2; }

static struct process process_at(const struct process_args *args, unsigned i)
{
    struct process p = {.counters = &args->counters[i], .kind = KIND_WORKER};
    if (i < args->workers) {
        snprintf(p.name, sizeof p.name, "worker/%u", i);
        return p;
    }
    p.kind = i == args->workers ? KIND_HUB : KIND_SUPERVISOR;
    snprintf(p.name, sizeof p.name, "%s", p.kind == KIND_HUB ? "hub" : "supervisor");
    return p;
}

/* Whether this process counts that. */
static bool counts(const struct process *p, enum counter k)
{
    unsigned kinds = counted_by[k] ? counted_by[k] : KIND_WORKER;
    return (kinds & p->kind) != 0 && p->counters->pid != 0;
}

/* A value of another process's page, read whole. */
static uint64_t load(const uint64_t *v) { return __atomic_load_n(v, __ATOMIC_RELAXED); }

/* The number of pools that a process has published. */
static unsigned pools_of(const struct process *p)
{
    unsigned n = 0;
    while (n < COUNTERS_POOLS && p->counters->pool[n].name[0])
        n++;
    return n;
}

/* A pool's name, whole although its owner may be writing. */
static void pool_name_of(const struct counters_pool *pool, char out[sizeof pool->name])
{
    memcpy(out, pool->name, sizeof pool->name);
    out[sizeof pool->name - 1] = 0;
}

static void write_head(struct evbuffer *out, const char *name, const char *type, const char *help)
{
    evbuffer_add_printf(out, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s %s\n", name, help, name, type);
}

static void write_counters(const struct process_args *args, struct evbuffer *out)
{
    for (unsigned k = 0; k < COUNTER_COUNT; k++) {
        write_head(out, counter_name(k), counter_is_gauge(k) ? "gauge" : "counter", counter_help(k));
        for (unsigned i = 0; i < processes(args); i++) {
            struct process p = process_at(args, i);
            if (counts(&p, k))
                evbuffer_add_printf(out, PREFIX "%s{process=\"%s\"} %llu\n", counter_name(k), p.name,
                                    (unsigned long long)counter_get(p.counters, k));
        }
    }
}

static void write_closed(const struct process_args *args, struct evbuffer *out)
{
    write_head(out, "connections_closed_total", "counter", "Client connections closed, by reason");
    for (unsigned i = 0; i < args->workers; i++) {
        struct process p = process_at(args, i);
        for (unsigned r = CLOSE_NONE + 1; r < CLOSE_REASON_COUNT && p.counters->pid; r++)
            evbuffer_add_printf(out, PREFIX "connections_closed_total{process=\"%s\",reason=\"%s\"} %llu\n",
                                p.name, close_reason_label(r),
                                (unsigned long long)load(&p.counters->closed[r]));
    }
}

/* The columns of a pool that become metrics. */
static const struct {
    const char *name, *help;
    size_t offset; /* in struct counters_pool */
} pool_columns[] = {
    {"pool_used", "Records in use", offsetof(struct counters_pool, used)},
    {"pool_bytes", "Memory opened for the pool", offsetof(struct counters_pool, bytes)},
    {"pool_record_bytes", "Size of one record", offsetof(struct counters_pool, record_size)},
};

static void write_pools(const struct process_args *args, struct evbuffer *out)
{
    for (size_t c = 0; c < sizeof pool_columns / sizeof pool_columns[0]; c++) {
        write_head(out, pool_columns[c].name, "gauge", pool_columns[c].help);
        for (unsigned i = 0; i < processes(args); i++) {
            struct process p = process_at(args, i);
            for (unsigned n = 0; n < pools_of(&p); n++) {
                const struct counters_pool *pool = &p.counters->pool[n];
                char name[sizeof pool->name];
                pool_name_of(pool, name);
                const uint64_t *v = (const void *)((const char *)pool + pool_columns[c].offset);
                evbuffer_add_printf(out, PREFIX "%s{process=\"%s\",pool=\"%s\"} %llu\n", pool_columns[c].name,
                                    p.name, name, (unsigned long long)load(v));
            }
        }
    }
}

/* CPU time and start of each process. */
static void write_processes(const struct process_args *args, struct evbuffer *out)
{
    write_head(out, "process_cpu_seconds_total", "counter", "CPU time of the process that runs now");
    for (unsigned i = 0; i < processes(args); i++) {
        struct process p = process_at(args, i);
        if (p.counters->pid)
            evbuffer_add_printf(out, PREFIX "process_cpu_seconds_total{process=\"%s\"} %.6f\n", p.name,
                                (double)load(&p.counters->cpu_ns) / 1e9);
    }
    write_head(out, "process_start_time_seconds", "gauge", "When the process started, since the epoch");
    for (unsigned i = 0; i < processes(args); i++) {
        struct process p = process_at(args, i);
        if (p.counters->pid)
            evbuffer_add_printf(out, PREFIX "process_start_time_seconds{process=\"%s\"} %.3f\n", p.name,
                                (double)load(&p.counters->started_ms) / 1e3);
    }
}

void metrics_write(const struct process_args *args, struct evbuffer *out)
{
    counters_publish();
    write_head(out, "build_info", "gauge", "The version that runs, as labels");
    evbuffer_add_printf(out, PREFIX "build_info{version=\"%s\",libevent=\"%s\"} 1\n", PACKAGE_VERSION,
                        event_get_version());
    write_counters(args, out);
    write_closed(args, out);
    write_pools(args, out);
    write_processes(args, out);
}

static json_t *number(uint64_t n) { return json_integer((json_int_t)n); }

static json_t *pools_json(const struct process *p)
{
    json_t *list = json_array();
    for (unsigned n = 0; n < pools_of(p); n++) {
        const struct counters_pool *pool = &p->counters->pool[n];
        char name[sizeof pool->name];
        pool_name_of(pool, name);
        json_t *one = json_object();
        json_object_set_new(one, "name", json_string(name));
        json_object_set_new(one, "used", number(load(&pool->used)));
        json_object_set_new(one, "bytes", number(load(&pool->bytes)));
        json_object_set_new(one, "record_size", number(load(&pool->record_size)));
        json_array_append_new(list, one);
    }
    return list;
}

static json_t *process_json(const struct process *p)
{
    json_t *doc = json_object(), *counters = json_object();
    json_object_set_new(doc, "name", json_string(p->name));
    json_object_set_new(doc, "pid", number(load(&p->counters->pid)));
    json_object_set_new(doc, "uptime_seconds",
                        json_real((double)(clock_wall_ms() - load(&p->counters->started_ms)) / 1000));
    json_object_set_new(doc, "cpu_seconds", json_real((double)load(&p->counters->cpu_ns) / 1e9));
    for (unsigned k = 0; k < COUNTER_COUNT; k++)
        if (counts(p, k))
            json_object_set_new(counters, counter_name(k), number(counter_get(p->counters, k)));
    json_object_set_new(doc, "counters", counters);
    json_object_set_new(doc, "pools", pools_json(p));
    return doc;
}

json_t *metrics_json(const struct process_args *args)
{
    uint64_t total[COUNTER_COUNT] = {0}, closed[CLOSE_REASON_COUNT] = {0};
    json_t *doc = json_object(), *list = json_array(), *totals = json_object(), *reasons = json_object();
    counters_publish();
    for (unsigned i = 0; i < processes(args); i++) {
        struct process p = process_at(args, i);
        if (p.counters->pid == 0)
            continue;
        json_array_append_new(list, process_json(&p));
        for (unsigned k = 0; k < COUNTER_COUNT; k++)
            total[k] += counter_get(p.counters, k);
        for (unsigned r = 0; r < CLOSE_REASON_COUNT; r++)
            closed[r] += load(&p.counters->closed[r]);
    }
    for (unsigned k = 0; k < COUNTER_COUNT; k++)
        json_object_set_new(totals, counter_name(k), number(total[k]));
    for (unsigned r = CLOSE_NONE + 1; r < CLOSE_REASON_COUNT; r++)
        json_object_set_new(reasons, close_reason_label(r), number(closed[r]));
    json_object_set_new(doc, "version", json_string(PACKAGE_VERSION));
    json_object_set_new(doc, "totals", totals);
    json_object_set_new(doc, "closed", reasons);
    json_object_set_new(doc, "processes", list);
    return doc;
}
