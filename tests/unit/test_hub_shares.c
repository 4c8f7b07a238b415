/*
 * Shared subscriptions in the hub, over an engine in memory. The workers are this test: it says who joins,
 * sees what is sent to whom, and acknowledges.
 */
#include "gateway/hub/hub_shares.h"

#include <event2/event.h>

#include "engine_rig.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "unit.h"

#define WORKERS  3
#define MAX_SENT 20000

/* What was sent to a member. */
struct sent {
    uint16_t worker;
    uint64_t claim, seq;
    uint8_t qos;
    char client[24], filter[40], payload[24];
    bool answered, before; /* before: its client may have been sent it */
};

static struct rig rig;
static struct event_base *base;
static struct hub_shares *shares;
static struct sent sent[MAX_SENT];
static unsigned sent_count, settles[4096], settle_count;
static bool full[WORKERS];
static uint64_t newest;

static void copy(char *out, size_t room, const struct ipc_bytes *from)
{
    snprintf(out, room, "%.*s", (int)from->len, from->data);
}

static bool send_cb(void *ctx, uint16_t worker, const struct ipc_message *m)
{
    (void)ctx;
    ck_assert_int_eq(m->type, IPC_SHARE_DELIVER);
    ck_assert_uint_gt(ipc_size(m), 0);
    if (full[worker])
        return false;
    ck_assert_uint_lt(sent_count, MAX_SENT);
    struct sent *s = &sent[sent_count++];
    *s = (struct sent){.worker = worker,
                       .claim = m->field[0].num,
                       .seq = m->field[4].num,
                       .qos = (uint8_t)m->field[5].num,
                       .before = m->field[12].num != 0};
    copy(s->client, sizeof s->client, &m->field[2].bytes);
    copy(s->filter, sizeof s->filter, &m->field[3].bytes);
    copy(s->payload, sizeof s->payload, &m->field[11].bytes);
    return true;
}

static void changed_cb(void *ctx) { (void)ctx; }

static void settle_cb(void *ctx, uint32_t group)
{
    (void)ctx;
    settles[settle_count++] = group;
}

static const struct hub_shares_handler handler = {
    .send = send_cb, .changed = changed_cb, .settle_later = settle_cb};

/* Everything handed in is committed. */
static void commit(void)
{
    ck_assert_int_eq(rig_commit(&rig), ENGINE_OK);
    while (settle_count)
        hub_shares_settled(shares, settles[--settle_count]);
}

/* A hub starts. */
static void start(void)
{
    struct hub_shares_settings settings = {.ops = rig.ops,
                                           .engine = rig.engine,
                                           .reader = rig.reader,
                                           .workers = WORKERS,
                                           .max_inflight = 64,
                                           .cursor_interval_ms = 5000,
                                           .newest = newest};
    shares = hub_shares_new(base, &settings, &handler, NULL);
}

static void setup(void)
{
    clock_fake(1000000);
    rig_begin(&rig, "memory");
    base = event_base_new();
    sent_count = settle_count = 0;
    newest = 0;
    memset(full, 0, sizeof full);
    start();
}

static void teardown(void)
{
    hub_shares_free(shares);
    rig_commit(&rig);
    rig_end(&rig);
    event_base_free(base);
    clock_real();
}

/* Runs what is due at once. */
static void turns(void)
{
    for (int i = 0; i < 50; i++)
        event_base_loop(base, EVLOOP_NONBLOCK);
}

static void join_as(const char *client, uint16_t worker, uint64_t claim, const char *filter, unsigned qos,
                    uint32_t expiry_s)
{
    struct ipc_message m = IPC_MAKE(SHARE_JOIN, IPC_NUM(claim), IPC_NUM(qos), IPC_NUM(expiry_s),
                                    IPC_BYTES(client, strlen(client)), IPC_BYTES(filter, strlen(filter)));
    hub_shares_join(shares, worker, &m);
}

static void join(const char *client, uint16_t worker, const char *filter)
{
    join_as(client, worker, 1, filter, 1, 0);
}

static void leave(const char *client, uint16_t worker, uint64_t claim, const char *filter)
{
    struct ipc_message m = IPC_MAKE(SHARE_LEAVE, IPC_NUM(claim), IPC_BYTES(client, strlen(client)),
                                    IPC_BYTES(filter, strlen(filter)));
    hub_shares_leave(shares, worker, &m);
    turns();
}

