#include "base/rand.h"
#include "gpu/kv_pool.h"
#include "gpu/kv_swap.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

static uint32_t text[OG_KV_PAGE_TOKENS];

/* 64 tokens that differ with `n`, some of them only at the end. */
static const uint32_t *tokens(uint32_t n)
{
	memset(text, 0, sizeof(text));
	text[0] = n / 3;
	text[OG_KV_PAGE_TOKENS - 1] = n % 3;
	return text;
}

static uint32_t take(struct og_kv_pool *p)
{
	uint32_t page;

	cr_assert_eq(og_kv_pool_take(p, &page), 0);
	return page;
}

Test(kv_pool, gives_each_page_once_and_says_when_there_is_none)
{
	struct og_kv_pool p = {0};
	uint32_t page, seen = 0;

	cr_assert_eq(og_kv_pool_init(&p, 5), 0);
	for (int i = 0; i < 5; i++)
		seen |= 1u << take(&p);
	cr_expect_eq(seen, 31);
	cr_expect_eq(og_kv_pool_take(&p, &page), -ENOBUFS);
	og_kv_pool_put(&p, 3);
	cr_expect_eq(og_kv_pool_available(&p), 1);
	cr_expect_eq(take(&p), 3);
	og_kv_pool_fini(&p);
}

Test(kv_pool, finds_a_page_by_its_tokens_and_the_page_before)
{
	struct og_kv_pool p = {0};
	uint32_t first, second, found;
	uint64_t serial;

	cr_assert_eq(og_kv_pool_init(&p, 4), 0);
	first = take(&p);
	second = take(&p);
	cr_expect_eq(og_kv_pool_find(&p, 0, tokens(1), &found), -ENOENT);
	cr_assert_eq(og_kv_pool_share(&p, first, 0, tokens(1)), first);
	serial = p.pages[first].serial;
	cr_assert_eq(og_kv_pool_share(&p, second, serial, tokens(1)), second);
	cr_expect_eq(og_kv_pool_find(&p, 0, tokens(2), &found), -ENOENT);
	cr_expect_eq(og_kv_pool_find(&p, serial + 9, tokens(1), &found), -ENOENT);
	cr_assert_eq(og_kv_pool_find(&p, 0, tokens(1), &found), 0);
	cr_expect_eq(found, first);
	cr_assert_eq(og_kv_pool_find(&p, serial, tokens(1), &found), 0);
	cr_expect_eq(found, second);
	cr_expect_eq(p.pages[second].nb_users, 2);
	og_kv_pool_fini(&p);
}

Test(kv_pool, keeps_one_page_of_two_that_hold_the_same)
{
	struct og_kv_pool p = {0};
	uint32_t first, second;

	cr_assert_eq(og_kv_pool_init(&p, 2), 0);
	first = take(&p);
	second = take(&p);
	cr_assert_eq(og_kv_pool_share(&p, first, 0, tokens(1)), first);
	cr_expect_eq(og_kv_pool_share(&p, second, 0, tokens(1)), first);
	cr_expect_eq(p.pages[first].nb_users, 2);
	cr_expect_eq(og_kv_pool_available(&p), 1);
	og_kv_pool_fini(&p);
}

Test(kv_pool, gives_up_what_was_longest_unused)
{
	struct og_kv_pool p = {0};
	uint32_t pages[3], found;

	cr_assert_eq(og_kv_pool_init(&p, 3), 0);
	for (uint32_t i = 0; i < 3; i++)
		pages[i] = og_kv_pool_share(&p, take(&p), 0, tokens(i));
	for (uint32_t i = 0; i < 3; i++)
		og_kv_pool_put(&p, pages[i]);
	cr_expect_eq(og_kv_pool_available(&p), 3);
	/* A use makes the first the last. */
	cr_assert_eq(og_kv_pool_find(&p, 0, tokens(0), &found), 0);
	og_kv_pool_put(&p, found);
	cr_expect_eq(take(&p), pages[1]);
	cr_expect_eq(og_kv_pool_find(&p, 0, tokens(1), &found), -ENOENT);
	cr_expect_eq(take(&p), pages[2]);
	cr_expect_eq(og_kv_pool_find(&p, 0, tokens(0), &found), 0);
	cr_expect_eq(found, pages[0]);
	cr_expect_eq(og_kv_pool_take(&p, &found), -ENOBUFS);
	og_kv_pool_fini(&p);
}

/* Against the plainest model: an array of who holds what. */
Test(kv_pool, never_loses_a_page_nor_gives_one_that_is_held)
{
	enum { PAGES = 23, HELD_MAX = 40, ROUNDS = 20000 };
	struct og_kv_pool p = {0};
	uint32_t held[HELD_MAX], users[PAGES] = {0}, content[PAGES], nb_held = 0, nb_used;
	struct og_rand r;

	og_rand_seeded(&r, 5);
	memset(content, 0xff, sizeof(content));
	cr_assert_eq(og_kv_pool_init(&p, PAGES), 0);
	for (int i = 0; i < ROUNDS; i++) {
		uint32_t n = og_rand_below(&r, 30), page;

		if (nb_held == HELD_MAX || og_rand_below(&r, 5) < 2) {
			if (nb_held == 0)
				continue;
			n = og_rand_below(&r, nb_held);
			users[held[n]]--;
			og_kv_pool_put(&p, held[n]);
			held[n] = held[--nb_held];
		} else if (og_kv_pool_find(&p, 0, tokens(n), &page) == 0) {
			cr_assert_eq(content[page], n, "page %u holds %u, not %u", page,
				content[page], n);
			users[page]++;
			held[nb_held++] = page;
		} else if (og_kv_pool_take(&p, &page) == 0) {
			cr_assert_eq(users[page], 0, "page %u is held", page);
			content[page] = UINT32_MAX;
			users[page] = 1;
			if (og_rand_below(&r, 2)) {
				cr_assert_eq(og_kv_pool_share(&p, page, 0, tokens(n)), page);
				content[page] = n;
			}
			held[nb_held++] = page;
		}
		nb_used = 0;
		for (uint32_t k = 0; k < PAGES; k++)
			nb_used += users[k] > 0;
		cr_assert_eq(og_kv_pool_available(&p), PAGES - nb_used);
	}
	og_kv_pool_fini(&p);
}

Test(kv_swap, keeps_what_is_put_there)
{
	struct og_kv_swap w = {0}, none = {0};
	uint32_t places[3];

	cr_assert_eq(og_kv_swap_init(&w, 100, 3), 0);
	for (uint32_t i = 0; i < 3; i++) {
		places[i] = og_kv_swap_take(&w);
		memset(og_kv_swap_at(&w, places[i]), (int)i + 1, 100);
	}
	cr_expect_eq(w.nb_free, 0);
	for (uint32_t i = 0; i < 3; i++)
		for (uint32_t k = 0; k < 100; k++)
			cr_assert_eq(((uint8_t *)og_kv_swap_at(&w, places[i]))[k], i + 1);
	og_kv_swap_put(&w, places[1]);
	cr_expect_eq(og_kv_swap_take(&w), places[1]);
	og_kv_swap_fini(&w);
	cr_assert_eq(og_kv_swap_init(&none, 100, 0), 0);
	cr_expect_eq(none.nb_free, 0);
	og_kv_swap_fini(&none);
	cr_expect_eq(og_kv_swap_init(&none, UINT64_MAX, 2), -ENOMEM);
}
