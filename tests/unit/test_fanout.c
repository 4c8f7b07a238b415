/*
 * Fan-out against a plain account of who is owed what, on a clock that stands still, so that slices are
 * counted and nothing depends on the machine. One test runs the real event loop.
 */
#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/pool.h"
#include "gateway/topic/fanout.h"
#include "proto/mqtt_topic.h"
#include "tests/unit/unit.h"

/* As ck_assert(), for inner loops: Check notes every assertion it passes in a file. */
#define MUST(expr) ((expr) ? (void)0 : ck_abort_msg("%s", #expr))

#define SESSIONS 3000
#define LOG      100000

static struct session {
    bool live;
    sub_list subs;
    unsigned generation; /* a later session under the same id has another */
    char client_id[12];
} session[SESSIONS + 1];

/* What was delivered, in order. */
static struct delivery {
    uint32_t session;
    unsigned generation;
    sub_options options;
    uint64_t seq;
} delivered[LOG];
static size_t deliveries;

static struct topic_tree *tree;
static struct fanout *fanout;
static uint64_t void_below; /* messages with a lower sequence number are void */
static void (*at_delivery)(uint32_t id);
static const struct fanout_job *at_work; /* during at_delivery() */

static void deliver(void *ctx, uint32_t id, sub_options options, struct fanout_job *job)
{
    (void)ctx;
    MUST(session[id].live);
    MUST(deliveries < LOG);
    unsigned form = fanout_frame(id % 2, id / 2 % 3, id % 5 == 0);
    if (!job->frame[form])
        job->frame[form] = frame_new(8);
    if (job->message->qos) {
        MUST(fanout_settled(fanout) < job->message->seq);
        MUST(fanout_head(fanout) >= job->message->seq);
    }
    delivered[deliveries++] = (struct delivery){id, session[id].generation, options, job->message->seq};
    at_work = job;
    if (at_delivery)
        at_delivery(id);
    at_work = NULL;
}
static uint32_t next_session(void *ctx, uint32_t after)
{
    (void)ctx;
    for (uint32_t id = after + 1; id <= SESSIONS; id++)
        if (session[id].live)
            return id;
    return 0;
}
static uint32_t session_bound(void *ctx)
{
    uint32_t highest = 0;
    (void)ctx;
    for (uint32_t id = 1; id <= SESSIONS; id++)
        if (session[id].live)
            highest = id;
    return highest + 1;
}
static uint32_t find_session(void *ctx, const char *client_id, size_t len)
{
    (void)ctx;
    for (uint32_t id = 1; id <= SESSIONS; id++)
        if (session[id].live && strlen(session[id].client_id) == len &&
            memcmp(session[id].client_id, client_id, len) == 0)
            return id;
    return 0;
}
static bool is_void(void *ctx, const struct message *m)
{
    (void)ctx;
    return m->seq < void_below;
}
static const struct fanout_ops ops = {deliver, next_session, session_bound, find_session, is_void};

/* Starts over with these settings. */
static void begin(struct event_base *base, uint32_t slice, size_t queue_limit)
{
    struct fanout_settings set = {slice, queue_limit, "clients/", "broadcast", 3};
    fanout = fanout_new(base, tree, &ops, NULL, &set);
}

static void setup(void)
{
    clock_fake(1000000);
    memset(session, 0, sizeof session);
    deliveries = 0;
    void_below = 0;
    at_delivery = NULL;
    tree = topic_tree_new(100000);
}
static void teardown(void)
{
    fanout_free(fanout);
    topic_tree_free(tree);
    ck_assert_ptr_null(pool_each(NULL));
}

static void open_session(uint32_t id)
{
    session[id].live = true;
    session[id].generation++;
    sprintf(session[id].client_id, "c%u", id);
}
static void end_session(uint32_t id)
{
    topic_tree_unsubscribe_all(tree, &session[id].subs);
    session[id].live = false;
}
static void subscribe(uint32_t id, const char *filter, sub_options options)
{
    MUST(topic_tree_subscribe(tree, &session[id].subs, id, filter, strlen(filter), options) !=
         SUBSCRIBE_NO_ROOM);
}
/* Opens sessions first..last, all subscribed to the filter. */
static void open_many(uint32_t first, uint32_t last, const char *filter)
{
    for (uint32_t id = first; id <= last; id++) {
        open_session(id);
        subscribe(id, filter, 0);
    }
}

