/*
 * What the kernel says about single sockets: both ends are found by the server's port, with what they hold.
 */
#include "gateway/tools/bench/sockmem.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/unit.h"

#define CLIENTS 3

static int listener, client[CLIENTS], server[CLIENTS];
static uint16_t port, client_port[CLIENTS];
static struct sockmem_end at_server, at_client;

static uint16_t port_of(int fd)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    return ntohs(a.ss_family == AF_INET ? ((struct sockaddr_in *)&a)->sin_port
                                        : ((struct sockaddr_in6 *)&a)->sin6_port);
}

/* A listener of this family, which takes IPv4 in both cases. False when the machine has no such family. */
static bool start(int family)
{
    int off = 0;
    listener = socket(family, SOCK_STREAM, 0);
    if (listener < 0)
        return false;
    if (family == AF_INET6)
        setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    ck_assert_int_eq(listen(listener, 8), 0); /* unbound: any address, a free port */
    port = port_of(listener);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < CLIENTS; i++) {
        client[i] = socket(AF_INET, SOCK_STREAM, 0);
        ck_assert_int_eq(connect(client[i], (struct sockaddr *)&a, sizeof a), 0);
        client_port[i] = port_of(client[i]);
        server[i] = accept(listener, NULL, NULL);
        ck_assert_int_ge(server[i], 0);
    }
    return true;
}

static void stop(void)
{
    for (int i = 0; i < CLIENTS; i++) {
        close(client[i]);
        close(server[i]);
    }
    close(listener);
}

/* Reads; false when the kernel does not tell, which is no mistake of ours. */
static bool sums(uint16_t without) { return sockmem_read(port, without, &at_server, &at_client); }

/* The clients have something to read. */
static void send_to_all(size_t len)
{
    char data[4096];
    memset(data, 'x', sizeof data);
    for (int i = 0; i < CLIENTS; i++) {
        struct pollfd p = {.fd = client[i], .events = POLLIN};
        ck_assert_int_eq(send(server[i], data, len, 0), (ssize_t)len);
        ck_assert_int_eq(poll(&p, 1, 10000), 1);
    }
}

static void both_ends(int family)
{
    if (!start(family))
        return;
    if (sums(0)) {
        ck_assert_uint_eq(at_server.sockets, CLIENTS);
        ck_assert_uint_eq(at_client.sockets, CLIENTS);
        ck_assert_uint_eq(at_server.receive + at_client.receive + at_server.send + at_client.send, 0);
        send_to_all(1000);
        ck_assert(sums(0));
        ck_assert_uint_gt(at_client.receive, 1000 * CLIENTS);
        ck_assert_uint_eq(at_server.receive + at_client.send, 0);
        ck_assert(sums(client_port[0]));
        ck_assert_uint_eq(at_server.sockets, CLIENTS - 1);
        ck_assert_uint_eq(at_client.sockets, CLIENTS - 1);
    }
    stop();
}

START_TEST(both_ends_of_ipv4_connections) { both_ends(AF_INET); }
END_TEST

START_TEST(a_server_that_listens_on_ipv6) { both_ends(AF_INET6); }
END_TEST

START_TEST(connections_to_another_port_are_not_counted)
{
    ck_assert(start(AF_INET));
    if (sockmem_read(1, 0, &at_server, &at_client)) {
        ck_assert_uint_eq(at_server.sockets, 0);
        ck_assert_uint_eq(at_client.sockets, 0);
    }
    stop();
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, both_ends_of_ipv4_connections);
    tcase_add_test(tc, a_server_that_listens_on_ipv6);
    tcase_add_test(tc, connections_to_another_port_are_not_counted);
}

UNIT_MAIN("bench_sockmem")
