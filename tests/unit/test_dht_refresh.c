/* Announcing under trouble: full queues, slow and odd answers, changed sockets; and what outlives an
 * attempt to connect. */
#include "dht_net.h"

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

TestSuite(dht_refresh, .init = setup, .fini = teardown, .timeout = 60);

static void listen_on(struct net_node *n)
{
	cr_assert_eq(og_dht_listen(n->dht, net.sim.now_ns), 0);
	net_kick(n);
}

static struct net_node *member_of(uint32_t nb_nodes, enum og_auto firewalled)
{
	struct net_node *n;

	net_grow(&net, nb_nodes);
	n = net_add_member(&net, 0x0a000101, 5000, firewalled);
	net_run(&net, 2 * second);
	return n;
}

/* ---- A full queue of requests ---- */

static void on_nothing(void *ctx, uint64_t tag, const struct og_dht_reply *r, uint64_t now_ns)
{
	++*(uint32_t *)ctx;
}

/* As many requests to nobody as there is room for. */
static uint32_t fill_requests(struct net_node *n, uint32_t *ended)
{
	struct og_dht_rpc *rpc = og_dht_rpc(n->dht);
	uint32_t sent = 0;

	while (og_dht_requests_room(rpc) > 0)
		og_dht_request_send(rpc,
			&(struct og_dht_request){.to = sim_addr(0x0a630000 + sent++, 9),
				.internal = true,
				.any_endpoint = true,
				.fn = on_nothing,
				.ctx = ended},
			NULL, net.sim.now_ns);
	net_kick(n);
	return sent;
}

Test(dht_refresh, a_full_queue_of_requests_delays_an_announce_and_never_ends_it)
{
	struct net_node *n = member_of(10, OG_NO);
	uint32_t sent = 0, ended = 0;

	/* Full at the start, and time and again while it goes on. */
	sent += fill_requests(n, &ended);
	listen_on(n);
	for (int s = 0; s < 60; s++) {
		net_run(&net, second);
		sent += fill_requests(n, &ended);
	}
	net_run(&net, 60 * second);
	cr_assert_eq(n->nb_relays, 3, "a minute after the last wedge it is announced");
	/* The same in every later round. */
	for (int round = 0; round < 5; round++) {
		uint32_t states = n->nb_states;
		uint64_t rounds = og_dht_counts(n->dht)->announce_rounds;

		net_run(&net, 270 * second);
		for (int s = 0; s < 60; s++) {
			if (og_rand_below(&net.sim.rand, 3) > 0)
				sent += fill_requests(n, &ended);
			net_run(&net, second);
		}
		net_run(&net, 60 * second);
		cr_assert_gt(og_dht_counts(n->dht)->announce_rounds, rounds, "round %d", round);
		cr_assert_gt(n->nb_states, states, "round %d", round);
	}
	net_run(&net, 60 * second);
	cr_assert_eq(ended, sent, "each request ended once");
	cr_assert_eq(og_dht_rpc(n->dht)->req.nb_used, 0);
}

/* Runs until the node signs something, for at most a minute. */
static void run_to_signature(struct net_node *n)
{
	uint32_t before = n->job_head;

	for (int i = 0; i < 6000 && n->job_head == before; i++)
		net_run(&net, 10 * OG_NS_PER_MS);
	cr_assert_neq(n->job_head, before);
}

Test(dht_refresh, an_announce_that_is_refused_here_is_repeated_soon)
{
	struct net_node *n = member_of(10, OG_NO);
	uint32_t sent, ended = 0;

	net.job_delay_ns = 50 * OG_NS_PER_MS;
	listen_on(n);
	run_to_signature(n);
	sent = fill_requests(n, &ended);
	net_run(&net, second);
	cr_assert_eq(n->nb_relays, 0);
	net_run(&net, 10 * second);
	cr_assert_eq(n->nb_relays, 3);
	cr_assert_eq(ended, sent);
	cr_assert_geq(og_dht_counts(n->dht)->announce_rounds_failed, 1);
}

Test(dht_refresh, a_round_whose_work_is_lost_ends_after_a_minute)
{
	struct net_node *n = member_of(10, OG_NO);

	net.job_delay_ns = 50 * OG_NS_PER_MS;
	listen_on(n);
	run_to_signature(n);
	n->job_tail = n->job_head; /* its jobs never come back */
	net_run(&net, 50 * second);
	cr_assert_eq(n->nb_relays, 0);
	net_run(&net, 15 * second);
	cr_assert_eq(n->nb_relays, 3);
}

