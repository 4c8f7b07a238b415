/*
 * What is printed from the table of options: the sample configuration and the OPTIONS part of the manual
 * page. `holdfast options` asks for it when these files are made, and the tests to see that they are up to
 * date. It knows no configuration in force; config.c prints that.
 */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/options.h"

/* Prints text in lines of at most `width` characters, each after a prefix. */
static void print_wrapped(FILE *out, const char *prefix, size_t width, const char *text)
{
    while (*text) {
        size_t len = strlen(text);
        if (len > width) {
            len = width;
            while (len > 0 && text[len] != ' ')
                len--;
            if (len == 0)
                len = strcspn(text, " ");
        }
        fprintf(out, "%s%.*s\n", prefix, (int)len, text);
        text += len;
        while (*text == ' ')
            text++;
    }
}

/* Prints the words of `choices` ("a|b|c") as "a, b or c", each between two marks. */
static void print_choices(FILE *out, const char *choices, const char *open, const char *close)
{
    for (const char *s = choices; *s;) {
        size_t len = strcspn(s, "|");
        const char *next = s + len + (s[len] == '|');
        const char *between = s == choices ? "" : *next ? ", " : " or ";
        fprintf(out, "%s%s%.*s%s", between, open, (int)len, s, close);
        s = next;
    }
}

/* What kind of value it takes, in a word. */
static const char *type_word(const struct option_row *row)
{
    static const char *const word[] = {
        [OPTION_UINT] = "number",  [OPTION_SIZE] = "size",     [OPTION_DURATION] = "duration",
        [OPTION_BOOL] = "boolean", [OPTION_STRING] = "string", [OPTION_ENUM] = "word",
        [OPTION_LIST] = "list",    [OPTION_SIZE64] = "size",
    };
    return row->choices ? "word" : word[row->type];
}

static bool is_number(const struct option_row *row)
{
    return row->type == OPTION_UINT || row->type == OPTION_SIZE || row->type == OPTION_SIZE64 ||
           row->type == OPTION_DURATION;
}

/* One line of facts: values allowed, default, when a change takes effect. A default that is very long is left
 * out when it stands in the next line anyway. */
static void print_facts(FILE *out, const struct option_row *row, bool default_follows)
{
    if (is_number(row)) {
        char min[32], max[32];
        option_format_number(row, row->min, min, sizeof min);
        option_format_number(row, row->max, max, sizeof max);
        bool has_unit = row->type != OPTION_DURATION;
        fprintf(out, "From %s to %s%s%s.", min, max, has_unit ? " " : "", has_unit ? row->unit : "");
    } else if (row->type == OPTION_BOOL) {
        fprintf(out, "One of true or false.");
    } else if (row->choices) {
        fprintf(out, strchr(row->choices, '|') ? "One of " : "Only ");
        print_choices(out, row->choices, "", "");
        fprintf(out, ".");
    } else {
        fprintf(out, row->type == OPTION_LIST ? "A string, or several as {\"a\", \"b\"}." : "A string.");
    }
    const char *quote = !row->choices && (row->type == OPTION_STRING || row->type == OPTION_LIST) ? "\"" : "";
    if (!default_follows || strlen(row->default_text) <= 60)
        fprintf(out, " Default: %s%s%s.", quote, row->default_text, quote);
    fprintf(out, " Changes take effect at %s.", row->reloadable ? "reload" : "restart");
}

/* The option with its default, as a line of a file. An option without a sensible default shows an example. */
static void print_sample_option(FILE *out, const struct option_row *row, const char *indent)
{
    char prefix[16];
    snprintf(prefix, sizeof prefix, "%s# ", indent);
    print_wrapped(out, prefix, 100, row->help);
    fprintf(out, "%s", prefix);
    print_facts(out, row, true);
    const char *quote = is_number(row) || row->type == OPTION_BOOL ? "" : "\"";
    const char *value = row->sample ? row->sample : row->default_text;
    fprintf(out, "\n%s%s = %s%s%s\n", indent, row->name, quote, value, quote);
}

