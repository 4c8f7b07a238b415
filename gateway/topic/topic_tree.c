/*
 * The topic tree of a worker. SUBSCRIBE, UNSUBSCRIBE and the end of a session write it; fan-out reads it
 * through topic_tree_match() and cursors. It knows neither sessions nor messages.
 *
 * Every filter that has subscriptions is a 16-byte topic record, found by its text through one hash index,
 * wildcards included: a topic name never has a + or #, so a name finds only the filter that equals it.
 * Filters with wildcards are in the trie as well, which is asked only when something is published.
 *
 * Subscription Identifiers, which few clients use, are no part of the 20-byte record: they lie beside the
 * pool, four bytes for each record of it, in memory that is not there before the first one comes.
 *
 * Why a cursor stays right while the list under it changes: the list changes in two ways only. A new
 * subscription goes in at the head, before everything a cursor has yet to visit, so it is never met. A
 * subscription that goes is unlinked; the cursors whose next one it is move on to its successor, so no
 * cursor ever holds the id of a record that is gone, however soon that id is handed out again. A topic record
 * stays while a cursor is on it, empty or not, so its id stays its own too.
 */
#include "gateway/topic/topic_tree.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/hash.h"
#include "gateway/base/hash_index.h"
#include "gateway/base/pool.h"
#include "gateway/base/region.h"
#include "gateway/base/strpool.h"
#include "gateway/base/xmalloc.h"
#include "gateway/topic/topic_trie.h"
#include "proto/mqtt_topic.h"

#define TOPIC_BITS     26
#define MAX_TOPICS     ((UINT32_C(1) << TOPIC_BITS) - 1)
#define SUBS_BITS      30
#define CURSOR_BUCKETS 64

struct sub {
    uint32_t topic_next, topic_prev; /* the topic's list */
    uint32_t session_next;           /* the session's list */
    uint32_t session;
    uint32_t topic : TOPIC_BITS;
    uint32_t options : SUB_IDENTIFIER_SHIFT;
    uint32_t identified : 1; /* has a Subscription Identifier, in topic_tree.identifiers */
};
_Static_assert(sizeof(struct sub) == 20, "what every subscription pays");

struct topic {
    uint32_t name; /* strpool handle of the filter */
    uint32_t link; /* of the hash index */
    uint32_t head; /* of the list of subscriptions */
    uint32_t subs : SUBS_BITS;
    uint32_t wildcard : 1; /* is in the trie too */
    uint32_t walked : 1;   /* has an open cursor: stays although empty */
};

struct topic_tree {
    struct pool *subs, *topics;
    struct region identifiers; /* uint32_t by the id in subs; valid where sub.identified */
    uint32_t identified;       /* subscriptions that have one */
    struct strpool *names;
    struct hash_index *index;
    struct topic_trie *trie;
    struct topic_cursor *open[CURSOR_BUCKETS]; /* open cursors, by topic */
};

static inline struct sub *sub_at(const struct topic_tree *t, uint32_t id) { return pool_at(t->subs, id); }
static inline struct topic *topic_at(const struct topic_tree *t, uint32_t id)
{
    return pool_at(t->topics, id);
}

/* Where a subscription's identifier lies, if it has one. */
static inline uint32_t *identifier_at(const struct topic_tree *t, uint32_t id)
{
    return (uint32_t *)(void *)t->identifiers.base + id;
}

/* What the subscription asks for. */
static inline sub_options options_of(const struct topic_tree *t, const struct sub *s, uint32_t id)
{
    return s->options | (s->identified ? *identifier_at(t, id) << SUB_IDENTIFIER_SHIFT : 0);
}

static uint32_t *topic_link(void *ctx, uint32_t id)
{
    const struct topic_tree *t = ctx;
    return &topic_at(t, id)->link;
}

static uint64_t topic_hash(void *ctx, uint32_t id)
{
    const struct topic_tree *t = ctx;
    size_t len;
    const char *name = strpool_get(t->names, topic_at(t, id)->name, &len);
    return hash_bytes(name, len);
}

static bool topic_equals(void *ctx, uint32_t id, const void *key, size_t key_len)
{
    const struct topic_tree *t = ctx;
    return strpool_equals(t->names, topic_at(t, id)->name, key, key_len);
}

static const struct hash_index_ops topic_ops = {
    .link = topic_link, .hash = topic_hash, .equals = topic_equals};

/* An empty tree. Topic ids share a word with the options, hence the bound. The trie may have four nodes per
 * subscription on average; beyond that, filters are refused. */
