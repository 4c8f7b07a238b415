/*
 * What is kept, in the words of engine.h: messages, sessions, retained messages, and how they are read back.
 * Times are wall clock milliseconds since the epoch, as clock_wall_ms() gives them. Byte ranges handed to a
 * function are copied; those handed to a callback are valid until it returns.
 */
#ifndef HOLDFAST_ENGINE_STORE_H
#define HOLDFAST_ENGINE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/message.h"

/* What became of a request to keep something. */
enum engine_result {
    ENGINE_OK,
    ENGINE_BUSY,     /* too much waits for the disk */
    ENGINE_FULL,     /* the data file has reached its limit */
    ENGINE_NO_SPACE, /* the disk is full */
    ENGINE_FAILED,   /* the disk or the file does not work; the log says why */
    ENGINE_RESULTS
};
/* "the disk is full", for an error message. */
const char *engine_result_text(enum engine_result r);

/* When something is committed (engine_handler.committed). */
enum engine_sync {
    ENGINE_SYNC_ALWAYS,   /* when it is on disk: survives SIGKILL and power loss */
    ENGINE_SYNC_INTERVAL, /* the same, but within sync_interval_ms, sooner when sessions come and go, or much
                             waits. The owner counts messages as kept before: any crash may cost so much */
    ENGINE_SYNC_NEVER     /* when it is written: survives SIGKILL. The system has it on disk when it likes:
                             power loss may cost all that is kept */
};

struct engine_settings {
    const char *data_dir;
    uint32_t max_clients; /* room in the registry of claims */
    enum engine_sync sync;
    uint32_t sync_interval_ms;
    uint64_t max_age_ms;        /* messages older than that are removed; 0: no limit */
    uint64_t max_log_bytes;     /* the oldest messages beyond that are removed; 0: no limit */
    uint64_t max_file_bytes;    /* of everything kept; beyond it messages are refused */
    uint64_t reserve_bytes;     /* disk space held ahead, so that removing works on a full disk */
    uint64_t max_pending_bytes; /* what may wait for the disk, in memory */
};
#define ENGINE_SETTINGS_DEFAULT                                                                              \
    {                                                                                                        \
        .max_clients = 1u << 20, .sync = ENGINE_SYNC_ALWAYS, .sync_interval_ms = 1000,                       \
        .max_file_bytes = (uint64_t)128 << 30, .reserve_bytes = 16 << 20, .max_pending_bytes = 64 << 20      \
    }

/* ---- sessions ---- */

#define ENGINE_EXPIRY_NEVER 0xFFFFFFFFu

#define OPTION_QOS 0x03u /* of a subscription's options */

struct engine_subscription {
    const char *filter;
    uint16_t len;
    uint8_t options;     /* as in the SUBSCRIBE packet (MQTT 5.0 section 3.8.3.1) */
    uint32_t identifier; /* 0: none */
    uint64_t since;      /* messages after this number belong to it */
    /* Read only: messages up to `until` belong to it with this QoS at the least, which it had when they came;
     * 0: with its own. */
    uint64_t until;
    uint8_t qos_before;
    uint64_t asked; /* handed in: retained messages up to this number are owed to it; 0, and read: none */
};

/* An outgoing message beyond the session's cursor. */
enum engine_inflight_state {
    ENGINE_SENT,     /* PUBLISH sent with this packet identifier, nothing heard */
    ENGINE_RECEIVED, /* PUBREC heard, PUBREL is due */
    ENGINE_DONE      /* acknowledged out of order: not to be sent again; no packet identifier */
};
struct engine_inflight {
    uint64_t seq;
    uint16_t packet_id; /* 0: a retained message, which is not read from the log */
    uint8_t state;
    uint8_t qos; /* with which it was sent; 0: not known */
};

/* A subscription whose retained messages have been asked for and not all been sent. */
struct engine_owed {
    const char *filter, *after; /* after: the topic up to which they have been; none: after_len 0 */
    uint16_t len, after_len;
    uint64_t asked; /* retained messages with greater numbers are not owed: the log has them */
};
/* The most of them that are kept of a session, in bytes: each is 12, its filter and its topic. */
#define ENGINE_OWED_BYTES (256u << 10)

/* How far a session has come, replaced as a whole. */
struct engine_progress {
    uint64_t cursor; /* everything up to here is acknowledged; never moves back */
    const struct engine_inflight *out;
    const uint16_t *in; /* packet identifiers of QoS 2 messages received and not released; first, 0, last: all
                           from one to the other */
    const struct engine_owed *owed;
    uint16_t outs, ins, owes;
    bool with_messages; /* it goes with the messages handed in beside it: kept if they are kept */
};

