/*
 * Finds what nobody told: sessions that are stored as connected and are not, since their worker or the hub
 * was killed, and wills that an earlier hub was waiting with. A walk over all stored sessions, a slice per
 * turn of the event loop, when the hub starts, when a worker's claims are complete and when a worker is lost.
 *
 * Before all claims are known only wills are looked for: an unclaimed session may still be claimed.
 */
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"
#include "gateway/hub/hub_sessions.h"
#include "gateway/hub/hub_shares.h"
#include "gateway/hub/hub_stored.h"
#include "gateway/hub/hub_wills.h"

LOG_EVENT(left_event, "sessions_left_by_the_dead", LOG_LEVEL_INFO);

#define SESSIONS_PER_TURN 500

struct hub_reconcile {
    struct hub *hub;
    struct event *next_turn;
    bool busy, again;
    uint64_t put_away; /* by this walk */
    char *after;       /* the client id where it goes on; NULL: at the beginning */
    size_t after_len;
};

static const struct timeval at_once = {0, 0};

/* Nobody has it: it is away from now on. */
static void put_away(struct hub *h, const struct engine_session_view *v, struct hub_stored *s)
{
    s->disconnected_ms = clock_wall_ms();
    s->unsure_to = h->newest;
    hub_stored_put(h, v->client_id, v->client_id_len, s);
    h->sessions->reconcile->put_away++;
}

/* Whether somebody has the session, or is about to. */
static bool is_claimed(struct hub *h, const struct engine_session_view *v, const struct hub_stored *s)
{
    struct engine_claim holder;
    if (hub_opening_exists(h, v->client_id, v->client_id_len))
        return true;
    return h->engine_ops->find(h->engine, v->client_id, v->client_id_len, &holder) &&
           (s->opener.worker == ENGINE_NO_WORKER || claim_equals(s->opener, holder));
}

static bool visit_cb(void *ctx, const struct engine_session_view *v)
{
    struct hub_reconcile *r = ctx;
    struct hub *h = r->hub;
    struct hub_stored s;
    if (hub_is_share_name(v->client_id, v->client_id_len))
        return false; /* a group of a shared subscription: these are the last ones */
    r->after = xrealloc(r->after, v->client_id_len + 1);
    r->after_len = v->client_id_len;
    if (v->client_id_len)
        memcpy(r->after, v->client_id, v->client_id_len);
    if (!hub_stored_of_view(h, v, &s))
        return true;
    if (s.disconnected_ms == 0 && hub_claims_are_known(h) && !is_claimed(h, v, &s))
        put_away(h, v, &s);
    else if (s.disconnected_ms && s.will.len)
        hub_will_wait(h, v->client_id, v->client_id_len, s.will_due_ms);
    return true;
}

static void finish(struct hub_reconcile *r)
{
    if (r->put_away)
        LOG(left_event, LOG_U64("sessions", r->put_away));
    free(r->after);
    r->after = NULL;
    r->busy = false;
    if (r->again)
        hub_reconcile_begin(r->hub);
}

static void slice_cb(evutil_socket_t fd, short what, void *arg)
{
    struct hub_reconcile *r = arg;
    struct hub *h = r->hub;
    (void)fd;
    (void)what;
    clock_update();
    /* an empty client id is never stored: `after` of no length is the beginning */
    size_t n = h->engine_ops->session_walk(h->reader, r->after ? r->after : "", r->after_len,
                                           SESSIONS_PER_TURN, visit_cb, r);
    if (n == SESSIONS_PER_TURN)
        CHECK(evtimer_add(r->next_turn, &at_once) == 0);
    else
        finish(r);
}

void hub_reconcile_begin(struct hub *h)
{
    struct hub_reconcile *r = h->sessions->reconcile;
    if (r->busy) {
        r->again = true;
        return;
    }
    r->busy = true;
    r->again = false;
    r->after_len = 0;
    r->put_away = 0;
    CHECK(evtimer_add(r->next_turn, &at_once) == 0);
}

bool hub_reconcile_is_busy(const struct hub_reconcile *r) { return r->busy; }

struct hub_reconcile *hub_reconcile_new(struct hub *h)
{
    struct hub_reconcile *r = xcalloc(1, sizeof *r);
    r->hub = h;
    r->next_turn = evtimer_new(h->base, slice_cb, r);
    CHECK(r->next_turn);
    return r;
}

void hub_reconcile_free(struct hub_reconcile *r)
{
    event_free(r->next_turn);
    free(r->after);
    free(r);
}
