/*
 * Stored sessions in the hub: the hub's own parts over an engine, with the test in the place of the workers,
 * at the other ends of their channels. Who gets a session, when, and what is stored at each moment.
 */
#include <event2/event.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/hash.h"
#include "gateway/base/log.h"
#include "gateway/base/options.h"
#include "gateway/base/xmalloc.h"
#include "gateway/engine/progress.h"
#include "gateway/hub/http_api.h"
#include "gateway/hub/hub_sessions.h"
#include "gateway/hub/hub_stored.h"
#include "gateway/hub/hub_wills.h"
#include "tests/unit/unit.h"

#define WORKERS 3
#define START   UINT64_C(1700000000000)
#define NEVER   ENGINE_EXPIRY_NEVER

/* What a worker has heard. */
struct heard {
    enum ipc_type type;
    uint64_t num[6];
    char text[64]; /* of the first bytes field */
};

/* The other end of a worker's channel. */
struct peer {
    struct ipc_channel *channel;
    uint64_t incarnation, requests, done;
    struct heard heard[256];
    unsigned count, taken;
};

static struct config config;
static struct counters counters[WORKERS + 2];
static struct process_args args;
static struct hub hub;
static struct event_base *base;
static struct peer peer[WORKERS];
static char dir[64];

/* ---- the other side ---- */

static void peer_message(void *ctx, struct ipc_channel *ch, const struct ipc_message *m)
{
    struct peer *p = ctx;
    (void)ch;
    if (m->type == IPC_DONE)
        p->done = m->field[0].num;
    if (m->type == IPC_DONE || m->type == IPC_HELLO)
        return;
    ck_assert_uint_lt(p->count, 256);
    struct heard *h = &p->heard[p->count++];
    *h = (struct heard){.type = m->type};
    const char *fields = ipc_type_fields(m->type);
    for (unsigned i = 0; i < m->fields; i++)
        if ((fields[i] == 's' || fields[i] == 'd') && !h->text[0])
            snprintf(h->text, sizeof h->text, "%.*s", (int)m->field[i].bytes.len, m->field[i].bytes.data);
        else if (fields[i] != 's' && fields[i] != 'd' && i < 6)
            h->num[i] = m->field[i].num;
}

static void peer_closed(void *ctx, struct ipc_channel *ch, const char *why)
{
    struct peer *p = ctx;
    (void)why;
    ipc_channel_free(ch);
    p->channel = NULL;
}

