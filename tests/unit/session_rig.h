/*
 * For tests of sessions with a log: the sessions, topic tree, fan-out and engine are the real ones, in one
 * process and on a fake clock. What stands between them elsewhere, the link to the hub and the hub, is played
 * here: requests are taken into a queue, applied to the engine in order, committed, and then the kept
 * messages are fanned out and the requests answered. Switches hold each of these steps back, let publishes be
 * refused, or let the worker die.
 *
 * A peer is a client of one connection: packets out, packets in, over the codec. What it does with them is
 * the test's.
 */
#ifndef HOLDFAST_TESTS_SESSION_RIG_H
#define HOLDFAST_TESTS_SESSION_RIG_H

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/time.h>

#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/log.h"
#include "gateway/base/options.h"
#include "gateway/base/xmalloc.h"
#include "gateway/engine/engine.h"
#include "gateway/engine/progress.h"
#include "gateway/ipc/ipc_message.h"
#include "gateway/session/session.h"
#include "proto/mqtt.h"
#include "proto/mqtt_topic.h"
#include "tests/unit/loop_client.h"

#define RIG_CLAIMS 64
#define RIG_WILLS  8

/* Something on its way to the hub: a request, or a message that begins or ends a session. */
struct rig_item {
    struct rig_item *next;
    struct session_cookie cookie;
    size_t len;
    unsigned char bytes[];
};

/* An answer on its way back. */
struct rig_answer {
    struct rig_answer *next;
    struct session_cookie cookie;
    int result;
};

/* A kept message, from its commit until the fan-out has it. */
struct rig_kept {
    struct rig_kept *next;
    struct message *message;
};

/* OPEN, until it is answered. */
struct rig_opened {
    struct rig_opened *next;
    char id[64];
    uint64_t claim;
    bool clean, present;
    uint8_t code;
    uint32_t expiry_s;
};

struct rig {
    struct event_base *base;
    struct config config;
    const struct engine_ops *ops;
    struct engine *engine;
    struct engine_reader *reader;
    struct sessions *sessions;
    struct fanout *fanout;
    uint64_t now, newest; /* newest: the last number that was kept */
    uint64_t ticket;
    /* on the way */
    struct rig_item *items, **last_item;
    struct rig_answer *answers, **last_answer;
    struct rig_kept *kept, **last_kept;
    struct rig_opened *opened, **last_opened;   /* to be told */
    struct rig_opened *waiting, **last_waiting; /* for a CLOSE */
    unsigned item_count;
    /* switches */
    bool hold_requests;        /* what the worker sends is not looked at */
    bool hold_answers;         /* requests take effect, and are not answered */
    bool hold_opened;          /* nor is OPEN */
    bool hold_feed;            /* kept messages do not reach the worker */
    bool no_room;              /* the link takes no requests */
    bool dead;                 /* the worker does not speak any more */
    enum engine_result refuse; /* what becomes of publishes that are to be kept; ENGINE_OK: they are */
    bool fail_progress;        /* PROGRESS is not stored: the disk does not work */
    bool fail_subscriptions;   /* nor are SUBSCRIBE and UNSUBSCRIBE */
    uint8_t open_code;         /* what OPEN is answered with */
    /* who has which client id */
    struct rig_claim {
        char id[64];
        uint64_t number;
        bool is_stored;
    } claims[RIG_CLAIMS];
    /* wills that CLOSE left behind */
    struct rig_will {
        char id[64], topic[64], payload[64];
        uint32_t delay_s, qos;
        bool retain;
    } wills[RIG_WILLS];
    unsigned will_count;
    bool trace;     /* writes what happens to stderr */
    uint32_t slice; /* deliveries of the fan-out at a time */
    /* Hears of each message that is kept. NULL: nobody does. */
    void (*kept_fn)(void *ctx, const struct message *m);
    void *kept_ctx;
    /* figures */
    unsigned requests, progresses, closes, published0, kept_count;
    char why[ENGINE_WHY_MAX];
};

#define RIG_TRACE(r, ...)                                                                                    \
    do {                                                                                                     \
        if ((r)->trace)                                                                                      \
            fprintf(stderr, __VA_ARGS__);                                                                    \
    } while (0)

/* ---- what the sessions call ---- */

static inline void rig_put(struct rig *r, const struct ipc_message *m, const struct session_cookie *cookie)
{
    size_t len = ipc_size(m);
    ck_assert_uint_gt(len, 0);
    struct rig_item *i = xcalloc(1, sizeof *i + len);
    i->len = len;
    if (cookie)
        i->cookie = *cookie;
    ipc_encode(m, i->bytes);
    *r->last_item = i;
    r->last_item = &i->next;
    r->item_count++;
}

static inline bool rig_request(void *ctx, struct ipc_message *m, const struct session_cookie *cookie)
{
    struct rig *r = ctx;
    if (r->dead)
        return true;
    if (r->no_room)
        return false;
    m->field[0].num = ++r->requests;
    rig_put(r, m, cookie);
    return true;
}

static inline void rig_open_session(void *ctx, uint32_t session)
{
    struct rig *r = ctx;
    bool clean;
    uint32_t expiry_s;
    size_t len;
    const char *id = sessions_client_id(r->sessions, session, &len);
    ck_assert(sessions_is_opening(r->sessions, session, &clean, &expiry_s));
    struct ipc_message m = IPC_MAKE(OPEN, IPC_NUM(sessions_get(r->sessions, session)->claim), IPC_NUM(clean),
                                    IPC_NUM(expiry_s), IPC_BYTES(id, len));
    if (!r->dead)
        rig_put(r, &m, NULL);
}

