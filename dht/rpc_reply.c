/*
 * rpc_reply.c: what is sent to whoever asked, and the rule that keeps this node from being an amplifier.
 *
 * An address is proven when it answered one of our requests. To any other, a reply stays within
 * three times the request, both counted with their IP and UDP headers: closer nodes are cut; a
 * value that does not fit draws on a byte budget, and over budget the reply goes without it.
 */
#include "dht/rpc_priv.h"

#include <errno.h>

enum {
	AMPLIFICATION_MAX = 3,
	IP_UDP_BYTES = 28,
	HEADER_BYTES = 10, /* type, flags, tid, to */
	PING_BYTES = 11,   /* the smallest request */
	CLOSER_ROOM = OG_DHT_K * OG_DHT_ADDR4_BYTES,
};

static size_t fixed_bytes(const struct og_dht_msg *m)
{
	return HEADER_BYTES + (m->id ? OG_DHT_ID_BYTES : 0) + (m->token ? OG_DHT_TOKEN_BYTES : 0) +
	       (m->error ? og_uint_bytes(m->error) : 0);
}

static size_t value_bytes(const struct og_dht_msg *m)
{
	return m->has_value ? og_uint_bytes(m->value_bytes) + m->value_bytes : 0;
}

static size_t closer_bytes(const struct og_dht_msg *m)
{
	return m->nb_closer ? 1 + m->nb_closer * OG_DHT_ADDR4_BYTES : 0;
}

/* Cuts closer nodes until the datagram has at most `limit` bytes. */
static bool cut_closer(struct og_dht_msg *m, size_t limit)
{
	size_t rest = fixed_bytes(m) + value_bytes(m);
	size_t room = limit > rest + 1 ? (limit - rest - 1) / OG_DHT_ADDR4_BYTES : 0;

	if (m->nb_closer <= room)
		return false;
	m->nb_closer = (uint32_t)room;
	return true;
}

static bool budget_allows(
	struct og_dht_rpc *rpc, const struct og_addr *dst, uint64_t amount, uint64_t now_ns)
{
	if (!og_dht_rate_take(&rpc->value_total, amount, now_ns))
		return false;
	if (og_dht_budget_take(rpc->value_subnets, og_addr_u32(dst) >> 8, amount, now_ns))
		return true;
	og_dht_rate_give_back(&rpc->value_total, amount);
	return false;
}

static void limit_to_unproven(struct og_dht_rpc *rpc, struct og_dht_msg *m,
	const struct og_addr *dst, uint16_t request_bytes, uint64_t now_ns)
{
	size_t request = OG_MAX(request_bytes, PING_BYTES) + IP_UDP_BYTES;
	size_t limit = AMPLIFICATION_MAX * request - IP_UDP_BYTES;

	if (fixed_bytes(m) + value_bytes(m) + closer_bytes(m) <= limit)
		return;
	if (og_dht_rpc_address_exempt(rpc, dst) || og_dht_rpc_address_proven(rpc, dst, now_ns))
		return;
	if (m->has_value && fixed_bytes(m) + value_bytes(m) > limit) {
		uint64_t all = fixed_bytes(m) + value_bytes(m) + closer_bytes(m) + IP_UDP_BYTES;

		if (budget_allows(rpc, dst, all, now_ns))
			return;
		m->has_value = false;
		og_dht_drop(rpc, OG_DHT_DROP_VALUE_BUDGET);
	}
	if (cut_closer(m, limit))
		og_dht_drop(rpc, OG_DHT_DROP_CLOSER_CUT);
}

static void send_msg(struct og_dht_rpc *rpc, uint16_t endpoint, const struct og_addr *dst,
	const struct og_dht_msg *m)
{
	uint16_t cap;
	uint8_t *buf = rpc->tx->reserve(rpc->tx, &cap);
	struct og_writer w;

	if (!buf) {
		og_dht_drop(rpc, OG_DHT_DROP_TX_FULL);
		return;
	}
	w = og_writer_of(buf, cap);
	if (og_dht_msg_encode(m, &w) < 0) {
		og_dht_drop(rpc, OG_DHT_DROP_TX_FULL);
		return;
	}
	rpc->tx->commit(rpc->tx, endpoint, dst, 0, (uint16_t)og_writer_len(&w));
}

static void send_reply(
	struct og_dht_rpc *rpc, uint16_t endpoint, const struct og_addr *dst, struct og_dht_msg *m)
{
	m->reply = true;
	m->to = *dst;
	og_count(&rpc->count.replies_out);
	if (m->error)
		og_count(&rpc->count.errors_out);
	send_msg(rpc, endpoint, dst, m);
}

