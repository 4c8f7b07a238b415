/*
 * The numbers of the memory prediction that cannot be read from the machine, all in one place. Bytes.
 *
 * Per connection: what the gateway's pools hold for an idle MQTT client with one subscription. Each row is
 * the size of a pool's record or the share of an index; tests/unit/test_doctor.c has the sum.
 * Layers may not include each other's records, so the sizes are repeated here and must follow them.
 */
#ifndef HOLDFAST_DOCTOR_COST_MODEL_H
#define HOLDFAST_DOCTOR_COST_MODEL_H

/* X(name, bytes per connection, where it comes from) */
#define COST_USER_RECORDS(X)                                                                                 \
    X("connection record", 44, "struct conn in gateway/net/conn.h")                                          \
    X("session", 32, "struct session in gateway/session/session.h")                                          \
    X("client id", 24, "string class of gateway/base/strpool.c for ids of 19 to 22 bytes")                   \
    X("client id index", 4, "one bucket of gateway/base/hash_index.h")                                       \
    X("subscription", 20, "struct sub in gateway/topic/topic_tree.c")                                        \
    X("hub's registry", 24, "struct registry_record in gateway/engine/registry.c and its bucket")            \
    X("pool bitmaps", 1, "one bit per record, five records")

/* Both directions' secret, key, IV and sequence number, AES-128-GCM, times the share of TLS. */
#define COST_TLS_KEYS 136

/*
 * Per process: what a process that holds nothing has to itself, measured with 15,000 clients coming and
 * going: the worker's 144 KiB at the start and the first pages of its pools and heap, the hub's 92 KiB and
 * pools, and with the supervisor the program and libraries that all of them share.
 */
#define COST_WORKER_USER     (256u << 10)
#define COST_HUB_USER        (256u << 10)
#define COST_SUPERVISOR_USER (2048u << 10)
/* What the kernel keeps per process. Measured with idle processes: 16 KiB stack, 44 KiB page tables, 23 KiB
 * slab, and more page tables for a larger map. */
#define COST_PROCESS_KERNEL (128u << 10)

/*
 * Kernel objects of one connection for machines whose slab sizes cannot be read. Measured on Linux 6.18,
 * x86-64, with the unused rest of each slab shared out: 2,368-byte TCP objects, 13 in 32 KiB, are 2,521 bytes
 * each. `filp` is 256 before Linux 6.10 and 192 since.
 */
#define COST_TCP         2521
#define COST_TCP6        2521
#define COST_SOCK_INODE  862
#define COST_FILP        256
#define COST_DENTRY      195
#define COST_EPOLL_ITEM  128
#define COST_EPOLL_WAIT  64
#define COST_EPOLL_HEAD  16
#define COST_LSM_SOCKET  32  /* AppArmor, SELinux and Smack: one small allocation per socket */
#define COST_CHARGES     64  /* pointers to the cgroup that objects are charged to; no slab sizes known */
#define COST_CONNTRACK   320 /* one tracked connection */
#define COST_CONNTRACK_X 128 /* its extensions, when it has some: NAT, accounting, labels */
#define COST_CHARGE_SLOT 8   /* pointer to the cgroup per object, one array per slab */
#define COST_FD_SLOT     8   /* entry of a process's descriptor table, which grows in powers of two */

/*
 * Memory of a socket buffer with one small message in it: the kernel accounts whole pages, and a message of
 * up to about 1.4 KB occupies one head of 576 bytes or 2 KiB and a 256-byte sk_buff.
 */
#define COST_UNREAD_PAGE 4096

/* Kept free for everything else: this share of the memory, and at least so much. */
#define COST_RESERVE_PERCENT 5
#define COST_RESERVE_MIN     (256ull << 20)

#endif
