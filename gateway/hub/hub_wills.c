/*
 * Wills that wait. A will lies in its session's stored record (hub_stored.h), so that it survives the hub;
 * here is only when to look there: a wheel of client ids. hub_sessions.c says when one begins to wait and
 * when not any more, and finds those that an earlier hub left. A will that is due is read, checked against
 * what is stored now, published, and taken out of the record in the same commit, so that it comes once.
 *
 * A will that is refused because the disk is full is tried again; one whose session ends is not.
 */
#include "gateway/hub/hub_wills.h"

#include <event2/event.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/hash.h"
#include "gateway/base/hash_index.h"
#include "gateway/base/log.h"
#include "gateway/base/pool.h"
#include "gateway/base/strpool.h"
#include "gateway/base/wheel.h"
#include "gateway/base/xmalloc.h"
#include "gateway/hub/hub_internal.h"
#include "gateway/hub/hub_sessions.h"

LOG_EVENT_ONCE_A_SECOND(lost_event, "will_lost", LOG_LEVEL_WARNING);

#define MAX_WILLS      (1u << 24)
#define RETRY_MS       5000 /* after a will was refused */
#define UNCERTAIN_MS   1000 /* while somebody has the session, or may have it */
#define WILLS_PER_LOOK 1000 /* the rest goes on at the next one */

static const struct timeval look_interval = {0, WHEEL_TICK_MS * 1000};

/* A client id whose will waits. */
struct will {
    uint64_t due_ms; /* wall clock */
    uint32_t client_id;
    uint32_t hash_link;
    struct wheel_link wheel;
};

struct hub_wills {
    struct hub *hub;
    struct pool *pool;
    struct strpool *ids;
    struct hash_index *index;
    struct wheel *wheel;
    struct event *timer; /* only while some wait */
    unsigned budget;     /* of this look */
};

static struct will *will_at(const struct hub_wills *w, uint32_t id) { return pool_at(w->pool, id); }

/* ---- the index by client id ---- */

static uint32_t *hash_link(void *ctx, uint32_t record) { return &will_at(ctx, record)->hash_link; }

static uint64_t hash_of(void *ctx, uint32_t record)
{
    const struct hub_wills *w = ctx;
    size_t len;
    const char *id = strpool_get(w->ids, will_at(w, record)->client_id, &len);
    return hash_bytes(id, len);
}

static bool has_key(void *ctx, uint32_t record, const void *key, size_t key_len)
{
    const struct hub_wills *w = ctx;
    return strpool_equals(w->ids, will_at(w, record)->client_id, key, key_len);
}

static const struct hash_index_ops index_ops = {.link = hash_link, .hash = hash_of, .equals = has_key};

static uint32_t find_will(const struct hub_wills *w, const char *id, size_t len)
{
    return hash_index_find(w->index, hash_bytes(id, len), id, len);
}

/* ---- when ---- */

/* The deadline on the clock of the wheel. */
static uint64_t deadline(uint64_t due_wall_ms)
{
    uint64_t now = clock_wall_ms();
    return clock_ms() + (due_wall_ms > now ? due_wall_ms - now : 0);
}

/* Frees an entry that is in no slot of the wheel. */
static void forget(struct hub_wills *w, uint32_t record)
{
    hash_index_remove(w->index, hash_of(w, record), record);
    strpool_release(w->ids, will_at(w, record)->client_id);
    pool_release(w->pool, record);
}

static uint32_t new_will(struct hub_wills *w, const char *id, size_t len)
{
    uint32_t record = pool_alloc(w->pool);
    uint32_t name = record ? strpool_put(w->ids, id, len) : 0;
    if (!name && record)
        pool_release(w->pool, record);
    if (!name)
        return 0;
    will_at(w, record)->client_id = name;
    hash_index_insert(w->index, hash_bytes(id, len), record);
    return record;
}

void hub_will_wait(struct hub *h, const char *id, size_t len, uint64_t due_wall_ms)
{
    struct hub_wills *w = hub_wills(h);
    uint32_t record = find_will(w, id, len);
    if (!record)
        record = new_will(w, id, len);
    if (!record) {
        LOG(lost_event, LOG_BYTES("client_id", id, len), LOG_STR("why", "too many wills wait"));
        return;
    }
    will_at(w, record)->due_ms = due_wall_ms;
    wheel_move(w->wheel, record, deadline(due_wall_ms));
    if (!evtimer_pending(w->timer, NULL))
        CHECK(event_add(w->timer, &look_interval) == 0);
}

void hub_will_cancel(struct hub *h, const char *id, size_t len)
{
    struct hub_wills *w = hub_wills(h);
    uint32_t record = find_will(w, id, len);
    if (!record)
        return;
    wheel_remove(w->wheel, record);
    forget(w, record);
}

