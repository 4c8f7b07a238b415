/*
 * A network namespace of our own for one run: kernel settings can be tried in it without touching the
 * machine's.
 */
#ifndef HOLDFAST_BENCH_NAMESPACE_H
#define HOLDFAST_BENCH_NAMESPACE_H

/*
 * Moves this process, and what it will fork, into a new namespace with loopback up and these settings
 * ("net.ipv4.tcp_rmem=4096 16384 65536;..."). Returns what namespace_leave() needs, -1 and a message on
 * stderr when the system refuses (it takes root).
 */
int namespace_enter(const char *settings);
void namespace_leave(int outside);

#endif
