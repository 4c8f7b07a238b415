/*
 * Kills the process that writes the log, at random, hundreds of times, and looks after each time: everything
 * that was reported kept is there, nothing that was reported refused is, no number was given twice, cursors
 * are where they were reported, progress that went with messages is there exactly when they are, and all
 * tables agree. Another process reads all the while, and lives or dies as it happens.
 *
 *      HOLDFAST_SEED=n     repeat a run (the seed is printed)
 *      HOLDFAST_CRASHES=n  more of them than 150; with CK_FORK=no there is no time limit
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "gateway/base/clock.h"
#include "gateway/base/hash.h"
#include "tests/unit/engine_rig.h"

static struct rig rig;
static uint64_t random_state;
static bool is_small; /* the file has no room for all messages */

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

#define TOPICS  50
#define BALLAST TOPICS /* the topic of a message that nobody looks for */

/* What the writer reports through the pipe. */
struct report {
    enum { GIVEN, KEPT, REFUSED } what;
    uint32_t topic;
    /* GIVEN: a message's number; KEPT: everything up to it, and the cursor that was set with it; REFUSED: all
     * messages up to it that have not been reported yet */
    uint64_t seq;
};

/* A message's payload says which one it is. */
static void name_message(char topic[16], char payload[64], uint32_t n, uint64_t nonce)
{
    snprintf(topic, 16, "t/%u", n);
    snprintf(payload, 64, "%u %llu", n, (unsigned long long)nonce);
}

/* A process for the test: it ends when the test does, however that ends. */
static pid_t start(void)
{
    pid_t parent = getpid(), pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0 && (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent))
        _exit(5);
    return pid;
}

static int report_fd;

static void tell(const struct report *r)
{
    if (write(report_fd, r, sizeof *r) != sizeof *r)
        _exit(0);
}

static void committed(void *ctx, uint64_t ticket, uint64_t last_seq, enum engine_result result)
{
    (void)ctx;
    (void)ticket;
    struct report r = {.what = result == ENGINE_OK ? KEPT : REFUSED, .seq = last_seq};
    tell(&r);
}

/* Opens the engine. A file at its limit cannot be opened for writing while a reader that is slow holds the
 * pages that were freed last; it moves on. */
static struct engine *open_patiently(const struct engine_settings *s, char *why)
{
    struct engine *e = rig.ops->open_store(s, why);
    for (unsigned tries = 0; !e && is_small && tries < 6000; tries++) {
        usleep(10000);
        e = rig.ops->open_store(s, why);
    }
    return e;
}

/* The message with which session "w" makes progress: retained, so that it is found however old it is. */
static void write_together(struct engine *e, uint64_t seq)
{
    struct message_parts m = rig_parts("together", "x");
    uint16_t in = (uint16_t)seq;
    struct engine_inflight out = {.seq = seq, .packet_id = 7, .qos = 2};
    struct engine_progress p = {
        .cursor = seq, .out = &out, .outs = 1, .in = &in, .ins = 1, .with_messages = true};
    m.seq = seq;
    rig.ops->retain(e, &m);
    rig.ops->progress(e, "w", 1, &p);
}

/* A large message that is gone soon: the file is full now and then. Returns its number, or 0. */
static uint64_t write_ballast(struct engine *e)
{
    static char ballast[30001];
    enum engine_result full;
    memset(ballast, 'b', sizeof ballast - 1);
    struct message_parts m = rig_parts("ballast", ballast);
    m.expires_ms = clock_wall_ms() + 20;
    struct report r = {.what = GIVEN, .topic = BALLAST, .seq = rig.ops->append(e, &m, &full)};
    if (r.seq)
        tell(&r);
    return r.seq;
}

