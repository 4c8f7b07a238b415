/*
 * Two channels over a socket pair in one real event loop: what one sends the other gets, whole and in order,
 * whatever its size, whoever is slow, and whoever goes away in the middle.
 */
#include "tests/unit/unit.h"

#include <event2/event.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/ipc/ipc_channel.h"

/* One end and what it has seen. */
struct end {
    struct ipc_channel *ch;
    unsigned messages, closed, drained;
    uint64_t last;
    size_t bytes;
    bool free_in_message, free_in_closed, pause_in_message, echo;
    char why[80];
};

static struct event_base *base;
static struct end a, b;
static int raw[2];

static void message_cb(void *ctx, struct ipc_channel *ch, const struct ipc_message *m)
{
    struct end *e = ctx;
    ck_assert_ptr_eq(ch, e->ch);
    e->messages++;
    if (m->type == IPC_DELIVER) {
        ck_assert_uint_eq(m->field[0].num, e->last + 1);
        e->last = m->field[0].num;
        const struct ipc_bytes *payload = &m->field[7].bytes;
        for (uint32_t i = 0; i < payload->len; i += 997)
            ck_assert_int_eq((unsigned char)payload->data[i], (unsigned char)(e->last + i));
        e->bytes += payload->len;
    }
    if (e->echo)
        ck_assert(ipc_channel_send(ch, m));
    if (e->pause_in_message)
        ipc_channel_pause(ch, true);
    if (e->free_in_message) {
        ipc_channel_free(ch);
        e->ch = NULL;
    }
}

static void closed_cb(void *ctx, struct ipc_channel *ch, const char *why)
{
    struct end *e = ctx;
    e->closed++;
    snprintf(e->why, sizeof e->why, "%s", why);
    if (e->free_in_closed) {
        ipc_channel_free(ch);
        e->ch = NULL;
    }
}

static void drained_cb(void *ctx, struct ipc_channel *ch)
{
    (void)ch;
    ((struct end *)ctx)->drained++;
}

static const struct ipc_channel_handler handler = {message_cb, closed_cb, drained_cb};

static void setup(void)
{
    signal(SIGPIPE, SIG_IGN);
    base = event_base_new();
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, raw), 0);
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
}

static void open_a(size_t limit) { a.ch = ipc_channel_new(base, raw[0], limit, &handler, &a); }
static void open_b(size_t limit) { b.ch = ipc_channel_new(base, raw[1], limit, &handler, &b); }

static void teardown(void)
{
    ipc_channel_free(a.ch);
    ipc_channel_free(b.ch);
    event_base_free(base);
}

/* Turns the loop until it has nothing to do at once. */
static void settle(void)
{
    for (int i = 0; i < 10000; i++) {
        if (!event_base_get_num_events(base, EVENT_BASE_COUNT_ACTIVE | EVENT_BASE_COUNT_ADDED))
            return;
        size_t before = a.bytes + b.bytes + a.messages + b.messages + a.closed + b.closed;
        size_t waits = (a.ch ? ipc_channel_pending(a.ch) : 0) + (b.ch ? ipc_channel_pending(b.ch) : 0);
        event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        size_t after = a.bytes + b.bytes + a.messages + b.messages + a.closed + b.closed;
        size_t still = (a.ch ? ipc_channel_pending(a.ch) : 0) + (b.ch ? ipc_channel_pending(b.ch) : 0);
        if (before == after && waits == still && i > 3)
            return;
    }
    ck_abort_msg("the loop does not come to rest");
}

/* Turns the loop until *what is at least n; a bug shows as the test's own time limit. */
static void run_until(const unsigned *what, unsigned n)
{
    while (*what < n)
        event_base_loop(base, EVLOOP_ONCE);
}

