/*
 * Connections over TLS: the handshake, what remains of it, and that a parked connection does all that a
 * plaintext one does, record by record. What happens when a client does not read, test_conn_tls_blocked.c
 * says.
 */
#include "gateway/net/conn_internal.h"
#include "tests/unit/conn_tls_rig.h"
#include "tests/unit/tls_pair.h"

START_TEST(nothing_but_keys_remains)
{
    struct client c;
    char text[NET_TLS_TEXT];
    settings();
    begin(&c, _i, 10);
    ck_assert_str_eq(net_tls_text(t.net, c.id, text), suites[_i].text);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_HANDSHAKES), 0);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_TLS_CONNECTIONS), 1);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_TLS_UNPARKED), !suites[_i].parks);
    for (int i = 1; i < 100; i++)
        echo(&c, (size_t)i, (char)i);
    ck_assert_uint_eq(t.packets, 99);
    ck_assert_int_eq(state(&c), suites[_i].parks ? CONN_PARKED : CONN_ACTIVE);
    leave(&c);
    finish();
}
END_TEST

START_TEST(data_may_come_with_the_finished_message)
{
    struct client c;
    settings();
    make_client_context(suites[_i].version, suites[_i].ciphers);
    start(10);
    join_quietly(&c);
    shake_hands(&c);
    write_packet(&c, 3, 'a');
    write_packet(&c, 20000, 'b');
    flush(&c); /* in one send() */
    loop_turn(t.base);
    expect_packet(&c, 3, 'a');
    expect_packet(&c, 20000, 'b');
    echo(&c, 5, 'c');
    ck_assert_int_eq(state(&c), suites[_i].parks ? CONN_PARKED : CONN_ACTIVE);
    leave(&c);
    finish();
}
END_TEST

START_TEST(records_may_come_byte_by_byte)
{
    struct client c;
    char wire[256];
    settings();
    begin(&c, _i, 10);
    write_packet(&c, 9, 'q');
    int n = BIO_read(c.out, wire, sizeof wire);
    ck_assert_int_gt(n, 9);
    for (int i = 0; i < n; i++) {
        ck_assert_int_eq(state(&c), i && suites[_i].parks ? CONN_ACTIVE : state(&c));
        client_send(c.fd, wire + i, 1);
        loop_turn(t.base);
    }
    expect_packet(&c, 9, 'q');
    ck_assert_int_eq(state(&c), suites[_i].parks ? CONN_PARKED : CONN_ACTIVE);
    leave(&c);
    finish();
}
END_TEST

START_TEST(packets_and_records_need_not_agree)
{
    struct client c;
    unsigned char all[3000];
    settings();
    begin(&c, _i, 10);
    for (int i = 0; i < 1000; i++)
        memcpy(all + 3 * i, (unsigned char[]){0, 1, (unsigned char)('a' + i % 20)}, 3);
    for (int at = 0, part = 1; at < 3000; at += part, part = part % 50 + 1) { /* records of 1 to 50 bytes */
        if (part > 3000 - at)
            part = 3000 - at;
        ck_assert_int_eq(SSL_write(c.ssl, all + at, part), part);
        if (at % 3 == 0)
            flush(&c);
        if (at % 7 == 0)
            loop_turn(t.base);
    }
    flush(&c);
    for (int i = 0; i < 1000; i++)
        expect_packet(&c, 1, (char)('a' + i % 20));
    ck_assert_uint_eq(t.packets, 1000);
    ck_assert_int_eq(state(&c), suites[_i].parks ? CONN_PARKED : CONN_ACTIVE);
    leave(&c);
    finish();
}
END_TEST

START_TEST(large_packets_go_both_ways)
{
    struct client c;
    settings();
    begin(&c, _i, 10);
    for (int i = 0; i < 20; i++)
        echo(&c, BIG - 777 * (size_t)i, (char)('A' + i));
    ck_assert_int_eq(state(&c), suites[_i].parks ? CONN_PARKED : CONN_ACTIVE);
    leave(&c);
    finish();
}
END_TEST

/* The length of the i-th frame that a blocked client is sent. */
static size_t length_of(int i) { return 5000 + 300 * (size_t)(i % 9); }

/* Reads a packet of any length. */
static size_t read_packet(struct client *c, unsigned char packet[2 + BIG])
{
    read_exactly(c, packet, 2);
    size_t len = (size_t)packet[0] << 8 | packet[1];
    read_exactly(c, packet, len);
    return len;
}

