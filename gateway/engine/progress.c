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

struct progress_buffer {
    struct engine_progress progress;
    struct engine_inflight out[]; /* the packet identifiers of `in` lie behind them */
};

/* Bytes with this many of each. */
static size_t size_of(size_t outs, size_t ins) { return HEAD_SIZE + outs * OUT_SIZE + ins * IN_SIZE; }

size_t progress_size(const struct engine_progress *p) { return size_of(p->outs, p->ins); }

/* Copies n bytes and returns where the next ones go. */
static char *put(char *at, const void *bytes, size_t n)
{
    memcpy(at, bytes, n);
    return at + n;
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
    if (p->ins)
        put(at, p->in, (size_t)p->ins * IN_SIZE);
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

struct progress_buffer *progress_decode(const void *data, size_t len)
{
    const char *at = data;
    struct engine_progress p = {0};
    if (len < HEAD_SIZE)
        return NULL;
    memcpy(&p.cursor, at, 8);
    memcpy(&p.outs, at + 8, 2);
    memcpy(&p.ins, at + 10, 2);
    if (len != size_of(p.outs, p.ins))
        return NULL;
    struct progress_buffer *b =
        xmalloc(sizeof *b + p.outs * sizeof b->out[0] + (size_t)p.ins * sizeof p.in[0]);
    uint16_t *in = (uint16_t *)(void *)(b->out + p.outs);
    if (p.ins)
        memcpy(in, at + size_of(p.outs, 0), (size_t)p.ins * IN_SIZE);
    p.out = b->out;
    p.in = in;
    b->progress = p;
    if (read_out(b->out, p.outs, at + HEAD_SIZE))
        return b;
    free(b);
    return NULL;
}

const struct engine_progress *progress_of(const struct progress_buffer *b) { return &b->progress; }

void progress_free(struct progress_buffer *b) { free(b); }
