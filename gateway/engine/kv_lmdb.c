/*
 * Tables in an LMDB file. One process writes, from one thread; any number of others read in place, each with
 * a transaction that lasts for one bounded batch and is then reset, so that old pages are free again.
 *
 * What LMDB gives: a transaction is there as a whole or not at all, also after SIGKILL and power loss, since
 * pages are never overwritten while a snapshot uses them and the new root is written after them. What is
 * added here: disk space is taken ahead of the file's end before anything is written, so that a full disk is
 * noticed before a commit and never in one, and so that removing still works then (it writes too).
 */
#include "gateway/engine/kv.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"

LOG_EVENT_ONCE_A_SECOND(failed_event, "data_file_failed", LOG_LEVEL_ERROR);
LOG_EVENT_ONCE_A_SECOND(removed_event, "data_file_removed", LOG_LEVEL_ERROR);

/* Reader slots of 64 bytes in the lock file, as many as its size says: every worker there can be, the hub,
 * and people who look. */
#define LOCK_FILE_BYTES (8320 * 64)

/* Pages that a transaction with little to do copies, and frees, before they can be used again. */
#define SMALL_TRANSACTION 64

struct lmdb_txn {
    struct kv_txn txn;
    MDB_txn *handle;
    MDB_cursor *cursor[KV_TABLES];
    bool stale[KV_TABLES]; /* a reader's cursor from before its transaction was renewed */
};

struct lmdb {
    struct kv kv;
    MDB_env *env;
    MDB_dbi dbi[KV_TABLES];
    int fd;     /* LMDB's own */
    char *file; /* its name */
    bool read_only;
    uint64_t limit, reserve;
    uint64_t allocated; /* disk space is there up to this offset */
    uint64_t distrust;  /* how often in a row there was no room although there should have been */
    unsigned page;      /* bytes */
    struct lmdb_txn writer;
};

static const char *const table_names[] = {
#define X(id, name) name,
    KV_TABLE_LIST
#undef X
};

static struct lmdb *lmdb_of(struct kv *kv) { return (struct lmdb *)(void *)kv; }
static struct lmdb_txn *txn_of(struct kv_txn *t) { return (struct lmdb_txn *)(void *)t; }

static MDB_val val(struct kv_bytes b) { return (MDB_val){.mv_size = b.size, .mv_data = (void *)b.data}; }

/* LMDB's and the system's errors in our words; what nobody expects is logged. */
static enum kv_result result_of(int rc, const char *what)
{
    switch (rc) {
    case MDB_SUCCESS:
        return KV_OK;
    case MDB_NOTFOUND:
        return KV_NOT_FOUND;
    case MDB_MAP_FULL:
        return KV_FULL;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return KV_NO_SPACE;
    default:
        LOG(failed_event, LOG_STR("doing", what), LOG_STR("error", mdb_strerror(rc)), LOG_I64("code", rc));
        return KV_FAILED;
    }
}

static struct kv_txn *lmdb_reader_new(struct kv *kv)
{
    struct lmdb *l = lmdb_of(kv);
    MDB_txn *handle;
    int rc = mdb_txn_begin(l->env, NULL, MDB_RDONLY, &handle);
    if (result_of(rc, "opening a reader") != KV_OK)
        return NULL;
    mdb_txn_reset(handle);
    struct lmdb_txn *t = xcalloc(1, sizeof *t);
    t->txn = (struct kv_txn){.ops = kv->ops, .kv = kv};
    t->handle = handle;
    return &t->txn;
}

static void lmdb_reader_free(struct kv_txn *txn)
{
    struct lmdb_txn *t = txn_of(txn);
    for (unsigned i = 0; i < KV_TABLES; i++)
        if (t->cursor[i])
            mdb_cursor_close(t->cursor[i]);
    mdb_txn_abort(t->handle);
    free(t);
}

/* Takes the newest snapshot. When the writer has been started again with a larger limit, the map follows. */
static enum kv_result lmdb_read_begin(struct kv_txn *txn)
{
    struct lmdb_txn *t = txn_of(txn);
    struct lmdb *l = lmdb_of(txn->kv);
    int rc = mdb_txn_renew(t->handle);
    if (rc == MDB_MAP_RESIZED && l->read_only) {
        mdb_env_set_mapsize(l->env, 0);
        rc = mdb_txn_renew(t->handle);
    }
    memset(t->stale, 1, sizeof t->stale);
    return result_of(rc, "beginning to read");
}

