#include "dht/challenge.h"

#include "dht/limits.h"

#include <errno.h>
#include <stdlib.h>

enum {
	WAYS = OG_DHT_WAYS,
	WRONG_MAX = 3,
	NETS = 4096,
	NET_PER_S = 256,
	/* In units of time. */
	AGAIN_AFTER = 4,
	LIFETIME = 16,
};
#define UNIT_NS (128 * OG_NS_PER_MS)

struct entry {
	uint64_t key; /* og_addr_key(); 0: empty */
	uint32_t sent;
	uint16_t tid;
	uint8_t endpoint;
	uint8_t wrong; /* answers */
};

struct og_dht_challenges {
	uint64_t seed;
	uint32_t nb_sets;
	struct og_dht_budget *nets;
	struct entry entries[];
};

int og_dht_challenges_create(struct og_dht_challenges **out, uint32_t nb_entries, uint64_t seed)
{
	struct og_dht_challenges *c = calloc(1, sizeof(*c) + nb_entries * sizeof(c->entries[0]));
	int ret;

	if (!c)
		return -ENOMEM;
	ret = og_dht_budget_create(&c->nets, NETS, seed, NET_PER_S, NET_PER_S);
	if (ret < 0) {
		free(c);
		return ret;
	}
	c->nb_sets = nb_entries / WAYS;
	c->seed = seed;
	*out = c;
	return 0;
}

void og_dht_challenges_destroy(struct og_dht_challenges *c)
{
	if (!c)
		return;
	og_dht_budget_destroy(c->nets);
	free(c);
}

static struct entry *set_of(struct og_dht_challenges *c, uint64_t key)
{
	return &c->entries[og_dht_set_of(key, c->seed, c->nb_sets) * WAYS];
}

static struct entry *find(struct entry set[WAYS], uint64_t key)
{
	for (unsigned i = 0; i < WAYS; i++)
		if (set[i].key == key)
			return &set[i];
	return NULL;
}

static struct entry *oldest(struct entry set[WAYS], uint32_t now)
{
	struct entry *e = set;

	for (unsigned i = 0; i < WAYS; i++) {
		if (set[i].key == 0)
			return &set[i];
		if (now - set[i].sent > now - e->sent)
			e = &set[i];
	}
	return e;
}

int og_dht_challenge_add(struct og_dht_challenges *c, const struct og_addr *to, uint16_t endpoint,
	uint16_t tid, bool exempt, uint64_t now_ns)
{
	const uint64_t key = og_addr_key(to);
	const uint32_t now = (uint32_t)(now_ns / UNIT_NS);
	struct entry *set = set_of(c, key), *e = find(set, key);

	if (e && now - e->sent < AGAIN_AFTER)
		return -EALREADY;
	if (!exempt && !og_dht_budget_take(c->nets, og_addr_u32(to) >> 8, 1, now_ns))
		return -EDQUOT;
	if (!e)
		e = oldest(set, now);
	*e = (struct entry){key, now, tid, (uint8_t)endpoint, 0};
	return 0;
}

bool og_dht_challenge_met(struct og_dht_challenges *c, const struct og_addr *from,
	uint16_t endpoint, uint16_t tid, uint64_t now_ns)
{
	const uint64_t key = og_addr_key(from);
	const uint32_t now = (uint32_t)(now_ns / UNIT_NS);
	struct entry *e = find(set_of(c, key), key);

	if (!e || now - e->sent >= LIFETIME || e->wrong == WRONG_MAX)
		return false;
	if (e->tid != tid || e->endpoint != endpoint) {
		e->wrong++;
		return false;
	}
	e->key = 0;
	return true;
}
