#include "dht_net.h"

#include "crypto/hash.h"
#include "dht/values.h"

static struct net net;
static const uint64_t second = OG_NS_PER_S;

static void setup(void)
{
	net_init(&net, 1);
}

static void teardown(void)
{
	net_fini(&net);
}

TestSuite(dht_hyper, .init = setup, .fini = teardown, .timeout = 60);

static void listen_and_wait(struct net_node *n)
{
	cr_assert_eq(og_dht_listen(n->dht, net.sim.now_ns), 0);
	net_kick(n);
	net_run(&net, 5 * second);
	cr_assert_gt(n->nb_relays, 0);
}

static void connect_to(struct net_node *from, const struct net_node *to)
{
	cr_assert_eq(og_dht_connect(from->dht, to->kp.public_key, NULL, 0, 77, net.sim.now_ns), 0);
	net_kick(from);
}

static void expect_connected(const struct net_node *client, const struct net_node *server)
{
	cr_assert_eq(client->nb_connected, 1);
	cr_assert_eq(server->nb_connected, 1);
	cr_assert(client->last_conn.initiator);
	cr_assert_not(server->last_conn.initiator);
	cr_assert_eq(client->last_conn.tag, 77);
	cr_assert_arr_eq(client->last_conn.remote_key, server->kp.public_key, 32);
	cr_assert_arr_eq(server->last_conn.remote_key, client->kp.public_key, 32);
	cr_assert_arr_eq(client->last_keys.tx, server->last_keys.rx, 32);
	cr_assert_arr_eq(client->last_keys.rx, server->last_keys.tx, 32);
	cr_assert_arr_eq(client->last_keys.hash, server->last_keys.hash, 64);
	cr_assert_eq(og_dht_nb_connects(client->dht), 0);
	cr_assert_eq(og_dht_nb_half_open(server->dht), 0);
}

Test(dht_hyper, a_server_is_announced_on_three_nodes_and_gone_after_unlisten)
{
	struct net_node *server;
	uint32_t routes = 0;

	net_grow(&net, 30);
	server = net_add_member(&net, 0x0a000101, 5000, OG_NO);
	net_run(&net, 2 * second);
	listen_and_wait(server);
	cr_assert_eq(server->nb_relays, 3);
	for (uint32_t i = 0; i < 30; i++)
		routes += og_dht_stored(net.nodes[i]->dht).routes;
	cr_assert_eq(routes, 3);

	cr_assert_eq(og_dht_unlisten(server->dht, net.sim.now_ns), 0);
	net_kick(server);
	net_run(&net, second);
	cr_assert(server->told_stopped);
	routes = 0;
	for (uint32_t i = 0; i < 30; i++)
		routes += og_dht_stored(net.nodes[i]->dht).routes;
	cr_assert_eq(routes, 0);
}

Test(dht_hyper, two_members_connect_through_relays_whatever_they_declare)
{
	static const enum og_auto kinds[][2] = {
		{OG_NO, OG_NO}, {OG_NO, OG_YES}, {OG_YES, OG_NO}, {OG_YES, OG_YES}};

	net_grow(&net, 30);
	for (uint32_t k = 0; k < OG_ARRAY_LEN(kinds); k++) {
		struct net_node *server =
			net_add_member(&net, 0x0a000101 + 2 * k, 5000, kinds[k][0]);
		struct net_node *client =
			net_add_member(&net, 0x0a000102 + 2 * k, 5000, kinds[k][1]);

		net_run(&net, 2 * second);
		listen_and_wait(server);
		connect_to(client, server);
		net_run(&net, 12 * second);
		expect_connected(client, server);
	}
}

/* ---- What goes over the wire ---- */

enum { LEGS_MAX = 64 };

static struct leg {
	struct og_addr src, dst;
	uint8_t first_byte;
	uint16_t tid;
	uint8_t mode;
	uint32_t noise_bytes;
	uint8_t noise[400];
} legs[LEGS_MAX];
static unsigned nb_legs;

