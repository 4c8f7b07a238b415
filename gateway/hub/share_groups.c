/*
 * The groups of shared subscriptions: made when the first member joins, read back if they are stored, put
 * away when the last one leaves. Fed by hub_shares.c, drains into the engine.
 *
 * What is stored looks like a session under the client id 0xFF and the whole filter: its cursor is where the
 * group stands, in flight is what was given and not acknowledged, and its subscriptions are the client ids of
 * its members whose sessions are stored, each with its session's expiry interval. While it has members it
 * counts as connected. With the last one it begins to wait, as long as the one of its sleeping members that
 * waits longest, or ends if there is none. A member whose session is replaced or removed is taken out
 * (hub_shares_member_ended); nobody tells when the time of one that sleeps is over: those whose time must be
 * over are forgotten when there are many, so that clients that never come back leave nothing.
 *
 * A group without members leaves memory when what was stored of it is committed, so that nobody reads what is
 * about to change. When the hub was killed, groups are left that seem to have members: hub_shares_complete()
 * looks for them.
 */
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/hash.h"
#include "gateway/base/xmalloc.h"
#include "gateway/hub/hub_shares_internal.h"
#include "proto/mqtt_topic.h"

#define MAX_GROUPS      (1u << 20)
#define GROUPS_PER_TURN 200

/* ---- by their filters ---- */

static uint32_t *group_link(void *ctx, uint32_t record) { return &share_group(ctx, record)->hash_link; }

static uint64_t group_hash(void *ctx, uint32_t record)
{
    const struct share_group *g = share_group(ctx, record);
    return hash_bytes(g->filter, g->len);
}

static bool group_equals(void *ctx, uint32_t record, const void *key, size_t len)
{
    const struct share_group *g = share_group(ctx, record);
    return g->len == len && memcmp(g->filter, key, len) == 0;
}

static const struct hash_index_ops group_ops = {
    .link = group_link, .hash = group_hash, .equals = group_equals};

struct share_group *share_group_find(const struct hub_shares *s, const char *filter, size_t len)
{
    uint32_t id = hash_index_find(s->group_index, hash_bytes(filter, len), filter, len);
    return id ? share_group(s, id) : NULL;
}

/* ---- what is stored ---- */

/* The client id under which the group is stored; it lies before the filter. */
static const char *stored_name(const struct share_group *g) { return g->filter - 1; }
static size_t stored_name_len(const struct share_group *g) { return (size_t)g->len + 1; }

/* Up to where everything has been given. */
static uint64_t position_of(const struct hub_shares *s, const struct share_group *g)
{
    return g->behind ? g->position : s->newest;
}

/* Stores the group as it is, connected (0) or not. */
static void put(struct hub_shares *s, struct share_group *g, uint64_t disconnected_ms, uint32_t expiry_s)
{
    struct engine_session stored = {
        .cursor = position_of(s, g), .disconnected_ms = disconnected_ms, .expiry_s = expiry_s};
    s->settings.ops->session_put(s->settings.engine, stored_name(g), stored_name_len(g), &stored);
    s->stored += !g->is_stored;
    g->is_stored = true;
    g->expiry_s = expiry_s;
    s->handler->changed(s->ctx);
}

uint16_t share_client_mark(const struct hub_shares *s, uint32_t client)
{
    size_t len;
    const char *id = strpool_get(s->names, share_client(s, client)->name, &len);
    return (uint16_t)(1 + hash_known(id, len) % UINT16_MAX);
}

/* Takes the messages that its members have not acknowledged into out; the mark of who has one stands in the
 * place of a packet identifier. */
static void gather_given(const struct hub_shares *s, const struct share_group *g, struct engine_progress *p,
                         struct engine_inflight *out)
{
    for (uint32_t i = 0; i < g->count; i++)
        for (uint32_t at = share_client(s, share_member(s, g->members[i])->client)->given; at;
             at = share_given(s, at)->next)
            if (share_given(s, at)->member == g->members[i])
                out[p->outs++] = (struct engine_inflight){
                    .seq = share_given(s, at)->seq,
                    .packet_id = share_client_mark(s, share_member(s, g->members[i])->client),
                    .state = ENGINE_SENT};
}