struct topic_tree *topic_tree_new(uint32_t max_subscriptions)
{
    CHECK(max_subscriptions < UINT32_C(1) << SUBS_BITS);
    struct topic_tree *t = xcalloc(1, sizeof *t);
    uint32_t max_topics = max_subscriptions < MAX_TOPICS ? max_subscriptions : MAX_TOPICS;
    uint32_t max_nodes = max_topics * 4 + 65536;
    t->subs = pool_new("subscriptions", sizeof(struct sub), max_subscriptions);
    t->topics = pool_new("topics", sizeof(struct topic), max_topics);
    region_reserve(&t->identifiers, ((size_t)max_subscriptions + 1) * sizeof(uint32_t));
    t->names = strpool_new("topic_names", max_nodes);
    t->index = hash_index_new(&topic_ops, t, max_topics);
    t->trie = topic_trie_new(t->names, max_nodes);
    return t;
}

/* Frees it with everything in it; there is no open cursor. */
void topic_tree_free(struct topic_tree *t)
{
    if (!t)
        return;
    topic_trie_free(t->trie);
    hash_index_free(t->index);
    strpool_free(t->names);
    region_free(&t->identifiers);
    pool_free(t->topics);
    pool_free(t->subs);
    free(t);
}

/* Whether a valid filter has wildcards: + and # stand nowhere else. */
static bool has_wildcard(const char *filter, size_t len)
{
    return memchr(filter, '+', len) || memchr(filter, '#', len);
}

/* Makes the record for a filter that has none. 0: no room. */
static uint32_t add_topic(struct topic_tree *t, uint64_t hash, const char *filter, size_t len)
{
    uint32_t id = pool_alloc(t->topics);
    if (!id)
        return 0;
    struct topic *topic = topic_at(t, id);
    topic->wildcard = has_wildcard(filter, len);
    topic->name = strpool_put(t->names, filter, len);
    if (topic->name && (!topic->wildcard || topic_trie_put(t->trie, filter, len, id))) {
        hash_index_insert(t->index, hash, id);
        return id;
    }
    if (topic->name)
        strpool_release(t->names, topic->name);
    pool_release(t->topics, id);
    return 0;
}

/* Frees a topic record that has no subscriptions and no cursors. */
static void drop_topic(struct topic_tree *t, uint32_t id)
{
    struct topic *topic = topic_at(t, id);
    size_t len;
    const char *filter = strpool_get(t->names, topic->name, &len);
    hash_index_remove(t->index, hash_bytes(filter, len), id);
    if (topic->wildcard)
        topic_trie_remove(t->trie, filter, len);
    strpool_release(t->names, topic->name);
    pool_release(t->topics, id);
}

/* Frees it if nothing needs it. */
static void drop_topic_if_unused(struct topic_tree *t, uint32_t id)
{
    const struct topic *topic = topic_at(t, id);
    if (topic->subs == 0 && !topic->walked)
        drop_topic(t, id);
}

/* The session's subscription to a topic, or 0. Walks the topic's list and the session's side by side, so it
 * costs the length of the shorter one. */
static uint32_t find_sub(const struct topic_tree *t, sub_list list, uint32_t session, uint32_t topic)
{
    uint32_t a = topic_at(t, topic)->head, b = list;
    while (a && b) {
        const struct sub *of_topic = sub_at(t, a), *of_session = sub_at(t, b);
        if (of_topic->session == session)
            return a;
        if (of_session->topic == topic)
            return b;
        a = of_topic->topic_next;
        b = of_session->session_next;
    }
    return 0;
}

bool topic_tree_get(const struct topic_tree *t, sub_list list, uint32_t session, const char *filter,
                    size_t len, sub_options *options)
{
    uint32_t topic = hash_index_find(t->index, hash_bytes(filter, len), filter, len);
    uint32_t id = topic ? find_sub(t, list, session, topic) : 0;
    if (id)
        *options = options_of(t, sub_at(t, id), id);
    return id != 0;
}

bool topic_tree_has(const struct topic_tree *t, sub_list list, uint32_t session, const char *filter,
                    size_t len)
{
    sub_options ignored;
    return topic_tree_get(t, list, session, filter, len, &ignored);
}

/* Forgets a subscription's identifier. When it was the last one, their memory goes too. */
static void forget_identifier(struct topic_tree *t, struct sub *s)
{
    t->identified -= s->identified;
    if (s->identified && t->identified == 0)
        region_give_back(&t->identifiers, 0, t->identifiers.open);
    s->identified = false;
}