static bool start_qos(const char *topic, uint64_t seq, uint8_t qos)
{
    struct message_parts parts = {.topic = topic,
                                  .topic_len = (uint16_t)strlen(topic),
                                  .payload = "x",
                                  .payload_len = 1,
                                  .qos = qos,
                                  .seq = seq};
    struct message *m = message_new(&parts);
    bool ok = fanout_start(fanout, m);
    message_unref(m);
    return ok;
}
static bool start(const char *topic, uint64_t seq) { return start_qos(topic, seq, 0); }

/* How often the session got the message. */
static unsigned got(uint32_t id, uint64_t seq)
{
    unsigned n = 0;
    for (size_t i = 0; i < deliveries; i++)
        n += delivered[i].session == id && delivered[i].seq == seq;
    return n;
}
/* How many deliveries of a message there were. */
static size_t got_all(uint64_t seq)
{
    size_t n = 0;
    for (size_t i = 0; i < deliveries; i++)
        n += delivered[i].seq == seq;
    return n;
}
static void run_out(void)
{
    while (fanout_step(fanout))
        ;
    ck_assert_uint_eq(fanout_pending_jobs(fanout), 0);
    ck_assert_uint_eq(fanout_pending_bytes(fanout), 0);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_FANOUT_QUEUE_BYTES), 0);
}

START_TEST(small_ones_are_done_at_once)
{
    begin(NULL, 100, 100000);
    open_many(1, 10, "a");
    uint64_t before = counter_get(counters_mine, COUNTER_FANOUTS);
    ck_assert(start("a", 1));
    ck_assert_uint_eq(deliveries, 10);
    ck_assert(start("nobody/is/there", 2));
    ck_assert_uint_eq(fanout_pending_jobs(fanout), 0);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_FANOUTS), before + 2);
    ck_assert(!fanout_step(fanout));
    ck_assert_uint_eq(deliveries, 10);
}
END_TEST

START_TEST(exactly_a_slice_is_done_at_once)
{
    begin(NULL, 10, 100000);
    open_many(1, 10, "a");
    ck_assert(start("a", 1));
    ck_assert_uint_eq(deliveries, 10);
    ck_assert_uint_eq(fanout_pending_jobs(fanout), 0);
}
END_TEST

START_TEST(budget_of_a_turn)
{
    begin(NULL, 25, 100000);
    open_many(1, 10, "a");
    open_many(11, 20, "b");
    open_many(21, 30, "c");
    ck_assert(start("a", 1));
    ck_assert(start("b", 2));
    ck_assert(start("c", 3));
    ck_assert_uint_gt(fanout_pending_jobs(fanout), 0); /* the turn's budget is used up */
    ck_assert_uint_le(deliveries, 25);
    size_t before = deliveries;
    ck_assert(start("a", 4));
    ck_assert_uint_eq(deliveries, before);
    clock_fake(1000001); /* a new turn: but "c" and the second "a" wait, "b" does not */
    ck_assert(start("b", 5));
    ck_assert_uint_eq(got_all(5), 10);
    run_out();
    ck_assert_uint_eq(deliveries, 50);
}
END_TEST

START_TEST(slices)
{
    begin(NULL, 100, 100000);
    open_many(1, 1000, "a");
    ck_assert(start("a", 1));
    ck_assert_uint_eq(deliveries, 100);
    for (size_t n = 200; n <= 1000; n += 100) {
        ck_assert(fanout_pending_jobs(fanout) == 1);
        fanout_step(fanout);
        ck_assert_uint_eq(deliveries, n);
    }
    run_out();
    for (uint32_t id = 1; id <= 1000; id++)
        MUST(got(id, 1) == 1);
}
END_TEST

/* Each delivery takes half a millisecond. */
static void slow_delivery(uint32_t id)
{
    if (id % 2)
        clock_fake(clock_ms() + 1);
}

START_TEST(slices_are_bounded_in_time)
{
    begin(NULL, 1000, 100000);
    at_delivery = slow_delivery;
    open_many(1, 1000, "a");
    ck_assert(start("a", 1));
    ck_assert_uint_ge(deliveries, 10);
    ck_assert_uint_le(deliveries, 96);
    size_t before = deliveries;
    ck_assert(fanout_step(fanout));
    ck_assert_uint_gt(deliveries, before);
    ck_assert_uint_le(deliveries, before + 96);
    run_out();
    ck_assert_uint_eq(deliveries, 1000);
}
END_TEST

