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
 * Of several subscriptions of one session that match, the first one met is delivered, with its options; the
 * owner finds the others by fanout_job.topics and .implicit. An implicit channel comes last and has the
 * options of the settings. Sessions that came after the walk over their list began are left out, those that
 * went meanwhile too.
 *
 * Messages that are kept (QoS above 0) are started in the order of their numbers and are never refused; what
 * bounds them is that the owner stops reading more. fanout_settled() says how far all sessions have been
 * offered them.
 *
 * The frames are encoded by the owner, once per form in which clients are to have the message, and kept in
 * the job.
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

#define FANOUT_FRAMES   12   /* 2 versions, 3 QoS, with retain and without: fanout_frame() */
#define FANOUT_SLICE_US 5000 /* a slice ends early when it takes longer, by clock_us() */

enum fanout_implicit { FANOUT_NOBODY, FANOUT_ONE, FANOUT_EVERYBODY };

struct fanout_job {
    struct message *message;
    struct frame *frame[FANOUT_FRAMES]; /* filled in by the owner at the first delivery that needs it;
                                           released with the job */
    bool frame_tried[FANOUT_FRAMES];    /* encoding was tried (a message may not be encodable) */
    /* The topic records that match, valid during deliver(); more than one: see topic_tree_overlaps(). */
    const uint32_t *topics;
    uint32_t topic_count;
    enum fanout_implicit implicit; /* besides: who hears the topic without having subscribed */
};

/* The place in frame[] of the frame for such clients. */
static inline unsigned fanout_frame(bool is_v5, unsigned qos, bool retain)
{
    return (is_v5 * 3u + qos) * 2u + retain;
}

struct fanout_ops {
    /* Delivers to one session. It must not free the session at once (close is deferred), nor call into the
     * fan-out but for what it says about itself (fanout_settled(), fanout_head(), pending). */
    void (*deliver)(void *ctx, uint32_t session, sub_options options, struct fanout_job *job);
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
    sub_options implicit; /* options of the implicit channels */
};

/* `base` may be NULL: then the owner calls fanout_step() itself. Strings in *s and ops must outlive it. */
struct fanout *fanout_new(struct event_base *base, struct topic_tree *tree, const struct fanout_ops *ops,
                          void *ctx, const struct fanout_settings *s);
void fanout_free(struct fanout *f);

/*
 * All kept messages up to this number have been walked to their end, or came before the fan-out began; the
 * one being delivered has not.
 */
uint64_t fanout_settled(const struct fanout *f);
/* The number of the last kept message that was started, or what fanout_begin() said. */
uint64_t fanout_head(const struct fanout *f);
/* Nothing kept was started so far: the first one will come after this number. */
void fanout_begin(struct fanout *f, uint64_t head);

/* Takes its own reference. False: the queue is full, nothing was started. Never for a kept message, of which
 * one that is not above fanout_head() is ignored. */
bool fanout_start(struct fanout *f, struct message *m) __attribute__((warn_unused_result));

/* Does up to one slice of work now (the loop's timer calls it; tests too): at most `slice` deliveries, and
 * few after FANOUT_SLICE_US. True while work is left. */
bool fanout_step(struct fanout *f);

size_t fanout_pending_bytes(const struct fanout *f);
uint32_t fanout_pending_jobs(const struct fanout *f);

#endif
