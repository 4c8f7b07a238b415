/*
 * The clients of a run: as many forked processes as the descriptor limit demands, told what to do by the
 * coordinator over a socket pair each, counting into memory that the coordinator can read at any time.
 */
#ifndef HOLDFAST_BENCH_FLEET_H
#define HOLDFAST_BENCH_FLEET_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "gateway/tools/bench/histogram.h"
#include "gateway/tools/bench/population.h"

#define FLEET_PER_PROCESS 15000u

/* A client says so long before that it counts as there, or no longer, so that the coordinator has seen it in
 * time. */
#define FLEET_NOTICE_NS 250000000u

/* What a client subscribes to. */
enum { FLEET_TOPIC_COMMON = 1, FLEET_TOPIC_OWN = 2, FLEET_TOPIC_GROUPS = 4 };

struct fleet_options {
    struct sockaddr_in server;
    struct population population;
    uint8_t version; /* MQTT_V311 or MQTT_V5 */
    uint8_t qos;     /* of subscriptions */
    bool persistent; /* sessions outlive their connections */
    bool in_order;   /* messages may have been sent while a client was away; all of them have to come in the
                        order of their numbers */
    uint8_t topics;  /* FLEET_TOPIC_ bits: what a client subscribes to again when it comes back by itself */
    char topic[64];  /* the common one; own ones are topic/number, groups topic/g/group */
    char id_prefix[48];           /* client ids are prefix-number */
    uint32_t id_step;             /* the number in ids and own topics is the client's times this */
    int rcvbuf, sndbuf;           /* SO_RCVBUF, SO_SNDBUF of the client sockets; 0: the system's */
    int slow_rcvbuf;              /* the same for the slow ones, when not 0 */
    int mss;                      /* TCP_MAXSEG; 0: loopback's 65,483 */
    uint32_t per_process;         /* at most FLEET_PER_PROCESS */
    const struct tls_client *tls; /* NULL: plaintext */
    uint32_t handshakes;          /* TLS handshakes at once per process */
    bool tickets;                 /* clients keep their session ticket for the next time */
};

/* Counters of one client process. Written there only; all before `latency` are summed up as numbers. */
struct fleet_counters {
    uint64_t connected;        /* now */
    uint64_t refused;          /* connect() failed or CONNACK said no */
    uint64_t lost;             /* closed by the server, without having been asked to */
    uint64_t held_lost;        /* the same, of those that did not read */
    uint64_t subscribed;       /* SUBACKs */
    uint64_t deliveries;       /* of stamped messages, without those that are held */
    uint64_t acknowledged;     /* PUBACKs and PUBCOMPs sent, without those of clients that were held */
    uint64_t resumed_sessions; /* CONNACKs that said so */
    uint64_t late_deliveries;  /* to clients that were held and are released again */
    uint64_t uncounted;        /* while a client was arriving or leaving: may or may not come */
    uint64_t gaps;             /* messages of stream 0 that a client never saw before it saw a later one */
    uint64_t duplicates;       /* messages of stream 0 at or below one that the client had */
    uint64_t foreign; /* messages without a stamp of ours, of a wrong length, or for another client */
    uint64_t protocol_errors;
    uint64_t heartbeats, answers;
    uint64_t blocked;                      /* a send() that the kernel did not take whole */
    uint64_t handshakes, offered, resumed; /* TLS handshakes done; with a ticket; with one that was taken */
    uint64_t left, returned;               /* by themselves */
    uint64_t timeouts_right, timeouts_early, timeouts_late; /* silent clients that the server closed */
    struct histogram latency;                               /* of deliveries, publish to receipt */
    struct histogram answer_latency;                        /* PINGREQ to PINGRESP */
    struct histogram connect_latency;                       /* connect() to CONNACK */
    struct histogram handshake_latency;                     /* connect() to the end of the TLS handshake */
    struct histogram timeout_excess; /* silent clients: closed so long after 1.5 times the keepalive */
    char error[128];                 /* the latest one in words */
    char tls[128];                   /* version, suite, certificate of the latest handshake */
};

/* What coordinator and client process share about one client. Times in nanoseconds of CLOCK_MONOTONIC. */
struct fleet_client {
    uint64_t ready_ns;   /* subscribed to everything: messages sent from then on must come; 0: not there */
    uint64_t leaving_ns; /* those sent from then on need not; 0: stays */
    uint32_t expected,
        expected_hash; /* by the coordinator: messages that must come, and the sum of their hashes */
};

