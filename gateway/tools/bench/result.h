/*
 * What was measured: for each scenario, target and repetition a list of named values; their medians and
 * ratios.
 */
#ifndef HOLDFAST_BENCH_RESULT_H
#define HOLDFAST_BENCH_RESULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/tools/bench/scenario.h"

enum {
    RESULT_RATIO = 1, /* comparing it with the floor says something */
    RESULT_QUIET = 2  /* the terminal shows it only when it is not zero */
};

struct result_row {
    char *key;      /* "broadcast.64.cpu": in the JSON, in figures */
    char *label;    /* "CPU per delivery, 64 bytes" */
    char *unit;     /* "us", "bytes", "/s", "" */
    unsigned flags; /* RESULT_ */
    double *value;  /* targets x repetitions; NAN: not measured */
};

struct result {
    const struct scenario *scenario;
    size_t targets, repetitions;
    char **target;     /* names; the floor is found by its name */
    size_t *tls_floor; /* by target: which one is its TLS floor, or SIZE_MAX */
    struct result_row *row;
    size_t rows;
    size_t now_target, now_repetition; /* what result_put() writes to */
    char **note;                       /* remarks for the reader, each once */
    size_t notes;
};

struct result *result_new(const struct scenario *s, char *const *targets, size_t count, size_t repetitions);
void result_free(struct result *r);
/* What `target` is compared with besides the floor. */
void result_set_tls_floor(struct result *r, size_t target, size_t floor);
/* The following values belong to this target and repetition. */
void result_at(struct result *r, size_t target, size_t repetition);

/* Stores a value; a row is made when the key is new. */
void result_put(struct result *r, const char *key, const char *label, const char *unit, unsigned flags,
                double value);
/* Adds a remark, once. */
void result_note(struct result *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct result_summary {
    size_t count; /* of repetitions that have a value */
    double median, min, max;
    double ratio;     /* median over the repetitions of value / floor's value; NAN: none */
    double ratio_tls; /* the same with the TLS floor */
};
struct result_summary result_summarize(const struct result *r, size_t row, size_t target);

const struct result_row *result_find(const struct result *r, const char *key, size_t *index);
/* Index of the floor among the targets, or SIZE_MAX. */
size_t result_floor(const struct result *r);

/* Whether any target is compared with a TLS floor. */
bool result_has_tls_floor(const struct result *r);
/* Whether a target is there for others to be compared with: the floor, or somebody's TLS floor. */
bool result_is_floor(const struct result *r, size_t target);

/* Whether a figure is for this target: no floor, and of a name that the figure's pattern has. */
bool result_concerns(const struct result *r, const struct scenario_figure *f, size_t target);

enum figure_verdict { FIGURE_MET, FIGURE_NOT_MET, FIGURE_UNKNOWN };
/* Whether a target meets a figure, all its limits together, and in words what was measured and wanted. A
 * limit that could not be judged makes it unknown. */
enum figure_verdict result_judge(const struct result *r, const struct scenario_figure *f, size_t target,
                                 char *words, size_t cap);

double median_of(double *values, size_t n); /* sorts them; NAN when n is 0 */

#endif