/* The writer: appends, moves a cursor, commits, without end. */
static void write_until_killed(int fd, const struct engine_settings *settings)
{
    static const struct engine_handler handler = {.committed = committed};
    char why[ENGINE_WHY_MAX], topic[16], payload[64];
    report_fd = fd;
    struct engine *e = open_patiently(settings, why);
    if (!e) {
        fprintf(stderr, "%s\n", why);
        _exit(1);
    }
    struct engine_session s = {.expiry_s = ENGINE_EXPIRY_NEVER};
    rig.ops->session_put(e, "c", 1, &s);
    rig.ops->session_put(e, "w", 1, &s);
    for (unsigned turn = 0;; turn++) {
        struct report r = {.what = GIVEN};
        uint64_t last = is_small ? write_ballast(e) : 0;
        for (uint32_t i = 1 + random_below(20); i > 0; i--) {
            enum engine_result full;
            r.topic = random_below(TOPICS);
            name_message(topic, payload, r.topic, 0);
            struct message_parts m = rig_parts(topic, payload);
            m.expires_ms = random_below(2) ? clock_wall_ms() + 3600000 : 0;
            r.seq = rig.ops->append(e, &m, &full);
            if (r.seq == 0)
                break;
            if (random_below(4) == 0) {
                m.seq = r.seq;
                rig.ops->retain(e, &m);
            }
            tell(&r);
            last = r.seq;
        }
        if (last)
            write_together(e, last);
        struct engine_inflight out = {.seq = last + 1, .packet_id = 1};
        struct engine_progress p = {.cursor = last, .out = &out, .outs = (uint16_t)random_below(2)};
        rig.ops->progress(e, "c", 1, &p);
        if (turn % 16 == 0)
            rig.ops->tick(e);
        rig.ops->commit(e);
        struct pollfd wait = {.fd = rig.ops->event_fd(e), .events = POLLIN};
        poll(&wait, 1, random_below(2) ? -1 : 0);
        rig.ops->poll(e, &handler, NULL);
    }
}

/* What the test knows. */
static struct known {
    uint64_t seq;
    uint32_t topic;
    bool found;
    bool seen;    /* found after an earlier crash: may never be missing again */
    bool refused; /* may never be there */
} * known;
static size_t known_count, known_room;
static uint64_t greatest, kept, decided;
static unsigned times_refused, times_together;

/* All up to this number that nothing was said about were refused. */
static void take_refusal(uint64_t seq)
{
    for (size_t i = known_count; i > 0 && known[i - 1].seq > decided; i--)
        known[i - 1].refused = known[i - 1].seq <= seq;
    times_refused++;
}

/* Takes in what the writer said before it died. */
static void listen_to(int fd)
{
    struct report r;
    ssize_t n;
    while ((n = read(fd, &r, sizeof r)) == sizeof r || (n < 0 && errno == EINTR)) {
        if (n < 0)
            continue;
        if (r.what != GIVEN) {
            if (r.what == REFUSED)
                take_refusal(r.seq);
            else if (r.seq > decided) /* or there was no message in it */
                kept = r.seq;
            decided = r.seq;
            continue;
        }
        ck_assert_msg(r.seq > greatest, "number %llu after %llu", (unsigned long long)r.seq,
                      (unsigned long long)greatest);
        greatest = r.seq;
        if (r.topic == BALLAST)
            continue;
        if (known_count == known_room) {
            known_room = known_room ? 2 * known_room : 1024;
            known = realloc(known, known_room * sizeof *known);
            ck_assert_ptr_nonnull(known);
        }
        known[known_count++] = (struct known){.seq = r.seq, .topic = r.topic};
    }
}

/* A message of the log: one that was reported, as it was; or one that the writer died before reporting. */
static bool check_message(void *ctx, const struct message_parts *m, uint64_t time_ms)
{
    size_t *at = ctx;
    char topic[16], payload[64];
    (void)time_ms;
    while (*at < known_count && known[*at].seq < m->seq)
        ++*at;
    if (*at == known_count || known[*at].seq != m->seq)
        return true;
    name_message(topic, payload, known[*at].topic, 0);
    ck_assert_uint_eq(m->topic_len, strlen(topic));
    ck_assert_mem_eq(m->topic, topic, m->topic_len);
    ck_assert_uint_eq(m->payload_len, strlen(payload));
    ck_assert_mem_eq(m->payload, payload, m->payload_len);
    known[*at].found = true;
    return true;
}

static void check_cursor(void *ctx, const struct engine_session_view *v)
{
    (void)ctx;
    ck_assert_uint_ge(v->session.cursor, kept);
    ck_assert_uint_le(v->session.cursor, greatest);
}

