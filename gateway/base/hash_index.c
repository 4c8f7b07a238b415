/*
 * Linear hashing (Litwin, 1980; Larson, 1988) over records in pools. Driven by the session table and the
 * topic tree, which own the records, their keys and their links; the index owns only the bucket heads.
 *
 * With 2^k <= buckets < 2^(k+1), a hash belongs to bucket h mod 2^(k+1) if there is one of that number, else
 * to h mod 2^k. Adding bucket n therefore takes records from exactly one other, n - 2^k, and removing it
 * gives them back there. There is a bucket per record, and up to a quarter more while the index shrinks, so
 * that a record that comes and goes splits and merges nothing.
 *
 * Buckets beyond the last are always zero, so their pages can be given back and opened again without a word.
 */
#include "gateway/base/hash_index.h"

#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/region.h"
#include "gateway/base/xmalloc.h"

#define MIN_BUCKETS 64
#define GIVE_BACK   ((size_t)16384) /* bytes of unused buckets worth a system call */

struct hash_index {
    const struct hash_index_ops *ops;
    void *ctx;
    uint32_t *bucket;    /* heads, in region */
    uint32_t buckets;    /* how many are in use */
    uint32_t half;       /* the greatest power of two <= buckets */
    uint32_t count, max; /* records; max bounds the number of buckets */
    size_t touched;      /* bytes of the region that may be resident */
    struct region region;
};

/* The smallest index. */
struct hash_index *hash_index_new(const struct hash_index_ops *ops, void *ctx, uint32_t max)
{
    struct hash_index *x = xcalloc(1, sizeof *x);
    x->ops = ops;
    x->ctx = ctx;
    x->max = max > MIN_BUCKETS ? max : MIN_BUCKETS;
    x->buckets = x->half = MIN_BUCKETS;
    region_reserve(&x->region, (size_t)x->max * sizeof(uint32_t));
    x->bucket = (uint32_t *)(void *)x->region.base;
    CHECK(region_open(&x->region, MIN_BUCKETS * sizeof(uint32_t)));
    x->touched = MIN_BUCKETS * sizeof(uint32_t);
    return x;
}

/* Forgets the records; they are the owner's. */
void hash_index_free(struct hash_index *x)
{
    if (!x)
        return;
    region_free(&x->region);
    free(x);
}

/* The head of the bucket to which a hash belongs. */
static inline uint32_t *head_for(const struct hash_index *x, uint64_t hash)
{
    uint32_t b = (uint32_t)hash & (x->half - 1);
    if (b + x->half < x->buckets && (hash & x->half))
        b += x->half;
    return &x->bucket[b];
}

/* The record's link to its successor. */
static inline uint32_t *link_of(const struct hash_index *x, uint32_t record)
{
    return x->ops->link(x->ctx, record);
}

/* Walks the key's bucket. */
uint32_t hash_index_find(const struct hash_index *x, uint64_t hash, const void *key, size_t key_len)
{
    for (uint32_t r = *head_for(x, hash); r; r = *link_of(x, r))
        if (x->ops->equals(x->ctx, r, key, key_len))
            return r;
    return 0;
}

/* Adds a bucket and moves to it what belongs there now. When the system has no memory for it, chains get
 * longer instead. */
static void split(struct hash_index *x)
{
    size_t bytes = ((size_t)x->buckets + 1) * sizeof(uint32_t);
    if (x->buckets == x->max || !region_open(&x->region, bytes))
        return;
    if (bytes > x->touched)
        x->touched = bytes;
    if (x->buckets == x->half * 2)
        x->half *= 2;
    uint32_t *to = &x->bucket[x->buckets];
    uint32_t *at = &x->bucket[x->buckets - x->half];
    x->buckets++;
    while (*at) {
        uint32_t r = *at;
        uint32_t *link = link_of(x, r);
        if (!(x->ops->hash(x->ctx, r) & x->half)) {
            at = link;
            continue;
        }
        *at = *link;
        *link = *to;
        *to = r;
    }
}

/* Drops the last bucket and hangs its chain before that of the one it was split from. */
static void merge(struct hash_index *x)
{
    x->buckets--;
    if (x->buckets < x->half)
        x->half /= 2;
    uint32_t *from = &x->bucket[x->buckets];
    uint32_t *to = &x->bucket[x->buckets - x->half];
    uint32_t *end = from;
    while (*end)
        end = link_of(x, *end);
    *end = *to;
    *to = *from;
    *from = 0;
}

/* Gives pages back when enough of them lie behind the last bucket; keeps as much again as one call's worth.
 */
static void trim(struct hash_index *x)
{
    size_t used = (size_t)x->buckets * sizeof(uint32_t);
    if (x->touched < used + 2 * GIVE_BACK)
        return;
    size_t keep = (used + 2 * GIVE_BACK - 1) & ~(GIVE_BACK - 1);
    region_give_back(&x->region, keep, (x->touched + GIVE_BACK - 1) & ~(GIVE_BACK - 1));
    x->touched = keep;
}

/* Puts it first in its bucket. */
void hash_index_insert(struct hash_index *x, uint64_t hash, uint32_t record)
{
    if (++x->count > x->buckets)
        split(x);
    uint32_t *head = head_for(x, hash);
    *link_of(x, record) = *head;
    *head = record;
}

/* Unlinks it; a removal lowers the wanted number of buckets by 5/4, so two merges at most catch up. */
void hash_index_remove(struct hash_index *x, uint64_t hash, uint32_t record)
{
    uint32_t *at = head_for(x, hash);
    while (*at != record) {
        CHECK(*at != 0);
        at = link_of(x, *at);
    }
    uint32_t *link = link_of(x, record);
    *at = *link;
    *link = 0;
    x->count--;
    for (int i = 0; i < 2 && x->buckets > MIN_BUCKETS && x->buckets > (uint64_t)x->count * 5 / 4; i++)
        merge(x);
    trim(x);
}

/* Plain readings. */
uint32_t hash_index_count(const struct hash_index *x) { return x->count; }
size_t hash_index_bytes(const struct hash_index *x) { return (x->touched + 4095) & ~(size_t)4095; }
