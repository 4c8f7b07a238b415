/*
 * What the files about stored sessions share: hub_sessions.c takes what workers say, hub_openings.c hands a
 * session over, hub_stored.c knows what is stored, hub_wills.c publishes wills that wait, hub_client_wills.c
 * knows those of clients that are connected, hub_reconcile.c finds what an earlier hub or a worker that died
 * has left.
 */
#ifndef HOLDFAST_HUB_SESSIONS_H
#define HOLDFAST_HUB_SESSIONS_H

#include "gateway/hub/hub_internal.h"

struct hub_openings;
struct hub_reconcile;
struct hub_stored;
struct hub_stored_table;
struct hub_wills;
struct hub_client_wills;

struct hub_sessions {
    struct hub_stored_table *stored;
    struct hub_wills *wills;
    struct hub_client_wills *client_wills;
    struct hub_openings *openings;
    struct hub_reconcile *reconcile;
};

static inline struct hub_stored_table *hub_stored_table(struct hub *h) { return h->sessions->stored; }
static inline struct hub_wills *hub_wills(struct hub *h) { return h->sessions->wills; }
static inline struct hub_openings *hub_openings(struct hub *h) { return h->sessions->openings; }

static inline bool claim_equals(struct engine_claim a, struct engine_claim b)
{
    return a.worker == b.worker && a.number == b.number;
}
/* The session's worker has died, and its client's will is due so many seconds later, or with the end of the
 * session. */
void hub_session_left(struct hub *h, const char *id, size_t len, struct hub_stored *s,
                      const struct ipc_bytes *will, uint32_t will_delay_s);
#define NO_CLAIM ((struct engine_claim){.worker = (uint16_t)ENGINE_NO_WORKER})

/* Whether every worker that is there has told all its claims, so that an id that is not found is not
 * connected. */
bool hub_claims_are_known(const struct hub *h);

/* ---- handing over (hub_openings.c) ---- */

enum opening_kind {
    OPENING_ASKED,  /* OPEN: ends with OPENED */
    OPENING_CLEAN,  /* CLAIM of a session that is not stored: what is stored goes */
    OPENING_DELETED /* somebody wants it removed */
};

struct opening_request {
    enum opening_kind kind;
    struct engine_claim mine;
    bool clean_start;       /* ASKED */
    uint32_t expiry_s;      /* ASKED */
    hub_committed_fn *done; /* to be told by hub_on_kept() when it has been done; NULL: nobody */
    void *done_arg;
};

struct hub_openings *hub_openings_new(void);
void hub_openings_free(struct hub *h);
uint32_t hub_openings_count(const struct hub_openings *o);

/* Somebody is to have the session, in place of whoever was to have it, when `loser` (or NO_CLAIM) has given
 * it back; who that is has been told to. */
void hub_opening_begin(struct hub *h, const char *id, size_t len, const struct opening_request *r,
                       struct engine_claim loser);
/* Whether a session is about to be handed over. */
bool hub_opening_exists(struct hub *h, const char *id, size_t len);
/* A claim has ended: who waited for it waits no longer, and who asked with it has lost interest. */
void hub_opening_ended(struct hub *h, const char *id, size_t len, struct engine_claim claim);
void hub_openings_worker_lost(struct hub *h, uint16_t worker);
/* Goes on with those that need not wait any longer. */
void hub_openings_look(struct hub *h);

/* ---- what was left (hub_reconcile.c) ---- */

struct hub_reconcile *hub_reconcile_new(struct hub *h);
void hub_reconcile_free(struct hub_reconcile *r);
/* Begins a walk over all sessions, or has another one follow. */
void hub_reconcile_begin(struct hub *h);
/* Whether one is under way. */
bool hub_reconcile_is_busy(const struct hub_reconcile *r);

/* ---- for the API (hub_sessions.c) ---- */

enum hub_session_delete {
    HUB_DELETE_BEGUN,
    HUB_DELETE_ABSENT,
    HUB_DELETE_UNCERTAIN, /* the workers have not told their claims yet */
    HUB_DELETE_BUSY       /* the worker that has it cannot be told */
};
/* Removes what is stored under the client id, and ends its connection if there is one. BEGUN: fn is called
 * when that is done, as by hub_on_kept(); otherwise it is not. */
enum hub_session_delete hub_session_delete(struct hub *h, const char *id, size_t len, hub_committed_fn *fn,
                                           void *arg);

#endif
