/*
 * The supervisor process: one array of children (the workers by number, then the hub), one signalfd, the
 * control socket of commands, one ppoll(). Signals, the children's control channels and commands feed it; it
 * forks, connects, restarts, reloads (reload.c) and stops. It reads nothing from the network and kills
 * nothing that it did not fork. What it needs to keep its children alive is allocated at the start, for as
 * many as there will ever be; a reload alone allocates later, and frees what it replaces.
 *
 * Whenever a process has been forked it is connected to its live counterparts: a stream socket pair per hub
 * and worker, one end to each over their control channels. A CHANNEL for the same worker replaces the old
 * one.
 */
#include "gateway/supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/hash.h"
#include "gateway/base/log.h"
#include "gateway/base/options.h"
#include "gateway/base/xmalloc.h"
#include "gateway/ipc/ipc_packet.h"
#include "gateway/net/tls_context.h"
#include "gateway/supervisor/child.h"
#include "gateway/supervisor/control.h"
#include "gateway/supervisor/limits.h"
#include "gateway/supervisor/listen_sockets.h"
#include "gateway/supervisor/privileges.h"
#include "gateway/supervisor/reload.h"

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#define READY_TIMEOUT_MS  10000u /* a child that is not READY by then is logged */
#define HUB_STOP_GRACE_MS 2000u  /* for the hub, when the workers have used up shutdown_timeout */
#define CONNECT_RETRY_MS  50u
#define NEVER             UINT64_MAX

LOG_EVENT(ev_start_failed, "start_failed", LOG_LEVEL_ERROR);
LOG_EVENT(ev_running_as_root, "running_as_root", LOG_LEVEL_WARNING);
LOG_EVENT(ev_user_ignored, "user_ignored", LOG_LEVEL_INFO);
LOG_EVENT(ev_limit, "descriptor_limit", LOG_LEVEL_WARNING);
LOG_EVENT(ev_ready, "ready", LOG_LEVEL_NOTICE);
LOG_EVENT(ev_child_ready, "process_ready", LOG_LEVEL_INFO);
LOG_EVENT(ev_not_ready, "process_not_ready", LOG_LEVEL_WARNING);
LOG_EVENT(ev_connect_failed, "connect_failed", LOG_LEVEL_WARNING);
LOG_EVENT(ev_control, "control_channel_failed", LOG_LEVEL_ERROR);
LOG_EVENT(ev_stopping, "stopping", LOG_LEVEL_NOTICE);
LOG_EVENT(ev_kill, "killing", LOG_LEVEL_WARNING);
LOG_EVENT(ev_reload, "reloading", LOG_LEVEL_INFO);
LOG_EVENT(ev_stopped, "stopped", LOG_LEVEL_NOTICE);

/* The order of the whole: it only ever goes forward. */
enum phase {
    PHASE_STARTING, /* not everybody has been READY yet */
    PHASE_RUNNING,
    PHASE_STOPPING_WORKERS,
    PHASE_STOPPING_HUB,
    PHASE_DONE
};

struct supervisor {
    struct config *config;
    const struct config_source *source;
    struct child_setup setup;
    struct account account;
    struct listen_sockets sockets;
    unsigned workers, children;
    struct child *child; /* [workers] is the hub */
    struct pollfd *poll; /* one per child, then the signalfd, then those of the control socket */
    int signal_fd;
    int token_fd; /* api.token_file, or -1 */
    struct control control;
    struct reload reload;
    struct ticket_seed *seed; /* of the period before the present one, in a page of its own */
    enum phase phase;
    uint64_t deadline_ms; /* stopping: when to kill */
    int exit_status;
};

/* Tells the service manager, if there is one. */
static void notify_manager(const char *state)
{
#ifdef HAVE_SYSTEMD
    sd_notify(0, state);
#else
    (void)state;
#endif
}

/* The hub among the children. */
static struct child *hub_of(struct supervisor *s) { return &s->child[s->workers]; }

/* Whether the end has been decided. */
static bool stopping(const struct supervisor *s) { return s->phase >= PHASE_STOPPING_WORKERS; }

