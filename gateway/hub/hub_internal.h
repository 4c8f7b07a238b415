/*
 * What the hub's files share: the hub itself, its workers, and what they ask of each other. hub.c makes and
 * ends it, hub_workers.c talks to the workers, hub_log.c hands what is to be kept to the engine and waits for
 * it, hub_requests.c sees that each of the workers' requests takes effect once, hub_feed.c brings kept
 * messages to the workers, hub_sessions.c has the stored sessions, hub_wills.c their wills, hub_shares.c the
 * shared subscriptions, the api_* files answer HTTP.
 */
#ifndef HOLDFAST_HUB_INTERNAL_H
#define HOLDFAST_HUB_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "gateway/base/close_reason.h"
#include "gateway/base/process.h"
#include "gateway/engine/engine.h"
#include "gateway/ipc/ipc_channel.h"

struct certificates;
struct event;
struct event_base;
struct hub;
struct hub_log;
struct hub_query;
struct hub_sessions;
struct hub_shares;
struct hub_sys;
struct http_api;
struct message;
struct message_parts;

#define HUB_MAGIC 0x68756221u

/* So many commits are under way at the most; what comes then waits for the next one. */
#define HUB_MAX_TURNS 8

/* How far a worker has come in the row of kept messages (hub_feed.c). */
struct hub_feed {
    uint64_t position;        /* it has been given every kept message up to this number */
    bool begun;               /* WELCOME has been sent */
    bool behind;              /* it is given what the log holds after `position`, not what is kept now */
    bool blocked;             /* its channel is full */
    struct engine_scan *scan; /* while it is behind; NULL until the next slice */
};

struct hub_answer;

/* The requests of a worker: each takes effect once (ipc.def). */
struct hub_requests {
    uint64_t incarnation; /* of the worker, as it said in HELLO */
    uint64_t taken;       /* the last one that was handed to the engine */
    uint64_t noted;       /* the last one whose number was handed to the engine */
    uint64_t answered;    /* the last one that DONE was sent for */
    /* By turn, of those that are not committed: the newest number given to a publish, or HUB_REFUSED. */
    struct hub_mark {
        uint64_t turn, seq;
    } mark[HUB_MAX_TURNS + 1];
    unsigned marks;
    TAILQ_HEAD(hub_answers, hub_answer) answers; /* in the order of the requests */
};
#define HUB_REFUSED 1

/* One worker as the hub sees it. */
struct hub_worker {
    struct hub *hub;
    uint16_t number;
    bool hello;                  /* it has said HELLO on this channel */
    uint64_t incarnation, head;  /* as it said there */
    bool replayed;               /* its claims are complete on this channel */
    bool counted;                /* its claims have been complete once since the hub started */
    struct ipc_channel *channel; /* NULL: not attached */
    struct hub_feed feed;
    struct hub_requests requests;
};

struct hub {
    uint32_t magic;
    const struct process_args *args;
    struct event_base *base;
    const struct engine_ops *engine_ops;
    struct engine *engine;
    struct engine_reader *reader; /* of the engine, for everybody in this process; no call into it from inside
                                     one of its callbacks */
    struct hub_worker *worker;    /* args->workers of them */
    unsigned attached;            /* workers with a channel */
    unsigned uncounted; /* workers whose claims have never been complete: an unknown id may be theirs */
    bool open;          /* what workers say is taken; before, their channels are paused */
    bool held;          /* the engine is busy: workers' channels are paused */
    bool stopping;
    struct event *control, *tick, *stop_timer;
    struct http_api *api;
    struct certificates *certificates;
    struct hub_log *log;           /* hub_log.c's own */
    uint64_t newest;               /* the newest kept number whose commit was told */
    struct event *feed_timer;      /* hub_feed.c's own */
    struct hub_sessions *sessions; /* hub_sessions.c's own */
    struct hub_shares *shares;     /* share_hub.c's own */
    struct hub_sys *sys;           /* hub_sys.h */
    uint64_t sys_next_ms;          /* sys_publish.c's own */
    LIST_HEAD(, hub_query) queries;
    uint32_t queries_open, last_query;
};

/* A message about to be published; the byte ranges are the caller's. */
struct hub_publication {
    uint8_t qos;
    bool retain;
    uint64_t expires_ms; /* wall clock; 0: never */
    uint64_t origin;     /* hash of the publishing client's id; 0: the API */
    struct ipc_bytes topic, props, payload;
};

/* ---- workers (hub_workers.c) ---- */

