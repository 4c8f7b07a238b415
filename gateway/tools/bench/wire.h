/*
 * The packets that the bench sends, built with the project's codec, and the stamp at the start of each
 * payload by which a client knows what it got and when it was sent.
 */
#ifndef HOLDFAST_BENCH_WIRE_H
#define HOLDFAST_BENCH_WIRE_H

#include <stddef.h>
#include <stdint.h>

#define WIRE_MAX_PACKET (1u << 20)
#define WIRE_MAX_SMALL  512 /* CONNECT, SUBSCRIBE, ... of the bench fit in this */

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
size_t wire_connect(char *out, size_t cap, uint8_t version, const char *client_id, uint16_t keepalive_s);
size_t wire_subscribe(char *out, size_t cap, uint8_t version, uint16_t packet_id, const char *topic);
size_t wire_pingreq(char *out, size_t cap);
size_t wire_disconnect(char *out, size_t cap, uint8_t version);

/* A QoS 0 PUBLISH whose payload has payload_len bytes, the stamp first. stamp_at: where the stamp was put. */
size_t wire_publish(char *out, size_t cap, uint8_t version, const char *topic, size_t payload_len,
                    const struct wire_stamp *stamp, size_t *stamp_at);

/*
 * A whole QoS 0 PUBLISH of `version` without properties at buf: the payload's place and length, and the bytes
 * of the packet. 0 when it is anything else, which then goes through the decoder.
 */
size_t wire_plain_publish(const char *buf, size_t len, uint8_t version, const char **payload,
                          uint32_t *payload_len);

#endif