static void gone(const char *client, uint16_t worker, uint64_t claim, uint32_t expiry_s)
{
    hub_shares_client_gone(shares, worker, claim, client, strlen(client), expiry_s);
    turns();
}

static void answer_as(const char *client, uint16_t worker, uint64_t claim, uint64_t seq, bool acknowledged)
{
    struct ipc_message m = IPC_MAKE(SHARE_DONE, IPC_NUM(seq), IPC_NUM(claim), IPC_NUM(acknowledged),
                                    IPC_BYTES(client, strlen(client)));
    hub_shares_done(shares, worker, &m);
}

static void answer(struct sent *s, bool acknowledged)
{
    ck_assert(!s->answered);
    s->answered = true;
    answer_as(s->client, s->worker, s->claim, s->seq, acknowledged);
}

/* Acknowledges everything, also what comes of that. */
static void answer_all(void)
{
    turns();
    for (unsigned i = 0; i < sent_count; i++) {
        if (sent[i].qos && !sent[i].answered)
            answer(&sent[i], true);
        turns();
    }
}

/* Publishes with QoS 1: kept, then told. */
static uint64_t keep(const char *topic, const char *payload)
{
    struct message_parts m = rig_parts(topic, payload);
    m.seq = newest = rig_append(&rig, topic, payload);
    commit();
    hub_shares_kept(shares, &m);
    return m.seq;
}

/* Messages 1 to n to the topic. */
static void keep_many(const char *topic, unsigned n)
{
    char payload[16];
    for (unsigned i = 1; i <= n; i++) {
        snprintf(payload, sizeof payload, "%u", i);
        keep(topic, payload);
    }
    turns();
}

static void publish(const char *topic)
{
    struct message_parts m = rig_parts(topic, "p");
    m.qos = 0;
    m.seq = rig.ops->next_seq(rig.engine);
    hub_shares_publish(shares, &m);
}

/* How many were sent to the client since `from`. */
static unsigned count_of(const char *client, unsigned from)
{
    unsigned n = 0;
    for (unsigned i = from; i < sent_count; i++)
        n += strcmp(sent[i].client, client) == 0;
    return n;
}

/* What was sent since `from` is 'first', 'first' + 1 and so on. */
static void assert_row(unsigned from, unsigned first, unsigned count)
{
    ck_assert_uint_eq(sent_count, from + count);
    for (unsigned i = 0; i < count; i++)
        ck_assert_uint_eq(strtoul(sent[from + i].payload, NULL, 10), first + i);
}

/* A hub is killed: what is not committed is lost, and so is what it had in mind. */
static void kill_hub(void)
{
    commit();
    hub_shares_free(shares);
    commit();
    start();
}

/* ---- choosing ---- */

START_TEST(members_take_turns_with_qos_0)
{
    join("a", 0, "$share/g/t");
    join("b", 1, "$share/g/t");
    join("c", 1, "$share/g/t");
    for (int i = 0; i < 30; i++)
        publish("t");
    publish("other");
    ck_assert_uint_eq(sent_count, 30);
    ck_assert_uint_eq(count_of("a", 0), 10);
    ck_assert_uint_eq(count_of("b", 0), 10);
    ck_assert_uint_eq(count_of("c", 0), 10);
    ck_assert_uint_eq(sent[0].qos, 0);
    ck_assert_str_eq(sent[0].filter, "$share/g/t");
}
END_TEST

START_TEST(members_take_turns_with_qos_1)
{
    join("a", 0, "$share/g/t");
    join("b", 1, "$share/g/t");
    join("c", 2, "$share/g/t");
    for (int i = 0; i < 100; i++) {
        keep_many("t", 3);
        answer_all();
    }
    ck_assert_uint_eq(sent_count, 300);
    ck_assert_uint_eq(count_of("a", 0), 100);
    ck_assert_uint_eq(count_of("b", 0), 100);
    ck_assert_uint_eq(sent[299].qos, 1);
    ck_assert_uint_eq(sent[299].seq, newest);
}
END_TEST

