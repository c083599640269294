#include "dht/relay.h"

#include <errno.h>
#include <stdlib.h>

enum {
	PEER_HANDSHAKE = 0,
	PEER_HOLEPUNCH = 1,
	FORWARD_SETS = 1024,
	FORWARD_WAYS = 4,
	BUCKETS = 4096,
};

static const uint64_t forward_lifetime_ns = 10 * OG_NS_PER_S;

/* A client's request that was passed on and may be answered as often as it was. */
struct forward {
	uint64_t client_tid; /* address and tid of the client */
	uint64_t expires_ns;
	struct og_addr to;
	uint16_t endpoint; /* the client used, and its answer leaves from */
	bool to_relay; /* `to` is another relay: the answer comes from the server, unknown here */
	uint8_t answers_left;
};

struct og_dht_relay {
	struct og_dht_env *env;
	struct og_dht_budget *budget;
	uint64_t hash_key;
	struct forward *forwards;
};

/* ---- Who was forwarded ---- */

static uint64_t client_tid(const struct og_addr *client, uint16_t tid)
{
	return og_addr_key(client) << 16 | tid;
}

static struct forward *forward_set(struct og_dht_relay *relay, uint64_t key)
{
	uint64_t h = (key + 1) * relay->hash_key;

	return &relay->forwards[(h >> 32) % FORWARD_SETS * FORWARD_WAYS];
}

static struct forward *forward_find(struct og_dht_relay *relay, uint64_t key, uint64_t now_ns)
{
	struct forward *set = forward_set(relay, key);

	for (int i = 0; i < FORWARD_WAYS; i++) {
		if (set[i].client_tid == key && set[i].expires_ns > now_ns)
			return &set[i];
	}
	return NULL;
}

static void remember(struct og_dht_relay *relay, const struct og_dht_incoming *in,
	const struct og_addr *to, bool to_relay, uint64_t now_ns)
{
	uint64_t key = client_tid(&in->src, in->msg->tid);
	struct forward *f = forward_find(relay, key, now_ns);

	if (!f) {
		f = forward_set(relay, key);
		for (int i = 1; i < FORWARD_WAYS; i++) {
			if (forward_set(relay, key)[i].expires_ns < f->expires_ns)
				f = &forward_set(relay, key)[i];
		}
		*f = (struct forward){.client_tid = key};
	}
	f->expires_ns = now_ns + forward_lifetime_ns;
	f->to = *to;
	f->endpoint = in->endpoint;
	f->to_relay = to_relay;
	if (f->answers_left < UINT8_MAX)
		f->answers_left++;
}

/*
 * Takes one answer for that client. A server answers from any port (a socket made for punching),
 * so only its host must be the one forwarded to.
 */
static bool take_answer(struct og_dht_relay *relay, const struct og_addr *client,
	const struct og_dht_incoming *in, uint16_t *endpoint, uint64_t now_ns)
{
	struct forward *f = forward_find(relay, client_tid(client, in->msg->tid), now_ns);

	if (!f || f->answers_left == 0 || (!f->to_relay && !og_addr_same_host(&f->to, &in->src))) {
		og_count(&relay->env->counts.forwards_unknown);
		return false;
	}
	f->answers_left--;
	*endpoint = f->endpoint;
	return true;
}

/* A client may have only so many of its requests passed on. */
static bool may_forward(
	struct og_dht_relay *relay, const struct og_dht_incoming *in, uint64_t now_ns)
{
	if (!og_dht_within(relay->env, relay->budget, &in->src, og_addr_u32(&in->src), now_ns)) {
		og_count(&relay->env->counts.forwards_limited);
		return false;
	}
	og_count(&relay->env->counts.forwards);
	return true;
}

/* ---- PEER_HANDSHAKE ---- */

