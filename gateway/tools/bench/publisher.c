/*
 * The publisher. The packet of the latest topic and size is kept, so that a publish writes a new stamp into
 * it and costs one send(). What the server sends it, it does not read: it subscribes to nothing and has no
 * keepalive.
 */
#include "gateway/tools/bench/publisher.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
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

struct publisher {
    struct wire wire;
    uint8_t version;
    char *packet;
    size_t len, stamp_at;
    size_t payload_len;
    char topic[128];
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

/* CONNECT and its CONNACK. */
static bool greet(const struct wire *w, uint8_t version, const char *client_id)
{
    char packet[WIRE_MAX_SMALL];
    if (!send_all(w, packet, wire_connect(packet, sizeof packet, version, client_id, 0)))
        return false;
    ssize_t n = w->ssl ? SSL_read(w->ssl, packet, sizeof packet) : recv(w->fd, packet, sizeof packet, 0);
    if (n >= 4 && mqtt_peek_type((uint8_t)packet[0]) == MQTT_CONNACK && packet[3] == 0)
        return true;
    errno = n == 0 || w->ssl ? ECONNRESET : n > 0 ? EPROTO : errno;
    return false;
}

/* A connection that has got its CONNACK, or none and why. */
static bool connect_mqtt(struct wire *w, const struct sockaddr_in *server, const struct tls_client *tls,
                         uint8_t version, const char *client_id)
{
    if (open_wire(w, server, tls) && greet(w, version, client_id))
        return true;
    note_error(errno);
    close_wire(w);
    return false;
}

struct publisher *publisher_new(const struct sockaddr_in *server, const struct tls_client *tls,
                                uint8_t version, const char *client_id)
{
    struct wire w;
    if (!connect_mqtt(&w, server, tls, version, client_id)) {
        fprintf(stderr, "publisher: %s\n", error);
        return NULL;
    }
    struct publisher *p = xcalloc(1, sizeof *p);
    p->wire = w;
    p->version = version;
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

bool publisher_send_at(struct publisher *p, const char *topic, size_t payload_len, uint32_t stream,
                       uint32_t seq, uint64_t sent_ns)
{
    struct wire_stamp s = {WIRE_STAMP_MAGIC, stream, seq, (uint32_t)payload_len, sent_ns};
    if (payload_len != p->payload_len || strcmp(topic, p->topic) != 0) {
        p->len = wire_publish(p->packet, WIRE_MAX_PACKET, p->version, topic, payload_len, &s, &p->stamp_at);
        p->payload_len = payload_len;
        snprintf(p->topic, sizeof p->topic, "%s", topic);
    }
    memcpy(p->packet + p->stamp_at, &s, sizeof s);
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
    if (!connect_mqtt(&w, server, tls, version, "holdfast-bench-probe"))
        return error_is_final ? PUBLISHER_NEVER : PUBLISHER_NOT_YET;
    close_wire(&w);
    return PUBLISHER_UP;
}
