#include "tests/unit/hub_rig.h"

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
#include "gateway/hub/hub_wills.h"
#include "tests/unit/unit.h"

struct hub_rig rig;

static struct config config;
static struct counters counters[WORKERS + 2];
static struct process_args args;
static struct event_base *base;
static char dir[64];

/* ---- the other side ---- */

static void rig_message(void *ctx, struct ipc_channel *ch, const struct ipc_message *m)
{
    struct peer *p = ctx;
    (void)ch;
    if (m->type == IPC_DONE)
        p->done = m->field[0].num;
    if (m->type == IPC_DONE || m->type == IPC_HELLO)
        return;
    ck_assert_uint_lt(p->count, RIG_HEARD);
    struct heard *h = &p->heard[p->count++];
    *h = (struct heard){.type = m->type};
    const char *fields = ipc_type_fields(m->type);
    for (unsigned i = 0; i < m->fields; i++)
        if ((fields[i] == 's' || fields[i] == 'd') && !h->text[0])
            snprintf(h->text, sizeof h->text, "%.*s", (int)m->field[i].bytes.len, m->field[i].bytes.data);
        else if (fields[i] != 's' && fields[i] != 'd' && i < 6)
            h->num[i] = m->field[i].num;
}

static void rig_closed(void *ctx, struct ipc_channel *ch, const char *why)
{
    struct peer *p = ctx;
    (void)why;
    ipc_channel_free(ch);
    p->channel = NULL;
}

