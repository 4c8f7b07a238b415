/*
 * TLS contexts: how files are loaded and refused, which certificate a client gets, versions, ciphers, ALPN,
 * OCSP staples, the key log, and where OpenSSL's memory is. Real handshakes with OpenSSL's client.
 */
#include "gateway/net/tls_context.h"

#include <malloc.h>
#include <stdint.h>
#include <sys/wait.h>

#include <openssl/rsa.h>

#include "gateway/base/clock.h"
#include "tests/unit/tls_shake.h"
#include "tests/unit/unit.h"

#define TLS12_RSA_ONLY   "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"
#define TLS12_ECDSA_ONLY "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384"

static struct pki_cert root, middle, leaf, other, plain;
static EVP_PKEY *rsa, *rsa_small;
static struct tls_context *x;
static struct ticket_seed seed;

/* The files that most tests need: leaf.pem (leaf and its intermediate), leaf.key. */
static void setup(void)
{
    pki_begin();
    root = pki_make((struct pki_wish){.cn = "Root", .ca = true});
    middle = pki_make((struct pki_wish){.cn = "Middle", .ca = true, .issuer = &root});
    leaf = pki_make((struct pki_wish){.cn = "leaf", .san = "DNS:leaf.test", .issuer = &middle});
    other = pki_make((struct pki_wish){.cn = "other", .san = "DNS:other.test", .issuer = &middle});
    plain = pki_make((struct pki_wish){.cn = "plain", .san = "DNS:plain.test"});
    pki_write_certs("leaf.pem", leaf.x, middle.x, NULL);
    pki_write_key("leaf.key", leaf.key);
    pki_write_certs("plain.pem", plain.x, NULL);
    pki_write_key("plain.key", plain.key);
    pki_write_certs("root.pem", root.x, NULL);
    set_section(0, "leaf.pem", "leaf.key");
    ticket_seed_init(&seed, clock_ms() / ROTATION_MS);
    tickets = tls_tickets_new(&seed, ROTATION_MS);
    new_client(0);
}

static void teardown(void)
{
    struct pki_cert *all[] = {&root, &middle, &leaf, &other, &plain};

    tls_context_free(x);
    tls_tickets_free(tickets);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        X509_free(all[i]->x);
        EVP_PKEY_free(all[i]->key);
    }
    SSL_CTX_free(client);
    SSL_SESSION_free(session);
    pki_clean();
}

static void drop(struct pki_cert c)
{
    X509_free(c.x);
    EVP_PKEY_free(c.key);
}

/* The section is refused; the text names the file and has these words. */
static void refused(const char *file, const char *words)
{
    x = try_section(0);
    ck_assert_msg(!x, "loaded; expected: %s", words);
    if (file)
        ck_assert_msg(strncmp(error, pki_path(file), strlen(pki_path(file))) == 0, "%s: %s", file, error);
    else
        ck_assert_msg(strncmp(error, "tls \"main\": ", 12) == 0, "%s", error);
    ck_assert_msg(strstr(error, words) != NULL, "\"%s\" has no \"%s\"", error, words);
}

static void files_refused(const char *certificates, const char *keys, const char *file, const char *words)
{
    set_section(0, certificates, keys);
    refused(file, words);
}

/* Makes and writes a certificate with its key as NAME.pem and NAME.key. */
static void write_pair(const char *name, struct pki_wish w)
{
    char file[64];
    struct pki_cert c = pki_make(w);

    snprintf(file, sizeof file, "%s.pem", name);
    pki_write_certs(file, c.x, NULL);
    snprintf(file, sizeof file, "%s.key", name);
    pki_write_key(file, c.key);
    drop(c);
}

/* ---- files ---- */

START_TEST(a_chain_is_sent_whole)
{
    x = make_section(0);
    struct shake *s = shake(x, "leaf.test", NULL);
    ck_assert(s->ok);
    ck_assert_str_eq(s->cn, "leaf");
    ck_assert_int_eq(sk_X509_num(SSL_get_peer_cert_chain(s->client)), 2);
    end_shake(s);
}
END_TEST

