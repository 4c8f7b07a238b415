/*
 * TLS connections whose client does not read, or whose end comes at a bad moment: what waits is bounded,
 * shared as long as it can be, in order and authentic to the last byte, and the last word still goes out.
 */
#include "tests/unit/conn_tls_rig.h"
#include "tests/unit/tls_pair.h"

#define ANSWER_ROOM (16u << 10) /* as in active.c */
#define HANDSHAKE   22
#define APPLICATION 23

static int server_fd(const struct client *c) { return net_conn(t.net, c->id)->fd; }

/* Puts bytes of no meaning into the server's socket until it takes no more. */
static size_t fill_socket(const struct client *c)
{
    char junk[4096] = {0};
    size_t filled = 0;
    ssize_t n;
    while ((n = send(server_fd(c), junk, sizeof junk, 0)) > 0 || (n = send(server_fd(c), junk, 1, 0)) > 0)
        filled += (size_t)n;
    return filled;
}

static void drain_socket(const struct client *c, size_t filled)
{
    char junk[65536];
    ssize_t n;
    while (filled && (n = recv(c->fd, junk, filled < sizeof junk ? filled : sizeof junk, 0)) > 0)
        filled -= (size_t)n;
    ck_assert_uint_eq(filled, 0);
}

/* A frame of packets of 4094 bytes content, so many that no socket takes it. */
#define LARGE_PACKETS 256
#define LARGE_CONTENT 4094
static struct frame *large_frame(char fill)
{
    struct frame *f = frame_new(LARGE_PACKETS * (2 + LARGE_CONTENT));
    for (int i = 0; i < LARGE_PACKETS; i++) {
        unsigned char *p = f->data + i * (2 + LARGE_CONTENT);
        p[0] = LARGE_CONTENT >> 8;
        p[1] = LARGE_CONTENT & 0xFF;
        memset(p + 2, fill, LARGE_CONTENT);
    }
    return f;
}

static void expect_large(struct client *c, char fill)
{
    for (int i = 0; i < LARGE_PACKETS; i++)
        expect_packet(c, LARGE_CONTENT, fill);
}

static void send_frame(const struct client *c, struct frame *f, enum send_result expected)
{
    ck_assert_int_eq(net_send_frame(t.net, c->id, f), expected);
    frame_unref(f);
}

/* ---- a 1.2 client that makes its records itself ---- */

static struct tls_crypto *crypto;
static union tls_end own;

static void take_over(const struct client *c, enum tls_suite suite)
{
    uint8_t master[TLS_MASTER_LEN], client[TLS_RANDOM_LEN], server[TLS_RANDOM_LEN];
    SSL_SESSION_get_master_key(SSL_get_session(c->ssl), master, sizeof master);
    SSL_get_client_random(c->ssl, client, sizeof client);
    SSL_get_server_random(c->ssl, server, sizeof server);
    struct tls_handover h = {.suite = suite,
                             .is_client = true,
                             .records_written = 1,
                             .records_read = 1,
                             .master_secret = master,
                             .client_random = client,
                             .server_random = server};
    crypto = tls_crypto_new();
    ck_assert(tls_record_start(crypto, &own.r, &h));
}

static void send_record(const struct client *c, uint8_t type, const void *content, size_t len)
{
    struct odd_record odd = {.type = type};
    uint8_t out[512];
    client_send(c->fd, out, make_record(crypto, &own.r, &odd, content, len, out));
}

/* A ClientHello: the wish to negotiate again. */
static const uint8_t renegotiation[45] = {1, 0, 0, 41};
static void ask_for_renegotiation(const struct client *c)
{
    send_record(c, HANDSHAKE, renegotiation, sizeof renegotiation);
}

/* Reads until nothing comes any more; all records must be authentic. Returns the bytes of content. */
static size_t read_own_records(const struct client *c)
{
    static uint8_t in[1 << 20];
    size_t have = 0, content = 0;
    for (int idle = 0; idle < 3;) {
        size_t got = client_read(c->fd, in + have, sizeof in - have);
        idle = got ? 0 : idle + 1;
        have += got;
        size_t at = 0;
        for (struct tls_opened o; at < have; at += o.used) {
            enum tls_result r = tls_record_open(crypto, &own.r, in + at, have - at, &o);
            ck_assert_msg(r != TLS_BAD && r != TLS_REFUSED, "%s", o.why ? o.why : "refused");
            if (r == TLS_MORE)
                break;
            content += o.len;
        }
        memmove(in, in + at, have -= at);
        loop_turn(t.base);
    }
    ck_assert_uint_eq(have, 0);
    return content;
}

