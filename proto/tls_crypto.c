/*
 * OpenSSL behind the record codec: tls_keys and tls_record hand in keys and bytes. There is one EVP context
 * per algorithm and direction, keyed anew for each record: algorithms are fetched once, since a fetch or a
 * new context per record would double its cost. No algorithm is implemented here, and no secret outlives a
 * call except the expanded key in a context, which the next record or tls_crypto_forget() overwrites.
 */
#include "proto/tls_crypto.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

/* The directions of a cipher context, as EVP_CipherInit_ex2() numbers them. */
enum { OPENING, SEALING };

struct tls_crypto {
    EVP_CIPHER_CTX *cipher[TLS_AEADS][2];
    EVP_MAC_CTX *hmac[TLS_HASHES];
    EVP_KDF_CTX *prf;
};

static const char *const aead_names[TLS_AEADS] = {
    [TLS_AES_128_GCM] = "AES-128-GCM",
    [TLS_AES_256_GCM] = "AES-256-GCM",
    [TLS_CHACHA20_POLY1305] = "ChaCha20-Poly1305",
};

static const char *const hash_names[TLS_HASHES] = {[TLS_SHA256] = "SHA256", [TLS_SHA384] = "SHA384"};
static const size_t hash_lengths[TLS_HASHES] = {[TLS_SHA256] = 32, [TLS_SHA384] = 48};

/* The contexts of both directions of one algorithm, which keep it. */
static bool make_ciphers(struct tls_crypto *c, enum tls_aead aead)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, aead_names[aead], NULL);
    bool ok = cipher != NULL;

    for (int dir = OPENING; ok && dir <= SEALING; dir++) {
        EVP_CIPHER_CTX *ctx = c->cipher[aead][dir] = EVP_CIPHER_CTX_new();
        ok = ctx && EVP_CipherInit_ex2(ctx, cipher, NULL, NULL, dir, NULL) == 1;
    }
    EVP_CIPHER_free(cipher);
    return ok;
}

static EVP_KDF_CTX *make_kdf(const char *name)
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, name, NULL);
    EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;

    EVP_KDF_free(kdf);
    return ctx;
}

/* HMAC with one hash, which it keeps: keying it anew fetches nothing. */
static EVP_MAC_CTX *make_hmac(enum tls_hash hash)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)hash_names[hash], 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_MAC *mac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, NULL);
    EVP_MAC_CTX *ctx = mac ? EVP_MAC_CTX_new(mac) : NULL;

    EVP_MAC_free(mac);
    if (ctx && EVP_MAC_CTX_set_params(ctx, params) != 1) {
        EVP_MAC_CTX_free(ctx);
        ctx = NULL;
    }
    return ctx;
}

struct tls_crypto *tls_crypto_new(void)
{
    struct tls_crypto *c = OPENSSL_zalloc(sizeof *c);
    bool ok = c != NULL;

    for (int aead = 0; ok && aead < TLS_AEADS; aead++)
        ok = make_ciphers(c, aead);
    for (int hash = 0; ok && hash < TLS_HASHES; hash++)
        ok = (c->hmac[hash] = make_hmac((enum tls_hash)hash)) != NULL;
    ok = ok && (c->prf = make_kdf(OSSL_KDF_NAME_TLS1_PRF));
    if (!ok) {
        tls_crypto_free(c);
        return NULL;
    }
    return c;
}

void tls_crypto_free(struct tls_crypto *c)
{
    if (!c)
        return;
    for (int aead = 0; aead < TLS_AEADS; aead++)
        for (int dir = OPENING; dir <= SEALING; dir++)
            EVP_CIPHER_CTX_free(c->cipher[aead][dir]); /* cleanses the key */
    for (int hash = 0; hash < TLS_HASHES; hash++)
        EVP_MAC_CTX_free(c->hmac[hash]);
    EVP_KDF_CTX_free(c->prf);
    OPENSSL_free(c);
}

void tls_crypto_forget(struct tls_crypto *c)
{
    static const uint8_t zero[TLS_KEY_MAX];

    for (int aead = 0; aead < TLS_AEADS; aead++)
        for (int dir = OPENING; dir <= SEALING; dir++)
            EVP_CipherInit_ex2(c->cipher[aead][dir], NULL, zero, zero, dir, NULL);
}