/* ---- Slow and odd answers to an ANNOUNCE ---- */

enum { SEEN = 64 };

static struct {
	struct og_addr from[SEEN]; /* nodes that were sent an ANNOUNCE, and its id */
	uint16_t tid[SEEN];
	uint32_t n;
	uint32_t nb_late;
	uint32_t from_server_socket, from_client_socket;
} announces;

static bool answers_announce(const struct og_addr *src, const struct og_dht_msg *m)
{
	for (uint32_t i = 0; i < SEEN; i++)
		if (announces.tid[i] == m->tid && og_addr_eq(&announces.from[i], src))
			return true;
	return false;
}

static void note_announce(
	const struct net *n, const struct og_addr *src, const struct og_addr *dst, uint16_t tid)
{
	announces.from[announces.n % SEEN] = *dst;
	announces.tid[announces.n++ % SEEN] = tid;
	if (src->port == 5000)
		announces.from_server_socket++;
	else
		announces.from_client_socket++;
}

/* Answers to ANNOUNCE take 3 s. */
static bool delay_answers(struct net *n, const struct og_addr *src, const struct og_addr *dst,
	const uint8_t *data, uint16_t len_bytes)
{
	uint64_t min = n->sim.delay_min_ns, max = n->sim.delay_max_ns;
	struct og_dht_msg m;

	if (og_dht_msg_decode(&m, data, len_bytes) < 0)
		return false;
	if (!m.reply && !m.internal && m.command == 4)
		note_announce(n, src, dst, m.tid);
	if (!m.reply || !answers_announce(src, &m))
		return false;
	n->sim.delay_min_ns = n->sim.delay_max_ns = 3 * OG_NS_PER_S;
	sim_send(&n->sim, src, dst, data, len_bytes);
	n->sim.delay_min_ns = min;
	n->sim.delay_max_ns = max;
	announces.nb_late++;
	return true;
}

Test(dht_refresh, the_relay_list_is_never_empty_after_the_first_success)
{
	struct net_node *n = member_of(10, OG_NO);
	struct og_addr relays[OG_DHT_RECORD_RELAYS];
	uint32_t nb_late;

	net.drop = delay_answers;
	listen_on(n);
	net_run(&net, 10 * second);
	cr_assert_eq(n->nb_relays, 3);
	nb_late = announces.nb_late;
	/* Over three rounds, while relays die and the address changes. */
	for (uint32_t t = 0; t < 9000; t++) {
		if (t == 3000)
			n->local[0].port = 6000;
		if (t == 6000)
			net.nodes[4]->down = net.nodes[5]->down = net.nodes[6]->down = true;
		net_run(&net, 100 * OG_NS_PER_MS);
		cr_assert_eq(og_dht_relays(n->dht, relays), 3, "at %u ms", 100 * t);
	}
	cr_assert_gt(announces.nb_late, nb_late + 6);
}

/* No reply carries a token. */
static bool strip_tokens(struct net *n, const struct og_addr *src, const struct og_addr *dst,
	const uint8_t *data, uint16_t len_bytes)
{
	uint8_t bare[SIM_MTU];
	struct og_writer w = og_writer_of(bare, sizeof(bare));
	struct og_dht_msg m;

	if (og_dht_msg_decode(&m, data, len_bytes) < 0 || !m.reply || !m.token)
		return false;
	m.token = NULL;
	cr_assert_eq(og_dht_msg_encode(&m, &w), 0);
	sim_send(&n->sim, src, dst, bare, (uint16_t)og_writer_len(&w));
	return true;
}

Test(dht_refresh, nodes_that_give_no_token_store_nothing_and_that_is_an_error)
{
	static const uint8_t topic[32] = "a topic", value[] = "a value";
	struct net_node *n = member_of(10, OG_NO);

	net.drop = strip_tokens;
	listen_on(n);
	cr_assert_eq(og_dht_announce(n->dht, topic, net.sim.now_ns), 0);
	cr_assert_eq(og_dht_immutable_put(n->dht, value, sizeof(value), 1, net.sim.now_ns), 0);
	net_kick(n);
	net_run(&net, 30 * second);
	cr_assert_eq(n->nb_topic_done, 1);
	cr_assert_eq(n->topic_status, -EREMOTEIO);
	cr_assert_eq(n->topic_stored, 0);
	cr_assert_eq(n->nb_values, 1);
	cr_assert_eq(n->value_status, -EREMOTEIO);
	cr_assert_eq(n->nb_relays, 0);
	cr_assert_geq(og_dht_counts(n->dht)->announce_rounds_failed, 3);
	net.drop = NULL;
	net_run(&net, 40 * second);
	cr_assert_eq(n->nb_relays, 3, "and it goes on trying");
}

