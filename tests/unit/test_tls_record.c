/*
 * The record codec against the records of RFC 8448 section 3 and against itself: content of every size
 * through every suite, both roles; each way in which a record can be malformed with the alert that the RFC
 * asks for; KeyUpdate, closing, limits, wiping. test_tls_interop.c has OpenSSL at the other end.
 */
#include "proto/tls_record.h"

#include <string.h>

#include <openssl/err.h>

#include "tests/unit/hex.h"
#include "tests/unit/tls_pair.h"
#include "tests/unit/unit.h"

#define BIG      100000
#define BIG_ROOM (BIG + 8 * 64)

static struct tls_crypto *crypto;
static union tls_end client, server;
static uint8_t wire[BIG_ROOM], plain[BIG];
static struct tls_opened opened;

static void start_pair(enum tls_suite suite)
{
    crypto = tls_crypto_new();
    ck_assert_ptr_nonnull(crypto);
    start_end(crypto, &client, suite, true);
    start_end(crypto, &server, suite, false);
    for (size_t i = 0; i < sizeof plain; i++)
        plain[i] = (uint8_t)(i * 31 >> 3);
}

static void end_pair(void)
{
    ck_assert_uint_eq(ERR_peek_error(), 0);
    tls_crypto_free(crypto);
}

static bool is_13(enum tls_suite suite) { return tls_suites[suite].v13; }

/* Feeds all of `len` bytes of wire to `to`, and requires the `want` bytes of content to come out of it. */
static void must_deliver(union tls_end *to, size_t len, const uint8_t *want, size_t want_len)
{
    size_t at = 0, got = 0;

    while (at < len) {
        enum tls_result result = tls_record_open(crypto, &to->r, wire + at, len - at, &opened);
        ck_assert_msg(result == TLS_DATA || result == TLS_CONTROL, "%d: %s", result, opened.why);
        ck_assert_int_eq(opened.alert, TLS_ALERT_NONE);
        at += opened.used;
        if (result == TLS_CONTROL)
            continue;
        ck_assert_uint_ge(want_len - got, opened.len);
        ck_assert_mem_eq(opened.data, want + got, opened.len);
        got += opened.len;
    }
    ck_assert_uint_eq(got, want_len);
}

/* `from` says something to `to`, which understands it. */
static void must_talk(union tls_end *from, union tls_end *to, size_t len)
{
    size_t size = tls_record_sealed_size(&from->r, len);
    size_t n = tls_record_seal(crypto, &from->r, plain, len, wire, sizeof wire);

    ck_assert_uint_eq(n, size);
    must_deliver(to, n, plain, len);
}

/* The first record in wire must be found bad with this alert, which can then be sent and arrives; all is
 * wiped. */
static void must_be_bad(union tls_end *to, union tls_end *from, size_t len, enum tls_alert alert)
{
    size_t size = tls_record_size(to->r.suite);
    bool early = to->r.failed;

    ck_assert_int_eq(tls_record_open(crypto, &to->r, wire, len, &opened), TLS_BAD);
    ck_assert_msg(opened.alert == alert, "alert %d, expected %d (%s)", opened.alert, alert, opened.why);
    ck_assert_uint_eq(opened.used, 0);
    ck_assert_ptr_nonnull(opened.why);
    ck_assert(!early);

    uint8_t out[TLS_SMALL_MAX];
    ck_assert_uint_eq(tls_record_seal(crypto, &to->r, plain, 1, wire, sizeof wire), 0);
    ck_assert_uint_eq(tls_record_key_update(crypto, &to->r, true, wire, sizeof wire), 0);
    size_t n = tls_record_alert(crypto, &to->r, alert, out, sizeof out);
    ck_assert_uint_gt(n, 0);
    ck_assert(all_zero(to, size));
    if (!from)
        return;
    size = tls_record_size(from->r.suite);
    ck_assert_int_eq(tls_record_open(crypto, &from->r, out, n, &opened), TLS_REFUSED);
    ck_assert_int_eq(opened.alert, alert);
    ck_assert(all_zero(from, size));
}

