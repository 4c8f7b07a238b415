/*
 * The packets that the bench sends, built with the project's codec, and the stamp at the start of each
 * payload by which a client knows what it got and when it was sent.
 */
#ifndef HOLDFAST_BENCH_WIRE_H
#define HOLDFAST_BENCH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_MAX_PACKET (1u << 20)
#define WIRE_MAX_SMALL  512 /* CONNECT, SUBSCRIBE, ... of the bench fit in this */
#define WIRE_ACK        4   /* bytes of PUBACK, PUBREC, PUBREL and PUBCOMP */

#define WIRE_SESSION_EXPIRY_S 3600u

/* In host order: both ends are the bench. A payload is at least this long. */
struct wire_stamp {
    uint32_t magic;
    uint32_t stream; /* 0: checked for gaps by every client; else a message of its own */
    uint32_t seq;    /* from 1 */
    uint32_t len;    /* of the payload */
    uint64_t sent_ns;
};
#define WIRE_STAMP_MAGIC 0x48426e63u

/* Nanoseconds of CLOCK_MONOTONIC, the same in all processes of this machine. */
uint64_t wire_now_ns(void);

/* Each returns the length of the packet. They abort when it does not fit, which is a bug of the caller. */
struct wire_connect {
    const char *client_id;
    uint16_t keepalive_s;
    bool persistent; /* the session outlives the connection: in 5.0 for an hour, in 3.1.1 for ever */
};
size_t wire_connect(char *out, size_t cap, uint8_t version, const struct wire_connect *c);
size_t wire_subscribe(char *out, size_t cap, uint8_t version, uint16_t packet_id, const char *topic,
                      uint8_t qos);
size_t wire_pingreq(char *out, size_t cap);
size_t wire_disconnect(char *out, size_t cap, uint8_t version);

/* An acknowledgement of success, of type MQTT_PUBACK, _PUBREC, _PUBREL or _PUBCOMP: WIRE_ACK bytes, the same
 * in both versions. */
void wire_ack(char *out, uint8_t type, uint16_t packet_id);

/* A PUBLISH whose payload has payload_len bytes, the stamp first; above QoS 0 with packet identifier 1. */
struct wire_places { /* where in the packet */
    size_t stamp;
    size_t packet_id; /* 0: none */
};
size_t wire_publish(char *out, size_t cap, uint8_t version, const char *topic, uint8_t qos,
                    size_t payload_len, const struct wire_stamp *stamp, struct wire_places *at);
void wire_put_id(char *at, uint16_t packet_id);

/*
 * A whole PUBLISH of `version` without properties, DUP or RETAIN at buf; the bytes of the packet. 0 when it
 * is anything else, which then goes through the decoder.
 */
struct wire_delivery {
    const char *payload;
    uint32_t len;
    uint16_t packet_id; /* 0 when qos is 0 */
    uint8_t qos;
};
size_t wire_plain_publish(const char *buf, size_t len, uint8_t version, struct wire_delivery *d);

#endif
