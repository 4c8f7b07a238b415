/*
 * A worker's link to a hub that is played here, over a socket pair in one real event loop: what is said when,
 * in which order, how often, and what becomes of it when the hub dies. The hub notes what it hears as words
 * ("3" is request number 3).
 */
#include "tests/unit/unit.h"

#include <event2/event.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/config.h"
#include "gateway/base/counters.h"
#include "gateway/engine/engine_store.h"
#include "gateway/ipc/ipc_channel.h"
#include "gateway/worker/hub_link.h"

#define MANY 20000

static struct event_base *base;
static struct config config;
static struct process_args args;
static struct hub_link *link_;

/* The hub. */
static struct ipc_channel *hub;
static char heard[4096];          /* words */
static bool count_only;           /* no words; `requests` and `claims` count */
static unsigned requests, claims; /* in order from 1 */
static unsigned hellos, claims_done, closed;
static unsigned pause_at; /* reads no more after so many requests */
static uint64_t incarnation;

/* The sessions. */
static char told[4096]; /* words */
static unsigned done_count, sessions_there;
static bool second_is_opening, request_in_done, claim_in_welcome;
static uint64_t delivered;

static void note(char *where, size_t size, const char *word)
{
    size_t len = strlen(where);
    ck_assert_uint_lt(len + strlen(word) + 2, size);
    snprintf(where + len, size - len, "%s%s", len ? " " : "", word);
}

#define HEAR(...)                                                                                            \
    do {                                                                                                     \
        char word_[128];                                                                                     \
        snprintf(word_, sizeof word_, __VA_ARGS__);                                                          \
        note(heard, sizeof heard, word_);                                                                    \
    } while (0)
#define TELL(...)                                                                                            \
    do {                                                                                                     \
        char word_[128];                                                                                     \
        snprintf(word_, sizeof word_, __VA_ARGS__);                                                          \
        note(told, sizeof told, word_);                                                                      \
    } while (0)

/* ---- the hub ---- */

static unsigned long num(const struct ipc_message *m, unsigned i) { return (unsigned long)m->field[i].num; }

static void hear_words(const struct ipc_message *m)
{
    const char *word = ipc_type_name(m->type);
    if (m->type == IPC_HELLO)
        HEAR("hello(%lu)", num(m, 4));
    else if (m->type == IPC_PUBLISH && num(m, 0) == 0)
        HEAR("q0:%.*s", (int)m->field[5].bytes.len, m->field[5].bytes.data);
    else if (m->type == IPC_PUBLISH || m->type == IPC_PROGRESS || m->type == IPC_CLOSE)
        HEAR("%lu", num(m, 0));
    else if (m->type == IPC_CLAIM)
        HEAR("%s%lu", num(m, 1) ? "again" : "claim", num(m, 0));
    else if (m->type == IPC_RELEASE)
        HEAR("release%lu", num(m, 0));
    else if (m->type == IPC_OPEN)
        HEAR("open%lu,%lu,%lu,%.*s", num(m, 0), num(m, 1), num(m, 2), (int)m->field[3].bytes.len,
             m->field[3].bytes.data);
    else
        HEAR("%s", word);
}

/* A request's payload says its number, so that resending must bring the very same. */
static void check_request(const struct ipc_message *m)
{
    if (m->type != IPC_PUBLISH || m->field[0].num == 0)
        return;
    const struct ipc_bytes *payload = &m->field[7].bytes;
    uint64_t n;
    ck_assert_uint_ge(payload->len, sizeof n);
    memcpy(&n, payload->data, sizeof n);
    ck_assert_uint_eq(n, m->field[0].num);
    for (uint32_t i = sizeof n; i < payload->len; i += 97)
        ck_assert_int_eq(payload->data[i], (char)(n + i));
}