START_TEST(with_qos_0_a_full_worker_is_passed_over)
{
    uint64_t lost = counter_get(counters_mine, COUNTER_SHARE_LOST);
    join("a", 0, "$share/g/t");
    join("b", 1, "$share/g/t");
    full[0] = true;
    publish("t");
    publish("t");
    ck_assert_uint_eq(count_of("b", 0), 2);
    full[1] = true;
    publish("t");
    ck_assert_uint_eq(sent_count, 2);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_SHARE_LOST), lost + 1);
    full[0] = full[1] = false;
    hub_shares_drained(shares, 0);
    publish("t");
    ck_assert_uint_eq(count_of("a", 0), 1);
}
END_TEST

START_TEST(each_group_gets_each_message_once)
{
    join("a", 0, "$share/g/t/+");
    join("b", 0, "$share/g/t/#");
    join("c", 0, "$share/h/t/#");
    join("d", 0, "$share/h/u");
    keep("t/x", "1");
    ck_assert_uint_eq(sent_count, 3);
    ck_assert_uint_eq(count_of("a", 0) + count_of("b", 0) + count_of("c", 0), 3);
    keep("t", "2");
    ck_assert_uint_eq(sent_count, 5);
    ck_assert_uint_eq(count_of("a", 3), 0);
}
END_TEST

START_TEST(a_member_with_qos_0_gets_kept_messages_with_qos_0_and_owes_nothing)
{
    join_as("a", 0, 1, "$share/g/t", 0, 0);
    keep_many("t", 100);
    ck_assert_uint_eq(sent_count, 100);
    ck_assert_uint_eq(sent[99].qos, 0);
    gone("a", 0, 1, 0);
    join("b", 0, "$share/g/t");
    turns();
    ck_assert_uint_eq(sent_count, 100);
}
END_TEST

START_TEST(a_member_has_a_window_and_the_rest_waits_in_the_log)
{
    join("a", 0, "$share/g/t");
    keep_many("t", 100);
    assert_row(0, 1, HUB_SHARE_WINDOW);
    answer(&sent[5], true);
    answer(&sent[0], true);
    turns();
    assert_row(0, 1, HUB_SHARE_WINDOW + 2);
    answer_all();
    assert_row(0, 1, 100);
    keep("t", "101"); /* and it is given as it is kept again */
    assert_row(0, 1, 101);
}
END_TEST

START_TEST(a_new_member_takes_what_waits)
{
    join("a", 0, "$share/g/t/#");
    keep_many("t/x", 50);
    join("b", 1, "$share/g/t/#");
    turns();
    ck_assert_uint_eq(count_of("b", 0), 50 - HUB_SHARE_WINDOW);
    assert_row(0, 1, 50);
}
END_TEST

START_TEST(a_full_channel_is_waited_for)
{
    join("a", 0, "$share/g/t");
    keep_many("t", 2);
    full[0] = true;
    keep_many("t", 1);
    turns();
    ck_assert_uint_eq(sent_count, 2);
    full[0] = false;
    turns();
    ck_assert_uint_eq(sent_count, 2);
    hub_shares_drained(shares, 0);
    turns();
    ck_assert_uint_eq(sent_count, 3);
    answer_all();
}
END_TEST

START_TEST(one_client_in_two_groups_has_a_message_once_at_a_time)
{
    join("a", 0, "$share/g/t");
    join("a", 0, "$share/h/t");
    keep("t", "1");
    turns();
    ck_assert_uint_eq(sent_count, 1);
    answer(&sent[0], true);
    turns();
    ck_assert_uint_eq(sent_count, 2);
    ck_assert_uint_eq(sent[1].seq, sent[0].seq);
    ck_assert_str_ne(sent[1].filter, sent[0].filter);
    answer_all();
    ck_assert_uint_eq(sent_count, 2);
}
END_TEST

START_TEST(an_expired_message_is_given_to_nobody)
{
    struct message_parts m = rig_parts("t", "late");
    enum engine_result why;
    join("a", 0, "$share/g/t");
    m.expires_ms = clock_wall_ms() - 1;
    m.seq = newest = rig.ops->append(rig.engine, &m, &why);
    commit();
    hub_shares_kept(shares, &m);
    ck_assert_uint_eq(sent_count, 0);
    keep("t", "1");
    assert_row(0, 1, 1);
}
END_TEST

