/*
 * The configuration: defaults, every kind of value and its limits, round trip through config_print(), the
 * generated sample, and the messages about what is wrong with a file, with their lines.
 */
#include "gateway/base/options.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/config_text.h"
#include "gateway/base/nearest.h"
#include "gateway/base/utf8.h"
#include "tests/unit/unit.h"

#define LISTENER "listener \"l\" {}\n"
#define TLS      "tls \"main\" { certificate = c key = k"

static char path[64];

/* Writes a file and returns its name. */
static const char *file_with(const char *text)
{
    snprintf(path, sizeof path, "test_options.%d.conf", (int)getpid());
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
    return path;
}

/* Loads the text; returns what was written about it with the file's name as F. */
static char *problems_of(struct config *c, const char *text)
{
    static char out[32768];
    char *raw = NULL;
    size_t size = 0;
    FILE *err = open_memstream(&raw, &size);
    int result = config_load(c, file_with(text), err);
    fclose(err);
    unlink(path);
    ck_assert_int_eq(result, *raw ? -1 : 0);
    char *to = out;
    for (const char *s = raw; *s; s++) {
        if (strncmp(s, path, strlen(path)) == 0) {
            *to++ = 'F';
            s += strlen(path) - 1;
        } else {
            *to++ = *s;
        }
    }
    *to = '\0';
    free(raw);
    return out;
}

/* Loads a text that must be right. */
static void load_good(struct config *c, const char *text) { ck_assert_str_eq(problems_of(c, text), ""); }

static char *printed(const struct config *c)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    config_print(c, f);
    fclose(f);
    return text;
}

START_TEST(defaults)
{
    struct config c;
    config_defaults(&c);
    ck_assert_uint_eq(c.workers, 0);
    ck_assert_str_eq(c.user, "nobody");
    ck_assert_str_eq(c.engine, "local");
    ck_assert_uint_eq(c.shutdown_timeout_ms, 10000);
    ck_assert_uint_eq(c.connect_timeout_ms, 10000);
    ck_assert_uint_eq(c.max_packet_size, 1 << 20);
    ck_assert_uint_eq(c.max_connect_size, 64 << 10);
    ck_assert_uint_eq(c.output_limit, 256 << 10);
    ck_assert_int_eq(c.output_policy, OUTPUT_DROP_OLDEST);
    ck_assert_str_eq(c.clients_prefix, "clients/");
    ck_assert_str_eq(c.broadcast_topic, "broadcast");
    ck_assert_uint_eq(c.fanout_slice, 256);
    ck_assert_uint_eq(c.ipc_queue_limit, 64 << 20);
    ck_assert_uint_eq(c.max_session_expiry_s, 30 * 86400);
    ck_assert_uint_eq(c.session_expiry_s, 30 * 86400);
    ck_assert_uint_eq(c.implicit_qos, 1);
    ck_assert(c.retain);
    ck_assert_int_eq(c.log_sync, LOG_SYNC_ALWAYS);
    ck_assert_uint_eq(c.log_max_age_s, 7 * 86400);
    ck_assert_uint_eq(c.log_max_size, (uint64_t)4 << 30);
    ck_assert_uint_eq(c.log_max_file, (uint64_t)128 << 30);
    ck_assert_uint_eq(c.log_reserve, 16 << 20);
    ck_assert_str_eq(c.api_bind, "127.0.0.1:8080");
    ck_assert_uint_eq(c.listeners, 1);
    ck_assert_str_eq(c.listener[0].name, "clients");
    ck_assert_str_eq(c.listener[0].bind, "127.0.0.1:1883");
    ck_assert_uint_eq(c.listener[0].backlog, 4096);
    ck_assert(c.listener[0].nodelay);
    ck_assert_uint_eq(c.listener[0].user_timeout_ms, 30000);
    ck_assert_str_eq(c.listener[0].tls, "");
    ck_assert_uint_eq(c.listener[0].max_handshakes, 256);
    ck_assert_uint_eq(c.listener[0].handshake_timeout_ms, 10000);
    ck_assert_uint_eq(c.tls_sections, 0);
    ck_assert_uint_eq(c.ticket_rotation_ms, 8 * 3600 * 1000);
    ck_assert_str_eq(c.ticket_keys, "");
    config_free(&c);
    ck_assert_uint_eq(c.listeners, 0);
    ck_assert_ptr_null(c.user);
}
END_TEST

START_TEST(no_file_is_the_defaults)
{
    struct config a, b;
    config_defaults(&a);
    ck_assert_int_eq(config_load(&b, NULL, stderr), 0);
    char *x = printed(&a), *y = printed(&b);
    ck_assert_str_eq(x, y);
    free(x);
    free(y);
    config_free(&a);
    config_free(&b);
}
END_TEST

static bool is_number(const struct option_row *row)
{
    return row->type == OPTION_UINT || row->type == OPTION_SIZE || row->type == OPTION_SIZE64 ||
           row->type == OPTION_DURATION;
}

START_TEST(every_row_is_sound)
{
    for (const struct option_row *row = options_table(); row->name; row++) {
        ck_assert_msg(row->help && strlen(row->help) > 40, "%s: no help", row->name);
        ck_assert_msg(row->help[strlen(row->help) - 1] == '.', "%s: help without full stop", row->name);
        ck_assert_ptr_nonnull(row->default_text);
        if (is_number(row)) {
            ck_assert_msg(row->unit && *row->unit, "%s: no unit", row->name);
            ck_assert_uint_lt(row->min, row->max);
            ck_assert(row->type == OPTION_SIZE64 || row->max <= UINT32_MAX);
            ck_assert(row->zero == 0 || (row->min == 0 && row->zero > row->max));
        }
        bool section_known = false;
        for (const struct option_section *s = options_sections(); s->name; s++)
            section_known |= strcmp(s->name, row->section) == 0;
        ck_assert(section_known);
        for (const struct option_row *other = options_table(); other < row; other++)
            ck_assert(strcmp(other->section, row->section) != 0 || strcmp(other->name, row->name) != 0);
    }
}
END_TEST

