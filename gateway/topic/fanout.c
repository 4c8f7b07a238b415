/*
 * Fan-out. The hub link (or, for tests, anybody) starts messages; sessions receive them through the owner's
 * deliver(). It keeps no message longer than its walk, knows no socket and no protocol, and asks for no
 * acknowledgement.
 *
 * A message that is not finished at once is a job. Jobs of one topic form a lane: only the first of a lane is
 * ever walked, which is what keeps a topic's messages in order at every session. First jobs become walks, up
 * to MAX_WALKS at a time in turn; others wait in the `ready` queue until a walk is free.
 *
 *      lane "a"   job ─> job ─> job           walks     [a][b][ ][ ]...   each gets its share of a slice
 *      lane "b"   job                         ready     c ─> d
 *      lane "c"   job ─> job
 *
 * Jobs of kept messages are in one more list, in the order of their numbers, from their start until they have
 * been walked to their end, also those that never wait. Its first entry says how far all sessions have been
 * offered everything; messages of other topics overtake it without moving that mark.
 *
 * The lanes are found by topic through a hash index, so a publish costs one look-up however many jobs wait,
 * and none when nothing waits.
 *
 * Why sessions may end, and their ids be handed out again, while a walk is under way: a session that ends
 * takes its subscriptions along, and the cursors step over them, so a cursor gives live sessions only, all of
 * which subscribed before the walk began. A later session under the same id has newer subscriptions, which no
 * cursor meets. The walk over everybody asks for the next live session each time; a newcomer it meets under
 * an old id gets a message that was published just before it came, once, which MQTT allows. `seen` may
 * still hold that id from its predecessor, and then the newcomer goes without: it was owed nothing.
 * The private channel looks its session up at the moment of delivery.
 */
#include "gateway/topic/fanout.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/hash.h"
#include "gateway/base/hash_index.h"
#include "gateway/base/pool.h"
#include "gateway/base/xmalloc.h"

#define MAX_WALKS    64 /* bits of fanout.free_walks */
#define MAX_JOBS     (UINT32_C(1) << 22)
#define FEW_LISTS    8  /* a message that matches no more filters needs no allocation */
#define FEW_SESSIONS 32 /* nor one with no more recipients */
#define MIN_TURN     32 /* deliveries of one walk before the next has its turn */
#define CLOCK_EVERY  32 /* deliveries between two looks at the clock */

/* A message under way. In a pool, as many may wait. */
struct job {
    struct fanout_job pub;
    uint32_t link;      /* of the lane index; the first job of a lane is in it */
    uint32_t lane_next; /* the next message of the same topic */
    uint32_t lane_last; /* in the first job: the last one of the lane, itself if alone */
    uint32_t ready_next;
    uint32_t kept_next, kept_prev; /* kept messages under way, by number */
};

/* Who has the message already, for messages that may reach a session in more than one way. */
struct seen {
    bool wanted;
    uint32_t count;
    uint32_t few[FEW_SESSIONS];
    uint64_t *bits; /* one per session id, when there may be more than a few */
    uint32_t bound; /* ids below this are in bits; higher ones are newer than the walk */
};

/* How far a job has come. */
struct walk {
    uint32_t job;
    /* The lists to walk, from `list` on. All cursors stay open to the end, so that no topic record goes away
     * and gives its id to another while sessions are asked about it. */
    uint32_t list, lists;
    struct topic_cursor *cursor, few[FEW_LISTS];
    uint32_t *topics, few_topics[FEW_LISTS];
    enum fanout_implicit implicit; /* what comes after the lists */
    uint32_t after;                /* FANOUT_EVERYBODY: the last session visited */
    uint32_t last;                 /* FANOUT_EVERYBODY: the highest id there was at the beginning */
    struct seen seen;
};

struct fanout {
    struct topic_tree *tree;
    const struct fanout_ops *ops;
    void *ctx;
    struct fanout_settings set;
    size_t prefix_len, broadcast_len;
    struct event *timer; /* NULL: the owner calls fanout_step() */
    struct pool *jobs;
    struct hash_index *lanes;
    size_t pending_bytes; /* of queued jobs, those being walked included */
    uint32_t pending_jobs;
    uint32_t ready_first, ready_last;
    uint32_t kept_first, kept_last; /* jobs */
    uint64_t head;                  /* number of the last kept message that was started */
    uint64_t free_walks;            /* a bit per walk */
    unsigned turn;                  /* the walk whose turn it is */
    uint64_t budget_ms;             /* the clock's reading for which `spent` counts */
    uint32_t spent;                 /* deliveries in this turn of the loop */
    struct walk walks[MAX_WALKS];
};

