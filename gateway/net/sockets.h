/*
 * Small questions to a socket.
 */
#ifndef HOLDFAST_NET_SOCKETS_H
#define HOLDFAST_NET_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>

#define SOCKETS_ADDRESS_TEXT 64

/* The peer as "1.2.3.4:567" or "[::1]:567"; "" when it is gone. out has SOCKETS_ADDRESS_TEXT bytes. Returns
 * out. */
const char *sockets_peer_text(int fd, char *out);

/* Whether bytes wait to be read. */
bool sockets_has_input(int fd);

#endif
