/*
 * The publisher. The packet of the latest topic and size is kept, so that a publish writes a new stamp into
 * it and costs one send(). What the server sends it, it does not read: it subscribes to nothing and has no
 * keepalive.
 */
#include "gateway/tools/bench/publisher.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "gateway/base/xmalloc.h"
#include "gateway/tools/bench/wire.h"
#include "proto/mqtt.h"

struct publisher {
    int fd;
    uint8_t version;
    char *packet;
    size_t len, stamp_at;
    size_t payload_len;
    char topic[128];
};

static bool send_all(int fd, const char *data, size_t len)
{
    while (len) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n <= 0 && errno != EINTR)
            return false;
        data += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* Connects and reads the CONNACK, within five seconds. -1 and errno when that fails. */
static int connect_mqtt(const struct sockaddr_in *server, uint8_t version, const char *client_id)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct timeval limit = {5, 0};
    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    char packet[WIRE_MAX_SMALL];
    if (connect(fd, (const struct sockaddr *)server, sizeof *server) == 0 &&
        send_all(fd, packet, wire_connect(packet, sizeof packet, version, client_id, 0))) {
        ssize_t n = recv(fd, packet, sizeof packet, 0);
        if (n >= 4 && mqtt_peek_type((uint8_t)packet[0]) == MQTT_CONNACK && packet[3] == 0)
            return fd;
        errno = n == 0 ? ECONNRESET : n > 0 ? EPROTO : errno;
    }
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

struct publisher *publisher_new(const struct sockaddr_in *server, uint8_t version, const char *client_id)
{
    int fd = connect_mqtt(server, version, client_id);
    if (fd < 0) {
        fprintf(stderr, "publisher: %s\n", strerror(errno));
        return NULL;
    }
    struct publisher *p = xcalloc(1, sizeof *p);
    p->fd = fd;
    p->version = version;
    p->packet = xmalloc(WIRE_MAX_PACKET);
    return p;
}

void publisher_free(struct publisher *p)
{
    if (!p)
        return;
    char packet[WIRE_MAX_SMALL];
    send_all(p->fd, packet, wire_disconnect(packet, sizeof packet, p->version));
    close(p->fd);
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
    return send_all(p->fd, p->packet, p->len);
}

uint16_t publisher_port(const struct publisher *p)
{
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    return getsockname(p->fd, (struct sockaddr *)&a, &len) == 0 ? ntohs(a.sin_port) : 0;
}

bool publisher_send(struct publisher *p, const char *topic, size_t payload_len, uint32_t stream, uint32_t seq)
{
    return publisher_send_at(p, topic, payload_len, stream, seq, wire_now_ns());
}

bool publisher_probe(const struct sockaddr_in *server, uint8_t version)
{
    int fd = connect_mqtt(server, version, "holdfast-bench-probe");
    if (fd < 0)
        return false;
    close(fd);
    return true;
}
