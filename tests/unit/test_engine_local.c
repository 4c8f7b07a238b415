/*
 * The engine on a disk: what is there after it was closed, who may open it, what it says when it cannot be
 * opened, readers in other processes, full disks, damaged files.
 */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <lmdb.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "gateway/base/clock.h"
#include "gateway/base/hash.h"
#include "gateway/engine/compact.h"
#include "tests/unit/engine_rig.h"

static struct rig rig;

static void setup(void)
{
    hash_set_key(1, 2);
    clock_update();
    rig_begin(&rig, "local");
}

static void teardown(void) { rig_end(&rig); }

static struct engine_stats stats(void)
{
    struct engine_stats s;
    rig.ops->stats(rig.engine, &s);
    return s;
}

static bool count_message(void *ctx, const struct message_parts *m, uint64_t time_ms)
{
    (void)m;
    (void)time_ms;
    ++*(unsigned *)ctx;
    return true;
}

/* How many messages a reader finds for a filter. */
static unsigned count_messages(struct engine_reader *r, const char *filter)
{
    unsigned n = 0;
    struct engine_filter f = rig_filter(filter, 0);
    struct engine_scan *s = rig.ops->scan_new(r, &f, 1, 0, mqtt_topic_matches);
    enum engine_scan_result result;
    while ((result = rig.ops->scan_next(s, 100, count_message, &n)) == ENGINE_SCAN_MORE)
        ;
    ck_assert_int_eq(result, ENGINE_SCAN_END);
    rig.ops->scan_free(s);
    return n;
}

static const char *path_of(const char *file)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", rig.dir, file);
    return path;
}

static void put_session(const char *id)
{
    struct engine_session s = {.cursor = 5, .expiry_s = 60};
    struct engine_subscription sub = {.filter = "a/#", .len = 3, .options = 1};
    rig.ops->session_put(rig.engine, id, strlen(id), &s);
    rig.ops->subscribe(rig.engine, id, strlen(id), &sub);
}

static void check_session(void *ctx, const struct engine_session_view *v)
{
    (void)ctx;
    ck_assert_uint_eq(v->session.cursor, 5);
    ck_assert_uint_eq(v->subscription_count, 1);
    ck_assert_mem_eq(v->subscriptions[0].filter, "a/#", 3);
}

START_TEST(everything_is_there_after_it_was_closed)
{
    for (int i = 0; i < 100; i++)
        rig_append(&rig, i % 2 ? "a/1" : "a/2", "payload");
    struct message_parts kept = rig_parts("a/1", "retained");
    kept.seq = rig.ops->next_seq(rig.engine);
    rig.ops->retain(rig.engine, &kept);
    put_session("phone");
    uint64_t last = rig.ops->next_seq(rig.engine);
    rig_close(&rig); /* without a commit: closing is one */
    rig_open(&rig);
    ck_assert_uint_eq(count_messages(rig.reader, "a/+"), 100);
    ck_assert_uint_eq(stats().messages, 100);
    ck_assert_uint_eq(stats().retained, 1);
    ck_assert(rig.ops->session_get(rig.reader, "phone", 5, check_session, NULL));
    ck_assert_uint_gt(rig.ops->next_seq(rig.engine), last);
}
END_TEST

/* What was removed is gone from the file, what is kept is in it, and numbers go on. */
START_TEST(a_file_that_is_compacted)
{
    char why[ENGINE_WHY_MAX], large[4001];
    struct compact_sizes sizes;
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = 0;
    rig.settings.max_log_bytes = 1 << 20;
    rig_close(&rig);
    rig_open(&rig);
    put_session("phone");
    for (int i = 0; i < 4000; i++)
        rig_append(&rig, "t", large);
    rig_commit(&rig);
    rig_tick(&rig);
    uint64_t last = rig.ops->next_seq(rig.engine);
    unsigned kept = count_messages(rig.reader, "t");
    ck_assert(!engine_compact(rig.dir, NULL, &sizes, why));
    ck_assert_ptr_nonnull(strstr(why, "is in use by another Holdfast"));
    rig_close(&rig);
    ck_assert_msg(engine_compact(rig.dir, NULL, &sizes, why), "%s", why);
    ck_assert_uint_lt(sizes.after, sizes.before / 2);
    rig_open(&rig);
    ck_assert_uint_eq(count_messages(rig.reader, "t"), kept);
    ck_assert(rig.ops->session_get(rig.reader, "phone", 5, check_session, NULL));
    ck_assert_uint_gt(rig.ops->next_seq(rig.engine), last);
    rig_assert_sound(&rig);
}
END_TEST

