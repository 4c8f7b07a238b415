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
#include "gateway/tools/bench/certificate.h"
#include "gateway/tools/bench/interrupt.h"
#include "gateway/tools/bench/publisher.h"

#define STOP_MS       10000
#define SUBSTITUTIONS 7

/* The ports that a command is given: the one that is measured, one beside it, and the API's. */
enum { PORT_MEASURED, PORT_OTHER, PORT_API, PORTS };

/* TCP ports of 127.0.0.1 that nobody listens on: bound all at once, since a port that is given back may be
 * the next one that is given. */
static void find_ports(int port[PORTS])
{
    int fd[PORTS];
    for (int i = 0; i < PORTS; i++) {
        struct sockaddr_in a = {.sin_family = AF_INET};
        socklen_t len = sizeof a;
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool bound = bind(fd[i], (struct sockaddr *)&a, sizeof a) == 0 &&
                     getsockname(fd[i], (struct sockaddr *)&a, &len) == 0;
        port[i] = bound ? ntohs(a.sin_port) : 0;
    }
    for (int i = 0; i < PORTS; i++)
        close(fd[i]);
}

/* What the words in braces stand for. */
struct substitution {
    struct {
        const char *word;
        char value[TARGET_DIR + 32];
    } word[SUBSTITUTIONS];
    const char *dir;
    unsigned files;
};

static char *substitute(const char *text, struct substitution *s);

/* Copies a file with its own {port} and so on replaced into the target's folder; puts the copy's name at
 * `out`. */
