/*
 * Measures the log on the disk it is given: one commit per message against commits that a hundred publishers
 * share, appending in bulk, a broadcast to a million sleeping sessions, and ten thousand of them waking up.
 * Prints one line per figure. Makes a directory of its own and removes it. Not part of `make check`.
 *
 *      make tests/bench/bench_log && tests/bench/bench_log [directory [sessions]]
 */
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/hash.h"
#include "gateway/engine/engine.h"
#include "proto/mqtt_topic.h"

#define PUBLISHERS 100
#define WAKING     10000
#define MISSED     20 /* broadcasts */

static const struct engine_ops *ops;
static struct engine *e;
static struct engine_reader *reader;
static struct engine_settings settings = ENGINE_SETTINGS_DEFAULT;
static char dir[512], why[ENGINE_WHY_MAX];
static uint64_t done_ticket, done_seq;

static void committed(void *ctx, uint64_t ticket, uint64_t last_seq, enum engine_result result)
{
    (void)ctx;
    CHECK(result == ENGINE_OK);
    done_ticket = ticket;
    done_seq = last_seq;
}

static void expired(void *ctx, const char *client_id, size_t len)
{
    (void)ctx;
    (void)client_id;
    (void)len;
}

/* Waits until the engine has something to say, and hears it. */
static void listen_once(void)
{
    static const struct engine_handler handler = {.committed = committed, .session_expired = expired};
    struct pollfd p = {.fd = ops->event_fd(e), .events = POLLIN};
    CHECK(poll(&p, 1, 60000) == 1);
    ops->poll(e, &handler, NULL);
}

static void commit(void)
{
    uint64_t ticket = ops->commit(e);
    while (done_ticket < ticket)
        listen_once();
}

static void open_engine(void)
{
    settings.data_dir = dir;
    done_ticket = 0;
    e = ops->open_store(&settings, why);
    if (!e) {
        fprintf(stderr, "%s\n", why);
        exit(EXIT_FAILURE);
    }
    reader = ops->reader_open(e, dir, why);
    CHECK(reader);
}

static void close_engine(void)
{
    ops->reader_close(reader);
    ops->close(e);
}

static struct engine_stats stats(void)
{
    struct engine_stats s;
    ops->stats(e, &s);
    return s;
}

static uint64_t append(const char *topic)
{
    static const char payload[200];
    enum engine_result refused;
    struct message_parts m = {.topic = topic,
                              .topic_len = (uint16_t)strlen(topic),
                              .payload = payload,
                              .payload_len = sizeof payload,
                              .qos = 1};
    uint64_t seq;
    while (!(seq = ops->append(e, &m, &refused))) {
        if (refused != ENGINE_BUSY) {
            fprintf(stderr, "refused: %s\n", engine_result_text(refused));
            exit(EXIT_FAILURE);
        }
        commit();
    }
    return seq;
}

static double seconds(uint64_t since_us) { return (double)(clock_us() - since_us) / 1e6; }

/* CPU time of this process, both threads. */
static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* What the disk does for a plain file: append a message, fdatasync. */
static double plain_file(unsigned n)
{
    char path[600], block[250] = "";
    snprintf(path, sizeof path, "%s/plain", dir);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    uint64_t began = clock_us();
    for (unsigned i = 0; i < n; i++)
        CHECK(write(fd, block, sizeof block) == sizeof block && fdatasync(fd) == 0);
    double rate = n / seconds(began);
    close(fd);
    unlink(path);
    return rate;
}

/* Each publisher sends its next message when the last one is acknowledged. */
static double publishers(unsigned count, unsigned messages)
{
    uint64_t *waiting = calloc(count, sizeof *waiting), began = clock_us();
    unsigned acknowledged = 0;
    CHECK(waiting);
    for (unsigned i = 0; i < count; i++)
        waiting[i] = append("topic");
    ops->commit(e);
    while (acknowledged < messages) {
        listen_once();
        for (unsigned i = 0; i < count; i++)
            if (waiting[i] <= done_seq) {
                acknowledged++;
                waiting[i] = append("topic");
            }
        ops->commit(e);
    }
    double rate = acknowledged / seconds(began);
    commit();
    free(waiting);
    return rate;
}

