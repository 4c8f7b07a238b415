/*
 * Connections: parking, becoming active for an incomplete packet or blocked output, bounds on output, and the
 * one way to close.
 */
#include "gateway/net/conn.h"

#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "tests/unit/loop_client.h"

#define LIMIT (64u << 10)

/* A protocol for tests: packets of one length byte and that many bytes; each is echoed. 'X' closes. */
static struct fixture {
    struct event_base *base;
    struct net *net;
    unsigned opened, packets, closed;
    enum close_reason reason;
    bool mute; /* do not echo */
} t;

static void opened(void *ctx, uint32_t id)
{
    (void)id;
    ((struct fixture *)ctx)->opened++;
}

static size_t input(void *ctx, uint32_t id, const unsigned char *data, size_t len, size_t *need)
{
    struct fixture *f = ctx;
    size_t at = 0;
    while (at < len) {
        size_t want = 1 + data[at];
        if (len - at < want) {
            *need = want;
            return at;
        }
        f->packets++;
        if (data[at] == 1 && data[at + 1] == 'X') {
            net_close(f->net, id, CLOSE_CLIENT_DISCONNECT);
            return len;
        }
        if (!f->mute)
            net_send(f->net, id, data + at, want);
        at += want;
    }
    return at;
}

static void closed(void *ctx, uint32_t id, enum close_reason reason)
{
    struct fixture *f = ctx;
    ck_assert_int_eq(net_conn(f->net, id)->state, CONN_DOOMED);
    f->closed++;
    f->reason = reason;
}

static const struct conn_handler handler = {.opened = opened, .input = input, .closed = closed};

static void start(bool drop_oldest)
{
    struct net_settings s = {
        .max_connections = 100, .output_limit = LIMIT, .input_limit = 1000, .drop_oldest = drop_oldest};
    memset(&t, 0, sizeof t);
    clock_fake(1000000);
    t.base = event_base_new();
    t.net = net_new(t.base, &s, &handler, &t);
}

static void finish(void)
{
    for (uint32_t id = 0; (id = net_next(t.net, id));)
        net_close(t.net, id, CLOSE_SHUTDOWN);
    loop_turn(t.base);
    ck_assert_uint_eq(net_count(t.net), 0);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_OUTPUT_BYTES), 0);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_PARKED), 0);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_ACTIVE), 0);
    net_free(t.net);
    event_base_free(t.base);
}

static uint32_t adopt(int *client)
{
    int fd[2];
    loop_pair(fd);
    *client = fd[1];
    uint32_t id = net_adopt(t.net, fd[0], 0);
    ck_assert_uint_ne(id, 0);
    return id;
}

static enum conn_state state(uint32_t id) { return net_conn(t.net, id)->state; }

START_TEST(whole_packets_are_answered_while_parked)
{
    int c;
    start(true);
    uint32_t id = adopt(&c);
    client_send(c, "\3abc\1q", 6);
    loop_turn(t.base);
    client_expect(c, "\3abc\1q", 6);
    ck_assert_int_eq(state(id), CONN_PARKED);
    ck_assert_uint_eq(t.packets, 2);
    close(c);
    loop_turn(t.base);
    ck_assert_int_eq(t.reason, CLOSE_PEER_CLOSED);
    finish();
}
END_TEST

START_TEST(a_split_packet_is_active_until_complete)
{
    int c;
    start(true);
    uint32_t id = adopt(&c);
    const char *bytes = "\5hello\2ok";
    for (size_t i = 0; i < 9; i++) {
        client_send(c, bytes + i, 1);
        loop_turn(t.base);
        ck_assert_int_eq(state(id), i == 5 || i == 8 ? CONN_PARKED : CONN_ACTIVE);
    }
    client_expect(c, bytes, 9);
    ck_assert_uint_eq(t.packets, 2);
    close(c);
    finish();
}
END_TEST

