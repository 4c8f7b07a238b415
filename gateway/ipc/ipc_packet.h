/*
 * The control channel between the supervisor and a child: a SOCK_SEQPACKET pair, one typed message per
 * packet, with at most one descriptor attached. Few, small messages; no event loop needed, so that the
 * supervisor can do without one.
 */
#ifndef HOLDFAST_IPC_PACKET_H
#define HOLDFAST_IPC_PACKET_H

#include "gateway/ipc/ipc_message.h"

#define IPC_PACKET_MAX 1024

/* A close-on-exec pair. 0, or -1 with errno. */
int ipc_packet_pair(int fd[2]) __attribute__((warn_unused_result));
/* Sends the message, with a copy of pass_fd unless that is -1. 0, or -1 with errno (EAGAIN: the queue is
 * full). */
int ipc_packet_send(int fd, const struct ipc_message *m, int pass_fd) __attribute__((warn_unused_result));
/*
 * Receives one message into buf (IPC_PACKET_MAX bytes; *m points into it). Does not wait. Returns 1 for a
 * message, 0 when the peer is gone, -1 with errno otherwise (EAGAIN: nothing there; EPROTO: not a message of
 * ours). *got_fd is the descriptor passed, or -1; it is the caller's.
 */
int ipc_packet_recv(int fd, void *buf, struct ipc_message *m, int *got_fd)
    __attribute__((warn_unused_result));

#endif
