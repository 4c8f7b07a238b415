/*
 * Frames and messages: what they hold, who frees them. (That the last holder frees is for the leak checker of
 * the sanitizer build to see.)
 */
#include <signal.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/frame.h"
#include "gateway/base/message.h"
#include "gateway/base/xmalloc.h"
#include "tests/unit/unit.h"

START_TEST(frames_are_shared)
{
    struct frame *f = frame_new(5);
    memcpy(f->data, "hello", 5);
    ck_assert_uint_eq(f->len, 5);
    ck_assert_ptr_eq(frame_ref(f), f);
    frame_unref(f);
    ck_assert_int_eq(memcmp(f->data, "hello", 5), 0);
    frame_unref(f);
    frame_unref(NULL);
    frame_unref(frame_new(0));
}
END_TEST

START_TEST(messages_hold_copies)
{
    char topic[] = "news/today", props[] = "\x01\x01", payload[] = "it rains";
    struct message_parts parts = {.topic = topic,
                                  .props = props,
                                  .payload = payload,
                                  .topic_len = 10,
                                  .props_len = 2,
                                  .payload_len = 8,
                                  .qos = 1,
                                  .retain = true,
                                  .seq = 77,
                                  .expires_ms = 123456789,
                                  .origin = 0x1234567890};
    struct message *m = message_new(&parts);
    memset(topic, 'x', 10);
    memset(payload, 'x', 8);
    ck_assert_int_eq(memcmp(message_topic(m), "news/today", 10), 0);
    ck_assert_int_eq(memcmp(message_props(m), "\x01\x01", 2), 0);
    ck_assert_int_eq(memcmp(message_payload(m), "it rains", 8), 0);
    ck_assert_uint_eq(m->topic_len, 10);
    ck_assert_uint_eq(m->props_len, 2);
    ck_assert_uint_eq(m->payload_len, 8);
    ck_assert_uint_eq(m->qos, 1);
    ck_assert(m->retain);
    ck_assert_uint_eq(m->seq, 77);
    ck_assert_uint_eq(m->expires_ms, 123456789);
    ck_assert_uint_eq(m->origin, 0x1234567890);
    ck_assert_uint_eq(message_size(m), sizeof *m + 20);
    ck_assert_ptr_eq(message_ref(m), m);
    message_unref(m);
    ck_assert_int_eq(memcmp(message_topic(m), "news/today", 10), 0);
    message_unref(m);
    message_unref(NULL);
}
END_TEST

START_TEST(messages_may_be_empty)
{
    struct message_parts parts = {.topic = "t", .topic_len = 1};
    struct message *m = message_new(&parts);
    ck_assert_uint_eq(message_size(m), sizeof *m + 1);
    ck_assert_ptr_eq(message_payload(m), message_topic(m) + 1);
    message_unref(m);
}
END_TEST

START_TEST(allocations)
{
    char *s = xstrndup("gateway", 4);
    ck_assert_str_eq(s, "gate");
    s = xrealloc(s, 100);
    ck_assert_str_eq(s, "gate");
    free(s);
    free(s = xstrdup(""));
    int *zero = xcalloc(100, sizeof *zero);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(zero[i], 0);
    free(zero);
    free(xcalloc(0, 8));
    free(xmalloc(0));
    free(xrealloc(NULL, 0));
}
END_TEST

struct thing {
    uint32_t magic;
    int value;
};
#define THING_MAGIC 0x7e57ab1eu

START_TEST(casts_are_checked)
{
    struct thing t = {.magic = THING_MAGIC, .value = 5};
    ck_assert_int_eq(CHECK_CAST(&t, struct thing, THING_MAGIC)->value, 5);
    t.magic++;
    CHECK_CAST(&t, struct thing, THING_MAGIC);
}
END_TEST

START_TEST(null_casts_abort) { CHECK_CAST(NULL, struct thing, THING_MAGIC); }
END_TEST

START_TEST(failed_checks_abort)
{
    CHECK(1 + 1 == 2);
    CHECK(1 + 1 == 3);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, frames_are_shared);
    tcase_add_test(tc, messages_hold_copies);
    tcase_add_test(tc, messages_may_be_empty);
    tcase_add_test(tc, allocations);
    tcase_add_test_raise_signal(tc, casts_are_checked, SIGABRT);
    tcase_add_test_raise_signal(tc, null_casts_abort, SIGABRT);
    tcase_add_test_raise_signal(tc, failed_checks_abort, SIGABRT);
}

UNIT_MAIN("frame_message")