static void hub_message_cb(void *ctx, struct ipc_channel *ch, const struct ipc_message *m)
{
    (void)ctx;
    ck_assert_ptr_eq(ch, hub);
    check_request(m);
    if (m->type == IPC_HELLO) {
        hellos++;
        ck_assert_uint_ne(m->field[3].num, 0);
        if (incarnation)
            ck_assert_uint_eq(m->field[3].num, incarnation);
        incarnation = m->field[3].num;
    }
    claims_done += m->type == IPC_CLAIMS_DONE;
    if (!count_only) {
        hear_words(m);
    } else if (m->type == IPC_CLAIM) {
        ck_assert_uint_eq(m->field[0].num, ++claims);
    } else if (m->type == IPC_PUBLISH || m->type == IPC_PROGRESS) {
        if (m->field[0].num)
            ck_assert_uint_eq(m->field[0].num, ++requests);
        if (pause_at && requests == pause_at)
            ipc_channel_pause(hub, true);
    }
}

static void hub_closed_cb(void *ctx, struct ipc_channel *ch, const char *why)
{
    (void)ctx, (void)ch, (void)why;
    closed++;
}

static void hub_send(struct ipc_message m) { ck_assert(ipc_channel_send(hub, &m)); }

static void welcome(uint64_t number, uint64_t head, enum engine_result r)
{
    hub_send((struct ipc_message)IPC_MAKE(WELCOME, IPC_NUM(number), IPC_NUM(head), IPC_NUM(r)));
}

static void done(uint64_t number, enum engine_result r)
{
    hub_send((struct ipc_message)IPC_MAKE(DONE, IPC_NUM(number), IPC_NUM(r)));
}

static void deliver(uint64_t seq, unsigned qos)
{
    hub_send((struct ipc_message)IPC_MAKE(DELIVER, IPC_NUM(seq), IPC_NUM(qos), IPC_NUM(0), IPC_NUM(0),
                                          IPC_NUM(0), IPC_BYTES("t", 1), IPC_BYTES("", 0), IPC_BYTES("", 0)));
}

/* ---- the sessions ---- */

static bool deliver_cb(void *ctx, struct message *m)
{
    (void)ctx;
    delivered = m->seq;
    return true;
}

static void welcome_cb(void *ctx, uint64_t head)
{
    (void)ctx;
    TELL("welcome(%lu)", (unsigned long)head);
    if (claim_in_welcome)
        hub_link_claim(link_, "early", 5, 77, false);
}

static bool request(size_t len);

static void done_cb(void *ctx, const struct session_cookie *c, int result)
{
    (void)ctx;
    done_count++;
    ck_assert_uint_eq(c->claim, c->packet_id * 10ull); /* the cookie comes back whole */
    ck_assert_uint_eq(c->session, c->packet_id * 100u);
    if (!count_only)
        TELL("%u=%d", c->packet_id, result);
    if (request_in_done)
        ck_assert(request(8));
}

static void opened_cb(void *ctx, const char *id, size_t len, const struct session_opening *o)
{
    (void)ctx;
    TELL("opened(%.*s,%lu,%d,%lu,%u)", (int)len, id, (unsigned long)o->claim, o->present,
         (unsigned long)o->unsure_to, o->code);
}

/* Session n has claim n. */
static uint32_t replay_cb(void *ctx, uint32_t after)
{
    (void)ctx;
    uint32_t id = after + 1;
    if (id > sessions_there)
        return 0;
    char name[16];
    size_t len = (size_t)snprintf(name, sizeof name, "s%u", id);
    if (second_is_opening && id == 2)
        hub_link_open(link_, name, len, id, true, 60);
    else
        hub_link_claim(link_, name, len, id, true);
    return id;
}

static void kick_cb(void *ctx, const char *id, size_t len, uint64_t claim, enum close_reason reason)
{
    (void)ctx;
    TELL("kick(%.*s,%lu,%d)", (int)len, id, (unsigned long)claim, (int)reason);
}

static void client_get_cb(void *ctx, uint32_t query, const char *id, size_t len)
{
    (void)ctx;
    TELL("get(%u,%.*s)", query, (int)len, id);
}

static const struct hub_link_handler handler = {.deliver = deliver_cb,
                                                .welcome = welcome_cb,
                                                .done = done_cb,
                                                .opened = opened_cb,
                                                .replay = replay_cb,
                                                .kick = kick_cb,
                                                .client_get = client_get_cb};

