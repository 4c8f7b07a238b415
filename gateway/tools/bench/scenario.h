/*
 * A scenario: what is done with a server, from a small libconfuse file that a user can copy and change, and
 * the figures that its author wants to see met.
 */
#ifndef HOLDFAST_BENCH_SCENARIO_H
#define HOLDFAST_BENCH_SCENARIO_H

#include <stdbool.h>
#include <stddef.h>

/* A figure: a metric with the most it may be, absolutely or as a multiple of the floor in the same run. */
struct scenario_figure {
    char *title;
    char *metric;         /* key as in the JSON output */
    double max;           /* NAN: none */
    double max_ratio;     /* NAN: none */
    double min;           /* NAN: none */
    double max_ratio_tls; /* to the TLS floor; NAN: none */
    char *target;         /* pattern of the names of targets that it is for (fnmatch); "": all */
};

struct scenario {
    char *name; /* of the file, without folder and suffix */
#define OPTION_INT(name, value, min, max, help) long name;
#define OPTION_STR(name, value, help)           char *name;
#define OPTION_WORD(name, value, words, help)   char *name;
#include "gateway/tools/bench/scenario.def"
#undef OPTION_INT
#undef OPTION_STR
#undef OPTION_WORD
    struct scenario_figure *figure;
    size_t figures;
};

/*
 * Reads a scenario: a path, or the name of a file NAME.conf in the folder of the environment variable
 * HOLDFAST_BENCH_SCENARIOS or in the installed one. NULL and a message on stderr (file, line, what was
 * expected).
 */
struct scenario *scenario_load(const char *name_or_path);
void scenario_free(struct scenario *s);

/* Whether sessions outlive their connections. */
bool scenario_is_persistent(const struct scenario *s);

/* Sets one option from the command line, as in a file ("connections=500"). False and a message on stderr. */
bool scenario_set(struct scenario *s, const char *assignment);

/* Prints all options with their defaults and help. */
void scenario_list_options(void);

/* Value of the n-th option as text, for the report; false at the end. */
bool scenario_option(const struct scenario *s, size_t n, const char **name, char *text, size_t cap);

#endif
