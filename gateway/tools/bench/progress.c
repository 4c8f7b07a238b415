/*
 * The progress line: written over itself, cut to the terminal's width.
 */
#include "gateway/tools/bench/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

void progress_line(const char *format, ...)
{
    if (!isatty(2))
        return;
    struct winsize w = {0};
    int width = ioctl(2, TIOCGWINSZ, &w) == 0 && w.ws_col > 1 ? w.ws_col - 1 : 79;
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(stderr, "\r\x1b[K%.*s", width, text);
}

void progress_clear(void)
{
    if (isatty(2))
        fputs("\r\x1b[K", stderr);
}
