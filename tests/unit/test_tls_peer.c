/*
 * Client certificates of TLS contexts: off, optional, required; by which CA, revoked, expired; who the client
 * is; and that a ticket is worth no more than the certificate it was given for.
 */
#include "gateway/net/tls_context.h"

#include <sys/stat.h>

#include "gateway/base/clock.h"
#include "tests/unit/tls_shake.h"
#include "tests/unit/unit.h"

static struct pki_cert root, middle, foreign, server, good, old, stray, lost, deep;
static struct tls_context *x;
static struct ticket_seed seed;

/* server.pem, server.key; CAs root.pem, middle.pem, both.pem, foreign.pem; clients: good (from root), old
 * (expired), stray (from foreign), lost (good, to be revoked), deep (from middle). */
static void setup(void)
{
    pki_begin();
    root = pki_make((struct pki_wish){.cn = "Root", .ca = true});
    middle = pki_make((struct pki_wish){.cn = "Middle", .ca = true, .issuer = &root});
    foreign = pki_make((struct pki_wish){.cn = "Foreign", .ca = true});
    server = pki_make((struct pki_wish){.cn = "server", .san = "DNS:server.test"});
    good = pki_make((struct pki_wish){
        .cn = "good", .san = "IP:10.0.0.1,email:good@client.test,DNS:good.test", .issuer = &root});
    old = pki_make((struct pki_wish){.cn = "old", .issuer = &root, .from = -9 * DAY, .until = -DAY});
    stray = pki_make((struct pki_wish){.cn = "stray", .issuer = &foreign});
    lost = pki_make((struct pki_wish){.cn = "lost", .issuer = &root});
    deep = pki_make((struct pki_wish){.cn = "deep", .issuer = &middle});
    pki_write_certs("server.pem", server.x, NULL);
    pki_write_key("server.key", server.key);
    pki_write_certs("root.pem", root.x, NULL);
    pki_write_certs("middle.pem", middle.x, NULL);
    pki_write_certs("both.pem", root.x, middle.x, NULL);
    pki_write_certs("foreign.pem", foreign.x, NULL);
    set_section(0, "server.pem", "server.key")->client_certificate = CLIENT_CERT_REQUIRED;
    conf.tls[0].ca = in_folder("root.pem");
    ticket_seed_init(&seed, clock_ms() / ROTATION_MS);
    tickets = tls_tickets_new(&seed, ROTATION_MS);
    new_client(0);
}

static void drop(struct pki_cert c)
{
    X509_free(c.x);
    EVP_PKEY_free(c.key);
}

static void teardown(void)
{
    struct pki_cert *all[] = {&root, &middle, &foreign, &server, &good, &old, &stray, &lost, &deep};

    tls_context_free(x);
    tls_tickets_free(tickets);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        drop(*all[i]);
    SSL_CTX_free(client);
    SSL_SESSION_free(session);
    pki_clean();
}

/* A handshake with a client that shows this certificate (NULL: none), and a CA with it (NULL: none). */
static struct shake *shake_as(const struct pki_cert *who, const struct pki_cert *with)
{
    struct shake *s = begin_shake(x, NULL, NULL);

    if (who) {
        SSL_use_certificate(s->client, who->x);
        SSL_use_PrivateKey(s->client, who->key);
    }
    if (with)
        SSL_add1_chain_cert(s->client, with->x);
    return finish_shake(s);
}

/* The alert that such a client gets, in both versions; -1: it gets in. */
static int outcome(const struct pki_cert *who, const struct pki_cert *with)
{
    int alert[2];

    for (int i = 0; i < 2; i++) {
        new_client(i ? TLS1_3_VERSION : TLS1_2_VERSION);
        struct shake *s = shake_as(who, with);
        ck_assert_int_eq(s->ok, s->alert == -1);
        alert[i] = s->alert;
        end_shake(s);
    }
    if (!who && alert[1] == SSL_AD_CERTIFICATE_REQUIRED) /* which 1.2 does not have */
        alert[1] = alert[0];
    ck_assert_int_eq(alert[0], alert[1]);
    return alert[0];
}

