/*
 * Notes: a few bytes of the owner's own, replaced as a whole, committed with what was handed in beside them,
 * on either engine; on the one with a disk they are there after it was opened again.
 */
#include "tests/unit/unit.h"

#include "gateway/base/clock.h"
#include "gateway/base/hash.h"
#include "tests/unit/engine_rig.h"

static const char *const engines[] = {"memory", "local"};
static struct rig rig;

static void begin(int i)
{
    hash_set_key(1, 2);
    clock_update();
    rig_begin(&rig, engines[i]);
}

static void put(const char *name, const char *text) { rig.ops->note(rig.engine, name, text, strlen(text)); }

/* The note as a string. */
static const char *get(const char *name)
{
    static char text[300];
    memset(text, 0, sizeof text);
    size_t n = rig.ops->note_get(rig.reader, name, text, sizeof text - 1);
    ck_assert_uint_eq(n, strlen(text));
    return text;
}

START_TEST(a_note_is_replaced_as_a_whole)
{
    begin(_i);
    ck_assert_str_eq(get("worker/0"), "");
    put("worker/0", "a long first one");
    put("worker/1", "other");
    ck_assert_int_eq(rig_commit(&rig), ENGINE_OK);
    ck_assert_str_eq(get("worker/0"), "a long first one");
    put("worker/0", "x");
    put("worker/0", "short");
    ck_assert_int_eq(rig_commit(&rig), ENGINE_OK);
    ck_assert_str_eq(get("worker/0"), "short");
    ck_assert_str_eq(get("worker/1"), "other");
    ck_assert_str_eq(get("worker"), "");
    ck_assert_str_eq(get("totals"), "");
    rig_end(&rig);
}
END_TEST

START_TEST(no_more_is_written_than_there_is_room_for)
{
    char out[4] = "....", most[256];
    begin(_i);
    memset(most, 'm', sizeof most);
    put("n", "123456");
    rig.ops->note(rig.engine, "most", most, sizeof most);
    rig.ops->note(rig.engine, "empty", "", 0);
    ck_assert_int_eq(rig_commit(&rig), ENGINE_OK);
    ck_assert_uint_eq(rig.ops->note_get(rig.reader, "n", out, 3), 6);
    ck_assert_mem_eq(out, "123.", 4);
    ck_assert_uint_eq(rig.ops->note_get(rig.reader, "most", out, 0), 256);
    ck_assert_uint_eq(rig.ops->note_get(rig.reader, "empty", out, 4), 0);
    rig_end(&rig);
}
END_TEST

/* A note is seen when its commit is done, and not before. */
START_TEST(it_comes_with_its_commit)
{
    begin(_i);
    uint64_t seq = rig_append(&rig, "t", "m");
    put("n", "with it");
    ck_assert_str_eq(get("n"), "");
    ck_assert_int_eq(rig_commit(&rig), ENGINE_OK);
    ck_assert_uint_eq(rig.last_seq, seq);
    ck_assert_str_eq(get("n"), "with it");
    rig_end(&rig);
}
END_TEST

/* When messages are refused for want of room, the note beside them is kept. */
START_TEST(it_is_kept_when_messages_are_refused)
{
    static char big[1 << 20];
    begin(_i);
    rig_close(&rig);
    rig.settings.max_file_bytes = 1 << 20;
    rig_open(&rig);
    memset(big, 'b', sizeof big - 1);
    rig_append(&rig, "t", big);
    put("n", "kept");
    ck_assert_int_eq(rig_commit(&rig), ENGINE_FULL);
    ck_assert_str_eq(get("n"), "kept");
    rig_end(&rig);
}
END_TEST

START_TEST(it_outlives_the_engine)
{
    begin(1);
    put("worker/7", "seven");
    rig.ops->commit(rig.engine);
    rig_close(&rig);
    rig_open(&rig);
    ck_assert_str_eq(get("worker/7"), "seven");
    put("worker/7", "handed in and not committed");
    rig_close(&rig);
    rig_open(&rig);
    ck_assert_str_eq(get("worker/7"), "handed in and not committed");
    rig_end(&rig);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_loop_test(tc, a_note_is_replaced_as_a_whole, 0, 2);
    tcase_add_loop_test(tc, no_more_is_written_than_there_is_room_for, 0, 2);
    tcase_add_loop_test(tc, it_comes_with_its_commit, 0, 2);
    tcase_add_loop_test(tc, it_is_kept_when_messages_are_refused, 0, 2);
    tcase_add_test(tc, it_outlives_the_engine);
}

UNIT_MAIN("engine_note")
