/*
 * Delivery: the end of a fan-out. Encodes the message once per protocol version, at the first session that
 * needs it, and gives each session's connection the shared frame. The hot path of the gateway: four loads
 * from pools and one send().
 */
#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/hash.h"
#include "gateway/session/session_internal.h"

#define OPTION_NO_LOCAL 0x04

/* The PUBLISH as clients of this version get it; NULL when it cannot be encoded. With one reference. */
static struct frame *encode(const struct message *m, uint8_t version)
{
    struct mqtt_packet p = {.type = MQTT_PUBLISH};
    struct mqtt_publish *pub = &p.u.publish;
    pub->topic = (struct mqtt_bytes){.data = message_topic(m), .len = m->topic_len};
    pub->payload = (struct mqtt_bytes){.data = message_payload(m), .len = m->payload_len};
    pub->props.raw = (struct mqtt_bytes){.data = message_props(m), .len = m->props_len};
    if (m->expires_ms) {
        uint64_t now = clock_wall_ms(), left_ms = m->expires_ms > now ? m->expires_ms - now : 0;
        mqtt_props_set_num(&pub->props, MQTT_P_MESSAGE_EXPIRY, (uint32_t)((left_ms + 999) / 1000));
    }
    size_t len = mqtt_encode(&p, version, NULL, 0);
    if (!len)
        return NULL;
    struct frame *f = frame_new(len);
    CHECK(mqtt_encode(&p, version, f->data, len) == len);
    return f;
}

/* The frame for this version, encoded now if nobody needed it before. */
static struct frame *frame_for(struct fanout_job *job, uint8_t version)
{
    unsigned i = version == MQTT_V5;
    if (!job->frame_tried[i]) {
        job->frame_tried[i] = true;
        job->frame[i] = encode(job->message, version);
    }
    return job->frame[i];
}

/* Whether the session does not want its own message back ([MQTT-3.8.3-3]). */
static bool is_own(const struct sessions *s, uint32_t id, const struct message *m)
{
    size_t len;
    const char *client_id = sessions_client_id(s, id, &len);
    return m->origin == hash_bytes(client_id, len);
}

static void deliver(void *ctx, uint32_t id, uint8_t options, struct fanout_job *job)
{
    struct sessions *s = ctx;
    const struct session *ses = session_at(s, id);
    const struct conn *c = net_conn(s->net, ses->conn);
    if (options & OPTION_NO_LOCAL && is_own(s, id, job->message))
        return;
    struct frame *f = frame_for(job, c->protocol);
    const struct session_extra *extra = session_extra(s, ses);
    if (!f || (extra && extra->max_packet && f->len > extra->max_packet)) {
        counter_add(COUNTER_DELIVERIES_TOO_LARGE, 1); /* [MQTT-3.1.2-24], -25 */
        return;
    }
    switch (net_send_frame(s->net, ses->conn, f)) {
    case SEND_DONE:
    case SEND_QUEUED:
        counter_add(COUNTER_DELIVERIES, 1);
        break;
    case SEND_DROPPED:
    case SEND_GONE:
        break;
    }
}

static uint32_t next_session(void *ctx, uint32_t after) { return sessions_next(ctx, after); }

static uint32_t find_session(void *ctx, const char *client_id, size_t len)
{
    return sessions_find(ctx, client_id, len);
}

static uint32_t session_bound(void *ctx)
{
    const struct sessions *s = ctx;
    return pool_bound(s->pool);
}

/* An expired message is not delivered any more ([MQTT-3.3.2-5]). */
static bool is_void(void *ctx, const struct message *m)
{
    (void)ctx;
    if (!m->expires_ms || m->expires_ms > clock_wall_ms())
        return false;
    counter_add(COUNTER_DELIVERIES_EXPIRED, 1);
    return true;
}

const struct fanout_ops sessions_fanout_ops = {.deliver = deliver,
                                               .next_session = next_session,
                                               .session_bound = session_bound,
                                               .find_session = find_session,
                                               .is_void = is_void};
