/*
 * The window of a session. Fed by deliveries (deliver.c, catch_up.c), by acknowledgements (handle_ack.c) and
 * by the client's publishes (handle_publish.c); drained into the stored progress. Sends nothing itself and
 * holds no message: what has to be sent again is read from the log.
 *
 * Entries that are done stay as long as the fan-out may still be walking messages before them: until then the
 * cursor cannot pass them, and after a disconnect they would be sent again.
 */
#include "gateway/session/window.h"

#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/counters.h"
#include "gateway/base/xmalloc.h"
#include "gateway/engine/progress.h"
#include "gateway/session/catch_up.h"
#include "gateway/session/shares.h"

/* What may wait in the output of a client before no more of QoS 1 and 2 is put behind it. */
#define OUTPUT_ENOUGH (32u << 10)
/* Acknowledged messages that are remembered because an earlier one is not acknowledged. */
#define DONE_ENOUGH   128
#define DONE_TO_STORE 32

static struct inflight *inflight_at(const struct sessions *s, uint32_t id)
{
    return id ? pool_at(s->inflights, id) : NULL;
}

struct window *window_need(struct sessions *s, uint32_t session)
{
    struct session *ses = session_at(s, session);
    if (!ses->window) {
        ses->window = pool_alloc(s->windows);
        if (!ses->window)
            return NULL;
        window_of(s, ses)->session = session;
    }
    return window_of(s, ses);
}

/* Everything up to here was sent to the session, is in its window, or does not concern it. */
static uint64_t offered(const struct sessions *s, const struct window *w)
{
    uint64_t settled = s->fanout ? fanout_settled(s->fanout) : 0;
    if (!w)
        return settled;
    return w->flags & WINDOW_BEHIND || w->read > settled ? w->read : settled;
}

/* Takes the entry behind *at (0: the first) out. */
static void unlink_entry(struct sessions *s, struct window *w, uint32_t before, uint32_t id)
{
    struct inflight *i = inflight_at(s, id);
    if (before)
        inflight_at(s, before)->next = i->next;
    else
        w->first = i->next;
    if (w->last == id)
        w->last = before;
    pool_release(s->inflights, id);
    w->entries--;
}

/* Up to where everything is acknowledged. */
static uint64_t cursor_of(const struct sessions *s, const struct window *w)
{
    uint64_t cursor = offered(s, w);
    for (const struct inflight *i = w ? inflight_at(s, w->first) : NULL; i; i = inflight_at(s, i->next))
        if (i->state != ENGINE_DONE && !(i->flags & INFLIGHT_ASIDE) && i->seq <= cursor)
            cursor = i->seq - 1;
    return cursor;
}

/* Lets go of entries that are done and that the cursor has passed, or that never concerned it. */
static void forget_done(struct sessions *s, struct window *w)
{
    uint64_t upto = cursor_of(s, w);
    for (uint32_t before = 0, id = w->first, next; id; id = next) {
        const struct inflight *i = inflight_at(s, id);
        next = i->next;
        if (i->state == ENGINE_DONE && !(i->flags & INFLIGHT_UNSTORED) &&
            (i->seq <= upto || i->flags & INFLIGHT_ASIDE))
            unlink_entry(s, w, before, id);
        else
            before = id;
    }
}

void window_free(struct sessions *s, struct session *ses)
{
    struct window *w = window_of(s, ses);
    if (!w)
        return;
    catch_up_free(w->catch_up);
    if (w->flags & WINDOW_BEHIND)
        counter_sub(COUNTER_SESSIONS_BEHIND, 1);
    counter_sub(COUNTER_INFLIGHT, w->unacked);
    for (uint32_t id = w->first, next; id; id = next) {
        next = inflight_at(s, id)->next;
        pool_release(s->inflights, id);
    }
    incoming_free(&w->incoming);
    pool_release(s->windows, ses->window);
    ses->window = 0;
}

void window_tidy(struct sessions *s, struct session *ses)
{
    struct window *w = window_of(s, ses);
    if (!w)
        return;
    forget_done(s, w);
    bool needed = w->first || w->incoming || w->held || w->catch_up ||
                  w->flags & (WINDOW_BEHIND | WINDOW_QUEUED | WINDOW_HELD) ||
                  (w->flags & WINDOW_DIRTY && session_is_stored(s, ses)) ||
                  w->read > (s->fanout ? fanout_settled(s->fanout) : 0);
    if (!needed)
        window_free(s, ses);
}

/* The most that may be in flight to the client. */
static uint32_t inflight_limit(const struct sessions *s, const struct session *ses)
{
    const struct session_extra *extra = session_extra(s, ses);
    uint32_t limit = s->config->max_inflight;
    return extra && extra->receive_maximum && extra->receive_maximum < limit ? extra->receive_maximum : limit;
}

