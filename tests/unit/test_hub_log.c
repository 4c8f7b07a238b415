/*
 * What the hub keeps and how it reaches the workers: requests that take effect once, also when the hub is
 * started again, the answers to them, the feed of kept messages to workers that keep up, are slow, or come
 * back. The hub's own files run here on a real engine; the workers are the other ends of their channels.
 */
#include "tests/unit/unit.h"

#include <event2/event.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/hash.h"
#include "gateway/base/log.h"
#include "gateway/base/options.h"
#include "gateway/hub/hub_internal.h"

#define WORKERS  2
#define MAX_SEEN 20000

/* The other end of a worker's channel, and what has come there. */
struct peer {
    struct ipc_channel *channel;
    bool welcomed;
    uint64_t done, position, result; /* WELCOME's */
    unsigned delivered, answers;
    uint64_t seq[MAX_SEEN];
    char last_payload[64];
    uint64_t last_qos;
    uint64_t answered, answer[64]; /* the last DONE's number, and all results */
    bool closed;
};

static struct event_base *base;
static struct config config;
static struct process_args args;
static struct hub hub;
static struct peer peer[WORKERS];
static char dir[64];

/* ---- the peers ---- */

static void take_delivery(struct peer *p, const struct ipc_message *m)
{
    const struct ipc_bytes *payload = &m->field[7].bytes;
    ck_assert(p->welcomed || m->field[1].num == 0);
    ck_assert_uint_lt(p->delivered, MAX_SEEN);
    p->seq[p->delivered++] = m->field[0].num;
    p->last_qos = m->field[1].num;
    snprintf(p->last_payload, sizeof p->last_payload, "%.*s", (int)payload->len, payload->data);
}

static void message_cb(void *ctx, struct ipc_channel *ch, const struct ipc_message *m)
{
    struct peer *p = ctx;
    (void)ch;
    if (m->type == IPC_WELCOME) {
        p->welcomed = true;
        p->done = m->field[0].num;
        p->position = m->field[1].num;
        p->result = m->field[2].num;
    } else if (m->type == IPC_DELIVER) {
        take_delivery(p, m);
    } else if (m->type == IPC_DONE) {
        ck_assert_uint_gt(m->field[0].num, p->answered);
        p->answered = m->field[0].num;
        p->answer[p->answers++ % 64] = m->field[1].num;
    }
}

static void closed_cb(void *ctx, struct ipc_channel *ch, const char *why)
{
    (void)ch;
    (void)why;
    ((struct peer *)ctx)->closed = true;
}

static void say(struct peer *p, const struct ipc_message *m) { ck_assert(ipc_channel_send(p->channel, m)); }