static inline struct job *job_at(const struct fanout *f, uint32_t id) { return pool_at(f->jobs, id); }

static uint32_t *job_link(void *ctx, uint32_t id)
{
    const struct fanout *f = ctx;
    return &job_at(f, id)->link;
}

/* The hash of a message's topic. */
static uint64_t topic_hash(const struct message *m) { return hash_bytes(message_topic(m), m->topic_len); }

static uint64_t job_hash(void *ctx, uint32_t id)
{
    const struct fanout *f = ctx;
    return topic_hash(job_at(f, id)->pub.message);
}

static bool job_equals(void *ctx, uint32_t id, const void *key, size_t key_len)
{
    const struct fanout *f = ctx;
    const struct message *m = job_at(f, id)->pub.message;
    return m->topic_len == key_len && memcmp(message_topic(m), key, key_len) == 0;
}

static const struct hash_index_ops lane_ops = {.link = job_link, .hash = job_hash, .equals = job_equals};

/* The loop's timer: one slice per turn, so that it polls in between. */
static void timer_cb(evutil_socket_t fd, short what, void *arg)
{
    struct fanout *f = arg;
    (void)fd;
    (void)what;
    fanout_step(f);
}

/* Sees to it that fanout_step() is called in the loop's next turn. */
static void schedule(struct fanout *f)
{
    const struct timeval now = {0, 0};
    if (f->timer && !evtimer_pending(f->timer, NULL))
        CHECK(evtimer_add(f->timer, &now) == 0);
}

/* A fan-out with nothing to do. */
struct fanout *fanout_new(struct event_base *base, struct topic_tree *tree, const struct fanout_ops *ops,
                          void *ctx, const struct fanout_settings *s)
{
    struct fanout *f = xcalloc(1, sizeof *f);
    f->tree = tree;
    f->ops = ops;
    f->ctx = ctx;
    f->set = *s;
    f->prefix_len = s->clients_prefix ? strlen(s->clients_prefix) : 0;
    f->broadcast_len = s->broadcast_topic ? strlen(s->broadcast_topic) : 0;
    f->jobs = pool_new("fanout_jobs", sizeof(struct job), MAX_JOBS);
    f->lanes = hash_index_new(&lane_ops, f, MAX_JOBS);
    f->free_walks = UINT64_MAX;
    if (base) {
        f->timer = evtimer_new(base, timer_cb, f);
        CHECK(f->timer);
    }
    return f;
}

/* Whether the topic names an implicit channel. */
static enum fanout_implicit implicit_channel(const struct fanout *f, const struct message *m)
{
    const char *topic = message_topic(m);
    if (f->broadcast_len && m->topic_len == f->broadcast_len &&
        memcmp(topic, f->set.broadcast_topic, f->broadcast_len) == 0)
        return FANOUT_EVERYBODY;
    if (f->prefix_len && m->topic_len > f->prefix_len &&
        memcmp(topic, f->set.clients_prefix, f->prefix_len) == 0)
        return FANOUT_ONE;
    return FANOUT_NOBODY;
}

/* Opens a cursor on every topic record that matches. Returns how many subscriptions they have. */
static uint64_t open_cursors(struct fanout *f, struct walk *w, const struct message *m)
{
    uint64_t subs = 0;
    w->cursor = w->few;
    w->topics = w->few_topics;
    size_t n = topic_tree_match(f->tree, message_topic(m), m->topic_len, w->topics, FEW_LISTS);
    if (n > FEW_LISTS) {
        w->topics = xcalloc(n, sizeof *w->topics);
        w->cursor = xcalloc(n, sizeof *w->cursor);
        topic_tree_match(f->tree, message_topic(m), m->topic_len, w->topics, n);
    }
    for (size_t i = 0; i < n; i++) {
        topic_cursor_open(f->tree, &w->cursor[i], w->topics[i]);
        subs += topic_tree_subscribers(f->tree, w->topics[i]);
    }
    w->list = 0;
    w->lists = (uint32_t)n;
    return subs;
}

/* Prepares to remember up to n recipients. */
static void seen_begin(struct fanout *f, struct seen *s, bool wanted, uint64_t n)
{
    s->wanted = wanted;
    s->count = 0;
    s->bits = NULL;
    if (wanted && n > FEW_SESSIONS) {
        s->bound = f->ops->session_bound(f->ctx) + 1;
        s->bits = xcalloc((size_t)s->bound / 64 + 1, sizeof *s->bits);
    }
}