/* Asks and asks, with a packet now and then, which makes it lawful. */
static void flood(const struct client *c)
{
    for (int i = 0; i < 1000; i++) {
        ask_for_renegotiation(c);
        if (i % 20 == 19)
            send_record(c, APPLICATION, "\0\1a", 3);
        event_base_loop(t.base, EVLOOP_NONBLOCK);
    }
}

/* A 1.2 client with this suite that makes its own records. */
static void begin_own(struct client *c, int i)
{
    settings();
    begin(c, 3 + i, 10);
    take_over(c, TLS12_AES_128_GCM + (enum tls_suite)i);
    t.mute = true;
}

static void end_own(struct client *c)
{
    tls_crypto_free(crypto);
    leave(c);
    finish();
}

START_TEST(renegotiation_is_declined_without_end_behind_frames)
{
    struct client c;
    begin_own(&c, _i);
    send_frame(&c, large_frame('f'), SEND_QUEUED);
    size_t pending = net_pending(t.net, c.id);
    flood(&c);
    ck_assert_uint_eq(t.packets, 50);
    ck_assert_uint_eq(net_pending(t.net, c.id), pending);
    ck_assert_int_eq(state(&c), CONN_ACTIVE);
    ck_assert_uint_eq(read_own_records(&c), LARGE_PACKETS * (2 + LARGE_CONTENT));
    ck_assert_int_eq(state(&c), CONN_PARKED);
    end_own(&c);
}
END_TEST

START_TEST(renegotiation_is_declined_without_end_at_a_full_socket)
{
    struct client c;
    begin_own(&c, _i);
    size_t filled = fill_socket(&c);
    flood(&c);
    ck_assert_uint_eq(t.packets, 50);
    ck_assert_uint_le(net_pending(t.net, c.id), TLS_SMALL_MAX);
    drain_socket(&c, filled);
    loop_turn(t.base);
    t.mute = false;
    send_record(&c, APPLICATION, "\0\1a", 3);
    loop_turn(t.base);
    ck_assert_uint_eq(read_own_records(&c), 3);
    ck_assert_int_eq(state(&c), CONN_PARKED);
    end_own(&c);
}
END_TEST

START_TEST(declining_once_at_a_full_socket_keeps_the_stream_authentic)
{
    struct client c;
    begin_own(&c, _i);
    t.mute = false;
    size_t filled = fill_socket(&c);
    ask_for_renegotiation(&c);
    loop_turn(t.base);
    send_record(&c, APPLICATION, "\0\1a", 3);
    loop_turn(t.base);
    drain_socket(&c, filled);
    loop_turn(t.base);
    ck_assert_uint_eq(read_own_records(&c), 3);
    ck_assert_int_eq(state(&c), CONN_PARKED);
    end_own(&c);
}
END_TEST

#define FINISHED_LEN 16

/* Shakes hands with this suite up to the client's Finished, sends what comes before that, and decrypts it. */
static void begin_finished(struct client *c, int i, uint8_t message[FINISHED_LEN])
{
    uint8_t flight[4096];
    union tls_end reader;
    struct tls_opened o;
    settings();
    make_client_context(TLS1_2_VERSION, suites[3 + i].ciphers);
    start(10);
    join_quietly(c);
    shake(c);
    SSL_do_handshake(c->ssl);
    int len = BIO_read(c->out, flight, sizeof flight), at = 0;
    while (flight[at] != 20) /* to ChangeCipherSpec, and over it */
        at += 5 + (flight[at + 3] << 8 | flight[at + 4]);
    at += 6;
    take_over(c, TLS12_AES_128_GCM + (enum tls_suite)i);
    reader = own;
    /* What the client has written, its server's end reads: with the halves the other way round. */
    size_t half = tls_suites[own.r.suite].half_len;
    memcpy(reader.r.keys, own.r.keys + half, half);
    memcpy(reader.r.keys + half, own.r.keys, half);
    reader.r.is_client = false;
    reader.r.read_seq = own.r.write_seq = 0;
    (void)!tls_record_open(crypto, &reader.r, flight + at, (size_t)(len - at), &o); /* decrypts in place */
    memcpy(message, flight + at + 5 + tls_suites[own.r.suite].explicit_len, FINISHED_LEN);
    ck_assert_mem_eq(message, "\x14\0\0\x0c", 4);
    client_send(c->fd, flight, (size_t)at);
}