START_TEST(one_topic_stays_in_order)
{
    begin(NULL, 50, 1000000);
    open_many(1, 200, "a");
    open_many(201, 210, "b");
    for (uint64_t seq = 1; seq <= 20; seq++)
        ck_assert(start(seq % 4 ? "a" : "b", seq));
    run_out();
    ck_assert_uint_eq(deliveries, 15 * 200 + 5 * 10);
    static uint64_t last[SESSIONS + 1];
    for (size_t i = 0; i < deliveries; i++) {
        MUST(delivered[i].seq > last[delivered[i].session]);
        last[delivered[i].session] = delivered[i].seq;
    }
}
END_TEST

START_TEST(topics_take_turns)
{
    begin(NULL, 100, 1000000);
    open_many(1, 1000, "big");
    open_many(1001, 1010, "small");
    ck_assert(start("big", 1));
    ck_assert(start("small", 2));
    ck_assert_uint_eq(got_all(2), 0);
    fanout_step(fanout);
    ck_assert_uint_eq(got_all(2), 10); /* did not wait for the end of the big one */
    ck_assert_uint_lt(got_all(1), 300);
    run_out();
    ck_assert_uint_eq(got_all(1), 1000);
}
END_TEST

START_TEST(more_topics_than_walks)
{
    begin(NULL, 40, 1000000);
    char topic[16];
    for (uint32_t i = 0; i < 150; i++) {
        sprintf(topic, "t%u", i);
        open_many(i * 20 + 1, i * 20 + 20, topic);
    }
    for (uint32_t i = 0; i < 450; i++) {
        sprintf(topic, "t%u", i % 150);
        ck_assert(start(topic, i + 1));
    }
    ck_assert_uint_ge(fanout_pending_jobs(fanout), 440);
    run_out();
    ck_assert_uint_eq(deliveries, 450 * 20);
    for (uint32_t i = 0; i < 450; i++)
        MUST(got_all(i + 1) == 20);
}
END_TEST

START_TEST(a_slice_of_messages_nobody_wants_is_bounded)
{
    begin(NULL, 10, 10000000);
    open_many(1, 100, "a");
    char topic[16];
    ck_assert(start("a", 1));
    for (uint32_t i = 0; i < 1000; i++) {
        sprintf(topic, "nobody/%u", i);
        ck_assert(start(topic, i + 2));
    }
    uint32_t before = fanout_pending_jobs(fanout);
    fanout_step(fanout);
    ck_assert_uint_ge(fanout_pending_jobs(fanout) + 10, before);
    run_out();
}
END_TEST

START_TEST(each_session_once)
{
    begin(NULL, 1000, 100000);
    for (uint32_t id = 1; id <= 100; id++) {
        open_session(id);
        subscribe(id, "a/b", 1);
        subscribe(id, "a/#", 2);
        subscribe(id, "+/b", 0);
    }
    ck_assert(start("a/b", 1));
    ck_assert_uint_eq(deliveries, 100);
    for (size_t i = 0; i < deliveries; i++) {
        MUST(got(delivered[i].session, 1) == 1);
        MUST(delivered[i].options == 1); /* the exact one is met first */
    }
    end_session(3);
    for (uint32_t id = 4; id <= 100; id++)
        end_session(id);
    ck_assert(start("a/b", 2)); /* few enough for the short list */
    ck_assert_uint_eq(got_all(2), 2);
}
END_TEST

START_TEST(more_filters_than_fit)
{
    begin(NULL, 1000, 100000);
    const char *filters[] = {"#",     "+/#",   "+/+/#", "+/+/+", "a/#",   "a/+/#",
                             "a/+/+", "a/b/#", "a/b/+", "a/+/c", "+/b/c", "a/b/c"};
    for (uint32_t id = 1; id <= 12; id++) {
        open_session(id);
        subscribe(id, filters[id - 1], 0);
        subscribe(id, "#", 0);
    }
    ck_assert(start("a/b/c", 1));
    ck_assert_uint_eq(deliveries, 12);
}
END_TEST

