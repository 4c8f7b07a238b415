/*
 * Held connections, in plaintext and with every cipher suite: what waits, what is looked at when the hold
 * ends, and that nothing turns the loop or ends the connection meanwhile.
 */
#include "tests/unit/conn_tls_rig.h"

#define PLAINTEXT 1 /* a listener without TLS */

/* What the packets said, a byte of each. */
static char seen[4096];
static size_t seen_len;

static uint32_t other;   /* the connection that 'O' releases */
static uint32_t pair[2]; /* connections that hold each other with 'N' */

/* 'H' holds; 'B' holds and releases at once; 'O' releases another, 'N' holds another; '!' holds
 * and closes. */
static void take(uint32_t id, const unsigned char *p, size_t len)
{
    ck_assert_uint_ge(len, 3);
    ck_assert(!net_is_held(t.net, id));
    if (seen_len < sizeof seen - 1)
        seen[seen_len++] = (char)p[2];
    if (p[2] == 'H' || p[2] == 'B' || p[2] == '!')
        net_hold(t.net, id, true);
    if (p[2] == 'B')
        net_hold(t.net, id, false);
    if (p[2] == 'O')
        net_hold(t.net, other, false);
    if (p[2] == 'N')
        net_hold(t.net, pair[id == pair[0]], true);
    if (p[2] == '!')
        net_close(t.net, id, CLOSE_CLIENT_DISCONNECT);
}

/* The handler has seen exactly these packets since the last time. */
static void expect_seen(const char *want)
{
    seen[seen_len] = '\0';
    ck_assert_str_eq(seen, want);
    seen_len = 0;
}

/* Connects one client, in plaintext when the number is that of no suite. */
static void connect_client(struct client *c, int suite)
{
    if (suite < N_SUITES) {
        join(c);
        return;
    }
    int fd[2];
    loop_pair(fd);
    *c = (struct client){.fd = fd[1], .id = net_adopt(t.net, fd[0], PLAINTEXT)};
    ck_assert_uint_ne(c->id, 0);
}

static void start_with(int suite)
{
    memset(seen, 0, sizeof seen);
    seen_len = 0;
    settings();
    make_client_context(suites[suite % N_SUITES].version, suites[suite % N_SUITES].ciphers);
    start(10);
    t.packet = take;
}

/* A net with one client. */
static void begin_with(struct client *c, int suite)
{
    start_with(suite);
    connect_client(c, suite);
}

/* Whether the connection has nothing but its record: OpenSSL's own never do. */
static bool rests(const struct client *c, int suite)
{
    return state(c) == (suite < N_SUITES && !suites[suite].parks ? CONN_ACTIVE : CONN_PARKED);
}

/* Seals or buffers bytes without sending them. */
static BIO *plain_out;
static void put(struct client *c, const void *data, size_t len)
{
    if (c->ssl)
        ck_assert_int_eq(SSL_write(c->ssl, data, (int)len), (int)len);
    else
        BIO_write(plain_out, data, (int)len);
}

/* Makes a packet of each letter; they are in one record. */
static void say_later(struct client *c, const char *letters)
{
    unsigned char all[300];
    size_t len = 0;
    for (; *letters; letters++) {
        all[len++] = 0;
        all[len++] = 1;
        all[len++] = (unsigned char)*letters;
    }
    put(c, all, len);
}

/* Sends as much as the socket takes of what was put. True: all of it. */
static bool pump(struct client *c)
{
    static char rest[1 << 20];
    static size_t rest_len;
    BIO *from = c->ssl ? c->out : plain_out;
    for (;;) {
        if (!rest_len) {
            int n = BIO_read(from, rest, sizeof rest);
            if (n <= 0)
                return true;
            rest_len = (size_t)n;
        }
        ssize_t sent = send(c->fd, rest, rest_len, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        rest_len -= (size_t)sent;
        memmove(rest, rest + sent, rest_len);
    }
}

/* Sends packets, and lets the gateway look. */
static void say(struct client *c, const char *letters)
{
    say_later(c, letters);
    ck_assert(pump(c));
    loop_turn(t.base);
}

static void end(struct client *c)
{
    if (c->ssl)
        leave(c);
    else
        close(c->fd);
    loop_turn(t.base);
}

static bool timer_fired;
static void timer_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
    timer_fired = true;
}

