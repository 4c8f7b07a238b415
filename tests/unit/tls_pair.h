/*
 * Two ends of one connection with made-up secrets, and a way to make records that no honest end would send.
 * Shared by the tests of the record codec and its fuzz target.
 */
#ifndef HOLDFAST_TESTS_TLS_PAIR_H
#define HOLDFAST_TESTS_TLS_PAIR_H

#include <stdlib.h>
#include <string.h>

#include "proto/tls_record.h"

/* Room for a state of any suite. */
union tls_end {
    struct tls_record r;
    uint64_t words[TLS_STATE_MAX / 8];
};

/* What both ends are started from. */
static inline struct tls_handover made_up_handover(enum tls_suite suite, bool is_client)
{
    static uint8_t material[48 + 48 + 48 + 32 + 32];

    for (size_t i = 0; i < sizeof material; i++)
        material[i] = (uint8_t)(i * 7 + 1);
    return (struct tls_handover){
        .suite = suite,
        .is_client = is_client,
        .client_secret = material,
        .server_secret = material + 48,
        .master_secret = material + 96,
        .client_random = material + 144,
        .server_random = material + 176,
    };
}

/* The end that can answer `e`, or one of its own: starts either. Ends the program when it cannot. */
static inline void start_end(struct tls_crypto *c, union tls_end *e, enum tls_suite suite, bool is_client)
{
    struct tls_handover h = made_up_handover(suite, is_client);

    if (!tls_record_start(c, &e->r, &h))
        abort();
}

/* Outer type, inner type and version that a made record shall have; 0: what is right. */
struct odd_record {
    uint8_t outer_type, type;
    uint16_t version;
    size_t padding; /* 1.3: zero bytes behind the type */
    bool no_type;   /* 1.3: there is only padding */
};

/*
 * An authentic record with any content at all, sealed with the keys of `w` by the rules of RFC 8446
 * section 5.2 and RFC 5246 section 6.2.3.3, written apart from the codec. Returns its length.
 */
static inline size_t make_record(struct tls_crypto *c, struct tls_record *w, const struct odd_record *odd,
                                 const uint8_t *content, size_t len, uint8_t *out)
{
    const struct tls_suite_info *s = &tls_suites[w->suite];
    const uint8_t *key = w->keys + s->secret_len, *iv = key + s->key_len;
    uint8_t nonce[12] = {0}, aad[13], *body = out + 5 + s->explicit_len;
    size_t inner = s->v13 ? len + !odd->no_type + odd->padding : len;
    size_t wire = s->explicit_len + inner + 16, aad_len = s->v13 ? 5 : 13;
    uint16_t version = odd->version ? odd->version : 0x0303;

    out[0] = odd->outer_type ? odd->outer_type : s->v13 ? 23 : odd->type;
    out[1] = (uint8_t)(version >> 8);
    out[2] = (uint8_t)version;
    out[3] = (uint8_t)(wire >> 8);
    out[4] = (uint8_t)wire;
    for (int i = 0; i < 8; i++)
        aad[i] = nonce[4 + i] = (uint8_t)((uint64_t)w->write_seq >> (56 - 8 * i));
    for (int i = 0; i < s->iv_len; i++)
        nonce[i] ^= iv[i];
    if (s->explicit_len)
        memcpy(out + 5, nonce + 4, 8);
    memcpy(aad + 8, out, 3);
    aad[11] = (uint8_t)(inner >> 8);
    aad[12] = (uint8_t)inner;
    if (s->v13)
        memcpy(aad, out, 5);
    if (len)
        memmove(body, content, len);
    if (s->v13) {
        memset(body + len, 0, inner - len);
        if (!odd->no_type)
            body[len] = odd->type;
    }
    struct tls_aead_input a = {s->aead, key, nonce, aad, aad_len};
    if (!tls_aead_seal(c, &a, body, inner, body))
        abort();
    w->write_seq++;
    return 5 + wire;
}

static inline bool all_zero(const void *p, size_t len)
{
    const uint8_t *b = p;

    for (size_t i = 0; i < len; i++)
        if (b[i])
            return false;
    return true;
}

#endif
