/*
 * The command line of the bench: what is taken and refused, and that the line in the report can be given to a
 * shell.
 */
#include "gateway/tools/bench/arguments.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/unit.h"

#define MAX_WORDS 80

static struct arguments a;
static char words[MAX_WORDS][64];
static char *argv[MAX_WORDS + 1];

/* Parses "holdfast-bench run" and these words, up to NULL. */
static enum arguments_outcome parse(const char *const *more)
{
    int argc = 0;
    const char *const first[] = {"holdfast-bench", "run"};
    for (size_t i = 0; i < 2; i++)
        snprintf(words[argc++], sizeof words[0], "%s", first[i]);
    for (; *more; more++)
        snprintf(words[argc++], sizeof words[0], "%s", *more);
    for (int i = 0; i < argc; i++)
        argv[i] = words[i];
    argv[argc] = NULL;
    return arguments_parse(&a, argc, argv);
}
#define PARSE(...) parse((const char *const[]){__VA_ARGS__, NULL})

START_TEST(a_scenario_alone_is_measured_once_on_the_floor)
{
    ck_assert_int_eq(PARSE("idle"), ARGUMENTS_OK);
    ck_assert_uint_eq(a.scenarios, 1);
    ck_assert_str_eq(a.scenario[0], "idle");
    ck_assert_uint_eq(a.targets, 1);
    ck_assert_int_eq(a.target[0]->kind, TARGET_FLOOR);
    ck_assert_uint_eq(a.repetitions, 1);
    ck_assert(!a.strict && !a.own_command && !a.json && !a.html);
    ck_assert_str_eq(a.command, "holdfast-bench run idle");
    arguments_free(&a);
}
END_TEST

START_TEST(every_option_is_taken_wherever_it_stands)
{
    ck_assert_int_eq(PARSE("--json", "j", "idle", "--html=h", "--repeat", "3", "--strict", "storm", "--set",
                           "topic=t", "--target", "floor", "--target", "x=127.0.0.1:1883"),
                     ARGUMENTS_OK);
    ck_assert_uint_eq(a.scenarios, 2);
    ck_assert_str_eq(a.scenario[0], "idle");
    ck_assert_str_eq(a.scenario[1], "storm");
    ck_assert_str_eq(a.json, "j");
    ck_assert_str_eq(a.html, "h");
    ck_assert_uint_eq(a.repetitions, 3);
    ck_assert(a.strict);
    ck_assert_uint_eq(a.targets, 2);
    ck_assert_str_eq(a.target[1]->name, "x");
    ck_assert_uint_eq(a.assignments, 1);
    ck_assert_str_eq(a.assignment[0], "topic=t");
    arguments_free(&a);
}
END_TEST

START_TEST(connections_may_be_given_again)
{
    ck_assert_int_eq(PARSE("idle", "--connections", "10", "--set", "payload=64", "--connections", "20"),
                     ARGUMENTS_OK);
    ck_assert_uint_eq(a.assignments, 3);
    ck_assert_str_eq(a.assignment[0], "connections=10");
    ck_assert_str_eq(a.assignment[1], "payload=64");
    ck_assert_str_eq(a.assignment[2], "connections=20");
    arguments_free(&a);
}
END_TEST

START_TEST(a_command_of_its_own_stands_in_the_report_the_last_one)
{
    ck_assert_int_eq(PARSE("idle", "--command", "first", "--command", "tests/load/million.sh"), ARGUMENTS_OK);
    ck_assert(a.own_command);
    ck_assert_str_eq(a.command, "tests/load/million.sh");
    arguments_free(&a);
}
END_TEST

START_TEST(a_certificate_is_for_targets_without_one_of_their_own_kind)
{
    ck_assert_int_eq(PARSE("idle", "--certificate", "c", "--target", "floor-tls", "--key=k", "--target",
                           "r=floor-tls,rsa"),
                     ARGUMENTS_OK);
    ck_assert_str_eq(a.target[0]->certificate, "c");
    ck_assert_str_eq(a.target[0]->key, "k");
    ck_assert(!a.target[1]->certificate && !a.target[1]->key);
    arguments_free(&a);
    ck_assert_int_eq(PARSE("idle", "--target", "floor-tls"), ARGUMENTS_OK);
    ck_assert(!a.target[0]->certificate && !a.target[0]->key);
    arguments_free(&a);
}
END_TEST

