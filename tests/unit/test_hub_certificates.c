/*
 * The hub's list of certificates: shown when it is whole, replaced as a whole, and written so that any name
 * is a label.
 */
#include "gateway/hub/certificates.h"

#include <event2/buffer.h>
#include <stdio.h>
#include <string.h>

#include "gateway/ipc/ipc_message.h"
#include "gateway/net/tls_context.h"
#include "tests/unit/unit.h"

#define NAME "holdfast_tls_certificate_expiry_timestamp_seconds"

static struct certificates *c;
static enum tls_dated_kind kind; /* of what is told next */

static void setup(void)
{
    c = certificates_new();
    kind = TLS_DATED_SERVER;
}
static void teardown(void) { certificates_free(c); }

static void tell(unsigned number, unsigned place, unsigned of, uint64_t expires, const char *subject,
                 const char *file)
{
    struct ipc_message m = IPC_MAKE(
        CERTIFICATE, IPC_NUM(number), IPC_NUM(place), IPC_NUM(of), IPC_NUM(expires), IPC_BYTES("main", 4),
        IPC_BYTES(subject, strlen(subject)), IPC_BYTES(file, strlen(file)), IPC_NUM(kind));
    certificates_take(c, &m);
}

/* The samples, without the lines about the metric. */
static const char *shown(void)
{
    static char text[4096];
    struct evbuffer *out = evbuffer_new();
    certificates_write(c, out);
    int n = evbuffer_remove(out, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    evbuffer_free(out);
    if (!*text)
        return text;
    ck_assert_int_eq(strncmp(text, "# HELP " NAME " ", strlen("# HELP " NAME " ")), 0);
    char *type = strstr(text, "# TYPE " NAME " gauge\n");
    ck_assert_ptr_nonnull(type);
    return strchr(type, '\n') + 1;
}

START_TEST(nothing_at_first) { ck_assert_str_eq(shown(), ""); }
END_TEST

START_TEST(a_list_is_shown_when_it_is_whole)
{
    tell(1, 0, 2, 100, "a", "a.crt");
    ck_assert_str_eq(shown(), "");
    tell(1, 1, 2, 200, "b", "b.crt");
    ck_assert_str_eq(shown(), NAME "{tls=\"main\",kind=\"server\",file=\"a.crt\",subject=\"a\"} 100\n" NAME
                                   "{tls=\"main\",kind=\"server\",file=\"b.crt\",subject=\"b\"} 200\n");
}
END_TEST

START_TEST(a_new_list_replaces_the_old_one)
{
    tell(1, 0, 1, 100, "a", "f");
    tell(2, 0, 2, 200, "b", "f");
    ck_assert_str_eq(shown(), NAME "{tls=\"main\",kind=\"server\",file=\"f\",subject=\"a\"} 100\n");
    tell(3, 0, 1, 300, "c", "f"); /* the second one of reload 2 never came */
    ck_assert_str_eq(shown(), NAME "{tls=\"main\",kind=\"server\",file=\"f\",subject=\"c\"} 300\n");
    tell(4, 0, 0, 0, "", "");
    ck_assert_str_eq(shown(), "");
}
END_TEST

START_TEST(places_that_do_not_fit_show_nothing)
{
    tell(1, 1, 2, 1, "a", "f");
    tell(1, 5, 2, 1, "a", "f");
    ck_assert_str_eq(shown(), "");
    tell(1, 0, 1, 1, "a", "f");
    ck_assert_str_eq(shown(), NAME "{tls=\"main\",kind=\"server\",file=\"f\",subject=\"a\"} 1\n");
}
END_TEST

START_TEST(any_name_is_a_label)
{
    tell(1, 0, 1, 1, "q\"b\\n\n\xff\xc3\xbc\xc3", "");
    ck_assert_str_eq(shown(), NAME
                     "{tls=\"main\",kind=\"server\",file=\"\",subject=\"q\\\"b\\\\n\\n?\xc3\xbc?\"} 1\n");
}
END_TEST

START_TEST(the_same_labels_stand_once)
{
    for (unsigned i = 0; i < 3; i++)
        tell(1, i, 3, 7, "a", "f");
    ck_assert_str_eq(shown(), NAME "{tls=\"main\",kind=\"server\",file=\"f\",subject=\"a\"} 7\n");
}
END_TEST

/* Also of two CRLs of one issuer in a file. Of very many entries each scrape costs no more than their number.
 */
START_TEST(of_the_same_labels_the_first_end_counts)
{
    const unsigned many = 60000;
    char file[16];
    kind = TLS_DATED_CRL;
    tell(1, 0, 3, 9, "a", "f");
    tell(1, 1, 3, 7, "a", "f");
    tell(1, 2, 3, 8, "a", "f");
    struct evbuffer *out = evbuffer_new();
    certificates_write(c, out);
    ck_assert_int_gt(evbuffer_search(out, "subject=\"a\"} 7\n", 15, NULL).pos, 0);
    ck_assert_int_eq(evbuffer_search(out, "} 8\n", 4, NULL).pos, -1);
    for (unsigned i = 0; i < many; i++) {
        snprintf(file, sizeof file, "%u", i);
        tell(2, i, many, 7, "a", file);
    }
    for (int i = 0; i < 10; i++) {
        evbuffer_drain(out, evbuffer_get_length(out));
        certificates_write(c, out);
    }
    ck_assert_uint_gt(evbuffer_get_length(out), many * strlen("holdfast_tls_next_update_timestamp_seconds"));
    evbuffer_free(out);
}
END_TEST

/* The two metrics: what expires, and what is to be renewed in time. */
START_TEST(each_kind_is_told)
{
    static const char next[] = "holdfast_tls_next_update_timestamp_seconds";
    char expected[1024];
    for (unsigned i = 0; i < TLS_DATED_KINDS; i++) {
        kind = (enum tls_dated_kind)i;
        tell(1, i, TLS_DATED_KINDS + 2, 100 + i, "a", "f");
    }
    kind = TLS_DATED_CRL;
    tell(1, TLS_DATED_KINDS, TLS_DATED_KINDS + 2, INT64_MAX, "no end", "f");
    tell(1, TLS_DATED_KINDS + 1, TLS_DATED_KINDS + 2, 109, "b", "f");
    snprintf(
        expected, sizeof expected,
        NAME
        "{tls=\"main\",kind=\"server\",file=\"f\",subject=\"a\"} 100\n" NAME
        "{tls=\"main\",kind=\"issuer\",file=\"f\",subject=\"a\"} 101\n" NAME
        "{tls=\"main\",kind=\"client_ca\",file=\"f\",subject=\"a\"} 102\n"
        "# HELP %s When a CRL or an OCSP response in force is outdated, since the epoch\n# TYPE %s gauge\n"
        "%s{tls=\"main\",kind=\"ocsp\",file=\"f\",subject=\"a\"} 103\n"
        "%s{tls=\"main\",kind=\"crl\",file=\"f\",subject=\"a\"} 104\n"
        "%s{tls=\"main\",kind=\"crl\",file=\"f\",subject=\"b\"} 109\n",
        next, next, next, next, next);
    ck_assert_str_eq(shown(), expected);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, nothing_at_first);
    tcase_add_test(tc, a_list_is_shown_when_it_is_whole);
    tcase_add_test(tc, a_new_list_replaces_the_old_one);
    tcase_add_test(tc, places_that_do_not_fit_show_nothing);
    tcase_add_test(tc, any_name_is_a_label);
    tcase_add_test(tc, the_same_labels_stand_once);
    tcase_add_test(tc, of_the_same_labels_the_first_end_counts);
    tcase_add_test(tc, each_kind_is_told);
}

UNIT_MAIN("hub_certificates")
