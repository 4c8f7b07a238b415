/*
 * The supervisor's side of the control socket. The supervisor's loop polls and hands over; what a request
 * means is not known here.
 *
 * The data directory may belong to the unprivileged account, so nothing in it is trusted: the lock is not
 * opened through a link, the socket is bound and unlinked by name only, and who connects is judged by
 * SO_PEERCRED, never by being able to. Names are used through the directory's descriptor, since a socket
 * address has room for 107 bytes only.
 */
#include "gateway/supervisor/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/log.h"
#include "gateway/ipc/ipc_packet.h"
#include "gateway/supervisor/control_address.h"

#define BACKLOG 16
#define PIECE   900 /* bytes of text per message */

LOG_EVENT(ev_refused, "control_client_refused", LOG_LEVEL_WARNING);
LOG_EVENT(ev_lost, "control_client_lost", LOG_LEVEL_INFO);

void control_init(struct control *c)
{
    *c = (struct control){.dir_fd = -1, .lock_fd = -1, .listen_fd = -1};
    for (unsigned i = 0; i < CONTROL_CLIENTS; i++)
        c->client[i].fd = -1;
}

static void drop(struct control_client *cl)
{
    if (cl->fd >= 0)
        close(cl->fd);
    *cl = (struct control_client){.fd = -1, .state = CONTROL_FREE};
}

/* Who holds the lock, from what is written there; 0: unknown. */
static long holder(int lock_fd)
{
    char text[16] = "";
    return pread(lock_fd, text, sizeof text - 1, 0) > 0 ? strtol(text, NULL, 10) : 0;
}

