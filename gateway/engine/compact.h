/*
 * The data file of engine_local, written anew: it grows with what is kept and does not shrink when that is
 * removed, so after a peak most of it may be empty pages. For a data directory that no gateway uses.
 */
#ifndef HOLDFAST_ENGINE_COMPACT_H
#define HOLDFAST_ENGINE_COMPACT_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes of disk that the file took before, and takes now. */
struct compact_sizes {
    uint64_t before, after;
};

/*
 * Writes the file anew beside the old one, checks it, and puts it in the old one's place, so that at any
 * moment one whole file is there, whatever is interrupted. `progress` (or NULL) hears several times a second
 * how many bytes are written. False: nothing has changed, and why[ENGINE_WHY_MAX] says why and what to do.
 */
bool engine_compact(const char *data_dir, void (*progress)(uint64_t bytes), struct compact_sizes *out,
                    char *why);

#endif
