/*
 * The bench's clients over TLS against a server out of OpenSSL that does what honest servers may do at any
 * time - records of every size, tickets, new keys, a clean end - and what they may not. The clients are real:
 * a forked client process, told what to do by the fleet.
 */
#include "gateway/tools/bench/fleet.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/tools/bench/certificate.h"
#include "gateway/tools/bench/publisher.h"
#include "gateway/tools/bench/wire.h"
#include "proto/mqtt.h"
#include "tests/unit/unit.h"

#define PATIENCE_MS 10000
#define TOPIC       "t"
#define BIG         100000

/* What the server does besides answering. */
enum trick {
    PLAIN,
    CRUMBS,      /* every byte of an answer in a record of its own */
    NEW_KEYS,    /* KeyUpdate before each answer, asking for the client's too (1.3) */
    CLOSES,      /* close_notify instead of PINGRESP */
    FORGES,      /* a record that is not authentic instead of PINGRESP */
    SENDS_ALERT, /* a fatal alert instead of PINGRESP */
};

static struct sockaddr_in address;
static int listener;
static SSL_CTX *server_ctx;
static pid_t server;

/* ---- the server's process ---- */

/* Ends it: the test sees its exit status. */
static void require(bool ok, int line)
{
    if (ok)
        return;
    fprintf(stderr, "server, line %d\n", line);
    ERR_print_errors_fp(stderr);
    _exit(1);
}
#define REQUIRE(condition) require(condition, __LINE__)

static void say(SSL *ssl, enum trick trick, const char *bytes, size_t len)
{
    if (trick == NEW_KEYS && SSL_version(ssl) == TLS1_3_VERSION)
        REQUIRE(SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED) == 1);
    size_t step = trick == CRUMBS ? 1 : len;
    for (size_t at = 0; at < len; at += step)
        REQUIRE(SSL_write(ssl, bytes + at, (int)step) == (int)step);
}

/* Three stamped messages of the common topic: two small ones in one record, one in many. */
static void deliver(SSL *ssl, enum trick trick)
{
    static char packet[BIG + 1024];
    struct wire_places at;
    size_t len = 0;
    for (uint32_t seq = 1; seq <= 3; seq++) {
        size_t payload = seq < 3 ? 64 : BIG;
        struct wire_stamp s = {WIRE_STAMP_MAGIC, 0, seq, (uint32_t)payload, wire_now_ns()};
        if (seq == 3) {
            say(ssl, trick, packet, len);
            len = 0;
        }
        len += wire_publish(packet + len, sizeof packet - len, MQTT_V311, TOPIC, 0, payload, &s, &at);
    }
    say(ssl, PLAIN, packet, len);
}

/* What comes instead of an answer to a heartbeat. False: an answer does. */
static bool play(SSL *ssl, enum trick trick)
{
    switch (trick) {
    case CLOSES:
        SSL_shutdown(ssl);
        REQUIRE(SSL_shutdown(ssl) == 1); /* the client's own close_notify */
        return true;
    case FORGES: {
        char buf[8];
        REQUIRE(send(SSL_get_fd(ssl), "\x17\x03\x03\x00\x20################################", 37, 0) == 37);
        REQUIRE(SSL_read(ssl, buf, sizeof buf) <= 0);
        REQUIRE(ERR_GET_REASON(ERR_peek_error()) == SSL_R_SSLV3_ALERT_BAD_RECORD_MAC);
        return true;
    }
    case SENDS_ALERT: /* a record that OpenSSL will not take */
        REQUIRE(send(SSL_get_fd(ssl), "\x17\x03\x03\xff\xff", 5, 0) == 5);
        return true;
    default:
        return false;
    }
}

/* Answers until the client leaves or the trick is played. */
static void serve(SSL *ssl, enum trick trick)
{
    char in[4096];
    size_t have = 0, used;
    for (int n; (n = SSL_read(ssl, in + have, (int)(sizeof in - have))) > 0;) {
        struct mqtt_packet m;
        struct mqtt_error e;
        have += (size_t)n;
        while (mqtt_decode(in, have, MQTT_V311, sizeof in, &m, &used, &e) == MQTT_OK) {
            char suback[] = {(char)0x90, 3, in[2], in[3], 0};
            if (m.type == MQTT_CONNECT)
                say(ssl, trick, "\x20\x02\x00\x00", 4);
            if (m.type == MQTT_SUBSCRIBE) {
                say(ssl, trick, suback, sizeof suback);
                deliver(ssl, trick);
            }
            if (m.type == MQTT_PINGREQ && play(ssl, trick))
                return;
            if (m.type == MQTT_PINGREQ)
                say(ssl, trick, "\xd0\x00", 2);
            memmove(in, in + used, have -= used);
        }
    }
}

