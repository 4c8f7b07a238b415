/*
 * Reserved address space for pools and hash indexes, which drive it. It knows nothing of what lies in it.
 */
#include "gateway/base/region.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gateway/base/check.h"

/* Rounds n up to a multiple of step, a power of two. */
static size_t round_up(size_t n, size_t step) { return (n + step - 1) & ~(step - 1); }

/*
 * Reserves. No huge pages: a pool that uses 100 KB must not occupy 2 MB because a kernel thread found the
 * rest of the range empty, and giving single chunks back would split them again.
 */
void region_reserve(struct region *r, size_t size)
{
    size = round_up(size ? size : 1, REGION_STEP);
    void *at = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
        fprintf(stderr, "cannot reserve %zu bytes of address space\n", size);
        abort();
    }
    madvise(at, size, MADV_NOHUGEPAGE); /* fails where there are none, which is as good */
    *r = (struct region){.base = at, .size = size};
}

/* Unmaps all of it. */
void region_free(struct region *r)
{
    if (r->base)
        munmap(r->base, r->size);
    memset(r, 0, sizeof *r);
}

/* Opens up to a multiple of REGION_STEP. The open part grows at one end, so it stays one mapping. */
bool region_open(struct region *r, size_t upto)
{
    CHECK(upto <= r->size);
    if (upto <= r->open)
        return true;
    size_t end = round_up(upto, REGION_STEP);
    if (mprotect(r->base + r->open, end - r->open, PROT_READ | PROT_WRITE) != 0)
        return false;
    r->open = end;
    return true;
}

/* Drops the pages' contents. */
void region_give_back(const struct region *r, size_t from, size_t to)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    from = round_up(from, page);
    to = (to < r->open ? to : r->open) & ~(page - 1);
    if (from < to)
        madvise(r->base + from, to - from, MADV_DONTNEED);
}
