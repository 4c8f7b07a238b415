/*
 * Who belongs to the tree is found by parent process ids in /proc/PID/stat, because not every kernel is built
 * with /proc/PID/task/TID/children. CPU is the first field of /proc/PID/task/TID/schedstat, in nanoseconds;
 * each thread's last reading is kept, so that the sum stands still when a thread ends. Used between the steps
 * of a scenario by the coordinator; it starts and stops nothing.
 */
#include "gateway/tools/bench/proctree.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/xmalloc.h"
#include "gateway/tools/bench/wire.h"

#define REFRESH_NS 500000000u

struct process {
    pid_t pid;
    uint64_t start; /* clock ticks since boot: tells a reused pid from the process we knew */
};

struct thread {
    pid_t tid;
    uint64_t cpu_ns;
};

struct proctree {
    pid_t *roots;
    size_t root_count;
    struct process *process;
    size_t processes;
    struct thread *thread; /* all ever seen, sorted by first sight */
    size_t threads;
    uint64_t ended_ns; /* of threads whose id was reused */
    uint64_t refreshed_ns;
};

struct proctree *proctree_new(const pid_t *roots, size_t count)
{
    struct proctree *t = xcalloc(1, sizeof *t);
    t->roots = xcalloc(count ? count : 1, sizeof *roots);
    memcpy(t->roots, roots, count * sizeof *roots);
    t->root_count = count;
    proctree_refresh(t);
    return t;
}

void proctree_free(struct proctree *t)
{
    if (!t)
        return;
    free(t->roots);
    free(t->process);
    free(t->thread);
    free(t);
}

/* Parent and start time of a process; false when it does not exist or is a zombie. */
static bool read_stat(pid_t pid, pid_t *parent, uint64_t *start)
{
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    size_t n = fread(line, 1, sizeof line - 1, f);
    fclose(f);
    line[n] = 0;
    char *after_name = strrchr(line, ')'), state;
    int ppid;
    unsigned long long started;
    if (!after_name ||
        sscanf(after_name + 1,
               " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &state,
               &ppid, &started) != 3)
        return false;
    *parent = ppid;
    *start = started;
    return state != 'Z' && state != 'X';
}

static bool contains(const struct process *list, size_t n, pid_t pid)
{
    for (size_t i = 0; i < n; i++)
        if (list[i].pid == pid)
            return true;
    return false;
}

struct candidate {
    pid_t pid, parent;
    uint64_t start;
};

/* All processes of the machine with their parents. */
static size_t all_processes(struct candidate **out)
{
    size_t n = 0, cap = 256;
    struct candidate *c = xcalloc(cap, sizeof *c);
    DIR *d = opendir("/proc");
    for (struct dirent *e; d && (e = readdir(d));) {
        pid_t pid = atoi(e->d_name);
        if (pid <= 0)
            continue;
        if (n == cap)
            c = xrealloc(c, (cap *= 2) * sizeof *c);
        c[n].pid = pid;
        if (read_stat(pid, &c[n].parent, &c[n].start))
            n++;
    }
    if (d)
        closedir(d);
    *out = c;
    return n;
}

/* Roots first, then whoever's parent is in already, until nobody is added. */
size_t proctree_refresh(struct proctree *t)
{
    struct candidate *c;
    size_t n = all_processes(&c), found = 0;
    struct process *p = xcalloc(n + 1, sizeof *p);
    for (size_t i = 0; i < n; i++)
        for (size_t r = 0; r < t->root_count; r++)
            if (c[i].pid == t->roots[r])
                p[found++] = (struct process){c[i].pid, c[i].start};
    for (size_t before = found + 1; before != found;) {
        before = found;
        for (size_t i = 0; i < n; i++)
            if (!contains(p, found, c[i].pid) && contains(p, found, c[i].parent))
                p[found++] = (struct process){c[i].pid, c[i].start};
    }
    free(c);
    free(t->process);
    t->process = p;
    t->processes = found;
    t->refreshed_ns = wire_now_ns();
    return found;
}

/* Stores a thread's reading; a smaller one than before is another thread with the same id. */
static void note_thread(struct proctree *t, pid_t tid, uint64_t ns)
{
    for (size_t i = 0; i < t->threads; i++) {
        if (t->thread[i].tid != tid)
            continue;
        if (ns < t->thread[i].cpu_ns)
            t->ended_ns += t->thread[i].cpu_ns;
        t->thread[i].cpu_ns = ns;
        return;
    }
    t->thread = xrealloc(t->thread, (t->threads + 1) * sizeof *t->thread);
    t->thread[t->threads++] = (struct thread){tid, ns};
}

/* Reads all threads of one process. */
static void read_threads(struct proctree *t, pid_t pid)
{
    char path[96];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        pid_t tid = atoi(e->d_name);
        if (tid <= 0)
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%d/schedstat", (int)pid, (int)tid);
        FILE *f = fopen(path, "re");
        unsigned long long ns;
        if (f && fscanf(f, "%llu", &ns) == 1)
            note_thread(t, tid, ns);
        if (f)
            fclose(f);
    }
    if (d)
        closedir(d);
}

uint64_t proctree_cpu_ns(struct proctree *t)
{
    if (wire_now_ns() - t->refreshed_ns > REFRESH_NS)
        proctree_refresh(t);
    for (size_t i = 0; i < t->processes; i++)
        read_threads(t, t->process[i].pid);
    uint64_t sum = t->ended_ns;
    for (size_t i = 0; i < t->threads; i++)
        sum += t->thread[i].cpu_ns;
    return sum;
}

/* Adds the 14th and 15th field of /proc/PID/stat. */
static void add_ticks(pid_t pid, struct proctree_ticks *sum)
{
    char path[64], line[1024];
    unsigned long long user, kernel;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(line, 1, sizeof line - 1, f) : 0;
    if (f)
        fclose(f);
    line[n] = 0;
    const char *after_name = strrchr(line, ')');
    if (after_name && sscanf(after_name + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
                             &kernel) == 2) {
        sum->user += user;
        sum->kernel += kernel;
    }
}

struct proctree_ticks proctree_ticks(struct proctree *t)
{
    struct proctree_ticks sum = {0};
    proctree_refresh(t);
    for (size_t i = 0; i < t->processes; i++)
        add_ticks(t->process[i].pid, &sum);
    return sum;
}

/* Adds one process' smaps_rollup. */
static bool add_rollup(pid_t pid, struct proctree_memory *m)
{
    char path[64], line[256], name[64];
    unsigned long long kb;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    struct {
        const char *name;
        uint64_t *into;
    } row[] = {{"Pss_Anon", &m->user},
               {"Pss_Shmem", &m->user},
               {"Pss", &m->pss},
               {"Rss", &m->rss},
               {"Private_Dirty", &m->private_dirty}};
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%63[^:]: %llu kB", name, &kb) != 2)
            continue;
        for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
            if (strcmp(name, row[i].name) == 0)
                *row[i].into += kb * 1024;
    }
    fclose(f);
    m->processes++;
    return true;
}

bool proctree_memory(struct proctree *t, struct proctree_memory *m)
{
    bool ok = true;
    *m = (struct proctree_memory){0};
    proctree_refresh(t);
    for (size_t i = 0; i < t->processes; i++)
        ok &= add_rollup(t->process[i].pid, m);
    return ok && m->processes > 0;
}

void proctree_kill(struct proctree *t)
{
    for (size_t i = 0; i < t->processes; i++) {
        pid_t parent;
        uint64_t start;
        if (read_stat(t->process[i].pid, &parent, &start) && start == t->process[i].start)
            kill(t->process[i].pid, SIGKILL);
    }
}
