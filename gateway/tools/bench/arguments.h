/*
 * The command line of `holdfast-bench run`.
 */
#ifndef HOLDFAST_BENCH_ARGUMENTS_H
#define HOLDFAST_BENCH_ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "gateway/tools/bench/target.h"

#define ARGUMENTS_TARGETS     16
#define ARGUMENTS_ASSIGNMENTS 32

struct arguments {
    char *command;    /* for the report: what --command says, or the whole line, quoted for a shell */
    bool own_command; /* it is from --command */
    char **scenario;  /* names, in argv */
    size_t scenarios;
    struct target *target[ARGUMENTS_TARGETS]; /* at least the floor */
    size_t targets;
    char *assignment[ARGUMENTS_ASSIGNMENTS]; /* OPTION=VALUE for every scenario, in their order */
    size_t assignments;
    size_t repetitions;
    const char *json, *html;       /* in argv; NULL: not wanted */
    const char *certificate, *key; /* PEM files for TLS servers that are started; NULL: made. In argv */
    bool strict;
};

enum arguments_outcome { ARGUMENTS_OK, ARGUMENTS_HELP, ARGUMENTS_WRONG };

/*
 * Reads "holdfast-bench run ..."; reorders argv. ARGUMENTS_WRONG: said why on stderr. *a is to be freed in
 * any case.
 */
enum arguments_outcome arguments_parse(struct arguments *a, int argc, char **argv);
void arguments_free(struct arguments *a);

/* The words as one line that a POSIX shell splits into the same words. The caller frees it. */
char *arguments_quote(int argc, char *const *argv);

/* What `run` takes. */
void arguments_help(FILE *out);

#endif
