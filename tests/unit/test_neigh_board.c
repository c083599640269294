/* The copy of the neighbour table that other cores send by. */
#include "dataplane/neigh_board.h"

#include <criterion/criterion.h>

static struct og_neigh_table table;
static struct og_neigh_board board;
static const uint8_t ip[4] = {10, 0, 0, 7};
static const struct og_inet_mac a = {{2, 1, 2, 3, 4, 5}}, b = {{2, 9, 8, 7, 6, 5}};

static const struct og_neigh *learn(const uint8_t at[4], const struct og_inet_mac *mac)
{
	struct og_neigh *n = og_neigh_get(&table, at, OG_NS_PER_S);

	n->probes = 1;
	cr_assert_not_null(og_neigh_learn(&table, at, mac, OG_NS_PER_S));
	og_neigh_board_publish(&board, &table, n);
	return n;
}

static void expect(const uint8_t at[4], const struct og_inet_mac *want)
{
	struct og_inet_mac mac;

	cr_assert_geq(og_neigh_board_find(&board, at, &mac), 0);
	cr_assert_arr_eq(mac.bytes, want->bytes, sizeof(mac.bytes));
}

Test(neigh_board, shows_who_is_known_and_nobody_else)
{
	struct og_inet_mac mac;
	struct og_neigh *n = og_neigh_get(&table, ip, OG_NS_PER_S);

	og_neigh_board_publish(&board, &table, n);
	cr_assert_eq(og_neigh_board_find(&board, ip, &mac), -1, "asked for, not known");
	learn(ip, &a);
	expect(ip, &a);
	learn(ip, &b);
	expect(ip, &b);
	og_neigh_forget(n);
	og_neigh_board_publish(&board, &table, n);
	cr_assert_eq(og_neigh_board_find(&board, ip, &mac), -1);
}

Test(neigh_board, each_entry_has_a_number_of_its_own)
{
	bool seen[OG_NEIGH_ENTRIES] = {false};

	for (uint8_t i = 1; i < 200; i++) {
		const uint8_t at[4] = {10, 0, 0, i};
		const struct og_inet_mac mac = {{2, 0, 0, 0, 0, i}};

		learn(at, &mac);
	}
	for (uint8_t i = 1; i < 200; i++) {
		const uint8_t at[4] = {10, 0, 0, i};
		struct og_inet_mac mac;
		int found = og_neigh_board_find(&board, at, &mac);

		cr_assert(found >= 0 && found < OG_NEIGH_ENTRIES && !seen[found]);
		cr_assert_eq(mac.bytes[5], i);
		seen[found] = true;
	}
}

Test(neigh_board, words_of_two_changes_are_nobody)
{
	struct og_inet_mac mac;
	uint64_t before[2];
	int at;

	learn(ip, &a);
	at = og_neigh_board_find(&board, ip, &mac);
	memcpy(before, board.words[at], sizeof(before));
	learn(ip, &b);
	board.words[at][1] = before[1];
	cr_assert_eq(og_neigh_board_find(&board, ip, &mac), -1);
	board.words[at][0] = before[0];
	expect(ip, &a);
}

Test(neigh_board, what_has_not_changed_is_not_written_anew)
{
	const struct og_neigh *n = learn(ip, &a);
	struct og_neigh_board before = board;

	og_neigh_board_publish(&board, &table, n);
	cr_assert_eq(memcmp(&before, &board, sizeof(board)), 0);
}
