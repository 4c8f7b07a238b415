/*
 * Publishing over HTTP: a JSON object or an array of them becomes messages that the hub publishes. Every
 * object of an array is read (api_message.c) before the first is published. Messages with QoS 0 go to the
 * workers at once; when there are others, the request waits until all that it brought is committed, and is
 * answered then. What it answers is what it keeps meanwhile: the sequence numbers.
 */
#include <event2/buffer.h>
#include <event2/http.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/xmalloc.h"
#include "gateway/hub/api_message.h"
#include "gateway/hub/hub_stored.h"
#include "proto/mqtt_topic.h"

#define MAX_MESSAGES 1000u

/* Who is to get the messages of a request. */
struct target {
    const struct ipc_bytes *topic; /* NULL: each message has its own */
    const char *only_kept;         /* why messages with QoS 0 are of no use; NULL: they are */
    int only_kept_status;
};

/* A request whose messages have been published, until it is answered. */
struct publishing {
    struct evhttp_request *req;
    bool is_array, kept;
    size_t count;           /* published */
    size_t wanted;          /* more than that: the next one was refused */
    enum engine_result why; /* it was */
    struct published {
        uint64_t seq;
        unsigned workers;
    } item[];
};

/* ---- the answer ---- */

/* Messages have been refused; those before stand. */
static void reply_refused(const struct publishing *p, enum engine_result why, const char *others)
{
    int status = why == ENGINE_FULL || why == ENGINE_NO_SPACE ? 507 : 503;
    if (p->is_array)
        http_problem(p->req, status, NULL, "%s; of %zu messages %s", engine_result_text(why), p->wanted,
                     others);
    else
        http_problem(p->req, status, NULL, "%s", engine_result_text(why));
}

/* The first that was refused, when those before it have been published. */
static void reply_refused_after(const struct publishing *p)
{
    char others[64];
    snprintf(others, sizeof others, "the first %zu have been published", p->count);
    reply_refused(p, p->why, others);
}

static void reply_published(const struct publishing *p)
{
    struct evbuffer *body = evbuffer_new();
    CHECK(body);
    for (size_t i = 0; i < p->count; i++)
        evbuffer_add_printf(body, "%s{\"seq\":%llu,\"workers\":%u}",
                            i             ? ","
                            : p->is_array ? "["
                                          : "",
                            (unsigned long long)p->item[i].seq, p->item[i].workers);
    evbuffer_add_printf(body, p->is_array ? "]\n" : "\n");
    http_reply_buffer(p->req, 200, "application/json", body);
    evbuffer_free(body);
}

/* Whether a worker took at least one of the messages. */
static bool any_taken(const struct publishing *p)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->item[i].workers > 0)
            return true;
    return p->kept;
}

/* All that can be known is known: answers. */
static void finish(struct hub *h, void *arg, enum engine_result result)
{
    struct publishing *p = arg;
    (void)h;
    if (p->kept && result != ENGINE_OK)
        reply_refused(p, result, "none is kept, and those with qos 0 have been published");
    else if (p->count < p->wanted)
        reply_refused_after(p);
    else if (!any_taken(p))
        http_problem(p->req, 503, NULL, "no worker could take the message: their queues are full");
    else
        reply_published(p);
    free(p);
}

/* ---- the request ---- */

/* Publishes what has been read, up to the first that is refused; the answer comes when that is committed. */
static void publish_all(struct http_call *call, const struct api_message *messages, size_t n, bool is_array)
{
    struct publishing *p = xmalloc(sizeof *p + n * sizeof p->item[0]);
    *p = (struct publishing){.req = call->req, .is_array = is_array, .wanted = n};
    while (p->count < n) {
        struct published *item = &p->item[p->count];
        const struct hub_publication *out = &messages[p->count].out;
        item->seq = hub_publish(call->hub, out, &item->workers, &p->why);
        if (item->seq == 0)
            break;
        p->kept = p->kept || out->qos > 0 || out->retain;
        p->count++;
    }
    if (p->kept)
        hub_on_kept(call->hub, finish, p);
    else
        finish(call->hub, p, ENGINE_OK);
}

/* Whether somebody can get this message. */
static bool has_taker(const struct hub *h, const struct target *t, const struct api_message *m,
                      struct http_problem *problem)
{
    if (m->out.qos > 0)
        return true;
    if (t->only_kept)
        return http_problem_set(problem, t->only_kept_status, t->only_kept_status == 404 ? "id" : "", "%s",
                                t->only_kept);
    return h->attached > 0 || http_problem_set(problem, 503, "", "no worker is attached");
}

