/*
 * The key schedule after the handshake: whoever takes a connection over from OpenSSL hands in the secrets,
 * and the record codec comes back for the next generation when one side sends KeyUpdate. One direction's
 * material is a run of bytes (secret, key, IV) without pointers, kept by the caller. The handshake's part of
 * the key schedule is OpenSSL's.
 */
#include "proto/tls_keys.h"

#include <string.h>

#define SUITE_13(title, aead_, hash_, secret, key)                                                           \
    {                                                                                                        \
        .name = title, .aead = aead_, .hash = hash_, .v13 = true, .secret_len = secret, .key_len = key,      \
        .iv_len = TLS_NONCE_LEN, .half_len = secret + key + TLS_NONCE_LEN,                                   \
    }
#define SUITE_12(title, aead_, hash_, key, iv)                                                               \
    {                                                                                                        \
        .name = title, .aead = aead_, .hash = hash_, .key_len = key, .iv_len = iv,                           \
        .explicit_len = TLS_NONCE_LEN - (iv), .half_len = (key) + (iv),                                      \
    }

const struct tls_suite_info tls_suites[TLS_SUITES] = {
    [TLS_SUITE_NONE] = {.name = "none"},
    [TLS13_AES_128_GCM] = SUITE_13("TLS 1.3 AES-128-GCM", TLS_AES_128_GCM, TLS_SHA256, 32, 16),
    [TLS13_AES_256_GCM] = SUITE_13("TLS 1.3 AES-256-GCM", TLS_AES_256_GCM, TLS_SHA384, 48, 32),
    [TLS13_CHACHA20_POLY1305] =
        SUITE_13("TLS 1.3 ChaCha20-Poly1305", TLS_CHACHA20_POLY1305, TLS_SHA256, 32, 32),
    [TLS12_AES_128_GCM] = SUITE_12("TLS 1.2 AES-128-GCM", TLS_AES_128_GCM, TLS_SHA256, 16, 4),
    [TLS12_AES_256_GCM] = SUITE_12("TLS 1.2 AES-256-GCM", TLS_AES_256_GCM, TLS_SHA384, 32, 4),
    [TLS12_CHACHA20_POLY1305] =
        SUITE_12("TLS 1.2 ChaCha20-Poly1305", TLS_CHACHA20_POLY1305, TLS_SHA256, 32, 12),
};

/* RFC 8446 appendix B.4, RFC 5289, RFC 7905. */
static const struct {
    uint16_t value;
    enum tls_suite suite;
} registry[] = {
    {0x1301, TLS13_AES_128_GCM},       {0x1302, TLS13_AES_256_GCM},       {0x1303, TLS13_CHACHA20_POLY1305},
    {0xC02B, TLS12_AES_128_GCM}, /* ECDHE_ECDSA, then ECDHE_RSA, in each pair */
    {0xC02F, TLS12_AES_128_GCM},       {0xC02C, TLS12_AES_256_GCM},       {0xC030, TLS12_AES_256_GCM},
    {0xCCA9, TLS12_CHACHA20_POLY1305}, {0xCCA8, TLS12_CHACHA20_POLY1305},
};

enum tls_suite tls_suite_from_iana(uint16_t value)
{
    for (size_t i = 0; i < sizeof registry / sizeof *registry; i++)
        if (registry[i].value == value)
            return registry[i].suite;
    return TLS_SUITE_NONE;
}

bool tls_keys_from_secret(struct tls_crypto *c, enum tls_suite suite, uint8_t *half)
{
    const struct tls_suite_info *s = &tls_suites[suite];
    uint8_t *key = half + s->secret_len, *iv = key + s->key_len;

    return tls_expand_label(c, s->hash, half, "key", key, s->key_len) &&
           tls_expand_label(c, s->hash, half, "iv", iv, s->iv_len);
}

bool tls_keys_update(struct tls_crypto *c, enum tls_suite suite, uint8_t *half)
{
    const struct tls_suite_info *s = &tls_suites[suite];
    uint8_t next[TLS_SECRET_MAX];
    bool ok = tls_expand_label(c, s->hash, half, "traffic upd", next, s->secret_len);

    if (ok)
        memcpy(half, next, s->secret_len);
    tls_wipe(next, sizeof next);
    return ok && tls_keys_from_secret(c, suite, half);
}

bool tls_keys_from_master(struct tls_crypto *c, enum tls_suite suite, const uint8_t *master,
                          const uint8_t *client_random, const uint8_t *server_random, uint8_t *client_half,
                          uint8_t *server_half)
{
    static const char label[] = "key expansion";
    enum { LABEL = sizeof label - 1 };
    const struct tls_suite_info *s = &tls_suites[suite];
    uint8_t seed[LABEL + 2 * TLS_RANDOM_LEN], block[2 * (TLS_KEY_MAX + TLS_NONCE_LEN)];
    size_t key = s->key_len, iv = s->iv_len;

    memcpy(seed, label, LABEL);
    memcpy(seed + LABEL, server_random, TLS_RANDOM_LEN);
    memcpy(seed + LABEL + TLS_RANDOM_LEN, client_random, TLS_RANDOM_LEN);
    bool ok = tls_prf_12(c, s->hash, master, TLS_MASTER_LEN, seed, sizeof seed, block, 2 * (key + iv));
    if (ok) { /* client key, server key, client IV, server IV; an AEAD has no MAC keys */
        memcpy(client_half, block, key);
        memcpy(server_half, block + key, key);
        memcpy(client_half + key, block + 2 * key, iv);
        memcpy(server_half + key, block + 2 * key + iv, iv);
    }
    tls_wipe(block, sizeof block);
    return ok;
}

/* The value of a hexadecimal digit, or -1. */
static int hex_digit(char ch)
{
    if (ch >= '0' && ch <= '9')
        return ch - '0';
    ch |= 0x20;
    return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

/* Reads up to `max` bytes in hexadecimal into `out`, which may be NULL, and moves on. Returns how many. */
static size_t read_hex(const char **at, uint8_t *out, size_t max)
{
    size_t n = 0;
    int high, low;

    for (; n < max && (high = hex_digit((*at)[0])) >= 0 && (low = hex_digit((*at)[1])) >= 0; n++, *at += 2)
        if (out)
            out[n] = (uint8_t)(high << 4 | low);
    return n;
}

enum tls_keylog_label tls_keylog_decode(const char *line, uint8_t secret[TLS_SECRET_MAX], size_t *len)
{
    static const struct {
        const char *text;
        enum tls_keylog_label label;
    } labels[] = {
        {"CLIENT_TRAFFIC_SECRET_0 ", TLS_KEYLOG_CLIENT_TRAFFIC},
        {"SERVER_TRAFFIC_SECRET_0 ", TLS_KEYLOG_SERVER_TRAFFIC},
    };

    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++) {
        if (strncmp(line, labels[i].text, strlen(labels[i].text)) != 0)
            continue;
        const char *at = line + strlen(labels[i].text);
        if (read_hex(&at, NULL, TLS_RANDOM_LEN) != TLS_RANDOM_LEN || *at++ != ' ')
            break;
        *len = read_hex(&at, secret, TLS_SECRET_MAX);
        if ((*len == 32 || *len == 48) && (*at == '\0' || *at == '\n'))
            return labels[i].label;
    }
    return TLS_KEYLOG_OTHER;
}
