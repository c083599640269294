#include "dht/relay_cache.h"

#include <string.h>

static const struct og_dht_relay_entry *find(
	const struct og_dht_relay_cache *c, const uint8_t key[32])
{
	const struct og_dht_relay_entry *set = c->entries[key[0] % OG_DHT_CACHE_SETS];

	for (int i = 0; i < OG_DHT_CACHE_WAYS; i++) {
		if (set[i].used && memcmp(set[i].key, key, 32) == 0)
			return &set[i];
	}
	return NULL;
}

static struct og_dht_relay_entry *oldest(struct og_dht_relay_cache *c, const uint8_t key[32])
{
	struct og_dht_relay_entry *set = c->entries[key[0] % OG_DHT_CACHE_SETS];
	struct og_dht_relay_entry *e = set;

	for (int i = 1; i < OG_DHT_CACHE_WAYS; i++) {
		if (set[i].used < e->used)
			e = &set[i];
	}
	return e;
}

void og_dht_relay_cache_put(struct og_dht_relay_cache *c, const uint8_t key[32],
	const struct og_addr *relays, uint32_t nb_relays)
{
	struct og_dht_relay_entry *e = (struct og_dht_relay_entry *)find(c, key);
	struct og_dht_relay_entry fresh = {.used = ++c->clock};

	for (uint32_t i = 0; i < nb_relays && fresh.nb_relays < OG_DHT_CACHE_RELAYS; i++) {
		if (relays[i].port != 0)
			fresh.relays[fresh.nb_relays++] = relays[i];
	}
	if (fresh.nb_relays == 0)
		return;
	memcpy(fresh.key, key, sizeof(fresh.key));
	if (!e)
		e = oldest(c, key);
	*e = fresh;
}

uint32_t og_dht_relay_cache_get(const struct og_dht_relay_cache *c, const uint8_t key[32],
	struct og_addr out[OG_DHT_CACHE_RELAYS])
{
	const struct og_dht_relay_entry *e = find(c, key);

	if (!e)
		return 0;
	memcpy(out, e->relays, sizeof(e->relays));
	return e->nb_relays;
}