static void remake(void)
{
    tls_context_free(x);
    x = make_section(0);
}

/* As refused() of test_tls_context. */
static void refused(const char *file, const char *words)
{
    struct tls_context *made = try_section(0);

    ck_assert_msg(!made, "loaded; expected: %s", words);
    if (file)
        ck_assert_msg(strncmp(error, pki_path(file), strlen(pki_path(file))) == 0, "%s: %s", file, error);
    ck_assert_msg(strstr(error, words) != NULL, "\"%s\" has no \"%s\"", error, words);
}

/* ---- who gets in ---- */

START_TEST(off_asks_nobody)
{
    conf.tls[0].client_certificate = CLIENT_CERT_OFF;
    conf.tls[0].ca = in_folder(""); /* and needs no CA */
    remake();
    ck_assert_int_eq(outcome(NULL, NULL), -1);
    struct shake *s = shake_as(&good, NULL);
    ck_assert(s->ok);
    ck_assert_ptr_null(SSL_get0_peer_certificate(s->server));
    end_shake(s);
}
END_TEST

START_TEST(required_lets_in_only_whom_the_ca_signed)
{
    remake();
    ck_assert_int_eq(outcome(&good, NULL), -1);
    ck_assert_int_eq(outcome(NULL, NULL), SSL_AD_HANDSHAKE_FAILURE);
    ck_assert_int_eq(outcome(&old, NULL), SSL_AD_CERTIFICATE_EXPIRED);
    ck_assert_int_eq(outcome(&stray, NULL), SSL_AD_UNKNOWN_CA);
    ck_assert_int_eq(outcome(&stray, &foreign), SSL_AD_UNKNOWN_CA);
    ck_assert_int_eq(outcome(&deep, NULL), SSL_AD_UNKNOWN_CA);
    ck_assert_int_eq(outcome(&deep, &middle), -1);
}
END_TEST

START_TEST(optional_lets_in_without_but_not_with_a_bad_one)
{
    conf.tls[0].client_certificate = CLIENT_CERT_OPTIONAL;
    remake();
    ck_assert_int_eq(outcome(NULL, NULL), -1);
    ck_assert_int_eq(outcome(&good, NULL), -1);
    ck_assert_int_eq(outcome(&old, NULL), SSL_AD_CERTIFICATE_EXPIRED);
    ck_assert_int_eq(outcome(&stray, NULL), SSL_AD_UNKNOWN_CA);
}
END_TEST

START_TEST(a_certificate_for_servers_is_none_of_a_client)
{
    struct pki_cert web = pki_make((struct pki_wish){.cn = "web", .usage = "serverAuth", .issuer = &root});

    remake();
    ck_assert_int_eq(outcome(&web, NULL), SSL_AD_UNSUPPORTED_CERTIFICATE);
    drop(web);
}
END_TEST

/* "Who may sign": an intermediate CA is trusted without its root. */
START_TEST(an_intermediate_ca_is_enough)
{
    conf.tls[0].ca = in_folder("middle.pem");
    remake();
    ck_assert_int_eq(outcome(&deep, NULL), -1);
    ck_assert_int_eq(outcome(&good, NULL), SSL_AD_UNKNOWN_CA);
}
END_TEST

/* A folder of CAs, and what the client is told. */
START_TEST(cas_of_a_folder)
{
    conf.tls[0].ca = in_folder("cas");
    ck_assert_int_eq(mkdir(conf.tls[0].ca, 0700), 0);
    pki_write_certs("cas/both.pem", root.x, middle.x, NULL);
    pki_write_certs("cas/foreign.crt", foreign.x, NULL);
    remake();
    ck_assert_int_eq(outcome(&stray, NULL), -1);
    ck_assert_int_eq(outcome(&deep, NULL), -1);
    struct shake *s = shake_as(&good, NULL);
    ck_assert(s->ok);
    ck_assert_int_eq(sk_X509_NAME_num(SSL_get0_peer_CA_list(s->client)), 3);
    end_shake(s);
}
END_TEST