START_TEST(implicit_channels)
{
    begin(NULL, 1000, 100000);
    for (uint32_t id = 1; id <= 50; id++)
        open_session(id);
    subscribe(7, "clients/#", 1);
    subscribe(8, "clients/#", 1);
    subscribe(9, "#", 2);
    ck_assert(start("broadcast", 1));
    ck_assert_uint_eq(got_all(1), 50);
    ck_assert_uint_eq(got(9, 1), 1);
    ck_assert_uint_eq(delivered[0].session, 9);
    ck_assert_uint_eq(delivered[0].options, 2); /* a subscription comes before the channel */
    ck_assert_uint_eq(delivered[1].options, 3);
    ck_assert(start("clients/c7", 2));
    ck_assert_uint_eq(got_all(2), 3);
    ck_assert_uint_eq(got(7, 2), 1);
    ck_assert(start("clients/c20", 3));
    ck_assert_uint_eq(got_all(3), 4);
    ck_assert_uint_eq(got(20, 3), 1);
    ck_assert(start("clients/nobody", 4));
    ck_assert_uint_eq(got_all(4), 3);
    ck_assert(start("clients/", 5));
    ck_assert_uint_eq(got_all(5), 3);
    ck_assert(start("broadcasts", 6));
    ck_assert_uint_eq(got_all(6), 1);
}
END_TEST

START_TEST(channels_that_are_off)
{
    struct fanout_settings set = {100, 100000, "", "", 0};
    fanout = fanout_new(NULL, tree, &ops, NULL, &set);
    open_session(1);
    ck_assert(start("broadcast", 1));
    ck_assert(start("clients/c1", 2));
    ck_assert(start("c1", 3));
    ck_assert_uint_eq(deliveries, 0);
}
END_TEST

START_TEST(queue_limit)
{
    begin(NULL, 10, 3000);
    open_many(1, 500, "a");
    ck_assert(start("a", 1));
    uint64_t seq = 2;
    while (start("a", seq))
        ck_assert_uint_lt(seq++, 100);
    ck_assert_uint_gt(seq, 2);
    ck_assert_uint_le(fanout_pending_bytes(fanout), 3000);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_FANOUT_QUEUE_BYTES), fanout_pending_bytes(fanout));
    ck_assert(!start("b", 999)); /* whatever the topic */
    run_out();
    ck_assert_uint_eq(got_all(seq - 1), 500);
    ck_assert_uint_eq(got_all(seq), 0);
    ck_assert(start("a", 1000));
    run_out();
    ck_assert_uint_eq(got_all(1000), 500);
}
END_TEST

START_TEST(kept_messages_are_never_refused)
{
    begin(NULL, 10, 1);
    open_many(1, 500, "a");
    fanout_begin(fanout, 99);
    ck_assert_uint_eq(fanout_head(fanout), 99);
    ck_assert_uint_eq(fanout_settled(fanout), 99);
    for (uint64_t seq = 100; seq < 150; seq++)
        ck_assert(start_qos("a", seq, seq % 2 ? 1 : 2));
    ck_assert(!start("a", 150));
    ck_assert(!start("b", 150));
    ck_assert_uint_eq(fanout_head(fanout), 149);
    ck_assert_uint_eq(fanout_settled(fanout), 99);
    run_out();
    ck_assert_uint_eq(fanout_settled(fanout), 149);
    for (uint64_t seq = 100; seq < 150; seq++)
        ck_assert_uint_eq(got_all(seq), 500);
}
END_TEST

START_TEST(kept_messages_come_once)
{
    begin(NULL, 100, 10000);
    open_many(1, 5, "a");
    fanout_begin(fanout, 10);
    ck_assert(start_qos("a", 10, 1)); /* before the beginning */
    ck_assert(start_qos("a", 9, 2));
    ck_assert(start_qos("a", 11, 1));
    ck_assert(start_qos("a", 11, 1));
    ck_assert_uint_eq(deliveries, 5);
    ck_assert(start("a", 9)); /* not a kept one, whatever its number */
    ck_assert(start("a", 20));
    ck_assert_uint_eq(deliveries, 15);
    ck_assert_uint_eq(fanout_head(fanout), 11);
    ck_assert_uint_eq(fanout_settled(fanout), 11);
    ck_assert(start_qos("a", 14, 1)); /* numbers in between are others' */
    ck_assert_uint_eq(fanout_head(fanout), 14);
    ck_assert_uint_eq(fanout_settled(fanout), 14);
}
END_TEST

/* The mark during the walks of settled_follows_the_oldest(). */
static uint64_t mark_in_walk;
static void note_mark(uint32_t id)
{
    (void)id;
    mark_in_walk = fanout_settled(fanout);
}

