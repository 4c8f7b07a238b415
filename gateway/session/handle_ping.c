/*
 * PINGREQ: the heartbeat. The driver has noted the time already; all that is left is the answer (MQTT 5.0
 * section 3.12, [MQTT-3.12.4-1]).
 */
#include "gateway/base/counters.h"
#include "gateway/session/session_internal.h"

void handle_pingreq(struct sessions *s, uint32_t conn)
{
    static const unsigned char pingresp[2] = {MQTT_PINGRESP << 4, 0};
    counter_add(COUNTER_HEARTBEATS, 1);
    net_send(s->net, conn, pingresp, sizeof pingresp);
}
