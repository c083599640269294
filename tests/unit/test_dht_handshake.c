/* Handshakes with peers that the test plays itself: every row, every lie, floods. */
#include "dht_net.h"

#include "crypto/hash.h"

#include "dht/values.h"

static struct net net;
static const uint64_t second = OG_NS_PER_S;
static const struct og_addr relay = {{10, 0, 9, 1}, 1000};
static const struct og_addr remote = {{10, 0, 9, 2}, 2000};
static const struct og_addr lan = {{192, 168, 7, 7}, 3000};
static const struct og_addr wan = {{88, 99, 3, 86}, 4000};

static void setup(void)
{
	net_init(&net, 1);
	net.plain_crypto = true;
}

static void teardown(void)
{
	net_fini(&net);
}

TestSuite(dht_handshake, .init = setup, .fini = teardown, .timeout = 60);

static void send_msg(const struct og_addr *src, const struct og_addr *dst, struct og_dht_msg m)
{
	uint8_t buf[1400];
	struct og_writer w = og_writer_of(buf, sizeof(buf));

	m.to = *dst;
	cr_assert_eq(og_dht_msg_encode(&m, &w), 0);
	sim_send(&net.sim, src, dst, buf, (uint16_t)og_writer_len(&w));
}

/* ---- A server, with its relay, that says what a case wants ---- */

struct answer {
	const char *name;
	/* What it does. */
	uint8_t mode; /* of the reply */
	bool no_value, no_peer, same_host, bad_version, no_udx, punch, silent_lan;
	uint8_t error, firewall;
	struct og_addr address4; /* port 0: none */
	bool packet_first;       /* its UDX packet comes before its reply */
	bool packet_later;       /* and after */
	enum og_auto client_firewalled;
	/* What must come of it. */
	int reason; /* of failing; 0: connected */
	struct og_addr to;
	uint16_t endpoint;
};

static const struct answer *script;
static struct net_node *subject;

static void send_udx_to(const struct og_addr *dst)
{
	for (uint32_t i = 0; i < NET_STREAMS; i++) {
		uint8_t packet[20] = {0xff, 1, 1};

		if (subject->streams[i].state != STREAM_RESERVED)
			continue;
		og_store_le32(packet + 4, subject->streams[i].udx_id);
		sim_send(&net.sim, &remote, dst, packet, sizeof(packet));
	}
}

static void play_server(struct net *n, const struct sim_packet *p)
{
	struct og_dht_msg m;
	struct og_dht_handshake h;
	struct og_dht_payload payload = {.version = 1,
		.error = script->error,
		.firewall = script->firewall,
		.has_udx = !script->no_udx,
		.udx_id = 99,
		.has_holepunch = script->punch,
		.nb_punch_relays = script->punch,
		.nb_addresses4 = script->address4.port != 0,
		.addresses4 = {script->address4}};
	uint8_t message[300] = {0}, value[400];
	struct og_writer w = og_writer_of(message + 48, sizeof(message) - 48);
	struct og_writer v = og_writer_of(value, sizeof(value));

	if (og_dht_msg_decode(&m, p->data, p->len_bytes) < 0 || m.reply)
		return;
	if (m.internal) {
		if (!og_addr_eq(&p->dst, &lan) || !script->silent_lan)
			send_msg(
				&p->dst, &p->src, (struct og_dht_msg){.reply = true, .tid = m.tid});
		return;
	}
	if (m.command != 0 || !og_addr_eq(&p->dst, &relay))
		return;
	cr_assert_eq(og_dht_handshake_decode(&h, m.value, m.value_bytes), 0);
	cr_assert_eq(h.mode, OG_DHT_FROM_CLIENT);
	cr_assert_not(h.has_peer || h.has_relay);
	og_dht_payload_encode(&w, &payload);
	if (script->bad_version)
		message[48] = 2;
	og_dht_handshake_encode(&v,
		&(struct og_dht_handshake){.mode = script->mode,
			.noise = message,
			.noise_bytes = 48 + (uint32_t)og_writer_len(&w),
			.has_peer = !script->no_peer,
			.peer = script->same_host ? sim_addr(og_addr_u32(&p->src), 2000) : remote});
	if (script->packet_first)
		send_udx_to(&p->src);
	send_msg(&relay, &p->src,
		(struct og_dht_msg){.reply = true,
			.tid = m.tid,
			.has_value = !script->no_value,
			.value = value,
			.value_bytes = (uint32_t)og_writer_len(&v)});
	if (script->packet_later)
		send_udx_to(&p->src);
}