static unsigned made; /* requests */

/* A request with a payload of so many bytes, at least 8. */
static bool request(size_t len)
{
    static char payload[4 << 20];
    uint64_t n = made + 1;
    ck_assert_uint_le(len, sizeof payload);
    for (size_t i = 0; i < len; i++)
        payload[i] = (char)(n + i);
    memcpy(payload, &n, sizeof n);
    struct session_cookie c = {
        .claim = (n & 0xFFFF) * 10, .session = (uint32_t)(n & 0xFFFF) * 100, .packet_id = (uint16_t)n};
    struct ipc_message m =
        IPC_MAKE(PUBLISH, IPC_NUM(0), IPC_NUM(1), IPC_NUM(0), IPC_NUM(0), IPC_NUM(0), IPC_BYTES("t", 1),
                 IPC_BYTES("", 0), IPC_BYTES(payload, len), IPC_BYTES("", 0), IPC_BYTES("", 0));
    if (!hub_link_request(link_, &m, &c))
        return false;
    ck_assert_uint_eq(m.field[0].num, ++made);
    return true;
}

static bool small_request(enum ipc_type type)
{
    uint64_t n = made + 1;
    struct session_cookie c = {
        .claim = (n & 0xFFFF) * 10, .session = (uint32_t)(n & 0xFFFF) * 100, .packet_id = (uint16_t)n};
    struct ipc_message progress =
        IPC_MAKE(PROGRESS, IPC_NUM(0), IPC_NUM(1), IPC_BYTES("s1", 2), IPC_BYTES("", 0));
    struct ipc_message close_ = IPC_MAKE(CLOSE, IPC_NUM(0), IPC_NUM(1), IPC_NUM(60), IPC_NUM(0),
                                         IPC_BYTES("s1", 2), IPC_BYTES("", 0), IPC_BYTES("", 0), IPC_NUM(0));
    bool taken = hub_link_request(link_, type == IPC_CLOSE ? &close_ : &progress, &c);
    made += taken;
    return taken;
}

static bool publish(const char *topic, size_t len)
{
    struct message_parts parts = {
        .topic = topic, .topic_len = (uint16_t)strlen(topic), .payload = calloc(1, len + 1), .props = ""};
    parts.payload_len = (uint32_t)len;
    struct message *m = message_new(&parts);
    bool taken = hub_link_publish(link_, m);
    message_unref(m);
    free((void *)parts.payload);
    return taken;
}

/* ---- the loop ---- */

static void turn(void) { event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK); }

/* Turns the loop until nothing moves any more; what goes through a socket pair is there at once. */
static void settle(void)
{
    for (int i = 0; i < 100; i++)
        turn();
}

#define UNTIL(condition)                                                                                     \
    while (!(condition))                                                                                     \
    event_base_loop(base, EVLOOP_ONCE)

/* The end has to be told of, for the link to let go of the channel. */
static void kill_hub(void)
{
    ipc_channel_free(hub);
    hub = NULL;
    settle();
}

