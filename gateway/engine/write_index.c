/*
 * The log's index by topic, written behind the log: a page of it belongs to few topics, so a commit that put
 * each message's entry in its place would change a page for every publisher. The entries of the newest
 * messages are missing until there are INDEX_AT of them (fewer of large ones), or a second has passed; then
 * they are put in together, in the order of the index. Up to where it is complete stands in KV_META and
 * changes with it. Readers take what lies behind that from the log itself.
 */
#include <stdlib.h>

#include "gateway/base/xmalloc.h"
#include "gateway/engine/writer.h"

/* Put in their order at once; on a full disk, where each may copy pages, a few. */
#define ENTRIES_AT_ONCE   4096
#define ENTRIES_WHEN_FULL 16

struct entry {
    uint64_t topic, seq;
};

static int compare(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->topic != y->topic)
        return x->topic < y->topic ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* The log's first message after a number. */
static enum kv_result next_message(struct writer *w, uint64_t after, struct entry *out)
{
    struct record_key from;
    struct record_message m;
    struct kv_bytes key, value;
    key_u64(&from, after + 1);
    key = key_bytes(&from);
    enum kv_result r = kv_seek(w->t, KV_LOG, &key, &value);
    if (r == KV_OK && !record_message_read(value, &m))
        return writer_damaged(KV_LOG);
    if (r == KV_OK)
        *out = (struct entry){.topic = m.topic_id, .seq = key_first(key)};
    return r;
}

static enum kv_result put(struct writer *w, const struct entry *e)
{
    struct record_key key;
    key_u64_u64(&key, e->topic, e->seq);
    return kv_put(w->t, KV_INDEX, key_bytes(&key), kv_bytes("", 0));
}

enum kv_result writer_set_indexed(struct writer *w, uint64_t seq)
{
    uint64_t le = htole64(seq);
    w->state.indexed = seq;
    return kv_put(w->t, KV_META, kv_bytes(RECORD_INDEXED_KEY, strlen(RECORD_INDEXED_KEY)),
                  kv_bytes(&le, sizeof le));
}

/* The next entries, up to room[most]; n of them. */
static enum kv_result index_some(struct writer *w, struct entry *room, size_t most, size_t *n)
{
    uint64_t last = w->state.indexed;
    enum kv_result r = KV_OK;
    for (*n = 0; *n < most && (r = next_message(w, last, &room[*n])) == KV_OK; ++*n)
        last = room[*n].seq;
    if (r != KV_OK && r != KV_NOT_FOUND)
        return r;
    qsort(room, *n, sizeof room[0], compare);
    r = KV_OK;
    for (size_t i = 0; i < *n && r == KV_OK; i++)
        r = put(w, &room[i]);
    return r == KV_OK && *n ? writer_set_indexed(w, last) : r;
}

enum kv_result writer_index(struct writer *w)
{
    size_t n, most = w->refusing == ENGINE_OK ? ENTRIES_AT_ONCE : ENTRIES_WHEN_FULL;
    if (w->state.unindexed == 0)
        return KV_OK;
    struct entry *room = xmalloc(most * sizeof room[0]);
    enum kv_result r;
    do {
        r = index_some(w, room, most, &n);
        w->state.unindexed -= r == KV_OK && n < w->state.unindexed ? (uint32_t)n : w->state.unindexed;
    } while (r == KV_OK && w->state.unindexed && w->refusing == ENGINE_OK);
    if (w->state.unindexed == 0)
        w->state.unindexed_bytes = 0;
    free(room);
    return r;
}

enum kv_result writer_count_unindexed(struct writer *w)
{
    struct entry e = {.seq = w->state.indexed};
    enum kv_result r;
    for (w->state.unindexed = 0; (r = next_message(w, e.seq, &e)) == KV_OK;)
        w->state.unindexed++;
    return r == KV_NOT_FOUND ? KV_OK : r;
}
