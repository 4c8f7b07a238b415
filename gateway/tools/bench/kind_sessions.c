/*
 * sessions: what it costs an idle client that its session outlives the connection. The server is started
 * twice, with nothing kept: once all clients connect with sessions that end with them, once with sessions
 * that do not, and everything else is the same. Memory is read when all are subscribed, and again some time
 * after broadcasts, of which nothing may be left in memory.
 */
#include <stdio.h>

#include "gateway/tools/bench/interrupt.h"
#include "gateway/tools/bench/run.h"

/* One of the two starts; bytes of user space per connection. */
struct start {
    const char *key, *label;
    double idle, later;
    uint64_t wanted, received, acknowledged;
};

/* Waits and reads. */
static bool settled_growth(struct run *r, double *bytes)
{
    struct memory_reading m;
    run_step(r, "letting memory settle");
    if (!sleep_ms((uint64_t)r->scenario->settle_ms))
        return false;
    run_rest(r);
    memory_read(r, &m);
    *bytes = memory_user_growth(r, &r->start, &m);
    return true;
}

static void put(struct run *r, const struct start *x, const char *key_end, const char *label,
                const char *unit, unsigned flags, double value)
{
    char key[64], text[128];
    snprintf(key, sizeof key, "sessions.%s.%s", x->key, key_end);
    snprintf(text, sizeof text, "%s: %s", x->label, label);
    result_put(r->result, key, text, unit, flags, value);
}

/* Everything after the server's start. */
static bool measure(struct run *r, struct start *x)
{
    const struct scenario *s = r->scenario;
    struct broadcast_figures b;
    if (!run_open(r, false) || !settled_growth(r, &x->idle))
        return false;
    run_reset_counts(r);
    if (!run_open_publisher(r) || !run_broadcasts(r, s->broadcasts, s->payload, &b, NULL, NULL) ||
        !settled_growth(r, &x->later))
        return false;
    put(r, x, "user", "user space per connection", "bytes", 0, x->idle);
    put(r, x, "later.user", "the same after broadcasts", "bytes", 0, x->later);
    put(r, x, "wanted", "deliveries wanted", "", 0, (double)b.wanted);
    put(r, x, "received", "deliveries received", "", 0, (double)b.received);
    put(r, x, "missing", "deliveries missing", "", RESULT_QUIET, (double)b.wanted - (double)b.received);
    if (r->qos)
        put(r, x, "acknowledged", "deliveries acknowledged", "", 0, (double)b.acknowledged);
    run_put_health(r, (uint64_t)s->connections);
    return true;
}

bool kind_sessions(struct run *r)
{
    struct start clean = {.key = "clean", .label = "clean"};
    struct start persistent = {.key = "persistent", .label = "persistent"};
    if (r->target->kind != TARGET_COMMAND) {
        fprintf(stderr, "%s: this kind starts its server twice: expected a command\n", r->target->name);
        return false;
    }
    if ((r->options.persistent && !run_start_anew(r, false)) || !measure(r, &clean) ||
        !run_start_anew(r, true) || !measure(r, &persistent))
        return false;
    result_put(r->result, "sessions.extra", "user space more per persistent session", "bytes", 0,
               persistent.idle - clean.idle);
    result_put(r->result, "sessions.later.extra", "the same after broadcasts, of both", "bytes", 0,
               persistent.later - clean.later);
    return true;
}
