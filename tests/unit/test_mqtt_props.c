/*
 * MQTT 5 properties: which may stand where, how often, with what value; walking, forwarding and building
 * them.
 */
#include "tests/unit/unit.h"

#include "proto/mqtt.h"
#include "tests/unit/mqtt_samples.h"

#define PLACES 15 /* packet types 1 to 15 by number, and 0 for the will */
#define IN(t)  (1u << (t))

/* Table 2-4 of the standard, written down a second time and by packet numbers. */
static const struct known {
    enum mqtt_prop prop;
    unsigned char id;
    const char *type; /* byte, two, four, varint, string, binary, pair */
    unsigned places;
} known[] = {
    {MQTT_P_PAYLOAD_FORMAT, 1, "byte", IN(3) | IN(0)},
    {MQTT_P_MESSAGE_EXPIRY, 2, "four", IN(3) | IN(0)},
    {MQTT_P_CONTENT_TYPE, 3, "string", IN(3) | IN(0)},
    {MQTT_P_RESPONSE_TOPIC, 8, "string", IN(3) | IN(0)},
    {MQTT_P_CORRELATION_DATA, 9, "binary", IN(3) | IN(0)},
    {MQTT_P_SUBSCRIPTION_ID, 11, "varint", IN(3) | IN(8)},
    {MQTT_P_SESSION_EXPIRY, 17, "four", IN(1) | IN(2) | IN(14)},
    {MQTT_P_ASSIGNED_CLIENT_ID, 18, "string", IN(2)},
    {MQTT_P_SERVER_KEEP_ALIVE, 19, "two", IN(2)},
    {MQTT_P_AUTH_METHOD, 21, "string", IN(1) | IN(2) | IN(15)},
    {MQTT_P_AUTH_DATA, 22, "binary", IN(1) | IN(2) | IN(15)},
    {MQTT_P_REQUEST_PROBLEM, 23, "byte", IN(1)},
    {MQTT_P_WILL_DELAY, 24, "four", IN(0)},
    {MQTT_P_REQUEST_RESPONSE, 25, "byte", IN(1)},
    {MQTT_P_RESPONSE_INFO, 26, "string", IN(2)},
    {MQTT_P_SERVER_REFERENCE, 28, "string", IN(2) | IN(14)},
    {MQTT_P_REASON_STRING, 31, "string",
     IN(2) | IN(4) | IN(5) | IN(6) | IN(7) | IN(9) | IN(11) | IN(14) | IN(15)},
    {MQTT_P_RECEIVE_MAX, 33, "two", IN(1) | IN(2)},
    {MQTT_P_TOPIC_ALIAS_MAX, 34, "two", IN(1) | IN(2)},
    {MQTT_P_TOPIC_ALIAS, 35, "two", IN(3)},
    {MQTT_P_MAXIMUM_QOS, 36, "byte", IN(2)},
    {MQTT_P_RETAIN_AVAILABLE, 37, "byte", IN(2)},
    {MQTT_P_USER_PROPERTY, 38, "pair", 0xCFFF},
    {MQTT_P_MAXIMUM_PACKET_SIZE, 39, "four", IN(1) | IN(2)},
    {MQTT_P_WILDCARD_AVAILABLE, 40, "byte", IN(2)},
    {MQTT_P_SUBID_AVAILABLE, 41, "byte", IN(2)},
    {MQTT_P_SHARED_AVAILABLE, 42, "byte", IN(2)},
};
#define KNOWN (sizeof known / sizeof known[0])

static struct mqtt_packet packet;
static struct mqtt_error error;

