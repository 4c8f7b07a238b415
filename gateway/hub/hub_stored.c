/*
 * Stored sessions between the engine's tables and the hub. Reading goes to the tables, but what was handed in
 * and is not committed yet lies in front of them: one entry per client id, until the last commit that
 * concerns it is done. So a client that leaves and comes back within one commit finds what it left.
 *
 * In the bytes that the engine keeps for its owner (engine_session.extra) is, native byte order, since one
 * machine writes and reads it:
 *
 *      opener 8 (claim number, worker in the upper 13 bits)   flags 1
 *      only if it is not known what it was sent: up to which number 8
 *      only with a will: due 8, expiry interval 4, the encoded PUBLISH
 *
 * The opener says whether a worker that speaks of the session is the one that has it; the registry of claims
 * cannot after a restart of the hub. While a will waits, the session is ended by the hub and not by the
 * engine, which would not publish: the engine is told that it never ends.
 */
#include "gateway/hub/hub_stored.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "gateway/base/clock.h"
#include "gateway/base/hash.h"
#include "gateway/base/xmalloc.h"
#include "gateway/hub/hub_internal.h"
#include "gateway/hub/hub_sessions.h"

#define HEAD_SIZE  9
#define WILL_HEAD  12
#define EXTRA_MAX  (HEAD_SIZE + 8 + WILL_HEAD) /* and the will */
#define CLAIM_BITS 51
#define BUCKETS    4096u

enum { FLAG_PRESENT = 1, FLAG_ENDS = 2, FLAG_UNSURE = 8 };

/* What was handed in about one client id. */
struct pending {
    LIST_ENTRY(pending) link; /* table->bucket */
    uint64_t hash;
    unsigned commits; /* that are not done */
    bool exists;
    struct hub_stored s; /* its will is a copy of its own */
    char *will;
    size_t id_len;
    char id[];
};
LIST_HEAD(pending_list, pending);

struct hub_stored_table {
    struct pending_list bucket[BUCKETS];
    char *will; /* what the last get() has pointed to */
    size_t will_room;
};

struct hub_stored_table *hub_stored_new(void) { return xcalloc(1, sizeof(struct hub_stored_table)); }

static void free_pending(struct pending *p)
{
    free(p->will);
    free(p);
}

/* Entries with commits under way are freed by the last of them. */
void hub_stored_free(struct hub_stored_table *t)
{
    free(t->will);
    free(t);
}

/* ---- the extra bytes ---- */

static uint64_t opener_bits(struct engine_claim c)
{
    return c.worker == ENGINE_NO_WORKER ? 0 : (uint64_t)(c.worker + 1u) << CLAIM_BITS | c.number;
}

static struct engine_claim opener_of_bits(uint64_t bits)
{
    unsigned worker = (unsigned)(bits >> CLAIM_BITS);
    return (struct engine_claim){.worker = worker ? (uint16_t)(worker - 1) : (uint16_t)ENGINE_NO_WORKER,
                                 .number = bits & ENGINE_MAX_CLAIM};
}

/* Reads them into *s. Those of nobody's (another generation, a generator of tests) say nothing. */
static void read_extra(struct hub_stored *s, const char *at, size_t len)
{
    const char *end = at + len;
    uint64_t bits;
    s->opener.worker = ENGINE_NO_WORKER;
    if (len < HEAD_SIZE)
        return;
    memcpy(&bits, at, 8);
    unsigned flags = (unsigned char)at[8];
    s->opener = opener_of_bits(bits);
    s->was_present = flags & FLAG_PRESENT;
    at += HEAD_SIZE;
    if (flags & FLAG_UNSURE && end - at >= 8) {
        memcpy(&s->unsure_to, at, 8);
        at += 8;
    }
    if (end - at <= WILL_HEAD)
        return;
    s->ends_with_will = flags & FLAG_ENDS;
    memcpy(&s->will_due_ms, at, 8);
    memcpy(&s->expiry_s, at + 8, 4);
    at += WILL_HEAD;
    s->will = (struct ipc_bytes){.data = at, .len = (uint32_t)(end - at)};
}

static char *put(char *at, const void *bytes, size_t len)
{
    memcpy(at, bytes, len);
    return at + len;
}

/* Writes them; returns the size, of which the will is the end. `out` has room for EXTRA_MAX bytes and the
 * will. */
static size_t write_extra(const struct hub_stored *s, char *out)
{
    uint64_t bits = opener_bits(s->opener);
    char flags = (char)((s->was_present ? FLAG_PRESENT : 0) | (s->unsure_to ? FLAG_UNSURE : 0) |
                        (s->will.len && s->ends_with_will ? FLAG_ENDS : 0));
    char *at = put(put(out, &bits, 8), &flags, 1);
    if (s->unsure_to)
        at = put(at, &s->unsure_to, 8);
    if (s->will.len) {
        at = put(at, &s->will_due_ms, 8);
        at = put(at, &s->expiry_s, 4);
        at = put(at, s->will.data, s->will.len);
    }
    return (size_t)(at - out);
}

/* What the engine is told: it would end a session whose will could not be published yet (the hub was not
 * running, the disk is full), and the will with it. */
