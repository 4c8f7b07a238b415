/*
 * The report on the terminal: a table per scenario, a row per metric, a column per target: median, range when
 * it was repeated, ratio to the floor and to the TLS floor. Then figures with what was wanted and whether it
 * was met.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>

#include "gateway/tools/bench/report.h"

#define LABEL_WIDTH 50

void report_machine(struct report_machine *m)
{
    struct utsname u;
    struct sysinfo s;
    char line[256];
    time_t now = time(NULL);
    memset(m, 0, sizeof *m);
    uname(&u);
    sysinfo(&s);
    snprintf(m->kernel, sizeof m->kernel, "%.40s %.60s", u.sysname, u.release);
    m->cpus = (unsigned)get_nprocs();
    m->memory_mib = (unsigned long long)s.totalram * s.mem_unit >> 20;
    strftime(m->date, sizeof m->date, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && !m->cpu[0] && fgets(line, sizeof line, f))
        sscanf(line, "model name : %127[^\n]", m->cpu);
    if (f)
        fclose(f);
}

/* Groups of three digits. */
static void grouped(char *out, size_t cap, double value)
{
    char digits[40];
    int n = snprintf(digits, sizeof digits, "%.0f", fabs(value));
    size_t at = 0;
    if (value <= -0.5 && at + 1 < cap)
        out[at++] = '-';
    for (int i = 0; i < n && at + 2 < cap; i++) {
        out[at++] = digits[i];
        if (i + 1 < n && (n - i - 1) % 3 == 0)
            out[at++] = ',';
    }
    out[at] = 0;
}

void report_number(char *out, size_t cap, double value, const char *unit)
{
    if (strcmp(unit, "us") == 0 && fabs(value) < 100)
        snprintf(out, cap, "%.2f", value);
    else if (strcmp(unit, "x") == 0)
        snprintf(out, cap, "%.3f", value);
    else if (strcmp(unit, "MiB") == 0 || strcmp(unit, "s") == 0)
        snprintf(out, cap, "%.1f", value);
    else
        grouped(out, cap, value);
}

/* Median, range and ratio of one cell. */
static void cell(char *out, size_t cap, const struct result *r, size_t row, size_t target)
{
    struct result_summary s = result_summarize(r, row, target);
    const char *unit = r->row[row].unit;
    char median[40], low[40], high[40], range[90] = "", ratio[24] = "", tls[24] = "";
    if (s.count == 0) {
        snprintf(out, cap, "-");
        return;
    }
    report_number(median, sizeof median, s.median, unit);
    report_number(low, sizeof low, s.min, unit);
    report_number(high, sizeof high, s.max, unit);
    if (s.count > 1 && strcmp(low, high) != 0)
        snprintf(range, sizeof range, " (%s..%s)", low, high);
    if (!isnan(s.ratio) && target != result_floor(r))
        snprintf(ratio, sizeof ratio, "  %.2fx", s.ratio);
    if (!isnan(s.ratio_tls))
        snprintf(tls, sizeof tls, "  %.2ft", s.ratio_tls);
    snprintf(out, cap, "%s%s%s%s", median, range, ratio, tls);
}

/* The widest cell of a target's column. */
static int column_width(const struct result *r, size_t target)
{
    size_t width = strlen(r->target[target]);
    for (size_t i = 0; i < r->rows; i++) {
        char text[160];
        cell(text, sizeof text, r, i, target);
        width = strlen(text) > width ? strlen(text) : width;
    }
    return (int)width;
}

/* Whether a row has nothing to say. */
static bool is_silent(const struct result *r, size_t row)
{
    if (!(r->row[row].flags & RESULT_QUIET))
        return false;
    for (size_t i = 0; i < r->targets * r->repetitions; i++)
        if (!isnan(r->row[row].value[i]) && r->row[row].value[i] != 0)
            return false;
    return true;
}

static void print_table(FILE *out, const struct result *r)
{
    int width[16];
    size_t targets = r->targets < 16 ? r->targets : 16;
    fprintf(out, "\n%s: %s\n%ld clients, MQTT %s, %zu repetition%s\n\n", r->scenario->name,
            r->scenario->title, r->scenario->connections, r->scenario->version == 5 ? "5.0" : "3.1.1",
            r->repetitions, r->repetitions == 1 ? "" : "s");
    fprintf(out, "%-*s %5s", LABEL_WIDTH, "", "");
    for (size_t t = 0; t < targets; t++) {
        width[t] = column_width(r, t);
        fprintf(out, "   %*s", width[t], r->target[t]);
    }
    putc('\n', out);
    for (size_t i = 0; i < r->rows; i++) {
        if (is_silent(r, i))
            continue;
        fprintf(out, "%-*s %5s", LABEL_WIDTH, r->row[i].label, r->row[i].unit);
        for (size_t t = 0; t < targets; t++) {
            char text[160];
            cell(text, sizeof text, r, i, t);
            fprintf(out, "   %*s", width[t], text);
        }
        putc('\n', out);
    }
    if (result_has_tls_floor(r))
        fprintf(out, "x: times the floor; t: times the TLS floor of the same version and kind of key\n");
    for (size_t i = 0; i < r->notes; i++)
        fprintf(out, "note: %s\n", r->note[i]);
}

/* Judges all figures of one scenario for every target that they are for. */
static unsigned print_figures(FILE *out, const struct result *r)
{
    static const char *const verdict[] = {"met", "NOT MET", "unknown"};
    unsigned not_met = 0;
    for (size_t t = 0; t < r->targets; t++) {
        for (size_t i = 0; i < r->scenario->figures; i++) {
            char words[160];
            if (!result_concerns(r, &r->scenario->figure[i], t))
                continue;
            enum figure_verdict v = result_judge(r, &r->scenario->figure[i], t, words, sizeof words);
            not_met += v != FIGURE_MET;
            fprintf(out, "%-8s %s, %s: %s\n", verdict[v], r->target[t], r->scenario->figure[i].title, words);
        }
    }
    return not_met;
}

unsigned report_text(FILE *out, const struct report *r)
{
    struct report_machine m;
    unsigned not_met = 0, figures = 0;
    report_machine(&m);
    fprintf(out, "%s, %u processors (%s), %llu MiB, %s\n", m.kernel, m.cpus, m.cpu, m.memory_mib, m.date);
    for (size_t i = 0; i < r->results; i++) {
        print_table(out, r->result[i]);
        figures += (unsigned)r->result[i]->scenario->figures;
    }
    if (figures)
        fprintf(out, "\nfigures\n");
    for (size_t i = 0; i < r->results; i++)
        not_met += print_figures(out, r->result[i]);
    return not_met;
}