#define OPEN OG_DHT_FIREWALL_OPEN
#define ADDR(a, b, c, d, p)                                                                        \
	{                                                                                          \
		{a, b, c, d}, p                                                                    \
	}

Test(dht_handshake, a_client_takes_the_way_that_the_answer_allows)
{
	static const struct answer cases[] = {
		{.name = "1 the node asked is the server",
			.mode = OG_DHT_REPLY,
			.no_peer = true,
			.client_firewalled = OG_YES,
			.to = ADDR(10, 0, 9, 1, 1000),
			.endpoint = 1},
		{.name = "2 open server",
			.mode = OG_DHT_REPLY,
			.firewall = OPEN,
			.client_firewalled = OG_YES,
			.to = ADDR(10, 0, 9, 2, 2000),
			.endpoint = 1},
		{.name = "2 open server with a public address",
			.mode = OG_DHT_REPLY,
			.firewall = OPEN,
			.address4 = ADDR(88, 99, 3, 86, 4000),
			.client_firewalled = OG_NO,
			.to = ADDR(88, 99, 3, 86, 4000)},
		{.name = "2 open server with a private address only",
			.mode = OG_DHT_REPLY,
			.firewall = OPEN,
			.address4 = ADDR(192, 168, 7, 7, 3000),
			.client_firewalled = OG_NO,
			.to = ADDR(10, 0, 9, 2, 2000)},
		{.name = "2 no relays to punch through",
			.mode = OG_DHT_REPLY,
			.client_firewalled = OG_YES,
			.to = ADDR(10, 0, 9, 2, 2000),
			.endpoint = 1},
		{.name = "3 open client, packet comes",
			.mode = OG_DHT_REPLY,
			.punch = true,
			.packet_later = true,
			.client_firewalled = OG_NO,
			.to = ADDR(10, 0, 9, 2, 2000)},
		{.name = "3 open client, packet came first",
			.mode = OG_DHT_REPLY,
			.punch = true,
			.packet_first = true,
			.client_firewalled = OG_NO,
			.to = ADDR(10, 0, 9, 2, 2000)},
		{.name = "first packet wins over an open server",
			.mode = OG_DHT_REPLY,
			.firewall = OPEN,
			.address4 = ADDR(88, 99, 3, 86, 4000),
			.packet_first = true,
			.client_firewalled = OG_YES,
			.to = ADDR(10, 0, 9, 2, 2000),
			.endpoint = 1},
		{.name = "3 open client, no packet",
			.mode = OG_DHT_REPLY,
			.punch = true,
			.client_firewalled = OG_NO,
			.reason = -ETIMEDOUT},
		{.name = "4 same host",
			.mode = OG_DHT_REPLY,
			.punch = true,
			.same_host = true,
			.address4 = ADDR(192, 168, 7, 7, 3000),
			.client_firewalled = OG_YES,
			.to = ADDR(192, 168, 7, 7, 3000)},
		{.name = "4 same host, local address dead",
			.mode = OG_DHT_REPLY,
			.punch = true,
			.same_host = true,
			.address4 = ADDR(192, 168, 7, 7, 3000),
			.silent_lan = true,
			.client_firewalled = OG_YES,
			.reason = -EOPNOTSUPP},
		{.name = "4 same host, reserved address",
			.mode = OG_DHT_REPLY,
			.punch = true,
			.same_host = true,
			.address4 = ADDR(240, 0, 0, 7, 3000),
			.client_firewalled = OG_YES,
			.reason = -EOPNOTSUPP},
		{.name = "5 punching needed",
			.mode = OG_DHT_REPLY,
			.punch = true,
			.client_firewalled = OG_YES,
			.reason = -EOPNOTSUPP},
		{.name = "reply of another mode",
			.mode = OG_DHT_FROM_SERVER,
			.client_firewalled = OG_NO,
			.reason = -ECONNREFUSED},
		{.name = "reply without value",
			.no_value = true,
			.client_firewalled = OG_NO,
			.reason = -ECONNREFUSED},
		{.name = "another version",
			.mode = OG_DHT_REPLY,
			.bad_version = true,
			.client_firewalled = OG_NO,
			.reason = -EPROTO},
		{.name = "an error",
			.mode = OG_DHT_REPLY,
			.error = OG_DHT_PAYLOAD_TRY_LATER,
			.client_firewalled = OG_NO,
			.reason = -EREMOTEIO},
		{.name = "no stream id",
			.mode = OG_DHT_REPLY,
			.no_udx = true,
			.client_firewalled = OG_NO,
			.reason = -EREMOTEIO},
	};
	uint8_t key[32] = {1};

	net_grow(&net, 3);
	net.sim.delay_max_ns = net.sim.delay_min_ns; /* what is sent first arrives first */
	net.stranger = play_server;
	for (uint32_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		const struct answer *c = script = &cases[i];
		struct net_node *n = subject =
			net_add_member(&net, 0x0a000201 + i, 5000, c->client_firewalled);

		net_run(&net, 2 * second);
		cr_assert_eq(og_dht_connect(n->dht, key, &relay, 1, i, net.sim.now_ns), 0);
		net_kick(n);
		net_run(&net, 40 * second);
		cr_assert_eq(n->nb_connected, c->reason == 0, "%s", c->name);
		cr_assert_eq(n->nb_failed, c->reason != 0, "%s", c->name);
		if (c->reason) {
			cr_assert_eq(n->last_reason, c->reason, "%s: %d", c->name, n->last_reason);
			cr_assert_eq(n->nb_streams, 0, "%s", c->name);
		} else {
			cr_assert(og_addr_eq(&n->last_conn.remote, &c->to), "%s", c->name);
			cr_assert_eq(n->last_conn.endpoint, c->endpoint, "%s", c->name);
			cr_assert_eq(n->last_conn.remote_udx_id, 99, "%s", c->name);
		}
		cr_assert_eq(og_dht_nb_connects(n->dht), 0);
	}
	(void)wan;
}

