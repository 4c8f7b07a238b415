/*
 * PUBLISH from a client: checked against what the gateway grants (QoS 0, not retained, no topic alias), then
 * handed up as a message. It comes back from the hub with its sequence number like any other.
 */
#include <stdlib.h>

#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/hash.h"
#include "gateway/base/xmalloc.h"
#include "gateway/session/session_internal.h"
#include "proto/mqtt_topic.h"

struct message *publish_message(struct mqtt_bytes topic, const struct mqtt_props *props,
                                struct mqtt_bytes payload, uint64_t origin)
{
    struct message_parts parts = {.topic = topic.data,
                                  .topic_len = (uint16_t)topic.len,
                                  .payload = payload.data,
                                  .payload_len = payload.len,
                                  .origin = origin};
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

/* Why this PUBLISH cannot be taken, or CLOSE_NONE. */
static enum close_reason refusal(const struct sessions *s, const struct conn *c, const struct mqtt_publish *p)
{
    bool v5 = c->protocol == MQTT_V5;
    if (p->qos)
        return CLOSE_QOS_NOT_SUPPORTED; /* [MQTT-3.2.2-11]; 3.1.1 has no way to say so but to close */
    if (v5 && p->retain)
        return CLOSE_RETAIN_NOT_SUPPORTED; /* [MQTT-3.2.2-14] */
    if (v5 && mqtt_has(&p->props, MQTT_P_TOPIC_ALIAS))
        return CLOSE_TOPIC_ALIAS; /* our Topic Alias Maximum is 0: [MQTT-3.2.2-17] */
    if (v5 && mqtt_has(&p->props, MQTT_P_SUBSCRIPTION_ID))
        return CLOSE_PROTOCOL_ERROR; /* [MQTT-3.3.4-6] */
    if (mqtt_topic_levels(p->topic.data, p->topic.len) > s->config->max_topic_levels)
        return CLOSE_BAD_TOPIC;
    return CLOSE_NONE;
}

void handle_publish(struct sessions *s, uint32_t conn)
{
    const struct mqtt_publish *p = &s->packet.u.publish;
    const struct conn *c = net_conn(s->net, conn);
    enum close_reason reason = refusal(s, c, p);
    if (reason != CLOSE_NONE) {
        sessions_close_conn(s, conn, reason);
        return;
    }
    counter_add(COUNTER_PUBLISHES_IN, 1);
    size_t len;
    const char *client_id = sessions_client_id(s, c->owner, &len);
    struct message *m = publish_message(p->topic, c->protocol == MQTT_V5 ? &p->props : NULL, p->payload,
                                        hash_bytes(client_id, len));
    if (!s->handler->publish(s->ctx, client_id, len, m))
        counter_add(COUNTER_PUBLISHES_DROPPED, 1);
    message_unref(m);
}
