#include "gateway/session/will.h"

#include <stdlib.h>

#include "gateway/base/counters.h"
#include "gateway/base/xmalloc.h"
#include "gateway/ipc/ipc_message.h"
#include "gateway/session/requests.h"

void *will_encode(const struct message *will, size_t *len)
{
    struct ipc_message m =
        IPC_MAKE(PUBLISH, IPC_NUM(0), IPC_NUM(will->qos), IPC_NUM(will->retain), IPC_NUM(will->expires_ms),
                 IPC_NUM(will->origin), IPC_BYTES(message_topic(will), will->topic_len),
                 IPC_BYTES(message_props(will), will->props_len),
                 IPC_BYTES(message_payload(will), will->payload_len), IPC_BYTES("", 0), IPC_BYTES("", 0));
    *len = ipc_size(&m);
    void *bytes = xmalloc(*len);
    ipc_encode(&m, bytes);
    return bytes;
}

void will_tell(struct sessions *s, uint32_t id)
{
    const struct session *ses = session_at(s, id);
    const struct session_rare *rare = session_rare(s, ses);
    if (!rare || !rare->will || session_extra(s, ses)->flags & EXTRA_OPENING || !s->handler->tell)
        return;
    size_t len, will_len;
    const char *client_id = sessions_client_id(s, id, &len);
    void *bytes = will_encode(rare->will, &will_len);
    struct ipc_message m = IPC_MAKE(WILL, IPC_NUM(ses->claim), IPC_NUM(rare->will_delay_s),
                                    IPC_BYTES(client_id, len), IPC_BYTES(bytes, will_len));
    s->handler->tell(s->ctx, &m);
    free(bytes);
}

void will_publish(struct sessions *s, uint32_t id, struct message *will)
{
    size_t len;
    const char *client_id = sessions_client_id(s, id, &len);
    bool taken = will->qos ? request_publish(s, id, will, REQUEST_NONE, 0)
                           : s->handler->publish(s->ctx, client_id, len, will);
    if (!taken)
        counter_add(will->qos ? COUNTER_PUBLISHES_REFUSED : COUNTER_PUBLISHES_DROPPED, 1);
}