/* ---- A client, with its relays, that the test plays against our server ---- */

static struct heard {
	struct og_addr src, dst;
	struct og_dht_handshake h;
	bool reply;
	uint16_t tid;
	struct og_dht_payload payload;
} heard[8];
static unsigned nb_heard, nb_pings_heard, nb_udx_heard;

static void hear(struct net *n, const struct sim_packet *p)
{
	struct og_dht_msg m;
	struct heard *e = &heard[nb_heard % OG_ARRAY_LEN(heard)];

	nb_udx_heard += p->data[0] == 0xff;
	if (og_dht_msg_decode(&m, p->data, p->len_bytes) < 0)
		return;
	if (!m.reply && m.internal) {
		nb_pings_heard++;
		send_msg(&p->dst, &p->src, (struct og_dht_msg){.reply = true, .tid = m.tid});
		return;
	}
	if (!m.has_value || og_dht_handshake_decode(&e->h, m.value, m.value_bytes) < 0 ||
		e->h.noise_bytes < 48)
		return;
	e->src = p->src;
	e->dst = p->dst;
	e->reply = m.reply;
	e->tid = m.tid;
	cr_assert_eq(og_dht_payload_decode(&e->payload, e->h.noise + 48, e->h.noise_bytes - 48), 0);
	nb_heard++;
}

/* N of a client that the test makes up: `seed` makes it unique. */
static uint32_t message_1(uint8_t out[300], uint32_t seed, const struct og_dht_payload *payload)
{
	struct og_writer w = og_writer_of(out + 96, 200);

	memset(out, 0, 300);
	og_store_le32(out, seed);
	og_dht_payload_encode(&w, payload);
	return 96 + (uint32_t)og_writer_len(&w);
}

static void shake(const struct og_addr *src, const struct net_node *server,
	struct og_dht_handshake h, uint16_t tid)
{
	uint8_t target[32], value[500];
	struct og_writer w = og_writer_of(value, sizeof(value));

	og_hash_one(target, server->kp.public_key, 32);
	og_dht_handshake_encode(&w, &h);
	send_msg(src, &server->local[0],
		(struct og_dht_msg){.tid = tid,
			.target = target,
			.has_value = true,
			.value = value,
			.value_bytes = (uint32_t)og_writer_len(&w)});
}

static struct net_node *listening_server(const struct og_dht_opts *limits)
{
	struct og_dht_opts opts = *limits;
	struct net_node *n;

	opts.rpc.bootstrap = &net.nodes[0]->local[0];
	opts.rpc.nb_bootstrap = 1;
	opts.rpc.ephemeral = OG_YES;
	opts.rpc.firewalled = OG_NO;
	n = net_add(&net, 0x0a000101, 5000, &opts);
	net_run(&net, 2 * second);
	cr_assert_eq(og_dht_listen(n->dht, net.sim.now_ns), 0);
	net_kick(n);
	net_run(&net, 5 * second);
	cr_assert_gt(n->nb_relays, 0);
	nb_heard = 0;
	net.stranger = hear;
	return n;
}

static const struct og_dht_payload plain_client = {
	.version = 1, .has_udx = true, .udx_id = 42, .has_stream = true};

