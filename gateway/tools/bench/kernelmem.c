/*
 * Readers of /proc files about kernel memory. An object is charged its part of the slab's pages, so that what
 * the allocator cannot use is counted too; pages of partly empty slabs are not, since they depend on what was
 * there before.
 */
#include "gateway/tools/bench/kernelmem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One line of /proc/slabinfo (version 2.1). */
static bool read_cache(const char *line, struct kernelmem_cache *c)
{
    unsigned long long active, total;
    unsigned size, per_slab, pages;
    if (sscanf(line, "%31s %llu %llu %u %u %u", c->name, &active, &total, &size, &per_slab, &pages) != 6)
        return false;
    c->objects = active;
    c->share = per_slab ? (uint32_t)((uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE) / per_slab) : size;
    return true;
}

static void read_slab(struct kernelmem *k)
{
    char line[512];
    FILE *f = fopen("/proc/slabinfo", "re");
    if (!f)
        return;
    while (k->caches < KERNELMEM_CACHES && fgets(line, sizeof line, f))
        if (read_cache(line, &k->cache[k->caches]))
            k->caches++;
    fclose(f);
    k->has_slab = k->caches > 0;
}

static void read_sockstat(struct kernelmem *k)
{
    char line[256];
    unsigned long long inuse, orphan, tw, alloc, mem;
    FILE *f = fopen("/proc/net/sockstat", "re");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "TCP: inuse %llu orphan %llu tw %llu alloc %llu mem %llu", &inuse, &orphan, &tw,
                   &alloc, &mem) != 5)
            continue;
        k->tcp_inuse = inuse;
        k->tcp_orphan = orphan;
        k->tcp_tw = tw;
        k->socket_bytes = mem * (uint64_t)sysconf(_SC_PAGESIZE);
    }
    if (f)
        fclose(f);
}

static void read_meminfo(struct kernelmem *k)
{
    char line[256];
    unsigned long long kb;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "Slab: %llu", &kb) == 1)
            k->slab_bytes = kb * 1024;
        if (sscanf(line, "MemAvailable: %llu", &kb) == 1)
            k->available_bytes = kb * 1024;
    }
    if (f)
        fclose(f);
}

void kernelmem_read(struct kernelmem *k)
{
    memset(k, 0, sizeof *k);
    read_slab(k);
    read_sockstat(k);
    read_meminfo(k);
}

/* The reading of a cache by name; usually at the same place. */
static const struct kernelmem_cache *find(const struct kernelmem *k, const char *name, unsigned hint)
{
    if (hint < k->caches && strcmp(k->cache[hint].name, name) == 0)
        return &k->cache[hint];
    for (unsigned i = 0; i < k->caches; i++)
        if (strcmp(k->cache[i].name, name) == 0)
            return &k->cache[i];
    return NULL;
}

static int by_bytes_descending(const void *a, const void *b)
{
    const struct kernelmem_growth *x = a, *y = b;
    return x->bytes < y->bytes ? 1 : x->bytes > y->bytes ? -1 : 0;
}

/* Caches of files and of /proc itself: whoever looks at processes, as we do, makes them grow. */
static bool is_unrelated(const char *name)
{
    static const char *const prefix[] = {"proc_inode",  "ext4_",      "btrfs_",  "xfs_",
                                         "buffer_head", "radix_tree", "jbd2_",   "inode_cache",
                                         "shmem_inode", "kernfs_",    "ftrace_", "trace_"};
    for (size_t i = 0; i < sizeof prefix / sizeof prefix[0]; i++)
        if (strncmp(name, prefix[i], strlen(prefix[i])) == 0)
            return true;
    return false;
}

/* Growth of the inodes of /proc; each brings a directory entry and a security blob that are no socket's. */
static int64_t proc_inodes(const struct kernelmem *before, const struct kernelmem *after)
{
    const struct kernelmem_cache *a = find(after, "proc_inode_cache", 0),
                                 *b = find(before, "proc_inode_cache", 0);
    int64_t n = a && b ? (int64_t)a->objects - (int64_t)b->objects : 0;
    return n > 0 ? n : 0;
}

unsigned kernelmem_growth(const struct kernelmem *before, const struct kernelmem *after, int64_t min_bytes,
                          struct kernelmem_growth *out, unsigned cap)
{
    struct kernelmem_growth all[KERNELMEM_CACHES];
    int64_t proc = proc_inodes(before, after);
    unsigned n = 0;
    for (unsigned i = 0; i < after->caches; i++) {
        const struct kernelmem_cache *a = &after->cache[i], *b = find(before, a->name, i);
        int64_t objects = (int64_t)a->objects - (b ? (int64_t)b->objects : 0);
        if (strcmp(a->name, "dentry") == 0 || strcmp(a->name, "lsm_inode_cache") == 0)
            objects -= proc;
        int64_t bytes = objects * (int64_t)a->share;
        if (bytes >= min_bytes && !is_unrelated(a->name))
            all[n++] = (struct kernelmem_growth){a->name, objects, bytes};
    }
    qsort(all, n, sizeof *all, by_bytes_descending);
    n = n < cap ? n : cap;
    memcpy(out, all, n * sizeof *out);
    return n;
}