/* The certificate is exchanged by SNI after the verify mode was set. */
START_TEST(clients_are_verified_under_every_name)
{
    pki_write_certs("other.pem", good.x, NULL);
    pki_write_key("other.key", good.key);
    set_section(0, "server.pem other.pem", "server.key other.key")->client_certificate = CLIENT_CERT_REQUIRED;
    conf.tls[0].ca = in_folder("root.pem");
    remake();
    ck_assert(!shakes(x, "good.test"));
    ck_assert(!shakes(x, "server.test"));
    struct shake *s = begin_shake(x, "good.test", NULL);
    SSL_use_certificate(s->client, good.x);
    SSL_use_PrivateKey(s->client, good.key);
    finish_shake(s);
    ck_assert(s->ok);
    ck_assert_str_eq(s->cn, "good");
    end_shake(s);
}
END_TEST

START_TEST(a_chain_of_a_client_is_bounded)
{
    struct shake *s;

    remake();
    new_client(TLS1_3_VERSION);
    s = begin_shake(x, NULL, NULL);
    SSL_use_certificate(s->client, good.x);
    SSL_use_PrivateKey(s->client, good.key);
    for (int i = 0; i < 200; i++)
        SSL_add1_chain_cert(s->client, middle.x);
    finish_shake(s);
    ck_assert(!s->ok);
    ck_assert_int_eq(s->alert, SSL_AD_ILLEGAL_PARAMETER); /* "excessive message size" */
    end_shake(s);
}
END_TEST

START_TEST(a_refused_client_is_told_by_its_subject_and_once)
{
    struct pki_cert odd = pki_make((struct pki_wish){.cn = "a\nb\x1b[1m", .issuer = &foreign});

    remake();
    struct shake *s = shake_as(&stray, NULL);
    ck_assert(!s->ok);
    ck_assert_str_eq(tls_context_refused_client(s->client), "-");
    end_shake(s);
    s = shake_as(&old, NULL);
    ck_assert_str_eq(tls_context_refused_client(s->server), "old");
    ck_assert_str_eq(tls_context_refused_client(s->server), "-");
    end_shake(s);
    s = shake_as(&stray, NULL); /* nobody asks, and the next SSL comes to lie where this one was */
    SSL_set_verify_result(s->server, X509_V_OK);
    ck_assert_str_eq(tls_context_refused_client(s->server), "-");
    end_shake(s);
    s = shake_as(NULL, NULL);
    ck_assert(!s->ok);
    ck_assert_str_eq(tls_context_refused_client(s->server), "-");
    end_shake(s);
    s = shake_as(&odd, NULL); /* its organization is what can be shown */
    ck_assert_str_eq(tls_context_refused_client(s->server), "Test");
    end_shake(s);
    drop(odd);
}
END_TEST

/* ---- CRLs ---- */

START_TEST(a_revoked_client_is_refused)
{
    pki_write_crls("root.crl", pki_crl(&root, lost.x, DAY), NULL);
    conf.tls[0].crl = in_folder("root.crl");
    remake();
    ck_assert_int_eq(outcome(&good, NULL), -1);
    ck_assert_int_eq(outcome(&lost, NULL), SSL_AD_CERTIFICATE_REVOKED);
    ck_assert_int_eq(outcome(&deep, &middle), SSL_AD_UNKNOWN_CA); /* no CRL of its issuer */
}
END_TEST

START_TEST(an_outdated_crl_lets_nobody_in)
{
    pki_write_crls("root.crl", pki_crl(&root, lost.x, -60), NULL);
    conf.tls[0].crl = in_folder("root.crl");
    remake();
    ck_assert_int_eq(outcome(&good, NULL), SSL_AD_CERTIFICATE_EXPIRED);
}
END_TEST

