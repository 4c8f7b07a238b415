/*
 * What is in flight between the gateway and one client: messages of QoS 1 and 2 that were sent and are not
 * done with, and the publishes of the client that are not. Inside the session layer only.
 *
 * A session has a window only while there is something to say in it. Without one, everything is
 * acknowledged up to what the fan-out has settled.
 *
 * The packet identifier of an outgoing message follows from its sequence number. So all clients get the same
 * bytes, a number that was given out is known again after a crash without having been stored, and no table of
 * identifiers is needed. Two messages in flight with one identifier, 65,535 numbers apart, cannot be: the
 * later one waits for the earlier one.
 *
 * A client that cannot take more is *behind*: what comes is not queued for it, but read from the log as soon
 * as there is room again (catch_up.c). `read` is the position from which.
 */
#ifndef HOLDFAST_SESSION_WINDOW_H
#define HOLDFAST_SESSION_WINDOW_H

#include "gateway/engine/engine_store.h"
#include "gateway/session/incoming.h"
#include "gateway/session/session_internal.h"

/* A message beyond the cursor. 16 bytes. */
struct inflight {
    uint64_t seq;
    uint32_t next;
    uint8_t state; /* enum engine_inflight_state */
    uint8_t qos;
    uint8_t flags; /* INFLIGHT_ */
    uint8_t unused;
};
enum {
    INFLIGHT_AGAIN = 1,  /* sent on an earlier connection: to be sent again with DUP */
    INFLIGHT_ASIDE = 2,  /* a retained or shared message: says nothing about the cursor */
    INFLIGHT_SHARED = 4, /* the hub waits to hear of it (shares.c) */
    INFLIGHT_UNSTORED =
        8,               /* QoS 2, done, but stored as not done: its packet identifier is taken until it is */
    INFLIGHT_TOLD = 16,  /* and the hub has been told */
    INFLIGHT_DUP = 32,   /* a shared message that this client may have been sent on an earlier connection */
    INFLIGHT_UNSURE = 64 /* a retained message that may have been sent before, if its number is among those of
                            which that is not known (catch_up_unsure()) */
};

enum {
    WINDOW_BEHIND = 1,    /* reads from the log after `read` */
    WINDOW_DIRTY = 2,     /* the stored cursor is not what it could be */
    WINDOW_QUEUED = 4,    /* in the queue of those to be looked after (catch_up.c) */
    WINDOW_STALLED = 32,  /* will be in it in a moment */
    WINDOW_STORING = 64,  /* a progress with which entries are told is under way */
    WINDOW_HELD = 8,      /* its connection's input is held until publishes are answered */
    WINDOW_TO_STORE = 128 /* a progress is due, and has to wait until a publish is answered */
};

struct catch_up;
struct window {
    uint64_t read;             /* kept messages up to here have been sent to it, or do not concern it */
    struct catch_up *catch_up; /* filters, a scan, retained messages to be sent; NULL: none */
    struct incoming *incoming; /* publishes of the client with QoS 2 whose PUBREL has not come */
    uint32_t first, last;      /* struct inflight, in the order of sending */
    uint16_t unacked;          /* of those in flight, the ones that count against the limit */
    uint16_t entries;          /* of the list */
    uint16_t held;             /* publishes of the client that have not been answered */
    uint16_t go_on_at;         /* with WINDOW_HELD: until they are no more than that */
    uint32_t flags;
    uint32_t session; /* whose it is */
};

static inline struct window *window_of(const struct sessions *s, const struct session *ses)
{
    return ses->window ? pool_at(s->windows, ses->window) : NULL;
}
/* The window, made if there is none; NULL: no room. */
struct window *window_need(struct sessions *s, uint32_t session);
/* Lets go of what is done with, and of the whole window if nothing needs it. */
void window_tidy(struct sessions *s, struct session *ses);
/* Frees it with all that is in it. */
void window_free(struct sessions *s, struct session *ses);

#define WINDOW_PACKET_IDS 65535u
static inline uint16_t window_packet_id(uint64_t seq) { return (uint16_t)(1 + seq % WINDOW_PACKET_IDS); }

/* Whether the client may be sent one more message of QoS 1 or 2: the in-flight window has room, and its
 * socket takes what it is sent. */
bool window_has_room(const struct sessions *s, const struct session *ses, const struct window *w);
/* The message in flight with this packet identifier / this number, or NULL. */
struct inflight *window_find(const struct sessions *s, const struct window *w, uint16_t packet_id);
/* Whether the packet identifier cannot be used now. */
bool window_is_taken(const struct sessions *s, const struct window *w, uint16_t packet_id);
/* Whether one that is done holds it until it is stored. */
bool window_waits_for_store(const struct sessions *s, const struct window *w, uint16_t packet_id);
/* The progress about to be stored says that what is done is done; and it is stored, or failed to be. */
void window_storing(struct sessions *s, struct window *w);
void window_stored(struct sessions *s, struct window *w, bool ok);
/* The first message of the log that was sent on an earlier connection and is to be sent again, or NULL. */
struct inflight *window_next_again(const struct sessions *s, const struct window *w);
/* It is sent again now, and counts. */
void window_again(struct window *w, struct inflight *i);
struct inflight *window_find_seq(const struct sessions *s, const struct window *w, uint64_t seq);
/* A retained message (any: seq 0) that was sent on an earlier connection and is to be sent again, or NULL. */
struct inflight *window_find_aside(const struct sessions *s, const struct window *w, uint64_t seq);
/* Messages with numbers below `before` that were to be sent again, out of the log or retained ones, and are
 * not to be found any more are done with. False: there were none. */
bool window_give_up(struct sessions *s, struct session *ses, bool aside, uint64_t before);
/* Notes a message that is about to be sent. NULL: no room in the pool. */
struct inflight *window_add(struct sessions *s, struct window *w, uint64_t seq, uint8_t qos, uint8_t state,
                            uint8_t flags);
/* Whether so many are done that it is time to store that. */
bool window_is_full_of_done(const struct window *w);
/* Notes that a message is acknowledged for good. */
void window_done(struct sessions *s, struct session *ses, struct inflight *i);
/* The client takes no more for now. */
void window_fall_behind(struct sessions *s, struct session *ses, struct window *w);
/* It has read all there is. */
void window_catch_up_done(struct sessions *s, struct session *ses, struct window *w, uint64_t position);

/*
 * Whether it is not known yet what became of a publish with QoS 2. Progress that is stored meanwhile would be
 * wrong either way, so of a stored session there is one such publish at a time, and no progress but that
 * which goes with it.
 */
static inline bool window_is_asking(const struct window *w)
{
    return w && incoming_count(w->incoming, INCOMING_ASKED) > 0;
}
/* The client's input is held until no more than so many of its publishes are without an answer. */
void window_hold(struct sessions *s, struct session *ses, struct window *w, uint16_t go_on_at);

/* Up to where everything is acknowledged. */
uint64_t window_cursor(const struct sessions *s, const struct session *ses);
/* The session's progress as bytes (engine/progress.h), to be freed by the caller; with_asked: as if publishes
 * that are not answered were kept. */
void *window_progress(const struct sessions *s, const struct session *ses, bool with_asked, size_t *len);
/* Takes over what was stored: fills the window of a session that is being resumed. False: no room. */
bool window_restore(struct sessions *s, uint32_t session, const struct engine_progress *p);

#endif
