/*
 * port_socket.h: the kernel's UDP as a port: io_uring, or recvmmsg and sendmmsg where it is
 * forbidden or too old. Needs no privilege.
 *
 * Datagrams leave with "don't fragment" set and whatever size the core gives them; errors that come
 * back, at once or by ICMP, are counted and disturb nothing.
 *
 * Source:  udx.md 10 (don't fragment, TTL 64), dht.md 2.1 (the two sockets and their ports);
 *          io_uring(7) multishot recvmsg and deferred task work, Linux 6.1; socket(7) SO_REUSEPORT.
 * Threads: as port.h.
 * Memory:  as port.h.
 */
#pragma once
#include "dataplane/port.h"

struct sock_filter;

struct og_port_socket_opts {
	/* Server socket: port, else one of the next four, else any; 0: any. */
	struct og_addr bind;
	uint16_t nb_endpoints; /* 2: a client socket too, on any port of the same address */
	bool no_io_uring;      /* recvmmsg even where io_uring works */
	uint32_t tag_key;      /* what all streams of ours are told by in a flood; 0: by a byte */
	/*
	 * Which of several ports gets a datagram: a classic BPF program over its bytes that returns the port's number. Without one, or where the kernel does not take it, the
	 * kernel goes by a hash of the addresses.
	 */
	const struct sock_filter *steering;
	uint16_t nb_steering;
};

/* Receive buffers come from `pool`, which must hold OG_PORT_SOCKET_PACKETS more than others use. */
enum { OG_PORT_SOCKET_PACKETS = 2048 };

/*
 * Opens `nb` ports, of one pool each, that share every address and are told apart by the kernel
 * (SO_REUSEPORT): one for each polling core. Nobody else's port is shared: the first socket is bound
 * alone. Returns 0 or a negative errno, e.g. -EADDRNOTAVAIL for an address that is not this machine's.
 */
int og_port_socket_open(struct og_port **out, struct rte_mempool *const *pools, uint16_t nb,
	const struct og_port_socket_opts *opts) OG_MUST_CHECK;
