/*
 * A session's progress as bytes: made by the worker that serves the session, taken apart by the hub, which
 * hands it to the engine. Only what is encoded here comes in, and it is checked all the same: a length that
 * does not fit, a state that is none, refuse the whole of it. How it lies on disk is record.c's affair.
 */
#include "gateway/engine/progress.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/xmalloc.h"

#define HEAD_SIZE 12
#define OUT_SIZE  11
#define IN_SIZE   2
#define OWED_SIZE 12 /* without filter and topic */

struct progress_buffer {
    struct engine_progress progress;
    struct engine_owed *owed;     /* their filters and topics lie behind them */
    struct engine_inflight out[]; /* the packet identifiers of `in` lie behind them */
};

/* Bytes with this many of each, and nothing owed. */
static size_t size_of(size_t outs, size_t ins) { return HEAD_SIZE + outs * OUT_SIZE + ins * IN_SIZE; }

size_t progress_owed_size(const struct engine_owed *o) { return OWED_SIZE + (size_t)o->len + o->after_len; }

size_t progress_size(const struct engine_progress *p)
{
    size_t size = size_of(p->outs, p->ins);
    for (unsigned i = 0; i < p->owes; i++)
        size += progress_owed_size(&p->owed[i]);
    return size;
}

/* Copies n bytes and returns where the next ones go. */
static char *put(char *at, const void *bytes, size_t n)
{
    if (n)
        memcpy(at, bytes, n);
    return at + n;
}

static char *put_owed(char *at, const struct engine_owed *o)
{
    at = put(at, &o->asked, 8);
    at = put(at, &o->len, 2);
    at = put(at, &o->after_len, 2);
    return put(put(at, o->filter, o->len), o->after, o->after_len);
}

void progress_encode(const struct engine_progress *p, void *out)
{
    char *at = put(out, &p->cursor, 8);
    at = put(at, &p->outs, 2);
    at = put(at, &p->ins, 2);
    for (unsigned i = 0; i < p->outs; i++) {
        CHECK(p->out[i].state <= ENGINE_DONE && p->out[i].qos <= 2);
        uint8_t state = (uint8_t)(p->out[i].state | p->out[i].qos << 4);
        at = put(at, &p->out[i].seq, 8);
        at = put(at, &p->out[i].packet_id, 2);
        at = put(at, &state, 1);
    }
    at = put(at, p->in, (size_t)p->ins * IN_SIZE);
    for (unsigned i = 0; i < p->owes; i++)
        at = put_owed(at, &p->owed[i]);
}

/* Reads the outgoing messages; false: one has a state that is none. */
static bool read_out(struct engine_inflight *out, unsigned n, const char *at)
{
    for (unsigned i = 0; i < n; i++, at += OUT_SIZE) {
        out[i] = (struct engine_inflight){0};
        memcpy(&out[i].seq, at, 8);
        memcpy(&out[i].packet_id, at + 8, 2);
        uint8_t state = (uint8_t)at[10];
        out[i].state = state & 15;
        out[i].qos = state >> 4;
        if (out[i].state > ENGINE_DONE || out[i].qos > 2)
            return false;
    }
    return true;
}

/* Reads one subscription that is owed something, pointing into the bytes; returns its size, 0: it is none. */
static size_t read_owed(struct engine_owed *o, const char *at, size_t len)
{
    if (len < OWED_SIZE)
        return 0;
    memcpy(&o->asked, at, 8);
    memcpy(&o->len, at + 8, 2);
    memcpy(&o->after_len, at + 10, 2);
    o->filter = at + OWED_SIZE;
    o->after = o->filter + o->len;
    return o->asked && o->len && progress_owed_size(o) <= len ? progress_owed_size(o) : 0;
}

/* Reads what is owed, to the end of the bytes; false: they are something else. */
static bool read_owes(struct progress_buffer *b, const char *bytes, size_t len)
{
    struct engine_owed one;
    size_t n = 0, size;
    for (size_t at = 0; at < len; at += size, n++)
        if (!(size = read_owed(&one, bytes + at, len - at)))
            return false;
    if (!n)
        return true;
    b->owed = xmalloc(n * sizeof one + len);
    char *copy = (char *)(b->owed + n);
    memcpy(copy, bytes, len);
    for (size_t i = 0; i < n; i++)
        copy += read_owed(&b->owed[i], copy, len);
    b->progress.owed = b->owed;
    b->progress.owes = (uint16_t)n;
    return n <= UINT16_MAX;
}

struct progress_buffer *progress_decode(const void *data, size_t len)
{
    const char *at = data;
    struct engine_progress p = {0};
    if (len < HEAD_SIZE)
        return NULL;
    memcpy(&p.cursor, at, 8);
    memcpy(&p.outs, at + 8, 2);
    memcpy(&p.ins, at + 10, 2);
    size_t in_flight = size_of(p.outs, p.ins);
    if (len < in_flight)
        return NULL;
    struct progress_buffer *b =
        xmalloc(sizeof *b + p.outs * sizeof b->out[0] + (size_t)p.ins * sizeof p.in[0]);
    uint16_t *in = (uint16_t *)(void *)(b->out + p.outs);
    if (p.ins)
        memcpy(in, at + size_of(p.outs, 0), (size_t)p.ins * IN_SIZE);
    p.out = b->out;
    p.in = in;
    b->progress = p;
    b->owed = NULL;
    if (read_out(b->out, p.outs, at + HEAD_SIZE) && read_owes(b, at + in_flight, len - in_flight))
        return b;
    progress_free(b);
    return NULL;
}

const struct engine_progress *progress_of(const struct progress_buffer *b) { return &b->progress; }

void progress_free(struct progress_buffer *b)
{
    if (b)
        free(b->owed);
    free(b);
}
