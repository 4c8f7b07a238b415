/*
 * MQTT 3.1.1 and 5.0 control packets: bytes <-> structs, all packet types of both versions, for either end.
 *
 * Sources: OASIS MQTT Version 3.1.1 (29 October 2014) and MQTT Version 5.0 (7 March 2019). No socket, clock,
 * allocator or log here. Every byte range in a decoded packet points into the caller's buffer; lengths are in
 * bytes.
 */
#ifndef HOLDFAST_PROTO_MQTT_H
#define HOLDFAST_PROTO_MQTT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Largest packet the format allows: 5 bytes of fixed header and 268,435,455 of remaining length
 * (section 2.1.4). */
#define MQTT_MAX_REMAINING 268435455u

enum mqtt_version {
    MQTT_V31 = 3,
    MQTT_V311 = 4,
    MQTT_V5 = 5
}; /* the protocol level in CONNECT; 3 is recognised only to be refused */

enum mqtt_type {
    MQTT_RESERVED = 0,
    MQTT_CONNECT = 1,
    MQTT_CONNACK,
    MQTT_PUBLISH,
    MQTT_PUBACK,
    MQTT_PUBREC,
    MQTT_PUBREL,
    MQTT_PUBCOMP,
    MQTT_SUBSCRIBE,
    MQTT_SUBACK,
    MQTT_UNSUBSCRIBE,
    MQTT_UNSUBACK,
    MQTT_PINGREQ,
    MQTT_PINGRESP,
    MQTT_DISCONNECT,
    MQTT_AUTH
};
const char *mqtt_type_name(enum mqtt_type t);

/* MQTT 5 reason codes used by name in the code (section 2.4); mqtt_reason_name() knows them all. */
enum mqtt_reason {
    MQTT_RC_SUCCESS = 0x00,
    MQTT_RC_GRANTED_QOS_1 = 0x01,
    MQTT_RC_GRANTED_QOS_2 = 0x02,
    MQTT_RC_DISCONNECT_WITH_WILL = 0x04,
    MQTT_RC_NO_MATCHING_SUBSCRIBERS = 0x10,
    MQTT_RC_NO_SUBSCRIPTION_EXISTED = 0x11,
    MQTT_RC_UNSPECIFIED = 0x80,
    MQTT_RC_MALFORMED = 0x81,
    MQTT_RC_PROTOCOL_ERROR = 0x82,
    MQTT_RC_IMPLEMENTATION = 0x83,
    MQTT_RC_UNSUPPORTED_VERSION = 0x84,
    MQTT_RC_CLIENT_ID = 0x85,
    MQTT_RC_BAD_USER_OR_PASSWORD = 0x86,
    MQTT_RC_NOT_AUTHORIZED = 0x87,
    MQTT_RC_SERVER_UNAVAILABLE = 0x88,
    MQTT_RC_SERVER_BUSY = 0x89,
    MQTT_RC_SERVER_SHUTTING_DOWN = 0x8B,
    MQTT_RC_BAD_AUTH_METHOD = 0x8C,
    MQTT_RC_KEEPALIVE_TIMEOUT = 0x8D,
    MQTT_RC_TAKEN_OVER = 0x8E,
    MQTT_RC_TOPIC_FILTER_INVALID = 0x8F,
    MQTT_RC_TOPIC_NAME_INVALID = 0x90,
    MQTT_RC_PACKET_ID_IN_USE = 0x91,
    MQTT_RC_PACKET_ID_NOT_FOUND = 0x92,
    MQTT_RC_RECEIVE_MAX_EXCEEDED = 0x93,
    MQTT_RC_TOPIC_ALIAS_INVALID = 0x94,
    MQTT_RC_PACKET_TOO_LARGE = 0x95,
    MQTT_RC_RATE_TOO_HIGH = 0x96,
    MQTT_RC_QUOTA_EXCEEDED = 0x97,
    MQTT_RC_ADMINISTRATIVE = 0x98,
    MQTT_RC_PAYLOAD_FORMAT = 0x99,
    MQTT_RC_RETAIN_NOT_SUPPORTED = 0x9A,
    MQTT_RC_QOS_NOT_SUPPORTED = 0x9B,
    MQTT_RC_USE_ANOTHER_SERVER = 0x9C,
    MQTT_RC_SERVER_MOVED = 0x9D,
    MQTT_RC_SHARED_NOT_SUPPORTED = 0x9E,
    MQTT_RC_SUBID_NOT_SUPPORTED = 0xA1,
    MQTT_RC_WILDCARD_NOT_SUPPORTED = 0xA2
};
/* "Not authorized"; "reserved" for a value the standard does not define. */
const char *mqtt_reason_name(uint8_t code);

/* CONNACK return codes of 3.1.1 (table 3.1). */
enum mqtt_v311_return {
    MQTT_311_ACCEPTED,
    MQTT_311_VERSION,
    MQTT_311_IDENTIFIER,
    MQTT_311_UNAVAILABLE,
    MQTT_311_BAD_USER,
    MQTT_311_NOT_AUTHORIZED
};

