/*
 * buffers: what socket buffers really cost per connection, whatever their limits are: idle, after a push that
 * was read and acknowledged, with a push that the client has not read, and with as much as the sockets take.
 * The kernel is asked socket by socket, for both ends; the machine's own sum of TCP stands beside it, and
 * what the server holds in user space because the sockets took no more.
 */
#include <arpa/inet.h>
#include <stdio.h>

#include "gateway/tools/bench/interrupt.h"
#include "gateway/tools/bench/run.h"
#include "gateway/tools/bench/sockmem.h"

/* Puts one value per connection. */
static void put(struct run *r, const char *key, const char *key_end, const char *label, const char *label_end,
                unsigned flags, double value)
{
    char name[96], text[128];
    snprintf(name, sizeof name, "buffers.%s.%s", key, key_end);
    snprintf(text, sizeof text, "%s: %s", label, label_end);
    result_put(r->result, name, text, "bytes", flags, value);
}

/* What the sockets of one end hold, each. */
static void put_end(struct run *r, const char *key, const char *label, const char *end,
                    const struct sockmem_end *m)
{
    const struct {
        const char *key, *label;
        uint64_t bytes;
        unsigned flags;
    } row[] = {{"receive", "received, not read", m->receive, RESULT_QUIET},
               {"send", "sent, not acknowledged", m->send, RESULT_QUIET},
               {"reserved", "charged beyond the data", m->reserved, RESULT_QUIET},
               {"charged", "charged in all", m->receive + m->send + m->reserved, 0}};
    for (size_t i = 0; m->sockets && i < sizeof row / sizeof row[0]; i++) {
        char key_end[48], label_end[64];
        snprintf(key_end, sizeof key_end, "%s.%s", end, row[i].key);
        snprintf(label_end, sizeof label_end, "%s, %s", end, row[i].label);
        put(r, key, key_end, label, label_end, row[i].flags, (double)row[i].bytes / (double)m->sockets);
    }
}

/* Puts what each connection holds at this moment. */
static bool put_moment(struct run *r, const char *key, const char *label)
{
    struct memory_reading m;
    struct sockmem_end server, client;
    double n = (double)r->scenario->connections;
    if (!sleep_ms((uint64_t)r->scenario->settle_ms))
        return false;
    memory_read(r, &m);
    if (sockmem_read(ntohs(r->target->address.sin_port), publisher_port(r->publisher), &server, &client)) {
        put_end(r, key, label, "server", &server);
        put_end(r, key, label, "client", &client);
    } else {
        result_note(r->result, "%s: the kernel does not tell the memory of single sockets (inet_diag)",
                    r->target->name);
    }
    put(r, key, "socket", label, "TCP accounting of the machine", 0,
        ((double)m.kernel.socket_bytes - (double)r->start.kernel.socket_bytes) / n);
    if (r->target->tree)
        put(r, key, "user", label, "server's user space", 0, memory_user_growth(r, &r->start, &m));
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
        !publisher_await(r->publisher, 0) || !put_moment(r, "unread", "one push, unread"))
        return false;
    run_step(r, "%ld pushes of %ld bytes, unread", s->broadcasts, s->payload_2);
    for (long i = 0; i < s->broadcasts && !interrupted(); i++)
        if (!publisher_send(r->publisher, s->topic, (size_t)s->payload_2, 0, r->next_seq++) ||
            !publisher_await(r->publisher, 0) || !sleep_ms((uint64_t)s->gap_ms))
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
        "all numbers are bytes per connection. Rows of server and client: what the kernel charges to the "
        "sockets of that end, data with the overhead of its packets; it charges whole pages of 4096, so "
        "that charged in all = data + what is charged beyond it. The user space and the machine's TCP "
        "accounting are growth since before the first connection; the latter is both ends of all "
        "connections, and processors keep up to 1 MiB each of it in advance");
    run_put_health(r, (uint64_t)r->scenario->connections);
    return true;
}