/* Lets go of the snapshot; the slot stays ours. */
static void lmdb_read_end(struct kv_txn *txn) { mdb_txn_reset(txn_of(txn)->handle); }

static enum kv_result lmdb_write_begin(struct kv *kv, struct kv_txn **out)
{
    struct lmdb *l = lmdb_of(kv);
    CHECK(!l->read_only && !l->writer.handle);
    l->writer = (struct lmdb_txn){.txn = {.ops = kv->ops, .kv = kv}};
    *out = &l->writer.txn;
    return result_of(mdb_txn_begin(l->env, NULL, 0, &l->writer.handle), "beginning to write");
}

/* A write transaction's cursors end before it. */
static MDB_txn *finish(struct lmdb_txn *t)
{
    MDB_txn *handle = t->handle;
    for (unsigned i = 0; i < KV_TABLES; i++)
        if (t->cursor[i])
            mdb_cursor_close(t->cursor[i]);
    memset(t->cursor, 0, sizeof t->cursor);
    t->handle = NULL;
    return handle;
}

/* Whether the disk is as good as full. */
static bool disk_is_full(struct lmdb *l)
{
    struct statvfs st;
    return fstatvfs(l->fd, &st) == 0 && (uint64_t)st.f_bavail * st.f_frsize < l->reserve;
}

/* A write that came back short is an I/O error to LMDB; most often the disk is full. */
static enum kv_result lmdb_commit(struct kv_txn *txn)
{
    struct lmdb *l = lmdb_of(txn->kv);
    int rc = mdb_txn_commit(finish(txn_of(txn)));
    return result_of(rc == EIO && disk_is_full(l) ? ENOSPC : rc, "committing");
}

static void lmdb_abort(struct kv_txn *txn) { mdb_txn_abort(finish(txn_of(txn))); }

static void lmdb_no_room(struct kv *kv)
{
    if (lmdb_of(kv)->distrust < 16)
        lmdb_of(kv)->distrust++;
}

/* The transaction's cursor on a table, made when it is first needed. */
static int cursor_on(struct lmdb_txn *t, enum kv_table table, MDB_cursor **out)
{
    int rc = 0;
    if (!t->cursor[table])
        rc = mdb_cursor_open(t->handle, lmdb_of(t->txn.kv)->dbi[table], &t->cursor[table]);
    else if (t->stale[table])
        rc = mdb_cursor_renew(t->handle, t->cursor[table]);
    t->stale[table] = false;
    *out = t->cursor[table];
    return rc;
}

static enum kv_result lmdb_get(struct kv_txn *txn, enum kv_table table, struct kv_bytes key,
                               struct kv_bytes *value)
{
    MDB_val k = val(key), v;
    int rc = mdb_get(txn_of(txn)->handle, lmdb_of(txn->kv)->dbi[table], &k, &v);
    if (rc == 0)
        *value = kv_bytes(v.mv_data, v.mv_size);
    return result_of(rc, "reading");
}

/* Moves the table's cursor and hands out where it stands. */
static enum kv_result move(struct kv_txn *txn, enum kv_table table, MDB_cursor_op op, struct kv_bytes *key,
                           struct kv_bytes *value)
{
    MDB_cursor *c;
    MDB_val k = val(*key), v;
    int rc = cursor_on(txn_of(txn), table, &c);
    if (rc == 0)
        rc = mdb_cursor_get(c, &k, &v, op);
    if (rc == 0) {
        *key = kv_bytes(k.mv_data, k.mv_size);
        *value = kv_bytes(v.mv_data, v.mv_size);
    }
    return result_of(rc, "reading");
}

static enum kv_result lmdb_seek(struct kv_txn *txn, enum kv_table table, struct kv_bytes *key,
                                struct kv_bytes *value)
{
    return move(txn, table, MDB_SET_RANGE, key, value);
}

static enum kv_result lmdb_last(struct kv_txn *txn, enum kv_table table, struct kv_bytes *key,
                                struct kv_bytes *value)
{
    return move(txn, table, MDB_LAST, key, value);
}