static const uint8_t *id_for(const struct og_dht_rpc *rpc, uint16_t endpoint)
{
	/* dht.md 2.2: only from the server socket of a persistent node. */
	return rpc->self.persistent && endpoint == 0 ? og_dht_table_center(rpc->table) : NULL;
}

/* Whoever asks for a token asks for many: the hash is made once per host and period. */
static const uint8_t *token_for(struct og_dht_rpc *rpc, const struct og_addr *dst)
{
	uint32_t host = og_addr_u32(dst);
	struct og_dht_issued *t =
		&rpc->issued[host * 0x9e3779b1u >> 16 & (OG_DHT_ISSUED_TOKENS - 1)];

	if (t->host != host || t->period != rpc->token.rotate_at_ns) {
		t->host = host;
		t->period = rpc->token.rotate_at_ns;
		og_token_issue(&rpc->token, dst, t->token);
	}
	return t->token;
}

void og_dht_rpc_reply(struct og_dht_rpc *rpc, const struct og_dht_incoming *in, unsigned flags,
	uint32_t error, const uint8_t *value, uint32_t nb_value_bytes, uint64_t now_ns)
{
	uint8_t closer[CLOSER_ROOM];
	struct og_dht_msg m = {
		.tid = in->msg->tid,
		.error = error,
		.id = id_for(rpc, in->endpoint),
		.has_value = value != NULL,
		.value = value,
		.value_bytes = nb_value_bytes,
	};

	if (flags & OG_REPLY_TOKEN)
		m.token = token_for(rpc, &in->src);
	if ((flags & OG_REPLY_CLOSER) && in->msg->target) {
		m.nb_closer = og_dht_table_closest(rpc->table, in->msg->target, OG_DHT_K, closer);
		m.closer = closer;
		cut_closer(&m, OG_DHT_DATAGRAM_BYTES);
	}
	limit_to_unproven(rpc, &m, &in->src, in->len_bytes, now_ns);
	send_reply(rpc, in->endpoint, &in->src, &m);
}

void og_dht_reply_error(struct og_dht_rpc *rpc, const struct og_dht_incoming *in, unsigned flags,
	uint32_t error, uint64_t now_ns)
{
	og_dht_rpc_reply(rpc, in, flags, error, NULL, 0, now_ns);
}

void og_dht_reply_empty(
	struct og_dht_rpc *rpc, uint16_t endpoint, const struct og_addr *dst, uint16_t tid)
{
	struct og_dht_msg m = {.tid = tid, .id = id_for(rpc, endpoint)};

	send_reply(rpc, endpoint, dst, &m);
}

void og_dht_rpc_reply_to(struct og_dht_rpc *rpc, uint16_t endpoint, const struct og_addr *dst,
	uint16_t tid, const uint8_t *value, uint32_t nb_value_bytes)
{
	struct og_dht_msg m = {
		.tid = tid,
		.id = id_for(rpc, endpoint),
		.has_value = value != NULL,
		.value = value,
		.value_bytes = nb_value_bytes,
	};

	send_reply(rpc, endpoint, dst, &m);
}

void og_dht_rpc_relay(struct og_dht_rpc *rpc, uint16_t endpoint, const struct og_addr *dst,
	uint16_t tid, uint8_t command, const uint8_t *target, const uint8_t *value,
	uint32_t nb_value_bytes)
{
	struct og_dht_msg m = {
		.tid = tid,
		.to = *dst,
		.id = id_for(rpc, endpoint),
		.command = command,
		.target = target,
		.has_value = value != NULL,
		.value = value,
		.value_bytes = nb_value_bytes,
	};

	og_count(&rpc->count.requests_out);
	send_msg(rpc, endpoint, dst, &m);
}

void og_dht_rpc_challenge(
	struct og_dht_rpc *rpc, uint16_t endpoint, const struct og_addr *to, uint64_t now_ns)
{
	struct og_dht_msg m = {
		.tid = (uint16_t)og_rand_u32(rpc->rand),
		.to = *to,
		.id = id_for(rpc, endpoint),
		.internal = true,
		.command = OG_DHT_PING,
	};
	int ret;

	if (og_dht_is_self(rpc, to))
		return;
	ret = og_dht_challenge_add(
		rpc->challenges, to, endpoint, m.tid, og_dht_rpc_address_exempt(rpc, to), now_ns);
	if (ret == -EDQUOT)
		og_dht_drop(rpc, OG_DHT_DROP_CHALLENGE_NET);
	if (ret < 0)
		return;
	og_count(&rpc->count.challenges_out);
	send_msg(rpc, endpoint, to, &m);
}
