/*
 * Numbers for people. Each returns `text`.
 */
#ifndef HOLDFAST_DOCTOR_FORMAT_H
#define HOLDFAST_DOCTOR_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#define FORMAT_MAX 32 /* bytes that always suffice */

/* 1234567 -> "1,234,567" */
char *format_count(char text[FORMAT_MAX], uint64_t n);
/* 2521.4 -> "2,521.4" */
char *format_tenths(char text[FORMAT_MAX], double n);
/* 4294967296 -> "4.00 GiB"; with the unit that leaves one to four digits before the point */
char *format_bytes(char text[FORMAT_MAX], double bytes);

#endif
