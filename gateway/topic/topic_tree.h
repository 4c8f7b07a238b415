/*
 * A worker's map from topic filters to subscriptions.
 *
 * Filters without wildcards ("exact topics") are found through a hash; those with + or # through a trie of
 * levels. Either way a filter that has subscriptions is one `topic` record, and each subscription one 20-byte
 * record in two intrusive lists:
 *
 *      topic "news"  ──> sub ──> sub ──> sub        (doubly linked: leaving must not walk 15,000 others)
 *                         │       │       │
 *      session 7     ─────┘       │       │         (singly linked: a session has few)
 *      session 9     ─────────────┘       │
 *
 * New subscriptions go to the head of the topic's list. Knows sessions as opaque ids with one link. Filters
 * and names must be valid (proto/mqtt_topic.h) before they come here. MQTT 5.0 section 4.7; [MQTT-4.7.2-1]:
 * wildcards at the first level do not match `$...`.
 */
#ifndef HOLDFAST_TOPIC_TREE_H
#define HOLDFAST_TOPIC_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct topic_tree;

/* A session's view of the tree: the head of its list of subscriptions. All zero: none. Lives in the session's
 * record. */
typedef uint32_t sub_list;

/* max_subscriptions and so topics for the whole worker. */
struct topic_tree *topic_tree_new(uint32_t max_subscriptions);
void topic_tree_free(struct topic_tree *t);

enum subscribe_result { SUBSCRIBE_NEW, SUBSCRIBE_REPLACED, SUBSCRIBE_NO_ROOM };

/*
 * What a subscription asks for: bits 0-1 maximum QoS, 2 No Local, 3 Retain As Published (as in MQTT 5.0
 * section 3.8.3.1; Retain Handling has done its work at the SUBSCRIBE), above them the Subscription
 * Identifier (at most 268,435,455; 0: none).
 */
typedef uint32_t sub_options;
#define SUB_QOS                 0x3u
#define SUB_NO_LOCAL            0x4u
#define SUB_RETAIN_AS_PUBLISHED 0x8u
#define SUB_IDENTIFIER_SHIFT    4
static inline sub_options sub_options_make(uint8_t packet_options, uint32_t identifier)
{
    return (packet_options & 0xFu) | identifier << SUB_IDENTIFIER_SHIFT;
}

/*
 * Subscribes `session`, whose list is *list, to the filter. An existing subscription to the same filter gets
 * the new options.
 */
enum subscribe_result topic_tree_subscribe(struct topic_tree *t, sub_list *list, uint32_t session,
                                           const char *filter, size_t len, sub_options options)
    __attribute__((warn_unused_result));

/* Whether the session has a subscription to this very filter. */
bool topic_tree_has(const struct topic_tree *t, sub_list list, uint32_t session, const char *filter,
                    size_t len);
/* The same, and its options. */
bool topic_tree_get(const struct topic_tree *t, sub_list list, uint32_t session, const char *filter,
                    size_t len, sub_options *options);

/* False: there was no such subscription. */
bool topic_tree_unsubscribe(struct topic_tree *t, sub_list *list, const char *filter, size_t len);

/* All subscriptions of a session that ends; *list becomes 0. */
void topic_tree_unsubscribe_all(struct topic_tree *t, sub_list *list);

/* Calls fn with each filter (valid during the call) of a session until it returns false. */
void topic_tree_each(const struct topic_tree *t, sub_list list,
                     bool (*fn)(void *ctx, const char *filter, size_t len, sub_options options), void *ctx);
/*
 * The options of a session's subscriptions to any of these topic records, up to max of them in out; returns
 * how many there are in all. For a message that matches more than one filter: the standard wants the greatest
 * QoS and all identifiers of them ([MQTT-3.3.4-2], [MQTT-3.3.4-3]).
 */
size_t topic_tree_overlaps(const struct topic_tree *t, sub_list list, const uint32_t *topics, size_t count,
                           sub_options *out, size_t max);
/*
 * The same for all subscriptions of the session whose filter matches a topic name: what one session asks of a
 * message that did not come by the fan-out. Reads its filters one by one.
 */
size_t topic_tree_session_match(const struct topic_tree *t, sub_list list, const char *name, size_t len,
                                sub_options *out, size_t max);
uint32_t topic_tree_count(const struct topic_tree *t, sub_list list);

/*
 * The ids of all topic records whose filter matches the name, up to max of them in out; returns how many
 * there are in all (which may be more than max). The exact one comes first.
 */
size_t topic_tree_match(const struct topic_tree *t, const char *name, size_t len, uint32_t *out, size_t max);

/* Number of subscriptions of a topic record. */
uint32_t topic_tree_subscribers(const struct topic_tree *t, uint32_t topic);

uint32_t topic_tree_topics(const struct topic_tree *t);
uint32_t topic_tree_subscriptions(const struct topic_tree *t);

/*
 * A walk over a topic record's subscriptions that stays right while subscriptions come and go between steps:
 * those that were there at the start and still are get visited once; those that came later are not. A topic
 * record is kept while a cursor is on it.
 */
struct topic_cursor {
    struct topic_cursor *next_open; /* all open cursors of the tree */
    uint32_t topic;
    uint32_t sub; /* the next one to visit; 0: at the end */
};
void topic_cursor_open(struct topic_tree *t, struct topic_cursor *c, uint32_t topic);
/* The next subscription's session and options; false at the end. */
bool topic_cursor_next(struct topic_tree *t, struct topic_cursor *c, uint32_t *session, sub_options *options);
void topic_cursor_close(struct topic_tree *t, struct topic_cursor *c);

#endif
