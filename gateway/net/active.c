/*
 * Active connections: those that have something in flight, an incomplete packet or blocked output, and
 * therefore own a bufferevent.
 *
 * The bufferevent's output holds what is being sent and what the protocol owes; deliveries behind it wait in
 * a ring of references to shared frames, where the oldest can still be dropped whole. When all is drained and
 * no part of a packet waits, the connection parks again. Whether a client that stays blocked loses messages
 * or its connection is settings; what a packet is, the handler knows.
 */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
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

/* Bytes of output behind the message in progress, which is not counted against a limit. */
static size_t output_waiting(const struct active *a)
{
    size_t length = output_length(a);
    return length < a->behind ? length : a->behind;
}

/* Notes that len bytes are about to be put into the output: as the message in progress, or behind it. */
static void note_output(struct active *a, size_t len) { a->behind = output_length(a) ? a->behind + len : 0; }

/* Brings the gauge of waiting bytes up to date with this connection. */
static void account(struct active *a)
{
    size_t waiting = output_length(a) + a->ring_bytes;
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
    note_output(a, f->len - skip);
    if (evbuffer_add_reference(out, f->data + skip, f->len - skip, frame_sent_cb, frame_ref(f)) < 0)
        CHECK(!"evbuffer_add_reference");
    counter_add(COUNTER_BYTES_OUT, f->len - skip);
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
}

/* The oldest frame that waits, with the ring's reference; NULL: none. */
static struct frame *ring_pop(struct active *a)
{
    if (!a->ring_count)
        return NULL;
    struct frame *f = a->ring[a->ring_head];
    a->ring_head = (a->ring_head + 1) % a->ring_size;
    a->ring_count--;
    a->ring_bytes -= f->len;
    return f;
}

/* Frees bufferevent and ring. The descriptor stays open. */
static void release(struct net *n, struct conn *c)
{
    struct active *a = active_at(n, c);
    for (struct frame *f; (f = ring_pop(a));)
        frame_unref(f);
    free(a->ring);
    counter_sub(COUNTER_OUTPUT_BYTES, a->accounted);
    n->input_bytes -= a->left_over;
    bufferevent_free(a->bev);
    pool_release(n->actives, c->active);
    c->active = 0;
}

void active_end(struct net *n, uint32_t id) { release(n, conn_at(n, id)); }

