/*
 * What the owner has handed in and the writer has not done yet: operations one behind the other in a block of
 * memory, inside the engine only.
 */
#ifndef HOLDFAST_ENGINE_BATCH_H
#define HOLDFAST_ENGINE_BATCH_H

#include <stddef.h>
#include <stdint.h>

enum batch_op_type {
    OP_APPEND,         /* qos, retain; seq, time, expires, origin; topic, props, payload */
    OP_RETAIN,         /* the same */
    OP_SESSION_PUT,    /* expiry s; number if it is new, cursor, disconnected; client id, extra */
    OP_SESSION_REMOVE, /* client id */
    OP_SUBSCRIBE,      /* identifier, options; since, asked; client id, filter */
    OP_UNSUBSCRIBE,    /* client id, filter */
    OP_PROGRESS,       /* cursor, flags; client id, the value for the table */
    OP_NOTE,           /* name, bytes */
    OP_SEQUENCE,       /* numbers up to this may be given out */
    OP_TICK,           /* now */
    OP_TYPES
};

/* batch_op.flags of OP_PROGRESS: left out when messages are refused. */
#define OP_WITH_MESSAGES 0x80

struct batch_op {
    uint32_t size; /* with its bytes and padding: where the next one begins */
    uint8_t type, flags, qos, retain;
    uint32_t word;
    uint32_t len[3];
    uint64_t number[4];
    char bytes[]; /* the three ranges */
};

struct batch {
    char *block;
    size_t size, room;
    uint32_t ops, appends;
    uint32_t scattered;     /* operations on sessions: each changes pages of its own */
    uint64_t message_bytes; /* of messages appended or retained, with what keeping them costs about */
    uint64_t last_seq;      /* the newest number given to a message when it was committed */
    uint64_t ticket;        /* of its last commit */
};

struct batch_range {
    const void *bytes;
    size_t len;
};

/* Appends an operation; size, len and bytes are filled in from the ranges. */
void batch_add(struct batch *b, struct batch_op head, const struct batch_range range[3]);
/* Moves everything to the end of another batch. */
void batch_move(struct batch *to, struct batch *from);
/* Empties it; keeps a block of moderate size. */
void batch_clear(struct batch *b);
void batch_free(struct batch *b);

/* The first operation (previous NULL) or the next; NULL at the end. */
const struct batch_op *batch_next(const struct batch *b, const struct batch_op *previous);
/* The i-th range. */
static inline const char *batch_bytes(const struct batch_op *op, unsigned i)
{
    return op->bytes + (i > 0 ? op->len[0] : 0) + (i > 1 ? op->len[1] : 0);
}

#endif
