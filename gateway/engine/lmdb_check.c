/*
 * Reads an LMDB file (data format 1 of LMDB 0.9, 64 bits) without LMDB, and believes nothing in it: every
 * number is compared with the file's size before it is used.
 *
 *      page 0, 1   head 16 | magic 4, version 4, address 8, map size 8, free tree 48, main tree 48,
 *                  last page 8, transaction 8; the greater transaction is in force
 *      page n      number 8, pad 2, flags 2, lower 2, upper 2 (overflow: pages 4), then 2 bytes per node
 *      node        low 2, high 2, flags 2, key size 2, key, data
 *                  branch: low, high and flags are the child's page; leaf: low and high are the data's size,
 *                  and the data is there, on overflow pages (its place has their number), or a tree of 48
 *      tree 48     pad 4, flags 2, depth 2, branch pages 8, leaf pages 8, overflow pages 8, entries 8, root 8
 *
 * A page that two parents claim, or that is in use and free, is damage as much as one with impossible bytes.
 */
#include "gateway/engine/lmdb_check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/xmalloc.h"

#define MAGIC         0xBEEFC0DEu
#define PAGE_HEAD     16
#define NODE_HEAD     8
#define TREE_SIZE     48
#define META_SIZE     136
#define NO_PAGE       UINT64_MAX
#define DEPTH_MAX     32
#define PAGE_BRANCH   0x01
#define PAGE_LEAF     0x02
#define PAGE_OVERFLOW 0x04
#define PAGE_META     0x08
#define FLAGS_FREE    0x08   /* the free list's keys are numbers; our tables have plain keys and no flag */
#define FLAGS_OF_FILE 0x4001 /* kept in the same place */
#define NODE_BIG      0x01
#define NODE_TREE     0x02

struct tree {
    uint32_t pad;
    uint16_t flags, depth;
    uint64_t branch, leaf, overflow, entries, root;
};
_Static_assert(sizeof(struct tree) == TREE_SIZE, "as LMDB has it");

struct meta {
    uint32_t magic, version;
    uint64_t address, map_size;
    struct tree free, main;
    uint64_t last_page, transaction;
};
_Static_assert(sizeof(struct meta) == META_SIZE, "as LMDB has it");

struct check {
    const unsigned char *bytes;
    uint64_t size;       /* of the file */
    uint64_t pages;      /* numbers below this may occur */
    uint64_t page;       /* bytes */
    unsigned char *seen; /* a bit per page */
    char *why;
    size_t why_size;
};

/* What a walk has counted. */
struct counted {
    uint64_t branch, leaf, overflow, entries;
};

/* Notes the first thing that is wrong. */
__attribute__((format(printf, 2, 3))) static bool wrong(struct check *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(c->why, c->why_size, format, args);
    va_end(args);
    return false;
}

static uint16_t get16(const unsigned char *at)
{
    uint16_t n;
    memcpy(&n, at, sizeof n);
    return n;
}

static uint32_t get32(const unsigned char *at)
{
    uint32_t n;
    memcpy(&n, at, sizeof n);
    return n;
}

static uint64_t get64(const unsigned char *at)
{
    uint64_t n;
    memcpy(&n, at, sizeof n);
    return n;
}

/* Claims n pages for one parent. */
static bool claim(struct check *c, uint64_t number, uint64_t n)
{
    if (number < 2 || number >= c->pages || n > c->pages - number)
        return wrong(c, "page %llu is named and does not exist", (unsigned long long)number);
    for (uint64_t i = number; i < number + n; i++) {
        if (c->seen[i / 8] & 1u << i % 8)
            return wrong(c, "page %llu is used twice", (unsigned long long)i);
        c->seen[i / 8] |= (unsigned char)(1u << i % 8);
    }
    return true;
}

/* The page, if the file has it and it says that it is one of this kind. */
static const unsigned char *page_at(struct check *c, uint64_t number, unsigned kind)
{
    const unsigned char *p = c->bytes + number * c->page;
    if ((number + 1) * c->page > c->size) {
        wrong(c, "the file ends before page %llu", (unsigned long long)number);
        return NULL;
    }
    if (get64(p) != number ||
        (get16(p + 10) & (PAGE_BRANCH | PAGE_LEAF | PAGE_OVERFLOW | PAGE_META)) != kind) {
        wrong(c, "page %llu is not what it should be", (unsigned long long)number);
        return NULL;
    }
    return p;
}

static bool check_tree(struct check *c, const struct tree *t, bool is_free_list);

