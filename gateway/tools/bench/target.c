/*
 * Starting and stopping what is measured. A command runs in a process group of its own, on ports that were
 * free a moment ago, with its output in a file that is shown when it does not come up. It is asked to stop
 * with SIGTERM and killed after ten seconds; only processes that were started here are.
 */
#include "gateway/tools/bench/target.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/base/xmalloc.h"
#include "gateway/tools/bench/interrupt.h"
#include "gateway/tools/bench/publisher.h"

#define START_MS 15000
#define STOP_MS  10000

/* ADDRESS:PORT, or PORT on loopback. */
static bool parse_address(const char *s, size_t len, struct sockaddr_in *a)
{
    char text[64];
    if (len == 0 || len >= sizeof text)
        return false;
    memcpy(text, s, len);
    text[len] = 0;
    char *colon = strrchr(text, ':'), *end;
    const char *host = colon ? text : "127.0.0.1", *port = colon ? colon + 1 : text;
    if (colon)
        *colon = 0;
    long n = strtol(port, &end, 10);
    *a = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)n)};
    return *end == 0 && end != port && n > 0 && n < 65536 && inet_pton(AF_INET, host, &a->sin_addr) == 1;
}

/* ADDRESS[,pid=PID]. */
static bool parse_running(struct target *t, const char *s)
{
    t->kind = TARGET_RUNNING;
    const char *comma = strchr(s, ',');
    if (!parse_address(s, comma ? (size_t)(comma - s) : strlen(s), &t->address))
        return false;
    if (!comma)
        return true;
    char *end;
    if (strncmp(comma, ",pid=", 5) != 0)
        return false;
    t->pid = (pid_t)strtol(comma + 5, &end, 10);
    return *end == 0 && t->pid > 0;
}

struct target *target_parse(const char *spec)
{
    struct target *t = xcalloc(1, sizeof *t);
    t->spec = xstrdup(spec);
    const char *equals = strchr(spec, '=');
    size_t n = equals ? (size_t)(equals - spec) : strlen(spec);
    bool ok = n > 0 && n < sizeof t->name;
    if (ok)
        memcpy(t->name, spec, n);
    if (ok && !equals && strcmp(spec, "floor") == 0)
        return t;
    if (ok && equals && strncmp(equals + 1, "cmd:", 4) == 0) {
        t->kind = TARGET_COMMAND;
        t->command = xstrdup(equals + 5);
        return t;
    }
    if (ok && equals && parse_running(t, equals + 1))
        return t;
    fprintf(stderr, "--target %s: expected floor, NAME=ADDRESS:PORT[,pid=PID] or NAME='cmd:COMMAND'\n", spec);
    target_free(t);
    return NULL;
}

void target_free(struct target *t)
{
    free(t->spec);
    free(t->command);
    free(t);
}

/* A TCP port of 127.0.0.1 that nobody listens on. */
static int free_port(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof a;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int port = 0;
    if (bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && getsockname(fd, (struct sockaddr *)&a, &len) == 0)
        port = ntohs(a.sin_port);
    close(fd);
    return port;
}

struct substitution {
    int port, api_port;
    unsigned long capacity;
    const char *dir;
    unsigned files;
};

static char *substitute(const char *text, struct substitution *s);

/* Copies a file with its own {port} and so on replaced into the target's folder; puts the copy's name at
 * `out`. */
static void copy_file(const char *path, FILE *out, struct substitution *s)
{
    char name[160], *text = NULL;
    size_t len = 0;
    snprintf(name, sizeof name, "%s/file%u.conf", s->dir, s->files++);
    FILE *in = fopen(path, "re");
    if (!in) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return;
    }
    ssize_t n = getdelim(&text, &len, 0, in);
    fclose(in);
    char *done = substitute(n > 0 ? text : "", s);
    FILE *copy = fopen(name, "we");
    if (copy) {
        fputs(done, copy);
        fclose(copy);
    }
    free(done);
    free(text);
    fputs(name, out);
}

/* Replaces what stands in braces; unknown words stay as they are. */
static char *substitute(const char *text, struct substitution *s)
{
    char *result = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&result, &len);
    for (const char *p = text; *p; p++) {
        const char *end = *p == '{' ? strchr(p, '}') : NULL;
        if (strncmp(p, "{port}", 6) == 0)
            fprintf(out, "%d", s->port);
        else if (strncmp(p, "{api_port}", 10) == 0)
            fprintf(out, "%d", s->api_port);
        else if (strncmp(p, "{capacity}", 10) == 0)
            fprintf(out, "%lu", s->capacity);
        else if (strncmp(p, "{dir}", 5) == 0)
            fputs(s->dir, out);
        else if (end && strncmp(p, "{file:", 6) == 0) {
            char *path = xstrndup(p + 6, (size_t)(end - p - 6));
            copy_file(path, out, s);
            free(path);
        } else {
            putc(*p, out);
            continue;
        }
        p = end;
    }
    fclose(out);
    return result;
}

