/*
 * What is kept, in figures: the engine's own, as /metrics and /v1/stats show them. By table: a figure that is
 * one number is a row. The engine counts; nothing is counted here.
 */
#include <event2/buffer.h>
#include <stddef.h>
#include <stdio.h>

#include "gateway/base/clock.h"
#include "gateway/hub/metrics.h"

#define PREFIX "holdfast_"

/* Figures that are one number. */
static const struct {
    const char *name, *type;
    size_t offset; /* in struct engine_stats */
    const char *help;
} figures[] = {
#define AT(member) offsetof(struct engine_stats, member)
    {"log_messages", "gauge", AT(messages), "Messages kept in the log"},
    {"log_bytes", "gauge", AT(log_bytes), "Bytes of the messages in the log"},
    {"log_topics", "gauge", AT(topics), "Topics that have messages in the log"},
    {"data_file_bytes", "gauge", AT(file_bytes), "Size of the data file"},
    {"sessions_stored", "gauge", AT(sessions), "Stored sessions, connected or not"},
    {"retained_messages", "gauge", AT(retained), "Retained messages"},
    {"sessions_expired_total", "counter", AT(sessions_expired),
     "Stored sessions whose expiry interval has passed"},
    {"commits_total", "counter", AT(commits), "Commits of what is kept"},
    {"commits_failed_total", "counter", AT(failed_commits), "Commits that failed"},
    {"log_refused_total", "counter", AT(refused),
     "Messages that there was no room for when they came to be written"},
    {"log_pending_bytes", "gauge", AT(pending_bytes), "Bytes that wait for the disk"},
    {"log_dead_readers_total", "counter", AT(dead_readers),
     "Readers of the data file that were killed and cleared away"},
    {"log_newest_seq", "gauge", AT(head),
     "The newest number of a message, in the log or retained, that was ever kept"},
#undef AT
};
#define FIGURES (sizeof figures / sizeof figures[0])

static const char *const reasons[ENGINE_EXPIRED_REASONS] = {
    [ENGINE_EXPIRED_AGE] = "age", [ENGINE_EXPIRED_SIZE] = "size", [ENGINE_EXPIRED_EXPIRY] = "expiry"};

/* The upper ends of the lag's classes, in seconds. */
static const char *const lag_limits[ENGINE_LAG_BUCKETS] = {"0",     "60",    "600",    "3600",
                                                           "21600", "86400", "604800", "+Inf"};

static uint64_t figure(const struct engine_stats *s, size_t i)
{
    return *(const uint64_t *)(const void *)((const char *)s + figures[i].offset);
}

/* How old the oldest message is. */
static double oldest_seconds(const struct engine_stats *s)
{
    uint64_t now = clock_wall_ms();
    return s->oldest_ms && s->oldest_ms < now ? (double)(now - s->oldest_ms) / 1000 : 0;
}

static void head(struct evbuffer *out, const char *name, const char *type, const char *help)
{
    evbuffer_add_printf(out, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s %s\n", name, help, name, type);
}

/* One sample per reason. */
static void write_reasons(struct evbuffer *out, const char *name, const char *help, const uint64_t *values)
{
    head(out, name, "counter", help);
    for (unsigned i = 0; i < ENGINE_EXPIRED_REASONS; i++)
        evbuffer_add_printf(out, PREFIX "%s{reason=\"%s\"} %llu\n", name, reasons[i],
                            (unsigned long long)values[i]);
}

static void write_commit_times(struct evbuffer *out, const struct engine_stats *s)
{
    static const char name[] = "commit_duration_seconds";
    uint64_t sum = 0;
    head(out, name, "histogram", "How long commits took");
    for (unsigned i = 0; i < ENGINE_COMMIT_BUCKETS; i++) {
        char limit[16] = "+Inf";
        if (i < ENGINE_COMMIT_BUCKETS - 1)
            snprintf(limit, sizeof limit, "%g", (double)(1u << i) / 1000);
        sum += s->commit_us[i];
        evbuffer_add_printf(out, PREFIX "%s_bucket{le=\"%s\"} %llu\n", name, limit, (unsigned long long)sum);
    }
    evbuffer_add_printf(out, PREFIX "%s_sum %.6f\n" PREFIX "%s_count %llu\n", name,
                        (double)s->commit_us_sum / 1e6, name, (unsigned long long)sum);
}

static void write_lag(struct evbuffer *out, const struct engine_stats *s)
{
    uint64_t sum = 0;
    head(out, "sessions_by_lag", "gauge",
         "Stored sessions whose oldest message after their cursor is at most so many seconds old, as of the "
         "last "
         "walk");
    for (unsigned i = 0; i < ENGINE_LAG_BUCKETS; i++) {
        sum += s->lag[i];
        evbuffer_add_printf(out, PREFIX "sessions_by_lag{le=\"%s\"} %llu\n", lag_limits[i],
                            (unsigned long long)sum);
    }
}

void metrics_write_log(const struct engine_stats *s, struct evbuffer *out)
{
    for (size_t i = 0; i < FIGURES; i++) {
        head(out, figures[i].name, figures[i].type, figures[i].help);
        evbuffer_add_printf(out, PREFIX "%s %llu\n", figures[i].name, (unsigned long long)figure(s, i));
    }
    head(out, "log_oldest_seconds", "gauge", "Age of the oldest message in the log");
    evbuffer_add_printf(out, PREFIX "log_oldest_seconds %.3f\n", oldest_seconds(s));
    head(out, "log_refusing", "gauge",
         "Whether messages are refused now, for want of room or because the disk fails");
    evbuffer_add_printf(out, PREFIX "log_refusing %d\n", s->refusing != ENGINE_OK);
    write_reasons(out, "log_removed_total", "Messages removed from the log, by reason", s->expired);
    write_reasons(out, "log_unread_total", "Messages removed that some session may not have read, by reason",
                  s->unread);
    write_commit_times(out, s);
    write_lag(out, s);
}

static json_t *number(uint64_t n) { return json_integer((json_int_t)n); }

static json_t *reasons_json(const uint64_t *values)
{
    json_t *doc = json_object();
    for (unsigned i = 0; i < ENGINE_EXPIRED_REASONS; i++)
        json_object_set_new(doc, reasons[i], number(values[i]));
    return doc;
}

/* The classes as they are, not summed up. */
static json_t *lag_json(const struct engine_stats *s)
{
    json_t *doc = json_object();
    for (unsigned i = 0; i < ENGINE_LAG_BUCKETS; i++)
        json_object_set_new(doc, lag_limits[i], number(s->lag[i]));
    return doc;
}

json_t *metrics_json_log(const struct engine_stats *s)
{
    json_t *doc = json_object();
    for (size_t i = 0; i < FIGURES; i++)
        json_object_set_new(doc, figures[i].name, number(figure(s, i)));
    json_object_set_new(doc, "log_oldest_seconds", json_real(oldest_seconds(s)));
    json_object_set_new(doc, "log_refusing",
                        s->refusing ? json_string(engine_result_text(s->refusing)) : json_null());
    json_object_set_new(doc, "log_removed_total", reasons_json(s->expired));
    json_object_set_new(doc, "log_unread_total", reasons_json(s->unread));
    json_object_set_new(doc, "commit_seconds_sum", json_real((double)s->commit_us_sum / 1e6));
    json_object_set_new(doc, "sessions_by_lag", lag_json(s));
    return doc;
}