/* Nothing but a timer wakes the loop. */
static void expect_quiet(void)
{
    const struct timeval soon = {0, 20000};
    loop_turn(t.base);
    timer_fired = false;
    ck_assert_int_eq(event_base_once(t.base, -1, EV_TIMEOUT, timer_cb, NULL, &soon), 0);
    ck_assert_int_eq(event_base_loop(t.base, EVLOOP_ONCE), 0);
    ck_assert(timer_fired);
}

START_TEST(what_was_not_taken_is_kept_and_looked_at_at_the_release)
{
    struct client c;
    begin_with(&c, _i);
    say(&c, "aHbc");
    expect_seen("aH");
    ck_assert(net_is_held(t.net, c.id));
    ck_assert_int_eq(state(&c), CONN_ACTIVE);
    say(&c, "de");
    expect_seen("");
    expect_quiet();
    net_hold(t.net, c.id, true); /* is so already */
    net_hold(t.net, c.id, false);
    expect_seen("bc"); /* before it returned */
    ck_assert(!net_is_held(t.net, c.id));
    net_hold(t.net, c.id, false);
    loop_turn(t.base);
    expect_seen("de");
    ck_assert(rests(&c, _i));
    say(&c, "f");
    expect_seen("f");
    end(&c);
    ck_assert_int_eq(t.reason, CLOSE_PEER_CLOSED);
    finish();
}
END_TEST

START_TEST(a_held_connection_with_nothing_left_keeps_only_its_record)
{
    struct client c;
    begin_with(&c, _i);
    say(&c, "H");
    ck_assert(rests(&c, _i));
    say(&c, "a");
    expect_seen("H");
    expect_quiet();
    net_hold(t.net, c.id, false);
    loop_turn(t.base);
    expect_seen("a");
    net_hold(t.net, c.id, true); /* from outside of its input */
    ck_assert(rests(&c, _i));
    say(&c, "b");
    expect_quiet();
    expect_seen("");
    net_hold(t.net, c.id, false);
    net_hold(t.net, c.id, true);
    loop_turn(t.base);
    expect_seen("");
    net_hold(t.net, c.id, false);
    loop_turn(t.base);
    expect_seen("b");
    end(&c);
    finish();
}
END_TEST

START_TEST(output_goes_on)
{
    struct client c;
    unsigned char got[9];
    begin_with(&c, _i);
    say(&c, "Ha");
    ck_assert_int_ne(net_send(t.net, c.id, "\0\4echo", 6), SEND_GONE);
    net_hold(t.net, c.id, false);
    net_hold(t.net, c.id, true);
    ck_assert_int_ne(net_send(t.net, c.id, "\0\1.", 3), SEND_GONE);
    loop_turn(t.base);
    if (c.ssl) {
        read_exactly(&c, got, 9);
        ck_assert_mem_eq(got, "\0\4echo\0\1.", 9);
    } else {
        client_expect(c.fd, "\0\4echo\0\1.", 9);
    }
    net_hold(t.net, c.id, false);
    end(&c);
    finish();
}
END_TEST

START_TEST(output_may_block_and_drain_meanwhile)
{
    struct client c;
    static unsigned char got[2 + BIG];
    struct frame *f = packet_frame(BIG, 'z');
    unsigned sent = 0;
    begin_with(&c, _i);
    say(&c, "H");
    while (net_send_frame(t.net, c.id, f) == SEND_DONE)
        ck_assert_uint_lt(++sent, 100);
    sent++;
    ck_assert_int_eq(state(&c), CONN_ACTIVE);
    say(&c, "ab");
    expect_quiet();
    for (unsigned i = 0; i < sent; i++) {
        if (c.ssl) {
            read_exactly(&c, got, sizeof got);
        } else {
            for (size_t have = 0; have < sizeof got; loop_turn(t.base))
                have += client_read(c.fd, got + have, sizeof got - have);
        }
        ck_assert(all_are(got + 2, BIG, 'z'));
    }
    loop_turn(t.base);
    ck_assert_uint_eq(net_pending(t.net, c.id), 0);
    ck_assert(rests(&c, _i)); /* all was sent, nothing was left of the input */
    expect_seen("H");
    net_hold(t.net, c.id, false);
    loop_turn(t.base);
    expect_seen("ab");
    frame_unref(f);
    end(&c);
    finish();
}
END_TEST

