/*
 * The floor server: one process, level-triggered epoll, one recv() per readiness, one send() per answer and
 * per delivery, blocking nowhere. Of a connection it keeps the descriptor, in an array in the order of
 * subscription, and the place in that array, by descriptor: eight bytes.
 *
 * A broadcast is one loop of send() over that array; nobody is served in between. A client whose socket does
 * not take a message whole misses it; one that took a part is closed, since the rest would have to be kept
 * somewhere.
 */
#include "gateway/tools/bench/floor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/xmalloc.h"
#include "proto/mqtt.h"

#define FLOOR_BUFFER (1u << 20)
#define FLOOR_EVENTS 256

static volatile sig_atomic_t stop;

struct floor_server {
    int epoll, listener;
    int *subscriber; /* descriptors */
    int *place;      /* by descriptor: index in subscriber, -1 when not there */
    int subscribers, places;
    char *buffer;   /* FLOOR_BUFFER bytes */
    int partial_fd; /* whose incomplete packet is kept, -1: nobody's */
    char *partial;
    size_t partial_len;
};

static void stop_cb(int sig)
{
    (void)sig;
    stop = 1;
}

/* Closes a connection; the last subscriber takes its place in the array. */
static void drop(struct floor_server *s, int fd)
{
    int at = s->place[fd];
    if (at >= 0) {
        int last = s->subscriber[--s->subscribers];
        s->subscriber[at] = last;
        s->place[last] = at;
        s->place[fd] = -1;
    }
    if (s->partial_fd == fd)
        s->partial_fd = -1;
    close(fd);
}

/* One loop of send(). Backwards, so that dropping the current one disturbs nobody else. */
static void broadcast(struct floor_server *s, const char *packet, size_t len)
{
    for (int i = s->subscribers - 1; i >= 0; i--) {
        ssize_t n = send(s->subscriber[i], packet, len, MSG_NOSIGNAL);
        if (n != (ssize_t)len && (n >= 0 || errno != EAGAIN))
            drop(s, s->subscriber[i]);
    }
}

/* Answers one whole packet. False when the connection is gone or should go. */
static bool handle(struct floor_server *s, int fd, const char *p, size_t len)
{
    static const char connack[] = {0x20, 2, 0, 0};
    char suback[] = {(char)0x90, 3, 0, 0, 0};
    switch (mqtt_peek_type((uint8_t)p[0])) {
    case MQTT_CONNECT:
        return send(fd, connack, sizeof connack, MSG_NOSIGNAL) == sizeof connack;
    case MQTT_SUBSCRIBE:
        if (s->place[fd] < 0) {
            s->place[fd] = s->subscribers;
            s->subscriber[s->subscribers++] = fd;
        }
        memcpy(suback + 2, p + 2, len >= 4 ? 2 : 0);
        return send(fd, suback, sizeof suback, MSG_NOSIGNAL) == sizeof suback;
    case MQTT_PINGREQ:
        return send(fd, "\xd0", 2, MSG_NOSIGNAL) == 2;
    case MQTT_PUBLISH:
        broadcast(s, p, len);
        return true;
    default:
        return false;
    }
}

/* Length of the packet at p, or 0 when that is not known yet. */
static size_t packet_length(const char *p, size_t len)
{
    size_t remaining = 0;
    for (size_t i = 1; i < len && i < 5; i++) {
        remaining |= (size_t)(p[i] & 0x7f) << (7 * (i - 1));
        if (!(p[i] & 0x80))
            return 1 + i + remaining;
    }
    return 0;
}

/* Keeps the incomplete packet of the one client that may have one. */
static bool keep_partial(struct floor_server *s, int fd, const char *p, size_t len)
{
    if (s->partial_fd >= 0 || len > FLOOR_BUFFER / 2)
        return false;
    memcpy(s->partial, p, len);
    s->partial_len = len;
    s->partial_fd = fd;
    return true;
}

/* One readiness: one recv(), then every whole packet in it. */
static void readable(struct floor_server *s, int fd)
{
    size_t have = 0;
    if (fd == s->partial_fd) {
        have = s->partial_len;
        memcpy(s->buffer, s->partial, have);
        s->partial_fd = -1;
    }
    ssize_t n = recv(fd, s->buffer + have, FLOOR_BUFFER - have, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            drop(s, fd);
        return;
    }
    const char *p = s->buffer, *end = s->buffer + have + (size_t)n;
    while (p < end) {
        size_t len = packet_length(p, (size_t)(end - p));
        if (len == 0 || len > (size_t)(end - p)) {
            if (!keep_partial(s, fd, p, (size_t)(end - p)))
                drop(s, fd);
            return;
        }
        if (!handle(s, fd, p, len)) {
            drop(s, fd);
            return;
        }
        p += len;
    }
}

/* Accepts what is there. */
static void acceptable(struct floor_server *s)
{
    for (;;) {
        int fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        if (fd >= s->places) {
            close(fd);
            continue;
        }
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        s->place[fd] = -1;
        epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &e);
    }
}

/* TCP_NODELAY is inherited by what is accepted. */
static int listen_on(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 4096)) {
        perror("floor: listen");
        return -1;
    }
    return fd;
}

/* Raises the descriptor limit as far as it goes and makes room for as many. */
static void make_room(struct floor_server *s)
{
    struct rlimit r;
    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
    s->places = (int)(r.rlim_cur < 1100000 ? r.rlim_cur : 1100000);
    s->subscriber = xcalloc((size_t)s->places, sizeof *s->subscriber);
    s->place = xcalloc((size_t)s->places, sizeof *s->place);
    s->buffer = xmalloc(FLOOR_BUFFER);
    s->partial = xmalloc(FLOOR_BUFFER);
    s->partial_fd = -1;
}

/* The loop. */
static void serve(struct floor_server *s)
{
    struct epoll_event events[FLOOR_EVENTS];
    while (!stop) {
        int n = epoll_wait(s->epoll, events, FLOOR_EVENTS, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == s->listener)
                acceptable(s);
            else
                readable(s, events[i].data.fd);
        }
    }
}

void floor_help(FILE *out)
{
    fputs("usage: holdfast-bench floor --port PORT\n"
          "Serves MQTT on 127.0.0.1 with the least work, until it is ended.\n\n"
          "  -p, --port PORT     TCP port to listen on, 1 to 65535\n"
          "  -h, --help          print this\n",
          out);
}

int floor_main(int argc, char **argv)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'}, {"help", no_argument, NULL, 'h'}, {0}};
    int port = 0;
    for (int c; (c = getopt_long(argc, argv, "p:h", options, NULL)) != -1;) {
        if (c == 'h') {
            floor_help(stdout);
            return 0;
        }
        port = c == 'p' ? atoi(optarg) : 0;
    }
    if (port < 1 || port > 65535) {
        floor_help(stderr);
        return 2;
    }
    struct floor_server s = {0};
    make_room(&s);
    s.listener = listen_on(port);
    s.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (s.listener < 0 || s.epoll < 0)
        return 1;
    struct epoll_event e = {.events = EPOLLIN, .data.fd = s.listener};
    epoll_ctl(s.epoll, EPOLL_CTL_ADD, s.listener, &e);
    struct sigaction sa = {.sa_handler = stop_cb};
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    serve(&s);
    free(s.subscriber);
    free(s.place);
    free(s.buffer);
    free(s.partial);
    return 0;
}
