/*
 * The bench's own limits: descriptors, ports, epoll watches, connection tracking, memory of both ends. Reads
 * the machine with the doctor's reader and reports like the doctor: fix, with a command, or note. What a
 * server needs beyond that is for `holdfast doctor`.
 */
#include "gateway/tools/bench/limits.h"

#include <arpa/inet.h>
#include <math.h>
#include <string.h>

#include "gateway/tools/doctor/cost.h"
#include "gateway/tools/doctor/format.h"
#include "gateway/tools/doctor/machine.h"

#define OWN_DESCRIPTORS 64u /* of a client process, besides its connections */
#define BOTH_ENDS_BYTES                                                                                      \
    10000.0 /* kernel and user space of one connection with both ends here, generously                       \
             */
#define ONE_END_BYTES   5000.0
#define TLS_BYTES       400.0   /* more over TLS, of each end that parks */
#define TLS_FLOOR_BYTES 22000.0 /* more of the TLS floor, which does not */
#define RESERVE_BYTES   (512.0 * 1024 * 1024)

struct examination {
    struct scenario *scenario;
    struct target *const *target;
    size_t targets;
    struct machine machine;
    bool local; /* both ends of each connection are on this machine */
    FILE *out;
    bool ok;
};

/* One line of the report, with the reason and the command below it. */
static void finding(struct examination *x, bool fix, const char *name, struct value found, uint64_t wanted,
                    const char *why, const char *now)
{
    char has[FORMAT_MAX], wants[FORMAT_MAX];
    fprintf(x->out, "%-4s   %-21s %s  (wanted: %s)\n       %s\n", fix ? "fix" : "note", name,
            format_count(has, found.n), format_count(wants, wanted), why);
    if (now[0])
        fprintf(x->out, "       now:  %s\n", now);
    x->ok &= !fix;
}

/* A sysctl that must be at least so high. */
static void check_sysctl(struct examination *x, enum fact fact, uint64_t wanted, const char *key,
                         const char *why)
{
    char now[128];
    struct value found = x->machine.fact[fact];
    if (!value_known(found) || value_at_least(found, wanted))
        return;
    snprintf(now, sizeof now, "sysctl -w %s=%llu", key, (unsigned long long)wanted);
    finding(x, true, key, found, wanted, why, now);
}

/* Ends of connections on this machine. */
static uint64_t ends(const struct examination *x)
{
    return (uint64_t)x->scenario->connections * (x->local ? 2 : 1);
}

/* Client processes carry as many as their descriptor limit allows; servers of one process cannot be helped.
 */
static void check_nofile(struct examination *x)
{
    struct scenario *s = x->scenario;
    struct value hard = x->machine.fact[FACT_NOFILE_HARD];
    if (!value_known(hard))
        return;
    if (hard.n < OWN_DESCRIPTORS * 2) {
        finding(x, true, "RLIMIT_NOFILE", hard, OWN_DESCRIPTORS * 2, "open files per process",
                "ulimit -n 20000");
        return;
    }
    if (hard.n < (uint64_t)s->per_process + OWN_DESCRIPTORS) {
        s->per_process = (long)(hard.n - OWN_DESCRIPTORS);
        if (s->connections > s->per_process)
            finding(x, false, "RLIMIT_NOFILE", hard, 15000 + OWN_DESCRIPTORS,
                    "open files per process: more client processes will share the connections", "");
    }
    if (hard.n >= (uint64_t)s->connections + OWN_DESCRIPTORS)
        return;
    for (size_t i = 0; i < x->targets; i++)
        if (x->target[i]->kind == TARGET_FLOOR)
            finding(
                x, true, "RLIMIT_NOFILE", hard, (uint64_t)s->connections + OWN_DESCRIPTORS,
                "the floor is one process and cannot hold the connections; leave it out or raise the limit",
                "");
}