static void attach(void)
{
    static const struct ipc_channel_handler h = {.message = hub_message_cb, .closed = hub_closed_cb};
    int pair[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    hub = ipc_channel_new(base, pair[1], 64 << 20, &h, NULL);
    hub_link_attach(link_, pair[0]);
}

static void setup(void)
{
    signal(SIGPIPE, SIG_IGN);
    base = event_base_new();
    config.ipc_queue_limit = 1 << 20;
    args = (struct process_args){.config = &config, .number = 3, .generation = 1};
    link_ = hub_link_new(base, &args, &handler, NULL);
    hub = NULL;
    heard[0] = told[0] = '\0';
    count_only = second_is_opening = request_in_done = claim_in_welcome = false;
    requests = claims = hellos = claims_done = closed = done_count = sessions_there = made = pause_at = 0;
    incarnation = delivered = 0;
}

static void teardown(void)
{
    hub_link_free(link_);
    ipc_channel_free(hub);
    event_base_free(base);
}

#define HEARD(words)                                                                                         \
    do {                                                                                                     \
        settle();                                                                                            \
        ck_assert_str_eq(heard, words);                                                                      \
        heard[0] = '\0';                                                                                     \
    } while (0)
#define TOLD(words)                                                                                          \
    do {                                                                                                     \
        settle();                                                                                            \
        ck_assert_str_eq(told, words);                                                                       \
        told[0] = '\0';                                                                                      \
    } while (0)

/* So many sessions have begun. */
static void connect_sessions(unsigned n)
{
    while (sessions_there < n)
        hub_link_claim(link_, "s", 1, ++sessions_there, false);
}

/* A hub that has welcomed the worker, which has `n` sessions. */
static void begin(unsigned n)
{
    connect_sessions(n);
    attach();
    welcome(0, 100, ENGINE_OK);
    UNTIL(claims_done == 1);
    heard[0] = told[0] = '\0';
}

/* ---- what is said, and when ---- */

START_TEST(nothing_is_said_before_welcome)
{
    ck_assert(request(8));
    attach();
    ck_assert(request(8));
    ck_assert(publish("a", 3));
    sessions_there = 1;
    hub_link_claim(link_, "s1", 2, 1, false);
    ck_assert(request(8));
    HEARD("hello(0)");
    TOLD("");
    welcome(0, 100, ENGINE_OK);
    HEARD("1 2 q0:a 3 again1 claims_done");
    TOLD("welcome(100)");
    hub_link_claim(link_, "s2", 2, 2, false);
    ck_assert(small_request(IPC_PROGRESS));
    hub_link_open(link_, "s3", 2, 3, false, 7);
    ck_assert(publish("b", 3));
    hub_link_release(link_, "s2", 2, 2);
    HEARD("claim2 4 open3,0,7,s3 q0:b release2");
}
END_TEST

START_TEST(requests_are_answered_in_order_and_once)
{
    begin(0);
    for (int i = 0; i < 6; i++)
        ck_assert(request(8));
    HEARD("1 2 3 4 5 6");
    done(2, ENGINE_OK);
    TOLD("1=0 2=0");
    done(2, ENGINE_OK);
    done(1, ENGINE_OK);
    TOLD("");
    done(5, ENGINE_NO_SPACE);
    TOLD("3=3 4=3 5=3");
    done(1000, ENGINE_OK);
    TOLD("6=0");
    HEARD("");
}
END_TEST

START_TEST(answers_do_not_reach_beyond_their_number)
{
    begin(0);
    ck_assert(request(8) && request(8));
    request_in_done = true;
    done(2, ENGINE_OK);
    TOLD("1=0 2=0");
    request_in_done = false;
    HEARD("1 2 3 4");
    done(4, ENGINE_FULL);
    TOLD("3=2 4=2");
}
END_TEST

START_TEST(the_other_messages_of_the_hub_reach_the_worker)
{
    begin(0);
    hub_send((struct ipc_message)IPC_MAKE(OPENED, IPC_NUM(9), IPC_NUM(1), IPC_NUM(7), IPC_NUM(0),
                                          IPC_BYTES("x", 1)));
    hub_send((struct ipc_message)IPC_MAKE(OPENED, IPC_NUM(8), IPC_NUM(0), IPC_NUM(0), IPC_NUM(0x97),
                                          IPC_BYTES("y", 1)));
    hub_send((struct ipc_message)IPC_MAKE(KICK, IPC_NUM(CLOSE_TAKEN_OVER), IPC_NUM(5), IPC_BYTES("z", 1)));
    hub_send((struct ipc_message)IPC_MAKE(KICK, IPC_NUM(255), IPC_NUM(5), IPC_BYTES("z", 1)));
    hub_send((struct ipc_message)IPC_MAKE(CLIENT_GET, IPC_NUM(4), IPC_BYTES("w", 1)));
    char expected[128];
    snprintf(expected, sizeof expected, "opened(x,9,1,7,0) opened(y,8,0,0,151) kick(z,5,%d) get(4,w)",
             (int)CLOSE_TAKEN_OVER);
    TOLD(expected);
}
END_TEST

/* ---- a new hub ---- */

/* Six requests, two of them answered; then the hub dies, one more is made, and a new hub comes. */
static void change_hub(void)
{
    begin(2);
    for (int i = 0; i < 6; i++)
        ck_assert(request(200));
    done(2, ENGINE_OK);
    HEARD("1 2 3 4 5 6");
    TOLD("1=0 2=0");
    kill_hub();
    ck_assert(request(200));
    ck_assert(publish("away", 1));
    attach();
    HEARD("hello(100)");
}

START_TEST(what_took_effect_is_answered_and_the_rest_sent_again)
{
    change_hub();
    welcome(4, 500, ENGINE_NO_SPACE);
    TOLD("welcome(500) 3=3 4=3");
    HEARD("5 6 7 q0:away again1 again2 claims_done");
    ck_assert(request(200));
    HEARD("8");
    done(8, ENGINE_OK);
    TOLD("5=0 6=0 7=0 8=0");
}
END_TEST

START_TEST(a_hub_that_knows_nothing_gets_all_that_is_unanswered)
{
    change_hub();
    welcome(0, 500, ENGINE_OK);
    TOLD("welcome(500)");
    HEARD("3 4 5 6 7 q0:away again1 again2 claims_done");
}
END_TEST

START_TEST(a_hub_that_is_behind_the_answers_changes_nothing_about_them)
{
    change_hub();
    welcome(1, 500, ENGINE_FAILED);
    TOLD("welcome(500)");
    HEARD("3 4 5 6 7 q0:away again1 again2 claims_done");
}
END_TEST

START_TEST(a_hub_that_has_done_all_gets_nothing_again)
{
    change_hub();
    welcome(6, 500, ENGINE_OK);
    TOLD("welcome(500) 3=0 4=0 5=0 6=0");
    HEARD("7 q0:away again1 again2 claims_done");
}
END_TEST

START_TEST(a_second_welcome_is_ignored)
{
    change_hub();
    welcome(4, 500, ENGINE_OK);
    welcome(6, 500, ENGINE_OK);
    TOLD("welcome(500) 3=0 4=0");
    HEARD("5 6 7 q0:away again1 again2 claims_done");
}
END_TEST

START_TEST(a_hub_that_dies_before_welcome_costs_nothing)
{
    change_hub();
    kill_hub();
    ck_assert(request(8));
    attach();
    kill_hub();
    attach();
    welcome(3, 500, ENGINE_OK);
    TOLD("welcome(500) 3=0");
    HEARD("hello(100) 4 5 6 7 q0:away 8 again1 again2 claims_done");
}
END_TEST

START_TEST(a_channel_that_replaces_another_begins_anew)
{
    begin(1);
    ck_assert(request(8));
    HEARD("1");
    struct ipc_channel *former = hub;
    attach();
    HEARD("hello(100)");
    welcome(0, 0, ENGINE_OK);
    HEARD("1 again1 claims_done");
    done(1, ENGINE_OK);
    TOLD("welcome(1) 1=0");
    ipc_channel_free(former);
}
END_TEST

START_TEST(hello_says_how_far_kept_messages_have_come)
{
    attach();
    HEARD("hello(0)");
    welcome(0, 100, ENGINE_OK);
    deliver(90, 0);
    HEARD("claims_done");
    kill_hub();
    attach();
    HEARD("hello(100)");
    welcome(0, 170, ENGINE_OK); /* they go on after 100 all the same */
    deliver(150, 1);
    deliver(160, 0);
    HEARD("claims_done");
    ck_assert_uint_eq(delivered, 160);
    kill_hub();
    attach();
    HEARD("hello(150)");
}
END_TEST

START_TEST(an_empty_log_does_not_make_the_worker_new_again)
{
    attach();
    welcome(0, 0, ENGINE_OK);
    TOLD("welcome(1)");
    kill_hub();
    heard[0] = '\0';
    attach();
    HEARD("hello(1)");
}
END_TEST

START_TEST(an_incarnation_is_drawn_per_link)
{
    attach();
    settle();
    uint64_t mine = incarnation;
    kill_hub();
    attach();
    settle();
    ck_assert_uint_eq(incarnation, mine);
    hub_link_free(link_);
    ipc_channel_free(hub);
    incarnation = 0;
    link_ = hub_link_new(base, &args, &handler, NULL);
    attach();
    settle();
    ck_assert_uint_ne(incarnation, mine);
}
END_TEST

START_TEST(another_version_ends_the_channel)
{
    attach();
    hub_send((struct ipc_message)IPC_MAKE(HELLO, IPC_NUM(IPC_VERSION + 1), IPC_NUM(PROCESS_HUB), IPC_NUM(0),
                                          IPC_NUM(0), IPC_NUM(0)));
    UNTIL(closed);
    ck_assert(request(8));
    ck_assert(!hub_link_is_busy(link_));
}
END_TEST

/* ---- claims ---- */

START_TEST(sessions_that_wait_are_replayed_as_open)
{
    second_is_opening = true;
    connect_sessions(3);
    attach();
    welcome(0, 100, ENGINE_OK);
    HEARD("hello(0) again1 open2,1,60,s2 again3 claims_done");
}
END_TEST

START_TEST(claims_of_a_hub_that_is_away_are_not_kept)
{
    begin(1);
    kill_hub();
    hub_link_claim(link_, "s2", 2, 2, false);
    hub_link_release(link_, "s1", 2, 1);
    claim_in_welcome = true;
    attach();
    hub_link_open(link_, "s3", 2, 3, false, 1);
    welcome(0, 100, ENGINE_OK);
    HEARD("hello(100) again1 claims_done");
}
END_TEST

/* The channel takes a part of the claims at a time; a session that begins meanwhile is told once. */
START_TEST(a_replay_goes_on_where_the_channel_was_full)
{
    config.ipc_queue_limit = 4096; /* the channel's */
    count_only = true;
    connect_sessions(MANY);
    attach();
    welcome(0, 100, ENGINE_OK);
    for (int i = 0; i < 3; i++)
        turn();
    ipc_channel_pause(hub, true);
    settle();
    ck_assert_uint_eq(claims_done, 0);
    ck_assert(hub_link_is_busy(link_));
    connect_sessions(MANY + 1);
    ck_assert(request(8));
    ipc_channel_pause(hub, false);
    UNTIL(requests == 1);
    ck_assert_uint_eq(claims, MANY + 1);
    ck_assert_uint_eq(claims_done, 1);
    ck_assert_uint_eq(hellos, 1);
    settle();
    done(1, ENGINE_OK);
    UNTIL(done_count == 1);
    ck_assert(!hub_link_is_busy(link_));
}
END_TEST

/* Nothing is read by the hub: claims do not fit any more, and all are told again, when no request is without
 * an answer. */
START_TEST(a_claim_that_is_lost_brings_all_of_them_again)
{
    begin(2);
    count_only = true;
    ck_assert(request(8));
    settle();
    ipc_channel_pause(hub, true);
    for (unsigned i = 1; i <= MANY * 4; i++)
        hub_link_claim(link_, "a client id that takes some room", 32, i, false);
    ck_assert(request(8));
    claims = 0;
    ipc_channel_pause(hub, false);
    settle();
    unsigned came = claims; /* those the channel had taken */
    ck_assert_uint_lt(came, MANY * 4);
    ck_assert_uint_eq(requests, 1);
    ck_assert_uint_eq(hellos, 1);
    done(1, ENGINE_OK);
    UNTIL(hellos == 2);
    settle();
    ck_assert_uint_eq(requests, 1);
    ck_assert_uint_eq(claims, came);
    claims = 0;
    welcome(1, 100, ENGINE_OK);
    UNTIL(claims_done == 2);
    ck_assert_uint_eq(claims, 2);
    ck_assert_uint_eq(requests, 2);
    done(2, ENGINE_OK);
    UNTIL(done_count == 2);
}
END_TEST

/* ---- bounds ---- */

START_TEST(requests_are_refused_at_the_limit)
{
    unsigned taken = 0;
    uint64_t refused = counter_get(counters_mine, COUNTER_REQUESTS_REFUSED);
    while (request(1000))
        taken++;
    ck_assert_uint_gt(taken, (1 << 20) / 1200);
    ck_assert_uint_le(taken, (1 << 20) / 1000);
    ck_assert(!request(1000));
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_REQUESTS_REFUSED), refused + 2);
    ck_assert_uint_gt(counter_get(counters_mine, COUNTER_REQUESTS_BYTES), 1000 * 1000);
    /* QoS 0 has room of its own. */
    ck_assert(publish("a", 1000));
    count_only = true;
    attach();
    welcome(0, 100, ENGINE_OK);
    UNTIL(requests == taken);
    ck_assert(!request(1000)); /* sent is not answered */
    done(taken - 1, ENGINE_OK);
    UNTIL(done_count == taken - 1);
    ck_assert(request(1000)); /* no number was lost */
    UNTIL(requests == taken + 1);
    done(taken + 1, ENGINE_OK);
    UNTIL(done_count == taken + 1);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_REQUESTS_BYTES), 0);
}
END_TEST

