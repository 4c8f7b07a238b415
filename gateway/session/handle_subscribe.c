/*
 * SUBSCRIBE and UNSUBSCRIBE (MQTT 5.0 sections 3.8 to 3.11): each filter is answered on its own, and all
 * together when they are stored. Retained messages follow out of the turn (catch_up.c).
 */
#include <stdlib.h>

#include "gateway/base/xmalloc.h"
#include "gateway/session/catch_up.h"
#include "gateway/session/requests.h"
#include "gateway/session/session_internal.h"
#include "gateway/session/shares.h"
#include "gateway/session/window.h"
#include "proto/mqtt_topic.h"

#define CODES_STACK        64
#define RETAIN_HANDLING(o) ((o) >> 4 & 3)
#define RETAIN_ALWAYS      0
#define RETAIN_IF_NEW      1

/* Why a filter is not granted, as a reason code of 5.0, or 0. `held`: subscriptions that the session has. */
static uint8_t refusal(const struct sessions *s, const struct conn *c, const struct mqtt_bytes *filter,
                       uint32_t held)
{
    if (mqtt_topic_levels(filter->data, filter->len) > s->config->max_topic_levels)
        return MQTT_RC_TOPIC_FILTER_INVALID;
    if (mqtt_topic_is_shared(filter->data, filter->len) &&
        !mqtt_topic_share_filter(filter->data, filter->len))
        return MQTT_RC_TOPIC_FILTER_INVALID; /* 3.1.1 knows no such filters, so that it got here */
    if (held >= s->config->max_subscriptions &&
        !topic_tree_has(s->tree, session_at(s, c->owner)->subs, c->owner, filter->data, filter->len))
        return MQTT_RC_QUOTA_EXCEEDED; /* one that it has may still be replaced ([MQTT-3.8.4-3]) */
    return 0;
}

/* The number after which messages belong to a subscription made now. */
static uint64_t since_now(const struct sessions *s, const struct session *ses)
{
    const struct window *w = window_of(s, ses);
    uint64_t head = s->fanout ? fanout_head(s->fanout) : 0;
    return w && w->read > head ? w->read : head;
}

/* Whether retained messages are to follow ([MQTT-3.3.1-9] to -11); they are not for groups (MQTT 5.0 section
 * 4.8.2). */
static bool asks_for_retained(const struct mqtt_bytes *filter, uint8_t options, bool is_new)
{
    uint8_t handling = RETAIN_HANDLING(options);
    return !mqtt_topic_is_shared(filter->data, filter->len) &&
           (handling == RETAIN_ALWAYS || (handling == RETAIN_IF_NEW && is_new));
}

/* Puts a subscription to messages after `since` into the tree, and into the store. Returns its code. */
static uint8_t subscribe(struct sessions *s, uint32_t id, const struct mqtt_bytes *filter, uint8_t options,
                         uint32_t identifier, uint64_t since, bool *is_new)
{
    struct session *ses = session_at(s, id);
    catch_up_subscribed(s, ses, filter->data, filter->len, options, since);
    enum subscribe_result r = topic_tree_subscribe(s->tree, &ses->subs, id, filter->data, filter->len,
                                                   sub_options_make(options, identifier));
    if (r == SUBSCRIBE_NO_ROOM)
        return MQTT_RC_QUOTA_EXCEEDED;
    *is_new = r == SUBSCRIBE_NEW;
    bool is_stored = session_is_stored(s, ses), wants = asks_for_retained(filter, options, *is_new);
    uint64_t asked = is_stored && wants ? catch_up_owed(s, id, filter->data, filter->len,
                                                        sub_options_make(options, identifier), since)
                                        : 0;
    if (is_stored &&
        !request_subscribe(s, id, filter->data, filter->len, options, identifier, since, asked)) {
        if (*is_new)
            topic_tree_unsubscribe(s->tree, &ses->subs, filter->data, filter->len);
        return MQTT_RC_QUOTA_EXCEEDED;
    }
    if (wants)
        catch_up_retained(s, id, filter->data, filter->len, sub_options_make(options, identifier), since,
                          asked > 0);
    return options & SUB_QOS;
}

