/*
 * An ordinary MQTT client that publishes QoS 0 messages with stamps. Blocking; lives in the coordinator. Over
 * TLS it keeps its SSL.
 */
#ifndef HOLDFAST_BENCH_PUBLISHER_H
#define HOLDFAST_BENCH_PUBLISHER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/tools/bench/tls_client.h"

struct publisher;

/* Connects and waits for CONNACK. tls: NULL for plaintext. NULL with a message on stderr. */
struct publisher *publisher_new(const struct sockaddr_in *server, const struct tls_client *tls,
                                uint8_t version, const char *client_id);
void publisher_free(struct publisher *p);

/* The TCP port of its end; 0 when that cannot be told. */
uint16_t publisher_port(const struct publisher *p);

/* Sends one message. stream, seq: as in wire_stamp. False when the connection is gone. */
bool publisher_send(struct publisher *p, const char *topic, size_t payload_len, uint32_t stream,
                    uint32_t seq);
/* The same with a time of sending that was decided before. */
bool publisher_send_at(struct publisher *p, const char *topic, size_t payload_len, uint32_t stream,
                       uint32_t seq, uint64_t sent_ns);

/* Whether a server answers CONNECT on this address; silent. For waiting until one is up. */
enum publisher_probe {
    PUBLISHER_UP,
    PUBLISHER_NOT_YET,
    PUBLISHER_NEVER, /* TLS says no, and will again */
};
enum publisher_probe publisher_probe(const struct sockaddr_in *server, const struct tls_client *tls,
                                     uint8_t version);
/* Why the latest connection of a publisher or probe failed. Static text. */
const char *publisher_error(void);

#endif
