/*
 * One run of one scenario against one target, as the kinds of scenarios see it.
 */
#ifndef HOLDFAST_BENCH_RUN_H
#define HOLDFAST_BENCH_RUN_H

#include "gateway/tools/bench/fleet.h"
#include "gateway/tools/bench/kernelmem.h"
#include "gateway/tools/bench/proctree.h"
#include "gateway/tools/bench/publisher.h"
#include "gateway/tools/bench/result.h"
#include "gateway/tools/bench/scenario.h"
#include "gateway/tools/bench/target.h"

/* Memory at one moment. */
struct memory_reading {
    struct proctree_memory server, bench;
    struct kernelmem kernel;
};

struct run {
    const struct scenario *scenario;
    struct target *target;
    struct result *result;
    struct fleet *fleet;
    struct publisher *publisher;
    struct proctree *bench;       /* the client processes */
    struct fleet_options options; /* of the fleet */
    struct memory_reading start;  /* before the first connection */
    double retransmitted;         /* TCP segments of the machine, before */
    uint32_t next_seq;            /* of stream 0 */
    uint8_t qos;                  /* the scenario's; the floor knows 0 only */
    char step[64];                /* for the progress line */
};

/* A kind of scenario: a row of the table in run.c. run(): false: it could not be carried through. */
enum {
    RUN_NEEDS_SERVER = 1,  /* the floor, which knows neither topics nor keepalives, cannot do it */
    RUN_KEEPS_TICKETS = 2, /* whatever the scenario says */
    RUN_IN_ORDER = 4       /* fleet_options.in_order */
};
struct run_kind {
    const char *name, *help;
    bool (*run)(struct run *r);
    unsigned flags;
};
bool kind_connect(struct run *r);
bool kind_idle(struct run *r);
bool kind_broadcast(struct run *r);
bool kind_heartbeat(struct run *r);
bool kind_slow(struct run *r);
bool kind_push(struct run *r);
bool kind_storm(struct run *r);
bool kind_buffers(struct run *r);
bool kind_handshake(struct run *r);
bool kind_sessions(struct run *r);
bool kind_publish(struct run *r);
bool kind_wake(struct run *r);

const struct run_kind *run_find_kind(const char *name);
void run_list_kinds(void);

/* Starts the target, does the scenario, stops the target; values go to `result`. False: said why on stderr.
 */
bool run_scenario(const struct scenario *s, struct target *t, struct result *result);

/* Ends clients and server and starts them anew, with sessions that outlive connections or not. False: said
 * why, and there is nothing left but to return. */
bool run_start_anew(struct run *r, bool persistent);

/* steps.c: what several kinds do. Each returns false when the run cannot go on (said why). */

/* Says what is being done now, for the progress line. */
void run_step(struct run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Opens all clients and subscribes them to the topic. Puts the rate of connections; with_figures: also that
 * of subscriptions, and CPU per client. */
bool run_open(struct run *r, bool with_figures);
/* Draws the progress line again. */
void run_draw(struct run *r);
/* Connects the publisher; it publishes with the scenario's QoS. */
bool run_open_publisher(struct run *r);
/* A publisher of its own, by number; NULL: said why. */
struct publisher *run_new_publisher(struct run *r, unsigned number);
/* Waits until the server does nothing any more, or the scenario's deadline has passed. */
void run_rest(struct run *r);

/* `count` broadcasts of one size with the publisher's QoS, each after the previous one has reached everybody
 * and, above QoS 0, has been acknowledged by everybody and to the publisher. */
struct broadcast_figures {
    uint64_t wanted, received; /* deliveries */
    uint64_t acknowledged;     /* by the clients */
    uint64_t late_broadcasts;  /* that had not reached everybody at the deadline */
    double cpu_us;             /* of the server per delivery: median over the broadcasts */
    double bench_cpu_us;       /* of the clients */
};
bool run_broadcasts(struct run *r, long count, long payload, struct broadcast_figures *f,
                    void (*after_each)(struct run *r, void *arg), void *arg);

struct heartbeat_figures {
    uint64_t wanted, answered;
    double cpu_us, bench_cpu_us, rate;
};
bool run_heartbeats(struct run *r, long rounds, struct heartbeat_figures *f);

/* Microseconds of CPU that the server has used so far; NAN when it is not watched. */
double run_server_cpu_us(struct run *r);
/* Time for a job over all clients: generous, since a busy server is a result and no failure. */
uint64_t run_job_deadline(const struct run *r);
/* Starts the counts of deliveries and latencies anew. */
void run_reset_counts(struct run *r);
/* Puts what the clients counted: lost, gaps, duplicates, refused. */
void run_put_health(struct run *r, uint64_t expected_connected);
/* Median, 99th percentile and so on, with this prefix. Nothing when there was nothing; h NULL: rows without
 * values. */
void run_put_latency(struct run *r, const char *prefix, const struct histogram *h);

/* memory.c */
void memory_read(struct run *r, struct memory_reading *m);
/* Bytes of user space per connection between two readings. */
double memory_user_growth(const struct run *r, const struct memory_reading *a,
                          const struct memory_reading *b);
/* Puts everything by layer, from the start of the run to m. */
void memory_put(struct run *r, const char *prefix, const char *when, const struct memory_reading *m);

#endif
