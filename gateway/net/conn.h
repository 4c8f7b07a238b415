/*
 * Connections of a worker: parked or active, and how bytes get in and out of them.
 *
 *      accept ──(TLS)──> HANDSHAKE
 *         │                  │ done
 *         └───────> PARKED <─┴────────────┐
 *                     │ partial packet,   │ all drained
 *                     │ output blocked,   │
 *                     │ held with a rest  │
 *                     └────> ACTIVE ──────┘
 *                     │         │
 *                     └──> DOOMED ──> gone
 *
 * handshake: OpenSSL speaks with the peer; the upper layer does not know the connection yet
 *
 * parked: this record, with TLS the keys, and the descriptor in the parking epoll set (unless held), nothing
 * else
 *
 * active: also a bufferevent and a queue of frames
 *
 * doomed: to be closed, once per turn of the loop, never inside a callback of its own
 *
 * The upper layer is one conn_handler; it names connections by id and keeps its own id in `owner`.
 */
#ifndef HOLDFAST_NET_CONN_H
#define HOLDFAST_NET_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/close_reason.h"
#include "gateway/base/frame.h"
#include "gateway/base/wheel.h"

struct event_base;
struct net;

enum conn_state { CONN_FREE, CONN_HANDSHAKE, CONN_PARKED, CONN_ACTIVE, CONN_DOOMED };

/*
 * 44 bytes per connection. No pointers, no peer address (getpeername() knows it), no timer, no event.
 */
struct conn {
    int32_t fd;
    uint8_t state;      /* enum conn_state; set by net only */
    uint8_t protocol;   /* the driver's: 0 before CONNECT, then the MQTT protocol level */
    uint8_t listener;   /* index of the listener it came by */
    uint8_t reason;     /* enum close_reason once doomed */
    uint32_t owner;     /* session id, or 0 */
    uint32_t active;    /* id of its struct active while active, of its handshake during that, else 0 */
    uint32_t tls;       /* names its keys (sealing.c); 0: none, because it is plaintext or OpenSSL has them */
    uint32_t heard;     /* clock_ms() of the last complete packet (or the accept), lower 32 bits: 49 days are
                           enough for a keepalive */
    uint32_t since;     /* clock_ms() / 1000 of the accept: how long it lasted, in the log and the API */
    uint16_t keepalive; /* seconds as agreed on; 0: none */
    uint16_t flags;     /* CONN_ bits; net's */
    struct wheel_link wheel; /* the worker's timing wheel */
};
_Static_assert(sizeof(struct conn) == 44, "what every idle connection pays");

struct conn_handler {
    /* Accepted, and the TLS handshake is done if there is one; nothing read yet. */
    void (*opened)(void *ctx, uint32_t id);
    /*
     * len bytes have come. Returns how many of them, from the start, are done with; they are lost afterwards.
     * If some are left, *need says how many bytes must be there before it makes sense to ask again. May send,
     * close and hold.
     */
    size_t (*input)(void *ctx, uint32_t id, const unsigned char *data, size_t len, size_t *need);
    /* Asked before each accept: whether no more may be let in, because others (other workers) hold what is
     * left. NULL: never. */
    bool (*is_full)(void *ctx);
    /* It ends; the descriptor is still open, nothing can be sent any more. Called once for each that was
     * opened, outside all other callbacks. */
    void (*closed)(void *ctx, uint32_t id, enum close_reason reason);
};

struct net_settings {
    uint32_t max_connections; /* what the pools have room for */
    uint32_t output_limit;    /* bytes that may wait for one blocked client behind the frame being sent */
    size_t input_limit;       /* bytes of incomplete packets, and of what held connections have left, that all
                                 connections together may keep */
    bool drop_oldest;         /* beyond it: drop oldest frames; else close as slow consumer */
};

struct net *net_new(struct event_base *base, const struct net_settings *s, const struct conn_handler *h,
                    void *ctx);
/* All connections must be gone. */
void net_free(struct net *n);

/* What connections of a listener speak; see tls_context.h. The context is the caller's, and may be replaced:
 * the handshakes under way go on with the one they began with. */
struct tls_context;
struct net_tls {
    struct tls_context *context; /* NULL: plaintext */
    uint32_t max_handshakes;     /* at once */
    uint32_t handshake_timeout_ms;
};
void net_set_tls(struct net *n, unsigned listener, const struct net_tls *tls);

/* Whether this listener may accept now, or has max_handshakes under way. When it may again, `room` is called.
 */
bool net_may_accept(const struct net *n, unsigned listener);
void net_on_room(struct net *n, unsigned listener, void (*room)(void *arg), void *arg);

/* Takes over an accepted, non-blocking socket. 0: no room (the socket is closed, and counted). */
uint32_t net_adopt(struct net *n, int fd, unsigned listener);

/* The record of a live or doomed connection; valid until the end of the turn in which it closes. */
struct conn *net_conn(const struct net *n, uint32_t id);
uint32_t net_count(const struct net *n);
/* The lowest id above `after` (0 starts) of a connection that is not doomed, or 0. */
uint32_t net_next(const struct net *n, uint32_t after);

enum send_result { SEND_DONE, SEND_QUEUED, SEND_DROPPED, SEND_GONE };

/*
 * Sends bytes the protocol owes the client (answers, goodbyes). What the socket does not take is copied and
 * waits; they are never dropped, a client that lets too many pile up is closed.
 */
enum send_result net_send(struct net *n, uint32_t id, const void *data, size_t len);

/*
 * Sends a shared frame (a delivery): one send(), and a reference if it has to wait. Subject to output_limit
 * and policy; a frame is always taken when nothing is being sent, and one that must arrive is always taken
 * and does not count against output_limit: its sender looks at net_pending().
 */
enum send_result net_send_frame(struct net *n, uint32_t id, struct frame *f);

/* Ends a connection, with the reason to be counted. It happens at the end of this turn; until then it is
 * doomed: no input, no output. */
void net_close(struct net *n, uint32_t id, enum close_reason reason);

/*
 * Stops giving the handler input: what comes waits in the socket, and what of the present input it does not
 * take is kept. With `held` false it goes on: the rest is looked at before this returns, or, when called
 * within the connection's own input(), as soon as that returns. The handler may hold again meanwhile. Output
 * is not held. That the peer has closed is noticed at the release. net_sweep() leaves held connections alone.
 * Does nothing when it is so already, or the connection is doomed.
 */
void net_hold(struct net *n, uint32_t id, bool held);

/* Whether it is held. */
bool net_is_held(const struct net *n, uint32_t id);

/* Bytes waiting for a blocked client. */
size_t net_pending(const struct net *n, uint32_t id);

/*
 * Closes those whose current packet began to arrive before before_ms (clock_ms) and is still incomplete:
 * bytes trickling in do not hold memory for ever. Walks the active connections only.
 */
void net_sweep(struct net *n, uint64_t before_ms);

/* About once a second: ends handshakes that are too slow, and forgets keys that are not in use. */
void net_second(struct net *n);

#define NET_TLS_TEXT 64
/* "TLS 1.3 AES-128-GCM" when parked; as OpenSSL writes it, "TLSv1.2 ECDHE-ECDSA-AES128-SHA256 (not parked)",
 * where OpenSSL still serves it; "" for plaintext. Returns out. */
const char *net_tls_text(const struct net *n, uint32_t id, char *out);

/* Who the client certificate says the peer is; "": nobody. Valid until the connection ends. */
const char *net_identity(const struct net *n, uint32_t id, size_t *len);

#endif