START_TEST(numbers_skip_ahead_also_when_the_clock_was_set_back)
{
    uint64_t last = 0;
    for (int i = 0; i < 1000; i++)
        last = rig.ops->next_seq(rig.engine); /* given out, never committed */
    rig_close(&rig);
    clock_fake(1000);
    for (int i = 0; i < 5; i++) {
        rig_open(&rig);
        uint64_t next = rig.ops->next_seq(rig.engine);
        ck_assert_uint_gt(next, last);
        last = next;
        rig_close(&rig);
    }
    ck_assert_uint_lt(last, (uint64_t)1 << 53);
    clock_real();
    rig_open(&rig);
}
END_TEST

START_TEST(numbers_beyond_the_reserved_block_wait_for_the_next_one)
{
    uint64_t first = rig.ops->next_seq(rig.engine), last = first;
    while (last < first + (40u << 20))
        last = rig.ops->next_seq(rig.engine);
    rig_close(&rig);
    clock_fake(1000);
    rig_open(&rig);
    ck_assert_uint_gt(rig.ops->next_seq(rig.engine), last);
    clock_real();
}
END_TEST

/* Opens the directory; it must fail, and say this. */
static void assert_refused(const char *dir, const char *what)
{
    struct engine_settings s = rig.settings;
    char why[ENGINE_WHY_MAX] = "";
    s.data_dir = dir;
    struct engine *e = rig.ops->open_store(&s, why);
    if (e)
        rig.ops->close(e);
    ck_assert_msg(e == NULL, "it was opened; expected: %s", what);
    ck_assert_msg(strstr(why, what) != NULL, "\"%s\" does not say \"%s\"", why, what);
    ck_assert_msg(strstr(why, dir) != NULL, "\"%s\" does not name %s", why, dir);
}

START_TEST(a_directory_that_cannot_be_used_is_named_with_what_to_do)
{
    char missing[128];
    snprintf(missing, sizeof missing, "%s/missing", rig.dir);
    assert_refused(missing, "does not exist: create it");
    assert_refused("/dev/null", "is not a directory");
    assert_refused(rig.dir, "in use by another Holdfast (process ");
    char pid[32];
    snprintf(pid, sizeof pid, "(process %d)", (int)getpid());
    assert_refused(rig.dir, pid);
    ck_assert_ptr_null(rig.ops->open(missing, 10));
}
END_TEST

START_TEST(a_limit_beyond_the_address_space_is_said)
{
    struct rlimit was, small = {.rlim_cur = 8ul << 30, .rlim_max = RLIM_INFINITY};
    rig_close(&rig);
    ck_assert_int_eq(getrlimit(RLIMIT_AS, &was), 0);
    small.rlim_max = was.rlim_max;
    if (setrlimit(RLIMIT_AS, &small) == 0)
        assert_refused(rig.dir, "lower the limit");
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &was), 0);
    rig_open(&rig);
}
END_TEST

/* Puts a file in the place of the engine's, which is closed. */
static void replace_file(const void *bytes, size_t size)
{
    FILE *f = fopen(path_of("holdfast.mdb"), "w");
    ck_assert_uint_eq(fwrite(bytes, 1, size, f), size);
    fclose(f);
    unlink(path_of("holdfast.lock"));
    unlink(path_of("holdfast.mdb-lock"));
}

START_TEST(a_file_that_is_not_ours_is_not_touched)
{
    static char text[20000];
    rig_close(&rig);
    replace_file("hello\n", 6);
    assert_refused(rig.dir, "is not Holdfast's");
    memset(text, 'x', sizeof text);
    replace_file(text, sizeof text);
    assert_refused(rig.dir, "is not Holdfast's");
    struct stat st;
    ck_assert_int_eq(stat(path_of("holdfast.mdb"), &st), 0);
    ck_assert_uint_eq(st.st_size, sizeof text);
    replace_file("", 0); /* an empty one is as good as none */
    rig_open(&rig);
}
END_TEST

