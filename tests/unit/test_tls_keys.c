/*
 * Keys and AEAD against published vectors: RFC 8448 section 3 (key schedule), RFC 8439 section 2.8.2 and the
 * GCM specification (AEAD), the TLS 1.2 PRF; the suite table; lines of a key log.
 */
#include "proto/tls_keys.h"

#include <string.h>

#include <openssl/err.h>

#include "tests/unit/hex.h"
#include "tests/unit/unit.h"

#define CLIENT_SECRET "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5"
#define SERVER_SECRET "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643"

/* RFC 8448 section 3: the application traffic keys and IVs of both sides. */
START_TEST(rfc_8448_traffic_keys)
{
    static const struct {
        const char *secret, *key, *iv;
    } rows[] = {
        {CLIENT_SECRET, "17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9"},
        {SERVER_SECRET, "9f02283b6c9c07efc26bb9f2ac92e356", "cf782b88dd83549aadf1e984"},
    };
    struct tls_crypto *c = tls_crypto_new();
    uint8_t half[32 + 16 + 12], want[28];

    from_hex(rows[_i].secret, half, 32);
    from_hex(rows[_i].key, want, 16);
    from_hex(rows[_i].iv, want + 16, 12);
    ck_assert(tls_keys_from_secret(c, TLS13_AES_128_GCM, half));
    ck_assert_mem_eq(half + 32, want, 28);
    tls_crypto_free(c);
}
END_TEST

/* The next generation is HKDF-Expand-Label(secret, "traffic upd", "", length), and its keys follow from it.
 */
START_TEST(next_generation)
{
    static const enum tls_suite suites[] = {TLS13_AES_128_GCM, TLS13_AES_256_GCM, TLS13_CHACHA20_POLY1305};
    const struct tls_suite_info *s = &tls_suites[suites[_i]];
    struct tls_crypto *c = tls_crypto_new();
    uint8_t half[48 + 32 + 12], want[48 + 32 + 12], old[48];

    for (size_t i = 0; i < sizeof old; i++)
        half[i] = old[i] = (uint8_t)(i + 1);
    ck_assert(tls_keys_from_secret(c, suites[_i], half));
    ck_assert(tls_expand_label(c, s->hash, old, "traffic upd", want, s->secret_len));
    ck_assert(tls_keys_from_secret(c, suites[_i], want));
    ck_assert_mem_ne(want, old, s->secret_len);
    ck_assert(tls_keys_update(c, suites[_i], half));
    ck_assert_mem_eq(half, want, s->half_len);
    tls_crypto_free(c);
}
END_TEST

/* The vector for the PRF with SHA-256 that circulates since TLS 1.2 was drafted (ietf-tls, 2009). */
START_TEST(prf_with_sha256)
{
    struct tls_crypto *c = tls_crypto_new();
    uint8_t secret[16], seed[10 + 16] = "test label", out[100], want[100];

    from_hex("9bbe436ba940f017b17652849a71db35", secret, sizeof secret);
    from_hex("a0ba9f936cda311827a6f796ffd5198c", seed + 10, 16);
    from_hex(
        "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af"
        "0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff701"
        "87347b66",
        want, sizeof want);
    ck_assert(tls_prf_12(c, TLS_SHA256, secret, sizeof secret, seed, sizeof seed, out, sizeof out));
    ck_assert_mem_eq(out, want, sizeof want);
    tls_crypto_free(c);
}
END_TEST

/* In the key block of an AEAD suite come: client key, server key, client IV, server IV (RFC 5246
 * section 6.3). */
START_TEST(key_block_order)
{
    static const enum tls_suite suites[] = {TLS12_AES_128_GCM, TLS12_AES_256_GCM, TLS12_CHACHA20_POLY1305};
    const struct tls_suite_info *s = &tls_suites[suites[_i]];
    size_t k = s->key_len, v = s->iv_len;
    struct tls_crypto *c = tls_crypto_new();
    uint8_t master[48], randoms[64], seed[13 + 64] = "key expansion", block[88], client[44], server[44];

    memset(master, 0x11, sizeof master);
    memset(randoms, 0xc1, 32);
    memset(randoms + 32, 0x5e, 32);
    memcpy(seed + 13, randoms + 32, 32);
    memcpy(seed + 45, randoms, 32);
    ck_assert(tls_prf_12(c, s->hash, master, 48, seed, sizeof seed, block, 2 * (k + v)));
    ck_assert(tls_keys_from_master(c, suites[_i], master, randoms, randoms + 32, client, server));
    ck_assert_mem_eq(client, block, k);
    ck_assert_mem_eq(server, block + k, k);
    ck_assert_mem_eq(client + k, block + 2 * k, v);
    ck_assert_mem_eq(server + k, block + 2 * k + v, v);
    tls_crypto_free(c);
}
END_TEST