/* One turn of the loop, and what is due in it. */
static void turn(void)
{
    clock_update();
    event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

/* Lets everything settle that needs no time: what is on its way arrives, what is handed in is committed. */
static void settle(void)
{
    struct engine_stats s;
    unsigned quiet = 0;
    while (quiet < 20) {
        turn();
        hub.engine_ops->stats(hub.engine, &s);
        bool busy = s.pending_bytes > 0 || hub_reconcile_is_busy(hub.sessions->reconcile);
        for (unsigned i = 0; i < WORKERS; i++)
            busy = busy || (peer[i].channel && ipc_channel_pending(peer[i].channel));
        quiet = busy ? 0 : quiet + 1;
    }
}

/* Lets time pass, second by second. */
static uint64_t now_ms;
static void pass(unsigned seconds)
{
    for (unsigned i = 0; i < seconds; i++) {
        now_ms += 1000;
        clock_fake(now_ms);
        hub_sessions_tick(&hub);
        hub_wills_look(hub.sessions->wills);
        hub_log_tick(&hub);
        settle();
    }
}

static void send_to_hub(unsigned w, const struct ipc_message *m)
{
    ck_assert_ptr_nonnull(peer[w].channel);
    ck_assert(ipc_channel_send(peer[w].channel, m));
}

/* Attaches a worker that says hello; the same incarnation is the same process. */
static void attach(unsigned w, uint64_t incarnation)
{
    static const struct ipc_channel_handler handler = {.message = peer_message, .closed = peer_closed};
    int fd[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
    hub_worker_attach(&hub, (uint16_t)w, fd[0]);
    ipc_channel_free(peer[w].channel);
    if (peer[w].incarnation != incarnation)
        peer[w] = (struct peer){.incarnation = incarnation};
    peer[w].channel = ipc_channel_new(base, fd[1], 1 << 20, &handler, &peer[w]);
    struct ipc_message hello =
        IPC_MAKE(HELLO, IPC_NUM(IPC_VERSION), IPC_NUM(w), IPC_NUM(0), IPC_NUM(incarnation), IPC_NUM(0));
    send_to_hub(w, &hello);
    settle();
    ck_assert_uint_gt(peer[w].count, 0);
    ck_assert_int_eq(peer[w].heard[peer[w].count - 1].type, IPC_WELCOME);
    peer[w].taken = peer[w].count;
}

static void claims_done(unsigned w)
{
    struct ipc_message m = {.type = IPC_CLAIMS_DONE};
    send_to_hub(w, &m);
    settle();
}

/* The worker is killed. */
static void kill_worker(unsigned w)
{
    ipc_channel_free(peer[w].channel);
    peer[w].channel = NULL;
    settle();
}

/* The next thing a worker hears; it must be this. */
static const struct heard *next(unsigned w, enum ipc_type type)
{
    struct peer *p = &peer[w];
    ck_assert_msg(p->taken < p->count, "worker %u heard nothing, expected %s", w, ipc_type_name(type));
    const struct heard *h = &p->heard[p->taken++];
    ck_assert_msg(h->type == type, "worker %u heard %s, expected %s", w, ipc_type_name(h->type),
                  ipc_type_name(type));
    return h;
}

static void nothing(unsigned w)
{
    ck_assert_msg(peer[w].taken == peer[w].count, "worker %u heard %s", w,
                  ipc_type_name(peer[w].heard[peer[w].taken].type));
}

/* ---- what workers say ---- */

#define ID(id) IPC_BYTES((id), strlen(id))

static void say_open(unsigned w, const char *id, uint64_t claim, bool clean, uint32_t expiry)
{
    struct ipc_message m = IPC_MAKE(OPEN, IPC_NUM(claim), IPC_NUM(clean), IPC_NUM(expiry), ID(id));
    send_to_hub(w, &m);
    settle();
}

static bool has_not_read_all; /* of the next CLOSE */
static void say_close_with(unsigned w, const char *id, uint64_t claim, uint32_t expiry, uint64_t cursor,
                           uint32_t delay, const char *will, uint8_t qos)
{
    struct engine_progress p = {.cursor = cursor};
    char progress[32], will_bytes[256];
    size_t will_len = 0;
    progress_encode(&p, progress);
    if (will) {
        struct ipc_message message =
            IPC_MAKE(PUBLISH, IPC_NUM(0), IPC_NUM(qos), IPC_NUM(0), IPC_NUM(0), IPC_NUM(7), ID(will),
                     IPC_BYTES("", 0), IPC_BYTES("gone", 4), IPC_BYTES("", 0), IPC_BYTES("", 0));
        will_len = ipc_size(&message);
        ck_assert_uint_le(will_len, sizeof will_bytes);
        ipc_encode(&message, will_bytes);
    }
    struct ipc_message m =
        IPC_MAKE(CLOSE, IPC_NUM(++peer[w].requests), IPC_NUM(claim), IPC_NUM(expiry), IPC_NUM(delay), ID(id),
                 IPC_BYTES(progress, cursor ? progress_size(&p) : 0), IPC_BYTES(will_bytes, will_len),
                 IPC_NUM(has_not_read_all));
    has_not_read_all = false;
    send_to_hub(w, &m);
    settle();
    ck_assert_uint_eq(peer[w].done, peer[w].requests);
}

static void say_close(unsigned w, const char *id, uint64_t claim, uint32_t expiry)
{
    say_close_with(w, id, claim, expiry, 0, 0, NULL, 0);
}

/* One that is owed retained messages up to a number (0: none). */
static void say_subscribe_owed(unsigned w, const char *id, uint64_t claim, const char *filter, uint64_t asked)
{
    struct ipc_message m = IPC_MAKE(SUBSCRIBE, IPC_NUM(++peer[w].requests), IPC_NUM(claim), IPC_NUM(1),
                                    IPC_NUM(0), IPC_NUM(1), ID(id), ID(filter), IPC_NUM(asked));
    send_to_hub(w, &m);
    settle();
}

static void say_subscribe(unsigned w, const char *id, uint64_t claim, const char *filter)
{
    say_subscribe_owed(w, id, claim, filter, 0);
}

static void say_progress(unsigned w, const char *id, uint64_t claim, uint64_t cursor)
{
    struct engine_progress p = {.cursor = cursor};
    char progress[32];
    progress_encode(&p, progress);
    struct ipc_message m = IPC_MAKE(PROGRESS, IPC_NUM(++peer[w].requests), IPC_NUM(claim), ID(id),
                                    IPC_BYTES(progress, progress_size(&p)));
    send_to_hub(w, &m);
    settle();
}

/* Somebody publishes, and it is kept; returns its number. */
static uint64_t say_publish(unsigned w)
{
    struct ipc_message m =
        IPC_MAKE(PUBLISH, IPC_NUM(++peer[w].requests), IPC_NUM(1), IPC_NUM(0), IPC_NUM(0), IPC_NUM(0),
                 ID("t"), IPC_BYTES("", 0), ID("x"), IPC_BYTES("", 0), IPC_BYTES("", 0));
    send_to_hub(w, &m);
    settle();
    for (unsigned i = 0; i < WORKERS; i++)
        if (peer[i].channel)
            next(i, IPC_DELIVER);
    return hub.newest;
}

static void say_claim(unsigned w, const char *id, uint64_t claim, bool replayed)
{
    struct ipc_message m = IPC_MAKE(CLAIM, IPC_NUM(claim), IPC_NUM(replayed), ID(id));
    send_to_hub(w, &m);
    settle();
}

static void say_release(unsigned w, const char *id, uint64_t claim)
{
    struct ipc_message m = IPC_MAKE(RELEASE, IPC_NUM(claim), ID(id));
    send_to_hub(w, &m);
    settle();
}

/* Somebody who had it has not given it back, and what it was sent up to this number is not known. */
static void expect_opened_unsure(unsigned w, const char *id, uint64_t claim, bool present, uint64_t unsure_to)
{
    const struct heard *h = next(w, IPC_OPENED);
    ck_assert_uint_eq(h->num[0], claim);
    ck_assert_uint_eq(h->num[1], present);
    ck_assert_uint_eq(h->num[2], unsure_to);
    ck_assert_uint_eq(h->num[3], 0);
    ck_assert_str_eq(h->text, id);
}

static void expect_opened(unsigned w, const char *id, uint64_t claim, bool present)
{
    expect_opened_unsure(w, id, claim, present, 0);
}

static void expect_kick(unsigned w, const char *id, uint64_t claim)
{
    const struct heard *h = next(w, IPC_KICK);
    ck_assert_uint_eq(h->num[1], claim);
    ck_assert_str_eq(h->text, id);
}

/* Opens, and hears that it is so. */
static void open_session(unsigned w, const char *id, uint64_t claim, uint32_t expiry, unsigned present)
{
    say_open(w, id, claim, false, expiry);
    expect_opened(w, id, claim, present);
}

/* ---- what is stored ---- */

struct stored {
    bool found;
    struct engine_session session;
    size_t subscriptions;
    unsigned owes;
    uint64_t asked; /* of the first one that is owed */
};

static void stored_cb(void *ctx, const struct engine_session_view *v)
{
    struct stored *s = ctx;
    s->session = v->session;
    s->subscriptions = v->subscription_count;
    s->owes = v->progress.owes;
    s->asked = s->owes ? v->progress.owed[0].asked : 0;
}

/* As a reader in any process sees it. */
static struct stored stored(const char *id)
{
    struct stored s = {0};
    s.found = hub.engine_ops->session_get(hub.reader, id, strlen(id), stored_cb, &s);
    return s;
}

static void assert_connected(const char *id)
{
    struct stored s = stored(id);
    ck_assert(s.found);
    ck_assert_uint_eq(s.session.disconnected_ms, 0);
}

static void assert_away_since(const char *id, uint64_t since)
{
    struct stored s = stored(id);
    ck_assert(s.found);
    ck_assert_uint_eq(s.session.disconnected_ms, since);
}

static void assert_gone(const char *id) { ck_assert(!stored(id).found); }

/* ---- the hub ---- */

static int listening_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&sin, sizeof sin), 0);
    ck_assert_int_eq(listen(fd, 8), 0);
    return fd;
}