/* Whether the session has the message already; from now on it has. */
static bool seen_before(struct seen *s, uint32_t session)
{
    if (s->bits) {
        if (session >= s->bound)
            return false;
        uint64_t bit = UINT64_C(1) << (session & 63), before = s->bits[session / 64];
        s->bits[session / 64] = before | bit;
        return before & bit;
    }
    for (uint32_t i = 0; i < s->count; i++)
        if (s->few[i] == session)
            return true;
    if (s->count < FEW_SESSIONS)
        s->few[s->count++] = session;
    return false;
}

/* Finds out who is to have the job's message. There is a free walk. */
static struct walk *walk_begin(struct fanout *f, uint32_t id)
{
    unsigned i = (unsigned)__builtin_ctzll(f->free_walks);
    struct walk *w = &f->walks[i];
    struct fanout_job *pub = &job_at(f, id)->pub;
    const struct message *m = pub->message;
    f->free_walks &= f->free_walks - 1;
    w->job = id;
    w->implicit = implicit_channel(f, m);
    uint64_t most = open_cursors(f, w, m);
    pub->topics = w->topics;
    pub->topic_count = w->lists;
    pub->implicit = w->implicit;
    if (w->implicit == FANOUT_EVERYBODY) {
        w->after = 0;
        w->last = f->ops->session_bound(f->ctx);
        most += w->last;
    } else if (w->implicit == FANOUT_ONE) {
        most++;
    }
    seen_begin(f, &w->seen, w->lists + (w->implicit != FANOUT_NOBODY) > 1, most);
    counter_add(COUNTER_FANOUTS, 1);
    return w;
}

/* Lets go of what a walk holds, wherever it is. */
static void walk_end(struct fanout *f, struct walk *w)
{
    for (uint32_t i = 0; i < w->lists; i++)
        topic_cursor_close(f->tree, &w->cursor[i]);
    if (w->cursor != w->few) {
        free(w->cursor);
        free(w->topics);
    }
    free(w->seen.bits);
    f->free_walks |= UINT64_C(1) << (w - f->walks);
}

/* The next session of the implicit channel. */
static bool next_implicit(struct fanout *f, struct walk *w, const struct message *m, uint32_t *session)
{
    *session = 0;
    if (w->implicit == FANOUT_EVERYBODY) {
        *session = f->ops->next_session(f->ctx, w->after);
        if (*session <= w->last)
            w->after = *session;
        else
            *session = 0;
    } else if (w->implicit == FANOUT_ONE) {
        w->implicit = FANOUT_NOBODY;
        *session =
            f->ops->find_session(f->ctx, message_topic(m) + f->prefix_len, m->topic_len - f->prefix_len);
    }
    return *session != 0;
}

/* The next one to have the message; false at the end. */
static bool walk_next(struct fanout *f, struct walk *w, const struct message *m, uint32_t *session,
                      sub_options *options)
{
    for (; w->list < w->lists; w->list++)
        if (topic_cursor_next(f->tree, &w->cursor[w->list], session, options))
            return true;
    *options = f->set.implicit;
    return next_implicit(f, w, m, session);
}

/* Whether it is known already that nobody is left, so that what fits a slice exactly needs no second one. */
static bool walk_at_end(struct walk *w)
{
    while (w->list < w->lists && w->cursor[w->list].sub == 0)
        w->list++;
    return w->list == w->lists && w->implicit == FANOUT_NOBODY;
}

/* What is left of a slice. */
struct slice {
    uint32_t left;    /* deliveries */
    uint64_t end_us;  /* 0: the clock was not read yet */
    uint32_t unclear; /* deliveries since it was read */
};

/* Takes one delivery from a slice. */
static void slice_spend(struct fanout *f, struct slice *s)
{
    f->spent++;
    if (s->left > 0)
        s->left--;
    if (++s->unclear < CLOCK_EVERY)
        return;
    uint64_t now = clock_us();
    s->unclear = 0;
    if (s->end_us == 0)
        s->end_us = now + FANOUT_SLICE_US;
    else if (now >= s->end_us)
        s->left = 0;
}

/* Delivers up to `turn` times while the slice lasts. True: the walk is at its end. Sessions that are left out
 * count as well, so that a turn is bounded whatever it meets. */
