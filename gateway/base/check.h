/*
 * Assertions that state our own bugs and stay on in every build. A peer's mistake is never one of them.
 */
#ifndef HOLDFAST_BASE_CHECK_H
#define HOLDFAST_BASE_CHECK_H

/* Prints where and what, then aborts. */
_Noreturn void check_failed(const char *file, int line, const char *expr);

#define CHECK(expr) ((expr) ? (void)0 : check_failed(__FILE__, __LINE__, #expr))

/*
 * Re-types the void pointer at the door of a callback: the object's first member is `uint32_t magic`.
 * Use: struct worker *w = CHECK_CAST(ptr, struct worker, WORKER_MAGIC);
 */
#define CHECK_CAST(ptr, type, magic_value)                                                                   \
    ((type *)check_cast_((ptr), (magic_value), __FILE__, __LINE__, #type))
void *check_cast_(void *ptr, unsigned magic, const char *file, int line, const char *type);

#endif
