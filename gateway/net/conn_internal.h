/*
 * What conn.c, parking.c and active.c share. Nobody else includes this.
 */
#ifndef HOLDFAST_NET_CONN_INTERNAL_H
#define HOLDFAST_NET_CONN_INTERNAL_H

#include <event2/event.h>

#include "gateway/base/pool.h"
#include "gateway/net/conn.h"

#define NET_MAGIC            0x4e455431u
#define NET_READ_BUFFER      (64u << 10)
#define NET_PARKING_BATCH    16
#define NET_TURN_CONNECTIONS 256 /* and a batch, at the most per turn of the loop */
#define NET_TURN_US          5000

struct bufferevent;

/* What a connection has in addition while it is active. */
struct active {
    struct bufferevent *bev;
    struct net *net;
    uint32_t conn;
    /* Frames that wait behind the bufferevent's output: a ring of references. Only whole frames are in it, so
     * the oldest can be dropped. */
    uint32_t ring_head, ring_count, ring_size;
    struct frame **ring;
    size_t ring_bytes;
    size_t
        behind; /* bytes of output put behind the message in progress; an upper bound of those still there */
    size_t accounted;       /* what of it is in COUNTER_OUTPUT_BYTES */
    size_t left_over;       /* bytes of input that were looked at and left */
    uint64_t partial_since; /* clock_ms() when an incomplete packet began to wait; 0: none does */
};

struct net {
    uint32_t magic;
    struct event_base *base;
    struct net_settings settings;
    const struct conn_handler *handler;
    void *ctx;
    struct pool *conns;
    struct pool *actives;
    int parking_fd;
    struct event *parking_event, *parking_again;
    size_t input_bytes;         /* of incomplete packets, all connections together */
    unsigned char *read_buffer; /* NET_READ_BUFFER bytes, shared by all parked connections */
    /* Doomed connections, closed together by reap_event. */
    uint32_t *doomed;
    uint32_t doomed_count, doomed_size;
    struct event *reap_event;
};

static inline struct conn *conn_at(const struct net *n, uint32_t id) { return pool_at(n->conns, id); }
static inline struct active *active_at(const struct net *n, const struct conn *c)
{
    return pool_at(n->actives, c->active);
}

/* conn.c: the only place where the state changes; keeps the gauges. */
void conn_set_state(struct conn *c, enum conn_state state);
/* The close reason that fits a failed system call. */
enum close_reason conn_error_reason(int err);

/* parking.c */
void parking_start(struct net *n);
void parking_stop(struct net *n);
bool parking_add(struct net *n, uint32_t id);    /* false: the system refuses */
void parking_remove(struct net *n, uint32_t id); /* the descriptor stays open */

/*
 * active.c. active_begin() gives a parked connection its bufferevent; `input` are bytes already read that
 * must be looked at again once `need` are there. False: no room, and the connection is doomed.
 */
bool active_begin(struct net *n, uint32_t id, const void *input, size_t len, size_t need);
/* More bytes in front of an active connection's input than it has been given yet (it became active while they
 * were looked at). */
void active_prefill(struct net *n, uint32_t id, const void *input, size_t len, size_t need);
enum send_result active_send(struct net *n, uint32_t id, const void *data, size_t len);
enum send_result active_send_frame(struct net *n, uint32_t id, struct frame *f, size_t skip);
/* Frees what it has, without parking it. */
void active_end(struct net *n, uint32_t id);

#endif
