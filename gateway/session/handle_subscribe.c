/*
 * SUBSCRIBE and UNSUBSCRIBE (MQTT 5.0 sections 3.8 to 3.11): each filter is answered on its own; what is
 * granted is QoS 0.
 */
#include <stdlib.h>

#include "gateway/base/xmalloc.h"
#include "gateway/session/session_internal.h"
#include "proto/mqtt_topic.h"

#define CODES_STACK         64
#define OPTIONS_WITHOUT_QOS 0xFC

/* Answers SUBSCRIBE or UNSUBSCRIBE with a code per filter. */
static void acknowledge(struct sessions *s, uint32_t conn, enum mqtt_type type, const unsigned char *codes,
                        uint32_t count)
{
    const struct conn *c = net_conn(s->net, conn);
    struct mqtt_packet answer = {.type = type};
    answer.u.suback.packet_id = s->packet.u.subscribe.packet_id;
    answer.u.suback.codes = (struct mqtt_bytes){.data = (const char *)codes, .len = count};
    mqtt_send(s, conn, c->protocol, &answer);
}

/* Why a filter is not granted, as a reason code of 5.0, or 0. `held`: subscriptions that the session has. */
static uint8_t refusal(const struct sessions *s, const struct conn *c, const struct mqtt_bytes *filter,
                       uint32_t held)
{
    if (mqtt_has(&s->packet.u.subscribe.props, MQTT_P_SUBSCRIPTION_ID))
        return MQTT_RC_SUBID_NOT_SUPPORTED;
    if (mqtt_topic_is_shared(filter->data, filter->len))
        return MQTT_RC_SHARED_NOT_SUPPORTED;
    if (mqtt_topic_levels(filter->data, filter->len) > s->config->max_topic_levels)
        return MQTT_RC_TOPIC_FILTER_INVALID;
    if (held >= s->config->max_subscriptions &&
        !topic_tree_has(s->tree, session_at(s, c->owner)->subs, c->owner, filter->data, filter->len))
        return MQTT_RC_QUOTA_EXCEEDED; /* one that it has may still be replaced ([MQTT-3.8.4-3]) */
    return 0;
}

/* Subscribes to one filter; returns its code for SUBACK. */
static uint8_t subscribe_one(struct sessions *s, const struct conn *c, const struct mqtt_bytes *filter,
                             uint8_t options, uint32_t *held)
{
    uint8_t code = refusal(s, c, filter, *held);
    if (!code) {
        switch (topic_tree_subscribe(s->tree, &session_at(s, c->owner)->subs, c->owner, filter->data,
                                     filter->len, options & OPTIONS_WITHOUT_QOS)) {
        case SUBSCRIBE_NEW:
            ++*held;
            break;
        case SUBSCRIBE_REPLACED:
            break;
        case SUBSCRIBE_NO_ROOM:
            code = MQTT_RC_QUOTA_EXCEEDED;
            break;
        }
    }
    return code && c->protocol != MQTT_V5 ? MQTT_RC_UNSPECIFIED : code; /* the failure code of 3.1.1 */
}

void handle_subscribe(struct sessions *s, uint32_t conn)
{
    const struct mqtt_packet *p = &s->packet;
    const struct conn *c = net_conn(s->net, conn);
    unsigned char stack[CODES_STACK], *codes = stack;
    if (p->u.subscribe.count > CODES_STACK)
        codes = xmalloc(p->u.subscribe.count); /* bounded by max_packet_size */
    if (c->protocol != MQTT_V5)
        s->packet.u.subscribe.props.present = 0;
    struct mqtt_bytes filter;
    uint8_t options;
    uint32_t count = 0, held = topic_tree_count(s->tree, session_at(s, c->owner)->subs);
    for (size_t at = 0; mqtt_next_filter(p, &at, &filter, &options); count++)
        codes[count] = subscribe_one(s, c, &filter, options, &held);
    acknowledge(s, conn, MQTT_SUBACK, codes, count);
    if (codes != stack)
        free(codes);
}

void handle_unsubscribe(struct sessions *s, uint32_t conn)
{
    const struct mqtt_packet *p = &s->packet;
    struct session *ses = session_at(s, net_conn(s->net, conn)->owner);
    unsigned char stack[CODES_STACK], *codes = stack;
    if (p->u.subscribe.count > CODES_STACK)
        codes = xmalloc(p->u.subscribe.count);
    struct mqtt_bytes filter;
    uint8_t unused;
    uint32_t count = 0;
    for (size_t at = 0; mqtt_next_filter(p, &at, &filter, &unused); count++)
        codes[count] = topic_tree_unsubscribe(s->tree, &ses->subs, filter.data, filter.len)
                           ? MQTT_RC_SUCCESS
                           : MQTT_RC_NO_SUBSCRIPTION_EXISTED;
    acknowledge(s, conn, MQTT_UNSUBACK, codes, count);
    if (codes != stack)
        free(codes);
}
