#include "gateway/engine/compact.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/engine/engine.h"
#include "gateway/engine/local_dir.h"
#include "gateway/engine/record.h"

#define LOOK_MS 250

/* A copy under way. */
struct copying {
    struct kv *kv;
    char to[PATH_MAX];
    int code;
    bool done; /* under the lock */
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

/* Bytes of disk that a file takes. */
static uint64_t disk_bytes(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static void *copy_thread(void *arg)
{
    struct copying *c = arg;
    c->code = kv_lmdb_copy(c->kv, c->to);
    pthread_mutex_lock(&c->lock);
    c->done = true;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* Waits for the thread, and tells how far it is. */
static void watch(struct copying *c, void (*progress)(uint64_t bytes))
{
    struct timespec until;
    pthread_mutex_lock(&c->lock);
    while (!c->done) {
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += LOOK_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        if (pthread_cond_timedwait(&c->changed, &c->lock, &until) == ETIMEDOUT && progress)
            progress(disk_bytes(c->to));
    }
    pthread_mutex_unlock(&c->lock);
}

/* Writes the copy. Returns an errno or LMDB's own error. */
static int copy(struct copying *c, void (*progress)(uint64_t bytes))
{
    pthread_t thread;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    int rc = unlink(c->to) == 0 || errno == ENOENT ? 0 : errno; /* of one that was interrupted */
    if (rc == 0)
        rc = pthread_create(&thread, NULL, copy_thread, c);
    if (rc == 0) {
        watch(c, progress);
        pthread_join(thread, NULL);
        rc = c->code;
    }
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    return rc;
}

/* Makes a file, or a directory, durable. */
static int sync_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = fd >= 0 && fsync(fd) == 0 ? 0 : errno;
    if (fd >= 0)
        close(fd);
    return rc;
}

/* The copy belongs to whom the file belonged to, and lies on the disk. */
static int finish_copy(const char *file, const char *to)
{
    struct stat st;
    if (stat(file, &st) != 0 || chown(to, st.st_uid, st.st_gid) != 0 || chmod(to, st.st_mode & 07777) != 0)
        return errno;
    return sync_path(to);
}

/* Puts the copy in the file's place. */
static int replace(const char *dir, const char *file, const char *to)
{
    return rename(to, file) == 0 ? sync_path(dir) : errno;
}

/* What went wrong with the copy, which is removed. */
static bool give_up(const char *dir, const char *to, int rc, char *why)
{
    (void)unlink(to);
    if (rc == ENOSPC || rc == EDQUOT)
        return local_unusable(
            why,
            "%s: the disk has no room for a second data file: make room, for as much as is kept; "
            "nothing has changed",
            dir);
    errno = rc;
    if (rc > 0)
        return local_system_says(why, dir, "write " DATA_FILE ".new");
    return local_unusable(why, "%s: the data file cannot be copied: %s; nothing has changed", dir,
                          kv_lmdb_error(rc));
}

/* With the directory locked and the file open. */
static bool compact(const char *dir, const char *file, struct copying *c, void (*progress)(uint64_t bytes),
                    char *why)
{
    int rc = copy(c, progress);
    if (rc == 0)
        rc = finish_copy(file, c->to);
    if (rc)
        return give_up(dir, c->to, rc, why);
    if (!local_file_is_sound(c->to, dir, true, why)) {
        (void)unlink(c->to);
        return false;
    }
    rc = replace(dir, file, c->to);
    return rc == 0 || give_up(dir, c->to, rc, why);
}

bool engine_compact(const char *data_dir, void (*progress)(uint64_t bytes), struct compact_sizes *out,
                    char *why)
{
    char file[PATH_MAX], lock[PATH_MAX];
    struct copying c = {0};
    bool sound, ok = false;
    if (!local_dir_is_there(data_dir, why))
        return false;
    int lock_fd = local_dir_lock(data_dir, &sound, why);
    if (lock_fd < 0)
        return false;
    snprintf(file, sizeof file, "%s/" DATA_FILE, data_dir);
    snprintf(lock, sizeof lock, "%s/" DATA_FILE "-lock", data_dir);
    bool was_locked = access(lock, F_OK) == 0;
    snprintf(c.to, sizeof c.to, "%s/" DATA_FILE ".new", data_dir);
    const struct kv_lmdb_settings tables = {.file = file, .read_only = true, .format = RECORD_FORMAT};
    out->before = disk_bytes(file);
    if (local_file_is_sound(file, data_dir, !sound, why))
        c.kv = local_open_tables(data_dir, &tables, why);
    if (c.kv) {
        ok = compact(data_dir, file, &c, progress, why);
        c.kv->ops->close(c.kv);
    }
    out->after = disk_bytes(file);
    if (ok || !was_locked) /* LMDB's own: of the old file, or made by this process under its account */
        (void)unlink(lock);
    close(lock_fd);
    return ok;
}
