/*
 * From what all workers of a gateway derive the same session ticket keys without telling each other: a secret
 * that steps forward, by a one-way function, once per rotation period of the monotonic clock. Each process
 * steps its own copy and forgets the one before, so the tickets of the past stay closed to who takes the
 * present.
 */
#ifndef HOLDFAST_BASE_TICKET_SEED_H
#define HOLDFAST_BASE_TICKET_SEED_H

#include <stdint.h>

#define TICKET_SEED_LEN 32

struct ticket_seed {
    uint64_t period; /* clock_ms() / rotation that `secret` belongs to */
    uint8_t secret[TICKET_SEED_LEN];
};

/* A new random one for this period. */
void ticket_seed_init(struct ticket_seed *s, uint64_t period);
/* Steps forward to the period; nothing when it is there already. */
void ticket_seed_advance(struct ticket_seed *s, uint64_t period);

#endif
