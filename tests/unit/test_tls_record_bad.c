/*
 * What the record codec does with records that no honest peer sends: each way in which one can be malformed,
 * or means what it must not mean, with the alert that the RFC asks for; floods.
 */
#include "tests/unit/unit.h"

#include <string.h>

#include "tests/unit/tls_record_rig.h"

/* ---- malformed ---- */

/* A single bit anywhere makes the record bad; never content, never a crash. */
START_TEST(every_bit_counts)
{
    uint8_t record[64];
    union tls_end fresh;

    start_pair((enum tls_suite)_i);
    size_t n = tls_record_seal(crypto, &client.r, plain, 10, record, sizeof record);
    fresh = server;
    for (size_t bit = 0; bit < n * 8; bit++) {
        server = fresh;
        memcpy(wire, record, n);
        wire[bit / 8] ^= (uint8_t)(1 << bit % 8);
        enum tls_result result = tls_record_open(crypto, &server.r, wire, n, &opened);
        if (result == TLS_MORE) {
            ck_assert(bit / 8 == 3 || bit / 8 == 4);
            ck_assert_uint_gt(opened.need, n);
            continue;
        }
        ck_assert_int_eq(result, TLS_BAD);
        if (bit / 8 >= 5)
            ck_assert_int_eq(opened.alert, TLS_ALERT_BAD_RECORD_MAC);
    }
    server = fresh;
    memcpy(wire, record, n);
    must_deliver(&server, n, plain, 10);
    end_pair();
}
END_TEST

/* A record again, one left out, or one from the other direction is not authentic. */
START_TEST(order_counts)
{
    uint8_t first[64];
    union tls_end fresh_client, fresh_server;

    start_pair((enum tls_suite)_i);
    fresh_client = client;
    fresh_server = server;
    size_t n = tls_record_seal(crypto, &client.r, plain, 10, first, sizeof first);
    memcpy(wire, first, n);
    must_deliver(&server, n, plain, 10);
    memcpy(wire, first, n);
    must_be_bad(&server, &client, n, TLS_ALERT_BAD_RECORD_MAC);

    client = fresh_client;
    server = fresh_server;
    n = tls_record_seal(crypto, &client.r, plain, 10, wire, sizeof wire);
    n = tls_record_seal(crypto, &client.r, plain, 10, wire, sizeof wire);
    must_be_bad(&server, &client, n, TLS_ALERT_BAD_RECORD_MAC);

    client = fresh_client;
    server = fresh_server;
    n = tls_record_seal(crypto, &server.r, plain, 10, wire, sizeof wire);
    must_be_bad(&server, NULL, n, TLS_ALERT_BAD_RECORD_MAC);
    end_pair();
}
END_TEST

/* What is refused by its header alone, before the rest has come. 13: TLS 1.3, 12: 1.2, 0: both. */
static const struct {
    int version;
    const char *header;
    enum tls_alert alert;
} bad_headers[] = {
    {13, "1403030001", TLS_ALERT_UNEXPECTED_MESSAGE}, /* change_cipher_spec after the handshake */
    {13, "1503030002", TLS_ALERT_UNEXPECTED_MESSAGE}, /* alert in the clear */
    {13, "1603030040", TLS_ALERT_UNEXPECTED_MESSAGE}, /* handshake in the clear */
    {0, "1803030040", TLS_ALERT_UNEXPECTED_MESSAGE},  /* heartbeat */
    {0, "0003030040", TLS_ALERT_UNEXPECTED_MESSAGE},
    {0, "4745542f20", TLS_ALERT_UNEXPECTED_MESSAGE}, /* "GET / " */
    {12, "1403030011", TLS_ALERT_UNEXPECTED_MESSAGE},
    {12, "1703010040", TLS_ALERT_PROTOCOL_VERSION},
    {12, "1703040040", TLS_ALERT_PROTOCOL_VERSION},
    {12, "1503020040", TLS_ALERT_PROTOCOL_VERSION},
    {0, "1703034101", TLS_ALERT_RECORD_OVERFLOW}, /* 2^14 + 257 */
    {0, "170303ffff", TLS_ALERT_RECORD_OVERFLOW},
    {0, "1703030000", TLS_ALERT_BAD_RECORD_MAC},
    {0, "170303000f", TLS_ALERT_BAD_RECORD_MAC}, /* less than a tag */
};