START_TEST(certificates_that_cannot_be_read_are_refused)
{
    pki_write_text("text.pem", "this is no certificate\n");
    pki_write_text("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    pki_write_text("garbled.pem", "-----BEGIN CERTIFICATE-----\n*!*\n-----END CERTIFICATE-----\n");
    pki_write_text("cut.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    files_refused("text.pem", "leaf.key", "text.pem",
                  "has no certificate in it; expected certificates in PEM");
    files_refused("leaf.key", "leaf.key", "leaf.key", "has no certificate in it");
    files_refused("broken.pem", "leaf.key", "broken.pem", "certificate 1 cannot be read: ");
    files_refused("garbled.pem", "leaf.key", "garbled.pem",
                  "certificate 1 cannot be read: bad base64 decode");
    files_refused("cut.pem", "leaf.key", "cut.pem", "certificate 1 cannot be read: bad end line");
}
END_TEST

START_TEST(a_broken_certificate_behind_a_good_one_is_refused)
{
    BIO *b = BIO_new(BIO_s_mem());

    PEM_write_bio_X509(b, leaf.x);
    BIO_puts(b, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    pki_write_bio("second.pem", b);
    files_refused("second.pem", "leaf.key", "second.pem", "certificate 2 cannot be read");
}
END_TEST

START_TEST(keys_that_cannot_be_read_are_refused)
{
    pki_write_text("text.key", "secret\n");
    pki_write_text("broken.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    files_refused("leaf.pem", "text.key", "text.key", "has no private key in it; expected one in PEM form");
    files_refused("leaf.pem", "leaf.pem", "leaf.pem", "has no private key in it");
    files_refused("leaf.pem", "broken.key", "broken.key", "its private key cannot be read: ");
    files_refused("leaf.pem", "plain.key", "plain.key", "is not the key of the certificate ");
    ck_assert_ptr_nonnull(strstr(error, pki_path("leaf.pem")));
    files_refused("leaf.pem", "", "leaf.pem", "has no key; expected as many keys as certificates");
    files_refused("leaf.pem", "leaf.key plain.key", "plain.key", "belongs to no certificate");
    files_refused("", "", NULL, "has no certificate");
}
END_TEST

START_TEST(an_encrypted_key_is_refused_without_asking)
{
    BIO *modern = BIO_new(BIO_s_mem()), *old = BIO_new(BIO_s_mem());

    PEM_write_bio_PrivateKey(modern, leaf.key, EVP_aes_128_cbc(), NULL, 0, NULL, (void *)"secret");
    PEM_write_bio_PrivateKey_traditional(old, leaf.key, EVP_aes_128_cbc(), NULL, 0, NULL, (void *)"secret");
    pki_write_bio("modern.key", modern);
    pki_write_bio("old.key", old);
    files_refused("leaf.pem", "modern.key", "modern.key", "is encrypted; expected a key without passphrase");
    files_refused("leaf.pem", "old.key", "old.key", "is encrypted; expected a key without passphrase");
}
END_TEST

/* As `openssl ecparam -genkey` writes it, and as many tools want it: everything in one file. */
START_TEST(a_key_may_be_in_one_file_with_other_things)
{
    BIO *b = BIO_new(BIO_s_mem());

    BIO_puts(b, "A comment.\n-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n");
    PEM_write_bio_PrivateKey_traditional(b, leaf.key, NULL, NULL, 0, NULL, NULL);
    PEM_write_bio_X509(b, leaf.x);
    PEM_write_bio_X509(b, middle.x);
    pki_write_bio("all.pem", b);
    set_section(0, "all.pem", "all.pem");
    x = make_section(0);
    ck_assert(shakes(x, NULL));
}
END_TEST

START_TEST(a_chain_in_wrong_order_is_refused)
{
    pki_write_certs("reverse.pem", middle.x, leaf.x, NULL);
    pki_write_certs("gap.pem", leaf.x, root.x, NULL);
    pki_write_certs("foreign.pem", leaf.x, middle.x, plain.x, NULL);
    files_refused("reverse.pem", "leaf.key", "reverse.pem", "belongs to certificate 2 of this file");
    files_refused("gap.pem", "leaf.key", "gap.pem", "certificate 2 is not the issuer of certificate 1");
    files_refused("foreign.pem", "leaf.key", "foreign.pem",
                  "certificate 3 is not the issuer of certificate 2");
}
END_TEST

START_TEST(weak_and_odd_keys_are_refused)
{
    EVP_PKEY *odd = EVP_EC_gen("secp256k1");

    write_pair("small", (struct pki_wish){.cn = "small", .key = rsa_small});
    write_pair("odd", (struct pki_wish){.cn = "odd", .key = odd});
    write_pair("sha1", (struct pki_wish){.cn = "leaf", .issuer = &middle, .md = EVP_sha1()});
    write_pair("user", (struct pki_wish){.cn = "user", .usage = "clientAuth"});
    files_refused("small.pem", "small.key", "small.pem", "OpenSSL refuses its 1024-bit RSA key");
    ck_assert_ptr_nonnull(strstr(error, "ee key too small"));
    files_refused("odd.pem", "odd.key", "odd.pem",
                  "its curve is not one of TLS; expected P-256, P-384 or P-521");
    files_refused("sha1.pem", "sha1.key", "sha1.pem", "md too weak");
    files_refused("user.pem", "user.key", "user.pem", "does not allow TLS servers");
    EVP_PKEY_free(odd);
}
END_TEST

START_TEST(keys_of_other_kinds_are_refused)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "X25519"); /* cannot sign */

    write_pair("x", (struct pki_wish){.cn = "x", .key = key, .issuer = &middle});
    files_refused("x.pem", "x.key", "x.pem", "has a key of type X25519; expected ECDSA, RSA or Ed25519");
    EVP_PKEY_free(key);
}
END_TEST

START_TEST(an_expired_certificate_is_served_and_reported)
{
    struct tls_certificate c;
    int64_t now = time(NULL);

    write_pair("old", (struct pki_wish){
                          .cn = "old", .san = "IP:127.0.0.1,DNS:old.test", .from = -9 * DAY, .until = -DAY});
    set_section(0, "leaf.pem old.pem", "leaf.key old.key");
    x = make_section(0);
    ck_assert_uint_eq(tls_context_certificates(x), 2);
    tls_context_certificate(x, 1, &c);
    ck_assert_str_eq(c.path, pki_path("old.pem"));
    ck_assert_str_eq(c.subject, "old.test");
    ck_assert_int_le(c.not_after, now - DAY);
    ck_assert_int_ge(c.not_after, now - DAY - 60);
    ck_assert_int_le(c.not_before, now - 9 * DAY);
    tls_context_certificate(x, 0, &c);
    ck_assert_int_gt(c.not_after, now);
    struct shake *s = shake(x, "old.test", NULL);
    ck_assert(s->ok);
    ck_assert_str_eq(s->cn, "old");
    end_shake(s);
}
END_TEST

/* ---- which certificate ---- */

/* The CN of the certificate shown under a name. */
static const char *shown(const char *host)
{
    static char cn[64];
    struct shake *s = shake(x, host, NULL);

    ck_assert(s->ok);
    snprintf(cn, sizeof cn, "%s", s->cn);
    end_shake(s);
    return cn;
}

START_TEST(a_certificate_is_chosen_by_name)
{
    write_pair("wild", (struct pki_wish){.cn = "wild", .san = "DNS:*.example.org,DNS:example.org"});
    write_pair("exact",
               (struct pki_wish){.cn = "exact", .san = "DNS:WWW.Example.org,DNS:*.deep.example.org"});
    write_pair("cn", (struct pki_wish){.cn = "only-cn.test"});
    write_pair("ip", (struct pki_wish){.cn = "cn-is-ignored.test", .san = "IP:127.0.0.1,DNS:ip.test"});
    set_section(0, "leaf.pem wild.pem exact.pem cn.pem ip.pem", "leaf.key wild.key exact.key cn.key ip.key");
    x = make_section(0);
    const char *expected[][2] = {
        {NULL, "leaf"},
        {"leaf.test", "leaf"},
        {"nobody.test", "leaf"},
        {"leaf", "leaf"}, /* a CN beside a SAN is no name */
        {"example.org", "wild"},
        {"a.example.org", "wild"},
        {"A.EXAMPLE.ORG", "wild"},
        {"a.example.org.", "wild"},
        {"a.b.example.org", "leaf"}, /* a wildcard is one label */
        {".example.org", "leaf"},
        {"www.example.org", "exact"}, /* exact before wildcard, though it comes later */
        {"x.deep.example.org", "exact"},
        {"deep.example.org", "wild"},
        {"only-cn.test", "only-cn.test"},
        {"ip.test", "cn-is-ignored.test"},
        {"cn-is-ignored.test", "leaf"},
        {"*.example.org", "leaf"},
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        ck_assert_msg(strcmp(shown(expected[i][0]), expected[i][1]) == 0, "%s: %s", expected[i][0],
                      shown(expected[i][0]));
}
END_TEST

/* A 1.2 client limited to ciphers, or a 1.3 client limited to signature algorithms. */
static void client_that_knows(int version, const char *what)
{
    new_client(version);
    if (version == TLS1_2_VERSION)
        ck_assert_int_eq(SSL_CTX_set_cipher_list(client, what), 1);
    else
        ck_assert_int_eq(SSL_CTX_set1_sigalgs_list(client, what), 1);
}

START_TEST(a_client_gets_the_kind_of_key_that_it_knows)
{
    static const struct {
        int version;
        const char *knows, *rsa, *ec;
    } clients[] = {
        {TLS1_2_VERSION, NULL, TLS12_RSA_ONLY, TLS12_ECDSA_ONLY},
        {TLS1_3_VERSION, NULL, "rsa_pss_rsae_sha256", "ecdsa_secp256r1_sha256"},
    };
    write_pair("ec", (struct pki_wish){.cn = "ec", .san = "DNS:a.test,DNS:b.test"});
    write_pair("rsa", (struct pki_wish){.cn = "rsa", .san = "DNS:b.test,DNS:a.test", .key = rsa});
    set_section(0, "ec.pem rsa.pem", "ec.key rsa.key");
    x = make_section(0);
    for (size_t i = 0; i < 2; i++) {
        client_that_knows(clients[i].version, clients[i].rsa);
        ck_assert_str_eq(shown("a.test"), "rsa");
        ck_assert_str_eq(shown(NULL), "rsa");
        client_that_knows(clients[i].version, clients[i].ec);
        ck_assert_str_eq(shown("b.test"), "ec");
        ck_assert_str_eq(shown(NULL), "ec");
    }
}
END_TEST

/* Certificates for addresses, say, which nobody asks for by name. */
START_TEST(without_names_each_kind_of_key_is_served)
{
    write_pair("ec", (struct pki_wish){.cn = "ec", .san = "IP:127.0.0.1"});
    write_pair("rsa", (struct pki_wish){.cn = "rsa", .san = "IP:127.0.0.1", .key = rsa});
    write_pair("more", (struct pki_wish){.cn = "more", .san = "IP:127.0.0.1", .key = rsa});
    files_refused("ec.pem rsa.pem more.pem", "ec.key rsa.key more.key", "more.pem", "would never be used");
    set_section(0, "ec.pem rsa.pem", "ec.key rsa.key");
    x = make_section(0);
    client_that_knows(TLS1_3_VERSION, "rsa_pss_rsae_sha256");
    ck_assert_str_eq(shown(NULL), "rsa");
    client_that_knows(TLS1_3_VERSION, "ECDSA+SHA256");
    ck_assert_str_eq(shown("a.test"), "ec");
}
END_TEST

START_TEST(a_wildcard_lends_the_kind_that_the_exact_name_lacks)
{
    write_pair("wild", (struct pki_wish){.cn = "wild-rsa", .san = "DNS:*.test", .key = rsa});
    write_pair("exact", (struct pki_wish){.cn = "exact-ec", .san = "DNS:a.test"});
    set_section(0, "wild.pem exact.pem", "wild.key exact.key");
    x = make_section(0);
    client_that_knows(TLS1_2_VERSION, TLS12_RSA_ONLY);
    ck_assert_str_eq(shown("a.test"), "wild-rsa");
    client_that_knows(TLS1_2_VERSION, TLS12_RSA_ONLY ":" TLS12_ECDSA_ONLY);
    ck_assert_str_eq(shown("a.test"), "exact-ec");
    ck_assert_str_eq(shown("b.test"), "wild-rsa");
    client_that_knows(TLS1_2_VERSION, TLS12_ECDSA_ONLY);
    struct shake *s = shake(x, "b.test", NULL);
    ck_assert(!s->ok);
    ck_assert_int_eq(s->alert, SSL_AD_HANDSHAKE_FAILURE);
    end_shake(s);
}
END_TEST

START_TEST(ed25519_is_served)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");

    write_pair("ed", (struct pki_wish){.cn = "ed", .san = "DNS:leaf.test", .key = key});
    EVP_PKEY_free(key);
    set_section(0, "leaf.pem ed.pem", "leaf.key ed.key");
    x = make_section(0);
    client_that_knows(TLS1_3_VERSION, "ed25519");
    ck_assert_str_eq(shown("leaf.test"), "ed");
    new_client(TLS1_3_VERSION);
    ck_assert_str_eq(shown("leaf.test"), "leaf");
}
END_TEST

START_TEST(a_certificate_that_nobody_would_get_is_refused)
{
    write_pair("twin", (struct pki_wish){.cn = "twin", .san = "DNS:leaf.test"});
    write_pair("mute", (struct pki_wish){0});
    files_refused("leaf.pem twin.pem", "leaf.key twin.key", "twin.pem", "would never be used");
    files_refused("leaf.pem mute.pem", "leaf.key mute.key", "mute.pem", "would never be used");
    set_section(0, "mute.pem leaf.pem", "mute.key leaf.key"); /* the first is for those without a name */
    x = make_section(0);
    ck_assert_str_eq(shown(NULL), "");
    ck_assert_str_eq(shown("leaf.test"), "leaf");
    struct tls_certificate c;
    tls_context_certificate(x, 0, &c);
    ck_assert_str_eq(c.subject, "-");
}
END_TEST

/* What servers[0] has must hold for the others too: the callback exchanges them in the middle of a handshake.
 */
START_TEST(settings_hold_under_every_name)
{
    struct config_tls *c = set_section(0, "leaf.pem plain.pem", "leaf.key plain.key");

    c->min_version = TLS_MIN_13;
    x = make_section(0);
    new_client(TLS1_2_VERSION);
    ck_assert(!shakes(x, "plain.test"));
    new_client(TLS1_3_VERSION);
    struct shake *s = shake(x, "plain.test", NULL);
    ck_assert(s->ok);
    ck_assert_str_eq(s->cn, "plain");
    ck_assert_uint_eq(sessions, 1);
    ck_assert_int_eq(resumes(x, session), 1);
    end_shake(s);
}
END_TEST

/* ---- versions, ciphers ---- */

START_TEST(old_versions_are_refused)
{
    x = make_section(0);
    for (int version = TLS1_VERSION; version <= TLS1_3_VERSION; version++) {
        new_client(version);
        SSL_CTX_set_cipher_list(client, "ALL:@SECLEVEL=0"); /* or the client would not even try */
        struct shake *s = shake(x, NULL, NULL);
        ck_assert_int_eq(s->ok, version >= TLS1_2_VERSION);
        if (version < TLS1_2_VERSION)
            ck_assert_int_eq(s->alert, SSL_AD_PROTOCOL_VERSION);
        end_shake(s);
    }
    new_client(TLS1_2_VERSION);
    struct config_tls *c = set_section(0, "leaf.pem", "leaf.key");
    c->min_version = TLS_MIN_13;
    tls_context_free(x);
    x = make_section(0);
    struct shake *s = shake(x, NULL, NULL);
    ck_assert(!s->ok);
    ck_assert_int_eq(s->alert, SSL_AD_PROTOCOL_VERSION);
    end_shake(s);
}
END_TEST

/* The cipher that is agreed on with a client of these suites. */
static const char *agreed(const char *suites)
{
    new_client(TLS1_3_VERSION);
    SSL_CTX_set_ciphersuites(client, suites);
    struct shake *s = shake(x, NULL, NULL);
    const char *name = s->ok ? SSL_get_cipher_name(s->client) : "none";
    end_shake(s);
    return name;
}

START_TEST(the_servers_order_counts_but_for_clients_without_aes)
{
    x = make_section(0);
    ck_assert_str_eq(agreed("TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"),
                     "TLS_AES_128_GCM_SHA256");
    ck_assert_str_eq(agreed("TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"),
                     "TLS_CHACHA20_POLY1305_SHA256");
    ck_assert_str_eq(agreed("TLS_AES_256_GCM_SHA384"), "TLS_AES_256_GCM_SHA384");
    ck_assert_str_eq(agreed("TLS_AES_128_CCM_SHA256"), "none");
}
END_TEST

START_TEST(lists_that_openssl_does_not_know_are_refused)
{
    static char nonsense[] = "NONSENSE", long_name[600];
    struct config_tls *c = &conf.tls[0];
    char *empty = c->ca;

    c->ciphers = nonsense;
    refused(NULL, "ciphers = \"NONSENSE\": no cipher match");
    c->ciphers = empty;
    c->ciphersuites = nonsense;
    refused(NULL, "ciphersuites = \"NONSENSE\": ");
    c->ciphersuites = empty;
    c->groups = nonsense;
    refused(NULL, "groups = \"NONSENSE\": ");
    c->groups = empty;
    memset(long_name, 'a', sizeof long_name - 1);
    c->alpn = long_name;
    refused(NULL, "alpn: expected names of 1 to 255 bytes");
    c->alpn = empty;
    x = make_section(0); /* empty: OpenSSL's own lists */
    ck_assert(shakes(x, NULL));
}
END_TEST

START_TEST(renegotiation_is_refused)
{
    x = make_section(0);
    new_client(TLS1_2_VERSION);
    struct shake *s = shake(x, NULL, NULL);
    char buf[8];
    ck_assert(s->ok);
    SSL_renegotiate(s->client);
    SSL_do_handshake(s->client);
    ck_assert_int_le(SSL_read(s->server, buf, sizeof buf), 0);
    ck_assert_int_eq(SSL_renegotiate_pending(s->server), 0);
    ck_assert_int_le(SSL_do_handshake(s->client), 0);
    ck_assert_int_eq(SSL_get_error(s->client, -1), SSL_ERROR_SSL);
    ck_assert_int_eq(ERR_GET_REASON(ERR_peek_last_error()), SSL_R_NO_RENEGOTIATION);
    end_shake(s);
}
END_TEST

START_TEST(what_ssls_are_set_to)
{
    conf.tls[0].parking = false;
    x = make_section(0);
    ck_assert(!tls_context_parks(x));
    SSL *ssl = tls_context_accept(x);
    long modes = SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER;
    ck_assert_int_eq(SSL_get_mode(ssl) & modes, modes);
    ck_assert_int_eq(SSL_get_mode(ssl) & SSL_MODE_ENABLE_PARTIAL_WRITE, 0); /* libevent cannot do with it */
    ck_assert_uint_eq(SSL_get_options(ssl) & SSL_OP_ENABLE_MIDDLEBOX_COMPAT, SSL_OP_ENABLE_MIDDLEBOX_COMPAT);
    ck_assert_int_eq(SSL_get_read_ahead(ssl), 0);
    ck_assert_uint_eq(SSL_get_max_early_data(ssl), 0);
    ck_assert_uint_eq(SSL_get_num_tickets(ssl), 1);
    ck_assert_int_eq(SSL_CTX_get_session_cache_mode(SSL_get_SSL_CTX(ssl)), SSL_SESS_CACHE_OFF);
    ck_assert(SSL_is_server(ssl));
    SSL_free(ssl);
}
END_TEST

/* A reload frees the context while handshakes are under way. */
START_TEST(a_handshake_outlives_the_context)
{
    set_section(0, "leaf.pem plain.pem", "leaf.key plain.key");
    x = make_section(0);
    struct shake *s = begin_shake(x, "plain.test", NULL);
    tls_context_free(x);
    x = NULL;
    finish_shake(s);
    ck_assert(s->ok);
    ck_assert_str_eq(s->cn, "plain");
    end_shake(s);
}
END_TEST

/* ---- ALPN ---- */

static struct shake *shake_alpn(const char *wire, size_t len)
{
    struct shake *s = begin_shake(x, NULL, NULL);

    ck_assert_int_eq(SSL_set_alpn_protos(s->client, (const uint8_t *)wire, (unsigned)len), 0);
    return finish_shake(s);
}

/* What is agreed on. */
static void alpn_gives(const char *wire, const char *expected)
{
    const unsigned char *chosen;
    unsigned len;
    struct shake *s = shake_alpn(wire, strlen(wire));

    ck_assert(s->ok);
    SSL_get0_alpn_selected(s->client, &chosen, &len);
    ck_assert_uint_eq(len, strlen(expected));
    ck_assert_int_eq(memcmp(chosen ? (const char *)chosen : "", expected, len), 0);
    end_shake(s);
}

START_TEST(alpn_takes_the_first_of_the_servers_list)
{
    static char list[] = "mqtt\nhttp/1.1", none[] = "";

    conf.tls[0].alpn = list;
    x = make_section(0);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        new_client(version);
        ck_assert(shakes(x, NULL)); /* without ALPN */
        alpn_gives("\4mqtt", "mqtt");
        alpn_gives("\10http/1.1\4mqtt", "mqtt");
        alpn_gives("\2h2\10http/1.1", "http/1.1");
        struct shake *s = shake_alpn("\2h2\4mqt_", 8);
        ck_assert(!s->ok);
        ck_assert_int_eq(s->alert, SSL_AD_NO_APPLICATION_PROTOCOL);
        end_shake(s);
    }
    tls_context_free(x);
    conf.tls[0].alpn = none;
    x = make_section(0);
    alpn_gives("\2h2", "");
}
END_TEST

