/*
 * Messages: made where a publish enters the process (a client's packet, the hub's socket, the HTTP API),
 * handed on by reference, freed by the last holder. Never changed after they are made.
 */
#include "gateway/base/message.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/xmalloc.h"

/* Appends len bytes (there may be none, at no address) and returns where they end. */
static char *append(char *at, const char *bytes, size_t len)
{
    if (len)
        memcpy(at, bytes, len);
    return at + len;
}

/* Copies the parts into one block. */
struct message *message_new(const struct message_parts *parts)
{
    size_t len = (size_t)parts->topic_len + parts->props_len + parts->payload_len;
    struct message *m = xmalloc(sizeof *m + len);
    *m = (struct message){.refs = 1,
                          .qos = parts->qos,
                          .retain = parts->retain,
                          .topic_len = parts->topic_len,
                          .props_len = parts->props_len,
                          .payload_len = parts->payload_len,
                          .seq = parts->seq,
                          .expires_ms = parts->expires_ms,
                          .origin = parts->origin};
    char *at = append(m->bytes, parts->topic, parts->topic_len);
    at = append(at, parts->props, parts->props_len);
    append(at, parts->payload, parts->payload_len);
    return m;
}

/* One more holder. */
struct message *message_ref(struct message *m)
{
    m->refs++;
    return m;
}

/* One holder fewer. */
void message_unref(struct message *m)
{
    if (!m)
        return;
    CHECK(m->refs > 0);
    if (--m->refs == 0)
        free(m);
}
