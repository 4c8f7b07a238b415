/*
 * Between the files that make up a tls_context: tls_credential.c, tls_names.c, tls_peer.c, tls_staple.c,
 * tls_tickets.c and tls_context.c, which alone knows all of them.
 */
#ifndef HOLDFAST_NET_TLS_CONTEXT_INTERNAL_H
#define HOLDFAST_NET_TLS_CONTEXT_INTERNAL_H

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "gateway/net/tls_context.h"

#define TLS_CERTIFICATES_MAX 32 /* of one section: one bit each in a mask */

struct tls_dated_list {
    struct tls_dated *list;
    unsigned count;
};

/* What is being loaded, and where to say what is wrong with it. */
struct tls_loader {
    const struct config_tls *config;
    const struct tls_bundle *bundle;
    unsigned section;
    char *error;
    size_t error_size;
    struct tls_dated_list *dated; /* NULL: nobody asks */
};

/* Writes "path: ..." (path NULL: "tls "name": ..."), empties OpenSSL's error queue, returns false. The
 * queue's last reason is quoted by the %s of tls_reason(), which is to be an argument. */
bool tls_refuse(const struct tls_loader *l, const char *path, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
const char *tls_reason(void);

const struct tls_file *tls_loader_file(const struct tls_loader *l, enum tls_file_kind kind, unsigned place);

/* All certificates of a PEM file, at least one, in its order. NULL: refused. */
STACK_OF(X509) * tls_read_certificates(const struct tls_loader *l, const struct tls_file *f);

/* Seconds since 1970; `t` NULL or no time: `otherwise`. */
int64_t tls_seconds(const ASN1_TIME *t, int64_t otherwise);

/* Copies a name that was found in a certificate as UTF-8, NUL-terminated. False: it is empty, does not fit,
 * or has a control character or a byte sequence that is no UTF-8. */
bool tls_copy_name(const ASN1_STRING *s, char *out, size_t size);

/* ---- tls_credential.c: a certificate file, its key, its staple ---- */

enum tls_key_kind { TLS_KEY_RSA, TLS_KEY_RSA_PSS, TLS_KEY_EC, TLS_KEY_ED25519, TLS_KEY_ED448, TLS_KEY_OTHER };

struct tls_credential {
    char *path; /* of the certificate, as configured */
    X509 *leaf;
    STACK_OF(X509) * chain; /* the others of the file, each signed by the next */
    EVP_PKEY *key;
    enum tls_key_kind kind;
    unsigned char *staple; /* OCSP response in DER, or NULL */
    size_t staple_len;
    int64_t staple_from, staple_until; /* when it may be shown; seconds since 1970; until 0: never */
};

bool tls_credential_load(const struct tls_loader *l, unsigned place, struct tls_credential *c);
void tls_credential_clear(struct tls_credential *c);

/* ---- tls_staple.c ---- */

/* Takes the OCSP response for c from the file. */
bool tls_staple_load(const struct tls_loader *l, const struct tls_file *f, struct tls_credential *c);

/* ---- tls_dated.c: what one day is too old ---- */

void tls_dated_certificate(const struct tls_loader *l, enum tls_dated_kind kind, const char *path,
                           const X509 *x);
void tls_dated_crl(const struct tls_loader *l, const char *path, const X509_CRL *crl);
void tls_dated_staple(const struct tls_loader *l, const char *path, const struct tls_credential *c);
/* All CAs and CRLs are there, the CAs in the order in which they were noted: which CAs lack a CRL. A CA above
 * others of them needs none for clients to be let in. */
void tls_dated_look_for_crls(const struct tls_loader *l, STACK_OF(X509) * cas, STACK_OF(X509_CRL) * crls);
void tls_dated_clear(struct tls_dated_list *list);

/* ---- tls_names.c: which certificates serve a name ---- */

struct tls_name {
    char *text;    /* lower case; may begin with "*." */
    uint32_t mask; /* the certificates to offer under this name, by place: one per kind of key */
    unsigned use;  /* for the owner: which SSL_CTX has these */
};

struct tls_names {
    struct tls_name *list; /* sorted by text */
    unsigned count;
};

/* Finds all names, and for each the first certificate of every kind of key that has it, exactly or else by
 * wildcard. */
void tls_names_make(struct tls_names *n, const struct tls_credential *c, unsigned credentials);
void tls_names_clear(struct tls_names *n);

/* The name that a client asks for, or NULL. Case and one dot at the end do not matter. */
const struct tls_name *tls_names_find(const struct tls_names *n, const char *host);

/* Of the names that this certificate serves, the one with the most kinds of key; NULL: none. */
const struct tls_name *tls_names_of(const struct tls_names *n, unsigned place);

/* The first dNSName, or without any SAN the CN. False: it has none that can be shown. */
bool tls_certificate_name(X509 *x, char *out, size_t size);
/* Whom a distinguished name is of: the most telling part that can be shown, or "-". */
void tls_name_text(const X509_NAME *name, char *out, size_t size);

/* ---- tls_peer.c: client certificates ---- */

struct tls_peer_rules {
    X509_STORE *store;             /* CAs and CRLs; NULL: clients are not asked */
    STACK_OF(X509_NAME) * cas;     /* whose certificates clients are asked for */
    int64_t crl_until;             /* when the first CRL becomes too old; seconds since 1970 */
    unsigned char fingerprint[32]; /* of all that decides who gets in, and the section's name */
};

bool tls_peer_load(const struct tls_loader *l, struct tls_peer_rules *r);
void tls_peer_clear(struct tls_peer_rules *r);
bool tls_peer_apply(const struct tls_peer_rules *r, enum client_certificate mode, SSL_CTX *ctx);

/* Whether a client that showed this certificate (NULL: none) when its ticket was made may still come in. */
bool tls_peer_still_good(const struct tls_peer_rules *r, X509 *leaf);

/* As tls_context_identity(). */
bool tls_peer_identity(const SSL *ssl, enum tls_identity which, char *out, size_t size);

/* ---- tls_tickets.c ---- */

/* What OpenSSL's ticket key callback is to answer: 1 opened or sealing, 2 opened but to be renewed, 0 not
 * one of ours, -1 failed. */
int tls_tickets_seal(struct tls_tickets *t, unsigned char name[16], unsigned char iv[16],
                     EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac);
int tls_tickets_open(struct tls_tickets *t, const unsigned char name[16], const unsigned char iv[16],
                     EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac);

/* ---- tls_memory.c ---- */

/* Index of the tls_context among an SSL's extra data; CHECKs that tls_context_setup() was called. */
int tls_context_index(void);

#endif