static bool take_number(void *ctx, const struct message_parts *m, uint64_t time_ms)
{
    (void)time_ms;
    *(uint64_t *)ctx = m->seq;
    return true;
}

/* Session "w" has come exactly as far as the message that goes with it. */
static void check_together(void *ctx, const struct engine_session_view *v)
{
    uint64_t seq = *(uint64_t *)ctx;
    ck_assert_uint_eq(v->progress.cursor, seq);
    ck_assert_uint_eq(v->progress.outs, seq ? 1 : 0);
    ck_assert_uint_eq(v->progress.ins, seq ? 1 : 0);
    if (!seq)
        return;
    ck_assert_uint_eq(v->progress.out[0].seq, seq);
    ck_assert_uint_eq(v->progress.in[0], (uint16_t)seq);
    times_together++;
}

static void look_together(void)
{
    static char last[65535];
    size_t last_len = 0;
    uint64_t seq = 0;
    rig.ops->retained_walk(rig.reader, "together", 8, mqtt_topic_matches, "", 0, 10, take_number, &seq, last,
                           &last_len);
    if (!rig.ops->session_get(rig.reader, "w", 1, check_together, &seq))
        ck_assert_uint_eq(seq, 0);
}

/* rig_open(), patiently. */
static void open_rig(void)
{
    rig.settings.data_dir = rig.dir;
    rig.ticket = 0;
    rig.engine = open_patiently(&rig.settings, rig.why);
    ck_assert_msg(rig.engine != NULL, "%s", rig.why);
    rig.reader = rig.ops->reader_open(rig.engine, rig.dir, rig.why);
    ck_assert_msg(rig.reader != NULL, "%s", rig.why);
}

/* Opens what the dead writer left and looks at all of it. */
static void look(bool by_topic)
{
    struct engine_stats s;
    struct engine_filter f[TOPICS] = {rig_filter("#", 0)};
    char topic[TOPICS][16];
    size_t at = 0, n = 1;
    open_rig();
    rig_assert_sound(&rig);
    rig.ops->stats(rig.engine, &s);
    for (; by_topic && n <= TOPICS; n++) {
        snprintf(topic[n - 1], sizeof topic[0], "t/%u", (unsigned)n - 1);
        f[n - 1] = rig_filter(topic[n - 1], 0);
    }
    struct engine_scan *scan = rig.ops->scan_new(rig.reader, f, by_topic ? TOPICS : 1, 0, mqtt_topic_matches);
    while (rig.ops->scan_next(scan, 1000, check_message, &at) == ENGINE_SCAN_MORE)
        ;
    ck_assert_uint_eq(rig.ops->scan_position(scan), s.head);
    rig.ops->scan_free(scan);
    for (size_t i = 0; i < known_count; i++) {
        ck_assert_msg(!known[i].found || !known[i].refused, "number %llu was refused and is there",
                      (unsigned long long)known[i].seq);
        ck_assert_msg(known[i].found || known[i].refused || known[i].seq < s.oldest_seq ||
                          (known[i].seq > kept && !known[i].seen),
                      "number %llu was kept and is lost", (unsigned long long)known[i].seq);
    }
    if (kept)
        ck_assert(rig.ops->session_get(rig.reader, "c", 1, check_cursor, NULL));
    look_together();
    uint64_t next = rig.ops->next_seq(rig.engine);
    ck_assert_uint_gt(next, greatest);
    greatest = next;
    rig_close(&rig);
    /* What is not there by now never will be. */
    size_t still = 0;
    for (size_t i = 0; i < known_count; i++)
        if (known[i].found)
            known[still++] = (struct known){.seq = known[i].seq, .topic = known[i].topic, .seen = true};
    known_count = still;
    kept = 0;
    decided = greatest;
}

static bool in_order(void *ctx, const struct message_parts *m, uint64_t time_ms)
{
    uint64_t *last = ctx;
    (void)time_ms;
    if (m->seq <= *last)
        _exit(3);
    *last = m->seq;
    return true;
}

