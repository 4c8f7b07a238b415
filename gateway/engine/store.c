/*
 * The owner's side of what is kept. The hub hands in operations, which go into a batch of its own without a
 * lock; a commit moves the batch to the writer. For an engine with a disk the writer is a thread, the only
 * one in the gateway: an fsync takes milliseconds and would hold up every client, and LMDB binds a write
 * transaction to its thread. What comes while it works is the next batch, so a hundred publishers share an
 * fsync without anybody waiting for company.
 *
 *      owner:  append() append() retain() commit() ── poll() ── committed()
 *                 └────── filling ──────────┘ │         ▲
 *                                   lock ── queued     done, eventfd
 *                                             ▼         │
 *      thread:                             working ── writer_run()
 *
 * The two sides share what is marked so below, under one mutex that is held for a few instructions, and
 * nothing else. Reading goes past all this, by readers.
 */
#include "gateway/engine/store.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"
#include "gateway/engine/registry.h"
#include "gateway/engine/writer.h"

LOG_EVENT_ONCE_A_SECOND(lost_event, "kept_messages_lost", LOG_LEVEL_ERROR);
LOG_EVENT_ONCE_A_SECOND(unreserved_event, "sequence_not_reserved", LOG_LEVEL_ERROR);

/* The lower bits of a sequence number: 1,024 of them per millisecond since the epoch. */
#define SEQ_MS_BITS 10
#define SEQ_LIMIT   ((uint64_t)1 << 53)
/* Numbers are reserved on disk in blocks; the next block is asked for when half of one is left. */
#define SEQ_BLOCK ((uint64_t)1 << 24)
/* Changes of sessions that one transaction should have: a few on a fast disk, where a commit for each few
 * costs nothing; more on one that takes longer, so that ten thousand a second can change on either. */
#define SCATTERED_MIN     16u
#define SCATTERED_MAX     320u
#define SCATTERED_EACH_US 100u

struct done {
    uint64_t ticket, last_seq;
    enum engine_result result;
};
struct done_list {
    struct done *item;
    size_t count, room;
};

struct engine {
    /* the owner's */
    struct registry *registry;
    struct engine_settings settings;
    struct kv *kv;
    struct batch filling;
    uint64_t seq, last_appended, ticket;
    uint64_t asked; /* numbers up to this have been asked for */
    struct done_list polled;
    int event_fd, lock_fd;
    bool threaded;
    bool hurry; /* somebody waits until what is being handed in can be read */
    /* the writer's */
    struct writer writer;
    struct batch working;
    /* both sides', under the lock */
    pthread_mutex_t lock;
    pthread_cond_t wake, settled;
    pthread_t thread;
    bool stop, urgent;
    struct batch queued, expired;
    struct done_list done;
    uint64_t settled_ticket; /* the writer has finished with it, for better or worse */
    size_t working_bytes;
    struct engine_stats figures;
    /* both sides', without */
    atomic_uint_fast64_t reserved; /* numbers up to this are reserved on disk */
    atomic_uint_fast64_t handed;   /* bytes in queued and working */
    atomic_uint scattered;         /* changes of sessions in queued, */
    atomic_uint scattered_max;     /* and how many of them are enough for a transaction */
    atomic_int refusing;
};

/* ---- completion ---- */

static void tell(struct engine *e)
{
    static const uint64_t one = 1;
    if (write(e->event_fd, &one, sizeof one) != sizeof one)
        CHECK(errno == EAGAIN); /* it is readable already */
}

/* Puts one on the list; one that only prolongs the last one is added to it. */
static void add_done(struct done_list *l, struct done d)
{
    if (l->count && d.result == ENGINE_OK && l->item[l->count - 1].result == ENGINE_OK) {
        l->item[l->count - 1] = d;
        return;
    }
    if (l->count == l->room) {
        l->room = l->room ? l->room * 2 : 16;
        l->item = xrealloc(l->item, l->room * sizeof l->item[0]);
    }
    l->item[l->count++] = d;
}

