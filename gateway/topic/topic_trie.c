/*
 * The trie of filters with wildcards. The topic tree puts a filter in when its first subscription comes and
 * takes it out after its last one; publishing walks it. It holds no subscriptions, only ids of topic records.
 *
 * A node finds its children through one hash index for the whole trie, keyed by (parent, level text), so a
 * node with 100,000 children is as good as one with two. The child for + has no text and hangs from its
 * parent directly.
 */
#include "gateway/topic/topic_trie.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/hash.h"
#include "gateway/base/hash_index.h"
#include "gateway/base/pool.h"
#include "gateway/base/strpool.h"
#include "gateway/base/xmalloc.h"

struct node {
    uint32_t parent;   /* 0: the root */
    uint32_t link;     /* of the hash index */
    uint32_t text;     /* strpool handle of the level; 0: + or the root */
    uint32_t children; /* those with a text */
    uint32_t plus;     /* the child for +; 0: none */
    uint32_t topic;    /* the filter that ends here; 0: none */
    uint32_t subtree;  /* the filter that ends here with /#; 0: none */
};

struct topic_trie {
    struct pool *nodes;
    struct hash_index *index;
    struct strpool *names; /* not ours */
    uint32_t root;
};

/* One level of a name or filter: text[start, end). */
struct level {
    const char *text;
    size_t start, end;
};

/* What the index looks for. */
struct child_key {
    uint32_t parent;
    const char *text;
    size_t len;
};

static inline struct node *node_at(const struct topic_trie *t, uint32_t id) { return pool_at(t->nodes, id); }

/* The hash of a child's key. Adding a multiple of the parent spreads equal texts over the buckets, and nobody
 * can aim with it without knowing the texts' keyed hashes. */
static uint64_t child_hash(uint32_t parent, const char *text, size_t len)
{
    return hash_bytes(text, len) + parent * UINT64_C(0x9e3779b97f4a7c15);
}

static uint32_t *node_link(void *ctx, uint32_t id)
{
    const struct topic_trie *t = ctx;
    return &node_at(t, id)->link;
}

static uint64_t node_hash(void *ctx, uint32_t id)
{
    const struct topic_trie *t = ctx;
    const struct node *n = node_at(t, id);
    size_t len;
    const char *text = strpool_get(t->names, n->text, &len);
    return child_hash(n->parent, text, len);
}

static bool node_equals(void *ctx, uint32_t id, const void *key, size_t key_len)
{
    const struct topic_trie *t = ctx;
    const struct child_key *k = key;
    const struct node *n = node_at(t, id);
    (void)key_len;
    return n->parent == k->parent && strpool_equals(t->names, n->text, k->text, k->len);
}

static const struct hash_index_ops node_ops = {.link = node_link, .hash = node_hash, .equals = node_equals};

/* A trie with nothing but its root. */
struct topic_trie *topic_trie_new(struct strpool *names, uint32_t max_nodes)
{
    struct topic_trie *t = xcalloc(1, sizeof *t);
    t->names = names;
    t->nodes = pool_new("topic_nodes", sizeof(struct node), max_nodes);
    t->index = hash_index_new(&node_ops, t, max_nodes);
    t->root = pool_alloc(t->nodes);
    CHECK(t->root != 0);
    return t;
}

/* Forgets everything; the texts go with the strpool. */
void topic_trie_free(struct topic_trie *t)
{
    if (!t)
        return;
    hash_index_free(t->index);
    pool_free(t->nodes);
    free(t);
}

/* The level that begins at `start`. */
static struct level level_at(const char *text, size_t len, size_t start)
{
    const char *slash = start < len ? memchr(text + start, '/', len - start) : NULL;
    return (struct level){.text = text, .start = start, .end = slash ? (size_t)(slash - text) : len};
}

/* Where the level begins whose successor begins at `next`. */
static size_t level_before(const char *text, size_t next)
{
    const char *slash = next > 1 ? memrchr(text, '/', next - 1) : NULL;
    return slash ? (size_t)(slash - text) + 1 : 0;
}

/* Whether the level is this one character. */
static bool level_is(struct level l, char c) { return l.end - l.start == 1 && l.text[l.start] == c; }

/* The child with this text, or 0. */
static uint32_t find_child(const struct topic_trie *t, uint32_t parent, struct level l)
{
    if (node_at(t, parent)->children == 0)
        return 0;
    struct child_key key = {.parent = parent, .text = l.text + l.start, .len = l.end - l.start};
    return hash_index_find(t->index, child_hash(parent, key.text, key.len), &key, sizeof key);
}

/* The child for a filter's level, or 0. */
static uint32_t step_down(const struct topic_trie *t, uint32_t parent, struct level l)
{
    return level_is(l, '+') ? node_at(t, parent)->plus : find_child(t, parent, l);
}

