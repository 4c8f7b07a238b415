/*
 * Shared subscriptions (MQTT 5.0 section 4.8.2): of all members of a group, in whatever worker, one gets each
 * message. The hub chooses: in turn, among those that have room.
 *
 * A group is named by its whole filter, "$share/name/filter". Messages that are kept are given to its members
 * from where the group stands, and wait while no member has room; so a group is stored by the engine like a
 * session that is nobody's, under a client id that no client can have. A message that a member had not
 * acknowledged when it left is given to another one, before newer ones.
 */
#ifndef HOLDFAST_HUB_SHARES_H
#define HOLDFAST_HUB_SHARES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/message.h"
#include "gateway/engine/engine.h"
#include "gateway/ipc/ipc_message.h"

struct event_base;
struct hub_shares;

/* Messages that a member may have and not have acknowledged, at the most. */
#define HUB_SHARE_WINDOW 32

struct hub_shares_settings {
    const struct engine_ops *ops;
    struct engine *engine;
    struct engine_reader *reader;
    unsigned workers;
    uint32_t max_inflight;       /* lowers HUB_SHARE_WINDOW */
    uint32_t cursor_interval_ms; /* how often it is stored how far the groups have come */
    uint64_t newest;             /* the newest number that was kept before */
};

/* What the owner does for the groups. */
struct hub_shares_handler {
    /* Sends to a worker; false: its channel is full, hub_shares_drained() follows, or it is not there. */
    bool (*send)(void *ctx, uint16_t worker, const struct ipc_message *m);
    /* Something was handed to the engine: it is to be committed soon. */
    void (*changed)(void *ctx);
    /* hub_shares_settled() is to be called with this when everything handed to the engine so far is done. */
    void (*settle_later)(void *ctx, uint32_t group);
};

struct hub_shares *hub_shares_new(struct event_base *base, const struct hub_shares_settings *settings,
                                  const struct hub_shares_handler *handler, void *ctx);
/* Stores how far the groups have come; the engine is still open. */
void hub_shares_free(struct hub_shares *s);

/* SHARE_JOIN, SHARE_LEAVE, SHARE_DONE of a worker. */
void hub_shares_join(struct hub_shares *s, uint16_t worker, const struct ipc_message *m);
void hub_shares_leave(struct hub_shares *s, uint16_t worker, const struct ipc_message *m);
void hub_shares_done(struct hub_shares *s, uint16_t worker, const struct ipc_message *m);
/* The session with this claim has lost its connection, and will be stored for so long (0: it has ended). */
void hub_shares_client_gone(struct hub_shares *s, uint16_t worker, uint64_t claim, const char *client_id,
                            size_t len, uint32_t expiry_s);
/* A stored session that had this filter has been removed, whether it slept or its client was just there. */
void hub_shares_member_ended(struct hub_shares *s, const char *filter, size_t filter_len,
                             const char *client_id, size_t len);
/* The worker's channel is gone, or it is about to tell all its members again. */
void hub_shares_worker_lost(struct hub_shares *s, uint16_t worker);
/* The worker's channel takes more again. */
void hub_shares_drained(struct hub_shares *s, uint16_t worker);
/* All members there are have been told: groups that are stored as if they had some and have none are put
 * away. */
void hub_shares_complete(struct hub_shares *s);
void hub_shares_settled(struct hub_shares *s, uint32_t group);

/* A message with QoS 0, numbered. */
void hub_shares_publish(struct hub_shares *s, const struct message_parts *m);
/* A message was kept; in the order of their numbers. */
void hub_shares_kept(struct hub_shares *s, const struct message_parts *m);

/* To be called often, a second or less: progress, members to be tried again. */
void hub_shares_tick(struct hub_shares *s);

/* Whether a client id is that of a stored group. */
static inline bool hub_is_share_name(const char *client_id, size_t len)
{
    return len > 0 && (unsigned char)client_id[0] == 0xFF; /* never in UTF-8 */
}
/* The engine has removed a stored group whose time was over. */
void hub_shares_expired(struct hub_shares *s);
/* How many are stored, with and without members. */
uint64_t hub_shares_stored(const struct hub_shares *s);

#endif
