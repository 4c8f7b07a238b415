/*
 * Judges queues, buffers, connection tracking and ports. Limits that only slow things down or that only
 * matter in a burst are notes; what would refuse or break connections is to be fixed.
 */
#include <stdio.h>

#include "gateway/tools/doctor/checks.h"
#include "gateway/tools/doctor/cost_model.h"
#include "gateway/tools/doctor/format.h"

/* A reconnect storm: everybody within so many seconds, while a worker may be busy for the other time. */
#define STORM_S     10u
#define BUSY_MS     500u
#define BACKLOG_MIN 1024u
#define BACKLOG_MAX 65536u

/* The longest heartbeat that is expected, times 1.5. */
#define TRACKING_TIMEOUT_S 900u

/* Packets that may wait per CPU on loopback, tunnels and old network cards. */
#define NETDEV_BACKLOG_MANY 4096u
#define NETDEV_BACKLOG_MAX  65536u

/* Clients that read nothing, as a share of all. */
#define SLOW_SHARE 0.01

/* The largest socket buffer that makes sense in a listener's rcvbuf and sndbuf. */
#define SOCKET_BUFFER 65536u

#define PLENTY_PORTS 28232u /* Linux's own range, 32768 to 60999 */

/* For judges of limits that are never fatal: sets the status and says that it could not be read. */
static bool unknown(struct finding *f)
{
    if (value_known(f->found))
        return false;
    f->status = FINDING_NOTE;
    snprintf(f->why, sizeof f->why, "not readable here");
    return true;
}

/* A power of two between the bounds. */
uint64_t need_backlog(const struct examination *x)
{
    uint64_t waiting = x->request->connections * BUSY_MS / 1000 / STORM_S / x->workers;
    uint64_t n = BACKLOG_MIN;
    while (n < waiting && n < BACKLOG_MAX)
        n *= 2;
    return n;
}

/* Without SYN cookies a full backlog drops SYNs; with them the kernel answers without remembering. */
void judge_syn_backlog(const struct examination *x, const struct check_row *row, struct finding *f)
{
    if (unknown(f))
        return;
    uint64_t need = need_backlog(x);
    bool cookies = x->machine.fact[FACT_SYNCOOKIES].n > 0;
    f->wanted = (struct value){VALUE_NUMBER, need};
    snprintf(f->why, sizeof f->why, "handshakes in flight during a storm; SYN cookies are %s",
             cookies ? "on and take over beyond it" : "off, so what is beyond it is dropped");
    if (f->found.n >= need)
        return;
    f->status = cookies ? FINDING_NOTE : FINDING_FIX;
    check_suggest_sysctl(row, f, "%llu", (unsigned long long)need);
}

/* The kernel counts what it dropped here: that is evidence, the rest is advice. */
void judge_netdev_backlog(const struct examination *x, const struct check_row *row, struct finding *f)
{
    if (unknown(f))
        return;
    const struct machine *m = &x->machine;
    uint64_t need = x->request->connections >= 100000 ? NETDEV_BACKLOG_MANY : 1000;
    bool dropped = m->softnet && m->softnet_dropped > 0 && f->found.n < NETDEV_BACKLOG_MAX / 4;
    if (dropped && need < 4 * f->found.n)
        need = 4 * f->found.n;
    f->wanted = (struct value){VALUE_NUMBER, need};
    char count[FORMAT_MAX];
    if (dropped)
        snprintf(f->why, sizeof f->why, "packets per CPU that wait for TCP: %s were dropped since the start",
                 format_count(count, m->softnet_dropped));
    else
        snprintf(f->why, sizeof f->why, "packets per CPU that wait for TCP, on loopback and with RPS");
    if (f->found.n >= need)
        return;
    f->status = dropped ? FINDING_FIX : FINDING_NOTE;
    check_suggest_sysctl(row, f, "%llu", (unsigned long long)need);
}

/* Pages that all sockets' data may take: a broadcast puts one on each connection until it is acknowledged. */
void judge_tcp_mem(const struct examination *x, const struct check_row *row, struct finding *f)
{
    if (unknown(f))
        return;
    const struct machine *m = &x->machine;
    char each[FORMAT_MAX], all[FORMAT_MAX];
    double data = (double)x->request->connections * m->page_size;
    uint64_t need = x->request->connections;
    uint64_t half = m->fact[FACT_MEM_TOTAL].n * 1024 / 2 / m->page_size;
    if (half > 0 && need > half)
        need = half;
    need = check_round_up(need);
    snprintf(f->found_text, sizeof f->found_text, "%llu %llu %llu",
             (unsigned long long)m->fact[FACT_TCP_MEM_LOW].n,
             (unsigned long long)m->fact[FACT_TCP_MEM_PRESSURE].n, (unsigned long long)f->found.n);
    snprintf(f->wanted_text, sizeof f->wanted_text, "%llu %llu %llu", (unsigned long long)need / 2,
             (unsigned long long)need / 4 * 3, (unsigned long long)need);
    snprintf(f->why, sizeof f->why,
             "pages of data in all sockets; idle ones hold none, a broadcast puts %s on each until it is "
             "acknowledged: %s",
             format_bytes(each, m->page_size), format_bytes(all, data));
    if (f->found.n >= need)
        return;
    f->status = FINDING_FIX;
    check_suggest_sysctl(row, f, "%s", f->wanted_text);
}

