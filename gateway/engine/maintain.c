/*
 * What the writer does besides what it is told, in slices that are bounded and ride in the same transaction
 * as a batch: walks over the sessions (which have expired, and how far behind they are), removes messages
 * that have expired, are too old or too many, and retained messages that have expired. Nothing is removed
 * from the log before the sessions have been seen once, so that it is known what goes unread.
 */
#include "gateway/engine/writer.h"

/* Entries looked at or removed in one slice; a slice of these takes a few milliseconds at the most. */
#define SESSIONS_PER_SLICE 2048
#define RETAINED_PER_SLICE 512
#define MESSAGES_PER_SLICE 256
/* On a full disk: each may copy three pages before it frees one. */
#define MESSAGES_WHEN_FULL 16

/* The upper ends of the lag's buckets, behind "none". */
static const uint64_t lag_ms[ENGINE_LAG_BUCKETS - 2] = {60000,         600000,     3600000,
                                                        6 * 3600000ul, 86400000ul, 7 * 86400000ul};

/* The walk's next key: the one behind the key it stopped at. Keys hold no more than NAME_KEY_LONG bytes. */
static struct kv_bytes next_key(struct record_key *at)
{
    at->bytes[at->size] = 0;
    return kv_bytes(at->bytes, at->size + 1);
}

/* Has a session's time passed? */
static bool is_over(const struct engine_session *s, uint64_t now)
{
    return s->disconnected_ms && s->expiry_s != ENGINE_EXPIRY_NEVER &&
           s->disconnected_ms + s->expiry_s * UINT64_C(1000) <= now;
}

/* Which bucket of the lag: by the age of the oldest message behind the cursor. */
static enum kv_result lag_bucket(struct writer *w, uint64_t cursor, unsigned *bucket)
{
    struct record_key from;
    struct kv_bytes key, value;
    struct record_message m;
    *bucket = 0;
    if (cursor >= w->state.totals.head)
        return KV_OK;
    key_u64(&from, cursor + 1);
    key = key_bytes(&from);
    enum kv_result r = kv_seek(w->t, KV_LOG, &key, &value);
    if (r != KV_OK)
        return r == KV_NOT_FOUND ? KV_OK : r;
    if (!record_message_read(value, &m))
        return writer_damaged(KV_LOG);
    uint64_t age = w->state.now_ms > m.time_ms ? w->state.now_ms - m.time_ms : 0;
    for (*bucket = 1; *bucket < ENGINE_LAG_BUCKETS - 1 && age > lag_ms[*bucket - 1];)
        ++*bucket;
    return KV_OK;
}

/* Counts a session, or ends it. */
static enum kv_result visit_session(struct writer *w, struct record_key *key, struct kv_bytes value)
{
    static const struct batch_op removed = {.type = OP_SESSION_REMOVE};
    struct record_session s;
    unsigned bucket;
    if (!record_session_read(key_bytes(key), value, &s))
        return writer_damaged(KV_SESSIONS);
    if (is_over(&s.s, w->state.now_ms)) {
        batch_add(&w->expired_now, removed, (struct batch_range[3]){{s.name.data, s.name.size}});
        w->state.totals.sessions_expired++;
        return write_remove_session(w, key, s.number);
    }
    if (s.s.cursor < w->state.least_cursor)
        w->state.least_cursor = s.s.cursor;
    enum kv_result r = lag_bucket(w, s.s.cursor, &bucket);
    w->state.lag[bucket]++;
    return r;
}

/* The walk has seen all sessions: what it counted stands, and the next one begins. */
static void finish_sweep(struct writer_state *s)
{
    s->oldest_cursor = s->least_cursor;
    memcpy(s->last_lag, s->lag, sizeof s->lag);
    memset(s->lag, 0, sizeof s->lag);
    s->least_cursor = UINT64_MAX;
    s->session_at.size = 0;
    s->sweeps++;
}

static enum kv_result sweep_sessions(struct writer *w)
{
    struct writer_state *s = &w->state;
    for (unsigned i = 0; i < SESSIONS_PER_SLICE; i++) {
        struct kv_bytes key = next_key(&s->session_at), value;
        enum kv_result r = kv_seek(w->t, KV_SESSIONS, &key, &value);
        if (r == KV_NOT_FOUND) {
            finish_sweep(s);
            return KV_OK;
        }
        if (r == KV_OK) {
            key_copy(&s->session_at, key);
            r = visit_session(w, &s->session_at, value);
        }
        if (r != KV_OK)
            return r;
    }
    return KV_OK;
}

