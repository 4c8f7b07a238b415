/*
 * The packet identifiers of a client's publishes with QoS 2 that it has not released. Inside the session
 * layer only.
 *
 * Clients count their identifiers up, so that they are held as runs of successive ones: ten thousand that are
 * not released are one run, in memory and in the stored progress.
 */
#ifndef HOLDFAST_SESSION_INCOMING_H
#define HOLDFAST_SESSION_INCOMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum incoming_state {
    INCOMING_ASKED,    /* the hub has not answered */
    INCOMING_KEPT,     /* PUBREC was sent, or may be */
    INCOMING_RESTORED, /* the same, out of the store: sent again, it has to have DUP ([MQTT-3.3.1-1]) */
    INCOMING_STATES,
    INCOMING_NONE = INCOMING_STATES
};

/* A set of them; NULL is the empty one. */
struct incoming;

/* The state of an identifier; INCOMING_NONE: it is not there. */
enum incoming_state incoming_find(const struct incoming *in, uint16_t packet_id);
/* Adds one, or gives it another state. */
void incoming_set(struct incoming **in, uint16_t packet_id, enum incoming_state state);
void incoming_remove(struct incoming **in, uint16_t packet_id);
void incoming_free(struct incoming **in);

/* How many there are in a state. */
uint32_t incoming_count(const struct incoming *in, enum incoming_state state);
/* Of how many runs they are: what they cost. */
uint32_t incoming_runs(const struct incoming *in);

/*
 * As they are stored (engine_progress.in): an identifier stands for itself; first, 0, last for a run of three
 * and more. Those that are asked are left out unless `with_asked`. Returns how many numbers it writes, at
 * most 3 for each run.
 */
uint16_t incoming_encode(const struct incoming *in, bool with_asked, uint16_t *out);
/* Adds what was stored, as INCOMING_RESTORED. False: it is not what incoming_encode() writes. */
bool incoming_decode(struct incoming **in, const uint16_t *from, uint16_t count);

#endif