static const struct {
    enum tls_aead aead;
    const char *key, *nonce, *aad, *plain, *sealed;
} aead_rows[] = {
    /* RFC 8439 section 2.8.2 */
    {TLS_CHACHA20_POLY1305, "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
     "070000004041424344454647", "50515253c0c1c2c3c4c5c6c7",
     "4c616469657320616e642047656e746c656d656e206f662074686520636c617373206f66202739393a204966204920636f"
     "756c64206f6666657220796f75206f6e6c79206f6e652074697020666f7220746865206675747572652c2073756e736372"
     "65656e20776f756c642062652069742e",
     "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a"
     "71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4"
     "def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691"},
    /* McGrew and Viega, The Galois/Counter Mode of Operation, test cases 4 and 16 */
    {TLS_AES_128_GCM, "feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
     "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b1"
     "6aedf5aa0de657ba637b39",
     "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051b"
     "a30b396a0aac973d58e0915bc94fbc3221a5db94fae95ae7121a47"},
    {TLS_AES_256_GCM, "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
     "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b1"
     "6aedf5aa0de657ba637b39",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5"
     "f61e6393ba7a0abcc9f662"
     "76fc6ece0f4e1768cddf8853bb2d551b"},
};

START_TEST(aead_vectors)
{
    struct tls_crypto *c = tls_crypto_new();
    uint8_t key[32], nonce[12], aad[32], plain[128], sealed[144], out[144];
    struct tls_aead_input a = {aead_rows[_i].aead, key, nonce, aad, 0};
    size_t len = from_hex(aead_rows[_i].plain, plain, sizeof plain);

    from_hex(aead_rows[_i].key, key, sizeof key);
    from_hex(aead_rows[_i].nonce, nonce, sizeof nonce);
    a.aad_len = from_hex(aead_rows[_i].aad, aad, sizeof aad);
    ck_assert_uint_eq(from_hex(aead_rows[_i].sealed, sealed, sizeof sealed), len + TLS_TAG_LEN);

    ck_assert(tls_aead_seal(c, &a, plain, len, out)); /* apart */
    ck_assert_mem_eq(out, sealed, len + TLS_TAG_LEN);
    memcpy(out, plain, len);
    ck_assert(tls_aead_seal(c, &a, out, len, out)); /* in place */
    ck_assert_mem_eq(out, sealed, len + TLS_TAG_LEN);
    ck_assert(tls_aead_open(c, &a, out, len));
    ck_assert_mem_eq(out, plain, len);
    tls_crypto_free(c);
}
END_TEST

/* What is not authentic is not left lying about, and leaves no error behind for other users of OpenSSL. */
START_TEST(forgery_leaves_nothing)
{
    static const uint8_t key[32] = {1}, nonce[12] = {2}, aad[5] = {3};
    struct tls_crypto *c = tls_crypto_new();
    struct tls_aead_input a = {(enum tls_aead)_i, key, nonce, aad, sizeof aad};
    uint8_t data[32 + TLS_TAG_LEN] = "thirty-two bytes that are secret";
    static const uint8_t zero[32];

    ck_assert(tls_aead_seal(c, &a, data, 32, data));
    data[40] ^= 1;
    ck_assert(!tls_aead_open(c, &a, data, 32));
    ck_assert_mem_eq(data, zero, 32);
    ck_assert_uint_eq(ERR_peek_error(), 0);
    tls_crypto_free(c);
}
END_TEST

/* Content may be empty, and forgetting keys does not disturb what comes next. */
START_TEST(empty_content_and_forgetting)
{
    static const uint8_t key[32] = {1}, nonce[12] = {2}, aad[13] = {3};
    struct tls_crypto *c = tls_crypto_new();
    struct tls_aead_input a = {(enum tls_aead)_i, key, nonce, aad, sizeof aad};
    uint8_t one[TLS_TAG_LEN], two[TLS_TAG_LEN];

    ck_assert(tls_aead_seal(c, &a, one, 0, one));
    tls_crypto_forget(c);
    ck_assert(tls_aead_seal(c, &a, two, 0, two));
    ck_assert_mem_eq(one, two, TLS_TAG_LEN);
    ck_assert(tls_aead_open(c, &a, one, 0));
    two[0] ^= 1;
    ck_assert(!tls_aead_open(c, &a, two, 0));
    tls_crypto_free(c);
}
END_TEST

