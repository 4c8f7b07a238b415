/*
 * What the disk does. The file of the trial is made in the folder and removed. What a server keeps open and
 * has unlinked is not seen.
 */
#include "gateway/tools/bench/disk.h"

#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/xmalloc.h"
#include "gateway/tools/bench/wire.h"

#define TRIAL_NS 500000000u
#define DEPTH    16 /* descriptors that the walk may use */

static uint64_t sum; /* nftw() has no argument to carry it in */

/* What of a file holds data. */
static uint64_t data_in(int fd)
{
    uint64_t bytes = 0;
    off_t data = 0, hole;
    while ((data = lseek(fd, data, SEEK_DATA)) >= 0 && (hole = lseek(fd, data, SEEK_HOLE)) > data) {
        bytes += (uint64_t)(hole - data);
        data = hole;
    }
    return bytes;
}

static int add_cb(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)at;
    int fd = type == FTW_F ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;
    if (fd >= 0) {
        sum += data_in(fd);
        close(fd);
    }
    return 0;
}

uint64_t disk_used(const char *dir)
{
    sum = 0;
    nftw(dir, add_cb, DEPTH, FTW_PHYS);
    return sum;
}

double disk_sync_rate(const char *dir, size_t bytes)
{
    char *path = NULL, *block = xcalloc(1, bytes);
    if (asprintf(&path, "%s/trial.XXXXXX", dir) < 0)
        abort();
    int fd = mkstemp(path);
    uint64_t start = wire_now_ns(), now = start;
    unsigned n = 0;
    while (fd >= 0 && now - start < TRIAL_NS && write(fd, block, bytes) == (ssize_t)bytes &&
           fdatasync(fd) == 0) {
        n++;
        now = wire_now_ns();
    }
    if (fd >= 0) {
        unlink(path);
        close(fd);
    }
    free(path);
    free(block);
    return n ? (double)n * 1e9 / (double)(now - start) : NAN;
}