void rig_turn(void)
{
    clock_update();
    event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

void rig_settle(void)
{
    struct engine_stats s;
    unsigned quiet = 0;
    while (quiet < 20) {
        rig_turn();
        rig.hub.engine_ops->stats(rig.hub.engine, &s);
        bool busy = s.pending_bytes > 0 || hub_reconcile_is_busy(rig.hub.sessions->reconcile);
        for (unsigned i = 0; i < WORKERS; i++)
            busy = busy || (rig.peer[i].channel && ipc_channel_pending(rig.peer[i].channel));
        quiet = busy ? 0 : quiet + 1;
    }
}

void rig_pass(unsigned seconds)
{
    for (unsigned i = 0; i < seconds; i++) {
        rig.now_ms += 1000;
        clock_fake(rig.now_ms);
        hub_sessions_tick(&rig.hub);
        hub_wills_look(rig.hub.sessions->wills);
        hub_log_tick(&rig.hub);
        rig_settle();
    }
}

void rig_send(unsigned w, const struct ipc_message *m)
{
    ck_assert_ptr_nonnull(rig.peer[w].channel);
    ck_assert(ipc_channel_send(rig.peer[w].channel, m));
}

void rig_attach(unsigned w, uint64_t incarnation)
{
    static const struct ipc_channel_handler handler = {.message = rig_message, .closed = rig_closed};
    int fd[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
    hub_worker_attach(&rig.hub, (uint16_t)w, fd[0]);
    ipc_channel_free(rig.peer[w].channel);
    if (rig.peer[w].incarnation != incarnation)
        rig.peer[w] = (struct peer){.incarnation = incarnation};
    rig.peer[w].channel = ipc_channel_new(base, fd[1], 1 << 20, &handler, &rig.peer[w]);
    struct ipc_message hello =
        IPC_MAKE(HELLO, IPC_NUM(IPC_VERSION), IPC_NUM(w), IPC_NUM(0), IPC_NUM(incarnation), IPC_NUM(0));
    rig_send(w, &hello);
    rig_settle();
    ck_assert_uint_gt(rig.peer[w].count, 0);
    ck_assert_int_eq(rig.peer[w].heard[rig.peer[w].count - 1].type, IPC_WELCOME);
    rig.peer[w].taken = rig.peer[w].count;
}

void rig_claims_done(unsigned w)
{
    struct ipc_message m = {.type = IPC_CLAIMS_DONE};
    rig_send(w, &m);
    rig_settle();
}

void rig_kill_worker(unsigned w)
{
    ipc_channel_free(rig.peer[w].channel);
    rig.peer[w].channel = NULL;
    rig_settle();
}

const struct heard *rig_next(unsigned w, enum ipc_type type)
{
    struct peer *p = &rig.peer[w];
    ck_assert_msg(p->taken < p->count, "worker %u heard nothing, expected %s", w, ipc_type_name(type));
    const struct heard *h = &p->heard[p->taken++];
    ck_assert_msg(h->type == type, "worker %u heard %s, expected %s", w, ipc_type_name(h->type),
                  ipc_type_name(type));
    return h;
}

void rig_nothing(unsigned w)
{
    ck_assert_msg(rig.peer[w].taken == rig.peer[w].count, "worker %u heard %s", w,
                  ipc_type_name(rig.peer[w].heard[rig.peer[w].taken].type));
}

/* ---- what workers say ---- */

void say_open(unsigned w, const char *id, uint64_t claim, bool clean, uint32_t expiry)
{
    struct ipc_message m = IPC_MAKE(OPEN, IPC_NUM(claim), IPC_NUM(clean), IPC_NUM(expiry), ID(id));
    rig_send(w, &m);
    rig_settle();
}

/* A will as workers encode it. */
static size_t encode_will(char *out, size_t size, const char *topic, uint8_t qos, uint64_t expires_ms)
{
    struct ipc_message m =
        IPC_MAKE(PUBLISH, IPC_NUM(0), IPC_NUM(qos), IPC_NUM(0), IPC_NUM(expires_ms), IPC_NUM(7), ID(topic),
                 IPC_BYTES("", 0), IPC_BYTES("gone", 4), IPC_BYTES("", 0), IPC_BYTES("", 0));
    size_t len = ipc_size(&m);
    ck_assert_uint_le(len, size);
    ipc_encode(&m, out);
    return len;
}

void say_will(unsigned w, const char *id, uint64_t claim, uint32_t delay, const char *topic,
              uint64_t expires_ms)
{
    char bytes[256];
    size_t len = encode_will(bytes, sizeof bytes, topic, 0, expires_ms);
    struct ipc_message m = IPC_MAKE(WILL, IPC_NUM(claim), IPC_NUM(delay), ID(id), IPC_BYTES(bytes, len));
    rig_send(w, &m);
    rig_settle();
}

void say_close_with(unsigned w, const char *id, uint64_t claim, uint32_t expiry, uint64_t cursor,
                    uint32_t delay, const char *will, uint8_t qos)
{
    struct engine_progress p = {.cursor = cursor};
    char progress[32], will_bytes[256];
    size_t will_len = 0;
    progress_encode(&p, progress);
    if (will)
        will_len = encode_will(will_bytes, sizeof will_bytes, will, qos, 0);
    struct ipc_message m =
        IPC_MAKE(CLOSE, IPC_NUM(++rig.peer[w].requests), IPC_NUM(claim), IPC_NUM(expiry), IPC_NUM(delay),
                 ID(id), IPC_BYTES(progress, cursor ? progress_size(&p) : 0), IPC_BYTES(will_bytes, will_len),
                 IPC_NUM(rig.has_not_read_all));
    rig.has_not_read_all = false;
    rig_send(w, &m);
    rig_settle();
    ck_assert_uint_eq(rig.peer[w].done, rig.peer[w].requests);
}

void say_close(unsigned w, const char *id, uint64_t claim, uint32_t expiry)
{
    say_close_with(w, id, claim, expiry, 0, 0, NULL, 0);
}

void say_subscribe_owed(unsigned w, const char *id, uint64_t claim, const char *filter, uint64_t asked)
{
    struct ipc_message m = IPC_MAKE(SUBSCRIBE, IPC_NUM(++rig.peer[w].requests), IPC_NUM(claim), IPC_NUM(1),
                                    IPC_NUM(0), IPC_NUM(1), ID(id), ID(filter), IPC_NUM(asked));
    rig_send(w, &m);
    rig_settle();
}

void say_subscribe(unsigned w, const char *id, uint64_t claim, const char *filter)
{
    say_subscribe_owed(w, id, claim, filter, 0);
}

void say_progress(unsigned w, const char *id, uint64_t claim, uint64_t cursor)
{
    struct engine_progress p = {.cursor = cursor};
    char progress[32];
    progress_encode(&p, progress);
    struct ipc_message m = IPC_MAKE(PROGRESS, IPC_NUM(++rig.peer[w].requests), IPC_NUM(claim), ID(id),
                                    IPC_BYTES(progress, progress_size(&p)));
    rig_send(w, &m);
    rig_settle();
}

uint64_t say_publish(unsigned w)
{
    struct ipc_message m =
        IPC_MAKE(PUBLISH, IPC_NUM(++rig.peer[w].requests), IPC_NUM(1), IPC_NUM(0), IPC_NUM(0), IPC_NUM(0),
                 ID("t"), IPC_BYTES("", 0), ID("x"), IPC_BYTES("", 0), IPC_BYTES("", 0));
    rig_send(w, &m);
    rig_settle();
    for (unsigned i = 0; i < WORKERS; i++)
        if (rig.peer[i].channel)
            rig_next(i, IPC_DELIVER);
    return rig.hub.newest;
}

void say_claim(unsigned w, const char *id, uint64_t claim, bool replayed)
{
    struct ipc_message m = IPC_MAKE(CLAIM, IPC_NUM(claim), IPC_NUM(replayed), ID(id));
    rig_send(w, &m);
    rig_settle();
}

void say_release(unsigned w, const char *id, uint64_t claim)
{
    struct ipc_message m = IPC_MAKE(RELEASE, IPC_NUM(claim), ID(id));
    rig_send(w, &m);
    rig_settle();
}

void expect_opened_unsure(unsigned w, const char *id, uint64_t claim, bool present, uint64_t unsure_to)
{
    const struct heard *h = rig_next(w, IPC_OPENED);
    ck_assert_uint_eq(h->num[0], claim);
    ck_assert_uint_eq(h->num[1], present);
    ck_assert_uint_eq(h->num[2], unsure_to);
    ck_assert_uint_eq(h->num[3], 0);
    ck_assert_str_eq(h->text, id);
}

void expect_opened(unsigned w, const char *id, uint64_t claim, bool present)
{
    expect_opened_unsure(w, id, claim, present, 0);
}

void expect_kick(unsigned w, const char *id, uint64_t claim)
{
    const struct heard *h = rig_next(w, IPC_KICK);
    ck_assert_uint_eq(h->num[1], claim);
    ck_assert_str_eq(h->text, id);
}

void open_session(unsigned w, const char *id, uint64_t claim, uint32_t expiry, unsigned present)
{
    say_open(w, id, claim, false, expiry);
    expect_opened(w, id, claim, present);
}

static void deleted_cb(struct hub *h, void *arg, enum engine_result result)
{
    (void)h, (void)arg, (void)result;
    rig.deleted++;
}

enum hub_session_delete rig_delete(const char *id)
{
    enum hub_session_delete result = hub_session_delete(&rig.hub, id, strlen(id), deleted_cb, NULL);
    rig_settle();
    return result;
}

/* ---- what is stored ---- */

static void stored_cb(void *ctx, const struct engine_session_view *v)
{
    struct rig_stored *s = ctx;
    s->session = v->session;
    s->subscriptions = v->subscription_count;
    s->owes = v->progress.owes;
    s->asked = s->owes ? v->progress.owed[0].asked : 0;
}

struct rig_stored rig_stored(const char *id)
{
    struct rig_stored s = {0};
    s.found = rig.hub.engine_ops->session_get(rig.hub.reader, id, strlen(id), stored_cb, &s);
    return s;
}

void assert_connected(const char *id)
{
    struct rig_stored s = rig_stored(id);
    ck_assert(s.found);
    ck_assert_uint_eq(s.session.disconnected_ms, 0);
}

void assert_away_since(const char *id, uint64_t since)
{
    struct rig_stored s = rig_stored(id);
    ck_assert(s.found);
    ck_assert_uint_eq(s.session.disconnected_ms, since);
}

void assert_gone(const char *id) { ck_assert(!rig_stored(id).found); }

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

static void rig_begin_hub(const char *engine)
{
    rig.hub =
        (struct hub){.magic = HUB_MAGIC, .args = &args, .base = base, .engine_ops = engine_find(engine)};
    LIST_INIT(&rig.hub.queries);
    hub_workers_setup(&rig.hub);
    ck_assert(hub_log_open(&rig.hub));
    hub_feed_setup(&rig.hub);
    hub_sessions_setup(&rig.hub);
    hub_shared_setup(&rig.hub);
    rig.hub.api = http_api_new(&rig.hub, listening_socket(), -1);
    ck_assert_ptr_nonnull(rig.hub.api);
    hub_open(&rig.hub);
}

/* In the order of hub.c. */
static void rig_end_hub(void)
{
    rig.hub.stopping = true;
    hub_workers_detach(&rig.hub);
    hub_shared_free(&rig.hub);
    hub_sessions_free(&rig.hub);
    hub_feed_free(&rig.hub);
    hub_log_close(&rig.hub);
    http_api_free(rig.hub.api);
    free(rig.hub.worker);
    for (unsigned i = 0; i < WORKERS; i++) {
        ipc_channel_free(rig.peer[i].channel);
        rig.peer[i].channel = NULL;
    }
}

void rig_attach_all(void)
{
    for (unsigned i = 0; i < WORKERS; i++)
        rig_attach(i, 100 + i);
    for (unsigned i = 0; i < WORKERS; i++)
        rig_claims_done(i);
}

static void rig_begin(const char *engine)
{
    hash_set_key(1, 2);
    log_setup(LOG_LEVEL_ERROR, false, "test");
    rig.now_ms = START;
    clock_fake(rig.now_ms);
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
    memset(rig.peer, 0, sizeof rig.peer);
    rig_begin_hub(engine);
}

static void rig_finish(void)
{
    char why[ENGINE_WHY_MAX] = "", path[128];
    static const char *const files[] = {"holdfast.mdb", "holdfast.mdb-lock", "holdfast.lock"};
    rig_settle();
    ck_assert_msg(rig.hub.engine_ops->verify(rig.hub.reader, why), "%s", why);
    rig_end_hub();
    event_base_free(base);
    config_free(&config);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
    clock_real();
}

void rig_setup_memory(void)
{
    rig_begin("memory");
    rig_attach_all();
}

void rig_setup_local(void)
{
    rig_begin("local");
    rig_attach_all();
}

void rig_setup_interval(void)
{
    rig_begin("local");
    rig_end_hub();
    config.log_sync = LOG_SYNC_INTERVAL;
    config.log_sync_interval_ms = 200;
    rig_begin_hub("local");
    rig_attach_all();
}

void rig_teardown(void) { rig_finish(); }

void rig_restart_hub(void)
{
    rig_settle();
    rig_end_hub();
    rig.now_ms += 500;
    clock_fake(rig.now_ms);
    rig_begin_hub("local");
}
