/*
 * Clients that do everything the standard allows, in random order, against a model: they publish and
 * subscribe, acknowledge in any order or late, stop reading, lose their connections, take their sessions
 * over, and resume; meanwhile the hub is slow at every step, refuses messages, and workers are killed. At the
 * end everybody gets everything, and:
 *
 *   - what was acknowledged to its publisher is kept, with QoS 2 exactly once; what was refused with QoS 2 is
 * not
 *   - each session has got every message that its subscriptions matched: with QoS 2 once, with QoS 1 at least
 *   - and for the first time in the order of the topic
 *   - nothing is left in flight, and nothing came that nobody had asked for
 *
 * A failure names its seed; SESSION_SEED=<seed> runs that one again, SESSION_ROUNDS=<n> runs more of them.
 */
#include "tests/unit/session_peer.h"

#define CLIENTS     5
#define TOPICS      4
#define STEPS       1500
#define MESSAGES    (STEPS * 2)
#define OUTSTANDING 6
#define FIXED_SEEDS 24
#define NEW_SEEDS   8

static struct rig rig;

/* ---- chance ---- */

static uint64_t seed, state;
static bool kills; /* workers are killed; otherwise packet identifiers come round */

static uint32_t draw(uint32_t below)
{
    state += UINT64_C(0x9E3779B97F4A7C15);
    uint64_t z = state;
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (uint32_t)((z ^ z >> 31) % below);
}

/* ---- the model ---- */

enum fate { FATE_OPEN, FATE_ACKNOWLEDGED, FATE_REFUSED };

static struct message_model {
    uint8_t topic; /* TOPICS + n: the own topic of client n */
    uint8_t qos;
    enum fate fate;
    unsigned kept;
    uint64_t seq, last_seq; /* the first and the last time it was kept */
    uint8_t due[CLIENTS];   /* what the client is to get: 0 nothing, 1 may, 2 must */
} messages[MESSAGES];
static unsigned message_count;

struct outstanding {
    unsigned number;
    uint16_t packet_id;
    uint8_t qos;
    bool is_released;
};

struct owed_ack {
    enum mqtt_type type;
    uint16_t packet_id;
};

enum own { OWN_NO, OWN_ASKED, OWN_YES, OWN_LEAVING };

static struct client {
    char name[16];
    uint8_t version;
    struct peer peer; /* fd -1: none */
    bool connected, paused, known, uses_aliases, uses_identifiers;
    uint16_t receive_maximum, next_id;
    uint8_t qos[TOPICS]; /* of the subscriptions that match the topic, 0xFF: none does */
    enum own own;        /* the subscription to the own topic, which comes and goes */
    uint16_t own_id;     /* of the SUBSCRIBE or UNSUBSCRIBE that is not answered */
    unsigned got[MESSAGES];
    uint64_t last_seq[TOPICS + CLIENTS];
    bool received[65536]; /* QoS 2, until it is released */
    char alias[17][32];
    unsigned inflight; /* QoS 1 and 2 on this connection, not acknowledged */
    struct owed_ack acks[4096];
    unsigned ack_count;
    struct outstanding out[OUTSTANDING];
    unsigned outs;
} clients[CLIENTS];

static void topic_text(unsigned topic, char out[32])
{
    if (topic < TOPICS)
        snprintf(out, 32, "t/%u", topic);
    else
        snprintf(out, 32, "own/of/%u", topic - TOPICS);
}

/* What the client is to get of a message that is kept now. */
static uint8_t due_now(const struct client *c, const struct message_model *m)
{
    if (m->topic < TOPICS)
        return c->qos[m->topic] == 0xFF ? 0 : c->qos[m->topic] == 0 ? 1 : 2;
    if (m->topic != TOPICS + (c - clients))
        return 0;
    return c->own == OWN_NO ? 0 : c->own == OWN_YES ? 2 : 1;
}

/* Ends the certainty about what was due of the own topic, because the subscription ends. */
static void own_is_uncertain(const struct client *c)
{
    unsigned n = (unsigned)(c - clients);
    for (unsigned i = 0; i < message_count; i++)
        if (messages[i].topic == TOPICS + n && messages[i].due[n] == 2 && !c->got[i])
            messages[i].due[n] = 1;
}

/* The subscription begins with what the worker has not been given yet; what it is just fanning out may come
 * too. */