bool window_has_room(const struct sessions *s, const struct session *ses, const struct window *w)
{
    uint32_t limit = inflight_limit(s, ses);
    if (w->entries >= limit + DONE_ENOUGH && w->unacked)
        return false;
    return w->unacked < limit && net_pending(s->net, ses->conn) < OUTPUT_ENOUGH;
}

struct inflight *window_find(const struct sessions *s, const struct window *w, uint16_t packet_id)
{
    for (struct inflight *i = inflight_at(s, w->first); i; i = inflight_at(s, i->next))
        if (i->state != ENGINE_DONE && window_packet_id(i->seq) == packet_id)
            return i;
    return NULL;
}

/* The entry that holds a packet identifier, done or not, or NULL. */
static const struct inflight *holder_of(const struct sessions *s, const struct window *w, uint16_t packet_id)
{
    for (const struct inflight *i = inflight_at(s, w->first); i; i = inflight_at(s, i->next))
        if ((i->state != ENGINE_DONE || i->flags & INFLIGHT_UNSTORED) &&
            window_packet_id(i->seq) == packet_id)
            return i;
    return NULL;
}

bool window_is_taken(const struct sessions *s, const struct window *w, uint16_t packet_id)
{
    return holder_of(s, w, packet_id) != NULL;
}

bool window_waits_for_store(const struct sessions *s, const struct window *w, uint16_t packet_id)
{
    const struct inflight *i = holder_of(s, w, packet_id);
    return i && i->state == ENGINE_DONE;
}

void window_storing(struct sessions *s, struct window *w)
{
    w->flags |= WINDOW_STORING;
    for (struct inflight *i = inflight_at(s, w->first); i; i = inflight_at(s, i->next))
        if (i->flags & INFLIGHT_UNSTORED)
            i->flags |= INFLIGHT_TOLD;
}

void window_stored(struct sessions *s, struct window *w, bool ok)
{
    w->flags &= ~(uint32_t)WINDOW_STORING;
    if (!ok)
        w->flags |= WINDOW_DIRTY;
    for (struct inflight *i = inflight_at(s, w->first); i; i = inflight_at(s, i->next))
        if (i->flags & INFLIGHT_TOLD)
            i->flags &= (uint8_t)(ok ? ~(INFLIGHT_TOLD | INFLIGHT_UNSTORED) : ~INFLIGHT_TOLD);
}

struct inflight *window_next_again(const struct sessions *s, const struct window *w)
{
    for (struct inflight *i = inflight_at(s, w->first); i; i = inflight_at(s, i->next))
        if (i->flags & INFLIGHT_AGAIN && i->state == ENGINE_SENT && !(i->flags & INFLIGHT_ASIDE))
            return i;
    return NULL;
}

void window_again(struct window *w, struct inflight *i)
{
    i->flags &= (uint8_t)~INFLIGHT_AGAIN;
    w->unacked++;
    counter_add(COUNTER_INFLIGHT, 1);
    counter_add(COUNTER_REDELIVERIES, 1);
}

struct inflight *window_find_seq(const struct sessions *s, const struct window *w, uint64_t seq)
{
    for (struct inflight *i = inflight_at(s, w->first); i; i = inflight_at(s, i->next))
        if (i->seq == seq && !(i->flags & INFLIGHT_ASIDE))
            return i;
    return NULL;
}

struct inflight *window_add(struct sessions *s, struct window *w, uint64_t seq, uint8_t qos, uint8_t state,
                            uint8_t flags)
{
    uint32_t id = pool_alloc(s->inflights);
    if (!id)
        return NULL;
    struct inflight *i = inflight_at(s, id);
    *i = (struct inflight){.seq = seq, .qos = qos, .state = state, .flags = flags};
    if (w->last)
        inflight_at(s, w->last)->next = id;
    else
        w->first = id;
    w->last = id;
    w->entries++;
    if (state != ENGINE_DONE && !(flags & INFLIGHT_AGAIN)) {
        w->unacked++;
        counter_add(COUNTER_INFLIGHT, 1);
    }
    return i;
}

bool window_is_full_of_done(const struct window *w) { return w->entries >= w->unacked + DONE_TO_STORE; }

void window_done(struct sessions *s, struct session *ses, struct inflight *i)
{
    struct window *w = window_of(s, ses);
    if (!(i->flags & INFLIGHT_AGAIN)) {
        w->unacked--;
        counter_sub(COUNTER_INFLIGHT, 1);
    }
    if (i->state == ENGINE_RECEIVED && session_is_stored(s, ses))
        i->flags |= INFLIGHT_UNSTORED;
    if (i->flags & INFLIGHT_SHARED)
        share_done(s, w->session, i->seq);
    i->state = ENGINE_DONE;
    i->flags &= (uint8_t)~INFLIGHT_AGAIN;
    w->flags |= WINDOW_DIRTY;
}

