/*
 * Messages on their way to a group's members: which groups want one, and which member gets it. Fed by what is
 * published and kept, by acknowledgements and by members that come and go; drains into the workers' channels.
 *
 * A group whose members take what comes is given each message as it is kept. When none of them has room it is
 * behind: then it reads the log from its position, in slices, as there is room again, until it has come to
 * the end. What somebody had been given and has not acknowledged comes before that, by its number.
 *
 *      kept ──> a member has room: given ──> acknowledged
 *         └──> behind: reads the log ──^            └─ or not: again ──^
 *
 * Members take turns; one that has no room is passed over. With QoS 0 a message goes to whose turn it is, and
 * is lost when nobody can have it now. Nothing is held here but numbers.
 */
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"
#include "gateway/hub/hub_shares_internal.h"
#include "proto/mqtt_topic.h"

#define SLICE       64 /* messages of one group before the next has its turn */
#define TURN_US     2000
#define TOPICS_HERE 64
#define WAIT_MS     100

LOG_EVENT_ONCE_A_SECOND(unreadable_event, "log_unreadable", LOG_LEVEL_ERROR);

static const struct timeval at_once = {0, 0};
static const struct timeval a_while = {0, WAIT_MS * 1000};
/* What is told as kept may be there to read a little later (sync = interval). */
static const struct timeval a_moment = {0, 20000};

/* ---- whose turn it is ---- */

/* Whether the client has this message already, as a member of another group: it could not tell them apart. */
static bool has_it(const struct hub_shares *s, const struct share_member *m, uint64_t seq)
{
    const struct share_client *c = share_client(s, m->client);
    if (share_member(s, c->members)->next == 0)
        return false;
    for (uint32_t at = c->given; at; at = share_given(s, at)->next)
        if (share_given(s, at)->seq == seq)
            return true;
    return false;
}

static bool has_room(const struct hub_shares *s, const struct share_member *m, uint64_t now_ms)
{
    return !s->blocked[share_client(s, m->client)->worker] && m->given < m->limit && m->retry_ms <= now_ms;
}

/* The next member that can have the message; 0: none. seq 0: it is not to be acknowledged. */
static uint32_t choose(const struct hub_shares *s, struct share_group *g, uint64_t seq)
{
    uint64_t now_ms = clock_ms();
    for (uint32_t n = 0, place = g->turn; n < g->count; n++, place++) {
        if (place >= g->count)
            place = 0;
        const struct share_member *m = share_member(s, g->members[place]);
        bool can = seq ? has_room(s, m, now_ms) && !has_it(s, m, seq)
                       : !s->blocked[share_client(s, m->client)->worker];
        if (can) {
            g->turn = place + 1 < g->count ? place + 1 : 0;
            return g->members[place];
        }
    }
    return 0;
}

/* Whether anybody has room at all. */
static bool somebody_has_room(const struct hub_shares *s, const struct share_group *g)
{
    uint64_t now_ms = clock_ms();
    for (uint32_t i = 0; i < g->count; i++)
        if (has_room(s, share_member(s, g->members[i]), now_ms))
            return true;
    return false;
}

/* Whether a member will have room by itself, when some time has passed. */
static bool somebody_waits(const struct hub_shares *s, const struct share_group *g)
{
    for (uint32_t i = 0; i < g->count; i++)
        if (share_member(s, g->members[i])->retry_ms)
            return true;
    return false;
}

/* ---- to a member ---- */

void share_given_drop(struct hub_shares *s, uint32_t *at)
{
    uint32_t id = *at;
    struct share_member *m = share_member(s, share_given(s, id)->member);
    struct share_group *g = share_group(s, m->group);
    m->given--;
    g->given--;
    g->dirty = true;
    *at = share_given(s, id)->next;
    pool_release(s->given, id);
}

/* Notes that the member has the message. */
static void note_given(struct hub_shares *s, struct share_group *g, uint32_t member, uint32_t id,
                       uint64_t seq)
{
    struct share_member *m = share_member(s, member);
    struct share_client *c = share_client(s, m->client);
    *share_given(s, id) = (struct share_given){.seq = seq, .member = member, .next = c->given};
    c->given = id;
    m->given++;
    g->given++;
    g->dirty = true;
}

/* Sends SHARE_DELIVER of a message that the client with this mark may have been sent before (0: nobody).
 * False: the worker's channel is full. */
