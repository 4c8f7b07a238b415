/*
 * The timing wheel. Fed by whoever has records with deadlines (the heartbeat of connections), advanced by one
 * periodic timer of the event loop. It knows ids and links, no time of its own, and allocates nothing after
 * it is made.
 *
 * Tick k begins at k * WHEEL_TICK_MS; a deadline waits for the first tick that does not begin before it, in
 * slot k mod WHEEL_SLOTS, or one turn ahead if it lies further away than that. Two rules keep an advance
 * right while look() adds and removes entries:
 *
 *  - The list of the slot being visited is taken off its slot and hangs from `due`. Whatever is removed from
 *    either list is found through its neighbours; only a first entry has none, and it is the head of the one
 *    list or of the other.
 *  - Whatever is added goes after the target tick and at most one turn after the tick being visited. Of the
 *    slots this advance has still to visit, none lies in that range, so no entry is looked at twice.
 */
#include "gateway/base/wheel.h"

#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/xmalloc.h"

struct wheel {
    const struct wheel_ops *ops;
    void *ctx;
    uint64_t target;  /* the tick up to which this or the last advance goes: new entries go behind it */
    uint64_t current; /* the tick being visited; between advances the same as target */
    uint32_t count;
    uint32_t due; /* what is left of the slot being visited */
    uint32_t slot[WHEEL_SLOTS];
};

/* An empty wheel that has seen everything up to now. */
struct wheel *wheel_new(const struct wheel_ops *ops, void *ctx, uint64_t now_ms)
{
    struct wheel *w = xcalloc(1, sizeof *w);
    w->ops = ops;
    w->ctx = ctx;
    w->target = w->current = now_ms / WHEEL_TICK_MS;
    return w;
}

/* The entries' records are the owner's. */
void wheel_free(struct wheel *w) { free(w); }

/* The entry's links. */
static inline struct wheel_link *link_of(const struct wheel *w, uint32_t id)
{
    return w->ops->link(w->ctx, id);
}

/* The slot for a deadline. */
static uint32_t slot_for(const struct wheel *w, uint64_t deadline_ms)
{
    uint64_t tick = deadline_ms / WHEEL_TICK_MS + (deadline_ms % WHEEL_TICK_MS != 0);
    if (tick <= w->target)
        tick = w->target + 1;
    if (tick > w->current + WHEEL_SLOTS)
        tick = w->current + WHEEL_SLOTS;
    return (uint32_t)(tick % WHEEL_SLOTS);
}

/* Puts it first in its slot. */
void wheel_add(struct wheel *w, uint32_t id, uint64_t deadline_ms)
{
    struct wheel_link *l = link_of(w, id);
    CHECK(l->slot_plus_1 == 0);
    uint32_t s = slot_for(w, deadline_ms);
    *l = (struct wheel_link){.next = w->slot[s], .slot_plus_1 = s + 1};
    if (l->next)
        link_of(w, l->next)->prev = id;
    w->slot[s] = id;
    w->count++;
}

/* Unlinks it wherever it is. */
void wheel_remove(struct wheel *w, uint32_t id)
{
    struct wheel_link *l = link_of(w, id);
    if (l->slot_plus_1 == 0)
        return;
    if (l->next)
        link_of(w, l->next)->prev = l->prev;
    if (l->prev)
        link_of(w, l->prev)->next = l->next;
    else if (w->slot[l->slot_plus_1 - 1] == id)
        w->slot[l->slot_plus_1 - 1] = l->next;
    else
        w->due = l->next;
    *l = (struct wheel_link){0};
    w->count--;
}

/* Takes it out, puts it in. */
void wheel_move(struct wheel *w, uint32_t id, uint64_t deadline_ms)
{
    wheel_remove(w, id);
    wheel_add(w, id, deadline_ms);
}

/* Looks at the entries of one slot. An entry that its owner keeps goes back in, unless the owner has put it
 * somewhere itself. */
static unsigned visit_slot(struct wheel *w, uint32_t s, uint64_t now_ms)
{
    unsigned looked = 0;
    w->due = w->slot[s];
    w->slot[s] = 0;
    while (w->due) {
        uint32_t id = w->due;
        wheel_remove(w, id);
        looked++;
        uint64_t deadline_ms = w->ops->look(w->ctx, id, now_ms);
        if (deadline_ms && link_of(w, id)->slot_plus_1 == 0)
            wheel_add(w, id, deadline_ms);
    }
    return looked;
}

/* Visits the slots of the ticks that have begun since the last advance; after a gap of more than a turn,
 * every slot once. */
unsigned wheel_advance(struct wheel *w, uint64_t now_ms)
{
    unsigned looked = 0;
    uint64_t target = now_ms / WHEEL_TICK_MS;
    if (target <= w->target)
        return 0;
    w->target = target;
    if (target - w->current > WHEEL_SLOTS)
        w->current = target - WHEEL_SLOTS;
    while (w->current < target) {
        w->current++;
        looked += visit_slot(w, (uint32_t)(w->current % WHEEL_SLOTS), now_ms);
    }
    return looked;
}

/* Entries in the wheel. */
uint32_t wheel_count(const struct wheel *w) { return w->count; }
