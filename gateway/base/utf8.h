/*
 * Well-formed UTF-8 (RFC 3629 section 4): no overlong forms, no surrogates, nothing above U+10FFFF.
 */
#ifndef HOLDFAST_BASE_UTF8_H
#define HOLDFAST_BASE_UTF8_H

#include <stddef.h>

/* The length (1-4) of the character that the n > 0 bytes at s begin with, or 0 if they begin with none. */
static inline size_t utf8_char_len(const unsigned char *s, size_t n)
{
    static const struct {
        unsigned char first_min, first_max, second_min, second_max, len;
    } form[] = {
        {0x00, 0x7F, 0, 0, 1},       {0xC2, 0xDF, 0x80, 0xBF, 2}, {0xE0, 0xE0, 0xA0, 0xBF, 3},
        {0xE1, 0xEC, 0x80, 0xBF, 3}, {0xED, 0xED, 0x80, 0x9F, 3}, {0xEE, 0xEF, 0x80, 0xBF, 3},
        {0xF0, 0xF0, 0x90, 0xBF, 4}, {0xF1, 0xF3, 0x80, 0xBF, 4}, {0xF4, 0xF4, 0x80, 0x8F, 4},
    };
    for (size_t i = 0; i < sizeof form / sizeof form[0]; i++) {
        if (s[0] < form[i].first_min || s[0] > form[i].first_max)
            continue;
        size_t len = form[i].len;
        if (n < len || (len > 1 && (s[1] < form[i].second_min || s[1] > form[i].second_max)))
            return 0;
        for (size_t k = 2; k < len; k++)
            if (s[k] < 0x80 || s[k] > 0xBF)
                return 0;
        return len;
    }
    return 0;
}

#endif
