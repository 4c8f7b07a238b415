/*
 * Turns structs into the bytes that are kept, and back. Everything that is read is checked for its length:
 * a damaged file gives an error, never a read beyond a value.
 */
#include "gateway/engine/record.h"

#include <openssl/evp.h>

#include "gateway/base/check.h"

#define SHA256_SIZE 32

/* ---- numbers ---- */

static unsigned char *put16(unsigned char *at, uint16_t n)
{
    n = htole16(n);
    memcpy(at, &n, 2);
    return at + 2;
}

static unsigned char *put32(unsigned char *at, uint32_t n)
{
    n = htole32(n);
    memcpy(at, &n, 4);
    return at + 4;
}

static unsigned char *put64(unsigned char *at, uint64_t n)
{
    n = htole64(n);
    memcpy(at, &n, 8);
    return at + 8;
}

static unsigned char *put_bytes(unsigned char *at, const void *bytes, size_t len)
{
    if (len)
        memcpy(at, bytes, len);
    return at + len;
}

/* What is left of a value that is being read; `bad` once something was missing. */
struct input {
    const unsigned char *at;
    size_t left;
    bool bad;
};

static struct input input_of(struct kv_bytes v) { return (struct input){.at = v.data, .left = v.size}; }

/* The next n bytes, or NULL. */
static const unsigned char *take(struct input *in, size_t n)
{
    if (n > in->left) {
        in->bad = true;
        in->left = 0;
        return NULL;
    }
    in->at += n;
    in->left -= n;
    return in->at - n;
}

static uint64_t take_number(struct input *in, size_t n)
{
    uint64_t le = 0;
    const unsigned char *at = take(in, n);
    if (at)
        memcpy(&le, at, n);
    return le64toh(le);
}

/* ---- keys ---- */

void key_copy(struct record_key *k, struct kv_bytes from)
{
    CHECK(from.size <= sizeof k->bytes);
    k->size = from.size;
    memcpy(k->bytes, from.data, from.size);
}

/* Appends a number. */
static void add_u64(struct record_key *k, uint64_t a)
{
    a = htobe64(a);
    memcpy(k->bytes + k->size, &a, 8);
    k->size += 8;
}

/* Appends a name. The empty one is a zero byte, which no MQTT string has: a key is never empty. */
static void add_name(struct record_key *k, const char *name, size_t len)
{
    unsigned char *at = k->bytes + k->size;
    size_t head = len < NAME_KEY_LONG ? len : NAME_KEY_LONG - SHA256_SIZE;
    if (len == 0)
        name = "", head = 1;
    memcpy(at, name, head);
    k->size += head;
    if (len < NAME_KEY_LONG)
        return;
    unsigned size;
    CHECK(EVP_Digest(name, len, at + head, &size, EVP_sha256(), NULL) == 1 && size == SHA256_SIZE);
    k->size += SHA256_SIZE;
}

void key_u64(struct record_key *k, uint64_t a)
{
    k->size = 0;
    add_u64(k, a);
}

void key_u64_u64(struct record_key *k, uint64_t a, uint64_t b)
{
    key_u64(k, a);
    add_u64(k, b);
}

void key_name(struct record_key *k, const char *name, size_t len)
{
    k->size = 0;
    add_name(k, name, len);
}

void key_u64_name(struct record_key *k, uint64_t a, const char *name, size_t len)
{
    key_u64(k, a);
    add_name(k, name, len);
}

void key_prefix(struct record_key *k, const char *prefix, size_t len)
{
    size_t most = NAME_KEY_LONG - SHA256_SIZE;
    key_name(k, prefix, len < most ? len : most);
}

void key_note(struct record_key *k, const char *name, size_t len)
{
    static const char prefix[] = "note:";
    k->size = sizeof prefix - 1 + len;
    memcpy(k->bytes, prefix, sizeof prefix - 1);
    memcpy(k->bytes + sizeof prefix - 1, name, len);
}