void share_group_store(struct hub_shares *s, struct share_group *g)
{
    size_t n = g->given + g->agains;
    struct engine_inflight *out = xcalloc(n + 1, sizeof *out);
    struct engine_progress p = {.cursor = position_of(s, g), .out = out};
    gather_given(s, g, &p, out);
    for (size_t i = 0; i < g->agains && p.outs < UINT16_MAX; i++)
        out[p.outs++] = (struct engine_inflight){
            .seq = g->again[i].seq, .packet_id = g->again[i].client, .state = ENGINE_SENT};
    s->settings.ops->progress(s->settings.engine, stored_name(g), stored_name_len(g), &p);
    g->dirty = false;
    s->handler->changed(s->ctx);
    free(out);
}

static void add_away(struct share_group *g, uint64_t client, uint32_t expiry_s)
{
    if (g->aways == g->away_room) {
        g->away_room = g->away_room ? g->away_room * 2 : 16;
        g->away = xrealloc(g->away, g->away_room * sizeof *g->away);
    }
    uint64_t end_ms =
        expiry_s == ENGINE_EXPIRY_NEVER ? UINT64_MAX : clock_wall_ms() + expiry_s * UINT64_C(1000);
    g->away[g->aways++] = (struct share_away){.client = client, .end_ms = end_ms};
}

/* Members that slept until their time was over, by their hashes, in order. */
struct ended {
    struct hub_shares *s;
    struct share_group *g;
    uint64_t *client;
    size_t count;
};

