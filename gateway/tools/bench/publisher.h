/*
 * An ordinary MQTT client that publishes messages with stamps. Blocking; lives in the coordinator. Over TLS
 * it keeps its SSL.
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

/* The QoS of what is sent from now on, 0 at first; and how many messages above 0 may be on their way at a
 * time (less if the server wants less; 1000 unless set). */
void publisher_set_qos(struct publisher *p, uint8_t qos);
uint8_t publisher_qos(const struct publisher *p);
void publisher_set_window(struct publisher *p, unsigned messages);

/* Sends one message; waits first while the window is full. stream, seq: as in wire_stamp. False when the
 * connection is gone. */
bool publisher_send(struct publisher *p, const char *topic, size_t payload_len, uint32_t stream,
                    uint32_t seq);
/* The same with a time of sending that was decided before. */
bool publisher_send_at(struct publisher *p, const char *topic, size_t payload_len, uint32_t stream,
                       uint32_t seq, uint64_t sent_ns);

/* Messages above QoS 0 that are not acknowledged to the end (PUBACK, PUBCOMP). */
unsigned publisher_in_flight(const struct publisher *p);
/* Waits until there are at most `left` of them. False when the connection is gone, or silent for half a
 * minute. */
bool publisher_await(struct publisher *p, unsigned left);
/* Takes what has come, without waiting. False when the connection is gone. */
bool publisher_hear(struct publisher *p);
/* For poll(): readable when publisher_take() has something to read, which it does once. */
int publisher_fd(const struct publisher *p);
bool publisher_take(struct publisher *p);
/* Messages that the server refused with a reason code (5.0). */
uint64_t publisher_refused(const struct publisher *p);

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
