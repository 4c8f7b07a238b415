/*
 * The report for programs: machine, command, and per scenario its options and every value of every target and
 * repetition, with median, range and ratio.
 */
#include <jansson.h>
#include <math.h>

#include "gateway/tools/bench/report.h"

/* JSON has no NAN. */
static json_t *number(double v) { return isnan(v) ? json_null() : json_real(v); }

static json_t *machine_json(void)
{
    struct report_machine m;
    report_machine(&m);
    return json_pack("{s:s, s:s, s:i, s:I, s:s}", "kernel", m.kernel, "cpu", m.cpu, "cpus", (int)m.cpus,
                     "memory_mib", (json_int_t)m.memory_mib, "date", m.date);
}

static json_t *options_json(const struct scenario *s)
{
    json_t *o = json_object();
    const char *name;
    char text[256];
    for (size_t i = 0; scenario_option(s, i, &name, text, sizeof text); i++)
        json_object_set_new(o, name, json_string(text));
    return o;
}

/* One metric of one target. */
static json_t *metric_json(const struct result *r, size_t row, size_t target)
{
    struct result_summary s = result_summarize(r, row, target);
    json_t *values = json_array();
    for (size_t i = 0; i < r->repetitions; i++)
        json_array_append_new(values, number(r->row[row].value[target * r->repetitions + i]));
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:s}", "median", number(s.median), "min",
                     number(s.min), "max", number(s.max), "ratio", number(s.ratio), "ratio_tls",
                     number(s.ratio_tls), "values", values, "unit", r->row[row].unit, "label",
                     r->row[row].label);
}

static json_t *figures_json(const struct result *r, size_t target)
{
    static const char *const verdict[] = {"met", "not met", "unknown"};
    json_t *list = json_array();
    for (size_t i = 0; i < r->scenario->figures; i++) {
        char words[160];
        const struct scenario_figure *f = &r->scenario->figure[i];
        if (!result_concerns(r, f, target))
            continue;
        enum figure_verdict v = result_judge(r, f, target, words, sizeof words);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "title", f->title, "metric", f->metric,
                                              "verdict", verdict[v], "words", words));
    }
    return list;
}

static json_t *result_json(const struct result *r)
{
    json_t *targets = json_array(), *notes = json_array();
    for (size_t t = 0; t < r->targets; t++) {
        json_t *metrics = json_object();
        for (size_t i = 0; i < r->rows; i++)
            json_object_set_new(metrics, r->row[i].key, metric_json(r, i, t));
        json_t *target = json_pack("{s:s, s:o}", "name", r->target[t], "metrics", metrics);
        if (!result_is_floor(r, t))
            json_object_set_new(target, "figures", figures_json(r, t));
        json_array_append_new(targets, target);
    }
    for (size_t i = 0; i < r->notes; i++)
        json_array_append_new(notes, json_string(r->note[i]));
    return json_pack("{s:s, s:s, s:o, s:o, s:o}", "name", r->scenario->name, "title", r->scenario->title,
                     "options", options_json(r->scenario), "targets", targets, "notes", notes);
}

bool report_json(const char *path, const struct report *r)
{
    json_t *scenarios = json_array(), *targets = json_array();
    for (size_t i = 0; i < r->results; i++)
        json_array_append_new(scenarios, result_json(r->result[i]));
    for (size_t i = 0; i < r->targets; i++)
        json_array_append_new(targets, json_pack("{s:s, s:s*}", "name", r->target[i]->name, "spec",
                                                 r->own_command ? NULL : r->target[i]->spec));
    json_t *all = json_pack("{s:o, s:s, s:o, s:o}", "machine", machine_json(), "command", r->command,
                            "targets", targets, "scenarios", scenarios);
    bool ok = json_dump_file(all, path, JSON_INDENT(2) | JSON_REAL_PRECISION(10)) == 0;
    json_decref(all);
    if (!ok)
        perror(path);
    return ok;
}
