/*
 * Reads the numbers of struct machine. Fed with a root folder; what it found is judged by checks.c and
 * priced by cost.c. One table says which number stands in which file. A file that is missing, empty, odd or
 * not ours to read leaves its value missing or malformed; nothing here knows what a good value is.
 */
#include "gateway/tools/doctor/machine.h"

#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/xmalloc.h"

#define PATH_BYTES (MACHINE_ROOT_MAX + 512)

struct fact_row {
    const char *path;
    const char *key; /* the line begins with it; "" : the first line */
    unsigned field;  /* word after the key, from 0 */
};

#define IPV4      "/proc/sys/net/ipv4/"
#define CONNTRACK "/proc/sys/net/netfilter/nf_conntrack_"
#define LIMITS    "/proc/self/limits"
#define MEMINFO   "/proc/meminfo"

static const struct fact_row fact_rows[FACT_COUNT] = {
    [FACT_FILE_MAX] = {"/proc/sys/fs/file-max", "", 0},
    [FACT_FILES_IN_USE] = {"/proc/sys/fs/file-nr", "", 0},
    [FACT_NR_OPEN] = {"/proc/sys/fs/nr_open", "", 0},
    [FACT_EPOLL_WATCHES] = {"/proc/sys/fs/epoll/max_user_watches", "", 0},
    [FACT_NOFILE_SOFT] = {LIMITS, "Max open files", 0},
    [FACT_NOFILE_HARD] = {LIMITS, "Max open files", 1},
    [FACT_PROCESSES_HARD] = {LIMITS, "Max processes", 1},
    [FACT_ADDRESS_SPACE] = {LIMITS, "Max address space", 0},
    [FACT_SOMAXCONN] = {"/proc/sys/net/core/somaxconn", "", 0},
    [FACT_SYN_BACKLOG] = {IPV4 "tcp_max_syn_backlog", "", 0},
    [FACT_SYNCOOKIES] = {IPV4 "tcp_syncookies", "", 0},
    [FACT_NETDEV_BACKLOG] = {"/proc/sys/net/core/netdev_max_backlog", "", 0},
    [FACT_TCP_MEM_LOW] = {IPV4 "tcp_mem", "", 0},
    [FACT_TCP_MEM_PRESSURE] = {IPV4 "tcp_mem", "", 1},
    [FACT_TCP_MEM_HIGH] = {IPV4 "tcp_mem", "", 2},
    [FACT_TCP_RMEM_MIN] = {IPV4 "tcp_rmem", "", 0},
    [FACT_TCP_RMEM_DEFAULT] = {IPV4 "tcp_rmem", "", 1},
    [FACT_TCP_RMEM_MAX] = {IPV4 "tcp_rmem", "", 2},
    [FACT_TCP_WMEM_MIN] = {IPV4 "tcp_wmem", "", 0},
    [FACT_TCP_WMEM_DEFAULT] = {IPV4 "tcp_wmem", "", 1},
    [FACT_TCP_WMEM_MAX] = {IPV4 "tcp_wmem", "", 2},
    [FACT_RMEM_MAX] = {"/proc/sys/net/core/rmem_max", "", 0},
    [FACT_WMEM_MAX] = {"/proc/sys/net/core/wmem_max", "", 0},
    [FACT_CONNTRACK_MAX] = {CONNTRACK "max", "", 0},
    [FACT_CONNTRACK_BUCKETS] = {CONNTRACK "buckets", "", 0},
    [FACT_CONNTRACK_COUNT] = {CONNTRACK "count", "", 0},
    [FACT_CONNTRACK_TIMEOUT] = {CONNTRACK "tcp_timeout_established", "", 0},
    [FACT_MAX_ORPHANS] = {IPV4 "tcp_max_orphans", "", 0},
    [FACT_MAX_TW_BUCKETS] = {IPV4 "tcp_max_tw_buckets", "", 0},
    [FACT_FIN_TIMEOUT] = {IPV4 "tcp_fin_timeout", "", 0},
    [FACT_PORT_FIRST] = {IPV4 "ip_local_port_range", "", 0},
    [FACT_PORT_LAST] = {IPV4 "ip_local_port_range", "", 1},
    [FACT_EHASH_ENTRIES] = {IPV4 "tcp_ehash_entries", "", 0},
    [FACT_PID_MAX] = {"/proc/sys/kernel/pid_max", "", 0},
    [FACT_OVERCOMMIT] = {"/proc/sys/vm/overcommit_memory", "", 0},
    [FACT_MEM_TOTAL] = {MEMINFO, "MemTotal:", 0},
    [FACT_MEM_AVAILABLE] = {MEMINFO, "MemAvailable:", 0},
    [FACT_MEM_FREE] = {MEMINFO, "MemFree:", 0},
    [FACT_COMMIT_LIMIT] = {MEMINFO, "CommitLimit:", 0},
    [FACT_COMMITTED] = {MEMINFO, "Committed_AS:", 0},
    [FACT_SLAB] = {MEMINFO, "Slab:", 0},
    [FACT_PAGE_SIZE] = {"/proc/self/smaps", "KernelPageSize:", 0},
    [FACT_MEMCG_ENABLED] = {"/proc/cgroups", "memory", 2},
};

