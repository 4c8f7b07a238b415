/*
 * Names of packet types and of MQTT 5 reason codes, and in which packets each reason code may stand (MQTT 5.0
 * section 2.4). Logs, counters and the admin's tools read the names; the decoder asks about the packets.
 */
#include "proto/mqtt_wire.h"

static const char *const type_names[16] = {
    [MQTT_RESERVED] = "reserved", [MQTT_CONNECT] = "CONNECT",         [MQTT_CONNACK] = "CONNACK",
    [MQTT_PUBLISH] = "PUBLISH",   [MQTT_PUBACK] = "PUBACK",           [MQTT_PUBREC] = "PUBREC",
    [MQTT_PUBREL] = "PUBREL",     [MQTT_PUBCOMP] = "PUBCOMP",         [MQTT_SUBSCRIBE] = "SUBSCRIBE",
    [MQTT_SUBACK] = "SUBACK",     [MQTT_UNSUBSCRIBE] = "UNSUBSCRIBE", [MQTT_UNSUBACK] = "UNSUBACK",
    [MQTT_PINGREQ] = "PINGREQ",   [MQTT_PINGRESP] = "PINGRESP",       [MQTT_DISCONNECT] = "DISCONNECT",
    [MQTT_AUTH] = "AUTH",
};

const char *mqtt_type_name(enum mqtt_type t) { return (unsigned)t < 16 ? type_names[t] : "unknown"; }

#define CONNACK    MQTT_IN(MQTT_CONNACK)
#define PUBACK     (MQTT_IN(MQTT_PUBACK) | MQTT_IN(MQTT_PUBREC))
#define PUBREL     (MQTT_IN(MQTT_PUBREL) | MQTT_IN(MQTT_PUBCOMP))
#define SUBACK     MQTT_IN(MQTT_SUBACK)
#define UNSUBACK   MQTT_IN(MQTT_UNSUBACK)
#define DISCONNECT MQTT_IN(MQTT_DISCONNECT)
#define AUTH       MQTT_IN(MQTT_AUTH)

struct reason_row {
    const char *name;
    uint32_t packets; /* MQTT_IN() bits */
};

static const struct reason_row reasons[] = {
    [0x00] = {"Success", CONNACK | PUBACK | PUBREL | SUBACK | UNSUBACK | DISCONNECT | AUTH},
    [0x01] = {"Granted QoS 1", SUBACK},
    [0x02] = {"Granted QoS 2", SUBACK},
    [0x04] = {"Disconnect with Will Message", DISCONNECT},
    [0x10] = {"No matching subscribers", PUBACK},
    [0x11] = {"No subscription existed", UNSUBACK},
    [0x18] = {"Continue authentication", AUTH},
    [0x19] = {"Re-authenticate", AUTH},
    [0x80] = {"Unspecified error", CONNACK | PUBACK | SUBACK | UNSUBACK | DISCONNECT},
    [0x81] = {"Malformed Packet", CONNACK | DISCONNECT},
    [0x82] = {"Protocol Error", CONNACK | DISCONNECT},
    [0x83] = {"Implementation specific error", CONNACK | PUBACK | SUBACK | UNSUBACK | DISCONNECT},
    [0x84] = {"Unsupported Protocol Version", CONNACK},
    [0x85] = {"Client Identifier not valid", CONNACK},
    [0x86] = {"Bad User Name or Password", CONNACK},
    [0x87] = {"Not authorized", CONNACK | PUBACK | SUBACK | UNSUBACK | DISCONNECT},
    [0x88] = {"Server unavailable", CONNACK},
    [0x89] = {"Server busy", CONNACK | DISCONNECT},
    [0x8A] = {"Banned", CONNACK},
    [0x8B] = {"Server shutting down", DISCONNECT},
    [0x8C] = {"Bad authentication method", CONNACK | DISCONNECT},
    [0x8D] = {"Keep Alive timeout", DISCONNECT},
    [0x8E] = {"Session taken over", DISCONNECT},
    [0x8F] = {"Topic Filter invalid", SUBACK | UNSUBACK | DISCONNECT},
    [0x90] = {"Topic Name invalid", CONNACK | PUBACK | DISCONNECT},
    [0x91] = {"Packet Identifier in use", PUBACK | SUBACK | UNSUBACK},
    [0x92] = {"Packet Identifier not found", PUBREL},
    [0x93] = {"Receive Maximum exceeded", DISCONNECT},
    [0x94] = {"Topic Alias invalid", DISCONNECT},
    [0x95] = {"Packet too large", CONNACK | DISCONNECT},
    [0x96] = {"Message rate too high", DISCONNECT},
    [0x97] = {"Quota exceeded", CONNACK | PUBACK | SUBACK | DISCONNECT},
    [0x98] = {"Administrative action", DISCONNECT},
    [0x99] = {"Payload format invalid", CONNACK | PUBACK | DISCONNECT},
    [0x9A] = {"Retain not supported", CONNACK | DISCONNECT},
    [0x9B] = {"QoS not supported", CONNACK | DISCONNECT},
    [0x9C] = {"Use another server", CONNACK | DISCONNECT},
    [0x9D] = {"Server moved", CONNACK | DISCONNECT},
    [0x9E] = {"Shared Subscriptions not supported", SUBACK | DISCONNECT},
    [0x9F] = {"Connection rate exceeded", CONNACK | DISCONNECT},
    [0xA0] = {"Maximum connect time", DISCONNECT},
    [0xA1] = {"Subscription Identifiers not supported", SUBACK | DISCONNECT},
    [0xA2] = {"Wildcard Subscriptions not supported", SUBACK | DISCONNECT},
};
#define REASONS (sizeof reasons / sizeof reasons[0])

const char *mqtt_reason_name(uint8_t code)
{
    return code < REASONS && reasons[code].name ? reasons[code].name : "reserved";
}

bool mqtt_reason_allowed(enum mqtt_type type, uint8_t code)
{
    return code < REASONS && (reasons[code].packets & MQTT_IN(type));
}