/* Data on overflow pages; *data becomes its address. */
static bool check_overflow(struct check *c, uint64_t number, uint32_t size, struct counted *n,
                           const unsigned char **data)
{
    const unsigned char *p = number < c->pages ? page_at(c, number, PAGE_OVERFLOW) : NULL;
    if (!p)
        return number < c->pages
                   ? false
                   : wrong(c, "page %llu is named and does not exist", (unsigned long long)number);
    uint64_t pages = get32(p + 12);
    if (pages == 0 || size > pages * c->page - PAGE_HEAD || (number + pages) * c->page > c->size)
        return wrong(c, "the data on page %llu is cut short", (unsigned long long)number);
    n->overflow += pages;
    *data = p + PAGE_HEAD;
    return claim(c, number, pages);
}

/* A list of free pages: how many, then their numbers. */
static bool check_free_list(struct check *c, const unsigned char *data, uint32_t size)
{
    uint64_t count = size >= 8 ? get64(data) : UINT64_MAX;
    if (count > size / 8 - 1)
        return wrong(c, "a list of free pages is cut short");
    for (uint64_t i = 1; i <= count; i++)
        if (!claim(c, get64(data + 8 * i), 1))
            return false;
    return true;
}

/* One node of a leaf. `room` bytes are left of the page behind its head. */
static bool check_leaf_node(struct check *c, const unsigned char *node, uint64_t room, bool is_free_list,
                            struct counted *n)
{
    uint32_t size = get16(node) | (uint32_t)get16(node + 2) << 16;
    uint16_t flags = get16(node + 4), key = get16(node + 6);
    const unsigned char *data = node + NODE_HEAD + key;
    uint64_t here = flags & NODE_BIG ? 8 : size;
    n->entries++;
    if ((flags & ~(NODE_BIG | NODE_TREE)) || key == 0 || key + here > room)
        return wrong(c, "an entry goes beyond its page");
    if (flags & NODE_BIG && !check_overflow(c, get64(data), size, n, &data))
        return false;
    if (is_free_list)
        return check_free_list(c, data, size);
    if (!(flags & NODE_TREE))
        return true;
    struct tree inner;
    if (size != TREE_SIZE)
        return wrong(c, "a table's head has the wrong size");
    memcpy(&inner, data, TREE_SIZE);
    return check_tree(c, &inner, false);
}

/* A page and everything below it; `levels` is how many there must be. */
static bool check_page(struct check *c, uint64_t number, unsigned levels, bool is_free_list,
                       struct counted *n)
{
    bool leaf = levels == 1;
    if (!claim(c, number, 1))
        return false;
    const unsigned char *p = page_at(c, number, leaf ? PAGE_LEAF : PAGE_BRANCH);
    if (!p)
        return false;
    unsigned lower = get16(p + 12), upper = get16(p + 14);
    if (lower < PAGE_HEAD || lower > upper || upper > c->page || lower % 2 || (!leaf && lower == PAGE_HEAD))
        return wrong(c, "page %llu has impossible bounds", (unsigned long long)number);
    leaf ? n->leaf++ : n->branch++;
    for (unsigned at = PAGE_HEAD; at < lower; at += 2) {
        unsigned offset = get16(p + at);
        if (offset < upper || offset + NODE_HEAD > c->page)
            return wrong(c, "page %llu has an entry outside of it", (unsigned long long)number);
        const unsigned char *node = p + offset;
        uint64_t room = c->page - offset - NODE_HEAD;
        uint64_t child = get16(node) | (uint64_t)get16(node + 2) << 16 | (uint64_t)get16(node + 4) << 32;
        if (!leaf && get16(node + 6) > room)
            return wrong(c, "page %llu has a key outside of it", (unsigned long long)number);
        if (leaf ? !check_leaf_node(c, node, room, is_free_list, n)
                 : !check_page(c, child, levels - 1, is_free_list, n))
            return false;
    }
    return true;
}

/* A tree: its pages, and that they are as many as it says. */
static bool check_tree(struct check *c, const struct tree *t, bool is_free_list)
{
    struct counted n = {0};
    if (is_free_list ? (t->flags & ~FLAGS_OF_FILE) != FLAGS_FREE : t->flags != 0)
        return wrong(c, "a table is of another kind (flags %x)", t->flags);
    if (t->root == NO_PAGE)
        return t->entries == 0 || wrong(c, "a table has entries and no pages");
    if (t->depth == 0 || t->depth > DEPTH_MAX)
        return wrong(c, "a table is %u levels deep", t->depth);
    if (!check_page(c, t->root, t->depth, is_free_list, &n))
        return false;
    if (n.branch != t->branch || n.leaf != t->leaf || n.overflow != t->overflow || n.entries != t->entries)
        return wrong(c, "a table has %llu entries where its head says %llu", (unsigned long long)n.entries,
                     (unsigned long long)t->entries);
    return true;
}