static inline void rig_claimed(void *ctx, const char *id, size_t len, uint64_t claim)
{
    struct rig *r = ctx;
    struct ipc_message m = IPC_MAKE(CLAIM, IPC_NUM(claim), IPC_NUM(0), IPC_BYTES(id, len));
    if (!r->dead)
        rig_put(r, &m, NULL);
}

static inline void rig_released(void *ctx, const char *id, size_t len, uint64_t claim)
{
    struct rig *r = ctx;
    struct ipc_message m = IPC_MAKE(RELEASE, IPC_NUM(claim), IPC_BYTES(id, len));
    if (!r->dead)
        rig_put(r, &m, NULL);
}

static inline bool rig_publish0(void *ctx, const char *client_id, size_t len, struct message *m)
{
    struct rig *r = ctx;
    (void)client_id, (void)len;
    if (r->dead)
        return false;
    r->published0++;
    m->seq = r->ops->next_seq(r->engine);
    if (m->retain) {
        struct message_parts parts = {.topic = message_topic(m),
                                      .topic_len = m->topic_len,
                                      .props = message_props(m),
                                      .props_len = m->props_len,
                                      .payload = message_payload(m),
                                      .payload_len = m->payload_len,
                                      .retain = true,
                                      .seq = m->seq,
                                      .expires_ms = m->expires_ms,
                                      .origin = m->origin};
        r->ops->retain(r->engine, &parts);
    }
    sessions_told(r->sessions, m);
    return fanout_start(r->fanout, m);
}

/* ---- the hub ---- */

static inline void rig_committed(void *ctx, uint64_t ticket, uint64_t last_seq, enum engine_result result)
{
    struct rig *r = ctx;
    (void)last_seq;
    ck_assert_int_eq(result, ENGINE_OK);
    r->ticket = ticket;
}

static inline void rig_expired(void *ctx, const char *client_id, size_t len)
{
    (void)ctx, (void)client_id, (void)len;
}

static inline void rig_commit(struct rig *r)
{
    static const struct engine_handler handler = {.committed = rig_committed, .session_expired = rig_expired};
    uint64_t ticket = r->ops->commit(r->engine);
    r->ops->poll(r->engine, &handler, r);
    while (r->ticket < ticket) {
        struct pollfd p = {.fd = r->ops->event_fd(r->engine), .events = POLLIN};
        ck_assert_int_eq(poll(&p, 1, 60000), 1);
        r->ops->poll(r->engine, &handler, r);
    }
}

static inline const char *rig_text(char *out, size_t size, const struct ipc_bytes *b)
{
    ck_assert_uint_lt(b->len, size);
    memcpy(out, b->data, b->len);
    out[b->len] = '\0';
    return out;
}

/* The place of a client id in the table of claims, or a free one. */
static inline struct rig_claim *rig_claim_of(struct rig *r, const struct ipc_bytes *id)
{
    char text[64];
    struct rig_claim *room = NULL;
    rig_text(text, sizeof text, id);
    for (size_t i = 0; i < RIG_CLAIMS; i++) {
        if (strcmp(r->claims[i].id, text) == 0 && r->claims[i].number)
            return &r->claims[i];
        if (!r->claims[i].number)
            room = &r->claims[i];
    }
    ck_assert_ptr_nonnull(room);
    strcpy(room->id, text);
    return room;
}

static inline bool rig_holds(struct rig *r, const struct ipc_bytes *id, uint64_t claim)
{
    const struct rig_claim *c = rig_claim_of(r, id);
    return c->number == claim && c->is_stored;
}

static inline void rig_trace_progress(struct rig *r, const struct ipc_bytes *id,
                                      const struct engine_progress *p)
{
    RIG_TRACE(r, "progress of %.*s: cursor %lu", (int)id->len, id->data, (unsigned long)p->cursor);
    for (unsigned i = 0; i < p->outs; i++)
        RIG_TRACE(r, " %lu:%u", (unsigned long)p->out[i].seq, p->out[i].state);
    for (unsigned i = 0; i < p->ins; i++)
        RIG_TRACE(r, " in %u", p->in[i]);
    RIG_TRACE(r, "\n");
}

static inline void rig_apply_progress(struct rig *r, const struct ipc_bytes *id,
                                      const struct ipc_bytes *bytes)
{
    if (!bytes->len)
        return;
    struct progress_buffer *b = progress_decode(bytes->data, bytes->len);
    ck_assert_ptr_nonnull(b);
    rig_trace_progress(r, id, progress_of(b));
    r->ops->progress(r->engine, id->data, id->len, progress_of(b));
    progress_free(b);
}

static inline void rig_found(void *ctx, const struct engine_session_view *v)
{
    *(struct engine_session *)ctx = v->session;
}

/* The session is this claim's now. */
static inline void rig_open_now(struct rig *r, struct rig_opened *o)
{
    const struct ipc_bytes id = {.data = o->id, .len = (uint32_t)strlen(o->id)};
    struct engine_session s = {.cursor = r->newest};
    struct rig_claim *c = rig_claim_of(r, &id);
    c->number = o->claim;
    c->is_stored = true;
    rig_commit(r); /* what is before it is there to be read */
    o->present = r->ops->session_get(r->reader, id.data, id.len, rig_found, &s);
    if (o->clean && o->present) {
        r->ops->session_remove(r->engine, id.data, id.len);
        s = (struct engine_session){.cursor = r->newest};
        o->present = false;
    }
    s.disconnected_ms = 0;
    s.expiry_s = o->expiry_s;
    s.extra = NULL;
    s.extra_len = 0;
    o->code = r->open_code;
    if (!o->code)
        r->ops->session_put(r->engine, id.data, id.len, &s);
    o->next = NULL;
    *r->last_opened = o;
    r->last_opened = &o->next;
}

