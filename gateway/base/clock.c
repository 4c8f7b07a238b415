/*
 * The process's clocks. The event loop calls clock_update() once per turn; everything that compares deadlines
 * reads the cached value, so that one turn sees one time. Tests replace all of it by a number.
 */
#include "gateway/base/clock.h"

#include <time.h>

/* Added to the monotonic clock, which may start near 0 at boot: 0 means "no deadline" in many records. */
#define CLOCK_OFFSET_MS 1000000

static uint64_t cached_ms;
static bool faked;

/* Reads one of the system's clocks in microseconds. */
static uint64_t read_us(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* The cached time; the very first reading fills the cache. */
uint64_t clock_ms(void) { return cached_ms ? cached_ms : clock_update(); }

/* Refreshes the cache. */
uint64_t clock_update(void)
{
    if (!faked)
        cached_ms = read_us(CLOCK_MONOTONIC) / 1000 + CLOCK_OFFSET_MS;
    return cached_ms;
}

/* Now, for measuring how long something takes. */
uint64_t clock_us(void)
{
    return faked ? cached_ms * 1000 : read_us(CLOCK_MONOTONIC) + CLOCK_OFFSET_MS * UINT64_C(1000);
}

/* The date, for what is compared with other machines. */
uint64_t clock_wall_ms(void) { return faked ? cached_ms : read_us(CLOCK_REALTIME) / 1000; }

/* Stops all clocks at ms. */
void clock_fake(uint64_t ms)
{
    faked = true;
    cached_ms = ms;
}

/* Lets them run again. */
void clock_real(void)
{
    faked = false;
    clock_update();
}
