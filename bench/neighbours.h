/*
 * neighbours.h: a core between a node's core and the data plane that plays the node's neighbours,
 * so that its routing table is full on any port, with nobody else on the network.
 *
 * The neighbours live in 10.64.0.0/16, which the node takes for a network of its own. What the node
 * sends there is answered here and never reaches the port: requests by a reply with the neighbour's
 * id and the nearest of the others. All else passes, at the price of one comparison a datagram.
 *
 * Source:  dht.md 3 (requests, replies, node ids).
 * Threads: as the core it wraps.
 * Memory:  everything at init.
 */
#pragma once
#include "base/core.h"
#include "dht/wire.h"

enum { NEIGHBOURS = 240, NEIGHBOURS_REPLIES = 256, NEIGHBOURS_REPLY_BYTES = 320 };

struct neighbours {
	struct og_core core; /* what the data plane runs */
	struct og_core *inner;
	struct og_tx tx; /* what the inner core sends by */
	struct og_tx *port;
	struct og_addr local[2];
	uint8_t *reserved; /* the port's buffer, lent to the inner core */
	uint8_t ids[NEIGHBOURS][OG_DHT_ID_BYTES];
	uint32_t nb_replies;
	struct neighbours_reply {
		struct og_addr src;
		uint16_t endpoint;
		uint16_t len_bytes;
		uint8_t data[NEIGHBOURS_REPLY_BYTES];
	} replies[NEIGHBOURS_REPLIES];
};

/* `local`: the node's addresses, as the neighbours see them. */
void neighbours_init(struct neighbours *n, struct og_tx *port, const struct og_addr local[2]);
/* Once the inner core is created, with n->tx as its tx. */
void neighbours_wrap(struct neighbours *n, struct og_core *inner);
/* Of neighbour `i`: any serves as bootstrap. */
struct og_addr neighbours_addr(uint32_t i);