/* ---- vectors ---- */

#define CLIENT_SECRET "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5"
#define SERVER_SECRET "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643"
#define TICKET_RECORD                                                                                        \
    "17030300de3a6b8f90414a97d6959c3487680de5134a2b240e6cffac116e95d41d6af8f6b580dcf3d11d63c758db289a015940" \
    "25"                                                                                                     \
    "2f55713e061dc13e078891a38efbcf5753ad8ef170ad3c7353d16d9da773b9ca7f2b9fa1b6c0d4a3d03f75e09c30ba1e62972a" \
    "c46f75f7b981be63439b2999ce13064615139891d5e4c5b406f16e3fc181a77ca475840025db2f0a77f81b5ab05b94c0134675" \
    "5f69232c86519d86cbeeac87aac347d143f9605d64f650db4d023e70e952ca49fe5137121c74bc2697687e248746d6df353005" \
    "f3bce18696129c8153556b3b6c6779b37bf15985684f"
#define CLIENT_DATA                                                                                          \
    "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b62974e" \
    "1f"                                                                                                     \
    "5a6292a2977014bd1e3deae63aeebb21694915e4"
#define SERVER_DATA                                                                                          \
    "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb501a59a8fcc49c" \
    "4b"                                                                                                     \
    "f2e5f0a21c0047c2abf332540dd032e167c2955d"
#define CLIENT_CLOSE "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3"
#define SERVER_CLOSE "1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9"

/* Starts one side of the connection of RFC 8448 section 3 as it stands after the handshake. */
static void start_8448(union tls_end *e, bool is_client, uint64_t written, uint64_t read)
{
    uint8_t secrets[64];
    struct tls_handover h = {.suite = TLS13_AES_128_GCM,
                             .is_client = is_client,
                             .records_written = written,
                             .records_read = read,
                             .client_secret = secrets,
                             .server_secret = secrets + 32};

    from_hex(CLIENT_SECRET, secrets, 32);
    from_hex(SERVER_SECRET, secrets + 32, 32);
    ck_assert(tls_record_start(crypto, &e->r, &h));
}

static void must_make(size_t n, const char *record)
{
    uint8_t want[256];

    ck_assert_uint_eq(n, from_hex(record, want, sizeof want));
    ck_assert_mem_eq(wire, want, n);
}

/* The client: skips the ticket, answers, hears the server and its close_notify; all bytes as printed. */
START_TEST(rfc_8448_client)
{
    uint8_t content[50];

    crypto = tls_crypto_new();
    for (int i = 0; i < 50; i++)
        content[i] = (uint8_t)i;
    start_8448(&client, true, 0, 0);
    size_t len = from_hex(TICKET_RECORD, wire, sizeof wire);
    ck_assert_int_eq(tls_record_open(crypto, &client.r, wire, len, &opened), TLS_CONTROL);
    ck_assert_uint_eq(opened.used, len);
    must_make(tls_record_seal(crypto, &client.r, content, 50, wire, sizeof wire), CLIENT_DATA);
    must_deliver(&client, from_hex(SERVER_DATA, wire, sizeof wire), content, 50);
    must_make(tls_record_alert(crypto, &client.r, TLS_ALERT_CLOSE_NOTIFY, wire, sizeof wire), CLIENT_CLOSE);
    len = from_hex(SERVER_CLOSE, wire, sizeof wire);
    ck_assert_int_eq(tls_record_open(crypto, &client.r, wire, len, &opened), TLS_CLOSED);
    ck_assert(all_zero(&client, tls_record_size(TLS13_AES_128_GCM)));
    end_pair();
}
END_TEST

