/*
 * Reading the tables; inside the engine only. The verbs are engine_ops' own, in engine.h. A reader holds a
 * snapshot only while one of them runs.
 */
#ifndef HOLDFAST_ENGINE_READER_H
#define HOLDFAST_ENGINE_READER_H

#include "gateway/engine/engine.h"
#include "gateway/engine/kv.h"
#include "gateway/engine/record.h"

struct engine_reader {
    struct kv *kv;
    bool owns_kv;
    struct kv_txn *t;
    /* room for one session's parts */
    struct engine_subscription *subscription;
    struct engine_inflight *out;
    struct engine_owed *owed;
    uint16_t *in;
    size_t subscriptions, outs, ins, owes;
};

/* A reader of these tables; NULL and *why when there can be no more readers. */
struct engine_reader *reader_new(struct kv *kv, bool owns_kv, char *why);
void reader_close(struct engine_reader *r);
bool reader_session_get(struct engine_reader *r, const char *client_id, size_t len, engine_session_fn fn,
                        void *ctx);
size_t reader_note_get(struct engine_reader *r, const char *name, void *out, size_t max);
size_t reader_session_walk(struct engine_reader *r, const char *after, size_t len, size_t max,
                           engine_session_each_fn fn, void *ctx);
bool reader_retained_walk(struct engine_reader *r, const char *filter, size_t len, engine_match_fn match,
                          const char *after, size_t after_len, size_t max, engine_message_fn fn, void *ctx,
                          char *last, size_t *last_len);
uint64_t reader_newest(struct engine_reader *r);
bool reader_message_get(struct engine_reader *r, uint64_t seq, engine_message_fn fn, void *ctx);
struct engine_scan *scan_new(struct engine_reader *r, const struct engine_filter *filters, size_t n,
                             uint64_t after, engine_match_fn match);
void scan_free(struct engine_scan *s);
enum engine_scan_result scan_next(struct engine_scan *s, size_t max, engine_message_fn fn, void *ctx);
uint64_t scan_position(const struct engine_scan *s);
bool reader_verify(struct engine_reader *r, char *why);

#define READER_OPS                                                                                           \
    .reader_close = reader_close, .session_get = reader_session_get, .note_get = reader_note_get,            \
    .session_walk = reader_session_walk, .retained_walk = reader_retained_walk,                              \
    .reader_newest = reader_newest, .message_get = reader_message_get, .scan_new = scan_new,                 \
    .scan_free = scan_free, .scan_next = scan_next, .scan_position = scan_position, .verify = reader_verify

/* ---- a walk over a table of names, those that match a filter ---- */

struct name_walk {
    const char *filter;
    size_t len;
    engine_match_fn match;
    size_t literal;       /* bytes before the first wildcard: where names that can match lie together */
    bool exact;           /* no wildcard */
    bool parent;          /* "a/#", and "a" has not been looked at: it matches too */
    struct record_key at; /* go on from here */
};
enum name_walk_result {
    NAME_WALK_FOUND, /* *key, *value, *name */
    NAME_WALK_OTHER, /* that one did not match; go on */
    NAME_WALK_END,
    NAME_WALK_FAILED
};
/* The name of an entry, if it is a proper one. */
typedef bool (*name_walk_name_fn)(struct kv_bytes key, struct kv_bytes value, struct kv_bytes *name);

void name_walk_begin(struct name_walk *w, const char *filter, size_t len, engine_match_fn match);
/* Goes on after a name. */
void name_walk_after(struct name_walk *w, const char *name, size_t len);
/* One step: one look into the table. */
enum name_walk_result name_walk_step(struct name_walk *w, struct kv_txn *t, enum kv_table table,
                                     name_walk_name_fn name_of, struct kv_bytes *value,
                                     struct kv_bytes *name);

/* The newest number of a message, in the log or retained, that was ever written, as the snapshot has it. */
enum kv_result reader_head(struct kv_txn *t, uint64_t *head);
/* The number up to which the log's index is complete. */
enum kv_result reader_indexed(struct kv_txn *t, uint64_t *seq);

#endif
