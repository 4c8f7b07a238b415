/*
 * Whether this machine lets a scenario run, asked before the first connection, in the words of `holdfast
 * doctor`.
 */
#ifndef HOLDFAST_BENCH_LIMITS_H
#define HOLDFAST_BENCH_LIMITS_H

#include <stdbool.h>
#include <stdio.h>

#include "gateway/tools/bench/scenario.h"
#include "gateway/tools/bench/target.h"

/*
 * Checks a scenario against each target and writes what has to be fixed, and what is worth knowing, to `out`.
 * May lower s->per_process to what the descriptor limit allows. False: the scenario cannot be carried
 * through.
 */
bool limits_check(struct scenario *s, struct target *const *target, size_t targets, FILE *out);

/* Source addresses: this many clients share one, so one address has to have so many ports. */
#define LIMITS_CLIENTS_PER_ADDRESS 5000u

#endif