/* The server, taken over after one ticket. */
START_TEST(rfc_8448_server)
{
    uint8_t content[50];

    crypto = tls_crypto_new();
    for (int i = 0; i < 50; i++)
        content[i] = (uint8_t)i;
    start_8448(&server, false, 1, 0);
    must_deliver(&server, from_hex(CLIENT_DATA, wire, sizeof wire), content, 50);
    must_make(tls_record_seal(crypto, &server.r, content, 50, wire, sizeof wire), SERVER_DATA);
    size_t len = from_hex(CLIENT_CLOSE, wire, sizeof wire);
    ck_assert_int_eq(tls_record_open(crypto, &server.r, wire, len, &opened), TLS_CLOSED);
    must_make(tls_record_alert(crypto, &server.r, TLS_ALERT_CLOSE_NOTIFY, wire, sizeof wire), SERVER_CLOSE);
    ck_assert(all_zero(&server, tls_record_size(TLS13_AES_128_GCM)));
    end_pair();
}
END_TEST

/* ---- content ---- */

START_TEST(sizes_of_states)
{
    static const size_t sizes[TLS_SUITES] = {16, 136, 200, 168, 56, 88, 104};

    for (int s = TLS_SUITE_NONE; s < TLS_SUITES; s++) {
        ck_assert_uint_eq(tls_record_size((enum tls_suite)s), sizes[s]);
        ck_assert_uint_le(sizes[s], TLS_STATE_MAX);
    }
}
END_TEST

START_TEST(every_size_both_ways)
{
    static const size_t sizes[] = {1, 2, 15, 16, 17, 64, 1024, 16383, 16384, 16385, 32768, 65536, BIG};

    start_pair((enum tls_suite)_i);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        must_talk(&client, &server, sizes[i]);
        must_talk(&server, &client, sizes[i]);
    }
    for (size_t len = 1; len < 300; len++)
        must_talk(&server, &client, len);
    must_talk(&server, &client, 0);
    end_pair();
}
END_TEST

/* Fragments are of 2^14 bytes, and the header of each is what the RFC says. */
START_TEST(records_on_the_wire)
{
    const struct tls_suite_info *s = &tls_suites[_i];
    size_t extra = 16 + s->explicit_len + (s->v13 ? 1 : 0);

    start_pair((enum tls_suite)_i);
    size_t n = tls_record_seal(crypto, &server.r, plain, 16385, wire, sizeof wire);
    ck_assert_uint_eq(n, 16385 + 2 * (5 + extra));
    ck_assert_uint_eq(wire[0], 23);
    ck_assert_uint_eq(wire[1] << 8 | wire[2], 0x0303);
    ck_assert_uint_eq((size_t)(wire[3] << 8 | wire[4]), 16384 + extra);
    uint8_t *second = wire + 5 + 16384 + extra;
    ck_assert_uint_eq((size_t)(second[3] << 8 | second[4]), 1 + extra);
    end_pair();
}
END_TEST

/* Too little room, or nothing to say: nothing happens. */
START_TEST(room_is_respected)
{
    union tls_end before;

    start_pair((enum tls_suite)_i);
    size_t need = tls_record_sealed_size(&client.r, 20000);
    before = client;
    ck_assert_uint_eq(tls_record_seal(crypto, &client.r, plain, 20000, wire, need - 1), 0);
    ck_assert_uint_eq(tls_record_seal(crypto, &client.r, plain, 0, wire, need), 0);
    ck_assert_uint_eq(tls_record_alert(crypto, &client.r, TLS_ALERT_CLOSE_NOTIFY, wire, 22), 0);
    ck_assert_uint_eq(tls_record_key_update(crypto, &client.r, false, wire, 26), 0);
    ck_assert_uint_eq(tls_record_alert(crypto, &client.r, TLS_ALERT_NONE, wire, need), 0);
    ck_assert_mem_eq(&before, &client, tls_record_size((enum tls_suite)_i));
    ck_assert_uint_eq(tls_record_seal(crypto, &client.r, plain, 20000, wire, need), need);
    must_deliver(&server, need, plain, 20000);
    end_pair();
}
END_TEST

