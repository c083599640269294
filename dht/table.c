#include "dht/table.h"

#include "dht/rank.h"

#include <errno.h>
#include <stdlib.h>

enum { NONE = UINT16_MAX, HASH_SLOTS = 1024, ID_WORDS = 4 };

/* Holds all that the nearest nodes need: the first 8 bytes of each id, and the address. */
struct bucket {
	uint64_t prefix[OG_DHT_K];
	uint64_t addr4[OG_DHT_K]; /* in its first bytes, to be moved as a word */
	uint16_t node[OG_DHT_K];
	uint16_t nb_nodes;
};

struct og_dht_table {
	uint8_t center[OG_DHT_ID_BYTES];
	uint64_t filled[ID_WORDS]; /* bit 63 of word 0 is bucket 0 */
	uint64_t seed;
	og_dht_rank_fn rank;
	uint32_t nb_nodes;
	uint32_t cap;
	uint16_t newest;
	uint16_t oldest;
	uint16_t free;
	uint16_t hash[HASH_SLOTS];
	struct bucket buckets[OG_DHT_BUCKETS];
	struct og_dht_node nodes[];
};

static uint64_t load_be64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return __builtin_bswap64(v);
}

static unsigned shared_bits(const uint8_t *a, const uint8_t *b)
{
	for (unsigned i = 0; i < ID_WORDS; i++) {
		uint64_t x = load_be64(a + 8 * i) ^ load_be64(b + 8 * i);

		if (x != 0)
			return 64 * i + (unsigned)__builtin_clzll(x);
	}
	return OG_DHT_BUCKETS - 1;
}

static uint16_t hash_slot(const struct og_dht_table *t, const struct og_addr *a)
{
	uint64_t x = (og_addr_key(a) ^ t->seed) * 0x9e3779b97f4a7c15ull;

	return (uint16_t)((x ^ x >> 29) * 0xbf58476d1ce4e5b9ull >> 54) % HASH_SLOTS;
}

static uint16_t index_of(const struct og_dht_table *t, const struct og_dht_node *node)
{
	return (uint16_t)(node - t->nodes);
}

static struct og_dht_node *node_at(const struct og_dht_table *t, uint16_t idx)
{
	return idx == NONE ? NULL : (struct og_dht_node *)&t->nodes[idx];
}

int og_dht_table_create(struct og_dht_table **out, uint32_t nb_nodes,
	const uint8_t center[OG_DHT_ID_BYTES], uint64_t seed)
{
	struct og_dht_table *t = calloc(1, sizeof(*t) + nb_nodes * sizeof(t->nodes[0]));

	if (!t)
		return -ENOMEM;
	OG_ASSERT(nb_nodes > 0 && nb_nodes <= 65000);
	memcpy(t->center, center, sizeof(t->center));
	t->seed = seed;
	t->rank = og_dht_rank_pick();
	t->cap = nb_nodes;
	t->newest = t->oldest = NONE;
	memset(t->hash, 0xff, sizeof(t->hash));
	for (uint32_t i = 0; i < nb_nodes; i++)
		t->nodes[i].hash_next = i + 1 < nb_nodes ? (uint16_t)(i + 1) : NONE;
	t->free = 0;
	*out = t;
	return 0;
}

void og_dht_table_destroy(struct og_dht_table *t)
{
	free(t);
}

void og_dht_table_copy(struct og_dht_table *to, const struct og_dht_table *from)
{
	OG_ASSERT(to->cap == from->cap);
	memcpy(to, from, sizeof(*to) + to->cap * sizeof(to->nodes[0]));
}

const uint8_t *og_dht_table_center(const struct og_dht_table *t)
{
	return t->center;
}

uint32_t og_dht_table_size(const struct og_dht_table *t)
{
	return t->nb_nodes;
}

struct og_dht_node *og_dht_table_find(const struct og_dht_table *t, const struct og_addr *addr)
{
	uint16_t i = t->hash[hash_slot(t, addr)];

