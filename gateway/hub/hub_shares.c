/*
 * Who is a member of which shared subscription, as the workers tell it: fed by SHARE_JOIN, SHARE_LEAVE and
 * SHARE_DONE, by sessions that end and workers that are lost. What follows for the group is share_groups.c's
 * and share_give.c's business: here a member comes, takes less or more, and goes, and what it had not
 * acknowledged goes back to its group.
 *
 * It is in memory only: the workers tell all members again to a new hub. Of two claims to one client id the
 * newer one counts, as in the registry.
 */
#include "gateway/hub/hub_shares.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/hash.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"
#include "gateway/hub/hub_shares_internal.h"

#define MAX_MEMBERS   (1u << 22)
#define MAX_GIVEN     (1u << 24)
#define RETRY_MS      100 /* after a member with nothing to acknowledge has refused; doubles */
#define RETRY_DOUBLES 5
#define ACKS_PER_STEP 8 /* after so many without a refusal a member gets one message more at once */

LOG_EVENT_ONCE_A_SECOND(refused_event, "share_not_joined", LOG_LEVEL_WARNING);

void share_gauges(const struct hub_shares *s)
{
    counter_set(COUNTER_SHARE_GROUPS, topic_tree_subscriptions(s->tree));
    counter_set(COUNTER_SHARE_MEMBERS, pool_count(s->members));
    counter_set(COUNTER_SHARE_GIVEN, pool_count(s->given));
}

/* ---- clients by their ids ---- */

static uint32_t *client_link(void *ctx, uint32_t record) { return &share_client(ctx, record)->hash_link; }

static uint64_t client_hash(void *ctx, uint32_t record)
{
    const struct hub_shares *s = ctx;
    size_t len;
    const char *id = strpool_get(s->names, share_client(s, record)->name, &len);
    return hash_bytes(id, len);
}

static bool client_equals(void *ctx, uint32_t record, const void *key, size_t len)
{
    const struct hub_shares *s = ctx;
    return strpool_equals(s->names, share_client(s, record)->name, key, len);
}

static const struct hash_index_ops client_ops = {
    .link = client_link, .hash = client_hash, .equals = client_equals};

static uint32_t find_client(const struct hub_shares *s, const char *id, size_t len)
{
    return hash_index_find(s->client_index, hash_bytes(id, len), id, len);
}

/* The client if it is this worker's, with this claim; else 0. */
static uint32_t speaker(const struct hub_shares *s, uint16_t worker, uint64_t claim, const char *id,
                        size_t len)
{
    uint32_t c = find_client(s, id, len);
    return c && share_client(s, c)->worker == worker && share_client(s, c)->claim == claim ? c : 0;
}

static uint32_t new_client(struct hub_shares *s, uint16_t worker, uint64_t claim, const char *id, size_t len)
{
    uint32_t c = pool_alloc(s->clients);
    uint32_t name = c ? strpool_put(s->names, id, len) : 0;
    if (c && !name)
        pool_release(s->clients, c);
    if (!name)
        return 0;
    *share_client(s, c) = (struct share_client){.claim = claim, .name = name, .worker = worker};
    hash_index_insert(s->client_index, hash_bytes(id, len), c);
    return c;
}

static void free_client(struct hub_shares *s, uint32_t c)
{
    hash_index_remove(s->client_index, client_hash(s, c), c);
    strpool_release(s->names, share_client(s, c)->name);
    pool_release(s->clients, c);
}

/* ---- members ---- */

/* Gives back what the member had not acknowledged. */
static void take_back(struct hub_shares *s, uint32_t member)
{
    const struct share_member *m = share_member(s, member);
    struct share_group *g = share_group(s, m->group);
    uint16_t mark = share_client_mark(s, m->client);
    for (uint32_t *at = &share_client(s, m->client)->given; *at && m->given;) {
        const struct share_given *given = share_given(s, *at);
        if (given->member != member) {
            at = &share_given(s, *at)->next;
            continue;
        }
        share_group_again(g, given->seq, mark);
        share_given_drop(s, at);
    }
}

/* Takes a member out of its group's array; the last one moves to its place. */
static void take_out(struct hub_shares *s, struct share_group *g, const struct share_member *m)
{
    uint32_t last = g->members[--g->count];
    g->members[m->place] = last;
    share_member(s, last)->place = m->place;
    if (g->turn >= g->count)
        g->turn = 0;
}

