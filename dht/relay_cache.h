/*
 * relay_cache.h: through which relays a key was reached last, for the next connection to it.
 *
 * Source:  dht.md 9.6 "Finding relays": 512 keys. A set of 8 that is full forgets its oldest.
 * Threads: one owner.
 * Memory:  embedded.
 */
#pragma once
#include "base/addr.h"

enum {
	OG_DHT_CACHE_SETS = 64,
	OG_DHT_CACHE_WAYS = 8,
	OG_DHT_CACHE_RELAYS = 3,
};

struct og_dht_relay_cache {
	uint64_t clock;
	struct og_dht_relay_entry {
		uint64_t used; /* 0: free */
		uint8_t key[32];
		uint8_t nb_relays;
		struct og_addr relays[OG_DHT_CACHE_RELAYS];
	} entries[OG_DHT_CACHE_SETS][OG_DHT_CACHE_WAYS];
};

/* Keeps the first OG_DHT_CACHE_RELAYS with a port; none of them: nothing changes. */
void og_dht_relay_cache_put(struct og_dht_relay_cache *c, const uint8_t key[32],
	const struct og_addr *relays, uint32_t nb_relays);
uint32_t og_dht_relay_cache_get(const struct og_dht_relay_cache *c, const uint8_t key[32],
	struct og_addr out[OG_DHT_CACHE_RELAYS]);
