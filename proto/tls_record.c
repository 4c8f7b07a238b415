/*
 * The record layer of a connection that OpenSSL has handed over: a transport feeds what it has read to
 * tls_record_open(), takes the content out of the same buffer, and sends what tls_record_seal() makes. All
 * that is remembered between two records is the flat state. Every record is keyed from the bytes kept there:
 * to derive key and IV from the secret each time would save 56 bytes of 136 and cost several times the record
 * itself. It deliberately does no handshake, keeps no partial record, and never decides to send: owed answers
 * wait for the next tls_record_seal(), alerts are handed to the caller.
 */
#include "proto/tls_record.h"

#include <string.h>

_Static_assert(sizeof(struct tls_record) == 16, "the head of a state has grown");

/* ContentType of RFC 8446 section 5.1. */
enum { CHANGE_CIPHER_SPEC = 20, ALERT = 21, HANDSHAKE = 22, APPLICATION_DATA = 23 };

#define MSG_HEADER_LEN   4
#define KEY_UPDATE       24
#define KEY_UPDATE_LEN   (MSG_HEADER_LEN + 1)
#define ALERT_LEN        2
#define EXPLICIT_LEN     8
#define AAD_MAX          13
#define FRAGMENT_MAX     4
#define ALERT_NUMBERS    1 /* sequence numbers kept back for a last alert */
#define LEVEL_WARNING    1
#define LEVEL_FATAL      2
#define NO_MESSAGE_RULES (sizeof message_rules / sizeof *message_rules)

static const struct tls_suite_info *suite_of(const struct tls_record *r) { return &tls_suites[r->suite]; }

static uint8_t *write_half(struct tls_record *r) { return r->keys; }
static uint8_t *read_half(struct tls_record *r) { return r->keys + suite_of(r)->half_len; }

size_t tls_record_size(enum tls_suite suite)
{
    return sizeof(struct tls_record) + 2 * (size_t)tls_suites[suite].half_len;
}

void tls_record_wipe(struct tls_record *r) { tls_wipe(r, tls_record_size(r->suite)); }

/* The most content of one record, in either direction. */
static size_t content_max(const struct tls_record *r)
{
    return r->fragment ? (size_t)256 << r->fragment : TLS_PLAINTEXT_MAX;
}

/* Puts both directions' keys into a state whose suite and role are set. */
static bool load_keys(struct tls_crypto *c, struct tls_record *r, const struct tls_handover *h)
{
    const struct tls_suite_info *s = suite_of(r);
    uint8_t *client = h->is_client ? write_half(r) : read_half(r);
    uint8_t *server = h->is_client ? read_half(r) : write_half(r);

    if (!s->v13)
        return tls_keys_from_master(c, h->suite, h->master_secret, h->client_random, h->server_random, client,
                                    server);
    memcpy(client, h->client_secret, s->secret_len);
    memcpy(server, h->server_secret, s->secret_len);
    return tls_keys_from_secret(c, h->suite, client) && tls_keys_from_secret(c, h->suite, server);
}

bool tls_record_start(struct tls_crypto *c, struct tls_record *r, const struct tls_handover *h)
{
    if (h->suite == TLS_SUITE_NONE || h->suite >= TLS_SUITES)
        return false;
    memset(r, 0, tls_record_size(h->suite));
    if (h->records_written >= TLS_SEQ_MAX || h->records_read >= TLS_SEQ_MAX || h->fragment > FRAGMENT_MAX)
        return false;
    r->suite = h->suite;
    r->is_client = h->is_client;
    r->fragment = h->fragment & 7;
    r->write_seq = h->records_written;
    r->read_seq = h->records_read;
    if (load_keys(c, r, h))
        return true;
    tls_record_wipe(r);
    return false;
}

/*
 * The nonce of a record: a whole IV is combined with the sequence number (RFC 8446 section 5.3, RFC 7905
 * section 2); a short one is followed by the explicit part (RFC 5288 section 3).
 */
