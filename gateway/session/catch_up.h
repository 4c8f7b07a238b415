/*
 * What a session reads for itself: retained messages of a new subscription, and the log when it is behind.
 * Inside the session layer only.
 */
#ifndef HOLDFAST_SESSION_CATCH_UP_H
#define HOLDFAST_SESSION_CATCH_UP_H

#include "gateway/session/session_internal.h"
#include "gateway/session/window.h"

/* Puts the session in the queue of those that are looked after, in the loop's next turns. Needs a window. */
void catch_up_later(struct sessions *s, uint32_t id);
/* The same when there is something to read and room for it: after an acknowledgement, say. */
void catch_up_if_room(struct sessions *s, uint32_t id);

/* The filters with which a resumed session reads the log, and the retained messages that it has not
 * acknowledged or not been sent yet. */
void catch_up_restore(struct sessions *s, struct session *ses, const struct engine_session_view *v);
/* What a resumed session reads of messages up to this number may have been sent before. */
void catch_up_unsure(struct sessions *s, struct session *ses, uint64_t to);
/* That number, while it has not read all of them; 0: it has. */
uint64_t catch_up_unsure_to(const struct window *w);
/* A session that may be behind is about to subscribe, to messages after `since`, or has unsubscribed. */
void catch_up_subscribed(struct sessions *s, struct session *ses, const char *filter, size_t len,
                         sub_options options, uint64_t since);
void catch_up_unsubscribed(struct sessions *s, struct session *ses, const char *filter, size_t len);
/* Up to which number a stored session is owed the retained messages that match the filter of a subscription
 * to those after `since`; 0: there are none that outlive its connection. */
uint64_t catch_up_owed(struct sessions *s, uint32_t id, const char *filter, size_t len, sub_options options,
                       uint64_t since);
/* They are to be sent, from the next catch_up_if_room() on; is_owed: that is stored. False: no room. */
bool catch_up_retained(struct sessions *s, uint32_t id, const char *filter, size_t len, sub_options options,
                       uint64_t since, bool is_owed);
/* What of them is still owed, to be freed by the caller; how many in *n. Its bytes are the session's. */
struct engine_owed *catch_up_owes(const struct window *w, uint16_t *n);
void catch_up_free(struct catch_up *c);

#define CATCH_UP_BATCH 32 /* messages of one session before the next has its turn */

/* What became of a batch. */
enum outcome {
    OUTCOME_GO_ON,   /* there may be more */
    OUTCOME_STALLED, /* it waits for its socket, or for the disk */
    OUTCOME_WAIT     /* for the client, or nothing is left */
};
/* Why a session has not taken all of one. */
enum outcome catch_up_declined(const struct sessions *s, uint32_t id);

/* Makes and ends the queue. */
void catch_up_setup(struct sessions *s, struct event_base *base);
void catch_up_end(struct sessions *s);

#endif
