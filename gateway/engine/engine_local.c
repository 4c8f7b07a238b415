/*
 * The engine for one machine: an LMDB file in the data directory, written by the hub, read by the workers in
 * place. This file opens it, and says what is wrong and what to do when it cannot be opened (local_dir.c). In
 * the directory are
 *
 *      holdfast.mdb        the tables
 *      holdfast.mdb-lock   LMDB's readers; made anew when nobody has it open
 *      holdfast.lock       locked by the hub that has the directory; its process id, and the boot in which
 *                          all pages of the file were last seen to be sound
 *      holdfast.mdb.new    while compact.c writes the tables anew
 */
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "gateway/base/log.h"
#include "gateway/engine/local_dir.h"
#include "gateway/engine/reader.h"
#include "gateway/engine/store.h"

LOG_EVENT(open_event, "data_dir_unusable", LOG_LEVEL_ERROR);

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
    if (local_file_is_sound(file, s->data_dir, !sound, why))
        kv = local_open_tables(s->data_dir, &tables, why);
    if (!kv) {
        close(lock_fd);
        return NULL;
    }
    struct engine *e = store_new(s, kv, true, lock_fd);
    if (e)
        local_dir_note_sound(lock_fd);
    else
        local_unusable(why, "%s cannot be written: see the line before; when the disk is full, make room",
                       file);
    return e;
}

static struct engine *local_open_store(const struct engine_settings *s, char *why)
{
    bool sound;
    if (!local_dir_is_there(s->data_dir, why))
        return NULL;
    int lock_fd = local_dir_lock(s->data_dir, &sound, why);
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
    struct kv *kv = local_open_tables(data_dir, &tables, why);
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