/* ---- connecting hub and workers ---- */

/* Sends one end of a pair to a child. 0, or -1 with errno. */
static int send_channel(const struct child *to, const struct child *worker, int fd)
{
    struct ipc_message m = IPC_MAKE(CHANNEL, IPC_NUM(worker->number));
    if (to->control_fd < 0) {
        errno = EPIPE;
        return -1;
    }
    return ipc_packet_send(to->control_fd, &m, fd);
}

/* Gives a worker and the hub a new channel to each other; when that fails it is tried again. */
static void connect_worker(struct supervisor *s, struct child *worker)
{
    struct child *hub = hub_of(s);
    worker->unconnected = false;
    if (!child_alive(hub) || !child_alive(worker) || stopping(s))
        return; /* done when the missing one is forked */
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) {
        worker->unconnected = true;
    } else {
        worker->unconnected =
            send_channel(hub, worker, pair[0]) != 0 || send_channel(worker, worker, pair[1]) != 0;
        int error = errno;
        close(pair[0]);
        close(pair[1]);
        errno = error;
    }
    if (worker->unconnected)
        LOG(ev_connect_failed, LOG_STR("child", child_name(worker)), LOG_STR("error", strerror(errno)));
}

/* The number of the period of ticket keys before the present one. */
static uint64_t last_period(const struct supervisor *s)
{
    uint64_t period = clock_ms() / s->config->ticket_rotation_ms;
    return period > 0 ? period - 1 : 0;
}

/* Steps the secret of the ticket keys when that is due, so that who takes it cannot open older tickets. */
static void step_seed(struct supervisor *s)
{
    if (s->seed->period >= last_period(s))
        return;
    tls_context_setup();
    ticket_seed_advance(s->seed, last_period(s));
}

/* Forks a child. 0, or -1 when that failed. */
static int fork_child(struct supervisor *s, struct child *ch, const int *fds, unsigned n)
{
    step_seed(s);
    s->setup.tls_fd = s->reload.credentials.bundle_fd;
    s->setup.keylog_fd = s->reload.keylog_fd;
    if (child_fork(ch, &s->setup, fds, n) != 0)
        return -1;
    reload_forked(&s->reload, ch);
    return 0;
}

/* Starts a child that is due and connects it. */
static void start_child(struct supervisor *s, struct child *ch)
{
    if (ch->number == PROCESS_HUB) {
        const int fds[] = {s->sockets.api_fd, s->token_fd};
        if (fork_child(s, ch, fds, s->token_fd >= 0 ? 2 : 1) == 0)
            for (unsigned i = 0; i < s->workers; i++)
                connect_worker(s, &s->child[i]);
        return;
    }
    if (fork_child(s, ch, listen_sockets_of(&s->sockets, ch->number), s->sockets.listeners) == 0)
        connect_worker(s, ch);
}

/* ---- reloading ---- */