static void measure_group_commit(void)
{
    open_engine();
    double plain = plain_file(500), one = publishers(1, 500);
    struct engine_stats before = stats();
    double shared = publishers(PUBLISHERS, 30000);
    struct engine_stats after = stats();
    uint64_t commits = after.commits - before.commits;
    printf("plain file, fdatasync per message        %10.0f messages/s\n", plain);
    printf("log, 1 publisher                         %10.0f messages/s\n", one);
    printf("log, %u publishers                      %10.0f messages/s, %.1f per commit, commit %.2f ms\n",
           PUBLISHERS, shared, 30000.0 / (double)commits,
           (double)(after.commit_us_sum - before.commit_us_sum) / 1e3 / (double)commits);
    printf("group commit against one per message     %10.1f times (plain file: %.1f)\n", shared / one,
           shared / plain);
    close_engine();
}

static void measure_throughput(unsigned topics)
{
    enum { MESSAGES = 300000 };
    char topic[32];
    open_engine();
    struct engine_stats before = stats();
    uint64_t began = clock_us();
    double cpu = cpu_seconds();
    for (unsigned i = 0; i < MESSAGES; i++) {
        snprintf(topic, sizeof topic, "bulk/%u", i * 7919u % topics);
        append(topic);
        if (i % 1000 == 999)
            ops->commit(e);
    }
    commit();
    struct engine_stats after = stats();
    printf("append 200 bytes, %6u topics           %10.0f messages/s, %.1f us CPU each, %.0f bytes of file "
           "each\n",
           topics, MESSAGES / seconds(began), (cpu_seconds() - cpu) * 1e6 / MESSAGES,
           (double)(after.file_bytes - before.file_bytes) / MESSAGES);
    close_engine();
}

