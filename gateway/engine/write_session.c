/*
 * The sessions' tables: sessions by client id, and by the session's number its subscriptions and what is in
 * flight. An operation on a session that is not there does nothing: it has expired, or was removed by one
 * that came earlier.
 */
#include "gateway/engine/writer.h"

#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/xmalloc.h"

/* The session of an operation's client id. Its name and extra bytes point into the table. */
static enum kv_result find(struct writer *w, const struct batch_op *op, struct record_key *key,
                           struct record_session *s)
{
    struct kv_bytes value;
    key_name(key, batch_bytes(op, 0), op->len[0]);
    enum kv_result r = kv_get(w->t, KV_SESSIONS, key_bytes(key), &value);
    if (r == KV_OK && !record_session_read(key_bytes(key), value, s))
        return writer_damaged(KV_SESSIONS);
    return r;
}

/* What is not there is no failure. */
static enum kv_result or_nothing(enum kv_result r) { return r == KV_NOT_FOUND ? KV_OK : r; }

enum kv_result write_session_put(struct writer *w, const struct batch_op *op)
{
    struct record_key key;
    struct record_session old = {0};
    void *at;
    enum kv_result r = find(w, op, &key, &old);
    if (or_nothing(r) != KV_OK)
        return r;
    struct record_session s = {.number = r == KV_OK ? old.number : op->number[0],
                               .s = {.cursor = op->number[1],
                                     .disconnected_ms = op->number[2],
                                     .expiry_s = op->word,
                                     .extra_len = op->len[1],
                                     .extra = batch_bytes(op, 1)}};
    if (s.s.cursor < old.s.cursor)
        s.s.cursor = old.s.cursor;
    if (s.s.cursor < w->state.oldest_cursor)
        w->state.oldest_cursor = s.s.cursor;
    if (s.s.cursor < w->state.least_cursor)
        w->state.least_cursor = s.s.cursor;
    r = kv_reserve(w->t, KV_SESSIONS, key_bytes(&key), record_session_size(&s, op->len[0]), &at);
    if (r == KV_OK)
        record_session_write(at, &s, batch_bytes(op, 0), op->len[0]);
    return r;
}

/* Removes all that begins with the session's number. */
static enum kv_result remove_subscriptions(struct writer *w, uint64_t number)
{
    for (;;) {
        struct record_key from;
        struct kv_bytes value;
        key_u64(&from, number);
        struct kv_bytes key = key_bytes(&from);
        enum kv_result r = kv_seek(w->t, KV_SUBSCRIPTIONS, &key, &value);
        if (r != KV_OK || key_first(key) != number)
            return or_nothing(r);
        key_copy(&from, key);
        r = kv_remove(w->t, KV_SUBSCRIPTIONS, key_bytes(&from));
        if (r != KV_OK)
            return r;
    }
}

enum kv_result write_remove_session(struct writer *w, const struct record_key *key, uint64_t number)
{
    struct record_key of_number;
    key_u64(&of_number, number);
    enum kv_result r = or_nothing(kv_remove(w->t, KV_PROGRESS, key_bytes(&of_number)));
    if (r == KV_OK)
        r = remove_subscriptions(w, number);
    return r == KV_OK ? kv_remove(w->t, KV_SESSIONS, key_bytes(key)) : r;
}

enum kv_result write_session_remove(struct writer *w, const struct batch_op *op)
{
    struct record_key key;
    struct record_session s;
    enum kv_result r = find(w, op, &key, &s);
    return r == KV_OK ? write_remove_session(w, &key, s.number) : or_nothing(r);
}

/* What the table holds of a session: nothing while nothing is in flight or owed. */
static enum kv_result put_in_flight(struct writer *w, const struct record_key *key, struct kv_bytes value)
{
    struct engine_progress p;
    CHECK(record_progress_read(value, &p));
    if (p.outs == 0 && p.ins == 0 && p.owes == 0)
        return or_nothing(kv_remove(w->t, KV_PROGRESS, key_bytes(key)));
    return kv_put(w->t, KV_PROGRESS, key_bytes(key), value);
}

/* Writes the session's progress again with this as what is owed to its filter; without (asked 0) only if
 * something was. */
