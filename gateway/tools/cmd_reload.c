/*
 * `holdfast reload`: asks the gateway that runs on a data directory to read its configuration and its files
 * again, and prints what came of it. The configuration named here only says which data directory is meant;
 * the gateway reads the one that it was started with.
 */
#include <stdlib.h>
#include <unistd.h>

#include "gateway/base/options.h"
#include "gateway/supervisor/control.h"
#include "gateway/tools/commands.h"

int cmd_reload(int argc, char **argv)
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
        return control_ask_reload(source.data_dir, stdout, stderr) ? EXIT_SUCCESS : EXIT_FAILURE;
    struct config c;
    if (config_load_source(&c, &source, stderr) != 0) {
        fprintf(stderr, "the gateway was not asked, and goes on as it is\n");
        return EXIT_FAILURE;
    }
    bool done = control_ask_reload(c.data_dir, stdout, stderr);
    config_free(&c);
    return done && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