struct mqtt_bytes {
    const char *data;
    uint32_t len;
};

/*
 * MQTT 5 properties (section 2.2.2): one row per property in mqtt_props.c says identifier, type, and in which
 * packets it may stand. The enumerators are dense indexes, not the identifiers of the standard.
 */
enum mqtt_prop {
    MQTT_P_PAYLOAD_FORMAT,
    MQTT_P_MESSAGE_EXPIRY,
    MQTT_P_CONTENT_TYPE,
    MQTT_P_RESPONSE_TOPIC,
    MQTT_P_CORRELATION_DATA,
    MQTT_P_SUBSCRIPTION_ID,
    MQTT_P_SESSION_EXPIRY,
    MQTT_P_ASSIGNED_CLIENT_ID,
    MQTT_P_SERVER_KEEP_ALIVE,
    MQTT_P_AUTH_METHOD,
    MQTT_P_AUTH_DATA,
    MQTT_P_REQUEST_PROBLEM,
    MQTT_P_WILL_DELAY,
    MQTT_P_REQUEST_RESPONSE,
    MQTT_P_RESPONSE_INFO,
    MQTT_P_SERVER_REFERENCE,
    MQTT_P_REASON_STRING,
    MQTT_P_RECEIVE_MAX,
    MQTT_P_TOPIC_ALIAS_MAX,
    MQTT_P_TOPIC_ALIAS,
    MQTT_P_MAXIMUM_QOS,
    MQTT_P_RETAIN_AVAILABLE,
    MQTT_P_USER_PROPERTY,
    MQTT_P_MAXIMUM_PACKET_SIZE,
    MQTT_P_WILDCARD_AVAILABLE,
    MQTT_P_SUBID_AVAILABLE,
    MQTT_P_SHARED_AVAILABLE,
    MQTT_P_COUNT
};

/*
 * A property list. Decoded: `present` says which values are set; repeated ones (user property, subscription
 * identifier) keep their first value here and are all in `raw`. To be encoded: the present values are written
 * in the order of the enum, then `raw` verbatim (so either fill `present`, or give ready bytes, or both). All
 * zero: no properties.
 */
struct mqtt_props {
    uint32_t present; /* bit 1u << enum mqtt_prop */
    union {
        uint32_t num;
        struct mqtt_bytes bytes;
    } value[MQTT_P_COUNT]; /* MQTT_P_USER_PROPERTY: unused, see mqtt_props_next_user() */
    struct mqtt_bytes raw; /* encoded properties without the length in front */
};
static inline bool mqtt_has(const struct mqtt_props *p, enum mqtt_prop k) { return p->present >> k & 1u; }
void mqtt_props_set_num(struct mqtt_props *p, enum mqtt_prop k, uint32_t num);
void mqtt_props_set_bytes(struct mqtt_props *p, enum mqtt_prop k, const char *data, size_t len);

/* Walks the user properties of a decoded list. *at starts at 0. False at the end. */
bool mqtt_props_next_user(const struct mqtt_props *p, size_t *at, struct mqtt_bytes *name,
                          struct mqtt_bytes *value);

/*
 * Of a decoded PUBLISH's (or will's) properties, those that a server forwards unchanged ([MQTT-3.3.2-4], -15,
 * -16, -17, -18, -20): payload format, content type, response topic, correlation data, user properties in
 * their order. Writes at most cap bytes, returns the bytes needed in all (never more than p->raw.len).
 */
size_t mqtt_props_forward(const struct mqtt_props *p, char *out, size_t cap);

/* Writes one user property / one other property in encoded form, for building `raw`; returns the bytes
 * needed. 0 for strings above 65535 bytes and numbers above their type. */
size_t mqtt_prop_put_user(char *out, size_t cap, struct mqtt_bytes name, struct mqtt_bytes value);
size_t mqtt_prop_put(char *out, size_t cap, enum mqtt_prop k, uint32_t num, struct mqtt_bytes bytes);

