/*
 * What conn.c, parking.c, active.c, sealing.c and handshake.c share. Nobody else includes this.
 */
#ifndef HOLDFAST_NET_CONN_INTERNAL_H
#define HOLDFAST_NET_CONN_INTERNAL_H

#include <event2/event.h>

#include "gateway/base/config.h"
#include "gateway/base/pool.h"
#include "gateway/base/region.h"
#include "gateway/base/strpool.h"
#include "gateway/net/conn.h"
#include "proto/tls_record.h"

#define NET_MAGIC            0x4e455431u
#define NET_READ_BUFFER      (64u << 10)
#define NET_PARKING_BATCH    16
#define NET_TURN_CONNECTIONS 256 /* and a batch, at the most per turn of the loop */
#define NET_TURN_US          5000
#define NET_HANDSHAKE_US     2000              /* of a turn that OpenSSL may take, and one step */
#define NET_SEAL_AT_ONCE     TLS_PLAINTEXT_MAX /* content sealed before it is sent */

/* conn.flags */
enum {
    CONN_OPENED = 1,    /* the handler knows it */
    CONN_OVER_TLS = 2,  /* counted in COUNTER_TLS_CONNECTIONS */
    CONN_NAMED = 4,     /* has an identity */
    CONN_HELD = 8,      /* net_hold(): not read; while parked it is not in the parking set either */
    CONN_IN_INPUT = 16, /* the handler is looking at its input */
    CONN_RELEASED = 32  /* and has ended a hold meanwhile */
};

struct bufferevent;
struct ssl_st;
struct handshake;

/* What a connection has in addition while it is active. */
struct active {
    struct bufferevent
        *bev; /* its bytes are TLS records when the connection has keys of its own (conn.tls) */
    struct net *net;
    struct ssl_st *ssl;     /* it cannot be parked: bev is a bufferevent_openssl; else NULL */
    struct evbuffer *plain; /* opened, and left by the handler; NULL until it is needed */
    struct evbuffer
        *owed; /* what the protocol owes, behind the frame of which a part is sealed; NULL as above */
    uint32_t conn;
    uint32_t
        head_sent; /* bytes of the oldest frame that have been sealed; the others of the ring are whole */
    /* Frames that wait behind the bufferevent's output: a ring of references. Whole frames can be dropped. */
    uint32_t ring_head, ring_count, ring_size;
    struct frame **ring;
    size_t ring_bytes;   /* of the whole ones */
    size_t ring_lasting; /* of those, what must arrive */
    size_t behind; /* bytes of output that were put behind the message in progress and count against a limit;
                      an upper bound of those still there */
    size_t accounted;       /* what of it is in COUNTER_OUTPUT_BYTES */
    size_t left_over;       /* bytes of input that were looked at and left */
    uint64_t partial_since; /* clock_ms() when an incomplete packet began to wait; 0: none does */
    bool ended_behind;      /* behind input that waits the peer has closed TLS in good order */
};

/* What a listener's connections speak, and what is under way. */
struct net_listener {
    struct net_tls tls;
    uint32_t handshakes;
    void (*room)(void *arg);
    void *room_arg;
};

/* TLS of a worker; made when the first listener needs it. */
struct net_tls_state {
    struct tls_crypto *crypto;
    struct pool *keys[TLS_SUITES]; /* struct tls_record, by suite */
    struct pool *handshakes;       /* struct handshake */
    unsigned char *sealed;         /* records about to be sent: NET_SEAL_AT_ONCE bytes of content */
    size_t sealed_room;
    struct strpool *names;
    struct region name_of; /* uint32_t by connection: handle in `names` */
    /* The bytes that OpenSSL reads and writes in the present step of a handshake (the BIO of handshake.c). */
    const unsigned char *in;
    size_t in_len;
    unsigned char *out;
    size_t out_len, out_size;
    uint64_t spent_us; /* on handshakes in this turn */
    uint32_t refused;  /* conn.tls of who has sent a fatal alert, until its end */
    bool used;         /* crypto holds a key since the last net_second() */
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
    struct net_listener listener[CONFIG_MAX_LISTENERS];
    struct net_tls_state tls;
};

