/*
 * Three kinds of charts: bars, stacked bars, percentile lines. Plain SVG without scripts, sized by its view
 * box, so that the page can be mailed or printed. Numbers stand at the marks; there are no axes to be read
 * off.
 */
#include "gateway/tools/bench/report_chart.h"

#include <math.h>
#include <string.h>

#include "gateway/tools/bench/report.h"

#define WIDTH     760
#define LEFT      140
#define WORDS     390 /* behind a bar */
#define BAR       20
#define BAR_STEP  28
#define SERIES    8
#define MAX_PARTS 24

void chart_text(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '<')
            fputs("&lt;", out);
        else if (*text == '>')
            fputs("&gt;", out);
        else if (*text == '&')
            fputs("&amp;", out);
        else if (*text == '"')
            fputs("&quot;", out);
        else
            putc(*text, out);
    }
}

static void svg_begin(FILE *out, int height, const char *title)
{
    fputs("<figure><figcaption>", out);
    chart_text(out, title);
    fprintf(out, "</figcaption>\n<svg viewBox=\"0 0 %d %d\" role=\"img\">\n", WIDTH, height);
}

static void svg_end(FILE *out) { fputs("</svg></figure>\n", out); }

static void svg_label(FILE *out, double x, double y, const char *anchor, const char *text)
{
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    chart_text(out, text);
    fputs("</text>\n", out);
}

/* "12.34 us (12.1 to 12.6), 1.05 x floor, 0.71 x floor-tls" */
static void describe(char *out, size_t cap, const struct result *r, size_t row, size_t target)
{
    struct result_summary s = result_summarize(r, row, target);
    const char *unit = r->row[row].unit;
    char median[40], low[40], high[40], range[96] = "", ratio[40] = "", tls[48] = "";
    report_number(median, sizeof median, s.median, unit);
    report_number(low, sizeof low, s.min, unit);
    report_number(high, sizeof high, s.max, unit);
    if (s.count > 1 && strcmp(low, high) != 0)
        snprintf(range, sizeof range, " (%s to %s)", low, high);
    if (!isnan(s.ratio) && target != result_floor(r))
        snprintf(ratio, sizeof ratio, ", %.2f x floor", s.ratio);
    if (!isnan(s.ratio_tls))
        snprintf(tls, sizeof tls, ", %.2f x %.20s", s.ratio_tls, r->target[r->tls_floor[target]]);
    snprintf(out, cap, "%s%s%s%s%s%s", median, *unit ? " " : "", unit, range, ratio, tls);
}

void chart_bars(FILE *out, const struct result *r, size_t row)
{
    double top = 0;
    for (size_t t = 0; t < r->targets; t++)
        top = fmax(top, result_summarize(r, row, t).median);
    if (!(top > 0))
        return;
    svg_begin(out, (int)r->targets * BAR_STEP + 4, r->row[row].label);
    for (size_t t = 0; t < r->targets; t++) {
        char text[320];
        struct result_summary s = result_summarize(r, row, t);
        double y = (double)t * BAR_STEP + 2, w = s.count ? s.median / top * (WIDTH - LEFT - WORDS) : 0;
        svg_label(out, LEFT - 8, y + 15, "end", r->target[t]);
        if (!s.count)
            continue;
        fprintf(out, "<rect class=\"s%zu\" x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>\n",
                t % SERIES, LEFT, y, fmax(w, 1), BAR);
        describe(text, sizeof text, r, row, t);
        svg_label(out, LEFT + fmax(w, 1) + 6, y + 15, "start", text);
    }
    svg_end(out);
}

/* A layer of memory: what it is called and its row. */
struct part {
    const char *name;
    size_t row;
};

/* The rows that make up a memory chart. */
static size_t memory_parts(const struct result *r, const char *prefix, struct part *part)
{
    char user[64], slab[64];
    size_t n = 0;
    snprintf(user, sizeof user, "%s.user", prefix);
    snprintf(slab, sizeof slab, "%s.slab.", prefix);
    for (size_t i = 0; i < r->rows && n < MAX_PARTS; i++) {
        if (strcmp(r->row[i].key, user) == 0)
            part[n++] = (struct part){"user space", i};
        else if (strncmp(r->row[i].key, slab, strlen(slab)) == 0)
            part[n++] = (struct part){r->row[i].key + strlen(slab), i};
    }
    return n;
}

/* What one part of one target takes, nothing when it was not measured. */
static double part_bytes(const struct result *r, const struct part *p, size_t target)
{
    struct result_summary s = result_summarize(r, p->row, target);
    return s.count && s.median > 0 ? s.median : 0;
}

static double parts_sum(const struct result *r, const struct part *part, size_t n, size_t target)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += part_bytes(r, &part[i], target);
    return sum;
}