struct mqtt_connect {
    uint8_t level;    /* as sent; a level other than 4 and 5 is decoded no further (MQTT_BAD with
                         MQTT_RC_UNSUPPORTED_VERSION) */
    bool clean_start; /* 3.1.1: clean session */
    bool has_will, will_retain, has_username, has_password;
    uint8_t will_qos;
    uint16_t keepalive_s;
    struct mqtt_props props, will_props;
    struct mqtt_bytes client_id, will_topic, will_payload, username, password;
};
struct mqtt_connack {
    bool session_present;
    uint8_t code; /* 5.0: reason code; 3.1.1: return code */
    struct mqtt_props props;
};
struct mqtt_publish {
    bool dup, retain;
    uint8_t qos;
    uint16_t packet_id; /* 0 when qos is 0 */
    struct mqtt_bytes topic;
    struct mqtt_props props;
    struct mqtt_bytes payload;
};
struct mqtt_ack { /* PUBACK PUBREC PUBREL PUBCOMP */
    uint16_t packet_id;
    uint8_t code; /* 5.0 */
    struct mqtt_props props;
};
struct mqtt_subscribe { /* SUBSCRIBE and UNSUBSCRIBE: entries is the payload, already validated; walk it with
                           mqtt_next_filter() */
    uint16_t packet_id;
    uint32_t count; /* entries */
    struct mqtt_props props;
    struct mqtt_bytes entries;
};
struct mqtt_suback { /* SUBACK and UNSUBACK: one code per entry (UNSUBACK of 3.1.1: none) */
    uint16_t packet_id;
    struct mqtt_props props;
    struct mqtt_bytes codes;
};
struct mqtt_disconnect { /* DISCONNECT and AUTH */
    uint8_t code;
    struct mqtt_props props;
};
struct mqtt_packet {
    enum mqtt_type type;
    union {
        struct mqtt_connect connect;
        struct mqtt_connack connack;
        struct mqtt_publish publish;
        struct mqtt_ack ack;
        struct mqtt_subscribe subscribe;
        struct mqtt_suback suback;
        struct mqtt_disconnect disconnect;
    } u;
};

enum mqtt_result { MQTT_OK, MQTT_MORE, MQTT_BAD };

/* Why a packet is bad: the MQTT 5 reason code that fits (0x81 malformed, 0x82 protocol error, 0x95 too large,
 * 0x90 topic name invalid, ...). */
struct mqtt_error {
    uint8_t code;
    const char *text; /* static: which field and what is wrong with it, "SUBSCRIBE: no topic filter" */
};

/*
 * Decodes the packet at the start of buf. version: what CONNECT agreed on; MQTT_V5, or anything else
 * for 3.1.1. CONNECT itself ignores it and follows its own level. max_packet caps the whole packet in bytes.
 *
 * MQTT_OK: *used bytes are done with, *p is filled. Only what p->type says is written: nothing large is
 * zeroed.
 *
 * MQTT_MORE: incomplete; *used is the number of bytes needed to go on (the whole packet once its length is
 * known, else 2 to 5). What can be known so far has been checked: type, flags, length, max_packet.
 *
 * MQTT_BAD: *e says why; nothing of the packet may take effect. p->type is set; of a CONNECT also level,
 * which is 0 when the packet ended before it.
 *
 * All rules that concern a single packet are checked (flags, ids not 0, property allowed and not repeated, at
 * least one filter, reserved bits, reason codes of the packet, ...), whichever end sent it. Strings are UTF-8
 * without U+0000 (section 1.5.4), else 0x81; topics of PUBLISH and wills are names, else 0x90; filters are
 * filters, else 0x8F. PUBLISH with an empty topic is OK in 5.0 together with a topic alias. A 3.1.1 CONNECT
 * with an empty client id and a kept session is OK here: its answer is a return code.
 */
enum mqtt_result mqtt_decode(const void *buf, size_t len, uint8_t version, uint32_t max_packet,
                             struct mqtt_packet *p, size_t *used, struct mqtt_error *e)
    __attribute__((warn_unused_result));

/* The type of the packet that starts with this byte. */
static inline enum mqtt_type mqtt_peek_type(uint8_t first_byte) { return (enum mqtt_type)(first_byte >> 4); }

/*
 * The next entry of a decoded SUBSCRIBE (options: section 3.8.3.1; in 3.1.1 just the QoS) or UNSUBSCRIBE
 * (options untouched). *at starts at 0. False at the end.
 */
bool mqtt_next_filter(const struct mqtt_packet *p, size_t *at, struct mqtt_bytes *filter, uint8_t *options);
/* Appends an entry to a buffer in encoded form; returns the bytes needed. is_subscribe: with the options
 * byte. */
size_t mqtt_put_filter(char *out, size_t cap, struct mqtt_bytes filter, bool is_subscribe, uint8_t options);

/*
 * Encodes a packet for `version` (MQTT_V311 or MQTT_V5; it is also the level of a CONNECT). Returns the bytes
 * needed for the whole packet, having written it if that is at most cap (out may be NULL with cap 0); 0 when
 * it cannot be encoded (a string above 65535 bytes, a number above its type, more than MQTT_MAX_REMAINING,
 * QoS 3, a 3.1.1 password without user name, AUTH in 3.1.1). Properties are left out in 3.1.1. Short forms
 * are used where the standard has them (PUBACK without reason, DISCONNECT of 2 bytes). Other rules are the
 * caller's: what is given is written. A decoded packet is encoded again after clearing either `present` or
 * `raw` of its properties.
 */
size_t mqtt_encode(const struct mqtt_packet *p, uint8_t version, void *out, size_t cap)
    __attribute__((warn_unused_result));

#endif
