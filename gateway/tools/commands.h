/*
 * The subcommands of `holdfast` that are not the gateway itself. Each has the shape of main(): argv[0] is
 * "holdfast NAME". Returns the exit status: 0, 1 for a failure that has been explained on standard error,
 * COMMAND_USAGE for arguments that are wrong; the caller then prints how the command is used.
 */
#ifndef HOLDFAST_TOOLS_COMMANDS_H
#define HOLDFAST_TOOLS_COMMANDS_H

#define COMMAND_USAGE 2

/* check [-c FILE]: validates the file, or the embedded defaults, and prints what would run. */
int cmd_check(int argc, char **argv);

/* reload [-c FILE] [-d DIR]: makes the gateway that runs on a data directory reload, and prints the outcome.
 */
int cmd_reload(int argc, char **argv);

/* compact [-c FILE] [-d DIR]: writes the data file of a gateway that is stopped anew, without empty pages. */
int cmd_compact(int argc, char **argv);

/* sessions [-c FILE] [-d DIR] [-n N] [--json] [CLIENT_ID]: the stored sessions, or one of them, read from the
 * data directory whether the gateway runs or not. */
int cmd_sessions(int argc, char **argv);

/* options --sample | --mdoc: prints the sample configuration or the OPTIONS part of holdfast.conf(5). */
int cmd_options(int argc, char **argv);

#endif
