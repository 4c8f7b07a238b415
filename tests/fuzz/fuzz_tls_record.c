/*
 * Fuzz target: a program of what reaches one end of a TLS connection. The first byte chooses suite and
 * direction; then each step is one byte and its arguments: honest content, authentic records with any
 * content, bytes that are not authentic, key updates and alerts of either end. Whatever comes, the codec must
 * stay within its bytes, keep its promises about results and states, and understand an honest end.
 */
#include <stdlib.h>
#include <string.h>

#include "proto/tls_record.h"
#include "tests/unit/tls_pair.h"

#define MAX_STEPS 200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum step { HONEST, MADE, FORGED, RAW, UPDATE, BACK, ALERT, MOVE, STEPS };

/* The one who sends and the one who is looked at, and the rest of the program. */
struct play {
    struct tls_crypto *crypto;
    union tls_end *from, *to;
    enum tls_suite suite;
    const uint8_t *at, *end;
};

/* Ends the program with a trace when something does not hold. */
static void must(bool holds)
{
    if (!holds)
        abort();
}

static uint8_t next(struct play *p) { return p->at < p->end ? *p->at++ : 0; }

/* Up to `len` of the program's bytes. */
static const uint8_t *take(struct play *p, size_t *len)
{
    const uint8_t *start = p->at;

    if (*len > (size_t)(p->end - p->at))
        *len = (size_t)(p->end - p->at);
    p->at += *len;
    return start;
}

/* What holds of every result, whatever was opened. */
static void check_result(const struct play *p, enum tls_result result, const struct tls_opened *o,
                         const uint8_t *in, size_t len, bool had_closed)
{
    size_t size = tls_record_size(p->suite);

    must(o->used <= len);
    must((result == TLS_DATA) == (o->data != NULL) && (result == TLS_DATA) == (o->len > 0));
    switch (result) {
    case TLS_DATA:
        must(o->data > in && o->data + o->len < in + o->used && o->len <= TLS_PLAINTEXT_MAX);
        must(o->alert == TLS_ALERT_NONE);
        break;
    case TLS_MORE:
        must(o->used == 0 && o->need > len && o->need <= TLS_RECORD_MAX);
        break;
    case TLS_CONTROL:
        must(o->used > TLS_HEADER_LEN);
        must(o->alert == TLS_ALERT_NONE || o->alert == TLS_ALERT_NO_RENEGOTIATION);
        break;
    case TLS_CLOSED:
        must(o->used == len && (p->to->r.read_closed || all_zero(p->to, size)));
        break;
    case TLS_REFUSED:
        must(all_zero(p->to, size) && o->used > 0);
        break;
    case TLS_BAD:
        must(o->why && o->used == 0 && (p->to->r.failed || all_zero(p->to, size)));
        break;
    }
    must(!had_closed || result == TLS_CLOSED || p->to->r.failed || all_zero(p->to, size));
}

/* `len` bytes arrive at the end that is looked at, in memory of exactly that size. Returns the last result.
 */
static enum tls_result arrive(struct play *p, const uint8_t *bytes, size_t len)
{
    enum tls_result result = TLS_MORE;
    struct tls_opened o;
    uint8_t *in = malloc(len ? len : 1), *at = in;

    must(in != NULL);
    memcpy(in, bytes, len);
    do {
        union tls_end before = *p->to;
        size_t part = len > TLS_HEADER_LEN + 1 ? len / 2 : 0;
        result = tls_record_open(p->crypto, &p->to->r, at, part, &o);
        if (result == TLS_MORE) { /* a beginning changes nothing */
            must(memcmp(&before, p->to, tls_record_size(p->suite)) == 0);
            part = len;
            result = tls_record_open(p->crypto, &p->to->r, at, len, &o);
        }
        check_result(p, result, &o, at, part, before.r.read_closed);
        at += o.used;
        len -= o.used;
    } while (len > 0 && (result == TLS_DATA || result == TLS_CONTROL));
    free(in);
    return result;
}

/* An honest end has nothing to say in 1.3 while a message is begun that another record may not interrupt. */
static bool is_interrupted(const struct play *p, const union tls_end *to)
{
    return tls_suites[p->suite].v13 && to->r.msg_have;
}

static bool both_alive(const struct play *p)
{
    return p->from->r.suite && p->to->r.suite && !p->from->r.failed && !p->to->r.failed;
}