uint32_t hub_wills_waiting(const struct hub_wills *w) { return pool_count(w->pool); }

/* ---- publishing ---- */

/* The message, or false. */
static bool decode(const struct ipc_bytes *will, struct ipc_message *m)
{
    const char *why;
    size_t used;
    return will->len && ipc_decode(will->data, will->len, m, &used, &why) == IPC_OK && used == will->len &&
           m->type == IPC_PUBLISH && m->field[1].num <= 2 && m->field[5].bytes.len > 0;
}

bool hub_will_is_valid(const struct ipc_bytes *will)
{
    struct ipc_message m;
    return decode(will, &m);
}

bool hub_will_publish(struct hub *h, const struct ipc_bytes *will, uint64_t disconnected_ms,
                      enum engine_result *why)
{
    struct ipc_message m;
    *why = ENGINE_OK;
    if (!decode(will, &m))
        return true;
    struct hub_publication p = {.qos = (uint8_t)m.field[1].num,
                                .retain = m.field[2].num != 0,
                                .expires_ms = m.field[3].num,
                                .origin = m.field[4].num,
                                .topic = m.field[5].bytes,
                                .props = m.field[6].bytes,
                                .payload = m.field[7].bytes};
    /* the message's own expiry begins when it is published (section 3.1.3.2.4) */
    uint64_t now = clock_wall_ms();
    if (p.expires_ms && disconnected_ms && now > disconnected_ms)
        p.expires_ms += now - disconnected_ms;
    unsigned workers;
    return hub_publish(h, &p, &workers, why) != 0;
}

void hub_will_publish_last(struct hub *h, const char *id, size_t len, const struct ipc_bytes *will,
                           uint64_t disconnected_ms)
{
    enum engine_result why;
    if (!hub_will_publish(h, will, disconnected_ms, &why))
        LOG(lost_event, LOG_BYTES("client_id", id, len), LOG_STR("why", engine_result_text(why)));
}

/* A will's time has come: what is stored decides. Returns when to look again, 0: never. */
static uint64_t publish_due(struct hub *h, const char *id, size_t len, uint64_t now_ms)
{
    struct hub_stored s;
    struct engine_claim claim;
    enum engine_result why;
    if (!hub_stored_get(h, id, len, &s) || s.disconnected_ms == 0 || !s.will.len)
        return 0;
    if (s.will_due_ms > clock_wall_ms())
        return deadline(s.will_due_ms);
    if (!hub_claims_are_known(h) || h->engine_ops->find(h->engine, id, len, &claim))
        return now_ms + UNCERTAIN_MS;
    if (!hub_will_publish(h, &s.will, s.disconnected_ms, &why))
        return now_ms + RETRY_MS;
    s.will.len = 0;
    if (s.ends_with_will)
        hub_stored_remove(h, id, len);
    else
        hub_stored_put(h, id, len, &s);
    return 0;
}

static struct wheel_link *wheel_link(void *ctx, uint32_t record) { return &will_at(ctx, record)->wheel; }

static uint64_t look(void *ctx, uint32_t record, uint64_t now_ms)
{
    struct hub_wills *w = ctx;
    size_t len;
    struct will *will = will_at(w, record);
    if (will->due_ms > clock_wall_ms())
        return deadline(will->due_ms);
    if (w->budget == 0)
        return now_ms;
    w->budget--;
    const char *id = strpool_get(w->ids, will->client_id, &len);
    uint64_t again = publish_due(w->hub, id, len, now_ms);
    if (!again)
        forget(w, record);
    return again;
}

static const struct wheel_ops wheel_ops = {.link = wheel_link, .look = look};

void hub_wills_look(struct hub_wills *w)
{
    w->budget = WILLS_PER_LOOK;
    wheel_advance(w->wheel, clock_ms());
    if (wheel_count(w->wheel) == 0)
        event_del(w->timer);
}

static void look_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    clock_update();
    hub_wills_look(arg);
}

struct hub_wills *hub_wills_new(struct hub *h)
{
    struct hub_wills *w = xcalloc(1, sizeof *w);
    w->hub = h;
    w->pool = pool_new("waiting wills", sizeof(struct will), MAX_WILLS);
    w->ids = strpool_new("will_clients", MAX_WILLS);
    w->index = hash_index_new(&index_ops, w, MAX_WILLS);
    w->wheel = wheel_new(&wheel_ops, w, clock_ms());
    w->timer = event_new(h->base, -1, EV_PERSIST, look_cb, w);
    CHECK(w->timer);
    return w;
}

void hub_wills_free(struct hub_wills *w)
{
    event_free(w->timer);
    wheel_free(w->wheel);
    hash_index_free(w->index);
    strpool_free(w->ids);
    pool_free(w->pool);
    free(w);
}
