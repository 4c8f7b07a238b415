/*
 * What clients do by themselves: heartbeats at three quarters of their keepalive, and leaving and returning.
 *
 * Heartbeats need no timer per client: the clients of one keepalive class are visited in turn, evenly over
 * the interval, so that each comes round once per interval, whenever it connected. A client that leaves says
 * so 50 ms before it means it, reads on for a second so that what was sent before has arrived, disconnects,
 * stays away and comes back to the topics it had. Both waits have one length, so two queues in order do for
 * any number of clients.
 */
#include <math.h>
#include <stdlib.h>

#include "gateway/base/xmalloc.h"
#include "gateway/tools/bench/client.h"
#include "gateway/tools/bench/wire.h"

#define LINGER_NS 1000000000u
#define RETRY_NS  1000000000u

void client_queue_push(struct client_queue *q, uint32_t index, uint64_t due_ns)
{
    if (q->count == q->room) {
        struct client_queue bigger = {.room = q->room ? q->room * 2 : 64};
        bigger.entry = xcalloc(bigger.room, sizeof *bigger.entry);
        for (uint32_t i = 0; i < q->count; i++)
            bigger.entry[i] = q->entry[(q->head + i) % q->room];
        bigger.count = q->count;
        free(q->entry);
        *q = bigger;
    }
    uint32_t at = (q->head + q->count++) % q->room;
    q->entry[at].due_ns = due_ns;
    q->entry[at].index = index;
}

bool client_queue_pop(struct client_queue *q, uint64_t now, uint32_t *index, uint64_t *wait)
{
    if (q->count == 0)
        return false;
    uint64_t due = q->entry[q->head].due_ns;
    if (due > now) {
        *wait = due - now < *wait ? due - now : *wait;
        return false;
    }
    *index = q->entry[q->head].index;
    q->head = (q->head + 1) % q->room;
    q->count--;
    return true;
}

void client_background_heartbeats(struct client_process *p, bool on, uint32_t who)
{
    p->background.heartbeats = on;
    p->background.heartbeats_who = who;
    p->background.heartbeats_start_ns = wire_now_ns();
    for (unsigned k = 0; k < POPULATION_CLASSES; k++)
        p->background.sent[k] = 0;
}

/* Time to the next departure: exponential, so that departures are a Poisson process. */
static uint64_t draw_interval(struct client_background *b)
{
    return (uint64_t)(-log(random_unit(&b->random)) * (double)b->leave_interval_ns);
}

void client_background_churn(struct client_process *p, uint64_t per_1000_s, uint64_t away_us)
{
    struct client_background *b = &p->background;
    b->leave_interval_ns = per_1000_s ? 1000000000000u / per_1000_s : 0;
    b->away_ns = away_us * 1000;
    b->next_leave_ns = wire_now_ns() + (b->leave_interval_ns ? draw_interval(b) : 0);
}

/* One that may get its heartbeat now. */
static bool sends_heartbeats(const struct client_process *p, const struct client *c)
{
    return c->state == CLIENT_READY && !(c->flags & CLIENT_SILENT) &&
           client_plays(p, c, p->background.heartbeats_who);
}

/* The heartbeats of one class that are due. Returns the time until the next one. */
static uint64_t pump_class(struct client_process *p, uint32_t class, uint64_t now)
{
    struct client_background *b = &p->background;
    uint64_t keepalive = population_keepalive(&p->options->population, class);
    uint32_t first = (class + POPULATION_CLASSES - p->first % POPULATION_CLASSES) % POPULATION_CLASSES;
    if (keepalive == 0 || first >= p->count)
        return UINT64_MAX;
    uint64_t members = (p->count - first - 1) / POPULATION_CLASSES + 1;
    double each_ns = (double)keepalive * 750000000.0 / (double)members;
    uint64_t due = (uint64_t)((double)(now - b->heartbeats_start_ns) / each_ns);
    while (b->sent[class] < due) {
        struct client *c = &p->client[first + (b->sent[class]++ % members) * POPULATION_CLASSES];
        if (sends_heartbeats(p, c))
            client_ping(p, c);
    }
    double next = (double)b->heartbeats_start_ns + (double)(b->sent[class] + 1) * each_ns - (double)now;
    return next > 1000 ? (uint64_t)next : 1000;
}

/* Picks somebody to leave; gives up when most are not there. */
static void leave_one(struct client_process *p, uint64_t now)
{
    for (unsigned tries = 0; tries < 16; tries++) {
        uint32_t i = (uint32_t)(random_next(&p->background.random) % p->count);
        struct client *c = &p->client[i];
        if (c->state != CLIENT_READY ||
            c->flags & (CLIENT_LEAVING | CLIENT_RETURNING | CLIENT_HELD | CLIENT_SILENT | CLIENT_BUSY) ||
            p->shared[i].ready_ns == 0 || p->shared[i].ready_ns > now)
            continue;
        c->flags |= CLIENT_LEAVING;
        __atomic_store_n(&p->shared[i].leaving_ns, now + FLEET_NOTICE_NS, __ATOMIC_RELEASE);
        client_queue_push(&p->background.leaving, i, now + FLEET_NOTICE_NS + LINGER_NS);
        return;
    }
}

/* Its time is up: DISCONNECT. Whoever was cut off meanwhile comes back all the same. */
static void leave_now(struct client_process *p, uint32_t index, uint64_t now)
{
    struct client *c = &p->client[index];
    char packet[WIRE_MAX_SMALL];
    if (c->state == CLIENT_READY &&
        client_send(p, c, packet, wire_disconnect(packet, sizeof packet, p->options->version)))
        client_shut(p, c, false);
    p->counters->left++;
    client_queue_push(&p->background.away, index, now + p->background.away_ns);
}

void client_background_retry(struct client_process *p, struct client *c)
{
    struct client_queue *q = &p->background.away;
    uint64_t due = wire_now_ns() + RETRY_NS;
    if (q->count && q->entry[(q->head + q->count - 1) % q->room].due_ns > due)
        due = q->entry[(q->head + q->count - 1) % q->room].due_ns;
    client_queue_push(q, (uint32_t)(c - p->client), due);
}

/* Comes back. */
static void return_one(struct client_process *p, uint32_t index)
{
    struct client *c = &p->client[index];
    if (c->state != CLIENT_CLOSED)
        return;
    c->flags |= CLIENT_RETURNING;
    if (!client_open(p, c))
        client_background_retry(p, c);
}

/* Departures and returns that are due. */
static uint64_t pump_churn(struct client_process *p, uint64_t now)
{
    struct client_background *b = &p->background;
    uint64_t wait = UINT64_MAX;
    uint32_t index;
    while (b->leave_interval_ns && b->next_leave_ns <= now) {
        leave_one(p, now);
        b->next_leave_ns += draw_interval(b);
    }
    if (b->leave_interval_ns)
        wait = b->next_leave_ns - now;
    while (client_queue_pop(&b->leaving, now, &index, &wait))
        leave_now(p, index, now);
    while (client_queue_pop(&b->away, now, &index, &wait))
        return_one(p, index);
    return wait;
}

uint64_t client_background_pump(struct client_process *p)
{
    struct client_background *b = &p->background;
    if (!b->heartbeats && !b->leave_interval_ns && !b->leaving.count && !b->away.count)
        return UINT64_MAX;
    uint64_t now = wire_now_ns(), wait = pump_churn(p, now);
    for (uint32_t k = 0; b->heartbeats && k < POPULATION_CLASSES; k++) {
        uint64_t w = pump_class(p, k, now);
        wait = w < wait ? w : wait;
    }
    return wait;
}
