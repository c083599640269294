/* What strangers send to a node, and what it may cost the node or anybody else. */
#include "dht_net.h"

#include "crypto/hash.h"
#include "crypto/namespaces.h"
#include "crypto/secretstream.h"
#include "crypto/sign.h"
#include "crypto/token.h"
#include "dht/values.h"
#include "transport/udx.h"
#include "transport/udx_wire.h"

enum { NODE_IP = 0x08080808, STRANGER_IP = 0x05050505, VICTIM_IP = 0x09090909, PORT = 4000 };
enum { HEADERS = 28, TOPIC_PEERS = 20, DATAGRAM = 1400 };

static struct net net;
static const uint64_t second = OG_NS_PER_S;

/* Bytes that left for two hosts, with IP and UDP headers; and for anybody else. */
static struct {
	uint64_t stranger, victim;
	uint32_t nb_stranger, nb_others;
	uint32_t nb_values, nb_bad_tokens;
} out;

static bool count_out(struct net *n, const struct og_addr *src, const struct og_addr *dst,
	const uint8_t *data, uint16_t len_bytes)
{
	struct og_dht_msg m;

	if (og_addr_u32(dst) == STRANGER_IP) {
		out.stranger += len_bytes + HEADERS;
		out.nb_stranger++;
		if (og_dht_msg_decode(&m, data, len_bytes) == 0 && m.reply) {
			out.nb_values += m.has_value;
			out.nb_bad_tokens += m.error == OG_DHT_INVALID_TOKEN;
		}
	} else if (og_addr_u32(dst) == VICTIM_IP) {
		out.victim += len_bytes + HEADERS;
	} else {
		out.nb_others++;
	}
	return true;
}

static void setup(void)
{
	net_init(&net, 1);
	net.drop = count_out;
	memset(&out, 0, sizeof(out));
}

static void teardown(void)
{
	net_fini(&net);
}

TestSuite(dht_hostile, .init = setup, .fini = teardown, .timeout = 60);

static struct og_addr at(uint32_t ip, uint16_t port)
{
	return sim_addr(ip, port);
}

static uint16_t encode(uint8_t buf[DATAGRAM], const struct og_dht_msg *m)
{
	struct og_writer w = og_writer_of(buf, DATAGRAM);

	cr_assert_eq(og_dht_msg_encode(m, &w), 0);
	return (uint16_t)og_writer_len(&w);
}

/* Feeds one datagram and lets its jobs run. Returns its size on the wire. */
static uint64_t feed(struct net_node *n, uint16_t endpoint, const struct og_addr *src,
	const struct og_dht_msg *m)
{
	uint8_t buf[DATAGRAM];
	uint16_t len = encode(buf, m);

	og_dht_input(n->dht, endpoint, src, buf, len, net.sim.now_ns);
	net_step(&net, n);
	return len + HEADERS;
}

static struct net_node *public_node(uint32_t value_bytes_per_s)
{
	const struct og_addr own = at(NODE_IP, PORT);
	const struct og_addr local[OG_DHT_LOCAL_ADDRS] = {own, own, own, own};
	struct og_dht_opts opts = {.local_addrs = local,
		.nb_local_addrs = OG_DHT_LOCAL_ADDRS,
		.rpc = {.public_addr = own,
			.ephemeral = OG_NO,
			.firewalled = OG_NO,
			.value_subnet_bytes_per_s = value_bytes_per_s}};
	struct net_node *n = net_add(&net, NODE_IP, PORT, &opts);

	net_run(&net, second);
	cr_assert(og_dht_rpc_persistent(og_dht_rpc(n->dht)));
	return n;
}

/* Each in its own /16. */
static void fill_table(struct net_node *n, uint32_t count)
{
	struct og_dht_rpc *rpc = og_dht_rpc(n->dht);

	for (uint32_t i = 0; i < count; i++) {
		struct og_addr a = at(0x20000001 + (i << 16), PORT);
		uint8_t id[32];

		og_dht_node_id(id, &a);
		(void)!og_dht_table_add(rpc->table, id, &a, true, rpc->tick, NULL);
	}
}

