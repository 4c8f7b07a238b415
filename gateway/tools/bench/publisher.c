/*
 * The publisher. The packet of the latest topic, size and QoS is kept, so that a publish writes a new stamp
 * and packet identifier into it and costs one send(). What the server sends it is acknowledgements, since it
 * subscribes to nothing and has no keepalive; with QoS 0 it reads nothing. Acknowledgements are counted, not
 * matched: identifiers are used in turn and the server answers in their order ([MQTT-4.6.0-2], -3).
 */
#include "gateway/tools/bench/publisher.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "gateway/base/xmalloc.h"
#include "gateway/tools/bench/wire.h"
#include "proto/mqtt.h"

/* A connection, with OpenSSL on it or without. */
struct wire {
    int fd;
    SSL *ssl; /* NULL: plaintext */
};

#define INPUT_ROOM     4096
#define DEFAULT_WINDOW 1000u
#define PATIENCE_S     30 /* for an acknowledgement */

struct publisher {
    struct wire wire;
    uint8_t version, qos, packet_qos; /* of the next message; of the packet that is kept */
    uint16_t packet_id;
    unsigned in_flight, window;
    unsigned receive_maximum; /* the server's */
    uint64_t refused;
    char *packet;
    size_t len;
    struct wire_places at;
    size_t payload_len;
    char topic[128];
    size_t have; /* bytes of a packet that is not complete */
    char input[INPUT_ROOM];
};

static char error[160];
static bool error_is_final; /* OpenSSL's, but for a connection that was closed */

const char *publisher_error(void) { return error; }

/* Keeps the reason: OpenSSL's if it has one, else the system's. */
static void note_error(int number)
{
    unsigned long reason = ERR_get_error();
    const char *text = reason ? ERR_reason_error_string(reason) : NULL;
    if (reason && !text && ERR_SYSTEM_ERROR(reason))
        number = ERR_GET_REASON(reason);
    error_is_final = text && ERR_GET_REASON(reason) != SSL_R_UNEXPECTED_EOF_WHILE_READING;
    snprintf(error, sizeof error, "%s%s", text ? "TLS: " : "", text ? text : strerror(number));
    ERR_clear_error();
}

static ssize_t write_some(const struct wire *w, const char *data, size_t len)
{
    if (!w->ssl)
        return send(w->fd, data, len, MSG_NOSIGNAL);
    int n = SSL_write(w->ssl, data, (int)len);
    return n > 0 ? n : (errno = ECONNRESET, -1);
}