/* The CRL of an intermediate CA alone: the client is checked, the CA above cannot be. */
START_TEST(a_crl_of_the_issuer_alone_is_enough)
{
    pki_write_crls("middle.crl", pki_crl(&middle, deep.x, DAY), NULL);
    conf.tls[0].crl = in_folder("middle.crl");
    conf.tls[0].ca = in_folder("both.pem");
    remake();
    ck_assert_int_eq(outcome(&deep, NULL), SSL_AD_CERTIFICATE_REVOKED);
    pki_write_crls("middle.crl", pki_crl(&middle, lost.x, DAY), NULL);
    remake();
    ck_assert_int_eq(outcome(&deep, NULL), -1);
    conf.tls[0].ca = in_folder("middle.pem");
    remake();
    ck_assert_int_eq(outcome(&deep, NULL), -1);
}
END_TEST

/* With the CRLs of all CAs, an intermediate CA can be revoked too. */
START_TEST(a_revoked_ca_is_refused)
{
    pki_write_crls("all.crl", pki_crl(&root, lost.x, DAY), pki_crl(&middle, NULL, DAY));
    conf.tls[0].crl = in_folder("all.crl");
    conf.tls[0].ca = in_folder("root.pem");
    remake();
    ck_assert_int_eq(outcome(&deep, &middle), -1);
    ck_assert_int_eq(outcome(&good, NULL), -1);
    pki_write_crls("all.crl", pki_crl(&root, middle.x, DAY), pki_crl(&middle, NULL, DAY));
    remake();
    ck_assert_int_eq(outcome(&deep, &middle), SSL_AD_CERTIFICATE_REVOKED);
    ck_assert_int_eq(outcome(&good, NULL), -1);
}
END_TEST

/* What one day is too old, as it is told of a context that is made to look at; of others nothing is kept. */
START_TEST(what_is_dated_is_told)
{
    static const struct {
        enum tls_dated_kind kind;
        const char *subject;
        int64_t days; /* from now to the end */
        bool lacks_crl;
    } expected[] = {{TLS_DATED_CA, "Root", 365, false},
                    {TLS_DATED_CA, "Middle", 365, true},
                    {TLS_DATED_CA, "Foreign", 365, true},
                    {TLS_DATED_CRL, "Root", 1, false},
                    {TLS_DATED_CRL, "Root", -1, false}};
    struct tls_tickets *mine = tickets;
    pki_write_certs("three.pem", root.x, middle.x, foreign.x, NULL);
    pki_write_crls("two.crl", pki_crl(&root, lost.x, DAY), pki_crl(&root, NULL, -DAY));
    conf.tls[0].ca = in_folder("three.pem");
    conf.tls[0].crl = in_folder("two.crl");
    remake();
    ck_assert_uint_eq(tls_context_dated(x), 0);
    tickets = NULL;
    remake();
    tickets = mine;
    int64_t now = time(NULL);
    ck_assert_uint_eq(tls_context_dated(x), sizeof expected / sizeof *expected);
    for (unsigned i = 0; i < tls_context_dated(x); i++) {
        const struct tls_dated *d = tls_context_dated_at(x, i);
        ck_assert_int_eq(d->kind, expected[i].kind);
        ck_assert_str_eq(d->subject, expected[i].subject);
        ck_assert_int_eq(d->lacks_crl, expected[i].lacks_crl);
        if (d->kind == TLS_DATED_CRL)
            ck_assert(llabs(d->until - now - expected[i].days * DAY) < 60);
    }
}
END_TEST

