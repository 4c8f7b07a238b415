/*
 * What comes in on one client's connection: deliveries are counted, compared with their stamps and
 * acknowledged, answers are told to the job that waits for them. Fed by client_io.c with whatever recv()
 * gave; keeps nothing itself. The acknowledgements of all that was read at once are sent at once.
 */
#include <stdio.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/tools/bench/client.h"
#include "gateway/tools/bench/wire.h"
#include "proto/mqtt.h"

/* One SUBSCRIBE behind the others in `out`. */
static size_t add_subscribe(struct client_process *p, struct client *c, char *out, size_t cap,
                            const char *topic)
{
    if (++c->packet_id == 0)
        c->packet_id = 1;
    c->awaited++;
    return wire_subscribe(out, cap, p->options->version, c->packet_id, topic, p->options->qos);
}

bool client_subscribe(struct client_process *p, struct client *c, unsigned topics)
{
    const struct fleet_options *o = p->options;
    char out[2048], topic[96];
    size_t n = 0;
    if (topics & FLEET_TOPIC_COMMON) {
        n += add_subscribe(p, c, out, sizeof out, o->topic);
        c->flags |= CLIENT_SUBSCRIBED;
    }
    if (topics & FLEET_TOPIC_OWN) {
        snprintf(topic, sizeof topic, "%s/%u", o->topic, client_number(p, c) * o->id_step);
        n += add_subscribe(p, c, out + n, sizeof out - n, topic);
    }
    for (uint32_t k = 0; topics & FLEET_TOPIC_GROUPS && k < o->population.memberships; k++) {
        snprintf(topic, sizeof topic, "%s/g/%u", o->topic,
                 population_group(&o->population, client_number(p, c), k));
        n += add_subscribe(p, c, out + n, sizeof out - n, topic);
    }
    return client_send(p, c, out, n);
}

/* Whether a message is for another client only. */
static bool is_misdirected(const struct client_process *p, const struct client *c, uint32_t stream)
{
    return stream != STREAM_COMMON && stream < stream_of_group(0) &&
           stream != stream_of_client(client_number(p, c));
}

/* Stream 0 has to come without gaps. False: a message that was there already. */
static bool in_sequence(struct client_process *p, struct client *c, uint32_t seq)
{
    if (c->next_seq && seq != c->next_seq) {
        if (seq < c->next_seq) {
            p->counters->duplicates++;
            return false;
        }
        if (!(c->flags & CLIENT_WAS_HELD)) /* a slow one may lose some */
            p->counters->gaps += seq - c->next_seq;
    }
    c->next_seq = seq + 1;
    return true;
}

/* Messages of all streams together have to come in the order of their numbers. False: not this one. */
static bool in_order(struct client_process *p, struct client *c, uint32_t seq)
{
    if (seq < c->next_seq) {
        p->counters->duplicates++;
        return false;
    }
    c->next_seq = seq + 1;
    return true;
}

/* Whether a message was sent while the client was arriving or leaving, so that nobody says whether it must
 * come. */
static bool is_uncounted(const struct client_process *p, const struct client *c, uint64_t sent_ns)
{
    const struct fleet_client *s = &p->shared[c - p->client];
    return sent_ns < s->ready_ns || (s->leaving_ns && sent_ns >= s->leaving_ns);
}

/* Whether a message counts, by its stream. */
static bool is_counted(struct client_process *p, struct client *c, const struct wire_stamp *s)
{
    if (s->stream == STREAM_COMMON)
        return in_sequence(p, c, s->seq);
    if (p->options->in_order) {
        if (!in_order(p, c, s->seq))
            return false;
    } else if (is_uncounted(p, c, s->sent_ns)) {
        p->counters->uncounted++;
        return false;
    }
    c->hash += population_message_hash(s->stream, s->seq);
    return true;
}

/* A message. The stamp says what it should have been. */
static void on_message(struct client_process *p, struct client *c, const char *payload, uint32_t len)
{
    struct wire_stamp s;
    struct fleet_counters *n = p->counters;
    if (len < sizeof s || (memcpy(&s, payload, sizeof s), s.magic != WIRE_STAMP_MAGIC || s.len != len) ||
        is_misdirected(p, c, s.stream)) {
        n->foreign++;
        return;
    }
    if (!is_counted(p, c, &s))
        return;
    c->received++;
    if (c->flags & CLIENT_WAS_HELD) {
        n->late_deliveries++;
        return;
    }
    n->deliveries++;
    uint64_t now = wire_now_ns();
    histogram_record(&n->latency, now > s.sent_ns ? now - s.sent_ns : 0);
}

/* Sends the acknowledgements that have gathered. */
static bool send_acks(struct client_process *p, struct client *c)
{
    size_t n = p->acks_len;
    p->acks_len = 0;
    return n == 0 || client_send(p, c, p->acks, n);
}

/* Adds one; who is silent says nothing. One that ends an exchange (PUBACK, PUBCOMP) is counted. False: the
 * client is closed. */
static bool acknowledge(struct client_process *p, struct client *c, uint8_t type, uint16_t packet_id)
{
    if (c->flags & CLIENT_SILENT)
        return true;
    if (p->acks_len + WIRE_ACK > sizeof p->acks && !send_acks(p, c))
        return false;
    wire_ack(p->acks + p->acks_len, type, packet_id);
    p->acks_len += WIRE_ACK;
    if (type != MQTT_PUBREC && !(c->flags & CLIENT_WAS_HELD))
        p->counters->acknowledged++;
    return true;
}

/* A PUBLISH. */
static bool on_delivery(struct client_process *p, struct client *c, const struct wire_delivery *d)
{
    on_message(p, c, d->payload, d->len);
    return d->qos == 0 || acknowledge(p, c, d->qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, d->packet_id);
}

