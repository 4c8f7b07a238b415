/*
 * TLS of the clients of one process. A client that is connected waits for one of a bounded number of places,
 * has its handshake there by OpenSSL, and then is parked: its keys go into a pool, from where
 * proto/tls_record opens and seals in one buffer of the process, and the SSL is freed. A delivery costs one
 * recv() and is opened in place; a heartbeat is sealed and sent by one send().
 *
 * A client that is to keep its ticket stays with its SSL until CONNACK, so that the ticket has come, and is
 * parked then. What tls_record cannot carry on is refused: there are no clients that keep an SSL.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "gateway/base/check.h"
#include "gateway/base/xmalloc.h"
#include "gateway/tools/bench/client.h"
#include "gateway/tools/bench/wire.h"

#define SEALED_ROOM (WIRE_MAX_SMALL * 8 + 128) /* all that a client sends at once */

void client_tls_start(struct client_process *p)
{
    struct client_tls *t = &p->tls;
    const struct fleet_options *o = p->options;
    t->client = o->tls;
    if (!t->client)
        return;
    t->places = o->handshakes < p->count ? o->handshakes : p->count;
    t->place = xcalloc(t->places + 1, sizeof *t->place); /* from 1 */
    t->free_place = xcalloc(t->places, sizeof *t->free_place);
    while (t->free_places < t->places) {
        t->free_place[t->free_places] = t->places - t->free_places;
        t->free_places++;
    }
    t->sealed = xmalloc(SEALED_ROOM);
    t->session = o->tickets ? xcalloc(p->count, sizeof(SSL_SESSION *)) : NULL;
    t->crypto = tls_crypto_new();
    CHECK(t->crypto);
}

static bool is_parked(const struct client *c) { return c->tls >= CLIENT_TLS_PARKED; }

/* The keys of one that is parked. */
static struct tls_record *record_of(const struct client_process *p, const struct client *c)
{
    return pool_at(p->tls.pool[c->tls >> CLIENT_TLS_SHIFT], c->tls & (CLIENT_TLS_PARKED - 1));
}

static SSL_SESSION **session_of(const struct client_process *p, const struct client *c)
{
    return p->tls.session ? &p->tls.session[c - p->client] : NULL;
}

/* Small and into an empty buffer, as everything that clients send. */
static bool send_bytes(struct client_process *p, struct client *c, const char *bytes, size_t len)
{
    if (len == 0 || send(c->fd, bytes, len, MSG_NOSIGNAL) == (ssize_t)len)
        return true;
    client_fail(p, c, "send", errno);
    return false;
}

/* What the handshake has to say. False: closed. */
static bool flush(struct client_process *p, struct client *c, struct tls_handshake *h)
{
    const char *out;
    size_t n = tls_handshake_output(h, &out);
    return send_bytes(p, c, out, n);
}

void client_tls_forget(struct client_process *p, struct client *c)
{
    struct client_tls *t = &p->tls;
    if (is_parked(c)) {
        tls_record_wipe(record_of(p, c));
        pool_release(t->pool[c->tls >> CLIENT_TLS_SHIFT], c->tls & (CLIENT_TLS_PARKED - 1));
    } else if (c->tls) {
        tls_handshake_free(t->place[c->tls]);
        t->place[c->tls] = NULL;
        t->free_place[t->free_places++] = c->tls;
    }
    c->tls = 0;
}

/* ---- handshake ---- */

/* The ticket of the last time, if one is to be used now. It is used once. */
static SSL_SESSION *take_session(struct client_process *p, struct client *c)
{
    SSL_SESSION **kept = session_of(p, c), *session = kept ? *kept : NULL;
    bool in_and_out = c->flags & CLIENT_BUSY && p->job.command.op == FLEET_HANDSHAKE;
    if (!session || (in_and_out && !p->job.command.value))
        return NULL;
    *kept = NULL;
    p->counters->offered++;
    return session;
}

/* Takes a place and sends ClientHello. */
static void start_handshake(struct client_process *p, struct client *c)
{
    struct client_tls *t = &p->tls;
    SSL_SESSION *session = take_session(p, c);
    c->tls = t->free_place[--t->free_places];
    t->place[c->tls] = tls_handshake_new(t->client, session);
    SSL_SESSION_free(session);
    if (tls_handshake_step(t->place[c->tls], NULL, 0) == TLS_HANDSHAKE_FAILED)
        client_fail(p, c, tls_handshake_error(t->place[c->tls]), 0);
    else
        flush(p, c, t->place[c->tls]);
}

void client_tls_begin(struct client_process *p, struct client *c)
{
    c->state = CLIENT_HANDSHAKE;
    client_queue_push(&p->tls.waiting, (uint32_t)(c - p->client), 0);
    client_tls_pump(p);
}

