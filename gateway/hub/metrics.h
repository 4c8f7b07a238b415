/*
 * The processes' counters, and the engine's figures, as text for Prometheus (exposition format 0.0.4) and as
 * JSON. Counters are read from shared memory; no process is asked.
 */
#ifndef HOLDFAST_HUB_METRICS_H
#define HOLDFAST_HUB_METRICS_H

#include <jansson.h>

#include "gateway/base/process.h"
#include "gateway/engine/engine_store.h"

struct evbuffer;

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

void metrics_write(const struct process_args *args, struct evbuffer *out);
/* {"processes": [...], "totals": {...}, "closed": {...}} */
json_t *metrics_json(const struct process_args *args);

/* What is kept (metrics_log.c). */
void metrics_write_log(const struct engine_stats *s, struct evbuffer *out);
json_t *metrics_json_log(const struct engine_stats *s);

#endif