static int compare_hashes(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

static void forget_ended_cb(void *ctx, const struct engine_session_view *v)
{
    const struct ended *e = ctx;
    for (size_t i = 0; i < v->subscription_count; i++) {
        const struct engine_subscription *sub = &v->subscriptions[i];
        uint64_t hash = hash_bytes(sub->filter, sub->len);
        if (bsearch(&hash, e->client, e->count, sizeof hash, compare_hashes))
            e->s->settings.ops->unsubscribe(e->s->settings.engine, stored_name(e->g), stored_name_len(e->g),
                                            sub->filter, sub->len);
    }
}

/* Forgets those that have ended, here and in what is stored. */
static void forget_ended(struct hub_shares *s, struct share_group *g)
{
    struct ended e = {.s = s, .g = g, .client = xcalloc(g->aways + 1, sizeof *e.client)};
    uint64_t now = clock_wall_ms();
    size_t kept = 0;
    for (size_t i = 0; i < g->aways; i++) {
        if (g->away[i].end_ms <= now)
            e.client[e.count++] = g->away[i].client;
        else
            g->away[kept++] = g->away[i];
    }
    g->aways = kept;
    if (e.count) {
        qsort(e.client, e.count, sizeof *e.client, compare_hashes);
        s->settings.ops->session_get(s->settings.reader, stored_name(g), stored_name_len(g), forget_ended_cb,
                                     &e);
        s->handler->changed(s->ctx);
    }
    free(e.client);
}

/* Whether it was there. */
static bool remove_away(struct share_group *g, uint64_t client)
{
    size_t before = g->aways;
    for (size_t i = 0; i < g->aways; i++)
        if (g->away[i].client == client)
            g->away[i--] = g->away[--g->aways];
    return g->aways < before;
}

/* Whether its time is over, although the engine has not removed it yet. */
static bool is_over(const struct engine_session *stored)
{
    return stored->disconnected_ms && stored->expiry_s != ENGINE_EXPIRY_NEVER &&
           stored->disconnected_ms + stored->expiry_s * UINT64_C(1000) <= clock_wall_ms();
}

/* Takes over what is stored. */
static void load_cb(void *ctx, const struct engine_session_view *v)
{
    struct share_group *g = ctx;
    g->is_stored = !is_over(&v->session);
    if (!g->is_stored)
        return;
    g->position = v->session.cursor;
    g->expiry_s = v->session.expiry_s;
    for (size_t i = 0; i < v->progress.outs; i++)
        share_group_again(g, v->progress.out[i].seq, v->progress.out[i].packet_id);
    for (size_t i = 0; i < v->subscription_count; i++)
        add_away(g, hash_bytes(v->subscriptions[i].filter, v->subscriptions[i].len),
                 v->subscriptions[i].identifier);
}

/* ---- making and ending ---- */

static void free_group(struct hub_shares *s, struct share_group *g)
{
    uint32_t id = share_group_id(s, g);
    hash_index_remove(s->group_index, hash_bytes(g->filter, g->len), id);
    free(g->filter - 1);
    free(g->members);
    free(g->again);
    free(g->away);
    pool_release(s->groups, id);
}

/* What is in memory of it alone. */
static struct share_group *new_group(struct hub_shares *s, const char *filter, size_t len, size_t inner)
{
    uint32_t id = pool_alloc(s->groups);
    if (!id)
        return NULL;
    struct share_group *g = share_group(s, id);
    char *name = xmalloc(len + 1);
    name[0] = (char)0xFF;
    memcpy(name + 1, filter, len);
    *g = (struct share_group){.filter = name + 1, .len = (uint16_t)len, .inner = (uint16_t)inner};
    hash_index_insert(s->group_index, hash_bytes(filter, len), id);
    return g;
}

/* The group hears of messages from now on. False: no room in the tree. */
static bool wake(struct hub_shares *s, struct share_group *g)
{
    if (topic_tree_subscribe(s->tree, &g->subs, share_group_id(s, g), g->filter + g->inner,
                             (size_t)(g->len - g->inner), 0) == SUBSCRIBE_NO_ROOM)
        return false;
    if (!g->is_stored) {
        g->position = s->newest;
        g->agains = g->aways = 0;
        g->expiry_s = 0;
    }
    g->behind = g->position < s->newest;
    return true;
}

struct share_group *share_group_open(struct hub_shares *s, const char *filter, size_t len)
{
    size_t inner = mqtt_topic_share_filter(filter, len);
    struct share_group *g = share_group_find(s, filter, len);
    if (g && g->count)
        return g;
    if (!g) {
        if (!inner || len > UINT16_MAX || !mqtt_topic_filter_valid(filter + inner, len - inner) ||
            !(g = new_group(s, filter, len, inner)))
            return NULL;
        s->settings.ops->session_get(s->settings.reader, stored_name(g), stored_name_len(g), load_cb, g);
    }
    if (!wake(s, g)) {
        if (!g->closing)
            free_group(s, g);
        return NULL;
    }
    return g;
}

void share_group_joined(struct hub_shares *s, struct share_group *g, const char *client_id, size_t len,
                        uint32_t expiry_s)
{
    (void)remove_away(g, hash_bytes(client_id, len));
    if (g->count == 1 || expiry_s > g->expiry_s)
        put(s, g, 0, expiry_s > g->expiry_s ? expiry_s : g->expiry_s);
    if (expiry_s) {
        struct engine_subscription sub = {.filter = client_id, .len = (uint16_t)len, .identifier = expiry_s};
        s->settings.ops->subscribe(s->settings.engine, stored_name(g), stored_name_len(g), &sub);
        s->handler->changed(s->ctx);
    }
    share_read_on(s, g);
}

/* How long the one of its sleeping members that waits longest still does; 0: there is none. */
static uint32_t longest_wait_s(const struct share_group *g)
{
    uint64_t now = clock_wall_ms(), longest = now;
    for (size_t i = 0; i < g->aways; i++)
        if (g->away[i].end_ms > longest)
            longest = g->away[i].end_ms;
    uint64_t seconds = (longest - now + 999) / 1000;
    return seconds < ENGINE_EXPIRY_NEVER ? (uint32_t)seconds : ENGINE_EXPIRY_NEVER;
}

/* Nobody is there: the group waits for those that sleep, or ends. */
static void put_to_sleep(struct hub_shares *s, struct share_group *g)
{
    uint32_t longest = longest_wait_s(g);
    share_read_stop(s, g);
    g->position = position_of(s, g);
    g->behind = true;
    if (longest) {
        share_group_store(s, g);
        put(s, g, clock_wall_ms(), longest);
    } else {
        s->settings.ops->session_remove(s->settings.engine, stored_name(g), stored_name_len(g));
        s->stored -= g->is_stored;
        g->is_stored = g->dirty = false;
        s->handler->changed(s->ctx);
    }
    topic_tree_unsubscribe_all(s->tree, &g->subs);
    g->closing++;
    s->handler->settle_later(s->ctx, share_group_id(s, g));
}

void share_group_left(struct hub_shares *s, struct share_group *g, const char *client_id, size_t len,
                      bool was_stored, uint32_t expiry_s)
{
    if (expiry_s) {
        if (g->aways == g->away_room)
            forget_ended(s, g);
        add_away(g, hash_bytes(client_id, len), expiry_s);
    } else if (was_stored) {
        s->settings.ops->unsubscribe(s->settings.engine, stored_name(g), stored_name_len(g), client_id, len);
        s->handler->changed(s->ctx);
    }
    if (g->count == 0)
        put_to_sleep(s, g);
    else
        share_read_on(s, g);
}

/* A group that sleeps, to be changed and put back; NULL: there is none. */
static struct share_group *asleep(struct hub_shares *s, const char *filter, size_t len)
{
    size_t inner = mqtt_topic_share_filter(filter, len);
    struct share_group *g = inner && len <= UINT16_MAX ? new_group(s, filter, len, inner) : NULL;
    if (!g)
        return NULL;
    s->settings.ops->session_get(s->settings.reader, stored_name(g), stored_name_len(g), load_cb, g);
    g->behind = true;
    if (g->is_stored)
        return g;
    free_group(s, g);
    return NULL;
}

void hub_shares_member_ended(struct hub_shares *s, const char *filter, size_t filter_len,
                             const char *client_id, size_t len)
{
    struct share_group *g = share_group_find(s, filter, filter_len);
    bool was_awake = g != NULL;
    if (!g)
        g = asleep(s, filter, filter_len);
    if (!g)
        return;
    if (remove_away(g, hash_bytes(client_id, len))) {
        s->settings.ops->unsubscribe(s->settings.engine, stored_name(g), stored_name_len(g), client_id, len);
        s->handler->changed(s->ctx);
        if (g->count == 0)
            put_to_sleep(s, g);
    } else if (!was_awake) {
        free_group(s, g);
    }
}

void hub_shares_settled(struct hub_shares *s, uint32_t group)
{
    struct share_group *g = share_group(s, group);
    CHECK(g->closing > 0);
    if (--g->closing == 0 && g->count == 0)
        free_group(s, g);
}

/* ---- what is to be given again ---- */

void share_group_again(struct share_group *g, uint64_t seq, uint16_t client)
{
    if (g->agains == g->again_room) {
        g->again_room = g->again_room ? g->again_room * 2 : 16;
        g->again = xrealloc(g->again, g->again_room * sizeof *g->again);
    }
    g->unsorted |= g->agains && g->again[g->agains - 1].seq > seq;
    g->again[g->agains++] = (struct share_again){.seq = seq, .client = client};
    g->dirty = true;
}

bool share_group_forget(struct share_group *g, uint64_t seq)
{
    for (size_t i = 0; i < g->agains; i++)
        if (g->again[i].seq == seq) {
            memmove(&g->again[i], &g->again[i + 1], (g->agains - i - 1) * sizeof *g->again);
            g->agains--;
            g->dirty = true;
            return true;
        }
    return false;
}

/* ---- groups that an earlier hub has left ---- */

struct share_walk {
    struct event *next_turn;
    char *after;
    size_t after_len;
    uint64_t found;
};

static void end_walk(struct hub_shares *s)
{
    if (!s->walk)
        return;
    event_free(s->walk->next_turn);
    free(s->walk->after);
    free(s->walk);
    s->walk = NULL;
}

/* A group that is stored as if it had members, and has none, is put away. */
static void put_away(struct hub_shares *s, const struct engine_session_view *v)
{
    struct engine_session stored = v->session;
    stored.disconnected_ms = clock_wall_ms();
    if (stored.expiry_s)
        s->settings.ops->session_put(s->settings.engine, v->client_id, v->client_id_len, &stored);
    else
        s->settings.ops->session_remove(s->settings.engine, v->client_id, v->client_id_len);
    s->handler->changed(s->ctx);
}

/* Those in memory were counted when they were made. */
static bool walk_cb(void *ctx, const struct engine_session_view *v)
{
    struct hub_shares *s = ctx;
    struct share_walk *w = s->walk;
    w->after = xrealloc(w->after, v->client_id_len);
    memcpy(w->after, v->client_id, v->client_id_len);
    w->after_len = v->client_id_len;
    if (!hub_is_share_name(v->client_id, v->client_id_len))
        return true;
    if (!share_group_find(s, v->client_id + 1, v->client_id_len - 1)) {
        bool ends = v->session.disconnected_ms == 0 && v->session.expiry_s == 0;
        if (v->session.disconnected_ms == 0)
            put_away(s, v);
        s->stored += !ends;
    }
    return true;
}

static void walk_on_cb(evutil_socket_t fd, short what, void *arg)
{
    static const struct timeval at_once = {0, 0};
    struct hub_shares *s = CHECK_CAST(arg, struct hub_shares, HUB_SHARES_MAGIC);
    struct share_walk *w = s->walk;
    (void)fd, (void)what;
    size_t n = s->settings.ops->session_walk(s->settings.reader, w->after, w->after_len, GROUPS_PER_TURN,
                                             walk_cb, s);
    if (n < GROUPS_PER_TURN)
        end_walk(s);
    else
        CHECK(evtimer_add(w->next_turn, &at_once) == 0);
}

/* Their names begin with the greatest byte, so they are the last ones. */
void hub_shares_complete(struct hub_shares *s)
{
    end_walk(s);
    s->stored = pool_count(s->groups);
    s->walk = xcalloc(1, sizeof *s->walk);
    s->walk->after = xstrdup("\xFE");
    s->walk->after_len = 1;
    s->walk->next_turn = evtimer_new(s->base, walk_on_cb, s);
    CHECK(s->walk->next_turn);
    walk_on_cb(-1, 0, s);
}

void hub_shares_expired(struct hub_shares *s) { s->stored -= s->stored > 0; }

uint64_t hub_shares_stored(const struct hub_shares *s) { return s->stored; }

/* ---- begin and end ---- */

void share_groups_setup(struct hub_shares *s)
{
    s->tree = topic_tree_new(MAX_GROUPS);
    s->groups = pool_new("share_groups", sizeof(struct share_group), MAX_GROUPS);
    s->group_index = hash_index_new(&group_ops, s, MAX_GROUPS);
}

void share_groups_free(struct hub_shares *s)
{
    end_walk(s);
    for (uint32_t id = 0; (id = pool_next(s->groups, id));) {
        struct share_group *g = share_group(s, id);
        if (g->dirty && g->count)
            share_group_store(s, g);
        topic_tree_unsubscribe_all(s->tree, &g->subs);
        free_group(s, g);
    }
    hash_index_free(s->group_index);
    pool_free(s->groups);
    topic_tree_free(s->tree);
}