/* Changes one entry of a table with LMDB itself; the table is made when it is not there. */
static void lmdb_put(const char *table, const char *key, const void *bytes, size_t size)
{
    MDB_env *env;
    MDB_txn *t;
    MDB_dbi dbi;
    MDB_val k = {strlen(key), (void *)key}, v = {size, (void *)bytes};
    ck_assert_int_eq(mdb_env_create(&env), 0);
    mdb_env_set_maxdbs(env, 16);
    ck_assert_int_eq(mdb_env_open(env, path_of("holdfast.mdb"), MDB_NOSUBDIR, 0600), 0);
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &t), 0);
    ck_assert_int_eq(mdb_dbi_open(t, table, MDB_CREATE, &dbi), 0);
    ck_assert_int_eq(mdb_put(t, dbi, &k, &v, 0), 0);
    ck_assert_int_eq(mdb_txn_commit(t), 0);
    mdb_env_close(env);
}

/* Takes an entry out of a table, with LMDB itself. */
static void lmdb_remove(const char *table, const char *key)
{
    MDB_env *env;
    MDB_txn *t;
    MDB_dbi dbi;
    MDB_val k = {strlen(key), (void *)key};
    ck_assert_int_eq(mdb_env_create(&env), 0);
    mdb_env_set_maxdbs(env, 16);
    ck_assert_int_eq(mdb_env_open(env, path_of("holdfast.mdb"), MDB_NOSUBDIR, 0600), 0);
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &t), 0);
    ck_assert_int_eq(mdb_dbi_open(t, table, 0, &dbi), 0);
    ck_assert_int_eq(mdb_del(t, dbi, &k, NULL), 0);
    ck_assert_int_eq(mdb_txn_commit(t), 0);
    mdb_env_close(env);
}

static bool count_one(void *ctx, const struct message_parts *m, uint64_t time_ms)
{
    (void)m;
    (void)time_ms;
    ++*(unsigned *)ctx;
    return true;
}

static unsigned count_of(const char *filter)
{
    struct engine_filter f = rig_filter(filter, 0);
    unsigned count = 0;
    struct engine_scan *s = rig.ops->scan_new(rig.reader, &f, 1, 0, mqtt_topic_matches);
    while (rig.ops->scan_next(s, 100, count_one, &count) == ENGINE_SCAN_MORE)
        ;
    rig.ops->scan_free(s);
    return count;
}

static void progress_cb(void *ctx, const struct engine_session_view *v)
{
    *(struct engine_progress *)ctx = v->progress;
}

/* How much a session has in flight, and is owed. */
static void assert_progress(const char *id, unsigned outs, unsigned owes)
{
    struct engine_progress p;
    ck_assert(rig.ops->session_get(rig.reader, id, strlen(id), progress_cb, &p));
    ck_assert_uint_eq(p.outs, outs);
    ck_assert_uint_eq(p.owes, owes);
}

/* In format 1 the index had all messages, and nothing said so. */
START_TEST(a_file_of_format_1_is_taken_over)
{
    for (int i = 0; i < 20; i++)
        rig_append(&rig, i % 2 ? "a" : "b", "old");
    rig_commit(&rig);
    rig_tick(&rig);
    rig_close(&rig);
    lmdb_remove("meta", "indexed");
    lmdb_put("meta", "format", "HOLDFAST\x01\0\0\0", 12);
    for (unsigned open = 0; open < 2; open++) {
        rig_open(&rig);
        ck_assert_uint_eq(count_of("a"), 10 + open);
        rig_append(&rig, "a", "new");
        rig_commit(&rig);
        ck_assert_uint_eq(count_of("a"), 11 + open);
        ck_assert_uint_eq(count_of("#"), 21 + open);
        rig_assert_sound(&rig);
        rig_close(&rig);
    }
    lmdb_remove("meta", "indexed"); /* what the index lacks would not be missed: */
    rig_open(&rig);
    ck_assert(!rig.ops->verify(rig.reader, rig.why));
    rig_close(&rig);
    unlink(path_of("holdfast.mdb"));
    rig_open(&rig);
}
END_TEST

/* Up to format 2 progress did not say what is owed. */
START_TEST(a_file_of_format_2_is_taken_over)
{
    const struct engine_inflight out = {.seq = 101, .state = ENGINE_SENT};
    const struct engine_progress p = {.cursor = 10, .out = &out, .outs = 1};
    const struct engine_subscription sub = {.filter = "a", .len = 1, .options = 1, .asked = 40};
    const struct engine_session s = {.cursor = 5, .expiry_s = 60};
    rig.ops->session_put(rig.engine, "c", 1, &s);
    rig.ops->progress(rig.engine, "c", 1, &p);
    rig_commit(&rig);
    rig_close(&rig);
    lmdb_put("meta", "format", "HOLDFAST\x02\0\0\0", 12);
    rig_open(&rig);
    assert_progress("c", 1, 0);
    rig.ops->subscribe(rig.engine, "c", 1, &sub);
    rig_commit(&rig);
    assert_progress("c", 1, 1);
    rig_assert_sound(&rig);
}
END_TEST