START_TEST(packets_after_a_split_one_are_not_lost)
{
    int c;
    start(true);
    uint32_t id = adopt(&c);
    client_send(c, "\1a\4bc", 5);
    loop_turn(t.base);
    ck_assert_int_eq(state(id), CONN_ACTIVE);
    client_send(c, "de\1f\2gh\1", 8);
    loop_turn(t.base);
    client_send(c, "i", 1);
    loop_turn(t.base);
    client_expect(c, "\1a\4bcde\1f\2gh\1i", 14);
    ck_assert_int_eq(state(id), CONN_PARKED);
    close(c);
    finish();
}
END_TEST

/* Fills the client's socket with frames until the gateway has to queue; returns how many whole frames were
 * sent. */
static unsigned block(uint32_t id, struct frame *f)
{
    for (unsigned i = 1; i < 100000; i++)
        if (net_send_frame(t.net, id, f) == SEND_QUEUED)
            return i;
    ck_abort_msg("the socket never filled");
}

static struct frame *numbered_frame(unsigned char number, size_t len)
{
    struct frame *f = frame_new(len);
    memset(f->data, number, len);
    return f;
}

START_TEST(blocked_output_is_sent_when_the_client_reads_and_then_parks)
{
    int c;
    start(true);
    uint32_t id = adopt(&c);
    struct frame *f = numbered_frame(7, 1000);
    size_t frames = block(id, f), got = 0;
    for (int i = 0; i < 20; i++, frames++)
        ck_assert_int_eq(net_send_frame(t.net, id, f), SEND_QUEUED);
    ck_assert_int_eq(state(id), CONN_ACTIVE);
    ck_assert_uint_gt(f->refs, 1);
    char buf[65536];
    for (int i = 0; i < 10000 && got < frames * 1000; i++) {
        got += client_read(c, buf, sizeof buf);
        loop_turn(t.base);
    }
    ck_assert_uint_eq(got, frames * 1000);
    ck_assert_int_eq(state(id), CONN_PARKED);
    ck_assert_uint_eq(f->refs, 1);
    frame_unref(f);
    close(c);
    finish();
}
END_TEST

START_TEST(drop_oldest_keeps_the_newest_whole_frames)
{
    int c;
    start(true);
    uint32_t id = adopt(&c);
    struct frame *filler = numbered_frame(255, 8000);
    size_t before = block(id, filler) * 8000;
    uint64_t dropped = counter_get(counters_mine, COUNTER_DELIVERIES_DROPPED);
    for (unsigned char i = 0; i < 100; i++) {
        struct frame *f = numbered_frame(i, 5000);
        ck_assert_int_eq(net_send_frame(t.net, id, f), SEND_QUEUED);
        frame_unref(f);
        ck_assert_uint_le(net_pending(t.net, id), LIMIT + 8000);
    }
    dropped = counter_get(counters_mine, COUNTER_DELIVERIES_DROPPED) - dropped;
    ck_assert_uint_gt(dropped, 80);
    static unsigned char buf[1 << 20];
    size_t got = 0;
    for (int i = 0; i < 1000; i++) {
        got += client_read(c, buf + got, sizeof buf - got);
        loop_turn(t.base);
    }
    ck_assert_uint_eq(got, before + (100 - dropped) * 5000);
    for (size_t i = before; i < got; i += 5000) /* whole frames, none torn */
        for (size_t k = 0; k < 5000; k++)
            ck_assert_int_eq(buf[i + k], buf[i]);
    ck_assert_int_eq(buf[got - 1], 99);
    frame_unref(filler);
    close(c);
    finish();
}
END_TEST

static struct frame *lasting_frame(unsigned char number, size_t len)
{
    struct frame *f = numbered_frame(number, len);
    ck_assert(!f->must_arrive);
    f->must_arrive = true;
    return f;
}

