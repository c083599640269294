/*
 * rpc_nodes.c: what enters the routing table and what leaves it. dht.md 5.2 and 5.6.
 *
 * A node enters only with an answer to a request of ours, so that nobody can fill the table with
 * datagrams from addresses he does not receive at. A newcomer that sends us a request is asked
 * with one PING for that reason.
 */
#include "dht/rpc_priv.h"

#include <errno.h>

enum { FAILS_MAX = 4, SENDS_THAT_TELL = 3, CHECK_SENDS = 4 };

static void table_gauge(struct og_dht_rpc *rpc)
{
	og_dht_gauge(&rpc->count.table_nodes, og_dht_table_size(rpc->table));
}

static void remove_node(struct og_dht_rpc *rpc, struct og_dht_node *node)
{
	og_dht_table_remove(rpc->table, node);
	og_count(&rpc->count.nodes_removed);
	table_gauge(rpc);
}

static struct og_dht_node *add_node(
	struct og_dht_rpc *rpc, const struct og_addr *addr, const uint8_t *id, uint64_t now_ns)
{
	bool capped = !og_dht_rpc_address_exempt(rpc, addr);
	struct og_dht_node *node;

	if (og_dht_table_add(rpc->table, id, addr, capped, rpc->tick, &node) < 0)
		return NULL;
	node->answered_ns = now_ns;
	og_count(&rpc->count.nodes_added);
	table_gauge(rpc);
	return node;
}

/* ---- a newcomer for a full bucket ---- */

static void swap_done(void *ctx, uint64_t tag, const struct og_dht_reply *reply, uint64_t now_ns)
{
	struct og_dht_rpc *rpc = ctx;
	struct og_dht_swap *swap = &rpc->swaps[tag];
	struct og_dht_node *old = og_dht_table_find(rpc->table, &swap->old);

	swap->busy = false;
	if (reply->status == -ENOBUFS || (reply->status == 0 && reply->id))
		return;
	/* Without an answer it has left already, unless nobody at all answers us. */
	if (reply->status == -ETIMEDOUT && old)
		return;
	if (old)
		remove_node(rpc, old);
	og_count(&rpc->count.swaps);
	add_node(rpc, &swap->newcomer, swap->newcomer_id, now_ns);
}

static struct og_dht_node *swap_candidate(const struct og_dht_rpc *rpc, const uint8_t *id)
{
	struct og_dht_node *old = og_dht_table_stalest(rpc->table, id, rpc->tick);

	if (!old || rpc->self.boot != OG_DHT_BOOT_DONE)
		return NULL;
	if (rpc->tick - old->pinged < OG_DHT_RECENT_TICKS &&
		rpc->tick - old->added > OG_DHT_OLD_TICKS)
		return NULL;
	return old;
}

static struct og_dht_swap *free_swap(struct og_dht_rpc *rpc, const struct og_addr *newcomer)
{
	struct og_dht_swap *free = NULL;

	for (unsigned i = 0; i < OG_DHT_SWAPS_MAX; i++) {
		if (!rpc->swaps[i].busy)
			free = &rpc->swaps[i];
		else if (og_addr_eq(&rpc->swaps[i].newcomer, newcomer))
			return NULL;
	}
	return free;
}

static void offer_swap(
	struct og_dht_rpc *rpc, const struct og_addr *newcomer, const uint8_t *id, uint64_t now_ns)
{
	struct og_dht_swap *swap = free_swap(rpc, newcomer);
	struct og_dht_node *old = swap ? swap_candidate(rpc, id) : NULL;

	if (!old)
		return;
	old->pinged = rpc->tick;
	swap->busy = true;
	swap->old = old->addr;
	swap->newcomer = *newcomer;
	memcpy(swap->newcomer_id, id, OG_DHT_ID_BYTES);
	og_dht_ping(rpc, &swap->old, CHECK_SENDS, swap_done, (uint64_t)(swap - rpc->swaps), now_ns);
}

/* ---- requests of others ---- */

static void newcomer_done(
	void *ctx, uint64_t tag, const struct og_dht_reply *reply, uint64_t now_ns)
{
	struct og_dht_rpc *rpc = ctx;

	/* An answer has been learned from already, as every answer is. */
	rpc->newcomers[tag].port = 0;
}

