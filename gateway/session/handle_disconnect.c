/*
 * DISCONNECT from a client: the will is discarded, unless a 5.0 client asks for it ([MQTT-3.14.4-3],
 * section 3.14.2.1).
 */
#include "gateway/session/session_internal.h"

void handle_disconnect(struct sessions *s, uint32_t conn)
{
    const struct conn *c = net_conn(s->net, conn);
    bool with_will = c->protocol == MQTT_V5 && s->packet.u.disconnect.code == MQTT_RC_DISCONNECT_WITH_WILL;
    net_close(s->net, conn, with_will ? CLOSE_CLIENT_DISCONNECT_WILL : CLOSE_CLIENT_DISCONNECT);
}
