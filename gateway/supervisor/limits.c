/*
 * The numbers the supervisor starts from. Fed with the configuration and the descriptor limit; used once at
 * start, and the restart delay at each death. Looks at nothing but the CPU set.
 */
#include "gateway/supervisor/limits.h"

#include <sched.h>

/* The smaller of two. */
static uint64_t at_most(uint64_t n, uint64_t max) { return n < max ? n : max; }

/* Integer division, rounded up. */
static uint64_t divide_up(uint64_t n, uint64_t by) { return (n + by - 1) / by; }

/* Client connections that a process can hold; a very low limit is shared half and half. */
uint32_t limits_usable(uint64_t nofile)
{
    uint64_t reserve = nofile >= 2 * (uint64_t)LIMITS_RESERVE ? LIMITS_RESERVE : nofile / 2;
    uint64_t usable = at_most(nofile - reserve, UINT32_MAX);
    return usable > 0 ? (uint32_t)usable : 1;
}

/* Cores that this process may run on. */
static unsigned cores_online(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? (unsigned)n : 1;
}

/* The number of workers on this machine. */
unsigned limits_workers(const struct config *c, uint64_t nofile)
{
    return limits_workers_on(c, nofile, cores_online());
}

/* The number of workers on a machine with that many cores. */
unsigned limits_workers_on(const struct config *c, uint64_t nofile, unsigned cores)
{
    uint64_t n = c->workers;
    if (n == 0) {
        uint64_t needed =
            divide_up((uint64_t)c->max_connections * 105, (uint64_t)limits_usable(nofile) * 100);
        n = needed > cores ? needed : cores;
    }
    return (unsigned)at_most(n, LIMITS_MAX_WORKERS);
}

/* What one worker must have room for: the kernel spreads connections unevenly, so in the worst case all of
 * them. */
uint32_t limits_connections_per_worker(const struct config *c, uint64_t nofile)
{
    uint32_t usable = limits_usable(nofile);
    return c->max_connections ? (uint32_t)at_most(c->max_connections, usable) : usable;
}

/* Doubles the process's back-off while its lives are short; one long life forgives everything. */
uint32_t limits_restart_delay(uint32_t *backoff_ms, uint64_t lived_ms)
{
    if (lived_ms >= LIMITS_STEADY_MS)
        *backoff_ms = 0;
    uint32_t delay = *backoff_ms;
    *backoff_ms = delay == 0 ? LIMITS_BACKOFF_MIN_MS : (uint32_t)at_most(2ull * delay, LIMITS_BACKOFF_MAX_MS);
    return delay;
}
