/*
 * Turns batches into transactions: the only code that changes tables. Used by one thread at a time; inside
 * the engine only.
 */
#ifndef HOLDFAST_ENGINE_WRITER_H
#define HOLDFAST_ENGINE_WRITER_H

#include "gateway/engine/batch.h"
#include "gateway/engine/engine_store.h"
#include "gateway/engine/kv.h"
#include "gateway/engine/record.h"

/* What changes with a transaction, and is taken back with it. */
struct writer_state {
    struct record_totals totals;
    uint64_t indexed;         /* the index is complete up to this number, */
    uint32_t unindexed;       /* and so many messages lie behind it, */
    uint64_t unindexed_bytes; /* which the log has grown by since */
    uint32_t appended;        /* messages since the last slice of removals */
    uint64_t sequence;        /* numbers up to this may be given out: on disk */
    uint64_t now_ms;          /* of the last tick; 0: none yet */
    bool tick_due;            /* a tick has come and its slice of maintenance has not been done */
    bool more;                /* maintenance has not finished its work */
    uint64_t refused;         /* messages for which there was no room */
    uint64_t sweeps;          /* complete walks over the sessions */
    struct record_key session_at, retained_at;      /* where the walks go on; size 0: at the beginning */
    uint64_t least_cursor, lag[ENGINE_LAG_BUCKETS]; /* of the walk that goes on */
    uint64_t oldest_cursor, last_lag[ENGINE_LAG_BUCKETS]; /* of the last complete one */
};

struct writer {
    struct kv *kv;
    struct kv_txn *t; /* while it writes */
    uint64_t max_age_ms, max_log_bytes;
    struct writer_state state;
    enum engine_result refusing;
    uint64_t dead_readers; /* cleared away so far */
    struct batch
        expired; /* OP_SESSION_REMOVE for every session that has ended by itself; taken by the owner */
    struct batch expired_now;
    struct engine_stats figures; /* what a look into the tables gives, as of the last transaction */
};

/* Reads the totals; makes them in a new file. False: damaged or not writable, and has been logged. */
bool writer_open(struct writer *w, struct kv *kv, const struct engine_settings *s);
void writer_free(struct writer *w);

/* Does all of a batch (which may be empty) and a slice of maintenance, and makes it durable. */
enum engine_result writer_run(struct writer *w, const struct batch *b);

/* Whether there is maintenance to go on with. */
static inline bool writer_has_more(const struct writer *w) { return w->state.more; }

/* ---- between the writer's files ---- */

/* A value that cannot be what it should be: logged, and KV_FAILED. */
enum kv_result writer_damaged(enum kv_table table);

enum kv_result write_append(struct writer *w, const struct batch_op *op);
enum kv_result write_retain(struct writer *w, const struct batch_op *op);
/* Removes a message and counts why. */
enum kv_result write_remove_message(struct writer *w, uint64_t seq, enum engine_expired reason);

enum kv_result write_session_put(struct writer *w, const struct batch_op *op);
enum kv_result write_session_remove(struct writer *w, const struct batch_op *op);
enum kv_result write_subscribe(struct writer *w, const struct batch_op *op);
enum kv_result write_unsubscribe(struct writer *w, const struct batch_op *op);
enum kv_result write_progress(struct writer *w, const struct batch_op *op);
/* Removes everything of a session. */
enum kv_result write_remove_session(struct writer *w, const struct record_key *key, uint64_t number);

/* Completes the index; on a full disk, by a few entries. */
enum kv_result writer_index(struct writer *w);
/* Notes up to where it is complete. */
enum kv_result writer_set_indexed(struct writer *w, uint64_t seq);
/* Counts what the index lacks, when the tables have been opened. */
enum kv_result writer_count_unindexed(struct writer *w);
/* Messages that the index may lack, and bytes of them: until then nothing is removed from the log either. */
#define INDEX_AT       512
#define INDEX_AT_BYTES (256u << 10)

/* One bounded slice: expired sessions and messages, retention, retained messages. `appends` is how many
 * messages came in with it: more are removed than come. Sets state.more. */
enum kv_result writer_maintain(struct writer *w, uint32_t appends);

#endif
