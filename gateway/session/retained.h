/*
 * Retained messages on their way to a session that has subscribed. Inside the session layer only; the others
 * ask for them with catch_up_retained().
 */
#ifndef HOLDFAST_SESSION_RETAINED_H
#define HOLDFAST_SESSION_RETAINED_H

#include "gateway/session/catch_up.h"

/* Filters of one session whose retained messages are being sent, the first one now. All zero: none. */
struct retained;
struct retained_list {
    struct retained *first, *last;
};

/* Those that a new subscription is to be sent, which brings what is after the number `since` by itself. With
 * log { sync = interval } what was told may be there to read a little later: they are looked up when it is.
 */
void retained_add(const struct sessions *s, struct retained_list *l, const char *filter, size_t len,
                  sub_options options, uint64_t since, bool is_owed);
/* Only those that the client was sent before and has not acknowledged; to be added before all others. */
void retained_add_again(struct retained_list *l, const char *filter, size_t len, sub_options options);
/* What was left when the connection before this one ended. */
void retained_add_owed(struct retained_list *l, const struct engine_owed *o, sub_options options);
/* Whether the first filter's have been sent before. There is one. */
bool retained_is_again(const struct retained_list *l);
/*
 * Up to which number the session is to be sent the retained messages that match, should its connection end
 * before it has them all; 0: there are none of QoS 1 or 2. Looks at the first few topics only: whatever lies
 * behind those counts as a match.
 */
uint64_t retained_owed(struct sessions *s, uint32_t id, const char *filter, size_t len, sub_options options,
                       uint64_t since);
/* How much of that is left, in an array to be freed by the caller (NULL: nothing); its bytes are the list's.
 */
struct engine_owed *retained_owes(const struct retained_list *l, uint16_t *n);
/* Nothing more is to be sent for this filter ([MQTT-3.10.4-2]), but what was begun. */
void retained_forget(struct retained_list *l, const char *filter, size_t len);
void retained_free(struct retained_list *l);

/* Sends a batch of the first filter's, of which there is one. */
enum outcome retained_read(struct sessions *s, uint32_t id, struct retained_list *l);

#endif
