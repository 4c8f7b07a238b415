/*
 * PUBLISH packets as clients get them. Inside the session layer only.
 */
#ifndef HOLDFAST_SESSION_PUBLISH_H
#define HOLDFAST_SESSION_PUBLISH_H

#include "gateway/session/session_internal.h"

/* In which form a client gets a message. */
struct publish_form {
    uint8_t version, qos;
    bool retain, dup;
    uint16_t packet_id;               /* 0 with QoS 0 */
    const sub_options *subscriptions; /* whose identifiers are told (MQTT 5.0 section 3.3.2.3.8) */
    size_t subscription_count;
    uint16_t alias;     /* 0: none */
    bool alias_instead; /* the alias stands for the topic */
};

/* The frame, with one reference; NULL when it cannot be encoded. */
struct frame *publish_encode(const struct message_parts *m, const struct publish_form *form);

/* What a session's subscriptions that match a message come to. */
#define MERGED_MAX 64 /* subscriptions of one session that match one message; more are not looked at */
struct merged {
    sub_options options[MERGED_MAX]; /* those that count */
    size_t count;                    /* 0: the session does not want the message */
    uint8_t qos;                     /* with which it gets it */
    bool retain_as_published, has_identifier;
};
/* Of `count` matching subscriptions: without No Local ones if the message is the session's own
 * ([MQTT-3.8.3-3]). */
void publish_merge(struct merged *out, const sub_options *options, size_t count, uint8_t qos, bool is_own);
/* Whether the session hears the topic without having subscribed: an implicit channel, which counts as one
 * more subscription. */
bool publish_is_implicit(const struct sessions *s, uint32_t id, const char *topic, size_t len);
/* Whether the session's client published it. */
bool publish_is_own(const struct sessions *s, uint32_t id, uint64_t origin);

/* Whether a new message has to wait because its packet identifier is in use; sees to it that it will not be
 * for long, if that is ours to do. */
struct window;
bool id_is_taken(struct sessions *s, uint32_t id, const struct window *w, uint16_t packet_id);

enum publish_result {
    PUBLISH_SENT,
    PUBLISH_SKIPPED, /* above the client's Maximum Packet Size, or it cannot be encoded: as if it were done */
    PUBLISH_NO_ROOM  /* the window is full, or the packet identifier in use; nothing was sent */
};
/*
 * Sends a message to one client in a frame of its own, noted in its window when the QoS is above 0. again: an
 * entry of the window that is sent again with DUP, or NULL. flags: INFLIGHT_ of a new entry.
 */
struct inflight;
enum publish_result publish_to(struct sessions *s, uint32_t id, const struct message_parts *m,
                               const struct merged *how, bool retain, struct inflight *again, uint8_t flags);

/* aliases.c: the alias for this topic towards the client: 0: none; *is_new: it has to be told with the
 * topic, and counts when alias_told() says so. */
uint16_t alias_outgoing(struct sessions *s, struct session *ses, const char *topic, size_t len, bool *is_new);
void alias_told(struct sessions *s, struct session *ses, const char *topic, size_t len);
/* The topic of a PUBLISH that came with an alias ([MQTT-3.3.2-8] to -12): sets p->topic, which stays valid
 * until the next one. False: not a valid alias. */
bool alias_incoming(struct sessions *s, struct session *ses, struct mqtt_publish *p);
/* The client takes so many aliases. False: no room. */
bool alias_begin(struct sessions *s, struct session *ses, uint16_t client_maximum);
void alias_free(struct alias_tables *t);
bool alias_wanted(const struct sessions *s, const struct session *ses);

#endif
