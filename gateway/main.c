/*
 * The program `holdfast`: a table of subcommands, and the one that runs the gateway. It reads arguments and
 * the configuration and calls; what the gateway does begins in supervisor_run().
 */
#include "config.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/log.h"
#include "gateway/base/nearest.h"
#include "gateway/base/options.h"
#include "gateway/supervisor/supervisor.h"
#include "gateway/tools/commands.h"
#include "gateway/tools/doctor/doctor.h"

struct command {
    const char *name;
    const char *arguments;
    const char *help;
    int (*run)(int argc, char **argv);
    bool hidden;
};

static int cmd_run(int argc, char **argv);
static int cmd_version(int argc, char **argv);
static int cmd_help(int argc, char **argv);

static const struct command commands[] = {
    {"run", "[-c FILE] [-d DIR]", "start the gateway in the foreground; -d sets data_dir", cmd_run, false},
    {"check", "[-c FILE]", "validate a configuration and say what would run", cmd_check, false},
    {"reload", "[-c FILE] [-d DIR]", "make the running gateway read its files again, and say what came of it",
     cmd_reload, false},
    {"sessions", "[OPTIONS] [ID]",
     "list the stored sessions, how far each lies behind: -c FILE, -d DIR, -n MOST, --json", cmd_sessions,
     false},
    {"compact", "[-c FILE] [-d DIR]", "write the data file of a stopped gateway anew, as small as it can be",
     cmd_compact, false},
    {"doctor", "-n N [OPTIONS]", "what this machine needs for N connections, and what they cost", cmd_doctor,
     false},
    {"options", "--sample | --mdoc", "print the sample configuration or its manual", cmd_options, true},
    {"version", "", "print the version", cmd_version, false},
    {"help", "[COMMAND]", "print this, or how a command is used", cmd_help, false},
};
#define COMMANDS (sizeof commands / sizeof commands[0])

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static void print_usage(FILE *out)
{
    fprintf(out, "usage: holdfast COMMAND [ARGUMENTS]\n\n");
    for (size_t i = 0; i < COMMANDS; i++) {
        char synopsis[64];
        snprintf(synopsis, sizeof synopsis, "%s %s", commands[i].name, commands[i].arguments);
        if (!commands[i].hidden)
            fprintf(out, "  %-25s  %s\n", synopsis, commands[i].help);
    }
    fprintf(
        out,
        "\nWithout -c the embedded defaults are used: clients on 127.0.0.1:1883, HTTP on 127.0.0.1:8080.\n"
        "See holdfast(8) and holdfast.conf(5).\n");
}

static void print_command_usage(FILE *out, const struct command *c)
{
    fprintf(out, "usage: holdfast %s%s%s\n", c->name, *c->arguments ? " " : "", c->arguments);
}

/* Says that there is no such command, and which one was probably meant. */
static int unknown_command(const char *name)
{
    struct nearest near = {.word = name};
    for (size_t i = 0; i < COMMANDS; i++)
        if (!commands[i].hidden)
            nearest_try(&near, commands[i].name);
    fprintf(stderr, "holdfast: unknown command '%s'", name);
    if (near.best)
        fprintf(stderr, ", did you mean '%s'?\n", near.best);
    else
        fprintf(stderr, "; `holdfast help` lists them\n");
    return COMMAND_USAGE;
}

/* Writes the first line of the log: what is started, and from which configuration. */
static void log_start(const struct config *c, const char *file)
{
    LOG_EVENT(ev_start, "start", LOG_LEVEL_NOTICE);
    enum log_level level = LOG_LEVEL_INFO;
    log_level_from_name(c->log_level, &level);
    log_setup(level, strcmp(c->log_format, "json") == 0, "supervisor");
    LOG(ev_start, LOG_STR("version", PACKAGE_VERSION), LOG_STR("config", file ? file : "embedded defaults"),
        LOG_STR("data_dir", c->data_dir));
}

/* run: the gateway, until it is told to stop. */
static int cmd_run(int argc, char **argv)
{
    const char *file = NULL, *data_dir = NULL;
    for (int opt; (opt = getopt(argc, argv, "c:d:")) != -1;) {
        if (opt == 'c')
            file = optarg;
        else if (opt == 'd')
            data_dir = optarg;
        else
            return COMMAND_USAGE;
    }
    if (optind != argc || (data_dir && !*data_dir))
        return COMMAND_USAGE;
    const struct config_source source = {.file = file, .data_dir = data_dir};
    struct config c;
    if (config_load_source(&c, &source, stderr) != 0)
        return EXIT_FAILURE;
    log_start(&c, file);
    int status = supervisor_run(&c, &source);
    config_free(&c);
    return status;
}

static int cmd_version(int argc, char **argv)
{
    (void)argv;
    if (argc > 1)
        return COMMAND_USAGE;
    printf("holdfast %s\n", PACKAGE_VERSION);
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int cmd_help(int argc, char **argv)
{
    if (argc > 2)
        return COMMAND_USAGE;
    const struct command *c = argc == 2 ? find_command(argv[1]) : NULL;
    if (argc == 2 && !c)
        return unknown_command(argv[1]);
    if (c) {
        print_command_usage(stdout, c);
        printf("%s\n", c->help);
    } else {
        print_usage(stdout);
    }
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* The command for a first argument; the customary options stand for commands. */
static const struct command *command_of(const char *word)
{
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        word = "help";
    else if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0)
        word = "version";
    return find_command(word);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stderr);
        return COMMAND_USAGE;
    }
    const struct command *c = command_of(argv[1]);
    if (!c)
        return unknown_command(argv[1]);
    if (argc > 2 && strcmp(argv[2], "--help") == 0 && c->run != cmd_doctor) {
        print_command_usage(stdout, c);
        printf("%s\n", c->help);
        return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    char name[64];
    snprintf(name, sizeof name, "holdfast %s", c->name);
    argv[1] = name;
    int status = c->run(argc - 1, argv + 1);
    if (status == COMMAND_USAGE)
        print_command_usage(stderr, c);
    return status;
}
