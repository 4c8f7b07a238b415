/*
 * Batches: filled by the engine's owner without a lock, moved to the writer at a commit. Operations hold
 * copies of their bytes and lie at multiples of eight.
 */
#include "gateway/engine/batch.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/xmalloc.h"

#define BLOCK_KEPT (4u << 10)

/* What a message costs beside its bytes: nodes in four tables. */
#define MESSAGE_OVERHEAD 512

/* Room for n more bytes. */
static char *grow(struct batch *b, size_t n)
{
    if (b->size + n > b->room) {
        b->room = (b->size + n) * 2;
        b->block = xrealloc(b->block, b->room);
    }
    b->size += n;
    return b->block + b->size - n;
}

void batch_add(struct batch *b, struct batch_op head, const struct batch_range range[3])
{
    size_t bytes = range[0].len + range[1].len + range[2].len;
    size_t size = (sizeof head + bytes + 7) & ~(size_t)7;
    CHECK(size <= UINT32_MAX);
    struct batch_op *op = (struct batch_op *)(void *)grow(b, size);
    char *at = op->bytes;
    *op = head;
    op->size = (uint32_t)size;
    for (unsigned i = 0; i < 3; i++) {
        op->len[i] = (uint32_t)range[i].len;
        if (range[i].len)
            memcpy(at, range[i].bytes, range[i].len);
        at += range[i].len;
    }
    b->ops++;
    if (head.type == OP_APPEND || head.type == OP_RETAIN)
        b->message_bytes += bytes + MESSAGE_OVERHEAD;
    if (head.type == OP_APPEND)
        b->appends++;
    if (head.type >= OP_SESSION_PUT && head.type <= OP_PROGRESS)
        b->scattered++;
}

void batch_move(struct batch *to, struct batch *from)
{
    if (to->size == 0) {
        struct batch empty = *to;
        *to = *from;
        *from = empty;
    } else if (from->size) {
        memcpy(grow(to, from->size), from->block, from->size);
        to->ops += from->ops;
        to->appends += from->appends;
        to->scattered += from->scattered;
        to->message_bytes += from->message_bytes;
        to->last_seq = from->last_seq;
        to->ticket = from->ticket;
    }
    batch_clear(from);
}

void batch_clear(struct batch *b)
{
    if (b->room > BLOCK_KEPT) {
        free(b->block);
        *b = (struct batch){0};
    }
    *b = (struct batch){.block = b->block, .room = b->room};
}

void batch_free(struct batch *b)
{
    free(b->block);
    *b = (struct batch){0};
}

const struct batch_op *batch_next(const struct batch *b, const struct batch_op *previous)
{
    size_t at = previous ? (size_t)((const char *)previous - b->block) + previous->size : 0;
    return at < b->size ? (const struct batch_op *)(const void *)(b->block + at) : NULL;
}
