/*
 * The bundle of TLS files: the supervisor writes it once, workers map it, nobody changes it. It knows nothing
 * of certificates; net/tls_context.c makes sense of the bytes.
 *
 *      header | settings: tickets, then each tls section with its name | files
 *
 * Settings are the values of the options table in its order: numbers as 4 bytes, strings with their length in
 * front. A file is its kind, section, place and lengths, its path with a NUL, its bytes. Native byte order:
 * both ends are one program. All the same a reader trusts no length, because a descriptor may be anything.
 *
 * Contents go from the file to the bundle through one small buffer that is wiped, so that no private key
 * stays behind in the heap of the writer.
 */
#include "gateway/base/tls_bundle.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/options.h"
#include "gateway/base/xmalloc.h"

#define MAGIC     0x31424c54u /* "TLB1" */
#define SEALS     (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#define BUFFER    16384
#define MAX_BYTES (1u << 30)

struct header {
    uint32_t magic;
    uint32_t options; /* rows of the table that wrote it */
    uint32_t sections;
    uint32_t files;
    uint64_t bytes; /* of the whole */
};

struct file_header {
    uint32_t kind, section, place, path_len, len;
};

struct tls_bundle {
    void *map;
    size_t size;
    size_t settings; /* where they begin */
    unsigned sections, files;
    struct tls_file file[];
};

/* -- writing ------------------------------------------------------------------------------------------ */

struct writer {
    int fd;
    uint32_t files;
    char *error;
    size_t error_size;
    bool failed;
};

/* The first thing that goes wrong is what is told. */
static void fail(struct writer *w, const char *what, const char *path, const char *why)
{
    if (!w->failed)
        snprintf(w->error, w->error_size, "%s %s: %s", what, path, why);
    w->failed = true;
}

static void put(struct writer *w, const void *data, size_t len)
{
    for (const char *p = data; len > 0 && !w->failed;) {
        ssize_t n = write(w->fd, p, len);
        if (n < 0 && errno != EINTR)
            fail(w, "memory for", "TLS files", strerror(errno));
        if (n > 0) {
            p += n;
            len -= (size_t)n;
        }
    }
}

static void put_number(struct writer *w, uint32_t n) { put(w, &n, sizeof n); }

static void put_string(struct writer *w, const char *s)
{
    put_number(w, (uint32_t)strlen(s));
    put(w, s, strlen(s));
}

/* The values of one section's options. */
static void put_options(struct writer *w, const char *section, const void *base)
{
    for (const struct option_row *row = options_table(); row->name; row++) {
        const void *at = (const char *)base + row->offset;
        if (strcmp(row->section, section) != 0)
            continue;
        if (row->type == OPTION_STRING || row->type == OPTION_LIST)
            put_string(w, *(char *const *)at);
        else
            put_number(w, row->type == OPTION_BOOL ? *(const bool *)at : *(const uint32_t *)at);
    }
}

/* Copies an open file into the bundle; returns how many bytes, or stops at the limit. */
static size_t copy(struct writer *w, int fd, const char *what, const char *path)
{
    char buf[BUFFER];
    size_t total = 0;
    ssize_t n;
    while (!w->failed && (n = read(fd, buf, sizeof buf)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            fail(w, what, path, strerror(errno));
        } else if ((total += (size_t)n) > TLS_BUNDLE_MAX_FILE) {
            fail(w, what, path, "larger than 1 MiB");
        } else {
            put(w, buf, (size_t)n);
        }
    }
    explicit_bzero(buf, sizeof buf);
    if (total == 0)
        fail(w, what, path, "the file is empty");
    return total;
}

/* One file with its header. Its length is known, and put in its place, when it has been copied. */
static void put_open_file(struct writer *w, struct file_header h, int fd, const char *what, const char *path)
{
    h.path_len = (uint32_t)strlen(path);
    off_t at = lseek(w->fd, 0, SEEK_CUR);
    put(w, &h, sizeof h);
    put(w, path, h.path_len + 1);
    h.len = (uint32_t)copy(w, fd, what, path);
    if (!w->failed && pwrite(w->fd, &h, sizeof h, at) != (ssize_t)sizeof h)
        fail(w, "memory for", "TLS files", strerror(errno));
    if (++w->files > TLS_BUNDLE_MAX_FILES)
        fail(w, what, path, "too many files");
}

