/*
 * slow: some clients stop reading, messages go on to all. Everyone else must get everything, and the server's
 * memory must stay bounded and come back when the slow ones are gone. They are let read again at the end, to
 * see how many the server kept and what it had kept for them.
 */
#include <math.h>
#include <stdio.h>

#include "gateway/tools/bench/interrupt.h"
#include "gateway/tools/bench/run.h"

struct peak {
    uint64_t user, socket;
};

/* After each broadcast: the largest memory so far. */
static void note_peak(struct run *r, void *arg)
{
    struct peak *p = arg;
    struct memory_reading m;
    memory_read(r, &m);
    if (m.server.user > p->user)
        p->user = m.server.user;
    if (m.kernel.socket_bytes > p->socket)
        p->socket = m.kernel.socket_bytes;
}

static void put_mib(struct run *r, const char *key, const char *label, uint64_t before, uint64_t after)
{
    result_put(r->result, key, label, "MiB", 0, ((double)after - (double)before) / 1048576);
}

/* Counts clients, other than the slow ones, that received exactly all messages. */
static void put_complete(struct run *r, long messages)
{
    struct fleet_answer a;
    fleet_run(r->fleet,
              (struct fleet_command){.op = FLEET_CHECK, .who = FLEET_NOT_SLOW, .value = (uint64_t)messages},
              60000, &a);
    result_put(r->result, "slow.complete", "other clients that got every message", "", 0, (double)a.done);
    result_put(r->result, "slow.incomplete", "other clients that did not", "", RESULT_QUIET,
               (double)a.failed);
}

/* The slow ones read what is there, then leave; the last memory reading is without them. */
static bool release(struct run *r, const struct memory_reading *before)
{
    struct fleet_counters n;
    struct memory_reading m;
    struct fleet_command c = {.op = FLEET_RELEASE, .who = FLEET_SLOW};
    run_step(r, "the slow ones read again");
    if (!fleet_run(r->fleet, c, 60000, NULL) || !sleep_ms((uint64_t)r->scenario->settle_ms + 1000))
        return false;
    fleet_counters(r->fleet, &n);
    result_put(r->result, "slow.closed", "slow clients that the server closed", "", 0, (double)n.held_lost);
    result_put(r->result, "slow.late", "messages that slow clients still got", "", 0,
               (double)n.late_deliveries);
    c.op = FLEET_CLOSE;
    if (!fleet_run(r->fleet, c, 60000, NULL) || !sleep_ms((uint64_t)r->scenario->settle_ms))
        return false;
    memory_read(r, &m);
    if (r->target->tree)
        put_mib(r, "slow.user.final", "user space in all, after them, over idle", before->server.user,
                m.server.user);
    put_mib(r, "slow.socket.final", "socket buffers, after them, over idle", before->kernel.socket_bytes,
            m.kernel.socket_bytes);
    return true;
}

bool kind_slow(struct run *r)
{
    const struct scenario *s = r->scenario;
    struct memory_reading idle;
    struct broadcast_figures f;
    struct peak peak = {0};
    struct fleet_command hold = {.op = FLEET_HOLD, .who = FLEET_SLOW};
    if (!run_open(r, false) || !run_open_publisher(r) || !fleet_run(r->fleet, hold, 60000, NULL))
        return false;
    run_reset_counts(r);
    sleep_ms((uint64_t)s->settle_ms);
    memory_read(r, &idle);
    if (!run_broadcasts(r, s->broadcasts, s->payload, &f, note_peak, &peak))
        return false;
    result_put(r->result, "slow.wanted", "deliveries wanted by the others", "", 0, (double)f.wanted);
    result_put(r->result, "slow.received", "deliveries received by them", "", 0, (double)f.received);
    put_complete(r, s->broadcasts);
    if (!isnan(f.cpu_us))
        result_put(r->result, "slow.cpu", "CPU per delivery", "us", RESULT_RATIO, f.cpu_us);
    if (r->target->tree)
        put_mib(r, "slow.user.peak", "user space in all, peak over idle", idle.server.user, peak.user);
    put_mib(r, "slow.socket.peak", "socket buffers, peak over idle", idle.kernel.socket_bytes, peak.socket);
    if (!release(r, &idle))
        return false;
    run_put_health(r, (uint64_t)(s->connections - s->slow));
    return true;
}
