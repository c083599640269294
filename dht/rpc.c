#include "dht/rpc.h"

#include "dht/rpc_priv.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

enum {
	DEFAULT_REQUESTS = 1024,
	REQUESTS_MAX = 16384,
	DEFAULT_QUERIES = 64,
	DEFAULT_WINDOW_SLOT = 1024,
	DEFAULT_WINDOW_TOTAL = 2048,
	DEFAULT_VALUE_SUBNET = 64 << 10,
	DEFAULT_VALUE_TOTAL = 4 << 20,
	DEFAULT_DELAYED = 1024,
	NAT_PINGS_PER_S = 16,
	NAT_PINGS_BURST = 64,
	FIRST_TICK_MIN = 51,
	FIRST_TICKS = 50,
};

/* ---- addresses ---- */

bool og_dht_addr_usable(const struct og_addr *a)
{
	return a->port != 0 && a->ip[0] != 0 && a->ip[0] < 224;
}

bool og_dht_is_self(const struct og_dht_rpc *rpc, const struct og_addr *a)
{
	const struct og_dht_self *self = &rpc->self;

	return og_addr_eq(a, &rpc->local[0]) || og_addr_eq(a, &rpc->local[1]) ||
	       (self->public_addr.port != 0 && og_addr_eq(a, &self->public_addr)) ||
	       (self->persistent && og_addr_eq(a, &self->addr));
}

const uint8_t *og_dht_check_id(
	struct og_dht_rpc *rpc, const struct og_addr *a, const uint8_t *claimed)
{
	const struct og_dht_node *node;
	uint8_t id[OG_DHT_ID_BYTES];
	bool right;

	if (!claimed)
		return NULL;
	node = og_dht_table_find(rpc->table, a);
	if (node) {
		right = memcmp(claimed, node->id, sizeof(id)) == 0;
	} else {
		og_dht_node_id(id, a);
		right = memcmp(claimed, id, sizeof(id)) == 0;
	}
	if (!right)
		og_dht_drop(rpc, OG_DHT_DROP_BAD_ID);
	return right ? claimed : NULL;
}

static bool in_net(const struct og_addr *a, const struct og_dht_net *net)
{
	return net->bits == 0 || (og_addr_u32(a) ^ og_addr_u32(&net->net)) >> (32 - net->bits) == 0;
}

bool og_dht_rpc_address_exempt(const struct og_dht_rpc *rpc, const struct og_addr *a)
{
	if (!rpc->limit_private && (og_addr_is_private(a) || og_addr_is_reserved(a)))
		return true;
	for (uint32_t i = 0; i < rpc->nb_exempt; i++)
		if (in_net(a, &rpc->exempt[i]))
			return true;
	return false;
}

bool og_dht_rpc_address_proven(
	const struct og_dht_rpc *rpc, const struct og_addr *a, uint64_t now_ns)
{
	return og_dht_proven_has(rpc->proven, a, now_ns);
}

/* ---- create and destroy ---- */

static void copy_opts(struct og_dht_rpc *rpc, const struct og_dht_rpc_opts *o)
{
	rpc->tx = o->tx;
	rpc->rand = o->rand;
	rpc->local[0] = o->local[0];
	rpc->local[1] = o->local[1];
	rpc->self.public_addr = o->public_addr;
	rpc->self.ephemeral_opt = o->ephemeral;
	rpc->self.firewalled_opt = o->firewalled;
	rpc->self.firewalled = o->firewalled != OG_NO;
	rpc->self.stable_ticks = OG_DHT_STABLE_TICKS;
	rpc->limit_private = o->limit_private;
	rpc->nb_exempt = OG_MIN(o->nb_exempt, OG_DHT_EXEMPT_MAX);
	for (uint32_t i = 0; i < rpc->nb_exempt; i++) {
		rpc->exempt[i] = o->exempt[i];
		rpc->exempt[i].bits = OG_MIN(o->exempt[i].bits, 32);
	}
	for (uint32_t i = 0; i < o->nb_bootstrap && rpc->nb_bootstrap < OG_DHT_BOOTSTRAP_MAX; i++)
		if (og_dht_addr_usable(&o->bootstrap[i]) && !og_dht_is_self(rpc, &o->bootstrap[i]))
			rpc->bootstrap[rpc->nb_bootstrap++] = o->bootstrap[i];
	for (uint32_t i = 0; i < o->nb_saved && rpc->nb_saved < OG_DHT_SAVED_MAX; i++)
		if (og_dht_addr_usable(&o->saved_nodes[i]) &&
			!og_dht_is_self(rpc, &o->saved_nodes[i]))
			rpc->saved[rpc->nb_saved++] = o->saved_nodes[i];
	rpc->delayed_max = o->nb_delayed_pings ? o->nb_delayed_pings : DEFAULT_DELAYED;
}

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
	return value ? value : fallback;
}