/* Records every PEER_HANDSHAKE datagram, requests and replies. */
static void record_leg(struct sim *sim, const struct og_addr *src, const struct og_addr *dst,
	const uint8_t *data, uint16_t len_bytes)
{
	struct og_dht_msg m;
	struct og_dht_handshake h;
	bool request;

	if (og_dht_msg_decode(&m, data, len_bytes) < 0 || !m.has_value ||
		og_dht_handshake_decode(&h, m.value, m.value_bytes) < 0)
		return;
	request = !m.reply && !m.internal && m.command == 0;
	if (!request && !(m.reply && h.mode == OG_DHT_REPLY && h.noise_bytes > 48))
		return;
	if (nb_legs == LEGS_MAX)
		return;
	legs[nb_legs] = (struct leg){.src = *src,
		.dst = *dst,
		.first_byte = data[0],
		.tid = m.tid,
		.mode = h.mode,
		.noise_bytes = h.noise_bytes};
	memcpy(legs[nb_legs++].noise, h.noise, OG_MIN(h.noise_bytes, 400u));
}

static unsigned legs_of(const struct og_addr *src, uint8_t mode)
{
	unsigned n = 0;

	for (unsigned i = 0; i < nb_legs; i++)
		n += legs[i].mode == mode && (!src || og_addr_eq(&legs[i].src, src));
	return n;
}

/* A network of `nb` storing nodes, a listening server and a client. */
static void three_parties(
	uint32_t nb, struct net_node **server, struct net_node **client, enum og_auto firewalled)
{
	net_grow(&net, nb);
	*server = net_add_member(&net, 0x0a000101, 5000, OG_NO);
	*client = net_add_member(&net, 0x0a000102, 5000, firewalled);
	net_run(&net, 2 * second);
	listen_and_wait(*server);
}

Test(dht_hyper, relay_legs_are_requests_with_the_tid_of_the_client_and_only_the_last_is_a_reply)
{
	struct net_node *server, *client;
	unsigned chains = 0;

	three_parties(10, &server, &client, OG_NO);
	net.sim.tap = record_leg;
	connect_to(client, server);
	net_run(&net, 5 * second);
	expect_connected(client, server);
	for (unsigned i = 0; i < nb_legs; i++) {
		bool last = legs[i].mode == OG_DHT_REPLY;

		cr_assert_eq(legs[i].first_byte, last ? 0x13 : 0x03);
		if (!last)
			continue;
		cr_assert(og_addr_eq(&legs[i].dst, &client->local[0]));
		for (unsigned mode = OG_DHT_FROM_CLIENT; mode <= OG_DHT_FROM_RELAY; mode++) {
			bool found = false;

			for (unsigned k = 0; k < i; k++)
				found |= legs[k].mode == mode && legs[k].tid == legs[i].tid;
			cr_assert(found, "mode %u", mode);
		}
		chains++;
	}
	cr_assert_gt(chains, 0);
	cr_assert_eq(
		legs_of(&server->local[0], OG_DHT_FROM_SERVER), legs_of(NULL, OG_DHT_FROM_RELAY));
}

Test(dht_hyper, copies_of_a_handshake_ask_the_hook_once_and_get_the_same_bytes)
{
	struct net_node *server, *client;
	const struct leg *first = NULL;

	three_parties(10, &server, &client, OG_YES);
	net.job_delay_ns = 200 * OG_NS_PER_MS;
	net.sim.tap = record_leg;
	connect_to(client, server);
	net_run(&net, 5 * second);
	expect_connected(client, server);
	cr_assert_geq(legs_of(NULL, OG_DHT_FROM_RELAY), 2);
	cr_assert_eq(server->nb_firewall_calls, 1);
	for (unsigned i = 0; i < nb_legs; i++) {
		if (legs[i].mode != OG_DHT_FROM_SERVER)
			continue;
		if (!first)
			first = &legs[i];
		cr_assert_eq(legs[i].noise_bytes, first->noise_bytes);
		cr_assert_arr_eq(legs[i].noise, first->noise, first->noise_bytes);
	}
	cr_assert_eq(legs_of(NULL, OG_DHT_FROM_SERVER), legs_of(NULL, OG_DHT_FROM_RELAY));
	cr_assert_geq(og_dht_counts(server->dht)->handshake_duplicates, 1);
}

