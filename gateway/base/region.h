/*
 * A stretch of address space that is reserved once and opened from its beginning as it is needed: the memory
 * under pools and hash indexes. Nothing in it ever moves.
 *
 * What is not open is PROT_NONE and counts against no limit, also with vm.overcommit_memory=2. What is open
 * and was never touched reads as zero and occupies nothing.
 */
#ifndef HOLDFAST_BASE_REGION_H
#define HOLDFAST_BASE_REGION_H

#include <stdbool.h>
#include <stddef.h>

struct region {
    unsigned char *base;
    size_t size; /* reserved bytes */
    size_t open; /* bytes from base that may be used */
};

#define REGION_STEP 65536 /* bytes opened at once: a system call each */

/* Reserves at least size bytes; aborts if there is no such address space. */
void region_reserve(struct region *r, size_t size);
void region_free(struct region *r);

/* Makes the first `upto` bytes usable. False: the system has no memory for them; nothing has changed. */
bool region_open(struct region *r, size_t upto) __attribute__((warn_unused_result));

/* Gives the whole pages within [from, to) back to the system; they stay open. The caller has zeroed them, so
 * that it does not matter whether the system really took them (it does not take locked memory). */
void region_give_back(const struct region *r, size_t from, size_t to);

#endif
