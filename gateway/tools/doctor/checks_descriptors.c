/*
 * Judges what the gateway may open: descriptors of the machine, of a process, of a login and of a service,
 * processes and address space. The rule that turns a descriptor limit into workers is the supervisor's own.
 */
#include <stdio.h>

#include "gateway/supervisor/limits.h"
#include "gateway/tools/doctor/checks.h"
#include "gateway/tools/doctor/format.h"

/* More workers per core than this, and switching between them costs more than raising the limit. */
#define WORKERS_PER_CORE_MAX 64u

/* What systemd gives a service without any setting, since version 240. */
#define SYSTEMD_HARD_DEFAULT 524288u

/* The rest of the machine needs files too. */
#define FILES_ELSEWHERE 10000u

uint64_t need_file_max(const struct examination *x)
{
    uint64_t workers = (uint64_t)x->workers * LIMITS_RESERVE;
    return check_round_up(x->request->connections + workers + x->machine.fact[FACT_FILES_IN_USE].n +
                          FILES_ELSEWHERE);
}

uint64_t need_epoll_watches(const struct examination *x)
{
    return check_round_up(x->request->connections + (uint64_t)x->workers * LIMITS_RESERVE);
}

uint64_t need_pids(const struct examination *x) { return check_round_up((uint64_t)x->workers + 1000); }

/* The workers a process limit leads to, and whether that many are still sensible. */
static unsigned workers_for(const struct examination *x, uint64_t hard)
{
    struct config c = {.max_connections = x->request->connections > UINT32_MAX
                                              ? UINT32_MAX
                                              : (uint32_t)x->request->connections,
                       .workers = x->request->workers};
    return limits_workers_on(&c, hard, x->machine.cores);
}

/* OK when one worker per core (or --workers) suffices, NOTE when more will do, FIX when nothing will. */
static void judge_hard_limit(const struct examination *x, struct value hard, struct finding *f)
{
    char count[FORMAT_MAX];
    f->wanted = (struct value){VALUE_NUMBER, x->nofile_wanted};
    if (value_at_least(hard, x->nofile_wanted))
        return;
    unsigned workers = workers_for(x, hard.n);
    bool holds = (uint64_t)workers * limits_usable(hard.n) >= x->request->connections;
    bool sensible = workers <= x->machine.cores * WORKERS_PER_CORE_MAX;
    f->status = holds && sensible && x->request->workers == 0 ? FINDING_NOTE : FINDING_FIX;
    if (f->status == FINDING_NOTE)
        snprintf(f->why, sizeof f->why,
                 "%s workers will share the connections, %u per core: works, and a higher limit means fewer",
                 format_count(count, workers), workers / x->machine.cores);
    else if (x->request->workers != 0)
        snprintf(f->why, sizeof f->why, "%u workers cannot hold the connections with this limit each",
                 x->request->workers);
    else
        snprintf(f->why, sizeof f->why, "it would take %s workers on %u cores", format_count(count, workers),
                 x->machine.cores);
}

/* As high as the limit of a process, when that is enough; else as high as it must become. */
uint64_t need_nr_open(const struct examination *x)
{
    struct finding f = {.status = FINDING_OK};
    judge_hard_limit(x, (struct value){VALUE_NUMBER, x->nofile}, &f);
    return f.status != FINDING_FIX && x->nofile < x->nofile_wanted ? x->nofile : x->nofile_wanted;
}

/* The limit this process has: a gateway started from here inherits it. */
void judge_nofile(const struct examination *x, const struct check_row *row, struct finding *f)
{
    (void)row;
    if (!value_known(f->found)) {
        f->status = FINDING_NOTE;
        f->wanted = (struct value){VALUE_NUMBER, x->nofile_wanted};
        snprintf(f->why, sizeof f->why, "not readable here; taken as %u", SYSTEMD_HARD_DEFAULT);
        return;
    }
    judge_hard_limit(x, f->found, f);
    unsigned long long wanted = x->nofile_wanted;
    if (f->status == FINDING_OK) {
        snprintf(f->why, sizeof f->why,
                 "open files per process; the hard limit counts, the gateway raises its soft one (%llu now)",
                 (unsigned long long)x->machine.fact[FACT_NOFILE_SOFT].n);
        return;
    }
    snprintf(f->now, sizeof f->now, "ulimit -n %llu", wanted);
    check_suggest_unit(f, "LimitNOFILE=%llu", wanted);
}

