/*
 * One client process: up to 15,000 MQTT clients in one epoll loop. Internal to client*.c; fleet.c only calls
 * client_main().
 */
#ifndef HOLDFAST_BENCH_CLIENT_H
#define HOLDFAST_BENCH_CLIENT_H

#include "gateway/base/pool.h"
#include "gateway/tools/bench/fleet.h"
#include "gateway/tools/bench/tls_client.h"

enum client_state { CLIENT_CLOSED, CLIENT_CONNECTING, CLIENT_HANDSHAKE, CLIENT_CONNACK, CLIENT_READY };

enum {
    CLIENT_BUSY = 1,       /* the running job waits for this client */
    CLIENT_HELD = 2,       /* does not read */
    CLIENT_WAS_HELD = 4,   /* its deliveries are counted apart */
    CLIENT_SUBSCRIBED = 8, /* to the common topic */
    CLIENT_SILENT = 16,    /* sends no heartbeats; that the server closes it is right */
    CLIENT_RETURNING = 32, /* subscribes to everything by itself after CONNACK */
    CLIENT_LEAVING = 64    /* will leave by itself */
};

/* What a client has to keep until more comes: malloced, and only then. */
struct client_partial {
    uint32_t plain, sealed; /* lengths: the start of a packet, then the start of a TLS record */
    char bytes[];
};

/* All that one client costs in this process, besides 24 bytes of struct fleet_client, and over TLS its keys:
 * 40 bytes. */
struct client {
    struct client_partial *partial; /* NULL: nothing is kept */
    uint32_t
        tls; /* over TLS, 0: neither; below CLIENT_TLS_PARKED a handshake's place, from 1; else its keys */
    int fd;  /* -1: none */
    uint32_t next_seq; /* of stream 0; with in_order, of all */
    uint32_t received; /* stamped messages since FLEET_SEQUENCE */
    uint32_t hash;     /* sum of hashes of what was received */
    uint32_t
        sent_us; /* when connect() was called or the latest PINGREQ went out, low 32 bits of microseconds */
    uint16_t packet_id;
    uint16_t awaited; /* SUBACKs */
    uint8_t state, flags;
};

/* The keys of a client are in the pool of their suite: the suite in the upper bits, the id in the others. */
#define CLIENT_TLS_SHIFT  28
#define CLIENT_TLS_PARKED (1u << CLIENT_TLS_SHIFT)

struct client_job {
    struct fleet_command command;
    bool running;
    uint32_t next; /* index to look at */
    uint32_t busy; /* clients that it waits for */
    uint32_t started;
    uint32_t eligible; /* clients that it will touch */
    uint64_t start_ns;
    uint64_t done, failed;
};

/* Clients that wait for a moment, in the order of these moments. */
struct client_queue {
    struct {
        uint64_t due_ns;
        uint32_t index;
    } * entry;
    uint32_t head, count, room; /* a ring */
};

/* What clients do by themselves. */
struct client_background {
    bool heartbeats;
    uint32_t heartbeats_who; /* FLEET_ALL, ... */
    uint64_t heartbeats_start_ns;
    uint64_t sent[POPULATION_CLASSES]; /* heartbeats due so far, by class */
    uint64_t leave_interval_ns;        /* mean; 0: nobody leaves */
    uint64_t next_leave_ns, away_ns;
    struct client_queue leaving, away;
    uint64_t random;
};

/* TLS of a client process: the handshakes under way, a bounded number, and the keys of the others. */
struct client_tls {
    const struct tls_client *client; /* NULL: plaintext */
    struct tls_crypto *crypto;
    struct tls_handshake **place; /* by place; NULL: free */
    uint32_t *free_place;         /* a stack */
    uint32_t places, free_places;
    struct client_queue waiting;   /* connected, until there is a place */
    struct pool *pool[TLS_SUITES]; /* keys; NULL: none of this suite so far */
    SSL_SESSION **session;         /* by client, for the next time; NULL: tickets are not kept */
    char *sealed;                  /* for sending */
};

/* Bytes of acknowledgements that are sent at a time. */
#define CLIENT_ACKS 2048

