/*
 * The report as one self-contained page: what was measured on what, the figures, and per scenario its charts,
 * options and the whole table. No script, nothing fetched.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "gateway/tools/bench/report.h"
#include "gateway/tools/bench/report_chart.h"

static const char style[] =
    ":root{--fg:#1b1f24;--bg:#fff;--dim:#667;--line:#d8dde3;--ok:#17803d;--bad:#b3261e;"
    "--c0:#8c96a3;--c1:#1f6feb;--c2:#d9730d;--c3:#2da44e;--c4:#8250df;--c5:#bf3989;--c6:#0a7f8c;--c7:#9a6700}"
    "\n"
    "@media(prefers-color-scheme:dark){:root{--fg:#e6e9ed;--bg:#14171b;--dim:#98a2ae;--line:#333a42;--ok:#"
    "4ac26b;"
    "--bad:#ff7b72}}\n"
    "body{font:15px/1.45 system-ui,sans-serif;color:var(--fg);background:var(--bg);max-width:60em;margin:2em "
    "auto;"
    "padding:0 1em}\n"
    "h1{font-size:1.5em}h2{font-size:1.2em;margin-top:2.2em;border-top:1px solid "
    "var(--line);padding-top:1em}\n"
    "table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums;margin:1em 0}\n"
    "td,th{padding:2px 10px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}\n"
    "td:first-child,th:first-child{text-align:left;white-space:normal}\n"
    "figure{margin:1.2em 0 .3em}figcaption{font-weight:600;margin-bottom:.3em}svg{width:100%;height:auto}\n"
    "svg text{font-size:12px;fill:var(--fg)}polyline{fill:none;stroke-width:2}\n"
    ".dim,.note{color:var(--dim)}code{font-size:13px}.met{color:var(--ok)}.not{color:var(--bad);font-weight:"
    "600}\n"
    ".legend{font-size:12px}.legend span{margin-right:1em;white-space:nowrap}\n"
    ".legend i{display:inline-block;width:.8em;height:.8em;margin-right:.3em}.faint{opacity:.45}\n";

/* One class per series: fill, line, legend. */
static void print_colours(FILE *out)
{
    for (int i = 0; i < 8; i++)
        fprintf(out, ".s%d{fill:var(--c%d)}.l%d{stroke:var(--c%d)}.b%d{background:var(--c%d)}\n", i, i, i, i,
                i, i);
}

static void print_head(FILE *out, const struct report *r)
{
    struct report_machine m;
    report_machine(&m);
    fprintf(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width\"><title>holdfast-bench</title>\n<style>\n%s",
        style);
    print_colours(out);
    fputs("</style></head><body>\n<h1>holdfast-bench</h1>\n<p>", out);
    chart_text(out, m.kernel);
    fprintf(out, ", %u processors (", m.cpus);
    chart_text(out, m.cpu);
    fprintf(out, "), %llu MiB, %s</p>\n<p class=\"dim\"><code>", m.memory_mib, m.date);
    chart_text(out, r->command);
    fputs("</code></p>\n", out);
}

/* The figures of all scenarios. */
static void print_figures(FILE *out, const struct report *r)
{
    static const char *const verdict[] = {"<td class=\"met\">met", "<td class=\"not\">not met",
                                          "<td class=\"not\">unknown"};
    bool any = false;
    for (size_t i = 0; i < r->results; i++) {
        const struct result *s = r->result[i];
        for (size_t t = 0; t < s->targets; t++) {
            for (size_t k = 0; k < s->scenario->figures; k++) {
                char words[160];
                if (!result_concerns(s, &s->scenario->figure[k], t))
                    continue;
                enum figure_verdict v = result_judge(s, &s->scenario->figure[k], t, words, sizeof words);
                fputs(any ? "<tr><td>" : "<h2>Figures</h2>\n<table><tr><td>", out);
                any = true;
                chart_text(out, s->scenario->figure[k].title);
                fputs("<td>", out);
                chart_text(out, s->target[t]);
                fputs("<td>", out);
                chart_text(out, words);
                fprintf(out, "%s</tr>\n", verdict[v]);
            }
        }
    }
    fputs(any ? "</table>\n" : "", out);
}

