/*
 * One line on the terminal that says what is going on; nothing when standard error is no terminal.
 */
#ifndef HOLDFAST_BENCH_PROGRESS_H
#define HOLDFAST_BENCH_PROGRESS_H

void progress_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Wipes the line, before something else is printed. */
void progress_clear(void);

#endif
