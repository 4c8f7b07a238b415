/*
 * The nearest known name to one that is not known. Asked by the configuration and by the command line, only
 * after something has gone wrong; it keeps nothing.
 */
#include "gateway/base/nearest.h"

#include <stddef.h>
#include <string.h>

#define NAME_LEN 63

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;
    return m < c ? m : c;
}

/* Three rows of the table of prefix distances are enough: a swap looks two rows back (optimal string
 * alignment). */
unsigned nearest_distance(const char *a, const char *b)
{
    unsigned rows[3][NAME_LEN + 1];
    size_t a_len = strnlen(a, NAME_LEN), b_len = strnlen(b, NAME_LEN);
    for (unsigned j = 0; j <= b_len; j++)
        rows[0][j] = j;
    for (unsigned i = 1; i <= a_len; i++) {
        unsigned *now = rows[i % 3], *before = rows[(i + 2) % 3], *before_that = rows[(i + 1) % 3];
        now[0] = i;
        for (unsigned j = 1; j <= b_len; j++) {
            unsigned replaced = before[j - 1] + (a[i - 1] != b[j - 1]);
            now[j] = min3(replaced, before[j] + 1, now[j - 1] + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before_that[j - 2] + 1 < now[j])
                now[j] = before_that[j - 2] + 1;
        }
    }
    return rows[a_len % 3][b_len];
}

void nearest_try(struct nearest *n, const char *candidate)
{
    unsigned distance = nearest_distance(n->word, candidate);
    unsigned limit = 1 + (unsigned)strnlen(n->word, NAME_LEN) / 4;
    if (distance <= limit && (!n->best || distance < n->distance)) {
        n->best = candidate;
        n->distance = distance;
    }
}