START_TEST(one_request_of_any_size_fits)
{
    ck_assert(request(3 << 20));
    ck_assert(!request(8));
    attach();
    welcome(0, 100, ENGINE_OK);
    UNTIL(claims_done == 1);
    done(1, ENGINE_OK);
    UNTIL(done_count == 1);
    ck_assert(request(8));
}
END_TEST

START_TEST(close_has_as_much_room_again)
{
    while (request(1000))
        ;
    unsigned full = made, closes = 0;
    while (small_request(IPC_PROGRESS)) /* what is left of the limit */
        full++;
    while (small_request(IPC_CLOSE))
        closes++;
    ck_assert_uint_gt(closes, 1000);
    count_only = true;
    attach();
    welcome(made, 100, ENGINE_OK); /* none was sent: none is answered */
    UNTIL(claims_done == 1);
    ck_assert_uint_eq(done_count, 0);
    ck_assert_uint_eq(requests, full);
}
END_TEST

START_TEST(a_close_that_is_lost_brings_all_claims_again)
{
    begin(1);
    ipc_channel_pause(hub, true);
    while (small_request(IPC_CLOSE))
        ;
    count_only = true;
    ipc_channel_pause(hub, false);
    settle();
    ck_assert_uint_eq(hellos, 1);
    done(made, ENGINE_OK);
    UNTIL(hellos == 2);
    ck_assert(!small_request(IPC_CLOSE) || made);
    welcome(made, 100, ENGINE_OK);
    UNTIL(claims_done == 2);
}
END_TEST