static bool walk_run(struct fanout *f, struct walk *w, struct slice *s, uint32_t turn)
{
    struct fanout_job *pub = &job_at(f, w->job)->pub;
    uint32_t session;
    sub_options options;
    if (f->ops->is_void && f->ops->is_void(f->ctx, pub->message))
        return true;
    while (turn > 0 && s->left > 0) {
        if (!walk_next(f, w, pub->message, &session, &options))
            return true;
        if (!w->seen.wanted || !seen_before(&w->seen, session))
            f->ops->deliver(f->ctx, session, options, pub);
        turn--;
        slice_spend(f, s);
    }
    return walk_at_end(w);
}

/* Adds a kept message's job, whose number is the highest so far. */
static void kept_push(struct fanout *f, uint32_t id)
{
    struct job *j = job_at(f, id);
    f->head = j->pub.message->seq;
    j->kept_prev = f->kept_last;
    if (f->kept_last)
        job_at(f, f->kept_last)->kept_next = id;
    else
        f->kept_first = id;
    f->kept_last = id;
}

/* Takes one out that has been walked to its end, wherever it is. */
static void kept_remove(struct fanout *f, const struct job *j)
{
    if (j->kept_prev)
        job_at(f, j->kept_prev)->kept_next = j->kept_next;
    else
        f->kept_first = j->kept_next;
    if (j->kept_next)
        job_at(f, j->kept_next)->kept_prev = j->kept_prev;
    else
        f->kept_last = j->kept_prev;
}

/* Whether the log keeps the message, so that every session that is to have it must be offered it. */
static bool is_kept(const struct message *m) { return m->qos > 0; }

/* Releases a job that is in no lane and no queue any more. */
static void job_free(struct fanout *f, uint32_t id)
{
    struct job *j = job_at(f, id);
    if (is_kept(j->pub.message))
        kept_remove(f, j);
    for (int i = 0; i < FANOUT_FRAMES; i++)
        frame_unref(j->pub.frame[i]);
    message_unref(j->pub.message);
    pool_release(f->jobs, id);
}

/* Puts the first job of a lane at the end of those that wait for a walk. */
static void ready_push(struct fanout *f, uint32_t id)
{
    if (f->ready_last)
        job_at(f, f->ready_last)->ready_next = id;
    else
        f->ready_first = id;
    f->ready_last = id;
}

/* Takes the one that waits longest. There is one. */
static uint32_t ready_pop(struct fanout *f)
{
    uint32_t id = f->ready_first;
    f->ready_first = job_at(f, id)->ready_next;
    if (!f->ready_first)
        f->ready_last = 0;
    return id;
}

/* Counts a job's bytes in or out. */
static void account(struct fanout *f, const struct message *m, int jobs)
{
    if (jobs > 0)
        f->pending_bytes += message_size(m) + sizeof(struct job);
    else
        f->pending_bytes -= message_size(m) + sizeof(struct job);
    f->pending_jobs += (uint32_t)jobs;
    counter_set(COUNTER_FANOUT_QUEUE_BYTES, f->pending_bytes);
}

/* Puts a job last in its lane; opens the lane when `first` is 0. */
static void enqueue(struct fanout *f, uint32_t id, uint32_t first)
{
    struct job *j = job_at(f, id);
    account(f, j->pub.message, 1);
    if (first) {
        job_at(f, job_at(f, first)->lane_last)->lane_next = id;
        job_at(f, first)->lane_last = id;
        return;
    }
    j->lane_last = id;
    hash_index_insert(f->lanes, topic_hash(j->pub.message), id);
}

/* Ends a queued job that has been walked, and makes the next one of its lane ready. */
static void finish(struct fanout *f, struct walk *w)
{
    uint32_t id = w->job;
    struct job *j = job_at(f, id);
    uint64_t hash = topic_hash(j->pub.message);
    uint32_t next = j->lane_next;
    walk_end(f, w);
    hash_index_remove(f->lanes, hash, id);
    if (next) {
        job_at(f, next)->lane_last = j->lane_last;
        hash_index_insert(f->lanes, hash, next);
        ready_push(f, next);
    }
    account(f, j->pub.message, -1);
    job_free(f, id);
}

/* Gives walks to jobs that are ready. */
static void fill_walks(struct fanout *f)
{
    while (f->free_walks && f->ready_first)
        walk_begin(f, ready_pop(f));
}

/* The next walk in turn. There is one. */
static struct walk *next_walk(struct fanout *f)
{
    uint64_t busy = ~f->free_walks, later = f->turn < MAX_WALKS ? busy >> f->turn << f->turn : 0;
    unsigned i = (unsigned)__builtin_ctzll(later ? later : busy);
    f->turn = i + 1;
    return &f->walks[i];
}

