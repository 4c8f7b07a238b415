/*
 * The coordinator's side of the client processes: forks them, sends commands, waits for answers, adds up
 * counters. A command is answered once by each process; FLEET_EXPECT a second time when its deliveries are
 * there. The processes live on without the coordinator for no longer than it takes them to notice.
 */
#include "gateway/tools/bench/fleet.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/xmalloc.h"
#include "gateway/tools/bench/client.h"
#include "gateway/tools/bench/interrupt.h"
#include "gateway/tools/bench/wire.h"

#define TICK_MS 200
/* nice value of movers that are apart, so that what is measured is not their own load */
#define GIVE_WAY 10

struct member {
    pid_t pid;
    int control;
    bool gone;
    uint32_t answered, reached; /* latest numbers */
    struct fleet_answer answer;
};

struct fleet {
    struct fleet_options options;
    struct member *member;
    pid_t *pids;
    size_t members;
    struct fleet_counters *counters; /* one per member, shared */
    struct fleet_client *client;     /* one per client, shared */
    uint32_t number, expect_number;
    uint64_t expected;
    void (*tick)(void *arg);
    void *tick_arg;
};

/* Forks one process for clients first .. first + count - 1. */
static bool start_member(struct fleet *f, uint32_t first, uint32_t count)
{
    size_t i = f->members;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
        perror("socketpair");
        return false;
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        perror("fork");
        return false;
    }
    if (pid == 0) {
        for (size_t k = 0; k < i; k++)
            close(f->member[k].control);
        close(pair[0]);
        if (f->options.population.movers_apart && population_is_mover(&f->options.population, first))
            setpriority(PRIO_PROCESS, 0, GIVE_WAY);
        client_main(&f->options, first, count, pair[1], &f->counters[i], &f->client[first]);
    }
    close(pair[1]);
    f->member[i] = (struct member){.pid = pid, .control = pair[0]};
    f->pids[i] = pid;
    f->members = i + 1;
    return true;
}

/* How many processes so many clients take. */
static size_t processes_for(const struct fleet_options *o, uint32_t clients)
{
    return (clients + o->per_process - 1) / o->per_process;
}

/* The first clients of processes of their own: the movers, when they are apart, or all. */
static uint32_t first_part(const struct fleet_options *o)
{
    return o->population.movers_apart ? o->population.movers : o->population.clients;
}

/* How many processes it takes. */
static size_t members_of(const struct fleet_options *o)
{
    uint32_t part = first_part(o);
    return processes_for(o, part) + processes_for(o, o->population.clients - part);
}

/* Spreads clients begin .. end - 1 evenly over as many processes as they take. */
static bool start_members(struct fleet *f, uint32_t begin, uint32_t end)
{
    size_t n = processes_for(&f->options, end - begin);
    for (size_t i = 0; i < n; i++) {
        uint32_t first = begin + (uint32_t)((end - begin) * (uint64_t)i / n);
        uint32_t next = begin + (uint32_t)((end - begin) * (uint64_t)(i + 1) / n);
        if (!start_member(f, first, next - first))
            return false;
    }
    return true;
}

/* Zeroed memory that forked processes share; what is not written costs nothing. */
static void *shared_memory(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(p != MAP_FAILED);
    return p;
}

struct fleet *fleet_new(const struct fleet_options *o)
{
    CHECK(o->population.clients > 0 && o->per_process > 0 && o->id_step > 0);
    size_t n = members_of(o);
    struct fleet *f = xcalloc(1, sizeof *f);
    f->options = *o;
    f->member = xcalloc(n, sizeof *f->member);
    f->pids = xcalloc(n, sizeof *f->pids);
    f->counters = shared_memory(n * sizeof *f->counters);
    f->client = shared_memory(o->population.clients * sizeof *f->client);
    uint32_t part = first_part(o);
    if (!start_members(f, 0, part) || !start_members(f, part, o->population.clients)) {
        fleet_free(f);
        return NULL;
    }
    return f;
}

void fleet_free(struct fleet *f)
{
    if (!f)
        return;
    struct fleet_command quit = {.op = FLEET_QUIT};
    for (size_t i = 0; i < f->members; i++) {
        send(f->member[i].control, &quit, sizeof quit, MSG_NOSIGNAL);
        close(f->member[i].control);
    }
    for (size_t i = 0; i < f->members; i++)
        waitpid(f->member[i].pid, NULL, 0);
    munmap(f->counters, members_of(&f->options) * sizeof *f->counters);
    munmap(f->client, f->options.population.clients * sizeof *f->client);
    free(f->member);
    free(f->pids);
    free(f);
}

void fleet_start(struct fleet *f, struct fleet_command c)
{
    c.number = ++f->number;
    for (size_t i = 0; i < f->members; i++) {
        f->member[i].answer = (struct fleet_answer){0};
        if (send(f->member[i].control, &c, sizeof c, MSG_NOSIGNAL) != (ssize_t)sizeof c)
            f->member[i].gone = true;
    }
}

