/*
 * Session tickets of TLS contexts: between workers, over rotations of the key, from a file, and where they
 * must not work. Real handshakes with OpenSSL's client, in TLS 1.2 and 1.3.
 */
#include "gateway/net/tls_context.h"

#include "gateway/base/clock.h"
#include "tests/unit/tls_shake.h"
#include "tests/unit/unit.h"

static struct pki_cert server;
static struct tls_context *x;
static struct ticket_seed seed;
static uint64_t began; /* the beginning of a period */

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

static void set_period(unsigned n) { clock_fake(began + n * (uint64_t)ROTATION_MS + 1000); }

static void setup(void)
{
    began = (uint64_t)time(NULL) * 1000 / ROTATION_MS * ROTATION_MS;
    set_period(1);
    pki_begin();
    server = pki_make((struct pki_wish){.cn = "server", .san = "DNS:server.test"});
    pki_write_certs("server.pem", server.x, NULL);
    pki_write_key("server.key", server.key);
    set_section(0, "server.pem", "server.key");
    ticket_seed_init(&seed, began / ROTATION_MS); /* of the period before, as workers are given it */
    tickets = tls_tickets_new(&seed, ROTATION_MS);
    x = make_section(0);
}

static void teardown(void)
{
    tls_context_free(x);
    tls_tickets_free(tickets);
    SSL_CTX_free(client);
    SSL_SESSION_free(session);
    X509_free(server.x);
    EVP_PKEY_free(server.key);
    pki_clean();
    clock_real();
}

/* A session made now. */
static SSL_SESSION *get_session(int version)
{
    new_client(version);
    struct shake *s = shake(x, NULL, NULL);
    ck_assert(s->ok);
    end_shake(s);
    ck_assert_uint_eq(sessions, 1);
    SSL_SESSION_up_ref(session);
    return session;
}

/* Takes the tickets' keys of the present configuration. */
static bool load_keys(struct tls_tickets *t)
{
    struct tls_bundle *b = open_bundle();
    bool ok = tls_tickets_load(t, b, error, sizeof error);

    tls_bundle_close(b);
    return ok;
}

/* Writes `count` keys, the first of them with this number, and names the file in the configuration. */
static void use_key_file(unsigned first, unsigned count)
{
    unsigned char keys[8 * 80];

    for (unsigned i = 0; i < count; i++)
        memset(keys + i * 80, (int)(first + i), 80);
    pki_write("tickets.keys", keys, count * (size_t)80);
    conf.ticket_keys = in_folder("tickets.keys");
}

START_TEST(a_session_is_resumed_and_gets_one_new_ticket)
{
    for (size_t i = 0; i < 2; i++) {
        SSL_SESSION *s = get_session(versions[i]);
        ck_assert_int_eq(resumes(x, s), 1);
        ck_assert_int_eq(renewed, versions[i] == TLS1_3_VERSION); /* 1.2: the old one goes on */
        ck_assert_uint_eq(sessions, renewed);
        if (versions[i] == TLS1_3_VERSION)
            ck_assert_int_eq(resumes(x, session), 1);
        SSL_SESSION_free(s);
    }
}
END_TEST

/* Two workers: the same seed, contexts of their own. */
START_TEST(another_worker_resumes)
{
    struct tls_tickets *mine = tickets, *theirs = tls_tickets_new(&seed, ROTATION_MS);
    struct ticket_seed strange;

    tickets = theirs;
    struct tls_context *y = make_section(0);
    ticket_seed_init(&strange, seed.period);
    tickets = tls_tickets_new(&strange, ROTATION_MS);
    struct tls_context *z = make_section(0);
    for (size_t i = 0; i < 2; i++) {
        SSL_SESSION *s = get_session(versions[i]);
        ck_assert_int_eq(resumes(y, s), 1);
        ck_assert_int_eq(resumes(z, s), 0); /* another seed */
        SSL_SESSION_free(s);
    }
    tls_context_free(y);
    tls_context_free(z);
    tls_tickets_free(tickets);
    tls_tickets_free(theirs);
    tickets = mine;
}
END_TEST

/* A worker started in a later period was given a later seed, and has the keys of that period all the same. */
START_TEST(a_worker_started_later_resumes)
{
    SSL_SESSION *s = get_session(TLS1_3_VERSION);
    struct tls_tickets *mine = tickets;

    set_period(2);
    ticket_seed_advance(&seed, seed.period + 1);
    tickets = tls_tickets_new(&seed, ROTATION_MS);
    struct tls_context *y = make_section(0);
    ck_assert_int_eq(resumes(y, s), 1);
    tls_context_free(y);
    tls_tickets_free(tickets);
    tickets = mine;
    SSL_SESSION_free(s);
}
END_TEST

