/*
 * Which certificates a client is to be offered under the name it asks for (SNI, RFC 6066 section 3). Made
 * once from all certificates of a section; asked in every handshake. It knows names and places, not SSL_CTXs.
 *
 * A name is served by one certificate of each kind of key, so that OpenSSL can pick by what the client
 * understands: the first that has the name itself, or else the first with a wildcard for it.
 */
#include <stdlib.h>
#include <string.h>

#include <openssl/x509v3.h>

#include "gateway/base/xmalloc.h"
#include "gateway/net/tls_context_internal.h"

#define NAME_MAX_LEN 255 /* RFC 1035 section 2.3.4 */

/* Whether these bytes are a name that a client can ask for: letters, digits, '-', '_' and dots, and "*." at
 * most at the beginning. */
static bool is_host(const unsigned char *s, size_t len)
{
    if (len > 2 && s[0] == '*' && s[1] == '.')
        s += 2, len -= 2;
    if (!len || len > NAME_MAX_LEN - 2)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!((s[i] | 32) >= 'a' && (s[i] | 32) <= 'z') && !(s[i] >= '0' && s[i] <= '9') && s[i] != '-' &&
            s[i] != '_' && s[i] != '.')
            return false;
    return true;
}

static void lower(char *s)
{
    for (; *s; s++)
        if (*s >= 'A' && *s <= 'Z')
            *s += 'a' - 'A';
}

/* ---- the names of one certificate ---- */

/* Calls add() for each name of a certificate: its dNSNames, or, only if there is no SAN at all, its CN (RFC
 * 6125 section 6.4.4). */
static void each_name(X509 *x, void (*add)(void *, const ASN1_STRING *), void *arg)
{
    GENERAL_NAMES *san = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);

    for (int i = 0; i < sk_GENERAL_NAME_num(san); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(san, i);
        if (g->type == GEN_DNS)
            add(arg, g->d.dNSName);
    }
    if (san) {
        GENERAL_NAMES_free(san);
        return;
    }
    const X509_NAME *subject = X509_get_subject_name(x);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at >= 0)
        add(arg, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
}

/* A buffer for the first name. */
struct first_name {
    char *out;
    size_t size;
    bool found;
};

static void keep_first(void *arg, const ASN1_STRING *name)
{
    struct first_name *f = arg;

    if (!f->found)
        f->found = tls_copy_name(name, f->out, f->size);
}

bool tls_certificate_name(X509 *x, char *out, size_t size)
{
    struct first_name f = {.out = out, .size = size};

    each_name(x, keep_first, &f);
    return f.found;
}

void tls_name_text(const X509_NAME *name, char *out, size_t size)
{
    static const int parts[] = {NID_commonName, NID_organizationalUnitName, NID_organizationName};

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        int at = X509_NAME_get_index_by_NID(name, parts[i], -1);
        if (at >= 0 && tls_copy_name(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)), out, size))
            return;
    }
    snprintf(out, size, "-");
}

/* ---- the names of all ---- */

/* While the list is made, a mask is of all certificates that have this name. */
struct gathering {
    struct tls_names *names;
    unsigned room;
    uint32_t bit;
};

static void gather(void *arg, const ASN1_STRING *name)
{
    struct gathering *g = arg;
    struct tls_names *n = g->names;
    const unsigned char *s = ASN1_STRING_get0_data(name);
    size_t len = (size_t)ASN1_STRING_length(name);

    if (!is_host(s, len))
        return;
    if (n->count == g->room) {
        g->room = g->room ? g->room * 2 : 8;
        n->list = xrealloc(n->list, g->room * sizeof *n->list);
    }
    char *text = xstrndup((const char *)s, len);
    lower(text);
    n->list[n->count++] = (struct tls_name){.text = text, .mask = g->bit};
}

static int compare_cb(const void *a, const void *b)
{
    return strcmp(((const struct tls_name *)a)->text, ((const struct tls_name *)b)->text);
}

