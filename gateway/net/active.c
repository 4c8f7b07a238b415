/*
 * Active connections: those that have something in flight, an incomplete packet or blocked output, and
 * therefore own a bufferevent.
 *
 * The bufferevent's output holds what is being sent and what the protocol owes; deliveries behind it wait in
 * a ring of references to shared frames, where the oldest can still be dropped whole. When all is drained and
 * no part of a packet waits, the connection parks again. Whether a client that stays blocked loses messages
 * or its connection is settings; what a packet is, the handler knows.
 *
 * With TLS the bufferevent carries records. Frames are sealed a record at a time, as late as possible, so
 * that what waits is shared as it is in plaintext; a frame of which a part is sealed is in progress and
 * cannot be dropped, and what the protocol owes meanwhile waits in `owed` until its end is sealed. What was
 * opened and is not a whole packet waits in `plain`.
 *
 * A held connection is not read: what the handler has not taken waits here, what comes after it in the
 * socket.
 *
 * A connection whose SSL object could not be given up has a bufferevent_openssl and stays here.
 */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/xmalloc.h"
#include "gateway/net/conn_internal.h"

/* The bufferevent's output is topped up to this, so that nearly all that waits can still be dropped. */
#define OUTPUT_TOP_UP (16u << 10)
/* What answers may add on top of output_limit before a client that reads nothing is closed. */
#define ANSWER_ROOM      (16u << 10)
#define MAX_SINGLE_WRITE (128u << 10)

static size_t output_length(const struct active *a)
{
    return evbuffer_get_length(bufferevent_get_output(a->bev));
}

static size_t owed_length(const struct active *a) { return a->owed ? evbuffer_get_length(a->owed) : 0; }

/* Bytes of output that count against a limit: those behind the message in progress, but for frames that must
 * arrive, of which whoever sends them waits for room. */
static size_t output_waiting(const struct active *a)
{
    size_t length = output_length(a);
    return (length < a->behind ? length : a->behind) + owed_length(a);
}

/* Notes that len bytes are about to be put into the output: as the message in progress, or behind it. */
static void note_output(struct active *a, size_t len) { a->behind = output_length(a) ? a->behind + len : 0; }

/* The oldest frame that waits; there must be one. */
static struct frame *ring_head(const struct active *a) { return a->ring[a->ring_head]; }

/* Everything that waits to be sent. */
static size_t all_output(const struct active *a)
{
    size_t rest = a->head_sent ? ring_head(a)->len - a->head_sent : 0;
    return output_length(a) + owed_length(a) + a->ring_bytes + rest;
}

/* Brings the gauge of waiting bytes up to date with this connection. */
static void account(struct active *a)
{
    size_t waiting = all_output(a);
    counter_add(COUNTER_OUTPUT_BYTES, (uint64_t)waiting - a->accounted);
    a->accounted = waiting;
}

static void frame_sent_cb(const void *data, size_t len, void *arg)
{
    (void)data, (void)len;
    frame_unref(arg);
}

/* Hands a frame, without its first `skip` bytes, to the bufferevent. */
static void output_frame(struct active *a, struct frame *f, size_t skip)
{
    struct evbuffer *out = bufferevent_get_output(a->bev);
    note_output(a, f->must_arrive ? 0 : f->len - skip);
    if (evbuffer_add_reference(out, f->data + skip, f->len - skip, frame_sent_cb, frame_ref(f)) < 0)
        CHECK(!"evbuffer_add_reference");
    counter_add(COUNTER_BYTES_OUT, f->len - skip);
}

/*
 * Seals content into the bufferevent's output, as a message of its own or as a further part of the one
 * before. False: nothing more can be sent, and the connection is doomed.
 */
static bool output_sealed(struct active *a, const void *data, size_t len, bool is_further)
{
    struct net *n = a->net;
    const struct conn *c = conn_at(n, a->conn);
    struct evbuffer *out = bufferevent_get_output(a->bev);
    struct evbuffer_iovec v;
    size_t room = sealing_size(n, c, len);
    if (!is_further || !output_length(a)) /* with nothing before it, it is the message in progress */
        note_output(a, room);
    else if (a->behind)
        a->behind += room;
    if (evbuffer_reserve_space(out, (ev_ssize_t)room, &v, 1) < 1)
        CHECK(!"evbuffer_reserve_space");
    v.iov_len = sealing_seal(n, c, data, len, v.iov_base, v.iov_len);
    size_t sealed = v.iov_len;
    if (evbuffer_commit_space(out, &v, 1) < 0)
        CHECK(!"evbuffer_commit_space");
    counter_add(COUNTER_BYTES_OUT, sealed);
    if (!sealed && !sealing_is_refused(n, c))
        net_close(n, a->conn, CLOSE_TLS_BAD_RECORD);
    return sealed != 0;
}