/* Makes the array of workers, none attached. */
void hub_workers_setup(struct hub *h);
/* Gives the hub's end of a worker's channel to the hub, in place of an earlier one. */
void hub_worker_attach(struct hub *h, uint16_t number, int fd);
/* Closes all channels. */
void hub_workers_detach(struct hub *h);
/* From here on what workers say is taken. Called when all are attached, or after a second without some. */
void hub_open(struct hub *h);
/* Holds back what workers say while the engine has too much to do. */
void hub_hold(struct hub *h, bool held);
/* Whether all workers are attached and have told all their claims. */
bool hub_is_ready(const struct hub *h);

enum hub_presence {
    HUB_CONNECTED,
    HUB_NOT_CONNECTED,
    HUB_UNCERTAIN
}; /* uncertain: claims are being replayed */
enum hub_presence hub_find_client(struct hub *h, const char *id, size_t len, struct engine_claim *out);
/* Sends to a worker. False: it is not there, or its queue is full (which is counted and logged). */
bool hub_send(struct hub *h, uint16_t worker, const struct ipc_message *m)
    __attribute__((warn_unused_result));
/* Sends KICK: the worker ends the session if it still has this claim or an older one. False: as above. */
bool hub_kick(struct hub *h, struct engine_claim claim, enum close_reason reason, const char *id, size_t len);
/* The claim a worker speaks of. */
struct engine_claim hub_claim_of(const struct hub_worker *w, uint64_t number);

/* ---- what is kept (hub_log.c) ---- */

/* Opens the engine's store, and h->reader. False: it cannot be, which has been logged. */
bool hub_log_open(struct hub *h);
/* Keeps what was handed in; who still waits hears ENGINE_FAILED. */
void hub_log_close(struct hub *h);
/* Once a second. */
void hub_log_tick(struct hub *h);
/* Whether so much waits for the disk that workers had better not be read. */
bool hub_log_is_full(const struct hub *h);

/*
 * To be called after something was handed to the engine: it is committed at the end of this turn of the event
 * loop, with everything else of this turn, all of it or nothing.
 */
void hub_commit_soon(struct hub *h);

/*
 * Calls fn once, later, when everything handed to the engine so far is done. ENGINE_FAILED: nothing of it is
 * kept. Any other: sessions, subscriptions, progress and notes are kept, and ENGINE_OK says that messages are
 * too.
 */
typedef void hub_committed_fn(struct hub *h, void *arg, enum engine_result result);
/* When it counts as kept, which is all that a publisher waits for. */
void hub_on_kept(struct hub *h, hub_committed_fn *fn, void *arg);
/* When it can be read. */
void hub_on_committed(struct hub *h, hub_committed_fn *fn, void *arg);

/*
 * Publishes: with QoS 0 at once to every worker, *workers says how many took it; else it is handed to the
 * engine and goes to the workers when it is kept (hub_on_kept() hears then, too). With the retain
 * flag it becomes its topic's retained message, or clears it. Returns the sequence number; 0: refused, and
 * *why.
 */
uint64_t hub_publish(struct hub *h, const struct hub_publication *p, unsigned *workers,
                     enum engine_result *why);

/* The turn of the loop that is being filled: it is committed as a whole, later than all before. */
uint64_t hub_log_turn(const struct hub *h);
/* A scan over all kept messages after this number. */
struct engine_scan *hub_log_scan(struct hub *h, uint64_t after);

/* ---- the workers' requests (hub_requests.c) ---- */

void hub_requests_setup(struct hub_worker *w);
/* The worker is this incarnation, and everything of an earlier channel is committed: which of its requests
 * have taken effect; *done is the last one. Returns what became of the publishes that it may have had no
 * answer to. */
enum engine_result hub_requests_begin(struct hub_worker *w, uint64_t incarnation, uint64_t *done);
/* Whether the request is to take effect: it has not yet. */
bool hub_request_is_new(const struct hub_worker *w, uint64_t number);
/* It has been handed to the engine; DONE is sent when that is committed. `seq`: what a kept publish was given
 * (0: not a publish, or it was refused, because of `why`). */
void hub_request_taken(struct hub_worker *w, uint64_t number, uint64_t seq, enum engine_result why);
/* Hands the numbers of the requests of this turn to the engine. */
void hub_requests_note(struct hub *h);
/* A turn has been committed, or not: answers. */
void hub_requests_settled(struct hub *h, uint64_t turn, enum engine_result result);
/* The worker's channel takes more again. */
void hub_requests_drained(struct hub_worker *w);
/* The worker's channel is gone: nobody waits for answers. */
void hub_requests_end(struct hub_worker *w);

/* ---- kept messages on their way to a worker (hub_feed.c) ---- */