/* The option that names files of a kind, for messages. */
static const char *what_is(enum tls_file_kind kind)
{
    static const char *const what[TLS_FILE_KINDS] = {
        [TLS_FILE_CERTIFICATE] = "tls.certificate",
        [TLS_FILE_KEY] = "tls.key",
        [TLS_FILE_OCSP] = "tls.ocsp",
        [TLS_FILE_CA] = "tls.ca",
        [TLS_FILE_CRL] = "tls.crl",
        [TLS_FILE_TICKET_KEYS] = "tickets.keys",
    };
    return what[kind];
}

static void put_file(struct writer *w, enum tls_file_kind kind, unsigned section, unsigned place,
                     const char *path)
{
    const char *what = what_is(kind);
    struct file_header h = {.kind = kind, .section = section, .place = place};
    struct stat st;
    /* Non-blocking: opening a FIFO that nobody writes to must not hang the caller. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0)
        fail(w, what, path, strerror(errno));
    else if (S_ISDIR(st.st_mode))
        fail(w, what, path, strerror(EISDIR));
    else if (!S_ISREG(st.st_mode))
        fail(w, what, path, "not a regular file");
    else
        put_open_file(w, h, fd, what, path);
    if (fd >= 0)
        close(fd);
}

/* Every file of a list; an empty name keeps its place free. */
static void put_list(struct writer *w, enum tls_file_kind kind, unsigned section, const char *list)
{
    for (unsigned i = 0; i < config_list_count(list) && !w->failed; i++) {
        size_t len;
        const char *s = config_list_at(list, i, &len);
        char *path = xstrndup(s, len);
        if (len > 0)
            put_file(w, kind, section, i, path);
        free(path);
    }
}

/* Whether a folder's entry is to be read: by the end of its name, and as a file, also behind a link. */
static bool is_ca_file(const char *path)
{
    static const char *const endings[] = {".pem", ".crt", ".0"};
    size_t len = strlen(path);
    struct stat st;
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        size_t n = strlen(endings[i]);
        if (len > n && strcmp(path + len - n, endings[i]) == 0)
            return stat(path, &st) == 0 && S_ISREG(st.st_mode);
    }
    return false;
}

/* Which files of a folder have been read. */
struct seen {
    dev_t dev;
    ino_t ino;
};

/* Whether the file has been read under another name; if not, it is noted. */
static bool was_seen(struct seen *seen, unsigned n, const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return false; /* gone meanwhile: reading it will say so */
    for (unsigned i = 0; i < n; i++)
        if (seen[i].dev == st.st_dev && seen[i].ino == st.st_ino)
            return true;
    seen[n] = (struct seen){st.st_dev, st.st_ino};
    return false;
}