/* Takes one answer of one process. */
static void take_answer(struct member *m)
{
    struct fleet_answer a;
    ssize_t n = recv(m->control, &a, sizeof a, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n != (ssize_t)sizeof a) {
        if (!m->gone)
            fprintf(stderr, "client process %d is gone\n", (int)m->pid);
        m->gone = true;
        return;
    }
    if (a.reached) {
        m->reached = a.number;
        return;
    }
    m->answered = a.number;
    m->answer = a;
}

/* Whether all have answered command `number` (or reached its goal). A process that is gone never will. */
static bool all_have(const struct fleet *f, uint32_t number, bool reached)
{
    for (size_t i = 0; i < f->members; i++)
        if ((reached ? f->member[i].reached : f->member[i].answered) < number)
            return false;
    return true;
}

static bool any_gone(const struct fleet *f)
{
    for (size_t i = 0; i < f->members; i++)
        if (f->member[i].gone)
            return true;
    return false;
}

/* Waits for answers until all have come. */
static bool wait_for(struct fleet *f, uint32_t number, bool reached, uint64_t deadline_ms)
{
    uint64_t end = wire_now_ns() + deadline_ms * 1000000u, tick = wire_now_ns() + TICK_MS * 1000000u;
    struct pollfd *fds = xcalloc(f->members, sizeof *fds);
    for (size_t i = 0; i < f->members; i++)
        fds[i] = (struct pollfd){f->member[i].control, POLLIN, 0};
    bool ok = true;
    while (!all_have(f, number, reached)) {
        uint64_t now = wire_now_ns();
        if (now >= end || interrupted() || any_gone(f)) {
            ok = false;
            break;
        }
        if (now >= tick && f->tick) {
            f->tick(f->tick_arg);
            tick = now + TICK_MS * 1000000u;
        }
        if (poll(fds, f->members, TICK_MS) <= 0)
            continue;
        for (size_t i = 0; i < f->members; i++)
            if (fds[i].revents)
                take_answer(&f->member[i]);
    }
    free(fds);
    return ok;
}

bool fleet_finish(struct fleet *f, uint64_t deadline_ms, struct fleet_answer *sum)
{
    bool ok = wait_for(f, f->number, false, deadline_ms);
    if (sum) {
        *sum = (struct fleet_answer){.number = f->number};
        for (size_t i = 0; i < f->members; i++) {
            sum->done += f->member[i].answer.done;
            sum->failed += f->member[i].answer.failed;
            sum->missing += f->member[i].answer.missing;
            sum->excess += f->member[i].answer.excess;
        }
    }
    return ok;
}

bool fleet_run(struct fleet *f, struct fleet_command c, uint64_t deadline_ms, struct fleet_answer *sum)
{
    fleet_start(f, c);
    return fleet_finish(f, deadline_ms, sum);
}

uint64_t fleet_expect(struct fleet *f, uint64_t messages, uint8_t qos)
{
    struct fleet_answer sum;
    fleet_run(f, (struct fleet_command){.op = FLEET_EXPECT, .qos = qos, .value = messages}, 60000, &sum);
    f->expect_number = f->number;
    return sum.done;
}

bool fleet_await(struct fleet *f, uint64_t deadline_ms)
{
    return wait_for(f, f->expect_number, true, deadline_ms);
}

void fleet_counters(const struct fleet *f, struct fleet_counters *sum)
{
    memset(sum, 0, sizeof *sum);
    for (size_t i = 0; i < f->members; i++) {
        const struct fleet_counters *c = &f->counters[i];
        const uint64_t *from = &c->connected;
        uint64_t *into = &sum->connected;
        for (size_t k = 0; k < offsetof(struct fleet_counters, latency) / sizeof *from; k++)
            into[k] += __atomic_load_n(&from[k], __ATOMIC_RELAXED);
        histogram_add(&sum->latency, &c->latency);
        histogram_add(&sum->answer_latency, &c->answer_latency);
        histogram_add(&sum->connect_latency, &c->connect_latency);
        histogram_add(&sum->handshake_latency, &c->handshake_latency);
        histogram_add(&sum->timeout_excess, &c->timeout_excess);
        if (c->error[0])
            memcpy(sum->error, c->error, sizeof sum->error);
        if (c->tls[0])
            memcpy(sum->tls, c->tls, sizeof sum->tls);
    }
}

size_t fleet_processes(const struct fleet *f, const pid_t **pids)
{
    *pids = f->pids;
    return f->members;
}

struct fleet_client *fleet_client(struct fleet *f, uint32_t number) { return &f->client[number]; }

const struct fleet_options *fleet_options(const struct fleet *f) { return &f->options; }

void fleet_set_tick(struct fleet *f, void (*tick)(void *arg), void *arg)
{
    f->tick = tick;
    f->tick_arg = arg;
}