/* Sessions that sleep, with a subscription each. */
static void make_sessions(unsigned n)
{
    char id[32], filter[32];
    uint64_t began = clock_us(), size = stats().file_bytes;
    for (unsigned i = 0; i < n; i++) {
        int len = snprintf(id, sizeof id, "device-%08u", i);
        struct engine_session s = {
            .cursor = stats().head, .disconnected_ms = clock_wall_ms(), .expiry_s = ENGINE_EXPIRY_NEVER};
        struct engine_subscription sub = {.filter = filter, .options = 1};
        sub.len = (uint16_t)snprintf(filter, sizeof filter, "group/%u", i % 1000);
        ops->session_put(e, id, (size_t)len, &s);
        ops->subscribe(e, id, (size_t)len, &sub);
        if (i % 5000 == 4999)
            commit();
    }
    commit();
    printf("%u sessions made in                 %10.1f s, %.0f bytes of file each\n", n, seconds(began),
           (double)(stats().file_bytes - size) / n);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure_broadcast(void)
{
    double ms[MISSED];
    uint64_t size = stats().file_bytes, log = stats().log_bytes;
    for (unsigned i = 0; i < MISSED; i++) {
        uint64_t began = clock_us();
        append("broadcast");
        commit();
        ms[i] = seconds(began) * 1e3;
    }
    qsort(ms, MISSED, sizeof ms[0], compare);
    printf(
        "broadcast to all of them, acknowledged   %10.2f ms median, %.2f ms worst of %d; file + %llu bytes "
        "(log + %llu) for all\n",
        ms[MISSED / 2], ms[MISSED - 1], MISSED, (unsigned long long)(stats().file_bytes - size),
        (unsigned long long)(stats().log_bytes - log));
}

struct waking {
    struct engine_filter filter[3];
    char text[64], own[64];
    uint64_t cursor, last;
    size_t messages;
};

static void take_session(void *ctx, const struct engine_session_view *v)
{
    struct waking *w = ctx;
    w->cursor = v->session.cursor;
    CHECK(v->subscription_count == 1);
    memcpy(w->text, v->subscriptions[0].filter, v->subscriptions[0].len);
    w->filter[2] = (struct engine_filter){.text = w->text, .len = v->subscriptions[0].len};
}

static bool take_message(void *ctx, const struct message_parts *m, uint64_t time_ms)
{
    struct waking *w = ctx;
    (void)time_ms;
    CHECK(m->seq > w->last);
    w->last = m->seq;
    w->messages++;
    return true;
}

/* One client comes back and reads what it missed, twenty messages at a time. */
static size_t wake(const char *id, size_t len)
{
    struct waking w = {0};
    w.filter[0] = (struct engine_filter){.text = "broadcast", .len = 9};
    w.filter[1] = (struct engine_filter){.text = w.own};
    w.filter[1].len = (uint16_t)snprintf(w.own, sizeof w.own, "clients/%s", id);
    CHECK(ops->session_get(reader, id, len, take_session, &w));
    struct engine_scan *s = ops->scan_new(reader, w.filter, 3, w.cursor, mqtt_topic_matches);
    while (ops->scan_next(s, 20, take_message, &w) == ENGINE_SCAN_MORE)
        ;
    struct engine_progress p = {.cursor = ops->scan_position(s)};
    ops->progress(e, id, len, &p);
    ops->scan_free(s);
    return w.messages;
}

static void measure_waking(unsigned sessions)
{
    char text[32];
    for (unsigned i = 0; i < WAKING; i++) {
        snprintf(text, sizeof text, "clients/device-%08u", (unsigned)((uint64_t)i * sessions / WAKING));
        append(text);
        snprintf(text, sizeof text, "group/%u", i % 1000);
        append(text);
    }
    commit();
    uint64_t began = clock_us(), messages = 0;
    double cpu = cpu_seconds();
    for (unsigned i = 0; i < WAKING; i++) {
        int len = snprintf(text, sizeof text, "device-%08u", (unsigned)((uint64_t)i * sessions / WAKING));
        messages += wake(text, (size_t)len);
        if (i % 500 == 499)
            ops->commit(e);
    }
    double read = seconds(began);
    commit();
    printf("%d of them wake up and read           %10.2f s for %llu messages, %.1f us CPU per session; "
           "cursors on "
           "disk after %.2f s\n",
           WAKING, read, (unsigned long long)messages, (cpu_seconds() - cpu) * 1e6 / WAKING, seconds(began));
}

/* A tick and all that it brings; publishes go on meanwhile, and the slowest is noted. */
static void measure_maintenance(const char *what)
{
    uint64_t began = clock_us(), publishes = 0;
    double worst = 0, all = 0;
    ops->tick(e);
    do {
        uint64_t start = clock_us();
        append("meanwhile");
        commit();
        double ms = seconds(start) * 1e3;
        all += ms;
        worst = ms > worst ? ms : worst;
        publishes++;
    } while (stats().maintaining);
    printf("%s %10.2f s; %llu publishes meanwhile, %.2f ms each, %.2f ms the slowest\n", what, seconds(began),
           (unsigned long long)publishes, all / (double)publishes, worst);
}

/* The file as after a reboot: every page is looked at. */
static void measure_opening(void)
{
    char path[600];
    uint64_t began = clock_us();
    open_engine();
    printf("opening it again                         %10.3f s, file of %llu MB\n", seconds(began),
           (unsigned long long)(stats().file_bytes >> 20));
    measure_maintenance("the first sweep over all sessions       ");
    close_engine();
    snprintf(path, sizeof path, "%s/holdfast.lock", dir);
    unlink(path);
    began = clock_us();
    open_engine();
    printf("opening it after a reboot                %10.3f s, looking at every page\n", seconds(began));
    close_engine();
}

/* A log that is far too large all of a sudden. */
static void measure_removal(void)
{
    open_engine();
    for (unsigned i = 0; i < 200000; i++)
        append(i % 2 ? "old/1" : "old/2");
    close_engine();
    settings.max_log_bytes = 1 << 20;
    open_engine();
    measure_maintenance("removing 200000 messages                ");
    close_engine();
    settings.max_log_bytes = 0;
}

static void remove_files(void)
{
    static const char *const files[] = {"holdfast.mdb", "holdfast.mdb-lock", "holdfast.lock"};
    char path[600];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
}

int main(int argc, char **argv)
{
    unsigned sessions = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 1000000;
    snprintf(dir, sizeof dir, "%s/holdfast-bench-log-XXXXXX", argc > 1 ? argv[1] : ".");
    if (!mkdtemp(dir)) {
        perror(dir);
        return EXIT_FAILURE;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    hash_init();
    ops = engine_find("local");
    settings.max_clients = 1000;
    measure_group_commit();
    remove_files();
    measure_throughput(10);
    remove_files();
    measure_throughput(10000);
    remove_files();
    open_engine();
    make_sessions(sessions);
    measure_broadcast();
    measure_waking(sessions);
    close_engine();
    measure_opening();
    remove_files();
    measure_removal();
    remove_files();
    rmdir(dir);
    return EXIT_SUCCESS;
}
