/*
 * The record codec against OpenSSL: a real handshake over memory BIOs, then one end's SSL is freed and the
 * codec carries its connection on from the secrets, as a server and as a client, in every suite. What the
 * codec is handed is what the gateway gets from OpenSSL too: the key log, the master secret, and the count of
 * records.
 */
#include "proto/tls_record.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "tests/unit/tls_pair.h"
#include "tests/unit/unit.h"

#define BIG      100000
#define BIG_ROOM (BIG + 4096)

/* One of OpenSSL's ends, with what is learnt about it on the way. */
struct ssl_end {
    SSL *ssl;
    BIO *in, *out;
    uint64_t records[2];   /* [0] read, [1] written, since the keys of application data are in force */
    uint8_t secret[2][48]; /* 1.3: [0] client's, [1] server's */
    unsigned secrets_seen;
};

static const struct {
    enum tls_suite suite;
    const char *list;
    int version;
    bool rsa;
} suites[] = {
    {TLS13_AES_128_GCM, "TLS_AES_128_GCM_SHA256", TLS1_3_VERSION, false},
    {TLS13_AES_256_GCM, "TLS_AES_256_GCM_SHA384", TLS1_3_VERSION, false},
    {TLS13_CHACHA20_POLY1305, "TLS_CHACHA20_POLY1305_SHA256", TLS1_3_VERSION, true},
    {TLS12_AES_128_GCM, "ECDHE-ECDSA-AES128-GCM-SHA256", TLS1_2_VERSION, false},
    {TLS12_AES_256_GCM, "ECDHE-ECDSA-AES256-GCM-SHA384", TLS1_2_VERSION, false},
    {TLS12_CHACHA20_POLY1305, "ECDHE-ECDSA-CHACHA20-POLY1305", TLS1_2_VERSION, false},
    {TLS12_AES_128_GCM, "ECDHE-RSA-AES128-GCM-SHA256", TLS1_2_VERSION, true},
    {TLS12_AES_256_GCM, "ECDHE-RSA-AES256-GCM-SHA384", TLS1_2_VERSION, true},
    {TLS12_CHACHA20_POLY1305, "ECDHE-RSA-CHACHA20-POLY1305", TLS1_2_VERSION, true},
};
enum { N_SUITES = sizeof suites / sizeof *suites, N_13 = 3 };

static struct tls_crypto *crypto;
static SSL_CTX *contexts[2];   /* [0] client, [1] server */
static struct ssl_end ends[2]; /* likewise */
static union tls_end ours;     /* what replaces ends[us] */
static int us;
static SSL_SESSION *kept; /* the client's last session ticket */
static EVP_PKEY *keys[2]; /* ECDSA, RSA: made once, before the tests fork */
static uint8_t plain[BIG], wire[BIG_ROOM], got[BIG];
static struct tls_opened opened;

static struct ssl_end *peer(void) { return &ends[!us]; }

/* ---- handshake ---- */

/*
 * Counts records under the keys of application data: in 1.2 all after ChangeCipherSpec, in 1.3 all after
 * Finished. (OpenSSL reports a record's header before the message in it.)
 */
static void count_records_cb(int write_p, int version, int type, const void *buf, size_t len, SSL *ssl,
                             void *arg)
{
    struct ssl_end *e = arg;
    const uint8_t *b = buf;

    (void)version;
    if (type == SSL3_RT_HEADER && len >= 5)
        e->records[write_p] = b[0] == SSL3_RT_CHANGE_CIPHER_SPEC ? 0 : e->records[write_p] + 1;
    if (type == SSL3_RT_HANDSHAKE && len && b[0] == SSL3_MT_FINISHED && SSL_version(ssl) == TLS1_3_VERSION)
        e->records[write_p] = 0;
}

static void keylog_cb(const SSL *ssl, const char *line)
{
    struct ssl_end *e = SSL_get_app_data(ssl);
    uint8_t secret[TLS_SECRET_MAX];
    size_t len;
    enum tls_keylog_label label = tls_keylog_decode(line, secret, &len);

    if (label == TLS_KEYLOG_OTHER)
        return;
    memcpy(e->secret[label == TLS_KEYLOG_SERVER_TRAFFIC], secret, len);
    e->secrets_seen++;
}

/* Keeps the session for a resumption. */
static int new_session_cb(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(kept);
    kept = session;
    return 1;
}

