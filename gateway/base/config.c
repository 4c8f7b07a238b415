/*
 * Reads a configuration file into struct config. libconfuse parses the syntax by option arrays that are made
 * from the table of options.c at run time; every value arrives as a string at value_cb(), which knows its
 * line, sets it through option_set(), and notes what is wrong without stopping. When the whole file is read
 * the combinations are checked, and all problems are written in the order of their lines.
 *
 * libconfuse stops at the first name that it does not know. That statement is noted, blanked out, and the
 * file is parsed once more. Only a mistake in the syntax itself ends the search for further problems.
 *
 * libconfuse hands no context to its callbacks, so the load in progress is a static pointer.
 */
#include <confuse.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "gateway/base/check.h"
#include "gateway/base/config_text.h"
#include "gateway/base/nearest.h"
#include "gateway/base/options.h"
#include "gateway/base/xmalloc.h"

#define LISTENER       "listener"
#define MAX_OPTIONS    128
#define MAX_PROBLEMS   100
#define LISTENER_NAME  64
#define PROBLEM_LENGTH 512

struct problem {
    unsigned line; /* 0: of the whole file */
    char *text;
};

struct load {
    struct config *config;
    const char *path;
    char *text; /* the file without comments and unknown statements */
    struct problem problem[MAX_PROBLEMS];
    unsigned problems;
    unsigned lasting;       /* the first of them, which a new round keeps: unknown names */
    bool syntax_error;      /* the file was not read to its end */
    char unknown_name[256]; /* this round stopped at this name ... */
    unsigned unknown_line;  /* ... in this line; 0: it did not */
    /* The line where each option was set, by row; 0: not set. */
    unsigned line[MAX_OPTIONS];
    unsigned listener_line[CONFIG_MAX_LISTENERS][MAX_OPTIONS];
};

static struct load *loading;

/* -- values ------------------------------------------------------------------------------------------- */

static bool is_listener(const struct option_row *row) { return strcmp(row->section, LISTENER) == 0; }

/* Sets every option of the listener section, or every other one, to its default. */
static void set_defaults(void *base, bool of_listener)
{
    char expected[OPTION_TEXT_MAX];
    for (const struct option_row *row = options_table(); row->name; row++)
        if (is_listener(row) == of_listener)
            CHECK(option_set(row, base, row->default_text, expected));
}

/* Adds a listener with the defaults. There must be room. */
static struct config_listener *add_listener(struct config *c, const char *name)
{
    CHECK(c->listeners < CONFIG_MAX_LISTENERS);
    struct config_listener *l = &c->listener[c->listeners++];
    memset(l, 0, sizeof *l);
    l->name = xstrdup(name);
    set_defaults(l, true);
    return l;
}

void config_defaults(struct config *c)
{
    memset(c, 0, sizeof *c);
    set_defaults(c, false);
    add_listener(c, "clients");
}

/* Frees the strings of the listener section, or of all others. */
static void free_strings(void *base, bool of_listener)
{
    for (const struct option_row *row = options_table(); row->name; row++)
        if (row->type == OPTION_STRING && is_listener(row) == of_listener)
            free(*(char **)((char *)base + row->offset));
}

void config_free(struct config *c)
{
    free_strings(c, false);
    for (unsigned i = 0; i < c->listeners; i++) {
        free(c->listener[i].name);
        free_strings(&c->listener[i], true);
    }
    memset(c, 0, sizeof *c);
}

/* -- problems ----------------------------------------------------------------------------------------- */

/* Notes a problem. When there are very many the last ones are left out. */
__attribute__((format(printf, 3, 4))) static void add_problem(struct load *load, unsigned line,
                                                              const char *format, ...)
{
    if (load->problems == MAX_PROBLEMS)
        return;
    char text[PROBLEM_LENGTH];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    load->problem[load->problems++] = (struct problem){.line = line, .text = xstrdup(text)};
}

/* Forgets the problems from number `keep` on. */
static void drop_problems(struct load *load, unsigned keep)
{
    while (load->problems > keep)
        free(load->problem[--load->problems].text);
}

static int compare_lines(const void *a, const void *b)
{
    unsigned x = ((const struct problem *)a)->line, y = ((const struct problem *)b)->line;
    return (x > y) - (x < y);
}

