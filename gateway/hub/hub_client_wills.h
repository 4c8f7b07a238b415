/*
 * Wills of clients that are connected, in case their worker dies: who else would publish them
 * ([MQTT-3.1.2-8])? Workers tell them with WILL, and again to a hub that has started anew.
 */
#ifndef HOLDFAST_HUB_CLIENT_WILLS_H
#define HOLDFAST_HUB_CLIENT_WILLS_H

#include "gateway/engine/engine.h"
#include "gateway/hub/hub_internal.h"

struct hub_client_wills;

struct hub_client_wills *hub_client_wills_new(struct hub *h);
void hub_client_wills_free(struct hub_client_wills *w);

/* WILL: in place of an earlier one of this client in this worker. */
void hub_client_will_told(struct hub_worker *w, const struct ipc_message *m);
/* The claim has ended, and the worker has seen to the will. */
void hub_client_will_done(struct hub *h, const char *id, size_t len, struct engine_claim claim);
/* The worker is about to tell all of them again. */
void hub_client_wills_forget(struct hub_worker *w);
/* The worker has died: its clients' wills are published, some per turn of the event loop, or wait with their
 * sessions (hub_wills.h). */
void hub_client_wills_left(struct hub_worker *w);
/* The same at once for this client id, which somebody wants now: what comes after its end must not overtake
 * it. */
void hub_client_will_before(struct hub *h, const char *id, size_t len);

#endif
