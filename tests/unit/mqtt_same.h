/*
 * Whether two decoded MQTT packets say the same, field by field, wherever their bytes lie.
 */
#ifndef HOLDFAST_TESTS_MQTT_SAME_H
#define HOLDFAST_TESTS_MQTT_SAME_H

#include <string.h>

#include "proto/mqtt.h"

static inline bool same_bytes(const struct mqtt_bytes *a, const struct mqtt_bytes *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

/* The properties whose value is a byte range. */
#define PROPS_OF_BYTES                                                                                       \
    (1u << MQTT_P_CONTENT_TYPE | 1u << MQTT_P_RESPONSE_TOPIC | 1u << MQTT_P_CORRELATION_DATA |               \
     1u << MQTT_P_ASSIGNED_CLIENT_ID | 1u << MQTT_P_AUTH_METHOD | 1u << MQTT_P_AUTH_DATA |                   \
     1u << MQTT_P_RESPONSE_INFO | 1u << MQTT_P_SERVER_REFERENCE | 1u << MQTT_P_REASON_STRING)

/* The values alone, of the properties in `mask`. */
static inline bool same_values(const struct mqtt_props *a, const struct mqtt_props *b, uint32_t mask)
{
    if ((a->present & mask) != (b->present & mask))
        return false;
    for (unsigned k = 0; k < MQTT_P_COUNT; k++) {
        if (!(a->present & mask & 1u << k) || k == MQTT_P_USER_PROPERTY)
            continue;
        if (PROPS_OF_BYTES >> k & 1u ? !same_bytes(&a->value[k].bytes, &b->value[k].bytes)
                                     : a->value[k].num != b->value[k].num)
            return false;
    }
    return true;
}

static inline bool same_props(const struct mqtt_props *a, const struct mqtt_props *b)
{
    return same_values(a, b, UINT32_MAX) && same_bytes(&a->raw, &b->raw);
}

static inline bool same_connect(const struct mqtt_connect *a, const struct mqtt_connect *b)
{
    return a->level == b->level && a->clean_start == b->clean_start && a->has_will == b->has_will &&
           a->will_retain == b->will_retain && a->has_username == b->has_username &&
           a->has_password == b->has_password && a->will_qos == b->will_qos &&
           a->keepalive_s == b->keepalive_s && same_props(&a->props, &b->props) &&
           same_props(&a->will_props, &b->will_props) && same_bytes(&a->client_id, &b->client_id) &&
           same_bytes(&a->will_topic, &b->will_topic) && same_bytes(&a->will_payload, &b->will_payload) &&
           same_bytes(&a->username, &b->username) && same_bytes(&a->password, &b->password);
}

static inline bool same_publish(const struct mqtt_publish *a, const struct mqtt_publish *b)
{
    return a->dup == b->dup && a->retain == b->retain && a->qos == b->qos && a->packet_id == b->packet_id &&
           same_bytes(&a->topic, &b->topic) && same_props(&a->props, &b->props) &&
           same_bytes(&a->payload, &b->payload);
}

static inline bool same_subscribe(const struct mqtt_subscribe *a, const struct mqtt_subscribe *b)
{
    return a->packet_id == b->packet_id && a->count == b->count && same_props(&a->props, &b->props) &&
           same_bytes(&a->entries, &b->entries);
}

static inline bool same_packet(const struct mqtt_packet *a, const struct mqtt_packet *b)
{
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case MQTT_CONNECT:
        return same_connect(&a->u.connect, &b->u.connect);
    case MQTT_CONNACK:
        return a->u.connack.session_present == b->u.connack.session_present &&
               a->u.connack.code == b->u.connack.code && same_props(&a->u.connack.props, &b->u.connack.props);
    case MQTT_PUBLISH:
        return same_publish(&a->u.publish, &b->u.publish);
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP:
        return a->u.ack.packet_id == b->u.ack.packet_id && a->u.ack.code == b->u.ack.code &&
               same_props(&a->u.ack.props, &b->u.ack.props);
    case MQTT_SUBSCRIBE:
    case MQTT_UNSUBSCRIBE:
        return same_subscribe(&a->u.subscribe, &b->u.subscribe);
    case MQTT_SUBACK:
    case MQTT_UNSUBACK:
        return a->u.suback.packet_id == b->u.suback.packet_id &&
               same_props(&a->u.suback.props, &b->u.suback.props) &&
               same_bytes(&a->u.suback.codes, &b->u.suback.codes);
    case MQTT_DISCONNECT:
    case MQTT_AUTH:
        return a->u.disconnect.code == b->u.disconnect.code &&
               same_props(&a->u.disconnect.props, &b->u.disconnect.props);
    case MQTT_RESERVED:
        return false;
    default:
        return true;
    }
}

/* The packet's property lists: returns how many there are, at most 2. */
static inline unsigned packet_props(struct mqtt_packet *p, struct mqtt_props *list[2])
{
    static const unsigned char where[16] = {0, 1, 2, 3, 4, 4, 4, 4, 5, 6, 5, 6, 0, 0, 7, 7};
    struct mqtt_props *first[] = {NULL,
                                  &p->u.connect.props,
                                  &p->u.connack.props,
                                  &p->u.publish.props,
                                  &p->u.ack.props,
                                  &p->u.subscribe.props,
                                  &p->u.suback.props,
                                  &p->u.disconnect.props};

    list[0] = first[where[p->type]];
    list[1] = &p->u.connect.will_props;
    return p->type == MQTT_CONNECT ? 2 : list[0] != NULL;
}

#endif
