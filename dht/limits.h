/*
 * limits.h: who has proved that it receives at its address, and byte budgets for who has not.
 *
 * Both are fixed tables, hashed with a secret seed, four ways; a full set forgets its least
 * recently used entry.
 *
 * Units:   times ns; budgets bytes or events, as the owner counts.
 * Threads: the owner of the rpc.
 */
#pragma once
#include "base/addr.h"

enum { OG_DHT_WAYS = 4 };

/* Which set of a table an entry belongs to; nb_sets is a power of two. */
uint32_t og_dht_set_of(uint64_t key, uint64_t seed, uint32_t nb_sets);

struct og_dht_proven;

/* nb_entries is a power of two. */
int og_dht_proven_create(struct og_dht_proven **out, uint32_t nb_entries, uint64_t seed,
	uint64_t lifetime_ns) OG_MUST_CHECK;
void og_dht_proven_destroy(struct og_dht_proven *p);
void og_dht_proven_add(struct og_dht_proven *p, const struct og_addr *a, uint64_t now_ns);
bool og_dht_proven_has(const struct og_dht_proven *p, const struct og_addr *a, uint64_t now_ns);

/* A token bucket: `rate_per_s` flow in, up to `burst`. */
struct og_dht_rate {
	uint64_t rate_per_s;
	uint64_t burst;
	uint64_t level;
	uint64_t last_ns;
};

void og_dht_rate_init(struct og_dht_rate *r, uint64_t rate_per_s, uint64_t burst, uint64_t now_ns);
bool og_dht_rate_has(struct og_dht_rate *r, uint64_t amount, uint64_t now_ns);
bool og_dht_rate_take(struct og_dht_rate *r, uint64_t amount, uint64_t now_ns);
void og_dht_rate_give_back(struct og_dht_rate *r, uint64_t amount);

struct og_dht_budget;

/* One token bucket per key, for `nb_entries` (a power of two) keys at a time. */
int og_dht_budget_create(struct og_dht_budget **out, uint32_t nb_entries, uint64_t seed,
	uint64_t rate_per_s, uint64_t burst) OG_MUST_CHECK;
void og_dht_budget_destroy(struct og_dht_budget *b);
bool og_dht_budget_take(struct og_dht_budget *b, uint32_t key, uint64_t amount, uint64_t now_ns);
