/*
 * Opens what the gateway listens on. Fed with the configuration at start; the descriptors go to the children
 * by fork. Accepts nothing itself.
 *
 * Options are set on the listening socket, before listen(): accepted sockets inherit them, which saves four
 * system calls per connection, and SO_RCVBUF must be known when the window scale is negotiated.
 */
#include "gateway/supervisor/listen_sockets.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/log.h"
#include "gateway/base/options.h"
#include "gateway/base/xmalloc.h"

LOG_EVENT(ev_listening, "listening", LOG_LEVEL_NOTICE);
LOG_EVENT(ev_buffer_capped, "socket_buffer_capped", LOG_LEVEL_WARNING);

/* Where one error text is gathered. */
struct failure {
    const char *listener;
    const char *bind;
    char *text;
    size_t size;
};

/* What the reader can do about it. */
static const char *advice(int error)
{
    switch (error) {
    case EADDRINUSE:
        return "; another program listens there: stop it ('ss -ltnp' shows it) or change 'bind'";
    case EACCES:
        return "; ports below 1024 need root or CAP_NET_BIND_SERVICE: start as root or change 'bind'";
    case EADDRNOTAVAIL:
        return "; no interface of this machine has that address: change 'bind'";
    case EMFILE:
        return "; too many workers and listeners for the descriptor limit: raise it (ulimit -n)";
    default:
        return "";
    }
}

/* Writes the error text for what failed with errno; returns -1. */
static int fail(const struct failure *f, const char *what)
{
    int error = errno;
    snprintf(f->text, f->size, "listener %s: cannot %s %s: %s%s", f->listener, what, f->bind, strerror(error),
             advice(error));
    return -1;
}

/* Sets an integer option unless the value is 0, which leaves the kernel's default. */
static int set_option(int fd, int level, int option, uint32_t value)
{
    int n = (int)value;
    return value == 0 ? 0 : setsockopt(fd, level, option, &n, sizeof n);
}

/* The kernel silently cuts buffer sizes at net.core.*mem_max: say so, once per listener. */
static void warn_if_capped(int fd, const char *listener, const char *name, int option, uint32_t wanted)
{
    int got = 0;
    socklen_t len = sizeof got;
    if (wanted == 0 || getsockopt(fd, SOL_SOCKET, option, &got, &len) != 0 || (uint32_t)got / 2 >= wanted)
        return;
    LOG(ev_buffer_capped, LOG_STR("listener", listener), LOG_STR("option", name), LOG_U64("wanted", wanted),
        LOG_I64("got", got / 2));
}

/* The options that accepted sockets inherit. */
static int tune(int fd, const struct config_listener *l)
{
    if (set_option(fd, SOL_SOCKET, SO_RCVBUF, l->rcvbuf) != 0 ||
        set_option(fd, SOL_SOCKET, SO_SNDBUF, l->sndbuf) != 0 ||
        set_option(fd, IPPROTO_TCP, TCP_NODELAY, l->nodelay) != 0 ||
        set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, l->notsent_lowat) != 0 ||
        set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, l->user_timeout_ms) != 0)
        return -1;
    return 0;
}