/* ---- leaving ---- */

START_TEST(what_a_member_had_goes_to_another_before_anything_newer)
{
    join("a", 0, "$share/g/t");
    keep_many("t", 40); /* eight more than it takes */
    answer(&sent[3], true);
    turns();
    unsigned before = sent_count;
    join("b", 1, "$share/g/t");
    full[1] = true; /* b sees nothing until a has gone */
    turns();
    leave("a", 0, 1, "$share/g/t");
    full[1] = false;
    hub_shares_drained(shares, 1);
    answer_all();
    unsigned seen = before;
    for (unsigned i = 1; i <= 40; i++)
        if (i != 4)
            ck_assert_uint_eq(strtoul(sent[seen++].payload, NULL, 10), i);
    ck_assert_uint_eq(seen, sent_count);
    ck_assert_uint_eq(count_of("b", before), 39);
    ck_assert_uint_gt(counter_get(counters_mine, COUNTER_SHARE_REDELIVERED), 0);
}
END_TEST

START_TEST(a_lost_worker_takes_its_members_with_it)
{
    join("a", 0, "$share/g/t");
    join("b", 0, "$share/g/t");
    join("c", 1, "$share/g/t");
    keep_many("t", 9);
    ck_assert_uint_eq(count_of("c", 0), 3);
    hub_shares_worker_lost(shares, 0);
    turns();
    ck_assert_uint_eq(count_of("c", 9), 6);
    for (unsigned i = 10; i < sent_count; i++)
        ck_assert_uint_lt(sent[i - 1].seq, sent[i].seq);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_SHARE_MEMBERS), 1);
}
END_TEST

START_TEST(a_member_that_refuses_is_passed_over)
{
    join("a", 0, "$share/g/t");
    join("b", 1, "$share/g/t");
    keep("t", "1");
    keep("t", "2");
    answer(&sent[0], false);
    turns();
    ck_assert_uint_eq(sent_count, 3);
    ck_assert_str_eq(sent[2].client, sent[1].client);
    ck_assert_uint_eq(sent[2].seq, sent[0].seq);
}
END_TEST

START_TEST(one_that_refuses_with_nothing_in_hand_is_asked_again_later)
{
    join("a", 0, "$share/g/t");
    keep("t", "1");
    answer(&sent[0], false);
    turns();
    ck_assert_uint_eq(sent_count, 1);
    clock_fake(clock_ms() + 100);
    while (sent_count < 2)
        event_base_loop(base, EVLOOP_ONCE);
    ck_assert_uint_eq(sent[1].seq, sent[0].seq);
    answer(&sent[1], true);
    turns();
    ck_assert_uint_eq(sent_count, 2);
}
END_TEST

START_TEST(the_window_follows_what_a_member_takes)
{
    unsigned refusals = 0;
    join("a", 0, "$share/g/t");
    keep_many("t", 200);
    for (unsigned i = 0; i < sent_count; i++) { /* one that takes two at once */
        unsigned held = 0;
        for (unsigned j = 0; j < i; j++)
            held += !sent[j].answered;
        if (held >= 2) {
            refusals++;
            answer(&sent[i], false);
        }
        if (i + 1 < sent_count && held < 2)
            continue;
        for (unsigned j = 0; j <= i; j++) {
            if (sent[j].answered)
                continue;
            answer(&sent[j], true);
            break;
        }
        turns();
    }
    answer_all();
    ck_assert_uint_eq(sent_count, 200 + refusals);
    ck_assert_uint_lt(refusals, 100);
}
END_TEST

START_TEST(an_acknowledgement_that_comes_too_late_still_counts)
{
    join("a", 0, "$share/g/t");
    uint64_t seq = keep("t", "1");
    hub_shares_worker_lost(shares, 0); /* it tells its members again, say */
    join("b", 1, "$share/g/t");
    full[1] = true;
    join("a", 0, "$share/g/t");
    full[0] = true;
    turns();
    answer_as("a", 0, 1, seq, true);
    full[0] = full[1] = false;
    hub_shares_drained(shares, 0);
    hub_shares_drained(shares, 1);
    turns();
    ck_assert_uint_eq(sent_count, 1);
}
END_TEST

