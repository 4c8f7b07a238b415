/*
 * Fuzz target: any bytes as messages between the gateway's processes. What decodes must encode to the bytes
 * that it came from.
 */
#include <stdlib.h>
#include <string.h>

#include "gateway/ipc/ipc_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the program with a trace when something does not hold. */
static void must(int holds)
{
    if (!holds)
        abort();
}

/* Encodes a decoded message and compares. */
static void check_good(const struct ipc_message *m, const uint8_t *data, size_t used)
{
    must(m->type > IPC_NONE && m->type < IPC_TYPE_COUNT && ipc_size(m) == used);
    must(m->fields == strlen(ipc_type_fields(m->type)) && ipc_type_name(m->type)[0]);
    unsigned char *out = malloc(used);
    ipc_encode(m, out);
    must(memcmp(out, data, used) == 0);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (size_t at = 0, used; at < size; at += used) {
        struct ipc_message m;
        const char *why = NULL;
        enum ipc_result r = ipc_decode(data + at, size - at, &m, &used, &why);
        if (r == IPC_MORE)
            must(used > size - at && used >= IPC_HEADER);
        if (r == IPC_BAD)
            must(why != NULL);
        if (r != IPC_OK)
            break;
        must(used >= IPC_HEADER && used <= size - at);
        check_good(&m, data + at, used);
    }
    return 0;
}
