/*
 * A hashed timing wheel whose entries live in the callers' records (two 32-bit links), for very many
 * deadlines that nearly always move before they come.
 *
 * Slots are WHEEL_TICK_MS wide. An entry waits in the slot of the first tick that does not begin before its
 * deadline, so it is looked at less than one tick late and never early. When its slot comes round the owner
 * is asked for the deadline as it is now: still in the future (it was moved, or lies more than one turn
 * ahead), and the entry goes to its new slot; or past, and the owner ends it. So putting a deadline off costs
 * the owner one store and the wheel nothing; only a deadline that comes nearer must be told (wheel_move).
 * Source: Varghese, Lauck, "Hashed and Hierarchical Timing Wheels", 1987, scheme 6.
 */
#ifndef HOLDFAST_BASE_WHEEL_H
#define HOLDFAST_BASE_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#define WHEEL_TICK_MS 250
#define WHEEL_SLOTS   4096

/* A member of the caller's record. All zero: not in the wheel. */
struct wheel_link {
    uint32_t next; /* ids; in the slot's first entry prev is 0 */
    uint32_t prev;
    uint32_t slot_plus_1; /* the slot it is in, plus 1; 0: in none */
};

struct wheel_ops {
    struct wheel_link *(*link)(void *ctx, uint32_t id);
    /*
     * Looks at entry `id`, whose slot has come (the entry is out of the wheel during the call). Returns its
     * deadline in ms, with which the entry goes back in (one that is past: the next tick), or 0: the owner
     * has ended it (it may already be released). May add and remove any entries; none is looked at twice in
     * one advance.
     */
    uint64_t (*look)(void *ctx, uint32_t id, uint64_t now_ms);
};

struct wheel;

struct wheel *wheel_new(const struct wheel_ops *ops, void *ctx, uint64_t now_ms);
void wheel_free(struct wheel *w);

/* Puts an entry in that is in no slot. deadline_ms may lie any distance ahead, or be past (then: the next
 * tick). */
void wheel_add(struct wheel *w, uint32_t id, uint64_t deadline_ms);
/* Takes an entry out; one that is in no slot is left alone. Safe inside look(), for any entry. */
void wheel_remove(struct wheel *w, uint32_t id);
/* wheel_remove() and wheel_add(). */
void wheel_move(struct wheel *w, uint32_t id, uint64_t deadline_ms);

/* Looks at every slot whose tick has begun by now_ms and was not looked at before, in order. Returns the
 * number of entries looked at. Not to be called from look(). */
unsigned wheel_advance(struct wheel *w, uint64_t now_ms);

uint32_t wheel_count(const struct wheel *w);

#endif
