/*
 * PUBLISH from a client: checked, handed up as a message, and answered when it is kept (QoS 1 and 2). It
 * comes back from the hub with its sequence number like any other.
 *
 * A client may have so many publishes unanswered, and is not read from until some are answered: a client of
 * 3.1.1 cannot know how many, and many of 5.0 do not look. Only one of 5.0 that has more publishes of QoS 2
 * unreleased than it was told is ended: its PUBRELs may be behind what is not read. A publish whose answer is
 * known at once (refused, or one that has come before) is not read either until those before it are answered,
 * so that answers come in order ([MQTT-4.6.0-2], [MQTT-4.6.0-3]); nothing is remembered of it.
 */
#include <stdlib.h>

#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/hash.h"
#include "gateway/base/xmalloc.h"
#include "gateway/session/handle_ack.h"
#include "gateway/session/publish.h"
#include "gateway/session/requests.h"
#include "gateway/session/session_internal.h"
#include "gateway/session/window.h"
#include "proto/mqtt_topic.h"

/*
 * Runs of successive packet identifiers that a client may hold unreleased (incoming.h), beyond Receive
 * Maximum. All of them are in what is stored with each publish.
 */
#define UNRELEASED_RUNS 256

struct message *publish_message(const struct publish_source *from)
{
    const struct mqtt_props *props = from->props;
    struct message_parts parts = {.topic = from->topic.data,
                                  .topic_len = (uint16_t)from->topic.len,
                                  .payload = from->payload.data,
                                  .payload_len = from->payload.len,
                                  .qos = from->qos,
                                  .retain = from->retain,
                                  .origin = from->origin};
    char *forwarded = NULL;
    if (props && props->raw.len) {
        forwarded = xmalloc(props->raw.len);
        parts.props = forwarded;
        parts.props_len = (uint32_t)mqtt_props_forward(props, forwarded, props->raw.len);
        if (mqtt_has(props, MQTT_P_MESSAGE_EXPIRY))
            parts.expires_ms = clock_wall_ms() + props->value[MQTT_P_MESSAGE_EXPIRY].num * 1000ull;
    }
    struct message *m = message_new(&parts);
    free(forwarded);
    return m;
}

/* Why this PUBLISH cannot be taken, or CLOSE_NONE. Puts a topic in the place of its alias. */
static enum close_reason refusal(struct sessions *s, const struct conn *c, struct mqtt_publish *p)
{
    bool v5 = c->protocol == MQTT_V5;
    if (v5 && p->retain && !s->config->retain)
        return CLOSE_RETAIN_NOT_SUPPORTED; /* [MQTT-3.2.2-14] */
    if (v5 && mqtt_has(&p->props, MQTT_P_SUBSCRIPTION_ID))
        return CLOSE_PROTOCOL_ERROR; /* [MQTT-3.3.4-6] */
    if (v5 && mqtt_has(&p->props, MQTT_P_TOPIC_ALIAS) && !alias_incoming(s, session_at(s, c->owner), p))
        return CLOSE_TOPIC_ALIAS; /* [MQTT-3.3.2-8], [MQTT-3.3.2-9] */
    if (mqtt_topic_levels(p->topic.data, p->topic.len) > s->config->max_topic_levels)
        return CLOSE_BAD_TOPIC;
    return CLOSE_NONE;
}

/* The packet is handled again when no more than so many publishes of the client are unanswered. */
static void put_off_until(struct sessions *s, struct session *ses, struct window *w, uint16_t unanswered)
{
    window_hold(s, ses, w, unanswered);
    s->put_off = true;
}

bool put_off(struct sessions *s, uint32_t id)
{
    struct session *ses = session_at(s, id);
    struct window *w = window_of(s, ses);
    if (!w || !w->held)
        return false;
    put_off_until(s, ses, w, 0);
    return true;
}

