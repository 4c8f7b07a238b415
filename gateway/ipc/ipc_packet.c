/*
 * The control channel between the supervisor and a child, one typed message per SOCK_SEQPACKET packet. The
 * supervisor writes to it from its signal loop, the child reads it from its event loop; a packet carries a
 * descriptor when a socket changes hands. It queues nothing of its own: what the kernel does not take is
 * refused, and a descriptor that nobody asked for is closed at once.
 */
#include "gateway/ipc/ipc_packet.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* Room for the control message of a few descriptors: one is expected, more are closed. */
#define MAX_PASSED 4

union control_room {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(MAX_PASSED * sizeof(int))];
};

int ipc_packet_pair(int fd[2]) { return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd); }

/* Puts one descriptor into the message's control part. */
static void attach_fd(struct msghdr *mh, union control_room *room, int fd)
{
    memset(room, 0, sizeof *room);
    mh->msg_control = room->bytes;
    mh->msg_controllen = CMSG_SPACE(sizeof fd);
    struct cmsghdr *c = CMSG_FIRSTHDR(mh);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
}

int ipc_packet_send(int fd, const struct ipc_message *m, int pass_fd)
{
    char buf[IPC_PACKET_MAX];
    size_t n = ipc_size(m);
    if (n == 0 || n > sizeof buf) {
        errno = EMSGSIZE;
        return -1;
    }
    ipc_encode(m, buf);
    struct iovec iov = {.iov_base = buf, .iov_len = n};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
    union control_room room;
    if (pass_fd >= 0)
        attach_fd(&mh, &room, pass_fd);
    ssize_t sent;
    do
        sent = sendmsg(fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -1 : 0;
}

/* Takes the descriptors out of a received message: the first is returned (or -1), any other is closed. */
static int take_fds(struct msghdr *mh)
{
    int first = -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (first < 0)
                first = fd;
            else
                close(fd);
        }
    }
    return first;
}

int ipc_packet_recv(int fd, void *buf, struct ipc_message *m, int *got_fd)
{
    struct iovec iov = {.iov_base = buf, .iov_len = IPC_PACKET_MAX};
    union control_room room;
    struct msghdr mh = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room.bytes, .msg_controllen = sizeof room.bytes};
    *got_fd = -1;
    ssize_t n;
    do
        n = recvmsg(fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return n < 0 && errno != ECONNRESET ? -1 : 0;
    *got_fd = take_fds(&mh);
    size_t used;
    const char *why;
    if (!(mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) && ipc_decode(buf, (size_t)n, m, &used, &why) == IPC_OK &&
        used == (size_t)n)
        return 1;
    if (*got_fd >= 0)
        close(*got_fd);
    *got_fd = -1;
    errno = EPROTO;
    return -1;
}