static void make_nonce(const struct tls_suite_info *s, const uint8_t *iv, const uint8_t low[EXPLICIT_LEN],
                       uint8_t nonce[TLS_NONCE_LEN])
{
    enum { HIGH = TLS_NONCE_LEN - EXPLICIT_LEN };

    memcpy(nonce, iv, s->iv_len);
    if (s->explicit_len) {
        memcpy(nonce + HIGH, low, EXPLICIT_LEN);
        return;
    }
    for (int i = 0; i < EXPLICIT_LEN; i++)
        nonce[HIGH + i] ^= low[i];
}

static void put_u16(uint8_t *p, size_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put_u64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (56 - 8 * i));
}

/*
 * What is authenticated besides the content: in 1.3 the record's header, in 1.2 the sequence number and the
 * header with the length of the content (RFC 8446 section 5.2, RFC 5246 section 6.2.3.3). Returns its length.
 */
static size_t make_aad(const struct tls_suite_info *s, const uint8_t *header, const uint8_t seq[8],
                       size_t content, uint8_t aad[AAD_MAX])
{
    if (s->v13) {
        memcpy(aad, header, TLS_HEADER_LEN);
        return TLS_HEADER_LEN;
    }
    memcpy(aad, seq, 8);
    memcpy(aad + 8, header, 3);
    put_u16(aad + 11, content);
    return AAD_MAX;
}

/* ---- opening ---- */

/* The end of reading: says which alert goes to the peer. The keys for writing stay until it is made, unless
 * writing has ended already. */
__attribute__((cold)) static enum tls_result fail(struct tls_record *r, struct tls_opened *o,
                                                  enum tls_alert alert, const char *why)
{
    r->failed = 1;
    tls_wipe(read_half(r), suite_of(r)->half_len);
    if (r->write_closed)
        tls_record_wipe(r);
    o->used = 0;
    o->alert = alert;
    o->why = why;
    return TLS_BAD;
}

/* A record that gives the application nothing. There may only be so many of them in a row. */
static enum tls_result nothing_to_deliver(struct tls_record *r, struct tls_opened *o)
{
    if (r->quiet == TLS_QUIET_MAX)
        return fail(r, o, TLS_ALERT_UNEXPECTED_MESSAGE, "too many records without application data");
    r->quiet++;
    return TLS_CONTROL;
}

/* Says so, or that more bytes are needed, unless the header and then the whole record are here. */
static enum tls_result check_header(struct tls_record *r, const uint8_t *in, size_t len, struct tls_opened *o)
{
    o->need = TLS_HEADER_LEN;
    if (len < TLS_HEADER_LEN)
        return TLS_MORE;

    const struct tls_suite_info *s = suite_of(r);
    size_t body = (size_t)in[3] << 8 | in[4];
    bool known = s->v13 ? in[0] == APPLICATION_DATA
                        : in[0] == APPLICATION_DATA || in[0] == HANDSHAKE || in[0] == ALERT;
    if (!known)
        return fail(r, o, TLS_ALERT_UNEXPECTED_MESSAGE, "record type out of place");
    if (!s->v13 && (in[1] != 3 || in[2] != 3))
        return fail(r, o, TLS_ALERT_PROTOCOL_VERSION, "record of another protocol version");
    if (body > TLS_RECORD_MAX - TLS_HEADER_LEN)
        return fail(r, o, TLS_ALERT_RECORD_OVERFLOW, "record too long");
    if (body < (size_t)s->explicit_len + TLS_TAG_LEN)
        return fail(r, o, TLS_ALERT_BAD_RECORD_MAC, "record too short to be authentic");
    o->need = TLS_HEADER_LEN + body;
    return len < o->need ? TLS_MORE : TLS_DATA;
}