/* A session that is held by another claim has to be closed first. */
static inline void rig_apply_open(struct rig *r, const struct ipc_message *m)
{
    const struct ipc_bytes *id = &m->field[3].bytes;
    const struct rig_claim *c = rig_claim_of(r, id);
    struct rig_opened *o = xcalloc(1, sizeof *o);
    rig_text(o->id, sizeof o->id, id);
    o->claim = m->field[0].num;
    o->clean = m->field[1].num;
    o->expiry_s = (uint32_t)m->field[2].num;
    if (!c->number || !c->is_stored) {
        rig_open_now(r, o);
        return;
    }
    *r->last_waiting = o;
    r->last_waiting = &o->next;
}

/* The claim is given up; who waits for the session has it. */
static inline void rig_give_up(struct rig *r, const char *id)
{
    for (struct rig_opened **at = &r->waiting; *at; at = &(*at)->next)
        if (strcmp((*at)->id, id) == 0) {
            struct rig_opened *o = *at;
            *at = o->next;
            if (!*at)
                r->last_waiting = at;
            rig_open_now(r, o);
            return;
        }
}

static inline void rig_note_will(struct rig *r, const struct ipc_message *close)
{
    const struct ipc_bytes *will = &close->field[6].bytes;
    struct ipc_message m;
    size_t used;
    const char *why;
    if (!will->len)
        return;
    ck_assert_int_eq(ipc_decode(will->data, will->len, &m, &used, &why), IPC_OK);
    ck_assert_int_eq(m.type, IPC_PUBLISH);
    ck_assert_uint_lt(r->will_count, RIG_WILLS);
    struct rig_will *w = &r->wills[r->will_count++];
    rig_text(w->id, sizeof w->id, &close->field[4].bytes);
    rig_text(w->topic, sizeof w->topic, &m.field[5].bytes);
    rig_text(w->payload, sizeof w->payload, &m.field[7].bytes);
    w->delay_s = (uint32_t)close->field[3].num;
    w->qos = (uint32_t)m.field[1].num;
    w->retain = m.field[2].num != 0;
}

/* An OPEN that waits is given up with its connection. */
static inline void rig_wait_no_more(struct rig *r, uint64_t claim)
{
    struct rig_opened **at = &r->waiting;
    while (*at && (*at)->claim != claim)
        at = &(*at)->next;
    struct rig_opened *o = *at;
    if (!o)
        return;
    *at = o->next;
    if (!*at)
        r->last_waiting = at;
    free(o);
}

static inline void rig_apply_close(struct rig *r, const struct ipc_message *m)
{
    const struct ipc_bytes *id = &m->field[4].bytes;
    char text[64];
    r->closes++;
    if (!rig_holds(r, id, m->field[1].num)) {
        rig_wait_no_more(r, m->field[1].num);
        return;
    }
    rig_apply_progress(r, id, &m->field[5].bytes);
    if (m->field[2].num) {
        struct engine_session s = {.disconnected_ms = clock_wall_ms(), .expiry_s = (uint32_t)m->field[2].num};
        r->ops->session_put(r->engine, id->data, id->len, &s);
    } else {
        r->ops->session_remove(r->engine, id->data, id->len);
    }
    rig_note_will(r, m);
    rig_claim_of(r, id)->number = 0;
    rig_give_up(r, rig_text(text, sizeof text, id));
}

static inline struct message *rig_message(const struct ipc_message *m)
{
    struct message_parts parts = {.qos = (uint8_t)m->field[1].num,
                                  .retain = m->field[2].num != 0,
                                  .expires_ms = m->field[3].num,
                                  .origin = m->field[4].num,
                                  .topic = m->field[5].bytes.data,
                                  .topic_len = (uint16_t)m->field[5].bytes.len,
                                  .props = m->field[6].bytes.data,
                                  .props_len = m->field[6].bytes.len,
                                  .payload = m->field[7].bytes.data,
                                  .payload_len = m->field[7].bytes.len};
    return message_new(&parts);
}

/* Appends, and retains if that is asked for; takes over the reference. */
static inline enum engine_result rig_keep(struct rig *r, struct message *m)
{
    struct message_parts parts = {.topic = message_topic(m),
                                  .topic_len = m->topic_len,
                                  .props = message_props(m),
                                  .props_len = m->props_len,
                                  .payload = message_payload(m),
                                  .payload_len = m->payload_len,
                                  .qos = m->qos,
                                  .retain = m->retain,
                                  .expires_ms = m->expires_ms,
                                  .origin = m->origin};
    enum engine_result why = r->refuse;
    if (!why) {
        parts.seq = m->seq = r->ops->append(r->engine, &parts, &why);
        ck_assert_uint_gt(m->seq, 0);
        if (m->retain)
            r->ops->retain(r->engine, &parts);
        struct rig_kept *k = xcalloc(1, sizeof *k);
        k->message = message_ref(m);
        *r->last_kept = k;
        r->last_kept = &k->next;
        r->newest = m->seq;
        r->kept_count++;
        RIG_TRACE(r, "hub keeps %lu %.*s %.*s\n", (unsigned long)m->seq, m->topic_len, message_topic(m),
                  (int)(m->payload_len < 12 ? m->payload_len : 12), message_payload(m));
        if (r->kept_fn)
            r->kept_fn(r->kept_ctx, m);
    }
    message_unref(m);
    return why;
}

