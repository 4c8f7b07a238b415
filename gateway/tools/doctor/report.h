/*
 * The forms a finished examination is written in.
 */
#ifndef HOLDFAST_DOCTOR_REPORT_H
#define HOLDFAST_DOCTOR_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "gateway/tools/doctor/checks.h"

#define REPORT_MAX_FINDINGS 64

struct report {
    const struct examination *x;
    const struct check_row *rows; /* as many as findings */
    struct finding finding[REPORT_MAX_FINDINGS];
    unsigned findings;
    unsigned to_fix;
};

/* The value as text: its own text, or the number with separators, "unlimited", "missing", "malformed". */
void report_value(char *text, size_t size, const char *own, struct value v);

/* One sentence: whether the machine is ready, and how many connections fit. */
void report_verdict(const struct report *r, char *text, size_t size);

void report_text(const struct report *r, FILE *out);
void report_json(const struct report *r, FILE *out);
/* A drop-in file for /etc/sysctl.d with what must change and nothing else. */
void report_sysctl(const struct report *r, FILE *out);

#endif
