/*
 * Time, in one place, so that tests can set it. The cached reading is refreshed once per turn of the event
 * loop (clock_update) and costs a load to read.
 */
#ifndef HOLDFAST_BASE_CLOCK_H
#define HOLDFAST_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* Milliseconds of CLOCK_MONOTONIC as of the last clock_update(); starts well above 0. */
uint64_t clock_ms(void);

/* Reads the monotonic clock (no system call: vDSO), stores and returns it in milliseconds. No effect under a
 * fake clock. */
uint64_t clock_update(void);

/* Microseconds of CLOCK_MONOTONIC, read now. Under a fake clock: the fake time. */
uint64_t clock_us(void);

/* Milliseconds since the Unix epoch, read now. Under a fake clock: the fake time. */
uint64_t clock_wall_ms(void);

/* From here on all four report `ms` until it is set again. For tests. */
void clock_fake(uint64_t ms);

/* Back to the real clock. */
void clock_real(void);

#endif