START_TEST(another_programs_tables_and_a_newer_format_are_refused)
{
    rig_close(&rig);
    lmdb_put("meta", "format", "HOLDFAST\x05\0\0\0", 12);
    assert_refused(rig.dir, "newer Holdfast (format 5, this one knows 4)");
    lmdb_put("meta", "format", "HOLDFAST", 8);
    assert_refused(rig.dir, "another program's");
    unlink(path_of("holdfast.mdb"));
    unlink(path_of("holdfast.mdb-lock"));
    lmdb_put("songs", "key", "value", 5);
    assert_refused(rig.dir, "another program's");
    unlink(path_of("holdfast.mdb"));
    unlink(path_of("holdfast.mdb-lock"));
    rig_open(&rig);
}
END_TEST

/* ---- damage ---- */

static unsigned char *sound_file;
static size_t sound_size;

/* A file with some of everything, closed and in memory. */
static void make_sound_file(void)
{
    static char payload[9000];
    memset(payload, 'p', sizeof payload - 1);
    for (int i = 0; i < 300; i++) {
        char topic[32], id[32];
        snprintf(topic, sizeof topic, "a/%d", i % 70);
        snprintf(id, sizeof id, "client-%d", i);
        rig_append(&rig, topic, i % 20 ? "short" : payload);
        put_session(id);
        if (i % 30 == 0)
            rig_commit(&rig);
    }
    rig_close(&rig);
    FILE *f = fopen(path_of("holdfast.mdb"), "r");
    struct stat st;
    ck_assert_int_eq(fstat(fileno(f), &st), 0);
    sound_size = (size_t)st.st_size;
    sound_file = malloc(sound_size);
    ck_assert_uint_eq(fread(sound_file, 1, sound_size, f), sound_size);
    fclose(f);
}

/* Opens what is there, reads all of it, writes; in a process of its own. 0: refused, 1: worked; it never
 * dies. */
static int try_file(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        close(2);
        rig.settings.sync = ENGINE_SYNC_NEVER; /* only to be quick */
        struct engine *e = rig.ops->open_store(&rig.settings, rig.why);
        if (!e)
            _exit(rig.why[0] ? 0 : 99);
        rig.engine = e;
        rig.reader = rig.ops->reader_open(e, rig.dir, rig.why);
        rig.ticket = 0;
        bool sound = rig.ops->verify(rig.reader, rig.why);
        rig_append(&rig, "a/1", "more");
        rig_close(&rig);
        _exit(sound ? 1 : 98);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) < 2, "status %x", (unsigned)status);
    return WEXITSTATUS(status);
}

START_TEST(a_file_cut_short_is_refused)
{
    make_sound_file();
    replace_file(sound_file, sound_size);
    ck_assert_int_eq(try_file(), 1);
    for (size_t cut = 1; cut < sound_size; cut += cut < 9000 ? 997 : 8191) {
        replace_file(sound_file, cut);
        ck_assert_int_eq(try_file(), 0);
    }
    replace_file(sound_file, sound_size / 2);
    assert_refused(rig.dir, "is damaged (");
    free(sound_file);
    unlink(path_of("holdfast.mdb"));
    rig_open(&rig);
}
END_TEST

/* A torn or overwritten head: refused with a reason, or the head before it is used and all agrees. */
START_TEST(a_damaged_head_is_refused_or_the_older_one_used)
{
    make_sound_file();
    unsigned refused = 0, used = 0;
    for (size_t page = 0; page < 2; page++)
        for (size_t at = 0; at < 16 + 136; at++) {
            size_t i = page * 4096 + at;
            unsigned char was = sound_file[i];
            sound_file[i] ^= (unsigned char)(1u << (at * 5 + page) % 8);
            replace_file(sound_file, sound_size);
            *(try_file() ? &used : &refused) += 1;
            sound_file[i] = (unsigned char)~was;
            replace_file(sound_file, sound_size);
            *(try_file() ? &used : &refused) += 1;
            sound_file[i] = was;
        }
    ck_assert_uint_gt(refused, 50);
    ck_assert_uint_gt(used, 50);
    memset(sound_file, 0, 4096);
    replace_file(sound_file, sound_size);
    assert_refused(rig.dir, "is damaged (");
    free(sound_file);
    unlink(path_of("holdfast.mdb"));
    rig_open(&rig);
}
END_TEST

