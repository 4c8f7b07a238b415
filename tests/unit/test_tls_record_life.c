/*
 * The life of a record codec's keys: KeyUpdate, the end of the sequence numbers, closing, and that nothing of
 * them is left behind.
 */
#include "tests/unit/unit.h"

#include <string.h>

#include "tests/unit/tls_record_rig.h"

/* ---- KeyUpdate ---- */

/* Ours, not asking and asking; the answer goes before the next application data, once. */
START_TEST(key_update_both_ways)
{
    start_pair((enum tls_suite)_i);
    for (int round = 0; round < 5; round++) {
        size_t n = tls_record_key_update(crypto, &client.r, false, wire, TLS_SMALL_MAX);
        ck_assert_uint_eq(n, 27);
        ck_assert_uint_eq(client.r.write_seq, 0);
        must_deliver(&server, n, NULL, 0);
        ck_assert(!server.r.owes_update);
        must_talk(&client, &server, 5000);
        must_talk(&server, &client, 5000);

        n = tls_record_key_update(crypto, &server.r, true, wire, TLS_SMALL_MAX);
        n += tls_record_key_update(crypto, &server.r, true, wire + n, TLS_SMALL_MAX);
        must_deliver(&client, n, NULL, 0);
        ck_assert(client.r.owes_update);
        ck_assert(server.r.asked_update);
        must_talk(&server, &client, 5000);
        ck_assert_uint_eq(tls_record_sealed_size(&client.r, 100), 27 + 122);
        must_talk(&client, &server, 100);
        ck_assert(!client.r.owes_update);
        ck_assert(!server.r.asked_update);
        ck_assert(!server.r.owes_update);
        ck_assert_uint_eq(tls_record_sealed_size(&client.r, 100), 122);
        must_talk(&client, &server, 100);
    }
    end_pair();
}
END_TEST

/* An owed answer can be sent without data, and both may ask at the same time. */
START_TEST(key_update_crossing)
{
    uint8_t other[TLS_SMALL_MAX];

    start_pair((enum tls_suite)_i);
    size_t n = tls_record_key_update(crypto, &client.r, true, wire, sizeof wire);
    size_t m = tls_record_key_update(crypto, &server.r, true, other, sizeof other);
    must_deliver(&server, n, NULL, 0);
    memcpy(wire, other, m);
    must_deliver(&client, m, NULL, 0);
    must_talk(&client, &server, 0);
    must_talk(&server, &client, 0);
    ck_assert_uint_eq(tls_record_sealed_size(&client.r, 0), 0);
    must_talk(&client, &server, 1000);
    must_talk(&server, &client, 1000);
    ck_assert(!client.r.owes_update && !server.r.owes_update);
    end_pair();
}
END_TEST

/* Old keys open nothing any more, and are gone from the state. */
START_TEST(key_update_forgets)
{
    union tls_end old;
    const struct tls_suite_info *s = &tls_suites[_i];

    start_pair((enum tls_suite)_i);
    old = client;
    size_t n = tls_record_key_update(crypto, &client.r, false, wire, sizeof wire);
    must_deliver(&server, n, NULL, 0);
    for (size_t i = 0; i + 8 <= s->half_len; i += 8)
        ck_assert_mem_ne(old.r.keys + i, client.r.keys + i, 8);
    old.r.write_seq = 0;
    n = tls_record_seal(crypto, &old.r, plain, 10, wire, sizeof wire);
    must_be_bad(&server, NULL, n, TLS_ALERT_BAD_RECORD_MAC);
    end_pair();
}
END_TEST

/* Our own KeyUpdate comes before a key has sealed as many records as it may. */
START_TEST(key_update_before_the_limit)
{
    start_pair((enum tls_suite)_i);
    client.r.write_seq = server.r.read_seq = TLS_UPDATE_AFTER - 1;
    must_talk(&client, &server, 10);
    ck_assert_uint_eq(client.r.write_seq, TLS_UPDATE_AFTER);
    must_talk(&client, &server, 10);
    ck_assert_uint_eq(client.r.write_seq, 1);
    ck_assert_uint_eq(server.r.read_seq, 1);
    ck_assert(!server.r.owes_update);
    end_pair();
}
END_TEST

