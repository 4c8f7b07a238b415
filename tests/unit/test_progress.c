/*
 * Progress as bytes: what is encoded comes back, and nothing else is taken.
 */
#include "gateway/engine/progress.h"

#include <string.h>

#include "gateway/base/xmalloc.h"
#include "tests/unit/unit.h"

static struct progress_buffer *encode_and_decode(const struct engine_progress *p)
{
    size_t size = progress_size(p);
    char *bytes = xmalloc(size); /* exactly as large: a write beyond it is seen by the sanitizer */
    progress_encode(p, bytes);
    struct progress_buffer *b = progress_decode(bytes, size);
    free(bytes);
    ck_assert_ptr_nonnull(b);
    return b;
}

START_TEST(nothing_in_flight)
{
    const struct engine_progress p = {.cursor = UINT64_C(1) << 52};
    ck_assert_uint_eq(progress_size(&p), 12);
    struct progress_buffer *b = encode_and_decode(&p);
    ck_assert_uint_eq(progress_of(b)->cursor, p.cursor);
    ck_assert_uint_eq(progress_of(b)->outs, 0);
    ck_assert_uint_eq(progress_of(b)->ins, 0);
    progress_free(b);
}
END_TEST

START_TEST(everything_comes_back)
{
    const struct engine_inflight out[] = {
        {101, 7, ENGINE_SENT, 1}, {102, 65535, ENGINE_RECEIVED, 2}, {900, 0, ENGINE_DONE, 0}};
    const uint16_t in[] = {1, 65535};
    const struct engine_progress p = {.cursor = 100, .out = out, .in = in, .outs = 3, .ins = 2};
    struct progress_buffer *b = encode_and_decode(&p);
    const struct engine_progress *got = progress_of(b);
    ck_assert_uint_eq(got->cursor, 100);
    ck_assert_uint_eq(got->outs, 3);
    ck_assert_uint_eq(got->ins, 2);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_eq(got->out[i].seq, out[i].seq);
        ck_assert_uint_eq(got->out[i].packet_id, out[i].packet_id);
        ck_assert_uint_eq(got->out[i].state, out[i].state);
        ck_assert_uint_eq(got->out[i].qos, out[i].qos);
    }
    ck_assert_uint_eq(got->in[0], 1);
    ck_assert_uint_eq(got->in[1], 65535);
    progress_free(b);
}
END_TEST

static const struct engine_owed owed[] = {
    {.filter = "a/#", .len = 3, .after = "a/5", .after_len = 3, .asked = 77},
    {.filter = "b", .len = 1, .asked = UINT64_C(1) << 52}};

START_TEST(what_is_owed_comes_back)
{
    const struct engine_inflight out = {101, 7, ENGINE_SENT, 1};
    const uint16_t in = 9;
    const struct engine_progress p = {
        .cursor = 100, .out = &out, .in = &in, .owed = owed, .outs = 1, .ins = 1, .owes = 2};
    struct progress_buffer *b = encode_and_decode(&p);
    const struct engine_progress *got = progress_of(b);
    ck_assert_uint_eq(got->in[0], 9);
    ck_assert_uint_eq(got->owes, 2);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_uint_eq(got->owed[i].asked, owed[i].asked);
        ck_assert_uint_eq(got->owed[i].len, owed[i].len);
        ck_assert_mem_eq(got->owed[i].filter, owed[i].filter, owed[i].len);
        ck_assert_uint_eq(got->owed[i].after_len, owed[i].after_len);
    }
    ck_assert_mem_eq(got->owed[0].after, "a/5", 3);
    progress_free(b);
}
END_TEST

START_TEST(what_is_not_owed_is_refused)
{
    const struct engine_progress p = {.cursor = 100, .owed = owed, .owes = 2};
    char bytes[64] = "";
    size_t size = progress_size(&p), first = size - progress_owed_size(&owed[1]);
    progress_encode(&p, bytes);
    for (size_t len = 0; len < sizeof bytes; len++) {
        struct progress_buffer *b = progress_decode(bytes, len);
        ck_assert((b != NULL) == (len == 12 || len == first || len == size));
        progress_free(b);
    }
    memset(bytes + 12, 0, 8); /* up to number 0 */
    ck_assert_ptr_null(progress_decode(bytes, size));
    progress_encode(&p, bytes);
    memset(bytes + 12 + 8, 0xFF, 2); /* a filter beyond the end */
    ck_assert_ptr_null(progress_decode(bytes, size));
}
END_TEST

/* Whether it goes with messages is the hub's to say, by the request in which it comes; the bytes do not. */
START_TEST(what_it_goes_with_is_not_encoded)
{
    struct engine_progress p = {.cursor = 1, .with_messages = true};
    struct progress_buffer *b = encode_and_decode(&p);
    ck_assert(!progress_of(b)->with_messages);
    progress_free(b);
}
END_TEST

START_TEST(the_most_there_can_be)
{
    struct engine_inflight *out = xcalloc(UINT16_MAX, sizeof *out);
    uint16_t *in = xcalloc(UINT16_MAX, sizeof *in);
    for (unsigned i = 0; i < UINT16_MAX; i++) {
        out[i].seq = i;
        in[i] = (uint16_t)i;
    }
    const struct engine_progress p = {.out = out, .in = in, .outs = UINT16_MAX, .ins = UINT16_MAX};
    struct progress_buffer *b = encode_and_decode(&p);
    ck_assert_uint_eq(progress_of(b)->out[UINT16_MAX - 1].seq, UINT16_MAX - 1);
    ck_assert_uint_eq(progress_of(b)->in[UINT16_MAX - 1], UINT16_MAX - 1);
    progress_free(b);
    free(out);
    free(in);
}
END_TEST

START_TEST(what_is_none_is_refused)
{
    const struct engine_inflight out = {101, 7, ENGINE_DONE, 0};
    const uint16_t in = 3;
    const struct engine_progress p = {.cursor = 100, .out = &out, .in = &in, .outs = 1, .ins = 1};
    char bytes[64] = "";
    size_t size = progress_size(&p);
    progress_encode(&p, bytes);
    for (size_t len = 0; len < sizeof bytes; len++) {
        struct progress_buffer *b = progress_decode(bytes, len);
        ck_assert((b != NULL) == (len == size));
        progress_free(b);
    }
    bytes[12 + 10] = ENGINE_DONE + 1;
    ck_assert_ptr_null(progress_decode(bytes, size));
    bytes[12 + 10] = ENGINE_DONE | 3 << 4; /* QoS 3 */
    ck_assert_ptr_null(progress_decode(bytes, size));
    memset(bytes, 0xFF, sizeof bytes); /* says that it is far longer */
    ck_assert_ptr_null(progress_decode(bytes, sizeof bytes));
    ck_assert_ptr_null(progress_decode("", 0));
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, nothing_in_flight);
    tcase_add_test(tc, everything_comes_back);
    tcase_add_test(tc, what_is_owed_comes_back);
    tcase_add_test(tc, what_is_not_owed_is_refused);
    tcase_add_test(tc, what_it_goes_with_is_not_encoded);
    tcase_add_test(tc, the_most_there_can_be);
    tcase_add_test(tc, what_is_none_is_refused);
}

UNIT_MAIN("progress")
