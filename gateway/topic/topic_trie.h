/*
 * The filters with wildcards, as a trie of their levels; inside the topic tree only.
 *
 *      root ── "sport" ── + ── "score"         a node per level; `topic` set where a filter ends
 *        │         └─ (#)                      a last level # is no node, but a second topic in its parent
 *        └─ + ── "temp"
 *
 * A name is matched by walking down every node whose path matches its first levels and back up again: no
 * recursion, no stack and no allocation, however many levels a client chooses. The work is one hash
 * look-up per node met, and every node met is part of some subscribed filter: at most (levels of the name) x
 * (filters whose first levels match).
 */
#ifndef HOLDFAST_TOPIC_TRIE_H
#define HOLDFAST_TOPIC_TRIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct strpool;
struct topic_trie;

/* Level texts are kept in `names`, which must outlive the trie. */
struct topic_trie *topic_trie_new(struct strpool *names, uint32_t max_nodes);
void topic_trie_free(struct topic_trie *t);

/* Puts a filter in that is not there yet. False: no room, and nothing has changed. */
bool topic_trie_put(struct topic_trie *t, const char *filter, size_t len, uint32_t topic)
    __attribute__((warn_unused_result));

/* Takes a filter out that is there, and the nodes that only it needed. */
void topic_trie_remove(struct topic_trie *t, const char *filter, size_t len);

/* Writes the topics of matching filters to out, up to max; returns how many there are in all. */
size_t topic_trie_match(const struct topic_trie *t, const char *name, size_t len, uint32_t *out, size_t max);

/* Nodes besides the root; 0 when there is no filter. */
uint32_t topic_trie_nodes(const struct topic_trie *t);

#endif
