#include "dht_sim.h"

#include <errno.h>
#include <jansson.h>

static json_t *root;

static json_t *section(const char *name)
{
	json_error_t err;

	if (!root)
		root = json_load_file(OG_VECTORS "/dht.json", 0, &err);
	cr_assert_not_null(root, "%s", err.text);
	return json_object_get(json_object_get(root, "sections"), name);
}

static const char *str(const json_t *v, const char *key)
{
	return json_string_value(json_object_get(v, key));
}

static size_t unhex(const char *text, uint8_t *out, size_t cap)
{
	size_t n = text ? strlen(text) / 2 : 0;

	cr_assert_leq(n, cap);
	for (size_t i = 0; i < n; i++) {
		unsigned byte;

		cr_assert_eq(sscanf(text + 2 * i, "%2x", &byte), 1);
		out[i] = (uint8_t)byte;
	}
	return n;
}

static struct og_addr addr_of(const char *text)
{
	struct og_addr a;

	cr_assert_eq(og_addr_parse(&a, text), 0);
	return a;
}

#define FOR_EACH(vec, list)                                                                        \
	for (size_t i_##vec = 0; i_##vec < json_array_size(list); i_##vec++)                       \
		for (json_t *vec = json_array_get(list, i_##vec); vec; vec = NULL)

/* ---- primitives ---- */

static bool write_primitive(struct og_writer *w, const char *name, const json_t *in)
{
	uint8_t buf[512];
	size_t n;

	if (strncmp(name, "uint-", 5) == 0) {
		og_write_uint(w, strtoull(str(in, "value"), NULL, 10));
	} else if (strncmp(name, "uint16-", 7) == 0) {
		og_write_le16(w, (uint16_t)json_integer_value(json_object_get(in, "value")));
	} else if (strncmp(name, "uint32-", 7) == 0) {
		og_write_le32(w, (uint32_t)json_integer_value(json_object_get(in, "value")));
	} else if (strncmp(name, "buffer-", 7) == 0) {
		n = unhex(str(in, "bytes"), buf, sizeof(buf));
		og_write_buffer(w, buf, (uint32_t)n);
	} else if (strncmp(name, "fixed", 5) == 0) {
		n = unhex(str(in, "bytes"), buf, sizeof(buf));
		og_write_bytes(w, buf, n);
	} else if (strcmp(name, "string") == 0) {
		og_write_buffer(w, str(in, "value"), (uint32_t)strlen(str(in, "value")));
	} else if (strncmp(name, "ipv4-array-", 11) == 0) {
		json_t *list = json_object_get(in, "addresses");

		og_write_uint(w, json_array_size(list));
		FOR_EACH(item, list)
		{
			struct og_addr a = addr_of(json_string_value(item));

			og_write_addr4(w, &a);
		}
	} else if (strncmp(name, "ipv4-", 5) == 0) {
		struct og_addr a = addr_of(str(in, "address"));

		og_write_addr4(w, &a);
	} else {
		return false; /* addr6 is a matter of the noise payload */
	}
	return true;
}

Test(dht_vectors, primitives_are_written_byte_for_byte)
{
	unsigned ran = 0;

	FOR_EACH(v, section("primitives"))
	{
		uint8_t want[512];
		uint8_t got[512];
		struct og_writer w = og_writer_of(got, sizeof(got));
		size_t n = unhex(str(json_object_get(v, "expected"), "hex"), want, sizeof(want));

		if (!write_primitive(&w, str(v, "name"), json_object_get(v, "input")))
			continue;
		cr_assert(og_writer_ok(&w));
		cr_assert_eq(og_writer_len(&w), n, "%s", str(v, "name"));
		cr_assert_arr_eq(got, want, n, "%s", str(v, "name"));
		ran++;
	}
	cr_assert_eq(ran, 37);
}

Test(dht_vectors, primitives_are_read_back)
{
	FOR_EACH(v, section("primitives"))
	{
		uint8_t buf[512];
		const char *name = str(v, "name");
		const json_t *in = json_object_get(v, "input");
		size_t n = unhex(str(json_object_get(v, "expected"), "hex"), buf, sizeof(buf));
		struct og_reader r = og_reader_of(buf, n);

		if (strncmp(name, "uint-", 5) == 0) {
			cr_assert_eq(og_read_uint(&r), strtoull(str(in, "value"), NULL, 10));
		} else if (strncmp(name, "buffer-", 7) == 0) {
			uint32_t len;
			uint8_t want[512];

			cr_assert_not_null(og_read_buffer(&r, &len));
			cr_assert_eq(len, unhex(str(in, "bytes"), want, sizeof(want)));
		} else if (strncmp(name, "ipv4-", 5) == 0 && str(in, "address")) {
			struct og_addr a = og_read_addr4(&r);
			struct og_addr want = addr_of(str(in, "address"));

			cr_assert(og_addr_eq(&a, &want));
		} else {
			continue;
		}
		cr_assert(og_reader_ok(&r), "%s", name);
		cr_assert_eq(og_reader_left(&r), 0, "%s", name);
	}
}

/* ---- ids, tokens ---- */

Test(dht_vectors, node_ids)
{
	FOR_EACH(v, section("node_ids"))
	{
		struct og_addr a = addr_of(str(json_object_get(v, "input"), "address"));
		uint8_t want[32];
		uint8_t got[32];

		unhex(str(json_object_get(v, "expected"), "id"), want, 32);
		og_dht_node_id(got, &a);
		cr_assert_arr_eq(got, want, 32);
	}
}

/* ---- datagrams ---- */

static void same_part(const uint8_t *got, const char *want_hex)
{
	uint8_t want[32];

	cr_assert_eq(got == NULL, want_hex == NULL);
	if (want_hex) {
		unhex(want_hex, want, 32);
		cr_assert_arr_eq(got, want, 32);
	}
}

static void comes_back(const struct og_dht_msg *m, const uint8_t *want, size_t n)
{
	uint8_t buf[2048];
	struct og_writer w = og_writer_of(buf, sizeof(buf));

	cr_assert_eq(og_dht_msg_encode(m, &w), 0);
	cr_assert_eq(og_writer_len(&w), n);
	cr_assert_arr_eq(buf, want, n);
}

static void every_cut_fails(const uint8_t *data, size_t n)
{
	struct og_dht_msg m;

	for (size_t cut = 0; cut < n; cut++)
		cr_assert_eq(og_dht_msg_decode(&m, data, cut), -EBADMSG);
}

Test(dht_vectors, requests_decode_and_encode_to_the_same_bytes)
{
	cr_assert_eq(json_array_size(section("requests")), 30);
	FOR_EACH(v, section("requests"))
	{
		const json_t *in = json_object_get(v, "input");
		uint8_t buf[2048];
		size_t n = unhex(str(json_object_get(v, "expected"), "hex"), buf, sizeof(buf));
		struct og_addr to = addr_of(str(in, "to"));
		struct og_dht_msg m;

		cr_assert_eq(og_dht_msg_decode(&m, buf, n), 0);
		cr_assert_not(m.reply);
		cr_assert_eq(m.tid, json_integer_value(json_object_get(in, "tid")));
		cr_assert(og_addr_eq(&m.to, &to));
		cr_assert_eq(m.internal, json_is_true(json_object_get(in, "internal")));
		cr_assert_eq(
			m.command, (uint64_t)json_integer_value(json_object_get(in, "command")));
		same_part(m.id, str(in, "sender_id"));
		same_part(m.target, str(in, "target"));
		same_part(m.token, str(in, "token"));
		cr_assert_eq(m.has_value, json_object_get(in, "value") != NULL);
		comes_back(&m, buf, n);
		every_cut_fails(buf, n);
	}
}

Test(dht_vectors, replies_decode_and_encode_to_the_same_bytes)
{
	cr_assert_eq(json_array_size(section("replies")), 7);
	FOR_EACH(v, section("replies"))
	{
		const json_t *in = json_object_get(v, "input");
		const json_t *closer = json_object_get(in, "closer");
		uint8_t buf[2048];
		size_t n = unhex(str(json_object_get(v, "expected"), "hex"), buf, sizeof(buf));
		struct og_addr to = addr_of(str(in, "to"));
		struct og_dht_msg m;

		cr_assert_eq(og_dht_msg_decode(&m, buf, n), 0);
		cr_assert(m.reply);
		cr_assert_eq(m.tid, json_integer_value(json_object_get(in, "tid")));
		cr_assert(og_addr_eq(&m.to, &to));
		same_part(m.id, str(in, "id"));
		same_part(m.token, str(in, "token"));
		cr_assert_eq(m.error, json_integer_value(json_object_get(in, "error")));
		cr_assert_eq(m.nb_closer, json_array_size(closer));
		for (uint32_t i = 0; i < m.nb_closer; i++) {
			struct og_addr got = og_dht_addr4_load(m.closer + 6 * i);
			struct og_addr want = addr_of(json_string_value(json_array_get(closer, i)));

			cr_assert(og_addr_eq(&got, &want));
		}
		cr_assert_eq(m.has_value, json_object_get(in, "value") != NULL);
		comes_back(&m, buf, n);
		every_cut_fails(buf, n);
	}
}

/* ---- table and NAT sampler ---- */

static struct og_dht_table *filled_table(void)
{
	struct og_addr own = addr_of("127.0.0.1:10001");
	struct og_dht_table *t;
	uint8_t center[32];
	json_t *added = json_object_get(
		json_object_get(json_array_get(section("routing_table"), 0), "expected"), "added");

	og_dht_node_id(center, &own);
	cr_assert_eq(og_dht_table_create(&t, 2048, center, 1), 0);
	FOR_EACH(item, added)
	{
		unsigned port;
		unsigned kept;
		struct og_addr a = own;
		uint8_t id[32];

		cr_assert_eq(sscanf(json_string_value(item), "%u:%u", &port, &kept), 2);
		a.port = (uint16_t)port;
		og_dht_node_id(id, &a);
		cr_assert_eq(og_dht_table_add(t, id, &a, false, 1, NULL), kept ? 0 : -ENOSPC,
			"port %u", port);
	}
	return t;
}

Test(dht_vectors, the_table_keeps_and_refuses_the_same_nodes)
{
	og_dht_table_destroy(filled_table());
}

/* The reference answers other nodes than the true nearest: see exceptions.md. */
Test(dht_vectors, closer_nodes_are_as_many_and_never_farther_than_those_of_the_reference)
{
	struct og_dht_table *t = filled_table();

	for (size_t i = 1; i < json_array_size(section("routing_table")); i++) {
		const json_t *v = json_array_get(section("routing_table"), i);
		const json_t *ports = json_object_get(json_object_get(v, "expected"), "ports");
		uint8_t got[20 * 6];
		uint8_t target[32];
		uint8_t far_ours[32];
		struct og_addr a;

		unhex(str(json_object_get(v, "input"), "target"), target, 32);
		cr_assert_eq(og_dht_table_closest(t, target, 20, got), json_array_size(ports));
		a = og_dht_addr4_load(got + 19 * 6);
		og_dht_node_id(far_ours, &a);
		for (unsigned j = 0; j < 32; j++)
			far_ours[j] ^= target[j];
		for (size_t j = 0; j < json_array_size(ports); j++) {
			uint8_t id[32];
			bool ours = false;

			a.port = (uint16_t)json_integer_value(json_array_get(ports, j));
			for (unsigned k = 0; k < 20; k++)
				ours |= og_load_le16(got + 6 * k + 4) == a.port;
			og_dht_node_id(id, &a);
			for (unsigned k = 0; k < 32; k++)
				id[k] ^= target[k];
			cr_assert(ours || memcmp(id, far_ours, 32) > 0);
		}
	}
	og_dht_table_destroy(t);
}

Test(dht_vectors, nat_sampler)
{
	cr_assert_eq(json_array_size(section("nat_sampler")), 8);
	FOR_EACH(v, section("nat_sampler"))
	{
		const json_t *samples = json_object_get(json_object_get(v, "input"), "samples");
		const json_t *states = json_object_get(json_object_get(v, "expected"), "states");
		struct og_dht_nat nat;

		og_dht_nat_init(&nat);
		for (size_t i = 0; i < json_array_size(samples); i++) {
			struct og_addr a = addr_of(json_string_value(json_array_get(samples, i)));
			const char *want = json_string_value(json_array_get(states, i));
			char text[OG_ADDR_TEXT_BYTES];

			og_dht_nat_add(&nat, &a);
			if (nat.known)
				og_addr_format(&nat.addr, text);
			cr_assert_str_eq(nat.known ? text : "null:0", want, "%s, sample %zu",
				str(v, "name"), i);
		}
	}
}

/* ---- behaviour: datagrams in, datagrams out of a live node ---- */

enum { EMITS_MAX = 16 };

struct emit {
	struct og_addr from;
	struct og_addr to;
	uint16_t len_bytes;
	uint8_t data[SIM_MTU];
	bool matched;
};

static struct emit emits[EMITS_MAX];
static unsigned nb_emits;

static void keep(struct sim *sim, const struct og_addr *src, const struct og_addr *dst,
	const uint8_t *data, uint16_t len_bytes)
{
	cr_assert_lt(nb_emits, EMITS_MAX);
	emits[nb_emits] = (struct emit){.from = *src, .to = *dst, .len_bytes = len_bytes};
	memcpy(emits[nb_emits++].data, data, len_bytes);
}

static int by_addr(const void *a, const void *b)
{
	return memcmp(a, b, 6);
}

/* Closer nodes as a set; the tid of our own requests is drawn at random. */
static void normalise(uint8_t *data, size_t n)
{
	struct og_dht_msg m;

	cr_assert_eq(og_dht_msg_decode(&m, data, n), 0);
	if (m.nb_closer > 0)
		qsort(data + (m.closer - data), m.nb_closer, 6, by_addr);
	if (!m.reply)
		memset(data + 2, 0, 2);
}

static void expect_emit(const json_t *want, const char *scenario)
{
	struct og_addr from = addr_of(str(want, "from"));
	struct og_addr to = addr_of(str(want, "to"));
	uint8_t data[SIM_MTU];
	size_t n = unhex(str(want, "hex"), data, sizeof(data));

	normalise(data, n);
	for (unsigned i = 0; i < nb_emits; i++) {
		struct emit *e = &emits[i];
		uint8_t got[SIM_MTU];

		memcpy(got, e->data, e->len_bytes);
		normalise(got, e->len_bytes);
		if (e->matched || e->len_bytes != n || memcmp(got, data, n) != 0 ||
			!og_addr_eq(&e->from, &from) || !og_addr_eq(&e->to, &to))
			continue;
		e->matched = true;
		return;
	}
	cr_assert_fail("%s: not sent: %s", scenario, str(want, "hex"));
}

/* We PING a newcomer before it enters the table; the reference does not. Answer for it. */
static void answer_ping(struct sim_node *n, const struct emit *e)
{
	struct og_dht_msg m;
	uint8_t id[32];
	uint8_t buf[64];
	struct og_writer w = og_writer_of(buf, sizeof(buf));

	cr_assert_eq(og_dht_msg_decode(&m, e->data, e->len_bytes), 0);
	cr_assert(!m.reply && m.internal && m.command == OG_DHT_PING);
	og_dht_node_id(id, &e->to);
	m = (struct og_dht_msg){.reply = true, .tid = m.tid, .to = e->from, .id = id};
	cr_assert_eq(og_dht_msg_encode(&m, &w), 0);
	og_dht_rpc_input(n->rpc, 0, &e->to, buf, (uint16_t)og_writer_len(&w), n->sim->now_ns);
}

static void run_step(struct sim_node *n, const json_t *step, const char *scenario)
{
	struct og_addr from = addr_of(str(step, "from"));
	json_t *want = json_object_get(step, "emits");
	uint8_t data[SIM_MTU];
	size_t len = unhex(str(step, "hex"), data, sizeof(data));
	unsigned sent;

	nb_emits = 0;
	og_dht_rpc_input(n->rpc, 0, &from, data, (uint16_t)len, n->sim->now_ns);
	n->sim->now_ns += 120 * OG_NS_PER_MS;
	og_dht_rpc_tick(n->rpc, n->sim->now_ns);
	FOR_EACH(w, want)
	expect_emit(w, scenario);
	sent = nb_emits;
	for (unsigned i = 0; i < sent; i++) {
		const struct emit e = emits[i];

		if (!e.matched)
			answer_ping(n, &e);
	}
}

static void set_table(struct sim_node *n, const json_t *nodes)
{
	struct og_dht_node *node;

	while ((node = og_dht_table_newest(n->rpc->table)))
		og_dht_table_remove(n->rpc->table, node);
	FOR_EACH(item, nodes)
	{
		struct og_addr a = addr_of(json_string_value(item));
		uint8_t id[32];

		og_dht_node_id(id, &a);
		cr_assert_eq(
			og_dht_table_add(n->rpc->table, id, &a, false, n->rpc->tick - 1, NULL), 0);
	}
}

static const char *const own_scenarios[] = {"ping", "ping-with-value", "ping-nat", "find-node",
	"delayed-ping", "unknown-internal", "unknown-external", "bad-token", "malformed",
	"sender-id", "down-hint"};

static bool is_own(const char *name)
{
	for (unsigned i = 0; i < OG_ARRAY_LEN(own_scenarios); i++)
		if (strcmp(own_scenarios[i], name) == 0)
			return true;
	return false;
}

Test(dht_vectors, behaviour_of_the_internal_commands)
{
	struct sim sim;
	struct sim_node *n;
	unsigned ran = 0;

	sim_init(&sim, 1);
	sim.tap = keep;
	n = sim_add_first(&sim, 0x7f000001, 10001);
	og_dht_rpc_tick(n->rpc, sim.now_ns);
	cr_assert(og_dht_rpc_persistent(n->rpc));
	FOR_EACH(v, section("behaviour"))
	{
		const json_t *in = json_object_get(v, "input");
		const json_t *secrets = json_object_get(in, "token_secrets");
		uint8_t id[32];

		if (!is_own(str(v, "name")))
			continue;
		unhex(str(in, "id"), id, 32);
		cr_assert_arr_eq(og_dht_rpc_id(n->rpc), id, 32);
		for (unsigned i = 0; i < 2; i++)
			unhex(json_string_value(json_array_get(secrets, i)),
				n->rpc->token.secrets[i], 32);
		n->rpc->token.rotate_at_ns = OG_NEVER;
		set_table(n, json_object_get(in, "routing_table"));
		FOR_EACH(step, json_object_get(json_object_get(v, "expected"), "steps"))
		run_step(n, step, str(v, "name"));
		ran++;
	}
	cr_assert_eq(ran, OG_ARRAY_LEN(own_scenarios));
	sim_fini(&sim);
}
