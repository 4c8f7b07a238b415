/*
 * What MQTT 5.0 adds to a PUBLISH: topic aliases both ways, subscription identifiers, No Local, and the
 * properties that pass through. Sections 3.3.2.3, 3.3.4 and 3.8.3.1.
 */
#include "tests/unit/session_peer.h"

static struct rig rig;

static void setup(void) { rig_begin(&rig); }
static void teardown(void) { rig_end(&rig); }

/* ---- aliases ---- */

static uint32_t alias_of(const struct mqtt_publish *p)
{
    return mqtt_has(&p->props, MQTT_P_TOPIC_ALIAS) ? p->props.value[MQTT_P_TOPIC_ALIAS].num : 0;
}

/* A client's table of aliases, and the topic a PUBLISH means. */
struct aliases {
    unsigned max;
    char topic[17][64];
};

static void resolve(struct aliases *a, const struct mqtt_publish *p, char out[64])
{
    uint32_t alias = alias_of(p);
    ck_assert_uint_le(alias, a->max);
    if (p->topic.len)
        snprintf(out, 64, "%.*s", (int)p->topic.len, p->topic.data);
    if (alias && p->topic.len)
        snprintf(a->topic[alias], 64, "%s", out);
    else if (!p->topic.len) {
        ck_assert_uint_gt(alias, 0);
        ck_assert_msg(a->topic[alias][0], "alias %u was never told", alias);
        snprintf(out, 64, "%s", a->topic[alias]);
    }
}

/* The next message, whose payload is its topic. */
static struct mqtt_publish expect_resolved(struct peer *p, struct aliases *a, uint8_t qos)
{
    char topic[64];
    struct mqtt_packet m = peer_expect(p, MQTT_PUBLISH);
    ck_assert_uint_eq(m.u.publish.qos, qos);
    resolve(a, &m.u.publish, topic);
    ck_assert_uint_ge(m.u.publish.payload.len, strlen(topic));
    ck_assert_mem_eq(m.u.publish.payload.data, topic, strlen(topic));
    return m.u.publish;
}

START_TEST(a_client_that_takes_aliases_gets_them)
{
    uint8_t qos = (uint8_t)_i;
    struct peer_connect how = {.version = MQTT_V5, .clean = true, .alias_maximum = 2};
    struct peer p = peer_connect_with(&rig, "p", &how, false), q = peer_clean(&rig, "q", MQTT_V5);
    struct aliases a = {.max = 2}, none = {.max = 0};
    unsigned without_topic = 0;
    peer_subscribe(&p, "#", qos);
    peer_subscribe(&q, "#", qos);
    static const char *const topics[] = {"first", "second", "first", "third", "second", "third", "first"};
    for (size_t i = 0; i < sizeof topics / sizeof topics[0]; i++) {
        rig_publish(&rig, topics[i], topics[i], 2, false);
        struct mqtt_publish got = expect_resolved(&p, &a, qos);
        without_topic += !got.topic.len;
        peer_complete(&p, qos, got.packet_id);
        got = expect_resolved(&q, &none, qos);
        ck_assert(!mqtt_has(&got.props, MQTT_P_TOPIC_ALIAS));
        peer_complete(&q, qos, got.packet_id);
    }
    ck_assert_uint_ge(without_topic, 3);
    peer_free(&p);
    peer_free(&q);
}
END_TEST

/* An alias lives as long as the connection ([MQTT-3.3.2-7]). */
START_TEST(aliases_begin_anew_with_a_connection)
{
    struct peer_connect how = {.version = MQTT_V5, .expiry_s = 100, .alias_maximum = 5};
    struct peer p = peer_connect_with(&rig, "p", &how, false);
    struct aliases a = {.max = 5};
    peer_subscribe(&p, "t", 1);
    for (int i = 0; i < 2; i++) {
        rig_publish(&rig, "t", "t", 1, false);
        expect_resolved(&p, &a, 1);
    }
    for (int round = 0; round < 2; round++) { /* the second time without any */
        peer_drop(&p);
        how.alias_maximum = (uint16_t)(round ? 0 : 5);
        p = peer_connect_with(&rig, "p", &how, true);
        memset(&a, 0, sizeof a);
        a.max = how.alias_maximum;
        for (int i = 0; i < 2; i++)
            ck_assert(expect_resolved(&p, &a, 1).dup);
        peer_expect_nothing(&p);
    }
    peer_drop(&p);
}
END_TEST

