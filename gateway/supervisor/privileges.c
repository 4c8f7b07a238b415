/*
 * Giving up root. The supervisor looks the account up before it forks; each child drops to it first thing.
 * Keeps no capability: whatever needs root (low ports) has been opened by the supervisor.
 */
#include "gateway/supervisor/privileges.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Finds uid and gid of the account to run under. */
int account_find(const char *name, struct account *a, char *error, size_t error_size)
{
    *a = (struct account){.drop = false, .uid = geteuid(), .gid = getegid()};
    if (*name == '\0' || geteuid() != 0)
        return 0;
    errno = 0;
    const struct passwd *p = getpwnam(name);
    if (p == NULL) {
        snprintf(error, error_size,
                 "user: account '%s' %s; create it (adduser --system --group %s) or change 'user'", name,
                 errno != 0 ? strerror(errno) : "does not exist", name);
        return -1;
    }
    *a = (struct account){.drop = p->pw_uid != 0, .uid = p->pw_uid, .gid = p->pw_gid};
    return 0;
}

/* Whether all three user and group ids are the account's, and root cannot be had again. */
static bool dropped(const struct account *a)
{
    uid_t r, e, s;
    gid_t gr, ge, gs;
    if (getresuid(&r, &e, &s) != 0 || getresgid(&gr, &ge, &gs) != 0)
        return false;
    if (r != a->uid || e != a->uid || s != a->uid || gr != a->gid || ge != a->gid || gs != a->gid)
        return false;
    return setresuid((uid_t)-1, 0, (uid_t)-1) != 0;
}

/* Groups first, then group, then user: the other way round there is no right left to do it. */
int privileges_drop(const struct account *a)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    if (!a->drop)
        return 0;
    if (setgroups(1, &a->gid) != 0 || setresgid(a->gid, a->gid, a->gid) != 0 ||
        setresuid(a->uid, a->uid, a->uid) != 0)
        return -1;
    if (!dropped(a)) {
        errno = EPERM;
        return -1;
    }
    return 0;
}

/* Makes the data directory if it is missing; one that is there is left as it is. */
int account_make_dir(const struct account *a, const char *path, char *error, size_t error_size)
{
    struct stat st;
    if (stat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            return 0;
        snprintf(error, error_size, "data_dir: '%s' is not a directory; remove it or change 'data_dir'",
                 path);
        return -1;
    }
    if (mkdir(path, 0750) != 0) {
        snprintf(error, error_size, "data_dir: cannot create '%s': %s; create it or change 'data_dir'", path,
                 strerror(errno));
        return -1;
    }
    if (a->drop && chown(path, a->uid, a->gid) != 0) {
        snprintf(error, error_size, "data_dir: cannot give '%s' to uid %u: %s", path, (unsigned)a->uid,
                 strerror(errno));
        return -1;
    }
    return 0;
}