/* Appends one property with a harmless value (a number is 1). */
static size_t put_known(unsigned char *out, const struct known *k)
{
    static const struct {
        const char *type, *bytes;
        size_t len;
    } values[] = {{"byte", "\1", 1},        {"two", "\0\1", 2},     {"four", "\0\0\0\1", 4},
                  {"varint", "\1", 1},      {"string", "\0\1m", 3}, {"binary", "\0\1m", 3},
                  {"pair", "\0\1k\0\1v", 6}};

    out[0] = k->id;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        if (strcmp(values[i].type, k->type) == 0) {
            memcpy(out + 1, values[i].bytes, values[i].len);
            return 1 + values[i].len;
        }
    ck_abort();
}

/* Decodes a packet of the given place around a property list. */
static enum mqtt_result decode_with(unsigned place, const unsigned char *props, size_t len)
{
    static const struct {
        unsigned char first, before[16], after[8];
        unsigned char before_len, after_len;
    } frames[16] = {
        [0] = {0x10, "\0\4MQTT\5\6\0\0\0\0\0", "\0\1w\0\0", 13, 5},
        [1] = {0x10, "\0\4MQTT\5\2\0\0", "\0\0", 10, 2},
        [2] = {0x20, "\0\0", "", 2, 0},
        [3] = {0x30, "\0\1t", "", 3, 0},
        [4] = {0x40, "\0\1\0", "", 3, 0},
        [5] = {0x50, "\0\1\0", "", 3, 0},
        [6] = {0x62, "\0\1\0", "", 3, 0},
        [7] = {0x70, "\0\1\0", "", 3, 0},
        [8] = {0x82, "\0\1", "\0\1f\0", 2, 4},
        [9] = {0x90, "\0\1", "\0", 2, 1},
        [10] = {0xA2, "\0\1", "\0\1f", 2, 3},
        [11] = {0xB0, "\0\1", "\0", 2, 1},
        [14] = {0xE0, "\0", "", 1, 0},
        [15] = {0xF0, "\0", "", 1, 0},
    };
    static unsigned char wire[256];
    size_t n = 2, used;

    wire[0] = frames[place].first;
    memcpy(wire + n, frames[place].before, frames[place].before_len);
    n += frames[place].before_len;
    wire[n++] = (unsigned char)len;
    memcpy(wire + n, props, len);
    n += len;
    memcpy(wire + n, frames[place].after, frames[place].after_len);
    n += frames[place].after_len;
    wire[1] = (unsigned char)(n - 2);
    ck_assert_uint_lt(n, 128);
    return mqtt_decode(wire, n, MQTT_V5, 1000, &packet, &used, &error);
}

/* What must come out of one or two of property k in a place. */
static void expect(const struct known *k, unsigned place, bool twice)
{
    bool allowed = k->places >> place & 1;
    bool repeats = k->prop == MQTT_P_USER_PROPERTY || (k->prop == MQTT_P_SUBSCRIPTION_ID && place == 3);
    unsigned char props[64];
    size_t n = put_known(props, k);

    if (twice)
        n += put_known(props + n, k);
    if (k->prop == MQTT_P_AUTH_DATA && place == 1) /* not without a method */
        n += put_known(props + n, &known[9]);
    if (place == 15 && k->prop != MQTT_P_AUTH_METHOD)
        n += put_known(props + n, &known[9]);
    enum mqtt_result r = decode_with(place, props, n);
    ck_assert_msg((r == MQTT_OK) == (allowed && (!twice || repeats)), "property %u in %u: %d %s", k->id,
                  place, r, r == MQTT_BAD ? error.text : "");
    if (!allowed)
        ck_assert_msg(error.code == MQTT_RC_MALFORMED && strstr(error.text, "not allowed"),
                      "property %u in %u", k->id, place);
    else if (twice && !repeats)
        ck_assert_msg(error.code == MQTT_RC_PROTOCOL_ERROR && strstr(error.text, "twice"),
                      "property %u in %u", k->id, place);
}

START_TEST(where_and_how_often)
{
    for (unsigned place = 0; place <= PLACES; place++) {
        if (place == MQTT_PINGREQ || place == MQTT_PINGRESP)
            continue;
        for (size_t i = 0; i < KNOWN; i++) {
            expect(&known[i], place, false);
            expect(&known[i], place, true);
        }
    }
}
END_TEST

