/*
 * A server that is measured: one that runs already, or a command to start, or the floor.
 */
#ifndef HOLDFAST_BENCH_TARGET_H
#define HOLDFAST_BENCH_TARGET_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/types.h>

#include "gateway/tools/bench/proctree.h"
#include "gateway/tools/bench/tls_client.h"

#define TARGET_DIR 192

enum target_kind { TARGET_FLOOR, TARGET_RUNNING, TARGET_COMMAND };

struct target {
    enum target_kind kind;
    char name[32];
    char *spec;                    /* as given, for the report */
    char *command;                 /* TARGET_COMMAND: with {port} and so on */
    struct tls_options tls;        /* how it is spoken to; on: a TLS server */
    bool rsa;                      /* a certificate that is made for it has an RSA key */
    const char *certificate, *key; /* PEM files for what is started; NULL: one is made. Not freed */
    struct sockaddr_in address;
    pid_t pid;                     /* TARGET_RUNNING: given, 0 when not; else of what we started */
    char dir[TARGET_DIR];          /* made for the command, removed with it; "": none */
    struct proctree *tree;         /* NULL: nothing to watch */
    struct tls_client *tls_client; /* between start and stop; NULL: plaintext */
};

/*
 * Reads one of
 *   floor
 *   [NAME=]floor-tls[,OPTION]...
 *   NAME=ADDRESS:PORT[,pid=PID]
 *   NAME=tls://ADDRESS:PORT[,pid=PID][,OPTION]...
 *   NAME=cmd[,OPTION]...:COMMAND
 * with the OPTIONs tls, tls12, tls13, rsa, ciphers=LIST, ca=FILE, name=HOST. NULL and a message on stderr
 * when it is none of these. In target_spec.c.
 */
struct target *target_parse(const char *spec);
void target_free(struct target *t);

/* Whether `floor` is the TLS floor that t is to be compared with: the same version and kind of key. */
bool target_is_tls_floor_of(const struct target *floor, const struct target *t);

/* Starts a command, for so many connections, and waits up to `seconds` until it answers CONNECT; checks that
 * a running one does. The folder for a command is made in TMPDIR, else in /tmp. False: said why. */
bool target_start(struct target *t, unsigned version, unsigned long connections, unsigned seconds);
/* Ends what was started. Its CPU and memory can be asked for until then. */
void target_stop(struct target *t);

#endif
