/*
 * What engine_local.c and compact.c share: what is looked at before the tables of a data directory are
 * opened, and the sentences that say what is wrong with it.
 */
#include "gateway/engine/local_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/log.h"
#include "gateway/engine/engine.h"
#include "gateway/engine/lmdb_check.h"

LOG_EVENT(open_event, "data_dir_unusable", LOG_LEVEL_ERROR);

/* The boot this machine is in; pages that were written in it are in memory as they were written. */
static void boot_id(char out[64])
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, out, 63) : -1;
    out[n > 0 ? n : 0] = 0;
    out[strcspn(out, "\n")] = 0;
    if (fd >= 0)
        close(fd);
}

bool local_unusable(char *why, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, ENGINE_WHY_MAX, format, args);
    va_end(args);
    return false;
}

bool local_system_says(char *why, const char *dir, const char *what)
{
    if (errno == EACCES || errno == EPERM)
        return local_unusable(
            why,
            "%s: no permission to %s: make the directory and the files in it belong to the user "
            "that Holdfast runs as (id %u)",
            dir, what, (unsigned)geteuid());
    if (errno == EROFS)
        return local_unusable(
            why, "%s is on a read-only file system: mount it for writing, or set another data_dir", dir);
    if (errno == ENOSPC || errno == EDQUOT)
        return local_unusable(why, "%s: the disk is full: make room, then start again", dir);
    if (errno == ENOMEM)
        return local_unusable(
            why,
            "%s: the data file's limit does not fit into the address space: lower the limit, or raise "
            "that of this process (ulimit -v)",
            dir);
    return local_unusable(why, "%s: cannot %s: %s", dir, what, strerror(errno));
}

bool local_dir_is_there(const char *dir, char *why)
{
    struct stat st;
    if (stat(dir, &st) != 0 && errno == ENOENT)
        return local_unusable(
            why,
            "the data directory %s does not exist: create it, for the user that Holdfast runs as, "
            "or set data_dir",
            dir);
    if (stat(dir, &st) != 0)
        return local_system_says(why, dir, "look at the data directory");
    if (!S_ISDIR(st.st_mode))
        return local_unusable(why, "the data directory %s is not a directory: set data_dir to one", dir);
    return true;
}

int local_dir_lock(const char *dir, bool *sound, char *why)
{
    char path[PATH_MAX], text[128] = "", boot[64], was[64] = "";
    long pid = 0;
    snprintf(path, sizeof path, "%s/" LOCK_FILE, dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0) {
        local_system_says(why, dir, "open " LOCK_FILE);
        return -1;
    }
    ssize_t n = read(fd, text, sizeof text - 1);
    if (n > 0)
        sscanf(text, "%ld %63s", &pid, was);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        local_unusable(
            why, "%s is in use by another Holdfast (process %ld): stop that one, or set another data_dir",
            dir, pid);
        return -1;
    }
    boot_id(boot);
    *sound = boot[0] && strcmp(boot, was) == 0;
    return fd;
}

/* A note that cannot be written costs a longer look the next time. */
void local_dir_note_sound(int lock_fd)
{
    char text[128], boot[64];
    boot_id(boot);
    int n = snprintf(text, sizeof text, "%ld %s\n", (long)getpid(), boot);
    if (ftruncate(lock_fd, 0) != 0 || pwrite(lock_fd, text, (size_t)n, 0) != n)
        LOG(open_event, LOG_STR("why", LOCK_FILE " cannot be written"));
}

bool local_file_is_sound(const char *file, const char *dir, bool deep, char *why)
{
    char what[256];
    switch (lmdb_check_file(file, deep, what, sizeof what)) {
    case LMDB_CHECK_OK:
    case LMDB_CHECK_NEW:
        return true;
    case LMDB_CHECK_FOREIGN:
        return local_unusable(
            why, "%s is not Holdfast's (%s): set data_dir to an empty directory, or move the file away", file,
            what);
    case LMDB_CHECK_DAMAGED:
        return local_unusable(
            why,
            "%s is damaged (%s): put back a copy of it, or move it away to begin with nothing kept; "
            "what is still readable of it can be seen with mdb_dump",
            file, what);
    default:
        return local_system_says(why, dir, "read " DATA_FILE);
    }
}

struct kv *local_open_tables(const char *dir, const struct kv_lmdb_settings *s, char *why)
{
    struct kv *kv = NULL;
    int code;
    switch (kv_lmdb_open(s, &kv, &code)) {
    case KV_OPEN_OK:
        return kv;
    case KV_OPEN_FOREIGN:
        local_unusable(
            why, "%s is another program's data: set data_dir to an empty directory, or move the file away",
            s->file);
        break;
    case KV_OPEN_NEWER:
        local_unusable(
            why,
            "%s was written by a newer Holdfast (format %d, this one knows %u): run that one, or move the "
            "file away to begin with nothing kept",
            s->file, code, s->format);
        break;
    case KV_OPEN_EMPTY:
        local_unusable(why, "%s holds nothing yet: it is made by the hub", dir);
        break;
    case KV_OPEN_ERROR:
        errno = code;
        if (code > 0)
            local_system_says(why, dir, "open " DATA_FILE);
        else
            local_unusable(why, "%s cannot be opened: %s: put back a copy of it, or move it away", s->file,
                           kv_lmdb_error(code));
    }
    return NULL;
}