START_TEST(bad_header)
{
    for (int suite = 1; suite < TLS_SUITES; suite++) {
        if (bad_headers[_i].version && (bad_headers[_i].version == 13) != is_13((enum tls_suite)suite))
            continue;
        start_pair((enum tls_suite)suite);
        ck_assert_uint_eq(from_hex(bad_headers[_i].header, wire, 5), 5);
        must_be_bad(&server, &client, 5, bad_headers[_i].alert);
        end_pair();
    }
}
END_TEST

/* What a record cannot do without is its explicit nonce, if it has one, and the tag. */
START_TEST(shortest_record)
{
    uint8_t least = (uint8_t)(tls_suites[_i].explicit_len + TLS_TAG_LEN);

    start_pair((enum tls_suite)_i);
    memcpy(wire, (uint8_t[]){23, 3, 3, 0, least}, 5);
    ck_assert_int_eq(tls_record_open(crypto, &server.r, wire, 5, &opened), TLS_MORE);
    wire[4]--;
    must_be_bad(&server, &client, 5, TLS_ALERT_BAD_RECORD_MAC);
    end_pair();
}
END_TEST

/* The longest header that may be all right waits for its record. */
START_TEST(longest_record)
{
    start_pair((enum tls_suite)_i);
    from_hex("1703034100", wire, 5);
    ck_assert_int_eq(tls_record_open(crypto, &server.r, wire, 5, &opened), TLS_MORE);
    ck_assert_uint_eq(opened.need, TLS_RECORD_MAX);
    end_pair();
}
END_TEST

/* 1.3: the version in the header is ignored, though authenticated. */
START_TEST(version_is_ignored_in_13)
{
    start_pair(TLS13_AES_128_GCM);
    size_t n =
        make_record(crypto, &client.r, &(struct odd_record){.type = 23, .version = 0x0301}, plain, 9, wire);
    must_deliver(&server, n, plain, 9);
    n = make_record(crypto, &client.r, &(struct odd_record){.type = 23, .version = 0xffff}, plain, 9, wire);
    wire[1] = wire[2] = 3;
    must_be_bad(&server, &client, n, TLS_ALERT_BAD_RECORD_MAC);
    end_pair();
}
END_TEST

/* 1.3: padding of any length is taken off, up to 2^14 bytes with the content; only padding is refused. */
START_TEST(padding)
{
    static const struct {
        size_t content, padding;
    } rows[] = {{1, 1}, {1, 255}, {100, 1000}, {0, 0}, {0, 100}, {1, 16383}, {0, 16384}, {16384, 0}};
    size_t n;

    start_pair((enum tls_suite)_i);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct odd_record odd = {.type = 23, .padding = rows[i].padding};
        n = make_record(crypto, &client.r, &odd, plain + 7, rows[i].content, wire);
        must_deliver(&server, n, plain + 7, rows[i].content);
    }
    n = make_record(crypto, &client.r, &(struct odd_record){.no_type = true, .padding = 5}, NULL, 0, wire);
    must_be_bad(&server, &client, n, TLS_ALERT_UNEXPECTED_MESSAGE);
    end_pair();
    start_pair((enum tls_suite)_i);
    n = make_record(crypto, &client.r, &(struct odd_record){.no_type = true}, NULL, 0, wire);
    must_be_bad(&server, &client, n, TLS_ALERT_UNEXPECTED_MESSAGE);
    end_pair();
}
END_TEST

