/*
 * One examination from beginning to end: read the machine, measure if asked to, work out workers and memory,
 * judge, write. Changes nothing on the machine.
 */
#include "gateway/tools/doctor/doctor.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/xmalloc.h"
#include "gateway/supervisor/limits.h"
#include "gateway/tools/doctor/report.h"

/* Taken where the machine does not tell its limit: what systemd gives a service. */
#define NOFILE_GUESS 524288u

/* How much more than its even share a worker may get: the kernel spreads connections by hash. */
#define SPREAD_PERCENT 10u

/* Workers and descriptors, by the supervisor's own arithmetic. */
static void plan_processes(struct examination *x)
{
    struct value hard = x->machine.fact[FACT_NOFILE_HARD];
    struct config c = {.max_connections = (uint32_t)x->request->connections, .workers = x->request->workers};
    x->nofile = value_known(hard) ? hard.n : NOFILE_GUESS;
    x->workers = limits_workers_on(&c, x->nofile, x->machine.cores);
    unsigned best = c.workers != 0 ? c.workers : x->machine.cores;
    x->nofile_wanted = c.max_connections / best * (100 + SPREAD_PERCENT) / 100 + LIMITS_RESERVE;
}

/* The prediction for n connections with the workers that so many take. */
static void predict(const struct examination *x, uint64_t n, struct cost *out)
{
    struct config c = {.max_connections = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n,
                       .workers = x->request->workers};
    struct cost_input in = {.connections = n,
                            .workers = limits_workers_on(&c, x->nofile, x->machine.cores),
                            .tls = x->request->tls,
                            .ipv6 = x->request->ipv6,
                            .measured = x->measured ? &x->measurement : NULL};
    cost_predict(&x->machine, &in, out);
}

/* The most connections whose prediction stays within the room, by bisection: the cost only grows with n. */
static uint64_t how_many_fit(const struct examination *x)
{
    uint64_t fits = 0, too_many = (uint64_t)UINT32_MAX + 1;
    struct cost c;
    while (too_many - fits > 1) {
        uint64_t n = fits + (too_many - fits) / 2;
        predict(x, n, &c);
        if (c.bytes + x->room.reserve <= x->room.available)
            fits = n;
        else
            too_many = n;
    }
    return fits;
}

/* Only the running machine can be measured. */
static void measure(struct examination *x)
{
    if (!x->request->measure)
        return;
    if (x->machine.root[0] != '\0') {
        snprintf(x->measure_error, sizeof x->measure_error, "a recorded machine cannot open connections");
        return;
    }
    x->measured = measure_connections(&x->machine, x->request->ipv6, &x->measurement, x->measure_error,
                                      sizeof x->measure_error) == 0;
}

/* All rows of the table. */
static void judge_all(struct report *r)
{
    r->rows = check_rows(&r->findings);
    CHECK(r->findings <= REPORT_MAX_FINDINGS);
    for (unsigned i = 0; i < r->findings; i++) {
        check_judge(r->x, &r->rows[i], &r->finding[i]);
        r->to_fix += r->finding[i].status == FINDING_FIX;
    }
}

typedef void report_fn(const struct report *r, FILE *out);
static report_fn *const writers[] = {
    [DOCTOR_TEXT] = report_text, [DOCTOR_JSON] = report_json, [DOCTOR_SYSCTL] = report_sysctl};

/* Examines and reports. */
enum doctor_status doctor_run(const struct doctor_request *request, FILE *out)
{
    CHECK(request->connections > 0 && request->connections <= DOCTOR_MAX_CONNECTIONS);
    struct examination *x = xcalloc(1, sizeof *x);
    struct report *r = xcalloc(1, sizeof *r);
    x->request = request;
    machine_read(&x->machine, request->root);
    plan_processes(x);
    measure(x);
    predict(x, request->connections, &x->cost);
    x->room = cost_room(&x->machine);
    if (x->room.known)
        x->fits = how_many_fit(x);
    r->x = x;
    judge_all(r);
    writers[request->output](r, out);
    enum doctor_status status = r->to_fix == 0 ? DOCTOR_ALL_OK : DOCTOR_MUST_FIX;
    free(r);
    free(x);
    return status;
}
