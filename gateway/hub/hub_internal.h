/*
 * What the hub's files share: the hub itself, its workers, and what the HTTP API asks of them. hub.c makes
 * and ends it, hub_workers.c talks to the workers, the api_* files answer HTTP.
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
struct hub_query;
struct http_api;

#define HUB_MAGIC 0x68756221u

/* One worker as the hub sees it. */
struct hub_worker {
    struct hub *hub;
    uint16_t number;
    bool hello;                  /* it has said HELLO on this channel */
    bool replayed;               /* its claims are complete on this channel */
    bool counted;                /* its claims have been complete once since the hub started */
    struct ipc_channel *channel; /* NULL: not attached */
};

struct hub {
    uint32_t magic;
    const struct process_args *args;
    struct event_base *base;
    const struct engine_ops *engine_ops;
    struct engine *engine;
    struct hub_worker *worker; /* args->workers of them */
    unsigned attached;         /* workers with a channel */
    unsigned uncounted; /* workers whose claims have never been complete: an unknown id may be theirs */
    bool open;          /* what workers say is taken; before, their channels are paused */
    bool stopping;
    struct event *control, *tick, *stop_timer;
    struct http_api *api;
    struct certificates *certificates;
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

/* Gives the hub's end of a worker's channel to the hub, in place of an earlier one. */
void hub_worker_attach(struct hub *h, uint16_t number, int fd);
/* Closes all channels. */
void hub_workers_detach(struct hub *h);
/* From here on what workers say is taken. Called when all are attached, or after a second without some. */
void hub_open(struct hub *h);
/* Whether all workers are attached and have told all their claims. */
bool hub_is_ready(const struct hub *h);

/* Gives the message a sequence number and hands it to every worker. Returns how many took it. */
unsigned hub_publish(struct hub *h, const struct hub_publication *p, uint64_t *seq);

enum hub_presence {
    HUB_CONNECTED,
    HUB_NOT_CONNECTED,
    HUB_UNCERTAIN
}; /* uncertain: claims are being replayed */
enum hub_presence hub_find_client(struct hub *h, const char *id, size_t len, struct engine_claim *out);
/* Sends to the worker of a claim. False: it is not there, or its queue is full. */
bool hub_send(struct hub *h, uint16_t worker, const struct ipc_message *m)
    __attribute__((warn_unused_result));

/* A worker's answer to CLIENT_GET (api_clients.c). */
void hub_query_answered(struct hub *h, uint16_t worker, const struct ipc_message *m);
/* Ends the queries that wait for this worker. */
void hub_queries_lost(struct hub *h, uint16_t worker);

#endif
