/*
 * Tables in memory, for the engine that keeps nothing: one skip list per table (Pugh, 1990), ordered by key.
 * Reader and writer are the same thread, a change is seen at once, and a transaction is a word only: the
 * writer never aborts here, since room() is asked before and nothing else can fail.
 */
#include "gateway/engine/kv.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/xmalloc.h"

#define MAX_LEVEL 20

struct entry {
    void *value; /* a block of its own, so that it can be replaced */
    uint32_t value_size;
    uint16_t key_size;
    uint16_t levels;
    struct entry *next[]; /* `levels` links, then the key's bytes */
};

struct list {
    struct entry *head[MAX_LEVEL];
    uint64_t count;
};

struct memory {
    struct kv kv;
    struct kv_txn txn;
    struct list table[KV_TABLES];
    uint64_t bytes, limit;
    uint32_t random;
};

static struct memory *memory_of(struct kv *kv) { return (struct memory *)(void *)kv; }

static struct list *list_of(struct kv_txn *t, enum kv_table table) { return &memory_of(t->kv)->table[table]; }

static char *key_of(struct entry *e) { return (char *)&e->next[e->levels]; }

/* As memcmp(), the shorter one first when it is the beginning of the other. */
static int compare(struct entry *e, struct kv_bytes key)
{
    size_t n = e->key_size < key.size ? e->key_size : key.size;
    int c = n ? memcmp(key_of(e), key.data, n) : 0;
    return c ? c : (e->key_size > key.size) - (e->key_size < key.size);
}

/* The first entry that is not less than the key; before[i] are the links that lead to it or over it. */
static struct entry *find(struct list *l, struct kv_bytes key, struct entry **before[MAX_LEVEL])
{
    struct entry **links = l->head;
    for (int i = MAX_LEVEL - 1; i >= 0; i--) {
        while (links[i] && compare(links[i], key) < 0)
            links = links[i]->next;
        before[i] = &links[i];
    }
    return *before[0];
}

/* 1 level with probability 3/4, 2 with 3/16, and so on. */
static uint16_t draw_levels(struct memory *m)
{
    uint16_t levels = 1;
    m->random ^= m->random << 13;
    m->random ^= m->random >> 17;
    m->random ^= m->random << 5;
    for (uint32_t bits = m->random; levels < MAX_LEVEL && (bits & 3) == 0; bits >>= 2)
        levels++;
    return levels;
}

static enum kv_result memory_get(struct kv_txn *t, enum kv_table table, struct kv_bytes key,
                                 struct kv_bytes *value)
{
    struct entry **before[MAX_LEVEL], *e = find(list_of(t, table), key, before);
    if (!e || compare(e, key) != 0)
        return KV_NOT_FOUND;
    *value = kv_bytes(e->value, e->value_size);
    return KV_OK;
}

/* Hands out an entry, or says that there is none. */
static enum kv_result give(struct entry *e, struct kv_bytes *key, struct kv_bytes *value)
{
    if (!e)
        return KV_NOT_FOUND;
    *key = kv_bytes(key_of(e), e->key_size);
    *value = kv_bytes(e->value, e->value_size);
    return KV_OK;
}

static enum kv_result memory_seek(struct kv_txn *t, enum kv_table table, struct kv_bytes *key,
                                  struct kv_bytes *value)
{
    struct entry **before[MAX_LEVEL];
    return give(find(list_of(t, table), *key, before), key, value);
}

static enum kv_result memory_last(struct kv_txn *t, enum kv_table table, struct kv_bytes *key,
                                  struct kv_bytes *value)
{
    struct entry *last = NULL, **links = list_of(t, table)->head;
    for (int i = MAX_LEVEL - 1; i >= 0; i--)
        for (; links[i]; links = links[i]->next)
            last = links[i];
    return give(last, key, value);
}

static uint64_t memory_count(struct kv_txn *t, enum kv_table table) { return list_of(t, table)->count; }