/* The name behind `skip` bytes of a key: in the key, or in `stored` when it is long. */
static bool name_of(struct kv_bytes key, size_t skip, struct kv_bytes stored, struct kv_bytes *name)
{
    if (key.size <= skip)
        return false;
    *name = kv_bytes((const char *)key.data + skip, key.size - skip);
    if (name->size == 1 && *(const char *)name->data == 0)
        name->size = 0;
    if (name->size < NAME_KEY_LONG)
        return stored.size == 0;
    *name = stored;
    return stored.size >= NAME_KEY_LONG;
}

/* The bytes of a name that its value holds. */
static size_t stored_len(size_t name_len) { return name_len < NAME_KEY_LONG ? 0 : name_len; }

/* ---- messages ---- */

#define MESSAGE_HEAD (5 * 8 + 2 * 4 + 2 + 2)

size_t record_message_size(const struct message_parts *m)
{
    return MESSAGE_HEAD + (size_t)m->topic_len + m->props_len + m->payload_len;
}

void record_message_write(void *to, const struct record_message *m)
{
    const struct message_parts *p = &m->parts;
    unsigned char *at = put64(to, m->time_ms);
    at = put64(at, p->expires_ms);
    at = put64(at, p->origin);
    at = put64(at, m->topic_id);
    at = put64(at, p->seq);
    at = put32(at, p->payload_len);
    at = put32(at, p->props_len);
    at = put16(at, p->topic_len);
    *at++ = p->qos;
    *at++ = p->retain;
    at = put_bytes(at, p->topic, p->topic_len);
    at = put_bytes(at, p->props, p->props_len);
    put_bytes(at, p->payload, p->payload_len);
}

bool record_message_read(struct kv_bytes value, struct record_message *m)
{
    struct input in = input_of(value);
    struct message_parts *p = &m->parts;
    m->time_ms = take_number(&in, 8);
    p->expires_ms = take_number(&in, 8);
    p->origin = take_number(&in, 8);
    m->topic_id = take_number(&in, 8);
    p->seq = take_number(&in, 8);
    p->payload_len = (uint32_t)take_number(&in, 4);
    p->props_len = (uint32_t)take_number(&in, 4);
    p->topic_len = (uint16_t)take_number(&in, 2);
    p->qos = (uint8_t)take_number(&in, 1);
    p->retain = take_number(&in, 1) != 0;
    p->topic = (const char *)take(&in, p->topic_len);
    p->props = (const char *)take(&in, p->props_len);
    p->payload = (const char *)take(&in, p->payload_len);
    return !in.bad && in.left == 0 && p->qos <= 2;
}

/* ---- topics ---- */

size_t record_topic_size(size_t name_len) { return 8 + stored_len(name_len); }

void record_topic_write(void *at, uint64_t topic_id, const char *name, size_t len)
{
    put_bytes(put64(at, topic_id), name, stored_len(len));
}

bool record_topic_read(struct kv_bytes key, struct kv_bytes value, uint64_t *topic_id, struct kv_bytes *name)
{
    struct input in = input_of(value);
    *topic_id = take_number(&in, 8);
    return !in.bad && name_of(key, 0, kv_bytes(in.at, in.left), name);
}

/* ---- sessions ---- */

#define SESSION_CURSOR 8 /* its offset */

size_t record_session_size(const struct record_session *s, size_t name_len)
{
    return 3 * 8 + 2 * 4 + s->s.extra_len + stored_len(name_len);
}

void record_session_write(void *to, const struct record_session *s, const char *name, size_t name_len)
{
    unsigned char *at = put64(to, s->number);
    at = put64(at, s->s.cursor);
    at = put64(at, s->s.disconnected_ms);
    at = put32(at, s->s.expiry_s);
    at = put32(at, s->s.extra_len);
    at = put_bytes(at, s->s.extra, s->s.extra_len);
    put_bytes(at, name, stored_len(name_len));
}