Test(dht_handshake, a_server_answers_every_mode_where_its_asker_waits)
{
	static const struct {
		uint8_t mode;
		bool has_peer, has_relay;
		bool answered, reply;
		struct og_addr to; /* where the answer goes */
	} cases[] = {
		{OG_DHT_FROM_CLIENT, false, false, true, true, ADDR(10, 0, 9, 1, 1000)},
		{OG_DHT_FROM_RELAY, true, false, true, false, ADDR(10, 0, 9, 1, 1000)},
		{OG_DHT_FROM_RELAY, false, false, false, false, {{0}, 0}},
		{OG_DHT_FROM_SECOND_RELAY, true, true, true, false, ADDR(88, 99, 3, 86, 4000)},
		{OG_DHT_FROM_SECOND_RELAY, true, false, false, false, {{0}, 0}},
		{OG_DHT_FROM_SERVER, true, false, false, false, {{0}, 0}},
		{OG_DHT_REPLY, true, false, false, false, {{0}, 0}},
		{9, true, true, false, false, {{0}, 0}},
	};
	const struct og_dht_opts none = {0};
	struct net_node *server;
	uint8_t n1[300];

	net_grow(&net, 3);
	server = listening_server(&none);
	for (uint32_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		uint32_t n = message_1(n1, 1000 + i, &plain_client);

		nb_heard = 0;
		shake(&relay, server,
			(struct og_dht_handshake){.mode = cases[i].mode,
				.noise = n1,
				.noise_bytes = n,
				.has_peer = cases[i].has_peer,
				.peer = remote,
				.has_relay = cases[i].has_relay,
				.relay = wan},
			(uint16_t)(500 + i));
		net_run(&net, second);
		cr_assert_eq(nb_heard, cases[i].answered, "%u", i);
		if (!cases[i].answered)
			continue;
		cr_assert(og_addr_eq(&heard[0].dst, &cases[i].to), "%u", i);
		cr_assert_eq(heard[0].reply, cases[i].reply, "%u", i);
		cr_assert_eq(heard[0].tid, 500 + i);
		cr_assert_eq(heard[0].h.mode, cases[i].reply ? OG_DHT_REPLY : OG_DHT_FROM_SERVER);
		cr_assert_eq(heard[0].h.has_peer, !cases[i].reply);
		if (heard[0].h.has_peer)
			cr_assert(og_addr_eq(&heard[0].h.peer, &remote));
		cr_assert_eq(heard[0].payload.firewall, OG_DHT_FIREWALL_OPEN);
		cr_assert_not(heard[0].payload.has_holepunch);
		cr_assert_gt(heard[0].payload.nb_relays, 0);
	}
}

Test(dht_handshake, a_server_says_what_is_wrong_with_a_payload)
{
	struct og_dht_payload other = plain_client, no_udx = {.version = 1};
	const struct og_dht_opts none = {0};
	struct net_node *server;
	uint8_t n1[300];
	uint32_t n;

	net_grow(&net, 3);
	server = listening_server(&none);
	n = message_1(n1, 1, &other);
	n1[96] = 2; /* version */
	shake(&relay, server, (struct og_dht_handshake){.noise = n1, .noise_bytes = n}, 1);
	net_run(&net, second);
	cr_assert_eq(nb_heard, 1);
	cr_assert_eq(heard[0].payload.error, OG_DHT_PAYLOAD_VERSION);
	n = message_1(n1, 2, &no_udx);
	shake(&relay, server, (struct og_dht_handshake){.noise = n1, .noise_bytes = n}, 2);
	net_run(&net, second);
	cr_assert_eq(nb_heard, 2);
	cr_assert_eq(heard[1].payload.error, OG_DHT_PAYLOAD_ABORTED);
	cr_assert_eq(heard[1].payload.udx_id, 0);
	cr_assert_eq(server->nb_streams, 0);
}

Test(dht_handshake, a_replayed_message_opens_nothing)
{
	const struct og_dht_opts none = {0};
	struct net_node *server;
	uint8_t n1[300];
	uint32_t n = message_1(n1, 7, &plain_client);
	struct og_dht_handshake h = {.noise = n1, .noise_bytes = n};

	net_grow(&net, 3);
	server = listening_server(&none);
	shake(&relay, server, h, 1);
	net_run(&net, second);
	cr_assert_eq(server->nb_connected, 1, "direct: at once");
	shake(&relay, server, h, 2);
	net_run(&net, second);
	cr_assert_eq(nb_heard, 2, "a copy gets the same answer");
	cr_assert_eq(server->nb_connected, 1);
	net_run(&net, 25 * second);
	shake(&remote, server, h, 3);
	net_run(&net, second);
	cr_assert_eq(nb_heard, 2);
	cr_assert_eq(server->nb_connected, 1);
	cr_assert_eq(og_dht_counts(server->dht)->handshakes_replayed, 1);
}

