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

#define MAX_OPTIONS    128
#define MAX_SECTIONS   16
#define MAX_ITEMS      16
#define MAX_PROBLEMS   100
#define TITLE_LENGTH   64
#define PROBLEM_LENGTH 512

_Static_assert(CONFIG_MAX_LISTENERS <= MAX_ITEMS && CONFIG_MAX_TLS <= MAX_ITEMS, "no room for lines");

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
    /* The line where each option was set, by section, item and row; 0: not set. */
    unsigned line[MAX_SECTIONS][MAX_ITEMS][MAX_OPTIONS];
};

static struct load *loading;

/* -- values ------------------------------------------------------------------------------------------- */

/* Sets every option of the section to its default. */
static void set_defaults(const struct option_section *s, void *base)
{
    char expected[OPTION_TEXT_MAX];
    for (const struct option_row *row = options_table(); row->name; row++)
        if (strcmp(row->section, s->name) == 0)
            CHECK(option_set(row, base, row->default_text, expected));
}

/* Sets every option outside of sections with a title to its default. */
static void set_single_defaults(struct config *c)
{
    for (const struct option_section *s = options_sections(); s->name; s++)
        if (!s->max)
            set_defaults(s, c);
}

/* Adds an item with the defaults to a section with a title. There must be room. */
static void add_item(struct config *c, const struct option_section *s, const char *title)
{
    unsigned *items = config_items(c, s);
    CHECK(*items < s->max);
    void *item = config_item(c, s, (*items)++);
    memset(item, 0, s->size);
    *(char **)item = xstrdup(title);
    set_defaults(s, item);
}

void config_defaults(struct config *c)
{
    memset(c, 0, sizeof *c);
    set_single_defaults(c);
    for (const struct option_section *s = options_sections(); s->name; s++)
        if (s->max && !s->absent)
            add_item(c, s, s->title);
}

/* Frees the strings of a section. */
static void free_strings(const struct option_section *s, void *base)
{
    for (const struct option_row *row = options_table(); row->name; row++)
        if ((row->type == OPTION_STRING || row->type == OPTION_LIST) && strcmp(row->section, s->name) == 0)
            free(*(char **)((char *)base + row->offset));
}