START_TEST(suites_by_their_numbers)
{
    static const struct {
        uint16_t value;
        enum tls_suite suite;
    } rows[] = {
        {0x1301, TLS13_AES_128_GCM},
        {0x1302, TLS13_AES_256_GCM},
        {0x1303, TLS13_CHACHA20_POLY1305},
        {0xC02B, TLS12_AES_128_GCM},
        {0xC02F, TLS12_AES_128_GCM},
        {0xC02C, TLS12_AES_256_GCM},
        {0xC030, TLS12_AES_256_GCM},
        {0xCCA8, TLS12_CHACHA20_POLY1305},
        {0xCCA9, TLS12_CHACHA20_POLY1305},
        {0x1304, TLS_SUITE_NONE} /* CCM */,
        {0x009C, TLS_SUITE_NONE} /* static RSA */,
        {0x009E, TLS_SUITE_NONE} /* DHE */,
        {0xCCAA, TLS_SUITE_NONE} /* DHE */,
        {0xC013, TLS_SUITE_NONE} /* CBC */,
        {0, TLS_SUITE_NONE},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ck_assert_int_eq(tls_suite_from_iana(rows[i].value), rows[i].suite);
}
END_TEST

#define RANDOM_HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

START_TEST(key_log_lines)
{
    static const struct {
        const char *line;
        enum tls_keylog_label label;
        size_t len;
    } rows[] = {
        {"CLIENT_TRAFFIC_SECRET_0 " RANDOM_HEX " " CLIENT_SECRET, TLS_KEYLOG_CLIENT_TRAFFIC, 32},
        {"SERVER_TRAFFIC_SECRET_0 " RANDOM_HEX " " CLIENT_SECRET "\n", TLS_KEYLOG_SERVER_TRAFFIC, 32},
        {"SERVER_TRAFFIC_SECRET_0 " RANDOM_HEX " " CLIENT_SECRET "00112233445566778899AABBCCDDEEFF",
         TLS_KEYLOG_SERVER_TRAFFIC, 48},
        {"CLIENT_HANDSHAKE_TRAFFIC_SECRET " RANDOM_HEX " " CLIENT_SECRET, TLS_KEYLOG_OTHER, 0},
        {"CLIENT_RANDOM " RANDOM_HEX " " CLIENT_SECRET, TLS_KEYLOG_OTHER, 0},
        {"CLIENT_TRAFFIC_SECRET_1 " RANDOM_HEX " " CLIENT_SECRET, TLS_KEYLOG_OTHER, 0},
        {"CLIENT_TRAFFIC_SECRET_0 " RANDOM_HEX " " CLIENT_SECRET "0", TLS_KEYLOG_OTHER, 0},
        {"CLIENT_TRAFFIC_SECRET_0 " RANDOM_HEX " " CLIENT_SECRET "00", TLS_KEYLOG_OTHER, 0},
        {"CLIENT_TRAFFIC_SECRET_0 " RANDOM_HEX CLIENT_SECRET, TLS_KEYLOG_OTHER, 0},
        {"CLIENT_TRAFFIC_SECRET_0 " RANDOM_HEX " " CLIENT_SECRET CLIENT_SECRET, TLS_KEYLOG_OTHER, 0},
        {"CLIENT_TRAFFIC_SECRET_0 00 " CLIENT_SECRET, TLS_KEYLOG_OTHER, 0},
        {"CLIENT_TRAFFIC_SECRET_0 " RANDOM_HEX " ", TLS_KEYLOG_OTHER, 0},
        {"CLIENT_TRAFFIC_SECRET_0 ", TLS_KEYLOG_OTHER, 0},
        {"", TLS_KEYLOG_OTHER, 0},
    };
    uint8_t secret[TLS_SECRET_MAX], want[32];

    from_hex(CLIENT_SECRET, want, sizeof want);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t len = 0;
        memset(secret, 0, sizeof secret);
        ck_assert_msg(tls_keylog_decode(rows[i].line, secret, &len) == rows[i].label, "%s", rows[i].line);
        if (rows[i].label == TLS_KEYLOG_OTHER)
            continue;
        ck_assert_uint_eq(len, rows[i].len);
        ck_assert_mem_eq(secret, want, 32);
        if (len == 48)
            ck_assert_uint_eq(secret[47], 0xFF);
    }
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_loop_test(tc, rfc_8448_traffic_keys, 0, 2);
    tcase_add_loop_test(tc, next_generation, 0, 3);
    tcase_add_test(tc, prf_with_sha256);
    tcase_add_loop_test(tc, key_block_order, 0, 3);
    tcase_add_loop_test(tc, aead_vectors, 0, sizeof aead_rows / sizeof *aead_rows);
    tcase_add_loop_test(tc, forgery_leaves_nothing, 0, TLS_AEADS);
    tcase_add_loop_test(tc, empty_content_and_forgetting, 0, TLS_AEADS);
    tcase_add_test(tc, suites_by_their_numbers);
    tcase_add_test(tc, key_log_lines);
}

UNIT_MAIN("tls_keys")
