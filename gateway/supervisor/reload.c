/*
 * One reload at a time. supervisor.c says when, and passes on what workers answer; control.c tells the result
 * to who asked. The state that matters is per child and level-triggered: which number it was given last and
 * which it has answered. So a worker that is slow, dies, or is forked in the middle needs no case of its own.
 *
 * Reading files is all that waits here, as at the start.
 */
#include "gateway/supervisor/reload.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"
#include "gateway/ipc/ipc_packet.h"

#define TEXT_MAX     16384 /* of what is told about a reload; the log has everything */
#define RETRY_MS     50u   /* when a control channel is full */
#define PATH_TOLD    512   /* bytes of a file's name that the hub is told */
#define NAMES_LENGTH 1024

LOG_EVENT(ev_problem, "configuration_problem", LOG_LEVEL_ERROR);
LOG_EVENT(ev_refused, "reload_refused", LOG_LEVEL_ERROR);
LOG_EVENT(ev_restart, "restart_needed", LOG_LEVEL_WARNING);
LOG_EVENT(ev_worker, "reload_failed_in_worker", LOG_LEVEL_ERROR);
LOG_EVENT(ev_silent, "reload_not_answered", LOG_LEVEL_WARNING);
LOG_EVENT(ev_incomplete, "reload_incomplete", LOG_LEVEL_ERROR);
LOG_EVENT(ev_reloaded, "reloaded", LOG_LEVEL_NOTICE);

/* Adds to what is told about this reload; what goes beyond its size is left out. */
__attribute__((format(printf, 2, 3))) static void tell(struct reload *r, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(r->text + r->text_len, TEXT_MAX - r->text_len, format, ap);
    va_end(ap);
    if (n > 0)
        r->text_len += (size_t)n < TEXT_MAX - r->text_len ? (size_t)n : TEXT_MAX - r->text_len - 1;
}

static void log_certificates(const struct reload *r)
{
    for (unsigned i = 0; i < r->credentials.certificates; i++)
        certificate_log(&r->credentials.certificate[i], (int64_t)(clock_wall_ms() / 1000));
}

/* ---- the first configuration ---- */

/* Logs every line but the first, which goes to `error`. */
static void split_problems(char *problems, char *error, size_t error_size)
{
    char *next = NULL, *line = strtok_r(problems, "\n", &next);
    snprintf(error, error_size, "%s", line ? line : "the TLS files cannot be used");
    while ((line = strtok_r(NULL, "\n", &next)))
        LOG(ev_problem, LOG_STR("problem", line));
}

int reload_start(struct reload *r, struct config *config, const struct config_source *source, char *error,
                 size_t error_size)
{
    *r = (struct reload){.config = config, .source = source, .keylog_fd = -1, .number = 1};
    r->text = xcalloc(1, TEXT_MAX);
    char *problems = NULL;
    size_t size = 0;
    FILE *err = open_memstream(&problems, &size);
    int result = err ? credentials_make(&r->credentials, config, err) : -1;
    if (err)
        fclose(err);
    if (result != 0) {
        r->credentials.bundle_fd = -1;
        split_problems(problems, error, error_size);
    } else {
        log_certificates(r);
        r->keylog_fd = credentials_open_keylog(config);
        counter_set(COUNTER_GENERATION, r->number);
    }
    free(problems);
    return result;
}

void reload_free(struct reload *r)
{
    credentials_free(&r->credentials);
    if (r->keylog_fd >= 0)
        close(r->keylog_fd);
    free(r->text);
    *r = (struct reload){.keylog_fd = -1, .credentials = {.bundle_fd = -1}};
}

/* ---- reading the new one ---- */

/* Whether the new configuration has every tls section that a listener uses, which keeps using it until a
 * restart. */
static bool has_sections_in_use(const struct config *running, const struct config *next, FILE *err)
{
    bool good = true;
    for (unsigned i = 0; i < running->listeners; i++) {
        const struct config_listener *l = &running->listener[i];
        if (*l->tls == '\0' || config_find_tls(next, l->tls) != CONFIG_NO_TLS)
            continue;
        good = false;
        fprintf(err,
                "tls \"%s\": the section is gone, but listener \"%s\" uses it until a restart; expected it "
                "to stay\n",
                l->tls, l->name);
    }
    return good;
}