/* Tells the service manager that a reload begins, as it wants to be told: with its clock's time. */
static void notify_reloading(void)
{
    struct timespec now;
    char state[64];
    clock_gettime(CLOCK_MONOTONIC, &now);
    unsigned long long us = (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000;
    snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%llu", us);
    notify_manager(state);
}

/* Begins a reload if one is wanted and none is under way. */
static void begin_reload(struct supervisor *s)
{
    if (!s->reload.wanted || s->reload.under_way || s->phase != PHASE_RUNNING)
        return;
    LOG(ev_reload, LOG_STR("config", s->source->file ? s->source->file : "embedded defaults"));
    notify_reloading();
    control_begin(&s->control);
    reload_begin(&s->reload);
}

/* Goes on with reloads; when one ends, that is told, and the next one begins if it has been asked for. */
static void tend_reload(struct supervisor *s)
{
    begin_reload(s);
    while (reload_advance(&s->reload, s->child, s->workers)) {
        control_end(&s->control, !s->reload.failed, s->reload.text);
        notify_manager("READY=1");
        begin_reload(s);
    }
}

/* Nobody waits any longer for a reload. */
static void abandon_reload(struct supervisor *s)
{
    control_begin(&s->control);
    control_end(&s->control, false, "the gateway stops\n");
    s->reload.wanted = s->reload.under_way = false;
}

/* ---- stopping ---- */

/* No new connections; the workers say goodbye to their clients. The hub goes on until they are gone. */
static void begin_stop(struct supervisor *s, const char *why)
{
    if (stopping(s))
        return;
    LOG(ev_stopping, LOG_STR("reason", why));
    notify_manager("STOPPING=1\nSTATUS=Saying goodbye to clients");
    abandon_reload(s);
    s->phase = PHASE_STOPPING_WORKERS;
    s->deadline_ms = clock_ms() + s->config->shutdown_timeout_ms;
    listen_sockets_close(&s->sockets);
    for (unsigned i = 0; i < s->workers; i++)
        child_stop(&s->child[i]);
}

/* SIGKILL for whoever is left of this phase, or of all when `everybody`. */
static void kill_rest(struct supervisor *s, bool everybody)
{
    for (unsigned i = 0; i < s->children; i++) {
        struct child *ch = &s->child[i];
        if (!child_alive(ch) || (ch->state != CHILD_STOPPING && !everybody))
            continue;
        LOG(ev_kill, LOG_STR("child", child_name(ch)), LOG_U64("pid", ch->pid));
        if (ch->state != CHILD_STOPPING)
            child_set_state(ch, CHILD_STOPPING);
        child_kill(ch);
    }
}

/* Whether the children from..to-1 are all gone for good. */
static bool all_gone(const struct supervisor *s, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++)
        if (s->child[i].state != CHILD_GONE)
            return false;
    return true;
}

/* Goes on to the next phase of stopping when this one is over, and kills when its time is up. */
static void advance_stop(struct supervisor *s)
{
    if (s->phase == PHASE_STOPPING_WORKERS && all_gone(s, 0, s->workers)) {
        s->phase = PHASE_STOPPING_HUB;
        uint64_t grace = clock_ms() + HUB_STOP_GRACE_MS;
        if (s->deadline_ms == NEVER || s->deadline_ms < grace)
            s->deadline_ms = grace;
        if (hub_of(s)->state != CHILD_GONE && hub_of(s)->state != CHILD_STOPPING)
            child_stop(hub_of(s));
    }
    if (s->phase == PHASE_STOPPING_HUB && all_gone(s, s->workers, s->children))
        s->phase = PHASE_DONE;
    if (stopping(s) && s->phase != PHASE_DONE && clock_ms() >= s->deadline_ms) {
        kill_rest(s, false);
        s->deadline_ms = NEVER;
    }
}

/* ---- what children say and how they end ---- */

/* Everybody has been READY for the first time: the gateway serves. */
static void became_ready(struct supervisor *s)
{
    uint64_t max = (uint64_t)s->setup.max_connections * s->workers;
    if (s->config->max_connections != 0 && s->config->max_connections < max)
        max = s->config->max_connections;
    s->phase = PHASE_RUNNING;
    LOG(ev_ready, LOG_U64("pid", getpid()), LOG_U64("workers", s->workers), LOG_U64("max_connections", max));
    char state[128];
    snprintf(state, sizeof state, "READY=1\nSTATUS=Serving with %u workers, up to %llu connections",
             s->workers, (unsigned long long)max);
    notify_manager(state);
}

/* A child serves. */
static void child_is_ready(struct supervisor *s, struct child *ch)
{
    if (ch->state != CHILD_STARTING)
        return;
    child_set_state(ch, CHILD_UP);
    LOG(ev_child_ready, LOG_STR("child", child_name(ch)), LOG_U64("pid", ch->pid),
        LOG_U64("generation", ch->generation), LOG_U64("after_ms", clock_ms() - ch->started_ms));
    if (s->phase != PHASE_STARTING)
        return;
    for (unsigned i = 0; i < s->children; i++)
        if (s->child[i].state != CHILD_UP)
            return;
    became_ready(s);
}

