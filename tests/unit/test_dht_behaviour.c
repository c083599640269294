/* The sections behaviour and relaying of dht.json: datagrams in, datagrams out of a live node. */
#include "dht_net.h"

#include "crypto/hash.h"
#include "crypto/namespaces.h"
#include "crypto/sign.h"
#include "crypto/token.h"
#include "dht/values.h"
#include "dht_vectors.h"

enum { EMITS_MAX = 16 };

static struct net net;

static struct emit {
	struct og_addr from, to;
	uint16_t len_bytes;
	bool matched;
	uint8_t data[SIM_MTU];
} emits[EMITS_MAX];
static unsigned nb_emits;

static bool keep(struct net *unused, const struct og_addr *src, const struct og_addr *dst,
	const uint8_t *data, uint16_t len_bytes)
{
	cr_assert_lt(nb_emits, EMITS_MAX);
	emits[nb_emits] = (struct emit){.from = *src, .to = *dst, .len_bytes = len_bytes};
	memcpy(emits[nb_emits++].data, data, len_bytes);
	return true;
}

static void setup(void)
{
	net_init(&net, 1);
	net.drop = keep;
}

static void teardown(void)
{
	net_fini(&net);
}

TestSuite(dht_behaviour, .init = setup, .fini = teardown);

/* ---- A node as the vectors have it ---- */

static struct net_node *add_node(uint16_t port, uint8_t secret)
{
	struct og_dht_opts opts = {.rpc = {.public_addr = sim_addr(0x7f000001, port),
					   .ephemeral = OG_NO,
					   .firewalled = OG_NO},
		.store = {.wall_ms = 1700000000000ull}};
	struct net_node *n = net_add(&net, 0x7f000001, port, &opts);
	struct og_dht_rpc *rpc = og_dht_rpc(n->dht);

	og_dht_tick(n->dht, net.sim.now_ns);
	cr_assert(og_dht_rpc_persistent(rpc));
	memset(rpc->token.secrets[0], secret, 32);
	memset(rpc->token.secrets[1], secret + 1, 32);
	rpc->token.rotate_at_ns = OG_NEVER;
	return n;
}

static void add_to_table(struct net_node *n, const struct og_addr *a)
{
	struct og_dht_rpc *rpc = og_dht_rpc(n->dht);
	uint8_t id[32];

	og_dht_node_id(id, a);
	cr_assert_eq(og_dht_table_add(rpc->table, id, a, false, rpc->tick - 1, NULL), 0);
}

static int by_addr(const void *a, const void *b)
{
	return memcmp(a, b, 6);
}

/* Closer nodes are compared as a set. */
static void sort_closer(uint8_t *data, size_t n)
{
	struct og_dht_msg m;

	cr_assert_eq(og_dht_msg_decode(&m, data, n), 0);
	if (m.nb_closer > 0)
		qsort(data + (m.closer - data), m.nb_closer, 6, by_addr);
}

static void expect_emit(json_t *want, const char *scenario)
{
	struct og_addr from = vector_addr(json_object_get(want, "from"));
	struct og_addr to = vector_addr(json_object_get(want, "to"));
	struct vector_bytes bytes = vector_field(want, "hex");

	sort_closer(bytes.data, bytes.len);
	for (unsigned i = 0; i < nb_emits; i++) {
		struct emit *e = &emits[i];

		sort_closer(e->data, e->len_bytes);
		if (e->matched || e->len_bytes != bytes.len ||
			memcmp(e->data, bytes.data, bytes.len) != 0 ||
			!og_addr_eq(&e->from, &from) || !og_addr_eq(&e->to, &to))
			continue;
		e->matched = true;
		return;
	}
	cr_assert_fail(
		"%s: not sent: %s", scenario, json_string_value(json_object_get(want, "hex")));
}

static void feed(struct net_node *n, const struct og_addr *from, const uint8_t *data, size_t len)
{
	nb_emits = 0;
	og_dht_input(n->dht, 0, from, data, (uint16_t)len, net.sim.now_ns);
	net.sim.now_ns += 10 * OG_NS_PER_MS;
	net_step(&net, n);
}

/* What a newcomer gets before it enters the table; the reference does not ask. */
static bool is_ping(const struct emit *e)
{
	struct og_dht_msg m;

	cr_assert_eq(og_dht_msg_decode(&m, e->data, e->len_bytes), 0);
	return !m.reply && m.internal && m.command == OG_DHT_PING;
}

static void run_step(struct net_node *n, json_t *step, const char *scenario)
{
	struct og_addr from = vector_addr(json_object_get(step, "from"));
	struct vector_bytes in = vector_field(step, "hex");
	json_t *want = json_object_get(step, "emits");
	size_t i;
	json_t *w;

	feed(n, &from, in.data, in.len);
	json_array_foreach(want, i, w) expect_emit(w, scenario);
	for (i = 0; i < nb_emits; i++)
		cr_assert(emits[i].matched || is_ping(&emits[i]), "%s: too much sent", scenario);
}

/* ---- behaviour ---- */