/* A bound, not yet listening socket; `shared` ones join others on the same port. Returns it or -1. */
static int bound_socket(const struct sockaddr_storage *addr, socklen_t len, bool shared)
{
    int fd = socket(addr->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        (shared && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) ||
        (addr->ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0) ||
        bind(fd, (const struct sockaddr *)addr, len) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/*
 * Whether the address is free. SO_REUSEPORT alone would let a second gateway of the same account join the
 * first one's port and take half of its clients without a word.
 */
static int probe(const struct sockaddr_storage *addr, socklen_t len)
{
    int fd = bound_socket(addr, len, false);
    if (fd < 0)
        return -1;
    int r = listen(fd, 1);
    int error = errno;
    close(fd);
    errno = error;
    return r;
}

/* The port field of either family. */
static in_port_t *port_of(struct sockaddr_storage *addr)
{
    if (addr->ss_family == AF_INET6)
        return &((struct sockaddr_in6 *)addr)->sin6_port;
    return &((struct sockaddr_in *)addr)->sin_port;
}

/* Logs where a listener can be reached. */
static void log_listening(const char *listener, const struct sockaddr_storage *addr, socklen_t len)
{
    char host[NI_MAXHOST], port[NI_MAXSERV], text[NI_MAXHOST + NI_MAXSERV + 4];
    if (getnameinfo((const struct sockaddr *)addr, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return;
    snprintf(text, sizeof text, addr->ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    LOG(ev_listening, LOG_STR("listener", listener), LOG_STR("address", text));
}

/* One worker's socket of a listener, or -1. */
static int open_one(const struct config_listener *l, const struct sockaddr_storage *addr, socklen_t len,
                    bool shared, const struct failure *f)
{
    int fd = bound_socket(addr, len, shared);
    if (fd < 0)
        return fail(f, "bind");
    if (tune(fd, l) != 0) {
        fail(f, "set socket options on");
    } else if (listen(fd, (int)l->backlog) != 0) {
        fail(f, "listen on");
    } else {
        return fd;
    }
    close(fd);
    return -1;
}

/* All sockets of a listener, at fd[0], fd[stride], ...; the first one settles the port. */
static int open_listener(const struct config_listener *l, unsigned count, int *fd, size_t stride,
                         const struct failure *f)
{
    struct sockaddr_storage addr;
    socklen_t len = config_parse_address(l->bind, &addr);
    CHECK(len != 0); /* config_load() has seen to it */
    if (*port_of(&addr) != 0 && probe(&addr, len) != 0)
        return fail(f, "bind");
    for (unsigned i = 0; i < count; i++) {
        int one = open_one(l, &addr, len, count > 1, f);
        if (one < 0)
            return -1;
        fd[i * stride] = one;
        if (i == 0) {
            struct sockaddr_storage got;
            socklen_t got_len = sizeof got;
            if (getsockname(one, (struct sockaddr *)&got, &got_len) != 0)
                return fail(f, "get the address of");
            *port_of(&addr) = *port_of(&got);
        }
    }
    warn_if_capped(fd[0], l->name, "rcvbuf", SO_RCVBUF, l->rcvbuf);
    warn_if_capped(fd[0], l->name, "sndbuf", SO_SNDBUF, l->sndbuf);
    log_listening(l->name, &addr, len);
    return 0;
}

/* Opens the sockets of all listeners and of the API. */
int listen_sockets_open(struct listen_sockets *s, const struct config *c, unsigned workers, char *error,
                        size_t error_size)
{
    *s = (struct listen_sockets){.workers = workers, .listeners = c->listeners, .api_fd = -1};
    s->fd = xmalloc(sizeof *s->fd * (workers * s->listeners + 1));
    for (unsigned i = 0; i < workers * s->listeners; i++)
        s->fd[i] = -1;
    for (unsigned i = 0; i < s->listeners; i++) {
        const struct config_listener *l = &c->listener[i];
        struct failure f = {.listener = l->name, .bind = l->bind, .text = error, .size = error_size};
        if (open_listener(l, workers, s->fd + i, s->listeners, &f) != 0)
            return -1;
    }
    char name[] = "api";
    struct config_listener api = {.name = name, .bind = c->api_bind, .backlog = 128, .nodelay = true};
    struct failure f = {.listener = name, .bind = c->api_bind, .text = error, .size = error_size};
    return open_listener(&api, 1, &s->api_fd, 1, &f);
}

/* The descriptors that a worker accepts on. */
const int *listen_sockets_of(const struct listen_sockets *s, unsigned worker)
{
    CHECK(worker < s->workers);
    return s->fd + (size_t)worker * s->listeners;
}

/* Closes the supervisor's copies. */
void listen_sockets_close(struct listen_sockets *s)
{
    for (unsigned i = 0; s->fd != NULL && i < s->workers * s->listeners; i++)
        if (s->fd[i] >= 0)
            close(s->fd[i]);
    free(s->fd);
    s->fd = NULL;
    if (s->api_fd >= 0)
        close(s->api_fd);
    s->api_fd = -1;
}
