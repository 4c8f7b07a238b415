/*
 * Which worker serves a client id; inside the engine only. The verbs are engine_ops' own, in engine.h.
 */
#ifndef HOLDFAST_ENGINE_REGISTRY_H
#define HOLDFAST_ENGINE_REGISTRY_H

#include "gateway/engine/engine.h"

struct registry;

struct registry *registry_new(uint32_t max_clients);
void registry_free(struct registry *g);
bool registry_claim(struct registry *g, const char *client_id, size_t len, struct engine_claim mine,
                    struct engine_claim *other);
void registry_release(struct registry *g, const char *client_id, size_t len, struct engine_claim mine);
bool registry_find(struct registry *g, const char *client_id, size_t len, struct engine_claim *out);
void registry_forget_worker(struct registry *g, uint16_t worker);
uint32_t registry_count(const struct registry *g);

#endif