static void own_begins(const struct client *c)
{
    unsigned n = (unsigned)(c - clients);
    for (unsigned i = 0; i < message_count; i++)
        if (messages[i].topic == TOPICS + n && messages[i].last_seq > fanout_settled(rig.fanout) &&
            !messages[i].due[n])
            messages[i].due[n] = 1;
}

static unsigned number_of(const char *payload, size_t len)
{
    unsigned n = 0;
    ck_assert_uint_ge(len, 2);
    ck_assert_int_eq(payload[0], 'N');
    for (size_t i = 1; i < len && payload[i] >= '0' && payload[i] <= '9'; i++)
        n = n * 10 + (unsigned)(payload[i] - '0');
    ck_assert_uint_lt(n, message_count);
    return n;
}

/* A message has been kept. */
static void kept(void *ctx, const struct message *m)
{
    (void)ctx;
    struct message_model *model = &messages[number_of(message_payload(m), m->payload_len)];
    if (!model->kept++)
        model->seq = m->seq;
    model->last_seq = m->seq;
    for (unsigned n = 0; n < CLIENTS; n++) {
        uint8_t due = due_now(&clients[n], model);
        if (due > model->due[n])
            model->due[n] = due;
    }
}

/* A new message of some topic. */
static unsigned new_message(uint8_t qos)
{
    struct message_model *m = &messages[message_count];
    *m = (struct message_model){.topic = (uint8_t)draw(TOPICS + CLIENTS), .qos = qos};
    return message_count++;
}

/* Its payload: its number, and sometimes so much that sockets fill. */
static size_t payload_of(unsigned number, char out[4096])
{
    size_t len = (size_t)snprintf(out, 4096, "N%u", number);
    if (number % 7 == 0) {
        memset(out + len, '.', 1500);
        len += 1500;
    }
    return len;
}

/* ---- a client hears ---- */

static void owe(struct client *c, enum mqtt_type type, uint16_t packet_id)
{
    ck_assert_uint_lt(c->ack_count, 4096);
    c->acks[c->ack_count++] = (struct owed_ack){.type = type, .packet_id = packet_id};
}

/* The QoS with which the client gets a message. */
static uint8_t granted(const struct client *c, const struct message_model *m)
{
    uint8_t most = m->topic < TOPICS ? c->qos[m->topic] : 2;
    return m->qos < most ? m->qos : most;
}

/* The application gets a message. */
static void take(struct client *c, unsigned number)
{
    const struct message_model *m = &messages[number];
    unsigned n = (unsigned)(c - clients);
    ck_assert_msg(m->kept, "seed %lu: %s got message %u, which was never kept", seed, c->name, number);
    ck_assert_msg(m->due[n], "seed %lu: %s got message %u, which is nothing to it", seed, c->name, number);
    if (c->got[number]++ || !granted(c, m) || (m->kept > 1 && m->topic >= TOPICS))
        return; /* QoS 0 may miss the first time and get the second */
    ck_assert_msg(m->seq > c->last_seq[m->topic],
                  "seed %lu: %s got message %u of topic %u with number %lu after %lu", seed, c->name, number,
                  m->topic, m->seq, c->last_seq[m->topic]);
    c->last_seq[m->topic] = m->seq;
}

static void hear_publish(struct client *c, const struct mqtt_publish *p)
{
    unsigned number = number_of(p->payload.data, p->payload.len);
    char topic[32], got[32];
    struct mqtt_bytes name = p->topic;
    topic_text(messages[number].topic, topic);
    if (c->version == MQTT_V5 && mqtt_has(&p->props, MQTT_P_TOPIC_ALIAS)) {
        uint32_t alias = p->props.value[MQTT_P_TOPIC_ALIAS].num;
        ck_assert(c->uses_aliases && alias >= 1 && alias <= 2);
        if (name.len)
            snprintf(c->alias[alias], 32, "%.*s", (int)name.len, name.data);
        name = (struct mqtt_bytes){.data = c->alias[alias], .len = (uint32_t)strlen(c->alias[alias])};
    }
    snprintf(got, sizeof got, "%.*s", (int)name.len, name.data);
    ck_assert_msg(strcmp(got, topic) == 0, "seed %lu: message %u came with topic \"%s\"", seed, number, got);
    ck_assert_msg(p->qos == granted(c, &messages[number]),
                  "seed %lu: %s got message %u with QoS %u instead of %u", seed, c->name, number, p->qos,
                  granted(c, &messages[number]));
    if (p->qos) {
        c->inflight++;
        ck_assert_msg(!c->receive_maximum || c->inflight <= c->receive_maximum,
                      "seed %lu: %s was sent more than its receive maximum", seed, c->name);
    }
    if (p->qos != 2 || !c->received[p->packet_id])
        take(c, number);
    if (p->qos == 2)
        c->received[p->packet_id] = true;
    if (p->qos)
        owe(c, p->qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, p->packet_id);
}