START_TEST(a_finished_message_may_come_in_two_records)
{
    struct client c;
    uint8_t message[FINISHED_LEN];
    begin_finished(&c, _i, message);
    send_record(&c, HANDSHAKE, message, 7);
    send_record(&c, HANDSHAKE, message + 7, 9);
    loop_turn(t.base);
    ck_assert_int_eq(state(&c), CONN_PARKED);
    send_record(&c, APPLICATION, "\0\1a", 3);
    loop_turn(t.base);
    ck_assert_uint_eq(t.packets, 1);
    end_own(&c);
}
END_TEST

/* What stands behind Finished in the same record has been decrypted by OpenSSL and cannot be had from it: so
 * the connection stays with it. (In 1.3 OpenSSL refuses such a record.) */
START_TEST(what_openssl_holds_keeps_a_connection_from_being_parked)
{
    struct client c;
    uint8_t both[FINISHED_LEN + sizeof renegotiation];
    begin_finished(&c, _i, both);
    memcpy(both + FINISHED_LEN, renegotiation, sizeof renegotiation);
    send_record(&c, HANDSHAKE, both, sizeof both);
    loop_turn(t.base);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_TLS_UNPARKED_STATE), 1);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_TLS_UNPARKED), 1);
    ck_assert_int_eq(state(&c), CONN_ACTIVE);
    send_record(&c, APPLICATION, "\0\1a", 3);
    loop_turn(t.base);
    ck_assert_uint_eq(t.packets, 1);
    end_own(&c);
}
END_TEST

/* ---- handshakes at a full socket ---- */

START_TEST(data_that_comes_before_the_last_flight_has_gone_is_not_forgotten)
{
    struct client c;
    int suite = _i % N_SUITES;
    bool v13 = suites[suite].version == TLS1_3_VERSION;
    settings()->parking = _i < N_SUITES;
    make_client_context(suites[suite].version, suites[suite].ciphers);
    start(10);
    join_quietly(&c);
    shake(&c);
    ck_assert_int_eq(SSL_do_handshake(c.ssl), v13 ? 1 : -1);
    size_t filled = fill_socket(&c);
    if (v13)
        write_packet(&c, 50, 'e'); /* together with Finished */
    flush(&c);
    loop_turn(t.base);
    ck_assert_int_eq(state(&c), CONN_HANDSHAKE);
    if (v13)
        write_packet(&c, 20000, 'g'); /* while the tickets wait */
    flush(&c);
    loop_turn(t.base);
    drain_socket(&c, filled);
    loop_turn(t.base);
    fetch(&c);
    if (v13) {
        expect_packet(&c, 50, 'e');
        expect_packet(&c, 20000, 'g');
    } else {
        shake_hands(&c);
    }
    echo(&c, 10, 'z');
    leave(&c);
    finish();
}
END_TEST

START_TEST(a_handshake_that_waits_for_its_socket_may_end_in_any_way)
{
    struct client c;
    settings();
    make_client_context(suites[_i / 4].version, suites[_i / 4].ciphers);
    start(10);
    join_quietly(&c);
    fill_socket(&c);
    SSL_do_handshake(c.ssl);
    flush(&c);
    loop_turn(t.base);
    ck_assert_int_eq(state(&c), CONN_HANDSHAKE);
    if (_i % 4 == 0)
        shutdown(c.fd, SHUT_RDWR);
    if (_i % 4 == 1)
        shutdown(c.fd, SHUT_WR);
    if (_i % 4 == 2)
        net_close(t.net, c.id, CLOSE_TAKEN_OVER);
    loop_turn(t.base);
    clock_fake(START_MS + TIMEOUT);
    net_second(t.net);
    loop_turn(t.base);
    ck_assert_uint_eq(net_count(t.net), 0);
    leave(&c);
    finish();
}
END_TEST

