/*
 * Reasons in words, for clients of 5.0: Reason Strings in packets that say no. A reason is left out where it
 * would make the packet larger than the client takes ([MQTT-3.2.2-19], [MQTT-3.4.2-2], [MQTT-3.5.2-2],
 * [MQTT-3.14.2-3]) and where the client has asked for none.
 */
#include <string.h>

#include "gateway/session/session_internal.h"

void reason_add(struct mqtt_packet *p, struct mqtt_props *props, const char *text, uint32_t max_packet)
{
    uint32_t before = props->present;
    mqtt_props_set_bytes(props, MQTT_P_REASON_STRING, text, strlen(text));
    if (max_packet && mqtt_encode(p, MQTT_V5, NULL, 0) > max_packet)
        props->present = before;
}

void reason_tell(const struct sessions *s, uint32_t id, struct mqtt_packet *p, struct mqtt_props *props,
                 const char *text)
{
    const struct session_extra *extra = session_extra(s, session_at(s, id));
    const struct session_rare *rare = session_rare(s, session_at(s, id));
    if (!(extra && extra->flags & EXTRA_NO_REASONS))
        reason_add(p, props, text, rare ? rare->max_packet : 0);
}
