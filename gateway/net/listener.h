/*
 * Accepts connections on a listening socket that the supervisor has opened and tuned; accepted sockets
 * inherit its options, so an accept is one system call and one for the parking set.
 */
#ifndef HOLDFAST_NET_LISTENER_H
#define HOLDFAST_NET_LISTENER_H

#include "gateway/net/conn.h"

struct listener;

/* Takes over fd. `index` is the listener's number in the configuration. */
struct listener *listener_new(struct event_base *base, struct net *n, int fd, unsigned index);
/* Stops accepting and closes the socket. */
void listener_free(struct listener *l);

#endif