START_TEST(what_must_arrive_is_not_dropped)
{
    int c;
    start(true);
    uint32_t id = adopt(&c);
    struct frame *filler = numbered_frame(255, 8000);
    size_t before = block(id, filler) * 8000;
    for (unsigned char i = 0; i < 100; i++) {
        struct frame *f = i % 9 ? numbered_frame(i, 5000) : lasting_frame(i, 5000);
        ck_assert_int_eq(net_send_frame(t.net, id, f), SEND_QUEUED);
        frame_unref(f);
    }
    ck_assert_uint_le(net_pending(t.net, id), LIMIT + 8000 + 12 * 5000);
    static unsigned char buf[1 << 20];
    size_t got = 0;
    for (int i = 0; i < 1000; i++) {
        got += client_read(c, buf + got, sizeof buf - got);
        loop_turn(t.base);
    }
    int last = -1;
    for (size_t i = before; i < got; i += 5000) {
        for (int missing = last + 1; missing < buf[i]; missing++)
            ck_assert_int_ne(missing % 9, 0);
        ck_assert_int_gt(buf[i], last); /* in order */
        last = buf[i];
    }
    ck_assert_int_eq(last, 99);
    ck_assert_uint_lt(got - before, 30 * 5000);
    ck_assert_int_eq(state(id), CONN_PARKED);
    frame_unref(filler);
    close(c);
    finish();
}
END_TEST

/* Under either policy. */
START_TEST(what_must_arrive_may_exceed_the_limit)
{
    int c;
    start(_i);
    uint32_t id = adopt(&c);
    struct frame *filler = numbered_frame(255, 8000), *lasting = lasting_frame(1, 5000);
    size_t want = block(id, filler) * 8000;
    for (unsigned i = 0; i < 50; i++, want += 5000)
        ck_assert_int_eq(net_send_frame(t.net, id, lasting), SEND_QUEUED);
    ck_assert_uint_gt(net_pending(t.net, id), LIMIT + 50000);
    /* It is not to the account of others. */
    ck_assert_int_eq(net_send(t.net, id, "answer", 6), SEND_QUEUED);
    ck_assert_int_eq(net_send_frame(t.net, id, filler), SEND_QUEUED);
    want += 8006;
    static unsigned char buf[1 << 20];
    size_t got = 0;
    for (int i = 0; i < 1000; i++) {
        got += client_read(c, buf, sizeof buf);
        loop_turn(t.base);
    }
    ck_assert_uint_eq(got, want);
    ck_assert_uint_eq(filler->refs, 1);
    ck_assert_uint_eq(lasting->refs, 1);
    frame_unref(filler);
    frame_unref(lasting);
    close(c);
    finish();
}
END_TEST

START_TEST(disconnect_policy_closes_a_slow_consumer)
{
    int c;
    start(false);
    uint32_t id = adopt(&c);
    struct frame *f = numbered_frame(1, 5000);
    block(id, f);
    enum send_result r = SEND_QUEUED;
    for (int i = 0; i < 100 && r == SEND_QUEUED; i++)
        r = net_send_frame(t.net, id, f);
    ck_assert_int_eq(r, SEND_GONE);
    loop_turn(t.base);
    ck_assert_uint_eq(t.closed, 1);
    ck_assert_int_eq(t.reason, CLOSE_SLOW_CONSUMER);
    ck_assert_uint_eq(f->refs, 1);
    frame_unref(f);
    close(c);
    finish();
}
END_TEST

START_TEST(a_frame_larger_than_the_limit_is_taken_when_nothing_waits)
{
    int c;
    start(true);
    uint32_t id = adopt(&c);
    struct frame *f = numbered_frame(9, 1 << 20);
    ck_assert_int_eq(net_send_frame(t.net, id, f), SEND_QUEUED);
    ck_assert_int_eq(net_send_frame(t.net, id, f), SEND_DROPPED);
    static char buf[1 << 20];
    size_t got = 0;
    for (int i = 0; i < 1000; i++) {
        got += client_read(c, buf, sizeof buf);
        loop_turn(t.base);
    }
    ck_assert_uint_eq(got, 1 << 20);
    ck_assert_int_eq(state(id), CONN_PARKED);
    frame_unref(f);
    close(c);
    finish();
}
END_TEST

