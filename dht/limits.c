#include "dht/limits.h"

#include <errno.h>
#include <stdlib.h>

uint32_t og_dht_set_of(uint64_t key, uint64_t seed, uint32_t nb_sets)
{
	uint64_t x = (key ^ seed) * 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 32) * 0xbf58476d1ce4e5b9ull;
	return (uint32_t)(x >> 32) & (nb_sets - 1);
}

/* ---- proven addresses ---- */

struct proof {
	uint64_t key; /* og_addr_key(); 0: empty */
	uint64_t at_ns;
};

struct og_dht_proven {
	uint32_t nb_sets;
	uint64_t seed;
	uint64_t lifetime_ns;
	struct proof proofs[];
};

int og_dht_proven_create(
	struct og_dht_proven **out, uint32_t nb_entries, uint64_t seed, uint64_t lifetime_ns)
{
	struct og_dht_proven *p = calloc(1, sizeof(*p) + nb_entries * sizeof(p->proofs[0]));

	if (!p)
		return -ENOMEM;
	p->nb_sets = nb_entries / OG_DHT_WAYS;
	p->seed = seed;
	p->lifetime_ns = lifetime_ns;
	*out = p;
	return 0;
}

void og_dht_proven_destroy(struct og_dht_proven *p)
{
	free(p);
}

void og_dht_proven_add(struct og_dht_proven *p, const struct og_addr *a, uint64_t now_ns)
{
	uint64_t key = og_addr_key(a);
	struct proof *set = &p->proofs[og_dht_set_of(key, p->seed, p->nb_sets) * OG_DHT_WAYS];
	struct proof *oldest = set;

	for (unsigned i = 0; i < OG_DHT_WAYS; i++) {
		if (set[i].key == key) {
			set[i].at_ns = now_ns;
			return;
		}
		if (set[i].at_ns < oldest->at_ns)
			oldest = &set[i];
	}
	*oldest = (struct proof){key, now_ns};
}

bool og_dht_proven_has(const struct og_dht_proven *p, const struct og_addr *a, uint64_t now_ns)
{
	uint64_t key = og_addr_key(a);
	const struct proof *set = &p->proofs[og_dht_set_of(key, p->seed, p->nb_sets) * OG_DHT_WAYS];

	for (unsigned i = 0; i < OG_DHT_WAYS; i++)
		if (set[i].key == key)
			return now_ns - set[i].at_ns < p->lifetime_ns;
	return false;
}

/* ---- token buckets ---- */

void og_dht_rate_init(struct og_dht_rate *r, uint64_t rate_per_s, uint64_t burst, uint64_t now_ns)
{
	*r = (struct og_dht_rate){rate_per_s, burst, burst, now_ns};
}

static void refill(struct og_dht_rate *r, uint64_t now_ns)
{
	uint64_t elapsed = now_ns - r->last_ns;
	uint64_t gained;

	if (elapsed >= OG_NS_PER_S) {
		gained = elapsed / OG_NS_PER_S * r->rate_per_s;
		r->last_ns += elapsed / OG_NS_PER_S * OG_NS_PER_S;
		elapsed %= OG_NS_PER_S;
	} else {
		gained = 0;
	}
	if (r->rate_per_s > 0) {
		uint64_t part = elapsed * r->rate_per_s / OG_NS_PER_S;

		gained += part;
		r->last_ns += part * OG_NS_PER_S / r->rate_per_s;
	}
	r->level = OG_MIN(r->level + gained, r->burst);
}

bool og_dht_rate_has(struct og_dht_rate *r, uint64_t amount, uint64_t now_ns)
{
	if (now_ns > r->last_ns)
		refill(r, now_ns);
	return amount <= r->level;
}

bool og_dht_rate_take(struct og_dht_rate *r, uint64_t amount, uint64_t now_ns)
{
	if (!og_dht_rate_has(r, amount, now_ns))
		return false;
	r->level -= amount;
	return true;
}

void og_dht_rate_give_back(struct og_dht_rate *r, uint64_t amount)
{
	r->level = OG_MIN(r->level + amount, r->burst);
}

struct account {
	bool used;
	uint32_t key;
	struct og_dht_rate rate;
};

struct og_dht_budget {
	uint32_t nb_sets;
	uint64_t seed;
	uint64_t rate_per_s;
	uint64_t burst;
	struct account accounts[];
};

int og_dht_budget_create(struct og_dht_budget **out, uint32_t nb_entries, uint64_t seed,
	uint64_t rate_per_s, uint64_t burst)
{
	struct og_dht_budget *b = calloc(1, sizeof(*b) + nb_entries * sizeof(b->accounts[0]));

	if (!b)
		return -ENOMEM;
	b->nb_sets = nb_entries / OG_DHT_WAYS;
	b->seed = seed;
	b->rate_per_s = rate_per_s;
	b->burst = burst;
	*out = b;
	return 0;
}

void og_dht_budget_destroy(struct og_dht_budget *b)
{
	free(b);
}

bool og_dht_budget_take(struct og_dht_budget *b, uint32_t key, uint64_t amount, uint64_t now_ns)
{
	struct account *set = &b->accounts[og_dht_set_of(key, b->seed, b->nb_sets) * OG_DHT_WAYS];
	struct account *victim = set;

	for (unsigned i = 0; i < OG_DHT_WAYS; i++) {
		if (set[i].used && set[i].key == key)
			return og_dht_rate_take(&set[i].rate, amount, now_ns);
		if (!set[i].used || set[i].rate.last_ns < victim->rate.last_ns)
			victim = &set[i];
	}
	victim->used = true;
	victim->key = key;
	og_dht_rate_init(&victim->rate, b->rate_per_s, b->burst, now_ns);
	return og_dht_rate_take(&victim->rate, amount, now_ns);
}