START_TEST(pages_that_are_overwritten_are_noticed)
{
    make_sound_file();
    unsigned refused = 0;
    for (size_t page = 2; page < sound_size / 4096; page++) {
        unsigned char was[4096];
        memcpy(was, sound_file + page * 4096, 4096);
        memset(sound_file + page * 4096, page % 2 ? 0xFF : 0, 4096);
        replace_file(sound_file, sound_size);
        refused += try_file() == 0; /* the others are free pages, or the middle of a payload */
        memcpy(sound_file + page * 4096, was, 4096);
    }
    ck_assert_uint_gt(refused, 20);
    free(sound_file);
    unlink(path_of("holdfast.mdb"));
    rig_open(&rig);
}
END_TEST

/* ---- other processes ---- */

/* Runs fn in a process of its own with a reader there; the pipe ends with it. */
static pid_t with_reader(void (*fn)(struct engine_reader *r, int fd), int *fd)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char why[ENGINE_WHY_MAX];
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* it ends when the test does */
        struct engine_reader *r = rig.ops->reader_open(NULL, rig.dir, why);
        ck_assert_msg(r != NULL, "%s", why);
        fn(r, ends[1]);
        rig.ops->reader_close(r);
        _exit(0);
    }
    close(ends[1]);
    *fd = ends[0];
    return pid;
}

/* Waits until 300 messages are there. */
static void read_many(struct engine_reader *r, int fd)
{
    unsigned n;
    while ((n = count_messages(r, "a/+")) < 300)
        usleep(1000);
    ck_assert_int_eq(write(fd, &n, sizeof n), sizeof n);
}

START_TEST(another_process_reads_in_place_what_is_committed)
{
    int fd, status;
    unsigned n = 0;
    pid_t pid = with_reader(read_many, &fd);
    for (int i = 0; i < 300; i++) {
        rig_append(&rig, i % 2 ? "a/1" : "a/2", "x");
        rig_commit(&rig);
    }
    ck_assert_int_eq(read(fd, &n, sizeof n), sizeof n);
    ck_assert_uint_eq(n, 300);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    close(fd);
}
END_TEST

static bool stop_here(void *ctx, const struct message_parts *m, uint64_t time_ms)
{
    (void)m;
    (void)time_ms;
    ck_assert_int_eq(write(*(int *)ctx, "x", 1), 1);
    for (;;)
        pause();
}

/* Stays within a snapshot for ever. */
static void hold_snapshot(struct engine_reader *r, int fd)
{
    struct engine_filter f = rig_filter("t", 0);
    struct engine_scan *s = rig.ops->scan_new(r, &f, 1, 0, mqtt_topic_matches);
    rig.ops->scan_next(s, 10, stop_here, &fd);
}

START_TEST(a_reader_that_was_killed_does_not_hold_old_pages)
{
    static char payload[3000];
    int fd, status;
    char byte;
    memset(payload, 'p', sizeof payload - 1);
    rig_close(&rig);
    rig.settings.max_log_bytes = 300000;
    rig_open(&rig);
    rig_append(&rig, "t", "first");
    rig_commit(&rig);
    pid_t pid = with_reader(hold_snapshot, &fd);
    ck_assert_int_eq(read(fd, &byte, 1), 1);
    kill(pid, SIGKILL);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    rig.ops->tick(rig.engine);
    rig_commit(&rig);
    ck_assert_uint_eq(stats().dead_readers, 1);
    for (int i = 0; i < 300; i++) {
        rig_append(&rig, "t", payload);
        rig_commit(&rig);
    }
    uint64_t size = stats().file_bytes;
    for (int i = 0; i < 2000; i++) {
        rig_append(&rig, "t", payload);
        rig_commit(&rig);
    }
    ck_assert_uint_le(stats().file_bytes, 2 * size);
    close(fd);
}
END_TEST

static int go_on[2];