Test(dht_handshake, half_open_sessions_are_bounded_and_a_real_client_still_gets_in)
{
	const struct og_dht_opts limits = {.nb_accepts = 512, .nb_noise_jobs = 64};
	struct net_node *server, *client;
	uint32_t sent = 0;

	net_grow(&net, 4);
	server = listening_server(&limits);
	client = net_add_member(&net, 0x0a000102, 5000, OG_YES);
	net_run(&net, 2 * second);
	net.job_delay_ns = 100 * OG_NS_PER_US;
	for (int k = 0; k < 20; k++) {
		cr_assert_eq(og_dht_connect(client->dht, server->kp.public_key, NULL, 0, 7,
				     net.sim.now_ns),
			0);
		net_kick(client);
		for (int ms = 0; ms < 1000; ms++) { /* 2,000 a second */
			uint8_t n1[300];
			uint32_t n = message_1(n1, 5000 + sent, &plain_client);

			for (int twice = 0; twice < 2; twice++) {
				og_store_le32(n1, 5000 + sent++);
				shake(&relay, server,
					(struct og_dht_handshake){.mode = OG_DHT_FROM_RELAY,
						.noise = n1,
						.noise_bytes = n,
						.has_peer = true,
						.peer = remote},
					(uint16_t)sent);
			}
			net_run(&net, OG_NS_PER_MS);
			cr_assert_leq(og_dht_nb_accepts(server->dht), 512);
		}
	}
	net_run(&net, 30 * second);
	cr_assert_eq(client->nb_connected, 20, "%u of 20", client->nb_connected);
	cr_assert_gt(og_dht_counts(server->dht)->half_open_evicted, 30000);
	cr_assert_eq(og_dht_nb_accepts(server->dht), 0);
	cr_assert_eq(server->nb_streams, 20);
}

Test(dht_handshake, under_load_an_unproven_source_must_answer_a_ping_first)
{
	const struct og_dht_opts limits = {.nb_noise_jobs = 8};
	struct net_node *server;
	uint8_t n1[300];

	net_grow(&net, 3);
	server = listening_server(&limits);
	net.job_delay_ns = 300 * OG_NS_PER_MS; /* busy workers */
	for (uint32_t i = 0; i < 3; i++) {
		uint32_t n = message_1(n1, i, &plain_client);

		shake(i < 2 ? &relay : &remote, server,
			(struct og_dht_handshake){.noise = n1, .noise_bytes = n}, (uint16_t)i);
		net_run(&net, 60 * OG_NS_PER_MS);
	}
	cr_assert_gt(og_dht_counts(server->dht)->handshakes_challenged, 0);
	net_run(&net, second);
	cr_assert_gt(nb_pings_heard, 0);
	cr_assert_eq(nb_heard, 1);
	shake(&remote, server,
		(struct og_dht_handshake){
			.noise = n1, .noise_bytes = message_1(n1, 2, &plain_client)},
		2);
	net_run(&net, second);
	cr_assert_eq(nb_heard, 2, "its retry is served");
}

/* Clients that exist: they answer a PING, as unmodified peers do. */
static void answer_pings(struct net *n, const struct sim_packet *p)
{
	struct og_dht_msg m;

	if (og_dht_msg_decode(&m, p->data, p->len_bytes) == 0 && !m.reply && m.internal) {
		nb_pings_heard++;
		send_msg(&p->dst, &p->src, (struct og_dht_msg){.reply = true, .tid = m.tid});
	}
}

/* Handshakes of clients that know the server's key, each from the next of so many hosts. */
static void strangers_shake(struct net_node *server, uint32_t *sent, uint32_t nb, uint32_t nb_hosts)
{
	for (uint32_t end = *sent + nb; *sent < end; ++*sent) {
		struct og_addr from = sim_addr(0x0a100000 + *sent % nb_hosts, 2000);
		uint8_t n1[300];
		uint32_t n = message_1(n1, 5000 + *sent, &plain_client);

		shake(&from, server, (struct og_dht_handshake){.noise = n1, .noise_bytes = n},
			(uint16_t)*sent);
	}
}

