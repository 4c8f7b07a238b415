/*
 * The door to what is kept and shared: sequence numbers, the claim of client ids, the log, sessions and
 * retained messages. An engine is owned by the hub and written by it alone; readers are opened by whoever
 * serves clients, in other processes too. Every family of engines has a memory member. How the data is laid
 * out, and what is promised when something dies, is in doc/log.md.
 */
#ifndef HOLDFAST_ENGINE_H
#define HOLDFAST_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/engine/engine_store.h"

#define ENGINE_NO_WORKER   0xFFFFu
#define ENGINE_MAX_WORKERS 8191u
#define ENGINE_MAX_CLAIM   (((uint64_t)1 << 51) - 1)

/* Room for a sentence that says why something could not be opened, and what to do. */
#define ENGINE_WHY_MAX 1024

struct engine;
struct engine_reader;
struct engine_scan;

/* A claim: which worker serves a client id. */
struct engine_claim {
    uint16_t worker;
    uint64_t number; /* at most ENGINE_MAX_CLAIM; grows with time; of two claims the greater one wins */
};

struct engine_ops {
    const char *name;
    struct engine *(*open)(const char *data_dir, uint32_t max_clients);
    void (*close)(struct engine *e);

    /* The next sequence number: never given before, also not by an earlier process (a restart skips ahead).
     * Below 2^53. */
    uint64_t (*next_seq)(struct engine *e);

    /*
     * Records that the client id is served by a worker. Returns false if another worker's greater claim is
     * there already (then the new one has lost and *other is the winner); otherwise true, and *other is the
     * claim that was replaced, or has worker ENGINE_NO_WORKER. A worker's own claims arrive in order, so its
     * latest one stands whatever its number. When there is no room, nothing is recorded and the claim stands.
     */
    bool (*claim)(struct engine *e, const char *client_id, size_t len, struct engine_claim mine,
                  struct engine_claim *other);
    /* Forgets the claim if it is exactly this one. */
    void (*release)(struct engine *e, const char *client_id, size_t len, struct engine_claim mine);
    bool (*find)(struct engine *e, const char *client_id, size_t len, struct engine_claim *out);
    /* Forgets all claims of a worker (it died, or is about to replay them). */
    void (*forget_worker)(struct engine *e, uint16_t worker);
    uint32_t (*count)(const struct engine *e);

    /* ---- opening what is kept ----
     * open() above is this with the default settings; where it fails it logs why. `why` has ENGINE_WHY_MAX
     * bytes. The engine has the data directory to itself. close() keeps what was handed in before it. */
    struct engine *(*open_store)(const struct engine_settings *s, char *why);

    /* ---- writing: by the owner only. Nothing below waits for the disk. ----
     * What is handed in takes effect in order, all that lies between two commits at once or not at all, and
     * is seen by readers when `committed` was called for its ticket. */

    /* Appends a message to the log (m->seq is ignored) and returns its sequence number, or 0 and *why. A
     * number is used up also when the message is refused later. */
    uint64_t (*append)(struct engine *e, const struct message_parts *m, enum engine_result *why);
    /* Sets the retained message of its topic, with m->seq; one without payload clears it ([MQTT-3.3.1-6]). */
    void (*retain)(struct engine *e, const struct message_parts *m);
    /* Creates the session or changes what is in *s; a cursor only moves forward. */
    void (*session_put)(struct engine *e, const char *client_id, size_t len, const struct engine_session *s);
    /* Removes the session with its subscriptions and its progress. */
    void (*session_remove)(struct engine *e, const char *client_id, size_t len);
    /* Adds or replaces a subscription of a session that is there. `since` of a replaced one stays, and its
     * QoS for what came before, where it was greater and the session has not come so far. What it is owed
     * joins the session's progress, until that is replaced. */
    void (*subscribe)(struct engine *e, const char *client_id, size_t len,
                      const struct engine_subscription *s);
    /* It is owed nothing any more, either. */
    void (*unsubscribe)(struct engine *e, const char *client_id, size_t len, const char *filter,
                        size_t filter_len);
    /* How far a session has come. */
    void (*progress)(struct engine *e, const char *client_id, size_t len, const struct engine_progress *p);
    /* Keeps a few bytes (at most 256) of the owner's own under a name, in place of earlier ones. */
    void (*note)(struct engine *e, const char *name, const void *data, size_t len);
    /* Hands over everything since the last call to be made durable; returns its ticket. */
    uint64_t (*commit)(struct engine *e);
    /* Whether more waits for the disk than should: append() refuses, and the rest had better wait. */
    bool (*busy)(const struct engine *e);
    /* Whether as many changes of sessions wait as one transaction should have: whoever hands in more had
     * better wait until commits were told. Each may touch pages of its own, and the store keeps the memory of
     * the greatest transaction for ever. */
    bool (*crowded)(const struct engine *e);
    /* Once a second: removes what has expired, looks after readers that died, retries a full disk. */
    void (*tick)(struct engine *e);
    /* Readable when poll() has something to tell. */
    int (*event_fd)(const struct engine *e);
    void (*poll)(struct engine *e, const struct engine_handler *h, void *ctx);
    void (*stats)(struct engine *e, struct engine_stats *out);