static const char *const slab_names[SLAB_CACHES] = {
    [SLAB_TCP] = "TCP",
    [SLAB_TCP6] = "TCPv6",
    [SLAB_SOCK_INODE] = "sock_inode_cache",
    [SLAB_FILP] = "filp",
    [SLAB_DENTRY] = "dentry",
    [SLAB_EPOLL_ITEM] = "eventpoll_epi",
    [SLAB_EPOLL_WAIT] = "eventpoll_pwq",
    [SLAB_EPOLL_HEAD] = "ep_head",
    [SLAB_LSM_INODE] = "lsm_inode_cache",
    [SLAB_LSM_FILE] = "lsm_file_cache",
    [SLAB_CONNTRACK] = "nf_conntrack",
};

/* The cache's name in /proc/slabinfo. */
const char *slab_cache_name(enum slab_cache c) { return slab_names[c]; }

/* Whether the len bytes at text are this word. */
static bool is_word(const char *text, size_t len, const char *word)
{
    return len == strlen(word) && strncasecmp(text, word, len) == 0;
}

/* A decimal number or a word for "no limit". */
struct value value_parse(const char *text, size_t len)
{
    static const struct value malformed = {VALUE_MALFORMED, 0}, unlimited = {VALUE_UNLIMITED, UINT64_MAX};
    if (is_word(text, len, "max") || is_word(text, len, "unlimited") || is_word(text, len, "infinity") ||
        is_word(text, len, "-1"))
        return unlimited;
    uint64_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (!isdigit((unsigned char)text[i]))
            return malformed;
        unsigned digit = (unsigned)(text[i] - '0');
        if (n > (UINT64_MAX - digit) / 10)
            return unlimited;
        n = n * 10 + digit;
    }
    return len > 0 ? (struct value){VALUE_NUMBER, n} : malformed;
}

/* Whether there is something to compare. */
bool value_known(struct value v) { return v.state == VALUE_NUMBER || v.state == VALUE_UNLIMITED; }

/* Whether the value is known and suffices. */
bool value_at_least(struct value v, uint64_t n) { return value_known(v) && v.n >= n; }

/* The file's bytes up to a bound; /proc files tell no size, so they are read until they end. */
char *machine_file(const struct machine *m, const char *path)
{
    char full[PATH_BYTES];
    if ((size_t)snprintf(full, sizeof full, "%s%s", m->root, path) >= sizeof full)
        return NULL;
    int fd = open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return NULL;
    size_t len = 0, size = 8192;
    char *text = xmalloc(size + 1);
    ssize_t got;
    while ((got = read(fd, text + len, size - len)) > 0) {
        len += (size_t)got;
        if (len < size)
            continue;
        if (size >= MACHINE_FILE_MAX)
            break;
        size *= 2;
        text = xrealloc(text, size + 1);
    }
    close(fd);
    if (got < 0 && len == 0) {
        free(text);
        return NULL;
    }
    text[len] = '\0';
    return text;
}

/* The field-th word of a line, separated by blanks; NULL when the line has fewer. */
static const char *word_at(const char *line, unsigned field, size_t *len)
{
    for (;; field--) {
        line += strspn(line, " \t");
        *len = strcspn(line, " \t\r\n");
        if (*len == 0)
            return NULL;
        if (field == 0)
            return line;
        line += *len;
    }
}