/* Writes down what a subscription asks for. False: no memory for its identifier, and nothing has changed. */
static bool set_options(struct topic_tree *t, uint32_t id, sub_options options)
{
    struct sub *s = sub_at(t, id);
    uint32_t identifier = options >> SUB_IDENTIFIER_SHIFT;
    if (identifier && !region_open(&t->identifiers, ((size_t)id + 1) * sizeof(uint32_t)))
        return false;
    s->options = options & ((1u << SUB_IDENTIFIER_SHIFT) - 1);
    if (identifier) {
        *identifier_at(t, id) = identifier;
        t->identified += !s->identified;
        s->identified = true;
    } else {
        forget_identifier(t, s);
    }
    return true;
}

/* Puts a new record at the head of both lists. */
static void link_sub(struct topic_tree *t, sub_list *list, uint32_t id)
{
    struct sub *s = sub_at(t, id);
    struct topic *topic = topic_at(t, s->topic);
    s->session_next = *list;
    *list = id;
    s->topic_next = topic->head;
    if (s->topic_next)
        sub_at(t, s->topic_next)->topic_prev = id;
    topic->head = id;
    topic->subs++;
}

/* Subscribes, making the topic record if this is its first subscription. */
enum subscribe_result topic_tree_subscribe(struct topic_tree *t, sub_list *list, uint32_t session,
                                           const char *filter, size_t len, sub_options options)
{
    uint64_t hash = hash_bytes(filter, len);
    uint32_t topic = hash_index_find(t->index, hash, filter, len);
    uint32_t id = topic ? find_sub(t, *list, session, topic) : 0;
    if (id)
        return set_options(t, id, options) ? SUBSCRIBE_REPLACED : SUBSCRIBE_NO_ROOM;
    if (!topic)
        topic = add_topic(t, hash, filter, len);
    if (!topic)
        return SUBSCRIBE_NO_ROOM;
    id = pool_alloc(t->subs);
    if (!id || !set_options(t, id, options)) {
        if (id)
            pool_release(t->subs, id);
        drop_topic_if_unused(t, topic);
        return SUBSCRIBE_NO_ROOM;
    }
    struct sub *s = sub_at(t, id);
    s->session = session;
    s->topic = topic;
    link_sub(t, list, id);
    return SUBSCRIBE_NEW;
}

/* The open cursors among which those of the topic are. */
static inline struct topic_cursor **cursors_of(struct topic_tree *t, uint32_t topic)
{
    return &t->open[topic % CURSOR_BUCKETS];
}

/* Moves the cursors that would visit this subscription next on to the one after it. */
static void pass_cursors(struct topic_tree *t, uint32_t topic, uint32_t id)
{
    for (struct topic_cursor *c = *cursors_of(t, topic); c; c = c->next_open)
        if (c->topic == topic && c->sub == id)
            c->sub = sub_at(t, id)->topic_next;
}

/* Takes a subscription out of its topic's list and frees it, and the topic with the last one. The session's
 * list is the caller's to mend. */
static void drop_sub(struct topic_tree *t, uint32_t id)
{
    struct sub *s = sub_at(t, id);
    uint32_t topic_id = s->topic;
    struct topic *topic = topic_at(t, topic_id);
    if (topic->walked)
        pass_cursors(t, topic_id, id);
    if (s->topic_next)
        sub_at(t, s->topic_next)->topic_prev = s->topic_prev;
    if (s->topic_prev)
        sub_at(t, s->topic_prev)->topic_next = s->topic_next;
    else
        topic->head = s->topic_next;
    topic->subs--;
    forget_identifier(t, s);
    pool_release(t->subs, id);
    drop_topic_if_unused(t, topic_id);
}

/* Finds it in the session's list, which is the one that must be mended from the front. */
bool topic_tree_unsubscribe(struct topic_tree *t, sub_list *list, const char *filter, size_t len)
{
    uint32_t topic = hash_index_find(t->index, hash_bytes(filter, len), filter, len);
    if (!topic)
        return false;
    uint32_t *at = list;
    while (*at && sub_at(t, *at)->topic != topic)
        at = &sub_at(t, *at)->session_next;
    uint32_t id = *at;
    if (!id)
        return false;
    *at = sub_at(t, id)->session_next;
    drop_sub(t, id);
    return true;
}

/* Empties a session's list. */
void topic_tree_unsubscribe_all(struct topic_tree *t, sub_list *list)
{
    while (*list) {
        uint32_t id = *list;
        *list = sub_at(t, id)->session_next;
        drop_sub(t, id);
    }
}

