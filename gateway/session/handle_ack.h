/*
 * Acknowledgements, both ways (MQTT 5.0 sections 3.4 to 3.7 and 4.3). Inside the session layer only.
 */
#ifndef HOLDFAST_SESSION_HANDLE_ACK_H
#define HOLDFAST_SESSION_HANDLE_ACK_H

#include "gateway/engine/engine_store.h"
#include "gateway/session/session_internal.h"

/* Sends PUBACK, PUBREC, PUBREL or PUBCOMP with a reason code. */
void send_ack(struct sessions *s, uint32_t id, enum mqtt_type type, uint16_t packet_id, uint8_t code);
/* The same with a reason in words for a client of 5.0. */
void send_refusal(struct sessions *s, uint32_t id, enum mqtt_type type, uint16_t packet_id, uint8_t code,
                  const char *why);
/*
 * handle_publish.c: the packet being handled stays unread until all publishes of the client that came before
 * it are answered. False: there are none.
 */
bool put_off(struct sessions *s, uint32_t id);
/* It is known what became of a publish of the client. */
void publish_answered(struct sessions *s, uint32_t id, uint16_t packet_id, bool is_qos2,
                      enum engine_result result);
/* What a resumed session had received is to be released (before anything is sent again). */
void resume_releases(struct sessions *s, uint32_t id);

void handle_puback(struct sessions *s, uint32_t conn);
void handle_pubrec(struct sessions *s, uint32_t conn);
void handle_pubrel(struct sessions *s, uint32_t conn);
void handle_pubcomp(struct sessions *s, uint32_t conn);

#endif
