/*
 * Ctrl-C and SIGTERM end a run early but cleanly: everything that waits looks here.
 */
#ifndef HOLDFAST_BENCH_INTERRUPT_H
#define HOLDFAST_BENCH_INTERRUPT_H

#include <stdbool.h>
#include <stdint.h>

void interrupt_install(void);
bool interrupted(void);

/* Sleeps; false when it was interrupted. */
bool sleep_ms(uint64_t ms);
bool sleep_ns(uint64_t ns);

#endif