static void ring_push(struct active *a, struct frame *f)
{
    if (a->ring_count == a->ring_size) {
        uint32_t size = a->ring_size ? a->ring_size * 2 : 8;
        struct frame **ring = xcalloc(size, sizeof *ring);
        for (uint32_t i = 0; i < a->ring_count; i++)
            ring[i] = a->ring[(a->ring_head + i) % a->ring_size];
        free(a->ring);
        a->ring = ring;
        a->ring_size = size;
        a->ring_head = 0;
    }
    a->ring[(a->ring_head + a->ring_count++) % a->ring_size] = frame_ref(f);
    a->ring_bytes += f->len;
    a->ring_lasting += f->must_arrive ? f->len : 0;
}

/* A frame of the ring is no longer whole, or leaves it. */
static void ring_discount(struct active *a, const struct frame *f)
{
    a->ring_bytes -= f->len;
    a->ring_lasting -= f->must_arrive ? f->len : 0;
}

/* Takes the oldest frame out, with the ring's reference. */
static struct frame *ring_shift(struct active *a)
{
    struct frame *f = ring_head(a);
    a->ring_head = (a->ring_head + 1) % a->ring_size;
    a->ring_count--;
    return f;
}

/* The place of a frame by its order in the ring. */
static struct frame **ring_slot(const struct active *a, uint32_t i)
{
    return &a->ring[(a->ring_head + i) % a->ring_size];
}

/* Takes the oldest whole frame out that may be lost, with the ring's reference; NULL: there is none. Those
 * before it, the one in progress among them, move up. */
static struct frame *ring_drop(struct active *a)
{
    for (uint32_t i = a->head_sent != 0; i < a->ring_count; i++) {
        struct frame *f = *ring_slot(a, i);
        if (f->must_arrive)
            continue;
        for (; i > 0; i--)
            *ring_slot(a, i) = *ring_slot(a, i - 1);
        ring_shift(a);
        ring_discount(a, f);
        return f;
    }
    return NULL;
}

/* Seals bytes that the protocol owes, or a further part of them. False: doomed. */
static bool seal_owed(struct active *a, const unsigned char *data, size_t len, bool is_further)
{
    for (size_t done = 0, part; done < len; done += part) {
        part = len - done < NET_SEAL_AT_ONCE ? len - done : NET_SEAL_AT_ONCE;
        if (!output_sealed(a, data + done, part, is_further || done != 0))
            return false;
    }
    return true;
}

/* Seals what had to wait for the end of a frame. */
static bool seal_waiting(struct active *a)
{
    size_t len = owed_length(a);
    if (!len)
        return true;
    bool sealed = seal_owed(a, evbuffer_pullup(a->owed, -1), len, false);
    evbuffer_drain(a->owed, len);
    return sealed;
}

/* Seals a further part of the oldest frame; takes it out when that was the last. False: doomed. */
static bool seal_head(struct active *a)
{
    struct frame *f = ring_head(a);
    size_t part = f->len - a->head_sent, behind = a->behind;
    if (part > NET_SEAL_AT_ONCE)
        part = NET_SEAL_AT_ONCE;
    if (!a->head_sent)
        ring_discount(a, f);
    if (!output_sealed(a, f->data + a->head_sent, part, a->head_sent != 0)) {
        a->head_sent = f->len; /* none of it is whole any more, and none will be sent */
        return false;
    }
    if (f->must_arrive && a->behind > behind)
        a->behind = behind;
    a->head_sent += (uint32_t)part;
    if (a->head_sent < f->len)
        return true;
    a->head_sent = 0;
    frame_unref(ring_shift(a));
    return seal_waiting(a);
}