static void announce(struct net_node *n, const struct og_addr *src, const uint8_t target[32],
	const struct og_keypair *kp, uint32_t nb_relays)
{
	struct og_dht_rpc *rpc = og_dht_rpc(n->dht);
	struct og_addr relays[3] = {at(1, 1), at(2, 2), at(3, 3)};
	uint8_t token[32], record[OG_DHT_RECORD_MAX], signature[64], value[300];
	struct og_writer r = og_writer_of(record, sizeof(record));
	struct og_writer v = og_writer_of(value, sizeof(value));
	struct og_dht_announce a = {.has_peer = true, .signature = signature};
	struct og_dht_msg m = {.tid = 1,
		.to = n->local[0],
		.token = token,
		.command = 4,
		.target = target,
		.has_value = true,
		.value = value};

	og_dht_peer_encode(&r, kp->public_key, relays, nb_relays);
	a.peer.raw = record;
	a.peer.raw_bytes = (uint32_t)og_writer_len(&r);
	og_token_issue(og_dht_rpc_tokens(rpc), src, token);
	cr_assert_eq(og_sign_announce(signature, kp, og_ns_announce, target, og_dht_rpc_id(rpc),
			     token, record, a.peer.raw_bytes, NULL),
		0);
	og_dht_announce_encode(&v, &a);
	m.value_bytes = (uint32_t)og_writer_len(&v);
	feed(n, 0, src, &m);
	net_run(&net, 10 * OG_NS_PER_MS);
}

static void put(struct net_node *n, const struct og_addr *src, uint8_t command,
	const uint8_t target[32], const uint8_t *value, uint32_t value_bytes)
{
	uint8_t token[32];
	struct og_dht_msg m = {.tid = 1,
		.to = n->local[0],
		.token = token,
		.command = command,
		.target = target,
		.has_value = true,
		.value = value,
		.value_bytes = value_bytes};

	og_token_issue(og_dht_rpc_tokens(og_dht_rpc(n->dht)), src, token);
	feed(n, 0, src, &m);
	net_run(&net, 10 * OG_NS_PER_MS);
}

/* Targets that are as full as they get: a topic, a server, an immutable and a mutable value. */
enum { TOPIC, SERVER, IMMUTABLE, MUTABLE, NB_TARGETS };
static uint8_t targets[NB_TARGETS][32];
static const struct og_addr server_addr = {{10, 0, 5, 5}, 30001};

static struct og_keypair key_of(uint8_t no)
{
	struct og_keypair kp;
	uint8_t seed[32];

	memset(seed, no, sizeof(seed));
	og_keypair_from_seed(&kp, seed);
	return kp;
}

static void announce_server(struct net_node *n)
{
	struct og_keypair kp = key_of(200);

	og_hash_one(targets[SERVER], kp.public_key, 32);
	announce(n, &server_addr, targets[SERVER], &kp, 3);
	cr_assert_eq(og_dht_stored(n->dht).routes, 1);
}

static void fill_stores(struct net_node *n)
{
	static uint8_t big[1000];
	struct og_keypair kp = key_of(200);
	uint8_t value[1200], signature[64];
	struct og_writer w = og_writer_of(value, sizeof(value));

	memset(targets[TOPIC], 0x77, 32);
	for (uint8_t i = 0; i < TOPIC_PEERS; i++) {
		struct og_keypair member = key_of((uint8_t)(i + 1));

		announce(n, &server_addr, targets[TOPIC], &member, 3);
	}
	announce_server(n);
	og_hash_one(targets[IMMUTABLE], big, sizeof(big));
	put(n, &server_addr, 8, targets[IMMUTABLE], big, sizeof(big));
	og_hash_one(targets[MUTABLE], kp.public_key, 32);
	cr_assert_eq(og_sign_mutable(signature, &kp, 1, big, 900), 0);
	og_dht_mutable_encode(&w, &(struct og_dht_mutable){.public_key = kp.public_key,
					  .seq = 1,
					  .value = big,
					  .value_bytes = 900,
					  .signature = signature});
	put(n, &server_addr, 6, targets[MUTABLE], value, (uint32_t)og_writer_len(&w));
	cr_assert_eq(og_dht_stored(n->dht).records, TOPIC_PEERS);
	cr_assert_eq(og_dht_stored(n->dht).immutables, 1);
	cr_assert_eq(og_dht_stored(n->dht).mutables, 1);
}

/* ---- Answers ---- */