/* Input that was looked at and could not be dealt with yet. */
struct left_over {
    const void *plain; /* begins with an incomplete packet */
    size_t plain_len, need;
    const void *sealed; /* behind it: an incomplete record */
    size_t sealed_len, sealed_need;
    bool ended_behind; /* as in struct active */
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

/* Input of a parked connection, in n->read_buffer. True: all of it was dealt with. */
bool parking_input(struct net *n, uint32_t id, unsigned char *data, size_t len);

static inline bool conn_is_held(const struct conn *c) { return c->flags & CONN_HELD; }

/* conn.c: lets the handler look at input, unless the connection is held. As conn_handler.input. */
size_t conn_input(struct net *n, uint32_t id, const unsigned char *data, size_t len, size_t *need);

/* conn.c: one recv() into n->read_buffer. Bytes that came, or 0: none, and at the end or after an error the
 * connection is doomed. */
size_t conn_receive(struct net *n, uint32_t id);
/* Whether it makes sense to tell a doomed connection's peer that this is the end. */
bool conn_hears_goodbye(const struct conn *c);
/* conn.c: one send() to a parked connection, without sealing. Bytes taken, or -1: doomed now. */
ssize_t conn_send_raw(struct net *n, uint32_t id, const void *data, size_t len);

/*
 * active.c. active_begin() gives a parked connection its bufferevent, with what it has left over (NULL:
 * nothing). False: no room, and the connection is doomed.
 */
bool active_begin(struct net *n, uint32_t id, const struct left_over *l);
/* A connection whose SSL cannot be given up; active for good. Its input that was not looked at yet is
 * l->plain. */
bool active_begin_ssl(struct net *n, uint32_t id, struct ssl_st *ssl, const struct left_over *l);
/* More input for an active connection than it has been given yet (it became active while that was looked at).
 */
void active_prefill(struct net *n, uint32_t id, const struct left_over *l);
enum send_result active_send(struct net *n, uint32_t id, const void *data, size_t len);
/* The rest of a message of which the first part blocked. */
enum send_result active_send_rest(struct net *n, uint32_t id, const void *data, size_t len);
/* Without its first `skip` bytes, which have been sent or queued. */
enum send_result active_send_frame(struct net *n, uint32_t id, struct frame *f, size_t skip);
/* Bytes as they are, records already if the connection has keys. */
void active_put_raw(struct net *n, uint32_t id, const void *data, size_t len);
/* Sends what the socket still takes: an answer or alert of this very turn has had no chance yet. */
void active_flush(struct net *n, uint32_t id);
/* Stops reading, or looks at what was left and reads on; parks when that was all. */
void active_hold(struct net *n, uint32_t id);
void active_release(struct net *n, uint32_t id);
/* Frees what it has, without parking it. */
void active_end(struct net *n, uint32_t id);

/* sealing.c: the keys of parked TLS connections, and records made and opened with them. */
struct sealing_input {
    unsigned char *data; /* content of the whole records, together, in place */
    size_t len;
    unsigned char *rest; /* behind them: the start of a record, of which `need` bytes must be there */
    size_t rest_len, need;
    enum tls_result end;  /* TLS_MORE: goes on; else CLOSED, REFUSED or BAD: after the data it is over */
    enum tls_alert alert; /* to be sent, or received when REFUSED */
    const char *why;
};
void sealing_setup(struct net *n);
void sealing_free(struct net *n);
/* Takes the connection over from OpenSSL. False: no memory. */
bool sealing_begin(struct net *n, struct conn *c, const struct tls_handover *h);
/* Wipes the keys, if there are any. */
void sealing_end(struct net *n, struct conn *c);
void sealing_open(struct net *n, const struct conn *c, unsigned char *in, size_t len,
                  struct sealing_input *out);
/* What sealing_open() found at the end: answers with an alert, and dooms the connection if it is over. */
void sealing_settle(struct net *n, uint32_t id, const struct sealing_input *in);
/* Room for sealing `len` bytes, and sealing them. 0: nothing more can be sent. */
size_t sealing_size(const struct net *n, const struct conn *c, size_t len);
size_t sealing_seal(struct net *n, const struct conn *c, const void *data, size_t len, void *out,
                    size_t room);
/* Behind what the handler looks at now came an alert that ends the connection: nothing can be sealed any
 * more, and sealing_settle() is about to doom it. */
bool sealing_is_refused(const struct net *n, const struct conn *c);
/* "TLS 1.3 AES-128-GCM", of a connection that has keys. */
const char *sealing_text(const struct conn *c);
/* close_notify, if it can still be sent. Returns its length. */
size_t sealing_goodbye(struct net *n, const struct conn *c, void *out, size_t room);

/* handshake.c */
bool handshake_begin(struct net *n, uint32_t id); /* false: no room */
/* The socket is readable, or writable again. True: more may wait. */
bool handshake_ready(struct net *n, uint32_t id, uint32_t events);
/* Frees what it has; the listener may accept another one. */
void handshake_end(struct net *n, uint32_t id);
void handshake_sweep(struct net *n, uint64_t now_ms);

#endif
