/*
 * The worker of a rig: what its sessions ask for goes into the queue to the hub, what the hub answers comes
 * back here. Also its beginning and end.
 */
#include "tests/unit/session_rig.h"

#include <signal.h>

#include "gateway/base/counters.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"

/* ---- what the sessions call ---- */

static void rig_put(struct rig *r, const struct ipc_message *m, const struct session_cookie *cookie)
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

static bool rig_request(void *ctx, struct ipc_message *m, const struct session_cookie *cookie)
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

static void rig_open_session(void *ctx, uint32_t session)
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

static void rig_claimed(void *ctx, const char *id, size_t len, uint64_t claim)
{
    struct rig *r = ctx;
    struct ipc_message m = IPC_MAKE(CLAIM, IPC_NUM(claim), IPC_NUM(0), IPC_BYTES(id, len));
    if (!r->dead)
        rig_put(r, &m, NULL);
}

static void rig_released(void *ctx, const char *id, size_t len, uint64_t claim)
{
    struct rig *r = ctx;
    struct ipc_message m = IPC_MAKE(RELEASE, IPC_NUM(claim), IPC_BYTES(id, len));
    if (!r->dead)
        rig_put(r, &m, NULL);
}

bool rig_publish0(void *ctx, const char *client_id, size_t len, struct message *m)
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

/* ---- the link ---- */

void rig_feed(struct rig *r)
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

static void rig_tell_opened(struct rig *r)
{
    while (r->opened && !r->hold_opened) {
        struct rig_opened *o = r->opened;
        r->opened = o->next;
        if (!r->opened)
            r->last_opened = &r->opened;
        if (!r->dead)
            sessions_opened(r->sessions, o->id, strlen(o->id),
                            &(struct session_opening){.claim = o->claim,
                                                      .code = o->code,
                                                      .present = o->present,
                                                      .unsure_to = o->present ? r->unsure_to : 0});
        free(o);
    }
}

static void rig_answer(struct rig *r)
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

void rig_hub(struct rig *r)
{
    rig_take(r, UINT32_MAX);
    rig_feed(r);
    rig_tell_opened(r);
    rig_answer(r);
}

void rig_turn(struct rig *r)
{
    do {
        for (int i = 0; i < 3; i++) {
            loop_turn(r->base);
            rig_hub(r);
        }
        loop_turn(r->base);
    } while ((r->items && !r->hold_requests) || (r->answers && !r->hold_answers));
}

void rig_pass(struct rig *r, uint64_t ms)
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

uint64_t rig_publish(struct rig *r, const char *topic, const char *payload, uint8_t qos, bool retain)
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

void rig_publish_many(struct rig *r, const char *topic, unsigned from, unsigned n, uint8_t qos)
{
    char text[16];
    for (unsigned i = from; i < from + n; i++) {
        snprintf(text, sizeof text, "%u", i);
        rig_publish(r, topic, text, qos, false);
    }
}

/* ---- beginning and end ---- */

const struct sessions_handler rig_handler = {.publish = rig_publish0,
                                             .request = rig_request,
                                             .open = rig_open_session,
                                             .claimed = rig_claimed,
                                             .released = rig_released};

void rig_start_worker(struct rig *r)
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

static void rig_close_all(struct rig *r)
{
    struct net *net = sessions_net(r->sessions);
    for (uint32_t id = 0; (id = net_next(net, id));)
        net_close(net, id, CLOSE_SHUTDOWN);
    loop_turn(r->base);
}

void rig_end_worker(struct rig *r)
{
    rig_close_all(r);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_SESSIONS), 0);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_INFLIGHT), 0);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_SESSIONS_BEHIND), 0);
    ck_assert_uint_eq(topic_tree_subscriptions(sessions_tree(r->sessions)), 0);
    fanout_free(r->fanout);
    sessions_free(r->sessions);
}

void rig_begin(struct rig *r)
{
    static const struct engine_settings defaults = ENGINE_SETTINGS_DEFAULT;
    struct engine_settings es = defaults;
    memset(r, 0, sizeof *r);
    r->trace = getenv("SESSION_TRACE") != NULL;
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
static void rig_forget(struct rig *r, bool both)
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

static bool rig_disconnect_one(void *ctx, const struct engine_session_view *v)
{
    struct rig *r = ctx;
    struct engine_session s = v->session;
    if (s.disconnected_ms)
        return true;
    s.disconnected_ms = clock_wall_ms();
    r->ops->session_put(r->engine, v->client_id, v->client_id_len, &s);
    return true;
}

void rig_kill_worker(struct rig *r, unsigned arrived)
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

void rig_end(struct rig *r)
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

static void rig_stored_cb(void *ctx, const struct engine_session_view *v)
{
    struct rig_stored *s = ctx;
    s->found = true;
    s->cursor = v->progress.cursor;
    s->disconnected_ms = v->session.disconnected_ms;
    s->expiry_s = v->session.expiry_s;
    s->outs = v->progress.outs;
    s->ins = v->progress.ins;
    s->owes = v->progress.owes;
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

struct rig_stored rig_stored(struct rig *r, const char *id)
{
    struct rig_stored s = {0};
    rig_commit(r);
    r->ops->session_get(r->reader, id, strlen(id), rig_stored_cb, &s);
    return s;
}
