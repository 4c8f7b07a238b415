/*
 * The wheel on made-up time, against an array of deadlines.
 */
#include <string.h>

#include "gateway/base/wheel.h"
#include "tests/unit/unit.h"

/* As ck_assert(), for inner loops: Check notes every assertion it passes in a file. */
#define MUST(expr) ((expr) ? (void)0 : ck_abort_msg("%s", #expr))

#define N     300
#define START 1000000
#define TURN  ((uint64_t)WHEEL_TICK_MS * WHEEL_SLOTS)

struct entry {
    struct wheel_link link;
    uint64_t deadline; /* 0: not in the wheel */
    uint64_t told;     /* the time at which it went in */
    unsigned looked;   /* the advance that looked at it last */
    unsigned ended;    /* how often its end was seen */
};

static struct entry entry[N + 1];
static struct wheel *wheel;
static unsigned advance;
static uint64_t now;
static void (*inside)(uint32_t id); /* what look() does besides */

static struct wheel_link *link_of(void *ctx, uint32_t id)
{
    (void)ctx;
    return &entry[id].link;
}

/* Puts an entry in, or moves it to a nearer deadline; a later one is only stored. */
static void set_deadline(uint32_t id, uint64_t deadline)
{
    struct entry *e = &entry[id];
    if (e->deadline == 0)
        wheel_add(wheel, id, deadline);
    else if (deadline < e->deadline)
        wheel_move(wheel, id, deadline);
    if (e->deadline == 0 || deadline < e->deadline)
        e->told = now;
    e->deadline = deadline;
}

static void drop(uint32_t id)
{
    wheel_remove(wheel, id);
    entry[id].deadline = 0;
}

static uint64_t look(void *ctx, uint32_t id, uint64_t now_ms)
{
    struct entry *e = &entry[id];
    (void)ctx;
    MUST(now_ms == now);
    MUST(e->deadline != 0);
    MUST(e->looked != advance); /* once in an advance */
    e->looked = advance;
    if (e->deadline <= now_ms) {
        e->deadline = 0;
        e->ended++;
    }
    if (inside)
        inside(id);
    return e->link.slot_plus_1 ? 0 : e->deadline;
}

static const struct wheel_ops ops = {link_of, look};

static void setup(void)
{
    memset(entry, 0, sizeof entry);
    advance = 0;
    inside = NULL;
    now = START;
    wheel = wheel_new(&ops, NULL, now);
}
static void teardown(void) { wheel_free(wheel); }

static unsigned go_to(uint64_t ms)
{
    now = ms;
    advance++;
    return wheel_advance(wheel, now);
}

START_TEST(never_early_and_less_than_a_tick_late)
{
    for (uint64_t d = 1; d <= 600; d += 7) {
        set_deadline(1, now + d);
        uint64_t deadline = now + d;
        for (unsigned ended = entry[1].ended; entry[1].ended == ended;) {
            ck_assert_uint_lt(now, deadline + WHEEL_TICK_MS);
            go_to(now + 1);
        }
        ck_assert_uint_ge(now, deadline);
        ck_assert_uint_lt(now, deadline + WHEEL_TICK_MS);
        ck_assert_uint_eq(wheel_count(wheel), 0);
    }
}
END_TEST

START_TEST(deadline_put_off_costs_one_look)
{
    set_deadline(1, START + 1000);
    for (int i = 0; i < 100; i++)
        set_deadline(1, START + 1000 + (uint64_t)i * 100);
    ck_assert_uint_eq(go_to(START + 1000), 1);
    ck_assert_uint_eq(go_to(START + 10750), 0);
    ck_assert_uint_eq(entry[1].ended, 0);
    ck_assert_uint_eq(go_to(START + 11000), 1);
    ck_assert_uint_eq(entry[1].ended, 1);
}
END_TEST

START_TEST(past_deadline_comes_at_the_next_tick)
{
    set_deadline(1, 5);
    ck_assert_uint_eq(go_to(START), 0);
    ck_assert_uint_eq(go_to(START + WHEEL_TICK_MS), 1);
    ck_assert_uint_eq(entry[1].ended, 1);
}
END_TEST

START_TEST(beyond_a_turn)
{
    set_deadline(1, START + 3 * TURN + 1000);
    set_deadline(2, START + TURN);
    set_deadline(3, START + TURN + WHEEL_TICK_MS);
    unsigned looks = 0;
    while (now < START + TURN - WHEEL_TICK_MS)
        looks += go_to(now + WHEEL_TICK_MS);
    ck_assert_uint_eq(looks, 0);
    go_to(START + TURN);
    ck_assert_uint_eq(entry[2].ended, 1);
    ck_assert_uint_eq(entry[3].ended, 0);
    go_to(START + TURN + WHEEL_TICK_MS);
    ck_assert_uint_eq(entry[3].ended, 1);
    while (now < START + 3 * TURN + 750)
        looks += go_to(now + WHEEL_TICK_MS);
    ck_assert_uint_le(looks, 4);
    ck_assert_uint_eq(entry[1].ended, 0);
    go_to(START + 3 * TURN + 1000);
    ck_assert_uint_eq(entry[1].ended, 1);
}
END_TEST