static void begin_hub(const char *engine)
{
    hub = (struct hub){.magic = HUB_MAGIC, .args = &args, .base = base, .engine_ops = engine_find(engine)};
    LIST_INIT(&hub.queries);
    hub_workers_setup(&hub);
    ck_assert(hub_log_open(&hub));
    hub_feed_setup(&hub);
    hub_sessions_setup(&hub);
    hub_shared_setup(&hub);
    hub.api = http_api_new(&hub, listening_socket(), -1);
    ck_assert_ptr_nonnull(hub.api);
    hub_open(&hub);
}

/* In the order of hub.c. */
static void end_hub(void)
{
    hub.stopping = true;
    hub_workers_detach(&hub);
    hub_shared_free(&hub);
    hub_sessions_free(&hub);
    hub_feed_free(&hub);
    hub_log_close(&hub);
    http_api_free(hub.api);
    free(hub.worker);
    for (unsigned i = 0; i < WORKERS; i++) {
        ipc_channel_free(peer[i].channel);
        peer[i].channel = NULL;
    }
}

static void attach_all(void)
{
    for (unsigned i = 0; i < WORKERS; i++)
        attach(i, 100 + i);
    for (unsigned i = 0; i < WORKERS; i++)
        claims_done(i);
}

static void begin(const char *engine)
{
    hash_set_key(1, 2);
    log_setup(LOG_LEVEL_ERROR, false, "test");
    now_ms = START;
    clock_fake(now_ms);
    config_defaults(&config);
    free(config.data_dir);
    snprintf(dir, sizeof dir, "/tmp/holdfast-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    config.data_dir = xstrdup(dir);
    config.log_reserve = 0;
    counters_attach(&counters[WORKERS]);
    args = (struct process_args){.config = &config,
                                 .workers = WORKERS,
                                 .number = PROCESS_HUB,
                                 .max_connections = 1000,
                                 .counters = counters};
    base = event_base_new();
    memset(peer, 0, sizeof peer);
    begin_hub(engine);
}

static void finish(void)
{
    char why[ENGINE_WHY_MAX] = "", path[128];
    static const char *const files[] = {"holdfast.mdb", "holdfast.mdb-lock", "holdfast.lock"};
    settle();
    ck_assert_msg(hub.engine_ops->verify(hub.reader, why), "%s", why);
    end_hub();
    event_base_free(base);
    config_free(&config);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
    clock_real();
}

static void setup(void)
{
    begin("memory");
    attach_all();
}

static void setup_local(void)
{
    begin("local");
    attach_all();
}

static void teardown(void) { finish(); }

/* The hub is killed and starts again; the workers live on. */
static void restart_hub(void)
{
    settle();
    end_hub();
    now_ms += 500;
    clock_fake(now_ms);
    begin_hub("local");
}

/* ---- opening and closing ---- */

START_TEST(a_new_session)
{
    open_session(0, "a", 10, 60, false);
    assert_connected("a");
    ck_assert_uint_eq(stored("a").session.expiry_s, 60);
    nothing(0);
}
END_TEST

START_TEST(one_that_comes_back)
{
    open_session(0, "a", 10, 60, false);
    say_subscribe(0, "a", 10, "t/+");
    say_close(0, "a", 10, 60);
    assert_away_since("a", START);
    open_session(1, "a", 20, 30, true);
    assert_connected("a");
    ck_assert_uint_eq(stored("a").session.expiry_s, 30);
    ck_assert_uint_eq(stored("a").subscriptions, 1);
}
END_TEST

/* What a subscription is owed is stored with it, until the worker says how far that has come. */
START_TEST(one_that_is_owed_retained_messages)
{
    open_session(0, "a", 10, 60, false);
    say_subscribe_owed(0, "a", 10, "t/+", 77);
    say_subscribe(0, "a", 10, "u");
    say_close(0, "a", 10, 60);
    open_session(1, "a", 20, 30, true);
    ck_assert_uint_eq(stored("a").owes, 1);
    ck_assert_uint_eq(stored("a").asked, 77);
    say_progress(1, "a", 20, 5);
    ck_assert_uint_eq(stored("a").owes, 0);
}
END_TEST

START_TEST(a_clean_start)
{
    open_session(0, "a", 10, 60, false);
    say_subscribe(0, "a", 10, "t/+");
    say_close(0, "a", 10, 60);
    say_open(0, "a", 20, true, 60);
    expect_opened(0, "a", 20, false);
    assert_connected("a");
    ck_assert_uint_eq(stored("a").subscriptions, 0);
}
END_TEST

START_TEST(an_end_without_expiry)
{
    open_session(0, "a", 10, 60, false);
    say_close(0, "a", 10, 0);
    assert_gone("a");
    open_session(0, "a", 20, 60, false);
}
END_TEST

START_TEST(leaving_and_coming_back_within_one_commit)
{
    open_session(0, "a", 10, 60, false);
    struct ipc_message close = IPC_MAKE(CLOSE, IPC_NUM(++peer[0].requests), IPC_NUM(10), IPC_NUM(0),
                                        IPC_NUM(0), ID("a"), IPC_BYTES("", 0), IPC_BYTES("", 0), IPC_NUM(0));
    struct ipc_message open = IPC_MAKE(OPEN, IPC_NUM(20), IPC_NUM(0), IPC_NUM(60), ID("a"));
    send_to_hub(0, &close);
    send_to_hub(0, &open);
    settle();
    expect_opened(0, "a", 20, false); /* it had ended, though readers could not know yet */
    assert_connected("a");
}
END_TEST

START_TEST(the_time_of_a_session_passes)
{
    open_session(0, "a", 10, 5, false);
    say_close(0, "a", 10, 5);
    pass(4);
    ck_assert(stored("a").found);
    pass(2);
    assert_gone("a");
    open_session(0, "a", 20, NEVER, false);
    say_close(0, "a", 20, NEVER);
    pass(100);
    open_session(0, "a", 30, NEVER, true);
}
END_TEST

START_TEST(one_whose_time_is_over_is_not_there)
{
    open_session(0, "a", 10, 5, false);
    say_close(0, "a", 10, 5);
    now_ms += 5000; /* and nobody has tidied up */
    clock_fake(now_ms);
    ck_assert(stored("a").found);
    open_session(0, "a", 20, 5, false);
}
END_TEST

/* ---- progress ---- */

START_TEST(progress_is_stored)
{
    open_session(0, "a", 10, 60, false);
    uint64_t cursor = stored("a").session.cursor;
    say_progress(0, "a", 10, cursor + 5);
    ck_assert_uint_eq(stored("a").session.cursor, cursor + 5);
    say_close_with(0, "a", 10, 60, cursor + 9, 0, NULL, 0);
    ck_assert_uint_eq(stored("a").session.cursor, cursor + 9);
    open_session(1, "a", 20, 60, true);
    ck_assert_uint_eq(stored("a").session.cursor, cursor + 9);
}
END_TEST

START_TEST(only_who_has_it_may_change_it)
{
    open_session(0, "a", 10, 60, false);
    uint64_t cursor = stored("a").session.cursor;
    say_progress(1, "a", 10, cursor + 5);
    say_progress(0, "a", 9, cursor + 5);
    say_subscribe(1, "a", 20, "t");
    say_close(1, "a", 20, 0);
    ck_assert_uint_eq(stored("a").session.cursor, cursor);
    ck_assert_uint_eq(stored("a").subscriptions, 0);
    assert_connected("a");
    say_close(0, "a", 10, 60);
    say_progress(0, "nobody", 10, cursor + 5);
    say_close(0, "nobody", 10, 60);
    assert_gone("nobody");
}
END_TEST

/* ---- takeovers ---- */

START_TEST(a_takeover_waits_for_what_the_loser_says)
{
    open_session(0, "a", 10, 60, false);
    uint64_t cursor = stored("a").session.cursor;
    say_open(1, "a", 20, false, 60);
    expect_kick(0, "a", 10);
    nothing(1);
    say_close_with(0, "a", 10, 60, cursor + 7, 0, NULL, 0);
    expect_opened(1, "a", 20, true);
    assert_connected("a");
    ck_assert_uint_eq(stored("a").session.cursor, cursor + 7);
    ck_assert_uint_eq(hub_openings_count(hub.sessions->openings), 0);
}
END_TEST

START_TEST(a_takeover_of_one_that_is_not_stored)
{
    say_claim(0, "a", 10, false);
    say_open(1, "a", 20, false, 60);
    expect_kick(0, "a", 10);
    nothing(1);
    say_release(0, "a", 10);
    expect_opened(1, "a", 20, false);
}
END_TEST

START_TEST(a_takeover_does_not_wait_for_ever)
{
    open_session(0, "a", 10, 60, false);
    uint64_t cursor = stored("a").session.cursor, newest = say_publish(2);
    say_open(1, "a", 20, false, 60);
    expect_kick(0, "a", 10);
    pass(4);
    nothing(1);
    pass(1);
    expect_opened_unsure(1, "a", 20, true, newest);
    say_close_with(0, "a", 10, 0, cursor + 7, 0, NULL, 0); /* too late */
    assert_connected("a");
    ck_assert_uint_eq(stored("a").session.cursor, cursor);
    say_close(1, "a", 20, 60);
    say_close(0, "a", 10, 0); /* nobody claims the id, but it was not this one that had it last */
    assert_away_since("a", now_ms);
}
END_TEST

START_TEST(a_takeover_from_a_worker_that_dies)
{
    open_session(0, "a", 10, 60, false);
    uint64_t newest = say_publish(2);
    say_open(1, "a", 20, false, 60);
    nothing(1);
    kill_worker(0);
    expect_opened_unsure(1, "a", 20, true, newest);
    assert_connected("a");
}
END_TEST

START_TEST(who_asks_last_gets_it)
{
    open_session(0, "a", 10, 60, false);
    say_open(1, "a", 20, false, 60);
    say_open(2, "a", 30, false, 40);
    expect_kick(0, "a", 10);
    expect_kick(1, "a", 20);
    say_close(1, "a", 20, 60); /* it never had it */
    nothing(2);
    assert_connected("a");
    say_close(0, "a", 10, 60);
    expect_opened(2, "a", 30, true);
    nothing(1);
    ck_assert_uint_eq(stored("a").session.expiry_s, 40);
}
END_TEST

START_TEST(who_asked_and_left_gets_nothing)
{
    open_session(0, "a", 10, 60, false);
    say_open(1, "a", 20, false, 60);
    expect_kick(0, "a", 10);
    say_close(1, "a", 20, 60);
    ck_assert_uint_eq(hub_openings_count(hub.sessions->openings), 0);
    say_close(0, "a", 10, 60);
    nothing(1);
    assert_away_since("a", START);
    say_open(1, "b", 30, false, 60);
    expect_opened(1, "b", 30, false);
    open_session(0, "c", 40, 60, false);
    say_open(1, "c", 50, false, 60);
    kill_worker(1);
    say_close(0, "c", 40, 60);
    assert_away_since("c", START);
}
END_TEST

START_TEST(the_older_of_two_claims_loses)
{
    open_session(0, "a", 20, 60, false);
    say_open(1, "a", 10, false, 60);
    expect_kick(1, "a", 10);
    nothing(0);
    say_close(1, "a", 10, 0);
    assert_connected("a");
}
END_TEST

/* ---- sessions that are not stored ---- */

START_TEST(one_that_is_not_stored_ends_what_is)
{
    open_session(0, "a", 10, 60, false);
    say_close(0, "a", 10, 60);
    say_claim(1, "a", 20, false);
    assert_gone("a");
    say_release(1, "a", 20);
    open_session(0, "a", 30, 60, false);
    say_claim(1, "a", 40, false);
    expect_kick(0, "a", 30);
    ck_assert(stored("a").found);
    say_close_with(0, "a", 30, 60, 0, 10, "will", 0); /* the session has ended, so its will is due */
    assert_gone("a");
    ck_assert_str_eq(next(2, IPC_DELIVER)->text, "will");
}
END_TEST

START_TEST(what_was_to_go_does_not_come_back)
{
    open_session(0, "a", 10, 60, false);
    say_claim(1, "a", 20, false); /* a clean start, and right after it */
    say_open(2, "a", 30, false, 60);
    expect_kick(0, "a", 10);
    expect_kick(1, "a", 20);
    say_release(1, "a", 20);
    nothing(2);
    say_close(0, "a", 10, 60);
    expect_opened(2, "a", 30, false);
}
END_TEST

/* ---- removing ---- */

START_TEST(deleting)
{
    ck_assert_int_eq(hub_session_delete(&hub, "a", 1), HUB_DELETE_ABSENT);
    open_session(0, "a", 10, 60, false);
    say_close(0, "a", 10, 60);
    ck_assert_int_eq(hub_session_delete(&hub, "a", 1), HUB_DELETE_DONE);
    settle();
    assert_gone("a");
    open_session(0, "a", 20, 60, false);
    ck_assert_int_eq(hub_session_delete(&hub, "a", 1), HUB_DELETE_DONE);
    settle();
    expect_kick(0, "a", 20);
    say_close(0, "a", 20, 60);
    assert_gone("a");
    say_claim(0, "a", 30, false);
    ck_assert_int_eq(hub_session_delete(&hub, "a", 1), HUB_DELETE_DONE);
    settle();
    expect_kick(0, "a", 30);
}
END_TEST

/* ---- wills ---- */

START_TEST(a_will_that_waits)
{
    open_session(0, "a", 10, 60, false);
    say_close_with(0, "a", 10, 60, 0, 5, "will", 0);
    ck_assert_uint_eq(hub_wills_waiting(hub.sessions->wills), 1);
    pass(4);
    nothing(1);
    pass(2);
    ck_assert_str_eq(next(1, IPC_DELIVER)->text, "will");
    ck_assert_uint_eq(hub_wills_waiting(hub.sessions->wills), 0);
    assert_away_since("a", START);
    pass(10);
    nothing(1);
    open_session(1, "a", 20, 60, true);
}
END_TEST

START_TEST(a_will_that_is_kept_comes_once)
{
    open_session(0, "a", 10, 60, false);
    say_close_with(0, "a", 10, 60, 0, 5, "will", 1);
    pass(6);
    const struct heard *h = next(1, IPC_DELIVER);
    ck_assert_str_eq(h->text, "will");
    ck_assert_uint_eq(h->num[1], 1);
    pass(60);
    nothing(1);
    assert_gone("a");
}
END_TEST

START_TEST(coming_back_cancels_the_will)
{
    open_session(0, "a", 10, 60, false);
    say_close_with(0, "a", 10, 60, 0, 5, "will", 0);
    pass(3);
    open_session(0, "a", 20, 60, true);
    ck_assert_uint_eq(hub_wills_waiting(hub.sessions->wills), 0);
    pass(10);
    nothing(1);
}
END_TEST

START_TEST(a_clean_start_publishes_the_will)
{
    open_session(0, "a", 10, 60, false);
    say_close_with(0, "a", 10, 60, 0, 5, "will", 0);
    say_open(0, "a", 20, true, 60);
    ck_assert_str_eq(next(1, IPC_DELIVER)->text, "will");
    pass(10);
    nothing(1);
}
END_TEST

START_TEST(the_end_of_the_session_publishes_the_will)
{
    open_session(0, "a", 10, 3, false);
    say_close_with(0, "a", 10, 3, 0, 100, "will", 1);
    pass(2);
    nothing(1);
    ck_assert(stored("a").found);
    pass(2);
    ck_assert_str_eq(next(1, IPC_DELIVER)->text, "will");
    assert_gone("a");
    next(0, IPC_DELIVER);
    open_session(0, "b", 20, 60, false);
    say_close_with(0, "b", 20, 0, 0, 100, "now", 1);
    ck_assert_str_eq(next(1, IPC_DELIVER)->text, "now");
    assert_gone("b");
}
END_TEST

START_TEST(deleting_publishes_the_will)
{
    open_session(0, "a", 10, 60, false);
    say_close_with(0, "a", 10, 60, 0, 5, "will", 0);
    ck_assert_int_eq(hub_session_delete(&hub, "a", 1), HUB_DELETE_DONE);
    settle();
    ck_assert_str_eq(next(1, IPC_DELIVER)->text, "will");
    ck_assert_uint_eq(hub_wills_waiting(hub.sessions->wills), 0);
}
END_TEST

START_TEST(what_is_no_will_is_not_stored)
{
    open_session(0, "a", 10, 60, false);
    struct ipc_message m = IPC_MAKE(CLOSE, IPC_NUM(++peer[0].requests), IPC_NUM(10), IPC_NUM(60), IPC_NUM(5),
                                    ID("a"), IPC_BYTES("x", 1), IPC_BYTES("nonsense", 8), IPC_NUM(0));
    send_to_hub(0, &m);
    settle();
    assert_away_since("a", START);
    ck_assert_uint_eq(hub_wills_waiting(hub.sessions->wills), 0);
}
END_TEST

/* ---- what the dead have left ---- */

START_TEST(sessions_of_a_worker_that_dies_are_away)
{
    open_session(0, "a", 10, 60, false);
    open_session(1, "b", 20, 60, false);
    pass(1);
    kill_worker(0);
    assert_away_since("a", START + 1000);
    assert_connected("b");
    attach(0, 500);
    claims_done(0);
    open_session(0, "a", 30, 60, true);
}
END_TEST

/* What was published before the worker died may have been sent, and what comes after it was not; that is so
 * until somebody has read all of it, whatever dies meanwhile, and beside a will. */
START_TEST(what_the_dead_may_have_sent)
{
    open_session(0, "a", 10, 60, false);
    uint64_t newest = say_publish(1);
    kill_worker(0);
    say_publish(1);
    say_open(1, "a", 20, false, 60);
    expect_opened_unsure(1, "a", 20, true, newest);
    has_not_read_all = true;
    say_close_with(1, "a", 20, 60, newest - 1, 5, "will", 1);
    restart_hub();
    attach_all();
    say_open(1, "a", 30, false, 60);
    expect_opened_unsure(1, "a", 30, true, newest);
    say_close_with(1, "a", 30, 60, newest, 5, "will", 1);
    assert_away_since("a", now_ms);
    open_session(1, "a", 40, 60, true);
}
END_TEST

START_TEST(very_many_are_put_away)
{
    char id[16];
    for (unsigned i = 0; i < 1700; i++) {
        snprintf(id, sizeof id, "c%u", i);
        struct ipc_message m = IPC_MAKE(OPEN, IPC_NUM(10 + i), IPC_NUM(0), IPC_NUM(60), ID(id));
        send_to_hub(i % 2, &m);
        if (i % 100 == 99) {
            settle();
            peer[0].count = peer[0].taken = peer[1].count = peer[1].taken = 0;
        }
    }
    settle();
    kill_worker(0);
    for (unsigned i = 0; i < 1700; i++) {
        snprintf(id, sizeof id, "c%u", i);
        if (i % 2 == 0)
            assert_away_since(id, now_ms);
        else
            assert_connected(id);
    }
}
END_TEST

START_TEST(a_hub_that_starts_again_finds_who_is_there)
{
    open_session(0, "a", 10, 60, false);
    open_session(1, "b", 20, 60, false);
    open_session(2, "c", 30, 60, false);
    restart_hub();
    for (unsigned i = 0; i < 2; i++)
        attach(i, 100 + i);
    attach(2, 900); /* it was killed too */
    say_claim(0, "a", 10, true);
    say_claim(1, "b", 20, true);
    claims_done(0);
    claims_done(1);
    assert_connected("c"); /* it may still be claimed */
    claims_done(2);
    assert_connected("a");
    assert_connected("b");
    assert_away_since("c", now_ms);
}
END_TEST

START_TEST(a_close_that_comes_after_the_hub_has_started_again)
{
    open_session(0, "a", 10, 60, false);
    uint64_t cursor = stored("a").session.cursor;
    restart_hub();
    attach_all(); /* the session has ended meanwhile, so nobody claims it */
    say_close_with(0, "a", 10, 60, cursor + 3, 0, NULL, 0);
    ck_assert_uint_eq(stored("a").session.cursor, cursor + 3);
    assert_away_since("a", now_ms);
}
END_TEST

START_TEST(who_asks_a_new_hub_waits_for_what_others_have_to_say)
{
    open_session(0, "a", 10, 60, false);
    uint64_t cursor = stored("a").session.cursor;
    restart_hub();
    for (unsigned i = 0; i < WORKERS; i++)
        attach(i, 100 + i);
    say_open(1, "a", 20, false, 60);
    claims_done(1);
    claims_done(2);
    nothing(1);
    say_close_with(0, "a", 10, 60, cursor + 3, 0, NULL, 0);
    nothing(1);
    claims_done(0);
    expect_opened(1, "a", 20, true);
    ck_assert_uint_eq(stored("a").session.cursor, cursor + 3);
}
END_TEST

START_TEST(who_asks_twice_hears_the_same)
{
    open_session(0, "a", 10, 60, false);
    restart_hub(); /* OPENED was lost on the way, say */
    for (unsigned i = 0; i < WORKERS; i++)
        attach(i, 100 + i);
    say_open(0, "a", 10, false, 60);
    for (unsigned i = 0; i < WORKERS; i++)
        claims_done(i);
    expect_opened(0, "a", 10, false);
    say_close(0, "a", 10, 60);
    open_session(0, "a", 20, 60, true);
    say_open(0, "a", 20, true, 60);
    expect_opened(0, "a", 20, true);
}
END_TEST

START_TEST(a_removal_that_was_lost_is_made_up_for)
{
    open_session(0, "a", 10, 60, false);
    restart_hub();
    for (unsigned i = 0; i < WORKERS; i++)
        attach(i, 100 + i);
    say_claim(1, "a", 20, true); /* not stored, and newer: a clean start */
    for (unsigned i = 0; i < WORKERS; i++)
        claims_done(i);
    pass(5); /* whoever had it might still say something */
    assert_gone("a");
    open_session(0, "b", 50, 60, false);
    say_claim(1, "b", 40, true); /* older: it has lost */
    expect_kick(1, "b", 40);
    assert_connected("b");
}
END_TEST

START_TEST(wills_wait_over_a_restart_of_the_hub)
{
    open_session(0, "a", 10, 60, false);
    open_session(0, "b", 20, 2, false);
    open_session(0, "c", 30, 60, false);
    say_close_with(0, "a", 10, 60, 0, 5, "will/a", 1);
    say_close_with(0, "b", 20, 2, 0, 5, "will/b", 1);
    say_close_with(0, "c", 30, 60, 0, 5, "will/c", 1);
    restart_hub();
    attach_all();
    ck_assert_uint_eq(hub_wills_waiting(hub.sessions->wills), 3);
    open_session(1, "c", 40, 60, true);
    pass(3);
    ck_assert_str_eq(next(2, IPC_DELIVER)->text, "will/b");
    nothing(2);
    pass(3);
    ck_assert_str_eq(next(2, IPC_DELIVER)->text, "will/a");
    restart_hub();
    attach_all();
    pass(10);
    nothing(2);
    assert_gone("b");
    assert_away_since("a", START);
}
END_TEST

START_TEST(a_will_is_not_published_while_its_client_may_be_back)
{
    open_session(0, "a", 10, 60, false);
    say_close_with(0, "a", 10, 60, 0, 5, "will", 0);
    restart_hub();
    for (unsigned i = 0; i < WORKERS; i++)
        attach(i, 100 + i);
    pass(6);
    nothing(1);
    for (unsigned i = 0; i < WORKERS; i++)
        claims_done(i);
    pass(2);
    ck_assert_str_eq(next(1, IPC_DELIVER)->text, "will");
}
END_TEST

START_TEST(a_worker_that_was_taken_for_dead_has_its_session_back)
{
    open_session(0, "a", 10, 60, false);
    attach(0, 100); /* a new channel: the claims of the old one are forgotten */
    ck_assert(stored("a").session.disconnected_ms == 0 || stored("a").session.disconnected_ms == START);
    say_claim(0, "a", 10, true);
    claims_done(0);
    assert_connected("a");
    say_close(0, "a", 10, 60);
    assert_away_since("a", START);
}
END_TEST

static void setup_interval(void)
{
    begin("local");
    end_hub();
    config.log_sync = LOG_SYNC_INTERVAL;
    config.log_sync_interval_ms = 200;
    begin_hub("local");
    attach_all();
}

/* With sync = interval a request is answered before its commit. */
START_TEST(who_comes_back_finds_everything_though_it_was_not_written)
{
    say_open(0, "a", 10, false, 60);
    expect_opened(0, "a", 10, false);
    for (unsigned i = 0; i < 20; i++) {
        uint64_t claim = 20 + i * 10;
        char filter[16];
        snprintf(filter, sizeof filter, "t/%u", i);
        struct ipc_message sub =
            IPC_MAKE(SUBSCRIBE, IPC_NUM(++peer[0].requests), IPC_NUM(claim - 10), IPC_NUM(1), IPC_NUM(0),
                     IPC_NUM(1), ID("a"), ID(filter), IPC_NUM(0));
        struct ipc_message close =
            IPC_MAKE(CLOSE, IPC_NUM(++peer[0].requests), IPC_NUM(claim - 10), IPC_NUM(60), IPC_NUM(0),
                     ID("a"), IPC_BYTES("", 0), IPC_BYTES("", 0), IPC_NUM(0));
        struct ipc_message open = IPC_MAKE(OPEN, IPC_NUM(claim), IPC_NUM(0), IPC_NUM(60), ID("a"));
        send_to_hub(0, &sub);
        send_to_hub(0, &close);
        send_to_hub(0, &open);
        while (peer[0].taken == peer[0].count)
            turn();
        expect_opened(0, "a", claim, true);
        ck_assert_uint_eq(stored("a").subscriptions, i + 1);
    }
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_new_session);
    tcase_add_test(tc, one_that_comes_back);
    tcase_add_test(tc, one_that_is_owed_retained_messages);
    tcase_add_test(tc, a_clean_start);
    tcase_add_test(tc, an_end_without_expiry);
    tcase_add_test(tc, leaving_and_coming_back_within_one_commit);
    tcase_add_test(tc, the_time_of_a_session_passes);
    tcase_add_test(tc, one_whose_time_is_over_is_not_there);
    tcase_add_test(tc, progress_is_stored);
    tcase_add_test(tc, only_who_has_it_may_change_it);
    tcase_add_test(tc, a_takeover_waits_for_what_the_loser_says);
    tcase_add_test(tc, a_takeover_of_one_that_is_not_stored);
    tcase_add_test(tc, a_takeover_does_not_wait_for_ever);
    tcase_add_test(tc, a_takeover_from_a_worker_that_dies);
    tcase_add_test(tc, who_asks_last_gets_it);
    tcase_add_test(tc, who_asked_and_left_gets_nothing);
    tcase_add_test(tc, the_older_of_two_claims_loses);
    tcase_add_test(tc, one_that_is_not_stored_ends_what_is);
    tcase_add_test(tc, what_was_to_go_does_not_come_back);
    tcase_add_test(tc, deleting);
    tcase_add_test(tc, a_will_that_waits);
    tcase_add_test(tc, a_will_that_is_kept_comes_once);
    tcase_add_test(tc, coming_back_cancels_the_will);
    tcase_add_test(tc, a_clean_start_publishes_the_will);
    tcase_add_test(tc, the_end_of_the_session_publishes_the_will);
    tcase_add_test(tc, deleting_publishes_the_will);
    tcase_add_test(tc, what_is_no_will_is_not_stored);
    tcase_add_test(tc, sessions_of_a_worker_that_dies_are_away);
    tcase_add_test(tc, very_many_are_put_away);
}

