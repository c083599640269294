/*
 * connect_path.c: how to reach a peer whose handshake answer has been read (dht.md 9.6).
 */
#include "dht/connect_priv.h"
#include "dht/self.h"

#include <errno.h>

static const uint64_t passive_wait_ns = 10 * OG_NS_PER_S;

static void on_lan_pong(void *ctx, uint64_t tag, const struct og_dht_reply *reply, uint64_t now_ns)
{
	struct og_dht_connect *c = ctx;
	struct og_dht_attempt *a = og_dht_attempt_of(c, tag);
	struct og_addr addr;

	if (!a || a->state != OG_DHT_ATTEMPT_LAN)
		return;
	if (reply->status < 0) {
		og_dht_attempt_fail(c, a, -EOPNOTSUPP, now_ns);
		return;
	}
	addr = a->lan_addr;
	og_dht_attempt_connected(c, a, 0, &addr, now_ns); /* from the server socket */
}

/* Row 4: both sides behind one address. False: the peer gave nothing to try. */
static bool try_lan(struct og_dht_connect *c, struct og_dht_attempt *a,
	const struct og_dht_try *via, const struct og_dht_payload *peer, uint64_t now_ns)
{
	struct og_addr usable[OG_DHT_PAYLOAD_ADDRS];
	uint32_t nb = 0;

	if (c->env->nb_local_addrs == 0 || !og_addr_same_host(&via->client, &via->server))
		return false;
	for (uint32_t i = 0; i < peer->nb_addresses4; i++) {
		if (!og_addr_is_reserved(&peer->addresses4[i]) && peer->addresses4[i].port != 0)
			usable[nb++] = peer->addresses4[i];
	}
	if (nb == 0)
		return false;
	if (!og_dht_self_match(c->env, usable, nb, &a->lan_addr))
		a->lan_addr = usable[0];
	a->state = OG_DHT_ATTEMPT_LAN;
	og_dht_request_send(c->env->rpc,
		&(struct og_dht_request){.to = a->lan_addr,
			.internal = true,
			.command = OG_DHT_PING,
			.any_endpoint = true,
			.fn = on_lan_pong,
			.ctx = c,
			.tag = og_dht_attempt_tag(c, a)},
		&a->lan_ping, now_ns);
	return true;
}

static struct og_addr public_address(
	const struct og_dht_payload *peer, const struct og_addr *otherwise)
{
	for (uint32_t i = 0; i < peer->nb_addresses4; i++) {
		const struct og_addr *a = &peer->addresses4[i];

		if (a->port != 0 && !og_addr_is_private(a) && !og_addr_is_reserved(a))
			return *a;
	}
	return *otherwise;
}

void og_dht_attempt_choose_path(struct og_dht_connect *c, struct og_dht_attempt *a,
	const struct og_dht_try *via, const struct og_dht_payload *peer, uint64_t now_ns)
{
	uint16_t expected = og_dht_rpc_expected_endpoint(c->env->rpc);
	bool relayed = !og_addr_eq(&via->server, &via->relay);
	struct og_addr remote;

	if (a->seen) { /* first packet wins */
		remote = a->seen_addr;
		og_dht_attempt_connected(c, a, a->seen_endpoint, &remote, now_ns);
	} else if (!via->has_peer) { /* 1 */
		og_dht_attempt_connected(c, a, via->endpoint, &via->relay, now_ns);
	} else if (peer->firewall == OG_DHT_FIREWALL_OPEN ||
		   (relayed && peer->nb_punch_relays == 0)) { /* 2 */
		remote = public_address(peer, &via->server);
		og_dht_attempt_connected(c, a, expected, &remote, now_ns);
	} else if (og_dht_self_is_open(c->env)) { /* 3 */
		a->state = OG_DHT_ATTEMPT_WAITING;
		a->expires_ns = now_ns + passive_wait_ns;
	} else if (!relayed || !try_lan(c, a, via, peer, now_ns)) { /* 4; no 5 */
		og_dht_attempt_fail(c, a, -EOPNOTSUPP, now_ns);
	}
}