START_TEST(long_gap_visits_every_slot_once)
{
    for (uint32_t id = 1; id <= N; id++)
        set_deadline(id, START + (uint64_t)id * TURN / 100);
    ck_assert_uint_eq(go_to(START + 2 * TURN + 123), N); /* also the ones with 2 to 3 turns */
    for (uint32_t id = 1; id <= N; id++)
        ck_assert_uint_eq(entry[id].ended, entry[id].deadline == 0);
    for (uint32_t id = 1; id <= N; id++)
        ck_assert_uint_eq(entry[id].ended, START + (uint64_t)id * TURN / 100 <= now);
    go_to(START + 50 * TURN);
    ck_assert_uint_eq(wheel_count(wheel), 0);
}
END_TEST

START_TEST(removal)
{
    wheel_remove(wheel, 5); /* in no slot: left alone */
    for (uint32_t id = 1; id <= 5; id++)
        set_deadline(id, START + 500);
    drop(3);
    drop(1);
    drop(5);
    wheel_remove(wheel, 5);
    ck_assert_uint_eq(wheel_count(wheel), 2);
    ck_assert_uint_eq(go_to(START + 500), 2);
    ck_assert_uint_eq(entry[2].ended + entry[4].ended, 2);
}
END_TEST

/* Removes all the others of the slot, the next one first. */
static void remove_others(uint32_t id)
{
    for (uint32_t other = 1; other <= 5; other++)
        if (other != id)
            drop(other);
}

START_TEST(removal_of_the_rest_inside_look)
{
    inside = remove_others;
    for (uint32_t id = 1; id <= 5; id++)
        set_deadline(id, START + 500);
    ck_assert_uint_eq(go_to(START + 500), 1);
    ck_assert_uint_eq(wheel_count(wheel), 0);
}
END_TEST

/* Puts an entry in whose slot would be this very tick's, and itself again. */
static void add_now(uint32_t id)
{
    set_deadline(id, now);
    if (id < 100)
        set_deadline(id + 100, now - 10);
}

START_TEST(added_inside_look_waits_for_the_next_advance)
{
    inside = add_now;
    set_deadline(1, START + 500);
    set_deadline(2, START + 500);
    set_deadline(3, START + 750);
    ck_assert_uint_eq(go_to(START + 5000), 3);
    ck_assert_uint_eq(wheel_count(wheel), 6);
    inside = NULL;
    ck_assert_uint_eq(go_to(START + 5000), 0);
    ck_assert_uint_eq(go_to(START + 5250), 6);
    ck_assert_uint_eq(wheel_count(wheel), 0);
}
END_TEST

static void random_deed(uint32_t id)
{
    uint64_t range = random() % 20 ? 20000 : 3 * TURN;
    if (random() % 5 == 0)
        drop(id);
    else
        set_deadline(id, now + (uint64_t)random() % range - 500);
}

/* What other code may do while an entry is looked at. */
static void random_inside(uint32_t id)
{
    (void)id;
    for (long n = random() % 3; n > 0; n--) {
        uint32_t other = (uint32_t)random() % N + 1;
        if (other != id)
            random_deed(other);
    }
}

START_TEST(random_against_model)
{
    srandom((unsigned)_i);
    inside = random_inside;
    for (int step = 0; step < 5000; step++) {
        for (long n = random() % 4; n > 0; n--)
            random_deed((uint32_t)random() % N + 1);
        uint64_t jump = random() % 50 ? 400 : random() % 10 ? 60000 : 3 * TURN;
        uint64_t before = now;
        go_to(now + (uint64_t)random() % jump);
        uint64_t tick = now / WHEEL_TICK_MS * WHEEL_TICK_MS;
        uint32_t count = 0;
        for (uint32_t id = 1; id <= N; id++) {
            const struct entry *e = &entry[id];
            count += e->deadline != 0;
            MUST((e->deadline != 0) == (e->link.slot_plus_1 != 0));
            /* nothing is overdue, but for what came in after this tick had begun */
            if (e->deadline && e->told < tick && e->told <= before)
                MUST(e->deadline > tick);
        }
        MUST(wheel_count(wheel) == count);
    }
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, never_early_and_less_than_a_tick_late);
    tcase_add_test(tc, deadline_put_off_costs_one_look);
    tcase_add_test(tc, past_deadline_comes_at_the_next_tick);
    tcase_add_test(tc, beyond_a_turn);
    tcase_add_test(tc, long_gap_visits_every_slot_once);
    tcase_add_test(tc, removal);
    tcase_add_test(tc, removal_of_the_rest_inside_look);
    tcase_add_test(tc, added_inside_look_waits_for_the_next_advance);
    tcase_add_loop_test(tc, random_against_model, 1, 6);
}

UNIT_MAIN("wheel")
