/*
 * The TLS floor server: one process, libevent, one bufferevent_openssl per connection, OpenSSL as it is by
 * default but for SSL_MODE_RELEASE_BUFFERS. Handshakes are done by the bufferevent, inline; nothing bounds
 * how many at once. Of a connection it keeps the bufferevent and its place in the array of subscribers.
 *
 * A broadcast writes to all bufferevents, whose records are made when the loop comes to them. A client with
 * more than OUTPUT_LIMIT waiting misses it.
 */
#include "gateway/tools/bench/floor_tls.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "gateway/base/check.h"
#include "gateway/base/xmalloc.h"
#include "gateway/tools/bench/wire.h"
#include "proto/mqtt.h"

#define OUTPUT_LIMIT  (256u * 1024)
#define NO_SUBSCRIBER SIZE_MAX

struct floor_tls {
    struct event_base *base;
    SSL_CTX *ctx;
    struct peer **subscriber;
    size_t subscribers, room;
};

struct peer {
    struct floor_tls *server;
    struct bufferevent *bev;
    size_t place; /* in server->subscriber, or NO_SUBSCRIBER */
};

/* Closes a connection; the last subscriber takes its place in the array. close_notify is tried, not awaited.
 */
static void drop(struct peer *p)
{
    struct floor_tls *s = p->server;
    SSL *ssl = bufferevent_openssl_get_ssl(p->bev);
    if (p->place != NO_SUBSCRIBER) {
        s->subscriber[p->place] = s->subscriber[--s->subscribers];
        s->subscriber[p->place]->place = p->place;
    }
    if (SSL_is_init_finished(ssl))
        SSL_shutdown(ssl);
    ERR_clear_error();
    bufferevent_free(p->bev);
    free(p);
}

static void broadcast(struct floor_tls *s, const char *packet, size_t len)
{
    for (size_t i = 0; i < s->subscribers; i++) {
        struct bufferevent *bev = s->subscriber[i]->bev;
        if (evbuffer_get_length(bufferevent_get_output(bev)) < OUTPUT_LIMIT)
            bufferevent_write(bev, packet, len);
    }
}

static void subscribe(struct peer *p)
{
    struct floor_tls *s = p->server;
    if (p->place != NO_SUBSCRIBER)
        return;
    if (s->subscribers == s->room) {
        s->room = s->room ? s->room * 2 : 1024;
        s->subscriber = xrealloc(s->subscriber, s->room * sizeof(struct peer *));
    }
    p->place = s->subscribers;
    s->subscriber[s->subscribers++] = p;
}

/* Answers one whole packet. False when the connection should go. */
static bool handle(struct peer *p, const char *packet, size_t len)
{
    char suback[] = {(char)0x90, 3, 0, 0, 0};
    switch (mqtt_peek_type((uint8_t)packet[0])) {
    case MQTT_CONNECT:
        return bufferevent_write(p->bev, "\x20\x02\x00\x00", 4) == 0;
    case MQTT_SUBSCRIBE:
        subscribe(p);
        memcpy(suback + 2, packet + 2, len >= 4 ? 2 : 0);
        return bufferevent_write(p->bev, suback, sizeof suback) == 0;
    case MQTT_PINGREQ:
        return bufferevent_write(p->bev, "\xd0\x00", 2) == 0;
    case MQTT_PUBLISH:
        broadcast(p->server, packet, len);
        return true;
    default:
        return false;
    }
}

/* Length of the packet at the front, 0 when that is not known yet. */
static size_t packet_length(struct evbuffer *in)
{
    unsigned char head[5];
    ev_ssize_t n = evbuffer_copyout(in, head, sizeof head);
    size_t remaining = 0;
    for (ev_ssize_t i = 1; i < n; i++) {
        remaining |= (size_t)(head[i] & 0x7f) << (7 * (i - 1));
        if (!(head[i] & 0x80))
            return 1 + (size_t)i + remaining;
    }
    return 0;
}

/* Every whole packet that is there. */
static void read_cb(struct bufferevent *bev, void *arg)
{
    struct peer *p = arg;
    struct evbuffer *in = bufferevent_get_input(bev);
    for (size_t len; (len = packet_length(in)) && len <= evbuffer_get_length(in); evbuffer_drain(in, len)) {
        if (len > WIRE_MAX_PACKET || !handle(p, (const char *)evbuffer_pullup(in, (ev_ssize_t)len), len)) {
            drop(p);
            return;
        }
    }
}

