/*
 * `holdfast doctor`: arguments in, a request to doctor_run() out.
 */
#include <ctype.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "gateway/tools/doctor/doctor.h"
#include "gateway/tools/doctor/machine.h"

static const char usage_text[] =
    "usage: holdfast doctor -n N [--tls SHARE] [--workers W] [--ipv6] [--measure] [--json | --sysctl] "
    "[--root DIR]\n"
    "  -n N, --connections N\n"
    "               connections to be held: 250000, 500k, 1M\n"
    "  --tls SHARE  share of them with TLS: 0.5 or 50% (default 0)\n"
    "  --workers W  as in the configuration (default: as many as the gateway would start)\n"
    "  --ipv6       listeners are IPv6 sockets\n"
    "  --measure    open some 4,600 connections on loopback to learn what they cost the kernel\n"
    "  --json       the report for machines\n"
    "  --sysctl     a file for /etc/sysctl.d instead of the report\n"
    "  --root DIR   examine the /proc, /sys and /etc recorded in DIR\n"
    "  -h, --help   print this\n"
    "exit status: 0 all is well, 1 something must be fixed, 2 wrong usage\n";

/* Says what is wrong with which option; main.c prints how the command is used. */
static int usage_error(const char *option, const char *expected)
{
    fprintf(stderr, "holdfast doctor: %s: expected %s\n", option, expected);
    return DOCTOR_USAGE;
}

/* A number with an optional k or M behind it. */
static bool parse_count(const char *text, uint64_t max, uint64_t *out)
{
    size_t digits = strspn(text, "0123456789");
    uint64_t unit = 1;
    if (text[digits] != '\0') {
        if (text[digits + 1] != '\0')
            return false;
        unit = text[digits] == 'k' || text[digits] == 'K' ? 1000 : text[digits] == 'M' ? 1000000 : 0;
    }
    struct value v = value_parse(text, digits);
    if (unit == 0 || v.state != VALUE_NUMBER || v.n == 0 || v.n > max / unit)
        return false;
    *out = v.n * unit;
    return true;
}

/* 0 to 1, or 0% to 100%. */
static bool parse_share(const char *text, double *out)
{
    char *end;
    if (!isdigit((unsigned char)text[0]) && text[0] != '.')
        return false;
    double share = strtod(text, &end);
    if (strcmp(end, "%") == 0) {
        share /= 100;
        end++;
    }
    *out = share;
    return *end == '\0' && share >= 0 && share <= 1;
}

enum {
    OPTION_TLS = 256,
    OPTION_WORKERS,
    OPTION_IPV6,
    OPTION_MEASURE,
    OPTION_JSON,
    OPTION_SYSCTL,
    OPTION_ROOT
};

static const struct option options[] = {{"connections", required_argument, NULL, 'n'},
                                        {"tls", required_argument, NULL, OPTION_TLS},
                                        {"workers", required_argument, NULL, OPTION_WORKERS},
                                        {"ipv6", no_argument, NULL, OPTION_IPV6},
                                        {"measure", no_argument, NULL, OPTION_MEASURE},
                                        {"json", no_argument, NULL, OPTION_JSON},
                                        {"sysctl", no_argument, NULL, OPTION_SYSCTL},
                                        {"root", required_argument, NULL, OPTION_ROOT},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};

/* Takes one option into the request. Returns what was expected instead, or NULL when it is right. */
static const char *take_option(struct doctor_request *r, int option, const char *text)
{
    uint64_t n;
    struct stat st;
    switch (option) {
    case 'n':
        return parse_count(text, DOCTOR_MAX_CONNECTIONS, &r->connections) ? NULL
                                                                          : "1 to 1000000000 connections";
    case OPTION_TLS:
        return parse_share(text, &r->tls) ? NULL : "a share from 0 to 1, or a percentage";
    case OPTION_WORKERS:
        if (!parse_count(text, 1024, &n))
            return "1 to 1024 workers";
        r->workers = (unsigned)n;
        return NULL;
    case OPTION_ROOT:
        if (strlen(text) >= MACHINE_ROOT_MAX || stat(text, &st) != 0 || !S_ISDIR(st.st_mode))
            return "a folder";
        r->root = text;
        return NULL;
    case OPTION_IPV6:
        r->ipv6 = true;
        return NULL;
    case OPTION_MEASURE:
        r->measure = true;
        return NULL;
    case OPTION_JSON:
        r->output = DOCTOR_JSON;
        return NULL;
    default:
        r->output = DOCTOR_SYSCTL;
        return NULL;
    }
}

/* The subcommand. */
int cmd_doctor(int argc, char **argv)
{
    struct doctor_request r = {.root = ""};
    int option;
    optind = 0;
    while ((option = getopt_long(argc, argv, "n:h", options, NULL)) != -1) {
        if (option == 'h') {
            fputs(usage_text, stdout);
            return DOCTOR_ALL_OK;
        }
        if (option == '?')
            return DOCTOR_USAGE;
        const char *expected = take_option(&r, option, optarg);
        if (expected != NULL)
            return usage_error(optarg, expected);
    }
    if (optind < argc)
        return usage_error(argv[optind], "nothing more");
    if (r.connections == 0)
        return usage_error("-n", "the number of connections");
    return (int)doctor_run(&r, stdout);
}
