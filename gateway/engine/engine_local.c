/*
 * The engine for one machine: an LMDB file in the data directory, written by the hub, read by the workers in
 * place. This file opens it, and says what is wrong and what to do when it cannot be opened. In the
 * directory are
 *
 *      holdfast.mdb        the tables
 *      holdfast.mdb-lock   LMDB's readers; made anew when nobody has it open
 *      holdfast.lock       locked by the hub that has the directory; its process id, and the boot in which
 *                          all pages of the file were last seen to be sound
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/log.h"
#include "gateway/engine/lmdb_check.h"
#include "gateway/engine/reader.h"
#include "gateway/engine/store.h"

LOG_EVENT(open_event, "data_dir_unusable", LOG_LEVEL_ERROR);

#define DATA_FILE "holdfast.mdb"
#define LOCK_FILE "holdfast.lock"

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

/* Says why, and what to do; returns false. */
__attribute__((format(printf, 2, 3))) static bool unusable(char *why, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, ENGINE_WHY_MAX, format, args);
    va_end(args);
    return false;
}

/* The system's objection to a file in the directory. */
static bool system_says(char *why, const char *dir, const char *what)
{
    if (errno == EACCES || errno == EPERM)
        return unusable(why,
                        "%s: no permission to %s: make the directory and the files in it belong to the user "
                        "that Holdfast runs as (id %u)",
                        dir, what, (unsigned)geteuid());
    if (errno == EROFS)
        return unusable(
            why, "%s is on a read-only file system: mount it for writing, or set another data_dir", dir);
    if (errno == ENOSPC || errno == EDQUOT)
        return unusable(why, "%s: the disk is full: make room, then start again", dir);
    if (errno == ENOMEM)
        return unusable(
            why,
            "%s: the data file's limit does not fit into the address space: lower the limit, or raise "
            "that of this process (ulimit -v)",
            dir);
    return unusable(why, "%s: cannot %s: %s", dir, what, strerror(errno));
}

static bool directory_is_there(const char *dir, char *why)
{
    struct stat st;
    if (stat(dir, &st) != 0 && errno == ENOENT)
        return unusable(
            why,
            "the data directory %s does not exist: create it, for the user that Holdfast runs as, "
            "or set data_dir",
            dir);
    if (stat(dir, &st) != 0)
        return system_says(why, dir, "look at the data directory");
    if (!S_ISDIR(st.st_mode))
        return unusable(why, "the data directory %s is not a directory: set data_dir to one", dir);
    return true;
}

/* Takes the directory for this process. *sound: every page was found to be sound in this boot. */
static int lock_directory(const char *dir, bool *sound, char *why)
{
    char path[PATH_MAX], text[128] = "", boot[64], was[64] = "";
    long pid = 0;
    snprintf(path, sizeof path, "%s/" LOCK_FILE, dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0) {
        system_says(why, dir, "open " LOCK_FILE);
        return -1;
    }
    ssize_t n = read(fd, text, sizeof text - 1);
    if (n > 0)
        sscanf(text, "%ld %63s", &pid, was);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        unusable(why,
                 "%s is in use by another Holdfast (process %ld): stop that one, or set another data_dir",
                 dir, pid);
        return -1;
    }
    boot_id(boot);
    *sound = boot[0] && strcmp(boot, was) == 0;
    return fd;
}

/* Notes who has the directory, and that the file is sound. A note that cannot be written costs a longer look
 * the next time. */
static void note_sound(int lock_fd)
{
    char text[128], boot[64];
    boot_id(boot);
    int n = snprintf(text, sizeof text, "%ld %s\n", (long)getpid(), boot);
    if (ftruncate(lock_fd, 0) != 0 || pwrite(lock_fd, text, (size_t)n, 0) != n)
        LOG(open_event, LOG_STR("why", LOCK_FILE " cannot be written"));
}