static void hear_answer(struct client *c, enum mqtt_type type, const struct mqtt_ack *a)
{
    unsigned i = 0;
    while (i < c->outs && c->out[i].packet_id != a->packet_id)
        i++;
    if (i == c->outs) {
        ck_assert_msg(type == MQTT_PUBREC || type == MQTT_PUBCOMP || type == MQTT_PUBACK,
                      "seed %lu: a strange answer", seed);
        return;
    }
    struct outstanding *o = &c->out[i];
    struct message_model *m = &messages[o->number];
    bool refused = a->code >= 0x80 && a->code != MQTT_RC_PACKET_ID_NOT_FOUND;
    if (type == MQTT_PUBREC && !refused) {
        ck_assert_int_eq(o->qos, 2);
        m->fate = FATE_ACKNOWLEDGED;
        ck_assert_msg(m->kept == 1, "seed %lu: PUBREC for message %u, which is kept %u times", seed,
                      o->number, m->kept);
        if (!o->is_released)
            owe(c, MQTT_PUBREL, o->packet_id);
        o->is_released = true;
        return;
    }
    ck_assert_int_eq(o->qos, type == MQTT_PUBACK ? 1 : 2);
    ck_assert_msg(type != MQTT_PUBCOMP || o->is_released, "seed %lu: PUBCOMP without PUBREL", seed);
    if (type != MQTT_PUBCOMP)
        m->fate = refused ? FATE_REFUSED : FATE_ACKNOWLEDGED;
    ck_assert_msg(m->fate != FATE_ACKNOWLEDGED || m->kept,
                  "seed %lu: message %u is acknowledged and not kept", seed, o->number);
    ck_assert_msg(m->fate != FATE_REFUSED || m->qos == 1 || !m->kept,
                  "seed %lu: message %u is refused and kept all the same", seed, o->number);
    memmove(o, o + 1, (--c->outs - i) * sizeof *o);
}

static void hear_subscribed(struct client *c, enum mqtt_type type, uint16_t packet_id)
{
    if (packet_id != c->own_id || !packet_id)
        return;
    c->own_id = 0;
    c->own = type == MQTT_SUBACK ? OWN_YES : OWN_NO;
}

static void connection_ended(struct client *c)
{
    peer_free(&c->peer);
    c->connected = c->paused = false;
    c->ack_count = 0;
    c->inflight = 0;
}

/* On a new connection: what is not acknowledged is sent again, in order ([MQTT-4.4.0-1]). */
static void resume(struct client *c)
{
    for (unsigned i = 0; i < c->outs; i++) {
        const struct outstanding *o = &c->out[i];
        char topic[32], payload[4096];
        size_t len = payload_of(o->number, payload);
        topic_text(messages[o->number].topic, topic);
        if (o->is_released)
            peer_ack(&c->peer, MQTT_PUBREL, o->packet_id);
        else
            peer_publish(&c->peer, &(struct peer_publish){.topic = topic,
                                                          .payload = payload,
                                                          .payload_len = len,
                                                          .qos = o->qos,
                                                          .packet_id = o->packet_id,
                                                          .dup = true});
    }
    if (c->own_id) { /* not answered: asked again */
        char filter[32];
        topic_text(TOPICS + (unsigned)(c - clients), filter);
        c->peer.last_id = c->next_id;
        c->own_id =
            c->own == OWN_ASKED ? peer_ask(&c->peer, filter, 2, 0) : peer_ask_no_more(&c->peer, filter);
        c->next_id = c->peer.last_id;
    }
}

static void hear_connack(struct client *c, const struct mqtt_connack *a)
{
    ck_assert_uint_eq(a->code, 0);
    ck_assert_msg(a->session_present == c->known, "seed %lu: %s: session present is %d", seed, c->name,
                  a->session_present);
    c->known = c->connected = true;
    memset(c->alias, 0, sizeof c->alias);
    resume(c);
}