/* Reads all objects, publishes them if all are well, and answers. */
static void publish_document(struct http_call *call, json_t *doc, const struct target *t)
{
    bool is_array = json_is_array(doc);
    size_t n = is_array ? json_array_size(doc) : 1, read = 0;
    struct http_problem problem = {0};
    if (n == 0 || n > MAX_MESSAGES) {
        http_problem(call->req, 400, NULL, "expected 1 to %u messages in the array, not %zu", MAX_MESSAGES,
                     n);
        return;
    }
    struct api_message *messages = xcalloc(n, sizeof *messages);
    while (read < n && problem.status == 0) {
        struct api_message *m = &messages[read++];
        json_t *object = is_array ? json_array_get(doc, read - 1) : doc;
        if (api_message_read(m, call->hub->args->config, object, t->topic, is_array ? (long)read - 1 : -1,
                             &problem))
            has_taker(call->hub, t, m, &problem);
    }
    if (problem.status != 0)
        http_reply_problem(call->req, &problem);
    else
        publish_all(call, messages, n, is_array);
    while (read > 0)
        api_message_release(&messages[--read]);
    free(messages);
}

/* The whole of a publishing request. */
static void publish_request(struct http_call *call, const struct target *t)
{
    struct http_problem problem = {0};
    json_t *doc = http_read_json(call->req, &problem);
    if (!doc) {
        http_reply_problem(call->req, &problem);
        return;
    }
    publish_document(call, doc, t);
    json_decref(doc);
}

/* POST /v1/publish */
void api_publish(struct http_call *call)
{
    const struct target anybody = {.topic = NULL};
    publish_request(call, &anybody);
}

/* POST /v1/broadcast: to everybody, subscribed or not. */
void api_broadcast(struct http_call *call)
{
    const char *topic = call->hub->args->config->broadcast_topic;
    struct ipc_bytes bytes = {.data = topic, .len = (uint32_t)strlen(topic)};
    const struct target everybody = {.topic = &bytes};
    if (bytes.len == 0)
        http_problem(call->req, 404, NULL, "there is no broadcast channel: mqtt.broadcast_topic is empty");
    else
        publish_request(call, &everybody);
}

/* Whether the client, which is away, will get what is kept on its private channel. */
static bool is_stored(struct hub *h, const char *id, size_t len)
{
    struct hub_stored s;
    return h->args->config->implicit_qos > 0 && hub_stored_get(h, id, len, &s) &&
           !hub_stored_is_over(&s, clock_wall_ms());
}

/* Publishes on a client's own topic, if it is there or has a stored session. */
static void publish_to_client(struct http_call *call, const struct ipc_bytes *topic)
{
    struct engine_claim claim;
    struct target t = {.topic = topic};
    enum hub_presence presence = hub_find_client(call->hub, call->id, call->id_len, &claim);
    bool stored = presence != HUB_CONNECTED && is_stored(call->hub, call->id, call->id_len);
    if (presence == HUB_UNCERTAIN) {
        t.only_kept = "the hub is still learning who is connected";
        t.only_kept_status = 503;
    } else if (presence == HUB_NOT_CONNECTED) {
        t.only_kept = stored ? "client not connected; with qos 1 or 2 it gets the message later"
                             : "client not connected";
        t.only_kept_status = 404;
    }
    if (presence == HUB_CONNECTED || stored)
        publish_request(call, &t);
    else
        http_problem(call->req, t.only_kept_status, t.only_kept_status == 404 ? "id" : NULL, "%s",
                     t.only_kept);
}

/* POST /v1/clients/{id}/publish: to one client's private channel. It goes to all workers, as any message
 * does, so that whoever subscribed to the channel hears it too. */
void api_client_publish(struct http_call *call)
{
    const char *prefix = call->hub->args->config->clients_prefix;
    if (*prefix == 0) {
        http_problem(call->req, 404, NULL, "there are no private channels: mqtt.clients_prefix is empty");
        return;
    }
    size_t prefix_len = strlen(prefix), len = prefix_len + call->id_len;
    char *topic = xmalloc(len + 1);
    memcpy(topic, prefix, prefix_len);
    memcpy(topic + prefix_len, call->id, call->id_len);
    if (!mqtt_topic_name_valid(topic, len))
        http_problem(call->req, 400, "id", "mqtt.clients_prefix and this client id do not make a topic name");
    else
        publish_to_client(call, &(struct ipc_bytes){.data = topic, .len = (uint32_t)len});
    free(topic);
}