static uint64_t lmdb_count(struct kv_txn *txn, enum kv_table table)
{
    MDB_stat s;
    int rc = mdb_stat(txn_of(txn)->handle, lmdb_of(txn->kv)->dbi[table], &s);
    return result_of(rc, "counting") == KV_OK ? s.ms_entries : 0;
}

/* The log is written at its end only, which fills its pages. */
static enum kv_result lmdb_reserve(struct kv_txn *txn, enum kv_table table, struct kv_bytes key, size_t size,
                                   void **value)
{
    CHECK(key.size >= 1 && key.size <= KV_KEY_MAX);
    MDB_val k = val(key), v = {.mv_size = size};
    unsigned flags = MDB_RESERVE | (table == KV_LOG ? MDB_APPEND : 0);
    int rc = mdb_put(txn_of(txn)->handle, lmdb_of(txn->kv)->dbi[table], &k, &v, flags);
    *value = v.mv_data;
    return result_of(rc, "writing");
}

static enum kv_result lmdb_remove(struct kv_txn *txn, enum kv_table table, struct kv_bytes key)
{
    MDB_val k = val(key);
    return result_of(mdb_del(txn_of(txn)->handle, lmdb_of(txn->kv)->dbi[table], &k, NULL), "removing");
}

/* Bytes in pages that are used no more: table 0 lists them by transaction. The last one's are still part of
 * the snapshot before it. */
static uint64_t reusable_bytes(struct lmdb *l, size_t last_txn)
{
    MDB_txn *t;
    MDB_cursor *c;
    uint64_t pages = 0;
    if (mdb_txn_begin(l->env, NULL, MDB_RDONLY, &t) != 0)
        return 0;
    if (mdb_cursor_open(t, 0, &c) == 0) {
        MDB_val k, v;
        while (mdb_cursor_get(c, &k, &v, MDB_NEXT) == 0 && *(size_t *)k.mv_data < last_txn)
            pages += *(size_t *)v.mv_data;
        mdb_cursor_close(c);
    }
    mdb_txn_abort(t);
    return pages * l->page;
}

/* Takes disk space up to `end`. Where the file system cannot, writing will have to find out. */
static bool allocate(struct lmdb *l, uint64_t end)
{
    if (end <= l->allocated)
        return true;
    while (fallocate(l->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)end) != 0)
        if (errno != EINTR)
            return errno != ENOSPC && errno != EDQUOT && errno != EFBIG;
    l->allocated = end;
    return true;
}

/* Whether the file still has its name. Somebody may have removed or replaced it: then what is written would
 * be gone with the last process that has it open. */
static bool is_in_place(const struct lmdb *l)
{
    struct stat open_one, named;
    if (fstat(l->fd, &open_one) != 0 ||
        (stat(l->file, &named) == 0 && open_one.st_dev == named.st_dev && open_one.st_ino == named.st_ino))
        return true;
    LOG(removed_event, LOG_STR("file", l->file),
        LOG_STR("hint", "it was moved or removed while in use: put it back, or restart the gateway"));
    return false;
}

/*
 * New entries are let in while the file can grow by twice their size, with the reserve behind that still
 * untouched: what removes entries and moves cursors has to write too, and so does copying pages on the way
 * to the root. When the file cannot grow, they are let in while there are enough pages to be used again, and
 * as many left over as the reserve has. Such pages may lie too far apart for a large message; then a
 * transaction fails for want of room, and more is asked for the next time.
 */
static enum kv_result lmdb_room(struct kv *kv, uint64_t bytes)
{
    struct lmdb *l = lmdb_of(kv);
    MDB_envinfo info;
    if (!is_in_place(l))
        return KV_FAILED;
    mdb_env_info(l->env, &info);
    uint64_t end = (info.me_last_pgno + 1) * (uint64_t)l->page, need = 2 * bytes + l->reserve;
    bool limited = end + need > l->limit;
    if (!limited &&
        (end + need <= l->allocated || allocate(l, end + need + l->reserve / 2) || allocate(l, end + need))) {
        l->distrust = 0;
        return KV_OK;
    }
    uint64_t wanted = (2 * bytes + l->reserve / 2 + SMALL_TRANSACTION * l->page) << l->distrust;
    if (wanted > end / 4 * 3)
        wanted = end / 4 * 3;
    if (reusable_bytes(l, info.me_last_txnid) >= wanted)
        return KV_OK;
    return limited ? KV_FULL : KV_NO_SPACE;
}

