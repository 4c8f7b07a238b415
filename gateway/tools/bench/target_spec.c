/*
 * What --target says, into a struct target. Nothing is started or resolved here; whether a file that is named
 * can be read is found out when the target is started.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/xmalloc.h"
#include "gateway/tools/bench/target.h"

/* ADDRESS:PORT, or PORT on loopback. */
static bool parse_address(const char *s, size_t len, struct sockaddr_in *a)
{
    char text[64];
    if (len == 0 || len >= sizeof text)
        return false;
    memcpy(text, s, len);
    text[len] = 0;
    char *colon = strrchr(text, ':'), *end;
    const char *host = colon ? text : "127.0.0.1", *port = colon ? colon + 1 : text;
    if (colon)
        *colon = 0;
    long n = strtol(port, &end, 10);
    *a = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)n)};
    return *end == 0 && end != port && n > 0 && n < 65536 && inet_pton(AF_INET, host, &a->sin_addr) == 1;
}

/* Where the value of `word=` begins in `text`, or NULL. */
static const char *value_of(const char *text, size_t len, const char *word)
{
    size_t n = strlen(word);
    return len > n + 1 && strncmp(text, word, n) == 0 && text[n] == '=' ? text + n + 1 : NULL;
}

/* Copies a value, in place of an earlier one. */
static bool set_text(char **into, const char *value, const char *end)
{
    free(*into);
    *into = xstrndup(value, (size_t)(end - value));
    return true;
}

static bool set_pid(struct target *t, const char *value, const char *end)
{
    char *stop;
    t->pid = (pid_t)strtol(value, &stop, 10);
    return t->kind == TARGET_RUNNING && stop == end && t->pid > 0;
}

/* One option. */
static bool take_option(struct target *t, const char *text, size_t len)
{
    static const struct {
        const char *word;
        uint8_t version;
    } versions[] = {{"tls", 0}, {"tls12", 12}, {"tls13", 13}};
    const char *value, *end = text + len;
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        if (strlen(versions[i].word) == len && memcmp(text, versions[i].word, len) == 0) {
            t->tls.on = true;
            t->tls.version = versions[i].version;
            return true;
        }
    }
    if (len == 3 && memcmp(text, "rsa", 3) == 0)
        return t->kind != TARGET_RUNNING && (t->rsa = true);
    if ((value = value_of(text, len, "pid")))
        return set_pid(t, value, end);
    if ((value = value_of(text, len, "ciphers")))
        return set_text(&t->tls.ciphers, value, end);
    if ((value = value_of(text, len, "ca")))
        return set_text(&t->tls.ca, value, end);
    if ((value = value_of(text, len, "name")))
        return set_text(&t->tls.name, value, end);
    return false;
}

/* Whether there is anything about TLS that would be without effect. */
static bool is_half_tls(const struct target *t)
{
    return !t->tls.on && (t->rsa || t->tls.ciphers || t->tls.ca || t->tls.name);
}

/* "[,OPTION]..." up to `end`. */
static bool take_options(struct target *t, const char *s, const char *end)
{
    while (s < end) {
        if (*s++ != ',')
            return false;
        const char *comma = memchr(s, ',', (size_t)(end - s)), *next = comma ? comma : end;
        if (!take_option(t, s, (size_t)(next - s)))
            return false;
        s = next;
    }
    return !is_half_tls(t);
}

/* [tls://]ADDRESS:PORT[,OPTION]... */
static bool parse_running(struct target *t, const char *s)
{
    t->kind = TARGET_RUNNING;
    if (strncmp(s, "tls://", 6) == 0) {
        t->tls.on = true;
        s += 6;
    }
    size_t n = strcspn(s, ",");
    return parse_address(s, n, &t->address) && take_options(t, s + n, s + strlen(s));
}

/* cmd[,OPTION]...:COMMAND */
static bool parse_command(struct target *t, const char *s)
{
    const char *colon = strchr(s, ':');
    t->kind = TARGET_COMMAND;
    if (!colon || !take_options(t, s + 3, colon))
        return false;
    t->command = xstrdup(colon + 1);
    return true;
}

/* floor-tls[,OPTION]... */
static bool parse_floor_tls(struct target *t, const char *s)
{
    t->kind = TARGET_FLOOR;
    t->tls.on = true;
    return take_options(t, s + 9, s + strlen(s));
}

/* Whether `s` begins with a word and an option or its end behind it. */
static bool begins_with(const char *s, const char *word, char end)
{
    size_t n = strlen(word);
    return strncmp(s, word, n) == 0 && (s[n] == ',' || s[n] == end);
}

/* The name stands before the first '=' unless a comma does. */
static const char *take_name(struct target *t, const char *spec)
{
    size_t n = strcspn(spec, "=,");
    const char *rest = spec[n] == '=' ? spec + n + 1 : spec;
    if (n == 0 || n >= sizeof t->name)
        return NULL;
    memcpy(t->name, spec, n);
    return rest;
}

/* Everything behind the name. */
static bool parse(struct target *t, const char *spec)
{
    const char *rest = take_name(t, spec);
    if (!rest)
        return false;
    if (strcmp(spec, "floor") == 0)
        return true;
    if (begins_with(rest, "floor-tls", '\0'))
        return parse_floor_tls(t, rest);
    if (rest == spec)
        return false;
    return begins_with(rest, "cmd", ':') ? parse_command(t, rest) : parse_running(t, rest);
}

struct target *target_parse(const char *spec)
{
    struct target *t = xcalloc(1, sizeof *t);
    t->spec = xstrdup(spec);
    if (parse(t, spec))
        return t;
    fprintf(stderr,
            "--target %s: expected floor, [NAME=]floor-tls[,OPTION]..., NAME=ADDRESS:PORT[,pid=PID], "
            "NAME=tls://ADDRESS:PORT[,OPTION]... or NAME='cmd[,OPTION]...:COMMAND'\n",
            spec);
    target_free(t);
    return NULL;
}

void target_free(struct target *t)
{
    free(t->spec);
    free(t->command);
    free(t->tls.ciphers);
    free(t->tls.ca);
    free(t->tls.name);
    free(t);
}

bool target_is_tls_floor_of(const struct target *floor, const struct target *t)
{
    bool v12 = t->tls.version == 12, floor_v12 = floor->tls.version == 12;
    return floor->kind == TARGET_FLOOR && floor->tls.on && t->kind != TARGET_FLOOR && t->tls.on &&
           v12 == floor_v12 && t->rsa == floor->rsa;
}