/* Every CA of a folder. Folders for OpenSSL hold each file under several names. */
static void put_folder(struct writer *w, unsigned section, const char *folder)
{
    struct dirent **entry;
    int n = scandir(folder, &entry, NULL, alphasort);
    if (n < 0) {
        fail(w, "tls.ca", folder, strerror(errno));
        return;
    }
    struct seen *seen = xcalloc((size_t)n + 1, sizeof *seen);
    unsigned place = 0;
    for (int i = 0; i < n; i++) {
        size_t size = strlen(folder) + strlen(entry[i]->d_name) + 2;
        char *path = xmalloc(size);
        snprintf(path, size, "%s/%s", folder, entry[i]->d_name);
        if (!w->failed && *entry[i]->d_name != '.' && is_ca_file(path) && !was_seen(seen, place, path))
            put_file(w, TLS_FILE_CA, section, place++, path);
        free(path);
        free(entry[i]);
    }
    free(entry);
    free(seen);
    if (place == 0)
        fail(w, "tls.ca", folder, "no file in this folder ends in .pem, .crt or .0");
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The files of one tls section. */
static void put_section(struct writer *w, unsigned section, const struct config_tls *t)
{
    put_list(w, TLS_FILE_CERTIFICATE, section, t->certificate);
    put_list(w, TLS_FILE_KEY, section, t->key);
    put_list(w, TLS_FILE_OCSP, section, t->ocsp);
    if (*t->ca && is_folder(t->ca))
        put_folder(w, section, t->ca);
    else if (*t->ca)
        put_file(w, TLS_FILE_CA, section, 0, t->ca);
    if (*t->crl)
        put_file(w, TLS_FILE_CRL, section, 0, t->crl);
}

/* The whole; the header is written again when the numbers are known. */
static void put_bundle(struct writer *w, const struct config *c)
{
    struct header h = {.magic = MAGIC, .options = options_count(), .sections = c->tls_sections};
    put(w, &h, sizeof h);
    put_options(w, "tickets", c);
    for (unsigned i = 0; i < c->tls_sections; i++) {
        put_string(w, c->tls[i].name);
        put_options(w, "tls", &c->tls[i]);
    }
    for (unsigned i = 0; i < c->tls_sections && !w->failed; i++)
        put_section(w, i, &c->tls[i]);
    if (*c->ticket_keys && !w->failed)
        put_file(w, TLS_FILE_TICKET_KEYS, CONFIG_NO_TLS, 0, c->ticket_keys);
    off_t end = lseek(w->fd, 0, SEEK_CUR);
    if (end > MAX_BYTES)
        fail(w, "the", "TLS files", "larger than 1 GiB together");
    h.files = w->files;
    h.bytes = (uint64_t)end;
    if (!w->failed && (end < 0 || pwrite(w->fd, &h, sizeof h, 0) != (ssize_t)sizeof h ||
                       fcntl(w->fd, F_ADD_SEALS, SEALS) != 0))
        fail(w, "memory for", "TLS files", strerror(errno));
}

int tls_bundle_make(const struct config *c, char *error, size_t error_size)
{
    struct writer w = {.error = error, .error_size = error_size};
    w.fd = memfd_create("holdfast-tls", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (w.fd < 0)
        fail(&w, "memory for", "TLS files", strerror(errno));
    else
        put_bundle(&w, c);
    if (w.failed && w.fd >= 0)
        close(w.fd);
    return w.failed ? -1 : w.fd;
}

/* -- reading ------------------------------------------------------------------------------------------ */

/* What is left to read. After something that cannot be, all that follows is zero and `bad` stays. */
struct reader {
    const unsigned char *p, *end;
    bool bad;
};

/* The next `len` bytes, or NULL. */
static const void *take(struct reader *r, size_t len)
{
    const void *at = r->p;
    if (r->bad || len > (size_t)(r->end - r->p)) {
        r->bad = true;
        return NULL;
    }
    r->p += len;
    return at;
}

static uint32_t take_number(struct reader *r)
{
    uint32_t n = 0;
    const void *p = take(r, sizeof n);
    if (p)
        memcpy(&n, p, sizeof n);
    return n;
}

/* A copy of a string without NUL in it; "" when there is none. */
static char *take_string(struct reader *r)
{
    uint32_t len = take_number(r);
    const char *p = take(r, len);
    if (p && memchr(p, '\0', len))
        r->bad = true;
    return p ? xstrndup(p, len) : xstrdup("");
}

/* Whether a number may stand in the option. */
static bool is_allowed(const struct option_row *row, uint32_t n)
{
    if (row->type == OPTION_BOOL)
        return n <= 1;
    if (row->type != OPTION_ENUM)
        return n >= row->min && n <= row->max;
    uint32_t choices = 1;
    for (const char *s = row->choices; *s; s++)
        choices += *s == '|';
    return n < choices;
}

/* The values of one section's options, into zeroed memory. */
static void take_options(struct reader *r, const char *section, void *base)
{
    for (const struct option_row *row = options_table(); row->name; row++) {
        void *at = (char *)base + row->offset;
        if (strcmp(row->section, section) != 0)
            continue;
        if (row->type == OPTION_STRING || row->type == OPTION_LIST) {
            *(char **)at = take_string(r);
            continue;
        }
        uint32_t n = take_number(r);
        if (!r->bad && !is_allowed(row, n))
            r->bad = true;
        if (row->type == OPTION_BOOL)
            *(bool *)at = n != 0;
        else
            *(uint32_t *)at = n;
    }
}

/* All settings, into a zeroed configuration. */
static void take_settings(struct reader *r, unsigned sections, struct config *c)
{
    take_options(r, "tickets", c);
    for (unsigned i = 0; i < sections && !r->bad; i++) {
        c->tls_sections++;
        c->tls[i].name = take_string(r);
        take_options(r, "tls", &c->tls[i]);
    }
}

/* One file. */
static void take_file(struct reader *r, unsigned sections, struct tls_file *f)
{
    struct file_header h = {0};
    const void *p = take(r, sizeof h);
    if (!p)
        return;
    memcpy(&h, p, sizeof h);
    const char *path = take(r, (size_t)h.path_len + 1);
    const unsigned char *data = take(r, h.len);
    bool section_right = h.kind == TLS_FILE_TICKET_KEYS ? h.section == CONFIG_NO_TLS : h.section < sections;
    if (!path || !data || memchr(path, '\0', (size_t)h.path_len + 1) != path + h.path_len ||
        h.kind >= TLS_FILE_KINDS || !section_right || h.len > TLS_BUNDLE_MAX_FILE) {
        r->bad = true;
        return;
    }
    *f = (struct tls_file){.kind = (enum tls_file_kind)h.kind,
                           .section = h.section,
                           .place = h.place,
                           .path = path,
                           .data = data,
                           .len = h.len};
}

/* Reads the header of what is mapped; false if it is not one of ours. */
static bool take_header(struct reader *r, struct header *h)
{
    size_t size = (size_t)(r->end - r->p);
    const void *p = take(r, sizeof *h);
    if (!p)
        return false;
    memcpy(h, p, sizeof *h);
    return h->magic == MAGIC && h->options == options_count() && h->bytes == size &&
           h->sections <= CONFIG_MAX_TLS && h->files <= TLS_BUNDLE_MAX_FILES;
}

/* Maps the descriptor's memory if it is sealed, so that it stays what has been checked. */
static void *map(int fd, size_t *size)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &st) != 0 || st.st_size <= 0 ||
        st.st_size > MAX_BYTES)
        return NULL;
    /* Private: older kernels refuse a shared mapping of sealed memory, even to read. */
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        return NULL;
    *size = (size_t)st.st_size;
    madvise(p, *size, MADV_DONTDUMP);
    return p;
}

