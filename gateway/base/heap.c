/*
 * Keeps the heap of an idle process small. Buffers of blocked clients and bursts of messages come and go in
 * malloc; the C library keeps what was freed below the top of its heap, and only malloc_trim() gives those
 * pages back.
 */
#include "gateway/base/heap.h"

#include <malloc.h>
#include <stdbool.h>

#include "gateway/base/counters.h"

#define MAPPED_FROM    (128 << 10)
#define WORTH_TRIMMING (64u << 10)

static size_t free_after_trim; /* free bytes that the last trim left (addresses without memory) */
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
    size_t free_now = info.fordblks, used = info.uordblks;
    bool quiet = used <= used_at_check + WORTH_TRIMMING; /* while it grows, free memory is about to be used */
    used_at_check = used;
    if (free_now < free_after_trim)
        free_after_trim = free_now;
    if (!quiet || free_now < free_after_trim + WORTH_TRIMMING)
        return;
    malloc_trim(0);
    free_after_trim = mallinfo2().fordblks;
    counter_add(COUNTER_MALLOC_TRIMS, 1);
}
