/*
 * From a configuration to credentials: bundle, one context per section for a moment, certificates. The
 * contexts are the same code that workers run, so what is right here is right there. Nothing of OpenSSL and
 * no mapping of the bundle stays behind: the supervisor keeps a descriptor and some text.
 */
#include "gateway/supervisor/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/log.h"
#include "gateway/base/ticket_seed.h"
#include "gateway/base/tls_bundle.h"
#include "gateway/base/xmalloc.h"
#include "gateway/net/tls_context.h"

#define ERROR_LENGTH 512

LOG_EVENT(ev_keylog, "secrets_are_written", LOG_LEVEL_WARNING);
LOG_EVENT(ev_no_keylog, "debug_keylog_ignored", LOG_LEVEL_WARNING);

/* A new record. */
static struct certificate *add(struct credentials *out, const struct certificate *what)
{
    out->certificate = xrealloc(out->certificate, (out->certificates + 1) * sizeof *out->certificate);
    struct certificate *to = &out->certificate[out->certificates++];
    out->servers += certificate_is_server(what);
    *to = *what;
    to->tls = xstrdup(what->tls);
    to->path = xstrdup(what->path);
    return to;
}

/* Notes what else is dated in a context. */
static void add_dated(struct credentials *out, const char *tls, const struct tls_dated *d)
{
    struct certificate what = {.kind = d->kind,
                               .lacks_crl = d->lacks_crl,
                               .stray = d->stray,
                               .tls = (char *)(uintptr_t)tls,
                               .path = d->path,
                               .not_before = d->from,
                               .not_after = d->until};
    snprintf(what.subject, sizeof what.subject, "%s", d->subject);
    (void)add(out, &what);
}

/* Notes the certificate at a place of a context. */
static void add_certificate(struct credentials *out, const struct config *c, unsigned section, unsigned place,
                            const struct tls_context *x, const struct tls_bundle *b)
{
    struct tls_certificate t;
    tls_context_certificate(x, place, &t);
    struct certificate what = {.tls = c->tls[section].name,
                               .path = (char *)(uintptr_t)t.path,
                               .not_before = t.not_before,
                               .not_after = t.not_after};
    snprintf(what.subject, sizeof what.subject, "%s", t.subject);
    struct certificate *to = add(out, &what);
    const struct tls_file *f = tls_bundle_file(b, TLS_FILE_CERTIFICATE, section, place);
    if (f)
        certificate_describe(to, f->data, f->len);
}

/* Makes the context of one section and notes its certificates; false if a file is wrong. */
static bool try_section(struct credentials *out, const struct config *c, unsigned section,
                        const struct tls_bundle *b, FILE *err)
{
    char error[ERROR_LENGTH];
    struct tls_context *x = tls_context_new(c, section, b, NULL, -1, error, sizeof error);
    if (!x) {
        fprintf(err, "tls \"%s\": %s\n", c->tls[section].name, error);
        return false;
    }
    for (unsigned i = 0; i < tls_context_certificates(x); i++)
        add_certificate(out, c, section, i, x, b);
    for (unsigned i = 0; i < tls_context_dated(x); i++)
        add_dated(out, c->tls[section].name, tls_context_dated_at(x, i));
    tls_context_free(x);
    return true;
}

/* Whether the ticket keys of the bundle, if it has any, are right. */
static bool try_tickets(const struct config *c, const struct tls_bundle *b, FILE *err)
{
    char error[ERROR_LENGTH];
    struct ticket_seed none = {0};
    if (!tls_bundle_file(b, TLS_FILE_TICKET_KEYS, CONFIG_NO_TLS, 0))
        return true;
    struct tls_tickets *t = tls_tickets_new(&none, c->ticket_rotation_ms);
    bool good = tls_tickets_load(t, b, error, sizeof error);
    if (!good)
        fprintf(err, "%s\n", error);
    tls_tickets_free(t);
    return good;
}

/* Tries everything in the bundle, so that all that is wrong is told at once. */
static bool try_all(struct credentials *out, const struct config *c, FILE *err)
{
    bool good = true;
    struct tls_bundle *b = tls_bundle_open(out->bundle_fd);
    if (!b) {
        fprintf(err, "the TLS files cannot be mapped: %s\n", strerror(errno));
        return false;
    }
    if (c->tls_sections || *c->ticket_keys)
        tls_context_setup();
    for (unsigned i = 0; i < c->tls_sections; i++)
        good &= try_section(out, c, i, b, err);
    good &= try_tickets(c, b, err);
    tls_bundle_close(b);
    return good;
}

int credentials_make(struct credentials *out, const struct config *c, FILE *err)
{
    char error[ERROR_LENGTH];
    *out = (struct credentials){.bundle_fd = tls_bundle_make(c, error, sizeof error)};
    if (out->bundle_fd < 0) {
        fprintf(err, "%s\n", error);
        return -1;
    }
    if (try_all(out, c, err))
        return 0;
    credentials_free(out);
    return -1;
}

void credentials_free(struct credentials *c)
{
    for (unsigned i = 0; i < c->certificates; i++) {
        free(c->certificate[i].tls);
        free(c->certificate[i].path);
    }
    free(c->certificate);
    if (c->bundle_fd >= 0)
        close(c->bundle_fd);
    *c = (struct credentials){.bundle_fd = -1};
}

const char *credentials_keylog_section(const struct config *c)
{
    for (unsigned i = 0; i < c->tls_sections; i++)
        if (c->tls[i].debug_keylog)
            return c->tls[i].name;
    return NULL;
}

static void warn_of_keylog(const char *section, const char *path)
{
    LOG(ev_keylog, LOG_STR("tls", section), LOG_STR("file", path),
        LOG_STR("hint", "whoever has this file can read the traffic; set debug_keylog = false"));
}

int credentials_open_keylog(const struct config *c)
{
    const char *section = credentials_keylog_section(c), *path = getenv("SSLKEYLOGFILE");
    if (!section)
        return -1;
    if (!path || !*path) {
        LOG(ev_no_keylog, LOG_STR("tls", section), LOG_STR("reason", "SSLKEYLOGFILE is not set"));
        return -1;
    }
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0600);
    struct stat st;
    if (fd >= 0 && (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || fchmod(fd, 0600) != 0)) {
        close(fd);
        fd = -1;
        errno = EINVAL;
    }
    if (fd < 0)
        LOG(ev_no_keylog, LOG_STR("tls", section), LOG_STR("file", path), LOG_STR("reason", strerror(errno)));
    else
        warn_of_keylog(section, path);
    return fd;
}

bool credentials_follow_keylog(const struct config *c, int fd)
{
    const char *section = credentials_keylog_section(c), *path = getenv("SSLKEYLOGFILE");
    if (section && fd < 0)
        LOG(ev_no_keylog, LOG_STR("tls", section), LOG_STR("reason", "it takes effect at a restart"));
    else if (section)
        warn_of_keylog(section, path ? path : "-");
    return !section || fd >= 0;
}