/* Whoever was closed while it waited is passed over. */
void client_tls_pump(struct client_process *p)
{
    uint32_t index;
    uint64_t wait;
    while (p->tls.free_places && client_queue_pop(&p->tls.waiting, 0, &index, &wait)) {
        struct client *c = &p->client[index];
        if (c->state == CLIENT_HANDSHAKE && c->tls == 0)
            start_handshake(p, c);
    }
}

/* Keys into a pool, the SSL away; what came in the same segment goes to `unread`, its length or -1: closed.
 */
static ssize_t park(struct client_process *p, struct client *c, char *unread, size_t cap)
{
    struct client_tls *t = &p->tls;
    struct tls_handshake *h = t->place[c->tls];
    enum tls_suite suite = tls_handshake_suite(h);
    char text[160];
    if (suite == TLS_SUITE_NONE) {
        tls_handshake_describe(h, text, sizeof text);
        snprintf(text + strlen(text), sizeof text - strlen(text), ": not a suite that clients can park");
        client_fail(p, c, text, 0);
        return -1;
    }
    if (!t->pool[suite])
        t->pool[suite] = pool_new(tls_suites[suite].name, tls_record_size(suite), p->count);
    uint32_t id = pool_alloc(t->pool[suite]);
    CHECK(id && id < CLIENT_TLS_PARKED);
    if (!tls_handshake_hand_over(h, t->crypto, pool_at(t->pool[suite], id))) {
        pool_release(t->pool[suite], id);
        client_fail(p, c, "TLS: the keys could not be taken over from OpenSSL", 0);
        return -1;
    }
    size_t n = tls_handshake_unread(h, unread, cap);
    client_tls_forget(p, c);
    c->tls = (uint32_t)suite << CLIENT_TLS_SHIFT | id;
    return (ssize_t)n;
}

/* Counts a handshake that is done. */
static void count_handshake(struct client_process *p, const struct client *c, const struct tls_handshake *h)
{
    struct fleet_counters *n = p->counters;
    uint32_t us = (uint32_t)(wire_now_ns() / 1000u) - c->sent_us;
    histogram_record(&n->handshake_latency, (uint64_t)us * 1000u);
    n->handshakes++;
    n->resumed += tls_handshake_resumed(h);
    if (!n->tls[0])
        tls_handshake_describe(h, n->tls, sizeof n->tls);
}

static void take_records(struct client_process *p, struct client *c, char *in, size_t len, size_t plain);

