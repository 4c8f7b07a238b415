/*
 * The control channel: messages keep their borders, descriptors arrive usable and close-on-exec, and nothing
 * that is not wanted stays open.
 */
#include "tests/unit/unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/ipc/ipc_packet.h"

static int pair[2];
static char buf[IPC_PACKET_MAX];
static struct ipc_message got;
static int got_fd;

static void setup(void) { ck_assert_int_eq(ipc_packet_pair(pair), 0); }

static void teardown(void)
{
    close(pair[0]);
    close(pair[1]);
}

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

static int receive(void) { return ipc_packet_recv(pair[1], buf, &got, &got_fd); }

START_TEST(messages_keep_their_borders)
{
    struct ipc_message ready = IPC_MAKE(READY), channel = IPC_MAKE(CHANNEL, IPC_NUM(3));
    ready.fields = 0;
    ck_assert_int_eq(ipc_packet_send(pair[0], &ready, -1), 0);
    ck_assert_int_eq(ipc_packet_send(pair[0], &channel, -1), 0);
    ck_assert_int_eq(receive(), 1);
    ck_assert_int_eq(got.type, IPC_READY);
    ck_assert_int_eq(got_fd, -1);
    ck_assert_int_eq(receive(), 1);
    ck_assert_int_eq(got.type, IPC_CHANNEL);
    ck_assert_uint_eq(got.field[0].num, 3);
    ck_assert_int_eq(receive(), -1);
    ck_assert_int_eq(errno, EAGAIN);
}
END_TEST

START_TEST(a_descriptor_arrives_and_works)
{
    int pipe_fd[2];
    ck_assert_int_eq(pipe(pipe_fd), 0);
    struct ipc_message m = IPC_MAKE(CHANNEL, IPC_NUM(65535));
    ck_assert_int_eq(ipc_packet_send(pair[0], &m, pipe_fd[1]), 0);
    close(pipe_fd[1]);
    ck_assert_int_eq(receive(), 1);
    ck_assert_int_ge(got_fd, 0);
    ck_assert(fcntl(got_fd, F_GETFD) & FD_CLOEXEC);
    ck_assert_int_eq((int)write(got_fd, "x", 1), 1);
    char c;
    ck_assert_int_eq((int)read(pipe_fd[0], &c, 1), 1);
    ck_assert_int_eq(c, 'x');
    close(got_fd);
    close(pipe_fd[0]);
}
END_TEST

START_TEST(the_end_of_the_peer_is_seen_after_what_it_said)
{
    struct ipc_message m = IPC_MAKE(CHANNEL, IPC_NUM(1));
    ck_assert_int_eq(ipc_packet_send(pair[0], &m, -1), 0);
    close(pair[0]);
    ck_assert_int_eq(receive(), 1);
    ck_assert_int_eq(receive(), 0);
    ck_assert_int_eq(receive(), 0);
}
END_TEST

START_TEST(sending_to_a_peer_that_is_gone_is_an_error_not_a_signal)
{
    close(pair[1]);
    struct ipc_message m = IPC_MAKE(CHANNEL, IPC_NUM(1));
    ck_assert_int_eq(ipc_packet_send(pair[0], &m, -1), -1);
    ck_assert_int_eq(errno, EPIPE);
}
END_TEST

START_TEST(a_full_queue_says_so)
{
    struct ipc_message m = IPC_MAKE(CHANNEL, IPC_NUM(1));
    int sent = 0;
    while (ipc_packet_send(pair[0], &m, -1) == 0)
        ck_assert_int_lt(sent++, 100000);
    ck_assert_int_eq(errno, EAGAIN);
    for (int i = 0; i < sent; i++)
        ck_assert_int_eq(receive(), 1);
    ck_assert_int_eq(ipc_packet_send(pair[0], &m, -1), 0);
}
END_TEST

START_TEST(a_message_above_the_packet_size_is_refused)
{
    static char id[IPC_PACKET_MAX];
    struct ipc_message m = IPC_MAKE(RELEASE, IPC_NUM(1), IPC_BYTES(id, sizeof id));
    ck_assert_int_eq(ipc_packet_send(pair[0], &m, -1), -1);
    ck_assert_int_eq(errno, EMSGSIZE);
}
END_TEST

START_TEST(garbage_is_refused_and_the_channel_goes_on)
{
    static char big[IPC_PACKET_MAX + 1];
    struct ipc_message m = IPC_MAKE(CHANNEL, IPC_NUM(1));
    char two[64];
    ipc_encode(&m, two);
    ipc_encode(&m, two + ipc_size(&m));
    ck_assert_int_eq((int)send(pair[0], "nonsense", 8, 0), 8);
    ck_assert_int_eq((int)send(pair[0], "x", 1, 0), 1);
    ck_assert_int_eq((int)send(pair[0], big, sizeof big, 0), (int)sizeof big);
    ck_assert_int_gt((int)send(pair[0], two, 2 * ipc_size(&m), 0), 0);
    ck_assert_int_eq(ipc_packet_send(pair[0], &m, -1), 0);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(receive(), -1);
        ck_assert_int_eq(errno, EPROTO);
    }
    ck_assert_int_eq(receive(), 1);
}
END_TEST

/* Sends bytes with n copies of a descriptor. */
static void send_fds(const void *data, size_t len, int fd, size_t n)
{
    char control[CMSG_SPACE(8 * sizeof(int))];
    memset(control, 0, sizeof control);
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    struct msghdr mh = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control,
                        .msg_controllen = CMSG_SPACE(n * sizeof(int))};
    struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(n * sizeof(int));
    for (size_t i = 0; i < n; i++)
        memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof fd);
    ck_assert_int_eq((int)sendmsg(pair[0], &mh, 0), (int)len);
}

START_TEST(descriptors_nobody_asked_for_do_not_stay_open)
{
    struct ipc_message m = IPC_MAKE(CHANNEL, IPC_NUM(1));
    char good[64];
    ipc_encode(&m, good);
    int before = open_fds();
    send_fds("nonsense", 8, pair[0], 1);
    ck_assert_int_eq(receive(), -1);
    ck_assert_int_eq(errno, EPROTO);
    ck_assert_int_eq(open_fds(), before);
    send_fds(good, ipc_size(&m), pair[0], 3);
    ck_assert_int_eq(receive(), 1);
    ck_assert_int_eq(open_fds(), before + 1);
    close(got_fd);
    send_fds(good, ipc_size(&m), pair[0], 8);
    ck_assert_int_eq(receive(), -1);
    ck_assert_int_eq(open_fds(), before);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, messages_keep_their_borders);
    tcase_add_test(tc, a_descriptor_arrives_and_works);
    tcase_add_test(tc, the_end_of_the_peer_is_seen_after_what_it_said);
    tcase_add_test(tc, sending_to_a_peer_that_is_gone_is_an_error_not_a_signal);
    tcase_add_test(tc, a_full_queue_says_so);
    tcase_add_test(tc, a_message_above_the_packet_size_is_refused);
    tcase_add_test(tc, garbage_is_refused_and_the_channel_goes_on);
    tcase_add_test(tc, descriptors_nobody_asked_for_do_not_stay_open);
}

UNIT_MAIN("ipc_packet")
