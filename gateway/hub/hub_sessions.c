/*
 * Stored sessions: what workers say of them, and what becomes of it. A session is given to a worker (OPEN),
 * changed by it (SUBSCRIBE, UNSUBSCRIBE, PROGRESS) and given back (CLOSE); the worker reads what is stored
 * itself. Only the worker that has a session may change it. Who that is says the registry of claims, or,
 * when that is empty after a restart of the hub, the opener in the stored record: a worker's requests from
 * before come again, also for sessions that have ended meanwhile and are in no registry any more.
 *
 *      not stored ── OPEN ──> connected ── CLOSE, or nobody claims it ──> away ── its time is over ──> gone
 *                                  ^─────────────── OPEN ───────────────────┘
 *
 * What is handed to the engine here is committed at the end of the turn. It holds nothing per session in
 * memory: what is about to change hands is in hub_openings.c, wills that wait in hub_wills.c.
 */
#include "gateway/hub/hub_sessions.h"

#include <stdlib.h>

#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"
#include "gateway/engine/progress.h"
#include "gateway/hub/hub_client_wills.h"
#include "gateway/hub/hub_shares.h"
#include "gateway/hub/hub_stored.h"
#include "gateway/hub/hub_wills.h"

LOG_EVENT_ONCE_A_SECOND(bad_event, "bad_session_request", LOG_LEVEL_ERROR);

bool hub_claims_are_known(const struct hub *h)
{
    if (h->uncounted > 0)
        return false;
    for (unsigned i = 0; i < h->args->workers; i++)
        if (h->worker[i].channel && !h->worker[i].replayed)
            return false;
    return true;
}

/* Says that a worker's message is not what it should be; what can be done of it has been done. */
static void complain(const struct hub_worker *w, const char *what)
{
    LOG(bad_event, LOG_U64("worker", w->number), LOG_STR("what", what));
}

static void count_clients(struct hub *h)
{
    counter_set(COUNTER_HUB_CLIENTS, h->engine_ops->count(h->engine));
}

/* ---- who may speak ---- */

/* Whether the stored session is the one that was given to this claim. One that says nothing of it is. */
static bool was_given_to(const struct hub_stored *s, struct engine_claim claim)
{
    return s->opener.worker == ENGINE_NO_WORKER || claim_equals(s->opener, claim);
}

/* The same, without a look at what is stored where the registry knows. */
static bool has_session(struct hub *h, const struct ipc_bytes *id, struct engine_claim claim)
{
    struct engine_claim holder;
    struct hub_stored s;
    if (h->engine_ops->find(h->engine, id->data, id->len, &holder) && claim_equals(holder, claim) &&
        !hub_opening_exists(h, id->data, id->len))
        return true;
    return hub_stored_get(h, id->data, id->len, &s) && was_given_to(&s, claim);
}

/* Whether the worker has the session, by whatever claim. */
static bool worker_has_session(struct hub_worker *w, const struct ipc_bytes *id)
{
    struct hub *h = w->hub;
    struct engine_claim holder;
    struct hub_stored s;
    if (h->engine_ops->find(h->engine, id->data, id->len, &holder) && holder.worker == w->number &&
        !hub_opening_exists(h, id->data, id->len))
        return true;
    return hub_stored_get(h, id->data, id->len, &s) &&
           (s.opener.worker == ENGINE_NO_WORKER || s.opener.worker == w->number);
}

/* ---- OPEN ---- */

void hub_session_open(struct hub_worker *w, const struct ipc_message *m)
{
    struct hub *h = w->hub;
    const struct ipc_bytes *id = &m->field[3].bytes;
    const struct opening_request r = {.kind = OPENING_ASKED,
                                      .mine = hub_claim_of(w, m->field[0].num),
                                      .clean_start = m->field[1].num != 0,
                                      .expiry_s = (uint32_t)m->field[2].num};
    struct engine_claim other;
    if (!h->engine_ops->claim(h->engine, id->data, id->len, r.mine, &other)) {
        hub_kick(h, r.mine, CLOSE_TAKEN_OVER, id->data, id->len);
        return;
    }
    count_clients(h);
    if (other.worker != ENGINE_NO_WORKER && !claim_equals(other, r.mine))
        hub_kick(h, other, CLOSE_TAKEN_OVER, id->data, id->len);
    hub_opening_begin(h, id->data, id->len, &r, other);
}

/* ---- requests ---- */

static void store_progress(struct hub_worker *w, const struct ipc_bytes *id, const struct ipc_bytes *progress,
                           bool with_messages)
{
    struct hub *h = w->hub;
    struct progress_buffer *b = progress_decode(progress->data, progress->len);
    if (!b) {
        complain(w, "progress");
        return;
    }
    struct engine_progress p = *progress_of(b);
    p.with_messages = with_messages;
    h->engine_ops->progress(h->engine, id->data, id->len, &p);
    progress_free(b);
    hub_commit_soon(h);
}

