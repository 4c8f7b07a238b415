/*
 * A table of measurements that grows as the kinds of scenarios put values into it. Reports read it; nothing
 * here knows what a value means.
 */
#include "gateway/tools/bench/result.h"

#include <fnmatch.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/xmalloc.h"

struct result *result_new(const struct scenario *s, char *const *targets, size_t count, size_t repetitions)
{
    struct result *r = xcalloc(1, sizeof *r);
    r->scenario = s;
    r->targets = count;
    r->repetitions = repetitions;
    r->target = xcalloc(count, sizeof *r->target);
    r->tls_floor = xcalloc(count, sizeof *r->tls_floor);
    for (size_t i = 0; i < count; i++) {
        r->target[i] = xstrdup(targets[i]);
        r->tls_floor[i] = SIZE_MAX;
    }
    return r;
}

void result_set_tls_floor(struct result *r, size_t target, size_t floor) { r->tls_floor[target] = floor; }

void result_free(struct result *r)
{
    for (size_t i = 0; i < r->targets; i++)
        free(r->target[i]);
    for (size_t i = 0; i < r->rows; i++) {
        free(r->row[i].key);
        free(r->row[i].label);
        free(r->row[i].unit);
        free(r->row[i].value);
    }
    for (size_t i = 0; i < r->notes; i++)
        free(r->note[i]);
    free(r->note);
    free(r->target);
    free(r->tls_floor);
    free(r->row);
    free(r);
}

void result_at(struct result *r, size_t target, size_t repetition)
{
    r->now_target = target;
    r->now_repetition = repetition;
}

const struct result_row *result_find(const struct result *r, const char *key, size_t *index)
{
    for (size_t i = 0; i < r->rows; i++)
        if (strcmp(r->row[i].key, key) == 0) {
            if (index)
                *index = i;
            return &r->row[i];
        }
    return NULL;
}

/* A row without values. */
static size_t add_row(struct result *r, const char *key, const char *label, const char *unit, unsigned flags)
{
    size_t cells = r->targets * r->repetitions;
    r->row = xrealloc(r->row, (r->rows + 1) * sizeof *r->row);
    struct result_row *row = &r->row[r->rows];
    *row = (struct result_row){xstrdup(key), xstrdup(label), xstrdup(unit), flags,
                               xcalloc(cells, sizeof(double))};
    for (size_t i = 0; i < cells; i++)
        row->value[i] = NAN;
    return r->rows++;
}

void result_put(struct result *r, const char *key, const char *label, const char *unit, unsigned flags,
                double value)
{
    size_t i;
    if (!result_find(r, key, &i))
        i = add_row(r, key, label, unit, flags);
    r->row[i].value[r->now_target * r->repetitions + r->now_repetition] = value;
}

void result_note(struct result *r, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (size_t i = 0; i < r->notes; i++)
        if (strcmp(r->note[i], text) == 0)
            return;
    r->note = xrealloc(r->note, (r->notes + 1) * sizeof *r->note);
    r->note[r->notes++] = xstrdup(text);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double median_of(double *values, size_t n)
{
    if (n == 0)
        return NAN;
    qsort(values, n, sizeof *values, by_value);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

size_t result_floor(const struct result *r)
{
    for (size_t i = 0; i < r->targets; i++)
        if (strcmp(r->target[i], "floor") == 0)
            return i;
    return SIZE_MAX;
}

bool result_has_tls_floor(const struct result *r)
{
    bool any = false;
    for (size_t i = 0; i < r->targets; i++)
        any |= r->tls_floor[i] != SIZE_MAX;
    return any;
}

bool result_is_floor(const struct result *r, size_t target)
{
    bool is = target == result_floor(r);
    for (size_t i = 0; i < r->targets; i++)
        is |= r->tls_floor[i] == target;
    return is;
}

bool result_concerns(const struct result *r, const struct scenario_figure *f, size_t target)
{
    return !result_is_floor(r, target) &&
           (!f->target || !f->target[0] || fnmatch(f->target, r->target[target], 0) == 0);
}

/* Ratios are taken repetition by repetition, since the two runs of one repetition stood next to each other in
 * time. */
static double median_ratio(const struct result *r, const struct result_row *w, size_t target, size_t floor)
{
    double ratios[256];
    size_t n = 0;
    if (floor == SIZE_MAX || !(w->flags & RESULT_RATIO))
        return NAN;
    for (size_t i = 0; i < r->repetitions && n < 256; i++) {
        double v = w->value[target * r->repetitions + i], f = w->value[floor * r->repetitions + i];
        if (!isnan(v) && !isnan(f) && f > 0)
            ratios[n++] = v / f;
    }
    return median_of(ratios, n);
}

struct result_summary result_summarize(const struct result *r, size_t row, size_t target)
{
    const struct result_row *w = &r->row[row];
    double values[256];
    size_t n = 0;
    for (size_t i = 0; i < r->repetitions && n < 256; i++) {
        double v = w->value[target * r->repetitions + i];
        if (!isnan(v))
            values[n++] = v;
    }
    struct result_summary s = {.count = n};
    s.median = median_of(values, n);
    s.min = n ? values[0] : NAN;
    s.max = n ? values[n - 1] : NAN;
    s.ratio = median_ratio(r, w, target, result_floor(r));
    s.ratio_tls = median_ratio(r, w, target, r->tls_floor[target]);
    return s;
}

/* What is found out about one figure, limit by limit. */
struct judgement {
    char words[256];
    size_t len;
    enum figure_verdict verdict; /* the worst so far: unknown before not met before met */
};

/* Judges one limit; NAN is none. */
static void judge(struct judgement *j, const char *measured_format, double measured, const char *unit,
                  const char *wanted, double limit)
{
    char measured_text[32];
    if (isnan(limit))
        return;
    bool met = wanted[0] == 'm' ? measured <= limit : measured >= limit;
    enum figure_verdict v = isnan(measured) ? FIGURE_UNKNOWN : met ? FIGURE_MET : FIGURE_NOT_MET;
    snprintf(measured_text, sizeof measured_text, measured_format, measured);
    char *at = j->words + j->len;
    size_t room = sizeof j->words - j->len;
    const char *separator = j->len ? "; " : "";
    int n = isnan(measured) ? snprintf(at, room, "%snot measured", separator)
                            : snprintf(at, room, "%s%s %s, wanted at %s %.4g", separator, measured_text, unit,
                                       wanted, limit);
    j->len += (size_t)n < room ? (size_t)n : room - 1;
    j->verdict = v > j->verdict ? v : j->verdict;
}

enum figure_verdict result_judge(const struct result *r, const struct scenario_figure *f, size_t target,
                                 char *words, size_t cap)
{
    size_t i;
    const struct result_row *row = result_find(r, f->metric, &i);
    struct result_summary s = row ? result_summarize(r, i, target)
                                  : (struct result_summary){.median = NAN, .ratio = NAN, .ratio_tls = NAN};
    const char *unit = row ? row->unit : "";
    struct judgement j = {.verdict = FIGURE_MET};
    judge(&j, "%.4g", s.median, unit, "least", f->min);
    judge(&j, "%.4g", s.median, unit, "most", f->max);
    judge(&j, "%.3f", s.ratio, "times the floor", "most", f->max_ratio);
    judge(&j, "%.3f", s.ratio_tls, "times the TLS floor", "most", f->max_ratio_tls);
    snprintf(words, cap, "%s", j.len ? j.words : "not measured");
    return j.len ? j.verdict : FIGURE_UNKNOWN;
}
