/*
 * The keys of TLS connections that OpenSSL has handed over, and the records made and opened with them.
 *
 * Begun by handshake.c; parking.c and active.c feed it what was read, conn.c and active.c what is to be sent.
 * Keys live in one pool per cipher suite, because their sizes differ; a connection names its own by suite
 * and slot in one number. Sends nothing by itself but the alert that answers a bad record.
 */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/counters.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"
#include "gateway/net/conn_internal.h"
#include "gateway/net/sockets.h"
#include "gateway/net/tls_context.h"

#define SUITE_SHIFT 29
#define SLOT_MASK   ((1u << SUITE_SHIFT) - 1)

_Static_assert(TLS_SUITES <= 1u << (32 - SUITE_SHIFT), "the suite does not fit beside the slot");

LOG_EVENT(log_bad_record, "tls_bad_record", LOG_LEVEL_DEBUG);
LOG_EVENT(log_tls_alert, "tls_alert_received", LOG_LEVEL_DEBUG);

static struct tls_record *record_of(const struct net *n, const struct conn *c)
{
    return pool_at(n->tls.keys[c->tls >> SUITE_SHIFT], c->tls & SLOT_MASK);
}

const char *sealing_text(const struct conn *c) { return tls_suites[c->tls >> SUITE_SHIFT].name; }

void sealing_setup(struct net *n)
{
    static const char *const pool_name[TLS_SUITES] = {
        [TLS13_AES_128_GCM] = "tls13_aes_128_gcm",    [TLS13_AES_256_GCM] = "tls13_aes_256_gcm",
        [TLS13_CHACHA20_POLY1305] = "tls13_chacha20", [TLS12_AES_128_GCM] = "tls12_aes_128_gcm",
        [TLS12_AES_256_GCM] = "tls12_aes_256_gcm",    [TLS12_CHACHA20_POLY1305] = "tls12_chacha20"};
    struct net_tls_state *t = &n->tls;
    uint32_t max = n->settings.max_connections < SLOT_MASK ? n->settings.max_connections : SLOT_MASK;
    tls_memory_keep_secret(true); /* each context keeps the key of its last record */
    t->crypto = tls_crypto_new();
    tls_memory_keep_secret(false);
    CHECK(t->crypto);
    for (enum tls_suite s = TLS_SUITE_NONE + 1; s < TLS_SUITES; s++) {
        t->keys[s] = pool_new(pool_name[s], tls_record_size(s), max);
        pool_keep_secret(t->keys[s]);
    }
    /* With the smallest fragments (512 bytes) there are most records. */
    t->sealed_room = NET_SEAL_AT_ONCE + (NET_SEAL_AT_ONCE / 512 + 1) * TLS_SMALL_MAX;
    t->sealed = xmalloc(t->sealed_room);
}

void sealing_free(struct net *n)
{
    struct net_tls_state *t = &n->tls;
    if (!t->crypto)
        return;
    tls_crypto_free(t->crypto);
    for (enum tls_suite s = TLS_SUITE_NONE + 1; s < TLS_SUITES; s++)
        pool_free(t->keys[s]);
    free(t->sealed);
}

bool sealing_begin(struct net *n, struct conn *c, const struct tls_handover *h)
{
    uint32_t slot = pool_alloc(n->tls.keys[h->suite]);
    if (!slot)
        return false;
    c->tls = (uint32_t)h->suite << SUITE_SHIFT | slot;
    if (tls_record_start(n->tls.crypto, record_of(n, c), h))
        return true;
    pool_release(n->tls.keys[h->suite], slot);
    c->tls = 0;
    return false;
}

void sealing_end(struct net *n, struct conn *c)
{
    if (!c->tls)
        return;
    tls_record_wipe(record_of(n, c));
    if (n->tls.refused == c->tls)
        n->tls.refused = 0;
    pool_release(n->tls.keys[c->tls >> SUITE_SHIFT], c->tls & SLOT_MASK);
    c->tls = 0;
}

/*
 * Opens all whole records. The content of each is moved up to that of the one before, over its header, so
 * that the handler sees packets as a whole wherever records begin and end.
 */