/* Looks at the file before LMDB does. */
static bool file_is_sound(const char *file, const char *dir, bool deep, char *why)
{
    char what[256];
    switch (lmdb_check_file(file, deep, what, sizeof what)) {
    case LMDB_CHECK_OK:
    case LMDB_CHECK_NEW:
        return true;
    case LMDB_CHECK_FOREIGN:
        return unusable(
            why, "%s is not Holdfast's (%s): set data_dir to an empty directory, or move the file away", file,
            what);
    case LMDB_CHECK_DAMAGED:
        return unusable(
            why,
            "%s is damaged (%s): put back a copy of it, or move it away to begin with nothing kept; "
            "what is still readable of it can be seen with mdb_dump",
            file, what);
    default:
        return system_says(why, dir, "read " DATA_FILE);
    }
}

/* Opens the tables, or says why not. */
static struct kv *open_tables(const char *dir, const struct kv_lmdb_settings *s, char *why)
{
    struct kv *kv = NULL;
    int code;
    switch (kv_lmdb_open(s, &kv, &code)) {
    case KV_OPEN_OK:
        return kv;
    case KV_OPEN_FOREIGN:
        unusable(why,
                 "%s is another program's data: set data_dir to an empty directory, or move the file away",
                 s->file);
        break;
    case KV_OPEN_NEWER:
        unusable(
            why,
            "%s was written by a newer Holdfast (format %d, this one knows %u): run that one, or move the "
            "file away to begin with nothing kept",
            s->file, code, s->format);
        break;
    case KV_OPEN_EMPTY:
        unusable(why, "%s holds nothing yet: it is made by the hub", dir);
        break;
    case KV_OPEN_ERROR:
        errno = code;
        if (code > 0)
            system_says(why, dir, "open " DATA_FILE);
        else
            unusable(why, "%s cannot be opened: %s: put back a copy of it, or move it away", s->file,
                     kv_lmdb_error(code));
    }
    return NULL;
}

/* With the directory locked: checks, opens. The lock is the engine's, or is given up. */
static struct engine *open_locked(const struct engine_settings *s, int lock_fd, bool sound, char *why)
{
    char file[PATH_MAX];
    struct kv *kv = NULL;
    snprintf(file, sizeof file, "%s/" DATA_FILE, s->data_dir);
    const struct kv_lmdb_settings tables = {.file = file,
                                            .no_sync = s->sync == ENGINE_SYNC_NEVER,
                                            .format = RECORD_FORMAT,
                                            .limit = s->max_file_bytes,
                                            .reserve = s->reserve_bytes};
    if (file_is_sound(file, s->data_dir, !sound, why))
        kv = open_tables(s->data_dir, &tables, why);
    if (!kv) {
        close(lock_fd);
        return NULL;
    }
    struct engine *e = store_new(s, kv, true, lock_fd);
    if (e)
        note_sound(lock_fd);
    else
        unusable(why, "%s cannot be written: see the line before; when the disk is full, make room", file);
    return e;
}

static struct engine *local_open_store(const struct engine_settings *s, char *why)
{
    bool sound;
    if (!directory_is_there(s->data_dir, why))
        return NULL;
    int lock_fd = lock_directory(s->data_dir, &sound, why);
    if (lock_fd < 0)
        return NULL;
    return open_locked(s, lock_fd, sound, why);
}

static struct engine *local_open(const char *data_dir, uint32_t max_clients)
{
    struct engine_settings s = ENGINE_SETTINGS_DEFAULT;
    char why[ENGINE_WHY_MAX];
    s.data_dir = data_dir;
    s.max_clients = max_clients;
    struct engine *e = local_open_store(&s, why);
    if (!e)
        LOG(open_event, LOG_STR("why", why));
    return e;
}

static struct engine_reader *local_reader_open(struct engine *e, const char *data_dir, char *why)
{
    char file[PATH_MAX];
    if (e)
        return reader_new(store_kv(e), false, why);
    snprintf(file, sizeof file, "%s/" DATA_FILE, data_dir);
    const struct kv_lmdb_settings tables = {.file = file, .read_only = true, .format = RECORD_FORMAT};
    struct kv *kv = open_tables(data_dir, &tables, why);
    return kv ? reader_new(kv, true, why) : NULL;
}

const struct engine_ops engine_local = {
    .name = "local",
    .open = local_open,
    .open_store = local_open_store,
    .reader_open = local_reader_open,
    STORE_OPS,
    READER_OPS,
};
