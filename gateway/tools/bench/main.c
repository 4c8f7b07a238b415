/*
 * holdfast-bench: arguments, then scenario by scenario, repetition by repetition, target by target. The
 * targets of one repetition run directly after each other, so that what disturbs the machine disturbs all of
 * them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "gateway/base/xmalloc.h"
#include "gateway/tools/bench/arguments.h"
#include "gateway/tools/bench/floor.h"
#include "gateway/tools/bench/floor_tls.h"
#include "gateway/tools/bench/interrupt.h"
#include "gateway/tools/bench/limits.h"
#include "gateway/tools/bench/report.h"
#include "gateway/tools/bench/run.h"
#include "gateway/tools/bench/scenario.h"
#include "gateway/tools/bench/target.h"

/* One call of `run`. */
struct call {
    struct arguments arguments;
    struct scenario **scenario;
    struct result **result;
    size_t scenarios, done;
};

static const char usage[] = "usage: holdfast-bench run SCENARIO... [OPTION]...\n"
                            "       holdfast-bench floor --port PORT\n"
                            "       holdfast-bench floor-tls --port PORT --certificate FILE --key FILE\n"
                            "       holdfast-bench options\n"
                            "       holdfast-bench help | version\n";

/* All repetitions of one scenario. */
static struct result *run_all(const struct scenario *s, const struct arguments *a, bool *ok)
{
    char *names[ARGUMENTS_TARGETS];
    for (size_t t = 0; t < a->targets; t++)
        names[t] = a->target[t]->name;
    struct result *result = result_new(s, names, a->targets, a->repetitions);
    for (size_t t = 0; t < a->targets; t++)
        for (size_t f = 0; f < a->targets; f++)
            if (f != t && target_is_tls_floor_of(a->target[f], a->target[t]))
                result_set_tls_floor(result, t, f);
    for (size_t i = 0; i < a->repetitions && !interrupted(); i++) {
        for (size_t t = 0; t < a->targets && !interrupted(); t++) {
            result_at(result, t, i);
            *ok &= run_scenario(s, a->target[t], result);
        }
    }
    return result;
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
static bool load_all(struct call *call)
{
    const struct arguments *a = &call->arguments;
    call->scenario = xcalloc(a->scenarios, sizeof(struct scenario *));
    call->result = xcalloc(a->scenarios, sizeof(struct result *));
    while (call->scenarios < a->scenarios) {
        struct scenario *s = load(a->scenario[call->scenarios], a);
        if (!s)
            return false;
        call->scenario[call->scenarios++] = s;
        if (!limits_check(s, a->target, a->targets, stderr))
            return false;
    }
    return true;
}

static void free_all(struct call *call)
{
    for (size_t i = 0; i < call->done; i++)
        result_free(call->result[i]);
    for (size_t i = 0; i < call->scenarios; i++)
        scenario_free(call->scenario[i]);
    free(call->result);
    free(call->scenario);
    arguments_free(&call->arguments);
}

/* Runs and reports. Returns the exit status. */
static int run_and_report(struct call *call)
{
    struct arguments *a = &call->arguments;
    bool ok = true;
    interrupt_install();
    for (; call->done < call->scenarios && !interrupted(); call->done++)
        call->result[call->done] = run_all(call->scenario[call->done], a, &ok);
    struct report report = {call->result, call->done, a->target, a->targets, a->command, a->own_command};
    unsigned not_met = report_text(stdout, &report);
    if (a->json)
        ok &= report_json(a->json, &report);
    if (a->html)
        ok &= report_html(a->html, &report);
    return !ok || (a->strict && not_met) ? 1 : 0;
}

static int run_main(int argc, char **argv)
{
    struct call call = {0};
    int status = 2;
    switch (arguments_parse(&call.arguments, argc, argv)) {
    case ARGUMENTS_OK:
        if (load_all(&call))
            status = run_and_report(&call);
        break;
    case ARGUMENTS_HELP:
        arguments_help(stdout);
        status = 0;
        break;
    case ARGUMENTS_WRONG:
        fputs("holdfast-bench run --help says how it is used\n", stderr);
    }
    free_all(&call);
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

static int help_main(int argc, char **argv)
{
    (void)argc, (void)argv;
    printf("%s\n", usage);
    arguments_help(stdout);
    putchar('\n');
    floor_help(stdout);
    putchar('\n');
    floor_tls_help(stdout);
    printf("\nholdfast-bench options lists the kinds of scenarios and their options.\n");
    return 0;
}

static int version_main(int argc, char **argv)
{
    (void)argc, (void)argv;
    printf("holdfast-bench %s\n", PACKAGE_VERSION);
    return 0;
}

static const struct {
    const char *name;
    int (*main)(int argc, char **argv);
} subcommands[] = {{"run", run_main},         {"floor", floor_main},     {"floor-tls", floor_tls_main},
                   {"options", options_main}, {"help", help_main},       {"--help", help_main},
                   {"-h", help_main},         {"version", version_main}, {"--version", version_main},
                   {"-V", version_main}};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof subcommands / sizeof subcommands[0]; i++)
        if (strcmp(argv[1], subcommands[i].name) == 0)
            return subcommands[i].main(argc, argv);
    fputs(usage, stderr);
    return 2;
}