static void ask_newcomer(struct og_dht_rpc *rpc, const struct og_addr *src, uint64_t now_ns)
{
	unsigned free = OG_DHT_NEWCOMERS_MAX;

	for (unsigned i = 0; i < OG_DHT_NEWCOMERS_MAX; i++) {
		if (rpc->newcomers[i].port == 0)
			free = i;
		else if (og_addr_eq(&rpc->newcomers[i], src))
			return;
	}
	if (free == OG_DHT_NEWCOMERS_MAX || og_dht_requests_room(rpc) == 0) {
		og_dht_drop(rpc, OG_DHT_DROP_NEWCOMER_LIMIT);
		return;
	}
	rpc->newcomers[free] = *src;
	/* Once: the address may be forged, and every byte to it counts against the limit of three. */
	og_dht_ping(rpc, src, 1, newcomer_done, free, now_ns);
}

void og_dht_learn_request(
	struct og_dht_rpc *rpc, const struct og_addr *src, const uint8_t *id, uint64_t now_ns)
{
	struct og_dht_node *node = og_dht_table_find(rpc->table, src);
	bool capped = !og_dht_rpc_address_exempt(rpc, src);
	int room;

	if (node) {
		/* A request proves little: it keeps a node young only for a while. */
		if (memcmp(node->id, id, OG_DHT_ID_BYTES) == 0 &&
			now_ns - node->answered_ns < OG_DHT_PROVEN_NS)
			og_dht_table_touch(rpc->table, node, rpc->tick);
		return;
	}
	/* Cheap first: most ids that come here have no place anyway. */
	room = og_dht_table_room(rpc->table, id, src, capped);
	if (room == -EDQUOT)
		og_dht_drop(rpc, OG_DHT_DROP_SUBNET_LIMIT);
	if (room == -ENOSPC && !swap_candidate(rpc, id))
		return;
	if ((room != 0 && room != -ENOSPC) || og_dht_is_self(rpc, src))
		return;
	if (og_dht_check_id(rpc, src, id))
		ask_newcomer(rpc, src, now_ns);
}

/* ---- answers and missing answers ---- */

static void sample(struct og_dht_rpc *rpc, struct og_dht_node *node, const struct og_addr *to)
{
	if (node->sampled != 0 && rpc->tick - node->sampled < OG_DHT_OLD_TICKS)
		return;
	node->sampled = rpc->tick;
	og_dht_self_sample(rpc, to);
}

void og_dht_learn_reply(struct og_dht_rpc *rpc, const struct og_addr *src, const uint8_t *id,
	const struct og_addr *to, bool expected, uint64_t now_ns)
{
	struct og_dht_node *node;
	int room;

	if (!id) {
		if (expected)
			og_dht_self_sample_idless(rpc, src, to);
		return;
	}
	node = og_dht_table_find(rpc->table, src);
	if (node) {
		node->answered_ns = now_ns;
		node->fails = 0;
		og_dht_table_touch(rpc->table, node, rpc->tick);
	} else {
		room = og_dht_table_room(rpc->table, id, src, !og_dht_rpc_address_exempt(rpc, src));
		if (room == -EDQUOT)
			og_dht_drop(rpc, OG_DHT_DROP_SUBNET_LIMIT);
		if (room == -ENOSPC)
			offer_swap(rpc, src, id, now_ns);
		if (room == 0)
			node = add_node(rpc, src, id, now_ns);
	}
	if (node && expected)
		sample(rpc, node, to);
}

void og_dht_learn_timeout(
	struct og_dht_rpc *rpc, const struct og_addr *to, uint8_t sends, uint64_t first_ns)
{
	struct og_dht_node *node = og_dht_table_find(rpc->table, to);

	if (!node || sends < SENDS_THAT_TELL || node->answered_ns >= first_ns)
		return;
	node->fails++;
	/* When nobody has answered since, the fault may be ours: keep the table for a while. */
	if (rpc->last_reply_ns < first_ns && node->fails < FAILS_MAX)
		return;
	remove_node(rpc, node);
}

static void check_done(void *ctx, uint64_t tag, const struct og_dht_reply *reply, uint64_t now_ns)
{
	struct og_dht_rpc *rpc = ctx;
	struct og_addr addr = og_addr_from_key(tag);
	struct og_dht_node *node = og_dht_table_find(rpc->table, &addr);

	rpc->nb_checks--;
	if (node && reply->status == 0 && !reply->id)
		remove_node(rpc, node); /* it lives, but is no longer persistent */
}

void og_dht_check_node(struct og_dht_rpc *rpc, struct og_dht_node *node, uint64_t now_ns)
{
	node->pinged = rpc->tick;
	rpc->nb_checks++;
	og_dht_ping(rpc, &node->addr, CHECK_SENDS, check_done, og_addr_key(&node->addr), now_ns);
}
