/*
 * For tests of sessions with a log: the sessions, topic tree, fan-out and engine are the real ones, in one
 * process and on a fake clock. What stands between them elsewhere, the link to the hub and the hub, is played
 * here: requests are taken into a queue, applied to the engine in order, committed, and then the kept
 * messages are fanned out and the requests answered. Switches hold each of these steps back, let publishes be
 * refused, or let the worker die.
 *
 * session_rig.c is the worker and its link, session_rig_hub.c the hub, session_peer.h the clients.
 */
#ifndef HOLDFAST_TESTS_SESSION_RIG_H
#define HOLDFAST_TESTS_SESSION_RIG_H

#include <stdio.h>

#include "gateway/base/clock.h"
#include "gateway/base/options.h"
#include "gateway/engine/engine.h"
#include "gateway/ipc/ipc_message.h"
#include "gateway/session/session.h"
#include "tests/unit/loop_client.h"

#define RIG_CLAIMS 64
#define RIG_WILLS  8

/* Something on its way to the hub: a request, or a message that begins or ends a session. */
struct rig_item {
    struct rig_item *next;
    struct session_cookie cookie;
    size_t len;
    unsigned char bytes[];
};

/* An answer on its way back. */
struct rig_answer {
    struct rig_answer *next;
    struct session_cookie cookie;
    int result;
};

/* A kept message, from its commit until the fan-out has it. */
struct rig_kept {
    struct rig_kept *next;
    struct message *message;
};

/* OPEN, until it is answered. */
struct rig_opened {
    struct rig_opened *next;
    char id[64];
    uint64_t claim;
    bool clean, present;
    uint8_t code;
    uint32_t expiry_s;
};

struct rig {
    struct event_base *base;
    struct config config;
    const struct engine_ops *ops;
    struct engine *engine;
    struct engine_reader *reader;
    struct sessions *sessions;
    struct fanout *fanout;
    uint64_t now, newest; /* newest: the last number that was kept */
    uint64_t ticket;
    /* on the way */
    struct rig_item *items, **last_item;
    struct rig_answer *answers, **last_answer;
    struct rig_kept *kept, **last_kept;
    struct rig_opened *opened, **last_opened;   /* to be told */
    struct rig_opened *waiting, **last_waiting; /* for a CLOSE */
    unsigned item_count;
    /* switches */
    bool hold_requests;        /* what the worker sends is not looked at */
    bool hold_answers;         /* requests take effect, and are not answered */
    bool hold_opened;          /* nor is OPEN */
    bool hold_feed;            /* kept messages do not reach the worker */
    bool no_room;              /* the link takes no requests */
    bool dead;                 /* the worker does not speak any more */
    enum engine_result refuse; /* what becomes of publishes that are to be kept; ENGINE_OK: they are */
    bool fail_progress;        /* PROGRESS is not stored: the disk does not work */
    bool fail_subscriptions;   /* nor are SUBSCRIBE and UNSUBSCRIBE */
    uint64_t unsure_to;        /* who had a session before has not said how far it was */
    uint8_t open_code;         /* what OPEN is answered with */
    /* who has which client id */
    struct rig_claim {
        char id[64];
        uint64_t number;
        bool is_stored;
    } claims[RIG_CLAIMS];
    /* wills that CLOSE left behind */
    struct rig_will {
        char id[64], topic[64], payload[64];
        uint32_t delay_s, qos;
        bool retain;
    } wills[RIG_WILLS];
    unsigned will_count;
    bool trace;     /* writes what happens to stderr */
    uint32_t slice; /* deliveries of the fan-out at a time */
    /* Hears of each message that is kept. NULL: nobody does. */
    void (*kept_fn)(void *ctx, const struct message *m);
    void *kept_ctx;
    /* figures */
    bool closed_unsure; /* what the last CLOSE has said */
    unsigned requests, progresses, closes, published0, kept_count;
    char why[ENGINE_WHY_MAX];
};

#define RIG_TRACE(r, ...)                                                                                    \
    do {                                                                                                     \
        if ((r)->trace)                                                                                      \
            fprintf(stderr, __VA_ARGS__);                                                                    \
    } while (0)

/*
 * A worker that has just been started, on an empty engine; and what must be true at the end, with everything
 * freed. Traced if SESSION_TRACE is in the environment.
 */
void rig_begin(struct rig *r);
void rig_end(struct rig *r);
/* The worker alone: it knows nothing but what is stored. */
void rig_start_worker(struct rig *r);
void rig_end_worker(struct rig *r);
/*
 * The worker is killed, and another one started: of what it has sent, `arrived` messages take effect and the
 * rest is lost; connections end without a word.
 */
void rig_kill_worker(struct rig *r, unsigned arrived);

/* Turns loop and hub until all that can happen without time passing has happened. */
void rig_turn(struct rig *r);
/* Lets ms pass in steps of 50. */
void rig_pass(struct rig *r, uint64_t ms);
/* Something published by the API. Returns its number. */
uint64_t rig_publish(struct rig *r, const char *topic, const char *payload, uint8_t qos, bool retain);
/* n messages with the payloads "from", "from + 1", ... */
void rig_publish_many(struct rig *r, const char *topic, unsigned from, unsigned n, uint8_t qos);

/* One turn of the hub, and its steps: requests are taken (session_rig_hub.c), kept messages fanned out,
 * requests answered. */
void rig_hub(struct rig *r);
/* Takes up to max of what the worker has sent, each once and in order; one commit for all. */
void rig_take(struct rig *r, unsigned max);
void rig_commit(struct rig *r);
void rig_feed(struct rig *r);
/* Appends, and retains if that is asked for; takes over the reference. */
enum engine_result rig_keep(struct rig *r, struct message *m);
/* QoS 0, as a worker publishes it; ctx is the rig. */
bool rig_publish0(void *ctx, const char *client_id, size_t len, struct message *m);
/* An OPEN that waits is given up with its connection. */
void rig_wait_no_more(struct rig *r, uint64_t claim);

/* What is stored of a session; the lists are cut at the size of the arrays. */
struct rig_stored {
    bool found;
    uint64_t cursor, disconnected_ms;
    uint32_t expiry_s;
    unsigned outs, ins, owes, subscriptions;
    struct engine_inflight out[64];
    uint16_t in[64];
    struct {
        char filter[64];
        uint8_t options;
        uint32_t identifier;
        uint64_t since;
    } sub[16];
};
struct rig_stored rig_stored(struct rig *r, const char *id);

/* What the sessions call, for tests that add to it. */
extern const struct sessions_handler rig_handler;

#endif