/* Each source address has one range of ports towards one server. */
static void check_ports(struct examination *x)
{
    struct value first = x->machine.fact[FACT_PORT_FIRST], last = x->machine.fact[FACT_PORT_LAST];
    if (!value_known(first) || !value_known(last) || last.n < first.n)
        return;
    struct value ports = {VALUE_NUMBER, last.n - first.n + 1};
    uint64_t clients = (uint64_t)x->scenario->connections;
    uint64_t wanted = x->local && clients > LIMITS_CLIENTS_PER_ADDRESS ? LIMITS_CLIENTS_PER_ADDRESS : clients;
    if (ports.n >= wanted)
        return;
    finding(
        x, true, "ports", ports, wanted,
        x->local
            ? "clients of one source address: each needs a port of its own"
            : "a server elsewhere is reached from one source address: each client needs a port of its own",
        "sysctl -w net.ipv4.ip_local_port_range='1024 65535'");
}

/* Kernel and user space of one connection of a target, of all ends that are here. */
static double bytes_each(const struct examination *x, const struct target *t)
{
    double each = x->local ? BOTH_ENDS_BYTES : ONE_END_BYTES;
    if (t->tls.on)
        each += x->local ? 2 * TLS_BYTES : TLS_BYTES;
    if (t->tls.on && t->kind == TARGET_FLOOR)
        each += TLS_FLOOR_BYTES;
    return each;
}

/* For the largest of the targets, which are measured one after the other. */
static void check_memory(struct examination *x)
{
    char text[160], has[FORMAT_MAX], wants[FORMAT_MAX];
    struct value available = x->machine.fact[FACT_MEM_AVAILABLE];
    double each = 0;
    for (size_t i = 0; i < x->targets; i++)
        each = fmax(each, bytes_each(x, x->target[i]));
    double need = (double)x->scenario->connections * each + RESERVE_BYTES;
    if (!value_known(available) || (double)available.n * 1024 >= need)
        return;
    snprintf(text, sizeof text, "free memory in KiB, %s: the connections take %s",
             format_bytes(has, (double)available.n * 1024), format_bytes(wants, need));
    finding(x, true, "memory", available, (uint64_t)(need / 1024), text, "");
}

/* Only when a rule uses it: a module that is merely loaded tracks nothing. */
static void check_conntrack(struct examination *x)
{
    if (cost_conntrack_active(&x->machine) && value_known(x->machine.fact[FACT_CONNTRACK_MAX]))
        check_sysctl(x, FACT_CONNTRACK_MAX,
                     x->machine.fact[FACT_CONNTRACK_COUNT].n + (uint64_t)x->scenario->connections,
                     "net.netfilter.nf_conntrack_max", "connection tracking sees every connection");
}

/* Whether any target is on this machine. */
static bool is_local(const struct examination *x)
{
    for (size_t i = 0; i < x->targets; i++)
        if (x->target[i]->kind != TARGET_RUNNING || ntohl(x->target[i]->address.sin_addr.s_addr) >> 24 == 127)
            return true;
    return false;
}

bool limits_check(struct scenario *s, struct target *const *target, size_t targets, FILE *out)
{
    static struct examination x;
    x = (struct examination){.scenario = s, .target = target, .targets = targets, .out = out, .ok = true};
    machine_read(&x.machine, "");
    x.local = is_local(&x);
    check_nofile(&x);
    check_sysctl(&x, FACT_FILE_MAX, x.machine.fact[FACT_FILES_IN_USE].n + ends(&x) + 1000, "fs.file-max",
                 "open files of the whole machine: one per end of a connection that is here");
    check_sysctl(&x, FACT_EPOLL_WATCHES, ends(&x) + 1000, "fs.epoll.max_user_watches",
                 "each end of a connection is one watch of its account");
    check_ports(&x);
    check_conntrack(&x);
    check_memory(&x);
    if (!x.ok)
        fprintf(out, "%s: not ready for %ld clients; holdfast doctor -n %ld says more\n", s->name,
                s->connections, s->connections);
    return x.ok;
}