static void on_answer(void *ctx, uint64_t tag, const struct og_dht_reply *r, uint64_t now_ns)
{
	++*(uint32_t *)ctx;
}

Test(dht_hostile, a_million_forged_answers_are_not_taken)
{
	enum { ASKED = 64, FORGED = 1000000 };
	struct net_node *n = public_node(0);
	struct og_dht_rpc *rpc = og_dht_rpc(n->dht);
	struct og_addr to[ASKED];
	uint32_t answers = 0, taken[ASKED];
	uint8_t buf[DATAGRAM], id[32];
	struct og_dht_msg m = {.reply = true, .to = at(0x01020304, 12345), .id = id};
	uint16_t len = encode(buf, &m);

	for (uint32_t i = 0; i < ASKED; i++) {
		struct og_dht_req_id req;

		to[i] = at(0x21000001 + (i << 16), PORT);
		og_dht_request_send(rpc,
			&(struct og_dht_request){.to = to[i],
				.internal = true,
				.any_endpoint = true,
				.fn = on_answer,
				.ctx = &answers},
			&req, net.sim.now_ns);
		taken[i] = rpc->req.slots[req.slot].tid;
	}
	for (uint32_t i = 0; i < FORGED; i++) {
		uint32_t k = og_rand_below(&net.sim.rand, ASKED);
		uint16_t tid = (uint16_t)taken[k];
		uint16_t endpoint = 0;
		struct og_addr src = to[k];

		switch (i % 4) {
		case 0: /* from elsewhere */
			src = at(og_rand_u32(&net.sim.rand) % 0x60000000 + 0x40000000, PORT);
			break;
		case 1: /* from another port of the host */
			src.port = (uint16_t)(PORT + 1 + og_rand_below(&net.sim.rand, 1000));
			break;
		case 2: /* the answer of a node to what another one was asked */
			tid = (uint16_t)
				taken[(k + 1 + og_rand_below(&net.sim.rand, ASKED - 1)) % ASKED];
			break;
		default:
			endpoint = 1;
		}
		og_store_le16(buf + 2, tid);
		og_dht_node_id(buf + 10, &src);
		og_dht_input(n->dht, endpoint, &src, buf, len, net.sim.now_ns);
	}
	cr_assert_eq(answers, 0);
	cr_assert_eq(rpc->count.drops[OG_DHT_DROP_FORGED_REPLY], FORGED);
	cr_assert_eq(og_dht_rpc_table_size(rpc), 0);
	cr_assert_eq(rpc->self.nat.nb_samples, 0);
	cr_assert_eq(rpc->req.nb_used, ASKED, "all still wait for the true answer");
	og_dht_node_id(buf + 10, &to[0]);
	og_store_le16(buf + 2, (uint16_t)taken[0]);
	og_dht_input(n->dht, 0, &to[0], buf, len, net.sim.now_ns);
	cr_assert_eq(answers, 1, "the datagrams were good but for their origin");
}

Test(dht_hostile, ids_of_requests_cannot_be_foretold)
{
	enum { N = 400 };
	struct net_node *n = public_node(0);
	struct og_dht_rpc *rpc = og_dht_rpc(n->dht);
	uint32_t answers = 0, steps = 0;
	uint16_t before = 0;

	for (uint32_t i = 0; i < N; i++) {
		struct og_dht_req_id req;
		uint16_t tid;

		og_dht_request_send(rpc,
			&(struct og_dht_request){.to = at(0x21000001 + (i << 8), PORT),
				.internal = true,
				.any_endpoint = true,
				.fn = on_answer,
				.ctx = &answers},
			&req, net.sim.now_ns);
		tid = rpc->req.slots[req.slot].tid;
		steps += (uint16_t)(tid - before) < 256;
		before = tid;
	}
	cr_assert_leq(steps, 10, "by chance 2 of 400 lie close to the one before");
}

/* ---- No amplifier, no reflector ---- */