/* Sends DELIVER number seq with a payload whose bytes depend on both. */
static bool deliver(struct ipc_channel *ch, uint64_t seq, size_t len)
{
    char *payload = malloc(len ? len : 1);
    for (size_t i = 0; i < len; i++)
        payload[i] = (char)(seq + i);
    struct ipc_message m = IPC_MAKE(DELIVER, IPC_NUM(seq), IPC_NUM(0), IPC_NUM(0), IPC_NUM(0), IPC_NUM(0),
                                    IPC_BYTES("topic", 5), IPC_BYTES("", 0), IPC_BYTES(payload, len));
    bool ok = ipc_channel_send(ch, &m);
    free(payload);
    return ok;
}

START_TEST(many_small_messages_arrive_in_order)
{
    open_a(64 << 20);
    open_b(64 << 20);
    for (unsigned i = 1; i <= 100000; i++)
        ck_assert(deliver(a.ch, i, i % 50));
    run_until(&b.messages, 100000);
    ck_assert_uint_eq(b.last, 100000);
    ck_assert_uint_eq(ipc_channel_pending(a.ch), 0);
}
END_TEST

START_TEST(messages_of_every_size_around_the_buffer_arrive)
{
    open_a(64 << 20);
    open_b(64 << 20);
    unsigned n = 0;
    for (size_t len = 16200; len < 16500; len++)
        ck_assert(deliver(a.ch, ++n, len));
    run_until(&b.messages, n);
    for (size_t len = 0; len < 600; len += 7)
        ck_assert(deliver(a.ch, ++n, len * 100));
    run_until(&b.messages, n);
}
END_TEST

START_TEST(messages_of_many_megabytes_arrive)
{
    open_a(64 << 20);
    open_b(64 << 20);
    size_t sizes[] = {5 << 20, 1, 16 << 20, 100, 1 << 20, 0, IPC_MAX_DATA};
    unsigned n = sizeof sizes / sizeof sizes[0];
    for (unsigned i = 0; i < n; i++)
        ck_assert(deliver(a.ch, i + 1, sizes[i]));
    run_until(&b.messages, n);
    ck_assert_uint_eq(b.bytes, (5 << 20) + 1 + (16 << 20) + 100 + (1 << 20) + IPC_MAX_DATA);
}
END_TEST

START_TEST(both_ends_may_talk_at_once)
{
    open_a(64 << 20);
    open_b(64 << 20);
    b.echo = true;
    for (unsigned i = 1; i <= 300; i++)
        ck_assert(deliver(a.ch, i, 20000));
    run_until(&a.messages, 300);
    ck_assert_uint_eq(a.last, 300);
}
END_TEST

START_TEST(one_byte_at_a_time_is_understood)
{
    open_b(1 << 20);
    struct ipc_message m = IPC_MAKE(CLAIM, IPC_NUM(77), IPC_NUM(1), IPC_BYTES("client", 6));
    char buf[64];
    size_t n = ipc_size(&m);
    ipc_encode(&m, buf);
    for (unsigned round = 0; round < 3; round++)
        for (size_t i = 0; i < n; i++) {
            ck_assert_uint_eq(b.messages, round);
            ck_assert_int_eq((int)write(raw[0], buf + i, 1), 1);
            event_base_loop(base, EVLOOP_ONCE);
        }
    ck_assert_uint_eq(b.messages, 3);
    close(raw[0]);
}
END_TEST

START_TEST(above_the_limit_sending_is_refused_until_half_is_gone)
{
    open_a(1 << 20);
    open_b(1 << 20);
    ipc_channel_pause(b.ch, true);
    unsigned sent = 0;
    while (deliver(a.ch, sent + 1, 10000)) {
        sent++;
        ck_assert_uint_lt(sent, 10000);
    }
    ck_assert_uint_gt(sent, 50);
    ck_assert_uint_le(ipc_channel_pending(a.ch), 1 << 20);
    settle();
    ck_assert_uint_eq(a.drained, 0);
    ipc_channel_pause(b.ch, false);
    run_until(&a.drained, 1);
    ck_assert_uint_le(ipc_channel_pending(a.ch), 1 << 19);
    ck_assert(deliver(a.ch, sent + 1, 10000));
    run_until(&b.messages, sent + 1);
    settle();
    ck_assert_uint_eq(a.drained, 1);
}
END_TEST