/* Attaches a peer to the hub as this worker, in place of an earlier one. */
static void attach(unsigned i)
{
    static const struct ipc_channel_handler handler = {.message = message_cb, .closed = closed_cb};
    int pair[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    ipc_channel_free(peer[i].channel);
    peer[i] = (struct peer){.channel = ipc_channel_new(base, pair[0], 64 << 20, &handler, &peer[i])};
    hub_worker_attach(&hub, (uint16_t)i, pair[1]);
}

static void hello(unsigned i, uint64_t incarnation, uint64_t head)
{
    struct ipc_message m =
        IPC_MAKE(HELLO, IPC_NUM(IPC_VERSION), IPC_NUM(i), IPC_NUM(0), IPC_NUM(incarnation), IPC_NUM(head));
    say(&peer[i], &m);
}

/* A request to publish. */
static void request(unsigned i, uint64_t number, unsigned qos, const char *payload)
{
    struct ipc_message m = IPC_MAKE(PUBLISH, IPC_NUM(number), IPC_NUM(qos), IPC_NUM(0), IPC_NUM(0),
                                    IPC_NUM(7), IPC_BYTES("t", 1), IPC_BYTES("", 0),
                                    IPC_BYTES(payload, strlen(payload)), IPC_BYTES("", 0), IPC_BYTES("", 0));
    say(&peer[i], &m);
}

/* ---- the hub ---- */

static void open_hub(void)
{
    hub = (struct hub){.magic = HUB_MAGIC, .args = &args, .base = base, .open = true};
    hub.engine_ops = engine_find(config.engine);
    LIST_INIT(&hub.queries);
    hub_workers_setup(&hub);
    ck_assert(hub_log_open(&hub));
    hub_feed_setup(&hub);
    hub_sessions_setup(&hub);
}

static void close_hub(void)
{
    hub.stopping = true;
    hub_workers_detach(&hub);
    hub_sessions_free(&hub);
    hub_feed_free(&hub);
    hub_log_close(&hub);
    free(hub.worker);
    for (unsigned i = 0; i < WORKERS; i++) {
        ipc_channel_free(peer[i].channel);
        peer[i].channel = NULL;
    }
}

static void begin(void)
{
    hash_set_key(1, 2);
    clock_update();
    log_setup(LOG_LEVEL_ERROR, false, "test");
    base = event_base_new();
    config_defaults(&config);
    snprintf(dir, sizeof dir, "/tmp/holdfast-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    free(config.data_dir);
    config.data_dir = strdup(dir);
    config.log_reserve = 1 << 20;
    args = (struct process_args){
        .config = &config, .workers = WORKERS, .number = PROCESS_HUB, .max_connections = 100};
}

static void end(void)
{
    static const char *const files[] = {"holdfast.mdb", "holdfast.mdb-lock", "holdfast.lock"};
    char path[128];
    close_hub();
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    ck_assert_int_eq(rmdir(dir), 0);
    event_base_free(base);
    config_free(&config);
}

/* Runs the loop until the condition holds. */
#define RUN_UNTIL(condition)                                                                                 \
    do {                                                                                                     \
        time_t until = time(NULL) + 60;                                                                      \
        while (!(condition)) {                                                                               \
            ck_assert_msg(time(NULL) < until, "not within a minute: " #condition);                           \
            run_a_moment();                                                                                  \
        }                                                                                                    \
    } while (0)

/* One turn of the loop, which does not wait longer than 50 ms. */
static void run_a_moment(void)
{
    struct timeval wait = {0, 50000};
    clock_update();
    event_base_loopexit(base, &wait);
    event_base_loop(base, EVLOOP_ONCE);
}

/* Lets everything happen that is under way. */
static void settle(void)
{
    for (int i = 0; i < 4; i++)
        run_a_moment();
}

static void both_are_here(void)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        attach(i);
        hello(i, 100 + i, 0);
    }
    RUN_UNTIL(peer[0].welcomed && peer[1].welcomed);
}

static void assert_in_order(const struct peer *p)
{
    for (unsigned i = 1; i < p->delivered; i++)
        ck_assert_uint_gt(p->seq[i], p->seq[i - 1]);
}

/* Publishes as the API does. */
static uint64_t publish(unsigned qos, const char *payload)
{
    struct hub_publication p = {.qos = (uint8_t)qos,
                                .topic = {.data = "t", .len = 1},
                                .payload = {.data = payload, .len = (uint32_t)strlen(payload)}};
    unsigned workers;
    enum engine_result why;
    uint64_t seq = hub_publish(&hub, &p, &workers, &why);
    ck_assert_int_eq(why, ENGINE_OK);
    ck_assert_uint_eq(workers, hub.attached);
    return seq;
}

static bool count_cb(void *ctx, const struct message_parts *m, uint64_t time_ms)
{
    (void)m;
    (void)time_ms;
    ++*(unsigned *)ctx;
    return true;
}

/* How many messages the log has. */
static unsigned kept(void)
{
    unsigned n = 0;
    struct engine_scan *s = hub_log_scan(&hub, 0);
    while (hub.engine_ops->scan_next(s, 1000, count_cb, &n) == ENGINE_SCAN_MORE)
        ;
    hub.engine_ops->scan_free(s);
    return n;
}

/* ---- requests ---- */

START_TEST(a_kept_publish_goes_to_all_and_is_answered_once)
{
    begin();
    open_hub();
    both_are_here();
    ck_assert_uint_eq(peer[0].done, 0);
    request(0, 1, 1, "one");
    request(0, 2, 2, "two");
    RUN_UNTIL(peer[0].answered == 2 && peer[0].delivered == 2 && peer[1].delivered == 2);
    ck_assert_str_eq(peer[1].last_payload, "two");
    ck_assert_uint_eq(peer[1].last_qos, 2);
    ck_assert_uint_eq(peer[0].answer[0], ENGINE_OK);
    ck_assert_uint_eq(peer[1].answers, 0);
    assert_in_order(&peer[0]);
    request(0, 1, 1, "one");
    request(0, 2, 2, "two");
    request(0, 3, 1, "three");
    request(1, 1, 1, "other");
    RUN_UNTIL(peer[0].answered == 3 && peer[1].answered == 1);
    RUN_UNTIL(peer[0].delivered == 4 && peer[1].delivered == 4);
    ck_assert_uint_eq(kept(), 4);
    end();
}
END_TEST

START_TEST(requests_that_are_sent_again_to_the_next_hub_take_effect_once)
{
    begin();
    open_hub();
    both_are_here();
    for (unsigned i = 1; i <= 5; i++)
        request(0, i, 1, "m");
    RUN_UNTIL(peer[0].answered == 5);
    uint64_t head = peer[0].seq[4];
    close_hub();
    open_hub();
    ck_assert_uint_eq(hub.newest, head);
    attach(0);
    hello(0, 100, head);
    for (unsigned i = 1; i <= 3; i++)
        request(0, i, 1, "before the welcome");
    RUN_UNTIL(peer[0].welcomed);
    ck_assert_uint_eq(peer[0].done, 5);
    ck_assert_uint_eq(peer[0].result, ENGINE_OK);
    ck_assert_uint_eq(peer[0].position, head);
    for (unsigned i = 4; i <= 7; i++)
        request(0, i, 1, "again");
    RUN_UNTIL(peer[0].answered == 7 && peer[0].delivered == 2);
    ck_assert_uint_gt(peer[0].seq[0], head);
    ck_assert_uint_eq(kept(), 7);
    end();
}
END_TEST

START_TEST(another_incarnation_begins_at_one)
{
    begin();
    open_hub();
    both_are_here();
    request(0, 1, 1, "of the first");
    RUN_UNTIL(peer[0].answered == 1);
    attach(0);
    hello(0, 555, 0);
    RUN_UNTIL(peer[0].welcomed);
    ck_assert_uint_eq(peer[0].done, 0);
    ck_assert_uint_eq(peer[0].position, peer[1].seq[0]);
    request(0, 1, 1, "of the second");
    RUN_UNTIL(peer[0].answered == 1 && peer[0].delivered == 1);
    ck_assert_uint_eq(kept(), 2);
    end();
}
END_TEST

/* What was handed in and not committed is there after a stop, with its number. */
START_TEST(closing_keeps_what_was_handed_in)
{
    begin();
    open_hub();
    both_are_here();
    struct ipc_message m =
        IPC_MAKE(PUBLISH, IPC_NUM(1), IPC_NUM(1), IPC_NUM(0), IPC_NUM(0), IPC_NUM(7), IPC_BYTES("t", 1),
                 IPC_BYTES("", 0), IPC_BYTES("m", 1), IPC_BYTES("", 0), IPC_BYTES("", 0));
    uint64_t seq = publish(1, "m");
    hub_request_taken(&hub.worker[0], 1, seq, ENGINE_OK);
    close_hub();
    open_hub();
    ck_assert_uint_eq(kept(), 1);
    attach(0);
    hello(0, 100, 0);
    RUN_UNTIL(peer[0].welcomed);
    ck_assert_uint_eq(peer[0].done, 1);
    ck_assert_uint_eq(peer[0].result, ENGINE_OK);
    say(&peer[0], &m);
    settle();
    ck_assert_uint_eq(kept(), 1);
    end();
}
END_TEST

/* A worker that has lost track of its claims says HELLO again on the same channel. */
START_TEST(a_second_hello_changes_nothing_about_requests)
{
    begin();
    open_hub();
    both_are_here();
    request(0, 1, 1, "one");
    request(0, 2, 1, "two");
    RUN_UNTIL(peer[0].answered == 2 && peer[0].delivered == 2);
    peer[0].welcomed = false;
    hello(0, 100, peer[0].seq[0]);
    RUN_UNTIL(peer[0].welcomed);
    ck_assert_uint_eq(peer[0].done, 2);
    request(0, 2, 1, "two");
    request(0, 3, 1, "three");
    RUN_UNTIL(peer[0].answered == 3 && peer[0].delivered == 3);
    ck_assert_uint_eq(kept(), 3);
    end();
}
END_TEST

/* While the engine is busy what workers say is left in their channels; a tick sees that it is not any more.
 */
START_TEST(workers_are_held_back_while_the_engine_is_busy)
{
    begin();
    open_hub();
    both_are_here();
    hub_hold(&hub, true);
    request(0, 1, 1, "one");
    settle();
    ck_assert_uint_eq(hub.worker[0].requests.taken, 0);
    hub_log_tick(&hub);
    RUN_UNTIL(peer[0].answered == 1 && peer[1].delivered == 1);
    end();
}
END_TEST

/* A full data file: refused with its reason, also in WELCOME, and nobody gets the message. */
START_TEST(what_cannot_be_kept_is_refused)
{
    static char big[600 << 10];
    begin();
    config.log_max_file = 1 << 20;
    open_hub();
    both_are_here();
    request(0, 1, 1, "small");
    RUN_UNTIL(peer[0].answered == 1);
    memset(big, 'b', sizeof big - 1);
    request(0, 2, 1, big);
    RUN_UNTIL(peer[0].answered == 2);
    ck_assert_uint_eq(peer[0].answer[1], ENGINE_FULL);
    request(0, 3, 1, "at once");
    RUN_UNTIL(peer[0].answered == 3);
    settle();
    uint64_t result = peer[0].answer[2];
    ck_assert(result == ENGINE_FULL || result == ENGINE_OK);
    ck_assert_uint_eq(peer[1].delivered, result == ENGINE_OK ? 2 : 1);
    close_hub();
    open_hub();
    attach(0);
    hello(0, 100, 0);
    RUN_UNTIL(peer[0].welcomed);
    ck_assert_uint_eq(peer[0].done, 3);
    ck_assert_uint_eq(peer[0].result, result == ENGINE_OK ? ENGINE_OK : ENGINE_NO_SPACE);
    end();
}
END_TEST

/* ---- the feed ---- */

START_TEST(a_worker_that_comes_back_gets_what_it_lacks)
{
    uint64_t seq[10];
    begin();
    open_hub();
    attach(0);
    hello(0, 1, 0);
    RUN_UNTIL(peer[0].welcomed);
    for (int i = 0; i < 10; i++)
        seq[i] = publish(1, "m");
    RUN_UNTIL(peer[0].delivered == 10);
    close_hub();
    open_hub();
    attach(0);
    attach(1);
    hello(0, 1, seq[3]);
    hello(1, 1, seq[9]);
    RUN_UNTIL(peer[0].delivered == 6 && peer[1].welcomed);
    ck_assert_uint_eq(peer[0].position, seq[3]);
    ck_assert_uint_eq(peer[0].seq[0], seq[4]);
    assert_in_order(&peer[0]);
    publish(1, "new");
    RUN_UNTIL(peer[0].delivered == 7 && peer[1].delivered == 1);
    ck_assert_str_eq(peer[0].last_payload, "new");
    ck_assert(!hub.worker[0].feed.behind);
    end();
}
END_TEST

/* Between attaching and HELLO things are kept: they are the worker's. */
START_TEST(nothing_is_lost_between_attaching_and_hello)
{
    begin();
    open_hub();
    publish(1, "before");
    settle();
    attach(0);
    publish(1, "between");
    settle();
    hello(0, 1, 0);
    RUN_UNTIL(peer[0].delivered == 1);
    ck_assert_str_eq(peer[0].last_payload, "between");
    end();
}
END_TEST

/* A worker that does not read costs no more than its queue, and gets everything once it reads. */
START_TEST(a_slow_worker_reads_on_from_the_log)
{
    static char text[1000];
    const unsigned messages = 4000;
    begin();
    config.ipc_queue_limit = 256 << 10;
    open_hub();
    both_are_here();
    ipc_channel_pause(peer[1].channel, true);
    memset(text, 'x', sizeof text - 1);
    for (unsigned i = 0; i < messages; i++) {
        publish(1, text);
        if (i % 20 == 0)
            RUN_UNTIL(peer[0].delivered == i + 1);
    }
    RUN_UNTIL(peer[0].delivered == messages);
    ck_assert(hub.worker[1].feed.behind);
    ck_assert_uint_le(ipc_channel_pending(hub.worker[1].channel), config.ipc_queue_limit + 2000);
    ck_assert_uint_lt(peer[1].delivered, messages);
    ipc_channel_pause(peer[1].channel, false);
    RUN_UNTIL(peer[1].delivered == messages && !hub.worker[1].feed.behind);
    for (unsigned i = 0; i < messages; i++)
        ck_assert_uint_eq(peer[1].seq[i], peer[0].seq[i]);
    publish(2, "live again");
    RUN_UNTIL(peer[1].delivered == messages + 1);
    ck_assert_str_eq(peer[1].last_payload, "live again");
    end();
}
END_TEST

/* The same with sync = interval, where the log can be read only later than a message counts as kept. */
START_TEST(a_slow_worker_without_sync)
{
    static char text[1000];
    const unsigned messages = 1000;
    begin();
    config.ipc_queue_limit = 64 << 10;
    config.log_sync = LOG_SYNC_INTERVAL;
    config.log_sync_interval_ms = 300;
    open_hub();
    both_are_here();
    memset(text, 'x', sizeof text - 1);
    ipc_channel_pause(peer[1].channel, true);
    for (unsigned i = 0; i < messages; i++) {
        publish(1, text);
        if (i % 20 == 0)
            RUN_UNTIL(peer[0].delivered == i + 1);
    }
    RUN_UNTIL(peer[0].delivered == messages);
    ck_assert(hub.worker[1].feed.behind);
    ipc_channel_pause(peer[1].channel, false);
    RUN_UNTIL(peer[1].delivered == messages && !hub.worker[1].feed.behind);
    assert_in_order(&peer[1]);
    end();
}
END_TEST

/* ---- QoS 0, retained, who waits ---- */

START_TEST(qos_0_is_not_kept)
{
    begin();
    open_hub();
    both_are_here();
    publish(0, "at once");
    RUN_UNTIL(peer[0].delivered == 1 && peer[1].delivered == 1);
    request(0, 0, 0, "from a worker");
    RUN_UNTIL(peer[1].delivered == 2);
    ck_assert_uint_eq(kept(), 0);
    ck_assert_uint_eq(peer[0].answers, 0);
    end();
}
END_TEST

static unsigned retained(void)
{
    unsigned n = 0;
    static char last[65535];
    size_t last_len;
    hub.engine_ops->retained_walk(hub.reader, "t", 1, NULL, "", 0, 10, count_cb, &n, last, &last_len);
    return n;
}

START_TEST(retained_messages)
{
    struct hub_publication p = {
        .qos = 0, .retain = true, .topic = {.data = "t", .len = 1}, .payload = {.data = "stays", .len = 5}};
    unsigned workers;
    enum engine_result why;
    begin();
    open_hub();
    both_are_here();
    ck_assert_uint_ne(hub_publish(&hub, &p, &workers, &why), 0);
    RUN_UNTIL(retained() == 1 && peer[0].delivered == 1);
    ck_assert_uint_eq(kept(), 0);
    p.qos = 1;
    p.payload.len = 0;
    ck_assert_uint_ne(hub_publish(&hub, &p, &workers, &why), 0);
    RUN_UNTIL(retained() == 0 && peer[0].delivered == 2);
    ck_assert_uint_eq(kept(), 1);
    end();
}
END_TEST

static unsigned heard;
static enum engine_result heard_result;

static void hear(struct hub *h, void *arg, enum engine_result result)
{
    ck_assert_ptr_eq(h, &hub);
    heard_result = result;
    heard++;
    if (arg)
        hub_on_committed(h, hear, NULL);
}

START_TEST(who_waits_hears_once)
{
    begin();
    open_hub();
    heard = 0;
    hub_on_committed(&hub, hear, &hub);
    ck_assert_uint_eq(heard, 0);
    RUN_UNTIL(heard == 2);
    ck_assert_int_eq(heard_result, ENGINE_OK);
    publish(1, "m");
    hub_on_committed(&hub, hear, NULL);
    RUN_UNTIL(heard == 3);
    ck_assert_uint_eq(kept(), 1);
    publish(1, "n");
    hub_on_committed(&hub, hear, &hub);
    close_hub();
    ck_assert_uint_eq(heard, 4);
    ck_assert_int_eq(heard_result, ENGINE_FAILED);
    open_hub();
    ck_assert_uint_eq(kept(), 2);
    end();
}
END_TEST

static unsigned told_as_kept;

static void hear_of_kept(struct hub *h, void *arg, enum engine_result result)
{
    (void)h;
    (void)arg;
    ck_assert_int_eq(result, ENGINE_OK);
    told_as_kept++;
}

/* With sync = interval publishers are answered at once, however many turns that takes; who is going to read
 * is told when there is something to read. */
START_TEST(with_an_interval_only_readers_wait)
{
    const unsigned messages = 3 * HUB_MAX_TURNS;
    begin();
    config.log_sync = LOG_SYNC_INTERVAL;
    config.log_sync_interval_ms = 60000;
    open_hub();
    both_are_here();
    publish(1, "written at once: nothing was for a long time");
    hub_on_committed(&hub, hear, NULL);
    heard = told_as_kept = 0;
    RUN_UNTIL(heard == 1);
    for (unsigned i = 0; i < messages; i++) {
        request(0, i + 1, 1, "m");
        publish(1, "m");
        hub_on_kept(&hub, hear_of_kept, NULL);
        hub_on_committed(&hub, hear, NULL);
        RUN_UNTIL(peer[0].answered == i + 1 && peer[1].delivered == 2 * i + 3 && told_as_kept == i + 1);
    }
    ck_assert_uint_eq(heard, 1);
    ck_assert_uint_eq(kept(), 1);
    close_hub();
    ck_assert_uint_eq(heard, 1 + messages);
    ck_assert_int_eq(heard_result, ENGINE_FAILED); /* nobody knew yet */
    open_hub();
    ck_assert_uint_eq(kept(), 1 + 2 * messages);
    end();
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, a_kept_publish_goes_to_all_and_is_answered_once);
    tcase_add_test(tc, requests_that_are_sent_again_to_the_next_hub_take_effect_once);
    tcase_add_test(tc, another_incarnation_begins_at_one);
    tcase_add_test(tc, closing_keeps_what_was_handed_in);
    tcase_add_test(tc, a_second_hello_changes_nothing_about_requests);
    tcase_add_test(tc, workers_are_held_back_while_the_engine_is_busy);
    tcase_add_test(tc, what_cannot_be_kept_is_refused);
    tcase_add_test(tc, a_worker_that_comes_back_gets_what_it_lacks);
    tcase_add_test(tc, nothing_is_lost_between_attaching_and_hello);
    tcase_add_test(tc, a_slow_worker_reads_on_from_the_log);
    tcase_add_test(tc, a_slow_worker_without_sync);
    tcase_add_test(tc, qos_0_is_not_kept);
    tcase_add_test(tc, retained_messages);
    tcase_add_test(tc, who_waits_hears_once);
    tcase_add_test(tc, with_an_interval_only_readers_wait);
}

UNIT_MAIN("hub_log")
