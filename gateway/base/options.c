/*
 * The table of options and what is printed from it: the sample configuration and the manual page. config.c
 * reads files by it, option_value.c turns one row's text into a value and back. A new option is a new row
 * here and a member in config.h; everything else follows.
 *
 * The table does not know where a value came from, and says nothing about combinations of options: those
 * are checked in config.c.
 */
#include "gateway/base/options.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/utf8.h"

#define KIB       1024u
#define MIB       (1024u * KIB)
#define MINUTE_MS (60u * 1000u)

static const char *check_name(const char *text) { return *text ? NULL : "a name"; }

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

static const char *check_token_file(const char *text)
{
    return *text == '\0' || access(text, R_OK) == 0 ? NULL : "a file that can be read, or \"\"";
}

static const struct option_section sections[] = {
    {"", "Processes and log."},
    {"mqtt", "What MQTT clients may do and what they may cost."},
    {"fanout", "How messages are taken to their subscribers."},
    {"ipc", "Messages between the hub and the workers."},
    {"api", "The HTTP API of the hub."},
    {"listener", "An address where clients connect. The section may be repeated; each has a name of its own. "
                 "Values of 0 for a socket leave what the kernel does by default."},
    {NULL, NULL},
};

#define IN(member)          offsetof(struct config, member)
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
    {.section = "", .name = "engine", .type = OPTION_STRING, .default_text = "memory", .choices = "memory",
     .offset = IN(engine),
     .help = "What keeps messages and sessions. With memory nothing outlives the process."},
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
    {.section = "mqtt", .name = "clients_prefix", .type = OPTION_STRING, .default_text = "clients/",
     .offset = IN(clients_prefix), .check = check_topic,
     .help = "Every client hears the topic made of this prefix and its client id without subscribing; that "
             "costs no memory. An empty string switches it off."},
    {.section = "mqtt", .name = "broadcast_topic", .type = OPTION_STRING, .default_text = "broadcast",
     .offset = IN(broadcast_topic), .check = check_topic,
     .help = "Every client hears this topic without subscribing; that costs no memory. An empty string "
             "switches it off."},

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

    {.section = "listener", .name = "bind", .type = OPTION_STRING, .default_text = "127.0.0.1:1883",
     .offset = IN_LISTENER(bind), .check = check_address,
     .help = "Numeric address and port, [address]:port for IPv6. Port 0 takes any free port."},
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

/* Prints text in lines of at most `width` characters, each after a prefix. */
static void print_wrapped(FILE *out, const char *prefix, size_t width, const char *text)
{
    while (*text) {
        size_t len = strlen(text);
        if (len > width) {
            len = width;
            while (len > 0 && text[len] != ' ')
                len--;
            if (len == 0)
                len = strcspn(text, " ");
        }
        fprintf(out, "%s%.*s\n", prefix, (int)len, text);
        text += len;
        while (*text == ' ')
            text++;
    }
}

/* Prints the words of `choices` ("a|b|c") as "a, b or c", each between two marks. */
static void print_choices(FILE *out, const char *choices, const char *open, const char *close)
{
    for (const char *s = choices; *s;) {
        size_t len = strcspn(s, "|");
        const char *next = s + len + (s[len] == '|');
        const char *between = s == choices ? "" : *next ? ", " : " or ";
        fprintf(out, "%s%s%.*s%s", between, open, (int)len, s, close);
        s = next;
    }
}

/* What kind of value it takes, in a word. */
static const char *type_word(const struct option_row *row)
{
    static const char *const word[] = {
        [OPTION_UINT] = "number",  [OPTION_SIZE] = "size",     [OPTION_DURATION] = "duration",
        [OPTION_BOOL] = "boolean", [OPTION_STRING] = "string", [OPTION_ENUM] = "word",
    };
    return row->choices ? "word" : word[row->type];
}

static bool is_number(const struct option_row *row)
{
    return row->type == OPTION_UINT || row->type == OPTION_SIZE || row->type == OPTION_DURATION;
}

