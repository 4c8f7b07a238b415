/*
 * The encoding of messages between processes: every row of the table comes back as it went in, and nothing
 * that is not such a message is taken for one.
 */
#include "tests/unit/unit.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "gateway/ipc/ipc_message.h"

/* A message of the type with values that fill their widths, and strings of the given length. */
static struct ipc_message make(enum ipc_type t, const char *text, uint32_t len)
{
    struct ipc_message m = {.type = t};
    for (const char *l = ipc_type_fields(t); *l; l++) {
        union ipc_field *f = &m.field[m.fields++];
        switch (*l) {
        case 'b':
            f->num = 0xA5;
            break;
        case 'h':
            f->num = 0xBEEF;
            break;
        case 'w':
            f->num = 0xDEADBEEF;
            break;
        case 'q':
            f->num = 0x0123456789ABCDEF;
            break;
        default:
            f->bytes = (struct ipc_bytes){text, len};
        }
    }
    return m;
}

/* Encodes into memory of exactly the message's size, so that a sanitizer sees a byte too many. */
static char *encoded(const struct ipc_message *m, size_t *size)
{
    *size = ipc_size(m);
    ck_assert_uint_gt(*size, 0);
    char *buf = malloc(*size);
    ipc_encode(m, buf);
    return buf;
}

/* Asserts that two messages have the same type and field values. */
static void assert_same(const struct ipc_message *a, const struct ipc_message *b)
{
    ck_assert_int_eq(a->type, b->type);
    ck_assert_uint_eq(a->fields, b->fields);
    const char *letters = ipc_type_fields(a->type);
    for (unsigned i = 0; i < a->fields; i++) {
        if (letters[i] != 's' && letters[i] != 'd') {
            ck_assert_uint_eq(a->field[i].num, b->field[i].num);
            continue;
        }
        ck_assert_uint_eq(a->field[i].bytes.len, b->field[i].bytes.len);
        if (a->field[i].bytes.len > 0)
            ck_assert_mem_eq(a->field[i].bytes.data, b->field[i].bytes.data, a->field[i].bytes.len);
    }
}

/* The result of decoding, with what the test does not look at thrown away. */
static enum ipc_result decode(const void *buf, size_t len, struct ipc_message *m, size_t *used)
{
    const char *why;
    return ipc_decode(buf, len, m, used, &why);
}

START_TEST(every_type_comes_back_as_it_went_in)
{
    static const uint32_t lengths[] = {0, 1, 65535};
    static char text[65535];
    memset(text, 'x', sizeof text);
    for (unsigned t = IPC_NONE + 1; t < IPC_TYPE_COUNT; t++)
        for (unsigned i = 0; i < 3; i++) {
            struct ipc_message in = make((enum ipc_type)t, text, lengths[i]), out;
            size_t size, used;
            char *buf = encoded(&in, &size);
            ck_assert_int_eq(decode(buf, size, &out, &used), IPC_OK);
            ck_assert_uint_eq(used, size);
            assert_same(&in, &out);
            free(buf);
        }
}
END_TEST

START_TEST(every_prefix_asks_for_more_and_says_how_much)
{
    struct ipc_message in = make(IPC_DELIVER, "abc", 3), out;
    size_t size, used;
    char *buf = encoded(&in, &size);
    for (size_t n = 0; n < size; n++) {
        char *part = malloc(n ? n : 1);
        memcpy(part, buf, n);
        ck_assert_int_eq(decode(part, n, &out, &used), IPC_MORE);
        ck_assert_uint_eq(used, n < IPC_HEADER ? IPC_HEADER : size);
        free(part);
    }
    free(buf);
}
END_TEST

START_TEST(what_follows_a_message_is_left_alone)
{
    struct ipc_message in = IPC_MAKE(RELEASE, IPC_NUM(7), IPC_BYTES("id", 2)), out;
    char buf[128];
    size_t size = ipc_size(&in), used;
    ipc_encode(&in, buf);
    memset(buf + size, 0xFF, sizeof buf - size);
    ck_assert_int_eq(decode(buf, sizeof buf, &out, &used), IPC_OK);
    ck_assert_uint_eq(used, size);
    assert_same(&in, &out);
}
END_TEST

/* A header in native order, followed by nothing. */
static void put_header(char *buf, uint32_t len, uint16_t type)
{
    memcpy(buf, &len, 4);
    memcpy(buf + 4, &type, 2);
}

START_TEST(a_header_that_cannot_be_is_refused_at_once)
{
    static const struct {
        uint32_t len;
        uint16_t type;
    } bad[] = {
        {0, IPC_READY},
        {1, IPC_READY},
        {2, IPC_NONE},
        {2, IPC_TYPE_COUNT},
        {2, 0xFFFF},
        {IPC_MAX_MESSAGE, IPC_DELIVER},
        {0xFFFFFFFF, IPC_DELIVER},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char buf[IPC_HEADER];
        struct ipc_message m;
        size_t used;
        const char *why = NULL;
        put_header(buf, bad[i].len, bad[i].type);
        ck_assert_int_eq(ipc_decode(buf, sizeof buf, &m, &used, &why), IPC_BAD);
        ck_assert_ptr_nonnull(why);
    }
}
END_TEST

