/*
 * The other side of the control socket: what `holdfast reload` does. It finds the gateway by its data
 * directory, makes sure that it is one that root or this account runs, asks, and prints what comes.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/ipc/ipc_packet.h"
#include "gateway/supervisor/control.h"
#include "gateway/supervisor/control_address.h"

#define PATIENCE_MS                                                                                          \
    60000u /* for the whole answer: a reload may wait for another one, and for its workers                   \
            */

/* The directory as it should be named in a message: from the root. */
static const char *absolute(const char *path, char *buf) { return realpath(path, buf) ? buf : path; }

/* Whether the gateway behind the socket is root's or ours: the directory may belong to an account that is
 * not trusted with being one. Root may ask anybody's, and is told whose it is. */
static bool is_trusted(int fd, FILE *err)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
        return false;
    if (peer.uid == 0 || peer.uid == geteuid())
        return true;
    if (geteuid() == 0)
        fprintf(err, "note: this gateway is run by uid %u\n", (unsigned)peer.uid);
    else
        fprintf(err, "the control socket belongs to uid %u, expected root or uid %u\n", (unsigned)peer.uid,
                (unsigned)geteuid());
    return geteuid() == 0;
}

/* Why there is no gateway to be reached, in words. */
static void explain(const char *data_dir, int error, FILE *err)
{
    char buf[PATH_MAX];
    const char *dir = absolute(data_dir, buf);
    if (error == ENOENT || error == ECONNREFUSED || error == ENOTDIR)
        fprintf(err, "no gateway runs on data_dir '%s'; -c FILE or -d DIR say which one is meant\n", dir);
    else
        fprintf(err, "cannot reach the gateway on data_dir '%s': %s\n", dir, strerror(error));
}

/* A connection to the gateway, or -1 when that has been explained. */
static int connect_to(const char *data_dir, FILE *err)
{
    struct sockaddr_un address;
    int dir_fd = open(data_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = dir_fd >= 0 ? socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0) : -1;
    int r = fd >= 0 ? connect(fd, (struct sockaddr *)&address, control_address(dir_fd, &address)) : -1;
    int error = errno;
    if (dir_fd >= 0)
        close(dir_fd);
    if (r != 0)
        explain(data_dir, error, err);
    if (fd >= 0 && (r != 0 || !is_trusted(fd, err))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Waits for one message. As ipc_packet_recv(); -1 with ETIMEDOUT when it takes too long. */
static int receive(int fd, char *buf, struct ipc_message *m, uint64_t deadline_ms)
{
    for (;;) {
        int passed = -1, r = ipc_packet_recv(fd, buf, m, &passed);
        if (passed >= 0)
            close(passed);
        if (r >= 0 || errno != EAGAIN)
            return r;
        uint64_t now = clock_update();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (now >= deadline_ms || (poll(&p, 1, (int)(deadline_ms - now)) < 0 && errno != EINTR)) {
            errno = ETIMEDOUT;
            return -1;
        }
    }
}

/* Prints notes until the outcome comes. */
static bool read_answer(int fd, FILE *out, FILE *err)
{
    char buf[IPC_PACKET_MAX];
    struct ipc_message m;
    uint64_t deadline_ms = clock_update() + PATIENCE_MS;
    int r;
    while ((r = receive(fd, buf, &m, deadline_ms)) > 0) {
        if (m.type == IPC_RELOAD_NOTE)
            fwrite(m.field[0].bytes.data, 1, m.field[0].bytes.len, out);
        if (m.type == IPC_RELOAD_DONE)
            return m.field[0].num == 1;
    }
    fprintf(err, "the gateway %s\n",
            r == 0               ? "closed the connection without an answer"
            : errno == ETIMEDOUT ? "has not answered within a minute; its log says more"
                                 : "sent something that is no answer");
    return false;
}

bool control_ask_reload(const char *data_dir, FILE *out, FILE *err)
{
    int fd = connect_to(data_dir, err);
    if (fd < 0)
        return false;
    struct ipc_message hello =
        IPC_MAKE(HELLO, IPC_NUM(IPC_VERSION), IPC_NUM(0), IPC_NUM(0), IPC_NUM(0), IPC_NUM(0));
    struct ipc_message reload = {.type = IPC_RELOAD};
    /* One of another version answers HELLO and closes: then the second message is not taken. */
    bool sent =
        ipc_packet_send(fd, &hello, -1) == 0 && (ipc_packet_send(fd, &reload, -1) == 0 || errno == EPIPE);
    if (!sent)
        fprintf(err, "the gateway cannot be asked: %s\n", strerror(errno));
    bool done = sent && read_answer(fd, out, err);
    close(fd);
    return done;
}
