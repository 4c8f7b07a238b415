/*
 * One record per connected client that has a will, by worker and client id. While the worker lives it does
 * everything itself, and its RELEASE or CLOSE takes the record away. When it dies its records become
 * orphans: each is published, or put into the stored session if it has a delay, as CLOSE would have done.
 *
 *      none ── WILL ──> held ── RELEASE, CLOSE ──> none
 *                        └───── the worker dies ──> orphan ── published, or stored ──> none
 *
 * Lost are those of a worker that dies together with the hub.
 */
#include "gateway/hub/hub_client_wills.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/hash.h"
#include "gateway/base/hash_index.h"
#include "gateway/base/log.h"
#include "gateway/base/pool.h"
#include "gateway/base/strpool.h"
#include "gateway/base/xmalloc.h"
#include "gateway/hub/hub_sessions.h"
#include "gateway/hub/hub_wills.h"

LOG_EVENT(left_event, "wills_left_by_the_dead", LOG_LEVEL_INFO);
LOG_EVENT_ONCE_A_SECOND(bad_event, "bad_will", LOG_LEVEL_ERROR);
LOG_EVENT_ONCE_A_SECOND(full_event, "too_many_wills", LOG_LEVEL_WARNING);

#define MAX_WILLS      (1u << 24)
#define WILLS_PER_TURN 500

static const struct timeval at_once = {0, 0};

/* A will that is not published. 64 bytes, and what it points at. */
struct client_will {
    LIST_ENTRY(client_will) link; /* of its worker, or of the orphans */
    struct engine_claim claim;
    char *bytes; /* an encoded PUBLISH; its expiry is an interval as long as it is not published */
    uint32_t len;
    uint32_t delay_s;
    uint32_t client_id;
    uint32_t hash_link;
    uint32_t record; /* its own id */
    bool is_orphan;
};
LIST_HEAD(client_will_list, client_will);

struct hub_client_wills {
    struct hub *hub;
    struct pool *pool;
    struct strpool *ids;
    struct hash_index *index;
    struct client_will_list *of_worker, orphans;
    uint32_t orphan_count;
    struct event *next_turn; /* while there are orphans */
};

/* ---- the index by worker and client id ---- */

struct key {
    const char *id;
    size_t len;
    uint16_t worker;
};

static struct client_will *will_at(const struct hub_client_wills *w, uint32_t id)
{
    return pool_at(w->pool, id);
}

static uint32_t *hash_link(void *ctx, uint32_t record) { return &will_at(ctx, record)->hash_link; }

static uint64_t hash_of(void *ctx, uint32_t record)
{
    const struct hub_client_wills *w = ctx;
    size_t len;
    const char *id = strpool_get(w->ids, will_at(w, record)->client_id, &len);
    return hash_bytes(id, len);
}

static bool has_key(void *ctx, uint32_t record, const void *key, size_t key_len)
{
    const struct hub_client_wills *w = ctx;
    const struct key *k = key;
    (void)key_len;
    return will_at(w, record)->claim.worker == k->worker &&
           strpool_equals(w->ids, will_at(w, record)->client_id, k->id, k->len);
}

static const struct hash_index_ops index_ops = {.link = hash_link, .hash = hash_of, .equals = has_key};

static struct client_will *find(const struct hub_client_wills *w, uint16_t worker, const char *id, size_t len)
{
    struct key k = {.id = id, .len = len, .worker = worker};
    uint32_t record = hash_index_find(w->index, hash_bytes(id, len), &k, sizeof k);
    return record ? will_at(w, record) : NULL;
}

/* ---- records ---- */

static void forget(struct hub_client_wills *w, struct client_will *v)
{
    LIST_REMOVE(v, link);
    w->orphan_count -= v->is_orphan;
    hash_index_remove(w->index, hash_of(w, v->record), v->record);
    strpool_release(w->ids, v->client_id);
    free(v->bytes);
    pool_release(w->pool, v->record);
    counter_set(COUNTER_HUB_WILLS, pool_count(w->pool));
}

/* NULL: no room. */
static struct client_will *add(struct hub_client_wills *w, struct engine_claim claim,
                               const struct ipc_bytes *id)
{
    uint32_t record = pool_alloc(w->pool);
    uint32_t name = record ? strpool_put(w->ids, id->data, id->len) : 0;
    if (!name && record)
        pool_release(w->pool, record);
    if (!name)
        return NULL;
    struct client_will *v = will_at(w, record);
    *v = (struct client_will){.claim = claim, .client_id = name, .record = record};
    hash_index_insert(w->index, hash_bytes(id->data, id->len), record);
    LIST_INSERT_HEAD(&w->of_worker[claim.worker], v, link);
    counter_set(COUNTER_HUB_WILLS, pool_count(w->pool));
    return v;
}

/* ---- what becomes of an orphan ---- */

/* The will as it is published now: with the time of its expiry in place of the interval. To be freed. */
static struct ipc_bytes at_its_end(const struct client_will *v)
{
    struct ipc_message m;
    const char *why;
    size_t used;
    CHECK(ipc_decode(v->bytes, v->len, &m, &used, &why) == IPC_OK);
    if (m.field[3].num)
        m.field[3].num += clock_wall_ms();
    size_t len = ipc_size(&m);
    char *bytes = xmalloc(len);
    ipc_encode(&m, bytes);
    return (struct ipc_bytes){.data = bytes, .len = (uint32_t)len};
}