START_TEST(one_message_above_the_limit_passes_when_nothing_waits)
{
    open_a(1000);
    open_b(1000);
    ck_assert(deliver(a.ch, 1, 3 << 20));
    ck_assert(!deliver(a.ch, 2, 10));
    run_until(&b.messages, 1);
    ck_assert(deliver(a.ch, 2, 10));
    run_until(&b.messages, 2);
}
END_TEST

START_TEST(a_field_too_large_is_refused_and_nothing_is_queued)
{
    static char id[65536];
    open_a(1 << 20);
    struct ipc_message m = IPC_MAKE(RELEASE, IPC_NUM(1), IPC_BYTES(id, sizeof id));
    ck_assert(!ipc_channel_send(a.ch, &m));
    ck_assert_uint_eq(ipc_channel_pending(a.ch), 0);
    close(raw[1]);
}
END_TEST

START_TEST(a_pause_holds_messages_back_and_loses_none)
{
    open_a(1 << 20);
    open_b(1 << 20);
    b.pause_in_message = true;
    for (unsigned i = 1; i <= 20; i++)
        ck_assert(deliver(a.ch, i, i == 10 ? 40000 : 10));
    for (unsigned i = 1; i <= 20; i++) {
        run_until(&b.messages, i);
        settle();
        ck_assert_uint_eq(b.messages, i);
        ipc_channel_pause(b.ch, false);
    }
}
END_TEST

START_TEST(flush_writes_at_once)
{
    open_a(1 << 20);
    ck_assert(deliver(a.ch, 1, 100));
    ck_assert_uint_gt(ipc_channel_pending(a.ch), 0);
    ck_assert(ipc_channel_flush(a.ch));
    char buf[4096];
    ck_assert_int_gt((int)recv(raw[1], buf, sizeof buf, MSG_DONTWAIT), 100);
    while (deliver(a.ch, 2, 10000) && ipc_channel_flush(a.ch))
        ;
    ck_assert(!ipc_channel_flush(a.ch));
    close(raw[1]);
}
END_TEST

START_TEST(many_small_messages_leave_in_one_write)
{
    open_a(1 << 20);
    for (unsigned i = 1; i <= 100; i++)
        ck_assert(deliver(a.ch, i, 10));
    char buf[65536];
    ck_assert_int_eq((int)recv(raw[1], buf, sizeof buf, MSG_DONTWAIT), -1);
    size_t all = ipc_channel_pending(a.ch);
    event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    ck_assert_uint_eq(ipc_channel_pending(a.ch), 0);
    ck_assert_int_eq((int)recv(raw[1], buf, sizeof buf, MSG_DONTWAIT), (int)all);
    close(raw[1]);
}
END_TEST

START_TEST(the_end_of_the_peer_is_told_once_after_its_last_words)
{
    open_a(1 << 20);
    open_b(1 << 20);
    ck_assert(deliver(a.ch, 1, 50000));
    ck_assert(ipc_channel_flush(a.ch));
    ipc_channel_free(a.ch);
    a.ch = NULL;
    run_until(&b.closed, 1);
    settle();
    ck_assert_uint_eq(b.messages, 1);
    ck_assert_uint_eq(b.closed, 1);
    ck_assert_str_eq(b.why, "closed by the peer");
    ck_assert(!deliver(b.ch, 1, 1));
    ck_assert(ipc_channel_flush(b.ch));
}
END_TEST

