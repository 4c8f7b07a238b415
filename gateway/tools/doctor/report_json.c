/*
 * The report for machines: one JSON object. Numbers stay numbers; what has no number is null or a string.
 */
#include <jansson.h>

#include "gateway/base/check.h"
#include "gateway/tools/doctor/report.h"

/* A number; "unlimited"; null where there is none; or the text that stands for it. */
static json_t *value_json(const char *own, struct value v)
{
    if (own[0] != '\0')
        return json_string(own);
    if (v.state == VALUE_UNLIMITED || (v.state == VALUE_NUMBER && v.n > INT64_MAX))
        return json_string("unlimited");
    return v.state == VALUE_NUMBER ? json_integer((json_int_t)v.n) : json_null();
}

/* A string, or null for an empty one. */
static json_t *text_json(const char *text) { return text[0] != '\0' ? json_string(text) : json_null(); }

static json_t *bytes_json(double bytes) { return json_integer((json_int_t)(bytes + 0.5)); }

static json_t *check_json(const struct check_row *row, const struct finding *f)
{
    json_t *o =
        json_pack("{s:s, s:s, s:s, s:o, s:o, s:s, s:o, s:o}", "name", row->name, "status",
                  finding_status_name(f->status), "source", row->source, "found",
                  value_json(f->found_text, f->found), "wanted", value_json(f->wanted_text, f->wanted), "why",
                  f->why, "now", text_json(f->now), "keep", text_json(f->keep));
    CHECK(o != NULL);
    if (f->status == FINDING_FIX && f->sysctl_value[0] != '\0')
        json_object_set_new(o, "sysctl",
                            json_pack("{s:s, s:s}", "key", row->sysctl, "value", f->sysctl_value));
    return o;
}

static json_t *checks_json(const struct report *r)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < r->findings; i++)
        json_array_append_new(list, check_json(&r->rows[i], &r->finding[i]));
    return list;
}

/* Two digits behind the point are all that a prediction can stand for. */
static json_t *rounded_json(double n) { return json_real((double)(json_int_t)(n * 100 + 0.5) / 100); }

static json_t *memory_json(const struct examination *x)
{
    const struct cost *c = &x->cost;
    json_t *lines = json_array();
    for (unsigned i = 0; i < c->lines; i++)
        json_array_append_new(
            lines, json_pack("{s:s, s:s, s:o, s:o, s:s}", "layer", cost_layer_name(c->line[i].layer), "name",
                             c->line[i].name, "bytes_per_connection", rounded_json(c->line[i].per_connection),
                             "bytes", bytes_json(c->line[i].bytes), "from", c->line[i].from));
    json_t *o = json_pack("{s:o, s:o, s:o, s:o, s:o, s:b}", "lines", lines, "kernel_bytes_per_connection",
                          rounded_json(c->layer_per_connection[COST_KERNEL]), "user_bytes_per_connection",
                          rounded_json(c->layer_per_connection[COST_USER]), "fixed_bytes",
                          bytes_json(c->layer_bytes[COST_FIXED]), "bytes", bytes_json(c->bytes), "measured",
                          x->measured);
    CHECK(o != NULL);
    json_object_set_new(o, "available_bytes", x->room.known ? bytes_json(x->room.available) : json_null());
    json_object_set_new(o, "reserve_bytes", x->room.known ? bytes_json(x->room.reserve) : json_null());
    return o;
}

/* The whole report, with a newline at the end. */
void report_json(const struct report *r, FILE *out)
{
    const struct examination *x = r->x;
    char verdict[160];
    report_verdict(r, verdict, sizeof verdict);
    json_t *o = json_pack("{s:I, s:f, s:I, s:I, s:o, s:o, s:o, s:o, s:b, s:s}", "connections",
                          (json_int_t)x->request->connections, "tls_share", x->request->tls, "workers",
                          (json_int_t)x->workers, "cores", (json_int_t)x->machine.cores, "kernel",
                          text_json(x->machine.kernel), "checks", checks_json(r), "memory", memory_json(x),
                          "fits", x->room.known ? json_integer((json_int_t)x->fits) : json_null(), "ok",
                          r->to_fix == 0, "verdict", verdict);
    CHECK(o != NULL);
    json_dumpf(o, out, JSON_INDENT(2));
    fputc('\n', out);
    json_decref(o);
}
