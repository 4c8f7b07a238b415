/*
 * What the coordinator wants done by many clients: a job walks the clients in order, starts each within a
 * window of so many unanswered ones or at its time when it is spread, and answers when the last one has done
 * it. One job runs at a time. A row of the table says whom a job is for and how it starts one.
 */
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/tools/bench/client.h"
#include "gateway/tools/bench/wire.h"

#define DEFAULT_WINDOW 256u

enum start_result { STARTED, DONE, FAILED };

struct job_kind {
    uint8_t state; /* clients in this state */
    enum start_result (*start)(struct client_process *p, struct client *c);
};

/* With a value: back to its topics at once, as a device that lost its connection. */
static enum start_result start_connect(struct client_process *p, struct client *c)
{
    if (p->job.command.value)
        c->flags |= CLIENT_RETURNING;
    return client_open(p, c) ? STARTED : FAILED;
}

/* In and out again. With a value: with the ticket of the last time, if there is one. */
static enum start_result start_handshake(struct client_process *p, struct client *c)
{
    return client_open(p, c) ? STARTED : FAILED;
}

static enum start_result start_subscribe(struct client_process *p, struct client *c)
{
    return client_subscribe(p, c, (unsigned)p->job.command.value) ? STARTED : FAILED;
}

static enum start_result start_heartbeat(struct client_process *p, struct client *c)
{
    return client_ping(p, c) ? STARTED : FAILED;
}

/* The last sign of life. */
static enum start_result start_silence(struct client_process *p, struct client *c)
{
    if (!client_ping(p, c))
        return FAILED;
    c->flags |= CLIENT_SILENT;
    p->shared[c - p->client].leaving_ns = wire_now_ns();
    return DONE;
}

static enum start_result start_hold(struct client_process *p, struct client *c)
{
    c->flags |= CLIENT_HELD | CLIENT_WAS_HELD;
    p->shared[c - p->client].leaving_ns = wire_now_ns();
    client_watch(p, c, false);
    return DONE;
}

static enum start_result start_release(struct client_process *p, struct client *c)
{
    c->flags &= (uint8_t)~CLIENT_HELD;
    client_watch(p, c, true);
    return DONE;
}

static enum start_result start_close(struct client_process *p, struct client *c)
{
    char packet[WIRE_MAX_SMALL];
    size_t n = wire_disconnect(packet, sizeof packet, p->options->version);
    if (!client_send(p, c, packet, n))
        return FAILED;
    client_shut(p, c, false);
    return DONE;
}

static enum start_result start_reset(struct client_process *p, struct client *c)
{
    client_shut(p, c, true);
    return DONE;
}

static const struct job_kind job_kinds[] = {
    [FLEET_CONNECT] = {CLIENT_CLOSED, start_connect},     [FLEET_SUBSCRIBE] = {CLIENT_READY, start_subscribe},
    [FLEET_HEARTBEAT] = {CLIENT_READY, start_heartbeat},  [FLEET_HOLD] = {CLIENT_READY, start_hold},
    [FLEET_RELEASE] = {CLIENT_READY, start_release},      [FLEET_SILENCE] = {CLIENT_READY, start_silence},
    [FLEET_CLOSE] = {CLIENT_READY, start_close},          [FLEET_RESET_PEER] = {CLIENT_READY, start_reset},
    [FLEET_HANDSHAKE] = {CLIENT_CLOSED, start_handshake},
};

bool client_plays(const struct client_process *p, const struct client *c, uint32_t who)
{
    const struct population *all = &p->options->population;
    uint32_t number = client_number(p, c);
    switch (who) {
    case FLEET_SLOW:
        return population_is_slow(all, number);
    case FLEET_NOT_SLOW:
        return !population_is_slow(all, number);
    case FLEET_SILENT:
        return population_is_silent(all, number);
    case FLEET_MOVERS:
        return population_is_mover(all, number);
    case FLEET_NOT_MOVERS:
        return !population_is_mover(all, number);
    default:
        return true;
    }
}

/* Whether the command is for this client. */
static bool concerns(const struct client_process *p, const struct client *c,
                     const struct fleet_command *command)
{
    return c->state == job_kinds[command->op].state && client_plays(p, c, command->who);
}

/* How many clients the command is for. */
static uint32_t count_concerned(const struct client_process *p, const struct fleet_command *command)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->count; i++)
        n += concerns(p, &p->client[i], command);
    return n;
}

/* Everything of the deliveries starts anew. */
static void reset_sequence(struct client_process *p, const struct fleet_command *command)
{
    struct fleet_counters *n = p->counters;
    for (uint32_t i = 0; i < p->count; i++) {
        p->client[i].next_seq = (uint32_t)command->value;
        p->client[i].received = p->client[i].hash = 0;
    }
    n->acknowledged = n->resumed_sessions = 0;
    n->deliveries = n->late_deliveries = n->uncounted = n->gaps = n->duplicates = n->foreign = 0;
    n->heartbeats = n->answers = 0;
    memset(&n->latency, 0, sizeof n->latency);
    memset(&n->answer_latency, 0, sizeof n->answer_latency);
    memset(&n->connect_latency, 0, sizeof n->connect_latency);
    memset(&n->handshake_latency, 0, sizeof n->handshake_latency);
    n->handshakes = n->offered = n->resumed = 0;
    client_answer(p, &(struct fleet_answer){.number = command->number});
}