/* A certificate that the key signs for itself. */
static X509 *make_certificate(EVP_PKEY *key)
{
    X509 *x = X509_new();

    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    X509_NAME *name = X509_get_subject_name(x);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"localhost", -1, -1, 0);
    X509_set_issuer_name(x, name);
    ck_assert_int_gt(X509_sign(x, key, EVP_sha256()), 0);
    return x;
}

static void make_context(int side, int row, int tickets)
{
    SSL_CTX *ctx = contexts[side] = SSL_CTX_new(side ? TLS_server_method() : TLS_client_method());

    ck_assert_ptr_nonnull(ctx);
    SSL_CTX_set_min_proto_version(ctx, suites[row].version);
    SSL_CTX_set_max_proto_version(ctx, suites[row].version);
    if (suites[row].version == TLS1_3_VERSION)
        ck_assert_int_eq(SSL_CTX_set_ciphersuites(ctx, suites[row].list), 1);
    else
        ck_assert_int_eq(SSL_CTX_set_cipher_list(ctx, suites[row].list), 1);
    SSL_CTX_set_keylog_callback(ctx, keylog_cb);
    if (!side) {
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT);
        SSL_CTX_sess_set_new_cb(ctx, new_session_cb);
        return;
    }
    EVP_PKEY *key = keys[suites[row].rsa];
    X509 *x = make_certificate(key);
    ck_assert_int_eq(SSL_CTX_use_certificate(ctx, x), 1);
    ck_assert_int_eq(SSL_CTX_use_PrivateKey(ctx, key), 1);
    SSL_CTX_set_num_tickets(ctx, (size_t)tickets);
    X509_free(x);
}

static void make_end(int side)
{
    struct ssl_end *e = &ends[side];

    memset(e, 0, sizeof *e);
    e->ssl = SSL_new(contexts[side]);
    e->in = BIO_new(BIO_s_mem());
    e->out = BIO_new(BIO_s_mem());
    SSL_set_bio(e->ssl, e->in, e->out);
    SSL_set_app_data(e->ssl, e);
    SSL_set_msg_callback(e->ssl, count_records_cb);
    SSL_set_msg_callback_arg(e->ssl, e);
    if (side)
        SSL_set_accept_state(e->ssl);
    else
        SSL_set_connect_state(e->ssl);
}

/* Moves what one end wrote to the other one. */
static void carry(int from)
{
    uint8_t buf[4096];
    int n;

    while ((n = BIO_read(ends[from].out, buf, sizeof buf)) > 0)
        BIO_write(ends[!from].in, buf, n);
}

/* Until the handshake is done at both ends. `early`: bytes the client sends right behind its Finished. */
static void shake_hands(size_t early)
{
    bool said = false;

    for (int turns = 0; turns < 20; turns++) {
        bool client_done = SSL_do_handshake(ends[0].ssl) == 1;
        if (client_done && early && !said) {
            ck_assert_int_eq(SSL_write(ends[0].ssl, plain, (int)early), (int)early);
            said = true;
        }
        carry(0);
        bool server_done = SSL_do_handshake(ends[1].ssl) == 1;
        carry(1);
        if (client_done && server_done)
            return;
    }
    ck_abort_msg("no handshake");
}

/* ---- handing over ---- */

/* Frees the SSL of the side that is ours, and goes on from its secrets. What it had not read is in wire. */
static size_t take_over(int side)
{
    struct ssl_end *e = &ends[us = side];
    uint8_t master[48], randoms[2][32];
    struct tls_handover h = {
        .suite = tls_suite_from_iana(SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(e->ssl))),
        .is_client = side == 0,
        .records_written = e->records[1],
        .records_read = e->records[0],
        .client_secret = e->secret[0],
        .server_secret = e->secret[1],
        .master_secret = master,
        .client_random = randoms[0],
        .server_random = randoms[1],
    };

    SSL_SESSION_get_master_key(SSL_get_session(e->ssl), master, sizeof master);
    SSL_get_client_random(e->ssl, randoms[0], 32);
    SSL_get_server_random(e->ssl, randoms[1], 32);
    if (SSL_version(e->ssl) == TLS1_3_VERSION)
        ck_assert_uint_eq(e->secrets_seen, 2);
    int unread = BIO_read(e->in, wire, sizeof wire);
    ck_assert_int_eq(SSL_pending(e->ssl), 0);
    SSL_free(e->ssl);
    e->ssl = NULL;
    ck_assert(tls_record_start(crypto, &ours.r, &h));
    return unread > 0 ? (size_t)unread : 0;
}

static void start(int row, int tickets)
{
    crypto = tls_crypto_new();
    for (size_t i = 0; i < sizeof plain; i++)
        plain[i] = (uint8_t)(i * 131 >> 4);
    for (int side = 0; side < 2; side++) {
        make_context(side, row, tickets);
        make_end(side);
    }
}

