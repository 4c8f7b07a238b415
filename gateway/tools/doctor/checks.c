/*
 * The table of checks and the plain comparison that most rows need. Fed with an examination; the reports
 * print what comes out. The judges that need more than a comparison are in the files named after their
 * subject; none of them reads a file.
 */
#include "gateway/tools/doctor/checks.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SYS "/proc/sys/"

static const struct check_row rows[] = {
    {"fs.file-max", SYS "fs/file-max", FACT_FILE_MAX, "fs.file-max", need_file_max, NULL,
     "open files of the whole machine: one per connection, what is in use now, and some"},
    {"fs.nr_open", SYS "fs/nr_open", FACT_NR_OPEN, "fs.nr_open", need_nr_open, NULL,
     "the highest descriptor limit that a process can be given"},
    {"RLIMIT_NOFILE", "/proc/self/limits", FACT_NOFILE_HARD, NULL, NULL, judge_nofile, NULL},
    {"limits.conf nofile", "/etc/security/limits.conf, limits.d", FACT_COUNT, NULL, NULL, judge_limits_conf,
     NULL},
    {"systemd LimitNOFILE", "/etc/systemd/system.conf, holdfast.service", FACT_COUNT, NULL, NULL,
     judge_systemd, NULL},
    {"epoll watches", SYS "fs/epoll/max_user_watches", FACT_EPOLL_WATCHES, "fs.epoll.max_user_watches",
     need_epoll_watches, NULL, "each connection is one watch of the account that runs the workers"},
    {"pid_max", SYS "kernel/pid_max", FACT_PID_MAX, "kernel.pid_max", need_pids, NULL,
     "each worker is a process"},
    {"RLIMIT_NPROC", "/proc/self/limits", FACT_PROCESSES_HARD, NULL, NULL, judge_processes, NULL},
    {"RLIMIT_AS", "/proc/self/limits", FACT_ADDRESS_SPACE, NULL, NULL, judge_address_space, NULL},
    {"somaxconn", SYS "net/core/somaxconn", FACT_SOMAXCONN, "net.core.somaxconn", need_backlog, NULL,
     "accept queue of each worker when all clients return within 10 s and a worker is busy for 0.5 s; the "
     "listener's `backlog` must be as large"},
    {"tcp_max_syn_backlog", SYS "net/ipv4/tcp_max_syn_backlog", FACT_SYN_BACKLOG,
     "net.ipv4.tcp_max_syn_backlog", NULL, judge_syn_backlog, NULL},
    {"netdev_max_backlog", SYS "net/core/netdev_max_backlog", FACT_NETDEV_BACKLOG,
     "net.core.netdev_max_backlog", NULL, judge_netdev_backlog, NULL},
    {"tcp_mem", SYS "net/ipv4/tcp_mem", FACT_TCP_MEM_HIGH, "net.ipv4.tcp_mem", NULL, judge_tcp_mem, NULL},
    {"tcp_rmem", SYS "net/ipv4/tcp_rmem", FACT_TCP_RMEM_DEFAULT, "net.ipv4.tcp_rmem", NULL, judge_tcp_rmem,
     NULL},
    {"tcp_wmem", SYS "net/ipv4/tcp_wmem", FACT_TCP_WMEM_MAX, "net.ipv4.tcp_wmem", NULL, judge_tcp_wmem, NULL},
    {"rmem_max", SYS "net/core/rmem_max", FACT_RMEM_MAX, "net.core.rmem_max", NULL, judge_socket_cap, NULL},
    {"wmem_max", SYS "net/core/wmem_max", FACT_WMEM_MAX, "net.core.wmem_max", NULL, judge_socket_cap, NULL},
    {"nf_conntrack_max", SYS "net/netfilter/nf_conntrack_max", FACT_CONNTRACK_MAX,
     "net.netfilter.nf_conntrack_max", NULL, judge_conntrack_max, NULL},
    {"nf_conntrack_buckets", SYS "net/netfilter/nf_conntrack_buckets", FACT_CONNTRACK_BUCKETS,
     "net.netfilter.nf_conntrack_buckets", NULL, judge_conntrack_buckets, NULL},
    {"nf_conntrack timeout", SYS "net/netfilter/nf_conntrack_tcp_timeout_established", FACT_CONNTRACK_TIMEOUT,
     "net.netfilter.nf_conntrack_tcp_timeout_established", NULL, judge_conntrack_timeout, NULL},
    {"tcp_max_orphans", SYS "net/ipv4/tcp_max_orphans", FACT_MAX_ORPHANS, "net.ipv4.tcp_max_orphans", NULL,
     judge_orphans, NULL},
    {"tcp_max_tw_buckets", SYS "net/ipv4/tcp_max_tw_buckets", FACT_MAX_TW_BUCKETS,
     "net.ipv4.tcp_max_tw_buckets", NULL, judge_time_wait, NULL},
    {"tcp_fin_timeout", SYS "net/ipv4/tcp_fin_timeout", FACT_FIN_TIMEOUT, "net.ipv4.tcp_fin_timeout", NULL,
     judge_fin_timeout, NULL},
    {"ports", SYS "net/ipv4/ip_local_port_range", FACT_COUNT, NULL, NULL, judge_ports, NULL},
    {"connection hash", SYS "net/ipv4/tcp_ehash_entries", FACT_EHASH_ENTRIES, NULL, NULL, judge_ehash, NULL},
    {"overcommit", SYS "vm/overcommit_memory", FACT_OVERCOMMIT, "vm.overcommit_memory", NULL,
     judge_overcommit, NULL},
    {"AES instructions", "/proc/cpuinfo", FACT_COUNT, NULL, NULL, judge_aes, NULL},
    {"slab sizes", "/proc/slabinfo", FACT_COUNT, NULL, NULL, judge_slabinfo, NULL},
    {"memory", "/proc/meminfo", FACT_COUNT, NULL, NULL, judge_memory, NULL},
    {"cgroup memory", "/proc/self/cgroup, /sys/fs/cgroup", FACT_COUNT, NULL, NULL, judge_cgroup, NULL},
};

