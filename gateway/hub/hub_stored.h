/*
 * What is stored of a session, as the hub uses it, and as it will be when everything that was handed to the
 * engine is done: the engine's readers see what is committed only.
 */
#ifndef HOLDFAST_HUB_STORED_H
#define HOLDFAST_HUB_STORED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/engine/engine.h"
#include "gateway/ipc/ipc_message.h"

struct hub;
struct hub_stored_table;

struct hub_stored {
    uint64_t cursor;
    uint64_t disconnected_ms; /* wall clock; 0: connected */
    uint32_t expiry_s;
    struct engine_claim opener; /* the last one that it was given to; worker ENGINE_NO_WORKER: not known */
    bool was_present;           /* it was there before the opener came */
    uint64_t unsure_to;    /* whoever had it before died without giving it back: nobody knows which of the
                              messages up to this number it was sent; 0: that is known */
    bool ends_with_will;   /* the will is due when the session's time is over */
    uint64_t will_due_ms;  /* wall clock */
    struct ipc_bytes will; /* an encoded PUBLISH that waits; len 0: none */
};

struct hub_stored_table *hub_stored_new(void);
/* What was handed in stays the engine's; nothing may be handed in any more. */
void hub_stored_free(struct hub_stored_table *t);

/* Whether there is such a session. s->will is valid until the next call of one of these functions. */
bool hub_stored_get(struct hub *h, const char *id, size_t len, struct hub_stored *s);
/* What a session that is being read says of itself: as committed. Its will is valid while `v` is. */
void hub_stored_of_committed(const struct engine_session_view *v, struct hub_stored *s);
/* The same as hub_stored_get() for one that is being walked over (engine_ops.session_walk); its will is valid
 * while `v` is. */
bool hub_stored_of_view(struct hub *h, const struct engine_session_view *v, struct hub_stored *s);
/* Creates or changes it; a cursor only moves forward. Takes effect with this turn's commit. */
void hub_stored_put(struct hub *h, const char *id, size_t len, const struct hub_stored *s);
void hub_stored_remove(struct hub *h, const char *id, size_t len);

/* Whether its time is over: it may be there still, but not for anybody. */
bool hub_stored_is_over(const struct hub_stored *s, uint64_t now_wall_ms);
/* When that will be; 0: it is connected, or never. */
uint64_t hub_stored_end_ms(const struct hub_stored *s);

#endif