/* Parks the connection if it has nothing in flight any more. */
static void park_if_idle(struct net *n, uint32_t id)
{
    struct conn *c = conn_at(n, id);
    if (c->state != CONN_ACTIVE)
        return;
    struct active *a = active_at(n, c);
    if (output_length(a) || a->ring_count || evbuffer_get_length(bufferevent_get_input(a->bev)))
        return;
    release(n, c);
    conn_set_state(c, CONN_PARKED);
    if (!parking_add(n, id))
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

/* Lets the handler look at the input; what it leaves stays, and is looked at again when as much as it needs
 * is there. */
static void process_input(struct net *n, uint32_t id)
{
    struct conn *c = conn_at(n, id);
    struct active *a = active_at(n, c);
    struct evbuffer *in = bufferevent_get_input(a->bev);
    size_t len = evbuffer_get_length(in), need = 0;
    unsigned char *data = len ? evbuffer_pullup(in, -1) : NULL;
    size_t used = data ? n->handler->input(n->ctx, id, data, len, &need) : 0;
    if (c->state != CONN_ACTIVE)
        return;
    evbuffer_drain(in, used);
    if (!keep_input(n, a, len - used))
        return;
    if (used || !a->partial_since)
        a->partial_since = used < len ? clock_ms() : 0;
    bufferevent_setwatermark(a->bev, EV_READ, used < len ? need : 0, 0);
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
    counter_add(COUNTER_BYTES_IN, evbuffer_get_length(bufferevent_get_input(bev)) - a->left_over);
    process_input(n, id);
    park_if_idle(n, id);
}

/* The output is drained: tops it up from the ring, or parks. */
static void write_cb(struct bufferevent *bev, void *arg)
{
    (void)bev;
    struct active *a = arg;
    struct net *n = CHECK_CAST(a->net, struct net, NET_MAGIC);
    if (conn_at(n, a->conn)->state != CONN_ACTIVE)
        return;
    for (struct frame *f; output_length(a) < OUTPUT_TOP_UP && (f = ring_pop(a)); frame_unref(f))
        output_frame(a, f, 0);
    account(a);
    park_if_idle(n, a->conn);
}

static void event_cb(struct bufferevent *bev, short what, void *arg)
{
    (void)bev;
    int err = EVUTIL_SOCKET_ERROR();
    struct active *a = arg;
    struct net *n = CHECK_CAST(a->net, struct net, NET_MAGIC);
    if (conn_at(n, a->conn)->state == CONN_ACTIVE)
        net_close(n, a->conn, what & BEV_EVENT_EOF ? CLOSE_PEER_CLOSED : conn_error_reason(err));
}

/* Puts bytes that were read while parked in front of what the bufferevent will read. */
static void put_input(struct net *n, struct active *a, const void *data, size_t len, size_t need)
{
    struct evbuffer *in = bufferevent_get_input(a->bev);
    evbuffer_unfreeze(in, 0);
    if (evbuffer_add(in, data, len) < 0)
        CHECK(!"evbuffer_add");
    evbuffer_freeze(in, 0);
    a->partial_since = clock_ms();
    bufferevent_setwatermark(a->bev, EV_READ, need, 0);
    keep_input(n, a, a->left_over + len);
}

void active_prefill(struct net *n, uint32_t id, const void *input, size_t len, size_t need)
{
    put_input(n, active_at(n, conn_at(n, id)), input, len, need);
}

bool active_begin(struct net *n, uint32_t id, const void *input, size_t len, size_t need)
{
    struct conn *c = conn_at(n, id);
    uint32_t slot = pool_alloc(n->actives);
    struct bufferevent *bev = slot ? bufferevent_socket_new(n->base, c->fd, 0) : NULL;
    if (!bev) {
        if (slot)
            pool_release(n->actives, slot);
        net_close(n, id, CLOSE_NO_MEMORY);
        return false;
    }
    parking_remove(n, id);
    c->active = slot;
    struct active *a = active_at(n, c);
    a->bev = bev;
    a->net = n;
    a->conn = id;
    bufferevent_setcb(bev, read_cb, write_cb, event_cb, a);
    bufferevent_set_max_single_write(bev, MAX_SINGLE_WRITE);
    conn_set_state(c, CONN_ACTIVE);
    bufferevent_enable(bev, EV_READ | EV_WRITE);
    if (len)
        put_input(n, a, input, len, need);
    return c->state == CONN_ACTIVE;
}

enum send_result active_send(struct net *n, uint32_t id, const void *data, size_t len)
{
    struct active *a = active_at(n, conn_at(n, id));
    if (output_length(a) && output_waiting(a) + len > n->settings.output_limit + ANSWER_ROOM) {
        net_close(n, id, CLOSE_SLOW_CONSUMER);
        return SEND_GONE;
    }
    note_output(a, len);
    if (bufferevent_write(a->bev, data, len) < 0)
        CHECK(!"bufferevent_write");
    counter_add(COUNTER_BYTES_OUT, len);
    account(a);
    return SEND_QUEUED;
}

/* Makes room for a frame of len bytes. False: there is none, and the frame is lost or the connection doomed.
 */
static bool make_room(struct net *n, struct active *a, size_t len)
{
    size_t waiting = output_waiting(a) + a->ring_bytes;
    while (output_length(a) && waiting + len > n->settings.output_limit) {
        struct frame *oldest = n->settings.drop_oldest ? ring_pop(a) : NULL;
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

/* Queues a frame; the first `skip` bytes have been sent already, and then it is the one in progress. */
enum send_result active_send_frame(struct net *n, uint32_t id, struct frame *f, size_t skip)
{
    struct conn *c = conn_at(n, id);
    struct active *a = active_at(n, c);
    if (!skip && !make_room(n, a, f->len)) {
        if (c->state == CONN_DOOMED)
            return SEND_GONE;
        counter_add(COUNTER_DELIVERIES_DROPPED, 1);
        return SEND_DROPPED;
    }
    if (skip || (!a->ring_count && output_length(a) < OUTPUT_TOP_UP))
        output_frame(a, f, skip);
    else
        ring_push(a, f);
    account(a);
    return SEND_QUEUED;
}

size_t net_pending(const struct net *n, uint32_t id)
{
    const struct conn *c = conn_at(n, id);
    const struct active *a = c->active ? active_at(n, c) : NULL;
    return a ? output_length(a) + a->ring_bytes : 0;
}

void net_sweep(struct net *n, uint64_t before_ms)
{
    for (uint32_t slot = 0; (slot = pool_next(n->actives, slot));) {
        const struct active *a = pool_at(n->actives, slot);
        if (a->partial_since && a->partial_since < before_ms)
            net_close(n, a->conn, CLOSE_PACKET_TIMEOUT);
    }
}
