/*
 * The calibration behind `holdfast doctor --measure`. Opens connections between listeners and clients of this
 * process on 127.0.0.1 (or ::1), takes three pictures of the slab caches - before, connected, in an epoll set
 * - and works out one end: both ends of a connection cost the kernel the same, only the server's is in an
 * epoll set. Closes everything again; uses no other machine.
 *
 * Every local port and address in use has a small bucket in the kernel that a gateway, whose port is one,
 * does not have per connection. So the connections are all pairs of a few listening ports and a few client
 * ports.
 */
#include "gateway/tools/doctor/measure.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/xmalloc.h"
#include "gateway/tools/doctor/cost.h"

#define GRID_MAX 48 /* listening ports and client ports: 2,304 connections */
#define GRID_MIN 12
#define ROUNDS   5
#define SPARE    64 /* descriptors for everything else */

/* A socket alone is more than this. */
#define PLAUSIBLE_MIN 512

/* Caches that grew by less per connection grew for somebody else. */
#define NOISE_BYTES 4

#define PICTURE_CACHES 512

struct picture {
    struct {
        char name[64];
        double bytes; /* objects in use, with slab waste */
    } cache[PICTURE_CACHES];
    unsigned caches;
    double slab; /* bytes, from /proc/meminfo */
    const struct machine *machine;
};

struct rig {
    int family;
    unsigned grid;
    int listener[GRID_MAX];
    struct sockaddr_storage server[GRID_MAX], client[GRID_MAX];
    socklen_t address_len;
    int *fd; /* accepted and client ends by turns */
    unsigned fds;
    int epoll;
};

/* One cache of a picture. */
static void picture_cb(void *ctx, const char *name, const struct slab *s)
{
    struct picture *p = ctx;
    if (p->caches == PICTURE_CACHES)
        return;
    snprintf(p->cache[p->caches].name, sizeof p->cache[0].name, "%s", name);
    p->cache[p->caches++].bytes = (double)s->active * cost_object_bytes(p->machine, s);
}

/* Takes a picture. */
static void take_picture(const struct machine *m, struct picture *p)
{
    p->machine = m;
    p->caches = 0;
    machine_each_slab(m, picture_cb, p);
    p->slab = 0;
    char *text = machine_file(m, "/proc/meminfo");
    const char *line = text != NULL ? strstr(text, "\nSlab:") : NULL;
    if (line != NULL)
        p->slab = strtod(line + 6, NULL) * 1024;
    free(text);
}

/* Descriptors this process may open. */
static uint64_t descriptors(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0)
        return 0;
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
    return getrlimit(RLIMIT_NOFILE, &r) == 0 ? r.rlim_cur : 0;
}

/* A loopback address with port 0. */
static void loopback(struct rig *rig, struct sockaddr_storage *a)
{
    memset(a, 0, sizeof *a);
    if (rig->family == AF_INET6) {
        struct sockaddr_in6 *six = (struct sockaddr_in6 *)(void *)a;
        six->sin6_family = AF_INET6;
        six->sin6_addr = in6addr_loopback;
        rig->address_len = sizeof *six;
    } else {
        struct sockaddr_in *four = (struct sockaddr_in *)(void *)a;
        four->sin_family = AF_INET;
        four->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        rig->address_len = sizeof *four;
    }
}

/* A socket bound to the address, whose port is filled in if it was 0. -1 on failure. */
static int bound_socket(struct rig *rig, struct sockaddr_storage *a)
{
    int one = 1, fd = socket(rig->family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof *a;
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
        bind(fd, (struct sockaddr *)a, rig->address_len) == 0 &&
        getsockname(fd, (struct sockaddr *)a, &len) == 0)
        return fd;
    close(fd);
    return -1;
}

/* Opens the listeners and picks as many different client ports: each is held until all are known. */
static int rig_open(struct rig *rig)
{
    int probe[GRID_MAX], result = 0;
    unsigned probes = 0;
    for (unsigned i = 0; i < rig->grid && result == 0; i++) {
        loopback(rig, &rig->server[i]);
        loopback(rig, &rig->client[i]);
        rig->listener[i] = bound_socket(rig, &rig->server[i]);
        probe[probes] = bound_socket(rig, &rig->client[i]);
        probes += probe[probes] >= 0;
        if (probes <= i || rig->listener[i] < 0 || listen(rig->listener[i], GRID_MAX) != 0)
            result = -1;
    }
    rig->epoll = epoll_create1(EPOLL_CLOEXEC);
    int saved = errno;
    while (probes > 0)
        close(probe[--probes]);
    errno = saved;
    return rig->epoll < 0 ? -1 : result;
}

/* Connects one pair; both ends go to the list. The client resets when it is closed, so that no TIME_WAIT
 * stays. */
