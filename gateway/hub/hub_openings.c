/*
 * Sessions on their way from one connection to the next. hub_sessions.c says who asks for one and whose claim
 * has ended. Here a request waits until it may have the session, and gets it:
 *
 *                   ┌─ claims not all told yet ─┐
 *      begin ───────┼─ the loser has it still ──┼──> perform ── commit ──> OPENED
 *                   └─ at most WAIT_MS ─────────┘
 *
 * There is at most one per client id. Whoever asks later takes the place of who asked before, who never had
 * the session: the one to wait for stays the one who has it. The registry says who asked last; an answer goes
 * to nobody else.
 */
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/hash.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"
#include "gateway/hub/hub_client_wills.h"
#include "gateway/hub/hub_sessions.h"
#include "gateway/hub/hub_stored.h"
#include "gateway/hub/hub_wills.h"

LOG_EVENT_ONCE_A_SECOND(late_event, "takeover_timed_out", LOG_LEVEL_WARNING);

#define BUCKETS 4096u
#define WAIT_MS 5000

#define RC_SERVER_UNAVAILABLE 0x88 /* MQTT 5.0 section 3.2.2.2 */

/* Somebody waits until it is over. */
struct waiter {
    struct waiter *next;
    hub_committed_fn *fn;
    void *arg;
};

struct opening {
    LIST_ENTRY(opening) link;   /* its bucket */
    TAILQ_ENTRY(opening) order; /* by deadline */
    uint64_t deadline_ms;       /* clock_ms() */
    struct opening_request request;
    struct engine_claim loser; /* worker ENGINE_NO_WORKER: nobody is waited for */
    bool must_go;              /* what is stored is to be removed, whatever becomes of who asked since */
    struct waiter *waiters;
    size_t id_len;
    char id[];
};

/* An OPENED that waits for its commit. */
struct answer {
    struct engine_claim claim;
    bool present; /* as in OPENED, both */
    uint64_t unsure_to;
    size_t id_len;
    char id[];
};

struct hub_openings {
    LIST_HEAD(, opening) bucket[BUCKETS];
    TAILQ_HEAD(opening_order, opening) order;
    uint32_t count;
};

struct hub_openings *hub_openings_new(void)
{
    struct hub_openings *all = xcalloc(1, sizeof *all);
    TAILQ_INIT(&all->order);
    return all;
}

uint32_t hub_openings_count(const struct hub_openings *o) { return o->count; }

static struct opening *find(struct hub *h, const char *id, size_t len)
{
    struct hub_openings *all = hub_openings(h);
    struct opening *o;
    if (all->count == 0)
        return NULL;
    LIST_FOREACH(o, &all->bucket[hash_bytes(id, len) % BUCKETS], link)
    if (o->id_len == len && memcmp(o->id, id, len) == 0)
        break;
    return o;
}

bool hub_opening_exists(struct hub *h, const char *id, size_t len) { return find(h, id, len) != NULL; }

static struct opening *new_opening(struct hub *h, const char *id, size_t len)
{
    struct hub_openings *all = hub_openings(h);
    struct opening *o = xmalloc(sizeof *o + len);
    *o = (struct opening){.deadline_ms = clock_ms() + WAIT_MS, .loser = NO_CLAIM, .id_len = len};
    if (len)
        memcpy(o->id, id, len);
    LIST_INSERT_HEAD(&all->bucket[hash_bytes(id, len) % BUCKETS], o, link);
    TAILQ_INSERT_TAIL(&all->order, o, order);
    all->count++;
    return o;
}

/* It is over: so it will be told with the commit of what was handed in. */
static void free_opening(struct hub *h, struct opening *o)
{
    struct hub_openings *all = hub_openings(h);
    struct waiter *w;
    LIST_REMOVE(o, link);
    TAILQ_REMOVE(&all->order, o, order);
    all->count--;
    while ((w = o->waiters)) {
        o->waiters = w->next;
        hub_on_kept(h, w->fn, w->arg);
        free(w);
    }
    free(o);
}

/* ---- the answer ---- */

/* Tells the worker, if the session is still its own. */
static void send_answer(struct hub *h, const struct answer *a, uint8_t code)
{
    struct engine_claim holder;
    struct ipc_message m =
        IPC_MAKE(OPENED, IPC_NUM(a->claim.number), IPC_NUM(!code && a->present),
                 IPC_NUM(code ? 0 : a->unsure_to), IPC_NUM(code), IPC_BYTES(a->id, a->id_len));
    if (h->engine_ops->find(h->engine, a->id, a->id_len, &holder) && claim_equals(holder, a->claim))
        (void)!hub_send(h, a->claim.worker, &m);
}

static void committed_cb(struct hub *h, void *arg, enum engine_result result)
{
    struct answer *a = arg;
    if (h->sessions)
        send_answer(h, a, result == ENGINE_FAILED ? RC_SERVER_UNAVAILABLE : 0);
    free(a);
}

/* Answers with the commit of what was handed in, that the session is as stored. */
static void answer_later(struct hub *h, const struct opening *o, const struct hub_stored *s)
{
    struct answer *a = xmalloc(sizeof *a + o->id_len);
    *a = (struct answer){
        .claim = o->request.mine, .present = s->was_present, .unsure_to = s->unsure_to, .id_len = o->id_len};
    if (o->id_len)
        memcpy(a->id, o->id, o->id_len);
    hub_on_committed(h, committed_cb, a);
}

/* ---- handing over ---- */

/* Ends what is stored: its will is published ([MQTT-3.1.2-8]), and it is gone. */
static void end_stored(struct hub *h, const struct opening *o, const struct hub_stored *s)
{
    hub_will_publish_last(h, o->id, o->id_len, &s->will, s->disconnected_ms);
    hub_stored_remove(h, o->id, o->id_len);
    hub_will_cancel(h, o->id, o->id_len);
}

