#include "dht/nat.h"

#include <string.h>

enum { REUSE_DEPTH = 4, NO_BEST = UINT8_MAX };

void og_dht_nat_init(struct og_dht_nat *nat)
{
	memset(nat, 0, sizeof(*nat));
	nat->full.best = nat->host.best = NO_BEST;
}

static uint8_t free_entry(const struct og_dht_nat_votes *v)
{
	uint8_t i = 0;

	/* 16 in the ring and the best leave one of 18. */
	while (v->entry[i].hits > 0 || i == v->best)
		i++;
	return i;
}

/* The entry for this sample: one of the last four samples', or a new one. One more hit. */
static uint8_t vote(
	const struct og_dht_nat *nat, struct og_dht_nat_votes *v, const struct og_addr *addr)
{
	uint8_t idx;

	for (uint8_t back = 1; back <= REUSE_DEPTH && back <= nat->nb_samples; back++) {
		idx = v->ring[(nat->top + OG_DHT_NAT_SAMPLES - back) % OG_DHT_NAT_SAMPLES];
		if (og_addr_eq(&v->entry[idx].addr, addr)) {
			v->entry[idx].hits++;
			return idx;
		}
	}
	idx = free_entry(v);
	v->entry[idx] = (struct og_dht_nat_entry){*addr, 1};
	return idx;
}

static void place(const struct og_dht_nat *nat, struct og_dht_nat_votes *v, uint8_t idx, bool full)
{
	if (full)
		v->entry[v->ring[nat->top]].hits--;
	v->ring[nat->top] = idx;
	if (v->best == NO_BEST || v->entry[v->best].hits < v->entry[idx].hits)
		v->best = idx;
}

static uint8_t threshold(uint8_t n)
{
	return n < 4 ? n : n < 8 ? n - 1 : n < 12 ? n - 2 : n - 3;
}

void og_dht_nat_add(struct og_dht_nat *nat, const struct og_addr *sample)
{
	struct og_addr host = {{sample->ip[0], sample->ip[1], sample->ip[2], sample->ip[3]}, 0};
	bool ring_full = nat->nb_samples == OG_DHT_NAT_SAMPLES;
	uint8_t f = vote(nat, &nat->full, sample);
	uint8_t h = vote(nat, &nat->host, &host);
	uint8_t need;

	place(nat, &nat->full, f, ring_full);
	place(nat, &nat->host, h, ring_full);
	nat->top = (nat->top + 1) % OG_DHT_NAT_SAMPLES;
	if (!ring_full)
		nat->nb_samples++;

	need = threshold(nat->nb_samples);
	nat->known = true;
	if (nat->full.entry[nat->full.best].hits >= need)
		nat->addr = nat->full.entry[nat->full.best].addr;
	else if (nat->host.entry[nat->host.best].hits >= need)
		nat->addr = nat->host.entry[nat->host.best].addr;
	else
		nat->known = false;
}
