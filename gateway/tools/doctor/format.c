/*
 * Writes numbers as the reports show them. No locale is asked: the same on every machine.
 */
#include "gateway/tools/doctor/format.h"

#include <stdio.h>
#include <string.h>

/* Groups of three digits. */
char *format_count(char text[FORMAT_MAX], uint64_t n)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
    char *out = text;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            *out++ = ',';
        *out++ = digits[i];
    }
    *out = '\0';
    return text;
}

/* Groups of three digits and one behind the point. */
char *format_tenths(char text[FORMAT_MAX], double n)
{
    uint64_t tenths = n > 0 ? (uint64_t)(n * 10 + 0.5) : 0;
    format_count(text, tenths / 10);
    size_t len = strlen(text);
    snprintf(text + len, FORMAT_MAX - len, ".%u", (unsigned)(tenths % 10));
    return text;
}

/* Binary units. */
char *format_bytes(char text[FORMAT_MAX], double bytes)
{
    static const char *const unit[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    unsigned u = 0;
    for (; bytes >= 1024 && u + 1 < sizeof unit / sizeof unit[0]; u++)
        bytes /= 1024;
    int decimals = u == 0 || bytes >= 100 ? 0 : bytes >= 10 ? 1 : 2;
    snprintf(text, FORMAT_MAX, "%.*f %s", decimals, bytes, unit[u]);
    return text;
}
