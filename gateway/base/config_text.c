/*
 * Works on the text of a configuration file in place. config.c feeds it and hands the result to libconfuse,
 * which alone decides what the text means: here only comments, strings, words and braces are told apart.
 *
 * Comments are taken out beforehand because libconfuse 3.3 counts a line too many for each C comment, takes
 * `//x` for a word, and refuses comments inside a statement.
 */
#include "gateway/base/config_text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "gateway/base/xmalloc.h"

char *config_text_read(const char *path, const char **why)
{
    FILE *f = fopen(path, "re");
    if (!f) {
        *why = strerror(errno);
        return NULL;
    }
    struct stat st;
    if (fstat(fileno(f), &st) == 0 && S_ISDIR(st.st_mode)) {
        *why = strerror(EISDIR);
        fclose(f);
        return NULL;
    }
    char *text = xmalloc(CONFIG_TEXT_MAX + 1);
    size_t len = fread(text, 1, CONFIG_TEXT_MAX + 1, f);
    *why = ferror(f) ? strerror(errno) : len > CONFIG_TEXT_MAX ? "larger than 1 MiB" : NULL;
    fclose(f);
    if (!*why && memchr(text, '\0', len))
        *why = "not a text file (it holds a NUL byte)";
    if (*why) {
        free(text);
        return NULL;
    }
    text[len] = '\0';
    return text;
}

/* Whether the character can be part of an unquoted word. */
static bool is_word(char c) { return c && !strchr(" \t\r\n#\"'={}()+,*", c); }

static void blank(char *from, const char *to)
{
    for (; from < to; from++)
        if (*from != '\n')
            *from = ' ';
}

/* The end of the quoted string that begins at s: behind its closing quote, or at the end of the line or of
 * the text if it is not closed there. A backslash carries a string on into the next line. */
static char *string_end(char *s)
{
    char quote = *s++;
    while (*s && *s != quote && *s != '\n')
        s += s[0] == '\\' && s[1] ? 2 : 1;
    return *s == quote ? s + 1 : s;
}

/* The end of the comment that begins at s, or s itself if none does. NULL: it is never closed. */
static char *comment_end(char *s)
{
    if (s[0] == '#' || (s[0] == '/' && s[1] == '/'))
        return s + strcspn(s, "\n");
    if (s[0] == '/' && s[1] == '*') {
        char *end = strstr(s + 2, "*/");
        return end ? end + 2 : NULL;
    }
    return s;
}

static unsigned count_lines(const char *from, const char *to)
{
    unsigned n = 0;
    for (; from < to; from++)
        n += *from == '\n';
    return n;
}

/* The end of the word, string, or single character at s. */
static char *token_end(char *s)
{
    if (*s == '"' || *s == '\'')
        return string_end(s);
    if (!is_word(*s))
        return s + 1;
    while (is_word(*s))
        s++;
    return s;
}

/* What is wrong with the token from s to end, or NULL. libconfuse would read strings over the end of a line
 * and take a|b for option b of section a. */
static const char *token_fault(const char *s, const char *end)
{
    if ((*s == '"' || *s == '\'') && (end == s + 1 || end[-1] != *s))
        return "this string is not closed, expected a quote";
    if (is_word(*s) && memchr(s, '|', (size_t)(end - s)))
        return "unexpected |, expected a name or a quoted string";
    return NULL;
}

/* Blanks the comments out; false: *line and *why say what cannot be read. */
static bool strip_comments(char *text, unsigned *line, const char **why)
{
    *line = 1;
    for (char *s = text; *s;) {
        char *end = comment_end(s);
        if (!end) {
            *why = "this comment is not closed, expected */";
            return false;
        }
        if (end > s) {
            blank(s, end);
        } else {
            end = token_end(s);
            *why = token_fault(s, end);
            if (*why)
                return false;
        }
        *line += count_lines(s, end);
        s = end;
    }
    return true;
}

/* False: *line is the line of a brace that is never closed, which libconfuse would not mind. */
static bool braces_are_closed(char *text, unsigned *line)
{
    enum { DEPTH = 8 }; /* sections lie one deep; what is deeper is wrong anyway */
    unsigned opened[DEPTH], depth = 0, at_line = 1;
    for (char *s = text, *end; *s; s = end) {
        if (*s == '{' && depth < DEPTH)
            opened[depth++] = at_line;
        else if (*s == '}' && depth > 0)
            depth--;
        end = token_end(s);
        at_line += count_lines(s, end);
    }
    if (depth > 0)
        *line = opened[depth - 1];
    return depth == 0;
}

bool config_text_strip(char *text, unsigned *line, const char **why)
{
    if (!strip_comments(text, line, why))
        return false;
    *why = "this { is not closed, expected }";
    return braces_are_closed(text, line);
}

static char *skip_blanks(char *s) { return s + strspn(s, " \t\r\n"); }

/* The end of the block whose opening brace is at s: behind its closing brace, or at the NUL. */
static char *block_end(char *s)
{
    unsigned depth = 0;
    while (*s) {
        depth += *s == '{';
        depth -= *s == '}';
        s = token_end(s);
        if (depth == 0)
            break;
    }
    return s;
}

/* The end of the statement whose name ends at s, or NULL if nothing that looks like one follows. */
static char *statement_end(char *s)
{
    s = skip_blanks(s);
    if (*s == '=') {
        s = skip_blanks(s + 1);
        return is_word(*s) || *s == '"' || *s == '\'' ? token_end(s) : *s == '{' ? block_end(s) : NULL;
    }
    if (is_word(*s) || *s == '"' || *s == '\'')
        s = skip_blanks(token_end(s));
    return *s == '{' ? block_end(s) : NULL;
}

bool config_text_erase(char *text, unsigned line, const char *name)
{
    size_t name_len = strlen(name);
    unsigned at_line = 1;
    bool is_value = false;
    for (char *s = text; *s && at_line <= line;) {
        char *end = token_end(s);
        bool here = at_line == line && !is_value && is_word(*s) && (size_t)(end - s) == name_len &&
                    memcmp(s, name, name_len) == 0;
        char *last = here ? statement_end(end) : NULL;
        if (last) {
            blank(s, last);
            return true;
        }
        if (!strchr(" \t\r\n", *s))
            is_value = *s == '=';
        at_line += count_lines(s, end);
        s = end;
    }
    return false;
}

unsigned config_text_section(const char *text, const char *name, unsigned nth)
{
    size_t name_len = strlen(name);
    unsigned at_line = 1, depth = 0;
    bool is_value = false;
    for (char *s = (char *)text, *end; *s; s = end) {
        end = token_end(s);
        depth += *s == '{';
        depth -= *s == '}' && depth > 0;
        if (depth == 0 && !is_value && (size_t)(end - s) == name_len && memcmp(s, name, name_len) == 0 &&
            nth-- == 0)
            return at_line;
        if (!strchr(" \t\r\n", *s))
            is_value = *s == '=';
        at_line += count_lines(s, end);
    }
    return 0;
}

unsigned config_text_last_line(const char *text)
{
    size_t len = strlen(text);
    while (len > 0 && strchr(" \t\r\n", text[len - 1]))
        len--;
    return 1 + count_lines(text, text + len);
}
