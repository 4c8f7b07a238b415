/*
 * PUBACK, PUBREC, PUBREL, PUBCOMP: how messages in flight come to their end (MQTT 5.0 section 4.3; 3.1.1
 * likewise).
 *
 * What must not be done twice is stored before the other end may forget it: that the client has received a
 * message, before PUBREL; that it has released one of its own, before PUBCOMP. Sessions that are not stored
 * are answered at once. Acknowledgements go out in the order of what they answer ([MQTT-4.6.0-2] to -4); what
 * cannot be answered in its turn yet is put off.
 */
#include "gateway/session/handle_ack.h"

#include "gateway/base/counters.h"
#include "gateway/session/catch_up.h"
#include "gateway/session/requests.h"
#include "gateway/session/window.h"

void send_ack(struct sessions *s, uint32_t id, enum mqtt_type type, uint16_t packet_id, uint8_t code)
{
    send_refusal(s, id, type, packet_id, code, NULL);
}

void send_refusal(struct sessions *s, uint32_t id, enum mqtt_type type, uint16_t packet_id, uint8_t code,
                  const char *why)
{
    const struct session *ses = session_at(s, id);
    const struct conn *c = net_conn(s->net, ses->conn);
    struct mqtt_packet p = {.type = type};
    p.u.ack.packet_id = packet_id;
    p.u.ack.code = code;
    if (why && c->protocol == MQTT_V5)
        reason_tell(s, id, &p, &p.u.ack.props, why);
    if (c->state != CONN_DOOMED && c->protocol)
        mqtt_send(s, ses->conn, c->protocol, &p);
}

/* The message in flight that an acknowledgement speaks of, or NULL. */
static struct inflight *inflight_of(struct sessions *s, uint32_t id)
{
    const struct window *w = window_of(s, session_at(s, id));
    struct inflight *i = w ? window_find(s, w, s->packet.u.ack.packet_id) : NULL;
    return i && i->flags & INFLIGHT_AGAIN && i->state == ENGINE_SENT ? NULL : i; /* not sent here yet */
}

/* A message is done with: there may be room for the next. */
static void finish(struct sessions *s, uint32_t id, struct inflight *i)
{
    struct session *ses = session_at(s, id);
    window_done(s, ses, i);
    if (window_is_full_of_done(window_of(s, ses)))
        request_store(s, id);
    catch_up_if_room(s, id);
    window_tidy(s, ses);
}

void handle_puback(struct sessions *s, uint32_t conn)
{
    uint32_t id = net_conn(s->net, conn)->owner;
    struct inflight *i = inflight_of(s, id);
    if (!i)
        return; /* of an earlier connection, perhaps; it does no harm */
    if (i->qos != 1) {
        sessions_close_conn(s, conn, CLOSE_PROTOCOL_ERROR);
        return;
    }
    counter_add(COUNTER_ACKNOWLEDGED, 1);
    finish(s, id, i);
}

/* PUBREC for no message: nothing is to be stored for PUBREL, which comes behind the others all the same. */
static void answer_unknown(struct sessions *s, uint32_t id, uint16_t packet_id)
{
    if (!session_is_stored(s, session_at(s, id)))
        send_ack(s, id, MQTT_PUBREL, packet_id, MQTT_RC_PACKET_ID_NOT_FOUND);
    else if (!request_ack(s, id, REQUEST_PUBREL, packet_id, MQTT_RC_PACKET_ID_NOT_FOUND))
        sessions_close(s, id, CLOSE_NO_MEMORY);
}

void handle_pubrec(struct sessions *s, uint32_t conn)
{
    const struct mqtt_ack *p = &s->packet.u.ack;
    const struct conn *c = net_conn(s->net, conn);
    uint32_t id = c->owner;
    struct inflight *i = inflight_of(s, id);
    if (!i) {
        if (p->code < 0x80)
            answer_unknown(s, id, p->packet_id);
        return;
    }
    if (i->qos != 2) {
        sessions_close_conn(s, conn, CLOSE_PROTOCOL_ERROR);
        return;
    }
    if (c->protocol == MQTT_V5 && p->code >= 0x80) { /* [MQTT-4.3.3-4]: no PUBREL after that */
        finish(s, id, i);
        return;
    }
    bool is_stored = session_is_stored(s, session_at(s, id));
    if (is_stored && window_is_asking(window_of(s, session_at(s, id))) && put_off(s, id))
        return;
    i->state = ENGINE_RECEIVED;
    if (!is_stored)
        send_ack(s, id, MQTT_PUBREL, p->packet_id, 0);
    else if (!request_progress(s, id, REQUEST_PUBREL, p->packet_id))
        sessions_close_conn(s, conn, CLOSE_NO_MEMORY);
}

void handle_pubcomp(struct sessions *s, uint32_t conn)
{
    uint32_t id = net_conn(s->net, conn)->owner;
    struct inflight *i = inflight_of(s, id);
    if (!i || i->state != ENGINE_RECEIVED)
        return;
    counter_add(COUNTER_ACKNOWLEDGED, 1);
    finish(s, id, i);
}

void handle_pubrel(struct sessions *s, uint32_t conn)
{
    uint16_t packet_id = s->packet.u.ack.packet_id;
    uint32_t id = net_conn(s->net, conn)->owner;
    struct session *ses = session_at(s, id);
    struct window *w = window_of(s, ses);
    enum incoming_state state = w ? incoming_find(w->incoming, packet_id) : INCOMING_NONE;
    bool is_stored = session_is_stored(s, ses);
    if (state == INCOMING_NONE) {
        send_ack(s, id, MQTT_PUBCOMP, packet_id, MQTT_RC_PACKET_ID_NOT_FOUND);
        return;
    }
    if ((state == INCOMING_ASKED || (is_stored && window_is_asking(w))) && put_off(s, id))
        return;
    incoming_remove(&w->incoming, packet_id);
    if (!is_stored)
        send_ack(s, id, MQTT_PUBCOMP, packet_id, 0);
    else if (!request_progress(s, id, REQUEST_PUBCOMP, packet_id))
        sessions_close_conn(s, conn, CLOSE_NO_MEMORY);
    window_tidy(s, ses);
}

void resume_releases(struct sessions *s, uint32_t id)
{
    const struct window *w = window_of(s, session_at(s, id));
    for (uint32_t at = w ? w->first : 0, next; at; at = next) {
        const struct inflight *i = pool_at(s->inflights, at);
        next = i->next;
        if (i->state == ENGINE_RECEIVED)
            send_ack(s, id, MQTT_PUBREL, window_packet_id(i->seq), 0);
    }
}
