/*
 * Typed, versioned, length-prefixed messages between the gateway's processes. Bytes in, struct out: no socket
 * here.
 *
 * Wire format, native byte order (one machine): uint32 length of what follows, uint16 type, then the fields
 * of the type's row in ipc.def, numbers unaligned, `s` as uint16 length and bytes, `d` as uint32 length and
 * bytes.
 */
#ifndef HOLDFAST_IPC_MESSAGE_H
#define HOLDFAST_IPC_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#define IPC_VERSION     5
#define IPC_MAX_FIELDS  18
#define IPC_MAX_DATA    (16u << 20)
#define IPC_MAX_MESSAGE (36u << 20)
#define IPC_HEADER      6

enum ipc_type {
    IPC_NONE,
#define X(id, name, fields) IPC_##id,
#include "ipc.def"
#undef X
    IPC_TYPE_COUNT
};

struct ipc_bytes {
    const char *data; /* points into the decoded buffer */
    uint32_t len;
};

/* A decoded message. field[i] is what the i-th letter of the row says: .num for b h w q, .bytes for s d. */
struct ipc_message {
    enum ipc_type type;
    unsigned fields;
    union ipc_field {
        uint64_t num;
        struct ipc_bytes bytes;
    } field[IPC_MAX_FIELDS];
};

enum ipc_result { IPC_OK, IPC_MORE, IPC_BAD };

/*
 * Decodes the message at the start of buf. IPC_OK: *used bytes of buf are done with and *m is filled, its
 * bytes pointing into buf. IPC_MORE: *used is the number of bytes needed in all (at least IPC_HEADER).
 * IPC_BAD: not a message of ours; the channel must be closed; *why says what is wrong.
 */
enum ipc_result ipc_decode(const void *buf, size_t len, struct ipc_message *m, size_t *used, const char **why)
    __attribute__((warn_unused_result));

/*
 * The size of the encoded message, header included, or 0 if a field is above its limit. The fields are given
 * as ipc_encode() takes them.
 */
size_t ipc_size(const struct ipc_message *m);
/* Writes ipc_size(m) bytes to out. m->fields and the types must match the row (CHECKed). */
void ipc_encode(const struct ipc_message *m, void *out);

const char *ipc_type_name(enum ipc_type t);
const char *ipc_type_fields(enum ipc_type t);

/* Brief makers of fields: struct ipc_message m = IPC_MAKE(RELEASE, IPC_NUM(claim), IPC_BYTES(id, len)); */
#define IPC_NUM(n)                                                                                           \
    {                                                                                                        \
        .num = (uint64_t)(n)                                                                                 \
    }
#define IPC_BYTES(p, n)                                                                                      \
    {                                                                                                        \
        .bytes = {.data = (p), .len = (uint32_t)(n) }                                                        \
    }
#define IPC_MAKE(id, ...)                                                                                    \
    {                                                                                                        \
        .type = IPC_##id,                                                                                    \
        .fields = sizeof((const union ipc_field[]){__VA_ARGS__}) / sizeof(union ipc_field), .field = {       \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }

#endif