/* What follows the key on the first line that begins with it as a whole word. */
static const char *line_with_key(const char *text, const char *key)
{
    size_t len = strlen(key);
    for (const char *line = text; *line != '\0'; line++) {
        if (strncmp(line, key, len) == 0 && (len == 0 || strchr(" \t\r\n", line[len]) != NULL))
            return line + len;
        line = strchr(line, '\n');
        if (line == NULL)
            return NULL;
    }
    return NULL;
}

/* One row of the table. An empty file has no number: malformed, because the file is there. */
static struct value read_fact(const struct machine *m, const struct fact_row *row)
{
    char *text = machine_file(m, row->path);
    if (text == NULL)
        return (struct value){VALUE_MISSING, 0};
    struct value v = {row->key[0] == '\0' ? VALUE_MALFORMED : VALUE_MISSING, 0};
    const char *rest = line_with_key(text, row->key);
    size_t len;
    const char *word = rest != NULL ? word_at(rest, row->field, &len) : NULL;
    if (word != NULL)
        v = value_parse(word, len);
    free(text);
    return v;
}

/* One line of /proc/slabinfo: name, active and all objects, object size, objects and pages per slab. */
static bool parse_slab_line(const char *line, char name[64], struct slab *s)
{
    unsigned long long active, all;
    if (sscanf(line, "%63s %llu %llu %u %u %u", name, &active, &all, &s->object_size, &s->per_slab,
               &s->pages) != 6 ||
        s->per_slab == 0 || s->pages == 0 || s->pages > 1024 || s->object_size > (4u << 20))
        return false;
    s->active = active;
    s->source = SLAB_FROM_SLABINFO;
    return true;
}

/* Walks /proc/slabinfo; its two header lines do not parse as caches. */
bool machine_each_slab(const struct machine *m, void (*fn)(void *ctx, const char *name, const struct slab *s),
                       void *ctx)
{
    char *text = machine_file(m, "/proc/slabinfo");
    if (text == NULL)
        return false;
    bool any = false;
    for (char *line = text; line != NULL && *line != '\0';) {
        char name[64];
        struct slab s = {0};
        if (parse_slab_line(line, name, &s)) {
            fn(ctx, name, &s);
            any = true;
        }
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    free(text);
    return any;
}

/* Keeps the caches we price. Older kernels have one nf_conntrack per network namespace, with a suffix. */
static void keep_slab_cb(void *ctx, const char *name, const struct slab *s)
{
    struct machine *m = ctx;
    for (int c = 0; c < SLAB_CACHES; c++)
        if (strcmp(name, slab_names[c]) == 0)
            m->slab[c] = *s;
    struct slab *conntrack = &m->slab[SLAB_CONNTRACK];
    if (strncmp(name, "nf_conntrack_", 13) == 0 && strstr(name, "expect") == NULL &&
        (conntrack->source == SLAB_UNKNOWN || s->active > conntrack->active))
        *conntrack = *s;
}

/*
 * A cache that was merged with another of the same size is missing in /proc/slabinfo, but
 * /sys/kernel/slab has it as a link to a name like ":A-0000128", and that number is the size with padding.
 * Such caches are small, so their slabs are single pages.
 */
static void find_merged_slab(struct machine *m, enum slab_cache c)
{
    char path[PATH_BYTES], target[64];
    if ((size_t)snprintf(path, sizeof path, "%s/sys/kernel/slab/%s", m->root, slab_names[c]) >= sizeof path)
        return;
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n <= 0)
        return;
    target[n] = '\0';
    const char *digits = target + strcspn(target, "0123456789");
    struct value size = value_parse(digits, strspn(digits, "0123456789"));
    if (target[0] != ':' || size.state != VALUE_NUMBER || size.n < 8 || size.n > m->page_size)
        return;
    m->slab[c] = (struct slab){.source = SLAB_FROM_SYSFS,
                               .object_size = (uint32_t)size.n,
                               .per_slab = (uint32_t)(m->page_size / size.n),
                               .pages = 1};
}

/* All caches, by either way. */
static void read_slabs(struct machine *m)
{
    m->slabinfo = machine_each_slab(m, keep_slab_cb, m);
    for (int c = 0; c < SLAB_CACHES; c++)
        if (m->slab[c].source == SLAB_UNKNOWN)
            find_merged_slab(m, (enum slab_cache)c);
}

