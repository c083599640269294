/*
 * port_ethdev.h: any DPDK device as a port, with Ethernet, ARP, IPv4, ICMP echo and UDP of our own.
 *
 * Each polling core has a port with a pair of queues of its own, as far as the device has them. The first
 * one has the table of neighbours. The others send by a copy of it; what goes to a neighbour that is not
 * known yet they give to the first one, in whose table it waits for the ARP reply: a few per neighbour,
 * the oldest gives way. Who receives an ARP reply tells the first one, too.
 *
 * Checksums are made and checked by the device where it can, else here.
 *
 * Threads: as port.h.
 * Memory:  as port.h; each packet pool also feeds the receive queue of its port.
 */
#pragma once
#include "dataplane/port.h"

struct og_doorbell;

struct og_port_ethdev_opts {
	const char *devargs;       /* "net_af_packet0,iface=va"; must be EAL's device */
	struct og_addr addr;       /* ours; port 0: any of the dynamic ports */
	uint8_t prefix_bits;       /* 0 … 32 */
	uint8_t gateway[4];        /* 0.0.0.0: none */
	uint16_t mtu;              /* of IP; 0: what the device has */
	uint16_t nb_endpoints;     /* 2: a client's port too */
	struct og_doorbell *first; /* the first port's core sleeps on it; NULL: it is alone */
};

/* Packets of a pool beside those that are under way elsewhere. */
enum { OG_PORT_ETHDEV_PACKETS = 4096 };

/*
 * A port for each of `pools`, or fewer: `*nb_ports`, at least one. They are closed one by one, the first
 * one last. Returns 0, -ENODEV when DPDK finds no such device, or its error; the reason is logged.
 */
int og_port_ethdev_open(struct og_port **out, uint16_t *nb_ports, struct rte_mempool *const *pools,
	uint16_t nb_pools, const struct og_port_ethdev_opts *opts) OG_MUST_CHECK;