/* Says that a publish is not kept: 3.1.1 has no words for it, so its client has to try again. */
static void refuse_publish(struct sessions *s, uint32_t id, bool is_qos2, uint16_t packet_id, const char *why)
{
    uint32_t conn = session_at(s, id)->conn;
    counter_add(COUNTER_PUBLISHES_REFUSED, 1);
    if (net_conn(s->net, conn)->protocol == MQTT_V5)
        send_refusal(s, id, is_qos2 ? MQTT_PUBREC : MQTT_PUBACK, packet_id, MQTT_RC_QUOTA_EXCEEDED, why);
    else
        sessions_close_conn(s, conn, CLOSE_NOT_KEPT);
}

/* One publish fewer is unanswered: what has waited for that goes on. */
static void settle_one(struct sessions *s, uint32_t id)
{
    struct session *ses = session_at(s, id);
    struct window *w = window_of(s, ses);
    if (w->held)
        w->held--;
    if (w->flags & WINDOW_TO_STORE && !window_is_asking(w)) {
        w->flags &= ~(uint32_t)WINDOW_TO_STORE;
        request_store(s, id);
    }
    if (w->flags & WINDOW_HELD && w->held <= w->go_on_at) {
        uint32_t conn = ses->conn;
        w->flags &= ~(uint32_t)WINDOW_HELD;
        window_tidy(s, ses);
        net_hold(s->net, conn, false); /* its input may end the session */
        return;
    }
    window_tidy(s, ses);
}

void publish_answered(struct sessions *s, uint32_t id, uint16_t packet_id, bool is_qos2,
                      enum engine_result result)
{
    struct window *w = window_of(s, session_at(s, id));
    if (!w)
        return;
    if (result == ENGINE_OK) {
        if (is_qos2)
            incoming_set(&w->incoming, packet_id, INCOMING_KEPT);
        send_ack(s, id, is_qos2 ? MQTT_PUBREC : MQTT_PUBACK, packet_id, 0);
    } else {
        if (is_qos2)
            incoming_remove(&w->incoming, packet_id);
        w->flags |= WINDOW_DIRTY;
        refuse_publish(s, id, is_qos2, packet_id, engine_result_text(result));
    }
    settle_one(s, id);
}

/* A publish of QoS 2 that has come before. */
static void publish_again(struct sessions *s, uint32_t id, const struct mqtt_publish *p,
                          enum incoming_state state)
{
    if (state != INCOMING_ASKED && !put_off(s, id)) /* else its answer is under way */
        send_ack(s, id, MQTT_PUBREC, p->packet_id, 0);
}

/* Whether the client may have one more publish unreleased ([MQTT-3.3.4-7], [MQTT-3.3.4-8]); its packet
 * identifiers that are not released may not cost too much either. */
static bool has_quota(const struct sessions *s, const struct window *w, const struct mqtt_publish *p, bool v5)
{
    uint32_t limit = s->config->receive_maximum;
    if (v5 && incoming_count(w->incoming, INCOMING_KEPT) >= limit)
        return false;
    return p->qos < 2 || incoming_runs(w->incoming) < limit + UNRELEASED_RUNS;
}

/* Sends it up; false: it is not taken. */
static bool ask(struct sessions *s, uint32_t id, const struct mqtt_publish *p, const struct message *m)
{
    struct window *w = window_of(s, session_at(s, id));
    if (p->qos == 1)
        return request_publish(s, id, m, REQUEST_PUBACK, p->packet_id);
    incoming_set(&w->incoming, p->packet_id, INCOMING_ASKED);
    if (request_publish(s, id, m, REQUEST_PUBREC, p->packet_id))
        return true;
    incoming_remove(&w->incoming, p->packet_id);
    return false;
}

