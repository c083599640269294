#include "dataplane/neigh.h"

#include <string.h>

#define CONFIRM_NS (60 * OG_NS_PER_S)
#define PROBE_NS OG_NS_PER_S

uint32_t og_neigh_bucket(const uint8_t ip[4])
{
	/* Neighbours differ in their last bytes; an odd factor spreads them. */
	return (ip[3] + ip[2] * 31u + ip[1] * 961u) % OG_NEIGH_BUCKETS;
}

static struct og_neigh *bucket_of(struct og_neigh_table *t, const uint8_t ip[4])
{
	return t->entries[og_neigh_bucket(ip)];
}

static struct og_neigh *find(struct og_neigh_table *t, const uint8_t ip[4])
{
	struct og_neigh *bucket = bucket_of(t, ip);

	for (uint32_t i = 0; i < OG_NEIGH_WAYS; i++)
		if (bucket[i].used && memcmp(bucket[i].ip, ip, 4) == 0)
			return &bucket[i];
	return NULL;
}

static struct og_neigh *make(struct og_neigh_table *t, const uint8_t ip[4])
{
	struct og_neigh *bucket = bucket_of(t, ip), *best = NULL;

	for (uint32_t i = 0; i < OG_NEIGH_WAYS; i++) {
		struct og_neigh *n = &bucket[i];

		if (!n->used) {
			best = n;
			break;
		}
		if (n->nb_waiting == 0 && (!best || n->wanted_ns < best->wanted_ns))
			best = n;
	}
	if (!best)
		return NULL;
	*best = (struct og_neigh){.used = true};
	memcpy(best->ip, ip, 4);
	return best;
}

struct og_neigh *og_neigh_get(struct og_neigh_table *t, const uint8_t ip[4], uint64_t now_ns)
{
	struct og_neigh *n = find(t, ip);

	if (!n)
		n = make(t, ip);
	if (n)
		n->wanted_ns = now_ns;
	return n;
}

bool og_neigh_probe(struct og_neigh *n, uint64_t now_ns)
{
	if (n->known && now_ns - n->confirmed_ns < CONFIRM_NS)
		return false;
	if (n->probes > 0 && now_ns - n->probed_ns < PROBE_NS)
		return false;
	if (n->probes >= OG_NEIGH_PROBES)
		return false; /* og_neigh_dead() soon */
	n->probes++;
	n->probed_ns = now_ns;
	return true;
}

void *og_neigh_wait(struct og_neigh *n, void *packet)
{
	void *oldest = NULL;

	if (n->nb_waiting == OG_NEIGH_QUEUE) {
		oldest = n->waiting[0];
		n->nb_waiting--;
		memmove(n->waiting, n->waiting + 1, n->nb_waiting * sizeof(n->waiting[0]));
	}
	n->waiting[n->nb_waiting++] = packet;
	return oldest;
}

struct og_neigh *og_neigh_learn(struct og_neigh_table *t, const uint8_t ip[4],
	const struct og_inet_mac *mac, uint64_t now_ns)
{
	struct og_neigh *n = find(t, ip);

	if (!n || n->probes == 0)
		return NULL; /* nobody asked */
	n->mac = *mac;
	n->known = true;
	n->probes = 0;
	n->confirmed_ns = now_ns;
	return n;
}

bool og_neigh_dead(const struct og_neigh *n, uint64_t now_ns)
{
	return n->used && n->probes >= OG_NEIGH_PROBES && now_ns - n->probed_ns >= PROBE_NS;
}

void og_neigh_forget(struct og_neigh *n)
{
	*n = (struct og_neigh){.used = false};
}
