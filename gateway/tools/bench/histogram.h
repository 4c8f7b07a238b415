/*
 * A latency histogram: 32 buckets per power of two (3 % wide), from nanoseconds to 18 minutes, of fixed size,
 * so that it can lie in memory shared between processes and be added up.
 */
#ifndef HOLDFAST_BENCH_HISTOGRAM_H
#define HOLDFAST_BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 5
#define HISTOGRAM_BUCKETS  ((40 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
    uint64_t count;
    uint64_t max_ns;
    uint32_t bucket[HISTOGRAM_BUCKETS];
};

void histogram_record(struct histogram *h, uint64_t ns);
void histogram_add(struct histogram *into, const struct histogram *from);

/* The value that `share` (0..1) of all records do not exceed, in nanoseconds; 0 when there are none. */
uint64_t histogram_quantile(const struct histogram *h, double share);

/* The largest value that falls into bucket i, in nanoseconds. */
uint64_t histogram_bucket_limit(unsigned i);

#endif