static bool send_all(const struct wire *w, const char *data, size_t len)
{
    while (len) {
        ssize_t n = write_some(w, data, len);
        if (n <= 0 && errno != EINTR)
            return false;
        data += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

static void close_wire(struct wire *w)
{
    SSL_free(w->ssl);
    if (w->fd >= 0)
        close(w->fd);
    *w = (struct wire){.fd = -1};
}

/* TCP, then TLS if that is wanted, each within five seconds. */
static bool open_wire(struct wire *w, const struct sockaddr_in *server, const struct tls_client *tls)
{
    int one = 1;
    struct timeval limit = {5, 0};
    *w = (struct wire){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (w->fd < 0)
        return false;
    setsockopt(w->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(w->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(w->fd, (const struct sockaddr *)server, sizeof *server))
        return false;
    if (!tls)
        return true;
    w->ssl = tls_client_ssl(tls);
    SSL_set_mode(w->ssl, SSL_MODE_AUTO_RETRY);
    errno = ECONNRESET; /* what it is when OpenSSL has nothing to say */
    return SSL_set_fd(w->ssl, w->fd) == 1 && SSL_connect(w->ssl) == 1;
}

static ssize_t read_some(const struct wire *w, char *into, size_t room)
{
    return w->ssl ? SSL_read(w->ssl, into, (int)room) : recv(w->fd, into, room, 0);
}

/* The server's Receive Maximum (MQTT 5.0 section 3.2.2.3.3). */
static unsigned receive_maximum(const char *connack, size_t len, uint8_t version)
{
    struct mqtt_packet m;
    struct mqtt_error e;
    size_t used;
    if (mqtt_decode(connack, len, version, WIRE_MAX_PACKET, &m, &used, &e) != MQTT_OK ||
        !mqtt_has(&m.u.connack.props, MQTT_P_RECEIVE_MAX))
        return UINT16_MAX;
    return m.u.connack.props.value[MQTT_P_RECEIVE_MAX].num;
}

/* CONNECT and its CONNACK; *maximum: how many messages the server takes at a time. */
static bool greet(const struct wire *w, uint8_t version, const char *client_id, unsigned *maximum)
{
    char packet[WIRE_MAX_SMALL];
    const struct wire_connect c = {.client_id = client_id};
    if (!send_all(w, packet, wire_connect(packet, sizeof packet, version, &c)))
        return false;
    ssize_t n = read_some(w, packet, sizeof packet);
    if (n >= 4 && mqtt_peek_type((uint8_t)packet[0]) == MQTT_CONNACK && packet[3] == 0) {
        *maximum = receive_maximum(packet, (size_t)n, version);
        return true;
    }
    errno = n == 0 || w->ssl ? ECONNRESET : n > 0 ? EPROTO : errno;
    return false;
}

/* A connection that has got its CONNACK, or none and why. */
static bool connect_mqtt(struct wire *w, const struct sockaddr_in *server, const struct tls_client *tls,
                         uint8_t version, const char *client_id, unsigned *maximum)
{
    if (open_wire(w, server, tls) && greet(w, version, client_id, maximum))
        return true;
    note_error(errno);
    close_wire(w);
    return false;
}

struct publisher *publisher_new(const struct sockaddr_in *server, const struct tls_client *tls,
                                uint8_t version, const char *client_id)
{
    struct wire w;
    struct timeval patience = {PATIENCE_S, 0};
    unsigned maximum;
    if (!connect_mqtt(&w, server, tls, version, client_id, &maximum)) {
        fprintf(stderr, "publisher: %s\n", error);
        return NULL;
    }
    setsockopt(w.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    struct publisher *p = xcalloc(1, sizeof *p);
    p->wire = w;
    p->version = version;
    p->receive_maximum = maximum;
    publisher_set_window(p, DEFAULT_WINDOW);
    p->packet = xmalloc(WIRE_MAX_PACKET);
    return p;
}

void publisher_free(struct publisher *p)
{
    if (!p)
        return;
    char packet[WIRE_MAX_SMALL];
    send_all(&p->wire, packet, wire_disconnect(packet, sizeof packet, p->version));
    if (p->wire.ssl)
        SSL_shutdown(p->wire.ssl);
    close_wire(&p->wire);
    free(p->packet);
    free(p);
}

void publisher_set_qos(struct publisher *p, uint8_t qos) { p->qos = qos; }

uint8_t publisher_qos(const struct publisher *p) { return p->qos; }

void publisher_set_window(struct publisher *p, unsigned messages)
{
    p->window = messages < p->receive_maximum ? messages : p->receive_maximum;
}

unsigned publisher_in_flight(const struct publisher *p) { return p->in_flight; }

int publisher_fd(const struct publisher *p) { return p->wire.fd; }

uint64_t publisher_refused(const struct publisher *p) { return p->refused; }

/* One packet from the server. False: the connection is over. */
static bool on_answer(struct publisher *p, const struct mqtt_packet *m)
{
    char rel[WIRE_ACK];
    bool refused = m->u.ack.code >= MQTT_RC_UNSPECIFIED;
    switch (m->type) {
    case MQTT_PUBREC:
        if (!refused) {
            wire_ack(rel, MQTT_PUBREL, m->u.ack.packet_id);
            return send_all(&p->wire, rel, sizeof rel);
        }
        break;
    case MQTT_PUBACK:
    case MQTT_PUBCOMP:
        break;
    default:
        return false;
    }
    p->refused += refused;
    p->in_flight -= p->in_flight > 0;
    return true;
}

bool publisher_take(struct publisher *p)
{
    ssize_t n = read_some(&p->wire, p->input + p->have, sizeof p->input - p->have);
    if (n <= 0)
        return false;
    size_t have = p->have + (size_t)n, at = 0, used;
    struct mqtt_packet m;
    struct mqtt_error e;
    while (at < have) {
        enum mqtt_result r = mqtt_decode(p->input + at, have - at, p->version, INPUT_ROOM, &m, &used, &e);
        if (r == MQTT_MORE)
            break;
        if (r == MQTT_BAD || !on_answer(p, &m))
            return false;
        at += used;
    }
    memmove(p->input, p->input + at, have - at);
    p->have = have - at;
    return true;
}

bool publisher_hear(struct publisher *p)
{
    struct pollfd fd = {.fd = p->wire.fd, .events = POLLIN};
    while (p->in_flight && ((p->wire.ssl && SSL_pending(p->wire.ssl)) || poll(&fd, 1, 0) > 0))
        if (!publisher_take(p))
            return false;
    return true;
}

bool publisher_await(struct publisher *p, unsigned left)
{
    while (p->in_flight > left)
        if (!publisher_take(p))
            return false;
    return true;
}

/* Makes the packet for this topic, size and QoS, unless it is there. */
static void prepare(struct publisher *p, const char *topic, const struct wire_stamp *s)
{
    if (s->len == p->payload_len && p->qos == p->packet_qos && strcmp(topic, p->topic) == 0)
        return;
    p->len = wire_publish(p->packet, WIRE_MAX_PACKET, p->version, topic, p->qos, s->len, s, &p->at);
    p->payload_len = s->len;
    p->packet_qos = p->qos;
    snprintf(p->topic, sizeof p->topic, "%s", topic);
}

bool publisher_send_at(struct publisher *p, const char *topic, size_t payload_len, uint32_t stream,
                       uint32_t seq, uint64_t sent_ns)
{
    struct wire_stamp s = {WIRE_STAMP_MAGIC, stream, seq, (uint32_t)payload_len, sent_ns};
    prepare(p, topic, &s);
    memcpy(p->packet + p->at.stamp, &s, sizeof s);
    if (p->qos) {
        if (!publisher_await(p, p->window - 1))
            return false;
        p->packet_id = p->packet_id == UINT16_MAX ? 1 : (uint16_t)(p->packet_id + 1);
        wire_put_id(p->packet + p->at.packet_id, p->packet_id);
        p->in_flight++;
    }
    return send_all(&p->wire, p->packet, p->len);
}

uint16_t publisher_port(const struct publisher *p)
{
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    return getsockname(p->wire.fd, (struct sockaddr *)&a, &len) == 0 ? ntohs(a.sin_port) : 0;
}

bool publisher_send(struct publisher *p, const char *topic, size_t payload_len, uint32_t stream, uint32_t seq)
{
    return publisher_send_at(p, topic, payload_len, stream, seq, wire_now_ns());
}

enum publisher_probe publisher_probe(const struct sockaddr_in *server, const struct tls_client *tls,
                                     uint8_t version)
{
    struct wire w;
    unsigned maximum;
    if (!connect_mqtt(&w, server, tls, version, "holdfast-bench-probe", &maximum))
        return error_is_final ? PUBLISHER_NEVER : PUBLISHER_NOT_YET;
    close_wire(&w);
    return PUBLISHER_UP;
}