static void settle(struct hub_client_wills *w, struct client_will *v)
{
    struct hub *h = w->hub;
    struct hub_stored s;
    size_t len;
    const char *id = strpool_get(w->ids, v->client_id, &len);
    struct ipc_bytes will = at_its_end(v);
    bool is_its_own = hub_stored_get(h, id, len, &s) && claim_equals(s.opener, v->claim);
    if (is_its_own && s.expiry_s && v->delay_s)
        hub_session_left(h, id, len, &s, &will, v->delay_s);
    else
        hub_will_publish_last(h, id, len, &will, 0);
    free((void *)(uintptr_t)will.data);
    forget(w, v);
}

/* ---- what workers say ---- */

void hub_client_will_told(struct hub_worker *worker, const struct ipc_message *m)
{
    struct hub_client_wills *w = worker->hub->sessions->client_wills;
    const struct ipc_bytes *id = &m->field[2].bytes, *will = &m->field[3].bytes;
    if (!hub_will_is_valid(will)) {
        LOG(bad_event, LOG_U64("worker", worker->number));
        return;
    }
    struct client_will *v = find(w, worker->number, id->data, id->len);
    if (v && v->is_orphan)
        settle(w, v);
    else if (v)
        forget(w, v);
    v = add(w, hub_claim_of(worker, m->field[0].num), id);
    if (!v) {
        LOG(full_event, LOG_BYTES("client_id", id->data, id->len));
        return;
    }
    v->delay_s = (uint32_t)m->field[1].num;
    v->len = will->len;
    v->bytes = xmalloc(will->len);
    memcpy(v->bytes, will->data, will->len);
}

void hub_client_will_done(struct hub *h, const char *id, size_t len, struct engine_claim claim)
{
    struct hub_client_wills *w = h->sessions->client_wills;
    struct client_will *v = pool_count(w->pool) ? find(w, claim.worker, id, len) : NULL;
    if (v && claim_equals(v->claim, claim))
        forget(w, v);
}

void hub_client_wills_forget(struct hub_worker *worker)
{
    struct hub_client_wills *w = worker->hub->sessions->client_wills;
    while (!LIST_EMPTY(&w->of_worker[worker->number]))
        forget(w, LIST_FIRST(&w->of_worker[worker->number]));
}

/* ---- the death of a worker ---- */

void hub_client_will_before(struct hub *h, const char *id, size_t len)
{
    struct hub_client_wills *w = h->sessions->client_wills;
    for (uint16_t worker = 0; w->orphan_count && worker < h->args->workers; worker++) {
        struct client_will *v = find(w, worker, id, len);
        if (v && v->is_orphan)
            settle(w, v);
    }
}

static void turn_cb(evutil_socket_t fd, short what, void *arg)
{
    struct hub_client_wills *w = arg;
    (void)fd, (void)what;
    clock_update();
    for (int n = 0; n < WILLS_PER_TURN && !LIST_EMPTY(&w->orphans); n++)
        settle(w, LIST_FIRST(&w->orphans));
    if (w->orphan_count)
        CHECK(evtimer_add(w->next_turn, &at_once) == 0);
}

void hub_client_wills_left(struct hub_worker *worker)
{
    struct hub_client_wills *w = worker->hub->sessions->client_wills;
    struct client_will_list *held = &w->of_worker[worker->number];
    uint32_t before = w->orphan_count;
    while (!LIST_EMPTY(held)) {
        struct client_will *v = LIST_FIRST(held);
        LIST_REMOVE(v, link);
        LIST_INSERT_HEAD(&w->orphans, v, link);
        v->is_orphan = true;
        w->orphan_count++;
    }
    if (w->orphan_count == before)
        return;
    counter_add(COUNTER_WILLS_LEFT, w->orphan_count - before);
    LOG(left_event, LOG_U64("worker", worker->number), LOG_U64("wills", w->orphan_count - before));
    CHECK(evtimer_add(w->next_turn, &at_once) == 0);
}

/* ---- */

struct hub_client_wills *hub_client_wills_new(struct hub *h)
{
    struct hub_client_wills *w = xcalloc(1, sizeof *w);
    w->hub = h;
    w->pool = pool_new("client wills", sizeof(struct client_will), MAX_WILLS);
    w->ids = strpool_new("client_wills", MAX_WILLS);
    w->index = hash_index_new(&index_ops, w, MAX_WILLS);
    w->of_worker = xcalloc(h->args->workers, sizeof *w->of_worker);
    w->next_turn = evtimer_new(h->base, turn_cb, w);
    CHECK(w->next_turn);
    return w;
}

void hub_client_wills_free(struct hub_client_wills *w)
{
    for (unsigned i = 0; i < w->hub->args->workers; i++)
        while (!LIST_EMPTY(&w->of_worker[i]))
            forget(w, LIST_FIRST(&w->of_worker[i]));
    while (!LIST_EMPTY(&w->orphans))
        forget(w, LIST_FIRST(&w->orphans));
    event_free(w->next_turn);
    hash_index_free(w->index);
    strpool_free(w->ids);
    pool_free(w->pool);
    free(w->of_worker);
    free(w);
}