/* ---- the writer's side ---- */

static unsigned commit_bucket(uint64_t us)
{
    unsigned b = 0;
    while (b < ENGINE_COMMIT_BUCKETS - 1 && us > (uint64_t)1000 << b)
        b++;
    return b;
}

/* What stats() is to say, as of this run. The figures of commits go on from before. */
static void publish_figures(struct engine *e, enum engine_result r, uint64_t us)
{
    struct engine_stats *f = &e->figures;
    const struct writer *w = &e->writer;
    const struct writer_state *s = &w->state;
    struct engine_stats now = w->figures;
    now.commits = f->commits + (r != ENGINE_FAILED);
    now.failed_commits = f->failed_commits + (r == ENGINE_FAILED);
    memcpy(now.commit_us, f->commit_us, sizeof now.commit_us);
    now.commit_us[commit_bucket(us)]++;
    now.commit_us_sum = f->commit_us_sum + us;
    now.log_bytes = s->totals.log_bytes;
    now.head = s->totals.head;
    now.sessions_expired = s->totals.sessions_expired;
    memcpy(now.expired, s->totals.expired, sizeof now.expired);
    memcpy(now.unread, s->totals.unread, sizeof now.unread);
    memcpy(now.lag, s->last_lag, sizeof now.lag);
    now.oldest_cursor = s->oldest_cursor;
    now.sweeps = s->sweeps;
    now.refused = s->refused;
    now.dead_readers = w->dead_readers;
    now.refusing = w->refusing;
    now.maintaining = s->more;
    *f = now;
}

/* How many changes of sessions the next transaction should have, when the last one took that long. */
static unsigned scattered_max(uint64_t us)
{
    uint64_t n = us / SCATTERED_EACH_US;
    return n < SCATTERED_MIN ? SCATTERED_MIN : n > SCATTERED_MAX ? SCATTERED_MAX : (unsigned)n;
}

/* Under the lock: what a run has brought. */
static void publish(struct engine *e, const struct batch *b, enum engine_result r, uint64_t us)
{
    publish_figures(e, r, us);
    batch_move(&e->expired, &e->writer.expired);
    atomic_store(&e->reserved, e->writer.state.sequence);
    atomic_store(&e->refusing, (int)e->writer.refusing);
    e->working_bytes = 0;
    atomic_store(&e->handed, e->queued.size);
    if (b->ticket)
        e->settled_ticket = b->ticket;
    if (b->ticket)
        add_done(&e->done, (struct done){b->ticket, b->last_seq, r});
    if (r != ENGINE_OK && b->appends && e->settings.sync == ENGINE_SYNC_INTERVAL)
        LOG(lost_event, LOG_U64("messages", b->appends), LOG_STR("why", engine_result_text(r)));
    atomic_store(&e->scattered_max, scattered_max(us));
    if (e->done.count || e->expired.ops || b->scattered >= SCATTERED_MIN)
        tell(e);
}

/* Does what is in `working`. */
static void perform(struct engine *e)
{
    uint64_t began = clock_us();
    enum engine_result r = writer_run(&e->writer, &e->working);
    uint64_t us = clock_us() - began;
    pthread_mutex_lock(&e->lock);
    publish(e, &e->working, r, us);
    pthread_cond_broadcast(&e->settled);
    pthread_mutex_unlock(&e->lock);
    batch_clear(&e->working);
}