void hub_session_progress(struct hub_worker *w, const struct ipc_message *m)
{
    const struct ipc_bytes *id = &m->field[2].bytes;
    if (has_session(w->hub, id, hub_claim_of(w, m->field[1].num)))
        store_progress(w, id, &m->field[3].bytes, false);
}

void hub_session_store_progress(struct hub_worker *w, const struct ipc_bytes *id,
                                const struct ipc_bytes *progress)
{
    if (worker_has_session(w, id))
        store_progress(w, id, progress, true);
}

void hub_session_subscribe(struct hub_worker *w, const struct ipc_message *m)
{
    struct hub *h = w->hub;
    const struct ipc_bytes *id = &m->field[5].bytes, *filter = &m->field[6].bytes;
    const struct engine_subscription sub = {.filter = filter->data,
                                            .len = (uint16_t)filter->len,
                                            .options = (uint8_t)m->field[2].num,
                                            .identifier = (uint32_t)m->field[3].num,
                                            .since = m->field[4].num,
                                            .asked = m->field[7].num};
    if (!has_session(h, id, hub_claim_of(w, m->field[1].num)))
        return;
    h->engine_ops->subscribe(h->engine, id->data, id->len, &sub);
    hub_commit_soon(h);
}

void hub_session_unsubscribe(struct hub_worker *w, const struct ipc_message *m)
{
    struct hub *h = w->hub;
    const struct ipc_bytes *id = &m->field[2].bytes, *filter = &m->field[3].bytes;
    if (!has_session(h, id, hub_claim_of(w, m->field[1].num)))
        return;
    h->engine_ops->unsubscribe(h->engine, id->data, id->len, filter->data, filter->len);
    hub_commit_soon(h);
}

/* ---- CLOSE ---- */

/* What CLOSE says. */
struct closing {
    struct ipc_bytes id, progress, will;
    uint32_t expiry_s, will_delay_s;
    bool is_unsure;
};

/* The session is without a connection; its will waits, for its delay or for the end of the session, whichever
 * is sooner (MQTT 5.0 section 3.1.3.2.2). */
static void put_with_will(struct hub *h, const struct ipc_bytes *id, struct hub_stored *s,
                          const struct ipc_bytes *will, uint32_t delay_s)
{
    s->will = *will;
    s->ends_with_will = s->expiry_s != ENGINE_EXPIRY_NEVER && s->expiry_s <= delay_s;
    s->will_due_ms = s->disconnected_ms + UINT64_C(1000) * (s->ends_with_will ? s->expiry_s : delay_s);
    hub_stored_put(h, id->data, id->len, s);
    if (will->len)
        hub_will_wait(h, id->data, id->len, s->will_due_ms);
}

/* It is away from now on. */
static void put_away(struct hub *h, struct hub_stored *s, const struct closing *c)
{
    s->disconnected_ms = clock_wall_ms();
    s->expiry_s = c->expiry_s;
    if (c->progress.len && !c->is_unsure) /* it was answered, and has read all */
        s->unsure_to = 0;
    put_with_will(h, &c->id, s, &c->will, c->will_delay_s);
}

void hub_session_left(struct hub *h, const char *id, size_t len, struct hub_stored *s,
                      const struct ipc_bytes *will, uint32_t will_delay_s)
{
    const struct ipc_bytes client_id = {.data = id, .len = (uint32_t)len};
    if (!s->disconnected_ms) {
        s->disconnected_ms = clock_wall_ms();
        s->unsure_to = h->newest;
    }
    put_with_will(h, &client_id, s, will, will_delay_s);
}

static void end_now(struct hub *h, const struct closing *c)
{
    hub_will_publish_last(h, c->id.data, c->id.len, &c->will, 0);
    hub_stored_remove(h, c->id.data, c->id.len);
}

static void close_session(struct hub_worker *w, struct hub_stored *s, struct closing *c)
{
    if (c->will.len && !hub_will_is_valid(&c->will)) {
        complain(w, "will");
        c->will.len = 0;
    }
    if (c->progress.len)
        store_progress(w, &c->id, &c->progress, false);
    if (c->expiry_s == 0)
        end_now(w->hub, c);
    else
        put_away(w->hub, s, c);
}

void hub_session_close(struct hub_worker *w, const struct ipc_message *m)
{
    struct hub *h = w->hub;
    struct engine_claim claim = hub_claim_of(w, m->field[1].num);
    struct closing c = {.expiry_s = (uint32_t)m->field[2].num,
                        .will_delay_s = (uint32_t)m->field[3].num,
                        .id = m->field[4].bytes,
                        .progress = m->field[5].bytes,
                        .will = m->field[6].bytes,
                        .is_unsure = m->field[7].num != 0};
    struct hub_stored s;
    if (!hub_stored_get(h, c.id.data, c.id.len, &s))
        hub_will_publish_last(h, c.id.data, c.id.len, &c.will, 0); /* somebody has ended it meanwhile */
    else if (was_given_to(&s, claim))
        close_session(w, &s, &c);
    h->engine_ops->release(h->engine, c.id.data, c.id.len, claim);
    count_clients(h);
    hub_client_will_done(h, c.id.data, c.id.len, claim);
    hub_opening_ended(h, c.id.data, c.id.len, claim);
}

