/*
 * The contents of all files that TLS needs (certificates, keys, CAs, CRLs, OCSP responses, ticket keys) and
 * the settings of the tls sections, as one sealed piece of memory: the supervisor, who may read the files,
 * makes it; workers, who may not, are given its descriptor at their start and at each reload. So all workers
 * always serve the same generation. No OpenSSL here.
 *
 * The memory has no name in any file system, cannot be changed any more, is left out of core dumps, and is
 * given back to the kernel, which wipes it, when the last user goes.
 */
#ifndef HOLDFAST_BASE_TLS_BUNDLE_H
#define HOLDFAST_BASE_TLS_BUNDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/config.h"

enum tls_file_kind {
    TLS_FILE_CERTIFICATE,
    TLS_FILE_KEY,
    TLS_FILE_OCSP,
    TLS_FILE_CA, /* of a folder: one for each file in it */
    TLS_FILE_CRL,
    TLS_FILE_TICKET_KEYS, /* section CONFIG_NO_TLS */
    TLS_FILE_KINDS
};

struct tls_file {
    enum tls_file_kind kind;
    unsigned section; /* index into config.tls */
    unsigned place;   /* in its list */
    const char *path; /* as configured, for messages */
    const unsigned char *data;
    size_t len;
};

struct tls_bundle;

#define TLS_BUNDLE_MAX_FILE  (1u << 20)
#define TLS_BUNDLE_MAX_FILES 4096

/*
 * Reads every file that the configuration's tls sections and `tickets` name (each at most
 * TLS_BUNDLE_MAX_FILE bytes). A CA folder gives every regular file in it that ends in .pem, .crt or .0, in
 * the order of their names, each once whatever links name it. Returns a descriptor (close-on-exec) to hand
 * out, or -1 with `error` saying which file and why. No tls section: an empty bundle.
 */
int tls_bundle_make(const struct config *c, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/* Maps the bundle behind fd, which stays the caller's. NULL: not one of ours. */
struct tls_bundle *tls_bundle_open(int fd) __attribute__((warn_unused_result));
void tls_bundle_close(struct tls_bundle *b);

/* Sets *c's tls sections and tickets to those of the bundle. False: not one of this version; *c is untouched.
 */
bool tls_bundle_settings(const struct tls_bundle *b, struct config *c) __attribute__((warn_unused_result));

/* The file at this place, or NULL: there is none. Valid until the bundle is closed. */
const struct tls_file *tls_bundle_file(const struct tls_bundle *b, enum tls_file_kind kind, unsigned section,
                                       unsigned place);

#endif