Test(dht_hyper, a_refused_client_meets_silence)
{
	struct net_node *server, *client;

	three_parties(10, &server, &client, OG_NO);
	server->refuse_incoming = true;
	net.sim.tap = record_leg;
	connect_to(client, server);
	net_run(&net, 30 * second);
	cr_assert_gt(legs_of(NULL, OG_DHT_FROM_RELAY), 0);
	cr_assert_eq(legs_of(NULL, OG_DHT_FROM_SERVER), 0);
	cr_assert_eq(server->nb_firewall_calls, 1);
	cr_assert_eq(client->nb_failed, 1);
	cr_assert_eq(client->last_reason, -ECONNREFUSED);
	cr_assert_eq(client->last_tag, 77);
	cr_assert_eq(client->nb_streams + server->nb_streams, 0);
	cr_assert_eq(og_dht_nb_accepts(server->dht), 0);
}

Test(dht_hyper, a_key_nobody_knows_is_not_found)
{
	struct net_node *server, *client;

	three_parties(10, &server, &client, OG_NO);
	cr_assert_eq(og_dht_connect(
			     client->dht, net.nodes[3]->kp.public_key, NULL, 0, 5, net.sim.now_ns),
		0);
	net_kick(client);
	net_run(&net, 10 * second);
	cr_assert_eq(client->last_reason, -ENOENT);
	cr_assert_eq(client->nb_streams, 0);
	cr_assert_eq(og_dht_connect(client->dht, client->kp.public_key, NULL, 0, 5, net.sim.now_ns),
		-EINVAL);
}

Test(dht_hyper, a_dead_relay_does_not_keep_the_others_from_connecting)
{
	struct net_node *server, *client;
	struct og_addr relays[OG_DHT_RECORD_RELAYS];

	three_parties(12, &server, &client, OG_NO);
	cr_assert_eq(og_dht_relays(server->dht, relays), 3);
	cr_assert(og_addr_eq(&relays[0], &server->local[0]), "an open server lists itself");
	for (uint32_t i = 0; i < 12; i++) {
		struct net_node *n = net.nodes[i];

		n->down = og_addr_eq(&n->local[0], &relays[1]) ||
			  og_addr_eq(&n->local[0], &relays[2]);
	}
	connect_to(client, server);
	net_run(&net, 15 * second);
	expect_connected(client, server);
}

Test(dht_hyper, a_dead_server_fails_every_client_in_time)
{
	struct net_node *server, *client;

	three_parties(10, &server, &client, OG_NO);
	server->down = true;
	connect_to(client, server);
	net_run(&net, 20 * second);
	cr_assert_eq(client->nb_failed, 1);
	cr_assert_eq(client->last_reason, -ECONNREFUSED);
	cr_assert_eq(client->nb_streams, 0);
}

/* Spoils message 2 in the answers of the relay that answers first. */
static bool spoil_first_relay(struct net *n, const struct og_addr *src, const struct og_addr *dst,
	const uint8_t *data, uint16_t len_bytes)
{
	static struct og_addr liar;
	struct og_dht_msg m;
	struct og_dht_handshake h;

	if (data[0] != 0x13 || og_dht_msg_decode(&m, data, len_bytes) < 0 || !m.has_value ||
		og_dht_handshake_decode(&h, m.value, m.value_bytes) < 0 || h.mode != OG_DHT_REPLY ||
		h.noise_bytes <= 48)
		return false;
	if (liar.port == 0)
		liar = *src;
	if (og_addr_eq(&liar, src))
		((uint8_t *)h.noise)[60] ^= 1;
	return false;
}

Test(dht_hyper, one_bad_reply_does_not_spoil_the_attempt)
{
	struct net_node *server, *client;

	three_parties(10, &server, &client, OG_YES);
	net.drop = spoil_first_relay;
	connect_to(client, server);
	net_run(&net, 10 * second);
	expect_connected(client, server);
	cr_assert_geq(og_dht_counts(client->dht)->replies_bad, 1);
}

