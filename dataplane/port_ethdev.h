/*
 * port_ethdev.h: any DPDK device as a port, with Ethernet, ARP, IPv4, ICMP echo and UDP of our own.
 *
 * Checksums are made and checked by the device where it can, else here. A packet for a neighbour
 * that is not known yet waits for its ARP reply; a few per neighbour, the oldest gives way.
 *
 * Threads: as port.h.
 * Memory:  as port.h; the packet pool also feeds the device's receive queue.
 */
#pragma once
#include "dataplane/port.h"

struct og_port_ethdev_opts {
	const char *devargs;   /* "net_af_packet0,iface=va"; must be EAL's device */
	struct og_addr addr;   /* ours; port 0: any of the dynamic ports */
	uint8_t prefix_bits;   /* 0 … 32 */
	uint8_t gateway[4];    /* 0.0.0.0: none */
	uint16_t mtu;          /* of IP; 0: what the device has */
	uint16_t nb_endpoints; /* 2: a client's port too */
};

enum { OG_PORT_ETHDEV_PACKETS = 4096 };

/* Returns 0, -ENODEV when DPDK finds no such device, or its error; the reason is logged. */
int og_port_ethdev_open(struct og_port **out, struct rte_mempool *pool,
	const struct og_port_ethdev_opts *opts) OG_MUST_CHECK;