static void event_cb(struct bufferevent *bev, short what, void *arg)
{
    (void)bev;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
        drop(arg);
}

static void accept_cb(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *a, int len, void *arg)
{
    struct floor_tls *s = arg;
    struct peer *p = xcalloc(1, sizeof *p);
    (void)l, (void)a, (void)len;
    p->server = s;
    p->place = NO_SUBSCRIBER;
    p->bev = bufferevent_openssl_socket_new(s->base, fd, SSL_new(s->ctx), BUFFEREVENT_SSL_ACCEPTING,
                                            BEV_OPT_CLOSE_ON_FREE);
    CHECK(p->bev);
    bufferevent_openssl_set_allow_dirty_shutdown(p->bev, 1);
    bufferevent_setcb(p->bev, read_cb, NULL, event_cb, p);
    bufferevent_enable(p->bev, EV_READ | EV_WRITE);
}

static void stop_cb(evutil_socket_t sig, short what, void *arg)
{
    struct floor_tls *s = arg;
    (void)sig, (void)what;
    event_base_loopbreak(s->base);
}

/* Only the mode differs from what OpenSSL does by itself. */
static SSL_CTX *make_context(const char *certificate, const char *key)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    CHECK(ctx);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    if (SSL_CTX_use_certificate_chain_file(ctx, certificate) == 1 &&
        SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) == 1)
        return ctx;
    fprintf(stderr, "floor-tls: %s, %s: ", certificate, key);
    ERR_print_errors_fp(stderr);
    SSL_CTX_free(ctx);
    return NULL;
}

/* TCP_NODELAY is inherited by what is accepted. */
static struct evconnlistener *listen_on(struct floor_tls *s, int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct evconnlistener *l =
        evconnlistener_new_bind(s->base, accept_cb, s, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE, 4096,
                                (struct sockaddr *)&a, sizeof a);
    if (l)
        setsockopt(evconnlistener_get_fd(l), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    else
        perror("floor-tls: listen");
    return l;
}

static void raise_descriptor_limit(void)
{
    struct rlimit r;
    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
}

/* Serves until a signal comes. */
static int serve(int port, const char *certificate, const char *key)
{
    struct floor_tls s = {0};
    raise_descriptor_limit();
    signal(SIGPIPE, SIG_IGN);
    s.ctx = make_context(certificate, key);
    s.base = event_base_new();
    CHECK(s.base);
    struct evconnlistener *listener = s.ctx ? listen_on(&s, port) : NULL;
    if (listener) {
        struct event *stop[] = {evsignal_new(s.base, SIGTERM, stop_cb, &s),
                                evsignal_new(s.base, SIGINT, stop_cb, &s)};
        event_add(stop[0], NULL);
        event_add(stop[1], NULL);
        event_base_dispatch(s.base);
        event_free(stop[0]);
        event_free(stop[1]);
        evconnlistener_free(listener);
    }
    while (s.subscribers)
        drop(s.subscriber[s.subscribers - 1]);
    free(s.subscriber);
    event_base_free(s.base);
    SSL_CTX_free(s.ctx);
    return listener ? 0 : 1;
}

void floor_tls_help(FILE *out)
{
    fputs("usage: holdfast-bench floor-tls --port PORT --certificate FILE --key FILE\n"
          "Serves MQTT over TLS on 127.0.0.1 as a plain server with bufferevent_openssl does, until it is "
          "ended.\n\n"
          "  -p, --port PORT          TCP port to listen on, 1 to 65535\n"
          "  -c, --certificate FILE   the certificate with its chain, PEM\n"
          "  -k, --key FILE           its key, PEM\n"
          "  -h, --help               print this\n",
          out);
}

int floor_tls_main(int argc, char **argv)
{
    static const struct option options[] = {{"port", required_argument, NULL, 'p'},
                                            {"certificate", required_argument, NULL, 'c'},
                                            {"key", required_argument, NULL, 'k'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    const char *port = "", *certificate = NULL, *key = NULL;
    for (int c; (c = getopt_long(argc, argv, "p:c:k:h", options, NULL)) != -1;) {
        if (c == 'h') {
            floor_tls_help(stdout);
            return 0;
        }
        if (c == 'p')
            port = optarg;
        else if (c == 'c')
            certificate = optarg;
        else if (c == 'k')
            key = optarg;
        else
            port = "";
    }
    int number = atoi(port);
    if (number >= 1 && number <= 65535 && certificate && key)
        return serve(number, certificate, key);
    floor_tls_help(stderr);
    return 2;
}
