/*
 * What the files about shared subscriptions have in common. hub_shares.c knows who is a member of what,
 * share_groups.c makes groups, stores them and puts them away, share_give.c gives messages to members.
 *
 *      client "a" ── member ── member          a client id of one worker, in the groups it has joined
 *         │            │         │
 *         └─ given ────┤         │             messages that it has not acknowledged, of any of its groups
 *            given ────┘         │
 *                 group "$share/x/t/#" (its members in an array: the order of the turns)
 */
#ifndef HOLDFAST_HUB_SHARES_INTERNAL_H
#define HOLDFAST_HUB_SHARES_INTERNAL_H

#include <sys/queue.h>

#include "gateway/base/hash_index.h"
#include "gateway/base/pool.h"
#include "gateway/base/strpool.h"
#include "gateway/hub/hub_shares.h"
#include "gateway/topic/topic_tree.h"

/* Messages of a group that are given and not acknowledged: what is stored with its cursor. */
#define SHARE_GROUP_WINDOW 8192

/* A message that a member has not acknowledged. 16 bytes. */
struct share_given {
    uint64_t seq;
    uint32_t member;
    uint32_t next; /* of the same client */
};

struct share_member {
    uint64_t retry_ms; /* it is not asked again before, by clock_ms(); 0: no need to wait */
    uint32_t group, client;
    uint32_t place;    /* in its group's array */
    uint32_t next;     /* of the same client */
    uint32_t expiry_s; /* of its session */
    uint8_t qos;       /* 0 or 1 */
    uint8_t given;     /* not acknowledged */
    uint8_t limit;     /* so many may be */
    uint8_t acks;      /* since the limit was last changed */
    uint8_t refusals;  /* since the last acknowledgement */
};

/* A client id that is a member of something. */
struct share_client {
    uint64_t claim;
    uint32_t name, hash_link;
    uint32_t members, given; /* lists */
    uint16_t worker;
};

/* A message that a member had and did not acknowledge. */
struct share_again {
    uint64_t seq;
    uint16_t client; /* share_client_mark() of who had it; 0: nobody has been sent it, or it is not known */
};

/* A member whose session sleeps. */
struct share_away {
    uint64_t client; /* hash of its id */
    uint64_t end_ms; /* wall clock: the session's time is over; UINT64_MAX: never */
};

/* Which list a group stands in. */
enum share_line {
    SHARE_LINE_NONE,
    SHARE_LINE_READ, /* has something to give and, perhaps, room */
    SHARE_LINE_WAIT  /* a member has no room without anything to acknowledge: it is tried again */
};

struct share_group {
    TAILQ_ENTRY(share_group) link;
    char *filter; /* the whole one */
    uint16_t len, inner;
    uint8_t line;   /* enum share_line */
    bool behind;    /* messages after `position` are read from the log, not given as they are kept */
    bool dirty;     /* there is more to store than is stored */
    bool is_stored; /* as far as was handed to the engine */
    bool unsorted;  /* `again` is */
    uint32_t hash_link;
    sub_list subs;    /* its one subscription in the tree, while it has members */
    uint32_t closing; /* settle_later() calls that are not answered: it stays until then */
    uint32_t *members, count, room, turn;
    uint32_t given; /* by all its members */
    uint32_t expiry_s;
    uint64_t position;
    struct engine_scan *scan;
    struct share_again *again; /* to be given again, before anything else */
    size_t agains, again_room;
    struct share_away *away;
    size_t aways, away_room;
};
TAILQ_HEAD(share_line_head, share_group);

#define HUB_SHARES_MAGIC 0x73687273u

struct share_walk;
struct hub_shares {
    uint32_t magic;
    struct hub_shares_settings settings;
    const struct hub_shares_handler *handler;
    void *ctx;
    struct topic_tree *tree; /* the groups' inner filters; a group's id is its session */
    struct pool *groups, *members, *clients, *given;
    struct strpool *names;
    struct hash_index *group_index, *client_index;
    struct share_line_head read, wait;
    struct event *read_event, *wait_event;
    bool *blocked; /* by worker: its channel is full */
    uint64_t newest, stored, next_store_ms;
    uint32_t window;         /* of a member */
    struct share_walk *walk; /* over what is stored, while it goes on */
    struct event_base *base;
};

static inline struct share_group *share_group(const struct hub_shares *s, uint32_t id)
{
    return pool_at(s->groups, id);
}
static inline struct share_member *share_member(const struct hub_shares *s, uint32_t id)
{
    return pool_at(s->members, id);
}
static inline struct share_client *share_client(const struct hub_shares *s, uint32_t id)
{
    return pool_at(s->clients, id);
}
static inline struct share_given *share_given(const struct hub_shares *s, uint32_t id)
{
    return pool_at(s->given, id);
}
static inline uint32_t share_group_id(const struct hub_shares *s, const struct share_group *g)
{
    return (uint32_t)(g - (const struct share_group *)pool_at(s->groups, 0));
}

/* ---- groups (share_groups.c) ---- */

void share_groups_setup(struct hub_shares *s);
void share_groups_free(struct hub_shares *s);
/* The group of this filter, made or read back if need be, for somebody who joins now; NULL: no room, or it is
 * no proper filter. */
struct share_group *share_group_open(struct hub_shares *s, const char *filter, size_t len);
struct share_group *share_group_find(const struct hub_shares *s, const char *filter, size_t len);
/* A member has joined: what is stored says so. */
void share_group_joined(struct hub_shares *s, struct share_group *g, const char *client_id, size_t len,
                        uint32_t expiry_s);
/* A member has left, and sleeps for so long (0: it is none any more). It is out of the array already. */
void share_group_left(struct hub_shares *s, struct share_group *g, const char *client_id, size_t len,
                      bool was_stored, uint32_t expiry_s);
/* What tells clients apart in what is stored with a group, by and large: two may have the same. Never 0. */
uint16_t share_client_mark(const struct hub_shares *s, uint32_t client);
/* A message is to be given again, which the client with this mark may have been sent (0: nobody). */
void share_group_again(struct share_group *g, uint64_t seq, uint16_t client);
/* Takes it out again: somebody has acknowledged it after all. */
bool share_group_forget(struct share_group *g, uint64_t seq);
/* Stores how far it has come. */
void share_group_store(struct hub_shares *s, struct share_group *g);

/* ---- giving (share_give.c) ---- */

void share_give_setup(struct hub_shares *s);
void share_give_free(struct hub_shares *s);
/* Has the group look for what it can give, in the loop's next turn. */
void share_read_on(struct hub_shares *s, struct share_group *g);
/* Takes it out of its line; it has nobody left. */
void share_read_stop(struct hub_shares *s, struct share_group *g);
/* Lets go of a message that a member has been given. */
void share_given_drop(struct hub_shares *s, uint32_t *at);

/* ---- (hub_shares.c) ---- */

/* Keeps the gauges true. */
void share_gauges(const struct hub_shares *s);

#endif