/* What is dropped for a client that does not read must not have been the only one to tell an alias. */
START_TEST(dropped_messages_take_no_alias_along)
{
    static char payload[3000];
    struct peer_connect how = {.version = MQTT_V5, .clean = true, .alias_maximum = 10, .sndbuf = 4096};
    rig.config.output_limit = 20000;
    rig_end_worker(&rig);
    rig_start_worker(&rig);
    struct peer p = peer_connect_with(&rig, "p", &how, false);
    struct aliases a = {.max = 10};
    unsigned got = 0, last = 0;
    peer_subscribe(&p, "t/+", 0);
    for (unsigned i = 0; i < 400; i++) {
        char topic[64];
        snprintf(topic, sizeof topic, "t/%u", i * 7 % 13);
        memset(payload, ' ', sizeof payload - 1);
        memcpy(payload, topic, strlen(topic));
        rig_publish(&rig, topic, payload, 0, false);
        for (struct mqtt_packet m; i % 50 > 40 && peer_next(&p, &m); got++) {
            char resolved[64];
            resolve(&a, &m.u.publish, resolved);
            ck_assert_mem_eq(m.u.publish.payload.data, resolved, strlen(resolved));
            ck_assert_int_eq(m.u.publish.payload.data[strlen(resolved)], ' ');
            last = i;
        }
    }
    ck_assert_uint_gt(got, 20);
    ck_assert_uint_lt(got, 400);
    ck_assert_uint_gt(last, 300);
    peer_free(&p);
}
END_TEST

/* A message that is too large for the client does not use up an alias. */
START_TEST(a_skipped_message_tells_no_alias)
{
    static char big[2000];
    struct peer_connect how = {.version = MQTT_V5, .clean = true, .alias_maximum = 1, .max_packet = 200};
    struct peer p = peer_connect_with(&rig, "p", &how, false);
    struct aliases a = {.max = 1};
    memset(big, 'x', sizeof big - 1);
    peer_subscribe(&p, "#", 1);
    rig_publish(&rig, "t", big, 1, false);
    for (int i = 0; i < 2; i++) {
        rig_publish(&rig, "t", "t", 1, false);
        expect_resolved(&p, &a, 1);
    }
    peer_expect_nothing(&p);
    peer_free(&p);
}
END_TEST

START_TEST(a_client_uses_aliases)
{
    rig.config.max_topic_alias = 3;
    struct peer p = peer_clean(&rig, "p", MQTT_V5), s = peer_clean(&rig, "s", MQTT_V311);
    ck_assert_uint_eq(p.connack.u.connack.props.value[MQTT_P_TOPIC_ALIAS_MAX].num, 3);
    peer_subscribe(&s, "#", 2);
    static const struct {
        const char *topic, *meant;
        uint16_t alias;
    } rows[] = {{"one", "one", 1}, {"three", "three", 3}, {"", "one", 1},       {"", "three", 3},
                {"two", "two", 1}, {"", "two", 1},        {"two", "two", 2},    {"", "two", 2},
                {"no", "no", 0},   {"", "three", 3},      {"three", "three", 3}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t qos = (uint8_t)(i % 3);
        peer_publish(&p, &(struct peer_publish){.topic = rows[i].topic,
                                                .payload = rows[i].meant,
                                                .alias = rows[i].alias,
                                                .qos = qos,
                                                .packet_id = (uint16_t)(qos ? i + 1 : 0)});
        rig_turn(&rig);
        if (qos)
            peer_expect_ack(&p, qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, (uint16_t)(i + 1), 0);
        peer_complete(&s, qos, peer_expect_new(&s, rows[i].meant, rows[i].meant, qos));
    }
    peer_free(&p);
    p = peer_clean(&rig, "p", MQTT_V5); /* a new connection knows none of them */
    peer_publish(&p, &(struct peer_publish){.topic = "", .payload = "x", .alias = 1});
    rig_turn(&rig);
    struct mqtt_packet m = peer_expect(&p, MQTT_DISCONNECT);
    ck_assert(m.u.disconnect.code == MQTT_RC_TOPIC_ALIAS_INVALID ||
              m.u.disconnect.code == MQTT_RC_PROTOCOL_ERROR);
    peer_expect_nothing(&s);
    peer_free(&p);
    peer_free(&s);
}
END_TEST