START_TEST(values)
{
    struct config c;
    load_good(&c, "workers = 3\n"
                  "max_connections = 100000000\n"
                  "user = \"\"\n"
                  "shutdown_timeout = 1m\n"
                  "log_level = \"debug\"\n"
                  "mqtt {\n"
                  "  connect_timeout = 1500ms\n"
                  "  max_keepalive = 1h\n"
                  "  max_packet_size = 16M\n"
                  "  max_connect_size = 128\n"
                  "  output_policy = disconnect\n"
                  "  max_session_expiry = 0\n"
                  "}\n"
                  "log { sync = never  max_size = 5G  max_file = 16384G  max_age = 0 }\n"
                  "fanout { queue_limit = 2G }\n"
                  "api { bind = \"[::1]:9\" }\n"
                  "listener \"a\" { bind = \"0.0.0.0:1\"  nodelay = off  sndbuf = 4K }\n"
                  "listener \"b\" { bind = \"[::]:65535\"  nodelay = yes  user_timeout = 0 }\n");
    ck_assert_uint_eq(c.workers, 3);
    ck_assert_uint_eq(c.max_connections, 100000000);
    ck_assert_str_eq(c.user, "");
    ck_assert_uint_eq(c.shutdown_timeout_ms, 60000);
    ck_assert_str_eq(c.log_level, "debug");
    ck_assert_uint_eq(c.connect_timeout_ms, 1500);
    ck_assert_uint_eq(c.max_keepalive_s, 3600);
    ck_assert_uint_eq(c.max_packet_size, 16 << 20);
    ck_assert_uint_eq(c.max_session_expiry_s, UINT32_MAX);
    ck_assert_int_eq(c.log_sync, LOG_SYNC_NEVER);
    ck_assert_uint_eq(c.log_max_size, (uint64_t)5 << 30);
    ck_assert_uint_eq(c.log_max_file, (uint64_t)16384 << 30);
    ck_assert_uint_eq(c.log_max_age_s, 0);
    ck_assert_uint_eq(c.max_connect_size, 128);
    ck_assert_int_eq(c.output_policy, OUTPUT_DISCONNECT);
    ck_assert_uint_eq(c.fanout_queue_limit, 2147483648u);
    ck_assert_str_eq(c.api_bind, "[::1]:9");
    ck_assert_uint_eq(c.listeners, 2);
    ck_assert_str_eq(c.listener[0].name, "a");
    ck_assert(!c.listener[0].nodelay);
    ck_assert_uint_eq(c.listener[0].sndbuf, 4096);
    ck_assert_str_eq(c.listener[1].bind, "[::]:65535");
    ck_assert(c.listener[1].nodelay);
    ck_assert_uint_eq(c.listener[1].user_timeout_ms, 0);
    ck_assert_uint_eq(c.listener[1].backlog, 4096);
    config_free(&c);
}
END_TEST

static uint64_t number_in(const struct option_row *row, const void *base)
{
    const void *at = (const char *)base + row->offset;
    return row->type == OPTION_SIZE64 ? *(const uint64_t *)at : *(const uint32_t *)at;
}

START_TEST(every_limit_of_every_number)
{
    char expected[OPTION_TEXT_MAX], text[64];
    for (const struct option_row *row = options_table(); row->name; row++) {
        if (!is_number(row))
            continue;
        union {
            struct config c;
            struct config_listener l;
            struct config_tls t;
        } u;
        memset(&u, 0xA5, sizeof u);
        option_format_number(row, row->min, text, sizeof text);
        ck_assert_msg(option_set(row, &u, text, expected), "%s = %s", row->name, text);
        ck_assert_uint_eq(number_in(row, &u), row->zero ? row->zero : row->min);
        option_format_number(row, row->max, text, sizeof text);
        ck_assert_msg(option_set(row, &u, text, expected), "%s = %s", row->name, text);
        ck_assert_uint_eq(number_in(row, &u), row->max);
        option_format_number(row, row->max + 1, text, sizeof text);
        ck_assert_msg(!option_set(row, &u, text, expected), "%s = %s", row->name, text);
        ck_assert_uint_eq(number_in(row, &u), row->max);
        if (row->min > 0) {
            option_format_number(row, row->min - 1, text, sizeof text);
            ck_assert_msg(!option_set(row, &u, text, expected), "%s = %s", row->name, text);
        }
    }
}
END_TEST