/* Serves so many connections, one after the other. */
static _Noreturn void server_main(unsigned connections, enum trick trick)
{
    signal(SIGPIPE, SIG_IGN);
    alarm(60);
    while (connections--) {
        int fd = accept(listener, NULL, NULL);
        SSL *ssl = SSL_new(server_ctx);
        SSL_set_fd(ssl, fd);
        if (SSL_accept(ssl) == 1)
            serve(ssl, trick);
        ERR_clear_error();
        SSL_free(ssl);
        close(fd);
    }
    _exit(0);
}

/* ---- the test's process ---- */

static void start_server(bool rsa, int version, const char *ciphers, unsigned connections, enum trick trick)
{
    char certificate[64], key[64];
    socklen_t len = sizeof address;
    snprintf(certificate, sizeof certificate, "./test_bench_tls.%d.crt", (int)getpid());
    snprintf(key, sizeof key, "./test_bench_tls.%d.key", (int)getpid());
    ck_assert(certificate_write(rsa, certificate, key));
    server_ctx = SSL_CTX_new(TLS_server_method());
    ck_assert_int_eq(SSL_CTX_use_certificate_chain_file(server_ctx, certificate), 1);
    ck_assert_int_eq(SSL_CTX_use_PrivateKey_file(server_ctx, key, SSL_FILETYPE_PEM), 1);
    unlink(certificate);
    unlink(key);
    SSL_CTX_set_max_proto_version(server_ctx, version);
    if (ciphers)
        ck_assert_int_eq(SSL_CTX_set_cipher_list(server_ctx, ciphers), 1);
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(listener, 64), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    fflush(NULL);
    server = fork();
    if (server == 0)
        server_main(connections, trick);
}

/* The server has found nothing wrong. */
static void end_server(void)
{
    int status = -1;
    ck_assert_int_eq(waitpid(server, &status, 0), server);
    ck_assert_int_eq(status, 0);
    close(listener);
    SSL_CTX_free(server_ctx);
}

static struct fleet *start_clients(struct tls_client *tls, uint32_t clients, bool tickets)
{
    struct fleet_options o = {.server = address,
                              .population = {.clients = clients, .movers = clients},
                              .version = MQTT_V311,
                              .topics = FLEET_TOPIC_COMMON,
                              .topic = TOPIC,
                              .id_prefix = "c",
                              .id_step = 1,
                              .per_process = FLEET_PER_PROCESS,
                              .tls = tls,
                              .handshakes = 1,
                              .tickets = tickets};
    struct fleet *f = fleet_new(&o);
    ck_assert_ptr_nonnull(f);
    return f;
}

static struct tls_client *make_client(uint8_t version, char *ciphers)
{
    struct tls_client *t =
        tls_client_new(&(struct tls_options){.on = true, .version = version, .ciphers = ciphers});
    ck_assert_ptr_nonnull(t);
    return t;
}

/* Runs a command; how many clients have done it. */
static uint64_t run(struct fleet *f, enum fleet_op op, uint64_t value)
{
    struct fleet_answer a;
    ck_assert(fleet_run(f, (struct fleet_command){.op = op, .value = value, .window = 1}, PATIENCE_MS, &a));
    return a.done;
}

static struct fleet_counters counters_of(const struct fleet *f)
{
    struct fleet_counters n;
    fleet_counters(f, &n);
    return n;
}

static void end_clients(struct fleet *f, struct tls_client *t)
{
    fleet_free(f);
    tls_client_free(t);
}

