/*
 * The writer: takes a batch and makes one transaction of it. The store's thread feeds it (or, without one,
 * the store itself). When there is no room, messages are refused and everything else is done; when even that
 * fails, nothing is, and the tables are as they were.
 */
#include "gateway/engine/writer.h"

#include "gateway/base/check.h"
#include "gateway/base/log.h"
#include "gateway/engine/reader.h"

LOG_EVENT_ONCE_A_SECOND(damaged_event, "data_file_damaged", LOG_LEVEL_ERROR);
LOG_EVENT(refusing_event, "messages_refused", LOG_LEVEL_ERROR);
LOG_EVENT(accepting_event, "messages_accepted_again", LOG_LEVEL_NOTICE);

/* Room that there has to be before messages are let in again. */
#define ROOM_TO_GO_ON 65536

static const char totals_key[] = "totals", sequence_key[] = "sequence";

static struct kv_bytes text(const char *s) { return kv_bytes(s, strlen(s)); }

enum kv_result writer_damaged(enum kv_table table)
{
    static const char *const names[] = {
#define X(id, name) name,
        KV_TABLE_LIST
#undef X
    };
    LOG(damaged_event, LOG_STR("table", names[table]));
    return KV_FAILED;
}

static enum kv_result put_sequence(struct writer *w)
{
    uint64_t le = htole64(w->state.sequence);
    return kv_put(w->t, KV_META, text(sequence_key), kv_bytes(&le, sizeof le));
}

static enum kv_result write_sequence(struct writer *w, const struct batch_op *op)
{
    w->state.sequence = op->number[0];
    return put_sequence(w);
}

static enum kv_result write_note(struct writer *w, const struct batch_op *op)
{
    struct record_key key;
    key_note(&key, batch_bytes(op, 0), op->len[0]);
    return kv_put(w->t, KV_META, key_bytes(&key), kv_bytes(batch_bytes(op, 1), op->len[1]));
}

static enum kv_result take_tick(struct writer *w, const struct batch_op *op)
{
    w->state.now_ms = op->number[0];
    w->state.tick_due = true;
    w->dead_readers += w->kv->ops->clear_dead_readers(w->kv);
    return KV_OK;
}

static enum kv_result (*const apply[OP_TYPES])(struct writer *w, const struct batch_op *op) = {
    [OP_APPEND] = write_append,           [OP_RETAIN] = write_retain,
    [OP_SESSION_PUT] = write_session_put, [OP_SESSION_REMOVE] = write_session_remove,
    [OP_SUBSCRIBE] = write_subscribe,     [OP_UNSUBSCRIBE] = write_unsubscribe,
    [OP_PROGRESS] = write_progress,       [OP_NOTE] = write_note,
    [OP_SEQUENCE] = write_sequence,       [OP_TICK] = take_tick,
};

/* Whether an operation needs new room for a message. Clearing a retained one does not. */
static bool brings_message(const struct batch_op *op)
{
    return op->type == OP_APPEND || (op->type == OP_RETAIN && op->len[2] > 0);
}

/* All operations, or all but messages. */
static enum kv_result apply_all(struct writer *w, const struct batch *b, bool messages)
{
    enum kv_result r = KV_OK;
    for (const struct batch_op *op = batch_next(b, NULL); op && r == KV_OK; op = batch_next(b, op)) {
        if (!messages && brings_message(op))
            w->state.refused++;
        else if (messages || op->type != OP_PROGRESS || !(op->flags & OP_WITH_MESSAGES))
            r = apply[op->type](w, op);
    }
    return r;
}

static enum kv_result put_totals(struct writer *w)
{
    void *at;
    enum kv_result r = kv_reserve(w->t, KV_META, text(totals_key), RECORD_TOTALS_SIZE, &at);
    if (r == KV_OK)
        record_totals_write(at, &w->state.totals);
    return r;
}

/* The number and the time of the log's first message (or its last); 0 when it is empty. */
static void look_at(struct writer *w, bool last, uint64_t *seq, uint64_t *time_ms)
{
    struct kv_bytes key = kv_bytes("", 1), value;
    struct record_message m = {0};
    enum kv_result r = last ? kv_last(w->t, KV_LOG, &key, &value) : kv_seek(w->t, KV_LOG, &key, &value);
    bool found = r == KV_OK && record_message_read(value, &m);
    *seq = found ? key_first(key) : 0;
    *time_ms = found ? m.time_ms : 0;
}

/* The figures as this transaction leaves them. */
static void take_figures(struct writer *w, struct engine_stats *f)
{
    uint64_t ignored;
    f->messages = kv_count(w->t, KV_LOG);
    f->topics = kv_count(w->t, KV_TOPICS);
    f->sessions = kv_count(w->t, KV_SESSIONS);
    f->retained = kv_count(w->t, KV_RETAINED);
    look_at(w, false, &f->oldest_seq, &f->oldest_ms);
    look_at(w, true, &f->newest_seq, &ignored);
}

