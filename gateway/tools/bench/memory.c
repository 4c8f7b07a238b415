/*
 * Memory by layer: user space of the server's processes, kernel slab by cache, socket buffers; per
 * connection, as growth since before the first one. Both ends of a loopback connection are on this machine,
 * so a cache of which there are two objects per connection is counted half for the server.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "gateway/tools/bench/run.h"

#define LISTED_CACHES 14
#define LISTED_BYTES  16 /* per connection: less is noise of the rest of the machine */

void memory_read(struct run *r, struct memory_reading *m)
{
    memset(m, 0, sizeof *m);
    if (r->target->tree)
        proctree_memory(r->target->tree, &m->server);
    if (r->bench)
        proctree_memory(r->bench, &m->bench);
    kernelmem_read(&m->kernel);
}

/* Growth of a reading per connection. */
static double per_connection(const struct run *r, uint64_t before, uint64_t after)
{
    return ((double)after - (double)before) / (double)r->scenario->connections;
}

double memory_user_growth(const struct run *r, const struct memory_reading *a, const struct memory_reading *b)
{
    return r->target->tree ? per_connection(r, a->server.user, b->server.user) : NAN;
}

/* Slab by cache and in all, the server's part of it. Returns bytes per connection. */
static double put_slab(struct run *r, const char *prefix, const char *when, const struct memory_reading *m)
{
    struct kernelmem_growth g[LISTED_CACHES];
    double sum = 0, n = (double)r->scenario->connections;
    unsigned count =
        kernelmem_growth(&r->start.kernel, &m->kernel, (int64_t)(LISTED_BYTES * n), g, LISTED_CACHES);
    for (unsigned i = 0; i < count; i++) {
        char key[128], label[128];
        double each = (double)g[i].objects / n, share = each >= 1.5 ? 0.5 : 1;
        double bytes = (double)g[i].bytes / n * share;
        sum += bytes;
        snprintf(key, sizeof key, "%s.slab.%s", prefix, g[i].name);
        snprintf(label, sizeof label, "  slab %s, %s", g[i].name, when);
        result_put(r->result, key, label, "bytes", 0, bytes);
    }
    return sum;
}

void memory_put(struct run *r, const char *prefix, const char *when, const struct memory_reading *m)
{
    char key[128], label[128];
    struct {
        const char *key, *label;
        double value;
        bool measured;
    } row[] = {
        {"user", "user space per connection", memory_user_growth(r, &r->start, m), r->target->tree != NULL},
        {"pss", "  Pss per connection", per_connection(r, r->start.server.pss, m->server.pss),
         r->target->tree != NULL},
        {"rss", "  Rss per connection", per_connection(r, r->start.server.rss, m->server.rss),
         r->target->tree != NULL},
        {"bench", "  (the bench's own user space, in all)", per_connection(r, 0, m->bench.user), true},
        {"socket", "socket buffers, both ends",
         per_connection(r, r->start.kernel.socket_bytes, m->kernel.socket_bytes), true},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        snprintf(key, sizeof key, "%s.%s", prefix, row[i].key);
        snprintf(label, sizeof label, "%s, %s", row[i].label, when);
        if (row[i].measured)
            result_put(r->result, key, label, "bytes", 0, row[i].value);
    }
    if (!m->kernel.has_slab) {
        result_note(r->result,
                    "kernel memory by cache is not shown: /proc/slabinfo can be read by root only");
        return;
    }
    double slab = put_slab(r, prefix, when, m);
    snprintf(key, sizeof key, "%s.slab", prefix);
    snprintf(label, sizeof label, "kernel slab per connection, %s", when);
    result_put(r->result, key, label, "bytes", 0, slab);
    double user = memory_user_growth(r, &r->start, m);
    snprintf(key, sizeof key, "%s.overhead", prefix);
    snprintf(label, sizeof label, "kernel and user space, of the kernel's own, %s", when);
    if (!isnan(user) && slab > 0)
        result_put(r->result, key, label, "x", 0, (slab + user) / slab);
    result_note(r->result,
                "kernel slab: both ends of a connection are on this machine; a cache with two objects per "
                "connection is counted half, as the server's share");
}
