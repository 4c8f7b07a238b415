/*
 * The floor: the least work with which a server can accept clients, answer their heartbeats and send a
 * message to all of them. Everything else is compared to it. It is no MQTT server: it looks at the first byte
 * of a packet and answers with constant bytes, knows no topic, no keepalive, and drops whom it cannot serve.
 */
#ifndef HOLDFAST_BENCH_FLOOR_H
#define HOLDFAST_BENCH_FLOOR_H

#include <stdio.h>

/* What `holdfast-bench floor` takes. */
void floor_help(FILE *out);

/* Serves 127.0.0.1:port until SIGTERM or SIGINT. Returns the exit status. */
int floor_main(int argc, char **argv);

#endif