/* The prefix of every group of latency rows, each once. */
static void print_latencies(FILE *out, const struct result *r)
{
    for (size_t i = 0; i < r->rows; i++) {
        const char *at = strstr(r->row[i].key, ".latency.p50");
        char prefix[96];
        if (!at)
            continue;
        snprintf(prefix, sizeof prefix, "%.*s", (int)(at - r->row[i].key), r->row[i].key);
        chart_latency(out, r, prefix);
    }
}

static void print_cell(FILE *out, const struct result *r, size_t row, size_t target)
{
    struct result_summary s = result_summarize(r, row, target);
    char text[40];
    fputs("<td>", out);
    if (!s.count)
        return;
    report_number(text, sizeof text, s.median, r->row[row].unit);
    fputs(text, out);
    if (s.count > 1 && s.max > s.min) {
        report_number(text, sizeof text, s.min, r->row[row].unit);
        fprintf(out, " <span class=\"dim\">(%s..", text);
        report_number(text, sizeof text, s.max, r->row[row].unit);
        fprintf(out, "%s)</span>", text);
    }
    if (!isnan(s.ratio) && target != result_floor(r))
        fprintf(out, " <b>%.2f x</b>", s.ratio);
    if (!isnan(s.ratio_tls))
        fprintf(out, " <b>%.2f t</b>", s.ratio_tls);
}

static void print_table(FILE *out, const struct result *r)
{
    fputs("<table><tr><th><th>", out);
    for (size_t t = 0; t < r->targets; t++) {
        fputs("<th>", out);
        chart_text(out, r->target[t]);
    }
    fputs("</tr>\n", out);
    for (size_t i = 0; i < r->rows; i++) {
        fputs("<tr><td>", out);
        chart_text(out, r->row[i].label);
        fprintf(out, "<td>%s", r->row[i].unit);
        for (size_t t = 0; t < r->targets; t++)
            print_cell(out, r, i, t);
        fputs("</tr>\n", out);
    }
    fputs("</table>\n", out);
    if (result_has_tls_floor(r))
        fputs("<p class=\"note\">x: times the floor; t: times the TLS floor of the same version and kind of "
              "key.</p>\n",
              out);
}

static void print_scenario(FILE *out, const struct result *r)
{
    const char *name;
    char text[256];
    fputs("<h2>", out);
    chart_text(out, r->scenario->title[0] ? r->scenario->title : r->scenario->name);
    fprintf(out, "</h2>\n<p>%ld clients, MQTT %s, %zu repetition%s.</p>\n", r->scenario->connections,
            r->scenario->version == 5 ? "5.0" : "3.1.1", r->repetitions, r->repetitions == 1 ? "" : "s");
    chart_memory(out, r, "idle");
    chart_memory(out, r, "later");
    for (size_t i = 0; i < r->rows; i++)
        if (r->row[i].flags & RESULT_RATIO)
            chart_bars(out, r, i);
    print_latencies(out, r);
    print_table(out, r);
    for (size_t i = 0; i < r->notes; i++) {
        fputs("<p class=\"note\">", out);
        chart_text(out, r->note[i]);
        fputs("</p>\n", out);
    }
    fputs("<p class=\"dim\">", out);
    for (size_t i = 0; scenario_option(r->scenario, i, &name, text, sizeof text); i++) {
        fprintf(out, "%s%s = ", i ? ", " : "", name);
        chart_text(out, text);
    }
    fputs("</p>\n", out);
}

bool report_html(const char *path, const struct report *r)
{
    FILE *out = fopen(path, "we");
    if (!out) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return false;
    }
    print_head(out, r);
    print_figures(out, r);
    for (size_t i = 0; i < r->results; i++)
        print_scenario(out, r->result[i]);
    fputs("</body></html>\n", out);
    bool ok = fclose(out) == 0;
    if (!ok)
        perror(path);
    return ok;
}
