/*
 * rpc_server.c: incoming requests: token first, then the internal commands of dht.md 4 or the
 * handler of an external one.
 */
#include "dht/rpc_priv.h"

enum { DELAY_MAX_MS = 10000, DELAYED_PER_HOST = 4 };

/* ---- DELAYED_PING: a heap of waiting answers ---- */

static void swap_delayed(struct og_dht_delayed *a, struct og_dht_delayed *b)
{
	struct og_dht_delayed t = *a;

	*a = *b;
	*b = t;
}

static void delayed_push(struct og_dht_rpc *rpc, const struct og_dht_delayed *d)
{
	struct og_dht_delayed *h = rpc->delayed;
	uint32_t i = rpc->nb_delayed++;

	h[i] = *d;
	while (i > 0 && h[i].at_ns < h[(i - 1) / 2].at_ns) {
		swap_delayed(&h[i], &h[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
}

static struct og_dht_delayed delayed_pop(struct og_dht_rpc *rpc)
{
	struct og_dht_delayed *h = rpc->delayed;
	struct og_dht_delayed first = h[0];
	uint32_t i = 0;

	h[0] = h[--rpc->nb_delayed];
	for (;;) {
		uint32_t least = i;

		for (uint32_t child = 2 * i + 1; child <= 2 * i + 2; child++)
			if (child < rpc->nb_delayed && h[child].at_ns < h[least].at_ns)
				least = child;
		if (least == i)
			return first;
		swap_delayed(&h[i], &h[least]);
		i = least;
	}
}

static bool delayed_allowed(const struct og_dht_rpc *rpc, const struct og_addr *src)
{
	unsigned of_host = 0;

	if (rpc->nb_delayed == rpc->delayed_max)
		return false;
	if (og_dht_rpc_address_exempt(rpc, src))
		return true;
	for (uint32_t i = 0; i < rpc->nb_delayed; i++)
		of_host += og_addr_same_host(&rpc->delayed[i].src, src);
	return of_host < DELAYED_PER_HOST;
}

void og_dht_delayed_tick(struct og_dht_rpc *rpc, uint64_t now_ns)
{
	while (rpc->nb_delayed > 0 && rpc->delayed[0].at_ns <= now_ns) {
		struct og_dht_delayed d = delayed_pop(rpc);

		og_dht_reply_empty(rpc, d.endpoint, &d.src, d.tid);
	}
}

uint64_t og_dht_delayed_deadline(const struct og_dht_rpc *rpc)
{
	return rpc->nb_delayed > 0 ? rpc->delayed[0].at_ns : OG_NEVER;
}

/* ---- internal commands ---- */

static bool serve_ping_nat(
	struct og_dht_rpc *rpc, const struct og_dht_incoming *in, uint64_t now_ns)
{
	struct og_addr dst = in->src;

	if (!in->msg->has_value || in->msg->value_bytes < 2)
		return false;
	dst.port = og_load_le16(in->msg->value);
	if (dst.port == 0)
		return false;
	if (!og_dht_rpc_address_exempt(rpc, &in->src) &&
		!og_dht_budget_take(rpc->nat_pings, og_addr_u32(&in->src), 1, now_ns)) {
		og_dht_drop(rpc, OG_DHT_DROP_NAT_PING_LIMIT);
		return true;
	}
	og_dht_reply_empty(rpc, in->endpoint, &dst, in->msg->tid);
	return true;
}

static bool serve_find_node(
	struct og_dht_rpc *rpc, const struct og_dht_incoming *in, uint64_t now_ns)
{
	if (!in->msg->target)
		return false;
	og_dht_rpc_reply(rpc, in, OG_REPLY_CLOSER, 0, NULL, 0, now_ns);
	return true;
}

static bool serve_down_hint(
	struct og_dht_rpc *rpc, const struct og_dht_incoming *in, uint64_t now_ns)
{
	struct og_addr down;
	struct og_dht_node *node;

	if (!in->msg->has_value || in->msg->value_bytes < OG_DHT_ADDR4_BYTES)
		return false;
	down = og_dht_addr4_load(in->msg->value);
	node = og_dht_table_find(rpc->table, &down);
	if (node && rpc->nb_checks < OG_DHT_CHECKS_MAX &&
		(node->pinged != rpc->tick || node->hinted == 0)) {
		node->hinted = rpc->tick;
		og_dht_check_node(rpc, node, now_ns);
	}
	og_dht_reply_empty(rpc, in->endpoint, &in->src, in->msg->tid);
	return true;
}

static bool serve_delayed_ping(
	struct og_dht_rpc *rpc, const struct og_dht_incoming *in, uint64_t now_ns)
{
	struct og_dht_delayed d = {.src = in->src, .endpoint = in->endpoint, .tid = in->msg->tid};
	uint32_t delay_ms;

	if (!in->msg->has_value || in->msg->value_bytes < 4)
		return false;
	delay_ms = og_load_le32(in->msg->value);
	if (delay_ms > DELAY_MAX_MS)
		return false;
	if (!delayed_allowed(rpc, &in->src)) {
		og_dht_drop(rpc, OG_DHT_DROP_DELAYED_LIMIT);
		return true;
	}
	d.at_ns = now_ns + delay_ms * OG_NS_PER_MS;
	delayed_push(rpc, &d);
	return true;
}

/* False: an argument is missing or wrong, which is met with silence. */
static bool serve_internal(
	struct og_dht_rpc *rpc, const struct og_dht_incoming *in, uint64_t now_ns)
{
	switch (in->msg->command) {
	case OG_DHT_PING:
		og_dht_reply_empty(rpc, in->endpoint, &in->src, in->msg->tid);
		return true;
	case OG_DHT_PING_NAT:
		return serve_ping_nat(rpc, in, now_ns);
	case OG_DHT_FIND_NODE:
		return serve_find_node(rpc, in, now_ns);
	case OG_DHT_DOWN_HINT:
		return serve_down_hint(rpc, in, now_ns);
	case OG_DHT_DELAYED_PING:
		return serve_delayed_ping(rpc, in, now_ns);
	default:
		og_dht_reply_error(rpc, in, OG_REPLY_CLOSER, OG_DHT_UNKNOWN_COMMAND, now_ns);
		return true;
	}
}

static void serve_external(
	struct og_dht_rpc *rpc, const struct og_dht_incoming *in, uint64_t now_ns)
{
	uint64_t command = in->msg->command;

	if (command >= OG_DHT_COMMANDS || !rpc->handlers[command].fn ||
		(rpc->handlers[command].needs_persistent && !rpc->self.persistent))
		og_dht_reply_error(rpc, in, OG_REPLY_CLOSER, OG_DHT_UNKNOWN_COMMAND, now_ns);
	else
		rpc->handlers[command].fn(rpc->handlers[command].ctx, in, now_ns);
}

void og_dht_serve(struct og_dht_rpc *rpc, const struct og_dht_incoming *in, uint64_t now_ns)
{
	struct og_dht_incoming checked = *in;

	og_count(&rpc->count.requests_in);
	if (in->msg->token) {
		checked.token_ok = og_token_valid(&rpc->token, &in->src, in->msg->token);
		if (!checked.token_ok) {
			og_dht_reply_error(rpc, in, OG_REPLY_TOKEN | OG_REPLY_CLOSER,
				OG_DHT_INVALID_TOKEN, now_ns);
			return;
		}
	}
	if (in->msg->id)
		og_dht_learn_request(rpc, &in->src, in->msg->id, now_ns);
	if (!in->msg->internal)
		serve_external(rpc, &checked, now_ns);
	else if (!serve_internal(rpc, &checked, now_ns))
		og_dht_drop(rpc, OG_DHT_DROP_BAD_ARGUMENT);
}