/* Whether this can be a head at all; page sizes are powers of two. */
static enum lmdb_check check_meta(struct check *c, const struct meta *m, const unsigned char *page)
{
    uint32_t size = m->free.pad;
    if (m->magic != MAGIC || !(get16(page + 10) & PAGE_META))
        return LMDB_CHECK_FOREIGN;
    if (m->version != 1 || size < 512 || size > 32768 || size & (size - 1)) {
        wrong(c, "made by another LMDB (format %u, pages of %u bytes)", m->version, size);
        return LMDB_CHECK_FOREIGN;
    }
    return LMDB_CHECK_OK;
}

/* Reads both heads; *out is the one in force. */
static enum lmdb_check read_metas(struct check *c, struct meta *out)
{
    struct meta meta[2];
    enum lmdb_check r[2];
    if (c->size < PAGE_HEAD + META_SIZE)
        return LMDB_CHECK_FOREIGN;
    memcpy(&meta[0], c->bytes + PAGE_HEAD, META_SIZE);
    r[0] = check_meta(c, &meta[0], c->bytes);
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    if (r[0] == LMDB_CHECK_OK)
        page = meta[0].free.pad;
    if (c->size < 2 * page) {
        wrong(c, "the file ends within its head");
        return r[0] == LMDB_CHECK_OK ? LMDB_CHECK_DAMAGED : LMDB_CHECK_FOREIGN;
    }
    memcpy(&meta[1], c->bytes + page + PAGE_HEAD, META_SIZE);
    r[1] = check_meta(c, &meta[1], c->bytes + page);
    if (r[0] != LMDB_CHECK_OK && r[1] != LMDB_CHECK_OK)
        return LMDB_CHECK_FOREIGN;
    if (r[0] != LMDB_CHECK_OK || r[1] != LMDB_CHECK_OK || meta[0].free.pad != meta[1].free.pad) {
        wrong(c, "one of its two heads is overwritten");
        return LMDB_CHECK_DAMAGED;
    }
    *out = meta[meta[1].transaction > meta[0].transaction];
    c->page = page;
    return LMDB_CHECK_OK;
}

/* The head in force, and with it what may occur in the rest. */
static enum lmdb_check check_head(struct check *c, struct meta *m)
{
    enum lmdb_check r = read_metas(c, m);
    if (r != LMDB_CHECK_OK)
        return r;
    c->pages = m->last_page + 1;
    if (m->last_page < 1 || m->last_page >= m->map_size / c->page || m->map_size > (uint64_t)1 << 46 ||
        (m->main.root != NO_PAGE && m->main.root >= c->pages) ||
        (m->free.root != NO_PAGE && m->free.root >= c->pages)) {
        wrong(c, "its head is not consistent");
        return LMDB_CHECK_DAMAGED;
    }
    return LMDB_CHECK_OK;
}

/* All of it. */
static enum lmdb_check check_bytes(struct check *c, bool deep)
{
    struct meta m;
    enum lmdb_check r = check_head(c, &m);
    if (r != LMDB_CHECK_OK || (!deep && c->pages * c->page <= c->size))
        return r;
    if (c->pages > 8 * (c->size / c->page) + 65536) {
        wrong(c, "its head says %llu pages, the file has %llu", (unsigned long long)c->pages,
              (unsigned long long)(c->size / c->page));
        return LMDB_CHECK_DAMAGED;
    }
    c->seen = xcalloc(1, c->pages / 8 + 1);
    bool good = check_tree(c, &m.main, false) && check_tree(c, &m.free, true);
    free(c->seen);
    return good ? LMDB_CHECK_OK : LMDB_CHECK_DAMAGED;
}

enum lmdb_check lmdb_check_file(const char *file, bool deep, char *why, size_t why_size)
{
    struct stat st;
    struct check c = {.why = why, .why_size = why_size};
    enum lmdb_check r = LMDB_CHECK_ERROR;
    snprintf(why, why_size, "not made by Holdfast");
    int fd = open(file, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? LMDB_CHECK_NEW : LMDB_CHECK_ERROR;
    if (fstat(fd, &st) != 0) {
        r = LMDB_CHECK_ERROR;
    } else if (!S_ISREG(st.st_mode)) {
        r = LMDB_CHECK_FOREIGN;
    } else if (st.st_size == 0) {
        r = LMDB_CHECK_NEW;
    } else {
        c.size = (uint64_t)st.st_size;
        void *map = mmap(NULL, c.size, PROT_READ, MAP_SHARED, fd, 0);
        if (map != MAP_FAILED) {
            c.bytes = map;
            r = check_bytes(&c, deep);
            munmap(map, c.size);
        }
    }
    close(fd);
    return r;
}