/* [MQTT-3.3.2-8], [MQTT-3.3.2-9]. */
START_TEST(an_alias_out_of_range_ends_the_connection)
{
    static const uint16_t aliases[] = {0, 4, 65535};
    rig.config.max_topic_alias = _i == 3 ? 0 : 3;
    struct peer p = peer_clean(&rig, "p", MQTT_V5);
    ck_assert(mqtt_has(&p.connack.u.connack.props, MQTT_P_TOPIC_ALIAS_MAX) == (_i != 3));
    struct mqtt_packet m = {.type = MQTT_PUBLISH};
    m.u.publish.topic = (struct mqtt_bytes){.data = "t", .len = 1};
    mqtt_props_set_num(&m.u.publish.props, MQTT_P_TOPIC_ALIAS, _i == 3 ? 1 : aliases[_i]);
    peer_send(&p, &m);
    rig_turn(&rig);
    peer_expect_bye(&p, MQTT_RC_TOPIC_ALIAS_INVALID);
    ck_assert_uint_eq(rig.published0, 0);
    peer_free(&p);
}
END_TEST

/* ---- subscription identifiers ---- */

static uint16_t subscribe(struct peer *p, const char *filter, uint8_t options, uint32_t identifier)
{
    uint16_t id = peer_ask(p, filter, options, identifier);
    rig_turn(&rig);
    peer_expect_suback(p, id, options & 3);
    return id;
}

/* The identifiers of a PUBLISH as a sum of 1 << identifier; each at most once. */
static uint32_t identifiers(const struct mqtt_publish *p)
{
    uint32_t found = 0;
    const unsigned char *raw = (const unsigned char *)p->props.raw.data;
    for (size_t at = 0; at < p->props.raw.len;) {
        ck_assert_uint_eq(raw[at], 0x0B); /* nothing else was published here */
        ck_assert_uint_lt(raw[at + 1], 32);
        ck_assert(!(found >> raw[at + 1] & 1));
        found |= 1u << raw[at + 1];
        at += 2;
    }
    return found;
}

/* [MQTT-3.3.4-2] to -5: one copy, with the greatest QoS, and the identifiers of all that match; live, and
 * from the log, and to a client with aliases too. */
START_TEST(overlapping_subscriptions_give_one_copy_with_all_identifiers)
{
    struct peer_connect how = {.version = MQTT_V5, .clean = true, .receive_maximum = 1};
    struct peer p = peer_connect_with(&rig, "p", &how, false);
    subscribe(&p, "a/b", 0, 1);
    subscribe(&p, "a/+", 2, 2);
    subscribe(&p, "a/#", 1, 0); /* without one */
    subscribe(&p, "+/b", 1, 4);
    subscribe(&p, "x/#", 2, 5);
    for (int i = 0; i < 3; i++)
        rig_publish(&rig, "a/b", "m", 2, false);
    rig_publish(&rig, "a/c", "m", 2, false);
    rig_publish(&rig, "a/b", "zero", 0, false);
    struct mqtt_publish got = peer_expect_publish(&p, "a/b", "m", 2);
    ck_assert_uint_eq(identifiers(&got), 1 << 1 | 1 << 2 | 1 << 4);
    uint16_t id = got.packet_id;
    got = peer_expect_publish(&p, "a/b", "zero", 0);
    ck_assert_uint_eq(identifiers(&got), 1 << 1 | 1 << 2 | 1 << 4);
    for (int i = 0; i < 2; i++) {
        peer_complete(&p, 2, id);
        got = peer_expect_publish(&p, "a/b", "m", 2);
        ck_assert_uint_eq(identifiers(&got), 1 << 1 | 1 << 2 | 1 << 4);
        id = got.packet_id;
    }
    peer_complete(&p, 2, id);
    got = peer_expect_publish(&p, "a/c", "m", 2);
    ck_assert_uint_eq(identifiers(&got), 1 << 2);
    peer_complete(&p, 2, got.packet_id);
    peer_expect_nothing(&p);
    peer_free(&p);
}
END_TEST

