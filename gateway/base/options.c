/*
 * The table of options. config.c reads files by it, option_value.c turns one row's text into a value and
 * back, options_text.c makes the sample configuration and the manual page of it. A new option is a new row
 * here and a member in config.h; everything else follows.
 *
 * The table does not know where a value came from, and says nothing about combinations of options: those
 * are checked in config.c.
 */
#include "gateway/base/options.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/utf8.h"

#define KIB       1024u
#define MIB       (1024u * KIB)
#define GIB       (1024ull * MIB)
#define MINUTE_MS (60u * 1000u)
#define HOUR_MS   (60u * MINUTE_MS)
#define CENTURY_S (36500u * 24u * 3600u)

static const char *check_name(const char *text) { return *text ? NULL : "a name"; }

/* MQTT 5.0 section 4.11 leaves the format open; what can stand in a name, an address, a port, or between
 * them. */
static const char *check_server_reference(const char *text)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++)
        if (text[i] < ' ' || text[i] > '~')
            return "names or addresses separated by spaces";
    return len <= 1024 ? NULL : "at most 1024 characters";
}

static const char *check_address(const char *text)
{
    struct sockaddr_storage addr;
    return config_parse_address(text, &addr)
               ? NULL
               : "a numeric address and port such as 127.0.0.1:1883 or [::1]:1883";
}

/* MQTT 5.0 section 4.7.3: UTF-8 without wildcards and control characters, at most 65,535 bytes. */
static const char *check_topic(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t len = strlen(text);
    for (size_t i = 0, n; i < len; i += n) {
        n = utf8_char_len(s + i, len - i);
        if (n == 0 || s[i] < 0x20 || s[i] == 0x7F || s[i] == '+' || s[i] == '#')
            return "a topic in UTF-8 without +, # and control characters";
    }
    return len <= 1024 ? NULL : "a topic of at most 1024 bytes";
}

static const char *check_file(const char *text) { return *text ? NULL : "the name of a file"; }

static const char *check_openssl_list(const char *text)
{
    return *text ? NULL : "names as OpenSSL writes them, joined by colons";
}

/* RFC 7301 section 3.1: opaque, 1 to 255 bytes. */
static const char *check_alpn(const char *text)
{
    size_t len = strlen(text);
    return len >= 1 && len <= 255 ? NULL : "protocol names of 1 to 255 bytes";
}

static const char *check_token_file(const char *text)
{
    return *text == '\0' || access(text, R_OK) == 0 ? NULL : "a file that can be read, or \"\"";
}

/* Where the items of a section with a title lie in struct config. */
#define ITEMS(array, number, limit)                                                                          \
    .max = (limit), .items = offsetof(struct config, array), .size = sizeof((struct config *)0)->array[0],   \
    .count = offsetof(struct config, number)

static const struct option_section sections[] = {
    {.name = "", .help = "Processes and log."},
    {.name = "mqtt", .help = "What MQTT clients may do and what they may cost."},
    {.name = "log",
     .help = "What is kept in data_dir: messages with QoS 1 and 2, sessions that outlive their connection, "
             "retained messages."},
    {.name = "fanout", .help = "How messages are taken to their subscribers."},
    {.name = "ipc", .help = "Messages between the hub and the workers."},
    {.name = "api", .help = "The HTTP API of the hub."},
    {.name = "tickets",
     .help = "TLS session tickets: what a client comes back with to be spared a full handshake. All workers "
             "open each other's."},
    {.name = "tls",
     .help = "Certificates and rules of listeners that name this section. It may be repeated; each has a "
             "name of its own. The defaults are Mozilla's intermediate profile. Files are read by the "
             "supervisor alone, at the start and at each reload; relative names count from where the gateway "
             "is started.",
     ITEMS(tls, tls_sections, CONFIG_MAX_TLS),
     .title = "main",
     .absent = true},
    {.name = "listener",
     .help = "An address where clients connect. The section may be repeated; each has a name of its own. "
             "Values of 0 for a socket leave what the kernel does by default.",
     ITEMS(listener, listeners, CONFIG_MAX_LISTENERS),
     .title = "clients"},
    {.name = NULL},
};