static const struct {
    const char *text, *expected;
} wrong[] = {
    {"workers = abc\n" LISTENER,
     "F:1: workers: \"abc\" is wrong, expected a number from 0 to 1024 (processes)\n"},
    {"workers = -1\n" LISTENER,
     "F:1: workers: \"-1\" is wrong, expected a number from 0 to 1024 (processes)\n"},
    {"workers = 1K\n" LISTENER,
     "F:1: workers: \"1K\" is wrong, expected a number from 0 to 1024 (processes)\n"},
    {"workers = 18446744073709551617\n" LISTENER,
     "F:1: workers: \"18446744073709551617\" is wrong, expected a number from 0 to 1024 (processes)\n"},
    {"workers = \"\"\n" LISTENER,
     "F:1: workers: \"\" is wrong, expected a number from 0 to 1024 (processes)\n"},
    {"\n\nmqtt {\n  max_packet_size = 17M\n}\n" LISTENER,
     "F:4: mqtt.max_packet_size: \"17M\" is wrong, expected a size from 128 to 16M (bytes; suffixes K, M, "
     "G)\n"},
    {"mqtt { max_packet_size = 99999999999999999G }\n" LISTENER,
     "F:1: mqtt.max_packet_size: \"99999999999999999G\" is wrong, expected a size from 128 to 16M (bytes; "
     "suffixes K, M, G)\n"},
    {"shutdown_timeout = 10\n" LISTENER,
     "F:1: shutdown_timeout: \"10\" is wrong, expected a duration from 0 to 10m (suffixes ms, s, m, h)\n"},
    {"mqtt { max_keepalive = 1500ms }\n" LISTENER, "F:1: mqtt.max_keepalive: \"1500ms\" is wrong, expected a "
                                                   "duration from 0 to 65535s (suffixes ms, s, m, h)\n"},
    {"listener \"x\" {\n nodelay = 2\n}\n",
     "F:2: listener.nodelay: \"2\" is wrong, expected true or false\n"},
    {"engine = \"mongo\"\n" LISTENER, "F:1: engine: \"mongo\" is wrong, expected local\n"},
    {"mqtt { output_policy = drop }\n" LISTENER,
     "F:1: mqtt.output_policy: \"drop\" is wrong, expected drop-oldest|disconnect\n"},
    {"mqtt { broadcast_topic = \"a/#\" }\n" LISTENER,
     "F:1: mqtt.broadcast_topic: \"a/#\" is wrong, expected a topic in UTF-8 without +, # and control "
     "characters\n"},
    {"data_dir = \"\"\n" LISTENER, "F:1: data_dir: \"\" is wrong, expected a name\n"},
    {"api { token_file = \"/nonexistent/tokens\" }\n" LISTENER,
     "F:1: api.token_file: \"/nonexistent/tokens\" is wrong, expected a file that can be read, or \"\"\n"},
    {"listener \"x\" { bind = \"localhost:1883\" }\n",
     "F:1: listener.bind: \"localhost:1883\" is wrong, expected a numeric address and port such as "
     "127.0.0.1:1883 or "
     "[::1]:1883\n"},
    /* names */
    {"worker = 1\n" LISTENER, "F:1: worker: unknown option, expected perhaps workers\n"},
    {"mqtt {\n outptu_limit = 1M\n}\n" LISTENER,
     "F:2: mqtt.outptu_limit: unknown option, expected perhaps output_limit\n"},
    {"max_packet_size = 1M\n" LISTENER,
     "F:1: max_packet_size: unknown option here, expected in section mqtt { }\n"},
    {"mqtt { workers = 1 }\n" LISTENER,
     "F:1: mqtt.workers: unknown option here, expected outside of sections\n"},
    {"frobnicate = 1\n" LISTENER,
     "F:1: frobnicate: unknown option, expected one of those in holdfast.conf(5)\n"},
    {"listner \"x\" {\n bind = \"127.0.0.1:1\"\n}\n",
     "F:1: listner: unknown option, expected perhaps listener\n"},
    {"bogus {\n a = 1\n b { c = \"}\" }\n}\nworkers = x\n" LISTENER,
     "F:1: bogus: unknown option, expected one of those in holdfast.conf(5)\n"
     "F:5: workers: \"x\" is wrong, expected a number from 0 to 1024 (processes)\n"},
    {"bogus = { 1, 2 }\nworkers = x\n" LISTENER,
     "F:1: bogus: unknown option, expected one of those in holdfast.conf(5)\n"
     "F:2: workers: \"x\" is wrong, expected a number from 0 to 1024 (processes)\n"},
    /* combinations */
    {"workers = 1\n\n\n", "F:1: no listener, expected at least one: listener \"clients\" { bind = "
                          "\"127.0.0.1:1883\" }\n"},
    {"", "F:1: no listener, expected at least one: listener \"clients\" { bind = \"127.0.0.1:1883\" }\n"},
    {"listener \"a\" { bind = \"0.0.0.0:1\" }\nlistener \"b\" {\n bind = \"0.0.0.0:1\"\n}\n",
     "F:3: listener.bind: 0.0.0.0:1 is also bound by listener \"a\", expected another address\n"},
    {"listener \"a\" {\n bind = \"127.0.0.1:8080\" }\n",
     "F:2: listener.bind: 127.0.0.1:8080 is also bound by the api, expected another address\n"},
    {"listener \"a\" { bind = \"0.0.0.0:1\" }\nlistener \"a\" { bind = \"0.0.0.0:2\" }\n",
     "F:2: found duplicate title 'a', expected `name = value` or `section { ... }`\n"},
    {LISTENER "api {\n bind = \"0.0.0.0:8080\"\n}\n",
     "F:3: api.bind: 0.0.0.0:8080 can be reached from other machines and api.token_file is empty, so anybody "
     "could "
     "publish; expected a token_file, or a loopback address such as 127.0.0.1:8080\n"},
    {LISTENER "mqtt {\n broadcast_topic = \"clients/all\"\n}\n",
     "F:3: mqtt.broadcast_topic: \"clients/all\" begins with clients_prefix and so is also a client's own "
     "topic, "
     "expected another name\n"},
    {"workers = 1\nworkers = 2\n" LISTENER, "F:2: workers: set twice, expected once (see line 1)\n"},
    {LISTENER "mqtt { max_client_id = 30 }\nmqtt {\n max_client_id = 30 }\n",
     "F:4: mqtt.max_client_id: set twice, expected once (see line 2)\n"},
    {"listener \"\" {}\n", "F:1: listener: bad name \"\", expected 1 to 64 bytes\n"},
    /* TLS */
    {LISTENER "\n\ntls \"main\" {\n key = k\n}\n",
     "F:4: tls \"main\": no certificate, expected certificate = \"FILE\"\n"},
    {LISTENER "tls \"a\" { certificate = c key = k }\ntls\n \"tls\" { certificate = c\n}\n",
     "F:3: tls \"tls\": no key, expected key = \"FILE\"\n"},
    {LISTENER "tls \"main\" { certificate = {} key = k }\n",
     "F:2: tls \"main\": no certificate, expected certificate = \"FILE\"\n"},
    {LISTENER "tls \"main\" {\n certificate = {\"a\", \"\"}\n key = {\"k\", \"l\"}\n}\n",
     "F:3: tls.certificate: \"\" is wrong, expected the name of a file\n"
     "F:4: tls.key: 2 for 1 certificate, expected one each, in the same order\n"},
    {LISTENER "tls \"main\" {\n certificate = {\"a\", \"b\"}\n key = k\n ocsp = {\"\", \"\", \"x\"}\n}\n",
     "F:4: tls.key: 1 for 2 certificates, expected one each, in the same order\n"
     "F:5: tls.ocsp: 3 for 2 certificates, expected one each at most, in the same order\n"},
    {LISTENER TLS "\n client_certificate = required\n crl = x }\n",
     "F:3: tls.client_certificate: ca is empty, so no client's certificate could be right; expected ca = "
     "\"FILE\", or client_certificate = off\n"
     "F:4: tls.crl: ca is empty, so nobody could have signed it; expected ca = \"FILE\", or no crl\n"},
    {"listener \"l\" {\n tls = \"man\" }\n" TLS "}\n",
     "F:2: listener.tls: there is no section tls \"man\", expected perhaps \"main\" or one of this name\n"},
    {"listener \"l\" { tls = \"x\" }\n",
     "F:1: listener.tls: there is no section tls \"x\", expected one of this name\n"},
    {LISTENER TLS "\n min_version = 1.1\n identity = \"dn\"\n parking = maybe\n alpn = {\"mqtt\", \"\"}\n "
                  "ciphers = \"\" }\n",
     "F:3: tls.min_version: \"1.1\" is wrong, expected 1.2|1.3\n"
     "F:4: tls.identity: \"dn\" is wrong, expected cn|san\n"
     "F:5: tls.parking: \"maybe\" is wrong, expected true or false\n"
     "F:6: tls.alpn: \"\" is wrong, expected protocol names of 1 to 255 bytes\n"
     "F:7: tls.ciphers: \"\" is wrong, expected names as OpenSSL writes them, joined by colons\n"},
    {LISTENER TLS "\n alpn = {\"\", \"mqtt\"} }\n",
     "F:3: tls.alpn: \"mqtt\" is wrong, expected protocol names of 1 to 255 bytes before it\n"},
    {LISTENER TLS "\n certificate = d }\n", "F:3: tls.certificate: set twice, expected once (see line 2)\n"},
    {LISTENER TLS "\n ca = {\"a\", \"b\"} }\n",
     "F:3: unexpected token '{', expected `name = value` or `section { ... }`\n"},
    {LISTENER TLS "\n certificate_file = x }\n",
     "F:3: tls.certificate_file: unknown option, expected perhaps certificate\n"},
    {LISTENER TLS " cipher = x }\n", "F:2: tls.cipher: unknown option, expected perhaps ciphers\n"},
    {LISTENER "tsl \"main\" { }\n", "F:2: tsl: unknown option, expected perhaps tls\n"},
    {LISTENER TLS "}\n" TLS "}\n",
     "F:3: found duplicate title 'main', expected `name = value` or `section { ... }`\n"},
    {LISTENER "tickets { rotation = 59s }\n",
     "F:2: tickets.rotation: \"59s\" is wrong, expected a duration from 1m to 168h (suffixes ms, s, m, h)\n"},
    {LISTENER TLS "\n key += \"a\nb\" }\n", "F:3: this string is not closed, expected a quote\n"},
    {LISTENER TLS "\n alpn = \"a\\nb\" }\n",
     "F:3: tls.alpn: \"a\nb\" is wrong, expected a string without newlines\n"},
    /* syntax */
    {"workers 1\n" LISTENER,
     "F:1: missing equal sign after option 'workers', expected `name = value` or `section { ... }`\n"},
    {"workers = x\nuser = }\n", "F:1: workers: \"x\" is wrong, expected a number from 0 to 1024 (processes)\n"
                                "F:2: unexpected token '}', expected `name = value` or `section { ... }`\n"},
    {"listener {\n}\n",
     "F:1: missing title for section 'listener', expected `name = value` or `section { ... }`\n"},
    {"mqtt {\n max_client_id = 30\n", "F:1: this { is not closed, expected }\n"},
    {"workers = 1\nuser = \"nobody\n" LISTENER, "F:2: this string is not closed, expected a quote\n"},
    {"user = 'nobody\n" LISTENER, "F:1: this string is not closed, expected a quote\n"},
    {"user = \"", "F:1: this string is not closed, expected a quote\n"},
    {"workers = 1\n/* user\n" LISTENER, "F:2: this comment is not closed, expected */\n"},
    {"workers = 1\n\nmqtt|max_client_id = 30\n" LISTENER,
     "F:3: unexpected |, expected a name or a quoted string\n"},
    /* lines stay right whatever stands before */
    {"/* one */ /* two\n lines */\n// three\n# four {\n\nuser = \"no\\\nbody\"\n workers = x # "
     "five\n" LISTENER,
     "F:8: workers: \"x\" is wrong, expected a number from 0 to 1024 (processes)\n"},
    {"//x\nlistener /* the */ \"l\" # first\n{\n // nothing\n backlog = 0 }\n",
     "F:5: listener.backlog: \"0\" is wrong, expected a number from 1 to 65535 (connections)\n"},
    /* all at once, in the order of lines */
    {"workers = x\nbogus = 1\nmqtt { zzz = 2\n max_client_id = 1 }\nengine = e\nlistener \"l\" { bind = 1 "
     "}\n",
     "F:1: workers: \"x\" is wrong, expected a number from 0 to 1024 (processes)\n"
     "F:2: bogus: unknown option, expected one of those in holdfast.conf(5)\n"
     "F:3: mqtt.zzz: unknown option, expected one of those in holdfast.conf(5)\n"
     "F:4: mqtt.max_client_id: \"1\" is wrong, expected a number from 23 to 65535 (bytes)\n"
     "F:5: engine: \"e\" is wrong, expected local\n"
     "F:6: listener.bind: \"1\" is wrong, expected a numeric address and port such as 127.0.0.1:1883 or "
     "[::1]:1883\n"},
};

