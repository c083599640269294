/*
 * query.h: an iterative lookup: sends one command to nodes ever closer to a target.
 *
 * Source:  dht.md 6.2 (with down hints, slow requests, seeds) and 6.5 (background).
 * Units:   addresses as struct og_addr.
 * Threads: the owner of the rpc.
 * Memory:  slots made with the rpc; seeds, target and value are copied by start.
 */
#pragma once
#include "dht/rpc.h"

struct og_dht_closest {
	struct og_addr addr;
	uint8_t id[OG_DHT_ID_BYTES];
	uint8_t token[OG_DHT_TOKEN_BYTES];
	bool has_token;
	struct og_addr to; /* our address as this node saw it */
};

struct og_dht_query_opts {
	bool internal;
	uint8_t command;
	uint8_t target[32];
	const uint8_t *value;
	uint32_t value_bytes; /* at most OG_DHT_VALUE_MAX */
	bool has_value;
	const struct og_addr *seeds; /* asked first, in order; at most 64 */
	uint32_t nb_seeds;
	uint8_t sends;       /* per request; 0: 6 */
	uint8_t concurrency; /* 0: 10 */
	bool background;     /* starts with 2 at a time */
	bool only_seeds;     /* ask no other node */
	/* Every reply without an error. The query may be cancelled from inside. */
	void (*on_reply)(
		void *ctx, uint64_t tag, const struct og_dht_reply *reply, uint64_t now_ns);
	/*
	 * Exactly once unless cancelled, never from inside start. status 0, or -ENOENT when no node
	 * replied. `closest`: the n <= 20 nearest repliers that have an id, nearest first.
	 */
	void (*on_done)(void *ctx, uint64_t tag, int status, const struct og_dht_closest *closest,
		uint32_t n, uint64_t now_ns);
	void *ctx;
	uint64_t tag;
};

struct og_dht_query_id {
	uint32_t slot;
	uint32_t gen;
};

/* Returns 0, -ENOSPC when all query slots are busy, -EINVAL for a value that is too long. */
int og_dht_query_start(struct og_dht_rpc *rpc, const struct og_dht_query_opts *opts,
	struct og_dht_query_id *id, uint64_t now_ns) OG_MUST_CHECK;
/* No callback after it. An id that has ended is ignored. */
void og_dht_query_cancel(struct og_dht_rpc *rpc, struct og_dht_query_id id);
