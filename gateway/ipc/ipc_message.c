/*
 * The encoding of messages between processes. Everything follows from the letters of a message's row in
 * ipc.def: there is no code per type. The channel and the packet socket feed the decoder with what they read
 * and write out what the encoder makes; whoever owns them gives the fields a meaning. It keeps nothing, and
 * it trusts no length it reads before it has compared it with a limit and with what is there.
 */
#include "gateway/ipc/ipc_message.h"

#include <stdbool.h>
#include <string.h>

#include "gateway/base/check.h"

static const struct ipc_row {
    const char *name;
    const char *fields;
} rows[IPC_TYPE_COUNT] = {
    [IPC_NONE] = {"none", ""},
#define X(id, name, fields) [IPC_##id] = {name, fields},
#include "ipc.def"
#undef X
};

#define X(id, name, fields)                                                                                  \
    _Static_assert(sizeof(fields) - 1 <= IPC_MAX_FIELDS, "more fields than a message can have: " name);
#include "ipc.def"
#undef X

/* The width of a number, or of the length in front of a string. */
static size_t field_width(char letter)
{
    switch (letter) {
    case 'b':
        return 1;
    case 'h':
    case 's':
        return 2;
    case 'w':
    case 'd':
        return 4;
    case 'q':
        return 8;
    }
    CHECK(!"a letter in ipc.def that is none");
    return 0;
}

/* Whether the field is a run of bytes with its length in front. */
static bool field_is_bytes(char letter) { return letter == 's' || letter == 'd'; }

/* The largest length a field of this letter may have. */
static uint32_t field_limit(char letter) { return letter == 's' ? UINT16_MAX : IPC_MAX_DATA; }

/* A number of `width` bytes in native order. */
static uint64_t get_num(const unsigned char *p, size_t width)
{
    uint16_t h;
    uint32_t w;
    uint64_t q;
    switch (width) {
    case 1:
        return *p;
    case 2:
        memcpy(&h, p, sizeof h);
        return h;
    case 4:
        memcpy(&w, p, sizeof w);
        return w;
    default:
        memcpy(&q, p, sizeof q);
        return q;
    }
}

/* Writes a number that fits in `width` bytes and returns what follows it. */
static unsigned char *put_num(unsigned char *p, size_t width, uint64_t n)
{
    CHECK(width == 8 || n >> (8 * width) == 0);
    uint8_t b = (uint8_t)n;
    uint16_t h = (uint16_t)n;
    uint32_t w = (uint32_t)n;
    switch (width) {
    case 1:
        memcpy(p, &b, sizeof b);
        break;
    case 2:
        memcpy(p, &h, sizeof h);
        break;
    case 4:
        memcpy(p, &w, sizeof w);
        break;
    default:
        memcpy(p, &n, sizeof n);
        break;
    }
    return p + width;
}

/* Reads the fields between p and end, which they must fill exactly. Returns what is wrong, or NULL. */
static const char *decode_fields(const unsigned char *p, const unsigned char *end, const char *letters,
                                 struct ipc_message *m)
{
    for (const char *l = letters; *l; l++) {
        size_t width = field_width(*l);
        if ((size_t)(end - p) < width)
            return "message shorter than its fields";
        uint64_t n = get_num(p, width);
        p += width;
        union ipc_field *f = &m->field[m->fields++];
        if (!field_is_bytes(*l)) {
            f->num = n;
            continue;
        }
        if (n > field_limit(*l))
            return "field above its limit";
        if (n > (size_t)(end - p))
            return "field reaches beyond its message";
        f->bytes = (struct ipc_bytes){.data = (const char *)p, .len = (uint32_t)n};
        p += n;
    }
    return p == end ? NULL : "message longer than its fields";
}

enum ipc_result ipc_decode(const void *buf, size_t len, struct ipc_message *m, size_t *used, const char **why)
{
    const unsigned char *p = buf;
    if (len < IPC_HEADER) {
        *used = IPC_HEADER;
        return IPC_MORE;
    }
    size_t total = 4 + (size_t)get_num(p, 4);
    uint64_t type = get_num(p + 4, 2);
    *why = NULL;
    if (total < IPC_HEADER)
        *why = "message without a type";
    else if (total > IPC_MAX_MESSAGE)
        *why = "message above its limit";
    else if (type == IPC_NONE || type >= IPC_TYPE_COUNT)
        *why = "unknown message type";
    if (*why)
        return IPC_BAD;
    *used = total;
    if (len < total)
        return IPC_MORE;
    m->type = (enum ipc_type)type;
    m->fields = 0;
    *why = decode_fields(p + IPC_HEADER, p + total, rows[type].fields, m);
    return *why ? IPC_BAD : IPC_OK;
}

size_t ipc_size(const struct ipc_message *m)
{
    CHECK(m->type > IPC_NONE && m->type < IPC_TYPE_COUNT);
    const char *letters = rows[m->type].fields;
    CHECK(m->fields == strlen(letters));
    size_t n = IPC_HEADER;
    for (unsigned i = 0; i < m->fields; i++) {
        n += field_width(letters[i]);
        if (!field_is_bytes(letters[i]))
            continue;
        if (m->field[i].bytes.len > field_limit(letters[i]))
            return 0;
        n += m->field[i].bytes.len;
    }
    return n <= IPC_MAX_MESSAGE ? n : 0;
}

void ipc_encode(const struct ipc_message *m, void *out)
{
    size_t total = ipc_size(m);
    CHECK(total > 0);
    const char *letters = rows[m->type].fields;
    unsigned char *p = put_num(out, 4, total - 4);
    p = put_num(p, 2, m->type);
    for (unsigned i = 0; i < m->fields; i++) {
        const union ipc_field *f = &m->field[i];
        bool bytes = field_is_bytes(letters[i]);
        p = put_num(p, field_width(letters[i]), bytes ? f->bytes.len : f->num);
        if (!bytes || f->bytes.len == 0)
            continue;
        memcpy(p, f->bytes.data, f->bytes.len);
        p += f->bytes.len;
    }
}

/* The row of a type; that of "none" for anything that is no type. */
static const struct ipc_row *row_of(enum ipc_type t)
{
    return &rows[(unsigned)t < IPC_TYPE_COUNT ? t : IPC_NONE];
}

const char *ipc_type_name(enum ipc_type t) { return row_of(t)->name; }

const char *ipc_type_fields(enum ipc_type t) { return row_of(t)->fields; }