/* How many of 100 clients connect while 2,000 others a second shake hands from 4,000 addresses. */
static uint32_t connects_in_a_flood(uint64_t job_takes_ns)
{
	const struct og_dht_opts defaults = {0};
	struct net_node *server, *client;
	uint32_t sent = 0;

	net_grow(&net, 4);
	server = listening_server(&defaults);
	client = net_add_member(&net, 0x0a000102, 5000, OG_NO);
	net_run(&net, 2 * second);
	net.stranger = answer_pings;
	net.job_takes_ns = job_takes_ns;
	for (int ms = 0; ms < 10000; ms++) {
		if (ms % 100 == 50) {
			cr_assert_eq(og_dht_connect(client->dht, server->kp.public_key, NULL, 0,
					     (uint64_t)ms, net.sim.now_ns),
				0);
			net_kick(client);
		}
		strangers_shake(server, &sent, 2, 4000);
		net_run(&net, OG_NS_PER_MS);
	}
	net_run(&net, 30 * second);
	cr_assert_eq(client->nb_connected + client->nb_failed, 100);
	cr_log_info("%u connected, %lu challenged, %lu shed, %u PINGs", client->nb_connected,
		og_dht_counts(server->dht)->handshakes_challenged,
		og_dht_counts(server->dht)->handshakes_shed, nb_pings_heard);
	return client->nb_connected;
}

/* Four scalar multiplications of 83 us a handshake, in two jobs. */
Test(dht_handshake, clients_connect_under_2000_real_handshakes_a_second)
{
	cr_assert_geq(connects_in_a_flood(170 * OG_NS_PER_US), 99);
}

Test(dht_handshake, clients_connect_under_more_handshakes_than_a_worker_can_do)
{
	cr_assert_geq(connects_in_a_flood(330 * OG_NS_PER_US), 99);
}

/*
 * Sources that never answer, each heard of once, 20 a millisecond. The node looks topics up, and clients
 * come that it does not know yet.
 */
Test(dht_handshake, challenges_leave_the_node_its_own_requests)
{
	enum { CLIENTS = 20, TURN_MS = 400 };
	const struct og_dht_opts defaults = {0};
	struct net_node *server, *clients[CLIENTS];
	uint32_t sent = 0, done_late = 0, connected = 0;

	net_grow(&net, 4);
	server = listening_server(&defaults);
	for (uint32_t i = 0; i < CLIENTS; i++)
		clients[i] = net_add_member(&net, 0x0a000201 + i, 5000, OG_NO);
	net_run(&net, 5 * second);
	net.stranger = NULL;
	net.job_takes_ns = 330 * OG_NS_PER_US;
	for (uint32_t ms = 0; ms < CLIENTS * TURN_MS; ms++) {
		const uint32_t turn = ms / TURN_MS;
		const uint8_t topic[32] = {(uint8_t)turn};

		if (ms % TURN_MS == 0) {
			cr_assert_eq(og_dht_lookup(server->dht, topic, net.sim.now_ns), 0);
			net_kick(server);
			cr_assert_eq(og_dht_connect(clients[turn]->dht, server->kp.public_key, NULL,
					     0, turn, net.sim.now_ns),
				0);
			net_kick(clients[turn]);
		}
		if (ms % TURN_MS == TURN_MS - 1)
			done_late += server->nb_topic_done != turn + 1;
		strangers_shake(server, &sent, 20, UINT32_MAX);
		net_run(&net, OG_NS_PER_MS);
	}
	net_run(&net, 30 * second);
	for (uint32_t i = 0; i < CLIENTS; i++)
		connected += clients[i]->nb_connected;
	cr_assert_gt(og_dht_counts(server->dht)->handshakes_challenged, 140000);
	cr_expect_leq(og_dht_counts(server->dht)->handshakes, 10 * 512, "%lu for strangers",
		og_dht_counts(server->dht)->handshakes);
	cr_expect_eq(done_late, 0, "%u of 20 lookups took long", done_late);
	cr_expect_eq(connected, CLIENTS, "%u connected", connected);
	cr_expect_eq(og_dht_rpc(server->dht)->count.drops[OG_DHT_DROP_REQUEST_LIMIT], 0,
		"%lu refused", og_dht_rpc(server->dht)->count.drops[OG_DHT_DROP_REQUEST_LIMIT]);
}

Test(dht_handshake, a_source_on_the_internet_has_a_rate)
{
	const struct og_dht_opts limits = {.handshakes_per_s = 20};
	struct net_node *server;

	net_grow(&net, 3);
	server = listening_server(&limits);
	for (uint32_t i = 0; i < 1000; i++) {
		uint8_t n1[300];
		uint32_t n = message_1(n1, i, &plain_client);

		shake(&wan, server, (struct og_dht_handshake){.noise = n1, .noise_bytes = n},
			(uint16_t)i);
		net_run(&net, OG_NS_PER_MS);
	}
	net_run(&net, second);
	cr_assert_leq(nb_heard, 45);
	cr_assert_geq(nb_heard, 35);
	cr_assert_gt(og_dht_counts(server->dht)->handshakes_limited, 900);
}