/* ---- OCSP ---- */

/* The length of the staple that the client sees under a name; -1: none. */
static long stapled(const char *host)
{
    const unsigned char *response;
    struct shake *s = begin_shake(x, host, NULL);

    SSL_set_tlsext_status_type(s->client, TLSEXT_STATUSTYPE_ocsp);
    finish_shake(s);
    ck_assert(s->ok);
    long len = SSL_get_tlsext_status_ocsp_resp(s->client, &response);
    end_shake(s);
    return len;
}

START_TEST(a_fresh_staple_is_sent_with_its_certificate)
{
    clock_fake((uint64_t)time(NULL) * 1000);
    size_t len = pki_write_ocsp("leaf.der", &leaf, &middle, &middle, V_OCSP_CERTSTATUS_GOOD, DAY);
    set_section(0, "leaf.pem plain.pem", "leaf.key plain.key")->ocsp = in_folder("leaf.der");
    x = make_section(0);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        new_client(version);
        ck_assert_int_eq(stapled("leaf.test"), (long)len);
        ck_assert_int_eq(stapled("plain.test"), -1);
        ck_assert(shakes(x, NULL)); /* who does not ask */
    }
    clock_fake((uint64_t)(time(NULL) + DAY + 10) * 1000);
    ck_assert_int_eq(stapled("leaf.test"), -1);
    clock_fake((uint64_t)(time(NULL) - 7200) * 1000);
    ck_assert_int_eq(stapled("leaf.test"), -1);
    clock_real();
}
END_TEST

