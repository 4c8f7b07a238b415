/*
 * The registry of client ids: which worker serves a client. It lives in the hub's memory whatever the engine;
 * when the hub restarts, the workers replay their claims into an empty one.
 *
 * The registry holds one record of 20 bytes per client, plus 4 bytes of its hash index:
 *
 *      hash 8 | link 4 | worker 13 bits, claim 51 bits
 *
 * It does not hold the client id, which would cost more than all the rest. A client is known by the keyed
 * 64-bit hash of its id: the key is drawn at start and never leaves the gateway, so nobody can choose ids
 * that collide, and among ten million clients a collision by chance has a probability of 3 in a million. If
 * it happens, the later claim replaces the other client's in the registry; a worker compares the real id
 * before it ends or describes a session, so the wrong client is never disconnected nor shown. The one that
 * was replaced keeps its connection and every message; only the API does not find it until it reconnects.
 */
#include "gateway/engine/registry.h"

#include <stddef.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/hash.h"
#include "gateway/base/hash_index.h"
#include "gateway/base/pool.h"
#include "gateway/base/xmalloc.h"

#define WORKER_BITS 13
#define NUMBER_BITS 51
_Static_assert(ENGINE_MAX_WORKERS <= 1u << WORKER_BITS, "a worker number fits");
_Static_assert(ENGINE_MAX_CLAIM == ((uint64_t)1 << NUMBER_BITS) - 1, "a claim number fits");

struct registry_record {
    uint64_t hash;
    uint32_t link;  /* the hash index's chain */
    uint64_t claim; /* worker << NUMBER_BITS | number */
} __attribute__((packed));
_Static_assert(sizeof(struct registry_record) == 20, "the registry costs 24 bytes per client");

struct registry {
    struct pool *clients;
    struct hash_index *by_hash;
};

/* The record with this id; packed, so its members are read and written through it only. */
static struct registry_record *record_at(const struct registry *g, uint32_t id)
{
    return pool_at(g->clients, id);
}

static uint64_t pack(struct engine_claim c)
{
    CHECK(c.worker < ENGINE_MAX_WORKERS && c.number <= ENGINE_MAX_CLAIM);
    return (uint64_t)c.worker << NUMBER_BITS | c.number;
}

static struct engine_claim unpack(uint64_t packed)
{
    return (struct engine_claim){.worker = (uint16_t)(packed >> NUMBER_BITS),
                                 .number = packed & ENGINE_MAX_CLAIM};
}

/* The index's view of a record. Its link is 4-byte aligned: records are 20 bytes in a page-aligned pool. */
static uint32_t *link_of(void *ctx, uint32_t id)
{
    char *record = pool_at(((struct registry *)ctx)->clients, id);
    return (uint32_t *)(void *)(record + offsetof(struct registry_record, link));
}

static uint64_t hash_of(void *ctx, uint32_t id) { return record_at(ctx, id)->hash; }

/* The key is the hash itself. */
static bool hash_equals(void *ctx, uint32_t id, const void *key, size_t len)
{
    (void)len;
    return record_at(ctx, id)->hash == *(const uint64_t *)key;
}

static const struct hash_index_ops index_ops = {.link = link_of, .hash = hash_of, .equals = hash_equals};

struct registry *registry_new(uint32_t max_clients)
{
    struct registry *g = xcalloc(1, sizeof *g);
    g->clients = pool_new("registry", sizeof(struct registry_record), max_clients);
    g->by_hash = hash_index_new(&index_ops, g, max_clients);
    return g;
}

void registry_free(struct registry *g)
{
    hash_index_free(g->by_hash);
    pool_free(g->clients);
    free(g);
}

/* The record of a client, or 0; *hash is its key. */
static uint32_t find_record(const struct registry *g, const char *client_id, size_t len, uint64_t *hash)
{
    *hash = hash_bytes(client_id, len);
    return hash_index_find(g->by_hash, *hash, hash, sizeof *hash);
}

bool registry_claim(struct registry *g, const char *client_id, size_t len, struct engine_claim mine,
                    struct engine_claim *other)
{
    uint64_t hash;
    uint32_t id = find_record(g, client_id, len, &hash);
    *other = (struct engine_claim){.worker = ENGINE_NO_WORKER};
    if (id) {
        *other = unpack(record_at(g, id)->claim);
        if (other->worker != mine.worker && other->number > mine.number)
            return false;
        record_at(g, id)->claim = pack(mine);
        return true;
    }
    id = pool_alloc(g->clients);
    if (!id)
        return true;
    record_at(g, id)->hash = hash;
    record_at(g, id)->claim = pack(mine);
    hash_index_insert(g->by_hash, hash, id);
    return true;
}

/* Takes a record out of the index and gives it back. */
static void forget(struct registry *g, uint32_t id)
{
    hash_index_remove(g->by_hash, record_at(g, id)->hash, id);
    pool_release(g->clients, id);
}

void registry_release(struct registry *g, const char *client_id, size_t len, struct engine_claim mine)
{
    uint64_t hash;
    uint32_t id = find_record(g, client_id, len, &hash);
    if (id && record_at(g, id)->claim == pack(mine))
        forget(g, id);
}

bool registry_find(struct registry *g, const char *client_id, size_t len, struct engine_claim *out)
{
    uint64_t hash;
    uint32_t id = find_record(g, client_id, len, &hash);
    if (!id)
        return false;
    *out = unpack(record_at(g, id)->claim);
    return true;
}

void registry_forget_worker(struct registry *g, uint16_t worker)
{
    for (uint32_t id = pool_next(g->clients, 0); id; id = pool_next(g->clients, id))
        if (unpack(record_at(g, id)->claim).worker == worker)
            forget(g, id);
}

uint32_t registry_count(const struct registry *g) { return hash_index_count(g->by_hash); }