/* Moves frames from the ring to the output as far as that is to be filled. */
static void top_up(struct active *a)
{
    bool sealed = conn_at(a->net, a->conn)->tls != 0;
    while (a->ring_count && output_length(a) < OUTPUT_TOP_UP) {
        if (sealed && !seal_head(a))
            return;
        if (sealed)
            continue;
        struct frame *f = ring_shift(a);
        ring_discount(a, f);
        output_frame(a, f, 0);
        frame_unref(f);
    }
}

/* Tells the peer of an unparked connection that this is the end, if nothing waits before it. */
static void ssl_goodbye(struct active *a, const struct conn *c)
{
    if (c->state == CONN_DOOMED && conn_hears_goodbye(c) && !all_output(a))
        SSL_shutdown(a->ssl);
    ERR_clear_error();
}

/* Frees bufferevent and ring. The descriptor stays open. */
static void release(struct net *n, struct conn *c)
{
    struct active *a = active_at(n, c);
    if (a->ssl)
        ssl_goodbye(a, c);
    while (a->ring_count)
        frame_unref(ring_shift(a));
    free(a->ring);
    counter_sub(COUNTER_OUTPUT_BYTES, a->accounted);
    n->input_bytes -= a->left_over;
    bufferevent_free(a->bev);
    if (a->plain)
        evbuffer_free(a->plain);
    if (a->owed)
        evbuffer_free(a->owed);
    if (a->ssl) {
        SSL_free(a->ssl);
        counter_sub(COUNTER_TLS_UNPARKED, 1);
    }
    pool_release(n->actives, c->active);
    c->active = 0;
}

void active_flush(struct net *n, uint32_t id)
{
    struct conn *c = conn_at(n, id);
    struct active *a = active_at(n, c);
    struct evbuffer *out = bufferevent_get_output(a->bev);
    if (a->ssl || !output_length(a))
        return;
    evbuffer_unfreeze(out, 1);
    evbuffer_write(out, c->fd);
    evbuffer_freeze(out, 1);
}

void active_end(struct net *n, uint32_t id) { release(n, conn_at(n, id)); }

/* Parks the connection if it has nothing in flight any more. */
static void park_if_idle(struct net *n, uint32_t id)
{
    struct conn *c = conn_at(n, id);
    if (c->state != CONN_ACTIVE)
        return;
    struct active *a = active_at(n, c);
    if (a->ssl || output_length(a) || a->ring_count || evbuffer_get_length(bufferevent_get_input(a->bev)) ||
        (a->plain && evbuffer_get_length(a->plain)))
        return;
    release(n, c);
    conn_set_state(c, CONN_PARKED);
    if (!conn_is_held(c) && !parking_add(n, id))
        net_close(n, id, CLOSE_NO_MEMORY);
}

/* Notes how many bytes of input a connection keeps. False: all connections together keep too many, and this
 * one is doomed. */
static bool keep_input(struct net *n, struct active *a, size_t len)
{
    n->input_bytes += len - a->left_over;
    a->left_over = len;
    if (n->input_bytes <= n->settings.input_limit)
        return true;
    net_close(n, a->conn, CLOSE_NO_MEMORY);
    return false;
}

/* The opened content that the handler has left, made when there is some. */
static struct evbuffer *plain_of(struct active *a)
{
    if (!a->plain && !(a->plain = evbuffer_new()))
        CHECK(!"evbuffer_new");
    return a->plain;
}

/* Opens the whole records of the input; their content goes behind what was left. */
static void open_input(struct active *a, struct sealing_input *in)
{
    struct evbuffer *from = bufferevent_get_input(a->bev);
    size_t len = evbuffer_get_length(from);
    sealing_open(a->net, conn_at(a->net, a->conn), len ? evbuffer_pullup(from, -1) : NULL, len, in);
    if (in->len && evbuffer_add(plain_of(a), in->data, in->len) < 0)
        CHECK(!"evbuffer_add");
    evbuffer_drain(from, len - in->rest_len);
}

/* Notes what is left of the input after the handler took `used` bytes, and how much must come before it is
 * asked again. */
static void note_left(struct net *n, struct active *a, size_t used, size_t left, size_t need)
{
    if (!keep_input(n, a, left))
        return;
    if (!left || conn_is_held(conn_at(n, a->conn)))
        a->partial_since = 0;
    else if (used || !a->partial_since)
        a->partial_since = clock_ms();
    bufferevent_setwatermark(a->bev, EV_READ, left ? need : 0, 0);
}