/* Makes the child for a filter's level. 0: no room. */
static uint32_t add_child(struct topic_trie *t, uint32_t parent, struct level l)
{
    uint32_t id = pool_alloc(t->nodes);
    if (!id)
        return 0;
    struct node *n = node_at(t, id);
    n->parent = parent;
    if (level_is(l, '+')) {
        node_at(t, parent)->plus = id;
        return id;
    }
    const char *text = l.text + l.start;
    size_t len = l.end - l.start;
    n->text = strpool_put(t->names, text, len);
    if (!n->text) {
        pool_release(t->nodes, id);
        return 0;
    }
    hash_index_insert(t->index, child_hash(parent, text, len), id);
    node_at(t, parent)->children++;
    return id;
}

/* Unhooks a node from its parent and frees it. */
static void drop_node(struct topic_trie *t, uint32_t id)
{
    struct node *n = node_at(t, id);
    struct node *parent = node_at(t, n->parent);
    if (n->text) {
        hash_index_remove(t->index, node_hash(t, id), id);
        strpool_release(t->names, n->text);
        parent->children--;
    } else {
        parent->plus = 0;
    }
    pool_release(t->nodes, id);
}

/* Whether anything needs the node. */
static bool node_needed(const struct node *n) { return n->children || n->plus || n->topic || n->subtree; }

/* From a node upwards, frees those that nothing needs. */
static void prune(struct topic_trie *t, uint32_t id)
{
    while (id != t->root && !node_needed(node_at(t, id))) {
        uint32_t parent = node_at(t, id)->parent;
        drop_node(t, id);
        id = parent;
    }
}

/* Where the topic of the filter is held: the walk down its levels, over which `step` may make nodes. NULL: it
 * could not go on; *last is the deepest node reached. */
static uint32_t *walk_filter(struct topic_trie *t, const char *filter, size_t len, bool make, uint32_t *last)
{
    *last = t->root;
    for (size_t at = 0; at <= len;) {
        struct level l = level_at(filter, len, at);
        if (level_is(l, '#'))
            return &node_at(t, *last)->subtree;
        uint32_t child = step_down(t, *last, l);
        if (!child && make)
            child = add_child(t, *last, l);
        if (!child)
            return NULL;
        *last = child;
        at = l.end + 1;
    }
    return &node_at(t, *last)->topic;
}

/* Makes the nodes that are missing; without room for all of them, undoes what it made. */
bool topic_trie_put(struct topic_trie *t, const char *filter, size_t len, uint32_t topic)
{
    uint32_t last;
    uint32_t *slot = walk_filter(t, filter, len, true, &last);
    if (!slot) {
        prune(t, last);
        return false;
    }
    CHECK(*slot == 0);
    *slot = topic;
    return true;
}

/* Clears the filter's place and prunes upwards from it. */
void topic_trie_remove(struct topic_trie *t, const char *filter, size_t len)
{
    uint32_t last;
    uint32_t *slot = walk_filter(t, filter, len, false, &last);
    CHECK(slot && *slot);
    *slot = 0;
    prune(t, last);
}

/* Where matching collects its results. */
struct found {
    uint32_t *out;
    size_t max, count;
};

/* Notes a topic, if there is one. */
static void note(struct found *f, uint32_t topic)
{
    if (!topic)
        return;
    if (f->count < f->max)
        f->out[f->count] = topic;
    f->count++;
}

/* The position of a walk: a node, and where the name's next level begins (len + 1: all levels are used up).
 */
struct walk {
    uint32_t node;
    size_t at;
};

/* Goes to a child that matches the next level, the one with its text before the one for +. */
static bool go_down(const struct topic_trie *t, struct walk *w, struct level l, bool plus_allowed)
{
    uint32_t child = find_child(t, w->node, l);
    if (!child && plus_allowed)
        child = node_at(t, w->node)->plus;
    if (!child)
        return false;
    w->node = child;
    w->at = l.end + 1;
    return true;
}

/* Goes back up to the first node whose child for + was not tried yet, and into that. False: there is none. */
static bool go_back(const struct topic_trie *t, struct walk *w, const char *name, bool dollar)
{
    while (w->node != t->root) {
        uint32_t parent = node_at(t, w->node)->parent;
        uint32_t plus = node_at(t, parent)->plus;
        if (plus && plus != w->node && !(dollar && parent == t->root)) {
            w->node = plus;
            return true;
        }
        w->at = level_before(name, w->at);
        w->node = parent;
    }
    return false;
}

/* Depth first, with the way back read from the nodes and the name. [MQTT-4.7.2-1]: neither + nor # at the
 * first level matches a name that begins with $. */
size_t topic_trie_match(const struct topic_trie *t, const char *name, size_t len, uint32_t *out, size_t max)
{
    struct found found = {.out = out, .max = max};
    struct walk w = {.node = t->root};
    bool dollar = len > 0 && name[0] == '$', down;
    do {
        const struct node *n = node_at(t, w.node);
        bool hidden = dollar && w.node == t->root;
        if (!hidden)
            note(&found, n->subtree);
        if (w.at > len)
            note(&found, n->topic);
        down = w.at <= len && go_down(t, &w, level_at(name, len, w.at), !hidden);
    } while (down || go_back(t, &w, name, dollar));
    return found.count;
}

/* All but the root. */
uint32_t topic_trie_nodes(const struct topic_trie *t) { return pool_count(t->nodes) - 1; }