START_TEST(publishes_wait_within_the_limit_while_the_hub_is_away)
{
    unsigned taken = 0;
    while (publish("a", 1000))
        taken++;
    ck_assert_uint_gt(taken, (1 << 20) / 1200);
    ck_assert_uint_le(taken, (1 << 20) / 1000);
    ck_assert(request(1000));
    attach();
    count_only = true;
    welcome(0, 100, ENGINE_OK);
    UNTIL(claims_done == 1);
    ck_assert(publish("a", 1000));
}
END_TEST

/* ---- a full channel ---- */

/* More than socket and channel hold, of messages with different limits in the channel. */
static unsigned flood(unsigned n)
{
    unsigned taken = 0;
    for (unsigned i = 0; i < n; i++) {
        taken += request(i % 3 == 0 ? 20000 : 100);
        taken += small_request(IPC_PROGRESS);
        publish("between", 50);
    }
    return taken;
}

START_TEST(a_full_channel_keeps_the_order)
{
    config.ipc_queue_limit = 16 << 10; /* the channel's; the outbox has a megabyte */
    begin(0);
    count_only = true;
    ipc_channel_pause(hub, true);
    unsigned n = flood(120);
    ck_assert_uint_eq(n, 240);
    settle();
    ck_assert(hub_link_is_busy(link_));
    ipc_channel_pause(hub, false);
    UNTIL(requests == n);
    done(n, ENGINE_OK);
    UNTIL(done_count == n);
    settle();
    ck_assert(!hub_link_is_busy(link_));
}
END_TEST