/* Decrypts the whole record in place; o->data and o->len are then all that was encrypted. */
static bool decrypt(struct tls_crypto *c, struct tls_record *r, uint8_t *in, struct tls_opened *o)
{
    const struct tls_suite_info *s = suite_of(r);
    const uint8_t *key = read_half(r) + s->secret_len;
    uint8_t seq[8], nonce[TLS_NONCE_LEN], aad[AAD_MAX];

    o->data = in + TLS_HEADER_LEN + s->explicit_len;
    o->len = o->need - TLS_HEADER_LEN - s->explicit_len - TLS_TAG_LEN;
    put_u64(seq, r->read_seq);
    make_nonce(s, key + s->key_len, s->explicit_len ? in + TLS_HEADER_LEN : seq, nonce);
    struct tls_aead_input a = {s->aead, key, nonce, aad, make_aad(s, in, seq, o->len, aad)};
    return tls_aead_open(c, &a, o->data, o->len);
}

/* Takes padding and type off the end of a TLSInnerPlaintext (RFC 8446 section 5.4). 0: there is only padding.
 */
static uint8_t take_inner_type(struct tls_opened *o)
{
    while (o->len > 0)
        if (o->data[--o->len])
            return o->data[o->len];
    return 0;
}

/* Messages that may come after the handshake, and what they do. Everything else is out of place. */
static const struct message_rule {
    bool v13, to_client, to_server;
    uint8_t type;
    uint32_t min, max; /* length of the body by its syntax */
    enum { UPDATE, SKIP, DECLINE } action;
} message_rules[] = {
    {true, true, true, KEY_UPDATE, 1, 1, UPDATE},
    {true, true, false, 4, 14, 131337, SKIP},     /* NewSessionTicket */
    {false, true, false, 0, 0, 0, DECLINE},       /* HelloRequest */
    {false, false, true, 1, 41, 131396, DECLINE}, /* ClientHello */
};

/* First byte of a message. */
static enum tls_result begin_message(struct tls_record *r, struct tls_opened *o, uint8_t type)
{
    bool v13 = suite_of(r)->v13;

    for (size_t i = 0; i < NO_MESSAGE_RULES; i++) {
        const struct message_rule *m = &message_rules[i];
        if (m->type != type || m->v13 != v13 || !(r->is_client ? m->to_client : m->to_server))
            continue;
        r->msg_rule = i & 3;
        r->msg_left = 0;
        r->msg_have = 1;
        return TLS_CONTROL;
    }
    return fail(r, o, TLS_ALERT_UNEXPECTED_MESSAGE, "handshake message out of place");
}

/* One of the three bytes of a message's length. After the last one the message is judged as far as it can be.
 */
static enum tls_result take_length(struct tls_record *r, struct tls_opened *o, uint8_t byte)
{
    const struct message_rule *m = &message_rules[r->msg_rule];
    uint32_t length = (uint32_t)r->msg_left << 8 | byte;
    unsigned bytes_to_come = MSG_HEADER_LEN - 1u - r->msg_have;

    if (length << (8 * bytes_to_come) > m->max || (bytes_to_come == 0 && length < m->min))
        return fail(r, o, TLS_ALERT_DECODE_ERROR, "handshake message of impossible length");
    r->msg_left = length & 0x3FFFF;
    if (++r->msg_have < MSG_HEADER_LEN)
        return TLS_CONTROL;
    if (m->action == DECLINE)
        o->alert = TLS_ALERT_NO_RENEGOTIATION;
    if (length == 0)
        r->msg_have = 0;
    return TLS_CONTROL;
}

/* The body of a KeyUpdate: all after this record has the next keys. */
static enum tls_result obey_key_update(struct tls_crypto *c, struct tls_record *r, struct tls_opened *o,
                                       uint8_t request, size_t behind)
{
    if (request > 1)
        return fail(r, o, TLS_ALERT_ILLEGAL_PARAMETER, "KeyUpdate with an unknown request");
    if (behind > 0)
        return fail(r, o, TLS_ALERT_UNEXPECTED_MESSAGE, "message behind KeyUpdate in the same record");
    if (!tls_keys_update(c, r->suite, read_half(r)))
        return fail(r, o, TLS_ALERT_INTERNAL_ERROR, "key derivation failed");
    r->read_seq = 0;
    r->asked_update = 0;
    if (request)
        r->owes_update = 1;
    return TLS_CONTROL;
}