/* Under the lock: with ENGINE_SYNC_INTERVAL, lets time pass before the next run. */
static void rest(struct engine *e)
{
    struct timespec until;
    if (e->settings.sync != ENGINE_SYNC_INTERVAL || writer_has_more(&e->writer))
        return;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + e->settings.sync_interval_ms * UINT64_C(1000000);
    until.tv_sec += (time_t)(ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    while (!e->stop && !e->urgent && pthread_cond_timedwait(&e->wake, &e->lock, &until) == 0)
        ;
}

static void *thread_main(void *arg)
{
    struct engine *e = arg;
    pthread_mutex_lock(&e->lock);
    for (;;) {
        while (!e->stop && e->queued.ops == 0 && !writer_has_more(&e->writer))
            pthread_cond_wait(&e->wake, &e->lock);
        if (e->stop && e->queued.ops == 0)
            break;
        batch_move(&e->working, &e->queued);
        atomic_store(&e->scattered, 0);
        e->working_bytes = e->working.size;
        e->urgent = false;
        pthread_mutex_unlock(&e->lock);
        perform(e);
        pthread_mutex_lock(&e->lock);
        rest(e);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

/* Signals are for the event loop's thread. */
static void start_thread(struct engine *e)
{
    sigset_t all, before;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&e->wake, &attr);
    pthread_cond_init(&e->settled, &attr);
    pthread_condattr_destroy(&attr);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (e->threaded)
        CHECK(pthread_create(&e->thread, NULL, thread_main, e) == 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ---- the owner's side: opening and closing ---- */

/* The first numbers: beyond all that were ever reserved, and beyond the wall clock's. On disk before the
 * first one is given out. */
static bool reserve_first(struct engine *e)
{
    uint64_t clock_seq = clock_wall_ms() << SEQ_MS_BITS;
    const struct writer_state *s = &e->writer.state;
    e->seq = s->sequence > s->totals.head ? s->sequence : s->totals.head;
    if (e->seq < clock_seq)
        e->seq = clock_seq;
    e->asked = e->seq + SEQ_BLOCK;
    e->last_appended = s->totals.head;
    batch_add(&e->working, (struct batch_op){.type = OP_SEQUENCE, .number = {e->asked}},
              (struct batch_range[3]){{0}});
    perform(e);
    e->figures.commits = 0;
    return atomic_load(&e->reserved) == e->asked;
}

struct engine *store_new(const struct engine_settings *s, struct kv *kv, bool threaded, int lock_fd)
{
    struct engine *e = xcalloc(1, sizeof *e);
    e->settings = *s;
    e->settings.data_dir = NULL; /* the caller's string is not kept */
    e->kv = kv;
    e->threaded = threaded;
    e->lock_fd = lock_fd;
    e->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    e->registry = registry_new(s->max_clients);
    pthread_mutex_init(&e->lock, NULL);
    CHECK(e->event_fd >= 0);
    bool ok = writer_open(&e->writer, kv, s) && reserve_first(e);
    e->threaded = threaded && ok;
    start_thread(e);
    if (ok)
        return e;
    store_close(e);
    return NULL;
}

/* Everything that was handed in is done first. */
void store_close(struct engine *e)
{
    if (e->threaded) {
        store_commit(e);
        pthread_mutex_lock(&e->lock);
        e->stop = true;
        pthread_cond_signal(&e->wake);
        pthread_mutex_unlock(&e->lock);
        CHECK(pthread_join(e->thread, NULL) == 0);
    }
    e->kv->ops->close(e->kv);
    struct batch *batches[] = {&e->filling, &e->working, &e->queued, &e->expired};
    for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++)
        batch_free(batches[i]);
    writer_free(&e->writer);
    registry_free(e->registry);
    pthread_cond_destroy(&e->wake);
    pthread_cond_destroy(&e->settled);
    pthread_mutex_destroy(&e->lock);
    free(e->done.item);
    free(e->polled.item);
    close(e->event_fd);
    if (e->lock_fd >= 0)
        close(e->lock_fd);
    free(e);
}

struct kv *store_kv(struct engine *e) { return e->kv; }

/* ---- claims ---- */

bool store_claim(struct engine *e, const char *client_id, size_t len, struct engine_claim mine,
                 struct engine_claim *other)
{
    return registry_claim(e->registry, client_id, len, mine, other);
}

void store_release(struct engine *e, const char *client_id, size_t len, struct engine_claim mine)
{
    registry_release(e->registry, client_id, len, mine);
}

bool store_find(struct engine *e, const char *client_id, size_t len, struct engine_claim *out)
{
    return registry_find(e->registry, client_id, len, out);
}

void store_forget_worker(struct engine *e, uint16_t worker) { registry_forget_worker(e->registry, worker); }

uint32_t store_count(const struct engine *e) { return registry_count(e->registry); }

/* ---- writing ---- */

/* Adds an operation with up to three byte ranges. */
static void add(struct engine *e, struct batch_op op, struct batch_range a, struct batch_range b,
                struct batch_range c)
{
    const struct batch_range range[3] = {a, b, c};
    batch_add(&e->filling, op, range);
}
static const struct batch_range none;

uint64_t store_commit(struct engine *e)
{
    if (e->filling.ops == 0)
        return e->ticket;
    e->filling.ticket = ++e->ticket;
    e->filling.last_seq = e->last_appended;
    uint64_t ticket = e->ticket;
    if (!e->threaded) {
        batch_move(&e->working, &e->filling);
        do
            perform(e);
        while (writer_has_more(&e->writer));
        return ticket;
    }
    pthread_mutex_lock(&e->lock);
    batch_move(&e->queued, &e->filling);
    atomic_store(&e->handed, e->queued.size + e->working_bytes);
    atomic_store(&e->scattered, e->queued.scattered);
    size_t most = e->settings.max_pending_bytes;
    if (e->hurry || (most && e->queued.size > most / 2) || e->queued.scattered >= SCATTERED_MIN)
        e->urgent = true;
    e->hurry = false;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
    return ticket;
}

/* The block is used up and the next one is not on disk yet: waits for it. If the disk fails, goes on: the
 * numbers are still ahead of all earlier ones, and of a successor's as long as the wall clock is. */
static void wait_for_block(struct engine *e)
{
    uint64_t ticket = store_commit(e);
    pthread_mutex_lock(&e->lock);
    e->urgent = true;
    pthread_cond_signal(&e->wake);
    while (e->settled_ticket < ticket)
        pthread_cond_wait(&e->settled, &e->lock);
    pthread_mutex_unlock(&e->lock);
    if (e->seq > atomic_load(&e->reserved))
        LOG(unreserved_event, LOG_U64("seq", e->seq));
}

uint64_t store_next_seq(struct engine *e)
{
    e->seq++;
    CHECK(e->seq < SEQ_LIMIT);
    if (e->seq + SEQ_BLOCK / 2 > e->asked) {
        e->asked = e->seq + SEQ_BLOCK;
        add(e, (struct batch_op){.type = OP_SEQUENCE, .number = {e->asked}}, none, none, none);
    }
    if (e->seq > atomic_load(&e->reserved))
        wait_for_block(e);
    return e->seq;
}

/* Hands in a message, for the log or to be retained. */
static void add_message(struct engine *e, enum batch_op_type type, const struct message_parts *m,
                        uint64_t seq)
{
    struct batch_op op = {.type = (uint8_t)type,
                          .qos = m->qos,
                          .retain = m->retain,
                          .number = {seq, clock_wall_ms(), m->expires_ms, m->origin}};
    add(e, op, (struct batch_range){m->topic, m->topic_len}, (struct batch_range){m->props, m->props_len},
        (struct batch_range){m->payload, m->payload_len});
}

uint64_t store_append(struct engine *e, const struct message_parts *m, enum engine_result *why)
{
    *why = (enum engine_result)atomic_load(&e->refusing);
    if (*why == ENGINE_OK && store_busy(e))
        *why = ENGINE_BUSY;
    if (*why != ENGINE_OK)
        return 0;
    e->last_appended = store_next_seq(e);
    add_message(e, OP_APPEND, m, e->last_appended);
    return e->last_appended;
}

void store_retain(struct engine *e, const struct message_parts *m) { add_message(e, OP_RETAIN, m, m->seq); }

void store_session_put(struct engine *e, const char *client_id, size_t len, const struct engine_session *s)
{
    e->hurry = true; /* a session is given to a worker, which reads it before its client is answered */
    struct batch_op op = {.type = OP_SESSION_PUT,
                          .word = s->expiry_s,
                          .number = {store_next_seq(e), s->cursor, s->disconnected_ms}};
    add(e, op, (struct batch_range){client_id, len}, (struct batch_range){s->extra, s->extra_len}, none);
}

void store_session_remove(struct engine *e, const char *client_id, size_t len)
{
    add(e, (struct batch_op){.type = OP_SESSION_REMOVE}, (struct batch_range){client_id, len}, none, none);
}

void store_subscribe(struct engine *e, const char *client_id, size_t len, const struct engine_subscription *s)
{
    struct batch_op op = {
        .type = OP_SUBSCRIBE, .flags = s->options, .word = s->identifier, .number = {s->since, s->asked}};
    add(e, op, (struct batch_range){client_id, len}, (struct batch_range){s->filter, s->len}, none);
}

void store_unsubscribe(struct engine *e, const char *client_id, size_t len, const char *filter,
                       size_t filter_len)
{
    add(e, (struct batch_op){.type = OP_UNSUBSCRIBE}, (struct batch_range){client_id, len},
        (struct batch_range){filter, filter_len}, none);
}

void store_progress(struct engine *e, const char *client_id, size_t len, const struct engine_progress *p)
{
    size_t size = record_progress_size(p);
    char *value = xmalloc(size);
    record_progress_write(value, p);
    add(e,
        (struct batch_op){
            .type = OP_PROGRESS, .flags = p->with_messages ? OP_WITH_MESSAGES : 0, .number = {0, p->cursor}},
        (struct batch_range){client_id, len}, (struct batch_range){value, size}, none);
    free(value);
}

void store_note(struct engine *e, const char *name, const void *data, size_t len)
{
    CHECK(strlen(name) <= RECORD_NOTE_NAME_MAX && len <= RECORD_NOTE_MAX);
    add(e, (struct batch_op){.type = OP_NOTE}, (struct batch_range){name, strlen(name)},
        (struct batch_range){data, len}, none);
}

bool store_busy(const struct engine *e)
{
    return e->filling.size + atomic_load(&e->handed) > e->settings.max_pending_bytes &&
           e->settings.max_pending_bytes;
}

bool store_crowded(const struct engine *e)
{
    return e->filling.scattered + atomic_load(&e->scattered) >= atomic_load(&e->scattered_max);
}

void store_tick(struct engine *e)
{
    add(e, (struct batch_op){.type = OP_TICK, .number = {clock_wall_ms()}}, none, none, none);
    store_commit(e);
}

/* ---- telling ---- */

int store_event_fd(const struct engine *e) { return e->event_fd; }

void store_poll(struct engine *e, const struct engine_handler *h, void *ctx)
{
    uint64_t count;
    struct batch expired = {0};
    if (read(e->event_fd, &count, sizeof count) < 0)
        CHECK(errno == EAGAIN);
    pthread_mutex_lock(&e->lock);
    struct done_list done = e->done;
    e->done = e->polled;
    e->done.count = 0;
    batch_move(&expired, &e->expired);
    pthread_mutex_unlock(&e->lock);
    for (size_t i = 0; i < done.count; i++)
        h->committed(ctx, done.item[i].ticket, done.item[i].last_seq, done.item[i].result);
    for (const struct batch_op *op = batch_next(&expired, NULL); op; op = batch_next(&expired, op))
        h->session_expired(ctx, batch_bytes(op, 0), op->len[0]);
    e->polled = done;
    batch_free(&expired);
}

void store_stats(struct engine *e, struct engine_stats *out)
{
    pthread_mutex_lock(&e->lock);
    *out = e->figures;
    pthread_mutex_unlock(&e->lock);
    out->pending_bytes = e->filling.size + atomic_load(&e->handed);
    out->file_bytes = e->kv->ops->file_bytes(e->kv);
}