void hub_feed_setup(struct hub *h);
void hub_feed_free(struct hub *h);
/* The worker has been attached: what is kept from now on is for it. */
void hub_feed_attach(struct hub_worker *w);
/* It knows the kept messages up to `head` (0: none yet). */
void hub_feed_begin(struct hub_worker *w, uint64_t head);
void hub_feed_end(struct hub_worker *w);
/* A kept message has been committed. They come in the order of their numbers. */
void hub_feed_committed(struct hub *h, const struct message *m);
/* The worker's channel takes more again. */
void hub_feed_drained(struct hub_worker *w);
/* Once a second: tries those again whose log could not be read. */
void hub_feed_tick(struct hub *h);
/* The message as DELIVER; its bytes are those of *m. */
struct ipc_message hub_feed_deliver(const struct message_parts *m);

/* ---- stored sessions (hub_sessions.c) ---- */

/* h->engine and h->reader are open. */
void hub_sessions_setup(struct hub *h);
/* The engine is still open. */
void hub_sessions_free(struct hub *h);
void hub_sessions_tick(struct hub *h);

/* OPEN, not a request: it comes again after a restart of the hub, until it is answered with OPENED. */
void hub_session_open(struct hub_worker *w, const struct ipc_message *m);
/*
 * Requests: called once for each. What they hand to the engine before they return is committed together with
 * the request's number, and DONE is sent then; so they must not put it off. After a restart of the hub those
 * that were not done come again, before CLAIMS_DONE and for sessions that are in no registry any more.
 */
void hub_session_close(struct hub_worker *w, const struct ipc_message *m);
void hub_session_progress(struct hub_worker *w, const struct ipc_message *m);
void hub_session_subscribe(struct hub_worker *w, const struct ipc_message *m);
void hub_session_unsubscribe(struct hub_worker *w, const struct ipc_message *m);
/* The progress that came with a PUBLISH; `id` is not empty. */
void hub_session_store_progress(struct hub_worker *w, const struct ipc_bytes *id,
                                const struct ipc_bytes *progress);

/* CLAIM: the registry has taken it (it is not called for one that lost). */
void hub_session_claimed(struct hub_worker *w, const struct ipc_bytes *id, struct engine_claim claim,
                         bool replayed);
/* RELEASE: the registry has forgotten it. */
void hub_session_released(struct hub_worker *w, const struct ipc_bytes *id, struct engine_claim claim);
/* CLAIMS_DONE; w->replayed and h->uncounted are up to date. */
void hub_sessions_claims_complete(struct hub_worker *w);
/* Its channel is gone and the registry has forgotten its claims. Not called while the hub stops. */
void hub_sessions_worker_lost(struct hub_worker *w);
/* The engine has removed a session whose time was over (engine_handler.session_expired). */
void hub_session_expired(struct hub *h, const char *id, size_t len);

/* ---- shared subscriptions (share_hub.c) ---- */

/* h->engine and h->reader are open. Before, and after the end, the others do nothing. */
void hub_shared_setup(struct hub *h);
/* The engine is still open. */
void hub_shared_free(struct hub *h);
/* A message with QoS 0, numbered; one that was kept, in the order of their numbers. */
void hub_shared_publish(struct hub *h, const struct message_parts *m);
void hub_shared_kept(struct hub *h, const struct message_parts *m);
/* The session with this claim is without a connection, and sleeps for so long (0: it has ended). */
void hub_shared_gone(struct hub_worker *w, uint64_t claim, const struct ipc_bytes *id, uint32_t expiry_s);
/* A stored session is about to be removed: it is a member of no group any more, also if it sleeps. */
void hub_shared_session_removed(struct hub *h, const char *id, size_t len);
/* Its channel is gone, or it is about to tell its members again. */
void hub_shared_worker_lost(struct hub_worker *w);
void hub_shared_drained(struct hub_worker *w);
/* All workers have told their members. */
void hub_shared_complete(struct hub *h);
/* SHARE_JOIN, SHARE_LEAVE, SHARE_DONE. */
void hub_shared_join(struct hub_worker *w, const struct ipc_message *m);
void hub_shared_leave(struct hub_worker *w, const struct ipc_message *m);
void hub_shared_done(struct hub_worker *w, const struct ipc_message *m);

/* ---- $SYS topics (sys_publish.c) ---- */

/* Once a second: publishes them when it is time. */
void hub_sys_tick(struct hub *h);
/* They are to be published at the next tick. */
void hub_sys_soon(struct hub *h);

/* ---- HTTP ---- */

/* A worker's answer to CLIENT_GET (api_clients.c). */
void hub_query_answered(struct hub *h, uint16_t worker, const struct ipc_message *m);
/* Ends the queries that wait for this worker. */
void hub_queries_lost(struct hub *h, uint16_t worker);

#endif
