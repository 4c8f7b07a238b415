/*
 * What a worker tells about a client that somebody asks for.
 */
#ifndef HOLDFAST_WORKER_INFO_H
#define HOLDFAST_WORKER_INFO_H

#include <stddef.h>
#include <stdint.h>

struct config;
struct hub_link;
struct sessions;

/* Answers the hub's query (CLIENT_GET) with CLIENT_INFO. */
void worker_info_tell(struct hub_link *hub, const struct sessions *s, const struct config *config,
                      uint32_t query, const char *client_id, size_t len);

#endif