/* Subscribes to one filter; returns its code for SUBACK. */
static uint8_t subscribe_one(struct sessions *s, const struct conn *c, const struct mqtt_bytes *filter,
                             uint8_t options, uint32_t *held)
{
    const struct mqtt_props *props = &s->packet.u.subscribe.props;
    bool v5 = c->protocol == MQTT_V5, is_new = false;
    uint32_t identifier =
        v5 && mqtt_has(props, MQTT_P_SUBSCRIPTION_ID) ? props->value[MQTT_P_SUBSCRIPTION_ID].num : 0;
    uint8_t code = refusal(s, c, filter, *held);
    uint64_t since = since_now(s, session_at(s, c->owner));
    bool is_shared = mqtt_topic_is_shared(filter->data, filter->len);
    if (is_shared && (options & SUB_QOS) > SHARE_MAX_QOS)
        options = (uint8_t)((options & ~SUB_QOS) | SHARE_MAX_QOS);
    if (!code)
        code = subscribe(s, c->owner, filter, options, identifier, since, &is_new);
    if (code >= 0x80)
        return v5 ? code : MQTT_RC_UNSPECIFIED; /* the failure code of 3.1.1 */
    *held += is_new;
    if (is_shared)
        share_join(s, c->owner, filter->data, filter->len, sub_options_make(options, identifier));
    return code;
}

void handle_subscribe(struct sessions *s, uint32_t conn)
{
    const struct mqtt_packet *p = &s->packet;
    const struct conn *c = net_conn(s->net, conn);
    unsigned char stack[CODES_STACK], *codes = stack;
    uint16_t packet_id = p->u.subscribe.packet_id;
    if (p->u.subscribe.count > CODES_STACK)
        codes = xmalloc(p->u.subscribe.count); /* bounded by max_packet_size */
    struct mqtt_bytes filter;
    uint8_t options;
    bool shared = false;
    uint32_t count = 0, held = topic_tree_count(s->tree, session_at(s, c->owner)->subs);
    for (size_t at = 0; mqtt_next_filter(p, &at, &filter, &options); count++) {
        codes[count] = subscribe_one(s, c, &filter, options, &held);
        shared |= mqtt_topic_is_shared(filter.data, filter.len);
    }
    acknowledge_later(s, c->owner, MQTT_SUBACK, packet_id, codes, count, shared);
    if (codes != stack)
        free(codes);
}

/* Ends one subscription; returns its code for UNSUBACK. */
static uint8_t unsubscribe_one(struct sessions *s, uint32_t id, const struct mqtt_bytes *filter)
{
    struct session *ses = session_at(s, id);
    if (!topic_tree_unsubscribe(s->tree, &ses->subs, filter->data, filter->len))
        return MQTT_RC_NO_SUBSCRIPTION_EXISTED;
    catch_up_unsubscribed(s, ses, filter->data, filter->len);
    if (mqtt_topic_is_shared(filter->data, filter->len))
        share_leave(s, id, filter->data, filter->len);
    if (session_is_stored(s, ses))
        (void)!request_unsubscribe(s, id, filter->data, filter->len);
    return MQTT_RC_SUCCESS;
}

void handle_unsubscribe(struct sessions *s, uint32_t conn)
{
    const struct mqtt_packet *p = &s->packet;
    uint32_t id = net_conn(s->net, conn)->owner;
    unsigned char stack[CODES_STACK], *codes = stack;
    uint16_t packet_id = p->u.subscribe.packet_id;
    if (p->u.subscribe.count > CODES_STACK)
        codes = xmalloc(p->u.subscribe.count);
    struct mqtt_bytes filter;
    uint8_t unused;
    uint32_t count = 0;
    for (size_t at = 0; mqtt_next_filter(p, &at, &filter, &unused); count++)
        codes[count] = unsubscribe_one(s, id, &filter);
    acknowledge_later(s, id, MQTT_UNSUBACK, packet_id, codes, count, false);
    if (codes != stack)
        free(codes);
}