/* Reads what a child says; one that talks nonsense is ended, its successor will not. */
static void read_control(struct supervisor *s, struct child *ch)
{
    char buf[IPC_PACKET_MAX];
    struct ipc_message m;
    int fd = -1;
    int r = ipc_packet_recv(ch->control_fd, buf, &m, &fd);
    if (fd >= 0)
        close(fd);
    if (r > 0 && m.type == IPC_READY) {
        child_is_ready(s, ch);
    } else if (r > 0 && m.type == IPC_TLS_DONE) {
        reload_answered(&s->reload, ch, (uint32_t)m.field[0].num, m.field[1].bytes.data,
                        m.field[1].bytes.len);
    } else if (r == 0 || (r < 0 && errno == ECONNRESET)) {
        close(ch->control_fd); /* it is about to exit: SIGCHLD tells the rest */
        ch->control_fd = -1;
    } else if (r < 0 && errno == EPROTO) {
        LOG(ev_control, LOG_STR("child", child_name(ch)), LOG_STR("error", "not a message of ours"));
        child_kill(ch);
    }
}

/* Finds the child with this process id, or NULL. */
static struct child *child_by_pid(struct supervisor *s, pid_t pid)
{
    for (unsigned i = 0; i < s->children; i++)
        if (s->child[i].pid == pid)
            return &s->child[i];
    return NULL;
}

/* Buries whoever has died. As process 1 of a container this includes strangers, who are left unmourned. */
static void reap(struct supervisor *s)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        struct child *ch = child_by_pid(s, pid);
        if (ch == NULL)
            continue;
        bool cannot_start = s->phase == PHASE_STARTING && WIFEXITED(status) && WEXITSTATUS(status) != 0;
        child_exited(ch, status);
        if (cannot_start) {
            s->exit_status = EXIT_FAILURE;
            LOG(ev_start_failed,
                LOG_STR("error", "a process ended at its first start; its own line says why"),
                LOG_STR("child", child_name(ch)));
            begin_stop(s, "start failed");
        } else if (stopping(s) && ch->state == CHILD_DOWN) {
            child_set_state(ch, CHILD_GONE);
        }
    }
}

/* ---- the loop ---- */

/* Takes one signal from the signalfd. */
static void take_signal(struct supervisor *s)
{
    struct signalfd_siginfo info;
    if (read(s->signal_fd, &info, sizeof info) != sizeof info)
        return;
    if (info.ssi_signo == SIGCHLD) {
        reap(s);
    } else if (info.ssi_signo == SIGHUP) {
        s->reload.wanted = true;
    } else if (!stopping(s)) {
        begin_stop(s, sigabbrev_np((int)info.ssi_signo));
    } else {
        s->exit_status = EXIT_FAILURE;
        kill_rest(s, true);
    }
}

/* Forks what is due, retries what could not be connected, and notes who is late. */
static void tend_children(struct supervisor *s)
{
    for (unsigned i = 0; i < s->children; i++) {
        struct child *ch = &s->child[i];
        if (ch->state == CHILD_DOWN && clock_ms() >= ch->restart_ms)
            start_child(s, ch);
        if (ch->unconnected)
            connect_worker(s, ch);
        if (ch->state == CHILD_STARTING && !ch->late && clock_ms() >= ch->started_ms + READY_TIMEOUT_MS) {
            ch->late = true;
            LOG(ev_not_ready, LOG_STR("child", child_name(ch)), LOG_U64("pid", ch->pid),
                LOG_U64("after_ms", clock_ms() - ch->started_ms));
        }
    }
}