/* Up to which number it is not known what the session was sent. */
static uint64_t unsure_to(const struct hub *h, const struct hub_stored *old)
{
    if (!old)
        return 0;
    return old->disconnected_ms ? old->unsure_to : h->newest; /* it was not given back */
}

/* The session as it is when its new owner has it. */
static struct hub_stored handed_over(struct hub *h, const struct opening *o, const struct hub_stored *old)
{
    return (struct hub_stored){.cursor = old ? old->cursor : h->newest,
                               .expiry_s = o->request.expiry_s,
                               .opener = o->request.mine,
                               .was_present = old != NULL,
                               .unsure_to = unsure_to(h, old)};
}

/* OPEN: gives the stored session, or a new one. One that it was given already (the hub was killed before it
 * could say so) is not given again, so that it hears the same. */
static void perform_asked(struct hub *h, const struct opening *o)
{
    struct hub_stored s;
    struct engine_claim holder;
    if (!h->engine_ops->find(h->engine, o->id, o->id_len, &holder) || !claim_equals(holder, o->request.mine))
        return;
    bool present = hub_stored_get(h, o->id, o->id_len, &s);
    if (present && s.disconnected_ms == 0 && claim_equals(s.opener, o->request.mine)) {
        answer_later(h, o, &s);
        return;
    }
    if (present && (o->request.clean_start || hub_stored_is_over(&s, clock_wall_ms()))) {
        end_stored(h, o, &s);
        present = false;
    }
    struct hub_stored given = handed_over(h, o, present ? &s : NULL);
    hub_stored_put(h, o->id, o->id_len, &given);
    hub_will_cancel(h, o->id, o->id_len);
    answer_later(h, o, &given);
}

static void perform(struct hub *h, const struct opening *o)
{
    struct hub_stored s;
    hub_client_will_before(h, o->id, o->id_len);
    if (o->request.kind == OPENING_ASKED)
        perform_asked(h, o);
    else if (hub_stored_get(h, o->id, o->id_len, &s))
        end_stored(h, o, &s);
}

/* Goes on if there is nothing to wait for, or it has waited long enough. */
static void settle(struct hub *h, struct opening *o)
{
    bool has_loser = o->loser.worker != ENGINE_NO_WORKER;
    if (clock_ms() >= o->deadline_ms) {
        LOG(late_event, LOG_BYTES("client_id", o->id, o->id_len), LOG_U64("worker", o->loser.worker));
    } else if (has_loser || !hub_claims_are_known(h)) {
        return;
    }
    perform(h, o);
    free_opening(h, o);
}

/* Who asked last does not want it any more. */
static void drop_request(struct hub *h, struct opening *o)
{
    if (!o->must_go) {
        free_opening(h, o);
        return;
    }
    o->request = (struct opening_request){.kind = OPENING_DELETED, .mine = NO_CLAIM};
    settle(h, o);
}

static void add_waiter(struct opening *o, const struct opening_request *r)
{
    struct waiter *w = xmalloc(sizeof *w);
    *w = (struct waiter){.next = o->waiters, .fn = r->done, .arg = r->done_arg};
    o->waiters = w;
}

void hub_opening_begin(struct hub *h, const char *id, size_t len, const struct opening_request *r,
                       struct engine_claim loser)
{
    struct opening *o = find(h, id, len);
    bool is_new = o == NULL;
    if (is_new)
        o = new_opening(h, id, len);
    bool was_clean = !is_new && o->request.kind != OPENING_ASKED;
    o->must_go |= r->kind != OPENING_ASKED;
    if (r->done)
        add_waiter(o, r);
    bool loser_has_it = loser.worker != ENGINE_NO_WORKER && loser.worker < h->args->workers &&
                        h->worker[loser.worker].channel && !claim_equals(loser, r->mine);
    if (o->loser.worker == ENGINE_NO_WORKER && loser_has_it &&
        (is_new || was_clean || !claim_equals(loser, o->request.mine)))
        o->loser = loser;
    o->request = *r;
    /* what was to go before is not there for who comes now */
    o->request.clean_start = r->clean_start || o->must_go;
    settle(h, o);
}

void hub_opening_ended(struct hub *h, const char *id, size_t len, struct engine_claim claim)
{
    struct opening *o = find(h, id, len);
    if (!o)
        return;
    if (claim_equals(o->loser, claim))
        o->loser = NO_CLAIM;
    if (o->request.kind == OPENING_ASKED && claim_equals(o->request.mine, claim))
        drop_request(h, o);
    else
        settle(h, o);
}

void hub_openings_worker_lost(struct hub *h, uint16_t worker)
{
    struct hub_openings *all = hub_openings(h);
    struct opening *next;
    for (struct opening *o = TAILQ_FIRST(&all->order); o; o = next) {
        next = TAILQ_NEXT(o, order);
        if (o->loser.worker == worker)
            o->loser = NO_CLAIM;
        if (o->request.kind == OPENING_ASKED && o->request.mine.worker == worker)
            drop_request(h, o);
        else
            settle(h, o);
    }
}

void hub_openings_look(struct hub *h)
{
    struct opening *next;
    for (struct opening *o = TAILQ_FIRST(&hub_openings(h)->order); o; o = next) {
        next = TAILQ_NEXT(o, order);
        settle(h, o);
    }
}

void hub_openings_free(struct hub *h)
{
    struct hub_openings *all = hub_openings(h);
    while (!TAILQ_EMPTY(&all->order))
        free_opening(h, TAILQ_FIRST(&all->order));
    free(all);
}
