/*
 * Fan-out: takes one message to all sessions that are to have it, in slices, so that heartbeats and new
 * connections are served in between.
 *
 * Who is to have it: subscribers of every matching filter, each session once however many of its filters
 * match; for the implicit channels the one session, or all of them. Messages of one topic are delivered in
 * the order they were started, to every session: a later message of the same topic waits until the earlier
 * one has been walked to its end. Different topics share the loop in turn. A fan-out that fits in what is
 * left of the current slice is finished at once.
 *
 * Of several subscriptions of one session that match, the first one met is delivered, with its options; an
 * implicit channel comes last and has options 0. Sessions that came after the walk over their list began are
 * left out, those that went meanwhile too.
 *
 * The frame is encoded by the owner once per protocol version and kept in the job: fanout_job.frame[].
 */
#ifndef HOLDFAST_TOPIC_FANOUT_H
#define HOLDFAST_TOPIC_FANOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/frame.h"
#include "gateway/base/message.h"
#include "gateway/topic/topic_tree.h"

struct event_base;
struct fanout;

#define FANOUT_FRAMES   2    /* MQTT 3.1.1 and 5.0 */
#define FANOUT_SLICE_US 5000 /* a slice ends early when it takes longer, by clock_us() */

struct fanout_job {
    struct message *message;
    struct frame *frame[FANOUT_FRAMES]; /* filled in by the owner at the first delivery that needs it;
                                           released with the job */
    bool frame_tried[FANOUT_FRAMES];    /* encoding was tried (a message may not be encodable) */
};

struct fanout_ops {
    /* Delivers to one session. It must not free the session at once (close is deferred), nor call into the
     * fan-out. */
    void (*deliver)(void *ctx, uint32_t session, uint8_t options, struct fanout_job *job);
    /* The next live session after `after` (0 starts), or 0: for the implicit channel of everybody. */
    uint32_t (*next_session)(void *ctx, uint32_t after);
    /* An upper bound of session ids in use, for the bitmap of who already has it. */
    uint32_t (*session_bound)(void *ctx);
    /* The session with this client id or 0: for the implicit private channel. */
    uint32_t (*find_session)(void *ctx, const char *client_id, size_t len);
    /* Whether the message is not to be delivered any more (expired); asked once per slice. May be NULL. */
    bool (*is_void)(void *ctx, const struct message *m);
};

struct fanout_settings {
    uint32_t slice;             /* deliveries per turn of the loop */
    size_t queue_limit;         /* bytes of messages waiting or in work, with their jobs; one of any size fits
                                           when there are none */
    const char *clients_prefix; /* "" : off */
    const char *broadcast_topic;
};

/* `base` may be NULL: then the owner calls fanout_step() itself. Strings in *s and ops must outlive it. */
struct fanout *fanout_new(struct event_base *base, struct topic_tree *tree, const struct fanout_ops *ops,
                          void *ctx, const struct fanout_settings *s);
void fanout_free(struct fanout *f);

/* Takes its own reference. False: the queue is full, nothing was started. */
bool fanout_start(struct fanout *f, struct message *m) __attribute__((warn_unused_result));

/* Does up to one slice of work now (the loop's timer calls it; tests too): at most `slice` deliveries, and
 * few after FANOUT_SLICE_US. True while work is left. */
bool fanout_step(struct fanout *f);

size_t fanout_pending_bytes(const struct fanout *f);
uint32_t fanout_pending_jobs(const struct fanout *f);

#endif