static uint32_t engine_expiry(const struct hub_stored *s)
{
    return s->will.len ? ENGINE_EXPIRY_NEVER : s->expiry_s;
}

/* ---- what is not committed yet ---- */

static struct pending *find_pending(struct hub *h, const char *id, size_t len, uint64_t hash)
{
    struct pending *p;
    LIST_FOREACH(p, &hub_stored_table(h)->bucket[hash % BUCKETS], link)
    if (p->hash == hash && p->id_len == len && memcmp(p->id, id, len) == 0)
        break;
    return p;
}

/* A commit that concerns the entry is done. */
static void committed_cb(struct hub *h, void *arg, enum engine_result result)
{
    struct pending *p = arg;
    (void)result;
    if (--p->commits > 0)
        return;
    if (h->sessions)
        LIST_REMOVE(p, link);
    free_pending(p);
}

/* The entry of a client id about which something was handed in just now. */
static struct pending *note_pending(struct hub *h, const char *id, size_t len)
{
    uint64_t hash = hash_bytes(id, len);
    struct pending *p = find_pending(h, id, len, hash);
    if (!p) {
        p = xmalloc(sizeof *p + len);
        *p = (struct pending){.hash = hash, .id_len = len};
        if (len)
            memcpy(p->id, id, len);
        LIST_INSERT_HEAD(&hub_stored_table(h)->bucket[hash % BUCKETS], p, link);
    }
    p->commits++;
    hub_on_committed(h, committed_cb, p);
    return p;
}

/* ---- reading ---- */

/* A copy of the will that lasts until the next one. */
static void keep_will(struct hub_stored_table *t, struct ipc_bytes *will)
{
    if (!will->len)
        return;
    if (will->len > t->will_room) {
        t->will_room = will->len;
        t->will = xrealloc(t->will, t->will_room);
    }
    memcpy(t->will, will->data, will->len);
    will->data = t->will;
}

static void read_session(struct hub_stored *s, const struct engine_session *stored)
{
    *s = (struct hub_stored){
        .cursor = stored->cursor, .disconnected_ms = stored->disconnected_ms, .expiry_s = stored->expiry_s};
    read_extra(s, stored->extra, stored->extra_len);
}

struct reading {
    struct hub_stored_table *table;
    struct hub_stored *s;
};

static void session_cb(void *ctx, const struct engine_session_view *v)
{
    struct reading *r = ctx;
    read_session(r->s, &v->session);
    keep_will(r->table, &r->s->will);
}

bool hub_stored_get(struct hub *h, const char *id, size_t len, struct hub_stored *s)
{
    struct reading r = {.table = hub_stored_table(h), .s = s};
    struct pending *p = find_pending(h, id, len, hash_bytes(id, len));
    if (!p)
        return h->engine_ops->session_get(h->reader, id, len, session_cb, &r);
    *s = p->s;
    keep_will(r.table, &s->will);
    return p->exists;
}

void hub_stored_of_committed(const struct engine_session_view *v, struct hub_stored *s)
{
    read_session(s, &v->session);
}

bool hub_stored_of_view(struct hub *h, const struct engine_session_view *v, struct hub_stored *s)
{
    const char *id = v->client_id;
    struct pending *p = find_pending(h, id, v->client_id_len, hash_bytes(id, v->client_id_len));
    if (p)
        *s = p->s;
    else
        read_session(s, &v->session);
    return !p || p->exists;
}

/* ---- writing ---- */

void hub_stored_put(struct hub *h, const char *id, size_t len, const struct hub_stored *s)
{
    char *extra = xmalloc(EXTRA_MAX + (size_t)s->will.len);
    struct engine_session stored = {.cursor = s->cursor,
                                    .disconnected_ms = s->disconnected_ms,
                                    .expiry_s = engine_expiry(s),
                                    .extra = extra,
                                    .extra_len = (uint32_t)write_extra(s, extra)};
    h->engine_ops->session_put(h->engine, id, len, &stored);
    struct pending *p = note_pending(h, id, len);
    char *will = NULL;
    if (s->will.len) {
        will = extra; /* in the same place as before is not asked for: it moves to the front */
        memmove(will, extra + stored.extra_len - s->will.len, s->will.len);
    } else {
        free(extra);
    }
    free(p->will);
    p->will = will;
    p->exists = true;
    p->s = *s;
    p->s.will.data = will;
}

void hub_stored_remove(struct hub *h, const char *id, size_t len)
{
    hub_shared_session_removed(h, id, len);
    h->engine_ops->session_remove(h->engine, id, len);
    struct pending *p = note_pending(h, id, len);
    free(p->will);
    p->will = NULL;
    p->exists = false;
    p->s = (struct hub_stored){0};
}

/* ---- time ---- */

uint64_t hub_stored_end_ms(const struct hub_stored *s)
{
    if (s->disconnected_ms == 0 || s->expiry_s == ENGINE_EXPIRY_NEVER)
        return 0;
    return s->disconnected_ms + s->expiry_s * UINT64_C(1000);
}

bool hub_stored_is_over(const struct hub_stored *s, uint64_t now_wall_ms)
{
    uint64_t end = hub_stored_end_ms(s);
    return end && end <= now_wall_ms;
}