static void hear(struct client *c)
{
    struct mqtt_packet m;
    while (c->peer.fd >= 0 && peer_next(&c->peer, &m)) {
        switch (m.type) {
        case MQTT_CONNACK:
            hear_connack(c, &m.u.connack);
            break;
        case MQTT_PUBLISH:
            hear_publish(c, &m.u.publish);
            break;
        case MQTT_PUBREL:
            c->received[m.u.ack.packet_id] = false;
            owe(c, MQTT_PUBCOMP, m.u.ack.packet_id);
            break;
        case MQTT_PUBACK:
        case MQTT_PUBREC:
        case MQTT_PUBCOMP:
            hear_answer(c, m.type, &m.u.ack);
            break;
        case MQTT_SUBACK:
        case MQTT_UNSUBACK:
            hear_subscribed(c, m.type, m.u.suback.packet_id);
            break;
        case MQTT_DISCONNECT:
            ck_assert_msg(m.u.disconnect.code == MQTT_RC_TAKEN_OVER, "seed %lu: %s was ended with %02x", seed,
                          c->name, m.u.disconnect.code);
            break;
        default:
            ck_abort_msg("%s came", mqtt_type_name(m.type));
        }
    }
    if (c->peer.fd >= 0 && client_closed(c->peer.fd))
        connection_ended(c);
}

/* ---- a client does ---- */

static void client_connect(struct client *c)
{
    struct peer_connect how = {.version = c->version,
                               .expiry_s = c->version == MQTT_V5 ? 100000 : 0,
                               .receive_maximum = c->receive_maximum,
                               .alias_maximum = c->uses_aliases ? 2 : 0,
                               .sndbuf = draw(3) ? 0 : 4096};
    if (c->peer.fd >= 0)
        connection_ended(c);
    c->peer = peer_begin(&rig, c->name, &how);
}

/* Another connection with the same id, while the first one is there. */
static void client_takes_over(struct client *c)
{
    int old = c->peer.fd;
    c->peer.fd = -1;
    connection_ended(c);
    client_connect(c);
    loop_turn(rig.base);
    if (old >= 0)
        close(old);
}

static void client_publish(struct client *c)
{
    char topic[32], payload[4096];
    if (c->outs == OUTSTANDING || message_count == MESSAGES || (c->version == MQTT_V5 && c->outs >= 3))
        return;
    struct outstanding *o = &c->out[c->outs++];
    o->qos = (uint8_t)(1 + draw(2));
    o->number = new_message(o->qos);
    o->is_released = false;
    do
        o->packet_id = ++c->next_id ? c->next_id : ++c->next_id;
    while (o->packet_id == c->own_id);
    for (unsigned i = 0; i + 1 < c->outs; i++)
        ck_assert_uint_ne(c->out[i].packet_id, o->packet_id);
    size_t len = payload_of(o->number, payload);
    topic_text(messages[o->number].topic, topic);
    peer_publish(&c->peer,
                 &(struct peer_publish){.topic = topic,
                                        .payload = payload,
                                        .payload_len = len,
                                        .qos = o->qos,
                                        .packet_id = o->packet_id,
                                        .retain = messages[o->number].topic < TOPICS && draw(8) == 0});
}

static void client_acknowledge(struct client *c, bool in_order)
{
    if (!c->ack_count)
        return;
    unsigned i = in_order ? 0 : draw(c->ack_count);
    struct owed_ack a = c->acks[i];
    memmove(&c->acks[i], &c->acks[i + 1], (--c->ack_count - i) * sizeof a);
    if (a.type == MQTT_PUBACK || a.type == MQTT_PUBCOMP)
        c->inflight -= c->inflight > 0;
    peer_ack(&c->peer, a.type, a.packet_id);
}

static void client_changes_own(struct client *c)
{
    char filter[32];
    topic_text(TOPICS + (unsigned)(c - clients), filter);
    c->peer.last_id = c->next_id;
    if (c->own == OWN_NO) {
        c->own_id = peer_ask(&c->peer, filter, 2, 0);
        c->own = OWN_ASKED;
        own_begins(c);
    } else if (c->own == OWN_YES) {
        c->own_id = peer_ask_no_more(&c->peer, filter);
        c->own = OWN_LEAVING;
        own_is_uncertain(c);
    }
    c->next_id = c->peer.last_id;
}

static void api_publish(void)
{
    char topic[32], payload[4096];
    if (message_count == MESSAGES || rig.refuse)
        return;
    unsigned number = new_message((uint8_t)(1 + draw(2)));
    topic_text(messages[number].topic, topic);
    struct message_parts parts = {.topic = topic,
                                  .topic_len = (uint16_t)strlen(topic),
                                  .payload = payload,
                                  .payload_len = (uint32_t)payload_of(number, payload),
                                  .qos = messages[number].qos};
    messages[number].fate = FATE_ACKNOWLEDGED;
    ck_assert_int_eq(rig_keep(&rig, message_new(&parts)), ENGINE_OK);
}