/* With many of them too the QoS is the greatest. */
START_TEST(very_many_overlapping_subscriptions_give_one_copy)
{
    struct peer_connect how = {.version = MQTT_V5, .clean = true, .receive_maximum = 1};
    struct peer p = peer_connect_with(&rig, "p", &how, false);
    for (unsigned i = 0; i < 32; i++) { /* every way to write a/b/c/d/e with + in it */
        char filter[16];
        snprintf(filter, sizeof filter, "%c/%c/%c/%c/%c", i & 1 ? '+' : 'a', i & 2 ? '+' : 'b',
                 i & 4 ? '+' : 'c', i & 8 ? '+' : 'd', i & 16 ? '+' : 'e');
        subscribe(&p, filter, i == 3 ? 2 : 0, 0);
    }
    for (int i = 0; i < 2; i++)
        rig_publish(&rig, "a/b/c/d/e", "m", 2, false);
    peer_complete(&p, 2, peer_expect_new(&p, "a/b/c/d/e", "m", 2));
    peer_complete(&p, 2, peer_expect_new(&p, "a/b/c/d/e", "m", 2));
    peer_expect_nothing(&p);
    peer_free(&p);
}
END_TEST

/* The filter of a shared subscription is no topic of its own (section 4.8.2). */
START_TEST(a_shared_filter_is_not_a_topic)
{
    struct peer p = peer_clean(&rig, "p", MQTT_V5), q = peer_clean(&rig, "q", MQTT_V5);
    peer_subscribe(&p, "$share/g/t", 1);
    for (uint8_t qos = 0; qos < 2; qos++) {
        peer_publish(
            &q, &(struct peer_publish){.topic = "$share/g/t", .payload = "x", .qos = qos, .packet_id = qos});
        rig_turn(&rig);
    }
    peer_expect_nothing(&p);
    peer_free(&p);
    peer_free(&q);
}
END_TEST

/* [MQTT-3.8.4-3]: the last SUBSCRIBE to a filter is what holds. */
START_TEST(a_subscription_is_replaced_with_its_identifier)
{
    struct peer p = peer_stored(&rig, "p", MQTT_V5, false);
    static const struct {
        uint32_t identifier;
        uint8_t qos;
    } rows[] = {{7, 1}, {9, 2}, {0, 0}, {3, 1}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        subscribe(&p, "t", (uint8_t)(rows[i].qos | 0x20), rows[i].identifier);
        rig_publish(&rig, "t", "m", 2, false);
        struct mqtt_publish got = peer_expect_publish(&p, "t", "m", rows[i].qos);
        ck_assert_uint_eq(identifiers(&got), rows[i].identifier ? 1u << rows[i].identifier : 0);
        peer_complete(&p, rows[i].qos, got.packet_id);
        peer_expect_nothing(&p);
    }
    struct rig_stored s = rig_stored(&rig, "p");
    ck_assert_uint_eq(s.subscriptions, 1);
    ck_assert_uint_eq(s.sub[0].identifier, 3);
    ck_assert_uint_eq(s.sub[0].options & 3, 1);
    peer_drop(&p);
    rig_publish(&rig, "t", "m", 2, false);
    p = peer_stored(&rig, "p", MQTT_V5, true);
    struct mqtt_publish got = peer_expect_publish(&p, "t", "m", 1);
    ck_assert_uint_eq(identifiers(&got), 1 << 3);
    peer_drop(&p);
}
END_TEST

START_TEST(retained_messages_have_the_identifier_of_their_subscription)
{
    struct peer p = peer_clean(&rig, "p", MQTT_V5);
    rig_publish(&rig, "a/b", "m", 1, true);
    subscribe(&p, "a/b", 0x21, 1);
    uint16_t id = peer_ask(&p, "a/+", 1, 2);
    rig_turn(&rig);
    peer_expect_suback(&p, id, 1);
    struct mqtt_publish got = peer_expect_publish(&p, "a/b", "m", 1);
    ck_assert(got.retain);
    ck_assert_uint_eq(identifiers(&got), 1 << 2);
    peer_expect_nothing(&p);
    peer_free(&p);
}
END_TEST

/* ---- No Local ---- */

/* [MQTT-3.8.3-3], live and from the log, also retained; another subscription that matches is not concerned.
 */
