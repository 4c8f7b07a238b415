/*
 * The requests of the workers: each takes effect once, whoever is killed. hub_workers.c feeds it with the
 * numbers of the requests it has handed to the engine; with the commit of each turn goes a note per worker
 * that says how far its requests have come, so that a hub that starts again knows which of those that the
 * worker sends again are done. When a turn is committed, DONE answers the requests in it.
 *
 * The note also has the sequence numbers that publishes of the turns under way were given: the log says
 * whether they were kept, which nobody knew when the note was written. A request's meaning is not known here.
 */
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/xmalloc.h"
#include "gateway/hub/hub_internal.h"

/* As it lies in the store; numbers are little-endian. */
struct note {
    uint64_t incarnation, number, marks;
    uint64_t seq[HUB_MAX_TURNS + 1];
};
_Static_assert(sizeof(struct note) <= 256, "what the engine takes");

/* An answer that is due when its turn is committed, or that the channel did not take yet. */
struct hub_answer {
    TAILQ_ENTRY(hub_answer) link;
    uint64_t turn;
    uint64_t upto;             /* the last request it answers */
    bool publishes;            /* there is a publish among them */
    bool settled;              /* `result` is what became of them */
    enum engine_result result; /* before that: ENGINE_OK, or why the publishes in it were not even tried */
};

void hub_requests_setup(struct hub_worker *w)
{
    w->requests = (struct hub_requests){0};
    TAILQ_INIT(&w->requests.answers);
}

/* ---- what takes effect ---- */

bool hub_request_is_new(const struct hub_worker *w, uint64_t number)
{
    return w->feed.begun && number > w->requests.taken;
}

/* Notes what a publish of this turn was given. */
static void mark(struct hub_requests *r, uint64_t turn, uint64_t seq)
{
    struct hub_mark *last = r->marks ? &r->mark[r->marks - 1] : NULL;
    if (!last || last->turn != turn) {
        CHECK(r->marks < HUB_MAX_TURNS + 1);
        r->mark[r->marks++] = (struct hub_mark){.turn = turn, .seq = seq};
    } else if (last->seq != HUB_REFUSED) {
        last->seq = seq;
    }
}

/* The answer that this request can be put to: of this turn, and the same became of its publishes. */
static struct hub_answer *answer_for(struct hub_requests *r, uint64_t turn, bool publish,
                                     enum engine_result why)
{
    struct hub_answer *a = TAILQ_LAST(&r->answers, hub_answers);
    if (a && !a->settled && a->turn == turn && (!publish || !a->publishes || a->result == why))
        return a;
    a = xmalloc(sizeof *a);
    *a = (struct hub_answer){.turn = turn};
    TAILQ_INSERT_TAIL(&r->answers, a, link);
    return a;
}

void hub_request_taken(struct hub_worker *w, uint64_t number, uint64_t seq, enum engine_result why)
{
    struct hub_requests *r = &w->requests;
    uint64_t turn = hub_log_turn(w->hub);
    bool publish = seq != 0 || why != ENGINE_OK;
    if (publish)
        mark(r, turn, seq ? seq : HUB_REFUSED);
    struct hub_answer *a = answer_for(r, turn, publish, why);
    a->upto = number;
    a->publishes = a->publishes || publish;
    if (publish)
        a->result = why;
    r->taken = number;
    hub_commit_soon(w->hub);
}

/* ---- the notes ---- */

static void name_of(const struct hub_worker *w, char out[32])
{
    snprintf(out, 32, "worker/%u", (unsigned)w->number);
}

void hub_requests_note(struct hub *h)
{
    for (unsigned i = 0; i < h->args->workers; i++) {
        struct hub_worker *w = &h->worker[i];
        struct hub_requests *r = &w->requests;
        char name[32];
        if (r->taken == r->noted)
            continue;
        struct note n = {
            .incarnation = htole64(r->incarnation), .number = htole64(r->taken), .marks = htole64(r->marks)};
        for (unsigned m = 0; m < r->marks; m++)
            n.seq[m] = htole64(r->mark[m].seq);
        name_of(w, name);
        h->engine_ops->note(h->engine, name, &n, sizeof n);
        r->noted = r->taken;
    }
}

