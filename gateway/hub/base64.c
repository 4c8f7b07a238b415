/*
 * The base64 decoder of the HTTP API: JSON strings in, bytes out. It is strict so that one payload has one
 * spelling and a mistake is told instead of guessed at. Nothing is encoded here; answers carry no bytes.
 */
#include "gateway/hub/base64.h"

#include <stdint.h>

/* The value of a character, or -1. */
static int value_of(unsigned char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decodes one group of four characters with 0, 1 or 2 of padding; false if it is none. */
static bool decode_group(const char *text, unsigned padding, unsigned char *out)
{
    uint32_t bits = 0;
    for (unsigned i = 0; i < 4; i++) {
        int v = i < 4 - padding ? value_of((unsigned char)text[i]) : 0;
        if (v < 0)
            return false;
        bits = bits << 6 | (uint32_t)v;
    }
    for (unsigned i = 0; i < 3 - padding; i++)
        out[i] = (unsigned char)(bits >> (16 - 8 * i));
    return padding == 0 || (bits & ((1u << (8 * padding)) - 1)) == 0;
}

bool base64_decode(const char *text, size_t len, void *out, size_t *out_len)
{
    if (len % 4 != 0)
        return false;
    unsigned padding = 0;
    while (padding < 2 && padding < len && text[len - 1 - padding] == '=')
        padding++;
    unsigned char *to = out;
    for (size_t i = 0; i < len; i += 4, to += 3)
        if (!decode_group(text + i, i + 4 == len ? padding : 0, to))
            return false;
    *out_len = base64_decoded_max(len) - padding;
    return true;
}
