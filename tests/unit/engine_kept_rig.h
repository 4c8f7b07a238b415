/*
 * What the tests of what is kept share: each runs against both engines through their table, over a directory
 * of its own, with a clock that stands still; what is read back is compared as text.
 */
#ifndef HOLDFAST_TESTS_ENGINE_KEPT_RIG_H
#define HOLDFAST_TESTS_ENGINE_KEPT_RIG_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/clock.h"
#include "gateway/base/hash.h"
#include "tests/unit/engine_rig.h"

static const char *const engine_names[] = {"memory", "local"};
#define ENGINES  2
#define START_MS UINT64_C(1700000000000)

static struct rig rig;

/* Each test begins with this: the clock stands still, the engine is empty. */
static inline void begin(int which)
{
    hash_set_key(1, 2);
    clock_fake(START_MS);
    rig_begin(&rig, engine_names[which]);
}

static inline void finish(void)
{
    rig_end(&rig);
    clock_real();
}

/* ---- reading back ---- */

/* Messages as text: payloads, each followed by a space. */
struct taken {
    char text[65536];
    size_t len, count, most;
    uint64_t last_seq;
};

static inline bool take(void *ctx, const struct message_parts *m, uint64_t time_ms)
{
    struct taken *t = ctx;
    (void)time_ms;
    if (t->most && t->count == t->most)
        return false;
    ck_assert_uint_gt(m->seq, t->last_seq);
    t->last_seq = m->seq;
    t->count++;
    int n = snprintf(t->text + t->len, sizeof t->text - t->len, "%.*s ", (int)m->payload_len, m->payload);
    t->len += (size_t)n < sizeof t->text - t->len ? (size_t)n : 0;
    return true;
}

/* All that a scan gives, in batches of `batch`; *position as it leaves it. */
static inline const char *scan_all(const struct engine_filter *f, size_t n, uint64_t after, size_t batch,
                                   uint64_t *position)
{
    static struct taken t;
    t = (struct taken){.last_seq = after};
    struct engine_scan *s = rig.ops->scan_new(rig.reader, f, n, after, mqtt_topic_matches);
    enum engine_scan_result r;
    size_t before;
    do {
        before = t.count;
        r = rig.ops->scan_next(s, batch, take, &t);
        ck_assert_int_ne(r, ENGINE_SCAN_ERROR);
        ck_assert_uint_le(t.count - before, batch);
    } while (r == ENGINE_SCAN_MORE);
    if (position)
        *position = rig.ops->scan_position(s);
    rig.ops->scan_free(s);
    return t.text;
}

static inline const char *scan_one(const char *filter, uint64_t after)
{
    struct engine_filter f = rig_filter(filter, 0);
    return scan_all(&f, 1, after, 100, NULL);
}

static inline struct engine_stats stats(void)
{
    struct engine_stats s;
    rig.ops->stats(rig.engine, &s);
    return s;
}

/* ---- writing ---- */

/* Appends with an expiry time. */
static inline uint64_t append_expiring(const char *topic, const char *payload, uint64_t expires_ms)
{
    enum engine_result why;
    struct message_parts m = rig_parts(topic, payload);
    m.expires_ms = expires_ms;
    uint64_t seq = rig.ops->append(rig.engine, &m, &why);
    ck_assert_uint_gt(seq, 0);
    return seq;
}

static inline void retain(const char *topic, const char *payload, uint64_t expires_ms)
{
    struct message_parts m = rig_parts(topic, payload);
    m.seq = rig.ops->next_seq(rig.engine);
    m.expires_ms = expires_ms;
    rig.ops->retain(rig.engine, &m);
}

/* ---- sessions ---- */

/* A session as text. */
static char described[4096];
static inline void describe(void *ctx, const struct engine_session_view *v)
{
    char *at = described;
    (void)ctx;
    at += sprintf(at, "%.*s cursor %llu away %llu expiry %u extra %.*s;", (int)v->client_id_len, v->client_id,
                  (unsigned long long)v->progress.cursor, (unsigned long long)v->session.disconnected_ms,
                  v->session.expiry_s, (int)v->session.extra_len, v->session.extra);
    ck_assert_uint_eq(v->progress.cursor, v->session.cursor);
    for (size_t i = 0; i < v->subscription_count; i++) {
        at += sprintf(at, " %.*s:%u:%u:%llu", (int)v->subscriptions[i].len, v->subscriptions[i].filter,
                      v->subscriptions[i].options, v->subscriptions[i].identifier,
                      (unsigned long long)v->subscriptions[i].since);
        if (v->subscriptions[i].qos_before)
            at += sprintf(at, " before %u:%llu", v->subscriptions[i].qos_before,
                          (unsigned long long)v->subscriptions[i].until);
    }
    for (unsigned i = 0; i < v->progress.outs; i++)
        at += sprintf(at, " out %llu/%u/%u", (unsigned long long)v->progress.out[i].seq,
                      v->progress.out[i].packet_id, v->progress.out[i].state);
    for (unsigned i = 0; i < v->progress.ins; i++)
        at += sprintf(at, " in %u", v->progress.in[i]);
    for (unsigned i = 0; i < v->progress.owes; i++) {
        const struct engine_owed *o = &v->progress.owed[i];
        at += sprintf(at, " owed %.*s:%llu:%.*s", o->len < 9 ? o->len : 9, o->filter,
                      (unsigned long long)o->asked, o->after_len, o->after);
    }
}

static inline const char *session(const char *id)
{
    described[0] = 0;
    bool found = rig.ops->session_get(rig.reader, id, strlen(id), describe, NULL);
    ck_assert_int_eq(found, described[0] != 0);
    return described;
}

static inline void put_session(const char *id, uint64_t cursor, uint64_t away, uint32_t expiry,
                               const char *extra)
{
    struct engine_session s = {.cursor = cursor,
                               .disconnected_ms = away,
                               .expiry_s = expiry,
                               .extra = extra,
                               .extra_len = (uint32_t)strlen(extra)};
    rig.ops->session_put(rig.engine, id, strlen(id), &s);
}

static inline void subscribe(const char *id, const char *filter, uint8_t options, uint32_t identifier,
                             uint64_t since)
{
    struct engine_subscription s = {.filter = filter,
                                    .len = (uint16_t)strlen(filter),
                                    .options = options,
                                    .identifier = identifier,
                                    .since = since};
    rig.ops->subscribe(rig.engine, id, strlen(id), &s);
}

/* One that is owed retained messages up to a number. */
static inline void subscribe_owed(const char *id, const char *filter, uint64_t asked)
{
    struct engine_subscription s = {
        .filter = filter, .len = (uint16_t)strlen(filter), .options = 1, .asked = asked};
    rig.ops->subscribe(rig.engine, id, strlen(id), &s);
}

/* ---- random choices ---- */

/* A small generator, so that a failure can be repeated. */
static uint32_t random_state;
static inline uint32_t random_below(uint32_t n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % n;
}

#endif