/* Writes all problems, by line. */
static void write_problems(struct load *load, FILE *err)
{
    qsort(load->problem, load->problems, sizeof load->problem[0], compare_lines);
    for (unsigned i = 0; i < load->problems; i++) {
        const struct problem *p = &load->problem[i];
        if (p->line)
            fprintf(err, "%s:%u: %s\n", load->path, p->line, p->text);
        else
            fprintf(err, "%s: %s\n", load->path, p->text);
    }
}

/* The option's name with its section, as it is named in messages: "workers", "mqtt.output_limit",
 * "listener.bind". */
static const char *full_name(const struct option_row *row)
{
    static char name[80];
    snprintf(name, sizeof name, "%s%s%s", row->section, *row->section ? "." : "", row->name);
    return name;
}

/* Notes a name that is in no row of the section, with what was probably meant. */
static void add_unknown(struct load *load, unsigned line, const char *section, const char *name)
{
    const char *prefix = strcmp(section, "root") == 0 ? "" : section;
    struct nearest near = {.word = name};
    const char *elsewhere = NULL;
    for (const struct option_row *row = options_table(); row->name; row++) {
        if (strcmp(row->section, prefix) == 0)
            nearest_try(&near, row->name);
        else if (strcmp(row->name, name) == 0)
            elsewhere = row->section;
    }
    for (const struct option_section *s = options_sections(); s->name && !*prefix; s++)
        if (*s->name)
            nearest_try(&near, s->name);

    const char *dot = *prefix ? "." : "";
    if (near.best)
        add_problem(load, line, "%s%s%s: unknown option, expected perhaps %s", prefix, dot, name, near.best);
    else if (elsewhere && *elsewhere)
        add_problem(load, line, "%s%s%s: unknown option here, expected in section %s { }", prefix, dot, name,
                    elsewhere);
    else if (elsewhere)
        add_problem(load, line, "%s%s%s: unknown option here, expected outside of sections", prefix, dot,
                    name);
    else
        add_problem(load, line, "%s%s%s: unknown option, expected one of those in holdfast.conf(5)", prefix,
                    dot, name);
}

/* -- libconfuse's callbacks --------------------------------------------------------------------------- */

/* The number of the listener with this title, which is added if it is new; -1: there are too many. */
static int listener_index(struct load *load, const char *title, unsigned line)
{
    struct config *c = load->config;
    for (unsigned i = 0; i < c->listeners; i++)
        if (strcmp(c->listener[i].name, title) == 0)
            return (int)i;
    if (c->listeners == CONFIG_MAX_LISTENERS) {
        add_problem(load, line, "listener \"%.*s\": one too many, expected at most %d", LISTENER_NAME, title,
                    CONFIG_MAX_LISTENERS);
        return -1;
    }
    if (*title == '\0' || strlen(title) > LISTENER_NAME)
        add_problem(load, line, "listener: bad name \"%.*s\", expected 1 to %d bytes", LISTENER_NAME, title,
                    LISTENER_NAME);
    add_listener(c, title);
    return (int)c->listeners - 1;
}

/* Takes one value that the parser has read; what is wrong with it is noted and the parser goes on. */
static int value_cb(cfg_t *section, cfg_opt_t *opt, const char *value, void *result)
{
    struct load *load = loading;
    CHECK(opt->def.number >= 0 && opt->def.number < (long)options_count());
    size_t number = (size_t)opt->def.number;
    const struct option_row *row = &options_table()[number];
    unsigned line = (unsigned)section->line;
    *(const char **)result = value;

    void *base = load->config;
    unsigned *lines = load->line;
    if (is_listener(row)) {
        int i = listener_index(load, section->title, line);
        if (i < 0)
            return 0;
        base = &load->config->listener[i];
        lines = load->listener_line[i];
    }
    char expected[OPTION_TEXT_MAX];
    if (lines[number])
        add_problem(load, line, "%s: set twice, expected once (see line %u)", full_name(row), lines[number]);
    else if (!option_set(row, base, value, expected))
        add_problem(load, line, "%s: \"%.100s\" is wrong, expected %s", full_name(row), value, expected);
    if (!lines[number])
        lines[number] = line;
    return 0;
}

/* A listener section has ended: one without any option is a listener too. */
static int listener_cb(cfg_t *top, cfg_opt_t *opt)
{
    const cfg_t *section = cfg_opt_getnsec(opt, cfg_opt_size(opt) - 1);
    listener_index(loading, section->title, (unsigned)top->line);
    return 0;
}

/*
 * The parser gives up. An unknown name is remembered, to be taken out; anything else is a mistake in the
 * syntax and is passed on in the parser's words.
 */