/* More than 2^14 bytes of content, or of content and padding, within a record that is not too long. */
START_TEST(too_much_content)
{
    start_pair((enum tls_suite)_i);
    size_t n = make_record(crypto, &client.r, &(struct odd_record){.type = 23}, plain, 16385, wire);
    must_be_bad(&server, &client, n, TLS_ALERT_RECORD_OVERFLOW);
    end_pair();
    if (!is_13((enum tls_suite)_i))
        return;
    start_pair((enum tls_suite)_i);
    n = make_record(crypto, &client.r, &(struct odd_record){.type = 23, .padding = 16384}, plain, 1, wire);
    must_be_bad(&server, &client, n, TLS_ALERT_RECORD_OVERFLOW);
    end_pair();
}
END_TEST

/* Records without content are allowed, but not for ever; content starts the count anew. */
START_TEST(empty_records_are_bounded)
{
    start_pair((enum tls_suite)_i);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < TLS_QUIET_MAX; i++) {
            size_t n = make_record(crypto, &client.r, &(struct odd_record){.type = 23}, NULL, 0, wire);
            must_deliver(&server, n, NULL, 0);
        }
        must_talk(&client, &server, 1);
    }
    for (int i = 0; i < TLS_QUIET_MAX; i++) {
        size_t n = make_record(crypto, &client.r, &(struct odd_record){.type = 23}, NULL, 0, wire);
        must_deliver(&server, n, NULL, 0);
    }
    size_t n = make_record(crypto, &client.r, &(struct odd_record){.type = 23}, NULL, 0, wire);
    must_be_bad(&server, &client, n, TLS_ALERT_UNEXPECTED_MESSAGE);
    end_pair();
}
END_TEST

/*
 * Authentic records that mean something, or should not have been sent: up to four in a row, each its type and
 * content, all but the last one accepted. The result of the last one, and the alert that comes with it.
 */
#define H         22
#define A         21
#define D         23
#define NONE      TLS_ALERT_NONE
#define NO_RENEG  TLS_ALERT_NO_RENEGOTIATION
#define UNEXPECT  TLS_ALERT_UNEXPECTED_MESSAGE
#define DECODE    TLS_ALERT_DECODE_ERROR
#define ILLEGAL   TLS_ALERT_ILLEGAL_PARAMETER
#define ZEROS_16  "00000000000000000000000000000000"
#define ZEROS_41  ZEROS_16 ZEROS_16 "000000000000000000"
#define TO_SERVER 1
#define TO_CLIENT 2
#define TO_BOTH   3