/* A record with handshake messages, parts of them, or both. */
static enum tls_result take_handshake(struct tls_crypto *c, struct tls_record *r, struct tls_opened *o)
{
    enum tls_result result = TLS_CONTROL;

    if (o->len == 0)
        return fail(r, o, TLS_ALERT_UNEXPECTED_MESSAGE, "empty handshake record");
    for (size_t i = 0, step = 1; i < o->len && result == TLS_CONTROL; i += step) {
        step = 1;
        if (r->msg_have == 0) {
            result = begin_message(r, o, o->data[i]);
        } else if (r->msg_have < MSG_HEADER_LEN) {
            result = take_length(r, o, o->data[i]);
        } else {
            step = r->msg_left < o->len - i ? r->msg_left : o->len - i;
            r->msg_left = (r->msg_left - step) & 0x3FFFF;
            if (r->msg_left == 0)
                r->msg_have = 0;
            if (message_rules[r->msg_rule].action == UPDATE)
                result = obey_key_update(c, r, o, o->data[i], o->len - i - 1);
        }
    }
    return result == TLS_CONTROL ? nothing_to_deliver(r, o) : result;
}

/* An alert: one per record, never in parts. Unknown ones are errors in 1.3 and go by their level in 1.2. */
static enum tls_result take_alert(struct tls_record *r, struct tls_opened *o)
{
    bool v13 = suite_of(r)->v13;

    if (o->len != ALERT_LEN)
        return o->len ? fail(r, o, TLS_ALERT_DECODE_ERROR, "alert of impossible length")
                      : fail(r, o, TLS_ALERT_UNEXPECTED_MESSAGE, "empty alert record");
    uint8_t level = o->data[0], alert = o->data[1];
    if (!v13 && level != LEVEL_WARNING && level != LEVEL_FATAL)
        return fail(r, o, TLS_ALERT_ILLEGAL_PARAMETER, "alert with an unknown level");
    if (alert == TLS_ALERT_CLOSE_NOTIFY) {
        r->read_closed = 1;
        tls_wipe(read_half(r), suite_of(r)->half_len);
        if (r->write_closed)
            tls_record_wipe(r);
        return TLS_CLOSED;
    }
    if (v13 ? alert == TLS_ALERT_USER_CANCELED : level == LEVEL_WARNING)
        return nothing_to_deliver(r, o);
    tls_record_wipe(r);
    o->alert = alert;
    return TLS_REFUSED;
}

/* What an authentic record means, by the type of its content. */
static enum tls_result take_content(struct tls_crypto *c, struct tls_record *r, struct tls_opened *o,
                                    uint8_t type)
{
    if (o->len > content_max(r))
        return fail(r, o, TLS_ALERT_RECORD_OVERFLOW, "record with too much content");
    if (r->msg_have && type != HANDSHAKE && suite_of(r)->v13)
        return fail(r, o, TLS_ALERT_UNEXPECTED_MESSAGE, "another record between the parts of a message");
    switch (type) {
    case APPLICATION_DATA:
        if (o->len == 0)
            return nothing_to_deliver(r, o);
        r->quiet = 0;
        return TLS_DATA;
    case HANDSHAKE:
        return take_handshake(c, r, o);
    case ALERT:
        return take_alert(r, o);
    default:
        return fail(r, o, TLS_ALERT_UNEXPECTED_MESSAGE, "content type out of place");
    }
}

/* Decrypts and interprets the record that check_header() found to be all here. */
static enum tls_result open_whole(struct tls_crypto *c, struct tls_record *r, uint8_t *in,
                                  struct tls_opened *o)
{
    uint8_t type = in[0];

