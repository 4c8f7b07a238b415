/*
 * Who the clients are: their roles, keepalives and groups, each a function of the client's number and a seed,
 * so that the coordinator and the client processes agree without telling each other.
 */
#ifndef HOLDFAST_BENCH_POPULATION_H
#define HOLDFAST_BENCH_POPULATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POPULATION_CLASSES         8 /* of keepalives */
#define POPULATION_MAX_GROUPS      4096
#define POPULATION_MAX_MEMBERSHIPS 4

struct population {
    uint32_t clients;
    uint64_t seed;
    uint32_t slow, silent, movers; /* how many play these roles */
    bool movers_apart;             /* movers are the first clients, in processes of their own that give way */
    uint16_t keepalive_s,
        keepalive_max_s;          /* the classes are spread between them; max 0: all have the first */
    uint32_t groups, memberships; /* topics besides the common one, and in how many of them a client is */
    double *group_share;          /* cumulated, by group; NULL until population_prepare() */
};

/* Computes the group sizes: the k-th largest group is drawn in proportion to 1 / k^exponent (Zipf). */
void population_prepare(struct population *p, double exponent);

/* Roles. Each is spread evenly over all clients, but movers that are apart. A slow client reads nothing; a
 * silent one sends no heartbeats; a mover leaves and comes back when told. A client is not slow and silent at
 * the same time. */
bool population_is_slow(const struct population *p, uint32_t number);
bool population_is_silent(const struct population *p, uint32_t number);
bool population_is_mover(const struct population *p, uint32_t number);

uint32_t population_class(uint32_t number);
uint16_t population_keepalive(const struct population *p, uint32_t class);

/* The client's k-th group, k < memberships; all of them differ. */
uint32_t population_group(const struct population *p, uint32_t number, uint32_t k);

/* Streams of messages (wire_stamp): one per client, one per group, one for announcements. */
#define STREAM_COMMON   0u
#define STREAM_ANNOUNCE 0xffffffffu
static inline uint32_t stream_of_client(uint32_t number) { return number + 1; }
static inline uint32_t stream_of_group(uint32_t group) { return 0x80000000u + group; }

/* A number that tells messages apart, for a sum over what was received. */
uint32_t population_message_hash(uint32_t stream, uint32_t seq);

/* Random numbers of a seeded generator (splitmix64). */
uint64_t random_next(uint64_t *state);
double random_unit(uint64_t *state); /* 0 < x <= 1 */

#endif