START_TEST(the_handler_may_hold_again_while_it_looks)
{
    struct client c;
    begin_with(&c, _i);
    say(&c, "HaHHbH");
    expect_seen("H");
    net_hold(t.net, c.id, false);
    expect_seen("aH");
    net_hold(t.net, c.id, false);
    expect_seen("H");
    say(&c, "cH");
    net_hold(t.net, c.id, false);
    expect_seen("bH");
    expect_quiet();
    net_hold(t.net, c.id, false);
    loop_turn(t.base);
    expect_seen("cH");
    end(&c);
    ck_assert_uint_eq(t.closed, 0); /* its end is not read */
    net_hold(t.net, c.id, false);
    loop_turn(t.base);
    ck_assert_uint_eq(t.closed, 1);
    finish();
}
END_TEST

/* Releases what is held: the handler has returned from its packets because of the hold. */
static void release_after(uint32_t id) { net_hold(t.net, id, false); }

START_TEST(the_handler_may_release_within_its_own_input)
{
    struct client c;
    begin_with(&c, _i);
    say(&c, "aBbBc");
    expect_seen("aBbBc");
    ck_assert(rests(&c, _i));
    t.after = release_after;
    say(&c, "aHbHHc");
    expect_seen("aHbHHc");
    ck_assert(!net_is_held(t.net, c.id));
    ck_assert(rests(&c, _i));
    /* Also when it is active: the start of a packet waits. */
    put(&c, "\0", 1);
    ck_assert(pump(&c));
    loop_turn(t.base);
    ck_assert_int_eq(state(&c), CONN_ACTIVE);
    put(&c, "\1H", 2);
    say(&c, "dBe");
    expect_seen("HdBe");
    ck_assert(rests(&c, _i));
    say(&c, "f");
    expect_seen("f");
    end(&c);
    finish();
}
END_TEST

START_TEST(one_connection_may_release_another)
{
    struct client a, b;
    begin_with(&a, _i);
    connect_client(&b, _i);
    say(&b, "Hxy");
    expect_seen("H");
    other = b.id;
    say(&a, "1O2");
    expect_seen("1Oxy2");
    ck_assert(rests(&b, _i));
    say(&b, "Hz");
    expect_seen("H");
    put(&a, "\0", 1); /* active itself */
    ck_assert(pump(&a));
    loop_turn(t.base);
    put(&a, "\1O", 2);
    say(&a, "3");
    expect_seen("Oz3");
    end(&a);
    end(&b);
    finish();
}
END_TEST

/* Both are ready when the gateway looks; whichever it looks at first holds the other, parked or active. */
START_TEST(one_connection_may_hold_another_that_is_ready)
{
    struct client c[2];
    begin_with(&c[0], _i);
    connect_client(&c[1], _i);
    for (int i = 0; i < 2; i++)
        pair[i] = c[i].id;
    for (int active = 0; active < 2; active++) {
        for (int i = 0; i < 2 && active; i++) { /* the start of a packet */
            put(&c[i], "\0", 1);
            ck_assert(pump(&c[i]));
        }
        loop_turn(t.base);
        for (int i = 0; i < 2; i++) {
            put(&c[i], "\0\1N" + active, 3 - (size_t)active);
            ck_assert(pump(&c[i]));
        }
        loop_turn(t.base);
        expect_seen("N");
        expect_quiet();
        ck_assert(active || (rests(&c[0], _i) && rests(&c[1], _i)));
        for (int i = 0; i < 4; i++)
            net_hold(t.net, pair[i % 2], false);
        loop_turn(t.base);
        expect_seen("N");
        for (int i = 0; i < 2; i++)
            net_hold(t.net, pair[i], false);
    }
    for (int i = 0; i < 2; i++)
        end(&c[i]);
    finish();
}
END_TEST

START_TEST(a_fast_sender_waits_in_its_socket)
{
    enum { PACKETS = 100, LEN = 10000 };
    struct client c;
    begin_with(&c, _i);
    static unsigned char p[2 + LEN];
    p[0] = LEN >> 8;
    p[1] = LEN & 255;
    memset(p + 2, 'p', LEN);
    say_later(&c, "H");
    for (int i = 0; i < PACKETS; i++)
        put(&c, p, sizeof p);
    uint64_t before = counter_get(counters_mine, COUNTER_BYTES_IN);
    bool all = false;
    for (int i = 0; i < 20; i++) {
        all = pump(&c);
        loop_turn(t.base);
    }
    ck_assert(!all);
    expect_seen("H");
    ck_assert_uint_le(counter_get(counters_mine, COUNTER_BYTES_IN) - before, 64 << 10);
    expect_quiet();
    net_hold(t.net, c.id, false);
    for (int i = 0; i < 200 && !all; i++) {
        all = pump(&c);
        loop_turn(t.base);
    }
    ck_assert_uint_eq(seen_len, PACKETS);
    ck_assert(rests(&c, _i));
    end(&c);
    finish();
}
END_TEST

