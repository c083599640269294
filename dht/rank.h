/*
 * rank.h: the nodes of one bucket in order of distance from a target.
 *
 * Units:   distances by the first 8 bytes of an id: random ids differ there.
 * Threads: pure functions.
 */
#pragma once
#include "dht/wire.h"

/*
 * place[i] = how many of the first `nb_nodes` of `prefix` (big-endian words) are nearer to
 * `target_prefix` than prefix[i]. Equal ones get the same place. Beyond nb_nodes: anything.
 */
typedef void (*og_dht_rank_fn)(uint64_t place[OG_DHT_K], const uint64_t prefix[OG_DHT_K],
	unsigned nb_nodes, uint64_t target_prefix);

/* The fastest for this processor. */
og_dht_rank_fn og_dht_rank_pick(void);
/* The one for any processor. */
og_dht_rank_fn og_dht_rank_plain(void);
