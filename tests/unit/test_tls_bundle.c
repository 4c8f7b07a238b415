/*
 * The bundle of TLS files: what goes in comes out again, in other processes too; files that cannot be used
 * are named; memory that is not a bundle, or one that was damaged, is refused whatever its lengths say.
 */
#include "gateway/base/tls_bundle.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/base/options.h"
#include "tests/unit/unit.h"

static char dir[64];
static char error[512];

static void setup(void)
{
    snprintf(dir, sizeof dir, "test_tls_bundle.%d", (int)getpid());
    ck_assert_int_eq(mkdir(dir, 0700), 0);
    ck_assert_int_eq(chdir(dir), 0);
    *error = '\0';
}

static void teardown(void)
{
    ck_assert_int_eq(chdir(".."), 0);
    char command[96];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    ck_assert_int_eq(system(command), 0);
}

static void write_bytes(const char *name, const void *data, size_t len)
{
    FILE *f = fopen(name, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, len, f), len);
    ck_assert_int_eq(fclose(f), 0);
}

static void write_text(const char *name, const char *text) { write_bytes(name, text, strlen(text)); }

/* A configuration from a text that must be right. */
static void load(struct config *c, const char *text)
{
    write_text("test.conf", text);
    ck_assert_int_eq(config_load(c, "test.conf", stderr), 0);
}

#define LISTENER "listener \"l\" {}\n"

/* Two sections and ticket keys, with their files. */
static void load_full(struct config *c)
{
    write_text("a.crt", "certificate A");
    write_text("a.key", "key A");
    write_text("b.crt", "certificate B");
    write_text("b.key", "key B");
    write_text("b.ocsp", "response B");
    write_text("ca.pem", "CA");
    write_text("crl.pem", "CRL");
    write_bytes("tickets.key", "\0binary\xff\0", 9);
    load(
        c, LISTENER
        "tls \"one\" { certificate = {\"a.crt\", \"b.crt\"} key = {\"a.key\", \"b.key\"} ocsp = {\"\", "
        "\"b.ocsp\"} }\n"
        "tls \"two\" { certificate = \"b.crt\" key = \"b.key\" client_certificate = required ca = \"ca.pem\" "
        "crl = \"crl.pem\" min_version = 1.3 alpn = {a, b} parking = false }\n"
        "tickets { keys = \"tickets.key\" rotation = 2m }\n");
}

static int make(const struct config *c)
{
    int fd = tls_bundle_make(c, error, sizeof error);
    ck_assert_msg(fd >= 0, "%s", error);
    return fd;
}

static void check_file(const struct tls_bundle *b, enum tls_file_kind kind, unsigned section, unsigned place,
                       const char *path, const char *data)
{
    const struct tls_file *f = tls_bundle_file(b, kind, section, place);
    ck_assert_msg(f != NULL, "%s", path);
    ck_assert_str_eq(f->path, path);
    ck_assert_uint_eq(f->len, strlen(data));
    ck_assert_mem_eq(f->data, data, f->len);
    ck_assert_int_eq(f->kind, kind);
    ck_assert_uint_eq(f->section, section);
    ck_assert_uint_eq(f->place, place);
}

static void check_full(const struct tls_bundle *b)
{
    check_file(b, TLS_FILE_CERTIFICATE, 0, 0, "a.crt", "certificate A");
    check_file(b, TLS_FILE_CERTIFICATE, 0, 1, "b.crt", "certificate B");
    check_file(b, TLS_FILE_KEY, 0, 1, "b.key", "key B");
    check_file(b, TLS_FILE_OCSP, 0, 1, "b.ocsp", "response B");
    check_file(b, TLS_FILE_CERTIFICATE, 1, 0, "b.crt", "certificate B");
    check_file(b, TLS_FILE_CA, 1, 0, "ca.pem", "CA");
    check_file(b, TLS_FILE_CRL, 1, 0, "crl.pem", "CRL");
    ck_assert_ptr_null(tls_bundle_file(b, TLS_FILE_OCSP, 0, 0));
    ck_assert_ptr_null(tls_bundle_file(b, TLS_FILE_CERTIFICATE, 0, 2));
    ck_assert_ptr_null(tls_bundle_file(b, TLS_FILE_CA, 0, 0));
    const struct tls_file *keys = tls_bundle_file(b, TLS_FILE_TICKET_KEYS, CONFIG_NO_TLS, 0);
    ck_assert_ptr_nonnull(keys);
    ck_assert_uint_eq(keys->len, 9);
    ck_assert_mem_eq(keys->data, "\0binary\xff\0", 9);
}