START_TEST(wrong_files)
{
    struct config c;
    ck_assert_str_eq(problems_of(&c, wrong[_i].text), wrong[_i].expected);
    static const struct config empty;
    ck_assert_mem_eq(&c, &empty, sizeof c);
}
END_TEST

START_TEST(too_many_listeners)
{
    char text[2048] = "";
    for (int i = 0; i < CONFIG_MAX_LISTENERS + 2; i++)
        sprintf(text + strlen(text), "listener \"l%d\" { bind = \"127.0.0.1:%d\" }\n", i, 100 + i);
    struct config c;
    ck_assert_str_eq(problems_of(&c, text), "F:17: listener \"l16\": one too many, expected at most 16\n"
                                            "F:17: listener \"l16\": one too many, expected at most 16\n"
                                            "F:18: listener \"l17\": one too many, expected at most 16\n"
                                            "F:18: listener \"l17\": one too many, expected at most 16\n");
}
END_TEST

START_TEST(very_many_problems_are_bounded)
{
    char *text = calloc(400, 32);
    for (int i = 0; i < 300; i++)
        sprintf(text + strlen(text), "bogus%d = 1\n", i);
    struct config c;
    const char *problems = problems_of(&c, text);
    ck_assert_ptr_nonnull(strstr(problems, "F:100: bogus99"));
    ck_assert_ptr_null(strstr(problems, "F:101:"));
    free(text);
}
END_TEST

