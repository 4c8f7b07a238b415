/*
 * The MQTT driver: takes a connection's bytes apart into packets and hands each to its handler.
 *
 * Fed by the connections' input, drains into the handlers; a packet that cannot be decoded, or is not allowed
 * at this point, ends the connection with the reason that fits and has no effect. Keeps nothing between two
 * calls: an incomplete packet stays with the connection, and so does one that its handler has put off (the
 * connection is held then).
 */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"
#include "gateway/net/sockets.h"
#include "gateway/session/handle_ack.h"
#include "gateway/session/session_internal.h"

#define SEND_STACK 512

LOG_EVENT(log_bad_packet, "bad_packet", LOG_LEVEL_DEBUG);

/* Which handler serves a packet; without one a client may not send it. What is not CONNECT needs a session
 * first ([MQTT-3.1.0-1]). */
static const mqtt_handler_fn handlers[16] = {
    [MQTT_CONNECT] = handle_connect,     [MQTT_PUBLISH] = handle_publish,
    [MQTT_SUBSCRIBE] = handle_subscribe, [MQTT_UNSUBSCRIBE] = handle_unsubscribe,
    [MQTT_PINGREQ] = handle_pingreq,     [MQTT_DISCONNECT] = handle_disconnect,
    [MQTT_PUBACK] = handle_puback,       [MQTT_PUBREC] = handle_pubrec,
    [MQTT_PUBREL] = handle_pubrel,       [MQTT_PUBCOMP] = handle_pubcomp,
};

/* The close reason for a decoder's reason code. */
static enum close_reason bad_packet_reason(uint8_t code)
{
    static const struct {
        uint8_t code;
        enum close_reason reason;
    } rows[] = {{MQTT_RC_PROTOCOL_ERROR, CLOSE_PROTOCOL_ERROR},
                {MQTT_RC_PACKET_TOO_LARGE, CLOSE_TOO_LARGE},
                {MQTT_RC_TOPIC_NAME_INVALID, CLOSE_BAD_TOPIC},
                {MQTT_RC_TOPIC_FILTER_INVALID, CLOSE_BAD_FILTER},
                {MQTT_RC_TOPIC_ALIAS_INVALID, CLOSE_TOPIC_ALIAS}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].code == code)
            return rows[i].reason;
    return CLOSE_MALFORMED;
}

/* Whether a packet of len bytes is more than the client takes ([MQTT-3.1.2-24]). */
static bool exceeds_client(const struct sessions *s, uint32_t conn, size_t len)
{
    uint32_t owner = net_conn(s->net, conn)->owner;
    return owner && !session_takes(s, session_at(s, owner), len);
}

void mqtt_send(struct sessions *s, uint32_t conn, uint8_t version, const struct mqtt_packet *p)
{
    char stack[SEND_STACK], *out = stack;
    size_t len = mqtt_encode(p, version, stack, sizeof stack);
    CHECK(len > 0);
    if (exceeds_client(s, conn, len)) {
        net_close(s->net, conn, CLOSE_CLIENT_LIMIT); /* an answer it is owed and does not take */
        return;
    }
    if (len > sizeof stack) {
        out = xmalloc(len);
        CHECK(mqtt_encode(p, version, out, len) == len);
    }
    net_send(s->net, conn, out, len);
    counter_add(COUNTER_PACKETS_OUT, 1);
    if (out != stack)
        free(out);
}

/* Ends the connection over a packet that could not be decoded. */
static void reject(struct sessions *s, uint32_t conn, enum mqtt_type type, const struct mqtt_error *e)
{
    const struct conn *c = net_conn(s->net, conn);
    char peer[SOCKETS_ADDRESS_TEXT];
    if (log_wants(&log_bad_packet))
        LOG(log_bad_packet, LOG_STR("packet", mqtt_type_name(type)), LOG_STR("error", e->text),
            LOG_STR("address", sockets_peer_text(c->fd, peer)));
    if (!c->protocol)
        connect_refuse(s, conn, s->packet.u.connect.level, connect_max_packet(&s->packet.u.connect), e->code,
                       e->text, bad_packet_reason(e->code));
    else
        sessions_close_conn(s, conn, bad_packet_reason(e->code));
}

/* Hands a decoded packet to its handler. */
static void dispatch(struct sessions *s, uint32_t conn)
{
    struct conn *c = net_conn(s->net, conn);
    enum mqtt_type type = s->packet.type;
    bool expected = handlers[type] && (type == MQTT_CONNECT) == !c->protocol;
    c->heard = (uint32_t)clock_ms();
    if (expected)
        handlers[type](s, conn);
    else
        sessions_close_conn(s, conn, CLOSE_PROTOCOL_ERROR);
}

/* Handles one packet after the other. Returns the bytes that are done with. */
static size_t handle_packets(struct sessions *s, uint32_t conn, const unsigned char *data, size_t len,
                             size_t *need)
{
    const struct conn *c = net_conn(s->net, conn);
    size_t at = 0;
    while (at < len && c->state != CONN_DOOMED && !net_is_held(s->net, conn)) {
        enum mqtt_type type = mqtt_peek_type(data[at]);
        if (!c->protocol && type != MQTT_CONNECT)
            return sniff_input(s, conn, data, len, need);
        struct mqtt_error error;
        size_t used = 0;
        uint32_t max = c->protocol ? s->config->max_packet_size : s->config->max_connect_size;
        s->packet.u.connect.level = 0;
        s->packet.u.connect.props.present = 0;
        switch (mqtt_decode(data + at, len - at, c->protocol, max, &s->packet, &used, &error)) {
        case MQTT_OK:
            dispatch(s, conn);
            if (s->put_off) {
                s->put_off = false;
                return at;
            }
            at += used;
            counter_add(COUNTER_PACKETS_IN, 1);
            break;
        case MQTT_MORE:
            *need = used;
            return at;
        case MQTT_BAD:
            reject(s, conn, type, &error);
            return len;
        }
    }
    return at;
}

size_t mqtt_input(struct sessions *s, uint32_t conn, const unsigned char *data, size_t len, size_t *need)
{
    size_t used = handle_packets(s, conn, data, len, need);
    if (s->pings)
        answer_pings(s, conn);
    return used;
}