static const struct {
    int version, to;
    struct {
        uint8_t type;
        const char *hex;
    } record[4];
    enum tls_result result;
    enum tls_alert alert;
} content_rows[] = {
    /* content types that have no place */
    {13, TO_BOTH, {{20, "01"}}, TLS_BAD, UNEXPECT},
    {13, TO_BOTH, {{24, "01"}}, TLS_BAD, UNEXPECT},
    {13, TO_BOTH, {{255, "01"}}, TLS_BAD, UNEXPECT},
    {13, TO_BOTH, {{20, ""}}, TLS_BAD, UNEXPECT},
    /* KeyUpdate, whole, in parts, and wrong */
    {13, TO_BOTH, {{H, "1800000100"}}, TLS_CONTROL, NONE},
    {13, TO_BOTH, {{H, "1800000101"}}, TLS_CONTROL, NONE},
    {13, TO_BOTH, {{H, "18"}, {H, "000001"}, {H, "00"}}, TLS_CONTROL, NONE},
    {13, TO_BOTH, {{H, "1800"}, {H, "00"}, {H, "01"}, {H, "01"}}, TLS_CONTROL, NONE},
    {13, TO_BOTH, {{H, "18000001"}, {H, "00"}}, TLS_CONTROL, NONE},
    {13, TO_BOTH, {{H, "1800000102"}}, TLS_BAD, ILLEGAL},
    {13, TO_BOTH, {{H, "18000001ff"}}, TLS_BAD, ILLEGAL},
    {13, TO_BOTH, {{H, "18000001"}, {H, "02"}}, TLS_BAD, ILLEGAL},
    {13, TO_BOTH, {{H, "18000000"}}, TLS_BAD, DECODE},
    {13, TO_BOTH, {{H, "180000020000"}}, TLS_BAD, DECODE},
    {13, TO_BOTH, {{H, "1801"}}, TLS_BAD, DECODE},
    {13, TO_BOTH, {{H, "180001"}}, TLS_BAD, DECODE},
    {13, TO_BOTH, {{H, "18ffffff"}}, TLS_BAD, DECODE},
    {13, TO_BOTH, {{H, "18000001001800000100"}}, TLS_BAD, UNEXPECT},
    {13, TO_BOTH, {{H, "180000010018"}}, TLS_BAD, UNEXPECT},
    {13, TO_BOTH, {{H, "18000001"}, {H, "0018000001"}}, TLS_BAD, UNEXPECT},
    /* another record between the parts */
    {13, TO_BOTH, {{H, "18"}, {D, "aa"}}, TLS_BAD, UNEXPECT},
    {13, TO_BOTH, {{H, "18000001"}, {D, ""}}, TLS_BAD, UNEXPECT},
    {13, TO_BOTH, {{H, "180000"}, {A, "0100"}}, TLS_BAD, UNEXPECT},
    {13, TO_BOTH, {{H, "180000"}, {H, ""}}, TLS_BAD, UNEXPECT},
    /* other handshake messages */
    {13, TO_BOTH, {{H, ""}}, TLS_BAD, UNEXPECT},
    {13, TO_BOTH, {{H, "00000000"}}, TLS_BAD, UNEXPECT},          /* HelloRequest */
    {13, TO_BOTH, {{H, "01000029" ZEROS_41}}, TLS_BAD, UNEXPECT}, /* ClientHello */
    {13, TO_BOTH, {{H, "01"}}, TLS_BAD, UNEXPECT},
    {13, TO_BOTH, {{H, "05000000"}}, TLS_BAD, UNEXPECT},   /* EndOfEarlyData */
    {13, TO_BOTH, {{H, "0b000000"}}, TLS_BAD, UNEXPECT},   /* Certificate */
    {13, TO_BOTH, {{H, "0d000003"}}, TLS_BAD, UNEXPECT},   /* CertificateRequest: nobody offered that */
    {13, TO_BOTH, {{H, "14000020"}}, TLS_BAD, UNEXPECT},   /* Finished */
    {13, TO_BOTH, {{H, "fe000000"}}, TLS_BAD, UNEXPECT},   /* message_hash */
    {13, TO_SERVER, {{H, "0400000e"}}, TLS_BAD, UNEXPECT}, /* a ticket from a client */
    {13, TO_CLIENT, {{H, "04000010" ZEROS_16}}, TLS_CONTROL, NONE},
    {13, TO_CLIENT, {{H, "04000010" ZEROS_16 "04000010" ZEROS_16}}, TLS_CONTROL, NONE},
    {13, TO_CLIENT, {{H, "0400"}, {H, "0010" ZEROS_16 "1800"}, {H, "0001"}, {H, "00"}}, TLS_CONTROL, NONE},
    {13, TO_CLIENT, {{H, "04000010" ZEROS_16 "1800000101"}}, TLS_CONTROL, NONE},
    {13, TO_CLIENT, {{H, "04000020" ZEROS_16}, {D, "aa"}}, TLS_BAD, UNEXPECT},
    {13, TO_CLIENT, {{H, "0400000e0000"}}, TLS_CONTROL, NONE},
    {13, TO_CLIENT, {{H, "0400000d"}}, TLS_BAD, DECODE},
    {13, TO_CLIENT, {{H, "0403"}}, TLS_BAD, DECODE},
    {13, TO_CLIENT, {{H, "0402010a"}}, TLS_BAD, DECODE}, /* one more than a ticket can have */
    {13, TO_CLIENT, {{H, "04020109"}}, TLS_CONTROL, NONE},
    /* alerts */
    {13, TO_BOTH, {{A, "0100"}}, TLS_CLOSED, NONE},
    {13, TO_BOTH, {{A, "0200"}}, TLS_CLOSED, NONE}, /* the level means nothing in 1.3 */
    {13, TO_BOTH, {{A, "015a"}}, TLS_CONTROL, NONE},
    {13, TO_BOTH, {{A, "015a"}, {A, "0100"}}, TLS_CLOSED, NONE},
    {13, TO_BOTH, {{A, "0214"}}, TLS_REFUSED, TLS_ALERT_BAD_RECORD_MAC},
    {13, TO_BOTH, {{A, "0114"}}, TLS_REFUSED, TLS_ALERT_BAD_RECORD_MAC},
    {13, TO_BOTH, {{A, "0164"}}, TLS_REFUSED, NO_RENEG},
    {13, TO_BOTH, {{A, "02c8"}}, TLS_REFUSED, (enum tls_alert)200}, /* unknown */
    {13, TO_BOTH, {{A, "0914"}}, TLS_REFUSED, TLS_ALERT_BAD_RECORD_MAC},
    {0, TO_BOTH, {{A, ""}}, TLS_BAD, UNEXPECT},
    {0, TO_BOTH, {{A, "01"}}, TLS_BAD, DECODE},
    {0, TO_BOTH, {{A, "010000"}}, TLS_BAD, DECODE},
    {0, TO_BOTH, {{A, "015a0100"}}, TLS_BAD, DECODE},
    {12, TO_BOTH, {{A, "0100"}}, TLS_CLOSED, NONE},
    {12, TO_BOTH, {{A, "0200"}}, TLS_CLOSED, NONE},
    {12, TO_BOTH, {{A, "0164"}}, TLS_CONTROL, NONE},
    {12, TO_BOTH, {{A, "01c8"}}, TLS_CONTROL, NONE},
    {12, TO_BOTH, {{A, "0214"}}, TLS_REFUSED, TLS_ALERT_BAD_RECORD_MAC},
    {12, TO_BOTH, {{A, "0014"}}, TLS_BAD, ILLEGAL},
    {12, TO_BOTH, {{A, "0300"}}, TLS_BAD, ILLEGAL},
    /* no renegotiation in 1.2 */
    {12, TO_SERVER, {{H, "01000029" ZEROS_41}}, TLS_CONTROL, NO_RENEG},
    {12, TO_SERVER, {{H, "01000029" ZEROS_41}, {D, "aa"}}, TLS_DATA, NONE},
    {12, TO_SERVER, {{H, "01000030" ZEROS_41}, {D, "aa"}, {H, "00000000000000"}, {D, "aa"}}, TLS_DATA, NONE},
    {12,
     TO_SERVER,
     {{H, "01000030" ZEROS_41}, {H, "000000000000000100"}, {H, "0029"}},
     TLS_CONTROL,
     NO_RENEG},
    {12, TO_SERVER, {{H, "01000028"}}, TLS_BAD, DECODE},
    {12, TO_SERVER, {{H, "0103"}}, TLS_BAD, DECODE},
    {12, TO_SERVER, {{H, "00000000"}}, TLS_BAD, UNEXPECT},
    {12, TO_CLIENT, {{H, "00000000"}}, TLS_CONTROL, NO_RENEG},
    {12, TO_CLIENT, {{H, "0000000000000000"}}, TLS_CONTROL, NO_RENEG},
    {12, TO_CLIENT, {{H, "0000"}, {H, "0000"}, {D, "aa"}}, TLS_DATA, NONE},
    {12, TO_CLIENT, {{H, "00000001"}}, TLS_BAD, DECODE},
    {12, TO_CLIENT, {{H, "01000029"}}, TLS_BAD, UNEXPECT},
    {12, TO_BOTH, {{H, "02000029"}}, TLS_BAD, UNEXPECT},
    {12, TO_BOTH, {{H, "14000010"}}, TLS_BAD, UNEXPECT},
    {12, TO_BOTH, {{H, "1800000100"}}, TLS_BAD, UNEXPECT}, /* KeyUpdate is of 1.3 */
    {12, TO_BOTH, {{H, "0400000e"}}, TLS_BAD, UNEXPECT},
    {12, TO_BOTH, {{H, ""}}, TLS_BAD, UNEXPECT},
};