/* ---- the scenario ---- */

static void client_subscribe_all(struct client *c)
{
    static const struct {
        const char *filter;
        unsigned first, last;
    } choice[] = {{"t/#", 0, TOPICS - 1}, {"t/0", 0, 0}, {"t/1", 1, 1}, {"t/2", 2, 2}, {"+/3", 3, 3}};
    memset(c->qos, 0xFF, sizeof c->qos);
    for (size_t i = 0; i < sizeof choice / sizeof choice[0]; i++) {
        if (draw(2))
            continue;
        uint8_t qos = (uint8_t)(draw(8) ? 1 + draw(2) : 0);
        uint16_t id = peer_ask(&c->peer, choice[i].filter, qos, c->uses_identifiers ? 1 + (uint32_t)i : 0);
        rig_turn(&rig);
        peer_expect_suback(&c->peer, id, qos);
        for (unsigned topic = choice[i].first; topic <= choice[i].last; topic++)
            if (c->qos[topic] == 0xFF || c->qos[topic] < qos)
                c->qos[topic] = qos;
    }
    c->next_id = c->peer.last_id;
}

static void begin(void)
{
    memset(messages, 0, sizeof messages);
    memset(clients, 0, sizeof clients);
    message_count = 0;
    rig.kept_fn = kept;
    rig.config.max_inflight = 1 + draw(8);
    rig.config.receive_maximum = 3;
    rig.config.log_cursor_interval_ms = 200 + draw(4000);
    for (unsigned n = 0; n < CLIENTS; n++) {
        struct client *c = &clients[n];
        snprintf(c->name, sizeof c->name, "client%u", n);
        c->version = draw(2) ? MQTT_V5 : MQTT_V311;
        c->peer.fd = -1;
        c->receive_maximum = c->version == MQTT_V5 ? (uint16_t)draw(6) : 0;
        c->uses_aliases = c->version == MQTT_V5 && !draw(3);
        c->uses_identifiers = c->version == MQTT_V5 && !draw(3);
        client_connect(c);
        rig_turn(&rig);
        hear(c);
        ck_assert(c->connected);
        client_subscribe_all(c);
    }
}

static void kill_worker(void)
{
    rig_kill_worker(&rig, draw(6));
    for (unsigned n = 0; n < CLIENTS; n++)
        connection_ended(&clients[n]);
}

/* The next messages have packet identifiers that may be in flight. */
static void use_up_numbers(void)
{
    for (unsigned n = 65535 - draw(12); n; n--)
        rig.ops->next_seq(rig.engine);
}

static void some_turns(void)
{
    switch (draw(6)) {
    case 0:
        break;
    case 1:
        loop_turn(rig.base);
        break;
    case 2:
        rig_take(&rig, 1 + draw(3));
        rig_feed(&rig);
        break;
    case 3:
        rig_hub(&rig);
        break;
    case 4:
        rig_turn(&rig);
        break;
    case 5:
        rig_pass(&rig, 50 + 50 * draw(10));
        break;
    }
}

static void client_step(struct client *c)
{
    unsigned what = draw(100);
    if (c->peer.fd < 0 || !c->connected) {
        if (c->peer.fd >= 0 && what < 95)
            hear(c);
        else if (what < 30 || c->peer.fd >= 0)
            client_connect(c);
        return;
    }
    if (what < 35)
        client_publish(c);
    else if (what < 60 && !c->paused)
        hear(c);
    else if (what < 90)
        client_acknowledge(c, draw(2));
    else if (what < 92)
        connection_ended(c);
    else if (what < 93)
        client_takes_over(c);
    else if (what < 96)
        client_changes_own(c);
    else
        c->paused = !c->paused;
}

static void step(void)
{
    unsigned what = draw(1000);
    if (what < 4 && kills) {
        kill_worker();
    } else if (what < 8 && !kills) {
        use_up_numbers();
    } else if (what < 14) {
        rig.refuse = rig.refuse ? ENGINE_OK : ENGINE_NO_SPACE;
    } else if (what < 50) {
        bool *which[] = {&rig.hold_requests, &rig.hold_answers, &rig.hold_feed, &rig.hold_opened};
        bool *one = which[draw(4)];
        *one = !*one;
    } else if (what < 150) {
        api_publish();
    } else {
        client_step(&clients[draw(CLIENTS)]);
    }
    some_turns();
}