START_TEST(help_is_asked_for)
{
    ck_assert_int_eq(PARSE("--help"), ARGUMENTS_HELP);
    arguments_free(&a);
    ck_assert_int_eq(PARSE("idle", "-h"), ARGUMENTS_HELP);
    arguments_free(&a);
}
END_TEST

START_TEST(what_is_wrong_is_refused)
{
    const char *const rows[][4] = {{"--strict"},
                                   {"idle", "--repeat", "0"},
                                   {"idle", "--repeat", "101"},
                                   {"idle", "--repeat", "2x"},
                                   {"idle", "--repeat", ""},
                                   {"idle", "--target", "nothing"},
                                   {"idle", "--connection-s", "5"},
                                   {"idle", "--certificate", "c"},
                                   {"idle", "--key", "k"},
                                   {"idle", "--json"}};
    ck_assert(freopen("/dev/null", "w", stderr) != NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ck_assert_msg(parse(rows[i]) == ARGUMENTS_WRONG, "row %zu", i);
        arguments_free(&a);
    }
}
END_TEST

/* Repeats an option until one more than `max` of them; that is refused, max are not. */
static void assert_limit(const char *option, size_t max)
{
    const char *line[MAX_WORDS] = {"idle"};
    for (size_t i = 0; i < max; i++)
        line[1 + i] = option;
    ck_assert_int_eq(parse(line), ARGUMENTS_OK);
    arguments_free(&a);
    line[1 + max] = option;
    ck_assert_int_eq(parse(line), ARGUMENTS_WRONG);
    arguments_free(&a);
}

START_TEST(too_many_are_refused)
{
    ck_assert(freopen("/dev/null", "w", stderr) != NULL);
    assert_limit("--target=floor", ARGUMENTS_TARGETS);
    assert_limit("--set=payload=64", ARGUMENTS_ASSIGNMENTS);
}
END_TEST

START_TEST(a_word_is_quoted_when_it_has_to_be)
{
    const struct {
        const char *word, *quoted;
    } rows[] = {{"idle", "idle"},
                {"--set=payload=64", "--set=payload=64"},
                {"", "''"},
                {"two words", "'two words'"},
                {"it's", "'it'\\''s'"},
                {"'", "''\\'''"},
                {"$HOME", "'$HOME'"},
                {"a;b", "'a;b'"},
                {"{port}", "'{port}'"},
                {"line\nline", "'line\nline'"},
                {"*", "'*'"},
                {"~", "'~'"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char word[32], *line[] = {word};
        snprintf(word, sizeof word, "%s", rows[i].word);
        char *text = arguments_quote(1, line);
        ck_assert_str_eq(text, rows[i].quoted);
        free(text);
    }
}
END_TEST

START_TEST(a_shell_makes_the_same_words_of_it)
{
    ck_assert_int_eq(PARSE("it's", "a  b", "$(x)", "\\", "`y`", "\"", "", "'cmd:a {b}'"), ARGUMENTS_OK);
    char line[1024], got[1024];
    snprintf(line, sizeof line, "printf '%%s|' %s", a.command);
    FILE *f = popen(line, "r");
    got[fread(got, 1, sizeof got - 1, f)] = '\0';
    pclose(f);
    ck_assert_str_eq(got, "holdfast-bench|run|it's|a  b|$(x)|\\|`y`|\"||'cmd:a {b}'|");
    arguments_free(&a);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, a_scenario_alone_is_measured_once_on_the_floor);
    tcase_add_test(tc, every_option_is_taken_wherever_it_stands);
    tcase_add_test(tc, connections_may_be_given_again);
    tcase_add_test(tc, a_command_of_its_own_stands_in_the_report_the_last_one);
    tcase_add_test(tc, a_certificate_is_for_targets_without_one_of_their_own_kind);
    tcase_add_test(tc, help_is_asked_for);
    tcase_add_test(tc, what_is_wrong_is_refused);
    tcase_add_test(tc, too_many_are_refused);
    tcase_add_test(tc, a_word_is_quoted_when_it_has_to_be);
    tcase_add_test(tc, a_shell_makes_the_same_words_of_it);
}

UNIT_MAIN("bench_arguments")