START_TEST(settled_follows_the_oldest)
{
    begin(NULL, 100, 100000);
    at_delivery = note_mark;
    open_many(1, 1000, "big");
    open_many(1001, 1010, "small");
    ck_assert(start_qos("small", 1, 1));
    ck_assert_uint_eq(mark_in_walk, 0); /* walked at once, and not settled before the end */
    ck_assert_uint_eq(fanout_settled(fanout), 1);
    ck_assert(start_qos("nobody", 3, 1));
    ck_assert_uint_eq(fanout_settled(fanout), 3);
    ck_assert(start_qos("big", 5, 1));
    ck_assert(start_qos("small", 6, 2));
    ck_assert(start("small", 7));
    ck_assert(start_qos("big", 8, 1));
    ck_assert(start_qos("small", 9, 1));
    for (int i = 0; i < 4; i++)
        fanout_step(fanout);
    ck_assert_uint_eq(got_all(9), 10); /* overtook the big ones */
    ck_assert_uint_eq(fanout_settled(fanout), 4);
    while (got_all(8) == 0)
        fanout_step(fanout);
    ck_assert_uint_eq(got_all(5), 1000);
    ck_assert_uint_eq(fanout_settled(fanout), 7);
    run_out();
    ck_assert_uint_eq(fanout_settled(fanout), 9);
    ck_assert_uint_eq(fanout_head(fanout), 9);
}
END_TEST

START_TEST(void_kept_messages_are_settled)
{
    begin(NULL, 100, 100000);
    open_many(1, 1000, "a");
    ck_assert(start_qos("a", 1, 1));
    ck_assert(start_qos("a", 2, 1));
    void_below = 3;
    ck_assert(start_qos("a", 3, 1));
    while (got_all(3) == 0)
        fanout_step(fanout);
    ck_assert_uint_eq(fanout_settled(fanout), 2);
    run_out();
    ck_assert_uint_eq(got_all(1), 100);
    ck_assert_uint_eq(got_all(2), 0);
    ck_assert_uint_eq(fanout_settled(fanout), 3);
}
END_TEST

/* During a delivery of job_names_the_topics(): asks with the job's topics, then makes records go and come. */
static void ask_by_topics(uint32_t id)
{
    sub_options out[16];
    MUST(at_work->topic_count == 12);
    size_t n = topic_tree_overlaps(tree, session[id].subs, at_work->topics, at_work->topic_count, out, 16);
    MUST(n == 2);
    MUST(out[0] + out[1] == id + 100);
    for (uint32_t other = id + 1; other <= 40; other++) /* its filters lose their last subscription */
        end_session(other);
    open_session(100 + id);
    subscribe(100 + id, id % 2 ? "unrelated/1" : "unrelated/2", 9);
    subscribe(id, "unrelated/3", 9);
}

START_TEST(job_names_the_topics)
{
    begin(NULL, 1, 100000);
    const char *filters[] = {"#",     "+/#",   "+/+/#", "+/+/+", "a/#",   "a/+/#",
                             "a/+/+", "a/b/#", "a/b/+", "a/+/c", "+/b/c", "a/b/c"};
    for (uint32_t id = 1; id <= 40; id++) {
        open_session(id);
        subscribe(id, filters[(id - 1) % 11 + 1], id);
        subscribe(id, "#", 100);
    }
    at_delivery = ask_by_topics;
    ck_assert(start("a/b/c", 1));
    run_out();
    ck_assert_uint_gt(deliveries, 0);
    at_delivery = NULL;
    for (uint32_t id = 1; id <= 140; id++)
        if (session[id].live)
            end_session(id);
    ck_assert_uint_eq(topic_tree_topics(tree), 0); /* none is kept beyond the walk */
}
END_TEST

START_TEST(void_messages_stop)
{
    begin(NULL, 100, 100000);
    open_many(1, 1000, "a");
    ck_assert(start("a", 1));
    ck_assert(start("a", 2));
    ck_assert_uint_eq(got_all(1), 100);
    void_below = 2;
    run_out();
    ck_assert_uint_eq(got_all(1), 100);
    ck_assert_uint_eq(got_all(2), 1000);
}
END_TEST