	while (i != NONE && !og_addr_eq(&t->nodes[i].addr, addr))
		i = t->nodes[i].hash_next;
	return node_at(t, i);
}

/* ---- age list ---- */

static void age_unlink(struct og_dht_table *t, struct og_dht_node *n)
{
	if (n->newer == NONE)
		t->newest = n->older;
	else
		t->nodes[n->newer].older = n->older;
	if (n->older == NONE)
		t->oldest = n->newer;
	else
		t->nodes[n->older].newer = n->newer;
}

static void age_push_newest(struct og_dht_table *t, struct og_dht_node *n)
{
	uint16_t i = index_of(t, n);

	n->newer = NONE;
	n->older = t->newest;
	if (t->newest == NONE)
		t->oldest = i;
	else
		t->nodes[t->newest].newer = i;
	t->newest = i;
}

struct og_dht_node *og_dht_table_newest(const struct og_dht_table *t)
{
	return node_at(t, t->newest);
}

struct og_dht_node *og_dht_table_oldest(const struct og_dht_table *t)
{
	return node_at(t, t->oldest);
}

struct og_dht_node *og_dht_table_older(const struct og_dht_table *t, const struct og_dht_node *node)
{
	return node_at(t, node->older);
}

struct og_dht_node *og_dht_table_newer(const struct og_dht_table *t, const struct og_dht_node *node)
{
	return node_at(t, node->newer);
}

void og_dht_table_touch(struct og_dht_table *t, struct og_dht_node *node, uint32_t tick)
{
	node->pinged = node->seen = tick;
	age_unlink(t, node);
	age_push_newest(t, node);
}

/* ---- buckets ---- */

static bool same_subnet(const struct og_addr *a, const struct og_addr *b)
{
	return og_addr_u32(a) >> 8 == og_addr_u32(b) >> 8;
}

static bool subnet_full(
	const struct og_dht_table *t, const struct bucket *b, const struct og_addr *addr)
{
	unsigned in_bucket = 0;
	unsigned in_table = 0;

	for (unsigned i = 0; i < b->nb_nodes; i++)
		in_bucket += same_subnet(&t->nodes[b->node[i]].addr, addr);
	if (in_bucket >= OG_DHT_SUBNET_BUCKET_MAX)
		return true;
	for (uint16_t i = t->newest; i != NONE; i = t->nodes[i].older)
		in_table += same_subnet(&t->nodes[i].addr, addr);
	return in_table >= OG_DHT_SUBNET_TABLE_MAX;
}

int og_dht_table_room(const struct og_dht_table *t, const uint8_t id[OG_DHT_ID_BYTES],
	const struct og_addr *addr, bool capped)
{
	const struct bucket *b = &t->buckets[shared_bits(t->center, id)];

	if (memcmp(id, t->center, OG_DHT_ID_BYTES) == 0 || og_dht_table_find(t, addr))
		return -EEXIST;
	if (capped && subnet_full(t, b, addr))
		return -EDQUOT;
	return b->nb_nodes == OG_DHT_K || t->free == NONE ? -ENOSPC : 0;
}

static void bucket_add(struct og_dht_table *t, struct og_dht_node *n)
{
	unsigned bit = shared_bits(t->center, n->id);
	struct bucket *b = &t->buckets[bit];

	b->node[b->nb_nodes] = index_of(t, n);
	b->prefix[b->nb_nodes] = load_be64(n->id);
	og_dht_addr4_store((uint8_t *)&b->addr4[b->nb_nodes], &n->addr);
	b->nb_nodes++;
	t->filled[bit / 64] |= 1ull << (63 - bit % 64);
}

