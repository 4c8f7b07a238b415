/*
 * What a machine says about itself: numbers out of /proc, /sys and /etc below a root folder, so that a
 * recorded tree is read exactly like the machine it came from. Reads only; judges nothing.
 */
#ifndef HOLDFAST_DOCTOR_MACHINE_H
#define HOLDFAST_DOCTOR_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One number as found. "max", "unlimited", "infinity" and what is above 64 bits are all VALUE_UNLIMITED. */
enum value_state { VALUE_MISSING, VALUE_MALFORMED, VALUE_NUMBER, VALUE_UNLIMITED };
struct value {
    enum value_state state;
    uint64_t n; /* VALUE_UNLIMITED: UINT64_MAX; neither number nor unlimited: 0 */
};

/* Numbers that stand in a file: after a key at the start of a line, the field-th word. Who needs others adds
 * a row to the table in machine.c. */
enum fact {
    FACT_FILE_MAX,
    FACT_FILES_IN_USE,
    FACT_NR_OPEN,
    FACT_EPOLL_WATCHES,
    FACT_NOFILE_SOFT,
    FACT_NOFILE_HARD,
    FACT_PROCESSES_HARD,
    FACT_ADDRESS_SPACE,
    FACT_SOMAXCONN,
    FACT_SYN_BACKLOG,
    FACT_SYNCOOKIES,
    FACT_NETDEV_BACKLOG,
    FACT_TCP_MEM_LOW,
    FACT_TCP_MEM_PRESSURE,
    FACT_TCP_MEM_HIGH,
    FACT_TCP_RMEM_MIN,
    FACT_TCP_RMEM_DEFAULT,
    FACT_TCP_RMEM_MAX,
    FACT_TCP_WMEM_MIN,
    FACT_TCP_WMEM_DEFAULT,
    FACT_TCP_WMEM_MAX,
    FACT_RMEM_MAX,
    FACT_WMEM_MAX,
    FACT_CONNTRACK_MAX,
    FACT_CONNTRACK_BUCKETS,
    FACT_CONNTRACK_COUNT,
    FACT_CONNTRACK_TIMEOUT,
    FACT_MAX_ORPHANS,
    FACT_MAX_TW_BUCKETS,
    FACT_FIN_TIMEOUT,
    FACT_PORT_FIRST,
    FACT_PORT_LAST,
    FACT_EHASH_ENTRIES,
    FACT_PID_MAX,
    FACT_OVERCOMMIT,
    FACT_MEM_TOTAL,     /* KiB, as the other FACT_MEM_ */
    FACT_MEM_AVAILABLE, /* KiB */
    FACT_MEM_FREE,      /* KiB; for kernels without MemAvailable */
    FACT_COMMIT_LIMIT,  /* KiB */
    FACT_COMMITTED,     /* KiB */
    FACT_SLAB,          /* KiB */
    FACT_PAGE_SIZE,     /* KiB */
    FACT_MEMCG_ENABLED, /* 1 where /proc/cgroups lists the memory controller */
    FACT_COUNT
};

/* The kernel's caches that a connection takes objects from. */
enum slab_cache {
    SLAB_TCP,
    SLAB_TCP6,
    SLAB_SOCK_INODE,
    SLAB_FILP,
    SLAB_DENTRY,
    SLAB_EPOLL_ITEM,
    SLAB_EPOLL_WAIT,
    SLAB_EPOLL_HEAD,
    SLAB_LSM_INODE,
    SLAB_LSM_FILE,
    SLAB_CONNTRACK,
    SLAB_CACHES
};

/* Where a cache's object size was found. */
enum slab_source {
    SLAB_UNKNOWN,       /* nowhere: the cost model's own number stands in */
    SLAB_FROM_SLABINFO, /* /proc/slabinfo, under its own name */
    SLAB_FROM_SYSFS     /* /sys/kernel/slab: merged with a cache of another name */
};
struct slab {
    enum slab_source source;
    uint32_t object_size; /* bytes, with padding */
    uint32_t per_slab;    /* objects in a slab */
    uint32_t pages;       /* of a slab */
    uint64_t active;      /* objects in use; SLAB_FROM_SLABINFO only */
};

/* The tightest memory limit between this process's cgroup and the top. */
struct cgroup_memory {
    unsigned version;   /* 1 or 2; 0: no memory cgroup was found */
    struct value limit; /* bytes */
    uint64_t used;      /* bytes charged at that level, without cache that can be dropped */
    char path[640];     /* the file the limit is in */
};

/* nofile entries in limits.conf and systemd's. `where` names the file of the one that counts; "" : none. */
struct nofile_setting {
    struct value soft, hard;
    char where[256];
};

#define MACHINE_ROOT_MAX 1024

struct machine {
    char root[MACHINE_ROOT_MAX]; /* "" or a folder without a slash at the end */
    struct value fact[FACT_COUNT];
    struct slab slab[SLAB_CACHES];
    bool slabinfo; /* /proc/slabinfo could be read */
    struct cgroup_memory cgroup;
    struct nofile_setting pam_everybody; /* limits.conf for domain "*" */
    struct nofile_setting pam_account;   /* limits.conf for the account "holdfast" */
    bool systemd;
    struct nofile_setting systemd_default; /* DefaultLimitNOFILE */
    struct nofile_setting systemd_unit;    /* LimitNOFILE of holdfast.service */
    unsigned cores;
    unsigned page_size; /* bytes */
    bool cpuinfo;       /* /proc/cpuinfo could be read */
    bool aes;
    bool memcg_charges; /* kernel objects are charged to memory cgroups */
    bool lsm_socket;    /* a security module keeps something per socket */
    bool softnet;       /* /proc/net/softnet_stat could be read */
    uint64_t softnet_dropped;
    char kernel[64]; /* release, "" when unknown */
};

/* Fills *m from the tree at root. Nothing that is missing is an error. */
void machine_read(struct machine *m, const char *root);

/* A decimal number, or one of the words for "no limit"; for everything that reads a number from a text. */
struct value value_parse(const char *text, size_t len);
/* Whether a number or "unlimited" is known. */
bool value_known(struct value v);
/* Known and at least n. */
bool value_at_least(struct value v, uint64_t n);

/*
 * The whole of a file below the root, NUL-terminated, at most MACHINE_FILE_MAX bytes of it; NULL when it
 * cannot be read. To be freed.
 */
#define MACHINE_FILE_MAX (4u << 20)
char *machine_file(const struct machine *m, const char *path);

/* Calls fn for each cache in /proc/slabinfo. False: it cannot be read. */
bool machine_each_slab(const struct machine *m, void (*fn)(void *ctx, const char *name, const struct slab *s),
                       void *ctx);
const char *slab_cache_name(enum slab_cache c);

/* machine_nofile.c: fills pam_everybody, pam_account and the systemd members. */
void machine_read_nofile(struct machine *m);
/* machine_cgroup.c: fills cgroup. */
void machine_read_cgroup(struct machine *m);

#endif