/* More has been sent than may wait for a client that does not read. */
static void expect_bounded(const struct client *c)
{
    ck_assert_uint_le(net_pending(t.net, c->id), LIMIT + BIG + 20000);
    ck_assert_uint_gt(counter_get(counters_mine, COUNTER_DELIVERIES_DROPPED), 50);
}

START_TEST(a_blocked_client_loses_whole_frames_only)
{
    struct client c;
    unsigned char packet[2 + BIG];
    settings();
    begin(&c, _i, 10);
    for (int i = 0; i < 200; i++) {
        struct frame *f = packet_frame(length_of(i), (char)i);
        net_send_frame(t.net, c.id, f);
        frame_unref(f);
        if (i % 50 == 49) /* what is owed is not lost, and comes between frames */
            net_send(t.net, c.id, "\0\2ok", 4);
    }
    ck_assert_int_eq(state(&c), CONN_ACTIVE);
    expect_bounded(&c);
    int last = -1, owed = 0;
    while (last != 199 || owed < 4) {
        size_t len = read_packet(&c, packet);
        if (len == 2) {
            ck_assert_mem_eq(packet, "ok", 2);
            owed++;
            continue;
        }
        ck_assert_int_gt(packet[0], last); /* in order, with gaps */
        last = packet[0];
        ck_assert_uint_eq(len, length_of(last));
        ck_assert(all_are(packet, len, last));
    }
    loop_turn(t.base);
    ck_assert_uint_eq(net_pending(t.net, c.id), 0);
    ck_assert_int_eq(state(&c), suites[_i].parks ? CONN_PARKED : CONN_ACTIVE);
    echo(&c, 7, 'z');
    leave(&c);
    finish();
}
END_TEST

START_TEST(what_must_arrive_is_not_dropped)
{
    struct client c;
    unsigned char packet[2 + BIG];
    settings();
    begin(&c, _i, 10);
    for (int i = 0; i < 200; i++) {
        struct frame *f = packet_frame(length_of(i), (char)i);
        f->must_arrive = i % 50 == 3;
        ck_assert_int_ne(net_send_frame(t.net, c.id, f), SEND_DROPPED);
        frame_unref(f);
    }
    expect_bounded(&c);
    for (int last = -1; last != 199; last = packet[0]) {
        size_t len = read_packet(&c, packet);
        ck_assert(all_are(packet, len, packet[0]));
        ck_assert_int_gt(packet[0], last);
        for (int missing = last + 1; missing < packet[0]; missing++)
            ck_assert_int_ne(missing % 50, 3);
    }
    loop_turn(t.base);
    ck_assert_uint_eq(net_pending(t.net, c.id), 0);
    leave(&c);
    finish();
}
END_TEST

START_TEST(both_sides_close_in_good_order)
{
    struct client c;
    char byte;
    settings();
    begin(&c, _i, 10);
    SSL_shutdown(c.ssl);
    flush(&c);
    loop_turn(t.base);
    fetch(&c);
    ck_assert_int_eq(SSL_shutdown(c.ssl), 1); /* answered */
    ck_assert_int_eq(t.reason, CLOSE_PEER_CLOSED);
    ck_assert(client_closed(c.fd));
    leave(&c);

    join(&c);
    write_packet(&c, 1, 'X'); /* the server closes */
    flush(&c);
    loop_turn(t.base);
    fetch(&c);
    ck_assert_int_eq(SSL_get_error(c.ssl, SSL_read(c.ssl, &byte, 1)), SSL_ERROR_ZERO_RETURN);
    ck_assert_int_eq(t.reason, CLOSE_CLIENT_DISCONNECT);
    leave(&c);
    finish();
}
END_TEST

START_TEST(a_forged_record_is_answered_with_an_alert)
{
    struct client c;
    char wire[256], byte;
    settings();
    begin(&c, _i, 10);
    SSL_set_info_callback(c.ssl, info_cb);
    write_packet(&c, 9, 'q');
    int n = BIO_read(c.out, wire, sizeof wire);
    wire[n - 1] ^= 1;
    client_send(c.fd, wire, (size_t)n);
    loop_turn(t.base);
    fetch(&c);
    alert_seen = -1;
    ck_assert_int_le(SSL_read(c.ssl, &byte, 1), 0);
    ck_assert_int_eq(alert_seen, SSL_AD_BAD_RECORD_MAC);
    ck_assert_int_eq(t.reason, CLOSE_TLS_BAD_RECORD);
    ck_assert_uint_eq(t.packets, 0);
    leave(&c);
    finish();
}
END_TEST