/* The member behind *at (its client's list) leaves, to sleep for so long; 0: for good. */
static void drop_member(struct hub_shares *s, uint32_t *at, uint32_t expiry_s)
{
    uint32_t member = *at;
    const struct share_member *m = share_member(s, member);
    struct share_group *g = share_group(s, m->group);
    bool was_stored = m->expiry_s > 0;
    size_t len;
    const char *id = strpool_get(s->names, share_client(s, m->client)->name, &len);
    take_back(s, member);
    take_out(s, g, m);
    *at = m->next;
    pool_release(s->members, member);
    share_group_left(s, g, id, len, was_stored, expiry_s);
}

/* All of a client's memberships end. expiry_s NULL: it sleeps as long as it said when it joined. */
static void drop_client(struct hub_shares *s, uint32_t c, const uint32_t *expiry_s)
{
    struct share_client *client = share_client(s, c);
    while (client->members)
        drop_member(s, &client->members, expiry_s ? *expiry_s : share_member(s, client->members)->expiry_s);
    free_client(s, c);
    share_gauges(s);
}

/* Where the client's membership in this group stands in its list; *it is 0 when there is none. */
static uint32_t *find_member(struct hub_shares *s, uint32_t c, const struct share_group *g)
{
    uint32_t *at = &share_client(s, c)->members, group = share_group_id(s, g);
    while (*at && share_member(s, *at)->group != group)
        at = &share_member(s, *at)->next;
    return at;
}

/* Makes the client a member. False: no room. */
static bool add_member(struct hub_shares *s, uint32_t c, struct share_group *g)
{
    uint32_t member = pool_alloc(s->members);
    if (!member)
        return false;
    if (g->count == g->room) {
        g->room = g->room ? g->room * 2 : 4;
        g->members = xrealloc(g->members, g->room * sizeof *g->members);
    }
    *share_member(s, member) = (struct share_member){.group = share_group_id(s, g),
                                                     .client = c,
                                                     .place = g->count,
                                                     .next = share_client(s, c)->members,
                                                     .limit = (uint8_t)s->window};
    share_client(s, c)->members = member;
    g->members[g->count++] = member;
    return true;
}

/* The client that joins: a newer claim than the one that is known takes the older one's place. 0: it is not
 * to be, or there is no room. */
static uint32_t joining_client(struct hub_shares *s, uint16_t worker, uint64_t claim,
                               const struct ipc_bytes *id)
{
    uint32_t c = find_client(s, id->data, id->len);
    if (c && (share_client(s, c)->worker != worker || share_client(s, c)->claim != claim)) {
        if (claim < share_client(s, c)->claim)
            return 0;
        drop_client(s, c, NULL);
        c = 0;
    }
    return c ? c : new_client(s, worker, claim, id->data, id->len);
}

void hub_shares_join(struct hub_shares *s, uint16_t worker, const struct ipc_message *m)
{
    const struct ipc_bytes *id = &m->field[3].bytes, *filter = &m->field[4].bytes;
    uint32_t expiry_s = (uint32_t)m->field[2].num;
    uint32_t c = joining_client(s, worker, m->field[0].num, id);
    struct share_group *g = c ? share_group_open(s, filter->data, filter->len) : NULL;
    uint32_t *at = g ? find_member(s, c, g) : NULL;
    if (!g || (!*at && !add_member(s, c, g))) {
        LOG(refused_event, LOG_BYTES("client_id", id->data, id->len),
            LOG_BYTES("filter", filter->data, filter->len));
        if (c && !share_client(s, c)->members)
            free_client(s, c);
        return;
    }
    struct share_member *member = share_member(s, *find_member(s, c, g));
    member->qos = (m->field[1].num & SUB_QOS) != 0;
    member->expiry_s = expiry_s;
    share_group_joined(s, g, id->data, id->len, expiry_s);
    share_gauges(s);
}

void hub_shares_leave(struct hub_shares *s, uint16_t worker, const struct ipc_message *m)
{
    const struct ipc_bytes *id = &m->field[1].bytes, *filter = &m->field[2].bytes;
    uint32_t c = speaker(s, worker, m->field[0].num, id->data, id->len);
    const struct share_group *g = share_group_find(s, filter->data, filter->len);
    uint32_t *at = c && g ? find_member(s, c, g) : NULL;
    if (!at || !*at)
        return;
    drop_member(s, at, 0);
    if (!share_client(s, c)->members)
        free_client(s, c);
    share_gauges(s);
}