START_TEST(the_frame_being_sent_does_not_count_against_the_limit)
{
    int c;
    start(false);
    uint32_t id = adopt(&c);
    struct frame *large = numbered_frame(1, 1 << 20), *small = numbered_frame(2, 100);
    ck_assert_int_eq(net_send_frame(t.net, id, large), SEND_QUEUED);
    client_send(c, "\2hb", 3); /* a heartbeat meanwhile is answered, not punished */
    loop_turn(t.base);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(net_send_frame(t.net, id, small), SEND_QUEUED);
    static char buf[2 << 20];
    size_t got = 0;
    for (int i = 0; i < 1000; i++) {
        got += client_read(c, buf + got, sizeof buf - got);
        loop_turn(t.base);
    }
    ck_assert_uint_eq(got, (1 << 20) + 100 * 100 + 3);
    ck_assert_int_eq(state(id), CONN_PARKED);
    frame_unref(large);
    frame_unref(small);
    close(c);
    finish();
}
END_TEST

/* Regression: bytes and the end of the stream were both there before the worker looked, and the end was never
 * seen. */
START_TEST(bytes_and_the_end_of_the_stream_together_are_both_noticed)
{
    int c;
    start(true);
    adopt(&c);
    loop_turn(t.base);
    client_send(c, "\1a", 2);
    close(c);
    loop_turn(t.base);
    ck_assert_uint_eq(t.packets, 1);
    ck_assert_uint_eq(t.closed, 1);
    finish();
}
END_TEST

START_TEST(incomplete_packets_of_all_clients_share_a_limit)
{
    int c[8];
    start(true);
    char part[200];
    memset(part, 'p', sizeof part);
    part[0] = (char)255;
    for (int i = 0; i < 8; i++) {
        adopt(&c[i]);
        client_send(c[i], part, sizeof part);
        loop_turn(t.base);
    }
    ck_assert_uint_eq(t.closed, 3); /* five times 200 bytes fit into 1,000 */
    ck_assert_int_eq(t.reason, CLOSE_NO_MEMORY);
    close(c[0]);
    loop_turn(t.base);
    int d;
    adopt(&d);
    client_send(d, part, sizeof part);
    loop_turn(t.base);
    ck_assert_uint_eq(t.closed, 4); /* c[0] only: its room was given back */
    for (int i = 1; i < 8; i++)
        close(c[i]);
    close(d);
    finish();
}
END_TEST

/* More connections ready at once than one batch, several of them sending more than one read takes. */
START_TEST(many_ready_connections_are_all_served_without_a_new_event)
{
    int c[100];
    static char packets[3 * 65536];
    start(true);
    t.mute = true;
    for (size_t i = 0; i < sizeof packets; i += 2)
        memcpy(packets + i, "\1a", 2);
    size_t sent = 0;
    for (int i = 0; i < 100; i++) {
        adopt(&c[i]);
        ssize_t n = send(c[i], packets, i % 10 ? 2 : sizeof packets, MSG_NOSIGNAL);
        ck_assert_int_gt(n, 0);
        ck_assert_int_eq(n % 2, 0);
        sent += (size_t)n;
    }
    for (int i = 0; i < 200; i++)
        event_base_loop(t.base, EVLOOP_NONBLOCK);
    ck_assert_uint_eq(t.packets, sent / 2);
    for (int i = 0; i < 100; i++)
        close(c[i]);
    finish();
}
END_TEST

