/*
 * What people want to know about a certificate: whom it names, with which kind of key, from when to when. So
 * also about what else is dated: certificates above it, CAs of clients, CRLs and OCSP responses.
 */
#ifndef HOLDFAST_SUPERVISOR_CERTIFICATE_H
#define HOLDFAST_SUPERVISOR_CERTIFICATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/net/tls_context.h"

#define CERTIFICATE_EXPIRES_SOON_DAYS 30

struct certificate {
    enum tls_dated_kind kind;
    bool lacks_crl;                /* a CA whose clients are refused, since there are CRLs and none of it */
    bool stray;                    /* an OCSP response about another certificate, not shown to clients */
    char *tls, *path;              /* its section and its file, as configured; owned */
    char subject[128];             /* for metrics and log lines: a name it is for */
    char names[512];               /* all names it is for, "a.example, 192.0.2.1"; cut with "..." */
    char key[32];                  /* "ECDSA P-256", "RSA 2048"; "": not said */
    int64_t not_before, not_after; /* seconds since 1970; of a CRL or OCSP response: its next update */
};

/* Fills names and key from PEM text whose first certificate counts. What cannot be read stays "". */
void certificate_describe(struct certificate *c, const void *pem, size_t len);

/* "2026-11-22T10:17:53Z". */
#define CERTIFICATE_TIME 24
void certificate_time(int64_t seconds, char out[CERTIFICATE_TIME]);

/* Whole days from now to its end, rounded down: negative when it has expired. */
int64_t certificate_days_left(const struct certificate *c, int64_t now);

/* Whether it is the server's own. */
static inline bool certificate_is_server(const struct certificate *c) { return c->kind == TLS_DATED_SERVER; }
/* Whether there is something that people should be warned of. A CRL or an OCSP response has little time by
 * its nature: of these only what is outdated counts. */
bool certificate_is_alarming(const struct certificate *c, int64_t now);

/* One line for people, without newline: section, file, names, key, and when it ends; says so if that is near.
 */
void certificate_line(const struct certificate *c, int64_t now, char *out, size_t size);

/* A line of the log: a warning if it is alarming; else of the server's own certificates only. */
void certificate_log(const struct certificate *c, int64_t now);

#endif
