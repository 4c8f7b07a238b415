/*
 * The cipher suites whose connections can be carried on from keys alone, and those keys: how OpenSSL's
 * secrets become keys and IVs (RFC 8446 section 7, RFC 5246 section 6.3), and the next ones after a
 * KeyUpdate.
 */
#ifndef HOLDFAST_PROTO_TLS_KEYS_H
#define HOLDFAST_PROTO_TLS_KEYS_H

#include "proto/tls_crypto.h"

/* Version, AEAD and hash of the key schedule. How the keys were agreed on and signed makes no difference. */
enum tls_suite {
    TLS_SUITE_NONE,
    TLS13_AES_128_GCM,
    TLS13_AES_256_GCM,
    TLS13_CHACHA20_POLY1305,
    TLS12_AES_128_GCM,
    TLS12_AES_256_GCM,
    TLS12_CHACHA20_POLY1305,
    TLS_SUITES
};

struct tls_suite_info {
    const char *name;
    enum tls_aead aead;
    enum tls_hash hash;
    bool v13;
    uint8_t secret_len;   /* of an application traffic secret; 0 in 1.2 */
    uint8_t key_len;      /* bytes, as all of these */
    uint8_t iv_len;       /* what is kept of the nonce */
    uint8_t explicit_len; /* what each record carries of the nonce */
    uint8_t half_len;     /* what one direction keeps: secret, key, IV, packed in this order */
};

/* By enum tls_suite. */
extern const struct tls_suite_info tls_suites[TLS_SUITES];

/*
 * From the two-byte value of the TLS registry (SSL_CIPHER_get_protocol_id()). TLS_SUITE_NONE for what is not
 * here: CBC, CCM, static RSA, finite-field DH, PSK, TLS 1.1.
 */
enum tls_suite tls_suite_from_iana(uint16_t value);

/* Fills in key and IV behind the traffic secret that `half` begins with. 1.3 only. */
bool tls_keys_from_secret(struct tls_crypto *c, enum tls_suite suite, uint8_t *half)
    __attribute__((warn_unused_result));

/* Replaces secret, key and IV by the next generation (RFC 8446 section 7.2). 1.3 only. */
bool tls_keys_update(struct tls_crypto *c, enum tls_suite suite, uint8_t *half)
    __attribute__((warn_unused_result));

#define TLS_MASTER_LEN 48
#define TLS_RANDOM_LEN 32

/* Both halves from the master secret. 1.2 only. */
bool tls_keys_from_master(struct tls_crypto *c, enum tls_suite suite, const uint8_t *master,
                          const uint8_t *client_random, const uint8_t *server_random, uint8_t *client_half,
                          uint8_t *server_half) __attribute__((warn_unused_result));

enum tls_keylog_label { TLS_KEYLOG_OTHER, TLS_KEYLOG_CLIENT_TRAFFIC, TLS_KEYLOG_SERVER_TRAFFIC };

/*
 * One line of a key log (SSL_CTX_set_keylog_callback(), draft-ietf-tls-keylogfile): when it is one of the two
 * application traffic secrets, that goes to `secret` and its length, 32 or 48, to `*len`.
 */
enum tls_keylog_label tls_keylog_decode(const char *line, uint8_t secret[TLS_SECRET_MAX], size_t *len);

#endif
