/*
 * The hub's own parts over an engine, with a test in the place of the workers, at the other ends of their
 * channels, on a clock that the test moves. One rig per process; a test that fails has its own.
 */
#ifndef HOLDFAST_TESTS_HUB_RIG_H
#define HOLDFAST_TESTS_HUB_RIG_H

#include "gateway/hub/hub_internal.h"
#include "gateway/hub/hub_sessions.h"
#include "gateway/hub/hub_stored.h"

#define WORKERS 3                       /* attached by the fixtures */
#define START   UINT64_C(1700000000000) /* wall clock in ms */
#define NEVER   ENGINE_EXPIRY_NEVER

#define RIG_HEARD 1024

/* What a worker has heard. */
struct heard {
    enum ipc_type type;
    uint64_t num[6];
    char text[64]; /* of the first bytes field */
};

/* The other end of a worker's channel. */
struct peer {
    struct ipc_channel *channel;
    uint64_t incarnation, requests, done;
    struct heard heard[RIG_HEARD];
    unsigned count, taken;
};

extern struct hub_rig {
    struct hub hub;
    struct peer peer[WORKERS];
    uint64_t now_ms;
    bool has_not_read_all; /* of the next CLOSE */
    unsigned deleted;      /* how often it was said that what is to be deleted is gone */
} rig;

/* A session in the store. */
struct rig_stored {
    bool found;
    struct engine_session session;
    size_t subscriptions;
    unsigned owes;
    uint64_t asked; /* of the first one that is owed */
};

/* ---- time ---- */

/* One turn of the loop, and what is due in it. */
void rig_turn(void);
/* Lets everything settle that needs no time: what is on its way arrives, what is handed in is committed. */
void rig_settle(void);
/* Lets time pass, second by second. */
void rig_pass(unsigned seconds);

/* ---- workers ---- */

void rig_send(unsigned w, const struct ipc_message *m);
/* Attaches a worker that says hello; the same incarnation is the same process. */
void rig_attach(unsigned w, uint64_t incarnation);
void rig_claims_done(unsigned w);
/* The worker is killed. */
void rig_kill_worker(unsigned w);
/* The next thing a worker hears; it must be this. */
const struct heard *rig_next(unsigned w, enum ipc_type type);
void rig_nothing(unsigned w);

/* ---- what workers say; each settles ---- */

#define ID(id) IPC_BYTES((id), strlen(id))

void say_open(unsigned w, const char *id, uint64_t claim, bool clean, uint32_t expiry);
/* A will of QoS 0 to this topic; its message expires so long after it is published (0: never). */
void say_will(unsigned w, const char *id, uint64_t claim, uint32_t delay, const char *topic,
              uint64_t expires_ms);
/* With a will to a topic (NULL: none) that waits. */
void say_close_with(unsigned w, const char *id, uint64_t claim, uint32_t expiry, uint64_t cursor,
                    uint32_t delay, const char *will, uint8_t qos);
void say_close(unsigned w, const char *id, uint64_t claim, uint32_t expiry);
/* One that is owed retained messages up to a number (0: none). */
void say_subscribe_owed(unsigned w, const char *id, uint64_t claim, const char *filter, uint64_t asked);
void say_subscribe(unsigned w, const char *id, uint64_t claim, const char *filter);
void say_progress(unsigned w, const char *id, uint64_t claim, uint64_t cursor);
/* Somebody publishes, and it is kept; returns its number. */
uint64_t say_publish(unsigned w);
void say_claim(unsigned w, const char *id, uint64_t claim, bool replayed);
void say_release(unsigned w, const char *id, uint64_t claim);

/* ---- what is heard, and what is stored ---- */

/* Somebody who had it has not given it back, and what it was sent up to this number is not known. */
void expect_opened_unsure(unsigned w, const char *id, uint64_t claim, bool present, uint64_t unsure_to);
void expect_opened(unsigned w, const char *id, uint64_t claim, bool present);
void expect_kick(unsigned w, const char *id, uint64_t claim);
/* Opens, and hears that it is so. */
void open_session(unsigned w, const char *id, uint64_t claim, uint32_t expiry, unsigned present);
/* The API wants the session removed. */
enum hub_session_delete rig_delete(const char *id);
/* As a reader in any process sees it. */
struct rig_stored rig_stored(const char *id);
void assert_connected(const char *id);
void assert_away_since(const char *id, uint64_t since);
void assert_gone(const char *id);

/* ---- fixtures: an engine in memory, on disk, or on disk and written later, with all workers attached ----
 */

void rig_attach_all(void);
void rig_setup_memory(void);
void rig_setup_local(void);
void rig_setup_interval(void);
void rig_teardown(void);
/* The hub is killed and starts again; the workers live on. */
void rig_restart_hub(void);

#endif