static bool send_to(struct hub_shares *s, const struct share_group *g, uint32_t member,
                    const struct message_parts *parts, uint8_t qos, uint16_t before)
{
    const struct share_member *m = share_member(s, member);
    const struct share_client *c = share_client(s, m->client);
    size_t len;
    const char *id = strpool_get(s->names, c->name, &len);
    struct ipc_message out = IPC_MAKE(
        SHARE_DELIVER, IPC_NUM(c->claim), IPC_NUM(m->qos), IPC_BYTES(id, len), IPC_BYTES(g->filter, g->len),
        IPC_NUM(parts->seq), IPC_NUM(qos), IPC_NUM(parts->retain), IPC_NUM(parts->expires_ms),
        IPC_NUM(parts->origin), IPC_BYTES(parts->topic, parts->topic_len),
        IPC_BYTES(parts->props, parts->props_len), IPC_BYTES(parts->payload, parts->payload_len),
        IPC_NUM(before && before == share_client_mark(s, m->client)));
    if (s->handler->send(s->ctx, c->worker, &out))
        return true;
    s->blocked[c->worker] = true;
    return false;
}

/* Gives a kept message to a member; `before` as in send_to(). False: nobody has room. */
static bool give(struct hub_shares *s, struct share_group *g, const struct message_parts *m, uint16_t before)
{
    uint32_t member, id;
    if (m->expires_ms && m->expires_ms <= clock_wall_ms())
        return true;
    while ((member = choose(s, g, m->seq))) {
        uint8_t qos = share_member(s, member)->qos;
        if (!qos && send_to(s, g, member, m, 0, 0)) {
            g->dirty = true;
            return true;
        }
        if (!qos)
            continue;
        if (!(id = pool_alloc(s->given)))
            return false;
        if (send_to(s, g, member, m, qos, before)) {
            note_given(s, g, member, id, m->seq);
            return true;
        }
        pool_release(s->given, id);
    }
    return false;
}

/* ---- which groups ---- */

typedef void (*for_group_fn)(struct hub_shares *s, struct share_group *g, const struct message_parts *m);

static void each_of_topic(struct hub_shares *s, uint32_t topic, const struct message_parts *m,
                          for_group_fn fn)
{
    struct topic_cursor c;
    uint32_t group;
    sub_options unused;
    topic_cursor_open(s->tree, &c, topic);
    while (topic_cursor_next(s->tree, &c, &group, &unused))
        fn(s, share_group(s, group), m);
    topic_cursor_close(s->tree, &c);
}

/* Calls fn with each group whose filter matches. */
static void each_group(struct hub_shares *s, const struct message_parts *m, for_group_fn fn)
{
    uint32_t here[TOPICS_HERE], *topics = here;
    size_t n = topic_tree_match(s->tree, m->topic, m->topic_len, here, TOPICS_HERE);
    if (n > TOPICS_HERE) {
        topics = xcalloc(n, sizeof *topics);
        n = topic_tree_match(s->tree, m->topic, m->topic_len, topics, n);
    }
    for (size_t i = 0; i < n; i++)
        each_of_topic(s, topics[i], m, fn);
    if (topics != here)
        free(topics);
}

static void give_once(struct hub_shares *s, struct share_group *g, const struct message_parts *m)
{
    uint32_t member;
    while ((member = choose(s, g, 0)))
        if (send_to(s, g, member, m, 0, 0))
            return;
    counter_add(COUNTER_SHARE_LOST, 1);
}

void hub_shares_publish(struct hub_shares *s, const struct message_parts *m)
{
    if (topic_tree_subscriptions(s->tree))
        each_group(s, m, give_once);
}

static void give_live(struct hub_shares *s, struct share_group *g, const struct message_parts *m)
{
    if (g->behind)
        return; /* it comes to that */
    if (!g->agains && g->given < SHARE_GROUP_WINDOW && give(s, g, m, 0))
        return;
    g->position = m->seq - 1;
    g->behind = true;
    share_read_on(s, g);
}

void hub_shares_kept(struct hub_shares *s, const struct message_parts *m)
{
    if (topic_tree_subscriptions(s->tree)) {
        each_group(s, m, give_live);
        counter_set(COUNTER_SHARE_GIVEN, pool_count(s->given));
    }
    s->newest = m->seq;
}

