/*
 * What a worker has to say to the hub and is not done with, encoded, in the order in which it was said.
 *
 *      waiting   not sent: requests, publishes of QoS 0, registry messages, perhaps one mark
 *         │ outbox_sent()          ^
 *         v                        │ outbox_again(): the hub is another one
 *      sent      requests that are not answered ──> outbox_answer()
 */
#ifndef HOLDFAST_WORKER_OUTBOX_H
#define HOLDFAST_WORKER_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/ipc/ipc_message.h"
#include "gateway/session/session.h"

enum outbox_kind {
    OUTBOX_REQUEST, /* numbered, from 1 without gaps; stays until it is answered */
    OUTBOX_PUBLISH, /* QoS 0: gone when it is sent, waits while the hub is away */
    OUTBOX_CLAIM,   /* of the registry: gone when it is sent; another hub is told all claims anyway */
    OUTBOX_MARK,    /* where all claims are to be told */
    OUTBOX_KINDS
};

struct outbox;

/* limit: bytes per kind, with what an entry costs besides; one message of any size fits when there is none of
 * its kind. */
struct outbox *outbox_new(size_t limit);
void outbox_free(struct outbox *o);

/*
 * Adds a message at the end of those that wait. A request gets its number, in m->field[0]; its cookie is
 * copied (others: NULL). False: above the limit (CLOSE, which nobody can put off: above twice the limit), or
 * a field is too large; no number was used.
 */
bool outbox_add(struct outbox *o, enum outbox_kind kind, struct ipc_message *m,
                const struct session_cookie *cookie) __attribute__((warn_unused_result));

/* The first one that waits; its bytes stay until it is taken off. False: none waits. */
bool outbox_next(const struct outbox *o, enum outbox_kind *kind, struct ipc_message *m);
/* It was sent: it is taken off, a request is kept as sent. */
void outbox_sent(struct outbox *o);

/* Takes off the oldest request that was sent if its number is not above `number`. False: there is none. */
bool outbox_answer(struct outbox *o, uint64_t number, struct session_cookie *cookie);

/* What was sent and not answered waits again, before everything else; registry messages and a mark are
 * dropped. */
void outbox_again(struct outbox *o);

bool outbox_is_waiting(const struct outbox *o);    /* something waits */
bool outbox_is_unanswered(const struct outbox *o); /* a request was sent and not answered */
size_t outbox_bytes(const struct outbox *o, enum outbox_kind kind);

#endif
