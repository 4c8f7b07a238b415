/*
 * The account that the hub and the workers run under when the gateway is started as root.
 */
#ifndef HOLDFAST_SUPERVISOR_PRIVILEGES_H
#define HOLDFAST_SUPERVISOR_PRIVILEGES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct account {
    bool drop; /* false: stay who we are; uid and gid are our own */
    uid_t uid;
    gid_t gid;
};

/*
 * Looks the name up; "" or not being root: an account that drops nothing. 0, or -1 with `error` filled in.
 */
int account_find(const char *name, struct account *a, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/*
 * Becomes the account for good, checks that there is no way back, and gives up gaining privileges by exec.
 * 0, or -1 with errno; then the process must not go on.
 */
int privileges_drop(const struct account *a) __attribute__((warn_unused_result));

/* Makes the directory (0750, owned by the account) unless it is there. 0, or -1 with `error` filled in. */
int account_make_dir(const struct account *a, const char *path, char *error, size_t error_size)
    __attribute__((warn_unused_result));

#endif