static int connect_pair(struct rig *rig, unsigned server, unsigned client)
{
    struct linger reset = {.l_onoff = 1};
    struct sockaddr_storage from = rig->client[client];
    int c = bound_socket(rig, &from);
    if (c < 0)
        return -1;
    rig->fd[rig->fds++] = c;
    setsockopt(c, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (connect(c, (struct sockaddr *)&rig->server[server], rig->address_len) != 0)
        return -1;
    int s = accept4(rig->listener[server], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (s < 0)
        return -1;
    rig->fd[rig->fds++] = s;
    return 0;
}

/* All pairs. */
static int connect_all(struct rig *rig)
{
    for (unsigned s = 0; s < rig->grid; s++)
        for (unsigned c = 0; c < rig->grid; c++)
            if (connect_pair(rig, s, c) != 0)
                return -1;
    return 0;
}

/* The servers' ends into the epoll set, as parked connections are. */
static int watch_all(struct rig *rig)
{
    for (unsigned i = 1; i < rig->fds; i += 2) {
        struct epoll_event e = {.events = EPOLLIN, .data.fd = rig->fd[i]};
        if (epoll_ctl(rig->epoll, EPOLL_CTL_ADD, rig->fd[i], &e) != 0)
            return -1;
    }
    return 0;
}

/* Clients first: they reset, and the servers' ends are gone before they are closed. */
static void rig_close(struct rig *rig)
{
    for (unsigned i = 0; i < rig->fds; i += 2)
        close(rig->fd[i]);
    for (unsigned i = 1; i < rig->fds; i += 2)
        close(rig->fd[i]);
    for (unsigned i = 0; i < rig->grid; i++)
        if (rig->listener[i] >= 0)
            close(rig->listener[i]);
    if (rig->epoll >= 0)
        close(rig->epoll);
    free(rig->fd);
}

/* What a cache had in an earlier picture; caches do not change their order, but one may have appeared. */
static double bytes_in(const struct picture *p, const char *name)
{
    for (unsigned i = 0; i < p->caches; i++)
        if (strcmp(p->cache[i].name, name) == 0)
            return p->cache[i].bytes;
    return 0;
}

/* Half of the growth by connecting, all of the growth by watching; small change is noise. */
static void evaluate(const struct picture picture[3], unsigned n, struct measurement *out)
{
    out->connections = n;
    out->by_cache = picture[0].caches > 0;
    for (unsigned i = 0; i < picture[2].caches; i++) {
        const char *name = picture[2].cache[i].name;
        double before = bytes_in(&picture[0], name), connected = bytes_in(&picture[1], name);
        double each = ((connected - before) / 2 + picture[2].cache[i].bytes - connected) / n;
        if (each < NOISE_BYTES || out->caches == MEASURE_MAX_CACHES)
            continue;
        snprintf(out->cache[out->caches].name, sizeof out->cache[0].name, "%s", name);
        out->cache[out->caches++].per_connection = each;
        out->per_connection += each;
    }
    if (!out->by_cache)
        out->per_connection =
            ((picture[1].slab - picture[0].slab) / 2 + picture[2].slab - picture[1].slab) / n;
}

/* The three pictures. Returns -1 with errno set. */
static int take_pictures(const struct machine *m, struct rig *rig, struct picture picture[3])
{
    if (rig_open(rig) != 0)
        return -1;
    take_picture(m, &picture[0]);
    if (connect_all(rig) != 0)
        return -1;
    take_picture(m, &picture[1]);
    if (watch_all(rig) != 0)
        return -1;
    take_picture(m, &picture[2]);
    return 0;
}

/*
 * Both rigs at once: the first one uses up what was free in the caches' slabs, so that all of the second
 * one's objects are seen as growth.
 */
static int run(const struct machine *m, struct rig rig[2], struct measurement *out)
{
    struct picture *picture = xcalloc(3, sizeof *picture);
    int result = -1;
    if (rig_open(&rig[0]) == 0 && connect_all(&rig[0]) == 0 && watch_all(&rig[0]) == 0)
        result = take_pictures(m, &rig[1], picture);
    int saved = errno;
    if (result == 0)
        evaluate(picture, rig[1].fds / 2, out);
    free(picture);
    errno = saved;
    return result;
}

/* Descriptors that two rigs of this size take. */
static uint64_t rig_descriptors(unsigned grid) { return 2 * (2 * (uint64_t)grid * grid + grid) + SPARE; }

/* A rig with nothing in it. */
static void rig_init(struct rig *rig, int family, unsigned grid)
{
    *rig = (struct rig){.family = family, .grid = grid, .epoll = -1};
    memset(rig->listener, -1, sizeof rig->listener);
    rig->fd = xcalloc(2 * grid * grid, sizeof *rig->fd);
}

/* One measurement: opens, looks, closes. Returns -1 with errno set. */
static int measure_once(const struct machine *m, int family, unsigned grid, struct measurement *out)
{
    struct rig rig[2];
    memset(out, 0, sizeof *out);
    rig_init(&rig[0], family, grid);
    rig_init(&rig[1], family, grid);
    int result = run(m, rig, out), saved = errno;
    rig_close(&rig[1]);
    rig_close(&rig[0]);
    errno = saved;
    return result;
}

static int compare_cb(const void *a, const void *b)
{
    const struct measurement *x = a, *y = b;
    return (x->per_connection > y->per_connection) - (x->per_connection < y->per_connection);
}

/* Several rounds; the median is taken, because others use the kernel's caches meanwhile. */
int measure_connections(const struct machine *m, bool ipv6, struct measurement *out, char *error,
                        size_t error_size)
{
    uint64_t may = descriptors();
    unsigned grid = GRID_MAX, done = 0;
    while (grid > GRID_MIN && rig_descriptors(grid) > may)
        grid--;
    if (rig_descriptors(grid) > may) {
        snprintf(error, error_size, "a limit of %llu open files is too low to measure",
                 (unsigned long long)may);
        return -1;
    }
    struct measurement round[ROUNDS];
    for (int i = 0; i < ROUNDS; i++)
        done += measure_once(m, ipv6 ? AF_INET6 : AF_INET, grid, &round[done]) == 0;
    if (done == 0) {
        snprintf(error, error_size, "cannot open connections on loopback: %s", strerror(errno));
        return -1;
    }
    qsort(round, done, sizeof round[0], compare_cb);
    *out = round[done / 2];
    if (out->per_connection >= PLAUSIBLE_MIN)
        return 0;
    snprintf(error, error_size, "the kernel's caches did not grow as they should");
    return -1;
}
