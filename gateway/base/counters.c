/*
 * Counters of one process in memory that the other processes can read. The supervisor maps the pages before
 * it forks; each process attaches to its own and is the only one that writes there; the hub reads all of them
 * for /metrics, so that nobody asks a busy worker for numbers.
 *
 * What is counted as it happens is a plain store (counter_add). Pools and CPU time are copied about once a
 * second. Counters survive a restart of their process, gauges and pools begin anew. Nothing is ever locked:
 * a reader sees each value whole, but not all values of the same instant.
 */
#include "gateway/base/counters.h"

#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/pool.h"

struct counter_row {
    const char *name;
    const char *help;
    bool is_gauge;
};

enum counter_kind { KIND_counter, KIND_gauge };

static const struct counter_row rows[COUNTER_COUNT] = {
#define X(id, name_, kind, help_)                                                                            \
    [COUNTER_##id] = {.name = (name_), .help = (help_), .is_gauge = KIND_##kind == KIND_gauge},
#include "gateway/base/counters.def"
#undef X
};

/* What is counted before counters_attach(); nobody reads it. */
static struct counters dummy;

struct counters *counters_mine = &dummy;

/* The row of a counter. A number that is none is our own bug. */
static const struct counter_row *row(enum counter k)
{
    CHECK((unsigned)k < COUNTER_COUNT);
    return &rows[k];
}

const char *counter_name(enum counter k) { return row(k)->name; }

const char *counter_help(enum counter k) { return row(k)->help; }

bool counter_is_gauge(enum counter k) { return row(k)->is_gauge; }

struct counters *counters_map(unsigned n)
{
    CHECK(n > 0);
    void *p =
        mmap(NULL, n * sizeof(struct counters), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    return p;
}

/* A store that a reader in another process sees whole. */
static void store(uint64_t *to, uint64_t value) { __atomic_store_n(to, value, __ATOMIC_RELAXED); }

void counters_attach(struct counters *c)
{
    for (unsigned k = 0; k < COUNTER_COUNT; k++)
        if (counter_is_gauge(k))
            store(&c->value[k], 0);
    memset(c->pool, 0, sizeof c->pool);
    store(&c->cpu_ns, 0);
    store(&c->started_ms, clock_wall_ms());
    store(&c->pid, (uint64_t)getpid());
    counters_mine = c;
}

void counter_closed(enum close_reason r)
{
    CHECK((unsigned)r < CLOSE_REASON_COUNT);
    store(&counters_mine->closed[r], counters_mine->closed[r] + 1);
}

/* Copies one pool's figures into a row of the page. */
static void publish_pool(struct counters_pool *to, const struct pool *p)
{
    const struct pool_view *view = (const struct pool_view *)(const void *)p;
    if (strncmp(to->name, pool_name(p), sizeof to->name - 1) != 0) {
        memset(to->name, 0, sizeof to->name);
        strncpy(to->name, pool_name(p), sizeof to->name - 1);
    }
    store(&to->used, pool_count(p));
    store(&to->bytes, pool_bytes(p));
    store(&to->record_size, view->record_size);
}

void counters_publish(void)
{
    struct counters *c = counters_mine;
    unsigned n = 0;
    for (struct pool *p = pool_each(NULL); p && n < COUNTERS_POOLS; p = pool_each(p))
        publish_pool(&c->pool[n++], p);
    if (n < COUNTERS_POOLS)
        memset(&c->pool[n], 0, (COUNTERS_POOLS - n) * sizeof c->pool[0]);

    struct timespec cpu;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0)
        store(&c->cpu_ns, (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec);
}
