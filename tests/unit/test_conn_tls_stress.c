/*
 * TLS connections under all that can happen to their output at once, in random order: shared frames small and
 * large, some of which must arrive, answers, key updates, holds of the input, sockets that take little,
 * clients that read and write a few bytes at a time, both policies. Every packet says what it is and which
 * number it has, so the client knows what is missing.
 *
 * The seed of a failure is in the program's first line; STRESS_SEED in the environment sets it.
 */
#include <stdio.h>

#include "tests/unit/conn_tls_rig.h"

#define STEPS       2500
#define HEAD        8           /* length, kind, number, part */
#define ANSWERS_MAX (15u << 10) /* unread at once: output_limit leaves room for 16 KB on top */
#define UPDATES_MAX 10          /* key updates in a row */
#define HUGE_PARTS  18
#define HUGE_PART   58000

/* What packets are. A frame's are in order, and parts of one are together; answers and echoes are all there.
 */
enum kind { FRAME = 1, ANSWER, ECHO, KINDS };

static struct stress {
    struct client c;
    int suite;
    bool parks;
    uint32_t sent[KINDS]; /* by the server, without ECHO; as numbers of the next */
    uint32_t next[KINDS]; /* that the client expects at least */
    uint32_t asked, handled, frames_got;
    bool must_arrive[STEPS]; /* frames, by number */
    unsigned part;           /* of the frame that is coming: how many follow */
    size_t unread;           /* of answers and echoes */
    unsigned updates;
    char wire[1 << 20]; /* of the client, not sent yet */
    size_t wire_len;
    unsigned char in[1 << 17];
    size_t in_len;
} run;

static uint32_t base_seed, random_state;

/* 0 to n - 1. */
static uint32_t pick(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state % n;
}

static int filler(enum kind kind, uint32_t number, unsigned part)
{
    return (int)(((uint32_t)kind * 71 + number * 13 + part * 7) & 0xFF);
}

/* Writes a packet of len bytes, HEAD or more. */
static void make_packet(unsigned char *p, size_t len, enum kind kind, uint32_t number, unsigned part)
{
    p[0] = (unsigned char)((len - 2) >> 8);
    p[1] = (unsigned char)(len - 2);
    p[2] = (unsigned char)kind;
    p[3] = (unsigned char)(number >> 24);
    p[4] = (unsigned char)(number >> 16);
    p[5] = (unsigned char)(number >> 8);
    p[6] = (unsigned char)number;
    p[7] = (unsigned char)part;
    memset(p + HEAD, filler(kind, number, part), len - HEAD);
}

/* ---- server ---- */

/* What a client asks is answered, as long as it reads the answers. */
static void packet(uint32_t id, const unsigned char *p, size_t len)
{
    uint32_t number = (uint32_t)p[3] << 24 | (uint32_t)p[4] << 16 | (uint32_t)p[5] << 8 | p[6];
    ck_assert_uint_eq(number, run.handled++);
    ck_assert(!net_is_held(t.net, id));
    if (pick(8) == 0)
        net_hold(t.net, id, true);
    if (pick(16) == 0)
        net_hold(t.net, id, false);
    ck_assert(all_are(p + HEAD, len - HEAD, filler(ECHO, number, 0)));
    if (run.unread + len > ANSWERS_MAX)
        return;
    run.unread += len;
    ck_assert_int_le(net_send(t.net, id, p, len), SEND_QUEUED);
}

/* The handler has looked at its input. */
static void after_packets(uint32_t id)
{
    if (pick(4) == 0)
        net_hold(t.net, id, false);
}

static void send_answer(void)
{
    unsigned char p[HEAD + 300];
    size_t len = HEAD + pick(300);
    if (run.unread + len > ANSWERS_MAX)
        return;
    make_packet(p, len, ANSWER, run.sent[ANSWER]++, 0);
    run.unread += len;
    ck_assert_int_le(net_send(t.net, run.c.id, p, len), SEND_QUEUED);
}

static struct frame *make_frame(unsigned parts, size_t len)
{
    struct frame *f = frame_new(parts * len);
    for (unsigned i = 0; i < parts; i++)
        make_packet(f->data + i * len, len, FRAME, run.sent[FRAME], parts - 1 - i); /* how many follow */
    run.sent[FRAME]++;
    return f;
}