/* A worker, as it were: reads for as long as it lives. */
static void read_until_killed(void)
{
    char why[ENGINE_WHY_MAX];
    struct engine_reader *r;
    struct engine_filter f[] = {rig_filter("t/1", 0), rig_filter("t/2", 0), rig_filter("t/3", 0)};
    while (!(r = rig.ops->reader_open(NULL, rig.dir, why)))
        usleep(500);
    for (;;) {
        uint64_t last = 0;
        enum engine_scan_result result;
        struct engine_scan *s = rig.ops->scan_new(r, f, 3, 0, mqtt_topic_matches);
        while ((result = rig.ops->scan_next(s, 50, in_order, &last)) == ENGINE_SCAN_MORE)
            ;
        rig.ops->scan_free(s);
        if (result == ENGINE_SCAN_ERROR)
            _exit(4);
    }
}

/* Ends a process and says how it was doing. */
static void kill_and_wait(pid_t pid)
{
    int status;
    kill(pid, SIGKILL);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "it had died by itself: %x",
                  (unsigned)status);
}

/* Lets a writer run for a while, kills it, and hears what it had to say. */
static void crash(unsigned most_us)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    random_below(2);
    pid_t pid = start();
    if (pid == 0) {
        close(ends[0]);
        write_until_killed(ends[1], &rig.settings);
    }
    close(ends[1]);
    fcntl(ends[0], F_SETPIPE_SZ, 1 << 20);
    usleep(random_below(most_us));
    kill_and_wait(pid);
    listen_to(ends[0]);
    close(ends[0]);
}

static unsigned crashes(void)
{
    const char *n = getenv("HOLDFAST_CRASHES");
    return n ? (unsigned)strtoul(n, NULL, 10) : 150;
}

/* A directory, a seed, and a reader that runs. */
static pid_t begin(void)
{
    const char *seed = getenv("HOLDFAST_SEED");
    hash_set_key(1, 2);
    clock_real();
    random_state = seed ? strtoull(seed, NULL, 10) : clock_us();
    printf("HOLDFAST_SEED=%llu\n", (unsigned long long)random_state);
    fflush(stdout);
    rig_begin(&rig, "local");
    rig_close(&rig);
    pid_t reader = start();
    if (reader == 0)
        read_until_killed();
    return reader;
}

/* A reader in the place of one that is killed. */
static pid_t replace_reader(pid_t reader, bool with_directory)
{
    kill_and_wait(reader);
    if (with_directory) {
        rig_remove_dir(&rig);
        rig_make_dir(&rig);
        known_count = 0;
        greatest = kept = decided = 0;
    }
    reader = start();
    if (reader == 0)
        read_until_killed();
    return reader;
}

/* A round of crashes; the reader is killed now and then, too, and the directory is begun anew before looking
 * at all of it takes longer than filling it. */
static void run(pid_t reader)
{
    unsigned n = crashes();
    for (unsigned i = 0; i < n; i++) {
        crash(i % 3 ? 60000 : 8000);
        if (i % 20 == 19)
            reader = replace_reader(reader, false);
        look(i % 2);
        if (i % 60 == 59)
            reader = replace_reader(reader, true);
    }
    kill_and_wait(reader);
    rig_remove_dir(&rig);
    free(known);
    known = NULL;
    known_count = known_room = 0;
    greatest = kept = decided = 0;
    ck_assert_uint_gt(times_together, n / 2);
}

START_TEST(what_was_reported_kept_outlives_every_crash) { run(begin()); }
END_TEST

START_TEST(so_it_does_while_old_messages_are_removed)
{
    pid_t reader = begin();
    rig.settings.max_log_bytes = 100000;
    run(reader);
}
END_TEST

START_TEST(so_it_does_while_messages_are_refused_for_want_of_room)
{
    pid_t reader = begin();
    is_small = true;
    rig.settings.max_file_bytes = 1 << 20;
    run(reader);
    ck_assert_uint_gt(times_refused, 0);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, what_was_reported_kept_outlives_every_crash);
    tcase_add_test(tc, so_it_does_while_old_messages_are_removed);
    tcase_add_test(tc, so_it_does_while_messages_are_refused_for_want_of_room);
}

UNIT_MAIN("engine_crash")
