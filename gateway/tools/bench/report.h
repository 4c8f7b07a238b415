/*
 * Results for people and for programs. Each takes all scenarios of one call.
 */
#ifndef HOLDFAST_BENCH_REPORT_H
#define HOLDFAST_BENCH_REPORT_H

#include <stdio.h>

#include "gateway/tools/bench/result.h"
#include "gateway/tools/bench/target.h"

struct report {
    struct result **result;
    size_t results;
    struct target **target;
    size_t targets;
    const char *command; /* the command line, or what stands for it */
    bool own_command;    /* what stands for it: the targets' own are left out too */
};

/* Tables with ratios, then the figures. Returns the number of figures that are not met. */
unsigned report_text(FILE *out, const struct report *r);

/* One JSON object. False: could not be written. */
bool report_json(const char *path, const struct report *r);

/* One HTML page with charts, complete in itself. False: could not be written. */
bool report_html(const char *path, const struct report *r);

/* What ran this: kernel, processors, memory, date. */
struct report_machine {
    char kernel[128], cpu[128], date[32];
    unsigned cpus;
    unsigned long long memory_mib;
};
void report_machine(struct report_machine *m);

/* A number as people want to read it, with the unit's number of decimals. */
void report_number(char *out, size_t cap, double value, const char *unit);

#endif