Test(dht_hyper, connects_under_heavy_loss)
{
	struct net_node *server, *client;

	three_parties(20, &server, &client, OG_NO);
	net.sim.loss_percent = 30;
	connect_to(client, server);
	net_run(&net, 30 * second);
	/* Nobody repeats the stand-in for a UDX packet: the keys must be there on both sides. */
	cr_assert_eq(client->nb_connected + client->nb_failed, 1);
}

/* ---- Topics ---- */

Test(dht_hyper, a_topic_is_announced_found_and_gone_after_unannounce)
{
	static const uint8_t topic[32] = "a topic";
	struct net_node *a, *b;

	net_grow(&net, 30);
	a = net_add_member(&net, 0x0a000101, 5000, OG_NO);
	b = net_add_member(&net, 0x0a000102, 5000, OG_NO);
	net_run(&net, 2 * second);
	listen_and_wait(a);
	cr_assert_eq(og_dht_announce(a->dht, topic, net.sim.now_ns), 0);
	cr_assert_eq(og_dht_announce(a->dht, topic, net.sim.now_ns), -EALREADY);
	net_kick(a);
	net_run(&net, 10 * second);
	cr_assert_eq(a->nb_topic_done, 1);
	cr_assert_eq(a->topic_status, 0);
	cr_assert_eq(a->topic_stored, 20);

	cr_assert_eq(og_dht_lookup(b->dht, topic, net.sim.now_ns), 0);
	net_kick(b);
	net_run(&net, 10 * second);
	cr_assert_eq(b->nb_topic_done, 1);
	cr_assert_eq(b->nb_peers, 1);
	cr_assert_arr_eq(b->peers[0], a->kp.public_key, 32);

	/* Announcing again finds nothing of ours to clear, and keeps the record. */
	cr_assert_eq(og_dht_announce(a->dht, topic, net.sim.now_ns), 0);
	net_kick(a);
	net_run(&net, 10 * second);
	cr_assert_eq(a->topic_stored, 20);

	cr_assert_eq(og_dht_unannounce(a->dht, topic, net.sim.now_ns), 0);
	net_kick(a);
	net_run(&net, 3 * second);
	cr_assert_eq(a->nb_topic_done, 3);
	cr_assert_eq(a->topic_stored, 20);
	for (uint32_t i = 0; i < 30; i++)
		cr_assert_eq(og_dht_stored(net.nodes[i]->dht).records, 0);
}

static bool drop_announces(struct net *n, const struct og_addr *src, const struct og_addr *dst,
	const uint8_t *data, uint16_t len_bytes)
{
	struct og_dht_msg m;

	return og_dht_msg_decode(&m, data, len_bytes) == 0 && !m.reply && !m.internal &&
	       m.command == 4;
}

Test(dht_hyper, an_announce_that_nobody_stored_is_an_error)
{
	static const uint8_t topic[32] = "a topic";
	struct net_node *a;

	net_grow(&net, 10);
	a = net_add_member(&net, 0x0a000101, 5000, OG_NO);
	net_run(&net, 2 * second);
	net.drop = drop_announces;
	cr_assert_eq(og_dht_announce(a->dht, topic, net.sim.now_ns), 0);
	net_kick(a);
	net_run(&net, 30 * second);
	cr_assert_eq(a->nb_topic_done, 1);
	cr_assert_eq(a->topic_status, -EREMOTEIO);
}

Test(dht_hyper, a_lookup_with_the_network_gone_ends)
{
	static const uint8_t topic[32] = "a topic";
	struct net_node *a;

	net_grow(&net, 5);
	a = net_add_member(&net, 0x0a000101, 5000, OG_NO);
	net_run(&net, 2 * second);
	for (uint32_t i = 0; i < 5; i++)
		net.nodes[i]->down = true;
	cr_assert_eq(og_dht_lookup(a->dht, topic, net.sim.now_ns), 0);
	net_kick(a);
	net_run(&net, 60 * second);
	cr_assert_eq(a->nb_topic_done, 1);
	cr_assert_eq(a->topic_status, -ENOENT);
}

/* ---- Keeping the server announced ---- */