START_TEST(sessions_are_resumed)
{
    struct client c;
    settings();
    begin(&c, _i, 10);
    echo(&c, 1, 'a'); /* 1.3: the ticket is read with it */
    ck_assert_ptr_nonnull(session);
    ck_assert(!SSL_session_reused(c.ssl));
    for (int i = 0; i < 3; i++) {
        leave(&c);
        loop_turn(t.base);
        join_quietly(&c);
        SSL_set_session(c.ssl, session);
        shake_hands(&c);
        flush(&c);
        loop_turn(t.base);
        ck_assert(SSL_session_reused(c.ssl));
        echo(&c, 100, 'b');
        ck_assert_int_eq(state(&c), suites[_i].parks ? CONN_PARKED : CONN_ACTIVE);
    }
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_TLS_RESUMED), 3);
    leave(&c);
    finish();
}
END_TEST

/* ---- single ones ---- */

START_TEST(keys_are_updated_in_the_middle)
{
    struct client c;
    settings();
    begin(&c, _i, 10);
    for (int i = 0; i < 10; i++) {
        ck_assert_int_eq(
            SSL_key_update(c.ssl, i % 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        echo(&c, (size_t)i * 2000, 'k');
        ck_assert_int_eq(state(&c), CONN_PARKED);
    }
    /* Ten of the client's, and an answer to every second one. */
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_TLS_KEY_UPDATES), 15);
    leave(&c);
    finish();
}
END_TEST

/* ---- a 1.3 client that makes its records itself ---- */

static uint8_t secrets[2][TLS_SECRET_MAX]; /* client's, server's */

static void keylog_cb(const SSL *ssl, const char *line)
{
    uint8_t secret[TLS_SECRET_MAX];
    size_t len;
    (void)ssl;
    enum tls_keylog_label label = tls_keylog_decode(line, secret, &len);
    if (label != TLS_KEYLOG_OTHER)
        memcpy(secrets[label == TLS_KEYLOG_SERVER_TRAFFIC], secret, len);
}

/* Opens one record after the other until there is content; returns its length. */
static size_t content_of(struct tls_crypto *crypto, struct tls_record *own, uint8_t *in, size_t len,
                         struct tls_opened *o)
{
    for (size_t at = 0; at < len; at += o->used) {
        enum tls_result r = tls_record_open(crypto, own, in + at, len - at, o);
        ck_assert_msg(r == TLS_CONTROL || r == TLS_DATA, "%d %s", r, o->why ? o->why : "");
        if (r == TLS_DATA)
            return o->len;
    }
    return 0;
}

/* Half a KeyUpdate comes in one segment with Finished: the keys are taken over in the middle of a message, of
 * which the record codec gets both halves. Its second half changes the key of the packet behind it. */
START_TEST(keys_are_taken_over_with_half_a_message_behind_them)
{
    static uint8_t wire[16384];
    const struct odd_record part = {.type = 22}, data = {.type = 23};
    struct client c;
    union tls_end own;
    struct tls_opened o = {0};
    settings();
    make_client_context(suites[_i].version, suites[_i].ciphers);
    SSL_CTX_set_keylog_callback(client_context, keylog_cb);
    start(10);
    join_quietly(&c);
    shake_hands(&c);
    struct tls_crypto *crypto = tls_crypto_new();
    struct tls_handover h = {.suite = TLS13_AES_128_GCM + (enum tls_suite)_i,
                             .is_client = true,
                             .client_secret = secrets[0],
                             .server_secret = secrets[1]};
    ck_assert(tls_record_start(crypto, &own.r, &h));

    size_t n = (size_t)BIO_read(c.out, wire, sizeof wire);
    n += make_record(crypto, &own.r, &part, (const uint8_t *)"\x18\0\0", 3, wire + n);
    client_send(c.fd, wire, n);
    loop_turn(t.base);
    ck_assert_int_eq(state(&c), CONN_PARKED);
    n = make_record(crypto, &own.r, &part, (const uint8_t *)"\1\1", 2, wire);
    ck_assert(tls_keys_update(crypto, h.suite, own.r.keys));
    own.r.write_seq = 0;
    n += make_record(crypto, &own.r, &data, (const uint8_t *)"\0\1a", 3, wire + n);
    client_send(c.fd, wire, n);
    loop_turn(t.base);

    n = client_read(c.fd, wire, sizeof wire); /* tickets, its KeyUpdate, the echo under its new key */
    ck_assert_uint_eq(content_of(crypto, &own.r, wire, n, &o), 3);
    ck_assert_mem_eq(o.data, "\0\1a", 3);
    ck_assert_uint_eq(own.r.read_seq, 1);
    tls_crypto_free(crypto);
    leave(&c);
    finish();
}
END_TEST

