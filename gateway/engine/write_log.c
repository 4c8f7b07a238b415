/*
 * The log's tables: messages by number, topics that have messages, the numbers of each topic, and the expiry
 * times; and the retained messages. An entry is in all of them or in none, but for the numbers of a topic,
 * which write_index.c puts in later: nothing is removed while there are such. Each function here runs within
 * the writer's transaction.
 */
#include "gateway/engine/writer.h"

/* The message of an operation; its bytes stay in the batch. */
static struct record_message message_of(const struct batch_op *op)
{
    return (struct record_message){.time_ms = op->number[1],
                                   .parts = {.topic = batch_bytes(op, 0),
                                             .props = batch_bytes(op, 1),
                                             .payload = batch_bytes(op, 2),
                                             .topic_len = (uint16_t)op->len[0],
                                             .props_len = op->len[1],
                                             .payload_len = op->len[2],
                                             .qos = op->qos,
                                             .retain = op->retain,
                                             .seq = op->number[0],
                                             .expires_ms = op->number[2],
                                             .origin = op->number[3]}};
}

/* Finds the topic's id, or gives it its first message's number for one. */
static enum kv_result topic_id(struct writer *w, struct record_message *m)
{
    struct record_key key;
    struct kv_bytes value, name;
    void *at;
    key_name(&key, m->parts.topic, m->parts.topic_len);
    enum kv_result r = kv_get(w->t, KV_TOPICS, key_bytes(&key), &value);
    if (r == KV_OK)
        return record_topic_read(key_bytes(&key), value, &m->topic_id, &name) ? KV_OK
                                                                              : writer_damaged(KV_TOPICS);
    if (r != KV_NOT_FOUND)
        return r;
    m->topic_id = m->parts.seq;
    r = kv_reserve(w->t, KV_TOPICS, key_bytes(&key), record_topic_size(m->parts.topic_len), &at);
    if (r == KV_OK)
        record_topic_write(at, m->topic_id, m->parts.topic, m->parts.topic_len);
    return r;
}

/* An entry that is a key and nothing else. */
static enum kv_result put_pair(struct writer *w, enum kv_table table, uint64_t a, uint64_t b)
{
    struct record_key key;
    key_u64_u64(&key, a, b);
    return kv_put(w->t, table, key_bytes(&key), kv_bytes("", 0));
}

static enum kv_result remove_pair(struct writer *w, enum kv_table table, uint64_t a, uint64_t b)
{
    struct record_key key;
    key_u64_u64(&key, a, b);
    enum kv_result r = kv_remove(w->t, table, key_bytes(&key));
    return r == KV_NOT_FOUND ? writer_damaged(table) : r;
}

enum kv_result write_append(struct writer *w, const struct batch_op *op)
{
    struct record_message m = message_of(op);
    struct record_key key;
    void *at;
    size_t size = record_message_size(&m.parts);
    enum kv_result r = topic_id(w, &m);
    if (r != KV_OK)
        return r;
    key_u64(&key, m.parts.seq);
    r = kv_reserve(w->t, KV_LOG, key_bytes(&key), size, &at);
    if (r != KV_OK)
        return r;
    record_message_write(at, &m);
    if (m.parts.expires_ms)
        r = put_pair(w, KV_EXPIRY, m.parts.expires_ms, m.parts.seq);
    w->state.totals.log_bytes += size;
    w->state.totals.head = m.parts.seq;
    w->state.unindexed++;
    w->state.unindexed_bytes += size;
    return r;
}

enum kv_result write_retain(struct writer *w, const struct batch_op *op)
{
    struct record_message m = message_of(op);
    struct record_key key;
    void *at;
    if (w->state.totals.head < m.parts.seq) /* one of QoS 0, which is not in the log */
        w->state.totals.head = m.parts.seq;
    key_name(&key, m.parts.topic, m.parts.topic_len);
    if (m.parts.payload_len == 0) {
        enum kv_result r = kv_remove(w->t, KV_RETAINED, key_bytes(&key));
        return r == KV_NOT_FOUND ? KV_OK : r;
    }
    enum kv_result r = kv_reserve(w->t, KV_RETAINED, key_bytes(&key), record_message_size(&m.parts), &at);
    if (r == KV_OK)
        record_message_write(at, &m);
    return r;
}

/* Forgets a topic whose last message has gone, so that topics used once do not stay for ever. */
static enum kv_result forget_empty_topic(struct writer *w, uint64_t id, const struct record_key *topic)
{
    struct record_key first;
    struct kv_bytes value;
    key_u64_u64(&first, id, 0);
    struct kv_bytes key = key_bytes(&first);
    enum kv_result r = kv_seek(w->t, KV_INDEX, &key, &value);
    if (r == KV_OK && key_first(key) == id)
        return KV_OK;
    if (r != KV_OK && r != KV_NOT_FOUND)
        return r;
    r = kv_remove(w->t, KV_TOPICS, key_bytes(topic));
    return r == KV_NOT_FOUND ? writer_damaged(KV_TOPICS) : r;
}

/* Counts a message that goes without having been asked for. */
static void count_expired(struct writer *w, uint64_t seq, enum engine_expired reason)
{
    w->state.totals.expired[reason]++;
    if (w->state.oldest_cursor < seq)
        w->state.totals.unread[reason]++;
}

enum kv_result write_remove_message(struct writer *w, uint64_t seq, enum engine_expired reason)
{
    struct record_key key, topic;
    struct kv_bytes value;
    struct record_message m;
    key_u64(&key, seq);
    enum kv_result r = kv_get(w->t, KV_LOG, key_bytes(&key), &value);
    if (r != KV_OK)
        return r == KV_NOT_FOUND ? writer_damaged(KV_LOG) : r;
    if (!record_message_read(value, &m))
        return writer_damaged(KV_LOG);
    key_name(&topic, m.parts.topic, m.parts.topic_len);
    r = kv_remove(w->t, KV_LOG, key_bytes(&key));
    if (r == KV_OK)
        r = remove_pair(w, KV_INDEX, m.topic_id, seq);
    if (r == KV_OK && m.parts.expires_ms)
        r = remove_pair(w, KV_EXPIRY, m.parts.expires_ms, seq);
    if (r == KV_OK)
        r = forget_empty_topic(w, m.topic_id, &topic);
    w->state.totals.log_bytes -= value.size;
    count_expired(w, seq, reason);
    return r;
}
