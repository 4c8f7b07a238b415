/*
 * A client's will (MQTT 5.0 section 3.1.2.5): published by its worker, by the hub after a delay, or by the
 * hub when the worker has died. Inside the session layer only.
 */
#ifndef HOLDFAST_SESSION_WILL_H
#define HOLDFAST_SESSION_WILL_H

#include "gateway/session/session_internal.h"

/* As the hub takes it, an encoded PUBLISH; to be freed. */
void *will_encode(const struct message *will, size_t *len);
/* Tells the hub of the session's will, if it has one, in case this process dies. */
void will_tell(struct sessions *s, uint32_t id);
/* Publishes a will now. */
void will_publish(struct sessions *s, uint32_t id, struct message *will);

#endif