/* Bits set in the mask of CPUs this process may use, "ff,ffffffff". 0: unknown. */
static unsigned cores_allowed(const struct machine *m)
{
    char *text = machine_file(m, "/proc/self/status");
    const char *rest = text != NULL ? line_with_key(text, "Cpus_allowed:") : NULL;
    unsigned n = 0;
    for (; rest != NULL && *rest != '\0' && *rest != '\n'; rest++) {
        char digit[2] = {*rest, '\0'};
        if (isxdigit((unsigned char)*rest))
            n += (unsigned)__builtin_popcount((unsigned)strtoul(digit, NULL, 16));
    }
    free(text);
    return n;
}

/* Whether the word stands on the line. */
static bool line_has_word(const char *line, const char *word)
{
    size_t len;
    for (const char *w = word_at(line, 0, &len); w != NULL; w = word_at(w + len, 0, &len))
        if (is_word(w, len, word))
            return true;
    return false;
}

/* Cores and the AES flag; x86 calls the line "flags", ARM "Features". */
static void read_cpu(struct machine *m)
{
    unsigned listed = 0;
    char *text = machine_file(m, "/proc/cpuinfo");
    m->cpuinfo = text != NULL && *text != '\0';
    for (const char *line = text; line != NULL && *line != '\0';) {
        if (strncmp(line, "processor", 9) == 0)
            listed++;
        if (strncmp(line, "flags", 5) == 0 || strncmp(line, "Features", 8) == 0)
            m->aes |= line_has_word(line, "aes");
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    free(text);
    unsigned allowed = cores_allowed(m);
    m->cores = allowed > 0 && (listed == 0 || allowed < listed) ? allowed : listed;
    if (m->cores == 0)
        m->cores = 1;
}

/* Whether the file is there and contains the word. */
static bool file_mentions(const struct machine *m, const char *path, const char *word)
{
    char *text = machine_file(m, path);
    bool found = text != NULL && strstr(text, word) != NULL;
    free(text);
    return found;
}

/* Whether kernel memory is charged to cgroups, and whether a security module hangs something on sockets. */
static void read_kernel_features(struct machine *m)
{
    m->memcg_charges = (m->fact[FACT_MEMCG_ENABLED].n == 1 ||
                        file_mentions(m, "/sys/fs/cgroup/cgroup.controllers", "memory")) &&
                       !file_mentions(m, "/proc/cmdline", "cgroup.memory=nokmem");
    const char *lsm = "/sys/kernel/security/lsm";
    m->lsm_socket = file_mentions(m, lsm, "apparmor") || file_mentions(m, lsm, "selinux") ||
                    file_mentions(m, lsm, "smack");
}

/* Packets that found the per-CPU input queue full: the second column, hexadecimal, one line per CPU. */
static void read_softnet(struct machine *m)
{
    char *text = machine_file(m, "/proc/net/softnet_stat");
    m->softnet = text != NULL && *text != '\0';
    for (const char *line = text; line != NULL && *line != '\0';) {
        unsigned processed, dropped;
        if (sscanf(line, "%x %x", &processed, &dropped) == 2)
            m->softnet_dropped += dropped;
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    free(text);
}

/* The kernel's release, printable characters only. */
static void read_kernel_release(struct machine *m)
{
    char *text = machine_file(m, "/proc/sys/kernel/osrelease");
    for (size_t i = 0; text != NULL && i + 1 < sizeof m->kernel && isgraph((unsigned char)text[i]); i++)
        m->kernel[i] = text[i];
    free(text);
}

/* Everything. */
void machine_read(struct machine *m, const char *root)
{
    memset(m, 0, sizeof *m);
    snprintf(m->root, sizeof m->root, "%s", root);
    for (size_t n = strlen(m->root); n > 0 && m->root[n - 1] == '/'; n--)
        m->root[n - 1] = '\0';
    for (int f = 0; f < FACT_COUNT; f++)
        m->fact[f] = read_fact(m, &fact_rows[f]);
    struct value page = m->fact[FACT_PAGE_SIZE];
    m->page_size = page.state == VALUE_NUMBER && page.n >= 4 && page.n <= 64 ? (unsigned)page.n * 1024 : 4096;
    read_kernel_release(m);
    read_cpu(m);
    read_kernel_features(m);
    read_softnet(m);
    read_slabs(m);
    machine_read_cgroup(m);
    machine_read_nofile(m);
}
