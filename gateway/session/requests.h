/*
 * What the session layer asks of the hub, and what it does with the answers. Inside the session layer only.
 */
#ifndef HOLDFAST_SESSION_REQUESTS_H
#define HOLDFAST_SESSION_REQUESTS_H

#include "gateway/ipc/ipc_message.h"
#include "gateway/session/session_internal.h"

/* session_cookie.kind: what the client is owed when the request is done. */
enum request_kind {
    REQUEST_NONE,
    REQUEST_PUBACK,
    REQUEST_PUBREC,
    REQUEST_PUBREL,  /* of ours: the client's PUBREC is stored */
    REQUEST_PUBCOMP, /* the client's PUBREL is stored */
    REQUEST_STORED,  /* nothing: what is done is stored */
    REQUEST_FILTER, /* nothing, or the end: a subscription has come or gone, which the fence's answer will say
                     */
    REQUEST_SUBACK,
    REQUEST_UNSUBACK
};

/* A message to be kept. With QoS 2 from a stored session its progress is stored together with it. */
bool request_publish(struct sessions *s, uint32_t id, const struct message *m, enum request_kind kind,
                     uint16_t packet_id);
/* The session's progress as it is now; not while window_is_asking(). */
bool request_progress(struct sessions *s, uint32_t id, enum request_kind kind, uint16_t packet_id);
/* The same, so that what is done is stored as done; unless that is under way. Later, if it has to wait. */
void request_store(struct sessions *s, uint32_t id);
/* Nothing: PUBREL or PUBCOMP with a code, behind those that are due already. */
bool request_ack(struct sessions *s, uint32_t id, enum request_kind kind, uint16_t packet_id, uint8_t code);
bool request_subscribe(struct sessions *s, uint32_t id, const char *filter, size_t len, uint8_t options,
                       uint32_t identifier, uint64_t since, uint64_t asked);
bool request_unsubscribe(struct sessions *s, uint32_t id, const char *filter, size_t len);
/* The stored session is without a connection from now on; with a will that waits, or NULL. */
void request_close(struct sessions *s, uint32_t id, struct message *will);

/*
 * SUBACK or UNSUBACK with these codes, when all that was requested so far is done: at once for a session that
 * is not stored, unless the hub has to be asked for another reason (it has been told of a member of a shared
 * subscription, say).
 */
void acknowledge_later(struct sessions *s, uint32_t id, enum mqtt_type type, uint16_t packet_id,
                       const unsigned char *codes, uint32_t count, bool ask);
/* Forgets what is owed to sessions that have ended. */
void requests_free(struct sessions *s);

/* leaving.c: what CLOSE says; progress without length: as it was. */
struct closing {
    uint64_t claim;
    uint32_t expiry_s, will_delay_s;
    struct ipc_bytes client_id, progress, will;
    bool is_unsure; /* it has not read all that may have been sent before (catch_up_unsure()) */
};
void close_send(struct sessions *s, const struct closing *c);
/* The same when a publish of QoS 2 is answered: with c->progress if it is kept, else with the other one. */
void close_later(struct sessions *s, uint32_t session, const struct closing *c,
                 const struct ipc_bytes *progress_refused);
/* A publish of QoS 2 of a session that has ended is answered. */
void close_answered(struct sessions *s, const struct session_cookie *c, bool is_kept);
void closes_free(struct sessions *s);

#endif