/* The hub keeps what it has heard, and dies before it says so, with a part of a message in the socket. */
START_TEST(a_hub_that_dies_in_the_middle_gets_what_it_lacks)
{
    config.ipc_queue_limit = 16 << 10;
    begin(1);
    count_only = true;
    unsigned n = flood(120);
    for (unsigned died = 1; died <= 7; died++) {
        pause_at = died * 30;
        UNTIL(requests == pause_at);
        settle();
        ck_assert_uint_eq(requests, pause_at);
        kill_hub();
        ck_assert_uint_eq(done_count, pause_at - 30);
        attach();
        welcome(requests, 100, ENGINE_OK);
        UNTIL(done_count == requests);
    }
    pause_at = 0;
    ipc_channel_pause(hub, false);
    UNTIL(requests == n);
    done(n, ENGINE_OK);
    UNTIL(done_count == n);
}
END_TEST

/* ---- pausing ---- */

START_TEST(a_paused_link_says_but_does_not_hear)
{
    begin(0);
    hub_link_pause(link_, true);
    ck_assert(hub_link_is_paused(link_));
    ck_assert(request(8));
    HEARD("1");
    deliver(200, 1);
    done(1, ENGINE_OK);
    TOLD("");
    ck_assert_uint_eq(delivered, 0);
    hub_link_pause(link_, false);
    TOLD("1=0");
    ck_assert_uint_eq(delivered, 200);
}
END_TEST