bool record_session_read(struct kv_bytes key, struct kv_bytes value, struct record_session *s)
{
    struct input in = input_of(value);
    s->number = take_number(&in, 8);
    s->s.cursor = take_number(&in, 8);
    s->s.disconnected_ms = take_number(&in, 8);
    s->s.expiry_s = (uint32_t)take_number(&in, 4);
    s->s.extra_len = (uint32_t)take_number(&in, 4);
    s->s.extra = (const char *)take(&in, s->s.extra_len);
    return !in.bad && name_of(key, 0, kv_bytes(in.at, in.left), &s->name);
}

void record_session_set_cursor(void *at, uint64_t cursor)
{
    put64((unsigned char *)at + SESSION_CURSOR, cursor);
}

/* ---- subscriptions ---- */

#define QOS_BEFORE_SHIFT 6 /* in the byte of the options, whose upper bits SUBSCRIBE leaves alone */
#define OPTIONS_MASK     ((1u << QOS_BEFORE_SHIFT) - 1)

size_t record_subscription_size(const struct engine_subscription *s)
{
    return 8 + 4 + 1 + (s->qos_before ? 8 : 0) + stored_len(s->len);
}

void record_subscription_write(void *to, const struct engine_subscription *s)
{
    unsigned char *at = put64(to, s->since);
    at = put32(at, s->identifier);
    *at++ = (unsigned char)((s->options & OPTIONS_MASK) | s->qos_before << QOS_BEFORE_SHIFT);
    if (s->qos_before)
        at = put64(at, s->until);
    put_bytes(at, s->filter, stored_len(s->len));
}

bool record_subscription_read(struct kv_bytes key, struct kv_bytes value, struct engine_subscription *s)
{
    struct input in = input_of(value);
    struct kv_bytes name;
    s->since = take_number(&in, 8);
    s->identifier = (uint32_t)take_number(&in, 4);
    s->options = (uint8_t)take_number(&in, 1);
    s->qos_before = s->options >> QOS_BEFORE_SHIFT;
    s->options &= OPTIONS_MASK;
    s->until = s->qos_before ? take_number(&in, 8) : 0;
    if (in.bad || !name_of(key, 8, kv_bytes(in.at, in.left), &name) || name.size > UINT16_MAX)
        return false;
    s->filter = name.data;
    s->len = (uint16_t)name.size;
    return true;
}

/* ---- progress ---- */

#define PROGRESS_HEAD 4
#define PROGRESS_OUT  11
#define PROGRESS_IN   2
#define OWED_HEAD     12

/* Of what lies before the part that says what is owed. */
static size_t in_flight_size(size_t outs, size_t ins)
{
    return PROGRESS_HEAD + outs * PROGRESS_OUT + ins * PROGRESS_IN;
}

static size_t owed_size(const struct engine_owed *o) { return OWED_HEAD + (size_t)o->len + o->after_len; }

size_t record_progress_size(const struct engine_progress *p)
{
    size_t size = in_flight_size(p->outs, p->ins);
    for (unsigned i = 0; i < p->owes; i++)
        size += owed_size(&p->owed[i]);
    return size;
}

static unsigned char *put_owed(unsigned char *at, const struct engine_owed *o)
{
    at = put16(put16(put64(at, o->asked), o->len), o->after_len);
    return put_bytes(put_bytes(at, o->filter, o->len), o->after, o->after_len);
}

void record_progress_write(void *to, const struct engine_progress *p)
{
    unsigned char *at = put16(put16(to, p->outs), p->ins);
    for (unsigned i = 0; i < p->outs; i++) {
        at = put64(at, p->out[i].seq);
        at = put16(at, p->out[i].packet_id);
        *at++ = (unsigned char)(p->out[i].state | p->out[i].qos << 4);
    }
    for (unsigned i = 0; i < p->ins; i++)
        at = put16(at, p->in[i]);
    for (unsigned i = 0; i < p->owes; i++)
        at = put_owed(at, &p->owed[i]);
}

