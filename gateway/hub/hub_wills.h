/*
 * Wills that wait (MQTT 5.0 section 3.1.3.2.2, Will Delay Interval): published when their time has come, or
 * when the session ends before.
 */
#ifndef HOLDFAST_HUB_WILLS_H
#define HOLDFAST_HUB_WILLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/hub/hub_stored.h"

struct hub;
struct hub_wills;

struct hub_wills *hub_wills_new(struct hub *h);
void hub_wills_free(struct hub_wills *w);

/* The session's stored will is due then; in place of an earlier time. */
void hub_will_wait(struct hub *h, const char *id, size_t len, uint64_t due_wall_ms);
/* The session has no will that waits, or not any more. */
void hub_will_cancel(struct hub *h, const char *id, size_t len);
uint32_t hub_wills_waiting(const struct hub_wills *w);

/* Whether the bytes are a will: an encoded PUBLISH. */
bool hub_will_is_valid(const struct ipc_bytes *will);
/*
 * Publishes a will of a session that has been without a connection since then, unless it is empty. What is
 * stored is not changed. False: it has been refused, and *why.
 */
bool hub_will_publish(struct hub *h, const struct ipc_bytes *will, uint64_t disconnected_ms,
                      enum engine_result *why);
/* The same for a session that ends now: what is refused is lost, which is logged. */
void hub_will_publish_last(struct hub *h, const char *id, size_t len, const struct ipc_bytes *will,
                           uint64_t disconnected_ms);

/* Looks for those that are due; called by a timer of its own. */
void hub_wills_look(struct hub_wills *w);

#endif
