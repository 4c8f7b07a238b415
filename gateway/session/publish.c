/*
 * Makes the PUBLISH packets that clients get, and sends one to one client. What all clients of a message
 * share, deliver.c does; here is what is a client's own: subscription identifiers, aliases, DUP, messages out
 * of the log.
 */
#include "gateway/session/publish.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/hash.h"
#include "gateway/base/xmalloc.h"
#include "gateway/session/catch_up.h"
#include "gateway/session/requests.h"
#include "gateway/session/window.h"

#define IDENTIFIER_ROOM 8 /* of one encoded Subscription Identifier: at most 5 bytes */
#define PROPS_STACK     512

/* Subscription identifiers, encoded; returns their length. */
static size_t put_identifiers(const struct publish_form *form, char *out)
{
    size_t len = 0;
    for (size_t i = 0; i < form->subscription_count; i++) {
        uint32_t identifier = form->subscriptions[i] >> SUB_IDENTIFIER_SHIFT;
        if (identifier)
            len += mqtt_prop_put(out + len, IDENTIFIER_ROOM, MQTT_P_SUBSCRIPTION_ID, identifier,
                                 (struct mqtt_bytes){0});
    }
    return len;
}

static struct frame *encode(const struct mqtt_packet *p, uint8_t version)
{
    size_t len = mqtt_encode(p, version, NULL, 0);
    if (!len)
        return NULL;
    struct frame *f = frame_new(len);
    CHECK(mqtt_encode(p, version, f->data, len) == len);
    f->must_arrive = p->u.publish.qos > 0;
    return f;
}

struct frame *publish_encode(const struct message_parts *m, const struct publish_form *form)
{
    struct mqtt_packet p = {.type = MQTT_PUBLISH};
    struct mqtt_publish *pub = &p.u.publish;
    pub->qos = form->qos;
    pub->retain = form->retain;
    pub->dup = form->dup;
    pub->packet_id = form->packet_id;
    if (!form->alias_instead)
        pub->topic = (struct mqtt_bytes){.data = m->topic, .len = m->topic_len};
    pub->payload = (struct mqtt_bytes){.data = m->payload, .len = m->payload_len};
    pub->props.raw = (struct mqtt_bytes){.data = m->props, .len = m->props_len};
    if (m->expires_ms) {
        uint64_t now = clock_wall_ms(), left_ms = m->expires_ms > now ? m->expires_ms - now : 0;
        mqtt_props_set_num(&pub->props, MQTT_P_MESSAGE_EXPIRY, (uint32_t)((left_ms + 999) / 1000));
    }
    if (form->alias)
        mqtt_props_set_num(&pub->props, MQTT_P_TOPIC_ALIAS, form->alias);
    char stack[PROPS_STACK], *raw = NULL;
    size_t room = form->subscription_count * IDENTIFIER_ROOM + m->props_len;
    if (form->subscription_count) {
        raw = room > sizeof stack ? xmalloc(room) : stack;
        size_t len = put_identifiers(form, raw);
        if (m->props_len)
            memcpy(raw + len, m->props, m->props_len);
        pub->props.raw = (struct mqtt_bytes){.data = raw, .len = (uint32_t)(len + m->props_len)};
    }
    struct frame *f = encode(&p, form->version);
    if (raw != stack)
        free(raw);
    return f;
}

bool publish_is_own(const struct sessions *s, uint32_t id, uint64_t origin)
{
    size_t len;
    const char *client_id = sessions_client_id(s, id, &len);
    return origin == hash_known(client_id, len);
}

bool publish_is_implicit(const struct sessions *s, uint32_t id, const char *topic, size_t len)
{
    const char *prefix = s->config->clients_prefix, *everybody = s->config->broadcast_topic;
    size_t prefix_len = strlen(prefix), id_len;
    const char *client_id = sessions_client_id(s, id, &id_len);
    if (*everybody && len == strlen(everybody) && memcmp(topic, everybody, len) == 0)
        return true;
    return prefix_len && len == prefix_len + id_len && memcmp(topic, prefix, prefix_len) == 0 &&
           memcmp(topic + prefix_len, client_id, id_len) == 0;
}

