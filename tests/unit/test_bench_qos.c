/*
 * The bench above QoS 0: what its clients acknowledge and count, and what its publisher waits for. The test
 * is the server, with one connection; the clients are real, a forked process told what to do by the fleet.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/tools/bench/fleet.h"
#include "gateway/tools/bench/publisher.h"
#include "gateway/tools/bench/wire.h"
#include "proto/mqtt.h"
#include "tests/unit/unit.h"

#define PATIENCE_MS 10000
#define TOPIC       "t"
#define PAYLOAD     32

static const uint8_t versions[] = {MQTT_V311, MQTT_V5};

static uint8_t version;
static struct sockaddr_in address;
static int listener, peer; /* the server's side of the connection */
static char in[65536];
static size_t have, used; /* bytes in it; of the packet that was heard last */

static void start_server(uint8_t its_version)
{
    socklen_t len = sizeof address;
    version = its_version;
    have = used = 0;
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(listener, 4), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &len), 0);
}

/* Takes the connection of who has called. */
static void take_peer(void)
{
    struct timeval limit = {PATIENCE_MS / 1000, 0};
    peer = accept(listener, NULL, NULL);
    ck_assert_int_ge(peer, 0);
    setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

static void end_server(void)
{
    close(peer);
    close(listener);
}

/* The next packet; its bytes stay in in[] until the call after. */
static void hear(enum mqtt_type type, struct mqtt_packet *m)
{
    struct mqtt_error e;
    have -= used;
    memmove(in, in + used, have);
    used = 0;
    for (;;) {
        size_t n = 0;
        enum mqtt_result r = mqtt_decode(in, have, version, sizeof in, m, &n, &e);
        ck_assert_int_ne(r, MQTT_BAD);
        if (r == MQTT_OK) {
            used = n;
            ck_assert_int_eq(m->type, type);
            return;
        }
        ssize_t got = recv(peer, in + have, sizeof in - have, 0);
        ck_assert_int_gt(got, 0);
        have += (size_t)got;
    }
}

static void hear_id(enum mqtt_type type, uint16_t packet_id)
{
    struct mqtt_packet m;
    hear(type, &m);
    ck_assert_uint_eq(m.u.ack.packet_id, packet_id);
}

static void say_bytes(const char *bytes, size_t len)
{
    ck_assert_int_eq(send(peer, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void say(const struct mqtt_packet *m)
{
    char out[256];
    size_t n = mqtt_encode(m, version, out, sizeof out);
    ck_assert(n > 0 && n <= sizeof out);
    say_bytes(out, n);
}

static void say_id(uint8_t type, uint16_t packet_id)
{
    char out[WIRE_ACK];
    wire_ack(out, type, packet_id);
    say_bytes(out, sizeof out);
}

/* A message as the bench's publisher sends it. */
static size_t put_message(char *out, size_t cap, uint8_t qos, uint32_t stream, uint32_t seq,
                          uint16_t packet_id)
{
    struct wire_stamp s = {WIRE_STAMP_MAGIC, stream, seq, PAYLOAD, wire_now_ns()};
    struct wire_places at;
    size_t n = wire_publish(out, cap, version, TOPIC, qos, PAYLOAD, &s, &at);
    if (qos)
        wire_put_id(out + at.packet_id, packet_id);
    return n;
}

/* ---- clients ---- */

static struct fleet *start_clients(uint8_t its_version, uint8_t qos, bool persistent, bool in_order)
{
    start_server(its_version);
    struct fleet_options o = {.server = address,
                              .population = {.clients = 1, .movers = 1},
                              .version = version,
                              .qos = qos,
                              .persistent = persistent,
                              .in_order = in_order,
                              .topics = FLEET_TOPIC_COMMON,
                              .topic = TOPIC,
                              .id_prefix = "c",
                              .id_step = 7,
                              .per_process = FLEET_PER_PROCESS,
                              .handshakes = 1};
    struct fleet *f = fleet_new(&o);
    ck_assert_ptr_nonnull(f);
    ck_assert(fleet_run(f, (struct fleet_command){.op = FLEET_SEQUENCE, .value = 1}, PATIENCE_MS, NULL));
    return f;
}

/* The client connects; what it said is in *m. */
static void connect_client(struct fleet *f, bool present, struct mqtt_packet *m)
{
    struct fleet_answer a;
    struct mqtt_packet connack = {.type = MQTT_CONNACK, .u.connack.session_present = present};
    fleet_start(f, (struct fleet_command){.op = FLEET_CONNECT});
    take_peer();
    hear(MQTT_CONNECT, m);
    say(&connack);
    ck_assert(fleet_finish(f, PATIENCE_MS, &a));
    ck_assert_uint_eq(a.done, 1);
}

/* The client subscribes and is granted a QoS. Whether it is content with it. */
static bool subscribe_client(struct fleet *f, uint8_t granted)
{
    struct fleet_answer a;
    struct mqtt_packet m;
    struct mqtt_bytes filter;
    uint8_t wanted;
    size_t at = 0;
    fleet_start(f, (struct fleet_command){.op = FLEET_SUBSCRIBE, .value = FLEET_TOPIC_COMMON});
    hear(MQTT_SUBSCRIBE, &m);
    ck_assert(mqtt_next_filter(&m, &at, &filter, &wanted));
    ck_assert_uint_eq(wanted, fleet_options(f)->qos);
    struct mqtt_packet suback = {
        .type = MQTT_SUBACK,
        .u.suback = {.packet_id = m.u.subscribe.packet_id, .codes = {(const char *)&granted, 1}}};
    say(&suback);
    ck_assert(fleet_finish(f, PATIENCE_MS, &a));
    return a.done == 1;
}

static struct fleet_counters counters_of(const struct fleet *f)
{
    struct fleet_counters n;
    fleet_counters(f, &n);
    return n;
}

START_TEST(what_is_read_at_once_is_acknowledged_at_once)
{
    char out[1024], acks[64];
    size_t len = 0;
    struct mqtt_packet m;
    struct fleet *f = start_clients(versions[_i], 1, false, false);
    connect_client(f, false, &m);
    ck_assert(subscribe_client(f, 1));
    ck_assert_uint_eq(fleet_expect(f, 3, 1), 3);
    for (uint16_t i = 1; i <= 3; i++)
        len += put_message(out + len, sizeof out - len, 1, STREAM_COMMON, i, (uint16_t)(100 + i));
    say_bytes(out, len);
    ck_assert_int_eq(recv(peer, acks, sizeof acks, 0), 3 * WIRE_ACK); /* one send() */
    for (uint16_t i = 1; i <= 3; i++) {
        char ack[WIRE_ACK];
        wire_ack(ack, MQTT_PUBACK, (uint16_t)(100 + i));
        ck_assert_mem_eq(acks + (i - 1) * WIRE_ACK, ack, WIRE_ACK);
    }
    ck_assert(fleet_await(f, PATIENCE_MS));
    ck_assert_uint_eq(counters_of(f).deliveries, 3);
    ck_assert_uint_eq(counters_of(f).acknowledged, 3);
    fleet_free(f);
    end_server();
}
END_TEST

/* More than one buffer of acknowledgements. */
START_TEST(every_one_of_many_is_acknowledged)
{
    enum { MANY = 2000 };
    static char out[MANY * 64];
    size_t len = 0;
    struct mqtt_packet m;
    struct fleet *f = start_clients(versions[_i], 1, false, false);
    connect_client(f, false, &m);
    ck_assert(subscribe_client(f, 1));
    fleet_expect(f, MANY, 1);
    for (uint16_t i = 1; i <= MANY; i++)
        len += put_message(out + len, sizeof out - len, 1, STREAM_COMMON, i, i);
    say_bytes(out, len);
    for (uint16_t i = 1; i <= MANY; i++)
        hear_id(MQTT_PUBACK, i);
    ck_assert(fleet_await(f, PATIENCE_MS));
    ck_assert_uint_eq(counters_of(f).acknowledged, MANY);
    ck_assert_uint_eq(counters_of(f).gaps + counters_of(f).duplicates, 0);
    fleet_free(f);
    end_server();
}
END_TEST

START_TEST(an_exchange_of_qos_2_counts_at_its_end)
{
    char out[128];
    struct mqtt_packet m;
    struct fleet *f = start_clients(versions[_i], 2, false, false);
    connect_client(f, false, &m);
    ck_assert(subscribe_client(f, 2));
    ck_assert_uint_eq(fleet_expect(f, 1, 2), 1);
    say_bytes(out, put_message(out, sizeof out, 2, STREAM_COMMON, 1, 9));
    hear_id(MQTT_PUBREC, 9);
    ck_assert(!fleet_await(f, 50)); /* delivered, and not acknowledged to the end */
    ck_assert_uint_eq(counters_of(f).deliveries, 1);
    ck_assert_uint_eq(counters_of(f).acknowledged, 0);
    say_id(MQTT_PUBREL, 9);
    hear_id(MQTT_PUBCOMP, 9);
    ck_assert(fleet_await(f, PATIENCE_MS));
    ck_assert_uint_eq(counters_of(f).acknowledged, 1);
    fleet_free(f);
    end_server();
}
END_TEST

/* It is acknowledged all the same: that is what the server waits for. */
START_TEST(a_message_that_comes_again_is_no_delivery)
{
    char out[128];
    struct mqtt_packet m;
    struct fleet *f = start_clients(versions[_i], 1, false, false);
    connect_client(f, false, &m);
    ck_assert(subscribe_client(f, 1));
    size_t len = put_message(out, sizeof out, 1, STREAM_COMMON, 1, 1);
    say_bytes(out, len);
    hear_id(MQTT_PUBACK, 1);
    out[0] |= 8; /* DUP */
    say_bytes(out, len);
    hear_id(MQTT_PUBACK, 1);
    say_bytes(out, put_message(out, sizeof out, 1, STREAM_COMMON, 2, 2));
    hear_id(MQTT_PUBACK, 2);
    ck_assert_uint_eq(counters_of(f).deliveries, 2);
    ck_assert_uint_eq(counters_of(f).duplicates, 1);
    fleet_free(f);
    end_server();
}
END_TEST

START_TEST(qos_0_is_not_acknowledged)
{
    char out[256];
    struct mqtt_packet m;
    struct fleet *f = start_clients(versions[_i], 1, false, false);
    connect_client(f, false, &m);
    ck_assert(subscribe_client(f, 1));
    size_t len = put_message(out, sizeof out, 0, STREAM_COMMON, 1, 0);
    len += put_message(out + len, sizeof out - len, 1, STREAM_COMMON, 2, 5);
    say_bytes(out, len);
    hear_id(MQTT_PUBACK, 5);
    ck_assert_uint_eq(counters_of(f).deliveries, 2);
    ck_assert_uint_eq(counters_of(f).acknowledged, 1);
    fleet_free(f);
    end_server();
}
END_TEST

START_TEST(another_qos_than_the_wanted_one_is_an_error)
{
    struct mqtt_packet m;
    struct fleet *f = start_clients(versions[_i], 1, false, false);
    connect_client(f, false, &m);
    ck_assert(!subscribe_client(f, 0));
    ck_assert_uint_eq(counters_of(f).lost, 1);
    fleet_free(f);
    end_server();
}
END_TEST

START_TEST(a_session_that_stays_is_asked_for_and_its_return_counted)
{
    struct mqtt_packet m;
    for (int persistent = 0; persistent < 2; persistent++) {
        struct fleet *f = start_clients(versions[_i], 1, persistent, false);
        connect_client(f, persistent, &m);
        ck_assert(m.u.connect.clean_start == !persistent);
        ck_assert_uint_eq(m.u.connect.client_id.len, 3);
        ck_assert_mem_eq(m.u.connect.client_id.data, "c-0", 3);
        ck_assert_uint_eq(counters_of(f).resumed_sessions, persistent);
        fleet_free(f);
        end_server();
    }
}
END_TEST

/* What was sent while the client was away: of any stream, in the order of the numbers. */
START_TEST(what_was_missed_has_to_come_in_order)
{
    static const struct {
        uint32_t stream, seq;
    } messages[] = {{STREAM_ANNOUNCE, 3}, {1, 5}, {STREAM_ANNOUNCE, 4}, {STREAM_ANNOUNCE, 6}};
    struct mqtt_packet m;
    struct fleet_answer a;
    char out[128];
    struct fleet *f = start_clients(versions[_i], 1, true, true);
    struct fleet_client *c = fleet_client(f, 0);
    connect_client(f, true, &m);
    for (uint16_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
        c->expected++;
        c->expected_hash += population_message_hash(messages[i].stream, messages[i].seq);
        say_bytes(out,
                  put_message(out, sizeof out, 1, messages[i].stream, messages[i].seq, (uint16_t)(i + 1)));
        hear_id(MQTT_PUBACK, (uint16_t)(i + 1));
    }
    ck_assert_uint_eq(counters_of(f).deliveries, 3);
    ck_assert_uint_eq(counters_of(f).duplicates, 1); /* number 4, behind 5 */
    ck_assert_uint_eq(counters_of(f).uncounted, 0);
    ck_assert(fleet_run(f, (struct fleet_command){.op = FLEET_VERIFY}, PATIENCE_MS, &a));
    ck_assert_uint_eq(a.failed, 1);
    ck_assert_uint_eq(a.missing, 1);
    c->expected--;
    c->expected_hash -= population_message_hash(STREAM_ANNOUNCE, 4);
    ck_assert(fleet_run(f, (struct fleet_command){.op = FLEET_VERIFY}, PATIENCE_MS, &a));
    ck_assert_uint_eq(a.done, 1);
    fleet_free(f);
    end_server();
}
END_TEST

/* ---- the publisher, in a process of its own; the server is here ---- */

static pid_t child;

/* Ends the publisher's process: the test sees its exit status. */
static void require(bool ok, int line)
{
    if (ok)
        return;
    fprintf(stderr, "publisher, line %d\n", line);
    _exit(1);
}
#define REQUIRE(condition) require(condition, __LINE__)

/* Starts one that does what `script` says and leaves; maximum: the server's Receive Maximum, 0: none. */
static void start_publisher(uint8_t its_version, uint16_t maximum, void (*script)(struct publisher *p))
{
    struct mqtt_packet m, connack = {.type = MQTT_CONNACK};
    start_server(its_version);
    fflush(NULL);
    child = fork();
    if (child == 0) {
        struct publisher *p = publisher_new(&address, NULL, version, "p");
        REQUIRE(p);
        script(p);
        publisher_free(p);
        _exit(0);
    }
    take_peer();
    hear(MQTT_CONNECT, &m);
    if (maximum)
        mqtt_props_set_num(&connack.u.connack.props, MQTT_P_RECEIVE_MAX, maximum);
    say(&connack);
}

/* It found nothing wrong. */
static void end_publisher(void)
{
    int status = -1;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    end_server();
}

static void hear_message(uint8_t qos, uint16_t packet_id)
{
    struct mqtt_packet m;
    hear(MQTT_PUBLISH, &m);
    ck_assert_uint_eq(m.u.publish.qos, qos);
    ck_assert_uint_eq(m.u.publish.packet_id, packet_id);
}

/* Whether nothing has come. */
static bool is_quiet(void)
{
    char byte;
    usleep(50000);
    return recv(peer, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0;
}

static void all_qos(struct publisher *p)
{
    for (uint8_t qos = 0; qos < 3; qos++) {
        publisher_set_qos(p, qos);
        REQUIRE(publisher_send(p, TOPIC, PAYLOAD, 0, 1));
        REQUIRE(publisher_in_flight(p) == (qos > 0));
        REQUIRE(publisher_await(p, 0) && publisher_in_flight(p) == 0);
    }
    REQUIRE(publisher_refused(p) == 0);
}

START_TEST(a_publisher_waits_for_the_end_of_the_exchange)
{
    struct mqtt_packet m;
    start_publisher(versions[_i], 0, all_qos);
    hear_message(0, 0);
    hear_message(1, 1);
    say_id(MQTT_PUBACK, 1);
    hear_message(2, 2);
    say_id(MQTT_PUBREC, 2);
    hear_id(MQTT_PUBREL, 2);
    ck_assert(is_quiet());
    say_id(MQTT_PUBCOMP, 2);
    hear(MQTT_DISCONNECT, &m);
    end_publisher();
}
END_TEST

static void four_in_a_window_of_two(struct publisher *p)
{
    publisher_set_qos(p, 1);
    publisher_set_window(p, 2);
    for (uint32_t i = 0; i < 4; i++)
        REQUIRE(publisher_send(p, TOPIC, PAYLOAD, 0, i + 1));
    REQUIRE(publisher_await(p, 0));
}

static void four(struct publisher *p)
{
    publisher_set_qos(p, 1);
    for (uint32_t i = 0; i < 4; i++)
        REQUIRE(publisher_send(p, TOPIC, PAYLOAD, 0, i + 1));
    REQUIRE(publisher_await(p, 0));
}

/* Its own, and the server's Receive Maximum ([MQTT-3.3.4-7]). */
START_TEST(no_more_than_a_window_is_on_its_way)
{
    struct mqtt_packet m;
    if (_i == 0)
        start_publisher(MQTT_V311, 0, four_in_a_window_of_two);
    else
        start_publisher(MQTT_V5, 2, four);
    hear_message(1, 1);
    hear_message(1, 2);
    ck_assert(is_quiet());
    say_id(MQTT_PUBACK, 1);
    hear_message(1, 3);
    ck_assert(is_quiet());
    say_id(MQTT_PUBACK, 2);
    hear_message(1, 4);
    say_id(MQTT_PUBACK, 3);
    say_id(MQTT_PUBACK, 4);
    hear(MQTT_DISCONNECT, &m);
    end_publisher();
}
END_TEST

static void two_refused(struct publisher *p)
{
    for (uint8_t qos = 1; qos < 3; qos++) {
        publisher_set_qos(p, qos);
        REQUIRE(publisher_send(p, TOPIC, PAYLOAD, 0, qos));
        REQUIRE(publisher_await(p, 0));
        REQUIRE(publisher_refused(p) == qos);
    }
}

START_TEST(a_refused_message_is_counted)
{
    struct mqtt_packet m;
    struct mqtt_packet refusal = {.u.ack = {.code = MQTT_RC_QUOTA_EXCEEDED}};
    start_publisher(MQTT_V5, 0, two_refused);
    for (uint8_t qos = 1; qos < 3; qos++) {
        hear_message(qos, qos);
        refusal.type = qos == 1 ? MQTT_PUBACK : MQTT_PUBREC;
        refusal.u.ack.packet_id = qos;
        say(&refusal);
    }
    hear(MQTT_DISCONNECT, &m); /* no PUBREL */
    end_publisher();
}
END_TEST

static void one_in_pieces(struct publisher *p)
{
    publisher_set_qos(p, 1);
    REQUIRE(publisher_send(p, TOPIC, PAYLOAD, 0, 1));
    REQUIRE(publisher_await(p, 0));
    REQUIRE(publisher_send(p, TOPIC, PAYLOAD, 0, 2));
    REQUIRE(!publisher_await(p, 0)); /* the connection ends */
}

START_TEST(an_answer_may_come_in_pieces_and_an_end_is_noticed)
{
    char ack[WIRE_ACK];
    start_publisher(versions[_i], 0, one_in_pieces);
    hear_message(1, 1);
    wire_ack(ack, MQTT_PUBACK, 1);
    for (size_t i = 0; i < sizeof ack; i++) {
        say_bytes(ack + i, 1);
        usleep(1000);
    }
    hear_message(1, 2);
    shutdown(peer, SHUT_WR);
    end_publisher();
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_loop_test(tc, what_is_read_at_once_is_acknowledged_at_once, 0, 2);
    tcase_add_loop_test(tc, every_one_of_many_is_acknowledged, 0, 2);
    tcase_add_loop_test(tc, an_exchange_of_qos_2_counts_at_its_end, 0, 2);
    tcase_add_loop_test(tc, a_message_that_comes_again_is_no_delivery, 0, 2);
    tcase_add_loop_test(tc, qos_0_is_not_acknowledged, 0, 2);
    tcase_add_loop_test(tc, another_qos_than_the_wanted_one_is_an_error, 0, 2);
    tcase_add_loop_test(tc, a_session_that_stays_is_asked_for_and_its_return_counted, 0, 2);
    tcase_add_loop_test(tc, what_was_missed_has_to_come_in_order, 0, 2);
    tcase_add_loop_test(tc, a_publisher_waits_for_the_end_of_the_exchange, 0, 2);
    tcase_add_loop_test(tc, no_more_than_a_window_is_on_its_way, 0, 2);
    tcase_add_test(tc, a_refused_message_is_counted);
    tcase_add_loop_test(tc, an_answer_may_come_in_pieces_and_an_end_is_noticed, 0, 2);
}

UNIT_MAIN("bench_qos")
