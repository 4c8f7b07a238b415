/*
 * The doctor's checks: one row of the table is one line of the report.
 */
#ifndef HOLDFAST_DOCTOR_CHECKS_H
#define HOLDFAST_DOCTOR_CHECKS_H

#include "gateway/tools/doctor/cost.h"
#include "gateway/tools/doctor/doctor.h"
#include "gateway/tools/doctor/machine.h"

/* Everything that is known when the checks begin, and what they lead to. */
struct examination {
    const struct doctor_request *request;
    struct machine machine;
    uint64_t nofile;  /* the hard limit that counts: the machine's, or a guess when it is not readable */
    unsigned workers; /* that hold the connections */
    uint64_t nofile_wanted; /* per process, for --workers or one worker per core */
    struct measurement measurement;
    bool measured;
    char measure_error[128]; /* why not, when it was asked for */
    struct cost cost;
    struct cost_room room;
    uint64_t fits; /* connections that the room holds; with room.known only */
};

/* FIX: the connections will not be held without a change. NOTE: worth knowing, nothing must change. */
enum finding_status { FINDING_OK, FINDING_NOTE, FINDING_FIX };
const char *finding_status_name(enum finding_status s);

struct finding {
    enum finding_status status;
    struct value found, wanted;
    /* Set when the value is not one plain number; goes before found and wanted. */
    char found_text[80], wanted_text[80];
    char why[800];
    char now[800];         /* command for this moment, "" : none */
    char keep[320];        /* how it stays so after a restart, "" : none */
    char sysctl_value[80]; /* for --sysctl when the status is FINDING_FIX; "" : nothing */
};

struct check_row {
    const char *name;
    const char *source; /* where it is read, for the reader */
    enum fact fact;     /* plain rows: the value that must be at least need() */
    const char *sysctl; /* the key that fixes it, or NULL */
    uint64_t (*need)(const struct examination *x);
    /* Rows that take more than one comparison; gets `found` filled from `fact`. NULL: plain. */
    void (*judge)(const struct examination *x, const struct check_row *row, struct finding *f);
    const char *why; /* plain rows */
};

/* The table and its length. */
const struct check_row *check_rows(unsigned *n);

/* Judges one row. */
void check_judge(const struct examination *x, const struct check_row *row, struct finding *f);

/* The least number of the form d00..., dd00... that is not below n: what one would type into a sysctl. */
uint64_t check_round_up(uint64_t n);

/* For judges: the commands that set the row's sysctl to this value. Leaves the status alone. */
void check_suggest_sysctl(const struct check_row *row, struct finding *f, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* For judges: how a setting of the gateway's systemd unit, "LimitNOFILE=65536", is kept. */
void check_suggest_unit(struct finding *f, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* checks_descriptors.c */
uint64_t need_file_max(const struct examination *x);
uint64_t need_nr_open(const struct examination *x);
uint64_t need_epoll_watches(const struct examination *x);
uint64_t need_pids(const struct examination *x);
void judge_nofile(const struct examination *x, const struct check_row *row, struct finding *f);
void judge_limits_conf(const struct examination *x, const struct check_row *row, struct finding *f);
void judge_systemd(const struct examination *x, const struct check_row *row, struct finding *f);
void judge_processes(const struct examination *x, const struct check_row *row, struct finding *f);
void judge_address_space(const struct examination *x, const struct check_row *row, struct finding *f);

/* checks_network.c */
uint64_t need_backlog(const struct examination *x);
void judge_syn_backlog(const struct examination *x, const struct check_row *row, struct finding *f);
void judge_netdev_backlog(const struct examination *x, const struct check_row *row, struct finding *f);
void judge_tcp_mem(const struct examination *x, const struct check_row *row, struct finding *f);
void judge_tcp_rmem(const struct examination *x, const struct check_row *row, struct finding *f);
void judge_tcp_wmem(const struct examination *x, const struct check_row *row, struct finding *f);
void judge_socket_cap(const struct examination *x, const struct check_row *row, struct finding *f);
void judge_conntrack_max(const struct examination *x, const struct check_row *row, struct finding *f);
void judge_conntrack_buckets(const struct examination *x, const struct check_row *row, struct finding *f);
void judge_conntrack_timeout(const struct examination *x, const struct check_row *row, struct finding *f);
void judge_orphans(const struct examination *x, const struct check_row *row, struct finding *f);
void judge_time_wait(const struct examination *x, const struct check_row *row, struct finding *f);
void judge_fin_timeout(const struct examination *x, const struct check_row *row, struct finding *f);
void judge_ports(const struct examination *x, const struct check_row *row, struct finding *f);
void judge_ehash(const struct examination *x, const struct check_row *row, struct finding *f);

/* checks_memory.c */
void judge_memory(const struct examination *x, const struct check_row *row, struct finding *f);
void judge_cgroup(const struct examination *x, const struct check_row *row, struct finding *f);
void judge_overcommit(const struct examination *x, const struct check_row *row, struct finding *f);
void judge_aes(const struct examination *x, const struct check_row *row, struct finding *f);
void judge_slabinfo(const struct examination *x, const struct check_row *row, struct finding *f);

#endif