static int create_limits(struct og_dht_rpc *rpc, const struct og_dht_rpc_opts *o, uint64_t now_ns)
{
	uint32_t subnet = or_default(o->value_subnet_bytes_per_s, DEFAULT_VALUE_SUBNET);
	uint32_t total = or_default(o->value_total_bytes_per_s, DEFAULT_VALUE_TOTAL);
	int ret;

	og_dht_rate_init(&rpc->value_total, total, total, now_ns);
	ret = og_dht_proven_create(
		&rpc->proven, OG_DHT_PROVEN_ENTRIES, og_rand_u64(rpc->rand), OG_DHT_PROVEN_NS);
	if (ret < 0)
		return ret;
	ret = og_dht_challenges_create(
		&rpc->challenges, OG_DHT_CHALLENGE_ENTRIES, og_rand_u64(rpc->rand));
	if (ret < 0)
		return ret;
	ret = og_dht_budget_create(
		&rpc->value_subnets, OG_DHT_BUDGET_ENTRIES, og_rand_u64(rpc->rand), subnet, subnet);
	if (ret < 0)
		return ret;
	return og_dht_budget_create(&rpc->nat_pings, OG_DHT_BUDGET_ENTRIES, og_rand_u64(rpc->rand),
		NAT_PINGS_PER_S, NAT_PINGS_BURST);
}

static int create_parts(struct og_dht_rpc *rpc, const struct og_dht_rpc_opts *o, uint64_t now_ns)
{
	uint8_t center[OG_DHT_ID_BYTES];
	int ret;

	og_rand_fill(rpc->rand, center, sizeof(center));
	ret = og_dht_table_create(&rpc->table, OG_DHT_TABLE_NODES, center, og_rand_u64(rpc->rand));
	if (ret < 0)
		return ret;
	ret = og_dht_requests_create(&rpc->req, or_default(o->nb_requests, DEFAULT_REQUESTS),
		or_default(o->window_slot, DEFAULT_WINDOW_SLOT),
		or_default(o->window_total, DEFAULT_WINDOW_TOTAL));
	if (ret < 0)
		return ret;
	ret = og_dht_queries_create(rpc, or_default(o->nb_queries, DEFAULT_QUERIES));
	if (ret < 0)
		return ret;
	rpc->delayed = calloc(rpc->delayed_max, sizeof(rpc->delayed[0]));
	if (!rpc->delayed)
		return -ENOMEM;
	return create_limits(rpc, o, now_ns);
}