static inline enum engine_result rig_apply(struct rig *r, const struct ipc_message *m)
{
    const struct ipc_bytes *id = &m->field[2].bytes;
    enum engine_result result = ENGINE_OK;
    switch ((int)m->type) {
    case IPC_PUBLISH:
        result = rig_keep(r, rig_message(m));
        if (!result && m->field[8].bytes.len) /* it goes with its message */
            rig_apply_progress(r, &m->field[8].bytes, &m->field[9].bytes);
        break;
    case IPC_PROGRESS:
        r->progresses++;
        if (r->fail_progress)
            result = ENGINE_FAILED;
        else if (rig_holds(r, id, m->field[1].num))
            rig_apply_progress(r, id, &m->field[3].bytes);
        break;
    case IPC_SUBSCRIBE:
        if (r->fail_subscriptions) {
            result = ENGINE_FAILED;
        } else if (rig_holds(r, &m->field[5].bytes, m->field[1].num)) {
            struct engine_subscription s = {.filter = m->field[6].bytes.data,
                                            .len = (uint16_t)m->field[6].bytes.len,
                                            .options = (uint8_t)m->field[2].num,
                                            .identifier = (uint32_t)m->field[3].num,
                                            .since = m->field[4].num};
            r->ops->subscribe(r->engine, m->field[5].bytes.data, m->field[5].bytes.len, &s);
        }
        break;
    case IPC_UNSUBSCRIBE:
        if (r->fail_subscriptions)
            result = ENGINE_FAILED;
        else if (rig_holds(r, id, m->field[1].num))
            r->ops->unsubscribe(r->engine, id->data, id->len, m->field[3].bytes.data, m->field[3].bytes.len);
        break;
    case IPC_CLOSE:
        rig_apply_close(r, m);
        break;
    case IPC_FENCE:
        break;
    default:
        ck_abort_msg("%s is no request", ipc_type_name(m->type));
    }
    return result;
}

/* Not a request: OPEN, CLAIM, RELEASE. False: it is one. */
static inline bool rig_apply_other(struct rig *r, const struct ipc_message *m)
{
    if (m->type == IPC_OPEN) {
        rig_apply_open(r, m);
    } else if (m->type == IPC_CLAIM) {
        const struct ipc_bytes *id = &m->field[2].bytes;
        struct rig_claim *c = rig_claim_of(r, id);
        c->number = m->field[0].num;
        c->is_stored = false;
        r->ops->session_remove(r->engine, id->data, id->len);
    } else if (m->type == IPC_RELEASE) {
        struct rig_claim *c = rig_claim_of(r, &m->field[1].bytes);
        if (c->number == m->field[0].num)
            c->number = 0;
    } else {
        return false;
    }
    return true;
}

/* Takes up to max of what the worker has sent, each once and in order; one commit for all. */
static inline void rig_take(struct rig *r, unsigned max)
{
    for (; r->items && !r->hold_requests && max; max--) {
        struct rig_item *i = r->items;
        struct ipc_message m;
        size_t used;
        const char *why = "";
        ck_assert_msg(ipc_decode(i->bytes, i->len, &m, &used, &why) == IPC_OK, "%s", why);
        r->items = i->next;
        r->item_count--;
        if (!r->items)
            r->last_item = &r->items;
        RIG_TRACE(r, "hub takes %s %lu\n", ipc_type_name(m.type), (unsigned long)m.field[0].num);
        if (!rig_apply_other(r, &m)) {
            struct rig_answer *a = xcalloc(1, sizeof *a);
            a->result = rig_apply(r, &m);
            a->cookie = i->cookie;
            *r->last_answer = a;
            r->last_answer = &a->next;
        }
        free(i);
    }
    rig_commit(r);
}

static inline void rig_feed(struct rig *r)
{
    while (r->kept && !r->hold_feed) {
        struct rig_kept *k = r->kept;
        r->kept = k->next;
        if (!r->kept)
            r->last_kept = &r->kept;
        if (!r->dead) {
            sessions_told(r->sessions, k->message);
            ck_assert(fanout_start(r->fanout, k->message));
        }
        message_unref(k->message);
        free(k);
    }
}

static inline void rig_tell_opened(struct rig *r)
{
    while (r->opened && !r->hold_opened) {
        struct rig_opened *o = r->opened;
        r->opened = o->next;
        if (!r->opened)
            r->last_opened = &r->opened;
        if (!r->dead)
            sessions_opened(r->sessions, o->id, strlen(o->id), o->claim, o->present, o->code);
        free(o);
    }
}

static inline void rig_answer(struct rig *r)
{
    while (r->answers && !r->hold_answers) {
        struct rig_answer *a = r->answers;
        r->answers = a->next;
        if (!r->answers)
            r->last_answer = &r->answers;
        if (!r->dead)
            sessions_done(r->sessions, &a->cookie, a->result);
        free(a);
    }
}

/* One turn of the hub. */
static inline void rig_hub(struct rig *r)
{
    rig_take(r, UINT32_MAX);
    rig_feed(r);
    rig_tell_opened(r);
    rig_answer(r);
}

/* Turns loop and hub until all that can happen without time passing has happened. */
static inline void rig_turn(struct rig *r)
{
    do {
        for (int i = 0; i < 3; i++) {
            loop_turn(r->base);
            rig_hub(r);
        }
        loop_turn(r->base);
    } while ((r->items && !r->hold_requests) || (r->answers && !r->hold_answers));
}

/* Lets ms pass in steps of 50. */
static inline void rig_pass(struct rig *r, uint64_t ms)
{
    for (uint64_t end = r->now + ms; r->now < end;) {
        uint64_t before = r->now / 1000;
        r->now += 50;
        clock_fake(r->now);
        sessions_tick(r->sessions);
        if (r->now / 1000 != before)
            sessions_second(r->sessions);
        rig_turn(r);
    }
}

/* Something published by the API. Returns its number. */
static inline uint64_t rig_publish(struct rig *r, const char *topic, const char *payload, uint8_t qos,
                                   bool retain)
{
    struct message_parts parts = {.topic = topic,
                                  .topic_len = (uint16_t)strlen(topic),
                                  .payload = payload,
                                  .payload_len = (uint32_t)strlen(payload),
                                  .qos = qos,
                                  .retain = retain};
    struct message *m = message_new(&parts);
    if (qos) {
        ck_assert_int_eq(rig_keep(r, m), ENGINE_OK);
    } else {
        rig_publish0(r, "", 0, m);
        message_unref(m);
    }
    rig_turn(r);
    return r->newest;
}

