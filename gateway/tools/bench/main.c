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
#include "gateway/tools/bench/limits.h"
#include "gateway/tools/bench/report.h"
#include "gateway/tools/bench/run.h"
#include "gateway/tools/bench/scenario.h"
#include "gateway/tools/bench/target.h"

struct arguments {
    char *command;     /* the command line */
    char *connections; /* an assignment made of --connections */
    struct scenario **scenario;
    struct result **result;
    size_t scenarios, done;
    struct target *target[16];
    size_t targets;
    const char *assignment[32];
    size_t assignments;
    size_t repetitions;
    const char *json, *html;
    bool strict;
};

static const char usage[] =
    "usage: holdfast-bench run SCENARIO... [--target TARGET]... [--set OPTION=VALUE]... [--connections N]\n"
    "                          [--repeat N] [--json FILE] [--html FILE] [--strict]\n"
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
    free(a->connections);
    return asprintf(&a->connections, "connections=%s", n) > 0 && add_assignment(a, a->connections);
}

static bool parse_arguments(struct arguments *a, int argc, char **argv)
{
    static const struct option options[] = {{"target", required_argument, NULL, 't'},
                                            {"set", required_argument, NULL, 's'},
                                            {"connections", required_argument, NULL, 'n'},
                                            {"repeat", required_argument, NULL, 'r'},
                                            {"json", required_argument, NULL, 'j'},
                                            {"html", required_argument, NULL, 'h'},
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
        case 'h':
            a->html = optarg;
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

/* Loads all scenarios that are named, and sees whether the machine allows them. */
static bool load_all(struct arguments *a, char **names, size_t count)
{
    a->scenario = xcalloc(count, sizeof *a->scenario);
    a->result = xcalloc(count, sizeof *a->result);
    for (; a->scenarios < count; a->scenarios++) {
        a->scenario[a->scenarios] = load(names[a->scenarios], a);
        if (!a->scenario[a->scenarios])
            return false;
        if (!limits_check(a->scenario[a->scenarios], a->target, a->targets, stderr)) {
            a->scenarios++;
            return false;
        }
    }
    return true;
}

static void free_all(struct arguments *a)
{
    for (size_t i = 0; i < a->done; i++)
        result_free(a->result[i]);
    for (size_t i = 0; i < a->scenarios; i++)
        scenario_free(a->scenario[i]);
    for (size_t i = 0; i < a->targets; i++)
        target_free(a->target[i]);
    free(a->result);
    free(a->scenario);
    free(a->connections);
    free(a->command);
}

/* Runs and reports. Returns the exit status. */
static int run_and_report(struct arguments *a)
{
    bool ok = true;
    interrupt_install();
    for (; a->done < a->scenarios && !interrupted(); a->done++)
        a->result[a->done] = run_all(a->scenario[a->done], a, &ok);
    struct report report = {a->result, a->done, a->target, a->targets, a->command};
    unsigned not_met = report_text(stdout, &report);
    if (a->json)
        ok &= report_json(a->json, &report);
    if (a->html)
        ok &= report_html(a->html, &report);
    return !ok || (a->strict && not_met) ? 1 : 0;
}

static int run_main(int argc, char **argv)
{
    struct arguments a = {.command = join(argc, argv)};
    int status = 2;
    if (!parse_arguments(&a, argc, argv) || optind + 1 >= argc)
        fputs(usage, stderr);
    else if (load_all(&a, argv + optind + 1, (size_t)(argc - optind - 1)))
        status = run_and_report(&a);
    free_all(&a);
    return status;
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