START_TEST(files_come_out_as_they_went_in)
{
    struct config c;
    load_full(&c);
    int fd = make(&c);
    ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    unlink("a.key"); /* nobody needs the files any more */
    struct tls_bundle *b = tls_bundle_open(fd);
    ck_assert_ptr_nonnull(b);
    close(fd);
    check_full(b);
    tls_bundle_close(b);
    config_free(&c);
}
END_TEST

START_TEST(another_process_sees_the_same)
{
    struct config c;
    load_full(&c);
    int fd = make(&c);
    config_free(&c);
    pid_t pid = fork();
    if (pid == 0) {
        struct tls_bundle *b = tls_bundle_open(fd);
        _exit(b && tls_bundle_file(b, TLS_FILE_CRL, 1, 0) ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    close(fd);
}
END_TEST

static char *printed(const struct config *c)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    config_print(c, f);
    fclose(f);
    return text;
}

START_TEST(settings_come_out_as_they_went_in)
{
    struct config c, other;
    load_full(&c);
    load(&other,
         "listener \"x\" { bind = \"127.0.0.1:9\" }\nworkers = 2\ntls \"old\" { certificate = C key = K }\n");
    int fd = make(&c);
    struct tls_bundle *b = tls_bundle_open(fd);
    ck_assert_ptr_nonnull(b);
    ck_assert(tls_bundle_settings(b, &other));
    tls_bundle_close(b);
    close(fd);
    ck_assert_uint_eq(other.workers, 2);
    ck_assert_str_eq(other.listener[0].name, "x");
    ck_assert_uint_eq(other.ticket_rotation_ms, 120000);
    ck_assert_int_eq(other.tls[1].min_version, TLS_MIN_13);
    ck_assert(!other.tls[1].parking);
    /* With the rest made equal, everything is. */
    other.workers = c.workers;
    free(other.listener[0].name);
    other.listener[0].name = strdup("l");
    free(other.listener[0].bind);
    other.listener[0].bind = strdup(c.listener[0].bind);
    char *x = printed(&c), *y = printed(&other);
    ck_assert_str_eq(x, y);
    free(x);
    free(y);
    config_free(&c);
    config_free(&other);
}
END_TEST

START_TEST(no_tls_is_an_empty_bundle)
{
    struct config c;
    load(&c, LISTENER);
    int fd = make(&c);
    struct tls_bundle *b = tls_bundle_open(fd);
    ck_assert_ptr_nonnull(b);
    ck_assert_ptr_null(tls_bundle_file(b, TLS_FILE_CERTIFICATE, 0, 0));
    ck_assert_ptr_null(tls_bundle_file(b, TLS_FILE_TICKET_KEYS, CONFIG_NO_TLS, 0));
    ck_assert(tls_bundle_settings(b, &c));
    ck_assert_uint_eq(c.tls_sections, 0);
    tls_bundle_close(b);
    close(fd);
    config_free(&c);
}
END_TEST

START_TEST(nobody_can_change_it)
{
    struct config c;
    load_full(&c);
    int fd = make(&c);
    config_free(&c);
    ck_assert_int_eq(write(fd, "x", 1), -1);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_eq(ftruncate(fd, 10), -1);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, 0), -1);
    ck_assert_ptr_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    close(fd);
}
END_TEST

/* The flags of the mapping that holds this address, from /proc/self/smaps. */
static bool mapping_has_flag(const void *at, const char *flag)
{
    FILE *f = fopen("/proc/self/smaps", "r");
    ck_assert_ptr_nonnull(f);
    char line[512];
    bool here = false, found = false;
    while (fgets(line, sizeof line, f)) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            here = (unsigned long)at >= from && (unsigned long)at < to;
        else if (here && strncmp(line, "VmFlags:", 8) == 0)
            found |= strstr(line + 8, flag) != NULL;
    }
    fclose(f);
    return found;
}

START_TEST(core_dumps_leave_it_out)
{
    struct config c;
    load_full(&c);
    int fd = make(&c);
    struct tls_bundle *b = tls_bundle_open(fd);
    ck_assert(mapping_has_flag(tls_bundle_file(b, TLS_FILE_KEY, 0, 0)->data, " dd"));
    tls_bundle_close(b);
    close(fd);
    config_free(&c);
}
END_TEST

