/*
 * Topic names, topic filters and UTF-8, as plain functions on byte ranges. The decoder asks them about what
 * a peer sent, the gateway about what its configuration and its API say. Matching here is the definition,
 * one pair at a time; looking up many filters at once is the topic tree's work.
 */
#include "proto/mqtt_topic.h"

#include <stdint.h>
#include <string.h>

#include "proto/mqtt_wire.h"

#define SHARE_PREFIX     "$share/"
#define SHARE_PREFIX_LEN (sizeof SHARE_PREFIX - 1)

/* The number of leading bytes, in steps of 8, that are ASCII and not 0. */
static size_t ascii_run(const unsigned char *s, size_t len)
{
    const uint64_t high = 0x8080808080808080u, ones = 0x0101010101010101u;
    size_t i = 0;

    for (; i + 8 <= len; i += 8) {
        uint64_t w;
        memcpy(&w, s + i, 8);
        if ((w | (w - ones)) & high)
            break;
    }
    return i;
}

/* The size of the well-formed character at s, or 0 (RFC 3629 section 4, without U+0000). */
static size_t utf8_char(const unsigned char *s, size_t len)
{
    unsigned c = s[0], n = c < 0x80 ? 1 : c < 0xC2 ? 0 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF5 ? 4 : 0;

    if (c == 0 || n == 0 || n > len)
        return 0;
    for (unsigned i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    if ((c == 0xE0 && s[1] < 0xA0) || (c == 0xF0 && s[1] < 0x90)) /* more bytes than needed */
        return 0;
    if ((c == 0xED && s[1] > 0x9F) || (c == 0xF4 && s[1] > 0x8F)) /* surrogates; above U+10FFFF */
        return 0;
    return n;
}

bool mqtt_utf8_valid(const char *str, size_t len)
{
    const unsigned char *s = (const unsigned char *)str;

    for (size_t i = ascii_run(s, len); i < len;) {
        size_t n = utf8_char(s + i, len - i);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

bool mqtt_topic_has_wildcard(const char *s, size_t len)
{
    return len && (memchr(s, '+', len) || memchr(s, '#', len));
}

bool mqtt_topic_name_valid(const char *s, size_t len)
{
    return len >= 1 && len <= MQTT_MAX_STRING && !mqtt_topic_has_wildcard(s, len) && mqtt_utf8_valid(s, len);
}

bool mqtt_topic_filter_shape(const char *s, size_t len)
{
    if (len < 1 || len > MQTT_MAX_STRING)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (s[i] != '+' && s[i] != '#')
            continue;
        if (i > 0 && s[i - 1] != '/')
            return false;
        if (i + 1 < len && (s[i] == '#' || s[i + 1] != '/'))
            return false;
    }
    return true;
}

bool mqtt_topic_filter_valid(const char *s, size_t len)
{
    return mqtt_topic_filter_shape(s, len) && mqtt_utf8_valid(s, len);
}

unsigned mqtt_topic_levels(const char *s, size_t len)
{
    unsigned n = 1;

    for (size_t i = 0; i < len; i++)
        n += s[i] == '/';
    return n;
}

/* Where the level that begins at `from` ends: at a '/' or at len. */
static size_t level_end(const char *s, size_t from, size_t len)
{
    while (from < len && s[from] != '/')
        from++;
    return from;
}

bool mqtt_topic_matches(const char *filter, size_t filter_len, const char *name, size_t name_len)
{
    size_t f = 0, n = 0;

    if (filter_len && name_len && name[0] == '$' && (filter[0] == '+' || filter[0] == '#'))
        return false;
    for (;;) {
        if (f < filter_len && filter[f] == '#')
            return true;
        size_t fe = level_end(filter, f, filter_len), ne = level_end(name, n, name_len);
        bool plus = fe - f == 1 && filter[f] == '+';
        if (!plus && (fe - f != ne - n || memcmp(filter + f, name + n, ne - n) != 0))
            return false;
        if (ne == name_len) /* "sport/#" also matches "sport" */
            return fe == filter_len || (filter_len - fe == 2 && filter[fe + 1] == '#');
        if (fe == filter_len)
            return false;
        f = fe + 1;
        n = ne + 1;
    }
}

bool mqtt_topic_is_shared(const char *s, size_t len)
{
    return len >= SHARE_PREFIX_LEN && memcmp(s, SHARE_PREFIX, SHARE_PREFIX_LEN) == 0;
}

bool mqtt_topic_share_shape(const char *s, size_t len)
{
    if (!mqtt_topic_is_shared(s, len))
        return true;
    size_t end = level_end(s, SHARE_PREFIX_LEN, len);
    size_t name_len = end - SHARE_PREFIX_LEN;
    return name_len > 0 && !mqtt_topic_has_wildcard(s + SHARE_PREFIX_LEN, name_len) && end + 1 < len;
}

bool mqtt_topic_is_reserved(const char *s, size_t len)
{
    static const struct {
        const char *level;
        size_t len;
    } rows[] = {{"$SYS", 4}, {"$share", 6}};
    for (size_t i = 0; len && s[0] == '$' && i < sizeof rows / sizeof rows[0]; i++)
        if (level_end(s, 0, len) == rows[i].len && memcmp(s, rows[i].level, rows[i].len) == 0)
            return true;
    return false;
}

size_t mqtt_topic_share_filter(const char *s, size_t len)
{
    if (!mqtt_topic_is_shared(s, len) || !mqtt_topic_share_shape(s, len))
        return 0;
    return level_end(s, SHARE_PREFIX_LEN, len) + 1;
}
