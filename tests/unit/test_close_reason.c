/*
 * Close reasons: every row is complete, labels can be used in metrics, and the MQTT 5 codes are ones that a
 * server may send in a DISCONNECT (section 3.14.2.1).
 */
#include "gateway/base/close_reason.h"

#include <signal.h>
#include <string.h>

#include "tests/unit/unit.h"

START_TEST(rows_are_complete)
{
    for (int r = 0; r < CLOSE_REASON_COUNT; r++) {
        const char *label = close_reason_label((enum close_reason)r);
        ck_assert_uint_gt(strlen(label), 0);
        ck_assert_uint_eq(strspn(label, "abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(label));
        ck_assert_uint_gt(strlen(close_reason_text((enum close_reason)r)), 0);
    }
}
END_TEST

START_TEST(labels_are_unique)
{
    for (int r = 0; r < CLOSE_REASON_COUNT; r++)
        for (int k = 0; k < r; k++)
            ck_assert_str_ne(close_reason_label((enum close_reason)r),
                             close_reason_label((enum close_reason)k));
}
END_TEST

START_TEST(codes_are_disconnect_codes_of_a_server)
{
    static const unsigned char allowed[] = {
        0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94,
        0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
    };
    for (int r = 0; r < CLOSE_REASON_COUNT; r++)
        ck_assert_ptr_nonnull(memchr(allowed, close_reason_mqtt5((enum close_reason)r), sizeof allowed));
}
END_TEST

START_TEST(known_rows)
{
    ck_assert_str_eq(close_reason_label(CLOSE_KEEPALIVE_TIMEOUT), "keepalive_timeout");
    ck_assert_int_eq(close_reason_mqtt5(CLOSE_KEEPALIVE_TIMEOUT), 0x8D);
    ck_assert(close_reason_is_error(CLOSE_KEEPALIVE_TIMEOUT));
    ck_assert_int_eq(close_reason_mqtt5(CLOSE_SHUTDOWN), 0x8B);
    ck_assert(!close_reason_is_error(CLOSE_SHUTDOWN));
    ck_assert_int_eq(close_reason_mqtt5(CLOSE_PEER_CLOSED), 0);
    ck_assert_str_eq(close_reason_label(CLOSE_NONE), "none");
}
END_TEST

START_TEST(a_number_that_is_no_reason_aborts) { close_reason_label(CLOSE_REASON_COUNT); }
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, rows_are_complete);
    tcase_add_test(tc, labels_are_unique);
    tcase_add_test(tc, codes_are_disconnect_codes_of_a_server);
    tcase_add_test(tc, known_rows);
    tcase_add_test_raise_signal(tc, a_number_that_is_no_reason_aborts, SIGABRT);
}

UNIT_MAIN("close_reason")
