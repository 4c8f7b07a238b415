/*
 * A tree of processes and what it uses: CPU from the scheduler's own accounting, memory from smaps_rollup.
 * All descendants of the given roots are counted, also those that come and go meanwhile.
 */
#ifndef HOLDFAST_BENCH_PROCTREE_H
#define HOLDFAST_BENCH_PROCTREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct proctree;

/* Watches the processes `roots` and their descendants. The array is copied. */
struct proctree *proctree_new(const pid_t *roots, size_t count);
void proctree_free(struct proctree *t);

/* Looks again who belongs to the tree. Returns the number of living processes. */
size_t proctree_refresh(struct proctree *t);

/*
 * Nanoseconds on a CPU (user and system) of all threads ever seen in the tree. Never goes down. A thread's
 * share after the last call before its end is lost. Refreshes the tree when that has not been done for half a
 * second.
 */
uint64_t proctree_cpu_ns(struct proctree *t);

/* Clock ticks of the living processes, in user space and in the kernel: coarse, for shares of long times. */
struct proctree_ticks {
    uint64_t user, kernel;
};
struct proctree_ticks proctree_ticks(struct proctree *t);

/* Bytes, summed over the processes. */
struct proctree_memory {
    uint64_t user; /* anonymous and shared memory: Pss_Anon + Pss_Shmem; the figure that is reported first */
    uint64_t pss, rss;
    uint64_t private_dirty;
    unsigned processes;
};
bool proctree_memory(struct proctree *t, struct proctree_memory *m);

/* SIGKILL to every process that was seen in the tree and still lives with the same start time. */
void proctree_kill(struct proctree *t);

#endif