START_TEST(what_is_dated_is_told_within_bounds)
{
    static const char *const files[] = {"cas/1.pem", "cas/2.pem", "cas/3.pem"};

    conf.tls[0].ca = in_folder("cas");
    ck_assert_int_eq(mkdir(conf.tls[0].ca, 0700), 0);
    for (int f = 0; f < 3; f++) {
        BIO *b = BIO_new(BIO_s_mem());
        for (int i = 0; i < TLS_DATED_MAX / 3 + 10; i++)
            PEM_write_bio_X509(b, root.x);
        pki_write_bio(files[f], b);
    }
    pki_write_crls("root.crl", pki_crl(&root, NULL, DAY), NULL);
    conf.tls[0].crl = in_folder("root.crl");
    tls_tickets_free(tickets);
    tickets = NULL;
    remake();
    ck_assert_uint_eq(tls_context_dated(x), TLS_DATED_MAX);
    ck_assert_int_eq(tls_context_dated_at(x, TLS_DATED_MAX - 1)->kind, TLS_DATED_CA);
}
END_TEST

START_TEST(wrong_ca_and_crl_files_are_refused)
{
    struct pki_cert fake = pki_make((struct pki_wish){.cn = "Root", .ca = true});

    pki_write_text("text.pem", "nothing\n");
    pki_write_text("broken.crl", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
    pki_write_crls("fake.crl", pki_crl(&fake, NULL, DAY), NULL);
    conf.tls[0].crl = in_folder("text.pem");
    refused("text.pem", "has no CRL in it; expected one in PEM form");
    conf.tls[0].crl = in_folder("broken.crl");
    refused("broken.crl", "CRL 1 cannot be read: ");
    conf.tls[0].crl = in_folder("fake.crl");
    refused("fake.crl", "CRL 1 is not signed by the CA that it names");
    conf.tls[0].crl = in_folder("");
    conf.tls[0].ca = in_folder("text.pem");
    refused("text.pem", "has no certificate in it");
    conf.tls[0].ca = in_folder("server.pem");
    refused("server.pem", "certificate 1 is not one of a CA");
    conf.tls[0].ca = in_folder("");
    refused(NULL, "tls \"main\": client certificates are asked for, but no CA is given");
    drop(fake);
}
END_TEST

/* ---- who the client is ---- */

/* The identity of a client, or NULL. */
static const char *identity(const struct pki_cert *who, enum tls_identity which, size_t size)
{
    static char name[128];

    conf.tls[0].identity = which;
    remake();
    struct shake *s = shake_as(who, NULL);
    ck_assert(s->ok);
    bool found = tls_context_identity(x, s->server, name, size);
    end_shake(s);
    return found ? name : NULL;
}

START_TEST(the_identity_is_the_cn_or_the_first_alternative_name)
{
    conf.tls[0].client_certificate = CLIENT_CERT_OPTIONAL;
    ck_assert_str_eq(identity(&good, TLS_IDENTITY_CN, 128), "good");
    ck_assert_str_eq(identity(&good, TLS_IDENTITY_CN, 5), "good");
    ck_assert_ptr_null(identity(&good, TLS_IDENTITY_CN, 4));
    ck_assert_str_eq(identity(&good, TLS_IDENTITY_SAN, 128), "good@client.test");
    ck_assert_ptr_null(identity(&lost, TLS_IDENTITY_SAN, 128));
    ck_assert_ptr_null(identity(NULL, TLS_IDENTITY_CN, 128));
    conf.tls[0].client_certificate = CLIENT_CERT_OFF;
    ck_assert_ptr_null(identity(&good, TLS_IDENTITY_CN, 128));
}
END_TEST

/* The identity that a certificate with this CN gives. */
static const char *identity_of_cn(const char *cn, const char *san, enum tls_identity which)
{
    struct pki_cert c = pki_make((struct pki_wish){.cn = cn, .san = san, .issuer = &root});
    const char *name = identity(&c, which, 128);

    drop(c);
    return name;
}

START_TEST(an_identity_is_plain_text)
{
    ck_assert_str_eq(identity_of_cn("Zo\xc3\xab \xe2\x82\xac", NULL, TLS_IDENTITY_CN),
                     "Zo\xc3\xab \xe2\x82\xac");
    ck_assert_ptr_null(identity_of_cn("two\nlines", NULL, TLS_IDENTITY_CN));
    ck_assert_ptr_null(identity_of_cn("c1 \xc2\x85", NULL, TLS_IDENTITY_CN));
    ck_assert_ptr_null(identity_of_cn("del\x7f", NULL, TLS_IDENTITY_CN));
    ck_assert_ptr_null(identity_of_cn(NULL, NULL, TLS_IDENTITY_CN));
    ck_assert_str_eq(identity_of_cn("u", "URI:urn:dev:1", TLS_IDENTITY_SAN), "urn:dev:1");
    ck_assert_str_eq(identity_of_cn("u", "DNS:a.test,DNS:b.test", TLS_IDENTITY_SAN), "a.test");
}
END_TEST

/* A name with a NUL in it would read like another one. */
START_TEST(a_name_with_a_nul_is_no_identity)
{
    struct pki_cert c = pki_make((struct pki_wish){.cn = "x", .issuer = &root});
    X509_NAME *n = X509_get_subject_name(c.x);

    X509_NAME_ENTRY_free(X509_NAME_delete_entry(n, 1));
    X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_UTF8, (const uint8_t *)"good\0evil", 9, -1, 0);
    ck_assert_int_gt(X509_sign(c.x, root.key, EVP_sha256()), 0);
    ck_assert_ptr_null(identity(&c, TLS_IDENTITY_CN, 128));
    X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_UTF8, (const uint8_t *)"specific", -1, -1, 0);
    ck_assert_int_gt(X509_sign(c.x, root.key, EVP_sha256()), 0);
    ck_assert_str_eq(identity(&c, TLS_IDENTITY_CN, 128), "specific"); /* the last one */
    drop(c);
}
END_TEST