START_TEST(a_client_that_floods_and_reads_nothing_is_closed)
{
    int c;
    start(true);
    adopt(&c);
    char packet[201];
    memset(packet, 'z', sizeof packet);
    packet[0] = (char)200;
    for (int i = 0; i < 20000 && !t.closed; i++) {
        if (send(c, packet, sizeof packet, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
            break;
        event_base_loop(t.base, EVLOOP_NONBLOCK);
    }
    loop_turn(t.base);
    ck_assert_uint_eq(t.closed, 1);
    ck_assert_int_eq(t.reason, CLOSE_SLOW_CONSUMER);
    close(c);
    finish();
}
END_TEST

START_TEST(closing_is_deferred_and_happens_once)
{
    int c;
    start(true);
    uint32_t id = adopt(&c);
    client_send(c, "\1X\1a", 4);
    loop_turn(t.base);
    ck_assert_uint_eq(t.closed, 1);
    ck_assert_uint_eq(t.packets, 1);
    ck_assert(client_closed(c));
    close(c);
    id = adopt(&c);
    net_close(t.net, id, CLOSE_KICKED);
    net_close(t.net, id, CLOSE_MALFORMED);
    ck_assert_uint_eq(t.closed, 1);
    ck_assert_int_eq(net_send(t.net, id, "x", 1), SEND_GONE);
    loop_turn(t.base);
    ck_assert_uint_eq(t.closed, 2);
    ck_assert_int_eq(t.reason, CLOSE_KICKED);
    close(c);
    finish();
}
END_TEST

START_TEST(a_packet_that_stays_incomplete_is_swept)
{
    int c, d;
    start(true);
    uint32_t id = adopt(&c), idle = adopt(&d);
    client_send(c, "\5he", 3);
    loop_turn(t.base);
    clock_fake(1005000);
    client_send(c, "l", 1);
    loop_turn(t.base);
    net_sweep(t.net, 1000000); /* began at 1000000: not before */
    loop_turn(t.base);
    ck_assert_int_eq(state(id), CONN_ACTIVE);
    net_sweep(t.net, 1000001);
    loop_turn(t.base);
    ck_assert_int_eq(t.reason, CLOSE_PACKET_TIMEOUT);
    ck_assert_int_eq(state(idle), CONN_PARKED);
    close(c);
    close(d);
    finish();
}
END_TEST

START_TEST(beyond_max_connections_a_socket_is_refused_and_the_others_stay)
{
    int c[101];
    start(true);
    for (int i = 0; i < 100; i++)
        adopt(&c[i]);
    int fd[2];
    loop_pair(fd);
    uint64_t before = counter_get(counters_mine, COUNTER_REFUSED_BUSY);
    ck_assert_uint_eq(net_adopt(t.net, fd[0], 0), 0);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_REFUSED_BUSY), before + 1);
    ck_assert(client_closed(fd[1]));
    close(fd[1]);
    client_send(c[99], "\1a", 2);
    loop_turn(t.base);
    client_expect(c[99], "\1a", 2);
    for (int i = 0; i < 100; i++)
        close(c[i]);
    finish();
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, whole_packets_are_answered_while_parked);
    tcase_add_test(tc, a_split_packet_is_active_until_complete);
    tcase_add_test(tc, packets_after_a_split_one_are_not_lost);
    tcase_add_test(tc, blocked_output_is_sent_when_the_client_reads_and_then_parks);
    tcase_add_test(tc, drop_oldest_keeps_the_newest_whole_frames);
    tcase_add_test(tc, what_must_arrive_is_not_dropped);
    tcase_add_loop_test(tc, what_must_arrive_may_exceed_the_limit, 0, 2);
    tcase_add_test(tc, disconnect_policy_closes_a_slow_consumer);
    tcase_add_test(tc, a_frame_larger_than_the_limit_is_taken_when_nothing_waits);
    tcase_add_test(tc, the_frame_being_sent_does_not_count_against_the_limit);
    tcase_add_test(tc, bytes_and_the_end_of_the_stream_together_are_both_noticed);
    tcase_add_test(tc, incomplete_packets_of_all_clients_share_a_limit);
    tcase_add_test(tc, many_ready_connections_are_all_served_without_a_new_event);
    tcase_add_test(tc, a_client_that_floods_and_reads_nothing_is_closed);
    tcase_add_test(tc, closing_is_deferred_and_happens_once);
    tcase_add_test(tc, a_packet_that_stays_incomplete_is_swept);
    tcase_add_test(tc, beyond_max_connections_a_socket_is_refused_and_the_others_stay);
}

UNIT_MAIN("conn")
