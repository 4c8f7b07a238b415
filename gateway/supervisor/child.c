/*
 * Forking, telling and burying one child. The supervisor decides when; this file knows how. The part between
 * fork() and the child's own main runs in the child: it keeps the descriptors that are its own, and the
 * account it is to have.
 */
#include "gateway/supervisor/child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/hub/hub.h"
#include "gateway/ipc/ipc_packet.h"
#include "gateway/supervisor/limits.h"
#include "gateway/worker/worker.h"

#define EXIT_PRIVILEGES 77 /* a child that could not become its account */

LOG_EVENT(ev_started, "process_started", LOG_LEVEL_INFO);
LOG_EVENT(ev_fork_failed, "fork_failed", LOG_LEVEL_ERROR);
LOG_EVENT(ev_exited, "process_exited", LOG_LEVEL_INFO);
LOG_EVENT(ev_died, "process_died", LOG_LEVEL_ERROR);
LOG_EVENT(ev_privileges, "privileges_failed", LOG_LEVEL_ERROR);
LOG_EVENT(ev_stop_failed, "stop_failed", LOG_LEVEL_WARNING);

/* "hub" or "worker/3". */
const char *child_name(const struct child *ch)
{
    static char name[24];
    if (ch->number == PROCESS_HUB)
        return "hub";
    snprintf(name, sizeof name, "worker/%u", (unsigned)ch->number);
    return name;
}

/* A child that is due at once. */
void child_init(struct child *ch, uint16_t number)
{
    *ch = (struct child){.state = CHILD_DOWN, .control_fd = -1, .number = number};
}

/* Changes the state; a process and its control channel belong to STARTING, UP and STOPPING only. */
void child_set_state(struct child *ch, enum child_state state)
{
    bool process = state == CHILD_STARTING || state == CHILD_UP || state == CHILD_STOPPING;
    CHECK(process == child_alive(ch));
    if (!process && ch->control_fd >= 0) {
        close(ch->control_fd);
        ch->control_fd = -1;
    }
    ch->late = false;
    ch->state = state;
}

