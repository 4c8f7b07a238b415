/*
 * The door to what is kept and shared: today sequence numbers and the claim of client ids; the log, sessions
 * and retained messages come through it too. Every family of engines has a memory member; that is the one
 * there is so far. Owned by the hub.
 */
#ifndef HOLDFAST_ENGINE_H
#define HOLDFAST_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENGINE_NO_WORKER   0xFFFFu
#define ENGINE_MAX_WORKERS 8191u
#define ENGINE_MAX_CLAIM   (((uint64_t)1 << 51) - 1)

struct engine;

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
};

extern const struct engine_ops engine_memory;

/* By name ("memory"), or NULL. */
const struct engine_ops *engine_find(const char *name);

#endif
