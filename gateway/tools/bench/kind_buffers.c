/*
 * buffers: what socket buffers really cost per connection, whatever their limits are: idle, after a push that
 * was read and acknowledged, with a push that the client has not read, and with as much as the sockets take.
 * Three measures: what TCP accounts (sockstat), slab growth, and how much less memory the machine has.
 */
#include <stdio.h>

#include "gateway/tools/bench/interrupt.h"
#include "gateway/tools/bench/run.h"

/* Puts the growth since the start of the run, per connection, both ends. */
static bool put_moment(struct run *r, const char *key, const char *label)
{
    struct memory_reading m;
    char name[96], text[128];
    double n = (double)r->scenario->connections;
    if (!sleep_ms((uint64_t)r->scenario->settle_ms))
        return false;
    memory_read(r, &m);
    struct {
        const char *key, *label;
        double bytes;
    } row[] = {
        {"socket", "TCP buffers accounted",
         (double)m.kernel.socket_bytes - (double)r->start.kernel.socket_bytes},
        {"slab", "slab", (double)m.kernel.slab_bytes - (double)r->start.kernel.slab_bytes},
        {"server", "server's user space", (double)m.server.user - (double)r->start.server.user},
        {"machine", "the machine's memory in all",
         (double)r->start.kernel.available_bytes - (double)m.kernel.available_bytes},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        snprintf(name, sizeof name, "buffers.%s.%s", key, row[i].key);
        snprintf(text, sizeof text, "%s: %s", label, row[i].label);
        result_put(r->result, name, text, "bytes", 0, row[i].bytes / n);
    }
    return true;
}

/* One message that everybody reads. */
static bool one_read_push(struct run *r)
{
    struct broadcast_figures b;
    run_step(r, "one push, read by all");
    return run_broadcasts(r, 1, r->scenario->payload, &b, NULL, NULL) &&
           put_moment(r, "acked", "one push, read");
}

/* One message that nobody reads, then as many as fill everything. */
static bool unread_pushes(struct run *r)
{
    const struct scenario *s = r->scenario;
    struct fleet_command hold = {.op = FLEET_HOLD};
    run_step(r, "one push, unread");
    if (!fleet_run(r->fleet, hold, 60000, NULL) ||
        !publisher_send(r->publisher, s->topic, (size_t)s->payload, 0, r->next_seq++) ||
        !put_moment(r, "unread", "one push, unread"))
        return false;
    run_step(r, "%ld pushes of %ld bytes, unread", s->broadcasts, s->payload_2);
    for (long i = 0; i < s->broadcasts && !interrupted(); i++)
        if (!publisher_send(r->publisher, s->topic, (size_t)s->payload_2, 0, r->next_seq++) ||
            !sleep_ms((uint64_t)s->gap_ms))
            return false;
    return put_moment(r, "full", "full backlog");
}

bool kind_buffers(struct run *r)
{
    if (!run_open(r, false) || !run_open_publisher(r))
        return false;
    run_reset_counts(r);
    if (!put_moment(r, "idle", "idle") || !one_read_push(r) || !unread_pushes(r))
        return false;
    result_note(
        r->result,
        "all numbers are bytes per connection, both ends, over the state before the first connection");
    run_put_health(r, (uint64_t)r->scenario->connections);
    return true;
}
