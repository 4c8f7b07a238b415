/*
 * A pool of equally large records addressed by 32-bit ids instead of pointers.
 *
 * The address space for `max` records is reserved once (PROT_NONE) and opened chunk by chunk as it is needed,
 * so an id is turned into an address by one multiplication and records never move. Allocation always takes
 * the lowest free id (a tree of bitmaps, find-first-zero), which keeps the live records together, so that
 * after a storm whole chunks become empty; an empty chunk is given back to the system (MADV_DONTNEED).
 *
 * Id 0 is never handed out: it means "none". A fresh record is all zero bytes. Under AddressSanitizer
 * free records are poisoned.
 *
 * Every pool has a name, a count and a byte size, and can be listed for /metrics.
 */
#ifndef HOLDFAST_BASE_POOL_H
#define HOLDFAST_BASE_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pool;

/*
 * A pool called `name` (static string) for at most `max` records of `record_size` bytes, `max` < 2^32 - 64.
 * Aborts if the address space cannot be reserved. Not thread safe, like everything here.
 */
struct pool *pool_new(const char *name, size_t record_size, uint32_t max);
void pool_free(struct pool *p);

/* The records hold keys: core dumps leave them out. Call it before the first pool_alloc(). */
void pool_keep_secret(struct pool *p);

/* The id of a zeroed record, or 0 when `max` records are in use or the system refuses memory. */
uint32_t pool_alloc(struct pool *p) __attribute__((warn_unused_result));

/* Gives the record back. The id may be handed out again by the very next pool_alloc(). */
void pool_release(struct pool *p, uint32_t id);

/* What pool_at() needs; read only, kept outside so that the access is inline. */
struct pool_view {
    unsigned char *base;
    size_t record_size;
};

/* The record's address, valid until it is released. `id` must be live. */
static inline void *pool_at(const struct pool *p, uint32_t id)
{
    const struct pool_view *v = (const struct pool_view *)(const void *)p;
    return v->base + (size_t)id * v->record_size;
}

bool pool_is_live(const struct pool *p, uint32_t id);

/* The lowest live id greater than `after` (start with 0), or 0 when there is none: walks a pool that may
 * change meanwhile. */
uint32_t pool_next(const struct pool *p, uint32_t after);

const char *pool_name(const struct pool *p);
uint32_t pool_count(const struct pool *p);
/* Bytes of memory used for records and bitmaps (what the pool can have resident), not of address space. Reads
 * a bit per id: for once a second, not for every record. */
size_t pool_bytes(const struct pool *p);
size_t pool_record_size(const struct pool *p);
/* One more than the highest live id (1 when there is none): what a bitmap over the ids must hold. */
uint32_t pool_bound(const struct pool *p);
/* All pools of this process in order of creation: pool_each(NULL) is the first, NULL the end. */
struct pool *pool_each(struct pool *previous);

#endif