/* Lets the handler look at what is in `in`, and takes out what it is done with. Returns how much that was, or
 * -1: the connection is doomed. */
static ssize_t show_input(struct net *n, uint32_t id, struct evbuffer *in, size_t *need)
{
    size_t len = evbuffer_get_length(in);
    *need = 0;
    if (!len)
        return 0;
    size_t used = conn_input(n, id, evbuffer_pullup(in, -1), len, need);
    if (conn_at(n, id)->state != CONN_ACTIVE)
        return -1;
    evbuffer_drain(in, used);
    return (ssize_t)used;
}

/* The same with keys: the records are opened before, and what came behind them is answered afterwards. An end
 * in good order behind what a held connection left has to wait for it. */
static void process_sealed(struct net *n, uint32_t id, struct active *a)
{
    struct sealing_input opened = {.end = TLS_CLOSED, .alert = TLS_ALERT_NONE};
    size_t need;
    if (!a->ended_behind)
        open_input(a, &opened);
    ssize_t used = show_input(n, id, plain_of(a), &need);
    if (used < 0)
        return;
    size_t left = evbuffer_get_length(a->plain);
    a->ended_behind = opened.end == TLS_CLOSED && left && conn_is_held(conn_at(n, id));
    if (!a->ended_behind)
        sealing_settle(n, id, &opened);
    if (conn_at(n, id)->state == CONN_ACTIVE)
        note_left(n, a, (size_t)used, left + opened.rest_len, opened.need);
}

/* Lets the handler look at the input; what it leaves stays, and is looked at again when as much as it needs
 * is there. */
static void process_input(struct net *n, uint32_t id)
{
    struct conn *c = conn_at(n, id);
    struct active *a = active_at(n, c);
    struct evbuffer *in = bufferevent_get_input(a->bev);
    size_t plain = a->plain ? evbuffer_get_length(a->plain) : 0, need;
    counter_add(COUNTER_BYTES_IN, evbuffer_get_length(in) + plain - a->left_over);
    if (c->tls) {
        process_sealed(n, id, a);
        return;
    }
    ssize_t used = show_input(n, id, in, &need);
    if (used < 0)
        return;
    note_left(n, a, (size_t)used, evbuffer_get_length(in), need);
    if (a->ended_behind && c->state == CONN_ACTIVE && !conn_is_held(c))
        net_close(n, id, CLOSE_PEER_CLOSED);
}

static void read_cb(struct bufferevent *bev, void *arg)
{
    (void)bev;
    struct active *a = arg;
    struct net *n = CHECK_CAST(a->net, struct net, NET_MAGIC);
    uint32_t id = a->conn;
    if (conn_at(n, id)->state != CONN_ACTIVE)
        return;
    clock_update();
    process_input(n, id);
    park_if_idle(n, id);
}

void active_hold(struct net *n, uint32_t id)
{
    struct active *a = active_at(n, conn_at(n, id));
    bufferevent_disable(a->bev, EV_READ);
    a->partial_since = 0; /* what is missing of a packet cannot come */
}

void active_release(struct net *n, uint32_t id)
{
    const struct conn *c = conn_at(n, id);
    if (!(c->flags & CONN_IN_INPUT)) { /* else whoever shows it the input goes on */
        process_input(n, id);
        park_if_idle(n, id);
    }
    if (c->state == CONN_ACTIVE && !conn_is_held(c))
        bufferevent_enable(active_at(n, c)->bev, EV_READ);
}

/* The output is drained: tops it up from the ring, or parks. */
static void write_cb(struct bufferevent *bev, void *arg)
{
    (void)bev;
    struct active *a = arg;
    struct net *n = CHECK_CAST(a->net, struct net, NET_MAGIC);
    if (conn_at(n, a->conn)->state != CONN_ACTIVE)
        return;
    top_up(a);
    account(a);
    park_if_idle(n, a->conn);
}

/* Why OpenSSL ended a connection that it keeps. */
static enum close_reason ssl_reason(struct bufferevent *bev, int err)
{
    unsigned long error = bufferevent_get_openssl_error(bev);
    int reason = ERR_GET_REASON(error);
    ERR_clear_error();
    if (!error)
        return conn_error_reason(err);
    if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return CLOSE_PEER_CLOSED;
    return reason > SSL_AD_REASON_OFFSET ? CLOSE_TLS_ALERT : CLOSE_TLS_BAD_RECORD;
}

