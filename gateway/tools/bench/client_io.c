/*
 * One client's connection: connect, CONNECT, then whatever comes in. Fed by epoll events through
 * client_event() and by jobs through client_open() and client_send(); tells the running job when a client has
 * got the answer that the job waits for. Never retries: a client that is refused or lost stays closed until a
 * job opens it again.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/xmalloc.h"
#include "gateway/tools/bench/client.h"
#include "gateway/tools/bench/limits.h"
#include "gateway/tools/bench/wire.h"

#define FIRST_ADDRESS    0x7f010001u /* 127.1.0.1: loopback source addresses count up from here */
#define TIMEOUT_SLACK_US 100000u     /* of our own reading of the clock on a busy machine */

/* Keeps the latest error in words for the report. */
static void complain(struct client_process *p, const char *what, int error)
{
    snprintf(p->counters->error, sizeof p->counters->error, "%s%s%s", what, error ? ": " : "",
             error ? strerror(error) : "");
}

/* Closes the descriptor and forgets everything about the connection but the counts. */
static void client_forget(struct client_process *p, struct client *c)
{
    if (c->state == CLIENT_READY)
        p->counters->connected--;
    client_tls_forget(p, c);
    close(c->fd);
    free(c->partial);
    c->partial = NULL;
    c->awaited = 0;
    c->fd = -1;
    c->state = CLIENT_CLOSED;
    c->flags &= CLIENT_BUSY;
}

/* A silent client was closed: at 1.5 times its keepalive and within the following second is right. */
static void judge_timeout(struct client_process *p, const struct client *c)
{
    uint64_t keepalive = population_keepalive(&p->options->population, population_class(client_number(p, c)));
    uint64_t limit_us = keepalive * 1500000u;
    uint64_t passed_us = (uint32_t)(wire_now_ns() / 1000u) - c->sent_us;
    if (passed_us < limit_us) {
        p->counters->timeouts_early++;
        return;
    }
    if (passed_us - limit_us <= 1000000u + TIMEOUT_SLACK_US)
        p->counters->timeouts_right++;
    else
        p->counters->timeouts_late++;
    histogram_record(&p->counters->timeout_excess, (passed_us - limit_us) * 1000);
}

void client_fail(struct client_process *p, struct client *c, const char *what, int error)
{
    bool returning = c->flags & CLIENT_RETURNING && c->state != CLIENT_READY;
    struct fleet_client *shared = &p->shared[c - p->client];
    if (c->flags & CLIENT_SILENT) {
        judge_timeout(p, c);
    } else {
        complain(p, what, error);
        if (c->flags & CLIENT_WAS_HELD)
            p->counters->held_lost++;
        else if (c->state == CLIENT_READY)
            p->counters->lost++;
        else
            p->counters->refused++;
    }
    if (!shared->leaving_ns)
        shared->leaving_ns = wire_now_ns();
    client_forget(p, c);
    if (c->flags & CLIENT_BUSY)
        client_job_done(p, c, false);
    if (returning)
        client_background_retry(p, c);
}

void client_shut(struct client_process *p, struct client *c, bool reset)
{
    struct linger at_once = {1, 0};
    if (reset)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    else
        client_tls_goodbye(p, c);
    client_forget(p, c);
}

void client_watch(struct client_process *p, struct client *c, bool on)
{
    struct epoll_event e = {.events = on ? EPOLLIN | EPOLLRDHUP | EPOLLET : 0,
                            .data.u32 = (uint32_t)(c - p->client)};
    epoll_ctl(p->epoll, EPOLL_CTL_MOD, c->fd, &e);
}

/* Socket options and, on loopback, a source address. */
static void prepare_socket(struct client_process *p, const struct client *c)
{
    const struct fleet_options *o = p->options;
    int one = 1, rcvbuf = o->rcvbuf;
    if (o->slow_rcvbuf && population_is_slow(&o->population, client_number(p, c)))
        rcvbuf = o->slow_rcvbuf;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (rcvbuf)
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf);
    if (o->sndbuf)
        setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &o->sndbuf, sizeof o->sndbuf);
    if (o->mss)
        setsockopt(c->fd, IPPROTO_TCP, TCP_MAXSEG, &o->mss, sizeof o->mss);
    if (ntohl(o->server.sin_addr.s_addr) >> 24 != 127)
        return;
    struct sockaddr_in a = {.sin_family = AF_INET};
    a.sin_addr.s_addr = htonl(FIRST_ADDRESS + client_number(p, c) / LIMITS_CLIENTS_PER_ADDRESS);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    bind(c->fd, (struct sockaddr *)&a, sizeof a);
}