/* Sends what a row says with the keys of `from`, and looks at what `to` makes of it. */
static void run_content_row(int row, union tls_end *from, union tls_end *to)
{
    uint8_t content[128];

    for (int k = 0; k < 4 && content_rows[row].record[k].hex; k++) {
        bool last = k == 3 || !content_rows[row].record[k + 1].hex;
        size_t len = from_hex(content_rows[row].record[k].hex, content, sizeof content);
        struct odd_record odd = {.type = content_rows[row].record[k].type};
        size_t n = make_record(crypto, &from->r, &odd, content, len, wire);
        if (last && content_rows[row].result == TLS_BAD) {
            must_be_bad(to, from, n, content_rows[row].alert);
            return;
        }
        enum tls_result result = tls_record_open(crypto, &to->r, wire, n, &opened);
        ck_assert_uint_eq(opened.used, n);
        if (last) {
            ck_assert_int_eq(result, content_rows[row].result);
            ck_assert_int_eq(opened.alert, content_rows[row].alert);
        } else {
            ck_assert_msg(result == TLS_CONTROL || result == TLS_DATA, "record %d: %s", k, opened.why);
        }
    }
}

START_TEST(content_after_the_handshake)
{
    for (int suite = 1; suite < TLS_SUITES; suite++) {
        if (content_rows[_i].version && (content_rows[_i].version == 13) != is_13((enum tls_suite)suite))
            continue;
        if (content_rows[_i].to & TO_SERVER) {
            start_pair((enum tls_suite)suite);
            run_content_row(_i, &client, &server);
            end_pair();
        }
        if (content_rows[_i].to & TO_CLIENT) {
            start_pair((enum tls_suite)suite);
            run_content_row(_i, &server, &client);
            end_pair();
        }
    }
}
END_TEST

