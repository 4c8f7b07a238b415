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
    return row->type == OPTION_SIZE || row->type == OPTION_SIZE64 ? size_suffix
           : row->type == OPTION_DURATION                         ? duration_suffix
                                                                  : no_suffix;
}

/* The smallest step a file can name (bytes, milliseconds) per unit that the struct holds. */
static uint64_t steps_per_unit(const struct option_row *row)
{
    return row->type == OPTION_DURATION && strcmp(row->unit, "s") == 0 ? 1000 : 1;
}

void option_format_number(const struct option_row *row, uint64_t n, char *out, size_t size)
{
    if (row->zero && n == row->zero)
        n = 0;
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

/* A number as it lies in the struct. */
static uint64_t number_in(const struct option_row *row, const void *at)
{
    return row->type == OPTION_SIZE64 ? *(const uint64_t *)at : *(const uint32_t *)at;
}

static bool set_number(const struct option_row *row, void *at, const char *text, char *expected)
{
    uint64_t n;
    if (parse_number(row, text, &n) && n >= row->min && n <= row->max) {
        n = n ? n : row->zero;
        if (row->type == OPTION_SIZE64)
            *(uint64_t *)at = n;
        else
            *(uint32_t *)at = (uint32_t)n;
        return true;
    }
    static const char *const shape[] = {
        [OPTION_UINT] = "a number from %s to %s (%s)",
        [OPTION_SIZE] = "a size from %s to %s (%s; suffixes K, M, G)",
        [OPTION_SIZE64] = "a size from %s to %s (%s; suffixes K, M, G)",
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

unsigned config_list_count(const char *list)
{
    unsigned n = *list != '\0';
    for (; *list; list++)
        n += *list == '\n';
    return n;
}

const char *config_list_at(const char *list, unsigned place, size_t *len)
{
    if (place >= config_list_count(list))
        return NULL;
    while (place-- > 0)
        list = strchr(list, '\n') + 1;
    *len = strcspn(list, "\n");
    return list;
}

/* What is wrong with one value of a list, or NULL. */
static const char *value_fault(const struct option_row *row, const char *value)
{
    if (strchr(value, '\n'))
        return "a string without newlines";
    return row->check ? row->check(value) : NULL;
}

/* The length of the first n values of a list. */
static size_t list_length(const char *list, unsigned n)
{
    size_t len;
    const char *beyond = config_list_at(list, n, &len);
    return beyond ? (size_t)(beyond - list) - 1 : strlen(list);
}

/* What is wrong with this value behind the first `keep` ones, or NULL. Alone, "" is an empty list; whether it
 * may be a value shows when another one follows. */
static const char *add_fault(const struct option_row *row, const char *list, unsigned keep, const char *value,
                             const char **where)
{
    *where = "";
    if (keep == 0 && *value == '\0')
        return NULL;
    if (keep == 1 && *list == '\0') {
        *where = " before it";
        const char *wrong = value_fault(row, "");
        if (wrong)
            return wrong;
    }
    *where = "";
    return value_fault(row, value);
}

bool option_add(const struct option_row *row, void *base, unsigned keep, const char *value, char *expected)
{
    char **list = (char **)(void *)((char *)base + row->offset);
    if (keep >= OPTION_MAX_VALUES) {
        snprintf(expected, OPTION_TEXT_MAX, "at most %d values", OPTION_MAX_VALUES);
        return false;
    }
    const char *where, *wrong = add_fault(row, *list, keep, value, &where);
    if (wrong) {
        snprintf(expected, OPTION_TEXT_MAX, "%s%s", wrong, where);
        return false;
    }
    size_t kept = keep ? list_length(*list, keep) : 0, len = strlen(value);
    char *joined = xmalloc(kept + len + 2);
    if (keep) {
        memcpy(joined, *list, kept);
        joined[kept++] = '\n';
    }
    memcpy(joined + kept, value, len + 1);
    free(*list);
    *list = joined;
    return true;
}

/* All values at once; the old ones stay if one of them is wrong. */
static bool set_list(const struct option_row *row, void *at, const char *text, char *expected)
{
    char *old = *(char **)at, *const base = (char *)at - row->offset;
    *(char **)at = xstrdup("");
    unsigned n = config_list_count(text);
    bool good = true;
    for (unsigned i = 0; i < n && good; i++) {
        size_t len;
        const char *s = config_list_at(text, i, &len);
        char *value = xstrndup(s, len);
        good = option_add(row, base, i, value, expected);
        free(value);
    }
    free(good ? old : *(char **)at);
    if (!good)
        *(char **)at = old;
    return good;
}

bool option_set(const struct option_row *row, void *base, const char *text, char *expected)
{
    static bool (*const set[])(const struct option_row *, void *, const char *, char *) = {
        [OPTION_UINT] = set_number, [OPTION_SIZE] = set_number,   [OPTION_DURATION] = set_number,
        [OPTION_BOOL] = set_bool,   [OPTION_STRING] = set_string, [OPTION_ENUM] = set_enum,
        [OPTION_LIST] = set_list,   [OPTION_SIZE64] = set_number,
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

/* A list as libconfuse reads it: one value as a string. */
static void print_list(const char *list, FILE *out)
{
    unsigned n = config_list_count(list);
    fputs(n > 1 ? "{" : "", out);
    for (unsigned i = 0; i < n || i == 0; i++) {
        size_t len = 0;
        const char *s = config_list_at(list, i, &len);
        char *value = xstrndup(s ? s : "", len);
        fputs(i ? ", " : "", out);
        option_print_string(value, out);
        free(value);
    }
    fputs(n > 1 ? "}" : "", out);
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
    case OPTION_SIZE64:
    case OPTION_DURATION:
        option_format_number(row, number_in(row, at), number, sizeof number);
        fputs(number, out);
        break;
    case OPTION_BOOL:
        fputs(*(const bool *)at ? "true" : "false", out);
        break;
    case OPTION_STRING:
        option_print_string(*(char *const *)at, out);
        break;
    case OPTION_LIST:
        print_list(*(char *const *)at, out);
        break;
    case OPTION_ENUM:
        print_choice(out, row->choices, *(const int *)at);
        break;
    }
}

bool option_same(const struct option_row *row, const void *a, const void *b)
{
    const void *x = (const char *)a + row->offset, *y = (const char *)b + row->offset;
    switch (row->type) {
    case OPTION_BOOL:
        return *(const bool *)x == *(const bool *)y;
    case OPTION_STRING:
    case OPTION_LIST:
        return strcmp(*(char *const *)x, *(char *const *)y) == 0;
    case OPTION_ENUM:
        return *(const int *)x == *(const int *)y;
    default:
        return number_in(row, x) == number_in(row, y);
    }
}