/* The earlier of two times. */
static uint64_t earlier(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* When something is due although nothing happens; NEVER: nothing is. */
static uint64_t next_due(const struct supervisor *s)
{
    if (stopping(s))
        return s->deadline_ms;
    uint64_t due = reload_due(&s->reload, s->child, s->workers);
    if (s->config->tls_sections > 0)
        due = earlier(due, (s->seed->period + 2) * s->config->ticket_rotation_ms);
    for (unsigned i = 0; i < s->children; i++) {
        const struct child *ch = &s->child[i];
        if (ch->state == CHILD_DOWN)
            due = earlier(due, ch->restart_ms);
        if (ch->state == CHILD_STARTING && !ch->late)
            due = earlier(due, ch->started_ms + READY_TIMEOUT_MS);
        if (ch->unconnected)
            due = earlier(due, clock_ms() + CONNECT_RETRY_MS);
    }
    return due;
}

/* Waits until a signal, a message or a due time. */
static void wait_for_events(struct supervisor *s)
{
    for (unsigned i = 0; i < s->children; i++)
        s->poll[i] = (struct pollfd){.fd = s->child[i].control_fd, .events = POLLIN};
    s->poll[s->children] = (struct pollfd){.fd = s->signal_fd, .events = POLLIN};
    control_fill(&s->control, &s->poll[s->children + 1]);
    uint64_t due = next_due(s);
    uint64_t left = due > clock_ms() ? due - clock_ms() : 0;
    struct timespec ts = {.tv_sec = (time_t)(left / 1000), .tv_nsec = (long)(left % 1000) * 1000000};
    int n = ppoll(s->poll, s->children + 1 + CONTROL_POLLS, due == NEVER ? NULL : &ts, NULL);
    CHECK(n >= 0 || errno == EINTR || errno == ENOMEM);
    clock_update();
    if (n <= 0)
        return;
    for (unsigned i = 0; i < s->children; i++)
        if (s->poll[i].revents != 0 && s->child[i].control_fd == s->poll[i].fd)
            read_control(s, &s->child[i]);
    if (control_read(&s->control, &s->poll[s->children + 1])) {
        s->reload.wanted = true;
        if (stopping(s))
            abandon_reload(s);
    }
    if (s->poll[s->children].revents != 0)
        take_signal(s);
}

/* From the first fork to the last funeral. */
static void supervise(struct supervisor *s)
{
    start_child(s, hub_of(s));
    while (s->phase != PHASE_DONE) {
        if (!stopping(s)) {
            tend_children(s);
            tend_reload(s);
            if (s->config->tls_sections > 0)
                step_seed(s);
        }
        counters_publish();
        wait_for_events(s);
        advance_stop(s);
    }
}

/* ---- start ---- */

/* Raises the soft limit of open files to the hard one; returns what it is now. */
static uint64_t raise_nofile(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0)
        return 1024;
    if (r.rlim_cur < r.rlim_max) {
        rlim_t old = r.rlim_cur;
        r.rlim_cur = r.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &r) != 0)
            r.rlim_cur = old;
    }
    return r.rlim_cur;
}

/* Says when the descriptor limit makes promises of the configuration impossible. */
static void warn_about_limit(const struct supervisor *s, uint64_t nofile)
{
    uint64_t possible = (uint64_t)s->workers * limits_usable(nofile);
    if (s->config->max_connections > possible)
        LOG(ev_limit, LOG_U64("max_connections", s->config->max_connections), LOG_U64("possible", possible),
            LOG_U64("nofile", nofile), LOG_STR("hint", "raise LimitNOFILE (ulimit -n) or 'workers'"));
}

/* Makes sure that descriptors 0 to 2 are taken, lest a socket becomes standard error. */
static void open_standard_fds(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

/* Blocks the signals that the loop reads from a descriptor. 0, or -1 with errno. */
static int open_signals(struct supervisor *s)
{
    const int read_here[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP};
    sigset_t set;
    sigemptyset(&set);
    for (unsigned i = 0; i < sizeof read_here / sizeof *read_here; i++) {
        sigaddset(&set, read_here[i]);
        signal(read_here[i], SIG_DFL);
    }
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_SETMASK, &set, NULL) != 0)
        return -1;
    s->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return s->signal_fd < 0 ? -1 : 0;
}

