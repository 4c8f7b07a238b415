/*
 * The publisher's side of a push service. A message must arrive at those clients that are subscribed at the
 * moment that its stamp says: they have been ready since before, and have not announced to leave before. That
 * decision and the client's own, by the same two times and the stamp, are the same.
 */
#include "gateway/tools/bench/traffic.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/xmalloc.h"
#include "gateway/tools/bench/interrupt.h"
#include "gateway/tools/bench/wire.h"

struct traffic {
    struct run *run;
    const struct population *population;
    uint64_t random;
    uint32_t *member,
        *group_start; /* client numbers by group; group g's are from group_start[g] to [g + 1] */
    uint32_t seq;     /* one for all streams */
    struct traffic_totals totals;
};

/* Fills the table of members: a counting sort by group. */
static void index_groups(struct traffic *t)
{
    const struct population *p = t->population;
    t->group_start = xcalloc(p->groups + 2, sizeof *t->group_start);
    t->member = xcalloc((size_t)p->clients * p->memberships + 1, sizeof *t->member);
    uint32_t *at = t->group_start + 1;
    for (uint32_t i = 0; i < p->clients; i++)
        for (uint32_t k = 0; k < p->memberships; k++)
            at[population_group(p, i, k)]++;
    for (uint32_t g = 0, sum = 0; g < p->groups; g++) {
        uint32_t size = at[g];
        at[g] = sum;
        sum += size;
    }
    for (uint32_t i = 0; i < p->clients; i++)
        for (uint32_t k = 0; k < p->memberships; k++)
            t->member[at[population_group(p, i, k)]++] = i;
}

struct traffic *traffic_new(struct run *r)
{
    struct traffic *t = xcalloc(1, sizeof *t);
    t->run = r;
    t->population = &fleet_options(r->fleet)->population;
    t->random = t->population->seed * 2654435761u + 1;
    index_groups(t);
    return t;
}

void traffic_free(struct traffic *t)
{
    free(t->member);
    free(t->group_start);
    free(t);
}

/* A payload's length: log-normal around the median, cut to the range; or always the same. */
static size_t draw_payload(struct traffic *t)
{
    const struct scenario *s = t->run->scenario;
    if (s->payload_max <= s->payload)
        return (size_t)s->payload;
    double gauss = sqrt(-2 * log(random_unit(&t->random))) * cos(2 * M_PI * random_unit(&t->random));
    double n = (double)s->payload_median * exp(0.9 * gauss);
    if (n < (double)s->payload)
        return (size_t)s->payload;
    return n > (double)s->payload_max ? (size_t)s->payload_max : (size_t)n;
}

/* Notes that a message must arrive at a client, if it must. */
static void expect(struct traffic *t, uint32_t number, uint64_t sent_ns, uint32_t hash)
{
    struct fleet_client *c = fleet_client(t->run->fleet, number);
    uint64_t ready = __atomic_load_n(&c->ready_ns, __ATOMIC_ACQUIRE);
    uint64_t leaving = __atomic_load_n(&c->leaving_ns, __ATOMIC_ACQUIRE);
    if (ready == 0 || sent_ns < ready || (leaving && sent_ns >= leaving))
        return;
    c->expected++;
    c->expected_hash += hash;
    t->totals.wanted++;
}

static bool send_private(struct traffic *t)
{
    uint32_t number = (uint32_t)(random_next(&t->random) % t->population->clients),
             stream = stream_of_client(number);
    uint64_t now = wire_now_ns();
    char topic[96];
    snprintf(topic, sizeof topic, "%s/%u", t->run->scenario->topic, number);
    expect(t, number, now, population_message_hash(stream, ++t->seq));
    t->totals.private_messages++;
    return publisher_send_at(t->run->publisher, topic, draw_payload(t), stream, t->seq, now);
}

static bool send_group(struct traffic *t)
{
    uint32_t group = (uint32_t)(random_next(&t->random) % t->population->groups),
             stream = stream_of_group(group);
    uint64_t now = wire_now_ns();
    char topic[96];
    snprintf(topic, sizeof topic, "%s/g/%u", t->run->scenario->topic, group);
    uint32_t hash = population_message_hash(stream, ++t->seq);
    for (uint32_t i = t->group_start[group]; i < t->group_start[group + 1]; i++)
        expect(t, t->member[i], now, hash);
    t->totals.group_messages++;
    return publisher_send_at(t->run->publisher, topic, draw_payload(t), stream, t->seq, now);
}

static bool send_announcement(struct traffic *t)
{
    uint64_t now = wire_now_ns();
    uint32_t hash = population_message_hash(STREAM_ANNOUNCE, ++t->seq);
    for (uint32_t i = 0; i < t->population->clients; i++)
        expect(t, i, now, hash);
    t->totals.announcements++;
    return publisher_send_at(t->run->publisher, t->run->scenario->topic, draw_payload(t), STREAM_ANNOUNCE,
                             t->seq, now);
}

/* One of the three processes. */
struct source {
    bool (*send)(struct traffic *t);
    double per_second;
    uint64_t next_ns;
};

/* Exponential times between messages make a Poisson process. */
static uint64_t draw_interval(struct traffic *t, const struct source *s)
{
    return (uint64_t)(-log(random_unit(&t->random)) / s->per_second * 1e9);
}

/* The source whose turn is next. */
static struct source *earliest(struct source *s, size_t n)
{
    struct source *first = NULL;
    for (size_t i = 0; i < n; i++)
        if (s[i].per_second > 0 && (!first || s[i].next_ns < first->next_ns))
            first = &s[i];
    return first;
}

/* Waits until a moment, shows progress meanwhile. */
static bool wait_until(struct traffic *t, uint64_t moment, uint64_t *draw)
{
    for (;;) {
        uint64_t now = wire_now_ns();
        if (now >= *draw) {
            run_step(t->run, "messages: %llu private, %llu to groups, %llu to all",
                     (unsigned long long)t->totals.private_messages,
                     (unsigned long long)t->totals.group_messages,
                     (unsigned long long)t->totals.announcements);
            *draw = now + 200000000u;
        }
        if (now >= moment)
            return publisher_hear(t->run->publisher) && !interrupted();
        uint64_t until = moment < *draw ? moment : *draw;
        if (!sleep_ns(until > now ? until - now : 0))
            return false;
    }
}

bool traffic_run(struct traffic *t, uint64_t duration_ms)
{
    const struct scenario *s = t->run->scenario;
    struct source source[] = {
        {send_private, (double)s->private_rate, 0},
        {send_group, s->groups ? (double)s->group_rate / 1000 : 0, 0},
        {send_announcement, s->announce_every_s ? 1.0 / (double)s->announce_every_s : 0, 0}};
    const size_t n = sizeof source / sizeof source[0];
    uint64_t start = wire_now_ns(), end = start + duration_ms * 1000000u, draw = start;
    for (size_t i = 0; i < n; i++)
        source[i].next_ns = start + (source[i].per_second > 0 ? draw_interval(t, &source[i]) : 0);
    for (struct source *next; (next = earliest(source, n)) && next->next_ns < end;) {
        if (!wait_until(t, next->next_ns, &draw))
            return false;
        uint64_t behind = wire_now_ns() - next->next_ns;
        t->totals.behind_ns = behind > t->totals.behind_ns ? behind : t->totals.behind_ns;
        if (!next->send(t)) {
            fprintf(stderr, "%s: the publisher's connection is gone\n", t->run->target->name);
            return false;
        }
        next->next_ns += draw_interval(t, next);
    }
    return wait_until(t, end, &draw);
}

struct traffic_totals traffic_totals(const struct traffic *t) { return t->totals; }
