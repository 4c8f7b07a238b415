/*
 * From the supervisor's bundle to the contexts that handshakes of this worker use. Fed by the control channel
 * (worker.c), drained by the net, which is told per listener; contexts that were replaced live on in the
 * connections that began with them. Reads no file.
 */
#include "gateway/worker/worker_tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/log.h"
#include "gateway/base/options.h"
#include "gateway/base/xmalloc.h"
#include "gateway/ipc/ipc_packet.h"
#include "gateway/net/tls_context.h"
#include "proto/tls_crypto.h"

#define ERROR_LENGTH 256

struct worker_tls {
    const struct process_args *args;
    struct net *net;
    struct config settings;      /* tls sections and tickets in force; nothing else is set in it */
    struct tls_tickets *tickets; /* NULL: OpenSSL has not been used yet */
    struct tls_context *context[CONFIG_MAX_TLS]; /* by section */
};

LOG_EVENT(log_tls_refused, "tls_refused", LOG_LEVEL_ERROR);
LOG_EVENT(log_tls_loaded, "tls_loaded", LOG_LEVEL_INFO);

/* Those in force; connections under way hold what they need on their own. */
static void free_contexts(struct worker_tls *t)
{
    for (unsigned i = 0; i < t->settings.tls_sections; i++)
        tls_context_free(t->context[i]);
}

/* Makes the contexts of all sections of a bundle. False: one is wrong, and none is kept. */
static bool make_contexts(struct worker_tls *t, const struct config *c, const struct tls_bundle *b,
                          struct tls_context **made, char *error)
{
    unsigned n = 0;
    while (n < c->tls_sections &&
           (made[n] = tls_context_new(c, n, b, t->tickets, t->args->keylog_fd, error, ERROR_LENGTH)))
        n++;
    if (n == c->tls_sections && tls_tickets_load(t->tickets, b, error, ERROR_LENGTH))
        return true; /* the tickets last: from here on nothing is refused */
    while (n > 0)
        tls_context_free(made[--n]);
    return false;
}

/* The context of the section with this name; NULL: plaintext. */
static struct tls_context *find_context(const struct worker_tls *t, const char *name)
{
    for (unsigned i = 0; i < t->settings.tls_sections && *name; i++)
        if (strcmp(t->settings.tls[i].name, name) == 0)
            return t->context[i];
    return NULL;
}

/* Tells the net what each listener speaks from now on. */
static void set_listeners(struct worker_tls *t)
{
    for (unsigned i = 0; i < t->args->config->listeners; i++) {
        const struct config_listener *l = &t->args->config->listener[i];
        struct net_tls tls = {.context = find_context(t, l->tls),
                              .max_handshakes = l->max_handshakes,
                              .handshake_timeout_ms = l->handshake_timeout_ms};
        CHECK(tls.context || !*l->tls); /* the supervisor has seen to it */
        net_set_tls(t->net, i, &tls);
    }
}

/* Takes certificates, keys and settings from a bundle. False: something is wrong, and the old ones stay. */
static bool load(struct worker_tls *t, int fd, char *error)
{
    struct tls_context *made[CONFIG_MAX_TLS] = {NULL};
    struct tls_bundle *b = tls_bundle_open(fd);
    struct config fresh = {0};
    bool ok = b && tls_bundle_settings(b, &fresh);
    if (!ok)
        snprintf(error, ERROR_LENGTH, "not a tls bundle of this version");
    ok = ok && make_contexts(t, &fresh, b, made, error);
    if (b)
        tls_bundle_close(b);
    if (!ok) {
        config_free(&fresh);
        LOG(log_tls_refused, LOG_STR("error", error));
        return false;
    }
    free_contexts(t);
    memcpy(t->context, made, sizeof made);
    config_free(&t->settings);
    t->settings = fresh;
    set_listeners(t);
    LOG(log_tls_loaded, LOG_U64("sections", t->settings.tls_sections));
    return true;
}

/* Before the first use of OpenSSL. */
static void set_up(struct worker_tls *t)
{
    if (t->tickets)
        return;
    tls_context_setup();
    t->tickets = tls_tickets_new(t->args->ticket_seed, t->args->config->ticket_rotation_ms);
    /* Or the present keys would follow from it for ever. */
    tls_wipe(t->args->ticket_seed, sizeof *t->args->ticket_seed);
}

struct worker_tls *worker_tls_new(const struct process_args *args, struct net *n)
{
    struct worker_tls *t = xcalloc(1, sizeof *t);
    char error[ERROR_LENGTH];
    t->args = args;
    t->net = n;
    if (!args->config->tls_sections)
        return t;
    set_up(t);
    bool ok = load(t, args->tls_fd, error);
    close(args->tls_fd); /* it holds private keys, also when they are replaced */
    if (ok)
        return t;
    worker_tls_free(t);
    return NULL;
}

void worker_tls_free(struct worker_tls *t)
{
    free_contexts(t);
    config_free(&t->settings);
    tls_tickets_free(t->tickets);
    free(t);
}

void worker_tls_reload(struct worker_tls *t, uint32_t number, int fd)
{
    char error[ERROR_LENGTH] = "";
    set_up(t);
    load(t, fd, error);
    struct ipc_message m = IPC_MAKE(TLS_DONE, IPC_NUM(number), IPC_BYTES(error, strlen(error)));
    if (ipc_packet_send(t->args->control_fd, &m, -1) < 0)
        LOG(log_tls_refused, LOG_STR("error", "the supervisor cannot be told"));
}
