/*
 * `holdfast check`: reads a configuration and the TLS files it names as `holdfast run` would, prints every
 * option with the value that is in force, and below it, as comments, which processes would be started on this
 * machine and which certificates each listener would serve. The output is itself a configuration. It asks the
 * supervisor's own code and opens no socket, so an address that is taken shows only at the start.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "gateway/base/options.h"
#include "gateway/supervisor/credentials.h"
#include "gateway/supervisor/limits.h"
#include "gateway/supervisor/privileges.h"
#include "gateway/tools/commands.h"

/* Descriptors that each process may open: the supervisor raises the soft limit to the hard one. */
static uint64_t descriptor_limit(void)
{
    struct rlimit r;
    return getrlimit(RLIMIT_NOFILE, &r) == 0 ? r.rlim_max : 1024;
}

static const char *workers_reason(const struct config *c, unsigned workers)
{
    if (c->workers)
        return "as configured";
    struct config without_limit = *c;
    without_limit.max_connections = 0;
    return limits_workers(&without_limit, descriptor_limit()) == workers
               ? "one per core"
               : "for the descriptors of max_connections";
}

static void print_workers(const struct config *c, FILE *out)
{
    uint64_t nofile = descriptor_limit();
    unsigned workers = limits_workers(c, nofile);
    uint32_t share = limits_connections_per_worker(c, nofile);
    uint64_t possible = (uint64_t)workers * limits_usable(nofile);
    fprintf(out, "# %u worker%s (%s), each for up to %" PRIu32 " connections and %" PRIu64 " descriptors\n",
            workers, workers == 1 ? "" : "s", workers_reason(c, workers), share, nofile);
    if (c->max_connections > possible)
        fprintf(out,
                "# WARNING: max_connections is %" PRIu32 ", but the descriptor limit allows %" PRIu64
                "; raise it (ulimit -n, LimitNOFILE) or workers\n",
                c->max_connections, possible);
}

/* The certificates of one tls section. */
static void print_certificates(const struct credentials *cr, const char *tls, FILE *out)
{
    for (unsigned i = 0; i < cr->certificates; i++) {
        char line[1024];
        if (strcmp(cr->certificate[i].tls, tls) != 0)
            continue;
        certificate_line(&cr->certificate[i], time(NULL), line, sizeof line);
        fprintf(out, "#   %s\n", line);
    }
}

static void print_addresses(const struct config *c, const struct credentials *cr, FILE *out)
{
    for (unsigned i = 0; i < c->listeners; i++) {
        const struct config_listener *l = &c->listener[i];
        fprintf(out, "# listener %s: MQTT%s on %s, one socket per worker\n", l->name,
                *l->tls ? " over TLS" : "", l->bind);
        if (*l->tls)
            print_certificates(cr, l->tls, out);
    }
    fprintf(out, "# api: HTTP on %s, %s\n", c->api_bind,
            *c->api_token_file ? "with a bearer token" : "without a token, for this machine only");
}

static void print_account(const struct config *c, const struct account *a, FILE *out)
{
    if (a->drop)
        fprintf(out, "# the supervisor runs as root, hub and workers as %s (uid %u, gid %u)\n", c->user,
                (unsigned)a->uid, (unsigned)a->gid);
    else
        fprintf(out, "# all processes run as uid %u, gid %u%s\n", (unsigned)a->uid, (unsigned)a->gid,
                a->uid == 0 ? " (root)"
                : *c->user  ? "; user is without effect, as this is not root"
                            : "");
}

/* Prints the whole; false if the account that it needs does not exist. */
static bool print_plan(const struct config *c, const struct credentials *cr, FILE *out)
{
    struct account account;
    char error[256];
    if (account_find(c->user, &account, error, sizeof error) != 0) {
        fprintf(stderr, "%s\n", error);
        return false;
    }
    config_print(c, out);
    fprintf(out, "\n# What would run:\n# 1 supervisor, 1 hub\n");
    print_workers(c, out);
    print_addresses(c, cr, out);
    print_account(c, &account, out);
    return fflush(out) == 0;
}

int cmd_check(int argc, char **argv)
{
    const char *file = NULL;
    for (int opt; (opt = getopt(argc, argv, "c:")) != -1;) {
        if (opt != 'c')
            return COMMAND_USAGE;
        file = optarg;
    }
    if (optind != argc)
        return COMMAND_USAGE;
    struct config c;
    if (config_load(&c, file, stderr) != 0)
        return 1;
    struct credentials cr;
    bool good = credentials_make(&cr, &c, stderr) == 0 && print_plan(&c, &cr, stdout);
    if (good)
        credentials_free(&cr);
    config_free(&c);
    return good ? 0 : 1;
}