/* All that was wanted is the handshake: leaves again. */
static void in_and_out(struct client_process *p, struct client *c)
{
    char packet[WIRE_MAX_SMALL];
    if (!client_send(p, c, packet, wire_disconnect(packet, sizeof packet, p->options->version)))
        return;
    client_shut(p, c, false);
    client_job_done(p, c, true);
}

/* CONNACK. */
static bool on_connack(struct client_process *p, struct client *c, const struct mqtt_packet *m)
{
    if (c->state != CLIENT_CONNACK || m->u.connack.code != 0) {
        char text[48];
        snprintf(text, sizeof text, "CONNACK with code %u", m->u.connack.code);
        client_fail(p, c, text, 0);
        return false;
    }
    c->state = CLIENT_READY;
    p->counters->connected++;
    p->counters->resumed_sessions += m->u.connack.session_present;
    uint32_t us = (uint32_t)(wire_now_ns() / 1000u) - c->sent_us;
    histogram_record(&p->counters->connect_latency, (uint64_t)us * 1000u);
    if (c->flags & CLIENT_BUSY && p->job.command.op == FLEET_HANDSHAKE) {
        in_and_out(p, c);
        return false;
    }
    client_watch(p, c, true);
    if (c->flags & CLIENT_RETURNING) {
        c->next_seq = 0;
        return client_subscribe(p, c, p->options->topics);
    }
    if (c->flags & CLIENT_BUSY && p->job.command.op == FLEET_CONNECT)
        client_job_done(p, c, true);
    return true;
}

/* The last awaited SUBACK: messages sent from a moment later on must come. */
static void all_subscribed(struct client_process *p, struct client *c)
{
    struct fleet_client *s = &p->shared[c - p->client];
    __atomic_store_n(&s->ready_ns, wire_now_ns() + FLEET_NOTICE_NS, __ATOMIC_RELEASE);
    __atomic_store_n(&s->leaving_ns, 0, __ATOMIC_RELEASE);
    if (c->flags & CLIENT_RETURNING) {
        c->flags &= (uint8_t)~CLIENT_RETURNING;
        p->counters->returned++;
    }
    if (c->flags & CLIENT_BUSY && p->job.command.op != FLEET_HEARTBEAT)
        client_job_done(p, c, true);
}

/* SUBACK with its one code, which is the QoS that was asked for. */
static bool on_suback(struct client_process *p, struct client *c, const struct mqtt_packet *m)
{
    if (c->awaited == 0 || m->u.suback.codes.len != 1 ||
        (uint8_t)m->u.suback.codes.data[0] != p->options->qos) {
        client_fail(p, c, "SUBACK that says no or grants another QoS, or that nobody awaits", 0);
        return false;
    }
    p->counters->subscribed++;
    if (--c->awaited == 0)
        all_subscribed(p, c);
    return true;
}

/* PINGRESP. */
static bool on_pingresp(struct client_process *p, struct client *c)
{
    p->counters->answers++;
    uint32_t us = (uint32_t)(wire_now_ns() / 1000u) - c->sent_us;
    histogram_record(&p->counters->answer_latency, (uint64_t)us * 1000u);
    if (c->flags & CLIENT_BUSY && p->job.command.op == FLEET_HEARTBEAT)
        client_job_done(p, c, true);
    return true;
}

/* One decoded packet. False: the client is closed. */
static bool on_packet(struct client_process *p, struct client *c, const struct mqtt_packet *m)
{
    char text[64];
    switch (m->type) {
    case MQTT_CONNACK:
        return on_connack(p, c, m);
    case MQTT_SUBACK:
        return on_suback(p, c, m);
    case MQTT_PINGRESP:
        return on_pingresp(p, c);
    case MQTT_PUBLISH:
        return on_delivery(p, c,
                           &(struct wire_delivery){.payload = m->u.publish.payload.data,
                                                   .len = m->u.publish.payload.len,
                                                   .packet_id = m->u.publish.packet_id,
                                                   .qos = m->u.publish.qos});
    case MQTT_PUBREL:
        return acknowledge(p, c, MQTT_PUBCOMP, m->u.ack.packet_id);
    case MQTT_DISCONNECT:
        snprintf(text, sizeof text, "DISCONNECT: %s", mqtt_reason_name(m->u.disconnect.code));
        client_fail(p, c, text, 0);
        return false;
    default:
        p->counters->protocol_errors++;
        client_fail(p, c, "packet of a type that nobody awaits", 0);
        return false;
    }
}

/* Takes one packet; *used: its bytes, 0: it is not complete. False: the client is closed. */
static bool parse_one(struct client_process *p, struct client *c, const char *buf, size_t len, size_t *used)
{
    struct wire_delivery d;
    *used = wire_plain_publish(buf, len, p->options->version, &d);
    if (*used)
        return on_delivery(p, c, &d);
    struct mqtt_packet m;
    struct mqtt_error e;
    enum mqtt_result r = mqtt_decode(buf, len, p->options->version, WIRE_MAX_PACKET, &m, used, &e);
    if (r == MQTT_OK)
        return on_packet(p, c, &m);
    *used = 0;
    if (r == MQTT_MORE)
        return true;
    p->counters->protocol_errors++;
    client_fail(p, c, e.text, 0);
    return false;
}

ssize_t client_parse(struct client_process *p, struct client *c, const char *buf, size_t len)
{
    size_t at = 0, used;
    p->acks_len = 0;
    do {
        if (!parse_one(p, c, buf + at, len - at, &used))
            return -1;
        at += used;
    } while (used && at < len);
    return send_acks(p, c) ? (ssize_t)at : -1;
}
