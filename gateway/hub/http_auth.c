/*
 * Bearer tokens (RFC 6750) of the HTTP API, from a file with one token per line. Read once, when the hub
 * starts. A file that was asked for but cannot be read lets nobody in: the API must not become open by an
 * accident. Tokens are never logged.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"
#include "gateway/hub/http_api.h"

#define MAX_TOKENS   1000u
#define MAX_TOKEN    1024u
#define BEARER       "Bearer "
#define BEARER_CHARS (sizeof BEARER - 1)

LOG_EVENT(unreadable_event, "token_file_unreadable", LOG_LEVEL_ERROR);
LOG_EVENT(exposed_event, "token_file_readable_by_others", LOG_LEVEL_WARNING);
LOG_EVENT(loaded_event, "token_file_loaded", LOG_LEVEL_NOTICE);
LOG_EVENT(empty_event, "token_file_empty", LOG_LEVEL_WARNING);
LOG_EVENT(line_event, "token_file_line_ignored", LOG_LEVEL_WARNING);
LOG_EVENT(open_event, "api_without_tokens", LOG_LEVEL_NOTICE);

struct http_tokens {
    unsigned count;
    char *token[MAX_TOKENS];
};

/* Cuts white space off both ends, in place. */
static char *trimmed(char *line)
{
    line += strspn(line, " \t\r\n");
    size_t len = strlen(line);
    while (len > 0 && strchr(" \t\r\n", line[len - 1]))
        line[--len] = 0;
    return line;
}

/* Takes the tokens of an open file. */
static void read_tokens(struct http_tokens *t, FILE *f)
{
    char *line = NULL;
    size_t room = 0;
    for (unsigned number = 1; getline(&line, &room, f) >= 0; number++) {
        const char *token = trimmed(line);
        if (*token == 0 || *token == '#')
            continue;
        if (strlen(token) > MAX_TOKEN || strpbrk(token, " \t") || t->count == MAX_TOKENS)
            LOG(line_event, LOG_U64("line", number));
        else
            t->token[t->count++] = xstrdup(token);
    }
    if (line)
        explicit_bzero(line, room);
    free(line);
}

struct http_tokens *http_tokens_load(const char *path, int fd)
{
    if (*path == 0) {
        LOG(open_event, LOG_STR("hint", "everybody who reaches the API's address may use it"));
        return NULL;
    }
    struct http_tokens *t = xcalloc(1, sizeof *t);
    FILE *f = fd >= 0 && lseek(fd, 0, SEEK_SET) == 0 ? fdopen(fd, "r") : NULL;
    if (!f) {
        LOG(unreadable_event, LOG_STR("file", path), LOG_STR("error", strerror(errno)),
            LOG_STR("effect", "the API lets nobody in"));
        return t;
    }
    struct stat st;
    if (fstat(fileno(f), &st) == 0 && (st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        LOG(exposed_event, LOG_STR("file", path));
    read_tokens(t, f);
    fclose(f);
    if (t->count > 0)
        LOG(loaded_event, LOG_STR("file", path), LOG_U64("tokens", t->count));
    else
        LOG(empty_event, LOG_STR("file", path), LOG_STR("effect", "the API lets nobody in"));
    return t;
}

void http_tokens_free(struct http_tokens *t)
{
    if (!t)
        return;
    for (unsigned i = 0; i < t->count; i++) {
        explicit_bzero(t->token[i], strlen(t->token[i]));
        free(t->token[i]);
    }
    free(t);
}

/* Compares in a time that depends on the length of what was presented alone, not on where the two differ. */
static bool same_token(const char *presented, size_t len, const char *token)
{
    size_t token_len = strlen(token);
    volatile unsigned char diff = (unsigned char)(len != token_len);
    for (size_t i = 0; i < len; i++)
        diff |= (unsigned char)(presented[i] ^ token[token_len ? i % token_len : 0]);
    return diff == 0;
}

bool http_tokens_allow(const struct http_tokens *t, const char *authorization)
{
    if (!t)
        return true;
    if (!authorization || strncasecmp(authorization, BEARER, BEARER_CHARS) != 0)
        return false;
    const char *presented = authorization + BEARER_CHARS;
    presented += strspn(presented, " ");
    size_t len = strlen(presented);
    while (len > 0 && presented[len - 1] == ' ')
        len--;
    bool found = false;
    for (unsigned i = 0; i < t->count; i++)
        found |= same_token(presented, len, t->token[i]);
    return found && len > 0;
}