static void event_cb(struct bufferevent *bev, short what, void *arg)
{
    int err = EVUTIL_SOCKET_ERROR();
    struct active *a = arg;
    struct net *n = CHECK_CAST(a->net, struct net, NET_MAGIC);
    enum close_reason reason = CLOSE_PEER_CLOSED;
    if (!(what & BEV_EVENT_EOF))
        reason = a->ssl ? ssl_reason(bev, err) : conn_error_reason(err);
    if (conn_at(n, a->conn)->state == CONN_ACTIVE)
        net_close(n, a->conn, reason);
}

/* Puts what was read while parked in front of what the bufferevent will read. */
static void put_input(struct net *n, struct active *a, const struct left_over *l)
{
    bool sealed = conn_at(n, a->conn)->tls != 0;
    struct evbuffer *in = bufferevent_get_input(a->bev);
    struct evbuffer *plain = sealed && l->plain_len ? plain_of(a) : in;
    evbuffer_unfreeze(in, 0);
    if (evbuffer_add(plain, l->plain, l->plain_len) < 0 || evbuffer_add(in, l->sealed, l->sealed_len) < 0)
        CHECK(!"evbuffer_add");
    if (!a->ssl) /* a bufferevent_openssl never freezes its input */
        evbuffer_freeze(in, 0);
    a->partial_since = conn_is_held(conn_at(n, a->conn)) ? 0 : clock_ms();
    a->ended_behind = l->ended_behind;
    bufferevent_setwatermark(a->bev, EV_READ, sealed ? l->sealed_need : l->need, 0);
    keep_input(n, a, a->left_over + l->plain_len + l->sealed_len);
}

void active_prefill(struct net *n, uint32_t id, const struct left_over *l)
{
    put_input(n, active_at(n, conn_at(n, id)), l);
}

/* Takes a connection out of the parking set and gives it this bufferevent. NULL: there is no room for it. */
static struct active *begin(struct net *n, uint32_t id, struct bufferevent *bev)
{
    struct conn *c = conn_at(n, id);
    uint32_t slot = bev ? pool_alloc(n->actives) : 0;
    if (!slot) {
        if (bev)
            bufferevent_free(bev);
        net_close(n, id, CLOSE_NO_MEMORY);
        return NULL;
    }
    if (!conn_is_held(c))
        parking_remove(n, id);
    c->active = slot;
    struct active *a = active_at(n, c);
    a->bev = bev;
    a->net = n;
    a->conn = id;
    bufferevent_setcb(bev, read_cb, write_cb, event_cb, a);
    bufferevent_set_max_single_write(bev, MAX_SINGLE_WRITE);
    conn_set_state(c, CONN_ACTIVE);
    return a;
}

bool active_begin(struct net *n, uint32_t id, const struct left_over *l)
{
    const struct conn *c = conn_at(n, id);
    struct active *a = begin(n, id, bufferevent_socket_new(n->base, c->fd, 0));
    if (!a)
        return false;
    bufferevent_enable(a->bev, conn_is_held(c) ? EV_WRITE : EV_READ | EV_WRITE);
    if (l)
        put_input(n, a, l);
    return c->state == CONN_ACTIVE;
}

bool active_begin_ssl(struct net *n, uint32_t id, SSL *ssl, const struct left_over *l)
{
    const struct conn *c = conn_at(n, id);
    struct bufferevent *bev = bufferevent_openssl_socket_new(n->base, c->fd, ssl, BUFFEREVENT_SSL_OPEN, 0);
    struct active *a = begin(n, id, bev);
    if (!a)
        return false;
    a->ssl = ssl;
    counter_add(COUNTER_TLS_UNPARKED, 1);
    bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
    bufferevent_enable(bev, conn_is_held(c) ? EV_WRITE : EV_READ | EV_WRITE);
    if (l->plain_len) {
        put_input(n, a, l);
        if (c->state == CONN_ACTIVE && !conn_is_held(c))
            process_input(n, id);
    }
    return c->state == CONN_ACTIVE;
}

/* Takes bytes that the protocol owes a connection with keys. They go behind the frame that is in progress,
 * whose rest stays shared and unsealed meanwhile. False: doomed. */
