/*
 * A session's progress (struct engine_progress) as bytes, for the way from a worker to the hub: cursor 8,
 * outgoing 2, incoming 2; per outgoing: number 8, packet id 2, state and QoS 1 (state + 16 x QoS); per
 * incoming: packet id 2. Native byte order.
 */
#ifndef HOLDFAST_ENGINE_PROGRESS_H
#define HOLDFAST_ENGINE_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/engine/engine_store.h"

size_t progress_size(const struct engine_progress *p);
/* Writes progress_size(p) bytes. */
void progress_encode(const struct engine_progress *p, void *out);

struct progress_buffer;
/* NULL if the bytes are not what progress_encode() writes; else to be freed with progress_free(). */
struct progress_buffer *progress_decode(const void *data, size_t len);
const struct engine_progress *progress_of(const struct progress_buffer *b);
void progress_free(struct progress_buffer *b);

#endif
