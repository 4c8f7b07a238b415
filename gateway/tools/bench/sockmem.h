/*
 * What the kernel charges to single TCP sockets, asked from it socket by socket (sock_diag(7),
 * INET_DIAG_SKMEMINFO), in the network namespace of the caller. Nothing else on the machine disturbs it.
 */
#ifndef HOLDFAST_BENCH_SOCKMEM_H
#define HOLDFAST_BENCH_SOCKMEM_H

#include <stdbool.h>
#include <stdint.h>

/* Sums over the sockets of one end, in bytes. */
struct sockmem_end {
    uint64_t sockets;
    uint64_t receive; /* received and not yet read: sk_rmem_alloc */
    uint64_t send;    /* not yet sent, or not yet acknowledged: sk_wmem_queued */
    uint64_t
        on_way; /* of that, in packets on their way to the other end: sk_wmem_alloc; not memory of its own */
    uint64_t
        reserved; /* of the pages that TCP has charged for the socket, what holds no data: sk_forward_alloc */
};

/*
 * Sums over the established connections with this server port, by end. Those whose client has the port
 * `without` are left out. False when the kernel does not tell.
 */
bool sockmem_read(uint16_t port, uint16_t without, struct sockmem_end *server, struct sockmem_end *client);

#endif