/* ---- in line ---- */

/* Moves a group to another line, or to none. */
static void set_line(struct hub_shares *s, struct share_group *g, enum share_line line)
{
    struct share_line_head *const lines[] = {NULL, &s->read, &s->wait};
    if (g->line == line)
        return;
    if (g->line)
        TAILQ_REMOVE(lines[g->line], g, link);
    g->line = (uint8_t)line;
    if (line)
        TAILQ_INSERT_TAIL(lines[line], g, link);
}

static void schedule(struct event *e, const struct timeval *when)
{
    if (!evtimer_pending(e, NULL))
        CHECK(evtimer_add(e, when) == 0);
}

void share_read_on(struct hub_shares *s, struct share_group *g)
{
    if (!g->count || (!g->behind && !g->agains))
        return;
    set_line(s, g, SHARE_LINE_READ);
    CHECK(evtimer_add(s->read_event, &at_once) == 0);
}

static void drop_scan(struct hub_shares *s, struct share_group *g)
{
    if (g->scan)
        s->settings.ops->scan_free(g->scan);
    g->scan = NULL;
}

void share_read_stop(struct hub_shares *s, struct share_group *g)
{
    set_line(s, g, SHARE_LINE_NONE);
    drop_scan(s, g);
}

/* ---- out of the log ---- */

/* A message being read for a group. */
struct reading {
    struct hub_shares *s;
    struct share_group *g;
    uint16_t before; /* as in send_to() */
    bool declined;
};

static bool give_cb(void *ctx, const struct message_parts *m, uint64_t time_ms)
{
    struct reading *r = ctx;
    (void)time_ms;
    r->declined = r->g->given >= SHARE_GROUP_WINDOW || !give(r->s, r->g, m, 0);
    return !r->declined;
}

static bool give_again_cb(void *ctx, const struct message_parts *m, uint64_t time_ms)
{
    struct reading *r = ctx;
    (void)time_ms;
    r->declined = !give(r->s, r->g, m, r->before);
    if (!r->declined)
        counter_add(COUNTER_SHARE_REDELIVERED, 1);
    return !r->declined;
}

