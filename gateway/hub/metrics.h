/*
 * The processes' counters as text for Prometheus (exposition format 0.0.4) and as JSON. Read from shared
 * memory; no process is asked.
 */
#ifndef HOLDFAST_HUB_METRICS_H
#define HOLDFAST_HUB_METRICS_H

#include <jansson.h>

#include "gateway/base/process.h"

struct evbuffer;

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

void metrics_write(const struct process_args *args, struct evbuffer *out);
/* {"processes": [...], "totals": {...}, "closed": {...}} */
json_t *metrics_json(const struct process_args *args);

#endif