/* Sorts, and makes one of those that are alike. */
static void merge(struct tls_names *n)
{
    unsigned kept = 0;

    if (n->count)
        qsort(n->list, n->count, sizeof *n->list, compare_cb);
    for (unsigned i = 0; i < n->count; i++) {
        if (kept && strcmp(n->list[kept - 1].text, n->list[i].text) == 0) {
            n->list[kept - 1].mask |= n->list[i].mask;
            free(n->list[i].text);
        } else {
            n->list[kept++] = n->list[i];
        }
    }
    n->count = kept;
}

static const struct tls_name *find_exact(const struct tls_names *n, const char *text)
{
    struct tls_name key = {.text = (char *)text};

    return n->count ? bsearch(&key, n->list, n->count, sizeof key, compare_cb) : NULL;
}

/* The wildcard that stands for a name: its first label replaced. */
static const struct tls_name *find_wildcard(const struct tls_names *n, const char *text)
{
    char wildcard[NAME_MAX_LEN + 2] = "*";
    const char *dot = strchr(text, '.');

    if (!dot || dot == text || text[0] == '*' || strlen(dot) > NAME_MAX_LEN)
        return NULL;
    strcpy(wildcard + 1, dot);
    return find_exact(n, wildcard);
}

/* Adds to `mask` the first of the candidates for each kind of key that it lacks. */
static uint32_t choose(uint32_t mask, uint32_t candidates, const struct tls_credential *c,
                       unsigned credentials)
{
    unsigned kinds = 0;

    for (unsigned i = 0; i < credentials; i++)
        if (mask >> i & 1)
            kinds |= 1u << c[i].kind;
    for (unsigned i = 0; i < credentials; i++) {
        if (!(candidates >> i & 1) || (kinds >> c[i].kind & 1))
            continue;
        kinds |= 1u << c[i].kind;
        mask |= UINT32_C(1) << i;
    }
    return mask;
}

void tls_names_make(struct tls_names *n, const struct tls_credential *c, unsigned credentials)
{
    struct gathering g = {.names = n};
    uint32_t *chosen;

    *n = (struct tls_names){0};
    for (unsigned i = 0; i < credentials; i++) {
        g.bit = UINT32_C(1) << i;
        each_name(c[i].leaf, gather, &g);
    }
    merge(n);
    chosen = xcalloc(n->count + 1, sizeof *chosen);
    for (unsigned i = 0; i < n->count; i++) {
        const struct tls_name *w = find_wildcard(n, n->list[i].text);
        chosen[i] = choose(choose(0, n->list[i].mask, c, credentials), w ? w->mask : 0, c, credentials);
    }
    for (unsigned i = 0; i < n->count; i++)
        n->list[i].mask = chosen[i];
    free(chosen);
}

void tls_names_clear(struct tls_names *n)
{
    for (unsigned i = 0; i < n->count; i++)
        free(n->list[i].text);
    free(n->list);
    *n = (struct tls_names){0};
}

const struct tls_name *tls_names_find(const struct tls_names *n, const char *host)
{
    char text[NAME_MAX_LEN + 2];
    size_t len = strlen(host);

    if (!len || len > NAME_MAX_LEN || host[0] == '*')
        return NULL;
    memcpy(text, host, len + 1);
    if (text[len - 1] == '.')
        text[len - 1] = '\0';
    lower(text);
    const struct tls_name *found = find_exact(n, text);
    return found ? found : find_wildcard(n, text);
}

const struct tls_name *tls_names_of(const struct tls_names *n, unsigned place)
{
    const struct tls_name *best = NULL;

    for (unsigned i = 0; i < n->count; i++) {
        const struct tls_name *name = &n->list[i];
        if (name->mask >> place & 1 &&
            (!best || __builtin_popcount(name->mask) > __builtin_popcount(best->mask)))
            best = name;
    }
    return best;
}