void sealing_open(struct net *n, const struct conn *c, unsigned char *in, size_t len,
                  struct sealing_input *out)
{
    struct tls_record *r = record_of(n, c);
    struct tls_opened o;
    *out = (struct sealing_input){.end = TLS_MORE, .alert = TLS_ALERT_NONE};
    n->tls.used = true;
    while (len) {
        uint64_t before = r->read_seq;
        out->end = tls_record_open(n->tls.crypto, r, in, len, &o);
        if (out->end == TLS_DATA) {
            if (!out->data)
                out->data = o.data;
            else
                memmove(out->data + out->len, o.data, o.len);
            out->len += o.len;
        } else if (out->end == TLS_CONTROL) {
            counter_add(COUNTER_TLS_KEY_UPDATES, r->read_seq <= before);
            if (o.alert != TLS_ALERT_NONE)
                out->alert = o.alert;
        } else {
            break;
        }
        in += o.used;
        len -= o.used;
        out->end = TLS_MORE;
    }
    if (out->end == TLS_MORE) {
        out->rest = in;
        out->rest_len = len;
        out->need = len ? o.need : 0;
        return;
    }
    out->alert = o.alert;
    out->why = o.why;
    if (out->end == TLS_REFUSED)
        n->tls.refused = c->tls;
}

/* Seals an alert and sends it, behind what waits already. One that ends nothing is not worth a place behind
 * output that the peer does not read: there would be no bound on them. */
static void send_alert(struct net *n, uint32_t id, enum tls_alert alert)
{
    const struct conn *c = net_conn(n, id);
    unsigned char out[TLS_SMALL_MAX];
    bool warning = alert == TLS_ALERT_NO_RENEGOTIATION;
    ssize_t sent = 0;
    if (warning && net_pending(n, id))
        return;
    size_t len = tls_record_alert(n->tls.crypto, record_of(n, c), alert, out, sizeof out);
    if (!len)
        return;
    if (c->state == CONN_ACTIVE)
        active_put_raw(n, id, out, len);
    else if (c->state == CONN_PARKED)
        sent = conn_send_raw(n, id, out, len);
    /* The next record would not be authentic without this one. */
    if (warning && c->state == CONN_PARKED && (size_t)sent < len && active_begin(n, id, NULL))
        active_put_raw(n, id, out + sent, len - (size_t)sent);
}

void sealing_settle(struct net *n, uint32_t id, const struct sealing_input *in)
{
    const struct conn *c = net_conn(n, id);
    char peer[SOCKETS_ADDRESS_TEXT];
    if (c->state == CONN_DOOMED)
        return;
    switch (in->end) {
    case TLS_CLOSED:
        net_close(n, id, CLOSE_PEER_CLOSED);
        break;
    case TLS_REFUSED:
        LOG(log_tls_alert, LOG_U64("alert", in->alert), LOG_STR("address", sockets_peer_text(c->fd, peer)));
        net_close(n, id, CLOSE_TLS_ALERT);
        break;
    case TLS_BAD:
        LOG(log_bad_record, LOG_STR("error", in->why), LOG_STR("address", sockets_peer_text(c->fd, peer)));
        send_alert(n, id, in->alert);
        net_close(n, id, CLOSE_TLS_BAD_RECORD);
        break;
    case TLS_MORE:
    case TLS_DATA:
    case TLS_CONTROL:
        if (in->alert != TLS_ALERT_NONE)
            send_alert(n, id, in->alert);
    }
}

size_t sealing_size(const struct net *n, const struct conn *c, size_t len)
{
    return tls_record_sealed_size(record_of(n, c), len);
}

size_t sealing_seal(struct net *n, const struct conn *c, const void *data, size_t len, void *out, size_t room)
{
    struct tls_record *r = record_of(n, c);
    uint64_t before = r->write_seq;
    /* What came before a bad record is answered like anything else; the alert follows (sealing_settle). */
    bool failed = r->failed;
    r->failed = false;
    size_t sealed = tls_record_seal(n->tls.crypto, r, data, len, out, room);
    r->failed = failed && r->suite != TLS_SUITE_NONE;
    n->tls.used = true;
    counter_add(COUNTER_TLS_KEY_UPDATES, r->write_seq < before && sealed);
    return sealed;
}

bool sealing_is_refused(const struct net *n, const struct conn *c) { return n->tls.refused == c->tls; }

size_t sealing_goodbye(struct net *n, const struct conn *c, void *out, size_t room)
{
    return tls_record_alert(n->tls.crypto, record_of(n, c), TLS_ALERT_CLOSE_NOTIFY, out, room);
}