struct client_process {
    const struct fleet_options *options;
    struct fleet_counters *counters; /* shared with the coordinator */
    struct fleet_client *shared;     /* by index, too */
    struct client *client;
    uint32_t first, count; /* global number of client[0] */
    int epoll, control;
    char *buffer;           /* for recv() */
    char acks[CLIENT_ACKS]; /* of the client that is being read */
    size_t acks_len;
    struct client_job job;
    struct client_background background;
    struct client_tls tls;
    uint64_t goal;              /* deliveries at which FLEET_EXPECT is fulfilled; 0: none */
    uint64_t goal_acknowledged; /* and acknowledgements */
    uint32_t goal_number;       /* of that command */
};

/* Serves clients first .. first + count - 1 until told to quit or the coordinator is gone. */
_Noreturn void client_main(const struct fleet_options *o, uint32_t first, uint32_t count, int control,
                           struct fleet_counters *counters, struct fleet_client *shared);
uint32_t client_number(const struct client_process *p, const struct client *c);
void client_answer(struct client_process *p, const struct fleet_answer *a);

/* client_io.c: the life of one connection. Those that return bool return false when the client is closed now.
 */
bool client_open(struct client_process *p, struct client *c);
void client_event(struct client_process *p, struct client *c, uint32_t events);
bool client_send(struct client_process *p, struct client *c, const char *packet, size_t len);
bool client_ping(struct client_process *p, struct client *c);
/* The way is free: sends CONNECT. */
bool client_hello(struct client_process *p, struct client *c);
/* Not an error of the server's: we wanted it. */
void client_shut(struct client_process *p, struct client *c, bool reset);
/* The connection ended without our asking. */
void client_fail(struct client_process *p, struct client *c, const char *what, int error);
/* Turns the events that epoll reports on or off. */
void client_watch(struct client_process *p, struct client *c, bool on);

/* Whole packets at buf are taken; what is left there waits for more, with the start of a record at `sealed`.
 * False: closed. */
bool client_take(struct client_process *p, struct client *c, const char *buf, size_t len, const char *sealed,
                 size_t sealed_len);

/* client_tls.c: between TCP and MQTT. */
void client_tls_start(struct client_process *p);
/* TCP stands: the handshake begins now or when there is a place. */
void client_tls_begin(struct client_process *p, struct client *c);
/* Starts those that wait for a place, as far as there are any. */
void client_tls_pump(struct client_process *p);
/* Reads until the socket is empty, as client_io.c does without TLS. */
void client_tls_read(struct client_process *p, struct client *c, bool to_end);
/* Makes records of a packet: their length, and *out instead of it. 0: cannot be sent (the client still is
 * there). */
size_t client_tls_seal(struct client_process *p, struct client *c, const char **out, const char *packet,
                       size_t len);
/* close_notify, if that can be sent. */
void client_tls_goodbye(struct client_process *p, struct client *c);
/* Nothing of TLS is left. */
void client_tls_forget(struct client_process *p, struct client *c);

/* client_packet.c: what comes in. Takes whole packets at buf; the bytes that are done with, -1: closed. */
ssize_t client_parse(struct client_process *p, struct client *c, const char *buf, size_t len);
/* Sends SUBSCRIBE for FLEET_TOPIC_ bits; the SUBACKs are awaited. */
bool client_subscribe(struct client_process *p, struct client *c, unsigned topics);

/* client_job.c: what the coordinator wants. */
void client_job_start(struct client_process *p, const struct fleet_command *command);
/* Does what window and pace allow now. Returns nanoseconds until more can be done, or UINT64_MAX. */
uint64_t client_job_pump(struct client_process *p);
/* A client that the job waits for has done it, or failed. */
void client_job_done(struct client_process *p, struct client *c, bool ok);

/* Whether a client plays the role that a command asks for (FLEET_ALL, ...). */
bool client_plays(const struct client_process *p, const struct client *c, uint32_t who);

/* client_background.c: what clients do by themselves. */
void client_background_heartbeats(struct client_process *p, bool on, uint32_t who);
void client_background_churn(struct client_process *p, uint64_t per_1000_s, uint64_t away_us);
uint64_t client_background_pump(struct client_process *p);
/* Appends; the moments of one queue never go back. */
void client_queue_push(struct client_queue *q, uint32_t index, uint64_t due_ns);
/* Takes the first when it is due; else lowers *wait to the time until then. */
bool client_queue_pop(struct client_queue *q, uint64_t now, uint32_t *index, uint64_t *wait);
/* One that left by itself and did not get in again. */
void client_background_retry(struct client_process *p, struct client *c);

#endif