Test(dht_handshake, as_many_strangers_as_said_go_without_a_proof)
{
	const struct og_dht_opts limits = {.strangers_per_s = 10};
	struct net_node *server;
	uint32_t sent = 0;

	net_grow(&net, 3);
	server = listening_server(&limits);
	net.stranger = NULL; /* none answers a PING */
	for (uint32_t ms = 0; ms < 10000; ms += 5) {
		strangers_shake(server, &sent, 1, UINT32_MAX);
		net_run(&net, 5 * OG_NS_PER_MS);
	}
	cr_assert_geq(og_dht_counts(server->dht)->handshakes_unproven, 100);
	cr_assert_leq(og_dht_counts(server->dht)->handshakes_unproven, 100 + 10);
	cr_assert_geq(og_dht_counts(server->dht)->handshakes_challenged, 1850);
}

Test(dht_handshake, a_source_beyond_its_rate_takes_nothing_from_other_strangers)
{
	const struct og_dht_opts limits = {.handshakes_per_s = 20};
	struct net_node *server;

	net_grow(&net, 3);
	server = listening_server(&limits);
	net.stranger = NULL; /* none answers a PING */
	for (uint32_t i = 0; i < 2000; i++) {
		uint8_t n1[300];
		uint32_t n = message_1(n1, i, &plain_client);

		shake(&wan, server, (struct og_dht_handshake){.noise = n1, .noise_bytes = n},
			(uint16_t)i);
		net_run(&net, OG_NS_PER_MS);
	}
	cr_assert_gt(og_dht_counts(server->dht)->handshakes_limited, 1900);
	cr_assert_eq(og_dht_counts(server->dht)->handshakes_challenged, 0);
}

/* ---- 10,000 attempts of each kind that fails: nothing may stay behind ---- */

enum { ATTEMPTS = 10000, AT_A_TIME = 50 };

static void storm(struct net_node *client, const uint8_t *fixed_key, uint32_t nb_relays, int reason,
	uint64_t each_ns)
{
	uint32_t failed = client->nb_failed;

	for (uint32_t i = 0; i < ATTEMPTS / AT_A_TIME; i++) {
		for (uint32_t k = 0; k < AT_A_TIME; k++) {
			uint8_t key[32] = {2};

			og_store_le32(key + 4, i * AT_A_TIME + k);
			cr_assert_eq(og_dht_connect(client->dht, fixed_key ? fixed_key : key,
					     &relay, nb_relays, k, net.sim.now_ns),
				0);
		}
		net_kick(client);
		net_run(&net, each_ns);
		cr_assert_eq(og_dht_nb_connects(client->dht), 0, "round %u", i);
	}
	cr_assert_eq(client->nb_failed - failed, ATTEMPTS);
	cr_assert_eq(client->last_reason, reason, "%d", client->last_reason);
	cr_assert_eq(client->nb_streams, 0);
	cr_assert_eq(client->nb_released, client->nb_failed);
}

static struct net_node *storm_client(enum og_auto firewalled)
{
	struct net_node *n = net_add_member(&net, 0x0a000300 + net.nb_nodes, 5000, firewalled);

	net_run(&net, 2 * second);
	return n;
}

Test(dht_handshake, storms_of_attempts_at_unknown_keys_leave_nothing)
{
	net_grow(&net, 2);
	storm(storm_client(OG_NO), NULL, 0, -ENOENT, second);
}

Test(dht_handshake, storms_of_attempts_through_dead_relays_leave_nothing)
{
	net_grow(&net, 2);
	storm(storm_client(OG_NO), NULL, 1, -ECONNREFUSED, 6 * second);
}

Test(dht_handshake, storms_of_attempts_that_are_refused_leave_nothing)
{
	struct net_node *server;
	const struct og_dht_opts none = {0};

	net_grow(&net, 2);
	server = listening_server(&none);
	net.stranger = NULL;
	server->refuse_incoming = true;
	storm(storm_client(OG_NO), server->kp.public_key, 0, -ECONNREFUSED, 16 * second);
	net_run(&net, 60 * second);
	cr_assert_eq(og_dht_nb_accepts(server->dht), 0);
	cr_assert_eq(server->nb_streams, 0);
}