/* Every command with every combination of parts, at every target that is full. */
static void ask_everything(struct net_node *n, uint32_t *nb_asked)
{
	static const uint8_t value[6] = {0x49, 0xc2, 0, 0, 1, 1}, nothing[32] = {1};
	uint8_t good[32], bad[32] = {2};
	uint16_t port = 5000;

	for (unsigned t = 0; t <= NB_TARGETS; t++)
		for (unsigned command = 0; command < 2 * 16; command++)
			for (unsigned parts = 0; parts < 12; parts++) {
				struct og_addr src = at(STRANGER_IP, port++);
				const uint8_t *token[3] = {NULL, good, bad};
				struct og_dht_msg m = {.tid = port,
					.internal = command >= 16,
					.command = command % 16,
					.to = n->local[0],
					.target = parts & 1
							  ? (t < NB_TARGETS ? targets[t] : nothing)
							  : NULL,
					.token = token[parts / 4],
					.has_value = parts & 2,
					.value = value,
					.value_bytes = parts & 2 ? sizeof(value) : 0};
				uint64_t in;

				og_token_issue(og_dht_rpc_tokens(og_dht_rpc(n->dht)), &src, good);
				out.stranger = 0;
				in = feed(n, 0, &src, &m);
				net_run(&net, OG_NS_PER_MS);
				cr_assert_leq(out.stranger, 3 * in,
					"target %u command %u parts %u: %lu for %lu", t, command,
					parts, out.stranger, in);
				++*nb_asked;
			}
}

Test(dht_hostile, no_command_on_full_stores_is_answered_with_more_than_three_times_its_size)
{
	struct net_node *n = public_node(1);
	uint32_t nb_asked = 0;

	fill_table(n, 60);
	fill_stores(n);
	memset(&out, 0, sizeof(out));
	ask_everything(n, &nb_asked);
	cr_assert_eq(nb_asked, 5 * 32 * 12);
	cr_assert_gt(out.nb_stranger, nb_asked / 2, "small answers, not silence");
	cr_assert_gt(out.nb_bad_tokens, 0);
	/* The same node, with budget left, does answer with what is stored. */
	cr_assert_gt(og_dht_rpc(n->dht)->count.drops[OG_DHT_DROP_VALUE_BUDGET], 0);
}

/* N as small as it can be. */
static uint32_t smallest_message_1(uint8_t m[200], uint32_t seed)
{
	const struct og_dht_payload p = {.version = 1, .has_udx = true, .udx_id = 1};
	struct og_writer w = og_writer_of(m + 96, 100);

	memset(m, 0, 200);
	og_store_le32(m, seed);
	og_dht_payload_encode(&w, &p);
	return 96 + (uint32_t)og_writer_len(&w);
}

static uint64_t shake(struct net_node *n, const struct og_addr *src, const uint8_t target[32],
	struct og_dht_handshake h, uint16_t tid)
{
	uint8_t noise[200], value[400];
	struct og_writer w = og_writer_of(value, sizeof(value));

	h.noise = noise;
	h.noise_bytes = smallest_message_1(noise, tid);
	og_dht_handshake_encode(&w, &h);
	return feed(n, 0, src,
		&(struct og_dht_msg){.tid = tid,
			.to = n->local[0],
			.target = target,
			.has_value = true,
			.value = value,
			.value_bytes = (uint32_t)og_writer_len(&w)});
}

Test(dht_hostile, a_handshake_straight_from_a_forged_address_pays_three_times_at_most)
{
	const uint64_t stream =
		OG_UDX_UNPROVEN_PACKETS * (HEADERS + OG_UDX_HEADER_BYTES + OG_FRAME_HEADER_BYTES);
	const uint64_t relays = 1 + 3 * 6; /* that the answer of an announced server lists */
	struct net_node *n = public_node(0);
	struct og_addr src = at(STRANGER_IP, 5000);
	uint8_t target[32];
	uint64_t in;

	net.plain_crypto = true;
	fill_table(n, 60);
	og_hash_one(target, n->kp.public_key, 32);
	cr_assert_eq(og_dht_listen(n->dht, net.sim.now_ns), 0);
	net_run(&net, second);
	memset(&out, 0, sizeof(out));
	in = shake(n, &src, target, (struct og_dht_handshake){0}, 1);
	net_run(&net, 20 * second);
	cr_assert_gt(out.nb_values, 0, "it was answered");
	/* The stand-in for a stream sends one packet, and not through the tap. */
	cr_assert_leq(out.stranger + stream + relays, 3 * in, "%lu + %lu + %lu for %lu",
		out.stranger, stream, relays, in);
}