/* Those that need a store that outlives the hub. */
static void add_restart_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup_local, teardown);
    tcase_add_test(tc, what_the_dead_may_have_sent);
    tcase_add_test(tc, a_hub_that_starts_again_finds_who_is_there);
    tcase_add_test(tc, a_close_that_comes_after_the_hub_has_started_again);
    tcase_add_test(tc, who_asks_a_new_hub_waits_for_what_others_have_to_say);
    tcase_add_test(tc, who_asks_twice_hears_the_same);
    tcase_add_test(tc, a_removal_that_was_lost_is_made_up_for);
    tcase_add_test(tc, wills_wait_over_a_restart_of_the_hub);
    tcase_add_test(tc, a_will_is_not_published_while_its_client_may_be_back);
    tcase_add_test(tc, a_worker_that_was_taken_for_dead_has_its_session_back);
}

static void add_interval_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup_interval, teardown);
    tcase_add_test(tc, who_comes_back_finds_everything_though_it_was_not_written);
}

int main(void)
{
    static void (*const add[])(TCase *) = {add_tests, add_restart_tests, add_interval_tests};
    static const char *const name[] = {"hub sessions", "after a restart", "before it is written"};
    Suite *s = suite_create("hub sessions");
    for (unsigned i = 0; i < 3; i++) {
        TCase *tc = tcase_create(name[i]);
        tcase_set_timeout(tc, 120);
        add[i](tc);
        suite_add_tcase(s, tc);
    }
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