START_TEST(a_ticket_opens_after_one_rotation_and_not_after_two)
{
    for (size_t i = 0; i < 2; i++) {
        set_period(1 + 3 * (unsigned)i);
        SSL_SESSION *s = get_session(versions[i]);
        set_period(2 + 3 * (unsigned)i);
        ck_assert_int_eq(resumes(x, s), 1);
        ck_assert(renewed); /* also in 1.2 */
        SSL_SESSION *next = session;
        SSL_SESSION_up_ref(next);
        set_period(3 + 3 * (unsigned)i);
        ck_assert_int_eq(resumes(x, s), 0);
        ck_assert_int_eq(resumes(x, next), 1);
        SSL_SESSION_free(next);
        SSL_SESSION_free(s);
    }
}
END_TEST

/* At the very beginning there is no period before. */
START_TEST(a_seed_of_the_present_period_will_do)
{
    struct tls_tickets *mine = tickets;

    ticket_seed_init(&seed, clock_ms() / ROTATION_MS);
    tickets = tls_tickets_new(&seed, ROTATION_MS);
    tls_context_free(x);
    x = make_section(0);
    SSL_SESSION *s = get_session(TLS1_3_VERSION);
    set_period(2);
    ck_assert_int_eq(resumes(x, s), 1);
    SSL_SESSION_free(s);
    tls_context_free(x);
    x = NULL;
    tls_tickets_free(tickets);
    tickets = mine;
}
END_TEST

START_TEST(a_long_pause_steps_over_many_periods)
{
    SSL_SESSION *s = get_session(TLS1_3_VERSION);

    set_period(1000);
    ck_assert_int_eq(resumes(x, s), 0);
    ck_assert_int_eq(resumes(x, session), 1);
    SSL_SESSION_free(s);
}
END_TEST

START_TEST(a_ticket_of_another_section_is_worth_nothing)
{
    set_section(1, "server.pem", "server.key");
    struct tls_context *y = make_section(1);
    for (size_t i = 0; i < 2; i++) {
        SSL_SESSION *s = get_session(versions[i]);
        ck_assert_int_eq(resumes(y, s), 0);
        ck_assert_int_eq(resumes(x, s), 1);
        SSL_SESSION_free(s);
    }
    tls_context_free(y);
}
END_TEST

/* A renewed certificate is no reason to lose the sessions. */
START_TEST(a_new_certificate_keeps_the_sessions)
{
    SSL_SESSION *s = get_session(TLS1_3_VERSION);
    struct pki_cert next = pki_make((struct pki_wish){.cn = "next", .san = "DNS:server.test"});

    pki_write_certs("server.pem", next.x, NULL);
    pki_write_key("server.key", next.key);
    tls_context_free(x);
    x = make_section(0);
    ck_assert_int_eq(resumes(x, s), 1);
    SSL_SESSION_free(s);
    X509_free(next.x);
    EVP_PKEY_free(next.key);
}
END_TEST

START_TEST(without_tickets_nothing_is_resumed)
{
    conf.tls[0].session_tickets = false;
    tls_context_free(x);
    x = make_section(0);
    for (size_t i = 0; i < 2; i++) {
        new_client(versions[i]);
        struct shake *s = shake(x, NULL, NULL);
        ck_assert(s->ok);
        ck_assert(!SSL_SESSION_has_ticket(SSL_get_session(s->client)));
        ck_assert_uint_eq(sessions, 0);
        ck_assert_int_eq(resumes(x, SSL_get_session(s->client)), 0);
        end_shake(s);
    }
}
END_TEST

/* As the supervisor makes it, to see whether the files are right; it would serve all the same. */
START_TEST(a_context_without_ticket_keys_gives_no_tickets)
{
    struct tls_tickets *mine = tickets;

    tls_context_free(x);
    tickets = NULL;
    x = make_section(0);
    new_client(TLS1_3_VERSION);
    ck_assert(shakes(x, NULL));
    ck_assert_uint_eq(sessions, 0);
    tickets = mine;
}
END_TEST

/* What a ticket says about its own life is what the keys can keep. */
START_TEST(the_lifetime_is_two_rotations)
{
    SSL_SESSION *s = get_session(TLS1_3_VERSION);

    ck_assert_uint_eq(SSL_SESSION_get_ticket_lifetime_hint(s), 2 * ROTATION_MS / 1000);
    SSL_SESSION_free(s);
}
END_TEST