/* ---- beginning and end ---- */

static const struct sessions_handler rig_handler = {.publish = rig_publish0,
                                                    .request = rig_request,
                                                    .open = rig_open_session,
                                                    .claimed = rig_claimed,
                                                    .released = rig_released};

/* A worker: knows nothing but what is stored. */
static inline void rig_start_worker(struct rig *r)
{
    struct sessions_settings ss = {.config = &r->config, .max_sessions = 200, .engine = r->ops};
    struct fanout_settings fs = {.slice = r->slice,
                                 .queue_limit = 1 << 20,
                                 .clients_prefix = r->config.clients_prefix,
                                 .broadcast_topic = r->config.broadcast_topic,
                                 .implicit = r->config.implicit_qos};
    r->dead = false;
    r->sessions = sessions_new(r->base, &ss, &rig_handler, r);
    r->fanout = fanout_new(r->base, sessions_tree(r->sessions), &sessions_fanout_ops, r->sessions, &fs);
    sessions_set_fanout(r->sessions, r->fanout);
    sessions_set_reader(r->sessions, r->reader);
    fanout_begin(r->fanout, r->newest);
}

static inline void rig_close_all(struct rig *r)
{
    struct net *net = sessions_net(r->sessions);
    for (uint32_t id = 0; (id = net_next(net, id));)
        net_close(net, id, CLOSE_SHUTDOWN);
    loop_turn(r->base);
}

static inline void rig_end_worker(struct rig *r)
{
    rig_close_all(r);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_SESSIONS), 0);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_INFLIGHT), 0);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_SESSIONS_BEHIND), 0);
    ck_assert_uint_eq(topic_tree_subscriptions(sessions_tree(r->sessions)), 0);
    fanout_free(r->fanout);
    sessions_free(r->sessions);
}

static inline void rig_begin(struct rig *r)
{
    static const struct engine_settings defaults = ENGINE_SETTINGS_DEFAULT;
    struct engine_settings es = defaults;
    memset(r, 0, sizeof *r);
    signal(SIGPIPE, SIG_IGN);
    r->now = 5000000;
    clock_fake(r->now);
    log_setup(LOG_LEVEL_WARNING, false, "test");
    config_defaults(&r->config);
    r->base = event_base_new();
    r->ops = &engine_memory;
    es.max_clients = 1000;
    es.max_file_bytes = 64 << 20;
    r->engine = r->ops->open_store(&es, r->why);
    ck_assert_ptr_nonnull(r->engine);
    r->reader = r->ops->reader_open(r->engine, NULL, r->why);
    ck_assert_ptr_nonnull(r->reader);
    r->slice = 100;
    r->last_item = &r->items;
    r->last_answer = &r->answers;
    r->last_kept = &r->kept;
    r->last_opened = &r->opened;
    r->last_waiting = &r->waiting;
    rig_start_worker(r);
}

/* Forgets what was on its way to a worker that is gone, and from it if `both`. */
static inline void rig_forget(struct rig *r, bool both)
{
    bool was_dead = r->dead;
    r->dead = true; /* answers go nowhere */
    r->hold_answers = r->hold_feed = r->hold_opened = false;
    rig_feed(r);
    rig_tell_opened(r);
    rig_answer(r);
    while (both && r->waiting)
        rig_wait_no_more(r, r->waiting->claim);
    while (both && r->items) {
        struct rig_item *next = r->items->next;
        free(r->items);
        r->items = next;
    }
    if (both) {
        r->last_item = &r->items;
        r->item_count = 0;
    }
    r->dead = was_dead;
}

static inline bool rig_disconnect_one(void *ctx, const struct engine_session_view *v)
{
    struct rig *r = ctx;
    struct engine_session s = v->session;
    if (s.disconnected_ms)
        return true;
    s.disconnected_ms = clock_wall_ms();
    r->ops->session_put(r->engine, v->client_id, v->client_id_len, &s);
    return true;
}

/*
 * The worker is killed, and another one started: of what it has sent, `arrived` messages take effect and the
 * rest is lost; connections end without a word.
 */
static inline void rig_kill_worker(struct rig *r, unsigned arrived)
{
    RIG_TRACE(r, "worker killed\n");
    r->hold_requests = false;
    rig_take(r, arrived);
    rig_forget(r, true);
    r->dead = true;
    rig_end_worker(r);
    memset(r->claims, 0, sizeof r->claims);
    r->ops->session_walk(r->reader, NULL, 0, 1000, rig_disconnect_one, r);
    rig_commit(r);
    rig_start_worker(r);
}

static inline void rig_end(struct rig *r)
{
    rig_turn(r);
    rig_end_worker(r);
    r->hold_requests = false;
    rig_take(r, UINT32_MAX);
    ck_assert_msg(r->ops->verify(r->reader, r->why), "%s", r->why);
    rig_forget(r, true);
    r->ops->reader_close(r->reader);
    r->ops->close(r->engine);
    config_free(&r->config);
    event_base_free(r->base);
    clock_real();
}

/* ---- what is stored ---- */

struct rig_stored {
    bool found;
    uint64_t cursor, disconnected_ms;
    uint32_t expiry_s;
    unsigned outs, ins, subscriptions;
    struct engine_inflight out[64];
    uint16_t in[64];
    struct {
        char filter[64];
        uint8_t options;
        uint32_t identifier;
        uint64_t since;
    } sub[16];
};

