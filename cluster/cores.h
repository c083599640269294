/*
 * cores.h: what the polling cores of one node say to each other, and what they share out.
 *
 * Core 0 has the DHT and the swarm and shakes hands. Everything of one public key lives on one core, so
 * that the limit per key and the duplicate rule need nobody else: the stream, its buffers, its events to
 * the router and the router's commands. Which one is told by a keyed hash, and by the stream's id.
 *
 * A core keeps a few live stream ids ready and offers them. Core 0 takes one when it shakes hands, sends
 * the answer of the handshake through that core, and hands over the keys:
 *
 *     core n                         core 0
 *     OFFER id  ------------------>  (keeps it)
 *                <-----------------  TAKE           a handshake wants a stream
 *                <-----------------  SEND           the answer that names the id: it leaves from core n
 *     FIRST_PACKET --------------->                 may tell the DHT where the peer is
 *                <-----------------  CONNECTED      or RELEASE
 *     UP, DOWN, DIAL_FAILED, FREED ->               for the swarm and the limits
 *
 * Messages go both ways in order. Those without data are never lost (outbox.h), nor are the keys of some
 * hundred connections; a datagram is, as on any other way. All are struct og_msg;
 * slots are counted through all cores: core * slots per core + slot.
 *
 * Threads: values.
 */
#pragma once
#include "base/core.h"
#include "crypto/noise.h"

enum og_link_message {
	/* From core 0. The router's ALLOW, DENY and their like are passed on as they are. */
	OG_LINK_TAKE = 64, /* slot, gen: of an offer */
	OG_LINK_RELEASE,   /* slot, gen */
	OG_LINK_CONNECTED, /* data: struct og_link_connected */
	OG_LINK_SEND,      /* slot: endpoint, flags: ttl, arg: og_addr_key, data: the datagram */
	OG_LINK_EVICT,     /* the oldest connection not yet open gives way */
	OG_LINK_END_ALL,   /* no more offers, every connection ends */
	OG_LINK_CLOSE_ALL,

	/* To core 0. */
	OG_LINK_OFFER,        /* slot, gen, arg: UDX id */
	OG_LINK_WITHDRAWN,    /* slot, gen: of an offer, when somebody guessed its id */
	OG_LINK_FREED,        /* slot, gen: of a stream that was taken */
	OG_LINK_FIRST_PACKET, /* slot, gen, flags: endpoint, arg: og_addr_key */
	OG_LINK_UP,           /* key; flags bit 0: we dialled */
	OG_LINK_DOWN,         /* key */
	OG_LINK_DIAL_FAILED,  /* arg: tag */
	OG_LINK_DIAL_ABANDON, /* key */
};

/* struct og_dht_conn as a value. Holds keys. */
struct og_link_connected {
	uint64_t tag;
	uint32_t slot, gen;
	uint32_t remote_udx_id;
	uint16_t endpoint;
	bool initiator, has_remote;
	bool dialling; /* and we call that key ourselves */
	bool exempt;   /* `remote` is, from limits of a /24 */
	struct og_addr remote;
	uint8_t remote_key[32];
	struct og_noise_keys keys;
};

/* Streams that a core keeps ready. */
enum { OG_OFFERS_MAX = 32 };

/* The slots of each core. Half as much again as an even share, for chance shares out unevenly. */
static inline uint32_t og_slots_per_core(uint32_t peers_max, uint32_t nb_cores)
{
	if (nb_cores <= 1)
		return peers_max;
	return OG_MIN(peers_max, peers_max / nb_cores * 3 / 2 + 16) + OG_OFFERS_MAX;
}
