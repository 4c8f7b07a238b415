/*
 * `holdfast doctor`: what this machine still needs for N connections, and what they will cost in memory.
 */
#ifndef HOLDFAST_TOOLS_DOCTOR_H
#define HOLDFAST_TOOLS_DOCTOR_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum doctor_output { DOCTOR_TEXT, DOCTOR_JSON, DOCTOR_SYSCTL };

struct doctor_request {
    const char *root;     /* the folder that /proc, /sys and /etc are looked for in; "" is this machine */
    uint64_t connections; /* N, 1 to DOCTOR_MAX_CONNECTIONS */
    double tls;           /* share of the connections that use TLS, 0 to 1 */
    unsigned workers;     /* 0: as many as the gateway would start */
    bool ipv6;            /* listeners on IPv6 sockets: "[::]:1883", also for clients that come by IPv4 */
    bool measure;         /* open connections on loopback and take the kernel's cost from what grows */
    enum doctor_output output;
};

#define DOCTOR_MAX_CONNECTIONS 1000000000u

enum doctor_status { DOCTOR_ALL_OK = 0, DOCTOR_MUST_FIX = 1, DOCTOR_USAGE = 2 };

/* Examines and writes the report to `out`. Never fails for what the machine lacks: that is in the report. */
enum doctor_status doctor_run(const struct doctor_request *r, FILE *out);

/* The subcommand; argv[0] is its name. Returns an enum doctor_status as the exit status. */
int cmd_doctor(int argc, char **argv);

#endif