bool client_open(struct client_process *p, struct client *c)
{
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        complain(p, "socket", errno);
        p->counters->refused++;
        return false;
    }
    c->state = CLIENT_CONNECTING;
    c->sent_us = (uint32_t)(wire_now_ns() / 1000u);
    prepare_socket(p, c);
    const struct sockaddr_in *to = &p->options->server;
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                            .data.u32 = (uint32_t)(c - p->client)};
    if ((connect(c->fd, (const struct sockaddr *)to, sizeof *to) && errno != EINPROGRESS) ||
        epoll_ctl(p->epoll, EPOLL_CTL_ADD, c->fd, &e)) {
        complain(p, "connect", errno);
        p->counters->refused++;
        client_forget(p, c);
        return false;
    }
    return true;
}

/* Small packets into a socket whose buffer is empty: what is not taken at once is a failure. */
bool client_send(struct client_process *p, struct client *c, const char *packet, size_t len)
{
    if (c->tls) {
        len = client_tls_seal(p, c, &packet, packet, len);
        if (len == 0) {
            client_fail(p, c, "TLS: nothing may be sent any more", 0);
            return false;
        }
    }
    ssize_t n = send(c->fd, packet, len, MSG_NOSIGNAL);
    if (n == (ssize_t)len)
        return true;
    if (n >= 0 || errno == EAGAIN)
        p->counters->blocked++;
    client_fail(p, c, "send", n < 0 ? errno : 0);
    return false;
}

bool client_ping(struct client_process *p, struct client *c)
{
    char packet[WIRE_MAX_SMALL];
    c->sent_us = (uint32_t)(wire_now_ns() / 1000u);
    p->counters->heartbeats++;
    return client_send(p, c, packet, wire_pingreq(packet, sizeof packet));
}

bool client_hello(struct client_process *p, struct client *c)
{
    const struct fleet_options *o = p->options;
    uint32_t number = client_number(p, c);
    char id[64], packet[WIRE_MAX_SMALL];
    snprintf(id, sizeof id, "%s-%u", o->id_prefix, number * o->id_step);
    c->state = CLIENT_CONNACK;
    const struct wire_connect connect = {.client_id = id,
                                         .keepalive_s =
                                             population_keepalive(&o->population, population_class(number)),
                                         .persistent = o->persistent};
    return client_send(p, c, packet, wire_connect(packet, sizeof packet, o->version, &connect));
}

/* The TCP connection stands, or does not. */
static void client_connected(struct client_process *p, struct client *c)
{
    int error = 0;
    socklen_t len = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error)
        client_fail(p, c, "connect", error);
    else if (p->tls.client)
        client_tls_begin(p, c);
    else
        client_hello(p, c);
}

/* Keeps the start of a packet, and of a record, until the rest is there. */
static void client_keep(struct client *c, const char *plain, size_t plain_len, const char *sealed,
                        size_t sealed_len)
{
    free(c->partial);
    c->partial = NULL;
    if (plain_len + sealed_len == 0)
        return;
    c->partial = xmalloc(sizeof *c->partial + plain_len + sealed_len);
    c->partial->plain = (uint32_t)plain_len;
    c->partial->sealed = (uint32_t)sealed_len;
    memcpy(c->partial->bytes, plain, plain_len);
    memcpy(c->partial->bytes + plain_len, sealed, sealed_len);
}

bool client_take(struct client_process *p, struct client *c, const char *buf, size_t len, const char *sealed,
                 size_t sealed_len)
{
    ssize_t used = len ? client_parse(p, c, buf, len) : 0;
    if (used < 0)
        return false;
    if (c->partial || (size_t)used < len || sealed_len)
        client_keep(c, buf + used, len - (size_t)used, sealed, sealed_len);
    return true;
}

/* Reads until the socket is empty, as an edge demands. A read that was not filled has emptied it, but for an
 * end of file behind it, which `to_end` asks for. */
static void client_read(struct client_process *p, struct client *c, bool to_end)
{
    const size_t room = WIRE_MAX_PACKET;
    for (;;) {
        size_t have = c->partial ? c->partial->plain : 0;
        if (have)
            memcpy(p->buffer, c->partial->bytes, have);
        ssize_t n = recv(c->fd, p->buffer + have, room, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            client_fail(p, c, n ? "recv" : "closed by the server", n ? errno : 0);
            return;
        }
        if (!client_take(p, c, p->buffer, have + (size_t)n, "", 0))
            return;
        if ((size_t)n < room && !to_end)
            return;
    }
}

void client_event(struct client_process *p, struct client *c, uint32_t events)
{
    if (c->fd < 0)
        return;
    if (c->flags & CLIENT_HELD) {
        if (events & (EPOLLERR | EPOLLHUP))
            client_fail(p, c, "reset while it did not read", 0);
        return;
    }
    if (c->state == CLIENT_CONNECTING && events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
        client_connected(p, c);
    if (c->fd < 0 || c->state == CLIENT_CONNECTING || !(events & ~(uint32_t)EPOLLOUT))
        return; /* an edge says once that there is something to read, be it with the one that says connected
                 */
    bool to_end = events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP);
    if (p->tls.client)
        client_tls_read(p, c, to_end);
    else
        client_read(p, c, to_end);
}