void config_free(struct config *c)
{
    for (const struct option_section *s = options_sections(); s->name; s++) {
        if (!s->max)
            free_strings(s, c);
        for (unsigned i = 0; s->max && i < *config_items(c, s); i++) {
            free(*(char **)config_item(c, s, i));
            free_strings(s, config_item(c, s, i));
        }
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

/* The number of the item with this title, which is added if it is new; -1: there are too many. */
static int item_index(struct load *load, const struct option_section *s, const char *title, unsigned line)
{
    struct config *c = load->config;
    unsigned items = *config_items(c, s);
    for (unsigned i = 0; i < items; i++)
        if (strcmp(*(char **)config_item(c, s, i), title) == 0)
            return (int)i;
    if (items == s->max) {
        add_problem(load, line, "%s \"%.*s\": one too many, expected at most %u", s->name, TITLE_LENGTH,
                    title, s->max);
        return -1;
    }
    if (*title == '\0' || strlen(title) > TITLE_LENGTH)
        add_problem(load, line, "%s: bad name \"%.*s\", expected 1 to %d bytes", s->name, TITLE_LENGTH, title,
                    TITLE_LENGTH);
    add_item(c, s, title);
    return (int)items;
}

/* The lines of a section's options, by row. */
static unsigned *lines_of(struct load *load, const struct option_section *s, unsigned item)
{
    return load->line[s - options_sections()][item];
}

/* Takes one value that the parser has read; what is wrong with it is noted and the parser goes on. Of a list
 * it is told one value after the other. */
static int value_cb(cfg_t *section, cfg_opt_t *opt, const char *value, void *result)
{
    struct load *load = loading;
    CHECK(opt->def.number >= 0 && opt->def.number < (long)options_count());
    size_t number = (size_t)opt->def.number;
    const struct option_row *row = &options_table()[number];
    const struct option_section *s = option_section_of(row);
    unsigned line = (unsigned)section->line, before = opt->nvalues - 1;
    *(const char **)result = value;

    int item = s->max ? item_index(load, s, section->title, line) : 0;
    if (item < 0)
        return 0;
    void *base = config_item(load->config, s, (unsigned)item);
    unsigned *set_in = &lines_of(load, s, (unsigned)item)[number];
    char expected[OPTION_TEXT_MAX];
    if (*set_in && before == 0)
        add_problem(load, line, "%s: set twice, expected once (see line %u)", full_name(row), *set_in);
    else if (!(row->type == OPTION_LIST ? option_add(row, base, before, value, expected)
                                        : option_set(row, base, value, expected)))
        add_problem(load, line, "%s: \"%.100s\" is wrong, expected %s", full_name(row), value, expected);
    if (!*set_in)
        *set_in = line;
    return 0;
}

/* A section has ended. One without any option exists too if it has a title; and a list without values, of
 * which value_cb() is not told, is one. */
static int section_cb(cfg_t *top, cfg_opt_t *opt)
{
    struct load *load = loading;
    const struct option_section *s = &options_sections()[opt->def.number];
    const cfg_t *section = cfg_opt_getnsec(opt, cfg_opt_size(opt) - 1);
    int item = s->max ? item_index(load, s, section->title, (unsigned)top->line) : 0;
    char expected[OPTION_TEXT_MAX];
    for (const cfg_opt_t *o = section->opts; item >= 0 && o->name; o++)
        if ((o->flags & CFGF_LIST) && (o->flags & CFGF_MODIFIED) && o->nvalues == 0)
            CHECK(option_set(&options_table()[o->def.number], config_item(load->config, s, (unsigned)item),
                             "", expected));
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
                                .flags = CFGF_NODEFAULT | (table[i].type == OPTION_LIST ? CFGF_LIST : 0),
                                .def = {.number = i}, /* the row, for value_cb() */
                                .parsecb = value_cb};
    *to = (cfg_opt_t)CFG_END();
}

/* Makes the arrays of all sections and parses the text by them. */
static void parse_text(const char *path, char *text)
{
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
        *top++ = (cfg_opt_t){.name = s->name,
                             .type = CFGT_SEC,
                             .flags = s->max ? CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES : CFGF_NONE,
                             .subopts = opts[n++],
                             .def = {.number = s - options_sections()}, /* for section_cb() */
                             .validcb = section_cb};
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
    set_single_defaults(load->config);
    memset(load->line, 0, sizeof load->line);
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
static unsigned line_of(struct load *load, const char *section, unsigned item, const char *name)
{
    const struct option_row *table = options_table();
    for (unsigned i = 0; table[i].name; i++)
        if (strcmp(table[i].section, section) == 0 && strcmp(table[i].name, name) == 0)
            return lines_of(load, option_section_of(&table[i]), item)[i];
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
        unsigned line = line_of(load, "listener", i, "bind");
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

unsigned config_find_tls(const struct config *c, const char *name)
{
    for (unsigned i = 0; i < c->tls_sections; i++)
        if (strcmp(c->tls[i].name, name) == 0)
            return i;
    return CONFIG_NO_TLS;
}

/* Each listener's tls names a section that is there. */
static void check_listeners_tls(struct load *load)
{
    const struct config *c = load->config;
    for (unsigned i = 0; i < c->listeners; i++) {
        const char *name = c->listener[i].tls;
        if (*name == '\0' || config_find_tls(c, name) != CONFIG_NO_TLS)
            continue;
        struct nearest near = {.word = name};
        for (unsigned k = 0; k < c->tls_sections; k++)
            nearest_try(&near, c->tls[k].name);
        char hint[TITLE_LENGTH + 32] = "";
        if (near.best)
            snprintf(hint, sizeof hint, "perhaps \"%.*s\" or ", TITLE_LENGTH, near.best);
        add_problem(load, line_of(load, "listener", i, "tls"),
                    "listener.tls: there is no section tls \"%.*s\", expected %sone of this name",
                    TITLE_LENGTH, name, hint);
    }
}

/* Every certificate has its key. */
static void check_tls_files(struct load *load, unsigned i)
{
    const struct config_tls *t = &load->config->tls[i];
    unsigned certificates = config_list_count(t->certificate), keys = config_list_count(t->key);
    const char *missing = certificates == 0 ? "certificate" : keys == 0 ? "key" : NULL;
    const char *plural = certificates == 1 ? "" : "s";
    if (missing)
        add_problem(load, config_text_section(load->text, "tls", i),
                    "tls \"%.*s\": no %s, expected %s = \"FILE\"", TITLE_LENGTH, t->name, missing, missing);
    else if (certificates != keys)
        add_problem(load, line_of(load, "tls", i, "key"),
                    "tls.key: %u for %u certificate%s, expected one each, in the same order", keys,
                    certificates, plural);
    if (!missing && config_list_count(t->ocsp) > certificates)
        add_problem(load, line_of(load, "tls", i, "ocsp"),
                    "tls.ocsp: %u for %u certificate%s, expected one each at most, in the same order",
                    config_list_count(t->ocsp), certificates, plural);
}

/* What is asked of clients can be checked. */
static void check_tls_clients(struct load *load, unsigned i)
{
    const struct config_tls *t = &load->config->tls[i];
    if (*t->ca)
        return;
    if (t->client_certificate != CLIENT_CERT_OFF)
        add_problem(
            load, line_of(load, "tls", i, "client_certificate"),
            "tls.client_certificate: ca is empty, so no client's certificate could be right; expected ca "
            "= \"FILE\", or client_certificate = off");
    if (*t->crl)
        add_problem(
            load, line_of(load, "tls", i, "crl"),
            "tls.crl: ca is empty, so nobody could have signed it; expected ca = \"FILE\", or no crl");
}

static void check_tls(struct load *load)
{
    for (unsigned i = 0; i < load->config->tls_sections; i++) {
        check_tls_files(load, i);
        check_tls_clients(load, i);
    }
}

static void check_api(struct load *load)
{
    const struct config *c = load->config;
    if (!config_is_loopback(c->api_bind) && *c->api_token_file == '\0')
        add_problem(
            load, line_of(load, "api", 0, "bind"),
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
    unsigned line = line_of(load, "mqtt", 0, "broadcast_topic");
    add_problem(
        load, line ? line : line_of(load, "mqtt", 0, "clients_prefix"),
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
        check_listeners_tls(load);
        check_tls(load);
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

int config_load_source(struct config *c, const struct config_source *from, FILE *err)
{
    if (config_load(c, from->file, err) != 0)
        return -1;
    if (from->data_dir) {
        free(c->data_dir);
        c->data_dir = xstrdup(from->data_dir);
    }
    return 0;
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
        if (*s->name && !s->max) {
            fprintf(out, "%s {\n", s->name);
            print_section(s->name, c, "    ", out);
            fprintf(out, "}\n");
        } else if (!s->max) {
            print_section("", c, "", out);
        }
        for (unsigned i = 0; s->max && i < *config_items(c, s); i++) {
            fprintf(out, "%s ", s->name);
            option_print_string(*(char **)config_item(c, s, i), out);
            fprintf(out, " {\n");
            print_section(s->name, config_item(c, s, i), "    ", out);
            fprintf(out, "}\n");
        }
    }
}