START_TEST(chain_and_staple_are_told_with_their_dates)
{
    pki_write_ocsp("leaf.der", &leaf, &middle, &middle, V_OCSP_CERTSTATUS_GOOD, DAY);
    set_section(0, "leaf.pem plain.pem", "leaf.key plain.key")->ocsp = in_folder("leaf.der");
    struct tls_tickets *mine = tickets;
    tickets = NULL;
    x = make_section(0);
    tickets = mine;
    ck_assert_uint_eq(tls_context_dated(x), 2);
    const struct tls_dated *issuer = tls_context_dated_at(x, 0), *staple = tls_context_dated_at(x, 1);
    ck_assert_int_eq(issuer->kind, TLS_DATED_ISSUER);
    ck_assert_ptr_nonnull(strstr(issuer->path, "leaf.pem"));
    ck_assert_int_eq(staple->kind, TLS_DATED_OCSP);
    ck_assert_str_eq(staple->subject, "leaf.test");
    ck_assert(llabs(staple->until - time(NULL) - DAY) < 60);
}
END_TEST

/* The place of a certificate without a response is left empty. */
START_TEST(staples_by_place)
{
    char list[256];

    pki_write_ocsp("plain.der", &plain, &plain, &plain, V_OCSP_CERTSTATUS_GOOD, DAY);
    snprintf(list, sizeof list, "\n%s", pki_path("plain.der"));
    set_section(0, "leaf.pem plain.pem", "leaf.key plain.key")->ocsp = list;
    x = make_section(0);
    ck_assert_int_gt(stapled("plain.test"), 0);
    ck_assert_int_eq(stapled("leaf.test"), -1);
}
END_TEST

