/*
 * Counters of the TCP stack since boot, from /proc/net/snmp and /proc/net/netstat: "RetransSegs",
 * "ListenOverflows".
 */
#ifndef HOLDFAST_BENCH_NETSTAT_H
#define HOLDFAST_BENCH_NETSTAT_H

/* The counter's value; NAN when it is not there. */
double netstat_counter(const char *name);

#endif