/* A peer that has sent very much under one key is asked for another one, once, and does so. */
START_TEST(peer_is_asked_before_its_numbers_end)
{
    start_pair((enum tls_suite)_i);
    client.r.write_seq = server.r.read_seq = TLS_ASK_UPDATE_FROM - 1;
    /* such a client is not ours: it does not do so by itself */
    size_t n = make_record(crypto, &client.r, &(struct odd_record){.type = 23}, plain, 10, wire);
    must_deliver(&server, n, plain, 10);
    must_talk(&server, &client, 10);
    ck_assert(client.r.owes_update);
    ck_assert(server.r.asked_update);
    ck_assert_uint_eq(tls_record_sealed_size(&server.r, 0), 0);
    must_talk(&server, &client, 10);
    must_talk(&client, &server, 10);
    ck_assert_uint_eq(server.r.read_seq, 1);
    ck_assert(!server.r.asked_update);
    end_pair();
}
END_TEST

/* There is no KeyUpdate in 1.2. */
START_TEST(no_key_update_in_12)
{
    start_pair((enum tls_suite)_i);
    ck_assert_uint_eq(tls_record_key_update(crypto, &client.r, true, wire, sizeof wire), 0);
    client.r.write_seq = server.r.read_seq = TLS_UPDATE_AFTER + 5;
    must_talk(&client, &server, 10);
    end_pair();
}
END_TEST

/* Sequence numbers do not wrap: the last but one is for data, the last one for an alert. */
START_TEST(sequence_numbers_end)
{
    start_pair((enum tls_suite)_i);
    client.r.write_seq = server.r.read_seq = TLS_SEQ_MAX - 2;
    if (!is_13((enum tls_suite)_i)) {
        ck_assert_uint_eq(tls_record_seal(crypto, &client.r, plain, 16385, wire, sizeof wire), 0);
        must_talk(&client, &server, 10);
        ck_assert_uint_eq(tls_record_seal(crypto, &client.r, plain, 10, wire, sizeof wire), 0);
    } else {
        make_record(crypto, &client.r, &(struct odd_record){.type = 23}, plain, 10, wire);
        server.r.read_seq++;
    }
    size_t n = tls_record_alert(crypto, &client.r, TLS_ALERT_USER_CANCELED, wire, sizeof wire);
    ck_assert_uint_gt(n, 0);
    must_deliver(&server, n, NULL, 0);
    ck_assert_uint_eq(client.r.write_seq, TLS_SEQ_MAX);
    ck_assert_uint_eq(tls_record_alert(crypto, &client.r, TLS_ALERT_CLOSE_NOTIFY, wire, sizeof wire), 0);
    ck_assert_uint_eq(tls_record_seal(crypto, &client.r, plain, 10, wire, sizeof wire), 0);
    ck_assert_uint_eq(tls_record_key_update(crypto, &client.r, false, wire, sizeof wire), 0);
    /* whatever comes now */
    n = make_record(crypto, &client.r, &(struct odd_record){.type = 23}, plain, 10, wire);
    must_be_bad(&server, NULL, n, TLS_ALERT_INTERNAL_ERROR);
    end_pair();
}
END_TEST

/* ---- the end ---- */

/* close_notify each way: each half is wiped as it closes, the whole state when both have. */
START_TEST(close_both_ways)
{
    size_t size = tls_record_size((enum tls_suite)_i), half = tls_suites[_i].half_len;

    start_pair((enum tls_suite)_i);
    size_t n = tls_record_alert(crypto, &client.r, TLS_ALERT_CLOSE_NOTIFY, wire, sizeof wire);
    ck_assert(all_zero(client.r.keys, half));
    ck_assert(!all_zero(client.r.keys + half, half));
    ck_assert_uint_eq(tls_record_seal(crypto, &client.r, plain, 1, wire + n, sizeof wire - n), 0);
    ck_assert_uint_eq(tls_record_alert(crypto, &client.r, TLS_ALERT_CLOSE_NOTIFY, wire + n, TLS_SMALL_MAX),
                      0);
    memset(wire + n, 0x99, 100); /* what follows is ignored */
    ck_assert_int_eq(tls_record_open(crypto, &server.r, wire, n + 100, &opened), TLS_CLOSED);
    ck_assert_uint_eq(opened.used, n + 100);
    ck_assert(all_zero(server.r.keys + half, half));
    ck_assert_int_eq(tls_record_open(crypto, &server.r, wire, 50, &opened), TLS_CLOSED);
    ck_assert_uint_eq(opened.used, 50);

    must_talk(&server, &client, 20000); /* the other direction lives on */
    n = tls_record_alert(crypto, &server.r, TLS_ALERT_CLOSE_NOTIFY, wire, sizeof wire);
    ck_assert(all_zero(&server, size));
    ck_assert_int_eq(tls_record_open(crypto, &client.r, wire, n, &opened), TLS_CLOSED);
    ck_assert(all_zero(&client, size));
    end_pair();
}
END_TEST

