/*
 * What a push service sends: private messages, messages to groups, announcements, each a Poisson process,
 * with payloads of realistic sizes; and for every client the sum of what must arrive there.
 */
#ifndef HOLDFAST_BENCH_TRAFFIC_H
#define HOLDFAST_BENCH_TRAFFIC_H

#include "gateway/tools/bench/run.h"

struct traffic;

struct traffic_totals {
    uint64_t private_messages, group_messages, announcements;
    uint64_t wanted;    /* deliveries */
    uint64_t behind_ns; /* the largest delay of a publish against its plan */
};

struct traffic *traffic_new(struct run *r);
void traffic_free(struct traffic *t);

/* Publishes for so long. False: the publisher's connection is gone, or interrupted. */
bool traffic_run(struct traffic *t, uint64_t duration_ms);
struct traffic_totals traffic_totals(const struct traffic *t);

#endif
