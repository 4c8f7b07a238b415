/*
 * Log-linear histogram. A value below 32 ns has a bucket of its own; above, the top five bits after the
 * leading one choose among 32 buckets of each power of two. Clients record, the coordinator adds up and asks.
 */
#include "gateway/tools/bench/histogram.h"

/* The bucket of a value; what is beyond the range falls into the last one. */
static unsigned bucket_of(uint64_t ns)
{
    if (ns < (1u << HISTOGRAM_SUB_BITS))
        return (unsigned)ns;
    unsigned top = 63u - (unsigned)__builtin_clzll(ns);
    unsigned shift = top - HISTOGRAM_SUB_BITS;
    unsigned i = ((shift + 1) << HISTOGRAM_SUB_BITS) + (unsigned)(ns >> shift) - (1u << HISTOGRAM_SUB_BITS);
    return i < HISTOGRAM_BUCKETS ? i : HISTOGRAM_BUCKETS - 1;
}

/* Inverse of bucket_of(): the upper edge. */
uint64_t histogram_bucket_limit(unsigned i)
{
    if (i < (1u << HISTOGRAM_SUB_BITS))
        return i;
    unsigned shift = (i >> HISTOGRAM_SUB_BITS) - 1;
    uint64_t mantissa = (i & ((1u << HISTOGRAM_SUB_BITS) - 1)) + (1u << HISTOGRAM_SUB_BITS);
    return ((mantissa + 1) << shift) - 1;
}

/* Counts one value. */
void histogram_record(struct histogram *h, uint64_t ns)
{
    h->count++;
    if (ns > h->max_ns)
        h->max_ns = ns;
    h->bucket[bucket_of(ns)]++;
}

/* Adds all records of `from`. */
void histogram_add(struct histogram *into, const struct histogram *from)
{
    into->count += from->count;
    if (from->max_ns > into->max_ns)
        into->max_ns = from->max_ns;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->bucket[i] += from->bucket[i];
}

/* Walks the buckets up to the share that was asked for. */
uint64_t histogram_quantile(const struct histogram *h, double share)
{
    if (h->count == 0)
        return 0;
    uint64_t want = (uint64_t)(share * (double)h->count + 0.999999), seen = 0;
    for (unsigned i = 0; i + 1 < HISTOGRAM_BUCKETS; i++) { /* the last one has no upper edge */
        seen += h->bucket[i];
        if (seen >= want && seen > 0) {
            uint64_t limit = histogram_bucket_limit(i);
            return limit < h->max_ns ? limit : h->max_ns;
        }
    }
    return h->max_ns;
}