/* In the child: becomes the command. */
static _Noreturn void exec_command(const struct target *t, const char *command, int port)
{
    char log[96], port_text[16];
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    snprintf(log, sizeof log, "%s/output", t->dir);
    int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd >= 0) {
        dup2(fd, 1);
        dup2(fd, 2);
    }
    signal(SIGPIPE, SIG_DFL);
    struct rlimit r;
    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
    snprintf(port_text, sizeof port_text, "%d", port);
    if (t->kind == TARGET_FLOOR)
        execl("/proc/self/exe", "holdfast-bench", "floor", "--port", port_text, (char *)NULL);
    else
        execl("/bin/sh", "sh", "-c", command, (char *)NULL); /* a simple command replaces the shell */
    _exit(127);
}

/* Shows what the command said. */
static void show_output(const struct target *t)
{
    char path[96], line[512];
    snprintf(path, sizeof path, "%s/output", t->dir);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        fprintf(stderr, "  %s: %s", t->name, line);
    if (f)
        fclose(f);
}

/* Waits until the server answers CONNECT. */
static bool wait_until_up(struct target *t, unsigned version)
{
    for (unsigned waited = 0; waited < START_MS; waited += 50) {
        int status;
        if (t->kind != TARGET_RUNNING && waitpid(t->pid, &status, WNOHANG) == t->pid) {
            fprintf(stderr, "%s ended at once:\n", t->name);
            show_output(t);
            t->pid = 0;
            return false;
        }
        if (publisher_probe(&t->address, (uint8_t)version))
            return true;
        if (t->kind == TARGET_RUNNING || !sleep_ms(50))
            break;
    }
    fprintf(stderr, "%s does not answer CONNECT: %s\n", t->name, strerror(errno));
    if (t->kind != TARGET_RUNNING)
        show_output(t);
    return false;
}

/* Makes the folder, fills in the command and forks. Capacity is a twentieth more than what comes: a kernel
 * that spreads connections over the processes of a server does so by chance. */
static bool start_command(struct target *t, unsigned long connections)
{
    struct substitution s = {free_port(), free_port(), connections + connections / 20 + 1, t->dir, 0};
    snprintf(t->dir, sizeof t->dir, "/tmp/holdfast-bench.XXXXXX");
    if (!mkdtemp(t->dir)) {
        perror(t->dir);
        return false;
    }
    char *command = t->kind == TARGET_COMMAND ? substitute(t->command, &s) : NULL;
    if (command && !strpbrk(command, ";&|")) {
        char *replacing = NULL; /* so that signals and readings concern the server, not a shell before it */
        if (asprintf(&replacing, "exec %s", command) < 0)
            abort();
        free(command);
        command = replacing;
    }
    t->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)s.port)};
    t->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fflush(NULL);
    t->pid = fork();
    if (t->pid == 0)
        exec_command(t, command, s.port);
    free(command);
    return t->pid > 0;
}

bool target_start(struct target *t, unsigned version, unsigned long connections)
{
    if (t->kind != TARGET_RUNNING && !start_command(t, connections))
        return false;
    if (!wait_until_up(t, version)) {
        target_stop(t);
        return false;
    }
    if (t->pid)
        t->tree = proctree_new(&t->pid, 1);
    return true;
}

/* Waits for our child; kills the rest of its tree when it takes too long. */
static void end_command(struct target *t)
{
    kill(t->pid, SIGTERM);
    for (unsigned waited = 0; waited < STOP_MS; waited += 20) {
        if (waitpid(t->pid, NULL, WNOHANG) == t->pid)
            return;
        usleep(20000);
    }
    fprintf(stderr, "%s did not stop within %d s and is killed\n", t->name, STOP_MS / 1000);
    if (t->tree)
        proctree_kill(t->tree);
    kill(t->pid, SIGKILL);
    waitpid(t->pid, NULL, 0);
}

/* Removes the folder that was made for the command, with all in it. */
static void remove_dir(struct target *t)
{
    pid_t pid = t->dir[0] ? fork() : -1;
    if (pid == 0) {
        execlp("rm", "rm", "-rf", "--", t->dir, (char *)NULL);
        _exit(127);
    }
    if (pid > 0)
        waitpid(pid, NULL, 0);
    t->dir[0] = 0;
}

void target_stop(struct target *t)
{
    if (t->kind != TARGET_RUNNING && t->pid > 0) {
        end_command(t);
        t->pid = 0;
    }
    if (t->kind != TARGET_RUNNING)
        remove_dir(t);
    proctree_free(t->tree);
    t->tree = NULL;
}