/* Ascending order of descriptors. */
static int compare_fd(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

/* In the child: closes all descriptors above standard error but the given ones. */
static void keep_only(int *keep, unsigned n)
{
    qsort(keep, n, sizeof *keep, compare_fd);
    unsigned from = STDERR_FILENO + 1;
    for (unsigned i = 0; i < n; i++) {
        if ((unsigned)keep[i] > from)
            close_range(from, (unsigned)keep[i] - 1, 0);
        from = (unsigned)keep[i] + 1;
    }
    close_range(from, ~0u, 0);
}

/*
 * In the child: as after exec, but for the signals that a terminal or a service manager sends to the whole
 * group. Those are for the supervisor, which then tells the children in the right order.
 */
static void reset_signals(void)
{
    for (int sig = 1; sig < NSIG; sig++)
        if (sig != SIGKILL && sig != SIGSTOP)
            signal(sig, SIG_DFL);
    const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
    for (unsigned i = 0; i < sizeof ignored / sizeof *ignored; i++)
        signal(ignored[i], SIG_IGN);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* In the child: closes what is not for it. */
static void keep_own(struct process_args *args)
{
    int keep[CONFIG_MAX_LISTENERS + 3];
    unsigned n = args->listen_fds;
    CHECK(n <= CONFIG_MAX_LISTENERS);
    memcpy(keep, args->listen_fd, sizeof *keep * n);
    keep[n++] = args->control_fd;
    if (args->tls_fd >= 0)
        keep[n++] = args->tls_fd;
    if (args->keylog_fd >= 0)
        keep[n++] = args->keylog_fd;
    keep_only(keep, n);
}

/* In the child: from a copy of the supervisor to a process of its own kind. Never returns. */
static _Noreturn void become(const struct child *ch, const struct child_setup *setup,
                             struct process_args *args)
{
    static char name[24]; /* the log keeps it */
    snprintf(name, sizeof name, "%s", child_name(ch));
    char title[16];
    if (ch->number == PROCESS_HUB)
        snprintf(title, sizeof title, "hf-hub");
    else
        snprintf(title, sizeof title, "hf-worker-%u", (unsigned)ch->number);
    prctl(PR_SET_NAME, title);
    if (ch->number == PROCESS_HUB)
        explicit_bzero(setup->ticket_seed, sizeof *setup->ticket_seed); /* our copy of the page */
    reset_signals();

    keep_own(args);

    log_setup((enum log_level)setup->log_level, setup->log_json, name);
    counters_attach(&setup->counters[ch->number == PROCESS_HUB ? setup->workers : ch->number]);
    if (privileges_drop(setup->account) != 0) {
        LOG(ev_privileges, LOG_U64("uid", setup->account->uid), LOG_STR("error", strerror(errno)));
        _exit(EXIT_PRIVILEGES);
    }
    exit(ch->number == PROCESS_HUB ? hub_main(args) : worker_main(args));
}

/* After a failed fork: later, as after a death. */
static int fork_failed(struct child *ch, int control[2])
{
    int error = errno;
    if (control[0] >= 0) {
        close(control[0]);
        close(control[1]);
    }
    ch->restart_ms = clock_ms() + LIMITS_BACKOFF_MIN_MS + limits_restart_delay(&ch->backoff_ms, 0);
    LOG(ev_fork_failed, LOG_STR("child", child_name(ch)), LOG_STR("error", strerror(error)));
    errno = error;
    return -1;
}

/* Starts a process. */
int child_fork(struct child *ch, const struct child_setup *setup, const int *listen_fd, unsigned listen_fds)
{
    CHECK(ch->state == CHILD_DOWN);
    int control[2] = {-1, -1};
    if (ipc_packet_pair(control) != 0)
        return fork_failed(ch, control);
    bool worker = ch->number != PROCESS_HUB;
    struct process_args args = {
        .config = setup->config,
        .workers = setup->workers,
        .number = ch->number,
        .generation = ch->generation,
        .control_fd = control[1],
        .listen_fd = listen_fd,
        .listen_fds = listen_fds,
        .counters = setup->counters,
        .max_connections = setup->max_connections,
        .tls_fd = worker ? setup->tls_fd : -1,
        .keylog_fd = worker ? setup->keylog_fd : -1,
        .ticket_seed = worker ? setup->ticket_seed : NULL,
    };
    pid_t pid = fork();
    if (pid < 0)
        return fork_failed(ch, control);
    if (pid == 0)
        become(ch, setup, &args);
    close(control[1]);
    ch->control_fd = control[0];
    ch->pid = pid;
    ch->started_ms = clock_ms();
    child_set_state(ch, CHILD_STARTING);
    LOG(ev_started, LOG_STR("child", child_name(ch)), LOG_U64("pid", pid),
        LOG_U64("generation", ch->generation));
    return 0;
}

/* Buries the process and says what happens next. */
void child_exited(struct child *ch, int status)
{
    bool stays_away = ch->state == CHILD_STOPPING;
    pid_t pid = ch->pid;
    uint64_t lived = clock_ms() - ch->started_ms;
    ch->pid = 0;
    child_set_state(ch, stays_away ? CHILD_GONE : CHILD_DOWN);
    uint32_t delay = 0;
    if (!stays_away) {
        delay = limits_restart_delay(&ch->backoff_ms, lived);
        ch->restart_ms = clock_ms() + delay;
        ch->generation++;
        counter_add(COUNTER_RESTARTS, 1);
    }
    bool killed = WIFSIGNALED(status);
    const char *how = killed ? "signal" : "status";
    int code = killed ? WTERMSIG(status) : WEXITSTATUS(status);
    if (stays_away)
        LOG(ev_exited, LOG_STR("child", child_name(ch)), LOG_U64("pid", pid), LOG_I64(how, code));
    else
        LOG(ev_died, LOG_STR("child", child_name(ch)), LOG_U64("pid", pid), LOG_I64(how, code),
            LOG_STR("reason", killed ? sigdescr_np(code) : "exited by itself"), LOG_U64("lived_ms", lived),
            LOG_U64("restart_in_ms", delay));
}

/* Asks the process to end. */
void child_stop(struct child *ch)
{
    if (!child_alive(ch)) {
        child_set_state(ch, CHILD_GONE);
        return;
    }
    child_set_state(ch, CHILD_STOPPING);
    struct ipc_message m = {.type = IPC_STOP};
    if (ch->control_fd >= 0 && ipc_packet_send(ch->control_fd, &m, -1) == 0)
        return;
    LOG(ev_stop_failed, LOG_STR("child", child_name(ch)), LOG_STR("error", strerror(errno)));
    child_kill(ch);
}

/* Ends the process. */
void child_kill(struct child *ch)
{
    if (child_alive(ch))
        kill(ch->pid, SIGKILL);
}
