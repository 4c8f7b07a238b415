/*
 * `holdfast options`: prints what is made from the table of options. The build uses it to write
 * conf/holdfast.conf and part of the manual page, and the tests to see that these are up to date.
 */
#include <stdio.h>
#include <string.h>

#include "gateway/base/options.h"
#include "gateway/tools/commands.h"

static const struct {
    const char *argument;
    void (*print)(FILE *out);
} forms[] = {
    {"--sample", options_print_sample},
    {"--mdoc", options_print_mdoc},
};

int cmd_options(int argc, char **argv)
{
    for (size_t i = 0; argc == 2 && i < sizeof forms / sizeof forms[0]; i++) {
        if (strcmp(argv[1], forms[i].argument) == 0) {
            forms[i].print(stdout);
            return fflush(stdout) == 0 ? 0 : 1;
        }
    }
    return COMMAND_USAGE;
}