/* ---- resumption ---- */

/* A session of this client. */
static SSL_SESSION *get_session(const struct pki_cert *who)
{
    struct shake *s = shake_as(who, NULL);

    ck_assert(s->ok);
    end_shake(s);
    ck_assert_uint_eq(sessions, 1);
    SSL_SESSION_up_ref(session);
    return session;
}

/* Whether a session with the client's certificate behind it is resumed; the identity is there if so. */
static int resumes_as(SSL_SESSION *s, const struct pki_cert *who)
{
    char name[64];
    SSL_SESSION *mine = SSL_SESSION_dup(s);
    struct shake *h = begin_shake(x, NULL, mine);

    SSL_use_certificate(h->client, who->x);
    SSL_use_PrivateKey(h->client, who->key);
    finish_shake(h);
    int reused = SSL_session_reused(h->server);
    if (reused) {
        ck_assert(tls_context_identity(x, h->server, name, sizeof name));
        ck_assert_str_eq(name, "good");
    }
    end_shake(h);
    SSL_SESSION_free(mine);
    return reused;
}

START_TEST(a_resumed_client_keeps_its_identity)
{
    remake();
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        new_client(version);
        SSL_SESSION *s = get_session(&good);
        ck_assert_int_eq(resumes_as(s, &good), 1);
        SSL_SESSION_free(s);
    }
}
END_TEST

/* By their clock the client's certificate has expired since; OpenSSL would not look at it again. */
START_TEST(an_expired_client_is_not_resumed)
{
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        clock_fake((uint64_t)time(NULL) * 1000);
        remake();
        new_client(version);
        SSL_SESSION *s = get_session(&good);
        clock_fake((uint64_t)(time(NULL) + ROTATION_MS / 1000) * 1000);
        ck_assert_int_eq(resumes_as(s, &good), 1);
        SSL_SESSION_free(s);
    }
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct pki_cert brief =
            pki_make((struct pki_wish){.cn = "brief", .issuer = &root, .from = -60, .until = 600});
        clock_fake((uint64_t)time(NULL) * 1000);
        new_client(version);
        SSL_SESSION *s = get_session(&brief);
        clock_fake((uint64_t)(time(NULL) + 700) * 1000);
        ck_assert_int_eq(resumes_as(s, &brief), 0);
        SSL_SESSION_free(s);
        drop(brief);
    }
    clock_real();
}
END_TEST

