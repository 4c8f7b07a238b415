/*
 * What monitoring asks for: counters in two formats, whether the hub lives, and whether the gateway serves.
 */
#include <event2/buffer.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/hub/certificates.h"
#include "gateway/hub/http_api.h"
#include "gateway/hub/hub_internal.h"
#include "gateway/hub/metrics.h"

static struct engine_stats stats_of(const struct hub *h)
{
    struct engine_stats s;
    h->engine_ops->stats(h->engine, &s);
    return s;
}

/* GET /v1/stats */
void api_stats(struct http_call *call)
{
    struct engine_stats s = stats_of(call->hub);
    json_t *doc = metrics_json(call->hub->args);
    json_object_set_new(doc, "log", metrics_json_log(&s));
    http_reply_json(call->req, 200, doc);
}

/* GET /metrics */
void api_metrics(struct http_call *call)
{
    struct engine_stats s = stats_of(call->hub);
    struct evbuffer *body = evbuffer_new();
    CHECK(body);
    metrics_write(call->hub->args, body);
    metrics_write_log(&s, body);
    certificates_write(call->hub->certificates, body);
    http_reply_buffer(call->req, 200, METRICS_CONTENT_TYPE, body);
    evbuffer_free(body);
}

/* GET /healthz: an answer at all is the message. */
void api_health(struct http_call *call)
{
    http_reply_json(call->req, 200, json_pack("{ss}", "status", "ok"));
}

/* Appends a part of a list, as far as there is room. */
static void append(char *text, size_t room, const char *what, unsigned worker)
{
    size_t used = strlen(text);
    snprintf(text + used, room - used, "%sworker %u %s", used ? "; " : "", worker, what);
}

/* GET /readyz */
void api_ready(struct http_call *call)
{
    const struct hub *h = call->hub;
    char missing[240] = "";
    if (hub_is_ready(h)) {
        http_reply_json(call->req, 200,
                        json_pack("{sssi}", "status", "ready", "workers", (int)h->args->workers));
        return;
    }
    for (unsigned i = 0; i < h->args->workers; i++)
        if (!h->worker[i].channel)
            append(missing, sizeof missing, "is not attached", i);
        else if (!h->worker[i].replayed)
            append(missing, sizeof missing, "has not told its clients yet", i);
    http_problem(call->req, 503, NULL, "%s", h->stopping ? "the gateway is stopping" : missing);
}
