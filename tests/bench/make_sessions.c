/*
 * Makes sleeping sessions straight in a data directory, as a gateway leaves them behind: NAME-0, NAME-1 and
 * so on, each with subscriptions to TOPIC and to TOPIC/number with QoS 1, and nothing missed so far. Far
 * faster than to connect as many clients, and the same to the gateway that opens the directory afterwards.
 * Makes the directory if it is not there; no gateway may have it open. Not part of `make check`.
 *
 *      make tests/bench/make_sessions && tests/bench/make_sessions DIRECTORY NUMBER [NAME [TOPIC]]
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/hash.h"
#include "gateway/engine/engine.h"

#define PER_COMMIT 5000

static const struct engine_ops *ops;
static struct engine *e;
static uint64_t done_ticket;

static void committed(void *ctx, uint64_t ticket, uint64_t last_seq, enum engine_result result)
{
    (void)ctx;
    (void)last_seq;
    if (result != ENGINE_OK) {
        fprintf(stderr, "not kept: %s\n", engine_result_text(result));
        exit(EXIT_FAILURE);
    }
    done_ticket = ticket;
}

/* None expires here. */
static void expired(void *ctx, const char *client_id, size_t len)
{
    (void)ctx;
    (void)client_id;
    (void)len;
}

/* Waits until everything so far is on disk. */
static void commit(void)
{
    static const struct engine_handler handler = {.committed = committed, .session_expired = expired};
    uint64_t ticket = ops->commit(e);
    while (done_ticket < ticket) {
        struct pollfd p = {.fd = ops->event_fd(e), .events = POLLIN};
        CHECK(poll(&p, 1, 60000) == 1);
        ops->poll(e, &handler, NULL);
    }
}

/* One session with its two subscriptions. */
static void make_session(const char *name, const char *topic, unsigned long number, uint64_t cursor)
{
    char id[128], own[256];
    size_t len = (size_t)snprintf(id, sizeof id, "%s-%lu", name, number);
    struct engine_session s = {
        .cursor = cursor, .disconnected_ms = clock_wall_ms(), .expiry_s = ENGINE_EXPIRY_NEVER};
    struct engine_subscription common = {
        .filter = topic, .len = (uint16_t)strlen(topic), .options = 1, .since = cursor};
    struct engine_subscription private = {.filter = own, .options = 1, .since = cursor};
    private.len = (uint16_t)snprintf(own, sizeof own, "%s/%lu", topic, number);
    ops->session_put(e, id, len, &s);
    ops->subscribe(e, id, len, &common);
    ops->subscribe(e, id, len, &private);
}

static bool open_engine(const char *dir)
{
    struct engine_settings settings = ENGINE_SETTINGS_DEFAULT;
    char why[ENGINE_WHY_MAX];
    if (mkdir(dir, 0700) && errno != EEXIST) {
        perror(dir);
        return false;
    }
    settings.data_dir = dir;
    settings.max_clients = 1000;
    hash_init();
    ops = engine_find("local");
    e = ops->open_store(&settings, why);
    if (!e)
        fprintf(stderr, "%s\n", why);
    return e;
}

int main(int argc, char **argv)
{
    unsigned long count = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    const char *name = argc > 3 ? argv[3] : "sleeper", *topic = argc > 4 ? argv[4] : "holdfast-bench";
    if (argc < 3 || argc > 5 || count == 0 || count > UINT32_MAX || strlen(name) > 100 ||
        strlen(topic) > 200) {
        fprintf(stderr, "usage: make_sessions DIRECTORY NUMBER [NAME [TOPIC]]\n");
        return 2;
    }
    if (!open_engine(argv[1]))
        return EXIT_FAILURE;
    struct engine_stats s;
    ops->stats(e, &s);
    uint64_t began = clock_us(), head = s.head;
    for (unsigned long i = 0; i < count; i++) {
        make_session(name, topic, i, head);
        if (i % PER_COMMIT == PER_COMMIT - 1)
            commit();
    }
    commit();
    ops->stats(e, &s);
    printf("%lu sessions in %.1f s; file of %llu MB\n", count, (double)(clock_us() - began) / 1e6,
           (unsigned long long)(s.file_bytes >> 20));
    ops->close(e);
    return EXIT_SUCCESS;
}
