/*
 * PINGREQ: the heartbeat. The driver has noted the time already; all that is left is the answer (MQTT 5.0
 * section 3.12, [MQTT-3.12.4-1]). The answers to all PINGREQs of one read leave in one send(), so that a
 * client that sends thousands of them does not cost as many system calls.
 */
#include "gateway/base/counters.h"
#include "gateway/session/session_internal.h"

#define PINGRESPS_AT_ONCE 256u

void handle_pingreq(struct sessions *s, uint32_t conn)
{
    (void)conn;
    counter_add(COUNTER_HEARTBEATS, 1);
    s->pings++;
}

/* PINGRESPs in a row, made at the first use. */
static const unsigned char *ready_answers(void)
{
    static unsigned char answers[2 * PINGRESPS_AT_ONCE];
    if (!answers[0])
        for (size_t i = 0; i < sizeof answers; i += 2)
            answers[i] = MQTT_PINGRESP << 4;
    return answers;
}

void answer_pings(struct sessions *s, uint32_t conn)
{
    while (s->pings) {
        uint32_t n = s->pings < PINGRESPS_AT_ONCE ? s->pings : PINGRESPS_AT_ONCE;
        s->pings -= n;
        net_send(s->net, conn, ready_answers(), 2 * n);
    }
}