Test(dht_hostile, nothing_is_relayed_but_for_announced_keys)
{
	static const uint8_t unknown[32] = {9};
	struct net_node *n = public_node(0);
	struct og_addr src = at(STRANGER_IP, 5000), victim = at(VICTIM_IP, 6000);
	uint16_t tid = 1;

	announce_server(n);
	for (unsigned t = 0; t < 2; t++)
		for (uint8_t mode = 0; mode < 10; mode++)
			for (unsigned addrs = 0; addrs < 4; addrs++)
				for (unsigned punch = 0; punch < 2; punch++) {
					struct og_dht_handshake h = {.mode = mode,
						.has_peer = addrs & 1,
						.peer = victim,
						.has_relay = addrs & 2,
						.relay = victim};
					uint8_t value[200];
					struct og_writer w = og_writer_of(value, sizeof(value));

					if (!punch) {
						shake(n, &src, t ? targets[SERVER] : unknown, h,
							tid++);
						continue;
					}
					og_dht_holepunch_encode(
						&w, &(struct og_dht_holepunch){.mode = mode,
							    .payload = value,
							    .has_peer = addrs & 1,
							    .peer = victim});
					feed(n, 0, &src,
						&(struct og_dht_msg){.tid = tid++,
							.command = 1,
							.to = n->local[0],
							.target = t ? targets[SERVER] : unknown,
							.has_value = true,
							.value = value,
							.value_bytes =
								(uint32_t)og_writer_len(&w)});
				}
	cr_assert_eq(out.victim, 0);
	cr_assert_gt(og_dht_counts(n->dht)->forwards, 0, "some went to the announced server");
	/* Answers of a server that nobody asked, in the name of every request there could be. */
	for (uint32_t i = 0; i < 65536; i++)
		shake(n, &src, targets[SERVER],
			(struct og_dht_handshake){
				.mode = OG_DHT_FROM_SERVER, .has_peer = true, .peer = victim},
			(uint16_t)i);
	cr_assert_eq(out.victim, 0);
	cr_assert_geq(og_dht_counts(n->dht)->forwards_unknown, 65536);
}

Test(dht_hostile, what_is_relayed_for_one_host_has_a_rate)
{
	struct net_node *n = public_node(0);
	uint64_t before;

	announce_server(n);
	before = out.nb_others;
	for (uint32_t i = 0; i < 10000; i++) {
		struct og_addr src = at(STRANGER_IP, (uint16_t)(1000 + i));

		shake(n, &src, targets[SERVER], (struct og_dht_handshake){0}, (uint16_t)i);
		net_run(&net, OG_NS_PER_MS);
	}
	cr_assert_leq(og_dht_counts(n->dht)->forwards, 40 + 20 * 10 + 1);
	cr_assert_leq(out.nb_others - before, 40 + 20 * 10 + 1 + 20 /* own business */);
	cr_assert_geq(og_dht_counts(n->dht)->forwards_limited, 9000);
}

Test(dht_hostile, pings_to_another_port_have_a_rate)
{
	struct net_node *n = public_node(0);
	uint8_t port[2] = {0x00, 0x50};
	struct og_dht_msg m = {.internal = true,
		.command = OG_DHT_PING_NAT,
		.to = n->local[0],
		.has_value = true,
		.value = port,
		.value_bytes = 2};

	for (uint32_t i = 0; i < 10000; i++) {
		struct og_addr src = at(STRANGER_IP, (uint16_t)(1000 + i));

		feed(n, 0, &src, &m);
		net_run(&net, OG_NS_PER_MS);
	}
	cr_assert_geq(out.nb_stranger, 64);
	cr_assert_leq(out.nb_stranger, 64 + 16 * 10 + 1);
}

/* ---- Records ---- */

Test(dht_hostile, what_one_host_may_store_has_a_rate)
{
	struct net_node *n = public_node(0);
	struct og_addr src = at(STRANGER_IP, 5000);

	for (uint32_t i = 0; i < 1000; i++) {
		uint8_t value[8] = {0}, target[32];

		og_store_le32(value, i);
		og_hash_one(target, value, sizeof(value));
		put(n, &src, 8, target, value, sizeof(value));
	}
	/* 10 s: a burst of 64, and 32 a second; of them a /24 keeps its share. */
	cr_assert_geq(og_dht_counts(n->dht)->records_limited, 1000 - 64 - 10 * 32 - 1);
	cr_assert_leq(og_dht_counts(n->dht)->records_limited, 1000 - 64 - 10 * 32 + 40);
	cr_assert_eq(og_dht_stored(n->dht).immutables, 64);
}

