/*
 * A server that is measured: one that runs already, or a command to start, or the floor.
 */
#ifndef HOLDFAST_BENCH_TARGET_H
#define HOLDFAST_BENCH_TARGET_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/types.h>

#include "gateway/tools/bench/proctree.h"

enum target_kind { TARGET_FLOOR, TARGET_RUNNING, TARGET_COMMAND };

struct target {
    enum target_kind kind;
    char name[32];
    char *spec;    /* as given, for the report */
    char *command; /* TARGET_COMMAND: with {port}, {api_port}, {dir}, {capacity}, {file:PATH} */
    struct sockaddr_in address;
    pid_t pid;             /* TARGET_RUNNING: given, 0 when not; else of what we started */
    char dir[64];          /* made for the command, removed with it */
    struct proctree *tree; /* NULL: nothing to watch */
};

/*
 * Reads floor | NAME=ADDRESS:PORT[,pid=PID] | NAME=cmd:COMMAND. NULL and a message on stderr when it is none
 * of these.
 */
struct target *target_parse(const char *spec);
void target_free(struct target *t);

/* Starts a command, for so many connections, and waits until it answers CONNECT; checks that a running one
 * does. False: said why. */
bool target_start(struct target *t, unsigned version, unsigned long connections);
/* Ends what was started. Its CPU and memory can be asked for until then. */
void target_stop(struct target *t);

#endif