START_TEST(a_link_stays_paused_towards_the_next_hub)
{
    begin(0);
    hub_link_pause(link_, true);
    struct ipc_channel *former = hub;
    attach();
    HEARD("hello(100)");
    welcome(0, 200, ENGINE_OK);
    TOLD("");
    hub_link_pause(link_, false);
    TOLD("welcome(200)");
    HEARD("claims_done");
    ipc_channel_free(former);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, nothing_is_said_before_welcome);
    tcase_add_test(tc, requests_are_answered_in_order_and_once);
    tcase_add_test(tc, answers_do_not_reach_beyond_their_number);
    tcase_add_test(tc, the_other_messages_of_the_hub_reach_the_worker);
    tcase_add_test(tc, what_took_effect_is_answered_and_the_rest_sent_again);
    tcase_add_test(tc, a_hub_that_knows_nothing_gets_all_that_is_unanswered);
    tcase_add_test(tc, a_hub_that_is_behind_the_answers_changes_nothing_about_them);
    tcase_add_test(tc, a_hub_that_has_done_all_gets_nothing_again);
    tcase_add_test(tc, a_second_welcome_is_ignored);
    tcase_add_test(tc, a_hub_that_dies_before_welcome_costs_nothing);
    tcase_add_test(tc, a_channel_that_replaces_another_begins_anew);
    tcase_add_test(tc, hello_says_how_far_kept_messages_have_come);
    tcase_add_test(tc, an_empty_log_does_not_make_the_worker_new_again);
    tcase_add_test(tc, an_incarnation_is_drawn_per_link);
    tcase_add_test(tc, another_version_ends_the_channel);
    tcase_add_test(tc, sessions_that_wait_are_replayed_as_open);
    tcase_add_test(tc, claims_of_a_hub_that_is_away_are_not_kept);
    tcase_add_test(tc, a_replay_goes_on_where_the_channel_was_full);
    tcase_add_test(tc, a_claim_that_is_lost_brings_all_of_them_again);
    tcase_add_test(tc, requests_are_refused_at_the_limit);
    tcase_add_test(tc, one_request_of_any_size_fits);
    tcase_add_test(tc, close_has_as_much_room_again);
    tcase_add_test(tc, a_close_that_is_lost_brings_all_claims_again);
    tcase_add_test(tc, publishes_wait_within_the_limit_while_the_hub_is_away);
    tcase_add_test(tc, a_full_channel_keeps_the_order);
    tcase_add_test(tc, a_hub_that_dies_in_the_middle_gets_what_it_lacks);
    tcase_add_test(tc, a_paused_link_says_but_does_not_hear);
    tcase_add_test(tc, a_link_stays_paused_towards_the_next_hub);
}

UNIT_MAIN("hub_link")