START_TEST(a_message_cut_off_by_the_end_is_not_delivered)
{
    open_b(1 << 20);
    struct ipc_message m = IPC_MAKE(CLAIM, IPC_NUM(77), IPC_NUM(1), IPC_BYTES("client", 6));
    char buf[64];
    ipc_encode(&m, buf);
    ck_assert_int_gt((int)write(raw[0], buf, ipc_size(&m) - 1), 0);
    close(raw[0]);
    run_until(&b.closed, 1);
    ck_assert_uint_eq(b.messages, 0);
    ck_assert_str_eq(b.why, "closed by the peer inside a message");
}
END_TEST

START_TEST(last_words_are_heard_although_writing_has_failed)
{
    open_a(1 << 20);
    open_b(1 << 20);
    ck_assert(deliver(a.ch, 1, 10));
    ck_assert(ipc_channel_flush(a.ch));
    ipc_channel_free(a.ch);
    a.ch = NULL;
    ck_assert(deliver(b.ch, 1, 10)); /* the socket is gone, but nobody knows yet */
    ipc_channel_flush(b.ch);
    run_until(&b.closed, 1);
    ck_assert_uint_eq(b.messages, 1);
    ck_assert_uint_eq(b.closed, 1);
}
END_TEST

START_TEST(garbage_closes_the_channel_with_a_reason)
{
    static const char *const garbage[] = {"GET / HTTP/1.1\r\n\r\n", "\0\0\0\0\0\0\0\0", "\2\0\0\0\377\377"};
    static const size_t len[] = {18, 8, 6};
    for (int i = 0; i < 3; i++) {
        if (i > 0)
            setup();
        open_b(1 << 20);
        ck_assert_int_eq((int)write(raw[0], garbage[i], len[i]), (int)len[i]);
        run_until(&b.closed, 1);
        ck_assert_uint_eq(b.messages, 0);
        ck_assert_uint_gt(strlen(b.why), 0);
        ck_assert_int_eq((int)write(raw[0], garbage[i], len[i]), (int)len[i]);
        settle();
        ck_assert_uint_eq(b.closed, 1);
        close(raw[0]);
        if (i < 2) {
            ipc_channel_free(b.ch);
            event_base_free(base);
        }
    }
}
END_TEST

START_TEST(good_messages_before_garbage_count)
{
    open_b(1 << 20);
    struct ipc_message m = IPC_MAKE(CLAIM, IPC_NUM(77), IPC_NUM(1), IPC_BYTES("client", 6));
    char buf[128];
    size_t n = ipc_size(&m);
    ipc_encode(&m, buf);
    memset(buf + n, 0xEE, 50);
    ck_assert_int_gt((int)write(raw[0], buf, n + 50), 0);
    run_until(&b.closed, 1);
    ck_assert_uint_eq(b.messages, 1);
    close(raw[0]);
}
END_TEST

START_TEST(freeing_inside_message_is_safe)
{
    open_a(1 << 20);
    open_b(1 << 20);
    b.free_in_message = true;
    for (unsigned i = 1; i <= 50; i++)
        ck_assert(deliver(a.ch, i, 1000));
    run_until(&b.messages, 1);
    run_until(&a.closed, 1);
    ck_assert_uint_eq(b.messages, 1);
    ck_assert_uint_eq(b.closed, 0);
}
END_TEST

START_TEST(freeing_inside_a_large_message_is_safe)
{
    open_a(8 << 20);
    open_b(8 << 20);
    b.free_in_message = true;
    ck_assert(deliver(a.ch, 1, 2 << 20));
    ck_assert(deliver(a.ch, 2, 2 << 20));
    run_until(&b.messages, 1);
    run_until(&a.closed, 1);
    ck_assert_uint_eq(b.messages, 1);
}
END_TEST

START_TEST(freeing_inside_closed_is_safe)
{
    open_a(1 << 20);
    open_b(1 << 20);
    b.free_in_closed = true;
    ck_assert(deliver(b.ch, 1, 100));
    ipc_channel_free(a.ch);
    a.ch = NULL;
    run_until(&b.closed, 1);
    ck_assert_ptr_null(b.ch);
}
END_TEST