START_TEST(deadlines_of_packets_stand_still)
{
    struct client c;
    begin_with(&c, _i);
    say(&c, "Ha");
    net_sweep(t.net, START_MS + 1);
    net_hold(t.net, c.id, false);
    expect_seen("Ha");
    put(&c, "\0\2x", 3);
    ck_assert(pump(&c));
    loop_turn(t.base);
    ck_assert_int_eq(state(&c), CONN_ACTIVE);
    net_hold(t.net, c.id, true);
    clock_fake(START_MS + 60000);
    net_sweep(t.net, START_MS + 50000);
    ck_assert_int_eq(state(&c), CONN_ACTIVE);
    net_hold(t.net, c.id, false); /* from here on it is timed again */
    net_sweep(t.net, START_MS + 60000);
    ck_assert_int_eq(state(&c), CONN_ACTIVE);
    put(&c, "y", 1);
    say(&c, "Hb");
    expect_seen("xH");
    clock_fake(START_MS + 120000);
    net_sweep(t.net, START_MS + 110000); /* a whole packet waits */
    ck_assert_int_eq(state(&c), CONN_ACTIVE);
    put(&c, "\0\2", 2);
    ck_assert(pump(&c));
    net_hold(t.net, c.id, false);
    loop_turn(t.base);
    expect_seen("b");
    ck_assert_int_eq(state(&c), CONN_ACTIVE);
    net_sweep(t.net, START_MS + 120001);
    ck_assert_int_eq(state(&c), CONN_DOOMED);
    loop_turn(t.base);
    ck_assert_int_eq(t.reason, CLOSE_PACKET_TIMEOUT);
    end(&c);
    finish();
}
END_TEST

START_TEST(an_end_in_good_order_comes_after_what_was_before_it)
{
    struct client c;
    begin_with(&c, _i);
    say_later(&c, "HaHb"); /* in one read with the end */
    if (c.ssl)
        SSL_shutdown(c.ssl);
    ck_assert(pump(&c));
    shutdown(c.fd, SHUT_WR);
    loop_turn(t.base);
    expect_seen("H");
    ck_assert_uint_eq(t.closed, 0);
    expect_quiet();
    net_hold(t.net, c.id, false);
    expect_seen("aH");
    expect_quiet();
    ck_assert_uint_eq(t.closed, 0);
    net_hold(t.net, c.id, false);
    expect_seen("b");
    loop_turn(t.base);
    ck_assert_uint_eq(t.closed, 1);
    ck_assert_int_eq(t.reason, CLOSE_PEER_CLOSED);
    end(&c);
    finish();
}
END_TEST

START_TEST(a_peer_that_vanishes_turns_no_loop)
{
    struct client c[3];
    start_with(_i);
    for (int i = 0; i < 3; i++)
        connect_client(&c[i], _i);
    say(&c[0], "H");
    say(&c[1], "Ha");
    say(&c[2], "Hb");
    seen_len = 0;
    for (int i = 0; i < 3; i++)
        end(&c[i]);
    expect_quiet();
    ck_assert_uint_eq(t.closed, 0);
    net_send(t.net, c[2].id, "\0\1.", 3); /* that is another way to find out */
    loop_turn(t.base);
    ck_assert_uint_eq(t.closed, 1);
    net_hold(t.net, c[0].id, false);
    net_hold(t.net, c[1].id, false);
    expect_seen("a");
    loop_turn(t.base);
    ck_assert_uint_eq(t.closed, 3);
    finish();
}
END_TEST

START_TEST(held_and_closed)
{
    struct client c;
    begin_with(&c, _i);
    say(&c, "a!b");
    expect_seen("a!");
    ck_assert_uint_eq(t.closed, 1);
    ck_assert_int_eq(t.reason, CLOSE_CLIENT_DISCONNECT);
    end(&c);
    connect_client(&c, _i);
    say(&c, "Hb");
    net_close(t.net, c.id, CLOSE_SHUTDOWN);
    net_hold(t.net, c.id, false); /* too late */
    expect_seen("H");
    loop_turn(t.base);
    ck_assert_uint_eq(t.closed, 2);
    end(&c);
    finish();
}
END_TEST

static void hold_at_once(uint32_t id) { net_hold(t.net, id, true); }

