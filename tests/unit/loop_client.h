/*
 * For tests of connections and sessions: the client's end of a socket pair, and turning the event loop until
 * something has happened.
 */
#ifndef HOLDFAST_TESTS_LOOP_CLIENT_H
#define HOLDFAST_TESTS_LOOP_CLIENT_H

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/unit.h"

/* A connected pair; [0] is non-blocking, for the code under test, [1] is the client, also non-blocking. */
static inline void loop_pair(int fd[2])
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
}

/* Turns the loop a few times: everything that is ready now has been served afterwards. */
static inline void loop_turn(struct event_base *base)
{
    for (int i = 0; i < 6; i++)
        event_base_loop(base, EVLOOP_NONBLOCK);
}

static inline void client_send(int fd, const void *data, size_t len)
{
    ck_assert_int_eq(send(fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* Whether the gateway has closed the connection, with nothing left to read. */
static inline bool client_closed(int fd)
{
    char c;
    ssize_t n = recv(fd, &c, 1, MSG_PEEK);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

/* Reads what is there, up to cap bytes. */
static inline size_t client_read(int fd, void *out, size_t cap)
{
    size_t at = 0;
    while (at < cap) {
        ssize_t n = recv(fd, (char *)out + at, cap - at, 0);
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    return at;
}

/* Exactly these bytes have come, and no more. */
static inline void client_expect(int fd, const void *want, size_t len)
{
    unsigned char got[4096];
    ck_assert_uint_eq(client_read(fd, got, sizeof got), len);
    ck_assert_mem_eq(got, want, len);
}

#endif
