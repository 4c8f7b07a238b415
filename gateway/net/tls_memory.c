/*
 * What OpenSSL gets its memory from in every process of the gateway: a heap whose free() wipes, so that no
 * secret of a handshake outlives it; for private keys OpenSSL's secure heap, which core dumps leave out, and
 * which also takes what tls_memory_keep_secret() is turned on for.
 * tls_context_setup() arranges it before OpenSSL allocates anything. Nothing of this is for our own
 * allocations.
 */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/ssl.h>

#include "gateway/base/check.h"
#include "gateway/net/tls_context_internal.h"

/*
 * A private key takes 4 KiB at most. But a TLS 1.3 SSL that is kept after its handshake also keeps its
 * ephemeral key here, in one block, and there is no other place for it when all are taken: 262,144 blocks.
 * Only pages that were touched exist.
 */
#define SECURE_HEAP_SIZE  (16u << 20)
#define SECURE_BLOCK_SIZE 64

/* What is larger is a buffer for records, which passes through here several times per handshake and holds no
 * key. */
#define WIPE_MAX (12u << 10)

static int context_index = -1;
static uintptr_t secure_from, secure_to; /* the secure heap */
static bool keep_secret;

/* Whether a block lies in the secure heap. OpenSSL could be asked, for every block that it frees. */
static bool is_secure(const void *p) { return (uintptr_t)p >= secure_from && (uintptr_t)p < secure_to; }

/* Learns where the secure heap lies, from a block in it. */
static void find_secure_heap(void)
{
    const uintptr_t page = 4096;
    char *block = OPENSSL_secure_malloc(SECURE_BLOCK_SIZE);
    CHECK(block);
    secure_from = secure_to = (uintptr_t)block / page * page;
    while (CRYPTO_secure_allocated((void *)(secure_from - page)))
        secure_from -= page;
    while (CRYPTO_secure_allocated((void *)secure_to))
        secure_to += page;
    OPENSSL_secure_free(block);
    CHECK(secure_to - secure_from == SECURE_HEAP_SIZE);
}

/* The bytes that a block has. */
static size_t block_size(void *p)
{
    return is_secure(p) ? CRYPTO_secure_actual_size(p) : malloc_usable_size(p);
}

void tls_memory_keep_secret(bool on) { keep_secret = on; }

static void *malloc_cb(size_t n, const char *file, int line)
{
    if (keep_secret && n)
        return CRYPTO_secure_malloc(n, file, line);
    return n ? malloc(n) : NULL;
}

/* Wipes all that the block has, also beyond what was asked for: an earlier life may have used it. */
static void free_cb(void *p, const char *file, int line)
{
    if (!p)
        return;
    if (is_secure(p)) {
        CRYPTO_secure_free(p, file, line); /* wipes */
        return;
    }
    size_t size = malloc_usable_size(p);
    if (size <= WIPE_MAX)
        explicit_bzero(p, size);
    free(p);
}

/* realloc() would leave the old block behind as it is. */
static void *realloc_cb(void *p, size_t n, const char *file, int line)
{
    size_t have = p ? block_size(p) : 0;

    if (n && n <= have)
        return p;
    void *moved = malloc_cb(n, file, line);
    if (moved && have)
        memcpy(moved, p, have);
    if (moved || !n)
        free_cb(p, file, line);
    return moved;
}

/* An SSL that is freed drops its hold on the context. */
static void forget_context_cb(void *parent, void *context, CRYPTO_EX_DATA *data, int index, long argl,
                              void *argp)
{
    (void)parent, (void)data, (void)index, (void)argl, (void)argp;
    if (context)
        tls_context_free(context);
}

/* Children that were forked afterwards are set up, too. */
void tls_context_setup(void)
{
    if (context_index >= 0)
        return;
    CHECK(CRYPTO_set_mem_functions(malloc_cb, realloc_cb, free_cb) ==
          1); /* fails after the first allocation */
    CHECK(CRYPTO_secure_malloc_init(SECURE_HEAP_SIZE, SECURE_BLOCK_SIZE) != 0); /* 2: could not be locked */
    find_secure_heap();
    CHECK(OPENSSL_init_ssl(0, NULL) == 1);
    context_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, forget_context_cb);
    CHECK(context_index > 0);
}

int tls_context_index(void)
{
    CHECK(context_index > 0);
    return context_index;
}