START_TEST(held_before_anything_was_read)
{
    struct client c;
    start_with(_i);
    t.at_opened = hold_at_once;
    if (_i < N_SUITES) {
        join_quietly(&c);
        net_hold(t.net, c.id, true); /* a handshake cannot be held */
        ck_assert(!net_is_held(t.net, c.id));
        shake_hands(&c);
        say(&c, "ab"); /* with the last message of the handshake, in 1.3 */
    } else {
        connect_client(&c, _i);
        say(&c, "ab");
    }
    ck_assert(net_is_held(t.net, c.id));
    expect_seen("");
    expect_quiet();
    net_hold(t.net, c.id, false);
    loop_turn(t.base);
    expect_seen("ab");
    ck_assert(rests(&c, _i));
    end(&c);
    finish();
}
END_TEST

START_TEST(part_of_a_packet_or_record_waits_too)
{
    struct client c;
    char bytes[400];
    begin_with(&c, _i);
    say_later(&c, "Ha");
    say_later(&c, "b");
    BIO *from = c.ssl ? c.out : plain_out;
    int n = BIO_read(from, bytes, sizeof bytes);
    for (int i = 0; i < n; i++) {
        client_send(c.fd, bytes + i, 1);
        loop_turn(t.base);
        if (net_is_held(t.net, c.id) && (size_t)i * 2 > (size_t)n)
            net_hold(t.net, c.id, false);
    }
    loop_turn(t.base);
    net_hold(t.net, c.id, false);
    loop_turn(t.base);
    expect_seen("Hab");
    ck_assert(rests(&c, _i));
    end(&c);
    finish();
}
END_TEST

START_TEST(what_held_connections_keep_is_bounded)
{
    enum { PACKETS = 6, LEN = 10000, CLIENTS = 30 };
    struct client c[CLIENTS];
    static unsigned char p[2 + LEN];
    p[0] = LEN >> 8;
    p[1] = LEN & 255;
    start_with(N_SUITES);
    for (int i = 0; i < CLIENTS; i++) {
        connect_client(&c[i], N_SUITES);
        say_later(&c[i], "H");
        for (int k = 0; k < PACKETS; k++)
            put(&c[i], p, sizeof p);
        ck_assert(pump(&c[i]));
        loop_turn(t.base);
    }
    ck_assert_uint_gt(t.closed, 5); /* the limit is a megabyte */
    ck_assert_uint_lt(t.closed, 20);
    ck_assert_int_eq(t.reason, CLOSE_NO_MEMORY);
    for (int i = 0; i < CLIENTS; i++)
        end(&c[i]);
    finish();
}
END_TEST

static void add_tests(TCase *tc)
{
    make_shared();
    plain_out = BIO_new(BIO_s_mem());
    tcase_add_unchecked_fixture(tc, NULL, remove_shared);
    tcase_add_loop_test(tc, what_was_not_taken_is_kept_and_looked_at_at_the_release, 0, N_SUITES + 1);
    tcase_add_loop_test(tc, a_held_connection_with_nothing_left_keeps_only_its_record, 0, N_SUITES + 1);
    tcase_add_loop_test(tc, output_goes_on, 0, N_SUITES + 1);
    tcase_add_loop_test(tc, output_may_block_and_drain_meanwhile, 0, N_SUITES + 1);
    tcase_add_loop_test(tc, the_handler_may_hold_again_while_it_looks, 0, N_SUITES + 1);
    tcase_add_loop_test(tc, the_handler_may_release_within_its_own_input, 0, N_SUITES + 1);
    tcase_add_loop_test(tc, one_connection_may_release_another, 0, N_SUITES + 1);
    tcase_add_loop_test(tc, one_connection_may_hold_another_that_is_ready, 0, N_SUITES + 1);
    tcase_add_loop_test(tc, a_fast_sender_waits_in_its_socket, 0, N_SUITES + 1);
    tcase_add_loop_test(tc, deadlines_of_packets_stand_still, 0, N_SUITES + 1);
    tcase_add_loop_test(tc, an_end_in_good_order_comes_after_what_was_before_it, 0, N_SUITES + 1);
    tcase_add_loop_test(tc, a_peer_that_vanishes_turns_no_loop, 0, N_SUITES + 1);
    tcase_add_loop_test(tc, held_and_closed, 0, N_SUITES + 1);
    tcase_add_loop_test(tc, held_before_anything_was_read, 0, N_SUITES + 1);
    tcase_add_loop_test(tc, part_of_a_packet_or_record_waits_too, 0, N_SUITES + 1);
    tcase_add_test(tc, what_held_connections_keep_is_bounded);
}

UNIT_MAIN("conn_hold")