START_TEST(no_local_keeps_own_messages_away)
{
    struct peer_connect how = {.version = MQTT_V5, .expiry_s = 100, .receive_maximum = 1};
    struct peer p = peer_connect_with(&rig, "p", &how, false), q = peer_clean(&rig, "q", MQTT_V5);
    subscribe(&p, "t", 0x06, 0);
    subscribe(&p, "both", 0x05, 1);
    subscribe(&p, "both/#", 0x01, 2);
    for (uint8_t qos = 0; qos < 3; qos++) {
        peer_publish(&p, &(struct peer_publish){.topic = "t",
                                                .payload = "own",
                                                .qos = qos,
                                                .packet_id = (uint16_t)(qos ? 100 + qos : 0)});
        rig_turn(&rig);
        if (qos)
            peer_expect_ack(&p, qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, (uint16_t)(100 + qos), 0);
        peer_expect_nothing(&p);
    }
    for (int i = 0; i < 2; i++) { /* the second one from the log */
        peer_publish(&q, &(struct peer_publish){.topic = "t", .payload = "other", .qos = 1, .packet_id = 1});
        rig_turn(&rig);
        peer_publish(&p, &(struct peer_publish){
                             .topic = "t", .payload = "own", .qos = 1, .packet_id = (uint16_t)(200 + i)});
        rig_turn(&rig);
    }
    peer_publish(&p, &(struct peer_publish){.topic = "both", .payload = "own", .qos = 1, .packet_id = 203});
    rig_turn(&rig);
    unsigned others = 0, both = 0;
    for (struct mqtt_packet m; peer_next(&p, &m);) {
        if (m.type == MQTT_PUBLISH && m.u.publish.payload.len == 5)
            others++;
        if (m.type == MQTT_PUBLISH && m.u.publish.topic.len == 4) {
            both++;
            ck_assert_uint_eq(identifiers(&m.u.publish), 1 << 2);
        } else if (m.type == MQTT_PUBLISH) {
            ck_assert_uint_eq(m.u.publish.payload.len, 5);
        }
        if (m.type == MQTT_PUBLISH)
            peer_ack(&p, MQTT_PUBACK, m.u.publish.packet_id);
        rig_turn(&rig);
    }
    ck_assert_uint_eq(others, 2);
    ck_assert_uint_eq(both, 1);
    peer_publish(&p, &(struct peer_publish){.topic = "t", .payload = "own", .qos = 1, .packet_id = 204});
    loop_turn(rig.base);
    peer_drop(&p);
    p = peer_connect_with(&rig, "p", &how, true);
    peer_expect_nothing(&p);
    peer_drop(&p);
    peer_free(&q);
}
END_TEST

START_TEST(no_local_holds_for_retained_messages)
{
    struct peer p = peer_clean(&rig, "p", MQTT_V5), q = peer_clean(&rig, "q", MQTT_V5);
    peer_publish(
        &p, &(struct peer_publish){.topic = "a/p", .payload = "x", .qos = 1, .packet_id = 1, .retain = true});
    peer_publish(
        &q, &(struct peer_publish){.topic = "a/q", .payload = "x", .qos = 1, .packet_id = 1, .retain = true});
    rig_turn(&rig);
    peer_expect_ack(&p, MQTT_PUBACK, 1, 0);
    peer_expect_ack(&q, MQTT_PUBACK, 1, 0);
    uint16_t id = peer_ask(&p, "a/+", 0x04, 0);
    rig_turn(&rig);
    peer_expect_suback(&p, id, 0);
    ck_assert(peer_expect_publish(&p, "a/q", "x", 0).retain);
    peer_expect_nothing(&p);
    peer_free(&p);
    peer_free(&q);
}
END_TEST

/* [MQTT-3.8.3-4]. */
START_TEST(no_local_on_a_shared_subscription_is_a_protocol_error)
{
    struct peer p = peer_clean(&rig, "p", MQTT_V5);
    peer_ask(&p, "$share/g/t", 0x05, 0);
    rig_turn(&rig);
    peer_expect_bye(&p, MQTT_RC_PROTOCOL_ERROR);
    peer_free(&p);
}
END_TEST

/* ---- what passes through ---- */

/* [MQTT-3.3.2-4], -15 to -18, -20: unchanged and in order, live, retained, and from the log, also with
 * identifiers and aliases beside them. */