/* Account, data directory, TLS files, sockets, signals: everything that may fail before anybody is forked. */
static int prepare(struct supervisor *s, char *error, size_t error_size)
{
    struct config *c = s->config;
    if (account_find(c->user, &s->account, error, error_size) != 0)
        return -1;
    if (geteuid() == 0 && !s->account.drop)
        LOG(ev_running_as_root, LOG_STR("hint", "set 'user' to an account for the hub and the workers"));
    if (geteuid() != 0 && *c->user != '\0')
        LOG(ev_user_ignored, LOG_STR("user", c->user), LOG_STR("reason", "not started as root"));
    if (account_make_dir(&s->account, c->data_dir, error, error_size) != 0)
        return -1;
    if (control_open(&s->control, c->data_dir, error, error_size) != 0 ||
        reload_start(&s->reload, c, s->source, error, error_size) != 0)
        return -1;
    if (listen_sockets_open(&s->sockets, c, s->workers, error, error_size) != 0)
        return -1;
    if (*c->api_token_file != '\0' && (s->token_fd = open(c->api_token_file, O_RDONLY | O_CLOEXEC)) < 0) {
        snprintf(error, error_size, "cannot read api.token_file %s: %s", c->api_token_file, strerror(errno));
        return -1;
    }
    if (open_signals(s) != 0) {
        snprintf(error, error_size, "cannot read signals: %s", strerror(errno));
        return -1;
    }
    return 0;
}

/* A page that core dumps leave out, for the secret behind the ticket keys. */
static struct ticket_seed *new_seed(void)
{
    void *p =
        mmap(NULL, sizeof(struct ticket_seed), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    madvise(p, sizeof(struct ticket_seed), MADV_DONTDUMP);
    return p;
}

/* Sizes everything by the number of workers. */
static void set_up(struct supervisor *s, struct config *config, const struct config_source *source)
{
    open_standard_fds();
    uint64_t nofile = raise_nofile();
    enum log_level level = LOG_LEVEL_INFO;
    log_level_from_name(config->log_level, &level);
    bool json = strcmp(config->log_format, "json") == 0;
    log_setup(level, json, "supervisor");
    clock_update();

    unsigned workers = limits_workers(config, nofile);
    *s = (struct supervisor){.config = config,
                             .source = source,
                             .workers = workers,
                             .children = workers + 1,
                             .signal_fd = -1,
                             .token_fd = -1,
                             .seed = new_seed()};
    s->sockets.api_fd = -1;
    control_init(&s->control);
    s->reload = (struct reload){.keylog_fd = -1, .credentials = {.bundle_fd = -1}};
    ticket_seed_init(s->seed, last_period(s));
    s->setup = (struct child_setup){
        .config = config,
        .counters = counters_map(workers + 2),
        .account = &s->account,
        .log_json = json,
        .log_level = level,
        .workers = workers,
        .max_connections = limits_connections_per_worker(config, nofile),
        .ticket_seed = s->seed,
    };
    counters_attach(&s->setup.counters[workers + 1]);
    hash_init();
    s->child = xcalloc(s->children, sizeof *s->child);
    s->poll = xcalloc(s->children + 1 + CONTROL_POLLS, sizeof *s->poll);
    for (unsigned i = 0; i < s->children; i++)
        child_init(&s->child[i], i == workers ? PROCESS_HUB : (uint16_t)i);
    warn_about_limit(s, nofile);
}

/* Starts, supervises, and stops everything. */
int supervisor_run(struct config *config, const struct config_source *source)
{
    struct supervisor s;
    char error[512];
    set_up(&s, config, source);
    if (prepare(&s, error, sizeof error) == 0) {
        supervise(&s);
        LOG(ev_stopped, LOG_I64("status", s.exit_status));
    } else {
        LOG(ev_start_failed, LOG_STR("error", error));
        s.exit_status = EXIT_FAILURE;
    }
    listen_sockets_close(&s.sockets);
    control_close(&s.control);
    reload_free(&s.reload);
    explicit_bzero(s.seed, sizeof *s.seed);
    munmap(s.seed, sizeof *s.seed);
    if (s.signal_fd >= 0)
        close(s.signal_fd);
    if (s.token_fd >= 0)
        close(s.token_fd);
    free(s.child);
    free(s.poll);
    return s.exit_status;
}
