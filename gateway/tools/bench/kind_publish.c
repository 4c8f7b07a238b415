/*
 * publish: how many messages per second are acknowledged to publishers of which each waits for one answer
 * before it sends its next message: to one publisher, then to many at once. Nobody subscribes. What the disk
 * under the server does for a plain file, an fdatasync(2) after each message, stands beside it.
 */
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "gateway/base/xmalloc.h"
#include "gateway/tools/bench/disk.h"
#include "gateway/tools/bench/interrupt.h"
#include "gateway/tools/bench/run.h"
#include "gateway/tools/bench/wire.h"

#define PATIENCE_MS 30000 /* for an answer */

/* One of the two phases. */
struct phase {
    const char *key;
    unsigned publishers;
    struct publisher **publisher;
    uint64_t *sent_ns; /* of each one's latest message */
    struct pollfd *fds;
    uint64_t acknowledged, refused;
    double seconds;
    double cpu_us, bench_us; /* of the server; of this process */
    struct histogram latency;
};

/* Connects them. */
static bool open_phase(struct run *r, struct phase *x)
{
    x->publisher = xcalloc(x->publishers, sizeof *x->publisher);
    x->sent_ns = xcalloc(x->publishers, sizeof *x->sent_ns);
    x->fds = xcalloc(x->publishers, sizeof *x->fds);
    for (unsigned i = 0; i < x->publishers; i++) {
        x->publisher[i] = run_new_publisher(r, i);
        if (!x->publisher[i])
            return false;
        x->fds[i] = (struct pollfd){.fd = publisher_fd(x->publisher[i]), .events = POLLIN};
    }
    return true;
}

static void close_phase(struct phase *x)
{
    for (unsigned i = 0; x->publisher && i < x->publishers; i++)
        publisher_free(x->publisher[i]);
    free(x->publisher);
    free(x->sent_ns);
    free(x->fds);
}

/* The next message of one publisher, on a topic of its own. */
static bool send_next(struct run *r, struct phase *x, unsigned i)
{
    const struct scenario *s = r->scenario;
    char topic[96];
    snprintf(topic, sizeof topic, "%s/p/%u", s->topic, i);
    x->sent_ns[i] = wire_now_ns();
    return publisher_send_at(x->publisher[i], topic, (size_t)s->payload, STREAM_ANNOUNCE, r->next_seq++,
                             x->sent_ns[i]);
}

/* Something came for one of them. */
static bool hear(struct run *r, struct phase *x, unsigned i, uint64_t end, unsigned *waiting)
{
    if (!publisher_take(x->publisher[i]))
        return false;
    if (publisher_in_flight(x->publisher[i]))
        return true;
    uint64_t now = wire_now_ns();
    x->acknowledged++;
    histogram_record(&x->latency, now - x->sent_ns[i]);
    if (now < end)
        return send_next(r, x, i);
    --*waiting;
    return true;
}

/* Until the time is over and everybody has the last answer. */
static bool publish(struct run *r, struct phase *x)
{
    uint64_t end = wire_now_ns() + (uint64_t)r->scenario->duration_s * 1000000000u;
    unsigned waiting = x->publishers;
    for (unsigned i = 0; i < x->publishers; i++)
        if (!send_next(r, x, i))
            return false;
    while (waiting && !interrupted()) {
        int ready = poll(x->fds, x->publishers, PATIENCE_MS);
        if (ready == 0)
            return false;
        for (unsigned i = 0; ready > 0 && i < x->publishers; i++)
            if (x->fds[i].revents && publisher_in_flight(x->publisher[i]) && !hear(r, x, i, end, &waiting))
                return false;
    }
    return true;
}

/* Microseconds of CPU of this process, which is where the publishers are. */
static double own_cpu_us(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* Puts one value. */
static void put(struct run *r, const struct phase *x, const char *key_end, const char *label,
                const char *unit, unsigned flags, double value)
{
    char key[64], text[96];
    snprintf(key, sizeof key, "publish.%s.%s", x->key, key_end);
    snprintf(text, sizeof text, "%s, %u publisher%s", label, x->publishers, x->publishers == 1 ? "" : "s");
    result_put(r->result, key, text, unit, flags, value);
}

static bool run_phase(struct run *r, struct phase *x)
{
    char prefix[64];
    run_step(r, "%u publishing for %ld s", x->publishers, r->scenario->duration_s);
    bool ok = open_phase(r, x);
    double cpu = run_server_cpu_us(r), bench = own_cpu_us();
    uint64_t start = wire_now_ns();
    ok = ok && publish(r, x);
    x->seconds = (double)(wire_now_ns() - start) / 1e9;
    x->bench_us = own_cpu_us() - bench;
    run_rest(r);
    x->cpu_us = run_server_cpu_us(r) - cpu;
    for (unsigned i = 0; ok && i < x->publishers; i++)
        x->refused += publisher_refused(x->publisher[i]);
    close_phase(x);
    if (!ok) {
        if (!interrupted())
            fprintf(stderr, "%s: a publisher lost its connection or got no answer\n", r->target->name);
        return false;
    }
    put(r, x, "rate", "acknowledged per second", "/s", 0, (double)x->acknowledged / x->seconds);
    put(r, x, "refused", "refused", "", RESULT_QUIET, (double)x->refused);
    double n = (double)(x->acknowledged ? x->acknowledged : 1);
    if (!isnan(x->cpu_us))
        put(r, x, "cpu", "CPU per message", "us", 0, x->cpu_us / n);
    put(r, x, "cpu.bench", "  (the bench's own)", "us", 0, x->bench_us / n);
    snprintf(prefix, sizeof prefix, "publish.%s", x->key);
    run_put_latency(r, prefix, &x->latency);
    return !interrupted();
}

bool kind_publish(struct run *r)
{
    struct phase one = {.key = "one", .publishers = 1};
    struct phase many = {.key = "many", .publishers = (unsigned)r->scenario->publishers};
    double plain = r->target->dir[0] ? disk_sync_rate(r->target->dir, (size_t)r->scenario->payload) : NAN;
    if (r->qos == 0) {
        fprintf(stderr, "%s: nothing is acknowledged with QoS 0: set qos\n", r->scenario->name);
        return false;
    }
    if (!run_phase(r, &one) || !run_phase(r, &many))
        return false;
    double rate = (double)many.acknowledged / many.seconds;
    result_put(r->result, "publish.ratio", "many, of one", "x", 0,
               rate / ((double)one.acknowledged / one.seconds));
    if (isnan(plain))
        return true;
    result_put(r->result, "publish.plain.rate", "a plain file on the same disk: fdatasync per second", "/s",
               0, plain);
    result_put(r->result, "publish.of_plain", "many, of that", "x", 0, rate / plain);
    return true;
}
