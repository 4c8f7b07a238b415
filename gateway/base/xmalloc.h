/*
 * Allocation that succeeds or aborts, for small things whose size we choose ourselves. Anything sized by
 * a peer is capped before it comes here.
 */
#ifndef HOLDFAST_BASE_XMALLOC_H
#define HOLDFAST_BASE_XMALLOC_H

#include <stddef.h>

/* Uninitialised memory of n bytes. Never returns NULL. */
void *xmalloc(size_t n) __attribute__((malloc, returns_nonnull));

/* Zeroed memory for n objects of size bytes. Aborts on overflow too. */
void *xcalloc(size_t n, size_t size) __attribute__((malloc, returns_nonnull));

/* As realloc(); frees nothing on failure because it does not fail. */
void *xrealloc(void *p, size_t n) __attribute__((returns_nonnull));

/* A NUL-terminated copy of the len bytes at s. */
char *xstrndup(const char *s, size_t len) __attribute__((malloc, returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));

#endif
