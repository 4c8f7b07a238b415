/*
 * Whether everything that is kept agrees with itself. Each table is read once and compared with the others
 * and with what is counted; one snapshot, so it sees one state. Slow on purpose: it leaves nothing out.
 */
#include <stdarg.h>
#include <stdio.h>

#include "gateway/engine/reader.h"

struct verify {
    struct kv_txn *t;
    char *why;
    uint64_t indexed;   /* the index knows the messages up to this one, */
    uint64_t unindexed; /* and not these after it */
    uint64_t log_bytes, with_expiry, last_seq, subscriptions, in_flight;
};

__attribute__((format(printf, 2, 3))) static bool wrong(struct verify *v, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(v->why, ENGINE_WHY_MAX, format, args);
    va_end(args);
    return false;
}

/* Calls fn with every entry of a table that begins with the key. */
static bool each(struct verify *v, enum kv_table table, struct record_key at, size_t prefix,
                 bool (*fn)(struct verify *v, struct kv_bytes key, struct kv_bytes value))
{
    struct record_key begin = at;
    for (;;) {
        struct kv_bytes key = key_bytes(&at), value;
        enum kv_result r = kv_seek(v->t, table, &key, &value);
        if (r == KV_NOT_FOUND || (r == KV_OK && memcmp(key.data, begin.bytes, prefix) != 0))
            return true;
        if (r != KV_OK)
            return wrong(v, "table %d cannot be read", (int)table);
        if (!fn(v, key, value))
            return false;
        key_copy(&at, key);
        at.bytes[at.size++] = 0;
    }
}

static bool has_pair(struct verify *v, enum kv_table table, uint64_t a, uint64_t b)
{
    struct record_key key;
    struct kv_bytes value;
    key_u64_u64(&key, a, b);
    return kv_get(v->t, table, key_bytes(&key), &value) == KV_OK;
}

/* A message: in the index under its topic, and among the expiry times if it has one. */
static bool check_message(struct verify *v, struct kv_bytes key, struct kv_bytes value)
{
    struct record_message m;
    struct record_key topic;
    struct kv_bytes found, name;
    uint64_t seq = key_first(key), id = 0;
    if (key.size != 8 || !record_message_read(value, &m) || m.parts.seq != seq)
        return wrong(v, "message %llu is not one", (unsigned long long)seq);
    v->log_bytes += value.size;
    v->last_seq = seq;
    key_name(&topic, m.parts.topic, m.parts.topic_len);
    if (kv_get(v->t, KV_TOPICS, key_bytes(&topic), &found) != KV_OK ||
        !record_topic_read(key_bytes(&topic), found, &id, &name) || id != m.topic_id ||
        name.size != m.parts.topic_len || memcmp(name.data, m.parts.topic, name.size) != 0)
        return wrong(v, "message %llu: its topic is not in the table", (unsigned long long)seq);
    v->unindexed += seq > v->indexed;
    if (has_pair(v, KV_INDEX, id, seq) != (seq <= v->indexed))
        return wrong(v, "message %llu is %s the index", (unsigned long long)seq,
                     seq <= v->indexed ? "not in" : "already in");
    if (!m.parts.expires_ms)
        return true;
    v->with_expiry++;
    return has_pair(v, KV_EXPIRY, m.parts.expires_ms, seq) ||
           wrong(v, "message %llu is not among the expiry times", (unsigned long long)seq);
}

/* A topic has a message at least. */
static bool check_topic(struct verify *v, struct kv_bytes key, struct kv_bytes value)
{
    uint64_t id;
    struct record_key first;
    struct kv_bytes name, at, ignored;
    if (!record_topic_read(key, value, &id, &name))
        return wrong(v, "a topic is not one");
    if (id > v->indexed) /* of its first message, which the index does not know yet */
        return true;
    key_u64_u64(&first, id, 0);
    at = key_bytes(&first);
    if (kv_seek(v->t, KV_INDEX, &at, &ignored) != KV_OK || key_first(at) != id)
        return wrong(v, "a topic has no message");
    return true;
}

static bool check_subscription(struct verify *v, struct kv_bytes key, struct kv_bytes value)
{
    struct engine_subscription s;
    v->subscriptions++;
    return record_subscription_read(key, value, &s) || wrong(v, "a subscription is not one");
}

static bool check_session(struct verify *v, struct kv_bytes key, struct kv_bytes value)
{
    struct record_session s;
    struct record_key number;
    struct kv_bytes found;
    struct engine_progress p;
    if (!record_session_read(key, value, &s))
        return wrong(v, "a session is not one");
    key_u64(&number, s.number);
    if (kv_get(v->t, KV_PROGRESS, key_bytes(&number), &found) == KV_OK) {
        v->in_flight++;
        if (!record_progress_read(found, &p))
            return wrong(v, "what a session has in flight is not it");
    }
    return each(v, KV_SUBSCRIPTIONS, number, 8, check_subscription);
}

static bool check_retained(struct verify *v, struct kv_bytes key, struct kv_bytes value)
{
    struct record_message m;
    struct record_key name;
    if (!record_message_read(value, &m))
        return wrong(v, "a retained message is not one");
    key_name(&name, m.parts.topic, m.parts.topic_len);
    return (name.size == key.size && memcmp(name.bytes, key.data, key.size) == 0) ||
           wrong(v, "a retained message is kept under another topic");
}

/* Each table has as many entries as the others account for. */
static bool check_counts(struct verify *v)
{
    uint64_t messages = kv_count(v->t, KV_LOG);
    struct kv_bytes value;
    struct record_totals totals;
    if (kv_count(v->t, KV_INDEX) + v->unindexed != messages)
        return wrong(v, "%llu messages, %llu in the index and %llu to come", (unsigned long long)messages,
                     (unsigned long long)kv_count(v->t, KV_INDEX), (unsigned long long)v->unindexed);
    if (kv_count(v->t, KV_EXPIRY) != v->with_expiry)
        return wrong(v, "%llu messages expire, %llu expiry times", (unsigned long long)v->with_expiry,
                     (unsigned long long)kv_count(v->t, KV_EXPIRY));
    if (kv_count(v->t, KV_SUBSCRIPTIONS) != v->subscriptions)
        return wrong(v, "there are subscriptions of no session");
    if (kv_count(v->t, KV_PROGRESS) != v->in_flight)
        return wrong(v, "there is something in flight to no session");
    if (kv_get(v->t, KV_META, kv_bytes("totals", 6), &value) != KV_OK || !record_totals_read(value, &totals))
        return wrong(v, "there are no totals");
    if (totals.log_bytes != v->log_bytes || totals.head < v->last_seq)
        return wrong(v, "%llu bytes of messages, counted as %llu", (unsigned long long)v->log_bytes,
                     (unsigned long long)totals.log_bytes);
    return true;
}

bool reader_verify(struct engine_reader *r, char *why)
{
    struct verify v = {.t = r->t, .why = why};
    struct record_key first = {.size = 1};
    if (r->kv->ops->read_begin(r->t) != KV_OK)
        return wrong(&v, "the tables cannot be read");
    bool good = reader_indexed(r->t, &v.indexed) == KV_OK || wrong(&v, "it is not known what the index has");
    good = good && each(&v, KV_LOG, first, 0, check_message) && each(&v, KV_TOPICS, first, 0, check_topic) &&
           each(&v, KV_SESSIONS, first, 0, check_session) &&
           each(&v, KV_RETAINED, first, 0, check_retained) && check_counts(&v);
    r->kv->ops->read_end(r->t);
    return good;
}