START_TEST(a_garbled_ticket_is_a_full_handshake)
{
    for (size_t i = 0; i < 2; i++) {
        SSL_SESSION *s = get_session(versions[i]);
        const unsigned char *ticket;
        size_t len;
        SSL_SESSION_get0_ticket(s, &ticket, &len);
        ck_assert_uint_gt(len, 64);
        ((unsigned char *)ticket)[len / 2] ^= 1;
        ck_assert_int_eq(resumes(x, s), 0);
        ((unsigned char *)ticket)[len / 2] ^= 1;
        ((unsigned char *)ticket)[0] ^= 1; /* the key's name */
        ck_assert_int_eq(resumes(x, s), 0);
        ((unsigned char *)ticket)[0] ^= 1;
        ck_assert_int_eq(resumes(x, s), 1);
        SSL_SESSION_free(s);
    }
}
END_TEST

/* ---- keys of a file ---- */

START_TEST(the_first_key_of_a_file_seals_and_all_open)
{
    use_key_file(5, 1);
    ck_assert(load_keys(tickets));
    SSL_SESSION *s = get_session(TLS1_2_VERSION);
    const unsigned char *ticket;
    size_t len;
    SSL_SESSION_get0_ticket(s, &ticket, &len);
    ck_assert_int_eq(ticket[0], 5);
    ck_assert_int_eq(resumes(x, s), 1);
    ck_assert(!renewed);
    use_key_file(4, 8); /* now the second of them: opens, and is to be renewed */
    ck_assert(load_keys(tickets));
    ck_assert_int_eq(resumes(x, s), 1);
    ck_assert(renewed);
    SSL_SESSION_get0_ticket(session, &ticket, &len);
    ck_assert_int_eq(ticket[0], 4);
    set_period(50); /* the clock does not matter here */
    ck_assert_int_eq(resumes(x, s), 1);
    use_key_file(20, 2);
    ck_assert(load_keys(tickets));
    ck_assert_int_eq(resumes(x, s), 0);
    SSL_SESSION_free(s);
}
END_TEST

START_TEST(without_the_file_the_seed_is_used_again)
{
    static char none[] = "";
    SSL_SESSION *s = get_session(TLS1_3_VERSION);

    use_key_file(1, 1);
    ck_assert(load_keys(tickets));
    ck_assert_int_eq(resumes(x, s), 0);
    conf.ticket_keys = none;
    ck_assert(load_keys(tickets));
    ck_assert_int_eq(resumes(x, s), 1);
    SSL_SESSION_free(s);
}
END_TEST

START_TEST(malformed_key_files_are_refused_and_change_nothing)
{
    static const size_t sizes[] = {1, 79, 81, 159, 720};
    unsigned char keys[720] = {0};

    SSL_SESSION *s = get_session(TLS1_3_VERSION);
    conf.ticket_keys = in_folder("tickets.keys");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        pki_write("tickets.keys", keys, sizes[i]);
        ck_assert(!load_keys(tickets));
        ck_assert_int_eq(strncmp(error, conf.ticket_keys, strlen(conf.ticket_keys)), 0);
        ck_assert_ptr_nonnull(strstr(error, "expected 1 to 8 keys of 80 bytes"));
    }
    keys[20] = 1; /* another key of the same name */
    pki_write("tickets.keys", keys, 160);
    ck_assert(!load_keys(tickets));
    ck_assert_ptr_nonnull(strstr(error, "two keys begin with the same name"));
    ck_assert_int_eq(resumes(x, s), 1);
    SSL_SESSION_free(s);
}
END_TEST

static void add_tests(TCase *tc)
{
    tls_context_setup();
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_session_is_resumed_and_gets_one_new_ticket);
    tcase_add_test(tc, another_worker_resumes);
    tcase_add_test(tc, a_worker_started_later_resumes);
    tcase_add_test(tc, a_ticket_opens_after_one_rotation_and_not_after_two);
    tcase_add_test(tc, a_seed_of_the_present_period_will_do);
    tcase_add_test(tc, a_long_pause_steps_over_many_periods);
    tcase_add_test(tc, a_ticket_of_another_section_is_worth_nothing);
    tcase_add_test(tc, a_new_certificate_keeps_the_sessions);
    tcase_add_test(tc, without_tickets_nothing_is_resumed);
    tcase_add_test(tc, a_context_without_ticket_keys_gives_no_tickets);
    tcase_add_test(tc, the_lifetime_is_two_rotations);
    tcase_add_test(tc, a_garbled_ticket_is_a_full_handshake);
    tcase_add_test(tc, the_first_key_of_a_file_seals_and_all_open);
    tcase_add_test(tc, without_the_file_the_seed_is_used_again);
    tcase_add_test(tc, malformed_key_files_are_refused_and_change_nothing);
}

UNIT_MAIN("tls_tickets")
