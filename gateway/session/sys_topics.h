/*
 * The gateway's own topics, "$SYS/...": the newest message of each, for clients that subscribe later. Inside
 * the session layer only; what comes from the hub goes to sessions_told() (session.h).
 */
#ifndef HOLDFAST_SESSION_SYS_TOPICS_H
#define HOLDFAST_SESSION_SYS_TOPICS_H

#include "gateway/session/session_internal.h"

/* Topics beyond that are delivered and not held. */
#define SYS_TOPICS_MAX 128

void sys_topics_hold(struct sessions *s, struct message *m);
/* Whether a filter can match such topics; wildcards at the first level do not ([MQTT-4.7.2-1]). */
bool sys_topics_concern(const char *filter, size_t len);
/* The first message from place *at on whose topic matches, and its place; NULL: there is none. A topic keeps
 * its place. */
const struct message *sys_topics_next(const struct sessions *s, unsigned *at, const char *filter, size_t len);
void sys_topics_free(struct sessions *s);

#endif