/* The three numbers of tcp_rmem or tcp_wmem as they stand in the file. */
static void show_triple(const struct machine *m, enum fact first, struct finding *f)
{
    snprintf(f->found_text, sizeof f->found_text, "%llu %llu %llu", (unsigned long long)m->fact[first].n,
             (unsigned long long)m->fact[first + 1].n, (unsigned long long)m->fact[first + 2].n);
}

/* A limit, not a cost: memory is taken for data that has come and was not read. */
void judge_tcp_rmem(const struct examination *x, const struct check_row *row, struct finding *f)
{
    if (unknown(f))
        return;
    show_triple(&x->machine, FACT_TCP_RMEM_MIN, f);
    snprintf(f->wanted_text, sizeof f->wanted_text, "%u bytes or more by default", COST_UNREAD_PAGE);
    snprintf(f->why, sizeof f->why,
             "a limit, not a cost: an idle connection holds no buffer, and what comes in is read at once");
    if (f->found.n >= COST_UNREAD_PAGE)
        return;
    f->status = FINDING_FIX;
    check_suggest_sysctl(row, f, "4096 16384 %llu",
                         (unsigned long long)(x->machine.fact[FACT_TCP_RMEM_MAX].n > 16384
                                                  ? x->machine.fact[FACT_TCP_RMEM_MAX].n
                                                  : 16384));
}

/* What clients that read nothing can pile up in the kernel when the listener sets no sndbuf. */
void judge_tcp_wmem(const struct examination *x, const struct check_row *row, struct finding *f)
{
    if (unknown(f))
        return;
    show_triple(&x->machine, FACT_TCP_WMEM_MIN, f);
    double slow = (double)x->request->connections * SLOW_SHARE;
    char piled[FORMAT_MAX], each[FORMAT_MAX];
    bool much = x->room.known && slow * (double)f->found.n > x->room.available / 4;
    snprintf(f->wanted_text, sizeof f->wanted_text, "sndbuf in the listener, or 262144 at most");
    snprintf(f->why, sizeof f->why,
             "a limit, not a cost: one unread push takes a page; a client that reads nothing takes up to %s, "
             "1 %% of all %s",
             format_bytes(each, (double)f->found.n), format_bytes(piled, slow * (double)f->found.n));
    if (!much)
        return;
    f->status = FINDING_NOTE;
    check_suggest_sysctl(row, f, "4096 16384 262144");
}

/* Caps for what a listener asks for with rcvbuf and sndbuf. */
void judge_socket_cap(const struct examination *x, const struct check_row *row, struct finding *f)
{
    (void)x;
    if (unknown(f))
        return;
    f->wanted = (struct value){VALUE_NUMBER, SOCKET_BUFFER};
    snprintf(f->why, sizeof f->why, "caps %s of a listener",
             row->fact == FACT_RMEM_MAX ? "`rcvbuf`" : "`sndbuf`");
    if (f->found.n >= SOCKET_BUFFER)
        return;
    f->status = FINDING_NOTE;
    check_suggest_sysctl(row, f, "%u", SOCKET_BUFFER);
}

/* For the three rows about tracking: whether there is none, so that nothing can be wrong. */
static bool no_tracking(const struct examination *x, struct finding *f)
{
    if (!value_known(x->machine.fact[FACT_CONNTRACK_MAX])) {
        snprintf(f->found_text, sizeof f->found_text, "not loaded");
        snprintf(f->why, sizeof f->why, "no connection tracking");
        return true;
    }
    if (cost_conntrack_active(&x->machine))
        return false;
    snprintf(f->why, sizeof f->why, "there, but no rule uses it: nothing is tracked");
    return true;
}

/* A full table drops new connections. */
void judge_conntrack_max(const struct examination *x, const struct check_row *row, struct finding *f)
{
    uint64_t need = check_round_up(x->request->connections + x->request->connections / 10 +
                                   x->machine.fact[FACT_CONNTRACK_COUNT].n);
    if (no_tracking(x, f)) {
        if (f->found_text[0] != '\0' || f->found.n >= need)
            return;
        f->status = FINDING_NOTE;
        f->wanted = (struct value){VALUE_NUMBER, need};
        snprintf(f->why, sizeof f->why, "no rule uses it yet; the first stateful firewall or NAT rule would");
        return;
    }
    double each = cost_object_bytes(&x->machine, &x->machine.slab[SLAB_CONNTRACK]);
    char entries[FORMAT_MAX], one[FORMAT_MAX];
    each = (each > 0 ? each : COST_CONNTRACK) + COST_CONNTRACK_X;
    f->wanted = (struct value){VALUE_NUMBER, need};
    snprintf(
        f->why, sizeof f->why,
        "every connection is tracked: %s each, %s in all, and a full table drops new ones; `nft add rule "
        "inet raw prerouting tcp dport 1883 notrack` spares both",
        format_bytes(one, each), format_bytes(entries, each * (double)x->request->connections));
    if (f->found.n >= need)
        return;
    f->status = FINDING_FIX;
    check_suggest_sysctl(row, f, "%llu", (unsigned long long)need);
}