/* A ticket as long as a ticket can be, over nine records, then content. */
START_TEST(longest_ticket)
{
    enum { BODY = 131337 };
    uint8_t part[16384] = {4, BODY >> 16, (BODY >> 8) & 255, BODY & 255};
    size_t left = BODY + 4;

    start_pair((enum tls_suite)_i);
    while (left > 0) {
        size_t len = left < sizeof part ? left : sizeof part;
        size_t n = make_record(crypto, &server.r, &(struct odd_record){.type = 22}, part, len, wire);
        must_deliver(&client, n, NULL, 0);
        memset(part, 0x18, sizeof part);
        left -= len;
    }
    must_talk(&server, &client, 100);
    end_pair();
}
END_TEST

/* KeyUpdates, warnings and empty records without end are one flood. */
START_TEST(floods_are_bounded)
{
    static const uint8_t warning[] = {1, 90};
    size_t n = 0;

    start_pair((enum tls_suite)_i);
    for (int i = 0; i <= TLS_QUIET_MAX; i++) {
        if (is_13((enum tls_suite)_i) && i % 2)
            n = tls_record_key_update(crypto, &client.r, true, wire, sizeof wire);
        else
            n = make_record(crypto, &client.r, &(struct odd_record){.type = 21}, warning, 2, wire);
        if (i < TLS_QUIET_MAX)
            must_deliver(&server, n, NULL, 0);
    }
    must_be_bad(&server, &client, n, TLS_ALERT_UNEXPECTED_MESSAGE);
    end_pair();
}
END_TEST

static void add_tests(TCase *tc)
{
    ALL_SUITES(tc, every_bit_counts);
    ALL_SUITES(tc, order_counts);
    ROWS(tc, bad_header, bad_headers);
    ALL_SUITES(tc, shortest_record);
    ALL_SUITES(tc, longest_record);
    tcase_add_test(tc, version_is_ignored_in_13);
    SUITES_13(tc, padding);
    ALL_SUITES(tc, too_much_content);
    ALL_SUITES(tc, empty_records_are_bounded);
    ROWS(tc, content_after_the_handshake, content_rows);
    SUITES_13(tc, longest_ticket);
    ALL_SUITES(tc, floods_are_bounded);
}

UNIT_MAIN("tls_record_bad")