static inline void rig_stored_cb(void *ctx, const struct engine_session_view *v)
{
    struct rig_stored *s = ctx;
    s->found = true;
    s->cursor = v->progress.cursor;
    s->disconnected_ms = v->session.disconnected_ms;
    s->expiry_s = v->session.expiry_s;
    s->outs = v->progress.outs;
    s->ins = v->progress.ins;
    for (unsigned i = 0; i < s->outs && i < 64; i++)
        s->out[i] = v->progress.out[i];
    for (unsigned i = 0; i < s->ins && i < 64; i++)
        s->in[i] = v->progress.in[i];
    for (size_t i = 0; i < v->subscription_count && i < 16; i++) {
        const struct engine_subscription *from = &v->subscriptions[i];
        snprintf(s->sub[i].filter, sizeof s->sub[i].filter, "%.*s", (int)from->len, from->filter);
        s->sub[i].options = from->options;
        s->sub[i].identifier = from->identifier;
        s->sub[i].since = from->since;
    }
    s->subscriptions = (unsigned)v->subscription_count;
}

static inline struct rig_stored rig_stored(struct rig *r, const char *id)
{
    struct rig_stored s = {0};
    rig_commit(r);
    r->ops->session_get(r->reader, id, strlen(id), rig_stored_cb, &s);
    return s;
}

/* ---- peers ---- */

struct peer {
    struct rig *r;
    int fd;
    uint8_t version;
    size_t len, used; /* bytes in buf, of which so many are done with */
    unsigned char *buf;
    size_t room;
    struct mqtt_packet connack; /* its properties' bytes are gone */
    uint16_t last_id;
    char id[24];
};

static inline void peer_trace(const struct peer *p, const char *way, const struct mqtt_packet *m)
{
    const struct mqtt_publish *pub = &m->u.publish;
    if (m->type == MQTT_PUBLISH)
        RIG_TRACE(p->r, "%s %s PUBLISH id %u qos %u dup %d retain %d %.*s %.*s\n", p->id, way, pub->packet_id,
                  pub->qos, pub->dup, pub->retain, (int)pub->topic.len, pub->topic.data,
                  (int)(pub->payload.len < 12 ? pub->payload.len : 12), pub->payload.data);
    else if (m->type == MQTT_CONNECT || m->type == MQTT_CONNACK || m->type == MQTT_DISCONNECT)
        RIG_TRACE(p->r, "%s %s %s\n", p->id, way, mqtt_type_name(m->type));
    else
        RIG_TRACE(p->r, "%s %s %s id %u code %02x\n", p->id, way, mqtt_type_name(m->type), m->u.ack.packet_id,
                  m->type >= MQTT_PUBACK && m->type <= MQTT_PUBCOMP ? m->u.ack.code : 0);
}

/* CONNECT as it is asked for. The default (all zero) is 3.1.1 with a session that is kept. */
struct peer_connect {
    uint8_t version; /* 0: 3.1.1 */
    bool clean;
    uint32_t expiry_s; /* 5.0 */
    uint16_t receive_maximum, alias_maximum, keepalive_s;
    uint32_t max_packet;
    const char *will_topic, *will_payload;
    uint8_t will_qos;
    bool will_retain, no_reasons;
    uint32_t will_delay_s;
    int sndbuf; /* of the gateway's side; 0: the system's */
};

static inline void peer_free(struct peer *p)
{
    if (p->fd >= 0)
        close(p->fd);
    free(p->buf);
    *p = (struct peer){.fd = -1};
}

/* The connection ends without a word. */
static inline void peer_drop(struct peer *p)
{
    struct rig *r = p->r;
    peer_free(p);
    rig_turn(r);
}

static inline void peer_send(struct peer *p, const struct mqtt_packet *m)
{
    unsigned char stack[4096], *out = stack;
    size_t len = mqtt_encode(m, p->version, NULL, 0);
    ck_assert_uint_gt(len, 0);
    peer_trace(p, ">", m);
    if (len > sizeof stack)
        out = xmalloc(len);
    ck_assert_uint_eq(mqtt_encode(m, p->version, out, len), len);
    ssize_t sent = send(p->fd, out, len, MSG_NOSIGNAL);
    ck_assert(sent == (ssize_t)len ||
              (sent < 0 && (errno == EPIPE || errno == ECONNRESET))); /* it was closed */
    if (out != stack)
        free(out);
}

/* Takes in what has come. */
static inline void peer_pull(struct peer *p)
{
    if (p->used)
        memmove(p->buf, p->buf + p->used, p->len - p->used);
    p->len -= p->used;
    p->used = 0;
    for (;;) {
        if (p->room - p->len < 65536)
            p->buf = xrealloc(p->buf, p->room = p->room * 2 + 131072);
        ssize_t n = recv(p->fd, p->buf + p->len, p->room - p->len, 0);
        if (n <= 0)
            break;
        p->len += (size_t)n;
    }
}

/* The next packet that has come; false: there is none. Its bytes are valid until the next call. */
static inline bool peer_next(struct peer *p, struct mqtt_packet *out)
{
    struct mqtt_error error = {0};
    size_t used = 0;
    peer_pull(p);
    if (!p->len)
        return false;
    enum mqtt_result r = mqtt_decode(p->buf, p->len, p->version, 16 << 20, out, &used, &error);
    ck_assert_msg(r != MQTT_BAD, "what came back is not MQTT: %s", error.text);
    if (r == MQTT_MORE)
        return false;
    p->used = used;
    peer_trace(p, "<", out);
    return true;
}

static inline void peer_expect_nothing(struct peer *p)
{
    struct mqtt_packet m;
    bool any = peer_next(p, &m);
    ck_assert_msg(!any, "%s came, and nothing was due", any ? mqtt_type_name(m.type) : "");
    ck_assert(!client_closed(p->fd));
}