/* The response was signed by a key that the issuer made for that. */
START_TEST(a_delegated_responder_is_good)
{
    struct pki_cert responder =
        pki_make((struct pki_wish){.cn = "responder", .issuer = &middle, .usage = "OCSPSigning"});

    pki_write_ocsp("leaf.der", &leaf, &middle, &responder, V_OCSP_CERTSTATUS_GOOD, DAY);
    conf.tls[0].ocsp = in_folder("leaf.der");
    x = make_section(0);
    ck_assert_int_gt(stapled("leaf.test"), 0);
    drop(responder);
}
END_TEST

START_TEST(wrong_staples_are_refused)
{
    char der[4096];
    static char list[512];
    size_t len = pki_write_ocsp("good.der", &leaf, &middle, &middle, V_OCSP_CERTSTATUS_GOOD, -60);
    FILE *f = fopen(pki_path("good.der"), "r");

    ck_assert_uint_eq(fread(der, 1, len, f), len);
    fclose(f);
    der[len] = 0;
    pki_write_text("text.der", "this is no response");
    pki_write("cut.der", der, len - 1);
    pki_write("more.der", der, len + 1);
    pki_write("later.der", "\x30\x03\x0a\x01\x03", 5); /* a responder's answer "try later" */
    pki_write_ocsp("revoked.der", &leaf, &middle, &middle, V_OCSP_CERTSTATUS_REVOKED, DAY);
    pki_write_ocsp("unknown.der", &leaf, &middle, &middle, V_OCSP_CERTSTATUS_UNKNOWN, DAY);
    pki_write_ocsp("stranger.der", &leaf, &middle, &plain, V_OCSP_CERTSTATUS_GOOD, DAY);
    static const struct {
        const char *file, *words;
    } wrong[] = {
        {"text.der", "is not an OCSP response; expected one in DER form"},
        {"cut.der", "is not an OCSP response"},
        {"more.der", "is not an OCSP response"},
        {"later.der", "is the answer of a responder that says \"trylater\""},
        {"revoked.der", "is revoked"},
        {"unknown.der", "is unknown"},
        {"stranger.der", "is not signed by the issuer of the certificate "},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        conf.tls[0].ocsp = in_folder(wrong[i].file);
        refused(wrong[i].file, wrong[i].words);
    }
    snprintf(list, sizeof list, "\n%s", pki_path("good.der"));
    conf.tls[0].ocsp = list;
    refused("good.der", "belongs to no certificate");
    conf.tls[0].ocsp = in_folder("good.der"); /* outdated: no reason not to start */
    x = make_section(0);
    ck_assert_int_eq(stapled(NULL), -1);
}
END_TEST

