/*
 * The TLS floor: what a plain server with libevent's bufferevent_openssl needs, which is how most servers in
 * C do TLS. As little of an MQTT server as the floor (floor.h).
 */
#ifndef HOLDFAST_BENCH_FLOOR_TLS_H
#define HOLDFAST_BENCH_FLOOR_TLS_H

#include <stdio.h>

/* What `holdfast-bench floor-tls` takes. */
void floor_tls_help(FILE *out);

/* Serves TLS on 127.0.0.1:port until SIGTERM or SIGINT. Returns the exit status. */
int floor_tls_main(int argc, char **argv);

#endif