START_TEST(properties_pass_through_unchanged)
{
    static const char props[] = "\x01\x01"
                                "\x03\x00\x0Atext/plain"
                                "\x08\x00\x05reply"
                                "\x09\x00\x03\x00\x01\x02"
                                "\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01w\x26\x00\x00\x00\x00";
    struct peer_connect how = {
        .version = MQTT_V5, .expiry_s = 100, .alias_maximum = (uint16_t)(_i & 1), .receive_maximum = 1};
    struct peer p = peer_connect_with(&rig, "p", &how, false), q = peer_clean(&rig, "q", MQTT_V5);
    struct peer old = peer_clean(&rig, "old", MQTT_V311);
    subscribe(&p, "t", 1, _i & 2 ? 5 : 0);
    subscribe(&old, "t", 1, 0);
    struct mqtt_packet m = {.type = MQTT_PUBLISH};
    m.u.publish.topic = (struct mqtt_bytes){.data = "t", .len = 1};
    m.u.publish.payload = (struct mqtt_bytes){.data = "x", .len = 1};
    m.u.publish.props.raw = (struct mqtt_bytes){.data = props, .len = sizeof props - 1};
    m.u.publish.qos = 1;
    m.u.publish.retain = true;
    for (uint16_t i = 1; i <= 2; i++) {
        m.u.publish.packet_id = i;
        peer_send(&q, &m);
        rig_turn(&rig);
    }
    for (int i = 0; i < 2; i++) {
        struct mqtt_packet got = peer_expect(&p, MQTT_PUBLISH);
        const struct mqtt_bytes *raw = &got.u.publish.props.raw;
        ck_assert_uint_ge(raw->len, sizeof props - 1);
        ck_assert(memmem(raw->data, raw->len, props, sizeof props - 1) != NULL);
        ck_assert_uint_eq(raw->len, sizeof props - 1 + (_i & 1 ? 3 : 0) + (_i & 2 ? 2 : 0));
        peer_complete(&p, 1, got.u.publish.packet_id);
        peer_complete(&old, 1, peer_expect_new(&old, "t", "x", 1));
    }
    uint16_t id = peer_ask(&q, "t", 0, 0);
    rig_turn(&rig);
    peer_expect_ack(&q, MQTT_PUBACK, 1, 0);
    peer_expect_ack(&q, MQTT_PUBACK, 2, 0);
    peer_expect_suback(&q, id, 0);
    struct mqtt_publish got = peer_expect_publish(&q, "t", "x", 0);
    ck_assert_uint_eq(got.props.raw.len, sizeof props - 1);
    ck_assert_mem_eq(got.props.raw.data, props, sizeof props - 1);
    peer_drop(&p);
    peer_free(&q);
    peer_free(&old);
}
END_TEST

/* [MQTT-3.1.2-29]: reason strings only for who wants them. */
START_TEST(reason_strings_are_left_out_on_request)
{
    for (int i = 0; i < 2; i++) {
        struct peer_connect how = {.version = MQTT_V5, .clean = true, .no_reasons = i};
        struct peer p = peer_connect_with(&rig, "p", &how, false);
        sessions_close(rig.sessions, sessions_find(rig.sessions, "p", 1), CLOSE_SHUTDOWN);
        rig_turn(&rig);
        struct mqtt_packet m = peer_expect(&p, MQTT_DISCONNECT);
        ck_assert(mqtt_has(&m.u.disconnect.props, MQTT_P_REASON_STRING) == !i);
        peer_free(&p);
    }
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, a_client_that_takes_aliases_gets_them, 0, 3);
    tcase_add_test(tc, aliases_begin_anew_with_a_connection);
    tcase_add_test(tc, dropped_messages_take_no_alias_along);
    tcase_add_test(tc, a_skipped_message_tells_no_alias);
    tcase_add_test(tc, a_client_uses_aliases);
    tcase_add_loop_test(tc, an_alias_out_of_range_ends_the_connection, 0, 4);
    tcase_add_test(tc, overlapping_subscriptions_give_one_copy_with_all_identifiers);
    tcase_add_test(tc, very_many_overlapping_subscriptions_give_one_copy);
    tcase_add_test(tc, a_shared_filter_is_not_a_topic);
    tcase_add_test(tc, a_subscription_is_replaced_with_its_identifier);
    tcase_add_test(tc, retained_messages_have_the_identifier_of_their_subscription);
    tcase_add_test(tc, no_local_keeps_own_messages_away);
    tcase_add_test(tc, no_local_holds_for_retained_messages);
    tcase_add_test(tc, no_local_on_a_shared_subscription_is_a_protocol_error);
    tcase_add_loop_test(tc, properties_pass_through_unchanged, 0, 4);
    tcase_add_test(tc, reason_strings_are_left_out_on_request);
}

UNIT_MAIN("session_aliases")