/* A new entry behind the links in `before`. */
static struct entry *insert(struct memory *m, struct list *l, struct kv_bytes key,
                            struct entry **before[MAX_LEVEL])
{
    uint16_t levels = draw_levels(m);
    struct entry *e = xcalloc(1, sizeof *e + levels * sizeof e->next[0] + key.size);
    e->levels = levels;
    e->key_size = (uint16_t)key.size;
    memcpy(key_of(e), key.data, key.size);
    for (unsigned i = 0; i < levels; i++) {
        e->next[i] = *before[i];
        *before[i] = e;
    }
    l->count++;
    m->bytes += key.size;
    return e;
}

static enum kv_result memory_reserve(struct kv_txn *t, enum kv_table table, struct kv_bytes key, size_t size,
                                     void **value)
{
    struct memory *m = memory_of(t->kv);
    struct list *l = list_of(t, table);
    struct entry **before[MAX_LEVEL], *e = find(l, key, before);
    CHECK(key.size >= 1 && key.size <= KV_KEY_MAX);
    if (!e || compare(e, key) != 0)
        e = insert(m, l, key, before);
    m->bytes += size;
    m->bytes -= e->value_size;
    if (!e->value || e->value_size != size) {
        free(e->value);
        e->value = xmalloc(size ? size : 1);
        e->value_size = (uint32_t)size;
    }
    *value = e->value;
    return KV_OK;
}

static enum kv_result memory_remove(struct kv_txn *t, enum kv_table table, struct kv_bytes key)
{
    struct memory *m = memory_of(t->kv);
    struct list *l = list_of(t, table);
    struct entry **before[MAX_LEVEL], *e = find(l, key, before);
    if (!e || compare(e, key) != 0)
        return KV_NOT_FOUND;
    for (unsigned i = 0; i < e->levels; i++)
        *before[i] = e->next[i];
    l->count--;
    m->bytes -= e->key_size + (uint64_t)e->value_size;
    free(e->value);
    free(e);
    return KV_OK;
}

static enum kv_result memory_room(struct kv *kv, uint64_t bytes)
{
    struct memory *m = memory_of(kv);
    return m->bytes + bytes <= m->limit ? KV_OK : KV_FULL;
}

static void memory_no_room(struct kv *kv) { (void)kv; }

static uint64_t memory_bytes(struct kv *kv) { return memory_of(kv)->bytes; }

static struct kv_txn *memory_reader_new(struct kv *kv) { return &memory_of(kv)->txn; }
static void memory_reader_free(struct kv_txn *t) { (void)t; }
static enum kv_result memory_begin(struct kv_txn *t)
{
    (void)t;
    return KV_OK;
}
static void memory_end(struct kv_txn *t) { (void)t; }
static enum kv_result memory_write_begin(struct kv *kv, struct kv_txn **out)
{
    *out = &memory_of(kv)->txn;
    return KV_OK;
}
static void memory_abort(struct kv_txn *t)
{
    (void)t;
    CHECK(!"a transaction in memory is never taken back");
}
static unsigned memory_clear_dead_readers(struct kv *kv)
{
    (void)kv;
    return 0;
}

static void memory_close(struct kv *kv)
{
    struct memory *m = memory_of(kv);
    for (unsigned i = 0; i < KV_TABLES; i++)
        for (struct entry *e = m->table[i].head[0], *next; e; e = next) {
            next = e->next[0];
            free(e->value);
            free(e);
        }
    free(m);
}

static const struct kv_ops memory_ops = {
    .close = memory_close,
    .reader_new = memory_reader_new,
    .reader_free = memory_reader_free,
    .read_begin = memory_begin,
    .read_end = memory_end,
    .write_begin = memory_write_begin,
    .commit = memory_begin,
    .abort = memory_abort,
    .get = memory_get,
    .seek = memory_seek,
    .last = memory_last,
    .count = memory_count,
    .reserve = memory_reserve,
    .remove = memory_remove,
    .room = memory_room,
    .no_room = memory_no_room,
    .file_bytes = memory_bytes,
    .clear_dead_readers = memory_clear_dead_readers,
};

/* Empty tables. */
struct kv *kv_memory_open(uint64_t limit)
{
    struct memory *m = xcalloc(1, sizeof *m);
    m->kv.ops = m->txn.ops = &memory_ops;
    m->txn.kv = &m->kv;
    m->limit = limit;
    m->random = 2463534242u;
    return &m->kv;
}
