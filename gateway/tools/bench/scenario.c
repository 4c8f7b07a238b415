/*
 * Scenario files. The options are rows of scenario.def; a value from a file and one from the command line go
 * through the same check. What a kind of scenario does with them is in its kind_*.c.
 */
#include "gateway/tools/bench/scenario.h"

#include <confuse.h>
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/xmalloc.h"

#ifndef SCENARIO_DIR
#define SCENARIO_DIR "/usr/local/share/holdfast/scenarios"
#endif

struct option_row {
    const char *name;
    bool is_string;
    size_t offset;
    long value, min, max;
    const char *text, *words, *help; /* words: NULL: any text */
};

static const struct option_row rows[] = {
#define OPTION_INT(name, value, min, max, help)                                                              \
    {#name, false, offsetof(struct scenario, name), value, min, max, NULL, NULL, help},
#define OPTION_STR(name, value, help)                                                                        \
    {#name, true, offsetof(struct scenario, name), 0, 0, 0, value, NULL, help},
#define OPTION_WORD(name, value, words, help)                                                                \
    {#name, true, offsetof(struct scenario, name), 0, 0, 0, value, words, help},
#include "gateway/tools/bench/scenario.def"
#undef OPTION_INT
#undef OPTION_STR
#undef OPTION_WORD
};
#define ROWS (sizeof rows / sizeof rows[0])

static long *int_at(const struct scenario *s, const struct option_row *r)
{
    return (long *)(void *)((char *)(uintptr_t)s + r->offset);
}

static char **str_at(const struct scenario *s, const struct option_row *r)
{
    return (char **)(void *)((char *)(uintptr_t)s + r->offset);
}

static bool in_range(const struct option_row *r, long value) { return value >= r->min && value <= r->max; }

/* Whether the text is one of the row's words, or may be anything. */
static bool is_word(const struct option_row *r, const char *text)
{
    size_t len = strlen(text);
    for (const char *word = r->words; word;) {
        size_t n = strcspn(word, "|");
        if (n == len && memcmp(word, text, n) == 0)
            return true;
        word = word[n] ? word + n + 1 : NULL;
    }
    return !r->words;
}

bool scenario_is_persistent(const struct scenario *s) { return strcmp(s->sessions, "persistent") == 0; }

static const struct option_row *find_row(const char *name, size_t len)
{
    for (size_t i = 0; i < ROWS; i++)
        if (strlen(rows[i].name) == len && memcmp(rows[i].name, name, len) == 0)
            return &rows[i];
    return NULL;
}

bool scenario_set(struct scenario *s, const char *assignment)
{
    const char *equals = strchr(assignment, '=');
    const struct option_row *r = equals ? find_row(assignment, (size_t)(equals - assignment)) : NULL;
    if (!r) {
        fprintf(stderr, "%s: expected OPTION=VALUE; holdfast-bench options lists them\n", assignment);
        return false;
    }
    if (r->is_string) {
        free(*str_at(s, r));
        *str_at(s, r) = xstrdup(equals + 1);
        if (!is_word(r, equals + 1))
            fprintf(stderr, "%s: expected %s (%s)\n", assignment, r->words, r->help);
        return is_word(r, equals + 1);
    }
    char *end;
    long value = strtol(equals + 1, &end, 10);
    if (*end || end == equals + 1) {
        fprintf(stderr, "%s: expected a number\n", assignment);
        return false;
    }
    *int_at(s, r) = value;
    if (in_range(r, value))
        return true;
    fprintf(stderr, "%s: out of range, expected %ld to %ld (%s)\n", assignment, r->min, r->max, r->help);
    return false;
}

static unsigned complaints; /* about the file that is being read */

/* The messages of the parser and of the checks below, with file and line. */
static void error_cb(cfg_t *cfg, const char *format, va_list args)
{
    complaints++;
    if (cfg && cfg->filename)
        fprintf(stderr, "%s:%d: ", cfg->filename, cfg->line);
    vfprintf(stderr, format, args);
    putc('\n', stderr);
}

/* The parser has read a number. Goes on after a wrong one, so that all of them are named at once. */
static int check_number_cb(cfg_t *cfg, cfg_opt_t *opt)
{
    const struct option_row *r = find_row(opt->name, strlen(opt->name));
    long value = cfg_opt_getnint(opt, 0);
    if (!in_range(r, value))
        cfg_error(cfg, "%s: %ld is out of range, expected %ld to %ld (%s)", r->name, value, r->min, r->max,
                  r->help);
    return 0;
}

/* The same for text. */
static int check_text_cb(cfg_t *cfg, cfg_opt_t *opt)
{
    const struct option_row *r = find_row(opt->name, strlen(opt->name));
    const char *text = cfg_opt_getnstr(opt, 0);
    if (!is_word(r, text))
        cfg_error(cfg, "%s: \"%s\": expected %s (%s)", r->name, text, r->words, r->help);
    return 0;
}

/* The parser has read a figure section to its end. */
static int check_figure_cb(cfg_t *cfg, cfg_opt_t *opt)
{
    cfg_t *f = cfg_opt_getnsec(opt, cfg_opt_size(opt) - 1);
    if (!cfg_getstr(f, "metric")[0])
        cfg_error(cfg, "figure \"%s\": expected a metric", cfg_title(f));
    if (isnan(cfg_getfloat(f, "max")) && isnan(cfg_getfloat(f, "min")) &&
        isnan(cfg_getfloat(f, "max_ratio")) && isnan(cfg_getfloat(f, "max_ratio_tls")))
        cfg_error(cfg, "figure \"%s\": expected max, min, max_ratio or max_ratio_tls", cfg_title(f));
    return 0;
}

/* Copies the values of the file. */
static void take_options(struct scenario *s, cfg_t *cfg)
{
    for (size_t i = 0; i < ROWS; i++) {
        if (rows[i].is_string)
            *str_at(s, &rows[i]) = xstrdup(cfg_getstr(cfg, rows[i].name));
        else
            *int_at(s, &rows[i]) = cfg_getint(cfg, rows[i].name);
    }
}

/* Copies the figure sections. */
static void take_figures(struct scenario *s, cfg_t *cfg)
{
    s->figures = cfg_size(cfg, "figure");
    s->figure = xcalloc(s->figures + 1, sizeof *s->figure);
    for (size_t i = 0; i < s->figures; i++) {
        cfg_t *f = cfg_getnsec(cfg, "figure", (unsigned)i);
        s->figure[i] = (struct scenario_figure){.title = xstrdup(cfg_title(f)),
                                                .metric = xstrdup(cfg_getstr(f, "metric")),
                                                .max = cfg_getfloat(f, "max"),
                                                .min = cfg_getfloat(f, "min"),
                                                .max_ratio = cfg_getfloat(f, "max_ratio"),
                                                .max_ratio_tls = cfg_getfloat(f, "max_ratio_tls"),
                                                .target = xstrdup(cfg_getstr(f, "target"))};
    }
}

/* The parser's own table: all rows, and the figures. */
static cfg_t *new_parser(void)
{
    static cfg_opt_t figure[] = {CFG_STR("metric", "", CFGF_NONE),
                                 CFG_FLOAT("max", NAN, CFGF_NONE),
                                 CFG_FLOAT("max_ratio", NAN, CFGF_NONE),
                                 CFG_FLOAT("min", NAN, CFGF_NONE),
                                 CFG_FLOAT("max_ratio_tls", NAN, CFGF_NONE),
                                 CFG_STR("target", "", CFGF_NONE),
                                 CFG_END()};
    static cfg_opt_t options[ROWS + 2];
    for (size_t i = 0; i < ROWS; i++) {
        cfg_opt_t number = CFG_INT(rows[i].name, rows[i].value, CFGF_NONE);
        cfg_opt_t string = CFG_STR(rows[i].name, rows[i].text, CFGF_NONE);
        options[i] = rows[i].is_string ? string : number;
    }
    options[ROWS] = (cfg_opt_t)CFG_SEC("figure", figure, CFGF_MULTI | CFGF_TITLE);
    options[ROWS + 1] = (cfg_opt_t)CFG_END();
    cfg_t *cfg = cfg_init(options, CFGF_NONE);
    cfg_set_error_function(cfg, error_cb);
    for (size_t i = 0; i < ROWS; i++)
        cfg_set_validate_func(cfg, rows[i].name, rows[i].is_string ? check_text_cb : check_number_cb);
    cfg_set_validate_func(cfg, "figure", check_figure_cb);
    return cfg;
}

/* The file's name without folder and suffix. */
static char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
    return xstrndup(name, dot ? (size_t)(dot - name) : strlen(name));
}

/* Whether it can be read as a file; errno says why not. A folder can be opened, but not read. */
static bool is_file(const char *path)
{
    struct stat st;
    if (access(path, R_OK) || stat(path, &st))
        return false;
    errno = S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
    return S_ISREG(st.st_mode);
}

/* Where a scenario of this name is. The caller frees it. */
static char *find_file(const char *name)
{
    const char *dirs[] = {getenv("HOLDFAST_BENCH_SCENARIOS"), SCENARIO_DIR};
    if (is_file(name))
        return xstrdup(name);
    if (strchr(name, '/')) {
        fprintf(stderr, "%s: %s\n", name, strerror(errno));
        return NULL;
    }
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        char *path = NULL;
        if (!dirs[i] || asprintf(&path, "%s/%s.conf", dirs[i], name) < 0)
            continue;
        if (is_file(path))
            return path;
        free(path);
    }
    fprintf(
        stderr,
        "%s: no such scenario: neither a file nor in %s (HOLDFAST_BENCH_SCENARIOS names another folder)\n",
        name, SCENARIO_DIR);
    return NULL;
}

struct scenario *scenario_load(const char *name_or_path)
{
    char *path = find_file(name_or_path);
    if (!path)
        return NULL;
    cfg_t *cfg = new_parser();
    struct scenario *s = xcalloc(1, sizeof *s);
    s->name = base_name(path);
    complaints = 0;
    int result = cfg_parse(cfg, path);
    if (result == CFG_FILE_ERROR)
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
    bool ok = result == CFG_SUCCESS && complaints == 0;
    if (ok) {
        take_options(s, cfg);
        take_figures(s, cfg);
    }
    cfg_free(cfg);
    free(path);
    if (ok)
        return s;
    scenario_free(s);
    return NULL;
}

void scenario_free(struct scenario *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < ROWS; i++)
        if (rows[i].is_string)
            free(*str_at(s, &rows[i]));
    for (size_t i = 0; i < s->figures; i++) {
        free(s->figure[i].title);
        free(s->figure[i].metric);
        free(s->figure[i].target);
    }
    free(s->figure);
    free(s->name);
    free(s);
}

void scenario_list_options(void)
{
    for (size_t i = 0; i < ROWS; i++) {
        if (rows[i].words)
            printf("%-17s \"%s\" (%s)\n", rows[i].name, rows[i].text, rows[i].words);
        else if (rows[i].is_string)
            printf("%-17s \"%s\"\n", rows[i].name, rows[i].text);
        else
            printf("%-17s %ld (%ld to %ld)\n", rows[i].name, rows[i].value, rows[i].min, rows[i].max);
        printf("                  %s\n", rows[i].help);
    }
}

bool scenario_option(const struct scenario *s, size_t n, const char **name, char *text, size_t cap)
{
    if (n >= ROWS)
        return false;
    *name = rows[n].name;
    if (rows[n].is_string)
        snprintf(text, cap, "%s", *str_at(s, &rows[n]));
    else
        snprintf(text, cap, "%ld", *int_at(s, &rows[n]));
    return true;
}
