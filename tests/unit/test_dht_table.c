#include "dht/nat.h"
#include "dht/rank.h"
#include "dht/table.h"

#include "base/rand.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

enum { NAIVE_MAX = 3000 };

struct naive {
	uint8_t center[32];
	uint32_t n;
	struct {
		uint8_t id[32];
		struct og_addr addr;
		unsigned bucket; /* bits shared with the center */
	} node[NAIVE_MAX];
};

static unsigned shared(const uint8_t *a, const uint8_t *b)
{
	unsigned bit = 0;

	while (bit < 255 && ((a[bit / 8] ^ b[bit / 8]) >> (7 - bit % 8) & 1) == 0)
		bit++;
	return bit;
}

static bool nearer(const uint8_t *target, const uint8_t *a, const uint8_t *b)
{
	for (unsigned i = 0; i < 32; i++)
		if (a[i] != b[i])
			return (a[i] ^ target[i]) < (b[i] ^ target[i]);
	return false;
}

static void remember(struct naive *m, const uint8_t *id, const struct og_addr *addr)
{
	memcpy(m->node[m->n].id, id, 32);
	m->node[m->n].bucket = shared(m->center, id);
	m->node[m->n++].addr = *addr;
}

static unsigned in_bucket(const struct naive *m, const uint8_t *id)
{
	unsigned n = 0, bucket = shared(m->center, id);

	for (uint32_t i = 0; i < m->n; i++)
		n += m->node[i].bucket == bucket;
	return n;
}

static void check_closest(
	const struct og_dht_table *t, const struct naive *m, const uint8_t *target)
{
	uint8_t got[20 * 6];
	uint32_t order[20];
	uint32_t n = 0;

	for (uint32_t i = 0; i < m->n; i++) {
		uint32_t j = n;

		while (j > 0 && nearer(target, m->node[i].id, m->node[order[j - 1]].id)) {
			if (j < 20)
				order[j] = order[j - 1];
			j--;
		}
		if (j < 20)
			order[j] = i;
		n = OG_MIN(n + 1, 20);
	}
	cr_assert_eq(og_dht_table_closest(t, target, 20, got), n);
	for (uint32_t i = 0; i < n; i++) {
		struct og_addr a = og_dht_addr4_load(got + 6 * i);

		/* By id, since made-up ids may be equal. */
		cr_assert_arr_eq(og_dht_table_find(t, &a)->id, m->node[order[i]].id, 32,
			"place %u of %u", i, n);
	}
}

/* An id that shares a random number of bits with `near`, so that deep buckets fill too. */
static void random_id(struct og_rand *r, const uint8_t *near, uint8_t id[32])
{
	unsigned bits = og_rand_below(r, 256);

	og_rand_fill(r, id, 32);
	if (og_rand_below(r, 3) == 0)
		return;
	memcpy(id, near, bits / 8);
	id[bits / 8] = (uint8_t)((near[bits / 8] & ~(0xff >> bits % 8)) |
				 (id[bits / 8] & 0xff >> bits % 8));
}

Test(dht_table, agrees_with_a_naive_model_over_100000_operations)
{
	static struct naive m;
	struct og_dht_table *t;
	struct og_rand r;

	og_rand_seeded(&r, 1);
	og_rand_fill(&r, m.center, 32);
	cr_assert_eq(og_dht_table_create(&t, 2048, m.center, 7), 0);
	for (uint32_t op = 0; op < 100000; op++) {
		uint32_t what = og_rand_below(&r, 8);
		uint8_t id[32];

		random_id(&r, m.center, id);
		if (what < 4) {
			struct og_addr a = og_addr_from_key(0x0a0000000001 + op);
			int want = memcmp(id, m.center, 32) == 0 ? -EEXIST
				   : in_bucket(&m, id) == 20     ? -ENOSPC
				   : m.n == 2048                 ? -ENOSPC
								 : 0;

			cr_assert_eq(og_dht_table_add(t, id, &a, false, op, NULL), want);
			if (want == 0)
				remember(&m, id, &a);
		} else if (what < 6 && m.n > 0) {
			uint32_t i = og_rand_below(&r, m.n);
			struct og_dht_node *n = og_dht_table_find(t, &m.node[i].addr);

			cr_assert_not_null(n);
			cr_assert_arr_eq(n->id, m.node[i].id, 32);
			og_dht_table_remove(t, n);
			cr_assert_null(og_dht_table_find(t, &m.node[i].addr));
			m.node[i] = m.node[--m.n];
		} else if (op % 16 == 0) {
			check_closest(t, &m, id);
		}
		cr_assert_eq(og_dht_table_size(t), m.n);
	}
	check_closest(t, &m, m.center);
	og_dht_table_destroy(t);
}

