/*
 * SipHash with one compression and three finalization rounds: strong enough that a stranger who cannot see
 * the key cannot find colliding names, and about as fast as a plain hash for names of 10 to 40 bytes. The
 * same in all processes of the gateway; never stored, but for hash_known().
 */
#include "gateway/base/hash.h"

#include <endian.h>
#include <string.h>
#include <sys/random.h>

#include "gateway/base/check.h"

static uint64_t key0, key1;

/* A fresh key. getrandom() of 16 bytes neither blocks after boot nor comes back short. */
void hash_init(void)
{
    uint64_t key[2];
    CHECK(getrandom(key, sizeof key, 0) == (ssize_t)sizeof key);
    hash_set_key(key[0], key[1]);
}

/* A given key. */
void hash_set_key(uint64_t k0, uint64_t k1)
{
    key0 = k0;
    key1 = k1;
}

/* Rotates left by n bits. */
static inline uint64_t rotl(uint64_t x, unsigned n) { return x << n | x >> (64 - n); }

/* One SipRound over the state. */
static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[0] = rotl(v[0], 32);
    v[2] += v[3];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[2] = rotl(v[2], 32);
}

/* Takes in one 64-bit word. */
static inline void sip_word(uint64_t v[4], uint64_t m)
{
    v[3] ^= m;
    sip_round(v);
    v[0] ^= m;
}

/* SipHash-1-3 of the bytes under a key. */
static uint64_t sip_hash(uint64_t k0, uint64_t k1, const void *data, size_t len)
{
    uint64_t v[4] = {k0 ^ UINT64_C(0x736f6d6570736575), k1 ^ UINT64_C(0x646f72616e646f6d),
                     k0 ^ UINT64_C(0x6c7967656e657261), k1 ^ UINT64_C(0x7465646279746573)};
    const unsigned char *p = data;
    size_t left = len;
    uint64_t m;
    for (; left >= 8; p += 8, left -= 8) {
        memcpy(&m, p, 8);
        sip_word(v, le64toh(m));
    }
    m = (uint64_t)len << 56;
    for (size_t i = 0; i < left; i++)
        m |= (uint64_t)p[i] << (8 * i);
    sip_word(v, m);
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* Under the key of the running gateway. */
uint64_t hash_bytes(const void *data, size_t len) { return sip_hash(key0, key1, data, len); }

/* Under the key 0. */
uint64_t hash_known(const void *data, size_t len) { return sip_hash(0, 0, data, len); }
