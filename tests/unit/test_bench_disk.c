/*
 * What the bench says about a disk: bytes of data, without holes and without what is only taken in advance;
 * and that it can tell how fast it is.
 */
#include "gateway/tools/bench/disk.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/unit.h"

#define PAGE 4096

static char dir[64], below[80], file[96];

static void make_folders(void)
{
    snprintf(dir, sizeof dir, "./test_bench_disk.%d", (int)getpid());
    snprintf(below, sizeof below, "%s/below", dir);
    ck_assert_int_eq(mkdir(dir, 0700), 0);
    ck_assert_int_eq(mkdir(below, 0700), 0);
    snprintf(file, sizeof file, "%s/file", below);
}

static void remove_folders(void)
{
    unlink(file);
    ck_assert_int_eq(rmdir(below), 0);
    ck_assert_int_eq(rmdir(dir), 0); /* nothing was left there */
}

START_TEST(data_is_counted_in_folders_below_too)
{
    char page[PAGE];
    make_folders();
    ck_assert_uint_eq(disk_used(dir), 0);
    int fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    memset(page, 'x', sizeof page);
    for (unsigned i = 1; i <= 3; i++) {
        ck_assert_int_eq(write(fd, page, sizeof page), sizeof page);
        ck_assert_uint_eq(disk_used(dir), i * PAGE);
    }
    close(fd);
    remove_folders();
}
END_TEST

START_TEST(a_hole_is_no_data)
{
    make_folders();
    int fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ck_assert_int_eq(ftruncate(fd, 64 << 20), 0);
    if (lseek(fd, 0, SEEK_HOLE) == 0) /* else the file system does not tell */
        ck_assert_uint_eq(disk_used(dir), 0);
    ck_assert_int_eq(pwrite(fd, "x", 1, 32 << 20), 1);
    ck_assert_uint_gt(disk_used(dir), 0);
    close(fd);
    remove_folders();
}
END_TEST

START_TEST(what_is_not_there_has_no_bytes_and_no_speed)
{
    ck_assert_uint_eq(disk_used("./no-such-folder"), 0);
    ck_assert(isnan(disk_sync_rate("./no-such-folder", 100)));
}
END_TEST

START_TEST(a_disk_has_a_speed)
{
    make_folders();
    ck_assert(disk_sync_rate(dir, 100) > 0);
    remove_folders();
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, data_is_counted_in_folders_below_too);
    tcase_add_test(tc, a_hole_is_no_data);
    tcase_add_test(tc, what_is_not_there_has_no_bytes_and_no_speed);
    tcase_add_test(tc, a_disk_has_a_speed);
}

UNIT_MAIN("bench_disk")
