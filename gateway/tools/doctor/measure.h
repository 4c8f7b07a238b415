/*
 * Measures what the kernel takes for one accepted connection by opening some on loopback, both ends in this
 * process, and comparing the slab caches before and after.
 */
#ifndef HOLDFAST_DOCTOR_MEASURE_H
#define HOLDFAST_DOCTOR_MEASURE_H

#include <stdbool.h>

#include "gateway/tools/doctor/machine.h"

#define MEASURE_MAX_CACHES 32

struct measurement {
    unsigned connections;
    bool by_cache; /* false: only the total is known, because /proc/slabinfo cannot be read */
    struct {
        char name[64];
        double per_connection; /* bytes for the server's end */
    } cache[MEASURE_MAX_CACHES];
    unsigned caches;
    double per_connection; /* bytes for the server's end, all caches */
};

/* Returns 0, or -1 with the reason in `error`. Reads the caches of `m`, which must be the running machine. */
int measure_connections(const struct machine *m, bool ipv6, struct measurement *out, char *error,
                        size_t error_size);

#endif
