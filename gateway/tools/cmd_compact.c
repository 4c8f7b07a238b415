/*
 * `holdfast compact`: writes the data file anew without the pages that hold nothing. For a gateway that is
 * stopped.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "gateway/base/options.h"
#include "gateway/engine/compact.h"
#include "gateway/engine/engine.h"
#include "gateway/tools/commands.h"

#define MIB(bytes) ((double)(bytes) / (1 << 20))

/* On a terminal, a line that is written over. */
static void show_progress(uint64_t bytes)
{
    fprintf(stderr, "\r%.0f MiB written ", MIB(bytes));
    fflush(stderr);
}

static int compact(const char *data_dir)
{
    char why[ENGINE_WHY_MAX];
    struct compact_sizes sizes;
    bool is_terminal = isatty(STDERR_FILENO);
    bool ok = engine_compact(data_dir, is_terminal ? show_progress : NULL, &sizes, why);
    if (is_terminal)
        fprintf(stderr, "\r%40s\r", "");
    if (!ok) {
        fprintf(stderr, "%s\n", why);
        return EXIT_FAILURE;
    }
    printf("%s: the data file takes %.1f MiB of disk, before %.1f MiB\n", data_dir, MIB(sizes.after),
           MIB(sizes.before));
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int cmd_compact(int argc, char **argv)
{
    struct config_source source = {0};
    for (int opt; (opt = getopt(argc, argv, "c:d:")) != -1;) {
        if (opt == 'c')
            source.file = optarg;
        else if (opt == 'd')
            source.data_dir = optarg;
        else
            return COMMAND_USAGE;
    }
    if (optind != argc || (source.data_dir && !*source.data_dir))
        return COMMAND_USAGE;
    if (source.data_dir)
        return compact(source.data_dir);
    struct config c;
    if (config_load_source(&c, &source, stderr) != 0)
        return EXIT_FAILURE;
    int status = compact(c.data_dir);
    config_free(&c);
    return status;
}