START_TEST(an_outdated_crl_ends_resumption)
{
    pki_write_crls("root.crl", pki_crl(&root, lost.x, 600), NULL);
    conf.tls[0].crl = in_folder("root.crl");
    clock_fake((uint64_t)time(NULL) * 1000);
    remake();
    SSL_SESSION *s = get_session(&good);
    ck_assert_int_eq(resumes_as(s, &good), 1);
    clock_fake((uint64_t)(time(NULL) + 700) * 1000);
    ck_assert_int_eq(resumes_as(s, &good), 0);
    clock_real();
    SSL_SESSION_free(s);
}
END_TEST

/* After a reload with other rules, a ticket of before is worth nothing. */
START_TEST(other_rules_end_resumption)
{
    remake();
    SSL_SESSION *s = get_session(&good);
    remake();
    ck_assert_int_eq(resumes_as(s, &good), 1); /* the same again */
    pki_write_crls("root.crl", pki_crl(&root, good.x, DAY), NULL);
    conf.tls[0].crl = in_folder("root.crl");
    remake();
    ck_assert_int_eq(resumes_as(s, &good), 0);
    conf.tls[0].crl = in_folder("");
    conf.tls[0].ca = in_folder("both.pem");
    remake();
    ck_assert_int_eq(resumes_as(s, &good), 0);
    conf.tls[0].ca = in_folder("root.pem");
    conf.tls[0].client_certificate = CLIENT_CERT_OPTIONAL;
    remake();
    ck_assert_int_eq(resumes_as(s, &good), 0);
    conf.tls[0].client_certificate = CLIENT_CERT_REQUIRED;
    remake();
    ck_assert_int_eq(resumes_as(s, &good), 1);
    SSL_SESSION_free(s);
}
END_TEST

static void add_tests(TCase *tc)
{
    tls_context_setup();
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, off_asks_nobody);
    tcase_add_test(tc, required_lets_in_only_whom_the_ca_signed);
    tcase_add_test(tc, optional_lets_in_without_but_not_with_a_bad_one);
    tcase_add_test(tc, a_certificate_for_servers_is_none_of_a_client);
    tcase_add_test(tc, an_intermediate_ca_is_enough);
    tcase_add_test(tc, cas_of_a_folder);
    tcase_add_test(tc, clients_are_verified_under_every_name);
    tcase_add_test(tc, a_chain_of_a_client_is_bounded);
    tcase_add_test(tc, a_refused_client_is_told_by_its_subject_and_once);
    tcase_add_test(tc, a_revoked_client_is_refused);
    tcase_add_test(tc, an_outdated_crl_lets_nobody_in);
    tcase_add_test(tc, a_crl_of_the_issuer_alone_is_enough);
    tcase_add_test(tc, a_revoked_ca_is_refused);
    tcase_add_test(tc, what_is_dated_is_told);
    tcase_add_test(tc, what_is_dated_is_told_within_bounds);
    tcase_add_test(tc, wrong_ca_and_crl_files_are_refused);
    tcase_add_test(tc, the_identity_is_the_cn_or_the_first_alternative_name);
    tcase_add_test(tc, an_identity_is_plain_text);
    tcase_add_test(tc, a_name_with_a_nul_is_no_identity);
    tcase_add_test(tc, a_resumed_client_keeps_its_identity);
    tcase_add_test(tc, an_expired_client_is_not_resumed);
    tcase_add_test(tc, an_outdated_crl_ends_resumption);
    tcase_add_test(tc, other_rules_end_resumption);
}

UNIT_MAIN("tls_peer")
