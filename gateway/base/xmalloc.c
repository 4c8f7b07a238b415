/*
 * Allocation that succeeds or aborts. Used for small things whose size the program chooses; running out of
 * memory for those leaves nothing sensible to do. What grows with the number of clients lives in pools,
 * which refuse instead.
 */
#include "gateway/base/xmalloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Says what was wanted and aborts. */
static _Noreturn void out_of_memory(size_t n)
{
    fprintf(stderr, "out of memory: %zu bytes\n", n);
    abort();
}

/* As malloc(), or aborts. malloc(0) may give NULL, so one byte is asked for instead. */
void *xmalloc(size_t n)
{
    void *p = malloc(n ? n : 1);
    if (!p)
        out_of_memory(n);
    return p;
}

/* As calloc(), or aborts. */
void *xcalloc(size_t n, size_t size)
{
    void *p = n && size ? calloc(n, size) : calloc(1, 1);
    if (!p)
        out_of_memory(size);
    return p;
}

/* As realloc(), or aborts. */
void *xrealloc(void *p, size_t n)
{
    void *q = realloc(p, n ? n : 1);
    if (!q)
        out_of_memory(n);
    return q;
}

/* A terminated copy of len bytes, whatever they are. */
char *xstrndup(const char *s, size_t len)
{
    char *copy = xmalloc(len + 1);
    if (len)
        memcpy(copy, s, len);
    copy[len] = '\0';
    return copy;
}

/* A copy of a terminated string. */
char *xstrdup(const char *s) { return xstrndup(s, strlen(s)); }