    /* ---- reading: what is committed ----
     * A reader belongs to one thread. With an engine of this process it reads that; with NULL it opens the
     * directory of an engine that another process has opened. NULL and why[ENGINE_WHY_MAX] when that cannot
     * be (also: not yet). */
    struct engine_reader *(*reader_open)(struct engine *e, const char *data_dir, char *why);
    void (*reader_close)(struct engine_reader *r);
    /* Calls fn with the session if there is one. */
    bool (*session_get)(struct engine_reader *r, const char *client_id, size_t len, engine_session_fn fn,
                        void *ctx);
    /* The bytes of a note: writes up to max of them to out; how many there are, 0: none. */
    size_t (*note_get)(struct engine_reader *r, const char *name, void *out, size_t max);
    /* Calls fn for up to max sessions after the given client id (none: len 0), in the order of their keys;
     * the number of calls. */
    size_t (*session_walk)(struct engine_reader *r, const char *after, size_t len, size_t max,
                           engine_session_each_fn fn, void *ctx);
    /* Calls fn with the retained messages whose topic matches, those that have expired left out, looking at
     * up to max topics after `after` (none: after_len 0). Returns false when there are no more; when true,
     * *last (a buffer of 65535 bytes) and *last_len say where to go on. A filter without wildcards costs one
     * look-up. */
    bool (*retained_walk)(struct engine_reader *r, const char *filter, size_t len, engine_match_fn match,
                          const char *after, size_t after_len, size_t max, engine_message_fn fn, void *ctx,
                          char *last, size_t *last_len);
    /* The greatest number of a message, in the log or retained, that can be read. What was handed in before
     * that message is there too. 0: there is none, or it cannot be read. */
    uint64_t (*reader_newest)(struct engine_reader *r);
    /* Calls fn with the message of this number, if the log has it and its time has not passed; fn's answer is
     * ignored. */
    bool (*message_get)(struct engine_reader *r, uint64_t seq, engine_message_fn fn, void *ctx);
    /* A scan of the log after a number, over messages that match any of the filters, each given once. */
    struct engine_scan *(*scan_new)(struct engine_reader *r, const struct engine_filter *filters, size_t n,
                                    uint64_t after, engine_match_fn match);
    void (*scan_free)(struct engine_scan *s);
    /* Gives up to max messages; bounded in time also when there are none. After END it may be called again:
     * it goes on with what has come since. */
    enum engine_scan_result (*scan_next)(struct engine_scan *s, size_t max, engine_message_fn fn, void *ctx);
    /* Everything that matches up to this number has been given: the cursor to go on from. */
    uint64_t (*scan_position)(const struct engine_scan *s);

    /* Whether everything that is kept agrees with itself; if not, why[ENGINE_WHY_MAX] names the first
     * contradiction. Reads all of it: for tests and for repairs. */
    bool (*verify)(struct engine_reader *r, char *why);
};

extern const struct engine_ops engine_memory, engine_local;

/* By name ("memory", "local"), or NULL. */
const struct engine_ops *engine_find(const char *name);

#endif