START_TEST(files_that_cannot_be_read)
{
    struct config c;
    char *raw = NULL;
    size_t size = 0;
    FILE *err = open_memstream(&raw, &size);
    ck_assert_int_eq(config_load(&c, "/nonexistent/holdfast.conf", err), -1);
    ck_assert_int_eq(config_load(&c, ".", err), -1);
    ck_assert_int_eq(config_load(&c, "/dev/zero", err), -1);
    fclose(err);
    ck_assert_str_eq(raw, "/nonexistent/holdfast.conf: cannot be read: No such file or directory\n"
                          ".: cannot be read: Is a directory\n"
                          "/dev/zero: cannot be read: larger than 1 MiB\n");
    free(raw);
    FILE *f = fopen(file_with(""), "w");
    fwrite("a\0b", 1, 3, f);
    fclose(f);
    err = open_memstream(&raw, &size);
    ck_assert_int_eq(config_load(&c, path, err), -1);
    fclose(err);
    ck_assert_ptr_nonnull(strstr(raw, ": cannot be read: not a text file (it holds a NUL byte)\n"));
    free(raw);
    unlink(path);
}
END_TEST

START_TEST(no_half_loaded_file_leaks_into_the_next)
{
    struct config c;
    ck_assert_str_ne(problems_of(&c, "user = \"half\nlistener"), "");
    ck_assert_str_ne(problems_of(&c, "workers = 3 } "), "");
    load_good(&c, LISTENER);
    ck_assert_uint_eq(c.workers, 0);
    ck_assert_str_eq(c.user, "nobody");
    config_free(&c);
}
END_TEST

/* Loads what is printed and prints it again. */
static void check_round_trip(const struct config *c)
{
    struct config again;
    char *first = printed(c);
    load_good(&again, first);
    char *second = printed(&again);
    ck_assert_str_eq(first, second);
    ck_assert_uint_eq(c->listeners, again.listeners);
    ck_assert_uint_eq(c->tls_sections, again.tls_sections);
    for (const struct option_row *row = options_table(); row->name; row++) {
        const struct option_section *s = option_section_of(row);
        for (unsigned i = 0; i < (s->max ? *config_items(c, s) : 1); i++) {
            const void *a = config_item(c, s, i), *b = config_item(&again, s, i);
            ck_assert_msg(option_same(row, a, b), "%s.%s", row->section, row->name);
            if (s->max)
                ck_assert_str_eq(*(char *const *)a, *(char *const *)b);
        }
    }
    free(first);
    free(second);
    config_free(&again);
}

START_TEST(round_trip_of_the_defaults)
{
    struct config c;
    config_defaults(&c);
    check_round_trip(&c);
    config_free(&c);
}
END_TEST

