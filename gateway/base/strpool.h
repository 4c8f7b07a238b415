/*
 * Short strings (client ids, topic names) held in pools by size class, addressed by a 32-bit handle. A plain
 * malloc would cost 8 bytes of header each and would not be given back after a storm.
 *
 * A handle is the size class in the upper 5 bits and the id in that class's pool below. Strings may hold any
 * bytes, up to 65,535 of them; the length is stored in the first two bytes of the slot.
 */
#ifndef HOLDFAST_BASE_STRPOOL_H
#define HOLDFAST_BASE_STRPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct strpool;

/* `name` is the prefix of the class pools' names; at most `max` strings altogether per class (large classes
 * hold fewer). */
struct strpool *strpool_new(const char *name, uint32_t max);
void strpool_free(struct strpool *s);

/* Copies the string in; returns its handle, or 0 when there is no room. len <= 65535. The empty string is a
 * string. */
uint32_t strpool_put(struct strpool *s, const char *str, size_t len) __attribute__((warn_unused_result));
void strpool_release(struct strpool *s, uint32_t handle);

/* The bytes (not NUL-terminated) and their count; valid until released. */
const char *strpool_get(const struct strpool *s, uint32_t handle, size_t *len);
bool strpool_equals(const struct strpool *s, uint32_t handle, const char *str, size_t len);

#endif