/* Takes the lock, which the kernel gives back when the last of our processes that has it is gone. */
static int lock(struct control *c, const char *data_dir, char *error, size_t error_size)
{
    char pid[16];
    struct stat st;
    c->lock_fd =
        openat(c->dir_fd, CONTROL_LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (c->lock_fd < 0 || fstat(c->lock_fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        snprintf(error, error_size, "data_dir: cannot lock '%s/%s': %s", data_dir, CONTROL_LOCK,
                 c->lock_fd < 0 ? strerror(errno) : "not a regular file");
        return -1;
    }
    if (flock(c->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        snprintf(error, error_size,
                 errno == EWOULDBLOCK
                     ? "data_dir: another gateway (process %ld) runs on '%s'; stop it, or give "
                       "this one another data_dir"
                     : "data_dir: the lock (process %ld) in '%s' cannot be taken",
                 holder(c->lock_fd), data_dir);
        return -1;
    }
    int len = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(c->lock_fd, 0) != 0 || pwrite(c->lock_fd, pid, (size_t)len, 0) != len) {
        snprintf(error, error_size, "data_dir: cannot write '%s/%s': %s", data_dir, CONTROL_LOCK,
                 strerror(errno));
        return -1;
    }
    return 0;
}

/* Binds and listens; with the lock held, a socket that is there is a dead one. */
static int listen_here(struct control *c)
{
    struct sockaddr_un address;
    socklen_t len = control_address(c->dir_fd, &address);
    c->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->listen_fd < 0 || (unlinkat(c->dir_fd, CONTROL_SOCKET, 0) != 0 && errno != ENOENT))
        return -1;
    mode_t mask = umask(0177);
    int r = bind(c->listen_fd, (struct sockaddr *)&address, len);
    umask(mask);
    return r != 0 || listen(c->listen_fd, BACKLOG) != 0 ? -1 : 0;
}

int control_open(struct control *c, const char *data_dir, char *error, size_t error_size)
{
    c->dir_fd = open(data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (c->dir_fd < 0) {
        snprintf(error, error_size, "data_dir: cannot open '%s': %s", data_dir, strerror(errno));
        return -1;
    }
    if (lock(c, data_dir, error, error_size) != 0)
        return -1;
    if (listen_here(c) != 0) {
        snprintf(error, error_size, "data_dir: cannot open the control socket '%s/%s': %s", data_dir,
                 CONTROL_SOCKET, strerror(errno));
        return -1;
    }
    return 0;
}

void control_close(struct control *c)
{
    for (unsigned i = 0; i < CONTROL_CLIENTS; i++)
        drop(&c->client[i]);
    if (c->listen_fd >= 0) {
        unlinkat(c->dir_fd, CONTROL_SOCKET, 0);
        close(c->listen_fd);
    }
    if (c->lock_fd >= 0)
        close(c->lock_fd);
    if (c->dir_fd >= 0)
        close(c->dir_fd);
    control_init(c);
}

void control_fill(const struct control *c, struct pollfd *polls)
{
    polls[0] = (struct pollfd){.fd = c->listen_fd, .events = POLLIN};
    for (unsigned i = 0; i < CONTROL_CLIENTS; i++)
        polls[1 + i] = (struct pollfd){.fd = c->client[i].fd, .events = POLLIN};
}

/* Whether whoever connected may command us. */
static bool may_command(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
        return false;
    if (peer.uid == 0 || peer.uid == geteuid())
        return true;
    LOG(ev_refused, LOG_U64("uid", peer.uid), LOG_U64("pid", peer.pid));
    return false;
}

/* The answer, in pieces; the client is gone afterwards, whether it took it or not. */
static void answer(struct control_client *cl, bool done, const char *text)
{
    size_t left = strlen(text);
    bool taken = true;
    while (taken && left > 0) {
        size_t n = left < PIECE ? left : PIECE;
        struct ipc_message note = IPC_MAKE(RELOAD_NOTE, IPC_BYTES(text, n));
        taken = ipc_packet_send(cl->fd, &note, -1) == 0;
        text += n;
        left -= n;
    }
    struct ipc_message last = IPC_MAKE(RELOAD_DONE, IPC_NUM(done), IPC_BYTES("", 0));
    if (!taken || ipc_packet_send(cl->fd, &last, -1) != 0)
        LOG(ev_lost, LOG_STR("reason", strerror(errno)));
    drop(cl);
}

/* Reads one message of a client; false when there is none, or no more client. */
static bool read_message(struct control_client *cl)
{
    char buf[IPC_PACKET_MAX];
    struct ipc_message m;
    int fd = -1, r = ipc_packet_recv(cl->fd, buf, &m, &fd);
    if (fd >= 0)
        close(fd);
    if (r < 0 && errno == EAGAIN)
        return false;
    bool hello = r > 0 && m.type == IPC_HELLO && !cl->greeted;
    if (hello && m.field[0].num == IPC_VERSION)
        cl->greeted = true;
    else if (hello)
        answer(cl, false, "this gateway is of another version; restart it\n");
    else if (r > 0 && m.type == IPC_RELOAD && cl->greeted && cl->state == CONTROL_SILENT)
        cl->state = CONTROL_ASKED;
    else
        drop(cl); /* gone, or nonsense */
    return cl->fd >= 0;
}

/* Reads all that a client has sent. True: it asks for a reload. */
static bool read_client(struct control_client *cl)
{
    bool silent = cl->state == CONTROL_SILENT;
    while (read_message(cl))
        ;
    return silent && cl->state == CONTROL_ASKED;
}

/* A free place; if there is none, that of a client that has asked nothing. NULL: all wait for an answer. */
static struct control_client *find_place(struct control *c, bool *asked)
{
    for (unsigned i = 0; i < CONTROL_CLIENTS; i++)
        if (c->client[i].state == CONTROL_FREE)
            return &c->client[i];
    for (unsigned i = 0; i < CONTROL_CLIENTS; i++) {
        if (c->client[i].state != CONTROL_SILENT)
            continue;
        *asked |= read_client(&c->client[i]);
        if (c->client[i].state <= CONTROL_SILENT)
            return &c->client[i];
    }
    return NULL;
}

/* Takes one new client. True: another one, found while looking for a place, has asked for a reload. */
static bool accept_client(struct control *c)
{
    bool asked = false;
    int fd = accept4(c->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return false;
    struct control_client *cl = may_command(fd) ? find_place(c, &asked) : NULL;
    if (cl) {
        drop(cl);
        *cl = (struct control_client){.fd = fd, .state = CONTROL_SILENT};
    } else {
        close(fd);
    }
    return asked;
}

bool control_read(struct control *c, const struct pollfd *polls)
{
    bool asked = false;
    for (unsigned i = 0; i < CONTROL_CLIENTS; i++)
        if (polls[1 + i].revents != 0 && c->client[i].fd == polls[1 + i].fd)
            asked |= read_client(&c->client[i]);
    if (polls[0].revents != 0 && c->listen_fd >= 0)
        asked |= accept_client(c);
    return asked;
}

void control_begin(struct control *c)
{
    for (unsigned i = 0; i < CONTROL_CLIENTS; i++)
        if (c->client[i].state == CONTROL_ASKED)
            c->client[i].state = CONTROL_WAITING;
}

void control_end(struct control *c, bool done, const char *text)
{
    for (unsigned i = 0; i < CONTROL_CLIENTS; i++)
        if (c->client[i].state == CONTROL_WAITING)
            answer(&c->client[i], done, text);
}
