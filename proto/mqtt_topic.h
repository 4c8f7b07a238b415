/*
 * Topic names and filters (MQTT 5.0 section 4.7; 3.1.1 section 4.7).
 */
#ifndef HOLDFAST_PROTO_MQTT_TOPIC_H
#define HOLDFAST_PROTO_MQTT_TOPIC_H

#include <stdbool.h>
#include <stddef.h>

/* Well-formed UTF-8 (RFC 3629) without U+0000 and without surrogates ([MQTT-1.5.4-1], [MQTT-1.5.4-2]). */
bool mqtt_utf8_valid(const char *s, size_t len);

/* A topic name: 1 to 65535 bytes of valid UTF-8, no + and no # ([MQTT-3.3.2-2], [MQTT-4.7.3-1], -2). */
bool mqtt_topic_name_valid(const char *s, size_t len);

/* A topic filter: + alone in its level, # alone in the last one ([MQTT-4.7.1-1], -2, -3). */
bool mqtt_topic_filter_valid(const char *s, size_t len);

/* Whether a valid filter has + or #. */
bool mqtt_topic_has_wildcard(const char *s, size_t len);

/* Number of levels: 1 more than the number of '/'. */
unsigned mqtt_topic_levels(const char *s, size_t len);

/* Whether a name matches a filter ([MQTT-4.7.2-1] for names that begin with $). The plain definition, for
 * tests and small uses. */
bool mqtt_topic_matches(const char *filter, size_t filter_len, const char *name, size_t name_len);

/* Whether the filter begins with "$share/" (MQTT 5.0 section 4.8.2). */
bool mqtt_topic_is_shared(const char *s, size_t len);

/* Whether a topic name is the server's own to publish to: "$SYS/...", "$share/..." (section 4.7.2). */
bool mqtt_topic_is_reserved(const char *s, size_t len);

/* Where the topic filter of "$share/name/filter" begins; 0: it is no shared subscription, or one without a
 * proper name or filter ([MQTT-4.8.2-1], -2). The filter itself is not checked. */
size_t mqtt_topic_share_filter(const char *s, size_t len);

#endif