static enum kv_result sweep_retained(struct writer *w)
{
    struct writer_state *s = &w->state;
    for (unsigned i = 0; i < RETAINED_PER_SLICE; i++) {
        struct record_message m;
        struct kv_bytes key = next_key(&s->retained_at), value;
        enum kv_result r = kv_seek(w->t, KV_RETAINED, &key, &value);
        if (r != KV_OK) {
            s->retained_at.size = 0;
            return r == KV_NOT_FOUND ? KV_OK : r;
        }
        key_copy(&s->retained_at, key);
        if (!record_message_read(value, &m))
            return writer_damaged(KV_RETAINED);
        if (m.parts.expires_ms && m.parts.expires_ms <= s->now_ms)
            r = kv_remove(w->t, KV_RETAINED, key_bytes(&s->retained_at));
        if (r != KV_OK)
            return r;
    }
    return KV_OK;
}

/* The next message that has to go, and why. KV_NOT_FOUND: none. */
static enum kv_result due(struct writer *w, uint64_t *seq, enum engine_expired *reason)
{
    static const unsigned char first[1];
    const struct writer_state *s = &w->state;
    struct kv_bytes key = kv_bytes(first, 1), value;
    struct record_message m;
    enum kv_result r = kv_seek(w->t, KV_EXPIRY, &key, &value);
    if (r == KV_OK && key_first(key) <= s->now_ms) {
        *seq = key_second(key);
        *reason = ENGINE_EXPIRED_EXPIRY;
        return KV_OK;
    }
    if (r != KV_OK && r != KV_NOT_FOUND)
        return r;
    key = kv_bytes(first, 1);
    r = kv_seek(w->t, KV_LOG, &key, &value);
    if (r != KV_OK)
        return r;
    if (!record_message_read(value, &m))
        return writer_damaged(KV_LOG);
    *seq = key_first(key);
    *reason = ENGINE_EXPIRED_AGE;
    if (w->max_age_ms && m.time_ms + w->max_age_ms <= s->now_ms)
        return KV_OK;
    *reason = ENGINE_EXPIRED_SIZE;
    return w->max_log_bytes && s->totals.log_bytes > w->max_log_bytes ? KV_OK : KV_NOT_FOUND;
}

/* Removes messages that have to go, up to `most`; whether there may be more of them. */
static enum kv_result remove_messages(struct writer *w, uint32_t most, bool *more)
{
    *more = false;
    for (uint32_t i = 0; i < most; i++) {
        uint64_t seq = 0;
        enum engine_expired reason = ENGINE_EXPIRED_AGE;
        enum kv_result r = due(w, &seq, &reason);
        if (r != KV_OK)
            return r == KV_NOT_FOUND ? KV_OK : r;
        r = write_remove_message(w, seq, reason);
        if (r != KV_OK)
            return r;
    }
    *more = true;
    return KV_OK;
}

/* Whether the index has to be completed now: for its own sake, or so that messages can be removed. */
static bool index_is_due(const struct writer_state *s, uint32_t appends)
{
    bool many = s->unindexed >= INDEX_AT || s->unindexed_bytes >= INDEX_AT_BYTES;
    return s->tick_due || many || (s->more && appends == 0);
}

/* A slice of removals, when the index knows all messages. */
static enum kv_result remove_slice(struct writer *w)
{
    struct writer_state *s = &w->state;
    uint32_t most = w->refusing == ENGINE_OK ? MESSAGES_PER_SLICE + 2 * s->appended : MESSAGES_WHEN_FULL;
    if (s->sweeps == 0 || s->unindexed)
        return KV_OK;
    s->appended = 0;
    return remove_messages(w, most, &s->more);
}

enum kv_result writer_maintain(struct writer *w, uint32_t appends)
{
    struct writer_state *s = &w->state;
    enum kv_result r = KV_OK;
    s->appended += appends;
    if (index_is_due(s, appends))
        r = writer_index(w);
    if (s->now_ms == 0)
        return r;
    if (r == KV_OK && (s->tick_due || s->sweeps == 0))
        r = sweep_sessions(w);
    if (r == KV_OK && s->tick_due)
        r = sweep_retained(w);
    if (r == KV_OK)
        r = remove_slice(w);
    s->tick_due = false;
    s->more = s->more || s->sweeps == 0 || (w->refusing != ENGINE_OK && s->unindexed);
    return r;
}
