/*
 * env.h: what the parts of one hyperdht node share: the layer below, the owner above, itself.
 *
 * Threads: the owner of the node.
 * Memory:  embedded in struct og_dht.
 */
#pragma once
#include "base/core.h"
#include "base/count.h"
#include "dht/dht.h"
#include "dht/limits.h"

/* The kinds of our jobs: which part posted it. */
enum og_dht_job {
	OG_DHT_JOB_KEEPER_VERIFY,
	OG_DHT_JOB_ACCEPT_READ,
	OG_DHT_JOB_ACCEPT_WRITE,
	OG_DHT_JOB_CONNECT_WRITE,
	OG_DHT_JOB_CONNECT_READ,
	OG_DHT_JOB_SERVER_SIGN,
	OG_DHT_JOB_TOPIC_SIGN,
	OG_DHT_JOB_VALUE_SIGN,
	OG_DHT_JOB_VALUE_VERIFY,
};

struct og_dht_env {
	struct og_dht_rpc *rpc;
	struct og_jobs *jobs;
	struct og_rand *rand;
	struct og_dht_store *store;
	const struct og_keypair *keypair;
	uint8_t target[32]; /* B2 of our public key */
	const struct og_dht_ops *ops;
	void *ctx;
	uint16_t server_port;
	struct og_addr local_addrs[OG_DHT_LOCAL_ADDRS];
	uint32_t nb_local_addrs;
	/* The nodes that relay to our server, newest whole round (dht.md 8.2). */
	struct og_addr relays[OG_DHT_RECORD_RELAYS];
	uint32_t nb_relays;
	struct og_dht_counts counts;
};

/* Prefix that the share of a source is counted by: its /24, or 0 where limits do not apply. */
static inline uint32_t og_dht_prefix_of(const struct og_dht_env *env, const struct og_addr *a)
{
	return og_dht_rpc_address_exempt(env->rpc, a) ? 0 : og_addr_u32(a) >> 8;
}

static inline uint16_t og_dht_source_hash(const struct og_addr *a)
{
	uint32_t v = og_addr_u32(a) * 0x9e3779b1u;

	return (uint16_t)(v >> 16);
}

/* Takes one of `budget` (NULL: no limit) for `key`, unless `a` is exempt. */
static inline bool og_dht_within(const struct og_dht_env *env, struct og_dht_budget *budget,
	const struct og_addr *a, uint32_t key, uint64_t now_ns)
{
	return !budget || og_dht_rpc_address_exempt(env->rpc, a) ||
	       og_dht_budget_take(budget, key, 1, now_ns);
}

static inline uint32_t og_dht_or(uint32_t v, uint32_t otherwise)
{
	return v ? v : otherwise;
}
