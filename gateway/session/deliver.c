/*
 * Delivery: the end of a fan-out. Encodes the message once per form in which clients are to have it, at the
 * first session that needs it, and gives each session's connection the shared frame. The hot path of the
 * gateway: with QoS 0 four loads from pools and one send(); above that, also a record in the window.
 */
#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/session/publish.h"
#include "gateway/session/session_internal.h"
#include "gateway/session/window.h"

/* The frame in this form, encoded now if nobody needed it before. Its packet identifier follows from the
 * message's number, so that it is everybody's. */
static struct frame *frame_for(struct fanout_job *job, uint8_t version, uint8_t qos, bool retain)
{
    unsigned i = fanout_frame(version == MQTT_V5, qos, retain);
    if (!job->frame_tried[i]) {
        struct message_parts m = message_parts_of(job->message);
        struct publish_form form = {
            .version = version, .qos = qos, .retain = retain, .packet_id = qos ? window_packet_id(m.seq) : 0};
        job->frame_tried[i] = true;
        job->frame[i] = publish_encode(&m, &form);
    }
    return job->frame[i];
}

/* Whether the message is on an implicit channel of the session. */
static bool is_implicit(const struct sessions *s, uint32_t id, const struct fanout_job *job)
{
    const struct message *m = job->message;
    return job->implicit == FANOUT_EVERYBODY ||
           (job->implicit == FANOUT_ONE && publish_is_implicit(s, id, message_topic(m), m->topic_len));
}

/* All subscriptions of the session that match; returns how many. */
static size_t find_all(const struct sessions *s, uint32_t id, const struct fanout_job *job, sub_options *all)
{
    size_t n = 0;
    if (is_implicit(s, id, job))
        all[n++] = s->config->implicit_qos;
    size_t found = topic_tree_overlaps(s->tree, session_at(s, id)->subs, job->topics, job->topic_count,
                                       all + n, MERGED_MAX - n);
    return n + found < MERGED_MAX ? n + found : MERGED_MAX;
}

/* What the matching subscriptions of the session come to; nearly always there is one. */
static void merge(const struct sessions *s, uint32_t id, sub_options options, const struct fanout_job *job,
                  struct merged *out)
{
    sub_options all[MERGED_MAX];
    size_t n = 1;
    all[0] = options;
    const struct message *m = job->message;
    if (job->topic_count + (job->implicit != FANOUT_NOBODY) > 1)
        n = find_all(s, id, job, all);
    publish_merge(out, all, n, m->qos,
                  options & SUB_NO_LOCAL || n > 1 ? publish_is_own(s, id, m->origin) : false);
}

/* Sends the frame that all clients in this form share. */
static void send_shared(struct sessions *s, const struct session *ses, struct frame *f, uint32_t payload_len)
{
    enum send_result sent = net_send_frame(s->net, ses->conn, f);
    if (sent == SEND_DONE || sent == SEND_QUEUED) {
        counter_add(COUNTER_DELIVERIES, 1);
        counter_add(COUNTER_PUBLISH_BYTES_OUT, payload_len);
    }
}

/* Whether the client cannot take the frame; the message is done with for it. */
static bool is_too_large(const struct sessions *s, const struct session *ses, const struct frame *f)
{
    if (f && session_takes(s, ses, f->len))
        return false;
    counter_add(COUNTER_DELIVERIES_TOO_LARGE, 1); /* [MQTT-3.1.2-24], -25 */
    return true;
}

/* Whether an earlier message, which is still being fanned out, could have the packet identifier of this one:
 * sent in the wrong order, each would wait for the other for ever. */
static bool may_wait_for_each_other(const struct sessions *s, const struct message *m)
{
    return m->seq - fanout_settled(s->fanout) > WINDOW_PACKET_IDS;
}

/* A message that is kept: it goes into the window, or the client falls behind and reads it later. */
static void deliver_kept(struct sessions *s, uint32_t id, const struct merged *how, bool retain,
                         bool is_shared, struct fanout_job *job)
{
    struct session *ses = session_at(s, id);
    struct window *w = window_of(s, ses);
    const struct message *m = job->message;
    if (w && (m->seq <= w->read || w->flags & WINDOW_BEHIND))
        return; /* it was read from the log, or will be */
    if (!w && !(w = window_need(s, id))) {
        sessions_close(s, id, CLOSE_NO_MEMORY);
        return;
    }
    if (may_wait_for_each_other(s, m)) {
        window_fall_behind(s, ses, w);
        return;
    }
    if (!is_shared) {
        struct message_parts parts = message_parts_of(m);
        if (publish_to(s, id, &parts, how, retain, NULL, 0) == PUBLISH_NO_ROOM)
            window_fall_behind(s, ses, w);
        return;
    }
    if (!window_has_room(s, ses, w) || id_is_taken(s, id, w, window_packet_id(m->seq))) {
        window_fall_behind(s, ses, w);
        return;
    }
    struct frame *f = frame_for(job, net_conn(s->net, ses->conn)->protocol, how->qos, retain);
    if (is_too_large(s, ses, f))
        return;
    if (!window_add(s, w, m->seq, how->qos, ENGINE_SENT, 0)) {
        window_fall_behind(s, ses, w);
        return;
    }
    send_shared(s, ses, f, m->payload_len);
}

static void deliver(void *ctx, uint32_t id, sub_options options, struct fanout_job *job)
{
    struct sessions *s = ctx;
    const struct session *ses = session_at(s, id);
    const struct conn *c = net_conn(s->net, ses->conn);
    if (!c->protocol) /* it waits for its stored session, and reads this from the log */
        return;
    struct merged how;
    merge(s, id, options, job, &how);
    if (!how.count)
        return;
    bool retain = how.retain_as_published && job->message->retain;
    bool is_shared = !how.has_identifier && !alias_wanted(s, ses);
    if (how.qos) {
        deliver_kept(s, id, &how, retain, is_shared, job);
        return;
    }
    if (!is_shared) {
        struct message_parts parts = message_parts_of(job->message);
        publish_to(s, id, &parts, &how, retain, NULL, 0);
        return;
    }
    struct frame *f = frame_for(job, c->protocol, 0, retain);
    if (!is_too_large(s, ses, f))
        send_shared(s, ses, f, job->message->payload_len);
}

static uint32_t next_session(void *ctx, uint32_t after) { return sessions_next(ctx, after); }

static uint32_t find_session(void *ctx, const char *client_id, size_t len)
{
    return sessions_find(ctx, client_id, len);
}

static uint32_t session_bound(void *ctx)
{
    const struct sessions *s = ctx;
    return pool_bound(s->pool);
}

/* An expired message is not delivered any more ([MQTT-3.3.2-5]). */
static bool is_void(void *ctx, const struct message *m)
{
    (void)ctx;
    if (!m->expires_ms || m->expires_ms > clock_wall_ms())
        return false;
    counter_add(COUNTER_DELIVERIES_EXPIRED, 1);
    return true;
}

const struct fanout_ops sessions_fanout_ops = {.deliver = deliver,
                                               .next_session = next_session,
                                               .session_bound = session_bound,
                                               .find_session = find_session,
                                               .is_void = is_void};