struct engine_session {
    uint64_t cursor;
    uint64_t disconnected_ms; /* 0: connected */
    uint32_t expiry_s;        /* after disconnected_ms; ENGINE_EXPIRY_NEVER */
    uint32_t extra_len;       /* what the engine does not look at, for example a will that waits */
    const char *extra;
};

/* A whole session, as it is read. */
struct engine_session_view {
    const char *client_id;
    size_t client_id_len;
    struct engine_session session;
    struct engine_progress progress;
    const struct engine_subscription *subscriptions;
    size_t subscription_count;
};
typedef void (*engine_session_fn)(void *ctx, const struct engine_session_view *v);
/* One session of a walk; without progress.out, .in and subscriptions. False ends the walk. */
typedef bool (*engine_session_each_fn)(void *ctx, const struct engine_session_view *v);

/* ---- reading messages ---- */

/* A filter of a scan. One without + and # is looked up; others are matched by the caller's function. */
struct engine_filter {
    const char *text;
    uint16_t len;
    uint64_t after; /* only messages after this number */
};

/* Whether a topic matches a filter: mqtt_topic_matches(). */
typedef bool (*engine_match_fn)(const char *filter, size_t filter_len, const char *topic, size_t topic_len);

/* One message, in the order of sequence numbers. False: not taken; the scan gives it again. */
typedef bool (*engine_message_fn)(void *ctx, const struct message_parts *m, uint64_t time_ms);

enum engine_scan_result {
    ENGINE_SCAN_MORE, /* the batch is full, the work was enough for now, or the callback declined */
    ENGINE_SCAN_END,  /* everything committed when this call began has been given */
    ENGINE_SCAN_ERROR /* the log cannot be read; the log line says why */
};

/* ---- figures ---- */

enum engine_expired {
    ENGINE_EXPIRED_AGE,
    ENGINE_EXPIRED_SIZE,
    ENGINE_EXPIRED_EXPIRY,
    ENGINE_EXPIRED_REASONS
};

#define ENGINE_COMMIT_BUCKETS 12 /* up to 1, 2, 4 ... 1024 ms, and longer */
#define ENGINE_LAG_BUCKETS    8  /* none, up to 1 min, 10 min, 1 h, 6 h, 1 d, 7 d, longer */

struct engine_stats {
    uint64_t messages, log_bytes, topics, sessions, retained;
    uint64_t file_bytes;                        /* size of the data file */
    uint64_t oldest_seq, oldest_ms, newest_seq; /* 0: the log is empty */
    uint64_t head;                              /* the newest number of a message that was ever kept */
    uint64_t expired[ENGINE_EXPIRED_REASONS];   /* removed, by reason, since the data file was made */
    /* Of those: some session's cursor was, or may have been, behind it. An upper bound: see doc/log.md. */
    uint64_t unread[ENGINE_EXPIRED_REASONS];
    uint64_t sessions_expired;
    uint64_t oldest_cursor;           /* no session is behind this, as of the last sweep; UINT64_MAX: none */
    uint64_t lag[ENGINE_LAG_BUCKETS]; /* sessions by the age of the oldest message after their cursor */
    uint64_t sweeps;                  /* complete walks over the sessions since the start */
    uint64_t commits, refused, failed_commits;
    uint64_t commit_us[ENGINE_COMMIT_BUCKETS], commit_us_sum;
    uint64_t pending_bytes;
    uint64_t dead_readers;       /* readers that were killed and cleared away */
    enum engine_result refusing; /* why messages are refused now; ENGINE_OK: they are not */
    bool maintaining;            /* there is more to remove than was done so far */
};

/* ---- what the engine tells its owner, from engine_ops.poll() ---- */
struct engine_handler {
    /*
     * Everything up to this ticket, after the previous call's, is done. Of the messages appended in it, those
     * with numbers up to last_seq: ENGINE_OK: kept. ENGINE_FULL, ENGINE_NO_SPACE: refused, while everything
     * else in it (sessions, acknowledgements) is kept. ENGINE_FAILED: nothing of it is kept.
     */
    void (*committed)(void *ctx, uint64_t ticket, uint64_t last_seq, enum engine_result result);
    /* A session's expiry interval has passed; it is gone. */
    void (*session_expired)(void *ctx, const char *client_id, size_t len);
};

#endif