static void error_cb(cfg_t *section, const char *format, va_list ap)
{
    struct load *load = loading;
    char text[PROBLEM_LENGTH];
    unsigned line = section ? (unsigned)section->line : 0;
    if (strcmp(format, "no such option '%s'") == 0) {
        vsnprintf(text, sizeof text, "%s", ap);
        add_unknown(load, line, section->name, text);
        load->unknown_line = line;
        snprintf(load->unknown_name, sizeof load->unknown_name, "%.255s", text);
        return;
    }
    vsnprintf(text, sizeof text, format, ap);
    add_problem(load, line, "%s, expected `name = value` or `section { ... }`", text);
    load->syntax_error = true;
}

/* -- parsing ------------------------------------------------------------------------------------------ */

/* Makes the option array of one section from the table; it ends with an empty entry. */
static void fill_section(cfg_opt_t *to, const char *section)
{
    const struct option_row *table = options_table();
    for (unsigned i = 0; table[i].name; i++)
        if (strcmp(table[i].section, section) == 0)
            *to++ = (cfg_opt_t){.name = table[i].name,
                                .type = CFGT_STR,
                                .flags = CFGF_NODEFAULT,
                                .def = {.number = i}, /* the row, for value_cb() */
                                .parsecb = value_cb};
    *to = (cfg_opt_t)CFG_END();
}

/* Makes the arrays of all sections and parses the text by them. */
static void parse_text(const char *path, char *text)
{
    enum { MAX_SECTIONS = 16 };
    cfg_opt_t(*opts)[MAX_OPTIONS + 1] = xcalloc(MAX_SECTIONS, sizeof *opts);
    cfg_opt_t *top = opts[0];
    fill_section(top, "");
    while (top->name)
        top++;
    unsigned n = 1;
    for (const struct option_section *s = options_sections(); s->name; s++) {
        if (!*s->name)
            continue;
        CHECK(n < MAX_SECTIONS);
        fill_section(opts[n], s->name);
        bool listener = strcmp(s->name, LISTENER) == 0;
        *top++ = (cfg_opt_t){.name = s->name,
                             .type = CFGT_SEC,
                             .flags = listener ? CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES : CFGF_NONE,
                             .subopts = opts[n++],
                             .validcb = listener ? listener_cb : NULL};
    }
    *top = (cfg_opt_t)CFG_END();

    cfg_t *cfg = cfg_init(opts[0], CFGF_NONE);
    size_t len = strlen(text);
    FILE *f = len ? fmemopen(text, len, "r") : fopen("/dev/null", "re");
    CHECK(cfg && f);
    cfg_set_error_function(cfg, error_cb);
    free(cfg->filename);
    cfg->filename = xstrdup(path);
    if (cfg_parse_fp(cfg, f) != CFG_SUCCESS && !loading->unknown_line)
        loading->syntax_error = true;
    fclose(f);
    cfg_free(cfg);
    free(opts);
}

/* One round of parsing, from empty values. */
static void parse_round(struct load *load)
{
    drop_problems(load, load->lasting);
    config_free(load->config);
    set_defaults(load->config, false);
    memset(load->line, 0, sizeof load->line);
    memset(load->listener_line, 0, sizeof load->listener_line);
    load->unknown_line = 0;
    loading = load;
    parse_text(load->path, load->text);
    loading = NULL;
}

/* Parses until no unknown name is left. An unknown name's problem is the last one of its round; it is moved
 * to those that stay. */
static void parse_all(struct load *load)
{
    parse_round(load);
    while (load->unknown_line && load->problems < MAX_PROBLEMS) {
        struct problem last = load->problem[load->problems - 1];
        load->problem[load->problems - 1] = load->problem[load->lasting];
        load->problem[load->lasting++] = last;
        if (!config_text_erase(load->text, load->unknown_line, load->unknown_name)) {
            load->syntax_error = true;
            return;
        }
        parse_round(load);
    }
}

/* Reads, strips and parses the file. */
static void load_file(struct load *load)
{
    const char *why;
    unsigned line;
    load->text = config_text_read(load->path, &why);
    if (!load->text) {
        add_problem(load, 0, "cannot be read: %s", why);
        load->syntax_error = true;
    } else if (!config_text_strip(load->text, &line, &why)) {
        add_problem(load, line, "%s", why);
        load->syntax_error = true;
    } else {
        parse_all(load);
    }
}

/* -- combinations ------------------------------------------------------------------------------------- */

