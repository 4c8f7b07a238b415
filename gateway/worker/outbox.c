/*
 * The outbox of a worker: two lists of encoded messages, those that wait to be sent and the requests that
 * were sent and are not answered. hub_link.c puts in what the sessions say and takes out what the channel has
 * room for; it decides when. The outbox knows no channel and no hub; it keeps the order, the numbers and the
 * bounds.
 */
#include "gateway/worker/outbox.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "gateway/base/check.h"
#include "gateway/base/counters.h"
#include "gateway/base/xmalloc.h"

struct entry {
    STAILQ_ENTRY(entry) link;
    uint64_t number; /* of a request */
    struct session_cookie cookie;
    enum outbox_kind kind;
    uint32_t size;
    unsigned char bytes[];
};
STAILQ_HEAD(entries, entry);

struct outbox {
    struct entries waiting, sent;
    size_t limit;
    size_t bytes[OUTBOX_KINDS];
    uint64_t last; /* number of the last request */
};

struct outbox *outbox_new(size_t limit)
{
    struct outbox *o = xcalloc(1, sizeof *o);
    STAILQ_INIT(&o->waiting);
    STAILQ_INIT(&o->sent);
    o->limit = limit;
    return o;
}

static size_t cost(const struct entry *e) { return sizeof *e + e->size; }

/* Changes what a kind occupies. */
static void account(struct outbox *o, enum outbox_kind kind, size_t bytes)
{
    o->bytes[kind] = bytes;
    if (kind == OUTBOX_REQUEST)
        counter_set(COUNTER_REQUESTS_BYTES, bytes);
}

/* Frees an entry that is in no list any more. */
static void drop(struct outbox *o, struct entry *e)
{
    account(o, e->kind, o->bytes[e->kind] - cost(e));
    free(e);
}

static void drop_all(struct outbox *o, struct entries *list)
{
    struct entry *e;
    while ((e = STAILQ_FIRST(list))) {
        STAILQ_REMOVE_HEAD(list, link);
        drop(o, e);
    }
}

void outbox_free(struct outbox *o)
{
    drop_all(o, &o->waiting);
    drop_all(o, &o->sent);
    free(o);
}

/* Whether so many bytes more of this kind are allowed. */
static bool has_room(const struct outbox *o, enum outbox_kind kind, enum ipc_type type, size_t bytes)
{
    size_t limit = type == IPC_CLOSE ? 2 * o->limit : o->limit;
    return o->bytes[kind] == 0 || o->bytes[kind] + bytes <= limit;
}

bool outbox_add(struct outbox *o, enum outbox_kind kind, struct ipc_message *m,
                const struct session_cookie *cookie)
{
    size_t size = ipc_size(m);
    if (size == 0 || !has_room(o, kind, m->type, sizeof(struct entry) + size))
        return false;
    struct entry *e = xmalloc(sizeof *e + size);
    *e = (struct entry){.kind = kind, .size = (uint32_t)size};
    if (kind == OUTBOX_REQUEST)
        m->field[0].num = e->number = ++o->last;
    if (cookie)
        e->cookie = *cookie;
    ipc_encode(m, e->bytes);
    STAILQ_INSERT_TAIL(&o->waiting, e, link);
    account(o, kind, o->bytes[kind] + cost(e));
    return true;
}

bool outbox_next(const struct outbox *o, enum outbox_kind *kind, struct ipc_message *m)
{
    const struct entry *e = STAILQ_FIRST(&o->waiting);
    if (!e)
        return false;
    size_t used;
    const char *why;
    CHECK(ipc_decode(e->bytes, e->size, m, &used, &why) == IPC_OK);
    *kind = e->kind;
    return true;
}

void outbox_sent(struct outbox *o)
{
    struct entry *e = STAILQ_FIRST(&o->waiting);
    CHECK(e);
    STAILQ_REMOVE_HEAD(&o->waiting, link);
    if (e->kind == OUTBOX_REQUEST)
        STAILQ_INSERT_TAIL(&o->sent, e, link);
    else
        drop(o, e);
}

bool outbox_answer(struct outbox *o, uint64_t number, struct session_cookie *cookie)
{
    struct entry *e = STAILQ_FIRST(&o->sent);
    if (!e || e->number > number)
        return false;
    *cookie = e->cookie;
    STAILQ_REMOVE_HEAD(&o->sent, link);
    drop(o, e);
    return true;
}

void outbox_again(struct outbox *o)
{
    struct entries all = STAILQ_HEAD_INITIALIZER(all);
    STAILQ_CONCAT(&all, &o->sent);
    STAILQ_CONCAT(&all, &o->waiting);
    struct entry *e;
    while ((e = STAILQ_FIRST(&all))) {
        STAILQ_REMOVE_HEAD(&all, link);
        if (e->kind == OUTBOX_REQUEST || e->kind == OUTBOX_PUBLISH)
            STAILQ_INSERT_TAIL(&o->waiting, e, link);
        else
            drop(o, e);
    }
}

bool outbox_is_waiting(const struct outbox *o) { return !STAILQ_EMPTY(&o->waiting); }

bool outbox_is_unanswered(const struct outbox *o) { return !STAILQ_EMPTY(&o->sent); }

size_t outbox_bytes(const struct outbox *o, enum outbox_kind kind) { return o->bytes[kind]; }
