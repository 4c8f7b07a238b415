/*
 * Charts as inline SVG for the HTML report. Colours are the page's CSS classes s0 to s7.
 */
#ifndef HOLDFAST_BENCH_REPORT_CHART_H
#define HOLDFAST_BENCH_REPORT_CHART_H

#include <stdio.h>

#include "gateway/tools/bench/result.h"

/* Text with the characters that HTML reserves replaced. */
void chart_text(FILE *out, const char *text);

/* One horizontal bar per target that has a value of this row, with range and ratio. */
void chart_bars(FILE *out, const struct result *r, size_t row);

/* Memory by layer, one stacked bar per target: rows PREFIX.user and PREFIX.slab.*. Nothing when there are
 * none. */
void chart_memory(FILE *out, const struct result *r, const char *prefix);

/* Latency percentiles, one line per target, logarithmic: rows PREFIX.latency.*. */
void chart_latency(FILE *out, const struct result *r, const char *prefix);

#endif
