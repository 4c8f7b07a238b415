/*
 * Options of `holdfast-bench run` into one structure, and its help text. Whether a scenario exists and an
 * assignment is right is found out when the scenarios are loaded.
 */
#include "gateway/tools/bench/arguments.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/xmalloc.h"

static const char help_text[] =
    "usage: holdfast-bench run SCENARIO... [OPTION]...\n"
    "Measures every TARGET with every SCENARIO, a file or the name of an installed one.\n\n"
    "  --target TARGET     what to measure, up to 16 times (default: floor):\n"
    "                        floor                          the least work that can do it\n"
    "                        [NAME=]floor-tls[,OPTION]...   a plain TLS server on libevent and OpenSSL\n"
    "                        NAME=ADDRESS:PORT[,pid=PID]    a server that runs\n"
    "                        NAME=tls://ADDRESS:PORT[,pid=PID][,OPTION]...\n"
    "                        NAME='cmd[,OPTION]...:COMMAND' a command that starts one, with {port}, "
    "{tls_port},\n"
    "                                                       {api_port}, {dir}, {capacity}, {certificate},\n"
    "                                                       {key}, {file:PATH} filled in\n"
    "                      OPTION is tls (any version), tls12 (none above 1.2), tls13 (1.3), rsa (the "
    "certificate\n"
    "                      that is made has an RSA key), ciphers=LIST, ca=FILE (without it nothing is\n"
    "                      verified), name=HOST (SNI)\n"
    "  --certificate FILE  certificate chain for TLS servers that are started, PEM (default: one is made,\n"
    "  --key FILE          ECDSA P-256, or RSA-2048 with rsa), and its key\n"
    "  --set OPTION=VALUE  set an option of every scenario; holdfast-bench options lists them\n"
    "  --connections N     short for --set connections=N\n"
    "  --repeat N          repeat each scenario, 1 to 100 times (default: 1)\n"
    "  --json FILE         write all values as JSON\n"
    "  --html FILE         write a page with charts\n"
    "  --command TEXT      what the report names as its command instead of this line and the targets'\n"
    "  --strict            exit status 1 when a figure is not met\n"
    "  -h, --help          print this\n\n"
    "exit status: 0 all was measured, 1 something was not, or a figure is not met, 2 wrong usage\n";

void arguments_help(FILE *out) { fputs(help_text, out); }

/* One word. */
static void quote(FILE *out, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";
    if (word[0] && word[strspn(word, plain)] == '\0') {
        fputs(word, out);
        return;
    }
    putc('\'', out);
    for (const char *p = word; *p; p++) {
        if (*p == '\'')
            fputs("'\\''", out);
        else
            putc(*p, out);
    }
    putc('\'', out);
}

char *arguments_quote(int argc, char *const *argv)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    for (int i = 0; i < argc; i++) {
        fputs(i ? " " : "", f);
        quote(f, argv[i]);
    }
    fclose(f);
    return text;
}

/* Adds prefix and text as OPTION=VALUE to what is set in every scenario. */
static bool add_assignment(struct arguments *a, const char *prefix, const char *text)
{
    if (a->assignments == ARGUMENTS_ASSIGNMENTS) {
        fprintf(stderr, "--set: expected at most %d of them\n", ARGUMENTS_ASSIGNMENTS);
        return false;
    }
    if (asprintf(&a->assignment[a->assignments], "%s%s", prefix, text) < 0)
        abort();
    a->assignments++;
    return true;
}

static bool add_target(struct arguments *a, const char *spec)
{
    if (a->targets == ARGUMENTS_TARGETS) {
        fprintf(stderr, "--target: expected at most %d of them\n", ARGUMENTS_TARGETS);
        return false;
    }
    a->target[a->targets] = target_parse(spec);
    return a->target[a->targets] && ++a->targets;
}

static bool set_repetitions(struct arguments *a, const char *text)
{
    char *end;
    long n = strtol(text, &end, 10);
    a->repetitions = (size_t)n;
    if (*end == '\0' && end != text && n >= 1 && n <= 100)
        return true;
    fprintf(stderr, "--repeat %s: expected 1 to 100\n", text);
    return false;
}

static bool set_command(struct arguments *a, const char *text)
{
    free(a->command);
    a->command = xstrdup(text);
    a->own_command = true;
    return true;
}

/* Takes one option. */
static bool take(struct arguments *a, int option, const char *text)
{
    switch (option) {
    case 't':
        return add_target(a, text);
    case 's':
        return add_assignment(a, "", text);
    case 'n':
        return add_assignment(a, "connections=", text);
    case 'r':
        return set_repetitions(a, text);
    case 'c':
        return set_command(a, text);
    case 'J':
        a->json = text;
        return true;
    case 'H':
        a->html = text;
        return true;
    case 'C':
        a->certificate = text;
        return true;
    case 'K':
        a->key = text;
        return true;
    case 'S':
        return a->strict = true;
    default:
        return false; /* getopt_long() has said why */
    }
}

/* Tells every target what --certificate and --key say. One whose certificate is to have an RSA key gets one
 * made. */
static bool spread_certificate(struct arguments *a)
{
    if (!a->certificate != !a->key) {
        fputs("--certificate and --key: expected both or neither\n", stderr);
        return false;
    }
    for (size_t i = 0; i < a->targets; i++) {
        struct target *t = a->target[i];
        t->certificate = t->rsa ? NULL : a->certificate;
        t->key = t->rsa ? NULL : a->key;
    }
    return true;
}

enum arguments_outcome arguments_parse(struct arguments *a, int argc, char **argv)
{
    static const struct option options[] = {{"target", required_argument, NULL, 't'},
                                            {"set", required_argument, NULL, 's'},
                                            {"connections", required_argument, NULL, 'n'},
                                            {"repeat", required_argument, NULL, 'r'},
                                            {"command", required_argument, NULL, 'c'},
                                            {"json", required_argument, NULL, 'J'},
                                            {"html", required_argument, NULL, 'H'},
                                            {"certificate", required_argument, NULL, 'C'},
                                            {"key", required_argument, NULL, 'K'},
                                            {"strict", no_argument, NULL, 'S'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    *a = (struct arguments){.command = arguments_quote(argc, argv), .repetitions = 1};
    optind = 0; /* glibc: start anew */
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h')
            return ARGUMENTS_HELP;
        if (!take(a, c, optarg))
            return ARGUMENTS_WRONG;
    }
    if (optind + 1 >= argc) {
        fputs("expected a scenario\n", stderr);
        return ARGUMENTS_WRONG;
    }
    a->scenario = argv + optind + 1; /* after "run" */
    a->scenarios = (size_t)(argc - optind - 1);
    if (!a->targets && !add_target(a, "floor"))
        return ARGUMENTS_WRONG;
    return spread_certificate(a) ? ARGUMENTS_OK : ARGUMENTS_WRONG;
}

void arguments_free(struct arguments *a)
{
    for (size_t i = 0; i < a->targets; i++)
        target_free(a->target[i]);
    for (size_t i = 0; i < a->assignments; i++)
        free(a->assignment[i]);
    free(a->command);
}
