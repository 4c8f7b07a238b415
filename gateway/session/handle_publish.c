/*
 * PUBLISH from a client: checked, handed up as a message, and answered when it is kept (QoS 1 and 2). It
 * comes back from the hub with its sequence number like any other.
 *
 * A client may have so many publishes unanswered; a 5.0 client that knows that and sends more is ended, one
 * of 3.1.1, which cannot know, is just not read from until some are answered.
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

/* Says that a publish is not kept: 3.1.1 has no words for it, so its client has to try again. */
static void refuse_publish(struct sessions *s, uint32_t id, bool is_qos2, uint16_t packet_id, uint8_t code)
{
    uint32_t conn = session_at(s, id)->conn;
    counter_add(COUNTER_PUBLISHES_REFUSED, 1);
    if (net_conn(s->net, conn)->protocol == MQTT_V5)
        send_ack(s, id, is_qos2 ? MQTT_PUBREC : MQTT_PUBACK, packet_id, code);
    else
        sessions_close_conn(s, conn, CLOSE_NOT_KEPT);
}

/* One publish fewer is unanswered. */
static void settle_one(struct sessions *s, uint32_t id)
{
    struct session *ses = session_at(s, id);
    struct window *w = window_of(s, ses);
    if (w->held)
        w->held--;
    if (w->flags & WINDOW_HELD && w->held <= s->config->receive_maximum / 2) {
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
    struct incoming *in = w && is_qos2 ? window_incoming(s, w, packet_id) : NULL;
    if (!w)
        return;
    if (result == ENGINE_OK) {
        if (in)
            in->is_kept = true;
        send_ack(s, id, is_qos2 ? MQTT_PUBREC : MQTT_PUBACK, packet_id, 0);
    } else {
        if (in)
            window_incoming_remove(s, w, packet_id);
        if (in && session_is_stored(s, session_at(s, id))) /* it was stored with the message */
            (void)!request_progress(s, id, REQUEST_NONE, 0);
        refuse_publish(s, id, is_qos2, packet_id, MQTT_RC_QUOTA_EXCEEDED);
    }
    settle_one(s, id);
}

/* A publish that came before, of which the answer is under way or got lost. */
static void answer_again(struct sessions *s, uint32_t id, const struct incoming *in)
{
    if (in->is_kept)
        send_ack(s, id, MQTT_PUBREC, in->packet_id, 0);
}

/* QoS 1 and 2: goes up as a request, and is answered with it. */
static void publish_kept(struct sessions *s, uint32_t id, const struct mqtt_publish *p, struct message *m)
{
    struct session *ses = session_at(s, id);
    struct window *w = window_need(s, id);
    bool is_qos2 = p->qos == 2, v5 = net_conn(s->net, ses->conn)->protocol == MQTT_V5;
    struct incoming *before = w && is_qos2 ? window_incoming(s, w, p->packet_id) : NULL;
    if (before && before->is_restored && !p->dup) {
        window_incoming_remove(s, w, p->packet_id); /* released, but it was not stored any more that it was */
        before = NULL;
    }
    if (before) {
        answer_again(s, id, before); /* [MQTT-4.3.3-10] */
        return;
    }
    if (w && v5 && w->held + window_unreleased(s, w) >= s->config->receive_maximum) {
        sessions_close(s, id, CLOSE_RECEIVE_MAXIMUM); /* [MQTT-3.3.4-8], [MQTT-3.3.4-9] */
        return;
    }
    bool taken = w && (!is_qos2 || window_incoming_add(s, w, p->packet_id, false));
    if (taken && !request_publish(s, id, m, is_qos2 ? REQUEST_PUBREC : REQUEST_PUBACK, p->packet_id)) {
        if (is_qos2)
            window_incoming_remove(s, w, p->packet_id);
        taken = false;
    }
    if (!taken) {
        window_tidy(s, ses);
        refuse_publish(s, id, is_qos2, p->packet_id, MQTT_RC_QUOTA_EXCEEDED);
        return;
    }
    if (++w->held >= s->config->receive_maximum && !v5) {
        w->flags |= WINDOW_HELD;
        net_hold(s->net, ses->conn, true);
    }
}

/*
 * A publish to a topic that is the gateway's own goes nowhere. A 5.0 client that waits for an answer is told;
 * one of 3.1.1 is answered as usual, since it could only be closed instead ([MQTT-3.3.5-2] of 3.1.1).
 */
static void publish_forbidden(struct sessions *s, uint32_t id, const struct mqtt_publish *p)
{
    bool v5 = net_conn(s->net, session_at(s, id)->conn)->protocol == MQTT_V5;
    counter_add(COUNTER_PUBLISHES_FORBIDDEN, 1);
    if (p->qos)
        send_ack(s, id, p->qos == 2 ? MQTT_PUBREC : MQTT_PUBACK, p->packet_id,
                 v5 ? MQTT_RC_NOT_AUTHORIZED : 0);
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
    counter_add(COUNTER_PUBLISHES_IN, 1);
    counter_add(COUNTER_PUBLISH_BYTES_IN, p->payload.len);
    if (mqtt_topic_is_reserved(p->topic.data, p->topic.len)) {
        publish_forbidden(s, c->owner, p);
        return;
    }
    size_t len;
    const char *client_id = sessions_client_id(s, c->owner, &len);
    struct publish_source from = {.topic = p->topic,
                                  .payload = p->payload,
                                  .props = c->protocol == MQTT_V5 ? &p->props : NULL,
                                  .qos = p->qos,
                                  .retain = p->retain && s->config->retain,
                                  .origin = hash_bytes(client_id, len)};
    struct message *m = publish_message(&from);
    if (p->qos)
        publish_kept(s, c->owner, p, m);
    else if (!s->handler->publish(s->ctx, client_id, len, m))
        counter_add(COUNTER_PUBLISHES_DROPPED, 1);
    message_unref(m);
}
