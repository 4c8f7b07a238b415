/*
 * Counters that other processes may read while we write: one page set per process in shared memory, made by
 * the supervisor before it forks, so that counters go on counting over a restart. Only the owner writes;
 * readers see each value whole.
 */
#ifndef HOLDFAST_BASE_COUNTERS_H
#define HOLDFAST_BASE_COUNTERS_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/base/close_reason.h"

enum counter {
#define X(id, name, kind, help) COUNTER_##id,
#include "counters.def"
#undef X
    COUNTER_COUNT
};

#define COUNTERS_POOLS 48

struct counters_pool {
    char name[24];
    uint64_t used, bytes, record_size;
};

/* Aligned so that no two processes write to one cache line. */
struct counters {
    uint64_t value[COUNTER_COUNT];
    uint64_t closed[CLOSE_REASON_COUNT];       /* connections closed, by reason */
    uint64_t pid;                              /* of the process that writes now; 0: none */
    uint64_t started_ms;                       /* wall clock */
    uint64_t cpu_ns;                           /* CPU time, as of the last counters_publish() */
    struct counters_pool pool[COUNTERS_POOLS]; /* those in use come first; an empty name ends them */
} __attribute__((aligned(64)));

/* An array for n processes in shared pages, zeroed. Aborts when there is no memory. */
struct counters *counters_map(unsigned n);

/* From here on this process counts into *c: sets pid and start time, zeroes the gauges. Before that, into a
 * private dummy. */
void counters_attach(struct counters *c);

/* Copies what is not counted as it happens (pools, CPU time) into the page. Called about once a second. */
void counters_publish(void);

extern struct counters *counters_mine;

static inline void counter_add(enum counter k, uint64_t n)
{
    uint64_t *v = &counters_mine->value[k];
    __atomic_store_n(v, *v + n, __ATOMIC_RELAXED);
}
static inline void counter_sub(enum counter k, uint64_t n) { counter_add(k, (uint64_t)0 - n); }
static inline void counter_set(enum counter k, uint64_t n)
{
    __atomic_store_n(&counters_mine->value[k], n, __ATOMIC_RELAXED);
}
static inline uint64_t counter_get(const struct counters *c, enum counter k)
{
    return __atomic_load_n(&c->value[k], __ATOMIC_RELAXED);
}
void counter_closed(enum close_reason r);

/* The table's row: name without prefix, help, whether it is a gauge. */
const char *counter_name(enum counter k);
const char *counter_help(enum counter k);
bool counter_is_gauge(enum counter k);

#endif