/* Keys the context for one record and feeds what is authenticated only. NULL when OpenSSL fails. */
static EVP_CIPHER_CTX *begin(struct tls_crypto *c, const struct tls_aead_input *a, int dir)
{
    EVP_CIPHER_CTX *ctx = c->cipher[a->aead][dir];
    int n;

    if (EVP_CipherInit_ex2(ctx, NULL, a->key, a->nonce, dir, NULL) != 1 ||
        EVP_CipherUpdate(ctx, NULL, &n, a->aad, (int)a->aad_len) != 1)
        return NULL;
    return ctx;
}

bool tls_aead_seal(struct tls_crypto *c, const struct tls_aead_input *a, const uint8_t *in, size_t len,
                   uint8_t *out)
{
    EVP_CIPHER_CTX *ctx = begin(c, a, SEALING);
    int n;

    return ctx && EVP_EncryptUpdate(ctx, out, &n, in, (int)len) == 1 && (size_t)n == len &&
           EVP_EncryptFinal_ex(ctx, out + len, &n) == 1 && n == 0 &&
           EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TLS_TAG_LEN, out + len) == 1;
}

bool tls_aead_open(struct tls_crypto *c, const struct tls_aead_input *a, uint8_t *data, size_t len)
{
    EVP_CIPHER_CTX *ctx = begin(c, a, OPENING);
    int n;

    if (ctx && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TLS_TAG_LEN, data + len) == 1 &&
        EVP_DecryptUpdate(ctx, data, &n, data, (int)len) == 1 && (size_t)n == len &&
        EVP_DecryptFinal_ex(ctx, data + len, &n) == 1 && n == 0)
        return true;
    tls_wipe(data, len);
    return false;
}

/*
 * HKDF-Expand-Label of RFC 8446 section 7.1 with an empty context. No more than one hash's length is ever
 * asked for, so the expansion of RFC 5869 is one HMAC; OpenSSL's own function for it would fetch the hash and
 * the HMAC each time.
 */
bool tls_expand_label(struct tls_crypto *c, enum tls_hash hash, const uint8_t *secret, const char *label,
                      uint8_t *out, size_t len)
{
    static const uint8_t zero[TLS_SECRET_MAX];
    uint8_t info[64] = {0}, block[TLS_SECRET_MAX];
    size_t label_len = strlen(label), n = 0, info_len = 3 + 6 + label_len + 2;
    EVP_MAC_CTX *hmac = c->hmac[hash];

    if (len > hash_lengths[hash] || info_len > sizeof info)
        return false;
    info[1] = (uint8_t)len;
    info[2] = (uint8_t)(6 + label_len);
    memcpy(info + 3, "tls13 ", 6);
    memcpy(info + 9, label, label_len);
    info[info_len - 1] = 1; /* after the context's length, which is 0: the number of the block */
    bool ok = EVP_MAC_init(hmac, secret, hash_lengths[hash], NULL) == 1 &&
              EVP_MAC_update(hmac, info, info_len) == 1 &&
              EVP_MAC_final(hmac, block, &n, sizeof block) == 1 && n == hash_lengths[hash];
    if (ok)
        memcpy(out, block, len);
    tls_wipe(block, sizeof block);
    return EVP_MAC_init(hmac, zero, hash_lengths[hash], NULL) == 1 && ok; /* drops the copy of the secret */
}

bool tls_prf_12(struct tls_crypto *c, enum tls_hash hash, const uint8_t *secret, size_t secret_len,
                const uint8_t *seed, size_t seed_len, uint8_t *out, size_t len)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)hash_names[hash], 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, (void *)secret, secret_len),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, (void *)seed, seed_len),
        OSSL_PARAM_construct_end(),
    };
    bool ok = EVP_KDF_derive(c->prf, out, len, params) == 1;

    EVP_KDF_CTX_reset(c->prf);
    return ok;
}

void tls_wipe(void *p, size_t len) { OPENSSL_cleanse(p, len); }