START_TEST(deadlines_shrink_while_places_are_short)
{
    struct client silent, slow, third;
    settings();
    make_client_context(TLS1_3_VERSION, suites[0].ciphers);
    start(3);
    join_quietly(&silent);
    join_quietly(&slow);
    client_send(slow.fd, "\x16\x03\x01", 3);
    loop_turn(t.base);
    clock_fake(START_MS + TIMEOUT - 1); /* there is a place left: all have the whole time */
    net_second(t.net);
    loop_turn(t.base);
    ck_assert_uint_eq(net_count(t.net), 2);
    leave(&silent);
    leave(&slow);
    loop_turn(t.base);
    ck_assert_uint_eq(net_count(t.net), 0);

    clock_fake(START_MS);
    join_quietly(&silent);
    join_quietly(&slow);
    client_send(slow.fd, "\x16\x03\x01", 3);
    loop_turn(t.base);
    clock_fake(START_MS + 999);
    net_second(t.net);
    loop_turn(t.base);
    join_quietly(&third);
    net_second(t.net);
    loop_turn(t.base);
    ck_assert_uint_eq(net_count(t.net), 3);
    ck_assert(!net_may_accept(t.net, 0));
    unsigned rooms = t.rooms;
    clock_fake(START_MS + 1000); /* a second, for who has said nothing */
    net_second(t.net);
    loop_turn(t.base);
    ck_assert(client_closed(silent.fd));
    ck_assert_uint_eq(net_count(t.net), 2);
    ck_assert_uint_eq(t.rooms, rooms + 1);
    leave(&silent);
    clock_fake(START_MS + TIMEOUT / 4); /* a place is free: no hurry */
    net_second(t.net);
    loop_turn(t.base);
    ck_assert_uint_eq(net_count(t.net), 2);
    clock_fake(START_MS + TIMEOUT / 4 - 1);
    join_quietly(&silent);
    net_second(t.net);
    loop_turn(t.base);
    ck_assert_uint_eq(net_count(t.net), 3);
    clock_fake(START_MS + TIMEOUT / 4); /* a quarter, for who has said something */
    net_second(t.net);
    loop_turn(t.base);
    ck_assert(client_closed(slow.fd));
    ck_assert_uint_eq(net_count(t.net), 2);
    ck_assert_uint_eq(counters_mine->closed[CLOSE_TLS_TIMEOUT], 2);
    leave(&silent);
    leave(&slow);
    leave(&third);
    finish();
}
END_TEST

START_TEST(short_timeouts_shrink_to_a_quarter_for_all)
{
    struct client silent;
    settings();
    make_client_context(TLS1_3_VERSION, suites[0].ciphers);
    start(1);
    struct net_tls tls = {.context = t.context, .max_handshakes = 1, .handshake_timeout_ms = 2000};
    net_set_tls(t.net, 0, &tls);
    join_quietly(&silent);
    clock_fake(START_MS + 499);
    net_second(t.net);
    loop_turn(t.base);
    ck_assert_uint_eq(net_count(t.net), 1);
    clock_fake(START_MS + 500);
    net_second(t.net);
    loop_turn(t.base);
    ck_assert_uint_eq(net_count(t.net), 0);
    leave(&silent);
    finish();
}
END_TEST

/* ---- the last word ---- */

/* The alert that the client finds behind `packets` answers. */
static int alert_behind(struct client *c, unsigned packets)
{
    char byte;
    SSL_set_info_callback(c->ssl, info_cb);
    alert_seen = -1;
    fetch(c);
    for (unsigned i = 0; i < packets; i++)
        expect_packet(c, 9, 'q');
    fetch(c);
    ck_assert_int_le(SSL_read(c->ssl, &byte, 1), 0);
    return alert_seen;
}

START_TEST(a_good_record_before_a_forged_one_is_answered)
{
    struct client c;
    char wire[512];
    bool active = _i >= 6;
    settings();
    begin(&c, _i % 6, 10);
    write_packet(&c, 9, 'q');
    write_packet(&c, 9, 'r');
    int n = BIO_read(c.out, wire, sizeof wire), first = active ? 10 : n;
    wire[n - 1] ^= 1;
    client_send(c.fd, wire, (size_t)first);
    loop_turn(t.base);
    if (active)
        client_send(c.fd, wire + first, (size_t)(n - first));
    loop_turn(t.base);
    ck_assert_uint_eq(t.packets, 1);
    ck_assert_int_eq(t.reason, CLOSE_TLS_BAD_RECORD);
    ck_assert_int_eq(alert_behind(&c, 1), SSL_AD_BAD_RECORD_MAC);
    leave(&c);
    finish();
}
END_TEST

