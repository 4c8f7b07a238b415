/*
 * Log lines. Any module hands an event and its fields in; one write(2) per line takes them to standard error,
 * where the service manager collects them. It keeps no queue and opens no file: a line that the other end
 * does not take is lost, and nothing that a peer chose (client ids, topics) can begin a new line or
 * move a terminal's cursor.
 *
 * A line is put together in a buffer on the stack. A field that no longer fits is left out and the line says
 * cut=true, so that JSON stays JSON.
 */
#include "gateway/base/log.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/utf8.h"

#define VALUE_MAX 256
#define LINE_SIZE 8192
/* Kept free for what ends a line: cut, suppressed, brace, newline. */
#define LINE_TAIL 96

static const char *const level_name[] = {
    [LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARNING] = "warning", [LOG_LEVEL_NOTICE] = "notice",
    [LOG_LEVEL_INFO] = "info",   [LOG_LEVEL_DEBUG] = "debug",
};

static struct {
    enum log_level threshold;
    bool json;
    const char *process;
} setup = {.threshold = LOG_LEVEL_INFO, .process = "holdfast"};

struct line {
    size_t len;
    bool full; /* something did not fit; len is then where it began or later */
    char text[LINE_SIZE];
};

void log_setup(enum log_level threshold, bool json, const char *process)
{
    CHECK(threshold <= LOG_LEVEL_DEBUG);
    setup.threshold = threshold;
    setup.json = json;
    setup.process = process;
}

bool log_level_from_name(const char *name, enum log_level *out)
{
    for (unsigned i = 0; i < sizeof level_name / sizeof level_name[0]; i++) {
        if (strcmp(name, level_name[i]) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}

bool log_wants(struct log_event *e)
{
    if (e->level > setup.threshold)
        return false;
    uint64_t second = clock_us() / 1000000;
    if (e->window_s != second) {
        e->window_s = second;
        e->used = 0;
    }
    if (e->used < (e->per_second ? e->per_second : LOG_BURST))
        return true;
    e->suppressed++;
    counter_add(COUNTER_LOG_SUPPRESSED, 1);
    return false;
}

/* Appends bytes, or sets `full` when they would reach into the tail. */
static void put(struct line *l, const char *s, size_t len)
{
    if (l->full || len > LINE_SIZE - LINE_TAIL - l->len) {
        l->full = true;
        return;
    }
    memcpy(l->text + l->len, s, len);
    l->len += len;
}

static void put_str(struct line *l, const char *s) { put(l, s, strlen(s)); }

/* Appends a byte as \xNN, in JSON as \u00NN. */
static void put_escaped(struct line *l, unsigned char byte)
{
    char s[8];
    snprintf(s, sizeof s, setup.json ? "\\u00%02x" : "\\x%02x", byte);
    put_str(l, s);
}

/* Whether the character may stand as it is: no control character, neither C0 nor C1 (U+0080 - U+009F). */
static bool is_printable(const unsigned char *s, size_t len)
{
    if (len == 1)
        return s[0] >= 0x20 && s[0] < 0x7F;
    return !(len == 2 && s[0] == 0xC2 && s[1] < 0xA0);
}

/* Appends a string's characters, escaped as needed; what is above VALUE_MAX becomes "...". */
static void put_escaped_string(struct line *l, const char *str, size_t len)
{
    const unsigned char *s = (const unsigned char *)str;
    size_t i = 0;
    while (i < len && i < VALUE_MAX) {
        size_t n = utf8_char_len(s + i, len - i);
        if (n && i + n > VALUE_MAX)
            break;
        if (n == 0 || !is_printable(s + i, n)) {
            put_escaped(l, s[i]);
            i++;
            continue;
        }
        if (s[i] == '"' || s[i] == '\\')
            put(l, "\\", 1);
        put(l, (const char *)s + i, n);
        i += n;
    }
    if (i < len)
        put_str(l, "...");
}

/* Whether a text value must be quoted to be read back as one word. */
static bool needs_quotes(const char *s, size_t len)
{
    if (len == 0)
        return true;
    for (size_t i = 0; i < len; i++)
        if (s[i] == ' ' || s[i] == '"' || s[i] == '=')
            return true;
    return false;
}

static void put_string(struct line *l, const char *s, size_t len)
{
    bool quotes = setup.json || needs_quotes(s, len);
    if (quotes)
        put(l, "\"", 1);
    put_escaped_string(l, s, len);
    if (quotes)
        put(l, "\"", 1);
}

/* Begins a field: ` key=`, in JSON `,"key":`. Keys are our own words and need no escaping. */
static void put_key(struct line *l, const char *key)
{
    put_str(l, setup.json ? ",\"" : " ");
    put_str(l, key);
    put_str(l, setup.json ? "\":" : "=");
}

static void put_value(struct line *l, const struct log_field *f)
{
    char number[24];
    switch (f->type) {
    case LOG_FIELD_STR:
        if (f->str)
            put_string(l, f->str, f->len == SIZE_MAX ? strlen(f->str) : f->len);
        else
            put_string(l, "", 0);
        break;
    case LOG_FIELD_U64:
        snprintf(number, sizeof number, "%llu", (unsigned long long)f->num);
        put_str(l, number);
        break;
    case LOG_FIELD_I64:
        snprintf(number, sizeof number, "%lld", (long long)f->num);
        put_str(l, number);
        break;
    }
}

/* What every line begins with: time (UTC, ms), level, process, event. */
static void put_head(struct line *l, const struct log_event *e)
{
    uint64_t ms = clock_wall_ms();
    time_t s = (time_t)(ms / 1000);
    struct tm tm;
    char date[24], head[160];
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", gmtime_r(&s, &tm));
    snprintf(head, sizeof head,
             setup.json ? "{\"time\":\"%s.%03uZ\",\"level\":\"%s\",\"process\":\"%s\",\"event\":\"%s\""
                        : "%s.%03uZ %s %s %s",
             date, (unsigned)(ms % 1000), level_name[e->level], setup.process, e->name);
    put_str(l, head);
}

/* Ends the line in the space that put() left free. */
static void put_tail(struct line *l, const struct log_event *e)
{
    size_t room = LINE_SIZE - l->len;
    char *at = l->text + l->len;
    int n = 0;
    if (l->full)
        n += snprintf(at, room, setup.json ? ",\"cut\":true" : " cut=true");
    if (e->suppressed)
        n += snprintf(at + n, room - (size_t)n, setup.json ? ",\"suppressed\":%u" : " suppressed=%u",
                      e->suppressed);
    n += snprintf(at + n, room - (size_t)n, setup.json ? "}\n" : "\n");
    l->len += (size_t)n;
}

void log_write(struct log_event *e, const struct log_field *fields, size_t n)
{
    if (!log_wants(e))
        return;
    struct line l;
    l.len = 0;
    l.full = false;
    put_head(&l, e);
    for (size_t i = 0; i < n && !l.full; i++) {
        size_t begin = l.len;
        put_key(&l, fields[i].key);
        put_value(&l, &fields[i]);
        if (l.full)
            l.len = begin;
    }
    put_tail(&l, e);
    e->used++;
    e->suppressed = 0;
    if (write(STDERR_FILENO, l.text, l.len) < 0)
        return; /* nobody to tell */
}
