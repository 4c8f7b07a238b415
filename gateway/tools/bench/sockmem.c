/*
 * Two dumps of the established TCP sockets: a server that listens on IPv6 has its IPv4 clients in the second
 * one. The kernel could filter by port; it is done here, since a dump of a few thousand sockets is nothing
 * beside the run that they are counted for.
 */
#include "gateway/tools/bench/sockmem.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct dump {
    uint16_t port, without;
    struct sockmem_end *server, *client;
};

/* Asks for all established sockets of a family with their memory. */
static bool ask(int fd, uint8_t family)
{
    struct {
        struct nlmsghdr head;
        struct inet_diag_req_v2 request;
    } m = {
        .head = {.nlmsg_len = sizeof m,
                 .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .request = {.sdiag_family = family,
                    .sdiag_protocol = IPPROTO_TCP,
                    .idiag_ext = 1 << (INET_DIAG_SKMEMINFO - 1),
                    .idiag_states = 1 << TCP_ESTABLISHED},
    };
    return send(fd, &m, sizeof m, 0) == (ssize_t)sizeof m;
}

/* Adds the memory of one socket. */
static void add(struct sockmem_end *end, const uint32_t *mem)
{
    end->sockets++;
    end->receive += mem[SK_MEMINFO_RMEM_ALLOC];
    end->send += mem[SK_MEMINFO_WMEM_QUEUED];
    end->on_way += mem[SK_MEMINFO_WMEM_ALLOC];
    end->reserved += mem[SK_MEMINFO_FWD_ALLOC];
}

/* One socket of the dump: which end it is of which connection. */
static void take(const struct dump *d, const struct nlmsghdr *h)
{
    const struct inet_diag_msg *m = NLMSG_DATA(h);
    const struct rtattr *a = (const void *)(m + 1);
    uint16_t own = ntohs(m->id.idiag_sport), other = ntohs(m->id.idiag_dport);
    struct sockmem_end *end = own == d->port ? d->server : other == d->port ? d->client : NULL;
    uint16_t client_port = own == d->port ? other : own;
    if (!end || client_port == d->without)
        return;
    int left = (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof *m));
    for (; RTA_OK(a, left); a = RTA_NEXT(a, left)) {
        uint32_t mem[SK_MEMINFO_WMEM_QUEUED + 1];
        if (a->rta_type != INET_DIAG_SKMEMINFO || RTA_PAYLOAD(a) < sizeof mem)
            continue;
        memcpy(mem, RTA_DATA(a), sizeof mem);
        add(end, mem);
    }
}

/* Reads the dump to its end. */
static bool read_all(int fd, const struct dump *d)
{
    static union {
        struct nlmsghdr head;
        char bytes[65536];
    } buffer;
    for (;;) {
        ssize_t n = recv(fd, &buffer, sizeof buffer, 0);
        if (n <= 0)
            return false;
        unsigned left = (unsigned)n;
        for (const struct nlmsghdr *h = &buffer.head; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            if (h->nlmsg_type == NLMSG_DONE)
                return true;
            if (h->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
                h->nlmsg_len < NLMSG_LENGTH(sizeof(struct inet_diag_msg)))
                return false;
            take(d, h);
        }
    }
}

bool sockmem_read(uint16_t port, uint16_t without, struct sockmem_end *server, struct sockmem_end *client)
{
    struct dump d = {port, without, server, client};
    memset(server, 0, sizeof *server);
    memset(client, 0, sizeof *client);
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (fd < 0)
        return false;
    bool ok = ask(fd, AF_INET) && read_all(fd, &d) && ask(fd, AF_INET6) && read_all(fd, &d);
    close(fd);
    return ok;
}
