#include "dht/rate.h"

#include <errno.h>
#include <stdlib.h>

enum { WAYS = 4 };

int og_rate_init(
	struct og_rate *r, uint32_t per_s, uint32_t burst, uint32_t nb_keys, struct og_rand *rand)
{
	uint32_t nb_sets = 1;

	*r = (struct og_rate){0};
	if (per_s == 0)
		return 0;
	while (nb_sets * WAYS < nb_keys)
		nb_sets *= 2;
	r->mask = nb_sets - 1;
	r->hash_key = og_rand_u64(rand) | 1;
	r->interval_ns = OG_NS_PER_S / per_s;
	r->burst_ns = r->interval_ns * burst;
	r->entries = calloc((size_t)nb_sets * WAYS, sizeof(*r->entries));
	return r->entries ? 0 : -ENOMEM;
}

void og_rate_fini(struct og_rate *r)
{
	free(r->entries);
	*r = (struct og_rate){0};
}

bool og_rate_allow(struct og_rate *r, uint64_t key, uint64_t now_ns)
{
	struct og_rate_entry *set, *e;

	if (!r->entries)
		return true;
	set = &r->entries[(((key + 1) * r->hash_key) >> 32 & r->mask) * WAYS];
	e = &set[0];
	for (int i = 0; i < WAYS; i++) {
		if (set[i].key == key) {
			e = &set[i];
			break;
		}
		if (set[i].full_at_ns < e->full_at_ns)
			e = &set[i];
	}
	if (e->key != key)
		*e = (struct og_rate_entry){.key = key};
	if (e->full_at_ns < now_ns)
		e->full_at_ns = now_ns;
	if (e->full_at_ns + r->interval_ns - now_ns > r->burst_ns)
		return false;
	e->full_at_ns += r->interval_ns;
	return true;
}
