/*
 * Keeps the heap of an idle process small. Buffers of blocked clients and bursts of messages come and go in
 * malloc; the C library keeps what was freed below the top of its heap, and only malloc_trim() gives those
 * pages back.
 */
#include "gateway/base/heap.h"

#include <malloc.h>
#include <stdbool.h>
#include <sys/resource.h>

#include "gateway/base/counters.h"

#define MAPPED_FROM    (128 << 10)
#define PAGE_BYTES     4096u
#define WORTH_TRIMMING (64u << 10)

static long faults_at_trim; /* pages touched for the first time since the start, as of the last trim */
static size_t used_at_check;

void heap_setup(void)
{
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_THRESHOLD, MAPPED_FROM);
    mallopt(M_TRIM_THRESHOLD, MAPPED_FROM);
}

void heap_tidy(void)
{
    struct mallinfo2 info = mallinfo2();
    struct rusage usage;
    bool quiet =
        info.uordblks <= used_at_check + WORTH_TRIMMING; /* while it grows, free memory is about to be used */
    used_at_check = info.uordblks;
    getrusage(RUSAGE_SELF, &usage);
    size_t touched = (size_t)(usage.ru_minflt - faults_at_trim) * PAGE_BYTES;
    if (!quiet || info.fordblks < WORTH_TRIMMING || touched < WORTH_TRIMMING)
        return;
    malloc_trim(0);
    faults_at_trim = usage.ru_minflt;
    counter_add(COUNTER_MALLOC_TRIMS, 1);
}
