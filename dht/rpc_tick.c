/*
 * rpc_tick.c: what a node does by itself every 5 s. dht.md 5.7.
 */
#include "dht/rpc_priv.h"

enum { CHECK_EVERY = 8, REFILL_EVERY = 64, EMPTY_EVERY = 2, BUSY_REQUESTS = 2 };

static void refresh_done(void *ctx, uint64_t tag, int status, const struct og_dht_closest *closest,
	uint32_t n, uint64_t now_ns)
{
	struct og_dht_rpc *rpc = ctx;

	rpc->refreshing = false;
}

static const uint8_t *random_id(struct og_dht_rpc *rpc)
{
	uint32_t size = og_dht_table_size(rpc->table);
	uint32_t skip = size > 0 ? og_rand_below(rpc->rand, size) : 0;
	struct og_dht_node *n = og_dht_table_newest(rpc->table);

	while (n && skip-- > 0)
		n = og_dht_table_older(rpc->table, n);
	return n ? n->id : og_dht_table_center(rpc->table);
}

void og_dht_refresh(struct og_dht_rpc *rpc, uint64_t now_ns)
{
	struct og_dht_query_opts opts = {
		.internal = true,
		.command = OG_DHT_FIND_NODE,
		.background = true,
		.on_done = refresh_done,
		.ctx = rpc,
	};
	struct og_dht_query_id id;

	if (rpc->refreshing)
		return;
	memcpy(opts.target, random_id(rpc), sizeof(opts.target));
	if (og_dht_table_size(rpc->table) == 0) { /* those of an earlier life may be back */
		opts.seeds = rpc->saved;
		opts.nb_seeds = rpc->nb_saved;
	}
	rpc->refreshing = og_dht_query_start(rpc, &opts, &id, now_ns) == 0;
}

static void check_oldest(struct og_dht_rpc *rpc, uint64_t now_ns)
{
	struct og_dht_node *n = og_dht_table_oldest(rpc->table);
	unsigned left = rpc->req.nb_used > BUSY_REQUESTS ? 3 : 5;

	if (!n) {
		og_dht_refresh(rpc, now_ns);
		return;
	}
	if (rpc->tick - n->pinged < OG_DHT_RECENT_TICKS)
		left = 2;
	for (; n && left > 0; n = og_dht_table_newer(rpc->table, n), left--)
		if (n->pinged != rpc->tick && og_dht_requests_room(rpc) > 0)
			og_dht_check_node(rpc, n, now_ns);
}

void og_dht_background(struct og_dht_rpc *rpc, uint64_t now_ns)
{
	uint32_t size = og_dht_table_size(rpc->table);

	rpc->tick++;
	rpc->hints_this_tick = 0;
	if (rpc->self.boot != OG_DHT_BOOT_DONE)
		return;
	og_dht_self_tick(rpc, now_ns);
	if (rpc->tick % CHECK_EVERY == 0)
		check_oldest(rpc, now_ns);
	if (--rpc->refresh_ticks <= 0 || (rpc->tick % REFILL_EVERY == 0 && size < OG_DHT_K) ||
		(rpc->tick % EMPTY_EVERY == 0 && size == 0))
		og_dht_refresh(rpc, now_ns);
}
