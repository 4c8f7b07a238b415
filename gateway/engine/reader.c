/*
 * Reading sessions and retained messages. A worker asks for one session when its client comes back, and for
 * the retained messages when it subscribes; operators walk over all sessions. Every call takes the newest
 * snapshot and lets it go before it returns, so that a slow reader does not keep old pages in use; what lies
 * behind the pointers handed to a callback is the file itself.
 */
#include "gateway/engine/reader.h"

#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"

LOG_EVENT_ONCE_A_SECOND(damaged_event, "data_file_damaged", LOG_LEVEL_ERROR);

struct engine_reader *reader_new(struct kv *kv, bool owns_kv, char *why)
{
    struct kv_txn *t = kv->ops->reader_new(kv);
    if (!t) {
        snprintf(why, ENGINE_WHY_MAX, "there are too many readers of the data file");
        if (owns_kv)
            kv->ops->close(kv);
        return NULL;
    }
    struct engine_reader *r = xcalloc(1, sizeof *r);
    r->kv = kv;
    r->owns_kv = owns_kv;
    r->t = t;
    return r;
}

void reader_close(struct engine_reader *r)
{
    r->kv->ops->reader_free(r->t);
    if (r->owns_kv)
        r->kv->ops->close(r->kv);
    free(r->subscription);
    free(r->out);
    free(r->in);
    free(r->owed);
    free(r);
}

static bool begin(struct engine_reader *r) { return r->kv->ops->read_begin(r->t) == KV_OK; }
static void end(struct engine_reader *r) { r->kv->ops->read_end(r->t); }

/* Says that a value in this table is not what it should be. */
static void damaged(const char *table) { LOG(damaged_event, LOG_STR("table", table)); }

enum kv_result reader_head(struct kv_txn *t, uint64_t *head)
{
    struct kv_bytes value;
    struct record_totals totals;
    enum kv_result r = kv_get(t, KV_META, kv_bytes("totals", 6), &value);
    if (r == KV_OK && !record_totals_read(value, &totals))
        r = KV_FAILED;
    *head = r == KV_OK ? totals.head : 0;
    return r == KV_NOT_FOUND ? KV_OK : r; /* the file has just been made */
}

enum kv_result reader_indexed(struct kv_txn *t, uint64_t *seq)
{
    struct kv_bytes value;
    uint64_t le;
    enum kv_result r = kv_get(t, KV_META, kv_bytes(RECORD_INDEXED_KEY, strlen(RECORD_INDEXED_KEY)), &value);
    if (r == KV_NOT_FOUND)
        return reader_head(t, seq);
    if (r != KV_OK || value.size != sizeof le)
        return KV_FAILED;
    memcpy(&le, value.data, sizeof le);
    *seq = le64toh(le);
    return KV_OK;
}

/* Room for n records of a size, in an array that only grows. */
static void *room(void *array, size_t *have, size_t n, size_t size)
{
    if (n <= *have)
        return array;
    *have = n + n / 2 + 8;
    return xrealloc(array, *have * size);
}

/* What is in flight, and owed. */
static bool read_progress(struct engine_reader *r, uint64_t number, struct engine_progress *p)
{
    struct record_key key;
    struct kv_bytes value;
    key_u64(&key, number);
    enum kv_result found = kv_get(r->t, KV_PROGRESS, key_bytes(&key), &value);
    if (found != KV_OK)
        return found == KV_NOT_FOUND;
    if (!record_progress_read(value, p))
        return false;
    r->out = room(r->out, &r->outs, p->outs, sizeof r->out[0]);
    r->in = room(r->in, &r->ins, p->ins, sizeof r->in[0]);
    r->owed = room(r->owed, &r->owes, p->owes, sizeof r->owed[0]);
    for (unsigned i = 0; i < p->outs; i++)
        r->out[i] = record_progress_out(value, i);
    for (unsigned i = 0; i < p->ins; i++)
        r->in[i] = record_progress_in(value, i);
    for (size_t i = 0, at = 0; i < p->owes; i++)
        record_progress_owed(value, &at, &r->owed[i]);
    p->out = r->out;
    p->in = r->in;
    p->owed = r->owed;
    return true;
}

/* All keys that begin with the session's number. */
static bool read_subscriptions(struct engine_reader *r, uint64_t number, struct engine_session_view *v)
{
    struct record_key at;
    key_u64(&at, number);
    for (;;) {
        struct kv_bytes key = key_bytes(&at), value;
        enum kv_result found = kv_seek(r->t, KV_SUBSCRIPTIONS, &key, &value);
        v->subscriptions = r->subscription;
        if (found != KV_OK || key_first(key) != number)
            return found == KV_OK || found == KV_NOT_FOUND;
        r->subscription =
            room(r->subscription, &r->subscriptions, v->subscription_count + 1, sizeof r->subscription[0]);
        if (!record_subscription_read(key, value, &r->subscription[v->subscription_count++]))
            return false;
        key_copy(&at, key);
        at.bytes[at.size++] = 0;
    }
}