static enum kv_result put_owed(struct writer *w, uint64_t number, const struct engine_owed *o)
{
    struct record_key key;
    struct kv_bytes value = {0};
    struct engine_progress p = {0};
    key_u64(&key, number);
    enum kv_result r = kv_get(w->t, KV_PROGRESS, key_bytes(&key), &value);
    if (r == KV_OK && !record_progress_read(value, &p))
        return writer_damaged(KV_PROGRESS);
    if (r == KV_NOT_FOUND)
        value = kv_bytes("", 0);
    if (or_nothing(r) != KV_OK || (!o->asked && !p.owes))
        return or_nothing(r);
    char *bytes = xmalloc(record_progress_owing_size(value, o));
    struct kv_bytes owing = kv_bytes(bytes, record_progress_write_owing(bytes, value, o));
    if (o->asked || owing.size != value.size)
        r = put_in_flight(w, &key, owing);
    free(bytes);
    return r;
}

/* What is owed to the subscription that an operation speaks of. */
static struct engine_owed owed_of(const struct batch_op *op, uint64_t asked)
{
    return (struct engine_owed){.filter = batch_bytes(op, 1), .len = (uint16_t)op->len[1], .asked = asked};
}

/* A subscription takes another one's place. A session that has not come to where it begins is owed what came
 * before under the old one. */
static void replace(struct engine_subscription *sub, const struct engine_subscription *old, uint64_t cursor)
{
    uint8_t qos = old->options & OPTION_QOS, before = old->until > cursor ? old->qos_before : 0;
    sub->qos_before = before;
    sub->until = before ? old->until : 0;
    if (qos > (sub->options & OPTION_QOS) && sub->since > cursor) {
        sub->qos_before = qos > before ? qos : before;
        sub->until = sub->since;
    }
    if (qos || before)
        sub->since = old->since;
}

enum kv_result write_subscribe(struct writer *w, const struct batch_op *op)
{
    struct record_key key;
    struct record_session s;
    struct kv_bytes value;
    void *at;
    struct engine_subscription sub = {.filter = batch_bytes(op, 1),
                                      .len = (uint16_t)op->len[1],
                                      .options = op->flags,
                                      .identifier = op->word,
                                      .since = op->number[0]},
                               old;
    enum kv_result r = find(w, op, &key, &s);
    if (r != KV_OK)
        return or_nothing(r);
    key_u64_name(&key, s.number, sub.filter, sub.len);
    r = kv_get(w->t, KV_SUBSCRIPTIONS, key_bytes(&key), &value);
    if (r == KV_OK && !record_subscription_read(key_bytes(&key), value, &old))
        return writer_damaged(KV_SUBSCRIPTIONS);
    if (or_nothing(r) != KV_OK)
        return r;
    if (r == KV_OK)
        replace(&sub, &old, s.s.cursor);
    r = kv_reserve(w->t, KV_SUBSCRIPTIONS, key_bytes(&key), record_subscription_size(&sub), &at);
    if (r == KV_OK)
        record_subscription_write(at, &sub);
    const struct engine_owed owed = owed_of(op, op->number[1]);
    return r == KV_OK && owed.asked ? put_owed(w, s.number, &owed) : r;
}

enum kv_result write_unsubscribe(struct writer *w, const struct batch_op *op)
{
    struct record_key key;
    struct record_session s;
    enum kv_result r = find(w, op, &key, &s);
    if (r != KV_OK)
        return or_nothing(r);
    key_u64_name(&key, s.number, batch_bytes(op, 1), op->len[1]);
    r = or_nothing(kv_remove(w->t, KV_SUBSCRIPTIONS, key_bytes(&key)));
    const struct engine_owed nothing = owed_of(op, 0);
    return r == KV_OK ? put_owed(w, s.number, &nothing) : r;
}

/* Writes the session again with a cursor further on; it has the same size, so it stays where it is. */
static enum kv_result move_cursor(struct writer *w, const struct record_key *key, uint64_t cursor)
{
    struct kv_bytes value;
    void *at;
    enum kv_result r = kv_get(w->t, KV_SESSIONS, key_bytes(key), &value);
    if (r != KV_OK)
        return r;
    char *copy = xmalloc(value.size);
    size_t size = value.size;
    memcpy(copy, value.data, size);
    record_session_set_cursor(copy, cursor);
    r = kv_reserve(w->t, KV_SESSIONS, key_bytes(key), size, &at);
    if (r == KV_OK)
        memcpy(at, copy, size);
    free(copy);
    return r;
}

enum kv_result write_progress(struct writer *w, const struct batch_op *op)
{
    struct record_key key;
    struct record_session s;
    enum kv_result r = find(w, op, &key, &s);
    if (r != KV_OK)
        return or_nothing(r);
    if (op->number[1] > s.s.cursor)
        r = move_cursor(w, &key, op->number[1]);
    key_u64(&key, s.number);
    return r == KV_OK ? put_in_flight(w, &key, kv_bytes(batch_bytes(op, 1), op->len[1])) : r;
}