/* One target's stacked bar. */
static void stacked_bar(FILE *out, const struct result *r, const struct part *part, size_t n, size_t target,
                        double scale)
{
    double x = LEFT, y = (double)target * BAR_STEP + 2;
    char text[64], number[40];
    svg_label(out, LEFT - 8, y + 15, "end", r->target[target]);
    for (size_t i = 0; i < n; i++) {
        double bytes = part_bytes(r, &part[i], target), w = bytes * scale;
        fprintf(out, "<rect class=\"s%zu%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\"><title>",
                i % SERIES, i >= SERIES ? " faint" : "", x, y, w, BAR);
        chart_text(out, part[i].name);
        fprintf(out, ": %.0f bytes</title></rect>\n", bytes);
        x += w;
    }
    report_number(number, sizeof number, parts_sum(r, part, n, target), "bytes");
    snprintf(text, sizeof text, "%s bytes", number);
    svg_label(out, x + 6, y + 15, "start", text);
}

/* Name and colour of each part, with the first target's bytes left out: they stand in the table. */
static void legend(FILE *out, const struct part *part, size_t n)
{
    fputs("<p class=\"legend\">", out);
    for (size_t i = 0; i < n; i++) {
        fprintf(out, "<span><i class=\"b%zu%s\"></i>", i % SERIES, i >= SERIES ? " faint" : "");
        chart_text(out, part[i].name);
        fputs("</span> ", out);
    }
    fputs("</p>\n", out);
}

void chart_memory(FILE *out, const struct result *r, const char *prefix)
{
    struct part part[MAX_PARTS];
    char title[128];
    size_t n = memory_parts(r, prefix, part);
    double top = 0;
    for (size_t t = 0; t < r->targets; t++)
        top = fmax(top, parts_sum(r, part, n, t));
    if (!(top > 0))
        return;
    snprintf(title, sizeof title, "memory per connection by layer, server side, %s",
             strcmp(prefix, "idle") == 0 ? "idle" : "after traffic");
    svg_begin(out, (int)r->targets * BAR_STEP + 4, title);
    for (size_t t = 0; t < r->targets; t++)
        stacked_bar(out, r, part, n, t, (WIDTH - LEFT - 110) / top);
    svg_end(out);
    legend(out, part, n);
}

static const char *const percentiles[] = {"p50", "p90", "p99", "p99.9", "max"};
#define PERCENTILES (sizeof percentiles / sizeof percentiles[0])

/* Median of a percentile in microseconds; NAN when there is none. */
static double latency_of(const struct result *r, const char *prefix, size_t percentile, size_t target)
{
    char key[128];
    size_t row;
    snprintf(key, sizeof key, "%s.latency.%s", prefix, percentiles[percentile]);
    return result_find(r, key, &row) ? result_summarize(r, row, target).median : NAN;
}

/* Microseconds as people say them. */
static void say_time(char *out, size_t cap, double us)
{
    if (us < 1000)
        snprintf(out, cap, "%.0f us", us);
    else if (us < 1e6)
        snprintf(out, cap, "%.3g ms", us / 1e3);
    else
        snprintf(out, cap, "%.3g s", us / 1e6);
}

/* One target's line, with its values at the points. */
static void latency_line(FILE *out, const struct result *r, const char *prefix, size_t target, double low,
                         double high)
{
    char text[32];
    double step = (double)(WIDTH - LEFT - 60) / (PERCENTILES - 1);
    fprintf(out, "<polyline class=\"l%zu\" points=\"", target % SERIES);
    for (size_t i = 0; i < PERCENTILES; i++) {
        double us = latency_of(r, prefix, i, target);
        if (!isnan(us))
            fprintf(out, "%.1f,%.1f ", LEFT + (double)i * step, 170 - 150 * log(us / low) / log(high / low));
    }
    fputs("\"/>\n", out);
    for (size_t i = 0; i < PERCENTILES; i++) {
        double us = latency_of(r, prefix, i, target);
        if (isnan(us))
            continue;
        say_time(text, sizeof text, us);
        double y = 170 - 150 * log(us / low) / log(high / low);
        fprintf(out, "<circle class=\"s%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>\n", target % SERIES,
                LEFT + (double)i * step, y);
        svg_label(out, LEFT + (double)i * step, y + (target % 2 ? 16 : -7), "middle", text);
    }
    svg_label(out, 4, 20 + (double)target * 18, "start", r->target[target]);
    fprintf(out, "<circle class=\"s%zu\" cx=\"%d\" cy=\"%.1f\" r=\"4\"/>\n", target % SERIES, LEFT - 30,
            16 + (double)target * 18);
}

void chart_latency(FILE *out, const struct result *r, const char *prefix)
{
    double low = INFINITY, high = 0;
    char title[128];
    for (size_t t = 0; t < r->targets; t++) {
        for (size_t i = 0; i < PERCENTILES; i++) {
            double us = latency_of(r, prefix, i, t);
            low = !isnan(us) && us > 0 ? fmin(low, us) : low;
            high = !isnan(us) ? fmax(high, us) : high;
        }
    }
    if (!(high > low))
        return;
    snprintf(title, sizeof title, "latency, logarithmic (%s)", prefix);
    svg_begin(out, 215, title);
    for (size_t i = 0; i < PERCENTILES; i++)
        svg_label(out, LEFT + (double)i * (WIDTH - LEFT - 60) / (PERCENTILES - 1), 208, "middle",
                  percentiles[i]);
    for (size_t t = 0; t < r->targets; t++)
        latency_line(out, r, prefix, t, low, high);
    svg_end(out);
}