/* One try at a transaction; on failure everything is as before. */
static enum kv_result transact(struct writer *w, const struct batch *b, bool messages)
{
    struct writer_state before = w->state;
    struct engine_stats figures = {0};
    enum kv_result r = w->kv->ops->write_begin(w->kv, &w->t);
    if (r != KV_OK)
        return r;
    r = apply_all(w, b, messages);
    if (r == KV_OK)
        r = writer_maintain(w, b->appends);
    bool changes = memcmp(&before.totals, &w->state.totals, sizeof before.totals) != 0;
    if (w->refusing != ENGINE_OK)
        changes = true; /* pages that were freed can be used when a transaction has followed */
    if (r == KV_OK && changes)
        r = put_totals(w);
    if (r == KV_OK) {
        take_figures(w, &figures);
        r = w->kv->ops->commit(w->t);
    } else {
        w->kv->ops->abort(w->t);
    }
    if (r == KV_OK) {
        w->figures = figures;
        batch_move(&w->expired, &w->expired_now);
        return r;
    }
    batch_clear(&w->expired_now);
    w->state = before;
    return r;
}

/* Begins and ends refusing messages, and says so. */
static void set_refusing(struct writer *w, enum engine_result why)
{
    if (why == w->refusing)
        return;
    if (why == ENGINE_OK)
        LOG(accepting_event);
    else
        LOG(refusing_event, LOG_STR("why", engine_result_text(why)));
    w->refusing = why;
}

static enum engine_result reason_of(enum kv_result r)
{
    return r == KV_OK         ? ENGINE_OK
           : r == KV_FULL     ? ENGINE_FULL
           : r == KV_NO_SPACE ? ENGINE_NO_SPACE
                              : ENGINE_FAILED;
}

/* Whether the batch's messages are to be tried. */
static enum engine_result room_for(struct writer *w, const struct batch *b)
{
    uint64_t bytes = b->message_bytes;
    if (w->refusing != ENGINE_OK && bytes < ROOM_TO_GO_ON)
        bytes = ROOM_TO_GO_ON;
    return bytes ? reason_of(w->kv->ops->room(w->kv, bytes)) : ENGINE_OK;
}

enum engine_result writer_run(struct writer *w, const struct batch *b)
{
    enum engine_result room = room_for(w, b);
    enum kv_result r = transact(w, b, room == ENGINE_OK);
    if (room == ENGINE_OK && b->message_bytes && (r == KV_FULL || r == KV_NO_SPACE)) {
        w->kv->ops->no_room(w->kv);
        room = reason_of(r);
        r = transact(w, b, false);
    }
    if (r != KV_OK) {
        set_refusing(w, reason_of(r));
        w->state.more = false;
        return ENGINE_FAILED;
    }
    set_refusing(w, room);
    return b->message_bytes ? room : ENGINE_OK;
}

/* Up to where the index is complete; where nothing says so, it is, as it was in format 1. */
static enum kv_result load_indexed(struct writer *w, struct kv_txn *t)
{
    enum kv_result r = reader_indexed(t, &w->state.indexed);
    return r == KV_OK ? writer_count_unindexed(w) : writer_damaged(KV_META);
}

/* Reads what is counted; a file without it is new. */
static enum kv_result load(struct writer *w, struct kv_txn *t)
{
    struct kv_bytes value;
    uint64_t le;
    enum kv_result r = kv_get(t, KV_META, text(totals_key), &value);
    if (r == KV_NOT_FOUND)
        return KV_OK;
    if (r != KV_OK || !record_totals_read(value, &w->state.totals))
        return writer_damaged(KV_META);
    r = kv_get(t, KV_META, text(sequence_key), &value);
    if (r != KV_OK || value.size != sizeof le)
        return writer_damaged(KV_META);
    memcpy(&le, value.data, sizeof le);
    w->state.sequence = le64toh(le);
    return load_indexed(w, t);
}

bool writer_open(struct writer *w, struct kv *kv, const struct engine_settings *s)
{
    *w = (struct writer){.kv = kv, .max_age_ms = s->max_age_ms, .max_log_bytes = s->max_log_bytes};
    w->state.least_cursor = UINT64_MAX;
    if (kv->ops->write_begin(kv, &w->t) != KV_OK)
        return false;
    enum kv_result r = load(w, w->t);
    take_figures(w, &w->figures);
    if (r == KV_OK)
        r = put_totals(w);
    if (r == KV_OK)
        r = put_sequence(w);
    if (r == KV_OK)
        r = writer_set_indexed(w, w->state.indexed);
    if (r == KV_OK)
        return kv->ops->commit(w->t) == KV_OK;
    kv->ops->abort(w->t);
    return false;
}

void writer_free(struct writer *w)
{
    batch_free(&w->expired);
    batch_free(&w->expired_now);
}
