#include "gpu/cpu/pool.h"

#include <criterion/criterion.h>
#include <string.h>

enum { ITEMS = 257 };

struct tally {
	uint32_t seen[ITEMS];
};

static void count_item(void *arg, uint32_t item)
{
	struct tally *t = arg;

	__atomic_add_fetch(&t->seen[item], 1, __ATOMIC_RELAXED);
}

static void expect_each_once(uint32_t threads, uint32_t loops)
{
	struct og_pool *p;

	cr_assert_eq(og_pool_create(&p, threads), 0);
	for (uint32_t loop = 0; loop < loops; loop++) {
		struct tally t = {0};
		uint32_t n = loop % ITEMS + 1;

		og_pool_run(p, count_item, &t, n);
		for (uint32_t i = 0; i < ITEMS; i++)
			cr_assert_eq(t.seen[i], i < n, "item %u of %u: %u times", i, n, t.seen[i]);
	}
	og_pool_destroy(p);
}

Test(pool, runs_each_item_once)
{
	expect_each_once(1, 300);
	expect_each_once(2, 20000);
	expect_each_once(5, 2000);
}

Test(pool, runs_no_items)
{
	struct tally t = {0};
	struct og_pool *p;

	cr_assert_eq(og_pool_create(&p, 2), 0);
	og_pool_run(p, count_item, &t, 0);
	cr_expect_eq(t.seen[0], 0);
	og_pool_destroy(p);
}
