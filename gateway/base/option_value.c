/*
 * One option's value: from the text of a file into the struct and back. It goes by the row alone; where the
 * text came from and what the options mean together is config.c's business.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/options.h"
#include "gateway/base/xmalloc.h"

struct suffix {
    const char *text;
    uint64_t factor;
};

/* From the largest on, so that the first one that divides a value is the one to print. */
static const struct suffix no_suffix[] = {{"", 1}, {NULL, 0}};
static const struct suffix size_suffix[] = {
    {"G", 1u << 30}, {"M", 1u << 20}, {"K", 1u << 10}, {"", 1}, {NULL, 0}};
static const struct suffix duration_suffix[] = {
    {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0}};

static const struct suffix *suffixes(const struct option_row *row)
{
    return row->type == OPTION_SIZE       ? size_suffix
           : row->type == OPTION_DURATION ? duration_suffix
                                          : no_suffix;
}

/* The smallest step a file can name (bytes, milliseconds) per unit that the struct holds. */
static uint64_t steps_per_unit(const struct option_row *row)
{
    return row->type == OPTION_DURATION && strcmp(row->unit, "s") == 0 ? 1000 : 1;
}

void option_format_number(const struct option_row *row, uint64_t n, char *out, size_t size)
{
    n *= steps_per_unit(row);
    const struct suffix *s = suffixes(row);
    while (n % s->factor != 0)
        s++;
    snprintf(out, size, "%" PRIu64 "%s", n / s->factor, n ? s->text : "");
}

/* Reads digits and a suffix; false if it is none of these, does not fit, or is no whole number of units. A
 * bare 0 needs no suffix. */
static bool parse_number(const struct option_row *row, const char *text, uint64_t *out)
{
    uint64_t n = 0;
    const char *s = text;
    for (; *s >= '0' && *s <= '9'; s++) {
        if (n > UINT64_MAX / 100)
            return false;
        n = n * 10 + (uint64_t)(*s - '0');
    }
    if (s == text)
        return false;
    if (n == 0 && *s == '\0') {
        *out = 0;
        return true;
    }
    const struct suffix *suffix = suffixes(row);
    while (suffix->text && strcmp(suffix->text, s) != 0)
        suffix++;
    if (!suffix->text || n > UINT64_MAX / suffix->factor)
        return false;
    n *= suffix->factor;
    *out = n / steps_per_unit(row);
    return n % steps_per_unit(row) == 0;
}

/* The position of a word in "a|b|c", or -1. */
static int choice_index(const char *choices, const char *word)
{
    size_t word_len = strlen(word);
    int i = 0;
    for (const char *s = choices; *s; i++) {
        size_t len = strcspn(s, "|");
        if (len == word_len && memcmp(s, word, len) == 0)
            return i;
        s += len + (s[len] == '|');
    }
    return -1;
}

static bool set_number(const struct option_row *row, void *at, const char *text, char *expected)
{
    uint64_t n;
    if (parse_number(row, text, &n) && n >= row->min && n <= row->max) {
        *(uint32_t *)at = (uint32_t)n;
        return true;
    }
    static const char *const shape[] = {
        [OPTION_UINT] = "a number from %s to %s (%s)",
        [OPTION_SIZE] = "a size from %s to %s (%s; suffixes K, M, G)",
        [OPTION_DURATION] = "a duration from %s to %s (suffixes ms, s, m, h)",
    };
    char min[32], max[32];
    option_format_number(row, row->min, min, sizeof min);
    option_format_number(row, row->max, max, sizeof max);
    snprintf(expected, OPTION_TEXT_MAX, shape[row->type], min, max, row->unit);
    return false;
}

static bool set_bool(const struct option_row *row, void *at, const char *text, char *expected)
{
    (void)row;
    int i = choice_index("false|true|no|yes|off|on", text);
    if (i < 0) {
        snprintf(expected, OPTION_TEXT_MAX, "true or false");
        return false;
    }
    *(bool *)at = i % 2 == 1;
    return true;
}

static bool set_enum(const struct option_row *row, void *at, const char *text, char *expected)
{
    int i = choice_index(row->choices, text);
    if (i < 0) {
        snprintf(expected, OPTION_TEXT_MAX, "%s", row->choices);
        return false;
    }
    *(int *)at = i;
    return true;
}

static bool set_string(const struct option_row *row, void *at, const char *text, char *expected)
{
    const char *wrong = row->check ? row->check(text) : NULL;
    if (row->choices && choice_index(row->choices, text) < 0)
        wrong = row->choices;
    if (wrong) {
        snprintf(expected, OPTION_TEXT_MAX, "%s", wrong);
        return false;
    }
    char **string = at;
    free(*string);
    *string = xstrdup(text);
    return true;
}

bool option_set(const struct option_row *row, void *base, const char *text, char *expected)
{
    static bool (*const set[])(const struct option_row *, void *, const char *, char *) = {
        [OPTION_UINT] = set_number, [OPTION_SIZE] = set_number,   [OPTION_DURATION] = set_number,
        [OPTION_BOOL] = set_bool,   [OPTION_STRING] = set_string, [OPTION_ENUM] = set_enum,
    };
    return set[row->type](row, (char *)base + row->offset, text, expected);
}

/* The lexer expands ${NAME} and knows \xNN. */
void option_print_string(const char *text, FILE *out)
{
    fputc('"', out);
    for (const unsigned char *s = (const unsigned char *)text; *s; s++) {
        if (*s < 0x20 || *s == 0x7F)
            fprintf(out, "\\x%02x", *s);
        else if (*s == '"' || *s == '\\' || *s == '$')
            fprintf(out, "\\%c", *s);
        else
            fputc(*s, out);
    }
    fputc('"', out);
}

/* Prints the word at a position of "a|b|c". */
static void print_choice(FILE *out, const char *choices, int index)
{
    while (index-- > 0)
        choices += strcspn(choices, "|") + 1;
    fprintf(out, "\"%.*s\"", (int)strcspn(choices, "|"), choices);
}

void option_print(const struct option_row *row, const void *base, FILE *out)
{
    const void *at = (const char *)base + row->offset;
    char number[32];
    switch (row->type) {
    case OPTION_UINT:
    case OPTION_SIZE:
    case OPTION_DURATION:
        option_format_number(row, *(const uint32_t *)at, number, sizeof number);
        fputs(number, out);
        break;
    case OPTION_BOOL:
        fputs(*(const bool *)at ? "true" : "false", out);
        break;
    case OPTION_STRING:
        option_print_string(*(char *const *)at, out);
        break;
    case OPTION_ENUM:
        print_choice(out, row->choices, *(const int *)at);
        break;
    }
}