/* Takes the first message that comes, which is the one that is looked for if its number is. */
static bool find_cb(void *ctx, const struct message_parts *m, uint64_t time_ms)
{
    (void)time_ms;
    *(uint64_t *)ctx = m->seq;
    return true;
}

/* Whether the log has the message with this number. */
static bool is_kept(struct hub *h, uint64_t seq)
{
    uint64_t found = 0;
    struct engine_scan *s = hub_log_scan(h, seq - 1);
    while (h->engine_ops->scan_next(s, 1, find_cb, &found) == ENGINE_SCAN_MORE && found == 0)
        ;
    h->engine_ops->scan_free(s);
    return found == seq;
}

/* What became of the publishes that a note speaks of: one that was refused makes it of all. */
static enum engine_result outcome(struct hub *h, const struct note *n)
{
    uint64_t marks = le64toh(n->marks);
    for (uint64_t i = 0; i < marks && i < HUB_MAX_TURNS + 1; i++) {
        uint64_t seq = le64toh(n->seq[i]);
        if (seq == HUB_REFUSED || !is_kept(h, seq))
            return ENGINE_NO_SPACE;
    }
    return ENGINE_OK;
}

enum engine_result hub_requests_begin(struct hub_worker *w, uint64_t incarnation, uint64_t *done)
{
    struct hub_requests *r = &w->requests;
    struct note n = {0};
    char name[32];
    name_of(w, name);
    bool known = w->hub->engine_ops->note_get(w->hub->reader, name, &n, sizeof n) == sizeof n &&
                 le64toh(n.incarnation) == incarnation;
    uint64_t number = known ? le64toh(n.number) : 0;
    if (r->incarnation == incarnation && r->taken > number)
        number = r->taken;
    r->incarnation = incarnation;
    r->taken = r->noted = r->answered = *done = number;
    return known ? outcome(w->hub, &n) : ENGINE_OK;
}

/* ---- the answers ---- */

/* Sends what is settled, in order, as far as the channel takes it. */
static void send_settled(struct hub_worker *w)
{
    struct hub_requests *r = &w->requests;
    struct hub_answer *a;
    while (w->channel && (a = TAILQ_FIRST(&r->answers)) && a->settled) {
        struct ipc_message m = IPC_MAKE(DONE, IPC_NUM(a->upto), IPC_NUM(a->result));
        if (!ipc_channel_send(w->channel, &m))
            return;
        r->answered = a->upto;
        TAILQ_REMOVE(&r->answers, a, link);
        free(a);
    }
}

/* What is said of an answer when its turn has this result. Whoever did not publish hears of a failure only.
 */
static enum engine_result result_of(const struct hub_answer *a, enum engine_result turn)
{
    if (turn == ENGINE_FAILED)
        return turn;
    return a->result != ENGINE_OK || !a->publishes ? a->result : turn;
}

void hub_requests_settled(struct hub *h, uint64_t turn, enum engine_result result)
{
    for (unsigned i = 0; i < h->args->workers; i++) {
        struct hub_requests *r = &h->worker[i].requests;
        struct hub_answer *a;
        unsigned old = 0;
        while (old < r->marks && r->mark[old].turn <= turn)
            old++;
        r->marks -= old;
        memmove(&r->mark[0], &r->mark[old], r->marks * sizeof r->mark[0]);
        TAILQ_FOREACH(a, &r->answers, link)
        {
            if (a->turn > turn)
                break;
            if (!a->settled)
                a->result = result_of(a, result);
            a->settled = true;
        }
        send_settled(&h->worker[i]);
    }
}

void hub_requests_drained(struct hub_worker *w) { send_settled(w); }

void hub_requests_end(struct hub_worker *w)
{
    struct hub_answer *a;
    while ((a = TAILQ_FIRST(&w->requests.answers))) {
        TAILQ_REMOVE(&w->requests.answers, a, link);
        free(a);
    }
}