/* One line of facts: values allowed, default, when a change takes effect. */
static void print_facts(FILE *out, const struct option_row *row)
{
    if (is_number(row)) {
        char min[32], max[32];
        option_format_number(row, row->min, min, sizeof min);
        option_format_number(row, row->max, max, sizeof max);
        bool has_unit = row->type == OPTION_UINT || row->type == OPTION_SIZE;
        fprintf(out, "From %s to %s%s%s.", min, max, has_unit ? " " : "", has_unit ? row->unit : "");
    } else if (row->type == OPTION_BOOL) {
        fprintf(out, "One of true or false.");
    } else if (row->choices) {
        fprintf(out, strchr(row->choices, '|') ? "One of " : "Only ");
        print_choices(out, row->choices, "", "");
        fprintf(out, ".");
    } else {
        fprintf(out, "A string.");
    }
    const char *quote = row->type == OPTION_STRING && !row->choices ? "\"" : "";
    fprintf(out, " Default: %s%s%s. Changes take effect at %s.", quote, row->default_text, quote,
            row->reloadable ? "reload" : "restart");
}

/* The option with its default, as a line of a file. */
static void print_sample_option(FILE *out, const struct option_row *row, const char *indent)
{
    char prefix[16];
    snprintf(prefix, sizeof prefix, "%s# ", indent);
    print_wrapped(out, prefix, 100, row->help);
    fprintf(out, "%s", prefix);
    print_facts(out, row);
    const char *quote = row->type == OPTION_STRING || row->type == OPTION_ENUM ? "\"" : "";
    fprintf(out, "\n%s%s = %s%s%s\n", indent, row->name, quote, row->default_text, quote);
}

/* One section with all its options. */
static void print_sample_section(FILE *out, const struct option_section *s)
{
    bool top = *s->name == '\0';
    fprintf(out, "\n");
    print_wrapped(out, "## ", 100, s->help);
    if (!top)
        fprintf(out, "%s%s{\n", s->name, strcmp(s->name, "listener") == 0 ? " \"clients\" " : " ");
    bool first = !top;
    for (const struct option_row *row = table; row->name; row++) {
        if (strcmp(row->section, s->name) != 0)
            continue;
        fprintf(out, "%s", first ? "" : "\n");
        print_sample_option(out, row, top ? "" : "    ");
        first = false;
    }
    if (!top)
        fprintf(out, "}\n");
}

void options_print_sample(FILE *out)
{
    fprintf(
        out,
        "# Configuration of the Holdfast push gateway: every option with its default, so that a line may be\n"
        "# changed or left out. See holdfast.conf(5). `holdfast check -c FILE` says whether a file is "
        "right.\n"
        "#\n"
        "# Sizes take the suffixes K, M and G (of 1024), durations need one of ms, s, m and h. Strings are\n"
        "# quoted. A comment begins with #.\n");
    for (const struct option_section *s = sections; s->name; s++)
        print_sample_section(out, s);
}

/* Prints one word; none may be taken for a request or an escape. */
static void print_mdoc_word(FILE *out, const char *word, size_t len, bool line_start)
{
    if (line_start && (*word == '.' || *word == '\''))
        fprintf(out, "\\&");
    for (size_t i = 0; i < len; i++) {
        if (word[i] == '\\')
            fprintf(out, "\\e");
        else
            fputc(word[i], out);
    }
}

/* Prints prose as mdoc: each sentence begins a line, and no line is longer than mandoc likes. */
static void print_mdoc_text(FILE *out, const char *text)
{
    size_t column = 0;
    bool sentence_end = false;
    while (*text) {
        size_t len = strcspn(text, " ");
        if (column > 0 && (sentence_end || column + 1 + len > 78)) {
            fputc('\n', out);
            column = 0;
        } else if (column > 0) {
            fputc(' ', out);
            column++;
        }
        print_mdoc_word(out, text, len, column == 0);
        column += len;
        sentence_end = text[len - 1] == '.';
        text += len + (text[len] == ' ');
    }
    fputc('\n', out);
}

static void print_mdoc_option(FILE *out, const struct option_row *row)
{
    fprintf(out, ".It Ic %s No = Ar %s\n", row->name, type_word(row));
    print_mdoc_text(out, row->help);
    char *facts = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&facts, &size);
    if (!to)
        return;
    print_facts(to, row);
    if (fclose(to) == 0)
        print_mdoc_text(out, facts);
    free(facts);
}

void options_print_mdoc(FILE *out)
{
    for (const struct option_section *s = sections; s->name; s++) {
        if (*s->name == '\0')
            fprintf(out, ".Ss Top level\n");
        else
            fprintf(out, ".Ss Section %s\n", s->name);
        print_mdoc_text(out, s->help);
        fprintf(out, ".Bl -tag -width Ds\n");
        for (const struct option_row *row = table; row->name; row++)
            if (strcmp(row->section, s->name) == 0)
                print_mdoc_option(out, row);
        fprintf(out, ".El\n");
    }
}