static const struct {
    uint8_t client;
    int server;
    const char *ciphers; /* of the client */
} versions[] = {
    {13, TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256"},
    {13, TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384"},
    {13, TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256"},
    {12, TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256"},
    {12, TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384"},
    {12, TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305 ECDHE-RSA-CHACHA20-POLY1305"},
};
#define VERSIONS ((int)(sizeof versions / sizeof versions[0]))

/* A whole life: CONNECT, SUBSCRIBE, deliveries, heartbeats, DISCONNECT; _i is a trick and a suite. */
START_TEST(a_parked_client_understands_the_server)
{
    int v = _i % VERSIONS;
    enum trick trick = (enum trick)(_i / VERSIONS);
    start_server(false, versions[v].server, NULL, 1, trick);
    struct tls_client *t = make_client(versions[v].client, (char *)(uintptr_t)versions[v].ciphers);
    struct fleet *f = start_clients(t, 1, trick != NEW_KEYS && _i % 2);
    run(f, FLEET_SEQUENCE, 1);
    ck_assert_uint_eq(run(f, FLEET_CONNECT, 0), 1);
    ck_assert_uint_eq(run(f, FLEET_SUBSCRIBE, FLEET_TOPIC_COMMON), 1);
    for (unsigned i = 0; i < 5; i++)
        ck_assert_uint_eq(run(f, FLEET_HEARTBEAT, 0), 1);
    struct fleet_counters n = counters_of(f);
    ck_assert_uint_eq(n.deliveries, 3);
    ck_assert_uint_eq(n.answers, 5);
    ck_assert_uint_eq(n.handshakes, 1);
    ck_assert_uint_eq(n.lost + n.refused + n.foreign + n.gaps + n.duplicates + n.protocol_errors, 0);
    ck_assert_uint_eq(run(f, FLEET_CLOSE, 0), 1);
    end_server();
    end_clients(f, t);
}
END_TEST

static const struct {
    enum trick trick;
    const char *words;
} ends[] = {{CLOSES, "closed by the server (close_notify)"}, {FORGES, "TLS: "}, {SENDS_ALERT, "TLS: "}};
#define ENDS ((int)(sizeof ends / sizeof ends[0]))

START_TEST(an_end_is_told_in_words)
{
    int v = _i % VERSIONS, e = _i / VERSIONS;
    start_server(false, versions[v].server, NULL, 1, ends[e].trick);
    struct tls_client *t = make_client(versions[v].client, (char *)(uintptr_t)versions[v].ciphers);
    struct fleet *f = start_clients(t, 1, false);
    ck_assert_uint_eq(run(f, FLEET_CONNECT, 0), 1);
    ck_assert_uint_eq(run(f, FLEET_HEARTBEAT, 0), 0);
    struct fleet_counters n = counters_of(f);
    ck_assert_uint_eq(n.lost, 1);
    ck_assert_msg(strncmp(n.error, ends[e].words, strlen(ends[e].words)) == 0, "%s", n.error);
    end_server();
    end_clients(f, t);
}
END_TEST

/* More clients than places: each gets its turn. Then again with tickets, which are taken. */
START_TEST(tickets_resume_and_are_counted)
{
    const uint32_t clients = 5;
    int v = _i;
    start_server(false, versions[v].server, NULL, 2 * clients, PLAIN);
    struct tls_client *t = make_client(versions[v].client, (char *)(uintptr_t)versions[v].ciphers);
    struct fleet *f = start_clients(t, clients, true);
    ck_assert_uint_eq(run(f, FLEET_HANDSHAKE, 0), clients);
    struct fleet_counters n = counters_of(f);
    ck_assert_uint_eq(n.handshakes, clients);
    ck_assert_uint_eq(n.offered + n.resumed, 0);
    ck_assert_uint_eq(n.connected, 0);
    run(f, FLEET_SEQUENCE, 1);
    ck_assert_uint_eq(run(f, FLEET_HANDSHAKE, 1), clients);
    n = counters_of(f);
    ck_assert_uint_eq(n.handshakes, clients);
    ck_assert_uint_eq(n.offered, clients);
    ck_assert_uint_eq(n.resumed, clients);
    ck_assert_uint_eq(n.handshake_latency.count, clients);
    ck_assert_uint_eq(n.refused + n.lost, 0);
    end_server();
    end_clients(f, t);
}
END_TEST

/* A server that has lost its ticket keys makes full handshakes: they are done, and not counted as resumed. */
START_TEST(refused_tickets_are_not_hidden)
{
    int v = _i;
    start_server(false, versions[v].server, NULL, 1, PLAIN);
    struct tls_client *t = make_client(versions[v].client, (char *)(uintptr_t)versions[v].ciphers);
    struct fleet *f = start_clients(t, 1, true);
    ck_assert_uint_eq(run(f, FLEET_HANDSHAKE, 0), 1);
    ck_assert_int_eq(waitpid(server, NULL, 0), server);
    unsigned char keys[80] = {1};
    ck_assert_int_eq(SSL_CTX_set_tlsext_ticket_keys(server_ctx, keys, sizeof keys), 1);
    fflush(NULL);
    server = fork();
    if (server == 0)
        server_main(1, PLAIN);
    ck_assert_uint_eq(run(f, FLEET_HANDSHAKE, 1), 1);
    struct fleet_counters n = counters_of(f);
    ck_assert_uint_eq(n.offered, 1);
    ck_assert_uint_eq(n.resumed, 0);
    ck_assert_uint_eq(n.handshakes, 2);
    end_server();
    end_clients(f, t);
}
END_TEST

START_TEST(a_suite_that_cannot_be_parked_is_refused)
{
    static char ciphers[] = "ECDHE-RSA-AES128-SHA";
    start_server(true, TLS1_2_VERSION, NULL, 1, PLAIN);
    struct tls_client *t = make_client(12, ciphers);
    struct fleet *f = start_clients(t, 1, false);
    ck_assert_uint_eq(run(f, FLEET_CONNECT, 0), 0);
    struct fleet_counters n = counters_of(f);
    ck_assert_uint_eq(n.refused, 1);
    ck_assert_ptr_nonnull(strstr(n.error, "ECDHE-RSA-AES128-SHA"));
    ck_assert_ptr_nonnull(strstr(n.error, "not a suite that clients can park"));
    end_server();
    end_clients(f, t);
}
END_TEST

/* A client that waits for its ticket is parked after CONNACK: the first secrets have to be in force then. */
START_TEST(new_keys_before_connack_are_refused_by_one_that_waits_for_its_ticket)
{
    start_server(false, TLS1_3_VERSION, NULL, 1, NEW_KEYS);
    struct tls_client *t = make_client(13, NULL);
    struct fleet *f = start_clients(t, 1, true);
    run(f, FLEET_CONNECT, 0);
    struct fleet_counters n = counters_of(f);
    ck_assert_uint_eq(n.lost, 1);
    ck_assert_str_eq(n.error, "TLS: the keys could not be taken over from OpenSSL");
    end_server();
    end_clients(f, t);
}
END_TEST

START_TEST(without_a_common_suite_the_handshake_fails)
{
    static char ciphers[] = "ECDHE-RSA-AES128-GCM-SHA256";
    start_server(false, TLS1_2_VERSION, NULL, 1, PLAIN);
    struct tls_client *t = make_client(12, ciphers);
    struct fleet *f = start_clients(t, 1, false);
    ck_assert_uint_eq(run(f, FLEET_CONNECT, 0), 0);
    struct fleet_counters n = counters_of(f);
    ck_assert_uint_eq(n.refused, 1);
    ck_assert_msg(strstr(n.error, "TLS handshake: ") == n.error, "%s", n.error);
    end_server();
    end_clients(f, t);
}
END_TEST

/* One that is not TLS at all. */
START_TEST(plaintext_instead_of_tls_is_an_error)
{
    start_server(false, TLS1_3_VERSION, NULL, 0, PLAIN);
    struct tls_client *t = make_client(13, NULL);
    struct fleet *f = start_clients(t, 1, false);
    fleet_start(f, (struct fleet_command){.op = FLEET_CONNECT, .window = 1});
    int fd = accept(listener, NULL, NULL);
    ck_assert_int_eq(write(fd, "HTTP/1.1 400 Bad Request\r\n\r\n", 28), 28);
    struct fleet_answer a;
    ck_assert(fleet_finish(f, PATIENCE_MS, &a));
    ck_assert_uint_eq(a.failed, 1);
    struct fleet_counters n = counters_of(f);
    ck_assert_msg(strstr(n.error, "TLS handshake: ") == n.error, "%s", n.error);
    close(fd);
    end_server();
    end_clients(f, t);
}
END_TEST

START_TEST(the_publisher_speaks_tls_too)
{
    start_server(false, versions[_i].server, NULL, 2, PLAIN);
    struct tls_client *t = make_client(versions[_i].client, NULL);
    ck_assert_int_eq(publisher_probe(&address, t, MQTT_V311), PUBLISHER_UP);
    struct publisher *p = publisher_new(&address, t, MQTT_V311, "p");
    ck_assert_ptr_nonnull(p);
    ck_assert(publisher_send(p, TOPIC, BIG / 100, 0, 1));
    publisher_free(p);
    end_server();
    tls_client_free(t);
}
END_TEST

START_TEST(a_probe_tells_later_from_never)
{
    static char ciphers[] = "ECDHE-RSA-AES128-GCM-SHA256";
    start_server(false, TLS1_2_VERSION, NULL, 1, PLAIN);
    struct tls_client *t = make_client(12, ciphers);
    ck_assert_int_eq(publisher_probe(&address, t, MQTT_V311), PUBLISHER_NEVER);
    ck_assert_ptr_nonnull(strstr(publisher_error(), "TLS: "));
    end_server();
    ck_assert_int_eq(publisher_probe(&address, t, MQTT_V311), PUBLISHER_NOT_YET);
    tls_client_free(t);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, a_probe_tells_later_from_never);
    tcase_add_loop_test(tc, a_parked_client_understands_the_server, 0, 3 * VERSIONS);
    tcase_add_loop_test(tc, an_end_is_told_in_words, 0, ENDS * VERSIONS);
    tcase_add_loop_test(tc, tickets_resume_and_are_counted, 0, VERSIONS);
    tcase_add_loop_test(tc, refused_tickets_are_not_hidden, 0, VERSIONS);
    tcase_add_test(tc, a_suite_that_cannot_be_parked_is_refused);
    tcase_add_test(tc, new_keys_before_connack_are_refused_by_one_that_waits_for_its_ticket);
    tcase_add_test(tc, without_a_common_suite_the_handshake_fails);
    tcase_add_test(tc, plaintext_instead_of_tls_is_an_error);
    tcase_add_loop_test(tc, the_publisher_speaks_tls_too, 0, VERSIONS);
}

UNIT_MAIN("bench_tls")
