/*
 * Sets of packet identifiers, against an array of 65,536 states.
 */
#include "gateway/session/incoming.h"

#include <string.h>

#include "tests/unit/unit.h"

#define IDS 65536

static struct incoming *in;
static uint8_t model[IDS];
static uint16_t out[3 * IDS];

static void setup(void)
{
    in = NULL;
    memset(model, INCOMING_NONE, sizeof model);
}
static void teardown(void) { incoming_free(&in); }

static void set(unsigned id, enum incoming_state state)
{
    incoming_set(&in, (uint16_t)id, state);
    model[id] = (uint8_t)state;
}

static void unset(unsigned id)
{
    incoming_remove(&in, (uint16_t)id);
    model[id] = INCOMING_NONE;
}

/* The set is what the model is, in as few runs as can be. */
static void check(void)
{
    uint32_t counts[INCOMING_STATES + 1] = {0}, runs = 0;
    for (unsigned id = 0; id < IDS; id++) {
        if (incoming_find(in, (uint16_t)id) != model[id]) /* an assertion for each is slow */
            ck_abort_msg("state of %u", id);
        counts[model[id]]++;
        runs += model[id] != INCOMING_NONE && (id == 0 || model[id] != model[id - 1]);
    }
    ck_assert_uint_eq(incoming_runs(in), runs);
    for (unsigned s = 0; s < INCOMING_STATES; s++)
        ck_assert_uint_eq(incoming_count(in, (enum incoming_state)s), counts[s]);
}

/* What is written comes back, all of it restored. */
static void check_stored(bool with_asked)
{
    struct incoming *back = NULL;
    uint16_t n = incoming_encode(in, with_asked, out);
    ck_assert_uint_le(n, 3 * incoming_runs(in));
    ck_assert(incoming_decode(&back, out, n));
    for (unsigned id = 0; id < IDS; id++) {
        bool due = model[id] != INCOMING_NONE && (with_asked || model[id] != INCOMING_ASKED);
        if (incoming_find(back, (uint16_t)id) != (due ? INCOMING_RESTORED : INCOMING_NONE))
            ck_abort_msg("%u came back wrong", id);
    }
    incoming_free(&back);
}

START_TEST(nothing_is_an_empty_set)
{
    check();
    ck_assert_uint_eq(incoming_encode(in, true, out), 0);
    incoming_remove(&in, 5);
    set(5, INCOMING_KEPT);
    unset(5);
    ck_assert_ptr_null(in);
}
END_TEST

START_TEST(successive_ones_are_one_run)
{
    for (unsigned id = 1; id < IDS; id++)
        set(id, INCOMING_KEPT);
    check();
    ck_assert_uint_eq(incoming_runs(in), 1);
    ck_assert_uint_eq(incoming_encode(in, true, out), 3);
    check_stored(true);
    for (unsigned id = 1; id < IDS; id += 2)
        unset(id);
    check();
    check_stored(true);
    ck_assert_uint_eq(incoming_runs(in), IDS / 2 - 1);
}
END_TEST

START_TEST(both_ends_are_held)
{
    set(65535, INCOMING_KEPT);
    set(1, INCOMING_KEPT);
    set(65534, INCOMING_KEPT);
    set(2, INCOMING_ASKED);
    check();
    check_stored(true);
    check_stored(false);
    unset(65535);
    unset(1);
    check();
}
END_TEST

START_TEST(whatever_is_done_in_whatever_order)
{
    srand((unsigned)_i);
    unsigned range = _i % 2 ? 60 : 600, from = _i % 3 ? 1 : IDS - range;
    for (unsigned step = 0; step < 4000; step++) {
        unsigned id = from + (unsigned)rand() % range;
        if (rand() % 3)
            set(id, (enum incoming_state)(rand() % INCOMING_STATES));
        else
            unset(id);
        if (step % 200 == 0) {
            check();
            check_stored(true);
            check_stored(false);
        }
    }
}
END_TEST

START_TEST(what_is_no_set_is_not_taken)
{
    static const uint16_t bad[][3] = {{0, 1, 2}, {5, 0, 4}, {7, 0, 0}, {1, 2, 0}};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert(!incoming_decode(&in, bad[i], 3));
        incoming_free(&in);
    }
    static const uint16_t good[] = {9, 3, 4, 7, 0, 9};
    ck_assert(incoming_decode(&in, good, 6));
    ck_assert_uint_eq(incoming_count(in, INCOMING_RESTORED), 5);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, nothing_is_an_empty_set);
    tcase_add_test(tc, successive_ones_are_one_run);
    tcase_add_test(tc, both_ends_are_held);
    tcase_add_loop_test(tc, whatever_is_done_in_whatever_order, 0, 12);
    tcase_add_test(tc, what_is_no_set_is_not_taken);
}

UNIT_MAIN("session_incoming")