START_TEST(a_good_record_before_an_alert_does_not_change_the_reason)
{
    struct client c;
    begin_own(&c, _i);
    t.mute = false;
    struct odd_record data = {.type = APPLICATION}, alert = {.type = 21};
    uint8_t out[256];
    size_t len = make_record(crypto, &own.r, &data, (const uint8_t *)"\0\1a", 3, out);
    len += make_record(crypto, &own.r, &alert, (const uint8_t *)"\2\x50", 2, out + len);
    client_send(c.fd, out, len);
    loop_turn(t.base);
    ck_assert_uint_eq(t.packets, 1);
    ck_assert_int_eq(t.reason, CLOSE_TLS_ALERT);
    end_own(&c);
}
END_TEST

START_TEST(the_last_word_of_an_active_connection_is_sent_if_a_reap_is_due)
{
    struct client a, b;
    char wire[512];
    settings();
    begin(&a, _i, 10);
    join(&b);
    write_packet(&a, 9, 'q');
    write_packet(&a, 9, 'r');
    int n = BIO_read(a.out, wire, sizeof wire);
    wire[n - 1] ^= 1;
    client_send(a.fd, wire, 10);
    loop_turn(t.base);
    ck_assert_int_eq(state(&a), CONN_ACTIVE);
    net_close(t.net, b.id, CLOSE_CLIENT_DISCONNECT);
    client_send(a.fd, wire + 10, (size_t)n - 10);
    loop_turn(t.base);
    ck_assert_int_eq(alert_behind(&a, 1), SSL_AD_BAD_RECORD_MAC);
    leave(&a);
    leave(&b);
    finish();
}
END_TEST

START_TEST(the_last_answer_of_an_active_connection_is_sent_if_a_reap_is_due)
{
    struct client a, b;
    char wire[512], byte;
    settings();
    begin(&a, _i, 10);
    join(&b);
    write_packet(&a, 9, 'q');
    write_packet(&a, 1, 'X');
    int n = BIO_read(a.out, wire, sizeof wire);
    client_send(a.fd, wire, 10);
    loop_turn(t.base);
    ck_assert_int_eq(state(&a), CONN_ACTIVE);
    net_close(t.net, b.id, CLOSE_CLIENT_DISCONNECT);
    client_send(a.fd, wire + 10, (size_t)n - 10);
    loop_turn(t.base);
    ck_assert_int_eq(t.reason, CLOSE_CLIENT_DISCONNECT);
    fetch(&a);
    expect_packet(&a, 9, 'q');
    ck_assert_int_eq(SSL_get_error(a.ssl, SSL_read(a.ssl, &byte, 1)), SSL_ERROR_ZERO_RETURN);
    leave(&a);
    leave(&b);
    finish();
}
END_TEST

/* ---- packets that take their time ---- */