void window_fall_behind(struct sessions *s, struct session *ses, struct window *w)
{
    (void)ses;
    if (w->flags & WINDOW_BEHIND)
        return;
    w->read = offered(s, w);
    w->flags |= WINDOW_BEHIND;
    counter_add(COUNTER_SESSIONS_BEHIND, 1);
    counter_add(COUNTER_FELL_BEHIND, 1);
}

void window_catch_up_done(struct sessions *s, struct session *ses, struct window *w, uint64_t position)
{
    (void)ses;
    if (position > w->read)
        w->read = position;
    if (w->flags & WINDOW_BEHIND)
        counter_sub(COUNTER_SESSIONS_BEHIND, 1);
    w->flags &= ~(uint32_t)WINDOW_BEHIND;
    w->flags |= WINDOW_DIRTY;
    window_give_up(s, ses, false, UINT64_MAX);
}

struct inflight *window_find_aside(const struct sessions *s, const struct window *w, uint64_t seq)
{
    for (struct inflight *i = inflight_at(s, w->first); i; i = inflight_at(s, i->next))
        if (i->flags & INFLIGHT_ASIDE && (i->seq == seq || !seq) && i->flags & INFLIGHT_AGAIN &&
            i->state == ENGINE_SENT)
            return i;
    return NULL;
}

bool window_give_up(struct sessions *s, struct session *ses, bool aside, uint64_t before)
{
    const struct window *w = window_of(s, ses);
    bool any = false;
    for (struct inflight *i = inflight_at(s, w->first); i; i = inflight_at(s, i->next))
        if (i->flags & INFLIGHT_AGAIN && i->state == ENGINE_SENT && !(i->flags & INFLIGHT_ASIDE) != aside &&
            i->seq < before) {
            window_done(s, ses, i);
            any = true;
        }
    return any;
}

void window_hold(struct sessions *s, struct session *ses, struct window *w, uint16_t go_on_at)
{
    w->flags |= WINDOW_HELD;
    w->go_on_at = go_on_at;
    net_hold(s->net, ses->conn, true);
}

uint64_t window_cursor(const struct sessions *s, const struct session *ses)
{
    return cursor_of(s, window_of(s, ses));
}

/* The packet identifier that is stored. It follows from the number anyway; 0 says that the message is not one
 * that the session reads from the log. */
static uint16_t stored_packet_id(const struct inflight *i)
{
    return i->state == ENGINE_DONE || i->flags & INFLIGHT_ASIDE ? 0 : window_packet_id(i->seq);
}

void *window_progress(const struct sessions *s, const struct session *ses, bool with_asked, size_t *len)
{
    const struct window *w = window_of(s, ses);
    struct engine_progress p = {.cursor = window_cursor(s, ses)};
    struct engine_owed *owed = catch_up_owes(w, &p.owes);
    struct engine_inflight *out = xcalloc((w ? w->entries : 0) + 1u, sizeof *out);
    uint16_t *in = xcalloc((w ? incoming_runs(w->incoming) : 0) * 3u + 1u, sizeof *in);
    for (const struct inflight *i = w ? inflight_at(s, w->first) : NULL; i; i = inflight_at(s, i->next))
        if (i->flags & INFLIGHT_ASIDE ? i->state != ENGINE_DONE && !(i->flags & INFLIGHT_SHARED)
                                      : i->seq > p.cursor)
            out[p.outs++] = (struct engine_inflight){
                .seq = i->seq, .packet_id = stored_packet_id(i), .state = i->state, .qos = i->qos};
    p.ins = w ? incoming_encode(w->incoming, with_asked, in) : 0;
    p.out = out;
    p.in = in;
    p.owed = owed;
    *len = progress_size(&p);
    void *bytes = xmalloc(*len);
    progress_encode(&p, bytes);
    free(out);
    free(in);
    free(owed);
    return bytes;
}

bool window_restore(struct sessions *s, uint32_t session, const struct engine_progress *p)
{
    struct window *w = window_need(s, session);
    if (!w)
        return false;
    w->read = p->cursor;
    w->flags |= WINDOW_BEHIND;
    counter_add(COUNTER_SESSIONS_BEHIND, 1);
    for (unsigned n = 0; n < p->outs; n++) {
        const struct engine_inflight *o = &p->out[n];
        uint8_t flags = o->state == ENGINE_SENT ? INFLIGHT_AGAIN : 0;
        if (o->seq <= p->cursor || (!o->packet_id && o->state != ENGINE_DONE))
            flags |= INFLIGHT_ASIDE;
        if (!window_add(s, w, o->seq, o->state == ENGINE_RECEIVED ? 2 : o->qos, o->state, flags))
            return false;
    }
    return incoming_decode(&w->incoming, p->in, p->ins);
}