START_TEST(other_identifiers_are_unknown)
{
    for (unsigned id = 0; id < 256; id++) {
        bool is_known = false;
        for (size_t i = 0; i < KNOWN; i++)
            is_known |= known[i].id == id;
        if (is_known)
            continue;
        unsigned char props[] = {(unsigned char)id, 1, 0, 0, 0, 0};
        ck_assert(decode_with(MQTT_PUBLISH, props, sizeof props) == MQTT_BAD);
        ck_assert_uint_eq(error.code, MQTT_RC_MALFORMED);
        ck_assert_str_eq(error.text, "unknown property");
    }
}
END_TEST

/* Every property cut anywhere by the end of its list is malformed. */
START_TEST(cut_properties)
{
    for (size_t i = 0; i < KNOWN; i++) {
        unsigned place = known[i].places & 1 ? 0 : (unsigned)__builtin_ctz(known[i].places);
        unsigned char props[64];
        size_t n = put_known(props, &known[i]);
        for (size_t cut = 1; cut < n; cut++) {
            ck_assert(decode_with(place, props, cut) == MQTT_BAD);
            ck_assert_uint_eq(error.code, MQTT_RC_MALFORMED);
            ck_assert_msg(strstr(error.text, "cut off") != NULL, "%s", error.text);
        }
    }
}
END_TEST

START_TEST(values_are_read)
{
    unsigned char props[] = {0x01, 1, 0x02, 0xFF, 0xFF, 0xFF, 0xFF, 0x03, 0,    1, 'c',  0x09, 0,
                             2,    0, 0xFF, 0x0B, 0xFF, 0xFF, 0xFF, 0x7F, 0x0B, 5, 0x23, 0xFF, 0xFF};

    ck_assert_msg(decode_with(MQTT_PUBLISH, props, sizeof props) == MQTT_OK, "%s", error.text);
    const struct mqtt_props *p = &packet.u.publish.props;
    ck_assert_uint_eq(p->value[MQTT_P_PAYLOAD_FORMAT].num, 1);
    ck_assert_uint_eq(p->value[MQTT_P_MESSAGE_EXPIRY].num, UINT32_MAX);
    ck_assert_uint_eq(p->value[MQTT_P_CONTENT_TYPE].bytes.len, 1);
    ck_assert_uint_eq(p->value[MQTT_P_CORRELATION_DATA].bytes.len, 2);
    ck_assert(memcmp(p->value[MQTT_P_CORRELATION_DATA].bytes.data, "\0\xFF", 2) == 0);
    ck_assert_uint_eq(p->value[MQTT_P_SUBSCRIPTION_ID].num, MQTT_MAX_REMAINING); /* the first of the two */
    ck_assert_uint_eq(p->value[MQTT_P_TOPIC_ALIAS].num, 65535);
    ck_assert_uint_eq(p->raw.len, sizeof props);
    ck_assert(memcmp(p->raw.data, props, sizeof props) == 0);
}
END_TEST

#define ck_bytes(b, text)                                                                                    \
    ck_assert((b).len == sizeof(text) - 1 && memcmp((b).data, text, sizeof(text) - 1) == 0)

/* a=1, expiry, content type, a=2, alias, empty=empty, response topic, subscription id, correlation, format */
static const unsigned char mixed[] = "\x26\0\1a\0\1"
                                     "1\x02\0\0\0\x3C\x03\0\1t\x26\0\1a\0\1"
                                     "2\x23\0\1\x26\0\0\0\0\x08\0\1r\x0B\x07\x09\0\1\0\x01\1";