START_TEST(a_message_must_be_filled_exactly_by_its_fields)
{
    struct ipc_message in = IPC_MAKE(RELEASE, IPC_NUM(7), IPC_BYTES("id", 2)), out;
    char buf[64] = {0};
    size_t size = ipc_size(&in), used;
    ipc_encode(&in, buf);
    for (uint32_t len = 2; len < 40; len++) {
        memcpy(buf, &len, 4);
        enum ipc_result want = 4 + (size_t)len == size ? IPC_OK : IPC_BAD;
        ck_assert_int_eq(decode(buf, 4 + (size_t)len, &out, &used), want);
    }
}
END_TEST

START_TEST(a_field_may_not_reach_beyond_its_message)
{
    struct ipc_message in = IPC_MAKE(CLIENT_GET, IPC_NUM(1), IPC_BYTES("abcd", 4)), out;
    size_t size, used;
    char *buf = encoded(&in, &size);
    for (unsigned len = 0; len <= UINT16_MAX; len++) {
        uint16_t l = (uint16_t)len;
        memcpy(buf + IPC_HEADER + 4, &l, sizeof l);
        ck_assert_int_eq(decode(buf, size, &out, &used), len == 4 ? IPC_OK : IPC_BAD);
    }
    free(buf);
}
END_TEST

START_TEST(fields_above_their_limits_have_no_size)
{
    static char huge[65536];
    struct ipc_message id = IPC_MAKE(RELEASE, IPC_NUM(1), IPC_BYTES(huge, 65536));
    ck_assert_uint_eq(ipc_size(&id), 0);
    struct ipc_message m = make(IPC_DELIVER, "", 0);
    m.field[7].bytes.len = IPC_MAX_DATA;
    ck_assert_uint_gt(ipc_size(&m), IPC_MAX_DATA);
    m.field[7].bytes.len = IPC_MAX_DATA + 1;
    ck_assert_uint_eq(ipc_size(&m), 0);
}
END_TEST

START_TEST(the_largest_data_comes_back)
{
    char *data = malloc(IPC_MAX_DATA);
    memset(data, 'd', IPC_MAX_DATA);
    struct ipc_message in = make(IPC_DELIVER, "t", 1), out;
    in.field[6].bytes = in.field[7].bytes = (struct ipc_bytes){data, IPC_MAX_DATA};
    size_t size, used;
    char *buf = encoded(&in, &size);
    ck_assert_uint_le(size, IPC_MAX_MESSAGE);
    ck_assert_int_eq(decode(buf, size, &out, &used), IPC_OK);
    assert_same(&in, &out);
    free(buf);
    free(data);
}
END_TEST

START_TEST(random_bytes_never_read_beyond_the_buffer)
{
    srand(1);
    for (int round = 0; round < 200000; round++) {
        size_t n = (size_t)rand() % 64;
        char *buf = malloc(n ? n : 1);
        for (size_t i = 0; i < n; i++)
            buf[i] = (char)rand();
        if (n >= IPC_HEADER && round % 2) /* a plausible header: so that the fields are reached */
            put_header(buf, (uint32_t)(n - 4), (uint16_t)(1 + rand() % (IPC_TYPE_COUNT - 1)));
        struct ipc_message m;
        size_t used;
        if (decode(buf, n, &m, &used) == IPC_OK) {
            ck_assert_uint_eq(used, ipc_size(&m));
            char *again = malloc(used);
            ipc_encode(&m, again);
            ck_assert_mem_eq(again, buf, used);
            free(again);
        }
        free(buf);
    }
}
END_TEST

START_TEST(types_have_names)
{
    ck_assert_str_eq(ipc_type_name(IPC_CLAIMS_DONE), "claims_done");
    ck_assert_str_eq(ipc_type_fields(IPC_CLAIM), "qbs");
    ck_assert_str_eq(ipc_type_name(IPC_TYPE_COUNT), "none");
    ck_assert_str_eq(ipc_type_fields((enum ipc_type)9999), "");
}
END_TEST

#ifndef __SANITIZE_ADDRESS__
START_TEST(a_number_that_does_not_fit_is_our_own_bug)
{
    struct ipc_message m = IPC_MAKE(CHANNEL, IPC_NUM(65536));
    char buf[64];
    ipc_encode(&m, buf);
}
END_TEST

START_TEST(a_missing_field_is_our_own_bug)
{
    struct ipc_message m = IPC_MAKE(RELEASE, IPC_NUM(1));
    ck_assert_uint_eq(ipc_size(&m), 0);
}
END_TEST
#endif

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, every_type_comes_back_as_it_went_in);
    tcase_add_test(tc, every_prefix_asks_for_more_and_says_how_much);
    tcase_add_test(tc, what_follows_a_message_is_left_alone);
    tcase_add_test(tc, a_header_that_cannot_be_is_refused_at_once);
    tcase_add_test(tc, a_message_must_be_filled_exactly_by_its_fields);
    tcase_add_test(tc, a_field_may_not_reach_beyond_its_message);
    tcase_add_test(tc, fields_above_their_limits_have_no_size);
    tcase_add_test(tc, the_largest_data_comes_back);
    tcase_add_test(tc, random_bytes_never_read_beyond_the_buffer);
    tcase_add_test(tc, types_have_names);
#ifndef __SANITIZE_ADDRESS__
    tcase_add_test_raise_signal(tc, a_number_that_does_not_fit_is_our_own_bug, 6);
    tcase_add_test_raise_signal(tc, a_missing_field_is_our_own_bug, 6);
#endif
}

UNIT_MAIN("ipc_message")
