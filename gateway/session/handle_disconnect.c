/*
 * DISCONNECT from a client: the will is discarded, unless a 5.0 client asks for it ([MQTT-3.14.4-3],
 * section 3.14.2.1). It may also say anew how long its session is to outlive the connection.
 */
#include "gateway/session/session_internal.h"

/* Takes the Session Expiry Interval over. False: it may not be given ([MQTT-3.1.2-23], section 3.14.2.2.2).
 */
static bool take_expiry(const struct sessions *s, const struct session *ses, const struct mqtt_props *props)
{
    struct session_extra *extra = session_extra(s, ses);
    uint32_t cap = s->config->max_session_expiry_s;
    if (!mqtt_has(props, MQTT_P_SESSION_EXPIRY))
        return true;
    uint32_t asked = props->value[MQTT_P_SESSION_EXPIRY].num;
    if (!extra || !extra->expiry_s)
        return !asked;
    extra->expiry_s = cap && asked > cap ? cap : asked;
    return true;
}

void handle_disconnect(struct sessions *s, uint32_t conn)
{
    const struct conn *c = net_conn(s->net, conn);
    const struct mqtt_disconnect *p = &s->packet.u.disconnect;
    if (c->protocol == MQTT_V5 && !take_expiry(s, session_at(s, c->owner), &p->props)) {
        sessions_close_conn(s, conn, CLOSE_PROTOCOL_ERROR);
        return;
    }
    bool with_will = c->protocol == MQTT_V5 && p->code != 0;
    net_close(s->net, conn, with_will ? CLOSE_CLIENT_DISCONNECT_WILL : CLOSE_CLIENT_DISCONNECT);
}