/* Logins only: matters when the gateway is started by hand. */
void judge_limits_conf(const struct examination *x, const struct check_row *row, struct finding *f)
{
    (void)row;
    const struct machine *m = &x->machine;
    const struct nofile_setting *s = value_known(m->pam_account.hard) ? &m->pam_account : &m->pam_everybody;
    f->found = s->hard;
    f->wanted = (struct value){VALUE_NUMBER, x->nofile_wanted};
    if (!value_known(s->hard)) {
        f->status = FINDING_NOTE;
        snprintf(f->found_text, sizeof f->found_text, "no entry");
        snprintf(f->why, sizeof f->why,
                 "for logins as holdfast; without an entry they keep the system's default, services do not "
                 "look here");
    } else {
        judge_hard_limit(x, s->hard, f);
        if (f->status == FINDING_FIX && m->systemd)
            f->status = FINDING_NOTE;
        if (f->status == FINDING_OK || m->systemd)
            snprintf(f->why, sizeof f->why, "for logins, not for services; from %s", s->where);
    }
    if (f->status != FINDING_OK)
        snprintf(f->keep, sizeof f->keep,
                 "echo 'holdfast - nofile %llu' > /etc/security/limits.d/90-holdfast.conf",
                 (unsigned long long)x->nofile_wanted);
}

/* The unit's own setting, else the manager's default. */
void judge_systemd(const struct examination *x, const struct check_row *row, struct finding *f)
{
    (void)row;
    const struct machine *m = &x->machine;
    if (!m->systemd) {
        f->status = FINDING_NOTE;
        snprintf(f->found_text, sizeof f->found_text, "no systemd");
        snprintf(f->why, sizeof f->why, "what starts the gateway must give it the limit");
        return;
    }
    const struct nofile_setting *s =
        value_known(m->systemd_unit.hard) ? &m->systemd_unit : &m->systemd_default;
    struct value built_in = {VALUE_NUMBER, SYSTEMD_HARD_DEFAULT};
    f->found = value_known(s->hard) ? s->hard : built_in;
    judge_hard_limit(x, f->found, f);
    if (f->status == FINDING_OK)
        snprintf(f->why, sizeof f->why, "hard limit of services, from %s",
                 value_known(s->hard) ? s->where : "systemd's built-in default");
    else
        check_suggest_unit(f, "LimitNOFILE=%llu", (unsigned long long)x->nofile_wanted);
}

/* Supervisor, hub and workers under one account. */
void judge_processes(const struct examination *x, const struct check_row *row, struct finding *f)
{
    (void)row;
    uint64_t need = (uint64_t)x->workers + 32;
    f->wanted = (struct value){VALUE_NUMBER, need};
    snprintf(f->why, sizeof f->why, "processes of the account that runs the workers");
    if (value_at_least(f->found, need))
        return;
    if (!value_known(f->found)) {
        f->status = FINDING_NOTE;
        snprintf(f->why, sizeof f->why, "not readable here");
        return;
    }
    f->status = FINDING_FIX;
    snprintf(f->now, sizeof f->now, "ulimit -u %llu", (unsigned long long)need);
    check_suggest_unit(f, "LimitNPROC=%llu", (unsigned long long)need);
}

/* Pools reserve address space for their maximum and fill it as needed. */
void judge_address_space(const struct examination *x, const struct check_row *row, struct finding *f)
{
    (void)x;
    (void)row;
    f->wanted = (struct value){VALUE_UNLIMITED, UINT64_MAX};
    snprintf(f->why, sizeof f->why, "pools reserve address space, which costs no memory");
    if (f->found.state == VALUE_UNLIMITED)
        return;
    if (!value_known(f->found)) {
        f->status = FINDING_NOTE;
        snprintf(f->why, sizeof f->why, "not readable here");
        return;
    }
    f->status = FINDING_FIX;
    snprintf(f->now, sizeof f->now, "ulimit -v unlimited");
    check_suggest_unit(f, "LimitAS=infinity");
}
