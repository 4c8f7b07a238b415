/*
 * Bytes written as text: hexadecimal with blanks anywhere.
 */
#ifndef HOLDFAST_TESTS_HEX_H
#define HOLDFAST_TESTS_HEX_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* Returns how many bytes there were; ends the program on anything else or when `max` does not hold them. */
static inline size_t from_hex(const char *text, uint8_t *out, size_t max)
{
    size_t n = 0;
    int high = -1;

    for (; *text; text++) {
        if (*text == ' ')
            continue;
        int v = *text >= '0' && *text <= '9'   ? *text - '0'
                : *text >= 'a' && *text <= 'f' ? *text - 'a' + 10
                                               : -1;
        if (v < 0 || n == max)
            abort();
        if (high < 0) {
            high = v;
        } else {
            out[n++] = (uint8_t)(high << 4 | v);
            high = -1;
        }
    }
    if (high >= 0)
        abort();
    return n;
}

#endif