Test(dht_hyper, a_server_up_before_the_network_is_announced_soon_after_it_appears)
{
	struct net_node *server;
	uint64_t up_at;

	net_add_storing(&net, 0x0a000001, 49737);
	net.nodes[0]->down = true;
	server = net_add_member(&net, 0x0a000101, 5000, OG_NO);
	cr_assert_eq(og_dht_listen(server->dht, net.sim.now_ns), 0);
	net_run(&net, 60 * second);
	cr_assert_eq(server->nb_relays, 0);
	net.nodes[0]->down = false;
	net_kick(net.nodes[0]);
	up_at = net.sim.now_ns;
	while (server->nb_relays == 0 && net.sim.now_ns < up_at + 60 * second)
		net_run(&net, 100 * OG_NS_PER_MS);
	cr_assert_leq(net.sim.now_ns - up_at, 5 * second);
}

Test(dht_hyper, a_round_that_fails_keeps_the_old_relays_and_is_repeated)
{
	struct net_node *server;
	struct og_addr before[3], after[3];

	net_grow(&net, 10);
	server = net_add_member(&net, 0x0a000101, 5000, OG_NO);
	net_run(&net, 2 * second);
	listen_and_wait(server);
	cr_assert_eq(og_dht_relays(server->dht, before), 3);
	net.drop = drop_announces;
	net_run(&net, 320 * second); /* past the next round */
	cr_assert_gt(og_dht_counts(server->dht)->announce_rounds_failed, 0);
	cr_assert_eq(og_dht_relays(server->dht, after), 3);
	cr_assert_arr_eq(before, after, sizeof(before));
	net.drop = NULL;
	net_run(&net, 60 * second);
	cr_assert_eq(server->nb_states, 2);
}

Test(dht_hyper, relays_stay_the_same_in_a_stable_network)
{
	struct net_node *server;
	struct og_addr before[3], after[3];

	net_grow(&net, 30);
	server = net_add_member(&net, 0x0a000101, 5000, OG_NO);
	net_run(&net, 2 * second);
	listen_and_wait(server);
	og_dht_relays(server->dht, before);
	net_run(&net, 20 * 301 * second);
	cr_assert_geq(server->nb_states, 20);
	og_dht_relays(server->dht, after);
	cr_assert_arr_eq(before, after, sizeof(before));
	cr_assert_eq(og_dht_counts(server->dht)->announce_rounds_failed, 0);
}

Test(dht_hyper, a_relay_that_dies_is_replaced)
{
	struct net_node *server;
	struct og_addr relays[3];

	net_grow(&net, 10);
	server = net_add_member(&net, 0x0a000101, 5000, OG_NO);
	net_run(&net, 2 * second);
	listen_and_wait(server);
	og_dht_relays(server->dht, relays);
	for (uint32_t i = 0; i < 10; i++)
		net.nodes[i]->down = og_addr_eq(&net.nodes[i]->local[0], &relays[1]);
	net_run(&net, 30 * second);
	cr_assert_eq(og_dht_relays(server->dht, relays), 3);
	for (uint32_t i = 0; i < 10; i++) {
		for (int k = 0; k < 3; k++)
			cr_assert_not(net.nodes[i]->down &&
				      og_addr_eq(&net.nodes[i]->local[0], &relays[k]));
	}
}

Test(dht_hyper, a_server_whose_address_changed_announces_again_and_is_reachable)
{
	struct net_node *server, *client;

	three_parties(10, &server, &client, OG_NO);
	server->local[0].port = 6000; /* its NAT gives it another port */
	net_run(&net, 14 * second);
	connect_to(client, server);
	net_run(&net, 5 * second);
	expect_connected(client, server);
}

Test(dht_hyper, a_network_of_one_node_is_not_flooded_with_rounds)
{
	struct net_node *server;

	net_grow(&net, 1);
	server = net_add_member(&net, 0x0a000101, 5000, OG_NO);
	net_run(&net, 2 * second);
	listen_and_wait(server);
	net_run(&net, 60 * second);
	cr_assert_eq(server->nb_relays, 1);
	cr_assert_leq(og_dht_counts(server->dht)->announce_rounds, 20);
	net.nodes[0]->down = true;
	net_run(&net, 60 * second);
	cr_assert_leq(og_dht_counts(server->dht)->announce_rounds, 40);
}

