/*
 * The loop of one client process. Clients are plain records in one array; the event of a client carries its
 * index. Commands come from the coordinator over `control`; answers go back the same way. What has to be
 * counted is counted in shared memory, so that looking at it costs this process nothing.
 *
 * Events are edge-triggered and everything goes through one buffer, so that a delivery costs one recv() and a
 * client that has nothing to say costs its record only.
 */
#include "gateway/tools/bench/client.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/xmalloc.h"
#include "gateway/tools/bench/wire.h"

#define EVENTS  256
#define CONTROL UINT32_MAX /* the event's data for the control socket */

uint32_t client_number(const struct client_process *p, const struct client *c)
{
    return p->first + (uint32_t)(c - p->client);
}

/* Sends an answer to the coordinator. */
void client_answer(struct client_process *p, const struct fleet_answer *a)
{
    if (send(p->control, a, sizeof *a, MSG_NOSIGNAL) != (ssize_t)sizeof *a)
        _exit(1);
}

/* Takes one command. The end of the socket pair is the end of this process. */
static void read_command(struct client_process *p)
{
    struct fleet_command c;
    ssize_t n = recv(p->control, &c, sizeof c, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n != (ssize_t)sizeof c || c.op == FLEET_QUIT) {
        for (uint32_t i = 0; i < p->count; i++)
            if (p->client[i].fd >= 0)
                client_shut(p, &p->client[i], true);
        _exit(0);
    }
    client_job_start(p, &c);
}

/* As many descriptors as the hard limit allows. */
static void raise_limit(void)
{
    struct rlimit r;
    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
}

/* epoll with nanoseconds: paced work needs less than a millisecond. */
static int wait_events(struct client_process *p, struct epoll_event *events, uint64_t wait_ns)
{
    struct timespec t = {(time_t)(wait_ns / 1000000000u), (long)(wait_ns % 1000000000u)};
    return epoll_pwait2(p->epoll, events, EVENTS, wait_ns == UINT64_MAX ? NULL : &t, NULL);
}

static void loop(struct client_process *p)
{
    struct epoll_event events[EVENTS];
    for (;;) {
        client_tls_pump(p);
        uint64_t job = client_job_pump(p), background = client_background_pump(p);
        int n = wait_events(p, events, job < background ? job : background);
        for (int i = 0; i < n; i++) {
            if (events[i].data.u32 == CONTROL)
                read_command(p);
            else
                client_event(p, &p->client[events[i].data.u32], events[i].events);
        }
        if (p->goal && p->counters->deliveries >= p->goal &&
            p->counters->acknowledged >= p->goal_acknowledged) {
            p->goal = 0;
            client_answer(p, &(struct fleet_answer){.number = p->goal_number, .reached = 1});
        }
    }
}

_Noreturn void client_main(const struct fleet_options *o, uint32_t first, uint32_t count, int control,
                           struct fleet_counters *counters, struct fleet_client *shared)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, SIG_IGN); /* the coordinator ends us */
    signal(SIGPIPE, SIG_IGN);
    raise_limit();
    struct client_process p = {.options = o,
                               .counters = counters,
                               .first = first,
                               .count = count,
                               .control = control,
                               .shared = shared,
                               .background.random = o->population.seed + first + 1};
    p.client = xcalloc(count, sizeof *p.client);
    for (uint32_t i = 0; i < count; i++)
        p.client[i].fd = -1;
    p.buffer = xmalloc(2 * WIRE_MAX_PACKET + TLS_RECORD_MAX);
    client_tls_start(&p);
    p.epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = CONTROL};
    CHECK(p.epoll >= 0 && epoll_ctl(p.epoll, EPOLL_CTL_ADD, control, &e) == 0);
    loop(&p);
    _exit(0);
}
