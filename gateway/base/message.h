/*
 * One published message as it travels inside a process: immutable, reference counted, a single allocation.
 */
#ifndef HOLDFAST_BASE_MESSAGE_H
#define HOLDFAST_BASE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct message {
    uint32_t refs;
    uint8_t qos; /* as published: 0, 1, 2 */
    bool retain; /* as published */
    uint16_t topic_len;
    uint32_t props_len;
    uint32_t payload_len;
    uint64_t seq;        /* given by the hub; 0 before */
    uint64_t expires_ms; /* wall clock, ms since the epoch; 0: never */
    uint64_t origin;     /* hash_known() of the client id it is from, for No Local; 0: not from a client */
    /*
     * topic_len bytes of topic, props_len bytes of MQTT 5 properties to be forwarded unchanged (encoded,
     * without their length prefix; MQTT-3.3.2-4,-15,-16,-17,-18,-20: payload format, content type, response
     * topic, correlation data, user properties), payload_len bytes of payload.
     */
    char bytes[];
};

/* What a message is made from; the three byte ranges are copied. */
struct message_parts {
    const char *topic, *props, *payload;
    uint16_t topic_len;
    uint32_t props_len, payload_len;
    uint8_t qos;
    bool retain;
    uint64_t seq;
    uint64_t expires_ms;
    uint64_t origin;
};

/* With one reference. Sizes have been capped by whoever read them from a peer. */
struct message *message_new(const struct message_parts *parts);
struct message *message_ref(struct message *m);
void message_unref(struct message *m);

static inline const char *message_topic(const struct message *m) { return m->bytes; }
static inline const char *message_props(const struct message *m) { return m->bytes + m->topic_len; }
static inline const char *message_payload(const struct message *m)
{
    return m->bytes + m->topic_len + m->props_len;
}
/* What it is made of; the ranges are the message's. */
static inline struct message_parts message_parts_of(const struct message *m)
{
    return (struct message_parts){.topic = message_topic(m),
                                  .props = message_props(m),
                                  .payload = message_payload(m),
                                  .topic_len = m->topic_len,
                                  .props_len = m->props_len,
                                  .payload_len = m->payload_len,
                                  .qos = m->qos,
                                  .retain = m->retain,
                                  .seq = m->seq,
                                  .expires_ms = m->expires_ms,
                                  .origin = m->origin};
}
/* Bytes of memory it occupies. */
static inline size_t message_size(const struct message *m)
{
    return sizeof *m + m->topic_len + m->props_len + (size_t)m->payload_len;
}

#endif
