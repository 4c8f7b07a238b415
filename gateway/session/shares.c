/*
 * Shared subscriptions in a worker: who is a member, and messages on their way to one. Fed by SUBSCRIBE and
 * by the hub, drained into the member's connection and, with acknowledgements, into the hub. Chooses nobody.
 *
 * The hub is told of a message by its number and the member; it knows which groups wait for that.
 */
#include "gateway/session/shares.h"

#include <string.h>

#include "gateway/ipc/ipc_message.h"
#include "gateway/session/publish.h"
#include "gateway/session/window.h"
#include "proto/mqtt_topic.h"

void share_join(struct sessions *s, uint32_t id, const char *filter, size_t len, sub_options options)
{
    const struct session *ses = session_at(s, id);
    const struct session_extra *extra = session_extra(s, ses);
    size_t id_len;
    const char *client_id = sessions_client_id(s, id, &id_len);
    struct ipc_message m =
        IPC_MAKE(SHARE_JOIN, IPC_NUM(ses->claim), IPC_NUM(options & 0xF),
                 IPC_NUM(extra ? extra->expiry_s : 0), IPC_BYTES(client_id, id_len), IPC_BYTES(filter, len));
    if (s->handler->tell)
        s->handler->tell(s->ctx, &m);
}

void share_leave(struct sessions *s, uint32_t id, const char *filter, size_t len)
{
    size_t id_len;
    const char *client_id = sessions_client_id(s, id, &id_len);
    struct ipc_message m = IPC_MAKE(SHARE_LEAVE, IPC_NUM(session_at(s, id)->claim),
                                    IPC_BYTES(client_id, id_len), IPC_BYTES(filter, len));
    if (s->handler->tell)
        s->handler->tell(s->ctx, &m);
}

/* A session whose subscriptions are looked through. */
struct joining {
    struct sessions *s;
    uint32_t id;
};

static bool join_if_shared(void *ctx, const char *filter, size_t len, sub_options options)
{
    const struct joining *j = ctx;
    if (mqtt_topic_is_shared(filter, len))
        share_join(j->s, j->id, filter, len, options);
    return true;
}

void share_join_all(struct sessions *s, uint32_t id)
{
    struct joining j = {.s = s, .id = id};
    topic_tree_each(s->tree, session_at(s, id)->subs, join_if_shared, &j);
}

/* Tells the hub what became of a message. */
static void tell(struct sessions *s, uint32_t id, uint64_t seq, bool acknowledged)
{
    size_t len;
    const char *client_id = sessions_client_id(s, id, &len);
    struct ipc_message m = IPC_MAKE(SHARE_DONE, IPC_NUM(seq), IPC_NUM(session_at(s, id)->claim),
                                    IPC_NUM(acknowledged), IPC_BYTES(client_id, len));
    if (s->handler->tell)
        s->handler->tell(s->ctx, &m);
}

void share_done(struct sessions *s, uint32_t id, uint64_t seq) { tell(s, id, seq, true); }

/* The message of a SHARE_DELIVER. */
static struct message_parts parts_of(const struct ipc_message *m)
{
    return (struct message_parts){.seq = m->field[4].num,
                                  .qos = (uint8_t)m->field[5].num,
                                  .retain = m->field[6].num != 0,
                                  .expires_ms = m->field[7].num,
                                  .origin = m->field[8].num,
                                  .topic = m->field[9].bytes.data,
                                  .topic_len = (uint16_t)m->field[9].bytes.len,
                                  .props = m->field[10].bytes.data,
                                  .props_len = m->field[10].bytes.len,
                                  .payload = m->field[11].bytes.data,
                                  .payload_len = m->field[11].bytes.len};
}

/* The options of the member's subscription as the tree has them, with the identifier. */
struct finding {
    const struct ipc_bytes *filter;
    sub_options options;
    bool found;
};

static bool find_filter(void *ctx, const char *filter, size_t len, sub_options options)
{
    struct finding *f = ctx;
    f->found = len == f->filter->len && memcmp(filter, f->filter->data, len) == 0;
    f->options = options;
    return !f->found;
}

void sessions_share_deliver(struct sessions *s, const struct ipc_message *m)
{
    const struct ipc_bytes *client_id = &m->field[2].bytes;
    uint32_t id = sessions_find(s, client_id->data, client_id->len);
    struct message_parts parts = parts_of(m);
    struct finding f = {.filter = &m->field[3].bytes};
    if (!id || session_at(s, id)->claim != m->field[0].num)
        return; /* it has left, which the hub learns or has learnt */
    topic_tree_each(s->tree, session_at(s, id)->subs, find_filter, &f);
    uint8_t flags = INFLIGHT_ASIDE | INFLIGHT_SHARED | (m->field[12].num ? INFLIGHT_DUP : 0);
    bool is_open = net_conn(s->net, session_at(s, id)->conn)->protocol != 0;
    enum publish_result sent = PUBLISH_NO_ROOM;
    struct merged how;
    publish_merge(&how, &f.options, 1, parts.qos, false);
    if (f.found && is_open)
        sent = publish_to(s, id, &parts, &how, parts.retain && how.retain_as_published, NULL, flags);
    if (parts.qos && (sent != PUBLISH_SENT || !how.qos))
        tell(s, id, parts.seq, sent != PUBLISH_NO_ROOM);
}
