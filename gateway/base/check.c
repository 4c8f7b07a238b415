/*
 * What happens when one of our own assertions does not hold: one line on standard error, then abort(), so
 * that there is a core and the supervisor sees a crash. It does not use the log, which may be what is broken.
 */
#include "gateway/base/check.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Prints the place and the expression, and aborts. */
void check_failed(const char *file, int line, const char *expr)
{
    fprintf(stderr, "%s:%d: bug: %s does not hold\n", file, line, expr);
    abort();
}

/* Gives ptr back if the object there begins with the magic number. */
void *check_cast_(void *ptr, unsigned magic, const char *file, int line, const char *type)
{
    uint32_t found;
    if (!ptr)
        check_failed(file, line, type);
    memcpy(&found, ptr, sizeof found);
    if (found != magic)
        check_failed(file, line, type);
    return ptr;
}