/* The next one that is owed. */
static struct engine_owed take_owed(struct input *in)
{
    struct engine_owed o = {.asked = take_number(in, 8)};
    o.len = (uint16_t)take_number(in, 2);
    o.after_len = (uint16_t)take_number(in, 2);
    o.filter = (const char *)take(in, o.len);
    o.after = (const char *)take(in, o.after_len);
    in->bad |= !o.asked || !o.len;
    return o;
}

bool record_progress_read(struct kv_bytes value, struct engine_progress *p)
{
    struct input in = input_of(value);
    size_t owes = 0;
    p->outs = (uint16_t)take_number(&in, 2);
    p->ins = (uint16_t)take_number(&in, 2);
    take(&in, in_flight_size(p->outs, p->ins) - PROGRESS_HEAD);
    for (; in.left && !in.bad; owes++)
        take_owed(&in);
    p->owes = (uint16_t)owes;
    return !in.bad && owes <= UINT16_MAX;
}

struct engine_inflight record_progress_out(struct kv_bytes value, size_t i)
{
    struct input in = input_of(value);
    take(&in, PROGRESS_HEAD + i * PROGRESS_OUT);
    struct engine_inflight f = {.seq = take_number(&in, 8)};
    f.packet_id = (uint16_t)take_number(&in, 2);
    f.state = (uint8_t)take_number(&in, 1);
    f.qos = f.state >> 4;
    f.state &= 15;
    return f;
}

uint16_t record_progress_in(struct kv_bytes value, size_t i)
{
    struct input in = input_of(value);
    uint16_t outs = (uint16_t)take_number(&in, 2);
    take(&in, 2 + (size_t)outs * PROGRESS_OUT + i * PROGRESS_IN);
    return (uint16_t)take_number(&in, 2);
}

bool record_progress_owed(struct kv_bytes value, size_t *at, struct engine_owed *out)
{
    struct input in = input_of(value);
    if (!*at) {
        size_t outs = take_number(&in, 2), ins = take_number(&in, 2);
        *at = in_flight_size(outs, ins);
        in = input_of(value);
    }
    take(&in, *at);
    if (in.bad || !in.left)
        return false;
    *out = take_owed(&in);
    *at = value.size - in.left;
    return !in.bad;
}

size_t record_progress_owing_size(struct kv_bytes value, const struct engine_owed *o)
{
    return (value.size ? value.size : PROGRESS_HEAD) + owed_size(o);
}

size_t record_progress_write_owing(void *to, struct kv_bytes value, const struct engine_owed *o)
{
    struct engine_owed old;
    struct input in = input_of(value);
    size_t outs = take_number(&in, 2), ins = take_number(&in, 2), at = 0;
    unsigned char *const begin = to, *put = put16(put16(begin, (uint16_t)outs), (uint16_t)ins), *owed;
    put = owed = put_bytes(put, in.at, in_flight_size(outs, ins) - PROGRESS_HEAD);
    while (record_progress_owed(value, &at, &old))
        if (old.len != o->len || memcmp(old.filter, o->filter, o->len) != 0)
            put = put_owed(put, &old);
    if (o->asked && (size_t)(put - owed) + owed_size(o) <= ENGINE_OWED_BYTES)
        put = put_owed(put, o);
    return (size_t)(put - begin);
}

/* ---- totals ---- */

void record_totals_write(void *to, const struct record_totals *t)
{
    unsigned char *at = put64(put64(put64(to, t->log_bytes), t->sessions_expired), t->head);
    for (unsigned i = 0; i < ENGINE_EXPIRED_REASONS; i++)
        at = put64(put64(at, t->expired[i]), t->unread[i]);
}

bool record_totals_read(struct kv_bytes value, struct record_totals *t)
{
    struct input in = input_of(value);
    t->log_bytes = take_number(&in, 8);
    t->sessions_expired = take_number(&in, 8);
    t->head = take_number(&in, 8);
    for (unsigned i = 0; i < ENGINE_EXPIRED_REASONS; i++) {
        t->expired[i] = take_number(&in, 8);
        t->unread[i] = take_number(&in, 8);
    }
    return !in.bad && in.left == 0;
}
