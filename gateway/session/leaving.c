/*
 * Stored sessions whose connection has ended before it was known what became of publishes of theirs with
 * QoS 2. What CLOSE says of such a session would be wrong either way: a packet identifier that is stored
 * though its message was refused makes the gateway swallow the message when it comes again, and one that is
 * not stored though it was kept makes it keep the message twice. So CLOSE waits here for the answers, and who
 * wants the session waits for CLOSE.
 *
 * Fed by requests.c with what CLOSE is to say and with the answers; drained into the hub. Nothing waits here
 * for longer than its publishes wait for the disk.
 */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/xmalloc.h"
#include "gateway/engine/progress.h"
#include "gateway/ipc/ipc_message.h"
#include "gateway/session/requests.h"

struct leaving {
    struct leaving *next;
    struct closing c; /* its bytes are copies */
    uint32_t session;
    uint32_t waiting; /* of ids */
    uint16_t ids[];   /* publishes that are not answered */
};

void close_send(struct sessions *s, const struct closing *c)
{
    const struct session_cookie nobody = {0};
    struct ipc_message m =
        IPC_MAKE(CLOSE, IPC_NUM(0), IPC_NUM(c->claim), IPC_NUM(c->expiry_s), IPC_NUM(c->will_delay_s),
                 IPC_BYTES(c->client_id.data, c->client_id.len), IPC_BYTES(c->progress.data, c->progress.len),
                 IPC_BYTES(c->will.data, c->will.len), IPC_NUM(c->is_unsure));
    (void)!s->handler->request(s->ctx, &m, &nobody);
}

static struct ipc_bytes copy_of(const struct ipc_bytes *b)
{
    char *copy = xmalloc((size_t)b->len + 1);
    if (b->len)
        memcpy(copy, b->data, b->len);
    return (struct ipc_bytes){.data = copy, .len = b->len};
}

static void free_leaving(struct leaving *l)
{
    free((void *)(uintptr_t)l->c.client_id.data);
    free((void *)(uintptr_t)l->c.progress.data);
    free((void *)(uintptr_t)l->c.will.data);
    free(l);
}

void close_later(struct sessions *s, uint32_t session, const struct closing *c, const uint16_t *ids,
                 uint32_t count)
{
    struct leaving *l = xmalloc(sizeof *l + count * sizeof *ids);
    *l = (struct leaving){.next = s->leaving, .c = *c, .session = session, .waiting = count};
    l->c.client_id = copy_of(&c->client_id);
    l->c.progress = copy_of(&c->progress);
    l->c.will = copy_of(&c->will);
    memcpy(l->ids, ids, count * sizeof *ids);
    s->leaving = l;
}

/* Takes a packet identifier out of the progress. */
static void forget_incoming(struct leaving *l, uint16_t packet_id)
{
    struct progress_buffer *b = progress_decode(l->c.progress.data, l->c.progress.len);
    struct engine_progress p = *progress_of(b);
    uint16_t *in = xcalloc(p.ins + 1u, sizeof *in), n = 0;
    for (unsigned i = 0; i < p.ins; i++)
        if (p.in[i] != packet_id)
            in[n++] = p.in[i];
    p.in = in;
    p.ins = n;
    char *bytes = xmalloc(progress_size(&p));
    progress_encode(&p, bytes);
    free((void *)(uintptr_t)l->c.progress.data);
    l->c.progress = (struct ipc_bytes){.data = bytes, .len = (uint32_t)progress_size(&p)};
    progress_free(b);
    free(in);
}

/* Whether the session waits for this answer; then it does no longer. */
static bool take_answer(struct leaving *l, uint16_t packet_id)
{
    for (uint32_t i = 0; i < l->waiting; i++)
        if (l->ids[i] == packet_id) {
            l->ids[i] = l->ids[--l->waiting];
            return true;
        }
    return false;
}

void close_answered(struct sessions *s, const struct session_cookie *c, bool is_kept)
{
    struct leaving **at = &s->leaving;
    while (*at && ((*at)->session != c->session || (*at)->c.claim != c->claim))
        at = &(*at)->next;
    struct leaving *l = *at;
    if (!l || !take_answer(l, c->packet_id))
        return;
    if (!is_kept)
        forget_incoming(l, c->packet_id);
    if (l->waiting)
        return;
    *at = l->next;
    close_send(s, &l->c);
    free_leaving(l);
}

void closes_free(struct sessions *s)
{
    struct leaving *l;
    while ((l = s->leaving)) {
        s->leaving = l->next;
        free_leaving(l);
    }
}