START_TEST(a_newer_claim_takes_the_place_of_an_older_one)
{
    join_as("a", 0, 5, "$share/g/t", 1, 60);
    keep("t", "1");
    join_as("a", 1, 7, "$share/g/t", 1, 60);
    turns();
    ck_assert_uint_eq(sent_count, 2);
    ck_assert_uint_eq(sent[1].worker, 1);
    join_as("a", 0, 5, "$share/g/t", 1, 60); /* said before the other one, heard after it */
    gone("a", 0, 5, 0);
    leave("a", 0, 5, "$share/g/t");
    answer_as("a", 0, 5, sent[1].seq, true);
    keep("t", "2");
    ck_assert_uint_eq(sent[2].worker, 1);
    gone("a", 1, 7, 0);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_SHARE_MEMBERS), 0);
}
END_TEST

START_TEST(what_is_no_shared_subscription_is_not_joined)
{
    static const char *const bad[] = {"t",         "$share/g",    "$share/g/",
                                      "$share//t", "$share/a+/t", "$share/g/t#"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        join("a", 0, bad[i]);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_SHARE_MEMBERS), 0);
    leave("a", 0, 1, "$share/g/t");
    join("a", 0, "$share/g/t");
    join("a", 0, "$share/g/t"); /* twice is once */
    keep("t", "1");
    ck_assert_uint_eq(sent_count, 1);
}
END_TEST

/* ---- what is stored ---- */

static void see(void *ctx, const struct engine_session_view *v)
{
    *(struct engine_session *)ctx = v->session;
}

/* Whether the group is stored; *s is how. */
static bool stored(const char *filter, struct engine_session *s)
{
    char name[64] = "\xFF";
    strcat(name, filter);
    ck_assert(hub_is_share_name(name, strlen(name)) && !hub_is_share_name(filter, strlen(filter)));
    commit();
    return rig.ops->session_get(rig.reader, name, strlen(name), see, s);
}

START_TEST(messages_wait_for_members_that_sleep)
{
    struct engine_session s;
    join_as("a", 0, 1, "$share/g/t", 1, 60);
    keep_many("t", 2);
    answer(&sent[1], true);
    gone("a", 0, 1, 60);
    ck_assert(stored("$share/g/t", &s));
    ck_assert_uint_eq(s.expiry_s, 60);
    ck_assert_uint_eq(s.disconnected_ms, clock_wall_ms());
    keep("t", "3");
    keep("other", "x");
    keep("t", "4");
    unsigned before = sent_count;
    join_as("a", 1, 2, "$share/g/t", 1, 60);
    turns();
    ck_assert_uint_eq(sent_count, before + 3);
    ck_assert_str_eq(sent[before].payload, "1");
    ck_assert_str_eq(sent[before + 1].payload, "3");
    ck_assert_str_eq(sent[before + 2].payload, "4");
    answer_all();
    ck_assert(stored("$share/g/t", &s));
    ck_assert_uint_eq(s.disconnected_ms, 0);
    ck_assert_uint_eq(hub_shares_stored(shares), 1);
}
END_TEST

START_TEST(a_group_of_sessions_that_end_ends_with_the_last_one)
{
    struct engine_session s;
    join("a", 0, "$share/g/t");
    ck_assert(stored("$share/g/t", &s));
    keep("t", "1");
    gone("a", 0, 1, 0);
    join("a", 0, "$share/g/t"); /* before that is committed */
    turns();
    keep("t", "2");
    ck_assert_uint_eq(sent_count, 2);
    ck_assert_str_eq(sent[1].payload, "2");
    gone("a", 0, 1, 0);
    ck_assert(!stored("$share/g/t", &s));
    ck_assert_uint_eq(hub_shares_stored(shares), 0);
    keep("t", "3");
    join("a", 0, "$share/g/t");
    turns();
    ck_assert_uint_eq(sent_count, 2);
}
END_TEST

