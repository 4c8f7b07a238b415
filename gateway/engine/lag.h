/*
 * How far a stored session lies behind: how many messages it has to come, and how old the first one is. For
 * people who look at one session; reads the log, so it costs what reading them costs.
 */
#ifndef HOLDFAST_ENGINE_LAG_H
#define HOLDFAST_ENGINE_LAG_H

#include "gateway/base/config.h"
#include "gateway/engine/engine.h"

/* What a session's messages match. All zero: none yet. */
struct lag_filters {
    struct engine_filter *item; /* their texts are copies */
    size_t count, room;
};

struct lag {
    unsigned messages;
    bool more;          /* it stopped counting there */
    uint64_t oldest_ms; /* when the first one was appended; 0: there is none */
};

/* Adds the filters of a session: its subscriptions with QoS 1 and 2, but not shared ones, whose messages
 * somebody else may get; and the channels that every client hears. */
void lag_filters_add(struct lag_filters *f, const struct engine_session_view *v, const struct config *c);
void lag_filters_free(struct lag_filters *f);

/* Counts up to `most` messages after the cursor, in at most `steps` steps of a scan. */
struct lag lag_count(const struct engine_ops *ops, struct engine_reader *r, const struct lag_filters *f,
                     uint64_t cursor, engine_match_fn match, unsigned most, unsigned steps);

#endif
