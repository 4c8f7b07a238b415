/*
 * What tests of the engines share: a directory of their own, an engine over it, waiting for commits, and
 * reading back.
 */
#ifndef HOLDFAST_TESTS_ENGINE_RIG_H
#define HOLDFAST_TESTS_ENGINE_RIG_H

#include <check.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/engine/engine.h"
#include "proto/mqtt_topic.h"

struct rig {
    const struct engine_ops *ops;
    struct engine_settings settings;
    struct engine *engine;
    struct engine_reader *reader;
    char dir[64];
    char why[ENGINE_WHY_MAX];
    /* what committed() and session_expired() have said */
    uint64_t ticket, last_seq;
    enum engine_result result, worst;
    unsigned expired;
    char expired_id[64];
};

static inline void rig_committed(void *ctx, uint64_t ticket, uint64_t last_seq, enum engine_result result)
{
    struct rig *r = ctx;
    ck_assert_uint_gt(ticket, r->ticket);
    r->ticket = ticket;
    r->last_seq = last_seq;
    r->result = result;
    if (result > r->worst)
        r->worst = result;
}

static inline void rig_session_expired(void *ctx, const char *client_id, size_t len)
{
    struct rig *r = ctx;
    r->expired++;
    snprintf(r->expired_id, sizeof r->expired_id, "%.*s", (int)len, client_id);
}

static inline void rig_poll(struct rig *r)
{
    static const struct engine_handler handler = {.committed = rig_committed,
                                                  .session_expired = rig_session_expired};
    r->ops->poll(r->engine, &handler, r);
}

/* Waits until the ticket is done. */
static inline enum engine_result rig_wait(struct rig *r, uint64_t ticket)
{
    rig_poll(r);
    while (r->ticket < ticket) {
        struct pollfd p = {.fd = r->ops->event_fd(r->engine), .events = POLLIN};
        ck_assert_int_eq(poll(&p, 1, 60000), 1);
        rig_poll(r);
    }
    return r->result;
}

static inline enum engine_result rig_commit(struct rig *r) { return rig_wait(r, r->ops->commit(r->engine)); }

/* A tick, and all the maintenance that it brings. */
static inline void rig_tick(struct rig *r)
{
    struct engine_stats s;
    r->ops->tick(r->engine);
    rig_wait(r, r->ops->commit(r->engine));
    for (r->ops->stats(r->engine, &s); s.maintaining; r->ops->stats(r->engine, &s))
        usleep(500);
    rig_poll(r);
}

static inline void rig_make_dir(struct rig *r)
{
    snprintf(r->dir, sizeof r->dir, "/tmp/holdfast-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(r->dir));
}

static inline void rig_remove_dir(struct rig *r)
{
    static const char *const files[] = {"holdfast.mdb", "holdfast.mdb-lock", "holdfast.lock"};
    char path[128];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", r->dir, files[i]);
        unlink(path);
    }
    rmdir(r->dir);
}

/* Opens the engine and a reader; the settings are the rig's. */
static inline void rig_open(struct rig *r)
{
    r->settings.data_dir = r->dir;
    r->ticket = 0;
    r->engine = r->ops->open_store(&r->settings, r->why);
    ck_assert_msg(r->engine != NULL, "%s", r->why);
    r->reader = r->ops->reader_open(r->engine, r->dir, r->why);
    ck_assert_msg(r->reader != NULL, "%s", r->why);
}

static inline void rig_close(struct rig *r)
{
    r->ops->reader_close(r->reader);
    r->ops->close(r->engine);
    r->engine = NULL;
}

static inline void rig_begin(struct rig *r, const char *engine)
{
    static const struct engine_settings settings = ENGINE_SETTINGS_DEFAULT;
    *r = (struct rig){.ops = engine_find(engine), .settings = settings};
    r->settings.max_clients = 1000;
    r->settings.reserve_bytes = 256 << 10;
    rig_make_dir(r);
    rig_open(r);
}

static inline void rig_assert_sound(struct rig *r)
{
    ck_assert_msg(r->ops->verify(r->reader, r->why), "%s", r->why);
}

static inline void rig_end(struct rig *r)
{
    rig_assert_sound(r);
    rig_close(r);
    rig_remove_dir(r);
}

static inline struct message_parts rig_parts(const char *topic, const char *payload)
{
    return (struct message_parts){.topic = topic,
                                  .topic_len = (uint16_t)strlen(topic),
                                  .payload = payload,
                                  .payload_len = (uint32_t)strlen(payload),
                                  .qos = 1};
}

/* Appends; the engine must take it. */
static inline uint64_t rig_append(struct rig *r, const char *topic, const char *payload)
{
    enum engine_result why;
    struct message_parts m = rig_parts(topic, payload);
    uint64_t seq = r->ops->append(r->engine, &m, &why);
    ck_assert_msg(seq != 0, "%s", engine_result_text(why));
    return seq;
}

static inline struct engine_filter rig_filter(const char *text, uint64_t after)
{
    return (struct engine_filter){.text = text, .len = (uint16_t)strlen(text), .after = after};
}

#endif
