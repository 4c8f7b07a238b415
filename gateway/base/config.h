/*
 * The configuration as the program uses it. base/options reads it from a libconfuse file by one table;
 * nothing else writes it. Strings are owned by the config and never NULL (unset: "").
 */
#ifndef HOLDFAST_BASE_CONFIG_H
#define HOLDFAST_BASE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#define CONFIG_MAX_LISTENERS 16
#define CONFIG_MAX_TLS       16
#define CONFIG_NO_TLS        CONFIG_MAX_TLS

enum output_policy { OUTPUT_DROP_OLDEST, OUTPUT_DISCONNECT };
enum redirect { REDIRECT_NEVER, REDIRECT_AT_SHUTDOWN, REDIRECT_USE_ANOTHER, REDIRECT_MOVED };
enum client_certificate { CLIENT_CERT_OFF, CLIENT_CERT_OPTIONAL, CLIENT_CERT_REQUIRED };
enum tls_identity { TLS_IDENTITY_CN, TLS_IDENTITY_SAN };
enum log_sync { LOG_SYNC_ALWAYS, LOG_SYNC_INTERVAL, LOG_SYNC_NEVER };
enum tls_min_version { TLS_MIN_12, TLS_MIN_13 };

/*
 * One `tls "name" { }` section: what listeners that name it speak. A list is its values joined by '\n'. The
 * files are read by the supervisor alone (base/tls_bundle.h); everything here takes effect at a reload.
 */
struct config_tls {
    char *name;
    char *certificate; /* list of PEM files, each a chain, leaf first */
    char *key;         /* list of PEM files: the key of the certificate at the same place */
    char *ocsp;        /* list of DER files: OCSP responses, by place; "" none, shorter is allowed */
    enum tls_min_version min_version;
    char *ciphers;      /* TLS 1.2, in OpenSSL's syntax */
    char *ciphersuites; /* TLS 1.3 */
    char *groups;
    char *alpn; /* list; "" : no ALPN */
    enum client_certificate client_certificate;
    char *ca;  /* PEM file, or folder of them: who may sign client certificates */
    char *crl; /* PEM file; "" none */
    enum tls_identity identity;
    bool session_tickets;
    bool parking;      /* false: every connection keeps its SSL and bufferevent, for comparison */
    bool debug_keylog; /* write secrets to SSLKEYLOGFILE */
};

/* One `listener "name" { }` section. Socket values: 0 means "leave the kernel's default". */
struct config_listener {
    char *name;
    char *bind;                    /* "127.0.0.1:1883", "[::]:1883" */
    char *tls;                     /* name of a tls section; "": plaintext */
    uint32_t max_handshakes;       /* TLS: per worker at once; more wait in the backlog */
    uint32_t handshake_timeout_ms; /* TLS: from the accept to its end */
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
    uint32_t max_inflight;         /* messages sent to one client and not acknowledged */
    uint32_t receive_maximum;      /* publishes of one client not answered yet; also told to it */
    uint32_t implicit_qos;         /* the most with which implicit channels are delivered */
    uint32_t max_session_expiry_s; /* the longest; ENGINE_EXPIRY_NEVER: no cap */
    uint32_t session_expiry_s;     /* of 3.1.1 clients with clean session 0, which cannot say */
    uint32_t max_topic_alias;      /* aliases a client may use towards us */
    uint32_t sys_interval_s;       /* between two publications of the $SYS topics; 0: never */
    bool retain;                   /* whether retained messages are taken */
    enum redirect redirect;        /* when clients are sent to another server, */
    char *server_reference;        /* and to which; "": they are not told */
    char *clients_prefix;          /* implicit private channel: "clients/" + client id; "" : off */
    char *broadcast_topic;         /* implicit channel of everybody; "" : off */
    /* log { } */
    enum log_sync log_sync; /* values as enum engine_sync */
    uint32_t log_sync_interval_ms;
    uint32_t log_max_age_s;          /* 0: no limit */
    uint64_t log_max_size;           /* bytes; 0: no limit */
    uint64_t log_max_file;           /* bytes of the data file */
    uint32_t log_reserve;            /* bytes of disk space held ahead */
    uint32_t log_cursor_interval_ms; /* how often live sessions' cursors are written */
    /* fanout { } */
    uint32_t fanout_slice;       /* deliveries per turn of the event loop */
    uint32_t fanout_queue_limit; /* bytes of messages per worker that may wait for fan-out */
    /* ipc { } */
    uint32_t ipc_queue_limit; /* bytes waiting between hub and one worker */
    /* api { } */
    char *api_bind;
    char *api_token_file;
    uint32_t api_max_body; /* bytes */
    /* tickets { } */
    uint32_t ticket_rotation_ms; /* how long a ticket key encrypts; it decrypts for as long again */
    char *ticket_keys;           /* file of 80-byte keys shared with other machines; "": made here */

    struct config_tls tls[CONFIG_MAX_TLS];
    unsigned tls_sections;
    struct config_listener listener[CONFIG_MAX_LISTENERS];
    unsigned listeners;
};

#endif