START_TEST(round_trip_of_odd_values)
{
    struct config c;
    load_good(
        &c, "user = \"a\\\"b\\\\c\\x01\\t\\${HOME} # no comment // nor this\"\n"
            "data_dir = 'single \"quoted\"'\n"
            "workers = 1023\n"
            "shutdown_timeout = 61001ms\n"
            "mqtt { output_limit = 65537  max_packet_size = 3K  max_keepalive = 7m  max_session_expiry = 0\n"
            "  clients_prefix = \"gr\xc3\xbc\xc3\x9f/\"  output_policy = disconnect }\n"
            "listener \"first \\\"one\\\"\" { bind = \"127.0.0.1:0\"  user_timeout = 90s  nodelay = false }\n"
            "log { max_size = 4294967297  max_file = 1025G }\n"
            "listener \"second\" { bind = \"127.0.0.1:0\" }\n");
    ck_assert_uint_eq(c.log_max_size, 4294967297);
    ck_assert_str_eq(c.user, "a\"b\\c\x01\t${HOME} # no comment // nor this");
    ck_assert_str_eq(c.data_dir, "single \"quoted\"");
    ck_assert_str_eq(c.listener[0].name, "first \"one\"");
    check_round_trip(&c);
    config_free(&c);
}
END_TEST

START_TEST(lists)
{
    struct config c;
    load_good(&c, "tls \"one\" { certificate = \"a\"  key = { b }  alpn = {} }\n"
                  "tls \"two\" { certificate = {\"a b\", 'c',\n d}  key = {x, y}  key += z\n"
                  "  ocsp = {\"\", \"o\"}  alpn = {\"http/1.1\", mqtt} }\n"
                  "tls \"three\" { certificate = {\"a\"} key = k ocsp = \"\" alpn = \"\" }\n"
                  "listener \"l\" { tls = \"two\"  max_handshakes = 7  handshake_timeout = 100ms }\n"
                  "tickets { rotation = 7m  keys = \"t\" }\n");
    ck_assert_uint_eq(c.tls_sections, 3);
    ck_assert_str_eq(c.tls[0].certificate, "a");
    ck_assert_str_eq(c.tls[0].key, "b");
    ck_assert_str_eq(c.tls[0].alpn, "");
    ck_assert_str_eq(c.tls[1].certificate, "a b\nc\nd");
    ck_assert_str_eq(c.tls[1].key, "x\ny\nz");
    ck_assert_str_eq(c.tls[1].ocsp, "\no");
    ck_assert_str_eq(c.tls[1].alpn, "http/1.1\nmqtt");
    ck_assert_str_eq(c.tls[2].certificate, "a");
    ck_assert_str_eq(c.tls[2].ocsp, "");
    ck_assert_str_eq(c.tls[2].alpn, "");
    ck_assert_uint_eq(config_find_tls(&c, "three"), 2);
    ck_assert_uint_eq(config_find_tls(&c, "four"), CONFIG_NO_TLS);
    ck_assert_uint_eq(c.listener[0].max_handshakes, 7);
    ck_assert_uint_eq(c.listener[0].handshake_timeout_ms, 100);
    ck_assert_uint_eq(c.ticket_rotation_ms, 7 * 60000);
    check_round_trip(&c);
    config_free(&c);
}
END_TEST

START_TEST(defaults_of_a_tls_section)
{
    struct config c;
    load_good(&c, LISTENER TLS " }\n");
    const struct config_tls *t = &c.tls[0];
    ck_assert_str_eq(t->name, "main");
    ck_assert_int_eq(t->min_version, TLS_MIN_12);
    ck_assert_int_eq(strncmp(t->ciphers, "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:", 58),
                     0);
    ck_assert_int_eq(strncmp(t->ciphersuites, "TLS_AES_128_GCM_SHA256:", 23), 0);
    ck_assert_str_eq(t->groups, "X25519:prime256v1:secp384r1");
    ck_assert_str_eq(t->alpn, "mqtt");
    ck_assert_int_eq(t->client_certificate, CLIENT_CERT_OFF);
    ck_assert_int_eq(t->identity, TLS_IDENTITY_CN);
    ck_assert(t->session_tickets && t->parking && !t->debug_keylog);
    ck_assert_str_eq(t->ocsp, "");
    ck_assert_str_eq(t->ca, "");
    ck_assert_str_eq(t->crl, "");
    config_free(&c);
}
END_TEST

START_TEST(list_values)
{
    size_t len = 99;
    ck_assert_uint_eq(config_list_count(""), 0);
    ck_assert_uint_eq(config_list_count("a"), 1);
    ck_assert_uint_eq(config_list_count("\n"), 2);
    ck_assert_uint_eq(config_list_count("\na\n"), 3);
    ck_assert_ptr_null(config_list_at("", 0, &len));
    ck_assert_ptr_null(config_list_at("a", 1, &len));
    ck_assert_int_eq(*config_list_at("a\nbc\nd", 1, &len), 'b');
    ck_assert_uint_eq(len, 2);
    ck_assert_int_eq(*config_list_at("a\nbc\nd", 2, &len), 'd');
    ck_assert_uint_eq(len, 1);
    ck_assert_ptr_nonnull(config_list_at("a\n", 1, &len));
    ck_assert_uint_eq(len, 0);
}
END_TEST

START_TEST(lists_have_an_end)
{
    char text[2048] = LISTENER TLS "\n alpn = {\"p0\"";
    for (int i = 1; i < OPTION_MAX_VALUES + 1; i++)
        sprintf(text + strlen(text), ", p%d", i);
    strcat(text, "} }\n");
    struct config c;
    ck_assert_str_eq(problems_of(&c, text), "F:3: tls.alpn: \"p32\" is wrong, expected at most 32 values\n");
}
END_TEST