START_TEST(a_record_without_content_leaves_no_packet_waiting)
{
    struct client c;
    char wire[256];
    settings();
    begin(&c, _i, 10);
    send_frame(&c, large_frame('f'), SEND_QUEUED);
    ck_assert_int_eq(SSL_key_update(c.ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
    SSL_do_handshake(c.ssl);
    int n = BIO_read(c.out, wire, sizeof wire);
    client_send(c.fd, wire, 10);
    loop_turn(t.base);
    client_send(c.fd, wire + 10, (size_t)n - 10);
    loop_turn(t.base);
    clock_fake(START_MS + 100000);
    net_sweep(t.net, START_MS + 50000);
    ck_assert_int_eq(state(&c), CONN_ACTIVE);
    expect_large(&c, 'f');
    leave(&c);
    finish();
}
END_TEST

START_TEST(a_packet_that_trickles_in_is_timed_from_its_start)
{
    struct client c;
    char wire[4096];
    settings();
    begin(&c, _i, 10);
    for (int i = 0; i < 50; i++) /* records of one byte, each whole: of a packet that is not */
        ck_assert_int_eq(SSL_write(c.ssl, i == 1 ? "\x50" : "\0", 1), 1);
    int n = BIO_read(c.out, wire, sizeof wire);
    for (int i = 0; i < 50; i++) {
        client_send(c.fd, wire + i * (n / 50), (size_t)n / 50);
        loop_turn(t.base);
        clock_fake(START_MS + 1000 * (uint64_t)(i + 1));
    }
    t.mute = true;
    net_sweep(t.net, START_MS);
    loop_turn(t.base);
    ck_assert_uint_eq(net_count(t.net), 1);
    net_sweep(t.net, START_MS + 1001);
    loop_turn(t.base);
    ck_assert_uint_eq(net_count(t.net), 0);
    ck_assert_int_eq(t.reason, CLOSE_PACKET_TIMEOUT);
    leave(&c);
    finish();
}
END_TEST

/* ---- what waits behind a frame ---- */

START_TEST(an_answer_behind_a_large_frame_does_not_copy_it)
{
    struct client c;
    struct frame *large = large_frame('f');
    unsigned char answers[8];
    settings();
    begin(&c, _i, 10);
    ck_assert_int_eq(net_send_frame(t.net, c.id, large), SEND_QUEUED);
    for (int i = 0; i < 3; i++)
        send_frame(&c, packet_frame(5000, (char)('1' + i)), SEND_QUEUED);
    uint64_t sealed = counter_get(counters_mine, COUNTER_BYTES_OUT);
    size_t pending = net_pending(t.net, c.id);
    ck_assert_uint_eq(large->refs, 2);
    ck_assert_int_eq(net_send(t.net, c.id, "\0\2ok", 4), SEND_QUEUED);
    ck_assert_int_eq(net_send(t.net, c.id, "\0\2OK", 4), SEND_QUEUED);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_BYTES_OUT), sealed);
    ck_assert_uint_eq(net_pending(t.net, c.id), pending + 8);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_OUTPUT_BYTES), pending + 8);
    ck_assert_uint_eq(large->refs, 2); /* shared as before */
    expect_large(&c, 'f');
    read_exactly(&c, answers, sizeof answers);
    ck_assert_mem_eq(answers, "\0\2ok\0\2OK", sizeof answers);
    for (int i = 0; i < 3; i++)
        expect_packet(&c, 5000, (char)('1' + i));
    loop_turn(t.base);
    ck_assert_uint_eq(large->refs, 1);
    ck_assert_int_eq(state(&c), CONN_PARKED);
    frame_unref(large);
    leave(&c);
    finish();
}
END_TEST

START_TEST(a_long_answer_may_block_at_any_place)
{
    static unsigned char content[25 * 4000];
    struct client c;
    int suite = _i % 6, room = _i / 6; /* the socket has none, some, much */
    settings();
    begin(&c, suite, 10);
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = i % 4000 == 0 ? 3998 >> 8 : i % 4000 == 1 ? 3998 & 0xFF : (unsigned char)(i / 4000);
    size_t filled = fill_socket(&c), freed = (size_t)room * 32 * 1024;
    drain_socket(&c, freed);
    ck_assert_int_eq(net_send(t.net, c.id, content, sizeof content), SEND_QUEUED);
    ck_assert_int_eq(net_send(t.net, c.id, "\0\2ok", 4), SEND_QUEUED);
    ck_assert_int_eq(state(&c), CONN_ACTIVE);
    drain_socket(&c, filled - freed);
    for (int i = 0; i < 25; i++)
        expect_packet(&c, 3998, (char)i);
    unsigned char answer[4];
    read_exactly(&c, answer, sizeof answer);
    ck_assert_mem_eq(answer, "\0\2ok", 4);
    loop_turn(t.base);
    ck_assert_int_eq(state(&c), CONN_PARKED);
    leave(&c);
    finish();
}
END_TEST

