/*
 * neigh_board.h: what one core knows of its neighbours, for other cores to send by: a copy of its table
 * (neigh.h) that holds the addresses only.
 *
 * An entry is two words with the same tag, new at each change. Who reads words of two changes sees two
 * tags and takes the neighbour for an unknown one, which is answered by asking the owner.
 *
 * Source:  as a seqlock, but readers never try again.
 * Threads: publish() belongs to the owner of the table, find() to any thread.
 * Memory:  16 KiB, embedded.
 */
#pragma once
#include "dataplane/neigh.h"

struct og_neigh_board {
	uint64_t words[OG_NEIGH_ENTRIES][2]; /* atomic */
};

/* `n`, an entry of `t`, has changed. */
void og_neigh_board_publish(
	struct og_neigh_board *b, const struct og_neigh_table *t, const struct og_neigh *n);
/* The number of the entry, 0 to OG_NEIGH_ENTRIES - 1, or -1: unknown. */
int og_neigh_board_find(
	const struct og_neigh_board *b, const uint8_t ip[4], struct og_inet_mac *mac) OG_MUST_CHECK;