static void copy_file(const char *path, FILE *out, struct substitution *s)
{
    char name[TARGET_DIR + 32], *text = NULL;
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

static const char *find_value(const struct substitution *s, const char *word, size_t len)
{
    for (size_t i = 0; i < SUBSTITUTIONS; i++)
        if (strlen(s->word[i].word) == len && memcmp(s->word[i].word, word, len) == 0)
            return s->word[i].value;
    return NULL;
}

/* Replaces what stands in braces; unknown words stay as they are. */
static char *substitute(const char *text, struct substitution *s)
{
    char *result = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&result, &len);
    for (const char *p = text; *p; p++) {
        const char *end = *p == '{' ? strchr(p, '}') : NULL;
        const char *value = end ? find_value(s, p + 1, (size_t)(end - p - 1)) : NULL;
        if (value) {
            fputs(value, out);
        } else if (end && strncmp(p, "{file:", 6) == 0) {
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

/* In the child: becomes the floor. */
static void exec_floor(const struct target *t, const struct substitution *s)
{
    const char *port = find_value(s, t->tls.on ? "tls_port" : "port", t->tls.on ? 8 : 4);
    if (t->tls.on)
        execl("/proc/self/exe", "holdfast-bench", "floor-tls", "--port", port, "--certificate",
              find_value(s, "certificate", 11), "--key", find_value(s, "key", 3), (char *)NULL);
    else
        execl("/proc/self/exe", "holdfast-bench", "floor", "--port", port, (char *)NULL);
}

/* In the child: becomes the command. */
static _Noreturn void exec_command(const struct target *t, const char *command, const struct substitution *s)
{
    char log[TARGET_DIR + 32];
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
    if (t->kind == TARGET_FLOOR)
        exec_floor(t, s);
    else
        execl("/bin/sh", "sh", "-c", command, (char *)NULL); /* a simple command replaces the shell */
    _exit(127);
}

/* Shows what the command said. */
static void show_output(const struct target *t)
{
    char path[TARGET_DIR + 32], line[512];
    snprintf(path, sizeof path, "%s/output", t->dir);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        fprintf(stderr, "  %s: %s", t->name, line);
    if (f)
        fclose(f);
}

/* Waits until the server answers CONNECT. */
static bool wait_until_up(struct target *t, unsigned version, unsigned seconds)
{
    for (unsigned waited = 0; waited < seconds * 1000; waited += 50) {
        int status;
        if (t->kind != TARGET_RUNNING && waitpid(t->pid, &status, WNOHANG) == t->pid) {
            fprintf(stderr, "%s ended at once:\n", t->name);
            show_output(t);
            t->pid = 0;
            return false;
        }
        enum publisher_probe probe = publisher_probe(&t->address, t->tls_client, (uint8_t)version);
        if (probe == PUBLISHER_UP)
            return true;
        if (probe == PUBLISHER_NEVER || t->kind == TARGET_RUNNING || !sleep_ms(50))
            break;
    }
    fprintf(stderr, "%s does not answer CONNECT: %s\n", t->name, publisher_error());
    if (t->kind != TARGET_RUNNING)
        show_output(t);
    return false;
}

/* Fills in the words, and makes a certificate when there is use for one. Capacity is a twentieth more than
 * what comes: a kernel that spreads connections over the processes of a server does so by chance. */
static bool fill_in(const struct target *t, unsigned long connections, const int port[PORTS],
                    struct substitution *s)
{
    *s = (struct substitution){.word = {{"port", ""},
                                        {"tls_port", ""},
                                        {"api_port", ""},
                                        {"capacity", ""},
                                        {"dir", ""},
                                        {"certificate", ""},
                                        {"key", ""}},
                               .dir = t->dir};
    snprintf(s->word[0].value, sizeof s->word[0].value, "%d", port[t->tls.on ? PORT_OTHER : PORT_MEASURED]);
    snprintf(s->word[1].value, sizeof s->word[1].value, "%d", port[t->tls.on ? PORT_MEASURED : PORT_OTHER]);
    snprintf(s->word[2].value, sizeof s->word[2].value, "%d", port[PORT_API]);
    snprintf(s->word[3].value, sizeof s->word[3].value, "%lu", connections + connections / 20 + 1);
    snprintf(s->word[4].value, sizeof s->word[4].value, "%s", t->dir);
    if (t->certificate) {
        snprintf(s->word[5].value, sizeof s->word[5].value, "%s", t->certificate);
        snprintf(s->word[6].value, sizeof s->word[6].value, "%s", t->key);
        return true;
    }
    snprintf(s->word[5].value, sizeof s->word[5].value, "%s/certificate.pem", t->dir);
    snprintf(s->word[6].value, sizeof s->word[6].value, "%s/key.pem", t->dir);
    return !t->tls.on || certificate_write(t->rsa, s->word[5].value, s->word[6].value);
}

/* The command, so that signals and readings concern the server and not a shell before it. */
static char *complete_command(const struct target *t, struct substitution *s)
{
    if (t->kind != TARGET_COMMAND)
        return NULL;
    char *command = substitute(t->command, s), *replacing = NULL;
    if (strpbrk(command, ";&|"))
        return command;
    if (asprintf(&replacing, "exec %s", command) < 0)
        abort();
    free(command);
    return replacing;
}

/* Makes the folder. */
static bool make_dir(struct target *t)
{
    const char *in = getenv("TMPDIR");
    int n = snprintf(t->dir, sizeof t->dir, "%s/holdfast-bench.XXXXXX", in && in[0] ? in : "/tmp");
    if (n < (int)sizeof t->dir && mkdtemp(t->dir))
        return true;
    fprintf(stderr, "%s: %s\n", t->dir, strerror(n < (int)sizeof t->dir ? errno : ENAMETOOLONG));
    t->dir[0] = 0;
    return false;
}

/* Makes the folder, fills in the command and forks. */
static bool start_command(struct target *t, unsigned long connections)
{
    struct substitution s;
    int port[PORTS];
    if (!make_dir(t))
        return false;
    find_ports(port);
    if (!fill_in(t, connections, port, &s))
        return false;
    char *command = complete_command(t, &s);
    t->address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port[PORT_MEASURED])};
    t->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fflush(NULL);
    t->pid = fork();
    if (t->pid == 0)
        exec_command(t, command, &s);
    free(command);
    return t->pid > 0;
}

/* What speaks to it. */
static bool make_client(struct target *t)
{
    if (t->tls.on)
        t->tls_client = tls_client_new(&t->tls);
    return !t->tls.on || t->tls_client;
}

bool target_start(struct target *t, unsigned version, unsigned long connections, unsigned seconds)
{
    if (!make_client(t) || (t->kind != TARGET_RUNNING && !start_command(t, connections)) ||
        !wait_until_up(t, version, seconds)) {
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
    tls_client_free(t->tls_client);
    t->tls_client = NULL;
}