/* QoS 1 and 2: goes up as a request, and is answered with it. */
static void publish_kept(struct sessions *s, uint32_t id, const struct mqtt_publish *p, struct message *m)
{
    struct session *ses = session_at(s, id);
    struct window *w = window_need(s, id);
    bool v5 = net_conn(s->net, ses->conn)->protocol == MQTT_V5;
    uint32_t limit = s->config->receive_maximum;
    if (w && w->held >= limit) {
        put_off_until(s, ses, w, (uint16_t)(limit / 2));
        return;
    }
    if (w && !has_quota(s, w, p, v5)) {
        sessions_close(s, id, CLOSE_RECEIVE_MAXIMUM);
        return;
    }
    if (!w || !ask(s, id, p, m)) {
        if (put_off(s, id))
            return;
        window_tidy(s, ses);
        refuse_publish(s, id, p->qos == 2, p->packet_id, "too many requests wait");
        return;
    }
    w->held++;
}

/*
 * Whether a publish of QoS 2 is to be handled as a new one, and now. Of a session that is stored one is under
 * way at a time (window_is_asking()).
 */
static bool is_new(struct sessions *s, uint32_t id, const struct mqtt_publish *p)
{
    const struct session *ses = session_at(s, id);
    struct window *w = window_of(s, ses);
    enum incoming_state state = w ? incoming_find(w->incoming, p->packet_id) : INCOMING_NONE;
    bool is_reused = state == INCOMING_RESTORED && !p->dup;
    if (state != INCOMING_NONE && !is_reused) {
        publish_again(s, id, p, state); /* [MQTT-4.3.3-10] */
        return false;
    }
    if (window_is_asking(w) && session_is_stored(s, ses) && put_off(s, id))
        return false;
    if (is_reused) /* released, but it was not stored any more that it was */
        incoming_remove(&w->incoming, p->packet_id);
    return true;
}

/*
 * A publish to a topic that is the gateway's own goes nowhere. A 5.0 client that waits for an answer is told;
 * one of 3.1.1 is answered as usual, since it could only be closed instead ([MQTT-3.3.5-2] of 3.1.1).
 */
static void publish_forbidden(struct sessions *s, uint32_t id, const struct mqtt_publish *p)
{
    bool v5 = net_conn(s->net, session_at(s, id)->conn)->protocol == MQTT_V5;
    if (p->qos && put_off(s, id))
        return;
    counter_add(COUNTER_PUBLISHES_FORBIDDEN, 1);
    if (p->qos)
        send_refusal(s, id, p->qos == 2 ? MQTT_PUBREC : MQTT_PUBACK, p->packet_id,
                     v5 ? MQTT_RC_NOT_AUTHORIZED : 0, "the topic is the gateway's own");
}

/* A message that is the client's to publish. */
static void publish(struct sessions *s, const struct conn *c, const struct mqtt_publish *p)
{
    size_t len;
    const char *client_id = sessions_client_id(s, c->owner, &len);
    struct publish_source from = {.topic = p->topic,
                                  .payload = p->payload,
                                  .props = c->protocol == MQTT_V5 ? &p->props : NULL,
                                  .qos = p->qos,
                                  .retain = p->retain && s->config->retain,
                                  .origin = hash_known(client_id, len)};
    struct message *m = publish_message(&from);
    if (p->qos)
        publish_kept(s, c->owner, p, m);
    else if (!s->handler->publish(s->ctx, client_id, len, m))
        counter_add(COUNTER_PUBLISHES_DROPPED, 1);
    message_unref(m);
}

void handle_publish(struct sessions *s, uint32_t conn)
{
    struct mqtt_publish *p = &s->packet.u.publish;
    const struct conn *c = net_conn(s->net, conn);
    enum close_reason reason = refusal(s, c, p);
    if (reason != CLOSE_NONE) {
        sessions_close_conn(s, conn, reason);
        return;
    }
    if (mqtt_topic_is_reserved(p->topic.data, p->topic.len))
        publish_forbidden(s, c->owner, p);
    else if (p->qos < 2 || is_new(s, c->owner, p))
        publish(s, c, p);
    if (s->put_off)
        return;
    counter_add(COUNTER_PUBLISHES_IN, 1);
    counter_add(COUNTER_PUBLISH_BYTES_IN, p->payload.len);
}