/* What a context that is made to look at says of its staple, the last that it says. */
static const struct tls_dated *told_staple(void)
{
    struct tls_tickets *mine = tickets;

    tls_context_free(x);
    tickets = NULL;
    x = make_section(0);
    tickets = mine;
    const struct tls_dated *d = tls_context_dated_at(x, tls_context_dated(x) - 1);
    ck_assert_int_eq(d->kind, TLS_DATED_OCSP);
    ck_assert_str_eq(d->subject, "leaf.test");
    return d;
}

/* A certificate may be renewed before there is a response about the new one. */
START_TEST(a_staple_of_another_certificate_is_told_and_not_shown)
{
    pki_write_ocsp("other.der", &other, &middle, &middle, V_OCSP_CERTSTATUS_GOOD, DAY);
    conf.tls[0].ocsp = in_folder("other.der");
    ck_assert(told_staple()->stray);
    ck_assert_int_eq(told_staple()->until, INT64_MAX);
    ck_assert_int_eq(stapled(NULL), -1);
    pki_write_ocsp("other.der", &leaf, &middle, &middle, V_OCSP_CERTSTATUS_GOOD, DAY);
    ck_assert(!told_staple()->stray);
    ck_assert_int_gt(stapled(NULL), 0);
}
END_TEST

/* Without the issuer in the file, the serial number has to do. */
START_TEST(a_staple_without_issuer_is_known_by_its_number)
{
    pki_write_certs("alone.pem", leaf.x, NULL);
    pki_write_ocsp("leaf.der", &leaf, &middle, &middle, V_OCSP_CERTSTATUS_GOOD, DAY);
    pki_write_ocsp("other.der", &other, &middle, &middle, V_OCSP_CERTSTATUS_GOOD, DAY);
    set_section(0, "alone.pem", "leaf.key")->ocsp = in_folder("other.der");
    ck_assert(told_staple()->stray);
    ck_assert_int_eq(stapled(NULL), -1);
    conf.tls[0].ocsp = in_folder("leaf.der");
    ck_assert(!told_staple()->stray);
    ck_assert_int_gt(stapled(NULL), 0);
}
END_TEST

