/*
 * The report for people: checks, memory by layer, how many fit, verdict; and the sysctl drop-in file.
 */
#include <string.h>

#include "gateway/tools/doctor/cost_model.h"
#include "gateway/tools/doctor/format.h"
#include "gateway/tools/doctor/report.h"

#define TEXT_WIDTH   100
#define TEXT_INDENT  7
#define VALUE_COLUMN 29

/* A number, a word, or the text that stands for it. */
void report_value(char *text, size_t size, const char *own, struct value v)
{
    static const char *const words[] = {
        [VALUE_MISSING] = "missing", [VALUE_MALFORMED] = "malformed", [VALUE_UNLIMITED] = "unlimited"};
    char count[FORMAT_MAX];
    if (own[0] != '\0')
        snprintf(text, size, "%s", own);
    else if (v.state == VALUE_NUMBER && v.n < (uint64_t)1 << 62)
        snprintf(text, size, "%s", format_count(count, v.n));
    else
        snprintf(text, size, "%s", v.state == VALUE_NUMBER ? "unlimited" : words[v.state]);
}

/* Ready or not, and what fits. */
void report_verdict(const struct report *r, char *text, size_t size)
{
    const struct examination *x = r->x;
    char n[FORMAT_MAX], fits[FORMAT_MAX];
    format_count(n, x->request->connections);
    int len = r->to_fix == 0 ? snprintf(text, size, "ready for %s connections", n)
                             : snprintf(text, size, "not ready for %s connections: %u thing%s to fix", n,
                                        r->to_fix, r->to_fix == 1 ? "" : "s");
    if (x->room.known && len > 0 && (size_t)len < size)
        snprintf(text + len, size - (size_t)len, "; memory suffices for %s", format_count(fits, x->fits));
}

/* Writes a text from column `indent` on, broken between words. */
static void write_wrapped(FILE *out, const char *text, unsigned indent)
{
    size_t column = indent, len;
    fprintf(out, "%*s", (int)indent, "");
    for (; *text != '\0'; text += len + (text[len] == ' ')) {
        len = strcspn(text, " ");
        if (column > indent && column + 1 + len > TEXT_WIDTH) {
            fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            fputc(' ', out);
            column++;
        }
        fprintf(out, "%.*s", (int)len, text);
        column += len;
    }
    fputc('\n', out);
}

/* One check: a line with the values, the reason below it, the commands below that. */
static void write_finding(const struct check_row *row, const struct finding *f, FILE *out)
{
    char found[96], wanted[96];
    report_value(found, sizeof found, f->found_text, f->found);
    report_value(wanted, sizeof wanted, f->wanted_text, f->wanted);
    fprintf(out, "%-4s   %-*s %s", finding_status_name(f->status), VALUE_COLUMN - TEXT_INDENT, row->name,
            found);
    if (f->wanted_text[0] != '\0' || value_known(f->wanted))
        fprintf(out, "  (wanted: %s)", wanted);
    fputc('\n', out);
    write_wrapped(out, f->why, TEXT_INDENT);
    if (f->now[0] != '\0')
        fprintf(out, "%*snow:  %s\n", TEXT_INDENT, "", f->now);
    if (f->keep[0] != '\0')
        fprintf(out, "%*skeep: %s\n", TEXT_INDENT, "", f->keep);
}

/* A line of the memory table. */
static void write_cost(FILE *out, const char *name, double each, double bytes, const char *from)
{
    char one[FORMAT_MAX] = "", all[FORMAT_MAX];
    if (each > 0)
        format_tenths(one, each);
    fprintf(out, "  %-26s %10s %11s%s%s\n", name, one, format_bytes(all, bytes), *from != '\0' ? "   " : "",
            from);
}

/* Memory by layer. */
static void write_memory(const struct examination *x, FILE *out)
{
    const struct cost *c = &x->cost;
    char n[FORMAT_MAX];
    fprintf(out, "\nMemory of %s idle connections, %.0f %% of them with TLS, %u worker%s\n",
            format_count(n, x->request->connections), x->request->tls * 100, x->workers,
            x->workers == 1 ? "" : "s");
    fprintf(out, "  %-26s %10s %11s\n", "", "bytes each", "all");
    for (int layer = COST_KERNEL; layer <= COST_FIXED; layer++) {
        for (unsigned i = 0; i < c->lines; i++)
            if (c->line[i].layer == (enum cost_layer)layer)
                write_cost(out, c->line[i].name, c->line[i].per_connection, c->line[i].bytes,
                           c->line[i].from);
        char name[64];
        snprintf(name, sizeof name, "= %s", cost_layer_name((enum cost_layer)layer));
        write_cost(out, name, layer < COST_FIXED ? c->layer_per_connection[layer] : 0, c->layer_bytes[layer],
                   "");
    }
    write_cost(out, "= altogether", c->bytes / (double)x->request->connections, c->bytes, "");
    char unread[FORMAT_MAX];
    fprintf(out,
            "  Not in it: data on its way. One unread or unacknowledged push is a page of socket buffer: %s\n"
            "  when every connection has one, given back as soon as they are read.\n",
            format_bytes(unread, (double)x->request->connections * COST_UNREAD_PAGE));
    if (!x->room.known) {
        fprintf(out, "  How many fit is unknown: this machine does not tell its memory.\n");
        return;
    }
    char fits[FORMAT_MAX], room[FORMAT_MAX], reserve[FORMAT_MAX];
    fprintf(out, "  Fits: %s connections in %s free in the %s, %s of it kept in reserve.\n",
            format_count(fits, x->fits), format_bytes(room, x->room.available),
            x->room.cgroup ? "cgroup" : "machine", format_bytes(reserve, x->room.reserve));
}

/* The whole report. */
void report_text(const struct report *r, FILE *out)
{
    const struct examination *x = r->x;
    char n[FORMAT_MAX], verdict[160];
    fprintf(out, "%s connections on this machine: %u core%s, Linux %s\n\n",
            format_count(n, x->request->connections), x->machine.cores, x->machine.cores == 1 ? "" : "s",
            x->machine.kernel[0] != '\0' ? x->machine.kernel : "(unknown)");
    for (unsigned i = 0; i < r->findings; i++)
        write_finding(&r->rows[i], &r->finding[i], out);
    write_memory(x, out);
    report_verdict(r, verdict, sizeof verdict);
    fprintf(out, "\nVerdict: %s.\n", verdict);
}

/* Only keys that must change. */
void report_sysctl(const struct report *r, FILE *out)
{
    const struct examination *x = r->x;
    char n[FORMAT_MAX];
    unsigned settings = 0;
    fprintf(out, "# /etc/sysctl.d/90-holdfast.conf: what this machine needs for %s connections.\n",
            format_count(n, x->request->connections));
    fprintf(out, "# Made by `holdfast doctor --sysctl`; takes effect with `sysctl --system`.\n");
    for (unsigned i = 0; i < r->findings; i++) {
        if (r->finding[i].status != FINDING_FIX || r->finding[i].sysctl_value[0] == '\0')
            continue;
        fprintf(out, "%s = %s\n", r->rows[i].sysctl, r->finding[i].sysctl_value);
        settings++;
    }
    if (settings == 0)
        fprintf(out, "# Nothing must change.\n");
}