/* One section with all its options. */
static void print_sample_section(FILE *out, const struct option_section *s)
{
    bool top = *s->name == '\0';
    const char *mark = s->absent ? "#" : "", *indent = top ? "" : s->absent ? "#    " : "    ";
    fprintf(out, "\n");
    print_wrapped(out, "## ", 100, s->help);
    if (s->max)
        fprintf(out, "%s%s \"%s\" {\n", mark, s->name, s->title);
    else if (!top)
        fprintf(out, "%s {\n", s->name);
    bool first = !top;
    for (const struct option_row *row = options_table(); row->name; row++) {
        if (strcmp(row->section, s->name) != 0)
            continue;
        fprintf(out, "%s", first ? "" : s->absent ? "#\n" : "\n");
        print_sample_option(out, row, indent);
        first = false;
    }
    if (!top)
        fprintf(out, "%s}\n", mark);
}

void options_print_sample(FILE *out)
{
    fprintf(
        out,
        "# Configuration of the Holdfast push gateway: every option with its default, so that a line may be\n"
        "# changed or left out. What begins with # and no blank is an example that is not in force. See "
        "holdfast.conf(5). `holdfast check -c FILE` says whether a file is "
        "right.\n"
        "#\n"
        "# Sizes take the suffixes K, M and G (of 1024), durations need one of ms, s, m and h. Strings are\n"
        "# quoted. A comment begins with #.\n");
    for (const struct option_section *s = options_sections(); s->name; s++)
        print_sample_section(out, s);
}

/* Prints one word; none may be taken for a request or an escape. */
static void print_mdoc_word(FILE *out, const char *word, size_t len, bool line_start)
{
    if (line_start && (*word == '.' || *word == '\''))
        fprintf(out, "\\&");
    for (size_t i = 0; i < len; i++) {
        if (word[i] == '\\')
            fprintf(out, "\\e");
        else if (word[i] == ':' && i + 1 < len && len > 40) /* a long list of names may be broken here */
            fprintf(out, ":\\:");
        else
            fputc(word[i], out);
    }
}

/* Prints prose as mdoc: each sentence begins a line, and no line is longer than mandoc likes. */
static void print_mdoc_text(FILE *out, const char *text)
{
    size_t column = 0;
    bool sentence_end = false;
    while (*text) {
        size_t len = strcspn(text, " ");
        if (column > 0 && (sentence_end || column + 1 + len > 78)) {
            fputc('\n', out);
            column = 0;
        } else if (column > 0) {
            fputc(' ', out);
            column++;
        }
        print_mdoc_word(out, text, len, column == 0);
        column += len;
        sentence_end = text[len - 1] == '.';
        text += len + (text[len] == ' ');
    }
    fputc('\n', out);
}

static void print_mdoc_option(FILE *out, const struct option_row *row)
{
    fprintf(out, ".It Ic %s No = Ar %s\n", row->name, type_word(row));
    print_mdoc_text(out, row->help);
    char *facts = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&facts, &size);
    if (!to)
        return;
    print_facts(to, row, false);
    if (fclose(to) == 0)
        print_mdoc_text(out, facts);
    free(facts);
}

void options_print_mdoc(FILE *out)
{
    for (const struct option_section *s = options_sections(); s->name; s++) {
        if (*s->name == '\0')
            fprintf(out, ".Ss Top level\n");
        else
            fprintf(out, ".Ss Section %s\n", s->name);
        print_mdoc_text(out, s->help);
        fprintf(out, ".Bl -tag -width Ds\n");
        for (const struct option_row *row = options_table(); row->name; row++)
            if (strcmp(row->section, s->name) == 0)
                print_mdoc_option(out, row);
        fprintf(out, ".El\n");
    }
}
