/*
 * A certificate that nobody has to prepare before a run. The key lives as long as the process, so that all
 * targets of a run have the same; the files lie in the targets' own folders and are removed with them.
 */
#include "gateway/tools/bench/certificate.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/check.h"

#define VALID_S (30 * 86400L)

struct pair {
    EVP_PKEY *key;
    X509 *certificate;
};

static void add_extension(X509 *x, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    CHECK(e && X509_add_ext(x, e, -1) == 1);
    X509_EXTENSION_free(e);
}

/* Signed by its own key. */
static X509 *sign(EVP_PKEY *key)
{
    X509 *x = X509_new();
    CHECK(x && X509_set_version(x, X509_VERSION_3) == 1);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), VALID_S);
    X509_set_pubkey(x, key);
    X509_NAME *name = X509_get_subject_name(x);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1, 0);
    X509_set_issuer_name(x, name);
    add_extension(x, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(x, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
    CHECK(X509_sign(x, key, EVP_sha256()) > 0);
    return x;
}

/* Made when it is asked for first. */
static const struct pair *made(bool rsa)
{
    static struct pair pairs[2];
    struct pair *p = &pairs[rsa];
    if (!p->key) {
        p->key = rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
        CHECK(p->key);
        p->certificate = sign(p->key);
    }
    return p;
}

/* A file that only we can read. */
static FILE *create(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    return fd < 0 ? NULL : fdopen(fd, "w");
}

/* Closes; false and why when anything of it failed. */
static bool finish(FILE *f, bool written, const char *path)
{
    bool ok = f && fclose(f) == 0 && written;
    if (!ok)
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
    return ok;
}

bool certificate_write(bool rsa, const char *certificate_path, const char *key_path)
{
    const struct pair *p = made(rsa);
    FILE *f = create(certificate_path);
    if (!finish(f, f && PEM_write_X509(f, p->certificate) == 1, certificate_path))
        return false;
    f = create(key_path);
    return finish(f, f && PEM_write_PrivateKey(f, p->key, NULL, NULL, 0, NULL, NULL) == 1, key_path);
}