Test(dht_table, a_new_center_keeps_what_fits_and_still_finds_the_nearest)
{
	static struct naive m;
	struct og_dht_table *t;
	struct og_rand r;

	og_rand_seeded(&r, 2);
	og_rand_fill(&r, m.center, 32);
	cr_assert_eq(og_dht_table_create(&t, 2048, m.center, 7), 0);
	for (uint32_t i = 0; i < 500; i++) {
		struct og_addr a = og_addr_from_key(0x0a0000000001 + i);
		uint8_t id[32];

		random_id(&r, m.center, id);
		(void)!og_dht_table_add(t, id, &a, false, i, NULL);
	}
	og_rand_fill(&r, m.center, 32);
	og_dht_table_set_center(t, m.center);
	for (struct og_dht_node *n = og_dht_table_newest(t); n; n = og_dht_table_older(t, n))
		remember(&m, n->id, &n->addr);
	cr_assert_eq(m.n, og_dht_table_size(t));
	for (uint32_t i = 0; i < m.n; i++)
		cr_assert_leq(in_bucket(&m, m.node[i].id), 20);
	for (unsigned i = 0; i < 100; i++) {
		uint8_t target[32];

		random_id(&r, m.center, target);
		check_closest(t, &m, target);
	}
	og_dht_table_destroy(t);
}

Test(dht_table, the_age_list_follows_touches)
{
	struct og_dht_table *t;
	struct og_dht_node *n[3];
	uint8_t center[32] = {0};

	cr_assert_eq(og_dht_table_create(&t, 16, center, 7), 0);
	for (unsigned i = 0; i < 3; i++) {
		struct og_addr a = og_addr_from_key(0x0a0000000001 + i);
		uint8_t id[32] = {(uint8_t)(i + 1)};

		cr_assert_eq(og_dht_table_add(t, id, &a, false, 5, &n[i]), 0);
	}
	cr_assert_eq(og_dht_table_oldest(t), n[0]);
	og_dht_table_touch(t, n[0], 6);
	cr_assert_eq(og_dht_table_newest(t), n[0]);
	cr_assert_eq(og_dht_table_oldest(t), n[1]);
	og_dht_table_remove(t, n[2]);
	cr_assert_eq(og_dht_table_older(t, n[0]), n[1]);
	cr_assert_null(og_dht_table_older(t, n[1]));
	og_dht_table_destroy(t);
}

Test(dht_table, the_stalest_node_is_the_longest_not_pinged_then_the_longest_known)
{
	struct og_dht_table *t;
	struct og_dht_node *n[4];
	uint8_t center[32] = {0};
	uint8_t id[32] = {0x80};

	cr_assert_eq(og_dht_table_create(&t, 16, center, 7), 0);
	for (unsigned i = 0; i < 4; i++) {
		struct og_addr a = og_addr_from_key(0x0a0000000001 + i);

		id[31] = (uint8_t)i;
		cr_assert_eq(og_dht_table_add(t, id, &a, false, 10 + i, &n[i]), 0);
	}
	n[0]->pinged = 20;
	n[1]->pinged = n[2]->pinged = 15;
	n[3]->pinged = 16;
	cr_assert_eq(og_dht_table_stalest(t, id, 20), n[1]);
	n[1]->pinged = n[2]->pinged = n[3]->pinged = 20;
	cr_assert_null(og_dht_table_stalest(t, id, 20));
	og_dht_table_destroy(t);
}

Test(dht_table, ranks_alike_on_every_processor)
{
	struct og_rand r;

	og_rand_seeded(&r, 3);
	for (int round = 0; round < 10000; round++) {
		uint64_t prefix[OG_DHT_K], fast[OG_DHT_K], plain[OG_DHT_K],
			target = og_rand_u64(&r);
		uint32_t nb = og_rand_below(&r, OG_DHT_K + 1);

		for (int i = 0; i < OG_DHT_K; i++)
			prefix[i] = og_rand_below(&r, 4) == 0 ? target ^ 1u : og_rand_u64(&r);
		og_dht_rank_pick()(fast, prefix, nb, target);
		og_dht_rank_plain()(plain, prefix, nb, target);
		cr_assert_arr_eq(fast, plain, nb * sizeof(plain[0]));
	}
}