    if (r->read_seq >= TLS_SEQ_MAX)
        return fail(r, o, TLS_ALERT_INTERNAL_ERROR, "out of sequence numbers");
    if (!decrypt(c, r, in, o))
        return fail(r, o, TLS_ALERT_BAD_RECORD_MAC, "record not authentic");
    r->read_seq++;
    o->used = o->need;
    if (suite_of(r)->v13) {
        if (o->len > TLS_PLAINTEXT_MAX + 1)
            return fail(r, o, TLS_ALERT_RECORD_OVERFLOW, "record with too much content");
        type = take_inner_type(o);
        if (type == 0)
            return fail(r, o, TLS_ALERT_UNEXPECTED_MESSAGE, "record of nothing but padding");
    }
    return take_content(c, r, o, type);
}

enum tls_result tls_record_open(struct tls_crypto *c, struct tls_record *r, uint8_t *in, size_t len,
                                struct tls_opened *o)
{
    *o = (struct tls_opened){.alert = TLS_ALERT_NONE};
    if (r->suite == TLS_SUITE_NONE || r->failed) {
        o->why = "the connection has ended";
        return TLS_BAD;
    }
    if (r->read_closed) {
        o->used = len;
        return TLS_CLOSED;
    }
    enum tls_result result = check_header(r, in, len, o);
    if (result == TLS_DATA)
        result = open_whole(c, r, in, o);
    if (result == TLS_CLOSED)
        o->used = len;
    if (result != TLS_DATA) {
        o->data = NULL;
        o->len = 0;
    }
    return result;
}

/* ---- sealing ---- */

/* What a record adds to its content. */
static size_t overhead(const struct tls_suite_info *s)
{
    return TLS_HEADER_LEN + (size_t)s->explicit_len + TLS_TAG_LEN + (s->v13 ? 1 : 0);
}

/* Whether anything but an alert can still be sent. */
static bool may_write(const struct tls_record *r)
{
    return r->suite != TLS_SUITE_NONE && !r->write_closed && !r->failed;
}

/* One record at `out`. Returns its length; 0 and a wiped state when OpenSSL fails. */
static size_t seal_one(struct tls_crypto *c, struct tls_record *r, uint8_t type, const uint8_t *in,
                       size_t len, uint8_t *out)
{
    const struct tls_suite_info *s = suite_of(r);
    const uint8_t *key = write_half(r) + s->secret_len;
    uint8_t seq[8], nonce[TLS_NONCE_LEN], aad[AAD_MAX], *body = out + TLS_HEADER_LEN + s->explicit_len;
    size_t total = len + overhead(s);

    put_u64(seq, r->write_seq);
    make_nonce(s, key + s->key_len, seq, nonce);
    out[0] = s->v13 ? APPLICATION_DATA : type;
    out[1] = out[2] = 3;
    put_u16(out + 3, total - TLS_HEADER_LEN);
    if (s->explicit_len)
        memcpy(out + TLS_HEADER_LEN, seq, EXPLICIT_LEN);
    struct tls_aead_input a = {s->aead, key, nonce, aad, make_aad(s, out, seq, len, aad)};
    if (s->v13) {
        memcpy(body, in, len);
        body[len++] = type;
        in = body;
    }
    if (!tls_aead_seal(c, &a, in, len, body)) {
        tls_record_wipe(r);
        return 0;
    }
    r->write_seq++;
    return total;
}

/* A KeyUpdate under the present key, then the next key. */
static size_t seal_key_update(struct tls_crypto *c, struct tls_record *r, bool ask, uint8_t *out)
{
    const uint8_t message[KEY_UPDATE_LEN] = {KEY_UPDATE, 0, 0, 1, ask};
    size_t n = seal_one(c, r, HANDSHAKE, message, sizeof message, out);

    if (n == 0)
        return 0;
    if (!tls_keys_update(c, r->suite, write_half(r))) {
        tls_record_wipe(r);
        return 0;
    }
    r->write_seq = 0;
    r->owes_update = 0;
    if (ask)
        r->asked_update = 1;
    return n;
}

