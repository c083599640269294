#include "dataplane/neigh.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static const uint8_t host[4] = {10, 0, 0, 7};
static const struct og_inet_mac mac = {{2, 0, 0, 0, 0, 7}};
static struct og_neigh_table table;

enum { S = 1000000000 };

Test(neigh, asks_three_times_a_second_apart_then_gives_up)
{
	struct og_neigh *n = og_neigh_get(&table, host, 0);
	uint64_t now = 5ull * S;

	for (int i = 0; i < OG_NEIGH_PROBES; i++, now += S) {
		cr_assert(og_neigh_probe(n, now));
		cr_assert_not(og_neigh_probe(n, now + S - 1));
		cr_assert_not(og_neigh_dead(n, now + S - 1));
	}
	cr_assert_not(og_neigh_probe(n, now));
	cr_assert(og_neigh_dead(n, now));
	og_neigh_forget(n);
	cr_assert(og_neigh_probe(og_neigh_get(&table, host, now), now), "a new wish asks anew");
}

Test(neigh, an_answer_holds_a_while_and_is_used_while_we_ask_again)
{
	struct og_neigh *n = og_neigh_get(&table, host, 0);

	cr_assert(og_neigh_probe(n, S));
	cr_assert_eq(og_neigh_learn(&table, host, &mac, S + 1), n);
	cr_assert(n->known);
	cr_assert_not(og_neigh_probe(n, 60ull * S));
	cr_assert(og_neigh_probe(n, 61ull * S + 1));
	cr_assert(n->known);
	cr_assert_eq(og_neigh_learn(&table, host, &mac, 62ull * S), n);
	cr_assert_not(og_neigh_probe(n, 63ull * S));
}

Test(neigh, answers_that_nobody_asked_for_change_nothing)
{
	const struct og_inet_mac other = {{2, 0, 0, 0, 0, 9}};
	struct og_neigh *n;

	cr_assert_null(og_neigh_learn(&table, host, &mac, S));
	n = og_neigh_get(&table, host, S);
	cr_assert_null(og_neigh_learn(&table, host, &mac, S), "wished for, but not asked yet");
	cr_assert(og_neigh_probe(n, S));
	cr_assert_eq(og_neigh_learn(&table, host, &mac, S), n);
	cr_assert_null(og_neigh_learn(&table, host, &other, S));
	cr_assert_arr_eq(n->mac.bytes, mac.bytes, 6);
}

Test(neigh, the_oldest_waiting_packet_gives_way)
{
	struct og_neigh *n = og_neigh_get(&table, host, 0);
	int packets[OG_NEIGH_QUEUE + 1];

	for (int i = 0; i < OG_NEIGH_QUEUE; i++)
		cr_assert_null(og_neigh_wait(n, &packets[i]));
	cr_assert_eq(og_neigh_wait(n, &packets[OG_NEIGH_QUEUE]), &packets[0]);
	cr_assert_eq(n->nb_waiting, OG_NEIGH_QUEUE);
	cr_assert_eq(n->waiting[OG_NEIGH_QUEUE - 1], &packets[OG_NEIGH_QUEUE]);
}

Test(neigh, a_full_bucket_forgets_the_least_wanted_unless_packets_wait)
{
	struct og_neigh *first = NULL;
	int packet;

	/* Addresses that differ by the number of buckets share one. */
	for (uint32_t i = 0; i < OG_NEIGH_WAYS; i++) {
		const uint8_t ip[4] = {10, (uint8_t)(i * 128), (uint8_t)(i / 2 * 128), 1};
		struct og_neigh *n = og_neigh_get(&table, ip, 100 + i);

		cr_assert_not_null(n);
		first = first ? first : n;
	}
	cr_assert_not_null(og_neigh_get(&table, host, 200));
	for (uint32_t b = 0; b < OG_NEIGH_BUCKETS; b++)
		for (uint32_t i = 0; i < OG_NEIGH_WAYS; i++)
			og_neigh_wait(&table.entries[b][i], &packet);
	for (uint32_t b = 0; b < OG_NEIGH_BUCKETS; b++)
		for (uint32_t i = 0; i < OG_NEIGH_WAYS; i++)
			table.entries[b][i].used = true;
	cr_assert_null(og_neigh_get(&table, (const uint8_t[]){1, 2, 3, 4}, 300));
}
