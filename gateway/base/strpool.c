/*
 * Strings in pools: one pool per size class, made when the first string of that class comes. Filled with
 * client ids by the session table, with filters and their levels by the topic tree.
 *
 * A slot is two bytes of length and the bytes themselves. Classes are 4 bytes apart where client ids and
 * topic names lie, so that a string of 12 to 26 bytes costs at most 5 bytes more than its own length, and
 * then a quarter to a half apart. It does not share equal strings.
 */
#include "gateway/base/strpool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/pool.h"
#include "gateway/base/xmalloc.h"

#define CLASSES     32
#define ID_BITS     27
#define ID_MASK     ((UINT32_C(1) << ID_BITS) - 1)
#define LENGTH_SIZE 2
#define CLASS_BYTES (UINT64_C(16) << 30) /* address space of one class, at most */

static const uint32_t class_size[CLASSES] = {
    12,  16,  20,  24,  28,   32,   40,   48,   56,   64,   80,   96,    128,   160,   192,   256,
    320, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 40960, 65540,
};

struct strpool {
    uint32_t max;
    char name[16];
    struct pool *pool[CLASSES];
    char pool_name[CLASSES][28];
};

/* No pool yet, only what they will be called. */
struct strpool *strpool_new(const char *name, uint32_t max)
{
    struct strpool *s = xcalloc(1, sizeof *s);
    s->max = max;
    CHECK(snprintf(s->name, sizeof s->name, "%s", name) < (int)sizeof s->name);
    return s;
}

/* Frees the strings too. */
void strpool_free(struct strpool *s)
{
    if (!s)
        return;
    for (unsigned c = 0; c < CLASSES; c++)
        pool_free(s->pool[c]);
    free(s);
}

/* The smallest class with room for n bytes. */
static unsigned class_for(size_t n)
{
    unsigned c = 0;
    while (class_size[c] < n)
        c++;
    return c;
}

/* The class's pool, made at its first use. */
static struct pool *class_pool(struct strpool *s, unsigned c)
{
    if (s->pool[c])
        return s->pool[c];
    uint64_t max = CLASS_BYTES / class_size[c];
    if (max > s->max)
        max = s->max;
    if (max > ID_MASK)
        max = ID_MASK;
    snprintf(s->pool_name[c], sizeof s->pool_name[c], "%s:%u", s->name, class_size[c]);
    s->pool[c] = pool_new(s->pool_name[c], class_size[c], (uint32_t)max);
    return s->pool[c];
}

/* The slot of a handle. */
static inline unsigned char *slot_at(const struct strpool *s, uint32_t handle)
{
    return pool_at(s->pool[handle >> ID_BITS], handle & ID_MASK);
}

/* Copies the string into a slot. */
uint32_t strpool_put(struct strpool *s, const char *str, size_t len)
{
    CHECK(len <= UINT16_MAX);
    unsigned c = class_for(len + LENGTH_SIZE);
    uint32_t id = pool_alloc(class_pool(s, c));
    if (!id)
        return 0;
    uint32_t handle = (uint32_t)c << ID_BITS | id;
    unsigned char *slot = slot_at(s, handle);
    uint16_t stored = (uint16_t)len;
    memcpy(slot, &stored, LENGTH_SIZE);
    if (len)
        memcpy(slot + LENGTH_SIZE, str, len);
    return handle;
}

/* Frees the slot. */
void strpool_release(struct strpool *s, uint32_t handle)
{
    pool_release(s->pool[handle >> ID_BITS], handle & ID_MASK);
}

/* Where the string is. */
const char *strpool_get(const struct strpool *s, uint32_t handle, size_t *len)
{
    const unsigned char *slot = slot_at(s, handle);
    uint16_t stored;
    memcpy(&stored, slot, LENGTH_SIZE);
    *len = stored;
    return (const char *)slot + LENGTH_SIZE;
}

/* Whether it is this string. */
bool strpool_equals(const struct strpool *s, uint32_t handle, const char *str, size_t len)
{
    size_t have;
    const char *own = strpool_get(s, handle, &have);
    return have == len && (len == 0 || memcmp(own, str, len) == 0);
}