/* Long chains cost CPU per packet. */
void judge_conntrack_buckets(const struct examination *x, const struct check_row *row, struct finding *f)
{
    if (no_tracking(x, f) || unknown(f))
        return;
    uint64_t need = check_round_up(x->request->connections / 4);
    f->wanted = (struct value){VALUE_NUMBER, need};
    snprintf(f->why, sizeof f->why, "hash buckets of the tracking table; fewer make every packet slower");
    if (f->found.n >= need)
        return;
    f->status = FINDING_NOTE;
    check_suggest_sysctl(row, f, "%llu", (unsigned long long)need);
}

/* A tracked connection that is silent for longer is forgotten, and its next packet dropped. */
void judge_conntrack_timeout(const struct examination *x, const struct check_row *row, struct finding *f)
{
    if (no_tracking(x, f) || unknown(f))
        return;
    f->wanted = (struct value){VALUE_NUMBER, TRACKING_TIMEOUT_S};
    snprintf(f->why, sizeof f->why, "seconds of silence after which tracking forgets a connection");
    if (f->found.n >= TRACKING_TIMEOUT_S)
        return;
    f->status = FINDING_FIX;
    check_suggest_sysctl(row, f, "%u", TRACKING_TIMEOUT_S);
}

/* Connections closed by the gateway and not yet acknowledged, at most what one worker held when it died. */
void judge_orphans(const struct examination *x, const struct check_row *row, struct finding *f)
{
    if (unknown(f))
        return;
    uint64_t need = check_round_up(x->request->connections / x->workers);
    f->wanted = (struct value){VALUE_NUMBER, need};
    snprintf(f->why, sizeof f->why,
             "when a worker ends, its connections linger this way; beyond it they are reset, which clients "
             "survive");
    if (f->found.n >= need)
        return;
    f->status = FINDING_NOTE;
    check_suggest_sysctl(row, f, "%llu", (unsigned long long)need);
}

/* TIME_WAIT stays with the end that closes first. */
void judge_time_wait(const struct examination *x, const struct check_row *row, struct finding *f)
{
    (void)x;
    (void)row;
    if (unknown(f))
        return;
    snprintf(f->why, sizeof f->why,
             "TIME_WAIT is kept by the end that closes first, 256 bytes for 60 s each, no descriptor and no "
             "port of the server");
}

/* FIN-WAIT-2 of orphans. */
void judge_fin_timeout(const struct examination *x, const struct check_row *row, struct finding *f)
{
    (void)x;
    if (unknown(f))
        return;
    f->wanted = (struct value){VALUE_NUMBER, 60};
    snprintf(f->wanted_text, sizeof f->wanted_text, "60 or less");
    snprintf(f->why, sizeof f->why, "seconds that a closed connection waits for its client's FIN");
    if (f->found.n <= 60)
        return;
    f->status = FINDING_NOTE;
    check_suggest_sysctl(row, f, "60");
}

/*
 * A connection is known by four things: client address and port, server address and port. The server's
 * port is one for all of them; only a client address runs out of ports.
 */
void judge_ports(const struct examination *x, const struct check_row *row, struct finding *f)
{
    (void)row;
    struct value first = x->machine.fact[FACT_PORT_FIRST], last = x->machine.fact[FACT_PORT_LAST];
    bool known = first.state == VALUE_NUMBER && last.state == VALUE_NUMBER && last.n >= first.n;
    uint64_t ports = known ? last.n - first.n + 1 : PLENTY_PORTS;
    if (known)
        snprintf(f->found_text, sizeof f->found_text, "%llu to %llu", (unsigned long long)first.n,
                 (unsigned long long)last.n);
    f->status = FINDING_NOTE;
    char here[FORMAT_MAX], addresses[FORMAT_MAX];
    snprintf(
        f->why, sizeof f->why,
        "not a limit of the server: all connections share its one port. Per client address and server "
        "address:port at most 65,535, with this range %s: a load generator or proxy with this range needs "
        "%s addresses",
        format_count(here, ports), format_count(addresses, (x->request->connections + ports - 1) / ports));
}

/* The table that finds a packet's socket is sized at boot. */
void judge_ehash(const struct examination *x, const struct check_row *row, struct finding *f)
{
    (void)row;
    uint64_t need = 1;
    while (need < x->request->connections / 4)
        need *= 2;
    f->wanted = (struct value){VALUE_NUMBER, need};
    snprintf(f->why, sizeof f->why, "hash buckets that find a packet's socket, sized at boot");
    if (value_at_least(f->found, need))
        return;
    f->status = FINDING_NOTE;
    if (!value_known(f->found)) {
        snprintf(f->why, sizeof f->why, "not readable here; kernels before 6.1 do not tell");
        return;
    }
    snprintf(f->keep, sizeof f->keep, "thash_entries=%llu on the kernel's command line",
             (unsigned long long)need);
}