static uint64_t lmdb_file_bytes(struct kv *kv)
{
    struct stat st;
    return fstat(lmdb_of(kv)->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static unsigned lmdb_clear_dead_readers(struct kv *kv)
{
    int dead = 0;
    mdb_reader_check(lmdb_of(kv)->env, &dead);
    return (unsigned)dead;
}

static void lmdb_close(struct kv *kv)
{
    struct lmdb *l = lmdb_of(kv);
    if (l->env)
        mdb_env_close(l->env);
    free(l->file);
    free(l);
}

static const struct kv_ops lmdb_ops = {
    .close = lmdb_close,
    .reader_new = lmdb_reader_new,
    .reader_free = lmdb_reader_free,
    .read_begin = lmdb_read_begin,
    .read_end = lmdb_read_end,
    .write_begin = lmdb_write_begin,
    .commit = lmdb_commit,
    .abort = lmdb_abort,
    .get = lmdb_get,
    .seek = lmdb_seek,
    .last = lmdb_last,
    .count = lmdb_count,
    .reserve = lmdb_reserve,
    .remove = lmdb_remove,
    .room = lmdb_room,
    .no_room = lmdb_no_room,
    .file_bytes = lmdb_file_bytes,
    .clear_dead_readers = lmdb_clear_dead_readers,
};

/* The format's record: whose file it is, and how it is laid out. */
static const char format_key[] = "format", format_magic[] = "HOLDFAST";
#define FORMAT_SIZE (sizeof format_magic - 1 + sizeof(uint32_t))

static int put_format(MDB_txn *t, MDB_dbi meta, uint32_t format)
{
    char record[FORMAT_SIZE];
    uint32_t le = htole32(format);
    memcpy(record, format_magic, sizeof format_magic - 1);
    memcpy(record + sizeof format_magic - 1, &le, sizeof le);
    MDB_val k = {sizeof format_key - 1, (void *)format_key}, v = {sizeof record, record};
    return mdb_put(t, meta, &k, &v, 0);
}

/* Whether the file is ours, and not of a later time. One of an earlier time becomes one of this when it is
 * opened for writing: what a format adds may be missing. */
static enum kv_open_result check_format(MDB_txn *t, MDB_dbi meta, uint32_t known, bool read_only, int *code)
{
    MDB_val k = {sizeof format_key - 1, (void *)format_key}, v;
    uint32_t format;
    *code = mdb_get(t, meta, &k, &v);
    if (*code && *code != MDB_NOTFOUND)
        return KV_OPEN_ERROR;
    if (*code || v.mv_size != FORMAT_SIZE || memcmp(v.mv_data, format_magic, sizeof format_magic - 1) != 0)
        return KV_OPEN_FOREIGN;
    memcpy(&format, (char *)v.mv_data + sizeof format_magic - 1, sizeof format);
    *code = (int)le32toh(format);
    if (le32toh(format) > known)
        return KV_OPEN_NEWER;
    *code = le32toh(format) < known && !read_only ? put_format(t, meta, known) : 0;
    return *code ? KV_OPEN_ERROR : KV_OPEN_OK;
}

/* Opens the tables; in a new file makes them, in one transaction with the format. */
static enum kv_open_result open_tables(struct lmdb *l, MDB_txn *t, uint32_t format, int *code)
{
    MDB_stat main_table;
    MDB_dbi main_dbi;
    *code = mdb_dbi_open(t, NULL, 0, &main_dbi);
    if (*code == 0)
        *code = mdb_stat(t, main_dbi, &main_table);
    if (*code)
        return KV_OPEN_ERROR;
    bool new = main_table.ms_entries == 0;
    if (new && l->read_only)
        return KV_OPEN_EMPTY;
    for (unsigned i = 0; i < KV_TABLES; i++) {
        *code = mdb_dbi_open(t, table_names[i], new ? MDB_CREATE : 0, &l->dbi[i]);
        if (*code == MDB_NOTFOUND || *code == MDB_INCOMPATIBLE)
            return KV_OPEN_FOREIGN;
        if (*code == 0 && i == KV_META && new)
            *code = put_format(t, l->dbi[i], format);
        if (*code)
            return KV_OPEN_ERROR;
        enum kv_open_result r =
            i == KV_META ? check_format(t, l->dbi[i], format, l->read_only, code) : KV_OPEN_OK;
        if (r != KV_OPEN_OK)
            return r;
    }
    return KV_OPEN_OK;
}

/*
 * Takes the disk space of LMDB's lock file, which it writes through a map: on a full disk that would end this
 * process, and the readers, with SIGBUS.
 */
static int allocate_lock_file(const char *file)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s-lock", file);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0)
        return errno;
    int rc = posix_fallocate(fd, 0, LOCK_FILE_BYTES);
    close(fd);
    return rc == EOPNOTSUPP || rc == EINVAL ? 0 : rc;
}

/* Opens the file and what LMDB needs beside it. A reader does not make it. */
static int open_env(struct lmdb *l, const struct kv_lmdb_settings *s)
{
    unsigned flags = MDB_NOSUBDIR | MDB_NOTLS | MDB_NORDAHEAD | (s->read_only ? MDB_RDONLY : 0) |
                     (s->no_sync ? MDB_NOSYNC : 0);
    int rc = s->read_only ? (access(s->file, F_OK) == 0 ? 0 : errno) : allocate_lock_file(s->file);
    if (rc == 0)
        rc = mdb_env_create(&l->env);
    if (rc)
        return rc;
    mdb_env_set_maxdbs(l->env, KV_TABLES);
    if (!s->read_only)
        mdb_env_set_mapsize(l->env, l->limit);
    return mdb_env_open(l->env, s->file, flags, 0640);
}

/* The file, then its tables; their handles stay valid after the transaction. */
static enum kv_open_result open_all(struct lmdb *l, const struct kv_lmdb_settings *s, int *code)
{
    MDB_txn *t;
    *code = open_env(l, s);
    if (*code == 0)
        *code = mdb_txn_begin(l->env, NULL, s->read_only ? MDB_RDONLY : 0, &t);
    if (*code)
        return s->read_only && (*code == ENOENT || *code == MDB_INVALID) ? KV_OPEN_EMPTY : KV_OPEN_ERROR;
    enum kv_open_result r = open_tables(l, t, s->format, code);
    if (r != KV_OPEN_OK) {
        mdb_txn_abort(t);
        return r;
    }
    *code = mdb_txn_commit(t);
    return *code ? KV_OPEN_ERROR : KV_OPEN_OK;
}

enum kv_open_result kv_lmdb_open(const struct kv_lmdb_settings *s, struct kv **out, int *code)
{
    struct lmdb *l = xcalloc(1, sizeof *l);
    l->kv.ops = &lmdb_ops;
    l->file = xstrdup(s->file);
    l->read_only = s->read_only;
    l->limit = s->limit & ~(uint64_t)0xFFFF;
    l->reserve = s->reserve < l->limit / 8 ? s->reserve : l->limit / 8;
    enum kv_open_result r = open_all(l, s, code);
    if (r != KV_OPEN_OK) {
        lmdb_close(&l->kv);
        return r;
    }
    MDB_stat stat;
    mdb_env_stat(l->env, &stat);
    l->page = stat.ms_psize;
    CHECK(mdb_env_get_fd(l->env, &l->fd) == 0 && mdb_env_get_maxkeysize(l->env) >= KV_KEY_MAX);
    *out = &l->kv;
    return KV_OPEN_OK;
}

const char *kv_lmdb_error(int code) { return mdb_strerror(code); }

int kv_lmdb_copy(struct kv *kv, const char *to)
{
    CHECK(kv->ops == &lmdb_ops);
    return mdb_env_copy2(lmdb_of(kv)->env, to, MDB_CP_COMPACT);
}

enum kv_result kv_put(struct kv_txn *t, enum kv_table table, struct kv_bytes key, struct kv_bytes value)
{
    void *at;
    enum kv_result r = kv_reserve(t, table, key, value.size, &at);
    if (r == KV_OK && value.size)
        memcpy(at, value.data, value.size);
    return r;
}