static void relay_leg(struct og_dht_relay *relay, const struct og_dht_incoming *in,
	uint16_t endpoint, const struct og_addr *to, const struct og_dht_handshake *h)
{
	uint8_t value[OG_DHT_VALUE_MAX];
	struct og_writer w = og_writer_of(value, sizeof(value));

	og_dht_handshake_encode(&w, h);
	if (og_writer_ok(&w))
		og_dht_rpc_relay(relay->env->rpc, endpoint, to, in->msg->tid, PEER_HANDSHAKE,
			in->msg->target, value, (uint32_t)og_writer_len(&w));
}

static void handshake_from_client(struct og_dht_relay *relay, const struct og_dht_incoming *in,
	const struct og_dht_handshake *h, uint64_t now_ns)
{
	struct og_dht_route route = {.endpoint = in->endpoint};
	bool named = h->has_relay && h->relay.port != 0 &&
		     og_dht_rpc_address_proven(relay->env->rpc, &h->relay, now_ns);

	if (named) {
		route.addr = h->relay;
	} else if (!og_dht_store_route(relay->env->store, in->msg->target, now_ns, &route)) {
		og_dht_rpc_reply(relay->env->rpc, in, OG_REPLY_CLOSER, 0, NULL, 0, now_ns);
		return;
	}
	if (!may_forward(relay, in, now_ns))
		return;
	remember(relay, in, &route.addr, named, now_ns);
	relay_leg(relay, in, route.endpoint, &route.addr,
		&(struct og_dht_handshake){.mode = OG_DHT_FROM_RELAY,
			.noise = h->noise,
			.noise_bytes = h->noise_bytes,
			.has_peer = true,
			.peer = in->src});
}

static void handshake_from_relay(struct og_dht_relay *relay, const struct og_dht_incoming *in,
	const struct og_dht_handshake *h, uint64_t now_ns)
{
	struct og_dht_route route;

	if (!og_dht_store_route(relay->env->store, in->msg->target, now_ns, &route) ||
		!may_forward(relay, in, now_ns))
		return;
	relay_leg(relay, in, route.endpoint, &route.addr,
		&(struct og_dht_handshake){.mode = OG_DHT_FROM_SECOND_RELAY,
			.noise = h->noise,
			.noise_bytes = h->noise_bytes,
			.has_peer = h->has_peer,
			.peer = h->peer,
			.has_relay = true,
			.relay = in->src});
}

static void handshake_from_server(struct og_dht_relay *relay, const struct og_dht_incoming *in,
	const struct og_dht_handshake *h, uint64_t now_ns)
{
	uint8_t value[OG_DHT_VALUE_MAX];
	struct og_writer w = og_writer_of(value, sizeof(value));
	uint16_t endpoint;

	if (!h->has_peer || h->noise_bytes == 0 ||
		!take_answer(relay, &h->peer, in, &endpoint, now_ns))
		return;
	og_dht_handshake_encode(&w, &(struct og_dht_handshake){.mode = OG_DHT_REPLY,
					    .noise = h->noise,
					    .noise_bytes = h->noise_bytes,
					    .has_peer = true,
					    .peer = in->src});
	if (og_writer_ok(&w))
		og_dht_rpc_reply_to(relay->env->rpc, endpoint, &h->peer, in->msg->tid, value,
			(uint32_t)og_writer_len(&w));
}

void og_dht_relay_handshake(struct og_dht_relay *relay, const struct og_dht_incoming *in,
	const struct og_dht_handshake *h, uint64_t now_ns)
{
	switch (h->mode) {
	case OG_DHT_FROM_CLIENT:
		handshake_from_client(relay, in, h, now_ns);
		break;
	case OG_DHT_FROM_RELAY:
		handshake_from_relay(relay, in, h, now_ns);
		break;
	case OG_DHT_FROM_SERVER:
		handshake_from_server(relay, in, h, now_ns);
		break;
	default:
		break;
	}
}

/* ---- PEER_HOLEPUNCH ---- */

