/*
 * Structured log lines on standard error: one event per line, as text (`time level process event key=value
 * ...`) or as JSON.
 *
 * Every event has a bucket of its own and may write LOG_BURST lines per second; what is above is counted and
 * the next line of that event says `suppressed=N`, so an attack costs a comparison per event. A caller whose
 * fields cost something to gather asks log_wants() first.
 */
#ifndef HOLDFAST_BASE_LOG_H
#define HOLDFAST_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_BURST 50

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_NOTICE, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* One place in the code that logs; static, one per event. `name` is short snake_case, e.g. "client_closed".
 */
struct log_event {
    const char *name;
    enum log_level level;
    uint32_t per_second; /* lines of this event; 0: LOG_BURST */
    uint64_t window_s;   /* the second that `used` counts */
    uint32_t used;       /* lines written in it */
    uint32_t suppressed; /* lines left out since the last one written */
};
#define LOG_EVENT(var, event_name, event_level)                                                              \
    static struct log_event var = {.name = (event_name), .level = (event_level)}
/* For what repeats by itself as long as it lasts: one line per second says it. */
#define LOG_EVENT_ONCE_A_SECOND(var, event_name, event_level)                                                \
    static struct log_event var = {.name = (event_name), .level = (event_level), .per_second = 1}

struct log_field {
    const char *key;
    enum { LOG_FIELD_STR, LOG_FIELD_U64, LOG_FIELD_I64 } type;
    const char *str; /* any bytes; what is not printable or not UTF-8 is escaped; cut at 256 bytes */
    size_t len;
    uint64_t num;
};
#define LOG_STR(k, s)                                                                                        \
    {                                                                                                        \
        .key = (k), .type = LOG_FIELD_STR, .str = (s), .len = SIZE_MAX                                       \
    } /* NUL-terminated */
#define LOG_BYTES(k, s, n)                                                                                   \
    {                                                                                                        \
        .key = (k), .type = LOG_FIELD_STR, .str = (s), .len = (n)                                            \
    }
#define LOG_U64(k, n)                                                                                        \
    {                                                                                                        \
        .key = (k), .type = LOG_FIELD_U64, .num = (uint64_t)(n)                                              \
    }
#define LOG_I64(k, n)                                                                                        \
    {                                                                                                        \
        .key = (k), .type = LOG_FIELD_I64, .num = (uint64_t)(int64_t)(n)                                     \
    }

/* process: static string shown in each line ("supervisor", "hub", "worker/3"). */
void log_setup(enum log_level threshold, bool json, const char *process);
bool log_level_from_name(const char *name, enum log_level *out);

/* Whether a line of this event would be written now: level and rate. Counts it as suppressed when only the
 * rate says no. */
bool log_wants(struct log_event *e);

/* Writes the line if log_wants(); one write(2) to standard error; never blocks longer than that, never fails
 * loudly. */
void log_write(struct log_event *e, const struct log_field *fields, size_t n);
#define LOG(event, ...)                                                                                      \
    log_write(&(event), (const struct log_field[]){__VA_ARGS__},                                             \
              sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))

#endif