START_TEST(a_folder_of_cas)
{
    struct config c;
    mkdir("ca", 0700);
    write_text("ca/b.crt", "b");
    write_text("ca/a.pem", "a");
    write_text("ca/12345678.0", "hash");
    write_text("ca/README", "no");
    write_text("ca/.pem", "no");
    write_text("ca/x.pem.bak", "no");
    mkdir("ca/folder.pem", 0700);
    ck_assert_int_eq(symlink("a.pem", "ca/z.0"), 0);          /* the same file again */
    ck_assert_int_eq(symlink("../other.crt", "ca/c.crt"), 0); /* a file elsewhere */
    ck_assert_int_eq(symlink("nowhere", "ca/broken.pem"), 0);
    write_text("other.crt", "other");
    write_text("a.crt", "A");
    write_text("a.key", "K");
    load(&c, LISTENER
         "tls \"t\" { certificate = \"a.crt\" key = \"a.key\" ca = \"ca\" client_certificate = optional }\n");
    int fd = make(&c);
    struct tls_bundle *b = tls_bundle_open(fd);
    check_file(b, TLS_FILE_CA, 0, 0, "ca/12345678.0", "hash");
    check_file(b, TLS_FILE_CA, 0, 1, "ca/a.pem", "a");
    check_file(b, TLS_FILE_CA, 0, 2, "ca/b.crt", "b");
    check_file(b, TLS_FILE_CA, 0, 3, "ca/c.crt", "other");
    ck_assert_ptr_null(tls_bundle_file(b, TLS_FILE_CA, 0, 4));
    tls_bundle_close(b);
    close(fd);
    config_free(&c);
}
END_TEST

static const struct {
    const char *prepare, *tls, *error;
} wrong[] = {
    {"true", "certificate = \"none.crt\" key = \"k\"", "tls.certificate none.crt: No such file or directory"},
    {"true", "certificate = \"c\" key = \"none.key\"", "tls.key none.key: No such file or directory"},
    {"true", "certificate = \"c\" key = {\"k\"} ocsp = \"none\"", "tls.ocsp none: No such file or directory"},
    {"true", "certificate = {\"c\", \"none\"} key = {\"k\", \"k\"}",
     "tls.certificate none: No such file or directory"},
    {"true", "certificate = \"c\" key = \"k\" ca = \"none\"", "tls.ca none: No such file or directory"},
    {"true", "certificate = \"c\" key = \"k\" ca = \"c\" crl = \"none\"",
     "tls.crl none: No such file or directory"},
    {"mkdir d", "certificate = \"d\" key = \"k\"", "tls.certificate d: Is a directory"},
    {"mkdir d", "certificate = \"c\" key = \"k\" ca = \"d\"",
     "tls.ca d: no file in this folder ends in .pem, .crt or .0"},
    {"mkfifo f", "certificate = \"f\" key = \"k\"", "tls.certificate f: not a regular file"},
    {"true", "certificate = \"/dev/zero\" key = \"k\"", "tls.certificate /dev/zero: not a regular file"},
    {": >e", "certificate = \"c\" key = \"e\"", "tls.key e: the file is empty"},
    {"head -c 1048577 /dev/zero >big", "certificate = \"big\" key = \"k\"",
     "tls.certificate big: larger than 1 MiB"},
    {"true", "certificate = \"c\" key = \"k\" }\ntickets { keys = \"none\"",
     "tickets.keys none: No such file or directory"},
};

/* Number of open descriptors of this process. */
static int open_fds(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    ck_assert_ptr_nonnull(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

START_TEST(files_that_cannot_be_used)
{
    struct config c;
    char text[512];
    write_text("c", "certificate");
    write_text("k", "key");
    ck_assert_int_eq(system(wrong[_i].prepare), 0);
    snprintf(text, sizeof text, LISTENER "tls \"t\" { %s }\n", wrong[_i].tls);
    load(&c, text);
    int before = open_fds();
    ck_assert_int_eq(tls_bundle_make(&c, error, sizeof error), -1);
    ck_assert_str_eq(error, wrong[_i].error);
    ck_assert_int_eq(open_fds(), before);
    config_free(&c);
}
END_TEST

START_TEST(the_largest_file)
{
    struct config c;
    static char big[TLS_BUNDLE_MAX_FILE];
    memset(big, 'x', sizeof big);
    write_bytes("big", big, sizeof big);
    write_text("k", "key");
    load(&c, LISTENER "tls \"t\" { certificate = \"big\" key = \"k\" }\n");
    int fd = make(&c);
    struct tls_bundle *b = tls_bundle_open(fd);
    const struct tls_file *f = tls_bundle_file(b, TLS_FILE_CERTIFICATE, 0, 0);
    ck_assert_uint_eq(f->len, sizeof big);
    ck_assert_mem_eq(f->data, big, sizeof big);
    tls_bundle_close(b);
    close(fd);
    config_free(&c);
}
END_TEST

/* A sealed piece of memory with these bytes. */
static int sealed(const void *data, size_t len, int seals)
{
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, data, len), (ssize_t)len);
    if (seals)
        ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

#define ALL_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

START_TEST(what_is_no_bundle)
{
    static const char zeros[100000];
    int fds[] = {sealed("", 0, ALL_SEALS),
                 sealed("TLB1", 4, ALL_SEALS),
                 sealed(zeros, sizeof zeros, ALL_SEALS),
                 open("/dev/null", O_RDONLY),
                 open("/dev/zero", O_RDONLY),
                 open(".", O_RDONLY),
                 -1};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        ck_assert_ptr_null(tls_bundle_open(fds[i]));
        if (fds[i] >= 0)
            close(fds[i]);
    }
}
END_TEST