START_TEST(too_many_tls_sections)
{
    char text[4096] = LISTENER;
    for (int i = 0; i < CONFIG_MAX_TLS + 1; i++)
        sprintf(text + strlen(text), "tls \"t%d\" { certificate = a\n key = b }\n", i);
    struct config c;
    const char *problems = problems_of(&c, text);
    ck_assert_int_eq(strncmp(problems, "F:34: tls \"t16\": one too many, expected at most 16\n", 51), 0);
}
END_TEST

/* The sample's example, without the marks that make it a comment, is a section that is right. */
START_TEST(the_sample_shows_a_tls_section)
{
    char *sample = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&sample, &size);
    options_print_sample(f);
    fclose(f);
    char *at = strstr(sample, "\n#tls \"main\" {\n");
    ck_assert_ptr_nonnull(at);
    for (; at && at[1] == '#'; at = strchr(at + 1, '\n'))
        at[1] = ' ';
    struct config c;
    load_good(&c, sample);
    ck_assert_uint_eq(c.tls_sections, 1);
    ck_assert_str_eq(c.tls[0].certificate, "server.crt");
    ck_assert_str_eq(c.tls[0].key, "server.key");
    ck_assert_str_eq(c.tls[0].alpn, "mqtt");
    free(sample);
    config_free(&c);
}
END_TEST

/* What a reload would take over, and what it would have to leave. */
START_TEST(changes)
{
    static const char *const before = "workers = 2\nlistener \"a\" { bind = \"127.0.0.1:1\" }\n"
                                      "listener \"b\" { bind = \"127.0.0.1:2\" tls = \"main\" }\n" TLS " }\n";
    struct config a, b;
    char names[256];
    load_good(&a, before);
    load_good(&b, before);
    ck_assert_uint_eq(config_restart_needed(&a, &b, names, sizeof names), 0);
    ck_assert_str_eq(names, "");
    config_free(&b);
    load_good(&b,
              "workers = 3\nmqtt { output_limit = 1M }\ntickets { keys = t  rotation = 1h }\n"
              "listener \"c\" { bind = \"127.0.0.1:3\" }\n"
              "listener \"b\" { bind = \"127.0.0.1:2\" tls = \"other\" }\n"
              "tls \"other\" { certificate = x key = y }\ntls \"main\" { certificate = C key = K ca = A }\n");
    ck_assert_uint_eq(config_restart_needed(&a, &b, names, sizeof names), 6);
    ck_assert_str_eq(names,
                     "workers, mqtt.output_limit, tickets.rotation, listener \"a\", listener \"b\" tls, "
                     "listener \"c\"");
    ck_assert_uint_eq(config_restart_needed(&a, &b, names, 30), 6);
    ck_assert_str_eq(names, "workers, mqtt.output_limit");
    config_swap_reloadable(&a, &b);
    ck_assert_uint_eq(a.tls_sections, 2);
    ck_assert_str_eq(a.tls[1].certificate, "C");
    ck_assert_str_eq(a.ticket_keys, "t");
    ck_assert_uint_eq(a.ticket_rotation_ms, 8 * 3600 * 1000);
    ck_assert_uint_eq(a.workers, 2);
    ck_assert_str_eq(a.listener[1].tls, "main");
    ck_assert_uint_eq(b.tls_sections, 1);
    ck_assert_str_eq(b.tls[0].certificate, "c");
    ck_assert_str_eq(b.ticket_keys, "");
    config_free(&a);
    config_free(&b);
}
END_TEST

START_TEST(the_sample_is_the_defaults)
{
    char *sample = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&sample, &size);
    options_print_sample(f);
    fclose(f);
    struct config a, b;
    load_good(&a, sample);
    config_defaults(&b);
    char *x = printed(&a), *y = printed(&b);
    ck_assert_str_eq(x, y);
    free(x);
    free(y);
    free(sample);
    config_free(&a);
    config_free(&b);
}
END_TEST

static const struct {
    const char *text;
    bool good, loopback;
} addresses[] = {
    {"127.0.0.1:1883", true, true},
    {"127.255.0.9:0", true, true},
    {"0.0.0.0:65535", true, false},
    {"10.0.0.1:80", true, false},
    {"[::1]:1883", true, true},
    {"[::]:1883", true, false},
    {"[2001:db8::1]:1", true, false},
    {"[::ffff:127.0.0.1]:1", true, true},
    {"", false, false},
    {":", false, false},
    {":1883", false, false},
    {"1883", false, false},
    {"127.0.0.1", false, false},
    {"127.0.0.1:", false, false},
    {"127.0.0.1:65536", false, false},
    {"127.0.0.1:-1", false, false},
    {"127.0.0.1:1x", false, false},
    {"127.0.0.1: 1", false, false},
    {"127.0.0.1:000001", false, false},
    {"127.1:1", false, false},
    {"127.0.0.1.1:1", false, false},
    {"localhost:1", false, false},
    {"::1:1883", false, false},
    {"[::1]", false, false},
    {"[::1]1883", false, false},
    {"[::1:1883", false, false},
    {"[]:1", false, false},
    {"[127.0.0.1]:1", false, false},
    {"127.0.0.1]:1", false, false},
    {"[fe80::1%lo]:1", false, false},
    {"[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0001]:1", false, false},
};