static inline struct mqtt_packet peer_expect(struct peer *p, enum mqtt_type type)
{
    struct mqtt_packet m;
    bool any = peer_next(p, &m);
    ck_assert_msg(any, "%s is missing%s", mqtt_type_name(type), client_closed(p->fd) ? ", closed" : "");
    ck_assert_msg(m.type == type, "%s instead of %s", mqtt_type_name(m.type), mqtt_type_name(type));
    return m;
}

static inline void peer_expect_closed(struct peer *p)
{
    struct mqtt_packet m;
    bool any = peer_next(p, &m);
    ck_assert_msg(!any, "%s came instead of the end", any ? mqtt_type_name(m.type) : "");
    ck_assert(client_closed(p->fd));
}

/* DISCONNECT with this code, and the end. */
static inline void peer_expect_bye(struct peer *p, uint8_t code)
{
    struct mqtt_packet m = peer_expect(p, MQTT_DISCONNECT);
    ck_assert_uint_eq(m.u.disconnect.code, code);
    peer_expect_closed(p);
}

static inline struct peer peer_new(struct rig *r, uint8_t version, int sndbuf)
{
    int fd[2];
    loop_pair(fd);
    if (sndbuf)
        ck_assert_int_eq(setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof sndbuf), 0);
    ck_assert_uint_ne(net_adopt(sessions_net(r->sessions), fd[0], 0), 0);
    return (struct peer){.r = r, .fd = fd[1], .version = version};
}

/* Sends CONNECT; turns nothing. */
static inline struct peer peer_begin(struct rig *r, const char *id, const struct peer_connect *how)
{
    struct peer p = peer_new(r, how->version ? how->version : MQTT_V311, how->sndbuf);
    snprintf(p.id, sizeof p.id, "%s", id);
    struct mqtt_packet m = {.type = MQTT_CONNECT};
    struct mqtt_connect *c = &m.u.connect;
    c->level = p.version;
    c->clean_start = how->clean;
    c->keepalive_s = how->keepalive_s;
    c->client_id = (struct mqtt_bytes){.data = id, .len = (uint32_t)strlen(id)};
    if (how->expiry_s)
        mqtt_props_set_num(&c->props, MQTT_P_SESSION_EXPIRY, how->expiry_s);
    if (how->receive_maximum)
        mqtt_props_set_num(&c->props, MQTT_P_RECEIVE_MAX, how->receive_maximum);
    if (how->alias_maximum)
        mqtt_props_set_num(&c->props, MQTT_P_TOPIC_ALIAS_MAX, how->alias_maximum);
    if (how->max_packet)
        mqtt_props_set_num(&c->props, MQTT_P_MAXIMUM_PACKET_SIZE, how->max_packet);
    if (how->no_reasons)
        mqtt_props_set_num(&c->props, MQTT_P_REQUEST_PROBLEM, 0);
    if (how->will_topic) {
        c->has_will = true;
        c->will_qos = how->will_qos;
        c->will_retain = how->will_retain;
        c->will_topic =
            (struct mqtt_bytes){.data = how->will_topic, .len = (uint32_t)strlen(how->will_topic)};
        c->will_payload =
            (struct mqtt_bytes){.data = how->will_payload, .len = (uint32_t)strlen(how->will_payload)};
        if (how->will_delay_s)
            mqtt_props_set_num(&c->will_props, MQTT_P_WILL_DELAY, how->will_delay_s);
    }
    peer_send(&p, &m);
    return p;
}

/* Connects; CONNACK says yes, and whether there was a session. */
static inline struct peer peer_connect_with(struct rig *r, const char *id, const struct peer_connect *how,
                                            bool present)
{
    struct peer p = peer_begin(r, id, how);
    rig_turn(r);
    p.connack = peer_expect(&p, MQTT_CONNACK);
    ck_assert_uint_eq(p.connack.u.connack.code, 0);
    ck_assert_msg(p.connack.u.connack.session_present == present, "session present is %d",
                  p.connack.u.connack.session_present);
    return p;
}

/* A client with a stored session: 5.0 with an expiry of an hour, or 3.1.1 with clean session 0. */
static inline struct peer peer_stored(struct rig *r, const char *id, uint8_t version, bool present)
{
    struct peer_connect how = {.version = version, .expiry_s = version == MQTT_V5 ? 3600 : 0};
    return peer_connect_with(r, id, &how, present);
}

/* A client whose session ends with its connection. */
static inline struct peer peer_clean(struct rig *r, const char *id, uint8_t version)
{
    struct peer_connect how = {.version = version, .clean = true};
    return peer_connect_with(r, id, &how, false);
}

static inline uint16_t peer_packet_id(struct peer *p) { return ++p->last_id ? p->last_id : ++p->last_id; }

/* SUBSCRIBE to one filter; turns nothing. */
static inline uint16_t peer_ask(struct peer *p, const char *filter, uint8_t options, uint32_t identifier)
{
    char entry[300];
    struct mqtt_packet m = {.type = MQTT_SUBSCRIBE};
    struct mqtt_bytes text = {.data = filter, .len = (uint32_t)strlen(filter)};
    m.u.subscribe.packet_id = peer_packet_id(p);
    m.u.subscribe.count = 1;
    m.u.subscribe.entries.data = entry;
    m.u.subscribe.entries.len = (uint32_t)mqtt_put_filter(entry, sizeof entry, text, true, options);
    if (identifier)
        mqtt_props_set_num(&m.u.subscribe.props, MQTT_P_SUBSCRIPTION_ID, identifier);
    peer_send(p, &m);
    return m.u.subscribe.packet_id;
}

