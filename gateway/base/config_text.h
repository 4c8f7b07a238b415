/*
 * The text of a configuration file before libconfuse sees it: comments taken out, so that line numbers are
 * right and comments may stand anywhere, and statements taken out that were found to be unknown, so
 * that what follows them can be checked too.
 */
#ifndef HOLDFAST_BASE_CONFIG_TEXT_H
#define HOLDFAST_BASE_CONFIG_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Reads a whole regular file into memory, NUL-terminated, to be freed by the caller. NULL: *why says what
 * is wrong with it (it is above CONFIG_TEXT_MAX bytes, or a reason of errno).
 */
#define CONFIG_TEXT_MAX (1u << 20)
char *config_text_read(const char *path, const char **why);

/*
 * Replaces comments (# and // to the end of the line, C comments) by blanks, keeping every newline. False:
 * a string, comment or brace is not closed; *line says where, *why says what.
 */
bool config_text_strip(char *text, unsigned *line, const char **why);

/* Replaces the statement that begins with `name` in this line (`name = value` or `name "title" { ... }`) by
 * blanks, keeping every newline. False: there is none. */
bool config_text_erase(char *text, unsigned line, const char *name);

/* The line where section number `nth` (from 0) of this name begins; 0: there are fewer. */
unsigned config_text_section(const char *text, const char *name, unsigned nth);

/* Number of the last line that has something in it; 1 for an empty text. */
unsigned config_text_last_line(const char *text);

#endif
