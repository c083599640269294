/*
 * port_socket.h: the kernel's UDP as a port: io_uring, or recvmmsg and sendmmsg where it is
 * forbidden or too old. Needs no privilege.
 *
 * Datagrams leave with "don't fragment" set and whatever size the core gives them; errors that come
 * back, at once or by ICMP, are counted and disturb nothing.
 *
 * Source:  udx.md 10 (don't fragment, TTL 64), dht.md 2.1 (the two sockets and their ports);
 *          io_uring(7) multishot recvmsg and deferred task work, Linux 6.1.
 * Threads: as port.h.
 * Memory:  as port.h.
 */
#pragma once
#include "dataplane/port.h"

struct og_port_socket_opts {
	/* Server socket: port, else one of the next four, else any; 0: any. */
	struct og_addr bind;
	uint16_t nb_endpoints; /* 2: a client socket too, on any port of the same address */
	bool no_io_uring;      /* recvmmsg even where io_uring works */
};

/* Receive buffers come from `pool`, which must hold OG_PORT_SOCKET_PACKETS more than others use. */
enum { OG_PORT_SOCKET_PACKETS = 2048 };

/* Returns 0 or a negative errno, e.g. -EADDRNOTAVAIL for an address that is not this machine's. */
int og_port_socket_open(struct og_port **out, struct rte_mempool *pool,
	const struct og_port_socket_opts *opts) OG_MUST_CHECK;
