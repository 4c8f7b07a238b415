/*
 * The disk under a folder: how much of it is in use there, and how fast it makes things durable.
 */
#ifndef HOLDFAST_BENCH_DISK_H
#define HOLDFAST_BENCH_DISK_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of data in the files of a folder, and of those below it: what has been written at some time, without
 * holes and without disk space that is only taken in advance, where the file system tells (lseek(2)). */
uint64_t disk_used(const char *dir);

/* How often in a second a plain file there takes `bytes` more and an fdatasync(2) behind them; tries for
 * about half a second. NAN when that cannot be. */
double disk_sync_rate(const char *dir, size_t bytes);

#endif