/* With the policy to disconnect none is sent that would do it. */
static void send_a_frame(void)
{
    bool huge = pick(80) == 0;
    size_t len = HEAD + (pick(12) ? pick(1500) : pick(HUGE_PART));
    size_t pending = net_pending(t.net, run.c.id);
    if (t.disconnect && pending && (huge || pending + len > LIMIT / 2))
        return;
    struct frame *f = huge ? make_frame(HUGE_PARTS, HUGE_PART) : make_frame(1, len);
    f->must_arrive = run.must_arrive[run.sent[FRAME] - 1] = pending < LIMIT / 2 && pick(5) == 0;
    enum send_result r = net_send_frame(t.net, run.c.id, f);
    ck_assert_int_ne(r, SEND_GONE);
    ck_assert(r != SEND_DROPPED || !(t.disconnect || f->must_arrive));
    frame_unref(f);
}

/* ---- client ---- */

static void take_packet(const unsigned char *p, size_t len)
{
    enum kind kind = p[2];
    uint32_t number = (uint32_t)p[3] << 24 | (uint32_t)p[4] << 16 | (uint32_t)p[5] << 8 | p[6];
    ck_assert_int_gt(kind, 0);
    ck_assert_int_lt(kind, KINDS);
    ck_assert(all_are(p + HEAD, len - HEAD, filler(kind, number, p[7])));
    if (run.part) { /* in the middle of a frame */
        ck_assert_int_eq(kind, FRAME);
        ck_assert_uint_eq(number, run.next[FRAME] - 1);
        ck_assert_uint_eq(p[7], --run.part);
        return;
    }
    if (kind == ANSWER || (kind == FRAME && t.disconnect))
        ck_assert_uint_eq(number, run.next[kind]);
    else
        ck_assert_uint_ge(number, run.next[kind]);
    for (uint32_t missing = run.next[FRAME]; kind == FRAME && missing < number; missing++)
        ck_assert(!run.must_arrive[missing]);
    run.next[kind] = number + 1;
    run.part = p[7];
    run.frames_got += kind == FRAME;
    if (kind != FRAME)
        run.unread -= len;
}

/* Reads up to max bytes from the socket, and looks at the packets that are whole. */
static void client_reads(size_t max)
{
    char wire[4096];
    ssize_t n = recv(run.c.fd, wire, max < sizeof wire ? max : sizeof wire, 0);
    int got;
    if (n > 0)
        BIO_write(run.c.in, wire, (int)n);
    while ((got = SSL_read(run.c.ssl, run.in + run.in_len, (int)(sizeof run.in - run.in_len))) > 0) {
        size_t at = 0;
        run.in_len += (size_t)got;
        for (size_t len; run.in_len - at >= 2; at += len) {
            len = 2 + ((size_t)run.in[at] << 8 | run.in[at + 1]);
            if (run.in_len - at < len)
                break;
            take_packet(run.in + at, len);
        }
        memmove(run.in, run.in + at, run.in_len -= at);
    }
    ck_assert_int_eq(SSL_get_error(run.c.ssl, got), SSL_ERROR_WANT_READ);
}

/* Sends up to max bytes of what the client has written. */
static void client_writes(size_t max)
{
    int n = BIO_read(run.c.out, run.wire + run.wire_len, (int)(sizeof run.wire - run.wire_len));
    if (n > 0)
        run.wire_len += (size_t)n;
    size_t len = max < run.wire_len ? max : run.wire_len;
    ssize_t sent = len ? send(run.c.fd, run.wire, len, MSG_NOSIGNAL) : 0;
    if (sent > 0)
        memmove(run.wire, run.wire + sent, run.wire_len -= (size_t)sent);
}

static void client_asks(void)
{
    static unsigned char p[HEAD + 20000];
    size_t len = HEAD + (pick(12) ? pick(200) : pick(20000));
    if (run.wire_len > sizeof run.wire / 2)
        return;
    make_packet(p, len, ECHO, run.asked++, 0);
    ck_assert_int_eq(SSL_write(run.c.ssl, p, (int)len), (int)len);
    run.updates = 0;
}

