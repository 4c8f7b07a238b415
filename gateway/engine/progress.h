/*
 * A session's progress (struct engine_progress) as bytes, for the way from a worker to the hub: cursor 8,
 * outgoing 2, incoming 2; per outgoing: number 8, packet id 2, state and QoS 1 (state + 16 x QoS); per
 * incoming: packet id 2; then until the end, per subscription that is owed retained messages: number 8,
 * length of the filter 2, of the topic 2, those. Native byte order.
 */
#ifndef HOLDFAST_ENGINE_PROGRESS_H
#define HOLDFAST_ENGINE_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/engine/engine_store.h"

size_t progress_size(const struct engine_progress *p);
/* Of it, of one subscription that is owed something. */
size_t progress_owed_size(const struct engine_owed *o);
/* Writes progress_size(p) bytes. */
void progress_encode(const struct engine_progress *p, void *out);

struct progress_buffer;
/* NULL if the bytes are not what progress_encode() writes; else to be freed with progress_free(). */
struct progress_buffer *progress_decode(const void *data, size_t len);
const struct engine_progress *progress_of(const struct progress_buffer *b);
void progress_free(struct progress_buffer *b);

#endif