void hub_shares_client_gone(struct hub_shares *s, uint16_t worker, uint64_t claim, const char *client_id,
                            size_t len, uint32_t expiry_s)
{
    uint32_t c = pool_count(s->clients) ? speaker(s, worker, claim, client_id, len) : 0;
    if (c)
        drop_client(s, c, &expiry_s);
}

void hub_shares_worker_lost(struct hub_shares *s, uint16_t worker)
{
    s->blocked[worker] = false;
    for (uint32_t c = 0; (c = pool_next(s->clients, c));)
        if (share_client(s, c)->worker == worker)
            drop_client(s, c, NULL);
}

/* ---- acknowledgements ---- */

/* The member has done with a message: it may have more. */
static void accepted(const struct hub_shares *s, struct share_member *m)
{
    m->retry_ms = 0;
    m->refusals = 0;
    if (++m->acks < ACKS_PER_STEP)
        return;
    m->acks = 0;
    if (m->limit < s->window)
        m->limit++;
}

/* It could not take one: what it has is all it takes for now, and if that is nothing, time must pass. */
static void refused(struct share_member *m)
{
    m->acks = 0;
    m->limit = m->given ? m->given : 1;
    if (m->given)
        return;
    m->retry_ms = clock_ms() + ((uint64_t)RETRY_MS << m->refusals);
    if (m->refusals < RETRY_DOUBLES)
        m->refusals++;
}

/* A message that its group has taken back from somebody, and the client has acknowledged after all. */
static void forget(struct hub_shares *s, uint32_t c, uint64_t seq)
{
    for (uint32_t m = share_client(s, c)->members; m; m = share_member(s, m)->next)
        if (share_group_forget(share_group(s, share_member(s, m)->group), seq))
            return;
}

void hub_shares_done(struct hub_shares *s, uint16_t worker, const struct ipc_message *m)
{
    const struct ipc_bytes *id = &m->field[3].bytes;
    uint64_t seq = m->field[0].num;
    bool acknowledged = m->field[2].num != 0;
    uint32_t c = speaker(s, worker, m->field[1].num, id->data, id->len);
    if (!c)
        return;
    uint32_t *at = &share_client(s, c)->given;
    while (*at && share_given(s, *at)->seq != seq)
        at = &share_given(s, *at)->next;
    if (!*at) {
        if (acknowledged)
            forget(s, c, seq);
        return;
    }
    struct share_member *member = share_member(s, share_given(s, *at)->member);
    struct share_group *g = share_group(s, member->group);
    share_given_drop(s, at);
    if (acknowledged) {
        accepted(s, member);
    } else {
        share_group_again(g, seq, 0); /* it was not sent */
        refused(member);
    }
    counter_set(COUNTER_SHARE_GIVEN, pool_count(s->given));
    for (uint32_t each = share_client(s, c)->members; each; each = share_member(s, each)->next)
        share_read_on(s, share_group(s, share_member(s, each)->group));
}

/* ---- begin and end ---- */

struct hub_shares *hub_shares_new(struct event_base *base, const struct hub_shares_settings *settings,
                                  const struct hub_shares_handler *handler, void *ctx)
{
    struct hub_shares *s = xcalloc(1, sizeof *s);
    s->magic = HUB_SHARES_MAGIC;
    s->base = base;
    s->settings = *settings;
    s->handler = handler;
    s->ctx = ctx;
    s->newest = settings->newest;
    s->window = settings->max_inflight < HUB_SHARE_WINDOW ? settings->max_inflight : HUB_SHARE_WINDOW;
    s->blocked = xcalloc(settings->workers, sizeof *s->blocked);
    s->members = pool_new("share_members", sizeof(struct share_member), MAX_MEMBERS);
    s->clients = pool_new("share_clients", sizeof(struct share_client), MAX_MEMBERS);
    s->given = pool_new("share_given", sizeof(struct share_given), MAX_GIVEN);
    s->names = strpool_new("share_ids", MAX_MEMBERS);
    s->client_index = hash_index_new(&client_ops, s, MAX_MEMBERS);
    share_groups_setup(s);
    share_give_setup(s);
    return s;
}

void hub_shares_free(struct hub_shares *s)
{
    share_give_free(s);
    share_groups_free(s);
    hash_index_free(s->client_index);
    strpool_free(s->names);
    pool_free(s->given);
    pool_free(s->clients);
    pool_free(s->members);
    free(s->blocked);
    s->magic = 0;
    free(s);
}