/* The table. */
const struct check_row *check_rows(unsigned *n)
{
    *n = sizeof rows / sizeof rows[0];
    return rows;
}

static const char *const status_names[] = {"ok", "note", "fix"};
const char *finding_status_name(enum finding_status s) { return status_names[s]; }

/* Two significant digits, upwards. */
uint64_t check_round_up(uint64_t n)
{
    uint64_t unit = 1;
    while (n / unit >= 100)
        unit *= 10;
    return (n + unit - 1) / unit * unit;
}

/* sysctl for now, a drop-in file for later. */
void check_suggest_sysctl(const struct check_row *row, struct finding *f, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(f->sysctl_value, sizeof f->sysctl_value, format, ap);
    va_end(ap);
    const char *quote = strchr(f->sysctl_value, ' ') != NULL ? "'" : "";
    snprintf(f->now, sizeof f->now, "sysctl -w %s%s=%s%s", quote, row->sysctl, f->sysctl_value, quote);
    snprintf(f->keep, sizeof f->keep, "echo '%s = %s' >> /etc/sysctl.d/90-holdfast.conf", row->sysctl,
             f->sysctl_value);
}

/* A drop-in file of the unit's, called after the setting. */
void check_suggest_unit(struct finding *f, const char *format, ...)
{
    char setting[64];
    va_list ap;
    va_start(ap, format);
    vsnprintf(setting, sizeof setting, format, ap);
    va_end(ap);
    const char *folder = "/etc/systemd/system/holdfast.service.d";
    snprintf(f->keep, sizeof f->keep,
             "mkdir -p %s && printf '[Service]\\n%s\\n' > %s/%.*s.conf && systemctl daemon-reload", folder,
             setting, folder, (int)strcspn(setting, "="), setting);
}

/* Known and enough, or to be set to what is needed. */
static void judge_plain(const struct examination *x, const struct check_row *row, struct finding *f)
{
    uint64_t need = row->need(x);
    f->wanted = (struct value){VALUE_NUMBER, need};
    snprintf(f->why, sizeof f->why, "%s", row->why);
    if (value_at_least(f->found, need))
        return;
    f->status = FINDING_FIX;
    check_suggest_sysctl(row, f, "%llu", (unsigned long long)need);
}

/* One row. What the machine does not show can only be noted. */
void check_judge(const struct examination *x, const struct check_row *row, struct finding *f)
{
    memset(f, 0, sizeof *f);
    if (row->fact < FACT_COUNT)
        f->found = x->machine.fact[row->fact];
    if (row->judge != NULL) {
        row->judge(x, row, f);
        return;
    }
    judge_plain(x, row, f);
    if (value_known(f->found))
        return;
    f->status = FINDING_NOTE;
    f->now[0] = f->keep[0] = f->sysctl_value[0] = '\0';
    snprintf(f->why, sizeof f->why, "%s: not readable here; %s",
             f->found.state == VALUE_MALFORMED ? "no number" : "missing", row->why);
}