/* Exchanges what is reloadable in the running configuration if the new one, with its files, is right. */
static bool take(struct reload *r, struct config *next, FILE *err)
{
    struct credentials fresh;
    if (!has_sections_in_use(r->config, next, err))
        return false;
    config_swap_reloadable(r->config, next);
    if (credentials_make(&fresh, r->config, err) != 0) {
        config_swap_reloadable(r->config, next);
        return false;
    }
    credentials_free(&r->credentials);
    r->credentials = fresh;
    return true;
}

/* Says which changes have to wait. */
static void name_restart(struct reload *r, const struct config *next)
{
    char names[NAMES_LENGTH];
    unsigned n = config_restart_needed(r->config, next, names, sizeof names);
    if (n == 0)
        return;
    LOG(ev_restart, LOG_U64("options", n), LOG_STR("names", names));
    tell(r, "these changes take effect at a restart: %s\n", names);
}

/* The new configuration is not taken. */
static void refuse(struct reload *r, char *problems)
{
    unsigned count = 0;
    char *next = NULL;
    tell(r, "refused; what was in force stays in force:\n%s", problems);
    for (char *line = strtok_r(problems, "\n", &next); line; line = strtok_r(NULL, "\n", &next), count++)
        LOG(ev_problem, LOG_STR("problem", line));
    LOG(ev_refused, LOG_U64("problems", count), LOG_U64("generation", r->number));
    counter_add(COUNTER_RELOAD_FAILURES, 1);
    r->failed = true;
    r->deadline_ms = 0; /* nobody is waited for */
}

/* The new one is in force here; workers and hub are told by reload_advance(). logged: there was a key log. */
static void put_in_force(struct reload *r, bool logged)
{
    r->number++;
    r->certificates_told = 0;
    r->deadline_ms = clock_ms() + RELOAD_TIMEOUT_MS;
    counter_set(COUNTER_GENERATION, r->number);
    log_certificates(r);
    if (!logged && !credentials_follow_keylog(r->config, r->keylog_fd))
        tell(r, "debug_keylog takes effect at a restart\n");
}

void reload_begin(struct reload *r)
{
    struct config next;
    char *problems = NULL;
    size_t size = 0;
    r->wanted = r->failed = false;
    r->under_way = true;
    r->began_us = clock_us();
    r->text_len = 0;
    *r->text = '\0';
    FILE *err = open_memstream(&problems, &size);
    bool logged = credentials_keylog_section(r->config) != NULL;
    bool loaded = err && config_load_source(&next, r->source, err) == 0;
    bool taken = false;
    if (loaded) {
        taken = take(r, &next, err);
        if (taken)
            name_restart(r, &next);
        config_free(&next);
    }
    if (err)
        fclose(err);
    clock_update();
    if (taken)
        put_in_force(r, logged);
    else
        refuse(r, problems ? problems : (char[]){"no memory\n"});
    free(problems);
}

/* ---- handing it over ---- */

/* Whether a worker serves, or is about to, and can be told. */
static bool is_to_be_told(const struct child *ch)
{
    return child_alive(ch) && ch->control_fd >= 0 && (ch->state == CHILD_STARTING || ch->state == CHILD_UP);
}

/* Gives a worker the bundle unless it has it. */
static void tell_worker(struct reload *r, struct child *ch)
{
    if (!is_to_be_told(ch) || ch->reload_told == r->number)
        return;
    struct ipc_message m = IPC_MAKE(TLS, IPC_NUM(r->number));
    if (ipc_packet_send(ch->control_fd, &m, r->credentials.bundle_fd) == 0)
        ch->reload_told = r->number;
}

/* Tells the hub the next certificates, as many as its channel takes. None at all is told as well. */
static void tell_hub(struct reload *r, const struct child *hub)
{
    unsigned n = r->credentials.certificates, messages = n ? n : 1;
    while (is_to_be_told(hub) && r->certificates_told < messages) {
        static const struct certificate nothing = {.tls = (char *)"", .path = (char *)""};
        const struct certificate *c = n ? &r->credentials.certificate[r->certificates_told] : &nothing;
        struct ipc_message m = IPC_MAKE(CERTIFICATE, IPC_NUM(r->number), IPC_NUM(r->certificates_told),
                                        IPC_NUM(n), IPC_NUM(c->not_after), IPC_BYTES(c->tls, strlen(c->tls)),
                                        IPC_BYTES(c->subject, strlen(c->subject)),
                                        IPC_BYTES(c->path, strnlen(c->path, PATH_TOLD)), IPC_NUM(c->kind));
        if (ipc_packet_send(hub->control_fd, &m, -1) != 0)
            return;
        r->certificates_told++;
    }
}