/* Every beginning of a record is MORE and says how much is needed; nothing changes meanwhile. */
START_TEST(parts_of_a_record)
{
    union tls_end before;

    start_pair((enum tls_suite)_i);
    size_t n = tls_record_seal(crypto, &client.r, plain, 40, wire, sizeof wire);
    before = server;
    for (size_t part = 0; part < n; part++) {
        ck_assert_int_eq(tls_record_open(crypto, &server.r, wire, part, &opened), TLS_MORE);
        ck_assert_uint_eq(opened.need, part < 5 ? 5 : n);
        ck_assert_uint_eq(opened.used, 0);
        ck_assert_ptr_null(opened.data);
        ck_assert_mem_eq(&before, &server, tls_record_size((enum tls_suite)_i));
    }
    must_deliver(&server, n, plain, 40);
    end_pair();
}
END_TEST

/* A state is bytes: copied elsewhere it goes on, in the middle of a message split over records. */
START_TEST(state_moves_as_bytes)
{
    union tls_end elsewhere;
    static const uint8_t half_update[] = {24, 0, 0};
    size_t size = tls_record_size((enum tls_suite)_i);

    start_pair((enum tls_suite)_i);
    must_talk(&client, &server, 1000);
    must_talk(&server, &client, 10);
    if (is_13((enum tls_suite)_i)) {
        size_t n = make_record(crypto, &client.r, &(struct odd_record){.type = 22}, half_update, 3, wire);
        must_deliver(&server, n, NULL, 0);
    }
    memcpy(&elsewhere, &server, size);
    tls_record_wipe(&server.r);
    ck_assert(all_zero(&server, size));
    if (is_13((enum tls_suite)_i)) {
        size_t n =
            make_record(crypto, &client.r, &(struct odd_record){.type = 22}, (uint8_t[]){1, 0}, 2, wire);
        must_deliver(&elsewhere, n, NULL, 0);
        ck_assert(tls_keys_update(crypto, (enum tls_suite)_i, client.r.keys));
        client.r.write_seq = 0;
    }
    must_talk(&client, &elsewhere, 20000);
    must_talk(&elsewhere, &client, 20000);
    end_pair();
}
END_TEST

START_TEST(handover_that_cannot_be)
{
    union tls_end e;
    struct tls_handover h;

    crypto = tls_crypto_new();
    h = made_up_handover(TLS_SUITE_NONE, false);
    ck_assert(!tls_record_start(crypto, &e.r, &h));
    h = made_up_handover(TLS13_AES_256_GCM, false);
    h.records_read = TLS_SEQ_MAX;
    ck_assert(!tls_record_start(crypto, &e.r, &h));
    h.records_read = 0;
    h.records_written = TLS_SEQ_MAX;
    ck_assert(!tls_record_start(crypto, &e.r, &h));
    ck_assert(all_zero(&e, tls_record_size(TLS13_AES_256_GCM)));
    end_pair();
}
END_TEST

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

#define ALL_SUITES(tc, test)  tcase_add_loop_test(tc, test, TLS13_AES_128_GCM, TLS_SUITES)
#define SUITES_13(tc, test)   tcase_add_loop_test(tc, test, TLS13_AES_128_GCM, TLS12_AES_128_GCM)
#define SUITES_12(tc, test)   tcase_add_loop_test(tc, test, TLS12_AES_128_GCM, TLS_SUITES)
#define ROWS(tc, test, table) tcase_add_loop_test(tc, test, 0, sizeof table / sizeof *table)

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, rfc_8448_client);
    tcase_add_test(tc, rfc_8448_server);
    tcase_add_test(tc, sizes_of_states);
    ALL_SUITES(tc, every_size_both_ways);
    ALL_SUITES(tc, records_on_the_wire);
    ALL_SUITES(tc, room_is_respected);
    ALL_SUITES(tc, parts_of_a_record);
    ALL_SUITES(tc, state_moves_as_bytes);
    tcase_add_test(tc, handover_that_cannot_be);
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

UNIT_MAIN("tls_record")