/* ---- Sockets and lifetimes ---- */

static bool watch_announces(struct net *n, const struct og_addr *src, const struct og_addr *dst,
	const uint8_t *data, uint16_t len_bytes)
{
	struct og_dht_msg m;

	if (og_dht_msg_decode(&m, data, len_bytes) == 0 && !m.reply && !m.internal &&
		m.command == 4)
		note_announce(n, src, dst, m.tid);
	return false;
}

Test(dht_refresh, a_node_found_open_announces_from_its_server_socket_at_once)
{
	struct net_node *n = member_of(10, OG_YES);
	uint32_t before;

	net.drop = watch_announces;
	listen_on(n);
	net_run(&net, 20 * second);
	cr_assert_eq(n->nb_relays, 3);
	cr_assert_eq(announces.from_client_socket, 3);
	cr_assert_eq(announces.from_server_socket, 0);
	og_dht_rpc(n->dht)->self.firewalled = false;
	net_run(&net, 2 * second);
	cr_assert_eq(announces.from_server_socket, 3);
	before = announces.from_client_socket;
	net_run(&net, 400 * second);
	cr_assert_eq(announces.from_client_socket, before, "and never from the other again");
}

Test(dht_refresh, a_topic_is_still_listed_after_a_lost_refresh)
{
	static const uint8_t topic[32] = "a topic";
	struct net_node *a = member_of(10, OG_NO), *b;

	b = net_add_member(&net, 0x0a000102, 5000, OG_NO);
	net_run(&net, 2 * second);
	listen_on(a);
	net_run(&net, 5 * second);
	cr_assert_eq(og_dht_announce(a->dht, topic, net.sim.now_ns), 0);
	net_kick(a);
	net_run(&net, 5 * second);
	cr_assert_eq(a->topic_status, 0);
	/* Refreshes come every 6 minutes at the latest: two of them, and the first is lost. */
	net_run(&net, 2 * 360 * second);
	cr_assert_eq(og_dht_lookup(b->dht, topic, net.sim.now_ns), 0);
	net_kick(b);
	net_run(&net, 5 * second);
	cr_assert_eq(b->nb_peers, 1);
}

Test(dht_refresh, nodes_started_together_do_not_refresh_together)
{
	enum { N = 50 };
	struct sim sim;
	struct og_dht_rpc_opts opts = {.ephemeral = OG_YES};
	uint32_t in_tick[5] = {0}, by_check[8] = {0}, by_refresh[OG_DHT_REFRESH_TICKS] = {0};

	sim_init(&sim, 1);
	for (uint32_t i = 0; i < N; i++) {
		const struct og_dht_rpc *rpc = sim_add(&sim, 0x0a000001 + i, 4000, &opts)->rpc;
		uint64_t wait = rpc->next_tick_ns - sim.now_ns;

		cr_assert_leq(wait, OG_DHT_TICK_NS);
		in_tick[OG_MIN(wait / OG_NS_PER_S, 4)]++;
		by_check[rpc->tick % 8]++;
		by_refresh[rpc->refresh_ticks - 1]++;
	}
	for (unsigned i = 2; i < 5; i++)
		cr_assert_leq(in_tick[i], N / 2);
	for (unsigned i = 0; i < 8; i++)
		cr_assert_leq(by_check[i], N / 3);
	for (unsigned i = 0; i < OG_DHT_REFRESH_TICKS; i++)
		cr_assert_leq(by_refresh[i], N / 5);
	sim_fini(&sim);
}

/* ---- Attempts ---- */

static void connect_to(struct net_node *from, const struct net_node *to)
{
	cr_assert_eq(og_dht_connect(from->dht, to->kp.public_key, NULL, 0, 7, net.sim.now_ns), 0);
	net_kick(from);
}