enum fleet_op {
    FLEET_CONNECT = 1, /* every closed client connects and waits for CONNACK; with value 1 it also subscribes
                          to its topics and waits for SUBACK, and tries again when it is refused */
    FLEET_SUBSCRIBE,   /* to the topics in `value` (FLEET_TOPIC_ bits) */
    FLEET_HEARTBEAT,   /* one PINGREQ each, spread over `over_us`, and its answer */
    FLEET_HOLD,        /* stop reading */
    FLEET_RELEASE,     /* read again */
    FLEET_SILENCE,     /* a last PINGREQ, then no heartbeats any more; the server's reaction is judged */
    FLEET_CLOSE,       /* DISCONNECT and close */
    FLEET_RESET_PEER,  /* close with a RST: no TIME_WAIT */
    FLEET_HANDSHAKE,   /* every closed client connects, waits for CONNACK and closes; value 1: with the ticket
                          that it has */
    FLEET_KEEPALIVE,   /* value 1: `who` sends heartbeats at 0.75 of its keepalive from now on; 0: stop */
    FLEET_CHURN, /* `value` clients per 1000 s leave by themselves, to return after `over_us`; 0: no more */
    FLEET_SEQUENCE, /* the next message of stream 0 has number `value` for everybody; counters of deliveries,
                       gaps, duplicates and latency start anew */
    FLEET_EXPECT,   /* says so when `value` more messages have reached each connected, unheld client */
    FLEET_CHECK,    /* counts clients that have received exactly `value` messages since FLEET_SEQUENCE */
    FLEET_VERIFY,   /* counts clients that have received exactly what is in their fleet_client */
    FLEET_QUIT
};

enum fleet_who { FLEET_ALL, FLEET_SLOW, FLEET_NOT_SLOW, FLEET_SILENT, FLEET_MOVERS, FLEET_NOT_MOVERS };

struct fleet_command {
    uint32_t op, who;
    uint32_t window;  /* how many clients may be busy with it at once, per process; 0: a default */
    uint32_t number;  /* set by fleet_start() */
    uint32_t qos;     /* FLEET_EXPECT: above 0, acknowledged as often, too */
    uint64_t over_us; /* spread over this time; 0: as fast as the window allows */
    uint64_t value;
};

struct fleet_answer {
    uint32_t number;  /* of the command */
    uint32_t reached; /* 1: second answer to FLEET_EXPECT */
    uint64_t done, failed;
    uint64_t missing, excess; /* FLEET_VERIFY: messages */
};

struct fleet;

/* Forks the client processes. NULL with a message on stderr when the machine does not allow it. */
struct fleet *fleet_new(const struct fleet_options *o);
/* Ends the client processes, connections are reset. */
void fleet_free(struct fleet *f);

/* Hands a command to all processes; fleet_finish() waits for their answers. False: deadline or interruption.
 */
void fleet_start(struct fleet *f, struct fleet_command c);
bool fleet_finish(struct fleet *f, uint64_t deadline_ms, struct fleet_answer *sum);
/* Both. */
bool fleet_run(struct fleet *f, struct fleet_command c, uint64_t deadline_ms, struct fleet_answer *sum);

/* Announces `messages` publishes to everybody unheld; returns the number of deliveries that makes. Above QoS
 * 0 they have to be acknowledged, too. */
uint64_t fleet_expect(struct fleet *f, uint64_t messages, uint8_t qos);
/* Waits until they have arrived. False: deadline or interruption. */
bool fleet_await(struct fleet *f, uint64_t deadline_ms);

/* Adds up the counters as they are now. */
void fleet_counters(const struct fleet *f, struct fleet_counters *sum);
/* What is shared about client `number`. */
struct fleet_client *fleet_client(struct fleet *f, uint32_t number);
/* Ids of the client processes. */
size_t fleet_processes(const struct fleet *f, const pid_t **pids);
const struct fleet_options *fleet_options(const struct fleet *f);

/* Called five times a second while the coordinator waits. */
void fleet_set_tick(struct fleet *f, void (*tick)(void *arg), void *arg);

#endif