/* ---- The routing table ---- */

static unsigned bucket_of(const uint8_t *a, const uint8_t *b)
{
	unsigned bit = 0;

	while (bit < 255 && ((a[bit / 8] ^ b[bit / 8]) >> (7 - bit % 8) & 1) == 0)
		bit++;
	return bit;
}

static void expect_caps(const struct og_dht_rpc *rpc)
{
	static uint8_t in_bucket[4][256];
	uint32_t in_table[4] = {0};

	memset(in_bucket, 0, sizeof(in_bucket));
	for (struct og_dht_node *x = og_dht_table_newest(rpc->table); x;
		x = og_dht_table_older(rpc->table, x)) {
		uint32_t subnet = x->addr.ip[2];
		unsigned bucket = bucket_of(x->id, og_dht_table_center(rpc->table));

		cr_assert_leq(++in_bucket[subnet][bucket], 2);
		cr_assert_leq(++in_table[subnet], 10);
	}
	for (unsigned i = 0; i < 4; i++)
		cr_assert_geq(in_table[i], 8, "as many as allowed do enter");
}

Test(dht_hostile, a_subnet_gets_two_places_in_a_bucket_and_ten_in_all)
{
	struct net_node *n = public_node(0);
	struct og_dht_rpc *rpc = og_dht_rpc(n->dht);
	uint8_t center[32] = {0x5a};

	for (uint32_t i = 0; i < 4000; i++) {
		struct og_addr a = at(0x05050000 | (i % 4) << 8 | i % 200, (uint16_t)(5000 + i));
		uint8_t id[32];

		og_dht_node_id(id, &a);
		og_dht_learn_reply(rpc, &a, id, &n->local[0], true, net.sim.now_ns);
	}
	expect_caps(rpc);
	og_dht_table_set_center(rpc->table, center);
	for (uint32_t i = 0; i < 4000; i++) {
		struct og_addr a = at(0x05050000 | (i % 4) << 8 | i % 200, (uint16_t)(15000 + i));
		uint8_t id[32];

		og_dht_node_id(id, &a);
		og_dht_learn_reply(rpc, &a, id, &n->local[0], true, net.sim.now_ns);
	}
	expect_caps(rpc);
}

/* ---- Replay ---- */

Test(dht_hostile, ten_thousand_replayed_handshakes_open_nothing)
{
	enum { N = 10000, LATER = 1250 /* times 20 ms: 25 s */ };
	const struct og_dht_opts opts = {
		.rpc = {.public_addr = at(NODE_IP, PORT), .ephemeral = OG_NO, .firewalled = OG_NO}};
	struct net_node *n = net_add(&net, NODE_IP, PORT, &opts);
	struct og_addr relay = at(0x0a000901, 1000), thief = at(0x0a000902, 1000);
	struct og_dht_handshake h = {
		.mode = OG_DHT_FROM_RELAY, .has_peer = true, .peer = at(0x0a000903, 2000)};
	uint8_t target[32];

	net.plain_crypto = true;
	net_run(&net, second);
	og_hash_one(target, n->kp.public_key, 32);
	cr_assert_eq(og_dht_listen(n->dht, net.sim.now_ns), 0);
	for (uint32_t i = 0; i < N + LATER; i++) {
		if (i < N)
			shake(n, &relay, target, h, (uint16_t)i);
		if (i >= LATER)
			shake(n, &thief, target, h, (uint16_t)(i - LATER));
		net_run(&net, 20 * OG_NS_PER_MS);
	}
	net_run(&net, 60 * second);
	cr_assert_eq(og_dht_counts(n->dht)->handshakes, N);
	cr_assert_eq(og_dht_counts(n->dht)->handshakes_replayed, N);
	cr_assert_eq(n->nb_released, N, "one stream for each, and it is gone");
	cr_assert_eq(n->nb_connected, 0);
	cr_assert_eq(n->nb_streams, 0);
}
