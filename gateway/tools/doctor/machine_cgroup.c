/*
 * Finds the memory limit that a process started like this one has: the tightest on the way from its cgroup
 * to the top, version 2 (memory.max, memory.high) or version 1 (memory.limit_in_bytes). Inside a container
 * the path may name folders that are not visible; they are passed over and the visible top counts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/tools/doctor/machine.h"

/* Version 1 says "no limit" with the largest multiple of the page size in 63 bits. */
#define CGROUP1_UNLIMITED ((uint64_t)1 << 62)

struct hierarchy {
    unsigned version;
    const char *mount;
    const char *limit[2]; /* files that limit; the smaller value counts */
    const char *usage;
    const char *droppable; /* key in memory.stat of cache that goes when memory is short */
};

static const struct hierarchy hierarchies[] = {
    {2, "/sys/fs/cgroup", {"memory.max", "memory.high"}, "memory.current", "inactive_file "},
    {2, "/sys/fs/cgroup/unified", {"memory.max", "memory.high"}, "memory.current", "inactive_file "},
    {1,
     "/sys/fs/cgroup/memory",
     {"memory.limit_in_bytes", NULL},
     "memory.usage_in_bytes",
     "total_inactive_file "},
};

/* The number a file in a cgroup holds. */
static struct value cgroup_number(const struct machine *m, const char *folder, const char *file)
{
    char path[1024];
    struct value v = {VALUE_MISSING, 0};
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, file) >= sizeof path)
        return v;
    char *text = machine_file(m, path);
    if (text != NULL)
        v = value_parse(text, strcspn(text, " \t\r\n"));
    free(text);
    return v;
}

/* Bytes of droppable cache charged to the cgroup. */
static uint64_t cgroup_droppable(const struct machine *m, const char *folder, const char *key)
{
    char path[1024];
    if ((size_t)snprintf(path, sizeof path, "%s/memory.stat", folder) >= sizeof path)
        return 0;
    char *text = machine_file(m, path);
    const char *at = text;
    while (at != NULL && strncmp(at, key, strlen(key)) != 0) {
        at = strchr(at, '\n');
        at = at != NULL ? at + 1 : NULL;
    }
    struct value v = {VALUE_MISSING, 0};
    if (at != NULL)
        v = value_parse(at + strlen(key), strcspn(at + strlen(key), " \t\r\n"));
    free(text);
    return v.state == VALUE_NUMBER ? v.n : 0;
}

/* Takes this folder's limit into account if it leaves less room than what was found so far. */
static void consider(struct machine *m, const struct hierarchy *h, const char *folder)
{
    for (int i = 0; i < 2 && h->limit[i] != NULL; i++) {
        struct value v = cgroup_number(m, folder, h->limit[i]);
        if (v.state == VALUE_NUMBER && h->version == 1 && v.n >= CGROUP1_UNLIMITED)
            v.state = VALUE_UNLIMITED;
        if (!value_known(v))
            continue;
        if (m->cgroup.version == 0)
            m->cgroup = (struct cgroup_memory){.version = h->version, .limit = {VALUE_UNLIMITED, UINT64_MAX}};
        if (v.state != VALUE_NUMBER)
            continue;
        struct value used = cgroup_number(m, folder, h->usage);
        uint64_t droppable = cgroup_droppable(m, folder, h->droppable);
        uint64_t charged = used.state == VALUE_NUMBER && used.n > droppable ? used.n - droppable : 0;
        uint64_t room = v.n > charged ? v.n - charged : 0;
        uint64_t best = m->cgroup.limit.n > m->cgroup.used ? m->cgroup.limit.n - m->cgroup.used : 0;
        if (m->cgroup.limit.state == VALUE_UNLIMITED || room < best) {
            m->cgroup.limit = v;
            m->cgroup.used = charged;
            snprintf(m->cgroup.path, sizeof m->cgroup.path, "%s/%s", folder, h->limit[i]);
        }
    }
}

/* Whether the controllers part of a line of /proc/self/cgroup, "4:memory:/path", belongs to this version. */
static bool line_is_for(const struct hierarchy *h, const char *controllers, size_t len)
{
    if (h->version == 2)
        return len == 0;
    for (size_t i = 0; i + 6 <= len; i++)
        if (strncmp(controllers + i, "memory", 6) == 0)
            return true;
    return false;
}

/* The path of our cgroup in the hierarchy, "" for its top or when unknown. */
static void own_path(const struct machine *m, const struct hierarchy *h, char *path, size_t size)
{
    path[0] = '\0';
    char *text = machine_file(m, "/proc/self/cgroup");
    for (const char *line = text; line != NULL && *line != '\0';) {
        const char *controllers = strchr(line, ':');
        const char *folder = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (folder == NULL)
            break;
        size_t len = strcspn(folder + 1, "\n");
        if (len < size && line_is_for(h, controllers + 1, (size_t)(folder - controllers - 1)))
            snprintf(path, size, "%.*s", (int)len, folder + 1);
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    free(text);
    if (strstr(path, "..") != NULL || path[0] != '/' || path[1] == '\0')
        path[0] = '\0';
}

/* From our cgroup up to the top of each hierarchy. */
void machine_read_cgroup(struct machine *m)
{
    for (size_t i = 0; i < sizeof hierarchies / sizeof hierarchies[0]; i++) {
        const struct hierarchy *h = &hierarchies[i];
        char path[512], folder[600];
        own_path(m, h, path, sizeof path);
        for (;;) {
            snprintf(folder, sizeof folder, "%s%s", h->mount, path);
            consider(m, h, folder);
            char *slash = strrchr(path, '/');
            if (slash == NULL)
                break;
            *slash = '\0';
        }
    }
}