/* ---- key log ---- */

/* A handshake with the key log on or off; how many bytes it wrote. */
static size_t logged(bool on, char *out, size_t size)
{
    FILE *f = tmpfile();
    struct tls_bundle *b = open_bundle();

    conf.tls[0].debug_keylog = on;
    tls_context_free(x);
    x = tls_context_new(&conf, 0, b, tickets, fileno(f), error, sizeof error);
    tls_bundle_close(b);
    ck_assert(shakes(x, NULL));
    rewind(f);
    size_t len = fread(out, 1, size - 1, f);
    out[len] = '\0';
    fclose(f);
    return len;
}

START_TEST(the_key_log_is_written_only_when_asked_for)
{
    char text[8192];

    ck_assert_uint_eq(logged(false, text, sizeof text), 0);
    size_t len = logged(true, text, sizeof text);
    ck_assert_uint_gt(len, 0);
    ck_assert_int_eq(text[len - 1], '\n');
    ck_assert_ptr_nonnull(strstr(text, "CLIENT_TRAFFIC_SECRET_0 "));
    ck_assert_ptr_nonnull(strstr(text, "\nSERVER_TRAFFIC_SECRET_0 "));
}
END_TEST

/* ---- memory ---- */

/* Whether the mapping that holds an address has this flag in /proc/self/smaps. */
static bool has_vm_flag(const void *at, const char *flag)
{
    FILE *f = fopen("/proc/self/smaps", "r");
    char line[512];
    bool here = false, found = false;

    while (fgets(line, sizeof line, f)) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            here = (uintptr_t)at >= from && (uintptr_t)at < to;
        else if (here && strncmp(line, "VmFlags:", 8) == 0)
            found = strstr(line, flag) != NULL;
    }
    fclose(f);
    return found;
}