START_TEST(user_properties_in_order)
{
    struct mqtt_bytes name, value;
    size_t at = 0;

    ck_assert_msg(decode_with(MQTT_PUBLISH, mixed, sizeof mixed - 1) == MQTT_OK, "%s", error.text);
    const struct mqtt_props *p = &packet.u.publish.props;
    ck_assert(mqtt_has(p, MQTT_P_USER_PROPERTY));
    ck_assert(mqtt_props_next_user(p, &at, &name, &value));
    ck_bytes(name, "a");
    ck_bytes(value, "1");
    ck_assert(mqtt_props_next_user(p, &at, &name, &value));
    ck_bytes(name, "a");
    ck_bytes(value, "2");
    ck_assert(mqtt_props_next_user(p, &at, &name, &value));
    ck_bytes(name, "");
    ck_bytes(value, "");
    ck_assert(!mqtt_props_next_user(p, &at, &name, &value));
    ck_assert(!mqtt_props_next_user(p, &at, &name, &value));
    at = 0;
    ck_assert(!mqtt_props_next_user(&(struct mqtt_props){0}, &at, &name, &value));
}
END_TEST

START_TEST(what_is_forwarded)
{
    static const char kept[] = "\x26\0\1a\0\1"
                               "1\x03\0\1t\x26\0\1a\0\1"
                               "2\x26\0\0\0\0\x08\0\1r\x09\0\1\0\x01\1";
    char out[sizeof mixed];

    ck_assert(decode_with(MQTT_PUBLISH, mixed, sizeof mixed - 1) == MQTT_OK);
    const struct mqtt_props *p = &packet.u.publish.props;
    ck_assert_uint_eq(mqtt_props_forward(p, NULL, 0), sizeof kept - 1);
    ck_assert_uint_eq(mqtt_props_forward(p, out, sizeof out), sizeof kept - 1);
    ck_assert(memcmp(out, kept, sizeof kept - 1) == 0);
    memset(out, 'z', sizeof out);
    ck_assert_uint_eq(mqtt_props_forward(p, out, 10), sizeof kept - 1);
    for (size_t i = 10; i < sizeof out; i++)
        ck_assert_int_eq(out[i], 'z');
    ck_assert_uint_eq(mqtt_props_forward(&(struct mqtt_props){0}, out, sizeof out), 0);
    unsigned char alias[] = {0x23, 0, 1};
    ck_assert(decode_with(MQTT_PUBLISH, alias, sizeof alias) == MQTT_OK);
    ck_assert_uint_eq(mqtt_props_forward(&packet.u.publish.props, out, sizeof out), 0);
}
END_TEST

START_TEST(of_a_will)
{
    unsigned char props[] = {0x18, 0, 0, 0, 9, 0x26, 0, 1, 'k', 0, 1, 'v', 0x01, 0};
    char out[32];

    ck_assert_msg(decode_with(0, props, sizeof props) == MQTT_OK, "%s", error.text);
    const struct mqtt_props *p = &packet.u.connect.will_props;
    ck_assert_uint_eq(p->value[MQTT_P_WILL_DELAY].num, 9);
    ck_assert_uint_eq(mqtt_props_forward(p, out, sizeof out), 9);
    ck_assert(memcmp(out, props + 5, 9) == 0);
    ck_assert_uint_eq(packet.u.connect.props.present, 0);
}
END_TEST

/* Whatever can be put is what the decoder reads. */
START_TEST(put_each)
{
    for (size_t i = 0; i < KNOWN; i++) {
        struct mqtt_bytes bytes = {"m", 1};
        unsigned char expected[64];
        char out[64];
        size_t n = put_known(expected, &known[i]);
        if (known[i].prop == MQTT_P_USER_PROPERTY) {
            ck_assert_uint_eq(mqtt_prop_put(out, sizeof out, known[i].prop, 1, bytes), 0);
            continue;
        }
        ck_assert_uint_eq(mqtt_prop_put(NULL, 0, known[i].prop, 1, bytes), n);
        ck_assert_uint_eq(mqtt_prop_put(out, n, known[i].prop, 1, bytes), n);
        ck_assert(memcmp(out, expected, n) == 0);
    }
}
END_TEST