/* Honest content: it has to be understood as long as both live. */
static void step_honest(struct play *p, union tls_end *from, union tls_end *to)
{
    uint8_t content[1024] = {0}, wire[1200];
    size_t len = (size_t)(1 + next(p)) * 4, n;
    struct tls_opened o;
    bool may = both_alive(p) && !from->r.write_closed;
    size_t size = tls_record_sealed_size(&from->r, len), at = 0, got = 0;

    if (is_interrupted(p, to))
        return;
    must(size <= sizeof wire);
    n = tls_record_seal(p->crypto, &from->r, content, len, wire, size);
    must(n == 0 || n == size);
    must(!may || n > 0);
    while (may && at < n) {
        enum tls_result result = tls_record_open(p->crypto, &to->r, wire + at, n - at, &o);
        if (to->r.read_closed || (result == TLS_BAD && o.alert == TLS_ALERT_UNEXPECTED_MESSAGE))
            return; /* after close_notify; a flood */
        must(result == TLS_DATA || result == TLS_CONTROL);
        at += o.used;
        got += o.len;
    }
    must(!may || got == len);
}

/* An authentic record with the program's type, version, padding and content. */
static void step_made(struct play *p, bool forged)
{
    uint8_t wire[1024];
    struct odd_record odd = {.type = next(p), .padding = next(p)};
    uint8_t flags = next(p);
    size_t len = next(p);
    const uint8_t *content = take(p, &len);

    odd.no_type = (flags & 3) == 3;
    odd.version = flags & 4 ? 0x0301 : 0;
    if (!tls_suites[p->suite].v13)
        odd.padding = 0;
    if (!both_alive(p) || p->from->r.write_closed)
        return;
    size_t n = make_record(p->crypto, &p->from->r, &odd, content, len, wire);
    if (forged)
        wire[flags % n] ^= 0x10;
    if (arrive(p, wire, n) == TLS_MORE) { /* made longer: as if it had never been sent */
        p->from->r.write_seq--;
    } else if (both_alive(p) && !p->to->r.read_closed && p->to->r.read_seq == 0) { /* it was a KeyUpdate */
        must(tls_keys_update(p->crypto, p->suite, p->from->r.keys));
        p->from->r.write_seq = 0;
    }
}

static void step_raw(struct play *p)
{
    size_t len = next(p);
    const uint8_t *bytes = take(p, &len);

    arrive(p, bytes, len);
}

static void step_update(struct play *p)
{
    uint8_t wire[TLS_SMALL_MAX], ask = next(p) & 1;

    if (is_interrupted(p, p->to))
        return;
    size_t n = tls_record_key_update(p->crypto, &p->from->r, ask, wire, sizeof wire);
    must(n == 0 || n == 27);
    if (n && p->to->r.suite)
        arrive(p, wire, n);
}

/* An alert of either end: a fatal one ends its state. */
static void step_alert(struct play *p)
{
    uint8_t wire[TLS_SMALL_MAX], which = next(p);
    struct tls_opened o;
    union tls_end *e = next(p) & 1 ? p->to : p->from;
    size_t n = tls_record_alert(p->crypto, &e->r, (enum tls_alert)which, wire, sizeof wire);
    bool warning = which == TLS_ALERT_CLOSE_NOTIFY || which == TLS_ALERT_USER_CANCELED ||
                   which == TLS_ALERT_NO_RENEGOTIATION;

    must(n == 0 || warning || all_zero(e, tls_record_size(p->suite)));
    if (n && e == p->from)
        arrive(p, wire, n);
    else if (n && p->from->r.suite)
        must(tls_record_open(p->crypto, &p->from->r, wire, n, &o) != TLS_BAD || p->from->r.failed ||
             !p->from->r.suite);
}

/* The state goes to another place, as bytes. */
static void step_move(struct play *p)
{
    union tls_end elsewhere;

    memcpy(&elsewhere, p->to, tls_record_size(p->suite));
    memset(p->to, 0xAA, sizeof *p->to);
    memcpy(p->to, &elsewhere, tls_record_size(p->suite));
}

static void run_step(struct play *p)
{
    switch ((enum step)(next(p) % STEPS)) {
    case HONEST:
        step_honest(p, p->from, p->to);
        break;
    case MADE:
        step_made(p, false);
        break;
    case FORGED:
        step_made(p, true);
        break;
    case RAW:
        step_raw(p);
        break;
    case UPDATE:
        step_update(p);
        break;
    case BACK:
        step_honest(p, p->to, p->from);
        break;
    case ALERT:
        step_alert(p);
        break;
    case MOVE:
        step_move(p);
        break;
    case STEPS:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tls_crypto *crypto;
    static union tls_end from, to;
    struct play p = {.from = &from, .to = &to, .at = data, .end = data + size};

    if (!crypto)
        crypto = tls_crypto_new();
    p.crypto = crypto;
    uint8_t first = next(&p);
    p.suite = TLS13_AES_128_GCM + first % (TLS_SUITES - 1);
    start_end(crypto, p.from, p.suite, first & 0x80);
    start_end(crypto, p.to, p.suite, !(first & 0x80));
    for (int steps = 0; p.at < p.end && steps < MAX_STEPS; steps++) {
        run_step(&p);
        must(p.to->r.quiet <= TLS_QUIET_MAX && p.to->r.msg_have <= 4);
    }
    return 0;
}
