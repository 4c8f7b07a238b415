/*
 * Ordered tables of keys and values, inside the engine only: in memory (kv_memory.c) or in an LMDB file
 * (kv_lmdb.c). Keys are compared as bytes. What a value points to is valid until the next change in the same
 * transaction, or its end.
 */
#ifndef HOLDFAST_ENGINE_KV_H
#define HOLDFAST_ENGINE_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One row per table; the second column is its name in the file. */
#define KV_TABLE_LIST                                                                                        \
    X(KV_META, "meta")                                                                                       \
    X(KV_LOG, "log")                                                                                         \
    X(KV_TOPICS, "topics")                                                                                   \
    X(KV_INDEX, "index")                                                                                     \
    X(KV_EXPIRY, "expiry")                                                                                   \
    X(KV_SESSIONS, "sessions")                                                                               \
    X(KV_SUBSCRIPTIONS, "subscriptions")                                                                     \
    X(KV_PROGRESS, "progress")                                                                               \
    X(KV_RETAINED, "retained")
enum kv_table {
#define X(id, name) id,
    KV_TABLE_LIST
#undef X
        KV_TABLES
};

#define KV_KEY_MAX 511

enum kv_result {
    KV_OK,
    KV_NOT_FOUND,
    KV_FULL,     /* the file's limit */
    KV_NO_SPACE, /* the disk's */
    KV_FAILED    /* anything else; has been logged */
};

struct kv_bytes {
    const void *data;
    size_t size;
};

struct kv;
struct kv_txn;

struct kv_ops {
    void (*close)(struct kv *kv);
    /* A reader with a transaction of its own, used between read_begin and read_end by one thread. */
    struct kv_txn *(*reader_new)(struct kv *kv);
    void (*reader_free)(struct kv_txn *t);
    enum kv_result (*read_begin)(struct kv_txn *t);
    void (*read_end)(struct kv_txn *t);
    /* The one write transaction: begin, commit and abort in the same thread. */
    enum kv_result (*write_begin)(struct kv *kv, struct kv_txn **out);
    enum kv_result (*commit)(struct kv_txn *t);
    void (*abort)(struct kv_txn *t);

    enum kv_result (*get)(struct kv_txn *t, enum kv_table table, struct kv_bytes key, struct kv_bytes *value);
    /* The first entry whose key is not less than *key; *key becomes its key. */
    enum kv_result (*seek)(struct kv_txn *t, enum kv_table table, struct kv_bytes *key,
                           struct kv_bytes *value);
    enum kv_result (*last)(struct kv_txn *t, enum kv_table table, struct kv_bytes *key,
                           struct kv_bytes *value);
    uint64_t (*count)(struct kv_txn *t, enum kv_table table);
    /* Makes or replaces an entry of this size; the caller fills *value at once. */
    enum kv_result (*reserve)(struct kv_txn *t, enum kv_table table, struct kv_bytes key, size_t size,
                              void **value);
    enum kv_result (*remove)(struct kv_txn *t, enum kv_table table, struct kv_bytes key);

    /* Whether there is room for about this many bytes of new entries: KV_OK, KV_FULL or KV_NO_SPACE. */
    enum kv_result (*room)(struct kv *kv, uint64_t bytes);
    /* There was none in spite of room(): a transaction has failed for want of it. */
    void (*no_room)(struct kv *kv);
    uint64_t (*file_bytes)(struct kv *kv);
    /* Clears away readers whose process is gone; how many. */
    unsigned (*clear_dead_readers)(struct kv *kv);
};

/* First members of both kinds' own structs. */
struct kv {
    const struct kv_ops *ops;
};
struct kv_txn {
    const struct kv_ops *ops;
    struct kv *kv;
};

/* At most `limit` bytes of keys and values. */
struct kv *kv_memory_open(uint64_t limit);

struct kv_lmdb_settings {
    const char *file;
    bool read_only; /* another process has it open for writing */
    bool no_sync;
    uint32_t format;         /* stored in a new file; of an old one, the greatest that is understood */
    uint64_t limit, reserve; /* bytes: of the file, and of disk space held ahead of its end */
};
enum kv_open_result {
    KV_OPEN_OK,
    KV_OPEN_FOREIGN, /* an LMDB file that holds something else */
    KV_OPEN_NEWER,   /* of a greater format: *code */
    KV_OPEN_EMPTY,   /* read only, and nothing is there yet */
    KV_OPEN_ERROR    /* *code: errno, or LMDB's own */
};
enum kv_open_result kv_lmdb_open(const struct kv_lmdb_settings *s, struct kv **out, int *code);
/* What *code means. */
const char *kv_lmdb_error(int code);
/* Writes what an open file holds to a new one, which is not there yet, without pages that hold nothing. Takes
 * as long as that takes. An error as in *code. */
int kv_lmdb_copy(struct kv *kv, const char *to);

static inline struct kv_bytes kv_bytes(const void *data, size_t size)
{
    return (struct kv_bytes){.data = data, .size = size};
}
static inline enum kv_result kv_get(struct kv_txn *t, enum kv_table table, struct kv_bytes key,
                                    struct kv_bytes *value)
{
    return t->ops->get(t, table, key, value);
}
static inline enum kv_result kv_seek(struct kv_txn *t, enum kv_table table, struct kv_bytes *key,
                                     struct kv_bytes *value)
{
    return t->ops->seek(t, table, key, value);
}
static inline enum kv_result kv_last(struct kv_txn *t, enum kv_table table, struct kv_bytes *key,
                                     struct kv_bytes *value)
{
    return t->ops->last(t, table, key, value);
}
static inline uint64_t kv_count(struct kv_txn *t, enum kv_table table) { return t->ops->count(t, table); }
static inline enum kv_result kv_reserve(struct kv_txn *t, enum kv_table table, struct kv_bytes key,
                                        size_t size, void **value)
{
    return t->ops->reserve(t, table, key, size, value);
}
static inline enum kv_result kv_remove(struct kv_txn *t, enum kv_table table, struct kv_bytes key)
{
    return t->ops->remove(t, table, key);
}
/* Puts a value that is there already. */
enum kv_result kv_put(struct kv_txn *t, enum kv_table table, struct kv_bytes key, struct kv_bytes value);

#endif