#define IN(member)          offsetof(struct config, member)
#define IN_TLS(member)      offsetof(struct config_tls, member)
#define IN_LISTENER(member) offsetof(struct config_listener, member)

/* clang-format off */
static const struct option_row table[] = {
    {.section = "", .name = "workers", .type = OPTION_UINT, .default_text = "0", .min = 0, .max = 1024,
     .unit = "processes", .offset = IN(workers),
     .help = "Worker processes; each holds a share of the connections and uses one core. 0 means one per "
             "core, or more when max_connections needs more descriptors than those may open. A worker costs "
             "about 0.3 MB of memory before its first connection."},
    {.section = "", .name = "max_connections", .type = OPTION_UINT, .default_text = "0", .min = 0,
     .max = 100000000, .unit = "connections", .offset = IN(max_connections),
     .help = "Client connections of all workers together; more are closed at once and counted as refused. 0 "
             "means as many as the descriptor limit (RLIMIT_NOFILE) of the workers allows."},
    {.section = "", .name = "user", .type = OPTION_STRING, .default_text = "nobody", .offset = IN(user),
     .help = "Account of the hub and the workers when the gateway is started as root; the supervisor alone "
             "stays root. An empty string keeps root for all of them. Without effect when not started as "
             "root."},
    {.section = "", .name = "data_dir", .type = OPTION_STRING, .default_text = "holdfast-data",
     .offset = IN(data_dir), .check = check_name,
     .help = "Directory for what outlives the process. A relative path counts from where the gateway is "
             "started."},
    {.section = "", .name = "engine", .type = OPTION_STRING, .default_text = "local", .choices = "local",
     .offset = IN(engine),
     .help = "What keeps messages and sessions. local is a file in data_dir, for one machine."},
    {.section = "", .name = "shutdown_timeout", .type = OPTION_DURATION, .default_text = "10s", .min = 0,
     .max = 10 * MINUTE_MS, .unit = "ms", .offset = IN(shutdown_timeout_ms),
     .help = "How long a clean stop may take: clients are told and what waits for them is sent; what "
             "remains then is cut off."},
    {.section = "", .name = "log_level", .type = OPTION_STRING, .default_text = "info",
     .choices = "error|warning|notice|info|debug", .offset = IN(log_level),
     .help = "The least important lines that are still written. With info there is at most one line per "
             "connection event, and never more than 50 per second of one kind."},
    {.section = "", .name = "log_format", .type = OPTION_STRING, .default_text = "text",
     .choices = "text|json", .offset = IN(log_format),
     .help = "Form of the lines on standard error: words and key=value for people, or one JSON object per "
             "line."},

    {.section = "mqtt", .name = "connect_timeout", .type = OPTION_DURATION, .default_text = "10s",
     .min = 100, .max = 5 * MINUTE_MS, .unit = "ms", .offset = IN(connect_timeout_ms),
     .help = "A connection that has not sent its whole CONNECT by then is closed. Each one that waits costs "
             "a descriptor and, once it has sent something, a buffer of up to max_connect_size."},
    {.section = "mqtt", .name = "packet_timeout", .type = OPTION_DURATION, .default_text = "60s",
     .min = 1000, .max = 60 * MINUTE_MS, .unit = "ms", .offset = IN(packet_timeout_ms),
     .help = "How long one packet may stay incomplete. A client that sends its bytes too slowly holds a buffer "
             "of up to max_packet_size until then, and is closed."},
    {.section = "mqtt", .name = "max_keepalive", .type = OPTION_DURATION, .default_text = "0", .min = 0,
     .max = 65535, .unit = "s", .offset = IN(max_keepalive_s),
     .help = "The longest keepalive. A longer one, or none, is lowered to this: MQTT 5 clients are told "
             "with Server Keep Alive, MQTT 3.1.1 clients are not and are closed after 1.5 times this "
             "silence. 0 means no cap, and clients may go without a keepalive; a vanished one then stays "
             "until a push to it fails."},
    {.section = "mqtt", .name = "max_packet_size", .type = OPTION_SIZE, .default_text = "1M", .min = 128,
     .max = 16 * MIB, .unit = "bytes", .offset = IN(max_packet_size),
     .help = "The largest packet taken from a client, header included; a larger one ends the connection. A "
             "client in the middle of sending a packet holds a buffer of up to this size."},
    {.section = "mqtt", .name = "max_connect_size", .type = OPTION_SIZE, .default_text = "64K", .min = 128,
     .max = 16 * MIB, .unit = "bytes", .offset = IN(max_connect_size),
     .help = "The largest CONNECT packet. It is what a stranger can make the gateway hold before it is "
             "known who it is."},
    {.section = "mqtt", .name = "max_client_id", .type = OPTION_UINT, .default_text = "256", .min = 23,
     .max = 65535, .unit = "bytes", .offset = IN(max_client_id),
     .help = "The longest client id. Its bytes are held in the worker and in the hub while the client is "
             "connected."},
    {.section = "mqtt", .name = "max_topic_levels", .type = OPTION_UINT, .default_text = "32", .min = 1,
     .max = 128, .unit = "levels", .offset = IN(max_topic_levels),
     .help = "The most levels (parts between slashes) of a topic or topic filter. It bounds the work of "
             "matching one message against wildcards."},
    {.section = "mqtt", .name = "max_subscriptions", .type = OPTION_UINT, .default_text = "1000", .min = 1,
     .max = 1000000, .unit = "subscriptions", .offset = IN(max_subscriptions),
     .help = "The most subscriptions of one session. Each costs 20 bytes in the worker, and some 45 more "
             "if nobody else has subscribed to the same filter."},
    {.section = "mqtt", .name = "input_limit", .type = OPTION_SIZE, .default_text = "256M", .min = MIB,
     .max = 2048ull * MIB, .unit = "bytes", .offset = IN(input_limit),
     .help = "What the incomplete packets of all clients of a worker may take together. Beyond it the client whose "
             "bytes came last is closed with reason no_memory; the others go on."},
    {.section = "mqtt", .name = "output_limit", .type = OPTION_SIZE, .default_text = "256K", .min = KIB,
     .max = 256 * MIB, .unit = "bytes", .offset = IN(output_limit),
     .help = "What may wait for a client whose socket is full, beyond the message being sent; output_policy "
             "says what happens then. A message that waits for several clients is held once, but each of "
             "them costs some 1.5 KB of buffer."},
    {.section = "mqtt", .name = "output_policy", .type = OPTION_ENUM, .default_text = "drop-oldest",
     .choices = "drop-oldest|disconnect", .offset = IN(output_policy),
     .help = "What happens to a client that would exceed output_limit: drop-oldest discards the messages "
             "that have waited longest and counts them, disconnect closes it with reason slow_consumer."},
    {.section = "mqtt", .name = "max_inflight", .type = OPTION_UINT, .default_text = "64", .min = 1,
     .max = 1000, .unit = "messages", .offset = IN(max_inflight),
     .help = "The most messages with QoS 1 and 2 that are sent to one client and not acknowledged yet; the client's "
             "Receive Maximum may lower it. More make a client on a long path faster; each costs some 16 bytes "
             "while it is on its way."},
    {.section = "mqtt", .name = "receive_maximum", .type = OPTION_UINT, .default_text = "64", .min = 1,
     .max = 1000, .unit = "messages", .offset = IN(receive_maximum),
     .help = "The most publishes with QoS 1 and 2 of one client that are not answered yet; no more is read of a client "
             "until half of them are. MQTT 5 clients are told, and closed when they exceed it with QoS 2."},
    {.section = "mqtt", .name = "implicit_qos", .type = OPTION_UINT, .default_text = "1", .min = 0, .max = 2,
     .unit = "QoS", .offset = IN(implicit_qos),
     .help = "The most with which the topics that clients hear without subscribing are delivered; messages published "
             "with less keep theirs. With 0 a client that was away does not get them later."},
    {.section = "mqtt", .name = "max_session_expiry", .type = OPTION_DURATION, .default_text = "720h", .min = 0,
     .max = CENTURY_S, .zero = UINT32_MAX, .unit = "s", .offset = IN(max_session_expiry_s),
     .help = "The longest that a session outlives its connection; MQTT 5 clients that ask for more are told. Each that "
             "is stored costs some 100 bytes of disk and nothing in memory. 0 means no cap."},
    {.section = "mqtt", .name = "session_expiry", .type = OPTION_DURATION, .default_text = "720h", .min = 1,
     .max = CENTURY_S, .unit = "s", .offset = IN(session_expiry_s),
     .help = "How long the session of an MQTT 3.1.1 client with clean session 0 outlives its connection; such a client "
             "cannot say."},
    {.section = "mqtt", .name = "max_topic_alias", .type = OPTION_UINT, .default_text = "16", .min = 0,
     .max = 1000, .unit = "aliases", .offset = IN(max_topic_alias),
     .help = "Topic aliases that an MQTT 5 client may set, and that it is sent if it takes any. One that uses them "
             "costs the memory of their topics. 0 means none."},
    {.section = "mqtt", .name = "retain", .type = OPTION_BOOL, .default_text = "true", .offset = IN(retain),
     .help = "Whether retained messages are taken and given. With false MQTT 5 clients are told, and one that publishes "
             "such a message is closed."},
    {.section = "mqtt", .name = "sys_interval", .type = OPTION_DURATION, .default_text = "10s", .min = 0,
     .max = 3600, .unit = "s", .offset = IN(sys_interval_s),
     .help = "How often figures about the gateway are published to the topics below $SYS/broker/, under the names that "
             "monitoring tools for mosquitto read. 0 means never."},
    {.section = "mqtt", .name = "redirect", .type = OPTION_ENUM, .default_text = "never",
     .choices = "never|shutdown|use_another|moved", .offset = IN(redirect),
     .help = "When MQTT 5 clients are sent to the server of server_reference. shutdown: those that are connected when the "
             "gateway stops, for a time (reason code 0x9C, use another server). use_another: these, and every client that "
             "connects from now on is refused with that code. moved: both with 0x9D (server moved), for good. MQTT 3.1.1 has "
             "no words for it: such a client is refused as by a server that is unavailable (return code 3)."},
    {.section = "mqtt", .name = "server_reference", .type = OPTION_STRING, .default_text = "",
     .offset = IN(server_reference), .check = check_server_reference,
     .help = "Where redirect sends clients: names or addresses, with a port where it is another, separated by spaces "
             "(MQTT 5.0 section 4.11). Empty: they are to know by themselves."},
    {.section = "mqtt", .name = "clients_prefix", .type = OPTION_STRING, .default_text = "clients/",
     .offset = IN(clients_prefix), .check = check_topic,
     .help = "Every client hears the topic made of this prefix and its client id without subscribing; that "
             "costs no memory. An empty string switches it off."},
    {.section = "mqtt", .name = "broadcast_topic", .type = OPTION_STRING, .default_text = "broadcast",
     .offset = IN(broadcast_topic), .check = check_topic,
     .help = "Every client hears this topic without subscribing; that costs no memory. An empty string "
             "switches it off."},

    {.section = "log", .name = "sync", .type = OPTION_ENUM, .default_text = "always",
     .choices = "always|interval|never", .offset = IN(log_sync),
     .help = "When a publish with QoS 1 or 2 is acknowledged. always: when it is on disk (fsync), so that neither a "
             "crash nor a power loss costs anything that was acknowledged; publishers share each fsync. interval: at "
             "once, and on disk after sync_interval at the latest; a crash of the hub or a power loss costs what was "
             "acknowledged in that time. never: when it is written, without an fsync; a crash costs nothing, a power loss "
             "perhaps everything that is kept."},
    {.section = "log", .name = "sync_interval", .type = OPTION_DURATION, .default_text = "1s", .min = 10,
     .max = 60 * MINUTE_MS, .unit = "ms", .offset = IN(log_sync_interval_ms),
     .help = "With sync = interval, how much time of acknowledged messages may be lost. Without effect otherwise."},
    {.section = "log", .name = "max_age", .type = OPTION_DURATION, .default_text = "168h", .min = 0,
     .max = CENTURY_S, .unit = "s", .offset = IN(log_max_age_s),
     .help = "Messages older than that are removed, read or not. 0 means no limit: then the oldest go when max_size is "
             "reached."},
    {.section = "log", .name = "max_size", .type = OPTION_SIZE64, .default_text = "4G", .min = 0,
     .max = 16 * 1024 * GIB, .unit = "bytes", .offset = IN(log_max_size),
     .help = "The oldest messages beyond that are removed, read or not. It counts the bytes of messages, not those of "
             "sessions and retained messages. 0 means no limit: then messages are refused when the disk or max_file is "
             "full."},
    {.section = "log", .name = "max_file", .type = OPTION_SIZE64, .default_text = "128G", .min = 16 * MIB,
     .max = 16 * 1024 * GIB, .unit = "bytes", .offset = IN(log_max_file),
     .help = "The most that the data file may take; messages beyond it are refused. It is address space in the hub and "
             "in each worker from the start, and disk space only as it is used. What is removed makes room in it for what comes; it gets "
             "smaller only by `holdfast compact`."},
    {.section = "log", .name = "reserve", .type = OPTION_SIZE, .default_text = "16M", .min = MIB,
     .max = GIB, .unit = "bytes", .offset = IN(log_reserve),
     .help = "Disk space that the data file holds ahead, so that on a full disk messages are refused while sessions, "
             "acknowledgements and removing go on."},
    {.section = "log", .name = "cursor_interval", .type = OPTION_DURATION, .default_text = "30s", .min = 100,
     .max = 10 * MINUTE_MS, .unit = "ms", .offset = IN(log_cursor_interval_ms),
     .help = "How often it is written how far a connected client has come. After a crash of its worker it gets again "
             "what it acknowledged in this time (QoS 1; QoS 2 is exact). Shorter costs more writing, and memory of the hub "
             "for what is written at once."},

    {.section = "fanout", .name = "slice", .type = OPTION_UINT, .default_text = "256", .min = 1,
     .max = 100000, .unit = "deliveries", .offset = IN(fanout_slice),
     .help = "Deliveries a worker makes before it looks after heartbeats and new connections again. More "
             "are a little cheaper per delivery; others wait longer meanwhile, some 10 microseconds per "
             "delivery."},
    {.section = "fanout", .name = "queue_limit", .type = OPTION_SIZE, .default_text = "64M", .min = MIB,
     .max = 2048ull * MIB, .unit = "bytes", .offset = IN(fanout_queue_limit),
     .help = "Messages that may wait in each worker for their fan-out. Beyond it new messages are dropped "
             "there and counted."},

    {.section = "ipc", .name = "queue_limit", .type = OPTION_SIZE, .default_text = "64M", .min = MIB,
     .max = 2048ull * MIB, .unit = "bytes", .offset = IN(ipc_queue_limit),
     .help = "What may wait between the hub and one worker, in each direction. Beyond it publishes are "
             "refused (HTTP) or dropped and counted (MQTT QoS 0)."},

    {.section = "api", .name = "bind", .type = OPTION_STRING, .default_text = "127.0.0.1:8080",
     .offset = IN(api_bind), .check = check_address,
     .help = "Address of the HTTP API, of /metrics and of the health checks. Any other than a loopback "
             "address needs token_file."},
    {.section = "api", .name = "token_file", .type = OPTION_STRING, .default_text = "",
     .offset = IN(api_token_file), .check = check_token_file,
     .help = "File with one bearer token per line; a request must carry one of them. Empty: everybody who "
             "reaches the address may publish, so it must be a loopback one."},
    {.section = "api", .name = "max_body", .type = OPTION_SIZE, .default_text = "4M", .min = KIB,
     .max = 256 * MIB, .unit = "bytes", .offset = IN(api_max_body),
     .help = "The largest request body. A request in work holds its body, what it was parsed to, and what is sent to the workers."},

    {.section = "tickets", .name = "rotation", .type = OPTION_DURATION, .default_text = "8h",
     .min = MINUTE_MS, .max = 7 * 24 * HOUR_MS, .unit = "ms", .offset = IN(ticket_rotation_ms),
     .help = "How long one key encrypts new tickets; it opens them for as long again, so a ticket is good for once to "
             "twice this time. The keys are made here, follow from each other one way only, and are forgotten when "
             "they have served. Without effect on keys of a file."},
    {.section = "tickets", .name = "keys", .type = OPTION_STRING, .default_text = "", .reloadable = true,
     .offset = IN(ticket_keys),
     .help = "File of 1 to 8 ticket keys of 80 bytes, as other servers use them too (openssl rand 80), shared by several "
             "machines under one name. The first encrypts, all open. Put a new one in front and reload to rotate. Empty: "
             "keys are made here, and die with the gateway."},

    {.section = "tls", .name = "certificate", .type = OPTION_LIST, .default_text = "", .sample = "server.crt",
     .reloadable = true, .offset = IN_TLS(certificate), .check = check_file,
     .help = "PEM file with a certificate and those that lead to its CA, in this order. Several files, such as an ECDSA "
             "and an RSA one, or one per name: the client's SNI and algorithms choose, the first is for clients that "
             "choose none."},
    {.section = "tls", .name = "key", .type = OPTION_LIST, .default_text = "", .sample = "server.key",
     .reloadable = true, .offset = IN_TLS(key), .check = check_file,
     .help = "PEM file with the private key, without passphrase; of several certificates one each, in the same order. "
             "A signature with RSA 2048 costs about 15 times the CPU of one with ECDSA P-256. Workers never read the file, so "
             "it may be root's alone."},
    {.section = "tls", .name = "ocsp", .type = OPTION_LIST, .default_text = "", .reloadable = true,
     .offset = IN_TLS(ocsp),
     .help = "DER file with an OCSP response to staple; of several certificates one each, in the same order, \"\" for "
             "none. One that is outdated, or about another certificate, is not sent. Whoever fetches a new one makes the gateway reload."},
    {.section = "tls", .name = "min_version", .type = OPTION_ENUM, .default_text = "1.2",
     .choices = "1.2|1.3", .reloadable = true, .offset = IN_TLS(min_version),
     .help = "The lowest version of TLS that is spoken. Both cost the same memory per idle connection; 1.3 needs one "
             "round trip less."},
    {.section = "tls", .name = "ciphers", .type = OPTION_STRING,
     .default_text = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
                     "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305",
     .reloadable = true, .offset = IN_TLS(ciphers), .check = check_openssl_list,
     .help = "Suites of TLS 1.2, as openssl-ciphers(1) writes them, the best one first. Connections whose suite is not ECDHE "
             "with AES-GCM or ChaCha20-Poly1305 work, but keep some 15 KB each."},
    {.section = "tls", .name = "ciphersuites", .type = OPTION_STRING,
     .default_text = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256",
     .reloadable = true, .offset = IN_TLS(ciphersuites), .check = check_openssl_list,
     .help = "Suites of TLS 1.3, the best one first. AES-128-GCM needs the least CPU and the shortest keys."},
    {.section = "tls", .name = "groups", .type = OPTION_STRING, .default_text = "X25519:prime256v1:secp384r1",
     .reloadable = true, .offset = IN_TLS(groups), .check = check_openssl_list,
     .help = "Groups for the key exchange, the best one first. A client that did not offer a share of one of them needs "
             "one more round trip."},
    {.section = "tls", .name = "alpn", .type = OPTION_LIST, .default_text = "mqtt", .reloadable = true,
     .offset = IN_TLS(alpn), .check = check_alpn,
     .help = "Application protocols (ALPN), the preferred one first. A client that offers some and none of these is "
             "refused, one that offers none is served. Empty: ALPN is ignored."},
    {.section = "tls", .name = "client_certificate", .type = OPTION_ENUM, .default_text = "off",
     .choices = "off|optional|required", .reloadable = true, .offset = IN_TLS(client_certificate),
     .help = "Whether clients are asked for a certificate. With optional one without is served and one with a bad "
             "certificate is not. Checking one with ECDSA P-256 costs about as much CPU as three signatures of ours."},
    {.section = "tls", .name = "ca", .type = OPTION_STRING, .default_text = "", .reloadable = true,
     .offset = IN_TLS(ca),
     .help = "PEM file with the CAs that sign client certificates, or a folder: every file in it that ends in .pem, .crt "
             "or .0."},
    {.section = "tls", .name = "crl", .type = OPTION_STRING, .default_text = "", .reloadable = true,
     .offset = IN_TLS(crl),
     .help = "PEM file with lists of revoked client certificates, one of each issuer of them: clients whose issuer has "
             "none, or an outdated one, are refused. A new list takes effect at a reload, for new connections."},
    {.section = "tls", .name = "identity", .type = OPTION_ENUM, .default_text = "cn", .choices = "cn|san",
     .reloadable = true, .offset = IN_TLS(identity),
     .help = "What names the owner of a client certificate: the common name of its subject, or its first alternative "
             "name of type DNS, email or URI."},
    {.section = "tls", .name = "session_tickets", .type = OPTION_BOOL, .default_text = "true",
     .reloadable = true, .offset = IN_TLS(session_tickets),
     .help = "Whether clients get a ticket to resume their session with. A resumed handshake needs no signature and no "
             "certificates, which counts when everybody reconnects at once."},
    {.section = "tls", .name = "parking", .type = OPTION_BOOL, .default_text = "true", .reloadable = true,
     .offset = IN_TLS(parking),
     .help = "Whether an idle connection keeps its keys alone instead of OpenSSL's objects and buffers. With false each "
             "costs some 15 KB instead of 0.3 KB; for comparison, and should the record layer be suspected."},
    {.section = "tls", .name = "debug_keylog", .type = OPTION_BOOL, .default_text = "false",
     .reloadable = true, .offset = IN_TLS(debug_keylog),
     .help = "Writes the secrets of every connection to the file that the environment variable SSLKEYLOGFILE names, so "
             "that whoever has it can read the traffic. For debugging with other tools only; a warning is logged. It "
             "begins at a start; a reload can end it, and begin it again."},

    {.section = "listener", .name = "bind", .type = OPTION_STRING, .default_text = "127.0.0.1:1883",
     .offset = IN_LISTENER(bind), .check = check_address,
     .help = "Numeric address and port, [address]:port for IPv6. Port 0 takes any free port."},
    {.section = "listener", .name = "tls", .type = OPTION_STRING, .default_text = "",
     .offset = IN_LISTENER(tls),
     .help = "Name of the tls section whose certificates and rules hold here. Empty: the listener speaks plaintext."},
    {.section = "listener", .name = "max_handshakes", .type = OPTION_UINT, .default_text = "256", .min = 1,
     .max = 100000, .unit = "handshakes per worker and listener", .offset = IN_LISTENER(max_handshakes),
     .help = "TLS handshakes of the listener that each worker has under way at once; more connections wait in the backlog. Each needs "
             "OpenSSL's objects and buffers while it lasts, some tens of KB."},
    {.section = "listener", .name = "handshake_timeout", .type = OPTION_DURATION, .default_text = "10s",
     .min = 100, .max = 5 * MINUTE_MS, .unit = "ms", .offset = IN_LISTENER(handshake_timeout_ms),
     .help = "A connection whose TLS handshake is not complete by then is closed."},
    {.section = "listener", .name = "backlog", .type = OPTION_UINT, .default_text = "4096", .min = 1,
     .max = 65535, .unit = "connections", .offset = IN_LISTENER(backlog),
     .help = "Connections per worker that the kernel completes before they are accepted. They cost kernel "
             "memory only; a reconnect storm above it is delayed by retransmissions of a second and more. "
             "The kernel lowers it to net.core.somaxconn."},
    {.section = "listener", .name = "rcvbuf", .type = OPTION_SIZE, .default_text = "0", .min = 0,
     .max = 64 * MIB, .unit = "bytes", .offset = IN_LISTENER(rcvbuf),
     .help = "SO_RCVBUF of each connection. It bounds what a client may have in flight to the gateway; an "
             "idle connection pays nothing for it. 0 lets the kernel adjust it."},
    {.section = "listener", .name = "sndbuf", .type = OPTION_SIZE, .default_text = "0", .min = 0,
     .max = 64 * MIB, .unit = "bytes", .offset = IN_LISTENER(sndbuf),
     .help = "SO_SNDBUF of each connection. It bounds the kernel memory of a client that does not read, as notsent_lowat does, and "
             "also what may be on its way unacknowledged, which slows large messages on long paths. In the measurement of "
             "notsent_lowat 16K took 50 MiB, 64K took 145 MiB. 0 lets the kernel adjust it, up to net.ipv4.tcp_wmem."},
    {.section = "listener", .name = "nodelay", .type = OPTION_BOOL, .default_text = "true",
     .offset = IN_LISTENER(nodelay),
     .help = "TCP_NODELAY: a push leaves at once. With false it may wait for the acknowledgement of the one "
             "before, up to 40 ms and more, and small pushes in quick succession share packets."},
    {.section = "listener", .name = "notsent_lowat", .type = OPTION_SIZE, .default_text = "16K", .min = 0,
     .max = 64 * MIB, .unit = "bytes", .offset = IN_LISTENER(notsent_lowat),
     .help = "TCP_NOTSENT_LOWAT: a client's socket is full when so much waits unsent in the kernel; what more there is waits "
             "in the gateway, where messages are shared and bounded. Idle clients pay nothing either way. With 1,000 clients "
             "that read nothing, 40 messages of 16 KB took 35 MiB of kernel memory with 16K and 153 MiB with 0, at the same "
             "CPU per delivery. 0 leaves net.ipv4.tcp_notsent_lowat in force."},
    {.section = "listener", .name = "user_timeout", .type = OPTION_DURATION, .default_text = "30s",
     .min = 0, .max = 60 * MINUTE_MS, .unit = "ms", .offset = IN_LISTENER(user_timeout_ms),
     .help = "TCP_USER_TIMEOUT: a connection whose peer has not acknowledged a push for so long is closed. "
             "It finds vanished clients earlier than their keepalive; clients on poor networks need some "
             "tens of seconds. 0 leaves it to the kernel's retransmissions, about 15 minutes."},
    {.name = NULL},
};
/* clang-format on */

const struct option_row *options_table(void) { return table; }

const struct option_section *options_sections(void) { return sections; }

unsigned options_count(void) { return sizeof table / sizeof table[0] - 1; }

const struct option_section *option_section_of(const struct option_row *row)
{
    const struct option_section *s = sections;
    while (strcmp(s->name, row->section) != 0)
        s++;
    return s;
}

void *config_item(const struct config *c, const struct option_section *s, unsigned number)
{
    return (char *)c + (s->max ? s->items + number * s->size : 0);
}

unsigned *config_items(const struct config *c, const struct option_section *s)
{
    return (unsigned *)((char *)c + s->count);
}