/* One slice: the walks take turns. */
bool fanout_step(struct fanout *f)
{
    struct slice s = {.left = f->set.slice};
    f->spent = 0;
    f->budget_ms = clock_ms();
    fill_walks(f);
    while (s.left > 0 && f->free_walks != UINT64_MAX) {
        uint32_t walks = (uint32_t)__builtin_popcountll(~f->free_walks);
        uint32_t turn = f->set.slice / walks > MIN_TURN ? f->set.slice / walks : MIN_TURN;
        struct walk *w = next_walk(f);
        if (!walk_run(f, w, &s, turn))
            continue;
        finish(f, w);
        slice_spend(f, &s); /* also for a message that nobody wants */
        fill_walks(f);
    }
    if (f->pending_jobs)
        schedule(f);
    return f->pending_jobs != 0;
}

/* Deliveries that this turn of the loop may still make outside fanout_step(). A turn is over when the cached
 * clock has moved on. */
static uint32_t budget_left(struct fanout *f)
{
    if (clock_ms() != f->budget_ms) {
        f->budget_ms = clock_ms();
        f->spent = 0;
    }
    return f->spent < f->set.slice ? f->set.slice - f->spent : 0;
}

/* Starts walking a job whose topic has no other. True: it is finished already. */
static bool try_at_once(struct fanout *f, uint32_t id, uint32_t budget)
{
    struct slice s = {.left = budget};
    struct walk *w = walk_begin(f, id);
    if (!walk_run(f, w, &s, budget))
        return false;
    slice_spend(f, &s);
    walk_end(f, w);
    job_free(f, id);
    return true;
}

/* Makes a job of a message. 0: there is no room for it. Half of the jobs are for kept messages only, which
 * are never refused: far more of them than the owner lets wait. */
static uint32_t job_new(struct fanout *f, struct message *m)
{
    bool kept = is_kept(m);
    if (!kept && f->pending_jobs &&
        (f->pending_bytes + message_size(m) + sizeof(struct job) > f->set.queue_limit ||
         f->pending_jobs >= MAX_JOBS / 2))
        return 0;
    uint32_t id = pool_alloc(f->jobs);
    CHECK(id || !kept);
    if (!id)
        return 0;
    job_at(f, id)->pub.message = message_ref(m);
    if (kept)
        kept_push(f, id);
    return id;
}

/* Delivers at once what can be; queues the rest. */
bool fanout_start(struct fanout *f, struct message *m)
{
    if (is_kept(m) && m->seq <= f->head)
        return true;
    uint32_t id = job_new(f, m);
    if (!id)
        return false;
    uint32_t first =
        f->pending_jobs ? hash_index_find(f->lanes, topic_hash(m), message_topic(m), m->topic_len) : 0;
    uint32_t budget = first ? 0 : budget_left(f);
    if (budget && f->free_walks) {
        if (try_at_once(f, id, budget))
            return true;
    } else if (!first) {
        ready_push(f, id);
    }
    enqueue(f, id, first);
    schedule(f);
    return true;
}

/* Says where the numbers of kept messages begin. */
void fanout_begin(struct fanout *f, uint64_t head)
{
    CHECK(f->kept_first == 0);
    f->head = head;
}

/* Everything before the oldest kept message that is under way. */
uint64_t fanout_settled(const struct fanout *f)
{
    return f->kept_first ? job_at(f, f->kept_first)->pub.message->seq - 1 : f->head;
}

/* Drops everything that waits. */
void fanout_free(struct fanout *f)
{
    if (!f)
        return;
    for (uint64_t busy = ~f->free_walks; busy; busy &= busy - 1)
        walk_end(f, &f->walks[__builtin_ctzll(busy)]);
    for (uint32_t id = pool_next(f->jobs, 0); id; id = pool_next(f->jobs, id))
        job_free(f, id);
    if (f->timer)
        event_free(f->timer);
    counter_set(COUNTER_FANOUT_QUEUE_BYTES, 0);
    hash_index_free(f->lanes);
    pool_free(f->jobs);
    free(f);
}

/* Plain readings. */
uint64_t fanout_head(const struct fanout *f) { return f->head; }
size_t fanout_pending_bytes(const struct fanout *f) { return f->pending_bytes; }
uint32_t fanout_pending_jobs(const struct fanout *f) { return f->pending_jobs; }
