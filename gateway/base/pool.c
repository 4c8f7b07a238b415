/*
 * Pools: the home of everything there is one of per connection, session, subscription or topic. Filled and
 * emptied by whoever owns that kind of record; read by /metrics through pool_each().
 *
 * A tree of bitmaps finds the lowest free id. Level 0 has one bit per id, 1 when it is live; a bit of a
 * higher level is 1 when the whole word below it is full. Looking for a free id reads one word per level,
 * four for a million. All levels lie in one region, the smallest first, so that a small pool touches a
 * single page for them:
 *
 *      | level 2 | level 1 ... | level 0 ............................. (opened as far as ids are) |
 *
 * A free record is always all zero: fresh pages are, and pool_release() clears what was used while it is
 * still in the cache. Emptiness of a chunk is read from level 0 too, there is no count per chunk.
 *
 * It does not keep ids from being reused at once; who holds ids over time must be told when a record goes.
 */
#include "gateway/base/pool.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "gateway/base/check.h"
#include "gateway/base/region.h"
#include "gateway/base/xmalloc.h"

#ifdef __SANITIZE_ADDRESS__
#define HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN 1
#endif
#endif
#ifdef HAVE_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(at, n)   ASAN_POISON_MEMORY_REGION((at), (n))
#define UNPOISON(at, n) ASAN_UNPOISON_MEMORY_REGION((at), (n))
#else
#define POISON(at, n)   ((void)(at), (void)(n))
#define UNPOISON(at, n) ((void)(at), (void)(n))
#endif

#define MAX_LEVELS  6  /* 64^6 > 2^32 */
#define CHUNK_SHIFT 14 /* memory is given back in chunks of 16 KiB: what stays behind after a storm is */
#define NO_CHUNK    SIZE_MAX /* at most one per pool, and a process has some twenty pools */

struct pool {
    struct pool_view view; /* first: pool_at() is inline */
    const char *name;
    uint32_t max, count;
    uint32_t top;      /* no id from here on is live */
    uint32_t open_ids; /* ids below this have memory, for record and bits */
    size_t spare;      /* an empty chunk that was kept, so that one record going up and down costs no calls */
    unsigned levels;
    uint64_t *level[MAX_LEVELS];
    struct region records, bits;
    struct pool *next; /* all pools, in order of creation */
};

static struct pool *first_pool;

/* Lays the levels out in one region, the top one first. */
static void reserve_bits(struct pool *p)
{
    size_t words[MAX_LEVELS], total = 0;
    size_t n = (size_t)p->max + 1;
    do {
        n = (n + 63) / 64;
        words[p->levels++] = n;
        total += n;
    } while (n > 1);
    region_reserve(&p->bits, total * sizeof(uint64_t));
    uint64_t *at = (uint64_t *)(void *)p->bits.base;
    for (unsigned l = p->levels; l-- > 0;) {
        p->level[l] = at;
        at += words[l];
    }
}

/* Adds to the end of the list of all pools. */
static void enlist(struct pool *p)
{
    struct pool **at = &first_pool;
    while (*at)
        at = &(*at)->next;
    *at = p;
}

/* Reserves everything, opens nothing. */
struct pool *pool_new(const char *name, size_t record_size, uint32_t max)
{
    CHECK(record_size > 0 && max > 0 && max < UINT32_MAX - 63);
    struct pool *p = xcalloc(1, sizeof *p);
    p->name = name;
    p->max = max;
    p->top = 1;
    p->spare = NO_CHUNK;
    region_reserve(&p->records, ((size_t)max + 1) * record_size);
    p->view = (struct pool_view){.base = p->records.base, .record_size = record_size};
    reserve_bits(p);
    enlist(p);
    return p;
}

/* Keeps the records out of core dumps. A kernel that does not know how is no reason to fail. */
void pool_keep_secret(struct pool *p) { madvise(p->records.base, p->records.size, MADV_DONTDUMP); }

/* Gives everything back, live records included. */
void pool_free(struct pool *p)
{
    if (!p)
        return;
    struct pool **at = &first_pool;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    UNPOISON(p->records.base, p->records.open);
    region_free(&p->records);
    region_free(&p->bits);
    free(p);
}

/* Marks an id live, and the words that are full now in the levels above. */
static void set_live(struct pool *p, uint32_t id)
{
    for (unsigned l = 0; l < p->levels; l++, id >>= 6) {
        uint64_t *word = &p->level[l][id >> 6];
        *word |= UINT64_C(1) << (id & 63);
        if (*word != UINT64_MAX)
            break;
    }
}

/* Marks an id free, and the words that are no longer full. */
static void set_free(struct pool *p, uint32_t id)
{
    for (unsigned l = 0; l < p->levels; l++, id >>= 6) {
        uint64_t *word = &p->level[l][id >> 6];
        bool was_full = *word == UINT64_MAX;
        *word &= ~(UINT64_C(1) << (id & 63));
        if (!was_full)
            break;
    }
}

/* Opens memory for at least one more id. Id 0 is marked live for good. */
static bool open_more(struct pool *p)
{
    size_t size = p->view.record_size, before = p->records.open;
    if (!region_open(&p->records, ((size_t)p->count + 2) * size)) /* id 0, the live ones, one more */
        return false;
    POISON(p->records.base + before, p->records.open - before);
    size_t ids = p->records.open / size;
    if (ids > (size_t)p->max + 1)
        ids = (size_t)p->max + 1;
    size_t words = (size_t)(p->level[0] - p->level[p->levels - 1]) + (ids + 63) / 64;
    if (!region_open(&p->bits, words * sizeof(uint64_t)))
        return false;
    if (p->open_ids == 0)
        set_live(p, 0);
    p->open_ids = (uint32_t)ids;
    return true;
}