START_TEST(without_tickets_the_count_of_records_is_right)
{
    struct client c;
    settings()->session_tickets = false;
    begin(&c, _i, 10);
    echo(&c, 1, 'a');
    ck_assert_ptr_null(session);
    leave(&c);
    finish();
}
END_TEST

START_TEST(parking_can_be_turned_off)
{
    struct client c;
    settings()->parking = false;
    make_client_context(suites[_i].version, suites[_i].ciphers);
    start(10);
    join_quietly(&c);
    shake_hands(&c);
    write_packet(&c, 300, 'a');
    flush(&c);
    loop_turn(t.base);
    expect_packet(&c, 300, 'a');
    ck_assert_int_eq(state(&c), CONN_ACTIVE);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_TLS_UNPARKED), 1);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_TLS_UNPARKED_OPTION), 1);
    echo(&c, BIG, 'b');
    leave(&c);
    finish();
}
END_TEST

/* Without a place for its keys a connection stays with OpenSSL, and is served. */
START_TEST(without_memory_for_keys_a_connection_is_not_parked)
{
    struct client c;
    settings();
    make_client_context(suites[_i].version, suites[_i].ciphers);
    start(10);
    struct pool *keys = t.net->tls.keys[TLS13_AES_128_GCM + _i];
    while (pool_alloc(keys))
        ;
    join(&c);
    ck_assert_int_eq(state(&c), CONN_ACTIVE);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_TLS_UNPARKED_STATE), 1);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_TLS_UNPARKED), 1);
    for (int i = 1; i < 100; i++)
        echo(&c, (size_t)i, (char)i);
    leave(&c);
    finish();
}
END_TEST

START_TEST(a_client_may_ask_for_small_records)
{
    struct client c;
    unsigned char wire[8192];
    settings();
    make_client_context(suites[_i].version, suites[_i].ciphers);
    SSL_CTX_set_tlsext_max_fragment_length(client_context, TLSEXT_max_fragment_length_512);
    start(10);
    join(&c);
    ck_assert_int_eq(state(&c), CONN_PARKED);
    struct frame *f = packet_frame(5000, 'f');
    while (recv(c.fd, wire, sizeof wire, 0) > 0)
        ;
    ck_assert_int_eq(net_send_frame(t.net, c.id, f), SEND_DONE);
    frame_unref(f);
    size_t got = client_read(c.fd, wire, sizeof wire);
    for (size_t at = 0, len; at < got; at += 5 + len) {
        len = (size_t)wire[at + 3] << 8 | wire[at + 4];
        ck_assert_uint_le(len, 512 + 24);
    }
    leave(&c);
    finish();
}
END_TEST

START_TEST(what_is_not_tls_is_refused)
{
    int fd[2];
    settings();
    make_client_context(TLS1_3_VERSION, suites[0].ciphers);
    start(10);
    loop_pair(fd);
    ck_assert_uint_ne(net_adopt(t.net, fd[0], 0), 0);
    client_send(fd[1], "\x10\x10\0\4MQTT\4\2\0\x3c\0\4test", 18);
    loop_turn(t.base);
    ck_assert(client_closed(fd[1]));
    ck_assert_uint_eq(t.opened, 0);
    ck_assert_uint_eq(t.closed, 0);
    ck_assert_uint_eq(counters_mine->closed[CLOSE_TLS_HANDSHAKE], 1);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_TLS_FAILED), 1);
    close(fd[1]);
    finish();
}
END_TEST

START_TEST(handshakes_are_bounded_in_number_and_time)
{
    struct client a, b;
    settings();
    make_client_context(TLS1_3_VERSION, suites[0].ciphers);
    start(2);
    join_quietly(&a);
    ck_assert(net_may_accept(t.net, 0));
    join_quietly(&b);
    ck_assert(!net_may_accept(t.net, 0));
    SSL_do_handshake(a.ssl);
    flush(&a);
    loop_turn(t.base);
    ck_assert_uint_eq(counter_get(counters_mine, COUNTER_HANDSHAKES), 2);
    ck_assert_uint_eq(t.rooms, 0);
    fetch(&a);
    ck_assert_int_eq(SSL_do_handshake(a.ssl), 1);
    flush(&a);
    loop_turn(t.base);
    ck_assert_uint_eq(t.rooms, 1);
    ck_assert(net_may_accept(t.net, 0));
    clock_fake(START_MS + TIMEOUT - 1);
    net_second(t.net);
    ck_assert_uint_eq(net_count(t.net), 2);
    clock_fake(START_MS + TIMEOUT);
    net_second(t.net);
    loop_turn(t.base);
    ck_assert_uint_eq(net_count(t.net), 1);
    ck_assert_uint_eq(counters_mine->closed[CLOSE_TLS_TIMEOUT], 1);
    ck_assert(client_closed(b.fd));
    leave(&a);
    leave(&b);
    finish();
}
END_TEST