int og_dht_rpc_create(struct og_dht_rpc **out, const struct og_dht_rpc_opts *opts, uint64_t now_ns)
{
	struct og_dht_rpc *rpc;
	int ret;

	if (!opts->tx || !opts->rand || opts->local[0].port == 0 ||
		opts->nb_requests > REQUESTS_MAX)
		return -EINVAL;
	rpc = calloc(1, sizeof(*rpc));
	if (!rpc)
		return -ENOMEM;
	copy_opts(rpc, opts);
	ret = create_parts(rpc, opts, now_ns);
	if (ret < 0) {
		og_dht_rpc_destroy(rpc);
		return ret;
	}
	og_token_init(&rpc->token, rpc->rand);
	og_dht_nat_init(&rpc->self.nat);
	/* Nodes that are started together must not do everything at the same time. */
	rpc->tick = FIRST_TICK_MIN + og_rand_below(rpc->rand, FIRST_TICKS);
	rpc->refresh_ticks =
		OG_DHT_REFRESH_TICKS - (int32_t)og_rand_below(rpc->rand, OG_DHT_REFRESH_TICKS / 2);
	rpc->last_call_ns = now_ns;
	rpc->next_tick_ns =
		now_ns + OG_DHT_TICK_NS / 2 +
		og_rand_below(rpc->rand, OG_DHT_TICK_NS / 2 / OG_NS_PER_US) * OG_NS_PER_US;
	*out = rpc;
	return 0;
}

void og_dht_rpc_destroy(struct og_dht_rpc *rpc)
{
	if (!rpc)
		return;
	og_dht_table_destroy(rpc->table);
	og_dht_requests_destroy(&rpc->req);
	og_dht_queries_destroy(rpc);
	og_dht_proven_destroy(rpc->proven);
	og_dht_challenges_destroy(rpc->challenges);
	og_dht_budget_destroy(rpc->value_subnets);
	og_dht_budget_destroy(rpc->nat_pings);
	free(rpc->delayed);
	sodium_memzero(&rpc->token, sizeof(rpc->token));
	sodium_memzero(rpc->issued, sizeof(rpc->issued));
	free(rpc);
}

/* ---- input and tick ---- */

int og_dht_rpc_input(struct og_dht_rpc *rpc, uint16_t endpoint, const struct og_addr *src,
	const uint8_t *data, uint16_t len_bytes, uint64_t now_ns)
{
	struct og_dht_msg msg;
	struct og_dht_incoming in = {
		.endpoint = endpoint, .len_bytes = len_bytes, .src = *src, .msg = &msg};

	if (!og_dht_addr_usable(src)) {
		og_dht_drop(rpc, OG_DHT_DROP_BAD_SOURCE);
		return -EBADMSG;
	}
	if (og_dht_msg_decode(&msg, data, len_bytes) < 0) {
		og_dht_drop(rpc, OG_DHT_DROP_MALFORMED);
		return -EBADMSG;
	}
	if (msg.reply)
		og_dht_requests_input(rpc, endpoint, src, &msg, now_ns);
	else if (og_dht_requests_is_own(rpc, msg.tid, data, len_bytes))
		og_dht_drop(rpc, OG_DHT_DROP_OWN);
	else
		og_dht_serve(rpc, &in, now_ns);
	return 0;
}

/* dht.md 5.5: the clock shows that more than 15 s passed between two calls. */
static void wake(struct og_dht_rpc *rpc, uint64_t now_ns)
{
	og_count(&rpc->count.wakeups);
	/* All nodes look old, and the checks come in two ticks. */
	rpc->tick += 2 * OG_DHT_OLD_TICKS;
	rpc->tick += 8 - rpc->tick % 8 - 2;
	rpc->refresh_ticks = 1;
	rpc->next_tick_ns = now_ns;
	og_dht_requests_woke(rpc, now_ns);
	og_dht_self_woke(rpc);
}

static uint64_t deadline(const struct og_dht_rpc *rpc, uint64_t now_ns)
{
	uint64_t at = rpc->next_tick_ns;

	if (rpc->nb_queries_due > 0)
		/* Ended at once, or waits for room that only the next answer or timer gives. */
		at = og_dht_requests_room(rpc) > 0 ? now_ns : at;
	at = OG_MIN(at, og_dht_requests_deadline(rpc, now_ns));
	at = OG_MIN(at, og_dht_delayed_deadline(rpc));
	return OG_MIN(at, og_dht_self_deadline(rpc));
}