START_TEST(freed_while_working)
{
    begin(NULL, 10, 100000);
    open_many(1, 300, "a");
    open_many(301, 600, "#");
    ck_assert(start("a", 1));
    ck_assert(start("a", 2));
    ck_assert(start("b", 3));
    ck_assert(start("broadcast", 4));
    fanout_step(fanout);
    ck_assert_uint_gt(fanout_pending_jobs(fanout), 0);
    fanout_free(fanout); /* the leak checker of the sanitizer build sees the rest */
    fanout = NULL;
    for (uint32_t id = 1; id <= 600; id++)
        end_session(id);
    ck_assert_uint_eq(topic_tree_topics(tree), 0);
}
END_TEST

START_TEST(reused_ids)
{
    begin(NULL, 10, 100000);
    open_many(1, 100, "a");
    for (uint32_t id = 1; id <= 100; id++)
        subscribe(id, "#", 0);
    ck_assert(start("a", 1)); /* 100 to 91 have it */
    for (uint32_t id = 50; id <= 100; id++) {
        end_session(id);
        open_session(id);
        subscribe(id, "a", 0);
    }
    run_out();
    for (size_t i = 0; i < deliveries; i++)
        MUST(delivered[i].session < 50 ? delivered[i].generation == 1 : delivered[i].session > 90);
    ck_assert_uint_eq(deliveries, 10 + 49);
}
END_TEST

START_TEST(broadcast_ends_although_sessions_keep_coming)
{
    begin(NULL, 10, 100000);
    for (uint32_t id = 1; id <= 100; id++)
        open_session(id);
    ck_assert(start("broadcast", 1));
    uint32_t next = 101;
    for (int steps = 0; fanout_step(fanout); steps++) {
        ck_assert_int_lt(steps, 20);
        for (int i = 0; i < 20; i++)
            open_session(next++);
    }
    ck_assert_uint_ge(deliveries, 100);
    ck_assert_uint_le(deliveries, 101);
}
END_TEST

static unsigned polls;

/* Stands for other clients: a descriptor that is always readable, so it is called once per poll. */
static void other_event_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    polls++;
    if (!fanout_pending_jobs(fanout))
        event_del(arg);
}

START_TEST(the_loop_drives_it)
{
    struct event_base *base = event_base_new();
    begin(base, 10, 100000);
    open_many(1, 500, "a");
    int fds[2];
    ck_assert_int_eq(pipe(fds), 0);
    ck_assert_int_eq(write(fds[1], "x", 1), 1);
    struct event *other = event_new(base, fds[0], EV_READ | EV_PERSIST, other_event_cb, event_self_cbarg());
    event_add(other, NULL);
    ck_assert(start("a", 1));
    ck_assert_int_ge(event_base_dispatch(base), 0);
    ck_assert_uint_eq(deliveries, 500);
    ck_assert_uint_ge(polls, 40); /* another event had its turn between any two slices */
    event_free(other);
    close(fds[0]);
    close(fds[1]);
    fanout_free(fanout);
    fanout = NULL;
    event_base_free(base);
}
END_TEST

/*
 * The random test's model. A message is owed to every session that has one subscription (or the channel)
 * which matched when the message was started and was kept until all is done; it is forbidden to sessions that
 * did not match at any time since.
 */
enum { R_SESSIONS = 60, R_MESSAGES = 400, R_FILTERS = 8, R_TOPICS = 6 };
static const char *const r_filter[R_FILTERS] = {"a", "b", "#", "a/+", "+", "a/#", "a/b", "clients/+"};
static const char *const r_topic[R_TOPICS] = {"a", "b", "a/b", "a/c", "broadcast", "clients/c5"};
static bool r_sub[R_SESSIONS + 1][R_FILTERS];
static struct {
    const char *topic;
    unsigned kept[R_SESSIONS + 1]; /* bits of r_ways() that were there all the time */
    bool may[R_SESSIONS + 1];      /* matched at some time */
} r_message[R_MESSAGES + 1];

/* The ways in which messages of this topic reach the session now: a bit per filter, one for the channels. */
static unsigned r_ways(uint32_t id, const char *topic)
{
    unsigned ways = 0;
    if (!session[id].live)
        return 0;
    if (strcmp(topic, "broadcast") == 0 || (strcmp(topic, "clients/c5") == 0 && id == 5))
        ways |= 1u << R_FILTERS;
    for (int k = 0; k < R_FILTERS; k++)
        if (r_sub[id][k] && mqtt_topic_matches(r_filter[k], strlen(r_filter[k]), topic, strlen(topic)))
            ways |= 1u << k;
    return ways;
}

