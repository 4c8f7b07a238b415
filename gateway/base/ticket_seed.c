/*
 * The ratchet behind the session ticket keys: one secret, one step forward per period. The supervisor makes
 * it and steps it, each worker is given a copy at its fork and steps that. Keys are derived from it elsewhere
 * (net/tls_tickets.c), under labels of their own.
 */
#include "gateway/base/ticket_seed.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/random.h>

#include "gateway/base/check.h"

/* What makes a step something else than a key derived from the same secret. */
static const unsigned char step_label[] = "holdfast ticket seed step";

void ticket_seed_init(struct ticket_seed *s, uint64_t period)
{
    s->period = period;
    ssize_t got; /* so few bytes come whole, or not at all while a signal interrupts the wait at boot */
    do
        got = getrandom(s->secret, sizeof s->secret, 0);
    while (got < 0 && errno == EINTR);
    CHECK(got == (ssize_t)sizeof s->secret);
}

void ticket_seed_advance(struct ticket_seed *s, uint64_t period)
{
    unsigned char next[EVP_MAX_MD_SIZE];
    for (; s->period < period; s->period++) {
        unsigned len = 0;
        CHECK(
            HMAC(EVP_sha256(), s->secret, sizeof s->secret, step_label, sizeof step_label - 1, next, &len) &&
            len == sizeof s->secret);
        for (unsigned i = 0; i < len; i++)
            s->secret[i] = next[i];
    }
    OPENSSL_cleanse(next, sizeof next);
}
