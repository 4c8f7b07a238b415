/*
 * unshare(), loopback up, sysctl. The namespace is gone when the last process in it is.
 */
#include "gateway/tools/bench/namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/xmalloc.h"

static bool loopback_up(void)
{
    struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &r) == 0;
    close(fd);
    return ok;
}

/* Writes "net.ipv4.name=value" to /proc/sys. */
static bool apply(char *setting)
{
    char path[256] = "/proc/sys/";
    char *value = strchr(setting, '=');
    if (!value || strncmp(setting, "net.", 4) != 0 || strlen(setting) > 200) {
        fprintf(stderr, "namespace: \"%s\": expected net.NAME=VALUE\n", setting);
        return false;
    }
    *value++ = 0;
    strcat(path, setting);
    for (char *p = path + strlen("/proc/sys/"); *p; p++)
        *p = *p == '.' ? '/' : *p;
    FILE *f = fopen(path, "we");
    bool ok = f && fputs(value, f) >= 0;
    ok = f && fclose(f) == 0 && ok;
    if (!ok)
        fprintf(stderr, "namespace: %s = %s: %s\n", setting, value, strerror(errno));
    return ok;
}

int namespace_enter(const char *settings)
{
    int outside = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (outside < 0 || unshare(CLONE_NEWNET) || !loopback_up()) {
        fprintf(stderr, "a network namespace of its own: %s\n", strerror(errno));
        return -1;
    }
    char *copy = xstrdup(settings), *save = NULL;
    bool ok = true;
    for (char *one = strtok_r(copy, ";", &save); ok && one; one = strtok_r(NULL, ";", &save))
        ok = apply(one + strspn(one, " "));
    free(copy);
    if (ok)
        return outside;
    namespace_leave(outside);
    return -1;
}

void namespace_leave(int outside)
{
    if (setns(outside, CLONE_NEWNET))
        perror("setns");
    close(outside);
}
