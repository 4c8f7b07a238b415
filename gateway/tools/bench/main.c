/*
 * holdfast-bench: arguments, then scenario by scenario, repetition by repetition, target by target. The
 * targets of one repetition run directly after each other, so that what disturbs the machine disturbs all of
 * them.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/xmalloc.h"
#include "gateway/tools/bench/floor.h"
#include "gateway/tools/bench/interrupt.h"
#include "gateway/tools/bench/report.h"
#include "gateway/tools/bench/run.h"
#include "gateway/tools/bench/scenario.h"
#include "gateway/tools/bench/target.h"

struct arguments {
    struct target *target[16];
    size_t targets;
    const char *assignment[32];
    size_t assignments;
    size_t repetitions;
    const char *json;
    bool strict;
};

static const char usage[] =
    "usage: holdfast-bench run SCENARIO... [--target TARGET]... [--set OPTION=VALUE]... [--connections N]\n"
    "                          [--repeat N] [--json FILE] [--strict]\n"
    "       holdfast-bench floor --port PORT\n"
    "       holdfast-bench options\n"
    "TARGET is floor, NAME=ADDRESS:PORT[,pid=PID] or NAME='cmd:COMMAND' with {port}, {api_port}, {dir}, "
    "{file:PATH}.\n";

/* Adds OPTION=VALUE to what is set in every scenario. */
static bool add_assignment(struct arguments *a, const char *text)
{
    if (a->assignments == sizeof a->assignment / sizeof a->assignment[0])
        return false;
    a->assignment[a->assignments++] = text;
    return true;
}

static bool add_target(struct arguments *a, const char *spec)
{
    if (a->targets == sizeof a->target / sizeof a->target[0])
        return false;
    a->target[a->targets] = target_parse(spec);
    return a->target[a->targets++] || (a->targets--, false);
}

/* --connections N is short for --set connections=N. */
static bool set_connections(struct arguments *a, const char *n)
{
    char *text = NULL;
    return asprintf(&text, "connections=%s", n) > 0 && add_assignment(a, text);
}

static bool parse_arguments(struct arguments *a, int argc, char **argv)
{
    static const struct option options[] = {{"target", required_argument, NULL, 't'},
                                            {"set", required_argument, NULL, 's'},
                                            {"connections", required_argument, NULL, 'n'},
                                            {"repeat", required_argument, NULL, 'r'},
                                            {"json", required_argument, NULL, 'j'},
                                            {"strict", no_argument, NULL, 'S'},
                                            {0}};
    bool ok = true;
    a->repetitions = 1;
    for (int c; ok && (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 't':
            ok = add_target(a, optarg);
            break;
        case 's':
            ok = add_assignment(a, optarg);
            break;
        case 'n':
            ok = set_connections(a, optarg);
            break;
        case 'r':
            a->repetitions = (size_t)atoi(optarg);
            ok = a->repetitions >= 1 && a->repetitions <= 100;
            break;
        case 'j':
            a->json = optarg;
            break;
        case 'S':
            a->strict = true;
            break;
        default:
            ok = false;
        }
    }
    return ok && (a->targets || add_target(a, "floor"));
}

/* All repetitions of one scenario. */
static struct result *run_all(const struct scenario *s, struct arguments *a, bool *ok)
{
    char *names[16];
    for (size_t t = 0; t < a->targets; t++)
        names[t] = a->target[t]->name;
    struct result *result = result_new(s, names, a->targets, a->repetitions);
    for (size_t i = 0; i < a->repetitions && !interrupted(); i++) {
        for (size_t t = 0; t < a->targets && !interrupted(); t++) {
            result_at(result, t, i);
            *ok &= run_scenario(s, a->target[t], result);
        }
    }
    return result;
}

/* The command line as one string. */
static char *join(int argc, char **argv)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    for (int i = 0; i < argc; i++)
        fprintf(f, strpbrk(argv[i], " {};&") ? "%s'%s'" : "%s%s", i ? " " : "", argv[i]);
    fclose(f);
    return text;
}

/* Loads a scenario with what the command line sets. */
static struct scenario *load(const char *name, const struct arguments *a)
{
    struct scenario *s = scenario_load(name);
    for (size_t i = 0; s && i < a->assignments; i++) {
        if (!scenario_set(s, a->assignment[i])) {
            scenario_free(s);
            return NULL;
        }
    }
    if (s && !run_find_kind(s->kind)) {
        fprintf(stderr, "%s: kind \"%s\" does not exist; holdfast-bench options lists them\n", name, s->kind);
        scenario_free(s);
        return NULL;
    }
    return s;
}

static int run_main(int argc, char **argv)
{
    struct arguments a = {0};
    char *command = join(argc, argv);
    if (!parse_arguments(&a, argc, argv) || optind + 1 >= argc) {
        fputs(usage, stderr);
        return 2;
    }
    size_t count = (size_t)(argc - optind - 1);
    struct scenario **scenario = xcalloc(count, sizeof *scenario);
    struct result **result = xcalloc(count, sizeof *result);
    for (size_t i = 0; i < count; i++) {
        scenario[i] = load(argv[optind + 1 + (int)i], &a);
        if (!scenario[i])
            return 2;
    }
    bool ok = true;
    size_t done = 0;
    interrupt_install();
    for (; done < count && !interrupted(); done++)
        result[done] = run_all(scenario[done], &a, &ok);
    struct report report = {result, done, a.target, a.targets, command};
    unsigned not_met = report_text(stdout, &report);
    if (a.json)
        ok &= report_json(a.json, &report);
    return !ok || (a.strict && not_met) ? 1 : 0;
}

static int options_main(int argc, char **argv)
{
    (void)argc, (void)argv;
    printf("kinds\n\n");
    run_list_kinds();
    printf("\noptions of a scenario file, with default and range\n\n");
    scenario_list_options();
    return 0;
}

static const struct {
    const char *name;
    int (*main)(int argc, char **argv);
} subcommands[] = {{"run", run_main}, {"floor", floor_main}, {"options", options_main}};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof subcommands / sizeof subcommands[0]; i++)
        if (strcmp(argv[1], subcommands[i].name) == 0)
            return subcommands[i].main(argc, argv);
    fputs(usage, stderr);
    return 2;
}
