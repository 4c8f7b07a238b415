/*
 * Prices connections. Fed with a struct machine and, if somebody measured, with what was measured; its lines
 * are printed by the reports and its sum judged by checks.c. It predicts idle connections: what unread data
 * adds depends on the clients and is said in the checks of tcp_mem and of the buffers.
 */
#include "gateway/tools/doctor/cost.h"

#include <stdio.h>
#include <string.h>

#include "gateway/tools/doctor/cost_model.h"

struct kernel_row {
    enum slab_cache cache;
    double fallback; /* bytes with slab waste; 0: only where the machine shows the cache */
    bool charged;    /* its objects are charged to the memory cgroup */
};

static const struct kernel_row kernel_rows[] = {
    {SLAB_TCP, COST_TCP, true},
    {SLAB_SOCK_INODE, COST_SOCK_INODE, true},
    {SLAB_FILP, COST_FILP, true},
    {SLAB_DENTRY, COST_DENTRY, true},
    {SLAB_EPOLL_ITEM, COST_EPOLL_ITEM, true},
    {SLAB_EPOLL_WAIT, COST_EPOLL_WAIT, true},
    {SLAB_EPOLL_HEAD, COST_EPOLL_HEAD, true},
    {SLAB_LSM_INODE, 0, false},
    {SLAB_LSM_FILE, 0, false},
};
#define KERNEL_ROWS (sizeof kernel_rows / sizeof kernel_rows[0])

struct user_row {
    const char *name;
    double bytes;
    const char *from;
};

static const struct user_row user_rows[] = {
#define X(name, bytes, from) {name, bytes, from},
    COST_USER_RECORDS(X)
#undef X
};

static const char *const layer_names[] = {"kernel", "user space", "fixed"};
const char *cost_layer_name(enum cost_layer l) { return layer_names[l]; }

/* One more line; what does not fit in the table would be a bug of the tables above, so it is merged. */
static void add(struct cost *c, enum cost_layer layer, const char *name, double per_connection, double bytes,
                const char *from)
{
    struct cost_line *line = &c->line[c->lines < COST_MAX_LINES ? c->lines++ : COST_MAX_LINES - 1];
    line->layer = layer;
    snprintf(line->name, sizeof line->name, "%s", name);
    snprintf(line->from, sizeof line->from, "%s", from);
    line->per_connection += per_connection;
    line->bytes += bytes;
    if (layer != COST_FIXED)
        c->layer_per_connection[layer] += per_connection;
    c->layer_bytes[layer] += bytes;
    c->bytes += bytes;
}

/* A line that grows with the connections. */
static void add_each(struct cost *c, const struct cost_input *in, enum cost_layer layer, const char *name,
                     double per_connection, const char *from)
{
    if (per_connection > 0)
        add(c, layer, name, per_connection, per_connection * (double)in->connections, from);
}

/* The object and its part of the slab's unused rest. */
double cost_object_bytes(const struct machine *m, const struct slab *s)
{
    if (s->source == SLAB_UNKNOWN)
        return 0;
    return (double)s->pages * m->page_size / s->per_slab;
}