/* ---- claims of sessions that are not stored, and claims that are replayed ---- */

/* A session that is not stored has the client id now: what is stored under it goes, when whoever has that has
 * given it back. */
static void forget_stored(struct hub *h, const struct ipc_bytes *id, struct engine_claim claim)
{
    const struct opening_request r = {.kind = OPENING_CLEAN, .mine = claim};
    struct hub_stored s;
    if (hub_opening_exists(h, id->data, id->len))
        hub_opening_begin(h, id->data, id->len, &r, NO_CLAIM);
    else if (hub_stored_get(h, id->data, id->len, &s))
        hub_opening_begin(h, id->data, id->len, &r, s.disconnected_ms ? NO_CLAIM : s.opener);
}

/* The worker has had this session all along. If it is the stored one, it is not away; if it is a newer one
 * that is not stored, what is stored was to go. */
static void confirm(struct hub *h, const struct ipc_bytes *id, struct engine_claim claim)
{
    struct hub_stored s;
    if (!hub_stored_get(h, id->data, id->len, &s) || s.opener.worker == ENGINE_NO_WORKER)
        return;
    if (!claim_equals(s.opener, claim)) {
        if (claim.number > s.opener.number)
            forget_stored(h, id, claim);
        return;
    }
    if (s.disconnected_ms == 0)
        return;
    s.disconnected_ms = 0;
    s.will.len = 0;
    hub_stored_put(h, id->data, id->len, &s);
    hub_will_cancel(h, id->data, id->len);
}

void hub_session_claimed(struct hub_worker *w, const struct ipc_bytes *id, struct engine_claim claim,
                         bool replayed)
{
    hub_client_will_before(w->hub, id->data, id->len);
    if (replayed)
        confirm(w->hub, id, claim);
    else
        forget_stored(w->hub, id, claim);
}

/* A session that was given and never begun is away again. */
void hub_session_released(struct hub_worker *w, const struct ipc_bytes *id, struct engine_claim claim)
{
    struct hub *h = w->hub;
    struct hub_stored s;
    if (hub_stored_get(h, id->data, id->len, &s) && claim_equals(s.opener, claim) && s.disconnected_ms == 0) {
        s.disconnected_ms = clock_wall_ms();
        hub_stored_put(h, id->data, id->len, &s);
    }
    hub_client_will_done(h, id->data, id->len, claim);
    hub_opening_ended(h, id->data, id->len, claim);
}

void hub_sessions_claims_complete(struct hub_worker *w)
{
    hub_openings_look(w->hub);
    hub_reconcile_begin(w->hub);
}

void hub_sessions_worker_lost(struct hub_worker *w)
{
    hub_client_wills_left(w);
    hub_openings_worker_lost(w->hub, w->number);
    hub_reconcile_begin(w->hub);
}

/* ---- the end of sessions ---- */

void hub_session_expired(struct hub *h, const char *id, size_t len)
{
    if (hub_is_share_name(id, len))
        hub_shares_expired(h->shares);
    else
        hub_will_cancel(h, id, len);
}

enum hub_session_delete hub_session_delete(struct hub *h, const char *id, size_t len, hub_committed_fn *fn,
                                           void *arg)
{
    const struct opening_request r = {.kind = OPENING_DELETED, .mine = NO_CLAIM, .done = fn, .done_arg = arg};
    struct engine_claim holder;
    struct hub_stored s;
    bool connected = h->engine_ops->find(h->engine, id, len, &holder);
    bool stored = hub_stored_get(h, id, len, &s) && (connected || !hub_stored_is_over(&s, clock_wall_ms()));
    if (!connected && !hub_claims_are_known(h))
        return HUB_DELETE_UNCERTAIN;
    if (!connected && !stored)
        return HUB_DELETE_ABSENT;
    if (connected && !hub_kick(h, holder, CLOSE_KICKED, id, len))
        return HUB_DELETE_BUSY;
    if (stored || hub_opening_exists(h, id, len))
        hub_opening_begin(h, id, len, &r, connected ? holder : NO_CLAIM);
    else
        hub_on_kept(h, fn, arg);
    return HUB_DELETE_BEGUN;
}

/* ---- */

void hub_sessions_tick(struct hub *h) { hub_openings_look(h); }

void hub_sessions_setup(struct hub *h)
{
    h->sessions = xcalloc(1, sizeof *h->sessions);
    h->sessions->stored = hub_stored_new();
    h->sessions->wills = hub_wills_new(h);
    h->sessions->client_wills = hub_client_wills_new(h);
    h->sessions->openings = hub_openings_new();
    h->sessions->reconcile = hub_reconcile_new(h);
    hub_reconcile_begin(h);
}

void hub_sessions_free(struct hub *h)
{
    hub_reconcile_free(h->sessions->reconcile);
    hub_openings_free(h);
    hub_client_wills_free(h->sessions->client_wills);
    hub_wills_free(h->sessions->wills);
    hub_stored_free(h->sessions->stored);
    free(h->sessions);
    h->sessions = NULL;
}