Test(dht_hyper, unlisten_with_all_relays_dead_takes_at_most_a_second)
{
	struct net_node *server;
	uint64_t start;

	net_grow(&net, 5);
	server = net_add_member(&net, 0x0a000101, 5000, OG_NO);
	net_run(&net, 2 * second);
	listen_and_wait(server);
	for (uint32_t i = 0; i < 5; i++)
		net.nodes[i]->down = true;
	start = net.sim.now_ns;
	cr_assert_eq(og_dht_unlisten(server->dht, start), 0);
	net_kick(server);
	while (!server->told_stopped && net.sim.now_ns < start + 10 * second)
		net_run(&net, 10 * OG_NS_PER_MS);
	cr_assert_leq(net.sim.now_ns - start, second);
	cr_assert_eq(og_dht_listen(server->dht, net.sim.now_ns), 0);
}

Test(dht_hyper, a_round_without_a_free_job_is_taken_up_when_there_is_one)
{
	struct net_node *server;

	net_grow(&net, 5);
	server = net_add_member(&net, 0x0a000101, 5000, OG_NO);
	net_run(&net, 2 * second);
	server->no_jobs = true;
	cr_assert_eq(og_dht_listen(server->dht, net.sim.now_ns), 0);
	net_kick(server);
	net_run(&net, 20 * second);
	cr_assert_eq(server->nb_relays, 0);
	server->no_jobs = false;
	net_run(&net, 5 * second); /* the tokens of the round have expired: it is repeated */
	cr_assert_eq(server->nb_relays, 3);
}

/* ---- Values ---- */

Test(dht_hyper, values_that_are_put_can_be_got_by_another)
{
	static const uint8_t text[] = "a value";
	struct net_node *a, *b;
	uint8_t target[32];

	net_grow(&net, 25);
	a = net_add_member(&net, 0x0a000101, 5000, OG_NO);
	b = net_add_member(&net, 0x0a000102, 5000, OG_YES);
	net_run(&net, 2 * second);
	cr_assert_eq(og_dht_immutable_put(a->dht, text, sizeof(text), 1, net.sim.now_ns), 0);
	net_kick(a);
	net_run(&net, 5 * second);
	cr_assert_eq(a->nb_values, 1);
	cr_assert_eq(a->value_status, 0);
	og_hash_one(target, text, sizeof(text));
	cr_assert_eq(og_dht_immutable_get(b->dht, target, 2, net.sim.now_ns), 0);
	net_kick(b);
	net_run(&net, 5 * second);
	cr_assert_eq(b->nb_values, 1);
	cr_assert_eq(b->value_bytes, sizeof(text));
	cr_assert_arr_eq(b->value, text, sizeof(text));

	for (uint64_t seq = 1; seq <= 2; seq++) {
		cr_assert_eq(og_dht_mutable_put(
				     a->dht, &a->kp, seq, text, (uint32_t)seq, 3, net.sim.now_ns),
			0);
		net_kick(a);
		net_run(&net, 5 * second);
		cr_assert_eq(a->value_status, 0);
	}
	cr_assert_eq(og_dht_mutable_put(a->dht, &a->kp, 1, text, 1, 3, net.sim.now_ns), 0);
	net_kick(a);
	net_run(&net, 5 * second);
	cr_assert_eq(a->value_status, -EREMOTEIO, "an older seq is stored nowhere");
	cr_assert_eq(og_dht_mutable_get(b->dht, a->kp.public_key, 0, 4, net.sim.now_ns), 0);
	net_kick(b);
	net_run(&net, 5 * second);
	cr_assert_eq(b->nb_values, 2);
	cr_assert_eq(b->value_status, 0);
	cr_assert_eq(b->value_seq, 2);
	cr_assert_eq(b->value_bytes, 2);
	cr_assert_eq(og_dht_mutable_get(b->dht, a->kp.public_key, 3, 5, net.sim.now_ns), 0);
	net_kick(b);
	net_run(&net, 5 * second);
	cr_assert_eq(b->value_status, -ENOENT);
	cr_assert_eq(og_dht_immutable_put(a->dht, text, OG_DHT_STORED_MAX + 1, 1, net.sim.now_ns),
		-EMSGSIZE);
}