/* Goes on with the handshake. */
static void read_handshake(struct client_process *p, struct client *c, const char *in, size_t len)
{
    struct tls_handshake *h = p->tls.place[c->tls];
    enum tls_progress progress = tls_handshake_step(h, in, len);
    if (progress == TLS_HANDSHAKE_FAILED) {
        const char *alert;
        size_t n = tls_handshake_output(h, &alert);
        if (n)
            send(c->fd, alert, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        client_fail(p, c, tls_handshake_error(h), 0);
        return;
    }
    if (!flush(p, c, h) || progress == TLS_HANDSHAKE_MORE)
        return;
    count_handshake(p, c, h);
    ssize_t unread = 0;
    if (!p->tls.session)
        unread = park(p, c, p->buffer, 2 * WIRE_MAX_PACKET);
    if (unread >= 0 && client_hello(p, c) && unread > 0)
        take_records(p, c, p->buffer, (size_t)unread, 0);
}

/* Those that wait for CONNACK with their SSL, so that the ticket comes with it. */
static void read_unparked(struct client_process *p, struct client *c, const char *in, size_t len)
{
    struct tls_handshake *h = p->tls.place[c->tls];
    SSL_SESSION **kept = session_of(p, c);
    size_t have = c->partial ? c->partial->plain : 0, room = 2 * WIRE_MAX_PACKET - have;
    tls_handshake_step(h, in, len);
    if (have)
        memcpy(p->buffer, c->partial->bytes, have);
    ssize_t n;
    while ((n = tls_handshake_read(h, p->buffer + have, room)) > 0) {
        have += (size_t)n;
        room -= (size_t)n;
    }
    if (!*kept)
        *kept = tls_handshake_session(h);
    if (n < 0 && have == 0) {
        client_fail(p, c, tls_handshake_error(h), 0);
        return;
    }
    if (!client_take(p, c, p->buffer, have, "", 0) || c->state != CLIENT_READY)
        return;
    if (tls_handshake_is_between_records(h) && (n = park(p, c, p->buffer, 2 * WIRE_MAX_PACKET)) > 0)
        take_records(p, c, p->buffer, (size_t)n, c->partial ? c->partial->plain : 0);
}

/* ---- parked ---- */

size_t client_tls_seal(struct client_process *p, struct client *c, const char **out, const char *packet,
                       size_t len)
{
    if (!is_parked(c)) {
        struct tls_handshake *h = p->tls.place[c->tls];
        return tls_handshake_write(h, packet, len) ? tls_handshake_output(h, out) : 0;
    }
    *out = p->tls.sealed;
    return tls_record_seal(p->tls.crypto, record_of(p, c), (const uint8_t *)packet, len,
                           (uint8_t *)p->tls.sealed, SEALED_ROOM);
}

/* An alert of ours; that it arrives is not waited for. */
static void send_alert(struct client_process *p, const struct client *c, enum tls_alert alert)
{
    uint8_t out[TLS_SMALL_MAX];
    size_t n = tls_record_alert(p->tls.crypto, record_of(p, c), alert, out, sizeof out);
    if (n)
        send(c->fd, out, n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void client_tls_goodbye(struct client_process *p, struct client *c)
{
    if (is_parked(c)) {
        send_alert(p, c, TLS_ALERT_CLOSE_NOTIFY);
    } else if (c->tls) {
        const char *out;
        tls_handshake_goodbye(p->tls.place[c->tls]);
        size_t n = tls_handshake_output(p->tls.place[c->tls], &out);
        if (n)
            send(c->fd, out, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
}

/* A record that carries no data of ours. False: the connection is over. */
static bool on_quiet_record(struct client_process *p, struct client *c, enum tls_result r,
                            const struct tls_opened *o)
{
    char text[96];
    if (o->alert != TLS_ALERT_NONE && r != TLS_REFUSED)
        send_alert(p, c, o->alert);
    switch (r) {
    case TLS_CONTROL:
        return true;
    case TLS_CLOSED:
        client_tls_goodbye(p, c);
        client_fail(p, c, "closed by the server (close_notify)", 0);
        return false;
    case TLS_REFUSED:
        snprintf(text, sizeof text, "TLS alert %d from the server", (int)o->alert);
        client_fail(p, c, text, 0);
        return false;
    default:
        p->counters->protocol_errors++;
        snprintf(text, sizeof text, "TLS: %s", o->why ? o->why : "malformed record");
        client_fail(p, c, text, 0);
        return false;
    }
}

/*
 * Opens all whole records of the `len` bytes at `in`, in place. In front of them stand `plain` bytes that
 * were opened before. What the records say is moved together behind those; when it is the content of one
 * record alone, as a delivery is, nothing is moved.
 */
static void take_records(struct client_process *p, struct client *c, char *in, size_t len, size_t plain)
{
    char *text = in - plain, *end = in;
    enum tls_result r = TLS_MORE;
    struct tls_opened o;
    while (len) {
        r = tls_record_open(p->tls.crypto, record_of(p, c), (uint8_t *)in, len, &o);
        if (r != TLS_DATA && r != TLS_CONTROL)
            break;
        if (r == TLS_CONTROL && !on_quiet_record(p, c, r, &o))
            return;
        if (r == TLS_DATA && end == text)
            end = text = (char *)o.data;
        else if (r == TLS_DATA)
            memmove(end, o.data, o.len);
        end += r == TLS_DATA ? o.len : 0;
        in += o.used;
        len -= o.used;
    }
    bool over = len && r != TLS_MORE;
    if (client_take(p, c, text, (size_t)(end - text), in, over ? 0 : len) && over)
        on_quiet_record(p, c, r, &o);
}

/* By what the connection is: in its handshake, with its SSL for a while longer, or parked. */
static void take_bytes(struct client_process *p, struct client *c, char *in, size_t len, size_t plain)
{
    if (is_parked(c))
        take_records(p, c, in, len, plain);
    else if (c->state == CLIENT_HANDSHAKE)
        read_handshake(p, c, in, len);
    else
        read_unparked(p, c, in, len);
}

void client_tls_read(struct client_process *p, struct client *c, bool to_end)
{
    const size_t room = WIRE_MAX_PACKET;
    for (;;) {
        const struct client_partial *kept = c->partial;
        size_t plain = kept ? kept->plain : 0, have = kept ? kept->sealed : 0;
        if (kept)
            memcpy(p->buffer, kept->bytes, plain + have);
        char *in = p->buffer + plain;
        ssize_t n = recv(c->fd, in + have, room, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            client_fail(p, c, n ? "recv" : "closed by the server", n ? errno : 0);
            return;
        }
        if (c->tls == 0) {
            client_fail(p, c, "the server speaks before ClientHello", 0);
            return;
        }
        take_bytes(p, c, in, have + (size_t)n, plain);
        if (c->fd < 0 || ((size_t)n < room && !to_end))
            return;
    }
}