START_TEST(put_limits)
{
    char *big = calloc(1, 65536), *out = malloc(3 * 65536);
    struct mqtt_bytes longest = {big, 65535}, longer = {big, 65536}, none = {NULL, 0};

    ck_assert_uint_eq(mqtt_prop_put(out, 3 * 65536, MQTT_P_CORRELATION_DATA, 0, longest), 3 + 65535);
    ck_assert_uint_eq(mqtt_prop_put(out, 3 * 65536, MQTT_P_CORRELATION_DATA, 0, longer), 0);
    ck_assert_uint_eq(mqtt_prop_put_user(out, 3 * 65536, longest, longest), 5 + 2 * 65535);
    ck_assert_uint_eq(mqtt_prop_put_user(out, 3 * 65536, longer, none), 0);
    ck_assert_uint_eq(mqtt_prop_put_user(out, 3 * 65536, none, longer), 0);
    ck_assert_uint_eq(mqtt_prop_put_user(NULL, 0, none, none), 5);
    ck_assert_uint_eq(mqtt_prop_put(out, 8, MQTT_P_TOPIC_ALIAS, 65535, none), 3);
    ck_assert_uint_eq(mqtt_prop_put(out, 8, MQTT_P_TOPIC_ALIAS, 65536, none), 0);
    ck_assert_uint_eq(mqtt_prop_put(out, 8, MQTT_P_MAXIMUM_QOS, 256, none), 0);
    ck_assert_uint_eq(mqtt_prop_put(out, 8, MQTT_P_SUBSCRIPTION_ID, MQTT_MAX_REMAINING, none), 5);
    ck_assert_uint_eq(mqtt_prop_put(out, 8, MQTT_P_SUBSCRIPTION_ID, MQTT_MAX_REMAINING + 1, none), 0);
    free(big);
    free(out);
}
END_TEST

/* The values come first, in the order of the enum, then the ready bytes. */
START_TEST(list_is_written_in_order)
{
    static struct mqtt_packet p = {.type = MQTT_PUBLISH};
    struct mqtt_props *props = &p.u.publish.props;
    unsigned char out[64];

    p.u.publish.topic = (struct mqtt_bytes){"t", 1};
    mqtt_props_set_num(props, MQTT_P_TOPIC_ALIAS, 7);
    mqtt_props_set_bytes(props, MQTT_P_CONTENT_TYPE, "c", 1);
    props->raw = (struct mqtt_bytes){"\x26\0\1k\0\1v", 7};
    ck_assert(mqtt_has(props, MQTT_P_TOPIC_ALIAS) && !mqtt_has(props, MQTT_P_MESSAGE_EXPIRY));
    size_t n = mqtt_encode(&p, MQTT_V5, out, sizeof out);
    ck_assert_uint_eq(n, 20);
    ck_assert(memcmp(out, "\x30\x12\0\1t\x0E\x03\0\1c\x23\0\7\x26\0\1k\0\1v", 20) == 0);
    ck_assert_uint_eq(mqtt_encode(&p, MQTT_V311, out, sizeof out), 5);
    mqtt_props_set_bytes(props, MQTT_P_CONTENT_TYPE, "c", (size_t)1 << 33);
    ck_assert_uint_eq(mqtt_encode(&p, MQTT_V5, out, sizeof out), 0);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, where_and_how_often);
    tcase_add_test(tc, other_identifiers_are_unknown);
    tcase_add_test(tc, cut_properties);
    tcase_add_test(tc, values_are_read);
    tcase_add_test(tc, user_properties_in_order);
    tcase_add_test(tc, what_is_forwarded);
    tcase_add_test(tc, of_a_will);
    tcase_add_test(tc, put_each);
    tcase_add_test(tc, put_limits);
    tcase_add_test(tc, list_is_written_in_order);
}

UNIT_MAIN("mqtt_props")