static inline void peer_expect_suback(struct peer *p, uint16_t packet_id, uint8_t code)
{
    struct mqtt_packet m = peer_expect(p, MQTT_SUBACK);
    ck_assert_uint_eq(m.u.suback.packet_id, packet_id);
    ck_assert_uint_eq(m.u.suback.codes.len, 1);
    ck_assert_uint_eq((uint8_t)m.u.suback.codes.data[0], code);
}

/* Subscribes, with no retained messages to come before the answer. */
static inline void peer_subscribe(struct peer *p, const char *filter, uint8_t options)
{
    uint16_t id = peer_ask(p, filter, options, 0);
    rig_turn(p->r);
    peer_expect_suback(p, id, options & 3);
}

static inline uint16_t peer_ask_no_more(struct peer *p, const char *filter)
{
    char entry[300];
    struct mqtt_packet m = {.type = MQTT_UNSUBSCRIBE};
    struct mqtt_bytes text = {.data = filter, .len = (uint32_t)strlen(filter)};
    m.u.subscribe.packet_id = peer_packet_id(p);
    m.u.subscribe.count = 1;
    m.u.subscribe.entries.data = entry;
    m.u.subscribe.entries.len = (uint32_t)mqtt_put_filter(entry, sizeof entry, text, false, 0);
    peer_send(p, &m);
    return m.u.subscribe.packet_id;
}

static inline void peer_unsubscribe(struct peer *p, const char *filter)
{
    uint16_t id = peer_ask_no_more(p, filter);
    rig_turn(p->r);
    struct mqtt_packet m = peer_expect(p, MQTT_UNSUBACK);
    ck_assert_uint_eq(m.u.suback.packet_id, id);
}

/* PUBLISH; turns nothing. */
struct peer_publish {
    const char *topic, *payload;
    size_t payload_len; /* 0: a string */
    uint8_t qos;
    uint16_t packet_id;
    bool dup, retain;
    uint16_t alias;
    uint32_t expiry_s;
};

static inline void peer_publish(struct peer *p, const struct peer_publish *what)
{
    struct mqtt_packet m = {.type = MQTT_PUBLISH};
    struct mqtt_publish *pub = &m.u.publish;
    pub->topic = (struct mqtt_bytes){.data = what->topic, .len = (uint32_t)strlen(what->topic)};
    pub->payload.data = what->payload;
    pub->payload.len = (uint32_t)(what->payload_len ? what->payload_len : strlen(what->payload));
    pub->qos = what->qos;
    pub->packet_id = what->packet_id;
    pub->dup = what->dup;
    pub->retain = what->retain;
    if (what->alias)
        mqtt_props_set_num(&pub->props, MQTT_P_TOPIC_ALIAS, what->alias);
    if (what->expiry_s)
        mqtt_props_set_num(&pub->props, MQTT_P_MESSAGE_EXPIRY, what->expiry_s);
    peer_send(p, &m);
}

/* Sends an acknowledgement; turns nothing. */
static inline void peer_ack_with(struct peer *p, enum mqtt_type type, uint16_t packet_id, uint8_t code)
{
    struct mqtt_packet m = {.type = type};
    m.u.ack.packet_id = packet_id;
    m.u.ack.code = code;
    peer_send(p, &m);
}

static inline void peer_ack(struct peer *p, enum mqtt_type type, uint16_t packet_id)
{
    peer_ack_with(p, type, packet_id, 0);
}

static inline void peer_expect_ack(struct peer *p, enum mqtt_type type, uint16_t packet_id, uint8_t code)
{
    struct mqtt_packet m = peer_expect(p, type);
    ck_assert_uint_eq(m.u.ack.packet_id, packet_id);
    ck_assert_msg(m.u.ack.code == code, "%s of %u has code %02x instead of %02x", mqtt_type_name(type),
                  packet_id, m.u.ack.code, code);
}

/* A PUBLISH with this topic, payload and QoS. Returns its packet identifier. */
static inline struct mqtt_publish peer_expect_publish(struct peer *p, const char *topic, const char *payload,
                                                      uint8_t qos)
{
    struct mqtt_packet m = peer_expect(p, MQTT_PUBLISH);
    const struct mqtt_publish *pub = &m.u.publish;
    ck_assert_msg(pub->topic.len == strlen(topic) && memcmp(pub->topic.data, topic, pub->topic.len) == 0,
                  "topic \"%.*s\" instead of \"%s\"", (int)pub->topic.len, pub->topic.data, topic);
    ck_assert_msg(pub->payload.len == strlen(payload) &&
                      memcmp(pub->payload.data, payload, pub->payload.len) == 0,
                  "payload \"%.*s\" instead of \"%s\"", (int)pub->payload.len, pub->payload.data, payload);
    ck_assert_msg(pub->qos == qos, "QoS %u instead of %u", pub->qos, qos);
    ck_assert((qos == 0) == (pub->packet_id == 0));
    return *pub;
}

static inline uint16_t peer_expect_new(struct peer *p, const char *topic, const char *payload, uint8_t qos)
{
    struct mqtt_publish pub = peer_expect_publish(p, topic, payload, qos);
    ck_assert(!pub.dup);
    ck_assert(!pub.retain);
    return pub.packet_id;
}

/* The whole of QoS 1 or 2 for a message that has come. */
static inline void peer_complete(struct peer *p, uint8_t qos, uint16_t packet_id)
{
    if (qos == 0)
        return;
    peer_ack(p, qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, packet_id);
    rig_turn(p->r);
    if (qos == 1)
        return;
    peer_expect_ack(p, MQTT_PUBREL, packet_id, 0);
    peer_ack(p, MQTT_PUBCOMP, packet_id);
    rig_turn(p->r);
}

static inline void peer_disconnect(struct peer *p)
{
    struct mqtt_packet m = {.type = MQTT_DISCONNECT};
    peer_send(p, &m);
    rig_turn(p->r);
    peer_free(p);
}

#endif
