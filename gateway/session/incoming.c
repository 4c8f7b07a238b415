/*
 * Sets of packet identifiers: sorted, disjoint runs in one block. Fed and asked by the window
 * (handle_publish.c, handle_ack.c), written into the progress. A look is a binary search; a change moves the
 * runs behind it. The set has no bound of its own: who adds to it looks at incoming_runs() first.
 */
#include "gateway/session/incoming.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/xmalloc.h"

#define ROOM_AT_FIRST 4

struct run {
    uint16_t first, last;
    uint8_t state;
};

struct incoming {
    uint32_t count, room;
    uint32_t ids[INCOMING_STATES];
    struct run run[];
};

/* How many runs begin at the identifier or before it. */
static uint32_t runs_upto(const struct incoming *in, uint16_t packet_id)
{
    uint32_t low = 0, high = in ? in->count : 0;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (in->run[middle].first <= packet_id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

enum incoming_state incoming_find(const struct incoming *in, uint16_t packet_id)
{
    uint32_t n = runs_upto(in, packet_id);
    return n && packet_id <= in->run[n - 1].last ? (enum incoming_state)in->run[n - 1].state : INCOMING_NONE;
}

/* Makes a place for a run. */
static void insert(struct incoming **at, uint32_t place, struct run r)
{
    struct incoming *in = *at;
    if (!in || in->count == in->room) {
        uint32_t room = in ? in->room * 2 : ROOM_AT_FIRST;
        size_t size = sizeof *in + room * sizeof r;
        in = in ? xrealloc(in, size) : xcalloc(1, size);
        in->room = room;
        *at = in;
    }
    memmove(&in->run[place + 1], &in->run[place], (in->count - place) * sizeof r);
    in->run[place] = r;
    in->count++;
}

/* Takes a run out. */
static void drop(struct incoming *in, uint32_t place)
{
    in->count--;
    memmove(&in->run[place], &in->run[place + 1], (in->count - place) * sizeof in->run[0]);
}

/* Adds one that is not there: to the run before it, to the one behind it, between them, or alone. */
static void add(struct incoming **at, uint16_t packet_id, enum incoming_state state)
{
    uint32_t n = runs_upto(*at, packet_id);
    struct run *before = n ? &(*at)->run[n - 1] : NULL;
    struct run *behind = *at && n < (*at)->count ? &(*at)->run[n] : NULL;
    if (before && (before->last + 1 != packet_id || before->state != state))
        before = NULL;
    if (behind && (behind->first != packet_id + 1 || behind->state != state))
        behind = NULL;
    if (before && behind) {
        before->last = behind->last;
        drop(*at, n);
    } else if (before) {
        before->last = packet_id;
    } else if (behind) {
        behind->first = packet_id;
    } else {
        insert(at, n, (struct run){.first = packet_id, .last = packet_id, .state = (uint8_t)state});
    }
    (*at)->ids[state]++;
}

void incoming_remove(struct incoming **at, uint16_t packet_id)
{
    if (incoming_find(*at, packet_id) == INCOMING_NONE)
        return;
    uint32_t place = runs_upto(*at, packet_id) - 1;
    struct run *r = &(*at)->run[place], behind = *r;
    behind.first = (uint16_t)(packet_id + 1);
    (*at)->ids[r->state]--;
    if (r->first == r->last) {
        drop(*at, place);
    } else if (packet_id == r->first) {
        r->first++;
    } else {
        r->last = (uint16_t)(packet_id - 1);
        if (packet_id != behind.last)
            insert(at, place + 1, behind);
    }
    if (!(*at)->count)
        incoming_free(at);
}

void incoming_set(struct incoming **at, uint16_t packet_id, enum incoming_state state)
{
    CHECK(state < INCOMING_STATES);
    incoming_remove(at, packet_id);
    add(at, packet_id, state);
}

void incoming_free(struct incoming **at)
{
    free(*at);
    *at = NULL;
}

uint32_t incoming_count(const struct incoming *in, enum incoming_state state)
{
    return in ? in->ids[state] : 0;
}

uint32_t incoming_runs(const struct incoming *in) { return in ? in->count : 0; }

uint16_t incoming_encode(const struct incoming *in, bool with_asked, uint16_t *out)
{
    uint16_t n = 0;
    for (uint32_t i = 0; i < incoming_runs(in);) {
        struct run r = in->run[i++];
        if (r.state == INCOMING_ASKED && !with_asked)
            continue;
        while (i < in->count && in->run[i].first == r.last + 1 &&
               (in->run[i].state != INCOMING_ASKED || with_asked))
            r.last = in->run[i++].last;
        out[n++] = r.first;
        if (r.last - r.first > 1)
            out[n++] = 0;
        if (r.last != r.first)
            out[n++] = r.last;
    }
    return n;
}

bool incoming_decode(struct incoming **at, const uint16_t *from, uint16_t count)
{
    for (unsigned i = 0; i < count;) {
        uint16_t first = from[i++], last = first;
        if (i + 1 < count && from[i] == 0) {
            last = from[i + 1];
            i += 2;
        }
        if (!first || last < first)
            return false;
        for (unsigned id = first; id <= last; id++)
            incoming_set(at, (uint16_t)id, INCOMING_RESTORED);
    }
    return true;
}
