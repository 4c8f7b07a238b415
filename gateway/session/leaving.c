/*
 * Stored sessions whose connection has ended before it was known what became of a publish of theirs with QoS
 * 2. What CLOSE says of such a session would be wrong either way: a packet identifier that is stored though
 * its message was refused makes the gateway swallow the message when it comes again, and one that is not
 * stored though it was kept makes it keep the message twice. So CLOSE waits here for the answer, in both
 * wordings, and who wants the session waits for CLOSE. There is one such publish at the most
 * (window_is_asking()).
 *
 * Fed by requests.c with what CLOSE is to say and with the answers; drained into the hub. Nothing waits here
 * for longer than its publish waits for the disk.
 */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/xmalloc.h"
#include "gateway/ipc/ipc_message.h"
#include "gateway/session/requests.h"

struct leaving {
    struct leaving *next;
    struct closing c; /* its bytes are copies */
    struct ipc_bytes progress_refused;
    uint32_t session;
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
    free((void *)(uintptr_t)l->progress_refused.data);
    free((void *)(uintptr_t)l->c.will.data);
    free(l);
}

void close_later(struct sessions *s, uint32_t session, const struct closing *c,
                 const struct ipc_bytes *progress_refused)
{
    struct leaving *l = xmalloc(sizeof *l);
    *l = (struct leaving){.next = s->leaving, .c = *c, .session = session};
    l->c.client_id = copy_of(&c->client_id);
    l->c.progress = copy_of(&c->progress);
    l->progress_refused = copy_of(progress_refused);
    l->c.will = copy_of(&c->will);
    s->leaving = l;
}

void close_answered(struct sessions *s, const struct session_cookie *c, bool is_kept)
{
    struct leaving **at = &s->leaving;
    while (*at && ((*at)->session != c->session || (*at)->c.claim != c->claim))
        at = &(*at)->next;
    struct leaving *l = *at;
    if (!l)
        return;
    struct closing closing = l->c;
    if (!is_kept)
        closing.progress = l->progress_refused;
    *at = l->next;
    close_send(s, &closing);
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