/* Whether the peer is to be asked for new keys, because of all that it has sent under these. */
static bool should_ask(const struct tls_record *r)
{
    return r->read_seq >= TLS_ASK_UPDATE_FROM && !r->asked_update && !r->read_closed;
}

/* Whether a KeyUpdate goes before the next application data. */
static bool update_is_due(const struct tls_record *r)
{
    return suite_of(r)->v13 && (r->owes_update || r->write_seq >= TLS_UPDATE_AFTER || should_ask(r));
}

static size_t records_for(const struct tls_record *r, size_t len)
{
    return (len + content_max(r) - 1) / content_max(r);
}

size_t tls_record_sealed_size(const struct tls_record *r, size_t len)
{
    const struct tls_suite_info *s = suite_of(r);

    return (update_is_due(r) ? overhead(s) + KEY_UPDATE_LEN : 0) + records_for(r, len) * overhead(s) + len;
}

/* Whether there are sequence numbers for it and room for a last alert. */
static bool has_numbers(const struct tls_record *r, size_t records)
{
    uint64_t used = update_is_due(r) ? 0 : r->write_seq;

    return r->write_seq < TLS_SEQ_MAX && records <= TLS_SEQ_MAX - ALERT_NUMBERS - used;
}

size_t tls_record_seal(struct tls_crypto *c, struct tls_record *r, const uint8_t *in, size_t len,
                       uint8_t *out, size_t room)
{
    size_t total = 0;

    if (!may_write(r) || tls_record_sealed_size(r, len) > room || !has_numbers(r, records_for(r, len)))
        return 0;
    if (update_is_due(r)) {
        total = seal_key_update(c, r, should_ask(r), out);
        if (total == 0)
            return 0;
    }
    while (len > 0) {
        size_t part = len < content_max(r) ? len : content_max(r);
        size_t n = seal_one(c, r, APPLICATION_DATA, in, part, out + total);
        if (n == 0)
            return 0;
        total += n;
        in += part;
        len -= part;
    }
    return total;
}

size_t tls_record_key_update(struct tls_crypto *c, struct tls_record *r, bool ask, uint8_t *out, size_t room)
{
    const struct tls_suite_info *s = suite_of(r);

    if (!may_write(r) || !s->v13 || room < overhead(s) + KEY_UPDATE_LEN || r->write_seq >= TLS_SEQ_MAX)
        return 0;
    return seal_key_update(c, r, ask, out);
}

/* The end of writing in good order. */
static void close_writing(struct tls_record *r)
{
    r->write_closed = 1;
    tls_wipe(write_half(r), suite_of(r)->half_len);
    if (r->read_closed || r->failed)
        tls_record_wipe(r);
}

size_t tls_record_alert(struct tls_crypto *c, struct tls_record *r, enum tls_alert alert, uint8_t *out,
                        size_t room)
{
    const struct tls_suite_info *s = suite_of(r);
    bool warning = alert == TLS_ALERT_CLOSE_NOTIFY || alert == TLS_ALERT_USER_CANCELED ||
                   alert == TLS_ALERT_NO_RENEGOTIATION;
    const uint8_t message[ALERT_LEN] = {warning ? LEVEL_WARNING : LEVEL_FATAL, (uint8_t)alert};

    if (r->suite == TLS_SUITE_NONE || r->write_closed || alert == TLS_ALERT_NONE ||
        r->write_seq >= TLS_SEQ_MAX || room < overhead(s) + ALERT_LEN)
        return 0;
    size_t n = seal_one(c, r, ALERT, message, sizeof message, out);
    if (n > 0 && alert == TLS_ALERT_CLOSE_NOTIFY)
        close_writing(r);
    else if (n > 0 && !warning)
        tls_record_wipe(r);
    return n;
}