/* A bad record after our close_notify: no alert can be sent any more, so all is wiped at once. */
START_TEST(bad_after_close)
{
    start_pair((enum tls_suite)_i);
    size_t n = tls_record_alert(crypto, &server.r, TLS_ALERT_CLOSE_NOTIFY, wire, sizeof wire);
    n = tls_record_seal(crypto, &client.r, plain, 1, wire, sizeof wire);
    wire[n - 1] ^= 1;
    ck_assert_int_eq(tls_record_open(crypto, &server.r, wire, n, &opened), TLS_BAD);
    ck_assert_int_eq(opened.alert, TLS_ALERT_BAD_RECORD_MAC);
    ck_assert(all_zero(&server, tls_record_size((enum tls_suite)_i)));
    end_pair();
}
END_TEST

/* A state that has ended neither opens nor seals. */
START_TEST(ended_state_is_harmless)
{
    start_pair((enum tls_suite)_i);
    size_t n = tls_record_seal(crypto, &client.r, plain, 10, wire, sizeof wire);
    tls_record_wipe(&server.r);
    tls_record_wipe(&server.r);
    ck_assert(all_zero(&server, tls_record_size((enum tls_suite)_i)));
    ck_assert_int_eq(tls_record_open(crypto, &server.r, wire, n, &opened), TLS_BAD);
    ck_assert_int_eq(opened.alert, TLS_ALERT_NONE);
    ck_assert_uint_eq(tls_record_seal(crypto, &server.r, plain, 10, wire, sizeof wire), 0);
    ck_assert_uint_eq(tls_record_key_update(crypto, &server.r, false, wire, sizeof wire), 0);
    ck_assert_uint_eq(tls_record_alert(crypto, &server.r, TLS_ALERT_CLOSE_NOTIFY, wire, sizeof wire), 0);
    ck_assert(all_zero(&server, tls_record_size((enum tls_suite)_i)));
    end_pair();
}
END_TEST

/* After BAD the same bytes again, or others, are not looked at. */
START_TEST(bad_is_final)
{
    const struct tls_suite_info *s = &tls_suites[_i];

    start_pair((enum tls_suite)_i);
    size_t n = tls_record_seal(crypto, &client.r, plain, 10, wire, sizeof wire);
    memset(wire + n, 0, 5);
    ck_assert_int_eq(tls_record_open(crypto, &server.r, wire + n, 5, &opened), TLS_BAD);
    ck_assert(all_zero(server.r.keys + s->half_len, s->half_len)); /* keys for reading are gone */
    ck_assert_int_eq(tls_record_open(crypto, &server.r, wire, n, &opened), TLS_BAD);
    ck_assert_int_eq(opened.alert, TLS_ALERT_NONE);
    end_pair();
}
END_TEST

static void add_tests(TCase *tc)
{
    SUITES_13(tc, key_update_both_ways);
    SUITES_13(tc, key_update_crossing);
    SUITES_13(tc, key_update_forgets);
    SUITES_13(tc, key_update_before_the_limit);
    SUITES_13(tc, peer_is_asked_before_its_numbers_end);
    SUITES_12(tc, no_key_update_in_12);
    ALL_SUITES(tc, sequence_numbers_end);
    ALL_SUITES(tc, close_both_ways);
    ALL_SUITES(tc, bad_after_close);
    ALL_SUITES(tc, ended_state_is_harmless);
    ALL_SUITES(tc, bad_is_final);
}

UNIT_MAIN("tls_record_life")