void publish_merge(struct merged *out, const sub_options *options, size_t count, uint8_t qos, bool is_own)
{
    uint8_t most = 0;
    out->count = 0; /* and not all of it: the options are many, and few of them are used */
    out->retain_as_published = out->has_identifier = false;
    for (size_t i = 0; i < count && out->count < MERGED_MAX; i++) {
        if (is_own && options[i] & SUB_NO_LOCAL)
            continue;
        out->options[out->count++] = options[i];
        if ((options[i] & SUB_QOS) > most)
            most = options[i] & SUB_QOS;
        out->retain_as_published |= (options[i] & SUB_RETAIN_AS_PUBLISHED) != 0;
        out->has_identifier |= options[i] >> SUB_IDENTIFIER_SHIFT != 0;
    }
    out->qos = qos < most ? qos : most;
}

/* The entry of the window for a message about to be sent; NULL: no room. */
static struct inflight *take_place(struct sessions *s, struct window *w, const struct message_parts *m,
                                   uint8_t qos, struct inflight *again, uint8_t flags)
{
    if (!again)
        return window_add(s, w, m->seq, qos, ENGINE_SENT, flags);
    again->qos = qos;
    window_again(w, again);
    return again;
}

/* Whether the message was, or may have been, sent before. */
static bool is_again(const struct sessions *s, const struct session *ses, uint8_t qos, uint64_t seq,
                     const struct inflight *again, uint8_t flags)
{
    const struct window *w = window_of(s, ses);
    bool may_be = !(flags & INFLIGHT_ASIDE) || flags & INFLIGHT_UNSURE;
    return again || flags & INFLIGHT_DUP || (qos && w && may_be && seq <= catch_up_unsure_to(w));
}

bool id_is_taken(struct sessions *s, uint32_t id, const struct window *w, uint16_t packet_id)
{
    if (window_waits_for_store(s, w, packet_id))
        request_store(s, id);
    return window_is_taken(s, w, packet_id);
}

enum publish_result publish_to(struct sessions *s, uint32_t id, const struct message_parts *m,
                               const struct merged *how, bool retain, struct inflight *again, uint8_t flags)
{
    struct session *ses = session_at(s, id);
    const struct conn *c = net_conn(s->net, ses->conn);
    struct publish_form form = {.version = c->protocol,
                                .qos = how->qos,
                                .retain = retain,
                                .dup = is_again(s, ses, how->qos, m->seq, again, flags),
                                .packet_id = how->qos ? window_packet_id(m->seq) : 0,
                                .subscriptions = how->options,
                                .subscription_count = how->has_identifier ? how->count : 0};
    struct window *w = how->qos ? window_need(s, id) : NULL;
    if (how->qos && (!w || !window_has_room(s, ses, w) || (!again && id_is_taken(s, id, w, form.packet_id))))
        return PUBLISH_NO_ROOM;
    bool is_new = false;
    if (alias_wanted(s, ses))
        form.alias = alias_outgoing(s, ses, m->topic, m->topic_len, &is_new);
    form.alias_instead = form.alias && !is_new;
    struct frame *f = publish_encode(m, &form);
    if (!f || !session_takes(s, ses, f->len)) {
        frame_unref(f);
        counter_add(COUNTER_DELIVERIES_TOO_LARGE, 1); /* [MQTT-3.1.2-24], -25 */
        return PUBLISH_SKIPPED;
    }
    if (w && !take_place(s, w, m, how->qos, again, flags)) {
        frame_unref(f);
        return PUBLISH_NO_ROOM;
    }
    if (is_new)
        alias_told(s, ses, m->topic, m->topic_len);
    enum send_result sent = net_send_frame(s->net, ses->conn, f);
    if (sent == SEND_DONE || sent == SEND_QUEUED) {
        counter_add(COUNTER_DELIVERIES, 1);
        counter_add(COUNTER_PUBLISH_BYTES_OUT, m->payload_len);
    }
    frame_unref(f);
    return PUBLISH_SENT;
}
