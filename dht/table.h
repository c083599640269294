/*
 * table.h: the Kademlia routing table of one node.
 *
 * Source:  dht.md 5.6; Maymounkov and Mazieres, "Kademlia", 2002. Closer nodes are the true
 *          nearest, nearest first.
 * Units:   times are background ticks (5 s) unless the name says ns.
 * Threads: the owner of the rpc.
 * Memory:  nodes from a pool made by create; a node pointer is good until it is removed.
 */
#pragma once
#include "dht/wire.h"

enum {
	OG_DHT_BUCKETS = 256,
	OG_DHT_SUBNET_BUCKET_MAX = 2, /* nodes of one /24 in a bucket */
	OG_DHT_SUBNET_TABLE_MAX = 10, /* and in the table */
};

struct og_dht_node {
	uint8_t id[OG_DHT_ID_BYTES];
	struct og_addr addr;
	uint32_t added;
	uint32_t pinged;      /* last time we asked or heard it */
	uint32_t seen;        /* last time we heard it */
	uint32_t sampled;     /* last time its view of our address was taken; 0: never */
	uint32_t hinted;      /* last tick somebody said it is down; 0: never */
	uint64_t answered_ns; /* last time it answered us */
	uint8_t fails;        /* requests in a row without an answer */
	bool capped;          /* counts against the limits per /24 */
	/* Owned by the table. */
	uint16_t hash_next;
	uint16_t newer;
	uint16_t older;
};

struct og_dht_table;

/* nb_nodes at most 65000. `seed` keys the hash of addresses. Returns 0 or -ENOMEM. */
int og_dht_table_create(struct og_dht_table **out, uint32_t nb_nodes,
	const uint8_t center[OG_DHT_ID_BYTES], uint64_t seed) OG_MUST_CHECK;
void og_dht_table_destroy(struct og_dht_table *t);

const uint8_t *og_dht_table_center(const struct og_dht_table *t);
/* Rebuilds around another id; nodes that find no place any more are removed. */
void og_dht_table_set_center(struct og_dht_table *t, const uint8_t center[OG_DHT_ID_BYTES]);

/* `to` becomes equal to `from`; both were created for the same number of nodes. */
void og_dht_table_copy(struct og_dht_table *to, const struct og_dht_table *from);

uint32_t og_dht_table_size(const struct og_dht_table *t);
struct og_dht_node *og_dht_table_find(const struct og_dht_table *t, const struct og_addr *addr);

/*
 * What adding would give: 0, -EEXIST (present, or the own id), -ENOSPC (bucket or pool full),
 * -EDQUOT (too many of its /24; only for `capped` nodes).
 */
int og_dht_table_room(const struct og_dht_table *t, const uint8_t id[OG_DHT_ID_BYTES],
	const struct og_addr *addr, bool capped);
/* Adds a node as the most recently seen one. Returns as og_dht_table_room(). */
int og_dht_table_add(struct og_dht_table *t, const uint8_t id[OG_DHT_ID_BYTES],
	const struct og_addr *addr, bool capped, uint32_t tick, struct og_dht_node **out);
void og_dht_table_remove(struct og_dht_table *t, struct og_dht_node *node);
/* It was heard of: the most recently seen one. */
void og_dht_table_touch(struct og_dht_table *t, struct og_dht_node *node, uint32_t tick);

/* By when they were seen; NULL at the end. */
struct og_dht_node *og_dht_table_newest(const struct og_dht_table *t);
struct og_dht_node *og_dht_table_oldest(const struct og_dht_table *t);
struct og_dht_node *og_dht_table_older(
	const struct og_dht_table *t, const struct og_dht_node *node);
struct og_dht_node *og_dht_table_newer(
	const struct og_dht_table *t, const struct og_dht_node *node);

/*
 * The node of the bucket of `id` to be replaced first: longest not pinged, then longest in the
 * table; none that was pinged in this tick. NULL when there is none.
 */
struct og_dht_node *og_dht_table_stalest(
	const struct og_dht_table *t, const uint8_t id[OG_DHT_ID_BYTES], uint32_t tick);

/* The up to `max` (at most 20) nearest to `target`, nearest first, as addr4; returns how many. */
uint32_t og_dht_table_closest(const struct og_dht_table *t, const uint8_t target[OG_DHT_ID_BYTES],
	uint32_t max, uint8_t *addr4);
