/*
 * The keys of session tickets (RFC 5077 section 4): AES-256-CBC and HMAC-SHA256 under a name of 16 bytes.
 * They come from a seed that all workers share and that steps with the clock, or from a file that several
 * machines share. The ticket callback of tls_context.c asks for them. Which session a ticket may resume is
 * not decided here but by the session id context.
 *
 * All keys lie in one mapping that core dumps leave out.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <openssl/core_names.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/net/tls_context_internal.h"

#define KEYS_MAX 8

/* As in the file. */
struct ticket_key {
    unsigned char name[16];
    unsigned char hmac[32];
    unsigned char aes[32];
};
_Static_assert(sizeof(struct ticket_key) == 80, "keys are read as they lie in the file");

struct tls_tickets {
    EVP_CIPHER *cipher;
    uint32_t rotation_ms;
    bool from_file;
    uint64_t period;         /* that keys[0] belongs to, unless from_file */
    struct ticket_seed seed; /* of the period before: what opens the oldest tickets that may be opened */
    unsigned count;
    struct ticket_key keys[KEYS_MAX]; /* the first encrypts, all decrypt */
};

/* The key of a period, each part from the secret and a label. */
static void derive_key(const struct ticket_seed *seed, struct ticket_key *k)
{
    const struct {
        const char *label;
        unsigned char *out;
        size_t len;
    } parts[] = {
        {"holdfast ticket name", k->name, sizeof k->name},
        {"holdfast ticket hmac", k->hmac, sizeof k->hmac},
        {"holdfast ticket aes", k->aes, sizeof k->aes},
    };
    unsigned char digest[32];

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        CHECK(HMAC(EVP_sha256(), seed->secret, sizeof seed->secret, (const unsigned char *)parts[i].label,
                   strlen(parts[i].label), digest, NULL));
        memcpy(parts[i].out, digest, parts[i].len);
    }
    OPENSSL_cleanse(digest, sizeof digest);
}

/* Derives the keys of this period and of the one before, and forgets those before that. */
static void derive_keys(struct tls_tickets *t, uint64_t period)
{
    struct ticket_seed present;

    OPENSSL_cleanse(t->keys, sizeof t->keys);
    if (t->seed.period + 1 < period)
        ticket_seed_advance(&t->seed, period - 1);
    present = t->seed;
    t->count = 1;
    if (present.period < period) {
        derive_key(&t->seed, &t->keys[1]);
        ticket_seed_advance(&present, period);
        t->count = 2;
    }
    derive_key(&present, &t->keys[0]);
    OPENSSL_cleanse(&present, sizeof present);
    t->period = period;
}

/* Steps to the clock's period. */
static void follow_clock(struct tls_tickets *t)
{
    uint64_t period = clock_ms() / t->rotation_ms;

    if (!t->from_file && period != t->period)
        derive_keys(t, period);
}

struct tls_tickets *tls_tickets_new(const struct ticket_seed *seed, uint32_t rotation_ms)
{
    struct tls_tickets *t = mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(t != MAP_FAILED && rotation_ms > 0);
    madvise(t, sizeof *t, MADV_DONTDUMP);
    (void)mlock(t, sizeof *t); /* may not be allowed, which is no reason to stop */
    t->cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    CHECK(t->cipher);
    t->rotation_ms = rotation_ms;
    t->seed = *seed;
    derive_keys(t, clock_ms() / rotation_ms);
    return t;
}

void tls_tickets_free(struct tls_tickets *t)
{
    if (!t)
        return;
    EVP_CIPHER_free(t->cipher);
    OPENSSL_cleanse(t, sizeof *t);
    munmap(t, sizeof *t);
}

/* What is wrong with a file of keys; NULL: nothing. */
static const char *wrong_with_keys(const struct tls_file *f)
{
    if (!f->len || f->len % sizeof(struct ticket_key) || f->len > KEYS_MAX * sizeof(struct ticket_key))
        return "expected 1 to 8 keys of 80 bytes (16 name, 32 HMAC, 32 AES)";
    for (size_t i = 0; i < f->len; i += sizeof(struct ticket_key))
        for (size_t k = 0; k < i; k += sizeof(struct ticket_key))
            if (memcmp(f->data + i, f->data + k, 16) == 0)
                return "two keys begin with the same name of 16 bytes";
    return NULL;
}

/* Copies as many zeros: a process that does nothing afterwards would keep in its vector registers, which core
 * dumps show, what it has copied last. */
static void clear_registers(size_t len)
{
    static const unsigned char zeros[KEYS_MAX * sizeof(struct ticket_key)];
    unsigned char to[sizeof zeros];

    memcpy(to, zeros, len);
    OPENSSL_cleanse(to, sizeof to);
}

bool tls_tickets_load(struct tls_tickets *t, const struct tls_bundle *b, char *error, size_t error_size)
{
    const struct tls_file *f = tls_bundle_file(b, TLS_FILE_TICKET_KEYS, CONFIG_NO_TLS, 0);
    const char *wrong = f ? wrong_with_keys(f) : NULL;

    if (wrong) {
        snprintf(error, error_size, "%s: has %zu bytes; %s", f->path, f->len, wrong);
        return false;
    }
    t->from_file = f != NULL;
    if (!f) {
        derive_keys(t, clock_ms() / t->rotation_ms);
        return true;
    }
    OPENSSL_cleanse(t->keys, sizeof t->keys);
    memcpy(t->keys, f->data, f->len);
    clear_registers(f->len);
    t->count = (unsigned)(f->len / sizeof(struct ticket_key));
    return true;
}

/* Gives the HMAC its key. */
static bool set_mac(struct ticket_key *k, EVP_MAC_CTX *mac)
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, k->hmac, sizeof k->hmac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

int tls_tickets_seal(struct tls_tickets *t, unsigned char name[16], unsigned char iv[16],
                     EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
    follow_clock(t);
    struct ticket_key *k = &t->keys[0];

    memcpy(name, k->name, sizeof k->name);
    return RAND_bytes(iv, 16) == 1 && EVP_EncryptInit_ex2(cipher, t->cipher, k->aes, iv, NULL) == 1 &&
                   set_mac(k, mac)
               ? 1
               : -1;
}

int tls_tickets_open(struct tls_tickets *t, const unsigned char name[16], const unsigned char iv[16],
                     EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
    follow_clock(t);
    for (unsigned i = 0; i < t->count; i++) {
        struct ticket_key *k = &t->keys[i];
        if (memcmp(k->name, name, sizeof k->name) != 0)
            continue;
        if (EVP_DecryptInit_ex2(cipher, t->cipher, k->aes, iv, NULL) != 1 || !set_mac(k, mac))
            return -1;
        return i == 0 ? 1 : 2;
    }
    return 0;
}