/* Notes what a change means for the messages under way. */
static void r_note(uint64_t messages, uint32_t id)
{
    for (uint64_t m = 1; m <= messages; m++) {
        unsigned ways = r_ways(id, r_message[m].topic);
        r_message[m].kept[id] &= ways;
        r_message[m].may[id] |= ways != 0;
    }
}

static void r_change(uint64_t messages)
{
    uint32_t id = (uint32_t)(random() % R_SESSIONS + 1);
    int k = (int)(random() % R_FILTERS);
    if (!session[id].live) {
        open_session(id);
    } else if (random() % 6 == 0) {
        end_session(id);
        memset(r_sub[id], 0, sizeof r_sub[id]);
    } else if (random() % 2) {
        subscribe(id, r_filter[k], 0);
        r_sub[id][k] = true;
    } else {
        bool was = topic_tree_unsubscribe(tree, &session[id].subs, r_filter[k], strlen(r_filter[k]));
        MUST(was == r_sub[id][k]);
        r_sub[id][k] = false;
    }
    r_note(messages, id);
}

static void r_start(uint64_t seq)
{
    r_message[seq].topic = r_topic[random() % R_TOPICS];
    for (uint32_t id = 1; id <= R_SESSIONS; id++) {
        r_message[seq].kept[id] = r_ways(id, r_message[seq].topic);
        r_message[seq].may[id] = r_message[seq].kept[id] != 0;
    }
    MUST(start_qos(r_message[seq].topic, seq, (uint8_t)(random() % 3)));
}

/* Checks each delivery count, and the order of each topic's messages at each session. */
static void r_check(void)
{
    static uint8_t count[R_MESSAGES + 1][R_SESSIONS + 1];
    static uint64_t last[R_SESSIONS + 1][R_TOPICS];
    for (size_t i = 0; i < deliveries; i++) {
        const struct delivery *d = &delivered[i];
        int topic = 0;
        while (r_topic[topic] != r_message[d->seq].topic)
            topic++;
        MUST(d->seq > last[d->session][topic]);
        last[d->session][topic] = d->seq;
        count[d->seq][d->session]++;
    }
    for (uint64_t seq = 1; seq <= R_MESSAGES; seq++)
        for (uint32_t id = 1; id <= R_SESSIONS; id++) {
            MUST(count[seq][id] <= r_message[seq].may[id]);
            MUST(count[seq][id] >= (r_message[seq].kept[id] != 0));
        }
}

START_TEST(random_against_model)
{
    srandom((unsigned)_i);
    begin(NULL, (uint32_t)(random() % 40 + 1), 10000000);
    for (uint64_t seq = 1; seq <= R_MESSAGES; seq++) {
        for (long n = random() % 8; n > 0; n--)
            r_change(seq - 1);
        r_start(seq);
        if (random() % 3)
            fanout_step(fanout);
        if (random() % 4 == 0)
            clock_fake(clock_ms() + 1);
    }
    run_out();
    r_check();
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, small_ones_are_done_at_once);
    tcase_add_test(tc, exactly_a_slice_is_done_at_once);
    tcase_add_test(tc, budget_of_a_turn);
    tcase_add_test(tc, slices);
    tcase_add_test(tc, slices_are_bounded_in_time);
    tcase_add_test(tc, one_topic_stays_in_order);
    tcase_add_test(tc, topics_take_turns);
    tcase_add_test(tc, more_topics_than_walks);
    tcase_add_test(tc, a_slice_of_messages_nobody_wants_is_bounded);
    tcase_add_test(tc, each_session_once);
    tcase_add_test(tc, more_filters_than_fit);
    tcase_add_test(tc, implicit_channels);
    tcase_add_test(tc, channels_that_are_off);
    tcase_add_test(tc, queue_limit);
    tcase_add_test(tc, kept_messages_are_never_refused);
    tcase_add_test(tc, kept_messages_come_once);
    tcase_add_test(tc, settled_follows_the_oldest);
    tcase_add_test(tc, void_kept_messages_are_settled);
    tcase_add_test(tc, job_names_the_topics);
    tcase_add_test(tc, void_messages_stop);
    tcase_add_test(tc, freed_while_working);
    tcase_add_test(tc, reused_ids);
    tcase_add_test(tc, broadcast_ends_although_sessions_keep_coming);
    tcase_add_test(tc, the_loop_drives_it);
    tcase_add_loop_test(tc, random_against_model, 1, 15);
}

UNIT_MAIN("fanout")
