/*
 * Roles, keepalive classes and group memberships by number. Nothing is stored per client: everything is
 * computed again when it is asked for, in the coordinator and in the client processes alike.
 */
#include "gateway/tools/bench/population.h"

#include <math.h>

#include "gateway/base/check.h"
#include "gateway/base/xmalloc.h"

uint64_t random_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

double random_unit(uint64_t *state) { return ((double)(random_next(state) >> 11) + 1.0) * 0x1.0p-53; }

uint32_t population_message_hash(uint32_t stream, uint32_t seq)
{
    uint64_t x = ((uint64_t)stream << 32) ^ seq;
    return (uint32_t)(random_next(&x) >> 32);
}

void population_prepare(struct population *p, double exponent)
{
    if (p->groups == 0)
        return;
    CHECK(p->groups <= POPULATION_MAX_GROUPS && p->memberships <= POPULATION_MAX_MEMBERSHIPS);
    double sum = 0;
    p->group_share = xcalloc(p->groups, sizeof *p->group_share);
    for (uint32_t i = 0; i < p->groups; i++)
        p->group_share[i] = sum += 1 / pow(i + 1, exponent);
    for (uint32_t i = 0; i < p->groups; i++)
        p->group_share[i] /= sum;
}

/* Whether `number` is one of k evenly spread out of n. */
static bool is_spread(uint64_t number, uint64_t k, uint64_t n)
{
    return k && number * k / n != (number + 1) * k / n;
}

bool population_is_slow(const struct population *p, uint32_t number)
{
    return is_spread(number, p->slow, p->clients);
}

/* Spread over those that are not slow, by their rank among themselves. */
bool population_is_silent(const struct population *p, uint32_t number)
{
    uint64_t slow_before = (uint64_t)number * p->slow / p->clients;
    return !population_is_slow(p, number) && is_spread(number - slow_before, p->silent, p->clients - p->slow);
}

bool population_is_mover(const struct population *p, uint32_t number)
{
    if (p->movers_apart)
        return number < p->movers;
    return is_spread((number + p->clients / 3) % p->clients, p->movers, p->clients);
}

uint32_t population_class(uint32_t number) { return number % POPULATION_CLASSES; }

uint16_t population_keepalive(const struct population *p, uint32_t class)
{
    if (p->keepalive_max_s <= p->keepalive_s)
        return p->keepalive_s;
    return (uint16_t)(p->keepalive_s +
                      (uint32_t)(p->keepalive_max_s - p->keepalive_s) * class / (POPULATION_CLASSES - 1));
}

/* Draws a group from the cumulated shares. */
static uint32_t draw_group(const struct population *p, double u)
{
    uint32_t low = 0, high = p->groups - 1;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (p->group_share[middle] < u)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint32_t population_group(const struct population *p, uint32_t number, uint32_t k)
{
    uint32_t chosen[POPULATION_MAX_MEMBERSHIPS];
    uint64_t state = p->seed ^ ((uint64_t)number << 20);
    for (uint32_t i = 0; i <= k; i++) {
        chosen[i] = draw_group(p, random_unit(&state));
        for (uint32_t j = 0; j < i; j++) {
            if (chosen[j] == chosen[i]) { /* taken: the next one, compared with all again */
                chosen[i] = (chosen[i] + 1) % p->groups;
                j = UINT32_MAX;
            }
        }
    }
    return chosen[k];
}