/* Whether the worker has yet to answer. A dead one has not: its successor has what is in force. */
static bool is_awaited(const struct reload *r, const struct child *ch)
{
    return is_to_be_told(ch) && ch->reload_done != r->number;
}

/* Time is up for those that have not answered. They take it when they can. */
static void name_silent(struct reload *r, const struct child *child, unsigned workers)
{
    for (unsigned i = 0; i < workers; i++) {
        if (!is_awaited(r, &child[i]))
            continue;
        LOG(ev_silent, LOG_STR("child", child_name(&child[i])), LOG_U64("after_ms", RELOAD_TIMEOUT_MS));
        tell(r, "%s has not answered within %u s; it takes what is new when it can\n", child_name(&child[i]),
             RELOAD_TIMEOUT_MS / 1000);
        r->failed = true;
    }
}

/* A reload that was taken is over. */
static void finish(struct reload *r, unsigned workers)
{
    unsigned n = r->credentials.servers;
    int64_t now = (int64_t)(clock_wall_ms() / 1000);
    uint64_t ms = (clock_us() - r->began_us) / 1000;
    struct log_event *event = r->failed ? &ev_incomplete : &ev_reloaded;
    LOG(*event, LOG_U64("generation", r->number), LOG_U64("workers", workers), LOG_U64("certificates", n),
        LOG_U64("ms", ms));
    counter_add(r->failed ? COUNTER_RELOAD_FAILURES : COUNTER_RELOADS, 1);
    for (unsigned i = 0; i < r->credentials.certificates; i++) {
        const struct certificate *c = &r->credentials.certificate[i];
        char line[1024];
        certificate_line(c, now, line, sizeof line);
        if (certificate_is_server(c) || certificate_is_alarming(c, now))
            tell(r, "%s\n", line);
    }
    tell(r, "%s: generation %u, %u worker%s, %u certificate%s, %u ms\n",
         r->failed ? "incomplete" : "reloaded", r->number, workers, workers == 1 ? "" : "s", n,
         n == 1 ? "" : "s", (unsigned)ms);
}

bool reload_advance(struct reload *r, struct child *child, unsigned workers)
{
    bool awaited = false;
    tell_hub(r, &child[workers]);
    for (unsigned i = 0; i < workers; i++) {
        tell_worker(r, &child[i]);
        awaited |= is_awaited(r, &child[i]);
    }
    if (!r->under_way || (awaited && clock_ms() < r->deadline_ms))
        return false;
    r->under_way = false;
    if (r->deadline_ms == 0)
        return true; /* refused */
    name_silent(r, child, workers);
    finish(r, workers);
    return true;
}

void reload_answered(struct reload *r, struct child *worker, uint32_t number, const char *why, size_t len)
{
    if (number != r->number)
        return; /* of an earlier one, by a worker that was late */
    worker->reload_done = number;
    if (len == 0)
        return;
    LOG(ev_worker, LOG_STR("child", child_name(worker)), LOG_BYTES("error", why, len));
    if (!r->under_way)
        return;
    tell(r, "%s keeps what it had: %.*s\n", child_name(worker), (int)len, why);
    r->failed = true;
}

void reload_forked(struct reload *r, struct child *ch)
{
    ch->reload_told = ch->reload_done = r->number;
    if (ch->number == PROCESS_HUB)
        r->certificates_told = 0;
}

uint64_t reload_due(const struct reload *r, const struct child *child, unsigned workers)
{
    uint64_t due = r->under_way ? r->deadline_ms : UINT64_MAX;
    unsigned n = r->credentials.certificates;
    bool untold = is_to_be_told(&child[workers]) && r->certificates_told < (n ? n : 1);
    for (unsigned i = 0; i < workers && !untold; i++)
        untold = is_to_be_told(&child[i]) && child[i].reload_told != r->number;
    uint64_t retry = clock_ms() + RETRY_MS;
    return untold && retry < due ? retry : due;
}
