/*
 * Judges memory: the machine's, the cgroup's, the rules of promising it, and the instructions that TLS wants.
 */
#include <stdio.h>

#include "gateway/tools/doctor/checks.h"
#include "gateway/tools/doctor/format.h"

/* Whether the prediction and a reserve fit into so much. */
static bool fits_into(const struct examination *x, double room)
{
    return x->cost.bytes + x->room.reserve <= room;
}

/* Free memory of the machine against the prediction. */
void judge_memory(const struct examination *x, const struct check_row *row, struct finding *f)
{
    (void)row;
    const struct machine *m = &x->machine;
    struct value v = m->fact[FACT_MEM_AVAILABLE];
    if (v.state != VALUE_NUMBER)
        v = m->fact[FACT_MEM_FREE];
    char need[FORMAT_MAX], free_now[FORMAT_MAX], total[FORMAT_MAX], lacking[FORMAT_MAX];
    snprintf(f->wanted_text, sizeof f->wanted_text, "%s",
             format_bytes(need, x->cost.bytes + x->room.reserve));
    if (v.state != VALUE_NUMBER) {
        f->status = FINDING_NOTE;
        snprintf(f->why, sizeof f->why, "not readable here");
        return;
    }
    double room = (double)v.n * 1024;
    snprintf(f->found_text, sizeof f->found_text, "%s free of %s", format_bytes(free_now, room),
             format_bytes(total, (double)m->fact[FACT_MEM_TOTAL].n * 1024));
    snprintf(f->why, sizeof f->why, "the prediction below and a reserve for everything else");
    if (fits_into(x, room))
        return;
    f->status = FINDING_FIX;
    snprintf(f->keep, sizeof f->keep, "add %s of memory, or hold fewer connections",
             format_bytes(lacking, x->cost.bytes + x->room.reserve - room));
}

/* Kernel objects and socket data are charged to the cgroup like the gateway's own memory. */
void judge_cgroup(const struct examination *x, const struct check_row *row, struct finding *f)
{
    (void)row;
    const struct cgroup_memory *c = &x->machine.cgroup;
    char need[FORMAT_MAX], limit[FORMAT_MAX], left[FORMAT_MAX];
    double wanted = x->cost.bytes + x->room.reserve;
    if (c->limit.state != VALUE_NUMBER) {
        snprintf(f->found_text, sizeof f->found_text, "%s",
                 c->version == 0 ? "no memory cgroup" : "no limit");
        snprintf(f->why, sizeof f->why, "nothing below the machine's memory");
        return;
    }
    double room = c->limit.n > c->used ? (double)(c->limit.n - c->used) : 0;
    snprintf(f->found_text, sizeof f->found_text, "%s free of %s", format_bytes(left, room),
             format_bytes(limit, (double)c->limit.n));
    snprintf(f->wanted_text, sizeof f->wanted_text, "%s", format_bytes(need, wanted));
    snprintf(
        f->why, sizeof f->why,
        "sockets and their data are charged too; a container's limit is set where it is started; limit in %s",
        c->path);
    if (fits_into(x, room))
        return;
    f->status = FINDING_FIX;
    unsigned long long mib = (unsigned long long)((wanted + (double)c->used) / (1 << 20)) + 1;
    snprintf(f->now, sizeof f->now, "echo %lluM > %s", mib, c->path);
    check_suggest_unit(f, "MemoryMax=%lluM", mib);
}

/* Mode 2 promises no more than CommitLimit. */
void judge_overcommit(const struct examination *x, const struct check_row *row, struct finding *f)
{
    const struct machine *m = &x->machine;
    snprintf(f->why, sizeof f->why, "pools ask for memory chunk by chunk");
    if (!value_known(f->found)) {
        f->status = FINDING_NOTE;
        snprintf(f->why, sizeof f->why, "not readable here");
        return;
    }
    snprintf(f->wanted_text, sizeof f->wanted_text, "0 or 1, or enough under CommitLimit");
    if (f->found.n != 2)
        return;
    double left = ((double)m->fact[FACT_COMMIT_LIMIT].n - (double)m->fact[FACT_COMMITTED].n) * 1024;
    double need = x->cost.layer_bytes[COST_USER] + x->cost.layer_bytes[COST_FIXED];
    char left_text[FORMAT_MAX], need_text[FORMAT_MAX];
    snprintf(f->why, sizeof f->why, "strict accounting: %s may still be promised, user space needs %s",
             format_bytes(left_text, left > 0 ? left : 0), format_bytes(need_text, need));
    if (left >= need)
        return;
    f->status = FINDING_FIX;
    check_suggest_sysctl(row, f, "0");
}

/* AES-GCM without them is several times slower than ChaCha20-Poly1305. */
void judge_aes(const struct examination *x, const struct check_row *row, struct finding *f)
{
    (void)row;
    const struct machine *m = &x->machine;
    snprintf(f->found_text, sizeof f->found_text, "%s", !m->cpuinfo ? "unknown" : m->aes ? "yes" : "no");
    if (m->aes) {
        snprintf(f->why, sizeof f->why, "AES-GCM is cheap here");
        return;
    }
    f->status = x->request->tls > 0 || !m->cpuinfo ? FINDING_NOTE : FINDING_OK;
    if (!m->cpuinfo)
        snprintf(f->why, sizeof f->why, "not readable here");
    else if (x->request->tls > 0)
        snprintf(f->why, sizeof f->why,
                 "prefer ChaCha20-Poly1305: without them AES-GCM costs several times "
                 "the CPU");
    else
        snprintf(f->why, sizeof f->why, "matter for TLS only");
}

/* How far the prediction can be trusted. */
void judge_slabinfo(const struct examination *x, const struct check_row *row, struct finding *f)
{
    (void)row;
    if (x->measured) {
        snprintf(f->found_text, sizeof f->found_text, "measured");
        snprintf(f->why, sizeof f->why, "the kernel's part below was measured with %u connections",
                 x->measurement.connections);
        return;
    }
    snprintf(f->found_text, sizeof f->found_text, "%s", x->machine.slabinfo ? "read" : "not readable");
    snprintf(f->why, sizeof f->why, "sizes of the kernel's objects, for the prediction below");
    if (x->measure_error[0] != '\0') {
        f->status = FINDING_NOTE;
        snprintf(f->why, sizeof f->why, "could not measure: %s", x->measure_error);
    } else if (!x->machine.slabinfo) {
        f->status = FINDING_NOTE;
        snprintf(f->why, sizeof f->why,
                 "the prediction uses sizes measured on Linux 6.18; run as root or with --measure for this "
                 "kernel's own");
    }
}
