/*
 * A hash index from keys to records that live elsewhere (in pools): linear hashing with chains that run
 * through a 32-bit link inside the records.
 *
 * Growing splits one bucket per insertion and shrinking merges one per removal, so there is never a pause to
 * rehash and never a second copy; the bucket array is address space opened page by page and given back. Cost:
 * 4 bytes per record for its bucket, and the record's own link.
 *
 *      buckets  0 1 2 3 4 5 | 0' 1'          split pointer at 2: buckets 0 and 1 are already split over
 *               ^^^ split                     the doubled range, the others still answer for two.
 */
#ifndef HOLDFAST_BASE_HASH_INDEX_H
#define HOLDFAST_BASE_HASH_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hash_index;

struct hash_index_ops {
    /* The record's link to the next one in its bucket; owned by the index while the record is in it. */
    uint32_t *(*link)(void *ctx, uint32_t record);
    /* The record's hash, the same value it was inserted with: recomputed when its bucket splits, or stored in
     * it. */
    uint64_t (*hash)(void *ctx, uint32_t record);
    /* Whether the record has this key. */
    bool (*equals)(void *ctx, uint32_t record, const void *key, size_t key_len);
};

/* An index for at most `max` records. `ops` must outlive it. */
struct hash_index *hash_index_new(const struct hash_index_ops *ops, void *ctx, uint32_t max);
void hash_index_free(struct hash_index *x);

/* The record with this key, or 0. `hash` is the key's. */
uint32_t hash_index_find(const struct hash_index *x, uint64_t hash, const void *key, size_t key_len);

/* Puts a record in; the caller has made sure that its key is not there yet. Always succeeds. */
void hash_index_insert(struct hash_index *x, uint64_t hash, uint32_t record);

/* Takes the record out. It must be in. */
void hash_index_remove(struct hash_index *x, uint64_t hash, uint32_t record);

uint32_t hash_index_count(const struct hash_index *x);
size_t hash_index_bytes(const struct hash_index *x);

#endif