START_TEST(who_unsubscribes_is_not_waited_for)
{
    struct engine_session s;
    join_as("a", 0, 1, "$share/g/t", 1, 60);
    gone("a", 0, 1, 60);
    commit();
    join_as("a", 0, 2, "$share/g/t", 1, 60);
    leave("a", 0, 2, "$share/g/t");
    ck_assert(!stored("$share/g/t", &s));
    join_as("a", 0, 3, "$share/g/t", 1, 60);
    join_as("b", 0, 4, "$share/g/t", 1, 30);
    gone("b", 0, 4, 30);
    leave("a", 0, 3, "$share/g/t");
    ck_assert(stored("$share/g/t", &s));
    ck_assert_uint_eq(s.expiry_s, 30);
}
END_TEST

START_TEST(a_group_whose_time_was_over_begins_anew)
{
    struct engine_session s;
    join_as("a", 0, 1, "$share/g/t", 1, 60);
    gone("a", 0, 1, 60);
    commit();
    keep("t", "1");
    clock_fake(clock_ms() + 60000);
    join_as("a", 0, 2, "$share/g/t", 1, 60);
    turns();
    ck_assert_uint_eq(sent_count, 0);
    keep("t", "2");
    ck_assert_uint_eq(sent_count, 1);
    ck_assert(stored("$share/g/t", &s));
}
END_TEST

START_TEST(a_new_hub_gives_again_what_was_not_acknowledged)
{
    join("a", 0, "$share/g/t");
    keep_many("t", 5);
    answer(&sent[0], true);
    answer(&sent[2], true);
    kill_hub();
    keep("t", "6");
    unsigned before = sent_count;
    join("a", 0, "$share/g/t");
    join("b", 0, "$share/g/t");
    turns();
    ck_assert_uint_eq(sent_count, before + 4);
    ck_assert_str_eq(sent[before].payload, "2");
    ck_assert_str_eq(sent[before + 1].payload, "4");
    ck_assert_str_eq(sent[before + 3].payload, "6");
}
END_TEST

/* [MQTT-3.3.1-1]: it is a repetition for who had it, and a new message for everybody else. Row 1: the group
 * has slept meanwhile; row 2: the hub has died. */
START_TEST(who_had_a_message_is_told_that_it_comes_again)
{
    join_as("a", 0, 1, "$share/g/t", 1, 60);
    keep("t", "1");
    ck_assert_uint_eq(sent_count, 1);
    ck_assert(!sent[0].before);
    if (_i == 2)
        kill_hub();
    else
        gone("a", 0, 1, 60);
    if (_i == 0)
        join_as("b", 0, 1, "$share/g/t", 1, 60);
    else
        join_as("a", 0, 2, "$share/g/t", 1, 60);
    turns();
    ck_assert_uint_eq(sent_count, 2);
    ck_assert_str_eq(sent[1].payload, "1");
    ck_assert(sent[1].before == (_i > 0));
    answer(&sent[1], true);
    keep("t", "2");
    ck_assert(!sent[2].before);
}
END_TEST

/* A member that could not be sent it has not had it. */
START_TEST(what_was_refused_is_new)
{
    join("a", 0, "$share/g/t");
    keep("t", "1");
    answer(&sent[0], false);
    clock_fake(clock_ms() + 60000);
    hub_shares_tick(shares);
    keep("t", "2");
    turns();
    ck_assert_uint_ge(sent_count, 2);
    for (unsigned i = 1; i < sent_count; i++)
        ck_assert(!sent[i].before);
}
END_TEST

START_TEST(progress_is_stored_every_so_often)
{
    join("a", 0, "$share/g/t");
    hub_shares_tick(shares);
    keep_many("t", 40);
    answer_all();
    struct engine_session s;
    clock_fake(clock_ms() + 4999);
    hub_shares_tick(shares);
    ck_assert(stored("$share/g/t", &s));
    ck_assert_uint_lt(s.cursor, newest);
    clock_fake(clock_ms() + 1);
    hub_shares_tick(shares);
    ck_assert(stored("$share/g/t", &s));
    ck_assert_uint_eq(s.cursor, newest);
}
END_TEST