static void bucket_remove(struct og_dht_table *t, const struct og_dht_node *n)
{
	unsigned bit = shared_bits(t->center, n->id);
	struct bucket *b = &t->buckets[bit];
	uint16_t i = 0;

	while (b->node[i] != index_of(t, n))
		i++;
	b->nb_nodes--;
	b->node[i] = b->node[b->nb_nodes];
	b->prefix[i] = b->prefix[b->nb_nodes];
	b->addr4[i] = b->addr4[b->nb_nodes];
	if (b->nb_nodes == 0)
		t->filled[bit / 64] &= ~(1ull << (63 - bit % 64));
}

int og_dht_table_add(struct og_dht_table *t, const uint8_t id[OG_DHT_ID_BYTES],
	const struct og_addr *addr, bool capped, uint32_t tick, struct og_dht_node **out)
{
	int ret = og_dht_table_room(t, id, addr, capped);
	uint16_t i = t->free;
	struct og_dht_node *n;
	uint16_t slot;

	if (ret < 0)
		return ret;
	n = &t->nodes[i];
	t->free = n->hash_next;
	*n = (struct og_dht_node){.addr = *addr, .capped = capped};
	memcpy(n->id, id, OG_DHT_ID_BYTES);
	n->added = n->pinged = n->seen = tick;
	slot = hash_slot(t, addr);
	n->hash_next = t->hash[slot];
	t->hash[slot] = i;
	bucket_add(t, n);
	age_push_newest(t, n);
	t->nb_nodes++;
	if (out)
		*out = n;
	return 0;
}

static void release(struct og_dht_table *t, struct og_dht_node *node)
{
	uint16_t *link = &t->hash[hash_slot(t, &node->addr)];
	uint16_t i = index_of(t, node);

	while (*link != i)
		link = &t->nodes[*link].hash_next;
	*link = node->hash_next;
	age_unlink(t, node);
	node->hash_next = t->free;
	t->free = i;
	t->nb_nodes--;
}

void og_dht_table_remove(struct og_dht_table *t, struct og_dht_node *node)
{
	bucket_remove(t, node);
	release(t, node);
}

static bool fits(const struct og_dht_table *t, const struct og_dht_node *n)
{
	const struct bucket *b = &t->buckets[shared_bits(t->center, n->id)];
	unsigned in_bucket = 0;

	if (b->nb_nodes == OG_DHT_K || memcmp(n->id, t->center, OG_DHT_ID_BYTES) == 0)
		return false;
	if (!n->capped)
		return true;
	for (unsigned i = 0; i < b->nb_nodes; i++)
		in_bucket += same_subnet(&t->nodes[b->node[i]].addr, &n->addr);
	return in_bucket < OG_DHT_SUBNET_BUCKET_MAX;
}

void og_dht_table_set_center(struct og_dht_table *t, const uint8_t center[OG_DHT_ID_BYTES])
{
	uint16_t next;

	if (memcmp(t->center, center, OG_DHT_ID_BYTES) == 0)
		return;
	memcpy(t->center, center, OG_DHT_ID_BYTES);
	memset(t->filled, 0, sizeof(t->filled));
	memset(t->buckets, 0, sizeof(t->buckets));
	for (uint16_t i = t->newest; i != NONE; i = next) {
		struct og_dht_node *n = &t->nodes[i];

		next = n->older;
		if (fits(t, n))
			bucket_add(t, n);
		else
			release(t, n);
	}
}

struct og_dht_node *og_dht_table_stalest(
	const struct og_dht_table *t, const uint8_t id[OG_DHT_ID_BYTES], uint32_t tick)
{
	const struct bucket *b = &t->buckets[shared_bits(t->center, id)];
	struct og_dht_node *stalest = NULL;

	for (unsigned i = 0; i < b->nb_nodes; i++) {
		struct og_dht_node *n = node_at(t, b->node[i]);

		if (n->pinged == tick)
			continue;
		if (!stalest || n->pinged < stalest->pinged ||
			(n->pinged == stalest->pinged && n->added < stalest->added))
			stalest = n;
	}
	return stalest;
}

/* ---- nearest nodes ---- */

struct nearest {
	const struct og_dht_table *t;
	const uint8_t *target;
	uint64_t target_prefix;
	uint32_t nb;
	uint32_t max;
	uint8_t *addr4;
};

