/*
 * Topic aliases (MQTT 5.0 section 3.3.2.3.4): short numbers for topics, both ways, for the time of a
 * connection. Only clients that use them have the tables.
 *
 * Towards the client the first topics get the aliases and keep them: a connection nearly always hears few
 * topics, or so many that no alias would help.
 */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/xmalloc.h"
#include "gateway/session/publish.h"

struct alias_topic {
    char *text; /* NULL: not given out */
    uint16_t len;
};

struct alias_tables {
    struct alias_topic *in, *out; /* in[i] is alias i + 1 */
    uint16_t ins, outs, given;    /* room; aliases given out to the client */
};

/* The tables, made if there are none; NULL: no room. */
static struct alias_tables *need_tables(struct sessions *s, struct session *ses)
{
    struct session_rare *rare = session_need_rare(s, ses);
    if (rare && !rare->aliases)
        rare->aliases = xcalloc(1, sizeof *rare->aliases);
    return rare ? rare->aliases : NULL;
}

bool alias_begin(struct sessions *s, struct session *ses, uint16_t client_maximum)
{
    uint32_t ours = s->config->max_topic_alias;
    struct alias_tables *t = client_maximum && ours ? need_tables(s, ses) : NULL;
    if (!t)
        return !client_maximum || !ours;
    t->outs = client_maximum < ours ? client_maximum : (uint16_t)ours;
    t->out = xcalloc(t->outs, sizeof *t->out);
    return true;
}

void alias_free(struct alias_tables *t)
{
    if (!t)
        return;
    for (unsigned i = 0; t->in && i < t->ins; i++)
        free(t->in[i].text);
    for (unsigned i = 0; i < t->given; i++)
        free(t->out[i].text);
    free(t->in);
    free(t->out);
    free(t);
}

static void set_topic(struct alias_topic *a, const char *text, size_t len)
{
    char *copy = xmalloc(len + 1);
    memcpy(copy, text, len);
    free(a->text);
    a->text = copy;
    a->len = (uint16_t)len;
}

bool alias_wanted(const struct sessions *s, const struct session *ses)
{
    const struct session_rare *rare = session_rare(s, ses);
    return rare && rare->aliases && rare->aliases->outs;
}

uint16_t alias_outgoing(struct sessions *s, struct session *ses, const char *topic, size_t len, bool *is_new)
{
    struct alias_tables *t = session_rare(s, ses)->aliases;
    for (uint16_t i = 0; i < t->given; i++)
        if (t->out[i].len == len && memcmp(t->out[i].text, topic, len) == 0)
            return (uint16_t)(i + 1);
    /* What waits behind other output could still be dropped, and the alias would then never be told. */
    if (t->given == t->outs || net_pending(s->net, ses->conn))
        return 0;
    *is_new = true;
    return (uint16_t)(t->given + 1);
}

void alias_told(struct sessions *s, struct session *ses, const char *topic, size_t len)
{
    struct alias_tables *t = session_rare(s, ses)->aliases;
    set_topic(&t->out[t->given++], topic, len);
}

/* The table of what the client has named, made when it first does. */
static struct alias_tables *incoming_table(struct sessions *s, struct session *ses)
{
    struct alias_tables *t = need_tables(s, ses);
    if (t && !t->in) {
        t->ins = (uint16_t)s->config->max_topic_alias;
        t->in = xcalloc(t->ins, sizeof *t->in);
    }
    return t;
}

bool alias_incoming(struct sessions *s, struct session *ses, struct mqtt_publish *p)
{
    uint32_t alias = p->props.value[MQTT_P_TOPIC_ALIAS].num;
    if (!alias || alias > s->config->max_topic_alias)
        return false;
    struct alias_tables *t = incoming_table(s, ses);
    if (!t)
        return false;
    struct alias_topic *a = &t->in[alias - 1];
    if (p->topic.len)
        set_topic(a, p->topic.data, p->topic.len);
    if (!a->text)
        return false;
    p->topic = (struct mqtt_bytes){.data = a->text, .len = a->len};
    return true;
}
