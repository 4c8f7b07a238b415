/*
 * The TLS files of a configuration, read and found right: the bundle that workers are given, and what there
 * is to know about its certificates. `holdfast check` makes one to look at, the supervisor one to serve with.
 */
#ifndef HOLDFAST_SUPERVISOR_CREDENTIALS_H
#define HOLDFAST_SUPERVISOR_CREDENTIALS_H

#include <stdio.h>

#include "gateway/base/config.h"
#include "gateway/supervisor/certificate.h"

struct credentials {
    int bundle_fd; /* base/tls_bundle.h; -1: none */
    struct certificate *certificate;
    unsigned certificates; /* by section; in it the servers' own by place, then what else is dated */
    unsigned servers;      /* those that are the servers' own */
};

/*
 * Reads every file and makes every context once, to see whether workers could. 0, or -1 with every problem
 * found written to `err`, a line each; then *out is empty.
 */
int credentials_make(struct credentials *out, const struct config *c, FILE *err)
    __attribute__((warn_unused_result));
/* Closes and frees; *c is empty then. */
void credentials_free(struct credentials *c);

/*
 * The file of SSLKEYLOGFILE, opened to append (0600, close-on-exec), if a section asks for debug_keylog; the
 * log says that secrets are written there, or why not. -1: none.
 */
int credentials_open_keylog(const struct config *c);
/* The name of a section with debug_keylog, or NULL. */
const char *credentials_keylog_section(const struct config *c);
/*
 * After a reload before which no section asked for it: says that secrets are written now to the file that was
 * opened at the start. False: there is none, so it takes a restart, which is said.
 */
bool credentials_follow_keylog(const struct config *c, int fd);

#endif