/* The server's address as the client names it, if the target was announced from that host. */
static bool punch_destination(struct og_dht_relay *relay, const struct og_dht_incoming *in,
	const struct og_dht_holepunch *h, uint64_t now_ns, struct og_dht_route *out)
{
	if (!og_dht_store_route(relay->env->store, in->msg->target, now_ns, out))
		return false;
	if (!h->has_peer)
		return true;
	if (h->peer.port == 0 || !og_addr_same_host(&h->peer, &out->addr))
		return false;
	out->addr = h->peer;
	return true;
}

static void punch_from_client(struct og_dht_relay *relay, const struct og_dht_incoming *in,
	const struct og_dht_holepunch *h, uint64_t now_ns)
{
	struct og_dht_route route;
	uint8_t value[OG_DHT_VALUE_MAX];
	struct og_writer w = og_writer_of(value, sizeof(value));

	if (!punch_destination(relay, in, h, now_ns, &route) || !may_forward(relay, in, now_ns))
		return;
	og_dht_holepunch_encode(&w, &(struct og_dht_holepunch){.mode = OG_DHT_FROM_RELAY,
					    .id = h->id,
					    .payload = h->payload,
					    .payload_bytes = h->payload_bytes,
					    .has_peer = true,
					    .peer = in->src});
	if (!og_writer_ok(&w))
		return;
	remember(relay, in, &route.addr, false, now_ns);
	og_dht_rpc_relay(relay->env->rpc, route.endpoint, &route.addr, in->msg->tid, PEER_HOLEPUNCH,
		in->msg->target, value, (uint32_t)og_writer_len(&w));
}

static void punch_from_server(struct og_dht_relay *relay, const struct og_dht_incoming *in,
	const struct og_dht_holepunch *h, uint64_t now_ns)
{
	uint8_t value[OG_DHT_VALUE_MAX];
	struct og_writer w = og_writer_of(value, sizeof(value));
	uint16_t endpoint;

	if (!h->has_peer || !take_answer(relay, &h->peer, in, &endpoint, now_ns))
		return;
	og_dht_holepunch_encode(&w, &(struct og_dht_holepunch){.mode = OG_DHT_REPLY,
					    .id = h->id,
					    .payload = h->payload,
					    .payload_bytes = h->payload_bytes,
					    .has_peer = true,
					    .peer = in->src});
	if (og_writer_ok(&w))
		og_dht_rpc_reply_to(relay->env->rpc, endpoint, &h->peer, in->msg->tid, value,
			(uint32_t)og_writer_len(&w));
}

void og_dht_relay_holepunch(struct og_dht_relay *relay, const struct og_dht_incoming *in,
	const struct og_dht_holepunch *h, uint64_t now_ns)
{
	if (h->mode == OG_DHT_FROM_CLIENT)
		punch_from_client(relay, in, h, now_ns);
	else if (h->mode == OG_DHT_FROM_SERVER)
		punch_from_server(relay, in, h, now_ns);
}

/* ---- Life ---- */

int og_dht_relay_create(
	struct og_dht_relay **out, struct og_dht_env *env, const struct og_dht_opts *opts)
{
	struct og_dht_relay *relay = calloc(1, sizeof(*relay));
	uint32_t rate = og_dht_or(opts->forwards_per_s, 20);

	if (!relay)
		return -ENOMEM;
	relay->env = env;
	relay->hash_key = og_rand_u64(env->rand) | 1;
	relay->forwards = calloc((size_t)FORWARD_SETS * FORWARD_WAYS, sizeof(*relay->forwards));
	if (!relay->forwards || og_dht_budget_create(&relay->budget, BUCKETS,
					og_rand_u64(env->rand), rate, 2 * (uint64_t)rate) < 0) {
		og_dht_relay_destroy(relay);
		return -ENOMEM;
	}
	*out = relay;
	return 0;
}

void og_dht_relay_destroy(struct og_dht_relay *relay)
{
	if (!relay)
		return;
	og_dht_budget_destroy(relay->budget);
	free(relay->forwards);
	free(relay);
}
