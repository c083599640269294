/*
 * stream_core.h: the protocol machine of a polling core beside core 0 (cores.h): connections to members,
 * and PING and FIND_NODE answered from core 0's view. It shakes no hands, knows no topics, posts no jobs.
 *
 * Driven as any core (base/core.h); commands come from the router, about its peers, and from core 0.
 *
 * Threads: one lcore; counters may be read by any thread.
 * Memory:  all at create.
 */
#pragma once
#include "cluster/core.h"
#include "cluster/cores.h"

struct og_dht_view;
struct og_peers;

enum { OG_PEERS_MAX_DEFAULT = 1024, OG_PER_NET_MAX = 64 };
#define OG_FRAME_BUDGET_DEFAULT (256ull << 20)

struct og_stream_core_opts {
	struct og_core_env env; /* jobs is not used */
	struct og_sink *home;   /* to core 0, where it comes as commands */
	struct og_dht_view *view;
	uint16_t idx; /* 1 and up */
	uint16_t nb_cores;
	const uint8_t *own_key; /* the node's; lives as long as the core */
	/* The same as core 0 has. */
	uint32_t peers_max, peers_per_key_max, peers_per_net_max;
	uint64_t frame_budget_bytes;
	uint32_t packets;
};

/* Incoming connections of one limited /24: each core takes its part of them. */
static inline uint32_t og_per_net_max(uint32_t of_node, uint32_t nb_cores)
{
	return ((of_node ? of_node : OG_PER_NET_MAX) + nb_cores - 1) / nb_cores;
}

/* Offers its first streams to `home` at once. */
int og_stream_core_create(struct og_core **out, const struct og_stream_core_opts *opts,
	uint64_t now_ns) OG_MUST_CHECK;
void og_stream_core_destroy(struct og_core *core);
const struct og_cluster_core_stats *og_stream_core_stats(const struct og_core *core);
struct og_peers *og_stream_core_peers(struct og_core *core);