START_TEST(address)
{
    struct sockaddr_storage addr;
    unsigned len = config_parse_address(addresses[_i].text, &addr);
    ck_assert_msg((len != 0) == addresses[_i].good, "%s", addresses[_i].text);
    ck_assert_msg(config_is_loopback(addresses[_i].text) == addresses[_i].loopback, "%s", addresses[_i].text);
}
END_TEST

START_TEST(address_bytes)
{
    struct sockaddr_storage addr;
    ck_assert_uint_eq(config_parse_address("10.1.2.3:1883", &addr), sizeof(struct sockaddr_in));
    struct sockaddr_in *v4 = (struct sockaddr_in *)&addr;
    ck_assert_int_eq(v4->sin_family, AF_INET);
    ck_assert_uint_eq(ntohl(v4->sin_addr.s_addr), 0x0A010203);
    ck_assert_uint_eq(ntohs(v4->sin_port), 1883);
    ck_assert_uint_eq(config_parse_address("[::1]:8883", &addr), sizeof(struct sockaddr_in6));
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&addr;
    ck_assert_int_eq(v6->sin6_family, AF_INET6);
    ck_assert_uint_eq(ntohs(v6->sin6_port), 8883);
    ck_assert(IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr));
}
END_TEST

START_TEST(nearest)
{
    ck_assert_uint_eq(nearest_distance("", ""), 0);
    ck_assert_uint_eq(nearest_distance("", "abc"), 3);
    ck_assert_uint_eq(nearest_distance("check", "chekc"), 1);
    ck_assert_uint_eq(nearest_distance("run", "rn"), 1);
    ck_assert_uint_eq(nearest_distance("kitten", "sitting"), 3);
    char long_name[200];
    memset(long_name, 'a', sizeof long_name);
    long_name[sizeof long_name - 1] = '\0';
    ck_assert_uint_eq(nearest_distance(long_name, "a"), 62);
    struct nearest n = {.word = "verison"};
    nearest_try(&n, "run");
    ck_assert_ptr_null(n.best);
    nearest_try(&n, "version");
    nearest_try(&n, "revision");
    ck_assert_str_eq(n.best, "version");
}
END_TEST

START_TEST(utf8)
{
    ck_assert_uint_eq(utf8_char_len((const unsigned char *)"a", 1), 1);
    ck_assert_uint_eq(utf8_char_len((const unsigned char *)"\xc3\xbc", 2), 2);
    ck_assert_uint_eq(utf8_char_len((const unsigned char *)"\xc3\xbc", 1), 0);
    ck_assert_uint_eq(utf8_char_len((const unsigned char *)"\xef\xbf\xbf", 3), 3);
    ck_assert_uint_eq(utf8_char_len((const unsigned char *)"\xf4\x8f\xbf\xbf", 4), 4);
    ck_assert_uint_eq(utf8_char_len((const unsigned char *)"\xf4\x90\x80\x80", 4), 0);
    ck_assert_uint_eq(utf8_char_len((const unsigned char *)"\xed\x9f\xbf", 3), 3);
    ck_assert_uint_eq(utf8_char_len((const unsigned char *)"\xed\xa0\x80", 3), 0);
    ck_assert_uint_eq(utf8_char_len((const unsigned char *)"\xe0\x9f\xbf", 3), 0);
    ck_assert_uint_eq(utf8_char_len((const unsigned char *)"\xff", 1), 0);
}
END_TEST

/* Files made by damaging a good one: whatever comes, it is loaded or refused, and nothing is left behind. */
START_TEST(damaged_files)
{
    struct config c;
    load_good(&c, LISTENER TLS " ocsp = {\"\"} key += l certificate += d alpn = {a, b, c} }\n");
    char *good = printed(&c);
    config_free(&c);
    size_t len = strlen(good);
    static const char bad[] = "{}\"'=#/*|$\\\n +,()";
    uint32_t r = 12345;
    for (int i = 0; i < 400; i++) {
        char *text = strdup(good);
        for (int k = 0; k < 3; k++) {
            r = r * 1664525 + 1013904223;
            text[(r >> 8) % len] = bad[(r >> 3) % (sizeof bad - 1)];
        }
        if (*problems_of(&c, text) == '\0')
            config_free(&c);
        free(text);
    }
    free(good);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, defaults);
    tcase_add_test(tc, no_file_is_the_defaults);
    tcase_add_test(tc, every_row_is_sound);
    tcase_add_test(tc, values);
    tcase_add_test(tc, every_limit_of_every_number);
    tcase_add_loop_test(tc, wrong_files, 0, sizeof wrong / sizeof wrong[0]);
    tcase_add_test(tc, too_many_listeners);
    tcase_add_test(tc, very_many_problems_are_bounded);
    tcase_add_test(tc, files_that_cannot_be_read);
    tcase_add_test(tc, no_half_loaded_file_leaks_into_the_next);
    tcase_add_test(tc, round_trip_of_the_defaults);
    tcase_add_test(tc, round_trip_of_odd_values);
    tcase_add_test(tc, lists);
    tcase_add_test(tc, defaults_of_a_tls_section);
    tcase_add_test(tc, list_values);
    tcase_add_test(tc, lists_have_an_end);
    tcase_add_test(tc, too_many_tls_sections);
    tcase_add_test(tc, the_sample_is_the_defaults);
    tcase_add_test(tc, the_sample_shows_a_tls_section);
    tcase_add_test(tc, changes);
    tcase_add_loop_test(tc, address, 0, sizeof addresses / sizeof addresses[0]);
    tcase_add_test(tc, address_bytes);
    tcase_add_test(tc, nearest);
    tcase_add_test(tc, utf8);
    tcase_add_test(tc, damaged_files);
}

UNIT_MAIN("options")