/* The line where an option was set, or 0. */
static unsigned line_of(const unsigned *lines, const char *section, const char *name)
{
    const struct option_row *table = options_table();
    for (unsigned i = 0; table[i].name; i++)
        if (strcmp(table[i].section, section) == 0 && strcmp(table[i].name, name) == 0)
            return lines[i];
    return 0;
}

/* Whether both are the same address with a port of its own; port 0 is a different one each time. */
static bool is_same_address(const char *a, const char *b)
{
    struct sockaddr_storage x, y;
    unsigned x_len = config_parse_address(a, &x), y_len = config_parse_address(b, &y);
    /* The port is at the same place for IPv4 and IPv6. */
    return x_len && x_len == y_len && memcmp(&x, &y, x_len) == 0 && ((struct sockaddr_in *)&x)->sin_port != 0;
}

static void check_listeners(struct load *load)
{
    const struct config *c = load->config;
    if (c->listeners == 0 && load->lasting == 0)
        add_problem(load, config_text_last_line(load->text),
                    "no listener, expected at least one: listener \"clients\" { bind = \"127.0.0.1:1883\" }");
    for (unsigned i = 0; i < c->listeners; i++) {
        unsigned line = line_of(load->listener_line[i], LISTENER, "bind");
        for (unsigned k = 0; k < i; k++)
            if (is_same_address(c->listener[i].bind, c->listener[k].bind))
                add_problem(load, line,
                            "listener.bind: %s is also bound by listener \"%s\", expected another address",
                            c->listener[i].bind, c->listener[k].name);
        if (is_same_address(c->listener[i].bind, c->api_bind))
            add_problem(load, line, "listener.bind: %s is also bound by the api, expected another address",
                        c->listener[i].bind);
    }
}

static void check_api(struct load *load)
{
    const struct config *c = load->config;
    if (!config_is_loopback(c->api_bind) && *c->api_token_file == '\0')
        add_problem(
            load, line_of(load->line, "api", "bind"),
            "api.bind: %s can be reached from other machines and api.token_file is empty, so anybody could "
            "publish; expected a token_file, or a loopback address such as 127.0.0.1:8080",
            c->api_bind);
}

static void check_channels(struct load *load)
{
    const struct config *c = load->config;
    if (*c->clients_prefix == '\0' ||
        strncmp(c->broadcast_topic, c->clients_prefix, strlen(c->clients_prefix)) != 0)
        return;
    unsigned line = line_of(load->line, "mqtt", "broadcast_topic");
    add_problem(
        load, line ? line : line_of(load->line, "mqtt", "clients_prefix"),
        "mqtt.broadcast_topic: \"%.100s\" begins with clients_prefix and so is also a client's own topic, "
        "expected another name",
        c->broadcast_topic);
}

int config_load(struct config *c, const char *path, FILE *err)
{
    CHECK(options_count() < MAX_OPTIONS - 16);
    struct load *load = xcalloc(1, sizeof *load);
    load->config = c;
    load->path = path ? path : "embedded defaults";
    memset(c, 0, sizeof *c);
    if (path)
        load_file(load);
    else
        config_defaults(c);
    if (!load->syntax_error) {
        check_listeners(load);
        check_api(load);
        check_channels(load);
    }
    int result = load->problems ? -1 : 0;
    if (result < 0) {
        write_problems(load, err);
        config_free(c);
    }
    drop_problems(load, 0);
    free(load->text);
    free(load);
    return result;
}

/* -- printing ----------------------------------------------------------------------------------------- */

static void print_section(const char *section, const void *base, const char *indent, FILE *out)
{
    for (const struct option_row *row = options_table(); row->name; row++) {
        if (strcmp(row->section, section) != 0)
            continue;
        fprintf(out, "%s%s = ", indent, row->name);
        option_print(row, base, out);
        fputc('\n', out);
    }
}

void config_print(const struct config *c, FILE *out)
{
    for (const struct option_section *s = options_sections(); s->name; s++) {
        if (!*s->name) {
            print_section("", c, "", out);
        } else if (strcmp(s->name, LISTENER) != 0) {
            fprintf(out, "%s {\n", s->name);
            print_section(s->name, c, "    ", out);
            fprintf(out, "}\n");
        }
    }
    for (unsigned i = 0; i < c->listeners; i++) {
        fprintf(out, "listener ");
        option_print_string(c->listener[i].name, out);
        fprintf(out, " {\n");
        print_section(LISTENER, &c->listener[i], "    ", out);
        fprintf(out, "}\n");
    }
}