Test(dht_refresh, a_connection_outlives_every_timer_of_its_attempt)
{
	static const enum og_auto kinds[][2] = {
		{OG_NO, OG_NO}, {OG_NO, OG_YES}, {OG_YES, OG_NO}, {OG_YES, OG_YES}};

	net_grow(&net, 10);
	for (uint32_t k = 0; k < OG_ARRAY_LEN(kinds); k++) {
		struct net_node *server =
			net_add_member(&net, 0x0a000101 + 2 * k, 5000, kinds[k][0]);
		struct net_node *client =
			net_add_member(&net, 0x0a000102 + 2 * k, 5000, kinds[k][1]);

		net_run(&net, 2 * second);
		listen_on(server);
		net_run(&net, 5 * second);
		connect_to(client, server);
		net_run(&net, 200 * second);
		cr_assert_eq(client->nb_connected, 1);
		cr_assert_eq(server->nb_connected, 1);
		cr_assert_eq(og_dht_nb_connects(client->dht), 0);
		cr_assert_eq(og_dht_nb_accepts(server->dht), 0, "its session is over");
		cr_assert_eq(client->nb_streams, 1);
		cr_assert_eq(server->nb_streams, 1);
		cr_assert_eq(client->nb_released + server->nb_released, 0);
	}
}

enum lie { WRONG_MODE, NO_VALUE, CUT_VALUE, SPOILED_NOISE, FROM_ELSEWHERE, NB_LIES };
static enum lie lie;
static struct og_addr liar;
static uint32_t nb_lies;

static bool is_handshake_reply(const struct og_dht_msg *m, struct og_dht_handshake *h)
{
	return m->reply && m->has_value &&
	       og_dht_handshake_decode(h, m->value, m->value_bytes) == 0 &&
	       h->mode == OG_DHT_REPLY && h->noise_bytes > 48;
}

/* The first node that answers a handshake lies, always in the same way. */
static bool tell_lies(struct net *n, const struct og_addr *src, const struct og_addr *dst,
	const uint8_t *data, uint16_t len_bytes)
{
	static const struct og_addr elsewhere = {{10, 0, 99, 9}, 999};
	uint8_t out[SIM_MTU], value[600];
	struct og_writer w = og_writer_of(out, sizeof(out));
	struct og_writer v = og_writer_of(value, sizeof(value));
	struct og_dht_msg m;
	struct og_dht_handshake h;

	if (og_dht_msg_decode(&m, data, len_bytes) < 0 || !is_handshake_reply(&m, &h))
		return false;
	if (liar.port == 0)
		liar = *src;
	if (!og_addr_eq(&liar, src))
		return false;
	nb_lies++;
	if (lie == SPOILED_NOISE || lie == FROM_ELSEWHERE)
		((uint8_t *)h.noise)[60] ^= 1;
	h.mode = lie == WRONG_MODE ? OG_DHT_FROM_SERVER : OG_DHT_REPLY;
	og_dht_handshake_encode(&v, &h);
	m.value = value;
	m.value_bytes = (uint32_t)og_writer_len(&v) / (lie == CUT_VALUE ? 2 : 1);
	m.has_value = lie != NO_VALUE;
	cr_assert_eq(og_dht_msg_encode(&m, &w), 0);
	sim_send(&n->sim, lie == FROM_ELSEWHERE ? &elsewhere : src, dst, out,
		(uint16_t)og_writer_len(&w));
	return true;
}

Test(dht_refresh, a_relay_that_lies_does_not_spoil_the_attempt)
{
	struct net_node *server;

	net_grow(&net, 10);
	server = net_add_member(&net, 0x0a000101, 5000, OG_NO);
	net_run(&net, 2 * second);
	listen_on(server);
	net_run(&net, 5 * second);
	net.drop = tell_lies;
	for (uint32_t i = 0; i < NB_LIES; i++) {
		struct net_node *client = net_add_member(&net, 0x0a000201 + i, 5000, OG_YES);

		net_run(&net, 2 * second);
		lie = (enum lie)i;
		liar.port = 0;
		nb_lies = 0;
		connect_to(client, server);
		net_run(&net, 15 * second);
		cr_assert_gt(nb_lies, 0, "lie %u", i);
		cr_assert_eq(client->nb_connected, 1, "lie %u", i);
		cr_assert_eq(server->nb_connected, i + 1, "lie %u", i);
		cr_assert_eq(client->nb_streams, 1, "lie %u", i);
	}
}
