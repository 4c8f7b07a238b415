/*
 * The table of options: one row is one option (section, name, type, default, range, unit, reloadable, help).
 * The parser, the printed result of `holdfast check`, conf/holdfast.conf and the manual page come from it.
 */
#ifndef HOLDFAST_BASE_OPTIONS_H
#define HOLDFAST_BASE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "gateway/base/config.h"

enum option_type {
    OPTION_UINT,
    OPTION_SIZE,
    OPTION_SIZE64,
    OPTION_DURATION,
    OPTION_BOOL,
    OPTION_STRING,
    OPTION_ENUM,
    OPTION_LIST
};

/* How each type lies in the struct: OPTION_BOOL a bool, OPTION_STRING a char *, OPTION_LIST a char * with
 * '\n' between the values ("" : none), OPTION_ENUM an enum whose values are the positions in `choices`,
 * OPTION_SIZE64 a uint64_t, the others a uint32_t. */
struct option_row {
    const char *section; /* "" : top level */
    const char *name;
    enum option_type type;
    const char *default_text; /* as it would stand in a file: "64K", "10s", "true", "drop-oldest" */
    const char *sample; /* what the sample shows in its place where the default is no example, or NULL */
    uint64_t min, max;  /* numbers only, in the unit */
    uint64_t zero;      /* numbers only: what a 0 in the file is in the struct, beyond max */
    const char *unit;   /* "", "bytes", "ms", "s", "connections", ... */
    bool reloadable;
    const char
        *choices;  /* OPTION_ENUM: "drop-oldest|disconnect"; OPTION_STRING: the words allowed, if not NULL */
    size_t offset; /* into struct config, or into the item's struct for a section with a title */
    /* OPTION_STRING, and each value of an OPTION_LIST: returns NULL, or what was expected instead of this
     * text. May be NULL: anything goes. */
    const char *(*check)(const char *text);
    const char *help; /* a few sentences: what it does and what it costs */
};

struct option_section {
    const char *name; /* "" : top level */
    const char *help;
    /* A section with a title, which may be repeated; its items are an array in struct config. */
    unsigned max;      /* how many there may be; 0: no title, it stands once */
    size_t items;      /* offset of the array in struct config */
    size_t size;       /* of one item, whose first member is `char *name` */
    size_t count;      /* offset of the `unsigned` that counts them */
    const char *title; /* in the sample */
    bool absent;       /* there is none by default: the sample shows it as a comment */
};

/* The table, ended by a row whose name is NULL. Rows of one section stand together. */
const struct option_row *options_table(void);
/* The sections in the order of the table, ended by one whose name is NULL. */
const struct option_section *options_sections(void);
/* How many rows the table has. */
unsigned options_count(void);
/* The section of a row. */
const struct option_section *option_section_of(const struct option_row *row);

/* Where the options of a section lie in *c: the item with this number, or *c itself if it has no title. */
void *config_item(const struct config *c, const struct option_section *s, unsigned number);
/* How many items of a section with a title there are; to be written as well. */
unsigned *config_items(const struct config *c, const struct option_section *s);

#define OPTION_TEXT_MAX   256
#define OPTION_MAX_VALUES 32 /* of an OPTION_LIST */

/*
 * Sets the option in *base (a struct config, or an item of a section with a title) from what stood in the
 * file; a list from its values joined by '\n'. Returns false and leaves *base alone if the text is wrong;
 * `expected` (OPTION_TEXT_MAX bytes) then says what was expected.
 */
bool option_set(const struct option_row *row, void *base, const char *text, char *expected);
/* Sets an OPTION_LIST to its first `keep` values and this one. */
bool option_add(const struct option_row *row, void *base, unsigned keep, const char *value, char *expected);
/* Whether it has the same value in both. */
bool option_same(const struct option_row *row, const void *a, const void *b);
/* The value in *base as it would stand in a file, strings quoted. */
void option_print(const struct option_row *row, const void *base, FILE *out);
/* A string in quotes, so that the file's lexer reads the same bytes back. */
void option_print_string(const char *text, FILE *out);
/* A number in the row's unit as one would write it: 65536 -> "64K", 10000 -> "10s". */
void option_format_number(const struct option_row *row, uint64_t n, char *out, size_t size);

/*
 * Fills *c with the embedded defaults: one listener "clients" on 127.0.0.1:1883, API on 127.0.0.1:8080, data
 * under ./holdfast-data.
 */
void config_defaults(struct config *c);

/*
 * Reads a file. Returns 0, or -1 with every problem written to `err` as "FILE:LINE: option: what is wrong,
 * what was expected"; then *c is freed and zeroed. Unknown options, values out of range, doubled options and
 * listeners, addresses that do not parse, and combinations that cannot work are problems. path NULL: the
 * embedded defaults, checked alike. Not reentrant.
 */
int config_load(struct config *c, const char *path, FILE *err) __attribute__((warn_unused_result));
void config_free(struct config *c);

/* Where a configuration comes from, so that a reload can read it again. */
struct config_source {
    const char *file;     /* NULL: the embedded defaults */
    const char *data_dir; /* instead of the file's, or NULL */
};
/* As config_load(). */
int config_load_source(struct config *c, const struct config_source *from, FILE *err)
    __attribute__((warn_unused_result));

/* The values of an OPTION_LIST. */
unsigned config_list_count(const char *list);
/* The value at this place, which is not NUL-terminated, with its length; NULL: there are fewer. */
const char *config_list_at(const char *list, unsigned place, size_t *len);

/* The tls section with this name: an index into c->tls, or CONFIG_NO_TLS. */
unsigned config_find_tls(const struct config *c, const char *name);

/* Exchanges every option that takes effect at a reload, and the sections made of such alone. */
void config_swap_reloadable(struct config *a, struct config *b);
/* How many options differ that take effect only at a restart; their names, joined by ", ", are in `out`. */
unsigned config_restart_needed(const struct config *running, const struct config *next, char *out,
                               size_t size);

/* Prints the configuration as a file that config_load() reads back to the same values. */
void config_print(const struct config *c, FILE *out);

/* The sample configuration / the OPTIONS part of the manual page (mdoc), from the table. */
void options_print_sample(FILE *out);
void options_print_mdoc(FILE *out);

/*
 * "host:port" or "[v6]:port" -> sockaddr. Returns its length, or 0 when it does not parse. Numeric hosts
 * only; port 0 is allowed.
 */
struct sockaddr_storage;
unsigned config_parse_address(const char *text, struct sockaddr_storage *out);
/* Whether the address is a loopback one. */
bool config_is_loopback(const char *text);

#endif
