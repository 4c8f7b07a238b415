/*
 * The configuration as the program uses it. base/options reads it from a libconfuse file by one table;
 * nothing else writes it. Strings are owned by the config and never NULL (unset: "").
 */
#ifndef HOLDFAST_BASE_CONFIG_H
#define HOLDFAST_BASE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#define CONFIG_MAX_LISTENERS 16

enum output_policy { OUTPUT_DROP_OLDEST, OUTPUT_DISCONNECT };

/* One `listener "name" { }` section. Socket values: 0 means "leave the kernel's default". */
struct config_listener {
    char *name;
    char *bind; /* "127.0.0.1:1883", "[::]:1883" */
    uint32_t backlog;
    uint32_t rcvbuf, sndbuf; /* bytes, as given to setsockopt */
    bool nodelay;
    uint32_t notsent_lowat;   /* bytes */
    uint32_t user_timeout_ms; /* TCP_USER_TIMEOUT */
};

struct config {
    /* processes */
    uint32_t workers;         /* 0: one per core, or more when max_connections needs the descriptors */
    uint32_t max_connections; /* all workers together; 0: what the descriptor limit allows */
    char *user;               /* account for hub and workers when started as root; "" : stay */
    char *data_dir;
    char *engine; /* "memory" for now */
    uint32_t shutdown_timeout_ms;
    /* log */
    char *log_level;
    char *log_format; /* "text" | "json" */
    /* mqtt { } */
    uint32_t connect_timeout_ms;
    uint32_t packet_timeout_ms; /* how long one packet may stay incomplete */
    uint32_t max_keepalive_s;   /* 0: no cap, keepalive 0 honoured */
    uint32_t max_packet_size;   /* bytes, whole packet */
    uint32_t max_connect_size;  /* bytes, whole CONNECT packet */
    uint32_t max_client_id;     /* bytes */
    uint32_t max_topic_levels;
    uint32_t max_subscriptions; /* per session */
    uint32_t input_limit; /* bytes of incomplete packets that all connections of a worker together may keep */
    uint32_t output_limit; /* bytes waiting per blocked client, beyond the frame being sent */
    enum output_policy output_policy;
    char *clients_prefix;  /* implicit private channel: "clients/" + client id; "" : off */
    char *broadcast_topic; /* implicit channel of everybody; "" : off */
    /* fanout { } */
    uint32_t fanout_slice;       /* deliveries per turn of the event loop */
    uint32_t fanout_queue_limit; /* bytes of messages per worker that may wait for fan-out */
    /* ipc { } */
    uint32_t ipc_queue_limit; /* bytes waiting between hub and one worker */
    /* api { } */
    char *api_bind;
    char *api_token_file;
    uint32_t api_max_body; /* bytes */

    struct config_listener listener[CONFIG_MAX_LISTENERS];
    unsigned listeners;
};

#endif