uint64_t og_dht_rpc_tick(struct og_dht_rpc *rpc, uint64_t now_ns)
{
	if (rpc->self.boot == OG_DHT_BOOT_NEW) {
		rpc->last_call_ns = now_ns;
		og_dht_self_start(rpc, now_ns);
	}
	if (now_ns > rpc->last_call_ns + OG_DHT_SLEEP_NS)
		wake(rpc, now_ns);
	rpc->last_call_ns = now_ns;

	og_token_tick(&rpc->token, rpc->rand, now_ns);
	og_dht_requests_tick(rpc, now_ns);
	og_dht_queries_tick(rpc, now_ns);
	og_dht_delayed_tick(rpc, now_ns);
	og_dht_self_timer(rpc, now_ns);
	if (now_ns >= rpc->next_tick_ns) {
		rpc->next_tick_ns = OG_MAX(rpc->next_tick_ns + OG_DHT_TICK_NS, now_ns);
		og_dht_background(rpc, now_ns);
	}
	return deadline(rpc, now_ns);
}

/* ---- what is known ---- */

bool og_dht_rpc_bootstrapped(const struct og_dht_rpc *rpc)
{
	return rpc->self.boot == OG_DHT_BOOT_DONE;
}

bool og_dht_rpc_persistent(const struct og_dht_rpc *rpc)
{
	return rpc->self.persistent;
}

bool og_dht_rpc_firewalled(const struct og_dht_rpc *rpc)
{
	return rpc->self.firewalled;
}

const uint8_t *og_dht_rpc_id(const struct og_dht_rpc *rpc)
{
	return rpc->self.persistent ? og_dht_table_center(rpc->table) : NULL;
}

bool og_dht_rpc_public_addr(const struct og_dht_rpc *rpc, struct og_addr *out)
{
	const struct og_dht_self *self = &rpc->self;

	if (self->public_addr.port != 0)
		*out = self->public_addr;
	else if (self->persistent)
		*out = self->addr;
	else if (self->nat.known)
		*out = self->nat.addr;
	else
		return false;
	return true;
}

uint16_t og_dht_rpc_expected_endpoint(const struct og_dht_rpc *rpc)
{
	return rpc->self.firewalled && rpc->local[1].port != 0 ? 1 : 0;
}

uint32_t og_dht_rpc_table_size(const struct og_dht_rpc *rpc)
{
	return og_dht_table_size(rpc->table);
}

uint32_t og_dht_rpc_nodes(const struct og_dht_rpc *rpc, struct og_addr *out, uint32_t max)
{
	uint32_t n = 0;

	for (struct og_dht_node *node = og_dht_table_newest(rpc->table); node && n < max;
		node = og_dht_table_older(rpc->table, node))
		out[n++] = node->addr;
	return n;
}

uint32_t og_dht_rpc_closest(
	const struct og_dht_rpc *rpc, const uint8_t target[32], struct og_addr *out, uint32_t max)
{
	uint8_t addr4[OG_DHT_K * OG_DHT_ADDR4_BYTES];
	uint32_t n = og_dht_table_closest(rpc->table, target, max, addr4);

	for (uint32_t i = 0; i < n; i++)
		out[i] = og_dht_addr4_load(addr4 + i * OG_DHT_ADDR4_BYTES);
	return n;
}

const struct og_token *og_dht_rpc_tokens(const struct og_dht_rpc *rpc)
{
	return &rpc->token;
}

struct og_rand *og_dht_rpc_rand(struct og_dht_rpc *rpc)
{
	return rpc->rand;
}

struct og_tx *og_dht_rpc_swap_tx(struct og_dht_rpc *rpc, struct og_tx *tx)
{
	struct og_tx *before = rpc->tx;

	rpc->tx = tx;
	return before;
}

uint32_t og_dht_rpc_wakeups(const struct og_dht_rpc *rpc)
{
	return (uint32_t)rpc->count.wakeups;
}

void og_dht_rpc_handle(struct og_dht_rpc *rpc, uint8_t command, bool needs_persistent,
	og_dht_handler_fn fn, void *ctx)
{
	OG_ASSERT(command < OG_DHT_COMMANDS);
	rpc->handlers[command].fn = fn;
	rpc->handlers[command].ctx = ctx;
	rpc->handlers[command].needs_persistent = needs_persistent;
}
