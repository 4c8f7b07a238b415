/*
 * The bench's scenario files: defaults, values from a file and from the command line, figures, where a name
 * is looked up, and what is said about a wrong line.
 */
#include "gateway/tools/bench/scenario.h"

#include <dirent.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/tools/bench/run.h"
#include "tests/unit/unit.h"

static char said[4096]; /* on standard error, by the last call */
static int saved_stderr;
static FILE *caught;

/* From here on standard error goes into a file. */
static void catch_begin(void)
{
    fflush(stderr);
    saved_stderr = dup(2);
    caught = tmpfile();
    ck_assert(caught && saved_stderr >= 0 && dup2(fileno(caught), 2) == 2);
}

/* Standard error is itself again; what was written is in said[]. */
static void catch_end(void)
{
    fflush(stderr);
    dup2(saved_stderr, 2);
    close(saved_stderr);
    rewind(caught);
    said[fread(said, 1, sizeof said - 1, caught)] = '\0';
    fclose(caught);
}

static char path[64];

/* Writes a scenario file. */
static void write_file(const char *text)
{
    snprintf(path, sizeof path, "./test_bench_scenario.%d.conf", (int)getpid());
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static struct scenario *load(const char *text)
{
    write_file(text);
    catch_begin();
    struct scenario *s = scenario_load(path);
    catch_end();
    unlink(path);
    return s;
}

/* Loads a text that must be right. */
static struct scenario *load_good(const char *text)
{
    struct scenario *s = load(text);
    ck_assert_str_eq(said, "");
    ck_assert_ptr_nonnull(s);
    return s;
}

static bool set(struct scenario *s, const char *assignment)
{
    catch_begin();
    bool ok = scenario_set(s, assignment);
    catch_end();
    return ok;
}

/* Whether all of the words were said. */
static void assert_said(const char *first, ...)
{
    va_list args;
    va_start(args, first);
    for (const char *w = first; w; w = va_arg(args, const char *))
        ck_assert_msg(strstr(said, w) != NULL, "\"%s\" is not in: %s", w, said);
    va_end(args);
}

START_TEST(an_empty_file_has_the_defaults)
{
    struct scenario *s = load_good("");
#define OPTION_INT(name, value, min, max, help) ck_assert_int_eq(s->name, value);
#define OPTION_STR(name, value, help)           ck_assert_str_eq(s->name, value);
#define OPTION_WORD(name, value, words, help)   ck_assert_str_eq(s->name, value);
#include "gateway/tools/bench/scenario.def"
#undef OPTION_INT
#undef OPTION_STR
#undef OPTION_WORD
    ck_assert_uint_eq(s->figures, 0);
    scenario_free(s);
}
END_TEST

START_TEST(each_default_is_within_its_own_range)
{
#define OPTION_INT(name, value, min, max, help)                                                              \
    ck_assert_int_le(min, value);                                                                            \
    ck_assert_int_ge(max, value);
#define OPTION_STR(name, value, help)
#define OPTION_WORD(name, value, words, help) ck_assert_ptr_nonnull(strstr("|" words "|", "|" value "|"));
#include "gateway/tools/bench/scenario.def"
#undef OPTION_INT
#undef OPTION_STR
#undef OPTION_WORD
}
END_TEST

START_TEST(values_of_the_file_are_taken_and_its_name)
{
    struct scenario *s = load_good("# a comment\nkind = \"broadcast\"\nconnections = 15000 # here too\n"
                                   "title = \"one to all\"\npayload_2=1024\n");
    char name[64];
    snprintf(name, sizeof name, "test_bench_scenario.%d", (int)getpid());
    ck_assert_str_eq(s->name, name);
    ck_assert_str_eq(s->kind, "broadcast");
    ck_assert_str_eq(s->title, "one to all");
    ck_assert_int_eq(s->connections, 15000);
    ck_assert_int_eq(s->payload_2, 1024);
    scenario_free(s);
}
END_TEST

START_TEST(an_unknown_option_is_reported_with_file_and_line)
{
    ck_assert_ptr_null(load("kind = \"idle\"\nconections = 5\n"));
    assert_said(path, ":2:", "conections", NULL);
}
END_TEST

START_TEST(a_line_that_cannot_be_read_is_reported_with_file_and_line)
{
    const char *const bad[] = {"connections = many\n", "connections 5\n", "connections = \"5\n",
                               "figure { metric = \"lost\" }\n", "figure \"f\" { limit = 1 }\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(load(bad[i]) == NULL, "taken: %s", bad[i]);
        assert_said(path, ":", NULL);
    }
}
END_TEST

START_TEST(a_number_out_of_range_is_refused_with_what_was_expected)
{
    const char *const bad[] = {"connections = 0", "connections = 2000001", "connections = -1", "version = 3",
                               "payload = 23",    "mss = 65496",           "seed = -1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(load(bad[i]) == NULL, "taken: %s", bad[i]);
        assert_said(path, "out of range, expected", NULL);
    }
}
END_TEST

START_TEST(every_number_out_of_range_is_named_at_once)
{
    ck_assert_ptr_null(load("connections = 0\n\nversion = 9\n"));
    assert_said(":1: connections: 0", "1 to 2000000", ":3: version: 9", "4 to 5", NULL);
    assert_said(path, NULL);
}
END_TEST

START_TEST(the_ends_of_each_range_are_taken_and_what_is_beyond_is_not)
{
    struct scenario *s = load_good("");
    char text[128];
#define OPTION_INT(name, value, min, max, help)                                                              \
    snprintf(text, sizeof text, #name "=%ld", (long)(min));                                                  \
    ck_assert(set(s, text) && s->name == (min));                                                             \
    snprintf(text, sizeof text, #name "=%ld", (long)(max));                                                  \
    ck_assert(set(s, text) && s->name == (max));                                                             \
    snprintf(text, sizeof text, #name "=%ld", (long)(max) + 1);                                              \
    ck_assert(!set(s, text));                                                                                \
    snprintf(text, sizeof text, #name "=%ld", (long)(min)-1);                                                \
    ck_assert(!set(s, text));
#define OPTION_STR(name, value, help)                                                                        \
    ck_assert(set(s, #name "=some words") && !strcmp(s->name, "some words"));
#define OPTION_WORD(name, value, words, help) ck_assert(set(s, #name "=" value) && !strcmp(s->name, value));
#include "gateway/tools/bench/scenario.def"
#undef OPTION_INT
#undef OPTION_STR
#undef OPTION_WORD
    scenario_free(s);
}
END_TEST

START_TEST(a_word_is_one_of_those_that_there_are)
{
    struct scenario *s = load_good("sessions = \"persistent\"\n");
    ck_assert(scenario_is_persistent(s));
    ck_assert(set(s, "sessions=clean"));
    ck_assert(!scenario_is_persistent(s));
    const char *const bad[] = {"sessions=", "sessions=clea", "sessions=cleaned", "sessions=clean|persistent",
                               "sessions=|"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(!set(s, bad[i]), "taken: %s", bad[i]);
        assert_said(bad[i], "expected clean|persistent", NULL);
    }
    scenario_free(s);
    ck_assert_ptr_null(load("kind = \"idle\"\nsessions = \"for ever\"\n"));
    assert_said(path, ":2:", "\"for ever\": expected clean|persistent", NULL);
}
END_TEST

START_TEST(the_command_line_overrides_the_file)
{
    struct scenario *s = load_good("connections = 15000\ntopic = \"a\"\n");
    ck_assert(set(s, "connections=200"));
    ck_assert(set(s, "topic=b=c"));
    ck_assert(set(s, "title="));
    ck_assert_int_eq(s->connections, 200);
    ck_assert_str_eq(s->topic, "b=c");
    ck_assert_str_eq(s->title, "");
    scenario_free(s);
}
END_TEST

START_TEST(a_wrong_assignment_is_refused_and_says_why)
{
    const struct {
        const char *text, *why;
    } rows[] = {{"connections", "OPTION=VALUE"},
                {"=5", "OPTION=VALUE"},
                {"", "OPTION=VALUE"},
                {"connection=5", "OPTION=VALUE"},
                {"connectionss=5", "OPTION=VALUE"},
                {"connections=", "expected a number"},
                {"connections=5x", "expected a number"},
                {"connections=1e3", "expected a number"},
                {"connections=0", "expected 1 to 2000000"},
                {"connections=99999999999999999999", "expected 1 to 2000000"}};
    struct scenario *s = load_good("");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ck_assert_msg(!set(s, rows[i].text), "taken: %s", rows[i].text);
        assert_said(rows[i].why, NULL);
    }
    scenario_free(s);
}
END_TEST

START_TEST(figures_have_a_metric_and_a_limit)
{
    struct scenario *s =
        load_good("figure \"nobody lost\" { metric = \"lost\"  max = 0 }\n"
                  "figure \"CPU\" { metric = \"broadcast.64.cpu\"  max_ratio = 1.15 }\n"
                  "figure \"rate\" { metric = \"connect.rate\"  min = 5000.5 }\n"
                  "figure \"TLS\" { metric = \"x\"  max_ratio_tls = 0.5  target = \"a*\" }\n");
    ck_assert_uint_eq(s->figures, 4);
    ck_assert_double_eq(s->figure[3].max_ratio_tls, 0.5);
    ck_assert_str_eq(s->figure[3].target, "a*");
    ck_assert(isnan(s->figure[0].max_ratio_tls));
    ck_assert_str_eq(s->figure[0].target, "");
    ck_assert_str_eq(s->figure[0].title, "nobody lost");
    ck_assert_str_eq(s->figure[0].metric, "lost");
    ck_assert_double_eq(s->figure[0].max, 0);
    ck_assert(isnan(s->figure[0].max_ratio) && isnan(s->figure[0].min));
    ck_assert_double_eq(s->figure[1].max_ratio, 1.15);
    ck_assert(isnan(s->figure[1].max) && isnan(s->figure[1].min));
    ck_assert_double_eq(s->figure[2].min, 5000.5);
    ck_assert(isnan(s->figure[2].max) && isnan(s->figure[2].max_ratio));
    scenario_free(s);
}
END_TEST

START_TEST(a_figure_without_a_metric_or_a_limit_is_reported_with_file_and_line)
{
    const struct {
        const char *text, *line, *why;
    } rows[] = {
        {"kind = \"idle\"\nfigure \"f\" { metric = \"lost\" }\n",
         ":2:", "expected max, min, max_ratio or max_ratio_tls"},
        {"figure \"f\" { max = 1 }\n", ":1:", "expected a metric"},
        {"figure \"good\" { metric = \"lost\" max = 1 }\nfigure \"f\" { metric = \"lost\" }\n",
         ":2:", "expected max"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ck_assert_msg(load(rows[i].text) == NULL, "taken: %s", rows[i].text);
        assert_said(path, rows[i].line, "figure \"f\"", rows[i].why, NULL);
    }
}
END_TEST

START_TEST(a_folder_is_no_scenario)
{
    char folder[64], file[160], slash[80];
    snprintf(folder, sizeof folder, "test_bench_folder.%d", (int)getpid());
    snprintf(file, sizeof file, "%s/%s.conf", folder, folder);
    snprintf(slash, sizeof slash, "./%s", folder);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    FILE *f = fopen(file, "w");
    fputs("connections = 7\n", f);
    fclose(f);
    setenv("HOLDFAST_BENCH_SCENARIOS", folder, 1);
    struct scenario *s = scenario_load(folder); /* the name is also a folder here: looked up all the same */
    catch_begin();
    struct scenario *none = scenario_load(slash);
    catch_end();
    unlink(file);
    rmdir(folder);
    ck_assert_ptr_nonnull(s);
    ck_assert_int_eq(s->connections, 7);
    scenario_free(s);
    ck_assert_ptr_null(none);
    assert_said(slash, "directory", NULL);
}
END_TEST

START_TEST(a_name_is_looked_up_in_the_folder_of_the_environment)
{
    char folder[64], file[128];
    snprintf(folder, sizeof folder, "./test_bench_scenario.%d", (int)getpid());
    snprintf(file, sizeof file, "%s/mine.conf", folder);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    FILE *f = fopen(file, "w");
    fputs("connections = 7\n", f);
    fclose(f);
    setenv("HOLDFAST_BENCH_SCENARIOS", folder, 1);
    struct scenario *s = scenario_load("mine");
    unlink(file);
    rmdir(folder);
    ck_assert_ptr_nonnull(s);
    ck_assert_str_eq(s->name, "mine");
    ck_assert_int_eq(s->connections, 7);
    scenario_free(s);
}
END_TEST

START_TEST(a_scenario_that_does_not_exist_is_reported)
{
    setenv("HOLDFAST_BENCH_SCENARIOS", "/nonexistent", 1);
    const char *const names[] = {"no-such-scenario", "./no-such-scenario.conf", "/nonexistent/x.conf"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        catch_begin();
        struct scenario *s = scenario_load(names[i]);
        catch_end();
        ck_assert_ptr_null(s);
        assert_said(names[i], "o such", NULL);
    }
}
END_TEST

START_TEST(every_option_can_be_asked_for_by_number)
{
    struct scenario *s = load_good("kind = \"idle\"\nconnections = 12\n");
    const char *name;
    char text[64];
    size_t n = 0;
#define OPTION_INT(option, value, min, max, help)                                                            \
    ck_assert(scenario_option(s, n++, &name, text, sizeof text));                                            \
    ck_assert_str_eq(name, #option);                                                                         \
    ck_assert_int_eq(strtol(text, NULL, 10), s->option);
#define OPTION_STR(option, value, help)                                                                      \
    ck_assert(scenario_option(s, n++, &name, text, sizeof text));                                            \
    ck_assert_str_eq(name, #option);                                                                         \
    ck_assert_str_eq(text, s->option);
#define OPTION_WORD(option, value, words, help) OPTION_STR(option, value, help)
#include "gateway/tools/bench/scenario.def"
#undef OPTION_INT
#undef OPTION_STR
#undef OPTION_WORD
    ck_assert(!scenario_option(s, n, &name, text, sizeof text));
    scenario_free(s);
}
END_TEST

START_TEST(the_scenarios_that_are_installed_are_right)
{
    const char *const names[] = {"connect",     "idle",         "broadcast", "heartbeat",     "slow",
                                 "direct",      "storm",        "churn",     "halfopen",      "push",
                                 "buffers",     "storm-jitter", "hold",      "buffers-tuned", "handshake",
                                 "storm-apart", "acknowledge",  "sessions",  "publish",       "wake"};
    setenv("HOLDFAST_BENCH_SCENARIOS", SCENARIOS, 1);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct scenario *s = scenario_load(names[i]);
        ck_assert_msg(s != NULL, "%s", names[i]);
        ck_assert_str_eq(s->name, names[i]);
        ck_assert_str_ne(s->kind, "");
        ck_assert_str_ne(s->title, "");
        scenario_free(s);
    }
}
END_TEST

START_TEST(the_scenarios_of_the_reports_are_right)
{
    static const char *const folders[] = {"figures", "figures-tls", "figures-mqtt"};
    unsigned found = 0;
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        char folder[512], file[1024];
        snprintf(folder, sizeof folder, "%s/%s", FIGURES, folders[i]);
        DIR *d = opendir(folder);
        ck_assert_msg(d != NULL, "%s", folder);
        for (struct dirent *e; (e = readdir(d));) {
            if (e->d_name[0] == '.')
                continue;
            snprintf(file, sizeof file, "%s/%s", folder, e->d_name);
            struct scenario *s = scenario_load(file);
            ck_assert_msg(s && s->figures && run_find_kind(s->kind), "%s", file);
            scenario_free(s);
            found++;
        }
        closedir(d);
    }
    ck_assert_uint_gt(found, 10);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, an_empty_file_has_the_defaults);
    tcase_add_test(tc, each_default_is_within_its_own_range);
    tcase_add_test(tc, values_of_the_file_are_taken_and_its_name);
    tcase_add_test(tc, an_unknown_option_is_reported_with_file_and_line);
    tcase_add_test(tc, a_line_that_cannot_be_read_is_reported_with_file_and_line);
    tcase_add_test(tc, a_number_out_of_range_is_refused_with_what_was_expected);
    tcase_add_test(tc, every_number_out_of_range_is_named_at_once);
    tcase_add_test(tc, the_ends_of_each_range_are_taken_and_what_is_beyond_is_not);
    tcase_add_test(tc, a_word_is_one_of_those_that_there_are);
    tcase_add_test(tc, the_command_line_overrides_the_file);
    tcase_add_test(tc, a_wrong_assignment_is_refused_and_says_why);
    tcase_add_test(tc, figures_have_a_metric_and_a_limit);
    tcase_add_test(tc, a_figure_without_a_metric_or_a_limit_is_reported_with_file_and_line);
    tcase_add_test(tc, a_folder_is_no_scenario);
    tcase_add_test(tc, a_name_is_looked_up_in_the_folder_of_the_environment);
    tcase_add_test(tc, a_scenario_that_does_not_exist_is_reported);
    tcase_add_test(tc, every_option_can_be_asked_for_by_number);
    tcase_add_test(tc, the_scenarios_that_are_installed_are_right);
    tcase_add_test(tc, the_scenarios_of_the_reports_are_right);
}

UNIT_MAIN("bench_scenario")