START_TEST(a_flight_that_does_not_fit_the_socket_waits)
{
    struct client c;
    int fd[2];
    char junk[65536] = {0};
    size_t filled = 0;
    ssize_t n;
    settings();
    make_client_context(suites[_i].version, suites[_i].ciphers);
    start(10);
    loop_pair(fd);
    while ((n = send(fd[0], junk, sizeof junk, 0)) > 0 || (n = send(fd[0], junk, 1, 0)) > 0)
        filled += (size_t)n;
    c = (struct client){.fd = fd[1], .ssl = SSL_new(client_context)};
    c.in = BIO_new(BIO_s_mem());
    c.out = BIO_new(BIO_s_mem());
    SSL_set_bio(c.ssl, c.in, c.out);
    SSL_set_connect_state(c.ssl);
    c.id = net_adopt(t.net, fd[0], 0);
    SSL_do_handshake(c.ssl);
    flush(&c);
    loop_turn(t.base);
    while (filled && (n = recv(c.fd, junk, filled < sizeof junk ? filled : sizeof junk, 0)) > 0)
        filled -= (size_t)n;
    ck_assert_uint_eq(filled, 0);
    loop_turn(t.base);
    fetch(&c);
    shake_hands(&c);
    echo(&c, 10, 'w');
    ck_assert_int_eq(state(&c), CONN_PARKED);
    leave(&c);
    finish();
}
END_TEST

START_TEST(a_client_may_vanish_at_any_moment)
{
    struct client c;
    settings();
    make_client_context(suites[_i].version, suites[_i].ciphers);
    start(10);
    for (int steps = 0; steps < 4; steps++) {
        join_quietly(&c);
        for (int i = 0; i < steps; i++)
            shake(&c);
        leave(&c);
        loop_turn(t.base);
        ck_assert_uint_eq(net_count(t.net), 0);
    }
    finish();
}
END_TEST

static void add_tests(TCase *tc)
{
    make_shared();
    tcase_set_timeout(tc, 30);
    tcase_add_unchecked_fixture(tc, NULL, remove_shared);
    tcase_add_loop_test(tc, nothing_but_keys_remains, 0, N_SUITES);
    tcase_add_loop_test(tc, data_may_come_with_the_finished_message, 0, N_SUITES);
    tcase_add_loop_test(tc, records_may_come_byte_by_byte, 0, N_SUITES);
    tcase_add_loop_test(tc, packets_and_records_need_not_agree, 0, N_SUITES);
    tcase_add_loop_test(tc, large_packets_go_both_ways, 0, N_SUITES);
    tcase_add_loop_test(tc, a_blocked_client_loses_whole_frames_only, 0, N_SUITES);
    tcase_add_loop_test(tc, what_must_arrive_is_not_dropped, 0, N_SUITES);
    tcase_add_loop_test(tc, both_sides_close_in_good_order, 0, N_SUITES);
    tcase_add_loop_test(tc, a_forged_record_is_answered_with_an_alert, 0, N_SUITES);
    tcase_add_loop_test(tc, sessions_are_resumed, 0, N_SUITES);
    tcase_add_loop_test(tc, keys_are_updated_in_the_middle, 0, 3);
    tcase_add_loop_test(tc, keys_are_taken_over_with_half_a_message_behind_them, 0, 3);
    tcase_add_loop_test(tc, without_tickets_the_count_of_records_is_right, 0, N_SUITES);
    tcase_add_loop_test(tc, parking_can_be_turned_off, 0, N_SUITES);
    tcase_add_loop_test(tc, without_memory_for_keys_a_connection_is_not_parked, 0, N_SUITES - 1);
    tcase_add_loop_test(tc, a_client_may_ask_for_small_records, 0, 6);
    tcase_add_test(tc, what_is_not_tls_is_refused);
    tcase_add_test(tc, handshakes_are_bounded_in_number_and_time);
    tcase_add_loop_test(tc, a_flight_that_does_not_fit_the_socket_waits, 0, 6);
    tcase_add_loop_test(tc, a_client_may_vanish_at_any_moment, 0, N_SUITES);
}

UNIT_MAIN("conn_tls")