START_TEST(too_many_answers_behind_a_frame_end_the_connection)
{
    static const unsigned char answer[1000] = {998 >> 8, 998 & 0xFF};
    struct client c;
    settings();
    t.disconnect = _i >= 6;
    begin(&c, _i % 6, 10);
    send_frame(&c, large_frame('f'), SEND_QUEUED);
    for (unsigned i = 0; i < (LIMIT + ANSWER_ROOM) / sizeof answer; i++)
        ck_assert_int_eq(net_send(t.net, c.id, answer, sizeof answer), SEND_QUEUED);
    ck_assert_int_eq(state(&c), CONN_ACTIVE);
    ck_assert_int_eq(net_send(t.net, c.id, answer, sizeof answer), SEND_GONE);
    loop_turn(t.base);
    ck_assert_uint_eq(net_count(t.net), 0);
    ck_assert_int_eq(t.reason, CLOSE_SLOW_CONSUMER);
    leave(&c);
    finish();
}
END_TEST

START_TEST(a_frame_is_not_counted_once_it_is_the_one_in_progress)
{
    struct client c;
    int small = 4096;
    char wire[1000];
    settings();
    t.disconnect = true;
    begin(&c, _i, 10);
    ck_assert_int_eq(setsockopt(server_fd(&c), SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
    size_t filled = fill_socket(&c);
    send_frame(&c, packet_frame(1000, 'a'), SEND_QUEUED);
    send_frame(&c, packet_frame(1000, 'b'), SEND_QUEUED); /* behind, and counted */
    send_frame(&c, packet_frame(BIG, 'c'), SEND_QUEUED);
    drain_socket(&c, filled);
    while (net_pending(t.net, c.id) > BIG / 2) { /* until a and b have gone, and much of c */
        loop_turn(t.base);
        ck_assert_int_ge(recv(c.fd, wire, sizeof wire, 0), 0);
    }
    for (int i = 0; i < 65; i++)
        send_frame(&c, packet_frame(1000, (char)i), SEND_QUEUED);
    ck_assert_int_eq(state(&c), CONN_ACTIVE);
    struct frame *beyond = packet_frame(1000, 'x');
    ck_assert_int_eq(net_send_frame(t.net, c.id, beyond), SEND_GONE);
    frame_unref(beyond);
    leave(&c);
    finish();
}
END_TEST

static void add_tests(TCase *tc)
{
    make_shared();
    tcase_set_timeout(tc, 30);
    tcase_add_unchecked_fixture(tc, NULL, remove_shared);
    tcase_add_loop_test(tc, renegotiation_is_declined_without_end_behind_frames, 0, 3);
    tcase_add_loop_test(tc, renegotiation_is_declined_without_end_at_a_full_socket, 0, 3);
    tcase_add_loop_test(tc, declining_once_at_a_full_socket_keeps_the_stream_authentic, 0, 3);
    tcase_add_loop_test(tc, a_finished_message_may_come_in_two_records, 0, 3);
    tcase_add_loop_test(tc, what_openssl_holds_keeps_a_connection_from_being_parked, 0, 3);
    tcase_add_loop_test(tc, data_that_comes_before_the_last_flight_has_gone_is_not_forgotten, 0,
                        2 * N_SUITES);
    tcase_add_loop_test(tc, a_handshake_that_waits_for_its_socket_may_end_in_any_way, 0, 4 * N_SUITES);
    tcase_add_test(tc, deadlines_shrink_while_places_are_short);
    tcase_add_test(tc, short_timeouts_shrink_to_a_quarter_for_all);
    tcase_add_loop_test(tc, a_good_record_before_a_forged_one_is_answered, 0, 12);
    tcase_add_loop_test(tc, a_good_record_before_an_alert_does_not_change_the_reason, 0, 3);
    tcase_add_loop_test(tc, the_last_word_of_an_active_connection_is_sent_if_a_reap_is_due, 0, 6);
    tcase_add_loop_test(tc, the_last_answer_of_an_active_connection_is_sent_if_a_reap_is_due, 0, 6);
    tcase_add_loop_test(tc, a_record_without_content_leaves_no_packet_waiting, 0, 3);
    tcase_add_loop_test(tc, a_packet_that_trickles_in_is_timed_from_its_start, 0, 6);
    tcase_add_loop_test(tc, an_answer_behind_a_large_frame_does_not_copy_it, 0, 6);
    tcase_add_loop_test(tc, a_long_answer_may_block_at_any_place, 0, 18);
    tcase_add_loop_test(tc, too_many_answers_behind_a_frame_end_the_connection, 0, 12);
    tcase_add_loop_test(tc, a_frame_is_not_counted_once_it_is_the_one_in_progress, 0, 6);
}

UNIT_MAIN("conn_tls_blocked")
