/*
 * The doctor on recorded machines and on odd files. Each folder of tests/doctor/ is one machine; its file
 * "expected" holds the options and what the report must say, in a short form made from the JSON report.
 */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/tools/doctor/checks.h"
#include "gateway/tools/doctor/cost_model.h"
#include "gateway/tools/doctor/doctor.h"
#include "gateway/tools/doctor/format.h"
#include "gateway/tools/doctor/machine.h"
#include "gateway/tools/doctor/measure.h"
#include "tests/unit/unit.h"

static char tree[64]; /* a machine made by the test */

static int remove_cb(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void make_tree(void)
{
    strcpy(tree, "/tmp/holdfast-doctor-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(tree));
}

static void remove_tree(void) { nftw(tree, remove_cb, 16, FTW_DEPTH | FTW_PHYS); }

/* Makes the folders above tree/path and returns the full path. */
static const char *place(const char *path)
{
    static char full[512];
    snprintf(full, sizeof full, "%s%s", tree, path);
    for (char *slash = full + strlen(tree) + 1; (slash = strchr(slash, '/')) != NULL; *slash++ = '/') {
        *slash = '\0';
        mkdir(full, 0755);
    }
    return full;
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(place(path), "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

/* Runs the doctor; the report is to be freed. */
static char *report(struct doctor_request r, enum doctor_status *status)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    enum doctor_status s = doctor_run(&r, out);
    fclose(out);
    if (status != NULL)
        *status = s;
    return text;
}

static json_t *report_object(struct doctor_request r)
{
    r.output = DOCTOR_JSON;
    char *text = report(r, NULL);
    json_error_t error;
    json_t *o = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    ck_assert_msg(o != NULL, "%s at line %d", error.text, error.line);
    free(text);
    return o;
}

/* The made machine's check of this name: borrowed from *o, which is to be released. */
static json_t *check_named(json_t *o, const char *name)
{
    json_t *c;
    size_t i;
    json_array_foreach(json_object_get(o, "checks"), i, c)
    {
        if (strcmp(json_string_value(json_object_get(c, "name")), name) == 0)
            return c;
    }
    ck_abort_msg("no check %s", name);
}

static const char *status_of(json_t *o, const char *name)
{
    return json_string_value(json_object_get(check_named(o, name), "status"));
}

/* The status of one check on the made machine with so many connections. */
static void assert_status(uint64_t n, const char *name, const char *status)
{
    json_t *o = report_object((struct doctor_request){.root = tree, .connections = n});
    ck_assert_msg(strcmp(status_of(o, name), status) == 0, "%s is %s, wanted %s: %s", name,
                  status_of(o, name), status,
                  json_string_value(json_object_get(check_named(o, name), "why")));
    json_decref(o);
}

/* A JSON value in one word or a few. */
static void write_value(FILE *out, const json_t *v)
{
    if (json_is_integer(v))
        fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else
        fprintf(out, "%s", json_is_string(v) ? json_string_value(v) : "-");
}

/* What "expected" holds: one line per check, the commands of what must be fixed, and the sums. */
static void write_short_form(FILE *out, json_t *o, enum doctor_status status)
{
    static const char *const sums[] = {"kernel_bytes_per_connection", "user_bytes_per_connection"};
    json_t *c, *memory = json_object_get(o, "memory");
    size_t i;
    json_array_foreach(json_object_get(o, "checks"), i, c)
    {
        fprintf(out, "%-5s%-22s", json_string_value(json_object_get(c, "status")),
                json_string_value(json_object_get(c, "name")));
        write_value(out, json_object_get(c, "found"));
        fputs(" | ", out);
        write_value(out, json_object_get(c, "wanted"));
        fputc('\n', out);
        if (strcmp(json_string_value(json_object_get(c, "status")), "fix") != 0)
            continue;
        fputs("       now  ", out);
        write_value(out, json_object_get(c, "now"));
        fputs("\n       keep ", out);
        write_value(out, json_object_get(c, "keep"));
        fputc('\n', out);
    }
    fprintf(out, "workers %lld\n", (long long)json_integer_value(json_object_get(o, "workers")));
    for (i = 0; i < 2; i++)
        fprintf(out, "%s %.1f\n", sums[i], json_real_value(json_object_get(memory, sums[i])));
    fprintf(out, "%s\nexit %d\n", json_string_value(json_object_get(o, "verdict")), (int)status);
}

static char *read_text(const char *path)
{
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return NULL;
    char *text = calloc(1, 65536);
    ck_assert_uint_lt(fread(text, 1, 65535, f), 65535);
    fclose(f);
    return text;
}

/* Compares with a file of the machine; HOLDFAST_WRITE_EXPECTED=1 writes it instead. */
static void assert_expected(const char *machine, const char *file, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s/%s", DOCTOR_TREES, machine, file);
    if (getenv("HOLDFAST_WRITE_EXPECTED") != NULL) {
        FILE *f = fopen(path, "w");
        ck_assert_ptr_nonnull(f);
        fputs(text, f);
        fclose(f);
    }
    char *expected = read_text(path);
    ck_assert_msg(expected != NULL, "%s is missing", path);
    ck_assert_str_eq(text, expected);
    free(expected);
}

static const struct recorded {
    const char *machine;
    uint64_t connections;
    double tls;
    enum doctor_status status;
} recorded[] = {
    {"dev-6.18", 1000000, 0, DOCTOR_MUST_FIX},      {"debian12-vm", 100000, 0.5, DOCTOR_MUST_FIX},
    {"tuned-64g", 2000000, 1, DOCTOR_ALL_OK},       {"container", 1000000, 0, DOCTOR_MUST_FIX},
    {"arm64-noaes", 150000, 0.25, DOCTOR_MUST_FIX}, {"loaded-6.18", 500000, 0, DOCTOR_MUST_FIX},
    {"namespace-6.18", 200000, 0, DOCTOR_ALL_OK},
};

/* Every check's status and numbers, commands, sums and verdict of a recorded machine. */
START_TEST(recorded_machine)
{
    const struct recorded *c = &recorded[_i];
    char root[512], *text, *short_form = NULL;
    snprintf(root, sizeof root, "%s/%s", DOCTOR_TREES, c->machine);
    struct doctor_request r = {.root = root, .connections = c->connections, .tls = c->tls};
    enum doctor_status status;
    text = report(r, &status);
    ck_assert_int_eq(status, c->status);
    free(text);
    json_t *o = report_object(r);
    size_t len;
    FILE *out = open_memstream(&short_form, &len);
    write_short_form(out, o, status);
    fclose(out);
    json_decref(o);
    assert_expected(c->machine, "expected", short_form);
    free(short_form);
}
END_TEST

/* The drop-in file to the letter. */
START_TEST(recorded_sysctl)
{
    const struct recorded *c = &recorded[_i];
    char root[512];
    snprintf(root, sizeof root, "%s/%s", DOCTOR_TREES, c->machine);
    char *text = report(
        (struct doctor_request){
            .root = root, .connections = c->connections, .tls = c->tls, .output = DOCTOR_SYSCTL},
        NULL);
    assert_expected(c->machine, "expected.sysctl", text);
    free(text);
}
END_TEST

/* With the drop-in file in force, nothing that sysctl can set remains to be fixed. */
START_TEST(sysctl_settles_what_it_can)
{
    static const char *const keys[] = {"fs/file-max", "net/core/somaxconn", "net/ipv4/tcp_mem",
                                       "net/netfilter/nf_conntrack_max"};
    static const char *const small[] = {"50000", "128", "1000 2000 3000", "65536"};
    for (size_t i = 0; i < 4; i++) {
        char path[128];
        snprintf(path, sizeof path, "/proc/sys/%s", keys[i]);
        put(path, small[i]);
    }
    put("/proc/sys/net/netfilter/nf_conntrack_count", "12\n");
    struct doctor_request r = {.root = tree, .connections = 400000, .output = DOCTOR_SYSCTL};
    char *file = report(r, NULL), *save = NULL;
    unsigned set = 0;
    for (char *line = strtok_r(file, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        char *value = strstr(line, " = ");
        if (line[0] == '#')
            continue;
        ck_assert_ptr_nonnull(value);
        *value = '\0';
        char path[256];
        snprintf(path, sizeof path, "/proc/sys/%s", line);
        for (char *dot = path + 10; (dot = strchr(dot, '.')) != NULL;)
            *dot = '/';
        put(path, value + 3);
        set++;
    }
    free(file);
    ck_assert_uint_eq(set, 4);
    enum doctor_status status;
    file = report(r, &status);
    ck_assert_int_eq(status, DOCTOR_ALL_OK);
    ck_assert_ptr_nonnull(strstr(file, "# Nothing must change."));
    free(file);
}
END_TEST

/* An empty machine gives notes. */
START_TEST(nothing_to_read)
{
    enum doctor_status status;
    char *text = report((struct doctor_request){.root = tree, .connections = 1000000, .tls = 1}, &status);
    ck_assert_int_eq(status, DOCTOR_ALL_OK);
    ck_assert_ptr_nonnull(strstr(text, "How many fit is unknown"));
    free(text);
    json_t *o = report_object((struct doctor_request){.root = tree, .connections = 1});
    ck_assert(json_is_null(json_object_get(o, "fits")));
    ck_assert_int_gt(json_array_size(json_object_get(o, "checks")), 25);
    json_decref(o);
}
END_TEST

static const struct odd {
    const char *text;
    enum value_state state;
    uint64_t n;
} odd[] = {
    {"", VALUE_MALFORMED, 0},
    {"\n", VALUE_MALFORMED, 0},
    {"max\n", VALUE_UNLIMITED, UINT64_MAX},
    {"unlimited", VALUE_UNLIMITED, UINT64_MAX},
    {"-1\n", VALUE_UNLIMITED, UINT64_MAX},
    {"18446744073709551615\n", VALUE_NUMBER, UINT64_MAX},
    {"18446744073709551616\n", VALUE_UNLIMITED, UINT64_MAX},
    {"99999999999999999999999999999999999999", VALUE_UNLIMITED, UINT64_MAX},
    {"0x10\n", VALUE_MALFORMED, 0},
    {"-5\n", VALUE_MALFORMED, 0},
    {"12junk", VALUE_MALFORMED, 0},
    {"  4096\t2\n", VALUE_NUMBER, 4096},
    {"0\n", VALUE_NUMBER, 0},
};

/* Numbers in odd files, and that every form of report survives them. */
START_TEST(odd_number)
{
    put("/proc/sys/fs/file-max", odd[_i].text);
    put("/proc/meminfo", odd[_i].text);
    put("/proc/self/limits", odd[_i].text);
    put("/proc/slabinfo", odd[_i].text);
    put("/proc/cpuinfo", odd[_i].text);
    put("/proc/self/cgroup", odd[_i].text);
    put("/proc/net/softnet_stat", odd[_i].text);
    put("/sys/fs/cgroup/memory.max", odd[_i].text);
    put("/etc/systemd/system.conf", odd[_i].text);
    put("/etc/security/limits.conf", odd[_i].text);
    put("/proc/sys/net/ipv4/ip_local_port_range", odd[_i].text);
    struct machine m;
    machine_read(&m, tree);
    ck_assert_int_eq(m.fact[FACT_FILE_MAX].state, odd[_i].state);
    ck_assert_uint_eq(m.fact[FACT_FILE_MAX].n, odd[_i].n);
    ck_assert_uint_eq(m.cores, 1);
    ck_assert(!m.slabinfo);
    for (int output = DOCTOR_TEXT; output <= DOCTOR_SYSCTL; output++)
        free(report((struct doctor_request){.root = tree, .connections = 1000, .output = output}, NULL));
}
END_TEST

/* A folder where a file should be, and a file that never ends within reason. */
START_TEST(not_a_file)
{
    ck_assert_int_eq(mkdir(place("/proc/sys/fs/file-max"), 0755), 0);
    char *big = malloc(MACHINE_FILE_MAX + 4096);
    memset(big, 'x', MACHINE_FILE_MAX + 4095);
    big[MACHINE_FILE_MAX + 4095] = '\0';
    put("/proc/slabinfo", big);
    free(big);
    struct machine m;
    machine_read(&m, tree);
    ck_assert_int_eq(m.fact[FACT_FILE_MAX].state, VALUE_MISSING);
    ck_assert(!m.slabinfo);
}
END_TEST

/* A caches' number of objects per slab of 0 would divide by it. */
START_TEST(slabinfo_nonsense)
{
    put("/proc/slabinfo", "TCP 1 1 2368 0 8\nfilp 1 1 256 16 0\nTCP\ndentry a b c d e\n"
                          "sock_inode_cache 5 5 832 19 4 : tunables 0 0 0 : slabdata 1 1 0\n");
    struct machine m;
    machine_read(&m, tree);
    ck_assert(m.slabinfo);
    ck_assert_int_eq(m.slab[SLAB_TCP].source, SLAB_UNKNOWN);
    ck_assert_int_eq(m.slab[SLAB_FILP].source, SLAB_UNKNOWN);
    ck_assert_uint_eq(m.slab[SLAB_SOCK_INODE].per_slab, 19);
    ck_assert_double_eq_tol(cost_object_bytes(&m, &m.slab[SLAB_SOCK_INODE]), 862.3, 0.1);
}
END_TEST

/* A merged cache's size is in the name its link points at. */
START_TEST(merged_cache)
{
    ck_assert_int_eq(symlink(":A-0000072", place("/sys/kernel/slab/eventpoll_pwq")), 0);
    ck_assert_int_eq(symlink("../elsewhere64", place("/sys/kernel/slab/ep_head")), 0);
    ck_assert_int_eq(symlink(":0000000", place("/sys/kernel/slab/eventpoll_epi")), 0);
    struct machine m;
    machine_read(&m, tree);
    ck_assert_int_eq(m.slab[SLAB_EPOLL_WAIT].source, SLAB_FROM_SYSFS);
    ck_assert_uint_eq(m.slab[SLAB_EPOLL_WAIT].per_slab, 56);
    ck_assert_int_eq(m.slab[SLAB_EPOLL_HEAD].source, SLAB_UNKNOWN);
    ck_assert_int_eq(m.slab[SLAB_EPOLL_ITEM].source, SLAB_UNKNOWN);
}
END_TEST

/* Older kernels have one tracking cache per network namespace; the one in use counts. */
START_TEST(conntrack_per_namespace)
{
    put("/proc/slabinfo", "nf_conntrack_expect 9 9 232 17 1\nnf_conntrack_1 3 3 320 12 1\n"
                          "nf_conntrack_7 900 900 304 13 1\n");
    put("/proc/sys/net/netfilter/nf_conntrack_max", "1000\n");
    struct machine m;
    machine_read(&m, tree);
    ck_assert_uint_eq(m.slab[SLAB_CONNTRACK].object_size, 304);
    ck_assert(cost_conntrack_active(&m));
    assert_status(5000, "nf_conntrack_max", "fix");
    put("/proc/slabinfo", "nf_conntrack 0 0 320 12 1\n");
    assert_status(5000, "nf_conntrack_max", "note");
    assert_status(500, "nf_conntrack_max", "ok");
}
END_TEST

/* Tracking that forgets silent connections sooner than their heartbeat comes breaks them. */
START_TEST(conntrack_forgets)
{
    put("/proc/sys/net/netfilter/nf_conntrack_max", "1000000\n");
    put("/proc/sys/net/netfilter/nf_conntrack_count", "1\n");
    put("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established", "300\n");
    assert_status(5000, "nf_conntrack timeout", "fix");
}
END_TEST

/* The tightest limit on the way to the top counts, less what is charged and cannot be dropped. */
START_TEST(cgroup2_tightest)
{
    put("/proc/self/cgroup", "0::/a/b\n");
    put("/sys/fs/cgroup/a/b/memory.max", "max\n");
    put("/sys/fs/cgroup/a/b/memory.high", "3000000000\n");
    put("/sys/fs/cgroup/a/memory.max", "2000000000\n");
    put("/sys/fs/cgroup/a/memory.current", "600000000\n");
    put("/sys/fs/cgroup/a/memory.stat", "anon 5\ninactive_file 500000000\n");
    put("/sys/fs/cgroup/memory.max", "9000000000\n");
    struct machine m;
    machine_read(&m, tree);
    ck_assert_uint_eq(m.cgroup.version, 2);
    ck_assert_uint_eq(m.cgroup.limit.n, 2000000000);
    ck_assert_uint_eq(m.cgroup.used, 100000000);
    ck_assert_str_eq(m.cgroup.path, "/sys/fs/cgroup/a/memory.max");
    struct cost_room room = cost_room(&m);
    ck_assert(room.known && room.cgroup);
    ck_assert_double_eq_tol(room.available, 1.9e9, 1);
}
END_TEST

/* Version 1, with a path that is not visible inside the container and one that leads out of it. */
START_TEST(cgroup1_in_container)
{
    put("/proc/self/cgroup", "5:cpu,cpuacct:/docker/0123\n4:memory:/docker/0123\n0::/../../x\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n");
    put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "36870912\n");
    struct machine m;
    machine_read(&m, tree);
    ck_assert_uint_eq(m.cgroup.version, 1);
    ck_assert_uint_eq(m.cgroup.limit.n, 536870912);
    assert_status(1000, "cgroup memory", "ok");
    assert_status(500000, "cgroup memory", "fix");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    machine_read(&m, tree);
    ck_assert_int_eq(m.cgroup.limit.state, VALUE_UNLIMITED);
}
END_TEST

/* Usage above the limit leaves no room instead of a huge one. */
START_TEST(cgroup_overdrawn)
{
    put("/sys/fs/cgroup/memory.max", "1000000\n");
    put("/sys/fs/cgroup/memory.current", "2000000\n");
    json_t *o = report_object((struct doctor_request){.root = tree, .connections = 1000});
    ck_assert_int_eq(json_integer_value(json_object_get(o, "fits")), 0);
    ck_assert_str_eq(status_of(o, "cgroup memory"), "fix");
    json_decref(o);
}
END_TEST

/* Account before everybody, later file before earlier, hard and "-" but not soft. */
START_TEST(limits_conf)
{
    put("/etc/security/limits.conf", "# c\n* soft nofile 9\n*\thard nofile 1000\nroot - nofile 7\n"
                                     "holdfast - nofile 2000\nbroken line\n* hard nproc 5\n");
    put("/etc/security/limits.d/20-b.conf", "holdfast hard nofile unlimited\n");
    put("/etc/security/limits.d/10-a.conf", "* hard nofile 4000\n");
    put("/etc/security/limits.d/99-ignored.txt", "* hard nofile 1\n");
    struct machine m;
    machine_read(&m, tree);
    ck_assert_uint_eq(m.pam_everybody.soft.n, 9);
    ck_assert_uint_eq(m.pam_everybody.hard.n, 4000);
    ck_assert_int_eq(m.pam_account.hard.state, VALUE_UNLIMITED);
    ck_assert_uint_eq(m.pam_account.soft.n, 2000);
    ck_assert_str_eq(m.pam_account.where, "/etc/security/limits.d/20-b.conf");
    assert_status(100000, "limits.conf nofile", "ok");
}
END_TEST

/* The unit's drop-in beats the unit, and the unit the manager's default. */
START_TEST(systemd_limits)
{
    put("/etc/systemd/system.conf", "[Manager]\n#DefaultLimitNOFILE=5\nDefaultLimitNOFILE=1024:30000\n"
                                    "DefaultLimitNOFILESoft=3\n");
    put("/etc/systemd/system.conf.d/x.conf", "[Manager]\nDefaultLimitNOFILE = infinity\n");
    struct machine m;
    machine_read(&m, tree);
    ck_assert(m.systemd);
    ck_assert_int_eq(m.systemd_default.hard.state, VALUE_UNLIMITED);
    assert_status(100000, "systemd LimitNOFILE", "ok");
    put("/usr/lib/systemd/system/holdfast.service", "[Service]\nLimitNOFILE=1000\n");
    put("/proc/sys/fs/nr_open", "1048576\n");
    assert_status(1000000, "systemd LimitNOFILE", "fix");
    put("/run/systemd/system/holdfast.service.d/a.conf", "[Service]\nLimitNOFILE=1024:2000000\n");
    machine_read(&m, tree);
    ck_assert_uint_eq(m.systemd_unit.soft.n, 1024);
    assert_status(1000000, "systemd LimitNOFILE", "ok");
}
END_TEST

/* A low limit means more workers, as long as that is sensible; a fixed number of them cannot make up for it.
 */
START_TEST(descriptor_limit)
{
    put("/proc/self/status", "Cpus_allowed:\t3\n");
    put("/proc/self/limits", "Max open files            1024                 20000                files\n");
    struct doctor_request r = {.root = tree, .connections = 500000};
    json_t *o = report_object(r);
    ck_assert_str_eq(status_of(o, "RLIMIT_NOFILE"), "note");
    ck_assert_int_eq(json_integer_value(json_object_get(o, "workers")), 27);
    json_decref(o);
    r.workers = 4;
    o = report_object(r);
    ck_assert_str_eq(status_of(o, "RLIMIT_NOFILE"), "fix");
    ck_assert_int_eq(json_integer_value(json_object_get(o, "workers")), 4);
    json_decref(o);
    put("/proc/self/limits", "Max open files            1024                 1024                 files\n");
    assert_status(500000, "RLIMIT_NOFILE", "fix");
    assert_status(1500, "RLIMIT_NOFILE", "note");
    assert_status(900, "RLIMIT_NOFILE", "ok");
}
END_TEST

/* SYN cookies make a short SYN backlog harmless. */
START_TEST(syn_cookies)
{
    put("/proc/sys/net/ipv4/tcp_max_syn_backlog", "128\n");
    put("/proc/sys/net/ipv4/tcp_syncookies", "1\n");
    assert_status(100000, "tcp_max_syn_backlog", "note");
    put("/proc/sys/net/ipv4/tcp_syncookies", "0\n");
    assert_status(100000, "tcp_max_syn_backlog", "fix");
}
END_TEST

/* Dropped packets turn advice into something to fix. */
START_TEST(dropped_packets)
{
    put("/proc/sys/net/core/netdev_max_backlog", "1000\n");
    put("/proc/net/softnet_stat", "00ff 00000000 0\n00ff 00000000 0\n");
    assert_status(1000000, "netdev_max_backlog", "note");
    put("/proc/net/softnet_stat", "00ff 00000000 0\n00ff 0000000a 0\n");
    assert_status(1000000, "netdev_max_backlog", "fix");
}
END_TEST

/* Kernel sizes, records, TLS keys and processes add up to the prediction. */
START_TEST(sums_agree)
{
    char root[512];
    snprintf(root, sizeof root, "%s/dev-6.18", DOCTOR_TREES);
    json_t *o = report_object(
        (struct doctor_request){.root = root, .connections = 1000000, .tls = 0.5, .ipv6 = true});
    json_t *memory = json_object_get(o, "memory"), *line;
    double bytes = 0, kernel = 0, user = 0;
    size_t i;
    json_array_foreach(json_object_get(memory, "lines"), i, line)
    {
        double each = json_number_value(json_object_get(line, "bytes_per_connection"));
        const char *layer = json_string_value(json_object_get(line, "layer"));
        bytes += json_number_value(json_object_get(line, "bytes"));
        kernel += strcmp(layer, "kernel") == 0 ? each : 0;
        user += strcmp(layer, "user space") == 0 ? each : 0;
    }
    ck_assert_double_eq_tol(bytes, json_number_value(json_object_get(memory, "bytes")), 64);
    ck_assert_double_eq_tol(kernel, json_number_value(json_object_get(memory, "kernel_bytes_per_connection")),
                            0.2);
    ck_assert_double_eq_tol(user, json_number_value(json_object_get(memory, "user_bytes_per_connection")),
                            0.2);
    double records = 0;
#define X(name, size, from) records += size;
    COST_USER_RECORDS(X)
#undef X
    ck_assert_double_eq_tol(user, records + 0.5 * COST_TLS_KEYS, 0.2);
    json_decref(o);
}
END_TEST

/* "memory suffices for N": that many fit, and not one more than a few. */
START_TEST(what_fits_fits)
{
    char root[512];
    snprintf(root, sizeof root, "%s/debian12-vm", DOCTOR_TREES);
    struct doctor_request r = {.root = root, .connections = 1};
    json_t *o = report_object(r);
    uint64_t fits = (uint64_t)json_integer_value(json_object_get(o, "fits"));
    json_decref(o);
    ck_assert_uint_gt(fits, 100000);
    r.connections = fits;
    o = report_object(r);
    ck_assert_str_eq(status_of(o, "memory"), "ok");
    json_decref(o);
    r.connections = fits + 1;
    o = report_object(r);
    ck_assert_str_eq(status_of(o, "memory"), "fix");
    json_decref(o);
}
END_TEST

/* Strict accounting of promises matters when little may still be promised. */
START_TEST(strict_overcommit)
{
    put("/proc/sys/vm/overcommit_memory", "2\n");
    put("/proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 7000000 kB\nCommitLimit: 4000000 kB\n"
                         "Committed_AS: 100000 kB\n");
    assert_status(100000, "overcommit", "ok");
    put("/proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 7000000 kB\nCommitLimit: 4000000 kB\n"
                         "Committed_AS: 5000000 kB\n");
    assert_status(100000, "overcommit", "fix");
}
END_TEST

/* Without MemAvailable, what is free counts. */
START_TEST(old_meminfo)
{
    put("/proc/meminfo", "MemTotal: 1000000 kB\nMemFree: 400000 kB\n");
    json_t *o = report_object((struct doctor_request){.root = tree, .connections = 1000});
    ck_assert_int_gt(json_integer_value(json_object_get(o, "fits")), 10000);
    json_decref(o);
    assert_status(1000000, "memory", "fix");
}
END_TEST

START_TEST(rounding_up)
{
    ck_assert_uint_eq(check_round_up(1), 1);
    ck_assert_uint_eq(check_round_up(99), 99);
    ck_assert_uint_eq(check_round_up(101), 110);
    ck_assert_uint_eq(check_round_up(1100000), 1100000);
    ck_assert_uint_eq(check_round_up(1100001), 1200000);
    ck_assert_uint_eq(check_round_up(9990), 10000);
}
END_TEST

START_TEST(formats)
{
    char t[FORMAT_MAX];
    ck_assert_str_eq(format_count(t, 0), "0");
    ck_assert_str_eq(format_count(t, 999), "999");
    ck_assert_str_eq(format_count(t, 1000), "1,000");
    ck_assert_str_eq(format_count(t, UINT64_MAX), "18,446,744,073,709,551,615");
    ck_assert_str_eq(format_tenths(t, 2520.58), "2,520.6");
    ck_assert_str_eq(format_bytes(t, 1023), "1023 bytes");
    ck_assert_str_eq(format_bytes(t, 4294967296.0), "4.00 GiB");
    ck_assert_str_eq(format_bytes(t, 250.0 * 1024 * 1024), "250 MiB");
}
END_TEST

static int command(const char *a, const char *b, const char *c, const char *d)
{
    char *argv[] = {"holdfast doctor", (char *)a, (char *)b, (char *)c, (char *)d, NULL};
    int argc = 1;
    while (argv[argc] != NULL)
        argc++;
    int quiet = open("/dev/null", O_WRONLY), out = dup(1), err = dup(2);
    fflush(stdout);
    dup2(quiet, 1);
    dup2(quiet, 2);
    int status = cmd_doctor(argc, argv);
    fflush(stdout);
    dup2(out, 1);
    dup2(err, 2);
    close(out);
    close(err);
    close(quiet);
    return status;
}

/* Arguments, right and wrong. */
START_TEST(arguments)
{
    static const char *const wrong[][4] = {
        {NULL},
        {"-n", "0"},
        {"-n", "-4"},
        {"-n", "12x"},
        {"-n", "5kk"},
        {"-n", "2000M"},
        {"-n", "99999999999999999999"},
        {"-n", "10", "extra"},
        {"-n", "10", "--tls", "1.5"},
        {"-n", "10", "--tls", "half"},
        {"-n", "10", "--tls", "nan"},
        {"-n", "10", "--tls", "101%"},
        {"-n", "10", "--workers", "0"},
        {"-n", "10", "--workers", "1025"},
        {"-n", "10", "--root", "/nowhere/at/all"},
        {"-n", "10", "--unknown"},
        {"--json"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        ck_assert_msg(command(wrong[i][0], wrong[i][1], wrong[i][2], wrong[i][3]) == DOCTOR_USAGE,
                      "arguments %zu were taken", i);
    ck_assert_int_eq(command("--root", tree, "-n", "1M"), DOCTOR_ALL_OK);
    ck_assert_int_eq(command("--root", tree, "-n10k", "--tls=50%"), DOCTOR_ALL_OK);
    ck_assert_int_eq(command("--help", NULL, NULL, NULL), DOCTOR_ALL_OK);
    put("/proc/sys/fs/file-max", "5\n");
    ck_assert_int_eq(command("--root", tree, "-n", "1M"), DOCTOR_MUST_FIX);
}
END_TEST

/* A recorded machine cannot be measured, and that is said. */
START_TEST(measure_needs_this_machine)
{
    json_t *o = report_object((struct doctor_request){.root = tree, .connections = 1000, .measure = true});
    ck_assert_str_eq(status_of(o, "slab sizes"), "note");
    ck_assert(json_is_false(json_object_get(json_object_get(o, "memory"), "measured")));
    json_decref(o);
}
END_TEST

/* This machine, whatever it is: every report can be written, and measuring finds what a connection costs. */
START_TEST(this_machine)
{
    for (int output = DOCTOR_TEXT; output <= DOCTOR_SYSCTL; output++)
        free(report((struct doctor_request){.root = "", .connections = 10000, .output = output}, NULL));
    struct machine m;
    machine_read(&m, "/");
    ck_assert_str_eq(m.root, "");
    struct measurement measured;
    char error[128];
    if (!m.slabinfo || measure_connections(&m, false, &measured, error, sizeof error) != 0)
        return; /* not root, or no loopback: nothing to compare with */
    ck_assert_double_gt(measured.per_connection, 2000);
    ck_assert_double_lt(measured.per_connection, 20000);
    ck_assert_uint_gt(measured.connections, 100);
}
END_TEST

static void add_tests(TCase *tc)
{
    int machines = sizeof recorded / sizeof recorded[0];
    tcase_add_checked_fixture(tc, make_tree, remove_tree);
    tcase_add_loop_test(tc, recorded_machine, 0, machines);
    tcase_add_loop_test(tc, recorded_sysctl, 0, machines);
    tcase_add_test(tc, sysctl_settles_what_it_can);
    tcase_add_test(tc, nothing_to_read);
    tcase_add_loop_test(tc, odd_number, 0, sizeof odd / sizeof odd[0]);
    tcase_add_test(tc, not_a_file);
    tcase_add_test(tc, slabinfo_nonsense);
    tcase_add_test(tc, merged_cache);
    tcase_add_test(tc, conntrack_per_namespace);
    tcase_add_test(tc, conntrack_forgets);
    tcase_add_test(tc, cgroup2_tightest);
    tcase_add_test(tc, cgroup1_in_container);
    tcase_add_test(tc, cgroup_overdrawn);
    tcase_add_test(tc, limits_conf);
    tcase_add_test(tc, systemd_limits);
    tcase_add_test(tc, descriptor_limit);
    tcase_add_test(tc, syn_cookies);
    tcase_add_test(tc, dropped_packets);
    tcase_add_test(tc, sums_agree);
    tcase_add_test(tc, what_fits_fits);
    tcase_add_test(tc, strict_overcommit);
    tcase_add_test(tc, old_meminfo);
    tcase_add_test(tc, rounding_up);
    tcase_add_test(tc, formats);
    tcase_add_test(tc, arguments);
    tcase_add_test(tc, measure_needs_this_machine);
    tcase_add_test(tc, this_machine);
}

UNIT_MAIN("doctor")
