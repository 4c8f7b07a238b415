/*
 * Where the control socket is: names in the data directory, and the address through its descriptor.
 */
#ifndef HOLDFAST_SUPERVISOR_CONTROL_ADDRESS_H
#define HOLDFAST_SUPERVISOR_CONTROL_ADDRESS_H

#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#define CONTROL_LOCK   "lock"
#define CONTROL_SOCKET "control"

/* The address of the socket in an open directory, to bind or to connect to. */
static inline socklen_t control_address(int dir_fd, struct sockaddr_un *out)
{
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(out->sun_path, sizeof out->sun_path, "/proc/self/fd/%d/" CONTROL_SOCKET, dir_fd);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n + 1);
}

#endif
