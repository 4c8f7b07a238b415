/*
 * Members of shared subscriptions (MQTT 5.0 section 4.8.2). Inside the session layer only.
 *
 * The hub has the groups: it chooses a member for each message, waits for its acknowledgement, and gives the
 * message to another one when the member leaves. The worker says who is a member, sends what it is given, and
 * passes the acknowledgements on. The subscription itself is in the topic tree like any other, under its
 * whole filter, which no topic ever matches. It is granted QoS 1 at the most, so that a message that was
 * begun with one member can be finished with another.
 */
#ifndef HOLDFAST_SESSION_SHARES_H
#define HOLDFAST_SESSION_SHARES_H

#include "gateway/session/session_internal.h"

#define SHARE_MAX_QOS 1

void share_join(struct sessions *s, uint32_t id, const char *filter, size_t len, sub_options options);
void share_leave(struct sessions *s, uint32_t id, const char *filter, size_t len);
/* The member of all its groups that a resumed session is. */
void share_join_all(struct sessions *s, uint32_t id);
/* The client has acknowledged a shared message. */
void share_done(struct sessions *s, uint32_t id, uint64_t seq);

#endif
