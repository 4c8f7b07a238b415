/*
 * What the kernel holds for sockets: slab caches from /proc/slabinfo (root only), socket buffer memory from
 * /proc/net/sockstat, of the whole machine. A difference of two readings is what happened in between, whoever
 * did it.
 */
#ifndef HOLDFAST_BENCH_KERNELMEM_H
#define HOLDFAST_BENCH_KERNELMEM_H

#include <stdbool.h>
#include <stdint.h>

#define KERNELMEM_CACHES 512

struct kernelmem_cache {
    char name[32];
    uint64_t objects; /* in use */
    uint32_t share;   /* bytes that one object takes, its part of the slab's pages included */
};

struct kernelmem {
    bool has_slab; /* /proc/slabinfo was readable */
    unsigned caches;
    struct kernelmem_cache cache[KERNELMEM_CACHES];
    uint64_t socket_bytes; /* "mem" of TCP: pages charged to socket buffers */
    uint64_t tcp_inuse, tcp_tw, tcp_orphan;
    uint64_t slab_bytes;      /* Slab of /proc/meminfo */
    uint64_t available_bytes; /* MemAvailable */
};

/* Reads everything. */
void kernelmem_read(struct kernelmem *k);

/* Growth of a cache by its place in `after`, in objects and bytes (may be negative). */
struct kernelmem_growth {
    const char *name;
    int64_t objects, bytes;
};
/* The caches that grew by at least min_bytes, largest first; at most `cap`; returns how many. */
unsigned kernelmem_growth(const struct kernelmem *before, const struct kernelmem *after, int64_t min_bytes,
                          struct kernelmem_growth *out, unsigned cap);

#endif