/* The parts of a session that every reader gets. */
static struct engine_session_view view_of(const struct record_session *s)
{
    return (struct engine_session_view){.client_id = s->name.data,
                                        .client_id_len = s->name.size,
                                        .session = s->s,
                                        .progress = {.cursor = s->s.cursor}};
}

bool reader_session_get(struct engine_reader *r, const char *client_id, size_t len, engine_session_fn fn,
                        void *ctx)
{
    struct record_key key;
    struct kv_bytes value;
    struct record_session s;
    bool found = false;
    if (!begin(r))
        return false;
    key_name(&key, client_id, len);
    if (kv_get(r->t, KV_SESSIONS, key_bytes(&key), &value) == KV_OK) {
        found = record_session_read(key_bytes(&key), value, &s);
        struct engine_session_view v = found ? view_of(&s) : (struct engine_session_view){0};
        found = found && read_progress(r, s.number, &v.progress) && read_subscriptions(r, s.number, &v);
        if (found)
            fn(ctx, &v);
        else
            damaged("sessions");
    }
    end(r);
    return found;
}

size_t reader_note_get(struct engine_reader *r, const char *name, void *out, size_t max)
{
    struct record_key key;
    struct kv_bytes value;
    size_t size = 0;
    if (!begin(r))
        return 0;
    key_note(&key, name, strlen(name));
    if (kv_get(r->t, KV_META, key_bytes(&key), &value) == KV_OK) {
        size = value.size;
        memcpy(out, value.data, size < max ? size : max);
    }
    end(r);
    return size;
}

size_t reader_session_walk(struct engine_reader *r, const char *after, size_t len, size_t max,
                           engine_session_each_fn fn, void *ctx)
{
    struct record_key at;
    size_t n = 0;
    if (!begin(r))
        return 0;
    key_name(&at, after, len);
    while (n < max) {
        struct kv_bytes value, key;
        struct record_session s;
        at.bytes[at.size++] = 0;
        key = key_bytes(&at);
        if (kv_seek(r->t, KV_SESSIONS, &key, &value) != KV_OK)
            break;
        key_copy(&at, key);
        if (!record_session_read(key, value, &s)) {
            damaged("sessions");
            break;
        }
        struct engine_session_view v = view_of(&s);
        n++;
        if (!fn(ctx, &v))
            break;
    }
    end(r);
    return n;
}

/* A retained message's topic is in its value. */
static bool retained_name(struct kv_bytes key, struct kv_bytes value, struct kv_bytes *name)
{
    struct record_message m;
    (void)key;
    if (!record_message_read(value, &m))
        return false;
    *name = kv_bytes(m.parts.topic, m.parts.topic_len);
    return true;
}

/* Hands a retained message out, unless its time has passed. */
static bool give(struct kv_bytes value, uint64_t now, engine_message_fn fn, void *ctx)
{
    struct record_message m;
    return !record_message_read(value, &m) || (m.parts.expires_ms && m.parts.expires_ms <= now) ||
           fn(ctx, &m.parts, m.time_ms);
}

bool reader_retained_walk(struct engine_reader *r, const char *filter, size_t len, engine_match_fn match,
                          const char *after, size_t after_len, size_t max, engine_message_fn fn, void *ctx,
                          char *last, size_t *last_len)
{
    struct name_walk w;
    bool more = true;
    uint64_t now = clock_wall_ms();
    name_walk_begin(&w, filter, len, match);
    if (after_len)
        name_walk_after(&w, after, after_len);
    if (!begin(r))
        return false;
    while (more && max-- > 0) {
        struct kv_bytes value, name;
        enum name_walk_result step = name_walk_step(&w, r->t, KV_RETAINED, retained_name, &value, &name);
        if (step == NAME_WALK_FAILED)
            damaged("retained");
        more = step == NAME_WALK_FOUND || step == NAME_WALK_OTHER;
        if (step == NAME_WALK_FOUND && !give(value, now, fn, ctx))
            break;
        if (step == NAME_WALK_FOUND || (step == NAME_WALK_OTHER && !w.exact)) {
            memcpy(last, name.data, name.size);
            *last_len = name.size;
        }
    }
    end(r);
    return more;
}

uint64_t reader_newest(struct engine_reader *r)
{
    uint64_t head;
    if (!begin(r))
        return 0;
    if (reader_head(r->t, &head) != KV_OK)
        damaged("meta");
    end(r);
    return head;
}

bool reader_message_get(struct engine_reader *r, uint64_t seq, engine_message_fn fn, void *ctx)
{
    struct record_key key;
    struct kv_bytes value;
    struct record_message m;
    if (!begin(r))
        return false;
    key_u64(&key, seq);
    bool found = kv_get(r->t, KV_LOG, key_bytes(&key), &value) == KV_OK;
    if (found && (!record_message_read(value, &m) || m.parts.seq != seq)) {
        damaged("log");
        found = false;
    }
    found = found && (!m.parts.expires_ms || m.parts.expires_ms > clock_wall_ms());
    if (found)
        fn(ctx, &m.parts, m.time_ms);
    end(r);
    return found;
}