START_TEST(groups_that_nobody_came_back_to_are_put_away)
{
    struct engine_session s;
    join_as("a", 0, 1, "$share/g/t", 1, 60);
    join("b", 0, "$share/h/t");
    join("c", 0, "$share/i/t");
    kill_hub();
    join("c", 0, "$share/i/t");
    hub_shares_complete(shares);
    turns();
    ck_assert(stored("$share/g/t", &s));
    ck_assert_uint_eq(s.disconnected_ms, clock_wall_ms());
    ck_assert(!stored("$share/h/t", &s));
    ck_assert(stored("$share/i/t", &s));
    ck_assert_uint_eq(s.disconnected_ms, 0);
    ck_assert_uint_eq(hub_shares_stored(shares), 2);
    struct engine_session client = {.disconnected_ms = 0, .expiry_s = 0};
    rig.ops->session_put(rig.engine, "zzz", 3, &client);
    commit();
    hub_shares_complete(shares);
    turns();
    commit();
    ck_assert(rig.ops->session_get(rig.reader, "zzz", 3, see, &s));
    ck_assert_uint_eq(s.disconnected_ms, 0);
    ck_assert_uint_eq(hub_shares_stored(shares), 2);
}
END_TEST

START_TEST(many_groups_and_members_come_and_go)
{
    char client[24], filter[40];
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 600; i++) {
            snprintf(client, sizeof client, "c%u", i % 100);
            snprintf(filter, sizeof filter, "$share/g%u/t/%u/#", i / 200, i % 150);
            join_as(client, (uint16_t)(i % 100 % WORKERS), round + 1, filter, 1, i % 2 ? 60 : 0);
        }
        keep("t/7/x", "7");
        keep("t/149", "149");
        answer_all();
        hub_shares_worker_lost(shares, (uint16_t)round);
        turns();
        for (uint16_t w = 0; w < WORKERS; w++)
            hub_shares_worker_lost(shares, w);
        ck_assert_uint_eq(counter_get(counters_mine, COUNTER_SHARE_MEMBERS), 0);
        ck_assert_uint_eq(counter_get(counters_mine, COUNTER_SHARE_GROUPS), 0);
        commit();
    }
    rig_assert_sound(&rig);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, members_take_turns_with_qos_0);
    tcase_add_test(tc, members_take_turns_with_qos_1);
    tcase_add_test(tc, with_qos_0_a_full_worker_is_passed_over);
    tcase_add_test(tc, each_group_gets_each_message_once);
    tcase_add_test(tc, a_member_with_qos_0_gets_kept_messages_with_qos_0_and_owes_nothing);
    tcase_add_test(tc, a_member_has_a_window_and_the_rest_waits_in_the_log);
    tcase_add_test(tc, a_new_member_takes_what_waits);
    tcase_add_test(tc, a_full_channel_is_waited_for);
    tcase_add_test(tc, one_client_in_two_groups_has_a_message_once_at_a_time);
    tcase_add_test(tc, an_expired_message_is_given_to_nobody);
    tcase_add_test(tc, what_a_member_had_goes_to_another_before_anything_newer);
    tcase_add_test(tc, a_lost_worker_takes_its_members_with_it);
    tcase_add_test(tc, a_member_that_refuses_is_passed_over);
    tcase_add_test(tc, one_that_refuses_with_nothing_in_hand_is_asked_again_later);
    tcase_add_test(tc, the_window_follows_what_a_member_takes);
    tcase_add_test(tc, an_acknowledgement_that_comes_too_late_still_counts);
    tcase_add_test(tc, a_newer_claim_takes_the_place_of_an_older_one);
    tcase_add_test(tc, what_is_no_shared_subscription_is_not_joined);
    tcase_add_test(tc, messages_wait_for_members_that_sleep);
    tcase_add_test(tc, a_group_of_sessions_that_end_ends_with_the_last_one);
    tcase_add_test(tc, who_unsubscribes_is_not_waited_for);
    tcase_add_test(tc, a_group_whose_time_was_over_begins_anew);
    tcase_add_test(tc, a_new_hub_gives_again_what_was_not_acknowledged);
    tcase_add_loop_test(tc, who_had_a_message_is_told_that_it_comes_again, 0, 3);
    tcase_add_test(tc, what_was_refused_is_new);
    tcase_add_test(tc, progress_is_stored_every_so_often);
    tcase_add_test(tc, groups_that_nobody_came_back_to_are_put_away);
    tcase_add_test(tc, many_groups_and_members_come_and_go);
}

UNIT_MAIN("hub_shares")