/*
 * An OpenSSL 3.0 that is asked for an update while it waits to write ends the connection at times (its issues
 * 8677 and 13729), so only connections with keys of their own are asked.
 */
static void client_updates_keys(void)
{
    if (suites[run.suite].version != TLS1_3_VERSION || run.updates++ >= UPDATES_MAX)
        return;
    ck_assert_int_eq(SSL_key_update(run.c.ssl, pick(2) && run.parks), 1);
    SSL_do_handshake(run.c.ssl);
}

/* ---- all together ---- */

static void step(void)
{
    uint32_t what = pick(100);
    if (what < 25)
        send_a_frame();
    else if (what < 30)
        send_answer();
    else if (what < 42)
        client_asks();
    else if (what < 46)
        client_updates_keys();
    else if (what < 66)
        client_writes(pick(4) ? pick(50) : pick(30000));
    else if (what < 69)
        net_hold(t.net, run.c.id, pick(2));
    else if (what < 89)
        client_reads(pick(3) ? 1 + pick(300) : 4096);
    else
        event_base_loop(t.base, EVLOOP_NONBLOCK);
}

/* Lets all that waits arrive. */
static void settle(void)
{
    for (int idle = 0; idle < 5; idle++) {
        size_t before = run.wire_len + run.in_len;
        uint32_t count = run.next[FRAME] + run.next[ANSWER] + run.next[ECHO] + run.handled + run.part;
        for (int i = 0; i < 20; i++) {
            net_hold(t.net, run.c.id, false);
            client_writes(30000);
            event_base_loop(t.base, EVLOOP_NONBLOCK);
            client_reads(4096);
        }
        if (before != run.wire_len + run.in_len ||
            count != run.next[FRAME] + run.next[ANSWER] + run.next[ECHO] + run.handled + run.part)
            idle = 0;
    }
}

START_TEST(nothing_is_lost_or_mixed_up)
{
    static const int room[] = {0, 4096, 20000};
    memset(&run, 0, sizeof run);
    random_state = base_seed * 2654435761u + (uint32_t)_i * 40503u + 1;
    run.suite = _i % N_SUITES;
    settings()->parking = pick(8) != 0;
    run.parks = t.config.tls[0].parking && suites[run.suite].parks;
    t.disconnect = _i >= N_SUITES;
    t.packet = packet;
    t.after = after_packets;
    make_client_context(suites[run.suite].version, suites[run.suite].ciphers);
    start(10);
    join(&run.c);
    int size = room[pick(3)];
    if (size)
        setsockopt(net_conn(t.net, run.c.id)->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    for (int i = 0; i < STEPS; i++) {
        step();
        ck_assert_uint_eq(net_count(t.net), 1);
        ck_assert_int_eq(state(&run.c),
                         state(&run.c) == CONN_PARKED && run.parks ? CONN_PARKED : CONN_ACTIVE);
        if (i % 500 == 499)
            settle();
    }
    settle();
    ck_assert_uint_eq(run.handled, run.asked);
    ck_assert_uint_eq(run.next[ANSWER], run.sent[ANSWER]);
    ck_assert_uint_eq(run.unread, 0);
    ck_assert_uint_eq(run.in_len + run.part, 0);
    ck_assert_uint_eq(run.frames_got + counter_get(counters_mine, COUNTER_DELIVERIES_DROPPED),
                      run.sent[FRAME]);
    ck_assert_uint_eq(net_pending(t.net, run.c.id), 0);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_OUTPUT_BYTES), 0);
    ck_assert_int_eq(state(&run.c), run.parks ? CONN_PARKED : CONN_ACTIVE);
    leave(&run.c);
    finish();
}
END_TEST

static void add_tests(TCase *tc)
{
    const char *given = getenv("STRESS_SEED");
    base_seed = given ? (uint32_t)strtoul(given, NULL, 10) : (uint32_t)getpid();
    printf("STRESS_SEED=%u\n", base_seed);
    make_shared();
    tcase_set_timeout(tc, 60);
    tcase_add_unchecked_fixture(tc, NULL, remove_shared);
    tcase_add_loop_test(tc, nothing_is_lost_or_mixed_up, 0, 2 * N_SUITES);
}

UNIT_MAIN("conn_tls_stress")