/* What kmalloc() hands out for n bytes. */
static double kmalloc_size(double n)
{
    static const unsigned sizes[] = {8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (n <= sizes[i])
            return sizes[i];
    return n;
}

/* Each slab of a charged cache has an array with one pointer per object. */
static double charge_bytes(const struct slab *s)
{
    return s->source == SLAB_UNKNOWN ? 0 : kmalloc_size(COST_CHARGE_SLOT * (double)s->per_slab) / s->per_slab;
}

/* "slabinfo: 2,368 bytes, 13 in 32 KiB". */
static void describe_slab(const struct machine *m, const struct slab *s, char *text, size_t size)
{
    if (s->source == SLAB_UNKNOWN)
        snprintf(text, size, "not readable here; measured on Linux 6.18");
    else
        snprintf(text, size, "%s: objects of %u bytes, %u in %u KiB",
                 s->source == SLAB_FROM_SLABINFO ? "slabinfo" : "sysfs (merged cache)", s->object_size,
                 s->per_slab, s->pages * m->page_size / 1024);
}

/* The kernel's share from object sizes. */
static void predict_kernel(const struct machine *m, const struct cost_input *in, struct cost *out)
{
    double charges = 0;
    bool sizes_known = false;
    for (size_t i = 0; i < KERNEL_ROWS; i++) {
        const struct kernel_row *row = &kernel_rows[i];
        enum slab_cache cache = row->cache == SLAB_TCP && in->ipv6 ? SLAB_TCP6 : row->cache;
        const struct slab *s = &m->slab[cache];
        double bytes = s->source != SLAB_UNKNOWN ? cost_object_bytes(m, s)
                       : cache == SLAB_TCP6      ? COST_TCP6
                                                 : row->fallback;
        char from[96];
        describe_slab(m, s, from, sizeof from);
        add_each(out, in, COST_KERNEL, slab_cache_name(cache), bytes, from);
        charges += row->charged ? charge_bytes(s) : 0;
        sizes_known |= s->source != SLAB_UNKNOWN;
    }
    if (m->memcg_charges)
        add_each(out, in, COST_KERNEL, "cgroup charges", sizes_known ? charges : COST_CHARGES,
                 "one pointer per charged object, an array per slab");
    if (m->lsm_socket)
        add_each(out, in, COST_KERNEL, "security module", COST_LSM_SOCKET, "one small object per socket");
}

/* The kernel's share as it was measured. */
static void take_measured(const struct cost_input *in, struct cost *out)
{
    char from[96];
    snprintf(from, sizeof from, "measured with %u connections on loopback", in->measured->connections);
    if (!in->measured->by_cache)
        add_each(out, in, COST_KERNEL, "all caches", in->measured->per_connection, from);
    for (unsigned i = 0; in->measured->by_cache && i < in->measured->caches; i++)
        add_each(out, in, COST_KERNEL, in->measured->cache[i].name, in->measured->cache[i].per_connection,
                 from);
}

/* Entries of connection tracking, where it follows anything. */
static void predict_conntrack(const struct machine *m, const struct cost_input *in, struct cost *out)
{
    if (!cost_conntrack_active(m))
        return;
    double bytes = cost_object_bytes(m, &m->slab[SLAB_CONNTRACK]);
    char from[96];
    describe_slab(m, &m->slab[SLAB_CONNTRACK], from, sizeof from);
    add_each(out, in, COST_KERNEL, "nf_conntrack", bytes > 0 ? bytes : COST_CONNTRACK, from);
    add_each(out, in, COST_KERNEL, "nf_conntrack extensions", COST_CONNTRACK_X,
             "NAT, accounting, labels: at most 128 bytes as a rule");
}

/* Bytes of a process's descriptor table: powers of two of slots, two bits each for open and close-on-exec. */
static double fd_table_bytes(uint64_t descriptors)
{
    uint64_t slots = 256;
    while (slots < descriptors)
        slots *= 2;
    return (double)slots * COST_FD_SLOT + (double)slots / 4;
}

/* What does not depend on the connections but on the processes. */
static void predict_fixed(const struct cost_input *in, struct cost *out)
{
    double workers = in->workers;
    uint64_t each = in->connections / (in->workers > 0 ? in->workers : 1) + 64;
    add(out, COST_FIXED, "descriptor tables", 0, workers * fd_table_bytes(each),
        "8 bytes per slot, powers of two");
    add(out, COST_FIXED, "workers", 0, workers * COST_WORKER_USER, "an empty worker's own memory");
    add(out, COST_FIXED, "hub and supervisor", 0, COST_HUB_USER + COST_SUPERVISOR_USER,
        "with the libraries that all processes share");
    add(out, COST_FIXED, "processes in the kernel", 0, (workers + 2) * COST_PROCESS_KERNEL,
        "stack, page tables, task");
}

/* All lines and sums. */
void cost_predict(const struct machine *m, const struct cost_input *in, struct cost *out)
{
    memset(out, 0, sizeof *out);
    if (in->measured != NULL)
        take_measured(in, out);
    else
        predict_kernel(m, in, out);
    predict_conntrack(m, in, out);
    for (size_t i = 0; i < sizeof user_rows / sizeof user_rows[0]; i++)
        add_each(out, in, COST_USER, user_rows[i].name, user_rows[i].bytes, user_rows[i].from);
    add_each(out, in, COST_USER, "TLS keys", COST_TLS_KEYS * in->tls,
             "136 bytes for AES-128-GCM, times the share of TLS");
    predict_fixed(in, out);
}

/* The module may be there without a rule that uses it; then it tracks nothing and costs nothing. */
bool cost_conntrack_active(const struct machine *m)
{
    if (!value_known(m->fact[FACT_CONNTRACK_MAX]))
        return false;
    return m->fact[FACT_CONNTRACK_COUNT].n > 0 || m->slab[SLAB_CONNTRACK].active > 0;
}

/* What is free for the gateway: the machine's or its cgroup's, less a reserve. */
struct cost_room cost_room(const struct machine *m)
{
    struct cost_room r = {0};
    struct value available = m->fact[FACT_MEM_AVAILABLE], total = m->fact[FACT_MEM_TOTAL];
    if (available.state != VALUE_NUMBER)
        available = m->fact[FACT_MEM_FREE];
    double room = available.state == VALUE_NUMBER ? (double)available.n * 1024 : -1;
    double all = total.state == VALUE_NUMBER ? (double)total.n * 1024 : room;
    if (m->cgroup.limit.state == VALUE_NUMBER) {
        double limit = (double)m->cgroup.limit.n, used = (double)m->cgroup.used;
        double left = limit > used ? limit - used : 0;
        if (room < 0 || left < room) {
            r.cgroup = true;
            room = left;
            all = limit;
        }
    }
    r.known = room >= 0;
    if (!r.known)
        return r;
    r.available = room;
    r.reserve = all * COST_RESERVE_PERCENT / 100;
    if (r.reserve < (double)COST_RESERVE_MIN)
        r.reserve = (double)COST_RESERVE_MIN;
    if (r.reserve > room / 4)
        r.reserve = room / 4;
    return r;
}