static bool take_owed(struct active *a, const void *data, size_t len)
{
    if (!a->head_sent)
        return seal_owed(a, data, len, false);
    if (!a->owed && !(a->owed = evbuffer_new()))
        CHECK(!"evbuffer_new");
    if (evbuffer_add(a->owed, data, len) < 0)
        CHECK(!"evbuffer_add");
    return true;
}

enum send_result active_send(struct net *n, uint32_t id, const void *data, size_t len)
{
    const struct conn *c = conn_at(n, id);
    struct active *a = active_at(n, c);
    if (output_length(a) && output_waiting(a) + len > n->settings.output_limit + ANSWER_ROOM) {
        net_close(n, id, CLOSE_SLOW_CONSUMER);
        return SEND_GONE;
    }
    if (!c->tls)
        active_put_raw(n, id, data, len);
    else if (!take_owed(a, data, len))
        return SEND_GONE;
    account(a);
    return SEND_QUEUED;
}

enum send_result active_send_rest(struct net *n, uint32_t id, const void *data, size_t len)
{
    const struct conn *c = conn_at(n, id);
    struct active *a = active_at(n, c);
    if (!c->tls)
        active_put_raw(n, id, data, len);
    else if (!seal_owed(a, data, len, true))
        return SEND_GONE;
    account(a);
    return SEND_QUEUED;
}

void active_put_raw(struct net *n, uint32_t id, const void *data, size_t len)
{
    struct active *a = active_at(n, conn_at(n, id));
    note_output(a, len);
    if (bufferevent_write(a->bev, data, len) < 0)
        CHECK(!"bufferevent_write");
    counter_add(COUNTER_BYTES_OUT, len);
    account(a);
}

/* Makes room for a frame. False: there is none, and the frame is lost or the connection doomed. One that must
 * arrive needs none. */
static bool make_room(struct net *n, struct active *a, const struct frame *f)
{
    size_t waiting = output_waiting(a) + a->ring_bytes - a->ring_lasting;
    if (f->must_arrive)
        return true;
    while (output_length(a) && waiting + f->len > n->settings.output_limit) {
        struct frame *oldest = n->settings.drop_oldest ? ring_drop(a) : NULL;
        if (!n->settings.drop_oldest)
            net_close(n, a->conn, CLOSE_SLOW_CONSUMER);
        if (!oldest)
            return false;
        waiting -= oldest->len;
        frame_unref(oldest);
        counter_add(COUNTER_DELIVERIES_DROPPED, 1);
    }
    return true;
}

/* Queues a frame of a connection with keys. The first `skip` bytes have been sealed already; then it is the
 * only one. */
static void queue_sealed(struct active *a, struct frame *f, size_t skip)
{
    if (skip == f->len)
        return;
    ring_push(a, f);
    if (skip) {
        a->head_sent = (uint32_t)skip;
        ring_discount(a, f);
    }
    top_up(a);
}

/* Queues a frame; the first `skip` bytes have been sent already, and then it is the one in progress. */
enum send_result active_send_frame(struct net *n, uint32_t id, struct frame *f, size_t skip)
{
    struct conn *c = conn_at(n, id);
    struct active *a = active_at(n, c);
    if (!skip && !make_room(n, a, f)) {
        if (c->state == CONN_DOOMED)
            return SEND_GONE;
        counter_add(COUNTER_DELIVERIES_DROPPED, 1);
        return SEND_DROPPED;
    }
    if (c->tls)
        queue_sealed(a, f, skip);
    else if (skip || (!a->ring_count && output_length(a) < OUTPUT_TOP_UP))
        output_frame(a, f, skip);
    else
        ring_push(a, f);
    account(a);
    return SEND_QUEUED;
}

size_t net_pending(const struct net *n, uint32_t id)
{
    const struct conn *c = conn_at(n, id);
    const struct active *a = c->active && c->flags & CONN_OPENED ? active_at(n, c) : NULL;
    return a ? all_output(a) : 0;
}

void net_sweep(struct net *n, uint64_t before_ms)
{
    for (uint32_t slot = 0; (slot = pool_next(n->actives, slot));) {
        const struct active *a = pool_at(n->actives, slot);
        if (a->partial_since && a->partial_since < before_ms)
            net_close(n, a->conn, CLOSE_PACKET_TIMEOUT);
    }
}