/* Sets the number of deliveries at which the coordinator wants to hear from us. */
static void set_goal(struct client_process *p, const struct fleet_command *command)
{
    uint64_t readers = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        const struct client *c = &p->client[i];
        readers += c->state == CLIENT_READY && c->flags & CLIENT_SUBSCRIBED && !(c->flags & CLIENT_WAS_HELD);
    }
    p->goal_number = command->number;
    p->goal = readers ? p->counters->deliveries + readers * command->value : 0;
    p->goal_acknowledged = command->qos ? p->counters->acknowledged + readers * command->value : 0;
    client_answer(p, &(struct fleet_answer){.number = command->number, .done = readers * command->value});
    if (p->goal == 0)
        client_answer(p, &(struct fleet_answer){.number = command->number, .reached = 1});
}

/* Clients, of those that the command is for, that received exactly what they should. */
static void check_received(struct client_process *p, const struct fleet_command *command)
{
    struct fleet_answer a = {.number = command->number};
    for (uint32_t i = 0; i < p->count; i++) {
        const struct client *c = &p->client[i];
        if (!client_plays(p, c, command->who))
            continue;
        if (c->received == command->value)
            a.done++;
        else
            a.failed++;
    }
    client_answer(p, &a);
}

/* The same, against what the coordinator noted for each. */
static void verify_received(struct client_process *p, const struct fleet_command *command)
{
    struct fleet_answer a = {.number = command->number};
    for (uint32_t i = 0; i < p->count; i++) {
        const struct client *c = &p->client[i];
        const struct fleet_client *s = &p->shared[i];
        if (!client_plays(p, c, command->who))
            continue;
        if (c->received == s->expected && c->hash == s->expected_hash)
            a.done++;
        else
            a.failed++;
        a.missing += s->expected > c->received ? s->expected - c->received : 0;
        a.excess += c->received > s->expected ? c->received - s->expected : 0;
    }
    client_answer(p, &a);
}

static void set_keepalive(struct client_process *p, const struct fleet_command *command)
{
    client_background_heartbeats(p, command->value, command->who);
    client_answer(p, &(struct fleet_answer){.number = command->number});
}

static void set_churn(struct client_process *p, const struct fleet_command *command)
{
    client_background_churn(p, command->value, command->over_us);
    client_answer(p, &(struct fleet_answer){.number = command->number});
}

/* Commands that are done at once. */
static void (*const at_once[])(struct client_process *p, const struct fleet_command *command) = {
    [FLEET_SEQUENCE] = reset_sequence, [FLEET_EXPECT] = set_goal,         [FLEET_CHECK] = check_received,
    [FLEET_VERIFY] = verify_received,  [FLEET_KEEPALIVE] = set_keepalive, [FLEET_CHURN] = set_churn,
};

/* Does it at once, or starts a job. */
void client_job_start(struct client_process *p, const struct fleet_command *command)
{
    if (command->op < sizeof at_once / sizeof at_once[0] && at_once[command->op]) {
        at_once[command->op](p, command);
        return;
    }
    CHECK(command->op < sizeof job_kinds / sizeof job_kinds[0] && job_kinds[command->op].start);
    for (uint32_t i = 0; i < p->count; i++)
        p->client[i].flags &= (uint8_t)~CLIENT_BUSY; /* of a job that was given up */
    p->job = (struct client_job){.command = *command, .running = true, .start_ns = wire_now_ns()};
    p->job.eligible = count_concerned(p, command);
    if (p->job.command.window == 0)
        p->job.command.window = DEFAULT_WINDOW;
}

void client_job_done(struct client_process *p, struct client *c, bool ok)
{
    c->flags &= (uint8_t)~CLIENT_BUSY;
    p->job.busy--;
    if (ok)
        p->job.done++;
    else
        p->job.failed++;
}

/* Starts the job's next client. */
static void start_one(struct client_process *p, struct client *c)
{
    struct client_job *j = &p->job;
    j->started++;
    c->flags |= CLIENT_BUSY;
    j->busy++;
    enum start_result r = job_kinds[j->command.op].start(p, c);
    if (r != STARTED && c->flags & CLIENT_BUSY)
        client_job_done(p, c, r == DONE);
}

/* When the client that is next is due, for a job that is spread. */
static uint64_t due_ns(const struct client_job *j)
{
    if (j->command.over_us == 0 || j->eligible == 0)
        return 0;
    return j->start_ns + (uint64_t)((double)j->command.over_us * 1000.0 * j->started / j->eligible);
}

uint64_t client_job_pump(struct client_process *p)
{
    struct client_job *j = &p->job;
    if (!j->running)
        return UINT64_MAX;
    /* One that reconnects after it failed is not started twice: `next` only goes up. */
    while (j->next < p->count && (j->command.over_us || j->busy < j->command.window)) {
        struct client *c = &p->client[j->next];
        if (!concerns(p, c, &j->command)) {
            j->next++;
            continue;
        }
        uint64_t due = due_ns(j), now = due ? wire_now_ns() : 0;
        if (due > now)
            return due - now;
        j->next++;
        start_one(p, c);
    }
    if (j->next == p->count && j->busy == 0) {
        j->running = false;
        if (p->tls.client)
            malloc_trim(0); /* of handshakes nothing shall be left */
        client_answer(
            p, &(struct fleet_answer){.number = j->command.number, .done = j->done, .failed = j->failed});
    }
    return UINT64_MAX;
}