static void finish(void)
{
    SSL_free(peer()->ssl);
    SSL_CTX_free(contexts[0]);
    SSL_CTX_free(contexts[1]);
    SSL_SESSION_free(kept);
    kept = NULL;
    tls_crypto_free(crypto);
}

/* Handshake, then the given side is ours; what it had not read (session tickets) is no content. */
static void start_ours(int row, int side, int tickets)
{
    start(row, tickets);
    shake_hands(0);
    size_t unread = take_over(side), at = 0;
    ck_assert_int_eq(ours.r.suite, suites[row].suite);
    while (at < unread) {
        ck_assert_int_eq(tls_record_open(crypto, &ours.r, wire + at, unread - at, &opened), TLS_CONTROL);
        at += opened.used;
    }
}

/* ---- talking ---- */

/* Gives bytes of ours to OpenSSL. */
static void send_ours(size_t n)
{
    ck_assert_uint_gt(n, 0);
    ck_assert_int_eq(BIO_write(peer()->in, wire, (int)n), (int)n);
}

/* What OpenSSL has to say, put into wire. */
static size_t fetch_theirs(void)
{
    int n = BIO_read(peer()->out, wire, sizeof wire);

    return n > 0 ? (size_t)n : 0;
}

/* We send, OpenSSL reads the same. */
static void we_say(size_t len)
{
    size_t at = 0;

    send_ours(tls_record_seal(crypto, &ours.r, plain, len, wire, sizeof wire));
    while (at < len) {
        int n = SSL_read(peer()->ssl, got + at, (int)(sizeof got - at));
        ck_assert_int_gt(n, 0);
        at += (size_t)n;
    }
    ck_assert_uint_eq(at, len);
    ck_assert_mem_eq(got, plain, len);
    ck_assert_int_le(SSL_read(peer()->ssl, got, 1), 0);
}

/* Opens `n` bytes of wire and requires `len` bytes of content. */
static void we_understand(size_t n, size_t len)
{
    size_t at = 0, have = 0;

    while (at < n) {
        enum tls_result result = tls_record_open(crypto, &ours.r, wire + at, n - at, &opened);
        ck_assert_msg(result == TLS_DATA || result == TLS_CONTROL, "%d %s", result, opened.why);
        at += opened.used;
        if (result == TLS_DATA) {
            ck_assert_uint_le(opened.len, len - have);
            ck_assert_mem_eq(opened.data, plain + have, opened.len);
            have += opened.len;
        }
    }
    ck_assert_uint_eq(have, len);
}

/* OpenSSL sends, we read the same. */
static void they_say(size_t len)
{
    ck_assert_int_eq(SSL_write(peer()->ssl, plain, (int)len), (int)len);
    we_understand(fetch_theirs(), len);
}

/* ---- tests; _i is a suite and a side ---- */

#define ROW  (_i / 2)
#define SIDE (_i % 2)

/* Every size, both ways, after 0, 1 and 2 session tickets. */
START_TEST(data_both_ways)
{
    static const size_t sizes[] = {1, 2, 64, 1024, 16383, 16384, 16385, BIG};
    int max_tickets = suites[ROW].version == TLS1_3_VERSION ? 2 : 0;

    for (int tickets = 0; tickets <= max_tickets; tickets++) {
        start_ours(ROW, SIDE, tickets);
        if (SIDE == 1)
            ck_assert_uint_eq(ours.r.write_seq,
                              suites[ROW].version == TLS1_3_VERSION ? (unsigned)tickets : 1);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            we_say(sizes[i]);
            they_say(sizes[i]);
        }
        for (size_t len = 1; len < 100; len++) {
            they_say(len);
            we_say(len);
        }
        ck_assert_uint_eq(tls_record_seal(crypto, &ours.r, plain, 0, wire, sizeof wire), 0);
        finish();
    }
}
END_TEST

/* Data in the same segment as the client's Finished: OpenSSL leaves it, the codec reads it. */
START_TEST(data_behind_finished)
{
    start(_i, 2);
    shake_hands(5000);
    size_t unread = take_over(1);
    ck_assert_uint_gt(unread, 5000);
    we_understand(unread, 5000);
    we_say(10);
    they_say(10);
    finish();
}
END_TEST

