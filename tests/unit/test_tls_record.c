/*
 * The record codec against the records of RFC 8448 section 3 and against itself: content of every size
 * through every suite, both roles. test_tls_record_bad.c has what is malformed, test_tls_record_life.c
 * KeyUpdate, limits and closing, test_tls_interop.c OpenSSL at the other end.
 */
#include "tests/unit/unit.h"

#include <string.h>

#include "tests/unit/tls_record_rig.h"

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

/* max_fragment_length: what is sent keeps to it, and what comes has to (RFC 6066 section 4). */
START_TEST(short_fragments_both_ways)
{
    static const union tls_end zero;
    const struct tls_suite_info *s = &tls_suites[_i];
    size_t extra = 5 + 16 + s->explicit_len + (s->v13 ? 1 : 0);

    for (uint8_t code = 1; code <= 4; code++) {
        size_t most = (size_t)256 << code, n;
        start_pair((enum tls_suite)_i);
        struct tls_handover h = made_up_handover((enum tls_suite)_i, false);
        h.fragment = code;
        server = zero;
        ck_assert(tls_record_start(crypto, &server.r, &h));
        ck_assert_uint_eq(tls_record_sealed_size(&server.r, most), most + extra);
        ck_assert_uint_eq(tls_record_sealed_size(&server.r, most + 1), most + 1 + 2 * extra);
        n = tls_record_seal(crypto, &server.r, plain, 3 * most + 1, wire, sizeof wire);
        ck_assert_uint_eq(n, 3 * most + 1 + 4 * extra);
        for (size_t at = 0, i = 0; at < n; i++, at += most + extra)
            ck_assert_uint_eq((size_t)(wire[at + 3] << 8 | wire[at + 4]), (i < 3 ? most : 1) + extra - 5);
        must_deliver(&client, n, plain, 3 * most + 1);
        n = make_record(crypto, &client.r, &(struct odd_record){.type = 23}, plain, most, wire);
        must_deliver(&server, n, plain, most);
        n = make_record(crypto, &client.r, &(struct odd_record){.type = 23}, plain, most + 1, wire);
        must_be_bad(&server, &client, n, TLS_ALERT_RECORD_OVERFLOW);
        end_pair();
    }
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
    h.records_written = 0;
    h.fragment = 5;
    ck_assert(!tls_record_start(crypto, &e.r, &h));
    ck_assert(all_zero(&e, tls_record_size(TLS13_AES_256_GCM)));
    end_pair();
}
END_TEST

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
    ALL_SUITES(tc, short_fragments_both_ways);
    tcase_add_test(tc, handover_that_cannot_be);
}

UNIT_MAIN("tls_record")
