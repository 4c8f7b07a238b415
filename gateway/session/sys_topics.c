/*
 * What the hub says about the gateway, "$SYS/...", as a worker holds it: the newest message of each topic.
 * Fed with every such message on its way to the fan-out, read by sessions that subscribe (catch_up.c), which
 * get it like a retained message. It is in no store: a worker that starts has none until the hub's next turn,
 * some seconds later.
 */
#include "gateway/session/sys_topics.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/message.h"
#include "gateway/base/xmalloc.h"
#include "proto/mqtt_topic.h"

#define SYS     "$SYS"
#define SYS_LEN 4

struct sys_topics {
    struct message *message[SYS_TOPICS_MAX];
    unsigned count;
};

bool sys_topics_concern(const char *filter, size_t len)
{
    return len >= SYS_LEN && memcmp(filter, SYS, SYS_LEN) == 0;
}

static bool has_topic(const struct message *m, const struct message *other)
{
    return m->topic_len == other->topic_len &&
           memcmp(message_topic(m), message_topic(other), m->topic_len) == 0;
}

void sys_topics_hold(struct sessions *s, struct message *m)
{
    unsigned i = 0;
    if (!s->sys_topics)
        s->sys_topics = xcalloc(1, sizeof *s->sys_topics);
    struct sys_topics *t = s->sys_topics;
    while (i < t->count && !has_topic(t->message[i], m))
        i++;
    if (i == SYS_TOPICS_MAX)
        return;
    if (i == t->count)
        t->count++;
    else
        message_unref(t->message[i]);
    t->message[i] = message_ref(m);
}

const struct message *sys_topics_next(const struct sessions *s, unsigned *at, const char *filter, size_t len)
{
    const struct sys_topics *t = s->sys_topics;
    for (; t && *at < t->count; ++*at)
        if (mqtt_topic_matches(filter, len, message_topic(t->message[*at]), t->message[*at]->topic_len))
            return t->message[*at];
    return NULL;
}

void sys_topics_free(struct sessions *s)
{
    for (unsigned i = 0; s->sys_topics && i < s->sys_topics->count; i++)
        message_unref(s->sys_topics->message[i]);
    free(s->sys_topics);
    s->sys_topics = NULL;
}