Test(dht_handshake, storms_of_attempts_that_only_punching_could_help_leave_nothing)
{
	static const struct answer cases[] = {
		{.mode = OG_DHT_REPLY, .punch = true, .client_firewalled = OG_YES},
		{.mode = OG_DHT_REPLY,
			.punch = true,
			.same_host = true,
			.silent_lan = true,
			.address4 = ADDR(192, 168, 7, 7, 3000),
			.client_firewalled = OG_YES}};

	net_grow(&net, 2);
	net.stranger = play_server;
	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		script = &cases[i];
		storm(storm_client(OG_YES), NULL, 1, -EOPNOTSUPP, 6 * second);
	}
}

Test(dht_handshake, storms_of_attempts_whose_peer_never_sends_leave_nothing)
{
	static const struct answer quiet = {.mode = OG_DHT_REPLY, .punch = true};

	net_grow(&net, 2);
	net.stranger = play_server;
	script = &quiet;
	storm(storm_client(OG_NO), NULL, 1, -ETIMEDOUT, 12 * second);
}

Test(dht_handshake, storms_of_attempts_answered_with_errors_leave_nothing)
{
	static const struct answer bad = {.mode = OG_DHT_REPLY, .error = 1};

	net_grow(&net, 2);
	net.stranger = play_server;
	script = &bad;
	storm(storm_client(OG_NO), NULL, 1, -EREMOTEIO, second);
}

Test(dht_handshake, storms_of_clients_that_vanish_leave_nothing_at_the_server)
{
	const struct og_dht_opts none = {0};
	struct net_node *server;

	net_grow(&net, 2);
	server = listening_server(&none);
	for (uint32_t i = 0; i < ATTEMPTS; i++) {
		uint8_t n1[300];
		uint32_t n = message_1(n1, i, &plain_client);

		shake(&relay, server,
			(struct og_dht_handshake){.mode = OG_DHT_FROM_RELAY,
				.noise = n1,
				.noise_bytes = n,
				.has_peer = true,
				.peer = remote},
			(uint16_t)i);
		net_run(&net, 20 * OG_NS_PER_MS);
	}
	net_run(&net, 60 * second);
	cr_assert_eq(server->nb_released, ATTEMPTS);
	cr_assert_eq(og_dht_nb_accepts(server->dht), 0);
	cr_assert_eq(server->nb_streams, 0);
	cr_assert_eq(nb_udx_heard, 0, "nothing is sent to who has proved nothing");
}

Test(dht_handshake, storms_of_cancelled_attempts_leave_nothing)
{
	struct net_node *client;

	net_grow(&net, 2);
	client = storm_client(OG_NO);
	for (uint32_t i = 0; i < ATTEMPTS; i++) {
		uint8_t key[32] = {2};

		og_store_le32(key + 4, i);
		cr_assert_eq(og_dht_connect(client->dht, key, &relay, i % 2, i, net.sim.now_ns), 0);
		net_kick(client);
		net_run(&net, i % 50 * OG_NS_PER_MS);
		og_dht_connect_cancel(client->dht, i, net.sim.now_ns);
		cr_assert_eq(og_dht_nb_connects(client->dht), 0);
		cr_assert_eq(client->nb_streams, 0);
	}
	net_run(&net, 10 * second);
	cr_assert_lt(client->nb_failed, ATTEMPTS / 2); /* some end before they are cancelled */
	cr_assert_eq(client->nb_released, ATTEMPTS);
}

Test(dht_handshake, a_server_without_streams_or_jobs_is_silent_and_recovers)
{
	const struct og_dht_opts none = {0};
	struct net_node *server, *client;

	net_grow(&net, 3);
	server = listening_server(&none);
	client = storm_client(OG_NO);
	for (int k = 0; k < 2; k++) {
		server->nb_streams_max = k == 0 ? 0 : NET_STREAMS;
		server->no_jobs = k == 1;
		cr_assert_eq(og_dht_connect(client->dht, server->kp.public_key, NULL, 0, 1,
				     net.sim.now_ns),
			0);
		net_kick(client);
		net_run(&net, 30 * second);
		cr_assert_eq(client->nb_failed, (uint32_t)k + 1);
		cr_assert_eq(client->last_reason, -ECONNREFUSED);
		cr_assert_eq(og_dht_nb_accepts(server->dht), 0);
	}
	server->no_jobs = false;
	cr_assert_eq(
		og_dht_connect(client->dht, server->kp.public_key, NULL, 0, 1, net.sim.now_ns), 0);
	net_kick(client);
	net_run(&net, 5 * second);
	cr_assert_eq(client->nb_connected, 1);
}
