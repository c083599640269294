#include "base/rand.h"

#include <criterion/criterion.h>
#include <string.h>

Test(rand, same_seed_same_numbers)
{
	struct og_rand a, b;

	og_rand_seeded(&a, 7);
	og_rand_seeded(&b, 7);
	for (int i = 0; i < 100; i++)
		cr_assert_eq(og_rand_u64(&a), og_rand_u64(&b));
}

Test(rand, below_stays_below_and_reaches_every_value)
{
	struct og_rand r;
	unsigned seen[7] = {0};

	og_rand_seeded(&r, 1);
	for (int i = 0; i < 7000; i++)
		seen[og_rand_below(&r, 7)]++;
	for (int i = 0; i < 7; i++)
		cr_assert(seen[i] > 800 && seen[i] < 1200);
}

Test(rand, system_never_repeats_across_refills)
{
	struct og_rand r;
	uint8_t a[OG_RAND_BUFFER_BYTES * 2], zero[16] = {0};

	og_rand_system(&r);
	og_rand_fill(&r, a, sizeof(a));
	cr_assert_neq(memcmp(a, a + OG_RAND_BUFFER_BYTES, OG_RAND_BUFFER_BYTES), 0);
	/* What was handed out is not kept. */
	cr_assert_eq(memcmp(r.buffer, zero, sizeof(zero)), 0);
}
