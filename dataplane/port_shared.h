/*
 * port_shared.h: an interface that stays the kernel's, with a fast way beside its sockets: AF_XDP, or flow
 * rules of a device whose driver leaves the rest to the kernel (mlx5; a tap with remote=NAME).
 *
 * The port is a UDP socket of the kernel's, at the interface's own address, and works as one. Whole
 * datagrams to it are taken by an XDP program or by rules before the kernel sees them, and ours leave as
 * frames where the kernel's tables say which neighbour they go to. Everything else (ARP, fragments, other
 * queues, new neighbours, this machine itself) goes by the socket, and what is not for us is never
 * touched. Now and then a datagram to each neighbour goes by the kernel, which so notices when it is
 * gone or has moved. Its packet filters see only what goes by the kernel.
 *
 * Threads: as port.h.
 * Memory:  as port.h.
 */
#pragma once
#include "dataplane/port.h"

struct og_port_shared_opts {
	const char *devargs;   /* "net_af_xdp0,iface=eth0", a card; must be EAL's device */
	struct og_addr addr;   /* of the interface, 0.0.0.0: its first; port as in port_socket.h */
	uint16_t nb_endpoints; /* 2: a client's port too */
	bool no_io_uring;
};

/* Returns 0, -EOPNOTSUPP for a build without the program or a device that cannot, or an error, logged. */
int og_port_shared_open(struct og_port **out, struct rte_mempool *pool,
	const struct og_port_shared_opts *opts) OG_MUST_CHECK;
