#include "dataplane/neigh_board.h"

#include "base/bytes.h"

#include <string.h>

/* First word: IP address, tag, two bytes of the MAC address. Second: its other four, nothing, tag. */

static uint16_t tag_of(const uint64_t words[2])
{
	return (uint16_t)(words[0] >> 16);
}

void og_neigh_board_publish(
	struct og_neigh_board *b, const struct og_neigh_table *t, const struct og_neigh *n)
{
	uint64_t *words = b->words[n - t->entries[0]];
	uint64_t tag = (uint16_t)(tag_of(words) + 1), first = tag << 16, second = tag;

	if (n->used && n->known) {
		first |= (uint64_t)og_load_le32(n->ip) << 32 | og_load_le16(n->mac.bytes);
		second |= (uint64_t)og_load_le32(n->mac.bytes + 2) << 32;
	}
	if ((first ^ words[0]) >> 32 == 0 && ((first ^ words[0]) & UINT16_MAX) == 0 &&
		(second ^ words[1]) >> 32 == 0)
		return; /* only confirmed */
	/* Relaxed: the tags tell what belongs together. */
	__atomic_store_n(&words[1], second, __ATOMIC_RELAXED);
	__atomic_store_n(&words[0], first, __ATOMIC_RELAXED);
}

int og_neigh_board_find(
	const struct og_neigh_board *b, const uint8_t ip[4], struct og_inet_mac *mac)
{
	uint32_t at = og_neigh_bucket(ip) * OG_NEIGH_WAYS;

	for (uint32_t i = at; i < at + OG_NEIGH_WAYS; i++) {
		const uint64_t words[2] = {__atomic_load_n(&b->words[i][0], __ATOMIC_RELAXED),
			__atomic_load_n(&b->words[i][1], __ATOMIC_RELAXED)};

		if (words[0] >> 32 != og_load_le32(ip) || tag_of(words) != (uint16_t)words[1])
			continue;
		og_store_le16(mac->bytes, (uint16_t)words[0]);
		og_store_le32(mac->bytes + 2, (uint32_t)(words[1] >> 32));
		return (int)i;
	}
	return -1;
}