/* The bytes of a good bundle. */
static size_t bytes_of_good(unsigned char *out, size_t size)
{
    struct config c;
    load_full(&c);
    int fd = make(&c);
    ssize_t n = pread(fd, out, size, 0);
    ck_assert_int_gt(n, 100);
    ck_assert_int_lt(n, (ssize_t)size);
    close(fd);
    config_free(&c);
    return (size_t)n;
}

/* Opens what may be a bundle and, if it is taken for one, touches all of it. */
static bool survives(const unsigned char *data, size_t len)
{
    int fd = sealed(data, len, ALL_SEALS);
    struct tls_bundle *b = tls_bundle_open(fd);
    close(fd);
    if (!b)
        return false;
    unsigned sum = 0;
    for (unsigned kind = 0; kind < TLS_FILE_KINDS; kind++)
        for (unsigned section = 0; section <= CONFIG_NO_TLS; section++) {
            const struct tls_file *f = tls_bundle_file(b, kind, section, 0);
            for (size_t i = 0; f && i < f->len; i++)
                sum += f->data[i];
            sum += f ? (unsigned)strlen(f->path) : 0;
        }
    struct config c;
    config_defaults(&c);
    ck_assert(tls_bundle_settings(b, &c));
    free(printed(&c));
    config_free(&c);
    tls_bundle_close(b);
    return sum != 1;
}

START_TEST(unsealed_memory_is_refused)
{
    static unsigned char good[65536];
    size_t len = bytes_of_good(good, sizeof good);
    int fd = sealed(good, len, F_SEAL_SHRINK | F_SEAL_GROW);
    ck_assert_ptr_null(tls_bundle_open(fd));
    close(fd);
    ck_assert(survives(good, len));
}
END_TEST

START_TEST(every_truncation_is_refused)
{
    static unsigned char good[65536];
    size_t len = bytes_of_good(good, sizeof good);
    for (size_t n = 0; n < len; n++)
        ck_assert_msg(!survives(good, n), "%zu bytes of %zu", n, len);
    ck_assert(!survives(good, len + 1));
}
END_TEST

/* Also with the length in the header made right: then every length inside is what stops the reader. */
START_TEST(no_length_is_trusted)
{
    static unsigned char good[65536], bad[65536];
    size_t len = bytes_of_good(good, sizeof good);
    static const uint32_t values[] = {0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0, 70000};
    for (size_t at = 0; at + 4 <= len; at++) {
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            memcpy(bad, good, len);
            memcpy(bad + at, &values[v], 4);
            survives(bad, len);
        }
    }
    for (size_t n = 100; n < len; n += 7) {
        memcpy(bad, good, len);
        uint64_t bytes = n;
        memcpy(bad + 16, &bytes, sizeof bytes);
        ck_assert(!survives(bad, n));
    }
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, files_come_out_as_they_went_in);
    tcase_add_test(tc, another_process_sees_the_same);
    tcase_add_test(tc, settings_come_out_as_they_went_in);
    tcase_add_test(tc, no_tls_is_an_empty_bundle);
    tcase_add_test(tc, nobody_can_change_it);
    tcase_add_test(tc, core_dumps_leave_it_out);
    tcase_add_test(tc, a_folder_of_cas);
    tcase_add_loop_test(tc, files_that_cannot_be_used, 0, sizeof wrong / sizeof wrong[0]);
    tcase_add_test(tc, the_largest_file);
    tcase_add_test(tc, what_is_no_bundle);
    tcase_add_test(tc, unsealed_memory_is_refused);
    tcase_add_test(tc, every_truncation_is_refused);
    tcase_add_test(tc, no_length_is_trusted);
}

UNIT_MAIN("tls_bundle")