struct tls_bundle *tls_bundle_open(int fd)
{
    size_t size;
    void *memory = map(fd, &size);
    if (!memory)
        return NULL;
    struct reader r = {.p = memory, .end = (const unsigned char *)memory + size};
    struct header h;
    if (!take_header(&r, &h)) {
        munmap(memory, size);
        return NULL;
    }
    struct tls_bundle *b = xcalloc(1, sizeof *b + h.files * sizeof b->file[0]);
    *b = (struct tls_bundle){.map = memory, .size = size, .sections = h.sections, .files = h.files};
    b->settings = sizeof h;
    struct config c = {0};
    take_settings(&r, h.sections, &c);
    config_free(&c);
    for (unsigned i = 0; i < h.files && !r.bad; i++)
        take_file(&r, h.sections, &b->file[i]);
    if (r.bad || r.p != r.end) {
        tls_bundle_close(b);
        return NULL;
    }
    return b;
}

void tls_bundle_close(struct tls_bundle *b)
{
    if (!b)
        return;
    munmap(b->map, b->size);
    free(b);
}

/* Exchanges what a bundle sets. */
static void exchange(struct config *a, struct config *b)
{
    struct config t = *a;
    memcpy(a->tls, b->tls, sizeof a->tls);
    a->tls_sections = b->tls_sections;
    a->ticket_rotation_ms = b->ticket_rotation_ms;
    a->ticket_keys = b->ticket_keys;
    memcpy(b->tls, t.tls, sizeof b->tls);
    b->tls_sections = t.tls_sections;
    b->ticket_rotation_ms = t.ticket_rotation_ms;
    b->ticket_keys = t.ticket_keys;
}

bool tls_bundle_settings(const struct tls_bundle *b, struct config *c)
{
    struct config mine = {0};
    struct reader r = {.p = (const unsigned char *)b->map + b->settings,
                       .end = (const unsigned char *)b->map + b->size};
    take_settings(&r, b->sections, &mine);
    if (!r.bad)
        exchange(c, &mine);
    config_free(&mine);
    return !r.bad;
}

const struct tls_file *tls_bundle_file(const struct tls_bundle *b, enum tls_file_kind kind, unsigned section,
                                       unsigned place)
{
    for (unsigned i = 0; i < b->files; i++)
        if (b->file[i].kind == kind && b->file[i].section == section && b->file[i].place == place)
            return &b->file[i];
    return NULL;
}
