/*
 * One flag, set by the signal handler of the coordinator. Client processes and servers are ended by it, they
 * do not take the signal themselves.
 */
#include "gateway/tools/bench/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>

static volatile sig_atomic_t flag;

static void interrupt_cb(int sig)
{
    (void)sig;
    flag = 1;
}

void interrupt_install(void)
{
    struct sigaction sa = {.sa_handler = interrupt_cb};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
}

bool interrupted(void) { return flag; }

bool sleep_ns(uint64_t ns)
{
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    while (!flag && nanosleep(&t, &t) && errno == EINTR)
        ;
    return !flag;
}

bool sleep_ms(uint64_t ms) { return sleep_ns(ms * 1000000u); }