/* Everybody comes back, reads, and answers, until nothing happens any more. */
static void finish(void)
{
    rig.refuse = ENGINE_OK;
    rig.hold_requests = rig.hold_answers = rig.hold_feed = rig.hold_opened = false;
    for (unsigned quiet = 0, round = 0; quiet < 4 && round < 20000; round++) {
        bool busy = false;
        for (unsigned n = 0; n < CLIENTS; n++) {
            struct client *c = &clients[n];
            if (c->peer.fd < 0)
                client_connect(c);
            rig_turn(&rig);
            unsigned before = c->peer.fd >= 0 ? c->ack_count : 0;
            hear(c);
            busy |= c->ack_count != before || !c->connected || c->outs;
            while (c->ack_count && c->peer.fd >= 0)
                client_acknowledge(c, true);
            rig_turn(&rig);
        }
        quiet = busy ? 0 : quiet + 1;
        if (!busy) {
            rig_pass(&rig, 1000);
            usleep(quiet == 1 ? 55000 : 0); /* blocked sockets are looked at again by the real clock */
        }
    }
}

static void check_client(struct client *c)
{
    unsigned n = (unsigned)(c - clients);
    ck_assert_msg(c->connected && !c->outs, "seed %lu: %s: publishes are left over", seed, c->name);
    for (unsigned i = 0; i < message_count; i++) {
        const struct message_model *m = &messages[i];
        uint8_t qos = granted(c, m);
        bool must = m->kept && m->due[n] == 2 && qos;
        ck_assert_msg(!must || c->got[i], "seed %lu: %s has not got message %u (topic %u, number %lu)", seed,
                      c->name, i, m->topic, m->seq);
        ck_assert_msg(qos != 2 || c->got[i] <= m->kept, "seed %lu: %s got message %u of QoS 2 %u times", seed,
                      c->name, i, c->got[i]);
    }
    connection_ended(c);
    rig_turn(&rig);
    struct rig_stored s = rig_stored(&rig, c->name);
    ck_assert_msg(s.found && !s.outs && !s.ins, "seed %lu: %s has left %u and %u in flight", seed, c->name,
                  s.outs, s.ins);
    ck_assert_msg(s.cursor >= rig.newest, "seed %lu: the cursor of %s is at %lu of %lu", seed, c->name,
                  s.cursor, rig.newest);
}

static void check(void)
{
    for (unsigned i = 0; i < message_count; i++) {
        const struct message_model *m = &messages[i];
        ck_assert_msg(m->qos != 2 || m->kept <= 1, "seed %lu: message %u of QoS 2 is kept %u times", seed, i,
                      m->kept);
        ck_assert_msg(m->fate != FATE_ACKNOWLEDGED || m->kept, "seed %lu: message %u is lost", seed, i);
    }
    for (unsigned n = 0; n < CLIENTS; n++)
        check_client(&clients[n]);
}

static void run(uint64_t with)
{
    state = seed = with;
    rig_begin(&rig);
    rig.trace = getenv("SESSION_SEED") != NULL;
    kills = draw(2);
    if (draw(2)) { /* a fan-out that takes many turns */
        rig_end_worker(&rig);
        rig.slice = 1 + draw(3);
        rig_start_worker(&rig);
    }
    begin();
    for (unsigned i = 0; i < STEPS; i++)
        step();
    finish();
    check();
    rig_end(&rig);
}

START_TEST(everybody_gets_everything)
{
    const char *one = getenv("SESSION_SEED"), *rounds = getenv("SESSION_ROUNDS");
    if (one) {
        if (_i == 0)
            run(strtoull(one, NULL, 10));
        return;
    }
    if (_i < FIXED_SEEDS) {
        run((uint64_t)_i + 1);
        return;
    }
    for (unsigned i = 0, n = rounds ? (unsigned)atoi(rounds) : 1; i < n; i++) {
        struct timeval now;
        gettimeofday(&now, NULL);
        uint64_t fresh = (uint64_t)now.tv_sec * 1000003 + (uint64_t)now.tv_usec + (uint64_t)_i;
        fprintf(stderr, "seed %lu\n", fresh);
        run(fresh);
    }
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_loop_test(tc, everybody_gets_everything, 0, FIXED_SEEDS + NEW_SEEDS);
}

UNIT_MAIN("session_random")
