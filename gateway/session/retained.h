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
                  sub_options options, uint64_t since);
/* Only those that the client was sent before and has not acknowledged. */
void retained_add_again(struct retained_list *l, const char *filter, size_t len, sub_options options);
/* Nothing more is to be sent for this filter ([MQTT-3.10.4-2]), but what was begun. */
void retained_forget(struct retained_list *l, const char *filter, size_t len);
void retained_free(struct retained_list *l);

/* Sends a batch of the first filter's, of which there is one. */
enum outcome retained_read(struct sessions *s, uint32_t id, struct retained_list *l);

#endif
