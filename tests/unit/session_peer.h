/*
 * A client of one connection to a rig (session_rig.h): packets out, packets in, over the codec. What it does
 * with them is the test's. What is expected must have come already; nothing here waits.
 */
#ifndef HOLDFAST_TESTS_SESSION_PEER_H
#define HOLDFAST_TESTS_SESSION_PEER_H

#include "proto/mqtt.h"
#include "tests/unit/session_rig.h"

struct peer {
    struct rig *r;
    int fd;
    uint8_t version;
    size_t len, used; /* bytes in buf, of which so many are done with */
    unsigned char *buf;
    size_t room;
    struct mqtt_packet connack; /* its properties' bytes are gone */
    uint16_t last_id;
    char id[24];
};

/* CONNECT as it is asked for. The default (all zero) is 3.1.1 with a session that is kept. */
struct peer_connect {
    uint8_t version; /* 0: 3.1.1 */
    bool clean;
    uint32_t expiry_s; /* 5.0 */
    uint16_t receive_maximum, alias_maximum, keepalive_s;
    uint32_t max_packet;
    const char *will_topic, *will_payload;
    uint8_t will_qos;
    bool will_retain, no_reasons;
    uint32_t will_delay_s;
    int sndbuf; /* of the gateway's side; 0: the system's */
};

/* Sends CONNECT; turns nothing. */
struct peer peer_begin(struct rig *r, const char *id, const struct peer_connect *how);
/* Connects; CONNACK says yes, and whether there was a session. */
struct peer peer_connect_with(struct rig *r, const char *id, const struct peer_connect *how, bool present);
/* A client with a stored session: 5.0 with an expiry of an hour, or 3.1.1 with clean session 0. */
struct peer peer_stored(struct rig *r, const char *id, uint8_t version, bool present);
/* A client whose session ends with its connection. */
struct peer peer_clean(struct rig *r, const char *id, uint8_t version);

/* DISCONNECT, and the end. */
void peer_disconnect(struct peer *p);
/* The connection ends without a word. */
void peer_drop(struct peer *p);
/* The same, and nothing turns. */
void peer_free(struct peer *p);

/* ---- packets out: nothing turns, unless it is said ---- */

void peer_send(struct peer *p, const struct mqtt_packet *m);

struct peer_publish {
    const char *topic, *payload;
    size_t payload_len; /* 0: a string */
    uint8_t qos;
    uint16_t packet_id;
    bool dup, retain;
    uint16_t alias;
    uint32_t expiry_s;
};
void peer_publish(struct peer *p, const struct peer_publish *what);
void peer_ack(struct peer *p, enum mqtt_type type, uint16_t packet_id);
void peer_ack_with(struct peer *p, enum mqtt_type type, uint16_t packet_id, uint8_t code);
/* The whole of QoS 1 or 2 for a message that has come; turns until it is done. */
void peer_complete(struct peer *p, uint8_t qos, uint16_t packet_id);

/* SUBSCRIBE and UNSUBSCRIBE with one filter; return the packet identifier. */
uint16_t peer_ask(struct peer *p, const char *filter, uint8_t options, uint32_t identifier);
uint16_t peer_ask_no_more(struct peer *p, const char *filter);
/* The same until the answer is there, with no retained messages to come before it. */
void peer_subscribe(struct peer *p, const char *filter, uint8_t options);
void peer_unsubscribe(struct peer *p, const char *filter);

/* ---- packets in ---- */

/* The next packet that has come; false: there is none. Its bytes are valid until the next call. */
bool peer_next(struct peer *p, struct mqtt_packet *out);

struct mqtt_packet peer_expect(struct peer *p, enum mqtt_type type);
void peer_expect_nothing(struct peer *p);
void peer_expect_closed(struct peer *p);
/* DISCONNECT with this code, and the end. */
void peer_expect_bye(struct peer *p, uint8_t code);
void peer_expect_suback(struct peer *p, uint16_t packet_id, uint8_t code);
void peer_expect_ack(struct peer *p, enum mqtt_type type, uint16_t packet_id, uint8_t code);
/* A PUBLISH with this topic, payload and QoS. */
struct mqtt_publish peer_expect_publish(struct peer *p, const char *topic, const char *payload, uint8_t qos);
/* The same, neither retained nor sent before. Returns its packet identifier. */
uint16_t peer_expect_new(struct peer *p, const char *topic, const char *payload, uint8_t qos);
/* Both for message i of rig_publish_many(). */
struct mqtt_publish peer_expect_number(struct peer *p, const char *topic, unsigned i, uint8_t qos);
uint16_t peer_expect_new_number(struct peer *p, const char *topic, unsigned i, uint8_t qos);
/* One that was sent before: with DUP and the identifier it had ([MQTT-3.3.1-1], [MQTT-4.4.0-1]). */
void peer_expect_again(struct peer *p, const char *topic, unsigned i, uint8_t qos, uint16_t packet_id);

#endif