static int compare(const void *a, const void *b)
{
    const struct share_again *x = a, *y = b;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* What became of a slice. */
enum outcome { OUTCOME_GO_ON, OUTCOME_FULL, OUTCOME_LATER, OUTCOME_DONE };

/* Whether everything that was told as kept is there to read. */
static bool all_is_written(const struct hub_shares *s)
{
    struct engine_stats stats;
    s->settings.ops->stats(s->settings.engine, &stats);
    return stats.pending_bytes == 0;
}

/* Gives what is to be given again, the oldest first. What the log does not have any more is done with. */
static enum outcome give_again(struct hub_shares *s, struct share_group *g)
{
    struct reading r = {.s = s, .g = g};
    enum outcome outcome = OUTCOME_DONE;
    size_t n = 0;
    if (g->unsorted)
        qsort(g->again, g->agains, sizeof *g->again, compare);
    g->unsorted = false;
    for (; n < g->agains && n < SLICE && outcome == OUTCOME_DONE; n += outcome == OUTCOME_DONE) {
        bool complete = all_is_written(s);
        r.before = g->again[n].client;
        if (!s->settings.ops->message_get(s->settings.reader, g->again[n].seq, give_again_cb, &r) &&
            !complete)
            outcome = OUTCOME_LATER;
        else if (r.declined)
            outcome = OUTCOME_FULL;
    }
    g->agains -= n;
    g->dirty |= n > 0;
    memmove(g->again, g->again + n, g->agains * sizeof *g->again);
    return outcome == OUTCOME_DONE && g->agains ? OUTCOME_GO_ON : outcome;
}

/* Reads on after the position. */
static enum outcome read_log(struct hub_shares *s, struct share_group *g)
{
    const struct engine_ops *ops = s->settings.ops;
    struct reading r = {.s = s, .g = g};
    struct engine_filter filter = {.text = g->filter + g->inner, .len = (uint16_t)(g->len - g->inner)};
    if (!g->scan)
        g->scan = ops->scan_new(s->settings.reader, &filter, 1, g->position, mqtt_topic_matches);
    bool complete = all_is_written(s);
    enum engine_scan_result result = ops->scan_next(g->scan, SLICE, give_cb, &r);
    uint64_t position = ops->scan_position(g->scan);
    if (position > g->position) {
        g->position = position;
        g->dirty = true;
    }
    if (result == ENGINE_SCAN_MORE)
        return r.declined ? OUTCOME_FULL : OUTCOME_GO_ON;
    if (result == ENGINE_SCAN_ERROR)
        LOG(unreadable_event, LOG_BYTES("filter", g->filter, g->len));
    if (result == ENGINE_SCAN_ERROR || (!complete && g->position < s->newest))
        return OUTCOME_LATER;
    drop_scan(s, g);
    g->behind = false;
    return OUTCOME_DONE;
}

/* One slice of what the group has to give. */
static enum outcome serve(struct hub_shares *s, struct share_group *g)
{
    if (!somebody_has_room(s, g))
        return OUTCOME_FULL;
    enum outcome outcome = g->agains ? give_again(s, g) : OUTCOME_DONE;
    return outcome == OUTCOME_DONE && g->behind ? read_log(s, g) : outcome;
}

/* Puts the group where it belongs now. A full one comes back with an acknowledgement, with a new member, when
 * a worker's channel has drained, or after a while. */
static void put_in_line(struct hub_shares *s, struct share_group *g, enum outcome outcome)
{
    bool waits = outcome == OUTCOME_LATER || (outcome == OUTCOME_FULL && somebody_waits(s, g));
    set_line(s, g, SHARE_LINE_NONE);
    if (outcome == OUTCOME_GO_ON)
        set_line(s, g, SHARE_LINE_READ);
    else if (waits)
        set_line(s, g, SHARE_LINE_WAIT);
    if (waits)
        schedule(s->wait_event, outcome == OUTCOME_LATER ? &a_moment : &a_while);
}

/* A turn: each group in the line once, while there is time. */
static void read_cb(evutil_socket_t fd, short what, void *arg)
{
    struct hub_shares *s = CHECK_CAST(arg, struct hub_shares, HUB_SHARES_MAGIC);
    struct share_group *g, *last = TAILQ_LAST(&s->read, share_line_head);
    (void)fd, (void)what;
    clock_update();
    uint64_t end_us = clock_us() + TURN_US;
    bool was_last = false;
    while (!was_last && (g = TAILQ_FIRST(&s->read))) {
        was_last = g == last || clock_us() >= end_us;
        put_in_line(s, g, serve(s, g));
    }
    counter_set(COUNTER_SHARE_GIVEN, pool_count(s->given));
    if (!TAILQ_EMPTY(&s->read))
        schedule(s->read_event, &at_once);
}

static void wait_cb(evutil_socket_t fd, short what, void *arg)
{
    struct hub_shares *s = CHECK_CAST(arg, struct hub_shares, HUB_SHARES_MAGIC);
    struct share_group *g;
    (void)fd, (void)what;
    while ((g = TAILQ_FIRST(&s->wait))) {
        set_line(s, g, SHARE_LINE_NONE);
        share_read_on(s, g);
    }
}

void hub_shares_drained(struct hub_shares *s, uint16_t worker)
{
    if (!s->blocked[worker])
        return;
    s->blocked[worker] = false;
    for (uint32_t id = 0; (id = pool_next(s->groups, id));)
        share_read_on(s, share_group(s, id));
}

void hub_shares_tick(struct hub_shares *s)
{
    if (clock_ms() < s->next_store_ms)
        return;
    s->next_store_ms = clock_ms() + s->settings.cursor_interval_ms;
    for (uint32_t id = 0; (id = pool_next(s->groups, id));) {
        struct share_group *g = share_group(s, id);
        if (g->dirty && g->count)
            share_group_store(s, g);
    }
}

void share_give_setup(struct hub_shares *s)
{
    TAILQ_INIT(&s->read);
    TAILQ_INIT(&s->wait);
    s->read_event = evtimer_new(s->base, read_cb, s);
    s->wait_event = evtimer_new(s->base, wait_cb, s);
    CHECK(s->read_event && s->wait_event);
}

void share_give_free(struct hub_shares *s)
{
    for (uint32_t id = 0; (id = pool_next(s->groups, id));)
        share_read_stop(s, share_group(s, id));
    event_free(s->read_event);
    event_free(s->wait_event);
}
