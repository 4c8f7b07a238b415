/*
 * What --target says: every form that is taken, and what is refused.
 */
#include "gateway/tools/bench/target.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/unit.h"

/* Parses one that must be right. */
static struct target *parse(const char *spec)
{
    struct target *t = target_parse(spec);
    ck_assert_msg(t != NULL, "%s", spec);
    ck_assert_str_eq(t->spec, spec);
    return t;
}

START_TEST(the_floor_is_plaintext)
{
    struct target *t = parse("floor");
    ck_assert_int_eq(t->kind, TARGET_FLOOR);
    ck_assert_str_eq(t->name, "floor");
    ck_assert(!t->tls.on);
    target_free(t);
}
END_TEST

START_TEST(the_tls_floor_has_a_name_if_it_is_given_one)
{
    struct target *t = parse("floor-tls");
    ck_assert_int_eq(t->kind, TARGET_FLOOR);
    ck_assert_str_eq(t->name, "floor-tls");
    ck_assert(t->tls.on && t->tls.version == 0 && !t->rsa);
    target_free(t);
    t = parse("old=floor-tls,tls12,rsa,ciphers=A B:C");
    ck_assert_str_eq(t->name, "old");
    ck_assert(t->tls.on && t->tls.version == 12 && t->rsa);
    ck_assert_str_eq(t->tls.ciphers, "A B:C");
    target_free(t);
    t = parse("floor-tls,tls13,name=a.example,ca=/etc/ca.pem");
    ck_assert_str_eq(t->name, "floor-tls");
    ck_assert_uint_eq(t->tls.version, 13);
    ck_assert_str_eq(t->tls.name, "a.example");
    ck_assert_str_eq(t->tls.ca, "/etc/ca.pem");
    target_free(t);
}
END_TEST

START_TEST(a_running_server_has_an_address)
{
    struct target *t = parse("mine=127.0.0.2:1884,pid=77");
    ck_assert_int_eq(t->kind, TARGET_RUNNING);
    ck_assert_str_eq(t->name, "mine");
    ck_assert_uint_eq(ntohs(t->address.sin_port), 1884);
    ck_assert_uint_eq(ntohl(t->address.sin_addr.s_addr), 0x7f000002);
    ck_assert_int_eq(t->pid, 77);
    ck_assert(!t->tls.on);
    target_free(t);
    t = parse("mine=1884");
    ck_assert_uint_eq(ntohs(t->address.sin_port), 1884);
    target_free(t);
}
END_TEST

START_TEST(a_scheme_says_tls)
{
    struct target *t = parse("mine=tls://127.0.0.1:8883,pid=7,tls12,ca=ca.pem,name=host");
    ck_assert_int_eq(t->kind, TARGET_RUNNING);
    ck_assert(t->tls.on);
    ck_assert_uint_eq(t->tls.version, 12);
    ck_assert_int_eq(t->pid, 7);
    ck_assert_str_eq(t->tls.ca, "ca.pem");
    ck_assert_str_eq(t->tls.name, "host");
    target_free(t);
    t = parse("mine=tls://8883");
    ck_assert(t->tls.on && t->tls.version == 0 && !t->tls.ca);
    target_free(t);
}
END_TEST

START_TEST(a_command_may_have_options)
{
    struct target *t = parse("m=cmd:mosquitto -p {port}, a=b:c");
    ck_assert_int_eq(t->kind, TARGET_COMMAND);
    ck_assert_str_eq(t->command, "mosquitto -p {port}, a=b:c");
    ck_assert(!t->tls.on);
    target_free(t);
    t = parse("m=cmd,tls13,rsa,ciphers=TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384:run, this: and=that");
    ck_assert_str_eq(t->command, "run, this: and=that");
    ck_assert(t->tls.on && t->tls.version == 13 && t->rsa);
    ck_assert_str_eq(t->tls.ciphers, "TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384");
    target_free(t);
}
END_TEST

static const char *const wrong[] = {
    "",
    "=",
    "nothing",
    "floor,tls",
    "x=floor",
    "floor-tlsx",
    "floor-tls,tls14",
    "floor-tls,",
    "floor-tls,pid=7",
    "x=floor-tls,ciphers=",
    "=floor-tls",
    "x=127.0.0.1",
    "x=127.0.0.1:0",
    "x=127.0.0.1:70000",
    "x=localhost:1883",
    "x=127.0.0.1:1883,pid=",
    "x=127.0.0.1:1883,pid=1x",
    "x=127.0.0.1:1883,ca=file",
    "x=127.0.0.1:1883,name=host",
    "x=tls://",
    "x=tls://127.0.0.1",
    "x=tls://127.0.0.1:8883,rsa",
    "x=tls://127.0.0.1:8883,tls11",
    "x=cmd",
    "x=cmd,tls",
    "x=cmd,rsa:server",
    "x=cmd,nonsense:server",
    "x=cmd,tls,pid=3:server",
    "x=cmdtls:server",
    "a name that is longer than thirty-one characters=127.0.0.1:1883",
};

START_TEST(anything_else_is_refused)
{
    FILE *sink = freopen("/dev/null", "w", stderr);
    ck_assert_ptr_nonnull(sink);
    ck_assert_msg(target_parse(wrong[_i]) == NULL, "%s", wrong[_i]);
}
END_TEST

START_TEST(the_tls_floor_of_a_target_has_its_version_and_kind_of_key)
{
    static const struct {
        const char *floor, *target;
        bool is;
    } row[] = {
        {"floor-tls", "x=cmd,tls:s", true},
        {"floor-tls,tls13", "x=cmd,tls:s", true},
        {"floor-tls,tls12", "x=cmd,tls12:s", true},
        {"floor-tls,tls12,rsa", "x=cmd,tls12,rsa:s", true},
        {"floor-tls,tls12", "x=cmd,tls13:s", false},
        {"floor-tls", "x=cmd,tls12:s", false},
        {"floor-tls", "x=cmd,tls,rsa:s", false},
        {"floor-tls", "x=cmd:s", false},
        {"floor", "x=cmd:s", false},
        {"floor", "x=cmd,tls:s", false},
        {"x=cmd,tls:s", "y=cmd,tls:s", false},
        {"floor-tls", "x=floor-tls", false},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct target *floor = parse(row[i].floor), *t = parse(row[i].target);
        ck_assert_msg(target_is_tls_floor_of(floor, t) == row[i].is, "%s, %s", row[i].floor, row[i].target);
        target_free(floor);
        target_free(t);
    }
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, the_floor_is_plaintext);
    tcase_add_test(tc, the_tls_floor_has_a_name_if_it_is_given_one);
    tcase_add_test(tc, a_running_server_has_an_address);
    tcase_add_test(tc, a_scheme_says_tls);
    tcase_add_test(tc, a_command_may_have_options);
    tcase_add_loop_test(tc, anything_else_is_refused, 0, (int)(sizeof wrong / sizeof wrong[0]));
    tcase_add_test(tc, the_tls_floor_of_a_target_has_its_version_and_kind_of_key);
}

UNIT_MAIN("bench_target")