/* Never asked with ids that are hashes. */
static bool nearer_by_tail(const struct nearest *s, uint16_t a, uint16_t b)
{
	const uint8_t *x = s->t->nodes[a].id;
	const uint8_t *y = s->t->nodes[b].id;

	for (unsigned i = 8; i < OG_DHT_ID_BYTES; i++)
		if (x[i] != y[i])
			return (x[i] ^ s->target[i]) < (y[i] ^ s->target[i]);
	return false;
}

/* Those whose prefixes are equal: by their tails, and were these equal too, in any order. */
static void settle_ties(const struct nearest *s, const struct bucket *b, uint64_t place[OG_DHT_K])
{
	for (unsigned i = 0; i < b->nb_nodes; i++)
		for (unsigned j = 0; j < i; j++) {
			if (b->prefix[i] != b->prefix[j])
				continue;
			if (nearer_by_tail(s, b->node[i], b->node[j]))
				place[j]++;
			else
				place[i]++;
		}
}

/* The first `n` of `addr4` as the wire has them: each word's slack is overwritten by the next. */
static void write_addr4(uint8_t *out, const uint64_t *addr4, uint32_t n)
{
	for (uint32_t i = 0; i + 1 < n; i++)
		memcpy(out + (size_t)i * OG_DHT_ADDR4_BYTES, &addr4[i], sizeof(addr4[i]));
	if (n > 0)
		memcpy(out + (size_t)(n - 1) * OG_DHT_ADDR4_BYTES, &addr4[n - 1],
			OG_DHT_ADDR4_BYTES);
}

static void take_bucket(struct nearest *s, unsigned bit)
{
	const struct bucket *b = &s->t->buckets[bit];
	const uint32_t nb = b->nb_nodes, wanted = OG_MIN(nb, s->max - s->nb);
	uint64_t place[OG_DHT_K], sorted[OG_DHT_K], sum = 0;

	s->t->rank(place, b->prefix, nb, s->target_prefix);
	for (uint32_t i = 0; i < nb; i++)
		sum += place[i];
	if (sum != nb * (nb - 1) / 2) /* 0 to nb - 1, unless some are equal */
		settle_ties(s, b, place);
	for (uint32_t i = 0; i < nb; i++)
		sorted[place[i]] = b->addr4[i];
	write_addr4(s->addr4 + (size_t)s->nb * OG_DHT_ADDR4_BYTES, sorted, wanted);
	s->nb += wanted;
}

/*
 * Whole buckets come in order of distance. Let x = center ^ target. An id of bucket b agrees with
 * the center up to bit b and differs there; so where x has a 1 at bit b the bucket is nearer than
 * every later one, and where it has a 0 it is farther than every later one.
 */
uint32_t og_dht_table_closest(const struct og_dht_table *t, const uint8_t target[OG_DHT_ID_BYTES],
	uint32_t max, uint8_t *addr4)
{
	struct nearest s = {t, target, load_be64(target), 0, OG_MIN(max, OG_DHT_K), addr4};
	uint64_t x[ID_WORDS];

	for (unsigned w = 0; w < ID_WORDS; w++) {
		uint64_t near;

		x[w] = load_be64(t->center + 8 * w) ^ load_be64(target + 8 * w);
		near = t->filled[w] & x[w];
		while (near != 0 && s.nb < s.max) {
			unsigned bit = (unsigned)__builtin_clzll(near);

			near &= ~(1ull << (63 - bit));
			take_bucket(&s, 64 * w + bit);
		}
	}
	for (unsigned w = ID_WORDS; w-- > 0;) {
		uint64_t far = t->filled[w] & ~x[w];

		while (far != 0 && s.nb < s.max) {
			unsigned bit = 63 - (unsigned)__builtin_ctzll(far);

			far &= far - 1;
			take_bucket(&s, 64 * w + bit);
		}
	}
	return s.nb;
}
