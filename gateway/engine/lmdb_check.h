/*
 * A look at an LMDB file before LMDB does: LMDB believes what is in its pages, and a file that was cut short
 * or overwritten makes it crash. Inside the engine only.
 */
#ifndef HOLDFAST_ENGINE_LMDB_CHECK_H
#define HOLDFAST_ENGINE_LMDB_CHECK_H

#include <stdbool.h>
#include <stddef.h>

enum lmdb_check {
    LMDB_CHECK_OK,
    LMDB_CHECK_NEW,     /* there is no file, or an empty one */
    LMDB_CHECK_FOREIGN, /* not an LMDB file, or one of another machine's kind */
    LMDB_CHECK_DAMAGED, /* why says what is wrong */
    LMDB_CHECK_ERROR    /* it cannot be read; errno */
};

/*
 * Looks at the head of the file; with `deep`, or when the file is shorter than its head says, at every page
 * that is in use: each must be what its parent says it is and belong to one parent. Nobody may be writing.
 */
enum lmdb_check lmdb_check_file(const char *file, bool deep, char *why, size_t why_size);

#endif