/* Reads before and after the file has got a larger limit. */
static void read_across_growth(struct engine_reader *r, int fd)
{
    char byte = (char)count_messages(r, "t");
    ck_assert_int_eq(write(fd, &byte, 1), 1);
    ck_assert_int_eq(read(go_on[0], &byte, 1), 1);
    unsigned n = count_messages(r, "t");
    ck_assert_int_eq(write(fd, &n, sizeof n), sizeof n);
}

START_TEST(readers_follow_when_the_limit_is_raised)
{
    static char payload[50000];
    int fd, status;
    unsigned n;
    memset(payload, 'p', sizeof payload - 1);
    ck_assert_int_eq(pipe(go_on), 0);
    rig_close(&rig);
    unlink(path_of("holdfast.mdb"));
    rig.settings.max_file_bytes = 2 << 20;
    rig_open(&rig);
    rig_append(&rig, "t", payload);
    rig_commit(&rig);
    rig_close(&rig);
    pid_t pid = with_reader(read_across_growth, &fd);
    char byte;
    ck_assert_int_eq(read(fd, &byte, 1), 1);
    ck_assert_int_eq(byte, 1);
    rig.settings.max_file_bytes = 64 << 20;
    rig_open(&rig);
    for (int i = 0; i < 200; i++)
        rig_append(&rig, "t", payload);
    ck_assert_int_eq(rig_commit(&rig), ENGINE_OK);
    ck_assert_uint_gt(stats().file_bytes, 8 << 20);
    ck_assert_int_eq(write(go_on[1], "x", 1), 1);
    ck_assert_int_eq(read(fd, &n, sizeof n), sizeof n);
    ck_assert_uint_eq(n, 201);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(a_reader_comes_before_there_is_anything)
{
    char why[ENGINE_WHY_MAX], empty[] = "/tmp/holdfast-test-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(empty));
    ck_assert_ptr_null(rig.ops->reader_open(NULL, empty, why));
    ck_assert_msg(strstr(why, "holds nothing yet") != NULL, "%s", why);
    ck_assert_int_eq(rmdir(empty), 0); /* it has left nothing there */
}
END_TEST

/* ---- when it is on disk ---- */

START_TEST(with_an_interval_commits_wait_for_each_other)
{
    rig_close(&rig);
    rig.settings.sync = ENGINE_SYNC_INTERVAL;
    rig.settings.sync_interval_ms = 20;
    rig_open(&rig);
    for (int i = 0; i < 200; i++) {
        rig_append(&rig, "t", "x");
        rig.ops->commit(rig.engine);
    }
    rig_commit(&rig); /* returns when it is told: what is told can be read */
    ck_assert_uint_eq(stats().messages, 200);
    ck_assert_uint_lt(stats().commits, 150);
    rig_append(&rig, "t", "last");
    rig_close(&rig);
    rig_open(&rig);
    ck_assert_uint_eq(stats().messages, 201);
}
END_TEST

START_TEST(without_sync_everything_is_there_after_a_close)
{
    rig_close(&rig);
    rig.settings.sync = ENGINE_SYNC_NEVER;
    rig_open(&rig);
    for (int i = 0; i < 1000; i++) {
        rig_append(&rig, "t", "x");
        rig_commit(&rig);
    }
    rig_close(&rig);
    rig_open(&rig);
    ck_assert_uint_eq(stats().messages, 1000);
}
END_TEST

/* ---- full disks ---- */

/* A file of this size, or as large as there is room for. */
static void take_space(size_t size)
{
    static const char block[4096];
    int fd = open(path_of("filler"), O_CREAT | O_WRONLY | O_TRUNC, 0600);
    ck_assert_int_ge(fd, 0);
    for (size_t done = 0; done < size && write(fd, block, sizeof block) > 0; done += sizeof block)
        ;
    close(fd);
}

/* A small file system over the directory, seen by this process and its children only. */
static bool mount_small(const char *options)
{
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", rig.dir, "tmpfs", 0, options) == 0;
}

/* Back to the directory below. */
static void unmount_small(void)
{
    rig_close(&rig);
    ck_assert_int_eq(umount(rig.dir), 0);
    rig_open(&rig);
}

/* Appends until there is no room; how many were kept. */
static unsigned fill_disk(void)
{
    static char payload[5001];
    enum engine_result why;
    memset(payload, 'p', 5000);
    struct message_parts m = rig_parts("t", payload);
    unsigned kept = 0;
    while (rig.ops->append(rig.engine, &m, &why) && (why = rig_commit(&rig)) == ENGINE_OK)
        kept++;
    ck_assert_int_eq(why, ENGINE_NO_SPACE);
    ck_assert_int_eq(stats().refusing, ENGINE_NO_SPACE);
    rig_assert_sound(&rig);
    return kept;
}

/* Sessions and cursors go on: far more of them than the reserve has bytes. */
static void live_on(void)
{
    for (int i = 0; i < 300; i++) {
        struct engine_progress p = {.cursor = 10 + (uint64_t)i};
        put_session("c");
        rig.ops->progress(rig.engine, "c", 1, &p);
        ck_assert_int_eq(rig_commit(&rig), ENGINE_OK);
    }
    rig.ops->session_remove(rig.engine, "c", 1);
    ck_assert_int_eq(rig_commit(&rig), ENGINE_OK);
}

/* Ticks, and then messages are taken again. */
static void assert_recovers(void)
{
    for (int i = 0; i < 4; i++)
        rig_tick(&rig);
    ck_assert_int_eq(stats().refusing, ENGINE_OK);
    rig_append(&rig, "t", "accepted again");
    ck_assert_int_eq(rig_commit(&rig), ENGINE_OK);
    ck_assert_uint_eq(stats().failed_commits, 0);
    rig_assert_sound(&rig);
}

START_TEST(a_full_disk_refuses_messages_and_recovers_without_a_restart)
{
    uint64_t now = clock_wall_ms();
    rig_close(&rig);
    if (!mount_small("size=12m")) {
        fprintf(stderr, "not run: no permission to mount a small file system\n");
        rig_open(&rig);
        return;
    }
    rig.settings.reserve_bytes = 1 << 20;
    rig.settings.max_age_ms = 60000;
    clock_fake(now);
    take_space(5 << 20);
    rig_open(&rig);
    ck_assert_uint_gt(fill_disk(), 200);
    live_on();
    unlink(path_of("filler")); /* somebody made room */
    assert_recovers();
    for (int round = 0; round < 8; round++) {
        ck_assert_uint_gt(fill_disk(), round == 0 ? 300 : 100);
        live_on();
        clock_fake(now += 61000); /* messages get too old */
        assert_recovers();
    }
    clock_real();
    unmount_small();
}
END_TEST

START_TEST(a_disk_that_is_full_at_the_start_is_said)
{
    rig_close(&rig);
    bool mounted = mount_small("size=2m");
    if (mounted) {
        take_space(2 << 20);
        assert_refused(rig.dir, "full");
        take_space((2 << 20) - 8192);
        assert_refused(rig.dir, "full");
        unlink(path_of("filler"));
    }
    rig_open(&rig);
    if (mounted)
        unmount_small();
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, everything_is_there_after_it_was_closed);
    tcase_add_test(tc, a_file_that_is_compacted);
    tcase_add_test(tc, numbers_skip_ahead_also_when_the_clock_was_set_back);
    tcase_add_test(tc, numbers_beyond_the_reserved_block_wait_for_the_next_one);
    tcase_add_test(tc, a_directory_that_cannot_be_used_is_named_with_what_to_do);
    tcase_add_test(tc, a_limit_beyond_the_address_space_is_said);
    tcase_add_test(tc, a_file_that_is_not_ours_is_not_touched);
    tcase_add_test(tc, a_file_of_format_1_is_taken_over);
    tcase_add_test(tc, a_file_of_format_2_is_taken_over);
    tcase_add_test(tc, another_programs_tables_and_a_newer_format_are_refused);
    tcase_add_test(tc, a_file_cut_short_is_refused);
    tcase_add_test(tc, a_damaged_head_is_refused_or_the_older_one_used);
    tcase_add_test(tc, pages_that_are_overwritten_are_noticed);
    tcase_add_test(tc, another_process_reads_in_place_what_is_committed);
    tcase_add_test(tc, a_reader_that_was_killed_does_not_hold_old_pages);
    tcase_add_test(tc, readers_follow_when_the_limit_is_raised);
    tcase_add_test(tc, a_reader_comes_before_there_is_anything);
    tcase_add_test(tc, with_an_interval_commits_wait_for_each_other);
    tcase_add_test(tc, without_sync_everything_is_there_after_a_close);
    tcase_add_test(tc, a_full_disk_refuses_messages_and_recovers_without_a_restart);
    tcase_add_test(tc, a_disk_that_is_full_at_the_start_is_said);
}

UNIT_MAIN("engine_local")