START_TEST(private_keys_stay_out_of_core_dumps)
{
    size_t before = CRYPTO_secure_used();
    void *p = OPENSSL_secure_malloc(32);

    ck_assert(CRYPTO_secure_malloc_initialized());
    ck_assert(CRYPTO_secure_allocated(p));
    ck_assert(has_vm_flag(p, " dd"));
    ck_assert(!has_vm_flag(&before, " dd"));
    OPENSSL_secure_free(p);
    x = make_section(0);
    ck_assert_uint_gt(CRYPTO_secure_used(), before); /* the key of leaf.pem */
    tls_context_free(x);
    x = NULL;
    ck_assert_uint_eq(CRYPTO_secure_used(), before);
}
END_TEST

/* The bytes of a secret that a realloc moves and a free returns are looked for in the heap's free blocks. */
START_TEST(what_is_freed_is_wiped)
{
#if defined __SANITIZE_ADDRESS__
    return; /* freed memory cannot be looked at there */
#endif
    unsigned char *p = OPENSSL_malloc(1000), *pin = OPENSSL_malloc(1000), *old = p;

    memset(p, 0x5a, 1000);
    p = OPENSSL_realloc(p, 100000);
    ck_assert_ptr_ne(p, old);
    volatile unsigned char *gone = (volatile unsigned char *)(uintptr_t)old;
    for (size_t i = 64; i < 1000; i++) /* the heap keeps its links in the first bytes */
        ck_assert_uint_ne(gone[i], 0x5a);
    for (size_t i = 0; i < 1000; i++)
        ck_assert_uint_eq(p[i], 0x5a);
    OPENSSL_free(pin);
    OPENSSL_free(p);
    ck_assert_ptr_null(OPENSSL_malloc(0));
    p = OPENSSL_realloc(NULL, 10);
    ck_assert_ptr_nonnull(p);
    ck_assert_ptr_null(OPENSSL_realloc(p, 0));
}
END_TEST

START_TEST(a_second_setup_changes_nothing)
{
    tls_context_setup(); /* again: nothing */
    CRYPTO_malloc_fn malloc_fn;
    CRYPTO_realloc_fn realloc_fn;
    CRYPTO_free_fn free_fn;
    CRYPTO_get_mem_functions(&malloc_fn, &realloc_fn, &free_fn);
    ck_assert_ptr_ne((void *)malloc_fn, (void *)CRYPTO_malloc);
}
END_TEST

static void add_tests(TCase *tc)
{
    tls_context_setup();
    rsa = EVP_RSA_gen(2048);
    rsa_small = EVP_RSA_gen(1024);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_chain_is_sent_whole);
    tcase_add_test(tc, certificates_that_cannot_be_read_are_refused);
    tcase_add_test(tc, a_broken_certificate_behind_a_good_one_is_refused);
    tcase_add_test(tc, keys_that_cannot_be_read_are_refused);
    tcase_add_test(tc, an_encrypted_key_is_refused_without_asking);
    tcase_add_test(tc, a_key_may_be_in_one_file_with_other_things);
    tcase_add_test(tc, a_chain_in_wrong_order_is_refused);
    tcase_add_test(tc, weak_and_odd_keys_are_refused);
    tcase_add_test(tc, keys_of_other_kinds_are_refused);
    tcase_add_test(tc, an_expired_certificate_is_served_and_reported);
    tcase_add_test(tc, a_certificate_is_chosen_by_name);
    tcase_add_test(tc, a_client_gets_the_kind_of_key_that_it_knows);
    tcase_add_test(tc, without_names_each_kind_of_key_is_served);
    tcase_add_test(tc, a_wildcard_lends_the_kind_that_the_exact_name_lacks);
    tcase_add_test(tc, ed25519_is_served);
    tcase_add_test(tc, a_certificate_that_nobody_would_get_is_refused);
    tcase_add_test(tc, settings_hold_under_every_name);
    tcase_add_test(tc, old_versions_are_refused);
    tcase_add_test(tc, the_servers_order_counts_but_for_clients_without_aes);
    tcase_add_test(tc, lists_that_openssl_does_not_know_are_refused);
    tcase_add_test(tc, renegotiation_is_refused);
    tcase_add_test(tc, what_ssls_are_set_to);
    tcase_add_test(tc, a_handshake_outlives_the_context);
    tcase_add_test(tc, alpn_takes_the_first_of_the_servers_list);
    tcase_add_test(tc, a_fresh_staple_is_sent_with_its_certificate);
    tcase_add_test(tc, chain_and_staple_are_told_with_their_dates);
    tcase_add_test(tc, staples_by_place);
    tcase_add_test(tc, a_delegated_responder_is_good);
    tcase_add_test(tc, wrong_staples_are_refused);
    tcase_add_test(tc, a_staple_of_another_certificate_is_told_and_not_shown);
    tcase_add_test(tc, a_staple_without_issuer_is_known_by_its_number);
    tcase_add_test(tc, the_key_log_is_written_only_when_asked_for);
    tcase_add_test(tc, private_keys_stay_out_of_core_dumps);
    tcase_add_test(tc, what_is_freed_is_wiped);
    tcase_add_test(tc, a_second_setup_changes_nothing);
}

UNIT_MAIN("tls_context")