START_TEST(freeing_with_output_waiting_is_safe)
{
    open_a(8 << 20);
    open_b(8 << 20);
    ipc_channel_pause(b.ch, true);
    ck_assert(deliver(a.ch, 1, 4 << 20));
    settle();
    ipc_channel_free(a.ch);
    a.ch = NULL;
    ipc_channel_pause(b.ch, false);
    run_until(&b.closed, 1);
    ck_assert_uint_eq(b.messages, 0);
    ipc_channel_free(NULL);
}
END_TEST

START_TEST(a_flood_from_one_peer_does_not_starve_another)
{
    open_a(64 << 20);
    open_b(64 << 20);
    struct end c = {0}, d = {0};
    int other[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, other), 0);
    c.ch = ipc_channel_new(base, other[0], 1 << 20, &handler, &c);
    d.ch = ipc_channel_new(base, other[1], 1 << 20, &handler, &d);
    for (unsigned i = 1; i <= 4000; i++)
        ck_assert(deliver(a.ch, i, 10000));
    ck_assert(deliver(c.ch, 1, 10));
    run_until(&d.messages, 1);
    ck_assert_uint_lt(b.messages, 400);
    run_until(&b.messages, 4000);
    ipc_channel_free(c.ch);
    ipc_channel_free(d.ch);
}
END_TEST

#ifndef __SANITIZE_ADDRESS__
START_TEST(no_memory_stays_behind_after_a_burst)
{
    open_a(64 << 20);
    open_b(64 << 20);
    ck_assert(deliver(a.ch, 1, 10));
    run_until(&b.messages, 1);
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    for (unsigned i = 2; i <= 1000; i++)
        ck_assert(deliver(a.ch, i, i * 20));
    ck_assert(deliver(a.ch, 1001, 4 << 20));
    run_until(&b.messages, 1001);
    settle();
    size_t after = mallinfo2().uordblks + mallinfo2().hblkhd;
    /* 14 MB went through; the C library's cache of small blocks counts as used */
    ck_assert_uint_le(after, before + (64 << 10));
}
END_TEST
#endif

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, many_small_messages_arrive_in_order);
    tcase_add_test(tc, messages_of_every_size_around_the_buffer_arrive);
    tcase_add_test(tc, messages_of_many_megabytes_arrive);
    tcase_add_test(tc, both_ends_may_talk_at_once);
    tcase_add_test(tc, one_byte_at_a_time_is_understood);
    tcase_add_test(tc, above_the_limit_sending_is_refused_until_half_is_gone);
    tcase_add_test(tc, one_message_above_the_limit_passes_when_nothing_waits);
    tcase_add_test(tc, a_field_too_large_is_refused_and_nothing_is_queued);
    tcase_add_test(tc, a_pause_holds_messages_back_and_loses_none);
    tcase_add_test(tc, flush_writes_at_once);
    tcase_add_test(tc, many_small_messages_leave_in_one_write);
    tcase_add_test(tc, the_end_of_the_peer_is_told_once_after_its_last_words);
    tcase_add_test(tc, a_message_cut_off_by_the_end_is_not_delivered);
    tcase_add_test(tc, last_words_are_heard_although_writing_has_failed);
    tcase_add_test(tc, garbage_closes_the_channel_with_a_reason);
    tcase_add_test(tc, good_messages_before_garbage_count);
    tcase_add_test(tc, freeing_inside_message_is_safe);
    tcase_add_test(tc, freeing_inside_a_large_message_is_safe);
    tcase_add_test(tc, freeing_inside_closed_is_safe);
    tcase_add_test(tc, freeing_with_output_waiting_is_safe);
    tcase_add_test(tc, a_flood_from_one_peer_does_not_starve_another);
#ifndef __SANITIZE_ADDRESS__
    tcase_add_test(tc, no_memory_stays_behind_after_a_burst);
#endif
}

UNIT_MAIN("ipc_channel")
