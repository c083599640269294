/*
 * port_behind.h: the port of a polling core that has no queue of the device: it receives nothing but
 * what other cores hand over, and what it sends leaves through the core that has the device.
 *
 * Threads: the port is its core's; og_port_behind_pop() belongs to the core with the device.
 * Memory:  the ring at open. Packets pass from the pool of this port to the device, which frees them.
 */
#pragma once
#include "dataplane/port.h"

/* `front`: the port with the device, for names and addresses; outlives this one. */
int og_port_behind_open(
	struct og_port **out, struct rte_mempool *pool, const struct og_port *front) OG_MUST_CHECK;
/* Packets to send, in order: the caller owns them. */
uint16_t og_port_behind_pop(struct og_port *port, struct rte_mbuf **pkts, uint16_t n);
/* Nothing to pop: exact for the core that pops. */
bool og_port_behind_empty(const struct og_port *port);
