/*
 * All that TLS records ask of OpenSSL: one AEAD operation, the two key derivations, wiping. One `struct
 * tls_crypto` per process holds what OpenSSL is slow to make (fetched algorithms, contexts) and is used for
 * every connection in turn; nothing of a connection has to stay in it. A context is re-keyed for each record,
 * which costs less than half of what making one does.
 */
#ifndef HOLDFAST_PROTO_TLS_CRYPTO_H
#define HOLDFAST_PROTO_TLS_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tls_aead { TLS_AES_128_GCM, TLS_AES_256_GCM, TLS_CHACHA20_POLY1305, TLS_AEADS };
enum tls_hash { TLS_SHA256, TLS_SHA384, TLS_HASHES };

#define TLS_KEY_MAX    32
#define TLS_NONCE_LEN  12 /* of all three */
#define TLS_TAG_LEN    16 /* of all three */
#define TLS_SECRET_MAX 48

struct tls_crypto;

/* NULL when OpenSSL lacks an algorithm or memory. Not thread safe; may be made before a fork(). */
struct tls_crypto *tls_crypto_new(void) __attribute__((warn_unused_result));
void tls_crypto_free(struct tls_crypto *c);

/* The expanded key of the last record stays in each context: this overwrites it. For idle moments. */
void tls_crypto_forget(struct tls_crypto *c);

/* Key lengths are those of the algorithm: 16 or 32 bytes; the nonce has TLS_NONCE_LEN. */
struct tls_aead_input {
    enum tls_aead aead;
    const uint8_t *key, *nonce;
    const uint8_t *aad;
    size_t aad_len;
};

/*
 * RFC 5116. `out` gets len + TLS_TAG_LEN bytes; it is `in` or does not overlap with it. False only when
 * OpenSSL fails.
 */
bool tls_aead_seal(struct tls_crypto *c, const struct tls_aead_input *a, const uint8_t *in, size_t len,
                   uint8_t *out) __attribute__((warn_unused_result));

/* Decrypts `len` bytes in place, with the tag behind them. False: not authentic; the bytes are wiped. */
bool tls_aead_open(struct tls_crypto *c, const struct tls_aead_input *a, uint8_t *data, size_t len)
    __attribute__((warn_unused_result));

/* HKDF-Expand-Label of RFC 8446 section 7.1 with an empty context. The secret has the length of the hash; len
 * is at most that. */
bool tls_expand_label(struct tls_crypto *c, enum tls_hash hash, const uint8_t *secret, const char *label,
                      uint8_t *out, size_t len) __attribute__((warn_unused_result));

/* The PRF of RFC 5246 section 5; `seed` is label and seed together. */
bool tls_prf_12(struct tls_crypto *c, enum tls_hash hash, const uint8_t *secret, size_t secret_len,
                const uint8_t *seed, size_t seed_len, uint8_t *out, size_t len)
    __attribute__((warn_unused_result));

/* Zeroes bytes in a way that the compiler does not drop. */
void tls_wipe(void *p, size_t len);

#endif