/* The lowest id that is not live; the caller has made sure that one is open, so every word read is. */
static uint32_t lowest_free(const struct pool *p)
{
    size_t i = 0;
    for (unsigned l = p->levels; l-- > 0;)
        i = i * 64 + (size_t)__builtin_ctzll(~p->level[l][i]);
    return (uint32_t)i;
}

/* The first and the last chunk in which the record lies. */
static inline size_t first_chunk(const struct pool *p, uint32_t id)
{
    return (size_t)id * p->view.record_size >> CHUNK_SHIFT;
}
static inline size_t last_chunk(const struct pool *p, uint32_t id)
{
    return (((size_t)id + 1) * p->view.record_size - 1) >> CHUNK_SHIFT;
}

/* Takes the lowest free id. */
uint32_t pool_alloc(struct pool *p)
{
    if (p->count >= p->max)
        return 0;
    if (p->count + 1 >= p->open_ids && !open_more(p))
        return 0;
    uint32_t id = lowest_free(p);
    set_live(p, id);
    p->count++;
    if (id >= p->top)
        p->top = id + 1;
    if (p->spare >= first_chunk(p, id) && p->spare <= last_chunk(p, id))
        p->spare = NO_CHUNK;
    UNPOISON(pool_at(p, id), p->view.record_size);
    return id;
}

/* Whether any id in [from, to] is live. */
static bool any_live(const struct pool *p, uint32_t from, uint32_t to)
{
    const uint64_t *bits = p->level[0];
    uint64_t mask = UINT64_MAX << (from & 63);
    for (uint32_t w = from >> 6; w < to >> 6; w++, mask = UINT64_MAX)
        if (bits[w] & mask)
            return true;
    return (bits[to >> 6] & mask & UINT64_MAX >> (63 - (to & 63))) != 0;
}

/* Whether a chunk has a live record, or part of one. */
static bool chunk_used(const struct pool *p, size_t chunk)
{
    size_t from = (chunk << CHUNK_SHIFT) / p->view.record_size;
    size_t to = (((chunk + 1) << CHUNK_SHIFT) - 1) / p->view.record_size;
    if (from == 0)
        from = 1;
    if (to >= p->open_ids)
        to = p->open_ids - 1;
    return from <= to && any_live(p, (uint32_t)from, (uint32_t)to);
}

/* A chunk has become empty: one empty chunk is kept, the lower one, because it will be used first. */
static void chunk_emptied(struct pool *p, size_t chunk)
{
    size_t other = p->spare;
    p->spare = chunk < other ? chunk : other;
    if (other == NO_CHUNK || other == chunk)
        return;
    size_t from = (chunk > other ? chunk : other) << CHUNK_SHIFT;
    region_give_back(&p->records, from, from + ((size_t)1 << CHUNK_SHIFT));
}

/* Lowers top below the highest id when that was released. Each word passed here was filled one id at a time,
 * because an id is only taken at the top when all below are live. */
static void lower_top(struct pool *p)
{
    uint32_t w = (p->top - 1) >> 6;
    while (w > 0 && p->level[0][w] == 0)
        w--;
    p->top = w * 64 + 64 - (uint32_t)__builtin_clzll(p->level[0][w]); /* id 0 is always set */
}

/* Clears the record, marks it free, and gives chunks back that have become empty. */
void pool_release(struct pool *p, uint32_t id)
{
    CHECK(pool_is_live(p, id));
    memset(pool_at(p, id), 0, p->view.record_size);
    POISON(pool_at(p, id), p->view.record_size);
    set_free(p, id);
    p->count--;
    if (id + 1 == p->top)
        lower_top(p);
    for (size_t c = first_chunk(p, id); c <= last_chunk(p, id); c++)
        if (!chunk_used(p, c))
            chunk_emptied(p, c);
}

/* Whether this id has been handed out and not released. */
bool pool_is_live(const struct pool *p, uint32_t id)
{
    return id != 0 && id < p->open_ids && (p->level[0][id >> 6] >> (id & 63) & 1);
}

/* The next live id, a word of 64 at a time. */
uint32_t pool_next(const struct pool *p, uint32_t after)
{
    if (after >= p->top - 1)
        return 0;
    uint32_t id = after + 1;
    uint64_t mask = UINT64_MAX << (id & 63);
    for (uint32_t w = id >> 6; w <= (p->top - 1) >> 6; w++, mask = UINT64_MAX) {
        uint64_t live = p->level[0][w] & mask;
        if (live)
            return w * 64 + (uint32_t)__builtin_ctzll(live);
    }
    return 0;
}

/* Plain readings. */
const char *pool_name(const struct pool *p) { return p->name; }
uint32_t pool_count(const struct pool *p) { return p->count; }
size_t pool_record_size(const struct pool *p) { return p->view.record_size; }
uint32_t pool_bound(const struct pool *p) { return p->top; }

/* Chunks that hold something or are kept, and the bits of the ids in them; counted anew at each call, which
 * reads one bit per id up to the highest live one. */
size_t pool_bytes(const struct pool *p)
{
    if (p->open_ids == 0)
        return 0;
    size_t chunks = p->spare != NO_CHUNK;
    for (size_t c = 0, end = last_chunk(p, p->top - 1); c <= end; c++)
        chunks += chunk_used(p, c);
    size_t words = (size_t)(p->level[0] - p->level[p->levels - 1]) + ((size_t)p->top + 63) / 64;
    size_t bits = (words * sizeof(uint64_t) + 4095) & ~(size_t)4095;
    return (chunks << CHUNK_SHIFT) + bits;
}

/* Walks the list of all pools. */
struct pool *pool_each(struct pool *previous) { return previous ? previous->next : first_pool; }