/* A resumed connection is carried on like any other. */
START_TEST(resumed)
{
    start(ROW, 1);
    shake_hands(0);
    ck_assert_int_le(SSL_read(ends[0].ssl, got, 1), 0); /* the ticket */
    ck_assert_ptr_nonnull(kept);
    SSL_SESSION *session = kept;
    kept = NULL;
    for (int side = 0; side < 2; side++) {
        SSL_set_shutdown(ends[side].ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        SSL_free(ends[side].ssl);
        make_end(side);
    }
    ck_assert_int_eq(SSL_set_session(ends[0].ssl, session), 1);
    SSL_SESSION_free(session);
    shake_hands(0);
    ck_assert(SSL_session_reused(ends[0].ssl) && SSL_session_reused(ends[1].ssl));
    we_understand(take_over(SIDE), 0);
    we_say(20000);
    they_say(20000);
    finish();
}
END_TEST

/* OpenSSL updates its keys, not asking for ours and asking; then we answer, and go on. */
START_TEST(their_key_update)
{
    start_ours(ROW, SIDE, 2);
    for (int round = 0; round < 3; round++) {
        ck_assert_int_eq(SSL_key_update(peer()->ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        they_say(20000);
        ck_assert(!ours.r.owes_update);
        we_say(100);
        ck_assert_int_eq(SSL_key_update(peer()->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        they_say(100);
        ck_assert(ours.r.owes_update);
        they_say(100);
        we_say(20000);
        ck_assert(!ours.r.owes_update);
        we_say(100);
        they_say(100);
    }
    finish();
}
END_TEST

/* We update ours, not asking and asking; OpenSSL's answer comes before its next data. */
START_TEST(our_key_update)
{
    start_ours(ROW, SIDE, 2);
    for (int round = 0; round < 3; round++) {
        for (int ask = 0; ask < 2; ask++) {
            send_ours(tls_record_key_update(crypto, &ours.r, ask, wire, sizeof wire));
            we_say(20000);
            uint64_t before = ours.r.read_seq;
            they_say(100);
            ck_assert_uint_eq(ours.r.read_seq, ask ? 1 : before + 1);
            ck_assert(!ours.r.asked_update);
        }
    }
    /* and by itself, after as many records as a key may seal */
    for (int i = 0; i < 100; i++)
        we_say(1);
    finish();
}
END_TEST

/* OpenSSL pads its records to a multiple of 512 bytes. */
START_TEST(their_padding)
{
    start_ours(ROW, SIDE, 2);
    ck_assert_int_eq(SSL_set_block_padding(peer()->ssl, 512), 1);
    for (size_t len = 1; len < 1100; len += 13)
        they_say(len);
    they_say(BIG);
    finish();
}
END_TEST

/* close_notify from us is the end of data for OpenSSL, and its answer that for us. */
START_TEST(we_close_first)
{
    start_ours(ROW, SIDE, 2);
    we_say(10);
    send_ours(tls_record_alert(crypto, &ours.r, TLS_ALERT_CLOSE_NOTIFY, wire, sizeof wire));
    int n = SSL_read(peer()->ssl, got, sizeof got);
    ck_assert_int_eq(SSL_get_error(peer()->ssl, n), SSL_ERROR_ZERO_RETURN);
    if (suites[ROW].version == TLS1_3_VERSION)
        they_say(20000); /* half closed */
    ck_assert_int_eq(SSL_shutdown(peer()->ssl), 1);
    size_t len = fetch_theirs();
    ck_assert_int_eq(tls_record_open(crypto, &ours.r, wire, len, &opened), TLS_CLOSED);
    ck_assert(all_zero(&ours, tls_record_size(suites[ROW].suite)));
    finish();
}
END_TEST

/* The other way round. */
START_TEST(they_close_first)
{
    start_ours(ROW, SIDE, 2);
    they_say(10);
    ck_assert_int_eq(SSL_shutdown(peer()->ssl), 0);
    size_t len = fetch_theirs();
    ck_assert_int_eq(tls_record_open(crypto, &ours.r, wire, len, &opened), TLS_CLOSED);
    ck_assert_uint_eq(opened.used, len);
    send_ours(tls_record_alert(crypto, &ours.r, TLS_ALERT_CLOSE_NOTIFY, wire, sizeof wire));
    ck_assert_int_eq(SSL_shutdown(peer()->ssl), 1);
    ck_assert(all_zero(&ours, tls_record_size(suites[ROW].suite)));
    finish();
}
END_TEST

/* A forged record: OpenSSL understands our alert. And a forged one to OpenSSL: we understand its alert. */
START_TEST(alerts_are_understood)
{
    start_ours(ROW, SIDE, 2);
    ck_assert_int_eq(SSL_write(peer()->ssl, plain, 10), 10);
    size_t len = fetch_theirs();
    wire[len - 1] ^= 1;
    ck_assert_int_eq(tls_record_open(crypto, &ours.r, wire, len, &opened), TLS_BAD);
    send_ours(tls_record_alert(crypto, &ours.r, opened.alert, wire, sizeof wire));
    ck_assert_int_eq(SSL_get_error(peer()->ssl, SSL_read(peer()->ssl, got, 1)), SSL_ERROR_SSL);
    ck_assert_int_eq(ERR_GET_REASON(ERR_peek_error()), SSL_R_SSLV3_ALERT_BAD_RECORD_MAC);
    ERR_clear_error();
    finish();

    start_ours(ROW, SIDE, 2);
    len = tls_record_seal(crypto, &ours.r, plain, 10, wire, sizeof wire);
    wire[len - 1] ^= 1;
    send_ours(len);
    ck_assert_int_le(SSL_read(peer()->ssl, got, 1), 0);
    len = fetch_theirs();
    ck_assert_int_eq(tls_record_open(crypto, &ours.r, wire, len, &opened), TLS_REFUSED);
    ck_assert_int_eq(opened.alert, TLS_ALERT_BAD_RECORD_MAC);
    ck_assert(all_zero(&ours, tls_record_size(suites[ROW].suite)));
    finish();
}
END_TEST

/*
 * 1.2: OpenSSL wants to renegotiate. It is told no_renegotiation, understands that, and gives up as it always
 * does then; data that it had sent before the answer arrived is read.
 */
START_TEST(no_renegotiation)
{
    start_ours(ROW, SIDE, 0);
    ck_assert_int_eq(SSL_renegotiate(peer()->ssl), 1);
    SSL_do_handshake(peer()->ssl);
    size_t len = fetch_theirs();
    ck_assert_int_eq(tls_record_open(crypto, &ours.r, wire, len, &opened), TLS_CONTROL);
    ck_assert_uint_eq(opened.used, len);
    ck_assert_int_eq(opened.alert, TLS_ALERT_NO_RENEGOTIATION);
    send_ours(tls_record_alert(crypto, &ours.r, opened.alert, wire, sizeof wire));
    ck_assert(!ours.r.write_closed);
    ck_assert_int_eq(SSL_get_error(peer()->ssl, SSL_read(peer()->ssl, got, 1)), SSL_ERROR_SSL);
    ck_assert_int_eq(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
    ERR_clear_error();
    finish();
}
END_TEST

/* Many megabytes in records of all sizes, with key updates from both ends in between. */
START_TEST(long_conversation)
{
    unsigned seed = 12345;

    start_ours(ROW, SIDE, 2);
    for (int i = 0; i < 400; i++) {
        seed = seed * 1103515245 + 12345;
        size_t len = 1 + (seed >> 8) % (i % 10 ? 2000 : 60000);
        if (suites[ROW].version == TLS1_3_VERSION && i % 7 == 3)
            ck_assert_int_eq(SSL_key_update(peer()->ssl, (int)(seed >> 16 & 1)), 1);
        if (suites[ROW].version == TLS1_3_VERSION && i % 11 == 5)
            send_ours(tls_record_key_update(crypto, &ours.r, seed >> 17 & 1, wire, sizeof wire));
        we_say(len);
        they_say(len);
    }
    finish();
}
END_TEST

static void add_tests(TCase *tc)
{
    keys[0] = EVP_EC_gen("P-256");
    keys[1] = EVP_RSA_gen(2048);
    tcase_add_loop_test(tc, data_both_ways, 0, 2 * N_SUITES);
    tcase_add_loop_test(tc, data_behind_finished, 0, N_SUITES);
    tcase_add_loop_test(tc, resumed, 0, 2 * N_SUITES);
    tcase_add_loop_test(tc, their_key_update, 0, 2 * N_13);
    tcase_add_loop_test(tc, our_key_update, 0, 2 * N_13);
    tcase_add_loop_test(tc, their_padding, 0, 2 * N_13);
    tcase_add_loop_test(tc, we_close_first, 0, 2 * N_SUITES);
    tcase_add_loop_test(tc, they_close_first, 0, 2 * N_SUITES);
    tcase_add_loop_test(tc, alerts_are_understood, 0, 2 * N_SUITES);
    tcase_add_loop_test(tc, no_renegotiation, 2 * N_13, 2 * N_SUITES);
    tcase_add_loop_test(tc, long_conversation, 0, 2 * N_SUITES);
}

UNIT_MAIN("tls_interop")