/* Shows a session's filters, the newest first. */
void topic_tree_each(const struct topic_tree *t, sub_list list,
                     bool (*fn)(void *ctx, const char *filter, size_t len, sub_options options), void *ctx)
{
    for (uint32_t id = list; id;) {
        const struct sub *s = sub_at(t, id);
        sub_options options = options_of(t, s, id);
        size_t len;
        const char *filter = strpool_get(t->names, topic_at(t, s->topic)->name, &len);
        id = s->session_next;
        if (!fn(ctx, filter, len, options))
            return;
    }
}

/* Whether the topic is one of these. */
static bool is_among(uint32_t topic, const uint32_t *topics, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (topics[i] == topic)
            return true;
    return false;
}

/* Walks the session's list: a session has few, a topic may have all. */
size_t topic_tree_overlaps(const struct topic_tree *t, sub_list list, const uint32_t *topics, size_t count,
                           sub_options *out, size_t max)
{
    size_t n = 0;
    for (uint32_t id = list; id; id = sub_at(t, id)->session_next) {
        const struct sub *s = sub_at(t, id);
        if (!is_among(s->topic, topics, count))
            continue;
        if (n < max)
            out[n] = options_of(t, s, id);
        n++;
    }
    return n;
}

/* Asks neither hash nor trie: they would give what others subscribed to as well. */
size_t topic_tree_session_match(const struct topic_tree *t, sub_list list, const char *name, size_t len,
                                sub_options *out, size_t max)
{
    size_t n = 0;
    for (uint32_t id = list; id; id = sub_at(t, id)->session_next) {
        const struct sub *s = sub_at(t, id);
        size_t filter_len;
        const char *filter = strpool_get(t->names, topic_at(t, s->topic)->name, &filter_len);
        if (!mqtt_topic_matches(filter, filter_len, name, len))
            continue;
        if (n < max)
            out[n] = options_of(t, s, id);
        n++;
    }
    return n;
}

/* Counts a session's subscriptions. */
uint32_t topic_tree_count(const struct topic_tree *t, sub_list list)
{
    uint32_t n = 0;
    for (uint32_t id = list; id; id = sub_at(t, id)->session_next)
        n++;
    return n;
}

/* The filter that equals the name, then those of the trie. */
size_t topic_tree_match(const struct topic_tree *t, const char *name, size_t len, uint32_t *out, size_t max)
{
    size_t n = 0;
    uint32_t exact = hash_index_find(t->index, hash_bytes(name, len), name, len);
    if (exact) {
        if (max > 0)
            out[0] = exact;
        n = 1;
    }
    size_t used = n < max ? n : max;
    return n + topic_trie_match(t->trie, name, len, out + used, max - used);
}

/* Plain readings. */
uint32_t topic_tree_subscribers(const struct topic_tree *t, uint32_t topic)
{
    return topic_at(t, topic)->subs;
}
uint32_t topic_tree_topics(const struct topic_tree *t) { return pool_count(t->topics); }
uint32_t topic_tree_subscriptions(const struct topic_tree *t) { return pool_count(t->subs); }

/* Starts at the head as it is now. */
void topic_cursor_open(struct topic_tree *t, struct topic_cursor *c, uint32_t topic)
{
    struct topic_cursor **open = cursors_of(t, topic);
    struct topic *record = topic_at(t, topic);
    *c = (struct topic_cursor){.next_open = *open, .topic = topic, .sub = record->head};
    *open = c;
    record->walked = true;
}

/* Gives the next subscription and steps past it, so that it may go away at once. */
bool topic_cursor_next(struct topic_tree *t, struct topic_cursor *c, uint32_t *session, sub_options *options)
{
    if (!c->sub)
        return false;
    const struct sub *s = sub_at(t, c->sub);
    *session = s->session;
    *options = options_of(t, s, c->sub);
    c->sub = s->topic_next;
    return true;
}

/* Takes the cursor off the open ones; the last one of a topic lets an empty record go. */
void topic_cursor_close(struct topic_tree *t, struct topic_cursor *c)
{
    struct topic_cursor **at = cursors_of(t, c->topic);
    bool others = false;
    while (*at) {
        if (*at == c) {
            *at = c->next_open;
            continue;
        }
        others |= (*at)->topic == c->topic;
        at = &(*at)->next_open;
    }
    topic_at(t, c->topic)->walked = others;
    drop_topic_if_unused(t, c->topic);
}