Test(dht_behaviour, of_the_storing_commands)
{
	static const char *const scenarios[] = {"lookup-empty", "announce-topic",
		"announce-relay-limit", "announce-bad", "announce-bump", "announce-self",
		"announce-refresh", "immutable", "mutable"};
	json_t *section = vector_section("behaviour");

	for (size_t k = 0; k < OG_ARRAY_LEN(scenarios); k++) {
		json_t *v = vector_named(section, scenarios[k]);
		json_t *table = json_object_get(json_object_get(v, "input"), "routing_table");
		struct net_node *n = add_node(10001, 0xa0);
		size_t i;
		json_t *item;

		json_array_foreach(table, i, item)
		{
			struct og_addr a = vector_addr(item);

			add_to_table(n, &a);
		}
		json_array_foreach(json_object_get(json_object_get(v, "expected"), "steps"), i,
			item) run_step(n, item, scenarios[k]);
		net.nb_nodes--;
		net_remove(n);
	}
}

/* ---- relaying ---- */

static struct og_keypair server_key;
static uint8_t server_target[32];

/* The announce-self of 127.0.0.1:30001 that the section builds on. */
static void announce_server(struct net_node *n)
{
	struct og_dht_rpc *rpc = og_dht_rpc(n->dht);
	struct og_addr from = sim_addr(0x7f000001, 30001);
	uint8_t token[32], record[33] = {0}, signature[64], value[200], datagram[400];
	struct og_dht_announce a = {
		.has_peer = true, .peer = {.raw = record, .raw_bytes = 33}, .signature = signature};
	struct og_writer v = og_writer_of(value, sizeof(value));
	struct og_writer w = og_writer_of(datagram, sizeof(datagram));
	struct og_dht_msg m = {.tid = 1,
		.to = n->local[0],
		.token = token,
		.command = 4,
		.target = server_target,
		.has_value = true,
		.value = value};

	memcpy(record, server_key.public_key, 32);
	og_token_of_host(token, rpc->token.secrets[1], &from);
	cr_assert_eq(og_sign_announce(signature, &server_key, og_ns_announce, server_target,
			     og_dht_rpc_id(rpc), token, record, sizeof(record), NULL),
		0);
	og_dht_announce_encode(&v, &a);
	m.value_bytes = (uint32_t)og_writer_len(&v);
	cr_assert_eq(og_dht_msg_encode(&m, &w), 0);
	feed(n, &from, datagram, og_writer_len(&w));
	cr_assert_eq(nb_emits, 1);
	cr_assert_eq(og_dht_stored(n->dht).routes, 1);
}

static void expect_closer_nodes(struct net_node *n, json_t *step)
{
	json_t *emit = json_array_get(json_object_get(step, "emits"), 0);
	struct vector_bytes bytes = vector_field(emit, "hex");
	struct og_dht_msg m;

	cr_assert_eq(og_dht_msg_decode(&m, bytes.data, bytes.len), 0);
	for (uint32_t i = 0; i < m.nb_closer; i++) {
		struct og_addr a = og_dht_addr4_load(m.closer + 6 * (size_t)i);

		add_to_table(n, &a);
	}
}

Test(dht_behaviour, of_a_relay)
{
	json_t *section = vector_section("relaying");
	struct net_node *relay = add_node(10001, 0xa0), *second = add_node(10003, 0xb0);
	uint8_t seed[32];
	unsigned ran = 0;
	size_t k, i;
	json_t *v, *step;

	memset(seed, 1, sizeof(seed));
	og_keypair_from_seed(&server_key, seed);
	og_hash_one(server_target, server_key.public_key, 32);
	announce_server(relay);
	announce_server(second);
	/* A second relay is only believed when it has answered us. */
	og_dht_proven_add(og_dht_rpc(relay->dht)->proven, &second->local[0], net.sim.now_ns);
	json_array_foreach(section, k, v)
	{
		json_t *steps = json_object_get(json_object_get(v, "expected"), "steps");

		if (strcmp(vector_name(v), "handshake-no-route") == 0)
			expect_closer_nodes(relay, json_array_get(steps, 0));
		json_array_foreach(steps, i, step)
		{
			struct og_addr to = vector_addr(json_object_get(step, "to"));

			if (to.port == 30001)
				continue; /* the server's part: tests/vectors/exceptions.md */
			run_step(to.port == 10001 ? relay : second, step, vector_name(v));
			ran++;
		}
	}
	cr_assert_eq(ran, 10);
}

Test(dht_behaviour, of_a_relay_sends_nothing_to_strangers)
{
	json_t *section = vector_section("relaying");
	struct net_node *relay = add_node(10001, 0xa0);
	static const char *const names[] = {
		"handshake-one-relay", "handshake-two-relays", "holepunch-one-relay"};

	for (size_t k = 0; k < OG_ARRAY_LEN(names); k++) {
		json_t *v = vector_named(section, names[k]);
		json_t *steps = json_object_get(json_object_get(v, "expected"), "steps");
		size_t i;
		json_t *step;

		json_array_foreach(steps, i, step)
		{
			struct og_addr to = vector_addr(json_object_get(step, "to"));
			struct og_addr from = vector_addr(json_object_get(step, "from"));
			struct vector_bytes in = vector_field(step, "hex");

			if (to.port != 10001)
				continue;
			feed(relay, &from, in.data, in.len);
			for (unsigned e = 0; e < nb_emits; e++)
				cr_assert(og_addr_eq(&emits[e].to, &from),
					"%s: only the asker is answered", names[k]);
		}
	}
}
